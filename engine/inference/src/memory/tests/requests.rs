//! Rows of requests come out as they went in.

use std::{os::fd::AsFd as _, sync::Arc};

use envmill_ring::{ColumnsWriter, Layout, Limits, RaggedRows};
use proptest::{collection::vec, prelude::*};

use crate::{Constraint, Deliver, JsonSchema, Request, RequestId, Sampling, VllmMemoryOptions};

use super::super::{
    layout::{self, asked},
    requests::{Filled, Order, fits_at_all},
};

fn constraints() -> impl Strategy<Value = Option<Constraint>> {
    let schema = ".{0,30}".prop_map(|title| {
        let text = serde_json::json!({ "title": title }).to_string();
        Constraint::JsonSchema(JsonSchema::new(&text).unwrap())
    });
    proptest::option::of(prop_oneof![Just(Constraint::JsonObject), schema])
}

fn requests() -> impl Strategy<Value = Request> {
    let sampling = (0.0..2.0_f32, proptest::option::of(1..100_u32), vec(any::<u32>(), 0..4));
    let stop = vec(".{0,9}", 0..3);
    let wanted = (any::<bool>(), 0..=20_u32, constraints());
    (vec(any::<u32>(), 1..90), sampling, stop, wanted, any::<Option<u64>>()).prop_map(
        |(prompt, (temperature, top_k, stop_token_ids), stop, wanted, seed)| Request {
            id: RequestId(1),
            prompt: prompt.into(),
            messages: None,
            sampling: Arc::new(Sampling {
                temperature,
                top_k,
                stop_token_ids,
                stop,
                logprobs: wanted.0,
                top_logprobs: wanted.1,
                constraint: wanted.2,
                ..Sampling::default()
            }),
            max_tokens: 9,
            seed,
            affinity: None,
            deliver: Deliver::Whole,
        },
    )
}

/// The text of its schema.
fn schema(request: &Request) -> &str {
    match &request.sampling.constraint {
        Some(Constraint::JsonSchema(schema)) => schema.as_str(),
        _ => "",
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn batches_hold_what_fits_as_it_was(all in vec(requests(), 1..8)) {
        let options = VllmMemoryOptions {
            rows: 4,
            prompt_tokens: 80,
            text_bytes: 8000,
            schema_bytes: 100,
            ..VllmMemoryOptions::new("")
        };
        let mut writer = ColumnsWriter::create(layout::requests(&options).unwrap()).unwrap();
        let mut theirs = ColumnsWriter::create(Layout::new(1, 1, []).unwrap()).unwrap();
        let mut reader = theirs.connect(writer.as_fd(), &Limits::default()).unwrap();
        let mut batch = writer.begin().unwrap().unwrap();
        let (mut filled, mut written) = (Filled::default(), Vec::new());
        for (number, request) in all.into_iter().enumerate() {
            let fits = request.prompt.len() <= 80 && schema(&request).len() <= 100;
            prop_assert_eq!(fits_at_all(&request, &options).is_ok(), fits);
            let order = Order::Generate(number as u64, Box::new(request));
            if filled.has_room_for(&order, &options) {
                filled.write(&mut batch, &order, &mut Vec::new()).unwrap();
                written.push(order);
            }
        }
        // What has room by this count has room in the segment, so that nothing lies beside it.
        prop_assert!(batch.publish(filled.rows).unwrap().overflow.is_empty());
        let batch = reader.next_batch().unwrap().unwrap();
        prop_assert_eq!(batch.rows(), written.len());
        let [mut prompts, mut texts, mut schemas] = [(); 3].map(|()| RaggedRows::new());
        let (mut tops, mut constraints): (Vec<u32>, Vec<u8>) = (vec![], vec![]);
        let (mut numbers, mut seeds): (Vec<u64>, Vec<u64>) = (vec![], vec![]);
        batch.ragged(asked::TOKENS, &mut prompts).unwrap();
        batch.ragged(asked::TEXT, &mut texts).unwrap();
        batch.ragged(asked::SCHEMA, &mut schemas).unwrap();
        batch.fixed(asked::TOP_LOGPROBS, &mut tops).unwrap();
        batch.fixed(asked::CONSTRAINT, &mut constraints).unwrap();
        batch.fixed(asked::NUMBER, &mut numbers).unwrap();
        batch.fixed(asked::SEED, &mut seeds).unwrap();
        for (row, order) in written.iter().enumerate() {
            let Order::Generate(number, request) = order else { unreachable!() };
            let bytes: Vec<u8> = request.prompt.iter().flat_map(|it| it.to_le_bytes()).collect();
            prop_assert_eq!(prompts.slice(row).unwrap(), &bytes[..]);
            prop_assert_eq!(numbers[row], *number);
            prop_assert_eq!(seeds[row], request.seed.unwrap_or(0) >> 1);
            let lengths: usize = request.sampling.stop.iter().map(|it| it.len() + 4).sum();
            prop_assert_eq!(texts.slice(row).unwrap().len(), lengths);
            prop_assert_eq!(tops[row], request.sampling.top_logprobs);
            prop_assert_eq!(schemas.slice(row).unwrap(), schema(request).as_bytes());
            let kind = match &request.sampling.constraint {
                None => 0,
                Some(Constraint::JsonObject) => 1,
                Some(Constraint::JsonSchema(_)) => 2,
            };
            prop_assert_eq!(constraints[row], kind);
        }
    }
}

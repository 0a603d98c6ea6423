//! What is sent: requests, aborts and calls, as whole messages behind others in one buffer.

use std::time::SystemTime;

use super::{
    check::Checked,
    msgpack::{array, bool, float, map, nil, str, uint},
    zmtp,
};
use crate::{Constraint, Deliver, ModelFacts, Request};

/// The first frame of a message says what the second one is.
const ADD: u8 = 0;
const ABORT: u8 = 1;
const UTILITY: u8 = 3;

/// Of a request's fields, those that have no defaults.
pub(super) const FIELDS: usize = 9;

/// A request.
pub(super) fn add(
    out: &mut Vec<u8>,
    name: &str,
    request: &Request,
    checked: Checked,
    facts: &ModelFacts,
) {
    message(out, ADD, |out| {
        array(out, FIELDS);
        str(out, name);
        array(out, request.prompt.len());
        ids(out, &request.prompt);
        // mm_features
        nil(out);
        sampling(out, request, checked, facts);
        // pooling_params
        nil(out);
        float(out, now());
        // lora_request, cache_salt, data_parallel_rank
        for _ in 0..3 {
            nil(out);
        }
    });
}

/// The end of these requests.
pub(super) fn abort(out: &mut Vec<u8>, names: &[String]) {
    message(out, ABORT, |out| {
        array(out, names.len());
        for it in names {
            str(out, it);
        }
    });
}

/// What a method is called with: how many arguments, and what writes them.
pub(super) type Arguments<'a> = (usize, &'a (dyn Fn(&mut Vec<u8>) + Sync));

/// A call.
pub(super) fn utility(out: &mut Vec<u8>, call: u64, method: &str, arguments: Arguments<'_>) {
    message(out, UTILITY, |out| {
        array(out, 4);
        // The index of the client: there is only us.
        uint(out, 0);
        uint(out, call);
        str(out, method);
        array(out, arguments.0);
        arguments.1(out);
    });
}

/// Two frames, of which the second is written in place and then given its length.
fn message(out: &mut Vec<u8>, kind: u8, body: impl FnOnce(&mut Vec<u8>)) {
    zmtp::frame(out, &[kind], true);
    let head = out.len();
    out.extend_from_slice(&zmtp::long_head(0, false));
    let start = out.len();
    body(out);
    let len = out.len() - start;
    match u8::try_from(len) {
        // A short frame has a short head.
        Ok(short) => {
            out[head] = 0;
            out[head + 1] = short;
            out.copy_within(start.., head + 2);
            out.truncate(head + 2 + len);
        }
        Err(_) => out[head..start].copy_from_slice(&zmtp::long_head(len, false)),
    }
}

/// Most of a message. Room is made once, and what a token takes is decided by its size alone.
#[allow(clippy::cast_possible_truncation, reason = "every arm is of the width it writes")]
fn ids(out: &mut Vec<u8>, ids: &[u32]) {
    out.reserve(5 * ids.len());
    for &id in ids {
        match id {
            0..=0x7f => out.push(id as u8),
            0x80..=0xff => out.extend_from_slice(&[0xcc, id as u8]),
            0x100..=0xffff => {
                let [high, low] = (id as u16).to_be_bytes();
                out.extend_from_slice(&[0xcd, high, low]);
            }
            _ => {
                let [a, b, c, d] = id.to_be_bytes();
                out.extend_from_slice(&[0xce, a, b, c, d]);
            }
        }
    }
}

/// The parameters, those at their defaults left out.
fn sampling(out: &mut Vec<u8>, request: &Request, checked: Checked, facts: &ModelFacts) {
    let sampling = &*request.sampling;
    let (first, others) = match facts.eos_token_ids.split_first() {
        Some((first, others)) => (Some(*first), others),
        None => (None, &[][..]),
    };
    // As vLLM's frontend does: the usual end-of-turn token has a field of its own, the others are stop
    // tokens, and all of them are what `min_tokens` holds back.
    let others = if sampling.ignore_eos { &[][..] } else { others };
    let stops = sampling.stop_token_ids.len() + others.len();
    let all = sampling.stop_token_ids.len() + facts.eos_token_ids.len();
    let head = out.len();
    out.push(0);
    // Fewer than 16 keys, so that the head is one byte, set when they are counted.
    let mut keys = 0_u8;
    let mut key = |out: &mut Vec<u8>, name: &str| {
        keys += 1;
        str(out, name);
    };
    key(out, "temperature");
    float(out, f64::from(sampling.temperature));
    if sampling.top_p < 1.0 {
        key(out, "top_p");
        float(out, f64::from(sampling.top_p));
    }
    if let Some(top_k) = sampling.top_k {
        key(out, "top_k");
        uint(out, u64::from(top_k));
    }
    if sampling.min_p > 0.0 {
        key(out, "min_p");
        float(out, f64::from(sampling.min_p));
    }
    if let Some(seed) = request.seed {
        key(out, "seed");
        // It is a signed number there, of which negative ones mean other things.
        uint(out, seed & (u64::MAX >> 1));
    }
    key(out, "max_tokens");
    uint(out, u64::from(checked.max_tokens));
    if checked.min_tokens > 0 {
        key(out, "min_tokens");
        uint(out, u64::from(checked.min_tokens));
    }
    if sampling.logprobs {
        // With 0, none besides the sampled token's.
        key(out, "logprobs");
        uint(out, u64::from(sampling.top_logprobs));
    }
    if let Some(constraint) = &sampling.constraint {
        key(out, "structured_outputs");
        map(out, 2);
        match constraint {
            Constraint::JsonObject => {
                str(out, "json_object");
                bool(out, true);
            }
            Constraint::JsonSchema(schema) => {
                str(out, "json");
                str(out, schema.as_str());
            }
        }
        // The frontend's choice. The engine has one, that of the first request with a constraint.
        str(out, "_backend");
        str(out, "xgrammar");
    }
    key(out, "detokenize");
    bool(out, false);
    key(out, "output_kind");
    // Deltas, or only the end. The engine sends every step all the same.
    uint(out, if request.deliver == Deliver::Streamed { 1 } else { 2 });
    if sampling.ignore_eos {
        key(out, "ignore_eos");
        bool(out, true);
    } else if let Some(first) = first {
        key(out, "_eos_token_id");
        uint(out, u64::from(first));
    }
    if stops > 0 {
        key(out, "stop_token_ids");
        array(out, stops);
        ids(out, &sampling.stop_token_ids);
        ids(out, others);
    }
    if all > 0 {
        key(out, "_all_stop_token_ids");
        array(out, all);
        ids(out, &sampling.stop_token_ids);
        ids(out, &facts.eos_token_ids);
    }
    out[head] = 0x80 | keys;
    debug_assert!(keys < 16);
}

fn now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{
        super::{
            msgpack::Reader,
            zmtp::{Item, Messages},
        },
        *,
    };
    use crate::{JsonSchema, RequestId, Sampling};

    /// The parameters' names, and where they are whole numbers or lists of them, those.
    fn sent(sampling: Sampling, prompt: &[u32]) -> Vec<(String, Vec<u64>)> {
        let request = Request {
            id: RequestId(1),
            prompt: Arc::from(prompt),
            messages: None,
            sampling: Arc::new(sampling),
            max_tokens: 9,
            seed: Some(u64::MAX),
            affinity: None,
            deliver: Deliver::Whole,
        };
        let facts =
            ModelFacts { eos_token_ids: vec![2, 3], vocab_size: 1 << 20, max_model_len: 1 << 20 };
        let mut out = Vec::new();
        add(&mut out, "name", &request, Checked { max_tokens: 8, min_tokens: 1 }, &facts);
        let mut messages = Messages::new(1 << 24);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut rest = &out[..];
        while !rest.is_empty() {
            runtime.block_on(messages.fill(&mut rest)).unwrap();
        }
        let Some(Item::Message(message)) = messages.next().unwrap() else { panic!() };
        assert_eq!(message.frame(0), Some(&[ADD][..]));
        let mut reader = Reader::new(message.frame(1).unwrap());
        assert_eq!((reader.array(), reader.str()), (Ok(FIELDS), Ok(&b"name"[..])));
        let ids = reader.array().unwrap();
        let ids: Vec<_> = (0..ids).map(|_| reader.u32().unwrap()).collect();
        assert_eq!(ids, prompt);
        assert!(reader.nil());
        let sent = (0..reader.map().unwrap()).map(|_| {
            let name = String::from_utf8(reader.str().unwrap().to_vec()).unwrap();
            let numbers = if let Ok(len) = reader.array() {
                (0..len).map(|_| reader.uint().unwrap()).collect()
            } else if let Ok(number) = reader.uint() {
                vec![number]
            } else {
                reader.skip().unwrap();
                Vec::new()
            };
            (name, numbers)
        });
        let sent = sent.collect();
        assert!(reader.nil());
        assert!(reader.float().unwrap() > 1.7e9);
        assert!(reader.nil() && reader.nil() && reader.nil() && reader.is_empty());
        sent
    }

    #[test]
    fn a_request_is_what_the_frontend_would_have_made_of_it() {
        let all = Sampling {
            top_p: 0.5,
            top_k: Some(7),
            min_p: 0.1,
            min_tokens: 1,
            stop_token_ids: vec![300],
            ..Sampling::default()
        };
        let told = sent(all.clone(), &[1, 200, 300, 70_000]);
        let number = |name: &str, number| (name.to_owned(), vec![number]);
        assert!(told.contains(&number("seed", i64::MAX as u64)));
        assert!(told.contains(&number("max_tokens", 8)) && told.contains(&number("min_tokens", 1)));
        assert!(
            told.contains(&number("logprobs", 0)) && told.contains(&number("_eos_token_id", 2))
        );
        assert!(told.contains(&("stop_token_ids".to_owned(), vec![300, 3])));
        assert!(told.contains(&("_all_stop_token_ids".to_owned(), vec![300, 2, 3])));
        // Whatever ends a turn is not to end it, but is still held back by `min_tokens`.
        let told = sent(Sampling { ignore_eos: true, ..all.clone() }, &[5; 3]);
        assert!(told.contains(&("stop_token_ids".to_owned(), vec![300])));
        assert!(told.contains(&("_all_stop_token_ids".to_owned(), vec![300, 2, 3])));
        assert!(!told.iter().any(|it| it.0 == "_eos_token_id"));
        assert!(told.len() < 16);
        // What the text is held to, and the most likely tokens.
        for (constraint, size) in [
            (Constraint::JsonObject, 0),
            (Constraint::JsonSchema(JsonSchema::new(r#"{"type":"object"}"#).unwrap()), 300),
        ] {
            let constraint = Some(constraint);
            let held = Sampling { top_logprobs: 5, constraint, ..all.clone() };
            let told = sent(held, &vec![1; size + 1]);
            assert!(told.contains(&number("logprobs", 5)));
            assert!(told.iter().any(|it| it.0 == "structured_outputs") && told.len() < 16);
        }
        // Long ones and short ones.
        sent(Sampling::default(), &vec![65_536; 70_000]);
        sent(Sampling::default(), &[1]);
    }

    #[test]
    fn short_messages_have_short_heads() {
        let mut out = Vec::new();
        abort(&mut out, &["a".to_owned()]);
        utility(&mut out, 1, "f", (0, &|_| ()));
        assert_eq!(out, b"\x01\x01\x01\x00\x03\x91\xa1a\x01\x01\x03\x00\x06\x94\x00\x01\xa1f\x90");
    }
}

//! Any record comes back from its image as it was.

use bytes::Bytes;
use envmill_wire::{
    self as wire,
    layout::{ALIGN, ArrayKind, Table},
};
use proptest::prelude::*;

use crate::records::{blob, image};

fn tokens() -> impl Strategy<Value = Option<wire::Tokens>> {
    let list = prop::collection::vec((any::<u32>(), -10.0_f32..0.0, 0_u8..2), 0..200);
    prop::option::of((list, any::<u32>()).prop_map(|(list, prompt_len)| wire::Tokens {
        token_ids: list.iter().map(|it| it.0).collect(),
        logprobs: list.iter().map(|it| it.1).collect(),
        loss_mask: list.iter().map(|it| it.2).collect(),
        prompt_len,
        policy_versions: vec![wire::VersionSpan {
            version: Some(wire::Version { lineage: 1, step: 2 }),
            tokens: list.len() as u32,
        }],
    }))
}

fn step() -> impl Strategy<Value = wire::Step> {
    let observed = (prop::option::of(-5.0..5.0), prop::collection::vec(any::<u8>(), 0..30));
    (prop::option::of(observed), any::<u32>()).prop_map(|(observed, environment_us)| wire::Step {
        action: Bytes::from_static(b"{}"),
        observed: observed.map(|(reward, observation)| wire::Observed {
            observation: observation.into(),
            reward,
            ..wire::Observed::default()
        }),
        environment_us,
        policy_us: 0,
    })
}

fn any_blob() -> impl Strategy<Value = wire::Blob> {
    prop_oneof![
        Just(blob("a", "int16", &[2, 2], &[1, 2, 3, 4, 5, 6, 7, 8])),
        Just(blob("", "float8_e4m3fn", &[3], &[1, 2, 3])),
        Just(blob("wrong shape", "int16", &[5], &[1, 2, 3, 4])),
        Just(blob("too large", "uint8", &[u64::MAX, u64::MAX], &[1])),
        Just(blob("nine dimensions", "uint8", &[1; 9], &[1])),
        Just(blob("nothing", "uint8", &[], &[])),
    ]
}

fn any_record() -> impl Strategy<Value = wire::Trajectory> {
    let steps = prop::collection::vec(step(), 0..40);
    let blobs = prop::collection::vec(any_blob(), 0..5);
    (tokens(), steps, blobs, ".{0,40}").prop_map(|(tokens, steps, blobs, id)| wire::Trajectory {
        trajectory_id: id,
        tokens,
        steps,
        blobs,
        content_hash: "00ff".into(),
        ..wire::Trajectory::default()
    })
}

proptest! {
    #[test]
    fn a_record_comes_back_from_its_image(record in any_record()) {
        let image = Bytes::from(image(&record));
        let copy = |at: usize, to: &mut [u8]| to.copy_from_slice(&image[at..at + to.len()]);
        let table = Table::read(image.len(), copy).unwrap();
        for array in table.arrays() {
            prop_assert!(array.range.start.is_multiple_of(ALIGN));
        }
        let steps = table.array(ArrayKind::StepRewards).map_or(0, |array| array.shape[0]);
        prop_assert_eq!(steps, record.steps.len() as u64);
        prop_assert_eq!(table.trajectory(|range| image.slice(range)).unwrap(), record);
    }
}

//! The bytes of an image, which other programs read: they do not change by accident.
//!
//! With `ENVMILL_UPDATE_GOLDEN` set the file is written anew.

use std::{env, fs, path::PathBuf};

use bytes::Bytes;
use envmill_wire::{
    self as wire,
    layout::{ArrayKind, Table},
};

use crate::records::{image, record};

pub(crate) fn golden() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/trajectory.bin")
}

#[test]
fn an_image_has_the_golden_bytes() {
    let image = image(&record());
    if env::var_os("ENVMILL_UPDATE_GOLDEN").is_some() {
        fs::write(golden(), &image).unwrap();
    }
    let expected = fs::read(golden()).unwrap();
    assert_eq!(image.len(), expected.len());
    let first = image.iter().zip(&expected).position(|(ours, theirs)| ours != theirs);
    assert_eq!(first, None, "the first byte that differs");
}

/// As engines made it before generations said of their prompts what these share.
#[test]
fn an_older_image_is_read() {
    let image = Bytes::from(fs::read(golden().with_file_name("trajectory-1.bin")).unwrap());
    let table =
        Table::read(image.len(), |at, to| to.copy_from_slice(&image[at..at + to.len()])).unwrap();
    let expected = wire::Trajectory { generations: Vec::new(), ..record() };
    assert_eq!(table.trajectory(|range| image.slice(range)).unwrap(), expected);
}

#[test]
fn a_golden_image_is_read() {
    let image = Bytes::from(fs::read(golden()).unwrap());
    let table =
        Table::read(image.len(), |at, to| to.copy_from_slice(&image[at..at + to.len()])).unwrap();
    let shown: Vec<_> = table
        .arrays()
        .iter()
        .map(|it| (it.kind, it.name.as_str(), it.dtype.as_str(), it.shape.clone()))
        .collect();
    assert_eq!(
        shown,
        [
            (ArrayKind::TokenIds, "token_ids", "uint32", vec![5]),
            (ArrayKind::Logprobs, "logprobs", "float32", vec![5]),
            (ArrayKind::LossMask, "loss_mask", "uint8", vec![5]),
            (ArrayKind::StepRewards, "step_rewards", "float64", vec![3]),
            (ArrayKind::StepRewardGiven, "step_reward_given", "uint8", vec![3]),
            (ArrayKind::Blob(0), "routed_experts", "int16", vec![2, 3]),
            (ArrayKind::Blob(2), "weights", "bfloat16", vec![2]),
        ]
    );
    let bytes = |kind| &image[table.array(kind).unwrap().range.clone()];
    assert_eq!(bytes(ArrayKind::TokenIds)[4..8], 50_256_u32.to_le_bytes());
    assert_eq!(bytes(ArrayKind::StepRewards)[..8], 0.5_f64.to_le_bytes());
    assert_eq!(bytes(ArrayKind::StepRewards)[8..16], f64::NAN.to_le_bytes());
    assert_eq!(bytes(ArrayKind::StepRewardGiven), [1, 0, 1]);
    let rest = table.rest(|range| image.slice(range)).unwrap();
    assert!(rest.tokens.unwrap().token_ids.is_empty() && rest.blobs[0].data.is_empty());
    assert_eq!(table.trajectory(|range| image.slice(range)).unwrap(), record());
}

//! Bytes that are no image, and messages that are none.

use bytes::Bytes;
use envmill_wire::layout::{Plan, PlanError, Table, TableError};
use proptest::prelude::*;
use prost::Message as _;

use crate::records::{image, record};

fn read(image: &[u8]) -> Result<Table, TableError> {
    Table::read(image.len(), |at, to| to.copy_from_slice(&image[at..at + to.len()]))
}

fn whole(image: &[u8]) -> Result<(), TableError> {
    let bytes = Bytes::copy_from_slice(image);
    read(image)?.trajectory(|range| bytes.slice(range)).map(drop)
}

#[test]
fn what_is_no_image_is_refused() {
    let good = image(&record());
    whole(&good).unwrap();
    assert!(matches!(read(&good[..63]), Err(TableError::Magic)));
    assert!(matches!(read(&good[..good.len() - 1]), Err(TableError::Broken(_))));
    let with = |at: usize, byte: u8| {
        let mut image = good.clone();
        image[at] = byte;
        image
    };
    assert!(matches!(read(&with(0, b'X')), Err(TableError::Magic)));
    assert!(matches!(read(&with(8, 2)), Err(TableError::Version(2))));
    // Too many arrays; a rest outside; data outside, and unaligned; another shape; another type.
    for (at, byte) in [(14, 1), (30, 1), (64 + 12, 1), (64 + 8, 1), (128, 6), (64 + 32, 0)] {
        assert!(matches!(read(&with(at, byte)), Err(TableError::Broken(_))), "{at}");
    }
    let blob_of_none = with(64 + 5 * 128 + 40, 200);
    assert!(matches!(whole(&blob_of_none), Err(TableError::Broken(_))));
}

#[test]
fn tags_that_are_not_known_are_left_out() {
    let mut image = image(&record());
    image[64] = 99;
    assert_eq!(read(&image).unwrap().arrays().len(), 6);
}

#[test]
fn lists_in_pieces_and_what_is_no_message_are_refused() {
    let twice = [record().encode_to_vec(), record().encode_to_vec()].concat();
    assert_eq!(Plan::of(twice.into()).unwrap_err(), PlanError::Pieces);
    let cut = record().encode_to_vec();
    assert_eq!(Plan::of(Bytes::from(cut).slice(..40)).unwrap_err(), PlanError::NoMessage);
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(
        at in 0_usize..2048,
        bytes in prop::collection::vec(any::<u8>(), 1..16),
    ) {
        let mut image = image(&record());
        for (offset, byte) in bytes.iter().enumerate() {
            let at = (at + offset) % image.len();
            image[at] = *byte;
        }
        let _ = whole(&image);
    }

    #[test]
    fn no_bytes_make_a_plan_panic(
        at in 0_usize..512,
        bytes in prop::collection::vec(any::<u8>(), 1..16),
    ) {
        let mut payload = record().encode_to_vec();
        for (offset, byte) in bytes.iter().enumerate() {
            let at = (at + offset) % payload.len();
            payload[at] = *byte;
        }
        if let Ok(plan) = Plan::of(payload.into()) {
            plan.write(&mut vec![0; plan.bytes()]);
        }
    }
}

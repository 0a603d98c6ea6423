//! Tests of what `envmill-formats` promises: records survive, and damage costs only what it hits.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what is not there fails the test")]

#[path = "../../../../protocol/tests/main/json_texts.rs"]
#[allow(dead_code, reason = "shared with the protocol's tests, which use all of it")]
mod json_texts;
#[path = "../../../../protocol/tests/main/trajectories.rs"]
mod trajectories;

use std::{
    fs::File,
    io::{Seek, Write},
};

use envmill_formats::{
    FormatError, ParquetReader, StreamReader, StreamWriter, decode, encode, parquet_rows, schema,
    write_parquet,
};
use envmill_protocol::{Trajectory, record::whole_prompt};
use proptest::{collection::vec, prelude::*};
use trajectories::{any_trajectory, example};

/// A stream of these batches, and where each of them ends.
fn stream(batches: &[Vec<Trajectory>]) -> (Vec<u8>, Vec<usize>) {
    let mut writer = StreamWriter::new(false).unwrap();
    let (mut bytes, mut ends) = (Vec::new(), Vec::new());
    for batch in batches {
        bytes.extend(writer.batch(batch).unwrap());
        ends.push(bytes.len());
    }
    bytes.extend(writer.end().unwrap());
    (bytes, ends)
}

/// What reads of a stream, whether it read to its end, and how many bytes of it were whole.
fn read(bytes: &[u8]) -> (Vec<Trajectory>, Result<(), FormatError>, u64) {
    let mut reader = StreamReader::new(bytes);
    let mut records = Vec::new();
    loop {
        match reader.next() {
            Some(Ok(batch)) => records.extend(batch),
            Some(Err(error)) => return (records, Err(error), reader.whole_bytes()),
            None => return (records, Ok(()), reader.whole_bytes()),
        }
    }
}

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file
}

fn parquet(records: &[Trajectory]) -> Vec<u8> {
    write_parquet(Vec::new(), [Ok(records.to_vec())]).unwrap().1
}

fn read_parquet(bytes: &[u8]) -> Result<Vec<Trajectory>, FormatError> {
    let mut records = Vec::new();
    for batch in ParquetReader::new(file(bytes))? {
        records.extend(batch?);
    }
    Ok(records)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn records_survive_a_batch(records in vec(any_trajectory(), 0..4)) {
        let batch = encode(&records).unwrap();
        prop_assert_eq!(batch.schema(), schema());
        prop_assert_eq!(decode(&batch).unwrap(), records);
    }

    #[test]
    fn records_survive_parquet(records in vec(any_trajectory(), 1..4)) {
        prop_assert_eq!(read_parquet(&parquet(&records)).unwrap(), records);
    }

    #[test]
    fn a_cut_stream_gives_its_whole_batches(
        batches in vec(vec(any_trajectory(), 1..3), 1..4),
        at in any::<prop::sample::Index>(),
    ) {
        let (bytes, ends) = stream(&batches);
        let cut = at.index(bytes.len() + 1);
        let (records, _, whole) = read(&bytes[..cut]);
        let count = ends.iter().filter(|&&end| end <= cut).count();
        prop_assert_eq!(records, batches[..count].concat());
        prop_assert!(whole <= cut as u64);
        if count > 0 {
            prop_assert_eq!(whole, ends[count - 1] as u64);
        }
        // What is whole can go on.
        let mut kept = bytes[..whole as usize].to_vec();
        let mut writer = StreamWriter::new(whole > 0).unwrap();
        kept.extend(writer.batch(&[example()]).unwrap());
        kept.extend(writer.end().unwrap());
        let (records, ended, _) = read(&kept);
        prop_assert!(ended.is_ok());
        prop_assert_eq!(records, [batches[..count].concat(), vec![example()]].concat());
    }

    #[test]
    fn a_damaged_stream_gives_what_is_before_the_damage(
        at in any::<prop::sample::Index>(),
        damage in vec(any::<u8>(), 1..16),
    ) {
        let (mut bytes, ends) = stream(&[vec![example()], vec![example(); 2], vec![example()]]);
        let at = at.index(bytes.len());
        for (byte, damage) in bytes[at..].iter_mut().zip(&damage) {
            *byte = *damage;
        }
        let (records, _, _) = read(&bytes);
        let untouched = ends.iter().filter(|&&end| end <= at).count();
        let whole: usize = [1, 2, 1][..untouched].iter().sum();
        prop_assert!(records.len() >= whole);
        prop_assert!(records[..whole].iter().all(|record| *record == example()));
    }

    #[test]
    fn damaged_parquet_is_an_error_or_records(
        at in any::<prop::sample::Index>(),
        damage in vec(any::<u8>(), 1..16),
    ) {
        let mut bytes = parquet(&[example(), example()]);
        let at = at.index(bytes.len());
        for (byte, damage) in bytes[at..].iter_mut().zip(&damage) {
            *byte = *damage;
        }
        let _ = read_parquet(&bytes);
        let _ = read_parquet(&bytes[..at]);
        let _ = parquet_rows(file(&bytes));
    }

    #[test]
    fn any_bytes_read_as_something(bytes in vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes);
        let _ = read_parquet(&bytes);
    }
}

#[test]
fn numbers_that_json_lacks_survive() {
    let mut record = example();
    record.reward = Some(f64::NAN);
    record.tokens.logprobs = vec![f32::NEG_INFINITY, f32::NAN];
    let read = decode(&encode(&[record]).unwrap()).unwrap().remove(0);
    assert!(read.reward.unwrap().is_nan());
    assert!(read.tokens.logprobs[0] < f32::MIN && read.tokens.logprobs[1].is_nan());
}

/// What version 1 has written of the example: every prompt is whole, and generations say less.
#[test]
fn columns_of_version_1_are_read() {
    let (stream, ended, _) = read(include_bytes!("../data/records-1.arrows"));
    assert!(ended.is_ok());
    let table = read_parquet(include_bytes!("../data/records-1.parquet")).unwrap();
    assert_eq!(stream, table);
    let [old] = &stream[..] else { panic!("{stream:?}") };
    let new = example();
    assert_eq!((&old.tokens, &old.steps), (&new.tokens, &new.steps));
    for (index, (old, it)) in old.generations.iter().zip(&new.generations).enumerate() {
        assert_eq!(old.prompt_token_ids, whole_prompt(&new.generations, index));
        assert_eq!((old.prompt_shared, old.step, &*old.finish_reason), (0, None, ""));
        assert_eq!((&old.token_ids, old.parent), (&it.token_ids, it.parent));
    }
    let older = StreamReader::new(&include_bytes!("../data/records-1.arrows")[..]);
    assert_eq!(older.schema_version(), Some(1));
}

#[test]
fn prompts_that_cannot_be_put_together_are_refused() {
    let mut record = example();
    record.generations[1].prompt_shared = 7;
    let refused = decode(&encode(&[record]).unwrap());
    assert!(matches!(refused, Err(FormatError::Prompt(_))), "{refused:?}");
}

#[test]
fn what_is_not_of_records_is_named() {
    let (_, ended, whole) = read(b"");
    assert!(ended.is_err() && whole == 0);
    let newer = encode(&[]).unwrap();
    let schema =
        newer.schema_ref().as_ref().clone().with_metadata(std::collections::HashMap::from([(
            envmill_formats::SCHEMA_VERSION_KEY.to_owned(),
            "99".to_owned(),
        )]));
    let newer = newer.with_schema(schema.into());
    assert!(
        newer.is_err()
            || matches!(decode(&newer.unwrap()), Err(FormatError::NewerSchema { found: 99 }))
    );
}

#[test]
fn rows_of_parquet_are_objects() {
    let rows = parquet_rows(file(&parquet(&[example()]))).unwrap();
    assert_eq!(rows.len(), 1);
    assert!(
        rows[0].starts_with('{') && rows[0].contains("\"task_id\":\"corridor\""),
        "{}",
        rows[0]
    );
}

/// What `tests/data/tasks.py` has written.
#[test]
fn rows_of_other_programs_read_as_objects() {
    let rows = parquet_rows(file(include_bytes!("../data/tasks.parquet"))).unwrap();
    expect_test::expect![[r#"
        {"added":"2026-01-02 03:04:05.000 +00:00","answer":{"unit":null,"value":4.0},"hidden":false,"id":"a","level":"easy","price":"1.50","prompt":[{"content":"2 + 2 = “?”\n","role":"user"},{"content":null,"role":"system"}],"seed":9007199254740993,"tags":{"arithmetic":1},"weight":2.0}
        {"added":null,"answer":null,"hidden":null,"id":"b","level":"hard","price":null,"prompt":[],"seed":-1,"tags":null,"weight":0.0}
        {"added":null,"answer":{"unit":"m","value":0.1},"hidden":null,"id":"c","level":"easy","price":null,"prompt":null,"seed":null,"tags":null,"weight":0.5}"#]].assert_eq(&rows.join("\n"));
}

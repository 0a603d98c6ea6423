//! The decoder against what engines sent, as it was and broken.

use std::ops::Range;

use envmill_protocol::PolicyVersion;
use proptest::prelude::*;

use super::{
    decode::{End, Nonsense, Step},
    handshake::{self, Status},
    id::Place,
    versions::{self, Layout},
    zmtp::Message,
};
use crate::ErrorKind;

const WITHIN: &str = include_str!("../../tests/main/golden/vllm-0.32.0-arrays-within.txt");
const BESIDE: &str = include_str!("../../tests/main/golden/vllm-0.32.0-arrays-beside.txt");
/// What the recorded requests were named by.
const RUN: u32 = 0xbeef;

/// A message, its frames behind one another.
#[derive(Clone, Debug)]
struct Frames {
    bytes: Vec<u8>,
    frames: Vec<Range<usize>>,
}

impl Frames {
    fn read(&self, step: &mut Step) -> Result<(), Nonsense> {
        step.read(Message::new(&self.bytes, &self.frames), layout(), RUN)
    }

    fn cut(&self, len: usize) -> Self {
        let end = self.frames[0].end.min(len);
        Self { bytes: self.bytes.clone(), frames: std::iter::once(0..end).collect() }
    }
}

fn layout() -> &'static Layout {
    versions::layout("0.32.0").unwrap()
}

fn all(text: &str) -> Vec<(&str, Frames)> {
    let lines = text.lines().filter(|it| !it.starts_with('#'));
    lines
        .map(|line| {
            let mut words = line.split(' ');
            let name = words.next().unwrap();
            let mut message = Frames { bytes: Vec::new(), frames: Vec::new() };
            for hex in words {
                let start = message.bytes.len();
                let digits = (0..hex.len()).step_by(2);
                message
                    .bytes
                    .extend(digits.map(|it| u8::from_str_radix(&hex[it..it + 2], 16).unwrap()));
                message.frames.push(start..message.bytes.len());
            }
            (name, message)
        })
        .collect()
}

fn named(text: &str, name: &str) -> Frames {
    all(text).into_iter().find(|it| it.0 == name).unwrap().1
}

fn steps(text: &str) -> Vec<Frames> {
    all(text).into_iter().filter(|it| it.0 != "hello" && it.0 != "ready").map(|it| it.1).collect()
}

#[test]
fn a_handshake_is_understood() {
    assert_eq!(handshake::status(&named(WITHIN, "hello").bytes), Ok(Some(Status::Hello)));
    let ready = named(WITHIN, "ready").bytes;
    let known = handshake::known(&ready).unwrap();
    assert_eq!((known.layout.version, known.max_model_len), ((0, 32), 4096));
    let at = ready.windows(6).position(|it| it == b"0.32.0").unwrap();
    let mut older = ready.clone();
    older[at + 3] = b'1';
    let error = handshake::known(&older).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unsupported);
    assert!(error.message.contains("0.31.0") && error.message.contains("HTTP"), "{error}");
    assert_eq!(handshake::known(&ready[..300]).unwrap_err().kind, ErrorKind::Nonsense);
}

#[test]
fn the_first_tokens_of_a_request_are_read() {
    let mut step = Step::default();
    for text in [WITHIN, BESIDE] {
        named(text, "one0").read(&mut step).unwrap();
        let [output] = &step.outputs[..] else { panic!("{step:?}") };
        assert_eq!(output.place, Place { slot: 0, round: 1 });
        assert_eq!(step.tokens, [3723]);
        assert_eq!(step.logprobs.len(), 1);
        assert!((step.logprobs[0] + 8.2).abs() < 0.2, "{:?}", step.logprobs);
        assert_eq!((output.end, output.cached), (None, Some(0)));
        assert!(output.queued_us.is_some());
        assert_eq!((step.stats.unwrap().running, step.version), (1, None));
        assert_eq!(step.stats.unwrap().prefix_queries, 16);
        named(text, "oneb1").read(&mut step).unwrap();
        assert_eq!(step.outputs[0].end, Some(End::Length));
        assert!(step.top.is_empty());
        // Two of them were asked for, and the sampled token is neither.
        named(text, "top0").read(&mut step).unwrap();
        assert_eq!((&step.tokens[..], step.logprobs.len()), (&[3723][..], 1));
        assert_eq!(step.outputs[0].top, 0..2);
        let ids: Vec<_> = step.top.iter().map(|it| it.0).collect();
        assert_eq!(ids, [25, 591]);
        assert!(step.top[0].1 > step.top[1].1 && step.top[1].1 > step.logprobs[0]);
    }
}

#[test]
fn the_two_ways_of_sending_arrays_say_the_same() {
    let (mut within, mut beside) = (Step::default(), Step::default());
    for name in ["one0", "oneb0", "oneb1", "top0", "top1"] {
        named(WITHIN, name).read(&mut within).unwrap();
        named(BESIDE, name).read(&mut beside).unwrap();
        // How long they have waited is not the same.
        for output in within.outputs.iter_mut().chain(&mut beside.outputs) {
            output.queued_us = None;
        }
        assert_eq!(within.outputs, beside.outputs);
        assert_eq!(within.tokens, beside.tokens);
        for (a, b) in within.logprobs.iter().zip(&beside.logprobs) {
            assert!((a - b).abs() < 1e-4);
        }
    }
}

#[test]
fn calls_and_versions_are_read() {
    let mut step = Step::default();
    named(WITHIN, "pause0").read(&mut step).unwrap();
    assert_eq!(step.utility.as_ref().map(|it| (it.call, it.failure.as_deref())), Some((1, None)));
    named(WITHIN, "failed0").read(&mut step).unwrap();
    let failure = step.utility.as_ref().unwrap().failure.as_deref().unwrap();
    assert!(failure.contains("no_such_method"), "{failure}");
    named(WITHIN, "after0").read(&mut step).unwrap();
    assert_eq!(step.version, Some(PolicyVersion(41)));
}

#[test]
fn another_runs_requests_are_not_ours() {
    let mut step = Step::default();
    let message = named(WITHIN, "one0");
    step.read(Message::new(&message.bytes, &message.frames), layout(), RUN + 1).unwrap();
    assert!(step.outputs.is_empty() && step.tokens.is_empty());
    assert_eq!(step.strangers, ["envmill-1-0000beef-0000000000000001"]);
}

#[test]
fn every_message_is_read_and_no_part_of_one_is() {
    let mut step = Step::default();
    for text in [WITHIN, BESIDE] {
        for message in steps(text) {
            message.read(&mut step).unwrap();
            for len in 0..message.frames[0].end {
                assert!(message.cut(len).read(&mut step).is_err(), "{len}");
            }
            if step.outputs.iter().any(|it| it.logprobs.is_some()) && message.frames.len() > 1 {
                // The frames beside it are missing.
                assert!(message.cut(usize::MAX).read(&mut step).is_err());
            }
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let whole = 0..bytes.len();
        let frames = Frames { bytes, frames: std::iter::once(whole).collect() };
        let _ = frames.read(&mut Step::default());
        let _ = handshake::known(&frames.bytes);
        let _ = handshake::status(&frames.bytes);
    }

    #[test]
    fn no_change_of_a_message_makes_it_panic(
        which in any::<prop::sample::Index>(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        beside: bool,
    ) {
        let messages = steps(if beside { BESIDE } else { WITHIN });
        let mut message = which.get(&messages).clone();
        for (at, byte) in changes {
            let at = at.index(message.bytes.len());
            message.bytes[at] = byte;
        }
        let mut step = Step::default();
        if message.read(&mut step).is_ok() {
            for it in &step.outputs {
                prop_assert!(it.tokens.end <= step.tokens.len());
                prop_assert!(it.logprobs.as_ref().is_none_or(|it| it.end <= step.logprobs.len()));
                prop_assert!(it.top.end <= step.top.len());
            }
        }
    }
}

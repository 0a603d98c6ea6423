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

/// What engines of a version sent.
#[derive(Clone, Debug)]
struct Recording {
    version: &'static str,
    layout: (u16, u16),
    /// Arrays within the messages, and in frames beside them.
    ways: [&'static str; 2],
    /// Of the first request's place.
    round: u32,
    /// The first token that was sampled, and its log-probability.
    first: (u32, f32),
    /// The two most likely tokens at its place.
    top: [u32; 2],
    /// The number of the first call; what one failed for says so.
    first_call: u64,
    failure: &'static str,
}

const RECORDINGS: [Recording; 2] = [
    Recording {
        version: "0.32.0",
        layout: (0, 32),
        ways: [
            include_str!("../../tests/main/golden/vllm-0.32.0-arrays-within.txt"),
            include_str!("../../tests/main/golden/vllm-0.32.0-arrays-beside.txt"),
        ],
        round: 1,
        first: (3723, -8.2),
        top: [25, 591],
        first_call: 1,
        failure: "no_such_method",
    },
    Recording {
        version: "0.33.0",
        layout: (0, 33),
        ways: [
            include_str!("../../tests/main/golden/vllm-0.33.0-arrays-within.txt"),
            include_str!("../../tests/main/golden/vllm-0.33.0-arrays-beside.txt"),
        ],
        round: 0,
        first: (2274, -7.7),
        top: [2274, 2340],
        first_call: 0,
        failure: "/nowhere",
    },
];

/// What the recorded requests were named by.
const RUN: u32 = 0xbeef;

/// A message, its frames behind one another.
#[derive(Clone, Debug)]
struct Frames {
    layout: &'static Layout,
    bytes: Vec<u8>,
    frames: Vec<Range<usize>>,
}

impl Frames {
    fn new(layout: &'static Layout) -> Self {
        Self { layout, bytes: Vec::new(), frames: Vec::new() }
    }

    fn push(&mut self, frame: impl IntoIterator<Item = u8>) {
        let start = self.bytes.len();
        self.bytes.extend(frame);
        self.frames.push(start..self.bytes.len());
    }

    fn read(&self, step: &mut Step) -> Result<(), Nonsense> {
        self.read_as(RUN, step)
    }

    fn read_as(&self, run: u32, step: &mut Step) -> Result<(), Nonsense> {
        step.read(Message::new(&self.bytes, &self.frames), self.layout, run)
    }

    fn cut(&self, len: usize) -> Self {
        let mut cut = Self::new(self.layout);
        cut.push(self.bytes[..self.frames[0].end.min(len)].iter().copied());
        cut
    }
}

impl Recording {
    fn messages(&self, way: &str) -> Vec<(String, Frames)> {
        let lines = way.lines().filter(|it| !it.starts_with('#'));
        let read = |line: &str| {
            let mut words = line.split(' ');
            let name = words.next().unwrap().to_owned();
            let mut message = Frames::new(versions::layout(self.version).unwrap());
            for hex in words {
                let digits = (0..hex.len()).step_by(2);
                message.push(digits.map(|it| u8::from_str_radix(&hex[it..it + 2], 16).unwrap()));
            }
            (name, message)
        };
        lines.map(read).collect()
    }

    fn named(&self, way: &str, name: &str) -> Frames {
        self.messages(way).into_iter().find(|it| it.0 == name).unwrap().1
    }

    fn steps(&self, way: &str) -> Vec<Frames> {
        let messages = self.messages(way).into_iter();
        messages.filter(|it| it.0 != "hello" && it.0 != "ready").map(|it| it.1).collect()
    }
}

#[test]
fn a_handshake_is_understood() {
    for recording in &RECORDINGS {
        let [within, _] = recording.ways;
        let hello = recording.named(within, "hello").bytes;
        assert_eq!(handshake::status(&hello), Ok(Some(Status::Hello)));
        let ready = recording.named(within, "ready").bytes;
        let known = handshake::known(&ready).unwrap();
        assert_eq!((known.layout.version, known.max_model_len), (recording.layout, 4096));
        let version = recording.version.as_bytes();
        let at = ready.windows(version.len()).position(|it| it == version).unwrap();
        let mut older = ready.clone();
        older[at + 3] = b'1';
        let error = handshake::known(&older).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unsupported);
        assert!(error.message.contains("0.31.0") && error.message.contains("HTTP"), "{error}");
        assert_eq!(handshake::known(&ready[..300]).unwrap_err().kind, ErrorKind::Nonsense);
    }
}

#[test]
fn the_first_tokens_of_a_request_are_read() {
    let mut step = Step::default();
    for recording in &RECORDINGS {
        for way in recording.ways {
            let (token, logprob) = recording.first;
            recording.named(way, "one0").read(&mut step).unwrap();
            let [output] = &step.outputs[..] else { panic!("{step:?}") };
            assert_eq!(output.place, Place { slot: 0, round: recording.round });
            assert_eq!(step.tokens, [token]);
            assert_eq!(step.logprobs.len(), 1);
            assert!((step.logprobs[0] - logprob).abs() < 0.2, "{:?}", step.logprobs);
            assert_eq!((output.end, output.cached), (None, Some(0)));
            assert!(output.queued_us.is_some());
            assert_eq!((step.stats.unwrap().running, step.version), (1, None));
            assert_eq!(step.stats.unwrap().prefix_queries, 16);
            recording.named(way, "oneb1").read(&mut step).unwrap();
            assert_eq!(step.outputs[0].end, Some(End::Length));
            assert!(step.top.is_empty());
            // Two of them were asked for, whatever was sampled.
            recording.named(way, "top0").read(&mut step).unwrap();
            assert_eq!((&step.tokens[..], step.logprobs.len()), (&[token][..], 1));
            assert_eq!(step.outputs[0].top, 0..2);
            let ids: Vec<_> = step.top.iter().map(|it| it.0).collect();
            assert_eq!(ids, recording.top);
            assert!(step.top[0].1 >= step.top[1].1 && step.top[0].1 >= step.logprobs[0]);
        }
    }
}

#[test]
fn the_two_ways_of_sending_arrays_say_the_same() {
    let mut read = [Step::default(), Step::default()];
    for recording in &RECORDINGS {
        for name in ["one0", "oneb0", "oneb1", "top0", "top1"] {
            for (way, step) in recording.ways.into_iter().zip(&mut read) {
                recording.named(way, name).read(step).unwrap();
                // How long they have waited is not the same.
                step.outputs.iter_mut().for_each(|it| it.queued_us = None);
            }
            let [within, beside] = &read;
            assert_eq!(within.outputs, beside.outputs);
            assert_eq!(within.tokens, beside.tokens);
            for (a, b) in within.logprobs.iter().zip(&beside.logprobs) {
                assert!((a - b).abs() < 1e-4);
            }
        }
    }
}

#[test]
fn calls_and_versions_are_read() {
    let mut step = Step::default();
    for recording in &RECORDINGS {
        let [within, _] = recording.ways;
        recording.named(within, "pause0").read(&mut step).unwrap();
        let call = step.utility.as_ref().map(|it| (it.call, it.failure.as_deref()));
        assert_eq!(call, Some((recording.first_call, None)));
        recording.named(within, "failed0").read(&mut step).unwrap();
        let failure = step.utility.as_ref().unwrap().failure.as_deref().unwrap();
        assert!(failure.contains(recording.failure), "{failure}");
        recording.named(within, "after0").read(&mut step).unwrap();
        assert_eq!(step.version, Some(PolicyVersion(41)));
    }
}

#[test]
fn another_runs_requests_are_not_ours() {
    for recording in &RECORDINGS {
        let mut step = Step::default();
        recording.named(recording.ways[0], "one0").read_as(RUN + 1, &mut step).unwrap();
        assert!(step.outputs.is_empty() && step.tokens.is_empty());
        assert_eq!(step.strangers, [format!("envmill-1-0000beef-{:016x}", recording.round)]);
    }
}

#[test]
fn every_message_is_read_and_no_part_of_one_is() {
    let mut step = Step::default();
    for recording in &RECORDINGS {
        for message in recording.ways.into_iter().flat_map(|way| recording.steps(way)) {
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
        let mut frames = Frames::new(versions::layout("0.32.0").unwrap());
        frames.push(bytes);
        let _ = frames.read(&mut Step::default());
        let _ = handshake::known(&frames.bytes);
        let _ = handshake::status(&frames.bytes);
    }

    #[test]
    fn no_change_of_a_message_makes_it_panic(
        recording in prop::sample::select(&RECORDINGS[..]),
        which in any::<prop::sample::Index>(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        beside: bool,
    ) {
        let messages = recording.steps(recording.ways[usize::from(beside)]);
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

//! A peer that is a Python program, and peers that are killed.

use std::{
    fs,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use envmill_ring::{
    Channel, ColumnsReader, ColumnsWriter, Doorbell, Limits, Message, OverflowMessage, RaggedRows,
    Received, wait,
};

use crate::sides::{ID, KIND, POSE, TEXT, publish, steps};

/// How long a step may take before the test fails: many times what a slow machine needs.
const PATIENCE: Duration = Duration::from_secs(120);

/// The engine's side, and the Python process at the other.
struct Peer {
    writer: ColumnsWriter,
    reader: ColumnsReader,
    channel: Channel,
    /// Rung by the peer.
    our_bell: Doorbell,
    /// Rung for the peer.
    their_bell: Doorbell,
    message: Message,
    process: Process,
    /// The inode of the peer's segment.
    segment: u64,
}

/// A process that does not outlive its test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Peer {
    fn start(script: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/python").join(script);
        let (channel, end) = Channel::pair().unwrap();
        let mut command = Command::new("python3");
        // Without -B it would leave compiled files beside the scripts.
        command.arg("-B").arg(path).stdin(Stdio::from(end));
        let process = Process(command.spawn().unwrap());
        // The command holds the other end until it is dropped.
        drop(command);

        let mut writer = ColumnsWriter::create(steps()).unwrap();
        let (our_bell, their_bell) = (Doorbell::new().unwrap(), Doorbell::new().unwrap());
        let passed = [writer.as_fd(), their_bell.as_fd(), our_bell.as_fd()];
        assert!(channel.send(b"HELLO", &passed).unwrap());
        let mut message = Message::new();
        await_message(&channel, &mut message);
        assert_eq!(message.bytes(), b"HELLO");
        let segment = message.descriptors().pop().unwrap();
        let reader = writer.connect(segment.as_fd(), &Limits::default()).unwrap();
        assert_eq!(*reader.layout(), steps(), "Python lays its columns out as we do");
        let segment = rustix::fs::fstat(&segment).unwrap().st_ino;
        Self { writer, reader, channel, our_bell, their_bell, message, process, segment }
    }

    fn send(&mut self, id: u64, texts: &[&[u8]]) {
        let mut published = publish(&mut self.writer, id, texts);
        assert!(published.send_overflow(&self.channel).unwrap());
        self.their_bell.ring().unwrap();
    }

    /// Waits for the answer to the batch that was sent with these, and checks it.
    fn expect_answer(&mut self, id: u64, texts: &[&[u8]]) {
        while self.reader.next_batch().unwrap().is_none() {
            await_any(&[self.our_bell.as_fd(), self.channel.as_fd()]);
            self.our_bell.drain().unwrap();
            while self.channel.receive(&mut self.message).unwrap() == Received::Message {
                let passed = OverflowMessage::decode(self.message.bytes()).unwrap();
                let memory = self.message.descriptors().pop().unwrap();
                let column = passed.column as usize;
                self.reader.attach_overflow(passed.sequence, column, memory).unwrap();
            }
        }
        let batch = self.reader.next_batch().unwrap().unwrap();
        let (mut ids, mut kinds, mut poses) = (vec![], vec![], vec![]);
        let mut rows = RaggedRows::new();
        batch.fixed::<u64>(ID, &mut ids).unwrap();
        batch.fixed::<u8>(KIND, &mut kinds).unwrap();
        batch.fixed::<f32>(POSE, &mut poses).unwrap();
        batch.ragged(TEXT, &mut rows).unwrap();
        batch.release();
        let count = texts.len() as u64;
        assert_eq!(ids, (id + 1..=id + count).collect::<Vec<_>>());
        assert_eq!(kinds, (0..count as u8).collect::<Vec<_>>());
        let expected = (0..count).flat_map(|row| [-(id as f32), -(row as f32), -0.5]);
        assert_eq!(poses, expected.collect::<Vec<_>>());
        let texts: Vec<_> = texts.iter().map(|text| text.to_ascii_uppercase()).collect();
        assert_eq!(rows.iter().collect::<Vec<_>>(), texts);
    }

    fn await_end(&mut self) {
        loop {
            await_any(&[self.channel.as_fd()]);
            match self.channel.receive(&mut self.message).unwrap() {
                Received::Closed => return,
                Received::Message | Received::Nothing => {}
            }
        }
    }
}

fn await_any(descriptors: &[BorrowedFd<'_>]) {
    let mut ready = Vec::new();
    wait(descriptors, Some(PATIENCE), &mut ready).unwrap();
    assert!(!ready.is_empty(), "nothing came from the peer in {PATIENCE:?}");
}

fn await_message(channel: &Channel, message: &mut Message) {
    await_any(&[channel.as_fd()]);
    assert_eq!(channel.receive(message).unwrap(), Received::Message, "the peer is gone");
}

/// Whether this process holds the memfd with this inode, open or mapped.
fn holds(inode: u64) -> bool {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let is_mapped = maps.lines().any(|line| {
        // address permissions offset device inode path
        let mut fields = line.split_whitespace();
        fields.nth(4) == Some(&inode.to_string()) && line.contains("/memfd:")
    });
    let is_open = fs::read_dir("/proc/self/fd").unwrap().flatten().any(|entry| {
        let path = entry.path();
        let is_memfd = fs::read_link(&path).is_ok_and(|to| is_memfd(&to));
        is_memfd && rustix::fs::stat(&path).is_ok_and(|stat| stat.st_ino == inode)
    });
    is_mapped || is_open
}

fn is_memfd(path: &Path) -> bool {
    path.to_string_lossy().starts_with("/memfd:")
}

fn inode(descriptor: impl AsFd) -> u64 {
    rustix::fs::fstat(descriptor).unwrap().st_ino
}

#[test]
fn python_answers_batch_for_batch() {
    let mut peer = Peer::start("peer.py");
    for lap in 0..50 {
        let (first, second) = (10 * lap, 10 * lap + 1000);
        peer.send(first, &[b"one", b"", b"three"]);
        peer.send(second, &[b"four"]);
        peer.expect_answer(first, &[b"one", b"", b"three"]);
        peer.expect_answer(second, &[b"four"]);
    }
}

#[test]
fn python_passes_and_takes_what_does_not_fit() {
    let mut peer = Peer::start("peer.py");
    for length in [64, 65, 100_000, 3, 10_000_000] {
        let long = vec![b'x'; length];
        peer.send(7, &[b"short", &long, b""]);
        peer.expect_answer(7, &[b"short", &long, b""]);
    }
}

#[test]
fn python_ends_when_the_engine_does() {
    let Peer { channel, mut process, .. } = Peer::start("peer.py");
    drop(channel);
    let status: ExitStatus = process.0.wait().unwrap();
    assert!(status.success(), "{status}");
}

#[test]
fn a_killed_consumer_is_noticed_and_leaves_nothing_behind() {
    let mut peer = Peer::start("half.py");
    peer.send(1, &[b"held for ever"]);
    await_message(&peer.channel, &mut peer.message);
    assert_eq!(peer.message.bytes(), b"HALF");
    let (ours, theirs) = (inode(&peer.writer), peer.segment);
    assert!(holds(ours) && holds(theirs));
    peer.process.0.kill().unwrap();
    peer.await_end();
    peer.process.0.wait().unwrap();
    let _ = publish(&mut peer.writer, 2, &[b"nobody reads this"]);
    assert!(peer.writer.begin().unwrap().is_none(), "a slot that was held stays so");
    drop(peer);
    assert!(!holds(ours) && !holds(theirs));
}

#[test]
fn a_batch_that_a_killed_producer_has_half_written_does_not_come() {
    let mut peer = Peer::start("half.py");
    peer.send(1, &[b"to be answered"]);
    await_message(&peer.channel, &mut peer.message);
    peer.process.0.kill().unwrap();
    peer.await_end();
    peer.process.0.wait().unwrap();
    assert!(peer.reader.next_batch().unwrap().is_none());
    // The segment lives as long as it is mapped, whoever made it.
    assert!(holds(peer.segment));
}

#[test]
fn batches_that_a_killed_producer_has_published_are_still_read() {
    let mut peer = Peer::start("peer.py");
    peer.send(1, &[b"last words"]);
    await_any(&[peer.our_bell.as_fd()]);
    peer.process.0.kill().unwrap();
    peer.await_end();
    peer.process.0.wait().unwrap();
    peer.expect_answer(1, &[b"last words"]);
}

//! `EngineCore` and engines that break, lie, or are somebody else.

use std::{io::Write as _, net::TcpStream, os::unix::net::UnixStream, time::Duration};

use envmill_inference::{
    Control, Deliver, EngineCore, EngineCoreOptions, Error, ErrorKind, Finish, Generation,
    Inference as _, ModelFacts, Outcome, PauseMode, Request, RequestId, Sampling,
};
use envmill_protocol::PolicyVersion;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::{
    core_engine::{Engine, frame, framed, golden, greet, hello, step},
    request,
};

/// A channel whose tasks run beside the test, which plays the engine.
struct Rig {
    runtime: Runtime,
    folder: TempDir,
    channel: Option<EngineCore>,
}

fn options(folder: &TempDir, runtime: &Runtime) -> EngineCoreOptions {
    let facts = ModelFacts { eos_token_ids: vec![2, 3], vocab_size: 128, max_model_len: 1000 };
    let options = EngineCoreOptions::new(folder.path(), facts, runtime.handle().clone());
    EngineCoreOptions { message_bytes: 1 << 20, in_flight: 4, ..options }
}

impl Rig {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let channel = Some(EngineCore::bind(options(&folder, &runtime)).unwrap());
        Self { runtime, folder, channel }
    }

    fn channel(&self) -> &EngineCore {
        self.channel.as_ref().unwrap()
    }

    fn ready(&self) -> Result<(), Error> {
        let ready =
            async { tokio::time::timeout(Duration::from_secs(10), self.channel().ready()).await };
        self.runtime.block_on(ready).unwrap()
    }

    /// An engine that started, was told where to go, and is ready.
    fn engine(&self) -> Engine {
        hello(self.channel().handshake_address());
        let engine = Engine::connect(self.folder.path(), "0.32.0");
        self.ready().unwrap();
        engine
    }

    fn whole(&self, generation: Generation) -> Result<Outcome, Error> {
        let whole =
            async { tokio::time::timeout(Duration::from_secs(10), generation.whole()).await };
        self.runtime.block_on(whole).unwrap()
    }

    fn fails(&self, generation: Generation) -> Error {
        self.whole(generation).unwrap_err()
    }

    fn ask(&self, id: u64) -> Generation {
        self.channel().generate(request(id, &[1, 2, 3], 3))
    }
}

#[test]
fn a_generation_comes_back_whole_or_as_it_is_sampled() {
    let rig = Rig::new();
    let mut engine = rig.engine();
    let whole = rig.ask(1);
    let streamed = Request { deliver: Deliver::Streamed, ..request(2, &[1], 3) };
    let mut streamed = rig.channel().generate(streamed);
    let (first, second) = (engine.added(), engine.added());
    assert!(first.starts_with("envmill-1-") && second.starts_with("envmill-2-"));
    engine.step(&[&first, &second], 7, None);
    let chunk = rig.runtime.block_on(streamed.next()).unwrap().unwrap();
    assert_eq!((&chunk.token_ids[..], &chunk.logprobs[..]), (&[7][..], &[-1.5][..]));
    assert_eq!(chunk.version, PolicyVersion(5));
    engine.step(&[&second, &first], 8, Some(1));
    let chunk = rig.runtime.block_on(streamed.next()).unwrap().unwrap();
    assert_eq!(chunk.finished.unwrap().versions[0].tokens, 2);
    assert!(rig.runtime.block_on(streamed.next()).is_none());
    let outcome = rig.whole(whole).unwrap();
    assert_eq!(outcome.token_ids, [7, 8]);
    assert_eq!((outcome.versions[0].version, outcome.versions[0].tokens), (PolicyVersion(5), 2));
    assert_eq!(outcome.finish(), Some(&Finish::Length));
    // Its place is another's now, and what comes late for it is nobody's.
    let next = rig.ask(3);
    let third = engine.added();
    engine.step(&[&first, &second, "somebody-else", "envmill-x"], 9, Some(1));
    engine.step(&[&third], 7, Some(0));
    assert_eq!(rig.whole(next).unwrap().finish(), Some(&Finish::EndOfTurn));
}

#[test]
fn requests_that_are_dropped_or_aborted_end_there() {
    let rig = Rig::new();
    let mut engine = rig.engine();
    let (dropped, aborted, both) = (rig.ask(1), rig.ask(2), rig.ask(3));
    let names = [engine.added(), engine.added(), engine.added()];
    assert_eq!(rig.fails(rig.ask(2)).kind, ErrorKind::Refused);
    engine.step(&[&names[1]], 7, None);
    // Handed out by the time that another step's end is.
    let (last, name) = (rig.ask(4), engine.added());
    assert_eq!(rig.fails(rig.ask(5)).kind, ErrorKind::Busy);
    engine.step(&[&name], 7, Some(1));
    rig.whole(last).unwrap();
    drop(dropped);
    assert_eq!(engine.aborted(), [names[0].clone()]);
    rig.channel().abort(&[RequestId(2), RequestId(3), RequestId(77)]);
    drop(both);
    let outcome = rig.whole(aborted).unwrap();
    assert_eq!((&outcome.token_ids[..], outcome.finish()), (&[7][..], Some(&Finish::Aborted)));
    assert_eq!(engine.aborted(), names[1..]);
    // Nothing of them is left.
    let (next, name) = (rig.ask(1), engine.added());
    engine.step(&[&names[0], &names[1], &name], 7, Some(1));
    assert_eq!(rig.whole(next).unwrap().token_ids, [7]);
}

#[test]
fn an_engine_that_goes_is_lost_until_one_says_hello() {
    let rig = Rig::new();
    assert_eq!(rig.fails(rig.ask(1)).kind, ErrorKind::Busy);
    let early = rig.runtime.block_on(rig.channel().control(Control::SetVersion(PolicyVersion(6))));
    assert_eq!(early.unwrap_err().kind, ErrorKind::Busy);
    let mut engine = rig.engine();
    let under_way = rig.ask(1);
    engine.added();
    drop(engine);
    assert_eq!(rig.fails(under_way).kind, ErrorKind::Lost);
    assert_eq!(rig.fails(rig.ask(1)).kind, ErrorKind::Lost);
    assert!(rig.runtime.block_on(rig.channel().load()).is_err());

    // In the middle of a message.
    let mut engine = rig.engine();
    let under_way = rig.ask(1);
    let name = engine.added();
    let message = framed(&step(&[&name], 7, Some(1)));
    engine.output.write_all(&message[..message.len() - 1]).unwrap();
    drop(engine);
    assert_eq!(rig.fails(under_way).kind, ErrorKind::Lost);

    // With its last word.
    let mut engine = rig.engine();
    let under_way = rig.ask(1);
    engine.added();
    engine.output.write_all(&framed(b"ENGINE_CORE_DEAD")).unwrap();
    let error = rig.fails(under_way);
    assert_eq!(error.kind, ErrorKind::Lost);
    assert!(error.message.contains("died"), "{error}");

    // While another comes, before anybody noticed.
    let _old = rig.engine();
    let under_way = rig.ask(1);
    let mut engine = rig.engine();
    assert_eq!(rig.fails(under_way).kind, ErrorKind::Lost);
    let (again, name) = (rig.ask(1), engine.added());
    engine.step(&[&name], 7, Some(1));
    assert_eq!(rig.whole(again).unwrap().token_ids, [7]);
}

#[test]
fn an_engine_that_still_runs_is_taken_up_by_the_next_channel() {
    let mut rig = Rig::new();
    let mut engine = rig.engine();
    let left = rig.ask(1);
    let before = engine.added();
    let address = rig.channel().handshake_address();
    let busy = EngineCore::bind(EngineCoreOptions {
        handshake: ([127, 0, 0, 1], 0).into(),
        ..options(&rig.folder, &rig.runtime)
    });
    assert_eq!(busy.unwrap_err().kind, ErrorKind::Refused);
    let channel = rig.channel.take().unwrap();
    rig.runtime.block_on(channel.close());
    assert_eq!(rig.fails(left).kind, ErrorKind::Lost);
    // A process that is killed leaves its sockets behind.
    drop(std::os::unix::net::UnixListener::bind(rig.folder.path().join("input.sock")).unwrap());
    let options = EngineCoreOptions { handshake: address, ..options(&rig.folder, &rig.runtime) };
    rig.channel = Some(EngineCore::bind(options).unwrap());
    for (stream, name, kind, identity) in [
        (&mut engine.input, "input.sock", "DEALER", &[0, 0][..]),
        (&mut engine.output, "output.sock", "PUSH", b""),
    ] {
        *stream = UnixStream::connect(rig.folder.path().join(name)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        greet(stream, kind, identity);
    }
    rig.ready().unwrap();
    let (next, name) = (rig.ask(1), engine.added());
    assert_ne!(name, before);
    engine.step(&[&before, &name], 7, Some(1));
    assert_eq!(rig.whole(next).unwrap().token_ids, [7]);
    // What the other channel had left there is of no use to anybody.
    assert_eq!(engine.aborted(), [before]);
}

#[test]
fn a_version_that_is_not_known_is_not_talked_to() {
    let rig = Rig::new();
    hello(rig.channel().handshake_address());
    let _engine = Engine::connect(rig.folder.path(), "0.31.9");
    let error = rig.ready().unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unsupported);
    assert!(error.message.contains("0.31.9") && error.message.contains("HTTP"), "{error}");
    assert_eq!(rig.fails(rig.ask(1)).kind, ErrorKind::Unsupported);
    // Another engine may be of another.
    let mut engine = rig.engine();
    let (next, name) = (rig.ask(1), engine.added());
    engine.step(&[&name], 7, Some(1));
    assert_eq!(rig.whole(next).unwrap().token_ids, [7]);
}

#[test]
fn what_makes_no_sense_fails_what_is_under_way_and_no_more() {
    let rig = Rig::new();
    let mut engine = rig.engine();
    let garbage =
        [&b"\xc1"[..], b"", b"hello", &golden("hello"), &[0x92, 0, 0xdd, 255, 255, 255, 255]];
    for bytes in garbage {
        let (under_way, name) = (rig.ask(1), engine.added());
        engine.output.write_all(&framed(bytes)).unwrap();
        assert_eq!(rig.fails(under_way).kind, ErrorKind::Nonsense, "{bytes:?}");
        assert_eq!(engine.aborted(), [name]);
    }
    // More tokens than were asked for, and a reason that cannot be, are only their request's.
    let (one, two) = (rig.ask(1), rig.ask(2));
    let (first, second) = (engine.added(), engine.added());
    for _ in 0..3 {
        engine.step(&[&first], 7, None);
    }
    engine.step(&[&first], 7, None);
    assert_eq!(rig.fails(one).kind, ErrorKind::Nonsense);
    assert_eq!(engine.aborted(), [first]);
    engine.step(&[&second], 7, Some(4));
    assert_eq!(rig.fails(two).kind, ErrorKind::Nonsense);
    assert_eq!(engine.aborted(), [second]);
    let (failed, name) = (rig.ask(1), engine.added());
    engine.step(&[&name], 7, Some(3));
    assert_eq!(rig.fails(failed).kind, ErrorKind::Lost);
    // Frames that are no frames end the connection. libzmq would dial again, as here; and what the engine
    // still works on is ended.
    for bytes in [&[0xff, 0, 0][..], &[2, 0, 0, 1, 0, 0, 0, 0, 0]] {
        let (under_way, name) = (rig.ask(1), engine.added());
        engine.output.write_all(bytes).unwrap();
        assert_eq!(rig.fails(under_way).kind, ErrorKind::Nonsense);
        engine.output = UnixStream::connect(rig.folder.path().join("output.sock")).unwrap();
        greet(&mut engine.output, "PUSH", b"");
        rig.ready().unwrap();
        let (next, after) = (rig.ask(2), engine.asked());
        assert_eq!((after.0, &after.1[3..]), (1, name.as_bytes()));
        drop((next, engine.added()));
        engine.aborted();
    }
    let (next, name) = (rig.ask(1), engine.added());
    engine.step(&[&name], 7, Some(1));
    assert_eq!(rig.whole(next).unwrap().token_ids, [7]);
}

#[test]
fn strangers_at_the_sockets_change_nothing() {
    let rig = Rig::new();
    let mut engine = rig.engine();
    let (under_way, name) = (rig.ask(1), engine.added());
    for path in ["input.sock", "output.sock"] {
        let path = rig.folder.path().join(path);
        UnixStream::connect(&path).unwrap().write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        drop(UnixStream::connect(&path).unwrap());
        let mut other = UnixStream::connect(&path).unwrap();
        greet(&mut other, "SUB", b"");
        let mut other = UnixStream::connect(&path).unwrap();
        greet(&mut other, if path.ends_with("input.sock") { "DEALER" } else { "PULL" }, &[1, 0]);
    }
    let mut other = TcpStream::connect(rig.channel().handshake_address()).unwrap();
    greet(&mut other, "DEALER", &[0, 0]);
    other.write_all(&framed(b"\x81\xa6status\xa3BYE")).unwrap();
    other.write_all(&framed(b"no map")).unwrap();
    // A sign of life is wanted, and given.
    engine.output.write_all(b"\x04\x09\x04PING\x00\x0ahi").unwrap();
    engine.output.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert_eq!(frame(&mut engine.output), (4, b"\x04PONGhi".to_vec()));
    engine.step(&[&name], 7, Some(1));
    assert_eq!(rig.whole(under_way).unwrap().token_ids, [7]);
}

#[test]
fn calls_are_answered_by_their_numbers() {
    let rig = Rig::new();
    let mut engine = rig.engine();
    let answer = |call: u8, failure: &[u8]| {
        let mut out = b"\x95\x00\x90\xc0\x00\x93".to_vec();
        out.push(call);
        out.extend_from_slice(failure);
        out.push(0xc0);
        out
    };
    let pause = async {
        let channel = rig.channel();
        tokio::join!(
            channel.control(Control::Pause(PauseMode::Keep)),
            channel.control(Control::Resume)
        )
    };
    let played = std::thread::scope(|scope| {
        let played = scope.spawn(|| {
            let (first, second) = (engine.asked(), engine.asked());
            assert_eq!(first, (3, b"\x94\x00\x00\xafpause_scheduler\x91\xa4keep".to_vec()));
            assert_eq!(second, (3, b"\x94\x00\x01\xb0resume_scheduler\x90".to_vec()));
            engine.output.write_all(&framed(&answer(1, b"\xa2no"))).unwrap();
            engine.output.write_all(&framed(&answer(0xff, b"\xc0"))).unwrap();
            engine.output.write_all(&framed(&answer(9, b"\xc0"))).unwrap();
            engine.output.write_all(&framed(&answer(0, b"\xc0"))).unwrap();
            engine
        });
        let (paused, resumed) = rig.runtime.block_on(pause);
        assert_eq!(paused, Ok(()));
        assert_eq!(resumed.unwrap_err(), Error::new(ErrorKind::Refused, "no"));
        played.join()
    });
    let mut engine = played.unwrap();
    // An end that nobody asked for is no end.
    let (under_way, name) = (rig.ask(1), engine.added());
    engine.step(&[&name], 7, Some(2));
    assert_eq!(rig.fails(under_way).kind, ErrorKind::Lost);
    let (under_way, name) = (rig.ask(1), engine.added());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            assert_eq!(engine.asked().1, b"\x94\x00\x02\xafpause_scheduler\x91\xa5abort");
            engine.step(&[&name], 7, Some(2));
            engine.output.write_all(&framed(&answer(2, b"\xc0"))).unwrap();
        });
        rig.runtime.block_on(rig.channel().control(Control::Pause(PauseMode::Abort))).unwrap();
    });
    assert_eq!(rig.whole(under_way).unwrap().finish(), Some(&Finish::Aborted));
    // A version that could not be set leaves an engine of which nothing is known.
    let under_way = rig.ask(1);
    engine.added();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let set = engine.asked();
            assert_eq!(set, (3, b"\x94\x00\x03\xb2set_weight_version\x91\xa16".to_vec()));
            engine.output.write_all(&framed(&answer(3, b"\xa2no"))).unwrap();
        });
        let set =
            rig.runtime.block_on(rig.channel().control(Control::SetVersion(PolicyVersion(6))));
        assert_eq!(set.unwrap_err().kind, ErrorKind::Lost);
    });
    assert_eq!(rig.fails(under_way).kind, ErrorKind::Lost);
    assert_eq!(rig.fails(rig.ask(2)).kind, ErrorKind::Lost);
    rig.engine();
}

#[test]
fn what_cannot_be_asked_is_refused_before_it_is_sent() {
    let rig = Rig::new();
    let _engine = rig.engine();
    let sampling = Sampling { stop: vec!["x".to_owned()], ..Sampling::default() };
    let text = Request { sampling: sampling.into(), ..request(1, &[1], 1) };
    assert_eq!(rig.fails(rig.channel().generate(text)).kind, ErrorKind::Unsupported);
    assert!(!rig.channel().capabilities().stop_strings);
    assert_eq!(rig.fails(rig.channel().generate(request(1, &[128], 1))).kind, ErrorKind::Refused);
    assert_eq!(rig.fails(rig.channel().generate(request(1, &[], 1))).kind, ErrorKind::Refused);
    let elsewhere = EngineCoreOptions {
        handshake: ([0, 0, 0, 0], 0).into(),
        ..options(&rig.folder, &rig.runtime)
    };
    assert_eq!(EngineCore::bind(elsewhere).unwrap_err().kind, ErrorKind::Refused);
}

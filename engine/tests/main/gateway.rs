//! `envmill env serve URL…`: several servers as one, and the worker behind it.

use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use envmill::gateway::{Gateway, Options};
use envmill_openenv::{OpenEnvWorker, Server};
use envmill_protocol::{Command, Event, FailureKind, Generation, Outcome, Request, ServerId, Slot};
use envmill_testing::{
    EnvmillCommand, PythonServer, Running, Watchdog, free_port, get, post, wait_until,
};
use envmill_workers::{
    Worker,
    conformance::{self, Subject},
};
use serde_json::Value;

use crate::rig::{BOUND, ENVMILL, Job, bench_server, own_bench_server, server_with};

/// A gateway as a user starts it.
pub(crate) struct Serving {
    _process: Running,
    address: SocketAddr,
}

impl Serving {
    pub(crate) fn start(servers: &[&PythonServer], arguments: &[&str]) -> Self {
        let port = free_port().unwrap();
        let process = EnvmillCommand::new(ENVMILL)
            .args(["env", "serve", "--port", &port.to_string()])
            .args(arguments)
            .args(servers.iter().map(|server| server.url()))
            .start()
            .unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        wait_until("the gateway is healthy", BOUND, || {
            get(address, "/health").is_ok_and(|(status, _)| status == 200)
        });
        Self { _process: process, address }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

fn gateway(servers: &[&PythonServer], options: Options) -> Gateway<OpenEnvWorker> {
    let urls: Vec<String> = servers.iter().map(|server| server.url()).collect();
    let known = urls.iter().map(Server::new).collect();
    let worker = OpenEnvWorker::new(envmill_openenv::Options::new(known)).unwrap();
    Gateway::new(worker, urls, None, options)
}

struct Stock([PythonServer; 2]);

impl Subject for Stock {
    fn worker(&self) -> Box<dyn Worker> {
        Box::new(gateway(&[&self.0[0], &self.0[1]], Options::default()))
    }

    fn action(&self) -> Bytes {
        Bytes::from_static(b"{}")
    }

    fn refused_action(&self) -> Bytes {
        Bytes::from_static(br#"{"payload_bytes":"many"}"#)
    }

    fn slow_action(&self) -> Option<Bytes> {
        Some(Bytes::from_static(br#"{"sleep_s":0.3}"#))
    }

    fn sessions(&self) -> u32 {
        32
    }
}

#[test]
fn a_gateway_conforms() {
    let _watchdog = Watchdog::start("gateway", BOUND);
    conformance::run_all(&Stock([own_bench_server(), own_bench_server()]));
}

/// A gateway, command by command.
struct Hand {
    gateway: Gateway<OpenEnvWorker>,
    generations: [Generation; 8],
}

impl Hand {
    fn send(&mut self, slot: u32, request: Request) {
        let generation = &mut self.generations[slot as usize];
        *generation = generation.next();
        let command = Command { slot: Slot(slot), generation: *generation, request };
        self.gateway.submit(&mut vec![command]);
    }

    /// The next event, which must be of this slot.
    fn answer(&mut self, slot: u32) -> Outcome {
        let began = Instant::now();
        let mut events: Vec<Event> = Vec::new();
        while events.is_empty() && began.elapsed() < BOUND {
            self.gateway.completions(&mut events, Duration::from_secs(1));
        }
        assert_eq!(events.len(), 1, "{events:?}");
        let event = events.remove(0);
        assert_eq!((event.slot, event.generation), (Slot(slot), self.generations[slot as usize]));
        event.outcome
    }

    fn ask(&mut self, slot: u32, request: Request) -> Outcome {
        self.send(slot, request);
        self.answer(slot)
    }

    fn open(&mut self, slot: u32) {
        assert_eq!(self.ask(slot, Request::Open { server: ServerId(0) }), Outcome::Opened);
    }

    fn reset(&mut self, slot: u32) {
        let outcome = self.ask(slot, Request::Reset { parameters: Bytes::new() });
        assert!(matches!(outcome, Outcome::Reset(_)), "{outcome:?}");
    }

    fn step(&mut self, slot: u32, action: &'static str) -> Outcome {
        self.ask(slot, Request::Step { action: Bytes::from_static(action.as_bytes()) })
    }

    fn steps_taken(&mut self, slot: u32) -> u64 {
        match self.ask(slot, Request::State) {
            Outcome::State(state) => {
                let state: Value = serde_json::from_slice(&state).unwrap();
                state["step_count"].as_u64().unwrap()
            }
            outcome => panic!("{outcome:?}"),
        }
    }

    fn close(&mut self, slot: u32) {
        assert_eq!(self.ask(slot, Request::Close), Outcome::Closed);
    }
}

fn by_hand(servers: &[&PythonServer], options: Options) -> Hand {
    Hand { gateway: gateway(servers, options), generations: [Generation::default(); 8] }
}

#[test]
fn a_client_never_sees_what_another_has_left() {
    let _watchdog = Watchdog::start("left", BOUND);
    // One session is all that it holds, so that the second client can only get it or wait for its end.
    let server = server_with("bench_env", &[("MAX_CONCURRENT_ENVS", "1")]);
    let mut hand = by_hand(&[&server], Options::default());
    hand.open(0);
    hand.reset(0);
    for _ in 0..3 {
        hand.step(0, "{}");
    }
    assert_eq!(hand.steps_taken(0), 3);
    hand.close(0);
    // Without a reset it must be a new environment.
    hand.open(1);
    assert_eq!(hand.steps_taken(1), 0);
    hand.step(1, "{}");
    hand.reset(1);
    hand.step(1, "{}");
    hand.close(1);
    // And with one it may be the old one.
    hand.open(0);
    hand.reset(0);
    assert_eq!(hand.steps_taken(0), 0);
    hand.step(0, "{}");
    hand.close(0);
}

#[test]
fn who_finds_no_room_waits_and_is_refused_in_the_end() {
    let _watchdog = Watchdog::start("room", BOUND);
    let server = server_with("bench_env", &[("MAX_CONCURRENT_ENVS", "1")]);
    let options = Options { wait_max: Duration::from_millis(500), ..Options::default() };
    let mut hand = by_hand(&[&server], options);
    hand.open(0);
    hand.reset(0);
    hand.open(1);
    match hand.ask(1, Request::Reset { parameters: Bytes::new() }) {
        Outcome::Failed(failure) => assert_eq!(failure.kind, FailureKind::Capacity),
        outcome => panic!("{outcome:?}"),
    }
    hand.open(1);
    hand.send(1, Request::Reset { parameters: Bytes::new() });
    hand.send(0, Request::Close);
    // The place of the one is the other's.
    assert_eq!(hand.answer(0), Outcome::Closed);
    assert!(matches!(hand.answer(1), Outcome::Reset(_)));
}

#[test]
fn a_step_that_never_ends_is_cut() {
    let _watchdog = Watchdog::start("late", BOUND);
    let mut options = Options::default();
    options.deadlines.step = Some(Duration::from_millis(300));
    let mut hand = by_hand(&[bench_server()], options);
    hand.open(0);
    hand.reset(0);
    match hand.step(0, r#"{"sleep_s":30}"#) {
        Outcome::Failed(failure) => {
            assert_eq!(failure.kind, FailureKind::Deadline(envmill_protocol::Phase::Step));
        }
        outcome => panic!("{outcome:?}"),
    }
    hand.open(0);
    hand.reset(0);
}

#[test]
fn a_server_that_dies_takes_only_its_sessions_with_it() {
    let _watchdog = Watchdog::start("death", BOUND);
    let mut servers = [own_bench_server(), own_bench_server()];
    let mut hand = by_hand(&[&servers[0], &servers[1]], Options::default());
    for slot in 0..4 {
        hand.open(slot);
        hand.reset(slot);
    }
    servers[0].kill();
    // Two have learned of it, each once, and whoever comes new is led around it.
    let lost: Vec<u32> =
        (0..4).filter(|&slot| matches!(hand_step(&mut hand, slot), Outcome::Failed(_))).collect();
    assert_eq!(lost.len(), 2, "{lost:?}");
    for slot in lost {
        hand.open(slot);
        hand.reset(slot);
        assert!(matches!(hand.step(slot, "{}"), Outcome::Stepped(_)));
    }
}

/// A step, or the news that the session is gone, which may come before it is asked for.
fn hand_step(hand: &mut Hand, slot: u32) -> Outcome {
    let mut events = Vec::new();
    hand.gateway.completions(&mut events, Duration::from_millis(200));
    // What is lost with nothing under way is told with the last command's number; then the step is of
    // a session that is no more, and told so.
    assert!(events.iter().all(|event| matches!(event.outcome, Outcome::Failed(_))), "{events:?}");
    hand.step(slot, "{}")
}

#[test]
fn without_any_server_the_reason_is_told() {
    let _watchdog = Watchdog::start("none", BOUND);
    let mut server = own_bench_server();
    let options = Options { wait_max: Duration::from_millis(500), ..Options::default() };
    let mut hand = by_hand(&[&server], options);
    server.kill();
    hand.open(0);
    match hand.ask(0, Request::Reset { parameters: Bytes::new() }) {
        Outcome::Failed(failure) => {
            assert_eq!(failure.kind, FailureKind::Unreachable);
            assert!(failure.message.contains(&server.url()), "{failure}");
        }
        outcome => panic!("{outcome:?}"),
    }
}

#[test]
fn a_pool_plays_like_its_servers() {
    let servers = [server_with("choice_env", &[]), server_with("choice_env", &[])];
    let arguments = "--episodes 40 --seed 5 --max-steps 6 --policy random --sessions";
    let hashes = |name: &str, url: &str, sessions: &str| {
        let played = Job::on(name, url).words(arguments).args([sessions]).play();
        played.all_played();
        let mut hashes: Vec<_> =
            played.records.iter().map(|record| record.content_hash.0).collect();
        hashes.sort_unstable();
        hashes
    };
    let directly = hashes("a server", &servers[0].url(), "8");
    let serving = Serving::start(&[&servers[0], &servers[1]], &[]);
    assert_eq!(directly, hashes("the pool", &serving.url(), "24"));
}

#[test]
fn more_clients_than_there_is_room_for_take_turns() {
    let few = [("MAX_CONCURRENT_ENVS", "2")];
    let servers = [server_with("bench_env", &few), server_with("bench_env", &few)];
    let serving = Serving::start(&[&servers[0], &servers[1]], &[]);
    let played = Job::on("turns", &serving.url())
        .words("--episodes 60 --sessions 12 --max-steps 3 --session-reuse never --policy")
        .args([r#"constant:{"sleep_s":0.01}"#])
        .play();
    played.all_played();
}

#[test]
fn what_a_pool_says_of_itself_is_what_its_servers_say() {
    let server = server_with("tasks_env", &[]);
    let serving = Serving::start(&[&server], &[]);
    for path in ["/metadata", "/schema", "/list_environments"] {
        assert_eq!(get(serving.address, path).unwrap(), get(server.address(), path).unwrap());
    }
    let listed = get(server.address(), "/list_environments").unwrap().1;
    let names: Vec<String> = serde_json::from_str(&listed).unwrap();
    let name = names[0].replace(' ', "%20");
    let splits = format!("/{name}/splits");
    assert_eq!(get(serving.address, &splits).unwrap(), get(server.address(), &splits).unwrap());
    for (question, body) in [
        ("num_tasks", r#"{"split":"train"}"#),
        ("tasks", r#"{"split":"train"}"#),
        ("task", r#"{"split":"train","index":0}"#),
        ("task", r#"{"split":"train","index":1000000}"#),
        ("task_range", r#"{"split":"train","start":0,"stop":2}"#),
    ] {
        let path = format!("/{name}/{question}");
        let theirs = post(server.address(), &path, body).unwrap();
        assert_eq!(post(serving.address, &path, body).unwrap(), theirs, "{question} {body}");
    }
}

/// A server says of five tasks of 5 MiB each what they are, which is more than one answer may have.
#[test]
fn tasks_that_are_too_large_for_one_answer_come_in_several() {
    let directory = tempfile::tempdir().unwrap();
    let asked = directory.path().join("asked");
    let variables = [("TASK_BYTES", "5242880"), ("ASKED", asked.to_str().unwrap())];
    let server = server_with("named_tasks_env", &variables);
    let serving = Serving::start(&[&server], &[]);
    for url in [server.url(), serving.url()] {
        let played = Job::on("large tasks", &url)
            .words("--epochs 1 --split train --sessions 2 --max-steps 1")
            .play();
        let ids: BTreeSet<&str> = played.records.iter().map(|it| it.task_id.as_str()).collect();
        assert_eq!(ids, BTreeSet::from(["word-0", "word-1", "word-2", "word-3", "word-4"]));
        let lines = fs::read_to_string(&asked).unwrap();
        assert_eq!(lines.lines().collect::<Vec<_>>(), ["0:5", "0:2", "2:4", "4:5"], "{url}");
        fs::remove_file(&asked).unwrap();
    }
}

#[test]
fn a_server_that_fails_to_say_what_its_tasks_are_is_asked_once() {
    let directory = tempfile::tempdir().unwrap();
    let asked = directory.path().join("asked");
    let variables = [("RANGE_FAILS", "1"), ("ASKED", asked.to_str().unwrap())];
    let server = server_with("named_tasks_env", &variables);
    let refused =
        Job::on("failing tasks", &server.url()).words("--epochs 1 --split train").refused();
    assert!(refused.contains("task_range answered 500: the server failed"), "{refused}");
    assert_eq!(fs::read_to_string(&asked).unwrap(), "0:5\n");
}

#[test]
fn what_does_not_go_together_is_refused() {
    for (arguments, told) in [
        (&["http://127.0.0.1:1", "native:echo"][..], "is no server's URL"),
        (&[r#"openenv-class:no_module:E?arguments={"a":"http://b"}"#], "no_module"),
        (&["native:echo", "native:cartpole"], "only servers are served together"),
        (&["native:echo", "--header", "a: b"], "--header is for servers"),
        (&["http://127.0.0.1:1", "--processes", "2"], "--processes is for environments"),
        (&["http://127.0.0.1:1"], "cannot be reached"),
        (&["http://127.0.0.1:1", "--bearer-env", "NO_SUCH_VARIABLE"], "NO_SUCH_VARIABLE"),
    ] {
        let finished =
            EnvmillCommand::new(ENVMILL).args(["env", "serve"]).args(arguments).run().unwrap();
        assert_eq!(finished.code(), Some(2), "{arguments:?}");
        assert!(finished.stderr.contains(told), "{arguments:?}: {}", finished.stderr);
    }
}

//! What becomes of a server's offers: of true ones, of lies, and of those that were true once.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use envmill_protocol::PolicyVersion;
use serde_json::{Value, json};

use crate::{
    Constraint, Control, HttpTarget, Inference as _, TOP_LOGPROBS_MAX, VllmHttp, VllmHttpOptions,
    VllmMemoryOptions,
    memory::{
        VERSION,
        tests::mock::{Met, Mock, Says, request},
    },
};

use super::{VllmNearest, Way, here};

/// vLLM's HTTP server, as far as it is asked here.
struct Server {
    port: u16,
    /// What it says of shared memory; `None`: it does not know the question.
    offer: Arc<Mutex<Option<String>>>,
    /// So many generations came.
    generations: Arc<AtomicUsize>,
}

impl Server {
    fn start() -> Self {
        let it = Self::new();
        it.listen();
        it
    }

    /// One that is not up yet.
    fn new() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self { port, offer: Arc::default(), generations: Arc::default() }
    }

    fn listen(&self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).unwrap();
        let (offer, generations) = (Arc::clone(&self.offer), Arc::clone(&self.generations));
        // It ends with the tests' process.
        thread::spawn(move || {
            for stream in listener.incoming() {
                // Whoever only wants to see the address says nothing.
                let _ = answer(&stream.unwrap(), &offer, &generations);
            }
        });
    }

    fn engine(&self, mock: &Mock) -> VllmNearest {
        let url = format!("http://127.0.0.1:{}", self.port);
        let target = HttpTarget { url, api_key: None };
        let options = VllmHttpOptions { target, model: None, route: None };
        let runtime = mock.runtime.handle();
        VllmNearest::new(VllmHttp::new(options, runtime.clone()).unwrap(), runtime.clone())
    }

    /// What the plug-in says that listens at the mock's socket.
    fn truth(&self, mock: &Mock) -> Value {
        json!({
            "version": VERSION,
            "socket": mock.options().socket,
            "engine": "one",
            "host": here::host(),
            "port": self.port,
        })
    }

    fn say(&self, offer: &Value) {
        *self.offer.lock().unwrap() = Some(offer.to_string());
    }
}

fn answer(
    stream: &TcpStream,
    offer: &Mutex<Option<String>>,
    generations: &AtomicUsize,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let (mut first, mut length) = (String::new(), 0);
    reader.read_line(&mut first)?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim().to_ascii_lowercase();
        if let Some(bytes) = line.strip_prefix("content-length: ") {
            length = bytes.parse().unwrap();
        }
        if line.is_empty() {
            break;
        }
    }
    reader.read_exact(&mut vec![0; length])?;
    let told = match first.split(' ').nth(1) {
        Some("/v1/envmill") => offer.lock().unwrap().clone(),
        Some("/metrics") => Some("vllm:kv_cache_usage_perc 0.5\n".to_owned()),
        Some("/inference/v1/generate") => {
            generations.fetch_add(1, Ordering::Relaxed);
            let choice = json!({"token_ids": [7], "finish_reason": "length"});
            Some(json!({"choices": [choice]}).to_string())
        }
        _ => None,
    };
    let (status, body) = told.map_or(("404 Not Found", String::new()), |it| ("200 OK", it));
    let length = body.len();
    write!(
        &mut &*stream,
        "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

/// The next that comes to the mock's socket, whose question how busy vLLM is gets its answer.
fn tried(mock: &Mock) -> Met {
    let mut met = mock.meet_one_of(&VllmMemoryOptions::new(""));
    let load = met.next();
    assert_eq!((load.len(), load[0].kind), (1, 8));
    met.tell(&[Says { number: load[0].number, kind: 5, text: b"{}".to_vec(), ..Says::default() }]);
    met
}

fn chosen(mock: &Mock, engine: &VllmNearest) -> (Way, Met) {
    let asking = engine.clone();
    let asked = mock.runtime.spawn(async move { asking.choose().await });
    let met = tried(mock);
    (mock.runtime.block_on(asked).unwrap(), met)
}

/// One token, from whomever.
fn sampled(mock: &Mock, engine: &VllmNearest) -> u32 {
    let generation = engine.generate(request(1, &[1], 1));
    mock.runtime.block_on(generation.whole()).unwrap().token_ids[0]
}

#[test]
fn shared_memory_that_answers_is_taken() {
    let (mock, server) = (Mock::new(), Server::start());
    let engine = server.engine(&mock);
    server.say(&server.truth(&mock));
    let (way, mut met) = chosen(&mock, &engine);
    assert_eq!(way, Way::Memory { socket: mock.options().socket });
    assert_eq!(engine.way(), way);
    let generation = engine.generate(request(1, &[1], 1));
    let asked = met.next();
    met.tell(&[Says::end(asked[0].number, &[9])]);
    assert_eq!(mock.runtime.block_on(generation.whole()).unwrap().token_ids, [9]);
    assert_eq!(server.generations.load(Ordering::Relaxed), 0);
}

#[test]
fn whoever_wants_more_than_tokens_needs_no_other_channel() {
    let (mock, server) = (Mock::new(), Server::start());
    let engine = server.engine(&mock);
    server.say(&server.truth(&mock));
    let (_way, mut met) = chosen(&mock, &engine);
    let can = engine.capabilities();
    assert!(can.constraints && can.top_logprobs == TOP_LOGPROBS_MAX, "{can:?}");
    let mut wants_more = request(1, &[1], 1);
    let sampling = Arc::make_mut(&mut wants_more.sampling);
    sampling.constraint = Some(Constraint::JsonObject);
    sampling.top_logprobs = TOP_LOGPROBS_MAX;
    let generation = engine.generate(wants_more);
    let asked = met.next();
    assert_eq!((asked[0].constraint, asked[0].top_logprobs), (1, TOP_LOGPROBS_MAX));
    let top: Vec<_> = (0..TOP_LOGPROBS_MAX).map(|it| (it, -1.0)).collect();
    met.tell(&[Says::end(asked[0].number, &[9]).with_top(&top)]);
    assert_eq!(mock.runtime.block_on(generation.whole()).unwrap().token_ids, [9]);
    assert_eq!(server.generations.load(Ordering::Relaxed), 0);
}

#[test]
fn offers_that_are_none_lies_and_other_hosts_leave_it_at_http() {
    let (mock, server) = (Mock::new(), Server::start());
    let engine = server.engine(&mock);
    let stale = mock.options().socket.with_extension("stale");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    let but = |key: &str, value: Value| {
        let mut offer = server.truth(&mock);
        offer[key] = value;
        Some(offer.to_string())
    };
    for (offer, instead) in [
        (None, None),
        (Some("{}".to_owned()), Some("missing field")),
        (Some("<html>".to_owned()), Some("expected value")),
        (but("socket", Value::Null), None),
        (but("host", json!("another")), Some("another host")),
        (but("host", json!("")), Some("another host")),
        (but("port", json!(server.port ^ 1)), Some("behind something")),
        (but("port", Value::Null), Some("no port")),
        (but("version", json!(VERSION + 1)), Some("speaks version")),
        (but("version", json!(VERSION - 1)), Some("install the `envmill` of this version")),
        (but("socket", json!(stale)), Some("stale")),
        (but("socket", json!("/nowhere/at/all")), Some("nowhere")),
        (but("socket", json!("x".repeat(500))), Some("xxx")),
    ] {
        server.offer.lock().unwrap().clone_from(&offer);
        let way = mock.runtime.block_on(engine.choose());
        let Way::Http { instead: said } = way else { panic!("{offer:?} is taken") };
        match (instead, &said) {
            (None, None) => {}
            (Some(word), Some(said)) if said.contains(word) => {}
            _ => panic!("{offer:?} is left as {said:?}"),
        }
        assert_eq!(sampled(&mock, &engine), 7, "{offer:?}");
    }
}

#[test]
fn the_socket_of_another_vllm_is_not_spoken_with() {
    let (mock, server) = (Mock::new(), Server::start());
    let engine = server.engine(&mock);
    let mut offer = server.truth(&mock);
    offer["engine"] = json!("two");
    server.say(&offer);
    let asking = engine.clone();
    let asked = mock.runtime.spawn(async move { asking.choose().await });
    let _met = mock.meet_one_of(&VllmMemoryOptions::new(""));
    let way = mock.runtime.block_on(asked).unwrap();
    assert!(way.to_string().contains("another vLLM listens there"), "{way}");
    assert_eq!(sampled(&mock, &engine), 7);
}

#[test]
fn a_server_that_was_lost_is_asked_again() {
    let (mock, server) = (Mock::new(), Server::start());
    let engine = server.engine(&mock);
    server.say(&server.truth(&mock));
    let (_, mut met) = chosen(&mock, &engine);
    let set = {
        let engine = engine.clone();
        let version = Control::SetVersion(PolicyVersion(3));
        mock.runtime.spawn(async move { engine.control(version).await })
    };
    let number = met.next()[0].number;
    met.tell(&[Says { number, kind: 4, ..Says::default() }]);
    mock.runtime.block_on(set).unwrap().unwrap();
    // It comes back without the plug-in: whoever looks after replicas asks how busy they are.
    std::fs::remove_file(mock.options().socket).unwrap();
    drop(met);
    *server.offer.lock().unwrap() = None;
    let load = mock.runtime.block_on(engine.load()).unwrap().unwrap();
    assert_eq!(engine.way(), Way::Http { instead: None });
    assert!((load.kv_cache - 0.5).abs() < 1e-9);
    let generation = engine.generate(request(1, &[1], 1));
    let outcome = mock.runtime.block_on(generation.whole()).unwrap();
    assert_eq!(outcome.token_ids, [7]);
    // What it was told over the other channel is known over this one.
    assert_eq!(outcome.versions[0].version, PolicyVersion(3));
}

#[test]
fn a_server_that_is_not_there_yet_is_asked_once_it_is() {
    let mock = Mock::new();
    let server = Server::new();
    let engine = server.engine(&mock);
    assert_eq!(mock.runtime.block_on(engine.choose()), Way::Http { instead: None });
    mock.runtime.block_on(engine.load()).unwrap_err();
    server.say(&server.truth(&mock));
    server.listen();
    let asking = engine.clone();
    let asked = mock.runtime.spawn(async move { asking.load().await });
    let mut met = tried(&mock);
    // And then the question itself.
    let number = met.next()[0].number;
    met.tell(&[Says { number, kind: 5, text: b"{}".to_vec(), ..Says::default() }]);
    assert_eq!(mock.runtime.block_on(asked).unwrap().unwrap(), None);
    assert_eq!(engine.way(), Way::Memory { socket: mock.options().socket });
}

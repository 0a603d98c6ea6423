//! A stock OpenEnv server and a front beside it, asked the same.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use envmill_front::{Description, Mode, Options};
use envmill_testing::{PythonServer, PythonServerOptions, wait_until};
use serde_json::{Value, json};

use crate::{
    client::{Answer, Came, Ws, ask_as, create, rpc, rpc_text},
    script::{Script, Stage},
    served::Served,
};

/// How long a test with a stock server may take.
pub(crate) const WATCHDOG: Duration = Duration::from_secs(300);

pub(crate) struct Twin {
    pub(crate) python: PythonServer,
    pub(crate) front: Served,
    pub(crate) stage: Arc<Stage>,
    /// While it exists, the stock server's environment cannot be made.
    fail_file: PathBuf,
}

/// How a twin is set up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) mode: Mode,
    pub(crate) max_sessions: u32,
    pub(crate) bare: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self { mode: Mode::Simulation, max_sessions: 64, bare: false }
    }
}

/// A twin that is shared by all tests that only ask it.
pub(crate) fn shared() -> &'static Twin {
    static SHARED: LazyLock<Twin> = LazyLock::new(|| Twin::start(Setup::default()));
    &SHARED
}

/// The same for production mode, and for an environment without tools and tasks.
pub(crate) fn shared_in_production() -> &'static Twin {
    static SHARED: LazyLock<Twin> = LazyLock::new(|| {
        Twin::start(Setup { mode: Mode::Production, bare: true, ..Setup::default() })
    });
    &SHARED
}

impl Twin {
    pub(crate) fn start(setup: Setup) -> Self {
        // No directory of its own: those that are shared are never dropped, and would leave it behind.
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("twin-{}-{number}.fails", std::process::id());
        let fail_file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let mode = match setup.mode {
            Mode::Simulation => "simulation",
            Mode::Production => "production",
        };
        let mut options = PythonServerOptions::new("front_env")
            .env("FAIL_FILE", fail_file.display())
            .env("OPENENV_MODE", mode)
            .env("MAXS", setup.max_sessions);
        if setup.bare {
            options = options.env("BARE", 1);
        }
        let python = PythonServer::start(options).unwrap();

        let stage = Arc::new(Stage::default());
        stage.bare.store(setup.bare, Ordering::SeqCst);
        if !setup.bare {
            // What tools there are is the environment's business: the worker says what it says.
            let body = rpc_text("tools/list", &json!({}));
            let listed = ask_as(python.address(), "POST", "/mcp", "", body.as_bytes()).body;
            let (_, result) = listed.split_once(r#""result":"#).expect("a result");
            let result = result.strip_suffix('}').expect("the response's end");
            result.clone_into(&mut stage.tools.lock().unwrap());
        }
        let schema = ask_as(python.address(), "GET", "/schema", "", b"").json();
        let text = |key: &str| schema[key].to_string().into();
        let mut options = Options::new(Description {
            name: "ignored".into(),
            env_name: "front".into(),
            metadata: ask_as(python.address(), "GET", "/metadata", "", b"").body.into(),
            action_schema: text("action"),
            observation_schema: text("observation"),
            reset_observation_schema: text("reset_observation"),
            state_schema: text("state"),
            ..Description::default()
        });
        options.mode = setup.mode;
        options.max_sessions = setup.max_sessions;
        let front = Served::start(options, Script::new(Arc::clone(&stage)));
        Self { python, front, stage, fail_file }
    }

    /// From now on constructing an environment fails, or not.
    pub(crate) fn fail_construction(&self, fails: bool) {
        self.stage.factory_fails.store(fails, Ordering::SeqCst);
        if fails {
            fs::write(&self.fail_file, "").unwrap();
        } else {
            fs::remove_file(&self.fail_file).unwrap();
        }
    }

    /// Both answers to the same request.
    pub(crate) fn both(&self, method: &str, path: &str, body: &[u8]) -> [Answer; 2] {
        let headers = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
        self.both_as(method, path, headers, body)
    }

    pub(crate) fn both_as(
        &self,
        method: &str,
        path: &str,
        headers: &str,
        body: &[u8],
    ) -> [Answer; 2] {
        [self.python.address(), self.front.address]
            .map(|server| ask_as(server, method, path, headers, body))
    }

    /// Both answer with the same status, type, redirection and body, byte for byte. Returns the status.
    #[track_caller]
    pub(crate) fn same(&self, method: &str, path: &str, body: &str) -> u16 {
        let [expected, got] = self.both(method, path, body.as_bytes());
        let what = format!("{method} {path} {body}");
        assert_eq!((got.status, &*got.body), (expected.status, &*expected.body), "{what}");
        assert_eq!(got.header("content-type"), expected.header("content-type"), "{what}");
        // A redirection leads to one's own address.
        let servers = [self.python.url(), self.front.url()];
        let [expected, location] = [(&expected, &servers[0]), (&got, &servers[1])]
            .map(|(answer, url)| answer.header("location").map(|to| to.replace(url, "")));
        assert_eq!(location, expected, "{what}");
        got.status
    }

    /// Both answer with the same status and JSON, each with its own way to write a number or a space.
    #[track_caller]
    pub(crate) fn same_json(&self, method: &str, path: &str, body: &str) -> u16 {
        let [expected, got] =
            self.both(method, path, body.as_bytes()).map(|answer| (answer.status, answer.json()));
        assert_eq!(got, expected, "{method} {path} {body}");
        got.0
    }

    /// A session made over HTTP, on each.
    pub(crate) fn sessions(&self) -> [String; 2] {
        [self.python.address(), self.front.address].map(create)
    }

    /// The same of a request in which `$S` stands for a session, each server having its own.
    #[track_caller]
    pub(crate) fn same_of(&self, sessions: &[String; 2], path: &str, body: &str) -> Value {
        let servers = [self.python.address(), self.front.address];
        let [expected, got] = [0, 1].map(|side| {
            let (name, body) = (&sessions[side], body.replace("$S", &sessions[side]));
            let answer = ask_as(
                servers[side],
                "POST",
                path,
                "Content-Type: application/json\r\n",
                body.as_bytes(),
            );
            (answer.status, answer.body.replace(name, "$S"))
        });
        assert_eq!(got, expected, "{path} {body}");
        serde_json::from_str(&got.1).unwrap()
    }

    /// A WebSocket on each, `$S` in the path standing for a session.
    pub(crate) fn sockets(&self, sessions: &[String; 2], path: &str) -> Pair {
        let servers = [self.python.address(), self.front.address];
        let sockets =
            [0, 1].map(|side| Ws::open(servers[side], &path.replace("$S", &sessions[side])));
        Pair { sockets, sessions: sessions.clone() }
    }
}

impl Twin {
    /// Waits until nobody is attached to the sessions any more: a server notices in its own time that
    /// a socket has gone.
    pub(crate) fn detached(&self, sessions: &[String; 2]) {
        drop(self.reattached(sessions));
        for (server, session) in
            [self.python.address(), self.front.address].into_iter().zip(sessions)
        {
            wait_until("nobody is attached", WATCHDOG, || {
                let mut socket = Ws::open(server, &format!("/ws?session_id={session}"));
                let attached = socket.ask(r#"{"type":"state"}"#)["type"] == "state";
                if attached {
                    // As the last to be attached; its going is seen before its close is answered.
                    socket.send(r#"{"type":"close"}"#);
                    assert_eq!(socket.came(), Came::Closed(1000));
                }
                attached
            });
        }
    }

    /// Attaches to the sessions as soon as that can be done.
    pub(crate) fn reattached(&self, sessions: &[String; 2]) -> Pair {
        let servers = [self.python.address(), self.front.address];
        let sockets = [0, 1].map(|side| {
            let path = format!("/ws?session_id={}", sessions[side]);
            let mut found = None;
            wait_until("a socket is attached", WATCHDOG, || {
                let mut socket = Ws::open(servers[side], &path);
                if socket.ask(r#"{"type":"state"}"#)["type"] == "state" {
                    found = Some(socket);
                }
                found.is_some()
            });
            found.unwrap()
        });
        Pair { sockets, sessions: sessions.clone() }
    }

    /// Waits until both have given the sessions up.
    pub(crate) fn ended(&self, sessions: &[String; 2]) {
        for (server, session) in
            [self.python.address(), self.front.address].into_iter().zip(sessions)
        {
            wait_until("the session has ended", WATCHDOG, || {
                let told = rpc(server, "ping", &json!({ "session_id": session }));
                told["error"]["code"] == -32602
            });
        }
    }
}

/// No sessions to speak of.
pub(crate) const NONE: [String; 2] = [String::new(), String::new()];

/// A WebSocket to each of the two.
pub(crate) struct Pair {
    pub(crate) sockets: [Ws; 2],
    pub(crate) sessions: [String; 2],
}

impl Pair {
    pub(crate) fn send(&mut self, text: &str) {
        for (socket, session) in self.sockets.iter_mut().zip(&self.sessions) {
            socket.send(&text.replace("$S", session));
        }
    }

    /// What came from both, with `$S` for their sessions.
    pub(crate) fn came(&mut self) -> [Came; 2] {
        let mut came = self.sockets.each_mut().map(Ws::came);
        for (came, session) in came.iter_mut().zip(&self.sessions) {
            if let Came::Frame(frame) = came
                && !session.is_empty()
            {
                let text = frame.to_string().replace(session.as_str(), "$S");
                *frame = serde_json::from_str(&text).unwrap();
            }
        }
        came
    }

    /// Both send the same frame, or close with the same code.
    #[track_caller]
    pub(crate) fn same(&mut self) -> Came {
        let [expected, got] = self.came();
        assert_eq!(got, expected);
        got
    }

    /// Both answer the same.
    #[track_caller]
    pub(crate) fn ask(&mut self, text: &str) -> Value {
        self.send(text);
        let [expected, got] = self.came();
        assert_eq!(got, expected, "{text}");
        match got {
            Came::Frame(frame) => frame,
            Came::Closed(code) => panic!("{text}: closed with {code}"),
        }
    }

    pub(crate) fn close(self) {
        self.sockets.into_iter().for_each(Ws::close);
    }
}

//! A headless Chromium, to see a page as a reader's browser sees it: what it draws, what it asks the
//! network for, and what it complains about.

use std::{
    collections::VecDeque,
    fs,
    net::{Ipv4Addr, TcpStream},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tempfile::TempDir;
use tungstenite::{Message, WebSocket, protocol::WebSocketConfig};

use crate::{Processes, watchdog::becomes_true};

/// What Chromium is called, by who packs it. `cargo xtask` looks for the same.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// How long Chromium may take to start, or to answer. Generous: it is a large program.
const ANSWER_BOUND: Duration = Duration::from_secs(120);

/// The largest message that is taken from it: a picture of a long page.
const MESSAGE_BYTES_MAX: usize = 256 * 1024 * 1024;

/// How many events are kept that nobody has asked for yet.
const EVENTS_MAX: usize = 100_000;

/// A running Chromium with a profile of its own, driven through its DevTools protocol. Dropping it ends it.
#[derive(Debug)]
pub struct Chromium {
    socket: WebSocket<TcpStream>,
    last_id: u64,
    events: VecDeque<Value>,
    // Ended before the profile is removed.
    _processes: Processes,
    _profile: TempDir,
}

/// How a page is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// The width of the screen, in CSS pixels.
    pub width: u32,
    /// The height of the screen, in CSS pixels.
    pub height: u32,
    /// Whether it is a phone, with a viewport and a touch screen.
    pub is_phone: bool,
    /// Whether the reader prefers dark pages.
    pub is_dark: bool,
    /// Whether it is looked at as on paper.
    pub is_print: bool,
}

/// An open page.
#[derive(Debug)]
pub struct Tab<'a> {
    browser: &'a mut Chromium,
    session: String,
    target: String,
}

/// What a page did that a reader would not see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Behaviour {
    /// The URLs that it asked for, the page itself first.
    pub requests: Vec<String>,
    /// What stands in the console: messages, exceptions, violations of the page's policy, issues.
    pub complaints: Vec<String>,
}

impl View {
    /// A phone, 375 wide.
    pub const PHONE: Self =
        Self { width: 375, height: 812, is_phone: true, is_dark: false, is_print: false };

    /// A desktop, 1440 wide.
    pub const DESKTOP: Self =
        Self { width: 1440, height: 900, is_phone: false, is_dark: false, is_print: false };

    /// The same in the dark.
    #[must_use]
    pub const fn dark(self) -> Self {
        Self { is_dark: true, ..self }
    }

    /// The same on paper.
    #[must_use]
    pub const fn printed(self) -> Self {
        Self { is_print: true, ..self }
    }
}

impl Chromium {
    /// Starts the Chromium of this machine.
    ///
    /// # Errors
    ///
    /// When there is none, or it does not start.
    pub fn start() -> Result<Self> {
        let name = NAMES.iter().find(|name| is_there(name)).with_context(|| {
            format!("none of {} is there: on Debian, `apt-get install chromium`", NAMES.join(", "))
        })?;
        let profile = tempfile::tempdir()?;
        let mut command = Command::new(name);
        command
            // Containers have no namespaces to make a sandbox of, and only our own pages are opened.
            .args(["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"])
            .args(["--no-first-run", "--disable-extensions", "--disable-background-networking"])
            .args(["--disable-component-update", "--hide-scrollbars"])
            .args(["--remote-debugging-address=127.0.0.1", "--remote-debugging-port=0"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            // It is killed, and leaves what it has made.
            .env("TMPDIR", profile.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::from(fs::File::create(profile.path().join("log"))?));
        let mut processes =
            Processes::spawn(&mut command).with_context(|| format!("cannot start {name}"))?;
        let socket = connect(profile.path(), &mut processes).with_context(|| {
            let log = fs::read_to_string(profile.path().join("log")).unwrap_or_default();
            format!("{name} did not start:\n{log}")
        })?;
        Ok(Self {
            socket,
            last_id: 0,
            events: VecDeque::new(),
            _processes: processes,
            _profile: profile,
        })
    }

    /// Opens `url` and waits until it is loaded.
    ///
    /// # Errors
    ///
    /// When it cannot be loaded.
    pub fn open(&mut self, url: &str, view: View) -> Result<Tab<'_>> {
        let target = self.call(None, "Target.createTarget", json!({ "url": "about:blank" }))?;
        let target = string(&target, "targetId")?;
        let attach = json!({ "targetId": target, "flatten": true });
        let session = string(&self.call(None, "Target.attachToTarget", attach)?, "sessionId")?;
        self.events.clear();
        let mut tab = Tab { browser: self, session, target };
        for domain in ["Page", "Runtime", "Log", "Network", "Audits"] {
            tab.call(&format!("{domain}.enable"), json!({}))?;
        }
        tab.look(view)?;
        let loaded = tab.call("Page.navigate", json!({ "url": url }))?;
        if let Some(error) = loaded.get("errorText").and_then(Value::as_str) {
            bail!("{url} was not loaded: {error}");
        }
        tab.browser.event("Page.loadEventFired")?;
        Ok(tab)
    }

    /// Asks for something and waits for the answer.
    fn call(&mut self, session: Option<&str>, method: &str, parameters: Value) -> Result<Value> {
        self.last_id += 1;
        let id = self.last_id;
        let mut message = json!({ "id": id, "method": method });
        message["params"] = parameters;
        if let Some(session) = session {
            message["sessionId"] = session.into();
        }
        self.socket.send(Message::text(message.to_string()))?;
        let start = Instant::now();
        loop {
            let mut message = self.read().with_context(|| format!("no answer to {method}"))?;
            if message.get("id").and_then(Value::as_u64) == Some(id) {
                if let Some(error) = message.get("error") {
                    bail!("{method}: {error}");
                }
                return Ok(message["result"].take());
            }
            ensure!(start.elapsed() < ANSWER_BOUND, "no answer to {method}");
            self.keep(message)?;
        }
    }

    /// Waits for an event, unless it has come already. It stays among the others.
    fn event(&mut self, method: &str) -> Result<()> {
        let start = Instant::now();
        while !self.events.iter().any(|event| event["method"] == method) {
            let message = self.read().with_context(|| format!("{method} never came"))?;
            ensure!(start.elapsed() < ANSWER_BOUND, "{method} never came");
            self.keep(message)?;
        }
        Ok(())
    }

    fn keep(&mut self, event: Value) -> Result<()> {
        ensure!(self.events.len() < EVENTS_MAX, "the page makes more than {EVENTS_MAX} events");
        self.events.push_back(event);
        Ok(())
    }

    fn read(&mut self) -> Result<Value> {
        loop {
            if let Message::Text(text) = self.socket.read()? {
                return Ok(serde_json::from_str(&text)?);
            }
        }
    }
}

impl Tab<'_> {
    /// Looks at it on another screen.
    ///
    /// # Errors
    ///
    /// When Chromium refuses.
    pub fn look(&mut self, view: View) -> Result<()> {
        let screen = json!({
            "width": view.width, "height": view.height, "mobile": view.is_phone,
            "deviceScaleFactor": if view.is_phone { 2 } else { 1 },
        });
        self.call("Emulation.setDeviceMetricsOverride", screen)?;
        let scheme = if view.is_dark { "dark" } else { "light" };
        let media = json!({
            "media": if view.is_print { "print" } else { "" },
            "features": [{ "name": "prefers-color-scheme", "value": scheme }],
        });
        self.call("Emulation.setEmulatedMedia", media)?;
        Ok(())
    }

    /// What an expression of JavaScript comes to in the page.
    ///
    /// # Errors
    ///
    /// When it throws.
    pub fn evaluate(&mut self, expression: &str) -> Result<Value> {
        let question = json!({ "expression": expression, "returnByValue": true });
        let mut answer = self.call("Runtime.evaluate", question)?;
        if let Some(thrown) = answer.get("exceptionDetails") {
            bail!("{expression} threw {thrown}");
        }
        Ok(answer["result"]["value"].take())
    }

    /// What the page has done so far.
    ///
    /// # Errors
    ///
    /// When Chromium is gone.
    pub fn behaviour(&mut self) -> Result<Behaviour> {
        // What happened before this is answered has been told by then; what is drawn has been asked for.
        let drawn =
            "new Promise(done => requestAnimationFrame(() => setTimeout(() => done(true))))";
        let question = json!({ "expression": drawn, "awaitPromise": true });
        self.call("Runtime.evaluate", question)?;
        let mut behaviour = Behaviour::default();
        for event in &self.browser.events {
            let of = &event["params"];
            match event["method"].as_str().unwrap_or_default() {
                "Network.requestWillBeSent" => {
                    let url = of["request"]["url"].as_str().unwrap_or_default();
                    behaviour.requests.push(url.to_owned());
                }
                "Log.entryAdded" => behaviour.complaints.push(of["entry"].to_string()),
                "Runtime.exceptionThrown" | "Runtime.consoleAPICalled" | "Audits.issueAdded" => {
                    behaviour.complaints.push(of.to_string());
                }
                _ => {}
            }
        }
        Ok(behaviour)
    }

    /// Writes a picture (PNG) of the whole page.
    ///
    /// # Errors
    ///
    /// When it cannot be taken or written.
    pub fn picture(&mut self, path: &Path) -> Result<()> {
        let how = json!({ "format": "png", "captureBeyondViewport": true });
        let picture = string(&self.call("Page.captureScreenshot", how)?, "data")?;
        fs::write(path, STANDARD.decode(picture)?)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    fn call(&mut self, method: &str, parameters: Value) -> Result<Value> {
        self.browser.call(Some(&self.session), method, parameters)
    }
}

impl Drop for Tab<'_> {
    fn drop(&mut self) {
        // A browser that is gone has no open page either.
        let close = json!({ "targetId": self.target });
        let _ = self.browser.call(None, "Target.closeTarget", close);
    }
}

fn is_there(name: &str) -> bool {
    let mut command = Command::new(name);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Connects to the port that Chromium has chosen and written down.
fn connect(profile: &Path, processes: &mut Processes) -> Result<WebSocket<TcpStream>> {
    let mut found = None;
    becomes_true(ANSWER_BOUND, &mut || {
        found = fs::read_to_string(profile.join("DevToolsActivePort")).ok().and_then(|text| {
            let (port, path) = text.split_once('\n')?;
            Some((port.parse::<u16>().ok()?, path.trim().to_owned()))
        });
        found.is_some() || !processes.is_running()
    });
    let (port, path) = found.context("it did not say where it listens")?;
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(ANSWER_BOUND))?;
    stream.set_write_timeout(Some(ANSWER_BOUND))?;
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let url = format!("ws://127.0.0.1:{port}{path}");
    let (socket, _) = tungstenite::client::client_with_config(url, stream, Some(config))?;
    Ok(socket)
}

fn string(value: &Value, key: &str) -> Result<String> {
    let string = value.get(key).and_then(Value::as_str);
    Ok(string.with_context(|| format!("no {key} in {value}"))?.to_owned())
}

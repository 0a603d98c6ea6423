//! What `envmill check` looks at: a server that is there, or one that is started for it.

use std::{
    path::{Path, PathBuf},
    sync::Mutex,
    time::Duration,
};

use envmill_check::{Draw, Started, Stop, Surroundings};
use envmill_openenv::{Server, Tool, describe};
use envmill_protocol::ServerId;
use tempfile::TempDir;

use super::Host;
use crate::{
    children::{Children, Launch, Settings},
    config::{Local, Source},
    policy::Sampler,
    progress::say,
};

/// What the user asks for.
pub(super) struct Wanted<'a> {
    pub(super) target: Option<&'a str>,
    pub(super) serve: Option<&'a str>,
    pub(super) python: Option<&'a Path>,
    pub(super) python_path: &'a [PathBuf],
    pub(super) headers: &'a [(String, String)],
    pub(super) ca: Option<&'a Path>,
    pub(super) start_deadline: Duration,
    pub(super) quiet: bool,
}

/// A server to look at.
pub(super) struct Target {
    name: String,
    url: String,
    /// How it was started, if it was, in either mode.
    launches: Option<[Launch; 2]>,
    is_ours: bool,
    /// Held for its end.
    _children: Option<Mutex<Children>>,
    /// Where servers print to; it goes with the check.
    logs: TempDir,
    options: envmill_openenv::Options,
    headers: Vec<(String, String)>,
    start_deadline: Duration,
    tools: Vec<Tool>,
    stop: Stop,
    quiet: bool,
}

impl Target {
    /// Starts what is to be started, and asks it for its tools before any session takes its room.
    pub(super) fn start(wanted: &Wanted<'_>, host: &Host, stop: &Stop) -> Result<Self, String> {
        let (name, launches, url) = match (wanted.serve, wanted.target) {
            (Some(command), _) => {
                if !command.contains("{port}") {
                    return Err(
                        "--serve: the command has no {port}, where its server listens".into()
                    );
                }
                let production = format!("export OPENENV_MODE=production; {command}");
                let launches = [Launch::Shell(command.into()), Launch::Shell(production)];
                (command.to_owned(), Some(launches), String::new())
            }
            (None, Some(target)) => {
                match Source::parse(target).map_err(|error| error.to_string())? {
                    Source::Url(url) => (target.to_owned(), None, url),
                    Source::Local(local) | Source::Served(local) => {
                        let launches = ours(&local, wanted, host)?;
                        (target.to_owned(), Some(launches), String::new())
                    }
                    Source::Command(_) => return Err("a command goes after --serve".into()),
                }
            }
            (None, None) => return Err("give a target, or --serve CMD".into()),
        };
        let mut options = envmill_openenv::Options::new(Vec::new());
        options.ca_file = wanted.ca.map(Path::to_owned);
        let logs = tempfile::Builder::new()
            .prefix("envmill-check-")
            .tempdir()
            .map_err(|error| format!("no directory for the server's output: {error}"))?;
        let mut target = Self {
            name,
            url,
            is_ours: wanted.serve.is_none() && launches.is_some(),
            launches,
            _children: None,
            logs,
            options,
            headers: wanted.headers.to_vec(),
            start_deadline: wanted.start_deadline,
            tools: Vec::new(),
            stop: stop.clone(),
            quiet: wanted.quiet,
        };
        if let Some([simulation, _]) = target.launches.clone() {
            let (url, children) = target.launch(simulation, 0)?;
            target.url = url;
            target._children = Some(Mutex::new(children));
        }
        let server = Server { headers: target.headers.clone(), ..Server::new(&target.url) };
        // What is wrong with either is for the checks to say.
        if let Ok(description) = describe(&server, &target.options)
            && Sampler::takes_tools(&description.action_schema)
        {
            target.tools = envmill_openenv::tools(&server, &target.options).unwrap_or_default();
        }
        Ok(target)
    }

    fn launch(&self, launch: Launch, number: u32) -> Result<(String, Children), String> {
        let log = self.logs.path().join(format!("{number}.log"));
        let settings = Settings {
            servers: vec![(ServerId(number), launch, log)],
            options: self.options.clone(),
            headers: self.headers.clone(),
            start_deadline: self.start_deadline,
        };
        let children = Children::start(settings, || self.stop.is_asked())
            .map_err(|error| error.to_string())?;
        let url = children.urls().into_iter().next().unwrap_or_default();
        Ok((url, children))
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Says that what answers is not the environment's own server.
    pub(super) fn front(&self) -> Option<String> {
        self.is_ours.then(|| {
            "the environment was behind Envmill's own server: what was found of protocol, endpoints, \
             capacity, wire and modes is that server's"
                .into()
        })
    }
}

/// How our own server of an environment is started, in either mode.
fn ours(environment: &Local, wanted: &Wanted<'_>, host: &Host) -> Result<[Launch; 2], String> {
    let python = wanted.python.or(host.python.as_deref());
    let launch = |production| {
        Launch::ours(&host.program, environment, python, wanted.python_path, production)
    };
    let [simulation, production] = [launch(false), launch(true)];
    let told = |error: std::io::Error| error.to_string();
    Ok([simulation.map_err(told)?, production.map_err(told)?])
}

impl Surroundings for Target {
    fn sampler(&self, action_schema: &str) -> Result<Box<dyn Draw>, String> {
        let sampler = Sampler::compile_with_tools(action_schema.as_bytes(), &self.tools)
            .map_err(|error| error.to_string())?;
        Ok(Box::new(Drawn(sampler)))
    }

    fn production(&self) -> Option<Result<Started, String>> {
        let [_, production] = self.launches.clone()?;
        Some(
            self.launch(production, 1)
                .map(|(url, children)| Started { url, kept: Box::new(children) }),
        )
    }

    fn tell(&self, check: &str, number: usize, of: usize) {
        if !self.quiet {
            say(&format!("{number}/{of} {check}"));
        }
    }
}

struct Drawn(Sampler);

impl Draw for Drawn {
    fn draw(&mut self, seed: u64, step: u32, observation: &[u8]) -> Result<String, String> {
        let action = self.0.draw(seed, step, observation).map_err(|error| error.to_string())?;
        String::from_utf8(action.to_vec()).map_err(|error| error.to_string())
    }
}

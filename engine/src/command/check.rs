//! `envmill check`.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use envmill_check::{
    Baseline, CHECKS, Options, Peer, PeerOptions, Script, Stop, Subject, quote, run as run_checks,
};
use serde_json::{Map, Value};

use super::{
    Host,
    servers::{ServerFlags, hidden},
    signals,
    target::{Target, Wanted},
};
use crate::{policy::PolicySpec, progress::say, replay::Recording};

/// Something of severity error was found.
const ERRORS: u8 = 1;
/// Cut by Ctrl-C: what was found until then is told.
const CUT: u8 = 130;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The environment: the URL of an OpenEnv server, or one that is put behind Envmill's own server:
    /// native:NAME, openenv-class:module:Class, python:gymnasium/ID or python:module:factory.
    #[arg(required_unless_present_any = ["serve", "list"])]
    target: Option<String>,

    /// A command that starts the server on `{port}`, in place of a target. It is started in production
    /// mode, too, to compare.
    #[arg(long, value_name = "CMD", conflicts_with = "target")]
    serve: Option<String>,

    /// Tell which checks there are, and what they prove.
    #[arg(long)]
    list: bool,

    /// Only these checks, with commas between them.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,

    /// Less of everything: about a third of the time.
    #[arg(long)]
    quick: bool,

    /// What resets and drawn actions follow from.
    #[arg(long, value_name = "N", default_value_t = 7)]
    seed: u64,

    /// How many episodes of random actions statistics are made of, in groups of four with one seed.
    /// [default: 64; with --quick 24]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    episodes: Option<u32>,

    /// The most steps of an episode.
    #[arg(long, value_name = "N", default_value_t = Options::MAX_STEPS, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_steps: u32,

    /// The most sessions that are opened at once to find how many there can be.
    #[arg(long, value_name = "N", default_value_t = Options::MAX_SESSIONS, value_parser = clap::value_parser!(u32).range(1..=16_384))]
    max_sessions: u32,

    /// The actions of the episodes that are compared: a JSON array of objects. Without it they are drawn
    /// from the action schema.
    #[arg(long, value_name = "JSON")]
    actions: Option<String>,

    /// What is sent with every reset beside the seed: a JSON object.
    #[arg(long, value_name = "JSON")]
    reset: Option<String>,

    /// How long any answer may take.
    #[arg(long, value_name = "MS", default_value_t = 45_000, value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    timeout_ms: u64,

    /// A policy that is compared with random actions: constant:JSON or replay:FILE.
    #[arg(long, value_name = "POLICY")]
    policy: Option<PolicySpec>,

    /// The process of a server on this machine, if it is not the one that listens on the URL's port.
    #[arg(long, value_name = "PID")]
    server_pid: Option<u32>,

    /// Write the report as JSON to this file; `-` is standard output, in place of the table.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Do not tell which check runs.
    #[arg(long)]
    quiet: bool,

    #[command(flatten)]
    servers: ServerFlags,

    /// Python environments: the interpreter.
    #[arg(long, value_name = "PROGRAM")]
    python: Option<PathBuf>,

    /// Python environments: directories in which modules are looked for first.
    #[arg(long, value_name = "DIR")]
    python_path: Vec<PathBuf>,

    /// How long a server that is started may take until it answers.
    #[arg(long, value_name = "MS", default_value_t = 120_000)]
    start_timeout_ms: u64,
}

pub(super) fn run(arguments: &Arguments, host: &Host) -> Result<u8, String> {
    if arguments.list {
        let mut stdout = std::io::stdout();
        for check in CHECKS {
            let _ = writeln!(stdout, "{:<13} {}", check.name, check.about);
        }
        return Ok(0);
    }
    let options = arguments.options()?;
    if let Some(unknown) =
        options.only.iter().find(|name| CHECKS.iter().all(|it| it.name != **name))
    {
        return Err(envmill_check::RunError::Unknown { name: unknown.clone() }.to_string());
    }
    let baseline =
        arguments.policy.as_ref().map(|policy| baseline(policy, &options)).transpose()?;
    let stop = Stop::default();
    signals::stop_check(stop.clone()).map_err(|error| error.to_string())?;
    let headers = arguments.servers.headers()?;
    let wanted = Wanted {
        target: arguments.target.as_deref(),
        serve: arguments.serve.as_deref(),
        python: arguments.python.as_deref(),
        python_path: &arguments.python_path,
        headers: &headers,
        ca: arguments.servers.ca.as_deref(),
        start_deadline: Duration::from_millis(arguments.start_timeout_ms),
        quiet: arguments.quiet,
    };
    let target = match Target::start(&wanted, host, &stop) {
        Err(_) if stop.is_asked() => return Ok(CUT),
        started => started?,
    };
    let peer = Peer::new(PeerOptions {
        url: target.url().to_owned(),
        headers,
        ca: arguments.servers.ca.clone(),
        timeout: options.timeout,
        stop,
    })
    .map_err(|error| error.to_string())?;
    let subject = Subject::new(options, peer, &target, arguments.server_pid, baseline);
    let mut report = run_checks(&subject, target.name()).map_err(|error| error.to_string())?;
    report.front = target.front();
    match &arguments.json {
        Some(path) => {
            let text = serde_json::to_string_pretty(&report).map_err(|error| error.to_string())?;
            if path == Path::new("-") {
                let _ = writeln!(std::io::stdout(), "{text}");
            } else {
                fs::write(path, text + "\n")
                    .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
                let _ = writeln!(std::io::stdout(), "{report}");
            }
        }
        None => {
            let _ = writeln!(std::io::stdout(), "{report}");
        }
    }
    if !report.complete {
        say(&format!("interrupted; not run to the end: {}", report.not_run.join(", ")));
        return Ok(CUT);
    }
    Ok(if report.totals.errors > 0 { ERRORS } else { 0 })
}

impl Arguments {
    fn options(&self) -> Result<Options, String> {
        let actions = match &self.actions {
            None => Vec::new(),
            Some(text) => {
                let actions: Vec<Map<String, Value>> = serde_json::from_str(text).map_err(|error| {
                    format!("--actions: {error}; write a JSON array of objects, such as '[{{\"move\":1}}]'")
                })?;
                actions.into_iter().map(|action| Value::Object(action).to_string()).collect()
            }
        };
        let reset = match &self.reset {
            None => Map::new(),
            Some(text) => serde_json::from_str(text)
                .map_err(|error| format!("--reset: {error}; write a JSON object"))?,
        };
        let few = if self.quick { 24 } else { Options::EPISODES };
        Ok(Options {
            invocation: self.invocation(),
            seed: self.seed,
            episodes: self.episodes.unwrap_or(few),
            max_steps: self.max_steps,
            max_sessions: self.max_sessions,
            actions,
            reset,
            timeout: Duration::from_millis(self.timeout_ms),
            quick: self.quick,
            only: self.only.clone(),
        })
    }

    /// The command and its target; values of headers may be secrets and are left out.
    fn invocation(&self) -> String {
        let mut words = vec!["envmill".to_owned(), "check".into()];
        words.extend(self.target.as_deref().map(quote));
        let mut flag = |name: &str, value: &str| words.extend([format!("--{name}"), quote(value)]);
        let path = |path: &PathBuf| path.display().to_string();
        if let Some(serve) = &self.serve {
            flag("serve", serve);
        }
        for header in &self.servers.header {
            flag("header", &hidden(header));
        }
        if let Some(variable) = &self.servers.bearer_env {
            flag("bearer-env", variable);
        }
        if let Some(file) = &self.servers.bearer_file {
            flag("bearer-file", &path(file));
        }
        if let Some(ca) = &self.servers.ca {
            flag("ca", &path(ca));
        }
        if let Some(python) = &self.python {
            flag("python", &path(python));
        }
        for directory in &self.python_path {
            flag("python-path", &path(directory));
        }
        if let Some(policy) = &self.policy {
            flag("policy", &policy.to_string());
        }
        if let Some(pid) = self.server_pid {
            flag("server-pid", &pid.to_string());
        }
        words.join(" ")
    }
}

/// The episodes of a policy that is no random one.
fn baseline(policy: &PolicySpec, options: &Options) -> Result<Baseline, String> {
    let scripts = match policy {
        PolicySpec::Constant(action) => {
            let action = String::from_utf8_lossy(action).into_owned();
            let script = Script { seed: None, actions: vec![action], repeats: true };
            vec![script; options.episodes as usize]
        }
        PolicySpec::Replay(path) => {
            let recording = Recording::read(path).map_err(|error| error.to_string())?;
            recording
                .episodes()
                .take(options.episodes as usize)
                .map(|record| {
                    let record = record.map_err(|error| error.to_string())?;
                    let action = |step: &envmill_protocol::record::Step| {
                        String::from_utf8_lossy(&step.action).into_owned()
                    };
                    let actions = record.steps.iter().map(action).collect();
                    Ok(Script { seed: record.seed, actions, repeats: false })
                })
                .collect::<Result<_, String>>()?
        }
        PolicySpec::Random | PolicySpec::Model(_) => {
            return Err(
                "--policy: a check compares constant:JSON or replay:FILE with random actions; play a \
                 language model with `envmill run` and give its records as replay:FILE"
                    .into(),
            );
        }
    };
    Ok(Baseline { name: policy.to_string(), scripts })
}

//! `envmill env`: environments without a server of their own, served over the OpenEnv protocol.

use std::{
    io::Write,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use envmill_front::{Description, Front, Mode, Options, Placement, listen, runtime};
use envmill_native::{ENVIRONMENTS, Parameters, environment};
use envmill_python_worker::PythonWorker;
use envmill_workers::Worker;
use tokio::signal::unix::{SignalKind, signal};

use super::{Host, pool, starter};
use crate::{
    config::{Local, Native},
    fleet::python_options,
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Serve an environment. Prints its URL.
    Serve(Box<Serve>),
    /// Tell which native environments there are.
    List,
}

#[derive(Debug, clap::Args)]
pub(super) struct Serve {
    /// The environment: a native one (`envmill env list` names them), with parameters as in
    /// NAME?parameter=value; openenv-class:module:Class for an OpenEnv environment class;
    /// python:gymnasium/ID or python:module:factory for a Gymnasium environment; or the URLs of OpenEnv
    /// servers of one environment, which become one server.
    #[arg(required = true)]
    target: Vec<String>,
    /// The address to listen on.
    #[arg(long, default_value = "127.0.0.1")]
    host: IpAddr,
    /// The port; 0 for any free one.
    #[arg(long, default_value_t = 8000)]
    port: u16,
    /// The most sessions at once.
    #[arg(long, default_value_t = 65_536)]
    max_sessions: u32,
    /// Serve in production mode: without /reset, /step and /state over HTTP.
    #[arg(long)]
    production: bool,
    /// Python environments: the interpreter.
    #[arg(long, value_name = "PROGRAM")]
    python: Option<PathBuf>,
    /// Python environments: directories in which modules are looked for first.
    #[arg(long, value_name = "DIR")]
    python_path: Vec<PathBuf>,
    /// Python environments: how many worker processes. [default: one for each core]
    #[arg(long, value_name = "N")]
    processes: Option<u32>,
    /// synthetic: how long a step takes, in milliseconds.
    #[arg(long)]
    step_ms: Option<String>,
    /// synthetic: by which share of itself a step's time varies.
    #[arg(long)]
    jitter: Option<String>,
    /// synthetic: the share of steps with a heavy-tailed time.
    #[arg(long)]
    tail: Option<String>,
    /// synthetic: bytes of payload in an observation.
    #[arg(long)]
    payload_bytes: Option<String>,
    /// synthetic: the share of steps that fail.
    #[arg(long)]
    fail_rate: Option<String>,
    /// synthetic: the mean number of steps of an episode.
    #[arg(long)]
    episode_steps: Option<String>,
    /// Any parameter of a native environment, as NAME=VALUE.
    #[arg(long, value_name = "NAME=VALUE")]
    parameter: Vec<String>,
    #[command(flatten)]
    pool: pool::Arguments,
    /// The process that has started this one. The server ends when that process does, and tells it on
    /// standard output what came of the start: the URL, or `error: ` and why there is none.
    #[arg(long, value_name = "PID", hide = true)]
    started_by: Option<u32>,
}

pub(super) fn run(command: Command, host: &Host) -> Result<u8, String> {
    match command {
        Command::List => {
            let mut stdout = std::io::stdout();
            for about in ENVIRONMENTS {
                let _ = writeln!(stdout, "{:<12} {}", about.name, about.description);
            }
            Ok(0)
        }
        Command::Serve(serve) => {
            let served = self::serve(&serve, host);
            if let (Err(message), Some(_)) = (&served, serve.started_by) {
                let _ = writeln!(std::io::stdout(), "error: {message}");
            }
            served.map(|()| 0)
        }
    }
}

/// The first of these flags that was given.
pub(super) fn first_given(flags: &[(&'static str, bool)]) -> Option<&'static str> {
    flags.iter().find(|(_, is_given)| *is_given).map(|(flag, _)| *flag)
}

impl Serve {
    /// A flag that only concerns environments of this machine, if one was given.
    fn local_flag(&self) -> Option<&'static str> {
        first_given(&[
            ("python", self.python.is_some()),
            ("python-path", !self.python_path.is_empty()),
            ("processes", self.processes.is_some()),
            ("step-ms", self.step_ms.is_some()),
            ("jitter", self.jitter.is_some()),
            ("tail", self.tail.is_some()),
            ("payload-bytes", self.payload_bytes.is_some()),
            ("fail-rate", self.fail_rate.is_some()),
            ("episode-steps", self.episode_steps.is_some()),
            ("parameter", !self.parameter.is_empty()),
        ])
    }

    const fn mode(&self) -> Mode {
        if self.production { Mode::Production } else { Mode::Simulation }
    }

    fn parameters(&self, native: &Native) -> Result<Parameters, String> {
        let mut parameters = native.parameters.clone();
        for pair in &self.parameter {
            let Some((name, value)) = pair.split_once('=') else {
                return Err(format!("--parameter: `{pair}` has no value: write NAME=VALUE"));
            };
            parameters.insert(name.replace('-', "_"), value.into());
        }
        for (name, value) in [
            ("step_ms", &self.step_ms),
            ("jitter", &self.jitter),
            ("tail", &self.tail),
            ("payload_bytes", &self.payload_bytes),
            ("fail_rate", &self.fail_rate),
            ("episode_steps", &self.episode_steps),
        ] {
            if let Some(value) = value {
                parameters.insert(name.into(), value.clone());
            }
        }
        Ok(parameters)
    }
}

fn serve(serve: &Serve, host: &Host) -> Result<(), String> {
    if !serve.host.is_loopback() {
        return Err(format!(
            "--host {}: this server asks nobody who they are, so it listens on loopback only; put a \
             proxy with authentication in front of it",
            serve.host
        ));
    }
    if let Some(pid) = serve.started_by {
        starter::end_with(pid).map_err(|error| format!("--started-by: {error}"))?;
    }
    // Without it the server still runs, with fewer sessions.
    let _ = envmill_openenv::raise_descriptor_limit();
    let (options, worker) = worker(serve, host)?;
    let address = SocketAddr::new(serve.host, serve.port);
    let listener = listen(address).map_err(|error| {
        format!("cannot listen on {address}: {error}; choose another --port, or 0 for any")
    })?;
    let bound = listener.local_addr().map_err(|error| error.to_string())?;
    let served = runtime().and_then(|runtime| {
        runtime.block_on(async {
            // Whoever reads the URL may end the server from then on, and have it end in good order.
            let mut terminated = signal(SignalKind::terminate())?;
            let mut interrupted = signal(SignalKind::interrupt())?;
            let mut stdout = std::io::stdout();
            let _ = writeln!(stdout, "http://{bound}");
            let _ = stdout.flush();
            let shutdown = async move {
                tokio::select! {
                    _ = terminated.recv() => {}
                    _ = interrupted.recv() => {}
                }
            };
            Front::new(options, worker).serve(listener, shutdown).await
        })
    });
    served.map_err(|error| error.to_string())
}

/// What is served, and who steps it.
fn worker(serve: &Serve, host: &Host) -> Result<(Options, Box<dyn Worker>), String> {
    // Not wherever a URL stands: an environment may have one among its arguments.
    let is_url = |target: &String| {
        ["http://", "https://", "ws://", "wss://"].iter().any(|scheme| target.starts_with(scheme))
    };
    if serve.target.iter().any(is_url) {
        if let Some(flag) = serve.local_flag() {
            return Err(format!("--{flag} is for environments, and these are servers of one"));
        }
        return serve.pool.worker(&serve.target, serve.max_sessions, serve.mode());
    }
    let [target] = &serve.target[..] else {
        return Err("only servers are served together: give one environment, or URLs".into());
    };
    if let Some(flag) = serve.pool.flag() {
        return Err(format!("--{flag} is for servers that there are: give their URLs"));
    }
    match target.parse().map_err(|error| format!("{error}"))? {
        Local::Native(native) => self::native(serve, &native),
        source => self::python(serve, &source, host),
    }
}

fn native(serve: &Serve, native: &Native) -> Result<(Options, Box<dyn Worker>), String> {
    let environment =
        environment(&native.name, &serve.parameters(native)?).map_err(|error| error.to_string())?;
    let schemas = environment.schemas().clone();
    let mut options = Options::new(Description {
        name: environment.about().name.into(),
        description: environment.about().description.into(),
        version: env!("CARGO_PKG_VERSION").into(),
        action_schema: schemas.action,
        observation_schema: schemas.observation,
        state_schema: schemas.state,
        ..Description::default()
    });
    options.max_sessions = serve.max_sessions;
    options.mode = serve.mode();
    Ok((options, Box::new(environment.worker())))
}

fn python(
    serve: &Serve,
    source: &Local,
    host: &Host,
) -> Result<(Options, Box<dyn Worker>), String> {
    let program = serve.python.as_deref().or(host.python.as_deref());
    let python = python_options(source, program, &serve.python_path);
    let mut python = python.ok_or("this is no Python environment")?;
    python.placement = envmill_python_worker::Placement::Even;
    python.production = serve.production;
    python.metadata = true;
    if let Some(processes) = serve.processes {
        python.set_processes(processes);
    }
    python.sessions_per_process = serve.max_sessions.div_ceil(python.processes.max(1));
    let processes = python.processes;
    let (worker, described) = PythonWorker::start(python).map_err(|error| error.to_string())?;
    let mut options = Options::new(Description {
        name: described.name.clone(),
        env_name: described.name,
        metadata: described.metadata,
        action_schema: described.action_schema,
        observation_schema: described.observation_schema,
        reset_observation_schema: described.reset_observation_schema,
        state_schema: described.state_schema,
        ..Description::default()
    });
    options.max_sessions =
        serve.max_sessions.min(processes.saturating_mul(worker.sessions_per_process()));
    options.mode = serve.mode();
    options.placement = Placement::OwnThread;
    Ok((options, Box::new(worker)))
}

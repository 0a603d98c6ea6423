//! `envmill env`: native environments, served over the OpenEnv protocol.

use std::{
    io::Write,
    net::{IpAddr, SocketAddr},
};

use envmill_front::{Description, Front, Options, listen, runtime};
use envmill_native::{ENVIRONMENTS, Parameters, environment};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Serve a native environment. Prints its URL.
    Serve(Box<Serve>),
    /// Tell which native environments there are.
    List,
}

#[derive(Debug, clap::Args)]
pub(super) struct Serve {
    /// The environment; `envmill env list` names them.
    name: String,
    /// The address to listen on.
    #[arg(long, default_value = "127.0.0.1")]
    host: IpAddr,
    /// The port; 0 for any free one.
    #[arg(long, default_value_t = 8000)]
    port: u16,
    /// The most sessions at once.
    #[arg(long, default_value_t = 65_536)]
    max_sessions: u32,
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
    /// Any parameter, as NAME=VALUE.
    #[arg(long, value_name = "NAME=VALUE")]
    parameter: Vec<String>,
}

pub(super) fn run(command: Command) -> Result<u8, String> {
    match command {
        Command::List => {
            let mut stdout = std::io::stdout();
            for about in ENVIRONMENTS {
                let _ = writeln!(stdout, "{:<12} {}", about.name, about.description);
            }
            Ok(0)
        }
        Command::Serve(serve) => self::serve(&serve).map(|()| 0),
    }
}

impl Serve {
    fn parameters(&self) -> Result<Parameters, String> {
        let mut parameters = Parameters::new();
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

fn serve(serve: &Serve) -> Result<(), String> {
    if !serve.host.is_loopback() {
        return Err(format!(
            "--host {}: this server asks nobody who they are, so it listens on loopback only; put a \
             proxy with authentication in front of it",
            serve.host
        ));
    }
    let environment =
        environment(&serve.name, &serve.parameters()?).map_err(|error| error.to_string())?;
    // Without it the server still runs, with fewer sessions.
    let _ = envmill_openenv::raise_descriptor_limit();
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
    let address = SocketAddr::new(serve.host, serve.port);
    let listener = listen(address).map_err(|error| {
        format!("cannot listen on {address}: {error}; choose another --port, or 0 for any")
    })?;
    let bound = listener.local_addr().map_err(|error| error.to_string())?;
    let mut stdout = std::io::stdout();
    let _ = writeln!(stdout, "http://{bound}");
    let _ = stdout.flush();
    let served = runtime().and_then(|runtime| {
        runtime.block_on(async {
            let mut terminated = signal(SignalKind::terminate())?;
            let shutdown = async move {
                tokio::select! {
                    _ = terminated.recv() => {}
                    _ = tokio::signal::ctrl_c() => {}
                }
            };
            Front::new(options, Box::new(environment.worker())).serve(listener, shutdown).await
        })
    });
    served.map_err(|error| error.to_string())
}

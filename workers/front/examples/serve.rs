//! Serves a native environment: `serve NAME [--port P] [--max-sessions N] [--own-thread]
//! [--PARAMETER VALUE]…`. Prints the address on stdout.

use std::{env, net::SocketAddr};

use anyhow::{Context, Result, bail};
use envmill_front::{Description, Front, Options, Placement, listen, runtime};
use envmill_native::{Parameters, environment};
use tokio::signal::unix::{SignalKind, signal};

#[allow(clippy::print_stdout, reason = "the address is this program's output")]
fn main() -> Result<()> {
    let mut arguments = env::args().skip(1);
    let name = arguments.next().context("which environment?")?;
    let mut port = 0;
    let mut max_sessions = None;
    let mut placement = Placement::SameThread;
    let mut parameters = Parameters::new();
    while let Some(flag) = arguments.next() {
        let Some(flag) = flag.strip_prefix("--") else { bail!("a flag, not {flag}") };
        if flag == "own-thread" {
            placement = Placement::OwnThread;
            continue;
        }
        let value = arguments.next().with_context(|| format!("--{flag} needs a value"))?;
        match flag {
            "port" => port = value.parse()?,
            "max-sessions" => max_sessions = Some(value.parse()?),
            _ => {
                parameters.insert(flag.replace('-', "_"), value);
            }
        }
    }
    let environment = environment(&name, &parameters)?;
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
    options.placement = placement;
    if let Some(max) = max_sessions {
        options.max_sessions = max;
    }
    let listener = listen(SocketAddr::from(([127, 0, 0, 1], port)))?;
    println!("http://{}", listener.local_addr()?);
    runtime()?.block_on(async {
        let mut terminated = signal(SignalKind::terminate())?;
        let shutdown = async move {
            tokio::select! {
                _ = terminated.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        };
        Front::new(options, Box::new(environment.worker())).serve(listener, shutdown).await?;
        Ok(())
    })
}

//! `envmill env serve URL…`: several OpenEnv servers as one.

use std::time::Duration;

use envmill_core::Deadlines;
use envmill_front::{Mode, Options, Placement};
use envmill_openenv::{OpenEnvWorker, Server};
use envmill_workers::Worker;

use super::{env::first_given, servers::ServerFlags};
use crate::{
    config::Reuse,
    gateway::{self, Api, Gateway},
};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    servers: ServerFlags,
    /// Servers: how many episodes one of their sessions plays, for whichever clients: never more than
    /// one, a number, or unlimited. [default: 32; with --production never]
    #[arg(long, value_name = "never|N|unlimited")]
    session_reuse: Option<Reuse>,
    /// Servers: how long a client waits until one of them has room. [default: 30000]
    #[arg(long, value_name = "MS")]
    queue_timeout_ms: Option<u64>,
    /// Servers: how long the first answer of a session may take; 0: as long as it likes.
    /// [default: 120000]
    #[arg(long, value_name = "MS")]
    first_reset_timeout_ms: Option<u64>,
    /// Servers: how long a later reset may take; 0: as long as it likes. [default: 60000]
    #[arg(long, value_name = "MS")]
    reset_timeout_ms: Option<u64>,
    /// Servers: how long a step may take; 0: as long as it likes. [default: 60000]
    #[arg(long, value_name = "MS")]
    step_timeout_ms: Option<u64>,
}

impl Arguments {
    /// One of these flags that was given, if any was.
    pub(super) fn flag(&self) -> Option<&'static str> {
        first_given(&[
            ("header", !self.servers.header.is_empty()),
            ("bearer-env", self.servers.bearer_env.is_some()),
            ("bearer-file", self.servers.bearer_file.is_some()),
            ("ca", self.servers.ca.is_some()),
            ("session-reuse", self.session_reuse.is_some()),
            ("queue-timeout-ms", self.queue_timeout_ms.is_some()),
            ("first-reset-timeout-ms", self.first_reset_timeout_ms.is_some()),
            ("reset-timeout-ms", self.reset_timeout_ms.is_some()),
            ("step-timeout-ms", self.step_timeout_ms.is_some()),
        ])
    }

    /// What `urls` serve, and a worker that hands sessions on to them.
    pub(super) fn worker(
        &self,
        urls: &[String],
        max_sessions: u32,
        mode: Mode,
    ) -> Result<(Options, Box<dyn Worker>), String> {
        let headers = self.servers.headers()?;
        let server = |url: &String| Server { headers: headers.clone(), ..Server::new(url) };
        let mut worker_options = envmill_openenv::Options::new(urls.iter().map(server).collect());
        worker_options.ca_file.clone_from(&self.servers.ca);
        let worker =
            OpenEnvWorker::new(worker_options.clone()).map_err(|error| error.to_string())?;
        let (server, description) = self::description(&worker_options)?;
        let mut options = Options::new(description);
        options.max_sessions = max_sessions;
        options.mode = mode;
        options.placement = Placement::OwnThread;
        let api = Api::new(server, worker_options);
        let gateway = Gateway::new(worker, urls.to_vec(), Some(api), self.gateway(mode));
        Ok((options, Box::new(gateway)))
    }

    fn gateway(&self, mode: Mode) -> gateway::Options {
        let defaults = gateway::Options::default();
        let or = |ms: Option<u64>, default| match ms {
            Some(0) => None,
            Some(ms) => Some(Duration::from_millis(ms)),
            None => default,
        };
        gateway::Options {
            wait_max: self.queue_timeout_ms.map_or(defaults.wait_max, Duration::from_millis),
            reuse: self.session_reuse.unwrap_or_default().0,
            deadlines: Deadlines {
                first_reset: or(self.first_reset_timeout_ms, defaults.deadlines.first_reset),
                reset: or(self.reset_timeout_ms, defaults.deadlines.reset),
                step: or(self.step_timeout_ms, defaults.deadlines.step),
                ..defaults.deadlines
            },
            production: mode == Mode::Production,
            ..defaults
        }
    }
}

/// What the first server that answers tells of all.
fn description(
    options: &envmill_openenv::Options,
) -> Result<(Server, envmill_front::Description), String> {
    let mut problems = Vec::new();
    for server in &options.servers {
        match gateway::describe(server, options) {
            Ok(description) => return Ok((server.clone(), description)),
            Err(error) => problems.push(error.to_string()),
        }
    }
    Err(problems.join("\n"))
}

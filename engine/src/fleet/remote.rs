//! Servers that are spoken with over sockets, and those among them that a run starts.

use std::path::Path;

use bytes::Bytes;
use envmill_core::{Input, Note, Task};
use envmill_openenv::{
    Description, OpenEnvWorker, Options, Server, Tool, describe, num_tasks, task_range,
};
use envmill_protocol::{ServerId, openenv::FieldPath};
use envmill_workers::ToolSteps;

use super::{Fleet, FleetWorker, Member};
use crate::{
    children::{self, Children, Launch},
    config::{Local, RunOptions, Source},
    driver::Control,
    fingerprints::Fingerprints,
    report,
    run::RunError,
    tasks::{self, Told},
};

/// Servers over sockets.
pub(crate) struct Remote {
    children: Option<Children>,
    options: Options,
    fingerprints: Fingerprints,
}

impl Remote {
    pub(super) fn start(
        options: &RunOptions,
        control: &Control,
        logs: &Path,
        is_interrupted: &dyn Fn() -> bool,
    ) -> Result<(Fleet, FleetWorker), RunError> {
        let (children, servers) = servers(options, logs, is_interrupted)?;
        let mut worker_options = Options::new(servers);
        worker_options.ca_file.clone_from(&options.ca);
        worker_options.message_bytes_max = options.message_bytes_max;
        worker_options.client_ping = options.ping;
        worker_options.gather_max = options.gather_max;
        worker_options.truncated_from = truncated_from(options);
        worker_options.source_addresses.clone_from(&options.source_addresses);
        let descriptions = worker_options
            .servers
            .iter()
            .map(|server| describe(server, &worker_options))
            .collect::<Result<Vec<Description>, _>>()?;
        let worker = OpenEnvWorker::new(worker_options.clone())?;
        let members = worker_options
            .servers
            .iter()
            .zip(&descriptions)
            .map(|(server, description)| Member {
                name: server.url.clone(),
                fingerprint: description.fingerprint.clone(),
            })
            .collect();
        let action_schema = descriptions.into_iter().next().map(|first| first.action_schema);
        let fingerprints = Fingerprints::new(worker_options.clone(), control.clone());
        let remote = Self { children, options: worker_options, fingerprints };
        let fleet = Fleet {
            members,
            action_schema: action_schema.unwrap_or_default(),
            remote: Some(remote),
        };
        Ok((fleet, FleetWorker::Remote(Box::new(ToolSteps::new(worker)))))
    }

    /// The tasks of a split, as the first server tells of it.
    pub(super) fn tasks_of(&self, split: &str) -> Result<Vec<Task>, RunError> {
        match self.options.servers.first() {
            Some(server) => {
                let count = num_tasks(server, &self.options, split)?;
                tasks::of_split(split, count, |range| {
                    match task_range(server, &self.options, split, range) {
                        Ok(Some(bodies)) => Ok(Told::Bodies(bodies)),
                        Ok(None) => Ok(Told::Nothing),
                        Err(error) if error.is_too_large() => Ok(Told::TooLarge(error.into())),
                        Err(error) => Err(error.into()),
                    }
                })
            }
            None => Ok(Vec::new()),
        }
    }

    /// The tools of the first server's environment.
    pub(super) fn tools(&self) -> Result<Vec<Tool>, RunError> {
        match self.options.servers.first() {
            Some(server) => Ok(envmill_openenv::tools(server, &self.options)?),
            None => Ok(Vec::new()),
        }
    }

    /// The process ids of the servers that were started here.
    pub(crate) fn child_ids(&self) -> Vec<u32> {
        self.children.as_ref().map(Children::ids).unwrap_or_default()
    }

    /// The servers that were started here.
    pub(crate) const fn children(&self) -> Option<&Children> {
        self.children.as_ref()
    }

    /// What the first server tells of its environment (`/metadata`), for which it makes one: the text of one
    /// JSON object, or empty.
    pub(crate) fn metadata(&self) -> Bytes {
        let first = self.options.servers.first();
        first
            .and_then(|server| envmill_openenv::metadata(server, &self.options).ok())
            .unwrap_or_default()
    }

    pub(super) fn look_after(
        &mut self,
        worker: &mut OpenEnvWorker,
        notes: &[Note],
        options: &RunOptions,
        control: &Control,
    ) {
        for restarted in self.children.iter().flat_map(Children::restarted) {
            welcome_back(restarted, options, worker, &mut self.fingerprints, control);
        }
        for note in notes {
            self.fingerprints.note(note);
        }
        self.fingerprints.look();
    }

    pub(super) fn stop(self) -> report::Children {
        self.children.map(Children::stop).unwrap_or_default()
    }
}

/// Where it stands that an episode was cut. Our own servers say it in the same place always, so that an
/// environment's records are the same with a server as without.
fn truncated_from(options: &RunOptions) -> Option<FieldPath> {
    let is_ours =
        |source: &Source| matches!(source, Source::Served(Local::Native(_) | Local::Gymnasium(_)));
    if options.truncated_from.is_none() && options.sources.iter().all(is_ours) {
        return "metadata.truncated".parse().ok();
    }
    options.truncated_from.clone()
}

/// The servers of the run, those that it starts among them.
fn servers(
    options: &RunOptions,
    logs: &Path,
    is_interrupted: &dyn Fn() -> bool,
) -> Result<(Option<Children>, Vec<Server>), RunError> {
    let mut launches = Vec::new();
    for (number, source) in options.sources.iter().enumerate() {
        let launch = match source {
            // Those are not served.
            Source::Url(_) | Source::Local(_) => continue,
            Source::Served(target) => Launch::ours(
                &options.program,
                target,
                options.python.as_deref(),
                &options.python_path,
                options.rules.production,
            )?,
            Source::Command(command) => Launch::Shell(command.clone()),
        };
        let server = ServerId(u32::try_from(number).unwrap_or(u32::MAX));
        launches.push((server, launch, super::log(logs, number)));
    }
    let children = if launches.is_empty() {
        None
    } else {
        let settings = children::Settings {
            servers: launches,
            options: Options::new(Vec::new()),
            headers: options.headers.clone(),
            start_deadline: options.limits.start,
        };
        Some(Children::start(settings, is_interrupted)?)
    };
    let mut started = children.as_ref().map(Children::urls).unwrap_or_default().into_iter();
    let servers = options
        .sources
        .iter()
        .map(|source| {
            let url = match source {
                Source::Url(url) => url.clone(),
                _ => started.next().unwrap_or_default(),
            };
            known(url, options)
        })
        .collect();
    Ok((children, servers))
}

/// A server as the options speak with it.
fn known(url: String, options: &RunOptions) -> Server {
    Server {
        headers: options.headers.clone(),
        transport: options.transport,
        attach: options.attach.clone(),
        session_timeout: options.session_timeout,
        ..Server::new(url)
    }
}

/// Tells worker and core of a server that was restarted.
fn welcome_back(
    restarted: children::Restarted,
    options: &RunOptions,
    worker: &mut OpenEnvWorker,
    fingerprints: &mut Fingerprints,
    control: &Control,
) {
    let children::Restarted { server, url, fingerprint } = restarted;
    let known = known(url, options);
    if let Err(error) = worker.set_server(server, &known) {
        tracing::warn!(%error, "a restarted server cannot be used");
        return;
    }
    fingerprints.set_server(server, known);
    control.send(Input::ServerReady(server));
    if !fingerprint.is_empty() {
        control.send(Input::Fingerprint { server, fingerprint });
    }
}

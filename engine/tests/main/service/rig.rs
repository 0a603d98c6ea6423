//! `envmill serve` with a configuration, and trainers of it.

use std::{fs, net::SocketAddr, path::PathBuf};

use envmill_client::{Client, ConnectOptions, Event, RolloutsOptions, wire};
use envmill_testing::{
    EnvmillCommand, Finished, PythonServer, Running, free_port, python, wait_until,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::rig::{BOUND, ENVMILL};

/// A service that can be killed and started again where it was.
pub(crate) struct Service {
    /// It ends before its directory goes.
    pub(crate) running: Option<Running>,
    pub(crate) directory: TempDir,
    pub(crate) listen: SocketAddr,
    pub(crate) metrics: SocketAddr,
    /// Environment variables that it is started with.
    variables: Vec<(&'static str, String)>,
}

impl Service {
    /// With these environments: the text of their tables.
    pub(crate) fn start(environments: &str) -> Self {
        Self::with_variables(environments, &[])
    }

    pub(crate) fn with_variables(environments: &str, variables: &[(&'static str, &str)]) -> Self {
        Self::start_in(TempDir::new().unwrap(), environments, variables)
    }

    /// On this journal.
    pub(crate) fn on_journal(journal: &[u8], environments: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let store = directory.path().join("envmill-store");
        fs::create_dir(&store).unwrap();
        fs::write(store.join("store.redb"), journal).unwrap();
        Self::start_in(directory, environments, &[])
    }

    fn start_in(
        directory: TempDir,
        environments: &str,
        variables: &[(&'static str, &str)],
    ) -> Self {
        let port = || SocketAddr::from(([127, 0, 0, 1], free_port().unwrap()));
        let (listen, metrics) = (port(), port());
        let configuration =
            format!("[service]\nlisten = \"{listen}\"\nmetrics = \"{metrics}\"\n{environments}");
        fs::write(directory.path().join("c.toml"), configuration).unwrap();
        let variables = variables.iter().map(|&(name, value)| (name, value.to_owned())).collect();
        let mut service = Self { directory, listen, metrics, running: None, variables };
        service.begin();
        service
    }

    /// Starts it, and waits until it answers.
    pub(crate) fn begin(&mut self) {
        let mut command = EnvmillCommand::new(ENVMILL)
            .args(["serve", "--config"])
            .arg(self.directory.path().join("c.toml"));
        for (name, value) in &self.variables {
            command = command.env(name, value);
        }
        let mut running = command.start().unwrap();
        let metrics = self.metrics;
        wait_until("the service answers", BOUND, || {
            assert!(running.is_running(), "it has ended");
            envmill_testing::get(metrics, "/metrics").is_ok()
        });
        self.running = Some(running);
    }

    /// What `kill -9` does.
    pub(crate) fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.kill();
        }
    }

    /// Ends it in good order.
    pub(crate) fn end(&mut self) -> Finished {
        let running = self.running.take().unwrap();
        running.terminate();
        running.wait()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Within a tokio runtime.
    pub(crate) fn client(&self) -> Client {
        let url = format!("http://{}", self.listen);
        Client::new(&ConnectOptions { url, ..ConnectOptions::default() }).unwrap()
    }

    pub(crate) fn figures(&self) -> String {
        envmill_testing::get(self.metrics, "/metrics").unwrap().1
    }

    /// `plain_grpcio.py`, which has not begun, with a log.
    pub(crate) fn trainer(
        &self,
        environment: &str,
        episodes: u64,
        more: &[&str],
    ) -> EnvmillCommand {
        EnvmillCommand::new(python().unwrap())
            .arg(plain_grpcio())
            .args([&self.listen.to_string(), environment, &episodes.to_string()])
            .arg("--log")
            .arg(self.path("log.jsonl"))
            .args(more)
    }

    /// Both audits of the trainer's log; what they print.
    pub(crate) fn audits(&self) -> [Finished; 2] {
        let ours = EnvmillCommand::new(ENVMILL)
            .args(["audit", "--store"])
            .arg(self.path("envmill-store"))
            .arg("--log")
            .arg(self.path("log.jsonl"))
            .run()
            .unwrap();
        [ours, independent_audit(&self.path("log.jsonl"))]
    }
}

pub(crate) fn independent_audit(log: &std::path::Path) -> Finished {
    EnvmillCommand::new(python().unwrap())
        .arg(envmill_testing::script("audit.py"))
        .arg(log)
        .run()
        .unwrap()
}

fn plain_grpcio() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/python/plain_grpcio.py")
}

/// The table of an environment on these servers.
pub(crate) fn bench(servers: &[PythonServer]) -> String {
    let urls: Vec<_> = servers.iter().map(|server| format!("\"{}\"", server.url())).collect();
    format!("[environments.bench]\nenv = [{}]\nsessions = 32\n", urls.join(", "))
}

/// An action after which an episode of `bench_env` is over with its third step.
pub(crate) const THREE_STEPS: &str = r#"{"sleep_s":0.0,"payload_bytes":0,"done_at":3}"#;

/// What a trainer prints at its end.
pub(crate) fn account(finished: &Finished) -> Value {
    assert_eq!(finished.code(), Some(0), "{finished:?}");
    finished.summary().unwrap()
}

/// Plays a job to its end.
pub(crate) async fn play(client: Client, job: wire::SubmitJob) -> Vec<wire::Trajectory> {
    let mut rollouts = client.submit(job, RolloutsOptions::default()).await.unwrap();
    let mut trajectories = Vec::new();
    loop {
        if let Event::Delivered(delivered) = rollouts.next().await.unwrap().unwrap() {
            rollouts.taken(delivered.bytes);
            match delivered.record {
                wire::Record::Trajectory(trajectory) => trajectories.push(*trajectory),
                wire::Record::End(_) => break,
                _ => {}
            }
        }
    }
    trajectories.sort_by_key(|it| (it.group_id, it.sample_index));
    trajectories
}

/// Does something on a runtime of its own.
pub(crate) fn with_runtime<T>(what: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(what)
}

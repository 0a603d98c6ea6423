//! What a service is told: one file.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use envmill_core::JobOptions;
use envmill_service::ServiceOptions;
use serde::Deserialize;

use super::task_sets::{self, TaskSet, TaskSource};
use crate::{
    config::{ConfigError, Known, RunOptions, Settings, name_problem, parse_as},
    harness::{self, HarnessOptions},
    policy::PolicySpec,
    run,
    scorer::{self, ScorerOptions},
};

/// The journal's file in the store.
pub(crate) const JOURNAL: &str = "store.redb";
/// Where servers' output goes in the store.
const LOGS: &str = "servers";
/// Where that of scorers goes.
const SCORER_LOGS: &str = "scorers";

/// What a service does: a file of the form that `docs/service.md` describes, completed and checked.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Where trainers find it over gRPC. Default `127.0.0.1:7460`.
    pub listen: SocketAddr,
    /// Where its metrics are read over HTTP, if anywhere.
    pub metrics: Option<SocketAddr>,
    /// The directory of the journal and of servers' logs. Default `envmill-store` beside the file.
    pub store: PathBuf,
    /// The file of the tokens that trainers must have one of: a [`Tokens`](super::Tokens) file. There is
    /// one where `listen` or `metrics` is no loopback address.
    pub tokens: Option<PathBuf>,
    /// The certificate that the service shows. There is one where `tokens` must be.
    pub tls: Option<TlsFiles>,
    /// The largest message taken from a trainer, in bytes. Default 64 MiB.
    pub message_bytes_max: usize,
    /// Records whose encoding is longer go in parts of at most so many bytes. Default 1 MiB, since clients
    /// of gRPC take 4 MiB where they are not told otherwise.
    pub part_bytes: usize,
    /// Bytes of records in memory, beyond which they are read back from the store. Default 256 MiB.
    pub memory_bytes_max: u64,
    /// Bytes of memory that is shared with trainers on this host.
    pub shared_bytes_max: u64,
    /// Jobs of which nothing is owed are forgotten after so long. Default one hour.
    pub forget_after: Duration,
    /// Jobs whose trainer has not been there for so long are cancelled. Default one day.
    pub abandon_after: Duration,
    /// When the service is told to end, episodes in flight may go on for so long.
    pub drain: Duration,
    /// What is played: environments, and then harnesses, each in the order of the names. At least one.
    pub environments: Vec<EnvironmentOptions>,
    /// Tasks that jobs may name, in the order of the names.
    pub task_sets: Vec<TaskSet>,
    /// Scorers that jobs may name, in the order of the names.
    pub scorers: Vec<ScorerOptions>,
}

/// One environment of a service.
#[derive(Clone, Debug)]
pub struct EnvironmentOptions {
    /// Its name, as jobs give it: letters, digits, `-`, `_` and `.`, and no dot in front.
    pub name: String,
    /// Its servers, its limits, and what jobs get that do not say. What else is in there is not used.
    pub run: RunOptions,
    /// The splits of its own tasks that it is asked for when it starts.
    pub splits: BTreeSet<String>,
    /// If it is a harness: its programs, which play in place of servers and of other policies.
    pub harness: Option<HarnessOptions>,
}

impl EnvironmentOptions {
    /// What a job gets where it does not say.
    #[must_use]
    pub fn defaults(&self) -> JobOptions {
        JobOptions { environment_name: self.name.clone(), ..run::job(&self.run) }
    }
}

/// A certificate and its key, as files of PEM.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The chain.
    pub cert: PathBuf,
    /// The key.
    pub key: PathBuf,
}

/// What the command line says in place of the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// In place of `listen`.
    pub listen: Option<String>,
    /// In place of `store`; relative to the current directory.
    pub store: Option<PathBuf>,
}

/// A configuration cannot be used. Every message names the key and says what to write instead.
#[derive(Debug, thiserror::Error)]
pub enum ServeConfigError {
    /// The file as such.
    #[error(transparent)]
    File(#[from] ConfigError),
    /// A value cannot be used, or is missing.
    #[error("{}: `{key}`: {problem}", .path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The key, with the tables that it is in.
        key: String,
        /// What is wrong and what to write.
        problem: String,
    },
    /// What an environment's settings say together cannot be used.
    #[error("{}: `{table}.{name}`: {}", .path.display(), without_dashes(.source))]
    Environment {
        /// The file.
        path: PathBuf,
        /// Which of the tables it is in: `environments` or `harnesses`.
        table: &'static str,
        /// The environment.
        name: String,
        /// Why.
        source: Box<ConfigError>,
    },
}

/// The file as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct File {
    service: Service,
    environments: BTreeMap<String, Settings>,
    harnesses: BTreeMap<String, harness::Table>,
    task_sets: BTreeMap<String, task_sets::Table>,
    scorers: BTreeMap<String, scorer::Table>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Service {
    listen: Option<String>,
    metrics: Option<String>,
    store: Option<PathBuf>,
    tokens: Option<PathBuf>,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    message_bytes_max: Option<usize>,
    part_bytes: Option<usize>,
    memory_mib_max: Option<u64>,
    shared_mib_max: Option<u64>,
    forget_after_s: Option<u64>,
    abandon_after_s: Option<u64>,
    drain_s: Option<u64>,
    steps_mib_max: Option<u64>,
}

const TABLES: [&str; 5] = ["service", "environments", "harnesses", "task-sets", "scorers"];

const SERVICE_KEYS: [&str; 14] = [
    "listen",
    "metrics",
    "store",
    "tokens",
    "tls-cert",
    "tls-key",
    "message-bytes-max",
    "part-bytes",
    "memory-mib-max",
    "shared-mib-max",
    "forget-after-s",
    "abandon-after-s",
    "drain-s",
    "steps-mib-max",
];

/// The settings of a run that an environment of a service has no use for, and what to do instead.
const NOT_FOR_A_SERVICE: [(&str, &[&str]); 5] = [
    (
        "a trainer says it with its job",
        &[
            "episodes",
            "epochs",
            "groups",
            "samples",
            "oversample",
            "complete-at",
            "group-filter",
            "refill-max",
            "revisit-after",
            "revisit-at-least-one-in",
            "group-deadline-ms",
            "duplicate-stragglers",
            "group-placement",
            "seed",
            "no-seed",
            "name",
            "reset-parameters",
        ],
    ),
    (
        "records go to trainers, and not into files",
        &[
            "out",
            "overwrite",
            "resume",
            "format",
            "episode-records",
            "json",
            "quiet",
            "flight-recorder",
            "flight-recorder-bytes-max",
        ],
    ),
    ("write a table [task-sets.NAME]", &["tasks", "split", "weight-key", "weights"]),
    ("write a table [scorers.NAME]", &["scorer", "scorers"]),
    ("sessions are the service's own", &["attach"]),
];

const KNOWN: Known = Known { keys, listed: "docs/service.md" };

/// The keys that there are beside this one.
fn keys(key: &str) -> Vec<String> {
    let owned = |keys: &[&str]| keys.iter().map(|&key| key.to_owned()).collect();
    match key.split('.').next() {
        Some("service") => owned(&SERVICE_KEYS),
        Some("environments") => {
            let mut names = Settings::names();
            names.retain(|name| instead(name).is_none());
            names
        }
        Some("harnesses") => owned(&harness::KEYS),
        Some("task-sets") => owned(&task_sets::KEYS),
        Some("scorers") => owned(&scorer::KEYS),
        _ => owned(&TABLES),
    }
}

/// What to do instead of giving this setting, if a service has no use for it.
fn instead(key: &str) -> Option<&'static str> {
    let found = NOT_FOR_A_SERVICE.iter().find(|(_, keys)| keys.contains(&key));
    found.map(|(instead, _)| *instead)
}

impl ServeOptions {
    /// Reads a file. Relative paths in it are relative to its directory. `variable` reads an environment
    /// variable.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or says what cannot be used; the error names the key and what to write.
    pub fn read(
        path: &Path,
        overrides: Overrides,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ServeConfigError> {
        let text = fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        Self::parse(&text, path, overrides, variable)
    }

    /// As [`read`](Self::read), from the text of the file at `path`.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read), but for the reading.
    pub fn parse(
        text: &str,
        path: &Path,
        overrides: Overrides,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ServeConfigError> {
        let File { service, environments, harnesses, task_sets, scorers } =
            parse_as(text, path, KNOWN)?;
        let context = Context { path, directory: path.parent().unwrap_or(Path::new("")) };
        context.refuse_what_is_for_runs(text)?;
        let listen = overrides.listen.or(service.listen);
        let listen = context.address("listen", listen.as_deref().unwrap_or("127.0.0.1:7460"))?;
        let metrics = service.metrics.as_deref();
        let metrics = metrics.map(|text| context.address("metrics", text)).transpose()?;
        let tls = match (service.tls_cert, service.tls_key) {
            (Some(cert), Some(key)) => {
                Some(TlsFiles { cert: context.beside(&cert), key: context.beside(&key) })
            }
            (None, None) => None,
            (Some(_), None) => return context.wrong("service.tls-key", "it goes with `tls-cert`"),
            (None, Some(_)) => return context.wrong("service.tls-cert", "it goes with `tls-key`"),
        };
        for (key, address) in [("listen", Some(listen)), ("metrics", metrics)] {
            let Some(address) = address.filter(|it| !it.ip().is_loopback()) else { continue };
            if service.tokens.is_none() || tls.is_none() {
                let problem = format!(
                    "{address} can be reached from other machines: give `tokens`, `tls-cert` and \
                     `tls-key`, or listen on 127.0.0.1"
                );
                return context.wrong(&format!("service.{key}"), problem);
            }
        }
        let at_least = |key: &str, value: Option<u64>, least: u64| match value {
            Some(value) if value < least => {
                context.wrong(&format!("service.{key}"), format!("it must be at least {least}"))
            }
            value => Ok(value),
        };
        at_least("message-bytes-max", service.message_bytes_max.map(|it| it as u64), 1024)?;
        at_least("part-bytes", service.part_bytes.map(|it| it as u64), 1024)?;
        let memory_mib_max = at_least("memory-mib-max", service.memory_mib_max, 1)?.unwrap_or(256);
        let steps_mib_max = at_least("steps-mib-max", service.steps_mib_max, 1)?;
        let abandon_after_s = at_least("abandon-after-s", service.abandon_after_s, 1)?;
        if environments.is_empty() && harnesses.is_empty() {
            let problem = "there are none: write a table [environments.NAME] with `env` or `serve`, or \
                           [harnesses.NAME] with `command`";
            return context.wrong("environments", problem);
        }
        if let Some(name) = harnesses.keys().find(|it| environments.contains_key(*it)) {
            let problem =
                "an environment has this name, by which jobs name either; take another one";
            return context.wrong(&format!("harnesses.{name}"), problem);
        }
        let mut environments = environments
            .into_iter()
            .map(|(name, settings)| context.environment(name, settings, &variable))
            .collect::<Result<Vec<_>, _>>()?;
        let task_sets = task_sets
            .into_iter()
            .map(|(name, table)| context.task_set(&name, table, &environments))
            .collect::<Result<Vec<_>, _>>()?;
        for set in &task_sets {
            let TaskSource::Split { environment, split } = &set.source else { continue };
            for its in environments.iter_mut().filter(|it| it.name == *environment) {
                its.splits.insert(split.clone());
            }
        }
        // They have no splits of their own.
        for (name, table) in harnesses {
            environments.push(context.harness(name, table, &variable)?);
        }
        context.share_out(steps_mib_max, &mut environments)?;
        let scorers = scorers
            .into_iter()
            .map(|(name, table)| context.scorer(&name, table, &variable))
            .collect::<Result<_, _>>()?;
        let store = service.store.unwrap_or_else(|| PathBuf::from("envmill-store"));
        Ok(Self {
            listen,
            metrics,
            store: overrides.store.unwrap_or_else(|| context.beside(&store)),
            tokens: service.tokens.as_deref().map(|tokens| context.beside(tokens)),
            tls,
            message_bytes_max: service.message_bytes_max.unwrap_or(64 << 20),
            part_bytes: service.part_bytes.unwrap_or(1 << 20),
            memory_bytes_max: memory_mib_max.saturating_mul(1 << 20),
            shared_bytes_max: service.shared_mib_max.unwrap_or(1024).saturating_mul(1 << 20),
            forget_after: Duration::from_secs(service.forget_after_s.unwrap_or(3600)),
            abandon_after: Duration::from_secs(abandon_after_s.unwrap_or(86_400)),
            drain: Duration::from_secs(service.drain_s.unwrap_or(10)),
            environments,
            task_sets,
            scorers,
        })
    }

    /// The journal's file.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.store.join(JOURNAL)
    }

    /// What the service itself is told.
    pub(super) fn service(&self) -> ServiceOptions {
        ServiceOptions {
            message_bytes_max: self.message_bytes_max,
            part_bytes: self.part_bytes,
            memory_bytes_max: self.memory_bytes_max,
            shared_bytes_max: self.shared_bytes_max,
            forget_after: self.forget_after,
            abandon_after: self.abandon_after,
            ..ServiceOptions::new(self.journal())
        }
    }

    /// Where the output of scorers' processes goes.
    #[must_use]
    pub fn scorer_logs(&self) -> PathBuf {
        self.store.join(SCORER_LOGS)
    }

    /// Where the output of an environment's servers goes.
    #[must_use]
    pub fn logs(&self, environment: &str) -> PathBuf {
        self.store.join(LOGS).join(environment)
    }
}

/// Where the file is, for errors and relative paths.
struct Context<'a> {
    path: &'a Path,
    directory: &'a Path,
}

impl Context<'_> {
    fn wrong<T>(&self, key: &str, problem: impl Into<String>) -> Result<T, ServeConfigError> {
        let (path, key) = (self.path.to_owned(), key.to_owned());
        Err(ServeConfigError::Value { path, key, problem: problem.into() })
    }

    /// A path as the file means it.
    fn beside(&self, path: &Path) -> PathBuf {
        self.directory.join(path)
    }

    fn address(&self, key: &str, text: &str) -> Result<SocketAddr, ServeConfigError> {
        match text.parse() {
            Ok(address) => Ok(address),
            Err(_) => self.wrong(
                &format!("service.{key}"),
                format!("`{text}` is no ADDRESS:PORT such as 127.0.0.1:7460 or [::1]:7460"),
            ),
        }
    }

    /// Gives the environments that state no memory of their own an even part of what the others leave: of what
    /// there is for all of them, or of half of the machine's.
    fn share_out(
        &self,
        all: Option<u64>,
        environments: &mut [EnvironmentOptions],
    ) -> Result<(), ServeConfigError> {
        let half = || envmill_python_worker::machine_memory().map(|bytes| (bytes / 2) >> 20);
        let Some(whole) = all.or_else(half) else { return Ok(()) };
        let stated = environments.iter().filter_map(|it| it.run.episodes_mib_max);
        let stated = stated.fold(0_u64, u64::saturating_add);
        let silent = environments.iter_mut().filter(|it| it.run.episodes_mib_max.is_none());
        let silent: Vec<_> = silent.map(|it| &mut it.run.episodes_mib_max).collect();
        let count = silent.len() as u64;
        let left = whole.checked_sub(stated).filter(|&left| stated == 0 || left >= count);
        let Some(left) = left else {
            let of = if all.is_some() { "" } else { ", half of this machine's memory" };
            let problem = format!(
                "it is {whole} MiB{of}, of which `episodes-mib-max` gives environments {stated}, with {count} \
                 more to have some: state more here, or less there"
            );
            return self.wrong("service.steps-mib-max", problem);
        };
        for share in silent {
            *share = Some((left / count).max(1));
        }
        Ok(())
    }

    /// The keys are looked at as they stand there: what is a flag's default is no mistake.
    fn refuse_what_is_for_runs(&self, text: &str) -> Result<(), ServeConfigError> {
        let table: toml::Table = toml::from_str(text).unwrap_or_default();
        let environments = table.get("environments").and_then(toml::Value::as_table);
        for (name, environment) in environments.into_iter().flatten() {
            for key in environment.as_table().into_iter().flat_map(toml::Table::keys) {
                if let Some(instead) = instead(key) {
                    let problem = format!("it is for `envmill run`; {instead}");
                    return self.wrong(&format!("environments.{name}.{key}"), problem);
                }
            }
        }
        Ok(())
    }

    /// Names are also those of files.
    fn check_name(&self, table: &str, name: &str) -> Result<(), ServeConfigError> {
        match name_problem(name) {
            Some(problem) => self.wrong(&format!("{table}.{name}"), problem),
            None => Ok(()),
        }
    }

    fn scorer(
        &self,
        name: &str,
        table: scorer::Table,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<ScorerOptions, ServeConfigError> {
        self.check_name("scorers", name)?;
        match table.resolve(name, |path| self.beside(path), variable) {
            Ok(scorer) => Ok(scorer),
            Err((key, problem)) => self.wrong(&format!("scorers.{name}.{key}"), problem),
        }
    }

    fn task_set(
        &self,
        name: &str,
        table: task_sets::Table,
        environments: &[EnvironmentOptions],
    ) -> Result<TaskSet, ServeConfigError> {
        let is_environment = |name: &str| environments.iter().any(|it| it.name == name);
        match table.resolve(name, |path| self.beside(path), is_environment) {
            Ok(set) => Ok(set),
            Err((key, problem)) => self.wrong(&format!("task-sets.{name}.{key}"), problem),
        }
    }

    fn environment(
        &self,
        name: String,
        mut settings: Settings,
        variable: &impl Fn(&str) -> Option<String>,
    ) -> Result<EnvironmentOptions, ServeConfigError> {
        self.check_name("environments", &name)?;
        if settings.env.is_empty() && settings.serve.is_none() {
            let problem = "write what is played, such as env = \"http://127.0.0.1:8000\"";
            return self.wrong(&format!("environments.{name}.env"), problem);
        }
        let is_path = |program: &PathBuf| program.components().count() > 1;
        settings.python = settings
            .python
            .map(|python| if is_path(&python) { self.beside(&python) } else { python });
        settings.agent = settings.agent.as_deref().map(|agent| self.beside(agent));
        let is_model = |policy: &String| matches!(policy.parse(), Ok(PolicySpec::Model(_)));
        if settings.policy.as_ref().is_some_and(|policy| !is_model(policy)) {
            let problem = "here is only a language model named, such as vllm:http://127.0.0.1:8000; what \
                           else plays, a trainer says with its job";
            return self.wrong(&format!("environments.{name}.policy"), problem);
        }
        settings.ca = settings.ca.as_deref().map(|ca| self.beside(ca));
        settings.bearer_file = settings.bearer_file.as_deref().map(|file| self.beside(file));
        for directory in &mut settings.python_path {
            *directory = self.beside(Path::new(directory)).display().to_string();
        }
        // Names that are never seen: a service has neither records' files nor a job of its own.
        match RunOptions::resolve(settings, &name, variable) {
            Ok(run) => Ok(EnvironmentOptions { name, run, splits: BTreeSet::new(), harness: None }),
            Err(source) => Err(self.unusable("environments", name, source)),
        }
    }

    fn harness(
        &self,
        name: String,
        table: harness::Table,
        variable: &impl Fn(&str) -> Option<String>,
    ) -> Result<EnvironmentOptions, ServeConfigError> {
        self.check_name("harnesses", &name)?;
        let (harness, settings) = match table.resolve(|path| self.beside(path), variable) {
            Ok(resolved) => resolved,
            Err((key, problem)) => {
                return self.wrong(&format!("harnesses.{name}.{key}"), problem);
            }
        };
        let mut run = RunOptions::resolve(settings, &name, variable)
            .map_err(|source| self.unusable("harnesses", name.clone(), source))?;
        // Its programs are all that there is.
        run.sources.clear();
        // As long as the harness says.
        run.limits.deadlines.policy = None;
        let (splits, harness) = (BTreeSet::new(), Some(harness));
        Ok(EnvironmentOptions { name, run, splits, harness })
    }

    fn unusable(&self, table: &'static str, name: String, source: ConfigError) -> ServeConfigError {
        let (path, source) = (self.path.to_owned(), Box::new(source));
        ServeConfigError::Environment { path, table, name, source }
    }
}

/// An error of a setting, which in a file has no dashes in front.
fn without_dashes(error: &ConfigError) -> String {
    let text = error.to_string();
    text.strip_prefix("--").map_or_else(|| text.clone(), String::from)
}

#[cfg(test)]
mod tests {
    use envmill_core::{FingerprintChange, SessionReuse};

    use super::*;
    use crate::scorer::Source;

    fn parse(text: &str) -> Result<ServeOptions, ServeConfigError> {
        let variable = |name: &str| (name == "TOKEN").then(|| "s3cret".to_owned());
        ServeOptions::parse(text, Path::new("/etc/envmill/c.toml"), Overrides::default(), variable)
    }

    const ECHO: &str = "[environments.echo]\nenv = \"native:echo\"\n";

    #[test]
    fn one_environment_is_enough() {
        let options = parse(ECHO).unwrap();
        assert_eq!(options.listen.to_string(), "127.0.0.1:7460");
        assert_eq!(options.metrics, None);
        assert_eq!(options.journal(), Path::new("/etc/envmill/envmill-store/store.redb"));
        assert_eq!((options.part_bytes, options.memory_bytes_max), (1 << 20, 256 << 20));
        assert_eq!(options.shared_bytes_max, 1 << 30);
        let [echo] = &options.environments[..] else { panic!("{options:?}") };
        assert_eq!((echo.name.as_str(), echo.run.limits.sessions), ("echo", 64));
        let defaults = echo.defaults();
        assert_eq!((defaults.environment_name.as_str(), defaults.sessions_max), ("echo", 64));
    }

    #[test]
    fn everything_can_be_said() {
        let options = parse(
            r#"
            [service]
            listen = "0.0.0.0:1"
            metrics = "127.0.0.1:2"
            store = "/var/store"
            tokens = "tokens.toml"
            tls-cert = "cert.pem"
            tls-key = "../key.pem"
            message-bytes-max = 2048
            part-bytes = 4096
            memory-mib-max = 1
            forget-after-s = 0
            abandon-after-s = 5
            steps-mib-max = 100
            [environments.b]
            env = ["http://a:1", "http://b:2"]
            sessions = 8
            step-timeout-ms = 250
            session-reuse = "never"
            bearer-env = "TOKEN"
            on-fingerprint-change = "mark"
            [environments.a]
            env = "openenv-class:my_env:Env"
            python = "venv/bin/python"
            python-path = ["src", "/opt"]
            replicas = 4
            [task-sets.train]
            file = "train.jsonl"
            [scorers.rules]
            python = "rewards:score"
            python-path = ["src"]
            weights = { format = 0.5 }
            [scorers.judge]
            url = "http://127.0.0.1:9000/score"
            "#,
        )
        .unwrap();
        assert_eq!(options.store, Path::new("/var/store"));
        assert_eq!(options.tokens.as_deref(), Some(Path::new("/etc/envmill/tokens.toml")));
        assert_eq!(options.tls.unwrap().key, Path::new("/etc/envmill/../key.pem"));
        let file = TaskSource::File("/etc/envmill/train.jsonl".into());
        assert_eq!(options.task_sets[0].source, file);
        let names: Vec<_> = options.scorers.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, ["judge", "rules"]);
        let Source::Python { path, .. } = &options.scorers[1].source else { panic!() };
        assert_eq!(path, &[PathBuf::from("/etc/envmill/src")]);
        let [a, b] = &options.environments[..] else { panic!() };
        assert_eq!(a.run.python.as_deref(), Some(Path::new("/etc/envmill/venv/bin/python")));
        assert_eq!(a.run.python_path, [Path::new("/etc/envmill/src"), Path::new("/opt")]);
        assert_eq!((a.run.replicas, a.run.episodes_mib_max), (Some(4), Some(50)));
        let defaults = b.defaults();
        assert_eq!(defaults.deadlines.step, Some(Duration::from_millis(250)));
        assert_eq!(defaults.session_reuse, SessionReuse::Never);
        assert_eq!(defaults.on_fingerprint_change, FingerprintChange::Mark);
        assert_eq!(b.run.headers[0].1, "Bearer s3cret");
    }

    #[test]
    fn a_harness_is_an_environment() {
        let text =
            "[harnesses.agent]\npolicy = \"vllm:http://a\"\ncommand = [\"x\"]\nsessions = 3\n";
        let options = parse(&format!("{text}{ECHO}[service]\nsteps-mib-max = 8\n")).unwrap();
        let [echo, agent] = &options.environments[..] else { panic!("{options:?}") };
        assert_eq!((echo.name.as_str(), agent.name.as_str()), ("echo", "agent"));
        assert!(echo.harness.is_none() && agent.harness.is_some());
        assert_eq!((agent.run.limits.sessions, agent.run.episodes_mib_max), (3, Some(4)));
        assert_eq!(agent.defaults().deadlines.policy, None);
        assert_eq!(parse(text).unwrap().environments.len(), 1, "one harness is enough");
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let with = |more: &str| parse(&format!("{more}\n{ECHO}")).unwrap_err().to_string();
        for (message, expected) in [
            (parse("").unwrap_err().to_string(), "[environments.NAME]"),
            (with("[service]\nlisten = \"localhost:1\""), "`service.listen`: `localhost:1` is no"),
            (with("[service]\nlisten = \"0.0.0.0:1\""), "tls-cert"),
            (with("[service]\nmetrics = \"[::]:1\""), "`service.metrics`: [::]:1"),
            (with("[service]\ntls-cert = \"a\""), "`service.tls-key`"),
            (with("[service]\npart-bytes = 3"), "at least 1024"),
            (with("[service]\nlistn = \"a\""), "`service.listn`; did you mean `listen`?"),
            (with("[service]\nzzz = 1"), "docs/service.md"),
            (with("[servce]\nlisten = \"a\""), "did you mean `service`?"),
            (with("[service]\nlisten = 3"), "`service.listen`: TOML parse error at line 2"),
            (with("[environments.a]\nsesions = 3"), "did you mean `sessions`?"),
            (with("[environments.a]\nsessions = 3"), "`environments.a.env`"),
            (with("[environments.\"a/b\"]\nenv = \"native:echo\""), "letters"),
            (with("[environments.a]\nenv = \"native:ecko\""), "`environments.a`"),
            (
                with("[environments.a]\nenv = \"native:echo\"\nsessions = 0"),
                "`environments.a`: sessions: it must be at least 1",
            ),
            (
                with("[environments.a]\nenv = \"native:echo\"\nbearer-env = \"NO\""),
                "`environments.a`: bearer-env: the environment variable NO",
            ),
            (
                with("[environments.a]\nenv = \"native:echo\"\nbearer-file = \"no-such\""),
                "`environments.a`: bearer-file: cannot read /etc/envmill/no-such",
            ),
            (with("[task-sets.a]"), "`task-sets.a.file`"),
            (with("[task-sets.a]\nfil = \"x\""), "did you mean `file`?"),
            (
                with("[task-sets.a]\nenvironment = \"b\"\nsplit = \"c\""),
                "`task-sets.a.environment`: there is no [environments.b]",
            ),
            (with("[harnesses.a]"), "`harnesses.a.policy`: write the model"),
            (with("[harnesses.a]\ncomand = [\"x\"]"), "did you mean `command`?"),
            (with("[harnesses.echo]\ncommand = [\"x\"]"), "`harnesses.echo`: an environment has"),
            (with("[harnesses.\"a/b\"]"), "`harnesses.a/b`: a name has letters"),
            (
                with("[harnesses.a]\npolicy = \"vllm:http://a\"\ncommand = [\"x\"]\nattempts = 0"),
                "`harnesses.a`: attempts: it must be at least 1",
            ),
            (with("[scorers.a]"), "`scorers.a.url`: write who scores"),
            (with("[scorers.a]\nurl = \"x\""), "`scorers.a.url`: `x` is no URL"),
            (with("[scorers.a]\npyton = \"a:b\""), "did you mean `python`?"),
            (with("[scorers.\"a/b\"]\npython = \"a:b\""), "`scorers.a/b`: a name has letters"),
            (with("[scorers.a]\nweights = { x = \"1\" }"), "`scorers.a.weights.x`"),
        ] {
            assert!(message.contains(expected) && message.contains("c.toml"), "{message}");
        }
    }

    #[test]
    fn what_is_for_runs_is_refused_by_name() {
        for (setting, expected) in [
            ("episodes = 3", "a trainer says it with its job"),
            ("no-seed = false", "a trainer says it with its job"),
            ("out = \"x\"", "records go to trainers"),
            ("tasks = \"x\"", "[task-sets.NAME]"),
            ("scorer = \"a=b:c\"", "[scorers.NAME]"),
            ("attach = [\"x\"]", "the service's own"),
        ] {
            let text = format!("{ECHO}{setting}\n");
            let message = parse(&text).unwrap_err().to_string();
            let key = setting.split(' ').next().unwrap();
            assert!(message.contains(&format!("`environments.echo.{key}`")), "{message}");
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn an_environment_has_the_memory_that_it_states_or_part_of_what_others_leave() {
        let of = |all: &str, shares: [&str; 3]| {
            let table = |(name, share): (&str, &str)| {
                format!("[environments.{name}]\nenv = \"native:echo\"\n{share}\n")
            };
            let tables: String = ["a", "b", "c"].into_iter().zip(shares).map(table).collect();
            let options = parse(&format!("[service]\n{all}\n{tables}"));
            let share = |it: &EnvironmentOptions| it.run.episodes_mib_max.unwrap();
            options
                .map(|options| options.environments.iter().map(share).collect::<Vec<_>>())
                .map_err(|error| error.to_string())
        };
        let all = "steps-mib-max = 100";
        assert_eq!(of(all, ["", "", ""]).unwrap(), [33, 33, 33]);
        assert_eq!(of(all, ["", "episodes-mib-max = 60", ""]).unwrap(), [20, 60, 20]);
        let stated = ["episodes-mib-max = 60", "episodes-mib-max = 30", "episodes-mib-max = 10"];
        assert_eq!(of(all, stated).unwrap(), [60, 30, 10]);
        assert_eq!(of("steps-mib-max = 1", ["", "", ""]).unwrap(), [1, 1, 1]);
        for (all, shares, expected) in [
            (
                all,
                ["episodes-mib-max = 99", "", ""],
                "`service.steps-mib-max`: it is 100 MiB, of which",
            ),
            (all, ["episodes-mib-max = 101", "", ""], "gives environments 101, with 2 more"),
            (
                all,
                ["episodes-mib-max = 0", "", ""],
                "`environments.a`: episodes-mib-max: it must be",
            ),
            ("", ["episodes-mib-max = 1000000000", "", ""], "half of this machine's memory"),
        ] {
            let message = of(all, shares).unwrap_err();
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn what_is_refused_is_a_setting() {
        let names: BTreeSet<String> = Settings::names().into_iter().collect();
        for key in NOT_FOR_A_SERVICE.iter().flat_map(|(_, keys)| *keys) {
            assert!(names.contains(*key), "{key}");
        }
    }

    #[test]
    fn the_list_of_keys_is_whole() {
        for key in SERVICE_KEYS {
            let text = format!("[service]\n{key} = []\n{ECHO}");
            let message = parse(&text).unwrap_err().to_string();
            let expected = format!("`service.{key}`: ");
            assert!(message.contains(&expected) && message.contains("invalid type"), "{message}");
        }
    }

    #[test]
    fn the_command_line_wins() {
        let overrides = Overrides { listen: Some("0.0.0.0:7".into()), store: Some("here".into()) };
        let parse =
            |overrides| ServeOptions::parse(ECHO, Path::new("/a/c.toml"), overrides, |_| None);
        let message = parse(overrides.clone()).unwrap_err().to_string();
        assert!(message.contains("0.0.0.0:7"), "{message}");
        let options = parse(Overrides { listen: Some("[::1]:7".into()), ..overrides }).unwrap();
        assert_eq!((options.listen.port(), options.store), (7, PathBuf::from("here")));
    }
}

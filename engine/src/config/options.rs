//! Settings, checked and complete.

use std::{fmt, net::IpAddr, path::PathBuf, time::Duration};

use bytes::Bytes;
use envmill_core::{Deadlines, FingerprintChange, SessionReuse};
use envmill_openenv::Transport;
use envmill_protocol::openenv::FieldPath;
use serde_json::{Value, json};

use super::{
    ConfigError, Rules, Settings, Source, TaskSampling, resumed_name, reuse::Reuse, scorers,
    source, stamp::stamp,
};
use crate::{
    policy::PolicySpec,
    scorer::ScorerOptions,
    secret::Places,
    sink::{Claim, Format},
};

/// The most servers that one run starts.
const REPLICAS_MAX: u32 = 1024;

/// The longest that answers are left to gather, in milliseconds, where nothing is said.
const GATHER_MS: u64 = 5;

/// What a run does: [`Settings`], [resolved](RunOptions::resolve).
#[derive(Clone)]
pub struct RunOptions {
    /// The servers, in the order of their ids: one pool that serves one environment.
    pub sources: Vec<Source>,
    /// The interpreter for Python environments.
    pub python: Option<PathBuf>,
    /// Directories in which their modules are looked for first.
    pub python_path: Vec<PathBuf>,
    /// How many servers, or worker processes, were asked for of each source that is started.
    pub replicas: Option<u32>,
    /// The job's name; begins every trajectory's id.
    pub name: String,
    /// How many episodes.
    pub episodes: u64,
    /// How many sessions at one time, how often and how long.
    pub limits: Limits,
    /// By which rules they are played.
    pub rules: Rules,
    /// Episode `i` is reset with the seed `seed + i`.
    pub seed: u64,
    /// Whether the seed is sent.
    pub send_seed: bool,
    /// Parameters for every reset: the text of one JSON object, or empty.
    pub reset_parameters: Bytes,
    /// Who plays.
    pub policy: PolicySpec,
    /// How a language model plays.
    pub agent: Option<PathBuf>,
    /// The output directory.
    pub out: PathBuf,
    /// What becomes of trajectories that are in it.
    pub claim: Claim,
    /// The form of the records.
    pub format: Format,
    /// Whether `results.jsonl` is made, too.
    pub episode_records: bool,
    /// A file of tasks.
    pub tasks: Option<PathBuf>,
    /// A split of the server's tasks.
    pub split: Option<String>,
    /// How they are drawn.
    pub sampling: TaskSampling,
    /// Who says what episodes were worth; if nobody, their environment.
    pub scorers: Vec<ScorerOptions>,
    /// Where an observation says that its episode was cut.
    pub truncated_from: Option<FieldPath>,
    /// The text that `truncated_from` was read from.
    pub truncated_from_text: Option<String>,
    /// Certificates to trust.
    pub ca: Option<PathBuf>,
    /// Headers for every request to a server. Secret.
    pub headers: Vec<(String, String)>,
    /// What to do when a server's environment changes.
    pub on_fingerprint_change: FingerprintChange,
    /// The largest message taken from a server, in bytes.
    pub message_bytes_max: usize,
    /// Memory that the steps of episodes under way may take together, in MiB; `None`: half of the
    /// machine's.
    pub episodes_mib_max: Option<u64>,
    /// How often silent sessions are pinged.
    pub ping: Option<Duration>,
    /// The longest that answers are left to gather while many are outstanding; zero for never.
    pub gather_max: Duration,
    /// How the servers' sessions are spoken with.
    pub transport: Transport,
    /// Sessions of the one server that are attached to, instead of making new ones.
    pub attach: Vec<String>,
    /// After how long the servers give idle sessions up.
    pub session_timeout: Option<Duration>,
    /// Local addresses to connect from.
    pub source_addresses: Vec<IpAddr>,
    /// Where the core's inputs are written down.
    pub flight_recorder: Option<PathBuf>,
    /// The largest such file, in bytes.
    pub flight_recorder_bytes_max: u64,
    /// The command that serves environments when `env serve` and more is put behind it: a program and
    /// its first arguments. This program if empty.
    pub program: Vec<String>,
}

/// How many sessions at one time, how often and how long.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The most sessions at one time.
    pub sessions: u32,
    /// The most steps of an episode.
    pub max_steps: Option<u32>,
    /// The most bytes of memory that what is played of an episode may take.
    pub episode_bytes_max: Option<u64>,
    /// The most attempts at an episode.
    pub attempts: u32,
    /// How many episodes a session plays.
    pub session_reuse: SessionReuse,
    /// How long things may take.
    pub deadlines: Deadlines,
    /// How long a server that is started may take until it answers.
    pub start: Duration,
}

impl fmt::Debug for RunOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_json().to_string())
    }
}

impl RunOptions {
    /// [Resolves](Self::resolve) the settings of a run of this process that begins now: a job that is
    /// gone on with keeps its name.
    ///
    /// # Errors
    ///
    /// As [`resolve`](Self::resolve).
    pub fn prepare(mut settings: Settings) -> Result<Self, ConfigError> {
        settings.name = resumed_name(&settings).or(settings.name);
        Self::resolve(settings, &stamp(), |name| std::env::var(name).ok())
    }

    /// Completes and checks settings. `stamp` names the run where nothing else does; `variable`
    /// reads an environment variable.
    ///
    /// # Errors
    ///
    /// A setting cannot be used; the error names it and what to write.
    pub fn resolve(
        settings: Settings,
        stamp: &str,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let at_least_1 = |setting, value: u64| {
            if value == 0 {
                Err(ConfigError::value(setting, "it must be at least 1"))
            } else {
                Ok(())
            }
        };
        let sources = sources(&settings)?;
        let transport = transport(&settings)?;
        let bearer =
            Places::bearer(settings.bearer_env.as_deref(), settings.bearer_file.as_deref());
        let headers = headers(&settings.header, bearer, &variable)?;
        let limits = limits(&settings)?;
        let reset_parameters = reset_parameters(settings.reset_parameters.as_deref())?;
        let (rules, episodes) = Rules::resolve(&settings)?;
        let sampling = TaskSampling::resolve(&settings)?;
        let scorers = scorers::resolve(&settings, rules.group.is_some(), &variable)?;
        at_least_1("episodes", episodes)?;
        check_attach(&settings, &sources, episodes)?;
        at_least_1("sessions", u64::from(limits.sessions))?;
        at_least_1("attempts", u64::from(limits.attempts))?;
        at_least_1("episodes-mib-max", settings.episodes_mib_max.unwrap_or(1))?;
        at_least_1("max-steps", u64::from(limits.max_steps.unwrap_or(1)))?;
        at_least_1("episode-bytes-max", limits.episode_bytes_max.unwrap_or(1))?;
        let name = settings.name.unwrap_or_else(|| format!("run-{stamp}"));
        if name.is_empty() || name.chars().any(char::is_control) {
            return Err(ConfigError::value("name", "it must be one line of text"));
        }
        let on_fingerprint_change = match settings.on_fingerprint_change.as_deref() {
            None | Some("stop") => FingerprintChange::Stop,
            Some("mark") => FingerprintChange::Mark,
            Some(other) => {
                let problem = format!("write stop or mark, not `{other}`");
                return Err(ConfigError::value("on-fingerprint-change", problem));
            }
        };
        let claim = match (settings.resume, settings.overwrite) {
            (true, true) => {
                let problem = "it does not go with --overwrite";
                return Err(ConfigError::value("resume", problem));
            }
            (true, false) if settings.out.is_none() => {
                let problem = "name the directory to go on in with --out";
                return Err(ConfigError::value("resume", problem));
            }
            (true, false) => Claim::Resume,
            (false, true) => Claim::Overwrite,
            (false, false) => Claim::New,
        };
        if settings.tasks.is_some() && settings.split.is_some() {
            return Err(ConfigError::value("split", "it does not go with --tasks"));
        }
        let format = match settings.format.as_deref().map(str::parse) {
            None => Format::default(),
            Some(Ok(format)) => format,
            Some(Err(problem)) => return Err(ConfigError::value("format", problem)),
        };
        let source_addresses = settings
            .source_address
            .iter()
            .map(|text| {
                text.parse().map_err(|_| {
                    let problem = format!("`{text}` is no IP address, such as 127.0.0.2");
                    ConfigError::value("source-address", problem)
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            sources,
            name,
            episodes,
            limits,
            rules,
            seed: settings.seed.unwrap_or(0),
            send_seed: !settings.no_seed,
            reset_parameters,
            policy: settings.policy.as_deref().unwrap_or("random").parse()?,
            agent: settings.agent,
            out: settings.out.unwrap_or_else(|| PathBuf::from("trajectories").join(stamp)),
            claim,
            format,
            episode_records: settings.episode_records,
            tasks: settings.tasks,
            split: settings.split,
            sampling,
            scorers,
            python: settings.python,
            python_path: settings.python_path.into_iter().map(PathBuf::from).collect(),
            replicas: settings.replicas,
            truncated_from: settings.truncated_from.as_deref().map(str::parse).transpose()?,
            truncated_from_text: settings.truncated_from,
            ca: settings.ca,
            headers,
            on_fingerprint_change,
            episodes_mib_max: settings.episodes_mib_max,
            message_bytes_max: settings.message_bytes_max.unwrap_or(64 << 20),
            ping: settings.ping_ms.filter(|&ms| ms > 0).map(Duration::from_millis),
            gather_max: Duration::from_millis(settings.gather_ms.unwrap_or(GATHER_MS)),
            transport,
            attach: settings.attach,
            session_timeout: settings
                .session_timeout_ms
                .filter(|&ms| ms > 0)
                .map(Duration::from_millis),
            source_addresses,
            flight_recorder: settings.flight_recorder,
            flight_recorder_bytes_max: settings
                .flight_recorder_bytes_max
                .unwrap_or(envmill_recorder::BYTES_MAX_DEFAULT),
            program: Vec::new(),
        })
    }

    /// The options as they go into `job.json`: complete, without secrets.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let deadlines = &self.limits.deadlines;
        let ms = |time: Option<Duration>| time.map(|time| time.as_millis() as u64);
        let mut all = json!({
            "name": self.name,
            "env": self.sources.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "episodes": self.episodes,
            "sessions": self.limits.sessions,
            "max-steps": self.limits.max_steps,
            "episode-bytes-max": self.limits.episode_bytes_max,
            "attempts": self.limits.attempts,
            "session-reuse": Reuse(self.limits.session_reuse).to_string(),
            "seed": self.seed,
            "no-seed": !self.send_seed,
            "reset-parameters": String::from_utf8_lossy(&self.reset_parameters),
            "policy": self.policy.to_string(),
            "agent": self.agent,
            "tasks": self.tasks,
            "split": self.split,
            "format": self.format.name(),
            "episode-records": self.episode_records,
            "truncated-from": self.truncated_from_text,
            "on-fingerprint-change": match self.on_fingerprint_change {
                FingerprintChange::Stop => "stop",
                FingerprintChange::Mark => "mark",
            },
            "header": self.headers.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            "ca": self.ca,
            "message-bytes-max": self.message_bytes_max,
            "episodes-mib-max": self.episodes_mib_max,
            "ping-ms": ms(self.ping),
            "gather-ms": ms(Some(self.gather_max)),
            "transport": match self.transport {
                Transport::Ws => "ws",
                Transport::McpHttp => "mcp-http",
                Transport::Harness => "harness",
            },
            "attach": self.attach,
            "session-timeout-ms": ms(self.session_timeout),
            "source-address": self.source_addresses,
            "flight-recorder": self.flight_recorder,
            "flight-recorder-bytes-max": self.flight_recorder_bytes_max,
            "connect-timeout-ms": ms(deadlines.connect),
            "first-reset-timeout-ms": ms(deadlines.first_reset),
            "reset-timeout-ms": ms(deadlines.reset),
            "step-timeout-ms": ms(deadlines.step),
            "episode-timeout-ms": ms(deadlines.episode),
            "job-timeout-ms": ms(deadlines.job),
            "no-server-timeout-ms": ms(Some(deadlines.no_server)),
            "start-timeout-ms": ms(Some(self.limits.start)),
        });
        for (name, value) in self.rules.to_json().into_iter().chain(self.sampling.to_json()) {
            all[name] = value;
        }
        // Named, so that a job that goes on is seen to have had some.
        all["scorers"] = Value::Null;
        for scorer in &self.scorers {
            all["scorers"][&scorer.name] = scorer.to_json();
        }
        if self.sampling.epochs.is_some() {
            // The tasks say how many there are.
            all.as_object_mut().map(|all| all.remove("episodes"));
        }
        all
    }
}

fn sources(settings: &Settings) -> Result<Vec<Source>, ConfigError> {
    let replicas = settings.replicas.unwrap_or(1);
    if replicas == 0 || replicas > REPLICAS_MAX {
        let problem = format!("write a number from 1 to {REPLICAS_MAX}");
        return Err(ConfigError::value("replicas", problem));
    }
    let mut sources = Vec::new();
    for text in settings.env.iter().flat_map(|text| source::split(text)) {
        let source = Source::parse(text)?;
        // The processes of a class are the worker's.
        let is_one = match &source {
            Source::Url(_) => true,
            Source::Local(local) => local.is_python(),
            Source::Served(_) | Source::Command(_) => false,
        };
        let copies = if is_one { 1 } else { replicas };
        sources.extend(std::iter::repeat_n(source, copies as usize));
    }
    if let Some(command) = &settings.serve {
        if !command.contains("{port}") {
            return Err(ConfigError::value(
                "serve",
                "it must hold {port} where the server's port goes, as in \"uvicorn app:app --port \
                 {port}\"",
            ));
        }
        sources.extend(std::iter::repeat_n(Source::Command(command.clone()), replicas as usize));
    }
    if sources.is_empty() {
        let native = Source::parse("native:cartpole")?;
        sources.extend(std::iter::repeat_n(native, replicas as usize));
    }
    // One worker plays a run, of one kind.
    if sources.iter().any(|source| !source.is_remote())
        && sources.iter().any(|it| *it != sources[0])
    {
        return Err(ConfigError::value(
            "env",
            "native:, openenv-class: and python: environments play alone; put serve: before them to pool \
             them with others",
        ));
    }
    // What only a server can be asked for must not be left out in silence.
    if sources.iter().any(|source| !source.is_remote())
        && !matches!(settings.transport.as_deref(), None | Some("ws"))
    {
        let problem = "it takes a server: give a URL, or put serve: before the environment";
        return Err(ConfigError::value("transport", problem));
    }
    let is_started = |source: &Source| !matches!(source, Source::Url(_));
    if settings.replicas.is_some_and(|n| n > 1) && !sources.iter().any(is_started) {
        return Err(ConfigError::value(
            "replicas",
            "there is nothing to start: it goes with --serve and with --env that is no URL",
        ));
    }
    Ok(sources)
}

fn transport(settings: &Settings) -> Result<Transport, ConfigError> {
    match settings.transport.as_deref() {
        None | Some("ws") => Ok(Transport::Ws),
        Some("mcp-http") => Ok(Transport::McpHttp),
        Some("harness") => Ok(Transport::Harness),
        Some(other) => {
            let problem = format!("write ws, mcp-http or harness, not `{other}`");
            Err(ConfigError::value("transport", problem))
        }
    }
}

fn check_attach(settings: &Settings, sources: &[Source], episodes: u64) -> Result<(), ConfigError> {
    let ids = settings.attach.len();
    if ids == 0 {
        return Ok(());
    }
    let problem = if !matches!(sources, [Source::Url(_)]) {
        "sessions belong to one server: give exactly one --env URL".to_owned()
    } else if !matches!(settings.transport.as_deref(), None | Some("ws")) {
        "only --transport ws attaches to sessions".to_owned()
    } else if episodes > ids as u64 {
        format!("{ids} sessions are too few for {episodes} episodes: none is used for a second one")
    } else {
        return Ok(());
    };
    Err(ConfigError::value("attach", problem))
}

fn limits(settings: &Settings) -> Result<Limits, ConfigError> {
    let defaults = Deadlines::default();
    let or = |given: Option<u64>, default: Option<Duration>| match given {
        None => default,
        Some(0) => None,
        Some(ms) => Some(Duration::from_millis(ms)),
    };
    let deadlines = Deadlines {
        connect: or(settings.connect_timeout_ms, defaults.connect),
        first_reset: or(settings.first_reset_timeout_ms, defaults.first_reset),
        reset: or(settings.reset_timeout_ms, defaults.reset),
        step: or(settings.step_timeout_ms, defaults.step),
        policy: defaults.policy,
        episode: or(settings.episode_timeout_ms, defaults.episode),
        job: or(settings.job_timeout_ms, defaults.job),
        no_server: or(settings.no_server_timeout_ms, Some(defaults.no_server))
            .unwrap_or(Duration::MAX),
    };
    // A session that was attached to, and one of an agent, are one episode.
    let single = settings.production
        || !settings.attach.is_empty()
        || settings.transport.as_deref() == Some("harness");
    let session_reuse = match (single, settings.session_reuse) {
        (false, reuse) => reuse.unwrap_or_default().0,
        (true, None | Some(Reuse(SessionReuse::Never))) => SessionReuse::Never,
        (true, Some(reuse)) => {
            let problem = format!(
                "{reuse} does not go with --production, --attach and --transport harness, which never reuse a session"
            );
            return Err(ConfigError::value("session-reuse", problem));
        }
    };
    Ok(Limits {
        sessions: settings.sessions.unwrap_or(64),
        max_steps: settings.max_steps,
        episode_bytes_max: settings.episode_bytes_max,
        attempts: settings.attempts.unwrap_or(3),
        session_reuse,
        deadlines,
        start: or(settings.start_timeout_ms, Some(Duration::from_mins(1))).unwrap_or(Duration::MAX),
    })
}

fn reset_parameters(given: Option<&str>) -> Result<Bytes, ConfigError> {
    let Some(text) = given else { return Ok(Bytes::new()) };
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(_)) => Ok(Bytes::from(text.trim().replace(['\n', '\r'], " "))),
        Ok(_) => Err(ConfigError::value(
            "reset-parameters",
            "it must be one JSON object such as {\"split\":\"train\"}",
        )),
        Err(error) => {
            Err(ConfigError::value("reset-parameters", format!("it is no JSON: {error}")))
        }
    }
}

/// Headers as `--header` gives them, with that of a bearer token.
pub(crate) fn headers(
    given: &[String],
    bearer: Places<'_>,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Vec<(String, String)>, ConfigError> {
    let mut headers = Vec::new();
    for (index, header) in given.iter().enumerate() {
        // The text is not repeated: it may be a secret.
        let Some((name, value)) = header.split_once(':') else {
            let problem = format!("number {} has no colon: write \"NAME: VALUE\"", index + 1);
            return Err(ConfigError::value("header", problem));
        };
        headers.push((name.trim().to_owned(), value.trim().to_owned()));
    }
    let token = bearer.read(variable);
    let token = token.map_err(|(setting, problem)| ConfigError::value(setting, problem))?;
    headers.extend(token.map(|token| ("Authorization".into(), token.bearer())));
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn resolve(settings: Settings) -> Result<RunOptions, ConfigError> {
        RunOptions::resolve(settings, "now", |name| (name == "TOKEN").then(|| "s3cret".into()))
    }

    #[test]
    fn what_takes_a_server_is_not_left_out_in_silence() {
        for env in ["native:echo", "openenv-class:a:B", "python:gymnasium/CartPole-v1"] {
            let transport = Some("harness".into());
            let settings = Settings { env: vec![env.into()], transport, ..Settings::default() };
            let error = sources(&settings).unwrap_err().to_string();
            assert!(error.contains("takes a server"), "{env}: {error}");
        }
    }

    #[test]
    fn without_settings_there_is_a_default_job() {
        let options = resolve(Settings::default()).unwrap();
        assert_eq!(options.sources, [Source::parse("native:cartpole").unwrap()]);
        assert_eq!((options.episodes, options.limits.sessions), (1000, 64));
        assert_eq!(options.out, PathBuf::from("trajectories/now"));
        assert_eq!(options.limits.session_reuse, SessionReuse::Episodes(32));
    }

    #[test]
    fn flags_win_over_the_file() {
        let flags = Settings { episodes: Some(5), json: true, ..Settings::default() };
        let file = Settings {
            episodes: Some(7),
            sessions: Some(3),
            env: vec!["native:echo".into()],
            ..Settings::default()
        };
        let options = resolve(flags.over(file)).unwrap();
        assert_eq!((options.episodes, options.limits.sessions), (5, 3));
        assert_eq!(options.sources[0].to_string(), "native:echo");
    }

    #[test]
    fn a_flag_that_says_where_the_token_is_wins_over_either_word_of_the_file() {
        let of = |variable: Option<&str>, file: Option<&str>| Settings {
            bearer_env: variable.map(str::to_owned),
            bearer_file: file.map(PathBuf::from),
            ..Settings::default()
        };
        let (flag, file) = (of(Some("TOKEN"), None), of(None, Some("/nowhere")));
        assert_eq!(resolve(flag.clone().over(file.clone())).unwrap().headers[0].1, "Bearer s3cret");
        assert_eq!(file.over(flag).bearer_env, None);
    }

    #[test]
    fn zero_lets_time_run_without_limit() {
        let settings = Settings { step_timeout_ms: Some(0), ..Settings::default() };
        assert_eq!(resolve(settings).unwrap().limits.deadlines.step, None);
    }

    #[test]
    fn secrets_are_shown_nowhere() {
        let settings = Settings {
            header: vec!["X-Key: s3cret".into()],
            bearer_env: Some("TOKEN".into()),
            ..Settings::default()
        };
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "s3cret\n").unwrap();
        let in_file = Settings {
            bearer_env: None,
            bearer_file: Some(file.path().to_owned()),
            ..settings.clone()
        };
        for settings in [settings, in_file] {
            let options = resolve(settings).unwrap();
            assert_eq!(options.headers[1].1, "Bearer s3cret");
            assert!(!format!("{options:?}").contains("s3cret"));
        }
        let settings = Settings { header: vec!["s3cret".into()], ..Settings::default() };
        assert!(!resolve(settings).unwrap_err().to_string().contains("s3cret"));
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let with = |change: fn(&mut Settings)| {
            let mut settings = Settings::default();
            change(&mut settings);
            resolve(settings).unwrap_err().to_string()
        };
        for (message, expected) in [
            (with(|s| s.serve = Some("uvicorn".into())), "{port}"),
            (with(|s| s.replicas = Some(0)), "--replicas"),
            (
                with(|s| {
                    s.env = vec!["http://a".into()];
                    s.replicas = Some(2);
                }),
                "--serve",
            ),
            (with(|s| s.sessions = Some(0)), "--sessions"),
            (with(|s| s.format = Some("csv".into())), "parquet"),
            (with(|s| s.resume = true), "--out"),
            (with(|s| (s.resume, s.overwrite) = (true, true)), "--overwrite"),
            (with(|s| s.policy = Some("replay:".into())), "replay:"),
            (with(|s| s.reset_parameters = Some("[1]".into())), "JSON object"),
            (with(|s| s.policy = Some("constant:1".into())), "--policy"),
            (with(|s| s.truncated_from = Some("x".into())), "--truncated-from"),
            (with(|s| s.bearer_env = Some("UNSET".into())), "UNSET"),
            (
                with(|s| s.bearer_file = Some("/nowhere".into())),
                "--bearer-file: cannot read /nowhere",
            ),
            (
                with(|s| {
                    s.bearer_env = Some("TOKEN".into());
                    s.bearer_file = Some("/nowhere".into());
                }),
                "--bearer-file: either `bearer-env` or `bearer-file`",
            ),
            (with(|s| s.on_fingerprint_change = Some("x".into())), "stop or mark"),
            (
                with(|s| {
                    s.production = true;
                    s.session_reuse = Some("4".parse().unwrap());
                }),
                "--production",
            ),
        ] {
            assert!(message.contains(expected), "{message}");
        }
    }
}

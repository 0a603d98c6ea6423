//! What a configuration says of a harness.

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf, absolute},
    time::Duration,
};

use envmill_capture::CaptureOptions;
use serde::Deserialize;

use crate::{
    config::Settings,
    model::{Bearer, Channel, ModelSpec},
    secret::Places,
};

/// How long an episode may take where nothing is said.
const DEADLINE_S: u64 = 3600;
/// How many are played at one time where nothing is said.
const SESSIONS: u32 = 16;

/// A harness of a service.
#[derive(Clone, Debug)]
pub struct HarnessOptions {
    /// The model that its calls are answered by.
    pub spec: ModelSpec,
    /// The folder of that model; `None`: the one that its inference engine says it serves.
    pub model: Option<PathBuf>,
    /// Where programs find the endpoint. Default: a free port of 127.0.0.1.
    pub listen: SocketAddr,
    /// What programs are told of where it is, if that is not `http://LISTEN/v1`.
    pub base_url: Option<String>,
    /// Who the programs are.
    pub players: Players,
    /// How long an episode may take. Default one hour.
    pub deadline: Duration,
    /// How calls are rendered and answered.
    pub capture: CaptureOptions,
}

/// Who plays the episodes of a harness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Players {
    /// A program, started for each.
    Started(Launch),
    /// Programs that come and ask for them.
    External {
        /// Whoever asks has this token.
        token: Option<Bearer>,
    },
}

/// How a program is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// The program and its arguments; at least one.
    pub command: Vec<String>,
    /// Environment variables that it gets, beside those of the service. `{base_url}`, `{api_key}` and
    /// `{directory}` in a value stand for the episode's own.
    pub env: BTreeMap<String, String>,
    /// Its working directory. Default: that of the configuration.
    pub directory: PathBuf,
}

impl fmt::Display for HarnessOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.players {
            Players::Started(launch) => f.write_str(&launch.command.join(" "))?,
            Players::External { .. } => write!(f, "external programs at {}", self.listen)?,
        }
        write!(f, ", {}", self.spec)
    }
}

/// The table of a harness as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Table {
    policy: Option<String>,
    model: Option<PathBuf>,
    listen: Option<String>,
    base_url: Option<String>,
    command: Option<Vec<String>>,
    env: Option<BTreeMap<String, String>>,
    directory: Option<PathBuf>,
    external: bool,
    token_env: Option<String>,
    token_file: Option<PathBuf>,
    deadline_s: Option<u64>,
    sessions: Option<u32>,
    attempts: Option<u32>,
    on_env_error: Option<String>,
    retry_budget: Option<u32>,
    episode_bytes_max: Option<u64>,
    capture: CaptureOptions,
}

/// Its keys.
pub(crate) const KEYS: [&str; 17] = [
    "policy",
    "model",
    "listen",
    "base-url",
    "command",
    "env",
    "directory",
    "external",
    "token-env",
    "token-file",
    "deadline-s",
    "sessions",
    "attempts",
    "on-env-error",
    "retry-budget",
    "episode-bytes-max",
    "capture",
];

/// What is wrong with a table: the key, and what to write instead.
type Problem = (&'static str, String);

impl Table {
    /// Completes and checks it; what is said of sessions and attempts comes as settings. `beside` makes a path
    /// what the file means by it, and `variable` reads an environment variable.
    pub(crate) fn resolve(
        self,
        beside: impl Fn(&Path) -> PathBuf,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<(HarnessOptions, Settings), Problem> {
        let spec = spec(self.policy.as_deref())?;
        let listen = self.listen.as_deref().unwrap_or("127.0.0.1:0");
        let listen: SocketAddr = listen.parse().map_err(|_| {
            let problem = format!("`{listen}` is no ADDRESS:PORT such as 127.0.0.1:7470");
            ("listen", problem)
        })?;
        for (key, is_zero) in
            [("deadline-s", self.deadline_s == Some(0)), ("sessions", self.sessions == Some(0))]
        {
            if is_zero {
                return Err((key, "it must be at least 1".into()));
            }
        }
        let absolute = |path: &Path| {
            let path = beside(path);
            absolute(&path).unwrap_or(path)
        };
        let goes_with = |key, other: &str| Err((key, format!("it goes with `{other}`")));
        let players = match (self.command, self.external) {
            (Some(_), true) => return Err(("command", "either `command` or `external`".into())),
            (None, false) => {
                let problem = "write the program that is started for each episode, such as command = \
                               [\"python\", \"agent.py\"], or external = true";
                return Err(("command", problem.into()));
            }
            (Some(mut command), false) => {
                if self.token_env.is_some() {
                    return goes_with("token-env", "external");
                }
                if self.token_file.is_some() {
                    return goes_with("token-file", "external");
                }
                let Some(program) = command.first_mut().filter(|it| !it.is_empty()) else {
                    return Err(("command", "it is empty: write the program first".into()));
                };
                if Path::new(&*program).components().count() > 1 {
                    *program = absolute(Path::new(&*program)).display().to_string();
                }
                let directory = absolute(self.directory.as_deref().unwrap_or(Path::new("")));
                Players::Started(Launch { command, env: self.env.unwrap_or_default(), directory })
            }
            (None, true) => {
                if self.env.is_some() {
                    return goes_with("env", "command");
                }
                if self.directory.is_some() {
                    return goes_with("directory", "command");
                }
                let file = self.token_file.as_deref().map(absolute);
                let token = Places::token(self.token_env.as_deref(), file.as_deref());
                let token = token.read(variable)?;
                if token.is_none() && !listen.ip().is_loopback() {
                    let problem = format!(
                        "{listen} can be reached from other machines: name the environment variable, or \
                         with `token-file` the file, of a secret that programs ask for episodes with"
                    );
                    return Err(("token-env", problem));
                }
                Players::External { token: token.map(|token| Bearer::of(token.text())) }
            }
        };
        let options = HarnessOptions {
            spec,
            model: self.model.as_deref().map(absolute),
            listen,
            base_url: self.base_url,
            players,
            deadline: Duration::from_secs(self.deadline_s.unwrap_or(DEADLINE_S)),
            capture: self.capture,
        };
        let settings = Settings {
            sessions: Some(self.sessions.unwrap_or(SESSIONS)),
            attempts: self.attempts,
            on_env_error: self.on_env_error,
            retry_budget: self.retry_budget,
            episode_bytes_max: self.episode_bytes_max,
            policy: self.policy,
            ..Settings::default()
        };
        Ok((options, settings))
    }
}

fn spec(policy: Option<&str>) -> Result<ModelSpec, Problem> {
    let example =
        "write the model that its calls are answered by, such as vllm:http://127.0.0.1:8000";
    let policy = policy.ok_or_else(|| ("policy", example.to_owned()))?;
    let spec: ModelSpec = policy.parse().map_err(|_| {
        let problem = format!("`{policy}` is no language model: {example}");
        ("policy", problem)
    })?;
    if spec.channel == Channel::OpenAi {
        let problem = format!("{spec} speaks text only, and token ids are recorded: {example}");
        return Err(("policy", problem));
    }
    Ok(spec)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const MODEL: &str = "policy = \"vllm:http://a:1\"\n";

    fn resolve(text: &str) -> Result<(HarnessOptions, Settings), Problem> {
        let table: Table = toml::from_str(text).unwrap();
        let variable = |name: &str| (name == "TOKEN").then(|| "s3cret\n".to_owned());
        table.resolve(|path| Path::new("/etc").join(path), variable)
    }

    #[test]
    fn there_are_defaults() {
        let text = format!("{MODEL}command = [\"python\", \"agent.py\"]");
        let (options, settings) = resolve(&text).unwrap();
        assert_eq!(options.listen.to_string(), "127.0.0.1:0");
        assert_eq!((options.deadline.as_secs(), settings.sessions), (3600, Some(16)));
        assert_eq!(options.to_string(), "python agent.py, vllm:http://a:1");
        let Players::Started(launch) = options.players else { panic!() };
        assert_eq!((launch.command[0].as_str(), launch.directory), ("python", "/etc/".into()));
    }

    #[test]
    fn everything_can_be_said() {
        let text = format!(
            r#"{MODEL}
            model = "folder"
            base-url = "http://gateway/v1"
            command = ["bin/agent", "--fast"]
            env = {{ KEY = "{{api_key}}" }}
            directory = "work"
            deadline-s = 5
            sessions = 2
            attempts = 1
            on-env-error = "retry"
            retry-budget = 20
            episode-bytes-max = 1000
            capture = {{ tool_format = "xml", limits = {{ calls = 3 }} }}
            "#
        );
        let (options, settings) = resolve(&text).unwrap();
        assert_eq!(options.model.as_deref(), Some(Path::new("/etc/folder")));
        assert_eq!(options.capture.limits.calls, 3);
        let Players::Started(launch) = options.players else { panic!() };
        assert_eq!(launch.command, ["/etc/bin/agent", "--fast"]);
        assert_eq!(
            (launch.env["KEY"].as_str(), launch.directory),
            ("{api_key}", "/etc/work".into())
        );
        assert_eq!((settings.attempts, settings.sessions), (Some(1), Some(2)));
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "s3cret\n").unwrap();
        let in_file = format!("token-file = {:?}", file.path());
        for token in ["token-env = \"TOKEN\"", &in_file] {
            let text = format!("{MODEL}external = true\nlisten = \"0.0.0.0:1\"\n{token}");
            let (options, _) = resolve(&text).unwrap();
            assert!(!format!("{options:?} {options}").contains("s3cret"));
            assert_eq!(options.players, Players::External { token: Some(Bearer::of("s3cret")) });
        }
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        for (text, key, expected) in [
            ("command = [\"a\"]", "policy", "vllm:"),
            ("policy = \"random\"", "policy", "no language model"),
            ("policy = \"openai:m@http://a\"", "policy", "text only"),
            ("policy = \"vllm:http://a\"", "command", "agent.py"),
            ("policy = \"vllm:http://a\"\ncommand = []", "command", "empty"),
            ("policy = \"vllm:http://a\"\ncommand = [\"a\"]\nexternal = true", "command", "either"),
            ("policy = \"vllm:http://a\"\nlisten = \"a:1\"", "listen", "ADDRESS:PORT"),
            ("policy = \"vllm:http://a\"\nsessions = 0", "sessions", "at least 1"),
            ("policy = \"vllm:http://a\"\ndeadline-s = 0", "deadline-s", "at least 1"),
            (
                "policy = \"vllm:http://a\"\ncommand = [\"a\"]\ntoken-env = \"TOKEN\"",
                "token-env",
                "`external`",
            ),
            (
                "policy = \"vllm:http://a\"\ncommand = [\"a\"]\ntoken-file = \"f\"",
                "token-file",
                "`external`",
            ),
            ("policy = \"vllm:http://a\"\nexternal = true\nenv = {}", "env", "`command`"),
            (
                "policy = \"vllm:http://a\"\nexternal = true\ndirectory = \"a\"",
                "directory",
                "`command`",
            ),
            (
                "policy = \"vllm:http://a\"\nexternal = true\ntoken-env = \"NO\"",
                "token-env",
                "NO is not",
            ),
            (
                "policy = \"vllm:http://a\"\nexternal = true\ntoken-file = \"no-such\"",
                "token-file",
                "cannot read /etc/no-such",
            ),
            (
                "policy = \"vllm:http://a\"\nexternal = true\nlisten = \"0.0.0.0:1\"",
                "token-env",
                "other machines",
            ),
        ] {
            let (its, problem) = resolve(text).unwrap_err();
            assert_eq!(its, key, "{text}: {problem}");
            assert!(problem.contains(expected), "{text}: {problem}");
        }
    }

    #[test]
    fn the_list_of_keys_is_whole() {
        for key in KEYS {
            let error = toml::from_str::<Table>(&format!("{key} = 1.5")).unwrap_err();
            assert!(error.to_string().contains("invalid type"), "{key}: {error}");
        }
    }
}

//! Where sessions come from, as written after `--env`.

use std::{fmt, str::FromStr};

use envmill_native::Parameters;
use envmill_python_worker::{Start, Threads};

use super::ConfigError;

/// The sources that stand in one text, with commas between them: those that are not within the JSON of
/// arguments.
pub(super) fn split(text: &str) -> Vec<&str> {
    let (mut depth, mut is_quoted, mut is_escaped) = (0_i32, false, false);
    text.split(|character| {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            '{' | '[' if !is_quoted => depth += 1,
            '}' | ']' if !is_quoted => depth -= 1,
            _ => {}
        }
        character == ',' && depth <= 0 && !is_quoted
    })
    .collect()
}

/// One server, or what starts one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A server that is there.
    Url(String),
    /// An environment without a server, in this process or in worker processes of its own.
    Local(Local),
    /// An embedded server of such an environment, started as a child.
    Served(Local),
    /// A command that starts a server, with `{port}` where the port goes.
    Command(String),
}

/// An environment that needs no server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Local {
    /// A native one.
    Native(Native),
    /// An OpenEnv environment class.
    OpenEnvClass(ClassSource),
    /// A Gymnasium environment.
    Gymnasium(GymnasiumSource),
}

impl Local {
    /// Whether it is stepped in Python processes.
    #[must_use]
    pub const fn is_python(&self) -> bool {
        matches!(self, Self::OpenEnvClass(_) | Self::Gymnasium(_))
    }
}

impl FromStr for Local {
    type Err = ConfigError;

    /// Reads `NAME`, `native:NAME`, `openenv-class:module:Class`, `python:gymnasium/ID` or
    /// `python:module:factory`, each with its parameters.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(class) = text.strip_prefix("openenv-class:") {
            return class.parse().map(Self::OpenEnvClass);
        }
        if let Some(name) = text.strip_prefix("python:") {
            return name.parse().map(Self::Gymnasium);
        }
        text.strip_prefix("native:").unwrap_or(text).parse().map(Self::Native)
    }
}

impl fmt::Display for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Native(native) => native.fmt(f),
            Self::OpenEnvClass(class) => class.fmt(f),
            Self::Gymnasium(gymnasium) => gymnasium.fmt(f),
        }
    }
}

/// A Gymnasium environment, as in `python:gymnasium/CartPole-v1` or `python:my_envs:make`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GymnasiumSource {
    /// `gymnasium/ID` or `module:factory`.
    pub name: String,
    /// Keyword arguments: the text of one JSON object, or empty.
    pub arguments: String,
    /// For a vectorised environment, its rows.
    pub vector: Option<u32>,
    /// How processes begin.
    pub start: Start,
}

impl FromStr for GymnasiumSource {
    type Err = ConfigError;

    /// Reads `gymnasium/ID[?parameter=value&...]` or `module:factory[?...]`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, query) = text.split_once('?').unwrap_or((text, ""));
        let is_id = name.strip_prefix("gymnasium/").is_some_and(|id| !id.is_empty());
        if !is_id && name.split_once(':').is_none_or(|(a, b)| a.is_empty() || b.is_empty()) {
            let problem = format!(
                "`{name}` names no environment: write python:gymnasium/ID or python:module:factory"
            );
            return Err(ConfigError::value("env", problem));
        }
        let mut source = Self { name: name.into(), ..Self::default() };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=').unwrap_or((pair, "")) {
                ("arguments", value) if !value.is_empty() => source.arguments = value.into(),
                ("vector", value) if rows(value).is_some() => source.vector = rows(value),
                ("start", value) if start(value).is_some() => {
                    source.start = start(value).unwrap_or_default();
                }
                _ => {
                    let problem = format!(
                        "python: `{pair}` is not usable: there are arguments= (JSON), vector= (rows of a \
                         vectorised environment) and start=auto|fork|spawn"
                    );
                    return Err(ConfigError::value("env", problem));
                }
            }
        }
        Ok(source)
    }
}

impl fmt::Display for GymnasiumSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "python:{}", self.name)?;
        let mut separator = '?';
        if !self.arguments.is_empty() {
            write!(f, "{separator}arguments={}", self.arguments)?;
            separator = '&';
        }
        if let Some(rows) = self.vector {
            write!(f, "{separator}vector={rows}")?;
            separator = '&';
        }
        match start_name(self.start) {
            Some(start) => write!(f, "{separator}start={start}"),
            None => Ok(()),
        }
    }
}

fn rows(text: &str) -> Option<u32> {
    text.parse().ok().filter(|&rows| rows > 0)
}

fn start(name: &str) -> Option<Start> {
    match name {
        "auto" => Some(Start::Auto),
        "fork" => Some(Start::Fork),
        "spawn" => Some(Start::Spawn),
        _ => None,
    }
}

/// What is written for a start that is not the default.
const fn start_name(start: Start) -> Option<&'static str> {
    match start {
        Start::Auto => None,
        Start::Fork => Some("fork"),
        Start::Spawn => Some("spawn"),
    }
}

/// An OpenEnv environment class, as in `openenv-class:my_env.server:MyEnvironment?threads=session`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClassSource {
    /// The class, as `module:Class`.
    pub class: String,
    /// The model of actions, as `module:Class`, where it cannot be found by the class.
    pub action: Option<String>,
    /// The model of observations.
    pub observation: Option<String>,
    /// The model of the state.
    pub state: Option<String>,
    /// The constructor's keyword arguments: the text of one JSON object, or empty.
    pub arguments: String,
    /// Which thread of its process a session runs on.
    pub threads: Threads,
    /// How processes begin.
    pub start: Start,
}

impl ClassSource {
    /// What may stand behind the question mark.
    const PARAMETERS: &str = "action=, observation=, state= (each module:Class), arguments= (JSON), \
                              threads=auto|inline|session, start=auto|fork|spawn";
}

impl FromStr for ClassSource {
    type Err = ConfigError;

    /// Reads `module:Class[?parameter=value&...]`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (class, query) = text.split_once('?').unwrap_or((text, ""));
        if class.split_once(':').is_none_or(|(module, name)| module.is_empty() || name.is_empty()) {
            return Err(ConfigError::value(
                "env",
                format!("`{class}` names no class: write openenv-class:module:Class"),
            ));
        }
        let mut source = Self { class: class.into(), ..Self::default() };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let unknown = || {
                let problem = format!(
                    "openenv-class: `{pair}` is not usable: there are {}",
                    Self::PARAMETERS
                );
                Err(ConfigError::value("env", problem))
            };
            match pair.split_once('=').unwrap_or((pair, "")) {
                (_, "") => return unknown(),
                ("action", value) => source.action = Some(value.into()),
                ("observation", value) => source.observation = Some(value.into()),
                ("state", value) => source.state = Some(value.into()),
                ("arguments", value) => source.arguments = value.into(),
                ("threads", "auto") => source.threads = Threads::Auto,
                ("threads", "inline") => source.threads = Threads::Inline,
                ("threads", "session") => source.threads = Threads::Session,
                ("start", value) if start(value).is_some() => {
                    source.start = start(value).unwrap_or_default();
                }
                _ => return unknown(),
            }
        }
        Ok(source)
    }
}

impl fmt::Display for ClassSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "openenv-class:{}", self.class)?;
        let mut separator = '?';
        let mut write = |key: &str, value: &str| {
            let written = write!(f, "{separator}{key}={value}");
            separator = '&';
            written
        };
        for (key, value) in
            [("action", &self.action), ("observation", &self.observation), ("state", &self.state)]
        {
            if let Some(value) = value {
                write(key, value)?;
            }
        }
        if !self.arguments.is_empty() {
            write("arguments", &self.arguments)?;
        }
        match self.threads {
            Threads::Auto => {}
            Threads::Inline => write("threads", "inline")?,
            Threads::Session => write("threads", "session")?,
        }
        match start_name(self.start) {
            Some(start) => write("start", start),
            None => Ok(()),
        }
    }
}

/// A native environment with its parameters, as in `native:synthetic?step_ms=5`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Native {
    /// Its name.
    pub name: String,
    /// Its parameters as text.
    pub parameters: Parameters,
}

impl FromStr for Native {
    type Err = ConfigError;

    /// Reads `NAME[?parameter=value&...]` and checks that there is such an environment. Parameters may
    /// be written with `-` for `_`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, query) = text.split_once('?').unwrap_or((text, ""));
        let mut parameters = Parameters::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let Some((key, value)) = pair.split_once('=') else {
                return Err(ConfigError::value(
                    "env",
                    format!("`{pair}` has no value: write native:{name}?parameter=value"),
                ));
            };
            parameters.insert(key.replace('-', "_"), value.into());
        }
        envmill_native::environment(name, &parameters)?;
        Ok(Self { name: name.into(), parameters })
    }
}

impl fmt::Display for Native {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "native:{}", self.name)?;
        for (index, (key, value)) in self.parameters.iter().enumerate() {
            let separator = if index == 0 { '?' } else { '&' };
            write!(f, "{separator}{key}={value}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => f.write_str(url),
            Self::Local(local) => local.fmt(f),
            Self::Served(Local::Native(native)) => {
                f.write_str(&native.to_string().replacen("native:", "serve:", 1))
            }
            Self::Served(local) => write!(f, "serve:{local}"),
            Self::Command(command) => f.write_str(command),
        }
    }
}

impl Source {
    /// Reads what stands after `--env`.
    ///
    /// # Errors
    ///
    /// There is no such native environment, or it takes no such parameter. URLs are checked when
    /// they are first used.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let text = text.trim();
        if let Some(served) = text.strip_prefix("serve:") {
            return served.parse().map(Self::Served);
        }
        if ["native:", "openenv-class:", "python:"].iter().any(|kind| text.starts_with(kind)) {
            return text.parse().map(Self::Local);
        }
        if text.is_empty() {
            return Err(ConfigError::value("env", "it is empty: write a URL or native:NAME"));
        }
        if !text.contains("://") {
            let problem = format!(
                "`{text}` is no URL: write http://HOST:PORT, https://HOST, native:NAME, \
                 openenv-class:module:Class, python:gymnasium/ID or serve:NAME"
            );
            return Err(ConfigError::value("env", problem));
        }
        Ok(Self::Url(text.into()))
    }

    /// Whether it is spoken with over sockets.
    #[must_use]
    pub const fn is_remote(&self) -> bool {
        matches!(self, Self::Url(_) | Self::Served(_) | Self::Command(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_within_arguments_are_theirs() {
        assert_eq!(split("http://a,http://b"), ["http://a", "http://b"]);
        let one = r#"python:m:f?arguments={"a":[1,2],"b":"},\",{"}"#;
        assert_eq!(split(one), [one]);
        assert_eq!(split(&format!("{one},http://[::1]:80,")), [one, "http://[::1]:80", ""]);
    }

    #[test]
    fn native_environments_are_read_with_their_parameters() {
        let source = Source::parse("native:synthetic?step-ms=5&payload_bytes=64").unwrap();
        assert_eq!(source.to_string(), "native:synthetic?payload_bytes=64&step_ms=5");
        assert_eq!(Source::parse("native:echo").unwrap().to_string(), "native:echo");
        assert_eq!(Source::parse("serve:echo").unwrap().to_string(), "serve:echo");
    }

    #[test]
    fn classes_are_read_with_their_parameters() {
        for text in [
            "openenv-class:my.env:Env",
            "openenv-class:a:B?action=a:Act&threads=session&start=spawn",
            "serve:openenv-class:a:B?arguments={\"size\":3}",
            "python:gymnasium/ALE/Pong-v5",
            "python:my.envs:make?arguments={\"size\":3}&start=spawn",
        ] {
            assert_eq!(Source::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_does_not_exist_is_named() {
        for (text, expected) in [
            ("native:carpole", "cartpole"),
            ("native:synthetic?stepms=5", "step_ms"),
            ("native:synthetic?step_ms=x", "step_ms"),
            ("native:synthetic?step_ms", "has no value"),
            ("localhost:8000", "http://"),
            ("openenv-class:my.env", "module:Class"),
            ("openenv-class:my.env:Env?thread=session", "threads=auto"),
            ("serve:carpole", "cartpole"),
            ("python:CartPole-v1", "gymnasium/ID"),
            ("python:gymnasium/CartPole-v1?size=3", "arguments="),
            ("", "empty"),
        ] {
            let error = Source::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}

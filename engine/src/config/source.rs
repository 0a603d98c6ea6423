//! Where sessions come from, as written after `--env`.

use std::{fmt, str::FromStr};

use envmill_native::Parameters;
use envmill_python_worker::{Start, Threads};

use super::ConfigError;

/// One server, or what starts one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A server that is there.
    Url(String),
    /// A native environment in this process.
    Native(Native),
    /// An OpenEnv environment class in worker processes.
    OpenEnvClass(ClassSource),
    /// An embedded server of one of these two, started as a child.
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
}

impl FromStr for Local {
    type Err = ConfigError;

    /// Reads `NAME`, `native:NAME` or `openenv-class:module:Class`, each with its parameters.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("openenv-class:") {
            Some(class) => class.parse().map(Self::OpenEnvClass),
            None => text.strip_prefix("native:").unwrap_or(text).parse().map(Self::Native),
        }
    }
}

impl fmt::Display for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Native(native) => native.fmt(f),
            Self::OpenEnvClass(class) => class.fmt(f),
        }
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
                ("start", "auto") => source.start = Start::Auto,
                ("start", "fork") => source.start = Start::Fork,
                ("start", "spawn") => source.start = Start::Spawn,
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
        for (key, value) in [
            ("action", &self.action),
            ("observation", &self.observation),
            ("state", &self.state),
        ] {
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
        match self.start {
            Start::Auto => Ok(()),
            Start::Fork => write("start", "fork"),
            Start::Spawn => write("start", "spawn"),
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
            Self::Native(native) => native.fmt(f),
            Self::OpenEnvClass(class) => class.fmt(f),
            Self::Served(Local::Native(native)) => {
                f.write_str(&native.to_string().replacen("native:", "serve:", 1))
            }
            Self::Served(Local::OpenEnvClass(class)) => write!(f, "serve:{class}"),
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
        if text.starts_with("native:") || text.starts_with("openenv-class:") {
            return Ok(match text.parse()? {
                Local::Native(native) => Self::Native(native),
                Local::OpenEnvClass(class) => Self::OpenEnvClass(class),
            });
        }
        if text.is_empty() {
            return Err(ConfigError::value("env", "it is empty: write a URL or native:NAME"));
        }
        if !text.contains("://") {
            let problem = format!(
                "`{text}` is no URL: write http://HOST:PORT, https://HOST, native:NAME, \
                 openenv-class:module:Class or serve:NAME"
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
            ("", "empty"),
        ] {
            let error = Source::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}

//! What can be known of a service before it starts.

use std::{
    fmt::{self, Display},
    fs,
    path::{Path, PathBuf},
};

use envmill_core::Tasks;

use super::{EnvironmentOptions, ServeError, ServeOptions, TaskSource, Tokens};
use crate::{config::Source, run, tasks};

/// A configuration whose files have been looked at: what would be started. Shown as text, without
/// secrets.
pub struct Checked<'a> {
    options: &'a ServeOptions,
    /// Who may speak to it, where that is asked for.
    pub tokens: Option<Tokens>,
    /// Its certificate chain and key as PEM, if it has one. Secret.
    pub tls: Option<(Vec<u8>, Vec<u8>)>,
    /// The tasks of each task set that is a file, in the order of the options.
    pub task_sets: Vec<(String, Tasks)>,
}

impl fmt::Debug for Checked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checked").field("tokens", &self.tokens).finish_non_exhaustive()
    }
}

/// Looks at everything that a service needs and that can be looked at without starting or changing
/// anything: files, and how many sockets this process may have.
///
/// # Errors
///
/// Something cannot be used; the error names it.
pub fn check(options: &ServeOptions) -> Result<Checked<'_>, ServeError> {
    let sessions = options.environments.iter().map(|it| it.run.limits.sessions);
    let sessions = sessions.fold(0, u32::saturating_add);
    run::check_descriptors(sessions).map_err(|source| ServeError::Limits(Box::new(source)))?;
    if options.store.exists() && !options.store.is_dir() {
        return Err(ServeError::Store(options.store.clone()));
    }
    let tokens = options.tokens.as_deref().map(Tokens::read).transpose()?;
    let tls = match &options.tls {
        Some(files) => Some((pem(&files.cert, "CERTIFICATE")?, pem(&files.key, "PRIVATE KEY")?)),
        None => None,
    };
    let mut task_sets = Vec::new();
    for set in &options.task_sets {
        let TaskSource::File(file) = &set.source else { continue };
        let tasks = tasks::read(file)
            .and_then(|tasks| set.weights.apply(tasks))
            .map_err(|source| ServeError::Tasks { name: set.name.clone(), source })?;
        task_sets.push((set.name.clone(), tasks));
    }
    for environment in &options.environments {
        if let Some(ca) = &environment.run.ca {
            pem(ca, "CERTIFICATE")?;
        }
        if let Some(harness) = &environment.harness {
            let (name, checked) = (environment.name.clone(), harness.check());
            checked
                .map_err(|error| ServeError::Harness { name, source: Box::new(error.into()) })?;
        }
    }
    Ok(Checked { options, tokens, tls, task_sets })
}

/// A file of PEM that has a part of this kind.
fn pem(path: &Path, kind: &'static str) -> Result<Vec<u8>, ServeError> {
    let path: PathBuf = path.to_owned();
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(source) => return Err(ServeError::Unreadable { path, source }),
    };
    let text = String::from_utf8_lossy(&bytes);
    if !text.lines().any(|line| line.starts_with("-----BEGIN ") && line.contains(kind)) {
        return Err(ServeError::Pem { path, kind });
    }
    Ok(bytes)
}

impl Display for Checked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options = self.options;
        writeln!(f, "listen       {}", options.listen)?;
        if let Some(metrics) = options.metrics {
            writeln!(f, "metrics      http://{metrics}/metrics")?;
        }
        writeln!(f, "store        {}", options.store.display())?;
        match &self.tokens {
            Some(tokens) => {
                writeln!(f, "tokens       {}", tokens.names().collect::<Vec<_>>().join(", "))?;
            }
            None => writeln!(f, "tokens       none: everybody on this machine is let in")?,
        }
        match &options.tls {
            Some(files) => writeln!(f, "tls          {}", files.cert.display())?,
            None => writeln!(f, "tls          none")?,
        }
        for set in &options.task_sets {
            let name = &set.name;
            match self.task_sets.iter().find(|(its, _)| its == name) {
                Some((_, tasks)) => writeln!(f, "task set     {name}: {} tasks", tasks.len())?,
                None => writeln!(f, "task set     {name}: {}", set.source)?,
            }
        }
        for scorer in &options.scorers {
            writeln!(f, "scorer       {scorer}")?;
        }
        let lines: Vec<_> = options.environments.iter().map(line).collect();
        write!(f, "{}", lines.join("\n"))
    }
}

/// What would be started of an environment.
fn line(environment: &EnvironmentOptions) -> String {
    let EnvironmentOptions { name, run: options, .. } = environment;
    if let Some(harness) = &environment.harness {
        return format!(
            "harness      {name}: {harness}; {} sessions, {} MiB for episodes",
            options.limits.sessions,
            run::steps_bytes_max(options) >> 20
        );
    }
    let mut sources: Vec<(String, usize)> = Vec::new();
    for source in &options.sources {
        let source = source.to_string();
        match sources.last_mut() {
            Some((last, copies)) if *last == source => *copies += 1,
            _ => sources.push((source, 1)),
        }
    }
    let sources: Vec<_> = sources
        .into_iter()
        .map(|(source, copies)| if copies == 1 { source } else { format!("{copies} × {source}") })
        .collect();
    let is_started = |source: &&Source| matches!(source, Source::Served(_) | Source::Command(_));
    let processes = match options.sources.first() {
        Some(Source::Local(local)) if local.is_python() => {
            options.replicas.map_or_else(|| "a process for each core".into(), processes)
        }
        _ => {
            processes(u32::try_from(options.sources.iter().filter(is_started).count()).unwrap_or(0))
        }
    };
    format!(
        "environment  {name}: {}; {} sessions, {processes}, {} MiB for episodes",
        sources.join(", "),
        options.limits.sessions,
        run::steps_bytes_max(options) >> 20
    )
}

fn processes(count: u32) -> String {
    match count {
        0 => "no processes".into(),
        1 => "1 process".into(),
        count => format!("{count} processes"),
    }
}

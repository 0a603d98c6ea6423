//! What a configuration says of a scorer.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use envmill_core::Scoring;
use serde_json::{Value, json};
use ureq::http::HeaderValue;

/// How long after all calls should be over an episode's score is given up by the core: only if
/// something here is wrong.
pub(super) const LAST_RESORT: Duration = Duration::from_hours(1);

/// One scorer, of a run or of a service.
#[derive(Clone, Debug, PartialEq)]
pub struct ScorerOptions {
    /// Its name, as jobs give it.
    pub name: String,
    /// Who is asked.
    pub source: Source,
    /// How long one call for a batch may take. Default 60 s.
    pub timeout: Duration,
    /// How often a call that failed is tried again. Default 2.
    pub retries: u32,
    /// The most episodes in one batch. Default 64. Not for whole groups: a batch is one group then.
    pub batch_max: usize,
    /// The most episodes of one job with the scorer at one time; while so many are, none is started.
    /// Each is held in memory meanwhile. Default 1,024.
    pub in_flight_max: u32,
    /// The reward is the sum of these components, each times its weight; if there are none, what the
    /// scorer gives as the reward.
    pub weights: BTreeMap<String, f64>,
    /// Whether it sees the members of a group in one batch.
    pub group: bool,
    /// What its reward is multiplied by, before it is added to those of a run's other scorers. Default 1; one
    /// of weight 0 is recorded and does not count.
    pub weight: f64,
}

/// Who is asked for scores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A server that takes batches by `POST`.
    Http(HttpSource),
    /// A function in Python processes.
    Python {
        /// `module:function`.
        function: String,
        /// The interpreter: a path, or a name that is looked up as a shell does. `python3` if `None`.
        interpreter: Option<PathBuf>,
        /// Directories in which modules are looked for first.
        path: Vec<PathBuf>,
        /// How many processes, each with one batch at a time. Default 1.
        processes: u32,
    },
}

/// A server that takes batches by `POST`.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpSource {
    /// Where.
    pub url: String,
    /// The most batches at one time. Default 4.
    pub connections: u32,
    /// The header that says who asks, if the server wants to know. It goes to `url` and nowhere else, and is
    /// shown nowhere.
    pub authorization: Option<HeaderValue>,
    /// Certificates (PEM) to trust besides the web's own authorities.
    pub ca: Option<PathBuf>,
}

impl fmt::Debug for HttpSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url, connections, authorization, ca } = self;
        f.debug_struct("HttpSource")
            .field("url", url)
            .field("connections", connections)
            .field("is_authorized", &authorization.is_some())
            .field("ca", ca)
            .finish()
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(HttpSource { url, connections, .. }) => {
                write!(f, "{}, {connections} connections", without_user(url))
            }
            Self::Python { function, processes: 1, .. } => {
                write!(f, "python {function}, 1 process")
            }
            Self::Python { function, processes, .. } => {
                write!(f, "python {function}, {processes} processes")
            }
        }
    }
}

impl fmt::Display for ScorerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; ", self.name, self.source)?;
        if self.group {
            f.write_str("whole groups")
        } else {
            write!(f, "batches of {}", self.batch_max)
        }
    }
}

impl ScorerOptions {
    /// The same, where a Python function of which nothing else is said finds this interpreter and these
    /// directories.
    #[must_use]
    pub fn with_python(mut self, program: Option<&Path>, directories: &[PathBuf]) -> Self {
        if let Source::Python { interpreter, path, .. } = &mut self.source {
            if interpreter.is_none() {
                *interpreter = program.map(Path::to_owned);
            }
            if path.is_empty() {
                *path = directories.to_vec();
            }
        }
        self
    }

    /// What tells rewards of this scorer from another's, as it goes into `job.json`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let Self { weights, group, weight, .. } = self;
        let (key, target) = match &self.source {
            Source::Http(server) => ("url", without_user(&server.url)),
            Source::Python { function, .. } => ("python", function.clone()),
        };
        let mut all = json!({"weight": weight, "weights": weights, "group": group});
        all[key] = target.into();
        all
    }

    /// How many batches are with it at one time.
    #[must_use]
    pub const fn workers(&self) -> u32 {
        match &self.source {
            Source::Http(server) => server.connections,
            Source::Python { processes, .. } => *processes,
        }
    }

    /// What the core does with a job's episodes.
    #[must_use]
    pub fn scoring(&self) -> Scoring {
        let rounds =
            u64::from(self.in_flight_max) / (self.batch_max as u64 * u64::from(self.workers()));
        let calls = (rounds + 1).saturating_mul(u64::from(self.retries) + 1);
        let calls = u32::try_from(calls).unwrap_or(u32::MAX);
        // A member of a group waits for the slowest one, which has deadlines of its own.
        let deadline =
            (!self.group).then(|| LAST_RESORT.saturating_add(self.timeout.saturating_mul(calls)));
        Scoring::External { deadline, most: self.in_flight_max, whole_groups: self.group }
    }
}

/// What the core does with the episodes of a job that all of these judge; without any it is the environment
/// that says what they were worth.
pub(crate) fn scoring(scorers: &[ScorerOptions]) -> Scoring {
    scorers.iter().map(ScorerOptions::scoring).reduce(both).unwrap_or_default()
}

fn both(one: Scoring, other: Scoring) -> Scoring {
    let Scoring::External { deadline, most, whole_groups } = one else { return other };
    let Scoring::External { deadline: theirs, most: at_most, whole_groups: groups } = other else {
        return one;
    };
    Scoring::External {
        deadline: deadline.zip(theirs).map(|(one, other)| one.max(other)),
        most: most.min(at_most),
        whole_groups: whole_groups || groups,
    }
}

/// A URL without who asks, if it says so.
fn without_user(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let start = rest[..end].rfind('@').map_or(0, |at| at + 1);
    format!("{scheme}://{}", &rest[start..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_is_left_out_of_a_url() {
        assert_eq!(without_user("http://me:s3cret@a:1/s@x"), "http://a:1/s@x");
        assert_eq!(without_user("http://a:1?q=@"), "http://a:1?q=@");
    }
}

//! The table of a scorer in a configuration, completed and checked.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use ureq::http::{HeaderValue, Uri};

use super::{HttpSource, ScorerOptions, Source};
use crate::secret::Places;

/// The table of a scorer as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Table {
    url: Option<String>,
    connections: Option<u32>,
    bearer_env: Option<String>,
    bearer_file: Option<PathBuf>,
    ca: Option<PathBuf>,
    python: Option<String>,
    interpreter: Option<PathBuf>,
    python_path: Option<Vec<PathBuf>>,
    processes: Option<u32>,
    timeout_ms: Option<u64>,
    retries: Option<u32>,
    batch_max: Option<usize>,
    in_flight_max: Option<u32>,
    weights: BTreeMap<String, f64>,
    group: bool,
    weight: Option<f64>,
}

/// Its keys.
pub(crate) const KEYS: [&str; 16] = [
    "url",
    "connections",
    "bearer-env",
    "bearer-file",
    "ca",
    "python",
    "interpreter",
    "python-path",
    "processes",
    "timeout-ms",
    "retries",
    "batch-max",
    "in-flight-max",
    "weights",
    "group",
    "weight",
];

/// What is wrong with a table: the key, and what to write instead.
type Problem = (&'static str, String);

impl Table {
    /// Completes and checks it. `beside` makes a path what the file means by it, and `variable` reads an
    /// environment variable.
    pub(crate) fn resolve(
        self,
        name: &str,
        beside: impl Fn(&Path) -> PathBuf,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<ScorerOptions, Problem> {
        let goes_with = |key, other: &str| Err((key, format!("it goes with `{other}`")));
        let at_least_one = |key, value: Option<u64>| match value {
            Some(0) => Err((key, "it must be at least 1".to_owned())),
            _ => Ok(()),
        };
        at_least_one("connections", self.connections.map(u64::from))?;
        at_least_one("processes", self.processes.map(u64::from))?;
        at_least_one("timeout-ms", self.timeout_ms)?;
        at_least_one("batch-max", self.batch_max.map(|it| it as u64))?;
        at_least_one("in-flight-max", self.in_flight_max.map(u64::from))?;
        let source = match (self.url, self.python) {
            (Some(_), Some(_)) => return Err(("python", "either `url` or `python`".into())),
            (None, None) => {
                let example = "write who scores: url = \"http://127.0.0.1:9000/score\", or python = \
                               \"module:function\"";
                return Err(("url", example.into()));
            }
            (Some(url), None) => {
                if self.interpreter.is_some() {
                    return goes_with("interpreter", "python");
                }
                if self.python_path.is_some() {
                    return goes_with("python-path", "python");
                }
                if self.processes.is_some() {
                    return goes_with("processes", "python");
                }
                check_url(&url)?;
                let ca = self.ca.as_deref().map(&beside);
                if ca.is_some() && !url.starts_with("https:") {
                    return Err(("ca", "it goes with a `url` that begins with https".into()));
                }
                let file = self.bearer_file.as_deref().map(&beside);
                let token = Places::bearer(self.bearer_env.as_deref(), file.as_deref());
                let token = token.read(variable)?;
                let authorization = token.map(|token| sensitive(&token.bearer())).transpose()?;
                let connections = self.connections.unwrap_or(4);
                Source::Http(HttpSource { url, connections, authorization, ca })
            }
            (None, Some(function)) => {
                for (key, is_given) in [
                    ("connections", self.connections.is_some()),
                    ("bearer-env", self.bearer_env.is_some()),
                    ("bearer-file", self.bearer_file.is_some()),
                    ("ca", self.ca.is_some()),
                ] {
                    if is_given {
                        return goes_with(key, "url");
                    }
                }
                check_function(&function)?;
                let is_path = |program: &Path| program.components().count() > 1;
                let program = |it: PathBuf| if is_path(&it) { beside(&it) } else { it };
                let path = self.python_path.unwrap_or_default();
                Source::Python {
                    function,
                    interpreter: self.interpreter.map(program),
                    path: path.iter().map(|path| beside(path)).collect(),
                    processes: self.processes.unwrap_or(1),
                }
            }
        };
        if self.group && self.batch_max.is_some() {
            return Err(("batch-max", "with `group = true` a batch is one group".into()));
        }
        if let Some((name, weight)) = self.weights.iter().find(|(_, weight)| !weight.is_finite()) {
            return Err(("weights", format!("the weight of `{name}` is {weight}")));
        }
        let weight = self.weight.unwrap_or(1.0);
        if !weight.is_finite() {
            return Err(("weight", format!("it is {weight}: write a finite number")));
        }
        Ok(ScorerOptions {
            name: name.to_owned(),
            source,
            timeout: Duration::from_millis(self.timeout_ms.unwrap_or(60_000)),
            retries: self.retries.unwrap_or(2),
            batch_max: self.batch_max.unwrap_or(64),
            in_flight_max: self.in_flight_max.unwrap_or(1024),
            weights: self.weights,
            group: self.group,
            weight,
        })
    }
}

/// A value that is never shown.
fn sensitive(value: &str) -> Result<HeaderValue, Problem> {
    let value = HeaderValue::from_str(value);
    let mut value = value.map_err(|_| ("bearer-env", "it cannot stand in a header".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn check_url(url: &str) -> Result<(), Problem> {
    let uri: Result<Uri, _> = url.parse();
    let is_usable = uri.is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.host().is_some_and(|it| !it.is_empty())
    });
    if is_usable {
        return Ok(());
    }
    Err(("url", format!("`{url}` is no URL such as http://127.0.0.1:9000/score")))
}

fn check_function(function: &str) -> Result<(), Problem> {
    let is_name = |name: &str| {
        let is_word = |word: &str| {
            !word.is_empty()
                && !word.starts_with(|c: char| c.is_ascii_digit())
                && word.chars().all(|c| c.is_alphanumeric() || c == '_')
        };
        name.split('.').all(is_word)
    };
    match function.split_once(':') {
        Some((module, function)) if is_name(module) && is_name(function) => Ok(()),
        _ => Err(("python", format!("`{function}` is no module:function such as rewards:score"))),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use envmill_core::Scoring;
    use serde_json::json;

    use super::*;
    use crate::scorer::{options::LAST_RESORT, scoring};

    fn resolve(text: &str) -> Result<ScorerOptions, Problem> {
        let table: Table = toml::from_str(text).unwrap();
        let variable = |name: &str| match name {
            "TOKEN" => Some("s3cret\n".to_owned()),
            "LINES" => Some("s3cret\ns3cret".to_owned()),
            _ => None,
        };
        table.resolve("judge", |path| Path::new("/etc").join(path), variable)
    }

    #[test]
    fn who_asks_is_said_and_shown_nowhere() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "s3cret\n").unwrap();
        let of_file = format!("bearer-file = {:?}", file.path());
        for key in ["bearer-env = \"TOKEN\"", &of_file] {
            let text = format!("url = \"https://a:1/s\"\nca = \"ca.pem\"\n{key}");
            let options = resolve(&text).unwrap();
            let Source::Http(server) = &options.source else { panic!("{options:?}") };
            assert_eq!(server.authorization.as_ref().unwrap(), "Bearer s3cret");
            assert_eq!(server.ca.as_deref(), Some(Path::new("/etc/ca.pem")));
            assert!(!format!("{options:?} {options}").contains("s3cret"));
        }
        let (key, problem) = resolve("url = \"http://a\"\nbearer-env = \"LINES\"").unwrap_err();
        assert!(key == "bearer-env" && !problem.contains("s3cret"), "{problem}");
    }

    #[test]
    fn there_are_defaults() {
        let options = resolve("url = \"http://a:1/s\"").unwrap();
        assert_eq!(options.timeout, Duration::from_secs(60));
        assert_eq!((options.retries, options.batch_max, options.in_flight_max), (2, 64, 1024));
        assert_eq!(options.to_string(), "judge: http://a:1/s, 4 connections; batches of 64");
        let options = resolve("python = \"a.b:f\"").unwrap();
        assert_eq!(options.to_string(), "judge: python a.b:f, 1 process; batches of 64");
    }

    #[test]
    fn everything_can_be_said() {
        let options = resolve(
            r#"
            python = "rewards:Judge.score"
            interpreter = "venv/bin/python"
            python-path = ["src"]
            processes = 3
            timeout-ms = 250
            retries = 0
            in-flight-max = 7
            weights = { format = 0.5, correct = 1 }
            group = true
            weight = 2
            "#,
        )
        .unwrap();
        let Source::Python { interpreter, path, processes: 3, .. } = &options.source else {
            panic!("{options:?}")
        };
        assert_eq!(interpreter.as_deref(), Some(Path::new("/etc/venv/bin/python")));
        assert_eq!(path, &[PathBuf::from("/etc/src")]);
        assert_eq!(options.weights, [("correct".into(), 1.0), ("format".into(), 0.5)].into());
        assert_eq!(
            options.scoring(),
            Scoring::External { deadline: None, most: 7, whole_groups: true }
        );
        assert!(options.to_string().ends_with("3 processes; whole groups"));
        let weights = json!({"correct": 1.0, "format": 0.5});
        let of = json!({"python": "rewards:Judge.score", "group": true, "weight": 2.0, "weights": weights});
        assert_eq!(options.to_json(), of);
    }

    #[test]
    fn the_cores_deadline_comes_after_all_calls() {
        let text = "url = \"http://a\"\nconnections = 2\nbatch-max = 10\nin-flight-max = 100\n\
                    timeout-ms = 1000\nretries = 1";
        let Scoring::External { deadline: Some(deadline), .. } = resolve(text).unwrap().scoring()
        else {
            panic!()
        };
        assert_eq!(deadline, LAST_RESORT + Duration::from_secs(12));
    }

    #[test]
    fn several_are_as_slow_as_the_slowest_and_have_room_for_what_the_smallest_has() {
        let of = |texts: &[&str]| {
            let all: Vec<_> = texts.iter().map(|text| resolve(text).unwrap()).collect();
            scoring(&all)
        };
        assert_eq!(of(&[]), Scoring::Environment);
        let (quick, slow) =
            ("python = \"a:b\"\nin-flight-max = 8", "python = \"a:b\"\ntimeout-ms = 600000");
        let Scoring::External { deadline: slowest, .. } = of(&[slow]) else { panic!() };
        let both = Scoring::External { deadline: slowest, most: 8, whole_groups: false };
        assert_eq!((of(&[quick, slow]), of(&[slow, quick])), (both, both));
        let groups = "python = \"a:b\"\ngroup = true";
        let whole = Scoring::External { deadline: None, most: 8, whole_groups: true };
        assert_eq!(of(&[quick, groups]), whole);
    }

    #[test]
    fn python_of_a_run_is_that_of_its_scorers() {
        let of = |text: &str| {
            let options = resolve(text).unwrap();
            let options = options.with_python(Some(Path::new("py")), &["here".into()]);
            let Source::Python { interpreter, path, .. } = options.source else { panic!() };
            (interpreter.unwrap(), path)
        };
        assert_eq!(of("python = \"a:b\""), ("py".into(), vec!["here".into()]));
        let own = of("python = \"a:b\"\ninterpreter = \"python3\"\npython-path = [\"/x\"]");
        assert_eq!(own, ("python3".into(), vec!["/x".into()]));
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        for (text, key, expected) in [
            ("", "url", "who scores"),
            ("url = \"http://a\"\npython = \"a:b\"", "python", "either"),
            ("url = \"a:9000\"", "url", "no URL"),
            ("url = \"file:///a\"", "url", "no URL"),
            ("url = \"http://a\"\nprocesses = 2", "processes", "goes with `python`"),
            ("url = \"http://a\"\ninterpreter = \"p\"", "interpreter", "goes with `python`"),
            ("url = \"http://a\"\npython-path = []", "python-path", "goes with `python`"),
            ("python = \"a:b\"\nconnections = 2", "connections", "goes with `url`"),
            ("python = \"a:b\"\nbearer-env = \"TOKEN\"", "bearer-env", "goes with `url`"),
            ("python = \"a:b\"\nbearer-file = \"f\"", "bearer-file", "goes with `url`"),
            ("python = \"a:b\"\nca = \"f\"", "ca", "goes with `url`"),
            ("url = \"http://a\"\nca = \"f\"", "ca", "https"),
            ("url = \"http://a\"\nbearer-env = \"NO\"", "bearer-env", "NO is not set"),
            (
                "url = \"http://a\"\nbearer-file = \"no-such\"",
                "bearer-file",
                "cannot read /etc/no-such",
            ),
            (
                "url = \"http://a\"\nbearer-env = \"TOKEN\"\nbearer-file = \"f\"",
                "bearer-file",
                "either",
            ),
            ("python = \"a.b\"", "python", "module:function"),
            ("python = \"a;b:c\"", "python", "module:function"),
            ("python = \"a:\"", "python", "module:function"),
            ("python = \"a:b\"\nprocesses = 0", "processes", "at least 1"),
            ("python = \"a:b\"\ntimeout-ms = 0", "timeout-ms", "at least 1"),
            ("python = \"a:b\"\nbatch-max = 0", "batch-max", "at least 1"),
            ("python = \"a:b\"\nin-flight-max = 0", "in-flight-max", "at least 1"),
            ("python = \"a:b\"\ngroup = true\nbatch-max = 2", "batch-max", "one group"),
            ("python = \"a:b\"\nweights = { a = nan }", "weights", "`a` is NaN"),
            ("python = \"a:b\"\nweight = inf", "weight", "it is inf"),
        ] {
            let (its, problem) = resolve(text).unwrap_err();
            assert_eq!(its, key, "{text}: {problem}");
            assert!(problem.contains(expected), "{text}: {problem}");
        }
    }

    #[test]
    fn the_list_of_keys_is_whole() {
        for key in KEYS {
            let error = toml::from_str::<Table>(&format!("{key} = 1979-05-27")).unwrap_err();
            assert!(error.to_string().contains("invalid type"), "{key}: {error}");
        }
    }
}

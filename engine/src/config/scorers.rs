//! Who says what episodes were worth, as flags and a file give it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde::Deserialize;

use super::{ConfigError, Known, Settings, name_problem, parse_as};
use crate::scorer::{self, ScorerOptions, Table};

/// What can be said of a scorer behind its target. The rest takes a file.
const INLINE: [&str; 8] = [
    "weight",
    "group",
    "timeout-ms",
    "retries",
    "batch-max",
    "in-flight-max",
    "processes",
    "connections",
];

/// A file of scorers as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct File {
    scorers: BTreeMap<String, Table>,
}

const KNOWN: Known = Known {
    keys: |key| {
        let keys = if key.starts_with("scorers.") { &scorer::KEYS[..] } else { &["scorers"][..] };
        keys.iter().map(|&key| key.to_owned()).collect()
    },
    listed: "docs/service.md",
};

/// The scorers of a run: those of `--scorers`, and then those of `--scorer`. `has_groups` says whether there are
/// any to be seen.
pub(super) fn resolve(
    settings: &Settings,
    has_groups: bool,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Vec<ScorerOptions>, ConfigError> {
    let mut scorers = match &settings.scorers {
        Some(path) => read(path, &variable)?,
        None => Vec::new(),
    };
    for text in &settings.scorer {
        let wrong = |problem: String| ConfigError::value("scorer", format!("`{text}`: {problem}"));
        scorers.push(inline(text, &variable).map_err(wrong)?);
    }
    let mut names = BTreeSet::new();
    for scorer in &scorers {
        let name = &scorer.name;
        if !names.insert(name) {
            return Err(ConfigError::value("scorer", format!("there are two called `{name}`")));
        }
        if scorer.group && !has_groups {
            let problem = format!("`{name}` scores whole groups: give --samples, or no `group`");
            return Err(ConfigError::value("scorer", problem));
        }
    }
    Ok(scorers)
}

/// The scorers of a file, in the order of their names. Relative paths in it are relative to its directory.
fn read(
    path: &Path,
    variable: &impl Fn(&str) -> Option<String>,
) -> Result<Vec<ScorerOptions>, ConfigError> {
    let text = fs::read_to_string(path)
        .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    let File { scorers } = parse_as(&text, path, KNOWN)?;
    let wrong =
        |key: String, problem: String| ConfigError::InFile { path: path.to_owned(), key, problem };
    if scorers.is_empty() {
        let problem = "there are none: write a table [scorers.NAME] with `python` or `url`";
        return Err(wrong("scorers".into(), problem.into()));
    }
    let directory = path.parent().unwrap_or(Path::new(""));
    let scorer = |(name, table): (String, Table)| {
        if let Some(problem) = name_problem(&name) {
            return Err(wrong(format!("scorers.{name}"), problem.into()));
        }
        let resolved = table.resolve(&name, |path| directory.join(path), variable);
        resolved.map_err(|(key, problem)| wrong(format!("scorers.{name}.{key}"), problem))
    };
    scorers.into_iter().map(scorer).collect()
}

/// A scorer as `NAME=TARGET` and, behind commas, keys of its table with their values; or what is wrong.
fn inline(text: &str, variable: &impl Fn(&str) -> Option<String>) -> Result<ScorerOptions, String> {
    let (name, target) = text.split_once('=').ok_or_else(|| {
        "write NAME=TARGET, such as rules=rewards:score or judge=http://127.0.0.1:9000/score"
            .to_owned()
    })?;
    if let Some(problem) = name_problem(name) {
        return Err(problem.to_owned());
    }
    let mut table = toml::Table::new();
    // A URL may have commas, too.
    let mut target = target;
    while let Some((rest, (key, value))) = target
        .rsplit_once(',')
        .and_then(|(rest, last)| Some((rest, last.split_once('=')?)))
        .filter(|(_, (key, _))| INLINE.contains(key))
    {
        target = rest;
        if table.insert(key.to_owned(), value_of(value)).is_some() {
            return Err(format!("{key} is there twice"));
        }
    }
    let source = if target.contains("://") { "url" } else { "python" };
    table.insert(source.to_owned(), target.to_owned().into());
    let table: Table = toml::Value::Table(table).try_into().map_err(|error| error.to_string())?;
    let resolved = table.resolve(name, Path::to_owned, variable);
    resolved.map_err(|(key, problem)| format!("{key}: {problem}"))
}

/// A value as TOML has it, where it is a number, true or false.
fn value_of(text: &str) -> toml::Value {
    if let Ok(number) = text.parse::<i64>() {
        return number.into();
    }
    if let Ok(number) = text.parse::<f64>() {
        return number.into();
    }
    text.parse::<bool>().map_or_else(|_| text.to_owned().into(), toml::Value::from)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::scorer::Source;

    fn resolved(scorer: &[&str], file: Option<&str>) -> Result<Vec<ScorerOptions>, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.toml");
        if let Some(text) = file {
            fs::write(&path, text).unwrap();
        }
        let settings = Settings {
            scorer: scorer.iter().map(|&text| text.to_owned()).collect(),
            scorers: file.is_some().then_some(path),
            ..Settings::default()
        };
        resolve(&settings, false, |_| None).map_err(|error| error.to_string())
    }

    #[test]
    fn a_scorer_is_a_name_and_a_target() {
        let scorers =
            resolved(&["rules=rewards:score", "judge=http://a:1/s?x=1,y=2"], None).unwrap();
        let [rules, judge] = &scorers[..] else { panic!("{scorers:?}") };
        let Source::Python { function, .. } = &rules.source else { panic!("{rules:?}") };
        assert_eq!((rules.name.as_str(), function.as_str()), ("rules", "rewards:score"));
        let Source::Http(server) = &judge.source else { panic!("{judge:?}") };
        assert_eq!(server.url, "http://a:1/s?x=1,y=2");
        assert_eq!((judge.weight, judge.group), (1.0, false));
    }

    #[test]
    fn keys_stand_behind_commas() {
        let text = "rules=rewards:score,weight=0.5,timeout-ms=250,retries=0,processes=3";
        let scorers = resolved(&[text], None).unwrap();
        let [rules] = &scorers[..] else { panic!("{scorers:?}") };
        assert_eq!((rules.weight, rules.retries, rules.workers()), (0.5, 0, 3));
        assert_eq!(rules.timeout, Duration::from_millis(250));
    }

    #[test]
    fn a_file_has_the_tables_of_a_service() {
        let file = "[scorers.rules]\npython = \"rewards:score\"\npython-path = [\"src\"]\n\
                    weights = { correct = 2 }\n[scorers.length]\nurl = \"http://a:1\"\nweight = 0\n";
        let scorers = resolved(&["more=a:b"], Some(file)).unwrap();
        let names: Vec<_> = scorers.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, ["length", "rules", "more"]);
        let Source::Python { path, .. } = &scorers[1].source else { panic!() };
        assert!(path[0].is_absolute() && path[0].ends_with("src"), "{path:?}");
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        for (scorer, file, expected) in [
            (&["rewards"][..], None, "--scorer: `rewards`: write NAME=TARGET"),
            (&["a/b=c:d"], None, "a name has letters"),
            (&["a=c"], None, "python: `c` is no module:function"),
            (&["a=c:d,wieght=2"], None, "`c:d,wieght=2` is no module:function"),
            (&["a=c:d,weight=x"], None, "--scorer: `a=c:d,weight=x`: "),
            (&["a=c:d,weight=1,weight=2"], None, "weight is there twice"),
            (&["a=c:d,connections=2"], None, "connections: it goes with `url`"),
            (&["a=c:d", "a=c:e"], None, "there are two called `a`"),
            (&["a=c:d,group=true"], None, "`a` scores whole groups: give --samples"),
            (&[], Some(""), "s.toml: `scorers`: there are none"),
            (&[], Some("[scorers.a]\nulr = \"x\""), "did you mean `url`?"),
            (&[], Some("[scorer.a]\nurl = \"x\""), "did you mean `scorers`?"),
            (&[], Some("[scorers.a]\nurl = \"x\""), "s.toml: `scorers.a.url`: `x` is no URL"),
            (&[], Some("[scorers.a]\nurl = 3"), "`scorers.a.url`: "),
        ] {
            let message = resolved(scorer, file).unwrap_err();
            assert!(message.contains(expected), "{message}");
        }
        let settings = Settings { scorers: Some("/nowhere/s.toml".into()), ..Settings::default() };
        let message = resolve(&settings, false, |_| None).unwrap_err().to_string();
        assert!(message.contains("/nowhere/s.toml"), "{message}");
    }
}

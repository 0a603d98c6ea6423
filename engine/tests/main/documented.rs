//! The commands of the documents that are for people with an environment: each runs, as it is written but for
//! names, and shorter.

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use envmill_testing::{EnvmillCommand, PythonServer, Watchdog};
use tempfile::TempDir;

use crate::rig::ENVMILL;

const DOCUMENTS: [&str; 5] = [
    "README.md",
    "docs/bench.md",
    "docs/check.md",
    "docs/environment-authors.md",
    "docs/inspect.md",
];

/// Where a server stands in the documents.
const URL: &str = "http://127.0.0.1:8000";

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All calls of these commands that stand in fences, without comments and what comes behind a pipe.
fn commands() -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for document in DOCUMENTS {
        let text = fs::read_to_string(repository().join(document)).unwrap();
        let mut is_shell = false;
        for line in text.lines() {
            if line.starts_with("```") {
                is_shell = !is_shell && line == "```sh";
                continue;
            }
            let words = if is_shell { words(line) } else { Vec::new() };
            let is_ours = |name: &String| {
                ["bench", "check", "inspect"].contains(&name.as_str())
                    || (document.ends_with("authors.md") && name == "run")
            };
            if words.first().is_some_and(|it| it == "envmill") && words.get(1).is_some_and(is_ours)
            {
                found.push(words[1..].to_vec());
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

/// The words of a line, as a shell sees them, up to a comment or a pipe.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for character in line.chars() {
        match (character, quote) {
            ('"' | '\'', None) => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (it, Some(open)) if it == open => quote = None,
            ('#' | '|', None) if word.is_none() => break,
            (it, None) if it.is_whitespace() => words.extend(word.take()),
            (it, _) => word.get_or_insert_default().push(it),
        }
    }
    words.extend(word);
    words
}

/// A directory with what the documents speak of.
struct Desk {
    directory: TempDir,
    python: PathBuf,
}

impl Desk {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let package = directory.path().join("my_env");
        fs::create_dir(&package).unwrap();
        let environment = "from words_env import *\nfrom words_env import WordsEnv as MyEnv\n";
        fs::write(package.join("__init__.py"), environment).unwrap();
        let server = "from words_env import *\nfrom words_env import WordsEnv as MyEnvironment\n";
        fs::write(package.join("server.py"), server).unwrap();
        Self { directory, python: envmill_testing::python().unwrap() }
    }

    /// Runs a command there, and gives its exit status and what it said.
    fn run(&self, words: &[String]) -> (Option<i32>, String) {
        let servers = envmill_testing::script("servers");
        let path = env::var("PATH").unwrap_or_default();
        let programs = self.python.parent().unwrap().display();
        let finished = EnvmillCommand::new(ENVMILL)
            .args(words)
            .current_dir(self.directory.path())
            .env("PATH", format!("{programs}:{path}"))
            .env("PYTHONPATH", format!("{}:{}", self.directory.path().display(), servers.display()))
            .run()
            .unwrap();
        (finished.code(), format!("{}\n{}", finished.stdout, finished.stderr))
    }

    fn play(&self, url: &str, out: &str) {
        let line = format!("run --quiet --env {url} --episodes 24 --max-steps 5 --out {out}");
        let (code, said) = self.run(&words(&line));
        assert_eq!(code, Some(0), "{said}");
    }
}

/// The same command on what there is here, and short; and how it may end.
fn made_short(words: &[String], url: &str, python: &Path) -> (Vec<String>, &'static [i32]) {
    let has = |flag: &str| words.iter().any(|word| word == flag);
    let (more, codes): (_, &[i32]) = match words[0].as_str() {
        "bench" if has("--compare") => ("", &[0]),
        "bench" if has("--sessions") || has("--max") => ("--measure-s 0.1 --warm-up-s 0", &[0]),
        "bench" => ("--measure-s 0.1 --warm-up-s 0 --max 4", &[0]),
        "check" if has("--only") || has("--list") => ("", &[0, 1]),
        "check" => ("--quick --only protocol", &[0, 1]),
        // None has failed here.
        "inspect" if has("failed") => ("", &[0, 2]),
        _ => ("", &[0]),
    };
    let put = |word: &String| match word.as_str() {
        ".venv/bin/python" => python.display().to_string(),
        it => it.replace(URL, url),
    };
    (words.iter().map(put).chain(more.split_whitespace().map(str::to_owned)).collect(), codes)
}

#[test]
fn the_commands_of_the_documents_run() {
    let _watchdog = Watchdog::start("documented commands", Duration::from_secs(900));
    let server = PythonServer::of("words_env").unwrap();
    let (desk, url) = (Desk::new(), server.url());
    for out in ["trajectories/20261126-120000", "job", "monday", "tuesday"] {
        desk.play(&url, out);
    }
    for out in ["before.json", "after.json"] {
        let line = format!("bench {url} --sessions 1 --measure-s 0.1 --warm-up-s 0 --json {out}");
        let (code, said) = desk.run(&words(&line));
        assert_eq!(code, Some(0), "{said}");
    }
    let mut commands = commands();
    // What is looked into has to be there.
    commands.sort_by_key(|words| words[0] != "run");
    for name in ["bench", "check", "inspect", "run"] {
        assert!(commands.iter().any(|words| words[0] == name), "no {name} in {commands:?}");
    }
    for words in commands {
        let (short, codes) = made_short(&words, &url, &desk.python);
        let (code, said) = desk.run(&short);
        assert!(code.is_some_and(|code| codes.contains(&code)), "{short:?}: {code:?}\n{said}");
    }
}

//! `cargo xtask mutants`: takes the core's checks away, one at a time, and sees to it that a pinned
//! seed fails for each.
//!
//! `engine/core/tests/core/mutants.txt` lists them, each as a snippet of the core's source and what
//! stands in its place. The snippet is looked for in all files, so that code may move.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{cargo, seeds, stage::say};

/// The list, below the root of the workspace.
const LIST: &str = "engine/core/tests/core/mutants.txt";

/// The source that is changed, below the root of the workspace.
const SOURCE: &str = "engine/core/src";

/// What a world needs to be built.
const MEMBERS: [&str; 3] = ["engine/core", "protocol", "testing/world"];

/// So many seeds are tried where no pinned one fails.
const SEEDS_MAX: u64 = 20_000;

/// Seeds that take longer than this hang, and that is a failure too.
const PATIENCE: Duration = Duration::from_secs(300);

/// One check that is taken away.
#[derive(Debug, PartialEq, Eq)]
struct Mutant {
    name: String,
    /// Snippets and what replaces each.
    changes: Vec<(String, String)>,
}

/// How a mutant fared.
enum Verdict {
    Pinned(String),
    Unpinned(String),
    Hangs,
    Survives,
}

/// `cargo xtask mutants`.
pub(crate) fn action(arguments: &[String]) -> Result<()> {
    let (mut pins, mut filter) = (false, "");
    for argument in arguments {
        match argument.as_str() {
            "--pin" => pins = true,
            name if !name.starts_with('-') => filter = name,
            _ => bail!("usage: cargo xtask mutants [--pin] [FILTER]"),
        }
    }
    let start = Instant::now();
    let root = cargo::root();
    let mutants = parse(&fs::read_to_string(root.join(LIST))?)?;
    let source = sources(&root.join(SOURCE))?;
    for mutant in &mutants {
        apply(mutant, &source)?;
    }
    let scratch = Scratch::new(&root)?;
    scratch.build().context("without any change")?;
    ensure!(
        matches!(scratch.play(0)?, Verdict::Survives),
        "a pinned seed fails without any change: run `cargo test -p envmill-core`"
    );
    let mut bad = Vec::new();
    let chosen: Vec<&Mutant> = mutants.iter().filter(|it| it.name.contains(filter)).collect();
    for mutant in &chosen {
        scratch.write(&apply(mutant, &source)?)?;
        scratch.build().with_context(|| mutant.name.clone())?;
        match scratch.play(SEEDS_MAX)? {
            Verdict::Pinned(seed) => say(&format!("caught by {seed:>8}   {}", mutant.name)),
            Verdict::Hangs => say(&format!("caught: it hangs    {}", mutant.name)),
            Verdict::Unpinned(seed) if pins => {
                seeds::pin(&format!("{seed}  # {}", mutant.name))?;
                scratch.refresh_pinned(&root)?;
                say(&format!("caught by {seed:>8}   {} (pinned now)", mutant.name));
            }
            Verdict::Unpinned(seed) => {
                say(&format!("NOT PINNED: {seed}   {}", mutant.name));
                bad.push(mutant.name.as_str());
            }
            Verdict::Survives => {
                say(&format!("SURVIVES            {}", mutant.name));
                bad.push(mutant.name.as_str());
            }
        }
    }
    let minutes = start.elapsed().as_secs_f64() / 60.0;
    say(&format!("{} mutants in {minutes:.1} min", chosen.len()));
    ensure!(bad.is_empty(), "no pinned seed fails for: {}", bad.join("; "));
    Ok(())
}

/// A copy of what is needed, with a target directory of its own.
struct Scratch {
    root: PathBuf,
    target: PathBuf,
}

impl Scratch {
    fn new(root: &Path) -> Result<Self> {
        let base = root.join("target/mutants");
        let scratch = Self { root: base.join("source"), target: base.join("target") };
        if scratch.root.exists() {
            fs::remove_dir_all(&scratch.root)?;
        }
        for member in MEMBERS {
            copy(&root.join(member), &scratch.root.join(member))?;
        }
        let manifest = fs::read_to_string(root.join("Cargo.toml"))?;
        let (before, rest) = manifest.split_once("members = [").context("no members")?;
        let (_, after) = rest.split_once(']').context("the members have no end")?;
        let members = MEMBERS.map(|member| format!("\"{member}\"")).join(", ");
        fs::write(
            scratch.root.join("Cargo.toml"),
            format!("{before}members = [{members}]{after}"),
        )?;
        fs::copy(root.join("Cargo.lock"), scratch.root.join("Cargo.lock"))?;
        Ok(scratch)
    }

    fn write(&self, files: &[(PathBuf, String)]) -> Result<()> {
        for (path, text) in files {
            let path = self.root.join(SOURCE).join(path);
            if fs::read_to_string(&path).is_ok_and(|there| there == *text) {
                continue; // Cargo goes by the time of the last change
            }
            fs::write(path, text)?;
        }
        Ok(())
    }

    fn refresh_pinned(&self, root: &Path) -> Result<()> {
        let pinned = seeds::pinned_file();
        fs::copy(&pinned, self.root.join(pinned.strip_prefix(root)?))?;
        Ok(())
    }

    fn build(&self) -> Result<()> {
        let mut build =
            cargo::cargo(&["build", "--offline", "-p", "envmill-world", "--bin", "seeds"]);
        build.current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target);
        cargo::run_quietly_unless_it_fails(build, true)
    }

    /// Plays the pinned seeds, and then up to `more`, until one fails.
    fn play(&self, more: u64) -> Result<Verdict> {
        let pinned = seeds::pinned_file();
        let pinned = pinned.to_string_lossy();
        match self.first_failing(&["--pinned", &*pinned, "--stop"])? {
            Some(seed) if seed.is_empty() => return Ok(Verdict::Hangs),
            Some(seed) => return Ok(Verdict::Pinned(seed)),
            None if more == 0 => return Ok(Verdict::Survives),
            None => {}
        }
        match self.first_failing(&["--from", "0", "--count", &more.to_string(), "--stop"])? {
            Some(seed) if seed.is_empty() => Ok(Verdict::Hangs),
            Some(seed) => Ok(Verdict::Unpinned(seed)),
            None => Ok(Verdict::Survives),
        }
    }

    /// The first seed that fails; an empty one if the core does not come back.
    fn first_failing(&self, arguments: &[&str]) -> Result<Option<String>> {
        let told = self.target.join("seeds.txt");
        let mut player = Command::new(self.target.join("debug/seeds"));
        player.args(arguments).stdout(fs::File::create(&told)?).stderr(Stdio::null());
        let mut player = player.spawn().context("cannot start the seeds")?;
        let start = Instant::now();
        // Waiting for a child with a limit needs a thread or a look now and then; `park` may end
        // early and then only looks once more.
        while player.try_wait()?.is_none() {
            if start.elapsed() > PATIENCE {
                player.kill()?;
                player.wait()?;
                return Ok(Some(String::new()));
            }
            std::thread::park_timeout(Duration::from_millis(50));
        }
        let told = fs::read_to_string(told)?;
        let seed = told.lines().next().and_then(|line| line.split_whitespace().next());
        Ok(seed.map(str::to_owned))
    }
}

/// Every file of the core's source: its path below it, and its text.
fn sources(directory: &Path) -> Result<Vec<(PathBuf, String)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            for (below, text) in sources(&path)? {
                let name = path.file_name().context("a directory without a name")?;
                files.push((Path::new(name).join(below), text));
            }
        } else {
            let name = path.file_name().context("a file without a name")?;
            files.push((name.into(), fs::read_to_string(&path)?));
        }
    }
    Ok(files)
}

/// The whole source with a mutant's changes in it.
fn apply(mutant: &Mutant, source: &[(PathBuf, String)]) -> Result<Vec<(PathBuf, String)>> {
    let mut files = source.to_vec();
    for (snippet, replacement) in &mutant.changes {
        let found: usize =
            files.iter().map(|(_, text)| text.matches(snippet.as_str()).count()).sum();
        ensure!(
            found == 1,
            "{LIST}: the snippet of `{}` stands {found} times in {SOURCE}, not once:\n{snippet}",
            mutant.name
        );
        for (_, text) in &mut files {
            *text = text.replace(snippet.as_str(), replacement);
        }
    }
    Ok(files)
}

/// Reads the list: `# NAME`, and then, once or more, a snippet between `<<<` and `===` with its
/// replacement up to `>>>`.
fn parse(text: &str) -> Result<Vec<Mutant>> {
    let mut mutants: Vec<Mutant> = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix("# ") {
            mutants.push(Mutant { name: name.to_owned(), changes: Vec::new() });
        } else if line == "<<<" {
            let mut until = |end: &str| {
                let block: Vec<&str> = lines.by_ref().take_while(|line| *line != end).collect();
                block.join("\n")
            };
            let change = (until("==="), until(">>>"));
            let mutant = mutants.last_mut().context("a snippet before the first name")?;
            ensure!(!change.0.is_empty(), "`{}` has an empty snippet", mutant.name);
            mutant.changes.push(change);
        }
    }
    Ok(mutants)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() {
            copy(&path, &to.join(name))?;
        } else {
            fs::copy(&path, to.join(name))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The full run is a developer's: this keeps the list fit for it.
    #[test]
    fn every_snippet_of_the_list_stands_once_in_the_core() {
        let root = cargo::root();
        let mutants = parse(&fs::read_to_string(root.join(LIST)).unwrap()).unwrap();
        let source = sources(&root.join(SOURCE)).unwrap();
        assert!(mutants.len() >= 20, "{}", mutants.len());
        for mutant in &mutants {
            assert!(!mutant.changes.is_empty(), "`{}` changes nothing", mutant.name);
            let changed = apply(mutant, &source).unwrap();
            assert_ne!(changed, source, "`{}` changes nothing", mutant.name);
        }
    }

    #[test]
    fn a_snippet_that_is_gone_is_named() {
        let mutants = parse("# the name\n<<<\nold\n===\nnew\n>>>\n").unwrap();
        let source = [("a.rs".into(), "something else".to_owned())];
        let told = apply(&mutants[0], &source).unwrap_err().to_string();
        assert!(told.contains("the name") && told.contains("old"), "{told}");
    }
}

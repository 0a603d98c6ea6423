//! Keeps ARCHITECTURE.md and README.md true.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The members of the workspace, as the root manifest lists them.
fn members() -> BTreeSet<String> {
    let manifest = read("Cargo.toml");
    let (_, list) = manifest.split_once("members = [").unwrap();
    let (list, _) = list.split_once(']').unwrap();
    list.split(',')
        .map(|member| member.trim().trim_matches('"').to_owned())
        .filter(|member| !member.is_empty())
        .collect()
}

/// What stands between backticks in running text: code blocks are left out.
fn quoted(document: &str) -> Vec<String> {
    let mut in_block = false;
    let mut found = Vec::new();
    for line in document.lines() {
        if line.starts_with("```") {
            in_block = !in_block;
        } else if !in_block {
            found.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    found
}

/// The lines of all blocks marked `sh`, without comments.
fn commands(document: &str) -> Vec<String> {
    let mut in_block = false;
    let mut found = Vec::new();
    for line in document.lines() {
        if let Some(language) = line.strip_prefix("```") {
            in_block = language == "sh";
        } else if in_block {
            let command = line.split(" #").next().unwrap_or_default().trim();
            if !command.is_empty() && !command.starts_with('#') {
                found.push(command.to_owned());
            }
        }
    }
    found
}

fn section<'a>(document: &'a str, heading: &str) -> &'a str {
    let (_, rest) = document.split_once(&format!("\n## {heading}\n")).unwrap();
    rest.split("\n## ").next().unwrap()
}

#[test]
fn the_code_map_names_every_member_and_no_other() {
    let architecture = read("ARCHITECTURE.md");
    let mapped: BTreeSet<String> = section(&architecture, "Code map")
        .lines()
        .filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`'))
        .map(str::to_owned)
        .collect();
    assert_eq!(mapped, members());
}

#[test]
fn every_path_that_is_named_exists() {
    for document in ["ARCHITECTURE.md", "README.md"] {
        let text = read(document);
        let is_path = |quoted: &&String| {
            let path = Path::new(quoted);
            let extension = path.extension().is_some_and(|end| end == "rs" || end == "md");
            quoted.contains('/') && extension && !quoted.contains(' ')
        };
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        // Of a link to a heading, the file; one of the same page has none.
        let file = |link: &str| link.split('#').next().unwrap_or_default().to_owned();
        let local = links.filter(|link| !link.contains("://")).map(file);
        for path in quoted(&text).iter().filter(is_path).cloned().chain(local) {
            assert!(root().join(&path).exists(), "{document} names {path}, which does not exist");
        }
    }
}

#[test]
fn every_seam_is_where_the_table_says() {
    let architecture = read("ARCHITECTURE.md");
    let mut seams = 0;
    for row in section(&architecture, "The seams").lines().filter(|row| row.starts_with("| `")) {
        let cells = quoted(row);
        let (name, path) = (&cells[0], &cells[1]);
        let source = read(path);
        let kinds = ["trait", "enum", "struct"];
        assert!(
            kinds.iter().any(|kind| {
                source.split(&format!("pub {kind} {name}")).skip(1).any(|rest| {
                    !rest.starts_with(|next: char| next.is_alphanumeric() || next == '_')
                })
            }),
            "{path} declares no public {name}"
        );
        seams += 1;
    }
    assert!(seams >= 3, "the seams' table was not understood");
}

#[test]
fn the_workspace_denies_what_the_architecture_says() {
    let manifest = read("Cargo.toml");
    for lint in ["unsafe_code = \"deny\"", "missing_docs = \"deny\""] {
        assert!(manifest.contains(lint), "{lint}");
    }
    for member in members() {
        let manifest = read(&format!("{member}/Cargo.toml"));
        assert!(manifest.contains("[lints]\nworkspace = true"), "{member} has lints of its own");
    }
}

#[test]
fn the_core_depends_on_the_protocol_only() {
    let manifest = read("engine/core/Cargo.toml");
    let (_, dependencies) = manifest.split_once("[dependencies]\n").unwrap();
    let dependencies = dependencies.split("\n[").next().unwrap();
    for dependency in dependencies.lines().filter(|line| line.contains('=')) {
        let name = dependency.split(['.', ' ', '=']).next().unwrap();
        assert!(
            ["bytes", "envmill-protocol", "thiserror"].contains(&name),
            "the core may not depend on {name}"
        );
    }
}

/// Each `cargo` command of the README's `sh` blocks is one that this workspace has. The flags of
/// `envmill` itself are checked where the command is built.
#[test]
fn the_commands_of_the_readme_exist() {
    let packages: Vec<String> =
        members().iter().map(|member| read(&format!("{member}/Cargo.toml"))).collect();
    let mut checked = 0;
    for command in commands(&read("README.md")) {
        let words = command.split_whitespace();
        // What stands before a command is put into its environment.
        let words: Vec<&str> = words.skip_while(|word| word.contains('=')).collect();
        match words.as_slice() {
            ["cargo", "xtask", action, ..] => {
                let known = Command::new(env!("CARGO_BIN_EXE_xtask"))
                    .args([action, "--help"])
                    .output()
                    .unwrap();
                assert!(known.status.success(), "README.md: `{command}` does not exist");
            }
            ["cargo", "run" | "test", rest @ ..] => {
                let package = rest.iter().skip_while(|word| **word != "-p").nth(1).unwrap();
                let name = format!("name = \"{package}\"\n");
                assert!(packages.iter().any(|p| p.contains(&name)), "README.md: no {package}");
            }
            ["pip", "install", path] => {
                let manifest = root().join(path).join("pyproject.toml");
                assert!(manifest.exists(), "README.md: {path} is no Python package");
            }
            ["python", script, ..] => {
                assert!(root().join(script).exists(), "README.md: no {script}");
            }
            ["envmill", ..] | ["until", "envmill", ..] => {}
            ["vllm", "serve", ..] => {}
            _ => panic!("README.md: nobody checks `{command}`"),
        }
        checked += 1;
    }
    assert!(checked >= 7, "the README's commands were not understood");
}

#[test]
fn an_unknown_action_is_refused_with_the_list() {
    let output = Command::new(env!("CARGO_BIN_EXE_xtask")).arg("dance").output().unwrap();
    assert!(!output.status.success());
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("dance") && told.contains("versions"), "{told}");
}

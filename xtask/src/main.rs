//! Every developer action, under one name each: `cargo xtask ACTION`.
//!
//! Start at [`ACTIONS`]. CI calls the same actions (`.ci/run` is `cargo xtask ci`), so that what passes
//! here passes there.
//!
//! Deliberately absent: dependencies. This is built first on a machine that has nothing yet.

mod cargo;
mod fuzz;
mod loom;
mod mutants;
mod python;
mod sanitize;
mod seeds;
mod stage;
mod system;
mod venv;
mod vllm;

use std::{env, process::ExitCode};

use anyhow::{Result, bail};

use crate::stage::Stages;

/// An action: its name, what may follow it, what it does, and how.
struct Action {
    name: &'static str,
    arguments: &'static str,
    about: &'static str,
    run: fn(&[String]) -> Result<()>,
}

const ACTIONS: &[Action] = &[
    Action {
        name: "ci",
        arguments: "",
        about: "what CI runs: lints, build and tests, with minutes per stage and one final count",
        run: ci,
    },
    Action {
        name: "test",
        arguments: "[FILTER]",
        about: "make the Python environments that tests need, build, and run all tests, or those of Rust whose names have the filter",
        run: test,
    },
    Action {
        name: "python",
        arguments: "[FILTER]",
        about: "build the Python package as a wheel, install it for the tests, and run its tests",
        run: python::action,
    },
    Action {
        name: "lint",
        arguments: "",
        about: "formatting, clippy and documentation, warnings being errors",
        run: lint,
    },
    Action {
        name: "venv",
        arguments: "[--all | --version VERSION]",
        about: "make Python environments from their pins: the newest OpenEnv, or others",
        run: venv::action,
    },
    Action {
        name: "vllm",
        arguments: "[FILTER]",
        about: "install a real vLLM on the CPU, and run the tests that need one",
        run: vllm::action,
    },
    Action {
        name: "versions",
        arguments: "",
        about: "the tests that run over OpenEnv versions, over all of them",
        run: versions,
    },
    Action {
        name: "fuzz",
        arguments: "[TARGET]... [--minutes N]",
        about: "fuzz all targets or those named, 30 minutes each or N",
        run: fuzz::action,
    },
    Action {
        name: "seeds",
        arguments: "[--count N] [--from SEED | --seed SEED]",
        about: "play new simulated worlds, 100,000 unless told; failing seeds are printed and pinned",
        run: seeds::action,
    },
    Action {
        name: "mutants",
        arguments: "[--pin] [FILTER]",
        about: "take the core's checks away, one at a time: a pinned seed must fail for each",
        run: mutants::action,
    },
    Action {
        name: "loom",
        arguments: "",
        about: "the protocol of shared memory in all interleavings that a weak memory allows",
        run: loom::action,
    },
    Action {
        name: "sanitize",
        arguments: "[FILTER]",
        about: "the tests of the crate with unsafe code, watched by AddressSanitizer",
        run: sanitize::action,
    },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            stage::say_error(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &[String]) -> Result<()> {
    let Some((name, rest)) = arguments.split_first() else { bail!("which action?\n\n{}", usage()) };
    if is_help(name) {
        stage::say(&usage());
        return Ok(());
    }
    let Some(action) = ACTIONS.iter().find(|action| action.name == name) else {
        bail!("there is no action `{name}`\n\n{}", usage());
    };
    if rest.iter().any(|argument| is_help(argument)) {
        stage::say(&format!("cargo xtask {} {}\n{}", action.name, action.arguments, action.about));
        return Ok(());
    }
    if action.arguments.is_empty() && !rest.is_empty() {
        bail!("`cargo xtask {name}` takes no arguments");
    }
    (action.run)(rest)
}

fn is_help(argument: &str) -> bool {
    matches!(argument, "help" | "--help" | "-h")
}

fn usage() -> String {
    let mut text = String::from("cargo xtask ACTION, where ACTION is one of\n");
    for Action { name, arguments, about, .. } in ACTIONS {
        text.push_str(&format!("\n  {name} {arguments}\n      {about}\n"));
    }
    text
}

fn ci(_: &[String]) -> Result<()> {
    let mut stages = Stages::new();
    stages.essential("system", system::prepare)?;
    stages.essential("python", venv::for_tests)?;
    stages.stage("format", cargo::format_check);
    stages.essential("build", cargo::build)?;
    stages.stage("clippy", cargo::clippy);
    stages.stage("docs", cargo::docs);
    stages.tests("tests", || cargo::tests(&[], &[]));
    stages.tests("outside", cargo::outside);
    stages.stage("wheel", python::wheel);
    stages.tests("pytest", || python::tests(&[]));
    if let Some(why) = vllm::no_room() {
        stages.skip("vllm", why);
    } else {
        stages.stage("vllm", vllm::install);
        stages.tests("vllm tests", vllm::tests_of_one);
    }
    stages.finish()
}

fn test(filter: &[String]) -> Result<()> {
    let mut stages = Stages::new();
    stages.essential("system", system::prepare)?;
    stages.essential("python", venv::for_tests)?;
    stages.essential("build", cargo::build)?;
    stages.tests("tests", || cargo::tests(filter, &[]));
    // A filter is of names in Rust; `cargo xtask python` takes others.
    if filter.is_empty() {
        stages.tests("outside", cargo::outside);
        stages.essential("wheel", python::wheel)?;
        stages.tests("pytest", || python::tests(&[]));
    }
    stages.finish()
}

fn lint(_: &[String]) -> Result<()> {
    let mut stages = Stages::new();
    stages.stage("format", cargo::format_check);
    stages.stage("clippy", cargo::clippy);
    stages.stage("docs", cargo::docs);
    stages.finish()
}

fn versions(_: &[String]) -> Result<()> {
    let mut stages = Stages::new();
    stages.essential("system", system::prepare)?;
    stages.essential("python", venv::all)?;
    // Tests that run over versions have this word in their names.
    stages.tests("versions", || {
        cargo::tests(&["version".to_owned()], &[("ENVMILL_TEST_OPENENV", "all")])
    });
    stages.finish()
}

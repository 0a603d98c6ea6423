//! The `envmill` command.

mod audit;
mod bench;
mod capture;
mod check;
mod env;
mod inspect;
mod play;
mod pool;
mod replay;
mod serve;
mod servers;
mod signals;
mod starter;
mod target;

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

pub use self::signals::tell_interrupt;
use crate::progress::say;

/// Wrong use, or a configuration that cannot be used: nothing was done.
const USAGE: u8 = 2;

/// The rollout engine for agentic reinforcement learning.
#[derive(Debug, Parser)]
#[command(name = "envmill", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Play episodes and keep their trajectories. Without flags: a default job on an embedded
    /// server.
    Run(Box<play::Arguments>),
    /// Play environments for trainers, which drive it over gRPC.
    Serve(serve::Arguments),
    /// Let harnesses that speak OpenAI's API play by themselves, and keep what they say by token ids.
    Capture(capture::Arguments),
    /// Measure how fast an environment is: throughput, latency and sessions, and what holds it back.
    Bench(Box<bench::Arguments>),
    /// Check what an OpenEnv environment promises: protocol, schemas, determinism, isolation, rewards.
    Check(Box<check::Arguments>),
    /// Look into recordings: what they come to, single episodes, other forms, whether they play the same
    /// again.
    Inspect(Box<inspect::Arguments>),
    /// Hold what a trainer has received against what it was promised.
    Audit(audit::Arguments),
    /// Take every decision of a flight recording again, and compare.
    ReplayCore(replay::Arguments),
    /// Environments: serve one, or several servers of one; list the native ones.
    Env {
        #[command(subcommand)]
        command: env::Command,
    },
}

/// What the command runs in, where it is not a program of its own.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// What starts the command: a program and its first arguments. Servers that a run starts are
    /// started so. This process's program if empty.
    pub program: Vec<String>,
    /// The interpreter for Python environments where nothing is said of it.
    pub python: Option<PathBuf>,
}

/// Runs the command with the arguments of this process. What it prints on standard output is data;
/// everything else goes to standard error.
#[must_use]
pub fn main() -> ExitCode {
    main_with(std::env::args_os(), &Host::default()).into()
}

/// Runs the command with `arguments`, of which the first is its name, and returns its exit status.
#[must_use]
pub fn main_with(arguments: impl IntoIterator<Item = OsString>, host: &Host) -> u8 {
    show_log();
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(told) => {
            // Help and the version go to standard output. A reader that has gone away has seen enough.
            let _ = told.print();
            return u8::try_from(told.exit_code()).unwrap_or(USAGE);
        }
    };
    let result = match arguments.command {
        Command::Run(arguments) => play::run(*arguments, host),
        Command::Serve(arguments) => serve::run(arguments, host),
        Command::Capture(arguments) => capture::run(arguments),
        Command::Bench(arguments) => bench::run(&arguments, host),
        Command::Check(arguments) => check::run(&arguments, host),
        Command::Inspect(arguments) => inspect::run(*arguments, host),
        Command::Audit(arguments) => audit::run(&arguments),
        Command::ReplayCore(arguments) => replay::run(&arguments),
        Command::Env { command } => env::run(command, host),
    };
    result.unwrap_or_else(|message| {
        say(&format!("error: {message}"));
        USAGE
    })
}

/// Has the engine's log shown on standard error, as far as `ENVMILL_LOG` asks for it (errors if it is
/// not set). Where the process has a subscriber of its own, that one is left alone.
pub fn show_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("ENVMILL_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("error"));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter);
    let _ = subscriber.with_writer(std::io::stderr).try_init();
}

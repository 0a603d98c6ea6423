//! The `envmill` command.

mod env;
mod play;
mod replay;
mod signals;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
    /// Take every decision of a flight recording again, and compare.
    ReplayCore(replay::Arguments),
    /// Native environments.
    Env {
        #[command(subcommand)]
        command: env::Command,
    },
}

/// Runs the command with the arguments of this process. What it prints on standard output is data;
/// everything else goes to standard error.
#[must_use]
pub fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_env("ENVMILL_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("error"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let result = match Arguments::parse().command {
        Command::Run(arguments) => play::run(*arguments),
        Command::ReplayCore(arguments) => replay::run(&arguments),
        Command::Env { command } => env::run(command),
    };
    result.map_or_else(
        |message| {
            say(&format!("error: {message}"));
            ExitCode::from(USAGE)
        },
        ExitCode::from,
    )
}

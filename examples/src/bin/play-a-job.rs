//! A whole run from inside another program: what `envmill run` does, with the outcome as a value.
//!
//! usage: play-a-job URL DIRECTORY
//!
//! Plays 40 episodes on the OpenEnv server at URL, leaves their records in DIRECTORY, and prints what
//! came of them.

use std::{
    env,
    fs::File,
    io::{BufRead, BufReader, Write},
    path::PathBuf,
};

use anyhow::{Context, Result};
use envmill::{
    config::{RunOptions, Settings},
    driver::Control,
    run::run,
};
use envmill_protocol::record::read_json_line;

fn main() -> Result<()> {
    let mut arguments = env::args().skip(1);
    let (Some(url), Some(directory)) = (arguments.next(), arguments.next()) else {
        anyhow::bail!("usage: play-a-job URL DIRECTORY");
    };
    let out = PathBuf::from(directory);

    // The same names and defaults as the command's flags.
    let settings = Settings {
        env: vec![url],
        episodes: Some(40),
        sessions: Some(8),
        max_steps: Some(10),
        out: Some(out.clone()),
        ..Settings::default()
    };
    let options = RunOptions::resolve(settings, "example", |_| None)?;

    // `control` ends the run from any other thread: once to drain, twice to cut.
    let control = Control::new();
    let mut most_in_flight = 0;
    let outcome = run(&options, &control, |look| {
        most_in_flight = most_in_flight.max(look.core.counts().requests_in_flight);
    })?;
    if let Some(failure) = outcome.sink_failure {
        return Err(failure.into());
    }

    let mut rewards = Vec::new();
    for line in BufReader::new(File::open(out.join("trajectories.jsonl"))?).lines() {
        let record = read_json_line(line?.as_bytes()).context("a record of ours")?;
        // A missing reward is not a reward of 0.
        rewards.extend(record.reward);
    }
    let summary = outcome.summary;
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{} episodes, {} steps", summary.recorded, summary.steps)?;
    writeln!(stdout, "at most {most_in_flight} requests at once")?;
    if !rewards.is_empty() {
        let mean = rewards.iter().sum::<f64>() / rewards.len() as f64;
        writeln!(stdout, "mean reward of {} episodes: {mean:.2}", rewards.len())?;
    }
    Ok(())
}

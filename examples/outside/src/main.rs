//! Envmill in a crate of one's own: an environment and a policy that it knows nothing of, through its public
//! API alone. Plays 1,000 episodes, keeps their records, and says how many guesses they took:
//!
//! ```text
//! cargo run --manifest-path examples/outside/Cargo.toml -- guesses
//! ```

mod environment;
mod policy;

use std::path::PathBuf;

use anyhow::{Context, Result};
use envmill::{
    driver::{Control, Driver},
    policy::Policy,
    sink::{Claim, Format, OutputDirectory, Records},
};
use envmill_core::{Core, JobOptions, Options, ServerOptions, Time};
use envmill_native::NativeWorker;

fn main() -> Result<()> {
    let place: PathBuf = std::env::args_os().nth(1).context("say where records go")?.into();
    let mut core = Core::new(Options::default());
    core.add_server(ServerOptions { name: "guessing".into(), ..ServerOptions::default() });
    let job = JobOptions { episodes: 1000, sessions_max: 64, ..JobOptions::default() };
    let job = core.submit(Time::ZERO, job)?;

    let worker = NativeWorker::of(environment::Guessing::default());
    let policies: Vec<Box<dyn Policy>> = vec![Box::new(policy::Bisecting::default())];
    let out = OutputDirectory::claim(&place, Format::JsonLines, Claim::New)?;
    let sink = Box::new(out.sink()?);
    Driver::new(core, vec![job], worker, policies, sink, Control::new())?.run(|_| {});

    let (mut episodes, mut guesses, mut found) = (0, 0, 0.0);
    for record in Records::open(&out.records())? {
        let record = record?;
        episodes += 1;
        guesses += record.steps.len();
        found += record.reward.unwrap_or_default();
    }
    println!("{episodes} episodes, {found} found, {:.1} guesses each", guesses as f64 / found);
    Ok(())
}

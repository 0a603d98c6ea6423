//! How long until a trainer holds complete groups, what is wasted on the way and how stale they are:
//! our scheduler beside lock-step batches, a first-in-first-out stream and a clairvoyant bound.
//!
//! `group-policies [SEEDS] [PLOT.svg]`. All in virtual time: the figures do not depend on the machine.

#![expect(clippy::print_stdout, reason = "figures are what a benchmark prints")]

use std::{error::Error, path::Path};

use envmill_benches::groups::{
    Cut, Delivered, Panel, Tail, Workload, bound, deliver, draw, first_in_first_out, lock_step,
    ours,
};

/// Groups that the trainer takes at once.
const BATCH: usize = 32;
/// Batches asked for; all but the last two are measured.
const BATCHES: usize = 12;
/// Members of a group.
const SAMPLES: usize = 8;

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut arguments = std::env::args().skip(1);
    let seeds: u64 = arguments.next().as_deref().unwrap_or("10").parse()?;
    let plot = arguments.next();
    let trace = Path::new(env!("CARGO_MANIFEST_DIR")).join("traces/staggered-env.json");
    let recorded = Tail::recorded(&trace).map_err(|error| error.to_string())?;
    println!(
        "{BATCH} groups of {SAMPLES} a batch, {} slots, {BATCHES} batches, seeds 0 to {}; a trainer that \
         takes 0.2 of a batch's play",
        BATCH * SAMPLES,
        seeds.saturating_sub(1),
    );
    let mut panels = Vec::new();
    for tail in [Tail::lognormal(), Tail::pareto(), recorded] {
        panels.push(compare(&tail, seeds)?);
    }
    if let Some(plot) = plot {
        draw(Path::new(&plot), &panels)?;
        println!("the plot of seed 0 is in {plot}");
    }
    Ok(())
}

/// Prints the table of one tail, and gives its panel for the plot.
fn compare(tail: &Tail, seeds: u64) -> Result<Panel, Box<dyn Error + Send + Sync>> {
    let mut rows: Vec<(String, Vec<Delivered>)> = Vec::new();
    let (mut first, mut per_batch, mut held) = (0.0, 0.0, Vec::new());
    for seed in 0..seeds {
        let workload = Workload::draw(tail, BATCH, BATCHES, SAMPLES, seed);
        let played = [
            ("lock-step batches", lock_step(&workload)),
            ("first in, first out", first_in_first_out(&workload)),
            ("ours", ours(&workload, Cut::Nothing)?),
            ("ours, 8 of 9, cut", ours(&workload, Cut::Oversample(1))?),
            ("ours, 8 of 10, cut", ours(&workload, Cut::Oversample(2))?),
        ];
        for (index, (name, played)) in played.iter().enumerate() {
            if rows.len() <= index {
                rows.push(((*name).to_owned(), Vec::new()));
            }
            rows[index].1.push(deliver(played, &workload));
        }
        let bound = bound(&workload, SAMPLES, SAMPLES);
        first += bound.first_batch / seeds as f64;
        per_batch += bound.per_batch / seeds as f64;
        if seed == 0 {
            held = bound.held;
        }
    }
    println!("\n{}: means over {seeds} seeds", tail.name);
    println!(
        "{:<24}{:>11}{:>11}{:>9}{:>9}{:>9}{:>9}{:>11}",
        "", "1st batch", "a batch", "x bound", "idle", "cut", "steps cut", "staleness"
    );
    for (name, runs) in &rows {
        let mean = |of: fn(&Delivered) -> f64| runs.iter().map(of).sum::<f64>() / runs.len() as f64;
        let worst = runs.iter().map(|run| run.staleness_max).max().unwrap_or_default();
        println!(
            "{name:<24}{:>9.2} s{:>9.2} s{:>9.2}{:>8.1}%{:>8.1}%{:>8.1}%{:>6.2} ({worst})",
            mean(|run| run.first_batch),
            mean(|run| run.per_batch),
            mean(|run| run.per_batch) / per_batch,
            100.0 * mean(|run| run.idle).abs(),
            100.0 * mean(|run| run.cut).abs(),
            100.0 * mean(|run| run.steps_cut),
            mean(|run| run.staleness_mean),
        );
    }
    println!("{:<24}{first:>9.2} s{per_batch:>9.2} s{:>9.2}", "clairvoyant bound", 1.0);
    let mut lines: Vec<(String, Vec<f64>)> =
        rows.into_iter().map(|(name, mut runs)| (name, runs.swap_remove(0).held)).collect();
    lines.push(("clairvoyant bound".to_owned(), held));
    Ok(Panel { name: tail.name.to_owned(), lines })
}

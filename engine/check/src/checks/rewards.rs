//! What is rewarded.
//!
//! Proves that rewards are numbers within reason, that they vary, and that no simple habit earns without
//! end: actions that are always taken, and pairs that are taken in turn, are played against random ones.
//! That a habit earns is how some tasks are meant (to hold a position, say), so it is a warning and no
//! error, as is everything here but what is no number at all.

use crate::{
    finding::{
        Severity::{Note, Warning},
        Sheet,
    },
    play::{End, Episode, Halt},
    subject::Subject,
};

/// Rewards beyond this are rarely meant.
const PLAUSIBLE: f64 = 1e6;
/// Episodes shorter than this say nothing on what has no end.
const LONG: usize = 20;

pub(super) fn run(subject: &Subject<'_>, sheet: &mut Sheet) -> Result<(), Halt> {
    let sample = subject.sample()?;
    let random = sample.random.iter().map(|(_, episode)| episode);
    let constant = sample.constant.iter().flat_map(|(_, episodes)| episodes);
    let all: Vec<&Episode> = random.chain(constant).collect();
    let rewards: Vec<f64> = all.iter().flat_map(|episode| episode.rewards()).collect();
    let steps: usize = all.iter().map(|episode| episode.steps.len()).sum();
    let (Some(least), Some(most)) = (
        rewards.iter().copied().min_by(f64::total_cmp),
        rewards.iter().copied().max_by(f64::total_cmp),
    ) else {
        sheet.add(
            Note,
            "null",
            "there is no reward",
            format!("{steps} steps of {} episodes, all with reward null", all.len()),
            "have a scorer say what episodes are worth, or a step a reward (NaN becomes null on the wire)",
        );
        return Ok(());
    };
    let span = format!("{least} to {most} over {} rewards of {steps} steps", rewards.len());
    sheet.pass("number", "rewards are numbers", span.clone());
    if most.abs().max(least.abs()) > PLAUSIBLE {
        sheet.add(
            Warning,
            "range",
            "a reward is beyond all others' order of magnitude",
            span.clone(),
            "scale rewards to about 1: whoever normalises them loses all else beside one of this size",
        );
    }
    if least.total_cmp(&most).is_eq() {
        // To hold out for long may be what is meant.
        let (severity, but) = if lengths_vary(&all) {
            (Note, "; episodes are worth more or less by their length alone")
        } else {
            (Warning, "")
        };
        sheet.add(
            severity,
            "constant",
            "the reward is always the same",
            format!("{least} at each of {} rewards, whatever was done{but}", rewards.len()),
            "reward what is to be learned",
        );
    } else {
        sheet.pass("varies", "rewards vary", span);
    }
    farmed(subject, sheet)?;
    partial(sheet, &all);
    Ok(())
}

/// Whether episodes come to their end sooner or later.
fn lengths_vary(all: &[&Episode]) -> bool {
    let mut ended = all.iter().filter(|it| it.end == End::Done).map(|it| it.steps.len());
    ended.next().is_some_and(|first| ended.any(|other| other != first))
}

/// Habits that earn as long as one likes.
fn farmed(subject: &Subject<'_>, sheet: &mut Sheet) -> Result<(), Halt> {
    let sample = subject.sample()?;
    for (habit, episodes) in &sample.constant {
        let earns = |episode: &Episode| {
            let rewards: Vec<f64> = episode.rewards().collect();
            let later = &rewards[rewards.len() / 2..];
            episode.end == End::Cut
                && episode.steps.len() >= LONG.min(subject.options.max_steps as usize)
                && !later.is_empty()
                && later.iter().sum::<f64>() > 0.0
        };
        if episodes.iter().all(earns) {
            let per_step: Vec<f64> = episodes
                .iter()
                .map(|it| it.sum().unwrap_or_default() / it.steps.len().max(1) as f64)
                .collect();
            let mean = per_step.iter().sum::<f64>() / per_step.len().max(1) as f64;
            sheet.add(
                Warning,
                "farmed",
                "a habit earns reward without end",
                format!(
                    "{habit}, for {} steps in each of {} episodes: {mean:.3} a step, to the last, and no end",
                    subject.options.max_steps,
                    episodes.len()
                ),
                "reward progress once, end the episode, or take something for each step",
            );
            return Ok(());
        }
    }
    let tried = format!("{} habits, each on some seeds", sample.constant.len());
    if sample.constant.is_empty() {
        sheet.unchecked("farmed", "whether a habit earns reward without end", "no time was left");
    } else {
        sheet.pass("farmed", "no simple habit earns reward without end", tried);
    }
    Ok(())
}

/// Ended episodes with some of the reward that others got.
fn partial(sheet: &mut Sheet, all: &[&Episode]) {
    let mut sums: Vec<f64> =
        all.iter().filter(|it| it.end == End::Done).filter_map(|it| it.sum()).collect();
    sums.sort_by(f64::total_cmp);
    let Some(best) = sums.last().copied() else { return };
    let some = sums.iter().filter(|sum| **sum > 0.0 && **sum < best).count();
    if some > 0 {
        sheet.add(
            Note,
            "partial",
            "episodes end with part of the best reward",
            format!(
                "{some} of {} ended episodes have more than 0 and less than the best, {best}",
                sums.len()
            ),
            "if only the best is a success, do not count the others as some of one",
        );
    }
}

//! How long episodes are.
//!
//! Proves what a limit on steps has to be, and which share of a batch waits for the longest. It says
//! what random actions lead to; a policy that plays better may play longer. None of it is an error.

use crate::{
    finding::{
        Severity::{Note, Warning},
        Sheet,
    },
    play::{End, Halt},
    statistics::{quantile, share},
    subject::Subject,
};

/// From so many times the median on, the longest episodes are a tail.
const TAIL: f64 = 5.0;
/// From this share on, it is told that the environment refuses actions.
const REFUSED: f64 = 0.1;

pub(super) fn run(subject: &Subject<'_>, sheet: &mut Sheet) -> Result<(), Halt> {
    let sample = subject.sample()?;
    let all = sample.random.len();
    if all == 0 {
        sheet.unchecked("tail", "how long episodes are", "none was played");
        return Ok(());
    }
    let mut lengths: Vec<f64> =
        sample.random.iter().map(|(_, episode)| episode.steps.len() as f64).collect();
    lengths.sort_by(f64::total_cmp);
    let count = |is: fn(&End) -> bool| sample.random.iter().filter(|(_, it)| is(&it.end)).count();
    let cut = count(|end| *end == End::Cut);
    let refused = count(|end| matches!(end, End::Refused { .. }));
    let (p50, p99) = (quantile(&lengths, 0.5), quantile(&lengths, 0.99));
    let longest = lengths.last().copied().unwrap_or_default();
    let wanted = sample.wanted as usize;
    let few =
        if all < wanted { format!(" (of {wanted}, for want of time)") } else { String::new() };
    let told = format!(
        "{all} episodes{few}: median {p50} steps, 99 % within {p99}, longest {longest}; cut at {} steps: \
         {} (95 %, Wilson)",
        subject.options.max_steps,
        share(cut, all).told(2)
    );
    if cut == all {
        sheet.add(
            Warning,
            "never-ends",
            "no episode of random actions has an end",
            told.clone(),
            "have the environment say done after a number of steps of its own, or give --max-steps to runs",
        );
    } else if cut > 0 {
        sheet.add(
            Note,
            "cut",
            "some episodes have no end in time",
            told.clone(),
            "give --max-steps to runs, and say where the environment tells that it was cut",
        );
    }
    if p50 > 0.0 && p99 / p50 >= TAIL {
        sheet.add(
            Note,
            "tail",
            "a few episodes are much longer than the others",
            told.clone(),
            "batches that wait for all wait for these: --group-deadline-ms or --complete-at cut the tail",
        );
    }
    if share(refused, all).value >= REFUSED {
        let example = sample.random.iter().find_map(|(_, episode)| match &episode.end {
            End::Refused { code, message } => {
                let action = episode.refused.clone().unwrap_or_default();
                Some(format!("{action} was answered with {code}: {message}"))
            }
            _ => None,
        });
        sheet.add(
            Note,
            "refused",
            "many episodes end because an action is refused",
            format!("{refused} of {all}; {}", example.unwrap_or_default()),
            "list the legal ones as `legal_actions` in observations, or answer with a reward instead",
        );
    }
    if !sheet.has(Note) {
        sheet.pass("tail", "episodes end, and about as soon as each other", told);
    }
    Ok(())
}

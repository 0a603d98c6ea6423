//! The end of an episode.
//!
//! Proves that `done` means what clients take it for. What a step after the end does is left open by
//! OpenEnv, so only what misleads is a warning; that a reset begins a new episode is its contract.

use crate::{
    finding::{
        Severity::{Error, Note, Warning},
        Sheet,
    },
    play::{End, Halt, Player},
    subject::Subject,
};

pub(super) fn run(subject: &Subject<'_>, sheet: &mut Sheet) -> Result<(), Halt> {
    let mut player = Player::new(subject);
    let seed = subject.options.seed;
    let first = player.reset(seed)?;
    if first.done {
        sheet.add(
            Warning,
            "on-reset",
            "a reset answers that the episode is over",
            format!("the first reset with seed {seed} has done: true"),
            "say done: false until something was done",
        );
    }
    let until = subject.until(15);
    let mut ended = None;
    let tries = subject.at_most(8, 4);
    for number in 0..tries {
        let mut choice = subject.choice(seed.wrapping_add(number.into()))?;
        let episode = player.play(
            seed.wrapping_add(number.into()),
            &mut choice,
            subject.options.max_steps,
        )?;
        if episode.end == End::Done && !episode.steps.is_empty() {
            ended = Some(episode);
            break;
        }
        if std::time::Instant::now() >= until || subject.peer.stop().is_asked() {
            break;
        }
    }
    let Some(ended) = ended else {
        sheet.absent(
            "after",
            "no episode came to its end",
            format!("{tries} episodes of at most {} steps", subject.options.max_steps),
        );
        return Ok(());
    };
    let steps = ended.steps.len();
    let reproduce = subject.options.reproduce("done", &ended.actions());
    let Some(last) = ended.steps.last() else { return Ok(()) };
    match player.step(&last.action)? {
        Err((code, _)) => {
            sheet.pass("after", "a step after the end is refused", format!("error {code}"));
        }
        Ok(answer) if answer.done => {
            sheet.pass(
                "after",
                "after the end, the episode stays over",
                format!("after {steps} steps"),
            );
            if answer.reward().is_some_and(|reward| reward != 0.0) {
                sheet.add_with(
                    Warning,
                    "reward-after",
                    "a step after the end is rewarded",
                    format!(
                        "the step after the {steps} of the episode has reward {}",
                        answer.reward
                    ),
                    "give no reward once the episode is over, or refuse the step",
                    reproduce.clone(),
                );
            }
        }
        Ok(answer) => sheet.add_with(
            Warning,
            "continues",
            "an episode goes on after its end",
            format!(
                "step {steps} has done: true, and the next has done: false and reward {}",
                answer.reward
            ),
            "refuse steps after the end, or answer done: true to them",
            reproduce.clone(),
        ),
    }
    // Whatever that was, a reset is the way out of it.
    let again = match player.reset(seed) {
        Ok(again) => again,
        Err(Halt::Refused { code, message, .. }) => {
            sheet.add_with(
                Error,
                "no-reset",
                "after an episode has ended, it cannot be reset",
                format!(
                    "after {steps} steps and the end, reset was answered with {code}: {message}"
                ),
                "have reset begin a new episode whatever was before",
                reproduce,
            );
            return Ok(());
        }
        Err(halt) => return Err(halt),
    };
    if again.done && !first.done {
        sheet.add_with(
            Error,
            "not-cleared",
            "a reset after the end leaves the episode over",
            format!("the first reset has done: false, the one after an episode of {steps} steps has done: true"),
            "clear the environment's own flag in reset; until then play with --session-reuse never",
            reproduce,
        );
    } else if first.done {
        sheet.add(Note, "cleared", "resets answer done: true always", "", "");
    } else {
        sheet.pass("cleared", "a reset after the end begins a new episode", "");
    }
    Ok(())
}

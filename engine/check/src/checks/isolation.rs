//! What sessions and episodes see of each other.
//!
//! Proves three things. The state of a session does not change by what another does. Two sessions with
//! different seeds and actions, step by step in turn, play what each plays alone. And an episode plays
//! the same in a session that has played another before as in a new one.
//!
//! Each is only looked at where an episode alone is reproducible (the first: where the state stays as
//! it is while nobody does anything), and each difference is confirmed by a second round of all of it.
//! An environment that drops seeds and draws from one generator for its life looks, from outside, like
//! one that does not clean up: where seeds have no effect, a difference after reuse is a warning.

use std::time::{Duration, Instant};

use crate::{
    checks::{
        compare::Compared,
        determinism::{STEPS_MAX, alone, others, record, shown},
    },
    diff::{Difference, differences},
    finding::{
        Severity::{Error, Warning},
        Sheet,
    },
    play::{Choice, Episode, Halt, Player},
    subject::Subject,
};

pub(super) fn run(subject: &Subject<'_>, sheet: &mut Sheet) -> Result<(), Halt> {
    let seed = subject.options.seed;
    let mine = record(subject, seed)?;
    let actions = mine.actions();
    let again = alone(subject, seed, &actions)?;
    let compared = Compared::of(&mine, &again);
    let reproduce = subject.options.reproduce("isolation", &shown(&actions));
    reuse(subject, sheet, &mine, &compared, &reproduce)?;
    if subject.capacity.get().is_some_and(|it| it.is_known() && it.sessions < 2) {
        sheet.absent("state", "sessions side by side", "the server holds one session");
        return Ok(());
    }
    state(subject, sheet, &reproduce)?;
    if compared.is_same() {
        side_by_side(subject, sheet, &mine, &reproduce)
    } else {
        let why = format!("alone, an episode is not reproducible: {}", compared.told());
        sheet.unchecked("sessions", "sessions side by side", why);
        Ok(())
    }
}

/// Another episode first, then the one that is compared, in one session.
fn after_another(subject: &Subject<'_>, mine: &Episode) -> Result<Episode, Halt> {
    let mut player = Player::new(subject);
    let other = mine.seed.wrapping_add(1);
    let mut choice = subject.choice(other.wrapping_add(77))?;
    // About as long as the one that follows.
    let steps_max = u32::try_from(mine.steps.len()).unwrap_or(STEPS_MAX).clamp(3, STEPS_MAX);
    player.play(other, &mut choice, steps_max)?;
    player.play(mine.seed, &mut Choice::list(mine.actions()), STEPS_MAX)
}

fn reuse(
    subject: &Subject<'_>,
    sheet: &mut Sheet,
    mine: &Episode,
    compared: &Compared,
    reproduce: &str,
) -> Result<(), Halt> {
    if !compared.is_same() {
        let why = format!("in new sessions, an episode is not reproducible: {}", compared.told());
        sheet.unchecked("session-reuse", "episodes of one session (session_reuse)", why);
        return Ok(());
    }
    let actions = mine.actions();
    let mut evidence = Compared::Same;
    for _ in 0..2 {
        let reused = Compared::of(mine, &after_another(subject, mine)?);
        if reused.is_same() {
            let told =
                format!("seed {}, {} actions, after another episode", mine.seed, actions.len());
            sheet.pass("session-reuse", "an episode is the same in a session that is reused", told);
            return Ok(());
        }
        let fresh = Compared::of(mine, &alone(subject, mine.seed, &actions)?);
        if !fresh.is_same() {
            let why = format!("in new sessions, it was not the same once more: {}", fresh.told());
            sheet.unchecked("session-reuse", "episodes of one session (session_reuse)", why);
            return Ok(());
        }
        evidence = reused;
    }
    let is_seeded = others(subject, mine, &actions)? > 0;
    let (severity, cause) = if is_seeded {
        (Error, "reset leaves something of the episode before")
    } else {
        (Warning, "reset leaves something of the episode before, or drops the seed")
    };
    sheet.add_with(
        severity,
        "session-reuse",
        "an episode depends on the one before it in its session (session_reuse)",
        format!(
            "seed {} after an episode with seed {}, against the same in a new session, twice: {}",
            mine.seed,
            mine.seed.wrapping_add(1),
            evidence.told()
        ),
        format!("{cause}: set everything anew there; until then play with --session-reuse never"),
        reproduce.into(),
    );
    Ok(())
}

/// Plays some steps of another session.
fn disturb(subject: &Subject<'_>, other: &mut Player<'_>, round: u64) -> Result<(), Halt> {
    let seed = subject.options.seed.wrapping_add(1000 + round);
    other.play(seed, &mut subject.choice(seed)?, 5).map(drop)
}

/// Whether a session's state changes by what another does.
fn state(subject: &Subject<'_>, sheet: &mut Sheet, reproduce: &str) -> Result<(), Halt> {
    let (mut mine, mut other) = (Player::new(subject), Player::new(subject));
    mine.play(subject.options.seed, &mut subject.choice(subject.options.seed)?, 3)?;
    let began = Instant::now();
    match disturb(subject, &mut other, 0) {
        Ok(()) => {}
        Err(Halt::Full(_)) => {
            sheet.absent("state", "sessions side by side", "there is no room for two sessions");
            return Ok(());
        }
        Err(halt) => return Err(halt),
    }
    let took = began.elapsed().max(Duration::from_millis(50));
    let mut seen: Option<Difference> = None;
    for round in 0..2 {
        mine.play(subject.options.seed, &mut subject.choice(subject.options.seed)?, 3)?;
        let Ok(before) = mine.state() else {
            sheet.absent("state", "sessions side by side", "there is no state to look at");
            return Ok(());
        };
        subject.peer.stop().pause(took);
        let still = mine.state()?;
        let is_quiet = differences(&before, &still).iter().all(Difference::is_volatile);
        disturb(subject, &mut other, round)?;
        let after = mine.state()?;
        let changed =
            differences(&still, &after).into_iter().find(|difference| !difference.is_volatile());
        match changed {
            Some(changed) if is_quiet => seen = Some(changed),
            _ => {
                sheet.pass("state", "a session's state does not change by another session", "");
                return Ok(());
            }
        }
    }
    if let Some(seen) = seen {
        sheet.add_with(
            Error,
            "state",
            "a session's state changes by what another session does",
            format!(
                "the state before and after another session's reset and steps, twice: {}",
                seen.told()
            ),
            "make an environment for each session, with nothing that they share and write to",
            reproduce.into(),
        );
    }
    Ok(())
}

/// Two sessions with different seeds and actions, step by step in turn.
fn interleaved(
    subject: &Subject<'_>,
    one: &Episode,
    two: &Episode,
) -> Result<Option<[Episode; 2]>, Halt> {
    let (mut first, mut second) = (Player::new(subject), Player::new(subject));
    let mut a = Episode::begun(one.seed, first.reset(one.seed)?);
    let mut b = match second.reset(two.seed) {
        Ok(answer) => Episode::begun(two.seed, answer),
        Err(Halt::Full(_)) => return Ok(None),
        Err(halt) => return Err(halt),
    };
    let (mut mine, mut others) = (Choice::list(one.actions()), Choice::list(two.actions()));
    loop {
        let more = first.advance(&mut a, &mut mine, STEPS_MAX)?;
        let still = second.advance(&mut b, &mut others, STEPS_MAX)?;
        if !more && !still {
            return Ok(Some([a, b]));
        }
    }
}

fn side_by_side(
    subject: &Subject<'_>,
    sheet: &mut Sheet,
    mine: &Episode,
    reproduce: &str,
) -> Result<(), Halt> {
    let seed = mine.seed.wrapping_add(11);
    // Different actions, too, where actions are drawn.
    let yours = record(subject, seed)?;
    let again = Compared::of(&yours, &alone(subject, seed, &yours.actions())?);
    if !again.is_same() {
        let why = format!("alone, an episode is not reproducible: {}", again.told());
        sheet.unchecked("sessions", "sessions side by side", why);
        return Ok(());
    }
    let mut evidence = String::new();
    for _ in 0..2 {
        let Some([a, b]) = interleaved(subject, mine, &yours)? else {
            sheet.absent("sessions", "sessions side by side", "there is no room for two sessions");
            return Ok(());
        };
        let compared = [Compared::of(mine, &a), Compared::of(&yours, &b)];
        let Some(differs) = compared.iter().find(|it| !it.is_same()) else {
            let told = format!("seeds {} and {seed}, step by step in turn", mine.seed);
            sheet.pass("sessions", "two sessions play what each plays alone", told);
            return Ok(());
        };
        evidence = differs.told();
        let alone = Compared::of(mine, &alone(subject, mine.seed, &mine.actions())?);
        if !alone.is_same() {
            let why = format!("alone, it was not the same once more: {}", alone.told());
            sheet.unchecked("sessions", "sessions side by side", why);
            return Ok(());
        }
    }
    sheet.add_with(
        Error,
        "sessions",
        "sessions change each other's episodes",
        format!(
            "seeds {} and {seed} in two sessions in turn, twice, against each alone: {evidence}",
            mine.seed
        ),
        "make an environment for each session, with nothing that they share and write to",
        reproduce.into(),
    );
    Ok(())
}

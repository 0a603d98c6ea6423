//! Seeds.
//!
//! Proves that an episode can be had again, which groups of one task need: the same seed and actions are
//! played in several new sessions, then with other seeds, then in two sessions at a time. Values that
//! look like ids or times may differ, and are listed.
//!
//! OpenEnv does not promise that a seed has any effect, so an environment that drops it is no error,
//! only one that cannot be trained on in groups. It is an error that sessions which play at the same
//! time change what one alone plays reproducibly; that is confirmed by playing alone once more.

use std::time::Instant;

use crate::{
    checks::compare::Compared,
    finding::{
        Severity::{Error, Note, Warning},
        Sheet,
    },
    play::{Choice, Episode, Halt, Player},
    subject::Subject,
};

/// The most steps of an episode that is compared.
pub(super) const STEPS_MAX: u32 = 40;

pub(super) fn run(subject: &Subject<'_>, sheet: &mut Sheet) -> Result<(), Halt> {
    let seed = subject.options.seed;
    let first = record(subject, seed)?;
    let actions = first.actions();
    let reproduce = subject.options.reproduce("determinism", &shown(&actions));
    let mut compared = Compared::Same;
    for _ in 0..subject.at_most(3, 1) {
        let again = alone(subject, seed, &actions)?;
        let this = Compared::of(&first, &again);
        match (&compared, &this) {
            (_, Compared::Different(_)) => {
                compared = this;
                break;
            }
            (Compared::Same, Compared::Volatile(_)) => compared = this,
            _ => {}
        }
    }
    let others = others(subject, &first, &actions)?;
    match &compared {
        Compared::Different(_) => {
            sheet.add_with(
                Warning,
                "seed-dropped",
                "the same seed and actions give other episodes: the seed is dropped",
                format!("seed {seed} in two new sessions, {} actions: {}", actions.len(), compared.told()),
                "seed the environment's own generator in reset(seed=…); until then the members of a group \
                 play different tasks",
                reproduce,
            );
            sheet.unchecked(
                "concurrent",
                "sessions at the same time",
                "episodes cannot be had again",
            );
            return Ok(());
        }
        Compared::Volatile(all) => {
            let pointers: Vec<&str> = all.iter().map(|it| it.pointer.as_str()).take(6).collect();
            sheet.add_with(
                Note,
                "volatile",
                "answers hold ids or times that differ each time",
                format!("{}, for example {}", pointers.join(", "), compared.told()),
                "leave them out of observations, or have them follow from the seed",
                reproduce.clone(),
            );
        }
        Compared::Same => {}
    }
    let evidence = format!("seed {seed}, {} actions, in new sessions", actions.len());
    sheet.pass("same", "the same seed and actions give the same episode", evidence);
    if others == 0 {
        sheet.add_with(
            Note,
            "seed-without-effect",
            "every seed gives the same episode",
            format!(
                "seeds {seed} to {} and the same {} actions",
                seed.wrapping_add(3),
                actions.len()
            ),
            "if there are to be different tasks, draw them from reset(seed=…)",
            reproduce.clone(),
        );
    } else {
        sheet.pass(
            "seeded",
            "another seed gives another episode",
            format!("{others} of 3 other seeds"),
        );
    }
    together(subject, sheet, &first, &actions, &reproduce)
}

/// An episode with chosen actions in a new session, as long as it may be: it is played many times.
pub(super) fn record(subject: &Subject<'_>, seed: u64) -> Result<Episode, Halt> {
    let steps_max = subject.options.max_steps.min(STEPS_MAX);
    let mut choice = subject.choice(seed)?;
    let mut player = Player::new(subject);
    let mut episode = Episode::begun(seed, player.reset(seed)?);
    let until = subject.until(3);
    while player.advance(&mut episode, &mut choice, steps_max)? && Instant::now() < until {}
    Ok(episode)
}

/// An episode with these actions in a new session.
pub(super) fn alone(subject: &Subject<'_>, seed: u64, actions: &[String]) -> Result<Episode, Halt> {
    Player::new(subject).play(seed, &mut Choice::list(actions.to_vec()), STEPS_MAX)
}

/// Actions as far as they can stand in a command; what is longer follows from the seed.
pub(super) fn shown(actions: &[String]) -> Vec<String> {
    const BYTES_MAX: usize = 4096;
    if actions.iter().map(String::len).sum::<usize>() > BYTES_MAX {
        Vec::new()
    } else {
        actions.to_vec()
    }
}

/// How many of three other seeds give another episode.
pub(super) fn others(
    subject: &Subject<'_>,
    first: &Episode,
    actions: &[String],
) -> Result<usize, Halt> {
    let mut different = 0;
    for other in 1..=3 {
        let seed = first.seed.wrapping_add(other);
        let episode = alone(subject, seed, actions)?;
        different += usize::from(!Compared::of(first, &episode).is_same());
    }
    Ok(different)
}

/// Two sessions with the same seed, step by step in turn; `None` if there is room for one only.
fn in_turn(
    subject: &Subject<'_>,
    seed: u64,
    actions: &[String],
) -> Result<Option<[Episode; 2]>, Halt> {
    let (mut one, mut two) = (Player::new(subject), Player::new(subject));
    let mut a = Episode::begun(seed, one.reset(seed)?);
    let mut b = match two.reset(seed) {
        Ok(first) => Episode::begun(seed, first),
        Err(Halt::Full(_)) => return Ok(None),
        Err(halt) => return Err(halt),
    };
    let mut choice = Choice::list(actions.to_vec());
    loop {
        let more = one.advance(&mut a, &mut choice, STEPS_MAX)?;
        let others = two.advance(&mut b, &mut choice, STEPS_MAX)?;
        if !more && !others {
            return Ok(Some([a, b]));
        }
    }
}

fn together(
    subject: &Subject<'_>,
    sheet: &mut Sheet,
    first: &Episode,
    actions: &[String],
    reproduce: &str,
) -> Result<(), Halt> {
    if subject.capacity.get().is_some_and(|it| it.is_known() && it.sessions < 2) {
        sheet.absent("concurrent", "sessions at the same time", "the server holds one session");
        return Ok(());
    }
    for attempt in 0..2 {
        let Some(both) = in_turn(subject, first.seed, actions)? else {
            sheet.absent(
                "concurrent",
                "sessions at the same time",
                "there is no room for two sessions",
            );
            return Ok(());
        };
        let compared = both.map(|episode| Compared::of(first, &episode));
        let Some(differs) = compared.iter().find(|it| !it.is_same()) else {
            let evidence = "two sessions with the same seed, step by step in turn";
            sheet.pass("concurrent", "sessions at the same time give the same episode", evidence);
            return Ok(());
        };
        let again = alone(subject, first.seed, actions)?;
        let still = Compared::of(first, &again);
        if !still.is_same() {
            sheet.unchecked(
                "concurrent",
                "sessions at the same time",
                format!("alone, the episode was not the same once more: {}", still.told()),
            );
            return Ok(());
        }
        if attempt == 1 {
            sheet.add_with(
                Error,
                "concurrent",
                "sessions that play at the same time change each other's episodes",
                format!(
                    "seed {} in two sessions in turn, twice, against one alone, which is the same each \
                     time: {}",
                    first.seed,
                    differs.told()
                ),
                "give each session a generator of its own (random.Random(seed), not random.seed(seed))",
                reproduce.into(),
            );
        }
    }
    Ok(())
}

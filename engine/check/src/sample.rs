//! Episodes that several checks look at: a random policy over groups with one seed each, and policies
//! that always do the same.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};

use crate::{
    play::{Choice, Episode, Halt, Player},
    subject::Subject,
};

/// Episodes of a group.
pub(crate) const SAMPLES: u32 = 4;
/// How many sessions play at once, where there is room.
const SESSIONS: usize = 4;
/// How many actions are tried as constants, and on how many seeds.
const CONSTANTS: u64 = 5;
const CONSTANT_EPISODES: u32 = 4;

/// Episodes.
#[derive(Debug)]
pub(crate) struct Sample {
    /// Of a random policy, each with its group, in the order of groups.
    pub(crate) random: Vec<(u32, Episode)>,
    /// Of habits: an action that is always taken, or two in turn.
    pub(crate) constant: Vec<(String, Vec<Episode>)>,
    /// How many random episodes were wanted.
    pub(crate) wanted: u32,
}

impl Subject<'_> {
    /// The episodes, which are played when they are first asked for.
    pub(crate) fn sample(&self) -> Result<&Sample, Halt> {
        self.sample.get_or_init(|| collect(self)).as_ref().map_err(Clone::clone)
    }
}

fn collect(subject: &Subject<'_>) -> Result<Sample, Halt> {
    let wanted = subject.options.episodes.max(2);
    let random = random(subject, wanted)?;
    let until = subject.until(10);
    let mut constant = Vec::new();
    let mut player = Player::new(subject);
    for (habit, actions) in habits(subject)? {
        let mut episodes = Vec::new();
        for number in 0..subject.at_most(CONSTANT_EPISODES, 2) {
            if Instant::now() >= until || subject.peer.stop().is_asked() {
                break;
            }
            let seed = subject.options.seed.wrapping_add(number.into());
            let mut choice = Choice::List { actions: actions.clone(), repeats: true };
            episodes.push(player.play(seed, &mut choice, subject.options.max_steps)?);
        }
        if !episodes.is_empty() {
            constant.push((habit, episodes));
        }
    }
    Ok(Sample { random, constant, wanted })
}

/// The random policy's episodes, on several sessions at once where the server has them.
fn random(subject: &Subject<'_>, wanted: u32) -> Result<Vec<(u32, Episode)>, Halt> {
    let next = AtomicUsize::new(0);
    let until = subject.until(25);
    let worker = |is_first: bool| -> Result<Vec<(u32, u32, Episode)>, Halt> {
        let mut player = Player::new(subject);
        let mut played = Vec::new();
        loop {
            let number = u32::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap_or(u32::MAX);
            let is_late = Instant::now() >= until && (!is_first || !played.is_empty());
            if number >= wanted || is_late || subject.peer.stop().is_asked() {
                return Ok(played);
            }
            let group = number / SAMPLES;
            let seed = subject.options.seed.wrapping_add(group.into());
            let draws = subject.options.seed.wrapping_add(0x5a_0000 + u64::from(number));
            let mut choice = subject.random(draws)?;
            match player.play(seed, &mut choice, subject.options.max_steps) {
                Ok(episode) => played.push((group, number, episode)),
                // Others have the room.
                Err(Halt::Full(_)) if !is_first => return Ok(played),
                Err(halt) => return Err(halt),
            }
        }
    };
    let sessions = match subject.capacity.get() {
        Some(capacity) => capacity.sessions.clamp(1, SESSIONS),
        None => 1,
    };
    let mut played: Vec<(u32, u32, Episode)> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..sessions).map(|_| scope.spawn(|| worker(false))).collect();
        let mut all = worker(true);
        for other in others {
            let Ok(other) = other.join() else { continue };
            all = match (all, other) {
                (Ok(mut all), Ok(more)) => {
                    all.extend(more);
                    Ok(all)
                }
                (Err(halt), _) | (_, Err(halt)) => Err(halt),
            };
        }
        all
    })?;
    played.sort_by_key(|(_, number, _)| *number);
    Ok(played.into_iter().map(|(group, _, episode)| (group, episode)).collect())
}

/// Actions that are always taken, and pairs that are taken in turn, each with its name.
fn habits(subject: &Subject<'_>) -> Result<Vec<(String, Vec<String>)>, Halt> {
    let single = constants(subject)?;
    let pairs = single.windows(2).take(2).map(|pair| {
        let turns = pair.iter().cycle().take(subject.options.max_steps as usize);
        (format!("{} in turn", pair.join(" and ")), turns.cloned().collect())
    });
    let pairs: Vec<_> = pairs.collect();
    Ok(single.iter().map(|action| (action.clone(), vec![action.clone()])).chain(pairs).collect())
}

/// Different actions to begin with, as the schema gives them.
fn constants(subject: &Subject<'_>) -> Result<Vec<String>, Halt> {
    let mut found = Vec::new();
    let seed = subject.options.seed;
    let seen = Player::new(subject).reset(seed)?.observation;
    for draw in 0..CONSTANTS * 4 {
        let mut choice = subject.random(seed.wrapping_add(0xc0_0000 + draw))?;
        if let Some(action) = choice.action(0, &seen)?
            && !found.contains(&action)
            && found.len() < CONSTANTS as usize
        {
            found.push(action);
        }
    }
    Ok(found)
}

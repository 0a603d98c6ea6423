//! Memory of a server on this machine.
//!
//! Proves that it does not grow with each episode of a session, nor with each session. After a warm-up,
//! memory (resident set, of all its processes) is looked at every few episodes; the growth is the slope
//! by Theil and Sen, with its 95 % interval. Pools and caches fill at first and then stay, so the first
//! half counts for nothing. Growth is told where the whole interval lies above what matters; that a
//! server keeps a few KiB is not told. It is a warning unless it is much: a cache of what is rarely asked
//! for looks the same for a while.

use std::time::Instant;

use crate::{
    finding::{
        Severity::{Error, Warning},
        Sheet,
    },
    play::{Halt, Player},
    processes::Processes,
    statistics::{Estimate, slope},
    subject::Subject,
};

/// Growth that matters, in bytes for each episode, by the lower end of the interval.
const MATTERS: f64 = 16.0 * 1024.0;
/// Growth that ends a server within a thousand episodes or so.
const MUCH: f64 = 1024.0 * 1024.0;
/// The least growth over the half that counts, in bytes: less is noise of the allocator.
const WHOLE: f64 = 3.0 * 1024.0 * 1024.0;
const STEPS: u32 = 10;

pub(super) fn run(subject: &Subject<'_>, sheet: &mut Sheet) -> Result<(), Halt> {
    let Some(processes) = subject.processes() else {
        sheet.absent(
            "episodes",
            "memory of the server",
            "its process is not known: run on its machine, or give --server-pid",
        );
        return Ok(());
    };
    let episodes = subject.at_most(400, 160);
    let mut player = Player::new(subject);
    let seed = subject.options.seed;
    let kept = grows(subject, &processes, episodes, |number| {
        let mut choice = subject.choice(seed.wrapping_add(number))?;
        player
            .play(seed.wrapping_add(number), &mut choice, STEPS.min(subject.options.max_steps))
            .map(drop)
    })?;
    player.leave();
    told(sheet, &processes, "episodes", "episode", kept.as_ref());
    let sessions = subject.at_most(240, 120);
    let kept = grows(subject, &processes, sessions, |number| {
        Player::new(subject).reset(seed.wrapping_add(number)).map(drop)
    })?;
    told(sheet, &processes, "sessions", "session", kept.as_ref());
    Ok(())
}

/// How memory went on over the second half of some rounds.
struct Growth {
    rounds: usize,
    slope: Estimate,
    whole: f64,
}

fn grows(
    subject: &Subject<'_>,
    processes: &Processes,
    rounds: u32,
    mut round: impl FnMut(u64) -> Result<(), Halt>,
) -> Result<Option<Growth>, Halt> {
    const EVERY: u64 = 4;
    let until = subject.until(20);
    let mut points = Vec::new();
    for number in 0..u64::from(rounds) {
        round(number)?;
        if number % EVERY == EVERY - 1 {
            points.push((number as f64, processes.rss_bytes() as f64));
        }
        if Instant::now() >= until || subject.peer.stop().is_asked() {
            break;
        }
    }
    let later = &points[points.len() / 2..];
    let (Some(first), Some(last)) = (later.first(), later.last()) else { return Ok(None) };
    // Fewer say nothing.
    if later.len() < 10 {
        return Ok(None);
    }
    let rounds = (last.0 - first.0) as usize;
    Ok(Some(Growth { rounds, slope: slope(later), whole: last.1 - first.1 }))
}

fn told(sheet: &mut Sheet, processes: &Processes, id: &str, what: &str, growth: Option<&Growth>) {
    let title = format!("memory does not grow with each {what}");
    let Some(Growth { rounds, slope, whole }) = growth else {
        sheet.unchecked(id, title, format!("too few {id} were played in time"));
        return;
    };
    let kib = |bytes: f64| bytes / 1024.0;
    let in_kib = Estimate { value: kib(slope.value), low: kib(slope.low), high: kib(slope.high) };
    let evidence = format!(
        "{}: {} KiB each {what} over the last {rounds} (95 %, Theil–Sen), {:.1} MiB in all",
        processes.told(),
        in_kib.told(1),
        whole / 1024.0 / 1024.0
    );
    if slope.low > MATTERS && *whole > WHOLE {
        sheet.add(
            if slope.low > MUCH { Error } else { Warning },
            id,
            format!("memory grows with each {what}"),
            evidence,
            "find what is kept (tracemalloc); until then restart servers from time to time, or limit memory",
        );
    } else {
        sheet.pass(id, title, evidence);
    }
}

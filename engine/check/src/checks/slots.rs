//! Sessions that end without a goodbye.
//!
//! Proves that a slot comes back however its client is lost: sessions are cut while they are idle, in the
//! middle of an episode, of a request and of a step, by the end of TCP and by its reset; then as many
//! sessions as before must be possible at once. What no program can do without privileges, a peer that
//! vanishes without a packet, is not done: it takes keep-alive pings to see that.
//!
//! A server that needs a moment to notice passes: it has `ROOM_BOUND`, and a step that still runs holds
//! its slot until it ends. One with several processes may refuse while another has room, so the most
//! sessions that were possible in several attempts count, and losing a few counts for nothing.

use std::time::{Duration, Instant};

use crate::{
    capacity::{Capacity, fill, measure},
    finding::{
        Severity::{Error, Warning},
        Sheet,
    },
    play::{Episode, Halt, Player},
    subject::Subject,
    wire::{Cut, Opcode, Socket, frame},
};

/// How long a server may take to notice that clients are gone.
const ROOM_BOUND: Duration = Duration::from_secs(25);
/// The most sessions that are cut at a time.
const CUT_MAX: usize = 8;

/// A way to be lost.
struct Way {
    id: &'static str,
    what: &'static str,
    cut: Cut,
    last: Last,
}

/// What a client does last.
#[derive(Clone, Copy)]
enum Last {
    Reset,
    HalfARequest,
    Step,
}

const WAYS: [Way; 4] = [
    Way { id: "idle-fin", what: "idle, by the end of TCP", cut: Cut::Fin, last: Last::Reset },
    Way { id: "idle-reset", what: "idle, by a reset of TCP", cut: Cut::Reset, last: Last::Reset },
    Way { id: "mid-request", what: "within a request", cut: Cut::Reset, last: Last::HalfARequest },
    Way { id: "mid-step", what: "while a step runs", cut: Cut::Reset, last: Last::Step },
];

pub(super) fn run(subject: &Subject<'_>, sheet: &mut Sheet) -> Result<(), Halt> {
    let step = slowest_step(subject)?;
    subject.peer.stop().pause(Duration::from_millis(300));
    let most = subject.options.max_sessions as usize;
    let capacity = match subject.capacity.get() {
        Some(capacity) => capacity.clone(),
        None => measure(subject, most.saturating_add(1), subject.until(60)),
    };
    if capacity.is_known() {
        for way in &WAYS {
            if subject.peer.stop().is_asked() {
                break;
            }
            if !comes_back(subject, sheet, way, &capacity, step)? {
                // What is left would be measured with fewer slots than there were.
                return Ok(());
            }
        }
        return Ok(());
    }
    descriptors(subject, sheet, most)
}

/// How long a step takes, of a few.
fn slowest_step(subject: &Subject<'_>) -> Result<Duration, Halt> {
    let mut player = Player::new(subject);
    let mut episode = Episode::begun(subject.options.seed, player.reset(subject.options.seed)?);
    let mut choice = subject.choice(subject.options.seed)?;
    let mut slowest = Duration::ZERO;
    for _ in 0..3 {
        let began = Instant::now();
        if !player.advance(&mut episode, &mut choice, subject.options.max_steps)? {
            break;
        }
        slowest = slowest.max(began.elapsed());
    }
    Ok(slowest)
}

/// Opens sessions and loses them.
fn lose(subject: &Subject<'_>, way: &Way, most: usize) -> Result<usize, Halt> {
    let (open, _) = fill(subject, most, subject.until(30));
    let lost = open.len();
    let step = match way.last {
        Last::Step => {
            let action = subject.choice(subject.options.seed)?;
            let mut action = action;
            action.action(0, &serde_json::Value::Null)?.unwrap_or_else(|| "{}".into())
        }
        _ => String::new(),
    };
    for mut socket in open {
        // Whether it can be sent is not what is looked at.
        let _ = match way.last {
            Last::Reset => Ok(()),
            Last::HalfARequest => {
                let bytes = frame(Opcode::Text, true, br#"{"type":"state"}"#);
                socket.send_raw(&bytes[..bytes.len() / 2])
            }
            Last::Step => socket.send(&Player::step_request(&step)),
        };
        socket.cut(way.cut);
    }
    Ok(lost)
}

/// Whether as many sessions as before are possible after some were lost.
fn comes_back(
    subject: &Subject<'_>,
    sheet: &mut Sheet,
    way: &Way,
    capacity: &Capacity,
    step: Duration,
) -> Result<bool, Halt> {
    let whole = capacity.sessions;
    let lost = lose(subject, way, whole.min(CUT_MAX))?;
    // A step that runs holds its slot until it ends.
    let bound = ROOM_BOUND.min(subject.peer.timeout().max(Duration::from_secs(5))) + step * 4;
    let until = Instant::now() + bound;
    let mut best = 0;
    let title = format!("sessions that are lost {} give their slots back", way.what);
    loop {
        let (open, _) = fill(subject, whole, subject.until(60));
        best = best.max(open.len());
        Socket::close_all(open);
        if best >= whole {
            sheet.pass(
                way.id,
                title,
                format!("{lost} were lost, then {best} of {whole} were open"),
            );
            return Ok(true);
        }
        if subject.peer.stop().is_asked() {
            return Ok(false);
        }
        if Instant::now() >= until {
            break;
        }
        subject.peer.stop().pause(Duration::from_millis(500));
    }
    let missing = whole - best;
    if missing < lost.div_ceil(2).max(1) {
        let told = format!("{lost} were lost, then {best} of {whole} were open at most");
        sheet.add(
            Warning,
            way.id,
            "after sessions were lost, there is room for fewer",
            told,
            "see whether others use the server, or it has several processes",
        );
        return Ok(true);
    }
    sheet.add(
        Error,
        "leak",
        format!("sessions that are lost {} keep their slots", way.what),
        format!(
            "{whole} sessions could be open; {lost} of them were lost {}; after {:.0} s only {best} could \
             be (the server has to be started anew before that is seen again)",
            way.what,
            bound.as_secs_f64()
        ),
        "free the session where the connection ends, however it ends (finally:), and set a session_timeout",
    );
    Ok(false)
}

/// Where no limit is known, what the processes hold tells of sessions that stay.
fn descriptors(subject: &Subject<'_>, sheet: &mut Sheet, most: usize) -> Result<(), Halt> {
    let Some(processes) = subject.processes() else {
        sheet.unchecked(
            "leak",
            "whether lost sessions give their slots back",
            format!("the server has room for {most} sessions and more, and is not on this machine"),
        );
        return Ok(());
    };
    let count = subject.at_most(24, 12) as usize;
    for way in &WAYS {
        // Pools and caches are filled before it counts.
        let (open, _) = fill(subject, count, subject.until(30));
        Socket::close_all(open);
        subject.peer.stop().pause(Duration::from_millis(200));
        let before = processes.descriptors();
        let lost = lose(subject, way, count)?;
        let until =
            Instant::now() + ROOM_BOUND.min(subject.peer.timeout().max(Duration::from_secs(5)));
        let mut after = processes.descriptors();
        while after > before + lost / 4 && Instant::now() < until && !subject.peer.stop().is_asked()
        {
            subject.peer.stop().pause(Duration::from_millis(250));
            after = processes.descriptors();
        }
        let told = format!(
            "{}: {before} descriptors before, {after} after {lost} sessions were lost",
            processes.told()
        );
        if after > before + lost / 2 && !subject.peer.stop().is_asked() {
            sheet.add(
                Error,
                "leak",
                format!("sessions that are lost {} keep their sockets", way.what),
                told,
                "free the session where the connection ends, however it ends (finally:)",
            );
            return Ok(());
        }
        sheet.pass(way.id, format!("sessions that are lost {} are let go of", way.what), told);
    }
    Ok(())
}

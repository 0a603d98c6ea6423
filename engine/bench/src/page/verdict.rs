//! What a target can do and what holds it back, in words and a few large numbers.

use super::{
    html::{Html, class},
    numbers::{count, milliseconds, percent, quantity},
    sweep::{Sweep, name_of as name_of_point},
    text::shortened,
};
use crate::report::{Largest, Stop, Target};

/// How many figures an explanation shows.
const EVIDENCE_MAX: usize = 20;

/// How many characters of one of its sentences are shown.
const PROSE_CHARACTERS_MAX: usize = 1000;

/// The sentence, the numbers and the explanation.
pub(super) fn verdict(html: &mut Html, target: &Target, sweep: Option<&Sweep<'_>>) {
    html.element("div", &[class("verdict")], |html| {
        html.leaf("p", &[class("lead")], &sentence(target, sweep));
        if let Some(knee) = &target.knee {
            html.element("p", &[class("why")], |html| prose(html, &knee.why));
        }
        html.element("dl", &[class("tiles")], |html| tiles(html, target, sweep));
        html.leaf("p", &[class("why")], stopped(target.stop));
    });
}

/// What holds the target back, how that is known, and what may be done about it.
pub(super) fn bottleneck(html: &mut Html, target: &Target) {
    let found = &target.bottleneck;
    html.element("div", &[class("bottleneck")], |html| {
        html.element("h3", &[], |html| {
            html.text("Held back by: ");
            html.foreign(name_of(&found.what));
        });
        if !found.summary.is_empty() {
            html.element("p", &[], |html| prose(html, &found.summary));
        }
        if !found.evidence.is_empty() {
            html.element("ul", &[class("evidence")], |html| {
                for line in found.evidence.iter().take(EVIDENCE_MAX) {
                    html.element("li", &[], |html| prose(html, line));
                }
            });
        }
        if !found.remedy.is_empty() {
            html.element("p", &[class("remedy")], |html| {
                html.leaf("b", &[], "What helps: ");
                prose(html, &found.remedy);
            });
        }
    });
}

/// Sentences of the analysis, in which what stands between backticks is code.
fn prose(html: &mut Html, sentences: &str) {
    html.element("bdi", &[], |html| {
        let sentences = shortened(sentences, PROSE_CHARACTERS_MAX);
        let mut pieces = sentences.split('`').peekable();
        let mut is_code = false;
        while let Some(piece) = pieces.next() {
            if is_code && pieces.peek().is_some() {
                html.leaf("code", &[], piece);
            } else {
                // One that is never closed is a backtick.
                html.text(if is_code { "`" } else { "" });
                html.text(piece);
            }
            is_code = !is_code;
        }
    });
}

/// What a bottleneck is called.
pub(super) fn name_of(what: &str) -> &str {
    match what {
        "server_cpu" => "the server’s CPU time",
        "server_thread" => "one busy thread of the server",
        "environment_time" => "the environment’s own time",
        "session_cap" => "the server’s limit of sessions",
        "connect_storm" => "the opening of sessions",
        "client" => "this client",
        "machine" => "this machine",
        "network" => "the network",
        "none" => "nothing that was seen",
        "" | "unknown" => "unknown",
        other => other,
    }
}

fn sentence(target: &Target, sweep: Option<&Sweep<'_>>) -> String {
    let best = sweep.and_then(Sweep::best);
    match (&target.knee, best) {
        (Some(knee), _) => format!(
            "{}\u{a0}steps/s with {} sessions, 99\u{a0}% of them within {}. Beyond that, more sessions bring little more.",
            quantity(knee.steps_per_s),
            count(knee.sessions.into()),
            milliseconds(knee.step_p99_ms)
        ),
        (None, Some(best)) => {
            format!("Up to {} steps/s, with {}.", quantity(best.steps_per_s), name_of_point(best))
        }
        (None, None) if target.points.is_empty() => "Nothing was measured.".to_owned(),
        (None, None) => "No step was answered at any point.".to_owned(),
    }
}

fn tiles(html: &mut Html, target: &Target, sweep: Option<&Sweep<'_>>) {
    if let Some(best) = sweep.and_then(Sweep::best) {
        let note = format!("steps/s, with {}", name_of_point(best));
        tile(html, "Most", &quantity(best.steps_per_s), &note);
    }
    if let Some(knee) = &target.knee {
        tile(html, "Knee", &count(knee.sessions.into()), "sessions");
    }
    largest(html, "At least 95 % went well", target.largest_95);
    largest(html, "All went well", target.largest_100);
    match target.session_cap {
        Some(cap) => tile(html, "Cap", &count(cap.into()), "sessions, then it refuses"),
        None if !target.points.is_empty() => tile(html, "Cap", "none", "no session was refused"),
        None => {}
    }
}

fn largest(html: &mut Html, name: &str, largest: Option<Largest>) {
    let Some(largest) = largest else { return };
    let bound = if largest.is_bounded { "sessions" } else { "sessions or more" };
    let note = if largest.success < 1.0 {
        format!("{bound}, {}", percent(largest.success))
    } else {
        bound.to_owned()
    };
    tile(html, name, &count(largest.sessions.into()), &note);
}

fn tile(html: &mut Html, name: &str, value: &str, note: &str) {
    html.element("div", &[], |html| {
        html.leaf("dt", &[], name);
        html.element("dd", &[], |html| {
            html.leaf("b", &[], value);
            html.text(" ");
            html.leaf("small", &[], note);
        });
    });
}

const fn stopped(stop: Stop) -> &'static str {
    match stop {
        Stop::Max => "The sweep went up to the largest number of sessions that was asked for.",
        Stop::Refused => "The sweep ended where the target refused sessions.",
        Stop::Failures => "The sweep ended where too much failed.",
        Stop::Saturated => "The sweep ended after several points that brought no more steps.",
        Stop::Interrupted => "The sweep was told to stop.",
        Stop::Error => "The sweep ended because the target could not be measured any more.",
    }
}

//! All numbers: points, failures by cause, other clients.

use std::collections::BTreeMap;

use super::{
    html::{Html, class, fixed},
    numbers::{NONE, bytes, count, microseconds, milliseconds, percent, quantity, times},
    sweep::measured,
};
use crate::report::{Distribution, Loop, Peer, PeerPoint, Point, Target};

/// How many causes of failures are listed; a target can make up as many as it likes.
const CAUSES_MAX: usize = 100;

/// Columns of words, which begin at the left.
const WORDS: [&str; 2] = ["cause", "with how many sessions"];

/// A column: its name and what stands in it.
type Column = (&'static str, fn(&Point) -> String);

const COLUMNS: [Column; 18] = [
    ("steps/s", |p| quantity(p.steps_per_s)),
    ("episodes/s", |p| quantity(p.episodes_per_s)),
    ("admitted", |p| count(p.sessions.admitted.into())),
    ("refused", |p| count(p.sessions.refused.into())),
    ("failed", |p| count(u64::from(p.sessions.failed) + u64::from(p.sessions.lost))),
    ("went well", |p| percent(p.requests.success)),
    ("p50", |p| of(&p.latency_ms.step, |d| d.p50)),
    ("p90", |p| of(&p.latency_ms.step, |d| d.p90)),
    ("p99", |p| of(&p.latency_ms.step, |d| d.p99)),
    ("p99.9", |p| of(&p.latency_ms.step, |d| d.p999)),
    ("max", |p| of(&p.latency_ms.step, |d| d.max)),
    ("p99 corrected", |p| of(&p.latency_ms.step_corrected, |d| d.p99)),
    ("reset p50", |p| of(&p.latency_ms.reset, |d| d.p50)),
    ("first reset p50", |p| of(&p.latency_ms.first_reset, |d| d.p50)),
    ("server CPU a step", |p| server(p, |u| microseconds(u.cpu_us_per_step))),
    ("server cores", |p| server(p, |u| quantity(u.cores))),
    ("server memory", |p| server(p, |u| bytes(u.rss_bytes as f64))),
    ("Envmill CPU a step", |p| microseconds(p.engine.cpu_us_per_step)),
];

/// Every point, in the order in which it was measured.
pub(super) fn points(html: &mut Html, target: &Target) {
    html.leaf("h3", &[], "Every point");
    if target.points.is_empty() {
        html.leaf("p", &[], "There is none.");
        return;
    }
    let has_rates = target.points.iter().any(|point| point.pace != Loop::Closed);
    let rate = if has_rates { &["steps/s due", "not sent"][..] } else { &[] };
    let columns = COLUMNS.iter().map(|(name, _)| *name);
    let names = ["sessions"].into_iter().chain(rate.iter().copied()).chain(columns);
    table(html, names, |html| {
        for point in &target.points {
            html.element("tr", &[], |html| {
                row_head(html, &count(point.sessions.asked.into()));
                if has_rates {
                    let due = match point.pace {
                        Loop::Closed => NONE.to_owned(),
                        Loop::Open { steps_per_s } => quantity(steps_per_s),
                    };
                    html.leaf("td", &[], &due);
                    html.leaf("td", &[], &count(point.requests.not_sent));
                }
                for (_, cell) in COLUMNS {
                    html.leaf("td", &[], &cell(point));
                }
            });
        }
    });
}

/// What failed, by cause and by point.
pub(super) fn failures(html: &mut Html, target: &Target) {
    let mut causes: BTreeMap<&str, Vec<(u32, u64)>> = BTreeMap::new();
    for point in &target.points {
        for (cause, number) in &point.requests.failures {
            causes.entry(cause).or_default().push((point.sessions.asked, *number));
        }
    }
    if causes.is_empty() {
        return;
    }
    html.leaf("h3", &[], "Failures by cause");
    let shown = causes.iter().take(CAUSES_MAX);
    table(html, ["cause", "requests", "with how many sessions"].into_iter(), |html| {
        for (cause, points) in shown {
            html.element("tr", &[], |html| {
                html.element("th", &[fixed("scope", "row"), class("words")], |html| {
                    html.foreign(cause);
                });
                let all = points.iter().map(|(_, number)| *number).fold(0, u64::saturating_add);
                html.leaf("td", &[], &count(all));
                let points: Vec<String> = points
                    .iter()
                    .map(|(sessions, number)| {
                        format!("{}: {}", count((*sessions).into()), count(*number))
                    })
                    .collect();
                html.element("td", &[class("words")], |html| html.foreign(&points.join(", ")));
            });
        }
    });
    if causes.len() > CAUSES_MAX {
        let words = format!("There are {} more causes.", causes.len() - CAUSES_MAX);
        html.leaf("p", &[], &words);
    }
}

/// Other clients, each number with Envmill's beside it and how many times as much that is.
pub(super) fn peers(html: &mut Html, target: &Target) {
    if target.peers.is_empty() {
        return;
    }
    html.leaf("h3", &[], "Other clients on the same target");
    for peer in &target.peers {
        html.element("h4", &[], |html| {
            html.foreign(&peer.name);
            html.text(" ");
            html.foreign(&peer.version);
        });
        if let Some(error) = &peer.error {
            html.element("p", &[class("notice")], |html| html.foreign(error));
        }
        if !peer.points.is_empty() {
            beside(html, target, peer);
        }
    }
}

fn beside(html: &mut Html, target: &Target, peer: &Peer) {
    let names = [
        "sessions",
        "its steps/s",
        "Envmill’s",
        "Envmill ÷ it",
        "its p50",
        "Envmill’s",
        "its p99",
        "Envmill’s",
        "its CPU a step",
        "Envmill’s",
        "it ÷ Envmill",
        "server CPU a step for it",
        "for Envmill",
        "its failures",
    ];
    table(html, names.into_iter(), |html| {
        for point in &peer.points {
            let ours = target
                .points
                .iter()
                .find(|ours| ours.pace == Loop::Closed && ours.sessions.asked == point.sessions);
            html.element("tr", &[], |html| {
                row_head(html, &count(point.sessions.into()));
                for cell in compared(point, ours) {
                    html.leaf("td", &[], &cell);
                }
            });
        }
    });
}

fn compared(its: &PeerPoint, ours: Option<&Point>) -> [String; 13] {
    let our = |of: fn(&Point) -> f64| ours.map_or(f64::NAN, of);
    let (rate, cpu) = (our(|p| p.steps_per_s), our(|p| p.engine.cpu_us_per_step));
    let step = |of: fn(&Distribution) -> f64| {
        ours.map_or(f64::NAN, |p| measured(&p.latency_ms.step, of(&p.latency_ms.step)))
    };
    let server = our(|p| p.server.as_ref().map_or(f64::NAN, |usage| usage.cpu_us_per_step));
    [
        quantity(its.steps_per_s),
        quantity(rate),
        times(rate / its.steps_per_s),
        milliseconds(its.step_p50_ms),
        milliseconds(step(|d| d.p50)),
        milliseconds(its.step_p99_ms),
        milliseconds(step(|d| d.p99)),
        microseconds(its.client_cpu_us_per_step),
        microseconds(cpu),
        times(its.client_cpu_us_per_step / cpu),
        microseconds(its.server_cpu_us_per_step.unwrap_or(f64::NAN)),
        microseconds(server),
        count(its.failures),
    ]
}

fn table(html: &mut Html, names: impl Iterator<Item = &'static str>, rows: impl FnOnce(&mut Html)) {
    html.element("div", &[class("scroll"), fixed("tabindex", "0")], |html| {
        html.element("table", &[], |html| {
            html.element("thead", &[], |html| {
                html.element("tr", &[], |html| {
                    for name in names {
                        let look = if WORDS.contains(&name) { "words" } else { "number" };
                        html.leaf("th", &[fixed("scope", "col"), class(look)], name);
                    }
                });
            });
            html.element("tbody", &[], rows);
        });
    });
}

fn row_head(html: &mut Html, words: &str) {
    html.leaf("th", &[fixed("scope", "row")], words);
}

fn of(distribution: &Distribution, number: fn(&Distribution) -> f64) -> String {
    milliseconds(measured(distribution, number(distribution)))
}

fn server(point: &Point, number: fn(&crate::report::Usage) -> String) -> String {
    point.server.as_ref().map_or(NONE.to_owned(), number)
}

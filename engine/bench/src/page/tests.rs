//! Pages of any report consist of this crate's elements and of finite numbers.

use proptest::prelude::*;

use super::render;
use crate::report::{
    Bottleneck, Bucket, Distribution, Kind, Knee, Largest, Latencies, Loop, Machine, Peer,
    PeerPoint, Point, Report, Requests, Sessions, Settings, Stop, Target, Tick, Usage, Where,
};

/// Attributes that a page has.
const ATTRIBUTES: [&str; 27] = [
    "class",
    "id",
    "lang",
    "charset",
    "http-equiv",
    "content",
    "name",
    "rel",
    "href",
    "role",
    "aria-label",
    "aria-hidden",
    "tabindex",
    "scope",
    "viewBox",
    "points",
    "x",
    "y",
    "width",
    "height",
    "cx",
    "cy",
    "r",
    "for",
    "title",
    "type",
    "media",
];

/// Those of them that are numbers, or lists of them.
const NUMBERS: [&str; 9] = ["points", "x", "y", "width", "height", "cx", "cy", "r", "viewBox"];

/// Reads a page as strictly as it is written: every element is closed, every attribute quoted and known.
/// Gives the names of the elements.
fn elements(page: &str) -> Vec<String> {
    let page = page.strip_prefix("<!DOCTYPE html>\n").unwrap();
    let mut open: Vec<String> = Vec::new();
    let mut names = Vec::new();
    let mut rest = page;
    while let Some(start) = rest.find('<') {
        assert!(!rest[..start].contains('>') || open.last().is_some_and(|name| name == "style"));
        let (tag, after) = rest[start + 1..].split_once('>').unwrap();
        rest = after;
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name));
            continue;
        }
        let (tag, is_closed) = tag.strip_suffix('/').map_or((tag, false), |tag| (tag, true));
        let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()), "{name}");
        check_attributes(attributes);
        names.push(name.to_owned());
        if !is_closed {
            open.push(name.to_owned());
        }
    }
    assert_eq!(open, [""; 0]);
    names
}

fn check_attributes(mut attributes: &str) {
    while !attributes.is_empty() {
        let (name, after) = attributes.split_once("=\"").unwrap();
        let (value, after) = after.split_once('"').unwrap();
        assert!(ATTRIBUTES.contains(&name.trim_start()), "{name}");
        if NUMBERS.contains(&name.trim_start()) {
            for number in value.split([' ', ',']) {
                assert!(number.parse::<f64>().unwrap().is_finite(), "{name}={value}");
            }
        }
        attributes = after;
    }
}

fn sample() -> Report {
    serde_json::from_str(include_str!("../../testdata/sample.json")).unwrap()
}

#[test]
fn the_sample_has_all_that_a_page_shows() {
    let page = render(&sample());
    let names = elements(&page);
    let number = |wanted: &str| names.iter().filter(|name| *name == wanted).count();
    assert_eq!((number("h1"), number("main"), number("style"), number("script")), (1, 1, 1, 0));
    for words in [
        "Throughput of all targets",
        "Latency against sessions",
        "Distribution of latency",
        "Where sessions’ time went",
        "CPU time of a step",
        "Memory",
        "As it went",
        "Every point",
        "Failures by cause",
        "Other clients on the same target",
        "one busy thread of the server",
        "keepalive ping timeout",
        "knee 8",
        "cap 100",
    ] {
        assert!(page.contains(words), "{words}");
    }
}

#[test]
fn the_command_can_be_copied() {
    let page = render(&sample());
    let command =
        "--policy &#39;constant:{&quot;message&quot;:&quot;it&#39;\\&#39;&#39;s me&quot;}&#39;";
    assert!(page.contains(command));
}

#[test]
fn a_rate_is_drawn_against_what_was_due() {
    let mut report = sample();
    for (index, point) in report.targets[0].points.iter_mut().enumerate().skip(4) {
        point.pace = Loop::Open { steps_per_s: 300.0 * index as f64 };
    }
    let page = render(&report);
    elements(&page);
    assert!(page.contains("Latency against steps/s that were due"));
    report.targets[0].points.drain(..4);
    assert!(render(&report).contains("all that was due"));
}

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![4 => 0.0..1e5, 1 => any::<f64>(), 1 => Just(0.0), 1 => Just(f64::NAN)]
}

fn words() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[<>&\"'/=a-z \\n]{0,24}",
        Just("</style><script>alert(1)</script>".to_owned()),
        Just("\" onload=\"alert(1)".to_owned()),
        Just("javascript:alert(1)".to_owned()),
        Just("http://x/\"><script>".to_owned()),
    ]
}

fn distribution() -> impl Strategy<Value = Distribution> {
    let buckets = prop::collection::vec((number(), any::<u64>()), 0..5);
    (any::<u64>(), prop::collection::vec(number(), 8), buckets).prop_map(|(count, n, buckets)| {
        let buckets = buckets.into_iter().map(|(up_to, count)| Bucket { up_to, count }).collect();
        Distribution {
            count,
            mean: n[0],
            min: n[1],
            p50: n[2],
            p90: n[3],
            p95: n[4],
            p99: n[5],
            p999: n[6],
            max: n[7],
            buckets,
        }
    })
}

fn usage() -> impl Strategy<Value = Usage> {
    (number(), number(), any::<u64>()).prop_map(|(cpu_us_per_step, cores, rss_bytes)| Usage {
        cpu_us_per_step,
        cores,
        rss_bytes,
        ..Usage::default()
    })
}

fn tick() -> impl Strategy<Value = Tick> {
    let counts = (any::<u64>(), any::<u64>(), any::<u32>(), any::<bool>());
    (counts, prop::collection::vec(number(), 4)).prop_map(|(counts, n)| Tick {
        at_s: n[0],
        width_s: n[1],
        p50_ms: n[2],
        p99_ms: n[3],
        steps: counts.0,
        failures: counts.1,
        sessions: counts.2,
        warm_up: counts.3,
        ..Tick::default()
    })
}

fn point() -> impl Strategy<Value = Point> {
    let pace = prop_oneof![
        3 => Just(Loop::Closed),
        1 => number().prop_map(|steps_per_s| Loop::Open { steps_per_s })
    ];
    let failures = prop::collection::btree_map(words(), any::<u64>(), 0..3);
    let rest = (usage(), prop::option::of(usage()), prop::collection::vec(tick(), 0..5), failures);
    let counts = (any::<u32>(), any::<u64>());
    (pace, counts, prop::collection::vec(number(), 6), distribution(), rest).prop_map(
        |(pace, (asked, steps), n, step, (engine, server, timeline, failures))| Point {
            began_s: n[0],
            pace,
            sessions: Sessions { asked, ..Sessions::default() },
            measured_s: n[1],
            steps,
            episodes: steps,
            steps_per_s: n[2],
            episodes_per_s: n[3],
            requests: Requests { failures, success: n[4], ..Requests::default() },
            latency_ms: Latencies { step_corrected: step.clone(), step, ..Latencies::default() },
            server,
            engine,
            traffic: None,
            machine_cores: Some(n[1]),
            share_of_time: Where { step: n[4], reset: n[5], ..Where::default() },
            timeline,
        },
    )
}

fn target() -> impl Strategy<Value = Target> {
    let points = prop::collection::vec(point(), 0..4);
    let largest = (any::<u32>(), number()).prop_map(|(sessions, success)| Largest {
        sessions,
        success,
        is_bounded: true,
    });
    let peer_points = prop::collection::vec((any::<u32>(), number(), number()), 0..3);
    let found =
        (prop::option::of((any::<u32>(), number())), prop::option::of(largest), peer_points);
    let texts = prop::collection::vec(words(), 12);
    (points, found, texts, any::<Option<u32>>()).prop_map(|(points, found, t, session_cap)| {
        Target {
            name: t[0].clone(),
            kind: Kind::Url,
            url: Some(t[1].clone()),
            environment: Some(t[2].clone()),
            fingerprint: Some(t[3].clone()),
            versions: vec![t[4].clone()],
            points,
            stop: Stop::Max,
            knee: found.0.map(|(sessions, number)| Knee {
                sessions,
                steps_per_s: number,
                step_p99_ms: number,
                why: t[5].clone(),
            }),
            largest_95: found.1,
            largest_100: found.1,
            session_cap,
            bottleneck: Bottleneck {
                what: t[6].clone(),
                summary: t[7].clone(),
                evidence: vec![t[8].clone()],
                remedy: t[9].clone(),
            },
            peers: vec![Peer {
                name: t[10].clone(),
                version: t[11].clone(),
                points: found
                    .2
                    .into_iter()
                    .map(|(sessions, a, b)| peer_point(sessions, a, b))
                    .collect(),
                error: Some(t[0].clone()),
            }],
            error: Some(t[1].clone()),
        }
    })
}

const fn peer_point(sessions: u32, a: f64, b: f64) -> PeerPoint {
    PeerPoint {
        sessions,
        steps_per_s: a,
        step_p50_ms: b,
        step_p99_ms: a,
        client_cpu_us_per_step: b,
        server_cpu_us_per_step: None,
        failures: 0,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_report_is_a_page_of_our_elements(
        targets in prop::collection::vec(target(), 0..3),
        command in prop::collection::vec(words(), 0..4),
        (word, moment, took_s) in (words(), any::<u64>(), number()),
    ) {
        let machine = Machine { processor: word.clone(), load_before: took_s, ..Machine::default() };
        let settings = Settings {
            seed: moment,
            policy: word.clone(),
            warm_up_s: took_s,
            measure_s: took_s,
            max_steps: None,
            other: [(word.clone(), word.clone().into())].into(),
        };
        let report = Report {
            schema_version: 1,
            envmill_version: word,
            command,
            started_unix_ms: moment,
            took_s,
            interrupted: true,
            machine,
            settings,
            targets,
        };
        let names = elements(&render(&report));
        prop_assert!(!names.iter().any(|name| name == "script"));
        prop_assert_eq!(names.iter().filter(|name| *name == "style").count(), 1);
    }
}

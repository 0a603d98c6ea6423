//! Two reports side by side.

use serde::Serialize;

use crate::{
    report::{Point, Report, SCHEMA_VERSION, Target},
    table::put_rows,
};

/// What became of the targets of one report in another.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The version of this form, that of reports.
    pub schema_version: u32,
    /// Why the figures may not be comparable.
    pub warnings: Vec<String>,
    /// The targets that both have.
    pub targets: Vec<Compared>,
}

/// One target in both reports.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Compared {
    /// Its name in the first report.
    pub before: String,
    /// Its name in the second.
    pub after: String,
    /// The numbers of sessions that both have measured.
    pub points: Vec<Ratios>,
}

/// Of each figure, the second report's over the first's; `null` where the first has none.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ratios {
    /// The number of sessions.
    pub sessions: u32,
    /// Steps a second, before and after.
    pub steps_per_s: (f64, f64),
    /// Throughput: above 1 is better.
    pub throughput: Option<f64>,
    /// The median latency of a step: below 1 is better.
    pub step_p50: Option<f64>,
    /// Its 99th percentile.
    pub step_p99: Option<f64>,
    /// CPU time of the server a step.
    pub server_cpu_per_step: Option<f64>,
    /// CPU time of the client a step.
    pub client_cpu_per_step: Option<f64>,
}

/// Why a text is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is none, or damaged.
    #[error("it is no report of envmill bench --json: {0}")]
    Json(#[from] serde_json::Error),
    /// It is of another version.
    #[error(
        "its schema_version is {0} and this envmill reads {SCHEMA_VERSION}: compare it with the envmill that wrote it"
    )]
    Version(u64),
}

/// Reads a report.
///
/// # Errors
///
/// The text is none, or of another version.
pub fn read(text: &[u8]) -> Result<Report, ReadError> {
    let value: serde_json::Value = serde_json::from_slice(text)?;
    match value.get("schema_version").and_then(serde_json::Value::as_u64) {
        Some(version) if version != u64::from(SCHEMA_VERSION) => Err(ReadError::Version(version)),
        _ => Ok(serde_json::from_value(value)?),
    }
}

/// Compares what both have measured. Targets are matched by name, and where no name is in both, by their order.
#[must_use]
pub fn compare(before: &Report, after: &Report) -> Comparison {
    let mut warnings = Vec::new();
    let mut differs = |what: &str, before: &dyn std::fmt::Debug, after: &dyn std::fmt::Debug| {
        let (before, after) = (format!("{before:?}"), format!("{after:?}"));
        if before != after {
            warnings.push(format!("{what} differs: {before} before, {after} after"));
        }
    };
    let (a, b) = (&before.machine, &after.machine);
    differs("the processor", &a.processor, &b.processor);
    differs("the number of hardware threads", &a.threads, &b.threads);
    differs("memory", &a.memory_bytes, &b.memory_bytes);
    differs("the system", &a.system, &b.system);
    let (a, b) = (&before.settings, &after.settings);
    differs("the seed", &a.seed, &b.seed);
    differs("the policy", &a.policy, &b.policy);
    differs("the warm-up", &a.warm_up_s, &b.warm_up_s);
    differs("the measured time", &a.measure_s, &b.measure_s);
    differs("max_steps", &a.max_steps, &b.max_steps);
    differs("envmill's version", &before.envmill_version, &after.envmill_version);
    for key in a.other.keys().chain(b.other.keys().filter(|key| !a.other.contains_key(*key))) {
        differs(key, &a.other.get(key), &b.other.get(key));
    }
    let by_name = |name: &str| after.targets.iter().find(|target| target.name == name);
    let has_names = before.targets.iter().any(|target| by_name(&target.name).is_some());
    let mut targets = Vec::new();
    for (index, target) in before.targets.iter().enumerate() {
        let other = if has_names { by_name(&target.name) } else { after.targets.get(index) };
        let Some(other) = other else {
            warnings.push(format!("{} is in the first report only", target.name));
            continue;
        };
        if target.fingerprint != other.fingerprint {
            warnings.push(format!(
                "{}: its environment has another fingerprint in the second report",
                target.name
            ));
        }
        targets.push(compared(target, other));
    }
    for (label, report) in [("first", before), ("second", after)] {
        if report.interrupted {
            warnings.push(format!("the {label} report was interrupted"));
        }
        let load = report.machine.load_before / f64::from(report.machine.threads.max(1));
        if load > 0.5 {
            warnings.push(format!(
                "the machine was busy before the {label} report: load {:.1}",
                report.machine.load_before
            ));
        }
    }
    Comparison { schema_version: SCHEMA_VERSION, warnings, targets }
}

fn compared(before: &Target, after: &Target) -> Compared {
    let mut points: Vec<Ratios> = Vec::new();
    for point in &before.points {
        let sessions = point.sessions.asked;
        let latest = |points: &[Point]| {
            points.iter().rev().find(|it| it.sessions.asked == sessions).cloned()
        };
        if points.iter().any(|ratios| ratios.sessions == sessions) {
            continue;
        }
        if let (Some(before), Some(after)) = (latest(&before.points), latest(&after.points)) {
            points.push(ratios(&before, &after));
        }
    }
    points.sort_by_key(|point| point.sessions);
    Compared { before: before.name.clone(), after: after.name.clone(), points }
}

fn ratios(before: &Point, after: &Point) -> Ratios {
    let ratio = |before: f64, after: f64| (before > 0.0).then(|| after / before);
    let server = |point: &Point| point.server.as_ref().map_or(0.0, |server| server.cpu_us_per_step);
    let both_have_servers = before.server.is_some() && after.server.is_some();
    Ratios {
        sessions: before.sessions.asked,
        steps_per_s: (before.steps_per_s, after.steps_per_s),
        throughput: ratio(before.steps_per_s, after.steps_per_s),
        step_p50: ratio(before.latency_ms.step.p50, after.latency_ms.step.p50),
        step_p99: ratio(before.latency_ms.step.p99, after.latency_ms.step.p99),
        server_cpu_per_step: ratio(server(before), server(after)).filter(|_| both_have_servers),
        client_cpu_per_step: ratio(before.engine.cpu_us_per_step, after.engine.cpu_us_per_step),
    }
}

/// A comparison for a terminal.
#[must_use]
pub fn text(comparison: &Comparison) -> String {
    let mut text = String::new();
    for warning in &comparison.warnings {
        text.push_str("warning: ");
        text.push_str(warning);
        text.push('\n');
    }
    for (index, target) in comparison.targets.iter().enumerate() {
        if index > 0 || !comparison.warnings.is_empty() {
            text.push('\n');
        }
        text.push_str(&target.before);
        if target.after != target.before {
            text.push_str(" → ");
            text.push_str(&target.after);
        }
        text.push('\n');
        if target.points.is_empty() {
            text.push_str("no number of sessions is in both: give the same --sessions\n");
            continue;
        }
        let times =
            |ratio: Option<f64>| ratio.map_or_else(|| "-".into(), |ratio| format!("{ratio:.2}×"));
        let rows: Vec<[String; 8]> = target
            .points
            .iter()
            .map(|point| {
                [
                    point.sessions.to_string(),
                    format!("{:.0}", point.steps_per_s.0),
                    format!("{:.0}", point.steps_per_s.1),
                    times(point.throughput),
                    times(point.step_p50),
                    times(point.step_p99),
                    times(point.server_cpu_per_step),
                    times(point.client_cpu_per_step),
                ]
            })
            .collect();
        let header = [
            "sessions",
            "steps/s",
            "after",
            "steps/s",
            "p50",
            "p99",
            "server µs/step",
            "envmill µs/step",
        ];
        put_rows(&mut text, &header, &rows);
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        bottleneck::{About, bottleneck},
        report::{Kind, Machine, Settings, Stop},
        sweep::tests::fast,
    };

    fn report(name: &str, points: Vec<Point>) -> Report {
        let about = About { kind: Kind::Url, threads: 1, is_local: true, storm: false };
        let target = Target {
            name: name.into(),
            kind: Kind::Url,
            url: None,
            environment: None,
            fingerprint: Some("f".into()),
            versions: Vec::new(),
            bottleneck: bottleneck(&points, about),
            points,
            stop: Stop::Max,
            knee: None,
            largest_95: None,
            largest_100: None,
            session_cap: None,
            peers: Vec::new(),
            error: None,
        };
        Report {
            schema_version: SCHEMA_VERSION,
            envmill_version: "1".into(),
            command: Vec::new(),
            started_unix_ms: 0,
            took_s: 1.0,
            interrupted: false,
            machine: Machine { threads: 2, ..Machine::default() },
            settings: Settings {
                seed: 0,
                policy: "random".into(),
                warm_up_s: 1.0,
                measure_s: 3.0,
                max_steps: None,
                other: Default::default(),
            },
            targets: vec![target],
        }
    }

    #[test]
    fn points_are_matched_by_their_sessions() {
        let before = report("a", vec![fast(1, 100.0), fast(2, 0.0), fast(4, 300.0)]);
        let after = report("a", vec![fast(1, 150.0), fast(2, 200.0), fast(8, 900.0)]);
        let found = compare(&before, &after);
        assert_eq!(found.warnings, Vec::<String>::new());
        let points = &found.targets[0].points;
        assert_eq!(points.iter().map(|point| point.sessions).collect::<Vec<_>>(), [1, 2]);
        assert!(points[0].throughput.is_some_and(|ratio| (ratio - 1.5).abs() < 1e-9));
        assert_eq!(points[1].throughput, None);
        assert!(text(&found).contains("1.50×"), "{}", text(&found));
    }

    #[test]
    fn what_makes_reports_incomparable_is_told() {
        let before = report("a", vec![fast(1, 100.0)]);
        let mut after = report("b", vec![fast(1, 100.0)]);
        after.machine.threads = 8;
        after.settings.policy = "constant:{}".into();
        after.targets[0].fingerprint = Some("g".into());
        after.interrupted = true;
        let warnings = compare(&before, &after).warnings.join("\n");
        for what in ["hardware threads", "policy", "fingerprint", "interrupted"] {
            assert!(warnings.contains(what), "{what}: {warnings}");
        }
    }

    #[test]
    fn reports_are_read_back_and_others_refused() {
        let report = report("a", vec![fast(1, 100.0)]);
        let text = serde_json::to_vec(&report).unwrap();
        assert_eq!(read(&text).unwrap(), report);
        let newer = String::from_utf8(text)
            .unwrap()
            .replace("\"schema_version\":1", "\"schema_version\":9");
        assert!(matches!(read(newer.as_bytes()), Err(ReadError::Version(9))));
        assert!(matches!(read(b"{}"), Err(ReadError::Json(_))));
    }
}

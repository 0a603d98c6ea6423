//! The report for a terminal.

use std::fmt::Write as _;

use crate::report::{Kind, Loop, Peer, Point, Report, Stop, Target};

/// The whole of it: for each target a table of its points, and what follows from them.
#[must_use]
pub fn text(report: &Report) -> String {
    let machine = &report.machine;
    let mut text = format!(
        "{} hardware threads of {}, {:.0} GiB, {}, load {:.2} before; {} s at each point after {} s of warm-up",
        machine.threads,
        machine.processor,
        machine.memory_bytes as f64 / f64::from(1 << 30),
        machine.system,
        machine.load_before,
        report.settings.measure_s,
        report.settings.warm_up_s,
    );
    if report.interrupted {
        text.push_str("\ninterrupted: this is what was measured until then");
    }
    for target in &report.targets {
        text.push_str("\n\n");
        put_target(&mut text, target);
    }
    text
}

fn put_target(text: &mut String, target: &Target) {
    text.push_str(&target.name);
    if let Some(url) = target.url.as_ref().filter(|url| **url != target.name) {
        put(text, format_args!(" at {url}"));
    }
    if let Some(environment) = &target.environment {
        put(text, format_args!(" ({environment})"));
    }
    if !target.versions.is_empty() {
        put(text, format_args!(": {}", target.versions.join(", ")));
    }
    if !target.points.is_empty() {
        text.push('\n');
        let rows: Vec<[String; 11]> = target.points.iter().map(row).collect();
        put_rows(text, &HEADER, &rows);
    }
    for line in verdict(target) {
        text.push('\n');
        text.push_str(&line);
    }
    for peer in &target.peers {
        put_peer(text, peer, target);
    }
}

const HEADER: [&str; 11] = [
    "sessions",
    "ok",
    "steps/s",
    "episodes/s",
    "p50 ms",
    "p99 ms",
    "p99 corr.",
    "reset ms",
    "server CPU",
    "µs/step",
    "envmill",
];

fn row(point: &Point) -> [String; 11] {
    let sessions = &point.sessions;
    let latency = &point.latency_ms;
    let success = crate::success(point);
    let server = point.server.as_ref();
    let unknown = || "-".to_owned();
    let resets = if latency.reset.count > 0 { &latency.reset } else { &latency.first_reset };
    [
        sessions.asked.to_string(),
        share(success),
        format!("{:.0}", point.steps_per_s),
        format!("{:.1}", point.episodes_per_s),
        ms(latency.step.p50),
        ms(latency.step.p99),
        ms(latency.step_corrected.p99),
        ms(resets.p50),
        server.map_or_else(unknown, |server| format!("{:.2}", server.cores)),
        server.map_or_else(unknown, |server| format!("{:.0}", server.cpu_us_per_step)),
        format!("{:.2}", point.engine.cores),
    ]
}

/// What was found, a line each.
fn verdict(target: &Target) -> Vec<String> {
    let mut lines = Vec::new();
    for point in target.points.iter().filter(|point| crate::success(point) < 1.0) {
        let sessions = &point.sessions;
        let mut causes: Vec<String> = sessions
            .failures
            .iter()
            .map(|(cause, count)| format!("{count} sessions {cause}"))
            .collect();
        causes.extend(
            point
                .requests
                .failures
                .iter()
                .map(|(cause, count)| format!("{count} requests {cause}")),
        );
        if sessions.refused > 0 {
            causes.insert(0, format!("{} sessions refused", sessions.refused));
        }
        lines.push(format!("{:>8}    {}", sessions.asked, causes.join(", ")));
    }
    for point in target.points.iter().filter(|point| point.requests.not_sent > 0) {
        if let Loop::Open { steps_per_s } = point.pace {
            let (asked, not_sent) = (point.sessions.asked, point.requests.not_sent);
            lines.push(format!("{asked:>8}    {not_sent} steps of {steps_per_s}/s were due and not sent: all sessions were busy"));
        }
    }
    if let Some(error) = &target.error {
        lines.push(format!("error       {error}"));
    }
    if let Some(knee) = &target.knee {
        lines.push(format!(
            "knee        {} sessions: {:.0} steps/s, p99 {} ms",
            knee.sessions,
            knee.steps_per_s,
            ms(knee.step_p99_ms)
        ));
        lines.push(format!("            {}", knee.why));
    }
    let largest = |largest: &Option<crate::report::Largest>| {
        largest.map_or_else(
            || "none".to_owned(),
            |it| format!("{}{}", it.sessions, if it.is_bounded { "" } else { " or more" }),
        )
    };
    if !target.points.is_empty() {
        lines.push(format!(
            "sessions    {} with all well, {} with 95 %{}; {}",
            largest(&target.largest_100),
            largest(&target.largest_95),
            target
                .session_cap
                .map_or_else(String::new, |cap| format!(", the target's own limit is {cap}")),
            why_no_more(target.stop)
        ));
        let bottleneck = &target.bottleneck;
        lines.push(format!("bottleneck  {}: {}", bottleneck.what, bottleneck.summary));
        lines.extend(bottleneck.evidence.iter().map(|line| format!("            - {line}")));
        lines.push(format!("            → {}", bottleneck.remedy));
        if target.kind == Kind::Url && target.points.iter().all(|point| point.server.is_none()) {
            lines.push(
                "            (the server's processes cannot be seen: name one with --server-pid)"
                    .into(),
            );
        }
    }
    lines
}

const fn why_no_more(stop: Stop) -> &'static str {
    match stop {
        Stop::Max => "no more were asked for",
        Stop::Refused => "more are refused",
        Stop::Failures => "with more too much fails",
        Stop::Saturated => "more brought no more steps",
        Stop::Interrupted => "interrupted",
        Stop::Error => "the target is gone",
    }
}

fn put_peer(text: &mut String, peer: &Peer, target: &Target) {
    put(text, format_args!("\npeer        {} {}", peer.name, peer.version));
    if let Some(error) = &peer.error {
        put(text, format_args!(": {error}"));
    }
    if peer.points.is_empty() {
        return;
    }
    text.push('\n');
    let rows: Vec<[String; 8]> = peer
        .points
        .iter()
        .map(|point| {
            let ours =
                target.points.iter().rev().find(|ours| ours.sessions.asked == point.sessions);
            let ratio = |ours: Option<f64>, theirs: f64| {
                ours.filter(|_| theirs > 0.0)
                    .map_or_else(|| "-".into(), |ours| format!("{:.2}×", ours / theirs))
            };
            [
                point.sessions.to_string(),
                format!("{:.0}", point.steps_per_s),
                ratio(ours.map(|ours| ours.steps_per_s), point.steps_per_s),
                ms(point.step_p50_ms),
                ms(point.step_p99_ms),
                ratio(ours.map(|ours| ours.latency_ms.step.p99), point.step_p99_ms),
                format!("{:.0}", point.client_cpu_us_per_step),
                ours.map_or_else(
                    || "-".into(),
                    |ours| format!("{:.0}", ours.engine.cpu_us_per_step),
                ),
            ]
        })
        .collect();
    let header =
        ["sessions", "steps/s", "ours", "p50 ms", "p99 ms", "ours", "its µs/step", "envmill's"];
    put_rows(text, &header, &rows);
}

/// Columns, flush right.
pub(crate) fn put_rows<const N: usize>(
    text: &mut String,
    header: &[&str; N],
    rows: &[[String; N]],
) {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([header[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    let put_row = |text: &mut String, cells: &mut dyn Iterator<Item = &str>| {
        for (cell, width) in cells.zip(&widths) {
            put(text, format_args!("{cell:>width$}  "));
        }
        text.truncate(text.trim_end().len());
    };
    put_row(text, &mut header.iter().copied());
    for row in rows {
        text.push('\n');
        put_row(text, &mut row.iter().map(String::as_str));
    }
}

/// Milliseconds with as many digits as say something.
#[must_use]
pub fn ms(ms: f64) -> String {
    match ms {
        _ if ms < 0.0995 => format!("{ms:.4}"),
        _ if ms < 9.95 => format!("{ms:.2}"),
        _ if ms < 99.5 => format!("{ms:.1}"),
        _ => format!("{ms:.0}"),
    }
}

fn share(share: f64) -> String {
    // What is not all must not look like it.
    let percent = 100.0 * share;
    if share < 1.0 && percent > 99.9 {
        "99.9%".into()
    } else {
        format!("{percent:.4}")
            .trim_end_matches('0')
            .trim_end_matches('.')
            .chars()
            .take(4)
            .collect::<String>()
            + "%"
    }
}

fn put(text: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing to a text does not fail.
    let _ = text.write_fmt(what);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_they_need() {
        assert_eq!([0.0012, 0.5, 12.345, 1234.5].map(ms), ["0.0012", "0.50", "12.3", "1234"]);
        assert_eq!(
            [1.0, 0.99999, 0.5, 0.0, 0.3333].map(share),
            ["100%", "99.9%", "50%", "0%", "33.3%"]
        );
    }

    #[test]
    fn columns_stand_under_their_heads() {
        let mut text = String::new();
        put_rows(&mut text, &["a", "long"], &[["1234".into(), "5".into()]]);
        assert_eq!(text, "   a  long\n1234     5");
    }
}

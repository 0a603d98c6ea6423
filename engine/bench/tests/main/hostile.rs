//! Reports as a hostile server, or a benchmark that went wrong, would have them.

use envmill_bench::report::{Distribution, Loop, Peer, PeerPoint, Point, Report};

/// The report that pictures are made of.
pub(crate) fn sample() -> Report {
    serde_json::from_str(include_str!("../../testdata/sample.json")).unwrap()
}

/// The sample as if its points had been asked for by rates, of which the target keeps up with some.
pub(crate) fn rates() -> Report {
    let mut report = sample();
    report.targets.truncate(1);
    let target = &mut report.targets[0];
    target.knee = None;
    for (index, point) in target.points.iter_mut().enumerate() {
        let due = 300.0 * (index + 1) as f64;
        point.pace = Loop::Open { steps_per_s: due };
        point.sessions.asked = 64;
        point.steps_per_s = due.min(1850.0);
        point.requests.not_sent = ((due - 1850.0).max(0.0) * point.measured_s) as u64;
    }
    report
}

/// The sample with every text replaced by what would do harm as markup.
pub(crate) fn hostile() -> Report {
    let long = format!("{}</style><script>alert('long')</script>", "x".repeat(100_000));
    let texts = [
        "<script>document.title = 'taken'; console.log('ran')</script>",
        "\" onload=\"console.log('ran')\" x=\"",
        "' onmouseover='console.log(1)",
        "</style></title></svg></table><img src=http://127.0.0.1:9/x onerror=console.log(1)>",
        "<svg onload=console.log(1)><style>@import 'http://127.0.0.1:9/y';</style></svg>",
        "javascript:console.log(1)",
        "\u{202e}gnp.exe\u{2066}\0\u{7}\u{1b}[31m\u{ffff}",
        "-->]]><!--<iframe src='http://127.0.0.1:9/z'></iframe>",
        "<base href='http://127.0.0.1:9/'><meta http-equiv=refresh content='0;url=http://127.0.0.1:9/'>",
        "שלום عالم 你好 🙂🏳️‍🌈",
        &long,
    ];
    let mut next = texts.iter().cycle().map(|text| (*text).to_owned());
    let mut text = || next.next().unwrap();

    let mut report = sample();
    report.envmill_version = text();
    report.command = texts.map(str::to_owned).to_vec();
    report.machine.processor = text();
    report.machine.system = text();
    report.settings.policy = text();
    for _ in 0..texts.len() {
        report.settings.other.insert(text(), text().into());
    }
    for target in &mut report.targets {
        target.name = text();
        target.url = Some(text());
        target.environment = Some(text());
        target.fingerprint = Some(text());
        target.versions = texts.map(str::to_owned).to_vec();
        target.error = Some(text());
        target.bottleneck.what = text();
        target.bottleneck.summary = text();
        target.bottleneck.evidence = texts.map(str::to_owned).to_vec();
        target.bottleneck.remedy = text();
        if let Some(knee) = &mut target.knee {
            knee.why = text();
        }
        for cause in texts {
            target.points[0].requests.failures.insert(cause.to_owned(), 3);
        }
        for _ in 0..texts.len() {
            target.peers.push(Peer {
                name: text(),
                version: text(),
                points: vec![peer_point()],
                error: Some(text()),
            });
        }
    }
    report.targets[1].url = Some("javascript:console.log(1)".to_owned());
    report
}

/// The sample without what there would be: no targets, no points, one point, nothing answered, no numbers.
pub(crate) fn degenerate() -> Vec<Report> {
    let change = |change: &dyn Fn(&mut Report)| {
        let mut report = sample();
        change(&mut report);
        report
    };
    let nothing = |point: &mut Point| {
        point.steps = 0;
        point.steps_per_s = 0.0;
        point.latency_ms = envmill_bench::report::Latencies::default();
        point.server = None;
        point.timeline.clear();
        point.requests.failures.insert("no answer".into(), 7);
        point.requests.success = 0.0;
    };
    let no_numbers = |point: &mut Point| {
        point.steps_per_s = f64::NAN;
        point.share_of_time.step = f64::INFINITY;
        point.engine.cpu_us_per_step = -1e300;
        point.latency_ms.step =
            Distribution { p50: f64::NAN, p99: 1e308, count: u64::MAX, ..Distribution::default() };
        for tick in &mut point.timeline {
            tick.width_s = 0.0;
            tick.p99_ms = f64::NEG_INFINITY;
        }
    };
    vec![
        change(&|report| report.targets.clear()),
        change(&|report| {
            report.interrupted = true;
            for target in &mut report.targets {
                target.points.clear();
                target.knee = None;
                target.error = Some("connection refused".into());
            }
        }),
        change(&|report| {
            report.targets.truncate(1);
            report.targets[0].points.truncate(1);
            report.targets[0].knee = None;
            report.targets[0].peers.clear();
        }),
        change(&|report| {
            report.targets.iter_mut().for_each(|t| {
                t.knee = None;
                t.points.iter_mut().for_each(nothing);
            });
        }),
        change(&|report| {
            report.targets.iter_mut().for_each(|t| t.points.iter_mut().for_each(no_numbers));
        }),
    ]
}

fn peer_point() -> PeerPoint {
    PeerPoint {
        sessions: 8,
        steps_per_s: 100.0,
        step_p50_ms: 1.0,
        step_p99_ms: 2.0,
        client_cpu_us_per_step: 900.0,
        server_cpu_us_per_step: None,
        failures: 0,
    }
}

//! `envmill bench` against real servers: what it finds of them is so.

use std::{ffi::OsStr, fs, path::PathBuf, time::Duration};

use envmill_bench::report::{Kind, Loop, Point, Report, SCHEMA_VERSION, Stop, Target};
use envmill_testing::{
    Chromium, Effect, EnvmillCommand, Fault, FaultProxy, Finished, Point as When, PythonServer,
    View, Watchdog, wait_until,
};
use tempfile::TempDir;

use crate::rig::{BOUND, ENVMILL, bench_server, server_with};

/// A benchmark that has not begun, whose report goes to a file of its own.
struct Bench {
    command: EnvmillCommand,
    measure_s: &'static str,
    directory: TempDir,
    watchdog: Watchdog,
}

impl Bench {
    fn new(name: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let command = EnvmillCommand::new(ENVMILL)
            .args(["bench", "--warm-up-s", "0.1", "--json"])
            .arg(directory.path().join("report.json"));
        Self { command, measure_s: "0.4", directory, watchdog: Watchdog::start(name, BOUND) }
    }

    fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.command = self.command.args(arguments);
        self
    }

    /// Measures for so many seconds at each point.
    fn measure_s(self, measure_s: &'static str) -> Self {
        Self { measure_s, ..self }
    }

    fn command(self) -> (EnvmillCommand, TempDir, Watchdog) {
        let command = self.command.args(["--measure-s", self.measure_s]);
        (command, self.directory, self.watchdog)
    }

    fn words(self, line: &str) -> Self {
        self.args(line.split_whitespace())
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("report.json")
    }

    /// Runs it, and holds its report against the schema.
    fn run(self) -> (Finished, Report) {
        let path = self.path();
        let (command, _directory, _watchdog) = self.command();
        let finished = command.run().unwrap();
        let report = read(&path, &finished);
        (finished, report)
    }

    /// The one target of a benchmark that ended with this status.
    fn target(self, status: i32) -> Target {
        let (finished, mut report) = self.run();
        assert_eq!(finished.code(), Some(status), "{}\n{report:#?}", finished.stderr);
        assert_eq!(report.targets.len(), 1);
        report.targets.remove(0)
    }

    /// Runs it where it must be refused: what it says.
    fn refused(self) -> String {
        let path = self.path();
        let (command, _directory, _watchdog) = self.command();
        let finished = command.run().unwrap();
        assert_eq!(finished.code(), Some(2), "{finished:?}");
        assert!(!path.exists(), "there is a report of nothing");
        finished.stderr
    }
}

fn read(path: &std::path::Path, finished: &Finished) -> Report {
    let text = fs::read(path).unwrap_or_else(|error| panic!("{error}: {finished:?}"));
    let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let schema = include_str!("../../../docs/bench.schema.json");
    let schema: serde_json::Value = serde_json::from_str(schema).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> = validator
        .iter_errors(&value)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{errors:#?}");
    let report: Report = serde_json::from_value(value).unwrap();
    assert_eq!(report.schema_version, SCHEMA_VERSION);
    report
}

fn asked(target: &Target) -> Vec<u32> {
    target.points.iter().map(|point| point.sessions.asked).collect()
}

/// What must hold of every point at which all went well.
fn check_point(point: &Point) {
    assert!((envmill_bench::success(point) - 1.0).abs() < 1e-9, "{point:#?}");
    assert_eq!(point.sessions.admitted, point.sessions.asked);
    assert_eq!(point.latency_ms.connect.count, u64::from(point.sessions.asked));
    assert_eq!(point.latency_ms.first_reset.count, u64::from(point.sessions.asked));
    let rate = point.steps as f64 / point.measured_s;
    assert!((point.steps_per_s - rate).abs() < 1e-6 * rate.max(1.0), "{point:#?}");
    let counted: u64 =
        point.timeline.iter().filter(|tick| !tick.warm_up).map(|tick| tick.steps).sum();
    assert_eq!(counted, point.steps, "{:#?}", point.timeline);
    let shares = &point.share_of_time;
    let sum = shares.step + shares.reset + shares.connect + shares.client + shares.idle;
    assert!((sum - 1.0).abs() < 1e-6, "{shares:?}");
    assert!(point.engine.cpu_s > 0.0 && point.engine.rss_bytes > 0, "{:?}", point.engine);
}

/// What must hold of a server on this machine.
fn check_server(point: &Point) {
    let server = point.server.as_ref().unwrap();
    assert!(
        server.processes >= 1 && server.threads >= 1 && server.rss_bytes > 1 << 20,
        "{server:?}"
    );
    assert!(server.descriptors > 0 && server.cpu_s > 0.0, "{server:?}");
    let traffic = point.traffic.as_ref().unwrap();
    assert!(traffic.bytes_in > point.steps && traffic.bytes_out > point.steps, "{traffic:?}");
}

#[test]
fn a_stock_server_is_measured_and_found_by_its_port() {
    let target = Bench::new("bench stock")
        .args([&bench_server().url()])
        .words("--sessions 1,2,4 --max-steps 10")
        .args(["--policy", r#"constant:{"payload_bytes":16}"#])
        .target(0);
    assert_eq!((target.kind, target.stop, asked(&target)), (Kind::Url, Stop::Max, vec![1, 2, 4]));
    assert!(target.fingerprint.is_some() && target.environment.is_some(), "{target:#?}");
    for point in &target.points {
        check_point(point);
        check_server(point);
        assert_eq!(point.pace, Loop::Closed);
        assert!(point.episodes > 0 && point.latency_ms.reset.count > 0, "{point:#?}");
    }
    assert!(target.knee.is_some());
    let largest = target.largest_100.unwrap();
    assert_eq!((largest.sessions, largest.is_bounded), (4, false));
    assert!(!target.bottleneck.evidence.is_empty());
}

/// A server that holds so many sessions, which nobody tells the benchmark.
fn finds_cap(cap: u32, server: &PythonServer) {
    let target = Bench::new("bench cap")
        .args([&server.url()])
        .measure_s("0.2")
        .words("--max 256")
        .args(["--policy", r"constant:{}"])
        .target(0);
    assert_eq!(target.session_cap, Some(cap), "{target:#?}");
    assert_eq!(target.stop, Stop::Refused);
    assert_eq!(target.largest_100.map(|it| (it.sessions, it.is_bounded)), Some((cap, true)));
    assert_eq!(target.points.iter().filter(|point| point.sessions.asked == cap).count(), 1);
    let refused = target.points.iter().find(|point| point.sessions.refused > 0).unwrap();
    assert_eq!(refused.sessions.admitted, cap);
    assert_eq!(refused.sessions.refused, refused.sessions.asked - cap);
}

#[test]
fn the_cap_of_a_server_is_found_whatever_it_is() {
    for cap in [8, 37] {
        finds_cap(cap, &server_with("bench_env", &[("MAX_CONCURRENT_ENVS", &cap.to_string())]));
    }
    finds_cap(2, &PythonServer::of("close_env").unwrap());
}

#[test]
fn an_open_loop_keeps_its_rate() {
    let target = Bench::new("bench open")
        .args([&bench_server().url()])
        .words("--sessions 8 --rate 50 --arrivals uniform")
        .measure_s("1")
        .args(["--policy", r"constant:{}"])
        .target(0);
    let [point] = target.points.as_slice() else { panic!("{target:#?}") };
    assert_eq!(point.pace, Loop::Open { steps_per_s: 50.0 });
    // What is due is sent, or counted as not sent.
    let due = point.steps + point.requests.not_sent;
    assert!((30..=70).contains(&due), "{point:#?}");
    assert!(point.latency_ms.step_corrected.count > 0);
    assert!(point.share_of_time.idle > 0.0, "{:?}", point.share_of_time);
}

#[test]
fn environments_without_a_server_are_measured() {
    let python = envmill_testing::python().unwrap();
    let (finished, report) = Bench::new("bench local")
        .words("native:cartpole openenv-class:bench_env:BenchEnv --sessions 1,3 --replicas 2")
        .args(["--python".as_ref(), python.as_os_str()])
        .args(["--python-path".as_ref(), envmill_testing::script("servers").as_os_str()])
        .run();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    let [native, class] = report.targets.as_slice() else { panic!("{report:#?}") };
    assert_eq!((native.kind, class.kind), (Kind::Native, Kind::OpenenvClass));
    for target in [native, class] {
        assert_eq!(asked(target), [1, 3]);
        target.points.iter().for_each(check_point);
        assert!(target.url.is_none() && target.fingerprint.is_some());
    }
    assert!(native.points[1].episodes > 0 && native.points[1].server.is_none());
    assert!(native.versions.is_empty() && !report.machine.processor.is_empty());
    // Its module is a file, which no package has installed.
    let names: Vec<_> =
        class.versions.iter().map(|version| version.split_once(' ').unwrap()).collect();
    let named =
        |wanted: &str| names.iter().any(|&(name, version)| name == wanted && !version.is_empty());
    assert!(named("python") && (named("openenv") || named("openenv-core")), "{names:?}");
    let processes = class.points[1].server.as_ref().unwrap();
    assert!(processes.processes >= 3 && processes.cpu_s > 0.0, "{processes:?}");
}

#[test]
fn servers_are_started_and_ended() {
    let python = envmill_testing::python().unwrap();
    let serve = envmill_testing::script("serve.py");
    let command = format!(
        "{} {} bench_env:app --app-dir {} --port {{port}}",
        python.display(),
        serve.display(),
        envmill_testing::script("servers").display()
    );
    let (finished, report) = Bench::new("bench served")
        .words("serve:cartpole --sessions 2")
        .args(["--serve", &command])
        .run();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    let [ours, stock] = report.targets.as_slice() else { panic!("{report:#?}") };
    for target in [ours, stock] {
        assert_eq!(target.kind, Kind::Served);
        target.points.iter().for_each(check_point);
        target.points.iter().for_each(check_server);
    }
    assert_eq!(stock.name, command);
    let url = stock.url.as_ref().unwrap();
    let address = url.strip_prefix("http://").unwrap().parse().unwrap();
    wait_until("the server has ended", BOUND, || envmill_testing::get(address, "/health").is_err());
}

#[test]
fn a_server_that_hangs_ends_in_failures() {
    let server = PythonServer::of("fault_env").unwrap();
    let target = Bench::new("bench hang")
        .args([&server.url()])
        .words("--sessions 2 --step-timeout-ms 500")
        .args(["--policy", r#"constant:{"what":"sleep","seconds":3}"#])
        .target(3);
    let point = &target.points[0];
    assert_eq!(point.requests.failures.get("deadline_step"), Some(&2), "{point:#?}");
    assert_eq!((point.sessions.admitted, point.sessions.lost), (2, 2));
    assert_eq!(target.largest_95, None);
}

#[test]
fn environments_that_raise_and_servers_that_end_are_told_by_their_cause() {
    let server = PythonServer::of("fault_env").unwrap();
    let run = |action: &str| {
        Bench::new("bench faults")
            .args([&server.url()])
            .words("--sessions 2")
            .args(["--policy", &format!(r#"constant:{{"what":"{action}"}}"#)])
            .target(3)
    };
    let raising = run("raise");
    assert!(raising.points[0].requests.failures.contains_key("environment"), "{raising:#?}");
    assert_eq!(raising.points[0].sessions.lost, 2);
    let ending = run("exit");
    assert_eq!(ending.points[0].sessions.lost, 2, "{ending:#?}");
    assert!(!ending.points[0].sessions.failures.is_empty());
    // Nobody is there any more.
    let gone = run("nothing");
    assert!(gone.error.is_some_and(|error| error.contains("cannot be reached")));
    assert_eq!(gone.stop, Stop::Error);
}

#[test]
fn a_started_server_that_ends_ends_the_sweep_and_is_told_of() {
    let (finished, report) = Bench::new("bench ending")
        .words("native:synthetic --sessions 1,2,4,8")
        .args(["--serve", &ending_server(), "--serve", &ending_server()])
        .args(["--policy", "constant:{}", "--max-steps", "50"])
        .run();
    assert_eq!(finished.code(), Some(3), "{}", finished.stderr);
    let [_, stock, again] = report.targets.as_slice() else { panic!("{report:#?}") };
    assert!(again.error.is_some(), "the next one is measured, too");
    assert_eq!(stock.stop, Stop::Error);
    let error = stock.error.as_ref().unwrap();
    assert!(error.starts_with("with 4 sessions: the server started by `"), "{error}");
    assert!(error.contains("exit status: 7") && error.contains("too many at once"), "{error}");
    let before: Vec<_> = stock.points.iter().filter(|it| it.sessions.asked < 4).collect();
    assert_eq!(before.len(), 2, "{stock:#?}");
    before.into_iter().for_each(check_point);
    for point in stock.points.iter().skip(2) {
        assert!(point.sessions.asked == 4 && envmill_bench::success(point) < 1.0, "{point:#?}");
    }
    assert!(stock.largest_100.is_some_and(|largest| largest.sessions == 2), "{stock:#?}");
}

/// A command that starts a stock server which ends once four of its sessions have stepped.
fn ending_server() -> String {
    let (python, serve) = (envmill_testing::python().unwrap(), envmill_testing::script("serve.py"));
    format!(
        "{} {} ending_env:app --app-dir {} --port {{port}}",
        python.display(),
        serve.display(),
        envmill_testing::script("servers").display()
    )
}

#[test]
fn garbage_and_silence_on_the_wire_are_failures() {
    let proxy = FaultProxy::start(bench_server().address()).unwrap();
    let bench = |effect| {
        proxy.set(Fault::At(When::Frame(3), effect));
        Bench::new("bench wire")
            .args([&proxy.url()])
            .words("--sessions 2 --step-timeout-ms 700 --reset-timeout-ms 700")
            .args(["--policy", r"constant:{}"])
    };
    for effect in [Effect::Garble, Effect::BlackHole, Effect::Cut] {
        let (finished, report) = bench(effect).run();
        // What describes the server comes through, or does not: either way it is told.
        assert_eq!(finished.code(), Some(3), "{effect:?}: {}", finished.stderr);
        let target = &report.targets[0];
        let failed =
            target.points.iter().any(|point| point.sessions.lost > 0 || point.sessions.failed > 0);
        assert!(failed || target.error.is_some(), "{effect:?}: {target:#?}");
    }
}

#[test]
fn ctrl_c_leaves_a_report_of_what_was_measured() {
    let bench = Bench::new("bench interrupt")
        .args([&bench_server().url()])
        .words("--sessions 1,2")
        .measure_s("3600")
        .args(["--policy", r"constant:{}"]);
    let path = bench.path();
    let (command, _directory, _watchdog) = bench.command();
    let running = command.start().unwrap();
    std::thread::park_timeout(Duration::from_secs(2));
    running.interrupt();
    let finished = running.wait();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    let report = read(&path, &finished);
    assert!(report.interrupted);
    assert_eq!(report.targets[0].stop, Stop::Interrupted);
    assert!(report.targets[0].points.iter().all(|point| point.measured_s < 3600.0));
}

#[test]
fn reports_are_compared() {
    let bench = |sessions: &str| {
        Bench::new("bench compare")
            .words("native:cartpole")
            .measure_s("0.1")
            .args(["--sessions", sessions])
    };
    let (first, second) = (bench("1,2"), bench("2,4"));
    let (a, b) = (first.path(), second.path());
    let (first, second) = (first.command(), second.command());
    let keep = (first.0.run().unwrap(), second.0.run().unwrap());
    assert_eq!((keep.0.code(), keep.1.code()), (Some(0), Some(0)), "{keep:?}");
    let compare = |form: &[&str]| {
        let command = EnvmillCommand::new(ENVMILL).args(["bench", "--compare"]).arg(&a).arg(&b);
        command.args(form).run().unwrap()
    };
    let text = compare(&[]);
    assert_eq!(text.code(), Some(0), "{}", text.stderr);
    assert!(
        text.stdout.contains('×') && text.stdout.contains("native:cartpole"),
        "{}",
        text.stdout
    );
    let json: serde_json::Value = serde_json::from_str(&compare(&["--json", "-"]).stdout).unwrap();
    assert_eq!(json["targets"][0]["points"][0]["sessions"], 2, "{json:#}");
    assert!(json["targets"][0]["points"][0]["throughput"].as_f64().is_some_and(|it| it > 0.0));
    fs::write(&a, "{}").unwrap();
    let refused = compare(&[]);
    assert_eq!(refused.code(), Some(2));
    assert!(refused.stderr.contains("no report"), "{}", refused.stderr);
}

#[test]
fn the_stock_client_measures_beside_it() {
    let python = envmill_testing::python().unwrap();
    let target = Bench::new("bench peer")
        .args([&bench_server().url()])
        .words("--sessions 1,2 --peer openenv-client --max-steps 5")
        .args(["--policy", r"constant:{}", "--python"])
        .args([python.as_os_str()])
        .target(0);
    let [peer] = target.peers.as_slice() else { panic!("{target:#?}") };
    assert_eq!((peer.name.as_str(), peer.error.as_deref()), ("openenv-client", None));
    assert_eq!(peer.version, envmill_testing::NEWEST);
    assert_eq!(peer.points.iter().map(|point| point.sessions).collect::<Vec<_>>(), [1, 2]);
    for point in &peer.points {
        assert!(
            point.steps_per_s > 0.0 && point.step_p50_ms > 0.0 && point.failures == 0,
            "{point:?}"
        );
        assert!(point.server_cpu_us_per_step.is_some_and(|cpu| cpu > 0.0), "{point:?}");
    }
}

#[test]
fn a_peer_that_is_not_installed_says_what_to_do() {
    let target = Bench::new("bench no peer")
        .args([&bench_server().url()])
        .words("--sessions 1 --peer openenv-client --python /usr/bin/python3")
        .args(["--policy", r"constant:{}"])
        .target(3);
    let error = target.peers[0].error.as_deref().unwrap();
    assert!(error.contains("pip install openenv") || error.contains("cannot start"), "{error}");
}

#[test]
fn without_a_file_a_table_is_printed() {
    let command =
        EnvmillCommand::new(ENVMILL).args(["bench", "native:cartpole", "--sessions", "1,2,4"]);
    let finished =
        command.args(["--measure-s", "0.1", "--warm-up-s", "0", "--quiet"]).run().unwrap();
    assert_eq!((finished.code(), finished.stderr.as_str()), (Some(0), ""));
    for word in ["native:cartpole", "steps/s", "knee", "bottleneck"] {
        assert!(finished.stdout.contains(word), "{word}: {}", finished.stdout);
    }
}

#[test]
fn the_page_of_a_report_asks_for_nothing_and_complains_of_nothing() {
    let server = server_with("bench_env", &[("MAX_CONCURRENT_ENVS", "3")]);
    let folder = TempDir::new().unwrap();
    let page = folder.path().join("report.html");
    let (finished, report) = Bench::new("a page")
        .args([server.url()])
        .words("--max 8 --html")
        .args([page.as_os_str()])
        .measure_s("0.2")
        .run();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    assert_eq!(report.targets[0].session_cap, Some(3));
    let url = format!("file://{}", page.display());
    let mut chromium = Chromium::start().unwrap();
    for view in [View::PHONE, View::DESKTOP] {
        let mut tab = chromium.open(&url, view).unwrap();
        let words = tab.evaluate("document.body.innerText").unwrap();
        assert!(words.as_str().unwrap().contains(&server.url()), "{words}");
        let behaviour = tab.behaviour().unwrap();
        assert!(behaviour.complaints.is_empty(), "{behaviour:?}");
        assert!(behaviour.requests.iter().all(|it| *it == url || it == "data:,"), "{behaviour:?}");
    }
}

#[test]
fn what_cannot_be_measured_is_refused_with_a_reason() {
    for (line, expected) in [
        ("", "name what to measure"),
        ("native:carpole", "cartpole"),
        ("localhost:8000", "http://"),
        ("native:echo --max 0", "at least 1"),
        ("native:echo --sessions 1,0", "at least 1"),
        ("native:echo --max 100000000", "ulimit"),
        ("native:echo --opening-s nan", "--opening-s"),
        ("native:echo --rate 0", "--rate"),
        ("native:echo --rate 5 --arrivals often", "poisson or uniform"),
        ("native:echo --peer curl", "openenv-client"),
        ("native:echo --policy replay:x", "random or constant"),
        ("--serve uvicorn", "{port}"),
    ] {
        let told = Bench::new("bench refusals").words(line).refused();
        assert!(told.contains(expected), "`{line}`: {told}");
    }
    let target = Bench::new("bench pid")
        .args([&bench_server().url()])
        .words("--sessions 1 --server-pid 4194304")
        .target(3);
    assert!(target.error.is_some_and(|error| error.contains("--server-pid")));
}

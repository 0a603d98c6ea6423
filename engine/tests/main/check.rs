//! `envmill check`: sound servers have no error, and each planted fault is found, and found again by the
//! command that the finding prints.

use std::{
    path::Path,
    process::{Command, Stdio},
    sync::OnceLock,
};

use envmill_testing::{
    EnvmillCommand, OLDEST, Processes, PythonServer, PythonServerOptions, Watchdog, python, script,
    wait_until,
};
use serde_json::Value;

use crate::rig::{BOUND, ENVMILL, bench_server, server_with};

/// Runs a check of `target` and returns its exit status and its report.
pub(crate) fn check(target: &str, arguments: &[&str]) -> (i32, Value) {
    let finished = EnvmillCommand::new(ENVMILL)
        .args(["check", target, "--json", "-", "--quiet"])
        .args(arguments)
        .run()
        .unwrap();
    let report = serde_json::from_str(&finished.stdout).unwrap_or_else(|error| {
        panic!("{target}: {error}\n{}\n{}", finished.stdout, finished.stderr)
    });
    (finished.code().unwrap(), report)
}

fn findings<'a>(report: &'a Value, severity: &str) -> Vec<&'a Value> {
    let all = report["findings"].as_array().unwrap();
    all.iter().filter(|finding| finding["severity"] == severity).collect()
}

pub(crate) fn found<'a>(report: &'a Value, id: &str, severity: &str) -> Option<&'a Value> {
    findings(report, severity).into_iter().find(|finding| finding["id"] == id)
}

/// Whether the command that a finding prints finds it again.
pub(crate) fn is_seen_again(finding: &Value) -> bool {
    let line = finding["reproduce"].as_str().unwrap();
    let line = line.replacen("envmill", ENVMILL, 1) + " --json - --quiet";
    let again = Command::new("/bin/sh").args(["-c", &line]).output().unwrap();
    serde_json::from_slice(&again.stdout).is_ok_and(|report| {
        let (id, severity) =
            (finding["id"].as_str().unwrap(), finding["severity"].as_str().unwrap());
        found(&report, id, severity).is_some()
    })
}

/// All checks, with little of each.
const LITTLE: [&str; 9] = [
    "--quick",
    "--episodes",
    "8",
    "--max-steps",
    "20",
    "--max-sessions",
    "6",
    "--timeout-ms",
    "60000",
];

pub(crate) fn is_sound(name: &str, target: &str, only: &[&str]) -> Value {
    let (code, report) = check(target, &[&LITTLE[..], only].concat());
    let errors = findings(&report, "error");
    assert!(errors.is_empty() && code == 0, "{name} ({code}): {errors:#?}");
    assert_eq!(report["complete"], true);
    report
}

/// A server with every planted fault, each at a path of its own.
fn planted() -> &'static PythonServer {
    static SERVER: OnceLock<PythonServer> = OnceLock::new();
    SERVER.get_or_init(|| PythonServer::of("planted_env").unwrap())
}

/// A server of `planted_wire.py`.
struct Wire {
    _processes: Processes,
    url: String,
}

impl Wire {
    fn start(plant: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let told = directory.path().join("port");
        let mut command = Command::new(python().unwrap());
        command
            .arg(script("servers/planted_wire.py"))
            .arg(&told)
            .env("PLANT", plant)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::null());
        let processes = Processes::spawn(&mut command).unwrap();
        wait_until("the planted server listens", BOUND, || told.exists());
        let port = std::fs::read_to_string(&told).unwrap();
        Self { _processes: processes, url: format!("http://127.0.0.1:{}", port.trim()) }
    }
}

#[test]
fn sound_servers_have_no_error() {
    let _watchdog = Watchdog::start("sound servers", 2 * BOUND);
    is_sound("bench_env", &bench_server().url(), &[]);
    for (module, variables) in [
        ("words_env", &[][..]),
        ("tools_env", &[("MAXS", "4")]),
        ("choice_env", &[]),
        ("quirk_env", &[("MAXS", "3")]),
        ("harness_env", &[]),
    ] {
        let server = server_with(module, variables);
        is_sound(module, &server.url(), &[]);
    }
    // One of its tools takes its time.
    let server = server_with("mcp_env", &[("MAXS", "4")]);
    is_sound("mcp_env", &server.url(), &["--only", "protocol,endpoints,capacity,schema,modes"]);
    let sound = format!("{}/sound", planted().url());
    let report = is_sound("planted_env/sound", &sound, &[]);
    let warnings = findings(&report, "warning");
    assert!(warnings.is_empty(), "{warnings:#?}");
}

#[test]
fn a_sound_server_of_the_oldest_version_has_no_error() {
    let _watchdog = Watchdog::start("the oldest version", BOUND);
    let options =
        PythonServerOptions::new("bench_env").version(OLDEST).env("MAX_CONCURRENT_ENVS", 3);
    let server = PythonServer::start(options).unwrap();
    let report = is_sound("bench_env of the oldest version", &server.url(), &[]);
    assert!(found(&report, "capacity.refusal", "passed").is_some(), "{report:#}");
}

#[test]
fn our_own_servers_have_no_error() {
    let _watchdog = Watchdog::start("our own servers", BOUND);
    let report = is_sound("cartpole", "native:cartpole", &[]);
    assert!(report["front"].as_str().unwrap().contains("Envmill's own server"));
    assert!(found(&report, "modes.endpoints", "passed").is_some(), "{report:#}");
}

/// Faults of environments: which check finds them as what.
const PLANTS: [(&str, &str, &str, &str); 29] = [
    ("session-memory", "memory", "memory.sessions", "warning"),
    ("memory", "memory", "memory.episodes", "warning"),
    ("seed-dropped", "determinism", "determinism.seed-dropped", "warning"),
    ("seed-without-effect", "determinism", "determinism.seed-without-effect", "note"),
    ("global-random", "determinism", "determinism.concurrent", "error"),
    ("volatile", "determinism", "determinism.volatile", "note"),
    ("reuse", "isolation", "isolation.session-reuse", "error"),
    ("shared", "isolation", "isolation.state", "error"),
    ("shared", "isolation", "isolation.sessions", "error"),
    ("reset-raises", "protocol", "protocol.reset-refused", "error"),
    ("stop", "protocol", "protocol.silent", "error"),
    ("done-not-cleared", "done", "done.not-cleared", "error"),
    ("done-on-reset", "done", "done.on-reset", "warning"),
    ("continues", "done", "done.continues", "warning"),
    ("reward-after", "done", "done.reward-after", "warning"),
    ("endless", "lengths", "lengths.never-ends", "warning"),
    ("tail", "lengths", "lengths.tail", "note"),
    ("raises", "lengths", "lengths.refused", "note"),
    ("farmed", "rewards", "rewards.farmed", "warning"),
    ("reward-constant", "rewards", "rewards.constant", "note"),
    ("reward-null", "rewards", "rewards.null", "note"),
    ("reward-range", "rewards", "rewards.range", "warning"),
    ("partial", "rewards", "rewards.partial", "note"),
    ("zero-variance", "learnability", "learnability.zero-variance", "warning"),
    ("schema-type", "schema", "schema.observation-type", "error"),
    ("loose-schema", "schema", "schema.action-refused", "warning"),
    ("raises", "schema", "schema.action-fails", "note"),
    ("no-health", "endpoints", "endpoints.health", "error"),
    ("no-schema", "endpoints", "endpoints.schema", "error"),
];

#[test]
fn planted_faults_of_environments_are_found() {
    let _watchdog = Watchdog::start("planted faults", 2 * BOUND);
    let mut missed = Vec::new();
    for (plant, only, id, severity) in PLANTS {
        let url = format!("{}/{plant}", planted().url());
        // One that never answers is waited for as long.
        let timeout = if plant == "stop" { "3000" } else { "60000" };
        let arguments = ["--only", only, "--timeout-ms", timeout, "--quick", "--episodes", "48"];
        let (code, report) = check(&url, &arguments);
        let Some(finding) = found(&report, id, severity) else {
            missed.push(format!("{plant}: no {severity} {id} in {:#}", report["findings"]));
            continue;
        };
        if !is_seen_again(finding) {
            missed.push(format!("{plant}: not seen again: {finding:#}"));
        } else if (code == 1) != (severity == "error") {
            missed.push(format!("{plant}: exit status {code}: {:#}", report["findings"]));
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

/// Faults of the wire: which check finds them as what error.
const WIRES: [(&str, &str, &str); 24] = [
    ("nan-literal", "protocol", "protocol.nan-literal"),
    ("nan-reward", "protocol", "protocol.nan-literal"),
    ("garbage", "protocol", "protocol.not-json"),
    ("reward-text", "protocol", "protocol.envelope"),
    ("done-number", "protocol", "protocol.envelope"),
    ("no-observation", "protocol", "protocol.envelope"),
    ("mistake-closes", "protocol", "protocol.session-lost.invalid-json"),
    ("mistake-silent", "protocol", "protocol.silent.invalid-json"),
    ("error-code", "protocol", "protocol.error-code.unknown-type"),
    ("extra-key", "protocol", "protocol.accepted.extra-key"),
    ("wrong-reply", "protocol", "protocol.wrong-reply"),
    ("step-silent", "protocol", "protocol.silent"),
    ("step-closes", "protocol", "protocol.lost"),
    ("half-frame", "protocol", "protocol.lost"),
    ("binary", "protocol", "protocol.frames"),
    ("order", "protocol", "protocol.order"),
    ("capacity-drops", "capacity", "capacity.dropped"),
    ("capacity-hangs", "capacity", "capacity.hangs"),
    ("leak", "slots", "slots.leak"),
    ("no-pongs", "wire", "wire.ping"),
    ("no-fragments", "wire", "wire.fragmented"),
    ("half-open", "wire", "wire.half-open"),
    ("slow-reader", "wire", "wire.slow-reader"),
    ("required-accepted", "schema", "schema.required-accepted"),
];

/// Which of them are found as warnings.
const MILD: [&str; 3] = ["error-code", "extra-key", "required-accepted"];

#[test]
fn planted_faults_of_the_wire_are_found() {
    let _watchdog = Watchdog::start("planted wires", 2 * BOUND);
    let sound = Wire::start("");
    let (code, report) =
        check(&sound.url, &["--quick", "--episodes", "8", "--timeout-ms", "60000"]);
    assert_eq!(code, 0, "{:#?}", findings(&report, "error"));
    let mut missed = Vec::new();
    for (plant, only, id) in WIRES {
        let server = Wire::start(plant);
        let waits = plant.ends_with("silent") || plant.ends_with("hangs") || only == "wire";
        let timeout = if waits || only == "slots" { "4000" } else { "20000" };
        let (_, report) = check(&server.url, &["--only", only, "--quick", "--timeout-ms", timeout]);
        let severity = if MILD.contains(&plant) { "warning" } else { "error" };
        match found(&report, id, severity) {
            None => missed.push(format!("{plant}: no {severity} {id} in {:#}", report["findings"])),
            // Those that wait take their time; and what has leaked is gone until the server is started anew.
            Some(finding) if !waits && only != "slots" && !is_seen_again(finding) => {
                missed.push(format!("{plant}: not seen again: {finding:#}"));
            }
            Some(_) => {}
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[test]
fn a_server_that_is_started_is_compared_in_both_modes() {
    let _watchdog = Watchdog::start("both modes", BOUND);
    for (plant, severity) in [("production-open", "warning"), ("sound", "passed")] {
        let python = python().unwrap();
        let servers = script("servers");
        let serve = format!(
            "PLANT={plant} PYTHONDONTWRITEBYTECODE=1 {} -m uvicorn planted_env:app --app-dir {} --port {{port}}",
            python.display(),
            servers.display()
        );
        let finished = EnvmillCommand::new(ENVMILL)
            .args(["check", "--serve", &serve, "--only", "modes", "--json", "-", "--quiet"])
            .run()
            .unwrap();
        let report: Value = serde_json::from_str(&finished.stdout).expect(&finished.stderr);
        assert!(found(&report, "modes.endpoints", severity).is_some(), "{report:#}");
        assert!(found(&report, "modes.episodes", "passed").is_some(), "{report:#}");
    }
}

#[test]
fn reports_are_as_their_schema_says() {
    let _watchdog = Watchdog::start("the schema of reports", BOUND);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/check.schema.json");
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let (_, report) =
        check(&bench_server().url(), &["--only", "protocol,endpoints,rewards", "--quick"]);
    let problems: Vec<_> = validator.iter_errors(&report).map(|it| it.to_string()).collect();
    assert!(problems.is_empty(), "{problems:?}");
}

/// Ctrl-C in the middle, and use that cannot be.
#[test]
fn what_was_found_is_told_at_ctrl_c_and_wrong_use_is_refused() {
    let _watchdog = Watchdog::start("Ctrl-C", BOUND);
    let server = bench_server();
    let running =
        EnvmillCommand::new(ENVMILL).args(["check", &server.url(), "--json", "-"]).start().unwrap();
    // Not before it listens to signals: then there would be nothing to tell.
    wait_until("the check has begun", BOUND, || {
        std::fs::read_to_string(format!("/proc/{}/task/{0}/children", running.pid())).is_ok()
            && std::fs::read_dir(format!("/proc/{}/task", running.pid())).unwrap().count() > 1
    });
    running.interrupt();
    let finished = running.wait();
    assert_eq!(finished.code(), Some(130), "{}", finished.stderr);
    let report: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(report["complete"], false);
    assert!(report["not_run"].as_array().unwrap().len() > 3);
    for (arguments, expected) in [
        (&["check"][..], "required"),
        (&["check", "http://127.0.0.1:1", "--only", "nothing"], "there is no check `nothing`"),
        (&["check", "http://127.0.0.1:1", "--actions", "7"], "--actions"),
        (&["check", "http://127.0.0.1:1", "--policy", "random"], "--policy"),
        (&["check", "--serve", "true"], "{port}"),
        (&["check", "nowhere"], "http://"),
    ] {
        let finished = EnvmillCommand::new(ENVMILL).args(arguments).run().unwrap();
        assert_eq!(finished.code(), Some(2), "{arguments:?}: {}", finished.stderr);
        assert!(finished.stderr.contains(expected), "{arguments:?}: {}", finished.stderr);
    }
}

//! Environments that do what they should not: who is told, and who goes on.

use std::{path::Path, time::Duration};

use envmill_protocol::{Failure, FailureKind, Outcome, Request, SessionFate};
use envmill_python_worker::{Log, OpenEnvClass, Options, PythonWorker, Start, Target};
use envmill_testing::wait_until;

use crate::rig::{Rig, WATCHDOG, let_pass, options};

const CLASS: &str = "fault_env:FaultEnv";

fn failure(outcome: Outcome) -> Failure {
    match outcome {
        Outcome::Failed(failure) => failure,
        other => panic!("no failure: {other:?}"),
    }
}

fn observed(outcome: Outcome) -> String {
    match outcome {
        Outcome::Reset(seen) | Outcome::Stepped(seen) => {
            String::from_utf8_lossy(&seen.observation).into_owned()
        }
        other => panic!("no observation: {other:?}"),
    }
}

fn pid(outcome: Outcome) -> u32 {
    let seen: serde_json::Value = serde_json::from_str(&observed(outcome)).expect("JSON");
    u32::try_from(seen["pid"].as_u64().expect("a pid")).expect("a pid")
}

fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// What a server would have answered by an error frame leaves the session as it was, and everybody else.
#[test]
fn what_a_step_raises_is_its_own_sessions() {
    let log = tempfile::NamedTempFile::new().expect("a file");
    let mut rig = Rig::start(Options { log: Log::File(log.path().into()), ..options(CLASS) });
    for slot in 0..4 {
        rig.open(slot, slot % 2);
        observed(rig.reset(slot, "{}"));
    }
    let raised = failure(rig.step(0, r#"{"what":"raise"}"#));
    assert_eq!((raised.kind, raised.session), (FailureKind::Environment, SessionFate::Kept));
    assert_eq!(raised.message, "EXECUTION_ERROR: as it was told");
    for (action, kind) in [
        (r#"{"what":"stop"}"#, FailureKind::Environment),
        (r#"{"what":"leave"}"#, FailureKind::Environment),
        (r#"{"what":"shape"}"#, FailureKind::Environment),
        (r#"{"what":"object"}"#, FailureKind::Environment),
        (r#"{"what":7}"#, FailureKind::Invalid),
        (r#"{"no such":7}"#, FailureKind::Invalid),
        ("{", FailureKind::Environment),
    ] {
        let failed = failure(rig.step(0, action));
        assert_eq!((failed.kind, failed.session), (kind, SessionFate::Kept), "{action}");
    }
    // As on the wire, what is no number is nothing.
    assert!(observed(rig.step(0, r#"{"what":"nan"}"#)).contains(r#""text":null"#));
    // Nothing that it prints or reads has to do with the protocol.
    assert!(observed(rig.step(0, r#"{"what":"print"}"#)).contains(r#""text":"""#));
    for slot in 0..4 {
        observed(rig.step(slot, "{}"));
    }
    let printed = std::fs::read_to_string(log.path()).expect("the log");
    assert!(printed.contains("this is no frame") && printed.contains("nor is this"), "{printed}");
}

/// Frames beyond the arena take another way, in both directions.
#[test]
fn large_texts_come_through() {
    let mut rig = Rig::start(options(CLASS));
    for slot in 0..3 {
        rig.open(slot, 0);
    }
    let text = "y".repeat(3 << 20);
    assert!(observed(rig.reset(0, &format!(r#"{{"text":"{text}"}}"#))).contains(&text));
    for slot in 1..3 {
        observed(rig.reset(slot, "{}"));
        rig.send(slot, Request::Step { action: br#"{"what":"large","mib":9}"#.to_vec().into() });
    }
    for slot in 1..3 {
        assert!(observed(rig.next(slot)).len() > 9 << 20);
    }
    observed(rig.step(0, "{}"));
}

/// A process that ends takes its sessions with it, each with its reason; the other process goes on, and
/// the lost one comes back.
#[test]
fn a_process_that_ends_is_replaced() {
    let mut rig = Rig::start(options(CLASS));
    for slot in 0..4 {
        rig.open(slot, slot % 2);
        observed(rig.reset(slot, "{}"));
    }
    let first = pid(rig.step(0, "{}"));
    let child: u32 = {
        let seen: serde_json::Value =
            serde_json::from_str(&observed(rig.step(2, r#"{"what":"child"}"#))).expect("JSON");
        u32::try_from(seen["text"].as_u64().expect("a pid")).expect("a pid")
    };
    rig.send(0, Request::Step { action: br#"{"what":"exit"}"#.to_vec().into() });
    for slot in [0, 2] {
        let lost = failure(rig.next(slot));
        assert_eq!((lost.kind, lost.session), (FailureKind::Disconnected, SessionFate::Lost));
        assert!(lost.message.contains("exited with status 3"), "{}", lost.message);
    }
    // With all that it had started.
    wait_until("its child is gone", WATCHDOG, || !is_alive(child));
    for slot in [1, 3] {
        observed(rig.step(slot, "{}"));
    }
    rig.open(0, 0);
    assert_ne!(pid(rig.reset(0, "{}")), first);
    assert_eq!(rig.worker.metrics().restarts, 1);

    // Killed from outside, in the middle of a step.
    let second = pid(rig.step(1, "{}"));
    rig.send(1, Request::Step { action: br#"{"what":"sleep","seconds":30}"#.to_vec().into() });
    let_pass(Duration::from_millis(50));
    kill(second);
    for slot in [1, 3] {
        let lost = failure(rig.next(slot));
        assert!(lost.message.contains("was killed by SIGKILL"), "{}", lost.message);
    }
    observed(rig.step(0, "{}"));
}

/// A session that is closed in a step that never ends: the close is answered at once, and then the process
/// is made to let go.
#[test]
fn a_process_that_hangs_is_killed() {
    let mut rig = Rig::start(Options {
        grace: Duration::from_millis(200),
        threads: envmill_python_worker::Threads::Inline,
        ..options(CLASS)
    });
    for slot in 0..3 {
        rig.open(slot, slot % 2);
        observed(rig.reset(slot, "{}"));
    }
    for what in ["hang", "spin"] {
        let action = format!(r#"{{"what":"{what}"}}"#).into_bytes().into();
        rig.send(0, Request::Step { action });
        let_pass(Duration::from_millis(50));
        assert_eq!(rig.ask(0, Request::Close), Outcome::Closed);
        let lost = failure(rig.next(2));
        assert_eq!((lost.kind, lost.session), (FailureKind::Disconnected, SessionFate::Lost));
        assert!(lost.message.contains("time was over"), "{}", lost.message);
        observed(rig.step(1, "{}"));
        for slot in [0, 2] {
            rig.open(slot, 0);
            observed(rig.reset(slot, "{}"));
        }
    }
}

#[test]
fn a_process_that_takes_too_much_memory_is_killed() {
    let mut rig =
        Rig::start(Options { memory_bytes_max: Some(1 << 30), processes: 1, ..options(CLASS) });
    rig.open(0, 0);
    observed(rig.reset(0, "{}"));
    // It may be killed in the step or after it.
    let mut outcome = rig.step(0, r#"{"what":"leak","mib":1024}"#);
    if matches!(outcome, Outcome::Stepped(_)) {
        outcome = rig.next(0);
    }
    let lost = failure(outcome);
    assert_eq!((lost.kind, lost.session), (FailureKind::Disconnected, SessionFate::Lost));
    assert!(lost.message.contains("more than its 1024 MiB"), "{}", lost.message);
    rig.open(0, 0);
    observed(rig.reset(0, "{}"));
}

/// Construction that fails is the first answer; construction that takes its time is waited for.
#[test]
fn construction_is_the_first_resets() {
    let constructed = |how: &str, start| {
        let target = OpenEnvClass {
            class: CLASS.into(),
            arguments: format!(r#"{{"construct":"{how}"}}"#),
            ..OpenEnvClass::default()
        };
        let mut options = options(CLASS);
        options.target = Target::OpenEnvClass(target);
        options.processes = 1;
        options.start = start;
        Rig::start(options)
    };
    let mut rig = constructed("raise", Start::Auto);
    rig.open(0, 0);
    let failed = failure(rig.reset(0, "{}"));
    assert_eq!((failed.kind, failed.session), (FailureKind::Factory, SessionFate::Lost));
    assert!(failed.message.contains("no environment today"), "{}", failed.message);
    rig.open(0, 0);

    // And processes that begin from nothing are the same.
    let mut rig = constructed("slow", Start::Spawn);
    for slot in 0..3 {
        rig.open(slot, 0);
        rig.send(slot, Request::Reset { parameters: "{}".into() });
    }
    for slot in 0..3 {
        observed(rig.next(slot));
    }
}

#[test]
fn what_cannot_be_loaded_is_told_at_the_start() {
    let problem = |class: &str, python: Option<&str>| {
        let mut options = options(class);
        options.log = Log::Nowhere;
        if let Some(python) = python {
            options.python = python.into();
        }
        match PythonWorker::start(options) {
            Ok(_) => panic!("{class} was loaded"),
            Err(error) => error.to_string(),
        }
    };
    for (class, python, expected) in [
        ("no_such_module:Env", None, "there is no module `no_such_module`"),
        ("fault_env:NoSuchEnv", None, "`fault_env` has no `NoSuchEnv`"),
        ("fault_env:FaultAction", None, "is no OpenEnv Environment"),
        (CLASS, Some("/no/such/python"), "cannot be run"),
    ] {
        let problem = problem(class, python);
        assert!(problem.contains(expected), "{class}: {problem}");
    }
}

/// Neither processes nor memory stay behind, whichever way this process ends.
#[test]
fn nothing_stays_behind() {
    let mut rig = Rig::start(options(CLASS));
    rig.open(0, 0);
    let worker = pid(rig.reset(0, "{}"));
    let nursery = rig.worker.nursery_pid();
    drop(rig);
    for pid in [worker, nursery] {
        wait_until("the processes are gone", WATCHDOG, || !is_alive(pid));
    }
    let ours = std::fs::read_dir("/proc/self/fd").expect("descriptors");
    let shared = ours
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter(|target| is_ring(target))
        .count();
    // Other tests of this process have rings of their own; each process has four at the most.
    assert!(shared <= 4 * 2 * 8, "{shared} rings are open");
}

fn is_ring(target: &Path) -> bool {
    target.to_string_lossy().contains("envmill-ring")
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).expect("a process id");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("a signal");
}

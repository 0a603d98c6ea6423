//! Environments of tools, attached sessions and the other transports, as a user plays them.

use std::time::Duration;

use envmill_protocol::record::End;
use envmill_testing::{PythonServer, PythonServerOptions, Watchdog};

use crate::plain::{check_account, play};

const BOUND: Duration = Duration::from_secs(300);

#[test]
fn random_calls_tools_and_none_refuses_its_arguments() {
    let _watchdog = Watchdog::start("tools", BOUND);
    for bare in [false, true] {
        // One place only: the session that asks for the tools must have left it.
        let mut options = PythonServerOptions::new("tools_env").env("MAXS", 1);
        if bare {
            options = options.env("BARE", 1);
        }
        let server = PythonServer::start(options).unwrap();
        let url = server.url();
        let (finished, records) = play(&["--env", &url, "--episodes", "40", "--sessions", "1"]);
        assert_eq!(finished.code(), Some(0), "{finished:?}\n{}", server.output());
        check_account(&finished, &records, 40);
        assert!(records.iter().all(|record| record.steps.len() == 5));
        for tool in ["add", "nothing", "choose", "place", "walk", "move", "find"] {
            let name = format!("\"tool_name\":\"{tool}\"");
            let calls = |action: &[u8]| String::from_utf8_lossy(action).contains(&name);
            let steps = records.iter().flat_map(|record| &record.steps);
            assert!(
                steps.filter(|step| calls(&step.action)).count() > 5,
                "{tool} is hardly called"
            );
        }
    }
}

#[test]
fn tools_over_http_make_episodes() {
    let _watchdog = Watchdog::start("mcp-http", BOUND);
    for workers in [1, 2] {
        let options = PythonServerOptions::new("tools_env").workers(workers);
        let server = PythonServer::start(options).unwrap();
        let (finished, records) = play(&[
            "--env",
            &server.url(),
            "--transport",
            "mcp-http",
            "--episodes",
            "30",
            "--sessions",
            "4",
            "--max-steps",
            "6",
        ]);
        assert_eq!(finished.code(), Some(0), "{finished:?}\n{}", server.output());
        check_account(&finished, &records, 30);
        assert!(records.iter().all(|record| record.steps.len() == 6), "no end of its own");
        let steps = records.iter().flat_map(|record| &record.steps);
        let errors = steps.filter(|step| !step.observed.observation.ends_with(b"\"error\":null}"));
        assert_eq!(errors.count(), 0);
    }
}

#[test]
fn an_agent_of_the_servers_own_plays_in_production_mode() {
    let _watchdog = Watchdog::start("harness", BOUND);
    let options = PythonServerOptions::new("harness_env").env("OPENENV_MODE", "production");
    let server = PythonServer::start(options).unwrap();
    let run = |policy: &str| {
        play(&[
            "--env",
            &server.url(),
            "--transport",
            "harness",
            "--episodes",
            "5",
            "--sessions",
            "1",
            "--max-steps",
            "3",
            "--policy",
            policy,
        ])
    };
    let (finished, records) = run(r#"constant:{"message":"finish"}"#);
    assert_eq!(finished.code(), Some(0), "{finished:?}");
    check_account(&finished, &records, 5);
    for record in &records {
        assert_eq!(record.steps.len(), 1);
        let observation = String::from_utf8_lossy(&record.steps[0].observed.observation);
        assert!(observation.contains("did finish") && observation.contains("tool_result"));
        assert_eq!(record.provenance.episode_in_session, 0, "a session is one episode");
    }
    let (finished, records) = run("random");
    assert_eq!(finished.code(), Some(0), "{finished:?}");
    assert!(records.iter().all(|record| record.steps.len() == 3));
    // The agent's own fault: reported as the environment's, and not tried again.
    let (finished, records) = run(r#"constant:{"message":"boom"}"#);
    assert_eq!(finished.code(), Some(3), "{finished:?}");
    for record in &records {
        let End::Failed(failure) = &record.end else { panic!("{:?}", record.end) };
        assert_eq!(failure.kind.name(), "environment");
        assert_eq!(record.attempts.len(), 1);
    }
}

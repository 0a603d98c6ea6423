//! Stock OpenEnv servers start, suffer and come back; stock clients play on them.

use std::time::Duration;

use envmill_testing::{
    FaultProxy, NEWEST, PythonServer, PythonServerOptions, Watchdog, get, stock_client_flow,
    versions_under_test, wait_until,
};
use serde_json::json;

const BOUND: Duration = Duration::from_secs(120);

#[test]
fn the_stock_client_plays_the_stock_server_in_every_version() {
    for version in versions_under_test() {
        let _watchdog = Watchdog::start(version, Duration::from_secs(600));
        let options = PythonServerOptions::new("bench_env").version(version);
        let server = PythonServer::start(options).unwrap();
        let seen =
            stock_client_flow(version, &server.url(), &json!({"payload_bytes": 3}), 4, 2).unwrap();
        assert_eq!(seen["version"], version);
        for session in seen["sessions"].as_array().unwrap() {
            for episode in session["episodes"].as_array().unwrap() {
                assert_eq!(episode["reset"]["done"], false);
                assert_eq!(episode["steps"].as_array().unwrap().len(), 4);
                assert_eq!(episode["steps"][3]["observation"]["payload"], "xxx");
                assert_eq!(episode["steps"][3]["reward"], 1.0);
                assert_eq!(episode["state"]["step_count"], 4);
            }
        }
    }
}

#[test]
fn the_stock_client_plays_through_the_proxy() {
    let _watchdog = Watchdog::start("client through proxy", Duration::from_secs(600));
    let server = PythonServer::of("bench_env").unwrap();
    let proxy = FaultProxy::start(server.address()).unwrap();
    let seen = stock_client_flow(NEWEST, &proxy.url(), &json!({}), 3, 4).unwrap();
    assert_eq!(seen["sessions"].as_array().unwrap().len(), 4);
    assert!(proxy.counts().accepted >= 4);
}

#[test]
fn a_server_is_stopped_killed_and_restarted_on_its_port() {
    let _watchdog = Watchdog::start("server life", Duration::from_secs(600));
    let options = PythonServerOptions::new("bench_env").env("MAX_CONCURRENT_ENVS", 4).workers(2);
    let mut server = PythonServer::start(options).unwrap();
    let address = server.address();
    assert!(server.cpu_seconds() > 0.0);
    assert!(server.rss_bytes() > 10_000_000);

    server.stop();
    assert!(server.is_running());
    server.cont();
    wait_until("it answers again", BOUND, || get(address, "/health").is_ok());

    server.kill();
    assert!(!server.is_running());
    wait_until("nobody listens", BOUND, || get(address, "/health").is_err());

    server.restart().unwrap();
    assert_eq!(server.address(), address);
    assert_eq!(get(address, "/health").unwrap().0, 200);

    server.terminate();
    wait_until("it ends by itself", BOUND, || !server.is_running());
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let _watchdog = Watchdog::start("no such module", Duration::from_secs(600));
    let error = format!("{:#}", PythonServer::of("no_such_env").unwrap_err());
    assert!(error.contains("no_such_env") && error.contains("Could not import"), "{error}");
}

#[test]
fn every_server_of_ours_starts() {
    for module in ["bench_env", "choice_env", "close_env", "harness_env", "mcp_env", "quirk_env"] {
        let _watchdog = Watchdog::start(module, Duration::from_secs(600));
        let server = PythonServer::of(module).unwrap();
        let (status, schema) = get(server.address(), "/schema").unwrap();
        assert_eq!(status, 200, "{module}: {}", server.output());
        let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
        assert!(schema["action"].is_object(), "{module}");
    }
}

//! `/reset`, `/step`, `/state` and what describes the environment, beside a stock server.

use envmill_testing::Watchdog;

use crate::twin::{self, WATCHDOG};

#[test]
fn stateless_requests_are_answered_alike() {
    let _watchdog = Watchdog::start("stateless", WATCHDOG);
    let twin = twin::shared();
    for (body, status) in [
        ("", 200),
        ("{}", 200),
        (r#"{"seed":3,"episode_id":"e","other":[1]}"#, 200),
        (r#"{"seed":null,"episode_id":null}"#, 200),
        (r#"{"seed":"5"}"#, 200),
        ("null", 422),
        ("[1]", 422),
        (r#"{"seed":-1}"#, 422),
        (r#"{"seed":"x"}"#, 422),
        (r#"{"seed":1.5,"episode_id":5}"#, 422),
    ] {
        assert_eq!(twin.same("POST", "/reset", body), status, "{body}");
    }
    let long = format!(r#"{{"episode_id":"{}"}}"#, "é".repeat(256));
    assert_eq!(twin.same("POST", "/reset", &long), 422);
    for (body, status) in [
        (r#"{"action":{"tool_name":"add","arguments":{"a":1,"b":2}}}"#, 200),
        (r#"{"action":{"tool_name":"count"},"timeout_s":1.5,"request_id":"r","x":1}"#, 200),
        ("", 422),
        ("{}", 422),
        ("[1]", 422),
        (r#"{"action":5}"#, 422),
        (r#"{"action":{"tool_name":"add"},"timeout_s":-1}"#, 422),
        (r#"{"action":{"tool_name":"add"},"request_id":5}"#, 422),
    ] {
        assert_eq!(twin.same("POST", "/step", body), status, "{body}");
    }
    assert_eq!(twin.same("GET", "/state", ""), 200);
}

#[test]
fn descriptions_are_served_as_the_environment_gave_them() {
    let _watchdog = Watchdog::start("descriptions", WATCHDOG);
    let twin = twin::shared();
    for path in ["/health", "/metadata"] {
        assert_eq!(twin.same("GET", path, ""), 200);
    }
    let [expected, got] = twin.both("GET", "/schema", b"").map(|answer| answer.json());
    assert_eq!(got, expected);
}

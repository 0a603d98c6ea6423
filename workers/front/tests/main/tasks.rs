//! The Task API, beside a stock server. Bodies are equal to the byte, but for what is said of text that
//! is no JSON, where only the parser's own words and the place differ.

use envmill_testing::Watchdog;

use crate::{
    client::{Answer, ask},
    served::Served,
    twin::{self, WATCHDOG},
};

const QUESTIONS: [&str; 4] = ["tasks", "num_tasks", "task", "task_range"];

#[test]
fn questions_are_answered_alike() {
    let _watchdog = Watchdog::start("questions", WATCHDOG);
    let twin = twin::shared();
    for path in ["/list_environments", "/front/splits", "/FRONT/splits"] {
        assert_eq!(twin.same("GET", path, ""), 200);
    }
    for split in ["train", "none", "other", "tr\\u00e4in"] {
        let body = format!(r#"{{"split":"{split}"}}"#);
        assert_eq!(twin.same("POST", "/front/tasks", &body), 200);
        assert_eq!(twin.same("POST", "/Front/num_tasks", &body), 200);
    }
    for (index, status) in [
        ("1", 200),
        ("-1", 200),
        ("1.0", 200),
        ("true", 200),
        (r#""1""#, 200),
        (r#"" +1.0 ""#, 200),
        ("9", 400),
        ("-4", 400),
        ("1000000000000000000000000000000", 400),
        (r#""1_000""#, 400),
        ("1.5", 422),
        ("null", 422),
        ("[1]", 422),
        (r#""x""#, 422),
        (r#""""#, 422),
    ] {
        let body = format!(r#"{{"split":"train","index":{index}}}"#);
        assert_eq!(twin.same("POST", "/front/task", &body), status, "{index}");
    }
    // What is sent back is what came, and not what Python would write.
    for body in [r#"{"split":"train","index":1e19}"#, r#"{"split":[1, 2],"split":{ },"index":"x"}"#]
    {
        assert_eq!(twin.same_json("POST", "/front/task", body), 422);
    }
    for bounds in ["", r#","start":0,"stop":2"#, r#","start":null"#] {
        let body = format!(r#"{{"split":"train"{bounds}}}"#);
        assert_eq!(twin.same("POST", "/front/task_range", &body), 501);
    }
    assert_eq!(twin.same("POST", "/front/tasks", r#"{"split":"boom"}"#), 500);
}

#[test]
fn questions_about_others_are_refused_alike() {
    let _watchdog = Watchdog::start("other environments", WATCHDOG);
    let twin = twin::shared();
    for name in ["nope", "it's%20x", "a%22'b", "a%5Cb%0A%C3%A9", "front%20"] {
        assert_eq!(twin.same("GET", &format!("/{name}/splits"), ""), 404);
        for question in QUESTIONS {
            let path = format!("/{name}/{question}");
            let body = if question == "task" {
                r#"{"split":"train","index":0}"#
            } else {
                r#"{"split":"train"}"#
            };
            assert_eq!(twin.same("POST", &path, body), 404);
            // The body is looked at first.
            assert_eq!(twin.same("POST", &path, "{}"), 422);
        }
    }
    for (method, path, status) in [
        ("GET", "/front/tasks", 405),
        ("DELETE", "/front/tasks", 405),
        ("POST", "/front/splits", 405),
        ("POST", "/list_environments", 405),
        ("POST", "/health", 405),
        ("GET", "/reset", 405),
        ("GET", "/front/nosuch", 404),
        ("GET", "/nosuch", 404),
        ("GET", "/nosuch/", 404),
        ("GET", "/ws", 404),
        ("POST", "/ws", 404),
        ("GET", "/ws/", 404),
        ("GET", "/health/", 307),
        ("GET", "/health/?a=b", 307),
        ("POST", "/mcp/", 307),
        ("GET", "/front/splits/", 307),
    ] {
        assert_eq!(twin.same(method, path, ""), status, "{method} {path}");
    }
}

#[test]
fn wrong_bodies_are_refused_alike() {
    let _watchdog = Watchdog::start("bodies", WATCHDOG);
    let twin = twin::shared();
    for question in QUESTIONS {
        for body in [
            "",
            "[1]",
            "5",
            "null",
            "{}",
            r#"{"split":5}"#,
            r#"{"split":null}"#,
            r#"{"split":"a","x":1}"#,
            r#"{"x":{"a":[1,2]},"y":"é","split":"a"}"#,
            r#"{"index":"q","start":"q","stop":1.5,"z":1}"#,
        ] {
            twin.same("POST", &format!("/front/{question}"), body);
        }
    }
    twin.same_json("POST", "/front/task", r#"{"x":{"a":[1, 2]},"y":0,"split":"a","x":2}"#);
    let good = br#"{"split": "train"}"#;
    for kind in ["", "text/plain", "application/vnd.x+json; charset=utf-8", "application/JSON", "x"]
    {
        let headers =
            if kind.is_empty() { String::new() } else { format!("Content-Type: {kind}\r\n") };
        let [expected, got] = twin.both_as("POST", "/front/num_tasks", &headers, good);
        assert_eq!((got.status, got.body), (expected.status, expected.body), "{kind}");
    }
    let [expected, got] = twin.both("POST", "/front/num_tasks", b"\xff{}");
    assert_eq!((got.status, got.body), (expected.status, expected.body));

    let outline = |answer: Answer| {
        let mut body = answer.json();
        let entry = &mut body["detail"][0];
        assert!(entry["loc"][1].is_u64(), "{entry}");
        assert!(entry["ctx"]["error"].is_string(), "{entry}");
        entry["loc"][1] = 0.into();
        entry["ctx"]["error"] = "".into();
        (answer.status, body)
    };
    for body in ["{bad", " ", r#"{"split":"a"} x"#, r#"{"split":"#] {
        let [expected, got] = twin.both("POST", "/front/tasks", body.as_bytes()).map(outline);
        assert_eq!(got, expected, "{body}");
    }
}

/// Native environments have no tasks, and a server of one says so.
#[test]
fn an_environment_without_tasks() {
    let served = Served::native("echo", |_| {});
    let answer = ask(served.address, "GET", "/list_environments", b"");
    assert_eq!(answer.body, r#"["echo"]"#);
    let answer = ask(served.address, "GET", "/echo/splits", b"");
    assert_eq!(answer.status, 501);
    let answer = ask(served.address, "POST", "/echo/num_tasks", br#"{"split":"a"}"#);
    let told = r#"{"detail":"num_tasks is not supported for this environment"}"#;
    assert_eq!((answer.status, &*answer.body), (501, told));
}

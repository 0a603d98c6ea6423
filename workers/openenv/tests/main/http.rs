//! Asking a server for its schemas.

use std::net::TcpListener;

use envmill_openenv::{DescribeError, Description, Options, Server as Target, describe, ready};

use crate::peer::Server;

const SCHEMA: &str = r#"{"action":{"type":"object","properties":{}},"observation":{},"state":{}}"#;

/// A server that answers each path with a status, a content type and a body.
fn answering(
    answer: impl Fn(&str) -> (u16, &'static str, String) + Send + Sync + 'static,
) -> Server {
    Server::start(move |mut peer| {
        loop {
            let head = peer.head();
            let Some(path) = head.split(' ').nth(1) else { return };
            let (status, kind, body) = answer(path);
            peer.write(
                format!(
                    "HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nLocation: /other\r\n\
                     Content-Length: {}\r\n\r\n{body}",
                    body.len()
                )
                .as_bytes(),
            );
        }
    })
}

fn described(server: &Server) -> Result<Description, DescribeError> {
    describe(&Target::new(server.url()), &Options::new(Vec::new()))
}

fn environment(openapi: &'static str) -> Server {
    answering(move |path| match path {
        "/schema" => (200, "application/json", SCHEMA.into()),
        "/openapi.json" => (200, "application/json", openapi.into()),
        "/health" => (200, "application/json", r#"{"status":"healthy"}"#.into()),
        _ => (404, "application/json", "{}".into()),
    })
}

#[test]
fn a_description_has_schema_and_fingerprint() {
    let description = described(&environment("{}")).unwrap();
    assert_eq!(description.schema, SCHEMA);
    assert_eq!(description.action_schema, r#"{"type":"object","properties":{}}"#);
    assert_eq!(description.fingerprint.len(), 32);
    assert_eq!(described(&environment("{}")).unwrap(), description, "the same wherever it is");
    let changed = described(&environment(r#"{"openapi":"3.1.0"}"#)).unwrap();
    assert_ne!(changed.fingerprint, description.fingerprint);
}

#[test]
fn the_session_endpoint_leads_to_the_schema_too() {
    let server = environment("{}");
    let target = Target::new(format!("ws://{}/ws", server.address));
    assert!(describe(&target, &Options::new(Vec::new())).is_ok());
    assert!(ready(&target, &Options::new(Vec::new())).is_ok());
}

#[test]
fn an_openapi_document_is_no_duty() {
    let server = answering(|path| match path {
        "/schema" => (200, "application/json", SCHEMA.into()),
        _ => (404, "application/json", "{}".into()),
    });
    assert!(described(&server).is_ok());
}

#[test]
fn errors_say_what_was_found_and_what_to_do() {
    for (status, kind, body, words) in [
        (404, "text/plain", "nothing", "answered 404: is this an OpenEnv server"),
        (401, "text/plain", "who", "Authorization"),
        (503, "text/plain", "later", "try again later"),
        (307, "text/plain", "there", "points to /other"),
        (200, "text/html; charset=utf-8", "<html>", "sleeps"),
        (200, "application/json", "<html>", "not JSON"),
        (200, "application/json", "{}", "no schema of an action"),
    ] {
        let server = answering(move |_| (status, kind, body.into()));
        let error = described(&server).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
        assert!(error.contains(&format!("{}/schema", server.url())), "{error}");
    }
}

#[test]
fn endless_answers_are_cut() {
    let server = Server::start(|mut peer| {
        peer.head();
        peer.write(b"HTTP/1.1 200 OK\r\n\r\n");
        for _ in 0..20 {
            peer.write(&vec![b' '; 1 << 20]);
        }
    });
    let error = described(&server).unwrap_err().to_string();
    assert!(error.contains("longer than"), "{error}");
}

#[test]
fn nobody_there() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let target = Target::new(format!("http://{free}"));
    let error = ready(&target, &Options::new(Vec::new())).unwrap_err();
    assert!(matches!(error, DescribeError::Unreachable { .. }));
    assert!(error.to_string().contains("running there"), "{error}");
    let target = Target::new("http://no-such-host.invalid");
    let error = ready(&target, &Options::new(Vec::new())).unwrap_err().to_string();
    assert!(error.contains("no-such-host.invalid"), "{error}");
}

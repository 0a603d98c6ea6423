//! Encrypted servers.

use std::{io::Write as _, net::TcpListener, path::PathBuf, sync::Arc, thread};

use bytes::Bytes;
use envmill_openenv::{Options, Server as Target, describe, ready};
use envmill_protocol::{FailureKind, Outcome, Request};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ServerConfig, ServerConnection, StreamOwned, crypto::aws_lc_rs};
use tempfile::TempDir;
use tungstenite::Message;

use crate::{
    peer::{OBSERVATION, Server},
    rig::{OPEN, Rig, reset},
};

struct Secure {
    port: u16,
    authority: PathBuf,
    _folder: TempDir,
}

/// A server with a certificate for `localhost` from an authority of its own, which answers HTTP with
/// a schema, and WebSockets as an environment.
fn secure(websocket: bool) -> Secure {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("authority.pem");
    std::fs::write(&path, authority.pem()).unwrap();

    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let stream = StreamOwned::new(connection, stream.unwrap());
            thread::spawn(move || if websocket { serve(stream) } else { answer(stream) });
        }
    });
    Secure { port, authority: path, _folder: folder }
}

fn serve(stream: StreamOwned<ServerConnection, std::net::TcpStream>) {
    let Ok(mut socket) = tungstenite::accept(stream) else { return };
    while let Ok(message) = socket.read() {
        if let Message::Text(text) = message
            && !text.contains("close")
        {
            let padded = OBSERVATION.replace("\"n\":1", &format!("\"n\":{text}"));
            socket.send(Message::text(padded)).unwrap();
        }
    }
}

fn answer(mut stream: StreamOwned<ServerConnection, std::net::TcpStream>) {
    use std::io::Read as _;
    let mut request = [0; 4096];
    if stream.read(&mut request).is_err() {
        return;
    }
    let body = r#"{"action":{"type":"object"}}"#;
    let _ = write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.conn.send_close_notify();
    let _ = stream.flush();
}

fn options(secure: &Secure) -> Options {
    let mut options = Options::new(vec![Target::new(format!("https://localhost:{}", secure.port))]);
    options.ca_file = Some(secure.authority.clone());
    options
}

#[test]
fn sessions_are_encrypted_with_an_authority_of_ones_own() {
    let secure = secure(true);
    let mut rig = Rig::with(options(&secure));
    for slot in 0..3 {
        assert_eq!(rig.ask(slot, OPEN), Outcome::Opened);
        assert!(matches!(rig.ask(slot, reset()), Outcome::Reset(_)));
        for length in [1, 1000, 20_000, 2_000_000] {
            let action = Bytes::from(format!(r#"{{"x":"{}"}}"#, "y".repeat(length)));
            let Outcome::Stepped(observed) = rig.ask(slot, Request::Step { action }) else {
                panic!("{length}");
            };
            assert!(observed.observation.len() > length);
        }
    }
    for slot in 0..3 {
        assert_eq!(rig.ask(slot, Request::Close), Outcome::Closed);
    }
    rig.until(|rig| rig.metrics().sockets_closing == 0);
    rig.assert_quiet();
}

#[test]
fn an_authority_that_is_not_known_is_refused() {
    let secure = secure(true);
    let mut options = options(&secure);
    options.ca_file = None;
    let failure = Rig::with(options).lost(0, OPEN);
    assert_eq!(failure.kind, FailureKind::Tls);
    assert!(failure.message.contains("authority"), "{failure}");
}

#[test]
fn another_name_than_the_certificates_is_refused() {
    let secure = secure(true);
    let mut options = options(&secure);
    options.servers[0].url = format!("wss://127.0.0.1:{}", secure.port);
    let failure = Rig::with(options).lost(0, OPEN);
    assert_eq!(failure.kind, FailureKind::Tls);
}

#[test]
fn tls_and_plain_are_told_apart() {
    let plain = Server::start(|mut peer| {
        use std::io::Read as _;
        let _ = peer.stream.read(&mut [0; 512]);
        peer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    let url = plain.url().replace("http", "https");
    let failure = Rig::refused(url);
    assert_eq!(failure.kind, FailureKind::Tls);
    assert!(failure.message.contains("begins with http"), "{failure}");

    let secure = secure(true);
    let failure = Rig::refused(format!("http://127.0.0.1:{}", secure.port));
    assert!(
        matches!(failure.kind, FailureKind::Unreachable | FailureKind::NotOpenEnv),
        "{failure}"
    );
}

#[test]
fn descriptions_are_read_through_tls() {
    let secure = secure(false);
    let options = options(&secure);
    let description = describe(&options.servers[0], &options).unwrap();
    assert_eq!(description.action_schema, r#"{"type":"object"}"#);
    ready(&options.servers[0], &options).unwrap();
    let error = describe(&options.servers[0], &Options::new(Vec::new())).unwrap_err().to_string();
    assert!(error.contains("authority"), "{error}");
}

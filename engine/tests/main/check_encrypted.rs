//! `envmill check` of a server that speaks TLS, with a certificate of an authority that nobody knows.

use std::{
    fs,
    net::TcpStream,
    path::PathBuf,
    process::{Command, Stdio},
};

use envmill_testing::{Processes, Watchdog, free_port, python, script, wait_until};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;

use crate::{
    check::{check, found, is_seen_again, is_sound},
    rig::BOUND,
};

/// A stock server under uvicorn, with a certificate for `localhost`.
struct Encrypted {
    _processes: Processes,
    folder: TempDir,
    port: u16,
}

impl Encrypted {
    fn start(module: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        let file = |name: &str, text: String| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        file("authority.pem", authority.pem());
        let port = free_port().unwrap();
        let log = fs::File::create(folder.path().join("server.log")).unwrap();
        let mut command = Command::new(python().unwrap());
        command
            .arg(script("serve.py"))
            .arg(format!("{module}:app"))
            .arg("--app-dir")
            .arg(script("servers"))
            .args(["--port", &port.to_string(), "--ssl-certfile"])
            .arg(file("certificate.pem", certificate.pem()))
            .arg("--ssl-keyfile")
            .arg(file("key.pem", key.serialize_pem()))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let processes = Processes::spawn(&mut command).unwrap();
        wait_until("the encrypted server listens", BOUND, || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Self { _processes: processes, folder, port }
    }

    fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    fn authority(&self) -> PathBuf {
        self.folder.path().join("authority.pem")
    }
}

#[test]
fn an_encrypted_server_is_checked_as_any_other() {
    let _watchdog = Watchdog::start("an encrypted server", 2 * BOUND);
    let server = Encrypted::start("planted_env");
    let authority = server.authority();
    let ca = ["--ca", authority.to_str().unwrap()];
    let report = is_sound("an encrypted server", &format!("{}/sound", server.url()), &ca);
    for id in ["endpoints.health", "wire.ping", "protocol.order"] {
        assert!(found(&report, id, "error").is_none(), "{report:#}");
    }
    // A fault is found, and found again by the command that is printed, which has the authority, too.
    let arguments = ["--only", "done", "--quick", "--episodes", "16", ca[0], ca[1]];
    let (code, report) = check(&format!("{}/done-not-cleared", server.url()), &arguments);
    let finding = found(&report, "done.not-cleared", "error").expect("the fault is found");
    assert_eq!(code, 1);
    assert!(finding["reproduce"].as_str().unwrap().contains(ca[1]), "{finding:#}");
    assert!(is_seen_again(finding), "{finding:#}");
}

#[test]
fn a_server_that_cannot_be_trusted_is_not_checked() {
    let _watchdog = Watchdog::start("an untrusted server", BOUND);
    let (server, other) = (Encrypted::start("bench_env"), Encrypted::start("bench_env"));
    let authority = other.authority();
    let quick = ["--only", "protocol", "--quick", "--timeout-ms", "20000"];
    for trusted in [&[][..], &["--ca", authority.to_str().unwrap()]] {
        let (code, report) = check(&server.url(), &[&quick, trusted].concat());
        let finding = found(&report, "protocol.unreachable", "error").expect("it is an error");
        let evidence = finding["evidence"].to_string();
        assert!(code == 1 && evidence.contains("certificate is not trusted"), "{finding:#}");
        assert!(evidence.contains("--ca"), "{finding:#}");
    }
    // Plain words to an encrypted server come to nothing, and are no success.
    let (code, report) = check(&server.url().replace("https", "http"), &quick);
    assert_eq!(code, 1, "{report:#}");
}

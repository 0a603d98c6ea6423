//! What cannot work is refused before any work, with a message that names the thing and the remedy.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    path::Path,
    process::{Command, Stdio},
};

use envmill_testing::{EnvmillCommand, Processes, free_port, get, python, wait_until};

use crate::rig::{BOUND, ENVMILL, Job, bench_server};

/// Checks that a refusal holds all these words.
#[track_caller]
fn names(stderr: &str, words: &[&str]) {
    for word in words {
        assert!(stderr.contains(word), "nothing about {word:?} in:\n{stderr}");
    }
    assert!(!stderr.contains("panicked"), "{stderr}");
}

#[test]
fn nothing_listens_there() {
    let url = format!("http://127.0.0.1:{}", free_port().unwrap());
    let stderr = Job::on("nothing listens", &url).refused();
    names(&stderr, &[&url, "refused", "is the server running"]);
}

#[test]
fn the_name_does_not_resolve() {
    let stderr = Job::on("no such name", "http://no-such-host.invalid:8000").refused();
    names(&stderr, &["no-such-host.invalid", "is the name right"]);
}

#[test]
fn a_url_cannot_be_read() {
    for (url, words) in [
        ("localhost:8000", ["localhost:8000", "http://"]),
        ("ftp://localhost", ["ftp", "http"]),
        ("http://", ["http://", "host"]),
        ("http://localhost:99999", ["99999", "port"]),
        ("native:carpole", ["carpole", "cartpole"]),
        ("native:synthetic?step_mss=3", ["step_mss", "step_ms"]),
        ("native:synthetic?step_ms=-3", ["-3", "step_ms"]),
    ] {
        names(&Job::on(url, url).refused(), &words);
    }
}

#[test]
fn another_web_server_is_not_taken_for_an_environment() {
    let directory = tempfile::tempdir().unwrap();
    let port = free_port().unwrap();
    let mut command = Command::new(python().unwrap());
    command.args(["-m", "http.server", "--bind", "127.0.0.1", &port.to_string()]);
    command.current_dir(directory.path()).stdout(Stdio::null()).stderr(Stdio::null());
    let server = Processes::spawn(&mut command).unwrap();
    let address = (Ipv4Addr::LOCALHOST, port).into();
    wait_until("it answers", BOUND, || get(address, "/").is_ok());
    let url = format!("http://{address}");
    names(&Job::on("http.server", &url).refused(), &[&url, "404", "OpenEnv"]);
    // One that has such a file is no environment either.
    fs::write(directory.path().join("schema"), "hello").unwrap();
    names(&Job::on("schema", &url).refused(), &[&url, "OpenEnv", "not JSON"]);
    drop(server);
}

#[test]
fn what_answers_does_not_speak_http() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"220 mail.example ESMTP\r\n");
        }
    });
    names(&Job::on("smtp", &url).refused(), &[&url]);
}

#[test]
fn an_encrypted_url_on_a_plain_server() {
    let url = bench_server().url().replace("http://", "https://");
    names(&Job::on("https", &url).refused(), &[&url, "http"]);
}

#[test]
fn a_configuration_file_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("job.toml");
    let name = path.to_str().unwrap();
    for (text, words) in [
        ("sessions = = 3", vec!["line 1"]),
        ("sesions = 3", vec!["`sesions`", "did you mean `sessions`"]),
        ("[server]\nurl = 'x'", vec!["`server`"]),
        ("episodes = 'many'", vec!["`episodes`", "line 1"]),
        ("episodes = -1", vec!["`episodes`"]),
        ("policy = 'clever'", vec!["clever", "random", "constant"]),
        ("sessions = 0", vec!["sessions", "at least 1"]),
    ] {
        fs::write(&path, text).unwrap();
        let stderr = Job::new(text).args(["--config", name]).refused();
        names(&stderr, &words);
    }
    let missing = directory.path().join("missing.toml");
    let stderr = Job::new("missing").args(["--config".as_ref(), missing.as_os_str()]).refused();
    names(&stderr, &["missing.toml", "No such file"]);
}

#[test]
fn a_configuration_file_works_like_flags() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("job.toml");
    let text = format!(
        "env = '{}'\nepisodes = 7\nsessions = 3\nmax-steps = 4\npolicy = 'constant:{{}}'\n",
        bench_server().url()
    );
    fs::write(&path, text).unwrap();
    let config = ["--config", path.to_str().unwrap()];
    let played = Job::new("config").args(config).words("--episodes 5").play();
    played.all_played();
    assert_eq!((played.episodes("requested"), played.episodes("truncated")), (5, 5));
}

#[test]
fn flags_are_wrong() {
    for (arguments, words) in [
        ("--policy constant:[1]", ["constant", "object"]),
        ("--policy constant:{", ["constant", "JSON"]),
        ("--episodes 0", ["episodes", "at least 1"]),
        ("--sesions 4", ["--sesions", "--sessions"]),
        ("--session-reuse often", ["session-reuse", "unlimited"]),
        ("--reset-parameters 5", ["reset-parameters", "object"]),
        ("--ca /nonexistent/ca.pem --env https://localhost:1", ["/nonexistent/ca.pem", "PEM"]),
        ("--serve uvicorn", ["--serve", "{port}"]),
        ("--env http://localhost:1 --replicas 2", ["replicas", "--serve"]),
    ] {
        names(&Job::new(arguments).words(arguments).refused(), &words);
    }
}

/// Runs a job on the embedded server into `out`, which must be refused.
fn refused_into(out: &Path) -> String {
    let _watchdog = envmill_testing::Watchdog::start("refused", BOUND);
    let finished = EnvmillCommand::new(ENVMILL)
        .args(["run", "--json", "--env", "native:echo", "--max-steps", "2", "--episodes", "4"])
        .arg("--out")
        .arg(out)
        .run()
        .unwrap();
    assert_eq!(finished.code(), Some(2), "{finished:?}");
    assert_eq!(finished.stdout, "", "{finished:?}");
    finished.stderr
}

#[test]
fn the_output_directory_cannot_be_made() {
    names(&refused_into(Path::new("/proc/envmill")), &["/proc/envmill", "--out"]);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "precious").unwrap();
    names(&refused_into(&file), &["file", "--out"]);
    names(&refused_into(&file.join("below")), &["below", "--out"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
}

#[test]
fn earlier_trajectories_are_not_lost() {
    let directory = tempfile::tempdir().unwrap();
    let trajectories = directory.path().join("trajectories.jsonl");
    fs::write(&trajectories, "earlier\n").unwrap();
    names(&refused_into(directory.path()), &["already", "--overwrite", "--out"]);
    assert_eq!(fs::read_to_string(&trajectories).unwrap(), "earlier\n");
}

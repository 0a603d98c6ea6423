//! A server that vanishes without a packet: no FIN, no RST, and nothing that is sent to it is acknowledged.

use std::{
    net::TcpStream,
    process::{self, Command, Output, Stdio},
};

use envmill_testing::{Processes, python, script, wait_until};

use crate::rig::{BOUND, Job};

const PORT: u16 = 8000;

/// A network of its own for a server, with a wire to it. Needs root and `ip`.
struct Apart {
    namespace: String,
    wire: String,
    server: Option<Processes>,
}

impl Apart {
    const ADDRESS: &str = "198.18.77.2";

    /// `None`, with a message, where this machine lets nobody make one.
    fn make() -> Option<Self> {
        let id = process::id();
        let (namespace, wire) = (format!("envmill-{id}"), format!("evm{id}"));
        let made = Self { namespace, wire, server: None };
        let Self { namespace, wire, .. } = &made;
        let end = format!("{wire}n");
        let address = format!("{}/30", Self::ADDRESS);
        for line in [
            format!("netns add {namespace}"),
            format!("link add {wire} type veth peer name {end} netns {namespace}"),
            format!("addr add 198.18.77.1/30 dev {wire}"),
            format!("link set {wire} up"),
            format!("-n {namespace} addr add {address} dev {end}"),
            format!("-n {namespace} link set {end} up"),
            format!("-n {namespace} link set lo up"),
        ] {
            let refused = match ip(&line) {
                Ok(output) if output.status.success() => continue,
                Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
                Err(error) => error.to_string(),
            };
            #[expect(clippy::print_stderr, reason = "whoever reads the tests' output is told")]
            {
                eprintln!(
                    "skipped, because this machine gives no network of its own: ip {line}: {refused}"
                );
            }
            return None;
        }
        Some(made)
    }

    /// Starts `bench_env` there.
    fn serve(&mut self) {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.namespace])
            .arg(python().unwrap())
            .arg(script("serve.py"))
            .args(["bench_env:app", "--app-dir"])
            .arg(script("servers"))
            .args(["--host", Self::ADDRESS, "--port", &PORT.to_string()])
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.server = Some(Processes::spawn(&mut command).unwrap());
        wait_until("the server apart listens", BOUND, || {
            TcpStream::connect((Self::ADDRESS, PORT)).is_ok()
        });
    }

    fn url() -> String {
        format!("http://{}:{PORT}", Self::ADDRESS)
    }

    /// Whatever comes there is dropped from now on, and nothing comes from there.
    fn vanish(&self) {
        // This side goes on to believe that it knows the way.
        let told = ip(&format!("-n {} -o link show dev {}n", self.namespace, self.wire)).unwrap();
        let told = String::from_utf8(told.stdout).unwrap();
        let hardware = told.split("link/ether ").nth(1).unwrap().split(' ').next().unwrap();
        for line in [
            format!(
                "neigh replace {} lladdr {hardware} nud permanent dev {}",
                Self::ADDRESS,
                self.wire
            ),
            format!("-n {} link set {}n arp off", self.namespace, self.wire),
            format!("-n {} addr flush dev {}n", self.namespace, self.wire),
        ] {
            let output = ip(&line).unwrap();
            assert!(output.status.success(), "ip {line}: {output:?}");
        }
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        drop(self.server.take());
        // What was not made is not there to be removed.
        let _ = ip(&format!("link del {}", self.wire));
        let _ = ip(&format!("netns del {}", self.namespace));
    }
}

fn ip(line: &str) -> std::io::Result<Output> {
    Command::new("ip").args(line.split(' ')).output()
}

#[test]
fn a_server_that_vanishes_without_a_packet_costs_its_sessions_and_no_episode_is_lost() {
    let Some(mut apart) = Apart::make() else { return };
    apart.serve();
    let mut playing = Job::on("vanished", &Apart::url())
        .words("--episodes 200 --sessions 8 --attempts 2 --step-timeout-ms 1000")
        .words("--connect-timeout-ms 1000 --first-reset-timeout-ms 1000 --reset-timeout-ms 1000")
        .words("--no-server-timeout-ms 4000")
        .args(["--policy", r#"constant:{"sleep_s":0.02,"done_at":20}"#])
        .start();
    playing.wait_for_records(10);
    apart.vanish();
    let played = playing.end();
    assert_eq!(played.code(), Some(3));
    assert!(played.episodes("completed") >= 10, "{}", played.summary);
    // Those that were in flight by their deadline; of the rest it is said that nobody was there.
    let causes = played.attempt_causes();
    assert!(causes.contains("deadline_step"), "{causes:?}");
    let known =
        ["deadline_step", "deadline_reset", "deadline_connect", "unreachable", "disconnected"];
    assert!(causes.iter().all(|cause| known.contains(cause)), "{causes:?}");
    assert!(played.failures().contains_key("no_server"), "{:?}", played.failures());
    let told = played.records.iter().flat_map(|record| &record.attempts);
    let told: Vec<_> = told.filter(|it| it.cause == "deadline_step").collect();
    assert!(told.iter().all(|it| it.message.contains("1s")), "{told:?}");
    played.steps_in_order();
}

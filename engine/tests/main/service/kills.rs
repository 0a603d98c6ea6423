//! Whatever dies, the trainer ends with exactly what it has asked for.

use std::{env, fs};

use envmill_testing::{PythonServer, Running, Watchdog, wait_until};
use serde_json::Value;

use super::rig::{Service, THREE_STEPS, account, bench};
use crate::rig::BOUND;

/// `ENVMILL_KILLS=10 ENVMILL_EPISODES=20000` is the run by hand.
fn size(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[test]
fn engine_trainer_and_servers_are_killed_and_nothing_is_lost() {
    let (kills, episodes) = (size("ENVMILL_KILLS", 4), size("ENVMILL_EPISODES", 1200));
    let _watchdog = Watchdog::start("kills", BOUND * u32::try_from(1 + episodes / 1000).unwrap());
    let mut servers = [0; 3].map(|_| PythonServer::of("bench_env").unwrap());
    let mut service = Service::start(&bench(&servers));
    let train = |service: &Service| -> Running {
        let more = ["--action", THREE_STEPS, "--samples", "4"];
        service.trainer("bench", episodes, &more).start().unwrap()
    };
    let mut trainer = train(&service);
    for round in 0..kills {
        // Somewhere in the middle of the stream, each time further on.
        let wanted = episodes * (round + 1) / (kills + 2);
        wait_until("records come", BOUND * 4, || {
            received(&service) >= wanted || !trainer.is_running()
        });
        match round % 4 {
            0 => {
                service.kill();
                service.begin();
            }
            1 => {
                trainer.kill();
                trainer = train(&service);
            }
            2 => {
                servers[0].kill();
                servers[0].restart().unwrap();
            }
            _ => {
                service.kill();
                trainer.kill();
                service.begin();
                trainer = train(&service);
            }
        }
    }
    let account = account(&trainer.wait());
    assert_eq!(account["received"], account["requested"], "{account}");
    assert_eq!(account["requested"], episodes, "{account}");
    let finished = service.end();
    assert_eq!(finished.code(), Some(0), "{finished:?}");
    for audit in service.audits() {
        assert_eq!(audit.code(), Some(0), "{audit:?}");
    }
}

fn received(service: &Service) -> u64 {
    let log = fs::read_to_string(service.path("log.jsonl")).unwrap_or_default();
    let is_trajectory = |line: &&str| {
        serde_json::from_str::<Value>(line).is_ok_and(|entry| entry["kind"] == "trajectory")
    };
    log.lines().filter(is_trajectory).count() as u64
}

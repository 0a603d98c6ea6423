//! A trainer that was written from the .proto files alone.

use envmill_testing::{PythonServer, Watchdog};

use super::rig::{Service, THREE_STEPS, account, bench};
use crate::rig::BOUND;

#[test]
fn a_plain_grpcio_program_accounts_for_every_episode_over_three_servers() {
    let _watchdog = Watchdog::start("plain grpcio", BOUND);
    let servers = [0; 3].map(|_| PythonServer::of("bench_env").unwrap());
    let mut service = Service::start(&bench(&servers));
    let episodes = 500;
    let trainer = service.trainer("bench", episodes, &["--action", THREE_STEPS]);
    let account = account(&trainer.run().unwrap());
    assert_eq!(account["received"], episodes, "{account}");
    assert_eq!(account["completed"], episodes, "{account}");
    let finished = service.end();
    assert_eq!(finished.code(), Some(0), "{finished:?}");
    for audit in service.audits() {
        assert_eq!(audit.code(), Some(0), "{audit:?}");
    }
}

#[test]
fn groups_come_as_a_whole_to_a_plain_grpcio_program() {
    let _watchdog = Watchdog::start("plain grpcio groups", BOUND);
    let service = Service::start("[environments.cartpole]\nenv = \"native:cartpole\"\n");
    let more = ["--samples", "4", "--max-steps", "50"];
    let account = account(&service.trainer("cartpole", 200, &more).run().unwrap());
    assert_eq!((&account["received"], &account["groups"]), (&200.into(), &50.into()), "{account}");
}

#[test]
fn what_is_not_configured_cannot_be_asked_for() {
    let _watchdog = Watchdog::start("not configured", BOUND);
    let service = Service::start("[environments.cartpole]\nenv = \"native:cartpole\"\n");
    for environment in ["http://127.0.0.1:1", "native:echo", "openenv-class:os:system"] {
        let finished = service.trainer(environment, 1, &[]).run().unwrap();
        assert_ne!(finished.code(), Some(0));
        assert!(finished.stderr.contains("there is no"), "{}", finished.stderr);
    }
}

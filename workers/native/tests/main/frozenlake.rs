//! FrozenLake against Gymnasium's transition table and what it played.

use envmill_native::{BatchEnv, Columns, FrozenLake, FrozenLakeOptions, Reset};
use envmill_protocol::Ended;
use serde::Deserialize;

use crate::support::{Sessions, parameters, text};

const RECORDED: &str = include_str!("../fixtures/frozenlake_v1.json");

/// How often each move is taken where it may slip: one outcome in three is then missed with a
/// probability of (2/3)^300, and a share is off by 0.1 with less than 1e-3 (and the seeds are fixed).
const TRIES: usize = 300;

#[derive(Deserialize)]
struct Recorded {
    lakes: Vec<Lake>,
}

#[derive(Deserialize)]
struct Lake {
    map: String,
    slippery: bool,
    table: Vec<Vec<Vec<Outcome>>>,
    trajectories: Vec<Vec<Move>>,
}

/// Probability, cell, reward, terminated.
type Outcome = (f64, u8, f64, bool);

/// Action, cell, reward, terminated, truncated.
type Move = (u8, u8, f64, bool, bool);

fn recorded() -> Vec<Lake> {
    serde_json::from_str::<Recorded>(RECORDED).expect("the recording").lakes
}

/// One step of each action from each cell, many times over, has the outcomes of the table with their
/// probabilities.
#[test]
fn transitions_are_gymnasiums() {
    for lake in recorded() {
        let mut game = FrozenLake::new(FrozenLakeOptions {
            map: lake.map.parse().expect("a known map"),
            slippery: lake.slippery,
        });
        game.resize(TRIES);
        for (cell, actions) in lake.table.iter().enumerate() {
            for (action, expected) in actions.iter().enumerate() {
                check(&mut game, cell as u8, action as u8, expected);
            }
        }
    }
}

fn check(game: &mut FrozenLake, cell: u8, action: u8, expected: &[Outcome]) {
    let resets: Vec<_> =
        (0..TRIES as u64).map(|seed| Reset { seed: Some(seed), start: Some(cell) }).collect();
    let mut cells = vec![0; TRIES];
    let (mut rewards, mut terminated) = (vec![9.0; TRIES], vec![9; TRIES]);
    game.reset_range(0..TRIES, &vec![1; TRIES], &resets, &mut cells);
    assert!(cells.iter().all(|shown| *shown == cell));
    game.step_range(
        0..TRIES,
        &vec![action; TRIES],
        &mut Columns {
            observations: &mut cells,
            rewards: &mut rewards,
            terminated: &mut terminated,
            truncated: &mut vec![0; TRIES],
            failed: &mut vec![0; TRIES],
            delays_ns: &mut vec![0; TRIES],
        },
    );
    // Several outcomes of the table may lead to one cell.
    for (_, to, reward, ends) in expected {
        let probability: f64 =
            expected.iter().filter(|outcome| outcome.1 == *to).map(|outcome| outcome.0).sum();
        let here: Vec<usize> = (0..TRIES).filter(|i| cells[*i] == *to).collect();
        let share = here.len() as f64 / TRIES as f64;
        let close = (share - probability).abs() < 0.1;
        assert!(close, "{cell} {action}: {to} in {share} of the tries, not {probability}");
        assert!(here.iter().all(|&i| rewards[i] == *reward && terminated[i] == u8::from(*ends)));
    }
    let possible = |cell: &u8| expected.iter().any(|outcome| outcome.1 == *cell);
    assert!(cells.iter().all(possible), "{cell} {action}: {cells:?}");
}

/// Whole trajectories through the worker. On a slippery lake the moves are made one by one from the
/// cells before them, since no seed slips as it does in Gymnasium.
#[test]
fn trajectories_are_gymnasiums() {
    for lake in recorded().iter().filter(|lake| !lake.slippery) {
        let options = parameters(&[("map", &lake.map), ("slippery", "false")]);
        for trajectory in &lake.trajectories {
            let mut sessions = Sessions::with_session("frozenlake", &options);
            sessions.reset("{}");
            for (i, (action, cell, reward, terminated, truncated)) in trajectory.iter().enumerate()
            {
                let observed = sessions.step(&format!("{{\"action\":{action}}}"));
                let shown: serde_json::Value =
                    serde_json::from_slice(&observed.observation).expect("JSON");
                assert_eq!(shown["state"], *cell, "{} at {i}", lake.map);
                assert_eq!(observed.reward.value, Some(*reward));
                let ended = if *terminated {
                    Some(Ended::Terminated)
                } else {
                    truncated.then_some(Ended::Truncated)
                };
                assert_eq!(observed.ended, ended, "{} at {i}", lake.map);
            }
        }
    }
}

/// Gymnasium's limits on steps, which the recording of the slippery lakes shows too.
#[test]
fn episodes_are_cut_at_gymnasiums_limit() {
    for lake in recorded() {
        let longest = lake.trajectories.iter().map(Vec::len).max().expect("trajectories");
        let options = parameters(&[("map", &lake.map), ("slippery", "false")]);
        let mut sessions = Sessions::with_session("frozenlake", &options);
        sessions.reset("{}");
        let limit = (1..1000)
            .find(|_| sessions.step(r#"{"action":0}"#).ended == Some(Ended::Truncated))
            .expect("a limit");
        assert!(longest <= limit);
        assert_eq!(limit, if lake.map == "4x4" { 100 } else { 200 });
    }
}

#[test]
fn what_it_shows_and_refuses() {
    let options = parameters(&[("slippery", "false")]);
    let mut sessions = Sessions::with_session("frozenlake", &options);
    let first = sessions.reset(r#"{"state":14}"#);
    assert_eq!(text(&first.observation), r#"{"metadata":{},"state":14}"#);
    assert_eq!(text(&first.reward.raw), "null");
    let last = sessions.step(r#"{"action":2}"#);
    assert_eq!(text(&last.observation), r#"{"metadata":{"truncated":false},"state":15}"#);
    assert_eq!((text(&last.reward.raw), last.ended), ("1.0", Some(Ended::Terminated)));
    let beyond = sessions.step(r#"{"action":0}"#);
    assert_eq!((beyond.reward.value, beyond.ended), (Some(0.0), Some(Ended::Terminated)));
    let refused = sessions.try_step(r#"{"action":4}"#).expect_err("refused").message;
    assert_eq!(refused, "action: Input should be 0, 1, 2 or 3");
    let envmill_protocol::Outcome::Failed(failure) = sessions.ask(
        0,
        envmill_protocol::Request::Reset {
            parameters: bytes::Bytes::from_static(b"{\"state\":16}"),
        },
    ) else {
        panic!("not refused");
    };
    assert_eq!(failure.message, "state: Input should be a cell from 0 to 15");
}

//! The game of words as its players see it.

use envmill_protocol::Ended;
use serde_json::Value;

use crate::support::{Sessions, parameters, text};

fn guess(sessions: &mut Sessions, word: &str) -> (Value, Option<f64>, Option<Ended>) {
    let observed = sessions.step(&format!("{{\"guess\":\"{word}\"}}"));
    let shown = serde_json::from_slice(&observed.observation).expect("JSON");
    (shown, observed.reward.value, observed.ended)
}

#[test]
fn a_game_reads_as_it_was_played() {
    let mut sessions = Sessions::with_session("wordguess", &parameters(&[]));
    let first = sessions.reset(r#"{"answer":"Crane"}"#);
    let first: Value = serde_json::from_slice(&first.observation).expect("JSON");
    assert!(first["text"].as_str().is_some_and(|text| text.starts_with("Guess the five-letter")));
    let (shown, reward, ended) = guess(&mut sessions, "brain");
    assert_eq!(
        (shown["text"].as_str(), shown["guesses_left"].as_u64()),
        (Some("brain -GG-Y"), Some(5))
    );
    assert_eq!((reward, ended), (Some(0.1), None));
    let (shown, reward, _) = guess(&mut sessions, "qqqqq");
    assert_eq!(shown["text"], "brain -GG-Y\nqqqqq is not on the list");
    assert_eq!(reward, Some(-0.1));
    let (_, reward, _) = guess(&mut sessions, "BRAIN");
    assert_eq!(reward, Some(0.0), "places are paid for once");
    let (shown, reward, ended) = guess(&mut sessions, "crane");
    assert!(shown["text"].as_str().is_some_and(|text| text.ends_with("\ncrane GGGGG\nSolved.")));
    assert_eq!((reward, ended), (Some(0.75), Some(Ended::Terminated)));
    assert_eq!(shown["metadata"]["solved"], true);
}

#[test]
fn six_guesses_end_it_and_tell_the_word() {
    let mut sessions = Sessions::with_session("wordguess", &parameters(&[]));
    sessions.reset(r#"{"answer":"crane"}"#);
    let mut lengths = Vec::new();
    for left in (0..6).rev() {
        let (shown, _, ended) = guess(&mut sessions, "yacht");
        lengths.push(shown["text"].as_str().map(str::len));
        assert_eq!(ended.is_some(), left == 0);
        if left == 0 {
            assert!(
                shown["text"].as_str().is_some_and(|text| text.ends_with("The word was crane."))
            );
        }
    }
    assert!(lengths.is_sorted_by(|a, b| a < b), "{lengths:?}");
    let (_, reward, ended) = guess(&mut sessions, "crane");
    assert_eq!((reward, ended), (Some(0.0), Some(Ended::Terminated)), "too late");
}

/// Playing what the hints allow always keeps the answer among them, and nearly always finds it.
#[test]
fn hints_narrow_down_to_the_answer() {
    let mut solved = 0;
    for seed in 0..50 {
        let mut sessions = Sessions::with_session("wordguess", &parameters(&[("hints", "true")]));
        let mut shown: Value =
            serde_json::from_slice(&sessions.reset(&format!("{{\"seed\":{seed}}}")).observation)
                .expect("JSON");
        let mut before = usize::MAX;
        loop {
            let allowed = shown["legal_actions"].as_array().expect("a list").clone();
            assert!(!allowed.is_empty() && allowed.len() < before);
            before = allowed.len();
            let word = allowed[seed % allowed.len()].as_str().expect("a word").to_owned();
            let (next, _, ended) = guess(&mut sessions, &word);
            if ended.is_some() {
                assert_eq!(next["legal_actions"].as_array().map(Vec::len), Some(0));
                solved += u32::from(next["metadata"]["solved"] == true);
                break;
            }
            shown = next;
        }
    }
    assert!(solved >= 45, "{solved} of 50");
}

#[test]
fn what_is_no_word_is_refused() {
    let mut sessions = Sessions::with_session("wordguess", &parameters(&[]));
    let before = sessions.reset(r#"{"seed":1}"#);
    for wrong in ["{}", r#"{"guess":"four"}"#, r#"{"guess":"fünf!"}"#, r#"{"guess":5}"#] {
        let failure = sessions.try_step(wrong).expect_err("refused");
        assert!(failure.message.starts_with("guess: "), "{}", failure.message);
    }
    assert_eq!(text(&sessions.reset(r#"{"seed":1}"#).observation), text(&before.observation));
}

//! Summaries, filters, lists and single episodes.

use std::{fs, process::Stdio};

use envmill_testing::Watchdog;
use serde_json::json;

use super::{COLLECTED, CONVERSATION, inspect, inspect_with, play, told};
use crate::rig::{BOUND, ENVMILL, quirk_server};

#[test]
fn every_form_comes_to_the_same() {
    let _watchdog = Watchdog::start("inspect forms", BOUND);
    let directory = tempfile::tempdir().unwrap();
    let job = "--env native:cartpole --groups 6 --samples 4 --seed 3 --format";
    for form in ["jsonl", "arrow", "parquet"] {
        let out = directory.path().join(form);
        play(&out, &format!("{job} {form}"));
        let summary = told(&out, "", 0);
        assert_eq!(summary["records"], 24, "{summary}");
        assert_eq!(summary["ends"], json!({"completed": {"terminated": 24}}));
        assert_eq!(summary["files"][0]["form"], form);
        assert_eq!(summary["groups"]["count"], 6);
        assert_eq!(summary["groups"]["lines"]["complete"], 6);
        assert_eq!(summary["groups"]["begin_differently"], 0);
        assert_eq!(summary["seeds"]["different"], 6);
        assert_eq!(summary["returns"]["scored"], 24);
        assert_eq!(
            summary["steps"].as_f64(),
            summary["returns"]["figures"]["mean"].as_f64().map(|it| (it * 24.0).round())
        );
        assert_eq!(summary["jobs"][0]["policy"], "random");
    }
    // A directory with several.
    let all = told(directory.path(), "", 0);
    assert_eq!((&all["records"], all["files"].as_array().unwrap().len()), (&json!(72), 3));
    let text = inspect(directory.path(), "");
    assert_eq!(text.code(), Some(0));
    assert!(text.stdout.contains("72 in 3 files (arrow, jsonl, parquet)"), "{}", text.stdout);
}

#[test]
fn filters_limits_and_orders_hold_for_every_mode() {
    let _watchdog = Watchdog::start("inspect filters", BOUND);
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("run");
    play(&out, "--env native:cartpole --episodes 30 --seed 5 --max-steps 20");
    let lines = |words: &str| -> Vec<serde_json::Value> {
        let finished = inspect(&out, &format!("--list --json {words}"));
        assert_eq!(finished.code(), Some(0), "{finished:?}");
        finished.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let all = lines("");
    assert_eq!(all.len(), 30);
    let cut = all.iter().filter(|it| it["end"] == "truncated").count();
    assert!(cut > 0 && cut < 30);
    assert_eq!(lines("--end truncated").len(), cut);
    assert_eq!(lines("--cause max_steps").len(), cut);
    assert_eq!(lines("--end completed,truncated").len(), 30);
    // One may have ended by itself in the last step that it had.
    let steps = |it: &serde_json::Value| it["steps"].as_u64().unwrap();
    let long = all.iter().filter(|it| steps(it) == 20).count();
    assert_eq!(lines("--steps <20").len(), 30 - long);
    assert_eq!(lines("--reward >=20").len(), long);
    assert_eq!(lines("--reward unscored").len(), 0);
    assert_eq!(lines("--episode 3,7-9").len(), 4);
    assert_eq!(lines("--seed 6").len(), 1);
    assert_eq!(lines("--episode 3 --seed 6").len(), 0);
    assert_eq!(told(&out, "--end truncated", 0)["records"], cut);
    let sorted = lines("--sort steps --limit 5");
    assert_eq!(sorted.len(), 5);
    assert!(sorted.is_sorted_by_key(|it| std::cmp::Reverse(steps(it))));
    let least = lines("--sort steps --reverse --limit 1");
    assert_eq!(Some(steps(&least[0])), all.iter().map(steps).min());
    assert_eq!(told(&out, "--sort reward --limit 3", 0)["returns"]["figures"]["max"], 20.0);
    let shown = inspect(&out, "--show 3");
    assert!(shown.stdout.contains("-00000003") && shown.stdout.contains("step 0"), "{shown:?}");
    let shown = inspect(&out, "--show --end truncated");
    assert!(shown.stdout.contains("truncated: max_steps"), "{shown:?}");
    for wrong in ["--end done", "--reward x", "--episode 9-3", "--show 99", "--sort id", "--force"]
    {
        let refused = inspect(&out, wrong);
        assert_eq!(refused.code(), Some(2), "{refused:?}");
        assert_eq!(refused.stdout, "", "{refused:?}");
    }
}

#[test]
fn tokens_are_shown_as_text_with_a_tokenizer() {
    let _watchdog = Watchdog::start("inspect tokens", BOUND);
    let directory = tempfile::tempdir().unwrap();
    let records = directory.path().join("records.jsonl");
    // Token ids of the fixture's vocabulary, in which bytes stand for themselves.
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/chat/tests/fixtures/bytes");
    let model = envmill_chat::Model::load(folder).unwrap();
    let ids = model.encode("Where?Left!").unwrap();
    let prompt = model.encode("Where?").unwrap().len();
    let mut record: serde_json::Value = serde_json::from_str(CONVERSATION).unwrap();
    let mask: Vec<u8> = (0..ids.len()).map(|at| u8::from(at >= prompt)).collect();
    record["tokens"] = json!({"token_ids": ids, "prompt_len": prompt, "loss_mask": mask,
        "logprobs": vec![-0.5; mask.len()], "policy_versions": []});
    record["turns"] = json!([]);
    fs::write(&records, format!("{record}\n")).unwrap();
    for tokenizer in [folder.to_owned(), format!("{folder}/tokenizer.json")] {
        let shown = inspect(&records, &format!("--show --tokenizer {tokenizer}"));
        assert_eq!(shown.code(), Some(0), "{shown:?}");
        let lines: Vec<_> = shown.stdout.lines().map(str::trim).collect();
        assert!(lines.contains(&"Where?") && lines.contains(&"▶ Left!"), "{}", shown.stdout);
    }
    assert!(!inspect(&records, "--show").stdout.contains("Where?"));
    for wrong in ["--show --tokenizer none.json", "--show --json --tokenizer x", "--tokenizer x"] {
        let refused = inspect(&records, wrong);
        assert_eq!(refused.code(), Some(2), "{refused:?}");
        assert!(refused.stderr.contains("--tokenizer"), "{refused:?}");
    }
}

#[test]
fn what_a_server_says_never_acts_on_the_terminal() {
    let _watchdog = Watchdog::start("inspect escapes", BOUND);
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("run");
    // The server says back what it is told.
    let action = r#"constant:{"what":"\u001b[2J\u001b]0;owned\u0007\u009b31m"}"#;
    let arguments =
        ["--env", &quirk_server().url(), "--episodes", "2", "--max-steps", "2", "--policy", action];
    let finished = crate::plain::envmill(&out).args(arguments).run().unwrap();
    assert_eq!(finished.code(), Some(0), "{finished:?}");
    for words in
        ["", "--list", "--show", "--show --full", "--show --json", "--json", "--list --json"]
    {
        let shown = inspect(&out, words);
        assert_eq!(shown.code(), Some(0), "{shown:?}");
        let acts = |it: char| it.is_control() && it != '\n';
        assert!(!shown.stdout.contains(acts) && !shown.stderr.contains(acts), "{words}: {shown:?}");
    }
    // What is no record may be of control characters, too.
    let path = directory.path().join("wild");
    fs::write(&path, "{\"schema_version\":1,\"\u{9b}31m\":\u{1b}[2J\n").unwrap();
    let refused = inspect(&path, "");
    assert_eq!(refused.code(), Some(2));
    assert!(!refused.stderr.contains(['\u{1b}', '\u{9b}']), "{refused:?}");
}

#[test]
fn torn_files_are_read_and_told_of_and_wrong_ones_refused() {
    let _watchdog = Watchdog::start("inspect damage", BOUND);
    let directory = tempfile::tempdir().unwrap();
    for form in ["jsonl", "arrow"] {
        let out = directory.path().join(form);
        play(&out, &format!("--env native:cartpole --episodes 40 --format {form}"));
        let name = if form == "jsonl" { "trajectories.jsonl" } else { "trajectories.arrows" };
        let bytes = fs::read(out.join(name)).unwrap();
        let torn = directory.path().join(format!("torn-{form}"));
        // In the middle of the last line, or of the one batch.
        fs::write(&torn, &bytes[..bytes.len() - 200]).unwrap();
        let summary = told(&torn, "", 0);
        assert_eq!(summary["files"][0]["is_torn"], true, "{summary}");
        assert_eq!(summary["records"], if form == "jsonl" { 39 } else { 0 });
        let text = inspect(&torn, "");
        assert!(text.stdout.contains("torn"), "{text:?}");
        let listed = inspect(&torn, "--list");
        assert!(listed.code() == Some(0) && !listed.stderr.is_empty(), "{listed:?}");
    }
    let whole = fs::read_to_string(directory.path().join("jsonl/trajectories.jsonl")).unwrap();
    let damaged = directory.path().join("damaged");
    let mut lines: Vec<&str> = whole.lines().collect();
    lines[10] = "{}";
    fs::write(&damaged, lines.join("\n") + "\n").unwrap();
    let summary = told(&damaged, "", 1);
    assert_eq!((&summary["records"], &summary["files"][0]["is_torn"]), (&json!(10), &json!(false)));

    let wrong = directory.path().join("wrong");
    for text in ["hello\n", "hello", "{}\n", "[1]\n", "PAR1", "\u{ff}\u{ff}"] {
        fs::write(&wrong, text).unwrap();
        let refused = inspect(&wrong, "");
        assert_eq!(refused.code(), Some(2), "{text}: {refused:?}");
        assert!(refused.stderr.contains("wrong"), "{refused:?}");
    }
    let empty = directory.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let refused = inspect(&empty, "");
    assert!(
        refused.code() == Some(2) && refused.stderr.contains("holds no recording"),
        "{refused:?}"
    );
    assert_eq!(inspect(directory.path().join("none"), "").code(), Some(2));
}

#[test]
fn what_openenv_has_collected_is_looked_into() {
    let _watchdog = Watchdog::start("inspect collected", BOUND);
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("results.jsonl"), COLLECTED).unwrap();
    let summary = told(directory.path(), "", 0);
    assert_eq!(
        (&summary["records"], &summary["files"][0]["form"]),
        (&json!(3), &json!("episode-record"))
    );
    assert_eq!(summary["ends"]["completed"]["terminated (unmapped)"], 3);
    let shown = inspect_with(directory.path(), ["--show", "ep-000001"]);
    assert!(
        shown.stdout.contains("play_move") && shown.stdout.contains("tic_tac_toe"),
        "{shown:?}"
    );
    // Its recordings begin nowhere, so they cannot be played again.
    let refused = inspect_with(directory.path(), ["--replay", "native:cartpole"]);
    assert!(refused.code() == Some(2) && refused.stderr.contains("played again"), "{refused:?}");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let _watchdog = Watchdog::start("inspect head", BOUND);
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("run");
    play(&out, "--env native:cartpole --episodes 500");
    let mut child = std::process::Command::new(ENVMILL)
        .args(["inspect", "--list", "--json"])
        .arg(&out)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success() && ended.stderr.is_empty(), "{ended:?}");
}

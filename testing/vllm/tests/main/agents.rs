//! Agents whose reasoning is cut short, and agents in code.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use envmill_testing::PythonServer;
use serde_json::Value;

use crate::{drift::repository, rig};

/// Plays words_env with an agent's file, and gives the records and the summary.
fn play(
    name: &str,
    agent: &str,
    episodes: usize,
    more: &[(&str, &Path)],
) -> (PathBuf, Vec<Value>, Value) {
    play_on(&["--env", "openenv-class:words_env:WordsEnv"], name, agent, episodes, more)
}

/// The same on another environment.
fn play_on(
    environment: &[&str],
    name: &str,
    agent: &str,
    episodes: usize,
    more: &[(&str, &Path)],
) -> (PathBuf, Vec<Value>, Value) {
    let server = rig::python();
    let folder = std::env::temp_dir().join(format!("envmill-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("agent.toml"), agent).unwrap();
    let mut command = Command::new(rig::envmill());
    command
        .args(["run", "--quiet", "--overwrite"])
        .args(environment)
        .args(["--json", "--sessions", "16", "--attempts", "1"])
        .args(["--episodes", &episodes.to_string()])
        .arg("--python")
        .arg(repository().join(".venv/bin/python"))
        .arg("--python-path")
        .arg(repository().join("testing/python/servers"))
        .args(["--policy", &format!("vllm:{}", server.url())])
        .arg("--agent")
        .arg(folder.join("agent.toml"))
        .arg("--out")
        .arg(&folder)
        .envs(more.iter().copied());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let summary = serde_json::from_str(text.trim()).unwrap_or_else(|_| {
        panic!("{text}{}", String::from_utf8_lossy(&output.stderr));
    });
    let records = std::fs::read_to_string(folder.join("trajectories.jsonl")).unwrap();
    let records: Vec<Value> = records.lines().map(rig::record).collect();
    assert_eq!(records.len(), episodes, "{summary}");
    (folder, records, summary)
}

fn ids(value: &Value) -> Vec<u64> {
    value.as_array().unwrap().iter().map(|it| it.as_u64().unwrap()).collect()
}

/// Each generation's prompt begins with what was before it, and the record's tokens are the last one's.
fn is_exact(record: &Value) {
    let generations = record["generations"].as_array().unwrap();
    let mut before: Vec<u64> = Vec::new();
    for it in generations {
        let prompt = ids(&it["prompt_token_ids"]);
        assert!(prompt.starts_with(&before), "{record}");
        before = [prompt, ids(&it["token_ids"])].concat();
    }
    assert_eq!(ids(&record["tokens"]["token_ids"]), before);
    let sampled: usize =
        generations.iter().map(|it| it["token_ids"].as_array().unwrap().len()).sum();
    assert_eq!(ids(&record["tokens"]["loss_mask"]).iter().sum::<u64>(), sampled as u64);
}

#[test]
fn reasoning_is_cut_at_its_budget() {
    // A model that reasons on and on: the template begins, and random weights do not end it.
    let template = "{% for it in messages %}{{ '<|im_start|>' + it.role + '\\n' + it.content + '<|im_end|>\\n' }}\
        {% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n<think>\\n' }}{% endif %}";
    let agent = format!(
        "[chat]\ntemplate_source = '''{template}'''\nrewrites = 'keep'\n[action.parser.text]\nfield = 'message'\n\
         [limits]\nturn_tokens = 20\nreasoning_tokens = 12\n[malformed]\nagain = 0\n"
    );
    let (folder, records, summary) = play("reasoning", &agent, 12, &[]);
    assert_eq!(summary["episodes"]["completed"], 12, "{summary}");
    let mut cut = 0;
    for record in &records {
        is_exact(record);
        let generations = record["generations"].as_array().unwrap();
        for (index, pair) in generations.windows(2).enumerate() {
            let [first, second] = [0, 1].map(|it| ids(&pair[it]["prompt_token_ids"]));
            let sampled = ids(&pair[0]["token_ids"]);
            if sampled.len() == 12 && pair[1]["parent"] == index {
                // What ended it was not sampled, and is the same each time.
                let forced = &second[first.len() + sampled.len()..];
                assert!(!forced.is_empty() && forced.len() < 12, "{forced:?}");
                cut += 1;
            }
            assert!(sampled.len() <= 12, "{pair:?}");
        }
    }
    assert!(cut >= 24, "{cut}");
    assert!(summary["policy"]["reasoning_cut"].as_f64().unwrap() >= 24.0, "{summary}");
    std::fs::remove_dir_all(&folder).unwrap();

    // No reasoning at all: what the template has begun is ended before anything is sampled.
    let agent = agent.replace("reasoning_tokens = 12", "reasoning_tokens = 0");
    let (folder, records, summary) = play("no-reasoning", &agent, 8, &[]);
    let policy = &summary["policy"];
    assert_eq!(policy["reasoning_cut"], policy["generations"], "{summary}");
    records.iter().for_each(is_exact);
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Tools that an environment has beside its actions, or has alone, are listed and shown to the model; what it
/// says without calling any is its answer.
#[test]
fn tools_are_listed_where_no_action_lists_them() {
    let server = PythonServer::of("answer_env").unwrap();
    let url = server.url();
    let agent = "[action.parser.tool_calls]\nformat = 'hermes'\n[tools]\nfrom_environment = true\n\
        answer_field = 'answer'\n[limits]\nturn_tokens = 8\n";
    // A class that names its models nowhere else.
    let class = "openenv-class:answer_env:AnswerEnv?action=answer_env:AnswerAction\
        &observation=answer_env:AnswerObservation";
    for environment in [url.as_str(), class] {
        let environment = ["--env", environment, "--start-timeout-ms", "240000"];
        let (folder, records, summary) = play_on(&environment, "beside", agent, 8, &[]);
        assert_eq!(summary["episodes"]["completed"], 8, "{summary}");
        for record in &records {
            is_exact(record);
            let steps = record["steps"].as_array().unwrap();
            assert_eq!(steps.len(), 2, "{record}");
            assert_eq!(steps[0]["action"]["type"], "list_tools", "{record}");
            let tools = steps[0]["observation"]["tools"].as_array().unwrap();
            assert!(tools.iter().any(|it| it["name"] == "add"), "{record}");
            assert!(steps[1]["action"]["answer"].is_string(), "{record}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
    // Over POST /mcp there is nothing but tools, so that nothing but a call of one is an action.
    let agent = agent.replace("answer_field = 'answer'\n", "") + "[malformed]\nagain = 0\n";
    let environment = ["--env", &url, "--transport", "mcp-http", "--max-steps", "4"];
    let (folder, records, summary) = play_on(&environment, "mcp", &agent, 4, &[]);
    assert_eq!(summary["episodes"]["truncated"], 4, "{summary}");
    for record in &records {
        let steps = record["steps"].as_array().unwrap();
        assert_eq!(steps[0]["action"]["type"], "list_tools", "{record}");
        let tools = steps[0]["observation"]["tools"].as_array().unwrap();
        assert!(tools.iter().any(|it| it["name"] == "add"), "{record}");
        assert!(!record["generations"].as_array().unwrap().is_empty(), "{record}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

fn ends(records: &[Value]) -> BTreeMap<u64, (String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let end = |record: &Value| {
        let end = &record["end"];
        let message = format!("{} {}", text(&end["cause"]), text(&end["message"]));
        (record["group_id"].as_u64().unwrap(), (text(&end["kind"]), message))
    };
    records.iter().map(end).collect()
}

#[test]
fn a_generator_in_python_is_an_agent() {
    let agent = "[code]\npython = 'words_agents:twice'\n[limits]\nturn_tokens = 8\n";
    let (folder, records, summary) = play("generator", agent, 24, &[]);
    assert_eq!(summary["episodes"]["completed"], 24, "{summary}");
    for record in &records {
        is_exact(record);
        let steps = record["steps"].as_array().unwrap();
        let generations = record["generations"].as_array().unwrap();
        assert_eq!(generations.len(), 2 * steps.len(), "{record}");
        assert!(generations.iter().step_by(2).all(|it| ids(&it["token_ids"]).len() <= 6));
        assert!(steps[0]["action"]["message"].as_str().unwrap().contains('|'), "{record}");
        // Each was for the step that it led to, and what was said stands in the messages, too.
        let expected: Vec<_> = (0..steps.len()).flat_map(|step| [step, step]).collect();
        let told: Vec<_> = generations.iter().map(|it| it["step"].as_u64().unwrap()).collect();
        assert!(told.iter().map(|it| *it as usize).eq(expected), "{record}");
        assert!(generations.iter().all(|it| it["finish_reason"] != ""), "{record}");
        let messages = record["messages"].as_array().unwrap();
        let said = messages.iter().filter(|it| it["role"] == "assistant").count();
        assert_eq!(said, generations.len(), "{record}");
        assert_eq!(record["sampling"]["max_tokens"], 8, "{record}");
    }
    let log = std::fs::read_to_string(folder.join("servers/agent.log")).unwrap();
    assert!(log.contains("nobody's answer"), "{log}");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_batched_agent_ends_its_episodes_as_it_says() {
    let agent =
        "[code]\npython = 'words_agents:Batched'\nprocesses = 2\n[limits]\nturn_tokens = 8\n";
    let (folder, records, _) = play("batched", agent, 32, &[]);
    for (episode, (kind, message)) in ends(&records) {
        let expected = match episode % 8 {
            1 => ("truncated", "malformed"),
            2 => ("failed", "it does not please me"),
            3 => ("failed", "no form in JSON"),
            4 => ("failed", "no JSON object"),
            _ => ("completed", ""),
        };
        assert!(kind == expected.0 && message.contains(expected.1), "{episode}: {kind} {message}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn what_an_agent_raises_is_its_own_episodes_failure() {
    let agent = "[code]\npython = 'words_agents:raises'\n[limits]\nturn_tokens = 8\n";
    let (folder, records, _) = play("raises", agent, 16, &[]);
    for (episode, (kind, message)) in ends(&records) {
        if episode % 2 == 1 {
            assert!(kind == "failed" && message.contains("not that one"), "{message}");
        } else {
            assert_eq!(kind, "completed", "{message}");
        }
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_process_that_ends_or_hangs_is_started_again_for_later_episodes() {
    let mark = std::env::temp_dir().join(format!("envmill-agent-mark-{}", std::process::id()));
    for (name, expected) in [("dies", "process"), ("hangs", "has not answered within")] {
        let agent = format!(
            "[code]\npython = 'words_agents:{name}'\ntimeout_s = 5\n[limits]\nturn_tokens = 8\n"
        );
        let (folder, records, summary) = play(name, &agent, 64, &[("WORDS_AGENT_MARK", &mark)]);
        let failed: Vec<_> = ends(&records).into_values().filter(|it| it.0 == "failed").collect();
        assert!(!failed.is_empty() && failed.len() <= 16, "{failed:?}");
        assert!(failed.iter().any(|it| it.1.contains(expected)), "{failed:?}");
        assert!(failed.iter().all(|it| it.1.contains("process")), "{failed:?}");
        assert_eq!(summary["episodes"]["completed"], 64 - failed.len(), "{summary}");
        std::fs::remove_file(&mark).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

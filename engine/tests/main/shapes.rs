//! The random policy against every shape of action that pydantic describes: nothing that it draws is
//! refused.

use std::time::Duration;

use envmill_protocol::record::End;
use envmill_testing::{PythonServer, Watchdog, get};

use crate::plain::{check_account, play};

#[test]
fn what_random_draws_is_what_pydantic_takes() {
    let _watchdog = Watchdog::start("shapes", Duration::from_secs(300));
    let server = PythonServer::of("schema_env").unwrap();
    let (_, models) = get(server.address(), "/models").unwrap();
    let models: Vec<String> = serde_json::from_str(&models).unwrap();
    assert!(models.len() > 15, "{models:?}");
    let mut refused = Vec::new();
    for model in models {
        let url = format!("{}/{model}", server.url());
        let (finished, records) = play(&["--env", &url, "--episodes", "25", "--sessions", "4"]);
        if finished.code() != Some(0) {
            let first = records.iter().find(|record| matches!(record.end, End::Failed(_)));
            refused.push(format!("{model}: {}{:?}", finished.stderr, first.map(|r| &r.end)));
            continue;
        }
        check_account(&finished, &records, 25);
        assert!(records.iter().all(|record| record.steps.len() == 5), "{model}");
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

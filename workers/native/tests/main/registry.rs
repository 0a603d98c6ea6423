//! Environments by name.

use envmill_native::{ENVIRONMENTS, Parameters, environment};
use serde_json::Value;

use crate::support::parameters;

#[test]
fn every_listed_environment_exists_and_describes_itself() {
    for about in ENVIRONMENTS {
        let environment = environment(about.name, &Parameters::new()).expect(about.name);
        let schemas = environment.schemas();
        for schema in [&schemas.action, &schemas.observation] {
            let schema: Value = serde_json::from_slice(schema).expect("a JSON Schema");
            assert_eq!(schema["additionalProperties"], false);
            assert_eq!(schema["properties"]["metadata"]["type"], "object");
        }
        let state: Value = serde_json::from_slice(&schemas.state).expect("a JSON Schema");
        assert_eq!(state["properties"]["step_count"]["type"], "integer");
    }
}

fn refusal(name: &str, options: &[(&str, &str)]) -> String {
    environment(name, &parameters(options)).expect_err("refused").to_string()
}

#[test]
fn refusals_say_what_there_is() {
    expect_test::expect![[
        r#"no native environment is named "cartpol"; there are cartpole, echo, frozenlake, synthetic, wordguess"#
    ]]
    .assert_eq(&refusal("cartpol", &[]));
    expect_test::expect![[r#"synthetic has no parameter "step"; it takes step_ms, jitter, tail, payload_bytes, fail_rate, episode_steps"#]].assert_eq(&refusal("synthetic", &[("step", "5")]));
    expect_test::expect![[r#"echo has no parameter "step_ms"; it takes none"#]]
        .assert_eq(&refusal("echo", &[("step_ms", "5")]));
    expect_test::expect![[r#"frozenlake: map = "5x5" is not usable: the lake, 4x4 or 8x8 (4x4)"#]]
        .assert_eq(&refusal("frozenlake", &[("map", "5x5")]));
    expect_test::expect![[
        r#"synthetic: fail_rate = "1.5" is not usable: probability that a step fails, 0 to 1 (0)"#
    ]]
    .assert_eq(&refusal("synthetic", &[("fail_rate", "1.5")]));
    expect_test::expect![[
        r#"synthetic: step_ms = "NaN" is not usable: milliseconds a step takes, 0 to 3600000 (0)"#
    ]]
    .assert_eq(&refusal("synthetic", &[("step_ms", "NaN")]));
}

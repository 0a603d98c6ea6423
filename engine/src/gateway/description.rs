//! What a pool serves, as its servers tell it.

use std::collections::HashMap;

use envmill_front::Description;
use envmill_openenv::{DescribeError, Options, Server};
use serde_json::value::RawValue;

/// Asks a server what it serves, waiting for the answers.
///
/// # Errors
///
/// As [`envmill_openenv::describe`].
pub fn describe(server: &Server, options: &Options) -> Result<Description, DescribeError> {
    let told = envmill_openenv::describe(server, options)?;
    let schemas: HashMap<String, &RawValue> =
        serde_json::from_slice(&told.schema).unwrap_or_default();
    let schema = |name: &str| {
        let text = schemas.get(name).map(|text| told.schema.slice_ref(text.get().as_bytes()));
        text.unwrap_or_default()
    };
    let metadata = envmill_openenv::metadata(server, options)?;
    let environments = envmill_openenv::environments(server, options).unwrap_or_default();
    Ok(Description {
        name: "environment".into(),
        env_name: environments.into_iter().next().unwrap_or_default(),
        metadata,
        action_schema: schema("action"),
        observation_schema: schema("observation"),
        reset_observation_schema: schema("reset_observation"),
        state_schema: schema("state"),
        ..Description::default()
    })
}

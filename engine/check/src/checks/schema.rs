//! Whether `/schema` tells the truth.
//!
//! Proves that what is documented is what comes and what is taken: observations and states are held
//! against their schemas, drawn actions are sent, and actions are sent that lack a required field.
//!
//! A value of another type, or outside of its bounds, is an error: whoever builds a model's input from the
//! schema breaks on it. All else has an innocent explanation in a stock server, and is a warning or less:
//! missing and further fields (a subclass, an alias, a reset that returns the base class), null for a
//! number (OpenEnv makes it of NaN), formats of texts, and refused actions (validators that no schema
//! shows). `reward`, `done` and `metadata` stand beside an observation on the wire and are not looked at.

use jsonschema::{Validator, error::ValidationErrorKind as Kind};
use serde_json::Value;

use crate::{
    finding::{
        Severity::{self, Error, Note, Warning},
        Sheet,
    },
    play::{End, Halt, Player},
    subject::Subject,
    wire::{Answer, Reply},
};

/// Fields that an observation's model has and the wire has elsewhere.
const ELSEWHERE: [&str; 3] = ["reward", "done", "metadata"];

pub(super) fn run(subject: &Subject<'_>, sheet: &mut Sheet) -> Result<(), Halt> {
    let schemas = match subject.schemas() {
        Ok(schemas) => schemas.clone(),
        Err(why) => {
            sheet.unchecked("observation", "nothing is held against its schema", why);
            return Ok(());
        }
    };
    let observation = compiled(sheet, "observation", schemas.observation.as_ref());
    let reset = compiled(sheet, "reset-observation", schemas.reset_observation.as_ref());
    let state = compiled(sheet, "state", schemas.state.as_ref());
    let mut player = Player::new(subject);
    let seed = subject.options.seed;
    let (mut seen, mut drawn, mut refused, mut failed) = (0, 0, Vec::new(), Vec::new());
    let until = subject.until(15);
    for number in 0..subject.at_most(8, 3) {
        if std::time::Instant::now() >= until || subject.peer.stop().is_asked() {
            break;
        }
        let mut choice = subject.choice(seed.wrapping_add(0xac_0000 + u64::from(number)))?;
        let steps_max = subject.options.max_steps.min(30);
        let episode = player.play(seed.wrapping_add(number.into()), &mut choice, steps_max)?;
        let first = judge(&episode.first, reset.as_ref().or(observation.as_ref()));
        // Without a schema of its own, what a reset returns need not be what a step does.
        let softened = if reset.is_none() { Warning } else { Error };
        hold(sheet, "reset-observation", &first, softened, "a reset");
        for step in &episode.steps {
            let what = format!("the step {}", step.action);
            hold(sheet, "observation", &judge(&step.answer, observation.as_ref()), Error, &what);
        }
        seen += 1 + episode.steps.len();
        drawn += episode.actions().len();
        if let (End::Refused { code, message }, Some(action)) = (&episode.end, &episode.refused) {
            let told = format!("{action} was answered with {code}: {message}");
            let list = if code == "EXECUTION_ERROR" { &mut failed } else { &mut refused };
            list.push(told);
        }
        if let Some(state) = &state
            && let Ok(told) = player.state()
        {
            let problems = problems(state, &told);
            hold(sheet, "state", &problems, Warning, "the state");
        }
        // A session that a mistake may have harmed is left.
        if episode.refused.is_some() {
            player.leave();
        }
    }
    if observation.is_some() && !sheet.has(Warning) {
        sheet.pass(
            "observation",
            "observations and states are as documented",
            format!("{seen} observations"),
        );
    }
    actions(subject, sheet, drawn, &refused, &failed);
    required(subject, sheet, &schemas.action, &mut player)
}

/// A schema that can be held against, if there is one and it can be read.
fn compiled(sheet: &mut Sheet, what: &str, schema: Option<&Value>) -> Option<Validator> {
    let Some(schema) = schema else {
        if what == "observation" {
            sheet.absent(what, "observations are not documented", "/schema has no `observation`");
        }
        return None;
    };
    match jsonschema::validator_for(schema) {
        Ok(validator) => Some(validator),
        Err(error) => {
            sheet.add(
                Note,
                &format!("unreadable-{what}"),
                "a schema cannot be read",
                format!("the {what} schema: {error}"),
                "write it as JSON Schema (2020-12) without patterns that only Python knows",
            );
            None
        }
    }
}

/// What is wrong with a value, each with how much it matters at most.
type Problems = Vec<(Severity, String)>;

fn judge(answer: &Answer, schema: Option<&Validator>) -> Problems {
    let Some(schema) = schema else { return Vec::new() };
    let mut observation = answer.observation.clone();
    if let Value::Object(fields) = &mut observation {
        for field in ELSEWHERE {
            fields.remove(field);
        }
    }
    problems(schema, &observation)
}

fn problems(schema: &Validator, value: &Value) -> Problems {
    schema
        .iter_errors(value)
        .filter_map(|error| {
            let path = error.instance_path().to_string();
            let about = path.split('/').nth(1).unwrap_or_default();
            let missing = match error.kind() {
                Kind::Required { property } => property.as_str().unwrap_or_default(),
                _ => "",
            };
            if ELSEWHERE.contains(&about) || path.is_empty() && ELSEWHERE.contains(&missing) {
                return None;
            }
            let instance = error.instance();
            let is_structured = instance.is_object() || instance.is_array();
            let severity = match error.kind() {
                Kind::Type { .. } if !instance.is_null() => Error,
                Kind::Enum { .. }
                | Kind::Constant { .. }
                | Kind::Maximum { .. }
                | Kind::Minimum { .. }
                | Kind::ExclusiveMaximum { .. }
                | Kind::ExclusiveMinimum { .. }
                    if !instance.is_null() =>
                {
                    Error
                }
                Kind::AnyOf { .. } | Kind::OneOfNotValid { .. }
                    if !instance.is_null() && !is_structured =>
                {
                    Error
                }
                _ => Warning,
            };
            let place = if path.is_empty() { "/".into() } else { path };
            Some((severity, format!("{place}: {}", crate::wire_excerpt(&error.to_string()))))
        })
        .collect()
}

fn hold(sheet: &mut Sheet, id: &str, problems: &Problems, most: Severity, what: &str) {
    for (severity, problem) in problems {
        // The greater is less: errors come first.
        let severity = (*severity).max(most);
        let (id, title) = match severity {
            Error => {
                (format!("{id}-type"), "a documented field has a value that its schema forbids")
            }
            _ => (id.to_owned(), "what comes is not quite what is documented"),
        };
        sheet.add(
            severity,
            &id,
            title,
            format!("{what}: {problem}"),
            "declare the model of what is returned to create_app, and return what it declares",
        );
    }
}

/// What became of actions that the schema allows.
fn actions(
    subject: &Subject<'_>,
    sheet: &mut Sheet,
    drawn: usize,
    refused: &[String],
    failed: &[String],
) {
    if let Some(example) = refused.first() {
        sheet.add(
            Warning,
            "action-refused",
            "an action that the schema allows is refused",
            format!("{} of {drawn}: {example}", refused.len()),
            "say in the schema what the validators ask for (Field(ge=…, pattern=…), Literal, Enum)",
        );
    }
    if let Some(example) = failed.first() {
        sheet.add(
            Note,
            "action-fails",
            "an action that the schema allows raises",
            format!("{} of {drawn}: {example}", failed.len()),
            "answer with an observation, so that a policy can learn from it",
        );
    }
    if refused.is_empty() && failed.is_empty() && drawn > 0 {
        let kind = if subject.options.actions.is_empty() { "drawn" } else { "given" };
        sheet.pass("action", "actions that the schema allows are taken", format!("{drawn} {kind}"));
    }
}

/// Whether what is documented as required is.
fn required(
    subject: &Subject<'_>,
    sheet: &mut Sheet,
    schema: &Value,
    player: &mut Player<'_>,
) -> Result<(), Halt> {
    let names: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .map(|names| names.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    if names.is_empty() {
        sheet.absent("required", "fields that an action needs", "the action schema requires none");
        return Ok(());
    }
    let mut asked = 0;
    for name in names {
        let first = player.reset(subject.options.seed)?;
        let mut choice = subject.random(subject.options.seed)?;
        let Some(action) = choice.action(0, &first.observation)? else { break };
        let Ok(Value::Object(mut action)) = serde_json::from_str::<Value>(&action) else {
            continue;
        };
        if action.remove(name).is_none() {
            continue;
        }
        let action = Value::Object(action).to_string();
        let reply = match player.ask("step", &Player::step_request(&action)) {
            Ok(reply) => reply,
            Err(halt) if halt.is_stop() => return Err(halt),
            Err(halt) => {
                sheet.add(
                    Warning,
                    "required-lost",
                    "an action without a required field costs the session",
                    format!("{action}: {halt}"),
                    "answer VALIDATION_ERROR and keep the session",
                );
                continue;
            }
        };
        asked += 1;
        if matches!(reply, Reply::Observation(_)) {
            sheet.add(
                Warning,
                "required-accepted",
                "a field is documented as required and is not",
                format!("{action}, without `{name}`, was answered with an observation"),
                "give it a default in the action's model, or refuse actions without it",
            );
        }
        player.leave();
    }
    if asked > 0 && !sheet.has(Warning) {
        sheet.pass("required", "required fields are required", format!("{asked} left out in turn"));
    }
    Ok(())
}

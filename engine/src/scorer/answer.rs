//! Reading what a scorer answers.

use std::collections::BTreeMap;

use envmill_core::Score;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::callable::shortened;

/// The most named parts of one score.
const COMPONENTS_MAX: usize = 256;

#[derive(Deserialize)]
struct Answer {
    scores: Vec<Value>,
}

/// What an answer says of each of `count` episodes; `weights` say how a reward is made of its parts, if
/// any. A score that is malformed is an error of its own episode alone.
///
/// # Errors
///
/// The answer as a whole cannot be used, and why.
pub(super) fn read(
    answer: &[u8],
    count: usize,
    weights: &BTreeMap<String, f64>,
) -> Result<Vec<Result<Score, String>>, String> {
    let Answer { scores } = serde_json::from_slice(answer).map_err(|error| {
        format!("its answer is not {{\"scores\": […]}} in JSON, which knows no NaN: {error}")
    })?;
    if scores.len() != count {
        return Err(format!("it gave {} scores for {count} episodes", scores.len()));
    }
    Ok(scores.into_iter().map(|score| one(score, weights)).collect())
}

fn one(score: Value, weights: &BTreeMap<String, f64>) -> Result<Score, String> {
    let mut score = match score {
        Value::Null => return Ok(Score::default()),
        Value::Object(score) => score,
        other => {
            return Err(format!(
                "a score is null or an object with `reward`, `components` or `error`, not {}",
                kind(&other)
            ));
        }
    };
    if let Some(error) = score.remove("error").filter(|error| !error.is_null()) {
        return Err(match error {
            Value::String(error) => shortened(error),
            other => format!("`error` is {}, not a string", kind(&other)),
        });
    }
    let given = match score.remove("reward") {
        None | Some(Value::Null) => None,
        Some(reward) => Some(number("reward", &reward)?),
    };
    let components = match score.remove("components") {
        None | Some(Value::Null) => None,
        Some(Value::Object(components)) => Some(named(&components)?),
        Some(other) => return Err(format!("`components` is {}, not an object", kind(&other))),
    };
    let reward = match &components {
        // Nothing is said at all: the score is missing, which is not 0.
        None if given.is_none() => None,
        _ if weights.is_empty() => given,
        None => return Err("it gave no `components`, which `weights` are for".into()),
        Some(components) => Some(weighted(components, weights)?),
    };
    Ok(Score { reward, components: components.unwrap_or_default() })
}

fn named(components: &Map<String, Value>) -> Result<Vec<(String, f64)>, String> {
    if components.len() > COMPONENTS_MAX {
        return Err(format!("{} components; at most {COMPONENTS_MAX}", components.len()));
    }
    let named = components.iter().map(|(name, value)| Ok((name.clone(), number(name, value)?)));
    named.collect()
}

fn weighted(components: &[(String, f64)], weights: &BTreeMap<String, f64>) -> Result<f64, String> {
    let mut sum = 0.0;
    for (name, weight) in weights {
        let Some((_, value)) = components.iter().find(|(its, _)| its == name) else {
            return Err(format!("there is no component `{name}`, for which there is a weight"));
        };
        sum += weight * value;
    }
    if sum.is_finite() { Ok(sum) } else { Err("the weighted sum is not finite".into()) }
}

fn number(name: &str, value: &Value) -> Result<f64, String> {
    match value.as_f64() {
        Some(number) if number.is_finite() => Ok(number),
        _ => Err(format!("`{name}` is {}, not a finite number", kind(value))),
    }
}

/// What a value is, for people.
fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(it) => it.to_string(),
        Value::Number(it) => it.to_string(),
        Value::String(_) => "a string".into(),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "an object".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(named: &[(&str, f64)]) -> BTreeMap<String, f64> {
        named.iter().map(|&(name, weight)| (name.to_owned(), weight)).collect()
    }

    fn read_one(score: &str, named: &[(&str, f64)]) -> Result<Score, String> {
        let answer = format!(r#"{{"scores":[{score}],"more":1}}"#);
        read(answer.as_bytes(), 1, &weights(named)).unwrap().pop().unwrap()
    }

    fn score(reward: Option<f64>, components: &[(&str, f64)]) -> Score {
        let components = components.iter().map(|&(name, value)| (name.to_owned(), value));
        Score { reward, components: components.collect() }
    }

    #[test]
    fn a_reward_is_a_number_with_or_without_parts() {
        assert_eq!(read_one(r#"{"reward":1.5}"#, &[]), Ok(score(Some(1.5), &[])));
        assert_eq!(read_one(r#"{"reward":-2,"other":[]}"#, &[]), Ok(score(Some(-2.0), &[])));
        let given = r#"{"reward":3,"components":{"b":1,"a":2.5},"error":null}"#;
        assert_eq!(read_one(given, &[]), Ok(score(Some(3.0), &[("a", 2.5), ("b", 1.0)])));
    }

    #[test]
    fn what_is_missing_is_not_zero() {
        for missing in ["null", "{}", r#"{"reward":null}"#, r#"{"components":null}"#] {
            assert_eq!(read_one(missing, &[]), Ok(Score::default()), "{missing}");
            assert_eq!(read_one(missing, &[("a", 1.0)]), Ok(Score::default()), "{missing}");
        }
        let parts_only = read_one(r#"{"components":{"a":1}}"#, &[]);
        assert_eq!(parts_only, Ok(score(None, &[("a", 1.0)])));
    }

    #[test]
    fn weights_make_the_reward() {
        let given = r#"{"reward":100,"components":{"a":2,"b":0.5,"c":7}}"#;
        let parts = [("a", 2.0), ("b", 0.5), ("c", 7.0)];
        assert_eq!(
            read_one(given, &[("a", 1.0), ("b", -2.0)]),
            Ok(score(Some(1.0), &parts)),
            "what has no weight is recorded and does not count"
        );
    }

    #[test]
    fn what_is_malformed_is_said() {
        for (given, named, expected) in [
            ("1.5", &[][..], "not 1.5"),
            ("[]", &[], "not a list"),
            (r#"{"reward":"1"}"#, &[], "`reward` is a string"),
            (r#"{"reward":true}"#, &[], "`reward` is true"),
            (r#"{"components":[1]}"#, &[], "`components` is a list"),
            (r#"{"components":{"a":null}}"#, &[], "`a` is null"),
            (r#"{"error":"no answer found"}"#, &[], "no answer found"),
            (r#"{"error":3}"#, &[], "`error` is 3"),
            (r#"{"reward":1}"#, &[("a", 1.0)], "no `components`"),
            (r#"{"components":{"b":1}}"#, &[("a", 1.0)], "no component `a`"),
            (r#"{"components":{"a":1e308}}"#, &[("a", 1e10)], "not finite"),
        ] {
            let error = read_one(given, named).unwrap_err();
            assert!(error.contains(expected), "{given}: {error}");
        }
    }

    #[test]
    fn an_answer_that_is_none_is_said() {
        let none = BTreeMap::new();
        for (given, expected) in [
            (r#"{"scores":[{"reward":NaN}]}"#, "no NaN"),
            (r#"{"scores":[{"reward":1e999}]}"#, "out of range"),
            ("[1]", "\"scores\""),
            (r#"{"scores":3}"#, "\"scores\""),
            ("<html>", "in JSON"),
            ("", "in JSON"),
            (r#"{"scores":[]}"#, "0 scores for 1 episodes"),
            (r#"{"scores":[null,null]}"#, "2 scores for 1 episodes"),
        ] {
            let error = read(given.as_bytes(), 1, &none).unwrap_err();
            assert!(error.contains(expected), "{given}: {error}");
        }
    }

    #[test]
    fn one_that_is_malformed_does_not_take_others_with_it() {
        let read = read(br#"{"scores":[{"reward":1},7,null]}"#, 3, &BTreeMap::new()).unwrap();
        assert!(read[0].is_ok() && read[1].is_err() && read[2].is_ok());
    }
}

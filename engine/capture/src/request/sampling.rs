//! What both endpoints are told in the same fields.

use envmill_inference::{Constraint, Sampling, TOP_LOGPROBS_MAX};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Calls, Shape,
    fields::{Fields, parse},
};
use crate::{CaptureOptions, refusal::Refusal};

/// Stop strings in one call.
const STOPS: usize = 16;

#[derive(Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

pub(super) fn shape(fields: &Fields<'_>, logprobs: bool, calls: Calls) -> Result<Shape, Refusal> {
    let options: Option<StreamOptions> = fields.get("stream_options")?;
    Ok(Shape {
        stream: fields.is("stream")?,
        usage: options.and_then(|it| it.include_usage).unwrap_or(false),
        logprobs,
        token_ids: fields.is("return_token_ids")?,
        calls,
        stop: stop(fields.raw("stop"))?,
    })
}

fn stop(raw: Option<&RawValue>) -> Result<Vec<String>, Refusal> {
    let stop: Vec<String> = match raw {
        None => Vec::new(),
        Some(one) if one.get().starts_with('"') => vec![parse("stop", one)?],
        Some(list) => parse("stop", list)?,
    };
    if stop.len() > STOPS || stop.iter().any(String::is_empty) {
        return Err(Refusal::bad("stop", format!("stop has at most {STOPS} texts, none empty")));
    }
    Ok(stop)
}

/// How many continuations of each prompt.
pub(super) fn n(fields: &Fields<'_>, options: &CaptureOptions) -> Result<u32, Refusal> {
    let n = fields.get::<u32>("n")?.unwrap_or(1);
    let most = options.limits.calls_at_once;
    if n == 0 || n as usize > most {
        return Err(Refusal::bad("n", format!("n is {n}; it is from 1 to {most}")));
    }
    Ok(n)
}

pub(super) fn seed(fields: &Fields<'_>) -> Result<Option<u64>, Refusal> {
    Ok(fields.get::<i64>("seed")?.map(i64::cast_unsigned))
}

/// At most so many tokens, under the first of these names that is there.
pub(super) fn max_tokens(fields: &Fields<'_>, names: &[&str]) -> Result<Option<u32>, Refusal> {
    for name in names {
        match fields.get::<u32>(name)? {
            None => {}
            Some(0) => return Err(Refusal::bad(*name, format!("{name} is at least 1"))),
            found => return Ok(found),
        }
    }
    Ok(None)
}

/// How many of the most likely tokens are told, in the field of this name.
pub(super) fn top(fields: &Fields<'_>, name: &str) -> Result<Option<u32>, Refusal> {
    let top = fields.get::<u32>(name)?;
    if top.is_some_and(|it| it > TOP_LOGPROBS_MAX) {
        return Err(Refusal::bad(name, format!("{name} is at most {TOP_LOGPROBS_MAX}")));
    }
    Ok(top)
}

pub(super) fn sampling(
    fields: &Fields<'_>,
    stop: &[String],
    top_logprobs: u32,
    constraint: Option<Constraint>,
    options: &CaptureOptions,
) -> Result<Sampling, Refusal> {
    let within = |name: &str, low: f32, high: f32, default: f32| match fields.get::<f32>(name)? {
        None => Ok(default),
        Some(it) if (low..=high).contains(&it) => Ok(it),
        Some(it) => Err(Refusal::bad(name, format!("{name} is {it}, not from {low} to {high}"))),
    };
    let own = Sampling {
        stop: stop.to_vec(),
        stop_token_ids: fields.get("stop_token_ids")?.unwrap_or_default(),
        top_logprobs,
        constraint,
        ..CaptureOptions::sampling()
    };
    let asked = Sampling {
        temperature: within("temperature", 0.0, 2.0, own.temperature)?,
        top_p: within("top_p", f32::MIN_POSITIVE, 1.0, own.top_p)?,
        min_p: within("min_p", 0.0, 1.0, own.min_p)?,
        top_k: match fields.get::<i64>("top_k")? {
            None | Some(-1 | 0) => own.top_k,
            Some(it) => match u32::try_from(it) {
                Ok(it) => Some(it),
                Err(_) => return Err(Refusal::bad("top_k", format!("top_k is {it}"))),
            },
        },
        min_tokens: fields.get("min_tokens")?.unwrap_or(0),
        ignore_eos: fields.is("ignore_eos")?,
        ..own.clone()
    };
    Ok(if options.sampling_of_calls { asked } else { own })
}

//! What is sent: requests, aborts and calls, as whole messages behind others in one buffer.

use std::time::SystemTime;

use super::{
    check::Checked,
    msgpack::{array, bool, float, nil, str, uint},
    zmtp,
};
use crate::{Deliver, ModelFacts, Request};

/// The first frame of a message says what the second one is.
const ADD: u8 = 0;
const ABORT: u8 = 1;
const UTILITY: u8 = 3;

/// Of a request's fields, those that have no defaults.
pub(super) const FIELDS: usize = 9;

/// A request.
pub(super) fn add(
    out: &mut Vec<u8>,
    name: &str,
    request: &Request,
    checked: Checked,
    facts: &ModelFacts,
) {
    message(out, ADD, |out| {
        array(out, FIELDS);
        str(out, name);
        array(out, request.prompt.len());
        ids(out, &request.prompt);
        // mm_features
        nil(out);
        sampling(out, request, checked, facts);
        // pooling_params
        nil(out);
        float(out, now());
        // lora_request, cache_salt, data_parallel_rank
        for _ in 0..3 {
            nil(out);
        }
    });
}

/// The end of these requests.
pub(super) fn abort(out: &mut Vec<u8>, names: &[String]) {
    message(out, ABORT, |out| {
        array(out, names.len());
        for it in names {
            str(out, it);
        }
    });
}

/// A call; `arguments` writes so many of them.
pub(super) fn utility(
    out: &mut Vec<u8>,
    call: u64,
    method: &str,
    arguments: (usize, &dyn Fn(&mut Vec<u8>)),
) {
    message(out, UTILITY, |out| {
        array(out, 4);
        // The index of the client: there is only us.
        uint(out, 0);
        uint(out, call);
        str(out, method);
        array(out, arguments.0);
        arguments.1(out);
    });
}

/// Two frames, of which the second is written in place and then given its length.
fn message(out: &mut Vec<u8>, kind: u8, body: impl FnOnce(&mut Vec<u8>)) {
    zmtp::frame(out, &[kind], true);
    let head = out.len();
    out.extend_from_slice(&zmtp::long_head(0, false));
    let start = out.len();
    body(out);
    let len = out.len() - start;
    match u8::try_from(len) {
        // A short frame has a short head.
        Ok(short) => {
            out[head] = 0;
            out[head + 1] = short;
            out.copy_within(start.., head + 2);
            out.truncate(head + 2 + len);
        }
        Err(_) => out[head..start].copy_from_slice(&zmtp::long_head(len, false)),
    }
}

/// Most of a message. Room is made once, and what a token takes is decided by its size alone.
#[allow(clippy::cast_possible_truncation, reason = "every arm is of the width it writes")]
fn ids(out: &mut Vec<u8>, ids: &[u32]) {
    out.reserve(5 * ids.len());
    for &id in ids {
        match id {
            0..=0x7f => out.push(id as u8),
            0x80..=0xff => out.extend_from_slice(&[0xcc, id as u8]),
            0x100..=0xffff => {
                let [high, low] = (id as u16).to_be_bytes();
                out.extend_from_slice(&[0xcd, high, low]);
            }
            _ => {
                let [a, b, c, d] = id.to_be_bytes();
                out.extend_from_slice(&[0xce, a, b, c, d]);
            }
        }
    }
}

/// The parameters, those at their defaults left out.
fn sampling(out: &mut Vec<u8>, request: &Request, checked: Checked, facts: &ModelFacts) {
    let sampling = &*request.sampling;
    let (first, others) = match facts.eos_token_ids.split_first() {
        Some((first, others)) => (Some(*first), others),
        None => (None, &[][..]),
    };
    // As vLLM's frontend does: the usual end-of-turn token has a field of its own, the others are stop
    // tokens, and all of them are what `min_tokens` holds back.
    let others = if sampling.ignore_eos { &[][..] } else { others };
    let stops = sampling.stop_token_ids.len() + others.len();
    let all = sampling.stop_token_ids.len() + facts.eos_token_ids.len();
    let head = out.len();
    out.push(0);
    // Fewer than 16 keys, so that the head is one byte, set when they are counted.
    let mut keys = 0_u8;
    let mut key = |out: &mut Vec<u8>, name: &str| {
        keys += 1;
        str(out, name);
    };
    key(out, "temperature");
    float(out, f64::from(sampling.temperature));
    if sampling.top_p < 1.0 {
        key(out, "top_p");
        float(out, f64::from(sampling.top_p));
    }
    if let Some(top_k) = sampling.top_k {
        key(out, "top_k");
        uint(out, u64::from(top_k));
    }
    if sampling.min_p > 0.0 {
        key(out, "min_p");
        float(out, f64::from(sampling.min_p));
    }
    if let Some(seed) = request.seed {
        key(out, "seed");
        // It is a signed number there, of which negative ones mean other things.
        uint(out, seed & (u64::MAX >> 1));
    }
    key(out, "max_tokens");
    uint(out, u64::from(checked.max_tokens));
    if checked.min_tokens > 0 {
        key(out, "min_tokens");
        uint(out, u64::from(checked.min_tokens));
    }
    if sampling.logprobs {
        // None besides the sampled token's.
        key(out, "logprobs");
        uint(out, 0);
    }
    key(out, "detokenize");
    bool(out, false);
    key(out, "output_kind");
    // Deltas, or only the end. The engine sends every step all the same.
    uint(out, if request.deliver == Deliver::Streamed { 1 } else { 2 });
    if sampling.ignore_eos {
        key(out, "ignore_eos");
        bool(out, true);
    } else if let Some(first) = first {
        key(out, "_eos_token_id");
        uint(out, u64::from(first));
    }
    if stops > 0 {
        key(out, "stop_token_ids");
        array(out, stops);
        ids(out, &sampling.stop_token_ids);
        ids(out, others);
    }
    if all > 0 {
        key(out, "_all_stop_token_ids");
        array(out, all);
        ids(out, &sampling.stop_token_ids);
        ids(out, &facts.eos_token_ids);
    }
    out[head] = 0x80 | keys;
    debug_assert!(keys < 16);
}

fn now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

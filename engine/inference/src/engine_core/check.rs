//! What vLLM's frontend would refuse. The engine does not: an odd value ends its process, and with it all
//! that is under way there.

use super::grammar;
use crate::{Constraint, Error, ErrorKind, ModelFacts, Request, TOP_LOGPROBS_MAX};

/// More stop tokens than this break the engine where `min_tokens` is given too.
const STOP_TOKENS: usize = 100;

/// What is left to decide of a request that passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Checked {
    pub(super) max_tokens: u32,
    pub(super) min_tokens: u32,
}

/// Checks a request against the model, which takes `max_model_len` tokens.
pub(super) fn check(
    request: &Request,
    facts: &ModelFacts,
    max_model_len: u32,
) -> Result<Checked, Error> {
    let refused = |message: String| Err(Error::new(ErrorKind::Refused, message));
    let sampling = &*request.sampling;
    if !sampling.stop.is_empty() {
        let message =
            "EngineCore knows no text, so no strings that end a generation; stop tokens it does";
        return Err(Error::new(ErrorKind::Unsupported, message));
    }
    let Some(largest) = request.prompt.iter().max() else {
        return refused("the prompt is empty".to_owned());
    };
    if *largest >= facts.vocab_size {
        return refused(format!(
            "token {largest} of the prompt, of a vocabulary of {}",
            facts.vocab_size
        ));
    }
    let room =
        u32::try_from(request.prompt.len()).ok().and_then(|it| max_model_len.checked_sub(it));
    let Some(room @ 1..) = room else {
        let len = request.prompt.len();
        return refused(format!(
            "a prompt of {len} tokens, and the model takes {max_model_len} in all"
        ));
    };
    if request.max_tokens == 0 || sampling.min_tokens > request.max_tokens {
        let (min, max) = (sampling.min_tokens, request.max_tokens);
        return refused(format!("at least {min} and at most {max} tokens"));
    }
    if !(0.0..=2.0).contains(&sampling.temperature) {
        return refused(format!("a temperature of {}; it is 0 to 2", sampling.temperature));
    }
    if !(sampling.top_p > 0.0 && sampling.top_p <= 1.0) {
        return refused(format!("top_p {}; it is above 0 and at most 1", sampling.top_p));
    }
    if !(0.0..=1.0).contains(&sampling.min_p) {
        return refused(format!("min_p {}; it is 0 to 1", sampling.min_p));
    }
    if sampling.top_k.is_some_and(|it| i32::try_from(it).is_err()) {
        return refused("top_k is larger than any vocabulary".to_owned());
    }
    if sampling.stop_token_ids.len() + facts.eos_token_ids.len() > STOP_TOKENS {
        return refused(format!("more than {STOP_TOKENS} stop tokens"));
    }
    if let Some(odd) = sampling.stop_token_ids.iter().find(|it| **it >= facts.vocab_size) {
        return refused(format!("stop token {odd}, of a vocabulary of {}", facts.vocab_size));
    }
    if sampling.top_logprobs > TOP_LOGPROBS_MAX {
        let wanted = sampling.top_logprobs;
        return refused(format!("{wanted} most likely tokens; at most {TOP_LOGPROBS_MAX}"));
    }
    if let Some(Constraint::JsonSchema(schema)) = &sampling.constraint
        && let Some(what) = grammar::beyond(schema)
    {
        let message = format!(
            "a JSON schema with {what}, which vLLM's usual grammars do not hold to; over HTTP it would \
             choose others"
        );
        return Err(Error::new(ErrorKind::Unsupported, message));
    }
    let max_tokens = request.max_tokens.min(room);
    Ok(Checked { max_tokens, min_tokens: sampling.min_tokens.min(max_tokens) })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{Deliver, JsonSchema, RequestId, Sampling};

    fn request(prompt: &[u32], sampling: Sampling) -> Request {
        Request {
            id: RequestId(1),
            prompt: Arc::from(prompt),
            messages: None,
            sampling: Arc::new(sampling),
            max_tokens: 10,
            seed: None,
            affinity: None,
            deliver: Deliver::Whole,
        }
    }

    fn checked(request: &Request) -> Result<Checked, ErrorKind> {
        let facts = ModelFacts { eos_token_ids: vec![2], vocab_size: 100, max_model_len: 16 };
        check(request, &facts, 16).map_err(|it| it.kind)
    }

    #[test]
    fn max_tokens_are_clipped_to_the_model() {
        let of = |it| Ok(Checked { max_tokens: it, min_tokens: 0 });
        assert_eq!(checked(&request(&[1; 6], Sampling::default())), of(10));
        assert_eq!(checked(&request(&[1; 7], Sampling::default())), of(9));
        assert_eq!(checked(&request(&[1; 15], Sampling::default())), of(1));
        assert_eq!(checked(&request(&[1; 16], Sampling::default())), Err(ErrorKind::Refused));
        let min = checked(&request(&[1; 14], Sampling { min_tokens: 5, ..Sampling::default() }));
        assert_eq!(min, Ok(Checked { max_tokens: 2, min_tokens: 2 }));
    }

    #[test]
    fn what_would_break_the_engine_does_not_get_there() {
        let usual = Sampling::default;
        let odd = [
            Sampling { temperature: f32::NAN, ..usual() },
            Sampling { temperature: -1.0, ..usual() },
            Sampling { temperature: 2.5, ..usual() },
            Sampling { top_p: 0.0, ..usual() },
            Sampling { top_p: f32::INFINITY, ..usual() },
            Sampling { min_p: 1.5, ..usual() },
            Sampling { top_k: Some(u32::MAX), ..usual() },
            Sampling { min_tokens: 11, ..usual() },
            Sampling { stop_token_ids: vec![100], ..usual() },
            Sampling { stop_token_ids: vec![1; 101], ..usual() },
        ];
        for it in odd {
            assert_eq!(checked(&request(&[1], it.clone())), Err(ErrorKind::Refused), "{it:?}");
        }
        assert_eq!(checked(&request(&[], usual())), Err(ErrorKind::Refused));
        assert_eq!(checked(&request(&[1, 100, 2], usual())), Err(ErrorKind::Refused));
        let none = Request { max_tokens: 0, ..request(&[1], usual()) };
        assert_eq!(checked(&none), Err(ErrorKind::Refused));
        let many = Sampling { top_logprobs: 21, ..usual() };
        assert_eq!(checked(&request(&[1], many)), Err(ErrorKind::Refused));
        let schema = JsonSchema::new(r#"{"type":"integer","multipleOf":2}"#).unwrap();
        let constraint = Some(Constraint::JsonSchema(schema));
        let held = Sampling { constraint, ..usual() };
        assert_eq!(checked(&request(&[1], held)), Err(ErrorKind::Unsupported));
        let text = Sampling { stop: vec!["stop".to_owned()], ..usual() };
        assert_eq!(checked(&request(&[1], text)), Err(ErrorKind::Unsupported));
    }
}

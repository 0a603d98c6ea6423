//! Calls of `/v1/completions`.

use serde_json::value::RawValue;

use super::{
    Ask, Calls, Prompt, Subject, constraint,
    fields::{Fields, parse},
    sampling::{max_tokens, n, sampling, seed, shape, top},
};
use crate::{CaptureOptions, refusal::Refusal};

/// So many tokens are sampled where a call does not say how many, as the API has it.
const MAX_TOKENS: u32 = 16;

pub(super) fn read(body: &[u8], options: &CaptureOptions) -> Result<Ask, Refusal> {
    let fields = Fields::read(body)?;
    let prompts = prompts(fields.raw("prompt"))?;
    let n = n(&fields, options)?;
    let most = options.limits.calls_at_once;
    if prompts.len().saturating_mul(n as usize) > most {
        let message = format!("{} prompts, {n} times: at most {most} at once", prompts.len());
        return Err(Refusal::bad("prompt", message));
    }
    let constraint = constraint::format(&fields, options)?;
    let top = top(&fields, "logprobs")?;
    let shape = shape(&fields, top.is_some(), Calls::None)?;
    Ok(Ask {
        model: fields.get("model")?.unwrap_or_else(|| options.model.clone()),
        subject: Subject::Completions(prompts),
        sampling: sampling(&fields, &shape.stop, top.unwrap_or(0), constraint, options)?,
        max_tokens: Some(max_tokens(&fields, &["max_tokens"])?.unwrap_or(MAX_TOKENS)),
        seed: seed(&fields)?,
        n,
        shape,
    })
}

/// A text, token ids, or a list of either.
fn prompts(raw: Option<&RawValue>) -> Result<Vec<Prompt>, Refusal> {
    let refused = |message: &str| Refusal::bad("prompt", message);
    let Some(raw) = raw else { return Err(refused("there is no prompt")) };
    let json = raw.get();
    let prompts = if json.starts_with('"') {
        vec![Prompt::Text(parse("prompt", raw)?)]
    } else if let Ok(ids) = serde_json::from_str(json) {
        vec![Prompt::Ids(ids)]
    } else if let Ok(texts) = serde_json::from_str::<Vec<String>>(json) {
        texts.into_iter().map(Prompt::Text).collect()
    } else if let Ok(lists) = serde_json::from_str::<Vec<Vec<u32>>>(json) {
        lists.into_iter().map(Prompt::Ids).collect()
    } else {
        return Err(refused("it is a text, a list of token ids, or a list of either"));
    };
    let is_empty = |it: &Prompt| match it {
        Prompt::Text(text) => text.is_empty(),
        Prompt::Ids(ids) => ids.is_empty(),
    };
    if prompts.iter().any(is_empty) {
        return Err(refused("an empty prompt cannot be continued"));
    }
    Ok(prompts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(fields: &str) -> Result<Ask, Refusal> {
        read(format!("{{{fields}}}").as_bytes(), &CaptureOptions::default())
    }

    #[test]
    fn prompts_are_texts_or_ids_or_several() {
        let text = |it: &str| Prompt::Text(it.to_owned());
        for (wire, wanted) in [
            (r#""a""#, vec![text("a")]),
            (r#"["a","b"]"#, vec![text("a"), text("b")]),
            ("[1, 2]", vec![Prompt::Ids(vec![1, 2])]),
            ("[[1],[2,3]]", vec![Prompt::Ids(vec![1]), Prompt::Ids(vec![2, 3])]),
        ] {
            let ask = of(&format!(r#""prompt":{wire}"#)).unwrap();
            let Subject::Completions(prompts) = ask.subject else { panic!() };
            assert_eq!((prompts, ask.max_tokens, ask.n), (wanted, Some(16), 1));
            assert!(!ask.shape.logprobs);
        }
        let ask = of(r#""prompt":"a","logprobs":3,"n":2,"max_tokens":5,"echo":false"#).unwrap();
        assert_eq!((ask.sampling.top_logprobs, ask.n, ask.max_tokens), (3, 2, Some(5)));
        assert!(of(r#""prompt":"a","logprobs":0"#).unwrap().shape.logprobs);
    }

    #[test]
    fn what_cannot_be_had_is_refused_by_name() {
        for (more, param) in [
            ("", "prompt"),
            (r#""prompt":"""#, "prompt"),
            (r#""prompt":[]"#, "prompt"),
            (r#""prompt":[[]]"#, "prompt"),
            (r#""prompt":["a",1]"#, "prompt"),
            (r#""prompt":[-1]"#, "prompt"),
            (r#""prompt":["a","b"],"n":200"#, "prompt"),
            (r#""prompt":"a","echo":true"#, "echo"),
            (r#""prompt":"a","best_of":2"#, "best_of"),
            (r#""prompt":"a","suffix":"b""#, "suffix"),
            (r#""prompt":"a","logprobs":21"#, "logprobs"),
            (r#""prompt":"a","logprobs":true"#, "logprobs"),
        ] {
            let body = of(more).unwrap_err().body();
            assert!(body.contains(&format!(r#""param":"{param}""#)), "{more}: {body}");
        }
    }
}

//! Calls of `/v1/chat/completions`.

use envmill_chat::Message;
use serde_json::value::RawValue;

use super::{
    Ask, Subject, constraint,
    fields::Fields,
    sampling::{max_tokens, n, sampling, seed, shape, top},
};
use crate::{CaptureOptions, refusal::Refusal};

pub(super) fn read(body: &[u8], options: &CaptureOptions) -> Result<Ask, Refusal> {
    let fields = Fields::read(body)?;
    let format = constraint::format(&fields, options)?;
    let (calls, constraint) = constraint::calls(&fields, format, options)?;
    let logprobs = fields.is("logprobs")?;
    let top = top(&fields, "top_logprobs")?.unwrap_or(0);
    if top > 0 && !logprobs {
        let message = "top_logprobs is only there where logprobs is true";
        return Err(Refusal::bad("top_logprobs", message));
    }
    let shape = shape(&fields, logprobs, calls)?;
    let own = |name: &str, nothing: &[&str]| {
        fields.raw(name).filter(|it| !nothing.contains(&it.get())).map(ToOwned::to_owned)
    };
    Ok(Ask {
        model: fields.get("model")?.unwrap_or_else(|| options.model.clone()),
        sampling: sampling(&fields, &shape.stop, top, constraint, options)?,
        max_tokens: max_tokens(&fields, &["max_completion_tokens", "max_tokens"])?,
        seed: seed(&fields)?,
        n: n(&fields, options)?,
        subject: Subject::Chat {
            messages: messages(fields.get("messages")?.unwrap_or_default(), options)?,
            tools: own("tools", &["[]"]),
            variables: own("chat_template_kwargs", &["{}"]),
        },
        shape,
    })
}

fn messages(wire: Vec<&RawValue>, options: &CaptureOptions) -> Result<Vec<Message>, Refusal> {
    if wire.is_empty() {
        return Err(Refusal::bad("messages", "there is no message in messages"));
    }
    let most = options.limits.messages;
    if wire.len() > most {
        let message = format!("{} messages; at most {most} are taken", wire.len());
        return Err(Refusal::bad("messages", message));
    }
    let read = |(index, raw): (usize, &RawValue)| {
        let mut message = Message::from_json(raw.get())
            .map_err(|error| Refusal::bad(format!("messages[{index}]"), error.to_string()))?;
        // Templates know the older word.
        if message.role == "developer" {
            "system".clone_into(&mut message.role);
        }
        Ok(message)
    };
    wire.into_iter().enumerate().map(read).collect()
}

#[cfg(test)]
mod tests {
    use envmill_inference::Constraint;

    use super::{super::Calls, *};

    fn with(more: &str) -> Result<Ask, Refusal> {
        let body = format!(r#"{{"messages":[{{"role":"user","content":"hi"}}]{more}}}"#);
        read(body.as_bytes(), &CaptureOptions::default())
    }

    #[test]
    fn what_is_asked_for_is_read() {
        let ask = with(
            r#","model":"gpt","temperature":0.5,"top_p":0.9,"max_tokens":7,"max_completion_tokens":8,
            "stop":"x","seed":-1,"n":3,"stream":true,"stream_options":{"include_usage":true},
            "tools":[{"type":"function"}],"top_k":-1,"user":"me","response_format":{"type": "text"},
            "logprobs":true,"top_logprobs":20,"tool_choice":null"#,
        )
        .unwrap();
        assert_eq!((ask.model.as_str(), ask.max_tokens, ask.n), ("gpt", Some(8), 3));
        assert_eq!((ask.sampling.temperature, ask.sampling.top_k), (0.5, None));
        assert_eq!((ask.sampling.top_logprobs, ask.sampling.constraint), (20, None));
        assert_eq!((ask.sampling.stop, ask.seed), (vec!["x".to_owned()], Some(u64::MAX)));
        assert!(ask.shape.stream && ask.shape.usage && ask.shape.calls == Calls::Written);
        let fixed = CaptureOptions { sampling_of_calls: false, ..CaptureOptions::default() };
        let body = br#"{"messages":[{"role":"developer","content":"hi"}],"temperature":0}"#;
        let ask = read(body, &fixed).unwrap();
        assert_eq!((ask.sampling.temperature, ask.n), (1.0, 1));
        let Subject::Chat { messages, .. } = ask.subject else { panic!() };
        assert_eq!(messages[0].role, "system");
    }

    #[test]
    fn answers_are_held_to_what_is_asked_for() {
        let held = |more: &str| {
            let ask = with(more).unwrap();
            (ask.shape.calls, ask.sampling.constraint.as_ref().map(Constraint::to_json))
        };
        let json = |it: &str| Some(it.to_owned());
        let (calls, constraint) = held(r#","response_format":{"type":"json_object"}"#);
        assert_eq!((calls, constraint), (Calls::None, json(r#"{"json_object":true}"#)));
        let schema = r#","response_format":{"type":"json_schema","json_schema":{"name":"a",
            "strict":true,"schema":{"type":"object"}}}"#;
        assert_eq!(held(schema).1, json(r#"{"json":{"type":"object"}}"#));
        let tools = r#","tools":[{"type":"function","function":{"name":"look","parameters":
            {"type":"object","properties":{"b":{},"a":{}}}}}],"tool_choice":"#;
        let (calls, constraint) =
            held(&format!(r#"{tools}{{"type":"function","function":{{"name":"look"}}}}"#));
        assert_eq!(calls, Calls::Named("look".to_owned()));
        let arguments = r#"{"json":{"type":"object","properties":{"b":{},"a":{}}}}"#;
        assert_eq!(constraint, json(arguments));
        let (calls, constraint) = held(&format!("{tools}\"required\""));
        assert_eq!(calls, Calls::Listed);
        assert!(constraint.unwrap().contains(r#""enum":["look"]"#));
        // A format is of what is said beside calls, of which there is nothing then.
        assert_eq!(held(&format!("{tools}\"required\"{schema}")).0, Calls::Listed);
        let (calls, constraint) = held(&format!("{tools}\"none\"{schema}"));
        assert_eq!((calls, constraint), (Calls::None, json(r#"{"json":{"type":"object"}}"#)));
    }

    #[test]
    fn what_cannot_be_had_is_refused_by_name() {
        for (more, param) in [
            (r#","n":0"#, "n"),
            (r#","n":100000"#, "n"),
            (r#","n":"two""#, "n"),
            (r#","top_logprobs":3"#, "top_logprobs"),
            (r#","logprobs":true,"top_logprobs":21"#, "top_logprobs"),
            (r#","tool_choice":"required""#, "tool_choice"),
            (r#","tools":[{}],"tool_choice":"required""#, "tools"),
            (r#","tools":[{}],"tool_choice":{"type":"function"}"#, "tools"),
            (r#","tools":[{"function":{"name":"a"}}],"tool_choice":"any""#, "tool_choice"),
            (
                r#","tools":[{"function":{"name":"a"}}],"tool_choice":{"type":"function",
                "function":{"name":"b"}}"#,
                "tool_choice",
            ),
            (r#","tools":[{}],"response_format":{"type":"json_object"}"#, "response_format"),
            (r#","tools":{}"#, "tools"),
            (r#","temperature":3"#, "temperature"),
            (r#","top_p":0"#, "top_p"),
            (r#","top_k":-7"#, "top_k"),
            (r#","stop":[1]"#, "stop"),
            (r#","stop":[""]"#, "stop"),
            (r#","max_tokens":0"#, "max_tokens"),
            (r#","presence_penalty":0.5"#, "presence_penalty"),
            (r#","response_format":{"type":"structural_tag"}"#, "response_format"),
            (r#","response_format":{"type":"json_schema"}"#, "response_format"),
            (
                r#","response_format":{"type":"json_schema","json_schema":{"schema":1}}"#,
                "response_format",
            ),
        ] {
            let body = with(more).unwrap_err().body();
            assert!(body.contains(&format!(r#""param":"{param}""#)), "{more}: {body}");
        }
        for body in ["", "[]", "{", r#"{"messages":[]}"#, r#"{"messages":[{"content":1}]}"#] {
            let refusal = read(body.as_bytes(), &CaptureOptions::default()).unwrap_err();
            assert_eq!(refusal.status, 400, "{body}");
        }
    }

    #[test]
    fn the_models_own_distribution_is_held_to_nothing() {
        let fixed = CaptureOptions { sampling_of_calls: false, ..CaptureOptions::default() };
        let body = br#"{"messages":[{"role":"user","content":"hi"}],
            "response_format":{"type":"json_object"}}"#;
        let refused = read(body, &fixed).unwrap_err().body();
        assert!(refused.contains(r#""param":"response_format""#), "{refused}");
    }
}

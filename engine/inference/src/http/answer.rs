//! What is answered.

use std::collections::BTreeMap;

use envmill_protocol::{PolicyVersion, VersionSpan};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{Chunk, Error, ErrorKind, Finish, Finished, TopLogprobs};

/// An answer, or a part of one, of `/inference/v1/generate` or `/v1/completions`.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(default, borrow)]
    choices: Vec<Choice<'a>>,
    #[serde(default)]
    usage: Option<Usage>,
    /// Where vLLM was told to say it (`--enable-per-request-metrics`).
    #[serde(default)]
    metrics: Option<Metrics>,
    /// The endpoint for token ids has it here.
    #[serde(default)]
    prompt_token_ids: Option<Vec<u32>>,
    #[serde(default, borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(default)]
    token_ids: Option<Vec<u32>>,
    #[serde(default, borrow)]
    logprobs: Option<Logprobs<'a>>,
    #[serde(default)]
    finish_reason: Option<std::borrow::Cow<'a, str>>,
    #[serde(default, borrow)]
    stop_reason: Option<&'a RawValue>,
    #[serde(default)]
    weight_versions: Option<Vec<Versions>>,
    /// The endpoint for completions has it here.
    #[serde(default)]
    prompt_token_ids: Option<Vec<u32>>,
}

#[derive(Deserialize)]
struct Logprobs<'a> {
    /// Of the endpoint for token ids.
    #[serde(default, borrow)]
    content: Option<Vec<Logprob<'a>>>,
    /// Of completions.
    #[serde(default)]
    token_logprobs: Option<Vec<Option<f32>>>,
    /// Of completions, too: an object for each token, of log-probabilities by the tokens' names.
    #[serde(default, borrow)]
    top_logprobs: Option<Vec<Option<&'a RawValue>>>,
}

#[derive(Deserialize)]
struct Logprob<'a> {
    logprob: f32,
    /// A list of [`Candidate`]s, which there is also where none are wanted.
    #[serde(default, borrow)]
    top_logprobs: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Candidate {
    token_id: Option<u32>,
    /// Its name, where vLLM has no number there: before 0.32.
    token: Option<String>,
    logprob: f32,
}

#[derive(Deserialize)]
struct Versions {
    version: String,
    start: u32,
    end: u32,
}

#[derive(Deserialize)]
struct Usage {
    #[serde(default)]
    prompt_tokens_details: Option<PromptDetails>,
}

#[derive(Deserialize)]
struct PromptDetails {
    #[serde(default)]
    cached_tokens: Option<u32>,
}

#[derive(Deserialize)]
struct Metrics {
    #[serde(default)]
    queue_time_ms: Option<f64>,
}

/// What an answer says besides its tokens, and where it is kept until the end.
#[derive(Debug, Default)]
pub(super) struct Aside {
    /// So many of the most likely tokens were asked for.
    top_logprobs: u32,
    prompt: Option<Vec<u32>>,
    cached_tokens: Option<u32>,
    queue_us: Option<u64>,
    /// Set once a choice has ended.
    finish: Option<(Finish, Vec<VersionSpan>)>,
}

impl Aside {
    pub(super) fn new(top_logprobs: u32) -> Self {
        Self { top_logprobs, ..Self::default() }
    }

    /// The end of the generation, if it has come.
    pub(super) fn finished(self) -> Option<Finished> {
        let (finish, versions) = self.finish?;
        let Self { prompt, cached_tokens, queue_us, .. } = self;
        Some(Finished { versions, prompt, cached_tokens, queue_us, ..Finished::new(finish) })
    }
}

/// Reads an answer; what it says besides tokens is kept in `aside`. `version` is what the engine samples
/// from as far as this end knows.
pub(super) fn read(text: &[u8], version: PolicyVersion, aside: &mut Aside) -> Result<Chunk, Error> {
    let answer: Answer<'_> = serde_json::from_slice(text)
        .map_err(|error| nonsense(&format!("an answer that cannot be read: {error}")))?;
    if let Some(error) = answer.error {
        let text: String = error.get().chars().take(300).collect();
        return Err(Error::new(ErrorKind::Lost, format!("in the midst of the answer: {text}")));
    }
    if let Some(cached) = answer.usage.and_then(|it| it.prompt_tokens_details?.cached_tokens) {
        aside.cached_tokens = Some(cached);
    }
    if let Some(ms) = answer.metrics.and_then(|it| it.queue_time_ms).filter(|it| *it >= 0.0) {
        // It rounds, and ends at the largest.
        aside.queue_us = Some((ms * 1e3).round() as u64);
    }
    let mut chunk = Chunk { version, ..Chunk::default() };
    let mut choices = answer.choices.into_iter();
    let Some(choice) = choices.next() else { return Ok(chunk) };
    if choices.next().is_some() {
        return Err(nonsense("more than the one sample asked for"));
    }
    if let Some(prompt) = answer.prompt_token_ids.or(choice.prompt_token_ids) {
        aside.prompt = Some(prompt);
    }
    chunk.token_ids = choice.token_ids.unwrap_or_default();
    if let Some(logprobs) = choice.logprobs {
        if aside.top_logprobs > 0 {
            chunk.top_logprobs = top(&logprobs, aside.top_logprobs)?;
        }
        let Logprobs { content, token_logprobs, .. } = logprobs;
        chunk.logprobs = match (content, token_logprobs) {
            (Some(content), _) => content.into_iter().map(|it| it.logprob).collect(),
            (None, Some(list)) => list.into_iter().map(|it| it.unwrap_or(f32::NAN)).collect(),
            (None, None) => Vec::new(),
        };
    }
    if let Some(reason) = choice.finish_reason {
        let finish = finish(&reason, choice.stop_reason.map(RawValue::get))?;
        let mut spans = Vec::new();
        for it in choice.weight_versions.unwrap_or_default() {
            let tokens = it
                .end
                .checked_sub(it.start)
                .ok_or_else(|| nonsense("a version span that ends before it begins"))?;
            spans.push(VersionSpan { version: named(&it.version, version), tokens });
        }
        aside.finish = Some((finish, spans));
    }
    Ok(chunk)
}

/// The most likely tokens at each place.
fn top(logprobs: &Logprobs<'_>, most: u32) -> Result<TopLogprobs, Error> {
    fn parsed<'a, T: Deserialize<'a> + Default>(raw: Option<&'a RawValue>) -> Result<T, Error> {
        let parsed = raw.map_or_else(|| Ok(T::default()), |it| serde_json::from_str(it.get()));
        parsed.map_err(|error| nonsense(&format!("the most likely tokens: {error}")))
    }
    let mut top = TopLogprobs::default();
    for it in logprobs.content.iter().flatten() {
        let candidates: Vec<Candidate> = parsed(it.top_logprobs)?;
        let mut known = Vec::with_capacity(candidates.len());
        for Candidate { token_id, token, logprob } in candidates {
            let id = token_id.map_or_else(|| id_of(&token.unwrap_or_default()), Ok)?;
            known.push((id, logprob));
        }
        top.push(known, most);
    }
    for raw in logprobs.top_logprobs.iter().flatten() {
        let by_name: BTreeMap<String, f32> = parsed(*raw)?;
        let mut candidates = Vec::with_capacity(by_name.len());
        for (name, logprob) in by_name {
            candidates.push((id_of(&name)?, logprob));
        }
        top.push(candidates, most);
    }
    Ok(top)
}

/// The token that has this name.
fn id_of(name: &str) -> Result<u32, Error> {
    let id = name.strip_prefix("token_id:").and_then(|it| it.parse().ok());
    id.ok_or_else(|| nonsense(&format!("a token that is called {name:?}")))
}

/// The version that an engine calls by this name. One that was given weights by somebody else calls them
/// as that one liked; then it is what this end last knew. vLLM's name for the weights that it was started
/// with is `default`.
pub(crate) fn named(name: &str, known: PolicyVersion) -> PolicyVersion {
    match name {
        "default" => PolicyVersion(0),
        name => name.parse().map_or(known, PolicyVersion),
    }
}

/// The end that a reason speaks of.
pub(super) fn finish(reason: &str, stop: Option<&str>) -> Result<Finish, Error> {
    Ok(match (reason, stop) {
        ("stop", None | Some("null")) => Finish::EndOfTurn,
        ("stop", Some(stop)) => match serde_json::from_str::<u32>(stop) {
            Ok(token) => Finish::StopToken(token),
            Err(_) => Finish::StopText(serde_json::from_str(stop).unwrap_or_default()),
        },
        ("length", _) => Finish::Length,
        ("abort", _) => Finish::Aborted,
        ("repetition", _) => Finish::StopText(String::new()),
        ("error", _) => {
            return Err(Error::new(ErrorKind::Lost, "it ended the generation with an error"));
        }
        (odd, _) => return Err(nonsense(&format!("{odd:?} as the reason for an end"))),
    })
}

fn nonsense(what: &str) -> Error {
    Error::new(ErrorKind::Nonsense, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_in_the_queue_is_known_where_it_is_told() {
        let told = |text: &str| {
            let mut aside = Aside::default();
            for part in text.split('\n') {
                read(part.as_bytes(), PolicyVersion(0), &mut aside).unwrap();
            }
            aside.finished().unwrap().queue_us
        };
        let end = r#"{"choices":[{"finish_reason":"length"}]"#;
        assert_eq!(told(&format!(r#"{end},"metrics":{{"queue_time_ms":1.5}}}}"#)), Some(1500));
        // Of what comes in parts, the last has it.
        let last = r#"{"choices":[],"metrics":{"queue_time_ms":0.25,"mean_itl_ms":null}}"#;
        assert_eq!(told(&format!("{end}}}\n{last}")), Some(250));
        for nothing in ["null", "{}", r#"{"queue_time_ms":null}"#, r#"{"queue_time_ms":-1}"#] {
            assert_eq!(told(&format!(r#"{end},"metrics":{nothing}}}"#)), None, "{nothing}");
        }
    }

    fn top_of(text: &str) -> Result<Vec<Vec<u32>>, Error> {
        let chunk = read(text.as_bytes(), PolicyVersion(0), &mut Aside::new(2))?;
        assert_eq!(chunk.logprobs, [-3.0]);
        let places = 0..chunk.top_logprobs.places();
        Ok(places.map(|it| chunk.top_logprobs.at(it).map(|it| it.0).collect()).collect())
    }

    #[test]
    fn the_most_likely_tokens_are_read_however_they_are_written() {
        // The sampled token comes first, and is none of the two most likely.
        let generate = r#"{"choices":[{"token_ids":[9],"logprobs":{"content":[{"token_id":9,"logprob":-3.0,
            "rank":7,"top_logprobs":[{"token_id":9,"logprob":-3.0,"rank":7},{"token_id":4,"logprob":-0.5},
            {"token_id":5,"logprob":-1.5}]}]}}]}"#;
        assert_eq!(top_of(generate).unwrap(), [[4, 5]]);
        let older = r#"{"choices":[{"token_ids":[9],"logprobs":{"content":[{"token":"token_id:9","logprob":-3.0,
            "top_logprobs":[{"token":"token_id:9","logprob":-3.0,"bytes":null},
            {"token":"token_id:5","logprob":-1.5},{"token":"token_id:4","logprob":-0.5}]}]}}]}"#;
        assert_eq!(top_of(older).unwrap(), [[4, 5]]);
        let nameless = older.replace("\"token\":", "\"name\":");
        assert_eq!(top_of(&nameless).unwrap_err().kind, ErrorKind::Nonsense);
        let completions = r#"{"choices":[{"token_ids":[9],"logprobs":{"token_logprobs":[-3.0],
            "top_logprobs":[{"token_id:9":-3.0,"token_id:5":-1.5,"token_id:4":-0.5}]}}]}"#;
        assert_eq!(top_of(completions).unwrap(), [[4, 5]]);
        let texts = completions.replace("token_id:5", "five");
        assert_eq!(top_of(&texts).unwrap_err().kind, ErrorKind::Nonsense);
        // Where none are wanted they are not looked at.
        let chunk = read(texts.as_bytes(), PolicyVersion(0), &mut Aside::default()).unwrap();
        assert_eq!(chunk.top_logprobs, TopLogprobs::default());
    }
}

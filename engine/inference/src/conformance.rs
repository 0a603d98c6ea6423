//! The suite that every channel passes, against a real inference engine.
//!
//! Each function is one property; a test calls [`all`] with a channel and what is true of the model behind
//! it. They panic where it does not hold.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "what panics here is a failed test")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use envmill_protocol::PolicyVersion;
use tokio::time::{sleep, timeout};

use crate::{
    Constraint, Control, Deliver, ErrorKind, Finish, Inference, JsonSchema, Outcome, PauseMode,
    Request, RequestId, Sampling,
};

/// What is true of the model that the engine serves.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// Token ids are below this.
    pub vocabulary: u32,
    /// Prompt and sampled tokens together are at most this many.
    pub context: u32,
}

/// A hang is a failure.
const HANG: Duration = Duration::from_mins(3);

/// Names are unique over a process.
static NEXT: AtomicU64 = AtomicU64::new(1 << 32);

/// A request for so many greedy tokens of a prompt that `nth` picks, whatever the model says in them.
#[must_use]
pub fn greedy(nth: u32, max_tokens: u32) -> Request {
    let sampling = Sampling { temperature: 0.0, ignore_eos: true, ..Sampling::default() };
    Request {
        id: RequestId(NEXT.fetch_add(1, Ordering::Relaxed)),
        prompt: (0..24).map(|it| 10 + (nth * 31 + it * 7) % 900).collect(),
        messages: None,
        sampling: Arc::new(sampling),
        max_tokens,
        seed: Some(u64::from(nth)),
        affinity: None,
        deliver: Deliver::Whole,
    }
}

/// The whole of a generation, or a panic.
pub async fn whole(engine: &dyn Inference, request: Request) -> Outcome {
    let generation = engine.generate(request).whole();
    timeout(HANG, generation).await.expect("no answer").expect("an answer")
}

/// All properties.
pub async fn all(engine: &Arc<dyn Inference>, facts: Facts) {
    tokens_and_logprobs_are_as_many_as_asked_for(&**engine).await;
    parts_are_the_whole(&**engine).await;
    the_most_likely_tokens_are_told(&**engine).await;
    what_is_held_to_a_constraint_follows_it(&**engine).await;
    sampled_tokens_follow_the_seed(&**engine).await;
    stop_tokens_end_it(&**engine).await;
    what_cannot_be_answered_is_refused(&**engine, facts).await;
    dropped_generations_leave_the_engine(&**engine).await;
    aborted_generations_keep_what_was_sampled(&**engine).await;
    versions_are_told_apart(&**engine).await;
    many_at_once_are_all_answered(engine).await;
}

/// So many tokens, so many log-probabilities, all with a version.
pub async fn tokens_and_logprobs_are_as_many_as_asked_for(engine: &dyn Inference) {
    for tokens in [1, 16] {
        let outcome = whole(engine, greedy(1, tokens)).await;
        assert_eq!(outcome.token_ids.len(), tokens as usize);
        assert_eq!(outcome.logprobs.len(), tokens as usize);
        assert!(outcome.logprobs.iter().all(|it| *it <= 0.0 && it.is_finite()));
        let covered: u32 = outcome.versions.iter().map(|it| it.tokens).sum();
        assert_eq!(covered, tokens);
        assert_eq!(outcome.finish(), Some(&Finish::Length));
    }
    let silent = Sampling { logprobs: false, ..Sampling::clone(&greedy(0, 1).sampling) };
    let request = Request { sampling: Arc::new(silent), ..greedy(1, 4) };
    let outcome = whole(engine, request).await;
    assert_eq!((outcome.token_ids.len(), outcome.logprobs.len()), (4, 0));
}

/// Streamed chunks together are what comes whole.
pub async fn parts_are_the_whole(engine: &dyn Inference) {
    if !engine.capabilities().streaming {
        return;
    }
    let expected = whole(engine, greedy(2, 24)).await;
    let mut generation = engine.generate(Request { deliver: Deliver::Streamed, ..greedy(2, 24) });
    let mut outcome = Outcome::default();
    let mut chunks = 0;
    while let Some(chunk) = timeout(HANG, generation.next()).await.expect("no chunk") {
        chunks += 1;
        outcome.push(chunk.expect("a chunk")).expect("sense");
    }
    assert!(chunks > 1, "one chunk");
    assert_eq!(outcome.token_ids, expected.token_ids);
    close(&outcome.logprobs, &expected.logprobs);
    assert_eq!(outcome.finish(), expected.finish());
}

/// So many of them at each token, the most likely first; where the channel cannot, it says so.
pub async fn the_most_likely_tokens_are_told(engine: &dyn Inference) {
    const TOP: u32 = 3;
    let asked = |temperature, deliver| {
        let sampling = Sampling::clone(&greedy(0, 1).sampling);
        let sampling = Sampling { temperature, top_logprobs: TOP, ..sampling };
        Request { sampling: Arc::new(sampling), deliver, ..greedy(11, 12) }
    };
    if engine.capabilities().top_logprobs == 0 {
        let refused = engine.generate(asked(0.0, Deliver::Whole)).whole();
        let error = timeout(HANG, refused).await.expect("no answer").expect_err("an answer");
        assert_eq!(error.kind, ErrorKind::Unsupported, "{error}");
        return;
    }
    for (temperature, deliver) in
        [(0.0, Deliver::Whole), (1.0, Deliver::Whole), (1.0, Deliver::Streamed)]
    {
        let Outcome { token_ids, logprobs, top_logprobs, .. } =
            whole(engine, asked(temperature, deliver)).await;
        assert_eq!(top_logprobs.places(), token_ids.len());
        for (place, (sampled, logprob)) in token_ids.iter().zip(&logprobs).enumerate() {
            let top: Vec<_> = top_logprobs.at(place).collect();
            assert_eq!(top.len(), TOP as usize, "{top:?}");
            assert!(top.is_sorted_by(|left, right| left.1 >= right.1), "{top:?}");
            match top.iter().find(|it| it.0 == *sampled) {
                Some(it) => close(&[it.1], &[*logprob]),
                None => assert!(temperature > 0.0 && *logprob <= top[2].1 + 1e-4, "{top:?}"),
            }
        }
    }
    // As many as can be had at all.
    let most = engine.capabilities().top_logprobs;
    let sampling = Sampling { top_logprobs: most, ..Sampling::clone(&greedy(0, 1).sampling) };
    let outcome = whole(engine, Request { sampling: Arc::new(sampling), ..greedy(11, 2) }).await;
    assert_eq!(outcome.top_logprobs.at(1).count(), most as usize);
}

/// There is one text that the schema lets through; where the channel cannot, it says so.
pub async fn what_is_held_to_a_constraint_follows_it(engine: &dyn Inference) {
    let held = |deliver| {
        let schema = JsonSchema::new(r#"{"type": "string", "enum": ["x"]}"#).expect("a schema");
        let constraint = Some(Constraint::JsonSchema(schema));
        let sampling = Sampling { constraint, ..Sampling::default() };
        Request { sampling: Arc::new(sampling), deliver, ..greedy(12, 100) }
    };
    if !engine.capabilities().constraints {
        let refused = engine.generate(held(Deliver::Whole)).whole();
        let error = timeout(HANG, refused).await.expect("no answer").expect_err("an answer");
        assert_eq!(error.kind, ErrorKind::Unsupported, "{error}");
        return;
    }
    for deliver in [Deliver::Whole, Deliver::Streamed] {
        let outcome = whole(engine, held(deliver)).await;
        // A quote, a letter, a quote, and the end of the turn; some tokens are several of these.
        assert!((2..=4).contains(&outcome.token_ids.len()), "{:?}", outcome.token_ids);
        assert_eq!(outcome.finish(), Some(&Finish::EndOfTurn));
    }
    whole(engine, greedy(5, 2)).await;
}

/// The same seed samples the same, another one something else.
pub async fn sampled_tokens_follow_the_seed(engine: &dyn Inference) {
    let sampled = |seed| {
        let sampling = Sampling { ignore_eos: true, ..Sampling::default() };
        Request { sampling: Arc::new(sampling), seed: Some(seed), ..greedy(3, 12) }
    };
    let first = whole(engine, sampled(1 << 40)).await;
    let again = whole(engine, sampled(1 << 40)).await;
    let other = whole(engine, sampled(7)).await;
    assert_eq!(first.token_ids, again.token_ids);
    close(&first.logprobs, &again.logprobs);
    assert_ne!(first.token_ids, other.token_ids);
}

/// A stop token is the last one.
pub async fn stop_tokens_end_it(engine: &dyn Inference) {
    let free = whole(engine, greedy(4, 8)).await;
    let stop = free.token_ids[2];
    let first = free.token_ids.iter().position(|it| *it == stop).unwrap_or(0);
    let sampling =
        Sampling { stop_token_ids: vec![stop], ..Sampling::clone(&greedy(0, 1).sampling) };
    let outcome = whole(engine, Request { sampling: Arc::new(sampling), ..greedy(4, 8) }).await;
    assert_eq!(outcome.token_ids, free.token_ids[..=first]);
    assert_eq!(outcome.finish(), Some(&Finish::StopToken(stop)));
}

/// A wrong request is told so, and harms nobody.
pub async fn what_cannot_be_answered_is_refused(engine: &dyn Inference, facts: Facts) {
    let beyond = Request { prompt: Arc::from([1, facts.vocabulary + 10]), ..greedy(0, 4) };
    let long = Request { prompt: vec![5; facts.context as usize + 8].into(), ..greedy(0, 4) };
    for request in [beyond, long] {
        let answer = timeout(HANG, engine.generate(request).whole()).await.expect("no answer");
        let error = answer.expect_err("an answer to nonsense");
        assert_eq!(error.kind, ErrorKind::Refused, "{error}");
    }
    whole(engine, greedy(5, 2)).await;
}

/// What nobody wants is not sampled.
pub async fn dropped_generations_leave_the_engine(engine: &dyn Inference) {
    let mut generation = engine.generate(Request { deliver: Deliver::Streamed, ..greedy(6, 3000) });
    timeout(HANG, generation.next()).await.expect("no chunk").expect("a chunk").expect("sense");
    let later = engine.generate(greedy(7, 3000));
    sleep(Duration::from_millis(300)).await;
    drop((generation, later));
    idle(engine).await;
}

/// An abort keeps what there is.
pub async fn aborted_generations_keep_what_was_sampled(engine: &dyn Inference) {
    let request = Request { deliver: Deliver::Streamed, ..greedy(8, 3000) };
    let id = request.id;
    let mut generation = engine.generate(request);
    let mut outcome = Outcome::default();
    let (mut last, mut told) = (false, false);
    while let Some(chunk) = timeout(HANG, generation.next()).await.expect("no chunk") {
        last = outcome.push(chunk.expect("a chunk")).expect("sense");
        // A chunk may have more than one token.
        if outcome.token_ids.len() >= 5 && !std::mem::replace(&mut told, true) {
            engine.abort(&[id, RequestId(u64::MAX)]);
        }
    }
    assert!(last, "an aborted generation has an end");
    assert_eq!(outcome.finish(), Some(&Finish::Aborted));
    assert!((5..3000).contains(&outcome.token_ids.len()), "{}", outcome.token_ids.len());
    let free = whole(engine, greedy(8, 5)).await;
    assert_eq!(outcome.token_ids[..5], free.token_ids);
    idle(engine).await;
}

/// A version that is set in the midst of a generation is the version of what follows.
pub async fn versions_are_told_apart(engine: &dyn Inference) {
    if !engine.capabilities().control {
        return;
    }
    let tell = async |control: Control| {
        timeout(HANG, engine.control(control)).await.expect("no answer").expect("control");
    };
    tell(Control::SetVersion(PolicyVersion(3))).await;
    let mut generation = engine.generate(Request { deliver: Deliver::Streamed, ..greedy(9, 1500) });
    let mut outcome = Outcome::default();
    while outcome.token_ids.len() < 10 {
        let chunk = timeout(HANG, generation.next()).await.expect("no chunk");
        outcome.push(chunk.expect("a chunk").expect("sense")).expect("sense");
    }
    tell(Control::Pause(PauseMode::Keep)).await;
    tell(Control::SetVersion(PolicyVersion(4))).await;
    tell(Control::Resume).await;
    while let Some(chunk) = timeout(HANG, generation.next()).await.expect("no chunk") {
        outcome.push(chunk.expect("a chunk")).expect("sense");
    }
    let spans: Vec<_> = outcome.versions.iter().map(|it| (it.version.0, it.tokens)).collect();
    let [(3, before), (4, after)] = spans[..] else { panic!("{spans:?}") };
    assert!(before >= 10 && after >= 1 && before + after == 1500, "{spans:?}");
    let later = whole(engine, greedy(10, 3)).await;
    assert_eq!(
        later.versions.iter().map(|it| (it.version.0, it.tokens)).collect::<Vec<_>>(),
        [(4, 3)]
    );
}

/// Nobody is forgotten, and nobody gets another's tokens.
pub async fn many_at_once_are_all_answered(engine: &Arc<dyn Inference>) {
    let alone = whole(&**engine, greedy(100, 6)).await;
    let asked: Vec<_> =
        (0..200).map(|nth| (nth, engine.generate(greedy(100 + nth % 50, 6 - nth % 3)))).collect();
    let mut firsts = vec![None; 50];
    for (nth, generation) in asked {
        let outcome = timeout(HANG, generation.whole()).await.expect("no answer").expect("answer");
        assert_eq!(outcome.token_ids.len(), 6 - nth as usize % 3);
        let first = firsts[nth as usize % 50].get_or_insert(outcome.token_ids[0]);
        assert_eq!(*first, outcome.token_ids[0]);
    }
    assert_eq!(firsts[0], Some(alone.token_ids[0]));
}

/// Waits until the engine samples nothing, if it says so.
async fn idle(engine: &dyn Inference) {
    let looks = async {
        loop {
            match engine.load().await.expect("its load") {
                Some(load) if load.running + load.waiting > 0 => {
                    sleep(Duration::from_millis(50)).await;
                }
                _ => return,
            }
        }
    };
    timeout(Duration::from_secs(30), looks).await.expect("it still samples what nobody wants");
}

/// Log-probabilities of the same tokens by the same weights.
fn close(left: &[f32], right: &[f32]) {
    assert_eq!(left.len(), right.len());
    for (left, right) in left.iter().zip(right) {
        assert!((left - right).abs() < 1e-4, "{left} and {right}");
    }
}

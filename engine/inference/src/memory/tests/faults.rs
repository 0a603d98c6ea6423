//! What the channel makes of a plug-in that is slow, wrong, or gone.

use std::sync::Arc;

use envmill_ring::{ColumnSpec, DType, Layout};

use crate::{
    Constraint, Control, Deliver, ErrorKind, Finish, Generation, Inference as _, JsonSchema,
    PauseMode, Request, RequestId, Sampling,
};

use super::{
    super::layout,
    mock::{Mock, Says, request},
};

const GENERATE: u8 = 1;
const ABORT: u8 = 2;
const FORGET: u8 = 3;

fn fails(mock: &Mock, mut generation: Generation) -> ErrorKind {
    mock.runtime.block_on(generation.next()).expect("an end").expect_err("an error").kind
}

#[test]
fn requests_that_wait_are_one_batch_and_so_are_their_answers() {
    let mock = Mock::new();
    let engine = mock.engine();
    // Nothing is read before the plug-in has answered: all of these wait.
    let generations: Vec<_> =
        (1..=3).map(|id| engine.generate(request(id, &[7, id as u32], 2))).collect();
    let mut met = mock.meet();
    let asked = met.next();
    assert_eq!(asked.iter().map(|it| it.kind).collect::<Vec<_>>(), [GENERATE; 3]);
    assert_eq!(asked[2].tokens, [7, 0, 0, 0, 3, 0, 0, 0]);
    assert_eq!((asked[2].max_tokens, asked[2].flags), (2, 2));
    let ends: Vec<_> =
        asked.iter().map(|it| Says::end(it.number, &[it.number as u32, 9])).collect();
    met.tell(&ends);
    for (generation, asked) in generations.into_iter().zip(asked) {
        let outcome = mock.runtime.block_on(generation.whole()).unwrap();
        assert_eq!(outcome.token_ids, [asked.number as u32, 9]);
        assert_eq!(outcome.finish(), Some(&Finish::Length));
    }
}

#[test]
fn more_than_fits_into_the_slots_waits_for_room() {
    let mock = Mock::new();
    let engine = mock.engine();
    let generations: Vec<_> = (0..50).map(|id| engine.generate(request(id, &[1; 20], 1))).collect();
    let mut met = mock.meet();
    let mut seen = 0;
    while seen < 50 {
        let asked = met.next();
        // Three prompts of 20 tokens are what 64 have room for.
        assert!(asked.len() <= 3, "{}", asked.len());
        seen += asked.len();
        let ends: Vec<_> = asked.iter().map(|it| Says::end(it.number, &[5])).collect();
        while !met.writer.has_room().unwrap() {
            std::thread::yield_now();
        }
        met.tell(&ends);
    }
    for generation in generations {
        assert_eq!(mock.runtime.block_on(generation.whole()).unwrap().token_ids, [5]);
    }
}

#[test]
fn what_the_lost_were_doing_is_lost_and_the_next_request_connects_anew() {
    let mock = Mock::new();
    let engine = mock.engine();
    let first = engine.generate(request(1, &[1], 5));
    let mut met = mock.meet();
    assert_eq!(met.next().len(), 1);
    drop(met);
    assert_eq!(fails(&mock, first), ErrorKind::Lost);
    let second = engine.generate(request(1, &[1], 5));
    let mut met = mock.meet();
    let asked = met.next();
    met.tell(&[Says::end(asked[0].number, &[3])]);
    assert_eq!(mock.runtime.block_on(second.whole()).unwrap().token_ids, [3]);
}

#[test]
fn without_a_plug_in_requests_and_questions_are_lost() {
    let mock = Mock::new();
    let mut options = mock.options();
    options.socket.set_extension("nobody");
    let engine = crate::VllmMemory::new(options, mock.runtime.handle().clone()).unwrap();
    assert_eq!(fails(&mock, engine.generate(request(1, &[1], 5))), ErrorKind::Lost);
    let error = mock.runtime.block_on(engine.load()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Lost);
    assert!(error.message.contains("VLLM_PLUGINS=envmill"), "{error}");
}

#[test]
fn what_is_dropped_is_forgotten_and_what_never_left_is_never_written() {
    let mock = Mock::new();
    let engine = mock.engine();
    let kept = engine.generate(request(1, &[1], 5));
    drop(engine.generate(request(2, &[2], 5)));
    let aborted = engine.generate(request(3, &[3], 5));
    engine.abort(&[RequestId(3), RequestId(77)]);
    let outcome = mock.runtime.block_on(aborted.whole()).unwrap();
    assert_eq!(outcome.finish(), Some(&Finish::Aborted));
    let mut met = mock.meet();
    let asked = met.next();
    assert_eq!(asked.len(), 1);
    engine.abort(&[RequestId(1)]);
    assert_eq!((met.next()[0].kind, asked[0].number), (ABORT, asked[0].number));
    drop(kept);
    let forgotten = met.next();
    assert_eq!((forgotten[0].kind, forgotten[0].number), (FORGET, asked[0].number));
    // What was on its way is nobody's.
    met.tell(&[Says::end(asked[0].number, &[3])]);
    let next = engine.generate(request(4, &[4], 5));
    let asked = met.next();
    met.tell(&[Says::end(asked[0].number, &[4])]);
    assert_eq!(mock.runtime.block_on(next.whole()).unwrap().token_ids, [4]);
}

#[test]
fn what_cannot_be_written_is_told_at_once() {
    let mock = Mock::new();
    let options = crate::VllmMemoryOptions { waiting_max: 2, ..mock.options() };
    let engine = crate::VllmMemory::new(options, mock.runtime.handle().clone()).unwrap();
    assert_eq!(fails(&mock, engine.generate(request(1, &[1; 65], 5))), ErrorKind::Refused);
    let wanting = |sampling| Request { sampling: Arc::new(sampling), ..request(1, &[1], 5) };
    let long = format!(r#"{{"title":"{}"}}"#, "x".repeat(1 << 20));
    let constraint = Some(Constraint::JsonSchema(JsonSchema::new(&long).unwrap()));
    let held = wanting(Sampling { constraint, ..Sampling::default() });
    assert_eq!(fails(&mock, engine.generate(held)), ErrorKind::Refused);
    let many = wanting(Sampling { top_logprobs: 21, ..Sampling::default() });
    assert_eq!(fails(&mock, engine.generate(many)), ErrorKind::Unsupported);
    let _waiting: Vec<_> = (1..=2).map(|id| engine.generate(request(id, &[1], 5))).collect();
    assert_eq!(fails(&mock, engine.generate(request(3, &[1], 5))), ErrorKind::Busy);
    let odd = crate::VllmMemoryOptions { slots: 0, ..mock.options() };
    let refused = crate::VllmMemory::new(odd, mock.runtime.handle().clone()).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Refused);
}

#[test]
fn a_plug_in_that_makes_no_sense_is_given_up() {
    let wrong = |says: &dyn Fn(u64) -> Says| {
        let mock = Mock::new();
        let engine = mock.engine();
        let generation = engine.generate(request(1, &[1], 2));
        let mut met = mock.meet();
        let number = met.next()[0].number;
        met.tell(&[says(number)]);
        fails(&mock, generation)
    };
    let number = |number| Says::end(number, &[1]);
    assert_eq!(wrong(&|it| Says { kind: 99, ..number(it) }), ErrorKind::Nonsense);
    assert_eq!(wrong(&|it| Says { why: 0, ..number(it) }), ErrorKind::Nonsense);
    assert_eq!(wrong(&|it| Says { tokens: vec![1; 6], ..number(it) }), ErrorKind::Nonsense);
    assert_eq!(wrong(&|it| Says { versions: vec![0; 15], ..number(it) }), ErrorKind::Nonsense);
    assert_eq!(wrong(&|it| Says { top_tokens: vec![0; 4], ..number(it) }), ErrorKind::Nonsense);
    assert_eq!(wrong(&|it| Says::end(it, &[]).with_top(&[(1, -1.0)])), ErrorKind::Nonsense);
    let three = [(1, -1.0), (2, -2.0), (3, -3.0)];
    assert_eq!(wrong(&|it| Says::end(it, &[1, 2]).with_top(&three)), ErrorKind::Nonsense);
    // The most likely tokens where none were asked for, too.
    assert_eq!(wrong(&|it| number(it).with_top(&three)), ErrorKind::Nonsense);
    // More tokens than were asked for are one generation's error only.
    assert_eq!(wrong(&|it| Says::end(it, &[1, 2, 3])), ErrorKind::Nonsense);
    // What it says of a failure is what there is to know.
    let failed = |why| move |it| Says { kind: 3, why, ..number(it) };
    assert_eq!(wrong(&failed(1)), ErrorKind::Refused);
    assert_eq!(wrong(&failed(2)), ErrorKind::Busy);
}

#[test]
fn greetings_that_are_none_are_a_loss() {
    let mock = Mock::new();
    let engine = mock.engine();
    let right = || layout::results(&mock.options()).unwrap();
    let wrong = Layout::new(4, 2, [ColumnSpec::fixed("number", DType::U8, &[])]).unwrap();
    for (layout, welcome) in
        [(wrong, &br#"{"version":3}"#[..]), (right(), br#"{"version":2}"#), (right(), b"hm")]
    {
        let generation = engine.generate(request(1, &[1], 2));
        let _met = mock.meet_with(layout, welcome);
        assert_eq!(fails(&mock, generation), ErrorKind::Lost);
    }
    let generation = engine.generate(request(1, &[1], 2));
    drop(mock.accept());
    assert_eq!(fails(&mock, generation), ErrorKind::Lost);
}

#[test]
fn another_vllm_than_expected_is_a_loss_and_the_expected_one_is_not() {
    let mock = Mock::new();
    let expecting = |name: &str| {
        let options = crate::VllmMemoryOptions { engine: Some(name.into()), ..mock.options() };
        crate::VllmMemory::new(options, mock.runtime.handle().clone()).unwrap()
    };
    let (other, one) = (expecting("other"), expecting("one"));
    let generation = other.generate(request(1, &[1], 2));
    let _met = mock.meet();
    assert_eq!(fails(&mock, generation), ErrorKind::Lost);
    let generation = one.generate(request(1, &[1], 2));
    let mut met = mock.meet();
    let number = met.next()[0].number;
    met.tell(&[Says::end(number, &[3])]);
    assert_eq!(mock.runtime.block_on(generation.whole()).unwrap().token_ids, [3]);
}

#[test]
fn how_long_a_request_has_waited_is_told_where_it_is_known() {
    let mock = Mock::new();
    let engine = mock.engine();
    let asked = [request(1, &[1], 2), request(2, &[1], 2)].map(|it| engine.generate(it));
    let mut met = mock.meet();
    let rows = met.next();
    met.tell(&[
        Says { queue_us: 1234, ..Says::end(rows[0].number, &[3]) },
        Says { queue_us: u64::MAX, ..Says::end(rows[1].number, &[3]) },
    ]);
    let waited = asked.map(|it| {
        let outcome = mock.runtime.block_on(it.whole()).unwrap();
        outcome.finished.unwrap().queue_us
    });
    assert_eq!(waited, [Some(1234), None]);
}

#[test]
fn the_most_likely_tokens_come_with_the_parts_that_they_belong_to() {
    let mock = Mock::new();
    let engine = mock.engine();
    let sampling = Arc::new(Sampling { top_logprobs: 2, ..Sampling::default() });
    let asked = [1, 2].map(|id| {
        engine.generate(Request { sampling: Arc::clone(&sampling), ..request(id, &[1], 3) })
    });
    let mut met = mock.meet();
    let rows = met.next();
    assert_eq!((rows[0].top_logprobs, rows[0].constraint, &rows[0].schema[..]), (2, 0, &b""[..]));
    let top = [(8, -0.5), (9, -1.5), (7, -0.25), (8, -2.5)];
    let part = Says { kind: 1, ..Says::end(rows[0].number, &[8, 9]).with_top(&top) };
    let end = Says::end(rows[0].number, &[6]).with_top(&[(5, -1.0), (6, -f32::INFINITY)]);
    // The other one's tokens come without them.
    met.tell(&[part, end, Says::end(rows[1].number, &[8])]);
    let [first, second] = asked;
    let outcome = mock.runtime.block_on(first.whole()).unwrap();
    assert_eq!(outcome.token_ids, [8, 9, 6]);
    let at = |place| outcome.top_logprobs.at(place).collect::<Vec<_>>();
    assert_eq!((at(0), at(1)), (top[..2].to_vec(), top[2..].to_vec()));
    assert_eq!((at(2)[0], at(2)[1].0), ((5, -1.0), 6));
    assert_eq!(fails(&mock, second), ErrorKind::Nonsense);
}

#[test]
fn what_a_generation_is_held_to_is_written_as_it_was() {
    let mock = Mock::new();
    let engine = mock.engine();
    let text = r#"{"type": "object", "properties": {"b": {}, "a": {}}}"#;
    let schema = Constraint::JsonSchema(JsonSchema::new(text).unwrap());
    let _asked = [Some(Constraint::JsonObject), Some(schema), None].map(|constraint| {
        let sampling = Arc::new(Sampling { constraint, ..Sampling::default() });
        engine.generate(Request { sampling, ..request(1, &[1], 3) })
    });
    let rows = mock.meet().next();
    let told: Vec<_> = rows.iter().map(|it| (it.constraint, &it.schema[..])).collect();
    assert_eq!(told, [(1, &b""[..]), (2, text.as_bytes()), (0, &b""[..])]);
}

#[test]
fn questions_are_answered_and_parts_are_a_whole() {
    let mock = Mock::new();
    let engine = mock.engine();
    let streamed = Request { deliver: Deliver::Streamed, ..request(1, &[1], 3) };
    let generation = engine.generate(streamed);
    let mut met = mock.meet();
    let number = met.next()[0].number;
    met.tell(&[Says { kind: 1, ..Says::end(number, &[8, 9]) }]);
    let version = [7_u64.to_le_bytes(), 3_u64.to_le_bytes()].concat();
    met.tell(&[Says { versions: version, ..Says::end(number, &[10]) }]);
    let outcome = mock.runtime.block_on(generation.whole()).unwrap();
    assert_eq!(outcome.token_ids, [8, 9, 10]);
    assert_eq!((outcome.versions[0].version.0, outcome.versions[0].tokens), (7, 3));

    let shared = Arc::new(engine);
    let asking = Arc::clone(&shared);
    let asked = mock.runtime.spawn(async move {
        asking.control(Control::Pause(PauseMode::Keep)).await.unwrap();
        asking.load().await
    });
    let pause = met.next();
    assert_eq!((pause[0].kind, &pause[0].text[..]), (4, &b"keep"[..]));
    met.tell(&[Says { number: pause[0].number, kind: 4, ..Says::default() }]);
    let load = met.next();
    assert_eq!(load[0].kind, 8);
    let text = br#"{"running":3,"kv_cache":0.5}"#.to_vec();
    met.tell(&[Says { number: load[0].number, kind: 5, text, ..Says::default() }]);
    let load = mock.runtime.block_on(asked).unwrap().unwrap().unwrap();
    assert_eq!((load.running, load.waiting), (3, 0));
}

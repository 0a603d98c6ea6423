//! Frames that no stock server sends, and what each becomes.

use bytes::Bytes;
use envmill_protocol::{
    Ended, Failure, FailureKind, Observed, SessionFate,
    openenv::{
        Decoder, Expect, Reply,
        server::{ServerError, VIOLATIONS_MAX, decode_message, encode_error},
    },
};
use expect_test::{Expect as Snapshot, expect};

fn decode(frame: impl Into<Bytes>, expect: Expect) -> Result<Reply, Failure> {
    Decoder::default().decode(&frame.into(), expect)
}

fn failure(frame: impl Into<Bytes>) -> Failure {
    decode(frame, Expect::Observation).unwrap_err()
}

fn observed(frame: &str, truncated_from: Option<&str>) -> Observed {
    let decoder = Decoder::new(truncated_from.map(|path| path.parse().unwrap()));
    match decoder.decode(&Bytes::from(frame.to_owned()), Expect::Observation) {
        Ok(Reply::Observed(observed)) => observed,
        other => panic!("no observation: {other:?}"),
    }
}

#[test]
fn what_the_protocol_does_not_allow_loses_the_session() {
    let frames = [
        "",
        "   ",
        "null",
        "[1]",
        "{",
        r#"{"type":"observation"}"#,
        r#"{"data":{"observation":{}}}"#,
        r#"{"type":"observation","data":null}"#,
        r#"{"type":"observation","data":[{},1.0,true]}"#,
        r#"{"type":"observation","data":{"reward":1.0,"done":false}}"#,
        r#"{"type":"observation","data":{"observation":{"x":NaN},"reward":1.0,"done":false}}"#,
        r#"{"type":"observation","data":{"observation":{},"reward":-Infinity,"done":false}}"#,
        r#"{"type":"observation","data":{"observation":{},"reward":1,"reward":2,"done":false}}"#,
        r#"{"type":"observation","data":{"observation":{},"reward":1,"done":1}}"#,
        r#"{"type":"observation","data":{"observation":{},"reward":1,"done":"true"}}"#,
        r#"{"type":"observation","data":{"observation":{"text":"caf"#,
        r#"{"type":"observation","data":{"observation":{}}} {"type":"#,
        r#"{"type":"state","data":{}}"#,
        r#"{"type":"welcome","data":{}}"#,
        r#"{"type":5,"data":{}}"#,
        r#"{"type":"error","data":"no"}"#,
    ];
    let mut messages = String::new();
    for frame in frames {
        let failure = failure(frame);
        assert_eq!(failure.kind, FailureKind::Protocol, "{frame}");
        assert_eq!(failure.session, SessionFate::Lost, "{frame}");
        messages.push_str(&failure.message);
        messages.push('\n');
    }
    expect![[r#"
        the frame is malformed: EOF while parsing a value at line 1 column 0, near ""
        the frame is malformed: EOF while parsing a value at line 1 column 3, near "   "
        the frame is malformed: invalid type: null, expected an object with `type` and `data` at line 1 column 4, near "null"
        the frame is malformed: invalid type: sequence, expected an object with `type` and `data` at line 1 column 0, near "[1]"
        the frame is malformed: EOF while parsing an object at line 1 column 1, near "{"
        the frame is malformed: missing field `data` at line 1 column 22, near "{\"type\":\"observation\"}"
        the frame is malformed: missing field `type` at line 1 column 27, near "{\"data\":{\"observation\":{}}}"
        the frame is malformed: invalid type: null, expected an object with `observation`, `reward` and `done` at line 1 column 33, near "{\"type\":\"observation\",\"data\":null}"
        the frame is malformed: invalid type: sequence, expected an object with `observation`, `reward` and `done` at line 1 column 29, near "{\"type\":\"observation\",\"data\":[{},1.0,true]}"
        an observation frame without `observation`
        the frame is malformed: expected value at line 1 column 50, near "bservation\",\"data\":{\"observation\":{\"x\":NaN},\"reward\":1.0,\"do"
        the frame is malformed: invalid number at line 1 column 58, near "on\",\"data\":{\"observation\":{},\"reward\":-Infinity,\"done\":false"
        the frame is malformed: duplicate field `reward` at line 1 column 68, near ":{\"observation\":{},\"reward\":1,\"reward\":2,\"done\":false}}"
        `done` is no boolean: 1
        `done` is no boolean: "true"
        the frame is malformed: EOF while parsing a string at line 1 column 56, near "tion\",\"data\":{\"observation\":{\"text\":\"caf"
        the frame is malformed: trailing characters at line 1 column 50, near "bservation\",\"data\":{\"observation\":{}}} {\"type\":"
        expected a frame of type "observation", got "state"
        expected a frame of type "observation", got "welcome"
        expected a frame of type "observation", got 5
        an error frame without an object in `data`: "no"
    "#]].assert_eq(&messages);

    let mut invalid = br#"{"type":"observation","data":{"observation":"X","done":false}}"#.to_vec();
    let place = invalid.iter().position(|&byte| byte == b'X').unwrap();
    invalid[place] = 0xff;
    assert_eq!(failure(invalid).kind, FailureKind::Protocol);
}

#[test]
fn depth_and_size_do_not_matter() {
    for depth in [100, 100_000] {
        let nested = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let deep = format!(
            r#"{{"type":"observation","data":{{"observation":{nested},"done":true}},"x":{nested}}}"#
        );
        let path = Some("observation.a.b");
        assert_eq!(observed(&deep, path).observation, nested.as_str());
        assert_eq!(observed(&deep, path).ended, Some(Ended::TerminatedUnmapped));
        let open =
            format!(r#"{{"type":"observation","data":{{"observation":{}"#, "[".repeat(depth));
        assert_eq!(failure(open).kind, FailureKind::Protocol);
    }
    let digits = "9".repeat(5000);
    let huge = observed(
        &format!(r#"{{"type":"observation","data":{{"observation":{digits},"reward":{digits}}}}}"#),
        None,
    );
    assert_eq!(huge.observation, digits.as_str());
    assert_eq!((huge.reward.value, huge.ended), (None, None));
}

#[test]
fn the_order_of_keys_and_unknown_keys_do_not_matter() {
    let usual = observed(
        r#"{"type":"observation","data":{"observation":{"a":1},"reward":2,"done":true,"metadata":{}}}"#,
        None,
    );
    let turned = observed(
        r#"{ "v":[1], "data":{"metadata":{},"info":"x","done":true,"reward":2,"observation":{"a":1}},
            "\u0074ype":"obser\u0076ation", "id":7 }"#,
        None,
    );
    assert_eq!(usual, turned);
}

#[test]
fn done_is_told_apart_by_the_configured_field() {
    let frame = |done: &str, inner: &str, metadata: &str| {
        format!(
            r#"{{"type":"observation","data":{{"observation":{{"cut":true,"metadata":{inner}}},"done":{done}{metadata}}}}}"#
        )
    };
    let ended = |frame: &str, path| observed(frame, path).ended;
    let beside = |value: &str| format!(r#","metadata":{{"truncated":{value}}}"#);
    let (inside_true, path) = (r#"{"truncated":true}"#, Some("metadata.truncated"));

    // Asked only once it is over.
    for going_on in ["false", "null"] {
        assert_eq!(ended(&frame(going_on, inside_true, &beside("true")), path), None);
    }
    // Metadata beside the observation goes first; that within it comes second.
    let over = |inner: &str, metadata: &str| ended(&frame("true", inner, metadata), path).unwrap();
    assert_eq!(over("{}", &beside("true")), Ended::Truncated);
    assert_eq!(over(inside_true, &beside("false")), Ended::Terminated);
    assert_eq!(over(inside_true, ""), Ended::Truncated);
    assert_eq!(over(inside_true, r#","metadata":{"k":1}"#), Ended::Truncated);
    assert_eq!(over("{}", ""), Ended::TerminatedUnmapped);
    assert_eq!(over("null", &beside("1")), Ended::TerminatedUnmapped);
    // Other places, and none.
    let frame = frame("true", "{}", "");
    assert_eq!(ended(&frame, Some("observation.cut")), Some(Ended::Truncated));
    assert_eq!(ended(&frame, Some("observation.gone")), Some(Ended::TerminatedUnmapped));
    assert_eq!(ended(&frame, None), Some(Ended::TerminatedUnmapped));
}

#[test]
fn errors_are_taken_for_what_they_say() {
    let of = |data: &str| failure(format!(r#"{{"type":"error","data":{data}}}"#));
    let unknown = of(r#"{"message":"tea only","code":"TEAPOT"}"#);
    assert_eq!((unknown.kind, unknown.session), (FailureKind::Session, SessionFate::Lost));
    assert_eq!(unknown.message, "TEAPOT: tea only");

    for (data, message) in [
        (r#"{}"#, "an error without a code, without a message"),
        (r#"{"message":{"a":1},"code":7}"#, r#"7: {"a":1}"#),
        (r#"{"message":"\ud800","code":"EXECUTION_ERROR"}"#, r#"EXECUTION_ERROR: "\ud800""#),
        (
            r#"{"message":"Invalid message","code":"VALIDATION_ERROR","errors":[{"loc":["a",0],"msg":"no"},1,2]}"#,
            "VALIDATION_ERROR: Invalid message: `a.0`: no (and 2 more)",
        ),
        (
            r#"{"message":"Invalid message","code":"VALIDATION_ERROR","errors":"all"}"#,
            "VALIDATION_ERROR: Invalid message",
        ),
    ] {
        assert_eq!(of(data).message, message);
    }
    let long = of(&format!(r#"{{"message":"{}","code":"EXECUTION_ERROR"}}"#, "é".repeat(5000)));
    assert!(long.message.len() <= envmill_protocol::MESSAGE_BYTES_MAX);

    // Whatever was asked for: a refusal comes unasked.
    for expect in [Expect::Observation, Expect::State, Expect::Mcp] {
        let full = decode(r#"{"type":"error","data":{"code":"CAPACITY_REACHED"}}"#, expect);
        assert_eq!(full.unwrap_err().kind, FailureKind::Capacity);
    }
}

/// The frame that answers a message.
fn answer(message: &str, snapshot: &Snapshot) {
    let error = decode_message(&Bytes::from(message.to_owned())).unwrap_err();
    let mut frame = Vec::new();
    encode_error(&mut frame, &error);
    snapshot.assert_eq(str::from_utf8(&frame).unwrap());
}

#[test]
fn a_server_refuses_what_it_should() {
    answer(
        "",
        &expect![[
            r#"{"type":"error","data":{"message":"Invalid JSON: EOF while parsing a value at line 1 column 0","code":"INVALID_JSON"}}"#
        ]],
    );
    answer(
        "{\"type\":\"step\",\"data\":{\"n\":NaN}}",
        &expect![[
            r#"{"type":"error","data":{"message":"Invalid JSON: expected value at line 1 column 28","code":"INVALID_JSON"}}"#
        ]],
    );
    answer(
        "1.5",
        &expect![[
            r#"{"type":"error","data":{"message":"'float' object has no attribute 'get'","code":"SESSION_ERROR"}}"#
        ]],
    );
    answer(
        "{\"type\":\"step\",\"id\":7}",
        &expect![[
            r#"{"type":"error","data":{"message":"Invalid message","code":"VALIDATION_ERROR","errors":[{"type":"missing","loc":["data"],"msg":"Field required","input":{"type":"step","id":7},"url":"https://errors.pydantic.dev/2.14/v/missing"},{"type":"extra_forbidden","loc":["id"],"msg":"Extra inputs are not permitted","input":7,"url":"https://errors.pydantic.dev/2.14/v/extra_forbidden"}]}}"#
        ]],
    );
    answer(
        "{\"type\":\"mcp\",\"data\":3}",
        &expect![[
            r#"{"type":"error","data":{"message":"Invalid message","code":"VALIDATION_ERROR","errors":[{"type":"dict_type","loc":["data"],"msg":"Input should be a valid dictionary","input":3,"url":"https://errors.pydantic.dev/2.14/v/dict_type"}]}}"#
        ]],
    );
    answer(
        "{\"type\":\"close\",\"data\":null}",
        &expect![[
            r#"{"type":"error","data":{"message":"Invalid message","code":"VALIDATION_ERROR","errors":[{"type":"extra_forbidden","loc":["data"],"msg":"Extra inputs are not permitted","input":null,"url":"https://errors.pydantic.dev/2.14/v/extra_forbidden"}]}}"#
        ]],
    );
    answer(
        "{\"type\":\"observation\",\"data\":{}}",
        &expect![[
            r#"{"type":"error","data":{"message":"Unknown message type: observation","code":"UNKNOWN_TYPE"}}"#
        ]],
    );

    let many: String = (0..1000).map(|n| format!(",\"{n}\":0")).collect();
    let flood = decode_message(&format!(r#"{{"type":"state"{many}}}"#).into());
    let Err(ServerError::Validation(violations)) = flood else { panic!("{flood:?}") };
    assert_eq!(violations.len(), VIOLATIONS_MAX);
}

#[test]
fn failures_of_an_environment_become_error_frames_and_failures_again() {
    let mut invalid = Failure::kept(FailureKind::Invalid, "n: too many");
    let kept = |failure: &Failure| {
        let mut frame = Vec::new();
        encode_error(&mut frame, &ServerError::from_failure(failure));
        self::failure(frame)
    };
    let without_details = kept(&invalid);
    assert_eq!(
        (without_details.kind, without_details.session),
        (FailureKind::Invalid, SessionFate::Kept)
    );
    assert!(without_details.message.ends_with("n: too many"));
    invalid.details = r#"[{"type":"int_type","loc":["n"],"msg":"no","input":null}]"#.into();
    assert_eq!(kept(&invalid).details, invalid.details);

    let raised = kept(&Failure::kept(FailureKind::Environment, "boom"));
    assert_eq!(
        (raised.kind, raised.message.as_str()),
        (FailureKind::Environment, "EXECUTION_ERROR: boom")
    );
    let gone = kept(&Failure::lost(FailureKind::Disconnected, "gone"));
    assert_eq!((gone.kind, gone.session), (FailureKind::Session, SessionFate::Lost));
}

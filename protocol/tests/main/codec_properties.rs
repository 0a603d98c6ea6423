//! What holds for any input.

use bytes::Bytes;
use envmill_protocol::{
    Ended, Observed, Request, Reward,
    openenv::{
        Decoder, Expect, FieldPath, Reply, encode,
        server::{ClientMessage, decode_message, encode_error, encode_observation},
    },
};
use proptest::{collection::vec, prelude::*};
use serde::de::IgnoredAny;

use crate::{json_texts, recording};

const EXPECTS: [Expect; 3] = [Expect::Observation, Expect::State, Expect::Mcp];

/// Decodes on both sides. What comes out does not matter, only that something does.
fn decode_anyhow(frame: &Bytes) {
    let path: FieldPath = "metadata.a".parse().unwrap();
    for expect in EXPECTS {
        for decoder in [Decoder::default(), Decoder::new(Some(path.clone()))] {
            if let Ok(Reply::Observed(observed)) = decoder.decode(frame, expect) {
                assert!(observed.reward.value.is_none_or(f64::is_finite));
            }
        }
    }
    if let Err(error) = decode_message(frame) {
        let mut answer = Vec::new();
        encode_error(&mut answer, &error);
        serde_json::from_slice::<IgnoredAny>(&answer).expect("an error frame is JSON");
    }
}

fn ended() -> impl Strategy<Value = Option<Ended>> {
    prop_oneof![Just(None), Just(Some(Ended::TerminatedUnmapped))]
}

proptest! {
    #[test]
    fn any_bytes_decode_to_something(bytes in vec(any::<u8>(), 0..200)) {
        decode_anyhow(&bytes.into());
    }

    #[test]
    fn any_json_decodes_to_something(text in json_texts::value()) {
        decode_anyhow(&text.into());
    }

    #[test]
    fn any_envelope_decodes_to_something(
        name in prop_oneof!["observation", "error", "state", "reset", "step", "close"],
        data in json_texts::value(),
        part in prop_oneof!["observation", "reward", "done", "metadata", "message", "errors"],
        value in json_texts::value(),
    ) {
        decode_anyhow(&format!(r#"{{"type":"{name}","data":{data}}}"#).into());
        decode_anyhow(&format!(r#"{{"data":{data},"type":"{name}"}}"#).into());
        decode_anyhow(&format!(
            r#"{{"type":"{name}","data":{{"observation":1,"code":"{name}","{part}":{value}}}}}"#
        ).into());
    }

    #[test]
    fn damaged_frames_decode_to_something(
        which in any::<prop::sample::Index>(),
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<bool>(),
    ) {
        let frames: Vec<Bytes> = small_frames();
        let mut frame = which.get(&frames).to_vec();
        let place = place.index(frame.len());
        if cut { frame.truncate(place) } else { frame[place] = byte }
        decode_anyhow(&frame.into());
    }

    #[test]
    fn observations_survive_to_the_byte(
        observation in json_texts::value(),
        reward in prop_oneof![json_texts::number(), Just("null".into()), Just("true".into())],
        metadata in prop_oneof![Just(String::new()), json_texts::object()],
        ended in ended(),
    ) {
        // `{}` is not sent.
        let metadata = if metadata == "{}" { String::new() } else { metadata };
        let observed = Observed {
            observation: observation.into(),
            reward: Reward::from_raw(reward.into()),
            metadata: metadata.into(),
            ended,
        };
        let mut frame = Vec::new();
        encode_observation(&mut frame, &observed);
        let decoded = Decoder::default().decode(&frame.into(), Expect::Observation);
        prop_assert_eq!(decoded, Ok(Reply::Observed(observed)));
    }

    #[test]
    fn requests_arrive_as_they_were_sent(payload in json_texts::object(), which in 0..5) {
        let payload = Bytes::from(payload);
        let (request, message) = match which {
            0 => (
                Request::Reset { parameters: payload.clone() },
                ClientMessage::Reset { parameters: payload },
            ),
            1 => (Request::Step { action: payload.clone() }, ClientMessage::Step { action: payload }),
            2 => (
                Request::ToolCall { request: payload.clone() },
                ClientMessage::Mcp { request: payload },
            ),
            3 => (Request::State, ClientMessage::State),
            _ => (Request::Close, ClientMessage::Close),
        };
        let frame = encode(&request).unwrap();
        prop_assert_eq!(decode_message(&frame), Ok(message));
    }
}

/// The recorded frames of both sides, those of megabytes left out.
fn small_frames() -> Vec<Bytes> {
    use recording::Happening::{FromClient, FromServer};
    static FRAMES: std::sync::OnceLock<Vec<Bytes>> = std::sync::OnceLock::new();
    FRAMES
        .get_or_init(|| {
            recording::all()
                .into_iter()
                .flat_map(|recording| recording.happenings)
                .filter_map(|happening| match happening {
                    FromClient(frame) | FromServer(frame) => Some(frame),
                    _ => None,
                })
                .filter(|frame| (1..10_000).contains(&frame.len()))
                .collect()
        })
        .clone()
}

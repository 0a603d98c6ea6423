//! The recorded exchanges of `tests/frames`.

use std::{fs, path::Path};

use bytes::Bytes;
use serde_json::Value;

/// One recorded experiment.
pub(crate) struct Recording {
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) happenings: Vec<Happening>,
}

/// One entry of a recording.
pub(crate) enum Happening {
    FromClient(Bytes),
    FromServer(Bytes),
    BinaryFromClient,
    Closed { code: u16, reason: String },
    Other(String),
}

/// All of them, by name.
pub(crate) fn all() -> Vec<Recording> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/frames");
    let mut paths: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    paths.sort();
    assert!(paths.len() >= 40, "the recordings are there");
    paths.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> Recording {
    let file: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let happenings = file["frames"].as_array().unwrap().iter().flat_map(happening).collect();
    Recording {
        name: path.file_stem().unwrap().to_str().unwrap().to_owned(),
        url: file["url"].as_str().unwrap_or_default().to_owned(),
        happenings,
    }
}

fn happening(entry: &Value) -> Vec<Happening> {
    // One recording has pairs of a request (or a remark) and its answer.
    if let Some([request, answer]) = entry.as_array().map(Vec::as_slice) {
        let answer = answer.as_str().unwrap().to_owned();
        let request = match request {
            Value::Object(_) => Happening::FromClient(request.to_string().into()),
            remark => Happening::Other(remark.as_str().unwrap().to_owned()),
        };
        return vec![request, Happening::FromServer(answer.into())];
    }
    let one = match (entry["dir"].as_str(), entry["ev"].as_str()) {
        (Some("c>s"), _) if !entry["binary_hex"].is_null() => Happening::BinaryFromClient,
        (Some("c>s"), _) => Happening::FromClient(text(entry)),
        (Some("s>c"), _) => Happening::FromServer(text(entry)),
        (_, Some("closed_by_server")) => Happening::Closed {
            code: entry["code"].as_u64().unwrap().try_into().unwrap(),
            reason: entry["reason"].as_str().unwrap().to_owned(),
        },
        (_, Some(event)) => Happening::Other(event.to_owned()),
        _ => panic!("an entry of another kind: {entry}"),
    };
    vec![one]
}

/// The text of a frame; one that was recorded by its beginning and its length is filled up with its
/// last character and closed as the server or the client would have.
fn text(entry: &Value) -> Bytes {
    if let Some(text) = entry["text"].as_str() {
        return Bytes::from(text.to_owned());
    }
    let start = entry["text_prefix"].as_str().unwrap();
    let length = usize::try_from(entry["len"].as_u64().unwrap()).unwrap();
    let end = if entry["dir"] == "c>s" {
        r#""}}"#
    } else if start.contains("reset seed") {
        r#"","value":{"seed":null}},"reward":null,"done":false}}"#
    } else {
        r#"","value":null},"reward":null,"done":false}}"#
    };
    let fill = &start[start.len() - 1..];
    let text = format!("{start}{}{end}", fill.repeat(length - start.len() - end.len()));
    assert_eq!(text.len(), length);
    Bytes::from(text)
}

//! What `testing/python/chat_goldens.py` has recorded of transformers.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use envmill_chat::{Json, Message, Model, Template};
use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Deserialize)]
struct Goldens {
    conversations: BTreeMap<String, Box<RawValue>>,
    tools: Json,
    specials: BTreeMap<String, String>,
    now: i64,
    goldens: Vec<Golden>,
}

#[derive(Deserialize)]
struct Golden {
    template: String,
    conversation: String,
    tools: bool,
    generation_prompt: bool,
    variables: BTreeMap<String, Json>,
    text: Option<String>,
    error: Option<String>,
    bytes: Option<Vec<u32>>,
    pieces: Option<Vec<u32>>,
}

pub(crate) fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

pub(crate) fn template(name: &str) -> String {
    fs::read_to_string(fixtures().join("templates").join(format!("{name}.jinja"))).unwrap()
}

fn goldens() -> Goldens {
    serde_json::from_str(&fs::read_to_string(fixtures().join("goldens.json")).unwrap()).unwrap()
}

#[test]
fn templates_render_as_in_transformers() {
    let goldens = goldens();
    let mut wrong = Vec::new();
    for golden in &goldens.goldens {
        let mut compiled =
            Template::new(&template(&golden.template), goldens.specials.clone()).unwrap();
        compiled.set_time(goldens.now);
        let messages = Message::list_from_json(goldens.conversations[&golden.conversation].get());
        let tools = golden.tools.then_some(&goldens.tools);
        let text =
            compiled.render(&messages.unwrap(), golden.generation_prompt, tools, &golden.variables);
        let name = format!("{} {} {}", golden.template, golden.conversation, golden.tools);
        match (&text, &golden.text, &golden.error) {
            (Ok(ours), Some(theirs), _) if ours == theirs => {}
            (Ok(ours), Some(theirs), _) => {
                let at = ours.bytes().zip(theirs.bytes()).take_while(|(a, b)| a == b).count();
                let show = |text: &str| {
                    let from = text.floor_char_boundary(at.saturating_sub(30));
                    let to = text.floor_char_boundary((at + 60).min(text.len()));
                    text[from..to].to_owned()
                };
                wrong.push(format!(
                    "{name}\n  ours   {:?}\n  theirs {:?}",
                    show(ours),
                    show(theirs)
                ));
            }
            (Err(error), None, Some(theirs)) => {
                // What the template raises is said word for word; what fails has its own words.
                let is_raised = template(&golden.template).contains(theirs.as_str());
                if is_raised && !error.to_string().contains(theirs.as_str()) {
                    wrong.push(format!("{name}: {error} instead of {theirs}"));
                }
            }
            (Ok(_), None, error) => wrong.push(format!("{name}: rendered instead of {error:?}")),
            (Err(error), ..) => wrong.push(format!("{name}: {error}")),
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn ids_are_those_of_the_python_tokenizer() {
    let goldens = goldens();
    let [bytes, pieces] =
        ["bytes", "pieces"].map(|name| Model::load(fixtures().join(name)).unwrap());
    let mut compared = 0;
    for golden in &goldens.goldens {
        let Some(text) = &golden.text else { continue };
        for (model, ids) in [(&bytes, &golden.bytes), (&pieces, &golden.pieces)] {
            let Some(ids) = ids else { continue };
            assert_eq!(&model.encode(text).unwrap(), ids, "{text}");
            compared += 1;
        }
        if golden.bytes.is_some() {
            let ids = bytes.encode(text).unwrap();
            assert_eq!(&bytes.decode(&ids, false).unwrap(), text);
        }
    }
    assert!(compared > 80, "{compared}");
}

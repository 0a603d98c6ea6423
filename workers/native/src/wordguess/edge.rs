//! The game as JSON.

use serde_json::json;

use super::{
    WordGuess,
    board::{Board, GUESSES_MAX, Line, Mark},
    words::{LETTERS, Word, words},
};
use crate::{Invalid, JsonEdge, Moment, Reset, Schemas, json as text};

impl JsonEdge for WordGuess {
    fn decode_action(&self, action: &[u8]) -> Result<Word, Invalid> {
        let mut guess = None;
        let mut seen = false;
        text::object(action, |key, value, invalid| match key {
            "guess" => {
                seen = true;
                guess = word(key, value, invalid);
            }
            "metadata" => text::metadata(value, invalid),
            _ => text::extra(key, value, invalid),
        })?;
        if !seen {
            return Err(text::missing("guess", action));
        }
        Ok(guess.unwrap_or_default())
    }

    fn decode_reset(&self, parameters: &[u8]) -> Result<Reset<Option<Word>>, Invalid> {
        let mut reset = Reset::default();
        text::object(parameters, |key, value, invalid| match key {
            "seed" => reset.seed = text::seed(value),
            "answer" if value != "null" => reset.start = word(key, value, invalid),
            _ => {}
        })?;
        Ok(reset)
    }

    fn write_observation(&self, row: usize, _: &[u8], _: Moment, out: &mut Vec<u8>) {
        let board = &self.boards[row];
        out.extend_from_slice(b"\"text\":\"");
        write_text(board, out);
        out.extend_from_slice(b"\",\"guesses_left\":");
        text::write_u64(board.guesses_left() as u64, out);
        if self.options.hints {
            out.extend_from_slice(b",\"legal_actions\":[");
            let allowed = words().filter(|word| !board.is_over() && board.allows(word));
            for (i, word) in allowed.enumerate() {
                out.extend_from_slice(if i == 0 { b"\"" } else { b",\"" });
                out.extend_from_slice(&word);
                out.push(b'"');
            }
            out.push(b']');
        }
    }

    fn write_metadata(&self, row: usize, moment: Moment, out: &mut Vec<u8>) {
        if matches!(moment, Moment::Step { ended: true, .. }) {
            let solved = self.boards[row].is_solved();
            out.extend_from_slice(b"\"truncated\":false,\"solved\":");
            out.extend_from_slice(if solved { b"true" } else { b"false" });
        }
    }

    fn write_state(&self, row: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"guesses_left\":");
        text::write_u64(self.boards[row].guesses_left() as u64, out);
    }

    fn schemas(&self) -> Schemas {
        let listed: Vec<String> =
            words().map(|word| String::from_utf8_lossy(&word).into_owned()).collect();
        Schemas::new(
            "WordGuess",
            json!({ "guess": {
                "description": "A word of the list; any other of five letters spends a guess and \
                                loses 0.1",
                "enum": listed,
                "title": "Guess",
                "type": "string",
            }}),
            &["guess"],
            json!({
                "text": {
                    "description": "The rules, the guesses so far with their marks, and the outcome",
                    "title": "Text",
                    "type": "string",
                },
                "guesses_left": {
                    "description": "How many more guesses there may be",
                    "maximum": GUESSES_MAX,
                    "minimum": 0,
                    "title": "Guesses Left",
                    "type": "integer",
                },
                "legal_actions": {
                    "description": "With hints: the words that may still be the answer",
                    "items": { "type": "string" },
                    "title": "Legal Actions",
                    "type": "array",
                },
            }),
            json!({ "guesses_left": {
                "default": GUESSES_MAX,
                "description": "How many more guesses there may be",
                "title": "Guesses Left",
                "type": "integer",
            }}),
        )
    }
}

/// Five letters, of either case.
fn word(key: &str, value: &str, invalid: &mut Invalid) -> Option<Word> {
    let text = text::string(key, value, invalid)?;
    let lower = text.trim().to_ascii_lowercase();
    let word = Word::try_from(lower.as_bytes()).ok();
    let word = word.filter(|word| word.iter().all(u8::is_ascii_lowercase));
    if word.is_none() {
        let message = format!("String should be {LETTERS} letters from a to z");
        invalid.push("string_pattern_mismatch", key, message, value);
    }
    word
}

/// The observation for a reader: JSON text within quotes, nothing of it needs more escaping.
fn write_text(board: &Board, out: &mut Vec<u8>) {
    if board.lines().is_empty() {
        out.extend_from_slice(
            b"Guess the five-letter word in six tries. After each guess: G for a letter in its place, \
              Y for one that stands elsewhere, - for one that is absent.",
        );
        return;
    }
    for (i, line) in board.lines().iter().enumerate() {
        if i > 0 {
            out.extend_from_slice(b"\\n");
        }
        write_line(line, out);
    }
    if board.is_solved() {
        out.extend_from_slice(b"\\nSolved.");
    } else if board.is_over() {
        out.extend_from_slice(b"\\nThe word was ");
        out.extend_from_slice(&board.answer);
        out.push(b'.');
    }
}

fn write_line(line: &Line, out: &mut Vec<u8>) {
    out.extend_from_slice(&line.guess);
    out.push(b' ');
    let Some(marks) = line.marks else {
        out.extend_from_slice(b"is not on the list");
        return;
    };
    out.extend(marks.map(|mark| match mark {
        Mark::Absent => b'-',
        Mark::Elsewhere => b'Y',
        Mark::Placed => b'G',
    }));
}

//! Rows of requests.

use envmill_ring::{BatchMut, ColumnsWriter, WriteError};

use crate::{Constraint, Deliver, Request, Sampling};

use super::{VllmMemoryOptions, layout::asked};

const GENERATE: u8 = 1;
const ABORT: u8 = 2;
const FORGET: u8 = 3;

const STREAMED: u8 = 1;
const LOGPROBS: u8 = 2;
const IGNORE_EOS: u8 = 4;
const SEEDED: u8 = 8;

const NO_CONSTRAINT: u8 = 0;
const JSON_OBJECT: u8 = 1;
const JSON_SCHEMA: u8 = 2;

/// What the plug-in is asked, besides to generate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Question {
    Pause = 4,
    Resume = 5,
    LoadWeights = 6,
    SetVersion = 7,
    Load = 8,
}

/// A row that waits to be written. The number is the channel's name for what is answered.
#[derive(Debug)]
pub(super) enum Order {
    Generate(u64, Box<Request>),
    Abort(u64),
    Forget(u64),
    Ask(u64, Question, String),
}

/// How much of a batch is filled.
#[derive(Debug, Default)]
pub(super) struct Filled {
    pub(super) rows: u32,
    needs: Needs,
}

/// Bytes that are taken in each of the ragged columns: by a row, or by all of a batch.
#[derive(Clone, Copy, Debug, Default)]
struct Needs {
    tokens: usize,
    stop_tokens: usize,
    text: usize,
    schema: usize,
}

impl Needs {
    fn of(order: &Order) -> Self {
        match order {
            Order::Generate(_, request) => Self::of_request(request),
            Order::Abort(_) | Order::Forget(_) => Self::default(),
            Order::Ask(_, _, text) => Self { text: text.len(), ..Self::default() },
        }
    }

    fn of_request(request: &Request) -> Self {
        Self {
            tokens: request.prompt.len() * 4,
            stop_tokens: request.sampling.stop_token_ids.len() * 4,
            text: request.sampling.stop.iter().map(|it| 4 + it.len()).sum(),
            schema: constraint(&request.sampling).1.len(),
        }
    }

    const fn and(self, other: Self) -> Self {
        Self {
            tokens: self.tokens + other.tokens,
            stop_tokens: self.stop_tokens + other.stop_tokens,
            text: self.text + other.text,
            schema: self.schema + other.schema,
        }
    }
}

/// Whether a batch of its own is large enough for a request; otherwise what is too long.
pub(super) fn fits_at_all(request: &Request, options: &VllmMemoryOptions) -> Result<(), String> {
    let needs = Needs::of_request(request);
    let (tokens_max, text_max) = (options.prompt_tokens, options.text_bytes as usize);
    if request.prompt.len() > tokens_max as usize {
        let found = request.prompt.len();
        return Err(format!("a prompt of {found} tokens: shared memory has room for {tokens_max}"));
    }
    if needs.stop_tokens > text_max || needs.text > text_max {
        return Err(format!("what ends the generation takes more than {text_max} bytes"));
    }
    if needs.schema > options.schema_bytes as usize {
        let (found, most) = (needs.schema, options.schema_bytes);
        return Err(format!("a JSON schema of {found} bytes: shared memory has room for {most}"));
    }
    Ok(())
}

impl Filled {
    /// Whether the row fits into the batch, too.
    pub(super) fn has_room_for(&self, order: &Order, options: &VllmMemoryOptions) -> bool {
        let all = self.needs.and(Needs::of(order));
        let text_max = options.text_bytes as usize;
        self.rows < options.rows
            && all.tokens <= options.prompt_tokens as usize * 4
            && all.stop_tokens <= text_max
            && all.text <= text_max
            && all.schema <= options.schema_bytes as usize
    }

    /// Writes the next row. `scratch` is room that is used again.
    pub(super) fn write(
        &mut self,
        batch: &mut BatchMut<'_>,
        order: &Order,
        scratch: &mut Vec<u8>,
    ) -> Result<(), WriteError> {
        self.needs = self.needs.and(Needs::of(order));
        let row = self.rows as usize;
        self.rows += 1;
        let (number, kind) = match order {
            Order::Generate(number, request) => {
                generation(batch, row, request, scratch)?;
                (*number, GENERATE)
            }
            Order::Abort(number) => (*number, ABORT),
            Order::Forget(number) => (*number, FORGET),
            Order::Ask(number, question, text) => {
                batch.append(asked::TEXT, text.as_bytes())?;
                (*number, *question as u8)
            }
        };
        batch.set(asked::NUMBER, row, number)?;
        batch.set(asked::KIND, row, kind)?;
        batch.end_row(asked::TOKENS)?;
        batch.end_row(asked::STOP_TOKENS)?;
        batch.end_row(asked::TEXT)?;
        batch.end_row(asked::SCHEMA)
    }
}

fn generation(
    batch: &mut BatchMut<'_>,
    row: usize,
    request: &Request,
    scratch: &mut Vec<u8>,
) -> Result<(), WriteError> {
    let sampling = &request.sampling;
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    let flags = flag(request.deliver == Deliver::Streamed, STREAMED)
        | flag(sampling.logprobs, LOGPROBS)
        | flag(sampling.ignore_eos, IGNORE_EOS)
        | flag(request.seed.is_some(), SEEDED);
    batch.set(asked::FLAGS, row, flags)?;
    batch.set(asked::MAX_TOKENS, row, request.max_tokens)?;
    batch.set(asked::MIN_TOKENS, row, sampling.min_tokens)?;
    batch.set(asked::TOP_K, row, sampling.top_k.unwrap_or(0))?;
    batch.set(asked::TEMPERATURE, row, sampling.temperature)?;
    batch.set(asked::TOP_P, row, sampling.top_p)?;
    batch.set(asked::MIN_P, row, sampling.min_p)?;
    // vLLM takes seeds that fit 64 bits with a sign.
    batch.set(asked::SEED, row, request.seed.unwrap_or(0) >> 1)?;
    batch.set(asked::TOP_LOGPROBS, row, sampling.top_logprobs)?;
    let (kind, schema) = constraint(sampling);
    batch.set(asked::CONSTRAINT, row, kind)?;
    batch.append(asked::SCHEMA, schema.as_bytes())?;
    batch.append(asked::TOKENS, bytes(&request.prompt, scratch))?;
    batch.append(asked::STOP_TOKENS, bytes(&sampling.stop_token_ids, scratch))?;
    for it in &sampling.stop {
        let length = u32::try_from(it.len()).unwrap_or(u32::MAX);
        batch.append(asked::TEXT, &length.to_le_bytes())?;
        batch.append(asked::TEXT, it.as_bytes())?;
    }
    Ok(())
}

/// What the text has to be: the kind of it, and the text of its schema.
fn constraint(sampling: &Sampling) -> (u8, &str) {
    match &sampling.constraint {
        None => (NO_CONSTRAINT, ""),
        Some(Constraint::JsonObject) => (JSON_OBJECT, ""),
        Some(Constraint::JsonSchema(schema)) => (JSON_SCHEMA, schema.as_str()),
    }
}

/// Token ids as bytes.
fn bytes<'a>(tokens: &[u32], scratch: &'a mut Vec<u8>) -> &'a [u8] {
    scratch.clear();
    scratch.resize(tokens.len() * 4, 0);
    for (to, token) in scratch.as_chunks_mut().0.iter_mut().zip(tokens) {
        *to = token.to_le_bytes();
    }
    scratch
}

/// Begins a batch, if there is room; else the plug-in rings when there is.
pub(super) fn begin(writer: &mut ColumnsWriter) -> Result<bool, envmill_ring::CounterError> {
    let mut room = writer.has_room()?;
    if !room {
        writer.set_state(super::layout::WAITS);
        // The plug-in stores what it has released before it looks at the state; here it is the other way
        // round, so that one of the two sees what the other wrote.
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        room = writer.has_room()?;
    }
    if room {
        writer.set_state(0);
    }
    Ok(room)
}

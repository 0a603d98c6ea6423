//! What a frame of a recording says.

use envmill_core::{Input, JobOptions, Options, ServerOptions, Time};

use crate::{
    codec::{Decode, Encode, Malformed, Source},
    digest::Digest,
};

/// One entry of a recording.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Entry {
    /// A core was made. The first entry, and only there.
    Start {
        /// The version of the program that recorded.
        program: String,
        /// What the core was told.
        options: Options,
    },
    /// A server was added.
    Server(ServerOptions),
    /// A job was submitted.
    Job {
        /// When.
        now: Time,
        /// The job.
        options: Box<JobOptions>,
    },
    /// [`Core::handle`](envmill_core::Core::handle) was called.
    Input {
        /// When.
        now: Time,
        /// With what.
        input: Input,
    },
    /// [`Core::settle`](envmill_core::Core::settle) was called.
    Settle {
        /// When.
        now: Time,
    },
    /// The file has reached its maximum: the run went on without a recorder.
    Full,
    /// The run came to its end.
    End,
}

/// An entry on its way into a file, not owning what it says.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Written<'a> {
    Start { program: &'a str, options: &'a Options },
    Server(&'a ServerOptions),
    Job { now: Time, options: &'a JobOptions },
    Input { now: Time, input: &'a Input },
    Settle { now: Time },
    Full,
    End,
}

const START: u8 = 0;
const SERVER: u8 = 1;
const JOB: u8 = 2;
const INPUT: u8 = 3;
const SETTLE: u8 = 4;
const FULL: u8 = 5;
const END: u8 = 6;

/// Appends an entry: its kind, the hash over all outputs before it, and what it says.
pub(crate) fn encode(entry: Written<'_>, before: Digest, out: &mut Vec<u8>) {
    let mut begin = |kind: u8| {
        out.push(kind);
        before.encode(out);
    };
    match entry {
        Written::Start { program, options } => {
            begin(START);
            program.to_owned().encode(out);
            options.encode(out);
        }
        Written::Server(options) => {
            begin(SERVER);
            options.encode(out);
        }
        Written::Job { now, options } => {
            begin(JOB);
            now.encode(out);
            options.encode(out);
        }
        Written::Input { now, input } => {
            begin(INPUT);
            now.encode(out);
            input.encode(out);
        }
        Written::Settle { now } => {
            begin(SETTLE);
            now.encode(out);
        }
        Written::Full => begin(FULL),
        Written::End => begin(END),
    }
}

/// Reads an entry, and the hash over all outputs before it.
pub(crate) fn decode(from: &mut Source) -> Result<(Digest, Entry), Malformed> {
    let kind = u8::decode(from)?;
    let before = Digest::decode(from)?;
    let entry = match kind {
        START => Entry::Start { program: Decode::decode(from)?, options: Decode::decode(from)? },
        SERVER => Entry::Server(Decode::decode(from)?),
        JOB => Entry::Job { now: Decode::decode(from)?, options: Decode::decode(from)? },
        INPUT => Entry::Input { now: Decode::decode(from)?, input: Decode::decode(from)? },
        SETTLE => Entry::Settle { now: Decode::decode(from)? },
        FULL => Entry::Full,
        END => Entry::End,
        other => return Err(Malformed::Tag(other)),
    };
    from.end()?;
    Ok((before, entry))
}

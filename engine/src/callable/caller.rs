//! Asking once, and what can be done when that fails.

use std::time::Duration;

/// Someone who answers a batch at a time.
pub(crate) trait Caller {
    /// Sends a batch and waits for the answer, both JSON.
    fn call(&mut self, batch: &[u8]) -> Result<Vec<u8>, Fault>;
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// For people.
    pub(crate) message: String,
    pub(crate) remedy: Remedy,
}

/// What may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// Asking again, at the earliest after that long: nobody was there to look at the batch.
    Again(Option<Duration>),
    /// Asking for each half of the batch: something in it may be the cause.
    Halves,
    /// Either: it took too long, or failed for a reason that it does not tell.
    AgainInHalves,
    /// Nothing.
    Nothing,
}

impl Fault {
    pub(crate) fn new(remedy: Remedy, message: impl Into<String>) -> Self {
        Self { message: shortened(message.into()), remedy }
    }
}

/// The most bytes of what somebody says that are kept of a failure.
const MESSAGE_BYTES_MAX: usize = 2000;

/// Text for people, with its middle left out if it is long: what is told last is often what matters.
pub(crate) fn shortened(text: String) -> String {
    if text.len() <= MESSAGE_BYTES_MAX {
        return text;
    }
    let end = text.floor_char_boundary(MESSAGE_BYTES_MAX / 2);
    let begin = text.ceil_char_boundary(text.len() - MESSAGE_BYTES_MAX / 2);
    format!("{} … {}", &text[..end], &text[begin..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_keep_both_ends() {
        let text = format!("a{}z", "é".repeat(5000));
        let short = shortened(text);
        assert!(short.len() < MESSAGE_BYTES_MAX + 10, "{}", short.len());
        assert!(short.starts_with('a') && short.ends_with('z') && short.contains(" … "));
        assert_eq!(shortened("ok".into()), "ok");
    }
}

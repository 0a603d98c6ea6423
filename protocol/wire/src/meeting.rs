//! What an engine and a trainer say on the socket where memory is handed out.
//!
//! The trainer says [`greeting`], with the token of its request. The engine answers with a [`Welcome`]
//! and two descriptors: the log's memfd, and an eventfd that the trainer rings when it has given something
//! back. The trainer passes the memfd in which it gives back, with [`RELEASES`], and the engine says
//! [`READY`]. From then on nothing is said: whoever closes the socket ends it. Whoever says anything else
//! finds it closed.

/// The shortest token, in bytes.
pub const TOKEN_BYTES_MIN: usize = 16;
/// The longest token, in bytes.
pub const TOKEN_BYTES_MAX: usize = 64;
/// What goes with the memfd in which a trainer gives back.
pub const RELEASES: &[u8] = b"ENVMBACK";
/// What the engine says when it will use the ring.
pub const READY: &[u8] = b"ENVMGOOD";

const GREETING: &[u8; 8] = b"ENVMMEM1";
const WELCOME: &[u8; 8] = b"ENVMLOG1";

/// What a trainer says first.
#[must_use]
pub fn greeting(token: &[u8]) -> Vec<u8> {
    [GREETING, token].concat()
}

/// The token of a greeting, if it is one.
#[must_use]
pub fn token(greeting: &[u8]) -> Option<&[u8]> {
    let token = greeting.strip_prefix(GREETING.as_slice())?;
    (TOKEN_BYTES_MIN..=TOKEN_BYTES_MAX).contains(&token.len()).then_some(token)
}

/// From where a trainer reads the log that it is passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// Bytes that went through the ring before.
    pub position: u64,
    /// The number of the next record.
    pub sequence: u64,
}

impl Welcome {
    /// As a message.
    #[must_use]
    pub fn encode(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(WELCOME);
        bytes[8..16].copy_from_slice(&self.position.to_le_bytes());
        bytes[16..].copy_from_slice(&self.sequence.to_le_bytes());
        bytes
    }

    /// Of a message, if it is one.
    #[must_use]
    pub fn decode(message: &[u8]) -> Option<Self> {
        let (numbers, rest) = message.strip_prefix(WELCOME.as_slice())?.as_chunks();
        let &[position, sequence] = numbers else { return None };
        let (position, sequence) = (u64::from_le_bytes(position), u64::from_le_bytes(sequence));
        rest.is_empty().then_some(Self { position, sequence })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_understood_and_nothing_else() {
        let secret = [7; 16];
        assert_eq!(token(&greeting(&secret)), Some(secret.as_slice()));
        for wrong in [greeting(&[7; 15]), greeting(&[7; 65]), b"hello".to_vec(), Vec::new()] {
            assert_eq!(token(&wrong), None);
        }
        let welcome = Welcome { position: 4096, sequence: 7 };
        assert_eq!(Welcome::decode(&welcome.encode()), Some(welcome));
        assert_eq!(Welcome::decode(&welcome.encode()[..23]), None);
        assert_eq!(Welcome::decode(&[welcome.encode().as_slice(), &[0]].concat()), None);
    }
}

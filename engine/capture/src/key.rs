//! An episode's API key.

use std::fmt;

/// What a key begins with.
const PREFIX: &str = "sk-envmill-";

/// An episode's API key: who has it, is the episode's harness.
///
/// It is 128 random bits. The engine knows it by its hash only, so that how long a look-up takes says
/// nothing about keys that exist, and it is not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(String);

/// What the engine knows a key by.
pub(crate) type Digest = [u8; 32];

impl Key {
    pub(crate) fn random() -> Result<Self, getrandom::Error> {
        let mut bits = [0; 16];
        getrandom::fill(&mut bits)?;
        Ok(Self(format!("{PREFIX}{:032x}", u128::from_be_bytes(bits))))
    }

    /// As a harness gives it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn digest(text: &str) -> Digest {
        *blake3::hash(text.as_bytes()).as_bytes()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sk-envmill-…")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_and_are_not_shown() {
        let [a, b] = [(); 2].map(|()| Key::random().unwrap());
        assert_ne!(a, b);
        assert_eq!(a.as_str().len(), PREFIX.len() + 32);
        assert!(!format!("{a:?}").contains(&a.as_str()[PREFIX.len()..]));
        assert_ne!(Key::digest(a.as_str()), Key::digest(b.as_str()));
    }
}

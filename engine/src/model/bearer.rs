//! A secret that callers have to give.

use std::fmt;

use axum::http::{HeaderMap, header};

/// The bearer token that callers must have, known by its hash: how long a comparison takes says nothing
/// about it, and nothing shows it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Bearer(blake3::Hash);

impl Bearer {
    /// That which this token is.
    #[must_use]
    pub fn of(token: &str) -> Self {
        Self(blake3::hash(token.as_bytes()))
    }

    /// Whether a request has it.
    #[must_use]
    pub fn is_in(&self, headers: &HeaderMap) -> bool {
        let said = headers.get(header::AUTHORIZATION).and_then(|it| it.to_str().ok());
        let token = said.and_then(|it| it.strip_prefix("Bearer "));
        // Hashes are compared in constant time.
        token.is_some_and(|it| blake3::hash(it.as_bytes()) == self.0)
    }
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bearer(…)")
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn only_the_token_is_let_in_and_it_is_not_shown() {
        let bearer = Bearer::of("s3cret");
        let with = |value: &'static str| {
            HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static(value))])
        };
        assert!(bearer.is_in(&with("Bearer s3cret")));
        for wrong in ["Bearer s3cre", "Bearer ", "s3cret", "Basic s3cret"] {
            assert!(!bearer.is_in(&with(wrong)), "{wrong}");
        }
        assert!(!bearer.is_in(&HeaderMap::new()));
        assert!(!format!("{bearer:?}").contains("s3cret"));
    }
}

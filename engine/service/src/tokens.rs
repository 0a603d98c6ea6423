//! Who may speak to the service.

use std::sync::{Arc, PoisonError, RwLock};

use tonic::{Request, Status, service::Interceptor};

/// Named bearer tokens that are accepted, or none, and then everybody is let in: a service that only
/// this machine reaches. Replacing them takes effect with the next call; streams that are open stay. A
/// clone is the same set.
#[derive(Clone, Debug, Default)]
pub struct Tokens(Arc<RwLock<Vec<Token>>>);

#[derive(Debug)]
struct Token {
    name: String,
    /// Two hashes compare in constant time.
    hash: blake3::Hash,
}

impl Tokens {
    /// Replaces all tokens by these, given as name and secret.
    pub fn replace(&self, tokens: impl IntoIterator<Item = (String, String)>) {
        let token = |(name, secret): (String, String)| {
            let hash = blake3::hash(secret.as_bytes());
            Token { name, hash }
        };
        let tokens = tokens.into_iter().map(token).collect();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = tokens;
    }

    /// Whether a call with this `authorization` may pass.
    fn check(&self, authorization: Option<&str>) -> Result<(), Status> {
        let tokens = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if tokens.is_empty() {
            return Ok(());
        }
        let secret = authorization.and_then(|it| it.strip_prefix("Bearer ")).ok_or_else(|| {
            Status::unauthenticated("send a token: `authorization: Bearer TOKEN`")
        })?;
        let hash = blake3::hash(secret.trim().as_bytes());
        // Each comparison takes the same time, so that it does not tell who was nearly right.
        match tokens.iter().find(|token| token.hash == hash) {
            Some(token) => {
                tracing::debug!(token = token.name, "a call");
                Ok(())
            }
            None => Err(Status::unauthenticated("the token is not known, or no longer")),
        }
    }
}

impl Interceptor for Tokens {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let authorization = request.metadata().get("authorization");
        self.check(authorization.and_then(|it| it.to_str().ok()))?;
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn tokens_are_asked_for_once_there_are_any() {
        let tokens = Tokens::default();
        assert!(tokens.check(None).is_ok());
        let named = |name: &str, secret: &str| (name.to_owned(), secret.to_owned());
        tokens.replace([named("a", "first"), named("b", "second")]);
        assert_eq!(tokens.check(None).unwrap_err().code(), Code::Unauthenticated);
        for wrong in ["first", "Bearer ", "Bearer firs", "Bearer first2", "bearer first"] {
            assert!(tokens.check(Some(wrong)).is_err(), "{wrong}");
        }
        assert!(tokens.check(Some("Bearer first")).is_ok());
        assert!(tokens.check(Some("Bearer second")).is_ok());
        tokens.replace([named("b", "second")]);
        assert!(tokens.check(Some("Bearer first")).is_err());
    }
}

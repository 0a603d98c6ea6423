//! Close frames as failures.

use crate::{Failure, FailureKind};

/// The failure that a close frame from the server means: its WebSocket code (1005 where it had
/// none) and its reason. The session is lost in every case.
///
/// 1009 is [`FailureKind::TooLarge`]: the server refuses the size of what it was sent, and would
/// refuse it again. Every other code is [`FailureKind::Closed`].
#[must_use]
pub fn close_failure(code: u16, reason: &str) -> Failure {
    let kind = if code == 1009 { FailureKind::TooLarge } else { FailureKind::Closed { code } };
    let meaning = match code {
        1000 => "normal closure",
        1001 => "going away",
        1002 => "protocol error",
        1003 => "unsupported data",
        1005 => "no code given",
        1006 => "no close frame",
        1007 => "invalid data",
        1008 => "refused by policy",
        1009 => "message too large for the server",
        1011 => "internal error",
        1012 => "server restarts",
        1013 => "try again later",
        _ => "",
    };
    let mut message = format!("the server closed the connection with code {code}");
    for part in [meaning, reason].into_iter().filter(|part| !part.is_empty()) {
        message.push_str(": ");
        message.push_str(part);
    }
    Failure::lost(kind, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SessionFate;

    #[test]
    fn codes_are_classified() {
        let too_large = close_failure(1009, "frame exceeds limit of 16777216 bytes");
        assert_eq!(too_large.kind, FailureKind::TooLarge);
        assert_eq!(
            too_large.message,
            "the server closed the connection with code 1009: message too large for the server: \
             frame exceeds limit of 16777216 bytes"
        );
        for code in [1000, 1005, 1011, 1012, 4999] {
            let failure = close_failure(code, "");
            assert_eq!(failure.kind, FailureKind::Closed { code });
            assert_eq!(failure.session, SessionFate::Lost);
        }
    }
}

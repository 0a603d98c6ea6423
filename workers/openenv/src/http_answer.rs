//! Answers over HTTP/1.1, put together from what arrives.

use tungstenite::{
    handshake::{client::Response, machine::TryParse},
    http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, TRANSFER_ENCODING},
};

/// The longest head of an answer that is read, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    /// Whether the connection can take another request.
    pub(crate) keeps: bool,
}

/// Why bytes are no answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// They are not HTTP.
    NotHttp(String),
    /// The body is larger than the limit.
    TooLarge,
}

/// An answer as far as it has come.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    bytes: Vec<u8>,
}

impl Incoming {
    /// Takes in more; the answer once it is whole. Bytes after it are dropped: nobody asked.
    pub(crate) fn take(&mut self, input: &[u8], limit: usize) -> Result<Option<Answer>, Wrong> {
        self.bytes.extend_from_slice(input);
        let not_http = |problem: &dyn std::fmt::Display| Wrong::NotHttp(problem.to_string());
        let parsed = Response::try_parse(&self.bytes).map_err(|error| not_http(&error))?;
        let Some((head, response)) = parsed else {
            return if self.bytes.len() > HEAD_BYTES_MAX {
                Err(not_http(&"the head of the answer is longer than 64 KiB"))
            } else {
                Ok(None)
            };
        };
        let headers = response.headers();
        let rest = &self.bytes[head..];
        let body = if says(headers, TRANSFER_ENCODING.as_str(), "chunked") {
            chunks(rest, limit)?
        } else {
            let length: usize = headers
                .get(CONTENT_LENGTH)
                .and_then(|length| length.to_str().ok()?.parse().ok())
                .ok_or_else(|| not_http(&"the answer does not say how long it is"))?;
            if length > limit {
                return Err(Wrong::TooLarge);
            }
            rest.get(..length).map(<[u8]>::to_vec)
        };
        let Some(body) = body else { return Ok(None) };
        let keeps = !says(headers, CONNECTION.as_str(), "close");
        let status = response.status().as_u16();
        self.bytes = Vec::new();
        Ok(Some(Answer { status, body, keeps }))
    }
}

fn says(headers: &HeaderMap, name: &str, word: &str) -> bool {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(word)))
}

/// A chunked body; `None` until its end has come.
fn chunks(mut rest: &[u8], limit: usize) -> Result<Option<Vec<u8>>, Wrong> {
    let mut body = Vec::new();
    loop {
        let Some(end) = rest.windows(2).position(|two| two == b"\r\n") else { return Ok(None) };
        let size = str::from_utf8(&rest[..end]).unwrap_or_default();
        let size = size.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16)
            .map_err(|_| Wrong::NotHttp(format!("{size:?} is no length of a chunk")))?;
        rest = &rest[end + 2..];
        if size == 0 {
            let ended = rest.starts_with(b"\r\n") || rest.windows(4).any(|w| w == b"\r\n\r\n");
            return Ok(ended.then_some(body));
        }
        if size > limit - body.len() {
            return Err(Wrong::TooLarge);
        }
        let (Some(chunk), Some(after)) = (rest.get(..size), rest.get(size + 2..)) else {
            return Ok(None);
        };
        body.extend_from_slice(chunk);
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn byte_by_byte(answer: &str) -> Result<Option<Answer>, Wrong> {
        let mut incoming = Incoming::default();
        let mut bytes = answer.bytes();
        let last = bytes.next_back().unwrap();
        for byte in bytes {
            assert_eq!(incoming.take(&[byte], 100)?, None);
        }
        incoming.take(&[last], 100)
    }

    #[test]
    fn bodies_of_a_length_and_in_chunks() {
        for (answer, keeps) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", true),
            ("HTTP/1.1 200 OK\r\nConnection: close\r\ncontent-length: 5\r\n\r\nhello", false),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x\r\nllo\r\n0\r\n\r\n",
                true,
            ),
        ] {
            let whole = byte_by_byte(answer).unwrap().unwrap();
            assert_eq!(whole, Answer { status: 200, body: b"hello".to_vec(), keeps });
        }
    }

    #[test]
    fn what_is_no_answer_is_said() {
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 101\r\n\r\n";
        assert_eq!(byte_by_byte(answer), Err(Wrong::TooLarge));
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        let large = format!("{chunked}65\r\n");
        assert_eq!(byte_by_byte(&large), Err(Wrong::TooLarge));
        for wrong in [
            "SSH-2.0\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            &format!("{chunked}zz\r\n"),
            &format!("{chunked}ffffffffffffffffff\r\n"),
        ] {
            let result = byte_by_byte(wrong);
            assert!(matches!(result, Err(Wrong::NotHttp(_))), "{wrong}: {result:?}");
        }
    }
}

//! Records that come in parts.

use bytes::{Bytes, BytesMut};
use envmill_wire::{Content, Delivery, Part, part};

use crate::Error;

/// The largest record that is put together, so that a service that lies does not fill the memory.
const RECORD_BYTES_MAX: usize = 4 << 30;

/// Parts of one record, of which some are missing.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    number: u64,
    next: u32,
    data: BytesMut,
}

impl Parts {
    /// Takes a delivery; gives it back whole when it is.
    pub(crate) fn take(&mut self, mut delivery: Delivery) -> Result<Option<Delivery>, Error> {
        let Some(Content::Part(part)) =
            delivery.content.take_if(|it| matches!(it, Content::Part(_)))
        else {
            return Ok(Some(delivery));
        };
        let Part { index, parts, data, content } = part;
        if index == 0 {
            *self = Self { number: delivery.number, next: 0, data: BytesMut::new() };
        }
        if self.number != delivery.number || self.next != index || index >= parts {
            return Err(Error::Nonsense(format!(
                "part {index} of {parts} of delivery {}, after part {} of {}",
                delivery.number, self.next, self.number
            )));
        }
        if self.data.len() + data.len() > RECORD_BYTES_MAX {
            return Err(Error::Nonsense(format!("delivery {} has no end", delivery.number)));
        }
        self.data.extend_from_slice(&data);
        self.next += 1;
        if self.next < parts {
            return Ok(None);
        }
        let data: Bytes = std::mem::take(self).data.freeze();
        delivery.content = Some(match part::Content::try_from(content) {
            Ok(part::Content::Trajectory) => Content::Trajectory(data),
            Ok(part::Content::Group) => Content::Group(data),
            Ok(part::Content::End) => Content::End(data),
            Err(_) => return Err(Error::Nonsense(format!("parts of content {content}"))),
        });
        Ok(Some(delivery))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(number: u64, index: u32, parts: u32, data: &'static [u8]) -> Delivery {
        let data = Bytes::from_static(data);
        let content = Some(Content::Part(Part { index, parts, data, content: 1 }));
        Delivery { number, content, ..Delivery::default() }
    }

    #[test]
    fn parts_make_a_whole() {
        let mut parts = Parts::default();
        assert!(parts.take(part(7, 0, 3, b"ab")).unwrap().is_none());
        assert!(parts.take(part(7, 1, 3, b"c")).unwrap().is_none());
        let whole = parts.take(part(7, 2, 3, b"de")).unwrap().unwrap();
        assert_eq!(whole.content, Some(Content::Group(Bytes::from_static(b"abcde"))));
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        for wrong in [part(7, 2, 3, b""), part(8, 1, 3, b""), part(7, 1, 1, b"")] {
            let mut parts = Parts::default();
            parts.take(part(7, 0, 3, b"ab")).unwrap();
            assert!(matches!(parts.take(wrong), Err(Error::Nonsense(_))));
        }
    }

    #[test]
    fn a_stream_that_began_anew_begins_its_record_anew() {
        let mut parts = Parts::default();
        parts.take(part(7, 0, 2, b"lost")).unwrap();
        parts.take(part(7, 0, 2, b"a")).unwrap();
        let whole = parts.take(part(7, 1, 2, b"b")).unwrap().unwrap();
        assert_eq!(whole.content, Some(Content::Group(Bytes::from_static(b"ab"))));
    }
}

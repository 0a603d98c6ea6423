//! The names under which the engine knows our requests.
//!
//! A name ends in where its request stands here, so that an output is matched without a hash or a look at
//! the rest: `envmill-7-5eed5eed-0000000200000041` is request 7, of the run 5eed5eed of this channel, in
//! place 2, the 65th to stand there.

use std::fmt::Write as _;

use crate::RequestId;

/// A place among those under way, and how often it had been used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) slot: u32,
    pub(super) round: u32,
}

/// What is read from a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// One of ours.
    Ours(Place),
    /// It was asked for by one of our kind, before us.
    Before,
    /// Anything else.
    Other,
}

/// `-` run `-` slot round.
const TAIL: usize = 1 + 8 + 1 + 16;
/// No name of ours is longer: the first part is at most 28 bytes.
pub(super) const LONGEST: usize = 28 + TAIL;

/// The name of a request.
pub(super) fn name(id: RequestId, run: u32, place: Place) -> String {
    let mut name = String::with_capacity(LONGEST);
    // Writing to a String does not fail.
    let _ = write!(name, "{id}-{run:08x}-");
    hex(&mut name, place.slot);
    hex(&mut name, place.round);
    name
}

fn hex(out: &mut String, number: u32) {
    for shift in (0..8).rev() {
        let digit = (number >> (4 * shift)) & 0xf;
        out.push(char::from_digit(digit, 16).unwrap_or('0'));
    }
}

/// Reads a name.
pub(super) fn read(name: &[u8], run: u32) -> Named {
    if name.len() > LONGEST || !name.starts_with(b"envmill-") {
        return Named::Other;
    }
    let Some((_, tail)) = name.split_last_chunk::<TAIL>() else { return Named::Other };
    let number = |from: usize| digits(&tail[from..from + 8]);
    let (b'-', Some(of), b'-', Some(slot), Some(round)) =
        (tail[0], number(1), tail[9], number(10), number(18))
    else {
        return Named::Other;
    };
    if of == run { Named::Ours(Place { slot, round }) } else { Named::Before }
}

fn digits(text: &[u8]) -> Option<u32> {
    text.iter().try_fold(0_u32, |number, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u32::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_where_its_request_stands() {
        let place = Place { slot: 2, round: 0x41 };
        let written = name(RequestId(7), 0x5eed_5eed, place);
        assert_eq!(written, "envmill-7-5eed5eed-0000000200000041");
        assert_eq!(read(written.as_bytes(), 0x5eed_5eed), Named::Ours(place));
        assert_eq!(read(written.as_bytes(), 1), Named::Before);
        let longest =
            name(RequestId(u64::MAX), u32::MAX, Place { slot: u32::MAX, round: u32::MAX });
        assert!(longest.len() <= LONGEST);
        for other in
            ["", "envmill-", "envmill-7", "cmpl-7-5eed5eed-0000000200000041", &written[1..]]
        {
            assert_eq!(read(other.as_bytes(), 0x5eed_5eed), Named::Other, "{other}");
        }
        assert_eq!(read(b"envmill-7-5eed5eed-000000020000004G", 0x5eed_5eed), Named::Other);
    }
}

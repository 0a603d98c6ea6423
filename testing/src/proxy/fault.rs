//! What can be done to a connection, as data.
//!
//! "Down" is from the server to the client, "up" the other way. Frames are the WebSocket data messages
//! (text or binary) that come down, counted from 0 after the upgrade; control frames and continuations
//! are passed on and not counted.

use std::time::Duration;

/// What happens to one connection.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// Nothing: bytes pass both ways as they come.
    Pass,
    /// The server is never asked: the client's HTTP request gets this answer and the connection is
    /// closed.
    Answer(HttpAnswer),
    /// From a point on, something happens to the connection as a whole.
    At(Point, Effect),
    /// Something happens to some frames.
    Frames(Frames, FrameEffect),
}

/// When an [`Effect`] begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// As soon as the connection is accepted.
    Accept,
    /// After this many bytes have come down, the answer to the upgrade included.
    Byte(u64),
    /// After a number of bytes below this bound, drawn for each connection.
    AnyByte(u64),
    /// Before this frame.
    Frame(u32),
    /// Before a frame below this bound, drawn for each connection.
    AnyFrame(u32),
}

/// What happens to a connection as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Both sides are cut with a reset (`RST`).
    Cut,
    /// The client sees the end of the stream (`FIN`); what it still sends goes up.
    HalfClose,
    /// Everything stays open and what either side sends vanishes, for ever. At
    /// [`Point::Accept`]: a server that accepts and never upgrades.
    BlackHole,
    /// Nothing comes down for this long, then everything does.
    Pause(Duration),
    /// What comes down trickles: so many bytes, then a rest, and so on.
    Drip {
        /// How many bytes pass at a time; at least one.
        bytes: usize,
        /// How long after each.
        rest: Duration,
    },
    /// One bit of every byte that comes down is flipped.
    Garble,
}

/// Which frames a [`FrameEffect`] strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frames {
    /// This one.
    Only(u32),
    /// This one and all after it.
    From(u32),
    /// One below this bound, drawn for each connection.
    Any(u32),
}

/// What happens to a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameEffect {
    /// It is held back for this long, and so is everything behind it: a late answer, or, for all
    /// frames, a slow line.
    Hold(Duration),
    /// Its header and half of its payload pass, then the stream ends (`FIN`).
    Truncate,
    /// It passes twice. A frame above 64 MiB passes once.
    Duplicate,
    /// Its header has reserved bits set: not WebSocket any more.
    CorruptHeader,
    /// The last byte of its payload is replaced by 0xFF: no UTF-8 any more. A frame without payload
    /// is left alone.
    CorruptPayload,
    /// It vanishes.
    Drop,
    /// A text message of this many bytes passes before it: a JSON object of type `observation` with
    /// one long text in it.
    Inject {
        /// The length of the message's payload; at least 64.
        bytes: u64,
    },
}

/// An HTTP answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpAnswer {
    /// The status.
    pub status: u16,
    /// Headers beside `Content-Length` and `Connection`.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl HttpAnswer {
    /// An answer with nothing but a status.
    #[must_use]
    pub const fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: String::new() }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// An HTML page with status 200, as a hosted server that sleeps answers.
    #[must_use]
    pub fn html(body: &str) -> Self {
        let answer = Self::status(200).header("Content-Type", "text/html; charset=utf-8");
        Self { body: body.to_owned(), ..answer }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut text = format!("HTTP/1.1 {} Fault\r\n", self.status);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        let length = self.body.len();
        text.push_str(&format!("Content-Length: {length}\r\nConnection: close\r\n\r\n"));
        text.push_str(&self.body);
        text.into_bytes()
    }
}

/// Which fault a connection gets. It is chosen when the connection is accepted and stays with it.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    /// Every connection gets this one.
    Always(Fault),
    /// The first connection after the plan was set gets the first, and so on; those beyond the end
    /// pass.
    Script(Vec<Fault>),
    /// Each connection gets one of these, by weight. The same seed gives the n-th connection the same
    /// fault, points and frames drawn with it.
    Random {
        /// The seed.
        seed: u64,
        /// What to choose from, each with its weight; weights of 0 never come up.
        faults: Vec<(u32, Fault)>,
    },
}

impl Plan {
    /// The fault of the `index`-th connection under this plan, with nothing left to draw: no
    /// [`Point::AnyByte`], [`Point::AnyFrame`] or [`Frames::Any`].
    pub(crate) fn fault(&self, index: u64) -> Fault {
        match self {
            Self::Always(fault) => fault.drawn(&mut Random::new(0, index)),
            Self::Script(faults) => usize::try_from(index)
                .ok()
                .and_then(|index| faults.get(index))
                .map_or(Fault::Pass, |fault| fault.drawn(&mut Random::new(0, index))),
            Self::Random { seed, faults } => {
                let mut random = Random::new(*seed, index);
                let total = faults.iter().map(|(weight, _)| u64::from(*weight)).sum();
                let mut rest = random.below(total);
                for (weight, fault) in faults {
                    match rest.checked_sub(u64::from(*weight)) {
                        Some(left) => rest = left,
                        None => return fault.drawn(&mut random),
                    }
                }
                Fault::Pass
            }
        }
    }
}

impl Fault {
    /// This fault with all its random points drawn.
    fn drawn(&self, random: &mut Random) -> Self {
        match self {
            Self::At(Point::AnyByte(below), effect) => {
                Self::At(Point::Byte(random.below(*below)), *effect)
            }
            Self::At(Point::AnyFrame(below), effect) => {
                Self::At(Point::Frame(random.below_u32(*below)), *effect)
            }
            Self::Frames(Frames::Any(below), effect) => {
                Self::Frames(Frames::Only(random.below_u32(*below)), *effect)
            }
            Self::Pass | Self::Answer(_) | Self::At(..) | Self::Frames(..) => self.clone(),
        }
    }
}

/// `SplitMix64`: enough randomness to choose faults with, and the same on every machine.
struct Random(u64);

impl Random {
    fn new(seed: u64, stream: u64) -> Self {
        let mut random = Self(seed ^ stream.wrapping_mul(0xd134_2543_de82_ef95));
        random.next();
        random
    }

    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 for a bound of 0.
    const fn below(&mut self, bound: u64) -> u64 {
        // The bias of a remainder is far below what a choice of faults could show.
        match self.next().checked_rem(bound) {
            Some(drawn) => drawn,
            None => 0,
        }
    }

    fn below_u32(&mut self, bound: u32) -> u32 {
        u32::try_from(self.below(u64::from(bound))).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_gives_each_connection_its_own_and_then_passes() {
        let cut = Fault::At(Point::Frame(3), Effect::Cut);
        let plan = Plan::Script(vec![Fault::Pass, cut.clone()]);
        assert_eq!([0, 1, 2].map(|index| plan.fault(index)), [Fault::Pass, cut, Fault::Pass]);
    }

    #[test]
    fn the_same_seed_gives_the_same_faults() {
        let plan = |seed| Plan::Random {
            seed,
            faults: vec![
                (3, Fault::Pass),
                (1, Fault::At(Point::AnyByte(10_000), Effect::Cut)),
                (0, Fault::Answer(HttpAnswer::status(503))),
                (1, Fault::Frames(Frames::Any(50), FrameEffect::Truncate)),
            ],
        };
        let drawn = |seed| (0..1000).map(|index| plan(seed).fault(index)).collect::<Vec<_>>();
        assert_eq!(drawn(7), drawn(7));
        assert_ne!(drawn(7), drawn(8));
        let passes = drawn(7).iter().filter(|fault| **fault == Fault::Pass).count();
        assert!((500..700).contains(&passes), "{passes} of 1000 pass at a weight of 3 in 5");
        for fault in drawn(7) {
            match fault {
                Fault::At(Point::Byte(byte), _) => assert!(byte < 10_000),
                Fault::Frames(Frames::Only(frame), _) => assert!(frame < 50),
                other => assert_eq!(other, Fault::Pass),
            }
        }
    }
}

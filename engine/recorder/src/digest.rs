//! The running hash over all that a core has answered.

use std::fmt;

use envmill_core::Outputs;

use crate::codec::{Decode, Encode, Malformed, Source};

/// A buffer that grew beyond this for one large record is given back.
const SCRATCH_BYTES_MAX: usize = 1 << 20;

/// A 64-bit hash over the outputs of all calls so far: the first bytes of BLAKE3 over the hash before
/// and the outputs of the call. A call without outputs leaves it as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Digest([u8; 8]);

impl Digest {
    /// The hash with the outputs of one more call. `scratch` is overwritten.
    pub(crate) fn with(self, outputs: &Outputs, scratch: &mut Vec<u8>) -> Self {
        if outputs.is_empty() {
            return self;
        }
        scratch.clear();
        scratch.extend_from_slice(&self.0);
        outputs.encode(scratch);
        let hash = blake3::hash(scratch);
        if scratch.capacity() > SCRATCH_BYTES_MAX {
            *scratch = Vec::new();
        }
        let mut digest = [0; 8];
        digest.copy_from_slice(&hash.as_bytes()[..8]);
        Self(digest)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Encode for Digest {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
}

impl Decode for Digest {
    fn decode(from: &mut Source) -> Result<Self, Malformed> {
        Decode::decode(from).map(Self)
    }
}

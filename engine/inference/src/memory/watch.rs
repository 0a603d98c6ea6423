//! Waiting on a runtime for descriptors that it has not made.

use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
};

use tokio::io::{Interest, unix::AsyncFd};

/// Waits until a descriptor can be read.
pub(super) type Watch = AsyncFd<OwnedFd>;

/// Has the runtime wait for a descriptor: for a copy of it, which is the watch's own.
#[expect(unsafe_code, reason = "tokio has no other way to wait for what is not made by it")]
pub(super) fn watch(descriptor: BorrowedFd<'_>) -> io::Result<Watch> {
    let copy = descriptor.try_clone_to_owned()?;
    // SAFETY: an `OwnedFd` is open as long as it is there, and always the same descriptor.
    let watch = unsafe { AsyncFd::register_with_interest(copy, Interest::READABLE) };
    watch.map_err(|error| error.into_parts().1)
}

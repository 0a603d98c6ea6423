//! Doorbells, and waiting for several.

use std::{os::fd::AsFd as _, thread, time::Duration};

use envmill_ring::{Doorbell, wait};
use rustix::fs::OFlags;

#[test]
fn rings_that_nobody_has_drained_are_one() {
    let bell = Doorbell::new().unwrap();
    assert!(!bell.drain().unwrap());
    bell.ring().unwrap();
    bell.ring().unwrap();
    assert!(bell.drain().unwrap());
    assert!(!bell.drain().unwrap());
}

#[test]
fn whoever_waits_is_told_which_ones_have_rung() {
    let bells: Vec<Doorbell> = (0..3).map(|_| Doorbell::new().unwrap()).collect();
    let descriptors: Vec<_> = bells.iter().map(|bell| bell.as_fd()).collect();
    let mut ready = vec![7];
    wait(&descriptors, Some(Duration::ZERO), &mut ready).unwrap();
    assert!(ready.is_empty());
    wait(&descriptors, Some(Duration::from_millis(5)), &mut ready).unwrap();
    assert!(ready.is_empty());
    bells[0].ring().unwrap();
    bells[2].ring().unwrap();
    wait(&descriptors, None, &mut ready).unwrap();
    assert_eq!(ready, [0, 2]);
    bells[0].drain().unwrap();
    wait(&descriptors, Some(Duration::MAX), &mut ready).unwrap();
    assert_eq!(ready, [2]);
}

#[test]
fn a_ring_wakes_another_thread() {
    let bell = Doorbell::new().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| bell.ring().unwrap());
        wait(&[bell.as_fd()], None, &mut Vec::new()).unwrap();
    });
    assert!(bell.drain().unwrap());
}

#[test]
fn a_peer_cannot_make_draining_block() {
    let bell = Doorbell::new().unwrap();
    // The flags are those of both ends.
    let theirs = bell.as_fd().try_clone_to_owned().unwrap();
    rustix::fs::fcntl_setfl(&theirs, OFlags::empty()).unwrap();
    assert!(!bell.drain().unwrap());
    bell.ring().unwrap();
    assert!(bell.drain().unwrap());
}

#[test]
fn a_descriptor_that_is_no_doorbell_is_an_error() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let bell = Doorbell::from(std::os::fd::OwnedFd::from(writer));
    assert!(bell.ring().is_err());
    assert!(bell.drain().is_err());
}

//! Messages with descriptors.

use std::{
    io::{IoSlice, Read as _, pipe},
    mem::MaybeUninit,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use envmill_ring::{
    Channel, DESCRIPTORS_MAX, MESSAGE_BYTES_MAX, Message, ReceiveError, Received, SendError,
    inheritable,
};
use rustix::{
    io::FdFlags,
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags},
};

fn pair() -> (Channel, Channel) {
    let (ours, theirs) = Channel::pair().unwrap();
    (ours, theirs.into())
}

#[test]
fn messages_stay_whole_and_in_order() {
    let (left, right) = pair();
    let mut message = Message::new();
    assert_eq!(right.receive(&mut message).unwrap(), Received::Nothing);
    let long = vec![7; MESSAGE_BYTES_MAX];
    assert!(left.send(b"first", &[]).unwrap());
    assert!(left.send(&long, &[]).unwrap());
    for expected in [&b"first"[..], &long] {
        assert_eq!(right.receive(&mut message).unwrap(), Received::Message);
        assert_eq!(message.bytes(), expected);
        assert!(message.descriptors().is_empty());
    }
    drop(left);
    assert_eq!(right.receive(&mut message).unwrap(), Received::Closed);
    assert!(matches!(right.send(b"late", &[]), Err(SendError::Closed)));
}

#[test]
fn descriptors_come_in_order_and_closed_on_exec() {
    let (left, right) = pair();
    let pipes: Vec<_> = (0..DESCRIPTORS_MAX).map(|_| pipe().unwrap()).collect();
    let passed: Vec<BorrowedFd<'_>> = pipes.iter().map(|(reader, _)| reader.as_fd()).collect();
    assert!(left.send(b"pipes", &passed).unwrap());
    let mut message = Message::new();
    right.receive(&mut message).unwrap();
    assert_eq!(message.descriptors().len(), DESCRIPTORS_MAX);
    for ((reader, writer), received) in pipes.into_iter().zip(message.descriptors().drain(..)) {
        let flags = rustix::io::fcntl_getfd(&received).unwrap();
        assert_eq!(flags, FdFlags::CLOEXEC);
        drop(reader);
        rustix::io::write(&writer, b"here").unwrap();
        drop(writer);
        let mut text = String::new();
        std::fs::File::from(received).read_to_string(&mut text).unwrap();
        assert_eq!(text, "here");
    }
}

#[test]
fn what_cannot_be_sent_is_refused() {
    let (left, _right) = pair();
    let bell = pipe().unwrap().0;
    let many = vec![bell.as_fd(); DESCRIPTORS_MAX + 1];
    assert!(matches!(left.send(b"", &[]), Err(SendError::Length(0))));
    let long = vec![0; MESSAGE_BYTES_MAX + 1];
    assert!(matches!(left.send(&long, &[]), Err(SendError::Length(_))));
    assert!(matches!(left.send(b"many", &many), Err(SendError::Descriptors(17))));
}

#[test]
fn a_full_socket_does_not_block() {
    let (left, right) = pair();
    let long = vec![0; MESSAGE_BYTES_MAX];
    let mut sent = 0;
    while left.send(&long, &[]).unwrap() {
        sent += 1;
    }
    let mut message = Message::new();
    for _ in 0..sent {
        assert_eq!(right.receive(&mut message).unwrap(), Received::Message);
    }
    assert!(left.send(&long, &[]).unwrap());
}

/// Sends what [`Channel::send`] refuses to.
fn send_raw(channel: &Channel, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) {
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
    let mut control = SendAncillaryBuffer::new(&mut room);
    assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
    let flags = SendFlags::empty();
    rustix::net::sendmsg(channel, &[IoSlice::new(bytes)], &mut control, flags).unwrap();
}

/// Whether every copy of a pipe's writing end is closed.
fn ends(reader: &OwnedFd) -> bool {
    rustix::io::read(reader, &mut [0_u8; 1]) == Ok(0)
}

#[test]
fn too_much_is_an_error_and_closes_what_came() {
    let too_long = vec![1; MESSAGE_BYTES_MAX + 1];
    let cases: [(&[u8], usize); 4] =
        [(&too_long, 1), (b"many", DESCRIPTORS_MAX + 1), (b"most", 60), (b"", 3)];
    for (bytes, descriptors) in cases {
        let (left, right) = pair();
        let (reader, writer) = pipe().unwrap();
        send_raw(&left, bytes, &vec![writer.as_fd(); descriptors]);
        drop(writer);
        let mut message = Message::new();
        let received = right.receive(&mut message);
        match bytes.len() {
            0 => assert_eq!(received.unwrap(), Received::Closed),
            4 => assert!(matches!(received, Err(ReceiveError::Descriptors))),
            _ => assert!(matches!(received, Err(ReceiveError::TooLong))),
        }
        assert!(message.bytes().is_empty() && message.descriptors().is_empty());
        assert!(ends(&OwnedFd::from(reader)));
    }
}

#[test]
fn descriptors_that_nobody_takes_are_closed() {
    let (left, right) = pair();
    let (reader, writer) = pipe().unwrap();
    left.send(b"pipe", &[writer.as_fd()]).unwrap();
    drop(writer);
    let mut message = Message::new();
    right.receive(&mut message).unwrap();
    assert_eq!(right.receive(&mut message).unwrap(), Received::Nothing);
    assert!(ends(&OwnedFd::from(reader)));
}

#[test]
fn a_descriptor_can_be_made_inheritable() {
    let (_ours, theirs) = Channel::pair().unwrap();
    assert_eq!(rustix::io::fcntl_getfd(&theirs).unwrap(), FdFlags::CLOEXEC);
    inheritable(theirs.as_fd()).unwrap();
    assert_eq!(rustix::io::fcntl_getfd(&theirs).unwrap(), FdFlags::empty());
}

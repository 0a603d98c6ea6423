//! A socket with a name, and who comes to it.

use std::{
    fs,
    os::{
        fd::AsFd as _,
        unix::{fs::PermissionsExt as _, net::UnixListener},
    },
};

use envmill_ring::{Channel, Listener, Message, Received, wait};

#[test]
fn who_comes_has_a_channel() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("door");
    let listener = Listener::bind(&path).unwrap();
    assert_eq!(listener.path(), path);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(listener.accept().unwrap().is_none());
    let theirs = Channel::connect(&path).unwrap();
    wait(&[listener.as_fd()], None, &mut Vec::new()).unwrap();
    let ours = listener.accept().unwrap().unwrap();
    assert!(ours.is_of_same_user().unwrap() && theirs.is_of_same_user().unwrap());
    let mut message = Message::new();
    assert!(theirs.send(b"hello", &[listener.as_fd()]).unwrap());
    assert_eq!(ours.receive(&mut message).unwrap(), Received::Message);
    assert_eq!(message.bytes(), b"hello");
    assert_eq!(message.descriptors().len(), 1);
    drop(listener);
    assert!(!path.exists() && Channel::connect(&path).is_err());
}

#[test]
fn a_socket_that_was_left_is_replaced_and_nothing_else_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("door");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    drop(Listener::bind(&path).unwrap());
    fs::write(&path, "precious").unwrap();
    assert!(Listener::bind(&path).is_err());
    assert_eq!(fs::read(&path).unwrap(), b"precious");
    assert!(Listener::bind(&directory.path().join("x".repeat(108))).is_err());
}

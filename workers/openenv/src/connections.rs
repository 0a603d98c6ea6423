//! The sockets of a worker, by a key that is never used twice.

use mio::Token;

use crate::{lingering::Closing, opening::Opening, session::Session};

/// A socket's key: its place, and how often the place was given away before. News of a socket that
/// is gone carries a key that leads to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    place: u32,
    epoch: u32,
}

impl From<Key> for Token {
    fn from(key: Key) -> Self {
        Self((key.epoch as usize) << 32 | key.place as usize)
    }
}

impl From<Token> for Key {
    #[expect(clippy::cast_possible_truncation, reason = "each half has 32 bits")]
    fn from(token: Token) -> Self {
        Self { place: token.0 as u32, epoch: (token.0 >> 32) as u32 }
    }
}

/// What a socket is there for.
#[derive(Debug)]
pub(crate) enum Connection {
    /// A session that is being opened.
    Opening(Box<Opening>),
    /// A session.
    Session(Session),
    /// A session that was closed, for as long as the server takes to close its end.
    Closing(Closing),
}

/// All sockets. Its size is that of the most sockets there ever were at once.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    places: Vec<Place>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Place {
    epoch: u32,
    connection: Option<Connection>,
}

impl Connections {
    /// Adds a connection.
    pub(crate) fn insert(&mut self, connection: Connection) -> Key {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place { epoch: 0, connection: None });
            u32::try_from(self.places.len() - 1).unwrap_or(u32::MAX)
        });
        let entry = &mut self.places[place as usize];
        entry.connection = Some(connection);
        Key { place, epoch: entry.epoch }
    }

    /// What is at `key`, if it is still there.
    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut Connection> {
        self.entry(key)?.connection.as_mut()
    }

    /// Takes out what is at `key`, to be put back.
    pub(crate) fn take(&mut self, key: Key) -> Option<Connection> {
        self.entry(key)?.connection.take()
    }

    /// Puts back what was taken out, or what has become of it.
    pub(crate) fn put(&mut self, key: Key, connection: Connection) {
        if let Some(entry) = self.entry(key) {
            entry.connection = Some(connection);
        }
    }

    /// Frees the place: the key leads to nothing from now on.
    pub(crate) fn remove(&mut self, key: Key) -> Option<Connection> {
        let entry = self.entry(key)?;
        // Not wrapping into the waker's token: a place is not used 2^32 times.
        entry.epoch = entry.epoch.wrapping_add(1);
        let connection = entry.connection.take();
        self.free.push(key.place);
        connection
    }

    fn entry(&mut self, key: Key) -> Option<&mut Place> {
        self.places.get_mut(key.place as usize).filter(|entry| entry.epoch == key.epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_token_and_back() {
        let key = Key { place: 7, epoch: u32::MAX };
        assert_eq!(Key::from(Token::from(key)), key);
    }
}

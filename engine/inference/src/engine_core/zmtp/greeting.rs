//! The beginning of a connection.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use super::{Item, Messages, ZmtpError};

/// A peer on the same machine that takes longer than this is none.
const PATIENCE: Duration = Duration::from_secs(10);
/// What comes before the first message is a few dozen bytes.
const LIMIT: usize = 4096;
const GREETING: usize = 64;

/// What our end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Answers peers by their identity.
    Router,
    /// Only takes.
    Pull,
}

/// Who is at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    /// What it calls itself; an engine, its rank.
    pub(crate) identity: Vec<u8>,
}

impl Role {
    const fn name(self) -> &'static str {
        match self {
            Self::Router => "ROUTER",
            Self::Pull => "PULL",
        }
    }

    const fn peer(self) -> &'static str {
        match self {
            Self::Router => "DEALER",
            Self::Pull => "PUSH",
        }
    }
}

/// Introduces both ends to each other. What was read beyond is left in the returned messages.
pub(crate) async fn greet<S: AsyncRead + AsyncWrite + Unpin>(
    io: &mut S,
    role: Role,
    limit: usize,
) -> Result<(Peer, Messages), ZmtpError> {
    tokio::time::timeout(PATIENCE, introduce(io, role, limit)).await.map_err(|_| ZmtpError::Slow)?
}

async fn introduce<S: AsyncRead + AsyncWrite + Unpin>(
    io: &mut S,
    role: Role,
    limit: usize,
) -> Result<(Peer, Messages), ZmtpError> {
    let mut hello = [0; GREETING];
    // The signature, which an older peer would take for a frame's length; version 3.1; the mechanism.
    (hello[0], hello[8], hello[9], hello[10], hello[11]) = (0xff, 1, 0x7f, 3, 1);
    hello[12..16].copy_from_slice(b"NULL");
    let mut hello = hello.to_vec();
    ready(&mut hello, role);
    io.write_all(&hello).await?;

    let mut messages = Messages::new(LIMIT);
    while messages.unread().len() < GREETING {
        // Told early, as such a peer may wait for us.
        check(messages.unread())?;
        if messages.fill(io).await? == 0 {
            return Err(ZmtpError::Greeting("it hung up during the greeting"));
        }
    }
    check(messages.unread())?;
    messages.behind(GREETING);
    loop {
        if let Some(item) = messages.next()? {
            let Item::Command(command) = item else {
                return Err(ZmtpError::Greeting("its first frame is no command"));
            };
            let peer = introduced(command, role)?;
            messages.set_limit(limit);
            return Ok((peer, messages));
        }
        if messages.fill(io).await? == 0 {
            return Err(ZmtpError::Greeting("it hung up before it was ready"));
        }
    }
}

/// Looks at as much of the peer's greeting as is there.
fn check(greeting: &[u8]) -> Result<(), ZmtpError> {
    let at = |index: usize| greeting.get(index).copied();
    if at(0).is_some_and(|it| it != 0xff) || at(9).is_some_and(|it| it & 1 == 0) {
        return Err(ZmtpError::Greeting("its first bytes are no signature"));
    }
    if at(10).is_some_and(|it| it < 3) {
        return Err(ZmtpError::Greeting("its version is older"));
    }
    let mechanism: &[u8; 20] = b"NULL\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    if greeting.get(12..32).is_some_and(|it| it != mechanism) {
        return Err(ZmtpError::Greeting("it wants another mechanism than NULL"));
    }
    Ok(())
}

/// The command that says what we are.
fn ready(out: &mut Vec<u8>, role: Role) {
    let mut body = b"\x05READY".to_vec();
    property(&mut body, b"Socket-Type", role.name().as_bytes());
    if role == Role::Router {
        property(&mut body, b"Identity", b"");
    }
    out.push(0x04);
    // Far below 256 bytes.
    out.push(u8::try_from(body.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(&body);
}

fn property(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(name);
    out.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(value);
}

/// Reads what the peer is.
fn introduced(command: &[u8], role: Role) -> Result<Peer, ZmtpError> {
    if let Some(reason) = command.strip_prefix(b"\x05ERROR") {
        let reason = String::from_utf8_lossy(reason.get(1..).unwrap_or_default()).into_owned();
        return Err(ZmtpError::Refused(reason));
    }
    let Some(mut rest) = command.strip_prefix(b"\x05READY") else {
        return Err(ZmtpError::Greeting("its first command is not READY"));
    };
    let cut = ZmtpError::Greeting("its properties are cut short");
    let (mut identity, mut found) = (Vec::new(), String::new());
    while let Some((len, after)) = rest.split_first() {
        let Some((name, after)) = after.split_at_checked(usize::from(*len)) else {
            return Err(cut);
        };
        let Some((len, after)) = after.split_first_chunk::<4>() else { return Err(cut) };
        // A length that does not fit a usize is certainly longer than what is left.
        let len = usize::try_from(u32::from_be_bytes(*len)).unwrap_or(usize::MAX);
        let Some((value, after)) = after.split_at_checked(len) else { return Err(cut) };
        if name.eq_ignore_ascii_case(b"Socket-Type") {
            found = String::from_utf8_lossy(value).into_owned();
        } else if name.eq_ignore_ascii_case(b"Identity") {
            identity = value.to_vec();
        }
        rest = after;
    }
    if found == role.peer() {
        Ok(Peer { identity })
    } else {
        Err(ZmtpError::Role { found, wanted: role.peer() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::AsyncReadExt as _;

    use super::*;

    /// What a peer would send: a greeting, and READY.
    fn bytes(role: &[u8], identity: &[u8]) -> Vec<u8> {
        let mut out = vec![0; GREETING];
        (out[0], out[9], out[10], out[11]) = (0xff, 0x7f, 3, 1);
        out[12..16].copy_from_slice(b"NULL");
        let mut body = b"\x05READY".to_vec();
        property(&mut body, b"Socket-Type", role);
        property(&mut body, b"Identity", identity);
        out.extend_from_slice(&[4, u8::try_from(body.len()).unwrap()]);
        out.extend_from_slice(&body);
        out
    }

    async fn met(bytes: &[u8], role: Role) -> Result<(Peer, Messages), ZmtpError> {
        let (mut ours, mut theirs) = tokio::io::duplex(4096);
        theirs.write_all(bytes).await.unwrap();
        let met = greet(&mut ours, role, 1 << 20);
        let (met, _) = tokio::join!(met, async {
            let mut hello = [0; GREETING];
            theirs.read_exact(&mut hello).await.unwrap();
            theirs.shutdown().await.unwrap();
        });
        met
    }

    #[tokio::test]
    async fn a_dealer_is_met_with_its_identity_and_what_it_said_besides() {
        let mut said = bytes(b"DEALER", &[0, 0]);
        said.extend_from_slice(&[0, 2, b'h', b'i']);
        let (peer, mut messages) = met(&said, Role::Router).await.unwrap();
        assert_eq!(peer.identity, [0, 0]);
        let Some(Item::Message(message)) = messages.next().unwrap() else { panic!() };
        assert_eq!(message.frame(0), Some(&b"hi"[..]));
    }

    #[tokio::test]
    async fn others_are_told_apart() {
        let err = met(&bytes(b"SUB", b""), Role::Pull).await.err().unwrap();
        assert_eq!(err.to_string(), "the peer is a SUB socket; a PUSH socket is expected here");
        let err = met(b"GET / HTTP/1.1\r\n\r\n", Role::Router).await.err().unwrap();
        assert!(err.to_string().contains("no signature"), "{err}");
        let mut curve = bytes(b"DEALER", b"");
        curve[12..17].copy_from_slice(b"CURVE");
        let err = met(&curve, Role::Router).await.err().unwrap();
        assert!(err.to_string().contains("mechanism"), "{err}");
        let half = &bytes(b"DEALER", b"")[..70];
        let err = met(half, Role::Router).await.err().unwrap();
        assert!(err.to_string().contains("hung up"), "{err}");
    }

    proptest! {
        #[test]
        fn no_properties_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut command = b"\x05READY".to_vec();
            command.extend_from_slice(&bytes);
            let _ = introduced(&command, Role::Router);
        }
    }
}

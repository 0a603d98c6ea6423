//! The tasks that read what the engine sends, and write what it is sent.

use std::{future::Future, io, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::Notify,
    task::JoinSet,
};

use super::{
    decode::Step,
    handshake::{self, Status},
    life::Way,
    sockets::Folder,
    state::Shared,
    zmtp::{Item, Messages, Role, ZmtpError, frame, greet, pong},
};
use crate::{Error, ErrorKind};

/// An engine has one connection to each socket, and for a while another when it is started again.
const PEERS: usize = 8;
/// What is said in a handshake is a few hundred bytes.
const HANDSHAKE: usize = 64 << 10;
/// A buffer larger than this is given back once it is written.
const KEPT: usize = 4 << 20;
/// The first word of an engine that ends.
const DEAD: &[u8] = b"ENGINE_CORE_DEAD";

/// The channel and its files, as tasks know them.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) shared: Arc<Shared>,
    pub(super) folder: Arc<Folder>,
}

/// Takes what dials in, and serves each with a task of its own, until the task of this is aborted.
pub(super) async fn accept<L, S, F>(listener: L, link: Link, serve: fn(Link, S) -> F)
where
    L: Listener<S>,
    F: Future<Output = Result<(), ZmtpError>> + Send + 'static,
{
    let mut peers = JoinSet::new();
    loop {
        let stream = tokio::select! {
            stream = listener.accept() => stream,
            Some(_) = peers.join_next() => continue,
        };
        match stream {
            Ok(_) if peers.len() >= PEERS => {
                tracing::warn!(peers = PEERS, "one too many dialled the engine's sockets");
            }
            Ok(stream) => {
                let serving = serve(link.clone(), stream);
                peers.spawn(async move {
                    if let Err(error) = serving.await {
                        tracing::warn!(%error, "a peer at the engine's sockets");
                    }
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: later is better than at once.
                tracing::warn!(%error, "nothing can be taken at the engine's sockets");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Where something dials in.
pub(super) trait Listener<S> {
    async fn accept(&self) -> io::Result<S>;
}

impl Listener<TcpStream> for TcpListener {
    async fn accept(&self) -> io::Result<TcpStream> {
        Self::accept(self).await.map(|it| it.0)
    }
}

impl Listener<UnixStream> for UnixListener {
    async fn accept(&self) -> io::Result<UnixStream> {
        Self::accept(self).await.map(|it| it.0)
    }
}

/// The socket where an engine says that it has started.
pub(super) async fn handshake(link: Link, mut stream: TcpStream) -> Result<(), ZmtpError> {
    let (peer, mut messages) = greet(&mut stream, Role::Router, HANDSHAKE).await?;
    first(&peer.identity)?;
    let mut out = Vec::new();
    loop {
        while let Some(item) = messages.next()? {
            match item {
                Item::Command(command) => pong(&mut out, command),
                Item::Message(message) => {
                    match handshake::status(message.frame(0).unwrap_or_default()) {
                        Ok(Some(Status::Hello)) => {
                            tracing::info!("an engine has started, and loads its model");
                            link.shared.begins();
                            link.folder.keep(None);
                            let (input, output) = link.folder.paths();
                            let mut init = Vec::new();
                            handshake::init(&mut init, &input, &output);
                            frame(&mut out, &init, false);
                        }
                        Ok(Some(Status::Ready)) => {
                            tracing::debug!("the engine says that it is ready");
                        }
                        Ok(None) => {
                            tracing::warn!("the engine says something that is not known");
                        }
                        Err(error) => {
                            tracing::warn!(%error, "the engine's handshake");
                            return Err(ZmtpError::Greeting("its handshake is no map"));
                        }
                    }
                }
            }
        }
        stream.write_all(&out).await?;
        out.clear();
        if messages.fill(&mut stream).await? == 0 {
            return Ok(());
        }
    }
}

/// The socket where requests go.
pub(super) async fn input(link: Link, mut stream: UnixStream) -> Result<(), ZmtpError> {
    let (peer, messages) = greet(&mut stream, Role::Router, HANDSHAKE).await?;
    first(&peer.identity)?;
    let connection = link.shared.connected(Way::Input);
    let (reader, writer) = stream.into_split();
    let ended = tokio::select! {
        ended = learn(&link, connection.serial, reader, messages) => ended,
        ended = write(&link.shared, connection.serial, &connection.wake, writer) => ended,
    };
    let error = match &ended {
        Ok(()) => Error::new(ErrorKind::Lost, "the engine has hung up"),
        Err(error) => Error::new(ErrorKind::Lost, error.to_string()),
    };
    link.shared.disconnected(Way::Input, connection.serial, error);
    ended
}

/// Reads what the engine says where requests go: only that it is ready, and what it is.
async fn learn<R: AsyncRead + Unpin>(
    link: &Link,
    serial: u64,
    mut reader: R,
    mut messages: Messages,
) -> Result<(), ZmtpError> {
    loop {
        while let Some(item) = messages.next()? {
            let Item::Message(message) = item else { continue };
            let said = message.frame(0).unwrap_or_default();
            match handshake::known(said) {
                Ok(known) => {
                    if link.shared.ready(serial, known) {
                        link.folder.keep(Some(said));
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "the engine cannot be used");
                    link.shared.given_up(error);
                    return Ok(());
                }
            }
        }
        if messages.fill(&mut reader).await? == 0 {
            return if messages.is_within() { Err(ZmtpError::HalfMessage) } else { Ok(()) };
        }
    }
}

/// Writes what there is to write: what has come together since the last time goes at once.
async fn write<W: AsyncWrite + Unpin>(
    shared: &Shared,
    serial: u64,
    wake: &Notify,
    mut writer: W,
) -> Result<(), ZmtpError> {
    let mut out = Vec::new();
    loop {
        if !shared.unsent(serial, &mut out) {
            return Ok(());
        }
        if out.is_empty() {
            wake.notified().await;
            continue;
        }
        writer.write_all(&out).await?;
        out.clear();
        out.shrink_to(KEPT);
    }
}

/// The socket where tokens come.
pub(super) async fn output(link: Link, mut stream: UnixStream) -> Result<(), ZmtpError> {
    let limit = link.shared.options.message_bytes;
    let (_, mut messages) = greet(&mut stream, Role::Pull, limit).await?;
    let connection = link.shared.connected(Way::Output);
    let ended = tokio::select! {
        ended = read(&link, connection.serial, &mut stream, &mut messages) => ended,
        // Only woken when another has taken its place.
        () = connection.wake.notified() => Ok(()),
    };
    let error = match &ended {
        Ok(()) => Error::new(ErrorKind::Lost, "the engine has hung up"),
        Err(error @ (ZmtpError::Io(_) | ZmtpError::HalfMessage)) => {
            Error::new(ErrorKind::Lost, error.to_string())
        }
        Err(error) => Error::new(ErrorKind::Nonsense, error.to_string()),
    };
    link.shared.disconnected(Way::Output, connection.serial, error);
    ended
}

async fn read(
    link: &Link,
    serial: u64,
    stream: &mut UnixStream,
    messages: &mut Messages,
) -> Result<(), ZmtpError> {
    let mut step = Step::default();
    let mut answers = Vec::new();
    loop {
        while let Some(item) = messages.next()? {
            let message = match item {
                Item::Message(message) => message,
                Item::Command(command) => {
                    pong(&mut answers, command);
                    continue;
                }
            };
            if message.frame(0) == Some(DEAD) {
                tracing::error!("the engine says that it has died");
                let error =
                    Error::new(ErrorKind::Lost, "it says that it has died; its log says why");
                link.shared.given_up(error);
                link.folder.keep(None);
                return Ok(());
            }
            let Some(layout) = link.shared.lock().known.map(|it| it.layout) else {
                // It cannot know any of our requests before it is known itself.
                continue;
            };
            if let Err(error) = step.read(message, layout, link.shared.run) {
                let text = format!("a step that cannot be read: {error}");
                tracing::error!(error = %text, "the engine");
                let error = Error::new(ErrorKind::Nonsense, text);
                link.shared.nonsense(serial, &error);
                continue;
            }
            if !link.shared.apply(&mut step, serial) {
                return Ok(());
            }
        }
        if !answers.is_empty() {
            stream.write_all(&answers).await?;
            answers.clear();
        }
        if messages.fill(stream).await? == 0 {
            return if messages.is_within() { Err(ZmtpError::HalfMessage) } else { Ok(()) };
        }
    }
}

/// One engine is served, and it is the first of its kind.
fn first(identity: &[u8]) -> Result<(), ZmtpError> {
    if identity == [0, 0] {
        Ok(())
    } else {
        Err(ZmtpError::Greeting("it is not the engine of data-parallel rank 0; one is served here"))
    }
}

//! How the two sides get to know each other's segments.

use std::{io, os::fd::AsFd as _, time::Duration};

use envmill_ring::{Channel, ColumnsReader, ColumnsWriter, Doorbell, Limits, Message, Received};
use serde::Deserialize;
use tokio::time::timeout;

use crate::{Error, ErrorKind};

use super::{
    VllmMemoryOptions,
    layout::{self, VERSION},
    watch::{Watch, watch},
};

/// How long the plug-in may take to answer: vLLM's event loop is busy at times.
const PATIENCE: Duration = Duration::from_secs(30);

/// Both sides' segments, with their doorbells, and the socket that ends with the peer.
pub(super) struct Met {
    pub(super) writer: ColumnsWriter,
    pub(super) reader: ColumnsReader,
    /// The plug-in rings it.
    pub(super) bell: Doorbell,
    pub(super) bell_watch: Watch,
    /// Rung for the plug-in.
    pub(super) their_bell: Doorbell,
    pub(super) channel: Channel,
    pub(super) channel_watch: Watch,
    pub(super) message: Message,
}

/// What the plug-in answers.
#[derive(Deserialize)]
struct Welcome {
    version: u32,
    /// Which vLLM it is.
    #[serde(default)]
    engine: String,
}

/// Connects to the plug-in.
pub(super) async fn meet(options: &VllmMemoryOptions) -> Result<Met, Error> {
    let path = options.socket.display();
    let lost = |what: &dyn std::fmt::Display| {
        Error::new(
            ErrorKind::Lost,
            format!("{path}: {what} (is vLLM up, with VLLM_PLUGINS=envmill and this socket?)"),
        )
    };
    let channel = Channel::connect(&options.socket).map_err(|error| lost(&error))?;
    if !channel.is_of_same_user().map_err(|error| lost(&error))? {
        return Err(lost(&"another user listens there"));
    }
    let (requests, results) = layouts(options)?;
    let mut writer = ColumnsWriter::create(requests).map_err(|error| lost(&error))?;
    let bells = || -> io::Result<_> { Ok((Doorbell::new()?, Doorbell::new()?)) };
    let (bell, their_bell) = bells().map_err(|error| lost(&error))?;
    let hello = serde_json::json!({
        "version": VERSION,
        "rows": options.rows,
        "slots": options.slots,
        "tokens_bytes": u64::from(options.sampled_tokens) * 4,
        "text_bytes": options.text_bytes,
    });
    let passed = [writer.as_fd(), their_bell.as_fd(), bell.as_fd()];
    let sent = channel.send(hello.to_string().as_bytes(), &passed);
    if !sent.map_err(|error| lost(&error))? {
        return Err(lost(&"it does not listen"));
    }
    let channel_watch = watch(channel.as_fd()).map_err(|error| lost(&error))?;
    let mut message = Message::new();
    let heard = timeout(PATIENCE, hear(&channel, &channel_watch, &mut message)).await;
    heard.map_err(|_| lost(&"no answer"))?.map_err(|error| lost(&error))?;
    let welcome: Welcome = serde_json::from_slice(message.bytes())
        .map_err(|error| lost(&format!("its answer cannot be read: {error}")))?;
    if welcome.version != VERSION {
        return Err(lost(&format!("it speaks version {}, not {VERSION}", welcome.version)));
    }
    if options.engine.as_ref().is_some_and(|expected| *expected != welcome.engine) {
        return Err(lost(&"another vLLM listens there"));
    }
    let segment = message.descriptors().pop().ok_or_else(|| lost(&"it passes no segment"))?;
    let reader =
        writer.connect(segment.as_fd(), &Limits::default()).map_err(|error| lost(&error))?;
    if *reader.layout() != results {
        return Err(lost(&"its segment is another than was asked for"));
    }
    let bell_watch = watch(bell.as_fd()).map_err(|error| lost(&error))?;
    Ok(Met { writer, reader, bell, bell_watch, their_bell, channel, channel_watch, message })
}

/// The layouts of both segments.
pub(super) fn layouts(
    options: &VllmMemoryOptions,
) -> Result<(envmill_ring::Layout, envmill_ring::Layout), Error> {
    let refused = |what: String| Error::new(ErrorKind::Refused, what);
    if options.text_bytes < layout::TEXT_BYTES_MIN || options.sampled_tokens < 16 {
        let least = layout::TEXT_BYTES_MIN;
        return Err(refused(format!("at least {least} bytes of texts and 16 tokens in a batch")));
    }
    let requests = layout::requests(options).map_err(|error| refused(error.to_string()))?;
    let results = layout::results(options).map_err(|error| refused(error.to_string()))?;
    let bytes_max = Limits::default().segment_bytes_max;
    if requests.total_bytes().max(results.total_bytes()) > bytes_max {
        return Err(refused(format!("a segment of more than {bytes_max} bytes")));
    }
    Ok((requests, results))
}

/// Waits for a message.
async fn hear(channel: &Channel, watch: &Watch, message: &mut Message) -> Result<(), String> {
    loop {
        let mut ready = watch.readable().await.map_err(|error| error.to_string())?;
        match channel.receive(message).map_err(|error| error.to_string())? {
            Received::Message => return Ok(()),
            Received::Closed => return Err("it has hung up".into()),
            Received::Nothing => ready.clear_ready(),
        }
    }
}

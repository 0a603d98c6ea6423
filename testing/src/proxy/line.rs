//! The way down to the client, with what has become of it.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::{io::AsyncWriteExt as _, net::tcp::WriteHalf, sync::watch, time::sleep};

use super::{
    fault::{Effect, Fault, Point},
    handle::{Live, Tally},
};

/// Why a connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// Both sides are to be reset: on purpose, or because one of them failed.
    Reset,
    /// Both sides are to be closed.
    Gone,
}

impl From<std::io::Error> for Over {
    fn from(_: std::io::Error) -> Self {
        Self::Reset
    }
}

/// What becomes of bytes that come down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Pass,
    /// They vanish.
    Vanish,
    Drip {
        bytes: usize,
        rest: Duration,
    },
    Garble,
}

/// Writes to the client, and strikes when the fault's point comes.
pub(super) struct Line<'a> {
    client: WriteHalf<'a>,
    live: watch::Receiver<Live>,
    tally: &'a Tally,
    /// Set once bytes vanish in both directions; read by the way up.
    black_hole: &'a AtomicBool,
    mode: Mode,
    /// The effect that is still to come, and after how many further bytes where bytes count.
    pending: Option<(Point, Effect)>,
    bytes: u64,
}

impl<'a> Line<'a> {
    pub(super) fn new(
        client: WriteHalf<'a>,
        live: watch::Receiver<Live>,
        fault: &Fault,
        tally: &'a Tally,
        black_hole: &'a AtomicBool,
    ) -> Self {
        let pending = match fault {
            Fault::At(point, effect) => Some((*point, *effect)),
            Fault::Pass | Fault::Answer(_) | Fault::Frames(..) => None,
        };
        Self { client, live, tally, black_hole, mode: Mode::Pass, pending, bytes: 0 }
    }

    /// The connection stands: strikes if that is the point.
    pub(super) async fn accepted(&mut self) -> Result<(), Over> {
        self.strike_if(|point| matches!(point, Point::Accept | Point::Byte(0))).await
    }

    /// Frame `index` is about to come down: strikes if that is the point.
    pub(super) async fn frame(&mut self, index: u32) -> Result<(), Over> {
        self.strike_if(|point| point == Point::Frame(index)).await
    }

    /// Sends bytes down, as far as the mode lets them.
    pub(super) async fn send(&mut self, mut bytes: &[u8]) -> Result<(), Over> {
        if let Some((Point::Byte(at), _)) = self.pending {
            let left = usize::try_from(at.saturating_sub(self.bytes)).unwrap_or(usize::MAX);
            if bytes.len() >= left {
                let (before, after) = bytes.split_at(left);
                self.pass(before).await?;
                self.strike_if(|_| true).await?;
                bytes = after;
            }
        }
        self.pass(bytes).await
    }

    /// The server has ended its stream.
    pub(super) async fn end(&mut self) -> Result<(), Over> {
        if self.mode == Mode::Vanish && self.black_hole.load(Ordering::Relaxed) {
            // Nobody is told. The client's own end is what ends the connection.
            return std::future::pending().await;
        }
        Ok(self.client.shutdown().await?)
    }

    /// The stream ends here for the client; what the server still sends vanishes.
    pub(super) async fn close(&mut self) -> Result<(), Over> {
        self.mode = Mode::Vanish;
        Ok(self.client.shutdown().await?)
    }

    /// Lets `effect` begin now.
    pub(super) async fn strike(&mut self, effect: Effect) -> Result<(), Over> {
        self.tally.struck();
        match effect {
            Effect::Cut => return Err(Over::Reset),
            Effect::HalfClose => self.close().await?,
            Effect::BlackHole => {
                self.mode = Mode::Vanish;
                self.black_hole.store(true, Ordering::Relaxed);
            }
            Effect::Pause(duration) => sleep(duration).await,
            Effect::Drip { bytes, rest } => self.mode = Mode::Drip { bytes: bytes.max(1), rest },
            Effect::Garble => self.mode = Mode::Garble,
        }
        Ok(())
    }

    async fn strike_if(&mut self, due: impl Fn(Point) -> bool) -> Result<(), Over> {
        match self.pending {
            Some((point, effect)) if due(point) => {
                self.pending = None;
                self.strike(effect).await
            }
            _ => Ok(()),
        }
    }

    async fn pass(&mut self, bytes: &[u8]) -> Result<(), Over> {
        self.bytes += bytes.len() as u64;
        thawed(&mut self.live).await?;
        match self.mode {
            Mode::Pass => self.client.write_all(bytes).await?,
            Mode::Vanish => {}
            Mode::Drip { bytes: at_a_time, rest } => {
                for drop in bytes.chunks(at_a_time) {
                    self.client.write_all(drop).await?;
                    sleep(rest).await;
                }
            }
            Mode::Garble => {
                let garbled: Vec<u8> = bytes.iter().map(|byte| byte ^ 0x10).collect();
                self.client.write_all(&garbled).await?;
            }
        }
        Ok(())
    }
}

/// Waits until the proxy is not frozen.
pub(super) async fn thawed(live: &mut watch::Receiver<Live>) -> Result<(), Over> {
    if live.borrow().frozen {
        live.wait_for(|live| !live.frozen).await.map_err(|_| Over::Gone)?;
    }
    Ok(())
}

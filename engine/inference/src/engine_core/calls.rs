//! What the engine is told besides requests.

use std::{path::Path, sync::Arc};

use envmill_protocol::PolicyVersion;

use super::{
    encode::Arguments,
    msgpack::{array, map, nil, str},
    sockets::Folder,
    state::Shared,
};
use crate::{Control, Error, ErrorKind, PauseMode};

/// What a call needs to be made, and to be made sense of.
pub(super) struct Calls {
    pub(super) shared: Arc<Shared>,
    pub(super) folder: Arc<Folder>,
}

impl Calls {
    pub(super) async fn control(self, control: Control) -> Result<(), Error> {
        match control {
            Control::Pause(mode) => self.pause(mode).await,
            Control::Resume => {
                self.call("resume_scheduler", (0, &|_| ())).await?;
                self.shared.lock().ending = false;
                Ok(())
            }
            Control::LoadWeights { folder } => self.load_weights(&folder).await,
            Control::SetVersion(version) => self.set_version(version).await,
        }
    }

    async fn pause(&self, mode: PauseMode) -> Result<(), Error> {
        self.shared.lock().ending |= mode == PauseMode::Abort;
        // Only the mode: that caches are cleared, too, is what the method does by itself.
        self.call("pause_scheduler", (1, &|out| str(out, mode.name()))).await
    }

    async fn load_weights(&self, folder: &Path) -> Result<(), Error> {
        let Some(folder) = folder.to_str() else {
            let message = format!("{} is no text", folder.display());
            return Err(Error::new(ErrorKind::Refused, message));
        };
        // collective_rpc(method, timeout, args, kwargs)
        let arguments = |out: &mut Vec<u8>| {
            str(out, "reload_weights");
            nil(out);
            array(out, 0);
            map(out, 1);
            str(out, "weights_path");
            str(out, folder);
        };
        let loaded = self.call("collective_rpc", (4, &arguments)).await;
        loaded.map_err(|it| self.unknown_weights(it))
    }

    async fn set_version(&self, version: PolicyVersion) -> Result<(), Error> {
        let text = version.to_string();
        let set = self.call("set_weight_version", (1, &|out| str(out, &text))).await;
        set.map_err(|it| self.unknown_weights(it))?;
        self.shared.lock().version = version;
        Ok(())
    }

    /// Calls a method of the engine, and waits for its answer.
    async fn call(&self, method: &str, arguments: Arguments<'_>) -> Result<(), Error> {
        let answer = self.shared.call(method, arguments)?;
        answer.await.unwrap_or_else(|_| Err(Error::new(ErrorKind::Lost, "the channel was closed")))
    }

    /// Where the engine itself says that it failed, nobody knows what it samples from. Other errors are those
    /// of an engine that was lost, or was not told at all.
    fn unknown_weights(&self, error: Error) -> Error {
        if error.kind != ErrorKind::Refused {
            return error;
        }
        let message = format!("its weights are not known any more, restart it: {}", error.message);
        let error = Error::new(ErrorKind::Lost, message);
        self.shared.given_up(error.clone());
        self.folder.keep(None);
        error
    }
}

//! What is told to vLLM besides requests.

use std::sync::atomic::Ordering;

use envmill_protocol::PolicyVersion;
use serde::Deserialize;

use crate::{Control, Error, ErrorKind, Load};

use super::{requests::Question, vllm::Handles};

/// How busy vLLM is, in the plug-in's words; nothing where it keeps no statistics.
#[derive(Deserialize)]
struct Said {
    running: Option<u64>,
    #[serde(default)]
    waiting: u64,
    #[serde(default)]
    kv_cache: f64,
    #[serde(default)]
    prefix_queries: u64,
    #[serde(default)]
    prefix_hits: u64,
    started: Option<u64>,
}

impl Handles {
    /// Changes the state of the engine.
    pub(super) async fn control(&self, control: Control) -> Result<(), Error> {
        match control {
            Control::Pause(mode) => self.ask(Question::Pause, mode.name().into()).await.map(drop),
            Control::Resume => self.ask(Question::Resume, String::new()).await.map(drop),
            Control::LoadWeights { folder } => {
                let Ok(folder) = folder.into_os_string().into_string() else {
                    return Err(Error::new(ErrorKind::Refused, "the folder's name is no UTF-8"));
                };
                self.ask(Question::LoadWeights, folder).await.map(drop).map_err(Error::of_update)
            }
            Control::SetVersion(PolicyVersion(number)) => {
                self.ask(Question::SetVersion, number.to_string())
                    .await
                    .map_err(Error::of_update)?;
                self.desk.version.store(number, Ordering::Release);
                Ok(())
            }
        }
    }

    /// How busy the engine is.
    pub(super) async fn load(&self) -> Result<Option<Load>, Error> {
        read(&self.ask(Question::Load, String::new()).await?)
    }

    async fn ask(&self, question: Question, text: String) -> Result<Vec<u8>, Error> {
        let (answer, start) = self.desk.ask(question, text)?;
        if start {
            self.start();
        }
        answer.await.unwrap_or_else(|_| Err(Error::new(ErrorKind::Lost, "nobody answers")))
    }
}

/// Reads how busy the engine is.
fn read(text: &[u8]) -> Result<Option<Load>, Error> {
    let said: Said = serde_json::from_slice(text)
        .map_err(|error| Error::new(ErrorKind::Nonsense, format!("its load: {error}")))?;
    let Said { running, waiting, kv_cache, prefix_queries, prefix_hits, started } = said;
    let load = running.map(|running| Load {
        running,
        waiting,
        kv_cache,
        prefix_queries,
        prefix_hits,
        started,
    });
    Ok(load)
}

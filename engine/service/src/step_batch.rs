//! The stream of a trainer that is the policy of a job.

use std::{
    pin::Pin,
    time::{Duration, Instant},
};

use envmill_protocol::{Decision, Spoken};
use envmill_wire::{
    self as wire, step_batch_request::Request as Said, step_batch_response::Response,
};
use serde::de::IgnoredAny;
use tokio::{sync::mpsc, time::sleep_until};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Code, Status, Streaming};

use crate::{
    desk::{Batching, Found, TurnName},
    hub::{Address, Seat, Word},
    refusal::Refusal,
};

/// The most turns of a batch where the trainer does not say.
const BATCH_MAX: usize = 4096;
/// How long a turn waits for others where the trainer wants several and does not say.
const WAIT: Duration = Duration::from_millis(5);
/// How often the desk is looked at without a reason.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Batches that wait for the socket. More turns wait at the desk.
const BATCHES_MAX: usize = 2;

/// What goes to the trainer.
pub(crate) type Batches =
    Pin<Box<dyn Stream<Item = Result<wire::StepBatchResponse, Status>> + Send>>;

/// Opens the stream.
pub(crate) async fn open(
    hub: &Address,
    mut said: Streaming<wire::StepBatchRequest>,
) -> Result<Batches, Status> {
    let first = said.message().await?.and_then(|it| it.request);
    let Some(Said::Open(open)) = first else {
        return Err(Status::invalid_argument("the first message has to be `open`"));
    };
    let seat = hub.ask(|answer| Word::Desk(open.job_id.clone(), answer)).await??;
    let number = seat.desk.sit_down();
    let batching = batching(&open);
    let (sender, receiver) = mpsc::channel(BATCHES_MAX);
    let job = Job { id: open.job_id, seat, number };
    tokio::spawn(show(job.clone(), batching, sender.clone()));
    tokio::spawn(listen(job, said, sender));
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

#[derive(Clone, Debug)]
struct Job {
    id: String,
    seat: Seat,
    /// Which of the streams at the desk this is.
    number: u64,
}

fn batching(open: &wire::OpenStepBatch) -> Batching {
    let min = open.min_batch.max(1) as usize;
    let max = if open.max_batch == 0 { BATCH_MAX } else { open.max_batch as usize };
    let wait = match open.max_wait_us {
        0 if min > 1 => WAIT,
        us => Duration::from_micros(us),
    };
    Batching { min: min.min(max), max, wait }
}

/// Shows turns as they come.
async fn show(
    job: Job,
    batching: Batching,
    sender: mpsc::Sender<Result<wire::StepBatchResponse, Status>>,
) {
    let desk = &job.seat.desk;
    loop {
        // A place in the queue first: what is taken from the desk is sent.
        let Ok(permit) = sender.reserve().await else { return };
        let response = match desk.take(job.number, &batching, job.seat.members) {
            Found::Replaced => {
                permit.send(Err(Status::aborted("another stream answers the job's turns now")));
                return;
            }
            Found::Version(version) => Response::VersionCurrent(wire::VersionCurrent {
                job_id: job.id.clone(),
                version: Some(wire::version(version)),
            }),
            Found::Cancelled(names) => {
                let turns = names.iter().map(|name| name.0).collect();
                Response::Cancelled(wire::CancelledTurns { turns })
            }
            Found::Turns(turns) => Response::Turns(wire::Turns { turns }),
            Found::Over => {
                let response = Some(Response::Over(wire::JobOver {}));
                permit.send(Ok(wire::StepBatchResponse { response }));
                return;
            }
            Found::Nothing(until) => {
                drop(permit);
                let until = until.unwrap_or_else(|| Instant::now() + LOOK_EVERY);
                tokio::select! {
                    () = desk.news() => {}
                    () = sleep_until(until.into()) => {}
                    () = sender.closed() => return,
                }
                continue;
            }
        };
        permit.send(Ok(wire::StepBatchResponse { response: Some(response) }));
    }
}

/// Takes actions as they come.
async fn listen(
    job: Job,
    mut said: Streaming<wire::StepBatchRequest>,
    sender: mpsc::Sender<Result<wire::StepBatchResponse, Status>>,
) {
    loop {
        let status = match said.message().await {
            // It has said all that it will say, and may go on to look.
            Ok(None) => return,
            Ok(Some(wire::StepBatchRequest { request: Some(Said::Actions(actions)) })) => {
                match take(&job, actions) {
                    Ok(()) => continue,
                    Err(refusal) => refusal.into(),
                }
            }
            Ok(Some(_)) => Status::invalid_argument("after `open` come `actions`"),
            Err(status) => status,
        };
        let _ = sender.send(Err(status)).await;
        return;
    }
}

/// Takes all of the actions, or none if one makes no sense.
fn take(job: &Job, actions: wire::Actions) -> Result<(), Refusal> {
    let desk = &job.seat.desk;
    let current = desk.version();
    let answer = |action: wire::Action| {
        let turn = action.turn;
        let wrong = |problem: String| {
            Refusal::new(Code::InvalidArgument, format!("the action for turn {turn}: {problem}"))
        };
        if action.error.is_empty() {
            check_action(&action.action).map_err(wrong)?;
        }
        let decided = wire::decision(action, current).map_err(wrong)?;
        Ok((TurnName(turn), decided))
    };
    let answers = actions.actions.into_iter().map(answer).collect::<Result<Vec<_>, Refusal>>()?;
    desk.decide(job.number, answers, |slot, generation, (action, generations)| Decision {
        slot,
        generation,
        action,
        generations,
        spoken: Spoken::default(),
    });
    Ok(())
}

/// It goes into a frame as it is, so it has to be what it says.
fn check_action(action: &[u8]) -> Result<(), String> {
    match serde_json::from_slice::<IgnoredAny>(action) {
        Ok(_) if action.trim_ascii_start().starts_with(b"{") => Ok(()),
        Ok(_) => Err("it is no JSON object".into()),
        Err(error) => Err(format!("it is no JSON: {error}")),
    }
}

//! Looks after replicas: asks for their load, and gives weights to those that come back.

use std::{sync::Weak, time::Duration};

use tokio::{
    sync::oneshot,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::ErrorKind;

use super::{control, replicas::Shared};

/// A replica that does not say its load within this time has none to say.
const LOAD_TIMEOUT: Duration = Duration::from_secs(5);

/// Until the pool is gone.
pub(super) async fn watch(shared: Weak<Shared>, stopped: oneshot::Receiver<()>) {
    tokio::pin!(stopped);
    let mut next = Instant::now();
    loop {
        let Some(it) = shared.upgrade() else { return };
        // One that was left alone is tried again by whoever waits, and then somebody has to look.
        let opening = it.state().seats.next_opening(Instant::now()).unwrap_or(Duration::MAX);
        let pause = next.saturating_duration_since(Instant::now()).min(opening);
        drop(it);
        tokio::select! {
            _ = &mut stopped => return,
            () = sleep(pause) => {}
        }
        let Some(it) = shared.upgrade() else { return };
        if next <= Instant::now() {
            next = Instant::now() + it.options.load_interval;
            ask_all(&it).await;
        }
        let due = it.state().seats.to_restore(Instant::now());
        for seat in due {
            let Some(engine) = it.state().engines.get(&seat).cloned() else { continue };
            match control::restore(&it, &*engine).await {
                Ok(()) => it.state().seats.restored(seat),
                Err(error) => {
                    tracing::info!("a replica does not take the pool's weights yet: {error}");
                    let now = Instant::now();
                    let mut state = it.state();
                    state.seats.failed(seat, ErrorKind::Lost, true, now, &it.options);
                }
            }
        }
        it.serve();
    }
}

/// Asks all replicas for their load, at the same time: one that does not say it keeps nobody else's back.
async fn ask_all(shared: &Shared) {
    let engines: Vec<_> =
        shared.state().engines.iter().map(|(id, engine)| (*id, engine.clone())).collect();
    let mut asked = JoinSet::new();
    for (id, engine) in engines {
        asked.spawn(async move { (id, timeout(LOAD_TIMEOUT, engine.load()).await) });
    }
    while let Some(told) = asked.join_next().await {
        if let Ok((id, Ok(Ok(load)))) = told {
            shared.state().seats.loaded(id, load, &shared.options);
        }
    }
}

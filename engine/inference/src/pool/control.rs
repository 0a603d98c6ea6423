//! What is told to all replicas.

use std::sync::Arc;

use tokio::{task::JoinSet, time::Instant};

use crate::{Control, Error, ErrorKind, Inference, PauseMode};

use super::{replicas::Shared, seats::SeatId};

/// Tells all replicas at once. One that fails an update of weights gets nothing any more; the others go
/// on, and only if there are none is that an error.
pub(super) async fn all(shared: &Arc<Shared>, control: Control) -> Result<(), Error> {
    let engines: Vec<_> = {
        let state = shared.state();
        let engines = state.engines.iter().filter(|(id, _)| state.seats.is_trusted(**id));
        engines.map(|(id, engine)| (*id, Arc::clone(engine))).collect()
    };
    if engines.is_empty() {
        return Err(Error::new(ErrorKind::Busy, "there is no replica whose weights are known"));
    }
    let update = matches!(control, Control::LoadWeights { .. } | Control::SetVersion(_));
    let mut told = JoinSet::new();
    for (id, engine) in engines {
        let control = control.clone();
        told.spawn(async move { (id, engine.control(control).await) });
    }
    let (mut succeeded, mut first) = (0_usize, None);
    while let Some(joined) = told.join_next().await {
        let Ok((id, result)) = joined else { continue };
        match result {
            Ok(()) => succeeded += 1,
            Err(error) => {
                tracing::warn!("a replica did not take {control:?}: {error}");
                if update && error.kind != ErrorKind::Unsupported {
                    distrust(shared, id);
                } else {
                    shared.failed(id, &error);
                }
                first = first.or(Some(error));
            }
        }
    }
    if succeeded > 0 {
        let mut state = shared.state();
        match control {
            Control::LoadWeights { folder } => state.weights = Some(folder),
            Control::SetVersion(version) => state.version = Some(version),
            Control::Pause(_) | Control::Resume => {}
        }
        drop(state);
        shared.serve();
        return Ok(());
    }
    Err(first.unwrap_or_else(|| Error::new(ErrorKind::Lost, "no replica answered")))
}

/// Nobody knows what it samples from now on: it stays paused, and what it had goes on elsewhere.
fn distrust(shared: &Shared, id: SeatId) {
    let mut state = shared.state();
    state.seats.distrust(id, Instant::now());
    let its = state.running.values().filter_map(|it| it.at.filter(|(seat, _)| *seat == id));
    let requests: Vec<_> = its.map(|(_, request)| request).collect();
    let engine = state.engines.get(&id).cloned();
    drop(state);
    if let Some(engine) = engine {
        engine.abort(&requests);
    }
}

/// Gives a replica that came back the weights that the others have.
pub(super) async fn restore(shared: &Shared, engine: &dyn Inference) -> Result<(), Error> {
    let (weights, version) = {
        let state = shared.state();
        (state.weights.clone(), state.version)
    };
    if let Some(folder) = weights {
        engine.control(Control::Pause(PauseMode::Keep)).await?;
        engine.control(Control::LoadWeights { folder }).await?;
    }
    if let Some(version) = version {
        engine.control(Control::SetVersion(version)).await?;
    }
    engine.control(Control::Resume).await
}

//! A bounded memory of what was computed before.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

/// Values by text, of which the oldest go when there are too many bytes.
pub(crate) struct Cache<T: ?Sized> {
    state: Mutex<State<T>>,
    limit: usize,
}

struct State<T: ?Sized> {
    values: HashMap<Arc<str>, Arc<T>>,
    order: VecDeque<Arc<str>>,
    bytes: usize,
}

impl<T: ?Sized> Cache<T> {
    /// A cache whose keys and values take at most this many bytes.
    pub(crate) fn new(limit: usize) -> Self {
        let state = State { values: HashMap::new(), order: VecDeque::new(), bytes: 0 };
        Self { state: Mutex::new(state), limit }
    }

    /// What is kept for a key; else what `make` makes of it, which is then kept. Two callers at once may
    /// both make it; the lock is not held meanwhile.
    pub(crate) fn get<E>(
        &self,
        key: &str,
        make: impl FnOnce() -> Result<Arc<T>, E>,
    ) -> Result<Arc<T>, E> {
        if let Some(value) = self.lock().values.get(key) {
            return Ok(value.clone());
        }
        let value = make()?;
        let weight = weight(key, &value);
        if weight <= self.limit {
            let mut state = self.lock();
            while state.bytes + weight > self.limit {
                let Some(oldest) = state.order.pop_front() else { break };
                if let Some(dropped) = state.values.remove(&oldest) {
                    state.bytes -= self::weight(&oldest, &dropped);
                }
            }
            let key: Arc<str> = key.into();
            if state.values.insert(key.clone(), value.clone()).is_none() {
                state.order.push_back(key);
                state.bytes += weight;
            }
        }
        Ok(value)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State<T>> {
        // Nothing in here panics half-way; what is there is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn weight<T: ?Sized>(key: &str, value: &Arc<T>) -> usize {
    key.len() + size_of_val::<T>(value) + 128
}

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

#[cfg(test)]
mod tests {
    use super::*;

    fn get(cache: &Cache<[u32]>, key: &str, ids: &[u32]) -> Arc<[u32]> {
        cache.get(key, || Ok::<_, ()>(ids.into())).unwrap()
    }

    #[test]
    fn values_are_shared_until_others_take_their_place() {
        let cache = Cache::new(2 * (128 + 1 + 40));
        let first = get(&cache, "a", &[1; 10]);
        assert!(Arc::ptr_eq(&first, &get(&cache, "a", &[2; 10])));
        get(&cache, "b", &[2; 10]);
        get(&cache, "c", &[3; 10]);
        assert_eq!(*get(&cache, "b", &[]), [2; 10]);
        assert_eq!(*get(&cache, "a", &[4; 10]), [4; 10]);
        // What is too large is made, and not kept.
        assert_eq!(get(&cache, "d", &[5; 1000]).len(), 1000);
        assert!(get(&cache, "d", &[]).is_empty());
        assert!(cache.get("e", || Err(())).is_err());
    }
}

//! Records of those who may come back, kept in this process.

use std::future::ready;
use std::time::Duration;

use parking_lot::Mutex;

use super::clock;
use crate::resume::store::Shelf;
use crate::resume::{SessionKey, SessionStore, StoreFuture};

/// The default [`SessionStore`]: in this process, and gone with it.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<Shelf<Vec<u8>>>);

impl MemoryStore {
    /// An empty one.
    pub fn new() -> MemoryStore {
        MemoryStore::default()
    }
}

impl SessionStore for MemoryStore {
    fn put(&self, key: SessionKey, record: Vec<u8>, ttl: Duration) -> StoreFuture<'_, ()> {
        self.0.lock().put(clock::now(), key, record, ttl);
        Box::pin(ready(Ok(())))
    }

    fn get(&self, key: SessionKey) -> StoreFuture<'_, Option<Vec<u8>>> {
        let record = self.0.lock().get(clock::now(), key).cloned();
        Box::pin(ready(Ok(record)))
    }

    fn take(&self, key: SessionKey) -> StoreFuture<'_, Option<Vec<u8>>> {
        let record = self.0.lock().take(clock::now(), key);
        Box::pin(ready(Ok(record)))
    }
}

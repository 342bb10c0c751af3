//! Where records wait for those who come back.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a record is filed under: the beginning of a hash of its token. As text ([`Display`](fmt::Display)), 32
/// hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SessionKey(pub(crate) [u8; 16]);

impl fmt::Display for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What a [`SessionStore`] answers with.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// The store did not answer.
#[derive(Debug, thiserror::Error)]
#[error("the session store failed: {0}")]
pub struct StoreError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// Keeps what is needed to let peers come back ([`Sfu::resume`](crate::Sfu::resume)).
///
/// The default keeps it in this process. A host with several nodes keeps it in a place that all of them see, so that
/// who loses one node comes back on another; [`Config::session_store`](crate::Config::session_store) takes it.
///
/// It is asked only where a host awaits [`Peer::resume_token`](crate::Peer::resume_token),
/// [`Peer::revoke_resume_tokens`](crate::Peer::revoke_resume_tokens) or [`Sfu::resume`](crate::Sfu::resume), on the
/// host's runtime: media never waits for it. It may be slow, then those calls are.
///
/// Records are opaque bytes (JSON, some hundred of them), and hold the peer's name and its room's, but nothing that lets
/// anybody in. Each operation is one command of Redis:
///
/// ```
/// use std::time::Duration;
/// use sluicegate::{SessionKey, SessionStore, StoreError, StoreFuture};
/// # #[derive(Debug)] struct Redis;
/// # impl Redis { async fn command(&self, _: &[&[u8]]) -> Result<Option<Vec<u8>>, std::io::Error> { Ok(None) } }
///
/// #[derive(Debug)]
/// struct InRedis(Redis);
///
/// impl SessionStore for InRedis {
///     fn put(&self, key: SessionKey, record: Vec<u8>, ttl: Duration) -> StoreFuture<'_, ()> {
///         Box::pin(async move {
///             let (key, ttl) = (format!("sfu:{key}"), ttl.as_millis().max(1).to_string());
///             let set = [b"SET", key.as_bytes(), &record, b"PX", ttl.as_bytes()];
///             self.0.command(&set).await.map_err(|error| StoreError(error.into()))?;
///             Ok(())
///         })
///     }
///
///     fn get(&self, key: SessionKey) -> StoreFuture<'_, Option<Vec<u8>>> {
///         Box::pin(async move {
///             let get = [b"GET" as &[u8], &format!("sfu:{key}").into_bytes()];
///             self.0.command(&get).await.map_err(|error| StoreError(error.into()))
///         })
///     }
///
///     fn take(&self, key: SessionKey) -> StoreFuture<'_, Option<Vec<u8>>> {
///         Box::pin(async move {
///             let take = [b"GETDEL" as &[u8], &format!("sfu:{key}").into_bytes()];
///             self.0.command(&take).await.map_err(|error| StoreError(error.into()))
///         })
///     }
/// }
/// ```
pub trait SessionStore: fmt::Debug + Send + Sync + 'static {
    /// Keeps the record under this key, instead of what is there, until `ttl` has passed: from then on it is never given
    /// again.
    fn put(&self, key: SessionKey, record: Vec<u8>, ttl: Duration) -> StoreFuture<'_, ()>;

    /// The record under this key, which stays there.
    fn get(&self, key: SessionKey) -> StoreFuture<'_, Option<Vec<u8>>>;

    /// The record under this key, which is gone then. Of any number who ask at the same time, one gets it: that is what
    /// makes a token good for one use.
    fn take(&self, key: SessionKey) -> StoreFuture<'_, Option<Vec<u8>>>;
}

/// Shared by several SFUs of a process, or by one and its host.
impl<S: SessionStore + ?Sized> SessionStore for Arc<S> {
    fn put(&self, key: SessionKey, record: Vec<u8>, ttl: Duration) -> StoreFuture<'_, ()> {
        (**self).put(key, record, ttl)
    }

    fn get(&self, key: SessionKey) -> StoreFuture<'_, Option<Vec<u8>>> {
        (**self).get(key)
    }

    fn take(&self, key: SessionKey) -> StoreFuture<'_, Option<Vec<u8>>> {
        (**self).take(key)
    }
}

/// Things that are kept for a time. Each of them costs what it is, and no longer than that: what has expired goes with
/// the next that comes.
#[derive(Debug)]
pub struct Shelf<T> {
    things: HashMap<SessionKey, (Instant, T)>,
    by_expiry: BTreeSet<(Instant, SessionKey)>,
}

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Shelf { things: HashMap::new(), by_expiry: BTreeSet::new() }
    }
}

impl<T> Shelf<T> {
    /// Keeps it, instead of what is there, until `ttl` has passed.
    pub fn put(&mut self, now: Instant, key: SessionKey, thing: T, ttl: Duration) {
        while let Some((expired, key)) = self.by_expiry.first().copied().filter(|(at, _)| *at <= now) {
            self.by_expiry.remove(&(expired, key));
            self.things.remove(&key);
        }
        let expiry = now + ttl.min(LONGEST);
        if let Some((before, _)) = self.things.insert(key, (expiry, thing)) {
            self.by_expiry.remove(&(before, key));
        }
        self.by_expiry.insert((expiry, key));
    }

    /// What is there.
    pub fn get(&self, now: Instant, key: SessionKey) -> Option<&T> {
        self.things.get(&key).filter(|(expiry, _)| now < *expiry).map(|(_, thing)| thing)
    }

    /// What was there.
    pub fn take(&mut self, now: Instant, key: SessionKey) -> Option<T> {
        let (expiry, thing) = self.things.remove(&key)?;
        self.by_expiry.remove(&(expiry, key));
        (now < expiry).then_some(thing)
    }
}

/// Instants have an end.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at, ms};

    const KEY: SessionKey = SessionKey([7; 16]);

    #[test]
    fn what_is_kept_is_there_until_its_time_is_up() {
        let mut shelf = Shelf::default();
        shelf.put(at(0), KEY, "ada", ms(1_000));
        assert_eq!(shelf.get(at(999), KEY), Some(&"ada"));
        assert_eq!(shelf.get(at(1_000), KEY), None);
        assert_eq!(shelf.take(at(1_000), KEY), None);
        shelf.put(at(0), KEY, "ada", ms(1_000));
        assert_eq!(shelf.take(at(999), KEY), Some("ada"));
        assert_eq!(shelf.take(at(999), KEY), None, "once");
    }

    #[test]
    fn what_is_put_again_lives_from_then_on() {
        let mut shelf = Shelf::default();
        shelf.put(at(0), KEY, 1, ms(1_000));
        shelf.put(at(500), KEY, 2, ms(1_000));
        assert_eq!(shelf.get(at(1_400), KEY), Some(&2));
    }

    #[test]
    fn a_shelf_holds_no_more_than_what_is_alive() {
        let mut shelf = Shelf::default();
        for n in 0..10_000_u64 {
            let mut key = [0; 16];
            key[..8].copy_from_slice(&n.to_be_bytes());
            shelf.put(at(n), SessionKey(key), n, ms(100));
        }
        assert_eq!((shelf.things.len(), shelf.by_expiry.len()), (100, 100));
        shelf.put(at(0), KEY, 0, Duration::MAX);
        assert_eq!(shelf.get(at(1_000_000), KEY), Some(&0), "and time has no end");
    }
}

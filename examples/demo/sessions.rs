//! The WHIP and WHEP sessions that are open, by the last part of their address.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::seat::Seat;

/// Holds a seat per session until it is closed or its peer leaves; bounded by the engine's limit on
/// peers.
#[derive(Clone, Default)]
pub struct Sessions(Arc<Mutex<HashMap<String, Arc<Session>>>>);

pub struct Session {
    pub seat: Seat,
    /// The offer's ICE session.
    pub ufrag: Option<String>,
    /// Names the ICE session in `ETag` and `If-Match`, quotes included.
    pub etag: String,
}

impl Sessions {
    /// Keeps the seat and gives the session's id and entity tag.
    ///
    /// Whoever knows the id may end the session, so it is as hard to guess as a key: 128 random bits.
    pub fn open(&self, seat: Seat, ufrag: Option<String>) -> (String, String) {
        let id = random_id();
        let etag = format!("\"{}\"", random_id());
        let session = Arc::new(Session { seat, ufrag, etag: etag.clone() });
        self.open_sessions().insert(id.clone(), session.clone());
        let (sessions, own_id) = (self.clone(), id.clone());
        tokio::spawn(async move {
            session.seat.drain().await;
            sessions.close(&own_id);
        });
        (id, etag)
    }

    pub fn get(&self, id: &str) -> Option<Arc<Session>> {
        self.open_sessions().get(id).cloned()
    }

    /// Makes the peer leave. `false` when there was no such session.
    pub fn close(&self, id: &str) -> bool {
        let session = self.open_sessions().remove(id);
        if let Some(session) = &session {
            session.seat.peer().leave();
        }
        session.is_some()
    }

    fn open_sessions(&self) -> MutexGuard<'_, HashMap<String, Arc<Session>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn random_id() -> String {
    let mut id = [0; 16];
    rand::fill(&mut id).expect("the operating system has randomness");
    URL_SAFE_NO_PAD.encode(id)
}

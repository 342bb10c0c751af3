//! One room: who publishes what, who receives it, and who must be asked for a keyframe.
//!
//! The router decides end to end and knows no addresses, keys or clocks of a connection; those are the
//! session's. It names peers by key only.

pub mod allocate;
pub mod floor;
pub mod layer;
pub mod selection;
pub mod speech;
pub mod track;
pub mod voices;

use slotmap::SlotMap;

use crate::ids::{MediaKind, PeerKey, Rid, TrackKey};
use speech::Speech;
pub use track::{Hush, Publication, Track};

/// A room on this worker.
pub struct Router {
    pub name: String,
    /// In order of arrival.
    pub peers: Vec<PeerKey>,
    pub tracks: SlotMap<TrackKey, Track>,
    /// Track keys in publish order.
    order: Vec<TrackKey>,
    pub speech: Speech,
}

impl Router {
    pub fn new(name: &str) -> Self {
        let (peers, tracks, order) = (Vec::new(), SlotMap::with_key(), Vec::new());
        Router { name: name.to_owned(), peers, tracks, order, speech: Speech::default() }
    }

    pub fn enter(&mut self, peer: PeerKey) {
        self.peers.push(peer);
    }

    /// The peer's own tracks must have been withdrawn before.
    pub fn leave(&mut self, peer: PeerKey) {
        self.peers.retain(|other| *other != peer);
        for track in self.tracks.values_mut() {
            track.unsubscribe_peer(peer);
        }
    }

    /// `rids` name its simulcast layers, if it has any.
    pub fn publish(&mut self, publication: Publication, rids: &[Rid]) -> TrackKey {
        let key = self.tracks.insert(Track::new(publication, rids));
        self.order.push(key);
        if publication.kind == MediaKind::Audio {
            self.speech.enter(key);
        }
        key
    }

    pub fn withdraw(&mut self, key: TrackKey) -> Option<Track> {
        self.order.retain(|other| *other != key);
        let track = self.tracks.remove(key)?;
        if track.publication.kind == MediaKind::Audio {
            self.speech.leave(key);
        }
        Some(track)
    }

    /// Every track, in publish order.
    pub fn published(&self) -> impl Iterator<Item = (TrackKey, &Track)> {
        self.order.iter().filter_map(|key| Some((*key, self.tracks.get(*key)?)))
    }

    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }
}

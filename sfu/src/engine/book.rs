//! Who is behind an address: validated paths, and the ufrags that may validate one.

use std::collections::HashMap;

use crate::ids::PeerKey;
use crate::path::Path;

/// Maps paths and local ufrags to peers. A path enters only through an authenticated connectivity check.
#[derive(Default)]
pub struct AddressBook {
    paths: HashMap<Path, PeerKey>,
    ufrags: HashMap<String, PeerKey>,
    /// Datagrams come in trains: the previous answer is usually the next one.
    latest: Option<(Path, PeerKey)>,
}

impl AddressBook {
    pub fn peer_at(&mut self, path: &Path) -> Option<PeerKey> {
        if let Some((latest, peer)) = self.latest
            && latest == *path
        {
            return Some(peer);
        }
        let peer = *self.paths.get(path)?;
        self.latest = Some((*path, peer));
        Some(peer)
    }

    pub fn peer_named(&self, ufrag: &str) -> Option<PeerKey> {
        self.ufrags.get(ufrag).copied()
    }

    pub fn has_ufrag(&self, ufrag: &str) -> bool {
        self.ufrags.contains_key(ufrag)
    }

    pub fn add_ufrag(&mut self, ufrag: &str, peer: PeerKey) {
        self.ufrags.insert(ufrag.to_owned(), peer);
    }

    /// Forgets the peer's ufrags but those that `keep` names.
    pub fn retain_ufrags(&mut self, peer: PeerKey, keep: impl Fn(&str) -> bool) {
        self.ufrags.retain(|ufrag, other| *other != peer || keep(ufrag));
    }

    /// The path now belongs to `peer`: it authenticated from there last.
    pub fn add_path(&mut self, path: Path, peer: PeerKey) {
        self.paths.insert(path, peer);
        self.latest = None;
    }

    pub fn remove_path(&mut self, path: &Path, peer: PeerKey) {
        if self.paths.get(path) == Some(&peer) {
            self.paths.remove(path);
        }
        self.latest = None;
    }

    pub fn remove_peer(&mut self, peer: PeerKey) {
        self.paths.retain(|_, other| *other != peer);
        self.ufrags.retain(|_, other| *other != peer);
        self.latest = None;
    }

    /// Paths and ufrags held: for leak tests.
    pub fn len(&self) -> (usize, usize) {
        (self.paths.len(), self.ufrags.len())
    }
}

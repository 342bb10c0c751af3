//! Who is behind an address: validated paths, and the ufrags that may validate one.

use std::collections::HashMap;

use slotmap::SecondaryMap;

use crate::ids::PeerKey;
use crate::path::Path;

/// Maps paths and local ufrags to peers. A path enters only through an authenticated connectivity check.
#[derive(Default)]
pub struct AddressBook {
    paths: HashMap<Path, PeerKey>,
    ufrags: HashMap<Box<str>, PeerKey>,
    /// What each peer has had, so that who leaves costs no look at everybody.
    entries: SecondaryMap<PeerKey, Entry>,
    /// Datagrams come in trains: the previous answer is usually the next one.
    latest: Option<(Path, PeerKey)>,
}

/// One peer's, as far as nobody has taken it over.
#[derive(Default)]
struct Entry {
    paths: Vec<Path>,
    ufrags: Vec<Box<str>>,
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
        if self.ufrags.insert(ufrag.into(), peer) != Some(peer)
            && let Some(entry) = self.entries.entry(peer)
        {
            add(&mut entry.or_default().ufrags, ufrag.into());
        }
    }

    /// Forgets the peer's ufrags but those that `keep` names.
    pub fn retain_ufrags(&mut self, peer: PeerKey, keep: impl Fn(&str) -> bool) {
        let Some(entry) = self.entries.get_mut(peer) else { return };
        for ufrag in entry.ufrags.extract_if(.., |ufrag| !keep(ufrag)) {
            if self.ufrags.get(&ufrag) == Some(&peer) {
                self.ufrags.remove(&ufrag);
            }
        }
    }

    /// The path now belongs to `peer`: it authenticated from there last.
    pub fn add_path(&mut self, path: Path, peer: PeerKey) {
        self.latest = None;
        if self.paths.insert(path, peer) != Some(peer)
            && let Some(entry) = self.entries.entry(peer)
        {
            add(&mut entry.or_default().paths, path);
        }
    }

    pub fn remove_path(&mut self, path: &Path, peer: PeerKey) {
        if self.paths.get(path) == Some(&peer) {
            self.paths.remove(path);
        }
        if let Some(entry) = self.entries.get_mut(peer) {
            entry.paths.retain(|other| other != path);
        }
        self.latest = None;
    }

    pub fn remove_peer(&mut self, peer: PeerKey) {
        self.latest = None;
        let Some(entry) = self.entries.remove(peer) else { return };
        for path in entry.paths {
            if self.paths.get(&path) == Some(&peer) {
                self.paths.remove(&path);
            }
        }
        for ufrag in entry.ufrags {
            if self.ufrags.get(&ufrag) == Some(&peer) {
                self.ufrags.remove(&ufrag);
            }
        }
    }

    /// Paths and ufrags held: for leak tests.
    pub fn len(&self) -> (usize, usize) {
        (self.paths.len(), self.ufrags.len())
    }
}

/// Most have one.
fn add<T: PartialEq>(entries: &mut Vec<T>, entry: T) {
    if !entries.contains(&entry) {
        entries.reserve_exact(1);
        entries.push(entry);
    }
}

#[test]
fn who_leaves_takes_what_is_still_his_and_nothing_else() {
    let ip = std::net::Ipv4Addr::LOCALHOST.into();
    let path = |port| Path::new(ip, std::net::SocketAddr::new(ip, port));
    let mut keys = slotmap::SlotMap::with_key();
    let [ada, bob] = [0; 2].map(|_| keys.insert(()));
    let mut book = AddressBook::default();
    book.add_ufrag("a1", ada);
    book.add_ufrag("a2", ada);
    book.add_ufrag("b", bob);
    (1..=3).for_each(|port| book.add_path(path(port), ada));
    // One he takes over, one she gives up.
    book.add_path(path(2), bob);
    book.remove_path(&path(3), ada);
    book.retain_ufrags(ada, |ufrag| ufrag == "a2");
    assert_eq!((book.len(), book.peer_named("a1"), book.peer_named("a2")), ((2, 2), None, Some(ada)));
    book.remove_peer(ada);
    assert_eq!((book.len(), book.peer_at(&path(1)), book.peer_at(&path(2))), ((1, 1), None, Some(bob)));
    // She comes back to what was hers, which he gives up.
    book.remove_path(&path(2), bob);
    book.add_path(path(2), ada);
    book.remove_peer(bob);
    assert_eq!((book.len(), book.peer_at(&path(2))), ((1, 0), Some(ada)));
    book.remove_peer(ada);
    assert_eq!(book.len(), (0, 0));
}

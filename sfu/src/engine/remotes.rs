//! Who is in this engine's rooms by way of other engines, and what they publish.

use std::collections::{BTreeSet, HashMap};
use std::ops::RangeInclusive;

use slotmap::SecondaryMap;

use crate::event::PeerInfo;
use crate::ids::{PeerId, RoomKey, TrackKey, TrackName};

/// Others' peers. Whoever comes or goes costs what it concerns, however many there are beside.
#[derive(Default)]
pub struct Remotes {
    peers: HashMap<PeerId, Remote>,
    tracks: HashMap<TrackName, (RoomKey, TrackKey)>,
    /// A worker's peers lie side by side.
    rooms: SecondaryMap<RoomKey, BTreeSet<PeerId>>,
}

struct Remote {
    room: RoomKey,
    info: PeerInfo,
    tracks: Vec<TrackName>,
}

impl Remotes {
    /// Whether it is new.
    pub fn enter(&mut self, room: RoomKey, info: PeerInfo) -> bool {
        let Some(rooms) = self.rooms.entry(room) else { return false };
        let peer = info.peer;
        rooms.or_default().insert(peer) && {
            self.peers.insert(peer, Remote { room, info, tracks: Vec::new() });
            true
        }
    }

    /// What it published must have been [taken](Self::withdraw) before.
    pub fn leave(&mut self, peer: PeerId) -> Option<PeerInfo> {
        let remote = self.peers.remove(&peer)?;
        if let Some(room) = self.rooms.get_mut(remote.room) {
            room.remove(&peer);
        }
        Some(remote.info)
    }

    pub fn get(&self, peer: PeerId) -> Option<&PeerInfo> {
        self.peers.get(&peer).map(|remote| &remote.info)
    }

    pub fn of_room(&self, room: RoomKey) -> impl Iterator<Item = &PeerInfo> {
        self.rooms.get(room).into_iter().flatten().filter_map(|peer| self.get(*peer))
    }

    pub fn in_room(&self, room: RoomKey) -> usize {
        self.rooms.get(room).map_or(0, BTreeSet::len)
    }

    pub fn publishers_in(&self, room: RoomKey) -> usize {
        let peers = self.rooms.get(room).into_iter().flatten();
        peers.filter(|peer| self.peers.get(peer).is_some_and(|remote| !remote.tracks.is_empty())).count()
    }

    /// Those in the room whose sessions `worker` has.
    pub fn of_worker(&self, room: RoomKey, worker: u16) -> Vec<PeerId> {
        let peers = self.rooms.get(room).map(|peers| peers.range(all_of(worker)));
        peers.into_iter().flatten().copied().collect()
    }

    /// Whether the publisher is in, and the track not known.
    pub fn may_publish(&self, track: TrackName) -> bool {
        self.peers.contains_key(&track.publisher) && !self.tracks.contains_key(&track)
    }

    pub fn publish(&mut self, track: TrackName, room: RoomKey, key: TrackKey) {
        if let Some(remote) = self.peers.get_mut(&track.publisher) {
            remote.tracks.push(track);
            self.tracks.insert(track, (room, key));
        }
    }

    pub fn withdraw(&mut self, track: TrackName) -> Option<(RoomKey, TrackKey)> {
        let place = self.tracks.remove(&track)?;
        if let Some(remote) = self.peers.get_mut(&track.publisher) {
            remote.tracks.retain(|other| *other != track);
        }
        Some(place)
    }

    /// Where a track is filed here.
    #[inline]
    pub fn track(&self, track: TrackName) -> Option<(RoomKey, TrackKey)> {
        self.tracks.get(&track).copied()
    }

    pub fn tracks_of(&self, peer: PeerId) -> Vec<TrackName> {
        self.peers.get(&peer).map_or_else(Vec::new, |remote| remote.tracks.clone())
    }

    /// Everything of a room goes with it.
    pub fn forget_room(&mut self, room: RoomKey) {
        for peer in self.rooms.remove(room).into_iter().flatten() {
            let remote = self.peers.remove(&peer);
            for track in remote.into_iter().flat_map(|remote| remote.tracks) {
                self.tracks.remove(&track);
            }
        }
    }

    /// Peers and tracks held: for leak tests.
    pub fn len(&self) -> usize {
        self.peers.len() + self.tracks.len()
    }
}

fn all_of(worker: u16) -> RangeInclusive<PeerId> {
    PeerId { worker, key: 0 }..=PeerId { worker, key: u64::MAX }
}

#[test]
fn what_goes_leaves_nothing_and_takes_nothing_else_along() {
    use crate::ids::Mid;
    let mut rooms = slotmap::SlotMap::with_key();
    let [one, two] = [0; 2].map(|_| rooms.insert(()));
    let peer = |worker, key| PeerInfo { peer: PeerId { worker, key }, name: key.to_string() };
    let mid = Mid::new("0").expect("a short one");
    let track = |info: &PeerInfo| TrackName { publisher: info.peer, mid };
    let (ada, bob, eve) = (peer(1, 1), peer(2, 2), peer(1, 3));
    let mut remotes = Remotes::default();
    assert!(remotes.enter(one, ada.clone()) && remotes.enter(one, bob.clone()));
    assert!(!remotes.enter(one, ada.clone()), "she is in");
    assert!(remotes.enter(two, eve.clone()));
    assert!(!remotes.may_publish(track(&peer(1, 9))), "whoever is not in publishes nothing");
    for info in [&ada, &bob, &eve] {
        assert!(remotes.may_publish(track(info)));
        remotes.publish(track(info), if info == &eve { two } else { one }, TrackKey::default());
    }
    assert_eq!(remotes.of_worker(one, 1), [ada.peer]);
    assert_eq!((remotes.in_room(one), remotes.of_room(two).count(), remotes.len()), (2, 1, 6));
    assert_eq!(remotes.tracks_of(ada.peer), [track(&ada)]);
    assert_eq!(remotes.withdraw(track(&ada)), Some((one, TrackKey::default())));
    assert_eq!(remotes.leave(ada.peer).as_ref(), Some(&ada));
    remotes.forget_room(one);
    assert_eq!((remotes.track(track(&bob)), remotes.get(bob.peer), remotes.len()), (None, None, 2));
    remotes.forget_room(two);
    assert_eq!(remotes.len(), 0);
}

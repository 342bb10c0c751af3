//! Which room gives up how much of its video, by what it costs here.

use std::time::Instant;

use super::Engine;
use crate::event::CapScope;
use crate::ids::{MediaKind, PeerKey, RoomKey};
use crate::saturation::fairness::{Share, keep};
use crate::saturation::measures::CAP_FLOOR;
use crate::units::Bitrate;

impl Engine {
    /// Notes for each room which share of its video it keeps, so that all together come down to what the measures leave.
    ///
    /// A room costs what its publishers would send, times those here who get it. It may cost in proportion to those
    /// who are in it.
    pub(super) fn share_relief(&mut self, now: Instant) {
        let rooms: Vec<RoomKey> = self.rooms.keys().collect();
        let shares: Vec<Share> = rooms
            .iter()
            .map(|room| Share { cost: self.cost_of(now, *room), weight: self.weight_of(*room) })
            .collect();
        let relief = (1.0 - self.measures.cap) * shares.iter().map(|share| share.cost).sum::<f64>();
        for (room, kept) in rooms.into_iter().zip(keep(&shares, relief, CAP_FLOOR)) {
            self.rooms[room].kept = kept;
        }
    }

    /// What a publisher of video would send if the load did not cap it: what it is configured to, or what it sent when
    /// it was first held to less. `None`: it publishes none.
    pub(super) fn whole_of(&self, now: Instant, key: PeerKey) -> Option<Bitrate> {
        let session = &self.sessions[key];
        session.uplinks.iter().find(|uplink| uplink.kind == MediaKind::Video)?;
        let other = session.cap.caps().iter().filter(|cap| cap.scope != CapScope::Saturation);
        let configured = other.map(|cap| cap.bitrate).min();
        let sent = || session.uplinks.police.offered(now).max(LEAST_SENT);
        Some(configured.or(session.uncapped).unwrap_or_else(sent))
    }

    /// In bits per second that would leave.
    fn cost_of(&self, now: Instant, room: RoomKey) -> f64 {
        let router = &self.rooms[room].router;
        let cost = |key: &PeerKey| {
            let whole = self.whole_of(now, *key)?;
            let uplinks = self.sessions[*key].uplinks.iter();
            let tracks = uplinks.filter(|uplink| uplink.kind == MediaKind::Video).map(|uplink| uplink.track);
            let audience = |track| router.tracks.get(track).map_or(0, |track| track.subscriptions().len());
            // Who sends two videos sends a part of the whole by each.
            let most = tracks.map(audience).max()?;
            Some(whole.as_bps() as f64 * most as f64)
        };
        router.peers.iter().filter(|key| self.sessions.contains_key(**key)).filter_map(cost).sum()
    }

    fn weight_of(&self, room: RoomKey) -> f64 {
        self.rooms[room].router.peers.len() as f64
    }
}

/// Who has just begun has shown nothing yet.
const LEAST_SENT: Bitrate = Bitrate::kbps(600);

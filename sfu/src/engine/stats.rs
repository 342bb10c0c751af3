//! Which room and which peer does what, for hosts that ask.

use std::time::Instant;

use super::speakers::speaking;
use super::{Engine, Room};
use crate::ids::PeerId;
use crate::media::level::Level;
use crate::session::slot::Slot;
use crate::stats::{By, PeerStats, RoomStats};
use crate::units::Bitrate;

impl Engine {
    /// The `n` rooms that weigh most.
    pub fn top_rooms(&self, now: Instant, n: usize, by: By) -> Vec<RoomStats> {
        RoomStats::top(self.rooms.values().map(|room| self.stats_of(now, room)).collect(), n, by)
    }

    /// One room. `None`: nobody is in it.
    pub fn room_stats(&self, now: Instant, name: &str) -> Option<RoomStats> {
        let room = self.rooms.get(*self.room_names.get(name)?)?;
        Some(self.stats_of(now, room))
    }

    /// One peer. `None`: it is gone.
    pub fn peer_stats(&self, now: Instant, peer: PeerId) -> Option<PeerStats> {
        let session = &self.sessions[self.live(peer)?];
        let live = session.slots.iter().filter(|slot| slot.live);
        Some(PeerStats {
            peer,
            name: session.name.to_string(),
            round_trip_time: session.reception.measured_rtt(),
            bitrate_in: session.uplinks.police.offered(now),
            bitrate_out: session.reception.egress_rate(now),
            publish_cap: session.cap.get(),
            nacked_packets: session.nacked_packets,
            inbound: session.uplinks.stats().collect(),
            outbound: live.map(Slot::stats).collect(),
        })
    }

    fn stats_of(&self, now: Instant, room: &Room) -> RoomStats {
        let sessions = || room.router.peers.iter().filter_map(|key| self.sessions.get(*key));
        let sum = |rates: &mut dyn Iterator<Item = Bitrate>| Bitrate::bps(rates.map(Bitrate::as_bps).sum());
        RoomStats {
            name: room.router.name.clone(),
            participants: room.router.peers.len(),
            tracks: room
                .router
                .published()
                .filter(|(_, track)| self.is_here(track.publication.publisher))
                .count(),
            bitrate_in: sum(&mut sessions().map(|session| session.uplinks.police.offered(now))),
            bitrate_out: sum(&mut sessions().map(|session| session.reception.egress_rate(now))),
            // The meters count packets where they would count bytes.
            packets_per_second: room.packets.rate(now).as_bps() / 8,
            nacked_packets_per_second: room.nacked.rate(now).as_bps() / 8,
            dominant_speaker: room.told.floor(),
            // Each engine tells of its own.
            speakers: speaking(room)
                .filter(|(peer, _)| self.is_here(*peer))
                .map(|(peer, loudness)| (peer, Level::decibels(loudness)))
                .collect(),
        }
    }
}

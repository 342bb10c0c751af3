//! Which room, which peer: what labels of metrics never say.
//!
//! Names are those of W3C's `webrtc-stats` where it has one for the same thing.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::ids::{MediaKind, PeerId};
use crate::units::Bitrate;

/// By what rooms are compared in [`Sfu::top_rooms`](crate::Sfu::top_rooms).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum By {
    /// Packets that are received and forwarded: what a room costs.
    Cost,
    /// Bits per second, in and out together.
    Bitrate,
    /// Peers.
    Participants,
    /// Packets that subscribers ask for again.
    Nacks,
}

/// One room, now.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct RoomStats {
    /// The name it was made with.
    pub name: String,
    /// Peers in it.
    pub participants: usize,
    /// Tracks published in it.
    pub tracks: usize,
    /// RTP received from its peers, over the last second.
    pub bitrate_in: Bitrate,
    /// RTP sent to its peers for the first time, over the last second.
    pub bitrate_out: Bitrate,
    /// Packets received, and copies owed of them, in the last second.
    pub packets_per_second: u64,
    /// Packets that subscribers asked for again in the last second.
    pub nacked_packets_per_second: u64,
    /// Who has the floor, as [`PeerEvent::DominantSpeaker`](crate::PeerEvent::DominantSpeaker) tells.
    pub dominant_speaker: Option<PeerId>,
    /// Who speaks, with how loud in dBov (−127 to 0, RFC 6464), as its client says.
    pub speakers: Vec<(PeerId, i8)>,
}

impl RoomStats {
    /// What it is compared by.
    pub fn weight(&self, by: By) -> u64 {
        match by {
            By::Cost => self.packets_per_second,
            By::Bitrate => self.bitrate_in.as_bps() + self.bitrate_out.as_bps(),
            By::Participants => self.participants as u64,
            By::Nacks => self.nacked_packets_per_second,
        }
    }

    /// Rooms that several workers have peers of, as one each.
    #[cfg_attr(not(feature = "shell"), allow(dead_code))]
    pub(crate) fn together(rooms: Vec<RoomStats>) -> Vec<RoomStats> {
        let mut whole: BTreeMap<String, RoomStats> = BTreeMap::new();
        for part in rooms {
            match whole.get_mut(&part.name) {
                Some(room) => room.add(&part),
                None => drop(whole.insert(part.name.clone(), part)),
            }
        }
        whole.into_values().collect()
    }

    fn add(&mut self, part: &RoomStats) {
        self.participants += part.participants;
        self.tracks += part.tracks;
        self.bitrate_in = Bitrate::bps(self.bitrate_in.as_bps() + part.bitrate_in.as_bps());
        self.bitrate_out = Bitrate::bps(self.bitrate_out.as_bps() + part.bitrate_out.as_bps());
        self.packets_per_second += part.packets_per_second;
        self.nacked_packets_per_second += part.nacked_packets_per_second;
        self.dominant_speaker = self.dominant_speaker.or(part.dominant_speaker);
        self.speakers.extend(&part.speakers);
    }

    /// The `n` that weigh most, the heaviest first; by name where they weigh the same.
    pub(crate) fn top(mut rooms: Vec<RoomStats>, n: usize, by: By) -> Vec<RoomStats> {
        rooms.sort_by(|a, b| b.weight(by).cmp(&a.weight(by)).then_with(|| a.name.cmp(&b.name)));
        rooms.truncate(n);
        rooms
    }
}

/// One peer, now.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct PeerStats {
    /// Its id.
    pub peer: PeerId,
    /// The name it joined with.
    pub name: String,
    /// The round trip to it, once it was measured.
    pub round_trip_time: Option<Duration>,
    /// RTP received from it, over the last second.
    pub bitrate_in: Bitrate,
    /// RTP sent to it for the first time, over the last second.
    pub bitrate_out: Bitrate,
    /// The cap on what it publishes.
    pub publish_cap: Option<Bitrate>,
    /// Packets that it asked for again, since it joined.
    pub nacked_packets: u64,
    /// What it publishes: a simulcast track is several streams.
    pub inbound: Vec<InboundStats>,
    /// What it gets.
    pub outbound: Vec<OutboundStats>,
}

/// A stream that a peer sends us.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct InboundStats {
    /// The peer's m-line.
    pub mid: String,
    /// The stream's identifier.
    pub ssrc: u32,
    /// Audio or video.
    pub kind: MediaKind,
    /// Packets that came, without repairs.
    pub packets_received: u64,
    /// Packets that did not come, or only as repairs.
    pub packets_lost: u64,
    /// Interarrival jitter, RFC 3550 §6.4.1.
    pub jitter: Duration,
}

/// A stream that we send to a peer.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct OutboundStats {
    /// The peer's m-line.
    pub mid: String,
    /// The stream's identifier.
    pub ssrc: u32,
    /// Audio or video.
    pub kind: MediaKind,
    /// Whose media it carries.
    pub publisher: Option<PeerId>,
    /// Packets, without repairs.
    pub packets_sent: u64,
    /// Their payloads' bytes.
    pub bytes_sent: u64,
    /// Repairs.
    pub retransmitted_packets_sent: u64,
}

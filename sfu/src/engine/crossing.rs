//! What engines tell each other about rooms that several of them have peers of.
//!
//! Every engine with peers in a room keeps a whole copy of it: its own peers' tracks, and replicas of the others'. A
//! packet crosses once for each other engine, however many subscribers that one has; it is filed there in a ring of
//! that engine's own, which serves newcomers and repairs. Keyframe requests travel the other way, merged where the
//! subscribers are and once more where the publisher is.

#![expect(missing_docs, reason = "what has no line of its own is what its name says")]

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::config::TrackSource;
use crate::event::PeerInfo;
use crate::ids::{MediaKind, PeerId, Rid, TrackName};
use crate::media::codec::Codec;
use crate::media::history::PacketMeta;
use crate::media::receive::SenderReportMap;
use crate::session::uplinks::Received;
use crate::wire::descriptor::Structure;

/// A track that a peer of the sender publishes.
#[derive(Clone, Debug)]
pub struct Published {
    pub name: TrackName,
    pub kind: MediaKind,
    pub codec: Codec,
    /// Its simulcast layers, if it has any.
    pub rids: Vec<Rid>,
    pub source: TrackSource,
}

/// One message from one engine to another. Rooms go by their names.
#[derive(Clone, Debug)]
pub enum Crossing {
    /// The sender has peers in the room from now on. Who has as well greets it.
    Open {
        room: Arc<str>,
    },
    /// So has the sender, and these are its own.
    Greet {
        room: Arc<str>,
        peers: Vec<PeerInfo>,
        tracks: Vec<Published>,
    },
    /// The sender has no peers in it any more.
    Close {
        room: Arc<str>,
    },
    /// The sender has begun anew, without any peers.
    Reset,
    Entered {
        room: Arc<str>,
        peer: PeerInfo,
    },
    Left {
        room: Arc<str>,
        peer: PeerId,
    },
    Published {
        room: Arc<str>,
        track: Published,
    },
    Withdrawn {
        track: TrackName,
    },
    /// What a track of the sender's shows.
    Shows {
        track: TrackName,
        source: TrackSource,
    },
    /// The sender has decided who has a room's floor, or knows it from who did.
    Floor {
        track: TrackName,
    },
    /// A subscriber of the sender's needs a keyframe.
    KeyframeWanted {
        track: TrackName,
        layer: u8,
    },
    /// A peer of the sender's said something, for others to hear.
    Message {
        room: Arc<str>,
        channel: Arc<str>,
        binary: bool,
        data: Bytes,
    },
    /// What the sender's peers have published since the last.
    Media(Arc<Batch>),
}

/// Packets of one room, in the order in which they came.
#[derive(Debug, Default)]
pub struct Batch {
    /// Counts the room's batches: a missing one shows.
    pub number: u64,
    items: Vec<Item>,
    bytes: Vec<u8>,
}

/// One thing that happened to a track.
#[derive(Debug)]
pub enum Item {
    Packet(Packet),
    /// A sequence number that was spent on padding.
    Skip {
        track: TrackName,
        layer: u8,
        seq: u64,
    },
    /// Its publisher told its clock.
    Report {
        track: TrackName,
        layer: u8,
        report: SenderReportMap,
    },
}

/// A packet, its bytes being the batch's.
#[derive(Debug)]
pub struct Packet {
    pub track: TrackName,
    pub layer: u8,
    pub kind: MediaKind,
    pub meta: PacketMeta,
    pub size: Option<(u16, u16)>,
    pub structure: Option<Arc<Structure>>,
    pub restarted: bool,
    pub torn: bool,
    pub resumed: bool,
    carried: Range<usize>,
    payload: Range<usize>,
}

impl Item {
    /// What it happened to.
    pub fn track(&self) -> TrackName {
        let (Item::Packet(Packet { track, .. }) | Item::Skip { track, .. } | Item::Report { track, .. }) =
            self;
        *track
    }
}

impl Batch {
    pub fn push(&mut self, track: TrackName, received: &Received, carried: &[u8], payload: &[u8]) {
        let from = self.bytes.len();
        self.bytes.extend_from_slice(carried);
        let middle = self.bytes.len();
        self.bytes.extend_from_slice(payload);
        self.items.push(Item::Packet(Packet {
            track,
            layer: received.layer,
            kind: received.kind,
            meta: received.meta,
            size: received.size,
            structure: received.structure.clone(),
            restarted: received.restarted,
            torn: received.torn,
            resumed: received.resumed,
            carried: from..middle,
            payload: middle..self.bytes.len(),
        }));
    }

    pub fn skip(&mut self, track: TrackName, layer: u8, seq: u64) {
        self.items.push(Item::Skip { track, layer, seq });
    }

    pub fn report(&mut self, track: TrackName, layer: u8, report: SenderReportMap) {
        self.items.push(Item::Report { track, layer, report });
    }

    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// The forwarded header extensions and the payload of one of its packets.
    pub fn bytes_of(&self, packet: &Packet) -> (&[u8], &[u8]) {
        (&self.bytes[packet.carried.clone()], &self.bytes[packet.payload.clone()])
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The next one, empty, with as much room as this one has taken.
    pub fn successor(&self) -> Batch {
        let number = self.number.wrapping_add(1);
        Batch {
            number,
            items: Vec::with_capacity(self.items.len()),
            bytes: Vec::with_capacity(self.bytes.len()),
        }
    }

    /// How many packets of this kind there are.
    pub fn packets(&self, kind: MediaKind) -> u64 {
        let of = |item: &&Item| matches!(item, Item::Packet(packet) if packet.kind == kind);
        self.items.iter().filter(of).count() as u64
    }
}

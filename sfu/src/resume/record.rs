//! The record: what is kept of a peer while it is away.

use serde::{Deserialize, Serialize};

use super::token::Proof;
use crate::config::{DataChannels, Subscribe, TrackFilter};
use crate::engine::Standing;
use crate::ids::{Mid, PeerId};
use crate::units::Bitrate;

/// What lies in the store under a token's key.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Record {
    /// The token is good for one use.
    Good(Box<Carried>),
    /// It has been used.
    Used(Proof),
}

/// Who comes back with a token, and with what.
#[derive(Clone, Serialize, Deserialize)]
pub struct Carried {
    pub proof: Proof,
    pub room: String,
    pub origin: Origin,
    name: String,
    subscribe: Wish,
    channels: Channels,
    /// In bits per second, as the following.
    publish_cap: Option<u64>,
    downlink_cap: Option<u64>,
    track_caps: Vec<(String, u64)>,
}

/// Where the peer was.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Origin {
    /// Random for each start of an SFU: ids mean nothing to another.
    pub node: u64,
    worker: u16,
    key: u64,
}

/// As [`Subscribe`].
#[derive(Clone, Serialize, Deserialize)]
enum Wish {
    Everything,
    Slots { publisher: Option<String>, exclude: Option<String> },
    Nothing,
}

/// As [`DataChannels`].
#[derive(Clone, Copy, Serialize, Deserialize)]
enum Channels {
    Relayed,
    ToHost,
    Refused,
}

impl Origin {
    pub fn new(node: u64, peer: PeerId) -> Origin {
        Origin { node, worker: peer.worker, key: peer.key }
    }

    /// Who that was on this node; `None` on another.
    pub fn peer(&self, node: u64) -> Option<PeerId> {
        (self.node == node).then_some(PeerId { worker: self.worker, key: self.key })
    }
}

impl Carried {
    pub fn new(proof: Proof, room: &str, origin: Origin, standing: Standing) -> Carried {
        let subscribe = match standing.subscribe {
            Subscribe::Auto => Wish::Everything,
            Subscribe::Slots(TrackFilter { publisher, exclude }) => Wish::Slots { publisher, exclude },
            Subscribe::Nothing => Wish::Nothing,
        };
        let channels = match standing.channels {
            DataChannels::Relayed => Channels::Relayed,
            DataChannels::ToHost => Channels::ToHost,
            DataChannels::Refused => Channels::Refused,
        };
        let track_caps = standing.track_caps.iter().map(|(mid, cap)| (mid.to_string(), cap.as_bps()));
        Carried {
            proof,
            room: room.to_owned(),
            origin,
            name: standing.name,
            subscribe,
            channels,
            publish_cap: standing.publish_cap.map(Bitrate::as_bps),
            downlink_cap: standing.downlink_cap.map(Bitrate::as_bps),
            track_caps: track_caps.collect(),
        }
    }

    /// As the engine takes it.
    pub fn standing(&self) -> Standing {
        let subscribe = match &self.subscribe {
            Wish::Everything => Subscribe::Auto,
            Wish::Slots { publisher, exclude } => {
                Subscribe::Slots(TrackFilter { publisher: publisher.clone(), exclude: exclude.clone() })
            }
            Wish::Nothing => Subscribe::Nothing,
        };
        let channels = match self.channels {
            Channels::Relayed => DataChannels::Relayed,
            Channels::ToHost => DataChannels::ToHost,
            Channels::Refused => DataChannels::Refused,
        };
        let track_caps =
            self.track_caps.iter().filter_map(|(mid, cap)| Some((Mid::new(mid)?, Bitrate::bps(*cap))));
        Standing {
            name: self.name.clone(),
            subscribe,
            channels,
            publish_cap: self.publish_cap.map(Bitrate::bps),
            downlink_cap: self.downlink_cap.map(Bitrate::bps),
            track_caps: track_caps.collect(),
        }
    }
}

impl Record {
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("text and numbers can be written")
    }

    /// `None`: it is not one of ours, or of another version.
    pub fn from_bytes(bytes: &[u8]) -> Option<Record> {
        serde_json::from_slice(bytes).ok()
    }

    pub fn proof(&self) -> &Proof {
        match self {
            Record::Good(carried) => &carried.proof,
            Record::Used(proof) => proof,
        }
    }
}

#[test]
fn a_record_says_who_comes_back() {
    let token = super::ResumeToken::random(0);
    let filter = TrackFilter { publisher: Some("ada".into()), exclude: None };
    let standing = Standing {
        name: "bob".into(),
        subscribe: Subscribe::Slots(filter),
        channels: DataChannels::ToHost,
        publish_cap: Some(Bitrate::kbps(300)),
        downlink_cap: None,
        track_caps: vec![(Mid::new("1").unwrap(), Bitrate::kbps(200))],
    };
    let peer = PeerId { worker: 3, key: 0x1_0000_0007 };
    let carried = Carried::new(token.imprint().proof, "room", Origin::new(9, peer), standing.clone());
    let bytes = Record::Good(Box::new(carried)).to_bytes();
    let Some(Record::Good(read)) = Record::from_bytes(&bytes) else { panic!("{bytes:?}") };
    assert_eq!(read.standing(), standing);
    assert_eq!((read.room.as_str(), read.origin.peer(9), read.origin.peer(8)), ("room", Some(peer), None));
    let written = String::from_utf8(bytes).unwrap();
    assert!(!written.contains(&token.to_string()), "{written}");
    assert!(Record::from_bytes(b"{}").is_none() && Record::from_bytes(b"").is_none());
}

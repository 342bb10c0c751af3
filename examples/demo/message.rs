//! The signalling messages, as `docs/signalling.md` describes them.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use sluicegate::{MediaKind, PeerId, SlotInfo};

use crate::refusal::Refusal;
use crate::roster::{Member, as_text};

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum FromClient {
    Join { sdp: String },
    Offer { sdp: String },
    Answer { sdp: String },
    Limit { mid: String, spatial: Option<u8>, temporal: Option<u8> },
    Leave,
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ToClient {
    Joined {
        #[serde(serialize_with = "as_text")]
        peer: PeerId,
        answer: String,
        peers: Vec<Member>,
    },
    Offer {
        sdp: String,
    },
    Answer {
        sdp: String,
    },
    Slots {
        slots: Vec<Slot>,
    },
    PeerJoined(Member),
    PeerLeft(Member),
    Cap {
        /// In bits per second; null when there is no cap.
        bps: Option<u64>,
        cause: String,
    },
    /// The layer of a simulcast track that the client gets now.
    Layer {
        mid: String,
        rid: String,
        /// In pixels, where known.
        size: Option<(u16, u16)>,
    },
    /// Who has the floor; null once that one has left.
    Floor {
        peer: Option<String>,
    },
    CodecMissing {
        mid: String,
        publisher: Member,
        codec: String,
    },
    Unreachable {
        announced: Vec<SocketAddr>,
    },
    Error {
        code: &'static str,
        message: String,
        /// In seconds: when it may be different.
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after: Option<u64>,
    },
    /// The server is being left.
    Draining {
        /// In seconds, from now on: what time there is to go elsewhere.
        deadline: u64,
    },
    Bye {
        reason: String,
        /// Whether joining again may help.
        retry: bool,
    },
}

#[derive(Debug, Serialize)]
pub struct Slot {
    pub mid: String,
    pub kind: &'static str,
    pub publisher: Option<Member>,
}

impl From<SlotInfo> for Slot {
    fn from(slot: SlotInfo) -> Slot {
        let kind = match slot.kind {
            MediaKind::Audio => "audio",
            MediaKind::Video => "video",
        };
        let publisher = slot.publisher.map(|publisher| Member { peer: publisher.peer, name: publisher.name });
        Slot { mid: slot.mid, kind, publisher }
    }
}

impl From<Refusal> for ToClient {
    fn from(refusal: Refusal) -> ToClient {
        let retry_after = refusal.retry_after.map(|wait| wait.as_secs_f64().ceil() as u64);
        ToClient::Error { code: refusal.code, message: refusal.message, retry_after }
    }
}

#[test]
fn messages_look_as_documented() {
    let error = ToClient::Error { code: "glare", message: "wait".into(), retry_after: None };
    assert_eq!(serde_json::to_string(&error).unwrap(), r#"{"type":"error","code":"glare","message":"wait"}"#);
    let slot = Slot { mid: "s0".into(), kind: "audio", publisher: None };
    assert_eq!(
        serde_json::to_string(&ToClient::Slots { slots: vec![slot] }).unwrap(),
        r#"{"type":"slots","slots":[{"mid":"s0","kind":"audio","publisher":null}]}"#
    );
    assert!(matches!(serde_json::from_str(r#"{"type":"leave"}"#), Ok(FromClient::Leave)));
    assert!(serde_json::from_str::<FromClient>(r#"{"type":"join"}"#).is_err());
}

//! How the server and one client stand: how much is given up, and which caps bind.

use serde::Serialize;
use sluicegate::{Cap, CapScope, Peer, SaturationLevel};

use crate::host::Host;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Standing {
    /// What the server gives up because it is short of something: 0 is nothing, 5 all video.
    level: u8,
    /// In percent of what it takes.
    load: u8,
    /// The cap that binds what the client sends, and what it receives.
    publish: Option<Binding>,
    downlink: Option<Binding>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Binding {
    bps: u64,
    /// Who wants it: `peer`, `tracks`, `room`, `node`, `saturation`, `network`.
    by: &'static str,
}

impl Standing {
    pub async fn of(host: &Host, peer: &Peer) -> Standing {
        let load = host.sfu().load();
        let caps = peer.explain_cap().await.unwrap_or_default();
        Standing {
            level: level(load.saturation_level),
            // In steps: a figure that changes each second is nobody's to read.
            load: (load.load_max_ratio * 20.0).round().clamp(0.0, 40.0) as u8 * 5,
            publish: caps.binds_publish().map(Binding::from),
            downlink: caps.binds_downlink().map(Binding::from),
        }
    }
}

impl From<Cap> for Binding {
    fn from(cap: Cap) -> Binding {
        let by = match cap.scope {
            CapScope::Peer => "peer",
            CapScope::Tracks => "tracks",
            CapScope::Room => "room",
            CapScope::Node => "node",
            CapScope::Saturation => "saturation",
            CapScope::Network => "network",
            _ => "other",
        };
        Binding { bps: cap.bitrate.as_bps(), by }
    }
}

fn level(level: SaturationLevel) -> u8 {
    SaturationLevel::ALL.into_iter().position(|other| other == level).unwrap_or_default() as u8
}

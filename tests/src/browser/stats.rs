//! What a page's `getStats` says, in the words the tests use.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;

use super::{BrowserError, Page};

/// One reading of a peer connection. Counters grow from zero; what a browser does not report is `None`.
#[derive(Clone, Debug, Deserialize)]
pub struct Stats {
    /// The page's clock (`performance.now()`), in milliseconds.
    pub at: f64,
    pub inbound: Vec<Inbound>,
    pub outbound: Vec<Outbound>,
    pub transport: Option<Transport>,
    pub pair: Option<Pair>,
}

/// One received stream.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Inbound {
    pub kind: String,
    pub mid: Option<String>,
    /// The id of the receiving `MediaStreamTrack`.
    pub track_identifier: Option<String>,
    #[serde(default)]
    pub packets_received: u64,
    /// Signed: a duplicate counts as minus one.
    #[serde(default)]
    pub packets_lost: i64,
    #[serde(default)]
    pub frames_decoded: u64,
    #[serde(default)]
    pub key_frames_decoded: u64,
    pub frames_per_second: Option<f64>,
    #[serde(default)]
    pub freeze_count: u64,
    /// In seconds.
    #[serde(default)]
    pub total_freezes_duration: f64,
    #[serde(default)]
    pub frames_dropped: u64,
    /// Repairs, by whatever stream they came.
    #[serde(default)]
    pub retransmitted_packets_received: u64,
    /// Keyframes asked for.
    #[serde(default)]
    pub pli_count: u64,
    pub ssrc: u32,
    pub rtx_ssrc: Option<u32>,
    pub frame_width: Option<u32>,
    pub frame_height: Option<u32>,
    /// Moves only while an element that is not muted plays the track.
    #[serde(default)]
    pub total_audio_energy: f64,
}

/// One sent stream: with simulcast, one per layer.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outbound {
    pub kind: String,
    pub mid: Option<String>,
    pub rid: Option<String>,
    #[serde(default)]
    pub packets_sent: u64,
    #[serde(default)]
    pub bytes_sent: u64,
    #[serde(default)]
    pub frames_encoded: u64,
    #[serde(default)]
    pub frames_sent: u64,
    pub frame_width: Option<u32>,
    pub frame_height: Option<u32>,
    /// In bits per second; Firefox does not say.
    pub target_bitrate: Option<f64>,
    #[serde(default)]
    pub retransmitted_packets_sent: u64,
    /// Keyframes that were asked of us.
    #[serde(default)]
    pub pli_count: u64,
    pub ssrc: u32,
    pub rtx_ssrc: Option<u32>,
}

/// The DTLS transport that everything is bundled on.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Transport {
    pub dtls_state: Option<String>,
    pub dtls_cipher: Option<String>,
    pub srtp_cipher: Option<String>,
}

/// The candidate pair in use.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pair {
    pub local: Option<IpAddr>,
    pub local_port: Option<u16>,
    pub remote: Option<IpAddr>,
    pub remote_port: Option<u16>,
    /// In bits per second; Firefox does not say.
    pub available_outgoing_bitrate: Option<f64>,
}

/// One line for a failure message or a log.
impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for stream in self.received("video") {
            let (width, height) = (stream.frame_width.unwrap_or(0), stream.frame_height.unwrap_or(0));
            let Inbound { frames_decoded, packets_received, packets_lost, freeze_count, .. } = stream;
            write!(f, "video in {width}x{height}, {frames_decoded} frames, {packets_received} packets, ")?;
            write!(f, "{packets_lost} lost, {freeze_count} freezes; ")?;
        }
        for stream in self.received("audio") {
            let Inbound { total_audio_energy, packets_received, packets_lost, .. } = stream;
            write!(
                f,
                "audio in {packets_received} packets, {packets_lost} lost, energy {total_audio_energy:.4}; "
            )?;
        }
        for stream in &self.outbound {
            let Outbound { kind, rid, frames_sent, packets_sent, bytes_sent, .. } = stream;
            write!(f, "{kind} out {}: {frames_sent} frames, ", rid.as_deref().unwrap_or("-"))?;
            write!(f, "{packets_sent} packets, {bytes_sent} bytes; ")?;
        }
        if let Some(Transport { dtls_cipher, srtp_cipher, .. }) = &self.transport {
            write!(
                f,
                "{}, {}; ",
                dtls_cipher.as_deref().unwrap_or("-"),
                srtp_cipher.as_deref().unwrap_or("-")
            )?;
        }
        match &self.pair {
            Some(Pair { local: Some(local), remote: Some(remote), .. }) => write!(f, "{local} to {remote}"),
            _ => write!(f, "no pair"),
        }
    }
}

impl Stats {
    /// Reads the peer connection that a JavaScript expression names.
    pub async fn read(page: &Page, connection: &str) -> Result<Stats, BrowserError> {
        page.eval(&READER.replace("CONNECTION", connection)).await
    }

    pub fn received<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Inbound> {
        self.inbound.iter().filter(move |stream| stream.kind == kind)
    }

    /// Decoded frames of every received video together.
    pub fn frames_decoded(&self) -> u64 {
        self.received("video").map(|stream| stream.frames_decoded).sum()
    }

    /// Audio energy of every received audio together.
    pub fn audio_energy(&self) -> f64 {
        self.received("audio").map(|stream| stream.total_audio_energy).sum()
    }

    /// Frames sent on the busiest video layer: what a subscriber can get of this camera at best.
    pub fn frames_sent(&self) -> u64 {
        let layers = self.outbound.iter().filter(|stream| stream.kind == "video");
        layers.map(|stream| stream.frames_sent).max().unwrap_or(0)
    }

    /// The address that the pair in use sends from.
    pub fn local_address(&self) -> Option<SocketAddr> {
        let pair = self.pair.as_ref()?;
        Some(SocketAddr::new(pair.local?, pair.local_port?))
    }

    pub fn srtp_cipher(&self) -> Option<&str> {
        self.transport.as_ref()?.srtp_cipher.as_deref()
    }
}

/// Chromium names the pair in its transport, Firefox marks the pair `selected`.
const READER: &str = r"(async () => {
    const report = [...(await (CONNECTION).getStats()).values()];
    const find = (type, test) => report.find(s => s.type === type && test(s));
    const transport = find('transport', () => true);
    const pair = find('candidate-pair', s => s.id === transport?.selectedCandidatePairId)
        ?? find('candidate-pair', s => s.selected);
    const local = find('local-candidate', s => s.id === pair?.localCandidateId);
    const remote = find('remote-candidate', s => s.id === pair?.remoteCandidateId);
    return {
        at: performance.now(),
        inbound: report.filter(s => s.type === 'inbound-rtp'),
        outbound: report.filter(s => s.type === 'outbound-rtp'),
        transport,
        pair: pair && {
            local: local?.address,
            localPort: local?.port,
            remote: remote?.address,
            remotePort: remote?.port,
            availableOutgoingBitrate: pair.availableOutgoingBitrate,
        },
    };
})()";

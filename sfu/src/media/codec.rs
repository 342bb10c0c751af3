//! The codecs we forward, as the packet path knows them. What SDP says about them is negotiation's.

use crate::ids::MediaKind;

/// A codec we forward. Two streams of one `Codec` can be decoded by the same receivers: parameters that
/// decide about that are part of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[non_exhaustive]
pub enum Codec {
    /// RFC 7587.
    Opus,
    /// Opus with redundancy, RFC 2198: each packet repeats the one before.
    Red,
    /// RFC 7741.
    Vp8,
    /// RFC 9628.
    Vp9 {
        /// 0 to 3: 8 bits 4:2:0 is 0.
        profile: u8,
    },
    /// RFC 6184.
    H264 {
        /// What the decoder must know.
        profile: H264Profile,
        /// `packetization-mode`: 1 allows fragments and aggregates, 0 does not.
        mode: u8,
    },
    /// RFC 7798. Forwarded as one opaque layer.
    H265,
    /// The AV1 RTP payload format of the Alliance for Open Media.
    Av1 {
        /// 0 main, 1 high, 2 professional.
        profile: u8,
    },
}

/// The profiles of H.264 that browsers name, RFC 6184 §8.1, table 5.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[non_exhaustive]
pub enum H264Profile {
    /// 42 with constraint set 1, the one every WebRTC endpoint has (RFC 7742 §6.2).
    ConstrainedBaseline,
    /// 42.
    Baseline,
    /// 4d.
    Main,
    /// 64 with constraint sets 4 and 5.
    ConstrainedHigh,
    /// 64.
    High,
    /// f4: chroma without subsampling.
    High444,
}

impl Codec {
    /// RTP timestamp units per second.
    pub fn clock_rate(self) -> u32 {
        match self.kind() {
            MediaKind::Audio => 48_000,
            MediaKind::Video => 90_000,
        }
    }

    /// Audio or video.
    pub fn kind(self) -> MediaKind {
        match self {
            Codec::Opus | Codec::Red => MediaKind::Audio,
            Codec::Vp8 | Codec::Vp9 { .. } | Codec::H264 { .. } | Codec::H265 | Codec::Av1 { .. } => {
                MediaKind::Video
            }
        }
    }

    /// The name SDP knows it by.
    pub fn as_str(self) -> &'static str {
        match self {
            Codec::Opus => "opus",
            Codec::Red => "red",
            Codec::Vp8 => "VP8",
            Codec::Vp9 { .. } => "VP9",
            Codec::H264 { .. } => "H264",
            Codec::H265 => "H265",
            Codec::Av1 { .. } => "AV1",
        }
    }
}

impl std::fmt::Display for Codec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

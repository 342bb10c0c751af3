//! Peer connections, and the tracks they send.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use rtc::interceptor::{Registry, Slot};
use rtc::peer_connection::configuration::interceptor_registry::register_default_interceptors;
use rtc::rtp_transceiver::rtp_sender::{RTCRtpCodec, RTCRtpEncodingParameters, RtpCodecKind};
use webrtc::error::Error;
use webrtc::media_stream::MediaStreamTrack;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::media_stream::track_local::{TrackLocal, TrackLocalEvent};
use webrtc::peer_connection::{
    MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler,
};
use webrtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};

use super::requests::{KeyframeRequests, ask_for_keyframe};
use crate::media::Codec;

/// A connection that reports, repairs, and lets keyframe requests through.
pub async fn connect(
    addresses: Vec<SocketAddr>,
    handler: Arc<dyn PeerConnectionEventHandler>,
) -> Result<Arc<dyn PeerConnection>, Error> {
    let mut codecs = MediaEngine::default();
    codecs.register_default_codecs()?;
    let chain = register_default_interceptors(Registry::new(), &mut codecs)?;
    // Where it sits makes no difference: it neither delays nor makes packets.
    let chain = chain.with(Slot::from(9_500), KeyframeRequests::default());
    let builder = PeerConnectionBuilder::new().with_media_engine(codecs).with_interceptor_registry(chain);
    Ok(Arc::new(builder.with_handler(handler).with_udp_addrs(addresses).build().await?))
}

/// Where to bind, to reach a server that is seen from the address `local` of this machine.
///
/// A server that is seen on loopback may announce another address of the same machine. `webrtc` makes one socket for
/// each interface of a wildcard, but none for loopback.
pub fn addresses_beside(local: IpAddr) -> Vec<SocketAddr> {
    let wildcard = match local {
        IpAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
    };
    let ips = if local.is_loopback() { vec![local, wildcard] } else { vec![local] };
    ips.into_iter().map(|ip| SocketAddr::new(ip, 0)).collect()
}

/// Offers to receive the audio and the video of this many publishers.
pub async fn receive(connection: &dyn PeerConnection, publishers: usize) -> Result<(), Error> {
    for kind in (0..publishers).flat_map(|_| [RtpCodecKind::Audio, RtpCodecKind::Video]) {
        let receive = RTCRtpTransceiverInit {
            direction: RTCRtpTransceiverDirection::Recvonly,
            streams: vec![],
            send_encodings: vec![],
        };
        connection.add_transceiver_from_kind(kind, Some(receive)).await?;
    }
    Ok(())
}

/// A track that a connection sends.
pub struct Outlet {
    track: Arc<TrackLocalStaticRTP>,
    ssrc: u32,
    payload_type: u8,
}

impl Outlet {
    /// Adds a track to a connection that has made no offer yet.
    pub async fn add(connection: &dyn PeerConnection, codec: Codec) -> Result<Outlet, Error> {
        let (kind, parameters, payload_type) = parameters(codec);
        let ssrc = random();
        let mut encoding = RTCRtpEncodingParameters { codec: parameters, ..Default::default() };
        encoding.rtp_coding_parameters.ssrc = Some(ssrc);
        let id = codec.to_string();
        let track = MediaStreamTrack::new("bot".to_owned(), id.clone(), id, kind, vec![encoding]);
        let track = Arc::new(TrackLocalStaticRTP::new(track));
        connection.add_track(track.clone()).await?;
        Ok(Outlet { track, ssrc, payload_type })
    }

    /// Sends one packet.
    pub async fn send(&self, seq: u16, timestamp: u32, marker: bool, payload: Bytes) -> Result<(), Error> {
        let header = rtp::Header {
            version: 2,
            marker,
            payload_type: self.payload_type,
            sequence_number: seq,
            timestamp,
            ssrc: self.ssrc,
            ..Default::default()
        };
        self.track.write_rtp(rtp::Packet { header, payload }).await
    }

    /// Waits until somebody wants a keyframe. `None` when the connection is gone, or not negotiated yet.
    pub async fn keyframe_request(&self) -> Option<()> {
        loop {
            if let TrackLocalEvent::OnRtcpPacket(packets) = self.track.poll().await?
                && ask_for_keyframe(&packets)
            {
                return Some(());
            }
        }
    }
}

/// As `register_default_codecs` numbers them; a track that names another number is sent with that all the same.
fn parameters(codec: Codec) -> (RtpCodecKind, RTCRtpCodec, u8) {
    let (mime_type, fmtp, payload_type) = match codec {
        Codec::Vp8 => ("video/VP8", "", 96),
        Codec::Vp9 => ("video/VP9", "profile-id=0", 98),
        Codec::Av1 => ("video/AV1", "profile-id=0", 41),
        Codec::Opus => ("audio/opus", "minptime=10;useinbandfec=1", 111),
    };
    let (kind, clock_rate, channels) = match codec {
        Codec::Opus => (RtpCodecKind::Audio, 48_000, 2),
        _ => (RtpCodecKind::Video, 90_000, 0),
    };
    let parameters = RTCRtpCodec {
        mime_type: mime_type.to_owned(),
        clock_rate,
        channels,
        sdp_fmtp_line: fmtp.to_owned(),
        ..Default::default()
    };
    (kind, parameters, payload_type)
}

/// Where numbers start, RFC 3550 §5.1.
pub(super) fn random() -> u32 {
    let mut bytes = [0; 4];
    aws_lc_rs::rand::fill(&mut bytes).expect("the operating system has randomness");
    u32::from_le_bytes(bytes)
}

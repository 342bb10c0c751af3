//! Peer connections, and the tracks they send.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use rtc::interceptor::{Registry, Slot};
use rtc::peer_connection::configuration::interceptor_registry::register_default_interceptors;
use rtc::rtp_transceiver::rtp_sender::{RTCRtpCodec, RTCRtpEncodingParameters, RtpCodecKind};
use tokio::sync::Notify;
use webrtc::error::Error;
use webrtc::media_stream::MediaStreamTrack;
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::peer_connection::{
    MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler,
};
use webrtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};

use super::requests::KeyframeRequests;
use crate::media::Codec;

/// A connection and the keyframe requests that come over it.
pub struct Client {
    pub connection: Arc<dyn PeerConnection>,
    keyframe_wanted: Arc<Notify>,
}

/// A connection that reports and repairs. It sends one video at most: keyframe requests do not say which.
pub async fn connect(
    addresses: Vec<SocketAddr>,
    handler: Arc<dyn PeerConnectionEventHandler>,
) -> Result<Client, Error> {
    let mut codecs = MediaEngine::default();
    codecs.register_default_codecs()?;
    let chain = register_default_interceptors(Registry::new(), &mut codecs)?;
    // Where it sits makes no difference: it neither delays nor makes packets.
    let keyframe_wanted = Arc::new(Notify::new());
    let chain = chain.with(Slot::from(9_500), KeyframeRequests::new(keyframe_wanted.clone()));
    let builder = PeerConnectionBuilder::new().with_media_engine(codecs).with_interceptor_registry(chain);
    let connection = builder.with_handler(handler).with_udp_addrs(addresses).build().await?;
    Ok(Client { connection: Arc::new(connection), keyframe_wanted })
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
    keyframe_wanted: Arc<Notify>,
}

impl Outlet {
    /// Adds a track to a client that has made no offer yet.
    pub async fn add(client: &Client, codec: Codec) -> Result<Outlet, Error> {
        let (kind, parameters, payload_type) = parameters(codec);
        let ssrc = random();
        let mut encoding = RTCRtpEncodingParameters { codec: parameters, ..Default::default() };
        encoding.rtp_coding_parameters.ssrc = Some(ssrc);
        let id = codec.to_string();
        let track = MediaStreamTrack::new("bot".to_owned(), id.clone(), id, kind, vec![encoding]);
        let track = Arc::new(TrackLocalStaticRTP::new(track));
        client.connection.add_track(track.clone()).await?;
        Ok(Outlet { track, ssrc, payload_type, keyframe_wanted: client.keyframe_wanted.clone() })
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

    /// Waits until somebody wants a keyframe.
    pub async fn keyframe_request(&self) {
        self.keyframe_wanted.notified().await;
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

//! Two bots in one room, without a browser: one publishes, the other says once a second what it receives.
//!
//! `cargo run --release --example bot -- --seconds 10`. The SFU and both bots live in this process; media
//! goes over UDP on loopback all the same.

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use clap::Parser;
use rtc::rtp_transceiver::rtp_sender::{RTCRtpCodec, RTCRtpEncodingParameters, RtpCodecKind};
use sluicegate::webrtc::seat;
use sluicegate::{Config, PeerConfig, PeerEvent, Sfu, Subscribe, TrackFilter};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep};
use webrtc::media_stream::MediaStreamTrack;
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};
use webrtc::peer_connection::{
    MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler,
};
use webrtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};

/// A publishing and a watching bot on one SFU, all in this process.
#[derive(Parser)]
struct Args {
    /// Stop after this many seconds; by default Ctrl-C stops.
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let sfu =
        Sfu::start(Config::new((Ipv4Addr::LOCALHOST, 0).into()).announce(IpAddr::V4(Ipv4Addr::LOCALHOST)))
            .await?;
    let room = sfu.room("bots")?;

    let (packets, received) = mpsc::unbounded_channel();
    let watcher = connection(Watcher { packets }).await?;
    for kind in [RtpCodecKind::Audio, RtpCodecKind::Video] {
        let receive = RTCRtpTransceiverInit {
            direction: RTCRtpTransceiverDirection::Recvonly,
            streams: vec![],
            send_encodings: vec![],
        };
        watcher.add_transceiver_from_kind(kind, Some(receive)).await?;
    }
    let everyone = Subscribe::Slots(TrackFilter::default());
    let watching = seat(&room, PeerConfig::new("watcher").subscribe(everyone), watcher).await?;

    let publisher = connection(Silent).await?;
    let (audio, video) = (track(RtpCodecKind::Audio), track(RtpCodecKind::Video));
    publisher.add_track(audio.clone()).await?;
    publisher.add_track(video.clone()).await?;
    let config = PeerConfig::new("publisher").subscribe(Subscribe::Nothing);
    let publishing = seat(&room, config, publisher).await?;

    for seat in [&watching, &publishing] {
        while !matches!(seat.next_event().await, None | Some(PeerEvent::Connected | PeerEvent::Left(_))) {}
    }
    let end = async {
        match args.seconds {
            Some(seconds) => sleep(Duration::from_secs(seconds)).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        result = publish(audio, video) => result?,
        () = report(received) => {}
        result = tokio::signal::ctrl_c() => result?,
        () = end => {}
    }
    sfu.shutdown().await;
    Ok(())
}

async fn connection(
    handler: impl PeerConnectionEventHandler,
) -> Result<Arc<dyn PeerConnection>, webrtc::error::Error> {
    let mut codecs = MediaEngine::default();
    codecs.register_default_codecs()?;
    let builder = PeerConnectionBuilder::new().with_media_engine(codecs).with_handler(Arc::new(handler));
    Ok(Arc::new(builder.with_udp_addrs(vec!["127.0.0.1:0"]).build().await?))
}

fn track(kind: RtpCodecKind) -> Arc<TrackLocalStaticRTP> {
    let (mime_type, clock_rate, channels, ssrc) = match kind {
        RtpCodecKind::Video => ("video/VP8", 90_000, 0, VIDEO),
        _ => ("audio/opus", 48_000, 2, AUDIO),
    };
    let codec = RTCRtpCodec { mime_type: mime_type.to_owned(), clock_rate, channels, ..Default::default() };
    let mut encoding = RTCRtpEncodingParameters { codec, ..Default::default() };
    encoding.rtp_coding_parameters.ssrc = Some(ssrc);
    let name = mime_type.replace('/', "-");
    let track = MediaStreamTrack::new("bot".to_owned(), name.clone(), name, kind, vec![encoding]);
    Arc::new(TrackLocalStaticRTP::new(track))
}

/// Sends packets of the shape of VP8 at 30 frames a second (1.5 Mb/s) and of Opus at 50 a second. Nobody
/// decodes them.
async fn publish(
    audio: Arc<TrackLocalStaticRTP>,
    video: Arc<TrackLocalStaticRTP>,
) -> Result<(), webrtc::error::Error> {
    let (mut frames, mut sounds) =
        (interval(Duration::from_secs(1) / 30), interval(Duration::from_millis(20)));
    frames.set_missed_tick_behavior(MissedTickBehavior::Skip);
    sounds.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (mut frame, mut sound, mut seq) = (0u32, 0u32, 0u16);
    loop {
        tokio::select! {
            _ = frames.tick() => {
                for part in 0..6 {
                    let packet = packet(96, VIDEO, seq, frame.wrapping_mul(3_000), part == 5, &vp8(frame, part));
                    video.write_rtp(packet).await?;
                    seq = seq.wrapping_add(1);
                }
                frame += 1;
            }
            _ = sounds.tick() => {
                let packet = packet(111, AUDIO, sound as u16, sound.wrapping_mul(960), false, &[0xf8; 100]);
                audio.write_rtp(packet).await?;
                sound += 1;
            }
        }
    }
}

/// One packet of a frame: a descriptor that says where the frame starts (RFC 7741 §4.2), then filler. Every
/// hundredth frame claims to be a keyframe (P clear, §4.3).
fn vp8(frame: u32, part: u8) -> BytesMut {
    let mut payload = BytesMut::new();
    payload.put_u8(if part == 0 { 0x10 } else { 0x00 });
    payload.put_u8(u8::from(!frame.is_multiple_of(100)));
    payload.put_bytes(part, 1_040);
    payload
}

fn packet(pt: u8, ssrc: u32, seq: u16, timestamp: u32, marker: bool, payload: &[u8]) -> rtp::Packet {
    let header = rtp::Header {
        version: 2,
        marker,
        payload_type: pt,
        sequence_number: seq,
        timestamp,
        ssrc,
        ..Default::default()
    };
    rtp::Packet { header, payload: BytesMut::from(payload).freeze() }
}

/// A packet that arrived: its SSRC, sequence number and payload length.
type Arrival = (u32, u16, usize);

/// Once a second: packets, kilobits, and how many sequence numbers were skipped.
async fn report(mut received: mpsc::UnboundedReceiver<Arrival>) {
    let mut seconds = interval(Duration::from_secs(1));
    let (mut packets, mut bytes, mut lost) = (0u64, 0usize, 0u64);
    let mut latest = std::collections::HashMap::<u32, u16>::new();
    seconds.tick().await;
    loop {
        tokio::select! {
            _ = seconds.tick() => {
                println!("{packets} packets, {} kb/s, {lost} lost", bytes * 8 / 1_000);
                (packets, bytes) = (0, 0);
            }
            arrival = received.recv() => {
                let Some((ssrc, seq, len)) = arrival else { return };
                packets += 1;
                bytes += len;
                if let Some(before) = latest.insert(ssrc, seq) {
                    // Loopback does not reorder.
                    lost += u64::from(seq.wrapping_sub(before).saturating_sub(1));
                }
            }
        }
    }
}

struct Silent;

impl PeerConnectionEventHandler for Silent {}

struct Watcher {
    packets: mpsc::UnboundedSender<Arrival>,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Watcher {
    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        let packets = self.packets.clone();
        tokio::spawn(async move {
            while let Some(event) = track.poll().await {
                if let TrackRemoteEvent::OnRtpPacket(packet) = event {
                    let rtp::Packet { header, payload } = packet;
                    if packets.send((header.ssrc, header.sequence_number, payload.len())).is_err() {
                        return;
                    }
                }
            }
        });
    }
}

const AUDIO: u32 = 1;
const VIDEO: u32 = 2;

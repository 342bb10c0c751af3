//! A `webrtc` client that publishes checkable packets and counts what it hears, by publisher.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use rtc::rtp_transceiver::rtp_sender::{RTCRtpCodec, RTCRtpEncodingParameters, RtpCodecKind};
use sluicegate::webrtc::{Seat, SeatError, seat};
use sluicegate::{PeerConfig, PeerEvent, Room};
use sluicegate_benches::payload::{self, Stamp};
use sluicegate_benches::{clock, http};
use tokio::sync::watch;
use tokio::time::timeout;
use webrtc::data_channel::{DataChannel, DataChannelEvent};
use webrtc::media_stream::MediaStreamTrack;
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};
use webrtc::peer_connection::{
    MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCPeerConnectionState,
    RTCSessionDescription,
};
use webrtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};

/// Nothing on loopback takes longer.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// Packets heard from one publisher.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Count {
    pub audio: u64,
    pub video: u64,
}

/// All that a person has heard.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Heard {
    pub connected: bool,
    pub by_publisher: BTreeMap<u32, Count>,
    /// Packets that are not what somebody sent.
    pub altered: u64,
    /// Its data channel is open.
    pub open: bool,
    /// What came on it: `None` for what is no text.
    pub messages: Vec<Option<String>>,
}

/// A client with an audio and a video track of its own, or none.
pub struct Person {
    pub connection: Arc<dyn PeerConnection>,
    pub sent: Count,
    number: u32,
    tracks: Option<(Arc<TrackLocalStaticRTP>, Arc<TrackLocalStaticRTP>)>,
    channel: Option<Arc<dyn DataChannel>>,
    heard: watch::Receiver<Heard>,
    ears: watch::Sender<Heard>,
}

impl Person {
    /// Publishes under this number; receives on what the SFU offers.
    pub async fn publishing(number: u32) -> Person {
        Person::new("127.0.0.1:0", number, true, 0).await
    }

    /// Publishes nothing and offers to receive this many publishers.
    pub async fn watching(pairs: usize) -> Person {
        Person::new("127.0.0.1:0", 0, false, pairs).await
    }

    /// At the local `address`; publishes, and offers to receive `pairs` publishers.
    pub async fn new(address: &'static str, number: u32, publishes: bool, pairs: usize) -> Person {
        let (heard, watch) = watch::channel(Heard::default());
        let mut codecs = MediaEngine::default();
        codecs.register_default_codecs().unwrap();
        let builder = PeerConnectionBuilder::new().with_media_engine(codecs).with_udp_addrs(vec![address]);
        let ears = heard.clone();
        let connection = builder.with_handler(Arc::new(Ears { heard })).build().await.unwrap();
        let tracks = match publishes {
            true => {
                let tracks = (track(RtpCodecKind::Audio, number), track(RtpCodecKind::Video, number));
                connection.add_track(tracks.0.clone()).await.unwrap();
                connection.add_track(tracks.1.clone()).await.unwrap();
                Some(tracks)
            }
            false => None,
        };
        for kind in (0..pairs).flat_map(|_| [RtpCodecKind::Audio, RtpCodecKind::Video]) {
            let receive = RTCRtpTransceiverInit {
                direction: RTCRtpTransceiverDirection::Recvonly,
                streams: vec![],
                send_encodings: vec![],
            };
            connection.add_transceiver_from_kind(kind, Some(receive)).await.unwrap();
        }
        let (connection, sent) = (Arc::new(connection), Count::default());
        Person { connection, sent, number, tracks, channel: None, heard: watch, ears }
    }

    /// Opens a data channel; to be said before it takes its seat.
    pub async fn opens(mut self, label: &str) -> Person {
        let channel = self.connection.create_data_channel(label, None).await.unwrap();
        self.channel = Some(channel.clone());
        let heard = self.ears.clone();
        tokio::spawn(async move {
            while let Some(event) = channel.poll().await {
                heard.send_modify(|heard| match event {
                    DataChannelEvent::OnOpen => heard.open = true,
                    DataChannelEvent::OnMessage(message) => {
                        let text = || String::from_utf8(message.data.to_vec()).expect("text is text");
                        heard.messages.push(message.is_string.then(text));
                    }
                    _ => {}
                });
            }
        });
        self
    }

    /// Says something on its data channel.
    pub async fn writes(&self, text: &str) {
        self.channel.as_ref().expect("it has one").send_text(text).await.unwrap();
    }

    /// Takes a seat in a room of this process.
    pub async fn sit(&self, room: &Room, config: PeerConfig) -> Result<Seat, SeatError> {
        seat(room, config, self.connection.clone()).await
    }

    /// Takes part by one HTTP request: WHIP, WHEP, or a host's own.
    pub async fn post(&self, url: String) -> http::Response {
        let offer = self.connection.create_offer(None).await.unwrap();
        let sdp = offer.sdp.clone();
        self.connection.set_local_description(offer).await.unwrap();
        let posted = tokio::task::spawn_blocking(move || http::post(&url, &sdp));
        let response = posted.await.expect("the request does not panic").unwrap();
        assert!(matches!(response.status, 200 | 201), "{}: {}", response.status, response.body);
        let answer = RTCSessionDescription::answer(response.body.clone()).unwrap();
        self.connection.set_remote_description(answer).await.unwrap();
        response
    }

    /// Sends one packet of each kind; every video packet is a keyframe.
    pub async fn say(&mut self) {
        let (audio, video) = self.tracks.clone().expect("a publisher says something");
        let stamp = |seq, timestamp| Stamp {
            publisher: self.number,
            seq,
            sent: clock::wall().as_nanos() as u64,
            timestamp,
        };
        let mut body = Vec::new();
        let timestamp = self.sent.audio as u32 * 960;
        payload::opus(&mut body, stamp(self.sent.audio, timestamp), 80);
        audio
            .write_rtp(packet(111, ssrc(RtpCodecKind::Audio, self.number), self.sent.audio, timestamp, body))
            .await
            .unwrap();
        let mut body = Vec::new();
        let timestamp = self.sent.video as u32 * 3_000;
        payload::vp8(&mut body, stamp(self.sent.video, timestamp), 200, true, true, self.sent.video as u16);
        video
            .write_rtp(packet(96, ssrc(RtpCodecKind::Video, self.number), self.sent.video, timestamp, body))
            .await
            .unwrap();
        self.sent.audio += 1;
        self.sent.video += 1;
    }

    /// What has been heard so far.
    pub fn heard(&self) -> Heard {
        self.heard.borrow().clone()
    }

    /// Waits until what has been heard is enough.
    pub async fn hears(&mut self, what: &str, enough: impl FnMut(&Heard) -> bool) {
        match timeout(PATIENCE, self.heard.wait_for(enough)).await.map(|heard| heard.is_ok()) {
            Ok(true) => {}
            Ok(false) => panic!("the connection ended before: {what}"),
            Err(_) => panic!("{what}: waited in vain, heard {:?}", self.heard()),
        }
    }

    pub async fn connects(&mut self) {
        self.hears("connected", |heard| heard.connected).await;
    }
}

/// Waits for an event that satisfies `wanted`; those before it are skipped.
pub async fn event(seat: &Seat, what: &str, wanted: impl Fn(&PeerEvent) -> bool) -> PeerEvent {
    let search = async {
        while let Some(event) = seat.next_event().await {
            if wanted(&event) {
                return event;
            }
        }
        panic!("the peer left before: {what}");
    };
    timeout(PATIENCE, search).await.unwrap_or_else(|_| panic!("no such event: {what}"))
}

fn packet(pt: u8, ssrc: u32, count: u64, timestamp: u32, body: Vec<u8>) -> rtp::Packet {
    let header = rtp::Header {
        version: 2,
        marker: pt == 96,
        payload_type: pt,
        sequence_number: count as u16,
        timestamp,
        ssrc,
        ..Default::default()
    };
    rtp::Packet { header, payload: Bytes::from(body) }
}

fn ssrc(kind: RtpCodecKind, number: u32) -> u32 {
    1_000 + number * 2 + u32::from(kind == RtpCodecKind::Video)
}

fn track(kind: RtpCodecKind, number: u32) -> Arc<TrackLocalStaticRTP> {
    static TRACKS: AtomicU32 = AtomicU32::new(0);
    let (mime_type, clock_rate, channels) = match kind {
        RtpCodecKind::Video => ("video/VP8", 90_000, 0),
        _ => ("audio/opus", 48_000, 2),
    };
    let codec = RTCRtpCodec { mime_type: mime_type.to_owned(), clock_rate, channels, ..Default::default() };
    let mut encoding = RTCRtpEncodingParameters { codec, ..Default::default() };
    encoding.rtp_coding_parameters.ssrc = Some(ssrc(kind, number));
    let id = format!("track{}", TRACKS.fetch_add(1, Relaxed));
    let track = MediaStreamTrack::new(format!("person{number}"), id.clone(), id, kind, vec![encoding]);
    Arc::new(TrackLocalStaticRTP::new(track))
}

struct Ears {
    heard: watch::Sender<Heard>,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Ears {
    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        self.heard.send_modify(|heard| heard.connected = state == RTCPeerConnectionState::Connected);
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        let heard = self.heard.clone();
        tokio::spawn(async move {
            let is_video = track.kind().await == RtpCodecKind::Video;
            while let Some(event) = track.poll().await {
                if let TrackRemoteEvent::OnRtpPacket(packet) = event {
                    heard.send_modify(|heard| book(heard, is_video, &packet.payload));
                }
            }
        });
    }
}

fn book(heard: &mut Heard, is_video: bool, body: &[u8]) {
    let stamp = match is_video {
        true => payload::read_vp8(body).map(|(stamp, _)| stamp),
        false => payload::read_opus(body),
    };
    let Some(stamp) = stamp else {
        heard.altered += 1;
        return;
    };
    let count = heard.by_publisher.entry(stamp.publisher).or_default();
    *(if is_video { &mut count.video } else { &mut count.audio }) += 1;
}

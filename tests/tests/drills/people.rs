//! `webrtc` clients of the demo: viewers who lose packets, and a publisher.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rtc::interceptor::{AttributedPacket, Interceptor, Packet, Registry, Slot, StreamInfo, TaggedPacket};
use rtc::peer_connection::configuration::interceptor_registry::configure_rtcp_reports;
use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::rtcp::transport_feedbacks::transport_layer_nack::{
    TransportLayerNack, nack_pairs_from_sequence_numbers,
};
use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use rtc::sansio::Protocol;
use rtc::shared::error::Error;
use sluicegate_benches::payload::{self, Stamp};
use sluicegate_examples::client::connection::{Client, Outlet, connect};
use sluicegate_examples::client::meter::Meter;
use sluicegate_examples::client::whip::Endpoint;
use sluicegate_examples::media::Codec;
use tokio::task::JoinHandle;
use tokio::time::{interval, timeout};
use webrtc::peer_connection::{MediaEngine, PeerConnection, PeerConnectionBuilder, RTCPeerConnectionState};
use webrtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};

/// How many of a hundred packets get lost on the way to a viewer, from now on.
#[derive(Clone)]
pub struct Loss(Arc<AtomicU32>);

impl Loss {
    pub fn percent(percent: u32) -> Loss {
        Loss(Arc::new(AtomicU32::new(percent)))
    }

    pub fn set(&self, percent: u32) {
        self.0.store(percent, Relaxed);
    }
}

/// Watches the videos of a room by WHEP, and asks for what it misses.
pub struct Watcher {
    connection: Arc<dyn PeerConnection>,
    heard: Heard,
}

/// By stream: the first number, the last, and how many came.
type Heard = Arc<Mutex<HashMap<u32, (u64, u64, u64)>>>;

impl Watcher {
    pub async fn enter(from: &str, url: &str, videos: usize, loss: Loss) -> Watcher {
        let mut codecs = MediaEngine::default();
        codecs.register_default_codecs().unwrap();
        // No requests of the library's own: it does not take repairs for what they repair, and asks ten times.
        let chain = configure_rtcp_reports(Registry::new());
        let heard = Heard::default();
        let lossy =
            Lossy { loss, heard: heard.clone(), dice: 1, read: VecDeque::new(), write: VecDeque::new() };
        let chain = chain.with(Slot::from(100), lossy);
        let builder = PeerConnectionBuilder::new().with_media_engine(codecs).with_interceptor_registry(chain);
        let meter = Meter::new();
        let builder = builder.with_handler(meter.clone()).with_udp_addrs(vec![from.to_owned()]);
        let connection: Arc<dyn PeerConnection> = Arc::new(builder.build().await.unwrap());
        for _ in 0..videos {
            let receive = RTCRtpTransceiverInit {
                direction: RTCRtpTransceiverDirection::Recvonly,
                streams: vec![],
                send_encodings: vec![],
            };
            connection.add_transceiver_from_kind(RtpCodecKind::Video, Some(receive)).await.unwrap();
        }
        join(&*connection, url).await;
        let mut state = meter.state();
        let connected = state.wait_for(|state| *state == RTCPeerConnectionState::Connected);
        timeout(PATIENCE, connected).await.expect("it connects").unwrap();
        Watcher { connection, heard }
    }

    /// Of the packets that were sent to it, how many came, and how many did not: on the network, not by its own loss.
    pub fn received(&self) -> (u64, u64) {
        let heard = self.heard.lock().unwrap();
        let came: u64 = heard.values().map(|(.., came)| came).sum();
        let sent: u64 = heard.values().map(|(first, last, _)| last - first + 1).sum();
        (came, sent.saturating_sub(came))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let connection = self.connection.clone();
        tokio::spawn(async move { connection.close().await });
    }
}

/// Publishes one video by WHIP: 20 packets a second, each a picture.
pub struct Publisher {
    client: Client,
    playing: JoinHandle<()>,
    muted: Arc<AtomicBool>,
}

impl Publisher {
    pub async fn enter(url: &str) -> Publisher {
        let client = connect(vec!["127.0.0.1:0".parse().unwrap()], Meter::new()).await.unwrap();
        let outlet = Outlet::add(&client, Codec::Vp8).await.unwrap();
        join(&*client.connection, url).await;
        let muted = Arc::new(AtomicBool::new(false));
        let silent = muted.clone();
        let playing = tokio::spawn(async move {
            let mut clock = interval(Duration::from_millis(50));
            for number in 0_u64.. {
                clock.tick().await;
                while silent.load(Relaxed) {
                    clock.tick().await;
                }
                let timestamp = number as u32 * 4_500;
                let stamp = Stamp { publisher: 1, seq: number, sent: 0, timestamp };
                let mut body = Vec::new();
                payload::vp8(&mut body, stamp, 300, true, number == 0, number as u16);
                // Before it is connected, packets go nowhere.
                let _ = outlet.send(number as u16, timestamp, true, Bytes::from(body)).await;
            }
        });
        Publisher { client, playing, muted }
    }

    /// Sends nothing any more, and tells nobody so, as `replaceTrack(null)` does it.
    pub fn mute(&self) {
        self.muted.store(true, Relaxed);
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.playing.abort();
        let connection = self.client.connection.clone();
        tokio::spawn(async move { connection.close().await });
    }
}

async fn join(connection: &dyn PeerConnection, url: &str) {
    let offer = connection.create_offer(None).await.unwrap();
    let sdp = offer.sdp.clone();
    connection.set_local_description(offer).await.unwrap();
    let (_session, answer) = Endpoint::new(url, None).unwrap().open(sdp).await.unwrap();
    connection.set_remote_description(RTCSessionDescription::answer(answer).unwrap()).await.unwrap();
}

/// Loses media on its way in, and asks once for each packet.
struct Lossy {
    loss: Loss,
    heard: Heard,
    dice: u32,
    read: VecDeque<TaggedPacket>,
    write: VecDeque<TaggedPacket>,
}

impl Lossy {
    fn note(&self, ssrc: u32, seq: u16) {
        let begin = 1 << 16 | u64::from(seq);
        let mut heard = self.heard.lock().unwrap();
        let (_, last, came) = heard.entry(ssrc).or_insert((begin, begin, 0));
        let distance = seq.wrapping_sub(*last as u16) as i16;
        *last = last.saturating_add_signed(i64::from(distance)).max(*last);
        *came += 1;
    }

    /// Numerical Recipes' generator: each run loses the same.
    fn is_lost(&mut self) -> bool {
        self.dice = self.dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.dice >> 16) % 100 < self.loss.0.load(Relaxed)
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Lossy {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, packet: TaggedPacket) -> Result<(), Error> {
        if let Packet::Rtp(rtp) = &packet.message.packet {
            self.note(rtp.header.ssrc, rtp.header.sequence_number);
        }
        match &packet.message.packet {
            Packet::Rtp(lost) if self.is_lost() => {
                let numbers = nack_pairs_from_sequence_numbers(&[lost.header.sequence_number]);
                let nack =
                    TransportLayerNack { sender_ssrc: 1, media_ssrc: lost.header.ssrc, nacks: numbers };
                let message = AttributedPacket::new(Packet::Rtcp(vec![Box::new(nack)]));
                self.write.push_back(TaggedPacket { message, ..packet });
            }
            _ => self.read.push_back(packet),
        }
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.read.pop_front()
    }

    fn handle_write(&mut self, packet: TaggedPacket) -> Result<(), Error> {
        self.write.push_back(packet);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.write.pop_front()
    }
}

impl Interceptor for Lossy {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _: &StreamInfo) {}
}

const PATIENCE: Duration = Duration::from_secs(15);

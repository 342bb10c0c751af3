//! Clients in memory: what they would send is handed to an engine, and time is an argument.
//!
//! They offer what Chromium offers, so header extensions, feedback and repairs are negotiated as in a call.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use rtc_shared::error::Error;
use sluicegate::sans_io::{Engine, EngineConfig, Outlet, Path, SendFault, Transmit};
use sluicegate::{PeerConfig, PeerId, Subscribe};

use crate::ice;
use crate::payload::{self, Stamp};
use crate::sdp::{Answer, OPUS, VP8};
use crate::secure::{Identity, Secure};

/// Chromium's offer to send one camera and one microphone.
pub const PUBLISH: &str = include_str!("../../sfu/src/session/negotiate/golden/chromium-publish.sdp");
/// Chromium's offer to receive two publishers.
pub const SUBSCRIBE: &str = include_str!("../../sfu/src/session/negotiate/golden/chromium-subscribe.sdp");
/// Chromium's offer to send a camera in three layers, `q`, `h` and `f`. Their packets alone tell their SSRCs.
pub const SIMULCAST: &str = include_str!("../../sfu/src/session/negotiate/golden/chromium-simulcast.sdp");
/// Chromium's offer to a call: sends and receives.
pub const SENDRECV: &str = include_str!("../../sfu/src/session/negotiate/golden/chromium-sendrecv.sdp");

/// Where the engine listens.
pub const ENGINE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 3478);

/// Keeps what the engine sends, datagram by datagram.
#[derive(Default)]
pub struct Mailbox {
    /// To whom, and what.
    pub sent: Vec<(Path, Vec<u8>)>,
}

impl Outlet for Mailbox {
    fn send(&mut self, transmit: Transmit<'_>) -> Result<(), SendFault> {
        let segment = transmit.segment.unwrap_or(transmit.contents.len()).max(1);
        for datagram in transmit.contents.chunks(segment) {
            self.sent.push((transmit.path, datagram.to_vec()));
        }
        Ok(())
    }
}

/// An engine for `peers` in one room.
pub fn engine(identity: Arc<sluicegate::sans_io::Identity>, peers: usize) -> Engine {
    let mut config = EngineConfig::new(vec![ENGINE], identity);
    config.limits.peers_per_room = peers;
    Engine::new(config)
}

/// One client.
pub struct MemoryClient {
    /// Its id.
    pub peer: PeerId,
    /// Where it is.
    pub path: Path,
    /// DTLS and SRTP, once it has begun to connect.
    pub secure: Option<Secure>,
    /// The engine's answer.
    pub sdp: String,
    username: String,
    answer: Answer,
    identity: Identity,
}

impl MemoryClient {
    /// Joins `room` with a browser's offer. `number` tells the client's address.
    ///
    /// # Panics
    ///
    /// When the engine does not admit it, or gives an answer without a transport.
    pub fn join(
        engine: &mut Engine,
        now: Instant,
        room: &str,
        number: u32,
        identity: &Identity,
        (offer, subscribe): (&str, Subscribe),
    ) -> MemoryClient {
        let config = PeerConfig::new(number.to_string()).subscribe(subscribe);
        let offer = with_fingerprint(offer, &identity.fingerprint);
        let (peer, sdp) = engine.join(now, room, config, &offer).expect("a browser's offer is taken");
        let answer = Answer::parse(&sdp).expect("an answer has a transport");
        let ufrag = offer.lines().find_map(|line| line.strip_prefix("a=ice-ufrag:")).unwrap_or_default();
        MemoryClient {
            peer,
            path: path(number),
            secure: None,
            sdp,
            username: format!("{}:{ufrag}", answer.ufrag),
            answer,
            identity: identity.clone(),
        }
    }

    /// A connectivity check.
    pub fn check(&self) -> Vec<u8> {
        ice::check(&self.username, &self.answer.pwd, self.identity.provider.crypto())
            .expect("a check is built")
    }

    /// Begins DTLS: the handshake's first datagram waits in [`MemoryClient::secure`].
    pub fn start_dtls(&mut self, now: Instant) -> Result<(), Error> {
        self.secure = Some(Secure::connect(now, &self.identity, self.answer.fingerprint.clone())?);
        Ok(())
    }

    /// Checks its path and walks through the handshake, without loss and in no time.
    pub fn connect(&mut self, now: Instant, engine: &mut Engine) -> Result<(), Error> {
        engine.handle_datagram(now, now, self.path, &mut self.check());
        self.start_dtls(now)?;
        let mut mailbox = Mailbox::default();
        for _ in 0..ROUNDS {
            let secure = self.secure.as_mut().ok_or(Error::ErrConnectionClosed)?;
            while let Some(mut datagram) = secure.poll_transmit() {
                engine.handle_datagram(now, now, self.path, &mut datagram);
            }
            if secure.is_connected() {
                return Ok(());
            }
            engine.flush(now, &mut mailbox);
            for (path, datagram) in mailbox.sent.drain(..) {
                if path == self.path && matches!(datagram.first(), Some(20..=63)) {
                    secure.handle(now, &datagram)?;
                }
            }
        }
        Err(Error::ErrConnectionClosed)
    }
}

/// The address of client `number`.
pub fn path(number: u32) -> Path {
    let ip = Ipv4Addr::from(0x0a00_0000 | (number >> 4));
    Path::new(ENGINE.ip(), SocketAddr::new(ip.into(), 40_000 + (number & 15) as u16))
}

/// A recorded offer with a certificate of ours.
pub fn with_fingerprint(offer: &str, fingerprint: &str) -> String {
    let lines = offer.lines().map(|line| match line.starts_with("a=fingerprint:") {
        true => format!("a=fingerprint:{fingerprint}\r\n"),
        false => format!("{line}\r\n"),
    });
    lines.collect()
}

/// An offer as far as its first audio and its first video.
pub fn with_one_of_each(offer: &str) -> String {
    let lines: Vec<&str> = offer.split("m=").collect();
    let of = |kind: &str| *lines.iter().find(|line| line.starts_with(kind)).expect("it has a line");
    let (audio, video) = (of("audio"), of("video"));
    let mid = |line: &str| {
        line.split_once("a=mid:").expect("it has a name").1.lines().next().unwrap_or("").to_owned()
    };
    let bundle = |line: &str| match line.starts_with("a=group:BUNDLE") {
        true => format!("a=group:BUNDLE {} {}\r\n", mid(audio), mid(video)),
        false => format!("{line}\r\n"),
    };
    let head: String = lines[0].lines().map(bundle).collect();
    format!("{head}m={audio}m={video}")
}

/// The video of [`PUBLISH`]: packets with the extensions that Chromium writes.
#[derive(Default)]
pub struct Camera {
    sent: u64,
    keyframe_wanted: bool,
}

impl Camera {
    /// The stream that the offer announces.
    pub const SSRC: u32 = 2_295_767_434;

    /// The next frame is a keyframe, as the first one is.
    pub fn want_keyframe(&mut self) {
        self.keyframe_wanted = true;
    }

    /// One frame of `packets` RTP packets of `len` bytes.
    pub fn frame(&mut self, packets: usize, len: usize) -> Vec<Vec<u8>> {
        let keyframe = std::mem::take(&mut self.keyframe_wanted) || self.sent == 0;
        let frame = self.sent / packets.max(1) as u64;
        (0..packets).map(|at| self.packet(frame, at, packets, len, keyframe)).collect()
    }

    fn packet(&mut self, frame: u64, at: usize, packets: usize, len: usize, keyframe: bool) -> Vec<u8> {
        let timestamp = (frame * 3_000) as u32;
        let marker = if at + 1 == packets { 0x80 } else { 0 };
        // abs-send-time is 2.
        let mut packet = header(marker | VP8, self.sent as u16, timestamp, Self::SSRC, [0x22, 0, 0, 0], b'1');
        let stamp = Stamp { publisher: 0, seq: self.sent, sent: 0, timestamp };
        let payload = len.saturating_sub(packet.len());
        payload::vp8(&mut packet, stamp, payload, at == 0, keyframe, frame as u16);
        self.sent += 1;
        packet
    }
}

/// The audio of [`PUBLISH`]: Opus packets that say how loud they are, with the extensions that Chromium writes.
#[derive(Default)]
pub struct Microphone {
    sent: u64,
}

impl Microphone {
    /// The stream that the offer announces.
    pub const SSRC: u32 = 4_019_664_127;

    /// The next 20 ms, `level` decibels below the loudest there is.
    pub fn packet(&mut self, level: u8, len: usize) -> Vec<u8> {
        let timestamp = (self.sent * 960) as u32;
        // RFC 6464: voice.
        let level = [0x10, 0x80 | level, 0, 0];
        let mut packet = header(OPUS, self.sent as u16, timestamp, Self::SSRC, level, b'0');
        let stamp = Stamp { publisher: 0, seq: self.sent, sent: 0, timestamp };
        let payload = len.saturating_sub(packet.len());
        payload::opus(&mut packet, stamp, payload);
        self.sent += 1;
        packet
    }
}

/// An RTP header and its extensions (RFC 8285 §4.2): `first`, the transport-wide number, 3, and the mid, 4; three words.
fn header(kind: u8, seq: u16, timestamp: u32, ssrc: u32, first: [u8; 4], mid: u8) -> Vec<u8> {
    let mut packet = vec![0x90, kind];
    packet.extend(seq.to_be_bytes());
    packet.extend(timestamp.to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.extend([0xbe, 0xde, 0, 3]);
    packet.extend(first);
    packet.push(0x31);
    packet.extend(seq.to_be_bytes());
    packet.extend([0x40, mid, 0, 0, 0]);
    packet
}

/// Flights of a DTLS handshake: three each way; more means that something is lost.
const ROUNDS: usize = 10;

#[test]
fn a_frame_reaches_a_subscriber() {
    let ours = Arc::new(sluicegate::sans_io::Identity::generate().unwrap());
    let identity = Identity::generate().unwrap();
    let mut engine = engine(ours, 2);
    let now = crate::clock::now();
    let (publish, watch) = ((PUBLISH, Subscribe::Nothing), (SUBSCRIBE, Subscribe::Slots(Default::default())));
    let mut ada = MemoryClient::join(&mut engine, now, "room", 0, &identity, publish);
    let mut bob = MemoryClient::join(&mut engine, now, "room", 1, &identity, watch);
    ada.connect(now, &mut engine).unwrap();
    bob.connect(now, &mut engine).unwrap();
    let mut mailbox = Mailbox::default();
    let secure = ada.secure.as_mut().unwrap();
    for packet in Camera::default().frame(5, 1_200) {
        assert_eq!(packet.len(), 1_200);
        let mut sealed = secure.seal(&packet).unwrap();
        engine.handle_datagram(now, now, ada.path, &mut sealed);
    }
    assert!(engine.flush(now, &mut mailbox));
    let secure = bob.secure.as_mut().unwrap();
    let opened: Vec<_> = mailbox
        .sent
        .iter()
        .filter(|(path, datagram)| {
            *path == bob.path && matches!(datagram[..2], [0x90, pt] if pt & 0x7f == VP8)
        })
        .map(|(_, datagram)| secure.open(datagram).unwrap())
        .collect();
    assert_eq!(opened.len(), 5);
}

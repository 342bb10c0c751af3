//! An attacker who is in the room: authenticated, with keys of its own, and free to seal whatever it likes.

use std::sync::OnceLock;

use bytes::BytesMut;
use sluicegate::sans_io::{Outbound, Ssrc};
use sluicegate::{Subscribe, TrackFilter};
use sluicegate_benches::memory::{MemoryClient, PUBLISH, SIMULCAST, SUBSCRIBE};
use sluicegate_benches::secure::Identity;
use sluicegate_tests::world::{ENGINE, World};

use super::datagram::{is_dtls, is_rtcp, is_rtp};

/// A connected client in memory.
pub struct Mallory {
    pub client: MemoryClient,
    sealing: Outbound,
}

impl Mallory {
    /// The camera that [`Mallory::publishing`] announces, its repair stream, and their payload types.
    pub const CAMERA: u32 = 2_295_767_434;
    pub const VP8: u8 = 96;
    /// Its microphone.
    pub const AUDIO: u32 = 4_019_664_127;

    /// What it sends when [`layered`](Mallory::layered): the microphone it announces, and layers by rid.
    pub const MICROPHONE: u32 = 1_160_200_103;
    pub const LAYERS: [(u32, &str); 3] = [(0x1a_0001, "q"), (0x1a_0002, "h"), (0x1a_0003, "f")];

    /// Publishes what Chromium offers: one audio and one video section.
    pub fn publishing(world: &mut World, room: &str, number: u32) -> Mallory {
        Mallory::join(world, room, number, (PUBLISH, Subscribe::Nothing))
    }

    /// Publishes a microphone and a camera in three layers, in any codec.
    pub fn layered(world: &mut World, room: &str, number: u32) -> Mallory {
        Mallory::join(world, room, number, (&of_any_codec(SIMULCAST), Subscribe::Nothing))
    }

    /// Receives one publisher, in any codec, and with dependency descriptors.
    pub fn viewing(world: &mut World, room: &str, number: u32, publisher: u32) -> Mallory {
        let descriptors = "a=extmap:12 https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension\r\n";
        let offer = of_any_codec(SUBSCRIBE).replace("a=extmap:13 ", &format!("{descriptors}a=extmap:13 "));
        let filter = TrackFilter { publisher: Some(publisher.to_string()), ..Default::default() };
        Mallory::join(world, room, number, (&offer, Subscribe::Slots(filter)))
    }

    /// Publishes as well, and has data channels.
    pub fn speaking(world: &mut World, room: &str, number: u32) -> Mallory {
        let line = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:9\r\na=sctp-port:5000\r\n";
        let offer = PUBLISH.replace("a=group:BUNDLE 0 1", "a=group:BUNDLE 0 1 9");
        Mallory::join(world, room, number, (&format!("{offer}{line}"), Subscribe::Nothing))
    }

    /// Sends an SCTP packet, whatever is in it.
    pub fn send_sctp(&mut self, world: &mut World, packet: &[u8]) {
        let secure = self.client.secure.as_mut().expect("it is connected");
        secure.say(world.now, packet).expect("DTLS carries anything");
        while let Some(datagram) = secure.poll_transmit() {
            world.inject(self.client.path.remote, &datagram);
        }
    }

    /// The SCTP packets that have come to it.
    pub fn hears_sctp(&mut self, world: &mut World) -> Vec<BytesMut> {
        let heard = world.heard_at(self.client.path.remote);
        let secure = self.client.secure.as_mut().expect("it is connected");
        for datagram in heard.iter().filter(|datagram| is_dtls(datagram)) {
            secure.handle(world.now, datagram).expect("the server is honest");
        }
        std::mem::take(&mut secure.data)
    }

    /// Receives two publishers, as a player does.
    pub fn watching(world: &mut World, room: &str, number: u32) -> Mallory {
        Mallory::join(world, room, number, (SUBSCRIBE, Subscribe::Slots(Default::default())))
    }

    fn join(world: &mut World, room: &str, number: u32, part: (&str, Subscribe)) -> Mallory {
        let now = world.now;
        let mut client = MemoryClient::join(&mut world.engine, now, room, number, identity(), part);
        let at = client.path.remote;
        world.listen_at(at);
        world.inject(at, &client.check());
        client.start_dtls(now).expect("a handshake begins");
        for _ in 0..10 {
            let secure = client.secure.as_mut().expect("it has begun");
            while let Some(datagram) = secure.poll_transmit() {
                world.inject(at, &datagram);
            }
            if let Some(keys) = secure.keys() {
                let sealing = Outbound::new(keys).expect("the keys fit");
                return Mallory { client, sealing };
            }
            for datagram in world.heard_at(at).iter().filter(|datagram| is_dtls(datagram)) {
                secure.handle(now, datagram).expect("the server is honest");
            }
        }
        panic!("no connection after ten rounds");
    }

    /// Consents to go on receiving.
    pub fn check(&self, world: &mut World) {
        world.inject(self.client.path.remote, &self.client.check());
    }

    /// Seals an RTP packet under any index whose low bits its header has, and sends it.
    pub fn send_rtp(&mut self, world: &mut World, index: u64, plain: &[u8]) {
        let sealed = self.seal_rtp(index, plain);
        world.inject(self.client.path.remote, &sealed);
    }

    pub fn seal_rtp(&mut self, index: u64, plain: &[u8]) -> Vec<u8> {
        let ssrc = u32::from_be_bytes(plain[8..12].try_into().expect("four bytes"));
        let stream = self.sealing.open_stream(Ssrc(ssrc));
        let mut packet = plain.to_vec();
        packet.resize(plain.len() + 16, 0);
        let len = self.sealing.seal_rtp(stream, index, header_len(plain), plain.len(), &mut packet);
        packet.truncate(len.expect("a fresh index"));
        packet
    }

    /// Sends RTCP under its keys, whatever is in it. The datagram's length.
    pub fn send_rtcp(&mut self, world: &mut World, compound: &[u8]) -> usize {
        let sealed = self.sealing.seal_rtcp(compound);
        world.inject(self.client.path.remote, &sealed);
        sealed.len()
    }

    /// What is said to it has been read. Whether a keyframe was asked for.
    pub fn hears_of_keyframes(&mut self, world: &mut World) -> bool {
        let heard = world.heard_at(self.client.path.remote);
        let secure = self.client.secure.as_mut().expect("it is connected");
        let compounds = heard.iter().filter(|datagram| is_rtcp(datagram));
        let mut asked = false;
        for compound in compounds.filter_map(|datagram| secure.open_rtcp(datagram).ok()) {
            let mut rest = &compound[..];
            while let [first, kind, high, low, ..] = *rest {
                asked |= (first & 0x1f, kind) == (1, 206);
                let len = 4 * (usize::from(u16::from_be_bytes([high, low])) + 1);
                rest = rest.get(len..).unwrap_or_default();
            }
        }
        asked
    }

    /// How many media packets have come to it under each payload type since the last call.
    pub fn counts(&mut self, world: &mut World) -> [usize; 128] {
        let mut counts = [0; 128];
        let secure = self.client.secure.as_mut().expect("it is connected");
        for datagram in world.heard_at(self.client.path.remote).iter().filter(|datagram| is_rtp(datagram)) {
            let opened = secure.open(datagram).expect("what the engine seals can be opened");
            counts[usize::from(opened[1] & 0x7f)] += 1;
        }
        counts
    }

    /// The SSRCs that the engine announced to it, in the order of their lines.
    pub fn slots(&self) -> Vec<u32> {
        let mut ssrcs: Vec<u32> = Vec::new();
        let lines = self.client.sdp.lines().filter_map(|line| line.strip_prefix("a=ssrc:"));
        for ssrc in lines.filter_map(|line| line.split(' ').next()?.parse().ok()) {
            if !ssrcs.contains(&ssrc) {
                ssrcs.push(ssrc);
            }
        }
        ssrcs
    }

    /// Bytes to the engine, and from it.
    pub fn traffic(&self, world: &World) -> [u64; 2] {
        world.traffic.get(&self.client.path.remote).copied().unwrap_or_default()
    }
}

/// One certificate for all of them.
fn identity() -> &'static Identity {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    assert_eq!(ENGINE, sluicegate_benches::memory::ENGINE, "both worlds have the engine at one address");
    IDENTITY.get_or_init(|| Identity::generate().expect("a certificate is made"))
}

/// RFC 3550 §5.1 and §5.3.1, but never past the packet.
fn header_len(packet: &[u8]) -> usize {
    let fixed = 12 + usize::from(packet[0] & 15) * 4;
    let extension = match (packet[0] & 0x10 != 0, packet.get(fixed + 2..fixed + 4)) {
        (true, Some(&[high, low])) => 4 + usize::from(u16::from_be_bytes([high, low])) * 4,
        _ => 0,
    };
    (fixed + extension).min(packet.len())
}

/// A browser's offer with H.265 in its video sections, under 50, which no browser we have offers.
fn of_any_codec(offer: &str) -> String {
    let h265 = "a=rtpmap:50 H265/90000\r\na=rtcp-fb:50 nack\r\na=rtpmap:51 rtx/90000\r\na=fmtp:51 apt=50\r\n";
    let listed = offer.replace("SAVPF 96 97", "SAVPF 96 97 50 51");
    listed.replace("a=rtpmap:96 ", &format!("{h265}a=rtpmap:96 "))
}

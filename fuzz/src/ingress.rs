//! A room of two on a real engine, and a script of what reaches it: honest, spoiled and forged datagrams,
//! time, a socket that is full, and the host's calls. One of the two sends one camera stream, the other three
//! layers; both write dependency descriptors.
//!
//! After every step: nothing has panicked, nothing has grown past its bound, every copy is in the books, nobody
//! hears from us who has not proved to be there, and nobody hears much more than they said. In the end everybody
//! leaves, and nothing is left.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use sluicegate::sans_io::{Engine, Identity, Outbound, Outlet, Path, SendFault, Ssrc, Transmit};
use sluicegate::{Audible, Bitrate, LayerLimit, MediaKind, PeerEvent, PeerId, Subscribe, TrackSource};
use sluicegate_benches::clock;
use sluicegate_benches::memory::{Camera, MemoryClient, SENDRECV, engine, path, with_fingerprint};
use sluicegate_benches::secure;

use crate::negotiation::obliging_answer;
use crate::script::Script;

/// Steps of a script, by their first byte modulo [`KINDS`].
pub mod step {
    /// Bytes as they are.
    pub const RAW: u8 = 0;
    /// An authentic connectivity check.
    pub const CHECK: u8 = 1;
    /// One with flipped bits.
    pub const SPOILED_CHECK: u8 = 2;
    /// A plausible DTLS record.
    pub const RECORD: u8 = 3;
    /// The handshake's next datagrams.
    pub const HANDSHAKE: u8 = 4;
    /// Those with flipped bits.
    pub const SPOILED_HANDSHAKE: u8 = 5;
    /// A whole handshake.
    pub const CONNECT: u8 = 6;
    /// RTP under the right keys, whatever is in it.
    pub const RTP: u8 = 7;
    /// RTCP under the right keys, whatever is in it.
    pub const RTCP: u8 = 8;
    /// Feedback under the right keys about a stream we send.
    pub const FEEDBACK: u8 = 9;
    /// A frame of the camera; of layers, perhaps a keyframe.
    pub const FRAME: u8 = 10;
    /// The socket is full for a while.
    pub const FULL: u8 = 11;
    /// Time passes.
    pub const TIME: u8 = 12;
    /// The host calls.
    pub const HOST: u8 = 13;
    /// A datagram of before, with flipped bits or without.
    pub const REPLAY: u8 = 14;
    /// RTP or RTCP that no key has sealed.
    pub const FORGED: u8 = 15;
    /// A packet of a layer under the right keys: its names, descriptor and payload as the script says.
    pub const LAYER: u8 = 16;
}

/// How many kinds of steps there are.
pub const KINDS: u8 = 17;

/// What a script came to.
#[derive(Clone, Copy, Default, Debug)]
pub struct Driven {
    /// Datagrams that reached the engine.
    pub datagrams: usize,
    /// Times that a subscriber was told of another layer.
    pub switches: usize,
}

/// Drives one input.
pub fn run(input: &[u8]) {
    drive(input);
}

/// Drives one input, and says what it came to.
///
/// # Panics
///
/// When a promise breaks.
pub fn drive(input: &[u8]) -> Driven {
    let mut script = Script::new(input);
    let mut world = World::new();
    for _ in 0..MAX_STEPS {
        if script.is_over() {
            break;
        }
        world.step(&mut script);
        world.settle();
    }
    world.leave()
}

struct World {
    engine: Engine,
    now: Instant,
    clients: Vec<Seat>,
    outlet: Meter,
    /// Bytes to the engine, of all.
    received: u64,
    driven: Driven,
    /// Somebody has connected: what goes out then follows from media and time as well.
    connected: bool,
    born: Instant,
    recent: Vec<Vec<u8>>,
    authentic: HashSet<Vec<u8>>,
    offers: Vec<(usize, String)>,
}

struct Seat {
    client: MemoryClient,
    outbound: Option<Outbound>,
    /// The last packet's, by SSRC.
    indices: HashMap<u32, u64>,
    camera: Camera,
    /// Pictures so far.
    pictures: u16,
    /// SSRCs that the engine announced to it.
    slots: Vec<u32>,
}

/// Counts what leaves, by path, and is full when the script says so.
#[derive(Default)]
struct Meter {
    full: u8,
    refuses: bool,
    sent: u64,
    by_path: HashMap<Path, u64>,
    dtls: Vec<(Path, Vec<u8>)>,
}

impl Outlet for Meter {
    fn send(&mut self, transmit: Transmit<'_>) -> Result<(), SendFault> {
        assert!(!transmit.contents.is_empty(), "nothing is sent as something");
        if self.full > 0 {
            self.full -= 1;
            return Err(if self.refuses { SendFault::Refused } else { SendFault::WouldBlock });
        }
        self.sent += transmit.contents.len() as u64;
        *self.by_path.entry(transmit.path).or_default() += transmit.contents.len() as u64;
        if matches!(transmit.contents.first(), Some(20..=63)) {
            self.dtls.push((transmit.path, transmit.contents.to_vec()));
        }
        Ok(())
    }
}

impl World {
    fn new() -> World {
        let mut engine = engine(ours(), PEERS);
        let now = origin();
        let clients = (0..PEERS as u32)
            .map(|number| {
                let part = (offers()[number as usize].as_str(), Subscribe::Auto);
                let client = MemoryClient::join(&mut engine, now, "room", number * 16, theirs(), part);
                let ssrcs = client.sdp.lines().filter_map(|line| line.strip_prefix("a=ssrc:"));
                let ssrcs = ssrcs.filter_map(|line| line.split(' ').next()?.parse().ok());
                Seat {
                    slots: ssrcs.collect(),
                    client,
                    outbound: None,
                    indices: HashMap::new(),
                    camera: Camera::default(),
                    pictures: 0,
                }
            })
            .collect();
        World {
            engine,
            now,
            clients,
            outlet: Meter::default(),
            received: 0,
            driven: Driven::default(),
            connected: false,
            born: now,
            recent: Vec::new(),
            authentic: HashSet::new(),
            offers: Vec::new(),
        }
    }

    fn step(&mut self, script: &mut Script<'_>) {
        let (kind, delta, seat) = (script.byte() % KINDS, script.byte(), script.byte());
        self.pass(Duration::from_millis(delta.into()));
        let who = usize::from(seat & 1);
        let from = path(who as u32 * 16 + u32::from(seat >> 1 & 3));
        match kind {
            step::RAW => self.send(from, script.bytes().to_vec()),
            step::CHECK | step::SPOILED_CHECK => {
                let mut check = self.clients[who].client.check();
                self.authentic.insert(check.clone());
                if kind == step::SPOILED_CHECK {
                    script.spoil(&mut check);
                }
                self.send(from, check);
            }
            step::RECORD => {
                let record = record(script);
                self.send(from, record);
            }
            step::HANDSHAKE => self.shake(who, from, None),
            step::SPOILED_HANDSHAKE => self.shake(who, from, Some(script)),
            step::CONNECT => self.connect(who),
            step::RTP => {
                let packet = script.bytes().to_vec();
                self.send_rtp(who, from, script.byte(), packet);
            }
            step::RTCP => self.send_rtcp(who, from, script.bytes()),
            step::FEEDBACK => {
                let compound = feedback(script, &self.clients[who].slots);
                self.send_rtcp(who, from, &compound);
            }
            step::FRAME => {
                let how = script.byte();
                for packet in self.clients[who].camera.frame(1 + usize::from(how % 8), 300) {
                    match who == LAYERED {
                        true => self.send_in_layers(who, from, how & 0xc0 == 0x40, &packet),
                        false => self.send_rtp(who, from, 0, packet),
                    }
                }
                self.clients[who].pictures += 1;
            }
            step::LAYER => {
                let packet = layer(script);
                // On the stream that it names, and on this index or one that leaps.
                let jump = script.byte() | 16;
                self.send_rtp(who, from, jump, packet);
            }
            step::FULL => {
                let how = script.byte();
                (self.outlet.full, self.outlet.refuses) = (how & 7, how & 8 != 0);
            }
            step::TIME => self.pass(Duration::from_millis(u64::from(script.byte()) * 100)),
            step::HOST => self.call(who, script),
            step::REPLAY => {
                let at = usize::from(script.byte());
                if let Some(mut datagram) = self.recent.get(at % self.recent.len().max(1)).cloned() {
                    script.spoil(&mut datagram);
                    self.send(from, datagram);
                }
            }
            _ => {
                let mut datagram = script.bytes().to_vec();
                if let Some(first) = datagram.first_mut() {
                    *first = *first & 0x3f | 0x80;
                }
                self.send(from, datagram);
            }
        }
    }

    fn send(&mut self, from: Path, mut datagram: Vec<u8>) {
        self.received += datagram.len() as u64;
        self.driven.datagrams += 1;
        if !self.authentic.contains(&datagram) && !self.may_be_authentic(&datagram) {
            // Anything else makes no path valid, so it must not be answered on one that is not.
            self.outlet.by_path.entry(from).or_default();
        }
        if self.recent.len() == RECENT {
            self.recent.remove(0);
        }
        self.recent.push(datagram.clone());
        let before = self.engine.footprint();
        let might_validate = matches!(datagram.first(), Some(0..=3));
        self.engine.handle_datagram(self.now, self.now, from, &mut datagram);
        let after = self.engine.footprint();
        assert!(might_validate || after[2] <= before[2], "only a check validates a path");
    }

    /// Flipped bits behind MESSAGE-INTEGRITY, or none at all, leave a check what it is.
    fn may_be_authentic(&self, datagram: &[u8]) -> bool {
        matches!(datagram.first(), Some(0..=3)) && !self.authentic.is_empty()
    }

    fn shake(&mut self, who: usize, from: Path, mut spoil: Option<&mut Script<'_>>) {
        let seat = &mut self.clients[who].client;
        if seat.secure.is_none() && seat.start_dtls(self.now).is_err() {
            return;
        }
        let mut flight = Vec::new();
        if let Some(secure) = &mut seat.secure {
            for (path, datagram) in self.outlet.dtls.drain(..) {
                if path.remote.ip() == from.remote.ip() {
                    let _ = secure.handle(self.now, &datagram);
                }
            }
            while let Some(datagram) = secure.poll_transmit() {
                flight.push(datagram.to_vec());
            }
        }
        for mut datagram in flight {
            if let Some(script) = &mut spoil {
                script.spoil(&mut datagram);
            }
            self.send(from, datagram);
        }
        self.note_keys(who);
    }

    fn connect(&mut self, who: usize) {
        if self.clients[who].outbound.is_some() {
            return;
        }
        // Several handshakes would make a script slow, and what follows is the same.
        let _ = self.clients[who].client.connect(self.now, &mut self.engine);
        self.connected = true;
        self.note_keys(who);
    }

    fn note_keys(&mut self, who: usize) {
        let seat = &mut self.clients[who];
        if seat.outbound.is_none()
            && let Some(keys) = seat.client.secure.as_ref().and_then(secure::Secure::keys)
        {
            seat.outbound = Some(Outbound::new(keys).expect("the keys fit"));
            self.connected = true;
        }
    }

    /// Seals what need not be RTP beyond its first byte, under an index that `jump` moves.
    fn send_rtp(&mut self, who: usize, from: Path, jump: u8, mut packet: Vec<u8>) {
        let seat = &mut self.clients[who];
        let Some(outbound) = &mut seat.outbound else { return };
        if packet.len() < 12 {
            packet.resize(12, 0);
        }
        packet[0] = packet[0] & 0x3f | 0x80;
        // RTCP otherwise.
        if (192..=223).contains(&packet[1]) {
            packet[1] ^= 0x80;
        }
        let ssrc = match jump & 16 != 0 {
            true => u32::from_be_bytes([packet[8], packet[9], packet[10], packet[11]]),
            false => CAMERAS,
        };
        let index = seat.indices.entry(ssrc).or_default();
        *index += 1 + (1u64 << (jump & 15)) * u64::from(jump >> 4 > 12);
        let index = *index;
        packet[2..4].copy_from_slice(&(index as u16).to_be_bytes());
        packet[8..12].copy_from_slice(&ssrc.to_be_bytes());
        let (header_len, len) = (header_len(&packet), packet.len());
        packet.resize(len + 16, 0);
        let stream = outbound.open_stream(Ssrc(ssrc));
        if let Ok(sealed) = outbound.seal_rtp(stream, index, header_len, len, &mut packet) {
            packet.truncate(sealed);
            self.send(from, packet);
        }
    }

    /// What the camera has, as each of its layers: named, and described for who cannot look into it, as a keyframe
    /// or not.
    fn send_in_layers(&mut self, who: usize, from: Path, keyframe: bool, packet: &[u8]) {
        let number = self.clients[who].pictures;
        let payload = &packet[header_len(packet)..];
        let start = payload.first().is_some_and(|first| first & 0x10 != 0);
        let [high, low] = number.to_be_bytes();
        let mut descriptor = vec![u8::from(start) << 7 | packet[1] >> 1 & 0x40, high, low];
        if keyframe || number == 0 {
            descriptor.extend(ONE_LAYER);
        }
        for (layer, rid) in RIDS.iter().enumerate() {
            let elements = [(MID, &b"1"[..]), (RID, rid.as_bytes()), (DESCRIPTOR, &descriptor)];
            let mut packet = with_extensions([0x90, packet[1]], layer as u32, &elements, payload);
            packet[4..8].copy_from_slice(&(u32::from(number) * 3_000).to_be_bytes());
            self.send_rtp(who, from, 16, packet);
        }
    }

    fn send_rtcp(&mut self, who: usize, from: Path, compound: &[u8]) {
        let Some(outbound) = &mut self.clients[who].outbound else { return };
        let sealed = outbound.seal_rtcp(compound).to_vec();
        if matches!(sealed.first(), Some(128..=191)) {
            self.send(from, sealed);
        }
    }

    fn cap(&mut self, peer: PeerId, cap: Option<Bitrate>, whose: u8) {
        let now = self.now;
        let _ = match whose % 5 {
            0 => self.engine.set_publish_cap(now, peer, cap),
            1 => self.engine.set_downlink_cap(now, peer, cap),
            2 => self.engine.set_track_cap(now, peer, "1", cap),
            3 => {
                self.engine.set_room_cap(now, "room", cap);
                Ok(())
            }
            _ => {
                self.engine.set_egress_cap(now, cap);
                Ok(())
            }
        };
    }

    /// Who is to be heard and seen.
    fn choose(&mut self, peer: PeerId, choice: u8, n: u8) {
        let now = self.now;
        let some = (n < 128).then_some(u32::from(n));
        match choice % 6 {
            0 => self.engine.set_audible(now, "room", Audible::Loudest(n)),
            1 => self.engine.set_room_last_n(now, "room", some),
            2 => _ = self.engine.set_last_n(now, peer, some),
            3 => _ = self.engine.pin(now, peer, if n & 1 == 0 { "1" } else { "0" }, n & 2 == 0),
            4 => _ = self.engine.set_source(now, peer, "1", TrackSource::Screen),
            _ => self.engine.forget_settings(now, "room"),
        }
    }

    fn call(&mut self, who: usize, script: &mut Script<'_>) {
        let (now, peer) = (self.now, self.clients[who].client.peer);
        match script.byte() % 7 {
            0 => self.cap(peer, Some(Bitrate::kbps(script.byte().into())), script.byte()),
            1 => self.cap(peer, None, script.byte()),
            2 => self.engine.resync(now, peer),
            3 => {
                let _ =
                    self.engine.offer(now, peer, &with_fingerprint(&offers()[who], &theirs().fingerprint));
            }
            4 => {
                for (who, sdp) in std::mem::take(&mut self.offers) {
                    let answer = obliging_answer(&sdp);
                    let _ = self.engine.answer(now, self.clients[who].client.peer, &answer);
                }
            }
            5 => self.engine.leave(now, peer),
            _ => match (script.byte(), script.byte()) {
                (choice @ 128.., n) => self.choose(peer, choice, n),
                (spatial, temporal) => {
                    let limit = LayerLimit { spatial: spatial & 3, temporal: temporal & 3 };
                    self.engine.limit_layers(now, peer, "1", limit);
                }
            },
        }
    }

    /// Time passes, and everybody is served whose turn comes.
    fn pass(&mut self, by: Duration) {
        let end = self.now + by;
        while let Some(due) = self.engine.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            let mut turns = 0;
            while self.engine.handle_timeout(self.now) {
                turns += 1;
                assert!(turns < MAX_TURNS, "time stands still");
            }
            self.settle();
        }
        self.now = end;
    }

    /// Lets everything out, and holds the promises.
    fn settle(&mut self) {
        self.engine.flush(self.now, &mut self.outlet);
        self.outlet.dtls.truncate(32);
        while let Some((peer, event)) = self.engine.poll_event() {
            let who = self.clients.iter().position(|seat| seat.client.peer == peer);
            match (who, event) {
                (Some(who), PeerEvent::Offer { sdp }) => {
                    self.offers.retain(|(other, _)| *other != who);
                    self.offers.push((who, sdp));
                }
                (_, PeerEvent::LayerChanged { .. }) => self.driven.switches += 1,
                _ => {}
            }
        }
        let [sessions, rooms, paths, ufrags, timers] = self.engine.footprint();
        assert!(sessions <= PEERS && rooms <= 1, "{sessions} sessions, {rooms} rooms");
        assert!(paths <= sessions * 8, "{paths} paths of {sessions} sessions");
        assert!(ufrags <= sessions * 2, "{ufrags} ufrags of {sessions} sessions");
        // One of them is for caps that are shared.
        assert!(timers <= sessions + rooms + 1, "{timers} timers of {sessions} sessions");
        for kind in [MediaKind::Audio, MediaKind::Video] {
            assert_eq!(self.engine.counters.unaccounted(kind), 0, "{kind} copies unaccounted for");
        }
        let streams = self.engine.streams();
        assert!(streams <= sessions * 64, "{streams} streams of {sessions} sessions");
        let age = self.now.saturating_duration_since(self.born).as_secs() + 1;
        let allowed = match self.connected {
            false => 3 * self.received + SPARE,
            // Media to the other, answers, and reports as time passes.
            true => 4 * self.received + SPARE + age * REPORTS,
        };
        let sent = self.outlet.sent;
        assert!(sent <= allowed, "{sent} bytes out for {} in, after {age} s", self.received);
    }

    fn leave(mut self) -> Driven {
        self.outlet.full = 0;
        self.engine.shutdown(self.now);
        self.settle();
        let [sessions, rooms, paths, ufrags, timers] = self.engine.footprint();
        assert_eq!([sessions, rooms, paths, ufrags], [0; 4], "everybody has left");
        // Caps on the machine and on rooms outlive those who were in them.
        assert!(timers <= 1, "{timers} timers of nobody");
        assert!(!self.engine.has_output(self.now), "nothing waits");
        assert_eq!(self.engine.counters.gauges.queued, [0; 2], "nothing is queued");
        assert_eq!(self.engine.streams(), 0, "nor is any stream");
        self.driven
    }
}

/// A packet of one layer: which one, under which payload type, with which of its names, and with the script's own
/// descriptor.
fn layer(script: &mut Script<'_>) -> Vec<u8> {
    let (which, how) = (script.byte(), script.byte());
    let (descriptor, payload) = (script.bytes(), script.bytes());
    let rid = RIDS.get(usize::from(which & 3)).unwrap_or(&"x");
    let mut elements = vec![];
    if how & 1 == 0 {
        elements.push((MID, &b"1"[..]));
    }
    if how & 2 == 0 {
        elements.push((if how & 4 == 0 { RID } else { REPAIRED_RID }, rid.as_bytes()));
    }
    if how & 8 == 0 {
        elements.push((DESCRIPTOR, &descriptor[..descriptor.len().min(255)]));
    }
    let pt = TYPES[usize::from(which >> 4) % TYPES.len()];
    let mut packet = with_extensions([0x90, how & 0x80 | pt], (which >> 2 & 3).into(), &elements, payload);
    packet[4..8].copy_from_slice(&(u32::from(how >> 4 & 7) * 3_000).to_be_bytes());
    packet
}

/// An RTP packet with header extensions in the two-byte form, RFC 8285 §4.3, on the stream of a layer.
fn with_extensions(first: [u8; 2], layer: u32, elements: &[(u8, &[u8])], payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![first[0], first[1], 0, 0, 0, 0, 0, 0];
    packet.extend((LAYERS + layer).to_be_bytes());
    let mut block: Vec<u8> =
        elements.iter().flat_map(|(id, value)| [&[*id, value.len() as u8], *value].concat()).collect();
    block.resize(block.len().next_multiple_of(4), 0);
    packet.extend([0x10, 0]);
    packet.extend((block.len() as u16 / 4).to_be_bytes());
    packet.extend(block);
    packet.extend(payload);
    packet
}

/// A record with an honest length, so that its body is looked at.
fn record(script: &mut Script<'_>) -> Vec<u8> {
    let mut record =
        vec![20 + script.byte() % 44, 0xfe, 0xfd, 0, script.byte() & 1, 0, 0, 0, 0, 0, script.byte()];
    let body = script.bytes();
    record.extend((body.len() as u16).to_be_bytes());
    record.extend(body);
    record
}

/// RFC 4585 and RFC 5104 messages about one of `slots`, or about an SSRC of the script's.
fn feedback(script: &mut Script<'_>, slots: &[u32]) -> Vec<u8> {
    let (which, slot) = (script.byte(), script.byte());
    let media = slots.get(usize::from(slot)).copied().unwrap_or(u32::from(slot));
    let (format, kind) = [(1, 206), (4, 206), (1, 205), (15, 205), (15, 206), (1, 200), (1, 201), (0, 203)]
        [usize::from(which % 8)];
    let mut compound = vec![0x80 | format, kind, 0, 0];
    compound.extend(1u32.to_be_bytes());
    compound.extend(media.to_be_bytes());
    if (format, kind) == (4, 206) {
        compound.extend(media.to_be_bytes());
        compound.extend([script.byte(), 0, 0, 0]);
    }
    compound.extend(script.bytes());
    compound.resize(compound.len().next_multiple_of(4), 0);
    let words = (compound.len() / 4 - 1) as u16;
    compound[2..4].copy_from_slice(&words.to_be_bytes());
    compound
}

/// As RFC 3550 §5.1 has it, but never past the packet.
fn header_len(packet: &[u8]) -> usize {
    let fixed = 12 + usize::from(packet[0] & 15) * 4;
    let extension = match (packet[0] & 0x10 != 0, packet.get(fixed + 2..fixed + 4)) {
        (true, Some(&[high, low])) => 4 + usize::from(u16::from_be_bytes([high, low])) * 4,
        _ => 0,
    };
    (fixed + extension).min(packet.len())
}

fn ours() -> Arc<Identity> {
    static OURS: OnceLock<Arc<Identity>> = OnceLock::new();
    OURS.get_or_init(|| Arc::new(Identity::generate().expect("a certificate is made"))).clone()
}

fn theirs() -> &'static secure::Identity {
    static THEIRS: OnceLock<secure::Identity> = OnceLock::new();
    THEIRS.get_or_init(|| secure::Identity::generate().expect("a certificate is made"))
}

/// What the two offer: [`SENDRECV`], which both can describe their frames by; and the second in three layers.
fn offers() -> &'static [String; 2] {
    static OFFERS: OnceLock<[String; 2]> = OnceLock::new();
    OFFERS.get_or_init(|| {
        let described = SENDRECV.replace("a=extmap:13 ", DESCRIPTORS);
        let video = described.find("m=video").expect("a camera is offered");
        let lines = described[video..].lines().filter(|line| !line.starts_with("a=ssrc"));
        let unannounced: String = lines.map(|line| format!("{line}\r\n")).collect();
        let rids: String = RIDS.iter().map(|rid| format!("a=rid:{rid} send\r\n")).collect();
        let layered =
            format!("{}{unannounced}{rids}a=simulcast:send {}\r\n", &described[..video], RIDS.join(";"));
        [described, layered]
    })
}

fn origin() -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    *ORIGIN.get_or_init(clock::now)
}

/// In the room.
const PEERS: usize = 2;
/// An input is at most this long in steps.
const MAX_STEPS: usize = 2_048;
/// Datagrams kept to be replayed.
const RECENT: usize = 16;
/// At one instant. Each party is due once; serving one may make another due.
const MAX_TURNS: usize = 16;
/// A handshake's largest flight is 1.3 kB, and a lost one is sent again a few times.
const SPARE: u64 = 32 * 1024;
/// Bytes per second to two connected peers: feedback each 50 ms, reports each second.
const REPORTS: u64 = 16 * 1024;
/// The video that [`SENDRECV`] announces.
const CAMERAS: u32 = 1_483_592_218;
/// Who of the two sends layers.
const LAYERED: usize = 1;
/// Their SSRCs count up from here, which only their packets tell.
const LAYERS: u32 = 0x1a00_0000;
const RIDS: [&str; 3] = ["q", "h", "f"];
/// Header extensions as offered.
const MID: u8 = 4;
const RID: u8 = 10;
const REPAIRED_RID: u8 = 11;
const DESCRIPTOR: u8 = 12;
const DESCRIPTORS: &str = "a=extmap:12 https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension\r\na=extmap:13 ";
/// A structure of one layer and one chain, behind the numbers of its frame.
const ONE_LAYER: [u8; 6] = [0x80, 0, 0x3a, 0x41, 1, 0];
/// VP8, its repairs, VP9 twice, H.264 twice, AV1, and one that nobody offers.
const TYPES: [u8; 8] = [96, 97, 98, 100, 102, 108, 45, 77];

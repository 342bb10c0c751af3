//! A room of two on a real engine, and a script of what reaches it: honest, spoiled and forged datagrams,
//! time, a socket that is full, and the host's calls.
//!
//! After every step: nothing has panicked, nothing has grown past its bound, every copy is in the books, nobody
//! hears from us who has not proved to be there, and nobody hears much more than they said. In the end everybody
//! leaves, and nothing is left.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use sluicegate::sans_io::{Engine, Identity, Outbound, Outlet, Path, SendFault, Ssrc, Transmit};
use sluicegate::{Bitrate, MediaKind, PeerEvent, Subscribe};
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
    /// A frame of the camera.
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
}

/// How many kinds of steps there are.
pub const KINDS: u8 = 16;

/// Drives one input.
pub fn run(input: &[u8]) {
    drive(input);
}

/// Drives one input. The datagrams that reached the engine.
///
/// # Panics
///
/// When a promise breaks.
pub fn drive(input: &[u8]) -> usize {
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
    datagrams: usize,
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
    index: u64,
    camera: Camera,
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
                let part = (SENDRECV, Subscribe::Auto);
                let client = MemoryClient::join(&mut engine, now, "room", number * 16, theirs(), part);
                let ssrcs = client.sdp.lines().filter_map(|line| line.strip_prefix("a=ssrc:"));
                let ssrcs = ssrcs.filter_map(|line| line.split(' ').next()?.parse().ok());
                Seat { slots: ssrcs.collect(), client, outbound: None, index: 0, camera: Camera::default() }
            })
            .collect();
        World {
            engine,
            now,
            clients,
            outlet: Meter::default(),
            received: 0,
            datagrams: 0,
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
                for packet in self.clients[who].camera.frame(1 + usize::from(script.byte() % 8), 300) {
                    self.send_rtp(who, from, 0, packet);
                }
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
        self.datagrams += 1;
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
        seat.index += 1 + (1u64 << (jump & 15)) * u64::from(jump >> 4 > 12);
        packet[2..4].copy_from_slice(&(seat.index as u16).to_be_bytes());
        let ssrc = match jump & 16 != 0 {
            true => u32::from_be_bytes([packet[8], packet[9], packet[10], packet[11]]),
            false => CAMERAS,
        };
        packet[8..12].copy_from_slice(&ssrc.to_be_bytes());
        let (header_len, len) = (header_len(&packet), packet.len());
        packet.resize(len + 16, 0);
        let stream = outbound.open_stream(Ssrc(ssrc));
        if let Ok(sealed) = outbound.seal_rtp(stream, seat.index, header_len, len, &mut packet) {
            packet.truncate(sealed);
            self.send(from, packet);
        }
    }

    fn send_rtcp(&mut self, who: usize, from: Path, compound: &[u8]) {
        let Some(outbound) = &mut self.clients[who].outbound else { return };
        let sealed = outbound.seal_rtcp(compound).to_vec();
        if matches!(sealed.first(), Some(128..=191)) {
            self.send(from, sealed);
        }
    }

    fn call(&mut self, who: usize, script: &mut Script<'_>) {
        let (now, peer) = (self.now, self.clients[who].client.peer);
        match script.byte() % 6 {
            0 => self.engine.set_publish_cap(now, peer, Some(Bitrate::kbps(script.byte().into()))),
            1 => self.engine.set_publish_cap(now, peer, None),
            2 => self.engine.resync(now, peer),
            3 => {
                let _ = self.engine.offer(now, peer, &with_fingerprint(SENDRECV, &theirs().fingerprint));
            }
            4 => {
                for (who, sdp) in std::mem::take(&mut self.offers) {
                    let answer = obliging_answer(&sdp);
                    let _ = self.engine.answer(now, self.clients[who].client.peer, &answer);
                }
            }
            _ => self.engine.leave(now, peer),
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
            if let (Some(who), PeerEvent::Offer { sdp }) = (who, event) {
                self.offers.retain(|(other, _)| *other != who);
                self.offers.push((who, sdp));
            }
        }
        let [sessions, rooms, paths, ufrags, timers] = self.engine.footprint();
        assert!(sessions <= PEERS && rooms <= 1, "{sessions} sessions, {rooms} rooms");
        assert!(paths <= sessions * 8, "{paths} paths of {sessions} sessions");
        assert!(ufrags <= sessions * 2, "{ufrags} ufrags of {sessions} sessions");
        assert!(timers <= sessions + rooms, "{timers} timers of {sessions} sessions");
        for kind in [MediaKind::Audio, MediaKind::Video] {
            assert_eq!(self.engine.counters.unaccounted(kind), 0, "{kind} copies unaccounted for");
        }
        let age = self.now.saturating_duration_since(self.born).as_secs() + 1;
        let allowed = match self.connected {
            false => 3 * self.received + SPARE,
            // Media to the other, answers, and reports as time passes.
            true => 4 * self.received + SPARE + age * REPORTS,
        };
        let sent = self.outlet.sent;
        assert!(sent <= allowed, "{sent} bytes out for {} in, after {age} s", self.received);
    }

    fn leave(mut self) -> usize {
        self.outlet.full = 0;
        self.engine.shutdown(self.now);
        self.settle();
        assert_eq!(self.engine.footprint(), [0; 5], "everybody has left");
        assert!(!self.engine.has_output(), "nothing waits");
        assert_eq!(self.engine.counters.gauges.queued, [0; 2], "nothing is queued");
        self.datagrams
    }
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

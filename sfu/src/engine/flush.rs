//! Datagrams out: for each subscriber, its packets copied, rewritten and sealed back to back, then sent in
//! as few calls as equal sizes allow.

use std::collections::VecDeque;
use std::time::Instant;

use super::hold::Hold;
use super::{Engine, Serving};
use crate::counters::{Counters, DropKind, RepairOutcome, Stage, Transmission};
use crate::drop::DropReason;
use crate::ids::{MediaKind, PeerKey};
use crate::path::Path;
use crate::session::Session;
use crate::session::outgoing::{Purpose, Queued};
use crate::session::slot::Piece;
use crate::session::stretch::Stretch;
use crate::wire::demux::{Protocol, protocol_of};

/// One send: datagrams of `segment` bytes back to back, the last of which may be shorter.
#[derive(Clone, Copy, Debug)]
pub struct Transmit<'a> {
    /// From which local address, to whom.
    pub path: Path,
    /// The datagrams.
    pub contents: &'a [u8],
    /// Size of each datagram when `contents` holds several.
    pub segment: Option<usize>,
}

/// Why a send did not happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SendFault {
    /// The kernel's buffer is full; the engine keeps the datagrams and tries again at the next flush.
    WouldBlock,
    /// There was no room, and nothing will say when there is: the datagrams are lost and counted.
    NoRoom,
    /// The path takes no datagrams of this size; they are lost and counted.
    TooLarge,
    /// The kernel refused; the datagrams are lost and counted.
    Refused,
}

impl SendFault {
    fn reason(self) -> DropReason {
        match self {
            SendFault::WouldBlock | SendFault::NoRoom => DropReason::SendWouldBlock,
            SendFault::TooLarge => DropReason::Oversize,
            SendFault::Refused => DropReason::SendError,
        }
    }
}

/// Where a flush puts its datagrams.
pub trait Outlet {
    /// Sends now, or says why not. A refused or blocked send must have sent nothing.
    fn send(&mut self, transmit: Transmit<'_>) -> Result<(), SendFault>;

    /// Datagrams that one send on this path may hold.
    fn most_segments(&self, _path: &Path) -> usize {
        MAX_SEGMENTS
    }
}

/// Linux takes 64 segments and 65,507 bytes of UDP payload in one `UDP_SEGMENT` send.
const MAX_SEGMENTS: usize = 64;
const SLAB: usize = 64 * 1024 - 64;
/// Room one packet may need: a received datagram's payload, our header and the tag.
const MAX_PACKET: usize = 2048 + 256;

/// One in so many queues tells how long it has waited.
const QUEUES_PER_SAMPLE: u64 = 64;

/// The flush's working memory: one run of sealed packets towards one subscriber.
#[derive(Default)]
pub struct Slab {
    bytes: Vec<u8>,
    run: Run,
    /// Packets that the path at hand takes in one send.
    most: usize,
    /// Sealed runs that found the socket full. A packet is sealed once, so they wait as they are. Two at
    /// most: the run that blocked, and the packet that closed it.
    stalled: VecDeque<Stalled>,
    /// Queues emptied.
    flushes: u64,
}

struct Stalled {
    path: Path,
    bytes: Vec<u8>,
    run: Run,
}

/// The packets sealed so far and not yet handed to the kernel.
#[derive(Clone, Copy, Default)]
struct Run {
    start: usize,
    end: usize,
    segment: usize,
    count: usize,
    tally: Tally,
}

/// What a run holds, by kind: audio, video.
#[derive(Clone, Copy, Default)]
struct Tally {
    packets: [u64; 2],
    bytes: [u64; 2],
    /// Repairs; only video has them.
    repairs: u64,
    repair_bytes: u64,
    /// Arrival of the oldest packet: the whole run is booked with its latency.
    oldest: [Option<Instant>; 2],
}

impl Tally {
    fn add(&mut self, kind: MediaKind, queued: &Queued, len: usize, arrived: Instant) {
        if queued.purpose == Purpose::Repair {
            self.repairs += 1;
            self.repair_bytes += len as u64;
            return;
        }
        let index = usize::from(kind == MediaKind::Video);
        self.packets[index] += 1;
        self.bytes[index] += len as u64;
        self.oldest[index] = Some(self.oldest[index].map_or(arrived, |oldest| oldest.min(arrived)));
    }
}

impl Run {
    fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether a packet of `len` bytes may follow in the same send.
    fn takes(&self, len: usize, most: usize) -> bool {
        self.is_empty() || (len <= self.segment && self.count < most)
    }

    fn push(&mut self, at: usize, len: usize) {
        if self.is_empty() {
            *self = Run { start: at, end: at, segment: len, ..Run::default() };
        }
        self.end += len;
        self.count += 1;
    }

    /// A packet shorter than the others ends its run.
    fn is_closed(&self, len: usize) -> bool {
        len < self.segment
    }

    /// How long the packet should be, given those that wait behind it.
    fn stretch(&self, queued: &Queued, queue: &VecDeque<Queued>) -> Stretch {
        // What is left out does not go at all.
        let next = queue.iter().filter(|next| next.purpose != Purpose::Skip);
        let mut next = next.map(|next| next.size).take_while(|size| *size > 0);
        match self.is_empty() {
            true => Stretch::first(queued.size, next.take(MAX_SEGMENTS - 1)),
            false => Stretch::next(self.segment, queued.size, next.next()),
        }
    }

    fn segment(&self) -> Option<usize> {
        (self.count > 1).then_some(self.segment)
    }
}

pub fn mark_dirty(dirty: &mut VecDeque<PeerKey>, session: &mut Session, key: PeerKey) {
    if !session.dirty {
        session.dirty = true;
        dirty.push_back(key);
    }
}

/// Likewise, if what the session has to send may wait for more.
#[inline]
pub fn mark_held(hold: &mut Hold, now: Instant, session: &mut Session, key: PeerKey) {
    if !session.dirty && !session.held {
        session.held = true;
        hold.add(now, key);
    }
}

impl Engine {
    /// Sends what is queued, subscriber by subscriber. Stops early when the outlet blocks; what is left
    /// goes at the next call. Returns whether everything went.
    pub fn flush(&mut self, now: Instant, outlet: &mut impl Outlet) -> bool {
        if self.slab.bytes.is_empty() {
            self.slab.bytes.resize(SLAB, 0);
        }
        // First of all: who waits must not be due again and again while the socket is full.
        while let Some(key) = self.hold.pop_due(now) {
            if let Some(session) = self.sessions.get_mut(key) {
                session.held = false;
                mark_dirty(&mut self.dirty, session, key);
            }
        }
        while let Some(stalled) = self.slab.stalled.front() {
            let segment = stalled.run.segment();
            match outlet.send(Transmit { path: stalled.path, contents: &stalled.bytes, segment }) {
                Err(SendFault::WouldBlock) => return false,
                result => settle(now, &mut self.counters, &stalled.run.tally, result),
            }
            self.slab.stalled.pop_front();
        }
        while let Some((path, datagram)) = self.parting.pop_front() {
            // A goodbye that does not fit is not kept: the peer's consent runs out.
            let result = outlet.send(Transmit { path, contents: &datagram, segment: None });
            settle_control(&mut self.counters, &datagram, 0, result);
        }
        while let Some(&key) = self.dirty.front() {
            self.serving = Serving::Peer(key);
            let sent = self.flush_session(now, key, outlet);
            if self.sessions.get_mut(key).is_some_and(|session| session.made_packets()) {
                self.reschedule(key);
            }
            self.serving = Serving::Nobody;
            if !sent {
                return false;
            }
            self.dirty.pop_front();
            if let Some(session) = self.sessions.get_mut(key) {
                session.dirty = false;
            }
        }
        true
    }

    /// Whether a flush has something to do.
    pub fn has_output(&self, now: Instant) -> bool {
        let held = || self.hold.next().is_some_and(|at| at <= now);
        !self.dirty.is_empty() || !self.parting.is_empty() || !self.slab.stalled.is_empty() || held()
    }

    fn flush_session(&mut self, now: Instant, key: PeerKey, outlet: &mut impl Outlet) -> bool {
        let Engine { sessions, rooms, counters, slab, .. } = self;
        let Some(session) = sessions.get_mut(key) else { return true };
        let overhead = session.seal_overhead();
        session.tell_crowded_out(counters);
        while let Some((path, datagram)) = session.poll_control() {
            let result = outlet.send(Transmit { path, contents: &datagram, segment: None });
            if result == Err(SendFault::WouldBlock) {
                session.return_control(path, datagram);
                return false;
            }
            settle_control(counters, &datagram, overhead, result);
        }
        while let Some((path, datagram)) = session.poll_channels(now) {
            let result = outlet.send(Transmit { path, contents: &datagram, segment: None });
            if result == Err(SendFault::WouldBlock) {
                session.return_control(path, datagram);
                return false;
            }
            settle_control(counters, &datagram, overhead, result);
        }
        let Some(path) = session.ice.selected() else {
            // No way to send: the queue is bounded and the session's timers will end it.
            return true;
        };
        slab.most = outlet.most_segments(&path).min(MAX_SEGMENTS);
        if !session.queue.is_empty() && slab.is_sampled() {
            counters.queue_delay(now.saturating_duration_since(session.queued_at));
        }
        let router = &rooms[session.room].router;
        while let Some(queued) = session.queue.pop_front() {
            let kind = session.slots.get(usize::from(queued.slot)).map_or(MediaKind::Video, |slot| slot.kind);
            let slot = session.slots.get_mut(usize::from(queued.slot));
            let bound = slot.as_ref().and_then(|slot| slot.source());
            if queued.purpose == Purpose::First
                && bound.is_none_or(|source| source.track != queued.feed.track)
            {
                // The slot carries something else by now.
                unsent(counters, kind, &queued, DropReason::Expired);
                continue;
            }
            if queued.purpose == Purpose::Skip {
                slot.into_iter().for_each(|slot| slot.skip(queued.feed, queued.seq));
                continue;
            }
            let layer = router.tracks.get(queued.feed.track).and_then(|track| track.layer(queued.feed));
            let stored = layer.and_then(|layer| Some((layer, layer.history.get(queued.seq)?)));
            let Some((layer, stored)) = stored else {
                unsent(counters, kind, &queued, DropReason::Expired);
                continue;
            };
            let piece = Piece {
                feed: queued.feed,
                stored,
                report: layer.report.as_ref(),
                structure: layer.structure.as_deref(),
                passes: queued.passes,
            };
            if slab.run.end + MAX_PACKET > SLAB && !slab.send_run(now, path, outlet, counters) {
                session.queue.push_front(queued);
                return false;
            }
            let at = slab.run.end;
            let stretch = slab.run.stretch(&queued, &session.queue);
            let out = &mut slab.bytes[at..at + MAX_PACKET];
            let len = match session.write_packet(now, &queued, &piece, stretch, out) {
                Ok(len) => len,
                Err(reason) => {
                    unsent(counters, kind, &queued, reason);
                    continue;
                }
            };
            if let Some((since_keys, since_join)) = session.first_flow(now) {
                counters.join_stage(Stage::FirstPacket, since_keys);
                counters.join_stage(Stage::Total, since_join);
            }
            if queued.asked {
                counters.repair_request(kind, RepairOutcome::Hit, 1);
            }
            let arrived = stored.meta.arrived;
            let flowing = slab.run.takes(len, slab.most) || slab.send_run(now, path, outlet, counters);
            slab.run.push(at, len);
            slab.run.tally.add(kind, &queued, len - overhead, arrived);
            if queued.purpose == Purpose::First {
                session.forwarded_after[kind as usize] = Some(now.saturating_duration_since(arrived));
            }
            if !flowing {
                // The run before it blocked; this packet is sealed and waits behind it.
                slab.stall_run(path);
                return false;
            }
            if slab.run.is_closed(len) && !slab.send_run(now, path, outlet, counters) {
                return false;
            }
        }
        slab.send_run(now, path, outlet, counters)
    }
}

impl Slab {
    /// Whether the queue about to be emptied is one of the few that are looked at.
    fn is_sampled(&mut self) -> bool {
        self.flushes = self.flushes.wrapping_add(1);
        self.flushes.is_multiple_of(QUEUES_PER_SAMPLE)
    }

    /// Hands the run to the kernel. False: the socket is full, and the run waits.
    fn send_run(
        &mut self,
        now: Instant,
        path: Path,
        outlet: &mut impl Outlet,
        counters: &mut Counters,
    ) -> bool {
        if self.run.is_empty() {
            return true;
        }
        let contents = &self.bytes[self.run.start..self.run.end];
        match outlet.send(Transmit { path, contents, segment: self.run.segment() }) {
            Err(SendFault::WouldBlock) => {
                self.stall_run(path);
                false
            }
            result => {
                settle(now, counters, &self.run.tally, result);
                self.run = Run::default();
                true
            }
        }
    }

    /// Forgets a run that a fault interrupted.
    pub fn abandon_run(&mut self, now: Instant, counters: &mut Counters) {
        settle(now, counters, &self.run.tally, Err(SendFault::Refused));
        self.run = Run::default();
    }

    fn stall_run(&mut self, path: Path) {
        let run = std::mem::take(&mut self.run);
        let bytes = self.bytes[run.start..run.end].to_vec();
        self.stalled.push_back(Stalled { path, bytes, run });
    }
}

/// Books a packet that could not be written. A repair that is not made was never owed, nor is what is left out.
pub fn unsent(counters: &mut Counters, kind: MediaKind, queued: &Queued, reason: DropReason) {
    if queued.purpose == Purpose::First {
        counters.unqueued(kind, 1);
        counters.dropped_out(kind.into(), reason, 1);
    } else if queued.asked {
        let over_budget = reason == DropReason::QueueFull;
        let outcome = if over_budget { RepairOutcome::OverBudget } else { RepairOutcome::MissExpired };
        counters.repair_request(kind, outcome, 1);
    }
}

/// Books a run that has met its fate.
fn settle(now: Instant, counters: &mut Counters, tally: &Tally, result: Result<(), SendFault>) {
    if result.is_ok() && tally.repairs > 0 {
        counters.egress_run(MediaKind::Video, Transmission::Rtx, tally.repairs, tally.repair_bytes);
    }
    for (kind, index) in [(MediaKind::Audio, 0), (MediaKind::Video, 1)] {
        let (packets, bytes) = (tally.packets[index], tally.bytes[index]);
        if packets == 0 {
            continue;
        }
        counters.unqueued(kind, packets);
        match result {
            Ok(()) => {
                counters.egress_run(kind, Transmission::First, packets, bytes);
                if let Some(oldest) = tally.oldest[index] {
                    counters.forward_latency(kind, now.saturating_duration_since(oldest), packets);
                }
            }
            Err(fault) => counters.dropped_out(kind.into(), fault.reason(), packets),
        }
    }
}

/// Books a datagram of STUN, DTLS or RTCP, sealed with so much `overhead`.
fn settle_control(counters: &mut Counters, datagram: &[u8], overhead: usize, result: Result<(), SendFault>) {
    match (protocol_of(datagram), result) {
        (Some(Protocol::Rtcp), Ok(())) => {
            counters.egress_rtcp(datagram.len().saturating_sub(overhead + SRTCP_INDEX));
        }
        (_, Ok(())) => {}
        (Some(Protocol::Rtcp), Err(fault)) => counters.dropped_out(DropKind::Rtcp, fault.reason(), 1),
        (_, Err(fault)) => counters.dropped_out(DropKind::Other, fault.reason(), 1),
    }
}

/// The E bit and the index at the end of each SRTCP packet, RFC 3711 §3.4.
const SRTCP_INDEX: usize = 4;

//! What waits to go out to a peer, and how it is written.

use std::time::Instant;

use super::Session;
use super::repairs::Missing;
use super::sent::First;
use super::slot::Piece;
use super::stretch::Stretch;
use crate::counters::RepairOutcome;
use crate::drop::DropReason;
use crate::ids::{Feed, MediaKind};
use crate::media::history::PacketMeta;
use crate::media::police;
use crate::media::resend::Verdict;

/// Waiting packets beyond which no more repairs are queued.
const MAX_REPAIRS_QUEUED: usize = 256;

/// What a packet has besides its payload and what travels with it: header, extensions, tag.
const OVERHEAD: usize = 44;

/// A packet waiting for its turn: a descriptor, never bytes.
#[derive(Clone, Copy, Debug)]
pub struct Queued {
    pub slot: u16,
    pub feed: Feed,
    pub seq: u64,
    pub purpose: Purpose,
    /// What the subscriber gets of the stream: the largest spatial and the fastest temporal layer.
    pub passes: (u8, u8),
    /// It begins what the subscriber gets of the feed: whatever was held back before it leaves no gap.
    pub starts: bool,
    /// A repair that a NACK has asked for: what becomes of it is booked.
    pub asked: bool,
    /// About how long it will be, less what all packets have. Zero where that does not matter.
    pub size: u16,
}

impl Queued {
    /// Of a stream that passes whole.
    pub fn new(slot: u16, feed: Feed, seq: u64, purpose: Purpose) -> Queued {
        let passes = (u8::MAX, u8::MAX);
        Queued { slot, feed, seq, purpose, passes, starts: false, asked: false, size: 0 }
    }
}

/// What a waiting descriptor is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// The packet's first transmission.
    First,
    /// The subscriber asked for it again.
    Repair,
    /// It is left out on purpose: the numbers close up, in the order in which the packets go.
    Skip,
}

impl Session {
    /// Queues a packet that the subscriber misses, if it may be sent again now; if not, the outcome. `asked`: by NACK.
    pub fn repair(&mut self, now: Instant, missing: &Missing, asked: bool) -> Option<RepairOutcome> {
        let (rtt, copies) = (self.reception.rtt(), self.reception.copies(now));
        let slot = &mut self.slots[usize::from(missing.slot)];
        if self.queue.len() >= MAX_REPAIRS_QUEUED {
            return Some(RepairOutcome::OverBudget);
        }
        let copies = match slot.judge_repair(now, missing.number, rtt, copies) {
            Verdict::Resend(copies) => copies,
            Verdict::Duplicate => return Some(RepairOutcome::Duplicate),
            Verdict::OverBudget => return Some(RepairOutcome::OverBudget),
        };
        let queued = Queued::new(missing.slot, missing.feed, missing.seq, Purpose::Repair);
        let queued = Queued { passes: slot.passes, ..queued };
        // The request is answered by one of them.
        self.push(now, Queued { asked, ..queued });
        (1..copies).for_each(|_| self.push(now, queued));
        None
    }

    /// Whether a packet that is about to go to one slot is more than the peer may receive.
    pub fn is_over_cap(
        &mut self,
        now: Instant,
        slot: u16,
        kind: MediaKind,
        meta: &PacketMeta,
        bytes: u16,
    ) -> bool {
        let Some(downlink) = &mut self.downlink else { return false };
        let mid = self.slots[usize::from(slot)].mid;
        downlink.judge(now, mid, kind, meta, usize::from(bytes) + OVERHEAD) == police::Verdict::Police
    }

    /// Queues a packet for one slot. False: the queue is full.
    pub fn enqueue(&mut self, now: Instant, queued: Queued, limit: usize) -> bool {
        let fits = self.queue.len() < limit;
        if fits {
            self.push(now, queued);
        }
        fits
    }

    /// Likewise, whatever waits already.
    pub fn push(&mut self, now: Instant, queued: Queued) {
        if self.queue.is_empty() {
            self.queued_at = now;
        }
        self.queue.push_back(queued);
    }

    /// What waits in the queue, with its kind.
    pub fn queued_kinds(&self) -> impl Iterator<Item = (&Queued, MediaKind)> {
        let kind = |queued: &Queued| self.slots.get(usize::from(queued.slot)).map(|slot| slot.kind);
        self.queue.iter().filter_map(move |queued| Some((queued, kind(queued)?)))
    }

    /// Rewrites and seals one stored packet into `out`. The sealed length, or why it cannot go.
    pub fn write_packet(
        &mut self,
        now: Instant,
        queued: &Queued,
        piece: &Piece<'_>,
        stretch: Stretch,
        out: &mut [u8],
    ) -> Result<usize, DropReason> {
        let secure = self.secure.as_mut().ok_or(DropReason::Expired)?;
        let slot = self.slots.get_mut(usize::from(queued.slot)).ok_or(DropReason::Expired)?;
        let number = self.reception.next_number();
        let (mut written, stream) = match queued.purpose {
            Purpose::First => {
                if queued.starts {
                    slot.restart();
                }
                let written = slot.write(now, piece, number, out).ok_or(DropReason::Expired)?;
                slot.passes = queued.passes;
                slot.on_first(now, written.number, || self.reception.rtt());
                (written, slot.stream(|ssrc| secure.outbound.open_stream(ssrc)))
            }
            Purpose::Skip => return Err(DropReason::Expired),
            Purpose::Repair => {
                if !self.reception.affords_repair(now, piece.stored.payload.len()) {
                    slot.on_repair_refused(now, piece);
                    return Err(DropReason::QueueFull);
                }
                let written = slot.write_repair(piece, number, out).ok_or(DropReason::Expired)?;
                let stream = slot.repair_stream(|ssrc| secure.outbound.open_stream(ssrc));
                (written, stream.ok_or(DropReason::Expired)?)
            }
        };
        if slot.kind == MediaKind::Video && queued.purpose == Purpose::First {
            let padding = stretch.padding(written.plain_len + secure.outbound.overhead());
            written.plain_len = super::stretch::pad(out, written.plain_len, padding);
        }
        let sealed = secure
            .outbound
            .seal_rtp(stream, written.index, written.header_len, written.plain_len, out)
            .map_err(|_| DropReason::Expired)?;
        match queued.purpose {
            Purpose::First => self.reception.on_first(now, sealed),
            _ => self.reception.on_repair(now, sealed.saturating_sub(piece.stored.payload.len())),
        }
        if slot.numbers_transport() {
            let Queued { slot, feed, seq, purpose, .. } = *queued;
            let number = written.number;
            match purpose {
                Purpose::Repair => {
                    self.reception.on_numbered_repair(now, sealed, Missing { slot, number, feed, seq });
                }
                _ => self.reception.on_numbered(now, sealed, First { slot, seq: number as u16 }),
            }
        }
        Ok(sealed)
    }
}

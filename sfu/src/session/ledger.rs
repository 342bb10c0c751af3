//! What becomes of what one received compound asks for: every packet and every keyframe ends as exactly one thing.

use crate::counters::{Counters, RepairOutcome, RequestOutcome};
use crate::ids::MediaKind;

/// Sequence numbers of one compound that are looked up. A subscriber misses a few, or has lost the thread.
const MAX_NUMBERS_ASKED: usize = 300;

/// The account of one compound.
///
/// The counter at the wire says what was asked; here it is said what became of each. What the host's interceptors
/// keep to themselves never gets here, and is closed with the account.
pub struct Ledger {
    /// Asked for at the wire and not accounted for: audio, video.
    packets: [u64; 2],
    keyframes: u64,
    settled: [[u64; RepairOutcome::ALL.len()]; 2],
    lookups: usize,
}

impl Ledger {
    /// `packets`, by kind, and `keyframes` have been asked for.
    pub fn new(packets: [u64; 2], keyframes: u64) -> Ledger {
        Ledger { packets, keyframes, settled: Default::default(), lookups: MAX_NUMBERS_ASKED }
    }

    /// Packets that are asked for and not accounted for.
    pub fn asked(&self) -> u64 {
        self.packets.iter().sum()
    }

    /// Whether another number may be looked up. `true` counts as having done so.
    pub fn may_look_up(&mut self) -> bool {
        let may = self.lookups > 0;
        self.lookups = self.lookups.saturating_sub(1);
        may
    }

    /// A packet's request has come to this.
    pub fn settle(&mut self, kind: MediaKind, outcome: RepairOutcome) {
        self.leave_open(kind);
        self.settled[kind as usize][outcome as usize] += 1;
    }

    /// What becomes of a packet's request is booked by whoever decides it.
    pub fn leave_open(&mut self, kind: MediaKind) {
        let left = &mut self.packets[kind as usize];
        *left = left.saturating_sub(1);
    }

    /// Likewise of a keyframe's.
    pub fn take_keyframe_request(&mut self) {
        self.keyframes = self.keyframes.saturating_sub(1);
    }

    /// Books what has been settled, and what never got here.
    pub fn close(self, counters: &mut Counters) {
        for kind in [MediaKind::Audio, MediaKind::Video] {
            for outcome in RepairOutcome::ALL {
                counters.repair_request(kind, outcome, self.settled[kind as usize][outcome as usize]);
            }
            counters.repair_request(kind, RepairOutcome::MissUnknown, self.packets[kind as usize]);
        }
        counters.keyframe_request(RequestOutcome::Suppressed, self.keyframes);
    }
}

#[test]
fn what_never_got_here_is_closed_with_the_account() {
    let mut ledger = Ledger::new([1, 5], 3);
    ledger.settle(MediaKind::Video, RepairOutcome::OverBudget);
    ledger.leave_open(MediaKind::Video);
    ledger.take_keyframe_request();
    let mut counters = Counters::default();
    ledger.close(&mut counters);
    let outcome = |kind: MediaKind, outcome| counters.rtx_requests[kind as usize][outcome as usize];
    assert_eq!(outcome(MediaKind::Audio, RepairOutcome::MissUnknown), 1);
    assert_eq!(outcome(MediaKind::Video, RepairOutcome::MissUnknown), 3);
    assert_eq!(outcome(MediaKind::Video, RepairOutcome::OverBudget), 1);
    assert_eq!(counters.keyframe_requests[RequestOutcome::Suppressed as usize], 2);
}

#[test]
fn only_so_many_numbers_are_looked_up() {
    let mut ledger = Ledger::new([0; 2], 0);
    let looked_up = (0..1_000).filter(|_| ledger.may_look_up()).count();
    assert_eq!(looked_up, MAX_NUMBERS_ASKED);
}

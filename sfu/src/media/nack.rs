//! Asking a publisher for what was lost on the way to us. RFC 4585 §6.2.1.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Tries per packet. With the spacing below, the ninth comes twelve round trips after the first.
const MAX_TRIES: u8 = 9;

/// Older than this a packet has missed every playout.
pub const MAX_AGE: Duration = Duration::from_millis(1_200);

/// A wider gap is not repaired packet by packet: a keyframe is cheaper.
pub const MAX_GAP: u64 = 100;

/// Packets awaited at once; more are beyond repair in time.
const MAX_MISSING: usize = 400;

/// Repairs in a row that cannot be told apart: what was measured before does not hold any more.
const PUZZLED: u8 = 8;

const SHORTEST_RETRY: Duration = Duration::from_millis(20);

/// The missing packets of one received stream, and when to ask for each.
///
/// Fed after repairs have been unwrapped, so that nothing is asked for twice that RTX has brought. A gap is
/// given time to close by itself, since reordering looks like loss at first.
#[derive(Debug, Default)]
pub struct Nacks {
    /// In order of sequence number.
    missing: VecDeque<Missing>,
    highest: Option<u64>,
    /// How long a repair takes, measured on those that were asked for once. A publisher that receives
    /// nothing from us sends no reports to measure the round trip by.
    repair_time: Option<RepairTime>,
    /// Repairs in a row of which nobody can say which request they answer.
    puzzling: u8,
    /// The round trip as it was last told.
    believed: Duration,
}

/// Mean and deviation of how long repairs take, smoothed as RFC 6298 §2 smooths round trips.
#[derive(Clone, Copy, Debug)]
struct RepairTime {
    mean: Duration,
    deviation: Duration,
}

impl RepairTime {
    fn new(sample: Duration) -> Self {
        RepairTime { mean: sample, deviation: sample / 2 }
    }

    fn add(&mut self, sample: Duration) {
        self.deviation = (self.deviation * 3 + self.mean.abs_diff(sample)) / 4;
        self.mean = (self.mean * 7 + sample) / 8;
    }

    /// Nearly every repair has come by then.
    fn nearly_all(&self) -> Duration {
        self.mean + self.deviation * 4
    }
}

#[derive(Clone, Copy, Debug)]
struct Missing {
    seq: u64,
    since: Instant,
    first_asked: Instant,
    asked: Instant,
    due: Instant,
    tries: u8,
}

impl Missing {
    /// How long the repair took that has just come, if it can be told which request it answers: the only one,
    /// or the first of two when it comes in less than half the `usual` time after the second.
    fn repair_time(&self, now: Instant, usual: Duration) -> Option<Duration> {
        let since_last = now.saturating_duration_since(self.asked);
        match self.tries {
            1 => Some(since_last),
            2 if since_last < usual / 2 => Some(now.saturating_duration_since(self.first_asked)),
            _ => None,
        }
    }
}

/// What an arriving packet meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// In order, or opening a gap that will be asked for.
    Next,
    /// It filled a gap.
    Repair,
    /// Neither new nor awaited.
    Late,
    /// The gap before it is too wide to repair: a keyframe must do.
    Torn,
}

impl Nacks {
    /// A packet arrived, first hand or as a repair. `patience`: how long reordering may last here.
    pub fn on_packet(&mut self, now: Instant, seq: u64, patience: Duration) -> Arrival {
        let Some(highest) = self.highest else {
            self.highest = Some(seq);
            return Arrival::Next;
        };
        if seq <= highest {
            return match self.missing.binary_search_by_key(&seq, |missing| missing.seq) {
                Ok(at) => {
                    // Not what requests are spaced by: that is longer, and what is asked for again would be taken for
                    // slow, which spaces them yet more.
                    let usual = self.repair_time.map_or(self.believed, |known| known.mean);
                    let sample = self.missing.remove(at).and_then(|missing| missing.repair_time(now, usual));
                    self.learn(sample);
                    Arrival::Repair
                }
                Err(_) => Arrival::Late,
            };
        }
        self.highest = Some(seq);
        let gap = seq - highest - 1;
        if gap > MAX_GAP || self.missing.len() + gap as usize > MAX_MISSING {
            self.missing.clear();
            return Arrival::Torn;
        }
        let due = now + patience;
        self.missing.extend((highest + 1..seq).map(|seq| Missing {
            seq,
            since: now,
            first_asked: now,
            asked: now,
            due,
            tries: 0,
        }));
        Arrival::Next
    }

    fn learn(&mut self, sample: Option<Duration>) {
        self.puzzling = if sample.is_some() { 0 } else { self.puzzling + 1 };
        match (sample, &mut self.repair_time) {
            (Some(sample), Some(known)) => known.add(sample),
            (Some(sample), unknown) => *unknown = Some(RepairTime::new(sample)),
            // The way has become longer than what was measured.
            (None, known) if self.puzzling == PUZZLED => (self.puzzling, *known) = (0, None),
            (None, _) => {}
        }
    }

    /// A keyframe starts at `seq`: what came before it no longer matters.
    pub fn on_keyframe(&mut self, seq: u64) {
        self.missing.retain(|missing| missing.seq >= seq);
    }

    /// The packets to ask for now, in order. Counts as having asked. Returns whether one was given up.
    ///
    /// `rtt` is believed until repairs have shown how long they take.
    pub fn poll(&mut self, now: Instant, rtt: Duration, mut ask: impl FnMut(u64)) -> bool {
        let mut gave_up = false;
        self.believed = rtt;
        let rtt = self.repair_time.map_or(rtt, |known| known.nearly_all());
        self.missing.retain_mut(|missing| {
            if missing.due > now {
                return true;
            }
            if now.saturating_duration_since(missing.since) > MAX_AGE {
                gave_up = true;
                return false;
            }
            if missing.tries == MAX_TRIES {
                // The last repair may still be on its way.
                missing.due = missing.since + MAX_AGE + SHORTEST_RETRY;
                return true;
            }
            ask(missing.seq);
            missing.asked = now;
            if missing.tries == 0 {
                missing.first_asked = now;
            }
            missing.due = now + retry_after(rtt, missing.tries);
            missing.tries += 1;
            true
        });
        gave_up
    }

    /// When [`poll`](Self::poll) is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.missing.iter().map(|missing| missing.due).min()
    }

    /// The stream begins anew.
    pub fn reset(&mut self) {
        *self = Nacks { repair_time: self.repair_time, ..Nacks::default() };
    }
}

/// A repair takes a round trip. Who has waited in vain twice asks twice, since requests are lost as repairs are: a
/// sender that has answered the first does not answer the second within a round trip (libwebrtc `RtpPacketHistory`).
/// That third round is the last that a player waits for where the round trip is 50 ms; each after it is a quarter
/// longer, in case the link is the problem.
fn retry_after(rtt: Duration, tries: u8) -> Duration {
    SHORTEST_RETRY.max(match tries {
        2 => rtt / 4,
        _ => rtt.mul_f64(1.1 * 1.25_f64.powi(i32::from(tries.saturating_sub(3)))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at, ms};

    const RTT: Duration = Duration::from_millis(50);

    fn asked(nacks: &mut Nacks, now: u64) -> Vec<u64> {
        let mut seqs = Vec::new();
        nacks.poll(at(now), RTT, |seq| seqs.push(seq));
        seqs
    }

    #[test]
    fn a_gap_is_asked_for_after_a_moment_and_again_each_round_trip() {
        let mut nacks = Nacks::default();
        nacks.on_packet(at(0), 10, ms(5));
        assert_eq!(nacks.on_packet(at(0), 13, ms(5)), Arrival::Next);
        assert!(asked(&mut nacks, 4).is_empty());
        assert_eq!(asked(&mut nacks, 5), [11, 12]);
        assert!(asked(&mut nacks, 59).is_empty());
        assert_eq!(nacks.on_packet(at(59), 12, ms(5)), Arrival::Repair);
        assert_eq!(asked(&mut nacks, 60), [11]);
    }

    #[test]
    fn what_is_asked_for_again_is_not_taken_for_slow() {
        let mut nacks = Nacks::default();
        let mut now = 0;
        // Every other request is lost; a repair takes 50 ms.
        for seq in (0..200).step_by(2) {
            nacks.on_packet(at(now), seq, ms(0));
            let (mut tries, mut repaired) = (0, None);
            while repaired != Some(now) {
                if !asked(&mut nacks, now).is_empty() {
                    tries += 1;
                    repaired = repaired.or((tries > seq / 2 % 2).then_some(now + 50));
                }
                now += 1;
                if seq == 0 {
                    break;
                }
            }
            if seq > 0 {
                nacks.on_packet(at(now), seq - 1, ms(0));
            }
        }
        let spacing = nacks.repair_time.expect("it was measured").nearly_all();
        assert!(spacing <= ms(60), "{spacing:?}");
    }

    #[test]
    fn reordering_is_not_loss() {
        let mut nacks = Nacks::default();
        nacks.on_packet(at(0), 10, ms(5));
        nacks.on_packet(at(1), 12, ms(5));
        assert_eq!(nacks.on_packet(at(3), 11, ms(5)), Arrival::Repair);
        assert_eq!(nacks.poll_timeout(), None);
        assert_eq!(nacks.on_packet(at(4), 11, ms(5)), Arrival::Late);
    }

    #[test]
    fn it_gives_up_after_nine_tries_or_when_it_is_too_late() {
        let mut nacks = Nacks::default();
        nacks.on_packet(at(0), 0, ms(0));
        nacks.on_packet(at(0), 2, ms(0));
        let mut tries = 0;
        let given_up: Vec<u64> = (0..5_000).filter(|now| nacks.poll(at(*now), RTT, |_| tries += 1)).collect();
        assert_eq!((tries, given_up), (9, vec![1_220]));
        assert_eq!(nacks.poll_timeout(), None);

        nacks.on_packet(at(5_000), 4, ms(0));
        assert_eq!(asked(&mut nacks, 5_000), [3]);
        assert!(asked(&mut nacks, 6_201).is_empty(), "past 1.2 s");
        assert_eq!(nacks.poll_timeout(), None);
    }

    #[test]
    fn a_keyframe_makes_older_losses_moot() {
        let mut nacks = Nacks::default();
        nacks.on_packet(at(0), 0, ms(0));
        nacks.on_packet(at(0), 3, ms(0));
        nacks.on_packet(at(0), 5, ms(0));
        nacks.on_keyframe(3);
        assert_eq!(asked(&mut nacks, 0), [4]);
    }

    #[test]
    fn a_torn_stream_wants_a_keyframe_instead() {
        let mut nacks = Nacks::default();
        nacks.on_packet(at(0), 0, ms(0));
        assert_eq!(nacks.on_packet(at(0), MAX_GAP + 2, ms(0)), Arrival::Torn);
        assert_eq!(nacks.poll_timeout(), None);
        assert_eq!(nacks.on_packet(at(0), 2 * MAX_GAP + 3, ms(0)), Arrival::Next, "exactly the limit");
    }

    proptest::proptest! {
        /// Whatever is lost, each packet is asked for at most eight times, and never once it is there.
        #[test]
        fn nothing_is_asked_for_that_has_come(
            lost in proptest::collection::vec(proptest::prelude::any::<bool>(), 1..300),
            repaired in proptest::collection::vec(proptest::prelude::any::<bool>(), 300),
        ) {
            let mut nacks = Nacks::default();
            let mut there = std::collections::HashSet::new();
            let mut tries = std::collections::HashMap::<u64, u32>::new();
            nacks.on_packet(at(0), 0, ms(5));
            for (index, lost) in lost.iter().enumerate() {
                let (seq, now) = (index as u64 + 1, index as u64 * 3);
                if !lost {
                    nacks.on_packet(at(now), seq, ms(5));
                    there.insert(seq);
                }
                for seq in asked(&mut nacks, now) {
                    proptest::prop_assert!(!there.contains(&seq));
                    let count = tries.entry(seq).or_default();
                    *count += 1;
                    proptest::prop_assert!(*count <= u32::from(MAX_TRIES));
                    if repaired[seq as usize % 300] {
                        proptest::prop_assert_eq!(nacks.on_packet(at(now), seq, ms(5)), Arrival::Repair);
                        there.insert(seq);
                    }
                }
            }
        }
    }
}

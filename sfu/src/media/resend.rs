//! Whether to answer a subscriber's request for a lost packet, so that requests cannot be used as a hose.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Resends of one packet.
const MAX_RESENDS: u8 = 3;

/// Packets whose resends are remembered, per slot. At 15 % of 1000 packets a second, more than a second.
const REMEMBERED: usize = 256;

/// What becomes of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Send it again.
    Resend,
    /// It was resent within the last round trip, or often enough: the request crossed with the repair.
    Duplicate,
}

/// The packets lately resent on one slot.
#[derive(Debug, Default)]
pub struct Resends {
    recent: VecDeque<Resent>,
}

#[derive(Clone, Copy, Debug)]
struct Resent {
    seq: u64,
    at: Instant,
    times: u8,
}

impl Resends {
    /// Judges a request for outgoing packet `seq`. `Resend` counts as having resent it.
    pub fn judge(&mut self, now: Instant, seq: u64, rtt: Duration) -> Verdict {
        if let Some(resent) = self.recent.iter_mut().find(|resent| resent.seq == seq) {
            if resent.times == MAX_RESENDS || now < resent.at + rtt {
                return Verdict::Duplicate;
            }
            resent.at = now;
            resent.times += 1;
            return Verdict::Resend;
        }
        if self.recent.len() == REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back(Resent { seq, at: now, times: 1 });
        Verdict::Resend
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at, ms};

    #[test]
    fn a_packet_is_resent_once_a_round_trip_and_three_times_at_most() {
        let mut resends = Resends::default();
        let resent: Vec<u64> =
            (0..1_000).filter(|now| resends.judge(at(*now), 7, ms(50)) == Verdict::Resend).collect();
        assert_eq!(resent, [0, 50, 100]);
    }

    #[test]
    fn packets_do_not_hinder_each_other() {
        let mut resends = Resends::default();
        assert_eq!(resends.judge(at(0), 7, ms(50)), Verdict::Resend);
        assert_eq!(resends.judge(at(0), 8, ms(50)), Verdict::Resend);
        assert_eq!(resends.judge(at(1), 7, ms(50)), Verdict::Duplicate);
    }
}

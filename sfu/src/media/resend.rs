//! Whether to answer a subscriber's request for a lost packet, so that requests cannot be used as a hose.

use std::time::{Duration, Instant};

/// Resends of one packet.
const MAX_RESENDS: u8 = 3;

/// Packets whose resends are remembered, per slot: a second at 1000 packets a second.
const REMEMBERED: usize = 1024;

/// What becomes of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Send it again.
    Resend,
    /// It was resent within the last round trip, or often enough: the request crossed with the repair.
    Duplicate,
}

/// The packets lately resent on one slot, by sequence number modulo the number remembered: a request costs
/// the same whatever came before it.
#[derive(Debug, Default)]
pub struct Resends {
    recent: Vec<Option<Resent>>,
}

#[derive(Clone, Copy, Debug)]
struct Resent {
    seq: u64,
    at: Instant,
    times: u8,
}

impl Resends {
    /// Judges a request for packet `seq`. `Resend` counts as having resent it.
    pub fn judge(&mut self, now: Instant, seq: u64, rtt: Duration) -> Verdict {
        if self.recent.is_empty() {
            self.recent.resize(REMEMBERED, None);
        }
        let place = &mut self.recent[seq as usize % REMEMBERED];
        let times = match place {
            Some(resent) if resent.seq == seq => {
                if resent.times == MAX_RESENDS || now < resent.at + rtt {
                    return Verdict::Duplicate;
                }
                resent.times + 1
            }
            _ => 1,
        };
        *place = Some(Resent { seq, at: now, times });
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

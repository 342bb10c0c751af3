//! Whether to answer a subscriber's request for a lost packet, so that requests cannot be used as a hose.

use std::time::{Duration, Instant};

/// Resends of one packet, as a rule: some clients do not notice repairs and ask for ever.
const MAX_RESENDS: u8 = 3;
/// Resends of one packet for a client that seldom needs more than the rule allows. libwebrtc asks as often: a packet
/// that is lost three times over is a hole, at which it waits three seconds before it wants a keyframe.
const MOST_RESENDS: u8 = 10;
/// Seldom: one in so many.
const SELDOM: u32 = 8;
/// What is seldom shows in so many packets; then the older ones count half.
const JUDGED: u32 = 256;

/// Packets whose resends are remembered, per slot: a second at 1000 packets a second. Fewer will not do: of two that meet
/// in one place each makes us forget the other, and clients that never give up a packet (`rtc` 0.21) then use up the
/// budget with a few dozen.
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
/// the same whatever came before it. Nothing is kept until the first request.
#[derive(Debug, Default)]
pub struct Resends {
    recent: Vec<Resent>,
    /// What times are counted from.
    epoch: Option<Instant>,
    /// Packets asked for lately, and those among them that were asked for beyond the rule.
    asked: u32,
    beyond: u32,
}

/// Twelve bytes, for there are many.
#[derive(Clone, Copy, Debug, Default)]
struct Resent {
    /// The low bits: what is remembered is far younger than four billion packets.
    seq: u32,
    /// When the next request can no longer have crossed with the repair: milliseconds, which wrap after 49 days.
    answered_until: u32,
    /// Zero: nothing is remembered here.
    times: u8,
    /// It was asked for beyond the rule.
    beyond: bool,
}

impl Resends {
    /// Judges a request for packet `seq`. `Resend` counts as having resent it.
    pub fn judge(&mut self, now: Instant, seq: u64, rtt: Duration) -> Verdict {
        if self.recent.is_empty() {
            self.recent.resize(REMEMBERED, Resent::default());
        }
        let now = self.millis(now);
        let seq = seq as u32;
        let resent = &mut self.recent[seq as usize % REMEMBERED];
        if resent.times > 0 && resent.seq == seq {
            if resent.times == MOST_RESENDS || is_before(now, resent.answered_until) {
                return Verdict::Duplicate;
            }
            if resent.times == MAX_RESENDS {
                self.beyond += u32::from(!std::mem::replace(&mut resent.beyond, true));
            }
            if resent.beyond && self.beyond * SELDOM > self.asked {
                return Verdict::Duplicate;
            }
        } else {
            self.asked += 1;
            if self.asked >= JUDGED {
                (self.asked, self.beyond) = (self.asked / 2, self.beyond / 2);
            }
            *resent = Resent { seq, ..Resent::default() };
        }
        resent.times += 1;
        resent.answered_until = now.wrapping_add(rtt.as_millis() as u32);
        Verdict::Resend
    }

    /// The repair of packet `seq` is known to be lost: whatever asks for it next is not answered yet.
    pub fn on_lost(&mut self, now: Instant, seq: u64) {
        let now = self.millis(now);
        if let Some(resent) = self.recent.get_mut(seq as usize % REMEMBERED)
            && resent.seq == seq as u32
            && is_before(now, resent.answered_until)
        {
            resent.answered_until = now;
        }
    }

    fn millis(&mut self, now: Instant) -> u32 {
        now.saturating_duration_since(*self.epoch.get_or_insert(now)).as_millis() as u32
    }
}

fn is_before(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) > u32::MAX / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at, ms};

    #[test]
    fn a_packet_is_resent_once_a_round_trip_and_three_times_as_a_rule() {
        let mut resends = Resends::default();
        let resent: Vec<u64> =
            (0..1_000).filter(|now| resends.judge(at(*now), 7, ms(50)) == Verdict::Resend).collect();
        assert_eq!(resent, [0, 50, 100]);
    }

    #[test]
    fn where_repairs_do_arrive_one_that_does_not_is_sent_again() {
        let mut resends = Resends::default();
        for seq in 0..50 {
            assert_eq!(resends.judge(at(0), seq, ms(50)), Verdict::Resend);
        }
        let resent: Vec<u64> =
            (0..1_000).filter(|now| resends.judge(at(*now), 99, ms(50)) == Verdict::Resend).collect();
        assert_eq!(resent, [0, 50, 100, 150, 200, 250, 300, 350, 400, 450]);
    }

    #[test]
    fn where_everything_is_asked_for_again_and_again_three_times_are_enough() {
        let mut resends = Resends::default();
        let mut resent = 0;
        // A hundred packets a second are lost, and each is asked for ten times.
        for time in (0..60_000).step_by(10) {
            for back in 0..10 {
                let Some(seq) = (time / 10_u64).checked_sub(10 * back) else { continue };
                resent += u32::from(resends.judge(at(time), seq, ms(50)) == Verdict::Resend);
            }
        }
        assert!((17_900..=18_050).contains(&resent), "{resent} for 6000 packets");
    }

    #[test]
    fn a_repair_that_is_known_to_be_lost_is_sent_again_at_once_and_counts() {
        let mut resends = Resends::default();
        assert_eq!(resends.judge(at(0), 7, ms(50)), Verdict::Resend);
        resends.on_lost(at(10), 8);
        assert_eq!(resends.judge(at(10), 7, ms(50)), Verdict::Duplicate);
        resends.on_lost(at(10), 7);
        assert_eq!(resends.judge(at(10), 7, ms(50)), Verdict::Resend);
        assert_eq!(resends.judge(at(59), 7, ms(50)), Verdict::Duplicate);
        let resent = (60..1_000).filter(|now| {
            resends.on_lost(at(*now), 7);
            resends.judge(at(*now), 7, ms(50)) == Verdict::Resend
        });
        assert_eq!(resent.count(), 1, "three, as a rule");
    }

    #[test]
    fn packets_do_not_hinder_each_other() {
        let mut resends = Resends::default();
        assert_eq!(resends.judge(at(0), 7, ms(50)), Verdict::Resend);
        assert_eq!(resends.judge(at(0), 8, ms(50)), Verdict::Resend);
        assert_eq!(resends.judge(at(1), 7, ms(50)), Verdict::Duplicate);
    }
}

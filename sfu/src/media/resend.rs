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
/// A client about which little is known is taken for one that asks for no more than it needs.
const TRUST: u32 = 32;

/// Requests that come sooner after a repair have crossed with it, however near the client: it does not ask on the instant.
const LEAST_SPACING: Duration = Duration::from_millis(10);

/// Packets whose resends are remembered, per slot: a second at 1000 packets a second. Fewer will not do: of two that meet
/// in one place each makes us forget the other, and clients that never give up a packet (`rtc` 0.21) then use up the
/// budget with a few dozen.
const REMEMBERED: usize = 1024;

/// What becomes of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Send it again, in so many copies.
    Resend(u8),
    /// It was sent within the last round trip, so that the request has crossed with it, or often enough.
    Duplicate,
    /// It may not leave again: what is left of the budget is for others.
    OverBudget,
}

/// The packets lately resent on one slot, by sequence number modulo the number remembered: a request costs
/// the same whatever came before it. Nothing is kept until the first request.
#[derive(Debug)]
pub struct Resends {
    recent: Vec<Resent>,
    /// What times are counted from.
    epoch: Option<Instant>,
    /// Packets asked for lately, and those among them that were asked for beyond the rule.
    asked: u32,
    beyond: u32,
}

/// Twelve bytes, for there are many. Nobody has asked for packet 0 yet, which is what the default says.
#[derive(Clone, Copy, Debug, Default)]
struct Resent {
    /// The low bits: what is remembered is far younger than four billion packets.
    seq: u32,
    /// When the next request can no longer have crossed with the repair: milliseconds, which wrap after 49 days.
    answered_until: u32,
    times: u8,
    /// It was asked for beyond the rule.
    beyond: bool,
}

impl Default for Resends {
    fn default() -> Resends {
        Resends { recent: Vec::new(), epoch: None, asked: TRUST, beyond: 0 }
    }
}

impl Resends {
    /// Judges a request for packet `seq`. `Resend` counts as having resent it, in so many `copies` the first time and
    /// afterwards.
    pub fn judge(&mut self, now: Instant, seq: u64, rtt: Duration, copies: [u8; 2]) -> Verdict {
        let now = self.millis(now);
        let Resent { times, beyond, answered_until, .. } = *self.find(now, seq);
        if is_before(now, answered_until) || times == MOST_RESENDS {
            return Verdict::Duplicate;
        }
        let is_beyond = times >= MAX_RESENDS;
        self.count(times == 0, is_beyond && !beyond);
        let is_seldom = self.beyond * SELDOM <= self.asked;
        let resent = self.find(now, seq);
        resent.beyond = is_beyond;
        if is_beyond && !is_seldom {
            return Verdict::Duplicate;
        }
        let most = if is_beyond { MOST_RESENDS } else { MAX_RESENDS };
        let copies = copies[usize::from(times > 0)].min(most - times);
        if copies == 0 {
            return Verdict::OverBudget;
        }
        resent.times += copies;
        resent.answered_until = now.wrapping_add(rtt.max(LEAST_SPACING).as_millis() as u32);
        Verdict::Resend(copies)
    }

    /// Packet `seq` leaves for the first time, but after later ones: it came late itself. What asks for it within a round
    /// trip has crossed with it.
    pub fn on_late(&mut self, now: Instant, seq: u64, rtt: Duration) {
        let now = self.millis(now);
        self.find(now, seq).answered_until = now.wrapping_add(rtt.as_millis() as u32);
    }

    /// Packet `seq` has lately been resent.
    pub fn has_resent(&self, seq: u64) -> bool {
        let resent = self.recent.get(seq as usize % REMEMBERED);
        resent.is_some_and(|resent| resent.seq == seq as u32 && resent.times > 0)
    }

    /// A copy of packet `seq` did not leave after all.
    pub fn on_refused(&mut self, now: Instant, seq: u64) {
        let now = self.millis(now);
        let resent = self.find(now, seq);
        resent.times = resent.times.saturating_sub(1);
        resent.answered_until = now;
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

    fn count(&mut self, first: bool, beyond: bool) {
        self.asked += u32::from(first);
        self.beyond += u32::from(beyond);
        if self.asked >= JUDGED {
            (self.asked, self.beyond) = (self.asked / 2, self.beyond / 2);
        }
    }

    /// What is remembered of a packet, from now on.
    fn find(&mut self, now: u32, seq: u64) -> &mut Resent {
        if self.recent.is_empty() {
            self.recent.resize(REMEMBERED, Resent::default());
        }
        let seq = seq as u32;
        let resent = &mut self.recent[seq as usize % REMEMBERED];
        if resent.seq != seq {
            *resent = Resent { seq, answered_until: now, ..Resent::default() };
        }
        resent
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

    /// When packet `seq` goes out again, if it is asked for each millisecond, and in how many copies.
    fn answers(resends: &mut Resends, times: std::ops::Range<u64>, seq: u64) -> Vec<(u64, u8)> {
        let judged = times.map(|now| (now, resends.judge(at(now), seq, ms(50), [1, 2])));
        let resent = judged.filter_map(|(now, verdict)| match verdict {
            Verdict::Resend(copies) => Some((now, copies)),
            Verdict::Duplicate | Verdict::OverBudget => None,
        });
        resent.collect()
    }

    /// For a client that asks for everything again and again.
    fn distrustful() -> Resends {
        let mut resends = Resends::default();
        (100..110).for_each(|seq| _ = answers(&mut resends, 0..500, seq));
        resends
    }

    #[test]
    fn a_packet_is_resent_once_a_round_trip_and_three_times_as_a_rule() {
        assert_eq!(answers(&mut distrustful(), 500..1_500, 7), [(500, 1), (550, 2)]);
    }

    #[test]
    fn where_repairs_do_arrive_one_that_does_not_is_sent_again() {
        let mut resends = Resends::default();
        for seq in 0..50 {
            assert_eq!(answers(&mut resends, 0..1, seq), [(0, 1)]);
        }
        let resent = answers(&mut resends, 0..1_000, 99);
        assert_eq!(resent, [(0, 1), (50, 2), (100, 2), (150, 2), (200, 2), (250, 1)]);
    }

    #[test]
    fn where_everything_is_asked_for_again_and_again_three_times_are_enough() {
        let mut resends = Resends::default();
        let mut resent = 0;
        // A hundred packets a second are lost, and each is asked for ten times.
        for time in (0..60_000).step_by(10) {
            for back in 0..10 {
                let Some(seq) = (time / 10_u64).checked_sub(10 * back) else { continue };
                let copies = answers(&mut resends, time..time + 1, seq);
                resent += copies.iter().map(|(_, copies)| u32::from(*copies)).sum::<u32>();
            }
        }
        assert!((17_900..=18_050).contains(&resent), "{resent} for 6000 packets");
    }

    #[test]
    fn a_repair_that_is_known_to_be_lost_is_sent_again_at_once_and_counts() {
        let mut resends = distrustful();
        assert_eq!(answers(&mut resends, 500..501, 7), [(500, 1)]);
        resends.on_lost(at(510), 8);
        assert_eq!(answers(&mut resends, 510..511, 7), []);
        resends.on_lost(at(510), 7);
        assert!(resends.has_resent(7) && !resends.has_resent(8));
        assert_eq!(resends.judge(at(510), 7, ms(50), [2, 2]), Verdict::Resend(2));
        let resent = (511..1_500).filter(|now| {
            resends.on_lost(at(*now), 7);
            resends.judge(at(*now), 7, ms(50), [2, 2]) != Verdict::Duplicate
        });
        assert_eq!(resent.count(), 0, "three, as a rule");
    }

    #[test]
    fn what_the_budget_refused_can_be_asked_for_at_once() {
        let mut resends = distrustful();
        assert_eq!(answers(&mut resends, 500..501, 7), [(500, 1)]);
        resends.on_refused(at(501), 7);
        assert_eq!(answers(&mut resends, 501..1_500, 7), [(501, 1), (551, 2)]);
    }

    #[test]
    fn a_request_that_crosses_with_a_packet_that_came_late_is_a_duplicate() {
        let mut resends = Resends::default();
        resends.on_late(at(100), 7, ms(50));
        assert_eq!(answers(&mut resends, 101..200, 7), [(150, 1)]);
        // Also after so many days that milliseconds wrap.
        let later = 30 * 24 * 3_600_000;
        assert_eq!(answers(&mut resends, later..later + 1, 9), [(later, 1)]);
    }

    #[test]
    fn packets_do_not_hinder_each_other() {
        let mut resends = Resends::default();
        assert_eq!(answers(&mut resends, 0..1, 7), [(0, 1)]);
        assert_eq!(answers(&mut resends, 0..1, 8), [(0, 1)]);
        assert_eq!(answers(&mut resends, 1..2, 7), []);
    }
}

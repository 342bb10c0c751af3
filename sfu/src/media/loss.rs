//! What share of a stream is lost, window by window.

use std::time::{Duration, Instant};

/// Long enough to tell two per cent from three at fifty packets a second.
pub const WINDOW: Duration = Duration::from_secs(10);

/// The loss of one stream, from totals that reports tell now and then.
///
/// A window is as long for every stream: told per report, who reports more often would weigh more.
#[derive(Clone, Copy, Debug, Default)]
pub struct LossWindow {
    /// What the last report told.
    told: Option<Totals>,
    /// Since when, and what has come together in the window.
    window: Option<(Instant, Share)>,
}

/// Packets that should have come and those among them that did not, since the stream began.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Totals {
    /// Modulo 2^32.
    pub expected: u32,
    /// A repeated packet takes one away.
    pub lost: i32,
}

/// Packets expected, and those among them that were lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Share {
    pub expected: u64,
    pub lost: u64,
}

/// More than this between two reports is a stream that began anew.
const MAX_EXPECTED: u32 = 1 << 20;

impl Share {
    pub fn add(&mut self, other: Share) {
        self.expected += other.expected;
        self.lost += other.lost;
    }

    /// `None` of nothing.
    pub fn ratio(self) -> Option<f64> {
        (self.expected > 0).then(|| self.lost.min(self.expected) as f64 / self.expected as f64)
    }
}

impl LossWindow {
    /// A report tells the totals. Returns what is new since the last one, and the window that has ended with it.
    pub fn on_report(&mut self, now: Instant, totals: Totals) -> (Share, Option<Share>) {
        let before = self.told.replace(totals).unwrap_or(totals);
        let expected = totals.expected.wrapping_sub(before.expected);
        if expected > MAX_EXPECTED {
            return (Share::default(), None);
        }
        let lost = i64::from(totals.lost) - i64::from(before.lost);
        let new = Share { expected: expected.into(), lost: lost.max(0) as u64 };
        let (since, share) = self.window.get_or_insert((now, Share::default()));
        share.add(new);
        if now.saturating_duration_since(*since) < WINDOW {
            return (new, None);
        }
        let ended = std::mem::take(share);
        *since = now;
        (new, (ended.expected > 0).then_some(ended))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::at;

    fn totals(expected: u32, lost: i32) -> Totals {
        Totals { expected, lost }
    }

    #[test]
    fn a_window_ends_after_ten_seconds_with_the_share_of_all_reports_in_it() {
        let mut window = LossWindow::default();
        let mut ended = Vec::new();
        for second in 0..=20_u32 {
            // A tenth lost in the second ten seconds.
            let lost = 5 * second.saturating_sub(10);
            let report = totals((u32::MAX - 100).wrapping_add(50 * second), lost as i32);
            ended.extend(window.on_report(at(u64::from(second) * 1_000), report).1);
        }
        assert_eq!(ended, [Share { expected: 500, lost: 0 }, Share { expected: 500, lost: 50 }]);
        assert_eq!(ended[1].ratio(), Some(0.1));
    }

    #[test]
    fn what_was_lost_before_the_first_report_is_nobodys() {
        let mut window = LossWindow::default();
        assert_eq!(window.on_report(at(0), totals(1_000, 300)), (Share::default(), None));
        assert_eq!(window.on_report(at(1_000), totals(1_050, 301)).0, Share { expected: 50, lost: 1 });
    }

    #[test]
    fn lies_are_no_losses() {
        let mut window = LossWindow::default();
        window.on_report(at(0), totals(1_000, 0));
        assert_eq!(window.on_report(at(1), totals(900, i32::MAX)), (Share::default(), None), "backwards");
        assert_eq!(window.on_report(at(2), totals(950, i32::MIN)).0, Share { expected: 50, lost: 0 });
        let worst = window.on_report(at(3), totals(1_000, i32::MAX)).0;
        assert_eq!(worst.ratio(), Some(1.0));
    }

    #[test]
    fn a_silent_stream_has_no_share() {
        let mut window = LossWindow::default();
        let ended: Vec<_> =
            (0..30).filter_map(|second| window.on_report(at(second * 1_000), totals(7, 0)).1).collect();
        assert_eq!(ended, []);
    }
}

//! How well a connection does, as both its ends report: what is lost, how unevenly packets come, how far they go.

use std::time::{Duration, Instant};

use crate::counters::{Counters, Direction, Leg, LossThreshold};
use crate::ids::MediaKind;
use crate::media::loss::{LossWindow, Share, Totals, WINDOW};

/// One connection's quality.
#[derive(Debug, Default)]
pub struct Quality {
    /// Since it began, by direction and kind.
    whole: [[Share; 2]; 2],
    /// What the peer has lost of everything we send, in the window that began then.
    lately: Option<(Instant, Share)>,
    /// How many of the thresholds the last window was above.
    hurt: usize,
}

impl Quality {
    /// A report tells about one stream. `jitter`: how unevenly its packets come.
    pub fn on_report(
        &mut self,
        now: Instant,
        (direction, kind): (Direction, MediaKind),
        window: &mut LossWindow,
        totals: Totals,
        jitter: Duration,
        counters: &mut Counters,
    ) {
        let (new, ended) = window.on_report(now, totals);
        self.whole[direction as usize][kind as usize].add(new);
        if direction == Direction::Out {
            self.lately.get_or_insert((now, Share::default())).1.add(new);
        }
        if new.expected > 0 {
            counters.jitter(direction, kind, jitter);
        }
        if let Some(ratio) = ended.and_then(Share::ratio) {
            counters.loss(direction, kind, ratio);
        }
    }

    /// To be called each second: whether the peer is one of those who suffer.
    pub fn on_second(&mut self, now: Instant, counters: &mut Counters) {
        let Some((since, share)) = &mut self.lately else { return };
        if now.saturating_duration_since(*since) < WINDOW {
            return;
        }
        let ratio = std::mem::take(share).ratio().unwrap_or(0.0);
        *since = now;
        let hurt = LossThreshold::ALL.iter().take_while(|threshold| ratio > threshold.ratio()).count();
        self.book(hurt, counters);
    }

    /// The round trip to the peer was measured, at most once a second.
    pub fn on_round_trip(&self, rtt: Duration, publishes: bool, subscribes: bool, counters: &mut Counters) {
        if publishes {
            counters.rtt(Leg::Publisher, rtt);
        }
        if subscribes {
            counters.rtt(Leg::Subscriber, rtt);
        }
    }

    /// The connection ends: what it was like as a whole.
    pub fn end(&mut self, counters: &mut Counters) {
        self.book(0, counters);
        for direction in Direction::ALL {
            for kind in [MediaKind::Audio, MediaKind::Video] {
                let share = std::mem::take(&mut self.whole[direction as usize][kind as usize]);
                if let Some(ratio) = share.ratio() {
                    counters.session_loss(direction, kind, ratio);
                }
            }
        }
    }

    fn book(&mut self, hurt: usize, counters: &mut Counters) {
        for (at, lossy) in counters.gauges.lossy_subscribers.iter_mut().enumerate() {
            *lossy = *lossy + u64::from(at < hurt) - u64::from(at < self.hurt);
        }
        self.hurt = hurt;
    }
}

#[test]
fn who_suffers_is_counted_until_it_passes_or_they_leave() {
    use crate::testing::at;
    let mut counters = Counters::default();
    let (mut quality, mut window) = (Quality::default(), LossWindow::default());
    let (mut expected, mut lost) = (0, 0);
    let mut second = |n: u64, share: i32| {
        (expected, lost) = (expected + 100, lost + share);
        let totals = Totals { expected, lost };
        let stream = (Direction::Out, MediaKind::Video);
        quality.on_report(at(n * 1_000), stream, &mut window, totals, Duration::ZERO, &mut counters);
        quality.on_second(at(n * 1_000), &mut counters);
        counters.gauges.lossy_subscribers
    };
    (0..10).for_each(|n| assert_eq!(second(n, 4), [0; 3]));
    assert_eq!(second(10, 4), [1, 1, 0], "four in a hundred");
    (11..20).for_each(|n| assert_eq!(second(n, 0), [1, 1, 0]));
    assert_eq!(second(20, 0), [0; 3]);
    (21..30).for_each(|n| assert_eq!(second(n, 30), [0; 3]));
    assert_eq!(second(30, 30), [1; 3]);
    quality.end(&mut counters);
    assert_eq!(counters.gauges.lossy_subscribers, [0; 3]);
    let whole = &counters.session_loss[Direction::Out as usize][MediaKind::Video as usize];
    assert_eq!(whole.count(), 1);
    // 340 of 3000, but that what the first report told was before its time.
    assert_eq!(whole.sum, 340_000_000_000 / 3_000);
}

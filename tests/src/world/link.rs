//! One direction of a path: what gets lost, late, doubled or queued on it.

use std::time::{Duration, Instant};

use super::dice::Dice;

/// How datagrams get lost.
#[derive(Clone, Copy, Debug, Default)]
pub enum Loss {
    #[default]
    None,
    /// Each by itself.
    Random(f64),
    /// Gilbert–Elliott: two states, and everything is lost in the bad one.
    Bursts {
        /// Chance per datagram to turn bad.
        worsen: f64,
        /// Chance per datagram to turn good again: the mean burst is one over it.
        recover: f64,
    },
}

/// What a link does to datagrams.
#[derive(Clone, Copy, Debug)]
pub struct Conditions {
    pub loss: Loss,
    pub delay: Duration,
    /// Added to the delay, evenly spread. Order is kept.
    pub jitter: Duration,
    /// Share of datagrams that come `delay + 2 × jitter + 5 ms` late, overtaken by others.
    pub reorder: f64,
    /// Share of datagrams that come twice.
    pub duplicate: f64,
    /// Bits per second. Without it, a link takes everything at once.
    pub rate: Option<u64>,
    /// What may wait for the rate, in time. What does not fit is lost.
    pub queue: Duration,
}

impl Default for Conditions {
    fn default() -> Self {
        Conditions {
            loss: Loss::None,
            delay: Duration::from_millis(10),
            jitter: Duration::ZERO,
            reorder: 0.0,
            duplicate: 0.0,
            rate: None,
            queue: Duration::from_millis(200),
        }
    }
}

/// One direction between a client and the engine.
pub struct Link {
    pub conditions: Conditions,
    dice: Dice,
    bad: bool,
    /// Until when the sender side is busy with what it has taken.
    busy_until: Option<Instant>,
    latest: Option<Instant>,
    pub carried: u64,
    pub lost: u64,
}

impl Link {
    pub fn new(dice: Dice) -> Link {
        Link {
            conditions: Conditions::default(),
            dice,
            bad: false,
            busy_until: None,
            latest: None,
            carried: 0,
            lost: 0,
        }
    }

    /// Takes a datagram of `len` bytes; answers when it arrives: never, once or twice.
    pub fn carry(&mut self, now: Instant, len: usize) -> [Option<Instant>; 2] {
        if self.loses() {
            self.lost += 1;
            return [None; 2];
        }
        let Some(sent) = self.serialize(now, len) else {
            self.lost += 1;
            return [None; 2];
        };
        self.carried += 1;
        let first = self.arrival(sent);
        let second = self.dice.chance(self.conditions.duplicate).then(|| self.arrival(sent));
        [Some(first), second]
    }

    fn loses(&mut self) -> bool {
        match self.conditions.loss {
            Loss::None => false,
            Loss::Random(share) => self.dice.chance(share),
            Loss::Bursts { worsen, recover } => {
                let turn = if self.bad { recover } else { worsen };
                self.bad ^= self.dice.chance(turn);
                self.bad
            }
        }
    }

    /// When the last bit has left, or nothing if the queue is full.
    fn serialize(&mut self, now: Instant, len: usize) -> Option<Instant> {
        let Some(rate) = self.conditions.rate else { return Some(now) };
        let start = self.busy_until.map_or(now, |at| at.max(now));
        if start.saturating_duration_since(now) > self.conditions.queue {
            return None;
        }
        let sent = start + Duration::from_micros(len as u64 * 8_000_000 / rate.max(1));
        self.busy_until = Some(sent);
        Some(sent)
    }

    fn arrival(&mut self, sent: Instant) -> Instant {
        let Conditions { delay, jitter, reorder, .. } = self.conditions;
        let spread = Duration::from_micros(self.dice.below(jitter.as_micros() as u64 + 1));
        if self.dice.chance(reorder) {
            return sent + delay + jitter * 2 + Duration::from_millis(5);
        }
        let at = (sent + delay + spread).max(self.latest.unwrap_or(sent));
        self.latest = Some(at);
        at
    }
}

#[test]
fn bursts_lose_as_much_as_they_say() {
    let mut link = Link::new(Dice::new(1));
    link.conditions.loss = Loss::Bursts { worsen: 0.02, recover: 0.2 };
    let now = super::clock::origin();
    for _ in 0..50_000 {
        link.carry(now, 1_000);
    }
    let share = link.lost as f64 / 50_000.0;
    assert!((0.08..0.105).contains(&share), "stationary loss is 0.02 / 0.22, not {share}");
}

#[test]
fn a_slow_link_queues_and_then_loses() {
    let mut link = Link::new(Dice::new(1));
    link.conditions.rate = Some(1_000_000);
    let now = super::clock::origin();
    let taken = (0..100).filter(|_| link.carry(now, 1_250)[0].is_some()).count();
    assert_eq!(taken, 21, "10 ms each, 200 ms of queue, one in service");
}

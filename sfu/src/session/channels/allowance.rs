//! How much a peer may say.

use std::time::{Duration, Instant};

/// Two token buckets, of messages and of bytes, since either can be many: each message goes to everybody in the room.
#[derive(Debug)]
pub struct Allowance {
    messages: Bucket,
    bytes: Bucket,
}

#[derive(Debug)]
struct Bucket {
    per_second: u64,
    burst: u64,
    left: u64,
    since: Instant,
}

impl Allowance {
    pub fn new(now: Instant) -> Allowance {
        Allowance { messages: Bucket::new(now, MESSAGES, 2), bytes: Bucket::new(now, BYTES, 2) }
    }

    /// Whether a message of so many bytes may go on. Answering `true` counts as having let it.
    pub fn take(&mut self, now: Instant, bytes: usize) -> bool {
        self.messages.refill(now);
        self.bytes.refill(now);
        let bytes = bytes as u64;
        let granted = self.messages.left >= 1 && self.bytes.left >= bytes;
        if granted {
            self.messages.left -= 1;
            self.bytes.left -= bytes;
        }
        granted
    }
}

impl Bucket {
    /// Full, with so many seconds' worth.
    fn new(now: Instant, per_second: u64, seconds: u64) -> Bucket {
        let burst = per_second * seconds;
        Bucket { per_second, burst, left: burst, since: now }
    }

    fn refill(&mut self, now: Instant) {
        let idle = now.saturating_duration_since(self.since).min(LONG);
        let more = idle.as_micros() as u64 * self.per_second / 1_000_000;
        if more > 0 {
            self.left = (self.left + more).min(self.burst);
            // What is not a whole one yet is not lost.
            self.since = match idle == LONG {
                true => now,
                false => self.since + Duration::from_micros(more * 1_000_000 / self.per_second),
            };
        }
    }
}

/// Sixty a second is a game's; people type less.
const MESSAGES: u64 = 200;
/// 4 Mb/s, as video has.
const BYTES: u64 = 512 * 1024;
/// After which every bucket is full.
const LONG: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_so_many_a_second() {
        let start = crate::testing::at(0);
        let mut allowance = Allowance::new(start);
        assert_eq!((0..1_000).filter(|_| allowance.take(start, 1)).count(), 400);
        let later = start + Duration::from_millis(1_004);
        assert_eq!((0..1_000).filter(|_| allowance.take(later, 1)).count(), 200);
        assert!(
            allowance.take(start + Duration::from_millis(1_005), 1),
            "the rest of the time before counts"
        );
    }

    #[test]
    fn bytes_count_too() {
        let start = crate::testing::at(0);
        let mut allowance = Allowance::new(start);
        assert_eq!((0..1_000).filter(|_| allowance.take(start, 64 * 1024)).count(), 16);
        assert!(!allowance.take(start, 64 * 1024));
        assert!(allowance.take(start + Duration::from_secs(3_600), 64 * 1024));
    }
}

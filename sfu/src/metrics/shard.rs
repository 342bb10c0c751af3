//! Where a worker shows its counters to the scrape: relaxed atomics with a single writer.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::counters::{Cells, Counters, Hist, IoOp, LOOP_LAG, cells, nanos};

cells! {
    /// What a worker counts about itself, beside its engine. Times are in nanoseconds.
    #[derive(Clone, Default, PartialEq, Eq, Debug)]
    pub struct WorkerCounters {
        /// Loop wall time minus poll wait.
        pub busy: u64,
        /// The thread's CPU time.
        pub cpu: u64,
        /// Turns of the loop.
        pub iterations: u64,
        /// Socket batches, by operation.
        pub io_batches: [u64; IoOp::ALL.len()],
        /// Packets in those batches.
        pub io_batch_packets: [u64; IoOp::ALL.len()],
        /// How late the timer came.
        pub lag: Hist<{ LOOP_LAG.len() }>,
        /// The worst lag lately.
        pub recent_lag: RecentMax,
    }

    /// The maximum of the last five seconds, in five slots of ten samples at 100 ms.
    #[derive(Clone, Default, PartialEq, Eq, Debug)]
    pub struct RecentMax {
        /// The newest slot first.
        pub slots: [u64; 5],
        /// Samples in the newest slot.
        pub samples: u64,
    }
}

impl WorkerCounters {
    /// One turn of the loop, which worked this long and did not wait.
    pub fn turn(&mut self, busy: Duration) {
        self.iterations += 1;
        self.busy = self.busy.wrapping_add(nanos(busy));
    }

    /// The 100 ms timer came this late.
    pub fn lag(&mut self, late: Duration) {
        self.lag.record(&LOOP_LAG, late);
        self.recent_lag.push(nanos(late));
    }

    /// One receive or send call moved this many packets.
    pub fn io(&mut self, op: IoOp, packets: usize) {
        self.io_batches[op as usize] += 1;
        self.io_batch_packets[op as usize] += packets as u64;
    }

    /// `calls` send calls moved this many packets together.
    pub fn sends(&mut self, calls: u64, packets: u64) {
        self.io_batches[IoOp::Send as usize] += calls;
        self.io_batch_packets[IoOp::Send as usize] += packets;
    }

    /// The thread has used this much CPU since it started.
    pub fn set_cpu(&mut self, total: Duration) {
        self.cpu = nanos(total);
    }
}

impl RecentMax {
    /// Samples in a slot: one second of them.
    const PER_SLOT: u64 = 10;

    /// The largest of the last 40 to 50 samples.
    pub fn max(&self) -> u64 {
        self.slots.into_iter().max().unwrap_or(0)
    }

    fn push(&mut self, value: u64) {
        if self.samples == Self::PER_SLOT {
            self.slots.rotate_right(1);
            self.slots[0] = 0;
            self.samples = 0;
        }
        self.slots[0] = self.slots[0].max(value);
        self.samples += 1;
    }
}

/// One worker's counters as other threads see them.
///
/// The worker stores totals it keeps itself, so nothing is read back and no instruction is locked.
/// 128-byte alignment keeps the neighbour's prefetched line pair out (two 64-byte lines on x86).
#[repr(align(128))]
pub struct Shard {
    engine: [AtomicU64; Counters::LEN],
    worker: [AtomicU64; WorkerCounters::LEN],
}

impl Shard {
    /// All zero.
    pub fn new() -> Shard {
        Shard {
            engine: [const { AtomicU64::new(0) }; Counters::LEN],
            worker: [const { AtomicU64::new(0) }; WorkerCounters::LEN],
        }
    }

    /// Shows the engine's counters. Only the owning worker calls this: after each batch, and at
    /// least every 100 ms, which is how often the saturation controller looks.
    pub fn publish(&self, counters: &Counters) {
        store(&self.engine, counters);
    }

    /// Shows the worker's own counters, likewise.
    pub fn publish_worker(&self, counters: &WorkerCounters) {
        store(&self.worker, counters);
    }

    /// Adds what the engine has published.
    pub fn add_to(&self, counters: &mut Counters) {
        add(&self.engine, counters);
    }

    /// Adds what the worker has published about itself.
    pub fn add_worker_to(&self, counters: &mut WorkerCounters) {
        add(&self.worker, counters);
    }

    /// Takes over the counts of a dead worker's shard; what that worker held is gone with it.
    pub fn absorb(&self, dead: &Shard) {
        let mut engine = Counters::default();
        self.add_to(&mut engine);
        dead.add_to(&mut engine);
        engine.gauges = Default::default();
        self.publish(&engine);

        let mut worker = WorkerCounters::default();
        self.add_worker_to(&mut worker);
        dead.add_worker_to(&mut worker);
        worker.recent_lag = Default::default();
        self.publish_worker(&worker);
    }
}

impl Default for Shard {
    fn default() -> Self {
        Shard::new()
    }
}

fn store(cells: &[AtomicU64], counters: &impl Cells) {
    let mut cells = cells.iter();
    counters.visit(&mut |value| {
        if let Some(cell) = cells.next() {
            cell.store(value, Relaxed);
        }
    });
}

fn add(cells: &[AtomicU64], counters: &mut impl Cells) {
    let mut cells = cells.iter();
    counters.visit_mut(&mut |value| {
        if let Some(cell) = cells.next() {
            *value = value.wrapping_add(cell.load(Relaxed));
        }
    });
}

#[test]
fn what_is_published_is_read_back() {
    let mut counters = Counters::default();
    let mut next = 1;
    counters.visit_mut(&mut |cell| {
        *cell = next;
        next += 1;
    });
    let shard = Shard::new();
    shard.publish(&counters);
    let mut read = Counters::default();
    shard.add_to(&mut read);
    assert_eq!(read, counters);
}

#[test]
fn the_worst_lag_is_forgotten_after_five_seconds() {
    let mut worker = WorkerCounters::default();
    worker.lag(Duration::from_millis(30));
    for _ in 0..49 {
        worker.lag(Duration::from_millis(1));
    }
    assert_eq!(worker.recent_lag.max(), 30_000_000);
    worker.lag(Duration::from_millis(1));
    assert_eq!(worker.recent_lag.max(), 1_000_000);
    assert_eq!(worker.lag.count(), 51);
}

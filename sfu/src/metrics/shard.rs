//! Where a worker shows its counters to the scrape: relaxed atomics with a single writer.

use std::marker::PhantomData;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
    fence,
};
use std::time::Duration;

use crate::counters::{ByDirection, Cells, Counters, Hist, IoOp, LOOP_LAG, cells, nanos};

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
        /// Engines that were not to be trusted any more, and were replaced.
        pub restarts: u64,
        /// What arrives and what leaves, in bits per second, over the last five seconds.
        pub bitrates: ByDirection,
        /// Calls of the host's that wait.
        pub control_depth: u64,
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

    /// What the worker leaves behind when its thread ends: its totals.
    pub fn carried_over(self) -> WorkerCounters {
        let (recent_lag, bitrates) = Default::default();
        WorkerCounters { recent_lag, bitrates, control_depth: 0, ..self }
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
pub struct Shard {
    /// What its engine counts. Only the owning worker publishes: at least every 100 ms, which is how often the
    /// saturation controller looks.
    pub engine: Board<Counters>,
    /// What the worker counts about itself, likewise.
    pub worker: Board<WorkerCounters>,
}

impl Shard {
    /// All zero.
    pub fn new() -> Shard {
        Shard { engine: Board::new(), worker: Board::new() }
    }
}

impl Default for Shard {
    fn default() -> Self {
        Shard::new()
    }
}

/// Counters with one writer, who stores totals that it keeps itself: nothing is read back, and no instruction is
/// locked.
///
/// A sequence lock: the version is odd while the writer stores, and whoever reads tries again if it has changed. What
/// is read was all true at one moment, so that the books balance in each scrape.
pub struct Board<T> {
    version: AtomicU64,
    cells: Box<[Line]>,
    of: PhantomData<fn(T) -> T>,
}

/// 128-byte alignment keeps the neighbour's prefetched line pair out (two 64-byte lines on x86).
#[repr(align(128))]
struct Line([AtomicU64; 16]);

impl<T: Cells + Default> Board<T> {
    fn new() -> Board<T> {
        let line = |_| Line([const { AtomicU64::new(0) }; 16]);
        let cells = (0..T::LEN.div_ceil(16)).map(line).collect();
        Board { version: AtomicU64::new(0), cells, of: PhantomData }
    }

    /// Shows these. Only one thread may call it.
    pub fn publish(&self, counters: &T) {
        // Odd already where an earlier call was cut off.
        let writing = self.version.load(Relaxed) | 1;
        self.version.store(writing, Relaxed);
        fence(Release);
        let mut cells = self.cells();
        counters.visit(&mut |value| {
            if let Some(cell) = cells.next() {
                cell.store(value, Relaxed);
            }
        });
        self.version.store(writing + 1, Release);
    }

    /// What was published last.
    pub fn read(&self) -> T {
        let mut read = T::default();
        for _ in 0..MOST_TRIES {
            let before = self.version.load(Acquire);
            self.read_cells(&mut read);
            fence(Acquire);
            if before.is_multiple_of(2) && self.version.load(Relaxed) == before {
                break;
            }
            // The writer needs a microsecond, unless it has lost its CPU.
            std::thread::yield_now();
        }
        read
    }

    fn read_cells(&self, into: &mut T) {
        let mut cells = self.cells();
        into.visit_mut(&mut |value| {
            if let Some(cell) = cells.next() {
                *value = cell.load(Relaxed);
            }
        });
    }

    fn cells(&self) -> impl Iterator<Item = &AtomicU64> {
        self.cells.iter().flat_map(|line| &line.0)
    }
}

/// A writer that takes longer has died over it. Each cell is still one that it has stored.
const MOST_TRIES: usize = 10_000;

#[test]
fn what_is_published_is_read_back() {
    let mut counters = Counters::default();
    let mut next = 1;
    counters.visit_mut(&mut |cell| {
        *cell = next;
        next += 1;
    });
    let shard = Shard::new();
    shard.engine.publish(&counters);
    assert_eq!(shard.engine.read(), counters);
}

#[test]
fn what_is_read_was_true_at_one_moment() {
    let shard = Shard::new();
    let most = 5_000;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut counters = Counters::default();
            for n in 1..=most {
                counters.visit_mut(&mut |cell| *cell = n);
                shard.engine.publish(&counters);
            }
        });
        let mut last = 0;
        while last < most {
            let mut read = Vec::new();
            shard.engine.read().visit(&mut |value| read.push(value));
            assert!(read[0] >= last, "it only grows");
            last = read[0];
            assert!(read.iter().all(|value| *value == last), "{last} and others");
        }
    });
}

#[test]
fn a_writer_that_died_over_it_is_not_waited_for() {
    let shard = Shard::new();
    let mut counters = Counters::default();
    counters.cap_violation();
    shard.engine.publish(&counters);
    shard.engine.version.fetch_add(1, Relaxed);
    assert_eq!(shard.engine.read(), counters);
    counters.cap_violation();
    shard.engine.publish(&counters);
    assert!(shard.engine.version.load(Relaxed).is_multiple_of(2), "what is left of it is told after all");
    assert_eq!(shard.engine.read(), counters);
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

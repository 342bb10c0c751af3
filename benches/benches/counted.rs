//! What counting costs of forwarding, in instructions, which other processes do not disturb: one publisher, two hundred
//! subscribers, a real engine, the same work each time.
//!
//! ```sh
//! cargo bench -p sluicegate-benches --bench counted --no-run      # says which file
//! valgrind --tool=callgrind --callgrind-out-file=/dev/null --collect-atstart=no \
//!     --toggle-collect='*Stage*forward*' FILE
//! ```
//!
//! once as it is and once built with `SLUICEGATE_BENCH_UNRECORDED=1`.

use std::hint::black_box;

use sluicegate_benches::stage::{PACKETS, Stage};

const SUBSCRIBERS: usize = 200;
/// Frames sealed ahead of what is counted, and how often.
const BATCH: usize = 32;
const BATCHES: usize = 4;

fn main() {
    let mut stage = Stage::new(SUBSCRIBERS);
    let mut left = 0;
    for _ in 0..BATCHES {
        let mut sealed = stage.seal(BATCH);
        left += black_box(stage.forward(&mut sealed)).datagrams;
    }
    // Padding and reports leave too.
    assert!(left >= (BATCHES * BATCH * PACKETS * SUBSCRIBERS) as u64, "{left}");
    println!("{left} packets left");
}

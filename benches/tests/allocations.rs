//! The promise that forwarding does not allocate, held against a counting allocator.

use std::alloc::System;

use sluicegate_benches::stage::{PACKETS, Stage};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static COUNTING: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

#[test]
fn forwarding_does_not_allocate_per_packet() {
    const SUBSCRIBERS: usize = 20;
    const FRAMES: usize = 100;
    let mut stage = Stage::new(SUBSCRIBERS);
    let mut sealed = stage.seal(FRAMES);
    let region = Region::new(COUNTING);
    let count = stage.forward(&mut sealed);
    let change = region.change();
    let forwarded = FRAMES * PACKETS * SUBSCRIBERS;
    let allocations = change.allocations + change.reallocations;
    println!(
        "{forwarded} packets forwarded in {} sends: {allocations} allocations, {} bytes",
        count.sends, change.bytes_allocated
    );
    assert!(count.datagrams >= forwarded as u64);
    // Timers keep a tree, which now and then takes a node.
    assert!(allocations * 1_000 <= forwarded, "{allocations} allocations for {forwarded} packets");
}

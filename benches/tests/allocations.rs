//! The promise that forwarding does not allocate, held against a counting allocator.

use std::alloc::System;

use sluicegate_benches::stage::{PACKETS, Stage};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static COUNTING: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

// One test: it counts what the whole process allocates.
#[test]
fn forwarding_does_not_allocate_per_packet() {
    pictures();
    voices();
}

fn pictures() {
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

fn voices() {
    const SUBSCRIBERS: usize = 20;
    let mut stage = Stage::new(SUBSCRIBERS);
    // Silence, which nobody hears after the room is told so; words, and what came just before them.
    let talk = |stage: &mut Stage, packets: usize, level: u8| {
        let (mut allocations, mut datagrams) = (0, 0);
        for _ in 0..packets {
            let mut sealed = [stage.say(level)];
            let region = Region::new(COUNTING);
            datagrams += stage.forward(&mut sealed).datagrams as usize;
            let change = region.change();
            allocations += change.allocations + change.reallocations;
        }
        (allocations, datagrams)
    };
    // Rings and what is kept of the packets sent grow to their size.
    talk(&mut stage, 2_000, 20);
    let all = talk(&mut stage, 500, 20);
    talk(&mut stage, 50, 70);
    stage.listen_closely();
    let none = talk(&mut stage, 500, 70);
    let again = talk(&mut stage, 500, 20);
    println!("allocations and datagrams: {all:?} heard, {none:?} not, {again:?} again");
    assert!(all.1 >= 500 * SUBSCRIBERS && again.1 >= 500 * SUBSCRIBERS);
    assert!(none.1 < 20 * SUBSCRIBERS, "feedback alone");
    for (allocations, _) in [all, none, again] {
        assert!(allocations <= 10, "{allocations} allocations for 500 packets");
    }
}

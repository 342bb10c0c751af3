//! What forwarding costs: one publisher, N subscribers, a real engine, no sockets.
//!
//! A frame of five packets of 1200 bytes comes in and is flushed to an outlet that counts. The figure is per
//! packet that leaves: its share of opening the publisher's packet, and its own copy, header and seal.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sluicegate_benches::clock;
use sluicegate_benches::stage::{PACKETS, Stage};

fn fanout(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fanout");
    for subscribers in [1, 10, 100, 1_000] {
        group.throughput(Throughput::Elements((PACKETS * subscribers) as u64));
        let id = BenchmarkId::from_parameter(subscribers);
        let mut stage = None;
        group.bench_function(id, |bencher| {
            // Built on first use, so that a filtered-out size costs nothing.
            let stage = stage.get_or_insert_with(|| Stage::new(subscribers));
            bencher.iter_custom(|iterations| {
                let mut taken = Duration::ZERO;
                let mut left = iterations as usize;
                while left > 0 {
                    let frames = left.min(BATCH);
                    let mut sealed = stage.seal(frames);
                    let start = clock::now();
                    black_box(stage.forward(&mut sealed));
                    taken += clock::now() - start;
                    left -= frames;
                }
                taken
            });
        });
    }
    group.finish();
}

/// What a packet of audio costs that is heard by one subscriber, and one that nobody hears of a thousand: opened, ranked
/// and filed, and not copied.
fn voices(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("voice");
    for (name, subscribers, level) in [("heard", 1, 20), ("left_out", 1, 70), ("left_out", 1_000, 70)] {
        let mut stage = None;
        group.bench_function(BenchmarkId::new(name, subscribers), |bencher| {
            let stage = stage.get_or_insert_with(|| {
                let mut stage = Stage::new(subscribers);
                (0..10).for_each(|_| _ = stage.say(level));
                stage.listen_closely();
                stage
            });
            bencher.iter_custom(|iterations| {
                let mut sealed: Vec<_> = (0..iterations).map(|_| stage.say(level)).collect();
                let start = clock::now();
                black_box(stage.forward(&mut sealed));
                clock::now() - start
            });
        });
    }
    group.finish();
}

/// Frames sealed ahead, outside the measured time.
const BATCH: usize = 32;

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_secs(1));
    targets = fanout, voices
}
criterion_main!(benches);

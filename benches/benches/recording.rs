//! What counting costs: the engine's own counters alone, per copy that leaves, and a scrape of sixteen workers.
//!
//! End to end, with the rest of forwarding around it: `--bench fanout`, once as it is and once with
//! `SLUICEGATE_BENCH_UNRECORDED=1`, which compiles recording out.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sluicegate::sans_io::{Counters, Transmission};
use sluicegate::{Config, MediaKind, Sfu};

/// Packets that leave in one send.
const RUN: u64 = 5;
const SUBSCRIBERS: u64 = 100;

/// What the engine records about a frame of five packets for a hundred subscribers.
fn forwarded(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("recording");
    group.throughput(Throughput::Elements(RUN * SUBSCRIBERS));
    let mut counters = Counters::default();
    group.bench_function("a frame for a hundred", |bencher| {
        bencher.iter(|| {
            let counters = black_box(&mut counters);
            for _ in 0..RUN {
                counters.ingress(MediaKind::Video, Transmission::First, black_box(1_200));
                counters.fanout(MediaKind::Video, SUBSCRIBERS as usize);
                for _ in 0..SUBSCRIBERS {
                    counters.queued(black_box(MediaKind::Video));
                }
            }
            for _ in 0..SUBSCRIBERS {
                let latency = black_box(Duration::from_micros(300));
                counters.unqueued(MediaKind::Video, RUN);
                counters.egress_run(black_box(MediaKind::Video), Transmission::First, RUN, 6_000);
                counters.forward_latency(MediaKind::Video, latency, RUN);
            }
        });
    });
    group.finish();
}

/// From the host's thread; the workers do not notice.
fn scrape(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("it needs nothing");
    let config = Config::new("127.0.0.1:0".parse().expect("an address")).workers(16);
    let sfu = runtime.block_on(Sfu::start(config)).expect("loopback is there");
    let registry = sfu.metrics().registry();
    criterion.bench_function("a scrape of sixteen workers", |bencher| {
        bencher.iter(|| {
            let mut text = String::new();
            sluicegate::prometheus_client::encoding::text::encode(&mut text, &registry)
                .expect("a string takes it");
            black_box(text)
        });
    });
    runtime.block_on(sfu.shutdown());
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_secs(1));
    targets = forwarded, scrape
}
criterion_main!(benches);

//! Load on loopback: nothing lost, nothing altered, and the metrics say what the clients saw.
//!
//! In release, one publisher to a hundred subscribers and a mesh of ten, 10 s each; otherwise a reduced shape.
//! `cargo test --release -p sluicegate-tests --test load -- --nocapture` prints the figures.

use std::sync::Mutex;
use std::time::Duration;

use sluicegate_benches::client::Shape;
use sluicegate_benches::report::Report;
use sluicegate_benches::secure::Identity;
use sluicegate_benches::{Join, LoadClient, Swarm, clock, http, probes};
use sluicegate_tests::example::Example;
use sluicegate_tests::scrape;

/// One at a time: they measure.
static ALONE: Mutex<()> = Mutex::new(());

const REDUCED: bool = cfg!(debug_assertions);
const TIME: Duration = Duration::from_secs(if REDUCED { 5 } else { 10 });
const SUBSCRIBERS: usize = if REDUCED { 10 } else { 100 };
const PEOPLE: u32 = if REDUCED { 4 } else { 10 };

fn shape() -> Shape {
    Shape { video_bps: if REDUCED { 300_000 } else { 1_500_000 }, ..Shape::default() }
}

#[test]
fn one_publisher_and_many_subscribers() {
    let _alone = ALONE.lock();
    let demo = Example::start("demo", &["--http", HTTP, "--media", HTTP, "--announce", "127.0.0.1"]).unwrap();
    let identity = Identity::generate().unwrap();
    let mut swarm = Swarm::new().unwrap();
    let publisher = LoadClient::publish(&demo.url("/whip/load?name=source"), &identity, 0, shape()).unwrap();
    swarm.add(publisher).unwrap();
    for _ in 0..SUBSCRIBERS {
        swarm.add(LoadClient::watch(&demo.url("/whep/load"), &identity, 1).unwrap()).unwrap();
    }
    let report = run(&format!("1 → {SUBSCRIBERS}"), &demo, &mut swarm);
    assert_eq!(report.received.audio, report.sent.audio * SUBSCRIBERS as u64);
    assert_eq!(report.received.video, report.sent.video * SUBSCRIBERS as u64);
}

#[test]
fn a_mesh_of_people() {
    let _alone = ALONE.lock();
    let host = Example::start("mount_axum", &[HTTP]).unwrap();
    let identity = Identity::generate().unwrap();
    let mut swarm = Swarm::new().unwrap();
    let others = PEOPLE as usize - 1;
    for number in 0..PEOPLE {
        let url = host.url(&format!("/rooms/mesh/person{number}"));
        let publish = Some((number, shape()));
        let join = Join { publish, audio: others, video: others, ..Join::default() };
        swarm.add(LoadClient::join(&url, &identity, join).unwrap()).unwrap();
    }
    let report = run(&format!("mesh of {PEOPLE}"), &host, &mut swarm);
    assert_eq!(report.received.audio, report.sent.audio * u64::from(PEOPLE - 1));
    assert_eq!(report.received.video, report.sent.video * u64::from(PEOPLE - 1));
    for (number, client) in (0..PEOPLE).zip(swarm.clients()) {
        let others = (0..PEOPLE).filter(|other| *other != number);
        let heard: Vec<u32> = client.received().streams.iter().map(|(publisher, _)| *publisher).collect();
        let expected: Vec<u32> = others.flat_map(|other| [other, other]).collect();
        assert_eq!(heard, expected, "person {number} hears and sees everybody once");
    }
}

/// Connects everybody, lets media flow, and holds what arrived against what was sent and what is on `/metrics`.
fn run(name: &str, server: &Example, swarm: &mut Swarm) -> Report {
    let all_connected = |swarm: &Swarm| swarm.clients().all(LoadClient::is_connected);
    match swarm.run_until(PATIENCE, all_connected) {
        Ok(true) => {}
        other => panic!(
            "{other:?}: {:?} connected\n{}",
            swarm.clients().map(LoadClient::is_connected).collect::<Vec<_>>(),
            counted(server)
        ),
    }

    let dropped = |swarm: &Swarm| {
        let server = swarm.clients().next().map_or(0, |client| client.remote().port());
        let clients = swarm.clients().map(|client| probes::udp_drops(client.port())).sum();
        (clients, probes::udp_drops(server))
    };
    let cpu = probes::threads_cpu(server.pid(), MEDIA_THREADS);
    let start = clock::now();
    // People do not press their shutters together; the phases are spread over a frame.
    for (number, client) in (0..).zip(swarm.clients_mut()) {
        client.start(start + Duration::from_millis(3) * (number % 10));
    }
    swarm.run_for(TIME).unwrap();
    swarm.clients_mut().for_each(LoadClient::stop);
    let time = clock::now() - start;
    assert!(swarm.settle(QUIET, PATIENCE).unwrap(), "packets keep coming");

    let mut report = Report::new(name, time, swarm.clients());
    report.cpu = probes::threads_cpu(server.pid(), MEDIA_THREADS) - cpu;
    report.kernel_drops = dropped(swarm);
    println!("{}\n{report}", Report::HEAD);

    assert_eq!(report.kernel_drops, (0, 0), "the kernel dropped datagrams: the test is not about the SFU");
    let received = &report.received;
    let wrong =
        (received.lost, received.disordered, received.repeated, received.altered, received.unreadable);
    assert_eq!(wrong, (0, 0, 0, 0, 0), "lost, disordered, repeated, altered, unreadable");
    assert_metrics(server, &report);
    report
}

/// What has been counted at all.
fn counted(server: &Example) -> String {
    let text =
        http::get(&server.url("/metrics")).map_or_else(|error| error.to_string(), |response| response.body);
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.ends_with(" 0"));
    lines.collect::<Vec<_>>().join("\n")
}

/// Workers publish their counters every 100 ms, so that a scrape may be a little behind.
fn assert_metrics(server: &Example, report: &Report) {
    let expected = [
        ("audio", report.sent.audio, report.received.audio),
        ("video", report.sent.video, report.received.video),
    ];
    let deadline = clock::now() + PATIENCE;
    loop {
        let text = http::get(&server.url("/metrics")).unwrap().body;
        let packets = |way: &str, kind| {
            let name = format!("sfu_{way}_packets_total");
            scrape::sum(&text, &name, &[("kind", kind), ("transmission", "first")])
        };
        let scraped =
            ["audio", "video"].map(|kind| (kind, packets("ingress", kind), packets("egress", kind)));
        if scraped == expected || clock::now() >= deadline {
            assert_eq!(
                scraped,
                expected,
                "kind, ingress = published, egress = Σ received\n{}",
                counted(server)
            );
            assert_eq!(scrape::sum(&text, "sfu_dropped_packets_total", &[("direction", "out")]), 0);
            return;
        }
        std::thread::yield_now();
    }
}

const HTTP: &str = "127.0.0.1:0";
const MEDIA_THREADS: &str = "sluice-";
const PATIENCE: Duration = Duration::from_secs(20);
/// Longer than any queue of the SFU holds a packet.
const QUIET: Duration = Duration::from_millis(500);

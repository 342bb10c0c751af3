//! What one measurement came to.

use std::time::Duration;

use serde::Serialize;
use sluicegate_benches::report::Report;

/// The figures, in the units of their names. `None` is what could not be known.
#[derive(Serialize, Clone, Debug, Default)]
pub struct Figures {
    pub seconds: f64,
    pub publishers: usize,
    pub subscribers: usize,
    /// Video of one publisher, which a ramp has found.
    pub video_bps: u32,
    pub in_packets_per_second: f64,
    pub out_packets_per_second: f64,
    pub out_mbps: f64,
    /// CPU time of all threads of the server per packet that came out of its socket.
    pub server_us_per_packet: Option<f64>,
    pub server_cpu_percent: Option<f64>,
    /// Kernel work for the server's core that its threads are not billed for. Not in the figure above.
    pub ksoftirqd_cpu_percent: Option<f64>,
    pub clients_cpu_percent: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    pub max_ms: f64,
    pub expected: u64,
    pub lost: u64,
    pub lost_percent: f64,
    /// Datagrams that found a client's buffer full: the load tool's own limit, among the lost.
    pub dropped_at_clients: u64,
    /// Datagrams that found the server's buffer full.
    pub dropped_at_server: u64,
    pub reordered: u64,
    pub repeated: u64,
    /// Packets whose bytes, numbers or order within a stream are not as sent.
    pub altered: u64,
    pub unreadable: u64,
    pub authenticated: u64,
    /// Video packets that fell on purpose, and how many of them came again.
    pub fell: u64,
    pub repaired_percent: Option<f64>,
    /// Packets on repair streams for every one that fell.
    pub repairs_per_loss: Option<f64>,
    pub nacks: u64,
    pub keyframe_requests: u64,
    pub rss_kb_per_subscriber: Option<f64>,
    pub joins_per_second: f64,
    /// Of those who stop reading at times: the share that did not reach them.
    pub slow_lost_percent: Option<f64>,
}

/// What surrounds the clients' own account.
pub struct Surroundings {
    pub publishers: usize,
    pub subscribers: usize,
    pub video_bps: u32,
    pub expected: u64,
    pub server_cpu: Option<Duration>,
    pub ksoftirqd_cpu: Option<Duration>,
    pub clients_cpu: Duration,
    /// Memory that the server has gained since before the first client.
    pub rss_gained: Option<u64>,
    pub joins_per_second: f64,
    /// What slow ones got and ought to have got, and packets that the server sent them.
    pub slow: Option<(u64, u64)>,
}

impl Figures {
    /// From what the clients saw and what surrounds it.
    pub fn new(report: &Report, around: &Surroundings) -> Figures {
        let received = &report.received;
        let seconds = report.time.as_secs_f64().max(1e-9);
        let ms = |share| report.latency(share).as_secs_f64() * 1e3;
        let percent_of_time = |cpu: Duration| cpu.as_secs_f64() / seconds * 100.0;
        let delivered = report.packets() + received.dropped_audio + received.dropped_video;
        let lost = around.expected.saturating_sub(delivered);
        // What overflowed at a client has left the server all the same.
        let left_server = received.arrived + report.kernel_drops.0 + around.slow.map_or(0, |(got, _)| got);
        let fell = received.dropped_video;
        let per_fell = |count: u64| (fell > 0).then(|| count as f64 / fell as f64);
        Figures {
            seconds,
            publishers: around.publishers,
            subscribers: around.subscribers,
            video_bps: around.video_bps,
            in_packets_per_second: (report.sent.audio + report.sent.video) as f64 / seconds,
            out_packets_per_second: left_server as f64 / seconds,
            out_mbps: received.bytes as f64 * 8e-6 / seconds,
            server_us_per_packet: around
                .server_cpu
                .map(|cpu| cpu.as_secs_f64() * 1e6 / left_server.max(1) as f64),
            server_cpu_percent: around.server_cpu.map(percent_of_time),
            ksoftirqd_cpu_percent: around.ksoftirqd_cpu.map(percent_of_time),
            clients_cpu_percent: percent_of_time(around.clients_cpu),
            p50_ms: ms(0.5),
            p99_ms: ms(0.99),
            p999_ms: ms(0.999),
            max_ms: ms(1.0),
            expected: around.expected,
            lost,
            lost_percent: lost as f64 / around.expected.max(1) as f64 * 100.0,
            dropped_at_clients: report.kernel_drops.0,
            dropped_at_server: report.kernel_drops.1,
            reordered: received.disordered,
            repeated: received.repeated,
            altered: received.altered,
            unreadable: received.unreadable,
            authenticated: received.authenticated,
            fell,
            repaired_percent: per_fell(received.repaired).map(|share| share * 100.0),
            repairs_per_loss: per_fell(received.repairs),
            nacks: received.nacks,
            keyframe_requests: report.sent.keyframe_requests,
            rss_kb_per_subscriber: around
                .rss_gained
                .map(|bytes| bytes as f64 / 1e3 / around.subscribers.max(1) as f64),
            joins_per_second: around.joins_per_second,
            slow_lost_percent: around
                .slow
                .map(|(got, expected)| 100.0 - got as f64 / expected.max(1) as f64 * 100.0),
        }
    }
}

/// A line of the table: what it says, where it is, decimals.
pub type Row = (&'static str, fn(&Figures) -> Option<f64>, usize);

/// The table, top to bottom. What is `None` or zero in every run is left out of those marked with a star.
pub const ROWS: &[Row] = &[
    ("server CPU, µs per forwarded packet", |it| it.server_us_per_packet, 2),
    ("server CPU, % of a core", |it| it.server_cpu_percent, 1),
    ("* ksoftirqd on the server's core, % (not in the above)", |it| it.ksoftirqd_cpu_percent, 1),
    ("packets/s in", |it| Some(it.in_packets_per_second), 0),
    ("packets/s forwarded", |it| Some(it.out_packets_per_second), 0),
    ("Mb/s forwarded", |it| Some(it.out_mbps), 1),
    ("latency p50, ms", |it| Some(it.p50_ms), 2),
    ("latency p99, ms", |it| Some(it.p99_ms), 2),
    ("latency p99.9, ms", |it| Some(it.p999_ms), 2),
    ("lost, %", |it| Some(it.lost_percent), 3),
    ("reordered, packets", |it| Some(it.reordered as f64), 0),
    ("* repeated, packets", |it| Some(it.repeated as f64), 0),
    ("* altered or unreadable, packets", |it| Some((it.altered + it.unreadable) as f64), 0),
    ("* overflowed at the clients, packets", |it| Some(it.dropped_at_clients as f64), 0),
    ("* overflowed at the server, packets", |it| Some(it.dropped_at_server as f64), 0),
    ("* lost on purpose, video packets", |it| Some(it.fell as f64), 0),
    ("* of these repaired, %", |it| it.repaired_percent, 2),
    ("* repairs sent per loss", |it| it.repairs_per_loss, 2),
    ("* lost by slow subscribers, %", |it| it.slow_lost_percent, 1),
    ("RSS per subscriber, kB", |it| it.rss_kb_per_subscriber, 0),
    ("joins/s, one after the other", |it| Some(it.joins_per_second), 0),
    ("load tool CPU, % of a core", |it| Some(it.clients_cpu_percent), 1),
];

//! One run's figures.

use std::fmt;
use std::time::Duration;

use crate::client::{LoadClient, Received, Sent};

/// What a run came to.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What was run.
    pub name: String,
    /// How long media flowed.
    pub time: Duration,
    /// All publishers together.
    pub sent: Sent,
    /// All receivers together.
    pub received: Received,
    /// Video packets that fell and never came again.
    pub unrepaired: u64,
    /// CPU time of the server's threads while media flowed.
    pub cpu: Duration,
    /// Datagrams that the kernel dropped, at the clients and at the server.
    pub kernel_drops: (u64, u64),
}

impl Report {
    /// Sums up what the clients saw.
    pub fn new<'a>(name: &str, time: Duration, clients: impl IntoIterator<Item = &'a LoadClient>) -> Report {
        let mut report = Report { name: name.to_owned(), time, ..Report::default() };
        for client in clients {
            report.sent.add(&client.sent());
            report.received.add(client.received());
            report.unrepaired += client.unrepaired();
        }
        report
    }

    /// Packets received.
    pub fn packets(&self) -> u64 {
        self.received.audio + self.received.video
    }

    /// CPU time per packet that reached a socket.
    pub fn cpu_per_packet(&self) -> Duration {
        Duration::from_nanos(self.cpu.as_nanos() as u64 / self.received.arrived.max(1))
    }

    /// The latency that this share of packets stays within.
    pub fn latency(&self, share: f64) -> Duration {
        self.received.latencies.quantile(share)
    }

    /// The head of the table.
    pub const HEAD: &str = "| run | in pkt/s | out pkt/s | out Mb/s | lost | altered | kernel drops (clients, server) | CPU s | ns/packet | p50 µs | p99 µs | max µs |\n\
                            |---|---|---|---|---|---|---|---|---|---|---|---|";
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secs = self.time.as_secs_f64().max(1e-9);
        write!(
            f,
            "| {} | {:.0} | {:.0} | {:.1} | {} | {} | {}, {} | {:.2} | {} | {} | {} | {} |",
            self.name,
            (self.sent.audio + self.sent.video) as f64 / secs,
            self.packets() as f64 / secs,
            self.received.bytes as f64 * 8e-6 / secs,
            self.received.lost,
            self.received.wrong(),
            self.kernel_drops.0,
            self.kernel_drops.1,
            self.cpu.as_secs_f64(),
            self.cpu_per_packet().as_nanos(),
            self.latency(0.5).as_micros(),
            self.latency(0.99).as_micros(),
            self.latency(1.0).as_micros(),
        )
    }
}

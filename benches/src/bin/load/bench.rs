//! A server with everybody connected to it, to let media flow through.

use std::collections::HashSet;
use std::time::Duration;

use sluicegate_benches::client::Shape;
use sluicegate_benches::report::Report;
use sluicegate_benches::secure::Identity;
use sluicegate_benches::{LoadClient, Swarm, clock, probes};

use crate::args::Args;
use crate::cores::Cores;
use crate::figures::{Figures, Surroundings};
use crate::scene::{self, Scene};
use crate::server::{Server, Target};

/// A scene set up.
pub struct Bench {
    server: Server,
    scene: Scene,
    swarm: Swarm,
    cores: Cores,
    shape: Shape,
    /// Before the first client joined.
    rss_before: Option<u64>,
    joins_per_second: f64,
}

impl Bench {
    /// Starts the server, joins everybody, and lets media flow for a while: rings and queues grow to their size.
    ///
    /// `Err` is a sentence for the user.
    pub fn set_up(target: Target, args: &Args, cores: &Cores) -> Result<Bench, String> {
        let server = Server::start(target, &args.server, cores)?;
        let scene = Scene::new(args);
        let identity = Identity::generate().map_err(|error| error.to_string())?;
        let mut swarm = Swarm::new().map_err(|error| error.to_string())?;
        let rss_before = server.pid.and_then(probes::rss);
        let start = clock::now();
        for connection in scene.connections() {
            let client = LoadClient::join(&connection.address(&server), &identity, connection.join)
                .map_err(|error| error.to_string())?;
            swarm.add(client).map_err(|error| error.to_string())?;
            // Handshakes go on while others join, or the first would time out.
            swarm.run_for(BETWEEN_JOINS).map_err(|error| error.to_string())?;
        }
        let all = swarm.run_until(CONNECT_LIMIT, |swarm| swarm.clients().all(LoadClient::is_connected));
        if !all.map_err(|error| error.to_string())? {
            let up = swarm.clients().filter(|client| client.is_connected()).count();
            return Err(format!(
                "{up} of {} clients connected within {CONNECT_LIMIT:?}",
                swarm.clients().len()
            ));
        }
        let joins_per_second = swarm.clients().len() as f64 / (clock::now() - start).as_secs_f64();
        let (shape, cores) = (scene::shape(args), cores.clone());
        let mut bench = Bench { server, scene, swarm, cores, shape, rss_before, joins_per_second };
        bench.flow(WARM_UP)?;
        Ok(bench)
    }

    /// How the server is called.
    pub fn name(&self) -> &str {
        &self.server.name
    }

    /// What publishers send from now on.
    pub fn set_shape(&mut self, shape: Shape) {
        self.shape = shape;
        self.swarm.clients_mut().for_each(|client| client.set_shape(shape));
    }

    /// What publishers send.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Lets media flow for a time, and waits until the last packet has come, so that the books can be closed.
    pub fn flow(&mut self, time: Duration) -> Result<Figures, String> {
        self.swarm.clients_mut().for_each(LoadClient::reset);
        let before = self.readings();
        let start = clock::now();
        // People do not press their shutters together; the phases are spread over a frame.
        let publishers = self.swarm.clients_mut().filter(|client| client.shape().is_some());
        for (number, client) in (0..).zip(publishers) {
            client.start(start + Duration::from_millis(3) * (number % 10));
        }
        self.swarm.run_for(time).map_err(|error| error.to_string())?;
        self.swarm.clients_mut().for_each(LoadClient::stop);
        let time = clock::now() - start;
        let rss = self.server.pid.and_then(probes::rss);
        if !self.swarm.settle(QUIET, SETTLE_LIMIT).map_err(|error| error.to_string())? {
            return Err(format!("packets still come {SETTLE_LIMIT:?} after the last was sent"));
        }
        if let Some(closed) = self.swarm.clients().find(|client| client.is_closed()) {
            return Err(format!("the server has closed the connection to port {}", closed.port()));
        }
        let after = self.readings();
        let rss_gained = rss.zip(self.rss_before).map(|(rss, before)| rss.saturating_sub(before));
        Ok(self.close_books(time, &before, &after, rss_gained))
    }

    /// Everybody leaves a server that goes on.
    pub fn take_down(self) {
        if self.server.outlives_us() {
            self.swarm.into_clients().for_each(|client| {
                // It forgets us by itself, too.
                let _ = client.leave();
            });
        }
    }

    fn close_books(
        &self,
        time: Duration,
        before: &Readings,
        after: &Readings,
        rss_gained: Option<u64>,
    ) -> Figures {
        let members = || self.scene.connections().iter().zip(self.swarm.clients());
        // Who publishes receives nothing, but what it has sent belongs into the sum.
        let counting = members().filter(|(it, _)| it.counts() || it.join.publish.is_some());
        let mut report = Report::new(self.name(), time, counting.map(|(_, client)| client));
        report.kernel_drops =
            (after.client_drops - before.client_drops, after.server_drops - before.server_drops);
        let expected = self.scene.expected(self.swarm.clients());
        let subscribers = self.scene.subscribers();
        let slow = members().filter(|(_, client)| client.is_slow());
        let slow_got: Vec<u64> = slow.map(|(_, client)| client.received().arrived).collect();
        let each = expected / subscribers.max(1) as u64;
        Figures::new(
            &report,
            &Surroundings {
                publishers: members().filter(|(it, _)| it.join.publish.is_some()).count(),
                subscribers,
                video_bps: self.shape.video_bps,
                expected,
                server_cpu: after.server_cpu.zip(before.server_cpu).map(|(after, before)| after - before),
                ksoftirqd_cpu: after
                    .ksoftirqd_cpu
                    .zip(before.ksoftirqd_cpu)
                    .map(|(after, before)| after - before),
                clients_cpu: after.clients_cpu - before.clients_cpu,
                rss_gained,
                joins_per_second: self.joins_per_second,
                slow: (!slow_got.is_empty()).then(|| (slow_got.iter().sum(), each * slow_got.len() as u64)),
            },
        )
    }

    fn readings(&self) -> Readings {
        let ports = |slow: bool| -> HashSet<u16> {
            self.swarm.clients().filter(|client| client.is_slow() == slow).map(LoadClient::port).collect()
        };
        let server: HashSet<u16> = self.swarm.clients().map(|client| client.remote().port()).collect();
        let server_core = self.cores.server.first().filter(|_| self.cores.server.len() == 1);
        Readings {
            server_cpu: self.server.pid.map(|pid| probes::threads_cpu(pid, "")),
            ksoftirqd_cpu: server_core.and_then(|core| probes::ksoftirqd_cpu(*core)),
            clients_cpu: probes::threads_cpu(std::process::id(), ""),
            client_drops: probes::drops_at(&ports(false)),
            server_drops: probes::drops_at(&server),
        }
    }
}

/// Counters that only grow.
struct Readings {
    server_cpu: Option<Duration>,
    ksoftirqd_cpu: Option<Duration>,
    clients_cpu: Duration,
    client_drops: u64,
    server_drops: u64,
}

/// Enough for a turn.
const BETWEEN_JOINS: Duration = Duration::from_micros(100);
const CONNECT_LIMIT: Duration = Duration::from_secs(30);
const WARM_UP: Duration = Duration::from_secs(1);
/// Longer than any queue holds a packet, and than a repair takes to be asked for again.
const QUIET: Duration = Duration::from_millis(300);
const SETTLE_LIMIT: Duration = Duration::from_secs(10);

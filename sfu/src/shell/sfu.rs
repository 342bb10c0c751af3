//! The SFU as the host holds it: its workers, its rooms by name, its metrics.

use std::hash::RandomState;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Weak};

use dashmap::DashMap;
use tokio::sync::oneshot;

use super::handles::{Room, RoomShared};
use super::probes;
use super::sampler::{Sampler, Subjects};
use super::socket::Socket;
use super::worker::{self, Command, WorkerHandle};
use crate::config::Config;
use crate::congestion::fair::fair_shares;
use crate::engine::EngineConfig;
use crate::error::{RoomError, StartError};
use crate::metrics::{Metrics, Shard};
use crate::session::dtls::Identity;
use crate::stats::{By, RoomStats};
use crate::units::Bitrate;

/// A running SFU. Cheap to clone; it runs until the last handle to it, its rooms and its peers is dropped,
/// or until [`shutdown`](Sfu::shutdown).
#[derive(Clone)]
pub struct Sfu {
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) workers: Vec<WorkerHandle>,
    pub(super) events_limit: usize,
    announced: Vec<SocketAddr>,
    metrics: Metrics,
    rooms: DashMap<String, Weak<RoomShared>>,
    closed: AtomicBool,
    /// Makes rooms' names in traces mean nothing elsewhere.
    pub(super) salt: RandomState,
    _sampler: Sampler,
}

impl Sfu {
    /// Binds the media sockets and starts the workers.
    ///
    /// # Errors
    ///
    /// [`StartError`] says which address could not be bound or announced, and what to do.
    pub async fn start(config: Config) -> Result<Sfu, StartError> {
        warn_if_panics_abort();
        let workers = worker_count(&config)?;
        let identity =
            Arc::new(Identity::generate().map_err(|error| StartError::Certificate(error.to_string()))?);
        let mut sockets = Vec::new();
        for n in 0..workers {
            let port = match config.media.port() {
                0 => 0,
                base => base + n,
            };
            let address = SocketAddr::new(config.media.ip(), port);
            let bound = Socket::bind(address).and_then(|socket| Ok((socket.local_addr()?, socket)));
            sockets.push(bound.map_err(|source| StartError::Bind { address, source })?);
        }

        let shards: Vec<Arc<Shard>> = (0..workers).map(|_| Arc::default()).collect();
        let readings = Arc::default();
        let metrics = Metrics::new(shards.clone(), Arc::clone(&readings));
        let numbers = sockets.iter().map(|(_, socket)| probes::socket_number(socket).unwrap_or(0)).collect();
        let cpus = probes::allowed_cpus();
        // With a CPU quota fewer count as available than are allowed: then our neighbours see the same CPUs, and
        // all of us would crowd onto the first.
        let whole = std::thread::available_parallelism().is_ok_and(|count| count.get() == cpus.len());
        let pin = config.pin_workers && whole && cpus.len() >= usize::from(workers);
        let mut announced = Vec::new();
        let mut handles = Vec::new();
        for (n, ((local, socket), shard)) in (0..workers).zip(sockets.into_iter().zip(shards)) {
            let candidates = candidates(&config, local, n)?;
            announced.extend_from_slice(&candidates);
            let engine = EngineConfig {
                worker: n,
                candidates,
                publish_cap: config.publish_cap,
                require_gcm: config.require_gcm,
                limits: config.limits,
                unreachable_after: config.unreachable_after,
                identity: identity.clone(),
            };
            let cpu = pin.then(|| cpus[usize::from(n)]);
            handles.push(worker::spawn(engine, socket, shard, cpu)?);
        }
        let threads = handles.iter().map(|worker: &WorkerHandle| worker.number.clone()).collect();
        let sampler = Sampler::start(Subjects { sockets: numbers, threads }, readings)?;
        let shared = Shared {
            workers: handles,
            _sampler: sampler,
            events_limit: config.limits.events,
            announced,
            metrics,
            rooms: DashMap::new(),
            closed: AtomicBool::new(false),
            salt: RandomState::new(),
        };
        Ok(Sfu { shared: Arc::new(shared) })
    }

    /// The room of this name, made if there is none. It lives as long as a handle to it or to a peer in it.
    ///
    /// # Errors
    ///
    /// [`RoomError::Shutdown`] after [`shutdown`](Sfu::shutdown).
    pub fn room(&self, name: &str) -> Result<Room, RoomError> {
        if self.shared.closed.load(Relaxed) {
            return Err(RoomError::Shutdown);
        }
        let mut entry = self.shared.rooms.entry(name.to_owned()).or_default();
        if let Some(room) = entry.upgrade() {
            return Ok(Room { shared: room });
        }
        let worker = self.shared.least_loaded();
        self.shared.workers[worker].rooms.fetch_add(1, Relaxed);
        let room = Arc::new(RoomShared {
            name: name.to_owned(),
            worker,
            capped: AtomicBool::new(false),
            sfu: self.shared.clone(),
        });
        *entry = Arc::downgrade(&room);
        Ok(Room { shared: room })
    }

    /// The addresses clients are told, of all workers.
    pub fn announced(&self) -> &[SocketAddr] {
        &self.shared.announced
    }

    /// The metrics of this SFU, to mount on the host's registry.
    pub fn metrics(&self) -> Metrics {
        self.shared.metrics.clone()
    }

    /// The `n` rooms that weigh most, the heaviest first: which one it is that a metric tells of.
    ///
    /// ```no_run
    /// # async fn host(sfu: sluicegate::Sfu) {
    /// for room in sfu.top_rooms(5, sluicegate::By::Nacks).await {
    ///     println!("{}: {} packets a second asked for again", room.name, room.nacked_packets_per_second);
    /// }
    /// # }
    /// ```
    pub async fn top_rooms(&self, n: usize, by: By) -> Vec<RoomStats> {
        let ask = |worker: &WorkerHandle| worker.call(move |engine, now| engine.top_rooms(now, n, by));
        // Everybody is asked before the first answers.
        let asked: Vec<_> = self.shared.workers.iter().map(ask).collect();
        let mut rooms = Vec::new();
        for answer in asked {
            rooms.extend(answer.await.unwrap_or_default());
        }
        RoomStats::top(rooms, n, by)
    }

    /// The most that may leave this machine by us, all peers together. Subscribers share it: nobody is held to less than
    /// he watches while another may get more, and smaller layers are chosen to fit. `None`: as much as there is.
    ///
    /// What workers may send follows what their subscribers want, as it is when this is called; call it again where
    /// rooms are placed anew.
    pub async fn set_egress_capacity(&self, capacity: impl Into<Option<Bitrate>>) {
        let capacity = capacity.into();
        let workers = &self.shared.workers;
        let asked: Vec<_> =
            workers.iter().map(|worker| worker.call(|engine, now| engine.demand(now))).collect();
        let mut wanted = Vec::new();
        for demand in asked {
            wanted.push(demand.await.unwrap_or_default());
        }
        let shares = match capacity {
            Some(capacity) => fair_shares(capacity, &wanted).into_iter().map(Some).collect(),
            None => vec![None; workers.len()],
        };
        for (worker, share) in workers.iter().zip(shares) {
            worker.call(move |engine, now| engine.set_egress_cap(now, share)).await;
        }
    }

    /// Lets every peer go (each hears `Left(Shutdown)`) and ends the media threads. Resolves when they have
    /// ended, within a second. Calls on handles that remain fail from here on.
    pub async fn shutdown(&self) {
        self.shared.closed.store(true, Relaxed);
        for worker in &self.shared.workers {
            let (reply, done) = oneshot::channel();
            if worker.commands.send(Command::Shutdown { reply }).is_ok() {
                let _ = done.await;
            }
            if let Some(thread) = worker.thread.lock().take() {
                // The thread has sent its reply and is past its last wait: this is a matter of microseconds.
                let _ = thread.join();
            }
        }
    }
}

impl Shared {
    fn least_loaded(&self) -> usize {
        let load = |n: &usize| self.workers[*n].peers.load(Relaxed) + self.workers[*n].rooms.load(Relaxed);
        (0..self.workers.len()).min_by_key(load).unwrap_or(0)
    }

    pub(super) fn forget_room(&self, name: &str, worker: usize) {
        self.workers[worker].rooms.fetch_sub(1, Relaxed);
        self.rooms.remove_if(name, |_, room| room.strong_count() == 0);
    }
}

fn worker_count(config: &Config) -> Result<u16, StartError> {
    let port = config.media.port();
    let workers =
        config.workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, |n| n.get()));
    let fits = |count: &u16| *count > 0 && (port == 0 || port.checked_add(*count - 1).is_some());
    u16::try_from(workers).ok().filter(fits).ok_or(StartError::Workers { workers, port })
}

/// What clients of one worker are told.
fn candidates(config: &Config, local: SocketAddr, worker: u16) -> Result<Vec<SocketAddr>, StartError> {
    let media = config.media;
    if config.announce.is_empty() {
        if media.ip().is_unspecified() {
            return Err(StartError::NothingToAnnounce { media });
        }
        return Ok(vec![local]);
    }
    let reachable = |ip: IpAddr| match media.ip() {
        // A v6 wildcard socket serves both families.
        IpAddr::V6(v6) => ip.is_ipv6() || v6.is_unspecified(),
        IpAddr::V4(_) => ip.is_ipv4(),
    };
    let one = |announce: &crate::config::Announce| {
        if !reachable(announce.ip) {
            return Err(StartError::AddressFamily { announced: announce.ip, media });
        }
        let port = match announce.port {
            None => local.port(),
            Some(port) => port
                .checked_add(worker)
                .ok_or(StartError::Workers { workers: usize::from(worker) + 1, port })?,
        };
        Ok(SocketAddr::new(announce.ip, port))
    };
    config.announce.iter().map(one).collect()
}

/// A fault while serving one peer costs that peer, by unwinding. A host that aborts on panic has chosen
/// otherwise; it is told once.
fn warn_if_panics_abort() {
    if cfg!(panic = "abort") {
        tracing::warn!("built with panic = \"abort\": a fault while serving one peer ends the process");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::UdpSocket;
    use std::time::Duration;

    use super::*;

    /// A worker, and somebody who sends it datagrams from nowhere.
    fn strangers(test: impl AsyncFnOnce(Sfu, &dyn Fn())) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("it has I/O and time").block_on(async {
            let sfu = Sfu::start(Config::new("127.0.0.1:0".parse().expect("an address")).workers(1)).await;
            let sfu = sfu.expect("loopback is there");
            let (socket, media) =
                (UdpSocket::bind("127.0.0.1:0").expect("a port is free"), sfu.announced()[0]);
            let knock = || assert_eq!(socket.send_to(&[0x80, 0, 0, 0], media).expect("loopback takes it"), 4);
            test(sfu.clone(), &knock).await;
            sfu.shutdown().await;
        });
    }

    fn strangers_dropped(sfu: &Sfu) -> u64 {
        sfu.metrics().snapshot().sum("sfu_dropped_packets_total", &[("reason", "unknown_peer")]) as u64
    }

    async fn until(mut so: impl FnMut() -> bool) {
        for _ in 0..500 {
            if so() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it never came to be");
    }

    /// Every counter, and every count of a histogram.
    fn counts(sfu: &Sfu) -> BTreeMap<String, f64> {
        let mut text = String::new();
        sfu.metrics().encode_text(&mut text).expect("a string takes any text");
        let samples = text.lines().filter_map(|line| line.rsplit_once(' '));
        let counts = samples.filter(|(series, _)| {
            let name = series.split('{').next().unwrap_or_default();
            ["_total", "_count", "_bucket"].iter().any(|end| name.ends_with(end))
        });
        counts.map(|(series, value)| (series.to_owned(), value.parse().expect("a number"))).collect()
    }

    fn assert_grown(before: &BTreeMap<String, f64>, after: &BTreeMap<String, f64>) {
        for (series, was) in before {
            assert!(after.get(series).is_some_and(|is| is >= was), "{series} fell from {was}");
        }
    }

    #[test]
    fn a_worker_that_begins_anew_goes_on_counting() {
        strangers(async |sfu, knock| {
            (0..5).for_each(|_| knock());
            until(|| strangers_dropped(&sfu) == 5).await;
            let before = counts(&sfu);
            assert!(sfu.shared.workers[0].commands.send(Command::Fail).is_ok());
            knock();
            until(|| strangers_dropped(&sfu) == 6).await;
            let after = counts(&sfu);
            assert_grown(&before, &after);
            assert_eq!(after["sfu_worker_restarts_total"], 1.0);
            assert_eq!(after["sfu_panics_total{scope=\"worker\"}"], 1.0);
            assert!(sfu.room("still open").is_ok());
        });
    }

    #[test]
    fn after_the_death_of_a_worker_a_scrape_answers() {
        strangers(async |sfu, knock| {
            (0..5).for_each(|_| knock());
            until(|| strangers_dropped(&sfu) == 5).await;
            let before = counts(&sfu);
            let worker = &sfu.shared.workers[0];
            assert!(worker.commands.send(Command::Die).is_ok());
            until(|| worker.commands.is_closed()).await;
            let after = counts(&sfu);
            assert_grown(&before, &after);
            assert_eq!(strangers_dropped(&sfu), 5);
            assert_eq!(sfu.metrics().snapshot().sum("sfu_worker_event_loop_lag_seconds", &[]), 0.0);
        });
    }

    #[test]
    fn a_scrape_answers_from_the_start_to_beyond_the_end() {
        strangers(async |sfu, knock| {
            let mut before = counts(&sfu);
            let (metrics, scraping) = (sfu.metrics(), Arc::new(AtomicBool::new(true)));
            let go_on = scraping.clone();
            let scraper = std::thread::spawn(move || {
                let mut scrapes = 0;
                while go_on.load(Relaxed) {
                    let mut text = String::new();
                    metrics.encode_text(&mut text).expect("a string takes any text");
                    assert!(text.contains("sfu_build_info{"));
                    scrapes += 1;
                }
                scrapes
            });
            for n in 1..=20 {
                knock();
                match n {
                    ..=10 => until(|| strangers_dropped(&sfu) == n).await,
                    11 => sfu.shutdown().await,
                    _ => {}
                }
                let after = counts(&sfu);
                assert_grown(&before, &after);
                before = after;
            }
            scraping.store(false, Relaxed);
            assert!(scraper.join().expect("it does not panic") > 0);
            assert!(strangers_dropped(&sfu) >= 10, "the last counts are there");
        });
    }
}

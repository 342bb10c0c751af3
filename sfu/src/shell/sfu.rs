//! The SFU as the host holds it: its workers, its rooms by name, its metrics.

use std::hash::RandomState;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;

use dashmap::DashMap;
use tokio::sync::oneshot;

use super::clock;
use super::controller::{self, Controller, Controls, Drain};
use super::events::Events;
use super::handles::{Room, RoomShared};
use super::inbox::{self, Mailbox};
use super::load::{self, Load};
use super::probes;
use super::readings::Readings;
use super::report::{AdmissionReport, LoadReport, WorkerLoad};
use super::sampler::{Sampler, Subjects};
use super::socket::Socket;
use super::worker::{self, Command, WorkerHandle};
use crate::config::{Config, Saturation};
use crate::congestion::fair::fair_shares;
use crate::counters::AdmissionScope;
use crate::engine::EngineConfig;
use crate::error::{DrainError, Refused, RoomError, StartError};
use crate::event::PeerEvent;
use crate::metrics::{Metrics, Shard, WorkerSaturation};
use crate::saturation::admission::{Grant, Pace, Request};
use crate::saturation::level::SaturationLevel;
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
    peers_together: usize,
    announced: Vec<SocketAddr>,
    metrics: Metrics,
    rooms: DashMap<String, Weak<RoomShared>>,
    closed: AtomicBool,
    pub(super) controls: Arc<Controls>,
    /// Makes rooms' names in traces mean nothing elsewhere.
    pub(super) salt: RandomState,
    _sampler: Sampler,
    _controller: Controller,
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
        let acting = config.saturation == Saturation::Act;
        let controls = Arc::new(Controls::new(clock::now(), usize::from(workers), acting));
        if config.probation {
            controls.door.begin_probation(clock::now());
        }
        let metrics = Metrics::new(shards.clone(), Arc::clone(&readings));
        let metrics = metrics.with_saturation(controls.readings.clone());
        let watched = shards.clone();
        let numbers = sockets.iter().map(|(_, socket)| probes::socket_number(socket).unwrap_or(0)).collect();
        let cpus = probes::allowed_cpus();
        // With a CPU quota fewer count as available than are allowed: then our neighbours see the same CPUs, and
        // all of us would crowd onto the first.
        let whole = std::thread::available_parallelism().is_ok_and(|count| count.get() == cpus.len());
        let pin = config.pin_workers && whole && cpus.len() >= usize::from(workers);
        let mut announced = Vec::new();
        let mut handles = Vec::new();
        let (mail, inboxes): (Vec<_>, Vec<_>) = (0..workers).map(|_| inbox::inbox()).unzip();
        let mail: Arc<[Mailbox]> = mail.into();
        let places = sockets.into_iter().zip(shards).zip(inboxes);
        for (n, (((local, socket), shard), inbox)) in (0..workers).zip(places) {
            let candidates = candidates(&config, local, n)?;
            announced.extend_from_slice(&candidates);
            let engine = EngineConfig {
                worker: n,
                workers,
                candidates,
                publish_cap: config.publish_cap,
                require_gcm: config.require_gcm,
                limits: config.limits,
                unreachable_after: config.unreachable_after,
                identity: identity.clone(),
            };
            let cpu = pin.then(|| cpus[usize::from(n)]);
            handles.push(worker::spawn(engine, socket, shard, cpu, (inbox, mail.clone()))?);
        }
        let threads: Vec<_> = handles.iter().map(|worker: &WorkerHandle| worker.number.clone()).collect();
        let eyes = threads.clone();
        let look = move || Readings::new(watched.iter().cloned().zip(eyes.iter().cloned()));
        let controller = Controller::start(controls.clone(), look, controller::commands(&handles))?;
        let sampler = Sampler::start(Subjects { sockets: numbers, threads }, readings)?;
        let shared = Shared {
            workers: handles,
            _sampler: sampler,
            events_limit: config.limits.events,
            peers_together: config.limits.peers_together,
            announced,
            metrics,
            rooms: DashMap::new(),
            closed: AtomicBool::new(false),
            controls,
            _controller: controller,
            salt: RandomState::new(),
        };
        Ok(Sfu { shared: Arc::new(shared) })
    }

    /// The room of this name, made if there is none. It lives as long as a handle to it or to a peer in it.
    ///
    /// # Errors
    ///
    /// [`RoomError::Shutdown`] after [`shutdown`](Sfu::shutdown). [`RoomError::Refused`] says why the node takes no other
    /// room now, and when to ask again; a room that is there is always given.
    pub fn room(&self, name: &str) -> Result<Room, RoomError> {
        if self.shared.closed.load(Relaxed) {
            return Err(RoomError::Shutdown);
        }
        let mut entry = self.shared.rooms.entry(name.to_owned()).or_default();
        if let Some(room) = entry.upgrade() {
            return Ok(Room { shared: room });
        }
        let worker = self.shared.least_loaded();
        if let Err(refused) = self.shared.admit_room(worker) {
            drop(entry);
            self.shared.rooms.remove_if(name, |_, room| room.strong_count() == 0);
            return Err(refused.into());
        }
        self.shared.workers[worker].load.rooms.fetch_add(1, Relaxed);
        let room = Arc::new(RoomShared {
            name: name.to_owned(),
            worker,
            pace: Pace::default(),
            configured: AtomicBool::new(false),
            peers: AtomicUsize::new(0),
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
        let ask =
            |worker: &WorkerHandle| worker.call(move |engine, now| engine.top_rooms(now, usize::MAX, by));
        // Everybody is asked before the first answers.
        let asked: Vec<_> = self.shared.workers.iter().map(ask).collect();
        let mut rooms = Vec::new();
        for answer in asked {
            rooms.extend(answer.await.unwrap_or_default());
        }
        RoomStats::top(RoomStats::together(rooms), n, by)
    }

    /// Whether another room or peer would be taken now. Nothing is reserved: who comes may be refused all the same.
    pub fn admission(&self) -> AdmissionReport {
        let (shared, now) = (&self.shared, clock::now());
        let worker = shared.least_loaded();
        let would = |scope| shared.controls.door.would_admit(now, &request(scope, worker));
        AdmissionReport {
            state: shared.controls.door.state(),
            level: shared.controls.readings.lock().level,
            rooms: would(AdmissionScope::Room),
            joins: would(AdmissionScope::Join),
        }
    }

    /// How loaded the node is, as a balancer wants to know it. It counts what is promised to newcomers at once, and what
    /// they really cost as it shows.
    pub fn load(&self) -> LoadReport {
        let (shared, now, admission) = (&self.shared, clock::now(), self.admission());
        let readings = shared.controls.readings.lock().clone();
        let door = &shared.controls.door;
        let worker = |at: usize, handle: &WorkerHandle| {
            let WorkerSaturation { load, level } = readings.workers.get(at).copied().unwrap_or_default();
            WorkerLoad {
                load_ratio: load,
                reserved_load_ratio: door.reserved(now, at),
                saturation_level: level,
                active_handles: handle.load.peers.load(Relaxed) as u64,
            }
        };
        let workers: Vec<_> =
            shared.workers.iter().enumerate().map(|(at, handle)| worker(at, handle)).collect();
        LoadReport {
            state: admission.state,
            saturation_level: admission.level,
            load_max_ratio: readings.load,
            reserved_load_ratio: workers.iter().map(|worker| worker.reserved_load_ratio).fold(0.0, f64::max),
            active_handles: workers.iter().map(|worker| worker.active_handles).sum(),
            rooms: shared.workers.iter().map(|worker| worker.load.rooms.load(Relaxed) as u64).sum(),
            accepts_rooms: admission.rooms.is_ok(),
            accepts_joins: admission.joins.is_ok(),
            workers,
        }
    }

    /// Empties the node: from now on it takes no new rooms, from half of the time on no new peers, and every peer hears
    /// [`PeerEvent::Draining`]. Media flows on until they leave. Resolves when everybody has.
    ///
    /// Draining again is draining once: both wait for the same, and the earlier deadline holds.
    ///
    /// # Errors
    ///
    /// [`DrainError::Deadline`] when some are still here by then. They are not thrown out; that is
    /// [`shutdown`](Sfu::shutdown).
    pub async fn drain(&self, deadline: Duration) -> Result<(), DrainError> {
        let now = clock::now();
        let controls = self.shared.controls.clone();
        let deadline = controls.door.drain(now, deadline).saturating_duration_since(now);
        let mut drain = controls.drain();
        for worker in &self.shared.workers {
            let _ = worker.commands.send(Command::Draining { deadline });
        }
        let ended = drain.wait_for(|drain| *drain != Drain::Underway).await;
        match ended.map(|drain| *drain) {
            Ok(Drain::Late(remaining)) => Err(DrainError::Deadline { remaining }),
            Ok(_) => Ok(()),
            Err(_) => Err(DrainError::Shutdown),
        }
    }

    /// The least that is given up, whatever is measured, until it is set to [`SaturationLevel::Normal`] again: for an
    /// operator who knows more than the machine.
    pub fn set_saturation_floor(&self, level: SaturationLevel) {
        self.shared.controls.set_floor(level);
    }

    /// Whether the saturation controller stays at what it gives up now. It measures on, and newcomers are admitted by
    /// that.
    pub fn freeze_controller(&self, frozen: bool) {
        self.shared.controls.set_frozen(frozen);
    }

    /// The most that may leave this machine by us, all peers together. Subscribers share it: nobody is held to less than
    /// he watches while another may get more, and smaller layers are chosen to fit. `None`: as much as there is.
    ///
    /// What workers may send follows what their subscribers want, as it is when this is called; call it again where
    /// rooms are placed anew.
    pub async fn set_egress_capacity(&self, capacity: impl Into<Option<Bitrate>>) {
        let capacity = capacity.into();
        self.shared.controls.set_egress_capacity(capacity);
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
    /// Of a worker that gives nothing up, if there is one.
    fn least_loaded(&self) -> usize {
        let calm = |worker: &usize| self.controls.door.takes_rooms(*worker);
        let mut workers: Vec<usize> = (0..self.workers.len()).filter(calm).collect();
        if workers.is_empty() {
            workers = (0..self.workers.len()).collect();
        }
        let loads: Vec<&Load> = workers.iter().map(|worker| &*self.workers[*worker].load).collect();
        let mut dice = [[0; 8]; 2];
        aws_lc_rs::rand::fill(dice.as_flattened_mut()).expect("the system's random source answers");
        workers.get(load::choose(&loads, dice.map(u64::from_ne_bytes))).copied().unwrap_or(0)
    }

    /// Where the next peer of a room goes, which has so many already: with the others, as long as they are few and
    /// their worker is not busy and gives nothing up.
    pub(super) fn place(&self, home: usize, peers: usize) -> usize {
        let calm = self.workers[home].load.expected() < load::BUSY && self.controls.door.takes_rooms(home);
        if peers < self.peers_together && calm { home } else { self.least_loaded() }
    }

    fn admit_room(&self, worker: usize) -> Result<Grant, Refused> {
        self.controls.door.admit(clock::now(), &request(AdmissionScope::Room, worker))
    }

    /// Whose seat in the room is counted already.
    pub(super) fn admit_join(&self, room: &RoomShared, worker: usize) -> Result<Grant, Refused> {
        let request = Request {
            participants: room.peers.load(Relaxed),
            pace: Some(&room.pace),
            noisy: self.controls.is_noisy(&room.name),
            ..request(AdmissionScope::Join, worker)
        };
        self.controls.door.admit(clock::now(), &request)
    }

    /// Who comes while the node is being left hears so.
    pub(super) fn greet(&self, events: &Events) {
        if let Some(deadline) = self.controls.door.deadline() {
            let deadline = deadline.saturating_duration_since(clock::now());
            events.push(PeerEvent::Draining { deadline });
        }
    }

    pub(super) fn forget_room(&self, name: &str, worker: usize) {
        self.workers[worker].load.rooms.fetch_sub(1, Relaxed);
        self.rooms.remove_if(name, |_, room| room.strong_count() == 0);
    }
}

/// Of somebody who comes alone.
fn request(scope: AdmissionScope, worker: usize) -> Request<'static> {
    Request { scope, worker, participants: 1, pace: None, noisy: false }
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
mod tests;

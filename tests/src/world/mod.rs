//! A simulated world in virtual time: one production engine, real clients, and the network between them.
//!
//! ```no_run
//! use sluicegate_tests::world::{AUDIO, Percent, VIDEO, World, publishes, secs};
//! let mut world = World::new(1);
//! let ada = world.join("room", "ada", publishes(AUDIO | VIDEO));
//! let bob = world.join("room", "bob", publishes(AUDIO | VIDEO));
//! world.lose(ada.uplink, 5.percent());
//! world.run(secs(10));
//! assert_eq!(world[bob].frames_missing(), 0);
//! ```
//!
//! The schedule follows from the seed alone. Upstream draws keys and ids at random, so bytes differ from run
//! to run: assert on outcomes, never on bytes. A failing world prints its seed.

pub mod client;
pub mod clock;
pub mod content;
pub mod decoder;
pub mod dice;
pub mod link;
pub mod receiver;
pub mod sink;
pub mod source;
pub mod tap;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::{Index, IndexMut};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use sluicegate::DropReason;
use sluicegate::interceptors::BoxedInterceptor;
use sluicegate::sans_io::{
    Counters, Crossing, Direction, DropKind, Engine, EngineConfig, Identity, Outlet, Path, SendFault,
    Transmission, Transmit,
};
use sluicegate::{JoinError, MediaKind, NegotiateError, PeerConfig, PeerEvent, PeerId};

pub use client::{AUDIO, Client, Part, THREE_LAYERS, VIDEO, layer_of, publishes, watches};
pub use clock::{Percent, ms, secs};
use dice::Dice;
pub use link::{Conditions, Link, Loss};
use source::Source;
pub use source::Voice;
pub use tap::{Rtcp, Wire};

/// Where the engine listens.
pub const ENGINE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 3478);

/// One datagram on its way.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Datagram {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub bytes: Vec<u8>,
}

/// What an interceptor of the wire does about a datagram that is about to arrive.
#[derive(Default)]
pub struct Verdict {
    /// Arrive before it, from whatever address they claim.
    pub inject: Vec<Datagram>,
    /// Arrive after it.
    pub follow: Vec<Datagram>,
    /// It does not arrive.
    pub lost: bool,
}

impl Verdict {
    pub fn pass() -> Verdict {
        Verdict::default()
    }

    pub fn lose() -> Verdict {
        Verdict { lost: true, ..Verdict::default() }
    }
}

type Hook = Box<dyn FnMut(Instant, &Datagram) -> Verdict>;

/// A client, and the two directions of its path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seat {
    pub index: usize,
    pub uplink: LinkId,
    pub downlink: LinkId,
}

/// One direction of one client's path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkId(usize);

/// The simulation.
pub struct World {
    pub seed: u64,
    /// The one worker's; or, of several, the first's.
    pub engine: Engine,
    /// The others'.
    others: Vec<Engine>,
    /// Where whoever joins next is placed.
    pub worker: u16,
    /// What crosses from worker to worker is lost.
    pub crossings_lost: bool,
    pub now: Instant,
    pub dice: Dice,
    /// By seat; empty where somebody was forgotten.
    clients: Vec<Option<Box<Client>>>,
    pub outlet: Socket,
    links: Vec<Link>,
    /// Which client sits at an address.
    at: HashMap<SocketAddr, usize>,
    peers: HashMap<PeerId, usize>,
    flights: BinaryHeap<Reverse<(Instant, u64, Datagram)>>,
    order: u64,
    hook: Option<Hook>,
    key: u64,
    /// Bytes that reached the engine, and that it sent, by remote address.
    pub traffic: HashMap<SocketAddr, [u64; 2]>,
    /// What was sent to addresses that the test itself listens at.
    mail: HashMap<SocketAddr, Vec<Vec<u8>>>,
    /// What both directions of the path of whoever joins next are like.
    pub path: Conditions,
    /// What the host seats in the chain of whoever joins next, by position.
    pub interceptors: Vec<(usize, BoxedInterceptor)>,
    /// A panic of the engine costs whom it served, as on a worker; else it fails the test.
    pub contains_faults: bool,
    quiet: bool,
}

/// The engine's socket, as the test wants it to behave.
pub struct Socket {
    /// Takes nothing: every send would block.
    pub full: bool,
    /// Takes this many sends, then is full until refilled.
    pub credit: Option<usize>,
    /// Refuses sends to this address.
    pub refuses: Option<SocketAddr>,
    /// … and says this.
    pub refusal: SendFault,
    sent: Vec<(SocketAddr, Vec<u8>)>,
    /// Sends so far.
    pub calls: u64,
}

impl Default for Socket {
    fn default() -> Self {
        let (full, credit, refuses, sent) = (false, None, None, Vec::new());
        Socket { full, credit, refuses, refusal: SendFault::Refused, sent, calls: 0 }
    }
}

impl Outlet for Socket {
    fn send(&mut self, transmit: Transmit<'_>) -> Result<(), SendFault> {
        if self.full || self.credit == Some(0) {
            return Err(SendFault::WouldBlock);
        }
        if let Some(credit) = &mut self.credit {
            *credit -= 1;
        }
        if self.refuses == Some(transmit.path.remote) {
            return Err(self.refusal);
        }
        self.calls += 1;
        let segment = transmit.segment.unwrap_or(transmit.contents.len()).max(1);
        for datagram in transmit.contents.chunks(segment) {
            self.sent.push((transmit.path.remote, datagram.to_vec()));
        }
        Ok(())
    }
}

/// One certificate serves every world: making it is not what is tested.
fn identity() -> Arc<Identity> {
    static IDENTITY: OnceLock<Arc<Identity>> = OnceLock::new();
    IDENTITY.get_or_init(|| Arc::new(Identity::generate().expect("a certificate is made"))).clone()
}

impl World {
    pub fn new(seed: u64) -> World {
        World::with(seed, |_| {})
    }

    /// A world whose engine is configured otherwise.
    pub fn with(seed: u64, configure: impl FnOnce(&mut EngineConfig)) -> World {
        World::of_workers(seed, 1, configure)
    }

    /// A world of several workers, as one machine has them.
    pub fn of_workers(seed: u64, workers: u16, configure: impl FnOnce(&mut EngineConfig)) -> World {
        let mut config = EngineConfig::new(vec![ENGINE], identity());
        config.workers = workers;
        configure(&mut config);
        let other = |worker: u16| {
            let candidates = vec![engine_address(worker)];
            Engine::new(EngineConfig { worker, candidates, ..config.clone() })
        };
        let others = (1..workers).map(other).collect();
        // `SEED_SHIFT=100 cargo test` tells every story with other seeds.
        let shift = std::env::var("SEED_SHIFT").ok().and_then(|shift| shift.parse().ok()).unwrap_or(0);
        let seed = seed + shift;
        let mut dice = Dice::new(seed);
        World {
            seed,
            engine: Engine::new(config),
            others,
            worker: 0,
            crossings_lost: false,
            now: clock::origin() + Duration::from_secs(1),
            key: dice.word(),
            dice,
            clients: Vec::new(),
            outlet: Socket::default(),
            links: Vec::new(),
            at: HashMap::new(),
            peers: HashMap::new(),
            flights: BinaryHeap::new(),
            order: 0,
            hook: None,
            traffic: HashMap::new(),
            mail: HashMap::new(),
            path: Conditions::default(),
            interceptors: Vec::new(),
            contains_faults: false,
            quiet: false,
        }
    }

    // ---- who is there ------------------------------------------------------------------------------

    /// A client joins a room; its offer is answered at once.
    pub fn join(&mut self, room: &str, name: &str, part: Part) -> Seat {
        self.try_join(room, name, part).expect("the engine admits it")
    }

    pub fn try_join(&mut self, room: &str, name: &str, part: Part) -> Result<Seat, JoinError> {
        let index = self.clients.len();
        let addr = client_address(index);
        let mut client = Client::new(self.now, &mut self.dice, (room, name), index, addr, self.key, part);
        let offer = client.offer(self.now);
        let mut config = PeerConfig::new(name).subscribe(client.part.subscribe.clone());
        config = config.channels(client.part.relaying);
        if let Some(cap) = client.part.cap {
            config = config.publish_cap(cap);
        }
        for (position, interceptor) in self.interceptors.drain(..) {
            config = config.interceptor(position, interceptor);
        }
        let now = self.now;
        let worker = self.worker;
        let joined =
            self.on(worker, |world| world.guarded(|engine, _| engine.join(now, room, config, &offer)));
        let (peer, answer) = joined.unwrap_or(Err(JoinError::Shutdown))?;
        client.peer = Some(peer);
        client.worker = worker;
        client.accept_answer(self.now, &answer);
        self.clients.push(Some(Box::new(client)));
        self.at.insert(addr, index);
        self.peers.insert(peer, index);
        for _ in 0..2 {
            let dice = self.dice.fork();
            let mut link = Link::new(dice);
            link.conditions = self.path;
            self.links.push(link);
        }
        self.signal();
        self.poll_client(index);
        Ok(Seat { index, uplink: LinkId(2 * index), downlink: LinkId(2 * index + 1) })
    }

    /// A client says something on one of its data channels.
    pub fn say(&mut self, seat: Seat, label: &str, text: &str) {
        let now = self.now;
        self[seat].say(now, label, text);
        self.poll_client(seat.index);
    }

    /// The host lets the client go.
    pub fn leave(&mut self, seat: Seat) {
        let now = self.now;
        let worker = self.client(seat.index).worker;
        if let Some(peer) = self.client(seat.index).peer {
            self.on(worker, |world| world.guarded(|engine, _| engine.leave(now, peer)));
        }
        self.signal();
        self.flush();
    }

    /// The client says goodbye on the wire.
    pub fn close(&mut self, seat: Seat) {
        self.client(seat.index).close();
        self.poll_client(seat.index);
    }

    /// The client offers anew; says what became of it. After a glare it has rolled back, and answered what
    /// was pending.
    pub fn renegotiate(&mut self, seat: Seat) -> Result<(), NegotiateError> {
        let now = self.now;
        let client = self.client(seat.index);
        let peer = client.peer.ok_or(NegotiateError::Gone)?;
        let offer = client.offer(now);
        let worker = client.worker;
        let result = self.on(worker, |world| world.guarded(|engine, _| engine.offer(now, peer, &offer)));
        let result = result.unwrap_or(Err(NegotiateError::Gone));
        let client = self.client(seat.index);
        let outcome = match result {
            Ok(answer) => {
                client.accept_answer(now, &answer);
                Ok(())
            }
            Err(error) => {
                client.roll_back(now);
                Err(error)
            }
        };
        self.signal();
        outcome
    }

    /// The client's process ends, without a word to anybody.
    pub fn forget(&mut self, seat: Seat) {
        if let Some(client) = self.clients[seat.index].take() {
            self.at.remove(&client.addr);
            self.peers.retain(|_, index| *index != seat.index);
        }
    }

    /// The client starts (or stops) sending one kind of media, and offers so.
    pub fn publish(&mut self, seat: Seat, video: bool) {
        let (now, mut dice) = (self.now, self.dice.fork());
        self.client(seat.index).publish(now, &mut dice, seat.index, video);
    }

    /// The client has a new address and says so: RFC 8445 §9, by an offer with new credentials.
    pub fn restart_ice(&mut self, seat: Seat) -> Result<(), NegotiateError> {
        self.client(seat.index).restart_ice();
        let outcome = self.renegotiate(seat);
        self.client(seat.index).gather();
        self.poll_client(seat.index);
        outcome
    }

    /// A camera for hands that seal their packets themselves. Receivers take what it makes for genuine.
    pub fn camera(&mut self, room: &str, publisher: usize, bitrate: u64) -> Source {
        let room = content::room_tag(room);
        Source::new(self.now, &mut self.dice, room, publisher as u32, self.key, true, bitrate)
    }

    /// Likewise a microphone.
    pub fn microphone(&mut self, room: &str, publisher: usize) -> Source {
        let room = content::room_tag(room);
        Source::new(self.now, &mut self.dice, room, publisher as u32, self.key, false, 40_000)
    }

    /// Makes this worker's engine *the* engine for a while.
    pub fn on<T>(&mut self, worker: u16, act: impl FnOnce(&mut World) -> T) -> T {
        let Some(at) = usize::from(worker).checked_sub(1) else { return act(self) };
        std::mem::swap(&mut self.engine, &mut self.others[at]);
        let result = act(self);
        std::mem::swap(&mut self.engine, &mut self.others[at]);
        result
    }

    fn workers(&self) -> u16 {
        1 + self.others.len() as u16
    }

    /// Carries what workers tell each other.
    fn cross(&mut self) {
        let now = self.now;
        let mut quiet = false;
        while !quiet {
            quiet = true;
            for from in 0..self.workers() {
                while let Some(Some((to, crossing))) =
                    self.on(from, |world| world.guarded(|engine, _| engine.poll_crossing()))
                {
                    quiet = false;
                    if self.crossings_lost && matches!(crossing, Crossing::Media(_)) {
                        self.on(from, |world| world.engine.crossing_lost(&crossing));
                        continue;
                    }
                    self.on(to, |world| {
                        world.guarded(|engine, _| engine.handle_crossing(now, from, crossing))
                    });
                }
            }
        }
    }

    /// Calls the engine as a worker does.
    fn guarded<T>(&mut self, call: impl FnOnce(&mut Engine, &mut Socket) -> T) -> Option<T> {
        let World { engine, outlet, .. } = self;
        match catch_unwind(AssertUnwindSafe(|| call(engine, outlet))) {
            Ok(value) => Some(value),
            Err(fault) if !self.contains_faults => resume_unwind(fault),
            Err(_) => {
                self.engine.contain_panic(self.now);
                None
            }
        }
    }

    fn client(&mut self, index: usize) -> &mut Client {
        self.clients[index].as_mut().expect("nobody has forgotten it")
    }

    /// The client sends RTCP of the test's making under its own keys.
    pub fn send_rtcp(&mut self, seat: Seat, packets: Vec<Rtcp>) {
        let now = self.now;
        assert!(self.client(seat.index).send_rtcp(now, packets), "it is connected");
        self.poll_client(seat.index);
    }

    /// Holds the engine's offers to this client back.
    pub fn hold(&mut self, seat: Seat) {
        self.client(seat.index).held.get_or_insert_default();
    }

    /// Delivers what was held.
    pub fn release(&mut self, seat: Seat) {
        for offer in self.client(seat.index).held.take().unwrap_or_default() {
            self.deliver_offer(seat.index, &offer);
        }
        self.signal();
    }

    // ---- the network -------------------------------------------------------------------------------

    pub fn link(&mut self, id: LinkId) -> &mut Conditions {
        &mut self.links[id.0].conditions
    }

    /// Loses that share of datagrams, each by itself.
    pub fn lose(&mut self, id: LinkId, share: f64) {
        self.link(id).loss = Loss::Random(share);
    }

    /// Datagrams that a link has lost so far.
    pub fn lost(&self, id: LinkId) -> u64 {
        self.links[id.0].lost
    }

    /// Watches every datagram that is about to arrive.
    pub fn intercept(&mut self, hook: impl FnMut(Instant, &Datagram) -> Verdict + 'static) {
        self.hook = Some(Box::new(hook));
    }

    pub fn stop_intercepting(&mut self) {
        self.hook = None;
    }

    /// Hands the engine a datagram now, from any address.
    pub fn inject(&mut self, from: SocketAddr, bytes: &[u8]) {
        self.arrive(Datagram { from, to: ENGINE, bytes: bytes.to_vec() });
        self.flush();
    }

    /// From now on what is sent to `at` is kept for [`heard_at`](World::heard_at).
    pub fn listen_at(&mut self, at: SocketAddr) {
        self.mail.entry(at).or_default();
    }

    /// What was sent to `at` since the last call.
    pub fn heard_at(&mut self, at: SocketAddr) -> Vec<Vec<u8>> {
        self.mail.get_mut(&at).map(std::mem::take).unwrap_or_default()
    }

    // ---- time --------------------------------------------------------------------------------------

    /// Lets time pass.
    pub fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.next().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.step();
        }
        self.now = until;
        self.step();
    }

    /// Lets time pass until something is so, at most `time`. Whether it came to be.
    pub fn run_until(&mut self, time: Duration, mut so: impl FnMut(&World) -> bool) -> bool {
        let until = self.now + time;
        while !so(self) {
            let Some(at) = self.next().filter(|at| *at <= until) else {
                self.now = until;
                return so(self);
            };
            self.now = self.now.max(at);
            self.step();
        }
        true
    }

    fn next(&self) -> Option<Instant> {
        let flight = self.flights.peek().map(|Reverse((at, ..))| *at);
        let clients = self.clients.iter().flatten().filter_map(|client| client.poll_timeout()).min();
        let engines = std::iter::once(&self.engine).chain(&self.others);
        let engines = engines.filter_map(|engine| engine.poll_timeout()).min();
        [flight, engines, clients].into_iter().flatten().min()
    }

    fn step(&mut self) {
        let now = self.now;
        while let Some(Reverse((at, ..))) = self.flights.peek()
            && *at <= now
        {
            if let Some(Reverse((_, _, datagram))) = self.flights.pop() {
                self.deliver(datagram);
            }
        }
        for worker in 0..self.workers() {
            let mut turns = 0;
            while self.on(worker, |world| world.guarded(|engine, _| engine.handle_timeout(now)))
                != Some(false)
            {
                turns += 1;
                assert!(turns < 10_000, "the engine's timers spin");
            }
        }
        self.signal();
        for index in 0..self.clients.len() {
            let client = self.clients[index].as_ref();
            if client.and_then(|client| client.poll_timeout()).is_some_and(|at| at <= now) {
                self.poll_client(index);
            }
        }
        self.flush();
    }

    fn deliver(&mut self, datagram: Datagram) {
        let Some(mut hook) = self.hook.take() else { return self.arrive(datagram) };
        let verdict = hook(self.now, &datagram);
        self.hook = Some(hook);
        for injected in verdict.inject {
            self.arrive(injected);
        }
        if !verdict.lost {
            self.arrive(datagram);
        }
        for injected in verdict.follow {
            self.arrive(injected);
        }
    }

    fn arrive(&mut self, mut datagram: Datagram) {
        let now = self.now;
        if let Some(worker) = worker_at(datagram.to) {
            self.traffic.entry(datagram.from).or_default()[0] += datagram.bytes.len() as u64;
            let path = Path::new(ENGINE.ip(), datagram.from);
            self.on(worker, |world| {
                world.guarded(|engine, _| engine.handle_datagram(now, now, path, &mut datagram.bytes))
            });
            self.signal();
        } else if let Some(&index) = self.at.get(&datagram.to) {
            self.client(index).handle_datagram(now, datagram.from, &datagram.bytes);
            self.poll_client(index);
        }
    }

    /// Moves a client to another address: its NAT gave it a new mapping.
    pub fn rebind(&mut self, seat: Seat, addr: SocketAddr) {
        let client = self.client(seat.index);
        let old = std::mem::replace(&mut client.addr, addr);
        self.at.remove(&old);
        self.at.insert(addr, seat.index);
    }

    fn poll_client(&mut self, index: usize) {
        let mut out = Vec::new();
        let now = self.now;
        let client = self.client(index);
        client.poll(now, &mut out);
        let addr = client.addr;
        for mut datagram in out {
            if worker_at(datagram.to).is_some() {
                datagram.from = addr;
                self.launch(2 * index, datagram);
            }
        }
    }

    /// Sends what the engine has queued.
    pub fn flush(&mut self) {
        self.cross();
        for worker in 0..self.workers() {
            self.on(worker, |world| world.flush_from(engine_address(worker)));
        }
    }

    fn flush_from(&mut self, from: SocketAddr) {
        let now = self.now;
        while self.guarded(|engine, outlet| engine.flush(now, outlet)).is_none() {}
        for (to, bytes) in std::mem::take(&mut self.outlet.sent) {
            self.traffic.entry(to).or_default()[1] += bytes.len() as u64;
            if let Some(mail) = self.mail.get_mut(&to) {
                mail.push(bytes);
            } else if let Some(&index) = self.at.get(&to) {
                self.launch(2 * index + 1, Datagram { from, to, bytes });
            }
        }
    }

    fn launch(&mut self, link: usize, datagram: Datagram) {
        for at in self.links[link].carry(self.now, datagram.bytes.len()).into_iter().flatten() {
            self.order += 1;
            self.flights.push(Reverse((at, self.order, datagram.clone())));
        }
    }

    // ---- signalling --------------------------------------------------------------------------------

    /// Delivers the engine's events; offers are answered at once unless they are held.
    fn signal(&mut self) {
        self.cross();
        let next = |world: &mut World, worker| world.on(worker, |world| world.engine.poll_event());
        while let Some((peer, event)) = (0..self.workers()).find_map(|worker| next(self, worker)) {
            let Some(&index) = self.peers.get(&peer) else { continue };
            let now = self.now;
            let client = self.client(index);
            if let PeerEvent::Left(_) = event {
                client.peer = None;
            }
            client.events.push((now, event.clone()));
            if let PeerEvent::Offer { sdp } = event {
                match &mut client.held {
                    Some(held) => held.push(sdp),
                    None => self.deliver_offer(index, &sdp),
                }
            }
        }
    }

    fn deliver_offer(&mut self, index: usize, sdp: &str) {
        let now = self.now;
        let client = self.client(index);
        let Some(peer) = client.peer else { return };
        let answer = client.answer(now, sdp);
        let worker = client.worker;
        let taken = self.on(worker, |world| world.guarded(|engine, _| engine.answer(now, peer, &answer)));
        if let Some(Err(error)) = taken {
            self.client(index).answers_refused.push(error.to_string());
        }
    }

    // ---- readings ----------------------------------------------------------------------------------

    pub fn counters(&self) -> &Counters {
        &self.engine.counters
    }

    /// Packets the engine has sent again, because somebody asked.
    pub fn resent(&self) -> u64 {
        let rtx = self.counters().egress.packets.iter().map(|kind| kind[Transmission::Rtx as usize]);
        rtx.sum()
    }

    /// What was dropped on the way in.
    pub fn dropped_in(&self, kind: DropKind, reason: DropReason) -> u64 {
        self.counters().dropped[Direction::In as usize][kind as usize][reason as usize]
    }

    /// What was dropped on the way out.
    pub fn dropped_out(&self, kind: DropKind, reason: DropReason) -> u64 {
        self.counters().dropped[Direction::Out as usize][kind as usize][reason as usize]
    }

    pub fn peer(&self, seat: Seat) -> PeerId {
        self[seat].peer.expect("it is in the room")
    }

    /// Everybody is connected within `time`.
    pub fn connect_all(&mut self, time: Duration) {
        let all =
            self.run_until(time, |world| world.clients.iter().flatten().all(|client| client.is_connected()));
        assert!(all, "not everybody connects within {time:?}");
    }

    /// Every copy owed is accounted for, and all queues are drained.
    pub fn audit(&mut self) {
        self.outlet.full = false;
        self.outlet.credit = None;
        self.flush();
        for worker in 0..self.workers() {
            self.on(worker, World::audit_engine);
        }
    }

    fn audit_engine(&mut self) {
        assert!(!self.engine.has_output(self.now), "queues drain");
        for kind in [MediaKind::Audio, MediaKind::Video] {
            let owed = self.counters().unaccounted(kind);
            assert_eq!(owed, 0, "{kind} copies unaccounted for: {:?}", self.counters());
            let open = self.counters().unanswered_packets(kind);
            assert_eq!(open, 0, "{kind} packets asked for, and nobody says what became of them");
        }
        assert_eq!(self.counters().unanswered_requests(), 0, "keyframe requests that nobody has decided on");
    }
}

pub fn is_rtp(bytes: &[u8]) -> bool {
    bytes.len() > 12 && bytes[0] >> 6 == 2 && !(192..=223).contains(&bytes[1])
}

/// Where a worker receives.
pub fn engine_address(worker: u16) -> SocketAddr {
    SocketAddr::new(ENGINE.ip(), ENGINE.port() + worker)
}

fn worker_at(address: SocketAddr) -> Option<u16> {
    let near = address.ip() == ENGINE.ip() && address.port() < ENGINE.port() + MOST_WORKERS;
    address.port().checked_sub(ENGINE.port()).filter(|_| near)
}

const MOST_WORKERS: u16 = 16;

/// Client `index` lives here.
pub fn client_address(index: usize) -> SocketAddr {
    let [_, _, high, low] = (index as u32 + 1).to_be_bytes();
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, high, low)), 5000)
}

/// An address from which nobody honest sends.
pub fn stranger(n: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 66)), 1024 + n)
}

impl Index<Seat> for World {
    type Output = Client;

    fn index(&self, seat: Seat) -> &Client {
        self.clients[seat.index].as_ref().expect("nobody has forgotten it")
    }
}

impl IndexMut<Seat> for World {
    fn index_mut(&mut self, seat: Seat) -> &mut Client {
        self.client(seat.index)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "seed {}, {:?} into the story",
                self.seed,
                self.now.saturating_duration_since(clock::origin())
            );
        } else if !self.quiet {
            self.quiet = true;
            self.audit();
        }
    }
}

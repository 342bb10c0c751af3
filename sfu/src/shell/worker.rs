//! A media thread: one runtime, one socket, one engine.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::bitrate::Bitrates;
use super::clock::{self, Reading};
use super::events::Events;
use super::inbox::{Inbox, Mailbox};
use super::load::Load;
use super::socket::Socket;
use super::window::Window;
use crate::config::PeerConfig;
use crate::counters::IoOp;
use crate::counters::PanicScope;
use crate::engine::crossing::Crossing;
use crate::engine::{Continuity, Engine, EngineConfig, ResumeFault, Return, Standing};
use crate::error::{JoinError, NegotiateError};
use crate::event::{LeaveReason, PeerEvent};
use crate::ids::PeerId;
use crate::metrics::{Shard, WorkerCounters};

/// System calls per turn before timers and commands get their say.
const RECEIVES_PER_TURN: usize = 4;

/// Timers served per turn: more than fall due at once, and a bound should one fall due again and again.
const TIMEOUTS_PER_TURN: usize = 4096;

/// Letters from other workers per turn, likewise.
const LETTERS_PER_TURN: usize = 64;

/// How often the event loop's punctuality is measured, and counters are published at the latest.
const HEARTBEAT: Duration = Duration::from_millis(100);

/// How often gauges that need a look at everybody are brought up to date.
const SAMPLING: Duration = Duration::from_secs(1);

type Reply<T> = oneshot::Sender<T>;

type Call = Box<dyn FnOnce(&mut Engine, Instant) + Send>;

/// What host handles ask of a worker.
pub enum Command {
    Join {
        room: String,
        config: Box<PeerConfig>,
        /// What it had when it was here before.
        before: Option<Box<Standing>>,
        offer: String,
        events: Arc<Events>,
        reply: Reply<Result<(PeerId, String), JoinError>>,
    },
    /// A client comes back as a peer that is still here. Whoever held it is told, and the new handle holds it.
    Resume {
        coming: Box<Return>,
        offer: String,
        events: Arc<Events>,
        reply: Reply<Result<(String, Continuity), ResumeFault>>,
    },
    Offer {
        peer: PeerId,
        sdp: String,
        reply: Reply<Result<String, NegotiateError>>,
    },
    Answer {
        peer: PeerId,
        sdp: String,
        reply: Reply<Result<(), NegotiateError>>,
    },
    Resync {
        peer: PeerId,
    },
    RestartIce {
        peer: PeerId,
    },
    /// By the handle with these events, if it still holds the peer.
    Leave {
        peer: PeerId,
        events: Arc<Events>,
    },
    /// Tells every peer that the node is being left.
    Draining {
        deadline: Duration,
    },
    /// Something the engine can do at once; it sends its answer by itself.
    Call(Call),
    Shutdown {
        reply: Reply<()>,
    },
    /// A fault of the engine's own.
    #[cfg(test)]
    Fail,
    /// A fault that nobody contains.
    #[cfg(test)]
    Die,
}

/// The host side of a worker.
pub struct WorkerHandle {
    pub commands: mpsc::UnboundedSender<Command>,
    pub load: Arc<Load>,
    /// The kernel's number of the thread; 0 until it has begun.
    pub number: Arc<AtomicU32>,
    pub thread: parking_lot::Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl WorkerHandle {
    /// Has the engine do something. `None`: the worker has ended.
    pub fn call<T, F>(&self, call: F) -> impl Future<Output = Option<T>> + Send + use<T, F>
    where
        T: Send + 'static,
        F: FnOnce(&mut Engine, Instant) -> T + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let command = Command::Call(Box::new(move |engine, now| {
            let _ = reply.send(call(engine, now));
        }));
        // Sent at once, whether anybody waits for the answer or not.
        let sent = self.commands.send(command).is_ok();
        async move { if sent { answer.await.ok() } else { None } }
    }
}

struct Worker {
    config: EngineConfig,
    engine: Engine,
    socket: Socket,
    commands: mpsc::UnboundedReceiver<Command>,
    events: HashMap<PeerId, Arc<Events>>,
    load: Arc<Load>,
    inbox: Inbox,
    /// Everybody's, its own included.
    mail: Arc<[Mailbox]>,
    shard: Arc<Shard>,
    heartbeat: Instant,
    account: WorkerCounters,
    bitrates: Bitrates,
    /// When gauges were brought up to date.
    sampled_at: Option<Instant>,
    blocked: bool,
    window: Window,
    /// How busy it had been altogether, at the last heartbeat.
    busy: u64,
}

impl Drop for Worker {
    /// However the thread ends: its totals stay, nothing is left of what it held, and no other worker goes on as if
    /// those were there who were on it.
    fn drop(&mut self) {
        self.shard.engine.publish(&std::mem::take(&mut self.engine.counters).carried_over());
        self.shard.worker.publish(&std::mem::take(&mut self.account).carried_over());
        // The engine is not asked: it may be in the middle of what ended the thread.
        let here = usize::from(self.config.worker);
        for (_, mail) in self.mail.iter().enumerate().filter(|(worker, _)| *worker != here) {
            let _ = mail.send(self.config.worker, Crossing::Reset);
        }
    }
}

/// Starts the thread. The socket is bound already; what can still fail is the thread itself.
pub fn spawn(
    config: EngineConfig,
    socket: std::net::UdpSocket,
    shard: Arc<Shard>,
    cpu: Option<usize>,
    (inbox, mail): (Inbox, Arc<[Mailbox]>),
) -> std::io::Result<WorkerHandle> {
    let (sender, commands) = mpsc::unbounded_channel();
    let load = Arc::<Load>::default();
    let number = Arc::new(AtomicU32::new(0));
    let (shared, told) = (load.clone(), number.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let socket = {
        let _entered = runtime.enter();
        Socket::new(socket)?
    };
    let thread = std::thread::Builder::new().name(format!("sluice-{}", config.worker)).spawn(move || {
        super::probes::pin(cpu);
        told.store(super::probes::thread_id(), Relaxed);
        let now = clock::now();
        let worker = Worker {
            engine: Engine::new(config.clone()),
            config,
            socket,
            commands,
            events: HashMap::new(),
            load: shared,
            inbox,
            mail,
            shard,
            heartbeat: now + HEARTBEAT,
            account: WorkerCounters::default(),
            bitrates: Bitrates::default(),
            sampled_at: None,
            blocked: false,
            window: Window::default(),
            busy: 0,
        };
        runtime.block_on(worker.run());
    })?;
    Ok(WorkerHandle { commands: sender, load, number, thread: parking_lot::Mutex::new(Some(thread)) })
}

enum Wake {
    Command(Option<Command>),
    Crossing(u16, Crossing),
    Socket,
    Time,
}

impl Worker {
    async fn run(mut self) {
        self.publish(clock::now());
        loop {
            let wake = self.wait().await;
            let woke = clock::now();
            match wake {
                Wake::Command(None) => return self.end(),
                Wake::Command(Some(Command::Shutdown { reply })) => {
                    self.end();
                    let _ = reply.send(());
                    return;
                }
                Wake::Command(Some(command)) => self.obey(command),
                Wake::Crossing(from, crossing) => self.take_letters(from, crossing),
                Wake::Socket | Wake::Time => {}
            }
            // Whatever woke us: neither a flood of commands nor one of timers may starve the socket.
            for _ in 0..RECEIVES_PER_TURN {
                let more = self.receive();
                self.post();
                self.flush();
                if !more {
                    break;
                }
            }
            self.keep_time();
            self.post();
            self.flush();
            self.deliver();
            self.account.turn(clock::now().saturating_duration_since(woke));
        }
    }

    async fn wait(&mut self) -> Wake {
        let due = self.engine.poll_timeout().map_or(self.heartbeat, |at| at.min(self.heartbeat));
        let blocked = self.blocked;
        tokio::select! {
            biased;
            command = self.commands.recv() => Wake::Command(command),
            (from, crossing) = self.inbox.receive() => Wake::Crossing(from, crossing),
            _ = self.socket.readable() => Wake::Socket,
            _ = self.socket.writable(), if blocked => Wake::Time,
            _ = tokio::time::sleep_until(due.into()) => Wake::Time,
        }
    }

    /// Runs one engine call; a panic costs whoever was being served, and the turn goes on.
    fn guarded<T>(&mut self, call: impl FnOnce(&mut Engine) -> T) -> Option<T> {
        match catch_unwind(AssertUnwindSafe(|| call(&mut self.engine))) {
            Ok(value) => Some(value),
            Err(_) => {
                self.contain();
                None
            }
        }
    }

    fn contain(&mut self) {
        let contained = catch_unwind(AssertUnwindSafe(|| self.engine.contain_panic(clock::now())));
        if !matches!(contained, Ok(PanicScope::Peer | PanicScope::Room)) {
            self.restart();
        }
    }

    /// The engine itself is not to be trusted any more: begin anew, and tell everybody who was on it.
    fn restart(&mut self) {
        tracing::error!(worker = self.config.worker, "a media worker failed and restarts without its peers");
        let mut spare = Engine::new(self.config.clone());
        // Whatever becomes of the rest, no counter falls.
        spare.counters = self.engine.counters.clone().carried_over();
        spare.ask_to_be_forgotten();
        let failed = std::mem::replace(&mut self.engine, spare);
        match catch_unwind(AssertUnwindSafe(|| failed.begin_anew())) {
            Ok(engine) => self.engine = engine,
            Err(_) => {
                tracing::error!(worker = self.config.worker, "the failed engine could not even be let go")
            }
        }
        self.account.restarts += 1;
        self.blocked = false;
        for (_, events) in self.events.drain() {
            events.push(PeerEvent::Left(LeaveReason::Internal));
        }
        self.load.peers.store(0, Relaxed);
    }

    /// Takes in what one system call gives. False: the socket is empty.
    fn receive(&mut self) -> bool {
        let messages = match self.socket.receive() {
            Ok(0) => return false,
            Ok(messages) => messages,
            Err(error) => {
                // A pending ICMP error is consumed by reading it; anything else shows again.
                tracing::debug!(worker = self.config.worker, kind = ?error.kind(), "receive");
                return false;
            }
        };
        let reading = Reading::take();
        let now = reading.monotonic;
        let mut datagrams = 0;
        let mut broken = false;
        let Worker { socket, engine, .. } = self;
        for index in 0..messages {
            for (path, arrived, datagram) in socket.datagrams(index, reading) {
                datagrams += 1;
                let serve = || engine.handle_datagram(now, arrived, path, datagram);
                if !broken && catch_unwind(AssertUnwindSafe(serve)).is_err() {
                    let contained = catch_unwind(AssertUnwindSafe(|| engine.contain_panic(now)));
                    broken = !matches!(contained, Ok(PanicScope::Peer | PanicScope::Room));
                }
            }
        }
        self.account.io(IoOp::Recv, datagrams);
        if broken {
            self.restart();
        }
        true
    }

    fn obey(&mut self, command: Command) {
        let now = clock::now();
        match command {
            Command::Join { room, config, before, offer, events, reply } => {
                let result = self
                    .guarded(|engine| engine.join(now, &room, *config, &offer))
                    .unwrap_or(Err(JoinError::Shutdown));
                if let (Ok((peer, _)), Some(before)) = (&result, before) {
                    self.guarded(|engine| engine.restore(now, *peer, &before));
                }
                if let Ok((peer, _)) = &result {
                    self.events.insert(*peer, events);
                    self.load.peers.store(self.events.len(), Relaxed);
                }
                if let Err(Ok((peer, _))) = reply.send(result) {
                    // The host gave up waiting: nobody holds this peer.
                    self.guarded(|engine| engine.leave(now, peer));
                }
            }
            Command::Resume { coming, offer, events, reply } => {
                let peer = coming.peer;
                let result = self.guarded(|engine| engine.resume(now, *coming, &offer));
                let result = result.unwrap_or(Err(ResumeFault::Gone));
                if result.is_ok()
                    && let Some(before) = self.events.insert(peer, events)
                {
                    before.push(PeerEvent::TakenOver);
                }
                if let Err(Ok(_)) = reply.send(result) {
                    // The host gave up waiting: nobody holds this peer.
                    self.guarded(|engine| engine.leave(now, peer));
                }
            }
            Command::Offer { peer, sdp, reply } => {
                let result = self.guarded(|engine| engine.offer(now, peer, &sdp));
                let _ = reply.send(result.unwrap_or(Err(NegotiateError::Gone)));
            }
            Command::Answer { peer, sdp, reply } => {
                let result = self.guarded(|engine| engine.answer(now, peer, &sdp));
                let _ = reply.send(result.unwrap_or(Err(NegotiateError::Gone)));
            }
            Command::RestartIce { peer } => {
                self.guarded(|engine| engine.restart_ice(now, peer));
            }
            Command::Resync { peer } => {
                self.guarded(|engine| engine.resync(now, peer));
            }
            Command::Leave { peer, events } => {
                if self.events.get(&peer).is_some_and(|held| Arc::ptr_eq(held, &events)) {
                    self.guarded(|engine| engine.leave(now, peer));
                }
            }
            Command::Draining { deadline } => {
                self.events.values().for_each(|events| events.push(PeerEvent::Draining { deadline }));
            }
            Command::Call(call) => {
                self.guarded(|engine| call(engine, now));
            }
            Command::Shutdown { reply } => {
                let _ = reply.send(());
            }
            #[cfg(test)]
            Command::Fail => {
                self.guarded(|_| panic!("a fault of the engine's own"));
            }
            #[cfg(test)]
            Command::Die => panic!("a fault that nobody contains"),
        }
    }

    fn keep_time(&mut self) {
        let now = clock::now();
        for _ in 0..TIMEOUTS_PER_TURN {
            if self.guarded(|engine| engine.handle_timeout(now)) == Some(false) {
                break;
            }
        }
        if now >= self.heartbeat {
            let late = now.saturating_duration_since(self.heartbeat);
            self.account.lag(late);
            self.heartbeat = now + HEARTBEAT;
            let busy = self.account.busy - std::mem::replace(&mut self.busy, self.account.busy);
            let busy = busy / ((HEARTBEAT + late).as_micros() as u64);
            self.load.measure(busy);
            let window = self.window.on_busy(busy);
            self.engine.set_window(window);
            self.publish(now);
        }
    }

    fn publish(&mut self, now: Instant) {
        if self.sampled_at.is_none_or(|at| now >= at + SAMPLING) {
            self.sampled_at = Some(now);
            self.engine.sample(now);
            self.account.bitrates = self.bitrates.on_bytes(now, self.engine.counters.bytes());
        }
        self.account.control_depth = self.commands.len() as u64;
        self.account.set_cpu(super::probes::thread_cpu());
        self.shard.worker.publish(&self.account);
        self.shard.engine.publish(&self.engine.counters);
    }

    fn flush(&mut self) {
        let now = clock::now();
        self.blocked = false;
        while self.engine.has_output(now) {
            let Worker { engine, socket, .. } = self;
            match catch_unwind(AssertUnwindSafe(|| engine.flush(now, socket))) {
                Ok(done) => {
                    self.blocked = !done;
                    break;
                }
                Err(_) => self.contain(),
            }
        }
        self.socket.tally_sends(&mut self.account);
    }

    /// Takes in what other workers have sent: this letter, and what else is there.
    fn take_letters(&mut self, from: u16, crossing: Crossing) {
        let now = clock::now();
        self.guarded(|engine| engine.handle_crossing(now, from, crossing));
        for _ in 1..LETTERS_PER_TURN {
            let Some((from, crossing)) = self.inbox.try_receive() else { break };
            self.guarded(|engine| engine.handle_crossing(now, from, crossing));
        }
    }

    /// Sends other workers what concerns them.
    fn post(&mut self) {
        while let Some(Some((to, crossing))) = self.guarded(Engine::poll_crossing) {
            let sent = self.mail.get(usize::from(to)).map(|mail| mail.send(self.config.worker, crossing));
            if let Some(Err(lost)) = sent {
                self.engine.crossing_lost(&lost);
            }
        }
    }

    fn deliver(&mut self) {
        while let Some((peer, event)) = self.engine.poll_event() {
            let left = matches!(event, PeerEvent::Left(_));
            if let Some(events) = self.events.get(&peer) {
                events.push(event);
            }
            if left {
                self.events.remove(&peer);
                self.load.peers.store(self.events.len(), Relaxed);
            }
        }
    }

    /// Goodbye to everybody, and the last counts.
    fn end(mut self) {
        let now = clock::now();
        self.guarded(|engine| engine.shutdown(now));
        self.post();
        self.flush();
        self.deliver();
    }
}

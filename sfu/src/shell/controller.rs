//! The saturation controller: a thread of its own, because it must act when the workers cannot.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use tokio::sync::{oneshot, watch};

use super::clock;
use super::readings::{Look, Readings};
use super::worker::{Command, WorkerHandle};
use crate::counters::{Mitigation, RoomSize, Step as Direction, Turn, nanos};
use crate::engine::Engine;
use crate::metrics::{SaturationReadings, WorkerSaturation};
use crate::saturation::admission::{Door, NodeState};
use crate::saturation::fairness::noisy;
use crate::saturation::level::SaturationLevel;
use crate::saturation::measures::Measures;
use crate::saturation::node::{Held, Node};
use crate::saturation::pressure::{Load, Resource};
use crate::stats::{By, RoomStats};
use crate::units::Bitrate;

/// How often workers are looked at.
const SAMPLING: Duration = Duration::from_millis(100);
/// How often workers are asked which of their rooms cost how much.
const ASKING: Duration = Duration::from_secs(2);
/// How often a noisy room is spoken of.
const TELLING: Duration = Duration::from_secs(60);
/// So many faults in a minute are a storm.
const STORM: u64 = 3;
const STORM_WITHIN: Duration = Duration::from_secs(60);
/// How often a worker is told what it should know.
const AGAIN: Duration = Duration::from_secs(1);
/// For so many looks in a row nobody is here: a join that is under way has shown by then.
const EMPTY: u32 = 3;

/// What hosts' calls and the controller's thread share.
pub struct Controls {
    pub door: Door,
    /// What a scrape shows of it.
    pub readings: Arc<Mutex<SaturationReadings>>,
    orders: Mutex<Orders>,
    /// In bits per second; 0 while the host has not said.
    egress_capacity: AtomicU64,
    noisy: RwLock<HashSet<String>>,
    drain: watch::Sender<Drain>,
}

/// What the operator wants.
#[derive(Clone, Copy, Debug, Default)]
struct Orders {
    floor: SaturationLevel,
    frozen: bool,
    /// A fault of the controller's own.
    #[cfg(test)]
    fail: bool,
}

/// How far a drain is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Drain {
    Underway,
    /// The deadline has passed, and so many are still here.
    Late(usize),
    Done,
}

impl Controls {
    pub fn new(now: Instant, workers: usize, acting: bool) -> Controls {
        Controls {
            door: Door::new(now, workers, acting),
            readings: Arc::default(),
            orders: Mutex::default(),
            egress_capacity: AtomicU64::new(0),
            noisy: RwLock::default(),
            drain: watch::channel(Drain::Underway).0,
        }
    }

    pub fn set_floor(&self, floor: SaturationLevel) {
        self.orders.lock().floor = floor;
    }

    pub fn set_frozen(&self, frozen: bool) {
        self.orders.lock().frozen = frozen;
    }

    /// What may leave the machine: the pressure on egress is measured by it.
    pub fn set_egress_capacity(&self, capacity: Option<Bitrate>) {
        self.egress_capacity.store(capacity.map_or(0, Bitrate::as_bps), Relaxed);
    }

    pub fn is_noisy(&self, room: &str) -> bool {
        self.noisy.read().contains(room)
    }

    /// How a drain that is asked for now goes: what was found before is forgotten.
    pub fn drain(&self) -> watch::Receiver<Drain> {
        self.drain.send_replace(Drain::Underway);
        self.drain.subscribe()
    }

    #[cfg(test)]
    pub fn fail(&self) {
        self.orders.lock().fail = true;
    }
}

/// Ends its thread when it is dropped.
pub struct Controller {
    _alive: mpsc::Sender<()>,
}

impl Controller {
    /// Begins to look at these workers. `handles`: by what they are asked about their rooms.
    pub fn start(
        controls: Arc<Controls>,
        readings: impl Fn() -> Readings + Send + 'static,
        commands: Vec<tokio::sync::mpsc::UnboundedSender<Command>>,
    ) -> std::io::Result<Controller> {
        let (alive, ended) = mpsc::channel();
        let work = move || {
            let mut held = Held::default();
            let mut told = Told::default();
            loop {
                let steering = || {
                    let mut steering = Steering::begin(&controls, readings(), &commands, &held, &mut told);
                    while ended.recv_timeout(SAMPLING) == Err(RecvTimeoutError::Timeout) {
                        steering.turn(clock::now());
                        held = steering.node.held();
                    }
                };
                // Whatever a panic left half done is dropped with the steering; what it held is whole.
                if catch_unwind(AssertUnwindSafe(steering)).is_ok() {
                    return;
                }
                told.restarts += 1;
                tracing::error!("the saturation controller failed and begins anew with the levels it had");
            }
        };
        std::thread::Builder::new().name("sluice-control".to_owned()).spawn(work)?;
        Ok(Controller { _alive: alive })
    }
}

/// What only grows, and so outlives a controller that fails.
#[derive(Clone, Debug, Default)]
struct Told {
    at_level: [u64; SaturationLevel::ALL.len()],
    transitions: [u64; Direction::ALL.len()],
    mitigations: [[u64; Turn::ALL.len()]; Mitigation::ALL.len()],
    restarts: u64,
}

struct Steering<'a> {
    controls: &'a Controls,
    readings: Readings,
    commands: &'a [tokio::sync::mpsc::UnboundedSender<Command>],
    node: Node,
    told: &'a mut Told,
    turned_at: Instant,
    /// Each resource's slow mean, for the scrape.
    pressures: [Load; Resource::ALL.len()],
    rooms: Vec<Rooms>,
    asked_at: Instant,
    spoke_at: Option<Instant>,
    /// Faults and restarts that are known, and when the count of a storm began.
    faults: Option<(u64, u64)>,
    storm: Option<(Instant, u64)>,
    empty: u32,
    /// What each worker holds, whether it takes rooms, and when it was told so.
    holding: Vec<Holding>,
}

#[derive(Clone, Copy)]
struct Holding {
    measures: Measures,
    guard: bool,
    told_at: Instant,
}

/// What one worker's rooms cost, as it last said.
#[derive(Default)]
struct Rooms {
    asked: Option<oneshot::Receiver<Vec<RoomStats>>>,
    noisy: Vec<String>,
}

impl<'a> Steering<'a> {
    fn begin(
        controls: &'a Controls,
        readings: Readings,
        commands: &'a [tokio::sync::mpsc::UnboundedSender<Command>],
        held: &Held,
        told: &'a mut Told,
    ) -> Steering<'a> {
        let now = clock::now();
        let node = if *held == Held::default() { Node::new(commands.len()) } else { Node::resume(now, held) };
        // What is held already was told by whoever failed.
        let holding = |worker| Holding {
            measures: node.measures(worker),
            guard: node.worker_level(worker) >= SaturationLevel::Guard,
            told_at: now,
        };
        let holding = (0..commands.len()).map(holding).collect();
        Steering {
            controls,
            readings,
            commands,
            node,
            told,
            turned_at: now,
            pressures: Default::default(),
            rooms: commands.iter().map(|_| Rooms::default()).collect(),
            asked_at: now,
            spoke_at: None,
            faults: None,
            storm: None,
            empty: 0,
            holding,
        }
    }

    fn turn(&mut self, now: Instant) {
        let orders = *self.controls.orders.lock();
        #[cfg(test)]
        if orders.fail {
            self.controls.orders.lock().fail = false;
            panic!("a fault of the controller's own");
        }
        self.node.set_floor(orders.floor);
        self.node.set_frozen(orders.frozen);
        let capacity = Some(self.controls.egress_capacity.load(Relaxed)).filter(|bits| *bits > 0);
        let look = self.readings.look(now, capacity.map(Bitrate::bps));
        let door = &self.controls.door;
        let before = self.node.level();
        self.node.on_sample(now, &look.samples, look.node);
        self.node.poll_decision(now, |worker| door.reserved(now, worker));
        for worker in 0..self.commands.len() {
            door.set_load(worker, self.node.load(worker).slow(), self.node.worker_level(worker));
        }
        door.keep_time(now);
        self.hold(now);
        self.watch_faults(now, &look);
        self.watch_drain(now, &look);
        self.learn(now, &look);
        self.tell(now, before);
    }

    /// Tells each worker what to hold: when that changes, and now and then, for one may have begun anew.
    fn hold(&mut self, now: Instant) {
        let acting = self.controls.door.is_acting();
        for (worker, holding) in self.holding.iter_mut().enumerate() {
            let measures = self.node.measures(worker);
            let guard = self.node.worker_level(worker) >= SaturationLevel::Guard;
            for (mitigation, turn) in measures.steps_from(&holding.measures) {
                self.told.mitigations[mitigation as usize][turn as usize] += 1;
            }
            if guard != holding.guard {
                let turn = if guard { Turn::Engage } else { Turn::Release };
                self.told.mitigations[Mitigation::StopRooms as usize][turn as usize] += 1;
            }
            let changed = measures != holding.measures;
            let again = measures != Measures::NONE && now >= holding.told_at + AGAIN;
            if acting && (changed || again) {
                let hold = move |engine: &mut Engine, now| engine.hold(now, measures);
                // One that has ended holds nothing.
                let _ = self.commands[worker].send(Command::Call(Box::new(hold)));
            }
            let told_at = if changed || again { now } else { holding.told_at };
            *holding = Holding { measures, guard, told_at };
        }
    }

    /// What participants cost, and which rooms disturb others.
    fn learn(&mut self, now: Instant, look: &Look) {
        let ask = now >= self.asked_at + ASKING;
        if ask {
            self.asked_at = now;
        }
        let mut changed = false;
        for (worker, (rooms, commands)) in self.rooms.iter_mut().zip(self.commands).enumerate() {
            if let Some(told) = rooms.asked.as_mut().and_then(|asked| asked.try_recv().ok()) {
                rooms.asked = None;
                let load = self.node.own_load(worker);
                learn_costs(&self.controls.door, &told, load);
                let noisy = noisy_rooms(&told, load);
                changed |= noisy != rooms.noisy;
                rooms.noisy = noisy;
            }
            // One that has not answered is not asked again: it has enough to do.
            if ask && look.participants.get(worker).is_some_and(|participants| *participants > 0) {
                let closed = rooms.asked.as_mut().is_none_or(is_closed);
                if closed {
                    let (reply, asked) = oneshot::channel();
                    let ask = move |engine: &mut Engine, now| {
                        let _ = reply.send(engine.top_rooms(now, usize::MAX, By::Cost));
                    };
                    let sent = commands.send(Command::Call(Box::new(ask)));
                    rooms.asked = sent.is_ok().then_some(asked);
                }
            }
        }
        if changed {
            self.tell_noisy(now);
        }
    }

    fn tell_noisy(&mut self, now: Instant) {
        let noisy: HashSet<String> =
            self.rooms.iter().flat_map(|rooms| rooms.noisy.iter().cloned()).collect();
        if !noisy.is_empty() && self.spoke_at.is_none_or(|at| now >= at + TELLING) {
            self.spoke_at = Some(now);
            tracing::warn!(
                rooms = noisy.len(),
                "noisy_room: it takes more than its share; top_rooms says which"
            );
        }
        *self.controls.noisy.write() = noisy;
    }

    fn watch_faults(&mut self, now: Instant, look: &Look) {
        let (panics, restarts) =
            self.faults.replace((look.panics, look.restarts)).unwrap_or((look.panics, look.restarts));
        let fresh = look.panics.saturating_sub(panics);
        let (begun, faults) = self.storm.filter(|(begun, _)| now < *begun + STORM_WITHIN).unwrap_or((now, 0));
        let faults = faults + fresh;
        self.storm = Some((begun, faults)).filter(|_| faults > 0);
        if look.restarts > restarts || fresh > 0 && faults >= STORM {
            tracing::warn!("faults: the node takes little for some minutes");
            self.controls.door.begin_probation(now);
        }
    }

    fn watch_drain(&mut self, now: Instant, look: &Look) {
        let door = &self.controls.door;
        let Some(deadline) = door.deadline() else { return };
        self.empty = if look.handles == 0 { self.empty + 1 } else { 0 };
        let drain = if self.empty >= EMPTY || door.state() == NodeState::Drained {
            door.set_drained();
            Drain::Done
        } else if look.handles > 0 && now >= deadline {
            Drain::Late(usize::try_from(look.handles).unwrap_or(usize::MAX))
        } else {
            Drain::Underway
        };
        self.controls.drain.send_if_modified(|last| {
            let modified = *last != drain;
            *last = drain;
            modified
        });
    }

    /// Brings up to date what a scrape shows.
    fn tell(&mut self, now: Instant, before: SaturationLevel) {
        let (door, level) = (&self.controls.door, self.node.level());
        let passed = now.saturating_duration_since(std::mem::replace(&mut self.turned_at, now));
        self.told.at_level[level as usize] += nanos(passed);
        if level != before {
            let direction = if level > before { Direction::Up } else { Direction::Down };
            self.told.transitions[direction as usize] += 1;
            let resource = self.node.pressures().strongest();
            tracing::info!(
                from = before.as_number(),
                to = level.as_number(),
                short_of = resource.as_str(),
                "saturation"
            );
        }
        let pressures = self.node.pressures();
        for (mean, resource) in self.pressures.iter_mut().zip(Resource::ALL) {
            mean.on_sample(now, pressures.get(resource));
        }
        let worker = |worker| WorkerSaturation {
            load: self.node.load(worker).slow(),
            level: self.node.worker_level(worker),
        };
        let workers: Vec<_> = (0..self.commands.len()).map(worker).collect();
        let reserved = (0..workers.len()).map(|worker| door.reserved(now, worker));
        let told = SaturationReadings {
            pressures: self.pressures.map(|mean| mean.slow()),
            load: workers.iter().map(|worker| worker.load).fold(0.0, f64::max),
            reserved: reserved.fold(0.0, f64::max),
            level,
            workers,
            at_level: self.told.at_level,
            transitions: self.told.transitions,
            mitigations: self.told.mitigations,
            noisy_rooms: self.rooms.iter().map(|rooms| rooms.noisy.len() as u64).sum(),
            restarts: self.told.restarts,
            state: Some(door.state()),
            drain_deadline: door.deadline().map_or(0.0, |deadline| clock::epoch_seconds(now, deadline)),
            answers: door.tally(),
            resumes: door.resumes(),
        };
        *self.controls.readings.lock() = told;
    }
}

fn is_closed(asked: &mut oneshot::Receiver<Vec<RoomStats>>) -> bool {
    matches!(asked.try_recv(), Err(oneshot::error::TryRecvError::Closed))
}

/// `load`: the pressure that the worker's rooms make together.
fn learn_costs(door: &Door, rooms: &[RoomStats], load: f64) {
    let whole: u64 = rooms.iter().map(|room| room.weight(By::Cost)).sum();
    if whole == 0 || load < TELLING_LOAD {
        return;
    }
    for size in RoomSize::ALL {
        let of_size = rooms.iter().filter(|room| RoomSize::of(room.participants) == Some(size));
        let (cost, participants) = of_size.fold((0, 0), |(cost, participants), room| {
            (cost + room.weight(By::Cost), participants + room.participants)
        });
        if participants > 0 {
            door.costs.learn(size, load * cost as f64 / whole as f64 / participants as f64);
        }
    }
}

/// `load`: the pressure that the worker's rooms make together.
fn noisy_rooms(rooms: &[RoomStats], load: f64) -> Vec<String> {
    if load < TELLING_LOAD {
        return Vec::new();
    }
    let costs: Vec<f64> = rooms.iter().map(|room| room.weight(By::Cost) as f64).collect();
    let budget = costs.iter().sum::<f64>() / load;
    let is_noisy = noisy(&costs, budget);
    rooms.iter().filter(|room| is_noisy(room.weight(By::Cost) as f64)).map(|room| room.name.clone()).collect()
}

/// Below it a worker's own upkeep is most of what is measured.
const TELLING_LOAD: f64 = 0.05;

/// The channels by which workers are asked.
pub fn commands(workers: &[WorkerHandle]) -> Vec<tokio::sync::mpsc::UnboundedSender<Command>> {
    workers.iter().map(|worker| worker.commands.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::at;

    fn room(name: &str, participants: usize, packets_per_second: u64) -> RoomStats {
        RoomStats { name: name.to_owned(), participants, packets_per_second, ..RoomStats::default() }
    }

    #[test]
    fn participants_cost_their_rooms_share_of_the_load() {
        let door = Door::new(at(0), 1, true);
        learn_costs(&door, &[room("a", 2, 1_000), room("b", 10, 9_000)], 0.5);
        assert!((door.costs.of(2) - 0.025).abs() < 1e-9);
        assert!((door.costs.of(10) - 0.045).abs() < 1e-9);
        let idle = Door::new(at(0), 1, true);
        let unknown = idle.costs.of(2);
        learn_costs(&idle, &[room("a", 2, 1_000)], 0.01);
        learn_costs(&idle, &[room("a", 2, 0)], 0.5);
        assert_eq!(idle.costs.of(2), unknown, "there is nothing to learn from");
    }

    #[test]
    fn a_room_is_noisy_by_what_the_worker_can_do() {
        let mut rooms: Vec<RoomStats> = (0..20).map(|n| room(&n.to_string(), 3, 100)).collect();
        rooms.push(room("hall", 60, 3_000));
        assert_eq!(noisy_rooms(&rooms, 0.9), ["hall"]);
        assert_eq!(noisy_rooms(&rooms, 0.3), [""; 0], "it is a fifth of what the worker can do");
    }
}

//! What each worker and the process use, since the last look: the controller's eyes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::probes;
use crate::counters::{Counters, Direction, LossThreshold, TrafficKind, Transmission, nanos};
use crate::metrics::Shard;
use crate::saturation::node::Sample;
use crate::saturation::pressure::{Pressures, Resource, median_loss};
use crate::saturation::relief::Flow;
use crate::units::Bitrate;

/// Looks at every worker and at the process.
pub struct Readings {
    workers: Vec<Eye>,
    throttled: Rate,
    egress: Rate,
    feedback: Shares,
    /// What changes slowly, and when it was asked for.
    household: Household,
    household_at: Option<Instant>,
}

/// One look.
pub struct Look {
    /// What each worker uses.
    pub samples: Vec<Sample>,
    /// What the process uses.
    pub node: Pressures,
    /// Live peer connections.
    pub handles: u64,
    /// Participants of each worker.
    pub participants: Vec<u64>,
    /// Faults so far.
    pub panics: u64,
    /// Workers that began anew so far.
    pub restarts: u64,
}

/// A worker's counters and thread.
struct Eye {
    shard: Arc<Shard>,
    thread: Arc<AtomicU32>,
    cpu: Rate,
    waited: Rate,
    busy: Rate,
    forwarded: Rate,
    video: Rate,
    /// How often its timer had come, how late altogether, and when we last saw it come.
    beats: (u64, u64),
    beat_at: Option<Instant>,
    sample: Sample,
}

/// As shares of what there is.
#[derive(Clone, Copy, Default)]
struct Household {
    memory: f64,
    files: f64,
    /// What the fastest link says it carries.
    link: Option<Bitrate>,
}

/// Memory and descriptors are looked at once a second: to list them takes longer than the rest.
const HOUSEHOLD: Duration = Duration::from_secs(1);
/// The workers' own timer.
const BEAT: Duration = Duration::from_millis(100);

impl Readings {
    /// Of these workers: their counters, and the kernel's numbers of their threads.
    pub fn new(workers: impl IntoIterator<Item = (Arc<Shard>, Arc<AtomicU32>)>) -> Readings {
        Readings {
            workers: workers.into_iter().map(|(shard, thread)| Eye::new(shard, thread)).collect(),
            throttled: Rate::default(),
            egress: Rate::default(),
            feedback: Shares::default(),
            household: Household::default(),
            household_at: None,
        }
    }

    /// How things are. `capacity`: what the host lets us send, if it has said.
    pub fn look(&mut self, now: Instant, capacity: Option<Bitrate>) -> Look {
        if self.household_at.is_none_or(|at| now >= at + HOUSEHOLD) {
            self.household_at = Some(now);
            self.household = Household::now();
        }
        let mut all = Totals::default();
        let samples = self.workers.iter_mut().map(|worker| worker.look(now, &mut all)).collect();
        let mut node = Pressures::default();
        let throttled = probes::cpu_throttled().map_or(0, nanos);
        node.set(Resource::Throttle, self.throttled.of(now, throttled) / 1e9);
        let bits = self.egress.of(now, all.bytes) * 8.0;
        if let Some(capacity) = capacity.or(self.household.link).filter(|capacity| capacity.as_bps() > 0) {
            node.set(Resource::Egress, bits / capacity.as_bps() as f64);
        }
        node.set(Resource::Memory, self.household.memory);
        node.set(Resource::Fds, self.household.files);
        node.set(Resource::Loss, median_loss(all.subscribers, &all.lossy));
        node.set(Resource::Feedback, self.feedback.of(now, all.unmatched, all.feedback));
        let Totals { handles, participants, panics, restarts, .. } = all;
        Look { samples, node, handles, participants, panics, restarts }
    }
}

/// Of all workers.
#[derive(Default)]
struct Totals {
    bytes: u64,
    subscribers: u64,
    lossy: [u64; LossThreshold::ALL.len()],
    feedback: u64,
    unmatched: u64,
    handles: u64,
    participants: Vec<u64>,
    panics: u64,
    restarts: u64,
}

impl Eye {
    fn new(shard: Arc<Shard>, thread: Arc<AtomicU32>) -> Eye {
        let (cpu, waited, busy) = Default::default();
        let (forwarded, video, sample) = Default::default();
        Eye { shard, thread, cpu, waited, busy, forwarded, video, beats: (0, 0), beat_at: None, sample }
    }

    fn look(&mut self, now: Instant, all: &mut Totals) -> Sample {
        let (own, engine) = (self.shard.worker.read(), self.shard.engine.read());
        all.add(&engine, own.restarts);
        let pressures = &mut self.sample.pressures;
        let thread = Some(self.thread.load(Relaxed)).filter(|thread| *thread > 0);
        let told = thread.and_then(probes::schedule);
        if let Some((_, waited)) = told {
            pressures.set(Resource::RunDelay, self.waited.of(now, nanos(waited)) / 1e9);
        }
        if let Some((used, _)) = told {
            pressures.set(Resource::Cpu, self.cpu.of(now, nanos(used)) / 1e9);
        }
        // What the worker says of itself it says at each beat of its timer.
        let (count, sum) = (own.lag.count(), own.lag.sum);
        let (before, lateness) = std::mem::replace(&mut self.beats, (count, sum));
        let seen = *self.beat_at.get_or_insert(now);
        if count > before {
            self.beat_at = Some(now);
            self.sample.lag = Duration::from_nanos((sum - lateness) / (count - before));
            pressures.set(Resource::Busy, self.busy.of(now, own.busy) / 1e9);
            if told.is_none() {
                pressures.set(Resource::Cpu, self.cpu.of(now, own.cpu) / 1e9);
            }
            let [forwarded, video] = sent(&engine);
            self.sample.flow = Flow {
                forwarded: self.forwarded.of(now, forwarded) * 8.0,
                video: self.video.of(now, video) * 8.0,
                ..Flow::default()
            };
            let gauges = &engine.gauges;
            let queued = gauges.queued.iter().sum::<u64>() as f64;
            pressures.set(Resource::Queue, queued / gauges.queue_capacity.max(1) as f64);
        } else if count > 0 {
            // It is late already, and will say so only once it comes.
            let overdue = now.saturating_duration_since(seen).saturating_sub(BEAT);
            self.sample.lag = self.sample.lag.max(overdue);
        }
        pressures.set(Resource::Lag, self.sample.lag.as_secs_f64());
        self.sample
    }
}

impl Totals {
    fn add(&mut self, engine: &Counters, restarts: u64) {
        let gauges = &engine.gauges;
        self.bytes += engine.bytes()[Direction::Out as usize];
        self.subscribers += gauges.subscribers;
        for (all, lossy) in self.lossy.iter_mut().zip(gauges.lossy_subscribers) {
            *all += lossy;
        }
        self.feedback += engine.feedback;
        self.unmatched += engine.unmatched_feedback;
        self.handles += gauges.active_handles;
        self.participants.push(gauges.participants);
        self.panics += engine.panics.iter().sum::<u64>();
        self.restarts += restarts;
    }
}

/// Bytes sent for the first time: all, and those of video.
fn sent(engine: &Counters) -> [u64; 2] {
    let first = |kind: TrafficKind| engine.egress.bytes[kind as usize][Transmission::First as usize];
    [first(TrafficKind::Audio) + first(TrafficKind::Video), first(TrafficKind::Video)]
}

impl Household {
    fn now() -> Household {
        let share =
            |told: Option<(u64, u64)>| told.map_or(0.0, |(used, most)| used as f64 / most.max(1) as f64);
        Household {
            memory: share(probes::memory()),
            files: share(probes::files()),
            link: probes::link_speed(),
        }
    }
}

/// How fast a count grows.
#[derive(Default)]
struct Rate {
    last: Option<(Instant, u64)>,
    rate: f64,
}

impl Rate {
    /// Per second, since the last look. The first look begins to count; two at the same moment are one.
    fn of(&mut self, now: Instant, count: u64) -> f64 {
        let (at, before) = *self.last.get_or_insert((now, count));
        let passed = now.saturating_duration_since(at).as_secs_f64();
        if passed > 0.0 {
            self.last = Some((now, count));
            self.rate = count.saturating_sub(before) as f64 / passed;
        }
        self.rate
    }
}

/// Which share of some events is of a kind, over the last seconds.
#[derive(Default)]
struct Shares {
    last: Option<(Instant, u64, u64)>,
    some: f64,
    all: f64,
}

impl Shares {
    /// `0` of so few that they tell nothing.
    fn of(&mut self, now: Instant, some: u64, all: u64) -> f64 {
        let (at, some_before, all_before) = self.last.replace((now, some, all)).unwrap_or((now, some, all));
        let fade = (-now.saturating_duration_since(at).as_secs_f64() / MEMORY.as_secs_f64()).exp();
        self.some = self.some * fade + some.saturating_sub(some_before) as f64;
        self.all = self.all * fade + all.saturating_sub(all_before) as f64;
        if self.all < TELLING { 0.0 } else { self.some / self.all }
    }
}

const MEMORY: Duration = Duration::from_secs(5);
/// Feedback comes every 50 to 100 ms from each subscriber.
const TELLING: f64 = 20.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::WorkerCounters;
    use crate::testing::{at, ms};

    fn of_one() -> (Arc<Shard>, Readings) {
        let shard = Arc::new(Shard::new());
        let readings = Readings::new([(shard.clone(), Arc::default())]);
        (shard, readings)
    }

    #[test]
    fn a_worker_is_as_busy_as_it_says_between_two_beats() {
        let (shard, mut readings) = of_one();
        let mut own = WorkerCounters::default();
        for beat in 0..=10 {
            own.lag(ms(2));
            own.turn(ms(45));
            own.set_cpu(ms(beat * 34));
            shard.worker.publish(&own);
            let look = readings.look(at(beat * 100), None);
            let pressures = look.samples[0].pressures;
            if beat > 0 {
                assert!((pressures.get(Resource::Busy) - 0.5).abs() < 1e-6, "{pressures:?}");
                assert!((pressures.get(Resource::Cpu) - 0.4).abs() < 1e-6, "{pressures:?}");
                assert!((pressures.get(Resource::Lag) - 0.1).abs() < 1e-6, "{pressures:?}");
            }
        }
    }

    #[test]
    fn a_stuck_loop_shows_before_it_ends() {
        let (shard, mut readings) = of_one();
        let mut own = WorkerCounters::default();
        own.lag(ms(1));
        shard.worker.publish(&own);
        readings.look(at(0), None);
        let lag = |readings: &mut Readings, time| readings.look(at(time), None).samples[0].lag;
        assert_eq!(lag(&mut readings, 100), ms(1), "the beat may come right after we looked");
        assert_eq!(lag(&mut readings, 200), ms(100));
        assert_eq!(lag(&mut readings, 500), ms(400));
        own.lag(ms(430));
        shard.worker.publish(&own);
        assert_eq!(lag(&mut readings, 600), ms(430));
        own.lag(ms(2));
        shard.worker.publish(&own);
        assert_eq!(lag(&mut readings, 700), ms(2));
    }

    #[test]
    fn what_leaves_is_held_against_what_may() {
        let (shard, mut readings) = of_one();
        let mut engine = Counters::default();
        readings.look(at(0), Some(Bitrate::mbps(1)));
        engine.egress_run(crate::ids::MediaKind::Video, Transmission::First, 10, 10_625);
        shard.engine.publish(&engine);
        let look = readings.look(at(100), Some(Bitrate::mbps(1)));
        assert!((look.node.get(Resource::Egress) - 1.0).abs() < 1e-6, "85 kbit in a tenth of a second");
    }

    #[test]
    fn little_feedback_tells_nothing() {
        let mut shares = Shares::default();
        assert_eq!(shares.of(at(0), 1_000, 5_000), 0.0, "what was before does not count");
        assert_eq!(shares.of(at(100), 1_010, 5_010), 0.0);
        let half = shares.of(at(200), 1_020, 5_030);
        assert!((0.6..0.7).contains(&half), "{half}");
        assert_eq!(shares.of(at(60_000), 1_020, 5_030), 0.0, "it is forgotten");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_tells() {
        let (used, most) = probes::memory().expect("there is memory");
        assert!(used > 0 && used < most, "{used} of {most}");
        let (open, most) = probes::files().expect("there are descriptors");
        assert!(open > 2 && open < most, "{open} of {most}");
        if probes::run_delay(probes::thread_id()).is_some() {
            assert!(probes::schedule(probes::thread_id()).is_some());
        }
    }
}

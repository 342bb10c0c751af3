//! Asks the kernel, once a second and on a thread of its own, how the process and the machine are doing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{clock, probes};
use crate::counters::{Pressure, nanos};
use crate::metrics::HostReadings;

/// How often. Nothing here changes faster than an operator can look.
const INTERVAL: Duration = Duration::from_secs(1);

/// What is asked about.
pub struct Subjects {
    /// The kernel's numbers of the media sockets.
    pub sockets: Vec<u64>,
    /// The kernel's numbers of the workers' threads; 0 for one that has not begun yet.
    pub threads: Vec<Arc<AtomicU32>>,
}

/// Ends its thread when it is dropped.
pub struct Sampler {
    _alive: mpsc::Sender<()>,
}

impl Sampler {
    /// Takes the first readings, and begins to renew them.
    pub fn start(subjects: Subjects, readings: Arc<Mutex<HostReadings>>) -> std::io::Result<Sampler> {
        let (alive, ended) = mpsc::channel();
        let mut sampling = Sampling::begin(clock::now(), subjects);
        *readings.lock() = sampling.readings.clone();
        let work = move || {
            while ended.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                sampling.renew(clock::now());
                *readings.lock() = sampling.readings.clone();
            }
        };
        std::thread::Builder::new().name("sluice-sampler".to_owned()).spawn(work)?;
        Ok(Sampler { _alive: alive })
    }
}

/// The readings, and what they are counted from.
struct Sampling {
    subjects: Subjects,
    readings: HostReadings,
    /// Process CPU time at the last look.
    cpu: Option<(Instant, Duration)>,
    /// What the machine had counted before we began.
    throttled_before: Option<u64>,
    waiting_before: [Option<u64>; Pressure::ALL.len()],
    /// The latest of each socket: a closed one has no line any more, and what it dropped stays dropped.
    overflows: Vec<u64>,
}

impl Sampling {
    fn begin(now: Instant, subjects: Subjects) -> Sampling {
        // The workers may not have begun yet; what is told of us will be told of them.
        let told = probes::run_delay(probes::thread_id()).map(|_| 0);
        let mut sampling = Sampling {
            readings: HostReadings {
                run_delay: vec![told; subjects.threads.len()],
                ..HostReadings::default()
            },
            cpu: None,
            throttled_before: probes::cpu_throttled().map(nanos),
            waiting_before: Pressure::ALL.map(|resource| probes::waited(resource.as_str()).map(nanos)),
            overflows: vec![0; subjects.sockets.len()],
            subjects,
        };
        sampling.renew(now);
        sampling
    }

    fn renew(&mut self, now: Instant) {
        let readings = &mut self.readings;
        readings.cpu_limit = probes::cpu_limit();
        if let Some(used) = probes::process_cpu() {
            let before = self.cpu.replace((now, used));
            readings.cpu_percent = Some(match (before, readings.cpu_limit) {
                (Some((at, before)), Some(limit)) => percent(used - before, now - at, limit),
                _ => 0.0,
            });
        }
        readings.throttled =
            since(probes::cpu_throttled().map(nanos), self.throttled_before, readings.throttled);
        for (at, resource) in Pressure::ALL.into_iter().enumerate() {
            let waited = probes::waited(resource.as_str()).map(nanos);
            readings.waiting[at] = since(waited, self.waiting_before[at], readings.waiting[at]);
        }
        if let Some(drops) = probes::socket_drops(&self.subjects.sockets) {
            for (overflows, drops) in self.overflows.iter_mut().zip(drops) {
                *overflows = drops.unwrap_or(0).max(*overflows);
            }
            readings.rx_overflows = Some(self.overflows.iter().sum());
        }
        for (delay, thread) in readings.run_delay.iter_mut().zip(&self.subjects.threads) {
            let waited = Some(thread.load(Relaxed)).filter(|thread| *thread > 0).and_then(probes::run_delay);
            *delay = waited.map(nanos).max(*delay);
        }
    }
}

/// A count since we began, that never falls: a machine may take its numbers back, or cease to tell.
fn since(told: Option<u64>, before: Option<u64>, last: Option<u64>) -> Option<u64> {
    let since = told.zip(before).map(|(told, before)| told.saturating_sub(before));
    since.max(last)
}

fn percent(used: Duration, passed: Duration, limit: f64) -> f64 {
    let available = passed.as_secs_f64() * limit;
    if available > 0.0 { (100.0 * used.as_secs_f64() / available).clamp(0.0, 100.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_begin_at_zero_and_never_fall() {
        assert_eq!(since(Some(700), Some(700), None), Some(0));
        assert_eq!(since(Some(750), Some(700), Some(0)), Some(50));
        assert_eq!(since(Some(10), Some(700), Some(50)), Some(50), "the machine took it back");
        assert_eq!(since(None, Some(700), Some(50)), Some(50), "the machine fell silent");
        assert_eq!(since(None, None, None), None, "it never told");
    }

    #[test]
    fn a_share_is_of_what_there_is() {
        let ms = Duration::from_millis;
        assert_eq!(percent(ms(500), ms(1_000), 2.0), 25.0);
        assert_eq!(percent(ms(3_000), ms(1_000), 2.0), 100.0, "clocks tick unevenly");
        assert_eq!(percent(ms(3), ms(0), 2.0), 0.0);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_tells_what_this_process_does() {
        let thread = Arc::new(AtomicU32::new(probes::thread_id()));
        let subjects = Subjects { sockets: vec![], threads: vec![thread, Arc::default()] };
        let begun = clock::now();
        let mut sampling = Sampling::begin(begun, subjects);
        assert_eq!(sampling.readings.cpu_percent, Some(0.0));
        assert!(sampling.readings.cpu_limit.is_some_and(|limit| limit > 0.0));
        assert_eq!(sampling.readings.rx_overflows, Some(0));
        if probes::run_delay(probes::thread_id()).is_some() {
            assert!(sampling.readings.run_delay[0].is_some());
            assert_eq!(sampling.readings.run_delay[1], Some(0), "it has not begun");
        }
        let mut busy = 0_u64;
        while clock::now() < begun + Duration::from_millis(50) {
            busy = busy.wrapping_mul(31).wrapping_add(7);
        }
        std::hint::black_box(busy);
        sampling.renew(clock::now());
        assert!(sampling.readings.cpu_percent > Some(1.0), "{:?}", sampling.readings.cpu_percent);
    }
}

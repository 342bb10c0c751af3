//! Reads the shards when a scrape comes, and writes what the catalogue lists.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode_registry;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::catalogue::{Buckets, CATALOGUE, Family, Occurs, Read, Values};
use super::shard::{Shard, WorkerCounters};
use crate::counters::{Counters, Queue};

/// The metrics of one `Sfu`, to mount on the host's registry or to serve as they are.
///
/// A cheap handle. METRICS.md lists what it exports; every counter is there from the first scrape,
/// at 0, and never goes backwards while the handle lives, worker restarts included.
///
/// Mount one `Sfu` per registry: `prometheus-client` does not notice when a second one writes the
/// same families again.
#[derive(Clone)]
pub struct Metrics {
    fleet: Arc<Mutex<Fleet>>,
    per_worker: bool,
}

impl Metrics {
    /// A ready registry that holds these metrics and nothing else.
    pub fn registry(&self) -> Registry {
        let mut registry = Registry::default();
        self.register(&mut registry);
        registry
    }

    /// Mounts these metrics on the host's registry, under the prefix `sfu`.
    pub fn register(&self, registry: &mut Registry) {
        registry.sub_registry_with_prefix("sfu").register_collector(Box::new(self.clone()));
    }

    /// Whether the `worker_*` families, which have a series per worker, are exported. They are,
    /// unless told otherwise.
    ///
    /// Without them nothing is summed in their place: a sum of busy ratios means nothing.
    #[must_use]
    pub fn per_worker(mut self, on: bool) -> Metrics {
        self.per_worker = on;
        self
    }

    /// Writes OpenMetrics text without the closing `# EOF`, for hosts whose own metrics come from
    /// another crate or another version of `prometheus-client`: concatenate, then close.
    ///
    /// # Errors
    ///
    /// Only when the writer fails.
    pub fn encode_text(&self, writer: &mut impl fmt::Write) -> fmt::Result {
        encode_registry(writer, &self.registry())
    }

    /// The worker's index is its place in `shards`.
    #[allow(dead_code, reason = "the shell starts the workers")]
    pub(crate) fn new(shards: Vec<Arc<Shard>>) -> Metrics {
        let slot = |live| Slot { live, retired: Shard::new() };
        let fleet = Fleet { slots: shards.into_iter().map(slot).collect(), restarts: 0 };
        Metrics { fleet: Arc::new(Mutex::new(fleet)), per_worker: true }
    }

    /// A worker restarted and counts from 0 into a fresh shard; what it had counted is kept. Call
    /// it when the old thread has ended: what that thread still published would be lost.
    #[allow(dead_code, reason = "the shell restarts the workers")]
    pub(crate) fn replace_shard(&self, worker: usize, fresh: Arc<Shard>) {
        let mut fleet = self.fleet.lock();
        if let Some(slot) = fleet.slots.get_mut(worker) {
            slot.retired.absorb(&slot.live);
            slot.live = fresh;
            fleet.restarts += 1;
        }
    }

    /// The engines' counters, summed over the workers.
    #[allow(dead_code, reason = "the shell's snapshot and the tests ask")]
    pub(crate) fn totals(&self) -> Counters {
        self.fleet.lock().scrape().engine
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        // Read under the lock, written without it: a slow writer must not hold up a restart.
        let scrape = self.fleet.lock().scrape();
        for family in CATALOGUE {
            if self.per_worker || !family.is_per_worker() {
                encode_family(family, &scrape, &mut encoder)?;
            }
        }
        Ok(())
    }
}

/// The workers' shards. The lock around it is taken by scrapes and restarts, never by a worker.
struct Fleet {
    slots: Vec<Slot>,
    restarts: u64,
}

/// A worker's place, which outlives the worker's thread.
struct Slot {
    live: Arc<Shard>,
    /// The counts of the threads that held the place before.
    retired: Shard,
}

/// All values of one scrape.
pub struct Scrape {
    /// Summed over the workers.
    pub engine: Counters,
    /// Summed over the workers.
    pub worker: WorkerCounters,
    /// Each worker's own.
    pub workers: Vec<WorkerCounters>,
    /// The deepest over the workers.
    pub queue_depth: [u64; Queue::ALL.len()],
    /// Workers replaced.
    pub restarts: u64,
}

impl Fleet {
    fn scrape(&self) -> Scrape {
        let mut scrape = Scrape {
            engine: Counters::default(),
            worker: WorkerCounters::default(),
            workers: Vec::with_capacity(self.slots.len()),
            queue_depth: [0; Queue::ALL.len()],
            restarts: self.restarts,
        };
        for slot in &self.slots {
            slot.add_to(&mut scrape);
        }
        scrape
    }
}

impl Slot {
    fn add_to(&self, scrape: &mut Scrape) {
        let mut holds = Counters::default();
        self.live.add_to(&mut holds);
        let deepest = &mut scrape.queue_depth[Queue::Egress as usize];
        *deepest = holds.gauges.queued.iter().sum::<u64>().max(*deepest);

        let mut own = WorkerCounters::default();
        for shard in [&self.retired, &*self.live] {
            shard.add_to(&mut scrape.engine);
            shard.add_worker_to(&mut scrape.worker);
            shard.add_worker_to(&mut own);
        }
        scrape.workers.push(own);
    }
}

fn encode_family(family: &Family, scrape: &Scrape, encoder: &mut DescriptorEncoder) -> fmt::Result {
    let unit = family.unit.map(|unit| Unit::Other(unit.to_owned()));
    let kind = match family.read {
        Read::Counter(_) | Read::SecondsCounter(_) => MetricType::Counter,
        Read::Gauge(_) | Read::SecondsGauge(_) => MetricType::Gauge,
        Read::Histogram(..) => MetricType::Histogram,
        Read::Info(_) => MetricType::Info,
    };
    let mut metric = encoder.encode_descriptor(family.stem(), family.help, unit.as_ref(), kind)?;
    if let Read::Info(facts) = family.read {
        return metric.encode_info(&facts());
    }
    for at in combinations(family, scrape.workers.len()) {
        if !family.occurs(&at) && !is_unexpected(family, scrape, &at) {
            continue;
        }
        let labels = labels_at(family, &at);
        if labels.is_empty() {
            // An empty family would print `{}`.
            encode_sample(family, scrape, &at, &mut metric)?;
        } else {
            encode_sample(family, scrape, &at, &mut metric.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn encode_sample(family: &Family, scrape: &Scrape, at: &[usize], metric: &mut MetricEncoder) -> fmt::Result {
    match family.read {
        Read::Counter(read) => metric.encode_counter::<NoLabelSet, u64, f64>(&read(scrape, at), None),
        Read::SecondsCounter(read) => {
            metric.encode_counter::<NoLabelSet, f64, f64>(&seconds(read(scrape, at)), None)
        }
        Read::Gauge(read) => metric.encode_gauge(&read(scrape, at)),
        Read::SecondsGauge(read) => metric.encode_gauge(&seconds(read(scrape, at))),
        Read::Histogram(bounds, read) => encode_buckets(bounds, &read(scrape, at), metric),
        Read::Info(_) => Ok(()),
    }
}

fn encode_buckets(bounds: &[u64], buckets: &Buckets, metric: &mut MetricEncoder) -> fmt::Result {
    let bounds = bounds.iter().map(|bound| seconds(*bound));
    let bounds = bounds.chain([f64::INFINITY]);
    let pairs: Vec<_> = bounds.zip(buckets.counts.iter().copied()).collect();
    let count = buckets.counts.iter().sum();
    metric.encode_histogram::<NoLabelSet>(seconds(buckets.sum), count, &pairs, None)
}

/// A count where none was thought possible: shown late rather than never.
fn is_unexpected(family: &Family, scrape: &Scrape, at: &[usize]) -> bool {
    match (&family.occurs, &family.read) {
        (Occurs::Expected(_), Read::Counter(read)) => read(scrape, at) > 0,
        _ => false,
    }
}

/// Every combination of indices into the label values, the last label fastest.
fn combinations(family: &Family, workers: usize) -> Vec<Vec<usize>> {
    family.labels.iter().fold(vec![vec![]], |done, label| {
        let values = match label.values {
            Values::Closed(len, _) => len,
            Values::Worker => workers,
            Values::Build => 1,
        };
        let longer = |at: Vec<usize>| (0..values).map(move |v| [at.as_slice(), &[v]].concat());
        done.into_iter().flat_map(longer).collect()
    })
}

fn labels_at(family: &Family, at: &[usize]) -> Vec<(&'static str, Cow<'static, str>)> {
    let pairs = family.labels.iter().zip(at);
    pairs
        .map(|(label, at)| match label.values {
            Values::Closed(_, text) => (label.name, text(*at).unwrap_or("unknown").into()),
            Values::Worker | Values::Build => (label.name, at.to_string().into()),
        })
        .collect()
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

//! What a host mounts: reads the shards when a scrape comes, and writes what the catalogue lists.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::text::encode_registry;
use prometheus_client::registry::Registry;

use super::beside::Beside;
use super::catalogue::{CATALOGUE, Family};
use super::exposition::encode_family;
use super::host::HostReadings;
use super::saturation::SaturationReadings;
use super::scrape::Scrape;
use super::shard::Shard;
use super::snapshot::{MetricFamily, MetricsSnapshot};

/// The media type of OpenMetrics text, for hosts that answer scrapes themselves.
pub const OPENMETRICS_TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The metrics of one `Sfu`, to mount on the host's registry or to serve as they are.
///
/// A cheap handle. METRICS.md lists what it exports; every counter is there from the first scrape,
/// at 0, and never goes backwards while the handle lives, worker restarts included. A scrape reads what
/// the workers have published, at most 100 ms ago, and never touches their threads: it answers as well
/// after [`Sfu::shutdown`](crate::Sfu::shutdown), or after the death of a worker.
///
/// A host with a registry of its own mounts them there:
///
/// ```no_run
/// use sluicegate::prometheus_client::encoding::text::encode;
/// use sluicegate::prometheus_client::registry::Registry;
///
/// # fn host(sfu: &sluicegate::Sfu) -> Result<(), std::fmt::Error> {
/// let mut registry = Registry::default();
/// sfu.metrics().register(&mut registry);
/// // For each scrape; its content type is sluicegate::OPENMETRICS_TEXT.
/// let mut text = String::new();
/// encode(&mut text, &registry)?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Metrics {
    workers: Arc<[Arc<Shard>]>,
    host: Arc<Mutex<HostReadings>>,
    saturation: Arc<Mutex<SaturationReadings>>,
    per_worker: bool,
    beside: Beside,
}

impl Metrics {
    /// A ready registry that holds these metrics and nothing else.
    ///
    /// ```no_run
    /// use sluicegate::prometheus_client::encoding::text::encode;
    ///
    /// # fn host(sfu: &sluicegate::Sfu) -> Result<String, std::fmt::Error> {
    /// let registry = sfu.metrics().registry();
    /// let mut text = String::new();
    /// encode(&mut text, &registry)?;
    /// # Ok(text) }
    /// ```
    pub fn registry(&self) -> Registry {
        let mut registry = Registry::default();
        self.register(&mut registry);
        registry
    }

    /// Mounts these metrics on the host's registry, under the prefix `sfu`.
    ///
    /// One `Sfu` per registry: `prometheus-client` does not notice when a second one writes the same families
    /// again. For several there is [`register_many`](Self::register_many).
    pub fn register(&self, registry: &mut Registry) {
        mount(Mounted::One(self.clone()), registry);
        registry.register_collector(Box::new(self.beside.clone()));
    }

    /// Mounts the metrics of several `Sfu`s on one registry. Each sample carries the label `engine`: the place of
    /// its `Sfu` in the list, from 0. What stands beside them is the process' own: it comes once and without the label, from the
    /// first that has it.
    ///
    /// ```no_run
    /// # use sluicegate::{Metrics, Sfu, prometheus_client::registry::Registry};
    /// # fn host(indoors: &Sfu, outdoors: &Sfu, registry: &mut Registry) {
    /// Metrics::register_many([indoors.metrics(), outdoors.metrics()], registry);
    /// # }
    /// ```
    pub fn register_many(engines: impl IntoIterator<Item = Metrics>, registry: &mut Registry) {
        let engines: Vec<Metrics> = engines.into_iter().collect();
        let beside = engines.iter().map(|metrics| metrics.beside.clone()).fold(Beside::default(), Beside::or);
        mount(Mounted::Many(engines), registry);
        registry.register_collector(Box::new(beside));
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

    /// Puts a host's own signalling and HTTP metrics beside these, wherever they are mounted. METRICS.md lists them.
    #[cfg(any(test, feature = "signaling-metrics"))]
    #[cfg_attr(docsrs, doc(cfg(feature = "signaling-metrics")))]
    #[must_use]
    pub fn with_signaling(mut self, signaling: super::signaling::SignalingMetrics) -> Metrics {
        self.beside.signaling = Some(signaling);
        self
    }

    /// Puts `process_*` beside these: CPU time, memory, file descriptors, threads, start. For hosts that have them from nowhere
    /// else. Read from the kernel at each scrape; on systems other than Linux there are none.
    #[cfg(any(test, feature = "signaling-metrics"))]
    #[cfg_attr(docsrs, doc(cfg(feature = "signaling-metrics")))]
    #[must_use]
    pub fn with_process(mut self) -> Metrics {
        self.beside.process = true;
        self
    }

    /// Writes OpenMetrics text without the closing `# EOF`, for hosts whose own metrics come from
    /// another crate or another version of `prometheus-client`: concatenate, then close.
    ///
    /// ```no_run
    /// # fn host(sfu: &sluicegate::Sfu, mut text: String) -> Result<String, std::fmt::Error> {
    /// // `text` holds what the host's own exporter wrote.
    /// sfu.metrics().encode_text(&mut text)?;
    /// text.push_str("# EOF\n");
    /// # Ok(text) }
    /// ```
    ///
    /// # Errors
    ///
    /// Only when the writer fails.
    pub fn encode_text(&self, writer: &mut impl fmt::Write) -> fmt::Result {
        encode_registry(writer, &self.registry())
    }

    /// Every value now, as plain data: for hosts that use neither a registry nor Prometheus.
    pub fn snapshot(&self) -> MetricsSnapshot {
        let (host, saturation) = (self.host.lock().clone(), self.saturation.lock().clone());
        let scrape = Scrape::of(&self.workers, host, saturation);
        let families = CATALOGUE.iter().filter(|family| self.per_worker || !family.is_per_worker());
        let families = families.map(|family| read_family(family, &scrape));
        // One without a sample: this machine does not tell.
        let told = families.filter(|family| !family.samples.is_empty());
        MetricsSnapshot { families: told.chain(self.beside.families()).collect() }
    }

    /// The worker's index is its place in `shards`. `host` is filled by the sampler.
    pub(crate) fn new(shards: Vec<Arc<Shard>>, host: Arc<Mutex<HostReadings>>) -> Metrics {
        let (saturation, beside) = Default::default();
        Metrics { workers: shards.into(), host, saturation, per_worker: true, beside }
    }

    /// `saturation` is filled by the controller.
    pub(crate) fn with_saturation(mut self, saturation: Arc<Mutex<SaturationReadings>>) -> Metrics {
        self.saturation = saturation;
        self
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

fn read_family(family: &Family, scrape: &Scrape) -> MetricFamily {
    MetricFamily {
        name: format!("sfu_{}", family.name).into(),
        kind: family.kind(),
        unit: family.unit.map(Cow::Borrowed),
        help: family.help.into(),
        samples: family.samples(scrape),
    }
}

/// What stands in a registry.
#[derive(Debug)]
enum Mounted {
    One(Metrics),
    Many(Vec<Metrics>),
}

fn mount(mounted: Mounted, registry: &mut Registry) {
    registry.sub_registry_with_prefix("sfu").register_collector(Box::new(mounted));
}

impl Collector for Mounted {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let snapshots: Vec<MetricsSnapshot> = match self {
            Mounted::One(metrics) => vec![metrics.snapshot()],
            Mounted::Many(engines) => {
                engines.iter().map(Metrics::snapshot).zip(0..).map(with_engine).collect()
            }
        };
        for family in CATALOGUE {
            let name = format!("sfu_{}", family.name);
            let found: Vec<_> = snapshots.iter().filter_map(|snapshot| snapshot.family(&name)).collect();
            if !found.is_empty() {
                encode_family("sfu_", &found, &mut encoder)?;
            }
        }
        Ok(())
    }
}

/// Labels every sample with the engine it is of.
fn with_engine((mut snapshot, engine): (MetricsSnapshot, usize)) -> MetricsSnapshot {
    for sample in snapshot.families.iter_mut().flat_map(|family| &mut family.samples) {
        sample.labels.insert(0, ("engine".into(), engine.to_string().into()));
    }
    snapshot
}

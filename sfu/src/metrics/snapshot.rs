//! Every value at one moment, as plain data.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// Every metric at one moment: what a scrape would show, for hosts whose metrics go elsewhere (StatsD, OTLP, a status
/// page).
///
/// ```no_run
/// # fn host(sfu: &sluicegate::Sfu) {
/// let snapshot = sfu.metrics().snapshot();
/// let asked_for = snapshot.sum("sfu_nacked_packets_total", &[("direction", "in")]);
/// let sent = snapshot.sum("sfu_egress_packets_total", &[("transmission", "first")]);
/// println!("{:.2} % of what was sent is asked for again", 100.0 * asked_for / sent);
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MetricsSnapshot {
    /// In the order of METRICS.md.
    pub families: Vec<MetricFamily>,
}

/// All samples of one name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MetricFamily {
    /// As a query names it.
    pub name: Cow<'static, str>,
    /// Its type.
    pub kind: MetricKind,
    /// The unit that the name carries.
    pub unit: Option<Cow<'static, str>>,
    /// One sentence.
    pub help: Cow<'static, str>,
    /// One for each combination of label values.
    pub samples: Vec<MetricSample>,
}

/// The type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum MetricKind {
    /// It only grows while the SFU runs.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Counts of values by size.
    Histogram,
    /// Facts, in labels; the value is 1.
    Info,
}

/// One value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MetricSample {
    /// Names and values of its labels.
    pub labels: Vec<(Cow<'static, str>, Cow<'static, str>)>,
    /// What it is.
    pub value: MetricValue,
}

/// What a sample says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum MetricValue {
    /// A whole number.
    Count(u64),
    /// Seconds, a share, a percentage.
    Number(f64),
    /// A histogram.
    Histogram {
        /// Upper bounds, in the unit of the name.
        bounds: Vec<f64>,
        /// Values at most each bound and above the one before; the last one counts those above all bounds.
        counts: Vec<u64>,
        /// Of all values.
        sum: f64,
    },
}

impl MetricsSnapshot {
    /// The family of this name, with the prefix `sfu_`.
    pub fn family(&self, name: &str) -> Option<&MetricFamily> {
        self.families.iter().find(|family| family.name == name)
    }

    /// The sum over the samples of a counter or gauge that carry these labels; 0 if there are none. Of a histogram:
    /// how many values it has counted.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let samples = self.family(name).into_iter().flat_map(|family| &family.samples);
        samples.filter(|sample| sample.carries(labels)).map(|sample| sample.value.as_f64()).sum()
    }
}

impl MetricSample {
    fn carries(&self, labels: &[(&str, &str)]) -> bool {
        labels.iter().all(|(name, value)| self.labels.iter().any(|(n, v)| n == name && v == value))
    }
}

impl MetricValue {
    fn as_f64(&self) -> f64 {
        match self {
            MetricValue::Count(count) => *count as f64,
            MetricValue::Number(number) => *number,
            MetricValue::Histogram { counts, .. } => counts.iter().sum::<u64>() as f64,
        }
    }
}

//! Families of samples, written by `prometheus-client`'s encoder.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::snapshot::{MetricFamily, MetricKind, MetricSample, MetricValue};

/// Writes one family: its header once, and the samples of all that were `found` under its name. `prefix` is what the
/// registry puts before the name by itself.
pub fn encode_family(
    prefix: &str,
    found: &[&MetricFamily],
    encoder: &mut DescriptorEncoder<'_>,
) -> fmt::Result {
    let Some(family) = found.first() else { return Ok(()) };
    let unit = family.unit.as_deref().map(|unit| Unit::Other(unit.to_owned()));
    let kind = match family.kind {
        MetricKind::Counter => MetricType::Counter,
        MetricKind::Gauge => MetricType::Gauge,
        MetricKind::Histogram => MetricType::Histogram,
        MetricKind::Info => MetricType::Info,
    };
    let stem = stem(family);
    let stem = stem.strip_prefix(prefix).unwrap_or(stem);
    let mut metric = encoder.encode_descriptor(stem, &family.help, unit.as_ref(), kind)?;
    for sample in found.iter().flat_map(|family| &family.samples) {
        if matches!(kind, MetricType::Info) {
            metric.encode_info(&sample.labels)?;
        } else if sample.labels.is_empty() {
            // An empty family would print `{}`.
            encode_sample(sample, kind, &mut metric)?;
        } else {
            encode_sample(sample, kind, &mut metric.encode_family(&sample.labels)?)?;
        }
    }
    Ok(())
}

/// The name without what `prometheus-client` appends: unit, then `_total` or `_info`.
fn stem(family: &MetricFamily) -> &str {
    let suffix = match family.kind {
        MetricKind::Counter => "_total",
        MetricKind::Info => "_info",
        MetricKind::Gauge | MetricKind::Histogram => "",
    };
    let name = family.name.strip_suffix(suffix).unwrap_or(&family.name);
    let unit = family.unit.as_deref().and_then(|unit| name.strip_suffix(unit));
    unit.and_then(|name| name.strip_suffix('_')).unwrap_or(name)
}

fn encode_sample(sample: &MetricSample, kind: MetricType, metric: &mut MetricEncoder<'_>) -> fmt::Result {
    match (&sample.value, kind) {
        (MetricValue::Count(count), MetricType::Counter) => {
            metric.encode_counter::<NoLabelSet, u64, f64>(count, None)
        }
        (MetricValue::Number(number), MetricType::Counter) => {
            metric.encode_counter::<NoLabelSet, f64, f64>(number, None)
        }
        (MetricValue::Count(count), _) => metric.encode_gauge(count),
        (MetricValue::Number(number), _) => metric.encode_gauge(number),
        (MetricValue::Histogram { bounds, counts, sum }, _) => {
            let bounds = bounds.iter().copied().chain([f64::INFINITY]);
            let pairs: Vec<_> = bounds.zip(counts.iter().copied()).collect();
            metric.encode_histogram::<NoLabelSet>(*sum, counts.iter().sum(), &pairs, None)
        }
    }
}

//! A scrape, read as a lint reads it: which names there are, of which type, with which labels and values.

use std::collections::{BTreeMap, BTreeSet};

/// What a sample's name promises.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Type {
    /// It only grows, as the buckets, sums and counts of a histogram do.
    Counter,
    Gauge,
}

/// One name that a query may use.
#[derive(Clone, Debug)]
pub struct Metric {
    pub kind: Type,
    pub labels: BTreeMap<String, BTreeSet<String>>,
}

/// By the name that a query uses: `…_bucket`, not the histogram's.
pub type Metrics = BTreeMap<String, Metric>;

/// Reads OpenMetrics text.
pub fn metrics(text: &str) -> Metrics {
    let mut types = BTreeMap::new();
    let mut metrics = Metrics::new();
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' ')) {
            types.insert(name, kind);
        } else if !line.starts_with('#') {
            let (name, labels, _) = sample(line);
            let kind = type_of(&types, name).unwrap_or_else(|| panic!("no type of {name}"));
            let metric = metrics.entry(name.to_owned()).or_insert(Metric { kind, labels: BTreeMap::new() });
            for (label, value) in labels {
                metric.labels.entry(label).or_default().insert(value);
            }
        }
    }
    metrics
}

/// Name, labels and value of a line.
pub fn sample(line: &str) -> (&str, Vec<(String, String)>, f64) {
    let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
    let value = value.parse().unwrap_or_else(|error| panic!("{error}: {line}"));
    let Some((name, labels)) = series.split_once('{') else { return (series, vec![], value) };
    let labels = labels.strip_suffix('}').unwrap_or_else(|| panic!("no end of labels: {line}"));
    // None of our values holds a quote or a comma: the exposition's own lint sees to that.
    let pairs = labels.split(',').map(|pair| {
        let (label, value) = pair.split_once('=').unwrap_or_else(|| panic!("no label: {line}"));
        let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
        (label.to_owned(), value.unwrap_or_else(|| panic!("no quotes: {line}")).to_owned())
    });
    (name, pairs.collect(), value)
}

/// By OpenMetrics' rules on suffixes.
fn type_of(types: &BTreeMap<&str, &str>, name: &str) -> Option<Type> {
    for (suffix, of, kind) in [
        ("_total", "counter", Type::Counter),
        ("_bucket", "histogram", Type::Counter),
        ("_count", "histogram", Type::Counter),
        ("_sum", "histogram", Type::Counter),
        ("_info", "info", Type::Gauge),
        ("", "gauge", Type::Gauge),
    ] {
        let family = name.strip_suffix(suffix);
        if family.and_then(|family| types.get(family)) == Some(&of) {
            return Some(kind);
        }
    }
    None
}

#[test]
fn names_types_and_labels_are_read() {
    let text = "# TYPE a counter\na_total{way=\"in\"} 1\na_total{way=\"out\"} 2\n# TYPE b histogram\n\
                b_bucket{le=\"1.0\"} 0\nb_count 0\n# TYPE c gauge\nc 7\n# TYPE d info\nd_info{version=\"1\"} 1\n# EOF\n";
    let metrics = metrics(text);
    let kinds: Vec<(&str, Type)> =
        metrics.iter().map(|(name, metric)| (name.as_str(), metric.kind)).collect();
    let expected = [
        ("a_total", Type::Counter),
        ("b_bucket", Type::Counter),
        ("b_count", Type::Counter),
        ("c", Type::Gauge),
        ("d_info", Type::Gauge),
    ];
    assert_eq!(kinds, expected);
    assert_eq!(metrics["a_total"].labels["way"], BTreeSet::from(["in".to_owned(), "out".to_owned()]));
    assert!(metrics["b_bucket"].labels["le"].contains("1.0"));
}

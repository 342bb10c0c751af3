//! Names, types, labels and help of what signalling exports.

use std::borrow::Cow;

use super::labels::{AuthFailure, IceStatus, MessageType, Op, Outcome, Way, is_usual};
use super::{Active, Counts, HTTP_DURATION, ICE_NEGOTIATION, Shared};
use crate::counters::Label;
use crate::metrics::catalogue::{Buckets, units};
use crate::metrics::snapshot::{MetricFamily, MetricKind, MetricSample, MetricValue};

/// One metric family.
struct Family {
    /// As a query names it.
    name: &'static str,
    unit: Option<&'static str>,
    /// Its labels, in exposition order, with what METRICS.md says of their values.
    labels: &'static [(&'static str, Values)],
    read: Read,
    help: &'static str,
}

#[cfg_attr(not(test), allow(dead_code, reason = "a test writes METRICS.md"))]
enum Values {
    /// A closed enum.
    Closed(fn() -> Vec<&'static str>),
    /// Fixed by the host at start.
    Given(&'static str),
}

/// Values of the labels in their order.
type Labels = Vec<Cow<'static, str>>;

enum Read {
    Counter(fn(&Shared, &Counts) -> Vec<(Labels, u64)>),
    Gauge(fn(&Shared, &Counts) -> Vec<(Labels, u64)>),
    /// Values under these bounds, in nanoseconds.
    Histogram(&'static [u64], fn(&Shared, &Counts) -> Vec<(Labels, Buckets)>),
}

/// Every family, with its samples.
pub fn families(shared: &Shared, counts: &Counts) -> Vec<MetricFamily> {
    FAMILIES.iter().map(|family| family.filled(shared, counts)).collect()
}

impl Family {
    fn kind(&self) -> MetricKind {
        match self.read {
            Read::Counter(_) => MetricKind::Counter,
            Read::Gauge(_) => MetricKind::Gauge,
            Read::Histogram(..) => MetricKind::Histogram,
        }
    }

    fn filled(&self, shared: &Shared, counts: &Counts) -> MetricFamily {
        let samples = match self.read {
            Read::Counter(read) | Read::Gauge(read) => {
                let rows = read(shared, counts).into_iter();
                rows.map(|(labels, count)| self.sample(labels, MetricValue::Count(count))).collect()
            }
            Read::Histogram(bounds, read) => {
                let rows = read(shared, counts).into_iter();
                rows.map(|(labels, buckets)| self.sample(labels, histogram(bounds, buckets))).collect()
            }
        };
        MetricFamily {
            name: self.name.into(),
            kind: self.kind(),
            unit: self.unit.map(Cow::Borrowed),
            help: self.help.into(),
            samples,
        }
    }

    fn sample(&self, values: Labels, value: MetricValue) -> MetricSample {
        let names = self.labels.iter().map(|(name, _)| Cow::Borrowed(*name));
        MetricSample { labels: names.zip(values).collect(), value }
    }
}

const fn closed<T: Label>(name: &'static str) -> (&'static str, Values) {
    (name, Values::Closed(|| T::VALUES.iter().map(|value| value.text()).collect()))
}

const REGION: (&str, Values) = ("region", Values::Given("where the host runs"));
const METHOD: (&str, Values) = closed::<super::Method>("method");
const ENDPOINT: (&str, Values) = ("endpoint", Values::Given("the host's names of its routes"));

const FAMILIES: &[Family] = &[
    Family {
        name: "signaling_websockets_active",
        unit: None,
        labels: &[REGION],
        read: Read::Gauge(|shared, counts| active(shared, counts, Active::Websockets)),
        help: "WebSockets that are open.",
    },
    Family {
        name: "signaling_rooms_active",
        unit: None,
        labels: &[REGION],
        read: Read::Gauge(|shared, counts| active(shared, counts, Active::Rooms)),
        help: "Rooms that somebody is in.",
    },
    Family {
        name: "signaling_messages_total",
        unit: None,
        labels: &[closed::<MessageType>("msg_type"), closed::<Way>("direction")],
        read: Read::Counter(|_, counts| messages(counts)),
        help: "Signalling messages, by WebSocket or HTTP; in is from clients.",
    },
    Family {
        name: "signaling_requests_total",
        unit: None,
        labels: &[closed::<Op>("op"), closed::<Outcome>("outcome")],
        read: Read::Counter(|_, counts| {
            let all = Op::ALL.into_iter().flat_map(|op| Outcome::ALL.map(|outcome| (op, outcome)));
            let count = |(op, outcome): (Op, Outcome)| {
                row([op.text(), outcome.text()], counts.requests[op as usize][outcome as usize])
            };
            all.map(count).collect()
        }),
        help: "What clients asked of the signalling, by what became of it; an error is the host's, a refusal is an answer.",
    },
    Family {
        name: "signaling_auth_failures_total",
        unit: None,
        labels: &[closed::<AuthFailure>("reason")],
        read: Read::Counter(|_, counts| {
            AuthFailure::ALL.map(|why| row([why.text()], counts.auth_failures[why as usize])).into()
        }),
        help: "Requests that were not let in for want of permission.",
    },
    Family {
        name: "signaling_ice_negotiation_seconds",
        unit: Some("seconds"),
        labels: &[closed::<IceStatus>("status")],
        read: Read::Histogram(&ICE_NEGOTIATION, |_, counts| {
            let told = |status: IceStatus| {
                (vec![status.text().into()], Buckets::from(&counts.negotiations[status as usize]))
            };
            IceStatus::ALL.map(told).into()
        }),
        help: "Time from an answer to the client's first authenticated connectivity check, or until it was given up.",
    },
    Family {
        name: "http_requests_total",
        unit: None,
        labels: &[METHOD, ENDPOINT, ("code", Values::Given("status codes"))],
        read: Read::Counter(|shared, counts| {
            let doors = shared.endpoints.labels().iter().zip(&counts.http);
            let rows = doors.flat_map(|((endpoint, method), answers)| {
                answers.codes.iter().map(move |(code, count)| {
                    let code = if *code == 0 { "other".into() } else { code.to_string().into() };
                    (vec![method.text().into(), (*endpoint).into(), code], *count)
                })
            });
            rows.collect()
        }),
        help: "HTTP requests answered.",
    },
    Family {
        name: "http_request_duration_seconds",
        unit: Some("seconds"),
        labels: &[METHOD, ENDPOINT],
        read: Read::Histogram(&HTTP_DURATION, |shared, counts| {
            let doors = shared.endpoints.labels().iter().zip(&counts.http);
            let row = |((endpoint, method), answers): (&(&'static str, super::Method), &super::Answers)| {
                (vec![method.text().into(), (*endpoint).into()], Buckets::from(&answers.took))
            };
            doors.map(row).collect()
        }),
        help: "Time until an HTTP request was answered; of an upgrade, until it was done.",
    },
];

fn active(shared: &Shared, counts: &Counts, what: Active) -> Vec<(Labels, u64)> {
    let region = shared.region.as_str().to_owned();
    vec![(vec![region.into()], counts.active[what as usize])]
}

fn messages(counts: &Counts) -> Vec<(Labels, u64)> {
    let all = MessageType::ALL.into_iter().flat_map(|kind| Way::ALL.map(|way| (kind, way)));
    let rows = all.filter_map(|(kind, way)| {
        let count = counts.messages[way as usize][kind as usize];
        (count > 0 || is_usual(kind, way)).then(|| row([kind.text(), way.text()], count))
    });
    rows.collect()
}

fn row<const N: usize>(labels: [&'static str; N], count: u64) -> (Labels, u64) {
    (labels.map(Cow::Borrowed).into(), count)
}

fn histogram(bounds: &[u64], Buckets { counts, sum }: Buckets) -> MetricValue {
    MetricValue::Histogram {
        bounds: bounds.iter().map(|bound| units(*bound)).collect(),
        counts,
        sum: units(sum),
    }
}

/// What METRICS.md says of them: rows of its table, and the lines on buckets.
#[cfg(test)]
pub fn document() -> (String, String) {
    use std::fmt::Write as _;
    let (mut table, mut buckets) = (String::new(), String::new());
    for family in FAMILIES {
        let labels = family.labels.iter().map(|(name, values)| match values {
            Values::Closed(values) => {
                let values: Vec<String> = values().iter().map(|value| format!("`{value}`")).collect();
                format!("{name}: {}", values.join(" "))
            }
            Values::Given(what) => format!("{name}: {what}"),
        });
        let labels: Vec<String> = labels.collect();
        let (name, labels, help) = (family.name, labels.join("<br>"), family.help);
        let kind = match family.kind() {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
            MetricKind::Info => "info",
        };
        writeln!(table, "| `{name}` | {kind} | {labels} | {help} |").expect("a string takes any text");
        if let Read::Histogram(bounds, _) = family.read {
            let bounds: Vec<String> = bounds.iter().map(|bound| units(*bound).to_string()).collect();
            writeln!(buckets, "- `{name}`: {}", bounds.join(", ")).expect("a string takes any text");
        }
    }
    (table, buckets)
}

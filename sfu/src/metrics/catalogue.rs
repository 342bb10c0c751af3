//! Every metric the crate exports: name, type, labels, help and where the value comes from.
//!
//! This table is the only place where a metric has a name. The collector walks it, METRICS.md is
//! generated from it, and the tests hold a scrape against it.

use crate::counters::*;
use crate::drop::{DropReason, FilterReason};
use crate::ids::MediaKind;

use super::collector::Scrape;

/// One metric family.
pub struct Family {
    /// The heading it stands under in METRICS.md.
    #[cfg_attr(not(test), allow(dead_code, reason = "a test writes METRICS.md"))]
    pub group: &'static str,
    /// As a query names it, without the prefix `sfu_`.
    pub name: &'static str,
    /// The unit the name carries.
    pub unit: Option<&'static str>,
    /// Its labels, in exposition order.
    pub labels: &'static [LabelDef],
    /// Which combinations of its label values exist.
    pub occurs: Occurs,
    /// Its type, and how to read the sample whose label values stand at the given indices.
    pub read: Read,
    /// One sentence, with its full stop.
    pub help: &'static str,
}

/// A label and the values it takes.
pub struct LabelDef {
    /// The label's name.
    pub name: &'static str,
    /// Its values.
    pub values: Values,
}

/// Where label values come from.
pub enum Values {
    /// A closed enum: how many values, and the value at an index.
    Closed(usize, fn(usize) -> Option<&'static str>),
    /// The worker's index.
    Worker,
    /// One fixed text per build.
    Build,
}

/// Which combinations of label values exist, by the indices of the values.
pub enum Occurs {
    /// All of them.
    Always,
    /// These alone.
    Only(fn(&[usize]) -> bool),
    /// These. Another one is a mistake of ours, and is shown once it is not 0.
    Expected(fn(&[usize]) -> bool),
}

/// The type of a family is the type of what is read.
pub enum Read {
    /// A count.
    Counter(fn(&Scrape, &[usize]) -> u64),
    /// A time that only grows: nanoseconds here, seconds in the scrape.
    SecondsCounter(fn(&Scrape, &[usize]) -> u64),
    /// A present value.
    Gauge(fn(&Scrape, &[usize]) -> u64),
    /// A present time: nanoseconds here, seconds in the scrape.
    SecondsGauge(fn(&Scrape, &[usize]) -> u64),
    /// Durations under these bounds, in nanoseconds.
    Histogram(&'static [u64], fn(&Scrape, &[usize]) -> Buckets),
    /// Facts about the build, as labels.
    Info(fn() -> Vec<(&'static str, String)>),
}

/// A histogram's counts as just read. The total is their sum, never a counter of its own: buckets
/// move while we read, and `+Inf` must equal `_count`.
pub struct Buckets {
    /// Not cumulative; the last one is `+Inf`.
    pub counts: Vec<u64>,
    /// In nanoseconds.
    pub sum: u64,
}

impl<const N: usize> From<&Hist<N>> for Buckets {
    fn from(hist: &Hist<N>) -> Self {
        let mut counts = hist.buckets.to_vec();
        counts.push(hist.over);
        Buckets { counts, sum: hist.sum }
    }
}

impl Family {
    /// The word in the TYPE line.
    pub fn type_name(&self) -> &'static str {
        match self.read {
            Read::Counter(_) | Read::SecondsCounter(_) => "counter",
            Read::Gauge(_) | Read::SecondsGauge(_) => "gauge",
            Read::Histogram(..) => "histogram",
            Read::Info(_) => "info",
        }
    }

    /// The name without what prometheus-client appends: unit, then `_total` or `_info`.
    pub fn stem(&self) -> &'static str {
        let suffix = match self.type_name() {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        let name = self.name.strip_suffix(suffix).unwrap_or(self.name);
        let unit = self.unit.and_then(|unit| name.strip_suffix(unit));
        unit.and_then(|name| name.strip_suffix('_')).unwrap_or(name)
    }

    /// Whether the sample at these indices belongs into the first scrape.
    pub fn occurs(&self, at: &[usize]) -> bool {
        match self.occurs {
            Occurs::Always => true,
            Occurs::Only(occurs) | Occurs::Expected(occurs) => occurs(at),
        }
    }

    /// Whether it has a series per worker.
    pub fn is_per_worker(&self) -> bool {
        let worker = |label: &LabelDef| matches!(label.values, Values::Worker);
        self.labels.iter().any(worker)
    }
}

const fn label<T: Label>(name: &'static str) -> LabelDef {
    let values = Values::Closed(T::VALUES.len(), text_at::<T>);
    LabelDef { name, values }
}

fn text_at<T: Label>(index: usize) -> Option<&'static str> {
    T::VALUES.get(index).map(|value| value.text())
}

const KIND: LabelDef = label::<MediaKind>("kind");
const DIRECTION: LabelDef = label::<Direction>("direction");
const TRANSMISSION: LabelDef = label::<Transmission>("transmission");
const OP: LabelDef = label::<IoOp>("op");
const WORKER: LabelDef = LabelDef { name: "worker", values: Values::Worker };

const fn build(name: &'static str) -> LabelDef {
    LabelDef { name, values: Values::Build }
}

fn drop_occurs(at: &[usize]) -> bool {
    let &[direction, kind, reason] = at else {
        return false;
    };
    can_occur(Direction::ALL[direction], DropKind::ALL[kind], DropReason::ALL[reason])
}

fn build_facts() -> Vec<(&'static str, String)> {
    let features = [
        (true, "shell"),
        (cfg!(feature = "axum"), "axum"),
        (cfg!(feature = "webrtc"), "webrtc"),
        // A panic then costs the process, whatever we contain.
        (cfg!(panic = "abort"), "panic-abort"),
    ];
    let features: Vec<_> = features.iter().filter(|(on, _)| *on).collect();
    let features: Vec<_> = features.iter().map(|(_, name)| *name).collect();
    vec![
        ("version", env!("CARGO_PKG_VERSION").to_lowercase()),
        ("backend", "aws-lc-rs".to_owned()),
        ("features", features.join("+")),
    ]
}

const TRAFFIC: &str = "Traffic";
const FEEDBACK: &str = "Feedback";
const LATENCY: &str = "Latency";
const DROPS: &str = "Drops and queues";
const LIFECYCLE: &str = "Joins and lifecycle";
const POPULATION: &str = "Population";
const WORKERS: &str = "Workers";

/// The metrics, in the order of the scrape.
pub const CATALOGUE: &[Family] = &[
    Family {
        group: TRAFFIC,
        name: "ingress_packets_total",
        unit: None,
        labels: &[KIND, TRANSMISSION],
        occurs: Occurs::Always,
        read: Read::Counter(|s, at| s.engine.ingress.packets[at[0]][at[1]]),
        help: "RTP packets received, after SRTP authentication.",
    },
    Family {
        group: TRAFFIC,
        name: "ingress_bytes_total",
        unit: Some("bytes"),
        labels: &[KIND, TRANSMISSION],
        occurs: Occurs::Always,
        read: Read::Counter(|s, at| s.engine.ingress.bytes[at[0]][at[1]]),
        help: "RTP bytes received, after SRTP authentication.",
    },
    Family {
        group: TRAFFIC,
        name: "egress_packets_total",
        unit: None,
        labels: &[KIND, TRANSMISSION],
        occurs: Occurs::Always,
        read: Read::Counter(|s, at| s.engine.egress.packets[at[0]][at[1]]),
        help: "RTP packets handed to the kernel; loss further down is not seen here.",
    },
    Family {
        group: TRAFFIC,
        name: "egress_bytes_total",
        unit: Some("bytes"),
        labels: &[KIND, TRANSMISSION],
        occurs: Occurs::Always,
        read: Read::Counter(|s, at| s.engine.egress.bytes[at[0]][at[1]]),
        help: "RTP bytes handed to the kernel.",
    },
    Family {
        group: TRAFFIC,
        name: "fanout_packets_total",
        unit: None,
        labels: &[KIND],
        occurs: Occurs::Always,
        read: Read::Counter(|s, at| s.engine.fanout[at[0]]),
        help: "Copies owed: each received packet times the subscriptions of its track.",
    },
    Family {
        group: TRAFFIC,
        name: "filtered_packets_total",
        unit: None,
        labels: &[KIND, label::<FilterReason>("reason")],
        occurs: Occurs::Always,
        read: Read::Counter(|s, at| s.engine.filtered[at[0]][at[1]]),
        help: "Copies not sent on purpose.",
    },
    Family {
        group: TRAFFIC,
        name: "io_batches_total",
        unit: None,
        labels: &[OP],
        occurs: Occurs::Always,
        read: Read::Counter(|s, at| s.worker.io_batches[at[0]]),
        help: "Socket calls that moved packets.",
    },
    Family {
        group: TRAFFIC,
        name: "io_batch_packets_total",
        unit: None,
        labels: &[OP],
        occurs: Occurs::Always,
        read: Read::Counter(|s, at| s.worker.io_batch_packets[at[0]]),
        help: "Packets those calls moved; divided by the calls it is the batch size.",
    },
    Family {
        group: FEEDBACK,
        name: "nacks_total",
        unit: None,
        labels: &[DIRECTION, KIND],
        occurs: Occurs::Always,
        read: Read::Counter(|s, at| s.engine.nacks[at[0]][at[1]]),
        help: "RTCP NACK messages.",
    },
    Family {
        group: FEEDBACK,
        name: "nacked_packets_total",
        unit: None,
        labels: &[DIRECTION, KIND],
        occurs: Occurs::Always,
        read: Read::Counter(|s, at| s.engine.nacked_packets[at[0]][at[1]]),
        help: "Sequence numbers that NACK messages asked for.",
    },
    Family {
        group: FEEDBACK,
        name: "plis_total",
        unit: None,
        labels: &[DIRECTION],
        occurs: Occurs::Always,
        read: Read::Counter(|s, at| s.engine.plis[at[0]]),
        help: "Picture loss indications (keyframe requests, RFC 4585).",
    },
    Family {
        group: FEEDBACK,
        name: "firs_total",
        unit: None,
        labels: &[DIRECTION],
        occurs: Occurs::Always,
        read: Read::Counter(|s, at| s.engine.firs[at[0]]),
        help: "Full intra requests (keyframe requests, RFC 5104).",
    },
    Family {
        group: FEEDBACK,
        name: "keyframe_requests_total",
        unit: None,
        labels: &[label::<RequestOutcome>("outcome")],
        occurs: Occurs::Always,
        read: Read::Counter(|s, at| s.engine.keyframe_requests[at[0]]),
        help: "Keyframe requests of subscribers by what became of them.",
    },
    Family {
        group: FEEDBACK,
        name: "rtx_requests_total",
        unit: None,
        labels: &[label::<RepairOutcome>("result"), KIND],
        occurs: Occurs::Always,
        read: Read::Counter(|s, at| s.engine.rtx_requests[at[1]][at[0]]),
        help: "Packets that subscribers asked for again by what became of the request.",
    },
    Family {
        group: FEEDBACK,
        name: "keyframe_latency_seconds",
        unit: Some("seconds"),
        labels: &[],
        occurs: Occurs::Always,
        read: Read::Histogram(&KEYFRAME_LATENCY, |s, _| Buckets::from(&s.engine.keyframe_latency)),
        help: "Time from a keyframe request sent upstream to the first packet of the keyframe.",
    },
    Family {
        group: FEEDBACK,
        name: "cap_violations_total",
        unit: None,
        labels: &[],
        occurs: Occurs::Always,
        read: Read::Counter(|s, _| s.engine.cap_violations),
        help: "Times a publisher ignored its bitrate cap until it was policed.",
    },
    Family {
        group: LATENCY,
        name: "forward_latency_seconds",
        unit: Some("seconds"),
        labels: &[KIND],
        occurs: Occurs::Always,
        read: Read::Histogram(&FORWARD_LATENCY, |s, at| Buckets::from(&s.engine.forward_latency[at[0]])),
        help: "Time from a packet's receive timestamp to the system call that sends its copy.",
    },
    Family {
        group: DROPS,
        name: "dropped_packets_total",
        unit: None,
        labels: &[DIRECTION, label::<DropKind>("kind"), label::<DropReason>("reason")],
        occurs: Occurs::Expected(drop_occurs),
        read: Read::Counter(|s, at| s.engine.dropped[at[0]][at[1]][at[2]]),
        help: "Packets lost inside the SFU or refused at its gate; unintended.",
    },
    Family {
        group: DROPS,
        name: "queue_depth",
        unit: None,
        labels: &[label::<Queue>("queue")],
        occurs: Occurs::Always,
        read: Read::Gauge(|s, at| s.queue_depth[at[0]]),
        help: "Entries in the queue of the worker that has most.",
    },
    Family {
        group: LIFECYCLE,
        name: "joins_total",
        unit: None,
        labels: &[label::<JoinResult>("result"), label::<JoinOutcome>("reason")],
        occurs: Occurs::Only(|at| JoinOutcome::ALL[at[1]].result() as usize == at[0]),
        read: Read::Counter(|s, at| s.engine.joins[at[1]]),
        help: "Authenticated join requests by how they ended.",
    },
    Family {
        group: LIFECYCLE,
        name: "join_seconds",
        unit: Some("seconds"),
        labels: &[label::<Stage>("stage")],
        occurs: Occurs::Always,
        read: Read::Histogram(&JOIN, |s, at| Buckets::from(&s.engine.join_stages[at[0]])),
        help: "Time that each stage of a join took.",
    },
    Family {
        group: LIFECYCLE,
        name: "ice_sessions_total",
        unit: None,
        labels: &[label::<IceResult>("result"), label::<IceOutcome>("reason"), label::<Relay>("relay")],
        occurs: Occurs::Only(|at| IceOutcome::ALL[at[1]].result() as usize == at[0]),
        read: Read::Counter(|s, at| s.engine.ice_sessions[at[1]][at[2]]),
        help: "ICE sessions by how they ended, and whether the peer offered a relay candidate.",
    },
    Family {
        group: LIFECYCLE,
        name: "dtls_handshakes_total",
        unit: None,
        labels: &[label::<DtlsResult>("result"), label::<DtlsOutcome>("reason")],
        occurs: Occurs::Only(|at| DtlsOutcome::ALL[at[1]].result() as usize == at[0]),
        read: Read::Counter(|s, at| s.engine.dtls_handshakes[at[1]]),
        help: "DTLS handshakes by how they ended.",
    },
    Family {
        group: LIFECYCLE,
        name: "srtp_sessions_total",
        unit: None,
        labels: &[label::<SrtpProfile>("profile")],
        occurs: Occurs::Always,
        read: Read::Counter(|s, at| s.engine.srtp_sessions[at[0]]),
        help: "Sessions by negotiated SRTP profile.",
    },
    Family {
        group: LIFECYCLE,
        name: "sessions_ended_total",
        unit: None,
        labels: &[label::<EndReason>("reason")],
        occurs: Occurs::Always,
        read: Read::Counter(|s, at| s.engine.sessions_ended[at[0]]),
        help: "Sessions that ended; ice_timeout, dtls_closed, consent_expired and error are drops.",
    },
    Family {
        group: LIFECYCLE,
        name: "panics_total",
        unit: None,
        labels: &[label::<PanicScope>("scope")],
        occurs: Occurs::Always,
        read: Read::Counter(|s, at| s.engine.panics[at[0]]),
        help: "Contained panics by what they cost.",
    },
    Family {
        group: POPULATION,
        name: "rooms",
        unit: None,
        labels: &[],
        occurs: Occurs::Always,
        read: Read::Gauge(|s, _| s.engine.gauges.rooms),
        help: "Live rooms.",
    },
    Family {
        group: POPULATION,
        name: "participants",
        unit: None,
        labels: &[],
        occurs: Occurs::Always,
        read: Read::Gauge(|s, _| s.engine.gauges.participants),
        help: "Peers seated in a room.",
    },
    Family {
        group: POPULATION,
        name: "active_handles",
        unit: None,
        labels: &[],
        occurs: Occurs::Always,
        read: Read::Gauge(|s, _| s.engine.gauges.active_handles),
        help: "Live peer connections.",
    },
    Family {
        group: POPULATION,
        name: "publishers",
        unit: None,
        labels: &[],
        occurs: Occurs::Always,
        read: Read::Gauge(|s, _| s.engine.gauges.publishers),
        help: "Participants with at least one unmuted published track.",
    },
    Family {
        group: POPULATION,
        name: "subscribers",
        unit: None,
        labels: &[],
        occurs: Occurs::Always,
        read: Read::Gauge(|s, _| s.engine.gauges.subscribers),
        help: "Participants with at least one unpaused subscription.",
    },
    Family {
        group: POPULATION,
        name: "tracks",
        unit: None,
        labels: &[KIND, DIRECTION],
        occurs: Occurs::Always,
        read: Read::Gauge(|s, at| s.engine.gauges.tracks[at[0]][at[1]]),
        help: "Published (in) and subscribed (out) tracks.",
    },
    Family {
        group: WORKERS,
        name: "event_loop_lag_seconds",
        unit: Some("seconds"),
        labels: &[],
        occurs: Occurs::Always,
        read: Read::Histogram(&LOOP_LAG, |s, _| Buckets::from(&s.worker.lag)),
        help: "How late the 100 ms timers of the workers came.",
    },
    Family {
        group: WORKERS,
        name: "worker_event_loop_lag_seconds",
        unit: Some("seconds"),
        labels: &[WORKER],
        occurs: Occurs::Always,
        read: Read::SecondsGauge(|s, at| s.workers[at[0]].recent_lag.max()),
        help: "The worst timer lag of the last 5 s.",
    },
    Family {
        group: WORKERS,
        name: "worker_busy_seconds_total",
        unit: Some("seconds"),
        labels: &[WORKER],
        occurs: Occurs::Always,
        read: Read::SecondsCounter(|s, at| s.workers[at[0]].busy),
        help: "Loop wall time minus poll wait, including time spent descheduled.",
    },
    Family {
        group: WORKERS,
        name: "worker_cpu_seconds_total",
        unit: Some("seconds"),
        labels: &[WORKER],
        occurs: Occurs::Always,
        read: Read::SecondsCounter(|s, at| s.workers[at[0]].cpu),
        help: "CPU time of the worker's thread.",
    },
    Family {
        group: WORKERS,
        name: "worker_loop_iterations_total",
        unit: None,
        labels: &[WORKER],
        occurs: Occurs::Always,
        read: Read::Counter(|s, at| s.workers[at[0]].iterations),
        help: "Turns of the worker's loop.",
    },
    Family {
        group: WORKERS,
        name: "worker_restarts_total",
        unit: None,
        labels: &[],
        occurs: Occurs::Always,
        read: Read::Counter(|s, _| s.restarts),
        help: "Workers replaced after a panic.",
    },
    Family {
        group: WORKERS,
        name: "build_info",
        unit: None,
        labels: &[build("version"), build("backend"), build("features")],
        occurs: Occurs::Always,
        read: Read::Info(build_facts),
        help: "What was built.",
    },
];

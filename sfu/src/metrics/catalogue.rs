//! Every metric the crate exports: name, type, labels, help and where the value comes from.
//!
//! This table is the only place where a metric has a name. The collector walks it, METRICS.md is
//! generated from it, and the tests hold a scrape against it.

use std::borrow::Cow;

use crate::counters::*;
use crate::drop::{DropReason, FilterReason};
use crate::ids::MediaKind;
use crate::saturation::admission::NodeState;
use crate::saturation::level::SaturationLevel;
use crate::saturation::pressure::Resource;

use super::scrape::Scrape;
use super::snapshot::{MetricKind, MetricSample, MetricValue};

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
    /// Those of which this machine tells.
    Told(fn(&Scrape, &[usize]) -> bool),
}

/// The type of a family is the type of what is read.
pub enum Read {
    /// A count.
    Counter(fn(&Scrape, &[usize]) -> u64),
    /// A time that only grows: nanoseconds here, seconds in the scrape.
    SecondsCounter(fn(&Scrape, &[usize]) -> u64),
    /// A present value.
    Gauge(fn(&Scrape, &[usize]) -> u64),
    /// A present value with a fraction.
    FloatGauge(fn(&Scrape, &[usize]) -> f64),
    /// A present time: nanoseconds here, seconds in the scrape.
    SecondsGauge(fn(&Scrape, &[usize]) -> u64),
    /// Values under these bounds: billionths here, nanoseconds mostly, and whole units in the scrape.
    Histogram(&'static [u64], fn(&Scrape, &[usize]) -> Buckets),
    /// Numbers under these bounds, as they are.
    NumberHistogram(&'static [u64], fn(&Scrape, &[usize]) -> Buckets),
    /// Facts about the build, as labels.
    Info(fn() -> Vec<(&'static str, String)>),
}

/// A histogram's counts as just read. The total is their sum, never a counter of its own: buckets
/// move while we read, and `+Inf` must equal `_count`.
pub struct Buckets {
    /// Not cumulative; the last one is `+Inf`.
    pub counts: Vec<u64>,
    /// In billionths.
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
    /// Its type.
    pub fn kind(&self) -> MetricKind {
        match self.read {
            Read::Counter(_) | Read::SecondsCounter(_) => MetricKind::Counter,
            Read::Gauge(_) | Read::FloatGauge(_) | Read::SecondsGauge(_) => MetricKind::Gauge,
            Read::Histogram(..) | Read::NumberHistogram(..) => MetricKind::Histogram,
            Read::Info(_) => MetricKind::Info,
        }
    }

    /// Of a histogram: its bounds, in the unit of its name.
    #[cfg(test)]
    pub fn bounds(&self) -> Option<Vec<f64>> {
        match self.read {
            Read::Histogram(bounds, _) => Some(bounds.iter().map(|bound| units(*bound)).collect()),
            Read::NumberHistogram(bounds, _) => Some(bounds.iter().map(|bound| *bound as f64).collect()),
            _ => None,
        }
    }

    /// Whether the sample at these indices belongs into the first scrape, on a machine that tells everything.
    #[cfg(test)]
    pub fn occurs(&self, at: &[usize]) -> bool {
        match self.occurs {
            Occurs::Always | Occurs::Told(_) => true,
            Occurs::Only(occurs) | Occurs::Expected(occurs) => occurs(at),
        }
    }

    /// Its samples, in exposition order.
    pub fn samples(&self, scrape: &Scrape) -> Vec<MetricSample> {
        if let Read::Info(facts) = self.read {
            let labels = facts().into_iter().map(|(name, fact)| (name.into(), fact.into())).collect();
            return vec![MetricSample { labels, value: MetricValue::Count(1) }];
        }
        let there =
            self.combinations(scrape.workers.len()).into_iter().filter(|at| self.is_there(scrape, at));
        there.map(|at| MetricSample { labels: self.labels_at(&at), value: self.value(scrape, &at) }).collect()
    }

    fn is_there(&self, scrape: &Scrape, at: &[usize]) -> bool {
        match (&self.occurs, &self.read) {
            (Occurs::Always, _) => true,
            (Occurs::Only(occurs), _) => occurs(at),
            (Occurs::Told(told), _) => told(scrape, at),
            // A count where none was thought possible: shown late rather than never.
            (Occurs::Expected(occurs), Read::Counter(read)) => occurs(at) || read(scrape, at) > 0,
            (Occurs::Expected(occurs), _) => occurs(at),
        }
    }

    fn value(&self, scrape: &Scrape, at: &[usize]) -> MetricValue {
        match self.read {
            Read::Counter(read) | Read::Gauge(read) => MetricValue::Count(read(scrape, at)),
            Read::SecondsCounter(read) | Read::SecondsGauge(read) => {
                MetricValue::Number(units(read(scrape, at)))
            }
            Read::FloatGauge(read) => MetricValue::Number(read(scrape, at)),
            Read::Histogram(bounds, read) => {
                let Buckets { counts, sum } = read(scrape, at);
                let bounds = bounds.iter().map(|bound| units(*bound)).collect();
                MetricValue::Histogram { bounds, counts, sum: units(sum) }
            }
            Read::NumberHistogram(bounds, read) => {
                let Buckets { counts, sum } = read(scrape, at);
                let bounds = bounds.iter().map(|bound| *bound as f64).collect();
                MetricValue::Histogram { bounds, counts, sum: sum as f64 }
            }
            Read::Info(_) => MetricValue::Count(1),
        }
    }

    /// Every combination of indices into the label values, the last label fastest.
    fn combinations(&self, workers: usize) -> Vec<Vec<usize>> {
        self.labels.iter().fold(vec![vec![]], |done, label| {
            let values = match label.values {
                Values::Closed(len, _) => len,
                Values::Worker => workers,
                Values::Build => 1,
            };
            let longer = |at: Vec<usize>| (0..values).map(move |v| [at.as_slice(), &[v]].concat());
            done.into_iter().flat_map(longer).collect()
        })
    }

    fn labels_at(&self, at: &[usize]) -> Vec<(Cow<'static, str>, Cow<'static, str>)> {
        let text = |label: &LabelDef, at: usize| match label.values {
            Values::Closed(_, text) => text(at).unwrap_or("unknown").into(),
            Values::Worker | Values::Build => at.to_string().into(),
        };
        let pairs = self.labels.iter().zip(at);
        pairs.map(|(label, at)| (label.name.into(), text(label, *at))).collect()
    }

    /// Whether it has a series per worker.
    pub fn is_per_worker(&self) -> bool {
        let worker = |label: &LabelDef| matches!(label.values, Values::Worker);
        self.labels.iter().any(worker)
    }
}

/// In whole units.
pub fn units(billionths: u64) -> f64 {
    billionths as f64 / 1e9
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
const TRAFFIC_KIND: LabelDef = label::<TrafficKind>("kind");
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

/// Only video is repaired, and no compound is sent twice.
fn is_received(at: &[usize]) -> bool {
    let &[kind, transmission] = at else {
        return false;
    };
    matches!(
        (TrafficKind::ALL[kind], Transmission::ALL[transmission]),
        (_, Transmission::First) | (TrafficKind::Audio, Transmission::Padding) | (TrafficKind::Video, _)
    )
}

/// The door answers rooms and joins; the engine, for joins and tracks, by configured maxima.
fn is_answered(at: &[usize]) -> bool {
    let &[scope, decision, reason] = at else {
        return false;
    };
    let reason = Admission::ALL[reason];
    let can = match AdmissionScope::ALL[scope] {
        AdmissionScope::Join => true,
        AdmissionScope::Publish => {
            matches!(reason, Admission::Ok | Admission::Limit | Admission::Saturated)
        }
        AdmissionScope::Room => !matches!(reason, Admission::Limit | Admission::NoisyRoom | Admission::Rate),
        AdmissionScope::Subscribe | AdmissionScope::Resume => false,
    };
    can && reason.decision() as usize == decision
}

/// Nor do we send padding.
fn is_sent(at: &[usize]) -> bool {
    is_received(at) && at.get(1) != Some(&(Transmission::Padding as usize))
}

/// Audio has no layers, never waits, and is not repaired.
fn is_video(at: &[usize]) -> bool {
    at.first() == Some(&(MediaKind::Video as usize))
}

fn run_delay(scrape: &Scrape, worker: usize) -> Option<u64> {
    scrape.host.run_delay.get(worker).copied().flatten()
}

fn build_facts() -> Vec<(&'static str, String)> {
    let features = [
        (true, "shell"),
        (cfg!(feature = "axum"), "axum"),
        (cfg!(feature = "signaling-metrics"), "signaling-metrics"),
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
const CHANNELS: &str = "Data channels and what clients say";
const DROPS: &str = "Drops and queues";
const LIFECYCLE: &str = "Joins and lifecycle";
const POPULATION: &str = "Population";
const WORKERS: &str = "Workers";
const SATURATION: &str = "Saturation";
const HOST: &str = "Process and machine";

/// The metrics, in the order of the scrape.
pub const CATALOGUE: &[Family] = &[
    Family {
        group: TRAFFIC,
        name: "ingress_packets_total",
        unit: None,
        labels: &[TRAFFIC_KIND, TRANSMISSION],
        occurs: Occurs::Expected(is_received),
        read: Read::Counter(|s, at| s.engine.ingress.packets[at[0]][at[1]]),
        help: "RTP packets and RTCP compounds received, after SRTP authentication.",
    },
    Family {
        group: TRAFFIC,
        name: "ingress_bytes_total",
        unit: Some("bytes"),
        labels: &[TRAFFIC_KIND, TRANSMISSION],
        occurs: Occurs::Expected(is_received),
        read: Read::Counter(|s, at| s.engine.ingress.bytes[at[0]][at[1]]),
        help: "RTP and RTCP bytes received, after SRTP authentication.",
    },
    Family {
        group: TRAFFIC,
        name: "egress_packets_total",
        unit: None,
        labels: &[TRAFFIC_KIND, TRANSMISSION],
        occurs: Occurs::Expected(is_sent),
        read: Read::Counter(|s, at| s.engine.egress.packets[at[0]][at[1]]),
        help: "RTP packets and RTCP compounds handed to the kernel; loss further down is not seen here.",
    },
    Family {
        group: TRAFFIC,
        name: "egress_bytes_total",
        unit: Some("bytes"),
        labels: &[TRAFFIC_KIND, TRANSMISSION],
        occurs: Occurs::Expected(is_sent),
        read: Read::Counter(|s, at| s.engine.egress.bytes[at[0]][at[1]]),
        help: "RTP and RTCP bytes handed to the kernel.",
    },
    Family {
        group: TRAFFIC,
        name: "bitrate_in_bits",
        unit: Some("bits"),
        labels: &[],
        occurs: Occurs::Always,
        read: Read::Gauge(|s, _| s.worker.bitrates[Direction::In as usize]),
        help: "RTP and RTCP received, in bits per second, over the last 5 s.",
    },
    Family {
        group: TRAFFIC,
        name: "bitrate_out_bits",
        unit: Some("bits"),
        labels: &[],
        occurs: Occurs::Always,
        read: Read::Gauge(|s, _| s.worker.bitrates[Direction::Out as usize]),
        help: "RTP and RTCP sent, in bits per second, over the last 5 s.",
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
        occurs: Occurs::Expected(|at| is_video(at) != (at[1] == FilterReason::Speaker as usize)),
        read: Read::Counter(|s, at| s.engine.filtered[at[0]][at[1]]),
        help: "Copies not sent on purpose.",
    },
    Family {
        group: TRAFFIC,
        name: "queued_packets",
        unit: None,
        labels: &[KIND],
        occurs: Occurs::Always,
        read: Read::Gauge(|s, at| s.engine.gauges.queued[at[0]]),
        help: "Copies that wait in the queues of subscribers.",
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
        occurs: Occurs::Expected(|at| is_video(&at[1..]) || at[0] == RepairOutcome::MissUnknown as usize),
        read: Read::Counter(|s, at| s.engine.rtx_requests[at[1]][at[0]]),
        help: "Packets that subscribers asked for again by what became of the request.",
    },
    Family {
        group: FEEDBACK,
        name: "rtx_useful_packets_total",
        unit: None,
        labels: &[KIND],
        occurs: Occurs::Expected(is_video),
        read: Read::Counter(|s, at| s.engine.useful_repairs[at[0]]),
        help: "Received retransmissions that filled a gap; the others came twice.",
    },
    Family {
        group: FEEDBACK,
        name: "twcc_unmatched_feedback_total",
        unit: None,
        labels: &[],
        occurs: Occurs::Always,
        read: Read::Counter(|s, _| s.engine.unmatched_feedback),
        help: "Transport-wide feedback about packets that the send history no longer has.",
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
        group: LATENCY,
        name: "media_latency_seconds",
        unit: Some("seconds"),
        labels: &[KIND],
        occurs: Occurs::Always,
        read: Read::Histogram(&MEDIA_LATENCY, |s, at| Buckets::from(&s.engine.media_latency[at[0]])),
        help: "Half the publisher's round trip, forwarding, and half the subscriber's; per subscription and receiver \
               report, where both round trips are known.",
    },
    Family {
        group: LATENCY,
        name: "rtt_seconds",
        unit: Some("seconds"),
        labels: &[label::<Leg>("leg")],
        occurs: Occurs::Always,
        read: Read::Histogram(&RTT, |s, at| Buckets::from(&s.engine.rtt[at[0]])),
        help: "Round trips by receiver reports, once a second for each peer.",
    },
    Family {
        group: LATENCY,
        name: "jitter_seconds",
        unit: Some("seconds"),
        labels: &[DIRECTION, KIND],
        occurs: Occurs::Always,
        read: Read::Histogram(&JITTER, |s, at| Buckets::from(&s.engine.jitter[at[0]][at[1]])),
        help: "Interarrival jitter, for each stream and report.",
    },
    Family {
        group: LATENCY,
        name: "loss_ratio",
        unit: Some("ratio"),
        labels: &[DIRECTION, KIND],
        occurs: Occurs::Always,
        read: Read::Histogram(&LOSS, |s, at| Buckets::from(&s.engine.loss[at[0]][at[1]])),
        help: "Share of packets lost, for each stream and 10 s; out: as receivers report, what never reached us included.",
    },
    Family {
        group: LATENCY,
        name: "session_loss_ratio",
        unit: Some("ratio"),
        labels: &[DIRECTION, KIND],
        occurs: Occurs::Always,
        read: Read::Histogram(&LOSS, |s, at| Buckets::from(&s.engine.session_loss[at[0]][at[1]])),
        help: "Share of packets lost in a whole session, told when it ends.",
    },
    Family {
        group: LATENCY,
        name: "lossy_subscribers",
        unit: None,
        labels: &[label::<LossThreshold>("threshold")],
        occurs: Occurs::Always,
        read: Read::Gauge(|s, at| s.engine.gauges.lossy_subscribers[at[0]]),
        help: "Participants who lost more than this share of what they were sent, in their last 10 s.",
    },
    Family {
        group: LATENCY,
        name: "layer_switches_total",
        unit: None,
        labels: &[label::<Axis>("axis"), label::<Step>("direction"), label::<SwitchCause>("cause")],
        // Networks take pixels; only hosts take pictures.
        occurs: Occurs::Expected(|at| {
            at[0] == Axis::Spatial as usize || at[2] == SwitchCause::Request as usize
        }),
        read: Read::Counter(|s, at| s.engine.layer_switches[at[0]][at[1]][at[2]]),
        help: "Changes of what a subscriber gets of a track; bwe: for want of bandwidth on either leg.",
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
        group: DROPS,
        name: "queue_capacity",
        unit: None,
        labels: &[label::<Queue>("queue")],
        occurs: Occurs::Only(|at| at.first() == Some(&(Queue::Egress as usize))),
        read: Read::Gauge(|s, _| s.queue_capacity),
        help: "Entries that the queues of the worker with most subscribers may hold together.",
    },
    Family {
        group: DROPS,
        name: "queue_delay_seconds",
        unit: Some("seconds"),
        labels: &[],
        occurs: Occurs::Always,
        read: Read::Histogram(&LOOP_LAG, |s, _| Buckets::from(&s.engine.queue_delay)),
        help: "Time from the first packet in a subscriber's empty queue until it is emptied, of one queue in 64. \
               A busy worker lets video wait up to 4 ms for packets that it can leave with.",
    },
    Family {
        group: DROPS,
        name: "socket_rx_overflows_total",
        unit: None,
        labels: &[],
        occurs: Occurs::Told(|s, _| s.host.rx_overflows.is_some()),
        read: Read::Counter(|s, _| s.host.rx_overflows.unwrap_or(0)),
        help: "Datagrams that the kernel dropped because a media socket's buffer was full.",
    },
    Family {
        group: CHANNELS,
        name: "channel_messages_total",
        unit: None,
        labels: &[label::<MessageOutcome>("outcome")],
        occurs: Occurs::Always,
        read: Read::Counter(|s, at| s.engine.messages[at[0]]),
        help: "Messages on data channels by what became of them; a relayed one counts for each recipient.",
    },
    Family {
        group: CHANNELS,
        name: "client_reports_total",
        unit: None,
        labels: &[label::<ReportOutcome>("result")],
        occurs: Occurs::Always,
        read: Read::Counter(|s, at| s.engine.client_reports[at[0]]),
        help: "Reports that clients sent on sfu-telemetry by what became of them.",
    },
    Family {
        group: CHANNELS,
        name: "client_rtt_seconds",
        unit: Some("seconds"),
        labels: &[],
        occurs: Occurs::Always,
        read: Read::Histogram(&RTT, |s, _| Buckets::from(&s.engine.client_rtt)),
        help: "Round trips to the SFU, as clients say: untrusted.",
    },
    Family {
        group: CHANNELS,
        name: "client_jitter_seconds",
        unit: Some("seconds"),
        labels: &[],
        occurs: Occurs::Always,
        read: Read::Histogram(&JITTER, |s, _| Buckets::from(&s.engine.client_jitter)),
        help: "Jitter of what clients receive, as they say: untrusted.",
    },
    Family {
        group: CHANNELS,
        name: "client_loss_ratio",
        unit: Some("ratio"),
        labels: &[],
        occurs: Occurs::Always,
        read: Read::Histogram(&LOSS, |s, _| Buckets::from(&s.engine.client_loss)),
        help: "Share of packets that clients lose, as they say: untrusted.",
    },
    Family {
        group: CHANNELS,
        name: "client_fps",
        unit: None,
        labels: &[],
        occurs: Occurs::Always,
        read: Read::NumberHistogram(&FPS, |s, _| Buckets::from(&s.engine.client_fps)),
        help: "Pictures a second that clients show, as they say: untrusted.",
    },
    Family {
        group: CHANNELS,
        name: "client_playout_latency_seconds",
        unit: Some("seconds"),
        labels: &[],
        occurs: Occurs::Always,
        read: Read::Histogram(&MEDIA_LATENCY, |s, _| Buckets::from(&s.engine.client_playout)),
        help: "How long media waits in clients to be played, as they say: untrusted.",
    },
    Family {
        group: CHANNELS,
        name: "client_bitrate_bits",
        unit: Some("bits"),
        labels: &[DIRECTION],
        occurs: Occurs::Always,
        read: Read::NumberHistogram(&BITRATE, |s, at| Buckets::from(&s.engine.client_bitrate[at[0]])),
        help: "Bits per second that clients send (in) and receive (out), as they say: untrusted.",
    },
    Family {
        group: CHANNELS,
        name: "client_freezes_total",
        unit: None,
        labels: &[],
        occurs: Occurs::Always,
        read: Read::Counter(|s, _| s.engine.client_freezes),
        help: "Times that pictures stood still in clients, as they say: untrusted.",
    },
    Family {
        group: CHANNELS,
        name: "client_freeze_seconds_total",
        unit: Some("seconds"),
        labels: &[],
        occurs: Occurs::Always,
        read: Read::SecondsCounter(|s, _| s.engine.client_freeze_time),
        help: "Time for which pictures stood still in clients, as they say: untrusted.",
    },
    Family {
        group: CHANNELS,
        name: "client_quality_limited_seconds_total",
        unit: Some("seconds"),
        labels: &[label::<QualityLimit>("reason")],
        occurs: Occurs::Always,
        read: Read::SecondsCounter(|s, at| s.engine.client_limited[at[0]]),
        help: "Time between reports by what held the client's encoder back, as it says: untrusted.",
    },
    Family {
        group: LIFECYCLE,
        name: "joins_total",
        unit: None,
        labels: &[label::<JoinResult>("result"), label::<JoinOutcome>("reason")],
        occurs: Occurs::Only(|at| JoinOutcome::ALL[at[1]].result() as usize == at[0]),
        read: Read::Counter(|s, at| {
            s.engine.joins[at[1]] + s.saturation.refused_joins(JoinOutcome::ALL[at[1]])
        }),
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
        name: "ice_selected_pairs_total",
        unit: None,
        labels: &[label::<PathKind>("path"), label::<Transport>("transport")],
        occurs: Occurs::Always,
        read: Read::Counter(|s, at| s.engine.selected_pairs[at[0]]),
        help: "Paths that peers chose, by the candidate they had announced for it; prflx: none.",
    },
    Family {
        group: LIFECYCLE,
        name: "selected_path_handles",
        unit: None,
        labels: &[label::<PathKind>("path"), label::<Transport>("transport")],
        occurs: Occurs::Always,
        read: Read::Gauge(|s, at| s.engine.gauges.selected_paths[at[0]]),
        help: "Live peer connections by the path they use.",
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
        help: "Sessions that ended; ice_timeout, consent_expired and error are drops.",
    },
    Family {
        group: LIFECYCLE,
        name: "admissions_total",
        unit: None,
        labels: &[
            label::<AdmissionScope>("scope"),
            label::<AdmissionDecision>("decision"),
            label::<Admission>("reason"),
        ],
        occurs: Occurs::Only(is_answered),
        read: Read::Counter(|s, at| s.answers(AdmissionScope::ALL[at[0]], Admission::ALL[at[2]])),
        help: "Peers and tracks by whether they were let in.",
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
        group: POPULATION,
        name: "rooms_by_size",
        unit: None,
        labels: &[label::<RoomSize>("size")],
        occurs: Occurs::Always,
        read: Read::Gauge(|s, at| s.engine.gauges.rooms_by_size[at[0]]),
        help: "Live rooms by how many participants they have.",
    },
    Family {
        group: POPULATION,
        name: "largest_room_participants",
        unit: None,
        labels: &[],
        occurs: Occurs::Always,
        read: Read::Gauge(|s, _| s.largest_room),
        help: "Participants of the largest room.",
    },
    Family {
        group: POPULATION,
        name: "participant_seconds_total",
        unit: Some("seconds"),
        labels: &[],
        occurs: Occurs::Always,
        read: Read::SecondsCounter(|s, _| s.engine.participant_time),
        help: "Time that participants spent in rooms, all together.",
    },
    Family {
        group: POPULATION,
        name: "active_speakers",
        unit: None,
        labels: &[],
        occurs: Occurs::Always,
        read: Read::Gauge(|s, _| s.engine.gauges.active_speakers),
        help: "Participants who speak, by the levels that their clients tell.",
    },
    Family {
        group: POPULATION,
        name: "capped_publishers",
        unit: None,
        labels: &[],
        occurs: Occurs::Always,
        read: Read::Gauge(|s, _| s.engine.gauges.capped_publishers),
        help: "Publishers that are held to a bitrate cap.",
    },
    Family {
        group: POPULATION,
        name: "publisher_cap_bits",
        unit: Some("bits"),
        labels: &[],
        occurs: Occurs::Always,
        read: Read::Gauge(|s, _| s.lowest_cap),
        help: "The lowest cap of a publisher, in bits per second; what newcomers get when there is none.",
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
        read: Read::SecondsGauge(|s, at| s.workers[at[0]].own.recent_lag.max()),
        help: "The worst timer lag of the last 5 s.",
    },
    Family {
        group: WORKERS,
        name: "worker_busy_seconds_total",
        unit: Some("seconds"),
        labels: &[WORKER],
        occurs: Occurs::Always,
        read: Read::SecondsCounter(|s, at| s.workers[at[0]].own.busy),
        help: "Loop wall time minus poll wait, including time spent descheduled.",
    },
    Family {
        group: WORKERS,
        name: "worker_cpu_seconds_total",
        unit: Some("seconds"),
        labels: &[WORKER],
        occurs: Occurs::Always,
        read: Read::SecondsCounter(|s, at| s.workers[at[0]].own.cpu),
        help: "CPU time of the worker's thread.",
    },
    Family {
        group: WORKERS,
        name: "worker_run_delay_seconds_total",
        unit: Some("seconds"),
        labels: &[WORKER],
        occurs: Occurs::Told(|s, at| run_delay(s, at[0]).is_some()),
        read: Read::SecondsCounter(|s, at| run_delay(s, at[0]).unwrap_or(0)),
        help: "Time that the worker's thread was runnable and waited for a CPU.",
    },
    Family {
        group: WORKERS,
        name: "worker_handles",
        unit: None,
        labels: &[WORKER],
        occurs: Occurs::Always,
        read: Read::Gauge(|s, at| s.workers[at[0]].handles),
        help: "Live peer connections on the worker.",
    },
    Family {
        group: WORKERS,
        name: "worker_loop_iterations_total",
        unit: None,
        labels: &[WORKER],
        occurs: Occurs::Always,
        read: Read::Counter(|s, at| s.workers[at[0]].own.iterations),
        help: "Turns of the worker's loop.",
    },
    Family {
        group: WORKERS,
        name: "worker_restarts_total",
        unit: None,
        labels: &[],
        occurs: Occurs::Always,
        read: Read::Counter(|s, _| s.worker.restarts),
        help: "Workers that began anew, without their peers, after a panic.",
    },
    Family {
        group: SATURATION,
        name: "load_ratio",
        unit: Some("ratio"),
        labels: &[label::<Resource>("resource")],
        occurs: Occurs::Always,
        read: Read::FloatGauge(|s, at| s.saturation.pressures[at[0]]),
        help: "Pressure over the last 5 s, the highest of any worker; from 1.0 on the controller gives something up, 2.0 is the most.",
    },
    Family {
        group: SATURATION,
        name: "load_max_ratio",
        unit: Some("ratio"),
        labels: &[],
        occurs: Occurs::Always,
        read: Read::FloatGauge(|s, _| s.saturation.load),
        help: "Pressure over the last 5 s of whatever is shortest on the hottest worker: what to scale by, at 0.7.",
    },
    Family {
        group: SATURATION,
        name: "reserved_load_ratio",
        unit: Some("ratio"),
        labels: &[],
        occurs: Occurs::Always,
        read: Read::FloatGauge(|s, _| s.saturation.reserved),
        help: "Load promised to those who came in the last 20 s and not measured yet, the most of any worker.",
    },
    Family {
        group: SATURATION,
        name: "worker_load_ratio",
        unit: Some("ratio"),
        labels: &[WORKER],
        occurs: Occurs::Always,
        read: Read::FloatGauge(|s, at| s.worker_saturation(at[0]).load),
        help: "Pressure over the last 5 s of whatever the worker is shortest of.",
    },
    Family {
        group: SATURATION,
        name: "saturation_level",
        unit: None,
        labels: &[],
        occurs: Occurs::Always,
        read: Read::Gauge(|s, _| s.saturation.level as u64),
        help: "How much is given up, from 0, nothing, to 5, all but audio; the highest of any worker.",
    },
    Family {
        group: SATURATION,
        name: "worker_saturation_level",
        unit: None,
        labels: &[WORKER],
        occurs: Occurs::Always,
        read: Read::Gauge(|s, at| s.worker_saturation(at[0]).level as u64),
        help: "How much the worker gives up.",
    },
    Family {
        group: SATURATION,
        name: "saturation_seconds_total",
        unit: Some("seconds"),
        labels: &[label::<SaturationLevel>("level")],
        occurs: Occurs::Always,
        read: Read::SecondsCounter(|s, at| s.saturation.at_level[at[0]]),
        help: "Time at each level.",
    },
    Family {
        group: SATURATION,
        name: "saturation_transitions_total",
        unit: None,
        labels: &[label::<Step>("direction")],
        occurs: Occurs::Always,
        read: Read::Counter(|s, at| s.saturation.transitions[at[0]]),
        help: "Changes of the level.",
    },
    Family {
        group: SATURATION,
        name: "mitigations_total",
        unit: None,
        labels: &[label::<Mitigation>("action"), label::<Turn>("direction")],
        occurs: Occurs::Always,
        read: Read::Counter(|s, at| s.saturation.mitigations[at[0]][at[1]]),
        help: "What workers began to do, or ceased to, because they were short of something; in a dry run, what they would have.",
    },
    Family {
        group: SATURATION,
        name: "saturation_controller_restarts_total",
        unit: None,
        labels: &[],
        occurs: Occurs::Always,
        read: Read::Counter(|s, _| s.saturation.restarts),
        help: "Times the controller failed and began anew with the levels it had.",
    },
    Family {
        group: SATURATION,
        name: "noisy_rooms",
        unit: None,
        labels: &[],
        occurs: Occurs::Always,
        read: Read::Gauge(|s, _| s.saturation.noisy_rooms),
        help: "Rooms that take more than a quarter of what a worker can do, and more than four times what its median room does.",
    },
    Family {
        group: SATURATION,
        name: "node_state",
        unit: None,
        labels: &[label::<NodeState>("state")],
        occurs: Occurs::Always,
        read: Read::Gauge(|s, at| u64::from(s.saturation.state.is_some_and(|state| state as usize == at[0]))),
        help: "1 at the node's present state.",
    },
    Family {
        group: SATURATION,
        name: "drain_remaining_handles",
        unit: None,
        labels: &[],
        occurs: Occurs::Always,
        read: Read::Gauge(|s, _| s.remaining_handles()),
        help: "Live peer connections of a node that drains.",
    },
    Family {
        group: SATURATION,
        name: "drain_deadline_timestamp_seconds",
        unit: Some("seconds"),
        labels: &[],
        occurs: Occurs::Always,
        read: Read::FloatGauge(|s, _| s.saturation.drain_deadline),
        help: "When a node that drains is to be empty, since the epoch; 0 while it does not drain.",
    },
    Family {
        group: HOST,
        name: "cpu_usage_percent",
        unit: Some("percent"),
        labels: &[],
        occurs: Occurs::Told(|s, _| s.host.cpu_percent.is_some()),
        read: Read::FloatGauge(|s, _| s.host.cpu_percent.unwrap_or(0.0)),
        help: "CPU that the process used in the last second, of what it may use.",
    },
    Family {
        group: HOST,
        name: "cpu_limit_cores",
        unit: None,
        labels: &[],
        occurs: Occurs::Told(|s, _| s.host.cpu_limit.is_some()),
        read: Read::FloatGauge(|s, _| s.host.cpu_limit.unwrap_or(0.0)),
        help: "CPUs that the process may use: its quota, or those it may run on.",
    },
    Family {
        group: HOST,
        name: "cpu_throttled_seconds_total",
        unit: Some("seconds"),
        labels: &[],
        occurs: Occurs::Told(|s, _| s.host.throttled.is_some()),
        read: Read::SecondsCounter(|s, _| s.host.throttled.unwrap_or(0)),
        help: "Time that the control group's CPU quota held the process back.",
    },
    Family {
        group: HOST,
        name: "pressure_waiting_seconds_total",
        unit: Some("seconds"),
        labels: &[label::<Pressure>("resource")],
        occurs: Occurs::Told(|s, at| s.host.waiting[at[0]].is_some()),
        read: Read::SecondsCounter(|s, at| s.host.waiting[at[0]].unwrap_or(0)),
        help: "Time in which some process of the machine waited for the resource.",
    },
    Family {
        group: HOST,
        name: "build_info",
        unit: None,
        labels: &[build("version"), build("backend"), build("features")],
        occurs: Occurs::Always,
        read: Read::Info(build_facts),
        help: "What was built.",
    },
];

//! A scrape is held against the catalogue line by line, and the catalogue against METRICS.md.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use super::catalogue::{CATALOGUE, Family, Read, Values};
use super::{HostReadings, MetricKind, MetricValue, Metrics, MetricsSnapshot, Shard, WorkerCounters};
use crate::counters::*;
use crate::drop::DropReason;
use crate::ids::MediaKind;

fn fleet(workers: usize) -> (Metrics, Vec<Arc<Shard>>) {
    let shards: Vec<_> = (0..workers).map(|_| Arc::new(Shard::new())).collect();
    (Metrics::new(shards.clone(), Arc::new(talkative(workers).into())), shards)
}

/// A machine that tells everything.
fn talkative(workers: usize) -> HostReadings {
    HostReadings {
        cpu_percent: Some(0.0),
        throttled: Some(0),
        cpu_limit: Some(0.0),
        waiting: [Some(0); 3],
        rx_overflows: Some(0),
        run_delay: vec![Some(0); workers],
    }
}

fn scrape(metrics: &Metrics) -> String {
    let mut text = String::new();
    metrics.encode_text(&mut text).expect("a string takes any text");
    text
}

/// `name{labels}` and value of every sample.
fn samples(text: &str) -> Vec<(&str, f64)> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.rsplit_once(' ').expect("a sample has a value"))
        .map(|(series, value)| (series, value.parse().expect("a value is a number")))
        .collect()
}

fn value(text: &str, series: &str) -> f64 {
    let found = samples(text).into_iter().find(|(name, _)| *name == series);
    found.unwrap_or_else(|| panic!("no {series} in the scrape")).1
}

/// The series the catalogue promises, worked out without the collector's help.
fn promised(workers: usize) -> BTreeSet<String> {
    let mut promised = BTreeSet::new();
    for family in CATALOGUE {
        for labels in promised_labels(family, workers) {
            let with = |name: &str, more: Option<String>| {
                let labels: Vec<_> = more.into_iter().chain(labels.clone()).collect();
                let labels = match labels.as_slice() {
                    [] => String::new(),
                    labels => format!("{{{}}}", labels.join(",")),
                };
                format!("sfu_{name}{labels}")
            };
            if let Read::Histogram(bounds, _) = family.read {
                promised.insert(with(&format!("{}_sum", family.name), None));
                promised.insert(with(&format!("{}_count", family.name), None));
                let bucket = format!("{}_bucket", family.name);
                for bound in bounds {
                    let bound = *bound as f64 / 1e9;
                    // As prometheus-client prints floats: 0.00005, not 5e-5, and 1.0, not 1.
                    let whole = if bound.fract() == 0.0 { ".0" } else { "" };
                    promised.insert(with(&bucket, Some(format!("le=\"{bound}{whole}\""))));
                }
                promised.insert(with(&bucket, Some("le=\"+Inf\"".to_owned())));
            } else {
                promised.insert(with(family.name, None));
            }
        }
    }
    promised
}

fn promised_labels(family: &Family, workers: usize) -> Vec<Vec<String>> {
    if let Read::Info(facts) = family.read {
        let facts = facts().into_iter();
        return vec![facts.map(|(name, value)| format!("{name}=\"{value}\"")).collect()];
    }
    let mut rows: Vec<(Vec<usize>, Vec<String>)> = vec![Default::default()];
    for label in family.labels {
        let values: Vec<String> = match label.values {
            Values::Closed(len, text) => (0..len).map(|v| text(v).unwrap().to_owned()).collect(),
            Values::Worker => (0..workers).map(|worker| worker.to_string()).collect(),
            Values::Build => vec![],
        };
        rows = rows
            .into_iter()
            .flat_map(|(at, row)| {
                let (label, values) = (label.name, values.clone());
                values.into_iter().enumerate().map(move |(index, value)| {
                    let mut next = (at.clone(), row.clone());
                    next.0.push(index);
                    next.1.push(format!("{label}=\"{value}\""));
                    next
                })
            })
            .collect();
    }
    rows.retain(|(at, _)| family.occurs(at));
    rows.into_iter().map(|(_, row)| row).collect()
}

#[test]
fn the_first_scrape_has_every_series_of_the_catalogue_at_zero_and_no_other() {
    let (metrics, _shards) = fleet(3);
    let text = scrape(&metrics);
    let samples = samples(&text);
    let seen: BTreeSet<_> = samples.iter().map(|(series, _)| (*series).to_owned()).collect();
    assert_eq!(seen.len(), samples.len(), "a series twice");
    let promised = promised(3);
    assert_eq!(seen.difference(&promised).next(), None, "not in the catalogue");
    assert_eq!(promised.difference(&seen).next(), None, "not in the scrape");
    for (series, value) in samples {
        let expected = f64::from(u8::from(series.starts_with("sfu_build_info")));
        assert_eq!(value, expected, "{series}");
    }
}

#[test]
fn headers_say_what_the_catalogue_says() {
    let (metrics, _shards) = fleet(1);
    let text = scrape(&metrics);
    let mut headers = text.lines().filter(|line| line.starts_with('#'));
    for family in CATALOGUE {
        let name = family.name.strip_suffix("_total").unwrap_or(family.name);
        let name = format!("sfu_{}", name.strip_suffix("_info").unwrap_or(name));
        assert_eq!(headers.next(), Some(&*format!("# HELP {name} {}", family.help)));
        assert_eq!(headers.next(), Some(&*format!("# TYPE {name} {}", type_name(family))));
        if let Some(unit) = family.unit {
            assert_eq!(headers.next(), Some(&*format!("# UNIT {name} {unit}")));
        }
    }
    assert_eq!(headers.next(), None);
}

fn type_name(family: &Family) -> &'static str {
    match family.kind() {
        MetricKind::Counter => "counter",
        MetricKind::Gauge => "gauge",
        MetricKind::Histogram => "histogram",
        MetricKind::Info => "info",
    }
}

#[test]
fn names_help_and_label_values_keep_the_conventions() {
    let mut names = BTreeSet::new();
    for family in CATALOGUE {
        let name = family.name;
        assert!(names.insert(name), "{name} twice");
        assert!(family.help.ends_with('.') && !family.help.contains('\n'), "{name}");
        assert_eq!(name.ends_with("_total"), family.kind() == MetricKind::Counter, "{name}");
        let stem = name.trim_end_matches("_total");
        let unit =
            ["seconds", "bytes", "bits", "percent", "ratio"].into_iter().find(|unit| stem.ends_with(unit));
        assert_eq!(family.unit, unit, "{name}");
    }
    let (metrics, _shards) = fleet(2);
    let text = scrape(&metrics);
    for (series, _) in samples(&text) {
        for pair in series.split(['{', '}', ',']).filter(|part| part.contains('=')) {
            let (name, value) = pair.split_once('=').unwrap();
            let value = value.trim_matches('"');
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_.+-".contains(c);
            assert!(name == "le" || !value.is_empty() && value.chars().all(plain), "{series}");
        }
    }
}

#[test]
fn the_series_budget_holds() {
    for workers in [1, 16, 128] {
        let (metrics, _shards) = fleet(workers);
        let series = samples(&scrape(&metrics)).len();
        assert!(series <= 900 + 14 * workers, "{series} series for {workers} workers");
    }
}

#[test]
fn without_workers_their_families_are_absent_not_summed() {
    let (metrics, _shards) = fleet(2);
    let text = scrape(&metrics.per_worker(false));
    assert!(!text.contains("worker="));
    assert!(!text.contains("sfu_worker_busy_seconds"));
    assert_eq!(value(&text, "sfu_worker_restarts_total"), 0.0);
    assert_eq!(value(&text, "sfu_event_loop_lag_seconds_count"), 0.0);
}

#[test]
fn what_was_counted_is_what_is_scraped() {
    let (metrics, shards) = fleet(2);
    let mut counters = Counters::default();
    counters.ingress(MediaKind::Video, Transmission::Rtx, 1_100);
    counters.nacks(Direction::In, MediaKind::Video, 1, 17);
    counters.dropped_out(DropKind::Audio, DropReason::Expired, 2);
    counters.forward_latency(MediaKind::Audio, Duration::from_micros(60), 50);
    counters.forward_latency(MediaKind::Audio, Duration::from_secs(2), 1);
    counters.joined(JoinOutcome::DtlsFailed);
    counters.ice_session(IceOutcome::Connected, Relay::Offered);
    counters.gauges.tracks[MediaKind::Video as usize][Direction::Out as usize] = 7;
    counters.gauges.queued = [1, 4];
    shards[0].engine.publish(&counters);
    counters.gauges.queued = [0, 2];
    shards[1].engine.publish(&counters);
    let mut worker = WorkerCounters::default();
    worker.turn(Duration::from_millis(1_500));
    worker.lag(Duration::from_millis(3));
    worker.io(IoOp::Recv, 32);
    worker.control_depth = 3;
    worker.bitrates = [8_000, 16_000];
    shards[1].worker.publish(&worker);

    let text = scrape(&metrics);
    for (series, expected) in [
        (r#"ingress_packets_total{kind="video",transmission="rtx"}"#, 2.0),
        (r#"ingress_bytes_total{kind="video",transmission="rtx"}"#, 2_200.0),
        (r#"nacks_total{direction="in",kind="video"}"#, 2.0),
        (r#"nacked_packets_total{direction="in",kind="video"}"#, 34.0),
        (r#"dropped_packets_total{direction="out",kind="audio",reason="expired"}"#, 4.0),
        (r#"forward_latency_seconds_bucket{le="0.0001",kind="audio"}"#, 100.0),
        (r#"forward_latency_seconds_bucket{le="1.0",kind="audio"}"#, 100.0),
        (r#"forward_latency_seconds_bucket{le="+Inf",kind="audio"}"#, 102.0),
        (r#"forward_latency_seconds_count{kind="audio"}"#, 102.0),
        (r#"forward_latency_seconds_sum{kind="audio"}"#, 4.006),
        (r#"joins_total{result="failed",reason="dtls_failed"}"#, 2.0),
        (r#"ice_sessions_total{result="connected",reason="none",relay="offered"}"#, 2.0),
        (r#"tracks{kind="video",direction="out"}"#, 14.0),
        (r#"queued_packets{kind="video"}"#, 6.0),
        (r#"queue_depth{queue="egress"}"#, 5.0),
        (r#"queue_depth{queue="control"}"#, 3.0),
        (r#"bitrate_out_bits"#, 16_000.0),
        (r#"worker_busy_seconds_total{worker="0"}"#, 0.0),
        (r#"worker_busy_seconds_total{worker="1"}"#, 1.5),
        (r#"worker_event_loop_lag_seconds{worker="1"}"#, 0.003),
        (r#"event_loop_lag_seconds_count"#, 1.0),
        (r#"io_batch_packets_total{op="recv"}"#, 32.0),
    ] {
        assert_eq!(value(&text, &format!("sfu_{series}")), expected, "{series}");
    }
}

#[test]
fn counters_never_go_backwards_when_a_worker_restarts_or_ends() {
    let (metrics, shards) = fleet(2);
    let mut counters = Counters::default();
    counters.fanout(MediaKind::Audio, 3);
    counters.egress_run(MediaKind::Audio, Transmission::First, 1, 100);
    counters.queued(MediaKind::Audio);
    counters.queued(MediaKind::Audio);
    counters.forward_latency(MediaKind::Audio, Duration::from_millis(1), 1);
    counters.gauges.rooms = 3;
    let mut worker = WorkerCounters::default();
    worker.turn(Duration::from_secs(2));
    worker.lag(Duration::from_millis(400));
    for shard in &shards {
        shard.engine.publish(&counters);
        shard.worker.publish(&worker);
    }
    let before = scrape(&metrics);
    assert_balanced(&before);
    // What Worker::restart does, and what a worker leaves behind.
    worker.restarts += 1;
    shards[1].engine.publish(&counters.carried_over());
    shards[1].worker.publish(&worker.carried_over());
    let after = scrape(&metrics);
    assert_monotonic(&before, &after);
    assert_balanced(&after);
    assert_eq!(value(&after, "sfu_worker_restarts_total"), 1.0);
    assert_eq!(value(&after, "sfu_rooms"), 3.0, "the dead worker's rooms are gone");
    assert_eq!(value(&after, "sfu_worker_event_loop_lag_seconds{worker=\"1\"}"), 0.0);
    assert_eq!(value(&after, "sfu_worker_busy_seconds_total{worker=\"1\"}"), 2.0);
}

/// `fanout = egress{first} + filtered + dropped{out} + queued`, from what a scrape shows.
fn assert_balanced(text: &str) {
    for kind in ["audio", "video"] {
        let carries = |series: &str, name: &str, label: &str| {
            series.starts_with(&format!("sfu_{name}{{"))
                && series.contains(&format!("kind=\"{kind}\""))
                && series.contains(label)
        };
        let sum = |name: &str, label: &str| -> f64 {
            samples(text)
                .iter()
                .filter(|(series, _)| carries(series, name, label))
                .map(|(_, value)| value)
                .sum()
        };
        let accounted = sum("egress_packets_total", "transmission=\"first\"")
            + sum("filtered_packets_total", "")
            + sum("dropped_packets_total", "direction=\"out\"")
            + sum("queued_packets", "");
        assert_eq!(sum("fanout_packets_total", ""), accounted, "{kind}");
    }
}

#[test]
fn counters_never_go_backwards_while_workers_write() {
    let (metrics, shards) = fleet(2);
    std::thread::scope(|scope| {
        for shard in &shards {
            scope.spawn(move || {
                let mut counters = Counters::default();
                for _ in 0..4_000 {
                    counters.forward_latency(MediaKind::Video, Duration::from_millis(3), 7);
                    counters.keyframe_latency(Duration::from_secs(9));
                    shard.engine.publish(&counters);
                }
            });
        }
        let mut before = scrape(&metrics);
        for _ in 0..50 {
            let after = scrape(&metrics);
            assert_monotonic(&before, &after);
            before = after;
        }
    });
    assert_eq!(value(&scrape(&metrics), "sfu_keyframe_latency_seconds_bucket{le=\"+Inf\"}"), 8_000.0);
}

/// Every counter and bucket of `before` is in `after` and no smaller; `+Inf` equals `_count`.
fn assert_monotonic(before: &str, after: &str) {
    let after: BTreeMap<_, _> = samples(after).into_iter().collect();
    for (series, was) in samples(before) {
        let name = series.split('{').next().unwrap();
        let mut ends = ["_total", "_bucket", "_count"].iter();
        if ends.any(|end| name.ends_with(end)) {
            let is = after[series];
            assert!(is >= was, "{series} went from {was} to {is}");
        }
    }
    for (series, is) in &after {
        if series.contains("le=\"+Inf\"") {
            let count = series.replace("_bucket", "_count");
            let count = count.replace("le=\"+Inf\",", "");
            let count = count.replace("{le=\"+Inf\"}", "");
            assert_eq!(*is, after[&*count], "{series}");
        }
    }
}

#[test]
fn a_drop_thought_impossible_is_shown_once_it_happens() {
    let (metrics, shards) = fleet(1);
    let impossible = "sfu_dropped_packets_total{direction=\"out\",kind=\"audio\",reason=\"policed\"}";
    assert!(!scrape(&metrics).contains(impossible));
    let mut counters = Counters::default();
    counters.dropped[1][0][DropReason::Policed as usize] = 1;
    shards[0].engine.publish(&counters);
    assert_eq!(value(&scrape(&metrics), impossible), 1.0);
}

#[test]
fn a_machine_that_tells_nothing_has_no_series_for_it() {
    let metrics = Metrics::new(vec![Arc::new(Shard::new())], Arc::default());
    let text = scrape(&metrics);
    for name in ["cpu_usage", "cpu_throttled", "cpu_limit", "pressure", "socket_rx_overflows", "run_delay"] {
        assert!(
            !text.contains(&format!("sfu_{name}")) && !text.contains(&format!("sfu_worker_{name}")),
            "{name}"
        );
    }
}

#[test]
fn a_snapshot_is_what_a_scrape_shows() {
    let (metrics, shards) = fleet(2);
    let mut counters = Counters::default();
    counters.ingress(MediaKind::Audio, Transmission::First, 100);
    counters.rtt(Leg::Subscriber, Duration::from_millis(70));
    counters.loss(Direction::Out, MediaKind::Video, 0.025);
    shards[1].engine.publish(&counters);
    let (text, snapshot) = (scrape(&metrics), metrics.snapshot());
    let mut told = BTreeMap::new();
    for family in &snapshot.families {
        for sample in &family.samples {
            let labels: Vec<String> = sample.labels.iter().map(|(n, v)| format!("{n}=\"{v}\"")).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            let value = match &sample.value {
                MetricValue::Count(count) => *count as f64,
                MetricValue::Number(number) => *number,
                MetricValue::Histogram { bounds, counts, sum } => {
                    assert_eq!(bounds.len() + 1, counts.len(), "{}", family.name);
                    told.insert(format!("{}_sum{labels}", family.name), *sum);
                    told.insert(format!("{}_count{labels}", family.name), counts.iter().sum::<u64>() as f64);
                    continue;
                }
            };
            told.insert(format!("{}{labels}", family.name), value);
        }
    }
    let scraped: BTreeMap<String, f64> = samples(&text)
        .into_iter()
        .filter(|(series, _)| !series.contains("_bucket{"))
        .map(|(series, value)| (series.to_owned(), value))
        .collect();
    assert_eq!(told, scraped);
    assert_eq!(snapshot.sum("sfu_ingress_packets_total", &[("kind", "audio")]), 1.0);
    assert_eq!(snapshot.sum("sfu_rtt_seconds", &[("leg", "subscriber")]), 1.0);
    assert_eq!(snapshot.sum("sfu_nonsense", &[]), 0.0);
}

#[test]
fn a_snapshot_survives_its_journey() {
    let (metrics, _shards) = fleet(1);
    let snapshot = metrics.snapshot();
    let json = serde_json::to_string(&snapshot).expect("it is plain data");
    let back: MetricsSnapshot = serde_json::from_str(&json).expect("it reads itself");
    assert_eq!(back.families.len(), snapshot.families.len());
    for (there, here) in back.families.iter().zip(&snapshot.families) {
        assert_eq!((&there.name, there.kind, &there.unit), (&here.name, here.kind, &here.unit));
        assert_eq!(there.samples.len(), here.samples.len());
    }
}

#[test]
fn several_engines_share_a_registry_and_are_told_apart() {
    let ((indoors, shards), (outdoors, _others)) = (fleet(1), fleet(2));
    let mut counters = Counters::default();
    counters.plis(Direction::In, 7);
    shards[0].engine.publish(&counters);
    let mut registry = prometheus_client::registry::Registry::default();
    Metrics::register_many([indoors.clone(), outdoors.clone().per_worker(false)], &mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).expect("a string takes any text");
    assert!(text.ends_with("# EOF\n"));
    let both = samples(&text);
    let names: BTreeSet<_> = both.iter().map(|(series, _)| *series).collect();
    assert_eq!(names.len(), both.len(), "a series twice");
    let alone = |metrics: &Metrics| samples(&scrape(metrics)).len();
    assert_eq!(both.len(), alone(&indoors) + alone(&outdoors.per_worker(false)));
    assert_eq!(value(&text, r#"sfu_plis_total{engine="0",direction="in"}"#), 7.0);
    assert_eq!(value(&text, r#"sfu_plis_total{engine="1",direction="in"}"#), 0.0);
    assert_eq!(value(&text, r#"sfu_worker_handles{engine="0",worker="0"}"#), 0.0);
    let headers = text.lines().filter(|line| line.starts_with("# TYPE "));
    let headers: Vec<_> = headers.collect();
    assert_eq!(headers.len(), headers.iter().collect::<BTreeSet<_>>().len(), "a family twice");
}

#[test]
fn promtool_finds_nothing() {
    let (metrics, _shards) = fleet(2);
    let text = as_text_0_0_4(&scrape(&metrics));
    let child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        skipped("promtool is not installed (Debian package `prometheus`)");
        return;
    };
    let mut stdin = child.stdin.take().expect("stdin is piped");
    stdin.write_all(text.as_bytes()).expect("promtool reads to the end");
    drop(stdin);
    let output = child.wait_with_output().expect("promtool ends");
    let said = [output.stderr, output.stdout].concat();
    let said = String::from_utf8_lossy(&said);
    // What is measured in bits is named so: operators think of links, and promtool only knows base units.
    let known =
        |line: &&str| line.is_empty() || line.ends_with("_bits use base unit \"bytes\" instead of \"bits\"");
    let complaints: Vec<&str> = said.lines().filter(|line| !known(line)).collect();
    assert_eq!(complaints, [""; 0]);
}

/// Loud: the harness captures what `eprintln!` says, not what is written here.
fn skipped(why: &str) {
    writeln!(std::io::stderr(), "SKIPPED: {why}").expect("stderr is open");
}

/// promtool reads the older text format, where a counter's header carries `_total` and info is a
/// gauge.
fn as_text_0_0_4(openmetrics: &str) -> String {
    let mut types = BTreeMap::new();
    for line in openmetrics.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|l| l.split_once(' ')) {
            types.insert(name, kind);
        }
    }
    let mut text = String::new();
    for line in openmetrics.lines() {
        let mut words = line.splitn(4, ' ');
        let (Some("#"), Some(word), Some(name)) = (words.next(), words.next(), words.next()) else {
            writeln!(text, "{line}").unwrap();
            continue;
        };
        let (suffix, kind) = match types[name] {
            "counter" => ("_total", "counter"),
            "info" => ("_info", "gauge"),
            kind => ("", kind),
        };
        match word {
            "HELP" => writeln!(text, "# HELP {name}{suffix} {}", words.next().unwrap()).unwrap(),
            "TYPE" => writeln!(text, "# TYPE {name}{suffix} {kind}").unwrap(),
            _ => {}
        }
    }
    text
}

#[test]
fn metrics_md_is_the_catalogue() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    if !root.join("Cargo.lock").exists() {
        skipped("METRICS.md lives in the repository, not in the package");
        return;
    }
    let path = root.join("METRICS.md");
    let fresh = document();
    if std::env::var_os("UPDATE_METRICS_MD").is_some() {
        std::fs::write(&path, &fresh).expect("the repository is writable");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == fresh,
        "METRICS.md is stale; run: UPDATE_METRICS_MD=1 cargo test -p sluicegate metrics_md"
    );
}

/// METRICS.md.
fn document() -> String {
    let mut out = String::from(HEAD);
    let mut group = "";
    for family in CATALOGUE {
        if group != family.group {
            group = family.group;
            write!(out, "\n## {group}\n\n{TABLE}").unwrap();
        }
        let labels: Vec<_> = (0..family.labels.len()).map(|at| label_cell(family, at)).collect();
        let labels = labels.join("<br>");
        let (name, kind, help) = (family.name, type_name(family), family.help);
        writeln!(out, "| `sfu_{name}` | {kind} | {labels} | {help} |").unwrap();
    }
    out.push_str("\n## Drops that can occur\n\n");
    for direction in Direction::ALL {
        for reason in DropReason::ALL {
            let kinds = DropKind::ALL.into_iter();
            let kinds = kinds.filter(|kind| can_occur(direction, *kind, reason));
            let kinds: Vec<_> = kinds.map(|kind| format!("`{}`", kind.as_str())).collect();
            if !kinds.is_empty() {
                let (direction, reason) = (direction.as_str(), reason.as_str());
                writeln!(out, "- `{direction}`, `{reason}`: {}", kinds.join(" ")).unwrap();
            }
        }
    }
    let (signaling, signaling_buckets) = super::signaling::document();
    write!(out, "{SIGNALING}\n{TABLE}{signaling}").unwrap();
    write!(out, "{PROCESS}\n{TABLE}{}", super::process::document()).unwrap();
    out.push_str("\n## Buckets\n\nUpper bounds in the unit of the name; `+Inf` follows.\n\n");
    for family in CATALOGUE {
        if let Read::Histogram(bounds, _) = family.read {
            let bounds: Vec<_> = bounds.iter().map(|ns| (*ns as f64 / 1e9).to_string()).collect();
            writeln!(out, "- `sfu_{}`: {}", family.name, bounds.join(", ")).unwrap();
        }
    }
    out.push_str(&signaling_buckets);
    write!(
        out,
        "\n## Series\n\n{} series, and {} more per worker; what feature `signaling-metrics` adds depends on the endpoints.\n",
        promised(0).len(),
        promised(1).len() - promised(0).len(),
    )
    .unwrap();
    out
}

/// The values that occur in some combination.
fn label_cell(family: &Family, at: usize) -> String {
    let label = &family.labels[at];
    match label.values {
        Values::Closed(len, text) => {
            let lens = family.labels.iter().map(|label| match label.values {
                Values::Closed(len, _) => len,
                Values::Worker | Values::Build => 1,
            });
            let all = lens.fold(vec![vec![]], |done: Vec<Vec<usize>>, len| {
                let longer = |at: Vec<usize>| (0..len).map(move |value| [at.as_slice(), &[value]].concat());
                done.into_iter().flat_map(longer).collect()
            });
            let occurs = |value: &usize| all.iter().any(|row| row[at] == *value && family.occurs(row));
            let values = (0..len).filter(occurs).filter_map(text).map(|v| format!("`{v}`"));
            format!("{}: {}", label.name, values.collect::<Vec<_>>().join(" "))
        }
        Values::Worker => format!("{}: index", label.name),
        Values::Build => label.name.to_owned(),
    }
}

const HEAD: &str = "\
# Metrics

Generated from `sfu/src/metrics/catalogue.rs`; do not edit. To refresh it:
`UPDATE_METRICS_MD=1 cargo test -p sluicegate metrics_md`.

Every series below is exported from the first scrape on, counters at 0, for every combination of label
values that can occur. Labels are closed sets: none carries a room, a peer or an address. `direction` is
seen from the SFU: `in` is received. The `worker_*` families with a `worker` label are left out with
`Metrics::per_worker(false)`; `Metrics::register_many` adds the label `engine`. What the kernel tells (CPU
limits and pressure, a worker's waiting, dropped datagrams) is there where it tells.

Two words for packets that do not leave: *dropped* is unintended, *filtered* is the selection the SFU
made. The books balance, per kind and in every scrape: `fanout_packets_total =
egress_packets_total{transmission=\"first\"} + filtered_packets_total +
dropped_packets_total{direction=\"out\"} + queued_packets`. And whatever subscribers ask for ends as one
thing: `nacked_packets_total{direction=\"in\"} = rtx_requests_total`, but for repairs that wait in a queue, and
`plis_total{direction=\"in\"} + firs_total{direction=\"in\"} = keyframe_requests_total`.
";

const SIGNALING: &str = "
## Signalling

The host's own, with feature `signaling-metrics`: `Metrics::with_signaling` puts them beside the others. The host counts, the library names;
the demo uses all of them. A region and the names of endpoints are fixed at start, the other labels are closed sets: nothing that a client sends
reaches one. A request that no endpoint declares counts as `other`. A type of message in a direction that is unusual for it, and a status code
that the endpoint did not declare, have no series until they occur.
";

const PROCESS: &str = "
## Process

With feature `signaling-metrics`: `Metrics::with_process`. On Linux.
";

const TABLE: &str = "\
| name | type | labels | meaning |
|---|---|---|---|
";

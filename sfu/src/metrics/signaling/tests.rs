//! What signalling counts, held against what a scrape shows.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use super::*;
use crate::metrics::{Metrics, Shard};

fn signaling() -> SignalingMetrics {
    let table = [
        Endpoint::new("ws").route("/ws/{room}").answers(Method::Get, &[101, 401, 503]),
        Endpoint::new("session")
            .route("/whip/{room}/{id}")
            .route("/whep/{room}/{id}")
            .answers(Method::Delete, &[200, 404])
            .answers(Method::Patch, &[204]),
    ];
    SignalingMetrics::new("eu-1".parse().expect("a region"), table).expect("a good table")
}

fn mounted(signaling: &SignalingMetrics) -> Metrics {
    Metrics::new(vec![Arc::new(Shard::new())], Arc::default()).with_signaling(signaling.clone())
}

fn scrape(signaling: &SignalingMetrics) -> String {
    let mut text = String::new();
    mounted(signaling).encode_text(&mut text).expect("a string takes any text");
    text
}

/// `name{labels}` and value of what is not the SFU's.
fn samples(text: &str) -> Vec<(&str, f64)> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.starts_with("sfu_"));
    let pairs = lines.map(|line| line.rsplit_once(' ').expect("a sample has a value"));
    pairs.map(|(series, value)| (series, value.parse().expect("a value is a number"))).collect()
}

fn value(signaling: &SignalingMetrics, series: &str) -> f64 {
    let text = scrape(signaling);
    let found = samples(&text).into_iter().find(|(name, _)| *name == series);
    found.unwrap_or_else(|| panic!("no {series} in {text}")).1
}

#[test]
fn everything_is_there_at_zero_and_nothing_twice() {
    let text = scrape(&signaling());
    let samples = samples(&text);
    let series: BTreeSet<&str> = samples.iter().map(|(series, _)| *series).collect();
    assert_eq!(series.len(), samples.len(), "a series twice");
    for (series, value) in &samples {
        assert_eq!(*value, 0.0, "{series}");
        for pair in series.split(['{', '}', ',']).filter(|part| part.contains('=')) {
            let (name, value) = pair.split_once('=').expect("it has one");
            assert!(name == "le" || labels::is_value(value.trim_matches('"')), "{series}");
        }
    }
    for expected in [
        "signaling_websockets_active{region=\"eu-1\"}",
        "signaling_rooms_active{region=\"eu-1\"}",
        "signaling_messages_total{msg_type=\"join\",direction=\"in\"}",
        "signaling_messages_total{msg_type=\"other\",direction=\"in\"}",
        "signaling_messages_total{msg_type=\"slots\",direction=\"out\"}",
        "signaling_requests_total{op=\"join\",outcome=\"error\"}",
        "signaling_auth_failures_total{reason=\"expired\"}",
        "signaling_ice_negotiation_seconds_bucket{le=\"2.5\",status=\"failed\"}",
        "signaling_ice_negotiation_seconds_count{status=\"connected\"}",
        "http_requests_total{method=\"get\",endpoint=\"ws\",code=\"503\"}",
        "http_requests_total{method=\"other\",endpoint=\"other\",code=\"404\"}",
        "http_request_duration_seconds_bucket{le=\"0.5\",method=\"patch\",endpoint=\"session\"}",
        "http_request_duration_seconds_bucket{le=\"1.0\",method=\"other\",endpoint=\"other\"}",
    ] {
        assert!(series.contains(expected), "no {expected}");
    }
    let bounds = |name: &str, labels: &str| {
        let of = |series: &&&str| series.starts_with(name) && series.contains(labels);
        let bound = |series: &&str| series.split('"').nth(1).expect("le comes first").to_owned();
        let mut bounds: Vec<String> = series.iter().filter(of).map(bound).collect();
        bounds.sort_by(|a, b| a.len().cmp(&b.len()).then(a.cmp(b)));
        bounds
    };
    let ice = bounds("signaling_ice_negotiation_seconds_bucket", "status=\"failed\"");
    assert_eq!(ice, ["0.1", "0.5", "1.0", "2.5", "5.0", "+Inf", "0.05", "0.25", "10.0"]);
    let http = bounds("http_request_duration_seconds_bucket", "endpoint=\"ws\"");
    assert_eq!(http, ["0.1", "0.5", "1.0", "+Inf", "0.01", "0.05"]);
    assert!(text.contains("# TYPE signaling_messages counter\n"));
    assert!(text.contains("# TYPE signaling_rooms_active gauge\n"));
    assert!(text.contains("# UNIT http_request_duration_seconds seconds\n"));
}

#[test]
fn sockets_and_rooms_count_as_long_as_they_are_held() {
    let signaling = signaling();
    let open = || value(&signaling, "signaling_websockets_active{region=\"eu-1\"}");
    let rooms = || value(&signaling, "signaling_rooms_active{region=\"eu-1\"}");
    let (first, second, room) = (signaling.websocket(), signaling.websocket(), signaling.room());
    assert_eq!((open(), rooms()), (2.0, 1.0));
    drop(first);
    assert_eq!((open(), rooms()), (1.0, 1.0));
    let fault = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _held = second;
        panic!("the connection's task fails");
    }));
    assert!(fault.is_err());
    drop(room);
    assert_eq!((open(), rooms()), (0.0, 0.0));
}

#[test]
fn what_is_counted_is_shown() {
    let signaling = signaling();
    signaling.received(MessageType::Offer);
    signaling.sent(MessageType::Answer);
    signaling.sent(MessageType::Answer);
    signaling.auth_failed(AuthFailure::Expired);
    signaling.request(Op::Join, Outcome::Refused);
    signaling.ice_negotiated(IceStatus::Connected, Duration::from_millis(250));
    signaling.ice_negotiated(IceStatus::Failed, Duration::from_secs(30));
    signaling.http_request(Method::Delete, Some("/whep/{room}/{id}"), 200, Duration::from_millis(3));
    for (series, expected) in [
        ("signaling_messages_total{msg_type=\"offer\",direction=\"in\"}", 1.0),
        ("signaling_messages_total{msg_type=\"offer\",direction=\"out\"}", 0.0),
        ("signaling_messages_total{msg_type=\"answer\",direction=\"out\"}", 2.0),
        ("signaling_auth_failures_total{reason=\"expired\"}", 1.0),
        ("signaling_requests_total{op=\"join\",outcome=\"refused\"}", 1.0),
        ("signaling_ice_negotiation_seconds_bucket{le=\"0.1\",status=\"connected\"}", 0.0),
        ("signaling_ice_negotiation_seconds_bucket{le=\"0.25\",status=\"connected\"}", 1.0),
        ("signaling_ice_negotiation_seconds_bucket{le=\"10.0\",status=\"failed\"}", 0.0),
        ("signaling_ice_negotiation_seconds_bucket{le=\"+Inf\",status=\"failed\"}", 1.0),
        ("signaling_ice_negotiation_seconds_sum{status=\"failed\"}", 30.0),
        ("http_requests_total{method=\"delete\",endpoint=\"session\",code=\"200\"}", 1.0),
        ("http_request_duration_seconds_bucket{le=\"0.01\",method=\"delete\",endpoint=\"session\"}", 1.0),
    ] {
        assert_eq!(value(&signaling, series), expected, "{series}");
    }
}

#[test]
fn what_was_not_foreseen_is_shown_once_it_comes_and_never_as_the_client_wrote_it() {
    let signaling = signaling();
    let unusual = "signaling_messages_total{msg_type=\"bye\",direction=\"in\"}";
    assert!(!scrape(&signaling).contains(unusual));
    signaling.received(MessageType::Bye);
    assert_eq!(value(&signaling, unusual), 1.0);
    signaling.http_request(Method::Get, Some("/ws/{room}"), 500, Duration::ZERO);
    assert_eq!(value(&signaling, "http_requests_total{method=\"get\",endpoint=\"ws\",code=\"500\"}"), 1.0);
    signaling.http_request(Method::Get, Some("/ws/needle"), 200, Duration::ZERO);
    signaling.http_request(Method::named("NEEDLE"), None, 777, Duration::ZERO);
    let text = scrape(&signaling);
    assert!(!text.to_lowercase().contains("needle"), "{text}");
    let other = "http_requests_total{method=\"other\",endpoint=\"other\",code=";
    assert_eq!(value(&signaling, &format!("{other}\"200\"}}")), 1.0);
    assert_eq!(value(&signaling, &format!("{other}\"other\"}}")), 1.0);
}

#[test]
fn it_comes_out_wherever_the_sfus_metrics_do() {
    let signaling = signaling();
    signaling.received(MessageType::Join);
    let metrics = mounted(&signaling).with_process();
    let snapshot = metrics.snapshot();
    let joins = [("msg_type", "join"), ("direction", "in")];
    assert_eq!(snapshot.sum("signaling_messages_total", &joins), 1.0);
    assert!(snapshot.sum("process_threads", &[]) >= 1.0 || cfg!(not(target_os = "linux")));
    let (mut one, mut many) = (String::new(), String::new());
    encode(&mut one, &metrics.registry()).expect("a string takes any text");
    let mut registry = Registry::default();
    Metrics::register_many([mounted(&signaling), metrics], &mut registry);
    encode(&mut many, &registry).expect("a string takes any text");
    for text in [one, many] {
        assert_eq!(text.matches("# TYPE signaling_messages counter").count(), 1);
        assert_eq!(
            text.matches("# TYPE process_threads gauge").count(),
            usize::from(cfg!(target_os = "linux"))
        );
        assert!(
            text.contains("\nsignaling_messages_total{msg_type=\"join\",direction=\"in\"} 1\n"),
            "{text}"
        );
        assert!(text.contains("\nsfu_rooms"), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }
}

//! A scrape after much has happened: as large as before, and about nobody in particular.

use std::collections::BTreeSet;
use std::time::Duration;

use sluicegate::{By, MetricValue, PeerConfig, Sfu};
use tokio::time::{sleep, timeout};

use super::person::{PATIENCE, Person};
use super::{everyone, sfu};

/// `name{labels}` of every sample.
fn series(text: &str) -> BTreeSet<String> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect()
}

/// Each copy owed was sent, left out, dropped, or waits; each thing asked for came to something. In any scrape.
pub fn assert_balanced(sfu: &Sfu) {
    let snapshot = sfu.metrics().snapshot();
    for kind in ["audio", "video"] {
        let sum = |name: &str, labels: &[(&str, &str)]| {
            snapshot.sum(&format!("sfu_{name}"), &[labels, &[("kind", kind)]].concat())
        };
        let accounted = sum("egress_packets_total", &[("transmission", "first")])
            + sum("filtered_packets_total", &[])
            + sum("dropped_packets_total", &[("direction", "out")])
            + sum("queued_packets", &[]);
        assert_eq!(sum("fanout_packets_total", &[]), accounted, "{kind}");
        let asked = sum("nacked_packets_total", &[("direction", "in")]);
        assert!(sum("rtx_requests_total", &[]) <= asked, "{kind}: more outcomes than requests");
    }
    let asked =
        ["plis", "firs"].map(|what| snapshot.sum(&format!("sfu_{what}_total"), &[("direction", "in")]));
    assert_eq!(snapshot.sum("sfu_keyframe_requests_total", &[]), asked.iter().sum::<f64>());
}

#[tokio::test]
async fn three_hundred_rooms_leave_no_trace_in_the_labels() {
    let sfu = sfu().await;
    let scrape = || {
        let mut text = String::new();
        sfu.metrics().encode_text(&mut text).unwrap();
        text
    };
    let before = series(&scrape());
    let person = Person::watching(1).await;
    let offer = person.connection.create_offer(None).await.unwrap().sdp;
    let mut seen = 0;
    let mut ids = Vec::new();
    for turn in 0..30 {
        let mut peers = Vec::new();
        for n in 0..10 {
            let room = sfu.room(&format!("needle-room-{turn}-{n}")).unwrap();
            let config = PeerConfig::new(format!("needle-peer-{n}")).subscribe(everyone());
            let (peer, _) = room.join(config, &offer).await.unwrap();
            ids.push(peer.id().to_string());
            peers.push(peer);
        }
        if turn == 0 {
            // Labels do not say who; the API does.
            let top = sfu.top_rooms(3, By::Participants).await;
            assert_eq!(top.len(), 3);
            assert_eq!((top[0].name.as_str(), top[0].participants), ("needle-room-0-0", 1));
            let stats = peers[4].stats().await.expect("it is there");
            assert_eq!((stats.peer, stats.name.as_str()), (peers[4].id(), "needle-peer-4"));
            let room = peers[4].room();
            assert_eq!(room.stats().await.map(|room| room.participants), Some(1));
            let gone = peers.remove(4);
            gone.leave();
            assert_eq!(gone.stats().await, None);
            assert_eq!(room.stats().await, None);
        }
        if turn % 10 == 0 {
            sleep(Duration::from_millis(1_200)).await;
        }
        let text = scrape();
        assert!(!text.contains("needle"), "a name in a scrape");
        let now = series(&text);
        assert_eq!(now.symmetric_difference(&before).next(), None, "the series are the same");
        let rooms = sfu.metrics().snapshot().sum("sfu_rooms", &[]);
        seen = seen.max(rooms as u64);
    }
    assert!(seen >= 10, "{seen} rooms at most");
    let text = scrape();
    for id in &ids {
        assert!(!text.contains(&format!("\"{id}\"")), "the id {id} in a scrape");
    }
    assert!(before.len() <= 900 + 14, "{} series", before.len());
    let gone = async {
        while sfu.metrics().snapshot().sum("sfu_participants", &[]) > 0.0 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, gone).await.expect("everybody leaves");
    let snapshot = sfu.metrics().snapshot();
    assert_eq!(snapshot.sum("sfu_sessions_ended_total", &[("reason", "left")]), 300.0);
    assert_eq!(snapshot.sum("sfu_admissions_total", &[("scope", "join"), ("decision", "accept")]), 300.0);
    assert!(snapshot.sum("sfu_participant_seconds_total", &[]) > 1.0);
    let sizes = snapshot.family("sfu_rooms_by_size").expect("it is in the catalogue");
    assert!(sizes.samples.iter().all(|sample| sample.value == MetricValue::Count(0)), "{sizes:?}");
}

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::time::Duration;

use super::*;
use crate::config::PeerConfig;
use crate::error::{JoinError, RefusalReason};
use crate::saturation::admission::NodeState;
use crate::shell::handles::Peer;

/// A worker, and somebody who sends it datagrams from nowhere.
fn strangers(test: impl AsyncFnOnce(Sfu, &dyn Fn())) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("it has I/O and time").block_on(async {
        let sfu = start(Saturation::DryRun).await;
        let (socket, media) = (UdpSocket::bind("127.0.0.1:0").expect("a port is free"), sfu.announced()[0]);
        let knock = || assert_eq!(socket.send_to(&[0x80, 0, 0, 0], media).expect("loopback takes it"), 4);
        test(sfu.clone(), &knock).await;
        sfu.shutdown().await;
    });
}

async fn start(saturation: Saturation) -> Sfu {
    let config = Config::new("127.0.0.1:0".parse().expect("an address")).workers(1).saturation(saturation);
    Sfu::start(config).await.expect("loopback is there")
}

/// One that is alone.
fn alone(saturation: Saturation, test: impl AsyncFnOnce(Sfu)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("it has I/O and time").block_on(async {
        let sfu = start(saturation).await;
        test(sfu.clone()).await;
        sfu.shutdown().await;
    });
}

fn refusal(answer: Result<Room, RoomError>) -> Option<RefusalReason> {
    match answer {
        Ok(_) => None,
        Err(RoomError::Refused(refused)) => Some(refused.reason),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn an_empty_node_drains_at_once_and_twice_is_once() {
    alone(Saturation::DryRun, async |sfu| {
        let told = |state| sfu.metrics().snapshot().sum("sfu_node_state", &[("state", state)]);
        until(|| told("active") == 1.0).await;
        let room = sfu.room("open").expect("it is open");
        assert_eq!(sfu.drain(Duration::from_secs(3_600)).await, Ok(()));
        assert_eq!(sfu.drain(Duration::from_secs(60)).await, Ok(()));
        assert_eq!(refusal(sfu.room("another")), Some(RefusalReason::Draining));
        assert!(sfu.room("open").is_ok(), "one that is there is given");
        let report = sfu.admission();
        assert_eq!(report.state, NodeState::Drained);
        assert_eq!(report.rooms.map_err(|refused| refused.reason), Err(RefusalReason::Draining));
        until(|| told("drained") == 1.0).await;
        let refused = [("scope", "room"), ("decision", "reject"), ("reason", "draining")];
        until(|| sfu.metrics().snapshot().sum("sfu_admissions_total", &refused) == 1.0).await;
        assert_eq!(sfu.metrics().snapshot().sum("sfu_admissions_total", &[("decision", "accept")]), 1.0);
        let offer = "v=0";
        let refused = room.join(PeerConfig::new("late"), offer).await.err();
        assert!(matches!(refused, Some(JoinError::Refused(Refused { reason: RefusalReason::Draining, .. }))));
        until(|| sfu.metrics().snapshot().sum("sfu_joins_total", &[("reason", "draining")]) == 1.0).await;
    });
}

#[test]
fn a_drain_that_never_ends_ends_with_the_sfu() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("it has I/O and time").block_on(async {
        let controls = Arc::new(Controls::new(clock::now(), 0, true));
        let mut drain = controls.drain();
        drop(controls);
        assert!(drain.wait_for(|drain| *drain == Drain::Done).await.is_err());
    });
}

#[test]
fn a_floor_closes_the_door_and_is_told() {
    alone(Saturation::Act, async |sfu| {
        sfu.set_saturation_floor(SaturationLevel::LastN);
        until(|| sfu.load().saturation_level == SaturationLevel::LastN).await;
        assert_eq!(refusal(sfu.room("standup")), Some(RefusalReason::Saturated));
        let report = sfu.load();
        assert!(!report.accepts_rooms && !report.accepts_joins);
        let json = serde_json::to_value(&report).expect("it is plain data");
        assert_eq!((&json["saturation_level"], &json["state"]), (&4.into(), &"active".into()));
        assert_eq!(json["workers"].as_array().map(Vec::len), Some(1));
        assert_eq!(sfu.metrics().snapshot().sum("sfu_saturation_level", &[]), 4.0);
        let rooms = sfu.shared.rooms.len();
        assert_eq!(rooms, 0, "what is refused leaves nothing behind");
    });
}

#[test]
fn a_dry_run_says_the_level_and_refuses_nothing() {
    alone(Saturation::DryRun, async |sfu| {
        sfu.set_saturation_floor(SaturationLevel::AudioOnly);
        until(|| sfu.load().saturation_level == SaturationLevel::AudioOnly).await;
        assert!(sfu.room("standup").is_ok());
    });
}

#[test]
fn a_controller_that_fails_begins_anew_with_its_level() {
    alone(Saturation::DryRun, async |sfu| {
        sfu.set_saturation_floor(SaturationLevel::Cap);
        until(|| sfu.load().saturation_level >= SaturationLevel::Cap).await;
        let before = counts(&sfu);
        sfu.shared.controls.fail();
        let restarts = || sfu.metrics().snapshot().sum("sfu_saturation_controller_restarts_total", &[]);
        until(|| {
            assert!(sfu.load().saturation_level >= SaturationLevel::Cap);
            restarts() == 1.0
        })
        .await;
        assert_grown(&before, &counts(&sfu));
        let time = || sfu.metrics().snapshot().sum("sfu_saturation_seconds_total", &[]);
        let then = time();
        until(|| time() > then).await;
    });
}

#[test]
fn a_worker_that_began_anew_puts_the_node_on_probation() {
    strangers(async |sfu, knock| {
        knock();
        until(|| strangers_dropped(&sfu) == 1).await;
        // Known to the controller before the fault.
        until(|| sfu.metrics().snapshot().sum("sfu_node_state", &[("state", "active")]) == 1.0).await;
        assert!(sfu.shared.workers[0].commands.send(Command::Fail).is_ok());
        until(|| sfu.admission().state == NodeState::Probation).await;
    });
}

fn strangers_dropped(sfu: &Sfu) -> u64 {
    sfu.metrics().snapshot().sum("sfu_dropped_packets_total", &[("reason", "unknown_peer")]) as u64
}

async fn until(mut so: impl FnMut() -> bool) {
    for _ in 0..500 {
        if so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never came to be");
}

/// Every counter, and every count of a histogram.
fn counts(sfu: &Sfu) -> BTreeMap<String, f64> {
    let mut text = String::new();
    sfu.metrics().encode_text(&mut text).expect("a string takes any text");
    let samples = text.lines().filter_map(|line| line.rsplit_once(' '));
    let counts = samples.filter(|(series, _)| {
        let name = series.split('{').next().unwrap_or_default();
        ["_total", "_count", "_bucket"].iter().any(|end| name.ends_with(end))
    });
    counts.map(|(series, value)| (series.to_owned(), value.parse().expect("a number"))).collect()
}

fn assert_grown(before: &BTreeMap<String, f64>, after: &BTreeMap<String, f64>) {
    for (series, was) in before {
        assert!(after.get(series).is_some_and(|is| is >= was), "{series} fell from {was}");
    }
}

#[test]
fn a_worker_that_begins_anew_goes_on_counting() {
    strangers(async |sfu, knock| {
        (0..5).for_each(|_| knock());
        until(|| strangers_dropped(&sfu) == 5).await;
        let before = counts(&sfu);
        assert!(sfu.shared.workers[0].commands.send(Command::Fail).is_ok());
        knock();
        until(|| strangers_dropped(&sfu) == 6).await;
        let after = counts(&sfu);
        assert_grown(&before, &after);
        assert_eq!(after["sfu_worker_restarts_total"], 1.0);
        assert_eq!(after["sfu_panics_total{scope=\"worker\"}"], 1.0);
        assert!(sfu.room("still open").is_ok());
    });
}

#[test]
fn after_the_death_of_a_worker_a_scrape_answers() {
    strangers(async |sfu, knock| {
        (0..5).for_each(|_| knock());
        until(|| strangers_dropped(&sfu) == 5).await;
        let before = counts(&sfu);
        let worker = &sfu.shared.workers[0];
        assert!(worker.commands.send(Command::Die).is_ok());
        until(|| worker.commands.is_closed()).await;
        let after = counts(&sfu);
        assert_grown(&before, &after);
        assert_eq!(strangers_dropped(&sfu), 5);
        assert_eq!(sfu.metrics().snapshot().sum("sfu_worker_event_loop_lag_seconds", &[]), 0.0);
    });
}

const CAMERA: &str = include_str!("../../session/negotiate/golden/chromium-publish.sdp");

/// The next event of this kind.
async fn told<T>(peer: &mut Peer, wanted: impl Fn(PeerEvent) -> Option<T>) -> T {
    let waiting = async {
        loop {
            let event = peer.next_event().await.expect("the peer is in");
            if let Some(found) = wanted(event) {
                return found;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(5), waiting).await.expect("it is told")
}

#[test]
fn after_the_death_of_a_worker_the_others_forget_who_was_on_it() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("it has I/O and time").block_on(async {
        let mut config = Config::new("127.0.0.1:0".parse().expect("an address")).workers(2);
        config.limits.peers_together = 0;
        let sfu = Sfu::start(config.saturation(Saturation::DryRun)).await.expect("loopback is there");
        let room = sfu.room("large").expect("it is open");
        let (mut ada, _) = room.join(PeerConfig::new("ada"), CAMERA).await.expect("there is room");
        let (bob, _) = room.join(PeerConfig::new("bob"), CAMERA).await.expect("there is room");
        assert_ne!(ada.id().worker, bob.id().worker, "there are two workers, and each has one of them");
        let name = told(&mut ada, |event| match event {
            PeerEvent::PeerJoined(peer) => Some(peer.name),
            _ => None,
        });
        assert_eq!(name.await, "bob");
        assert!(sfu.shared.workers[usize::from(bob.id().worker)].commands.send(Command::Die).is_ok());
        let name = told(&mut ada, |event| match event {
            PeerEvent::PeerLeft(peer) => Some(peer.name),
            _ => None,
        });
        assert_eq!(name.await, "bob");
        let left = sfu.shared.workers[usize::from(ada.id().worker)].call(|engine, _| engine.replicas());
        assert_eq!(left.await, Some(0));
        sfu.shutdown().await;
    });
}

#[test]
fn a_scrape_answers_from_the_start_to_beyond_the_end() {
    strangers(async |sfu, knock| {
        let mut before = counts(&sfu);
        let (metrics, scraping) = (sfu.metrics(), Arc::new(AtomicBool::new(true)));
        let go_on = scraping.clone();
        let scraper = std::thread::spawn(move || {
            let mut scrapes = 0;
            while go_on.load(Relaxed) {
                let mut text = String::new();
                metrics.encode_text(&mut text).expect("a string takes any text");
                assert!(text.contains("sfu_build_info{"));
                scrapes += 1;
            }
            scrapes
        });
        for n in 1..=20 {
            knock();
            match n {
                ..=10 => until(|| strangers_dropped(&sfu) == n).await,
                11 => sfu.shutdown().await,
                _ => {}
            }
            let after = counts(&sfu);
            assert_grown(&before, &after);
            before = after;
        }
        scraping.store(false, Relaxed);
        assert!(scraper.join().expect("it does not panic") > 0);
        assert!(strangers_dropped(&sfu) >= 10, "the last counts are there");
    });
}

//! Hosts that do not read their events, block, panic, or call back in the middle of one: media goes on.

use std::sync::mpsc;
use std::time::Duration;

use rtc::peer_connection::sdp::RTCSessionDescription;
use sluicegate::{
    Audible, Bitrate, Config, DrainError, JoinError, LeaveReason, Limits, NodeState, Peer, PeerConfig,
    PeerEvent, RefusalReason, Room, Saturation, Sfu, TrackSource,
};
use tokio::time::timeout;

use super::person::{PATIENCE, Person, event};
use super::{LOOPBACK, everyone, scrape, sfu, talk};

/// Two who talk, and the events of whose seats nobody needs.
async fn talkers(room: &Room) -> (Vec<Person>, Vec<sluicegate::webrtc::Seat>) {
    let (mut people, mut seats) = (Vec::new(), Vec::new());
    for number in 1..=2 {
        let mut person = Person::publishing(number).await;
        seats.push(person.sit(room, PeerConfig::new(format!("person {number}"))).await.unwrap());
        person.connects().await;
        people.push(person);
    }
    (people, seats)
}

/// Enters as a player, with a bare handle: its events wait for whoever reads them.
async fn enter(person: &Person, room: &Room, name: &str) -> Peer {
    let connection = &person.connection;
    let offer = connection.create_offer(None).await.unwrap();
    let sdp = offer.sdp.clone();
    connection.set_local_description(offer).await.unwrap();
    let (peer, answer) = room.join(PeerConfig::new(name).subscribe(everyone()), &sdp).await.unwrap();
    connection.set_remote_description(RTCSessionDescription::answer(answer).unwrap()).await.unwrap();
    peer
}

/// How long two talk: ten seconds in the long form.
fn a_while() -> u64 {
    if std::env::var_os("SLUICEGATE_LONG").is_some() { 500 } else { 50 }
}

#[tokio::test]
async fn a_host_that_reads_no_events_harms_nobody() {
    let mut limits = Limits::default();
    limits.events = 4;
    let sfu = Sfu::start(
        Config::new((LOOPBACK, 0).into()).workers(1).limits(limits).saturation(Saturation::DryRun),
    )
    .await
    .unwrap();
    let room = sfu.room("deaf").unwrap();
    let (mut people, _seats) = talkers(&room).await;
    let deaf = Person::watching(2).await;
    let peer = enter(&deaf, &room, "deaf").await;
    for kbps in 1..=100 {
        peer.set_publish_cap(Bitrate::kbps(kbps)).await.expect("it is there");
    }
    let mut listeners = [deaf];
    listeners[0].connects().await;
    talk(&mut people, &mut listeners, a_while()).await;
    assert_eq!(listeners[0].heard().altered, 0);
    let first = timeout(PATIENCE, peer.next_event()).await.unwrap();
    assert!(matches!(first, Some(PeerEvent::Lagged(lost)) if lost > 90), "{first:?}");
    for _ in 0..4 {
        let next = timeout(PATIENCE, peer.next_event()).await.unwrap();
        assert!(next.is_some(), "the latest have been kept");
    }
}

#[tokio::test]
async fn a_host_that_blocks_in_an_event_harms_nobody() {
    let sfu = sfu().await;
    let room = sfu.room("blocked").unwrap();
    let (mut people, _seats) = talkers(&room).await;
    let watcher = Person::watching(2).await;
    let peer = enter(&watcher, &room, "blocked").await;
    // A thread of the host's that takes one event and then nothing for as long as others talk.
    let (go_on, blocked) = mpsc::channel::<()>();
    let (has_begun, begun) = tokio::sync::oneshot::channel();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            peer.next_event().await.unwrap();
            has_begun.send(()).unwrap();
            blocked.recv().unwrap();
            let mut events = 0;
            while !matches!(peer.next_event().await, Some(PeerEvent::Connected) | None) {
                events += 1;
            }
            peer.leave();
            events
        })
    });
    timeout(PATIENCE, begun).await.unwrap().unwrap();
    let mut listeners = [watcher];
    listeners[0].connects().await;
    talk(&mut people, &mut listeners, a_while()).await;
    go_on.send(()).unwrap();
    let joined = tokio::task::spawn_blocking(|| thread.join());
    timeout(PATIENCE, joined).await.unwrap().unwrap().expect("the host goes on where it was");
}

#[tokio::test]
async fn a_host_that_panics_in_an_event_loses_that_peer() {
    let sfu = sfu().await;
    let room = sfu.room("panic").unwrap();
    let (mut people, seats) = talkers(&room).await;
    let watcher = Person::watching(2).await;
    let peer = enter(&watcher, &room, "unlucky").await;
    let task = tokio::spawn(async move {
        let event = peer.next_event().await;
        panic!("the host cannot cope with {event:?}");
    });
    assert!(timeout(PATIENCE, task).await.unwrap().unwrap_err().is_panic());
    let gone = |event: &PeerEvent| matches!(event, PeerEvent::PeerLeft(info) if info.name == "unlucky");
    for seat in &seats {
        event(seat, "its handle is dropped with it", gone).await;
    }
    talk(&mut people, &mut [], 50).await;
    let mut text = String::new();
    sfu.metrics().encode_text(&mut text).unwrap();
    assert_eq!(scrape::sum(&text, "sfu_panics_total", &[]), 0, "it was not ours");
}

#[tokio::test]
async fn a_host_may_call_back_in_the_middle_of_an_event() {
    let sfu = sfu().await;
    let room = sfu.room("again").unwrap();
    let (mut people, seats) = talkers(&room).await;
    let watcher = Person::watching(2).await;
    let peer = enter(&watcher, &room, "host").await;
    let again = async {
        let mut guests = Vec::new();
        let mut leaving = false;
        while let Some(event) = peer.next_event().await {
            // Everything a host can call, on itself and on others, from where it hears of things.
            let capped = peer.set_publish_cap(Bitrate::kbps(300)).await;
            assert!(capped.is_ok() || leaving, "it is there: {capped:?}");
            room.set_audible(Audible::Loudest(2)).await;
            room.set_last_n(1).await;
            assert!(peer.set_last_n(2).await || leaving);
            assert!(!peer.pin("nothing", true).await && !peer.set_source("0", TrackSource::Screen).await);
            peer.pin("1", true).await;
            peer.resync();
            sfu.room("another").unwrap();
            match event {
                PeerEvent::Connected | PeerEvent::PeerJoined(_) if guests.len() < 3 => {
                    let guest = Person::watching(1).await;
                    guests.push((enter(&guest, &room, "guest").await, guest));
                }
                PeerEvent::PeerLeft(_) => {
                    leaving = true;
                    peer.leave();
                }
                PeerEvent::Left(reason) => return reason,
                _ if guests.len() == 3 => guests.truncate(2),
                _ => {}
            }
        }
        panic!("it ended without a word");
    };
    assert_eq!(timeout(PATIENCE, again).await.expect("nothing waits for itself"), LeaveReason::Left);
    talk(&mut people, &mut [], 50).await;
    drop(seats);
}

#[tokio::test]
async fn who_is_here_hears_that_the_node_is_left_and_may_stay() {
    let sfu = sfu().await;
    let room = sfu.room("last").unwrap();
    let mut person = Person::watching(1).await;
    let peer = enter(&person, &room, "last").await;
    person.connects().await;
    let late = sfu.drain(Duration::from_millis(400)).await;
    assert_eq!(late, Err(DrainError::Deadline { remaining: 1 }));
    let told = async {
        loop {
            match peer.next_event().await {
                Some(PeerEvent::Draining { deadline }) => return deadline,
                Some(PeerEvent::Left(reason)) => panic!("thrown out: {reason:?}"),
                _ => {}
            }
        }
    };
    let deadline = timeout(PATIENCE, told).await.unwrap();
    assert!(deadline <= Duration::from_millis(400), "{deadline:?}");
    let newcomer = Person::watching(1).await;
    let offer = newcomer.connection.create_offer(None).await.unwrap();
    let refused = room.join(PeerConfig::new("late"), &offer.sdp).await.err();
    let Some(JoinError::Refused(refused)) = refused else { panic!("{refused:?}") };
    assert_eq!(refused.reason, RefusalReason::Draining);
    peer.leave();
    assert_eq!(timeout(PATIENCE, sfu.drain(Duration::from_secs(3_600))).await.unwrap(), Ok(()));
    assert_eq!(sfu.admission().state, NodeState::Drained);
}

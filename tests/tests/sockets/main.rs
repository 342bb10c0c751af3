//! Real clients (`webrtc`) over real sockets on loopback: against an SFU in this process, and against the
//! examples as child processes.

mod bots;
mod doors;
mod faulty;
mod host;
mod messages;
mod person;
mod resume;
mod scrapes;
mod served;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use sluicegate::webrtc::SeatError;
use sluicegate::{
    Bitrate, By, CapCause, Config, JoinError, LeaveReason, Limits, PeerConfig, PeerEvent, RoomError,
    Saturation, Sfu, StartError, Subscribe, TrackFilter,
};
use sluicegate_benches::clock;
use sluicegate_tests::scrape;
use tokio::time::{interval, timeout};

use person::{Heard, PATIENCE, Person, event};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

async fn sfu() -> Sfu {
    // What the machine does beside us must not decide who may join.
    let config = Config::new((LOOPBACK, 0).into()).workers(1).saturation(Saturation::DryRun);
    Sfu::start(config).await.unwrap()
}

fn everyone() -> Subscribe {
    Subscribe::Slots(TrackFilter::default())
}

/// Publishers speak, 50 times a second, until everybody has heard enough of everybody else.
async fn talk(speakers: &mut [Person], listeners: &mut [Person], enough: u64) {
    let mut clock = interval(Duration::from_millis(20));
    let numbers = 1..=speakers.len() as u32;
    let hears = |heard: &Heard, number: u32| {
        heard.by_publisher.get(&number).is_some_and(|count| count.audio >= enough && count.video >= enough)
    };
    let conversation = async {
        loop {
            let spoken = numbers.clone().zip(&*speakers).all(|(own, person)| {
                numbers.clone().filter(|number| *number != own).all(|number| hears(&person.heard(), number))
            });
            let listened = listeners.iter().all(|person| numbers.clone().all(|n| hears(&person.heard(), n)));
            if spoken && listened {
                return;
            }
            clock.tick().await;
            for person in &mut *speakers {
                person.say().await;
            }
        }
    };
    if timeout(PATIENCE, conversation).await.is_err() {
        let heard: Vec<Heard> = speakers.iter().chain(&*listeners).map(Person::heard).collect();
        panic!("not everybody has heard enough: {heard:#?}");
    }
}

/// Waits until the SFU has counted what clients sent and received, kind by kind.
async fn assert_counted(sfu: &Sfu, speakers: &[Person], listeners: &[Person]) {
    let mut clock = interval(Duration::from_millis(20));
    let deadline = clock::now() + PATIENCE;
    loop {
        clock.tick().await;
        let mut text = String::new();
        sfu.metrics().encode_text(&mut text).unwrap();
        let packets = |way: &str, kind| {
            let name = format!("sfu_{way}_packets_total");
            scrape::sum(&text, &name, &[("kind", kind), ("transmission", "first")])
        };
        let counted =
            ["audio", "video"].map(|kind| (kind, packets("ingress", kind), packets("egress", kind)));
        let heard: Vec<Heard> = speakers.iter().chain(listeners).map(Person::heard).collect();
        let counts = || heard.iter().flat_map(|heard| heard.by_publisher.values());
        let seen = [
            ("audio", speakers.iter().map(|p| p.sent.audio).sum(), counts().map(|count| count.audio).sum()),
            ("video", speakers.iter().map(|p| p.sent.video).sum(), counts().map(|count| count.video).sum()),
        ];
        if counted == seen || clock::now() >= deadline {
            assert_eq!(counted, seen, "kind, ingress = sent, egress = received");
            assert!(heard.iter().all(|heard| heard.altered == 0), "nothing is altered");
            scrapes::assert_balanced(sfu);
            return;
        }
    }
}

#[tokio::test]
async fn what_one_publishes_the_other_watches() {
    let sfu = sfu().await;
    let room = sfu.room("stage").unwrap();
    let mut watcher = Person::watching(1).await;
    let viewer = watcher.sit(&room, PeerConfig::new("viewer").subscribe(everyone())).await.unwrap();
    let mut publisher = Person::publishing(1).await;
    let config = PeerConfig::new("publisher").subscribe(Subscribe::Nothing);
    let seat = publisher.sit(&room, config).await.unwrap();
    event(
        &viewer,
        "the publisher is announced",
        |event| matches!(event, PeerEvent::PeerJoined(info) if info.name == "publisher"),
    )
    .await;
    watcher.connects().await;
    publisher.connects().await;
    event(&viewer, "connected", |event| *event == PeerEvent::Connected).await;

    let (mut speakers, mut listeners) = ([publisher], [watcher]);
    talk(&mut speakers, &mut listeners, 50).await;
    assert_counted(&sfu, &speakers, &listeners).await;

    seat.peer().leave();
    event(&seat, "left", |event| *event == PeerEvent::Left(LeaveReason::Left)).await;
    assert_eq!(seat.next_event().await, None, "nothing follows");
    event(
        &viewer,
        "the publisher has left",
        |event| matches!(event, PeerEvent::PeerLeft(info) if info.name == "publisher"),
    )
    .await;
}

/// Two workers, each with two of the four: their ports say where they are.
#[tokio::test]
async fn one_room_on_two_workers_is_one_room() {
    let mut limits = Limits::default();
    limits.peers_together = 0;
    let config = Config::new((LOOPBACK, 0).into()).workers(2).limits(limits);
    let sfu = Sfu::start(config.saturation(Saturation::DryRun)).await.unwrap();
    let room = sfu.room("large").unwrap();
    let mut people = Vec::new();
    let mut seats = Vec::new();
    for (name, number) in [("ada", 1), ("bob", 2), ("eve", 3)] {
        let person = Person::new("127.0.0.1:0", number, true, 2).await;
        seats.push(person.sit(&room, PeerConfig::new(name).subscribe(everyone())).await.unwrap());
        people.push(person);
    }
    let viewer = Person::watching(3).await;
    seats.push(viewer.sit(&room, PeerConfig::new("viewer").subscribe(everyone())).await.unwrap());
    let mut listeners = [viewer];
    for person in people.iter_mut().chain(&mut listeners) {
        person.connects().await;
    }
    talk(&mut people, &mut listeners, 50).await;
    assert_counted(&sfu, &people, &listeners).await;
    for worker in ["0", "1"] {
        let here = sfu.metrics().snapshot().sum("sfu_worker_handles", &[("worker", worker)]);
        assert_eq!(here, 2.0, "on worker {worker}");
    }
    let stats = room.stats().await.expect("there is somebody in it");
    assert_eq!((stats.participants, stats.tracks), (4, 6), "it is one room");
    assert_eq!(sfu.top_rooms(9, By::Participants).await.len(), 1);
    sfu.shutdown().await;
}

/// A scrape, beside what twenty clients counted themselves: equal to the packet.
#[tokio::test]
async fn a_scrape_is_what_twenty_clients_counted() {
    let sfu = sfu().await;
    let (mut speakers, mut listeners, mut seats) = (Vec::new(), Vec::new(), Vec::new());
    let room = sfu.room("twenty").unwrap();
    for number in 1..=4 {
        let person = Person::publishing(number).await;
        let config = PeerConfig::new(format!("speaker {number}")).subscribe(Subscribe::Nothing);
        seats.push(person.sit(&room, config).await.unwrap());
        speakers.push(person);
    }
    for number in 0..16 {
        let person = Person::watching(4).await;
        let config = PeerConfig::new(format!("listener {number}")).subscribe(everyone());
        seats.push(person.sit(&room, config).await.unwrap());
        listeners.push(person);
    }
    for person in speakers.iter_mut().chain(&mut listeners) {
        person.connects().await;
    }
    let mut clock = interval(Duration::from_millis(20));
    for _ in 0..100 {
        clock.tick().await;
        for person in &mut speakers {
            person.say().await;
        }
    }
    assert_counted(&sfu, &speakers, &listeners).await;
    let heard: u64 = listeners
        .iter()
        .flat_map(|person| person.heard().by_publisher.into_values())
        .map(|it| it.audio)
        .sum();
    assert_eq!(heard, 4 * 16 * 100, "all of it, by everybody");
}

#[tokio::test]
async fn ipv6_carries_media_too() {
    let v6: SocketAddr = "[::1]:0".parse().unwrap();
    let sfu = Sfu::start(Config::new(v6).workers(1).saturation(Saturation::DryRun)).await.unwrap();
    let room = sfu.room("six").unwrap();
    let watcher = Person::new("[::1]:0", 0, false, 1).await;
    let _viewer = watcher.sit(&room, PeerConfig::new("viewer").subscribe(everyone())).await.unwrap();
    let publisher = Person::new("[::1]:0", 1, true, 0).await;
    let _seat = publisher.sit(&room, PeerConfig::new("publisher")).await.unwrap();
    let (mut speakers, mut listeners) = ([publisher], [watcher]);
    for person in speakers.iter_mut().chain(&mut listeners) {
        person.connects().await;
    }
    talk(&mut speakers, &mut listeners, 50).await;
    assert_counted(&sfu, &speakers, &listeners).await;
}

#[tokio::test]
async fn three_people_call_and_one_hangs_up() {
    let sfu = sfu().await;
    let room = sfu.room("call").unwrap();
    let mut people = Vec::new();
    let mut seats = Vec::new();
    for number in 1..=3 {
        let person = Person::publishing(number).await;
        seats.push(person.sit(&room, PeerConfig::new(format!("person {number}"))).await.unwrap());
        people.push(person);
    }
    for person in &mut people {
        person.connects().await;
    }
    talk(&mut people, &mut [], 50).await;
    assert_counted(&sfu, &people, &[]).await;

    drop(seats.pop());
    for seat in &seats {
        event(
            seat,
            "person 3 has left",
            |event| matches!(event, PeerEvent::PeerLeft(info) if info.name == "person 3"),
        )
        .await;
    }
    people.pop();
    let before: Vec<Heard> = people.iter().map(Person::heard).collect();
    let more = before.iter().flat_map(|heard| heard.by_publisher.values()).map(|count| count.video).max();
    talk(&mut people, &mut [], more.unwrap() + 10).await;
}

#[tokio::test]
async fn a_cap_is_confirmed() {
    let sfu = sfu().await;
    let room = sfu.room("capped").unwrap();
    let person = Person::publishing(1).await;
    let seat = person.sit(&room, PeerConfig::new("loud")).await.unwrap();
    seat.peer().set_publish_cap(Bitrate::kbps(300)).await.expect("it is there");
    let expected = PeerEvent::CapChanged { cap: Some(Bitrate::kbps(300)), cause: CapCause::Host };
    event(&seat, "the cap", |event| *event == expected).await;
    seat.peer().set_publish_cap(None).await.expect("it is there");
    let lifted = PeerEvent::CapChanged { cap: None, cause: CapCause::Host };
    event(&seat, "the cap is lifted", |event| *event == lifted).await;
}

#[tokio::test]
async fn shutting_down_says_goodbye() {
    let sfu = sfu().await;
    let room = sfu.room("last").unwrap();
    let mut person = Person::publishing(1).await;
    let seat = person.sit(&room, PeerConfig::new("ada")).await.unwrap();
    person.connects().await;
    timeout(PATIENCE, sfu.shutdown()).await.expect("it ends");
    event(&seat, "goodbye", |event| *event == PeerEvent::Left(LeaveReason::Shutdown)).await;
    assert_eq!(sfu.room("another").unwrap_err(), RoomError::Shutdown);
    let late = Person::publishing(2).await;
    let refused = late.sit(&room, PeerConfig::new("late")).await;
    assert!(matches!(refused, Err(SeatError::Join(JoinError::Shutdown))), "{refused:?}");
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    let holder = UdpSocket::bind((LOOPBACK, 0)).unwrap();
    let taken = holder.local_addr().unwrap();
    let error = Sfu::start(Config::new(taken).workers(1)).await.err();
    let Some(StartError::Bind { address, source }) = error else { panic!("{error:?}") };
    assert_eq!((address, source.kind()), (taken, std::io::ErrorKind::AddrInUse));

    let wildcard: SocketAddr = "0.0.0.0:0".parse().unwrap();
    let error = Sfu::start(Config::new(wildcard).workers(1)).await.err();
    assert!(matches!(error, Some(StartError::NothingToAnnounce { media }) if media == wildcard), "{error:?}");

    let error = Sfu::start(Config::new((LOOPBACK, 0).into()).workers(0)).await.err();
    assert!(matches!(error, Some(StartError::Workers { workers: 0, port: 0 })), "{error:?}");

    let v6: IpAddr = "::1".parse().unwrap();
    let error = Sfu::start(Config::new((LOOPBACK, 0).into()).workers(1).announce(v6)).await.err();
    assert!(
        matches!(error, Some(StartError::AddressFamily { announced, .. }) if announced == v6),
        "{error:?}"
    );
}

//! Clients who come back with a token: as who they were, once, and nobody else.

use std::sync::Arc;
use std::time::Duration;

use rtc::peer_connection::sdp::RTCSessionDescription;
use sluicegate::{
    Bitrate, CapScope, Config, JoinError, LeaveReason, MemoryStore, NegotiateError, Peer, PeerConfig,
    PeerEvent, Resume, ResumeError, ResumeToken, ResumeTokenError, Saturation, SaturationLevel, SessionKey,
    SessionStore, Sfu, StoreError, StoreFuture,
};
use sluicegate_tests::world::dice::Dice;
use tokio::time::timeout;

use super::host::{enter, talkers};
use super::person::{PATIENCE, Person, event};
use super::{LOOPBACK, everyone, scrape, sfu, talk};

fn config() -> Config {
    Config::new((LOOPBACK, 0).into()).workers(1).saturation(Saturation::DryRun)
}

/// Somebody who watches, seated, connected, and the offer of whose connection can be made again and again.
async fn watcher(sfu: &Sfu, room: &str, name: &str) -> (Person, Peer) {
    let mut person = Person::watching(2).await;
    let peer = enter(&person, &sfu.room(room).unwrap(), name).await;
    person.connects().await;
    (person, peer)
}

async fn offer_of(person: &Person) -> String {
    let offer = person.connection.create_offer(None).await.unwrap();
    let sdp = offer.sdp.clone();
    person.connection.set_local_description(offer).await.unwrap();
    sdp
}

async fn take_answer(person: &Person, answer: String) {
    person.connection.set_remote_description(RTCSessionDescription::answer(answer).unwrap()).await.unwrap();
}

/// The next such event of a handle.
async fn hears(peer: &Peer, what: &str, wanted: impl Fn(&PeerEvent) -> bool) -> PeerEvent {
    let search = async {
        while let Some(event) = peer.next_event().await {
            if wanted(&event) {
                return event;
            }
        }
        panic!("its events ended before: {what}");
    };
    timeout(PATIENCE, search).await.unwrap_or_else(|_| panic!("no such event: {what}"))
}

#[tokio::test]
async fn signalling_breaks_and_the_call_goes_on() {
    let sfu = sfu().await;
    let room = sfu.room("call").unwrap();
    let (mut people, _seats) = talkers(&room).await;
    let (person, before) = watcher(&sfu, "call", "wim").await;
    let mut listeners = [person];
    talk(&mut people, &mut listeners, 20).await;
    let token = before.resume_token().await.unwrap();
    before.orphaned();
    talk(&mut people, &mut listeners, 60).await;

    let offer = offer_of(&listeners[0]).await;
    let resume = Resume::new(token.to_string()).room("call").in_place();
    let (now, answer) = sfu.resume(resume, &offer).await.unwrap();
    take_answer(&listeners[0], answer).await;
    assert_eq!((now.id(), now.name(), now.room().name()), (before.id(), "wim", "call"));
    talk(&mut people, &mut listeners, 100).await;
    assert_eq!(listeners[0].heard().altered, 0);

    // The old handle has ended, and does nothing any more.
    hears(&before, "taken over", |event| *event == PeerEvent::TakenOver).await;
    assert_eq!(before.next_event().await, None);
    assert_eq!(before.offer(&offer).await, Err(NegotiateError::Gone));
    assert!(matches!(before.resume_token().await, Err(ResumeTokenError::Gone)));
    before.leave();
    drop(before);
    hears(&now, "who is here", |event| matches!(event, PeerEvent::PeerJoined(_))).await;
    hears(&now, "what it gets", |event| matches!(event, PeerEvent::Slots(slots) if slots.len() == 4)).await;
    hears(&now, "it is connected", |event| *event == PeerEvent::Connected).await;
    talk(&mut people, &mut listeners, 120).await;
    assert!(now.stats().await.is_some(), "it is there");

    // Once.
    let offer = offer_of(&listeners[0]).await;
    assert!(matches!(sfu.resume(&token, &offer).await, Err(ResumeError::Used)));
    let mut text = String::new();
    sfu.metrics().encode_text(&mut text).unwrap();
    assert_eq!(scrape::sum(&text, "sfu_orphaned_handles", &[]), 0);
    assert_eq!(scrape::sum(&text, "sfu_sessions_ended_total", &[]), 0);
}

#[tokio::test]
async fn a_new_connection_takes_the_place_of_the_old() {
    let sfu = sfu().await;
    let room = sfu.room("call").unwrap();
    let (mut people, seats) = talkers(&room).await;
    let (old, before) = watcher(&sfu, "call", "wim").await;
    before.set_publish_cap(Bitrate::kbps(300)).await.unwrap();
    let token = before.resume_token().await.unwrap();
    // After the token, and it holds all the same: the peer is here still.
    before.set_downlink_cap(Bitrate::mbps(5)).await.unwrap();
    before.orphaned();

    let new = Person::watching(2).await;
    let offer = offer_of(&new).await;
    let gone = sfu.resume(Resume::new(token.to_string()).in_place(), &offer).await;
    assert!(matches!(gone, Err(ResumeError::ConnectionGone)), "{gone:?}");
    let (now, answer) = sfu.resume(&token, &offer).await.expect("the token is as good as it was");
    take_answer(&new, answer).await;
    assert_eq!(now.id(), before.id());
    drop((old, before));
    let mut listeners = [new];
    listeners[0].connects().await;
    talk(&mut people, &mut listeners, 50).await;
    let caps = now.explain_cap().await.unwrap();
    let of_peer =
        |caps: &[sluicegate::Cap]| caps.iter().find(|cap| cap.scope == CapScope::Peer).map(|cap| cap.bitrate);
    assert_eq!(of_peer(&caps.publish), Some(Bitrate::kbps(300)));
    assert_eq!(of_peer(&caps.downlink), Some(Bitrate::mbps(5)));
    now.leave();
    // The first thing that the others hear of it since it came.
    for seat in &seats {
        let his = |event: &PeerEvent| match event {
            PeerEvent::PeerLeft(info) => info.name == "wim",
            _ => false,
        };
        event(seat, "it has left", his).await;
    }
}

#[tokio::test]
async fn who_is_gone_joins_anew_as_who_it_was() {
    let sfu = sfu().await;
    let (mut old, before) = watcher(&sfu, "call", "wim").await;
    before.set_publish_cap(Bitrate::kbps(300)).await.unwrap();
    let token = before.resume_token().await.unwrap();
    // Its process ends, and says so to whom it can.
    old.connection.close().await.unwrap();
    hears(&before, "it is gone", |event| matches!(event, PeerEvent::Left(LeaveReason::Closed))).await;
    drop(before);
    old = Person::watching(2).await;
    let offer = offer_of(&old).await;
    let (now, answer) = sfu.resume(&token, &offer).await.unwrap();
    take_answer(&old, answer).await;
    old.connects().await;
    assert_eq!((now.name(), now.room().name()), ("wim", "call"));
    let caps = now.explain_cap().await.unwrap();
    assert_eq!(caps.binds_publish().map(|cap| cap.bitrate), Some(Bitrate::kbps(300)));
}

#[tokio::test]
async fn what_is_wrong_with_a_token_is_said() {
    let sfu = Sfu::start(config().resume_within(Duration::from_millis(300))).await.unwrap();
    let (person, peer) = watcher(&sfu, "call", "wim").await;
    let offer = offer_of(&person).await;
    let came = |resume: Resume| {
        let (sfu, offer) = (sfu.clone(), offer.clone());
        async move { sfu.resume(resume, &offer).await.map(|_| ()) }
    };
    let token = peer.resume_token().await.unwrap();
    let elsewhere = came(Resume::from(&token).room("another")).await;
    assert!(matches!(elsewhere, Err(ResumeError::OtherRoom)), "{elsewhere:?}");
    let bad = sfu.resume(&token, "hello").await.map(|_| ());
    assert!(matches!(bad, Err(ResumeError::Offer(_))), "{bad:?}");
    for garbage in ["", "x", "ü", &"A".repeat(1 << 20), &token.to_string()[1..]] {
        let unknown = came(Resume::new(garbage)).await;
        assert!(matches!(unknown, Err(ResumeError::Unknown)), "{unknown:?}");
    }
    tokio::time::sleep(Duration::from_millis(301)).await;
    let late = came(Resume::from(&token)).await;
    assert!(matches!(late, Err(ResumeError::Expired)), "{late:?}");

    // The latest two are good: a third revokes the first.
    let tokens: Vec<ResumeToken> = futures_util::future::join_all((0..3).map(|_| peer.resume_token()))
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    let good =
        futures_util::future::join_all(tokens.iter().map(|token| came(Resume::from(token).room("x")))).await;
    let good = good.iter().filter(|came| matches!(came, Err(ResumeError::OtherRoom))).count();
    assert_eq!(good, 2);
    // A peer that is let go takes its tokens along.
    peer.leave();
    for token in &tokens {
        let revoked = came(Resume::from(token)).await;
        assert!(matches!(revoked, Err(ResumeError::Revoked)), "{revoked:?}");
    }
    sfu.shutdown().await;
    assert!(matches!(peer.resume_token().await, Err(ResumeTokenError::Gone)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_who_come_at_the_same_time_one_comes_in() {
    let sfu = Sfu::start(config().session_store(Slow(MemoryStore::new()))).await.unwrap();
    let (person, mut peer) = watcher(&sfu, "call", "wim").await;
    let id = peer.id();
    for _ in 0..20 {
        let token = peer.resume_token().await.unwrap();
        let offer = offer_of(&person).await;
        let come = || {
            let (sfu, token, offer) = (sfu.clone(), token.clone(), offer.clone());
            tokio::spawn(async move { sfu.resume(&token, &offer).await })
        };
        let all: Vec<_> = (0..32).map(|_| come()).collect();
        let mut came = Vec::new();
        for one in all {
            match one.await.unwrap() {
                Ok(in_room) => came.push(in_room),
                Err(ResumeError::Used) => {}
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(came.len(), 1);
        let (now, answer) = came.remove(0);
        take_answer(&person, answer).await;
        // The next round goes with the handle that holds it.
        peer = now;
        assert_eq!(peer.id(), id);
    }
    assert!(peer.stats().await.is_some());
}

#[tokio::test]
async fn who_loses_one_node_comes_back_on_another() {
    let store = Arc::new(Slow(MemoryStore::new()));
    let nodes = [
        Sfu::start(config().session_store(store.clone())).await.unwrap(),
        Sfu::start(config().session_store(store)).await.unwrap(),
    ];
    let (old, before) = watcher(&nodes[0], "call", "wim").await;
    before.set_publish_cap(Bitrate::kbps(300)).await.unwrap();
    let token = before.resume_token().await.unwrap();
    let new = Person::watching(2).await;
    let offer = offer_of(&new).await;
    let (now, answer) = nodes[1].resume(Resume::from(&token).room("call"), &offer).await.unwrap();
    take_answer(&new, answer).await;
    let mut listeners = [new];
    listeners[0].connects().await;
    assert_eq!((now.name(), now.room().name()), ("wim", "call"));
    let caps = now.explain_cap().await.unwrap();
    assert_eq!(caps.binds_publish().map(|cap| cap.bitrate), Some(Bitrate::kbps(300)));
    let offer = offer_of(&old).await;
    for node in &nodes {
        assert!(matches!(node.resume(&token, &offer).await, Err(ResumeError::Used)));
    }
    // What one node revokes with the store's help, the other refuses.
    let token = now.resume_token().await.unwrap();
    now.revoke_resume_tokens().await.unwrap();
    assert!(matches!(nodes[0].resume(&token, &offer).await, Err(ResumeError::Unknown)));
}

#[tokio::test]
async fn a_store_that_fails_admits_nobody_and_harms_nobody() {
    let sfu = Sfu::start(config().session_store(Broken)).await.unwrap();
    let room = sfu.room("call").unwrap();
    let (mut people, _seats) = talkers(&room).await;
    let (person, peer) = watcher(&sfu, "call", "wim").await;
    assert!(matches!(peer.resume_token().await, Err(ResumeTokenError::Store(_))));
    let offer = offer_of(&person).await;
    let token = "A".repeat(54);
    assert!(matches!(sfu.resume(token.as_str(), &offer).await, Err(ResumeError::Store(_))));
    talk(&mut people, &mut [person], 30).await;
}

#[tokio::test]
async fn however_much_is_given_up_who_was_here_may_come_back() {
    let sfu = Sfu::start(config().saturation(Saturation::Act)).await.unwrap();
    let (person, peer) = watcher(&sfu, "call", "wim").await;
    let token = peer.resume_token().await.unwrap();
    sfu.set_saturation_floor(SaturationLevel::AudioOnly);
    let newcomer = Person::watching(1).await;
    let theirs = offer_of(&newcomer).await;
    let room = sfu.room("call").unwrap();
    // The floor holds from the controller's next decision on.
    let refused = async {
        loop {
            match room.join(PeerConfig::new("late").subscribe(everyone()), &theirs).await {
                Err(JoinError::Refused(refused)) => return refused.reason,
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    timeout(PATIENCE, refused).await.expect("nobody is let in");
    let offer = offer_of(&person).await;
    let (now, answer) = sfu.resume(&token, &offer).await.expect("who was here is");
    take_answer(&person, answer).await;
    // While the node is left, too.
    let token = now.resume_token().await.unwrap();
    let draining = sfu.clone();
    let drain = tokio::spawn(async move { draining.drain(Duration::from_millis(100)).await });
    tokio::time::sleep(Duration::from_millis(80)).await;
    let offer = offer_of(&person).await;
    let (last, _) = sfu.resume(&token, &offer).await.expect("and here is where it may be still");
    hears(&last, "it is told", |event| matches!(event, PeerEvent::Draining { .. })).await;
    last.leave();
    let _ = drain.await;
}

/// T27: forged, mangled, spliced, used, revoked and foreign tokens, a million of them; and those that are good stay so.
#[tokio::test]
async fn of_a_million_wrong_tokens_none_lets_anybody_in() {
    const ATTEMPTS: u64 = 1_000_000;
    let sfu = sfu().await;
    let (person, peer) = watcher(&sfu, "call", "wim").await;
    let offer = offer_of(&person).await;
    // One that was used, one that was revoked, and two that are good.
    let used = peer.resume_token().await.unwrap();
    let (peer, answer) = sfu.resume(&used, &offer).await.unwrap();
    take_answer(&person, answer).await;
    let revoked = peer.resume_token().await.unwrap();
    peer.revoke_resume_tokens().await.unwrap();
    let good = [peer.resume_token().await.unwrap(), peer.resume_token().await.unwrap()];
    let texts: Vec<String> = [&used, &revoked, &good[0], &good[1]].map(ToString::to_string).to_vec();

    let mut dice = Dice::new(27);
    let mut answers = [0_u64; 5];
    for attempt in 0..ATTEMPTS {
        let resume = match attempt % 8 {
            0 => Resume::new(random(&mut dice)),
            1..=4 => Resume::new(mangled(&mut dice, &texts)),
            5 => Resume::from(&good[attempt as usize / 8 % 2]).room(format!("room {}", dice.below(1_000))),
            6 => Resume::from(&used),
            _ => Resume::from(&revoked).room("call"),
        };
        let refused = sfu.resume(resume, &offer).await.expect_err("nobody comes in");
        let at = match refused {
            ResumeError::Unknown => 0,
            ResumeError::Expired => 1,
            ResumeError::Used => 2,
            ResumeError::Revoked => 3,
            ResumeError::OtherRoom => 4,
            other => panic!("attempt {attempt}: {other:?}"),
        };
        answers[at] += 1;
    }
    println!("unknown, expired, used, revoked, other room: {answers:?}");
    assert_eq!(answers.iter().sum::<u64>(), ATTEMPTS);
    assert_eq!([answers[2], answers[3], answers[4]], [ATTEMPTS / 8; 3]);
    assert!(answers[0] > ATTEMPTS / 2 && answers[1] > 0);
    // Not one was spent by that.
    let offer = offer_of(&person).await;
    let (peer, answer) = sfu.resume(&good[0], &offer).await.expect("it is good");
    take_answer(&person, answer).await;
    let other = sfu.resume(&good[1], &offer).await;
    assert!(matches!(other, Err(ResumeError::Revoked)), "one way back at a time: {other:?}");
    assert!(peer.stats().await.is_some());
}

const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// As long as a token, and as long as anything.
fn random(dice: &mut Dice) -> String {
    let length = if dice.below(4) == 0 { dice.below(100) } else { 54 };
    (0..length).map(|_| char::from(ALPHABET[dice.below(64) as usize])).collect()
}

/// Nearly one that was given out.
fn mangled(dice: &mut Dice, texts: &[String]) -> String {
    let mut pick = || texts[dice.below(texts.len() as u64) as usize].clone().into_bytes();
    let (mut text, other) = (pick(), pick());
    let whole = text.clone();
    match dice.below(5) {
        // Another character, in the secret or in the time it expires at.
        0 | 1 => {
            let at = dice.below(text.len() as u64) as usize;
            text[at] = ALPHABET[dice.below(64) as usize];
        }
        2 => {
            let at = dice.below(text.len() as u64) as usize;
            text.truncate(at);
        }
        // The beginning of one and the end of another.
        3 => {
            let at = 1 + dice.below(text.len() as u64 - 2) as usize;
            text.truncate(at);
            text.extend_from_slice(&other[at..]);
        }
        _ => {
            let at = dice.below(text.len() as u64) as usize;
            text.insert(at, ALPHABET[dice.below(64) as usize]);
        }
    }
    if texts.iter().any(|good| good.as_bytes() == text) {
        // It is as it was.
        text = whole;
        text.swap(0, 1);
        text[2] ^= 1;
        text.push(b'!');
    }
    String::from_utf8(text).expect("the alphabet is ASCII")
}

/// A store that lets others have their turn before it answers, as one beyond a network does.
#[derive(Debug)]
struct Slow(MemoryStore);

impl SessionStore for Slow {
    fn put(&self, key: SessionKey, record: Vec<u8>, ttl: Duration) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            self.0.put(key, record, ttl).await
        })
    }

    fn get(&self, key: SessionKey) -> StoreFuture<'_, Option<Vec<u8>>> {
        Box::pin(async move {
            let record = self.0.get(key).await;
            tokio::task::yield_now().await;
            record
        })
    }

    fn take(&self, key: SessionKey) -> StoreFuture<'_, Option<Vec<u8>>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            let record = self.0.take(key).await;
            tokio::task::yield_now().await;
            record
        })
    }
}

#[derive(Debug)]
struct Broken;

impl Broken {
    fn fault<T: Send + 'static>() -> StoreFuture<'static, T> {
        Box::pin(async { Err(StoreError(std::io::Error::other("the disk is full").into())) })
    }
}

impl SessionStore for Broken {
    fn put(&self, _: SessionKey, _: Vec<u8>, _: Duration) -> StoreFuture<'_, ()> {
        Broken::fault()
    }

    fn get(&self, _: SessionKey) -> StoreFuture<'_, Option<Vec<u8>>> {
        Broken::fault()
    }

    fn take(&self, _: SessionKey) -> StoreFuture<'_, Option<Vec<u8>>> {
        Broken::fault()
    }
}

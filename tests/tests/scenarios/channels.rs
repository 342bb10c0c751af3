//! Data channels: what is said in a room is heard in it, and nowhere else.

use sluicegate::sans_io::{DropKind, MessageOutcome, ReportOutcome};
use sluicegate::{DataChannels, MessageError, PeerEvent};
use sluicegate_tests::world::{AUDIO, Part, Percent, Seat, VIDEO, World, ms, publishes, secs};

fn said(world: &World, seat: Seat) -> Vec<(String, String)> {
    let messages = world[seat].messages.iter();
    messages.map(|(label, bytes)| (label.clone(), String::from_utf8_lossy(bytes).into_owned())).collect()
}

fn told(world: &World, seat: Seat) -> Vec<(String, Vec<u8>)> {
    let told = world[seat].events.iter().filter_map(|(_, event)| match event {
        PeerEvent::Message { channel, data, .. } => Some((channel.clone(), data.to_vec())),
        _ => None,
    });
    told.collect()
}

fn pair(label: &str, text: &str) -> (String, String) {
    (label.to_owned(), text.to_owned())
}

fn counted(world: &World, outcome: MessageOutcome) -> u64 {
    world.counters().messages[outcome as usize]
}

fn bytes(world: &World, outcome: MessageOutcome) -> u64 {
    world.counters().message_bytes[outcome as usize]
}

#[test]
fn ada_is_heard_by_bob_and_not_in_another_room() {
    let mut world = World::new(1);
    let ada = world.join("red", "ada", publishes(AUDIO | VIDEO).speaks(&["chat"]));
    let bob = world.join("red", "bob", publishes(AUDIO | VIDEO).speaks(&["chat", "game"]));
    let deaf = world.join("red", "dee", publishes(AUDIO).speaks(&["game"]));
    let silent = world.join("red", "sid", publishes(AUDIO));
    let elsewhere = world.join("blue", "eve", publishes(AUDIO).speaks(&["chat"]));
    world.connect_all(secs(3));
    world.run(secs(2));
    world.say(ada, "chat", "hello");
    world.say(bob, "game", "e2e4");
    world.run(secs(1));
    assert_eq!(said(&world, bob), [pair("chat", "hello")]);
    assert_eq!(said(&world, deaf), [pair("game", "e2e4")]);
    for nobody in [ada, silent, elsewhere] {
        assert_eq!(said(&world, nobody), []);
    }
    assert_eq!(told(&world, ada), [("chat".to_owned(), b"hello".to_vec())], "her host hears it");
    assert_eq!(
        told(&world, bob),
        [("game".to_owned(), b"e2e4".to_vec())],
        "who only listens is told nothing"
    );
    assert_eq!(counted(&world, MessageOutcome::Received), 2);
    assert_eq!(counted(&world, MessageOutcome::Relayed), 2);
    assert_eq!(bytes(&world, MessageOutcome::Received), 9);
    assert_eq!(bytes(&world, MessageOutcome::Relayed), 9);
    assert_eq!(world[bob].frames_missing(), 0);
    world.audit();
}

#[test]
fn what_is_lost_on_the_way_is_said_again_and_media_goes_on() {
    let mut world = World::new(2);
    let part = || publishes(AUDIO).speaks(&["chat"]);
    let ada = world.join("red", "ada", part());
    let bob = world.join("red", "bob", part());
    world.connect_all(secs(3));
    world.run(secs(2));
    for link in [ada.uplink, ada.downlink, bob.uplink, bob.downlink] {
        world.lose(link, 5.percent());
    }
    let words: Vec<String> = (0..100).map(|n| format!("word {n}")).collect();
    for word in &words {
        world.say(ada, "chat", word);
        world.run(ms(50));
    }
    world.run(secs(10));
    let heard: Vec<String> = said(&world, bob).into_iter().map(|(_, text)| text).collect();
    assert_eq!(heard, words, "all of them, and in order");
}

#[test]
fn the_host_speaks_to_one_and_to_all() {
    let mut world = World::new(3);
    let ada = world.join("red", "ada", publishes(AUDIO).speaks(&["chat"]));
    let bob = world.join("red", "bob", publishes(AUDIO).speaks(&["chat"]));
    let silent = world.join("red", "sid", publishes(AUDIO));
    world.connect_all(secs(3));
    world.run(secs(2));
    assert_eq!(world.engine.broadcast("red", "chat", &"five minutes left".into()), Ok(2));
    assert_eq!(world.engine.broadcast("green", "chat", &"nobody here".into()), Ok(0));
    let too_large = vec![0; 64 * 1024 + 1];
    assert_eq!(world.engine.broadcast("red", "chat", &too_large.into()), Err(MessageError::TooLarge));
    let (to_ada, to_sid) = (world.peer(ada), world.peer(silent));
    assert_eq!(world.engine.send_message(to_ada, "chat", &"you are muted".into()), Ok(()));
    let none = Err(MessageError::NoChannel);
    assert_eq!(world.engine.send_message(to_ada, "game", &"?".into()), none);
    assert_eq!(world.engine.send_message(to_sid, "chat", &"?".into()), none);
    world.flush();
    world.run(secs(1));
    assert_eq!(said(&world, ada), [pair("chat", "five minutes left"), pair("chat", "you are muted")]);
    assert_eq!(said(&world, bob), [pair("chat", "five minutes left")]);
    assert_eq!(bytes(&world, MessageOutcome::Sent), 2 * 17 + 13);
    world.leave(ada);
    assert_eq!(world.engine.send_message(to_ada, "chat", &"?".into()), Err(MessageError::Gone));
}

#[test]
fn a_host_may_keep_it_to_itself_or_have_none_of_it() {
    let mut world = World::new(4);
    let kept = |part: Part, relaying| Part { relaying, ..part };
    let part = || publishes(AUDIO).speaks(&["chat"]);
    let ada = world.join("red", "ada", kept(part(), DataChannels::ToHost));
    let bob = world.join("red", "bob", part());
    let eve = world.join("red", "eve", kept(part(), DataChannels::Refused));
    world.run(secs(4));
    world.say(ada, "chat", "between us");
    world.say(bob, "chat", "to all");
    world.run(secs(1));
    for nobody in [ada, bob, eve] {
        assert_eq!(said(&world, nobody), []);
    }
    assert_eq!(told(&world, ada), [("chat".to_owned(), b"between us".to_vec())]);
    let rejected = |event: &PeerEvent| matches!(event, PeerEvent::LineRejected { .. });
    assert_eq!(world[eve].told(rejected).len(), 1);
    assert!(world[eve].is_connected());
}

#[test]
fn telemetry_moves_the_histograms_and_is_nobody_elses() {
    let mut world = World::new(5);
    let part = || publishes(AUDIO).speaks(&["sfu-telemetry"]);
    let ada = world.join("red", "ada", part());
    let bob = world.join("red", "bob", part());
    world.connect_all(secs(3));
    world.run(secs(2));
    let report = r#"{"v":1,"rtt":0.031,"loss":0.02,"fps":30,"limited":"bandwidth"}"#;
    let texts = [report, "[1", report];
    for text in texts {
        world.say(ada, "sfu-telemetry", text);
        world.run(ms(100));
    }
    world.run(secs(10));
    world.say(ada, "sfu-telemetry", "what is this");
    world.run(secs(1));
    assert_eq!(said(&world, bob), []);
    assert_eq!(told(&world, ada), []);
    let reports = |event: &PeerEvent| matches!(event, PeerEvent::ClientReport(_));
    assert_eq!(world[ada].told(reports).len(), 1);
    let counters = world.counters();
    let counted = |outcome: ReportOutcome| counters.client_reports[outcome as usize];
    assert_eq!(counted(ReportOutcome::Accepted), 1);
    assert_eq!(counted(ReportOutcome::RateLimited), 2);
    assert_eq!(counted(ReportOutcome::Malformed), 1);
    assert_eq!([counters.client_rtt.count(), counters.client_fps.count()], [1, 1]);
}

/// Threats T21: messages of a byte, a hundred thousand of them.
#[test]
fn t21_a_flood_of_messages_costs_nobody_a_frame() {
    let mut world = World::new(6);
    let ada = world.join("red", "ada", publishes(AUDIO | VIDEO).speaks(&["flood"]));
    let bob = world.join("red", "bob", publishes(AUDIO | VIDEO).speaks(&["flood"]));
    let cleo = world.join("red", "cleo", publishes(AUDIO | VIDEO));
    world.connect_all(secs(3));
    world.run(secs(2));
    for _ in 0..100 {
        for _ in 0..100 {
            world.say(ada, "flood", "x");
        }
        world.run(ms(10));
    }
    world.run(secs(5));
    let passed = counted(&world, MessageOutcome::Received);
    let limited = counted(&world, MessageOutcome::RateLimited);
    assert_eq!(passed + limited, 10_000);
    assert!((400..2_000).contains(&passed), "{passed}");
    assert_eq!(said(&world, bob).len() as u64, passed);
    for seat in [ada, bob, cleo] {
        assert_eq!(world[seat].frames_missing(), 0, "{}", world[seat].name);
    }
    assert_eq!(world.dropped_out(DropKind::Other, sluicegate::DropReason::QueueFull), 0);
    world.audit();
}

#[test]
fn who_is_on_another_worker_hears_it_too() {
    let mut world = World::of_workers(1, 2, |_| {});
    let ada = world.join("red", "ada", publishes(AUDIO).speaks(&["chat"]));
    let near = world.join("red", "near", publishes(AUDIO).speaks(&["chat"]));
    world.worker = 1;
    let far = world.join("red", "far", publishes(AUDIO).speaks(&["chat"]));
    let elsewhere = world.join("blue", "eve", publishes(AUDIO).speaks(&["chat"]));
    world.connect_all(secs(3));
    world.run(secs(2));
    world.say(ada, "chat", "hello");
    world.say(far, "chat", "hello yourself");
    world.run(secs(1));
    assert_eq!(said(&world, near), [pair("chat", "hello"), pair("chat", "hello yourself")]);
    assert_eq!(said(&world, far), [pair("chat", "hello")]);
    assert_eq!(said(&world, ada), [pair("chat", "hello yourself")]);
    assert!(said(&world, elsewhere).is_empty());
}

//! Signalling breaks; media goes on, and clients come back.

use std::time::{Duration, Instant};

use sluicegate::sans_io::{Continuity, EndReason, ResumeFault, Return};
use sluicegate::{Bitrate, CapScope, LayerLimit, LeaveReason, MediaKind, PeerEvent, TrackSource};
use sluicegate_tests::world::content::Content;
use sluicegate_tests::world::{
    AUDIO, Seat, THREE_LAYERS, VIDEO, World, layer_of, ms, publishes, secs, watches,
};

const GRACE: Duration = Duration::from_secs(60);

fn orphans(world: &World) -> u64 {
    world.engine.counters.gauges.orphaned_handles
}

/// Who has heard that somebody came or went since the call was complete.
fn comings_and_goings(world: &World, seat: Seat) -> usize {
    world[seat].told(|event| matches!(event, PeerEvent::PeerJoined(_) | PeerEvent::PeerLeft(_))).len()
}

/// The m-line on which `viewer` gets the picture of `publisher`.
fn slot_of(world: &World, viewer: Seat, publisher: Seat) -> String {
    let slots = world[viewer].events.iter().rev().find_map(|(_, event)| match event {
        PeerEvent::Slots(slots) => Some(slots),
        _ => None,
    });
    let peer = world.peer(publisher);
    let his = |slot: &&sluicegate::SlotInfo| {
        slot.kind == MediaKind::Video && slot.publisher.as_ref().is_some_and(|info| info.peer == peer)
    };
    slots.into_iter().flatten().find(his).expect("it is seen").mid.clone()
}

/// When packets of a publisher came to a viewer, of whichever layer.
fn heard_of(world: &World, viewer: Seat, publisher: Seat, video: bool) -> Vec<Instant> {
    let his =
        |content: &Content| content.video == video && content.publisher as usize % 10_000 == publisher.index;
    let seen = world[viewer].sink.seen().filter(|seen| his(&seen.content));
    seen.map(|seen| seen.at).collect()
}

#[test]
fn signalling_is_cut_for_twenty_seconds_and_no_packet_is_lost() {
    for seed in 1..=3 {
        let mut world = World::new(seed);
        world.path.delay = ms(20);
        let ada = world.join("room", "ada", publishes(AUDIO | VIDEO));
        let bob = world.join("room", "bob", publishes(AUDIO).layered(&THREE_LAYERS).sendonly());
        world.connect_all(secs(2));
        world.run(secs(3));
        let gone = world.now;
        world.orphan(bob, GRACE);
        assert_eq!(orphans(&world), 1);
        // Somebody comes whom he cannot be offered.
        world.run(secs(5));
        let carol = world.join("room", "carol", publishes(AUDIO | VIDEO));
        world.run(secs(15));
        let back = world.now;
        assert_eq!(world.come_back(bob), Ok(Continuity::Same));
        assert_eq!(orphans(&world), 0);
        world.run(secs(3));

        for (viewer, publisher) in [(ada, bob), (bob, ada), (carol, ada), (carol, bob), (bob, carol)] {
            assert!(world[viewer].sink.packets_between(publisher.index, false, back, world.now) > 100);
            assert_eq!(world[viewer].sink.missing(), 0, "seed {seed}: {viewer:?} of {publisher:?}");
            assert_eq!(world[viewer].frames_missing(), 0, "seed {seed}");
        }
        for (viewer, publisher) in [(ada, bob), (bob, ada)] {
            // 50 packets of audio a second, all the time.
            let heard = world[viewer].sink.packets_between(publisher.index, false, gone, back);
            assert!((998..=1_002).contains(&heard), "{heard} in twenty seconds");
        }
        assert_eq!(world.engine.counters.sessions_ended, [0; EndReason::ALL.len()]);
        let left = |event: &PeerEvent| matches!(event, PeerEvent::PeerLeft(_));
        assert!(world[ada].told(left).is_empty() && world[carol].told(left).is_empty());
    }
}

#[test]
fn who_took_an_offer_whose_answer_was_lost_comes_back_all_the_same() {
    for seed in 1..=3 {
        let mut world = World::new(seed);
        let ada = world.join("room", "ada", publishes(AUDIO | VIDEO));
        let bob = world.join("room", "bob", publishes(AUDIO | VIDEO));
        world.connect_all(secs(2));
        world.orphan(bob, GRACE);
        let carol = world.join("room", "carol", publishes(AUDIO | VIDEO));
        world.run(secs(1));
        assert_eq!(world.hear_without_answer(bob), 1);
        world.run(secs(1));
        assert_eq!(world.come_back(bob), Ok(Continuity::Same));
        world.run(secs(3));
        for publisher in [ada, carol] {
            for video in [false, true] {
                assert!(world[bob].sink.packets_from(publisher.index, video) > 80, "of {publisher:?}");
            }
        }
        assert_eq!(world[bob].answers_refused, Vec::<String>::new());
        // And negotiation goes on as ever.
        let dan = world.join("room", "dan", publishes(AUDIO | VIDEO));
        world.run(secs(3));
        assert!(world[bob].sink.packets_from(dan.index, true) > 50);
        world.renegotiate(bob).expect("it may offer");
    }
}

#[test]
fn who_does_not_come_back_leaves_at_the_end_of_the_grace() {
    let mut world = World::new(1);
    let ada = world.join("room", "ada", publishes(AUDIO | VIDEO));
    let bob = world.join("room", "bob", publishes(AUDIO | VIDEO));
    world.connect_all(secs(2));
    world.orphan(bob, GRACE);
    world.run(GRACE - ms(1));
    assert_eq!(
        (orphans(&world), world[ada].told(|event| matches!(event, PeerEvent::PeerLeft(_))).len()),
        (1, 0)
    );
    let heard = world[ada].sink.packets_from(bob.index, false);
    assert!(heard > 2_900, "{heard}: it was heard for a minute");
    world.run(ms(2));
    let left = |event: &PeerEvent| *event == PeerEvent::Left(LeaveReason::Orphaned);
    assert_eq!((orphans(&world), world[bob].told(left).len()), (0, 1));
    assert_eq!(world[ada].told(|event| matches!(event, PeerEvent::PeerLeft(_))).len(), 1);
    assert_eq!(world.engine.counters.sessions_ended[EndReason::Orphaned as usize], 1);
}

#[test]
fn who_is_found_by_its_host_stays() {
    let mut world = World::new(1);
    world.join("room", "ada", publishes(AUDIO | VIDEO));
    let bob = world.join("room", "bob", publishes(AUDIO | VIDEO));
    world.connect_all(secs(2));
    let peer = world.peer(bob);
    for found in [false, true, true] {
        // Marking it again begins the grace anew; finding it twice is finding it.
        let grace = (!found).then_some(GRACE);
        assert!(world.engine.set_orphaned(world.now, peer, grace));
        world.run(secs(59));
    }
    world.run(secs(59));
    assert_eq!((orphans(&world), world[bob].is_connected()), (0, true));
    world.leave(bob);
    assert!(!world.engine.set_orphaned(world.now, peer, Some(GRACE)), "it is gone");
    assert_eq!(orphans(&world), 0);
}

#[test]
fn a_new_connection_takes_the_place_of_the_old_and_nobody_sees_it_leave() {
    for seed in 1..=3 {
        let mut world = World::new(seed);
        world.path.delay = ms(20);
        // This client takes nothing on a line that it sends layers on.
        let part = || publishes(AUDIO).layered(&THREE_LAYERS).sendonly();
        let ada = world.join("room", "ada", part());
        let bob = world.join("room", "bob", part());
        let carol = world.join("room", "carol", publishes(AUDIO | VIDEO));
        world.connect_all(secs(2));
        world.run(secs(3));
        let (now, peer) = (world.now, world.peer(bob));
        world.engine.set_publish_cap(now, peer, Some(Bitrate::kbps(700))).expect("it is there");
        world.engine.set_downlink_cap(now, peer, Some(Bitrate::kbps(900))).expect("it is there");
        let video = world[bob].told_tracks(MediaKind::Video).first().cloned().expect("it publishes");
        world.engine.set_track_cap(now, peer, &video, Some(Bitrate::kbps(600))).expect("it is there");
        let slot = slot_of(&world, bob, ada);
        let small = LayerLimit { spatial: 0, temporal: u8::MAX };
        assert!(world.engine.limit_layers(now, peer, &slot, small));
        let capped = world.engine.explain_cap(peer).expect("it is there");
        world.run(secs(2));
        let before = [ada, carol].map(|seat| comings_and_goings(&world, seat));

        // Its process has died; nobody says goodbye.
        world.orphan(bob, GRACE);
        let again = world.come_back_anew(bob, part()).expect("it is there");
        assert_eq!(world.peer(again), peer, "it is who it was");
        world.run(secs(6));
        for other in [ada, carol] {
            for video in [false, true] {
                let heard = heard_of(&world, other, again, video);
                assert!(heard.len() > 200, "seed {seed}: {} packets of who came back", heard.len());
                assert!(world.now - heard[heard.len() - 1] < ms(200), "seed {seed}: it flows on");
            }
            assert!(world[again].sink.packets_from(other.index, true) > 100);
        }
        let after = [ada, carol].map(|seat| comings_and_goings(&world, seat));
        assert_eq!(before, after, "nobody comes or goes");
        let now_capped = world.engine.explain_cap(peer).expect("it is there");
        assert_eq!(now_capped.publish, capped.publish);
        assert_eq!(now_capped.downlink.first(), capped.downlink.first());
        assert!(capped.publish.iter().any(|cap| cap.scope == CapScope::Tracks));
        // What it is to get of ada at most, it gets: the smallest of three.
        let largest = layer_of(ada.index, 2);
        assert_eq!(world[again].sink.packets_from(largest, true), 0, "seed {seed}");

        let ended = &world.engine.counters.sessions_ended;
        assert_eq!(ended.iter().sum::<u64>(), ended[EndReason::Resumed as usize]);
        world.engine.sample(world.now);
        let gauges = &world.engine.counters.gauges;
        assert_eq!((gauges.participants, gauges.active_handles, gauges.orphaned_handles), (3, 3, 0));
        assert_eq!((gauges.publishers, gauges.subscribers), (3, 3));
        for kind in [MediaKind::Audio, MediaKind::Video] {
            assert_eq!(world.engine.counters.unaccounted(kind), 0, "{kind}");
        }
        for seat in [ada, again, carol] {
            world.leave(seat);
        }
        assert_eq!(world.engine.footprint(), [0; 5], "nothing of either connection is left");
    }
}

#[test]
fn what_the_host_wanted_to_be_seen_is_seen_by_who_came_back() {
    let mut world = World::new(1);
    let [ada, carol] = ["ada", "carol"].map(|name| world.join("room", name, publishes(AUDIO | VIDEO)));
    let bob = world.join("room", "bob", watches(2));
    world.connect_all(secs(2));
    world.run(secs(2));
    let (now, peer) = (world.now, world.peer(bob));
    let second = slot_of(&world, bob, carol);
    assert!(world.engine.pin(now, peer, &second, true));
    assert!(world.engine.set_last_n(now, peer, Some(1)));
    let screen = world[ada].told_tracks(MediaKind::Video).first().cloned().expect("it publishes");
    let hers = world.peer(ada);
    assert!(world.engine.set_source(now, hers, &screen, TrackSource::Screen));

    world.orphan(bob, GRACE);
    let bob = world.come_back_anew(bob, watches(2)).expect("it is there");
    world.run(secs(3));
    assert!(world[bob].sink.packets_from(carol.index, true) > 50, "pinned, and one is all there may be");
    let shown = heard_of(&world, bob, ada, true);
    let long_ago = |at: &Instant| world.now - *at > secs(2);
    assert!(shown.iter().all(long_ago), "a screen comes after who is pinned");

    // Who shows a screen still does when it has come back: it comes before those who are somebody.
    world.orphan(ada, GRACE);
    let ada = world.come_back_anew(ada, publishes(AUDIO | VIDEO)).expect("it is there");
    let (now, peer) = (world.now, world.peer(bob));
    assert!(world.engine.pin(now, peer, &slot_of(&world, bob, carol), false));
    world.run(secs(3));
    assert!(world[bob].sink.packets_from(ada.index, true) > 50, "the screen");
}

#[test]
fn who_may_come_back_on_its_own_connection_only_is_told_when_that_is_another() {
    let mut world = World::new(1);
    let ada = world.join("room", "ada", publishes(AUDIO | VIDEO));
    let bob = world.join("room", "bob", publishes(AUDIO | VIDEO));
    world.connect_all(secs(2));
    let (peer, now) = (world.peer(bob), world.now);
    let coming = || Return { peer, in_place: true, interceptors: Vec::new(), span: tracing::Span::none() };
    // As good as any other, but not his.
    let offer = world[ada].local_sdp();
    assert_eq!(world.engine.resume(now, coming(), &offer), Err(ResumeFault::OtherConnection));
    assert!(matches!(world.engine.resume(now, coming(), "hello"), Err(ResumeFault::Offer(_))));
    let anew = Return { in_place: false, ..coming() };
    let broken = offer.replace("a=fingerprint", "a=fingerpaint");
    assert!(matches!(world.engine.resume(now, anew, &broken), Err(ResumeFault::Offer(_))));
    world.run(secs(2));
    assert_eq!((world[ada].sink.missing(), world[bob].sink.missing()), (0, 0), "nothing has happened");
    world.leave(bob);
    assert_eq!(world.engine.resume(now, coming(), &offer), Err(ResumeFault::Gone));
}

#[test]
fn who_comes_back_on_one_worker_is_seen_on_another() {
    let mut world = World::of_workers(1, 2, |_| {});
    let ada = world.join("room", "ada", publishes(AUDIO | VIDEO));
    world.worker = 1;
    let bob = world.join("room", "bob", publishes(AUDIO | VIDEO));
    world.connect_all(secs(2));
    world.run(secs(2));
    let before = comings_and_goings(&world, ada);
    world.orphan(bob, GRACE);
    let again = world.come_back_anew(bob, publishes(AUDIO | VIDEO)).expect("it is there");
    world.run(secs(4));
    assert!(world[ada].sink.packets_from(again.index, true) > 100);
    assert!(world[again].sink.packets_from(ada.index, true) > 100);
    assert_eq!(comings_and_goings(&world, ada), before);
}

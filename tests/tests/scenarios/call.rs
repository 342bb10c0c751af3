//! Calls: who joins sees and hears everybody, cleanly.

use std::time::{Duration, Instant};

use rtcp::sender_report::SenderReport;
use sluicegate::{MediaKind, PeerEvent};
use sluicegate_tests::world::clock::{ntp, origin};
use sluicegate_tests::world::{
    AUDIO, Client, Loss, Percent, Seat, VIDEO, Wire, World, ms, publishes, secs, watches,
};

fn is_clean(world: &World, me: Seat) {
    let client = &world[me];
    assert_eq!(client.sink.discontinuities(), [""; 0], "{}", client.name);
    assert_eq!(client.sink.missing(), 0, "{}", client.name);
    assert_eq!(client.sink.duplicates(), 0, "{}", client.name);
    assert_eq!((client.sink.forged, client.sink.foreign), (0, 0), "{}", client.name);
    assert_eq!(client.answers_refused, [""; 0]);
}

fn receives(world: &World, me: Seat, other: Seat, since: Instant) -> [usize; 2] {
    let count = |video| world[me].sink.packets_between(other.index, video, since, world.now);
    [count(false), count(true)]
}

#[test]
fn two_peers_see_and_hear_each_other() {
    for seed in 1..=3 {
        let mut world = World::new(seed);
        let ada = world.join("room", "ada", publishes(AUDIO | VIDEO));
        let bob = world.join("room", "bob", publishes(AUDIO | VIDEO));
        world.connect_all(secs(2));
        world.run(secs(5));
        for (me, other) in [(ada, bob), (bob, ada)] {
            assert!(world[me].sink.packets_from(other.index, true) > 200, "video");
            assert!(world[me].sink.packets_from(other.index, false) > 200, "audio");
            assert_eq!(world[me].frames_missing(), 0);
            assert!(world[me].connect_time() < Some(ms(1_000)));
            is_clean(&world, me);
        }
    }
}

#[test]
fn three_peers_and_a_leave() {
    for seed in 1..=3 {
        let mut world = World::new(seed);
        let seats = ["ada", "bob", "eve"].map(|name| world.join("room", name, publishes(AUDIO | VIDEO)));
        world.connect_all(secs(2));
        world.run(secs(2));
        let [ada, bob, eve] = seats;
        world.leave(eve);
        let left = world.now;
        world.run(secs(2));
        for me in [ada, bob] {
            is_clean(&world, me);
            assert!(world[me].sink.packets_from(eve.index, true) > 50);
            assert!(world[me].sink.last_from(eve.index, true) < Some(left + ms(20)), "eve is gone");
            assert_eq!(world[me].told(|event| matches!(event, PeerEvent::PeerLeft(_))).len(), 1);
        }
        let [audio, video] = receives(&world, ada, bob, left + ms(20));
        assert!(audio > 90 && video > 50, "the others go on: {audio} {video}");
        assert_eq!(world.engine.footprint()[..2], [2, 1]);
    }
}

#[test]
fn a_late_joiner_gets_a_keyframe_at_once() {
    for seed in 1..=3 {
        let mut world = World::new(seed);
        let ada = world.join("room", "ada", publishes(AUDIO | VIDEO));
        world.run(secs(3));
        for (name, part) in [("bob", publishes(AUDIO | VIDEO)), ("wim", watches(1))] {
            let late = world.join("room", name, part);
            world.run(secs(2));
            let connected = world[late].connected_at.expect("it connects");
            let keyframe = world[late].sink.first_keyframe_from(ada.index).expect("a keyframe comes");
            // Two link delays each way, and the frame that was due.
            assert!(keyframe < connected + ms(100), "{:?}", keyframe - connected);
            let first = world[late].sink.from(ada.index, true).next().expect("video comes");
            assert!(first.content.keyframe && first.content.part == 0, "nothing goes before it");
            is_clean(&world, late);
        }
    }
}

#[test]
fn a_removed_track_stops_and_a_new_one_starts() {
    for seed in 1..=3 {
        let mut world = World::new(seed);
        let ada = world.join("room", "ada", publishes(AUDIO | VIDEO));
        let bob = world.join("room", "bob", publishes(AUDIO));
        world.run(secs(2));
        world[ada].unpublish(true);
        world.renegotiate(ada).expect("no offer of the engine is pending");
        let removed = world.now;
        world.run(secs(2));
        let gone = PeerEvent::TrackRemoved { mid: "1".to_owned(), kind: MediaKind::Video };
        assert_eq!(world[ada].told(|event| *event == gone).len(), 1, "{:?}", world[ada].events);
        assert!(world[bob].sink.last_from(ada.index, true) < Some(removed + ms(30)));
        assert!(receives(&world, bob, ada, removed + ms(30))[0] > 90, "audio goes on");
        world.publish(ada, true);
        world.renegotiate(ada).expect("no offer of the engine is pending");
        let added = world.now;
        world.run(secs(2));
        assert!(receives(&world, bob, ada, added)[1] > 50, "video again");
    }
}

/// How far apart a receiver would play what was captured together, in milliseconds.
fn skew(client: &Client) -> f64 {
    let wire = client.tap.wire();
    let reports = Wire::of::<SenderReport>(&wire.received);
    let mut worst = [(0.0, 0.0); 2];
    for (ssrc, stream) in &client.sink.streams {
        let (mut low, mut high) = (f64::MAX, f64::MIN);
        for seen in stream {
            let known = reports.iter().rev().find(|(at, report)| *at <= seen.at && report.ssrc == *ssrc);
            let Some((_, report)) = known else { continue };
            let rate = if seen.content.video { 90_000.0 } else { 48_000.0 };
            let ticks = seen.timestamp.wrapping_sub(report.rtp_time) as i32;
            let truth = ntp(origin() + Duration::from_micros(seen.content.captured));
            let said = report.ntp_time.wrapping_sub(truth) as i64 as f64 / 2f64.powi(32);
            let error = (said + f64::from(ticks) / rate) * 1_000.0;
            (low, high) = (low.min(error), high.max(error));
        }
        assert!(low <= high, "each stream has a report");
        worst[usize::from(stream[0].content.video)] = (low, high);
    }
    let [audio, video] = worst;
    (audio.1 - video.0).max(video.1 - audio.0)
}

#[test]
fn audio_and_video_of_one_publisher_stay_in_step() {
    for seed in 1..=3 {
        let mut world = World::new(seed);
        let ada = world.join("room", "ada", publishes(AUDIO | VIDEO));
        let bob = world.join("room", "bob", watches(1));
        world.link(ada.uplink).delay = ms(40);
        world.link(ada.uplink).jitter = ms(20);
        world.run(secs(8));
        let skew = skew(&world[bob]);
        assert!(skew <= 40.0, "{skew} ms apart");
    }
}

#[test]
fn a_rebound_slot_goes_on_as_one_stream() {
    for seed in 1..=3 {
        let mut world = World::new(seed);
        let wim = world.join("room", "wim", watches(1));
        let mut before = Vec::new();
        for turn in 0..4 {
            let ada = world.join("room", "ada", publishes(AUDIO | VIDEO).nothing_back());
            world.run(secs(2));
            let [audio, video] = receives(&world, wim, ada, world.now - secs(1));
            assert!(audio > 45 && video > 25, "turn {turn}: {audio} {video}");
            let streams = world[wim].receives();
            assert!(turn == 0 || streams == before, "the same two streams");
            before = streams;
            world.leave(ada);
            world.forget(ada);
            world.run(ms(700));
        }
        assert_eq!(before.len(), 2);
        is_clean(&world, wim);
    }
}

#[test]
fn what_reaches_the_engine_reaches_everybody_else() {
    for seed in 1..=3 {
        let mut world = World::new(seed);
        let ada = world.join("room", "ada", publishes(AUDIO | VIDEO));
        let bob = world.join("room", "bob", publishes(AUDIO));
        let wim = world.join("room", "wim", watches(2));
        world.connect_all(secs(2));
        world.run(secs(1));
        let uplink = world.link(ada.uplink);
        uplink.loss = match seed {
            1 => Loss::Random(10.percent()),
            _ => Loss::Bursts { worsen: 0.02, recover: 0.2 },
        };
        uplink.jitter = ms(15);
        uplink.reorder = 2.percent();
        uplink.duplicate = 2.percent();
        world.run(secs(6));
        *world.link(ada.uplink) = Default::default();
        world.run(secs(1));
        let (bobs, wims): (Vec<_>, Vec<_>) = (
            world[bob].sink.from(ada.index, true).map(|seen| seen.content.packet).collect(),
            world[wim].sink.from(ada.index, true).map(|seen| seen.content.packet).collect(),
        );
        assert!(bobs.len() > 300, "{}", bobs.len());
        let common = bobs.iter().position(|packet| Some(packet) == wims.first());
        let offset = common.unwrap_or(0);
        let skip = wims.iter().position(|packet| *packet == bobs[offset]).unwrap_or(0);
        assert_eq!(bobs[offset..], wims[skip..], "both get the same, in the same order");
        assert!(world[bob].sink.missing() > 10, "the link did lose");
        assert_eq!(world[bob].sink.forged + world[wim].sink.forged, 0);
        assert_eq!(world[bob].sink.duplicates() + world[wim].sink.duplicates(), 0);
    }
}

#[test]
fn rooms_do_not_hear_each_other() {
    let mut world = World::new(1);
    let seats: Vec<_> = (0..6)
        .map(|n| world.join(["red", "blue"][n % 2], &format!("p{n}"), publishes(AUDIO | VIDEO)))
        .collect();
    world.run(secs(3));
    for seat in seats {
        is_clean(&world, seat);
        assert_eq!(world[seat].receives().len(), 4);
    }
}

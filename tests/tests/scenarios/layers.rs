//! Simulcast: every subscriber gets the best layer that lives, is allowed, and fits its network.

use std::time::Duration;

use rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate as Remb;
use sluicegate::{LayerLimit, PeerEvent};
use sluicegate_tests::world::{
    AUDIO, Part, Seat, THREE_LAYERS, VIDEO, World, layer_of, ms, publishes, secs, watches,
};

fn camera() -> Part {
    publishes(AUDIO).layered(&THREE_LAYERS)
}

/// What one subscriber has seen of one publisher's picture since some moment, in order of arrival:
/// capture time, layer, our timestamp, when.
fn pictures(world: &World, viewer: Seat, publisher: Seat) -> Vec<Frame> {
    let mut frames: Vec<Frame> = Vec::new();
    let stream = world[viewer].sink.streams.values().find(|seen| {
        seen.first().is_some_and(|seen| {
            seen.content.video && seen.content.publisher as usize % 10_000 == publisher.index
        })
    });
    for seen in stream.into_iter().flatten() {
        if frames.last().is_none_or(|frame| frame.timestamp != seen.timestamp) {
            let layer = seen.content.publisher as usize / 10_000;
            frames.push(Frame {
                at: seen.at,
                layer,
                timestamp: seen.timestamp,
                captured: seen.content.captured,
            });
        }
    }
    frames
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    at: std::time::Instant,
    layer: usize,
    timestamp: u32,
    /// In microseconds.
    captured: u64,
}

/// The longest time without a new picture.
fn longest_gap(frames: &[Frame]) -> Duration {
    frames.windows(2).map(|pair| pair[1].at - pair[0].at).max().unwrap_or_default()
}

fn layer_now(world: &World, viewer: Seat, publisher: Seat) -> usize {
    pictures(world, viewer, publisher).last().expect("there is a picture").layer
}

#[test]
fn the_highest_layer_that_lives() {
    let mut world = World::new(1);
    let ada = world.join("room", "ada", camera());
    let bob = world.join("room", "bob", watches(1));
    world.connect_all(secs(2));
    world.run(secs(3));
    assert_eq!(layer_now(&world, bob, ada), 2);
    let seen = |layer| world[bob].sink.from(layer_of(ada.index, layer), true).count();
    assert!(seen(2) > 0 && seen(0) < 100, "the small one at the start at most");
    // The browser runs short of bandwidth, and recovers.
    world[ada].active_layers = 2;
    world.run(secs(2));
    assert_eq!(layer_now(&world, bob, ada), 1, "half a second of silence is enough");
    world[ada].active_layers = 1;
    world.run(secs(2));
    assert_eq!(layer_now(&world, bob, ada), 0);
    world[ada].active_layers = 3;
    world.run(secs(2));
    assert_eq!(layer_now(&world, bob, ada), 2);
    let gap = longest_gap(&pictures(&world, bob, ada));
    assert!(gap < ms(900), "{gap:?}");
    let told = world[bob].told(|event| matches!(event, PeerEvent::LayerChanged { .. }));
    assert!(told.len() >= 4, "{}", told.len());
}

#[test]
fn a_limit_is_kept_and_costs_no_picture() {
    let mut world = World::new(2);
    let ada = world.join("room", "ada", camera());
    let bob = world.join("room", "bob", watches(1));
    let eve = world.join("room", "eve", watches(1));
    world.connect_all(secs(2));
    world.run(secs(2));
    let mid = mid_of(&world, bob);
    let peer = world[bob].peer.expect("it has joined");
    let mut last = pictures(&world, bob, ada).len();
    for turn in 0..60 {
        let spatial = [0, 2, 1][turn % 3];
        let limit = LayerLimit { spatial, ..LayerLimit::NONE };
        let now = world.now;
        assert!(world.engine.limit_layers(now, peer, &mid, limit));
        world.run(secs(5));
        let frames = pictures(&world, bob, ada);
        assert_eq!(frames.last().expect("there is a picture").layer, usize::from(spatial), "turn {turn}");
        let gap = longest_gap(&frames[last - 1..]);
        // Up may cost 50 ms, down nothing: a frame each 33 ms, and 10 ms for the way.
        let most = if spatial == 2 { ms(34 + 50) } else { ms(34 + 10) };
        assert!(gap <= most, "turn {turn}: {gap:?} without a picture");
        last = frames.len();
    }
    let frames = pictures(&world, bob, ada);
    for pair in frames.windows(2) {
        assert!(pair[1].timestamp.wrapping_sub(pair[0].timestamp) as i32 > 0, "{pair:?}");
    }
    // Our timestamps against the publisher's wall clock: what the picture is off from the sound.
    let offset = |frame: &Frame| {
        i64::from(frame.timestamp.wrapping_sub(frames[0].timestamp)) * 1_000_000 / 90_000
            - (frame.captured - frames[0].captured) as i64
    };
    let skews: Vec<i64> = frames.iter().map(offset).collect();
    let (least, most) = (skews.iter().min().copied().unwrap_or(0), skews.iter().max().copied().unwrap_or(0));
    println!("{} frames, skew {least} to {most} µs", frames.len());
    assert!(most - least <= 40_000, "{least} to {most}");
    assert_eq!(world[bob].sink.duplicates(), 0);
    assert_eq!(layer_now(&world, eve, ada), 2, "nobody else is concerned");
    assert!(longest_gap(&pictures(&world, eve, ada)) <= ms(50));
}

#[test]
fn a_throttled_laptop_gets_a_smaller_picture_not_a_frozen_one() {
    for seed in 1..=3 {
        let mut world = World::new(seed);
        let ada = world.join("room", "ada", camera());
        let bob = world.join("room", "bob", watches(1));
        let eve = world.join("room", "eve", watches(1));
        world.connect_all(secs(2));
        world.run(secs(3));
        for link in [bob.uplink, bob.downlink] {
            world.link(link).delay = ms(25);
        }
        assert_eq!(layer_now(&world, bob, ada), 2);
        let before = pictures(&world, bob, ada).len();
        world.link(bob.downlink).rate = Some(600_000);
        world.link(bob.downlink).queue = ms(300);
        world.run(secs(9));
        let frames = pictures(&world, bob, ada);
        let gap = longest_gap(&frames[before - 1..]);
        let layers: Vec<usize> = frames[before..].iter().map(|frame| frame.layer).collect();
        println!("seed {seed}: {gap:?} at most without a picture, layer {:?} in the end", layers.last());
        assert!(gap <= secs(1), "{gap:?}");
        assert!(*layers.last().unwrap_or(&9) < 2);
        assert_eq!(layer_now(&world, eve, ada), 2);
        assert!(longest_gap(&pictures(&world, eve, ada)) <= ms(100), "nobody else is concerned");
        world.link(bob.downlink).rate = None;
        world.run(secs(25));
        assert_eq!(layer_now(&world, bob, ada), 2, "it comes back");
    }
}

#[test]
fn an_old_client_says_by_remb_what_it_can_take() {
    let mut world = World::new(7);
    let ada = world.join("room", "ada", camera());
    let bob = world.join("room", "bob", watches(1).old_fashioned());
    world.connect_all(secs(2));
    world.run(secs(3));
    assert_eq!(layer_now(&world, bob, ada), 2);
    let say = |world: &mut World, bitrate: f32, times: u32| {
        for _ in 0..times {
            let ssrcs = world[bob].receives().iter().map(|(ssrc, _)| *ssrc).collect();
            world.send_rtcp(bob, vec![Box::new(Remb { sender_ssrc: 1, bitrate, ssrcs })]);
            world.run(secs(1));
        }
    };
    say(&mut world, 700_000.0, 3);
    assert_eq!(layer_now(&world, bob, ada), 1);
    say(&mut world, 200_000.0, 3);
    assert_eq!(layer_now(&world, bob, ada), 0);
    // Receivers bound what they say by what they get.
    say(&mut world, 230_000.0, 5);
    assert_eq!(layer_now(&world, bob, ada), 0);
    say(&mut world, 750_000.0, 9);
    assert_eq!(layer_now(&world, bob, ada), 1, "a step more after ten seconds");
    say(&mut world, 2_500_000.0, 13);
    assert_eq!(layer_now(&world, bob, ada), 2);
    assert!(longest_gap(&pictures(&world, bob, ada)) <= ms(100));
    // And loss counts by its receiver reports.
    world.lose(bob.downlink, 0.2);
    world.run(secs(8));
    assert!(layer_now(&world, bob, ada) < 2);
}

#[test]
fn a_newcomer_starts_with_what_has_just_begun() {
    let mut world = World::new(4);
    let ada = world.join("room", "ada", camera());
    let _bob = world.join("room", "bob", watches(1));
    world.connect_all(secs(2));
    world.run(secs(2));
    let eve = world.join("room", "eve", watches(1));
    world.connect_all(secs(2));
    world.run(secs(1));
    let first = pictures(&world, eve, ada)[0];
    let since = first.at - world[eve].connected_at.expect("it has connected");
    assert!(since <= ms(150), "{since:?}");
    assert_eq!(layer_now(&world, eve, ada), 2);
}

/// The m-line on which a player gets its first video.
fn mid_of(world: &World, seat: Seat) -> String {
    let slots = world[seat].events.iter().rev().find_map(|(_, event)| match event {
        PeerEvent::Slots(slots) => Some(slots.clone()),
        _ => None,
    });
    let slots = slots.expect("its slots were told");
    let video =
        slots.into_iter().find(|slot| slot.kind == sluicegate::MediaKind::Video && slot.publisher.is_some());
    video.expect("one carries video").mid
}

#[test]
fn one_layer_alone_is_simulcast_too() {
    let mut world = World::new(5);
    let ada = world.join("room", "ada", publishes(VIDEO));
    let bob = world.join("room", "bob", watches(1));
    world.connect_all(secs(2));
    world.run(secs(2));
    assert_eq!(layer_now(&world, bob, ada), 0);
    let told = world[bob].told(|event| matches!(event, PeerEvent::LayerChanged { .. }));
    assert!(told.is_empty(), "there is nothing to tell");
}

#[test]
fn a_picture_that_nobody_here_can_read_is_forwarded() {
    let mut world = World::new(6);
    let ada = world.join("room", "ada", publishes(VIDEO));
    world[ada].video.as_mut().expect("a camera").veiled = true;
    let bob = world.join("room", "bob", watches(1));
    world.connect_all(secs(2));
    world.run(secs(10));
    let frames = pictures(&world, bob, ada);
    let first = frames.first().expect("it is forwarded").at;
    assert!(first - world[bob].joined_at <= secs(5));
    assert!(longest_gap(&frames) <= ms(50));
    assert_eq!(world[bob].frames_missing(), 0);
    let asked = world[ada].video.as_ref().expect("a camera").keyframes;
    assert!(asked <= 12, "asked for {asked} keyframes that nobody recognised");
}

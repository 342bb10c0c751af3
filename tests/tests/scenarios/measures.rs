//! What a worker gives up when it is told to, on real media: never a voice.

use sluicegate::sans_io::Measures;
use sluicegate::{Bitrate, CapCause, FilterReason, MediaKind, PeerEvent, Rejection};
use sluicegate_tests::world::{
    AUDIO, Part, Seat, THREE_LAYERS, VIDEO, World, layer_of, ms, publishes, secs, watches,
};

const CAPPED: Measures = Measures { cap: 0.5, ..Measures::NONE };

fn camera() -> Part {
    publishes(AUDIO).layered(&THREE_LAYERS)
}

fn hold(world: &mut World, measures: Measures) {
    world.engine.hold(world.now, measures);
}

/// What a receiver got of one layer in the last second, in bits.
fn rate(world: &World, me: Seat, publisher: usize) -> f64 {
    let since = world.now - secs(1);
    let seen = world[me].sink.from(publisher, true).filter(|seen| seen.at >= since);
    seen.map(|seen| seen.len as f64 * 8.0).sum()
}

fn assert_voice_is_whole(world: &World, me: Seat, other: Seat) {
    let voice: Vec<_> = world[me].sink.from(other.index, false).map(|seen| seen.content.packet).collect();
    assert!(voice.len() > 50 && voice.windows(2).all(|pair| pair[1] == pair[0] + 1), "a gap in its audio");
}

fn filtered(world: &World, reason: FilterReason) -> u64 {
    world.counters().filtered[MediaKind::Video as usize][reason as usize]
}

#[test]
fn caps_are_a_share_of_what_is_configured_and_are_lifted() {
    for seed in 1..=3 {
        let mut world = World::new(seed);
        let ada = world.join("room", "ada", publishes(AUDIO | VIDEO).at(960_000).capped(Bitrate::mbps(1)));
        let wim = world.join("room", "wim", watches(1));
        world.connect_all(secs(2));
        world.run(secs(3));
        assert!(rate(&world, wim, ada.index) > 700_000.0);
        hold(&mut world, CAPPED);
        world.run(ms(10));
        let told = world[ada].told(|event| {
            let cap = Some(Bitrate::kbps(500));
            matches!(event, PeerEvent::CapChanged { cap: told, cause: CapCause::Saturation } if *told == cap)
        });
        assert_eq!(told.len(), 1, "seed {seed}: half of a megabit, at once");
        world.run(secs(3));
        let held = rate(&world, wim, ada.index);
        assert!(held <= 550_000.0, "seed {seed}: {held}");
        hold(&mut world, CAPPED);
        hold(&mut world, Measures::NONE);
        world.run(secs(4));
        let back = rate(&world, wim, ada.index);
        assert!(back > 700_000.0, "seed {seed}: {back}");
        let told = world[ada]
            .told(|event| matches!(event, PeerEvent::CapChanged { cause: CapCause::Saturation, .. }));
        assert_eq!(told.len(), 2, "held and lifted, whatever is told twice");
        assert_voice_is_whole(&world, wim, ada);
    }
}

#[test]
fn who_has_no_cap_is_held_to_a_share_of_what_it_sent_and_stays_there() {
    let mut world = World::new(1);
    let ada = world.join("room", "ada", publishes(AUDIO | VIDEO).at(1_200_000));
    let wim = world.join("room", "wim", watches(1));
    world.connect_all(secs(2));
    world.run(secs(3));
    hold(&mut world, CAPPED);
    world.run(secs(10));
    let held = rate(&world, wim, ada.index);
    assert!((300_000.0..750_000.0).contains(&held), "{held}: half of 1.2 Mb/s, and not half of that again");
}

#[test]
fn the_largest_layer_goes_and_comes_back() {
    let mut world = World::new(1);
    let ada = world.join("room", "ada", camera().stubborn());
    let wim = world.join("room", "wim", watches(1));
    world.connect_all(secs(2));
    world.run(secs(3));
    assert!(rate(&world, wim, layer_of(ada.index, 2)) > 0.0);
    // So little of a cap that nobody is policed: the layer alone.
    hold(&mut world, Measures { cap: 0.999, ..Measures::NONE });
    world.run(secs(3));
    assert_eq!(rate(&world, wim, layer_of(ada.index, 2)), 0.0);
    assert!(rate(&world, wim, layer_of(ada.index, 1)) > 0.0, "the next one, and not the smallest");
    hold(&mut world, Measures::NONE);
    world.run(secs(3));
    assert!(rate(&world, wim, layer_of(ada.index, 2)) > 0.0);
    assert_voice_is_whole(&world, wim, ada);
}

#[test]
fn the_first_videos_stay_and_the_others_come_back_at_a_keyframe() {
    for seed in 1..=3 {
        let mut world = World::new(seed);
        let people =
            [0, 1, 2, 3].map(|n| world.join("room", &n.to_string(), publishes(AUDIO | VIDEO).at(400_000)));
        let wim = world.join("room", "wim", watches(4));
        world.connect_all(secs(3));
        world.run(secs(3));
        let pictures =
            |world: &World| people.iter().filter(|other| rate(world, wim, other.index) > 50_000.0).count();
        assert_eq!(pictures(&world), 4);
        hold(&mut world, Measures { cap: 0.999, drop_temporal: true, last_n: Some(2), ..Measures::NONE });
        world.run(secs(2));
        assert_eq!(pictures(&world), 2, "seed {seed}");
        assert!(filtered(&world, FilterReason::LastN) > 50);
        hold(&mut world, Measures { cap: 0.999, drop_temporal: true, last_n: Some(3), ..Measures::NONE });
        world.run(secs(2));
        assert_eq!(pictures(&world), 3, "seed {seed}");
        hold(&mut world, Measures { audio_only: true, ..Measures::NONE });
        world.run(secs(2));
        assert_eq!(pictures(&world), 0, "seed {seed}");
        // Who comes now gets voices, too, and no picture before.
        let late = world.join("room", "late", watches(4));
        world.run(secs(3));
        assert!(people.iter().all(|other| world[late].sink.from(other.index, false).count() > 50));
        let seen = people.map(|other| world[late].sink.from(other.index, true).count());
        assert_eq!(seen, [0; 4], "seed {seed}");
        hold(&mut world, Measures::NONE);
        world.run(secs(3));
        assert_eq!(pictures(&world), 4, "seed {seed}");
        for other in people {
            assert_voice_is_whole(&world, wim, other);
        }
    }
}

#[test]
fn new_videos_wait_until_there_is_room_and_voices_do_not() {
    let mut world = World::new(1);
    let ada = world.join("room", "ada", publishes(AUDIO | VIDEO));
    let wim = world.join("room", "wim", watches(2));
    world.connect_all(secs(2));
    hold(&mut world, Measures { cap: 0.35, drop_temporal: true, ..Measures::NONE });
    let late = world.join("room", "late", publishes(AUDIO | VIDEO));
    world.run(secs(3));
    let refused =
        |event: &PeerEvent| matches!(event, PeerEvent::LineRejected { reason: Rejection::Saturated, .. });
    assert_eq!(world[late].told(refused).len(), 1);
    assert!(world[wim].sink.from(late.index, false).count() > 50, "its voice");
    assert_eq!(world[wim].sink.from(late.index, true).count(), 0, "and no picture");
    assert!(world[wim].sink.from(ada.index, true).count() > 0);
    hold(&mut world, Measures::NONE);
    world.run(secs(4));
    assert!(world[wim].sink.from(late.index, true).count() > 0, "it is taken up by itself");
}

#[test]
fn measures_that_come_and_go_leave_nothing_behind() {
    let mut world = World::new(1);
    let ada = world.join("room", "ada", camera());
    let wim = world.join("room", "wim", watches(1).browser());
    world.connect_all(secs(2));
    let steps = [CAPPED, Measures { drop_temporal: true, ..CAPPED }, Measures { audio_only: true, ..CAPPED }];
    for step in 0..40 {
        let measures = steps.get(step % 4).copied().unwrap_or(Measures::NONE);
        hold(&mut world, measures);
        world.run(ms(230));
    }
    hold(&mut world, Measures::NONE);
    world.run(secs(5));
    assert!(rate(&world, wim, layer_of(ada.index, 2)) > 0.0);
    assert_voice_is_whole(&world, wim, ada);
}

/// T7: a room with 60 % of the cost among twenty small ones.
#[test]
fn the_loudest_room_pays_and_small_ones_lose_nothing() {
    for seed in 1..=3 {
        let mut world = World::new(seed);
        let speaker = world.join("hall", "speaker", publishes(AUDIO | VIDEO).at(1_000_000));
        let crowd: Vec<Seat> = (0..30).map(|n| world.join("hall", &n.to_string(), watches(1))).collect();
        let small: Vec<[Seat; 2]> = (0..20)
            .map(|n| {
                let room = format!("room {n}");
                let publisher = world.join(&room, "ada", publishes(AUDIO | VIDEO).at(1_000_000));
                [publisher, world.join(&room, "wim", watches(1))]
            })
            .collect();
        world.connect_all(secs(3));
        world.run(secs(3));
        let pairs =
            |world: &World| small.iter().map(|[ada, wim]| rate(world, *wim, ada.index)).collect::<Vec<_>>();
        let (before, loud) = (pairs(&world), rate(&world, crowd[0], speaker.index));
        // A quarter of everything is to be saved: 12.5 of 30 parts of the hall's.
        hold(&mut world, Measures { cap: 0.75, ..Measures::NONE });
        world.run(secs(6));
        let (after, quiet) = (pairs(&world), rate(&world, crowd[0], speaker.index));
        for (before, after) in before.iter().zip(&after) {
            assert!(*after >= 0.95 * before, "seed {seed}: {after} of {before} in a small room");
        }
        let share = quiet / loud;
        println!("seed {seed}: the hall keeps {share:.3}");
        assert!((0.45..0.65).contains(&share), "seed {seed}: {share} of what the hall had");
        for [ada, wim] in &small {
            assert_voice_is_whole(&world, *wim, *ada);
        }
        assert_voice_is_whole(&world, crowd[0], speaker);
    }
}

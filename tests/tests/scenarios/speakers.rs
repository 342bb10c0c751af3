//! Who is heard and seen: the floor, the loudest of a large room, and the videos of who speaks.

use std::time::{Duration, Instant};

use sluicegate::sans_io::Measures;
use sluicegate::{Audible, FilterReason, MediaKind, PeerEvent, TrackSource};
use sluicegate_tests::world::decoder::longest_gap;
use sluicegate_tests::world::{
    AUDIO, Part, Percent, Seat, VIDEO, Voice, Wire, World, ms, publishes, secs, watches,
};

fn microphone() -> Part {
    publishes(AUDIO).with_levels()
}

fn camera() -> Part {
    publishes(AUDIO | VIDEO).with_levels()
}

fn join_on(world: &mut World, worker: u16, name: &str, part: Part) -> Seat {
    world.worker = worker;
    world.join("room", name, part)
}

/// One of them speaks for a while.
fn speaks(world: &mut World, who: Seat, span: Duration) {
    world[who].voice(Voice::Speaks);
    world.run(span);
    world[who].voice(Voice::Silent);
}

/// Whom the host was told to have the floor, and when.
fn floors(world: &World, seat: Seat) -> Vec<(Instant, Option<String>)> {
    let told = world[seat].events.iter().filter_map(|(at, event)| match event {
        PeerEvent::DominantSpeaker(peer) => Some((*at, peer.as_ref().map(|peer| peer.name.clone()))),
        _ => None,
    });
    told.collect()
}

fn names(world: &World, seat: Seat) -> Vec<Option<String>> {
    floors(world, seat).into_iter().map(|(_, name)| name).collect()
}

fn some(names: &[&str]) -> Vec<Option<String>> {
    names.iter().map(|name| Some((*name).to_owned())).collect()
}

fn filtered(world: &World, kind: MediaKind, reason: FilterReason) -> u64 {
    world.counters().filtered[kind as usize][reason as usize]
}

/// Numbers of the packets of one voice that came from `since` on.
fn words(world: &World, me: Seat, other: Seat, since: Instant) -> Vec<u64> {
    let seen = world[me].sink.from(other.index, false).filter(|seen| seen.at >= since);
    seen.map(|seen| seen.content.packet).collect()
}

/// Whose pictures came in the last second, by their places.
fn seen(world: &World, me: Seat, people: &[Seat]) -> Vec<usize> {
    let (from, to) = (world.now - secs(1), world.now);
    let is_seen = |other: &Seat| world[me].sink.packets_between(other.index, true, from, to) > 15;
    (0..people.len()).filter(|at| is_seen(&people[*at])).collect()
}

fn video_mid(world: &World, me: Seat, other: &str) -> String {
    let slots = world[me].events.iter().rev().find_map(|(_, event)| match event {
        PeerEvent::Slots(slots) => Some(slots),
        _ => None,
    });
    let mut slots = slots.expect("it was told its slots").iter();
    let slot = slots.find(|slot| {
        slot.kind == MediaKind::Video && slot.publisher.as_ref().is_some_and(|peer| peer.name == other)
    });
    slot.expect("it has a slot for it").mid.clone()
}

#[test]
fn the_floor_follows_who_speaks_and_everybody_is_told() {
    for (seed, workers) in [(1, 1), (2, 2), (3, 3)] {
        let mut world = World::of_workers(seed, workers, |_| {});
        let people: Vec<Seat> =
            (0..4).map(|n| join_on(&mut world, n % workers, &n.to_string(), microphone())).collect();
        world.connect_all(secs(3));
        world.run(secs(2));
        assert!(floors(&world, people[0]).is_empty(), "nobody has spoken");
        let began = world.now;
        speaks(&mut world, people[2], secs(3));
        world.run(secs(5));
        speaks(&mut world, people[3], secs(3));
        speaks(&mut world, people[0], secs(3));
        for seat in &people {
            assert_eq!(names(&world, *seat), some(&["2", "3", "0"]), "{workers} workers");
            let after = floors(&world, *seat)[0].0 - began;
            assert!(after <= ms(1_300), "{workers} workers: after {after:?}");
        }
        let late = join_on(&mut world, workers - 1, "late", microphone());
        world.run(secs(1));
        assert_eq!(names(&world, late), some(&["0"]), "{workers} workers: a newcomer is told");
        // A door slams, and a liar is loud for as long as that.
        world[people[1]].voice(Voice::Claims(0));
        world.run(ms(350));
        world[people[1]].voice(Voice::Silent);
        world.run(secs(3));
        assert_eq!(names(&world, late), some(&["0"]));
        // Its holder leaves, whoever decides stays or not.
        world.leave(people[0]);
        world.run(secs(1));
        assert_eq!(names(&world, late).last(), Some(&None), "{workers} workers");
        speaks(&mut world, people[1], secs(3));
        for seat in &people[1..] {
            assert_eq!(names(&world, *seat).last(), Some(&Some("1".to_owned())), "{workers} workers");
        }
        assert_eq!(filtered(&world, MediaKind::Audio, FilterReason::Speaker), 0, "a small room hears all");
    }
}

#[test]
fn who_speaks_is_told_at_most_twice_a_second() {
    let mut world = World::new(1);
    let people: Vec<Seat> =
        (0..12).map(|n| world.join("room", &n.to_string(), microphone().nothing_back())).collect();
    let wim = world.join("room", "wim", watches(1));
    world.connect_all(secs(3));
    world.run(secs(1));
    for at in 0..60 {
        world[people[at * 5 % 12]].voice(if at.is_multiple_of(3) { Voice::Silent } else { Voice::Speaks });
        world.run(ms(170));
    }
    let told = world[wim].told(|event| matches!(event, PeerEvent::SpeakersChanged(_)));
    let stats = world.engine.room_stats(world.now, "room").expect("somebody is in it");
    let dominant = floors(&world, wim).last().and_then(|(_, name)| name.clone()).expect("somebody has it");
    let dominant = people.iter().find(|person| world[**person].name == dominant).map(|it| world.peer(*it));
    assert_eq!(stats.dominant_speaker, dominant);
    assert!(stats.speakers.len() >= 4, "{stats:?}");
    assert!(stats.speakers.iter().all(|(_, level)| (-80..=-15).contains(level)), "{stats:?}");
    world.engine.sample(world.now);
    assert_eq!(world.counters().gauges.active_speakers, stats.speakers.len() as u64);
    assert!(told.len() >= 5, "{}", told.len());
    assert!(told.windows(2).all(|pair| pair[1] - pair[0] >= ms(500)));
    people.iter().for_each(|person| world[*person].voice(Voice::Silent));
    world.run(secs(3));
    let last = world[wim].events.iter().rev().find_map(|(_, event)| match event {
        PeerEvent::SpeakersChanged(speakers) => Some(speakers.len()),
        _ => None,
    });
    assert_eq!(last, Some(0), "everybody has fallen silent");
    assert!(floors(&world, wim).windows(2).all(|pair| pair[1].0 - pair[0].0 >= ms(100)));
}

/// So many who publish, and two who listen, on as many workers as that.
fn hall(seed: u64, workers: u16, publishers: usize) -> (World, Vec<Seat>, Vec<Seat>) {
    let mut world = World::of_workers(seed, workers, |_| {});
    let people = (0..publishers).map(|n| {
        let worker = n as u16 % workers;
        join_on(&mut world, worker, &n.to_string(), microphone().nothing_back())
    });
    let people: Vec<Seat> = people.collect();
    let listener =
        |world: &mut World, n: u16| join_on(world, n % workers, &format!("listener{n}"), watches(publishers));
    let listeners = (0..2).map(|n| listener(&mut world, n)).collect();
    world.connect_all(secs(5));
    (world, people, listeners)
}

#[test]
fn three_of_a_large_room_are_heard_and_no_word_is_cut() {
    for (seed, workers) in [(1, 1), (2, 2), (3, 3)] {
        let (mut world, people, listeners) = hall(seed, workers, 24);
        world.run(secs(2));
        for turn in 0..8 {
            let (first, second) = (people[turn * 5 % 24], people[(turn * 5 + 11) % 24]);
            let began = world.now;
            let next = world[first].audio.as_ref().expect("a microphone").packets();
            world[second].voice(Voice::Speaks);
            speaks(&mut world, first, secs(2));
            // A pause within a sentence.
            world.run(ms(300));
            speaks(&mut world, first, ms(700));
            world[second].voice(Voice::Silent);
            world.run(ms(400));
            for listener in &listeners {
                let heard = words(&world, *listener, first, began);
                let whole = heard.windows(2).all(|pair| pair[1] == pair[0] + 1);
                let from = heard.first().copied().unwrap_or(u64::MAX);
                assert!(
                    whole && from <= next + 1 && heard.len() > 150,
                    "turn {turn}, {workers} workers: {from} of {next}, {heard:?}"
                );
            }
        }
        for listener in &listeners {
            assert_eq!(world[*listener].sink.duplicates(), 0);
            let faults = world[*listener].sink.discontinuities();
            assert!(faults.is_empty(), "{workers} workers: {faults:#?}");
            // Three voices of 50 packets a second, and what they say just before they are heard.
            let since = world.now - secs(20);
            let heard = world[*listener].sink.seen().filter(|seen| seen.at >= since).count();
            assert!((2_900..=3_200).contains(&heard), "{workers} workers: {heard} in 20 s");
        }
        let (mut owed, published) = (
            0,
            people
                .iter()
                .map(|other| world[*other].audio.as_ref().expect("it has one").packets())
                .sum::<u64>(),
        );
        for worker in 0..workers {
            world.on(worker, |world| owed += world.counters().fanout[MediaKind::Audio as usize]);
        }
        // Two listeners on one worker are owed two copies of everything. On two, a worker owes its listener what was
        // published there, and what has crossed; on three, the last one owes nobody anything.
        let heard: u64 = listeners.iter().map(|listener| world[*listener].sink.seen().count() as u64).sum();
        match workers {
            1 => assert!(owed >= published * 2, "{owed} of {published}"),
            2 => assert!(owed < published + heard, "{owed}, {published} published, {heard} heard"),
            _ => assert!(owed < published, "{owed} of {published}"),
        }
    }
}

#[test]
fn a_room_is_as_large_as_its_host_says() {
    let (mut world, people, listeners) = hall(1, 1, 6);
    let heard = |world: &World| {
        let (from, to) = (world.now - ms(500), world.now);
        let sink = &world[listeners[0]].sink;
        people.iter().filter(|other| sink.packets_between(other.index, false, from, to) > 15).count()
    };
    people.iter().for_each(|person| world[*person].voice(Voice::Speaks));
    world.run(secs(1));
    assert_eq!(heard(&world), 6);
    for (audible, expected) in [
        (Audible::Loudest(2), 2),
        (Audible::Loudest(0), 1),
        (Audible::Loudest(5), 5),
        (Audible::Loudest(u8::MAX), 6),
        (Audible::Loudest(1), 1),
        (Audible::All, 6),
        (Audible::Loudest(3), 3),
        (Audible::Auto, 6),
    ] {
        let now = world.now;
        world.engine.set_audible(now, "room", audible);
        world.run(secs(1));
        assert_eq!(heard(&world), expected, "{audible:?}");
    }
    assert_eq!(world[listeners[0]].sink.duplicates(), 0);
    // Rooms that nobody is in may be told as well, and told to forget.
    let now = world.now;
    world.engine.set_audible(now, "nobody", Audible::Loudest(3));
    world.engine.set_room_last_n(now, "nobody", Some(0));
    world.engine.forget_settings(now, "nobody");
}

#[test]
fn who_lies_about_his_level_is_heard_and_that_is_all() {
    let (mut world, people, listeners) = hall(1, 1, 24);
    world[people[23]].voice(Voice::Claims(0));
    world.run(secs(4));
    assert_eq!(names(&world, listeners[0]), some(&["23"]), "it has the floor …");
    world.run(secs(28));
    for honest in &people[..4] {
        let began = world.now;
        speaks(&mut world, *honest, secs(3));
        let heard = words(&world, listeners[0], *honest, began);
        assert!(heard.len() > 140 && heard.windows(2).all(|pair| pair[1] == pair[0] + 1), "{honest:?}");
    }
    assert_eq!(
        names(&world, listeners[0]),
        some(&["23", "0", "1", "2", "3"]),
        "… until it is taken for a noise"
    );
}

#[test]
fn who_tells_no_level_is_heard_like_others() {
    let mut world = World::new(1);
    let quiet: Vec<Seat> =
        (0..22).map(|n| world.join("room", &n.to_string(), microphone().nothing_back())).collect();
    let plain = world.join("room", "plain", publishes(AUDIO).nothing_back());
    let wim = world.join("room", "wim", watches(23));
    world.connect_all(secs(5));
    world.run(secs(3));
    let began = world.now;
    speaks(&mut world, quiet[7], secs(2));
    for other in [plain, quiet[7]] {
        let heard = words(&world, wim, other, began);
        assert!(heard.len() > 90, "{other:?}: {}", heard.len());
    }
    assert!(names(&world, wim).iter().all(|name| name.as_deref() != Some("plain")));
}

#[test]
fn fewer_videos_are_those_of_who_spoke_last() {
    for (seed, workers) in [(1, 1), (2, 2)] {
        let mut world = World::of_workers(seed, workers, |_| {});
        let people: Vec<Seat> =
            (0..5).map(|n| join_on(&mut world, n % workers, &n.to_string(), camera())).collect();
        let wim = join_on(&mut world, 0, "wim", watches(5));
        world.connect_all(secs(3));
        world.run(secs(1));
        assert_eq!(seen(&world, wim, &people), [0, 1, 2, 3, 4]);
        let now = world.now;
        for worker in 0..workers {
            world.on(worker, |world| world.engine.set_room_last_n(now, "room", Some(2)));
        }
        world.run(secs(2));
        assert_eq!(seen(&world, wim, &people), [0, 1], "as they came, while nobody has spoken");
        for (speaker, expected) in [(3, [0, 3]), (4, [3, 4]), (2, [2, 4])] {
            speaks(&mut world, people[speaker], secs(3));
            assert_eq!(seen(&world, wim, &people), expected, "{workers} workers: {speaker} has spoken");
            let floor = floors(&world, wim).last().expect("it was told").0;
            let pictures = world[wim].sink.pictures(people[speaker].index);
            let first = pictures.iter().find(|picture| picture.at >= floor).expect("a picture").at;
            assert!(first - floor <= ms(100), "{workers} workers: {:?} after the floor", first - floor);
            // Who speaks sees who spoke before, and not himself in place of somebody.
            assert_eq!(seen(&world, people[speaker], &people).len(), 2);
        }
        // Pinned and screens first; one alone has two choices to make.
        let (peer, mid) = (world.peer(wim), video_mid(&world, wim, "0"));
        assert!(world.engine.pin(now, peer, &mid, true));
        world.run(secs(2));
        assert_eq!(seen(&world, wim, &people), [0, 2]);
        let (screen, own) =
            (world.peer(people[1]), world[people[1]].told_tracks(MediaKind::Video)[0].clone());
        let now = world.now;
        world.on(1 % workers, |world| {
            assert!(world.engine.set_source(now, screen, &own, TrackSource::Screen));
        });
        world.run(secs(2));
        assert_eq!(seen(&world, wim, &people), [0, 1], "{workers} workers: and what the screen shows");
        speaks(&mut world, people[4], secs(3));
        assert_eq!(seen(&world, wim, &people), [0, 1], "who speaks comes after them");
        assert_eq!(seen(&world, people[0], &people), [1, 4], "somebody else's pin is nobody else's");
        // A track vanishes while it is pinned, and so does the pin.
        world.leave(people[0]);
        world.run(secs(2));
        assert_eq!(seen(&world, wim, &people), [1, 4]);
        let now = world.now;
        assert!(!world.engine.pin(now, peer, &mid, true), "there is nothing on it");
        for last_n in [Some(0), Some(1), Some(u32::MAX), None] {
            world.engine.set_last_n(now, peer, last_n);
            world.run(secs(2));
            let expected: &[usize] = match last_n {
                Some(0) => &[],
                Some(1) => &[1],
                _ => &[1, 4],
            };
            assert_eq!(seen(&world, wim, &people), expected, "{last_n:?}: the room's holds, too");
        }
        let now = world.now;
        for worker in 0..workers {
            world.on(worker, |world| world.engine.forget_settings(now, "room"));
        }
        world.run(secs(2));
        assert_eq!(seen(&world, wim, &people), [1, 2, 3, 4]);
        assert!(filtered(&world, MediaKind::Video, FilterReason::LastN) > 1_000);
        assert!(world[wim].sink.discontinuities().is_empty());
    }
}

#[test]
fn what_does_not_exist_cannot_be_pinned_or_shown() {
    let mut world = World::new(1);
    let ada = world.join("room", "ada", camera());
    let wim = world.join("room", "wim", watches(2));
    world.connect_all(secs(2));
    world.run(secs(1));
    let (now, peer, ada_peer) = (world.now, world.peer(wim), world.peer(ada));
    let audio = world[ada].told_tracks(MediaKind::Audio)[0].clone();
    for mid in ["", "nothing", "s9999", "a mid that is far longer than any mid may be, and then some"] {
        assert!(!world.engine.pin(now, peer, mid, true));
        assert!(!world.engine.set_source(now, ada_peer, mid, TrackSource::Screen));
    }
    assert!(!world.engine.set_source(now, ada_peer, &audio, TrackSource::Screen), "it shows nothing");
    world.leave(wim);
    assert!(!world.engine.pin(now, peer, "0", true));
    assert!(!world.engine.set_last_n(now, peer, Some(1)));
    world.leave(ada);
    world.run(secs(2));
    assert_eq!(world.engine.footprint(), [0; 5], "nothing is left of them");
}

#[test]
fn a_machine_that_is_short_keeps_who_speaks_in_sight() {
    for seed in 1..=3 {
        let mut world = World::new(seed);
        let people: Vec<Seat> = (0..4).map(|n| world.join("room", &n.to_string(), camera())).collect();
        let wim = world.join("room", "wim", watches(4));
        world.connect_all(secs(3));
        world.run(secs(1));
        speaks(&mut world, people[3], secs(2));
        let few = Measures { cap: 0.999, drop_temporal: true, last_n: Some(1), ..Measures::NONE };
        let now = world.now;
        world.engine.hold(now, few);
        world.run(secs(2));
        assert_eq!(seen(&world, wim, &people), [3], "seed {seed}");
        let asked = Wire::plis(&world[people[1]].tap.wire().received).len();
        speaks(&mut world, people[1], secs(3));
        assert_eq!(seen(&world, wim, &people), [1], "seed {seed}");
        assert!(Wire::plis(&world[people[1]].tap.wire().received).len() > asked, "a keyframe was asked for");
        let (now, peer, mid) = (world.now, world.peer(wim), video_mid(&world, wim, "2"));
        assert!(world.engine.pin(now, peer, &mid, true));
        world.run(secs(2));
        assert_eq!(seen(&world, wim, &people), [2], "seed {seed}: what is pinned");
        let now = world.now;
        world.engine.hold(now, Measures { audio_only: true, ..few });
        world.run(secs(2));
        assert!(seen(&world, wim, &people).is_empty(), "seed {seed}");
        let now = world.now;
        world.engine.hold(now, Measures::NONE);
        world.run(secs(2));
        assert_eq!(seen(&world, wim, &people), [0, 1, 2, 3], "seed {seed}");
        for other in &people {
            assert_eq!(
                words(&world, wim, *other, now - secs(9))
                    .windows(2)
                    .filter(|pair| pair[1] != pair[0] + 1)
                    .count(),
                0
            );
        }
    }
}

#[test]
fn fewer_videos_over_a_lossy_network_come_back_all_the_same() {
    let mut world = World::new(1);
    world.path.delay = ms(30);
    let people: Vec<Seat> = (0..3).map(|n| world.join("room", &n.to_string(), camera())).collect();
    let wim = world.join("room", "wim", watches(3).browser());
    world.connect_all(secs(3));
    world.run(secs(1));
    world.lose(wim.downlink, 3.percent());
    let (now, peer) = (world.now, world.peer(wim));
    world.engine.set_last_n(now, peer, Some(1));
    for turn in 0..6 {
        speaks(&mut world, people[turn % 3], secs(3));
        let others = seen(&world, wim, &people);
        assert_eq!(others, [turn % 3], "turn {turn}");
        let pictures = world[wim].sink.pictures(people[turn % 3].index);
        let lately: Vec<_> =
            pictures.into_iter().filter(|picture| picture.at >= world.now - secs(1)).collect();
        assert!(longest_gap(&lately) <= ms(400), "turn {turn}: {:?}", longest_gap(&lately));
    }
}

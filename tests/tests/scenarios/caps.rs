//! Publishers that are told a cap, and those that do not listen.

use std::time::Instant;

use sluicegate::sans_io::DropKind;
use sluicegate::{Bitrate, CapCause, CapError, CapScope, DropReason, PeerEvent};
use sluicegate_tests::world::decoder::longest_gap;
use sluicegate_tests::world::{AUDIO, Seat, THREE_LAYERS, VIDEO, Wire, World, ms, publishes, secs, watches};

fn told(world: &World, seat: Seat, cause: CapCause) -> Vec<Instant> {
    world[seat].told(|event| matches!(event, PeerEvent::CapChanged { cause: why, .. } if *why == cause))
}

/// What a receiver got of a publisher's video in the last second, in bits.
fn video_rate(world: &World, me: Seat, other: Seat) -> f64 {
    let since = world.now - secs(1);
    let seen = world[me].sink.from(other.index, true).filter(|seen| seen.at >= since);
    seen.map(|seen| seen.len as f64 * 8.0).sum()
}

#[test]
fn who_ignores_a_cap_is_policed_and_keeps_its_voice() {
    for seed in 1..=3 {
        let mut world = World::new(seed);
        let ada = world.join("room", "ada", publishes(AUDIO | VIDEO).at(960_000).stubborn());
        let wim = world.join("room", "wim", watches(1));
        world.connect_all(secs(2));
        world.run(secs(2));
        let peer = world.peer(ada);
        world.engine.set_publish_cap(world.now, peer, Some(Bitrate::kbps(500))).expect("it is there");
        let set = world.now;
        world.run(secs(5));
        assert_eq!(told(&world, ada, CapCause::Host), [set]);
        let policing = told(&world, ada, CapCause::Policing);
        assert_eq!(policing.len(), 1);
        let after = policing[0] - set;
        assert!(after >= secs(2) && after <= ms(2_700), "{after:?}");
        for _ in 0..5 {
            world.run(secs(1));
            let rate = video_rate(&world, wim, ada);
            assert!(rate <= 550_000.0, "{rate} forwarded");
            assert!(rate >= 250_000.0, "{rate} forwarded, no more is taken than must be");
        }
        assert!(world.dropped_in(DropKind::Video, DropReason::Policed) > 100);
        assert_eq!(world.dropped_in(DropKind::Audio, DropReason::Policed), 0);
        let voice: Vec<_> = world[wim].sink.from(ada.index, false).map(|seen| seen.content.packet).collect();
        assert!(voice.windows(2).all(|pair| pair[1] == pair[0] + 1), "its audio is untouched");
        assert_eq!(world.counters().cap_violations, 1);

        // It gives in.
        world[ada].video.as_mut().expect("it has a camera").bitrate = 300_000;
        world.run(secs(5));
        assert_eq!(told(&world, ada, CapCause::Complying).len(), 1);
        let dropped = world.dropped_in(DropKind::Video, DropReason::Policed);
        world.run(secs(3));
        assert_eq!(world.dropped_in(DropKind::Video, DropReason::Policed), dropped, "nothing any more");
    }
}

#[test]
fn raising_a_cap_lifts_policing() {
    for seed in 1..=3 {
        let mut world = World::new(seed);
        let part = publishes(AUDIO | VIDEO).at(960_000).stubborn().capped(Bitrate::kbps(500));
        let ada = world.join("room", "ada", part);
        let wim = world.join("room", "wim", watches(1));
        world.run(secs(6));
        assert_eq!(told(&world, ada, CapCause::Policing).len(), 1);
        let peer = world.peer(ada);
        world.engine.set_publish_cap(world.now, peer, Some(Bitrate::mbps(2))).expect("it is there");
        world.run(ms(4_500));
        let dropped = world.dropped_in(DropKind::Video, DropReason::Policed);
        world.run(secs(2));
        assert_eq!(world.dropped_in(DropKind::Video, DropReason::Policed), dropped);
        assert_eq!(told(&world, ada, CapCause::Complying).len(), 1);
        let rate = video_rate(&world, wim, ada);
        assert!(rate > 800_000.0, "{rate} forwarded");
    }
}

#[test]
fn who_keeps_to_a_cap_is_left_alone() {
    for seed in 1..=3 {
        let mut world = World::new(seed);
        let ada = world.join("room", "ada", publishes(AUDIO | VIDEO).at(960_000));
        let wim = world.join("room", "wim", watches(1));
        world.run(secs(2));
        let peer = world.peer(ada);
        world.engine.set_publish_cap(world.now, peer, Some(Bitrate::kbps(500))).expect("it is there");
        world.run(secs(1));
        world.run(secs(8));
        let rate = video_rate(&world, wim, ada);
        assert!((300_000.0..500_000.0).contains(&rate), "{rate}");
        assert!(told(&world, ada, CapCause::Policing).is_empty());
        assert_eq!(world.dropped_in(DropKind::Video, DropReason::Policed), 0);
        assert_eq!(world[wim].sink.missing(), 0);
    }
}

/// What a publisher sends, headers and repairs included, read each 50 ms: bits in all so far.
fn sent(world: &mut World, publisher: Seat, turns: usize) -> Vec<f64> {
    let total = |world: &World| world[publisher].tap.wire().rtp_bytes_sent as f64 * 8.0;
    let mut readings = vec![total(world)];
    for _ in 0..turns {
        world.run(ms(50));
        readings.push(total(world));
    }
    readings
}

#[test]
fn three_layers_fit_under_a_cap_within_a_second_and_come_back() {
    for seed in 1..=3 {
        let mut world = World::new(seed);
        world.path.delay = ms(25);
        let ada = world.join("room", "ada", publishes(AUDIO).layered(&THREE_LAYERS));
        let wims = [0, 1, 2].map(|n| world.join("room", &format!("w{n}"), watches(1).browser()));
        world.connect_all(secs(2));
        world.run(secs(3));
        let peer = world.peer(ada);
        let free = sent(&mut world, ada, 40);
        let former = (free[40] - free[0]) / 2.0;

        let called = world.now;
        world.engine.set_publish_cap(called, peer, Some(Bitrate::kbps(500))).expect("it is there");
        let capped = sent(&mut world, ada, 200);
        // Every second that begins 1.0 s after the call or later.
        let most = (20..=180).map(|at| capped[at + 20] - capped[at]).fold(0.0, f64::max);
        let steady = (capped[200] - capped[40]) / 8.0;

        let lifted = world.now;
        world.engine.set_publish_cap(lifted, peer, None).expect("it is there");
        let rising = sent(&mut world, ada, 100);
        // What it sends in the quarter of a second that ends 1.5 s after the call, and in the seconds after.
        let reached = (rising[30] - rising[25]) * 4.0;
        let back = (rising[100] - rising[40]) / 3.0;
        let gaps = wims.map(|wim| {
            let pictures = world[wim].sink.pictures(ada.index);
            let layers: Vec<usize> =
                pictures.iter().filter(|it| it.at > lifted + secs(2)).map(|it| it.layer).collect();
            assert!(layers.iter().all(|layer| *layer == 2), "the best there is, soon");
            longest_gap(&pictures)
        });
        println!(
            "seed {seed}: {:.0} kb/s, capped {:.0} ({:.0} in the worst second), lifted {:.0} at 1.5 s, then {:.0}; \
             {gaps:?} at most without a picture",
            former / 1e3,
            steady / 1e3,
            most / 1e3,
            reached / 1e3,
            back / 1e3
        );
        assert!(most <= 550_000.0, "{most}");
        assert!(steady >= 350_000.0, "{steady}: no more is taken than must be");
        assert!(reached >= 0.8 * former, "{reached} of {former}");
        assert!(gaps.iter().all(|gap| *gap <= secs(1)), "{gaps:?}");
        assert_eq!(world.dropped_in(DropKind::Video, DropReason::Policed), 0, "it obeys");
    }
}

/// What a client was sent by the second, in bits, over so many seconds from now on.
fn received(world: &mut World, who: Seat, seconds: usize) -> Vec<f64> {
    let total = |world: &World| world[who].tap.wire().rtp_bytes_received as f64 * 8.0;
    let mut readings = vec![total(world)];
    for _ in 0..seconds {
        world.run(secs(1));
        readings.push(total(world));
    }
    readings.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

fn most(rates: &[f64]) -> f64 {
    rates.iter().copied().fold(0.0, f64::max)
}

fn mean(rates: &[f64]) -> f64 {
    rates.iter().sum::<f64>() / rates.len() as f64
}

fn assert_voice_is_whole(world: &World, listener: Seat, speaker: Seat) {
    let voice: Vec<_> =
        world[listener].sink.from(speaker.index, false).map(|seen| seen.content.packet).collect();
    assert!(
        voice.len() > 100 && voice.windows(2).all(|pair| pair[1] == pair[0] + 1),
        "its audio is untouched"
    );
}

#[test]
fn who_ignores_a_cap_in_layers_loses_the_largest() {
    for seed in 1..=3 {
        let mut world = World::new(seed);
        let ada = world.join("room", "ada", publishes(AUDIO).layered(&THREE_LAYERS).stubborn());
        let wim = world.join("room", "wim", watches(1).browser());
        world.connect_all(secs(2));
        world.run(secs(3));
        let peer = world.peer(ada);
        world.engine.set_publish_cap(world.now, peer, Some(Bitrate::kbps(800))).expect("it is there");
        let set = world.now;
        world.run(secs(3));
        let rates = received(&mut world, wim, 6);
        let pictures = world[wim].sink.pictures(ada.index);
        let after: Vec<_> = pictures.iter().filter(|picture| picture.at > set).copied().collect();
        println!("seed {seed}: {rates:.0?} b/s, {:?} at most without a picture", longest_gap(&after));
        assert!(most(&rates) <= 880_000.0, "{rates:.0?}");
        assert!(longest_gap(&after) <= ms(400), "the picture gets smaller, it does not stop");
        assert!(after.last().expect("there is one").layer < 2);
        assert_eq!(told(&world, ada, CapCause::Policing).len(), 1);
        assert_voice_is_whole(&world, wim, ada);

        world.engine.set_publish_cap(world.now, peer, None).expect("it is there");
        world.run(secs(3));
        assert_eq!(told(&world, ada, CapCause::Complying).len(), 1);
        assert_eq!(world[wim].sink.pictures(ada.index).last().expect("there is one").layer, 2);
    }
}

#[test]
fn more_than_twice_the_cap_for_long_is_no_picture_at_all() {
    let mut world = World::new(1);
    let ada =
        world.join("room", "ada", publishes(AUDIO | VIDEO).at(960_000).stubborn().capped(Bitrate::kbps(300)));
    let wim = world.join("room", "wim", watches(1));
    world.connect_all(secs(2));
    world.run(secs(16));
    assert_eq!(told(&world, ada, CapCause::Muted).len(), 1);
    let frames = world[wim].sink.packets_from(ada.index, true);
    world.run(secs(5));
    assert_eq!(world[wim].sink.packets_from(ada.index, true), frames);
    assert_voice_is_whole(&world, wim, ada);
    world[ada].video.as_mut().expect("it has a camera").bitrate = 200_000;
    world.run(secs(6));
    assert_eq!(told(&world, ada, CapCause::Complying).len(), 1);
    assert!(world[wim].sink.packets_from(ada.index, true) > frames + 30, "and it is back");
}

#[test]
fn a_downlink_cap_is_a_smaller_picture() {
    for seed in 1..=3 {
        let mut world = World::new(seed);
        let ada = world.join("room", "ada", publishes(AUDIO).layered(&THREE_LAYERS));
        let wim = world.join("room", "wim", watches(1).browser());
        let eve = world.join("room", "eve", watches(1).browser());
        world.connect_all(secs(2));
        world.run(secs(3));
        let peer = world.peer(wim);
        world.engine.set_downlink_cap(world.now, peer, Some(Bitrate::kbps(700))).expect("it is there");
        let set = world.now;
        world.run(secs(1));
        let rates = received(&mut world, wim, 10);
        let layer = |world: &World, who: Seat| world[who].sink.pictures(ada.index).last().map(|it| it.layer);
        assert!(most(&rates) <= 770_000.0, "{rates:.0?}");
        assert_eq!((layer(&world, wim), layer(&world, eve)), (Some(1), Some(2)), "and nobody else's");
        world.engine.set_downlink_cap(world.now, peer, None).expect("it is there");
        world.run(ms(1_500));
        assert_eq!(layer(&world, wim), Some(2));
        let pictures = world[wim].sink.pictures(ada.index);
        let after: Vec<_> = pictures.into_iter().filter(|picture| picture.at > set).collect();
        assert!(longest_gap(&after) <= ms(120), "{:?}", longest_gap(&after));
        for who in [wim, eve] {
            assert!(Wire::plis(&world[who].tap.wire().sent).is_empty(), "what comes can be decoded");
        }
    }
}

#[test]
fn a_downlink_cap_below_the_only_layer_leaves_whole_pictures_out() {
    for seed in 1..=3 {
        let mut world = World::new(seed);
        let ada = world.join("room", "ada", publishes(AUDIO | VIDEO).at(960_000));
        let wim = world.join("room", "wim", watches(1).browser());
        let eve = world.join("room", "eve", watches(1).browser());
        world.connect_all(secs(2));
        world.run(secs(3));
        let peer = world.peer(wim);
        world.engine.set_downlink_cap(world.now, peer, Some(Bitrate::kbps(400))).expect("it is there");
        world.run(secs(3));
        let (plis, since) = (Wire::plis(&world[wim].tap.wire().sent).len(), world.now);
        let rates = received(&mut world, wim, 10);
        let shown = world[wim].sink.pictures(ada.index).iter().filter(|it| it.at > since).count();
        println!(
            "seed {seed}: {:.0} b/s, {:.0} in the worst second, {shown} pictures",
            mean(&rates),
            most(&rates)
        );
        assert!(mean(&rates) <= 440_000.0 && most(&rates) <= 560_000.0, "{rates:.0?}");
        assert!(shown > 30, "{shown}");
        assert_eq!(Wire::plis(&world[wim].tap.wire().sent).len(), plis, "what comes can be decoded");
        assert_voice_is_whole(&world, wim, ada);
        assert_eq!(world[eve].sink.missing(), 0);
    }
}

#[test]
fn a_room_shares_its_cap_and_who_needs_little_gets_it() {
    for seed in 1..=3 {
        let mut world = World::new(seed);
        let cameras =
            ["ada", "bob"].map(|name| world.join("room", name, publishes(AUDIO | VIDEO).at(900_000)));
        let may = world.join("room", "may", publishes(AUDIO));
        let small = world.join("room", "small", publishes(VIDEO).at(150_000));
        world.connect_all(secs(2));
        world.run(secs(2));
        world.engine.set_room_cap(world.now, "room", Some(Bitrate::kbps(1_200)));
        world.run(secs(4));
        let sent = |world: &World| -> f64 {
            let seats = [cameras[0], cameras[1], may, small];
            seats.iter().map(|seat| world[*seat].tap.wire().rtp_bytes_sent as f64 * 8.0).sum()
        };
        let before = sent(&world);
        world.run(secs(10));
        let rate = (sent(&world) - before) / 10.0;
        let share = |world: &World, who: Seat| {
            world.engine.explain_cap(world.peer(who)).and_then(|caps| caps.binds_publish())
        };
        let shares = cameras.map(|who| share(&world, who).expect("it is capped"));
        println!("seed {seed}: {rate:.0} b/s, {shares:?}");
        assert!((800_000.0..=1_320_000.0).contains(&rate), "{rate}");
        assert!(
            shares.iter().all(|cap| cap.scope == CapScope::Room && cap.bitrate > Bitrate::kbps(350)),
            "{shares:?}"
        );
        assert!(told(&world, small, CapCause::Policing).is_empty());

        // Whoever comes later has a share as well, and the host's own cap stays.
        let peer = world.peer(cameras[0]);
        world.engine.set_publish_cap(world.now, peer, Some(Bitrate::kbps(100))).expect("it is there");
        assert_eq!(share(&world, cameras[0]).map(|cap| cap.scope), Some(CapScope::Peer));
        let late = world.join("room", "late", publishes(VIDEO).at(900_000));
        world.connect_all(secs(2));
        world.run(secs(2));
        assert_eq!(share(&world, late).map(|cap| cap.scope), Some(CapScope::Room));
        world.engine.set_room_cap(world.now, "room", None);
        assert_eq!(share(&world, late), None);
        let told = told(&world, late, CapCause::Room).len();
        assert!((1..6).contains(&told), "{told}");
    }
}

#[test]
fn what_may_leave_is_shared_by_those_who_watch() {
    for seed in 1..=3 {
        let mut world = World::new(seed);
        let ada = world.join("room", "ada", publishes(AUDIO).layered(&THREE_LAYERS));
        let wims: Vec<Seat> =
            (0..6).map(|n| world.join("room", &format!("w{n}"), watches(1).browser())).collect();
        world.connect_all(secs(2));
        world.run(secs(3));
        let total = |world: &World| -> f64 {
            wims.iter().map(|wim| world[*wim].tap.wire().rtp_bytes_received as f64 * 8.0).sum()
        };
        let rate = |world: &mut World, seconds: u64| {
            let before = total(world);
            world.run(secs(seconds));
            (total(world) - before) / seconds as f64
        };
        let free = rate(&mut world, 3);
        world.engine.set_egress_cap(world.now, Some(Bitrate::mbps(5)));
        world.run(secs(1));
        let capped = rate(&mut world, 10);
        println!("seed {seed}: {free:.0} b/s, then {capped:.0}");
        assert!(free > 8e6 && (2e6..=5.2e6).contains(&capped), "{free} {capped}");
        let binds = world.engine.explain_cap(world.peer(wims[0])).and_then(|caps| caps.binds_downlink());
        assert_eq!(binds.map(|cap| cap.scope), Some(CapScope::Node));
        world.engine.set_egress_cap(world.now, None);
        world.run(secs(2));
        assert!(rate(&mut world, 3) > free * 0.9);
        assert_eq!(world.engine.explain_cap(world.peer(wims[0])), Some(Default::default()));
        for wim in &wims {
            assert_voice_is_whole(&world, *wim, ada);
        }
    }
}

#[test]
fn one_of_two_tracks_is_capped() {
    let mut world = World::new(1);
    let ada = world.join("room", "ada", publishes(AUDIO | VIDEO).at(960_000).stubborn());
    let wim = world.join("room", "wim", watches(1));
    world.connect_all(secs(2));
    world.run(secs(2));
    let peer = world.peer(ada);
    let video = world[ada].told_tracks(sluicegate::MediaKind::Video);
    assert_eq!(
        world.engine.set_track_cap(world.now, peer, "nine", None),
        Err(CapError::NoSuchTrack { mid: "nine".into() })
    );
    world.engine.set_track_cap(world.now, peer, &video[0], Some(Bitrate::kbps(300))).expect("it has one");
    // With its audio, all that it may send.
    let binds = world.engine.explain_cap(peer).and_then(|caps| caps.binds_publish());
    assert_eq!(binds.map(|cap| (cap.scope, cap.bitrate)), Some((CapScope::Tracks, Bitrate::kbps(364))));
    world.run(secs(5));
    let rate = video_rate(&world, wim, ada);
    assert!(rate <= 400_000.0, "{rate}");
    assert_voice_is_whole(&world, wim, ada);
}

#[test]
fn absurd_caps_and_those_of_the_departed() {
    let mut world = World::new(1);
    let ada = world.join("room", "ada", publishes(AUDIO | VIDEO).at(960_000).stubborn());
    let wim = world.join("room", "wim", watches(1).browser());
    world.connect_all(secs(2));
    world.run(secs(2));
    let (here, there) = (world.peer(ada), world.peer(wim));
    for cap in
        [Some(Bitrate::bps(0)), Some(Bitrate::bps(1)), Some(Bitrate::MAX), Some(Bitrate::bps(1 << 32)), None]
    {
        let now = world.now;
        world.engine.set_publish_cap(now, here, cap).expect("it is there");
        world.engine.set_downlink_cap(now, there, cap).expect("it is there");
        world.engine.set_room_cap(now, "room", cap);
        world.engine.set_room_cap(now, "nowhere", cap);
        world.engine.set_egress_cap(now, cap);
        world.run(secs(4));
    }
    assert!(video_rate(&world, wim, ada) > 700_000.0, "nothing of it stays");
    assert_voice_is_whole(&world, wim, ada);
    world.leave(ada);
    world.run(secs(1));
    let now = world.now;
    assert_eq!(world.engine.set_publish_cap(now, here, None), Err(CapError::Gone));
    assert_eq!(world.engine.set_downlink_cap(now, here, None), Err(CapError::Gone));
    assert_eq!(world.engine.set_track_cap(now, here, "0", None), Err(CapError::Gone));
    assert_eq!(world.engine.explain_cap(here), None);
}

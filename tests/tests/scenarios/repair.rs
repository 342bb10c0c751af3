//! Losses made good: how much is asked for, how much is sent again, and what is missing in the end.

use std::collections::{BTreeSet, HashSet};

use sluicegate::MediaKind;
use sluicegate::sans_io::{Direction, Transmission};

use sluicegate_tests::world::{
    AUDIO, ENGINE, Loss, Percent, Seat, THREE_LAYERS, VIDEO, Verdict, Wire, World, is_rtp, layer_of, ms,
    publishes, secs, watches,
};

/// The video packets of `publisher` that `subscriber` has, and how many it lacks between first and last.
fn got(world: &World, subscriber: Seat, publisher: Seat) -> (BTreeSet<u64>, u64) {
    got_of(world, subscriber, publisher.index)
}

/// Likewise of what contents name `publisher`: a layer of one.
fn got_of(world: &World, subscriber: Seat, publisher: usize) -> (BTreeSet<u64>, u64) {
    let packets: BTreeSet<u64> =
        world[subscriber].sink.from(publisher, true).map(|seen| seen.content.packet).collect();
    let span = packets.last().expect("something came") - packets.first().expect("something came") + 1;
    let missing = span - packets.len() as u64;
    (packets, missing)
}

/// Keyframes that a publisher has been asked for.
fn keyframes_asked(world: &World, publisher: Seat) -> usize {
    Wire::plis(&world[publisher].tap.wire().received).len()
}

#[test]
fn single_losses_far_away_are_repaired_and_cost_no_keyframe() {
    for seed in 1..=3 {
        let mut world = World::new(seed);
        let ada = world.join("room", "ada", publishes(AUDIO | VIDEO));
        let bob = world.join("room", "bob", watches(1).browser());
        world.connect_all(secs(2));
        world.run(secs(1));
        for link in [bob.uplink, bob.downlink] {
            world.link(link).delay = ms(350);
        }
        world.run(secs(5));
        let before = (keyframes_asked(&world, ada), world[bob].sink.packets_from(ada.index, true));
        world.lose(bob.downlink, 3.percent());
        world.run(secs(30));
        world.lose(bob.downlink, 0.0);
        world.run(secs(4));
        let asked = keyframes_asked(&world, ada) - before.0;
        let (_, missing) = got(&world, bob, ada);
        println!("seed {seed}: {missing} missing, {asked} keyframes asked for");
        // A packet that is lost three times over may be too late; a single loss is not.
        assert!(missing <= 1 && asked <= 1, "{missing} missing, {asked} keyframes asked for");
    }
}

/// The packet that tells a keyframe comes last, as a repair: what had come of that picture before it is shown too.
#[test]
fn a_keyframe_whose_first_packet_was_lost_is_shown_whole() {
    for seed in 1..=3 {
        let mut world = World::new(seed);
        world.path.delay = ms(25);
        let ada = world.join("room", "ada", publishes(AUDIO).layered(&THREE_LAYERS));
        world.connect_all(secs(2));
        world.run(secs(2));
        let mut begun = HashSet::new();
        world.intercept(move |_, datagram| {
            // Words are short, and a repair has the timestamp of what it repairs.
            let is_picture = datagram.from != ENGINE && is_rtp(&datagram.bytes) && datagram.bytes.len() > 400;
            let begins = is_picture && begun.insert(datagram.bytes[4..8].to_vec());
            if begins { Verdict::lose() } else { Verdict::pass() }
        });
        let bob = world.join("room", "bob", watches(1).browser());
        world.connect_all(secs(2));
        world.run(secs(2));
        for active in [1, 3, 2, 3] {
            world[ada].active_layers = active;
            world.run(secs(2));
        }
        world.stop_intercepting();
        world.run(secs(1));
        let wanted = Wire::plis(&world[bob].tap.wire().sent).len();
        let shown = world[bob].sink.pictures(ada.index).len();
        println!("seed {seed}: {wanted} keyframes wanted, {shown} pictures");
        assert_eq!(wanted, 0);
        assert!(shown > 240, "{shown}");
    }
}

#[test]
fn a_burst_too_wide_to_repair_costs_one_keyframe() {
    for seed in 1..=3 {
        let mut world = World::new(seed);
        world.path.delay = ms(25);
        let ada = world.join("room", "ada", publishes(AUDIO).layered(&THREE_LAYERS));
        let bob = world.join("room", "bob", watches(1).browser());
        world.connect_all(secs(2));
        world.run(secs(4));
        let before = (keyframes_asked(&world, ada), world.lost(bob.downlink));
        world.lose(bob.downlink, 1.0);
        world.run(ms(900));
        world.lose(bob.downlink, 0.0);
        let since = world.now;
        world.run(secs(4));
        let (asked, lost) = (keyframes_asked(&world, ada) - before.0, world.lost(bob.downlink) - before.1);
        let pictures = world[bob].sink.pictures(ada.index);
        let back =
            pictures.iter().find(|picture| picture.at > since + ms(30)).map(|picture| picture.at - since);
        println!("seed {seed}: {lost} lost, {asked} keyframes asked for, a picture after {back:?}");
        assert!(lost > 120, "{lost}");
        assert!(asked <= 2, "{asked} keyframes");
        assert!(back.is_some_and(|back| back <= ms(400)), "{back:?}");
    }
}

#[test]
fn a_lossy_publisher_is_asked_about_once_for_each_packet() {
    for (seed, loss) in [
        (1, Loss::Random(5.percent())),
        (2, Loss::Random(5.percent())),
        (3, Loss::Bursts { worsen: 0.02, recover: 0.4 }),
    ] {
        let mut world = World::new(seed);
        let ada = world.join("room", "ada", publishes(VIDEO));
        let bob = world.join("room", "bob", publishes(VIDEO));
        world.connect_all(secs(2));
        world.run(secs(1));
        for link in [ada.uplink, ada.downlink] {
            world.link(link).delay = ms(25);
        }
        let asked = |world: &World| world.counters().nacked_packets[Direction::Out as usize][1];
        let ingress = |world: &World, how: Transmission| {
            world.counters().ingress.packets[MediaKind::Video as usize][how as usize]
        };
        let sent = |world: &World| {
            [ada, bob]
                .iter()
                .map(|me| world[*me].video.as_ref().expect("it publishes").packets())
                .sum::<u64>()
        };
        let before = (asked(&world), ingress(&world, Transmission::First), sent(&world));
        world.link(ada.uplink).loss = loss;
        world.run(secs(60));
        world.link(ada.uplink).loss = Loss::default();
        world.run(secs(2));
        let lost = (sent(&world) - before.2) - (ingress(&world, Transmission::First) - before.1);
        let asked = asked(&world) - before.0;
        let (_, missing) = got(&world, bob, ada);
        println!("seed {seed}: {lost} lost, {asked} asked for, {missing} missing");
        assert!(lost > 100, "{lost}");
        assert!(asked as f64 <= 1.2 * lost as f64, "{asked} asked for, {lost} lost");
        assert!(missing as f64 <= 0.01 * lost as f64, "{missing} of {lost} never came");
    }
}

#[test]
fn a_lossy_publisher_of_layers_repairs_each_of_them() {
    for seed in 1..=3 {
        let mut world = World::new(seed);
        let ada = world.join("room", "ada", publishes(AUDIO).layered(&THREE_LAYERS));
        let bob = world.join("room", "bob", watches(1));
        world.connect_all(secs(2));
        world.run(secs(2));
        for link in [ada.uplink, ada.downlink] {
            world.link(link).delay = ms(25);
        }
        let ingress =
            |world: &World, how| world.counters().ingress.packets[MediaKind::Video as usize][how as usize];
        let made = |world: &World| world[ada].layers.iter().map(|layer| layer.packets()).sum::<u64>();
        let spoken = |world: &World| world[ada].audio.as_ref().expect("it speaks").packets();
        // Packets made, repairs sent, packets and repairs that arrived.
        let books = |world: &World| {
            let repairs = world[ada].tap.wire().rtp_sent - made(world) - spoken(world);
            [made(world), repairs, ingress(world, Transmission::First), ingress(world, Transmission::Rtx)]
        };
        let before = books(&world);
        world.lose(ada.uplink, 5.percent());
        world.run(secs(30));
        world.link(ada.uplink).loss = Loss::default();
        world.run(secs(2));
        let after = books(&world);
        let [made, sent, arrived, repairs] = [0, 1, 2, 3].map(|at| after[at] - before[at]);
        let lost = made - arrived;
        // Of the top layer, for that is what bob gets.
        let (_, missing) = got_of(&world, bob, layer_of(ada.index, 2));
        println!(
            "seed {seed}: {lost} of {made} lost, {sent} repairs sent, {repairs} came, {missing} missing"
        );
        assert!(lost > 300, "{lost}");
        assert!(sent as f64 <= 1.2 * lost as f64, "{sent} sent, {lost} lost");
        assert_eq!(missing, 0, "bob has everything");
        assert_eq!(world[bob].frames_missing(), 0);
    }
}

#[test]
fn a_lossy_subscriber_gets_what_it_asks_for_within_the_budget() {
    for seed in 1..=3 {
        let mut world = World::new(seed);
        let ada = world.join("room", "ada", publishes(VIDEO));
        let bob = world.join("room", "bob", publishes(VIDEO));
        let eve = world.join("room", "eve", publishes(VIDEO));
        world.connect_all(secs(2));
        world.run(secs(1));
        for link in [bob.uplink, bob.downlink] {
            world.link(link).delay = ms(25);
        }
        let egress = |world: &World, how: Transmission| {
            world.counters().egress.bytes[MediaKind::Video as usize][how as usize]
        };
        let (first, resent) = (egress(&world, Transmission::First), egress(&world, Transmission::Rtx));
        world.lose(bob.downlink, 5.percent());
        world.run(secs(60));
        world.lose(bob.downlink, 0.0);
        world.run(secs(2));
        let lost = world.lost(bob.downlink);
        let missing = got(&world, bob, ada).1 + got(&world, bob, eve).1;
        let share = (egress(&world, Transmission::Rtx) - resent) as f64
            / (egress(&world, Transmission::First) - first) as f64;
        println!("seed {seed}: {lost} lost, {missing} missing, {:.1} % resent", share * 100.0);
        assert!(lost > 100, "{lost}");
        assert!(missing as f64 <= 0.01 * lost as f64, "{missing} of {lost} never came");
        // A third of what leaves goes to bob, and repairs may take 15 % of it.
        assert!(share <= 0.15 / 3.0 + 0.01, "{share}");
        assert_eq!(got(&world, eve, ada).1, 0, "nobody else is concerned");
    }
}

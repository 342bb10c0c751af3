//! What the metrics say of a connection is what it was like.

use std::time::Duration;

use rtcp::transport_feedbacks::transport_layer_cc::{
    PacketStatusChunk, RecvDelta, RunLengthChunk, StatusChunkTypeTcc, SymbolTypeTcc, TransportLayerCc,
};
use sluicegate::sans_io::{Cells, Direction, Transmission};
use sluicegate::{By, LayerLimit, MediaKind, PeerEvent};
use sluicegate_tests::world::{
    AUDIO, Percent, Seat, THREE_LAYERS, VIDEO, World, ms, publishes, secs, stranger, watches,
};

const VIDEO_KIND: usize = MediaKind::Video as usize;
const OUT: usize = Direction::Out as usize;
const IN: usize = Direction::In as usize;

/// How many values a histogram has, and their mean in billionths.
fn mean(hist: &impl Cells) -> (u64, f64) {
    let mut cells = Vec::new();
    hist.visit(&mut |cell| cells.push(cell));
    let sum = cells.pop().expect("the last cell is the sum");
    let count: u64 = cells.iter().sum();
    (count, sum as f64 / count.max(1) as f64)
}

fn is_near(mean: f64, expected: Duration) -> bool {
    let expected = expected.as_nanos() as f64;
    (mean - expected).abs() <= expected * 0.3
}

#[test]
fn round_trips_and_media_latency_are_those_of_the_links() {
    for seed in 1..=3 {
        let mut world = World::new(seed);
        world.path.delay = ms(25);
        let _ada = world.join("room", "ada", publishes(AUDIO | VIDEO));
        let _bob = world.join("room", "bob", publishes(AUDIO | VIDEO));
        world.path.delay = ms(75);
        let _far = world.join("room", "far", watches(2));
        world.connect_all(secs(3));
        world.run(secs(20));
        let counters = world.counters();
        let [publisher, subscriber] = [0, 1].map(|leg| mean(&counters.rtt[leg]));
        assert!((25..=45).contains(&publisher.0), "{publisher:?}: one a second, each of two");
        assert!((35..=65).contains(&subscriber.0), "{subscriber:?}: three");
        assert!(is_near(publisher.1, ms(50)), "{publisher:?}");
        // Two of 50 ms, one of 150.
        assert!(is_near(subscriber.1, ms(83)), "{subscriber:?}");
        let latency = mean(&counters.media_latency[VIDEO_KIND]);
        // 50 ms between ada and bob, 100 to the third.
        assert!(is_near(latency.1, ms(75)) && latency.0 > 40, "{latency:?}");
    }
}

#[test]
fn losses_are_told_as_they_were_and_who_suffers() {
    for seed in 1..=3 {
        let mut world = World::new(seed);
        let _ada = world.join("room", "ada", publishes(AUDIO | VIDEO).at(600_000));
        // Whom nobody watches: what is lost of hers is lost to nobody else.
        let eve = world.join("elsewhere", "eve", publishes(AUDIO | VIDEO).at(600_000));
        let bob = world.join("room", "bob", watches(1).browser());
        let wim = world.join("room", "wim", watches(1).browser());
        world.connect_all(secs(2));
        world.run(secs(1));
        world.lose(bob.downlink, 6.percent());
        world.lose(eve.uplink, 4.percent());
        world.run(secs(41));
        let counters = world.counters();
        let (windows, ratio) = mean(&counters.loss[OUT][VIDEO_KIND]);
        assert!((6..=10).contains(&windows), "ten seconds each, of two: {windows}");
        // Bob loses six in a hundred, wim nothing.
        assert!((0.02e9..0.04e9).contains(&ratio), "{ratio}");
        let (windows, ratio) = mean(&counters.loss[IN][VIDEO_KIND]);
        assert!((6..=10).contains(&windows), "{windows}");
        assert!((0.01e9..0.03e9).contains(&ratio), "{ratio}");
        assert_eq!(counters.gauges.lossy_subscribers[..2], [1, 1], "bob alone");
        let useful = counters.useful_repairs[VIDEO_KIND];
        let came = counters.ingress.packets[VIDEO_KIND][Transmission::Rtx as usize];
        assert!(useful > 20 && useful <= came, "{useful} of {came}");

        assert_eq!(mean(&counters.session_loss[OUT][VIDEO_KIND]).0, 0, "nobody has left");
        world.leave(bob);
        let counters = world.counters();
        let (sessions, ratio) = mean(&counters.session_loss[OUT][VIDEO_KIND]);
        assert_eq!(sessions, 1);
        assert!((0.04e9..0.08e9).contains(&ratio), "{ratio}");
        assert_eq!(counters.gauges.lossy_subscribers, [0; 3]);
        world.leave(wim);
        let bounds = &world.counters().session_loss[OUT][VIDEO_KIND].buckets;
        assert_eq!((bounds[0], bounds.iter().sum()), (1, 2u64), "wim lost nothing at all");
    }
}

#[test]
fn jitter_is_the_links() {
    let mut world = World::new(1);
    let ada = world.join("room", "ada", publishes(AUDIO | VIDEO));
    let bob = world.join("room", "bob", watches(1));
    world.connect_all(secs(2));
    world.run(secs(2));
    let before = [IN, OUT].map(|way| mean(&world.counters().jitter[way][0]));
    world.link(ada.uplink).jitter = ms(30);
    world.run(secs(20));
    let counters = world.counters();
    for (way, before) in [IN, OUT].into_iter().zip(before) {
        let (count, after) = mean(&counters.jitter[way][0]);
        assert!(count >= before.0 + 10, "{count} reports");
        assert!(after > 5e6 && after > 3.0 * before.1, "{before:?}, then {after}");
    }
    assert!(world[bob].sink.packets_from(ada.index, false) > 900);
}

/// The m-line on which somebody gets video.
fn video_mid(world: &World, seat: Seat) -> String {
    let slots = world[seat].events.iter().rev().find_map(|(_, event)| match event {
        PeerEvent::Slots(slots) => slots.iter().find(|slot| slot.kind == MediaKind::Video).cloned(),
        _ => None,
    });
    slots.expect("it has a slot").mid
}

#[test]
fn changes_of_layers_say_which_way_and_why() {
    let (spatial, up, down) = (0, 0, 1);
    let (bwe, request) = (0, 1);
    for seed in 1..=3 {
        let mut world = World::new(seed);
        let _ada = world.join("room", "ada", publishes(AUDIO).layered(&THREE_LAYERS));
        let bob = world.join("room", "bob", watches(1).browser());
        world.connect_all(secs(2));
        world.run(secs(4));
        let switches = |world: &World| world.counters().layer_switches;
        let calm = switches(&world);
        let (mid, peer) = (video_mid(&world, bob), world.peer(bob));
        let limit = LayerLimit { spatial: 0, ..LayerLimit::NONE };
        assert!(world.engine.limit_layers(world.now, peer, &mid, limit));
        world.run(secs(1));
        assert_eq!(switches(&world)[spatial][down][request], calm[spatial][down][request] + 1);
        assert!(world.engine.limit_layers(world.now, peer, &mid, LayerLimit::NONE));
        world.run(secs(1));
        assert_eq!(switches(&world)[spatial][up][request], calm[spatial][up][request] + 1);
        assert_eq!(switches(&world)[spatial][down][bwe], calm[spatial][down][bwe], "its network is well");

        world.link(bob.downlink).rate = Some(500_000);
        world.run(secs(8));
        assert!(switches(&world)[spatial][down][bwe] > calm[spatial][down][bwe]);
        world.link(bob.downlink).rate = None;
        world.run(secs(30));
        assert!(switches(&world)[spatial][up][bwe] > calm[spatial][up][bwe]);
    }
}

#[test]
fn feedback_about_what_was_never_sent_is_told() {
    let mut world = World::new(1);
    let ada = world.join("room", "ada", publishes(AUDIO | VIDEO));
    let bob = world.join("room", "bob", publishes(AUDIO));
    world.connect_all(secs(2));
    world.run(secs(2));
    assert_eq!(world.counters().unmatched_feedback, 0, "honest clients know what they got");
    let run = RunLengthChunk {
        type_tcc: StatusChunkTypeTcc::RunLengthChunk,
        packet_status_symbol: SymbolTypeTcc::PacketReceivedSmallDelta,
        run_length: 4,
    };
    let delta = RecvDelta { type_tcc_packet: SymbolTypeTcc::PacketReceivedSmallDelta, delta: 250 };
    let feedback = TransportLayerCc {
        sender_ssrc: 1,
        media_ssrc: 2,
        base_sequence_number: 40_000,
        packet_status_count: 4,
        reference_time: 1,
        fb_pkt_count: 0,
        packet_chunks: vec![PacketStatusChunk::RunLengthChunk(run)],
        recv_deltas: vec![delta; 4],
    };
    world.send_rtcp(bob, vec![Box::new(feedback)]);
    world.run(ms(100));
    assert_eq!(world.counters().unmatched_feedback, 1);
    assert!(world[ada].is_connected());
}

#[test]
fn who_is_there_for_how_long_in_what_rooms_and_by_what_path() {
    let mut world = World::new(1);
    let ada = world.join("red", "ada", publishes(AUDIO));
    world.run(secs(10));
    let _bob = world.join("red", "bob", publishes(AUDIO));
    let eve = world.join("blue", "eve", publishes(AUDIO));
    world.connect_all(secs(2));
    world.run(secs(10));
    world.engine.sample(world.now);
    let gauges = world.counters().gauges.clone();
    assert_eq!(gauges.rooms_by_size, [1, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(gauges.largest_room, 2);
    // Nobody here tells of a candidate: all of them are found out.
    assert_eq!(gauges.selected_paths.iter().sum::<u64>(), 3, "{gauges:?}");
    let spent = Duration::from_nanos(world.counters().participant_time);
    let expected = (world.now - world[ada].joined_at) + 2 * (world.now - world[eve].joined_at);
    assert_eq!(spent, expected);

    let pairs: u64 = world.counters().selected_pairs.iter().sum();
    world.leave(ada);
    let gauges = &world.counters().gauges;
    assert_eq!(gauges.rooms_by_size, [2, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(gauges.selected_paths.iter().sum::<u64>(), 2);
    world.rebind(eve, stranger(1));
    world.run(secs(12));
    let counters = world.counters();
    assert_eq!(counters.selected_pairs.iter().sum::<u64>(), pairs + 1, "it has another path");
    assert_eq!(counters.gauges.selected_paths.iter().sum::<u64>(), 2);
}

#[test]
fn what_there_was_no_room_for_is_said() {
    use sluicegate::DropReason;
    use sluicegate::sans_io::{DropKind, SendFault};
    let mut world = World::new(1);
    let _ada = world.join("room", "ada", publishes(AUDIO | VIDEO));
    let bob = world.join("room", "bob", watches(1));
    world.connect_all(secs(2));
    world.run(secs(1));
    for (fault, reason) in [
        (SendFault::NoRoom, DropReason::SendWouldBlock),
        (SendFault::TooLarge, DropReason::Oversize),
        (SendFault::Refused, DropReason::SendError),
    ] {
        world.outlet.refuses = Some(world[bob].addr);
        world.outlet.refusal = fault;
        world.run(secs(3));
        for kind in [DropKind::Audio, DropKind::Video, DropKind::Rtcp, DropKind::Other] {
            // RTCP: sender reports; other: answers to connectivity checks.
            assert!(world.dropped_out(kind, reason) > 0, "{kind:?} {reason:?}");
        }
    }
    let before = world.counters().egress.packets[2][0];
    world.outlet.refuses = None;
    world.run(secs(2));
    assert!(world.counters().egress.packets[2][0] > before, "RTCP goes again, and is counted");
}

#[test]
fn who_weighs_most_by_what() {
    let mut world = World::new(1);
    let ada = world.join("quiet", "ada", publishes(AUDIO));
    let crowd: Vec<Seat> = (0..6).map(|n| world.join("quiet", &format!("w{n}"), watches(1))).collect();
    let bob = world.join("loud", "bob", publishes(AUDIO | VIDEO).at(1_500_000));
    let eve = world.join("loud", "eve", watches(1).browser());
    let _alone = world.join("empty", "alone", publishes(AUDIO).muted());
    world.connect_all(secs(3));
    world.lose(eve.downlink, 5.percent());
    world.run(secs(5));
    let top = |world: &World, by| world.engine.top_rooms(world.now, 2, by);
    let names = |world: &World, by| top(world, by).iter().map(|room| room.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&world, By::Participants), ["quiet", "loud"]);
    assert_eq!(names(&world, By::Bitrate), ["loud", "quiet"]);
    assert_eq!(names(&world, By::Nacks)[0], "loud");
    // Fifty packets a second and six copies of each, against some two hundred and one copy.
    let cost = top(&world, By::Cost);
    assert_eq!(cost.iter().find(|room| room.name == "quiet").map(|room| room.participants), Some(7));
    let quiet = world.engine.room_stats(world.now, "quiet").expect("it is there");
    assert!((340..=360).contains(&quiet.packets_per_second), "{quiet:?}");
    assert_eq!((quiet.tracks, quiet.nacked_packets_per_second), (1, 0));
    assert_eq!(world.engine.room_stats(world.now, "elsewhere"), None);
    let loud = world.engine.room_stats(world.now, "loud").expect("it is there");
    assert!((1_300_000..1_900_000).contains(&loud.bitrate_in.as_bps()), "{loud:?}");
    assert!(loud.nacked_packets_per_second > 0, "{loud:?}");

    let stats =
        |world: &World, seat| world.engine.peer_stats(world.now, world.peer(seat)).expect("it is there");
    let (sender, receiver) = (stats(&world, bob), stats(&world, eve));
    assert_eq!((sender.name.as_str(), sender.inbound.len(), sender.outbound.len()), ("bob", 2, 0));
    assert_eq!((receiver.inbound.len(), receiver.outbound.len()), (0, 2));
    assert_eq!(receiver.outbound[0].publisher, Some(sender.peer));
    let sent: u64 = receiver.outbound.iter().map(|stream| stream.packets_sent).sum();
    let came: u64 = sender.inbound.iter().map(|stream| stream.packets_received).sum();
    assert!(sent <= came && sent > came / 2, "{sent} of {came}");
    let resent: u64 = receiver.outbound.iter().map(|stream| stream.retransmitted_packets_sent).sum();
    assert_eq!(resent, world.counters().egress.packets[VIDEO_KIND][Transmission::Rtx as usize]);
    let asked: u64 = world.counters().nacked_packets[IN].iter().sum();
    assert_eq!(receiver.nacked_packets, asked, "nobody else asks");
    assert!(receiver.round_trip_time.is_some_and(|rtt| rtt < ms(60)), "{:?}", receiver.round_trip_time);

    let peer = world.peer(ada);
    world.leave(ada);
    assert_eq!(world.engine.peer_stats(world.now, peer), None);
    assert_eq!(crowd.len(), 6);
}

#[test]
fn what_waits_for_the_socket_is_told() {
    let mut world = World::new(1);
    let _ada = world.join("room", "ada", publishes(AUDIO | VIDEO));
    let _wims = [0, 1, 2, 3].map(|n| world.join("room", &format!("w{n}"), watches(1)));
    world.connect_all(secs(2));
    world.run(secs(5));
    let calm = world.counters().queue_delay.clone();
    let (count, _) = mean(&calm);
    assert!(count >= 10 && calm.buckets[0] == count, "nothing waits: {calm:?}");
    for _ in 0..60 {
        world.outlet.full = true;
        world.run(ms(150));
        world.outlet.full = false;
        world.flush();
        world.run(ms(5));
    }
    let after = &world.counters().queue_delay;
    // More than 100 ms, and at most 250.
    assert!(after.buckets[10] >= 2, "{after:?}");
    assert_eq!(after.buckets[11] + after.over, 0, "{after:?}");
}

#[test]
fn who_is_muted_publishes_nothing() {
    for seed in 1..=2 {
        let mut world = World::new(seed);
        let ada = world.join("room", "ada", publishes(AUDIO | VIDEO));
        let bob = world.join("room", "bob", publishes(AUDIO | VIDEO));
        let _wim = world.join("room", "wim", watches(2));
        let told = |world: &mut World| {
            world.engine.sample(world.now);
            let gauges = &world.counters().gauges;
            (gauges.publishers, gauges.subscribers)
        };
        assert_eq!(told(&mut world).0, 0, "nobody has sent anything yet");
        world.connect_all(secs(2));
        world.run(secs(2));
        assert_eq!(told(&mut world), (2, 3));
        // Without a word to anybody, as `replaceTrack(null)` does it.
        let muted = (world[ada].audio.take(), world[ada].video.take());
        world.run(ms(4_500));
        assert_eq!(told(&mut world), (2, 3), "it may be a pause");
        world.run(ms(1_000));
        assert_eq!(told(&mut world), (1, 3), "negotiated, and silent");
        world[ada].audio = muted.0;
        world.run(ms(500));
        assert_eq!(told(&mut world), (2, 3), "one of two tracks is enough");
        // And by an offer.
        for video in [false, true] {
            world[bob].unpublish(video);
        }
        world.renegotiate(bob).expect("the offer is good");
        world.run(ms(200));
        assert_eq!(told(&mut world).0, 1);
        world.leave(ada);
        assert_eq!(told(&mut world).0, 0);
        world.audit();
    }
}

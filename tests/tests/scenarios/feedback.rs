//! RTCP: who hears what, how often, and whether the numbers are true.

use rtcp::payload_feedbacks::full_intra_request::{FirEntry, FullIntraRequest};
use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtcp::receiver_report::ReceiverReport;
use rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc;
use rtcp::transport_feedbacks::transport_layer_nack::{NackPair, TransportLayerNack};
use sluicegate::Bitrate;
use sluicegate::sans_io::RequestOutcome;
use sluicegate_tests::world::{AUDIO, Rtcp, Seat, VIDEO, Wire, World, ms, publishes, secs, watches};

fn video_ssrc(world: &World, seat: Seat) -> u32 {
    let streams = world[seat].receives();
    streams.iter().find(|(_, kind)| kind.as_str() == "video").expect("it sees something").0
}

fn pli(media_ssrc: u32) -> Rtcp {
    Box::new(PictureLossIndication { sender_ssrc: 1, media_ssrc })
}

#[test]
fn many_subscribers_ask_and_the_publisher_hears_one() {
    for seed in 1..=3 {
        let mut world = World::new(seed);
        let ada = world.join("room", "ada", publishes(AUDIO | VIDEO).nothing_back());
        let wims: Vec<_> = (0..10).map(|n| world.join("room", &format!("w{n}"), watches(1))).collect();
        world.connect_all(secs(2));
        world.run(secs(12));
        let quiet = Wire::plis(&world[ada].tap.wire().received).len();
        let since = world.now;
        // Ten subscribers, a hundred requests a second each.
        for _ in 0..500 {
            for wim in &wims {
                let ssrc = video_ssrc(&world, *wim);
                world.send_rtcp(*wim, vec![pli(ssrc)]);
            }
            world.run(ms(10));
        }
        world.run(secs(1));
        let heard: Vec<_> = Wire::plis(&world[ada].tap.wire().received).split_off(quiet);
        assert!(heard.windows(2).all(|pair| pair[1] - pair[0] >= ms(299)), "{heard:?}");
        // The bucket holds ten, and refills one a second.
        assert!((10..=16).contains(&heard.len()), "{} in 6 s", heard.len());
        assert!(heard[0] < since + ms(25), "the first goes at once");
        let outcome = |outcome| world.counters().keyframe_requests[outcome as usize];
        assert!(outcome(RequestOutcome::Merged) > 4_000, "{:?}", world.counters().keyframe_requests);
        assert_eq!(world[wims[0]].frames_missing(), 0);
    }
}

#[test]
fn the_counters_are_what_the_clients_sent_and_got() {
    for seed in 1..=3 {
        let mut world = World::new(seed);
        let ada = world.join("room", "ada", publishes(AUDIO | VIDEO));
        let bob = world.join("room", "bob", publishes(AUDIO | VIDEO));
        world.connect_all(secs(2));
        world.run(secs(1));
        world.lose(bob.downlink, 0.05);
        let ssrc = video_ssrc(&world, bob);
        for n in 0..10u16 {
            let nack = TransportLayerNack {
                sender_ssrc: 1,
                media_ssrc: ssrc,
                nacks: vec![NackPair { packet_id: 100 * n, lost_packets: 0b1011 }],
            };
            let entry = FirEntry { ssrc, sequence_number: n as u8 };
            let fir = FullIntraRequest { sender_ssrc: 1, media_ssrc: ssrc, fir: vec![entry] };
            world.send_rtcp(bob, vec![Box::new(nack), pli(ssrc), Box::new(fir)]);
            world.run(ms(200));
        }
        world.lose(bob.downlink, 0.0);
        // What is counted has arrived: let the links run empty.
        world.run(ms(500));
        let (a, b) = (world[ada].tap.clone(), world[bob].tap.clone());
        let (a, b) = (a.wire(), b.wire());
        let counters = world.counters();
        let plis = Wire::plis(&a.sent).len() + Wire::plis(&b.sent).len();
        assert_eq!(counters.plis[0], plis as u64, "in");
        let plis = Wire::plis(&a.received).len() + Wire::plis(&b.received).len();
        assert_eq!(counters.plis[1], plis as u64, "out");
        assert_eq!(counters.firs, [10, 0]);
        let (messages, packets) = Wire::nacks(&b.sent);
        assert!(messages > 10, "the client's own NACKs too: {messages}");
        let (mine, mine_packets) = Wire::nacks(&a.sent);
        assert_eq!(counters.nacks[0].iter().sum::<u64>(), messages + mine);
        assert_eq!(counters.nacked_packets[0].iter().sum::<u64>(), packets + mine_packets);
        let received = Wire::nacks(&a.received).0 + Wire::nacks(&b.received).0;
        assert_eq!(counters.nacks[1].iter().sum::<u64>(), received);
    }
}

#[test]
fn reports_and_transport_feedback_reach_the_publisher() {
    let mut world = World::new(1);
    let ada = world.join("room", "ada", publishes(AUDIO | VIDEO));
    world.connect_all(secs(2));
    world.run(secs(2));
    world.lose(ada.uplink, 0.2);
    world.run(secs(4));
    let wire = world[ada].tap.wire();
    let reports: Vec<_> = Wire::of::<ReceiverReport>(&wire.received)
        .into_iter()
        .filter(|(_, report)| !report.reports.is_empty())
        .collect();
    assert!((5..=7).contains(&reports.len()), "one a second: {}", reports.len());
    let (_, last) = reports.last().expect("there are some");
    assert_eq!(last.reports.len(), 2, "audio and video");
    for block in &last.reports {
        let share = f64::from(block.fraction_lost) / 256.0;
        assert!((0.05..0.4).contains(&share), "told {share} of 0.2");
        assert_ne!(block.last_sender_report, 0, "our report has come back");
    }
    let feedback = Wire::of::<TransportLayerCc>(&wire.received);
    assert!((80..=140).contains(&feedback.len()), "every 50 ms: {}", feedback.len());
    let told: u64 = feedback.iter().map(|(_, it)| u64::from(it.packet_status_count)).sum();
    assert!(told > 400, "{told} packets told of");
}

#[test]
fn a_cap_is_told_at_once_thrice_more_and_then_each_second() {
    for seed in 1..=3 {
        let mut world = World::new(seed);
        let ada = world.join("room", "ada", publishes(AUDIO | VIDEO));
        world.connect_all(secs(2));
        world.run(secs(1));
        let peer = world.peer(ada);
        world.engine.set_publish_cap(world.now, peer, Some(Bitrate::kbps(500))).expect("it is there");
        let set = world.now;
        world.run(ms(3_500));
        let wire = world[ada].tap.wire();
        let rembs = Wire::rembs(&wire.received);
        assert!(rembs.iter().all(|(_, rate)| (*rate - 500_000.0).abs() < 1_000.0), "{rembs:?}");
        let after: Vec<_> = rembs.iter().map(|(at, _)| (*at - set).as_millis()).collect();
        // The link takes 10 ms.
        assert_eq!(after, [10, 110, 210, 310, 1_310, 2_310, 3_310]);
    }
}

//! The ledger: what is owed, and what is asked for, ends as exactly one thing, whatever happens.

use std::cell::RefCell;
use std::rc::Rc;

use rtcp::payload_feedbacks::full_intra_request::{FirEntry, FullIntraRequest};
use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtcp::transport_feedbacks::transport_layer_nack::{TransportLayerNack, nack_pairs_from_sequence_numbers};
use sluicegate::sans_io::{Direction, DropKind, RepairOutcome, RequestOutcome, Transmission};
use sluicegate::{Bitrate, DropReason, FilterReason, MediaKind};
use sluicegate_tests::world::{
    AUDIO, ENGINE, Loss, Percent, Rtcp, Seat, THREE_LAYERS, VIDEO, Verdict, Wire, World, is_rtp, ms,
    publishes, secs, watches,
};

const KINDS: [MediaKind; 2] = [MediaKind::Audio, MediaKind::Video];

fn nack(media_ssrc: u32, seqs: &[u16]) -> Rtcp {
    let nacks = nack_pairs_from_sequence_numbers(seqs);
    Box::new(TransportLayerNack { sender_ssrc: 1, media_ssrc, nacks })
}

/// What has become of the video packets that were asked for.
fn outcomes(world: &World) -> [u64; RepairOutcome::ALL.len()] {
    world.counters().rtx_requests[MediaKind::Video as usize]
}

/// The stream on which a player gets video, and its newest number.
fn newest(world: &World, me: Seat) -> (u32, u16) {
    let mut streams = world[me].sink.streams.iter();
    let (ssrc, seen) = streams.find(|(_, seen)| seen[0].content.video).expect("it sees something");
    (*ssrc, seen.last().expect("it is not empty").seq as u16)
}

/// Has a player ask, and says what became of it.
fn ask(world: &mut World, me: Seat, packets: Vec<Rtcp>) -> Vec<(RepairOutcome, u64)> {
    let before = outcomes(world);
    world.send_rtcp(me, packets);
    world.run(ms(30));
    let after = outcomes(world);
    let became = RepairOutcome::ALL.into_iter().map(|it| (it, after[it as usize] - before[it as usize]));
    became.filter(|(_, n)| *n > 0).collect()
}

#[test]
fn a_packet_that_is_asked_for_ends_as_one_thing() {
    use RepairOutcome::*;
    for seed in 1..=3 {
        let mut world = World::new(seed);
        let ada = world.join("room", "ada", publishes(AUDIO | VIDEO).nothing_back());
        let wim = world.join("room", "wim", watches(1).browser());
        world.connect_all(secs(2));
        world.run(secs(4));
        let (ssrc, seq) = newest(&world, wim);
        let back = |n: u16| seq.wrapping_sub(n);
        assert_eq!(outcomes(&world), [0; 6], "nothing was lost");

        let twice = [0, 1].map(|_| nack(ssrc, &[back(2), back(1)])).into();
        assert_eq!(ask(&mut world, wim, twice), [(Hit, 2), (Duplicate, 2)]);
        let never_sent = seq.wrapping_add(5_000);
        assert_eq!(ask(&mut world, wim, vec![nack(ssrc, &[never_sent])]), [(MissUnknown, 1)]);
        assert_eq!(ask(&mut world, wim, vec![nack(ssrc ^ 1, &[back(3)])]), [(MissUnknown, 1)], "a stranger");
        // Three seconds ago: whoever shows it has gone on long since.
        let seen = &world[wim].sink.streams[&ssrc];
        let long_ago = world.now - secs(3);
        let old =
            seen.iter().rev().find(|seen| seen.at < long_ago).expect("there are three seconds").seq as u16;
        assert_eq!(ask(&mut world, wim, vec![nack(ssrc, &[old])]), [(MissExpired, 1)]);
        let many: Vec<u16> = (0..350).map(|n| seq.wrapping_add(1_000 + n)).collect();
        assert_eq!(ask(&mut world, wim, vec![nack(ssrc, &many)]), [(MissUnknown, 300), (OverBudget, 50)]);

        // Lost on the publisher's leg, and so are the repairs: the player sees the gap, and asks.
        world.link(ada.uplink).loss = Loss::Random(30.percent());
        world.run(ms(400));
        world.link(ada.uplink).loss = Loss::default();
        world.run(secs(2));
        assert!(outcomes(&world)[MissUpstream as usize] > 0, "{:?}", outcomes(&world));
        let asked = world.counters().nacked_packets[Direction::In as usize];
        assert_eq!(asked[MediaKind::Video as usize], outcomes(&world).iter().sum::<u64>());
        // What we asked the publisher for is another matter.
        assert!(world.counters().nacked_packets[Direction::Out as usize][1] > 0);
    }
}

#[test]
fn a_packet_that_waits_and_cannot_go_any_more_is_not_a_hit() {
    let mut world = World::new(1);
    let _ada = world.join("room", "ada", publishes(AUDIO | VIDEO).nothing_back());
    let wim = world.join("room", "wim", watches(1));
    world.connect_all(secs(2));
    world.run(secs(2));
    let (ssrc, seq) = newest(&world, wim);
    world.outlet.full = true;
    world.send_rtcp(wim, vec![nack(ssrc, &[seq, seq.wrapping_sub(1)])]);
    world.run(ms(20));
    assert_eq!(world.counters().unanswered_packets(MediaKind::Video), 2, "they wait");
    world.leave(wim);
    world.outlet.full = false;
    world.flush();
    assert_eq!(outcomes(&world)[RepairOutcome::MissExpired as usize], 2);
    assert_eq!(outcomes(&world)[RepairOutcome::Hit as usize], 0);
}

#[test]
fn a_keyframe_that_is_asked_for_ends_as_one_thing() {
    for seed in 1..=3 {
        let mut world = World::new(seed);
        let ada = world.join("room", "ada", publishes(AUDIO | VIDEO).nothing_back());
        let wim = world.join("room", "wim", watches(1));
        world.connect_all(secs(2));
        world.run(secs(3));
        let (ssrc, _) = newest(&world, wim);
        let pli = |ssrc| -> Rtcp { Box::new(PictureLossIndication { sender_ssrc: 1, media_ssrc: ssrc }) };
        let fir = |ssrcs: &[u32]| -> Rtcp {
            let entry = |ssrc: &u32| FirEntry { ssrc: *ssrc, sequence_number: 0 };
            Box::new(FullIntraRequest {
                sender_ssrc: 1,
                media_ssrc: 0,
                fir: ssrcs.iter().map(entry).collect(),
            })
        };
        let mut ask = |packets: Vec<Rtcp>| {
            let before = world.counters().keyframe_requests;
            let heard = Wire::plis(&world[ada].tap.wire().received).len();
            world.send_rtcp(wim, packets);
            world.run(ms(60));
            let after = world.counters().keyframe_requests;
            let heard = Wire::plis(&world[ada].tap.wire().received).len() - heard;
            ([0, 1, 2].map(|at| after[at] - before[at]), heard)
        };
        // Forwarded, merged, suppressed; and what the publisher heard.
        assert_eq!(ask(vec![pli(ssrc), pli(ssrc), fir(&[ssrc])]), ([1, 2, 0], 1));
        // Its keyframe has come: the next one is due 300 ms after the last.
        assert_eq!(ask(vec![pli(ssrc), pli(ssrc)]), ([0, 1, 1], 0), "held back");
        assert_eq!(ask(vec![pli(ssrc ^ 1), fir(&[ssrc ^ 1])]), ([0, 0, 2], 0), "nobody's");
        world.run(secs(1));
        let latency = world.counters().keyframe_latency.clone();
        assert!(latency.count() >= 2, "what was held back was asked for in the end");
        // A link's delay each way, and a frame's time.
        assert!(latency.sum / latency.count() < 60_000_000, "{latency:?}");
        let counters = world.counters();
        assert_eq!(counters.unanswered_requests(), 0);
        assert_eq!(counters.keyframe_requests[RequestOutcome::Forwarded as usize], 1);
    }
}

/// What is lost on the way, as the test sees it: towards the engine, and from it.
#[derive(Default)]
struct LostOnTheWay {
    packets: [u64; 2],
}

#[test]
fn twenty_clients_counted_the_same_to_the_packet() {
    for seed in 1..=2 {
        let mut world = World::new(seed);
        let seats: Vec<Seat> = (0..20)
            .map(|n| {
                let room = ["red", "blue"][n % 2];
                let part = if n < 8 { publishes(AUDIO | VIDEO) } else { watches(4).browser() };
                world.join(room, &format!("p{n}"), part)
            })
            .collect();
        world.connect_all(secs(3));
        let lost = Rc::new(RefCell::new(LostOnTheWay::default()));
        let (counts, mut dice) = (lost.clone(), world.dice.fork());
        world.intercept(move |_, datagram| {
            if !is_rtp(&datagram.bytes) || !dice.chance(0.02) {
                return Verdict::pass();
            }
            counts.borrow_mut().packets[usize::from(datagram.from == ENGINE)] += 1;
            Verdict::lose()
        });
        world.run(secs(6));
        for seat in &seats {
            (world[*seat].audio, world[*seat].video) = (None, None);
        }
        // What is under way arrives, and what was lost is asked for until it has come, or is given up.
        world.run(secs(4));
        world.stop_intercepting();

        let taps: Vec<_> = seats.iter().map(|seat| world[*seat].tap.clone()).collect();
        let sum = |count: fn(&Wire) -> u64| taps.iter().map(|tap| count(&tap.wire())).sum::<u64>();
        let counters = world.counters();
        let media = |rows: &[[u64; Transmission::ALL.len()]]| rows[..2].iter().flatten().sum::<u64>();
        let lost = lost.borrow().packets;
        assert!(lost[0] > 50 && lost[1] > 100, "{lost:?}");
        assert_eq!(media(&counters.ingress.packets), sum(|wire| wire.rtp_sent) - lost[0]);
        assert_eq!(media(&counters.egress.packets), sum(|wire| wire.rtp_received) + lost[1]);
        let both = |per_kind: [u64; 2]| per_kind.iter().sum::<u64>();
        assert_eq!(both(counters.nacks[0]), sum(|wire| Wire::nacks(&wire.sent).0));
        assert_eq!(both(counters.nacks[1]), sum(|wire| Wire::nacks(&wire.received).0));
        assert_eq!(both(counters.nacked_packets[0]), sum(|wire| Wire::nacks(&wire.sent).1));
        assert_eq!(both(counters.nacked_packets[1]), sum(|wire| Wire::nacks(&wire.received).1));
        assert_eq!(counters.plis[0], sum(|wire| Wire::plis(&wire.sent).len() as u64));
        assert_eq!(counters.plis[1], sum(|wire| Wire::plis(&wire.received).len() as u64));
        assert_eq!(counters.firs[0], sum(|wire| Wire::firs(&wire.sent) as u64));
        let hits = outcomes(&world)[RepairOutcome::Hit as usize];
        // Some repairs were not asked for: feedback told that the one before was lost.
        let resent = counters.egress.packets[1][Transmission::Rtx as usize];
        assert!(hits > 50 && hits <= resent, "{hits} hits, {resent} resent");
    }
}

/// Both books, at any moment. What waits in a queue is on neither side yet.
fn balance(world: &World) {
    for kind in KINDS {
        assert_eq!(world.counters().unaccounted(kind), 0, "{kind}");
        assert!(world.counters().unanswered_packets(kind) >= 0, "{kind}: more outcomes than requests");
    }
    assert_eq!(world.counters().unanswered_requests(), 0);
}

#[test]
fn the_books_balance_at_every_moment_of_a_bad_evening() {
    let mut all = [0; RepairOutcome::ALL.len()];
    for seed in 1..=4 {
        let mut world = World::with(seed, |config| config.limits.queue = 128);
        world.path.delay = ms(20);
        let mut stay: Vec<Seat> = vec![
            world.join("room", "ada", publishes(AUDIO).layered(&THREE_LAYERS)),
            world.join(
                "room",
                "bob",
                publishes(AUDIO | VIDEO).at(600_000).stubborn().capped(Bitrate::kbps(200)),
            ),
            world.join("room", "wim", watches(2).browser()),
            world.join("room", "thin", watches(2).browser()),
        ];
        world.connect_all(secs(3));
        // Bob is policed for ignoring his cap from the fourth second on.
        world.run(secs(5));
        let thin = stay[3];
        world.link(thin.downlink).rate = Some(300_000);
        for turn in 0..120 {
            let who = stay[world.dice.below(stay.len() as u64) as usize];
            match world.dice.below(9) {
                0 => world.lose(who.uplink, 8.percent()),
                1 => world.lose(who.downlink, 8.percent()),
                2 => world.link(who.downlink).loss = Loss::Bursts { worsen: 0.02, recover: 0.2 },
                3 => {
                    let peer = world.peer(stay[1]);
                    let cap = Bitrate::kbps(200 + 10 * turn as u64);
                    world.engine.set_publish_cap(world.now, peer, Some(cap)).expect("it is there");
                }
                4 => world.outlet.credit = Some(world.dice.below(20) as usize),
                5 => {
                    let guest = world.join("room", "guest", publishes(AUDIO | VIDEO));
                    stay.push(guest);
                }
                6 if stay.len() > 4 => {
                    let gone = stay.remove(4);
                    world.leave(gone);
                    world.forget(gone);
                }
                7 => world[stay[0]].active_layers = 1 + turn % 3,
                _ => {
                    for seat in &stay {
                        world.lose(seat.uplink, 0.0);
                        world.lose(seat.downlink, 0.0);
                    }
                }
            }
            for _ in 0..5 {
                world.run(ms(20));
                balance(&world);
            }
            world.outlet.credit = None;
        }
        world.run(secs(1));
        world.audit();
        let counters = world.counters();
        for (sum, n) in all.iter_mut().zip(outcomes(&world)) {
            *sum += n;
        }
        // It was a bad evening in every way that is booked.
        let video = MediaKind::Video as usize;
        for reason in [FilterReason::Spatial, FilterReason::Paused] {
            assert!(counters.filtered[video][reason as usize] > 0, "{reason:?}");
        }
        assert!(world.dropped_in(DropKind::Video, DropReason::Policed) > 0);
        assert!(counters.egress.packets[video][Transmission::Rtx as usize] > 0);
        assert!(counters.fanout[video] > 10_000);
    }
    use RepairOutcome::*;
    for outcome in [Hit, Duplicate, MissExpired, MissUpstream] {
        assert!(all[outcome as usize] > 0, "{outcome:?} never: {all:?}");
    }
}

//! Subscribers that cannot take what they are sent, among others that can: T22. What a full socket does is told
//! in `slow`: it is one socket for all.

use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use sluicegate::DropReason;
use sluicegate::sans_io::DropKind;
use sluicegate_tests::world::{AUDIO, Loss, VIDEO, World, ms, publishes, secs, watches};

use super::room::Room;

const QUEUE: usize = 128;

#[test]
fn t22_a_thin_line_and_a_frozen_player_cost_nobody_else() {
    for seed in 1..=2 {
        let mut world = World::with(seed, |config| config.limits.queue = QUEUE);
        let room = Room::enter(&mut world);
        let [thin, frozen, gone] =
            ["thin", "frozen", "gone"].map(|name| world.join("control", name, watches(2)));
        world.connect_all(secs(2));
        world.run(secs(2));
        world.link(thin.downlink).rate = Some(64_000);
        // Nothing reaches it, and what it says still reaches us.
        world.link(frozen.downlink).loss = Loss::Random(1.0);
        world[gone].silent = true;
        for _ in 0..100 {
            world.run(ms(100));
            let queued: u64 = world.counters().gauges.queued.iter().sum();
            assert!(queued <= 13 * QUEUE as u64, "{queued} queued");
        }
        assert!(world[thin].sink.missing() > 100, "the line did lose");
        assert!(world[thin].sink.from(room.publishers[0].index, false).count() > 0);
        assert_eq!(world[thin].sink.forged, 0);
        room.is_unharmed(&world);
        // Both recover, with a keyframe.
        world.link(thin.downlink).rate = None;
        world.link(frozen.downlink).loss = Loss::None;
        world.run(ms(500));
        let thawed = world.now;
        for me in [thin, frozen] {
            for (media_ssrc, _) in world[me].receives() {
                let pli = PictureLossIndication { sender_ssrc: 1, media_ssrc };
                world.send_rtcp(me, vec![Box::new(pli)]);
            }
        }
        world.run(secs(2));
        for me in [thin, frozen] {
            let [ada, _] = room.publishers;
            let keyframe =
                world[me].sink.from(ada.index, true).find(|seen| seen.content.keyframe && seen.at > thawed);
            let name = &world[me].name;
            assert!(keyframe.is_some_and(|seen| seen.at < thawed + secs(2)), "{name} gets a keyframe");
            assert!(world[me].sink.packets_between(ada.index, true, world.now - secs(1), world.now) > 50);
        }
        room.is_unharmed_by_publishers(&world);
    }
}

/// The kernel takes nothing for a while: everybody waits, each within its own bound, and goes on.
#[test]
fn t22_a_full_socket_is_bounded_for_each_and_passes() {
    let mut world = World::with(1, |config| config.limits.queue = QUEUE);
    let room = Room::enter(&mut world);
    let heavy = world.join("control", "heavy", publishes(AUDIO | VIDEO).at(3_000_000).nothing_back());
    world.connect_all(secs(2));
    world.run(secs(2));
    world.outlet.full = true;
    for _ in 0..30 {
        world.run(ms(100));
        let queued: u64 = world.counters().gauges.queued.iter().sum();
        assert!(queued <= 11 * QUEUE as u64 + 128, "{queued} queued");
    }
    world.outlet.full = false;
    world.flush();
    world.run(secs(2));
    assert!(world.dropped_out(DropKind::Video, DropReason::QueueFull) > 0);
    for me in room.everyone().chain([heavy]) {
        assert_eq!(world[me].left(), None);
        assert_eq!(world[me].sink.forged, 0);
    }
    room.goes_on(&world);
}

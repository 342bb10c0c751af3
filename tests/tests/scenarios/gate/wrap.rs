//! Sequence numbers that wrap while packets are lost, and rollover counters that go astray: T10.

use rtc_shared::marshal::Marshal;
use sluicegate_tests::world::source::Source;
use sluicegate_tests::world::{Seat, World, ms, secs, watches};

use super::mallory::Mallory;
use super::room::Room;

/// A publisher whose packets vanish at will: those in between are sealed by nobody and missed by everybody.
struct Gappy {
    sender: Mallory,
    camera: Source,
    /// The next packet's SRTP index.
    index: u64,
    checked: u64,
    number: usize,
}

impl Gappy {
    fn new(world: &mut World, room: &str, number: usize, index: u64) -> Gappy {
        let sender = Mallory::publishing(world, room, 500 + 16 * number as u32);
        let camera = world.camera(room, number, 300_000);
        Gappy { sender, camera, index, checked: 0, number }
    }

    /// Sends what is due, and lets `span` pass.
    fn film(&mut self, world: &mut World, millis: u64) {
        for _ in 0..millis / 5 {
            for mut packet in self.camera.poll(world.now).into_iter().flatten() {
                packet.header.ssrc = Mallory::CAMERA;
                packet.header.sequence_number = self.index as u16;
                let plain = packet.marshal().expect("it is well-formed");
                self.sender.send_rtp(world, self.index, &plain);
                self.index += 1;
            }
            if self.sender.hears_of_keyframes(world) {
                self.camera.want_keyframe();
            }
            world.run(ms(5));
            self.checked += 5;
            if self.checked.is_multiple_of(2_000) {
                self.sender.check(world);
            }
        }
    }

    fn heard_lately(&self, world: &World, listener: Seat) -> usize {
        world[listener].sink.packets_between(self.number, true, world.now - ms(500), world.now)
    }
}

/// The stream's numbers tear by `lost` just before they wrap; later they wrap on, and somebody comes late.
fn media_resumes_after(lost: &[u64]) {
    let (mut world, room) = Room::settled(1);
    for (n, lost) in lost.iter().enumerate() {
        let name = format!("{lost} lost");
        let mut gappy = Gappy::new(&mut world, &name, 100 + n, 65_500);
        let listener = world.join(&name, "wim", watches(1));
        world.run(secs(1));
        // Some fifteen packets, and the next would be number 65 530.
        gappy.film(&mut world, 200);
        gappy.index = gappy.index.max(65_530) + lost;
        gappy.film(&mut world, 1_500);
        let heard = gappy.heard_lately(&world, listener);
        assert!(heard >= 25, "{name}: {heard} packets in the half second that begins a second later");
        // Some more wraps, in leaps that the guess does span, and a late listener.
        for _ in 0..8 {
            gappy.index += 30_000;
            gappy.film(&mut world, 100);
        }
        let late = world.join(&name, "lea", watches(1));
        gappy.film(&mut world, 1_500);
        for me in [listener, late] {
            assert!(gappy.heard_lately(&world, me) >= 25, "{name}: {}", world[me].name);
            assert_eq!(world[me].sink.forged, 0, "{name}: 0 wrong-key output");
            assert_eq!(world[me].sink.duplicates(), 0, "{name}");
        }
    }
    room.is_unharmed(&world);
}

#[test]
fn t10_media_resumes_within_a_second_whatever_was_lost_at_the_wrap() {
    media_resumes_after(&[1, 10, 500, 2_999, 3_000, 20_000, 32_700]);
}

/// More than RFC 3711's guess of the rollover counter can span.
#[test]
fn t10_media_resumes_within_a_second_beyond_half_a_cycle() {
    media_resumes_after(&[32_766, 32_768, 32_769, 40_000]);
}

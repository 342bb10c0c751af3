//! Microphones that say and do what no browser does.

use sluicegate::Audible;
use sluicegate::FilterReason;
use sluicegate::MediaKind;
use sluicegate_tests::world::source::Source;
use sluicegate_tests::world::{AUDIO, Seat, Voice, World, ms, publishes, secs, watches};

use super::datagram::rtp_with;
use super::mallory::Mallory;

const OPUS: u8 = 111;
/// As in Chromium's offer: the level's extension, and the mid's.
const LEVEL: u8 = 1;
const MID: u8 = 4;
const NUMBER: usize = 40;

/// An attacker with a microphone, on the first of two workers, among four who are honest; two are heard. On each worker
/// somebody listens.
struct Hall {
    world: World,
    mallory: Mallory,
    microphone: Source,
    seq: u16,
    honest: Vec<Seat>,
    listeners: Vec<Seat>,
}

impl Hall {
    fn new() -> Hall {
        let mut world = World::of_workers(1, 2, |_| {});
        let mallory = Mallory::publishing(&mut world, "room", NUMBER as u32);
        let microphone = world.microphone("room", NUMBER);
        let mut join = |worker, name: &str, part| {
            world.worker = worker;
            world.join("room", name, part)
        };
        let part = publishes(AUDIO).with_levels().nothing_back();
        let honest = (0..4).map(|n| join(n % 2, &n.to_string(), part.clone())).collect();
        let listeners = (0..2).map(|n| join(n, &format!("listener {n}"), watches(5))).collect();
        world.connect_all(secs(3));
        let now = world.now;
        for worker in 0..2 {
            world.on(worker, |world| world.engine.set_audible(now, "room", Audible::Loudest(2)));
        }
        Hall { world, mallory, microphone, seq: 0, honest, listeners }
    }

    /// 20 ms pass, in which its microphone says this of its level.
    fn say(&mut self, ssrc: u32, level: Option<&[u8]>) {
        let mid: (u8, &[u8]) = (MID, b"0");
        for packet in self.microphone.poll(self.world.now).into_iter().flatten() {
            let elements: Vec<_> = level.map(|level| (LEVEL, level)).into_iter().chain([mid]).collect();
            let mut plain = rtp_with(OPUS, self.seq, ssrc, &elements, &packet.payload);
            plain[4..8].copy_from_slice(&packet.header.timestamp.to_be_bytes());
            self.mallory.send_rtp(&mut self.world, self.seq.into(), &plain);
            self.seq += 1;
        }
        self.world.run(ms(20));
    }

    fn voices(&mut self, voice: Voice) {
        for seat in &self.honest[..2] {
            self.world[*seat].voice(voice);
        }
    }

    /// Packets of its that came to each listener within the last second.
    fn heard(&self) -> [usize; 2] {
        let (from, to) = (self.world.now - secs(1), self.world.now);
        [0, 1].map(|at| self.world[self.listeners[at]].sink.packets_between(NUMBER, false, from, to))
    }
}

#[test]
fn who_begins_anew_while_nobody_hears_it_is_heard_everywhere_after() {
    let mut hall = Hall::new();
    // Heard at first, so that its ring on the other worker has numbers far above those to come.
    hall.seq = 20_000;
    (0..100).for_each(|_| hall.say(Mallory::AUDIO, Some(&[0x80 | 20])));
    assert!(hall.heard().iter().all(|heard| *heard > 40), "{:?}", hall.heard());
    hall.voices(Voice::Speaks);
    (0..100).for_each(|_| hall.say(Mallory::AUDIO, Some(&[70])));
    assert_eq!(hall.heard(), [0, 0]);
    hall.seq = 5;
    (0..100).for_each(|_| hall.say(0x5a5a, Some(&[70])));
    assert_eq!(hall.heard(), [0, 0]);
    hall.voices(Voice::Silent);
    (0..100).for_each(|_| hall.say(0x5a5a, Some(&[0x80 | 20])));
    assert!(hall.heard().iter().all(|heard| *heard > 40), "{:?}", hall.heard());
    let filtered = hall.world.counters().filtered[MediaKind::Audio as usize][FilterReason::Speaker as usize];
    assert!(filtered > 150, "{filtered}");
    for listener in hall.listeners {
        assert_eq!(hall.world[listener].sink.duplicates(), 0);
        let faults = hall.world[listener].sink.discontinuities();
        assert!(faults.is_empty(), "{faults:#?}");
    }
}

#[test]
fn levels_of_any_length_and_none_harm_nobody() {
    let mut hall = Hall::new();
    hall.voices(Voice::Speaks);
    hall.world.run(secs(2));
    let since = hall.world.now;
    let long = [0_u8; 200];
    for round in 0..200 {
        let level: Option<&[u8]> = match round % 7 {
            0 => None,
            1 => Some(&[]),
            2 => Some(&[0xff]),
            3 => Some(&[0]),
            4 => Some(&[0x80, 1, 2, 3]),
            5 => Some(&long[..16]),
            _ => Some(&long),
        };
        hall.say(Mallory::AUDIO, level);
    }
    let words = |seat: Seat, other: Seat| {
        let seen = hall.world[seat].sink.from(other.index, false).filter(|seen| seen.at >= since);
        seen.map(|seen| seen.content.packet).collect::<Vec<_>>()
    };
    // It is as loud as it says, and one of two; the other seat is somebody's who speaks.
    for listener in &hall.listeners {
        let others: usize = hall.honest[..2].iter().map(|other| words(*listener, *other).len()).sum();
        assert!(others > 180, "{others}");
    }
}

//! Who speaks in a room: who has the floor, whose voice is heard, and whose picture comes first.

use std::time::Instant;

use super::floor::Floor;
use super::voices::{MOST, Voices};
use crate::config::Audible;
use crate::ids::{PeerId, TrackKey};
use crate::media::level::Level;

/// What a room's audio tells.
#[derive(Default)]
pub struct Speech {
    pub floor: Floor,
    voices: Voices,
    audible: Audible,
    /// Audio tracks that there are.
    tracks: usize,
    /// Who has had the floor, the latest first.
    order: Vec<PeerId>,
}

impl Speech {
    pub fn enter(&mut self, track: TrackKey) {
        self.tracks += 1;
        self.floor.enter(track);
    }

    pub fn leave(&mut self, track: TrackKey) {
        self.tracks = self.tracks.saturating_sub(1);
        self.floor.leave(track);
        self.voices.leave(track);
    }

    /// The host says whose audio goes out.
    pub fn set_audible(&mut self, now: Instant, audible: Audible) {
        self.audible = audible;
        self.voices.shrink(now, self.most().unwrap_or(0));
    }

    /// A packet of the track has come. Whether it is for others to hear.
    pub fn hear(&mut self, now: Instant, track: TrackKey, level: Option<Level>, bytes: usize) -> bool {
        let loudness = match level {
            Some(level) => self.floor.hear(now, track, level),
            None => self.floor.weigh(track, bytes),
        };
        match self.most() {
            None => true,
            Some(most) => self.voices.hear(now, track, loudness, most, self.floor.dominant()),
        }
    }

    /// How many are heard at most, where not everybody is.
    pub fn most(&self) -> Option<usize> {
        match self.audible {
            Audible::All => None,
            Audible::Auto => (self.tracks > LARGE).then_some(LOUDEST),
            Audible::Loudest(most) => Some(usize::from(most).clamp(1, MOST)),
        }
    }

    /// Has the floor from now on.
    pub fn take_floor(&mut self, peer: PeerId) {
        self.order.retain(|other| *other != peer);
        self.order.insert(0, peer);
    }

    /// Is not in the room any more.
    pub fn forget(&mut self, peer: PeerId) {
        self.order.retain(|other| *other != peer);
    }

    /// How long ago the peer had the floor, compared with others: 0 for who has it.
    pub fn rank(&self, peer: PeerId) -> usize {
        self.order.iter().position(|other| *other == peer).unwrap_or(usize::MAX)
    }
}

/// Rooms with more voices than this are large.
const LARGE: usize = 20;
/// So many are heard there.
const LOUDEST: usize = 3;

#[cfg(test)]
mod tests {
    use slotmap::SlotMap;

    use super::*;
    use crate::testing::at;

    fn room(n: usize) -> (Vec<TrackKey>, Speech) {
        let mut keys: SlotMap<TrackKey, ()> = SlotMap::with_key();
        let tracks: Vec<TrackKey> = (0..n).map(|_| keys.insert(())).collect();
        let mut speech = Speech::default();
        tracks.iter().for_each(|track| speech.enter(*track));
        (tracks, speech)
    }

    #[test]
    fn everybody_is_heard_in_a_small_room_and_three_in_a_large_one() {
        let (tracks, mut speech) = room(LARGE);
        assert!(tracks.iter().all(|track| speech.hear(at(0), *track, None, 80)));
        let (tracks, mut speech) = room(LARGE + 1);
        let loud = |speech: &mut Speech| {
            tracks.iter().for_each(|track| _ = speech.floor.weigh(*track, 80));
            tracks.iter().for_each(|track| _ = speech.floor.weigh(*track, 80));
        };
        loud(&mut speech);
        assert_eq!(tracks.iter().filter(|track| speech.hear(at(0), **track, None, 80)).count(), 3);
        speech.leave(tracks[0]);
        assert!(tracks[1..].iter().all(|track| speech.hear(at(20), *track, None, 80)));
        for (n, heard) in [(0, 1), (5, 5), (8, 8), (u8::MAX, 8)] {
            speech.set_audible(at(20), Audible::Loudest(n));
            assert_eq!(
                tracks[1..].iter().filter(|track| speech.hear(at(40), **track, None, 80)).count(),
                heard
            );
        }
        speech.set_audible(at(20), Audible::All);
        assert!(tracks.iter().all(|track| speech.hear(at(60), *track, None, 80)));
    }

    #[test]
    fn who_is_known_to_speak_goes_before_who_does_not_say() {
        let (tracks, mut speech) = room(4);
        speech.set_audible(at(0), Audible::Loudest(1));
        assert!((0..10).filter(|_| speech.hear(at(0), tracks[0], None, 80)).count() > 5);
        assert!((0..10).all(|_| !speech.hear(at(10), tracks[1], None, 80)), "they are alike");
        assert!((0..10).all(|_| !speech.hear(at(10), tracks[3], None, 0)));
        let loud = Some(Level { loudness: 100, voice: true });
        assert!((0..10).any(|packet| speech.hear(at(20 + packet * 20), tracks[2], loud, 80)));
        assert!(!speech.hear(at(140), tracks[0], None, 80));
    }

    #[test]
    fn who_had_the_floor_last_comes_first() {
        let mut speech = Speech::default();
        let peer = |n: u64| PeerId { worker: 0, key: n };
        (0..3).for_each(|n| speech.take_floor(peer(n)));
        speech.take_floor(peer(1));
        assert_eq!([0, 1, 2, 3].map(|n| speech.rank(peer(n))), [2, 0, 1, usize::MAX]);
        speech.forget(peer(1));
        assert_eq!([0, 1, 2].map(|n| speech.rank(peer(n))), [1, usize::MAX, 0]);
    }
}

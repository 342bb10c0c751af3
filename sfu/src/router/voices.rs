//! Which voices of a large room are heard: the loudest few.

use std::time::{Duration, Instant};

use crate::ids::TrackKey;

/// Seats for those who are heard. Whoever has one keeps it until somebody else needs it.
///
/// Nobody loses a seat within [`HANGOVER`] of having been as loud as who would take it, less [`MARGIN`]: words are not
/// cut, and two who are alike do not take turns. The dominant speaker's seat is not to be had, but for the only one.
#[derive(Default)]
pub struct Voices {
    seats: [Option<Seat>; MOST],
}

/// So many are heard at most: more at once are a noise.
pub const MOST: usize = 8;

struct Seat {
    track: TrackKey,
    /// The loudest it was in this while, and in the one before.
    peaks: [u8; 2],
    since: Instant,
    heard_at: Instant,
}

impl Voices {
    /// A packet of the track has come, so loud. Whether it is among the `most` who are heard.
    pub fn hear(
        &mut self,
        now: Instant,
        track: TrackKey,
        loudness: u8,
        most: usize,
        dominant: Option<TrackKey>,
    ) -> bool {
        if let Some(seat) = self.seats.iter_mut().flatten().find(|seat| seat.track == track) {
            seat.hear(now, loudness);
            return true;
        }
        let most = most.clamp(1, MOST);
        let taken = self.seats.iter().flatten().count();
        if loudness < AUDIBLE || taken > most {
            return false;
        }
        let place = match taken < most {
            true => self.seats.iter().position(Option::is_none),
            false => self.weakest(now, dominant.filter(|_| most > 1)).filter(|at| {
                let standing = self.seats[*at].as_ref().map_or(0, |seat| seat.standing(now));
                loudness >= standing.saturating_add(MARGIN)
            }),
        };
        if let Some(at) = place {
            self.seats[at] = Some(Seat::new(now, track, loudness));
        }
        place.is_some()
    }

    /// There are no more than `most` seats from now on.
    pub fn shrink(&mut self, now: Instant, most: usize) {
        while self.seats.iter().flatten().count() > most
            && let Some(at) = self.weakest(now, None)
        {
            self.seats[at] = None;
        }
    }

    /// The track is gone.
    pub fn leave(&mut self, track: TrackKey) {
        for seat in &mut self.seats {
            seat.take_if(|seat| seat.track == track);
        }
    }

    fn weakest(&self, now: Instant, spared: Option<TrackKey>) -> Option<usize> {
        let taken = self.seats.iter().enumerate().filter_map(|(at, seat)| Some((at, seat.as_ref()?)));
        let others = taken.filter(|(_, seat)| Some(seat.track) != spared);
        others.min_by_key(|(_, seat)| seat.standing(now)).map(|(at, _)| at)
    }
}

impl Seat {
    fn new(now: Instant, track: TrackKey, loudness: u8) -> Seat {
        Seat { track, peaks: [loudness, 0], since: now, heard_at: now }
    }

    fn hear(&mut self, now: Instant, loudness: u8) {
        self.heard_at = now;
        let passed = now.saturating_duration_since(self.since);
        if passed < HANGOVER {
            self.peaks[0] = self.peaks[0].max(loudness);
            return;
        }
        let before = if passed < 2 * HANGOVER { self.peaks[0] } else { 0 };
        (self.peaks, self.since) = ([loudness, before], now);
    }

    /// How loud it was lately. Who has sent nothing meanwhile has no claim.
    fn standing(&self, now: Instant) -> u8 {
        let silent = now.saturating_duration_since(self.heard_at) >= HANGOVER;
        if silent { 0 } else { self.peaks[0].max(self.peaks[1]) }
    }
}

/// A pause within a sentence.
const HANGOVER: Duration = Duration::from_millis(200);
/// In decibels.
const MARGIN: u8 = 6;
/// −55 dBov: quieter is nobody who wants to be heard.
const AUDIBLE: u8 = 72;

#[cfg(test)]
mod tests {
    use slotmap::SlotMap;

    use super::*;
    use crate::testing::at;

    /// Decibels above silence.
    const SPEECH: u8 = 100;
    const NOTHING: u8 = 60;

    fn tracks(n: usize) -> Vec<TrackKey> {
        let mut keys: SlotMap<TrackKey, ()> = SlotMap::with_key();
        (0..n).map(|_| keys.insert(())).collect()
    }

    #[test]
    fn so_many_are_heard_and_no_more() {
        for most in 1..=MOST {
            let (tracks, mut voices) = (tracks(20), Voices::default());
            for packet in 0..100 {
                let heard =
                    tracks.iter().filter(|track| voices.hear(at(packet * 20), **track, SPEECH, most, None));
                assert_eq!(heard.count(), most);
            }
        }
        let (tracks, mut voices) = (tracks(20), Voices::default());
        let heard = |voices: &mut Voices, most| {
            tracks.iter().filter(|track| voices.hear(at(0), **track, SPEECH, most, None)).count()
        };
        assert_eq!(heard(&mut voices, usize::MAX), MOST, "whatever is asked for");
        voices.shrink(at(0), 2);
        assert_eq!(heard(&mut voices, 0), 2, "nobody new");
        voices.shrink(at(0), 1);
        assert_eq!(heard(&mut voices, 0), 1, "one at least");
    }

    #[test]
    fn who_is_quiet_waits_until_it_speaks_and_keeps_its_seat_then() {
        let (tracks, mut voices) = (tracks(3), Voices::default());
        assert!(!voices.hear(at(0), tracks[0], AUDIBLE - 1, 2, None));
        assert!(voices.hear(at(20), tracks[0], AUDIBLE, 2, None));
        for packet in 2..1_000 {
            assert!(voices.hear(at(packet * 20), tracks[0], NOTHING, 2, None), "nobody needs it");
        }
    }

    #[test]
    fn a_pause_within_a_sentence_costs_nothing() {
        let (tracks, mut voices) = (tracks(2), Voices::default());
        assert!(voices.hear(at(0), tracks[0], SPEECH, 1, None));
        for packet in 1..10 {
            assert!(voices.hear(at(packet * 20), tracks[0], NOTHING, 1, None));
            assert!(!voices.hear(at(packet * 20), tracks[1], SPEECH, 1, None), "packet {packet}");
        }
        // A longer one does.
        let mut taken = None;
        for packet in 10..40 {
            if voices.hear(at(packet * 20), tracks[1], SPEECH, 1, None) {
                taken = taken.or(Some(packet * 20));
            } else {
                voices.hear(at(packet * 20), tracks[0], NOTHING, 1, None);
            }
        }
        assert!(taken.is_some_and(|at| (200..=620).contains(&at)), "{taken:?}");
    }

    #[test]
    fn who_is_louder_by_six_decibels_takes_the_weakest_seat() {
        let (tracks, mut voices) = (tracks(4), Voices::default());
        for (track, loudness) in tracks.iter().zip([95, 90, 100]) {
            assert!(voices.hear(at(0), *track, loudness, 3, None));
        }
        assert!(!voices.hear(at(10), tracks[3], 95, 3, None));
        assert!(voices.hear(at(20), tracks[3], 96, 3, None));
        assert!(!voices.hear(at(30), tracks[1], 90, 3, None), "it was hers");
        assert!(voices.hear(at(30), tracks[0], 95, 3, None));
    }

    #[test]
    fn the_dominant_speaker_stays_unless_there_is_one_seat() {
        let (tracks, mut voices) = (tracks(3), Voices::default());
        let dominant = Some(tracks[0]);
        voices.hear(at(0), tracks[0], 80, 2, dominant);
        voices.hear(at(0), tracks[1], 90, 2, dominant);
        assert!(!voices.hear(at(10), tracks[2], 95, 2, dominant));
        assert!(voices.hear(at(10), tracks[2], 96, 2, dominant));
        assert!(voices.hear(at(20), tracks[0], 80, 2, dominant));
        voices.shrink(at(20), 1);
        assert!(voices.hear(at(20), tracks[1], 127, 1, Some(tracks[2])));
    }

    #[test]
    fn who_sends_nothing_has_no_claim_and_who_is_gone_no_seat() {
        let (tracks, mut voices) = (tracks(3), Voices::default());
        voices.hear(at(0), tracks[0], 127, 1, None);
        assert!(!voices.hear(at(199), tracks[1], 80, 1, None));
        assert!(voices.hear(at(200), tracks[1], 80, 1, None));
        voices.leave(tracks[1]);
        assert!(voices.hear(at(200), tracks[2], AUDIBLE, 1, None));
    }
}

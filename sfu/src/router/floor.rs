//! Who has the floor: the dominant speaker of a room.

use std::time::{Duration, Instant};

use slotmap::SecondaryMap;

use crate::ids::TrackKey;
use crate::media::level::Level;

/// Finds the dominant speaker by who is loud now, was in the last 100 ms, and was in the last second.
///
/// After I. Volfin and I. Cohen, "Dominant speaker identification for multipoint videoconferencing" (Computer Speech &
/// Language 27, 2013). They compare likelihoods of speech over three spans of time; with the constants that
/// conferencing servers use (13, 5 and 10 parts, thresholds 7 and 4, ratios 3, 2 and 0), what comes out is this: the floor
/// changes hands when its holder has not been loud for 100 ms, and somebody else is loud and has more loud tenths in the
/// last second. A test compares the two.
///
/// So who has the floor keeps it through silence and while others talk, too. And nobody takes it who has not been loud for
/// [`LEAST_BLOCKS`] tenths of that second: coughs and doors are shorter.
///
/// Time is cut into frames of 20 ms by when packets come, not by how many come or what their timestamps say: whoever
/// sends more of them has spoken no longer. A level that never changes is noise, however loud.
#[derive(Default)]
pub struct Floor {
    /// Frames are counted from here.
    origin: Option<Instant>,
    speakers: SecondaryMap<TrackKey, Speaker>,
    dominant: Option<TrackKey>,
}

#[derive(Default)]
struct Speaker {
    /// The frames of the last second that were loud; the lowest bit is `newest`.
    loud: u64,
    /// The latest frame in which anything came. 0: nothing has.
    newest: u64,
    /// Smoothed over two packets or three.
    loudness: u8,
    /// Bytes of its heaviest packet lately, where it tells no levels.
    heaviest: u16,
    noise: Noise,
    /// It has marked packets as speech: where it does not, it means it.
    marks_voice: bool,
    speaking: bool,
}

/// What a microphone hears when nobody speaks: the least of the last 15 to 30 s.
#[derive(Default)]
struct Noise {
    least: Option<u8>,
    before: Option<u8>,
    packets: u16,
}

impl Floor {
    /// A track has come that may speak.
    pub fn enter(&mut self, track: TrackKey) {
        self.speakers.insert(track, Speaker::default());
    }

    /// It is gone, and so is its floor.
    pub fn leave(&mut self, track: TrackKey) {
        self.speakers.remove(track);
        self.dominant.take_if(|dominant| *dominant == track);
    }

    /// A packet of the track came, so loud; its smoothed loudness.
    pub fn hear(&mut self, now: Instant, track: TrackKey, level: Level) -> u8 {
        let frame = self.frame_of(now);
        self.speakers.get_mut(track).map_or(0, |speaker| speaker.hear(frame, level))
    }

    /// A packet of the track came with so many bytes, and does not say how loud it is: half the weight of its heaviest is
    /// taken for speech, though not loud, and less for silence.
    pub fn weigh(&mut self, track: TrackKey, bytes: usize) -> u8 {
        let Some(speaker) = self.speakers.get_mut(track) else { return 0 };
        let bytes = u16::try_from(bytes).unwrap_or(u16::MAX);
        speaker.heaviest = bytes.max(speaker.heaviest - speaker.heaviest / LIGHTER);
        let loudness = if bytes > speaker.heaviest / 2 { ASSUMED } else { 0 };
        speaker.smooth(loudness)
    }

    /// Who has the floor; whoever had it last while nobody speaks.
    pub fn dominant(&self) -> Option<TrackKey> {
        self.dominant
    }

    /// Somebody else has decided who has the floor.
    pub fn follow(&mut self, track: TrackKey) {
        if self.speakers.contains_key(track) {
            self.dominant = Some(track);
        }
    }

    /// Looks at who speaks. `decides`: and at who has the floor.
    pub fn review(&mut self, now: Instant, decides: bool) {
        // The frame of this moment has only begun.
        let frame = self.frame_of(now).saturating_sub(1);
        let held = self.dominant.and_then(|track| self.speakers.get(track)).map(|it| it.second(frame));
        let mut best: Option<(usize, TrackKey)> = None;
        for (track, speaker) in &mut self.speakers {
            let second = speaker.second(frame);
            speaker.speaking = second.count_ones() >= if speaker.speaking { 1 } else { SPEAKING };
            let blocks = loud_blocks(second);
            let leads = best.is_none_or(|(most, _)| blocks > most);
            if decides && leads && blocks >= LEAST_BLOCKS && takes(second, held) {
                best = Some((blocks, track));
            }
        }
        if let Some((_, track)) = best {
            self.dominant = Some(track);
        }
    }

    /// Who spoke when it was last [`review`](Self::review)ed, with its loudness: from 200 ms of it on, until a second
    /// without any.
    pub fn speaking(&self) -> impl Iterator<Item = (TrackKey, u8)> {
        self.speakers.iter().filter(|(_, it)| it.speaking).map(|(track, it)| (track, it.loudness))
    }

    /// Its latest packets were loud, and not mere noise.
    pub fn is_loud(&self, track: TrackKey) -> bool {
        self.speakers.get(track).is_some_and(|speaker| speaker.loud & 1 == 1)
    }

    /// Somebody has been loud within the last second: there is something to review.
    pub fn is_lively(&self, now: Instant) -> bool {
        let Some(origin) = self.origin else { return false };
        let frame = frames_since(origin, now);
        self.speakers.values().any(|speaker| speaker.speaking || speaker.second(frame) != 0)
    }

    fn frame_of(&mut self, now: Instant) -> u64 {
        frames_since(*self.origin.get_or_insert(now), now)
    }
}

/// From 1 on.
fn frames_since(origin: Instant, now: Instant) -> u64 {
    1 + (now.saturating_duration_since(origin).as_millis() / FRAME.as_millis()) as u64
}

/// Whether somebody with this last second takes the floor from somebody with that one.
fn takes(second: u64, held: Option<u64>) -> bool {
    let is_loud = second & 1 == 1;
    let pauses = |held: u64| held & BLOCK == 0 && loud_blocks(second) > loud_blocks(held);
    is_loud && held.is_none_or(pauses)
}

/// How many tenths of a second were loud throughout.
fn loud_blocks(second: u64) -> usize {
    (0..BLOCKS).filter(|block| second >> (block * BLOCK_FRAMES) & BLOCK == BLOCK).count()
}

impl Speaker {
    fn hear(&mut self, frame: u64, level: Level) -> u8 {
        self.marks_voice |= level.voice;
        let doubtful = self.marks_voice && !level.voice;
        let loudness = if doubtful { level.loudness.saturating_sub(UNVOICED) } else { level.loudness };
        self.smooth(loudness);
        let is_loud = loudness >= self.noise.hear(loudness).max(LOUD);
        if frame > self.newest {
            self.loud = self.second(frame) & !1;
            self.newest = frame;
        }
        self.loud |= u64::from(is_loud);
        self.loudness
    }

    fn smooth(&mut self, loudness: u8) -> u8 {
        self.loudness = (u16::from(self.loudness) + u16::from(loudness)).div_ceil(2) as u8;
        self.loudness
    }

    /// The second that ends with `frame`. Packets come in jumps, and may hold 60 ms: what came last stands for two frames
    /// more.
    fn second(&self, frame: u64) -> u64 {
        let passed = frame.saturating_sub(self.newest).min(FRAMES + u64::from(CARRIED)) as u32;
        let carried = if self.loud & 1 == 1 { passed.min(CARRIED) } else { 0 };
        let fill = ((1 << carried) - 1) << (passed - carried);
        let early = self.newest.saturating_sub(frame).min(FRAMES);
        ((self.loud << passed | fill) >> early) & SECOND
    }
}

impl Noise {
    /// What is louder than the noise by enough to count, now that another packet came.
    fn hear(&mut self, loudness: u8) -> u8 {
        // Digital silence is a muted microphone, not a quiet room.
        if loudness > 0 {
            self.least = Some(self.least.map_or(loudness, |least| least.min(loudness)));
            self.packets += 1;
        }
        if self.packets >= NOISE_PACKETS {
            (self.before, self.least, self.packets) = (self.least, None, 0);
        }
        let settled = self.least.filter(|_| self.before.is_some() || self.packets >= NOISE_SETTLED);
        let least = [settled, self.before].into_iter().flatten().min();
        least.map_or(0, |least| least.saturating_add(ABOVE_NOISE))
    }
}

/// A frame of Opus as browsers make them.
const FRAME: Duration = Duration::from_millis(20);
const FRAMES: u64 = 50;
const SECOND: u64 = (1 << FRAMES) - 1;
/// A tenth of a second.
const BLOCK_FRAMES: usize = 5;
const BLOCK: u64 = (1 << BLOCK_FRAMES) - 1;
const BLOCKS: usize = FRAMES as usize / BLOCK_FRAMES;
/// −47 dBov, in decibels above silence.
const LOUD: u8 = 80;
/// −40 dBov: whoever is known to speak is louder.
const ASSUMED: u8 = 87;
/// What was heaviest half a minute ago weighs half.
const LIGHTER: u16 = 1_024;
const LEAST_BLOCKS: usize = 4;
/// Loud frames in the last second that are taken for speaking.
const SPEAKING: u32 = 10;
const CARRIED: u32 = 2;
/// What the sender does not take for speech counts as so much quieter.
const UNVOICED: u8 = 12;
const ABOVE_NOISE: u8 = 10;
/// 15 s of packets, and two.
const NOISE_PACKETS: u16 = 750;
const NOISE_SETTLED: u16 = 100;

#[cfg(test)]
mod tests {
    use slotmap::SlotMap;

    use super::*;
    use crate::testing::at;

    /// A room in which everybody sends a packet every 20 ms, so loud as their story says.
    struct Story {
        floor: Floor,
        tracks: Vec<TrackKey>,
        now: u64,
        /// Who had the floor, and since when.
        held: Vec<(u64, usize)>,
    }

    /// In dBov.
    const QUIET: u8 = 70;

    /// What a sentence is like: syllables of 160 to 220 ms, and what lies between them.
    fn speech(ms: u64) -> u8 {
        match ms / 20 % 11 {
            0 => 55,
            frame => 20 + (frame * 7 % 13) as u8,
        }
    }

    impl Story {
        fn of(people: usize) -> Story {
            let mut keys: SlotMap<TrackKey, ()> = SlotMap::with_key();
            let tracks: Vec<TrackKey> = (0..people).map(|_| keys.insert(())).collect();
            let mut floor = Floor::default();
            tracks.iter().for_each(|track| floor.enter(*track));
            Story { floor, tracks, now: 0, held: Vec::new() }
        }

        /// Goes on for so long; `level` says who is how loud.
        fn goes_on(&mut self, span: u64, level: impl Fn(usize, u64) -> Option<u8>) {
            let until = self.now + span;
            while self.now < until {
                for (who, track) in self.tracks.iter().enumerate() {
                    if let Some(level) = level(who, self.now) {
                        let level = Level { loudness: 127 - level, voice: level < 60 };
                        self.floor.hear(at(self.now), *track, level);
                    }
                }
                self.now += 20;
                if self.now.is_multiple_of(100) {
                    self.floor.review(at(self.now), true);
                    if let Some(who) = self.holder()
                        && self.held.last().map(|(_, who)| *who) != Some(who)
                    {
                        self.held.push((self.now, who));
                    }
                }
            }
        }

        fn says(&mut self, speaker: usize, span: u64) {
            self.goes_on(span, |who, now| Some(if who == speaker { speech(now) } else { QUIET }));
        }

        fn is_quiet(&mut self, span: u64) {
            self.goes_on(span, |_, _| Some(QUIET));
        }

        fn holder(&self) -> Option<usize> {
            let dominant = self.floor.dominant()?;
            self.tracks.iter().position(|track| *track == dominant)
        }

        fn holders(&self) -> Vec<usize> {
            self.held.iter().map(|(_, who)| *who).collect()
        }
    }

    #[test]
    fn whoever_speaks_alone_gets_the_floor_within_a_second_or_so() {
        let mut story = Story::of(4);
        story.is_quiet(3_000);
        assert_eq!(story.holder(), None);
        story.says(2, 2_000);
        assert_eq!(story.holders(), [2]);
        let after = story.held[0].0 - 3_000;
        assert!((400..=1_200).contains(&after), "{after} ms");
    }

    #[test]
    fn silence_keeps_the_last() {
        let mut story = Story::of(3);
        story.says(1, 3_000);
        story.is_quiet(120_000);
        assert_eq!(story.holders(), [1]);
        assert!(!story.floor.is_lively(at(story.now)), "there is nothing to look at");
        story.goes_on(60_000, |_, _| None);
        assert_eq!(story.holders(), [1]);
    }

    #[test]
    fn two_who_alternate_have_it_in_turn() {
        let mut story = Story::of(3);
        for _ in 0..5 {
            story.says(0, 4_000);
            story.says(2, 4_000);
        }
        assert_eq!(story.holders(), [0, 2, 0, 2, 0, 2, 0, 2, 0, 2]);
        for (turn, (since, _)) in story.held.iter().enumerate() {
            let after = since - turn as u64 * 4_000;
            assert!(after <= 1_500, "turn {turn}: after {after} ms");
        }
    }

    #[test]
    fn a_door_and_a_cough_do_not_take_it() {
        // Into silence, into a pause of the one who speaks, and while he speaks.
        for (pause, length) in [(0, 300), (700, 300), (5_000, 380)] {
            let mut story = Story::of(3);
            story.says(0, 3_000);
            for _ in 0..5 {
                story.is_quiet(pause);
                let bang = move |who, now| {
                    let others = if pause == 0 && who == 0 { speech(now) } else { QUIET };
                    Some(if who == 2 { 3 } else { others })
                };
                story.goes_on(length, bang);
                story.is_quiet(pause / 3);
                story.says(0, 1_500);
            }
            assert_eq!(story.holders(), [0], "{length} ms of noise after {pause} ms");
        }
        let mut story = Story::of(2);
        story.is_quiet(3_000);
        story.goes_on(380, |who, _| Some(if who == 0 { 3 } else { QUIET }));
        story.is_quiet(3_000);
        assert_eq!(story.holder(), None, "nobody has spoken");
    }

    #[test]
    fn who_interrupts_waits_for_a_pause() {
        let mut story = Story::of(2);
        story.says(0, 3_000);
        story.goes_on(3_000, |who, now| Some(if who == 0 { speech(now) } else { speech(now + 100) }));
        assert_eq!(story.holders(), [0], "both speak");
        story.says(1, 1_500);
        assert_eq!(story.holders(), [0, 1]);
    }

    #[test]
    fn who_leaves_leaves_the_floor() {
        let mut story = Story::of(3);
        story.says(0, 3_000);
        let gone = story.tracks[0];
        story.floor.leave(gone);
        assert_eq!(story.holder(), None);
        story.floor.follow(gone);
        assert_eq!(story.holder(), None, "who is not there has none");
        story.says(1, 2_000);
        assert_eq!(story.holder(), Some(1));
        assert_eq!(story.floor.hear(at(story.now), gone, Level { loudness: 127, voice: true }), 0);
    }

    #[test]
    fn a_level_that_never_changes_is_noise() {
        let mut story = Story::of(2);
        story.goes_on(3_000, |who, _| Some(if who == 1 { 0 } else { QUIET }));
        assert_eq!(story.holders(), [1], "for two seconds it may be somebody");
        story.goes_on(3_000, |who, now| Some(if who == 1 { 0 } else { speech(now) }));
        assert_eq!(story.holders(), [1, 0]);
        story.goes_on(60_000, |who, now| {
            let others = if (now / 3_000).is_multiple_of(2) { speech(now) } else { QUIET };
            Some(if who == 1 { 0 } else { others })
        });
        assert_eq!(story.holders(), [1, 0]);
    }

    #[test]
    fn more_packets_are_not_more_speech() {
        let mut story = Story::of(2);
        story.says(0, 3_000);
        story.is_quiet(2_000);
        for _ in 0..2_000 {
            let level = Level { loudness: 120, voice: true };
            story.floor.hear(at(story.now), story.tracks[1], level);
        }
        story.goes_on(300, |who, _| Some(if who == 1 { 5 } else { QUIET }));
        story.is_quiet(1_000);
        assert_eq!(story.holders(), [0]);
    }

    #[test]
    fn jitter_long_packets_and_discontinuous_transmission_are_speech_all_the_same() {
        // Two at once each 40 ms; one each 60 ms; nothing at all in the pauses.
        let arrivals: [fn(u64) -> bool; 3] =
            [|now| now.is_multiple_of(40), |now| now.is_multiple_of(60), |now| now / 20 % 11 != 0];
        for (which, comes) in arrivals.into_iter().enumerate() {
            let mut story = Story::of(2);
            story.goes_on(3_000, |who, now| match who {
                0 => comes(now).then(|| speech(now)),
                _ => Some(QUIET),
            });
            assert_eq!(story.holders(), [0], "arrivals {which}");
        }
    }

    #[test]
    fn who_speaks_is_told_from_the_first_word_until_a_second_after_the_last() {
        let mut story = Story::of(3);
        let speaking =
            |story: &Story| -> Vec<TrackKey> { story.floor.speaking().map(|(track, _)| track).collect() };
        story.goes_on(300, |who, now| Some(if who == 1 { speech(now) } else { QUIET }));
        assert_eq!(speaking(&story), [story.tracks[1]]);
        story.is_quiet(800);
        assert_eq!(speaking(&story), [story.tracks[1]]);
        story.is_quiet(400);
        assert!(speaking(&story).is_empty());
    }

    #[test]
    fn what_is_not_marked_as_speech_by_who_marks_it_counts_less() {
        let mut story = Story::of(1);
        let track = story.tracks[0];
        let level = |voice| Level { loudness: 85, voice };
        assert_eq!(story.floor.hear(at(0), track, level(false)), 43, "it has never marked any");
        story.floor.hear(at(20), track, level(true));
        let marked = story.floor.hear(at(40), track, level(false));
        assert!(marked < 75, "{marked}");
    }

    /// How much likelier speech is than silence where `active` of `all` parts are active (equation 4 of the paper): in
    /// speech each is with even chance; in silence the number falls off exponentially. A trace at least.
    fn score(active: usize, all: usize, decay: f64) -> f64 {
        let ways: f64 = (0..active).map(|at| ((all - at) as f64 / (at + 1) as f64).ln()).sum();
        (ways - all as f64 * std::f64::consts::LN_2 - decay.ln() + decay * active as f64).max(1e-10)
    }

    #[test]
    fn it_comes_to_what_the_likelihoods_come_to() {
        let ratio = |a: usize, b: usize, all, decay| (score(a, all, decay) / score(b, all, decay)).ln();
        // 13 bands of 10 dB; loud is the eighth and above.
        for (loud, quiet) in (8..=12).flat_map(|loud| (0..=3).map(move |quiet| (loud, quiet))) {
            assert!(ratio(loud, quiet, 13, 0.78) > 3.0);
        }
        for (a, b) in (8..=12).flat_map(|a| (8..=12).map(move |b| (a, b))) {
            assert!(ratio(a, b, 13, 0.78) <= 3.0, "both are loud");
        }
        for (a, b) in (0..=5).flat_map(|a| (0..=5).map(move |b| (a, b))) {
            assert_eq!(ratio(a, b, 5, 24.0) > 2.0, a > 0 && b == 0, "{a} and {b} of five frames");
        }
        for (a, b) in (0..=10).flat_map(|a| (0..=10).map(move |b| (a, b))) {
            assert_eq!(ratio(a, b, 10, 47.0) > 0.0, a > b, "{a} and {b} tenths");
        }
    }

    #[test]
    fn a_second_is_what_came_in_it() {
        let mut speaker = Speaker::default();
        let loud = Level { loudness: 100, voice: true };
        let quiet = Level { loudness: 20, voice: true };
        speaker.hear(10, loud);
        assert_eq!([9, 10, 11, 12, 13].map(|frame| speaker.second(frame)), [0, 1, 0b11, 0b111, 0b1110]);
        speaker.hear(11, quiet);
        assert_eq!([10, 11, 12].map(|frame| speaker.second(frame)), [1, 0b10, 0b100]);
        speaker.hear(11, loud);
        assert_eq!(speaker.second(11), 0b11, "the loudest of a frame counts");
        speaker.hear(60, loud);
        assert_eq!(speaker.second(60), 0b111 << 47 & SECOND | 1);
        assert_eq!(speaker.second(10_000), 0);
        assert_eq!(Speaker::default().second(10_000), 0);
    }
}

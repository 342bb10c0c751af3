//! Holding a sender to a cap that it was told and does not keep.

use std::time::{Duration, Instant};

use super::budget::{RateMeter, TokenBucket};
use crate::ids::{MediaKind, Mid};
use crate::units::Bitrate;

/// Holds a sender to its cap when asking (REMB) did not, or a receiver to its when smaller layers did not.
///
/// It begins when more than 125 % of the cap has been offered for 2 s without a break, and ends when no more than the
/// cap has been offered for 3 s without a break: what is *offered*, dropped or not. Meanwhile the largest layers are
/// suspended until the rest fits. Where even the smallest does not, whole pictures are left out, the disposable ones
/// first; after one that others refer to, all until a keyframe, so that what passes can be decoded. After 10 s of
/// twice the cap and more there is no video at all.
///
/// Audio counts, but is never dropped: it is 3 % of the bytes and most of the call.
#[derive(Debug)]
pub struct Police {
    cap: Option<Bitrate>,
    offered: RateMeter,
    audio: RateMeter,
    lanes: Vec<Lane>,
    stage: Stage,
    /// Since when the offered rate has been above the line, while keeping the peace; twice the cap, while holding.
    over_since: Option<Instant>,
    /// Since when it has been within the cap, while not keeping the peace.
    within_since: Option<Instant>,
    video: TokenBucket,
    shared_at: Option<Instant>,
    changed: bool,
}

/// How far it has gone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Stage {
    /// Everything passes.
    #[default]
    Peace,
    /// No more passes than the cap allows.
    Holding,
    /// No video passes.
    Muted,
}

/// What a packet of video belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    pub section: Mid,
    pub layer: u8,
    /// Of its picture.
    pub timestamp: u32,
    /// The first packet of a keyframe.
    pub keyframe: bool,
    pub temporal: u8,
    pub bytes: usize,
}

/// What to do with a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It goes on.
    Pass,
    /// It does not, as [`DropReason::Policed`](crate::DropReason::Policed).
    Police,
}

/// One layer of one section.
#[derive(Debug)]
struct Lane {
    section: Mid,
    layer: u8,
    rate: RateMeter,
    /// The fastest temporal layer so far: nothing refers to its pictures.
    fastest: u8,
    /// The picture that is under way, and whether it passes.
    picture: Option<(u32, bool)>,
    /// A picture that others refer to was left out: nothing passes before a keyframe.
    torn: bool,
    suspended: Option<Instant>,
}

impl Police {
    /// `None` is no cap.
    pub fn new(cap: Option<Bitrate>) -> Police {
        Police {
            cap,
            offered: RateMeter::default(),
            audio: RateMeter::default(),
            lanes: Vec::new(),
            stage: Stage::Peace,
            over_since: None,
            within_since: None,
            video: bucket(cap.unwrap_or_default()),
            shared_at: None,
            changed: false,
        }
    }

    /// Changes the cap. Time already spent above the line is not forgiven: a cap that moves every second
    /// must not be a way around it.
    pub fn set_cap(&mut self, cap: Option<Bitrate>) {
        if cap == self.cap {
            return;
        }
        self.cap = cap;
        match cap {
            None => self.enter(Stage::Peace),
            Some(cap) => self.video = bucket(cap),
        }
    }

    /// What is offered, over the last second.
    pub fn offered(&self, now: Instant) -> Bitrate {
        self.offered.rate(now)
    }

    /// Counts a packet, of whatever use it is.
    pub fn count(&mut self, now: Instant, kind: MediaKind, bytes: usize) {
        self.offered.add(now, bytes);
        if kind == MediaKind::Audio {
            self.audio.add(now, bytes);
        }
        if let Some(cap) = self.cap {
            self.watch(now, cap);
        }
    }

    /// Says whether a packet of video goes on. It has been counted already.
    pub fn judge(&mut self, now: Instant, part: &Part) -> Verdict {
        let at = match (self.cap, self.lane(part.section, part.layer)) {
            (_, Some(at)) => at,
            (None, None) => return Verdict::Pass,
            (Some(_), None) if self.lanes.len() >= MAX_LANES => return Verdict::Police,
            (Some(_), None) => {
                self.lanes.push(Lane::new(part.section, part.layer));
                self.lanes.len() - 1
            }
        };
        if self.stage == Stage::Holding {
            self.share(now);
        }
        let lane = &mut self.lanes[at];
        lane.rate.add(now, part.bytes);
        lane.fastest = lane.fastest.max(part.temporal);
        let suspended = lane.suspended.is_some_and(|since| now >= since + GRACE);
        if self.stage == Stage::Muted {
            lane.torn = true;
        }
        if self.stage == Stage::Muted || suspended {
            // Nobody is left with a suspended layer: who gets it again begins with a keyframe of his own asking.
            lane.picture = None;
            return Verdict::Police;
        }
        let holds = self.stage == Stage::Holding && lane.suspended.is_none();
        let passes = match lane.picture {
            // A repair of one of the pictures before: nothing says which of them passed.
            Some((latest, _)) if (latest.wrapping_sub(part.timestamp) as i32) > 0 => !lane.torn,
            Some((latest, passes)) if latest == part.timestamp && !part.keyframe => passes,
            _ => {
                let disposable = part.temporal > 0 && part.temporal == lane.fastest;
                let passes = match (part.keyframe, lane.torn) {
                    (false, true) => false,
                    (true, true) => !holds || self.video.is_half_full(now),
                    _ if disposable => !holds || self.video.is_half_full(now),
                    _ => !holds || self.video.has_any(now),
                };
                lane.torn = if passes { lane.torn && !part.keyframe } else { lane.torn || !disposable };
                lane.picture = Some((part.timestamp, passes));
                passes
            }
        };
        if passes && holds {
            self.video.spend(now, part.bytes);
        }
        if passes { Verdict::Pass } else { Verdict::Police }
    }

    /// A layer that can go on only with a keyframe, and has the means to.
    pub fn wants_keyframe(&mut self, now: Instant) -> Option<(Mid, u8)> {
        let may = match self.stage {
            Stage::Peace => true,
            Stage::Holding => self.video.is_half_full(now),
            Stage::Muted => false,
        };
        let torn = self.lanes.iter().find(|lane| lane.torn && lane.suspended.is_none());
        torn.filter(|_| may).map(|lane| (lane.section, lane.layer))
    }

    /// Whether this layer is not to be had now.
    pub fn is_shut(&self, section: Mid, layer: u8) -> bool {
        let lane = self.lane(section, layer);
        self.stage == Stage::Muted || lane.is_some_and(|at| self.lanes[at].suspended.is_some())
    }

    /// How far it has gone, if that or what is suspended has changed since the last call.
    pub fn poll_change(&mut self) -> Option<Stage> {
        std::mem::take(&mut self.changed).then_some(self.stage)
    }

    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Something is dropped, or waits for a keyframe since it was.
    pub fn is_at_work(&self) -> bool {
        self.stage != Stage::Peace || self.lanes.iter().any(|lane| lane.torn)
    }

    /// A section is gone.
    pub fn forget(&mut self, section: Mid) {
        self.lanes.retain(|lane| lane.section != section);
    }

    fn lane(&self, section: Mid, layer: u8) -> Option<usize> {
        self.lanes.iter().position(|lane| lane.section == section && lane.layer == layer)
    }

    fn watch(&mut self, now: Instant, cap: Bitrate) {
        let offered = self.offered.rate(now);
        let passed = |since: &mut Option<Instant>, patience: Duration| {
            now.saturating_duration_since(*since.get_or_insert(now)) >= patience
        };
        let over = |percent: u64| offered.as_bps() > cap.as_bps() / 100 * percent;
        if self.stage == Stage::Peace {
            match over(DISOBEDIENT) {
                false => self.over_since = None,
                true if passed(&mut self.over_since, PATIENCE) => self.enter(Stage::Holding),
                true => {}
            }
            return;
        }
        match offered > cap {
            true => self.within_since = None,
            false if passed(&mut self.within_since, TRUST) => return self.enter(Stage::Peace),
            false => {}
        }
        match over(OUTRAGEOUS) {
            false => self.over_since = None,
            true if self.stage == Stage::Holding && passed(&mut self.over_since, MUTE_AFTER) => {
                self.enter(Stage::Muted);
            }
            true => {}
        }
    }

    fn enter(&mut self, stage: Stage) {
        (self.over_since, self.within_since, self.shared_at) = (None, None, None);
        if self.stage == stage {
            return;
        }
        if stage == Stage::Peace {
            self.lanes.iter_mut().for_each(|lane| lane.suspended = None);
        }
        self.stage = stage;
        self.changed = true;
    }

    /// Finds out which layers fit. Every section gets its smallest before any gets a larger one.
    fn share(&mut self, now: Instant) {
        let due = self.shared_at.is_none_or(|at| now.saturating_duration_since(at) >= SHARING);
        let Some(cap) = self.cap.filter(|_| due) else { return };
        self.shared_at = Some(now);
        let budget = cap.as_bps().saturating_sub(self.audio.rate(now).as_bps());
        self.video.set_rate(Bitrate::bps(budget));
        let weight = |lane: &Lane| lane.rate.rate(now).as_bps();
        // By how many smaller ones its section has, then by weight.
        let mut order: Vec<(usize, u64, usize)> = (0..self.lanes.len())
            .map(|at| {
                let lane = &self.lanes[at];
                let smaller = |other: &&Lane| {
                    other.section == lane.section && (weight(other), other.layer) < (weight(lane), lane.layer)
                };
                (self.lanes.iter().filter(smaller).count(), weight(lane), at)
            })
            .collect();
        order.sort_unstable();
        let mut left = budget;
        for (smaller, weight, at) in order {
            let lane = &mut self.lanes[at];
            // What is to come back needs some room to spare.
            let wanted = if lane.suspended.is_some() { weight + weight / 10 } else { weight };
            let fits = smaller == 0 || wanted <= left;
            left = left.saturating_sub(if fits { weight } else { 0 });
            if fits != lane.suspended.is_none() {
                lane.suspended = (!fits).then_some(now);
                self.changed = true;
            }
        }
    }
}

impl Lane {
    fn new(section: Mid, layer: u8) -> Lane {
        let rate = RateMeter::default();
        Lane { section, layer, rate, fastest: 0, picture: None, torn: false, suspended: None }
    }
}

/// Two packets at least. A publisher gives a keyframe a second at most, and the more pictures follow it the better.
fn bucket(cap: Bitrate) -> TokenBucket {
    TokenBucket::new(cap, cap.bytes_in(BURST).max(2 * 1_500))
}

/// Sections and layers that are told apart; more are not let through under a cap.
const MAX_LANES: usize = 64;
/// In per cent of the cap.
const DISOBEDIENT: u64 = 125;
/// Browsers obey a REMB within a second.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a sender must behave to be trusted.
const TRUST: Duration = Duration::from_secs(3);
const OUTRAGEOUS: u64 = 200;
const MUTE_AFTER: Duration = Duration::from_secs(10);
/// So long a suspended layer still passes, for receivers to begin with a smaller one.
const GRACE: Duration = Duration::from_millis(300);
const BURST: Duration = Duration::from_millis(600);
/// How often it is looked into which layers fit.
const SHARING: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::at;

    const CAP: Bitrate = Bitrate::kbps(500);

    fn video() -> Mid {
        Mid::new("1").expect("a short mid")
    }

    /// A camera: 25 pictures a second, so large, in packets of 1000 bytes; the first is a keyframe, and so is each that
    /// is asked for, thrice as large.
    struct Camera {
        layer: u8,
        bytes: usize,
        /// Every other picture is of a second temporal layer.
        disposable: bool,
        picture: u64,
    }

    impl Camera {
        fn new(layer: u8, kbps: usize) -> Camera {
            Camera { layer, bytes: kbps * 125 / 25, disposable: false, picture: 0 }
        }

        /// Sends the picture of this moment. Bytes that passed, and whether all of it did, or none.
        fn shoot(&mut self, now: u64, police: &mut Police) -> (usize, bool) {
            let keyframe = self.picture == 0 || police.wants_keyframe(at(now)) == Some((video(), self.layer));
            let temporal = u8::from(self.disposable && self.picture % 2 == 1);
            let timestamp = (self.picture * 3_600) as u32;
            self.picture += 1;
            let mut left = if keyframe { self.bytes * 3 } else { self.bytes };
            let (mut passed, mut verdicts, mut first) = (0, Vec::new(), true);
            while left > 0 {
                let bytes = left.min(1_000);
                left -= bytes;
                police.count(at(now), MediaKind::Video, bytes);
                let keyframe = keyframe && std::mem::take(&mut first);
                let part = Part { section: video(), layer: self.layer, timestamp, keyframe, temporal, bytes };
                let verdict = police.judge(at(now), &part);
                passed += if verdict == Verdict::Pass { bytes } else { 0 };
                verdicts.push(verdict);
            }
            (passed, verdicts.windows(2).all(|pair| pair[0] == pair[1]))
        }
    }

    /// Sends 25 pictures a second, and says in which milliseconds how many bytes passed.
    fn film(
        police: &mut Police,
        cameras: &mut [Camera],
        times: std::ops::Range<u64>,
    ) -> Vec<(u64, u8, usize)> {
        let mut passed = Vec::new();
        for now in times.step_by(40) {
            for camera in &mut *cameras {
                let (bytes, whole) = camera.shoot(now, police);
                assert!(whole, "a picture was cut at {now}");
                passed.push((now, camera.layer, bytes));
            }
        }
        passed
    }

    fn total(passed: &[(u64, u8, usize)]) -> usize {
        passed.iter().map(|(_, _, bytes)| bytes).sum()
    }

    #[test]
    fn who_is_a_quarter_over_is_left_alone() {
        let mut police = Police::new(Some(CAP));
        let mut camera = [Camera::new(0, 540)];
        let passed = film(&mut police, &mut camera, 0..60_000);
        assert!(passed.iter().all(|(_, _, bytes)| *bytes > 0));
        assert_eq!(police.poll_change(), None);
    }

    #[test]
    fn a_short_peak_is_forgiven() {
        let mut police = Police::new(Some(CAP));
        for round in 0..10_u64 {
            let start = round * 4_000;
            film(&mut police, &mut [Camera::new(0, 1_000)], start..start + 1_000);
            film(&mut police, &mut [Camera::new(0, 200)], start + 1_000..start + 4_000);
        }
        assert_eq!(police.poll_change(), None);
    }

    #[test]
    fn whoever_does_not_listen_is_held_to_the_cap_within_three_seconds() {
        let mut police = Police::new(Some(CAP));
        let mut camera = [Camera::new(0, 900)];
        film(&mut police, &mut camera, 0..3_000);
        assert_eq!(police.poll_change(), Some(Stage::Holding));
        let passed = film(&mut police, &mut camera, 3_000..13_000);
        let allowed = CAP.bytes_in(Duration::from_secs(10)) as usize;
        assert!(
            (allowed / 2..=allowed * 110 / 100).contains(&total(&passed)),
            "{} of {allowed}",
            total(&passed)
        );
        // The longest run of pictures that begins with one that was left out begins again with a keyframe, thrice as
        // large.
        let starts = passed.windows(2).filter(|pair| pair[0].2 == 0 && pair[1].2 > 0);
        assert!(starts.map(|pair| pair[1].2).all(|bytes| bytes == 3 * camera[0].bytes));
    }

    #[test]
    fn disposable_pictures_go_first() {
        let mut police = Police::new(Some(CAP));
        let mut camera = [Camera { disposable: true, ..Camera::new(0, 640) }];
        film(&mut police, &mut camera, 0..6_000);
        let passed = film(&mut police, &mut camera, 6_000..20_000);
        let of = |odd: u64| passed.iter().filter(move |(now, _, _)| now / 40 % 2 == odd);
        let [base, above] = [0, 1].map(|odd| of(odd).filter(|(_, _, bytes)| *bytes > 0).count());
        assert_eq!(base, of(0).count(), "what others refer to passes");
        assert!((1..base).contains(&above), "{above} disposable ones passed, {base} others");
    }

    #[test]
    fn the_largest_layers_are_suspended_and_the_rest_is_whole() {
        let mut police = Police::new(Some(CAP));
        let mut cameras = [Camera::new(0, 100), Camera::new(1, 300), Camera::new(2, 1_000)];
        film(&mut police, &mut cameras, 0..3_600);
        assert_eq!(police.poll_change(), Some(Stage::Holding));
        assert_eq!([0, 1, 2].map(|layer| police.is_shut(video(), layer)), [false, false, true]);
        let passed = film(&mut police, &mut cameras, 3_600..9_000);
        assert!(passed.iter().all(|(_, layer, bytes)| (*bytes > 0) == (*layer < 2)));
        assert_eq!(police.poll_change(), None);
    }

    #[test]
    fn twice_the_cap_for_long_and_there_is_no_picture() {
        let mut police = Police::new(Some(CAP));
        let mut camera = [Camera::new(0, 2_000)];
        film(&mut police, &mut camera, 0..15_000);
        assert_eq!(police.poll_change(), Some(Stage::Muted));
        assert_eq!(total(&film(&mut police, &mut camera, 15_000..20_000)), 0);
        // Three seconds within the cap, and all is well.
        camera[0].bytes /= 8;
        film(&mut police, &mut camera, 20_000..25_000);
        assert_eq!(police.poll_change(), Some(Stage::Peace));
        let passed = film(&mut police, &mut camera, 25_000..29_000);
        let from = passed.iter().position(|(_, _, bytes)| *bytes > 0).expect("a keyframe passes");
        assert!(passed[from..].iter().all(|(_, _, bytes)| *bytes > 0));
    }

    #[test]
    fn a_moving_cap_is_no_way_around_and_none_ends_it() {
        let mut police = Police::new(Some(CAP));
        for second in 0..4 {
            police.set_cap(Some(Bitrate::kbps(500 + second)));
            film(&mut police, &mut [Camera::new(0, 1_000)], second * 1_000..(second + 1) * 1_000);
        }
        assert_eq!(police.poll_change(), Some(Stage::Holding));
        police.set_cap(None);
        assert_eq!(police.poll_change(), Some(Stage::Peace));
        let mut camera = [Camera::new(0, 5_000)];
        assert!(film(&mut police, &mut camera, 4_000..20_000).iter().all(|(_, _, bytes)| *bytes > 0));
    }

    #[test]
    fn audio_counts() {
        let mut police = Police::new(Some(CAP));
        let mut camera = Camera::new(0, 300);
        let mut passed = 0;
        for now in (0..30_000).step_by(40) {
            police.count(at(now), MediaKind::Audio, 4_000);
            let (bytes, _) = camera.shoot(now, &mut police);
            passed += if now >= 5_000 { bytes } else { 0 };
        }
        assert_eq!(police.poll_change(), Some(Stage::Muted), "and its video is not what is too much");
        assert!(passed < 10_000, "{passed}");
    }
}

//! What is given up now.

use std::cmp::Ordering;

use super::level::SaturationLevel;
use crate::config::TrackSource;
use crate::counters::{Mitigation, Turn};
use crate::units::Bitrate;

/// What a worker is to give up now: a state to hold, whole, however often it is told.
///
/// Audio and RTCP are not in it. They are never given up.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Measures {
    /// The share of their configured rates that publishers may send, the loudest rooms giving up theirs first; 1.0 when
    /// there is no cap.
    pub cap: f64,
    /// The highest temporal layer of streams that nobody has pinned is not forwarded.
    pub drop_temporal: bool,
    /// So many videos at most to each subscriber: pinned, screens and speakers first.
    pub last_n: Option<u32>,
    /// No video at all.
    pub audio_only: bool,
}

impl Default for Measures {
    fn default() -> Self {
        Measures::NONE
    }
}

impl Measures {
    /// Nothing is given up.
    pub const NONE: Measures = Measures { cap: 1.0, drop_temporal: false, last_n: None, audio_only: false };

    /// What the measures amount to; a guard is not told by them.
    pub fn level(&self) -> SaturationLevel {
        match self {
            Measures { audio_only: true, .. } => SaturationLevel::AudioOnly,
            Measures { last_n: Some(_), .. } => SaturationLevel::LastN,
            Measures { drop_temporal: true, .. } => SaturationLevel::Temporal,
            Measures { cap, .. } if *cap < 1.0 => SaturationLevel::Cap,
            _ => SaturationLevel::Normal,
        }
    }

    /// What there is more of, or less, than `before`. Rooms are no measure.
    pub fn steps_from(&self, before: &Measures) -> impl Iterator<Item = (Mitigation, Turn)> + use<> {
        let step = |mitigation, before: f64, now: f64| match before.total_cmp(&now) {
            Ordering::Less => Some((mitigation, Turn::Engage)),
            Ordering::Equal => None,
            Ordering::Greater => Some((mitigation, Turn::Release)),
        };
        let on = |on: bool| f64::from(u8::from(on));
        let few = |measures: &Measures| measures.last_n.map_or(0.0, |n| 1.0 / f64::from(n.max(1)));
        [
            step(Mitigation::Cap, -before.cap, -self.cap),
            step(Mitigation::SuspendLayer, on(before.suspend_top_layer()), on(self.suspend_top_layer())),
            step(Mitigation::DropTemporal, on(before.drop_temporal), on(self.drop_temporal)),
            step(Mitigation::LastN, few(before), few(self)),
            step(Mitigation::AudioOnly, on(before.audio_only), on(self.audio_only)),
        ]
        .into_iter()
        .flatten()
    }

    /// The largest layers of simulcast and SVC are not forwarded.
    pub fn suspend_top_layer(&self) -> bool {
        self.level() >= SaturationLevel::Cap
    }

    /// The share of what a subscriber receives that repairs may take on top.
    pub fn repairs(&self) -> f64 {
        if self.level() >= SaturationLevel::Temporal { FEW_REPAIRS } else { REPAIRS }
    }

    /// What a publisher of this configured rate may send.
    pub fn cap_of(&self, configured: Bitrate, source: TrackSource) -> Bitrate {
        let least = match source {
            TrackSource::Camera => LEAST_CAMERA,
            TrackSource::Screen => LEAST_SCREEN,
        };
        let share = Bitrate::bps((configured.as_bps() as f64 * self.cap).round() as u64);
        share.max(least.min(configured))
    }

    /// At least what this level means, whatever is measured. `most_forwarded` videos go to one subscriber at most.
    pub fn at_least(mut self, floor: SaturationLevel, most_forwarded: u32) -> Measures {
        if floor >= SaturationLevel::Cap {
            self.cap = self.cap.min(CAP_STEP);
        }
        if floor >= SaturationLevel::Temporal {
            self.cap = self.cap.min(CAP_FLOOR);
            self.drop_temporal = true;
        }
        if floor >= SaturationLevel::LastN {
            self.last_n = self.last_n.or(Some(fewer(most_forwarded)));
        }
        self.audio_only |= floor >= SaturationLevel::AudioOnly;
        self
    }
}

/// Each cap is this share of the one before.
pub(super) const CAP_STEP: f64 = 0.75;
/// Below a third of its rate a picture is of no use; other measures follow.
pub const CAP_FLOOR: f64 = 0.35;

/// Fewer videos by a quarter, one at least.
pub(super) fn fewer(videos: u32) -> u32 {
    (videos.saturating_mul(3) / 4).max(1)
}

const REPAIRS: f64 = 0.15;
const FEW_REPAIRS: f64 = 0.05;
/// A face of 180 lines.
const LEAST_CAMERA: Bitrate = Bitrate::kbps(150);
/// Letters one can read.
const LEAST_SCREEN: Bitrate = Bitrate::kbps(300);

#[test]
fn a_cap_leaves_a_picture() {
    let measures = Measures { cap: CAP_FLOOR, ..Measures::NONE };
    assert_eq!(measures.cap_of(Bitrate::kbps(2_000), TrackSource::Camera), Bitrate::kbps(700));
    assert_eq!(measures.cap_of(Bitrate::kbps(300), TrackSource::Camera), Bitrate::kbps(150));
    assert_eq!(measures.cap_of(Bitrate::kbps(600), TrackSource::Screen), Bitrate::kbps(300));
    let less = Bitrate::kbps(100);
    assert_eq!(measures.cap_of(less, TrackSource::Screen), less, "never more than is configured");
}

#[test]
fn a_floor_means_what_its_level_means() {
    for floor in SaturationLevel::ALL.into_iter().filter(|floor| *floor != SaturationLevel::Guard) {
        let measures = Measures::NONE.at_least(floor, 9);
        assert_eq!(measures.level(), floor);
        assert_eq!(measures.at_least(floor, 9), measures, "twice is once");
    }
    let floor = Measures::NONE.at_least(SaturationLevel::LastN, 9);
    assert_eq!((floor.cap, floor.drop_temporal, floor.last_n), (CAP_FLOOR, true, Some(6)));
    let few = Measures { last_n: Some(2), ..floor };
    assert_eq!(few.at_least(SaturationLevel::LastN, 9).last_n, Some(2), "a floor gives nothing back");
    assert_eq!(Measures::NONE.at_least(SaturationLevel::Guard, 9), Measures::NONE);
}

#[test]
fn repairs_are_cut_and_top_layers_go_with_their_levels() {
    let at = |floor| Measures::NONE.at_least(floor, 4);
    assert!(!at(SaturationLevel::Guard).suspend_top_layer() && at(SaturationLevel::Cap).suspend_top_layer());
    assert_eq!(at(SaturationLevel::Cap).repairs(), 0.15);
    assert_eq!(at(SaturationLevel::Temporal).repairs(), 0.05);
}

#[test]
fn the_last_video_stays() {
    let steps = std::iter::successors(Some(10), |n| Some(fewer(*n)).filter(|next| next < n));
    assert_eq!(steps.collect::<Vec<u32>>(), [10, 7, 5, 3, 2, 1]);
    assert_eq!(fewer(0), 1);
}

#[test]
fn each_step_is_told_once_and_by_its_name() {
    use Mitigation::*;
    let capped = Measures { cap: 0.75, ..Measures::NONE };
    let further = Measures { cap: 0.5625, drop_temporal: true, last_n: Some(3), ..Measures::NONE };
    let steps = |now: &Measures, before: &Measures| now.steps_from(before).collect::<Vec<_>>();
    assert_eq!(steps(&capped, &Measures::NONE), [(Cap, Turn::Engage), (SuspendLayer, Turn::Engage)]);
    let all = [(Cap, Turn::Engage), (DropTemporal, Turn::Engage), (LastN, Turn::Engage)];
    assert_eq!(steps(&further, &capped), all);
    let fewer = Measures { last_n: Some(2), ..further };
    assert_eq!(steps(&fewer, &further), [(LastN, Turn::Engage)]);
    assert_eq!(steps(&further, &fewer), [(LastN, Turn::Release)]);
    assert_eq!(steps(&further, &further), []);
    assert_eq!(steps(&Measures::NONE, &capped), [(Cap, Turn::Release), (SuspendLayer, Turn::Release)]);
}

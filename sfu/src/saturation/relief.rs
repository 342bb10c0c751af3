//! What it would cost to take a measure back.

use super::measures::Measures;

/// What flows through a worker, and what measures keep from flowing, in bits per second towards subscribers.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub struct Flow {
    /// Everything that is forwarded: what the load is measured from.
    pub forwarded: f64,
    /// The video in it.
    pub video: f64,
    /// What the temporal measure holds back; `None` where nobody can tell.
    pub temporal: Option<f64>,
    /// What last-N holds back altogether.
    pub last_n: Option<f64>,
    /// What audio-only holds back.
    pub audio_only: Option<f64>,
    /// The most videos that one subscriber would get.
    pub most_forwarded: u32,
}

/// How much the pressure would rise if a measure were undone by one step.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub struct Undo {
    /// Caps raised by one step.
    pub cap: f64,
    /// All temporal layers.
    pub temporal: f64,
    /// More videos for everybody.
    pub last_n: f64,
    /// Videos again, as many as last-N leaves.
    pub audio_only: f64,
}

/// Caps come back by so much a step. More comes back sooner and flaps more.
pub(super) const CAP_RELEASE: f64 = 1.15;

impl Flow {
    /// The cost of a bit is what the load is now per bit that is forwarded now.
    pub fn undo(&self, load: f64, measures: &Measures) -> Undo {
        let cost = if self.forwarded > 0.0 { load / self.forwarded } else { 0.0 };
        let cap = self.video * (CAP_RELEASE.min(1.0 / measures.cap) - 1.0);
        let temporal = self.temporal.unwrap_or(self.video * (1.0 / TEMPORAL_SHARE - 1.0));
        let last_n = measures.last_n.map_or(0.0, |n| {
            let to = f64::from(more(n).min(self.most_forwarded.max(n)));
            let step = to / f64::from(n.max(1)) - 1.0;
            // Of what is held back altogether, one step's share; it is no more than the picture that flows suggests.
            self.last_n.map_or(self.video * step, |held| held.min(self.video * step))
        });
        let audio_only = self.audio_only.unwrap_or(0.0);
        Undo {
            cap: cap * cost,
            temporal: temporal * cost,
            last_n: last_n * cost,
            audio_only: audio_only * cost,
        }
    }
}

/// More videos by a third, one at least.
pub(super) fn more(videos: u32) -> u32 {
    videos.saturating_add((videos / 3).max(1))
}

/// Of the bits of a stream in two temporal layers or three, what is left without the highest.
const TEMPORAL_SHARE: f64 = 0.6;

#[cfg(test)]
mod tests {
    use super::*;

    const FLOW: Flow = Flow {
        forwarded: 10e6,
        video: 9e6,
        temporal: None,
        last_n: None,
        audio_only: None,
        most_forwarded: 9,
    };

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn what_is_held_back_costs_what_flows_costs() {
        let measures = Measures { cap: 0.5, drop_temporal: true, ..Measures::NONE };
        let undo = FLOW.undo(0.5, &measures);
        assert!(near(undo.cap, 0.5 * 0.9 * 0.15), "{undo:?}");
        assert!(near(undo.temporal, 0.5 * 0.9 * (1.0 / 0.6 - 1.0)), "{undo:?}");
        let told = Flow { temporal: Some(2e6), ..FLOW };
        assert!(near(told.undo(0.5, &measures).temporal, 0.1), "what is measured counts");
    }

    #[test]
    fn the_last_step_of_a_cap_is_smaller() {
        let measures = Measures { cap: 0.95, ..Measures::NONE };
        assert!(near(FLOW.undo(0.5, &measures).cap, 0.5 * 0.9 * (1.0 / 0.95 - 1.0)));
    }

    #[test]
    fn one_video_more_for_everybody_is_not_all_of_them() {
        let measures = Measures { last_n: Some(3), ..Measures::NONE };
        assert!(near(FLOW.undo(0.5, &measures).last_n, 0.5 * 0.9 / 3.0));
        let nearly = Measures { last_n: Some(9), ..Measures::NONE };
        assert!(near(FLOW.undo(0.5, &nearly).last_n, 0.0), "everybody has them all");
    }

    #[test]
    fn nothing_flows_and_nothing_can_be_told() {
        let idle = Flow::default();
        assert_eq!(idle.undo(0.5, &Measures { last_n: Some(1), ..Measures::NONE }), Undo::default());
    }
}

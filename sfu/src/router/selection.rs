//! Which packets of a track one subscriber gets: one layer at a time, and of that as much as it wants.

use crate::config::LayerLimit;
use crate::drop::FilterReason;
use crate::ids::MediaKind;
use crate::media::picture::{Picture, StepUp};

/// One subscriber's choice of layers.
///
/// A switch to another stream waits for a keyframe of that stream, and the old one goes on until then; whoever
/// has nothing yet takes the first keyframe that comes. Within a stream, steps down happen at the next frame
/// and steps up where the codec says that they can.
#[derive(Clone, Debug)]
pub struct Selection {
    /// The layer that is being forwarded; `None` until a keyframe starts.
    current: Option<u8>,
    /// The one it should be.
    target: u8,
    /// Those that will do while there is none, as bits.
    acceptable: u8,
    /// What passes within the stream, and what should.
    passes: LayerLimit,
    wanted: LayerLimit,
    /// What passed before it changed, unless that has been told.
    passed: Option<LayerLimit>,
    /// Nothing goes out, whatever comes.
    left_out: Option<FilterReason>,
}

/// What becomes of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It goes out.
    Forward,
    /// It goes out, and is the first of its layer to do so.
    Start,
    /// Another layer, or none, is on: the packet has no place in the subscriber's stream.
    Elsewhere(FilterReason),
    /// It belongs to what goes out, but is left out: the numbers close up.
    LeftOut(FilterReason),
}

impl Selection {
    pub fn new(kind: MediaKind) -> Selection {
        Selection {
            // Every audio packet can be decoded by itself.
            current: (kind == MediaKind::Audio).then_some(0),
            target: 0,
            acceptable: u8::MAX,
            passes: LayerLimit::NONE,
            wanted: LayerLimit::NONE,
            passed: None,
            left_out: None,
        }
    }

    /// The layer that is being forwarded.
    pub fn current(&self) -> Option<u8> {
        self.current
    }

    /// The layer whose keyframe it waits for, or that it has.
    pub fn target(&self) -> u8 {
        self.target
    }

    /// What passes within the layer.
    pub fn passes(&self) -> LayerLimit {
        self.passes
    }

    /// What should pass within the layer.
    pub fn wanted(&self) -> LayerLimit {
        self.wanted
    }

    /// What passed before, once, if it has changed within the layer since the last call.
    pub fn take_passed(&mut self) -> Option<LayerLimit> {
        self.passed.take().filter(|passed| *passed != self.passes)
    }

    /// Aims at another layer, and within it at `wanted`; its `highest` spatial layer says what there is to want.
    /// Returns whether a keyframe of it is needed.
    pub fn aim(&mut self, target: u8, acceptable: u8, wanted: LayerLimit, highest: u8) -> bool {
        let changed = self.target != target;
        (self.target, self.acceptable) = (target, acceptable | bit(target));
        // A spatial layer more needs a picture that refers to nothing before.
        let news = wanted.spatial > self.wanted.spatial && self.passes.spatial < highest;
        let larger = news && self.current.is_some();
        self.wanted = wanted;
        (changed && self.current != Some(target)) || larger
    }

    /// Holds everything back until a keyframe: packets were lost on the way out, or the stream began anew.
    pub fn wait(&mut self, kind: MediaKind) {
        if kind == MediaKind::Video {
            self.current = None;
        }
    }

    /// Leaves everything out, or ceases to. Returns whether it waits for a keyframe again.
    pub fn leave_out(&mut self, reason: Option<FilterReason>) -> bool {
        let before = std::mem::replace(&mut self.left_out, reason);
        if reason.is_some() {
            self.current = None;
        }
        before.is_some() && reason.is_none()
    }

    /// Whether everything is left out.
    pub fn is_left_out(&self) -> bool {
        self.left_out.is_some()
    }

    /// The stream of `layer` began anew.
    pub fn restart(&mut self, kind: MediaKind, layer: u8) {
        if self.current == Some(layer) {
            self.wait(kind);
        }
    }

    /// Decides about a packet of `layer`.
    pub fn judge(&mut self, layer: u8, picture: &Picture) -> Verdict {
        if let Some(reason) = self.left_out {
            return Verdict::Elsewhere(reason);
        }
        if self.current != Some(layer) {
            let will_do = match self.current {
                None => self.acceptable & bit(layer) != 0,
                Some(_) => layer == self.target,
            };
            if !(picture.keyframe && will_do) {
                let waits = self.current.is_none();
                let reason = if waits { FilterReason::Paused } else { FilterReason::Spatial };
                return Verdict::Elsewhere(reason);
            }
            self.current = Some(layer);
            self.passes = self.wanted;
            self.passed = None;
            return Verdict::Start;
        }
        if picture.keyframe || picture.starts_frame {
            let before = self.passes;
            match picture.keyframe {
                true => self.passes = self.wanted,
                false => self.step(picture),
            }
            if self.passes != before {
                self.passed.get_or_insert(before);
            }
        }
        if picture.spatial > self.passes.spatial {
            Verdict::LeftOut(FilterReason::Spatial)
        } else if picture.temporal > self.passes.temporal {
            Verdict::LeftOut(FilterReason::Temporal)
        } else {
            Verdict::Forward
        }
    }

    /// Moves what passes towards what is wanted, as far as a frame that starts allows.
    fn step(&mut self, picture: &Picture) {
        let (passes, wanted) = (&mut self.passes, self.wanted);
        if picture.spatial == 0 {
            passes.spatial = passes.spatial.min(wanted.spatial);
        }
        passes.temporal = passes.temporal.min(wanted.temporal);
        let up = passes.spatial < picture.spatial && picture.spatial <= wanted.spatial;
        if up && picture.refreshing && picture.spatial == passes.spatial.saturating_add(1) {
            passes.spatial = picture.spatial;
        }
        let reached = match picture.step_up {
            StepUp::None => return,
            StepUp::Itself if picture.temporal == passes.temporal.saturating_add(1) => picture.temporal,
            StepUp::UpTo(fastest) if picture.temporal <= passes.temporal => fastest,
            StepUp::Itself | StepUp::UpTo(_) => return,
        };
        passes.temporal = passes.temporal.max(reached.min(wanted.temporal));
    }
}

fn bit(layer: u8) -> u8 {
    1_u8.checked_shl(layer.into()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Picture = Picture { keyframe: true, starts_frame: true, ..Picture::OPAQUE };
    const DELTA: Picture = Picture { starts_frame: true, ..Picture::OPAQUE };

    fn selection() -> Selection {
        Selection::new(MediaKind::Video)
    }

    #[test]
    fn the_first_keyframe_will_do_and_the_right_one_takes_over() {
        let mut selection = selection();
        selection.aim(2, 0b111, LayerLimit::NONE, 2);
        assert_eq!(selection.judge(0, &DELTA), Verdict::Elsewhere(FilterReason::Paused));
        assert_eq!(selection.judge(0, &KEY), Verdict::Start);
        assert_eq!(selection.judge(1, &KEY), Verdict::Elsewhere(FilterReason::Spatial));
        assert_eq!(selection.judge(0, &DELTA), Verdict::Forward, "the old layer goes on …");
        assert_eq!(selection.judge(2, &DELTA), Verdict::Elsewhere(FilterReason::Spatial));
        assert_eq!(selection.judge(2, &KEY), Verdict::Start, "… until the new one can be decoded");
        assert_eq!(selection.judge(0, &DELTA), Verdict::Elsewhere(FilterReason::Spatial));
        assert_eq!(selection.judge(2, &DELTA), Verdict::Forward);
    }

    #[test]
    fn what_is_too_large_is_not_taken_even_by_who_has_nothing() {
        let mut selection = selection();
        selection.aim(0, 0b001, LayerLimit::NONE, 2);
        assert_eq!(selection.judge(2, &KEY), Verdict::Elsewhere(FilterReason::Paused));
        assert_eq!(selection.judge(0, &KEY), Verdict::Start);
    }

    #[test]
    fn audio_never_waits() {
        let mut selection = Selection::new(MediaKind::Audio);
        assert_eq!(selection.judge(0, &Picture::OPAQUE), Verdict::Forward);
        selection.wait(MediaKind::Audio);
        assert_eq!(selection.judge(0, &Picture::OPAQUE), Verdict::Forward);
    }

    #[test]
    fn temporal_layers_go_at_once_and_come_back_where_the_codec_allows() {
        let mut selection = selection();
        selection.judge(0, &KEY);
        let fast = Picture { temporal: 1, ..DELTA };
        assert_eq!(selection.judge(0, &fast), Verdict::Forward);
        selection.aim(0, 1, LayerLimit { temporal: 0, ..LayerLimit::NONE }, 2);
        let rest = Picture { starts_frame: false, ..fast };
        assert_eq!(selection.judge(0, &rest), Verdict::Forward, "a frame is not cut");
        assert_eq!(selection.judge(0, &fast), Verdict::LeftOut(FilterReason::Temporal));
        assert_eq!(selection.judge(0, &DELTA), Verdict::Forward);
        assert!(!selection.aim(0, 1, LayerLimit::NONE, 2), "that needs no keyframe");
        assert_eq!(selection.judge(0, &fast), Verdict::LeftOut(FilterReason::Temporal));
        let sync = Picture { step_up: StepUp::Itself, ..fast };
        assert_eq!(selection.judge(0, &sync), Verdict::Forward);
        assert_eq!(selection.judge(0, &fast), Verdict::Forward);
    }

    #[test]
    fn a_slow_frame_may_open_the_way_to_faster_ones() {
        let mut selection = selection();
        selection.judge(0, &KEY);
        selection.aim(0, 1, LayerLimit { temporal: 0, ..LayerLimit::NONE }, 2);
        let fast = Picture { temporal: 2, ..DELTA };
        selection.judge(0, &DELTA);
        selection.aim(0, 1, LayerLimit { temporal: 2, ..LayerLimit::NONE }, 2);
        let unseen = Picture { step_up: StepUp::UpTo(2), ..Picture { temporal: 1, ..DELTA } };
        assert_eq!(
            selection.judge(0, &unseen),
            Verdict::LeftOut(FilterReason::Temporal),
            "it says so to others"
        );
        let open = Picture { step_up: StepUp::UpTo(2), ..DELTA };
        assert_eq!(selection.judge(0, &open), Verdict::Forward);
        assert_eq!(selection.judge(0, &fast), Verdict::Forward);
    }

    #[test]
    fn spatial_layers_of_one_stream_change_at_whole_pictures() {
        let mut selection = selection();
        selection.judge(0, &KEY);
        let large = Picture { spatial: 1, ..DELTA };
        selection.aim(0, 1, LayerLimit { spatial: 0, ..LayerLimit::NONE }, 2);
        assert_eq!(selection.judge(0, &large), Verdict::Forward, "the picture that had begun");
        assert_eq!(selection.judge(0, &DELTA), Verdict::Forward);
        assert_eq!(selection.judge(0, &large), Verdict::LeftOut(FilterReason::Spatial));
        assert!(selection.aim(0, 1, LayerLimit::NONE, 2), "up needs a keyframe");
        assert_eq!(selection.judge(0, &large), Verdict::LeftOut(FilterReason::Spatial));
        assert_eq!(selection.judge(0, &KEY), Verdict::Forward);
        assert_eq!(selection.judge(0, &large), Verdict::Forward);
    }
}

//! The caps on what one peer receives.

use std::time::{Duration, Instant};

use super::cap::Caps;
use crate::event::CapScope;
use crate::ids::{MediaKind, Mid};
use crate::media::history::PacketMeta;
use crate::media::police::{Part, Police, Verdict};
use crate::units::Bitrate;

/// Smaller layers first; where the smallest of everything is still too much, whole pictures are left out.
#[derive(Debug, Default)]
pub struct Downlink {
    caps: Caps,
    police: Option<Box<Police>>,
    shared_at: Option<Instant>,
}

impl Downlink {
    /// Changes one of the caps; `None` lifts it. Returns whether another rate is in force than before.
    pub fn set(&mut self, scope: CapScope, cap: Option<Bitrate>) -> bool {
        let before = self.cap();
        self.caps.set(scope, cap);
        let cap = self.cap();
        match (&mut self.police, cap) {
            (Some(police), Some(_)) => police.set_cap(cap),
            (none, Some(_)) => *none = Some(Box::new(Police::new(cap))),
            // What was left out waits for its keyframe no longer than the router does.
            (some, None) => *some = None,
        }
        self.shared_at = None;
        cap != before
    }

    /// The least of them.
    pub fn cap(&self) -> Option<Bitrate> {
        self.caps.least().map(|cap| cap.bitrate)
    }

    pub fn caps(&self) -> &Caps {
        &self.caps
    }

    /// Whether what the peer watches is to be fitted under the cap now: what layers weigh changes all the time.
    pub fn poll_share(&mut self, now: Instant) -> bool {
        let due = self.shared_at.is_none_or(|at| now.saturating_duration_since(at) >= SHARING);
        let due = due && self.cap().is_some();
        if due {
            self.shared_at = Some(now);
        }
        due
    }

    /// Whether a packet that is to go to slot `mid` may.
    pub fn judge(
        &mut self,
        now: Instant,
        mid: Mid,
        kind: MediaKind,
        meta: &PacketMeta,
        bytes: usize,
    ) -> Verdict {
        let Some(police) = &mut self.police else { return Verdict::Pass };
        police.count(now, kind, bytes);
        if kind == MediaKind::Audio {
            return Verdict::Pass;
        }
        let (timestamp, keyframe) = (meta.timestamp, meta.picture.keyframe);
        // What layer it is of has been chosen: there is nothing else to choose from.
        let part =
            Part { section: mid, layer: 0, timestamp, keyframe, temporal: meta.picture.temporal, bytes };
        police.judge(now, &part)
    }

    /// A slot that can go on only with a keyframe, and may.
    pub fn wants_keyframe(&mut self, now: Instant) -> Option<Mid> {
        self.police.as_mut()?.wants_keyframe(now).map(|(mid, _)| mid)
    }
}

const SHARING: Duration = Duration::from_millis(500);

//! What is given up because the machine is short of something. Never audio.

use std::time::Instant;

use super::caps::is_alike;
use super::{Engine, Serving};
use crate::drop::FilterReason;
use crate::event::{CapCause, CapScope, PeerEvent};
use crate::ids::{MediaKind, PeerKey, TrackKey};
use crate::router::track::Cut;
use crate::saturation::level::SaturationLevel;
use crate::saturation::measures::{Measures, Source};

impl Engine {
    /// From now on these measures hold, for whoever is here and whoever comes. To be told again changes nothing.
    pub fn hold(&mut self, now: Instant, measures: Measures) {
        let before = std::mem::replace(&mut self.measures, measures);
        if before == measures {
            return;
        }
        self.take_measures(now);
        if before.level() >= SaturationLevel::Temporal && !self.refuses_video() {
            // Whose video was refused may publish it now.
            for key in self.sessions.keys().collect::<Vec<_>>() {
                self.serving = Serving::Peer(key);
                let room = self.sessions[key].room;
                if self.sync_media(now, key) {
                    self.resubscribe(now, room);
                    self.reschedule(key);
                }
            }
            self.serving = Serving::Nobody;
        }
        self.schedule_sharing(now);
    }

    /// Brings everybody in line with the measures: those who came, published or subscribed since, too.
    pub(super) fn take_measures(&mut self, now: Instant) {
        self.share_relief(now);
        for room in self.rooms.keys().collect::<Vec<_>>() {
            self.serving = Serving::Room(room);
            let top = self.measures.suspend_top_layer() && self.rooms[room].kept < 1.0;
            let cut = Cut { top, fastest: self.measures.drop_temporal };
            let tracks: Vec<TrackKey> = self.rooms[room].router.tracks.keys().collect();
            for track in tracks {
                self.rooms[room].router.tracks[track].cut(cut);
                self.review(now, room, track);
            }
        }
        for key in self.sessions.keys().collect::<Vec<_>>() {
            self.serving = Serving::Peer(key);
            self.cap_by_load(now, key);
            self.leave_out(now, key);
            self.sessions[key].reception.set_repair_share(self.measures.repairs());
        }
        self.serving = Serving::Nobody;
    }

    /// Whether newcomers may publish no video.
    pub(super) fn refuses_video(&self) -> bool {
        self.measures.level() >= SaturationLevel::Temporal
    }

    /// Of what a subscriber would get, only so many videos go out: those of its first slots.
    pub(super) fn leave_out(&mut self, now: Instant, key: PeerKey) {
        let most = match self.measures {
            Measures { audio_only: true, .. } => 0,
            Measures { last_n: Some(n), .. } => n as usize,
            _ => usize::MAX,
        };
        let session = &self.sessions[key];
        let room = session.room;
        let slots = session.slots.iter().enumerate();
        let videos = slots.filter(|(_, slot)| slot.live && slot.kind == MediaKind::Video);
        let videos: Vec<(usize, TrackKey)> =
            videos.filter_map(|(index, slot)| Some((index, slot.source()?.track))).collect();
        for (at, (index, track)) in videos.into_iter().enumerate() {
            let Some(track) = self.rooms[room].router.tracks.get_mut(track) else { continue };
            let reason = (at >= most).then_some(FilterReason::LastN);
            if track.leave_out(key, index as u16, reason) {
                self.want_target(now, key, index);
            }
        }
    }

    fn cap_by_load(&mut self, now: Instant, key: PeerKey) {
        let whole = self.whole_of(now, key);
        let session = &mut self.sessions[key];
        let kept = self.rooms[session.room].kept;
        let whole = whole.filter(|_| kept < 1.0);
        // What it sends from now on says nothing of what it would.
        session.uncapped = whole.map(|whole| session.uncapped.unwrap_or(whole));
        let share = whole.map(|whole| Measures { cap: kept, ..self.measures }.cap_of(whole, Source::Camera));
        let before = session.cap.caps().get(CapScope::Saturation);
        if !is_alike(before, share) && self.cap_publisher(now, key, CapScope::Saturation, share) {
            let cap = self.sessions[key].cap.get();
            self.emit(key, PeerEvent::CapChanged { cap, cause: CapCause::Saturation });
        }
    }
}

//! What is given up because the machine is short of something. Never audio.
//!
//! Which videos are left out, whoever wants that, is `lastn`'s.

use std::time::Instant;

use super::caps::is_alike;
use super::{Engine, Serving};
use crate::event::{CapCause, CapScope, PeerEvent};
use crate::ids::{PeerKey, TrackKey};
use crate::router::track::Cut;
use crate::saturation::level::SaturationLevel;
use crate::saturation::measures::Measures;

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
        let pinned = self.pinned();
        for room in self.rooms.keys().collect::<Vec<_>>() {
            self.serving = Serving::Room(room);
            let top = self.measures.suspend_top_layer() && self.rooms[room].kept < 1.0;
            let tracks: Vec<TrackKey> = self.rooms[room].router.tracks.keys().collect();
            for track in tracks {
                let fastest = self.measures.drop_temporal && !pinned.contains(&(room, track));
                self.rooms[room].router.tracks[track].cut(Cut { top, fastest });
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

    fn cap_by_load(&mut self, now: Instant, key: PeerKey) {
        let (whole, source) = (self.whole_of(now, key), self.shows(key));
        let session = &mut self.sessions[key];
        let kept = self.rooms[session.room].kept;
        let whole = whole.filter(|_| kept < 1.0);
        // What it sends from now on says nothing of what it would.
        session.uncapped = whole.map(|whole| session.uncapped.unwrap_or(whole));
        let share = whole.map(|whole| Measures { cap: kept, ..self.measures }.cap_of(whole, source));
        let before = session.cap.caps().get(CapScope::Saturation);
        if !is_alike(before, share) && self.cap_publisher(now, key, CapScope::Saturation, share) {
            let cap = self.sessions[key].cap.get();
            self.emit(key, PeerEvent::CapChanged { cap, cause: CapCause::Saturation });
        }
    }
}

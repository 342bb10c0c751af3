//! What is given up because the machine is short of something. Never audio.
//!
//! Which videos are left out, whoever wants that, is `lastn`'s.

use std::time::Instant;

use super::{Engine, Serving};
use crate::event::{CapCause, CapScope, PeerEvent};
use crate::ids::{MediaKind, PeerKey, TrackKey};
use crate::router::track::Cut;
use crate::saturation::level::SaturationLevel;
use crate::saturation::measures::Measures;
use crate::units::Bitrate;

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
        let cut = Cut { top: self.measures.suspend_top_layer(), fastest: self.measures.drop_temporal };
        let pinned = self.pinned();
        for room in self.rooms.keys().collect::<Vec<_>>() {
            self.serving = Serving::Room(room);
            let tracks: Vec<TrackKey> = self.rooms[room].router.tracks.keys().collect();
            for track in tracks {
                let fastest = cut.fastest && !pinned.contains(&(room, track));
                self.rooms[room].router.tracks[track].cut(Cut { fastest, ..cut });
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
        let capped = self.measures.cap < 1.0;
        let source = self.shows(key);
        let session = &mut self.sessions[key];
        let publishes = session.uplinks.iter().any(|uplink| uplink.kind == MediaKind::Video);
        if !capped || !publishes {
            session.uncapped = None;
        }
        let share = (capped && publishes).then(|| {
            let other = session.cap.caps().iter().filter(|cap| cap.scope != CapScope::Saturation);
            let configured = other.map(|cap| cap.bitrate).min();
            // Without a configured rate: what it sent when it was first held to less.
            let sent = session.uplinks.police.offered(now).max(LEAST_SENT);
            let whole = configured.unwrap_or_else(|| *session.uncapped.get_or_insert(sent));
            self.measures.cap_of(whole, source)
        });
        if self.cap_publisher(now, key, CapScope::Saturation, share) {
            let cap = self.sessions[key].cap.get();
            self.emit(key, PeerEvent::CapChanged { cap, cause: CapCause::Saturation });
        }
    }
}

/// Who has just begun has shown nothing yet.
const LEAST_SENT: Bitrate = Bitrate::kbps(600);

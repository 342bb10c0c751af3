//! Which videos a subscriber gets where it is not to get all: pinned, screens, then who spoke last.

use std::collections::BTreeSet;
use std::time::Instant;

use super::Engine;
use super::crossing::Crossing;
use crate::config::TrackSource;
use crate::drop::FilterReason;
use crate::ids::{MediaKind, Mid, PeerId, PeerKey, RoomKey, TrackKey, TrackName};
use crate::saturation::measures::Measures;

impl Engine {
    /// So many videos at most to each subscriber of a room, now and later.
    pub fn set_room_last_n(&mut self, now: Instant, room: &str, last_n: Option<u32>) {
        self.room_settings.entry(room.to_owned()).or_default().last_n = last_n;
        self.apply_settings(now, room);
    }

    /// What was chosen for a room is not any more.
    pub fn forget_settings(&mut self, now: Instant, room: &str) {
        self.room_settings.remove(room);
        self.apply_settings(now, room);
    }

    /// A room does as its host has chosen.
    pub(super) fn apply_settings(&mut self, now: Instant, name: &str) {
        let settings = self.room_settings.get(name).copied().unwrap_or_default();
        let Some(key) = self.room_names.get(name).copied() else { return };
        let room = &mut self.rooms[key];
        room.router.speech.set_audible(now, settings.audible);
        let before = std::mem::replace(&mut room.last_n, settings.last_n);
        if before != settings.last_n {
            self.leave_out_in(now, key);
        }
    }

    /// So many videos at most to one subscriber. False: it is gone.
    pub fn set_last_n(&mut self, now: Instant, peer: PeerId, last_n: Option<u32>) -> bool {
        let Some(key) = self.live(peer) else { return false };
        self.serve(key, |engine| {
            engine.sessions[key].last_n = last_n;
            engine.leave_out(now, key);
        });
        true
    }

    /// What the peer gets on its m-line `mid` comes before all else, or no longer. False: it has no such m-line, or gets no
    /// video on it.
    pub fn pin(&mut self, now: Instant, peer: PeerId, mid: &str, pinned: bool) -> bool {
        let Some(key) = self.live(peer) else { return false };
        let slot = Mid::new(mid).and_then(|mid| self.sessions[key].slot_index(mid));
        let slot = slot.map(|slot| &mut self.sessions[key].slots[slot]);
        let Some(slot) = slot.filter(|slot| slot.kind == MediaKind::Video && slot.source().is_some()) else {
            return false;
        };
        slot.pinned = pinned;
        self.serve(key, |engine| engine.leave_out(now, key));
        true
    }

    /// What the video that the peer publishes on `mid` shows. False: there is none.
    pub fn set_source(&mut self, now: Instant, peer: PeerId, mid: &str, source: TrackSource) -> bool {
        let Some(key) = self.live(peer) else { return false };
        let uplink = Mid::new(mid).and_then(|mid| self.sessions[key].uplinks.get(mid));
        let Some(mid) = uplink.filter(|uplink| uplink.kind == MediaKind::Video).map(|uplink| uplink.mid)
        else {
            return false;
        };
        let track = TrackName { publisher: peer, mid };
        let room = self.sessions[key].room;
        self.serve(key, |engine| engine.show(now, track, source));
        self.cross_all(room, &Crossing::Shows { track, source });
        true
    }

    pub(super) fn show(&mut self, now: Instant, track: TrackName, source: TrackSource) {
        let Some((room, key)) = self.place_of(track) else { return };
        if let Some(track) = self.rooms[room].router.tracks.get_mut(key) {
            track.source = source;
            self.leave_out_in(now, room);
        }
    }

    /// Whether a subscriber may not get all videos.
    pub(super) fn limits_videos(&self, key: PeerKey) -> bool {
        let session = &self.sessions[key];
        let chosen = session.last_n.is_some() || self.rooms[session.room].last_n.is_some();
        chosen || self.measures != Measures::NONE
    }

    fn leave_out_in(&mut self, now: Instant, room: RoomKey) {
        for peer in self.rooms[room].router.peers.clone() {
            self.leave_out(now, peer);
        }
    }

    /// Of what a subscriber would get, only so many videos go out. What goes out again starts from the ring, or with a
    /// keyframe that is asked for at once.
    pub(super) fn leave_out(&mut self, now: Instant, key: PeerKey) {
        let most = self.most_videos(key);
        let mut changed = false;
        for (at, (index, track)) in self.videos_by_rank(key, most).into_iter().enumerate() {
            let session = &mut self.sessions[key];
            let left_out = at >= most;
            if std::mem::replace(&mut session.slots[index].left_out, left_out) == left_out {
                continue;
            }
            changed = true;
            let Some(track) = self.rooms[session.room].router.tracks.get_mut(track) else { continue };
            let reason = left_out.then_some(FilterReason::LastN);
            if track.leave_out(key, index as u16, reason) && !self.serve_head(now, key, index) {
                self.want_target(now, key, index);
            }
        }
        let session = &mut self.sessions[key];
        let shares = session.reception.throttle.budget().is_some() || session.downlink.is_some();
        if changed && shares {
            // There are more to share with, or fewer.
            session.reception.throttle.reconsider();
            self.share_downlink(now, key);
        }
    }

    fn most_videos(&self, key: PeerKey) -> usize {
        let session = &self.sessions[key];
        let by_load = match self.measures {
            Measures { audio_only: true, .. } => Some(0),
            measures => measures.last_n,
        };
        let limits = [by_load, session.last_n, self.rooms[session.room].last_n];
        limits.into_iter().flatten().min().map_or(usize::MAX, |most| most as usize)
    }

    /// A subscriber's videos, those first that it should rather have; in the order of their slots where that is all the
    /// same.
    fn videos_by_rank(&self, key: PeerKey, most: usize) -> Vec<(usize, TrackKey)> {
        let session = &self.sessions[key];
        let router = &self.rooms[session.room].router;
        let slots = session.slots.iter().enumerate();
        let slots = slots.filter(|(_, slot)| slot.live && slot.kind == MediaKind::Video);
        let mut videos: Vec<_> = slots
            .filter_map(|(index, slot)| {
                let source = slot.source()?;
                let screen = router.tracks.get(source.track)?.source == TrackSource::Screen;
                Some((!slot.pinned, !screen, router.speech.rank(source.publisher), index, source.track))
            })
            .collect();
        if videos.len() > most {
            videos.sort_unstable_by_key(|(pinned, screen, rank, index, _)| (*pinned, *screen, *rank, *index));
        }
        videos.into_iter().map(|(.., index, track)| (index, track)).collect()
    }

    /// Tracks that somebody has pinned.
    pub(super) fn pinned(&self) -> BTreeSet<(RoomKey, TrackKey)> {
        let pinned = self.sessions.values().flat_map(|session| {
            let slots = session.slots.iter().filter(|slot| slot.pinned);
            slots.filter_map(|slot| Some((session.room, slot.source()?.track)))
        });
        pinned.collect()
    }

    /// What a peer publishes: a screen, if there is one among it.
    pub(super) fn shows(&self, key: PeerKey) -> TrackSource {
        let session = &self.sessions[key];
        let tracks = &self.rooms[session.room].router.tracks;
        let mut published = session.uplinks.iter().filter_map(|uplink| tracks.get(uplink.track));
        match published.any(|track| track.source == TrackSource::Screen) {
            true => TrackSource::Screen,
            false => TrackSource::Camera,
        }
    }
}

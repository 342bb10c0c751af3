//! Who speaks: whose voice goes out, who has the floor, and who is told.

use std::time::{Duration, Instant};

use super::crossing::Crossing;
use super::timers::Due;
use super::{Engine, Room, flush};
use crate::config::Audible;
use crate::counters::DropKind;
use crate::drop::{DropReason, FilterReason};
use crate::event::PeerEvent;
use crate::ids::{MediaKind, PeerId, PeerKey, RoomKey, TrackKey, TrackName};
use crate::media::level::Level;
use crate::router::Hush;
use crate::session::negotiate::Extension;
use crate::session::outgoing::{Purpose, Queued};
use crate::session::uplinks::{Carried, Received};

/// How often it is looked at who speaks.
const REVIEW: Duration = Duration::from_millis(100);

/// The least time between two events about who speaks.
const TELLING: Duration = Duration::from_millis(500);

/// The start of a word is two or three packets old when its speaker is loud enough to be heard.
const PRE_ROLL: u64 = 3;
const PRE_ROLL_AGE: Duration = Duration::from_millis(100);

/// So many are told of at most.
const SPEAKERS: usize = 8;

/// What a room's hosts have been told of who speaks.
#[derive(Default)]
pub(super) struct Told {
    /// Who has the floor.
    floor: Option<PeerId>,
    speakers: Vec<PeerId>,
    at: Option<Instant>,
}

impl Told {
    pub fn floor(&self) -> Option<PeerId> {
        self.floor
    }
}

impl Engine {
    /// A packet of audio has come. True: it is for others to hear, and so may be what came just before it.
    pub(super) fn hear(
        &mut self,
        now: Instant,
        room: RoomKey,
        received: &mut Received,
        carried: &[u8],
        payload: &[u8],
    ) -> bool {
        let entry = &mut self.rooms[room];
        let seq = received.meta.seq;
        let level = Carried::iter(carried).find(|(kind, _)| *kind == Extension::AudioLevel);
        let level = level.and_then(|(_, value)| Level::parse(value));
        let is_heard = entry.router.speech.hear(now, received.track, level, payload.len());
        if entry.speech_due.is_none() && entry.router.speech.floor.is_loud(received.track) {
            self.timers.schedule(Due::Speech(room), &mut entry.speech_due, Some(now + REVIEW));
        }
        let Some(track) = entry.router.tracks.get_mut(received.track) else { return true };
        match (is_heard, track.hushed) {
            (true, None) => {}
            (true, Some(hush)) => {
                track.hushed = None;
                received.restarted |= hush.restarted;
                self.pre_roll(now, room, received, hush.since.max(seq.saturating_sub(PRE_ROLL)));
            }
            (false, _) => {
                let restarted = received.restarted;
                let hush = track.hushed.get_or_insert(Hush { since: u64::MAX, restarted });
                hush.since = hush.since.min(seq);
                let copies = track.subscriptions().len();
                let layer = track.layers.get_mut(usize::from(received.layer));
                if layer.is_some_and(|layer| layer.file(received.meta, carried, payload)) {
                    entry.packets.add(now, 1);
                    self.counters.fanout(MediaKind::Audio, copies);
                    self.counters.filtered_n(MediaKind::Audio, FilterReason::Speaker, copies);
                }
            }
        }
        is_heard
    }

    /// A voice is heard again: first what has been said just before. Copies that were left out then are owed anew.
    fn pre_roll(&mut self, now: Instant, room: RoomKey, received: &mut Received, from: u64) {
        let Engine { sessions, rooms, counters, dirty, config, crossing_rooms, .. } = self;
        let Room { router, outlets, batch, .. } = &mut rooms[room];
        received.resumed = true;
        let Some(track) = router.tracks.get(received.track) else { return };
        let Some(feed) = track.feed(received.track, received.layer) else { return };
        let crosses = !outlets.is_empty() && track.publication.publisher.worker == config.worker;
        let history = &track.layers[usize::from(received.layer)].history;
        let recent = |at: Instant| now.saturating_duration_since(at) <= PRE_ROLL_AGE;
        for seq in from..received.meta.seq {
            let Some(stored) = history.get(seq).filter(|stored| recent(stored.meta.arrived)) else {
                continue;
            };
            let (kind, resumed) = (received.kind, received.resumed);
            if crosses {
                if batch.is_empty() {
                    crossing_rooms.push(room);
                }
                let restarted = received.restarted;
                let earlier =
                    Received { meta: *stored.meta, resumed, restarted, ..Received::plain(received) };
                batch.push(track.publication.name(), &earlier, stored.aux, stored.payload);
            }
            counters.fanout(kind, track.subscriptions().len());
            for subscription in track.subscriptions() {
                let Some(subscriber) = sessions.get_mut(subscription.peer) else { continue };
                let queued = Queued::new(subscription.slot, feed, seq, Purpose::First);
                match subscriber.enqueue(now, Queued { starts: resumed, ..queued }, config.limits.queue) {
                    true => counters.queued(kind),
                    false => counters.dropped_out(DropKind::from(kind), DropReason::QueueFull, 1),
                }
                flush::mark_dirty(dirty, subscriber, subscription.peer);
            }
            (received.resumed, received.restarted) = (false, false);
        }
    }

    // ---- the floor ---------------------------------------------------------------------------------

    /// Looks at who speaks in a room, ten times a second while somebody does.
    pub(super) fn review_speech(&mut self, now: Instant, key: RoomKey) {
        let decides = self.decides(key);
        let Some(room) = self.rooms.get_mut(key) else { return };
        let floor = &mut room.router.speech.floor;
        floor.review(now, decides);
        let lively = floor.is_lively(now);
        self.note_floor(now, key);
        let pending = self.tell_speakers(now, key);
        let next = (lively || pending).then(|| now + REVIEW);
        if let Some(room) = self.rooms.get_mut(key) {
            self.timers.schedule(Due::Speech(key), &mut room.speech_due, next);
        }
    }

    /// Of the engines that have peers in a room, the first decides who has its floor: they do not hear at the same moment.
    fn decides(&self, room: RoomKey) -> bool {
        let here = self.config.worker;
        self.rooms.get(room).is_some_and(|room| room.outlets.iter().all(|other| *other > here))
    }

    /// Acts on it if another peer has the floor than before.
    pub(super) fn note_floor(&mut self, now: Instant, key: RoomKey) {
        let decides = self.decides(key);
        let Some(room) = self.rooms.get_mut(key) else { return };
        let track = room.router.speech.floor.dominant().and_then(|track| room.router.tracks.get(track));
        let name = track.map(|track| track.publication.name());
        let speaker = name.map(|name| name.publisher);
        if room.told.floor == speaker {
            return;
        }
        room.told.floor = speaker;
        if let Some(peer) = speaker {
            room.router.speech.take_floor(peer);
        }
        if let Some(track) = name.filter(|_| decides) {
            self.cross_all(key, &Crossing::Floor { track });
        }
        let info = speaker.and_then(|peer| self.publisher(peer));
        for peer in self.rooms[key].router.peers.clone() {
            self.emit(peer, PeerEvent::DominantSpeaker(info.clone()));
            if self.limits_videos(peer) {
                self.leave_out(now, peer);
            }
        }
    }

    /// Another engine says who has the floor: if it decides, it knows better; who has just come knows nothing.
    pub(super) fn follow_floor(&mut self, now: Instant, from: u16, name: TrackName) {
        let Some((room, track)) = self.place_of(name) else { return };
        if from > self.config.worker && self.floor_of(room).is_some() {
            return;
        }
        if let Some(entry) = self.rooms.get_mut(room) {
            entry.router.speech.floor.follow(track);
            self.note_floor(now, room);
        }
    }

    /// Where a track is kept, whoever publishes it.
    pub(super) fn place_of(&self, name: TrackName) -> Option<(RoomKey, TrackKey)> {
        match self.live(name.publisher) {
            Some(key) => {
                let session = &self.sessions[key];
                Some((session.room, session.uplinks.get(name.mid)?.track))
            }
            None => self.remotes.track(name),
        }
    }

    /// The floor of a room, by the name of its holder's track.
    pub(super) fn floor_of(&self, room: RoomKey) -> Option<TrackName> {
        let router = &self.rooms.get(room)?.router;
        Some(router.tracks.get(router.speech.floor.dominant()?)?.publication.name())
    }

    /// Tells who speaks, where that has changed. True: it has, and it is too early to tell.
    fn tell_speakers(&mut self, now: Instant, key: RoomKey) -> bool {
        let Some(room) = self.rooms.get(key) else { return false };
        let speakers: Vec<PeerId> = speaking(room).map(|(peer, _)| peer).take(SPEAKERS).collect();
        if speakers == room.told.speakers {
            return false;
        }
        if room.told.at.is_some_and(|at| now.saturating_duration_since(at) < TELLING) {
            return true;
        }
        let infos: Vec<_> = speakers.iter().filter_map(|peer| self.publisher(*peer)).collect();
        let told = &mut self.rooms[key].told;
        (told.speakers, told.at) = (speakers, Some(now));
        for peer in self.rooms[key].router.peers.clone() {
            self.emit(peer, PeerEvent::SpeakersChanged(infos.clone()));
        }
        false
    }

    /// A newcomer is told who has the floor.
    pub(super) fn tell_floor(&mut self, key: PeerKey) {
        let room = self.sessions[key].room;
        if let Some(info) = self.rooms[room].told.floor.and_then(|peer| self.publisher(peer)) {
            self.emit(key, PeerEvent::DominantSpeaker(Some(info)));
        }
    }

    /// The peers of this engine who speak.
    pub(super) fn speakers_here(&self) -> u64 {
        let rooms = self.rooms.values();
        rooms.map(|room| speaking(room).filter(|(peer, _)| self.is_here(*peer)).count() as u64).sum()
    }

    // ---- the host's choices ------------------------------------------------------------------------

    /// Whose audio goes out in a room, now and later.
    pub fn set_audible(&mut self, now: Instant, room: &str, audible: Audible) {
        self.room_settings.entry(room.to_owned()).or_default().audible = audible;
        self.apply_settings(now, room);
    }
}

/// Who speaks and is heard, in the order of their ids.
pub(super) fn speaking(room: &Room) -> impl Iterator<Item = (PeerId, u8)> {
    let tracks = room.router.speech.floor.speaking().filter_map(|(track, loudness)| {
        let track = room.router.tracks.get(track).filter(|track| track.hushed.is_none())?;
        Some((track.publication.publisher, loudness))
    });
    let mut peers: Vec<(PeerId, u8)> = tracks.collect();
    peers.sort_unstable();
    peers.dedup_by_key(|(peer, _)| *peer);
    peers.into_iter()
}

//! One worker's share of the SFU: its sessions and routers, told the time and given datagrams.
//!
//! Sans-IO and single-threaded. Inputs: datagrams, the time, and the host's calls. Outputs: datagrams through
//! [`Engine::flush`], events through [`Engine::poll_event`]. Any number of inputs, then flush; no input needs
//! draining after it.

pub mod book;
mod burden;
mod caps;
mod channels;
pub mod crossing;
mod flush;
mod hold;
mod ingress;
mod lastn;
mod layers;
mod measures;
mod members;
mod outlets;
mod panics;
mod remotes;
mod repair;
mod speakers;
mod stats;
mod subscribe;
mod timers;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use bytes::BytesMut;
use slotmap::SlotMap;

use crate::config::{Audible, LayerLimit, Limits};
use crate::counters::{Counters, nanos};
use crate::error::NegotiateError;
use crate::event::{LeaveReason, PeerEvent};
use crate::ids::{Mid, PeerId, PeerKey, RoomKey, Ssrc};
use crate::media::budget::RateMeter;
use crate::path::Path;
use crate::router::{Publication, Router};
use crate::saturation::measures::Measures;
use crate::session::Session;
use crate::session::dtls::Identity;
use crate::session::feedback::Rtcp;
use crate::session::ice::Credentials;
use crate::session::negotiate::LocalDescription;
use crate::session::trace::JoinTrace;
use crate::units::Bitrate;
use book::AddressBook;
pub use channels::MessagePayload;
use crossing::{Batch, Crossing};
pub use flush::{Outlet, SendFault, Transmit};
use hold::Hold;
use remotes::Remotes;
use speakers::Told;
use timers::{Due, Timers};

/// A peer that has not connected for this long is given up.
const CONNECT_DEADLINE: Duration = Duration::from_secs(30);

/// What one engine needs to know.
#[derive(Clone)]
pub struct EngineConfig {
    /// Which worker this is: the high part of its peers' ids.
    pub worker: u16,
    /// How many there are: rooms may have peers on any of them.
    pub workers: u16,
    /// Host candidates put into descriptions.
    pub candidates: Vec<SocketAddr>,
    /// As [`Config::publish_cap`](crate::Config::publish_cap).
    pub publish_cap: Option<Bitrate>,
    /// As [`Config::require_gcm`](crate::Config::require_gcm).
    pub require_gcm: bool,
    /// As [`Config::limits`](crate::Config::limits).
    pub limits: Limits,
    /// Without a connectivity check for this long after the answer, the host is warned.
    pub unreachable_after: Duration,
    /// The certificate that all workers present.
    pub identity: Arc<Identity>,
}

/// Whose turn it is; who pays if the turn panics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Serving {
    Nobody,
    /// Somebody who is not in yet: nothing to take back.
    Newcomer,
    Peer(PeerKey),
    Room(RoomKey),
}

/// One worker's sessions and rooms.
pub struct Engine {
    config: EngineConfig,
    sessions: SlotMap<PeerKey, Box<Session>>,
    rooms: SlotMap<RoomKey, Room>,
    room_names: HashMap<String, RoomKey>,
    book: AddressBook,
    timers: Timers,
    /// Sessions with something to send, in the order they got it.
    dirty: VecDeque<PeerKey>,
    /// Sessions whose packets may wait for others to leave with.
    hold: Hold,
    /// Last words of departed sessions.
    parting: VecDeque<(Path, BytesMut)>,
    events: VecDeque<(PeerId, PeerEvent)>,
    /// What this engine has done. Cumulative.
    pub counters: Counters,
    serving: Serving,
    /// Everybody in sight is leaving: nobody needs to hear of the others.
    closing: bool,
    slab: flush::Slab,
    random: SystemRandom,
    /// What may leave, all peers together; caps of rooms, whether anybody is in them or not; when they are shared next.
    egress_cap: Option<Bitrate>,
    room_caps: HashMap<String, Bitrate>,
    /// What hosts have chosen for rooms, whether anybody is in them or not.
    room_settings: HashMap<String, RoomSettings>,
    sharing: Option<Instant>,
    /// What is given up because the machine is short of something.
    measures: Measures,
    /// Who is in rooms of ours by way of other engines, what they publish, and what those engines are to be told.
    remotes: Remotes,
    crossings: VecDeque<(u16, Crossing)>,
    /// Rooms of which packets are about to cross.
    crossing_rooms: Vec<RoomKey>,
    /// Until when participants' time is counted.
    counted_until: Option<Instant>,
}

struct Room {
    router: Router,
    scheduled: Option<Instant>,
    /// On what all who are in it publish together.
    cap: Option<Bitrate>,
    /// The share of its video that the load leaves it.
    kept: f64,
    /// Other engines that have peers in it, and what is about to cross to them.
    outlets: Vec<u16>,
    batch: Batch,
    /// The number of the last batch from each of them.
    heard: BTreeMap<u16, u64>,
    /// Packets received and copies owed; packets asked for again.
    packets: RateMeter,
    nacked: RateMeter,
    /// So many videos for each subscriber.
    last_n: Option<u32>,
    speech_due: Option<Instant>,
    told: Told,
}

/// What a host has chosen for a room.
#[derive(Clone, Copy, Default, PartialEq)]
struct RoomSettings {
    audible: Audible,
    last_n: Option<u32>,
}

impl EngineConfig {
    /// The defaults, for one worker that announces `candidates`.
    pub fn new(candidates: Vec<SocketAddr>, identity: Arc<Identity>) -> Self {
        EngineConfig {
            worker: 0,
            workers: 1,
            candidates,
            publish_cap: None,
            require_gcm: false,
            limits: Limits::default(),
            unreachable_after: Duration::from_secs(5),
            identity,
        }
    }
}

impl Engine {
    /// No peers, no rooms.
    pub fn new(config: EngineConfig) -> Self {
        Engine {
            config,
            sessions: SlotMap::with_key(),
            rooms: SlotMap::with_key(),
            room_names: HashMap::new(),
            book: AddressBook::default(),
            timers: Timers::default(),
            dirty: VecDeque::new(),
            hold: Hold::default(),
            parting: VecDeque::new(),
            events: VecDeque::new(),
            counters: Counters::default(),
            serving: Serving::Nobody,
            closing: false,
            slab: flush::Slab::default(),
            random: SystemRandom::new(),
            egress_cap: None,
            room_caps: HashMap::new(),
            room_settings: HashMap::new(),
            sharing: None,
            measures: Measures::NONE,
            remotes: Remotes::default(),
            crossings: VecDeque::new(),
            crossing_rooms: Vec::new(),
            counted_until: None,
        }
    }

    // ---- the host's calls --------------------------------------------------------------------------

    /// Answers a renegotiation by the client.
    pub fn offer(&mut self, now: Instant, peer: PeerId, sdp: &str) -> Result<String, NegotiateError> {
        let key = self.live(peer).ok_or(NegotiateError::Gone)?;
        self.serve(key, |engine| engine.renegotiate(now, key, sdp))
    }

    fn renegotiate(&mut self, now: Instant, key: PeerKey, sdp: &str) -> Result<String, NegotiateError> {
        let negotiation = &self.sessions[key].negotiation;
        let offer = negotiation.read_offer(sdp)?;
        let restart = negotiation.is_restart(&offer).then(|| self.fresh_credentials());
        let described = restart.as_ref().map(|credentials| self.local_description(credentials));
        let session = &mut self.sessions[key];
        let before = described.map(|local| session.negotiation.replace_local(local));
        let answer = match session.negotiation.handle_offer_of(&offer) {
            Ok(answer) => answer,
            Err(error) => {
                if let Some(before) = before {
                    session.negotiation.restore_local(before);
                }
                return Err(error.into());
            }
        };
        if let Some(credentials) = restart {
            self.restart_ice_of(key, credentials);
        }
        let session = &mut self.sessions[key];
        if let Some(remote) = session.negotiation.remote() {
            session.ice.set_remote(&remote.ufrag);
        }
        self.sync_and_resubscribe(now, key);
        Ok(answer)
    }

    /// Takes the client's answer to an engine offer.
    pub fn answer(&mut self, now: Instant, peer: PeerId, sdp: &str) -> Result<(), NegotiateError> {
        let key = self.live(peer).ok_or(NegotiateError::Gone)?;
        self.serve(key, |engine| {
            let session = &mut engine.sessions[key];
            session.negotiation.handle_answer(sdp)?;
            if let Some(remote) = session.negotiation.remote() {
                session.ice.set_remote(&remote.ufrag);
            }
            engine.sync_and_resubscribe(now, key);
            Ok(())
        })
    }

    /// Acts on what has just been negotiated. Others are concerned only if what the peer publishes changed.
    fn sync_and_resubscribe(&mut self, now: Instant, key: PeerKey) {
        let room = self.sessions[key].room;
        match self.sync_media(now, key) {
            true => self.resubscribe(now, room),
            false => self.resubscribe_peer(now, room, key),
        }
        self.reschedule(key);
    }

    /// Asks the client for new ICE credentials and gives it ours: its next answer brings the restart about
    /// (RFC 8445 §9). The paths in use serve until new ones validate. False: the peer is not there.
    pub fn restart_ice(&mut self, now: Instant, peer: PeerId) -> bool {
        let Some(key) = self.live(peer) else { return false };
        self.serve(key, |engine| {
            engine.sessions[key].restart_wanted = true;
            let room = engine.sessions[key].room;
            engine.resubscribe_peer(now, room, key);
        });
        true
    }

    /// Renews our ICE credentials, if that is wanted and no offer is on its way: the next offer tells them.
    fn renew_credentials(&mut self, key: PeerKey) {
        let session = &self.sessions[key];
        if !session.restart_wanted || session.negotiation.is_pending() {
            return;
        }
        let credentials = self.fresh_credentials();
        let local = self.local_description(&credentials);
        let session = &mut self.sessions[key];
        session.restart_wanted = false;
        session.negotiation.set_local(local);
        self.restart_ice_of(key, credentials);
    }

    /// Does something for a peer; should it panic, the peer pays.
    fn serve<T>(&mut self, key: PeerKey, act: impl FnOnce(&mut Self) -> T) -> T {
        self.serving = Serving::Peer(key);
        let result = act(self);
        self.serving = Serving::Nobody;
        result
    }

    /// Tells the host again what it may have missed: the slots, who has the floor, and the offer if one is pending or due.
    pub fn resync(&mut self, now: Instant, peer: PeerId) {
        let Some(key) = self.live(peer) else { return };
        self.serve(key, |engine| {
            engine.sessions[key].negotiation.rollback();
            engine.tell_slots(key);
            engine.tell_floor(key);
            let room = engine.sessions[key].room;
            engine.resubscribe_peer(now, room, key);
        });
    }

    /// Limits what the peer gets of the track on its m-line `mid`. False: it has no such m-line to receive on.
    pub fn limit_layers(&mut self, now: Instant, peer: PeerId, mid: &str, limit: LayerLimit) -> bool {
        let Some(key) = self.live(peer) else { return false };
        let slot = Mid::new(mid).and_then(|mid| self.sessions[key].slot_index(mid));
        slot.is_some_and(|slot| {
            self.serve(key, |engine| engine.limit_slot(now, key, slot, limit));
            true
        })
    }

    /// The next thing to tell a host.
    pub fn poll_event(&mut self) -> Option<(PeerId, PeerEvent)> {
        self.events.pop_front()
    }

    // ---- time --------------------------------------------------------------------------------------

    /// When to call [`handle_timeout`](Self::handle_timeout) next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.timers.next(), self.hold.next()].into_iter().flatten().min()
    }

    /// Video may wait so long for what it can leave with, from now on: each datagram that leaves alone costs a system
    /// call. Audio never waits, nor does the end of a picture.
    pub fn set_window(&mut self, window: Duration) {
        self.hold.set_window(window);
    }

    /// Serves one party whose time has come. False when nobody's has.
    pub fn handle_timeout(&mut self, now: Instant) -> bool {
        match self.timers.pop_due(now) {
            None => return false,
            Some(Due::Peer(key)) => {
                self.serving = Serving::Peer(key);
                if let Some(session) = self.sessions.get_mut(key) {
                    session.scheduled = None;
                    self.serve_timeout(now, key);
                    self.reschedule(key);
                }
            }
            Some(Due::Caps) => {
                self.sharing = None;
                self.share_caps(now);
            }
            Some(Due::Speech(key)) => {
                self.serving = Serving::Room(key);
                if let Some(room) = self.rooms.get_mut(key) {
                    room.speech_due = None;
                    self.review_speech(now, key);
                }
            }
            Some(Due::Room(key)) => {
                self.serving = Serving::Room(key);
                if let Some(room) = self.rooms.get_mut(key) {
                    room.scheduled = None;
                    self.poll_keyframes(now, key);
                }
            }
        }
        self.serving = Serving::Nobody;
        true
    }

    fn serve_timeout(&mut self, now: Instant, key: PeerKey) {
        let session = &mut self.sessions[key];
        let expiry = session.ice.expire(now);
        for path in &expiry.removed {
            self.book.remove_path(path, key);
        }
        if expiry.consent_lost {
            let never = session.ice.last_check().is_none();
            let reason = if never { LeaveReason::IceTimeout } else { LeaveReason::ConsentExpired };
            return self.remove(now, key, reason);
        }
        if !session.is_connected() && now >= session.joined_at + CONNECT_DEADLINE {
            return self.remove(now, key, LeaveReason::IceTimeout);
        }
        if !session.warned_unreachable
            && session.ice.last_check().is_none()
            && now >= session.joined_at + self.config.unreachable_after
        {
            session.warned_unreachable = true;
            let announced = self.config.candidates.clone();
            self.emit(key, PeerEvent::Unreachable { announced });
        }
        self.note_path(key);
        let session = &mut self.sessions[key];
        session.handle_timeout(now);
        if !self.serve_dtls(now, key) {
            return;
        }
        self.serve_channels(now, key);
        let reports = self.sender_reports(now, key);
        let session = &mut self.sessions[key];
        for ssrc in session.send_due_rtcp(now, &mut self.counters, reports) {
            self.mend_stream(now, key, ssrc);
        }
        self.share_downlink(now, key);
        self.mark_dirty(key);
    }

    /// Sender reports for what the peer receives: its publishers' clocks in its own timestamps.
    fn sender_reports(&self, now: Instant, key: PeerKey) -> Vec<Rtcp> {
        let session = &self.sessions[key];
        if !session.is_report_due(now) {
            return Vec::new();
        }
        let router = &self.rooms[session.room].router;
        let reports = session.slots.iter().filter(|slot| slot.live).filter_map(|slot| {
            let feed = slot.feed()?;
            let layer = router.tracks.get(feed.track)?.layer(feed)?;
            slot.sender_report(now, feed, layer.report.as_ref()?)
        });
        let mut packets: Vec<Rtcp> = Vec::new();
        for report in reports {
            let ssrc = Ssrc(report.ssrc);
            packets.push(Box::new(report));
            packets.push(session.source_description(ssrc));
        }
        packets
    }

    /// Sends the keyframe requests that are due in a room.
    fn poll_keyframes(&mut self, now: Instant, key: RoomKey) {
        let mut next = self.poll_remote_keyframes(now, key);
        let Engine { rooms, sessions, counters, timers, dirty, config, .. } = self;
        let Some(room) = rooms.get_mut(key) else { return };
        for track in room.router.tracks.values_mut() {
            let Publication { publisher, mid, .. } = track.publication;
            if publisher.worker != config.worker {
                continue;
            }
            let publisher = publisher.key();
            let Some(session) = sessions.get_mut(publisher) else { continue };
            for index in 0..track.layers.len() as u8 {
                let watched = track.is_watched(index);
                let layer = &mut track.layers[usize::from(index)];
                // What is not sent yet is asked for when it is; until then nothing is due.
                if session.uplinks.active_ssrc(mid, index).is_none() {
                    continue;
                }
                if layer.keyframes.poll(now, PUBLISHER_RTT) {
                    session.request_keyframe(now, mid, index, counters);
                    flush::mark_dirty(dirty, session, publisher);
                }
                if !watched {
                    // Asked for once in advance; who wanted it has left, or wants another.
                    layer.keyframes.withdraw();
                }
                next = [next, layer.keyframes.poll_timeout(now, PUBLISHER_RTT)].into_iter().flatten().min();
            }
        }
        timers.schedule(Due::Room(key), &mut room.scheduled, next);
    }

    // ---- gauges ------------------------------------------------------------------------------------

    /// Brings up to date what is not kept so all the time: to be called each second.
    pub fn sample(&mut self, now: Instant) {
        self.count_time(now);
        for session in self.sessions.values_mut() {
            session.trace.take_if(|_| JoinTrace::is_over(now, session.secured_at));
        }
        let speakers = self.speakers_here();
        let gauges = &mut self.counters.gauges;
        let sizes = self.rooms.values().map(|room| room.router.peers.len());
        gauges.largest_room = sizes.max().unwrap_or(0) as u64;
        let videos = self.sessions.values().map(|session| {
            let slots = session.slots.iter();
            slots.filter(|slot| slot.live && slot.kind == crate::ids::MediaKind::Video).count()
        });
        gauges.most_videos = videos.max().unwrap_or(0) as u64;
        gauges.active_speakers = speakers;
        gauges.queue_capacity = (self.sessions.len() * self.config.limits.queue) as u64;
        let publishers = self.sessions.values().filter(|session| session.uplinks.iter().next().is_some());
        let caps = publishers.filter_map(|session| session.cap.get());
        gauges.capped_publishers = caps.clone().count() as u64;
        let lowest = caps.min().or(self.config.publish_cap).unwrap_or(crate::session::cap::LIFTED);
        gauges.lowest_cap = lowest.as_bps();
    }

    fn count_time(&mut self, now: Instant) {
        let passed = self.counted_until.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.counted_until = self.counted_until.max(Some(now));
        let together = nanos(passed).saturating_mul(self.counters.gauges.participants);
        self.counters.participant_time = self.counters.participant_time.wrapping_add(together);
    }

    // ---- inner workings ----------------------------------------------------------------------------

    fn live(&self, peer: PeerId) -> Option<PeerKey> {
        let key = peer.key();
        (peer.worker == self.config.worker && self.sessions.contains_key(key)).then_some(key)
    }

    fn emit(&mut self, key: PeerKey, event: PeerEvent) {
        if let Some(session) = self.sessions.get(key) {
            self.events.push_back((session.id, event));
        }
    }

    fn mark_dirty(&mut self, key: PeerKey) {
        if let Some(session) = self.sessions.get_mut(key)
            && session.has_output()
        {
            flush::mark_dirty(&mut self.dirty, session, key);
        }
    }

    fn reschedule(&mut self, key: PeerKey) {
        if let Some(session) = self.sessions.get_mut(key) {
            let mut wanted = session.poll_timeout();
            if !session.is_connected() {
                let deadline = match session.warned_unreachable || session.ice.last_check().is_some() {
                    false => session.joined_at + self.config.unreachable_after,
                    true => session.joined_at + CONNECT_DEADLINE,
                };
                wanted = [wanted, Some(deadline)].into_iter().flatten().min();
            }
            self.timers.schedule(Due::Peer(key), &mut session.scheduled, wanted);
        }
    }

    /// ICE restarts (RFC 8445 §9), and our description tells the client these credentials. The paths in use serve
    /// until the client's new ones validate.
    fn restart_ice_of(&mut self, key: PeerKey, credentials: Credentials) {
        self.book.add_ufrag(&credentials.ufrag, key);
        let session = &mut self.sessions[key];
        session.ice.restart(credentials);
        self.book.retain_ufrags(key, |ufrag| session.ice.answers_to(ufrag));
    }

    fn local_description(&self, credentials: &Credentials) -> LocalDescription {
        LocalDescription {
            ufrag: credentials.ufrag.clone(),
            pwd: credentials.pwd.clone(),
            fingerprint: self.config.identity.fingerprint().to_owned(),
            candidates: self.config.candidates.clone(),
            publish_ceiling: None,
        }
    }

    fn fresh_credentials(&self) -> Credentials {
        loop {
            let credentials = Credentials::random();
            if !self.book.has_ufrag(&credentials.ufrag) {
                return credentials;
            }
        }
    }

    /// Sizes of everything that could leak: sessions, rooms, paths, ufrags, timers.
    pub fn footprint(&self) -> [usize; 5] {
        let (paths, ufrags) = self.book.len();
        [self.sessions.len(), self.rooms.len(), paths, ufrags, self.timers.len()]
    }

    /// Tracks of other engines' peers: for leak tests.
    pub fn replicas(&self) -> usize {
        self.remotes.len()
    }

    /// What it was made with.
    pub fn config(&self) -> &EngineConfig {
        &self.config
    }

    /// Streams that peers send and that are accounted for, of all of them together: for leak tests.
    pub fn streams(&self) -> usize {
        self.sessions.values().map(|session| session.uplinks.streams()).sum()
    }
}

fn random_u32(random: &SystemRandom) -> u32 {
    let mut bytes = [0; 4];
    random.fill(&mut bytes).expect("the system's random source answers");
    u32::from_ne_bytes(bytes)
}

/// Publishers that receive nothing from us send no receiver reports, so their RTT is unknown; keyframe
/// requests are spaced as if it were this.
const PUBLISHER_RTT: Duration = Duration::from_millis(100);

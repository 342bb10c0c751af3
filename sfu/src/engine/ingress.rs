//! Datagrams in: classified, matched to a peer, authenticated, and filed with the router.

use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::{Engine, PUBLISHER_RTT, Room, Serving, flush, outlets};
use crate::counters::{DropKind, DtlsOutcome, IceOutcome, JoinOutcome, RequestOutcome, SrtpProfile, Stage};
use crate::drop::{DropReason, FilterReason};
use crate::event::{LeaveReason, PeerEvent};
use crate::ids::{MediaKind, PeerKey, RoomKey, Ssrc, TrackKey};
use crate::media::keyframe::Want;
use crate::media::police;
use crate::path::Path;
use crate::router::Publication;
use crate::router::selection::Verdict;
use crate::session::dtls::{DtlsEvent, DtlsFailure};
use crate::session::hearing::Heard;
use crate::session::outgoing::{Purpose, Queued};
use crate::session::srtp::Profile;
use crate::session::uplinks::{Outcome, Received};
use crate::wire::demux::{Protocol, protocol_of};
use crate::wire::rtp::RtpHeader;
use crate::wire::stun;

/// A path stays with the peer that authenticated from it until that peer has been silent there so long.
/// Clients check every 2.5 s (Chromium) to 5 s (RFC 7675).
const PATH_TENURE: Duration = Duration::from_secs(6);

/// Larger datagrams are none of ours: WebRTC keeps to 1200-1500 bytes.
const MAX_DATAGRAM: usize = 2048;

impl Engine {
    /// Takes one datagram. `arrived` is when the kernel got it, `now` is when we look at it.
    pub fn handle_datagram(&mut self, now: Instant, arrived: Instant, path: Path, datagram: &mut [u8]) {
        if path.remote.port() == 0 {
            // Nobody can be answered there.
            return self.counters.dropped_in(DropKind::Other, DropReason::Malformed);
        }
        if datagram.len() > MAX_DATAGRAM {
            return self.counters.dropped_in(DropKind::Other, DropReason::Oversize);
        }
        let Some(protocol) = protocol_of(datagram) else {
            return self.counters.dropped_in(DropKind::Other, DropReason::Malformed);
        };
        if protocol == Protocol::Stun {
            return self.handle_stun(now, path, datagram);
        }
        // The gate: an address that no authenticated check has validated may speak only STUN.
        let Some(key) = self.book.peer_at(&path) else {
            return self.counters.dropped_in(DropKind::Other, DropReason::UnknownPeer);
        };
        self.serving = Serving::Peer(key);
        match protocol {
            Protocol::Dtls => self.handle_dtls(now, key, datagram),
            Protocol::Rtp => self.handle_rtp(now, arrived, key, datagram),
            Protocol::Rtcp => self.handle_rtcp(now, key, datagram),
            Protocol::Stun => {}
        }
        self.serving = Serving::Nobody;
    }

    fn handle_stun(&mut self, now: Instant, path: Path, datagram: &[u8]) {
        let Some(ufrag) = stun::username_local(datagram) else {
            return self.counters.dropped_in(DropKind::Other, DropReason::Malformed);
        };
        let Some(key) = self.book.peer_named(ufrag) else {
            return self.counters.dropped_in(DropKind::Other, DropReason::UnknownPeer);
        };
        self.serving = Serving::Peer(key);
        if let Some(owner) = self.book.peer_at(&path).filter(|owner| *owner != key)
            && self.sessions[owner].ice.checked_within(now, &path, PATH_TENURE)
        {
            // One address, one peer, as long as that peer speaks from it.
            return self.counters.dropped_in(DropKind::Other, DropReason::UnknownPeer);
        }
        let session = &mut self.sessions[key];
        let first = session.ice.last_check().is_none();
        let before = session.ice.selected();
        match session.ice.handle_request(now, path, datagram) {
            Err(reason) => {
                session.refused_checks = true;
                self.counters.dropped_in(DropKind::Other, reason);
            }
            Ok(checked) => {
                session.push_control(path, BytesMut::from(&checked.response[..]));
                let since_join = now.saturating_duration_since(session.joined_at);
                session.checked_at.get_or_insert(now);
                if checked.renewed {
                    session.restarted = true;
                    self.book.retain_ufrags(key, |ufrag| session.ice.answers_to(ufrag));
                }
                if let Some(evicted) = checked.evicted {
                    self.book.remove_path(&evicted, key);
                }
                if checked.new_path || self.book.peer_at(&path) != Some(key) {
                    self.book.add_path(path, key);
                }
                let moved = before.is_some() && session.ice.selected() != before;
                if first {
                    let relay = session.relay_offered();
                    self.counters.ice_session(IceOutcome::Connected, relay);
                    self.counters.join_stage(Stage::Ice, since_join);
                    let session = &mut self.sessions[key];
                    let kind = session.path_kind(&path);
                    if let Some(trace) = &mut session.trace {
                        trace.on_path(kind);
                    }
                    self.emit(key, PeerEvent::IceConnected { after: since_join });
                    self.expect(now, key, Duration::ZERO);
                    self.reschedule(key);
                }
                self.note_path(key);
                if moved {
                    self.ask_anew(now, key);
                    self.show_anew(now, key);
                }
                self.mark_dirty(key);
            }
        }
        self.serving = Serving::Nobody;
    }

    /// Books the path that the peer is reached by, if it is another one than before.
    pub(super) fn note_path(&mut self, key: PeerKey) {
        let session = &mut self.sessions[key];
        let path = session.ice.selected();
        if session.booked_path.map(|(path, _)| path) != path {
            let kind = path.map(|path| session.path_kind(&path));
            let before = std::mem::replace(&mut session.booked_path, path.zip(kind));
            self.counters.selected_path(kind, before.map(|(_, kind)| kind));
        }
    }

    fn handle_dtls(&mut self, now: Instant, key: PeerKey, datagram: &[u8]) {
        // Keyframes have been asked for at the first check, three round trips before it connects; where they would be too
        // old by then, they are asked for again.
        if let Some(rest) = self.sessions[key].on_handshake(now) {
            self.expect(now, key, rest);
        }
        if let Err(reason) = self.sessions[key].handle_dtls(now, datagram) {
            self.counters.dropped_in(DropKind::Other, reason);
        }
        if self.serve_dtls(now, key) {
            self.mark_dirty(key);
            self.reschedule(key);
        }
    }

    /// Acts on what DTLS reports. False when the session did not survive it.
    pub(super) fn serve_dtls(&mut self, now: Instant, key: PeerKey) -> bool {
        while let Some(event) = self.sessions.get_mut(key).and_then(|session| session.poll_dtls()) {
            match event {
                DtlsEvent::Connected(keys) => {
                    let session = &mut self.sessions[key];
                    let since_check =
                        session.checked_at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
                    if session.secure(now, &keys).is_err() {
                        self.remove(now, key, LeaveReason::DtlsFailed);
                        return false;
                    }
                    if let Some(trace) = &mut session.trace {
                        trace.on_keys(srtp_profile(keys.profile));
                    }
                    self.counters.dtls_handshake(DtlsOutcome::Ok);
                    self.counters.srtp_session(srtp_profile(keys.profile));
                    self.counters.join_stage(Stage::Dtls, since_check);
                    self.counters.joined(JoinOutcome::Ok);
                    self.emit(key, PeerEvent::Connected);
                    self.settle(now, key);
                    let room = self.sessions[key].room;
                    self.poll_keyframes(now, room);
                }
                DtlsEvent::Data(data) => self.handle_data(now, key, data),
                DtlsEvent::Closed => {
                    self.remove(now, key, LeaveReason::Closed);
                    return false;
                }
                DtlsEvent::Failed(failure) => {
                    self.counters.dtls_handshake(match failure {
                        DtlsFailure::Timeout => DtlsOutcome::Timeout,
                        DtlsFailure::Fingerprint => DtlsOutcome::Fingerprint,
                        DtlsFailure::NoProfile => DtlsOutcome::Version,
                        DtlsFailure::Protocol => DtlsOutcome::Other,
                    });
                    self.remove(now, key, LeaveReason::DtlsFailed);
                    return false;
                }
            }
        }
        true
    }

    fn handle_rtcp(&mut self, now: Instant, key: PeerKey, datagram: &[u8]) {
        let mut heard = Vec::new();
        let session = &mut self.sessions[key];
        let nacked_before = session.nacked_packets;
        if let Err(reason) = session.handle_rtcp(now, datagram, &mut self.counters, &mut heard) {
            let kind = match reason {
                DropReason::UnknownSsrc | DropReason::UnknownPeer => DropKind::Other,
                _ => DropKind::Rtcp,
            };
            return self.counters.dropped_in(kind, reason);
        }
        let nacked = session.nacked_packets - nacked_before;
        if nacked > 0 {
            self.rooms[session.room].nacked.add(now, nacked as usize);
        }
        let mut wanted = false;
        let (mut missing, mut lost) = (Vec::new(), Vec::new());
        for message in heard {
            match message {
                Heard::KeyframeWanted { slots } => {
                    // One FIR may ask for several streams: what became of it is the best that became of any.
                    let outcomes = slots.into_iter().map(|slot| self.note_keyframe_wanted(now, key, slot));
                    let outcome = outcomes.min_by_key(|outcome| *outcome as usize);
                    self.counters.keyframe_request(outcome.unwrap_or(RequestOutcome::Suppressed), 1);
                    wanted = true;
                }
                Heard::Missing(packet) => missing.push(packet),
                Heard::Lost(packet) => lost.push(packet),
                Heard::SenderReport { ssrc } => self.note_report(key, ssrc),
                Heard::Reported { slot } => self.note_media_latency(key, slot),
            }
        }
        wanted |= self.repair(now, key, &missing, true);
        // Feedback tells in the order in which they went out.
        lost.sort_by_key(|packet| packet.slot);
        wanted |= self.repair(now, key, &lost, false);
        if wanted {
            let room = self.sessions[key].room;
            self.poll_keyframes(now, room);
        }
        self.mark_dirty(key);
        self.share_downlink(now, key);
    }

    /// How long a picture or a word takes from its publisher to this subscriber, where both round trips are known.
    fn note_media_latency(&mut self, key: PeerKey, slot: usize) {
        let session = &self.sessions[key];
        let Some((slot, source)) = session.slots.get(slot).and_then(|slot| Some((slot, slot.source()?)))
        else {
            return;
        };
        let publisher = self.live(source.publisher);
        let publisher = publisher.and_then(|key| self.sessions[key].reception.measured_rtt());
        let subscriber = session.reception.measured_rtt();
        if let (Some(up), Some(here), Some(down)) =
            (publisher, session.forwarded_after[slot.kind as usize], subscriber)
        {
            self.counters.media_latency(slot.kind, up / 2 + here + down / 2);
        }
    }

    /// A publisher told its clock: its subscribers' timestamps and reports follow it.
    fn note_report(&mut self, key: PeerKey, ssrc: Ssrc) {
        let session = &mut self.sessions[key];
        let Some((uplink, layer)) = session.uplinks.fed_by(ssrc) else { return };
        let (track, layer) = (uplink.track, usize::from(layer));
        let report = session.uplinks.receiver_mut(ssrc).and_then(|(receiver, _)| receiver.sender_report());
        let key = session.room;
        let room = &mut self.rooms[key];
        let (Some(report), Some(track)) = (report, room.router.tracks.get_mut(track)) else { return };
        let name = track.publication.name();
        if let Some(layer) = track.layers.get_mut(layer) {
            layer.report = Some(report);
        }
        let Room { outlets, batch, .. } = room;
        if let Some(batch) = outlets::batch(outlets, batch, &mut self.crossing_rooms, key) {
            batch.report(name, layer as u8, report);
        }
    }

    /// A subscriber needs a keyframe on one of its slots: its publisher hears it once, whoever else asks.
    pub(super) fn note_keyframe_wanted(&mut self, now: Instant, key: PeerKey, slot: usize) -> RequestOutcome {
        self.want_keyframe(now, key, slot).unwrap_or(RequestOutcome::Suppressed)
    }

    fn want_keyframe(&mut self, now: Instant, key: PeerKey, slot: usize) -> Option<RequestOutcome> {
        let session = &self.sessions[key];
        let source = session.slots.get(slot).filter(|slot| slot.live)?.source()?;
        let track = self.rooms[session.room].router.tracks.get_mut(source.track)?;
        let selection = &track.subscription_mut(key, slot as u16)?.selection;
        let index = selection.current().unwrap_or(selection.target());
        let keyframes = &mut track.layers.get_mut(usize::from(index))?.keyframes;
        let Publication { publisher, mid, .. } = track.publication;
        let fresh = keyframes.want() == Want::Fresh;
        // As poll_keyframes will see it.
        let is_due = keyframes.poll_timeout(now, PUBLISHER_RTT) == Some(now);
        let is_sent = match publisher.worker == self.config.worker {
            true => self.sessions.get(publisher.key())?.uplinks.active_ssrc(mid, index).is_some(),
            false => true,
        };
        Some(match (fresh, is_due && is_sent) {
            (false, _) => RequestOutcome::Merged,
            (true, true) => RequestOutcome::Forwarded,
            (true, false) => RequestOutcome::Suppressed,
        })
    }

    fn handle_rtp(&mut self, now: Instant, arrived: Instant, key: PeerKey, datagram: &mut [u8]) {
        let Some(header) = RtpHeader::parse(datagram) else {
            return self.counters.dropped_in(DropKind::Other, DropReason::Malformed);
        };
        let session = &mut self.sessions[key];
        let received = session.handle_rtp(now, arrived, &header, datagram, &mut self.counters);
        let due = session.uplinks.poll_timeout();
        let sooner = due.is_some_and(|due| session.scheduled.is_none_or(|scheduled| due < scheduled));
        let policed = session.uplinks.is_policed();
        if policed || session.policed != police::Stage::Peace {
            self.note_policing(now, key);
            self.resume_policed(now, key);
        }
        if sooner {
            self.reschedule(key);
        }
        match received {
            Err((kind, reason)) => self.counters.dropped_in(kind, reason),
            Ok(Outcome::Nothing) => {}
            Ok(Outcome::Skip { track, layer, seq }) => {
                let room = self.sessions[key].room;
                self.skip(now, room, track, layer, seq);
            }
            Ok(Outcome::Forward(mut received)) => {
                if !self.sessions[key].flowing {
                    self.note_flow(now, key);
                }
                let session = &mut self.sessions[key];
                if received.restarted {
                    session.bind_received(header.ssrc, received.kind);
                    // A cap can be told only about streams that exist.
                    session.cap.announce(now);
                }
                let room = session.room;
                let carried = std::mem::take(&mut session.uplinks.carried);
                let payload = &datagram[received.payload.clone()];
                if !self.pass_on(now, room, &mut received, carried.as_bytes(), payload) {
                    self.counters.dropped_in(received.kind.into(), DropReason::Malformed);
                }
                if let Some(session) = self.sessions.get_mut(key) {
                    session.uplinks.carried = carried;
                }
                if received.restarted {
                    self.reschedule(key);
                }
            }
        }
    }

    /// Files and forwards a packet of a peer of this engine's, or of another's. False: it is of a codec that its track
    /// has not changed to.
    pub(super) fn pass_on(
        &mut self,
        now: Instant,
        room: RoomKey,
        received: &mut Received,
        carried: &[u8],
        payload: &[u8],
    ) -> bool {
        if received.restarted {
            self.restart_layer(now, room, received);
        }
        if !self.follow_codec(now, room, received) {
            return false;
        }
        if received.kind == MediaKind::Audio && !self.hear(now, room, received, carried, payload) {
            return true;
        }
        self.forward(now, room, received, carried, payload);
        if received.torn && received.kind == MediaKind::Video {
            self.mend_torn(now, room, received);
        }
        true
    }

    /// The publisher spent a sequence number on padding: its subscribers' numbers close up.
    pub(super) fn skip(&mut self, now: Instant, room: RoomKey, key: TrackKey, layer: u8, seq: u64) {
        let Engine { sessions, rooms, dirty, config, crossing_rooms, .. } = self;
        let Room { router, outlets, batch, .. } = &mut rooms[room];
        let Some(track) = router.tracks.get(key).filter(|track| track.hushed.is_none()) else { return };
        let name = track.publication.name();
        if name.publisher.worker == config.worker
            && let Some(batch) = outlets::batch(outlets, batch, crossing_rooms, room)
        {
            batch.skip(name, layer, seq);
        }
        let Some(feed) = track.feed(key, layer) else { return };
        let takers = track.subscriptions().iter().filter(|other| other.selection.current() == Some(layer));
        for subscription in takers {
            if let Some(subscriber) = sessions.get_mut(subscription.peer) {
                let queued = Queued::new(subscription.slot, feed, seq, Purpose::Skip);
                subscriber.enqueue(now, queued, config.limits.queue);
                flush::mark_dirty(dirty, subscriber, subscription.peer);
            }
        }
    }

    fn note_flow(&mut self, now: Instant, key: PeerKey) {
        if let Some((since_keys, since_join)) = self.sessions[key].first_flow(now) {
            self.counters.join_stage(Stage::FirstPacket, since_keys);
            self.counters.join_stage(Stage::Total, since_join);
        }
    }

    /// Files a packet with its layer and queues it for every subscriber who gets that layer.
    fn forward(&mut self, now: Instant, room: RoomKey, received: &Received, carried: &[u8], payload: &[u8]) {
        let Engine { sessions, rooms, counters, dirty, hold, config, crossing_rooms, .. } = self;
        let Room { router, packets, outlets, batch, .. } = &mut rooms[room];
        let Some(track) = router.tracks.get_mut(received.track) else { return };
        packets.add(now, 1 + track.subscriptions().len());
        let (kind, index, meta) = (received.kind, received.layer, &received.meta);
        let Some(feed) = track.feed(received.track, index) else { return };
        let layer = &mut track.layers[usize::from(index)];
        if !layer.file(*meta, carried, payload) {
            return;
        }
        if track.publication.publisher.worker == config.worker
            && let Some(batch) = outlets::batch(outlets, batch, crossing_rooms, room)
        {
            batch.push(track.publication.name(), received, carried, payload);
        }
        let layer = &mut track.layers[usize::from(index)];
        layer.size = received.size.or(layer.size);
        if received.structure.is_some() {
            layer.structure.clone_from(&received.structure);
        }
        let size = u16::try_from(carried.len() + payload.len()).unwrap_or(0);
        let picture = layer.unveil(now, meta);
        if meta.picture.keyframe
            && let Some(latency) = layer.keyframes.on_keyframe(now)
        {
            counters.keyframe_latency(latency);
        }
        // Nothing follows the end of a picture soon.
        let may_wait = hold.is_on() && kind == MediaKind::Video && !meta.marker;
        let mut switched = false;
        let mut waiting = false;
        let newest = layer.history.newest().unwrap_or(meta.seq);
        let (mut behind, mut capped) = (Vec::new(), Vec::new());
        counters.fanout(kind, track.subscriptions().len());
        for subscription in track.subscriptions_mut() {
            let verdict = subscription.selection.judge(index, &picture);
            let (purpose, reason) = match verdict {
                Verdict::Elsewhere(reason) => {
                    counters.filtered(kind, reason);
                    continue;
                }
                Verdict::LeftOut(reason) => (Purpose::Skip, Some(reason)),
                Verdict::Forward | Verdict::Start => (Purpose::First, None),
            };
            let Some(subscriber) = sessions.get_mut(subscription.peer) else { continue };
            let (mut purpose, mut reason) = (purpose, reason);
            if purpose == Purpose::First && subscriber.is_over_cap(now, subscription.slot, kind, meta, size) {
                capped.push(subscription.peer);
                (purpose, reason) = (Purpose::Skip, Some(FilterReason::Capped));
                if verdict == Verdict::Start {
                    subscription.selection.wait(kind);
                    counters.filtered(kind, FilterReason::Capped);
                    continue;
                }
            }
            if verdict == Verdict::Start {
                switched = true;
                if meta.seq < newest {
                    behind.push((subscription.peer, subscription.slot));
                }
            }
            let passes = subscription.selection.passes();
            let queued = Queued {
                passes: (passes.spatial, passes.temporal),
                starts: verdict == Verdict::Start || received.resumed,
                size,
                ..Queued::new(subscription.slot, feed, meta.seq, purpose)
            };
            let fits = subscriber.enqueue(now, queued, config.limits.queue);
            match may_wait {
                true => flush::mark_held(hold, now, subscriber, subscription.peer),
                false => flush::mark_dirty(dirty, subscriber, subscription.peer),
            }
            if let Some(reason) = reason {
                counters.filtered(kind, reason);
            } else if fits {
                counters.queued(kind);
            } else {
                counters.dropped_out(kind.into(), DropReason::QueueFull, 1);
                subscription.selection.wait(kind);
                waiting |= kind == MediaKind::Video;
            }
        }
        if switched {
            track.tell_switches(index, |axis, step, cause| counters.layer_switch(axis, step, cause));
            self.tell_layers(room, received.track);
        }
        for (peer, slot) in behind {
            // The packet is a repair: what followed it has come before, when it was nobody's.
            if !self.replay(now, peer, slot, (received.track, index), meta.seq + 1..=newest) {
                waiting |= self.hold_back(room, received, peer, slot);
            }
        }
        for peer in capped {
            self.resume_capped(now, peer);
        }
        if waiting {
            if let Some(track) = self.rooms[room].router.tracks.get_mut(received.track) {
                track.layers[usize::from(index)].keyframes.want();
            }
            self.poll_keyframes(now, room);
        }
        self.review(now, room, received.track);
    }

    /// Too much has followed the start of a picture: the subscriber waits for another. Returns whether it is there.
    fn hold_back(&mut self, room: RoomKey, received: &Received, peer: PeerKey, slot: u16) -> bool {
        let track = self.rooms[room].router.tracks.get_mut(received.track);
        let subscription = track.and_then(|track| track.subscription_mut(peer, slot));
        subscription.map(|subscription| subscription.selection.wait(received.kind)).is_some()
    }

    /// The publisher replaced a stream: its numbers start anew, and so do its subscribers' segments.
    fn restart_layer(&mut self, now: Instant, room: RoomKey, received: &Received) {
        let Some(track) = self.rooms[room].router.tracks.get_mut(received.track) else { return };
        let watched = track.is_watched(received.layer);
        track.restart(received.layer);
        let decodable = received.kind == MediaKind::Audio || received.meta.picture.keyframe;
        if !decodable && watched {
            track.layers[usize::from(received.layer)].keyframes.want();
            self.poll_keyframes(now, room);
        }
    }
}

fn srtp_profile(profile: Profile) -> SrtpProfile {
    match profile {
        Profile::AesGcm128 => SrtpProfile::AesGcm128,
        Profile::AesGcm256 => SrtpProfile::AesGcm256,
        Profile::AesCm80 => SrtpProfile::AesCm80,
    }
}

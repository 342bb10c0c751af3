//! Datagrams in: classified, matched to a peer, authenticated, and filed with the router.

use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::{Engine, Serving};
use crate::counters::{
    DropKind, DtlsOutcome, IceOutcome, JoinOutcome, Relay, RequestOutcome, SrtpProfile, Stage,
};
use crate::drop::{DropReason, FilterReason};
use crate::event::{CapCause, LeaveReason, PeerEvent};
use crate::ids::{MediaKind, PeerKey, TrackKey};
use crate::media::keyframe::Want;
use crate::path::Path;
use crate::session::dtls::{DtlsEvent, DtlsFailure};
use crate::session::srtp::Profile;
use crate::session::uplinks::{Outcome, Received};
use crate::session::{Heard, Queued};
use crate::wire::demux::{Protocol, protocol_of};
use crate::wire::rtp::RtpHeader;
use crate::wire::stun;

/// Larger datagrams are none of ours: WebRTC keeps to 1200-1500 bytes.
const MAX_DATAGRAM: usize = 2048;

impl Engine {
    /// Takes one datagram. `arrived` is when the kernel got it, `now` is when we look at it.
    pub fn handle_datagram(&mut self, now: Instant, arrived: Instant, path: Path, datagram: &mut [u8]) {
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
        let session = &mut self.sessions[key];
        let first = session.ice.last_check().is_none();
        match session.ice.handle_request(now, path, datagram) {
            Err(reason) => self.counters.dropped_in(DropKind::Other, reason),
            Ok(checked) => {
                session.push_control(path, BytesMut::from(&checked.response[..]));
                let since_join = now.saturating_duration_since(session.joined_at);
                session.checked_at.get_or_insert(now);
                if let Some(evicted) = checked.evicted {
                    self.book.remove_path(&evicted, key);
                }
                if checked.new_path {
                    self.book.add_path(path, key);
                }
                if first {
                    self.counters.ice_session(IceOutcome::Connected, Relay::None);
                    self.counters.join_stage(Stage::Ice, since_join);
                    self.reschedule(key);
                }
                self.mark_dirty(key);
            }
        }
        self.serving = Serving::Nobody;
    }

    fn handle_dtls(&mut self, now: Instant, key: PeerKey, datagram: &[u8]) {
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
                    self.counters.dtls_handshake(DtlsOutcome::Ok);
                    self.counters.srtp_session(srtp_profile(keys.profile));
                    self.counters.join_stage(Stage::Dtls, since_check);
                    self.counters.joined(JoinOutcome::Ok);
                    self.emit(key, PeerEvent::Connected);
                    self.settle(now, key);
                    let room = self.sessions[key].room;
                    self.poll_keyframes(now, room);
                }
                DtlsEvent::Closed => {
                    self.remove(now, key, LeaveReason::Closed);
                    return false;
                }
                DtlsEvent::Failed(failure) => {
                    self.counters.dtls_handshake(match failure {
                        DtlsFailure::Timeout => DtlsOutcome::Timeout,
                        DtlsFailure::Fingerprint => DtlsOutcome::Fingerprint,
                        _ => DtlsOutcome::Other,
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
        if let Err(reason) = session.handle_rtcp(now, datagram, &mut self.counters, &mut heard) {
            let kind = match reason {
                DropReason::UnknownSsrc | DropReason::UnknownPeer => DropKind::Other,
                _ => DropKind::Rtcp,
            };
            return self.counters.dropped_in(kind, reason);
        }
        if session.has_output() {
            super::flush::mark_dirty(&mut self.dirty, session, key);
        }
        for message in heard {
            match message {
                Heard::KeyframeWanted { slot } => self.want_keyframe(now, key, slot),
                Heard::SenderReport { mid } => {
                    let session = &mut self.sessions[key];
                    let Some(uplink) = session.uplinks.get(mid) else { continue };
                    let (track, ssrc) = (uplink.track, session.uplinks.active_ssrc(mid));
                    let report = ssrc
                        .and_then(|ssrc| session.uplinks.receiver_mut(ssrc))
                        .and_then(|(receiver, _)| receiver.sender_report());
                    if let Some(track) = self.rooms[session.room].router.tracks.get_mut(track) {
                        track.report = report.or(track.report);
                    }
                }
            }
        }
    }

    /// A subscriber needs a keyframe on one of its slots: its publisher hears it once, whoever else asks.
    pub(super) fn want_keyframe(&mut self, now: Instant, key: PeerKey, slot: usize) {
        let session = &self.sessions[key];
        let room = session.room;
        let Some(source) = session.slots.get(slot).and_then(|slot| slot.source()) else { return };
        let Some(track) = self.rooms[room].router.tracks.get_mut(source.track) else { return };
        self.counters.keyframe_request(match track.keyframes.want() {
            Want::Fresh => RequestOutcome::Forwarded,
            Want::Merged => RequestOutcome::Merged,
        });
        self.poll_keyframes(now, room);
    }

    fn handle_rtp(&mut self, now: Instant, arrived: Instant, key: PeerKey, datagram: &mut [u8]) {
        let Some(header) = RtpHeader::parse(datagram) else {
            return self.counters.dropped_in(DropKind::Other, DropReason::Malformed);
        };
        let session = &mut self.sessions[key];
        let received = session.handle_rtp(now, arrived, &header, datagram, &mut self.counters);
        let due = session.uplinks.poll_timeout();
        let sooner = due.is_some_and(|due| session.scheduled.is_none_or(|scheduled| due < scheduled));
        if let Some(policing) = session.uplinks.policer.poll_change() {
            let cause = if policing { CapCause::Policing } else { CapCause::Complying };
            let cap = session.cap.get();
            if policing {
                self.counters.cap_violation();
            }
            self.emit(key, PeerEvent::CapChanged { cap, cause });
        }
        if sooner {
            self.reschedule(key);
        }
        match received {
            Err((kind, reason)) => self.counters.dropped_in(kind, reason),
            Ok(Outcome::Nothing) => {}
            Ok(Outcome::Skip { track, seq }) => self.skip(key, track, seq),
            Ok(Outcome::Forward(received)) => {
                if !self.sessions[key].flowing {
                    self.note_flow(now, key);
                }
                if received.restarted {
                    self.restart_track(now, key, &header, &received);
                }
                self.forward(now, key, &received, &datagram[received.payload.clone()]);
                if received.torn && received.kind == MediaKind::Video {
                    self.mend(now, key, &received);
                }
            }
        }
    }

    /// A gap too wide to repair: if anybody watches, a keyframe must close it.
    fn mend(&mut self, now: Instant, publisher: PeerKey, received: &Received) {
        let room = self.sessions[publisher].room;
        let Some(track) = self.rooms[room].router.tracks.get_mut(received.track) else { return };
        if !received.meta.keyframe && !track.subscriptions().is_empty() {
            track.keyframes.want();
            self.poll_keyframes(now, room);
        }
    }

    /// The publisher spent a sequence number on padding: its subscribers' numbers close up.
    fn skip(&mut self, publisher: PeerKey, track: TrackKey, seq: u64) {
        let room = self.sessions[publisher].room;
        let Some(track) = self.rooms[room].router.tracks.get(track) else { return };
        for subscription in track.subscriptions() {
            if let Some(subscriber) = self.sessions.get_mut(subscription.peer)
                && let Some(slot) = subscriber.slots.get_mut(usize::from(subscription.slot))
            {
                slot.skip(seq);
            }
        }
    }

    fn note_flow(&mut self, now: Instant, key: PeerKey) {
        if let Some((since_keys, since_join)) = self.sessions[key].first_flow(now) {
            self.counters.join_stage(Stage::FirstPacket, since_keys);
            self.counters.join_stage(Stage::Total, since_join);
        }
    }

    /// Files a packet with its track and queues it for every subscriber.
    fn forward(&mut self, now: Instant, publisher: PeerKey, received: &Received, payload: &[u8]) {
        let Engine { sessions, rooms, counters, dirty, config, .. } = self;
        let session = &sessions[publisher];
        let room = session.room;
        let Some(track) = rooms[room].router.tracks.get_mut(received.track) else { return };
        let kind = received.kind;
        if !track.file(received.meta, session.uplinks.carried.as_bytes(), payload) {
            return;
        }
        if received.meta.keyframe
            && let Some(latency) = track.keyframes.on_keyframe(now)
        {
            counters.keyframe_latency(latency);
        }
        let copies = track.subscriptions().len();
        let mut waiting = false;
        counters.fanout(kind, copies);
        for subscription in track.subscriptions() {
            let Some(subscriber) = sessions.get_mut(subscription.peer) else { continue };
            let Some(slot) = subscriber.slots.get_mut(usize::from(subscription.slot)) else { continue };
            if !slot.admits(&received.meta) {
                counters.filtered(kind, FilterReason::Paused);
                continue;
            }
            let queued = Queued {
                slot: subscription.slot,
                track: received.track,
                seq: received.meta.seq,
                repair: false,
            };
            if subscriber.enqueue(queued, config.limits.queue) {
                counters.queued(kind);
                super::flush::mark_dirty(dirty, subscriber, subscription.peer);
            } else {
                counters.dropped_out(kind.into(), DropReason::QueueFull, 1);
                subscriber.slots[usize::from(subscription.slot)].lost();
                waiting |= kind == MediaKind::Video;
            }
        }
        if waiting {
            track.keyframes.want();
            self.poll_keyframes(now, room);
        }
    }

    /// The publisher replaced a stream: its numbers start anew, and so do its subscribers' segments.
    fn restart_track(&mut self, now: Instant, publisher: PeerKey, header: &RtpHeader, received: &Received) {
        let session = &mut self.sessions[publisher];
        session.bind_received(header.ssrc, received.kind);
        // A cap can be told only about streams that exist.
        session.cap.announce(now);
        let room = session.room;
        let Some(track) = self.rooms[room].router.tracks.get_mut(received.track) else { return };
        track.restart();
        for subscription in track.subscriptions() {
            if let Some(subscriber) = self.sessions.get_mut(subscription.peer)
                && let Some(slot) = subscriber.slots.get_mut(usize::from(subscription.slot))
            {
                slot.restart();
            }
        }
        let decodable = received.kind == MediaKind::Audio || received.meta.keyframe;
        if !decodable && !track.subscriptions().is_empty() {
            track.keyframes.want();
            self.poll_keyframes(now, room);
        }
        self.reschedule(publisher);
    }
}

fn srtp_profile(profile: Profile) -> SrtpProfile {
    match profile {
        Profile::AesGcm128 => SrtpProfile::AesGcm128,
        Profile::AesGcm256 => SrtpProfile::AesGcm256,
        Profile::AesCm80 => SrtpProfile::AesCm80,
    }
}

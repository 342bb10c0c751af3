//! One peer's connection: ICE, DTLS, SRTP, its negotiation, its feedback, and the queue towards it.
//!
//! Everything here is hop by hop. A session knows no room and no other peer; the engine carries values
//! between it and the router.

pub mod cap;
pub mod channels;
pub mod downlink;
pub mod dtls;
pub mod feedback;
pub mod hearing;
pub mod ice;
pub mod ledger;
pub mod negotiate;
pub mod outgoing;
pub mod quality;
pub mod reception;
pub mod repairs;
pub mod report;
pub mod rtt;
pub mod sent;
pub mod slot;
pub mod srtp;
pub mod stretch;
pub mod telling;
pub mod trace;
pub mod uplinks;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::config::{DataChannels, Subscribe};
use crate::counters::{Counters, DropKind, PathKind, Relay};
use crate::drop::DropReason;
use crate::ids::{MediaKind, Mid, PeerId, RoomKey, Ssrc, TrackKey};
use crate::interceptors::BoxedInterceptor;
use crate::media::police;
use crate::path::Path;
use crate::units::Bitrate;
use crate::wire::rtp::RtpHeader;
use cap::PublishCap;
use channels::Channels;
use downlink::Downlink;
use dtls::{Dtls, DtlsEvent};
use feedback::Feedback;
use ice::IceLite;
use negotiate::Negotiation;
use outgoing::Queued;
use quality::Quality;
use reception::Reception;
use slot::Slot;
use srtp::{Inbound, KeyMaterial, Outbound};
use telling::REPORT_INTERVAL;
use trace::JoinTrace;
use tracing::Span;
use uplinks::{Outcome, Uplink, Uplinks};

/// Slots one peer may use up in its life. Lines are reused, so that a long call needs no more than it has at
/// its fullest; a client that keeps replacing its own lines runs out.
const MAX_SLOTS: usize = 1_024;

/// A ClientHello, that with the cookie and the last flight, in a browser's two datagrams each.
const MAX_HANDSHAKE_DATAGRAMS: u8 = 6;

/// Control datagrams (STUN, DTLS, RTCP) that may wait for one flush. A handshake flight is five.
const MAX_OUTBOX: usize = 64;

/// Media protection, once DTLS has agreed on keys.
struct Secure {
    inbound: Inbound,
    outbound: Outbound,
}

/// One peer's connection.
pub struct Session {
    pub id: PeerId,
    pub name: Arc<str>,
    pub room: RoomKey,
    pub subscribe: Subscribe,
    pub ice: IceLite,
    pub dtls: Dtls,
    pub negotiation: Negotiation,
    pub uplinks: Uplinks,
    pub slots: Vec<Slot>,
    /// Publisher bound to the nth client-offered audio and video slot.
    pub seats: Vec<Option<PeerId>>,
    /// Engine-offered slots and what they carry.
    pub offered: Vec<(Mid, TrackKey)>,
    pub queue: VecDeque<Queued>,
    /// When the first of them was queued.
    pub queued_at: Instant,
    pub cap: PublishCap,
    /// What it sent when the machine's shortage first capped it, while that does.
    pub uncapped: Option<Bitrate>,
    /// So many videos at most, as its host wants.
    pub last_n: Option<u32>,
    /// There while what it receives is capped.
    pub downlink: Option<Box<Downlink>>,
    /// How far policing had gone when the host was last told.
    pub policed: police::Stage,
    pub reception: Reception,
    pub quality: Quality,
    /// What becomes of its data channels, as the host wants it.
    pub relaying: DataChannels,
    /// There once the peer has spoken SCTP.
    pub channels: Option<Box<Channels>>,
    /// Packets that the peer has asked for again.
    pub nacked_packets: u64,
    /// How long what went out last had been here: audio, video.
    pub forwarded_after: [Option<Duration>; 2],
    pub joined_at: Instant,
    /// First authenticated check, keys, first media packet either way: how far the join has come.
    pub checked_at: Option<Instant>,
    pub secured_at: Option<Instant>,
    pub flowing: bool,
    /// The spans of its join, until then.
    pub trace: Option<Box<JoinTrace>>,
    /// When its handshake began, and the datagrams of it that told when it will end.
    handshake: (Option<Instant>, u8),
    /// The next offer shall restart ICE.
    pub restart_wanted: bool,
    /// The client has come with the credentials of an ICE restart, but not moved since.
    pub restarted: bool,
    /// Checks have come that were not authentic.
    pub refused_checks: bool,
    /// The path that is booked as its own, and of what kind that is.
    pub booked_path: Option<(Path, PathKind)>,
    /// Told the host that no check has arrived.
    pub warned_unreachable: bool,
    /// In the engine's list of sessions with something to send.
    pub dirty: bool,
    /// Among those that wait for more to send.
    pub held: bool,
    /// The engine's timer entry.
    pub scheduled: Option<Instant>,
    feedback: Feedback,
    secure: Option<Secure>,
    outbox: Outbox,
    reporter: Ssrc,
    cname: Bytes,
    next_report: Option<Instant>,
}

/// Control datagrams on their way out.
#[derive(Default)]
struct Outbox {
    queue: VecDeque<(Path, BytesMut)>,
    /// Those for which there was no room: RTCP, and others.
    crowded_out: [u64; 2],
}

impl Outbox {
    fn push(&mut self, kind: DropKind, path: Path, datagram: BytesMut) {
        match self.queue.len() < MAX_OUTBOX {
            true => self.queue.push_back((path, datagram)),
            false => self.crowded_out[usize::from(kind != DropKind::Rtcp)] += 1,
        }
    }
}

/// What a session starts from.
pub struct Start {
    pub id: PeerId,
    pub name: Arc<str>,
    pub room: RoomKey,
    pub subscribe: Subscribe,
    pub ice: IceLite,
    pub dtls: Dtls,
    pub negotiation: Negotiation,
    pub interceptors: Vec<(usize, BoxedInterceptor)>,
    pub cap: Option<Bitrate>,
    pub channels: DataChannels,
    pub reporter: Ssrc,
    /// The span of its join.
    pub span: Span,
}

impl Session {
    pub fn new(now: Instant, start: Start) -> Self {
        Session {
            id: start.id,
            name: start.name,
            room: start.room,
            subscribe: start.subscribe,
            ice: start.ice,
            dtls: start.dtls,
            negotiation: start.negotiation,
            uplinks: Uplinks::new(start.reporter, start.cap),
            slots: Vec::new(),
            seats: Vec::new(),
            offered: Vec::new(),
            queue: VecDeque::new(),
            queued_at: now,
            cap: PublishCap::new(start.cap),
            uncapped: None,
            last_n: None,
            downlink: None,
            policed: police::Stage::Peace,
            reception: Reception::new(),
            quality: Quality::default(),
            relaying: start.channels,
            channels: None,
            nacked_packets: 0,
            forwarded_after: [None; 2],
            joined_at: now,
            checked_at: None,
            secured_at: None,
            flowing: false,
            trace: JoinTrace::begin(start.span, start.id),
            handshake: (None, 0),
            restart_wanted: false,
            restarted: false,
            refused_checks: false,
            booked_path: None,
            warned_unreachable: false,
            dirty: false,
            held: false,
            scheduled: None,
            feedback: Feedback::new(start.interceptors),
            secure: None,
            outbox: Outbox::default(),
            reporter: start.reporter,
            cname: Bytes::from(start.id.to_string()),
            next_report: None,
        }
    }

    /// ICE and DTLS are up.
    pub fn is_connected(&self) -> bool {
        self.secure.is_some()
    }

    /// Whether the peer announced a relay candidate with its description.
    pub fn relay_offered(&self) -> Relay {
        let mut candidates = self.negotiation.remote().into_iter().flat_map(|remote| &remote.candidates);
        match candidates.any(|candidate| candidate.kind == PathKind::Relay) {
            true => Relay::Offered,
            false => Relay::None,
        }
    }

    /// What kind of path this is, by the peer's candidates.
    pub fn path_kind(&self, path: &Path) -> PathKind {
        let candidates = self.negotiation.remote().map_or(&[][..], |remote| &remote.candidates);
        negotiate::path_kind(candidates, path.remote)
    }

    // ---- datagrams in ------------------------------------------------------------------------------

    /// Hands a datagram from a validated path to DTLS. Events follow from [`poll_dtls`](Self::poll_dtls).
    pub fn handle_dtls(&mut self, now: Instant, datagram: &[u8]) -> Result<(), DropReason> {
        let result = self.dtls.handle_datagram(now, datagram);
        self.collect_dtls();
        result
    }

    /// What came over DTLS: the packets of data channels, where they are agreed.
    pub fn handle_data(&mut self, now: Instant, data: BytesMut) -> Result<(), DropReason> {
        self.dtls.confirm();
        let most = self.negotiation.messages().ok_or(DropReason::Malformed)?;
        let new = || Box::new(Channels::new(now, usize::try_from(most).unwrap_or(usize::MAX)));
        self.channels.get_or_insert_with(new).handle_packet(now, &data.freeze())
    }

    pub fn poll_dtls(&mut self) -> Option<DtlsEvent> {
        self.dtls.poll_event()
    }

    /// Takes the keys that DTLS exported: media may flow.
    pub fn secure(&mut self, now: Instant, keys: &KeyMaterial) -> Result<(), srtp::SrtpError> {
        let (inbound, outbound) = (Inbound::new(keys)?, Outbound::new(keys)?);
        self.secure = Some(Secure { inbound, outbound });
        self.secured_at = Some(now);
        self.next_report = Some(now + REPORT_INTERVAL);
        self.cap.announce(now);
        Ok(())
    }

    /// Media flows for the first time: how long that took since the keys, and since the join.
    pub fn first_flow(&mut self, now: Instant) -> Option<(Duration, Duration)> {
        if std::mem::replace(&mut self.flowing, true) {
            return None;
        }
        self.trace = None;
        let since_keys = now.saturating_duration_since(self.secured_at?);
        Some((since_keys, now.saturating_duration_since(self.joined_at)))
    }

    /// Opens and accounts for one SRTP packet.
    pub fn handle_rtp(
        &mut self,
        now: Instant,
        arrived: Instant,
        header: &RtpHeader,
        packet: &mut [u8],
        counters: &mut Counters,
    ) -> Result<Outcome, (DropKind, DropReason)> {
        let secure = self.secure.as_mut().ok_or((DropKind::Other, DropReason::UnknownPeer))?;
        let outcome = self.uplinks.receive(now, arrived, header, packet, &mut secure.inbound, counters);
        if outcome.is_ok() {
            self.dtls.confirm();
        }
        outcome
    }

    /// A datagram of the handshake came: how long it still takes at least. `None`: that has been said often enough.
    pub fn on_handshake(&mut self, now: Instant) -> Option<Duration> {
        let (began, datagrams) = &mut self.handshake;
        if self.secure.is_some() || *datagrams == MAX_HANDSHAKE_DATAGRAMS {
            return None;
        }
        *datagrams += 1;
        // With the cookie it comes again after one round trip, and one is left.
        Some(now.saturating_duration_since(*began.get_or_insert(now)))
    }

    // ---- datagrams out -------------------------------------------------------------------------------

    /// Bytes that sealing adds to a packet.
    pub fn seal_overhead(&self) -> usize {
        self.secure.as_ref().map_or(0, |secure| secure.outbound.overhead())
    }

    /// The next control datagram, with where it goes.
    pub fn poll_control(&mut self) -> Option<(Path, BytesMut)> {
        self.outbox.queue.pop_front()
    }

    /// The next datagram of the data channels.
    #[inline]
    pub fn poll_channels(&mut self, now: Instant) -> Option<(Path, BytesMut)> {
        let channels = self.channels.as_mut()?;
        let path = self.ice.selected()?;
        let packet = channels.poll_transmit(now)?;
        Some((path, self.dtls.seal(now, &packet)?))
    }

    /// Whether the data channels have made packets: their timers have changed.
    #[inline]
    pub fn made_packets(&mut self) -> bool {
        self.channels.as_mut().is_some_and(|channels| channels.take_gathered())
    }

    /// Books the control datagrams for which there was no room.
    pub fn tell_crowded_out(&mut self, counters: &mut Counters) {
        let [rtcp, other] = std::mem::take(&mut self.outbox.crowded_out);
        counters.dropped_out(DropKind::Rtcp, DropReason::QueueFull, rtcp);
        counters.dropped_out(DropKind::Other, DropReason::QueueFull, other);
    }

    /// Puts a datagram that could not be sent back in front.
    pub fn return_control(&mut self, path: Path, datagram: BytesMut) {
        self.outbox.queue.push_front((path, datagram));
    }

    pub fn has_output(&self) -> bool {
        let speaks = self.channels.as_ref().is_some_and(|channels| channels.has_output());
        !self.outbox.queue.is_empty() || !self.queue.is_empty() || speaks
    }

    pub fn push_control(&mut self, path: Path, datagram: BytesMut) {
        self.outbox.push(DropKind::Other, path, datagram);
    }

    // ---- time --------------------------------------------------------------------------------------

    /// When the session next wants [`handle_timeout`](Self::handle_timeout).
    pub fn poll_timeout(&mut self) -> Option<Instant> {
        let media = match self.secure {
            Some(_) => [
                self.next_report,
                self.uplinks.poll_timeout(),
                self.cap.poll_timeout(),
                self.feedback.poll_timeout(),
            ],
            None => [None; 4],
        };
        let channels = self.channels.as_ref().and_then(|channels| channels.poll_timeout());
        [self.ice.poll_timeout(), self.dtls.poll_timeout(), channels].into_iter().chain(media).flatten().min()
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        if self.dtls.poll_timeout().is_some_and(|at| at <= now) {
            self.dtls.handle_timeout(now);
            self.collect_dtls();
        }
        if let Some(channels) = &mut self.channels {
            channels.handle_timeout(now);
        }
    }

    /// Says goodbye to the client: close_notify on the selected path.
    pub fn close(&mut self, now: Instant) {
        self.dtls.close(now);
        self.collect_dtls();
    }

    fn collect_dtls(&mut self) {
        while let Some(datagram) = self.dtls.poll_transmit() {
            if let Some(path) = self.ice.selected() {
                self.push_control(path, datagram);
            }
        }
    }

    // ---- negotiation -------------------------------------------------------------------------------

    /// Brings the slots in line with what is negotiated. Slots are never removed, so that their indices
    /// stay good; one whose m-line is gone is merely no longer agreed.
    pub fn sync_slots(&mut self, mut random: impl FnMut() -> u32) {
        for slot in &mut self.slots {
            slot.agreed = false;
        }
        let full = self.slots.len() >= MAX_SLOTS;
        let wanted = self.negotiation.slots().count().min(MAX_SLOTS);
        self.slots.reserve_exact(wanted.saturating_sub(self.slots.len()));
        for negotiated in self.negotiation.slots() {
            let same = |slot: &&mut Slot| slot.mid == negotiated.mid && slot.ssrc == negotiated.ssrc;
            match self.slots.iter_mut().find(same) {
                Some(slot) => slot.update(negotiated),
                None if full => {}
                None => {
                    // RFC 3711 §3.3.1: starting in the lower half avoids ambiguity about the first rollover.
                    let first_seq = (random() & 0x7fff) as u16;
                    self.feedback.bind_sent(negotiated.ssrc, negotiated.kind);
                    self.slots.push(Slot::new(negotiated, first_seq, random()));
                }
            }
        }
    }

    /// The slot of an m-line: the latest, should the line have been replaced.
    pub fn slot_index(&self, mid: Mid) -> Option<usize> {
        self.slots.iter().rposition(|slot| slot.mid == mid)
    }

    /// Ends a published section: its streams are forgotten everywhere.
    pub fn remove_uplink(&mut self, mid: Mid) -> Option<Uplink> {
        let Session { uplinks, feedback, secure, .. } = self;
        let kind = uplinks.get(mid)?.kind;
        for (ssrc, _) in uplinks.media_ssrcs_of(mid) {
            feedback.unbind_received(ssrc, kind);
        }
        uplinks.remove(mid, |ssrc| {
            if let Some(secure) = secure {
                secure.inbound.forget(ssrc);
            }
        })
    }

    /// Tells the chain about the media streams that have shown themselves since.
    pub fn bind_received(&mut self, ssrc: Ssrc, kind: MediaKind) {
        self.feedback.bind_received(ssrc, kind);
    }
}

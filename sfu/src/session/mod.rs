//! One peer's connection: ICE, DTLS, SRTP, its negotiation, its feedback, and the queue towards it.
//!
//! Everything here is hop by hop. A session knows no room and no other peer; the engine carries values
//! between it and the router.

pub mod cap;
pub mod dtls;
pub mod feedback;
pub mod ice;
pub mod negotiate;
pub mod rtt;
pub mod sent;
pub mod slot;
pub mod srtp;
pub mod uplinks;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;
use rtcp::receiver_report::ReceiverReport;
use rtcp::reception_report::ReceptionReport;
use rtcp::sender_report::SenderReport;
use rtcp::source_description::{SdesType, SourceDescription, SourceDescriptionChunk, SourceDescriptionItem};
use rtcp::transport_feedbacks::transport_layer_cc::{PacketStatusChunk, SymbolTypeTcc, TransportLayerCc};
use rtcp::transport_feedbacks::transport_layer_nack::{TransportLayerNack, nack_pairs_from_sequence_numbers};

use crate::config::Subscribe;
use crate::congestion::throttle::Throttle;
use crate::counters::{Counters, DropKind};
use crate::drop::DropReason;
use crate::ids::{Feed, MediaKind, Mid, PeerId, PeerKey, RoomKey, Ssrc, TrackKey};
use crate::interceptors::BoxedInterceptor;
use crate::media::budget::{RateMeter, TokenBucket};
use crate::path::Path;
use crate::units::Bitrate;
use crate::wire::rtp::RtpHeader;
use cap::PublishCap;
use dtls::{Dtls, DtlsEvent};
use feedback::{Feedback, Rtcp};
use ice::IceLite;
use negotiate::Negotiation;
use rtt::RoundTrip;
use sent::SentPackets;
use slot::{Piece, Slot};
use srtp::{Inbound, KeyMaterial, Outbound};
use uplinks::{Outcome, Uplink, Uplinks};

/// Sender and receiver reports go out once a second: RFC 3550 §6.2 allows more, nobody needs it.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Repairs may take this share of what a subscriber receives; a flood of requests gets no more.
const REPAIR_PERCENT: u64 = 15;
/// … but so much at least, or a quiet stream could not be repaired at all.
const LEAST_REPAIRS: Bitrate = Bitrate::kbps(100);
/// Losses come in bursts: the repairs of a lost frame must fit. In bytes.
const REPAIR_BURST: u64 = 32 * 1024;

/// Slots one peer may use up in its life. Lines are reused, so that a long call needs no more than it has at
/// its fullest; a client that keeps replacing its own lines runs out.
const MAX_SLOTS: usize = 1_024;

/// Pairs in one NACK: a quarter of a datagram.
const MAX_NACK_PAIRS: usize = 64;

/// Sequence numbers of one compound that are looked at. A subscriber misses a few, or has lost the thread.
const MAX_NUMBERS_ASKED: usize = 300;

/// Waiting packets beyond which no more repairs are queued.
const MAX_REPAIRS_QUEUED: usize = 256;

/// A client that has sent transport-wide feedback within this time goes on doing so.
const FEEDBACK_LASTS: Duration = Duration::from_secs(2);

/// A greater estimate is none, in bits per second.
const MAX_ESTIMATE: f32 = 1e9;

/// Bytes of RTCP per datagram, before sealing: with headers it stays below every usual MTU.
const MAX_COMPOUND: usize = 1_150;

/// Control datagrams (STUN, DTLS, RTCP) that may wait for one flush. A handshake flight is five.
const MAX_OUTBOX: usize = 64;

/// A packet waiting for its turn: a descriptor, never bytes.
#[derive(Clone, Copy, Debug)]
pub struct Queued {
    pub slot: u16,
    pub feed: Feed,
    pub seq: u64,
    pub purpose: Purpose,
    /// What the subscriber gets of the stream: the largest spatial and the fastest temporal layer.
    pub passes: (u8, u8),
}

impl Queued {
    /// Of a stream that passes whole.
    pub fn new(slot: u16, feed: Feed, seq: u64, purpose: Purpose) -> Queued {
        Queued { slot, feed, seq, purpose, passes: (u8::MAX, u8::MAX) }
    }
}

/// What a waiting descriptor is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// The packet's first transmission.
    First,
    /// The subscriber asked for it again.
    Repair,
    /// It is left out on purpose: the numbers close up, in the order in which the packets go.
    Skip,
}

/// Media protection, once DTLS has agreed on keys.
struct Secure {
    inbound: Inbound,
    outbound: Outbound,
}

/// What a received compound asks of the engine.
#[derive(Debug)]
pub enum Heard {
    /// A subscriber cannot decode without a keyframe.
    KeyframeWanted { slot: usize },
    /// A publisher's clock mapping is new.
    SenderReport { ssrc: Ssrc },
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
    pub seats: Vec<Option<PeerKey>>,
    /// Engine-offered slots and what they carry.
    pub offered: Vec<(Mid, TrackKey)>,
    pub queue: VecDeque<Queued>,
    pub cap: PublishCap,
    pub joined_at: Instant,
    /// First authenticated check, keys, first media packet either way: how far the join has come.
    pub checked_at: Option<Instant>,
    pub secured_at: Option<Instant>,
    pub flowing: bool,
    /// Its handshake has begun, and keyframes have been asked for on its behalf.
    pub expected: bool,
    /// The next offer shall restart ICE.
    pub restart_wanted: bool,
    /// Told the host that no check has arrived.
    pub warned_unreachable: bool,
    /// In the engine's list of sessions with something to send.
    pub dirty: bool,
    /// The engine's timer entry.
    pub scheduled: Option<Instant>,
    feedback: Feedback,
    secure: Option<Secure>,
    outbox: VecDeque<(Path, BytesMut)>,
    reporter: Ssrc,
    cname: Bytes,
    next_report: Option<Instant>,
    sent: SentPackets,
    rtt: RoundTrip,
    /// What goes out to the peer for the first time, and the share of it that repairs may have.
    egress: RateMeter,
    repairs: TokenBucket,
    /// What the peer's network has room for.
    pub throttle: Throttle,
    /// The last transport-wide feedback.
    feedback_at: Option<Instant>,
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
    pub reporter: Ssrc,
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
            cap: PublishCap::new(start.cap),
            joined_at: now,
            checked_at: None,
            secured_at: None,
            flowing: false,
            expected: false,
            restart_wanted: false,
            warned_unreachable: false,
            dirty: false,
            scheduled: None,
            feedback: Feedback::new(start.interceptors),
            secure: None,
            outbox: VecDeque::new(),
            reporter: start.reporter,
            cname: Bytes::from(start.id.to_string()),
            next_report: None,
            sent: SentPackets::default(),
            rtt: RoundTrip::new(),
            egress: RateMeter::default(),
            repairs: TokenBucket::new(LEAST_REPAIRS, REPAIR_BURST),
            throttle: Throttle::default(),
            feedback_at: None,
        }
    }

    /// ICE and DTLS are up.
    pub fn is_connected(&self) -> bool {
        self.secure.is_some()
    }

    // ---- datagrams in ------------------------------------------------------------------------------

    /// Hands a datagram from a validated path to DTLS. Events follow from [`poll_dtls`](Self::poll_dtls).
    pub fn handle_dtls(&mut self, now: Instant, datagram: &[u8]) -> Result<(), DropReason> {
        let result = self.dtls.handle_datagram(now, datagram);
        self.collect_dtls();
        result
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

    /// Opens one SRTCP compound, walks it through the chain and acts on what concerns this connection.
    pub fn handle_rtcp(
        &mut self,
        now: Instant,
        packet: &[u8],
        counters: &mut Counters,
        heard: &mut Vec<Heard>,
    ) -> Result<(), DropReason> {
        let secure = self.secure.as_mut().ok_or(DropReason::UnknownPeer)?;
        let uplinks = &self.uplinks;
        let plain = secure.inbound.open_rtcp(packet, |ssrc| uplinks.sends(ssrc))?;
        self.dtls.confirm();
        // A feedback message may name at most the packets we have outstanding.
        crate::wire::rtcp::gate(&plain, self.sent.outstanding())?;
        let packets = self.feedback.read(now, plain.freeze()).ok_or(DropReason::Malformed)?;
        let mut allowance = MAX_NUMBERS_ASKED;
        for packet in &packets {
            self.hear(now, packet, heard, &mut allowance);
        }
        self.feedback.fold_into(counters);
        Ok(())
    }

    fn hear(&mut self, now: Instant, packet: &Rtcp, heard: &mut Vec<Heard>, allowance: &mut usize) {
        let any = packet.as_any();
        if let Some(pli) = any.downcast_ref::<PictureLossIndication>() {
            self.hear_keyframe_request(pli.media_ssrc, heard);
        } else if let Some(fir) = any.downcast_ref::<FullIntraRequest>() {
            // One compound carries at most a few entries worth acting on; merging makes repeats free.
            for entry in fir.fir.iter().take(self.slots.len()) {
                self.hear_keyframe_request(entry.ssrc, heard);
            }
        } else if let Some(report) = any.downcast_ref::<SenderReport>() {
            self.hear_report_blocks(now, &report.reports);
            let ssrc = Ssrc(report.ssrc);
            if let Some((receiver, _)) = self.uplinks.receiver_mut(ssrc) {
                receiver.on_sender_report(now, report.ntp_time, report.rtp_time);
                heard.push(Heard::SenderReport { ssrc });
            }
        } else if let Some(report) = any.downcast_ref::<ReceiverReport>() {
            self.hear_report_blocks(now, &report.reports);
        } else if let Some(nack) = any.downcast_ref::<TransportLayerNack>() {
            self.hear_nack(now, nack, allowance);
        } else if let Some(remb) = any.downcast_ref::<ReceiverEstimatedMaximumBitrate>() {
            if !self.hears_feedback(now) {
                self.throttle.on_estimate(now, Bitrate::bps(remb.bitrate.clamp(0.0, MAX_ESTIMATE) as u64));
            }
        } else if let Some(feedback) = any.downcast_ref::<TransportLayerCc>() {
            let (base, count) = (feedback.base_sequence_number, feedback.packet_status_count);
            if let Some(told) = self.sent.on_feedback(now, base, count, statuses(feedback)) {
                self.rtt.on_at_most(told.age);
                self.throttle.on_feedback(now, told.packets, told.lost, told.arrived);
                self.feedback_at = Some(now);
            }
        }
    }

    fn hear_report_blocks(&mut self, now: Instant, blocks: &[ReceptionReport]) {
        for block in blocks {
            self.rtt.on_report_block(now, block.last_sender_report, block.delay);
        }
        if self.hears_feedback(now) {
            return;
        }
        // Without transport-wide feedback, the reports about video say what gets lost.
        let video = |block: &&ReceptionReport| {
            self.slots.iter().any(|slot| slot.ssrc.0 == block.ssrc && slot.kind == MediaKind::Video)
        };
        if let Some(worst) = blocks.iter().filter(video).map(|block| u64::from(block.fraction_lost)).max() {
            // As if half a second's worth of packets had been told of, which is what the throttle looks at.
            let arrived = self.egress.rate(now).as_bps() / 16 * (256 - worst) / 256;
            self.throttle.on_feedback(now, 256, worst, arrived);
        }
    }

    /// The client tells the fate of every packet, so that its reports and estimates need not be heeded.
    fn hears_feedback(&self, now: Instant) -> bool {
        self.feedback_at.is_some_and(|at| now.saturating_duration_since(at) < FEEDBACK_LASTS)
    }

    /// Queues a repair for each packet that is asked for and may be sent again. What the ring no longer
    /// has is found out when its turn comes.
    fn hear_nack(&mut self, now: Instant, nack: &TransportLayerNack, allowance: &mut usize) {
        let rtt = self.rtt.get();
        let Some(index) = self.slots.iter().position(|slot| slot.ssrc.0 == nack.media_ssrc) else { return };
        let slot = &mut self.slots[index];
        if !(slot.live && slot.takes_repairs()) {
            return;
        }
        let asked = nack.nacks.iter().flat_map(|pair| pair.packet_list()).take(*allowance);
        for seq in asked {
            *allowance -= 1;
            if self.queue.len() >= MAX_REPAIRS_QUEUED {
                return;
            }
            if let Some((feed, seq)) = slot.judge_request(now, seq, rtt) {
                let (slot, purpose, passes) = (index as u16, Purpose::Repair, slot.passes);
                self.queue.push_back(Queued { slot, feed, seq, purpose, passes });
            }
        }
    }

    /// A subscriber may only speak about what we send it.
    fn hear_keyframe_request(&mut self, media_ssrc: u32, heard: &mut Vec<Heard>) {
        if let Some(slot) =
            self.slots.iter().position(|slot| slot.ssrc.0 == media_ssrc && slot.kind == MediaKind::Video)
        {
            heard.push(Heard::KeyframeWanted { slot });
        }
    }

    // ---- RTCP out ----------------------------------------------------------------------------------

    /// Asks the publisher for a keyframe of one layer of its section `mid`.
    pub fn request_keyframe(&mut self, now: Instant, mid: Mid, layer: u8, counters: &mut Counters) {
        if let Some(ssrc) = self.uplinks.active_ssrc(mid, layer) {
            let pli = PictureLossIndication { sender_ssrc: self.reporter.0, media_ssrc: ssrc.0 };
            self.send_rtcp(now, vec![Box::new(pli)], counters);
        }
    }

    /// Sends the reports, feedback and caps that are due.
    pub fn send_due_rtcp(&mut self, now: Instant, counters: &mut Counters, sender_reports: Vec<Rtcp>) {
        if self.secure.is_none() {
            return;
        }
        let mut packets: Vec<Rtcp> = Vec::new();
        if self.next_report.is_some_and(|at| at <= now) {
            self.next_report = Some(now + REPORT_INTERVAL);
            let share = self.egress.rate(now).as_bps() * REPAIR_PERCENT / 100;
            self.repairs.set_rate(Bitrate::bps(share).max(LEAST_REPAIRS));
            let reports = self.uplinks.report_blocks(now);
            if !reports.is_empty() {
                packets.push(Box::new(ReceiverReport {
                    ssrc: self.reporter.0,
                    reports,
                    ..Default::default()
                }));
            }
            self.note_sender_reports(now, &sender_reports);
            packets.extend(sender_reports);
        }
        if let Some(bitrate) = self.cap.poll(now) {
            let ssrcs = self.uplinks.remb_ssrcs();
            if !ssrcs.is_empty() {
                packets.push(Box::new(ReceiverEstimatedMaximumBitrate {
                    sender_ssrc: self.reporter.0,
                    bitrate: bitrate.as_bps() as f32,
                    ssrcs,
                }));
            }
        }
        let rtt = self.rtt.get();
        let sender_ssrc = self.reporter.0;
        self.uplinks.poll_nacks(now, rtt, |media, lost| {
            for pairs in nack_pairs_from_sequence_numbers(&lost).chunks(MAX_NACK_PAIRS) {
                let nacks = pairs.to_vec();
                packets.push(Box::new(TransportLayerNack { sender_ssrc, media_ssrc: media.0, nacks }));
            }
        });
        // Transport-wide feedback is about the connection; which of its streams it names does not matter.
        let named = self.uplinks.media_ssrcs().next().map_or(Ssrc(0), |(ssrc, _)| ssrc);
        while let Some(feedback) = self.uplinks.arrivals.poll_feedback(now, named) {
            packets.push(Box::new(feedback));
        }
        if !packets.is_empty() {
            self.send_rtcp(now, packets, counters);
        }
        let Session { feedback, secure, outbox, ice, .. } = self;
        feedback.handle_timeout(now, |compound| seal_rtcp(secure, outbox, ice, &compound));
        self.feedback.fold_into(counters);
    }

    /// The sender reports of every live slot whose publisher has sent one.
    pub fn is_report_due(&self, now: Instant) -> bool {
        self.secure.is_some() && self.next_report.is_some_and(|at| at <= now)
    }

    /// A source description for one outgoing stream: with its sender report, RFC 3550 §6.5.
    pub fn source_description(&self, ssrc: Ssrc) -> Rtcp {
        let item = SourceDescriptionItem { sdes_type: SdesType::SdesCname, text: self.cname.clone() };
        let chunks = vec![SourceDescriptionChunk { source: ssrc.0, items: vec![item] }];
        Box::new(SourceDescription { chunks })
    }

    /// Sends the packets in as many compounds as keep each within one datagram.
    fn send_rtcp(&mut self, now: Instant, packets: Vec<Rtcp>, counters: &mut Counters) {
        let mut compound: Vec<Rtcp> = Vec::new();
        let mut size = 0;
        for packet in packets {
            if size + packet.raw_size() > MAX_COMPOUND && !compound.is_empty() {
                self.send_compound(now, std::mem::take(&mut compound));
                size = 0;
            }
            // RFC 3550 §6.1: a compound starts with a report.
            let leads = packet.as_any().is::<ReceiverReport>() || packet.as_any().is::<SenderReport>();
            if compound.is_empty() && !leads {
                compound.push(Box::new(ReceiverReport { ssrc: self.reporter.0, ..Default::default() }));
                size += 8;
            }
            size += packet.raw_size();
            compound.push(packet);
        }
        if !compound.is_empty() {
            self.send_compound(now, compound);
        }
        self.feedback.fold_into(counters);
    }

    fn send_compound(&mut self, now: Instant, packets: Vec<Rtcp>) {
        let Session { feedback, secure, outbox, ice, .. } = self;
        feedback.write(now, packets, |compound| seal_rtcp(secure, outbox, ice, &compound));
    }

    // ---- packets out -------------------------------------------------------------------------------

    /// Queues a packet for one slot. False: the queue is full.
    pub fn enqueue(&mut self, queued: Queued, limit: usize) -> bool {
        let fits = self.queue.len() < limit;
        if fits {
            self.queue.push_back(queued);
        }
        fits
    }

    /// Bytes that sealing adds to a packet.
    pub fn seal_overhead(&self) -> usize {
        self.secure.as_ref().map_or(0, |secure| secure.outbound.overhead())
    }

    /// The kinds of what waits in the queue for its first transmission.
    pub fn queued_kinds(&self) -> impl Iterator<Item = MediaKind> {
        let first = self.queue.iter().filter(|queued| queued.purpose == Purpose::First);
        first.filter_map(|queued| Some(self.slots.get(usize::from(queued.slot))?.kind))
    }

    /// Rewrites and seals one stored packet into `out`. The sealed length, or why it cannot go.
    pub fn write_packet(
        &mut self,
        now: Instant,
        queued: &Queued,
        piece: &Piece<'_>,
        out: &mut [u8],
    ) -> Result<usize, DropReason> {
        let secure = self.secure.as_mut().ok_or(DropReason::Expired)?;
        let slot = self.slots.get_mut(usize::from(queued.slot)).ok_or(DropReason::Expired)?;
        let number = self.sent.next_number();
        let (written, stream) = match queued.purpose {
            Purpose::First => {
                let written = slot.write(now, piece, number, out).ok_or(DropReason::Expired)?;
                slot.passes = queued.passes;
                (written, slot.stream(|ssrc| secure.outbound.open_stream(ssrc)))
            }
            Purpose::Skip => return Err(DropReason::Expired),
            Purpose::Repair => {
                if !self.repairs.take(now, piece.stored.payload.len()) {
                    return Err(DropReason::QueueFull);
                }
                let written = slot.write_repair(piece, number, out).ok_or(DropReason::Expired)?;
                let stream = slot.repair_stream(|ssrc| secure.outbound.open_stream(ssrc));
                (written, stream.ok_or(DropReason::Expired)?)
            }
        };
        let sealed = secure
            .outbound
            .seal_rtp(stream, written.index, written.header_len, written.plain_len, out)
            .map_err(|_| DropReason::Expired)?;
        if queued.purpose == Purpose::First {
            self.egress.add(now, sealed);
        }
        if slot.numbers_transport() {
            self.sent.record(now, sealed);
        }
        Ok(sealed)
    }

    /// The next control datagram, with where it goes.
    pub fn poll_control(&mut self) -> Option<(Path, BytesMut)> {
        self.outbox.pop_front()
    }

    /// Sender reports have left: reports about them will tell the round trip.
    fn note_sender_reports(&mut self, now: Instant, packets: &[Rtcp]) {
        for report in packets.iter().filter_map(|packet| packet.as_any().downcast_ref::<SenderReport>()) {
            self.rtt.on_sender_report(now, report.ntp_time);
        }
    }

    /// Puts a datagram that could not be sent back in front.
    pub fn return_control(&mut self, path: Path, datagram: BytesMut) {
        self.outbox.push_front((path, datagram));
    }

    pub fn has_output(&self) -> bool {
        !self.outbox.is_empty() || !self.queue.is_empty()
    }

    pub fn push_control(&mut self, path: Path, datagram: BytesMut) {
        if self.outbox.len() < MAX_OUTBOX {
            self.outbox.push_back((path, datagram));
        }
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
        [self.ice.poll_timeout(), self.dtls.poll_timeout()].into_iter().chain(media).flatten().min()
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        if self.dtls.poll_timeout().is_some_and(|at| at <= now) {
            self.dtls.handle_timeout(now);
            self.collect_dtls();
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

/// Whether each packet arrived that the feedback is about, as far as its chunks say.
fn statuses(feedback: &TransportLayerCc) -> impl Iterator<Item = bool> {
    let arrived = |symbol: &SymbolTypeTcc| *symbol != SymbolTypeTcc::PacketNotReceived;
    feedback.packet_chunks.iter().flat_map(move |chunk| -> Box<dyn Iterator<Item = bool>> {
        match chunk {
            PacketStatusChunk::RunLengthChunk(run) => {
                Box::new(std::iter::repeat_n(arrived(&run.packet_status_symbol), usize::from(run.run_length)))
            }
            PacketStatusChunk::StatusVectorChunk(vector) => Box::new(vector.symbol_list.iter().map(arrived)),
        }
    })
}

fn seal_rtcp(
    secure: &mut Option<Secure>,
    outbox: &mut VecDeque<(Path, BytesMut)>,
    ice: &IceLite,
    compound: &[u8],
) {
    if let (Some(secure), Some(path)) = (secure, ice.selected())
        && outbox.len() < MAX_OUTBOX
    {
        outbox.push_back((path, secure.outbound.seal_rtcp(compound)));
    }
}

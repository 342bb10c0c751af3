//! One peer's connection: ICE, DTLS, SRTP, its negotiation, its feedback, and the queue towards it.
//!
//! Everything here is hop by hop. A session knows no room and no other peer; the engine carries values
//! between it and the router.

pub mod cap;
pub mod dtls;
pub mod feedback;
pub mod ice;
pub mod ledger;
pub mod negotiate;
pub mod quality;
pub mod reception;
pub mod repairs;
pub mod rtt;
pub mod sent;
pub mod slot;
pub mod srtp;
pub mod stretch;
pub mod uplinks;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rtcp::extended_report::ExtendedReport;
use rtcp::extended_report::dlrr::DLRRReportBlock;
use rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;
use rtcp::receiver_report::ReceiverReport;
use rtcp::reception_report::ReceptionReport;
use rtcp::sender_report::SenderReport;
use rtcp::source_description::{SdesType, SourceDescription, SourceDescriptionChunk, SourceDescriptionItem};
use rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc;
use rtcp::transport_feedbacks::transport_layer_nack::{TransportLayerNack, nack_pairs_from_sequence_numbers};

use crate::config::Subscribe;
use crate::counters::{Counters, Direction, DropKind, PathKind, Relay, RepairOutcome};
use crate::drop::DropReason;
use crate::ids::{Feed, MediaKind, Mid, PeerId, PeerKey, RoomKey, Ssrc, TrackKey};
use crate::interceptors::BoxedInterceptor;
use crate::media::loss::Totals;
use crate::media::resend::Verdict;
use crate::path::Path;
use crate::units::Bitrate;
use crate::wire::rtp::RtpHeader;
use cap::PublishCap;
use dtls::{Dtls, DtlsEvent};
use feedback::{Feedback, Rtcp};
use ice::IceLite;
use ledger::Ledger;
use negotiate::Negotiation;
use quality::Quality;
use reception::{Lost, Reception};
use repairs::Missing;
use sent::First;
use slot::{Piece, Slot};
use srtp::{Inbound, KeyMaterial, Outbound};
use stretch::Stretch;
use uplinks::{Outcome, Uplink, Uplinks};

/// Sender and receiver reports go out once a second: RFC 3550 §6.2 allows more, nobody needs it.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Slots one peer may use up in its life. Lines are reused, so that a long call needs no more than it has at
/// its fullest; a client that keeps replacing its own lines runs out.
const MAX_SLOTS: usize = 1_024;

/// Pairs in one NACK: a quarter of a datagram.
const MAX_NACK_PAIRS: usize = 64;

/// Waiting packets beyond which no more repairs are queued.
const MAX_REPAIRS_QUEUED: usize = 256;

/// A ClientHello, that with the cookie and the last flight, in a browser's two datagrams each.
const MAX_HANDSHAKE_DATAGRAMS: u8 = 6;

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
    /// It begins what the subscriber gets of the feed: whatever was held back before it leaves no gap.
    pub starts: bool,
    /// A repair that a NACK has asked for: what becomes of it is booked.
    pub asked: bool,
    /// About how long it will be, less what all packets have. Zero where that does not matter.
    pub size: u16,
}

impl Queued {
    /// Of a stream that passes whole.
    pub fn new(slot: u16, feed: Feed, seq: u64, purpose: Purpose) -> Queued {
        let passes = (u8::MAX, u8::MAX);
        Queued { slot, feed, seq, purpose, passes, starts: false, asked: false, size: 0 }
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
    /// A subscriber cannot decode these slots without a keyframe.
    KeyframeWanted { slots: Vec<usize> },
    /// A subscriber asks for a packet that it misses.
    Missing(Missing),
    /// Its feedback says that a packet is lost, and so is the repair, or the request.
    Lost(Missing),
    /// A publisher's clock mapping is new.
    SenderReport { ssrc: Ssrc },
    /// A subscriber has told how it gets what goes out on this slot.
    Reported { slot: usize },
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
    /// When the first of them was queued.
    pub queued_at: Instant,
    pub cap: PublishCap,
    pub reception: Reception,
    pub quality: Quality,
    /// Packets that the peer has asked for again.
    pub nacked_packets: u64,
    /// How long what went out last had been here: audio, video.
    pub forwarded_after: [Option<Duration>; 2],
    pub joined_at: Instant,
    /// First authenticated check, keys, first media packet either way: how far the join has come.
    pub checked_at: Option<Instant>,
    pub secured_at: Option<Instant>,
    pub flowing: bool,
    /// When its handshake began, and the datagrams of it that told when it will end.
    handshake: (Option<Instant>, u8),
    /// The next offer shall restart ICE.
    pub restart_wanted: bool,
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
            queued_at: now,
            cap: PublishCap::new(start.cap),
            reception: Reception::new(),
            quality: Quality::default(),
            nacked_packets: 0,
            forwarded_after: [None; 2],
            joined_at: now,
            checked_at: None,
            secured_at: None,
            flowing: false,
            handshake: (None, 0),
            restart_wanted: false,
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
        counters.ingress_rtcp(plain.len());
        // A feedback message may name at most the packets we have outstanding.
        crate::wire::rtcp::gate(&plain, self.reception.outstanding())?;
        let packets = self.feedback.read(now, plain.freeze()).ok_or(DropReason::Malformed)?;
        let mut ledger = self.feedback.open_ledger();
        self.nacked_packets += ledger.asked();
        for packet in &packets {
            self.hear(now, packet, counters, heard, &mut ledger);
        }
        ledger.close(counters);
        self.feedback.fold_into(counters);
        Ok(())
    }

    fn hear(
        &mut self,
        now: Instant,
        packet: &Rtcp,
        counters: &mut Counters,
        heard: &mut Vec<Heard>,
        ledger: &mut Ledger,
    ) {
        let any = packet.as_any();
        if let Some(pli) = any.downcast_ref::<PictureLossIndication>() {
            heard.push(Heard::KeyframeWanted {
                slots: self.slot_to_refresh(pli.media_ssrc).into_iter().collect(),
            });
            ledger.take_keyframe_request();
        } else if let Some(fir) = any.downcast_ref::<FullIntraRequest>() {
            // One compound carries at most a few entries worth acting on; merging makes repeats free.
            let entries = fir.fir.iter().take(self.slots.len());
            let slots = entries.filter_map(|entry| self.slot_to_refresh(entry.ssrc)).collect();
            heard.push(Heard::KeyframeWanted { slots });
            ledger.take_keyframe_request();
        } else if let Some(report) = any.downcast_ref::<SenderReport>() {
            self.hear_report_blocks(now, &report.reports, counters, heard);
            let ssrc = Ssrc(report.ssrc);
            if let Some((receiver, _)) = self.uplinks.receiver_mut(ssrc) {
                receiver.on_sender_report(now, report.ntp_time, report.rtp_time);
                heard.push(Heard::SenderReport { ssrc });
            }
        } else if let Some(report) = any.downcast_ref::<ReceiverReport>() {
            self.hear_report_blocks(now, &report.reports, counters, heard);
        } else if let Some(nack) = any.downcast_ref::<TransportLayerNack>() {
            self.reception.on_request(packet.raw_size());
            self.hear_nack(nack, heard, ledger);
        } else if let Some(report) = any.downcast_ref::<ExtendedReport>() {
            self.reception.on_reference(now, report);
        } else if let Some(remb) = any.downcast_ref::<ReceiverEstimatedMaximumBitrate>() {
            self.reception.on_estimate(now, remb.bitrate);
        } else if let Some(feedback) = any.downcast_ref::<TransportLayerCc>() {
            let unmatched = self.hear_feedback(now, feedback, heard);
            counters.unmatched_feedback(u64::from(unmatched));
        }
    }

    /// Returns whether it is about packets that we have forgotten, or never sent.
    fn hear_feedback(&mut self, now: Instant, feedback: &TransportLayerCc, heard: &mut Vec<Heard>) -> bool {
        let unmatched = self.reception.unmatched();
        let Session { reception, slots, .. } = self;
        reception.on_feedback(now, feedback, |lost| {
            let (Lost::First(First { slot: index, .. }) | Lost::Repair(Missing { slot: index, .. })) = lost;
            let slot = slots.get_mut(usize::from(index));
            let Some(slot) = slot.filter(|slot| slot.live && slot.takes_repairs()) else { return };
            match lost {
                Lost::First(First { seq, .. }) => {
                    let missing = slot.missing(index, seq);
                    // Of one that was asked for, feedback tells what becomes of the repair.
                    let unasked = missing.filter(|missing| !slot.has_repaired(missing.number));
                    heard.extend(unasked.map(Heard::Lost));
                }
                Lost::Repair(missing) => {
                    slot.on_repair_lost(now, missing.number);
                    heard.push(Heard::Lost(missing));
                }
            }
        });
        reception.unmatched() > unmatched
    }

    fn hear_report_blocks(
        &mut self,
        now: Instant,
        blocks: &[ReceptionReport],
        counters: &mut Counters,
        heard: &mut Vec<Heard>,
    ) {
        // Each slot once: a report has no more to tell, and its blocks are many.
        for (index, slot) in self.slots.iter_mut().enumerate() {
            let Some(block) = blocks.iter().find(|block| block.ssrc == slot.ssrc.0) else { continue };
            let Some(clock_rate) = slot.source().map(|source| source.codec.clock_rate()) else { continue };
            // 24 bits, signed.
            let lost = (block.total_lost << 8) as i32 >> 8;
            let totals = Totals { expected: block.last_sequence_number, lost };
            let jitter = Duration::from_micros(u64::from(block.jitter) * 1_000_000 / u64::from(clock_rate));
            let stream = (Direction::Out, slot.kind);
            self.quality.on_report(now, stream, &mut slot.reported, totals, jitter, counters);
            heard.push(Heard::Reported { slot: index });
        }
        let Session { reception, slots, .. } = self;
        reception.on_report_blocks(now, blocks, |ssrc| {
            slots.iter().any(|slot| slot.ssrc.0 == ssrc && slot.kind == MediaKind::Video)
        });
    }

    /// Finds out which packets a request is about.
    fn hear_nack(&mut self, nack: &TransportLayerNack, heard: &mut Vec<Heard>, ledger: &mut Ledger) {
        let index = self.slots.iter().position(|slot| slot.ssrc.0 == nack.media_ssrc);
        let slot = index.map(|index| &self.slots[index]);
        let kind = slot.map_or(MediaKind::Video, |slot| slot.kind);
        let repaired = slot.filter(|slot| slot.live && slot.takes_repairs());
        for seq in nack.nacks.iter().flat_map(|pair| pair.packet_list()) {
            let Some((index, slot)) = index.zip(repaired) else {
                ledger.settle(kind, RepairOutcome::MissUnknown);
                continue;
            };
            if !ledger.may_look_up() {
                ledger.settle(kind, RepairOutcome::OverBudget);
            } else if let Some(missing) = slot.missing(index as u16, seq) {
                heard.push(Heard::Missing(missing));
                ledger.leave_open(kind);
            } else {
                ledger.settle(kind, RepairOutcome::MissUnknown);
            }
        }
    }

    /// Queues a packet that the subscriber misses, if it may be sent again now; if not, the outcome. `asked`: by NACK.
    pub fn repair(&mut self, now: Instant, missing: &Missing, asked: bool) -> Option<RepairOutcome> {
        let (rtt, copies) = (self.reception.rtt(), self.reception.copies(now));
        let slot = &mut self.slots[usize::from(missing.slot)];
        if self.queue.len() >= MAX_REPAIRS_QUEUED {
            return Some(RepairOutcome::OverBudget);
        }
        let copies = match slot.judge_repair(now, missing.number, rtt, copies) {
            Verdict::Resend(copies) => copies,
            Verdict::Duplicate => return Some(RepairOutcome::Duplicate),
            Verdict::OverBudget => return Some(RepairOutcome::OverBudget),
        };
        let queued = Queued::new(missing.slot, missing.feed, missing.seq, Purpose::Repair);
        let queued = Queued { passes: slot.passes, ..queued };
        // The request is answered by one of them.
        self.push(now, Queued { asked, ..queued });
        (1..copies).for_each(|_| self.push(now, queued));
        None
    }

    /// A subscriber may only speak about what we send it.
    fn slot_to_refresh(&self, media_ssrc: u32) -> Option<usize> {
        self.slots.iter().position(|slot| slot.ssrc.0 == media_ssrc && slot.kind == MediaKind::Video)
    }

    // ---- RTCP out ----------------------------------------------------------------------------------

    /// Asks the publisher for a keyframe of one layer of its section `mid`.
    pub fn request_keyframe(&mut self, now: Instant, mid: Mid, layer: u8, counters: &mut Counters) {
        if let Some(ssrc) = self.uplinks.active_ssrc(mid, layer) {
            let pli = PictureLossIndication { sender_ssrc: self.reporter.0, media_ssrc: ssrc.0 };
            self.send_rtcp(now, vec![Box::new(pli)], counters);
        }
    }

    /// Sends the reports, feedback and caps that are due. Returns the streams of which a packet is lost for good.
    pub fn send_due_rtcp(
        &mut self,
        now: Instant,
        counters: &mut Counters,
        sender_reports: Vec<Rtcp>,
    ) -> Vec<Ssrc> {
        let mut torn = Vec::new();
        if self.secure.is_none() {
            return torn;
        }
        let mut packets: Vec<Rtcp> = Vec::new();
        if self.next_report.is_some_and(|at| at <= now) {
            self.next_report = Some(now + REPORT_INTERVAL);
            self.reception.on_second(now);
            self.quality.on_second(now, counters);
            if let Some(rtt) = self.reception.take_round_trip() {
                let publishes = self.uplinks.iter().next().is_some();
                let subscribes = self.slots.iter().any(|slot| slot.live);
                self.quality.on_round_trip(rtt, publishes, subscribes, counters);
            }
            self.uplinks.report_quality(now, &mut self.quality, counters);
            let reports = self.uplinks.report_blocks(now);
            if !reports.is_empty() {
                packets.push(Box::new(ReceiverReport {
                    ssrc: self.reporter.0,
                    reports,
                    ..Default::default()
                }));
            }
            self.note_sender_reports(now, &sender_reports);
            let answers = self.answer_references(now, &sender_reports);
            packets.extend(sender_reports);
            packets.extend(answers);
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
        let rtt = self.reception.rtt();
        let sender_ssrc = self.reporter.0;
        let ask = |media: Ssrc, lost: Vec<u16>| {
            for pairs in nack_pairs_from_sequence_numbers(&lost).chunks(MAX_NACK_PAIRS) {
                let nacks = pairs.to_vec();
                packets.push(Box::new(TransportLayerNack { sender_ssrc, media_ssrc: media.0, nacks }));
            }
        };
        self.uplinks.poll_nacks(now, rtt, ask, |media| torn.push(media));
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
        torn
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
    pub fn enqueue(&mut self, now: Instant, queued: Queued, limit: usize) -> bool {
        let fits = self.queue.len() < limit;
        if fits {
            self.push(now, queued);
        }
        fits
    }

    /// Likewise, whatever waits already.
    pub fn push(&mut self, now: Instant, queued: Queued) {
        if self.queue.is_empty() {
            self.queued_at = now;
        }
        self.queue.push_back(queued);
    }

    /// Bytes that sealing adds to a packet.
    pub fn seal_overhead(&self) -> usize {
        self.secure.as_ref().map_or(0, |secure| secure.outbound.overhead())
    }

    /// What waits in the queue, with its kind.
    pub fn queued_kinds(&self) -> impl Iterator<Item = (&Queued, MediaKind)> {
        let kind = |queued: &Queued| self.slots.get(usize::from(queued.slot)).map(|slot| slot.kind);
        self.queue.iter().filter_map(move |queued| Some((queued, kind(queued)?)))
    }

    /// Rewrites and seals one stored packet into `out`. The sealed length, or why it cannot go.
    pub fn write_packet(
        &mut self,
        now: Instant,
        queued: &Queued,
        piece: &Piece<'_>,
        stretch: Stretch,
        out: &mut [u8],
    ) -> Result<usize, DropReason> {
        let secure = self.secure.as_mut().ok_or(DropReason::Expired)?;
        let slot = self.slots.get_mut(usize::from(queued.slot)).ok_or(DropReason::Expired)?;
        let number = self.reception.next_number();
        let (mut written, stream) = match queued.purpose {
            Purpose::First => {
                if queued.starts {
                    slot.restart();
                }
                let written = slot.write(now, piece, number, out).ok_or(DropReason::Expired)?;
                slot.passes = queued.passes;
                slot.on_first(now, written.number, || self.reception.rtt());
                (written, slot.stream(|ssrc| secure.outbound.open_stream(ssrc)))
            }
            Purpose::Skip => return Err(DropReason::Expired),
            Purpose::Repair => {
                if !self.reception.affords_repair(now, piece.stored.payload.len()) {
                    slot.on_repair_refused(now, piece);
                    return Err(DropReason::QueueFull);
                }
                let written = slot.write_repair(piece, number, out).ok_or(DropReason::Expired)?;
                let stream = slot.repair_stream(|ssrc| secure.outbound.open_stream(ssrc));
                (written, stream.ok_or(DropReason::Expired)?)
            }
        };
        if slot.kind == MediaKind::Video && queued.purpose == Purpose::First {
            let padding = stretch.padding(written.plain_len + secure.outbound.overhead());
            written.plain_len = stretch::pad(out, written.plain_len, padding);
        }
        let sealed = secure
            .outbound
            .seal_rtp(stream, written.index, written.header_len, written.plain_len, out)
            .map_err(|_| DropReason::Expired)?;
        if queued.purpose == Purpose::First {
            self.reception.on_first(now, sealed);
        }
        if slot.numbers_transport() {
            let Queued { slot, feed, seq, purpose, .. } = *queued;
            let number = written.number;
            match purpose {
                Purpose::Repair => {
                    self.reception.on_numbered_repair(now, sealed, Missing { slot, number, feed, seq });
                }
                _ => self.reception.on_numbered(now, sealed, First { slot, seq: number as u16 }),
            }
        }
        Ok(sealed)
    }

    /// The next control datagram, with where it goes.
    pub fn poll_control(&mut self) -> Option<(Path, BytesMut)> {
        self.outbox.queue.pop_front()
    }

    /// Books the control datagrams for which there was no room.
    pub fn tell_crowded_out(&mut self, counters: &mut Counters) {
        let [rtcp, other] = std::mem::take(&mut self.outbox.crowded_out);
        counters.dropped_out(DropKind::Rtcp, DropReason::QueueFull, rtcp);
        counters.dropped_out(DropKind::Other, DropReason::QueueFull, other);
    }

    /// Sender reports have left: reports about them will tell the round trip.
    fn note_sender_reports(&mut self, now: Instant, packets: &[Rtcp]) {
        for report in reported(packets) {
            self.reception.on_sender_report(now, report.ntp_time);
        }
    }

    /// Tells a peer that sends nothing how long the way is. It keeps that by who tells it (libwebrtc `RTCPReceiver`): each
    /// of our streams does.
    fn answer_references(&mut self, now: Instant, sender_reports: &[Rtcp]) -> Vec<Rtcp> {
        let answers = self.reception.poll_answers(now);
        if answers.is_empty() {
            return Vec::new();
        }
        let answer = |report: &SenderReport| -> Rtcp {
            let block = DLRRReportBlock { reports: answers.clone() };
            Box::new(ExtendedReport { sender_ssrc: report.ssrc, reports: vec![Box::new(block)] })
        };
        reported(sender_reports).map(answer).collect()
    }

    /// Puts a datagram that could not be sent back in front.
    pub fn return_control(&mut self, path: Path, datagram: BytesMut) {
        self.outbox.queue.push_front((path, datagram));
    }

    pub fn has_output(&self) -> bool {
        !self.outbox.queue.is_empty() || !self.queue.is_empty()
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

fn reported(packets: &[Rtcp]) -> impl Iterator<Item = &SenderReport> {
    packets.iter().filter_map(|packet| packet.as_any().downcast_ref())
}

fn seal_rtcp(secure: &mut Option<Secure>, outbox: &mut Outbox, ice: &IceLite, compound: &[u8]) {
    if let (Some(secure), Some(path)) = (secure, ice.selected()) {
        outbox.push(DropKind::Rtcp, path, secure.outbound.seal_rtcp(compound));
    }
}

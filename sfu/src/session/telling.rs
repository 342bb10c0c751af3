//! What a peer is told by RTCP.

use std::time::{Duration, Instant};

use rtcp::extended_report::ExtendedReport;
use rtcp::extended_report::dlrr::DLRRReportBlock;
use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;
use rtcp::receiver_report::ReceiverReport;
use rtcp::sender_report::SenderReport;
use rtcp::source_description::{SdesType, SourceDescription, SourceDescriptionChunk, SourceDescriptionItem};
use rtcp::transport_feedbacks::transport_layer_nack::{TransportLayerNack, nack_pairs_from_sequence_numbers};

use super::feedback::Rtcp;
use super::ice::IceLite;
use super::{Outbox, Secure, Session};
use crate::counters::{Counters, DropKind};
use crate::ids::{Mid, Ssrc};

/// Sender and receiver reports go out once a second: RFC 3550 §6.2 allows more, nobody needs it.
pub(super) const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Pairs in one NACK: a quarter of a datagram.
const MAX_NACK_PAIRS: usize = 64;

/// Bytes of RTCP per datagram, before sealing: with headers it stays below every usual MTU.
const MAX_COMPOUND: usize = 1_150;

impl Session {
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
}

fn reported(packets: &[Rtcp]) -> impl Iterator<Item = &SenderReport> {
    packets.iter().filter_map(|packet| packet.as_any().downcast_ref())
}

pub(super) fn seal_rtcp(secure: &mut Option<Secure>, outbox: &mut Outbox, ice: &IceLite, compound: &[u8]) {
    if let (Some(secure), Some(path)) = (secure, ice.selected()) {
        outbox.push(DropKind::Rtcp, path, secure.outbound.seal_rtcp(compound));
    }
}

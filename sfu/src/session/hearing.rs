//! What a peer says by RTCP.

use std::time::{Duration, Instant};

use rtcp::extended_report::ExtendedReport;
use rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;
use rtcp::receiver_report::ReceiverReport;
use rtcp::reception_report::ReceptionReport;
use rtcp::sender_report::SenderReport;
use rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc;
use rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;

use super::Session;
use super::feedback::Rtcp;
use super::ledger::Ledger;
use super::reception::Lost;
use super::repairs::Missing;
use super::sent::First;
use crate::counters::{Counters, Direction, RepairOutcome};
use crate::drop::DropReason;
use crate::ids::{MediaKind, Ssrc};
use crate::media::loss::Totals;

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

impl Session {
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
            counters.feedback(unmatched);
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

    /// A subscriber may only speak about what we send it.
    fn slot_to_refresh(&self, media_ssrc: u32) -> Option<usize> {
        self.slots.iter().position(|slot| slot.ssrc.0 == media_ssrc && slot.kind == MediaKind::Video)
    }
}

//! What reaches a peer of what we send, as it tells: how far away it is, what gets lost, what there is room for.

use std::time::{Duration, Instant};

use rtcp::extended_report::ExtendedReport;
use rtcp::extended_report::dlrr::DLRRReport;
use rtcp::extended_report::rrt::ReceiverReferenceTimeReportBlock;
use rtcp::reception_report::ReceptionReport;
use rtcp::transport_feedbacks::transport_layer_cc::{PacketStatusChunk, SymbolTypeTcc, TransportLayerCc};

use super::repairs::{Missing, UnderWay};
use super::rtt::RoundTrip;
use super::sent::{Fate, First, SentPackets};
use crate::congestion::throttle::Throttle;
use crate::media::budget::{RateMeter, TokenBucket};
use crate::units::Bitrate;

/// Repairs may take this share of what a subscriber receives; a flood of requests gets no more.
const REPAIR_SHARE: f64 = 0.15;
/// … but so much at least, or a quiet stream could not be repaired at all.
const LEAST_REPAIRS: Bitrate = Bitrate::kbps(100);
/// Losses come in bursts: the repairs of a lost frame must fit. In bytes.
const REPAIR_BURST: u64 = 32 * 1024;

/// More requests for lost packets in a second are a flood: libwebrtc makes one for each gap, and fifty beside.
const FLOOD: u32 = 200;
/// Then repairs may weigh so many times what asks for them, or it would pay to ask.
const FLOOD_GAIN: u64 = 2;

/// A client that has sent transport-wide feedback within this time goes on doing so.
const FEEDBACK_LASTS: Duration = Duration::from_secs(2);

/// A greater estimate is none, in bits per second.
const MAX_ESTIMATE: f32 = 1e9;

/// A packet that feedback says is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lost {
    First(First),
    Repair(Missing),
}

/// The way to one peer.
pub struct Reception {
    /// What the peer's network has room for.
    pub throttle: Throttle,
    sent: SentPackets,
    under_way: UnderWay,
    rtt: RoundTrip,
    /// What goes out for the first time, and the share of it that repairs may have.
    egress: RateMeter,
    repairs: TokenBucket,
    repair_share: f64,
    /// This second's requests for lost packets, and their bytes.
    requests: (u32, u64),
    /// The last transport-wide feedback.
    feedback_at: Option<Instant>,
    /// Without it: the worst loss of a video stream that this second's reports told, in 256ths.
    reported_lost: Option<u8>,
}

impl Reception {
    pub fn new() -> Reception {
        Reception {
            throttle: Throttle::default(),
            sent: SentPackets::default(),
            under_way: UnderWay::default(),
            rtt: RoundTrip::new(),
            egress: RateMeter::default(),
            repairs: TokenBucket::new(LEAST_REPAIRS, REPAIR_BURST),
            repair_share: REPAIR_SHARE,
            requests: (0, 0),
            feedback_at: None,
            reported_lost: None,
        }
    }

    /// The round trip to the peer; never zero.
    pub fn rtt(&self) -> Duration {
        self.rtt.get()
    }

    /// … if it was measured.
    pub fn measured_rtt(&self) -> Option<Duration> {
        self.rtt.measured()
    }

    /// The latest measurement, unless it was taken before.
    pub fn take_round_trip(&mut self) -> Option<Duration> {
        self.rtt.take_sample()
    }

    /// What goes out for the first time, over the last second.
    pub fn egress_rate(&self, now: Instant) -> Bitrate {
        self.egress.rate(now)
    }

    /// Packets that feedback was about and that we know nothing of.
    pub fn unmatched(&self) -> u64 {
        self.sent.unmatched
    }

    // ---- what goes out -----------------------------------------------------------------------------

    /// The transport-wide number that the next packet carries.
    #[inline]
    pub fn next_number(&self) -> u16 {
        self.sent.next_number()
    }

    /// Packets that feedback can possibly be about.
    pub fn outstanding(&self) -> usize {
        self.sent.outstanding()
    }

    /// Changes which share of what goes out repairs may have, from the next second on.
    pub fn set_repair_share(&mut self, share: f64) {
        self.repair_share = share;
    }

    /// Whether a repair of so many bytes is within the budget, of which it is then taken.
    pub fn affords_repair(&mut self, now: Instant, bytes: usize) -> bool {
        self.repairs.take(now, bytes)
    }

    /// It has been sealed, and weighs so much more than was taken for it: what goes out for the first time is weighed so, too.
    pub fn on_repair(&mut self, now: Instant, more: usize) {
        self.repairs.spend(now, more);
    }

    /// In how many copies a repair should leave the first time, and when it has been lost: a picture does not wait for
    /// many round trips.
    pub fn copies(&mut self, now: Instant) -> [u8; 2] {
        match self.repairs.is_half_full(now) {
            // Who asks for ever must not use up what the next loss needs.
            false => [1, 0],
            // Where there is no room, more copies are not the cure.
            true if self.throttle.is_lossy() => [1, 1],
            true => [1, 2],
        }
    }

    /// A packet of so many bytes goes out for the first time.
    #[inline]
    pub fn on_first(&mut self, now: Instant, bytes: usize) {
        self.egress.add(now, bytes);
    }

    /// The packet that carries the [`next_number`](Self::next_number) has been sealed, its first time.
    #[inline]
    pub fn on_numbered(&mut self, now: Instant, bytes: usize, first: First) {
        self.sent.record(now, bytes, Some(first));
    }

    /// Likewise a repair.
    pub fn on_numbered_repair(&mut self, now: Instant, bytes: usize, missing: Missing) {
        let transport = self.sent.record(now, bytes, None);
        self.under_way.add(transport, missing);
    }

    /// A sender report has left: reports that refer to it will tell the round trip.
    pub fn on_sender_report(&mut self, now: Instant, ntp: u64) {
        self.rtt.on_sender_report(now, ntp);
    }

    /// What the next report tells a peer that measures the round trip by its own clock.
    pub fn poll_answers(&mut self, now: Instant) -> Vec<DLRRReport> {
        self.rtt.poll_answers(now)
    }

    // ---- what comes back ---------------------------------------------------------------------------

    /// Transport-wide feedback tells the fate of every packet. `lose` hears of those that are lost.
    pub fn on_feedback(&mut self, now: Instant, feedback: &TransportLayerCc, mut lose: impl FnMut(Lost)) {
        let Reception { throttle, sent, under_way, .. } = self;
        let (base, count) = (feedback.base_sequence_number, feedback.packet_status_count);
        let told = sent.on_feedback(now, base, count, statuses(feedback), |fate| {
            let lost = match fate {
                Fate::FirstLost(first) => Some(Lost::First(first)),
                Fate::OtherLost(transport) => under_way.lose(transport).map(Lost::Repair),
                Fate::OtherCame(transport) => {
                    under_way.arrive(transport);
                    None
                }
            };
            // Where much is lost, more repairs are not the cure.
            lost.filter(|_| !throttle.is_lossy()).into_iter().for_each(&mut lose);
        });
        if let Some(told) = told {
            self.rtt.on_at_most(told.age);
            // The newest packet that arrived was told of at once.
            let queued = told.age.saturating_sub(self.rtt.get());
            self.throttle.on_feedback(now, told.packets, told.lost, told.arrived, queued);
            self.feedback_at = Some(now);
        }
    }

    /// The peer measures the round trip by its own clock.
    pub fn on_reference(&mut self, now: Instant, report: &ExtendedReport) {
        let mut times = report.reports.iter().filter_map(|block| block.as_any().downcast_ref());
        if let Some(ReceiverReferenceTimeReportBlock { ntp_timestamp }) = times.next() {
            self.rtt.on_reference(now, report.sender_ssrc, *ntp_timestamp);
        }
    }

    /// The peer asks for lost packets again.
    pub fn on_request(&mut self, bytes: usize) {
        self.requests.0 = self.requests.0.saturating_add(1);
        self.requests.1 += bytes as u64;
    }

    /// Reports about what we send; `is_video` knows our streams.
    pub fn on_report_blocks(
        &mut self,
        now: Instant,
        blocks: &[ReceptionReport],
        is_video: impl Fn(u32) -> bool,
    ) {
        for block in blocks {
            self.rtt.on_report_block(now, block.last_sender_report, block.delay);
        }
        if self.hears_feedback(now) {
            return;
        }
        // Without transport-wide feedback, the reports about video say what gets lost.
        let video = blocks.iter().filter(|block| is_video(block.ssrc));
        self.reported_lost = self.reported_lost.max(video.map(|block| block.fraction_lost).max());
    }

    /// The peer's own estimate (REMB), in bits per second.
    pub fn on_estimate(&mut self, now: Instant, bitrate: f32) {
        if !self.hears_feedback(now) {
            let estimate = Bitrate::bps(bitrate.clamp(0.0, MAX_ESTIMATE) as u64);
            self.throttle.on_estimate(now, estimate, self.egress.rate(now));
        }
    }

    /// To be called each second. What its reports said counts all together: some clients send one for each stream.
    pub fn on_second(&mut self, now: Instant) {
        let rate = self.egress.rate(now).as_bps();
        if let Some(worst) = self.reported_lost.take() {
            let worst = u64::from(worst);
            self.throttle.on_feedback(now, 256, worst, rate / 8 * (256 - worst) / 256, Duration::ZERO);
        }
        let share = Bitrate::bps((rate as f64 * self.repair_share) as u64).max(LEAST_REPAIRS);
        self.repairs.set_rate(match std::mem::take(&mut self.requests) {
            (count, bytes) if count > FLOOD => share.min(Bitrate::bps(bytes * 8 * FLOOD_GAIN)),
            _ => share,
        });
    }

    /// The client tells the fate of every packet, so that its reports and estimates need not be heeded.
    fn hears_feedback(&self, now: Instant) -> bool {
        self.feedback_at.is_some_and(|at| now.saturating_duration_since(at) < FEEDBACK_LASTS)
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

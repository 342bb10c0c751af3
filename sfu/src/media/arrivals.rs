//! Arrival times of one transport's packets, and the feedback that tells the sender about them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rtcp::transport_feedbacks::transport_layer_cc::{
    PacketStatusChunk, RecvDelta, RunLengthChunk, StatusChunkTypeTcc, StatusVectorChunk, SymbolSizeTypeTcc,
    SymbolTypeTcc, TransportLayerCc,
};

use crate::ids::Ssrc;
use crate::seq::SeqUnwrapper;

/// The receiver of draft-holmer-rmcat-transport-wide-cc-extensions-01: without its feedback a browser's
/// estimate crawls up by 8 % a second.
///
/// A message covers every number since the last one. A packet that comes late, after its number was
/// reported missing, takes the next message back to it, as libwebrtc does, so that the sender learns it
/// was not lost; packets in between are reported twice, which senders expect.
#[derive(Debug)]
pub struct Arrivals {
    sender_ssrc: Ssrc,
    unwrapper: SeqUnwrapper,
    /// The first packet's arrival: time zero of every reference time.
    epoch: Option<Instant>,
    /// Arrivals from `first` on, in ticks since the epoch. The last one is never a hole.
    window: VecDeque<Option<i64>>,
    /// The number of the window's front. What lies before it is forgotten.
    first: u64,
    /// The first number not reported yet.
    from: u64,
    /// When the next feedback goes out: while anything is unreported.
    due: Option<Instant>,
    /// Messages built, modulo 256 as the wire counts them.
    feedback_count: u8,
    /// Whether there was any message: from then on the window's front only moves up.
    told: bool,
}

impl Arrivals {
    /// Nothing arrived yet. `sender_ssrc` is ours, in the feedback.
    pub fn new(sender_ssrc: Ssrc) -> Arrivals {
        Arrivals {
            sender_ssrc,
            unwrapper: SeqUnwrapper::default(),
            epoch: None,
            window: VecDeque::new(),
            first: 0,
            from: 0,
            due: None,
            feedback_count: 0,
            told: false,
        }
    }

    /// Records a packet by its transport-wide number. Only the first arrival of a number counts.
    pub fn record(&mut self, seq: u16, arrived: Instant) {
        let seq = self.unwrapper.unwrap(seq);
        if self.epoch.is_none() {
            (self.first, self.from) = (seq, seq);
        }
        let epoch = *self.epoch.get_or_insert(arrived);
        if !self.make_room(seq) {
            return;
        }
        let slot = &mut self.window[(seq - self.first) as usize];
        if slot.is_none() {
            *slot = Some(ticks(epoch, arrived));
            self.from = self.from.min(seq);
            self.due.get_or_insert(arrived + INTERVAL);
        }
    }

    /// The next feedback message, once it is due; call until `None`, for arrivals too far apart in
    /// number or time for one message are split. `media_ssrc` is any SSRC of the sender's.
    pub fn poll_feedback(&mut self, now: Instant, media_ssrc: Ssrc) -> Option<TransportLayerCc> {
        if self.due? > now {
            return None;
        }
        let start = (self.from..self.end()).find(|seq| self.arrival(*seq).is_some());
        let Some(start) = start else {
            self.due = None;
            return None;
        };
        let feedback = self.feedback(start, media_ssrc);
        if self.from == self.end() {
            self.due = None;
        }
        self.forget(now);
        Some(feedback)
    }

    /// When to poll: [`INTERVAL`] after the first unreported arrival.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// Reports from `from` on, where `start` is the first packet that did arrive.
    fn feedback(&mut self, start: u64, media_ssrc: Ssrc) -> TransportLayerCc {
        // A hole so long that the message would hold nothing else is reported in part.
        let base = self.from.max(start.saturating_sub(MAX_PACKETS / 2));
        let reference = self.arrival(start).map_or(0, |at| at.div_euclid(TICKS_PER_REFERENCE));
        let mut last = reference * TICKS_PER_REFERENCE;
        let mut symbols = Vec::new();
        let mut recv_deltas = Vec::new();
        for seq in base..self.end().min(base + MAX_PACKETS) {
            let Some(at) = self.arrival(seq) else {
                symbols.push(SymbolTypeTcc::PacketNotReceived);
                continue;
            };
            // Too far for two bytes: the next message, with its own reference time, takes it.
            let Some(symbol) = symbol_for(at - last) else { break };
            symbols.push(symbol);
            recv_deltas.push(RecvDelta { type_tcc_packet: symbol, delta: (at - last) * MICROS_PER_TICK });
            last = at;
        }
        // Holes at the end are left to the next message, which knows more about them.
        while symbols.last() == Some(&SymbolTypeTcc::PacketNotReceived) {
            symbols.pop();
        }
        self.from = base + symbols.len() as u64;
        let fb_pkt_count = self.feedback_count;
        self.feedback_count = fb_pkt_count.wrapping_add(1);
        self.told = true;
        TransportLayerCc {
            sender_ssrc: self.sender_ssrc.0,
            media_ssrc: media_ssrc.0,
            base_sequence_number: base as u16,
            packet_status_count: symbols.len() as u16,
            reference_time: (reference as u32) & 0x00ff_ffff,
            fb_pkt_count,
            packet_chunks: chunks(&symbols),
            recv_deltas,
        }
    }

    /// Makes the window reach `seq`. `false` if that lies before everything we remember.
    fn make_room(&mut self, seq: u64) -> bool {
        if seq >= self.end() + WINDOW {
            // A jump. The sender started over, and what it sent before is of no use to it.
            self.window.clear();
            (self.first, self.from) = (seq, seq);
        }
        while self.end() <= seq {
            self.window.push_back(None);
        }
        while self.window.len() as u64 > WINDOW {
            self.window.pop_front();
            self.first += 1;
        }
        self.from = self.from.max(self.first);
        // Numbers before the very first one, which overtook them.
        while seq < self.first && !self.told && (self.window.len() as u64) < WINDOW {
            self.window.push_front(None);
            self.first -= 1;
        }
        seq >= self.first
    }

    /// Drops reported arrivals that are too old for a late neighbour to matter.
    fn forget(&mut self, now: Instant) {
        let Some(epoch) = self.epoch else { return };
        let horizon = ticks(epoch, now) - KEEP_TICKS;
        while let Some(oldest) = self.window.iter().position(Option::is_some) {
            let reported = self.first + (oldest as u64) < self.from;
            if !reported || self.window[oldest] >= Some(horizon) {
                break;
            }
            self.window.drain(..=oldest);
            self.first += oldest as u64 + 1;
        }
    }

    fn arrival(&self, seq: u64) -> Option<i64> {
        *self.window.get(seq.checked_sub(self.first)? as usize)?
    }

    fn end(&self) -> u64 {
        self.first + self.window.len() as u64
    }
}

fn ticks(epoch: Instant, at: Instant) -> i64 {
    (at.saturating_duration_since(epoch).as_micros() as i64) / MICROS_PER_TICK
}

fn symbol_for(delta: i64) -> Option<SymbolTypeTcc> {
    if u8::try_from(delta).is_ok() {
        Some(SymbolTypeTcc::PacketReceivedSmallDelta)
    } else if i16::try_from(delta).is_ok() {
        Some(SymbolTypeTcc::PacketReceivedLargeDelta)
    } else {
        None
    }
}

/// Packs symbols greedily: a run where it beats a vector, else one-bit symbols where they suffice (§3.1.2–4).
fn chunks(mut symbols: &[SymbolTypeTcc]) -> Vec<PacketStatusChunk> {
    let mut chunks = Vec::with_capacity(symbols.len().div_ceil(7));
    while let Some(&first) = symbols.first() {
        let run = symbols.iter().take_while(|symbol| **symbol == first).count().min(LONGEST_RUN);
        let window = &symbols[..symbols.len().min(14)];
        let one_bit = !window.contains(&SymbolTypeTcc::PacketReceivedLargeDelta);
        let taken = if run == symbols.len() || run >= if one_bit { 14 } else { 7 } {
            chunks.push(PacketStatusChunk::RunLengthChunk(RunLengthChunk {
                type_tcc: StatusChunkTypeTcc::RunLengthChunk,
                packet_status_symbol: first,
                run_length: run as u16,
            }));
            run
        } else {
            let (symbol_size, room) =
                if one_bit { (SymbolSizeTypeTcc::OneBit, 14) } else { (SymbolSizeTypeTcc::TwoBit, 7) };
            let taken = symbols.len().min(room);
            let mut symbol_list = symbols[..taken].to_vec();
            symbol_list.resize(room, SymbolTypeTcc::PacketNotReceived);
            chunks.push(PacketStatusChunk::StatusVectorChunk(StatusVectorChunk {
                type_tcc: StatusChunkTypeTcc::StatusVectorChunk,
                symbol_size,
                symbol_list,
            }));
            taken
        };
        symbols = &symbols[taken..];
    }
    chunks
}

/// Between the first unreported arrival and its feedback. The draft leaves it to us; libwebrtc varies from
/// 50 to 250 ms with the rate, and 50 ms costs 20 messages of about 60 bytes a second.
pub const INTERVAL: Duration = Duration::from_millis(50);
/// Packets one message reports on: 20 bytes of header, 2 a delta, 2 for seven symbols come to 1.2 kB at most.
const MAX_PACKETS: u64 = 512;
/// Numbers remembered, reported or not: 1 s at 1000 packets a second.
const WINDOW: u64 = 1_024;
/// A delta's unit: 250 µs.
const MICROS_PER_TICK: i64 = 250;
/// The reference time's unit: 64 ms.
const TICKS_PER_REFERENCE: i64 = 64_000 / MICROS_PER_TICK;
/// Reported arrivals are kept 500 ms, libwebrtc's back window, for the sake of late ones.
const KEEP_TICKS: i64 = 500_000 / MICROS_PER_TICK;
/// Thirteen bits.
const LONGEST_RUN: usize = (1 << 13) - 1;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use rtc_shared::marshal::{Marshal, Unmarshal};

    use super::*;
    use crate::testing::{at, at_micros};

    /// A packet's fate by the sender's reading: arrived at so many microseconds, or not.
    type Fates = BTreeMap<u16, Option<i64>>;

    /// Reads a message as a sender does, off the wire.
    fn read(feedback: &TransportLayerCc) -> Fates {
        let wire = feedback.marshal().expect("what we build marshals");
        assert!(wire.len() < 1_300, "{} bytes", wire.len());
        let read = TransportLayerCc::unmarshal(&mut wire.freeze()).expect("and unmarshals");
        assert_eq!(&read, feedback);
        let mut time = i64::from(read.reference_time) * 64_000;
        let mut deltas = read.recv_deltas.iter();
        let symbols = read.packet_chunks.iter().flat_map(|chunk| match chunk {
            PacketStatusChunk::RunLengthChunk(run) => vec![run.packet_status_symbol; run.run_length.into()],
            PacketStatusChunk::StatusVectorChunk(vector) => vector.symbol_list.clone(),
        });
        let fates = symbols.take(read.packet_status_count.into()).enumerate().map(|(n, symbol)| {
            let arrived = (symbol != SymbolTypeTcc::PacketNotReceived).then(|| {
                time += deltas.next().expect("a delta for each arrival").delta;
                time
            });
            (read.base_sequence_number.wrapping_add(n as u16), arrived)
        });
        let fates = fates.collect();
        assert_eq!(deltas.len(), 0, "no delta without an arrival");
        fates
    }

    fn drain(arrivals: &mut Arrivals, now: Instant) -> Vec<Fates> {
        std::iter::from_fn(|| arrivals.poll_feedback(now, Ssrc(2))).map(|feedback| read(&feedback)).collect()
    }

    #[test]
    fn feedback_comes_50_ms_after_the_first_arrival() {
        let mut arrivals = Arrivals::new(Ssrc(1));
        assert_eq!(arrivals.poll_timeout(), None);
        arrivals.record(7, at(0));
        arrivals.record(8, at(20));
        assert_eq!(arrivals.poll_timeout(), Some(at(50)));
        assert_eq!(arrivals.poll_feedback(at(49), Ssrc(2)), None);
        let feedback = arrivals.poll_feedback(at(50), Ssrc(2)).unwrap();
        assert_eq!((feedback.sender_ssrc, feedback.media_ssrc), (1, 2));
        assert_eq!(read(&feedback), BTreeMap::from([(7, Some(0)), (8, Some(20_000))]));
        assert_eq!(arrivals.poll_timeout(), None);
        assert_eq!(arrivals.poll_feedback(at(1_000), Ssrc(2)), None);
    }

    #[test]
    fn messages_are_counted_and_follow_each_other() {
        let mut arrivals = Arrivals::new(Ssrc(1));
        for message in 0..300_u64 {
            arrivals.record(message as u16 * 2, at(message * 60));
            let feedback = arrivals.poll_feedback(at(message * 60 + 50), Ssrc(2)).unwrap();
            assert_eq!(feedback.fb_pkt_count, message as u8);
            let mut expected = Fates::from([(message as u16 * 2, Some(message as i64 * 60_000))]);
            if message > 0 {
                expected.insert(message as u16 * 2 - 1, None);
            }
            assert_eq!(read(&feedback), expected);
        }
    }

    #[test]
    fn what_was_forgotten_stays_forgotten() {
        let mut arrivals = Arrivals::new(Ssrc(1));
        // 256 messages: their count is back at zero.
        for message in 0..256_u64 {
            arrivals.record(message as u16, at(message * 60));
            assert_eq!(drain(&mut arrivals, at(message * 60 + 50)).len(), 1);
        }
        arrivals.record(100, at(15_360));
        assert_eq!(arrivals.poll_timeout(), None, "100 was told fifteen seconds ago");
    }

    #[test]
    fn numbers_wrap() {
        let mut arrivals = Arrivals::new(Ssrc(1));
        for n in 0..10_u16 {
            arrivals.record(65_530_u16.wrapping_add(n), at(n.into()));
        }
        let fates = drain(&mut arrivals, at(60));
        assert_eq!(fates.len(), 1);
        assert_eq!(fates[0].len(), 10);
        assert_eq!(fates[0][&3], Some(9_000));
    }

    #[test]
    fn a_late_packet_is_reported_after_all() {
        let mut arrivals = Arrivals::new(Ssrc(1));
        arrivals.record(1, at(0));
        arrivals.record(3, at(2));
        assert_eq!(drain(&mut arrivals, at(50))[0][&2], None);
        arrivals.record(2, at(55));
        let fates = drain(&mut arrivals, at(105));
        assert_eq!(fates, [Fates::from([(2, Some(55_000)), (3, Some(2_000))])], "a negative delta");
    }

    #[test]
    fn a_packet_the_first_one_overtook_counts() {
        let mut arrivals = Arrivals::new(Ssrc(1));
        arrivals.record(0, at(0));
        arrivals.record(65_535, at(1));
        assert_eq!(drain(&mut arrivals, at(50)), [Fates::from([(65_535, Some(1_000)), (0, Some(0))])]);
    }

    #[test]
    fn a_duplicate_changes_nothing() {
        let mut arrivals = Arrivals::new(Ssrc(1));
        arrivals.record(1, at(0));
        arrivals.record(1, at(9));
        assert_eq!(drain(&mut arrivals, at(50)), [Fates::from([(1, Some(0))])]);
        arrivals.record(1, at(60));
        assert_eq!(arrivals.poll_timeout(), None);
    }

    #[test]
    fn arrivals_over_8_seconds_apart_are_split() {
        let mut arrivals = Arrivals::new(Ssrc(1));
        arrivals.record(1, at(0));
        arrivals.record(2, at(8_191));
        arrivals.record(3, at(16_383));
        let fates = drain(&mut arrivals, at(20_000));
        assert_eq!(
            fates,
            [Fates::from([(1, Some(0)), (2, Some(8_191_000))]), Fates::from([(3, Some(16_383_000))]),]
        );
    }

    #[test]
    fn many_packets_are_split_at_512() {
        let mut arrivals = Arrivals::new(Ssrc(1));
        for n in 0..1_000_u64 {
            arrivals.record(n as u16, at_micros(n * 40));
        }
        let sizes: Vec<_> = drain(&mut arrivals, at(60)).iter().map(BTreeMap::len).collect();
        assert_eq!(sizes, [512, 488]);
    }

    #[test]
    fn a_jump_forgets_and_a_long_hole_is_told_in_part() {
        let mut arrivals = Arrivals::new(Ssrc(1));
        arrivals.record(0, at(0));
        drain(&mut arrivals, at(50));
        arrivals.record(900, at(60));
        let fates = drain(&mut arrivals, at(110));
        assert_eq!(fates.iter().map(BTreeMap::len).collect::<Vec<_>>(), [257]);
        assert_eq!(fates[0][&900], Some(60_000));
        arrivals.record(5_000, at(120));
        assert_eq!(drain(&mut arrivals, at(170)), [Fates::from([(5_000, Some(120_000))])]);
        assert!(arrivals.window.len() as u64 <= WINDOW);
    }

    #[test]
    fn chunks_take_the_shortest_form() {
        use SymbolTypeTcc::PacketReceivedSmallDelta as Small;
        use SymbolTypeTcc::{PacketNotReceived as No, PacketReceivedLargeDelta as Large};
        assert_eq!(chunks(&[Small; 500]).len(), 1);
        assert_eq!(chunks(&[Large; 7]).len(), 1);
        assert_eq!(chunks(&[Small, No].repeat(14)).len(), 2);
        assert_eq!(chunks(&[Small, Large].repeat(7)).len(), 2);
    }

    proptest! {
        /// Packets sent in order, each delayed and perhaps lost; a 50 ms delay spread reorders them.
        #[test]
        fn the_sender_learns_every_arrival_to_a_quarter_millisecond(
            first in any::<u16>(),
            packets in proptest::collection::vec((0u64..4_000, 0u64..50_000, prop::bool::weighted(0.15)), 1..600),
        ) {
            let mut sent = 0;
            let mut arriving = vec![];
            for (n, (gap, delay, lost)) in packets.iter().enumerate() {
                sent += gap;
                arriving.extend((!lost).then_some((sent + delay, first.wrapping_add(n as u16))));
            }
            arriving.sort();
            let Some(&(epoch, _)) = arriving.first() else { return Ok(()) };
            let mut arrivals = Arrivals::new(Ssrc(1));
            let mut learnt = Fates::new();
            let mut learn = |messages: Vec<Fates>| {
                for (seq, fate) in messages.into_iter().flatten() {
                    let known = learnt.entry(seq).or_default();
                    assert!(known.is_none() || *known == fate, "told twice, told the same");
                    *known = fate;
                }
            };
            for (time, seq) in &arriving {
                if arrivals.poll_timeout().is_some_and(|due| due <= at_micros(*time)) {
                    learn(drain(&mut arrivals, at_micros(*time)));
                }
                arrivals.record(*seq, at_micros(*time));
            }
            learn(drain(&mut arrivals, at_micros(arriving[arriving.len() - 1].0 + 50_000)));
            prop_assert_eq!(arrivals.poll_timeout(), None);
            for (time, seq) in &arriving {
                let told = learnt.get(seq).copied().flatten();
                // A packet from before the first one may come after that was reported: too late.
                let Some(told) = told else {
                    let before_first = seq.wrapping_sub(arriving[0].1) as i16;
                    prop_assert!(before_first < 0 && time - epoch > 50_000, "{} was never reported", seq);
                    continue;
                };
                let truth = (time - epoch) as i64;
                prop_assert!((truth - told).abs() < 250, "{} told as {}", truth, told);
            }
            let told = learnt.values().flatten().count();
            prop_assert!(told <= arriving.len(), "nothing that is lost is told as arrived");
        }

        #[test]
        fn any_arrivals_are_survived(packets in proptest::collection::vec(any::<(u16, u32)>(), 0..100)) {
            let mut arrivals = Arrivals::new(Ssrc(1));
            for (seq, time) in packets {
                arrivals.record(seq, at_micros(time.into()));
                drain(&mut arrivals, at_micros(u64::from(time) + 25_000));
                prop_assert!(arrivals.window.len() as u64 <= WINDOW);
            }
        }
    }
}

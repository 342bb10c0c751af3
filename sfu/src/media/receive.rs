//! What was received from one SSRC: order, loss, jitter, and the publisher's clock.

use std::time::{Duration, Instant};

use rtcp::reception_report::ReceptionReport;

use super::loss::Totals;
use crate::seq::SeqUnwrapper;

/// Statistics of one incoming source, RFC 3550 §A.1, §A.3 and §A.8.
///
/// SRTP has refused duplicates and ancient packets before we see anything.
#[derive(Debug)]
pub struct Receiver {
    /// Packets received.
    pub packets: u64,
    clock_rate: u32,
    unwrapper: SeqUnwrapper,
    /// Added to unwrapped numbers: whole cycles, one more each time the source starts over.
    cycles: u64,
    /// The run of numbers since the source last jumped, or `None` before the first packet.
    run: Option<Run>,
    /// Packets expected in earlier runs.
    expected_before: u64,
    /// A number far behind, and one up: two in a row say that the source has started over.
    astray: Option<u16>,
    /// `expected` and `packets` at the last report.
    reported: (u64, u64),
    transit: Transit,
    sender_report: Option<SenderReportMap>,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    first: u64,
    highest: u64,
}

/// A moment on the publisher's wall clock and on this source's RTP clock, RFC 3550 §6.4.1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SenderReportMap {
    /// NTP time, 32.32 bits.
    pub ntp: u64,
    /// The same moment as an RTP timestamp.
    pub rtp: u32,
    /// When the report arrived here.
    pub received_at: Instant,
}

impl Receiver {
    /// Nothing received yet. `clock_rate` is the codec's, in Hz.
    pub fn new(clock_rate: u32) -> Receiver {
        Receiver {
            packets: 0,
            clock_rate,
            unwrapper: SeqUnwrapper::default(),
            cycles: 0,
            run: None,
            expected_before: 0,
            astray: None,
            reported: (0, 0),
            transit: Transit::default(),
            sender_report: None,
        }
    }

    /// Records a packet and returns its 64-bit sequence number, whose low 16 bits are `seq`.
    ///
    /// A jump of [`MAX_DROPOUT`] or more is a source that started over, not thousands of lost packets.
    /// Numbers still only grow: after a jump back they go on in the next cycle.
    pub fn on_packet(&mut self, arrived: Instant, seq: u16, timestamp: u32) -> u64 {
        self.packets += 1;
        let extended = self.extend(seq);
        self.transit.on_packet(arrived, timestamp, self.clock_rate);
        extended
    }

    /// Records a sender report from this source.
    pub fn on_sender_report(&mut self, now: Instant, ntp: u64, rtp: u32) {
        self.sender_report = Some(SenderReportMap { ntp, rtp, received_at: now });
    }

    /// The latest sender report.
    pub fn sender_report(&self) -> Option<SenderReportMap> {
        self.sender_report
    }

    /// The report block on this source, which starts the next interval of `fraction_lost`.
    /// RFC 3550 §6.4.1 and §A.3.
    pub fn report_block(&mut self, now: Instant, ssrc: u32) -> ReceptionReport {
        let (expected, packets) = (self.expected(), self.packets);
        let (expected_then, packets_then) = std::mem::replace(&mut self.reported, (expected, packets));
        let expected_since = expected.saturating_sub(expected_then);
        let lost_since = expected_since.saturating_sub(packets.saturating_sub(packets_then));
        let fraction_lost = (lost_since * 256).checked_div(expected_since).unwrap_or(0).min(255) as u8;
        // SeqUnwrapper numbers from the second cycle; the wire counts cycles from zero.
        let highest = self.run.map_or(0, |run| (run.highest as u32).wrapping_sub(1 << 16));
        let (last_sender_report, delay) = match self.sender_report {
            Some(report) => (
                (report.ntp >> 16) as u32,
                sixty_five_thousandths(now.saturating_duration_since(report.received_at)),
            ),
            None => (0, 0),
        };
        ReceptionReport {
            ssrc,
            fraction_lost,
            total_lost: self.lost().min(MAX_TOTAL_LOST) as u32,
            last_sequence_number: highest,
            jitter: self.transit.jitter(),
            last_sender_report,
            delay,
        }
    }

    /// Packets that never came, so far. A packet that came late counts as lost until it comes.
    pub fn lost(&self) -> u64 {
        self.expected().saturating_sub(self.packets)
    }

    /// What was expected so far, and what did not come.
    pub fn totals(&self) -> Totals {
        Totals { expected: self.expected() as u32, lost: i32::try_from(self.lost()).unwrap_or(i32::MAX) }
    }

    /// Interarrival jitter, RFC 3550 §A.8.
    pub fn jitter(&self) -> Duration {
        let micros = u64::from(self.transit.jitter()) * 1_000_000;
        Duration::from_micros(micros / u64::from(self.clock_rate.max(1)))
    }

    fn expected(&self) -> u64 {
        self.expected_before + self.run.map_or(0, |run| run.highest - run.first + 1)
    }

    fn extend(&mut self, seq: u16) -> u64 {
        let extended = self.cycles + self.unwrapper.peek(seq);
        let Some(run) = &mut self.run else {
            self.start_run(seq, extended);
            return extended;
        };
        let astray = self.astray.take();
        if extended >= run.highest + MAX_DROPOUT {
            self.start_run(seq, extended);
            return extended;
        }
        if extended + MAX_DROPOUT <= run.highest {
            if astray != Some(seq) {
                // Alone, it is an oddity: no number of the run, so it is not expected either.
                self.astray = Some(seq.wrapping_add(1));
                self.expected_before += 1;
                return extended;
            }
            self.cycles = run.highest & !0xffff;
            self.unwrapper = SeqUnwrapper::default();
            let extended = self.cycles + self.unwrapper.peek(seq);
            self.start_run(seq, extended);
            return extended;
        }
        self.unwrapper.unwrap(seq);
        run.highest = run.highest.max(extended);
        if extended < run.first {
            if extended + MAX_MISORDER < run.first {
                // Left over from before a jump, and no part of this run.
                self.expected_before += 1;
            } else {
                // The first packet of the run had overtaken it.
                run.first = extended;
            }
        }
        extended
    }

    fn start_run(&mut self, seq: u16, extended: u64) {
        self.expected_before = self.expected();
        self.unwrapper.unwrap(seq);
        self.run = Some(Run { first: extended, highest: extended });
        self.transit.forget();
    }
}

/// The running estimate of interarrival jitter, RFC 3550 §A.8.
#[derive(Clone, Copy, Debug, Default)]
struct Transit {
    /// Arrival times are counted from here.
    epoch: Option<Instant>,
    /// Arrival time less timestamp, of the last packet, in clock units.
    last: Option<u32>,
    /// Sixteen times the estimate, so that integers carry its fraction.
    scaled: u64,
}

impl Transit {
    fn on_packet(&mut self, arrived: Instant, timestamp: u32, clock_rate: u32) {
        let epoch = *self.epoch.get_or_insert(arrived);
        let since = arrived.saturating_duration_since(epoch).as_micros();
        // Truncation is arithmetic on the 32-bit RTP circle.
        let arrival = (since * u128::from(clock_rate) / 1_000_000) as u32;
        let transit = arrival.wrapping_sub(timestamp);
        if let Some(last) = self.last.replace(transit) {
            let difference = (transit.wrapping_sub(last) as i32).unsigned_abs();
            // A step of the source's clock is not jitter. libwebrtc draws the line at 5 s, too.
            if difference < clock_rate.saturating_mul(5) {
                self.scaled += u64::from(difference);
                self.scaled -= (self.scaled - u64::from(difference) + 8) >> 4;
            }
        }
    }

    fn forget(&mut self) {
        self.last = None;
    }

    fn jitter(&self) -> u32 {
        (self.scaled >> 4) as u32
    }
}

fn sixty_five_thousandths(time: Duration) -> u32 {
    u32::try_from((time.as_micros() << 16) / 1_000_000).unwrap_or(u32::MAX)
}

/// A gap this long is a restart, RFC 3550 §A.1.
pub const MAX_DROPOUT: u64 = 3_000;
/// How far packets overtake each other, RFC 3550 §A.1.
const MAX_MISORDER: u64 = 100;
/// `cumulative number of packets lost` is 24 bits, signed. We never report a negative one.
const MAX_TOTAL_LOST: u64 = 0x7f_ffff;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{at, ms};

    /// One packet every 20 ms of a 48 kHz source, on time.
    fn receive(receiver: &mut Receiver, seqs: impl IntoIterator<Item = u16>) -> Vec<u64> {
        let on_time =
            |(n, seq): (usize, u16)| receiver.on_packet(at(n as u64 * 20), seq, (n as u32).wrapping_mul(960));
        seqs.into_iter().enumerate().map(on_time).collect()
    }

    #[test]
    fn a_clean_stream_reports_clean() {
        let mut receiver = Receiver::new(48_000);
        receive(&mut receiver, (0..100).map(|n| 65_500_u16.wrapping_add(n)));
        let report = receiver.report_block(at(2_000), 7);
        assert_eq!(report.ssrc, 7);
        assert_eq!((report.fraction_lost, report.total_lost, report.jitter), (0, 0, 0));
        assert_eq!(report.last_sequence_number, (1 << 16) + 63, "one cycle completed");
        assert_eq!((report.last_sender_report, report.delay), (0, 0));
        assert_eq!(receiver.packets, 100);
    }

    #[test]
    fn a_quarter_lost_is_64_in_256() {
        let mut receiver = Receiver::new(48_000);
        receive(&mut receiver, (0..101).filter(|n| n % 4 != 3));
        let report = receiver.report_block(at(2_000), 7);
        assert_eq!((report.fraction_lost, report.total_lost), ((25 * 256 / 101) as u8, 25));
        receive(&mut receiver, 101..201);
        let report = receiver.report_block(at(4_000), 7);
        assert_eq!(
            (report.fraction_lost, report.total_lost),
            (0, 25),
            "the interval is clean, the total stays"
        );
    }

    #[test]
    fn a_late_packet_mends_the_total() {
        let mut receiver = Receiver::new(48_000);
        let numbers = receive(&mut receiver, [10, 11, 13, 12]);
        assert_eq!(numbers, [65_546, 65_547, 65_549, 65_548]);
        assert_eq!(receiver.lost(), 0);
        let numbers = receive(&mut receiver, [9]);
        assert_eq!(numbers, [65_545], "before the first");
        assert_eq!(receiver.lost(), 0);
    }

    #[test]
    fn more_received_than_expected_is_no_loss() {
        let mut receiver = Receiver::new(48_000);
        receive(&mut receiver, [10, 11, 11, 11]);
        let report = receiver.report_block(at(100), 7);
        assert_eq!((report.fraction_lost, report.total_lost), (0, 0));
    }

    #[test]
    fn all_lost_but_one_still_fits_a_byte() {
        let mut receiver = Receiver::new(48_000);
        receive(&mut receiver, [10]);
        receiver.report_block(at(0), 7);
        receive(&mut receiver, [2_900]);
        let report = receiver.report_block(at(100), 7);
        assert_eq!((report.fraction_lost, report.total_lost), (255, 2_889));
    }

    #[test]
    fn a_jump_of_3000_starts_over_and_one_less_does_not() {
        let mut receiver = Receiver::new(48_000);
        receive(&mut receiver, [10, 3_009]);
        assert_eq!(receiver.lost(), 2_998);
        let mut receiver = Receiver::new(48_000);
        let numbers = receive(&mut receiver, [10, 3_010, 3_012]);
        assert_eq!(numbers, [65_546, 68_546, 68_548]);
        assert_eq!(receiver.lost(), 1);
    }

    #[test]
    fn a_straggler_from_before_a_jump_does_not_undo_it() {
        let mut receiver = Receiver::new(48_000);
        receive(&mut receiver, [10, 3_010, 11, 3_011]);
        assert_eq!(receiver.lost(), 0);
    }

    #[test]
    fn a_source_that_restarts_lower_goes_on_in_the_next_cycle() {
        let mut receiver = Receiver::new(48_000);
        let numbers = receive(&mut receiver, [20_000, 20_001, 500, 501, 502, 504]);
        assert_eq!(numbers[2], 65_536 + 500, "one alone is an oddity");
        assert_eq!(numbers[3..], [131_072 + 501, 131_072 + 502, 131_072 + 504]);
        assert_eq!(receiver.lost(), 1);
        let report = receiver.report_block(at(100), 7);
        assert_eq!(report.last_sequence_number, (1 << 16) + 504);
    }

    #[test]
    fn jitter_follows_the_rfc() {
        let mut receiver = Receiver::new(48_000);
        // Every other packet 10 ms late: |D| is 480 units each time, which is where the filter settles.
        for n in 0..1_000_u64 {
            receiver.on_packet(at(n * 20 + (n % 2) * 10), n as u16, n as u32 * 960);
        }
        let jitter = receiver.report_block(at(20_000), 7).jitter;
        assert!((470..=480).contains(&jitter), "{jitter}");
        assert!((ms(9)..=ms(10)).contains(&receiver.jitter()));
        receiver.on_packet(at(20_000), 1_000, 0xdead_beef);
        receiver.on_packet(at(20_020), 1_001, 0xdead_beef + 960);
        assert!(receiver.report_block(at(20_020), 7).jitter < 480, "a clock step is no jitter");
    }

    #[test]
    fn the_delay_since_a_sender_report_is_ours() {
        let mut receiver = Receiver::new(90_000);
        receiver.on_packet(at(0), 1, 0);
        assert_eq!(receiver.sender_report(), None);
        receiver.on_sender_report(at(1_000), 0x0123_4567_89ab_cdef, 42);
        let report = receiver.report_block(at(1_500), 7);
        assert_eq!(report.last_sender_report, 0x4567_89ab);
        assert_eq!(report.delay, 1 << 15, "half a second");
        let map = SenderReportMap { ntp: 0x0123_4567_89ab_cdef, rtp: 42, received_at: at(1_000) };
        assert_eq!(receiver.sender_report(), Some(map));
    }

    proptest! {
        #[test]
        fn loss_is_what_was_not_sent_on(first in any::<u16>(), lost in proptest::collection::vec(prop::bool::weighted(0.2), 2..400)) {
            let mut receiver = Receiver::new(90_000);
            let mut lost = lost;
            let last = lost.len() - 1;
            (lost[0], lost[last]) = (false, false);
            for (n, lost) in lost.iter().enumerate().filter(|(_, lost)| !**lost) {
                let number = receiver.on_packet(at(n as u64), first.wrapping_add(n as u16), n as u32 * 90);
                prop_assert_eq!(number as u16, first.wrapping_add(n as u16), "{}", lost);
            }
            let total = lost.iter().filter(|lost| **lost).count() as u64;
            prop_assert_eq!(receiver.lost(), total);
            let report = receiver.report_block(at(1_000), 1);
            prop_assert_eq!(u64::from(report.fraction_lost), total * 256 / lost.len() as u64);
        }

        #[test]
        fn any_numbers_are_survived(packets in proptest::collection::vec(any::<(u16, u32, u16)>(), 0..200)) {
            let mut receiver = Receiver::new(90_000);
            for (seq, timestamp, time) in packets {
                let number = receiver.on_packet(at(time.into()), seq, timestamp);
                prop_assert_eq!(number as u16, seq);
                receiver.report_block(at(time.into()), 1);
            }
        }
    }
}

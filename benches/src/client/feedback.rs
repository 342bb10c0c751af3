//! The RTCP of a receiver: reports, requests for what is missing, arrival times.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::arrivals::Arrivals;
use super::missing::Missing;
use super::rtp::{self, Header};

/// What a receiver has to say to its server.
pub struct Feedback {
    nack: bool,
    streams: HashMap<u32, Stream>,
    arrivals: Option<Arrivals>,
    /// When arrival times are due.
    next_times: Instant,
    next_report: Instant,
    /// Something went missing since the last NACK.
    skipped: bool,
    /// NACK messages sent.
    pub nacks: u64,
}

/// One SSRC.
#[derive(Default)]
struct Stream {
    highest: u64,
    received: u64,
    first: u64,
    /// Of the last report: numbers expected and received.
    reported: (u64, u64),
    missing: Missing,
    /// The middle of the last sender report's NTP time, and when it came.
    report: Option<(u32, Instant)>,
}

impl Feedback {
    /// `times`: transport-wide feedback has been offered. `nack`: so have repairs.
    pub fn new(now: Instant, times: bool, nack: bool) -> Feedback {
        Feedback {
            nack,
            streams: HashMap::new(),
            arrivals: times.then(Arrivals::default),
            next_times: now + TIMES,
            next_report: now + REPORT,
            skipped: false,
            nacks: 0,
        }
    }

    /// A packet came; tells its number with rollovers. `repairable`: what its stream lacks will be asked for.
    pub fn on_packet(&mut self, header: &Header, arrived: Duration, repairable: bool) -> u64 {
        let stream = self.streams.entry(header.ssrc).or_insert_with(|| {
            let first = header.seq.into();
            Stream { first, highest: first, reported: (first, 0), ..Stream::default() }
        });
        let number = rtp::unwrap(stream.highest, header.seq);
        stream.received += 1;
        if number > stream.highest {
            if repairable && self.nack && number > stream.highest + 1 {
                stream.missing.skip(stream.highest + 1..number);
                self.skipped = true;
            }
            stream.highest = number;
        } else if !stream.missing.is_empty() {
            stream.missing.found(number);
        }
        if let (Some(arrivals), Some(transport)) = (&mut self.arrivals, header.transport) {
            arrivals.record(transport, arrived, header.ssrc);
        }
        number
    }

    /// The number that a packet of this stream will get, without booking it.
    pub fn number_of(&self, header: &Header) -> u64 {
        self.streams
            .get(&header.ssrc)
            .map_or(header.seq.into(), |stream| rtp::unwrap(stream.highest, header.seq))
    }

    /// A repair of this packet came.
    pub fn on_repair(&mut self, ssrc: u32, seq: u16) {
        if let Some(stream) = self.streams.get_mut(&ssrc) {
            let number = rtp::unwrap(stream.highest, seq);
            stream.missing.found(number);
        }
    }

    /// Gives up on what is missing: the publisher pauses.
    pub fn forget(&mut self) {
        self.streams.values_mut().for_each(|stream| stream.missing.clear());
    }

    /// Hears a compound from the server: sender reports are answered with their echo.
    pub fn hear(&mut self, now: Instant, compound: &[u8]) {
        let Some(report) = compound.first_chunk::<16>().filter(|report| report[1] == 200) else { return };
        let ssrc = u32::from_be_bytes([report[4], report[5], report[6], report[7]]);
        if let Some(stream) = self.streams.get_mut(&ssrc) {
            let middle = u32::from_be_bytes([report[10], report[11], report[12], report[13]]);
            stream.report = Some((middle, now));
        }
    }

    /// Whether a NACK ought to go out now rather than with the rest.
    pub fn is_urgent(&self) -> bool {
        self.skipped
    }

    /// Whether something is missing, and may have to be asked for once more.
    pub fn is_lacking(&self) -> bool {
        self.nack && self.streams.values().any(|stream| !stream.missing.is_empty())
    }

    /// When there is something to say.
    pub fn poll_timeout(&self) -> Instant {
        let times = self.arrivals.as_ref().map(|_| self.next_times);
        times.into_iter().fold(self.next_report, Instant::min)
    }

    /// The compound that is due; empty when nothing is.
    pub fn write(&mut self, now: Instant, out: &mut Vec<u8>) {
        out.clear();
        let report = now >= self.next_report;
        // RFC 3550 §6.1: every compound begins with a report, which may be empty.
        if report {
            self.next_report = now + REPORT;
            self.write_reports(now, out);
        } else {
            out.extend(EMPTY_REPORT);
        }
        let begin = out.len();
        self.write_nacks(now, out);
        if self.arrivals.is_some() && now >= self.next_times {
            self.next_times = now + TIMES;
            self.arrivals.iter_mut().for_each(|arrivals| arrivals.write(out));
        }
        if !report && out.len() == begin {
            out.clear();
        }
    }

    fn write_reports(&mut self, now: Instant, out: &mut Vec<u8>) {
        let mut streams: Vec<(&u32, &mut Stream)> = self.streams.iter_mut().collect();
        if streams.is_empty() {
            out.extend(EMPTY_REPORT);
        }
        for chunk in streams.chunks_mut(31) {
            out.extend([0x80 | chunk.len() as u8, 201]);
            out.extend((1 + 6 * chunk.len() as u16).to_be_bytes());
            out.extend(OURS.to_be_bytes());
            for (ssrc, stream) in chunk {
                stream.write_block(now, **ssrc, out);
            }
        }
    }

    fn write_nacks(&mut self, now: Instant, out: &mut Vec<u8>) {
        self.skipped = false;
        let mut pairs = Vec::new();
        for (ssrc, stream) in self.streams.iter_mut().filter(|(_, stream)| !stream.missing.is_empty()) {
            stream.missing.ask(now, &mut pairs);
            for chunk in pairs.chunks(LARGEST_NACK) {
                self.nacks += 1;
                out.extend([0x81, 205]);
                out.extend((2 + chunk.len() as u16).to_be_bytes());
                out.extend(OURS.to_be_bytes());
                out.extend(ssrc.to_be_bytes());
                chunk.iter().for_each(|(number, mask)| {
                    out.extend(number.to_be_bytes());
                    out.extend(mask.to_be_bytes());
                });
            }
            pairs.clear();
        }
    }
}

impl Stream {
    /// RFC 3550 §6.4.1, without jitter: nobody on loopback steers by it.
    fn write_block(&mut self, now: Instant, ssrc: u32, out: &mut Vec<u8>) {
        let lost = (self.highest + 1 - self.first).saturating_sub(self.received);
        let expected = (self.highest + 1).saturating_sub(self.reported.0);
        let received = self.received - self.reported.1;
        let fraction = expected.saturating_sub(received) * 256 / expected.max(1);
        self.reported = (self.highest + 1, self.received);
        out.extend(ssrc.to_be_bytes());
        out.push(fraction.min(255) as u8);
        out.extend(&(lost.min(0x7f_ffff) as u32).to_be_bytes()[1..]);
        out.extend((self.highest as u32).to_be_bytes());
        out.extend(0_u32.to_be_bytes());
        let (middle, since) = self.report.map_or((0, 0), |(middle, came)| {
            (middle, ((now - came).as_micros() * 65_536 / 1_000_000) as u32)
        });
        out.extend(middle.to_be_bytes());
        out.extend(since.to_be_bytes());
    }
}

/// How a receiver that sends nothing calls itself; libwebrtc does the same.
const OURS: u32 = 1;
const EMPTY_REPORT: [u8; 8] = [0x80, 201, 0, 1, 0, 0, 0, 1];
/// libwebrtc's interval grows from 50 to 250 ms with less bandwidth.
const TIMES: Duration = Duration::from_millis(100);
const REPORT: Duration = Duration::from_secs(1);
/// Pairs in one NACK, so that a compound stays below an MTU.
const LARGEST_NACK: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    fn header(seq: u16) -> Header {
        Header { marker: false, padded: false, pt: 96, seq, timestamp: 0, ssrc: 7, len: 12, transport: None }
    }

    #[test]
    fn a_gap_is_asked_for_at_once_and_reported_within_a_second() {
        let start = crate::clock::now();
        let mut feedback = Feedback::new(start, false, true);
        let mut out = Vec::new();
        feedback.on_packet(&header(65_535), Duration::ZERO, true);
        assert!(!feedback.is_urgent());
        assert_eq!(feedback.on_packet(&header(1), Duration::ZERO, true), 65_537);
        assert!(feedback.is_urgent());
        feedback.write(start, &mut out);
        let nack = [0x81, 205, 0, 3, 0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0, 0];
        assert_eq!(out, [EMPTY_REPORT.as_slice(), &nack].concat());
        feedback.on_repair(7, 0);
        feedback.write(start + Duration::from_millis(500), &mut out);
        assert_eq!(out, [0_u8; 0]);
        feedback.write(start + REPORT, &mut out);
        // A third of what was expected is lost, one packet, up to 65537.
        assert_eq!(out[..20], [0x81, 201, 0, 7, 0, 0, 0, 1, 0, 0, 0, 7, 85, 0, 0, 1, 0, 1, 0, 1]);
    }
}

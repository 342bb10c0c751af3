//! When packets arrived, told to the sender: draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1.

use std::time::Duration;

use super::rtp;

/// Arrivals since the last feedback.
#[derive(Default)]
pub struct Arrivals {
    last: Option<u64>,
    /// By number, with the time since the epoch.
    arrived: Vec<(u64, Duration)>,
    feedbacks: u8,
    sender: u32,
}

impl Arrivals {
    /// A packet came. `ssrc` is any stream of its sender.
    pub fn record(&mut self, number: u16, arrived: Duration, ssrc: u32) {
        // Far from zero, so that reordering at the start does not run below it.
        let number = rtp::unwrap(self.last.unwrap_or(0x1_0000 + u64::from(number)), number);
        self.last = self.last.max(Some(number));
        self.arrived.push((number, arrived));
        self.sender = ssrc;
    }

    /// Appends a feedback packet about everything since the last one.
    pub fn write(&mut self, out: &mut Vec<u8>) {
        self.arrived.sort_unstable();
        self.arrived.dedup_by_key(|(number, _)| *number);
        let (Some(&(first, start)), Some(&(last, _))) = (self.arrived.first(), self.arrived.last()) else {
            return;
        };
        let reference = start.as_micros() as u64 / REFERENCE;
        let begin = out.len();
        out.extend([0x8f, 205, 0, 0, 0, 0, 0, 1]);
        out.extend(self.sender.to_be_bytes());
        out.extend((first as u16).to_be_bytes());
        out.extend(((last - first + 1) as u16).to_be_bytes());
        out.extend(&(reference as u32).to_be_bytes()[1..]);
        out.push(self.feedbacks);
        self.feedbacks = self.feedbacks.wrapping_add(1);

        let mut deltas = Vec::with_capacity(self.arrived.len() + 4);
        let mut ticks = (reference * REFERENCE / TICK) as i64;
        let mut packets = self.arrived.drain(..).peekable();
        for chunk in (first..=last).step_by(SYMBOLS) {
            // RFC-to-be §3.1.4: a status vector of seven two-bit symbols.
            let mut vector = 0b11;
            for number in chunk..chunk + SYMBOLS as u64 {
                let symbol = match packets.next_if(|(here, _)| *here == number) {
                    None => 0,
                    Some((_, at)) => {
                        let now = (at.as_micros() as u64 / TICK) as i64;
                        let delta = (now - ticks).clamp(i16::MIN.into(), i16::MAX.into()) as i16;
                        ticks += i64::from(delta);
                        match u8::try_from(delta) {
                            Ok(small) => deltas.push(small),
                            Err(_) => deltas.extend(delta.to_be_bytes()),
                        }
                        if u8::try_from(delta).is_ok() { 1 } else { 2 }
                    }
                };
                vector = vector << 2 | symbol;
            }
            out.extend((vector as u16).to_be_bytes());
        }
        drop(packets);
        out.extend(deltas);
        while !(out.len() - begin).is_multiple_of(4) {
            out.push(0);
        }
        let words = ((out.len() - begin) / 4 - 1) as u16;
        out[begin + 2..begin + 4].copy_from_slice(&words.to_be_bytes());
    }
}

/// Of the reference time, in microseconds.
const REFERENCE: u64 = 64_000;
/// Of a delta, in microseconds.
const TICK: u64 = 250;
const SYMBOLS: usize = 7;

#[test]
fn arrivals_are_told_with_their_gaps() {
    let mut arrivals = Arrivals::default();
    let at = |micros: u64| Duration::from_micros(64_000 * 3 + micros);
    arrivals.record(65_535, at(500), 9);
    arrivals.record(1, at(1_000), 9);
    arrivals.record(2, at(101_000), 9);
    let mut out = Vec::new();
    arrivals.write(&mut out);
    assert_eq!(
        out,
        [
            0x8f,
            205,
            0,
            6,
            0,
            0,
            0,
            1,
            0,
            0,
            0,
            9, // header, our SSRC, theirs
            0xff,
            0xff,
            0,
            4,
            0,
            0,
            3,
            0, // from 65535, four packets, reference time 3, first feedback
            0b1101_0001,
            0b1000_0000,
            2,
            2, // here, missing, here, here after long; two deltas of 500 µs
            1,
            0x90,
            0,
            0, // 400 ticks, filler
        ]
    );
    out.clear();
    arrivals.write(&mut out);
    assert_eq!(out, [0_u8; 0]);
}

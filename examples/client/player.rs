//! Plays a stream in a loop, at its own speed.

use std::time::Duration;

use rtc::rtp::codec::av1::Av1Payloader;
use rtc::rtp::codec::opus::OpusPayloader;
use rtc::rtp::codec::vp8::Vp8Payloader;
use rtc::rtp::codec::vp9::Vp9Payloader;
use rtc::rtp::packetizer::Payloader;
use tokio::time::{Instant, sleep_until};
use webrtc::error::Error;

use super::connection::{Outlet, random};
use crate::media::{Codec, Stream};

/// Plays until the connection is gone, which is no error.
///
/// A file cannot encode a keyframe when one is asked for. The player does what a file can: it goes on with the next
/// keyframe there is, which may be the first one, once more. Time does not jump with it.
pub async fn play(stream: &Stream, outlet: &Outlet) -> Result<(), Error> {
    let mut payloader = payloader(stream.codec());
    let mut clock = Clock::new(stream.codec());
    let mut seq = random() as u16;
    let mut index = 0;
    let mut start = Instant::now();
    loop {
        tokio::select! {
            biased;
            () = outlet.keyframe_request(), if stream.codec() != Codec::Opus => {
                index = stream.keyframe_from(index);
            }
            () = sleep_until(start + clock.elapsed) => {
                let unit = &stream.units()[index];
                let payloads = payloader.payload(MTU, &unit.data)?;
                let last = payloads.len().saturating_sub(1);
                for (n, payload) in payloads.into_iter().enumerate() {
                    // Opus marks where sound begins after silence (RFC 7587 §4.1), and ours does not pause.
                    let marker = n == last && stream.codec() != Codec::Opus;
                    if outlet.send(seq, clock.timestamp(), marker, payload).await.is_err() {
                        return Ok(());
                    }
                    seq = seq.wrapping_add(1);
                }
                clock.elapsed += stream.lasts(index);
                index = stream.after(index);
                // Small delays are made up for; after a long one (a stopped process) nobody wants the backlog.
                let late = start.elapsed().saturating_sub(clock.elapsed);
                if late > PATIENCE {
                    start += late;
                }
            }
        }
    }
}

/// The time of the stream, as RTP counts it.
struct Clock {
    elapsed: Duration,
    rate: u32,
    base: u32,
}

impl Clock {
    fn new(codec: Codec) -> Clock {
        let rate = if codec == Codec::Opus { 48_000 } else { 90_000 };
        Clock { elapsed: Duration::ZERO, rate, base: random() }
    }

    /// From the whole elapsed time, not step by step: roundings do not add up.
    fn timestamp(&self) -> u32 {
        let ticks = (self.elapsed.as_nanos() * u128::from(self.rate) + 500_000_000) / 1_000_000_000;
        self.base.wrapping_add(ticks as u32)
    }
}

fn payloader(codec: Codec) -> Box<dyn Payloader> {
    match codec {
        // Without picture ids: those of this payloader grow from seven bits to fifteen after 128 frames, and nobody
        // between us and the decoder may change the width of a field.
        Codec::Vp8 => Box::new(Vp8Payloader::default()),
        Codec::Vp9 => Box::new(Vp9Payloader::default()),
        Codec::Av1 => Box::new(Av1Payloader::default()),
        Codec::Opus => Box::new(OpusPayloader),
    }
}

/// Of a payload; with RTP, SRTP, UDP and IPv6 it stays below the 1280 that every path carries.
const MTU: usize = 1_180;
const PATIENCE: Duration = Duration::from_secs(1);

#[test]
fn timestamps_do_not_drift() {
    let mut clock = Clock { elapsed: Duration::ZERO, rate: 90_000, base: u32::MAX };
    // 30 frames a second are no whole number of nanoseconds each.
    clock.elapsed = (0..30 * 3_600).map(|_| Duration::from_nanos(33_333_333)).sum();
    let exact = 90_000u32 * 3_600;
    assert!(exact.wrapping_sub(1).wrapping_sub(clock.timestamp()) < 10, "{}", clock.timestamp());
    clock.elapsed = Duration::from_micros(100);
    assert_eq!(clock.timestamp(), 8, "it wraps");
}

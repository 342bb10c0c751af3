//! The highest rate at which nothing to speak of is lost.

use std::time::Duration;

use sluicegate_benches::client::Shape;

use crate::bench::Bench;
use crate::figures::Figures;

/// Raises the publishers' bitrate until it is too much, then closes in. The figures are those of the highest rate
/// that was clean.
///
/// `Err` is a sentence for the user.
pub fn climb(bench: &mut Bench, time: Duration) -> Result<Figures, String> {
    let time = time.min(LONGEST_STEP);
    let mut best: Option<Figures> = None;
    let mut too_much: Option<u32> = None;
    let first = bench.shape();
    let mut rate = first.video_bps;
    for _ in 0..STEPS {
        bench.set_shape(Shape { video_bps: rate, ..first });
        let mut figures = bench.flow(time)?;
        if !is_clean(&figures, time) {
            // Once may be the machine's doing; what is too much is so again.
            figures = bench.flow(time)?;
        }
        tell(&figures, is_clean(&figures, time));
        if is_clean(&figures, time) {
            best = Some(figures);
        } else {
            too_much = Some(rate);
        }
        let clean = best.as_ref().map_or(0, |best| best.video_bps);
        rate = match too_much {
            None => (f64::from(rate) * FACTOR) as u32,
            Some(too_much) if f64::from(too_much - clean) <= f64::from(clean) * CLOSE => break,
            Some(too_much) => clean + (too_much - clean) / 2,
        };
        if rate < LOWEST {
            break;
        }
    }
    best.ok_or_else(|| "not even a low rate was clean; look at what is lost without --ramp".to_owned())
}

/// Whether what was to be sent was sent, and has arrived.
fn is_clean(figures: &Figures, time: Duration) -> bool {
    // Who falls behind loses nothing at first: what it owes lies in buffers, and shows as latency.
    let in_time = figures.p999_ms < LATEST_MS;
    // Publishers that fall behind have not sent what the rate asks for: that is the load tool's limit.
    let sent = figures.seconds < time.as_secs_f64() * 1.02 + 0.02;
    figures.lost_percent < CLEAN_PERCENT && in_time && sent
}

/// Progress is for people; results go to standard output.
fn tell(figures: &Figures, clean: bool) {
    eprintln!(
        "{:>7} kb/s: {:>7.0} packets/s, {:.3} % lost ({} at the clients), p99.9 {:.0} ms, server {:.0} %, clients {:.0} %{}",
        figures.video_bps / 1_000,
        figures.out_packets_per_second,
        figures.lost_percent,
        figures.dropped_at_clients,
        figures.p999_ms,
        figures.server_cpu_percent.unwrap_or_default(),
        figures.clients_cpu_percent,
        if clean { "" } else { ": too much" },
    );
}

/// What counts as clean.
const CLEAN_PERCENT: f64 = 0.1;
/// Three frames: a server that keeps up has sent one before the next is there.
const LATEST_MS: f64 = 100.0;
const LONGEST_STEP: Duration = Duration::from_secs(3);
/// From one step up to the next.
const FACTOR: f64 = 1.4;
/// Where to stop closing in: the clean rate is known to a twentieth.
const CLOSE: f64 = 0.05;
/// From 1.5 Mb/s, fifteen steps up are a gigabit for each subscriber.
const STEPS: usize = 24;
const LOWEST: u32 = 10_000;

//! What a watching client receives, stream by stream.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use tokio::sync::watch;
use tokio::time::Instant;
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};
use webrtc::peer_connection::{PeerConnectionEventHandler, RTCPeerConnectionState};

/// Takes a connection's events: its state, and every packet it receives.
pub struct Meter {
    state: watch::Sender<RTCPeerConnectionState>,
    gauges: Arc<Mutex<Vec<Gauge>>>,
}

impl Meter {
    pub fn new() -> Arc<Meter> {
        let (state, _) = watch::channel(RTCPeerConnectionState::New);
        Arc::new(Meter { state, gauges: Arc::default() })
    }

    /// Follows the state of the connection.
    pub fn state(&self) -> watch::Receiver<RTCPeerConnectionState> {
        self.state.subscribe()
    }

    /// What came since the last reading, a line for each stream, in the order in which they began.
    pub fn read(&self, now: Instant) -> Vec<Reading> {
        locked(&self.gauges).iter_mut().map(|gauge| gauge.read(now)).collect()
    }
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Meter {
    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        self.state.send_replace(state);
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        let gauges = self.gauges.clone();
        tokio::spawn(async move {
            let is_video = track.kind().await == RtpCodecKind::Video;
            while let Some(event) = track.poll().await {
                let TrackRemoteEvent::OnRtpPacket(packet) = event else {
                    continue;
                };
                let ssrc = packet.header.ssrc;
                let known = locked(&gauges).iter().any(|gauge| gauge.ssrc == ssrc);
                if !known {
                    let codec = track.codec(ssrc).await;
                    let mime = codec.as_ref().map_or("", |codec| codec.mime_type.as_str());
                    let rate = codec.as_ref().map_or(0, |codec| codec.clock_rate);
                    let name = mime.rsplit('/').next().unwrap_or_default().to_owned();
                    locked(&gauges).push(Gauge::new(ssrc, is_video, name, rate, Instant::now()));
                }
                let mut gauges = locked(&gauges);
                if let Some(gauge) = gauges.iter_mut().find(|gauge| gauge.ssrc == ssrc) {
                    gauge.book(Instant::now(), &packet.header, packet.payload.len());
                }
            }
        });
    }
}

fn locked(gauges: &Mutex<Vec<Gauge>>) -> MutexGuard<'_, Vec<Gauge>> {
    gauges.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One stream's counts.
struct Gauge {
    ssrc: u32,
    is_video: bool,
    codec: String,
    clock_rate: u32,
    since: Instant,
    packets: u64,
    bytes: usize,
    /// Markers: the last packets of frames.
    frames: u64,
    /// The highest sequence number, unwrapped.
    highest: Option<i64>,
    /// Numbers skipped, less those that came late, since the last reading.
    missing: i64,
    /// Arrival less timestamp, in ticks, of the packet before.
    transit: Option<f64>,
    /// In ticks.
    jitter: f64,
}

impl Gauge {
    fn new(ssrc: u32, is_video: bool, codec: String, clock_rate: u32, now: Instant) -> Gauge {
        Gauge {
            ssrc,
            is_video,
            codec,
            clock_rate,
            since: now,
            packets: 0,
            bytes: 0,
            frames: 0,
            highest: None,
            missing: 0,
            transit: None,
            jitter: 0.0,
        }
    }

    fn book(&mut self, now: Instant, header: &rtp::Header, bytes: usize) {
        self.packets += 1;
        self.bytes += bytes;
        self.frames += u64::from(header.marker);
        let seq = header.sequence_number;
        let step = self.highest.map_or(1, |highest| i64::from(seq.wrapping_sub(highest as u16) as i16));
        if step > 0 {
            self.missing += step - 1;
            self.highest = Some(self.highest.map_or(i64::from(seq), |highest| highest + step));
        } else {
            self.missing -= 1;
        }
        self.book_jitter(now, header.timestamp);
    }

    /// RFC 3550 §6.4.1. All packets of a frame have its time, so a large frame counts as some jitter.
    fn book_jitter(&mut self, now: Instant, timestamp: u32) {
        let arrival = now.duration_since(self.since).as_secs_f64() * f64::from(self.clock_rate);
        let transit = arrival - f64::from(timestamp);
        if let Some(before) = self.transit.replace(transit) {
            let difference = (transit - before).abs();
            // Half the range: the timestamp has wrapped.
            if difference < f64::from(u32::MAX / 2) {
                self.jitter += (difference - self.jitter) / 16.0;
            }
        }
    }

    fn read(&mut self, now: Instant) -> Reading {
        let seconds = now.duration_since(self.since).as_secs_f64().max(0.001);
        let per_second = |count: f64| (count / seconds).round() as u64;
        let reading = Reading {
            is_video: self.is_video,
            codec: self.codec.clone(),
            ssrc: self.ssrc,
            packets: per_second(self.packets as f64),
            kbps: per_second(self.bytes as f64 * 8.0 / 1_000.0),
            frames: per_second(self.frames as f64),
            // What came late was counted as lost a reading ago.
            lost: self.missing.max(0) as u64,
            jitter_ms: self.jitter * 1_000.0 / f64::from(self.clock_rate.max(1)),
        };
        // The clock of transit times starts anew.
        (self.since, self.transit) = (now, None);
        (self.packets, self.bytes, self.frames, self.missing) = (0, 0, 0, 0);
        reading
    }
}

/// One stream, since the reading before; rates are per second.
#[derive(Clone, PartialEq, Debug)]
pub struct Reading {
    pub is_video: bool,
    pub codec: String,
    pub ssrc: u32,
    pub packets: u64,
    /// Of payload.
    pub kbps: u64,
    pub frames: u64,
    pub lost: u64,
    pub jitter_ms: f64,
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Reading { codec, ssrc, packets, kbps, frames, lost, jitter_ms, .. } = self;
        let kind = if self.is_video { "video" } else { "audio" };
        write!(f, "{kind} {codec} {ssrc:08x}: {packets} packets/s, {kbps} kb/s, ")?;
        if self.is_video {
            write!(f, "{frames} frames/s, ")?;
        }
        write!(f, "{lost} lost, jitter {jitter_ms:.1} ms")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn header(seq: u16, timestamp: u32, marker: bool) -> rtp::Header {
        rtp::Header { sequence_number: seq, timestamp, marker, ..Default::default() }
    }

    #[test]
    fn losses_are_counted_over_the_seam_and_late_packets_taken_back() {
        let start = Instant::now();
        let mut gauge = Gauge::new(7, true, "VP8".to_owned(), 90_000, start);
        for seq in [65_533, 65_534, 1, 0, 2] {
            gauge.book(start, &header(seq, 0, seq == 2), 125);
        }
        let reading = gauge.read(start + Duration::from_secs(1));
        assert_eq!((reading.packets, reading.kbps, reading.frames, reading.lost), (5, 5, 1, 1));
        gauge.book(start, &header(65_535, 0, false), 0);
        assert_eq!(gauge.read(start + Duration::from_secs(2)).lost, 0);
        assert_eq!(
            reading.to_string(),
            "video VP8 00000007: 5 packets/s, 5 kb/s, 1 frames/s, 1 lost, jitter 0.0 ms"
        );
    }

    #[test]
    fn an_even_stream_has_no_jitter_and_an_uneven_one_has() {
        let start = Instant::now();
        let jitter = |uneven: u64| {
            let mut gauge = Gauge::new(7, false, "opus".to_owned(), 48_000, start);
            for n in 0..100 {
                let at = start + Duration::from_millis(u64::from(n) * 20 + u64::from(n % 2) * uneven);
                gauge.book(at, &header(n, u32::from(n) * 960, false), 30);
            }
            gauge.read(start + Duration::from_secs(2)).jitter_ms
        };
        assert!(jitter(0) < 0.01, "{}", jitter(0));
        assert!((9.0..=10.0).contains(&jitter(10)), "{}", jitter(10));
    }
}

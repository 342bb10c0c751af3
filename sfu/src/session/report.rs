//! What a client says about how it fares: a digest of its `getStats`, as JSON.
//!
//! ```json
//! {"v": 1, "t": 1780000000000, "rtt": 0.031, "jitter": 0.004, "loss": 0.01, "bitrateIn": 2400000, "bitrateOut": 900000,
//!  "fps": 29.8, "freezes": 0, "freezeMs": 0, "limited": "none", "playoutMs": 80}
//! ```
//!
//! `rtt` and `jitter` are in seconds, as `getStats` has them; bitrates in bits per second; `loss`, `freezes` and `freezeMs` since the
//! last report. All but `v` may be missing or null, and what else there is is ignored, `t` too.

use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use crate::counters::{
    BITRATE, Counters, Direction, FPS, JITTER, LOSS, MEDIA_LATENCY, QualityLimit, RTT, ReportOutcome, nanos,
};
use crate::event::ClientReport;
use crate::units::Bitrate;

/// One client's reports.
#[derive(Default, Debug)]
pub struct Reports {
    /// When the last one was read, and the last one taken.
    read_at: Option<Instant>,
    taken_at: Option<Instant>,
}

impl Reports {
    /// Takes a report, if it is one and it is time for one.
    pub fn hear(&mut self, now: Instant, text: &[u8], counters: &mut Counters) -> Option<ClientReport> {
        let read = self.read(now, text);
        counters.client_report(read.err().unwrap_or(ReportOutcome::Accepted));
        let report = read.ok()?;
        let since = self.taken_at.replace(now).map(|at| now.saturating_duration_since(at).min(LONGEST));
        count(&report, since, counters);
        Some(report)
    }

    fn read(&mut self, now: Instant, text: &[u8]) -> Result<ClientReport, ReportOutcome> {
        if text.len() > MAX_REPORT {
            return Err(ReportOutcome::Oversize);
        }
        if self.read_at.is_some_and(|at| now < at + INTERVAL) {
            return Err(ReportOutcome::RateLimited);
        }
        self.read_at = Some(now);
        match serde_json::from_slice(text) {
            Ok(Value::Object(keys)) => report(&keys).ok_or(ReportOutcome::Malformed),
            _ => Err(ReportOutcome::Malformed),
        }
    }
}

fn report(keys: &Map<String, Value>) -> Option<ClientReport> {
    if keys.get("v").and_then(Value::as_u64) != Some(VERSION) {
        return None;
    }
    let number = |key, most| number(keys, key, most);
    let seconds = |key, most, unit: f64| {
        Some(number(key, most / unit)?.map(|value| Duration::from_secs_f64(value * unit)))
    };
    let bitrate = |key| Some(number(key, MOST_BITS)?.map(|bits| Bitrate::bps(bits as u64)));
    Some(ClientReport {
        rtt: seconds("rtt", LATEST, 1.0)?,
        jitter: seconds("jitter", LATEST, 1.0)?,
        loss: number("loss", 1.0)?,
        receives: bitrate("bitrateIn")?,
        sends: bitrate("bitrateOut")?,
        fps: number("fps", MOST_FPS)?,
        freezes: number("freezes", MOST_FREEZES)?.map(|freezes| freezes as u32),
        frozen: seconds("freezeMs", LONGEST.as_secs_f64(), 0.001)?,
        limited: limit(keys)?,
        playout: seconds("playoutMs", LATEST, 0.001)?,
    })
}

/// A number between 0 and `most`. Outer `None`: there is something else under this key.
fn number(keys: &Map<String, Value>, key: &str, most: f64) -> Option<Option<f64>> {
    match keys.get(key) {
        None | Some(Value::Null) => Some(None),
        Some(value) => {
            value.as_f64().filter(|value| value.is_finite()).map(|value| Some(value.clamp(0.0, most)))
        }
    }
}

fn limit(keys: &Map<String, Value>) -> Option<Option<QualityLimit>> {
    match keys.get("limited") {
        None | Some(Value::Null) => Some(None),
        Some(Value::String(word)) => {
            let known = QualityLimit::ALL.into_iter().find(|limit| limit.as_str() == word);
            Some(Some(known.unwrap_or(QualityLimit::Other)))
        }
        Some(_) => None,
    }
}

/// Into the histograms. `since`: the time it is about.
fn count(report: &ClientReport, since: Option<Duration>, counters: &mut Counters) {
    report.rtt.into_iter().for_each(|rtt| counters.client_rtt.record(&RTT, rtt));
    report.jitter.into_iter().for_each(|jitter| counters.client_jitter.record(&JITTER, jitter));
    report.loss.into_iter().for_each(|loss| counters.client_loss.record_ratio(&LOSS, loss));
    report.fps.into_iter().for_each(|fps| counters.client_fps.record_number(&FPS, fps.round() as u64));
    report.playout.into_iter().for_each(|playout| counters.client_playout.record(&MEDIA_LATENCY, playout));
    // What it sends comes in here.
    for (bitrate, direction) in [(report.sends, Direction::In), (report.receives, Direction::Out)] {
        if let Some(bitrate) = bitrate {
            counters.client_bitrate[direction as usize].record_number(&BITRATE, bitrate.as_bps());
        }
    }
    counters.client_freezes += u64::from(report.freezes.unwrap_or(0));
    counters.client_freeze_time += nanos(report.frozen.unwrap_or_default());
    if let (Some(limit), Some(since)) = (report.limited, since) {
        counters.client_limited[limit as usize] += nanos(since);
    }
}

const VERSION: u64 = 1;
/// Bytes. A report has 200.
const MAX_REPORT: usize = 4 * 1024;
/// Clients report every 10 to 30 s. What cannot be read counts as one.
const INTERVAL: Duration = Duration::from_secs(5);
/// What a client can say about the time before.
const LONGEST: Duration = Duration::from_secs(60);
/// In seconds.
const LATEST: f64 = 30.0;
const MOST_BITS: f64 = 1e10;
const MOST_FPS: f64 = 240.0;
const MOST_FREEZES: f64 = 1_000.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at, ms};

    fn hear(reports: &mut Reports, at_ms: u64, text: &str) -> (Option<ClientReport>, Counters) {
        let mut counters = Counters::default();
        (reports.hear(at(at_ms), text.as_bytes(), &mut counters), counters)
    }

    fn outcome(counters: &Counters) -> ReportOutcome {
        let told = ReportOutcome::ALL.into_iter().filter(|o| counters.client_reports[*o as usize] == 1);
        let told: Vec<_> = told.collect();
        assert_eq!(told.len(), 1);
        told[0]
    }

    #[test]
    fn a_report_is_read_and_counted() {
        let text = r#"{"v":1,"t":1,"rtt":0.031,"jitter":0.004,"loss":0.01,"bitrateIn":2400000,"bitrateOut":900000,
            "fps":29.8,"freezes":2,"freezeMs":450,"limited":"cpu","playoutMs":80,"mystery":[{}]}"#;
        let mut reports = Reports::default();
        let (report, counters) = hear(&mut reports, 0, text);
        let expected = ClientReport {
            rtt: Some(ms(31)),
            jitter: Some(ms(4)),
            loss: Some(0.01),
            receives: Some(Bitrate::kbps(2_400)),
            sends: Some(Bitrate::kbps(900)),
            fps: Some(29.8),
            freezes: Some(2),
            frozen: Some(ms(450)),
            limited: Some(QualityLimit::Cpu),
            playout: Some(ms(80)),
        };
        assert_eq!(report, Some(expected));
        assert_eq!(outcome(&counters), ReportOutcome::Accepted);
        assert_eq!([counters.client_rtt.buckets[3], counters.client_fps.buckets[5]], [1, 1]);
        assert_eq!((counters.client_freezes, counters.client_freeze_time), (2, 450_000_000));
        assert_eq!(counters.client_bitrate[Direction::In as usize].sum, 900_000);
        assert_eq!(counters.client_limited, [0; 4], "it is not known since when");
        let (_, counters) = hear(&mut reports, 10_000, text);
        assert_eq!(counters.client_limited[QualityLimit::Cpu as usize], 10_000_000_000);
    }

    #[test]
    fn what_is_too_large_to_be_true_is_cut() {
        let text = r#"{"v":1,"rtt":1e300,"loss":-3,"fps":1e9,"freezes":1e12,"freezeMs":1e99,"bitrateIn":1e40,
            "playoutMs":1e9,"limited":"moon"}"#;
        let (report, _) = hear(&mut Reports::default(), 0, text);
        let report = report.expect("it is one");
        assert_eq!((report.rtt, report.loss, report.fps), (Some(ms(30_000)), Some(0.0), Some(240.0)));
        assert_eq!((report.freezes, report.frozen), (Some(1_000), Some(ms(60_000))));
        assert_eq!((report.receives, report.playout), (Some(Bitrate::bps(10_000_000_000)), Some(ms(30_000))));
        assert_eq!(report.limited, Some(QualityLimit::Other));
    }

    #[test]
    fn what_does_not_read_is_counted_and_ignored() {
        let nested = "[".repeat(2_000);
        let texts =
            ["", "null", "[]", "{}", r#"{"v":2}"#, r#"{"v":1,"rtt":"x"}"#, r#"{"v":1,"rtt":1e999}"#, &nested];
        for text in texts {
            let (report, counters) = hear(&mut Reports::default(), 0, text);
            assert_eq!((report, outcome(&counters)), (None, ReportOutcome::Malformed), "{text}");
        }
    }

    #[test]
    fn five_seconds_and_not_sooner() {
        let mut reports = Reports::default();
        let mut at = |ms| outcome(&hear(&mut reports, ms, r#"{"v":1}"#).1);
        assert_eq!(at(0), ReportOutcome::Accepted);
        assert_eq!(at(4_999), ReportOutcome::RateLimited);
        assert_eq!(at(5_000), ReportOutcome::Accepted);
    }

    #[test]
    fn four_kilobytes_and_no_more() {
        let text = |len: usize| format!("{:<len$}", r#"{"v":1}"#);
        let (_, counters) = hear(&mut Reports::default(), 0, &text(4_096));
        assert_eq!(outcome(&counters), ReportOutcome::Accepted);
        let (_, counters) = hear(&mut Reports::default(), 0, &text(4_097));
        assert_eq!(outcome(&counters), ReportOutcome::Oversize);
    }
}

//! Quantities that are not bare integers.

use std::fmt;
use std::time::Duration;

/// A rate in bits per second, payload and headers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Bitrate(u64);

impl Bitrate {
    /// The largest rate that means anything here: 100 Gb/s. Larger values saturate.
    pub const MAX: Bitrate = Bitrate(100_000_000_000);

    /// Bits per second.
    pub const fn bps(bits: u64) -> Bitrate {
        if bits > Self::MAX.0 { Self::MAX } else { Bitrate(bits) }
    }

    /// Kilobits (1000 bits) per second.
    pub const fn kbps(kilobits: u64) -> Bitrate {
        Bitrate::bps(kilobits.saturating_mul(1_000))
    }

    /// Megabits (1 000 000 bits) per second.
    pub const fn mbps(megabits: u64) -> Bitrate {
        Bitrate::bps(megabits.saturating_mul(1_000_000))
    }

    /// The rate in bits per second.
    pub const fn as_bps(self) -> u64 {
        self.0
    }

    /// Bytes that flow at this rate in `time`, rounded down.
    pub const fn bytes_in(self, time: Duration) -> u64 {
        (self.0 as u128 * time.as_micros() / 8_000_000) as u64
    }
}

impl fmt::Display for Bitrate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bits if bits >= 1_000_000 => write!(f, "{:.1} Mb/s", bits as f64 / 1e6),
            bits if bits >= 1_000 => write!(f, "{:.0} kb/s", bits as f64 / 1e3),
            bits => write!(f, "{bits} b/s"),
        }
    }
}

/// Reads `500kbps`, `2.5mbps`, `64000` or `64000bps`.
impl std::str::FromStr for Bitrate {
    type Err = BitrateError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let scale = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "bps" => 1.0,
            "k" | "kbps" => 1e3,
            "m" | "mbps" => 1e6,
            _ => return Err(BitrateError(text.to_owned())),
        };
        match number.trim().parse::<f64>() {
            Ok(value) if value.is_finite() && value >= 0.0 => Ok(Bitrate::bps((value * scale) as u64)),
            _ => Err(BitrateError(text.to_owned())),
        }
    }
}

/// A text that is not a bitrate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a bitrate; write 64000, 500kbps or 2.5mbps")]
pub struct BitrateError(String);

#[test]
fn bitrates_read_as_people_write_them() {
    assert_eq!("2500kbps".parse(), Ok(Bitrate::kbps(2500)));
    assert_eq!("2.5mbps".parse(), Ok(Bitrate::kbps(2500)));
    assert_eq!("64000".parse(), Ok(Bitrate::kbps(64)));
    assert!("fast".parse::<Bitrate>().is_err());
    assert!("-1kbps".parse::<Bitrate>().is_err());
    assert_eq!(Bitrate::kbps(800).bytes_in(Duration::from_millis(10)), 1000);
}

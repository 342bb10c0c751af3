//! One stream of encoded media.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

/// A file's audio or video, all of it, to be played in a loop.
///
/// There is a unit, the first is a keyframe, and no unit is due before the one in front of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stream {
    codec: Codec,
    units: Vec<Unit>,
    length: Duration,
}

/// A video frame or an audio packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unit {
    /// Since the start of the stream.
    pub at: Duration,
    pub data: Bytes,
    /// Whether decoding can start here.
    pub is_key: bool,
}

/// How a stream is encoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Codec {
    Vp8,
    Vp9,
    Av1,
    Opus,
}

/// Units that make no stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    #[error("it holds no media")]
    Empty,
    #[error("it does not start with a keyframe")]
    NoKeyframe,
    #[error("unit {0} is due before the one in front of it")]
    Backwards(usize),
    #[error("it lasts longer than a day")]
    Long,
}

impl Stream {
    /// The last unit lasts for `last`.
    pub fn new(codec: Codec, units: Vec<Unit>, last: Duration) -> Result<Stream, StreamError> {
        let (Some(first), Some(end)) = (units.first(), units.last()) else {
            return Err(StreamError::Empty);
        };
        if !first.is_key {
            return Err(StreamError::NoKeyframe);
        }
        if let Some(at) = units.windows(2).position(|pair| pair[1].at < pair[0].at) {
            return Err(StreamError::Backwards(at + 1));
        }
        let length = end.at.saturating_add(last);
        if length > LONGEST {
            return Err(StreamError::Long);
        }
        // A loop of no length would be played without end in no time.
        Ok(Stream { codec, length: length.max(SHORTEST), units })
    }

    pub fn codec(&self) -> Codec {
        self.codec
    }

    pub fn units(&self) -> &[Unit] {
        &self.units
    }

    /// From the first unit to the end of the last.
    pub fn length(&self) -> Duration {
        self.length
    }

    /// The unit after this one: the next, or the first once more.
    pub fn after(&self, index: usize) -> usize {
        if index + 1 < self.units.len() { index + 1 } else { 0 }
    }

    /// The next keyframe at or after this unit, going round if need be.
    pub fn keyframe_from(&self, index: usize) -> usize {
        let later = self.units.iter().skip(index).position(|unit| unit.is_key);
        later.map_or(0, |skipped| index + skipped)
    }

    /// How long a unit lasts.
    pub fn lasts(&self, index: usize) -> Duration {
        let end = self.units.get(index + 1).map_or(self.length, |next| next.at);
        let start = self.units.get(index).map_or(end, |unit| unit.at);
        end.saturating_sub(start)
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Codec::Vp8 => "VP8",
            Codec::Vp9 => "VP9",
            Codec::Av1 => "AV1",
            Codec::Opus => "Opus",
        })
    }
}

/// So that no sum of times overflows.
const LONGEST: Duration = Duration::from_secs(86_400);
const SHORTEST: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn units(keys: &[bool]) -> Vec<Unit> {
        let unit =
            |(n, &is_key)| Unit { at: Duration::from_millis(n as u64 * 40), data: Bytes::new(), is_key };
        keys.iter().enumerate().map(unit).collect()
    }

    fn stream(keys: &[bool]) -> Stream {
        Stream::new(Codec::Vp8, units(keys), Duration::from_millis(40)).unwrap()
    }

    #[test]
    fn it_goes_round_and_time_adds_up() {
        let stream = stream(&[true, false, false]);
        assert_eq!((stream.after(1), stream.after(2)), (2, 0));
        let sum: Duration = (0..3).map(|n| stream.lasts(n)).sum();
        assert_eq!((sum, stream.length()), (Duration::from_millis(120), Duration::from_millis(120)));
    }

    #[test]
    fn the_next_keyframe_may_be_the_first_once_more() {
        let stream = stream(&[true, false, true, false]);
        assert_eq!([0, 1, 2, 3].map(|n| stream.keyframe_from(n)), [0, 2, 2, 0]);
    }

    #[test]
    fn what_cannot_be_played_says_why() {
        let day = LONGEST;
        assert_eq!(Stream::new(Codec::Vp8, vec![], day).unwrap_err(), StreamError::Empty);
        assert_eq!(Stream::new(Codec::Vp8, units(&[false]), day).unwrap_err(), StreamError::NoKeyframe);
        assert!(Stream::new(Codec::Vp8, units(&[true]), day).is_ok());
        assert_eq!(Stream::new(Codec::Vp8, units(&[true, true]), day).unwrap_err(), StreamError::Long);
        let mut backwards = units(&[true, false]);
        backwards.swap(0, 1);
        backwards[0].is_key = true;
        assert_eq!(Stream::new(Codec::Vp8, backwards, day).unwrap_err(), StreamError::Backwards(1));
    }
}

//! What passed one direction, by RTP stream. SRTP leaves headers in the clear (RFC 3711 §3.1).

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// The RTP that one direction was given.
#[derive(Clone, Debug, Default)]
pub struct Tap {
    /// By SSRC and payload type: a repair stream may not, but could, share either with its media.
    streams: BTreeMap<(u32, u8), Stream>,
    /// When the first RTP packet came; then the bytes of RTP per tenth of a second, carried or lost.
    began: Option<Instant>,
    tenths: Vec<u64>,
}

/// One stream on one direction.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    pub carried: u64,
    pub lost: u64,
    /// Of all, those with the padding bit set. Senders that pad at all send packets of nothing else, so that the
    /// bit tells probes from repairs; how much of a packet is padding is encrypted.
    pub padded: u64,
    /// Whole datagrams, carried or lost.
    pub bytes: u64,
    /// The longest time between two packets carried.
    pub longest_gap: Duration,
    carried_seqs: BTreeSet<u64>,
    lost_seqs: BTreeSet<u64>,
    highest: Option<u64>,
    latest: Option<Instant>,
}

impl Tap {
    /// All streams: SSRC, payload type, what passed.
    pub fn streams(&self) -> impl Iterator<Item = (u32, u8, &Stream)> {
        self.streams.iter().map(|((ssrc, payload_type), stream)| (*ssrc, *payload_type, stream))
    }

    /// The stream of this SSRC, under whichever payload type it had most packets; an empty one if there is none.
    pub fn stream(&self, ssrc: u32) -> Stream {
        let own = self.streams().filter(|(found, _, _)| *found == ssrc).map(|(_, _, stream)| stream);
        own.max_by_key(|stream| stream.packets()).cloned().unwrap_or_default()
    }

    /// Bits per second of all RTP, datagrams whole, in each second that begins at a tenth after `from`, counted from the
    /// first packet.
    pub fn rates(&self, from: Duration) -> Vec<u64> {
        let skipped = (from.as_millis() / TENTH.as_millis()) as usize;
        let tenths = self.tenths.get(skipped..).unwrap_or_default();
        tenths.windows(10).map(|second| second.iter().sum::<u64>() * 8).collect()
    }

    /// A datagram was given to the direction, and carried or lost.
    pub(super) fn on_datagram(&mut self, now: Instant, datagram: &[u8], carried: bool) {
        let Some(header) = Header::parse(datagram) else { return };
        let began = *self.began.get_or_insert(now);
        let tenth = (now.saturating_duration_since(began).as_millis() / TENTH.as_millis()) as usize;
        if tenth < MAX_TENTHS {
            if self.tenths.len() <= tenth {
                self.tenths.resize(tenth + 1, 0);
            }
            self.tenths[tenth] += datagram.len() as u64;
        }
        let key = (header.ssrc, header.payload_type);
        if self.streams.len() == MAX_STREAMS && !self.streams.contains_key(&key) {
            return;
        }
        self.streams.entry(key).or_default().on_packet(now, &header, datagram.len(), carried);
    }
}

impl Stream {
    /// Carried or lost.
    pub fn packets(&self) -> u64 {
        self.carried + self.lost
    }

    /// Sequence numbers that were lost, and did not come by in another packet of this stream.
    pub fn distinct_lost(&self) -> u64 {
        self.lost_seqs.difference(&self.carried_seqs).count() as u64
    }

    pub fn distinct_carried(&self) -> u64 {
        self.carried_seqs.len() as u64
    }

    /// Sequence numbers that the sender left out, between the lowest and the highest that came.
    pub fn left_out(&self) -> u64 {
        let lowest = [&self.carried_seqs, &self.lost_seqs].into_iter().filter_map(|seqs| seqs.first()).min();
        let (Some(lowest), Some(highest)) = (lowest, self.highest) else { return 0 };
        (highest - lowest + 1) - self.carried_seqs.union(&self.lost_seqs).count() as u64
    }

    /// The same numbers, in runs: how far behind the highest each began, and its length.
    pub fn left_out_runs(&self) -> Vec<(u64, u64)> {
        let known: Vec<u64> = self.carried_seqs.union(&self.lost_seqs).copied().collect();
        let holes = known.windows(2).filter(|pair| pair[1] - pair[0] > 1);
        holes.map(|pair| (self.highest.unwrap_or(pair[1]) - pair[0], pair[1] - pair[0] - 1)).collect()
    }

    fn on_packet(&mut self, now: Instant, header: &Header, len: usize, carried: bool) {
        self.padded += u64::from(header.padding);
        self.bytes += len as u64;
        let seq = self.unwrap(header.seq);
        let seqs = if carried { &mut self.carried_seqs } else { &mut self.lost_seqs };
        seqs.insert(seq);
        if seqs.len() > MAX_SEQS {
            seqs.pop_first();
        }
        match carried {
            false => self.lost += 1,
            true => {
                self.carried += 1;
                let latest = self.latest.replace(now).unwrap_or(now);
                self.longest_gap = self.longest_gap.max(now.saturating_duration_since(latest));
            }
        }
    }

    /// The number among all that the sender has counted, the nearest that ends in these 16 bits.
    fn unwrap(&mut self, seq: u16) -> u64 {
        // Far enough from zero for numbers before the first.
        let highest = self.highest.unwrap_or(FIRST_ROUND + u64::from(seq));
        let step = seq.wrapping_sub(highest as u16).cast_signed();
        let unwrapped = highest.saturating_add_signed(i64::from(step));
        self.highest = Some(highest.max(unwrapped));
        unwrapped
    }
}

/// RFC 3550 §5.1.
struct Header {
    padding: bool,
    payload_type: u8,
    seq: u16,
    ssrc: u32,
}

impl Header {
    /// `None` for what is not RTP: RFC 7983 tells it from STUN and DTLS, RFC 5761 §4 from RTCP.
    fn parse(datagram: &[u8]) -> Option<Header> {
        let (fixed, _) = datagram.split_first_chunk::<12>()?;
        let [first, second, seq0, seq1, _, _, _, _, ssrc @ ..] = fixed;
        if !(128..192).contains(first) || (192..224).contains(second) {
            return None;
        }
        Some(Header {
            padding: first & 0x20 != 0,
            payload_type: second & 0x7f,
            seq: u16::from_be_bytes([*seq0, *seq1]),
            ssrc: u32::from_be_bytes(*ssrc),
        })
    }
}

const TENTH: Duration = Duration::from_millis(100);

/// Half an hour, longer than any test.
const MAX_TENTHS: usize = 18_000;

/// A browser sends two per m-line and six with layers.
const MAX_STREAMS: usize = 256;

/// Per stream; at 200 packets a second, 80 minutes.
const MAX_SEQS: usize = 1_000_000;

const FIRST_ROUND: u64 = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::clock::origin;
    use crate::world::ms;

    fn packet(ssrc: u32, payload_type: u8, seq: u16) -> Vec<u8> {
        let mut packet = vec![0x80, payload_type];
        packet.extend(seq.to_be_bytes());
        packet.extend([0; 4]);
        packet.extend(ssrc.to_be_bytes());
        packet.extend([0; 88]);
        packet
    }

    fn tapped(packets: &[(u64, Vec<u8>, bool)]) -> Tap {
        let mut tap = Tap::default();
        packets
            .iter()
            .for_each(|(at, packet, carried)| tap.on_datagram(origin() + ms(*at), packet, *carried));
        tap
    }

    #[test]
    fn streams_are_told_apart_by_ssrc_and_payload_type() {
        let tap =
            tapped(&[(0, packet(7, 96, 1), true), (0, packet(8, 97, 1), true), (0, packet(7, 97, 1), false)]);
        let found: Vec<_> =
            tap.streams().map(|(ssrc, pt, stream)| (ssrc, pt, stream.carried, stream.lost)).collect();
        assert_eq!(found, [(7, 96, 1, 0), (7, 97, 0, 1), (8, 97, 1, 0)]);
    }

    #[test]
    fn marked_packets_are_media_and_reports_are_not() {
        // 224 is a marked packet of payload type 96; 200 to 206 are RTCP.
        let marked = packet(7, 0x80 | 96, 1);
        let report = packet(7, 200, 1);
        let tap = tapped(&[
            (0, marked, true),
            (0, report, true),
            (0, vec![0x80; 11], true),
            (0, vec![22; 40], true),
        ]);
        assert_eq!(tap.streams().map(|(_, pt, stream)| (pt, stream.carried)).collect::<Vec<_>>(), [(96, 1)]);
    }

    #[test]
    fn numbers_are_counted_once_across_the_seam_and_out_of_order() {
        let seqs = [65_534, 0, 65_535, 0, 3, 65_533];
        let packets: Vec<_> = seqs.iter().map(|seq| (0, packet(7, 96, *seq), *seq != 3)).collect();
        let stream = tapped(&packets).stream(7);
        assert_eq!((stream.carried, stream.lost), (5, 1));
        assert_eq!((stream.distinct_carried(), stream.distinct_lost()), (4, 1));
        assert_eq!(stream.left_out(), 2, "1 and 2");
    }

    #[test]
    fn a_number_that_came_after_all_is_not_lost() {
        let stream = tapped(&[(0, packet(7, 96, 5), false), (9, packet(7, 96, 5), true)]).stream(7);
        assert_eq!((stream.lost, stream.distinct_lost(), stream.left_out()), (1, 0, 0));
    }

    #[test]
    fn padding_is_seen_in_the_clear() {
        let mut padded = packet(7, 97, 1);
        padded[0] |= 0x20;
        let stream = tapped(&[(0, padded, true), (0, packet(7, 97, 2), true)]).stream(7);
        assert_eq!((stream.padded, stream.packets()), (1, 2));
    }

    #[test]
    fn rates_are_those_of_sliding_seconds() {
        let packets: Vec<_> = (0..30).map(|n| (n * 100, packet(7, 96, n as u16), n % 2 == 0)).collect();
        let tap = tapped(&packets);
        assert_eq!(
            tap.rates(Duration::ZERO),
            vec![8_000; 21],
            "ten packets of 100 bytes, lost ones included"
        );
        assert_eq!(tap.rates(Duration::from_secs(2)).len(), 1);
        assert_eq!(tap.rates(Duration::from_secs(20)), [0u64; 0]);
    }

    #[test]
    fn the_longest_gap_is_between_packets_carried() {
        let packets = [(0, 1, true), (20, 2, true), (500, 3, false), (900, 4, true)];
        let tap = tapped(&packets.map(|(at, seq, carried)| (at, packet(7, 96, seq), carried)));
        assert_eq!(tap.stream(7).longest_gap, Duration::from_millis(880));
    }
}

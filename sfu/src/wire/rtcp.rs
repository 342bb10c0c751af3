//! The RTCP gate: walks a compound raw, bounds it and counts it, before anything upstream allocates.
#![warn(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]

use crate::drop::DropReason;

/// What one compound carries. Messages are sub-packets, as the interceptor-layer counter counts them:
/// a FIR with two entries is one message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Generic NACK messages, RFC 4585 §6.2.1.
    pub nacks: u32,
    /// Packets those NACKs name: one per pair, and one per bit set in its bitmask. Repeats included.
    pub nacked_packets: u32,
    /// PLI messages, RFC 4585 §6.3.1.
    pub plis: u32,
    /// FIR messages, RFC 5104 §4.3.1.
    pub firs: u32,
    /// REMB messages, draft-alvestrand-rmcat-remb-03.
    pub rembs: u32,
    /// Transport-wide congestion control feedback messages.
    pub twccs: u32,
    /// RFC 3550 §6.4.1.
    pub sender_reports: u32,
    /// RFC 3550 §6.4.2.
    pub receiver_reports: u32,
    /// RFC 3550 §6.6.
    pub byes: u32,
}

/// Admits a compound to the interceptor chain, and says what is in it.
///
/// `max_twcc_packets` is how many packets the peer can honestly report on, those we sent and have no
/// feedback for. It bounds the *sum* over the compound: upstream makes an entry for each claimed packet,
/// so that a single 24-byte message could otherwise cost a megabyte.
///
/// # Errors
///
/// [`DropReason::Malformed`], always.
pub fn gate(compound: &[u8], max_twcc_packets: usize) -> Result<Counts, DropReason> {
    let counts = scan(compound).ok_or(DropReason::Malformed)?;
    let claimed: u32 = twcc_status_counts(compound).map(u32::from).fold(0, u32::saturating_add);
    match usize::try_from(claimed) {
        Ok(claimed) if claimed <= max_twcc_packets => Ok(counts),
        _ => Err(DropReason::Malformed),
    }
}

/// Counts a well-formed compound; `None` for any other.
///
/// Well-formed: at most `MAX_BYTES` and `MAX_SUB_PACKETS`, each sub-packet of version 2, as long as it
/// says and as long as its type needs, together exactly the datagram (RFC 3550 §A.2). Reduced-size
/// compounds (RFC 5506) pass. Padding belongs to the last sub-packet (RFC 3550 §6.4.1), save that
/// transport-wide feedback is padded wherever it stands: that is how its writers, ours upstream among
/// them, reach a 32-bit boundary. NACK and FIR are lists of whole words that nobody pads, and parsers disagree
/// on where a padded list ends: it is refused.
pub fn scan(compound: &[u8]) -> Option<Counts> {
    if compound.is_empty() || compound.len() > MAX_BYTES {
        return None;
    }
    let mut counts = Counts::default();
    let mut walk = Walk { rest: compound };
    for _ in 0..MAX_SUB_PACKETS {
        if walk.rest.is_empty() {
            break;
        }
        let sub = walk.step()?;
        if sub.padded && !sub.is_twcc() && (!walk.rest.is_empty() || sub.is_list()) {
            return None;
        }
        count(&mut counts, &sub)?;
    }
    walk.rest.is_empty().then_some(counts)
}

/// The `packet status count` each transport-wide feedback in the compound claims,
/// draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1. Stops where the compound is malformed.
pub fn twcc_status_counts(compound: &[u8]) -> impl Iterator<Item = u16> + use<'_> {
    let mut walk = Walk { rest: compound };
    std::iter::from_fn(move || walk.step())
        .take(MAX_SUB_PACKETS)
        .filter(SubPacket::is_twcc)
        .filter_map(|sub| sub.body.get(10..12)?.try_into().ok().map(u16::from_be_bytes))
}

fn count(counts: &mut Counts, sub: &SubPacket<'_>) -> Option<()> {
    let report_blocks = usize::from(sub.count).saturating_mul(24);
    let (counter, needs) = match (sub.packet_type, sub.count) {
        (SR, _) => (&mut counts.sender_reports, report_blocks.saturating_add(24)),
        (RR, _) => (&mut counts.receiver_reports, report_blocks.saturating_add(4)),
        (BYE, sources) => {
            let sources = usize::from(sources) << 2;
            // The reason is optional; its text stays inside the packet.
            let reason = sub.body.get(sources).map_or(0, |&len| usize::from(len).saturating_add(1));
            (&mut counts.byes, sources.saturating_add(reason))
        }
        (RTPFB, NACK) => {
            let pairs = sub.body.get(FEEDBACK..)?.chunks_exact(4);
            let packets = pairs.map(|pair| match *pair {
                [_, _, b0, b1] => u16::from_be_bytes([b0, b1]).count_ones().saturating_add(1),
                _ => 0,
            });
            counts.nacked_packets = counts.nacked_packets.saturating_add(packets.sum());
            (&mut counts.nacks, FEEDBACK.saturating_add(4))
        }
        (RTPFB, TWCC) => (&mut counts.twccs, FEEDBACK.saturating_add(8)),
        (PSFB, PLI) => (&mut counts.plis, FEEDBACK),
        (PSFB, FIR) => (&mut counts.firs, FEEDBACK.saturating_add(8)),
        (PSFB, AFB) if sub.body.get(FEEDBACK..)?.starts_with(b"REMB") => {
            let ssrcs = usize::from(*sub.body.get(12)?) << 2;
            (&mut counts.rembs, ssrcs.saturating_add(16))
        }
        // Feedback about something: at least two SSRCs. Other types pass uncounted.
        (RTPFB | PSFB, _) => return (sub.body.len() >= FEEDBACK).then_some(()),
        _ => return Some(()),
    };
    if sub.body.len() < needs {
        return None;
    }
    *counter = counter.saturating_add(1);
    Some(())
}

/// One packet of a compound.
struct SubPacket<'p> {
    packet_type: u8,
    /// Five bits: a number of blocks or sources, or the feedback format.
    count: u8,
    padded: bool,
    /// What follows the first four bytes, without padding.
    body: &'p [u8],
}

impl SubPacket<'_> {
    /// Its entries end where the packet does.
    fn is_list(&self) -> bool {
        matches!((self.packet_type, self.count), (RTPFB, NACK) | (PSFB, FIR))
    }

    fn is_twcc(&self) -> bool {
        (self.packet_type, self.count) == (RTPFB, TWCC)
    }
}

struct Walk<'p> {
    rest: &'p [u8],
}

impl<'p> Walk<'p> {
    /// The next sub-packet. `None` at the end and at the first malformed one.
    fn step(&mut self) -> Option<SubPacket<'p>> {
        let ([b0, packet_type, w0, w1], after) = self.rest.split_first_chunk::<4>()?;
        if b0 >> 6 != 2 {
            return None;
        }
        let words = usize::from(u16::from_be_bytes([*w0, *w1]));
        let (mut body, after) = after.split_at_checked(words << 2)?;
        let padded = b0 & P_BIT != 0;
        if padded {
            let padding = usize::from(*body.last()?);
            if padding == 0 {
                return None;
            }
            body = body.get(..body.len().checked_sub(padding)?)?;
        }
        self.rest = after;
        Some(SubPacket { packet_type: *packet_type, count: b0 & 0x1f, padded, body })
    }
}

/// Longest compound: no path we serve has a larger MTU.
pub const MAX_BYTES: usize = 1_500;
/// Most sub-packets in one compound. A browser with 20 tracks sends about 12.
pub const MAX_SUB_PACKETS: usize = 32;

const P_BIT: u8 = 0x20;
/// Feedback starts with two SSRCs: who sends it, and about whom. RFC 4585 §6.1.
const FEEDBACK: usize = 8;

const SR: u8 = 200;
const RR: u8 = 201;
const BYE: u8 = 203;
const RTPFB: u8 = 205;
const PSFB: u8 = 206;

const NACK: u8 = 1;
const TWCC: u8 = 15;
const PLI: u8 = 1;
const FIR: u8 = 4;
const AFB: u8 = 15;

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use rtcp::goodbye::Goodbye;
    use rtcp::packet::Packet;
    use rtcp::payload_feedbacks::full_intra_request::{FirEntry, FullIntraRequest};
    use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
    use rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;
    use rtcp::receiver_report::ReceiverReport;
    use rtcp::reception_report::ReceptionReport;
    use rtcp::sender_report::SenderReport;
    use rtcp::source_description::{
        SdesType, SourceDescription, SourceDescriptionChunk, SourceDescriptionItem,
    };
    use rtcp::transport_feedbacks::transport_layer_cc::{
        PacketStatusChunk, RecvDelta, RunLengthChunk, SymbolTypeTcc, TransportLayerCc,
    };
    use rtcp::transport_feedbacks::transport_layer_nack::{NackPair, TransportLayerNack};

    use super::*;

    /// PLI from SSRC 1 about SSRC 2.
    const PLI_BYTES: [u8; 12] = [0x81, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2];
    /// An empty receiver report.
    const RR_BYTES: [u8; 8] = [0x80, 201, 0, 1, 0, 0, 0, 1];

    fn twcc_claiming(packets: u16) -> Vec<u8> {
        let [hi, lo] = packets.to_be_bytes();
        let mut bytes = vec![0x8f, 205, 0, 5, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, hi, lo, 0, 0, 0, 0];
        bytes.extend_from_slice(&[0x20, 1, 4, 0]);
        bytes
    }

    #[test]
    fn a_nack_names_its_id_and_each_bit() {
        let nack = [0x81, 205, 0, 4, 0, 0, 0, 1, 0, 0, 0, 2, 0, 9, 0x80, 0x01, 0, 99, 0, 0];
        let expected = Counts { nacks: 1, nacked_packets: 4, ..Counts::default() };
        assert_eq!(scan(&nack), Some(expected));
    }

    #[test]
    fn reduced_size_feedback_stands_alone() {
        assert_eq!(scan(&PLI_BYTES), Some(Counts { plis: 1, ..Counts::default() }));
    }

    #[test]
    fn lengths_add_up_exactly() {
        let compound = [&RR_BYTES[..], &PLI_BYTES].concat();
        let expected = Counts { receiver_reports: 1, plis: 1, ..Counts::default() };
        assert_eq!(scan(&compound), Some(expected));
        for end in 0..compound.len() {
            let cut_between = end == RR_BYTES.len();
            assert_eq!(scan(&compound[..end]).is_some(), cut_between, "{end} bytes");
        }
        assert_eq!(scan(&[&compound[..], &[0]].concat()), None);
    }

    #[test]
    fn every_sub_packet_is_version_two() {
        for version in [0x01, 0x41, 0xc1] {
            let mut pli = PLI_BYTES;
            pli[0] = version;
            assert_eq!(scan(&pli), None);
            assert_eq!(scan(&[&RR_BYTES[..], &pli].concat()), None);
        }
    }

    #[test]
    fn padding_belongs_to_the_last() {
        let mut padded = RR_BYTES.to_vec();
        padded[0] |= P_BIT;
        padded[3] = 2;
        padded.extend_from_slice(&[0, 0, 0, 4]);
        assert!(scan(&[&PLI_BYTES[..], &padded].concat()).is_some());
        assert_eq!(scan(&[&padded[..], &PLI_BYTES].concat()), None);
        *padded.last_mut().unwrap() = 8;
        assert_eq!(scan(&padded), None, "padding over the sender's SSRC");
        *padded.last_mut().unwrap() = 9;
        assert_eq!(scan(&padded), None, "more padding than packet");
        *padded.last_mut().unwrap() = 0;
        assert_eq!(scan(&padded), None, "no padding where some is announced");
    }

    #[test]
    fn transport_wide_feedback_is_padded_anywhere() {
        let mut twcc = twcc_claiming(1);
        twcc[0] |= P_BIT;
        *twcc.last_mut().unwrap() = 1;
        let compound = [&twcc[..], &twcc, &PLI_BYTES].concat();
        assert_eq!(scan(&compound), Some(Counts { twccs: 2, plis: 1, ..Counts::default() }));
    }

    #[test]
    fn a_report_holds_the_blocks_it_counts() {
        let mut report = RR_BYTES.to_vec();
        report[0] |= 1;
        assert_eq!(scan(&report), None);
        report[3] = 7;
        report.extend_from_slice(&[0; 24]);
        assert!(scan(&report).is_some());
    }

    #[test]
    fn a_bye_reason_stays_inside() {
        let bye = |len| [0x81, 203, 0, 2, 0, 0, 0, 1, len, b'b', b'y', b'e'];
        assert_eq!(scan(&bye(3)), Some(Counts { byes: 1, ..Counts::default() }));
        assert_eq!(scan(&bye(4)), None);
    }

    #[test]
    fn thirty_two_sub_packets_and_1500_bytes() {
        let plis = |count| PLI_BYTES.repeat(count);
        assert_eq!(scan(&plis(32)), Some(Counts { plis: 32, ..Counts::default() }));
        assert_eq!(scan(&plis(33)), None);
        // An unknown type, one word of header and the rest body.
        let long = |words: u16| {
            let [hi, lo] = (words - 1).to_be_bytes();
            let mut bytes = vec![0; usize::from(words) * 4];
            bytes[..4].copy_from_slice(&[0x80, 210, hi, lo]);
            bytes
        };
        assert_eq!(scan(&long(375)), Some(Counts::default()));
        assert_eq!(scan(&long(376)), None);
        assert_eq!(scan(&[]), None);
    }

    #[test]
    fn claimed_packets_are_bounded_before_anyone_allocates() {
        let liar = twcc_claiming(u16::MAX);
        assert_eq!(twcc_status_counts(&liar).collect::<Vec<_>>(), [u16::MAX]);
        assert_eq!(gate(&liar, 65_534), Err(DropReason::Malformed));
        assert!(gate(&liar, 65_535).is_ok());
        let two = [twcc_claiming(300), twcc_claiming(200)].concat();
        assert_eq!(gate(&two, 500), Ok(Counts { twccs: 2, ..Counts::default() }));
        assert_eq!(gate(&two, 499), Err(DropReason::Malformed), "the sum counts");
        assert_eq!(gate(&PLI_BYTES, 0), Ok(Counts { plis: 1, ..Counts::default() }));
        assert_eq!(gate(&[0x81], 0), Err(DropReason::Malformed));
    }

    fn block() -> impl Strategy<Value = ReceptionReport> {
        any::<(u32, u8, u32)>().prop_map(|(ssrc, fraction_lost, last_sequence_number)| ReceptionReport {
            ssrc,
            fraction_lost,
            last_sequence_number,
            ..Default::default()
        })
    }

    fn message() -> impl Strategy<Value = Box<dyn Packet>> {
        let blocks = || proptest::collection::vec(block(), 0..4);
        let nack_pair =
            any::<(u16, u16)>().prop_map(|(packet_id, lost_packets)| NackPair { packet_id, lost_packets });
        let fir = any::<(u32, u8)>().prop_map(|(ssrc, sequence_number)| FirEntry { ssrc, sequence_number });
        prop_oneof![
            (any::<(u32, u64)>(), blocks()).prop_map(|((ssrc, ntp_time), reports)| {
                Box::new(SenderReport { ssrc, ntp_time, reports, ..Default::default() }) as Box<dyn Packet>
            }),
            (any::<u32>(), blocks()).prop_map(|(ssrc, reports)| {
                Box::new(ReceiverReport { ssrc, reports, ..Default::default() }) as Box<dyn Packet>
            }),
            "[a-z]{1,20}".prop_map(|cname| {
                let item = SourceDescriptionItem { sdes_type: SdesType::SdesCname, text: Bytes::from(cname) };
                let chunks = vec![SourceDescriptionChunk { source: 1, items: vec![item] }];
                Box::new(SourceDescription { chunks }) as Box<dyn Packet>
            }),
            proptest::collection::vec(nack_pair, 1..10).prop_map(|nacks| {
                Box::new(TransportLayerNack { sender_ssrc: 1, media_ssrc: 2, nacks }) as Box<dyn Packet>
            }),
            Just(Box::new(PictureLossIndication { sender_ssrc: 1, media_ssrc: 2 }) as Box<dyn Packet>),
            proptest::collection::vec(fir, 1..4).prop_map(|fir| {
                Box::new(FullIntraRequest { sender_ssrc: 1, media_ssrc: 2, fir }) as Box<dyn Packet>
            }),
            proptest::collection::vec(any::<u32>(), 0..4).prop_map(|ssrcs| {
                Box::new(ReceiverEstimatedMaximumBitrate { sender_ssrc: 1, bitrate: 5e5, ssrcs })
                    as Box<dyn Packet>
            }),
            (1u16..30).prop_map(|packets| {
                let small = SymbolTypeTcc::PacketReceivedSmallDelta;
                Box::new(TransportLayerCc {
                    packet_status_count: packets,
                    packet_chunks: vec![PacketStatusChunk::RunLengthChunk(RunLengthChunk {
                        packet_status_symbol: small,
                        run_length: packets,
                        ..Default::default()
                    })],
                    recv_deltas: vec![RecvDelta { type_tcc_packet: small, delta: 250 }; packets.into()],
                    ..Default::default()
                }) as Box<dyn Packet>
            }),
        ]
    }

    /// The same counts by upstream's reading.
    fn counts_of(packets: &[Box<dyn Packet>]) -> Counts {
        let mut counts = Counts::default();
        for packet in packets {
            let packet = packet.as_any();
            counts.sender_reports += u32::from(packet.is::<SenderReport>());
            counts.receiver_reports += u32::from(packet.is::<ReceiverReport>());
            counts.byes += u32::from(packet.is::<Goodbye>());
            counts.plis += u32::from(packet.is::<PictureLossIndication>());
            counts.firs += u32::from(packet.is::<FullIntraRequest>());
            counts.rembs += u32::from(packet.is::<ReceiverEstimatedMaximumBitrate>());
            counts.twccs += u32::from(packet.is::<TransportLayerCc>());
            if let Some(nack) = packet.downcast_ref::<TransportLayerNack>() {
                counts.nacks += 1;
                counts.nacked_packets +=
                    nack.nacks.iter().map(|pair| pair.packet_list().len() as u32).sum::<u32>();
            }
        }
        counts
    }

    proptest! {
        #[test]
        fn counts_agree_with_upstream(
            mut packets in proptest::collection::vec(message(), 1..8),
            bye in proptest::option::of("[a-z]{0,9}"),
        ) {
            // Upstream pads a BYE, so it comes last.
            packets.extend(bye.map(|reason| {
                Box::new(Goodbye { sources: vec![1, 2], reason: Bytes::from(reason) }) as Box<dyn Packet>
            }));
            let compound = rtcp::packet::marshal(&packets).unwrap().freeze();
            let upstream = rtcp::packet::unmarshal(&mut compound.clone()).unwrap();
            prop_assert_eq!(scan(&compound), Some(counts_of(&packets)));
            prop_assert_eq!(scan(&compound), Some(counts_of(&upstream)));
        }

        #[test]
        fn any_bytes_scan_or_do_not(
            packets in proptest::collection::vec(message(), 1..6),
            flips in proptest::collection::vec(any::<(prop::sample::Index, u8)>(), 0..6),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut compound = rtcp::packet::marshal(&packets).unwrap().to_vec();
            for (index, byte) in flips {
                *index.get_mut(&mut compound) = byte;
            }
            let cut = &compound[..cut.index(compound.len() + 1)];
            for bytes in [&compound[..], cut] {
                if scan(bytes).is_some() {
                    prop_assert!(twcc_status_counts(bytes).count() <= MAX_SUB_PACKETS);
                }
                let _ = gate(bytes, 100);
            }
        }
    }
}

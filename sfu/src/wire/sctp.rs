//! SCTP packets (RFC 9260), as far as it takes to know that every length in them tells the truth.
//!
//! The library that speaks SCTP for us sees a packet only after this walk. Checksums are left to it: what comes here has been
//! authenticated by DTLS.
#![warn(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]

/// A packet of which every chunk, and every parameter or cause in one, lies where it says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet<'a> {
    chunks: &'a [u8],
}

/// One chunk, as far as we act on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Chunk<'a> {
    /// DATA, RFC 9260 §3.3.1.
    #[allow(missing_docs)]
    Data { tsn: u32, stream: u16 },
    /// INIT and the INIT ACK that answers it, §3.3.2: who speaks, and from which number on.
    #[allow(missing_docs)]
    Init { ack: bool, tag: u32, tsn: u32 },
    /// SACK, §3.3.4: everything up to here has come, and so much may follow.
    #[allow(missing_docs)]
    Sack { cumulative: u32, window: u32 },
    /// FORWARD TSN, RFC 3758 §3.2: what is missing up to here will not come.
    #[allow(missing_docs)]
    ForwardTsn { cumulative: u32 },
    /// RE-CONFIG, RFC 6525 §3.1: one parameter or two.
    Reconfig(Params<'a>),
    /// Anything else that the library reads, by its type.
    Other(u8),
}

/// A parameter of a RE-CONFIG chunk, as far as we act on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Param {
    /// Outgoing SSN reset request, RFC 6525 §4.1, by its number.
    #[allow(missing_docs)]
    Reset { request: u32 },
    /// Re-configuration response, §4.4.
    #[allow(missing_docs)]
    Response { request: u32, done: bool },
    /// Another.
    Other,
}

/// Parameters, one after the other, each padded to four bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Params<'a>(&'a [u8]);

impl<'a> Packet<'a> {
    /// `None` unless all lengths fit, all fixed parts are there, and no count is beyond reason.
    pub fn parse(packet: &'a [u8]) -> Option<Packet<'a>> {
        let (header, chunks) = packet.split_at_checked(COMMON_HEADER)?;
        let (ports, _) = header.split_first_chunk::<4>()?;
        let [source_high, source_low, destination_high, destination_low] = *ports;
        if [source_high, source_low] == [0, 0] || [destination_high, destination_low] == [0, 0] {
            return None;
        }
        let (mut rest, mut count, mut control) = (chunks, 0_usize, 0_usize);
        while !rest.is_empty() {
            let (raw, after) = RawChunk::split(rest)?;
            raw.is_sound().then_some(())?;
            count = count.saturating_add(1);
            control = control.saturating_add(usize::from(raw.kind != DATA));
            // §6.10: these go alone.
            let alone = matches!(raw.kind, INIT | INIT_ACK | SHUTDOWN_COMPLETE);
            if alone && (count > 1 || !after.is_empty()) {
                return None;
            }
            rest = after;
        }
        ((1..=MAX_CHUNKS).contains(&count) && control <= MAX_CONTROL).then_some(Packet { chunks })
    }

    /// In their order.
    pub fn chunks(self) -> impl Iterator<Item = Chunk<'a>> {
        let mut rest = self.chunks;
        std::iter::from_fn(move || {
            let (raw, after) = RawChunk::split(rest)?;
            rest = after;
            raw.read()
        })
    }
}

impl Iterator for Params<'_> {
    type Item = Param;

    fn next(&mut self) -> Option<Param> {
        let (kind, value, after) = split_param(self.0)?;
        self.0 = after;
        let word = |at: usize| u32_at(value, at);
        Some(match kind {
            RESET_REQUEST => word(0).map_or(Param::Other, |request| Param::Reset { request }),
            RESPONSE => match (word(0), word(4)) {
                (Some(request), Some(result)) => Param::Response { request, done: result != IN_PROGRESS },
                _ => Param::Other,
            },
            _ => Param::Other,
        })
    }
}

/// A chunk whose length fits into what is left of its packet.
#[derive(Clone, Copy)]
struct RawChunk<'a> {
    kind: u8,
    /// Without header and padding.
    value: &'a [u8],
}

impl<'a> RawChunk<'a> {
    /// With what follows its padding.
    fn split(bytes: &'a [u8]) -> Option<(RawChunk<'a>, &'a [u8])> {
        let (&[kind, _, high, low], after) = bytes.split_first_chunk()?;
        let len = usize::from(u16::from_be_bytes([high, low])).checked_sub(HEADER)?;
        let (value, after) = after.split_at_checked(len)?;
        // §3.2: the last chunk's padding may be missing where the sender is old.
        let padding = padding_of(len).min(after.len());
        Some((RawChunk { kind, value }, after.get(padding..)?))
    }

    fn is_sound(self) -> bool {
        let value = self.value;
        match self.kind {
            // §6.2: a chunk without user data is an error.
            DATA => value.len() > DATA_HEADER,
            INIT | INIT_ACK => value.len() >= INIT_HEADER && are_params(value.get(INIT_HEADER..)),
            SACK => is_sack(value),
            HEARTBEAT => are_params(Some(value)) && !value.is_empty(),
            ABORT | ERROR => are_causes(value),
            SHUTDOWN => value.len() == 4,
            COOKIE_ECHO => !value.is_empty(),
            RECONFIG => are_params(Some(value)) && (1..=2).contains(&Params(value).count()),
            FORWARD_TSN => value.len() >= 4 && value.len().is_multiple_of(4),
            SHUTDOWN_ACK | COOKIE_ACK | SHUTDOWN_COMPLETE => value.is_empty(),
            _ => false,
        }
    }

    fn read(self) -> Option<Chunk<'a>> {
        let value = self.value;
        Some(match self.kind {
            DATA => Chunk::Data { tsn: u32_at(value, 0)?, stream: u16_at(value, 4)? },
            INIT | INIT_ACK => {
                Chunk::Init { ack: self.kind == INIT_ACK, tag: u32_at(value, 0)?, tsn: u32_at(value, 12)? }
            }
            SACK => Chunk::Sack { cumulative: u32_at(value, 0)?, window: u32_at(value, 4)? },
            FORWARD_TSN => Chunk::ForwardTsn { cumulative: u32_at(value, 0)? },
            RECONFIG => Chunk::Reconfig(Params(value)),
            kind => Chunk::Other(kind),
        })
    }
}

/// Blocks ascend and do not overlap (§3.3.4), so that together they are no longer than the numbers they count.
fn is_sack(value: &[u8]) -> bool {
    let (Some(blocks), Some(duplicates)) = (u16_at(value, 8), u16_at(value, 10)) else {
        return false;
    };
    let (blocks, duplicates) = (usize::from(blocks), usize::from(duplicates));
    let words = blocks.saturating_add(duplicates);
    if value.len() != SACK_HEADER.saturating_add(words.saturating_mul(4)) {
        return false;
    }
    let mut last = 0;
    let mut blocks = value.get(SACK_HEADER..).unwrap_or_default().chunks_exact(4).take(blocks);
    blocks.all(|block| {
        let (Some(start), Some(end)) = (u16_at(block, 0), u16_at(block, 2)) else {
            return false;
        };
        let ascends = start > last && end >= start;
        last = end;
        ascends
    })
}

/// Each parameter lies inside, with a header of its own; the last one's padding may be missing.
fn are_params(bytes: Option<&[u8]>) -> bool {
    let Some(mut rest) = bytes else { return false };
    for _ in 0..MAX_PARAMS {
        if rest.is_empty() {
            return true;
        }
        let Some((_, _, after)) = split_param(rest) else { return false };
        rest = after;
    }
    rest.is_empty()
}

/// Type, value, and what follows the padding.
fn split_param(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let (&[kind_high, kind_low, high, low], after) = bytes.split_first_chunk()?;
    let len = usize::from(u16::from_be_bytes([high, low])).checked_sub(HEADER)?;
    let (value, after) = after.split_at_checked(len)?;
    let padding = padding_of(len).min(after.len());
    Some((u16::from_be_bytes([kind_high, kind_low]), value, after.get(padding..)?))
}

/// Causes lie inside, whether they are padded to four bytes (§3.3.10) or follow each other without: both are read in
/// practice.
fn are_causes(value: &[u8]) -> bool {
    are_params(Some(value)) && are_causes_unpadded(value)
}

fn are_causes_unpadded(mut rest: &[u8]) -> bool {
    while let Some((&[_, _, high, low], after)) = rest.split_first_chunk() {
        let len = usize::from(u16::from_be_bytes([high, low]));
        let Some(after) = len.checked_sub(HEADER).and_then(|len| after.get(len..)) else { return false };
        rest = after;
    }
    true
}

fn padding_of(len: usize) -> usize {
    len.wrapping_neg() & 3
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let (word, _) = bytes.get(at..)?.split_first_chunk()?;
    Some(u16::from_be_bytes(*word))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let (word, _) = bytes.get(at..)?.split_first_chunk()?;
    Some(u32::from_be_bytes(*word))
}

/// Ports, verification tag, checksum.
const COMMON_HEADER: usize = 12;
/// Of chunks, parameters and causes alike.
const HEADER: usize = 4;
const DATA_HEADER: usize = 12;
const INIT_HEADER: usize = 16;
const SACK_HEADER: usize = 12;

/// DATA chunks of one byte, 20 with all, in a datagram of 1500 bytes.
const MAX_CHUNKS: usize = 75;
/// Everything but DATA. A browser bundles a SACK, a FORWARD TSN and a RE-CONFIG; each may draw an answer.
const MAX_CONTROL: usize = 8;
/// An INIT has five.
const MAX_PARAMS: usize = 16;

const DATA: u8 = 0;
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const SACK: u8 = 3;
const HEARTBEAT: u8 = 4;
const ABORT: u8 = 6;
const SHUTDOWN: u8 = 7;
const SHUTDOWN_ACK: u8 = 8;
const ERROR: u8 = 9;
const COOKIE_ECHO: u8 = 10;
const COOKIE_ACK: u8 = 11;
const SHUTDOWN_COMPLETE: u8 = 14;
const RECONFIG: u8 = 130;
const FORWARD_TSN: u8 = 192;

const RESET_REQUEST: u16 = 13;
const RESPONSE: u16 = 16;
/// RFC 6525 §4.4.
const IN_PROGRESS: u32 = 6;

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet(chunks: &[&[u8]]) -> Vec<u8> {
        [&[0x13, 0x88, 0x13, 0x88, 0, 0, 0, 7, 1, 2, 3, 4][..], &chunks.concat()].concat()
    }

    fn is_packet(chunks: &[&[u8]]) -> bool {
        Packet::parse(&packet(chunks)).is_some()
    }

    const SMALL_DATA: [u8; 20] = [0, 3, 0, 17, 0, 0, 1, 0, 0, 2, 0, 0, 0, 0, 0, 51, b'x', 0, 0, 0];

    #[test]
    fn chunks_are_read_in_their_order() {
        let sack = [3, 0, 0, 16, 0, 0, 0, 9, 0, 1, 0, 0, 0, 0, 0, 0];
        let bytes = packet(&[&sack, &SMALL_DATA]);
        let read: Vec<Chunk> = Packet::parse(&bytes).unwrap().chunks().collect();
        assert_eq!(
            read,
            [Chunk::Sack { cumulative: 9, window: 65_536 }, Chunk::Data { tsn: 256, stream: 2 }]
        );
    }

    #[test]
    fn a_packet_has_ports_and_a_chunk() {
        assert!(!is_packet(&[]));
        assert_eq!(Packet::parse(&packet(&[&SMALL_DATA])[..11]), None);
        let mut portless = packet(&[&SMALL_DATA]);
        portless[2..4].fill(0);
        assert_eq!(Packet::parse(&portless), None);
    }

    #[test]
    fn a_chunk_lies_in_its_packet() {
        let mut data = SMALL_DATA;
        assert!(is_packet(&[&data]));
        assert!(is_packet(&[&data[..17]]), "the last one's padding may be missing");
        data[3] = 20;
        assert!(is_packet(&[&data]));
        data[3] = 21;
        assert!(!is_packet(&[&data]));
        data[3] = 3;
        assert!(!is_packet(&[&data]), "shorter than its header");
        data[3] = 16;
        assert!(!is_packet(&[&data[..16]]), "no user data");
    }

    #[test]
    fn a_cause_lies_in_its_chunk() {
        for kind in [ABORT, ERROR] {
            assert!(is_packet(&[&[kind, 0, 0, 4]]));
            assert!(is_packet(&[&[kind, 0, 0, 8, 0, 12, 0, 4]]));
            assert!(!is_packet(&[&[kind, 0, 0, 8, 0, 12, 0, 5]]));
            assert!(!is_packet(&[&[kind, 0, 0, 8, 0, 12, 0xff, 0xff]]));
            assert!(!is_packet(&[&[kind, 0, 0, 8, 0, 12, 0, 3]]), "shorter than its header");
            assert!(!is_packet(&[&[kind, 0, 0, 6, 0, 12, 0, 4]]), "half a header");
        }
    }

    #[test]
    fn a_cause_lies_in_its_chunk_with_padding_and_without() {
        // One byte of information, three of padding, and another cause.
        let padded = [ERROR, 0, 0, 16, 0, 12, 0, 5, b'x', 0, 0, 0, 0, 13, 0, 4];
        assert!(!is_packet(&[&padded]), "without padding the second would begin with nothing");
        let whole = [ERROR, 0, 0, 16, 0, 12, 0, 8, b'x', b'y', b'z', 0, 0, 13, 0, 4];
        assert!(is_packet(&[&whole]));
    }

    #[test]
    fn a_parameter_lies_in_its_chunk() {
        let mut init = [&[INIT, 0, 0, 24][..], &[0; 16], &[0x80, 0x08, 0, 4]].concat();
        assert!(is_packet(&[&init]));
        init[23] = 5;
        assert!(!is_packet(&[&init]));
        init[23] = 3;
        assert!(!is_packet(&[&init]));
        assert!(!is_packet(&[&[HEARTBEAT, 0, 0, 4]]), "it carries something to be sent back");
        assert!(!is_packet(&[&[HEARTBEAT, 0, 0, 8, 0, 1, 0, 5]]));
        assert!(!is_packet(&[&[RECONFIG, 0, 0, 4]]));
    }

    #[test]
    fn init_goes_alone() {
        let init = [&[INIT, 0, 0, 20][..], &[0; 16]].concat();
        assert!(is_packet(&[&init]));
        assert!(!is_packet(&[&init, &SMALL_DATA]));
        assert!(!is_packet(&[&SMALL_DATA, &init]));
    }

    #[test]
    fn blocks_of_a_sack_ascend() {
        let sack = |blocks: &[[u16; 2]], more: usize| {
            let len = 16 + 4 * blocks.len() + more;
            let mut chunk = vec![SACK, 0, 0, len as u8, 0, 0, 0, 9, 0, 1, 0, 0, 0, blocks.len() as u8, 0, 0];
            chunk.extend(blocks.iter().flatten().flat_map(|word| word.to_be_bytes()));
            chunk.resize(len, 0);
            is_packet(&[&chunk])
        };
        assert!(sack(&[[2, 3], [5, 5]], 0));
        assert!(!sack(&[[2, 3], [3, 5]], 0), "they overlap");
        assert!(!sack(&[[2, 1]], 0));
        assert!(!sack(&[[0, 1]], 0));
        assert!(!sack(&[[2, 3]], 4), "more than it counts");
    }

    #[test]
    fn counts_are_within_reason() {
        let heartbeat = [HEARTBEAT, 0, 0, 8, 0, 1, 0, 4];
        assert!(is_packet(&[&heartbeat.repeat(8)]));
        assert!(!is_packet(&[&heartbeat.repeat(9)]));
        assert!(is_packet(&[&SMALL_DATA.repeat(75)]));
        assert!(!is_packet(&[&SMALL_DATA.repeat(76)]));
    }

    #[test]
    fn resets_and_their_answers() {
        let reset = [0, 13, 0, 18, 0, 0, 0, 5, 0, 0, 0, 4, 0, 0, 0, 3, 0, 2, 0, 0];
        let response = [0, 16, 0, 12, 0, 0, 0, 4, 0, 0, 0, 6];
        let chunk = [&[RECONFIG, 0, 0, 36][..], &reset, &response].concat();
        let bytes = packet(&[&chunk]);
        let Some(Chunk::Reconfig(params)) = Packet::parse(&bytes).unwrap().chunks().next() else {
            panic!("it is a RE-CONFIG");
        };
        let expected = [Param::Reset { request: 5 }, Param::Response { request: 4, done: false }];
        assert_eq!(params.collect::<Vec<_>>(), expected);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_packet_or_not(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let Some(packet) = Packet::parse(&bytes) else { return Ok(()) };
            prop_assert!((1..=MAX_CHUNKS).contains(&packet.chunks().count()));
        }

        #[test]
        fn any_body_under_a_header_is_sound_or_not(
            kind in prop::sample::select(vec![DATA, INIT, SACK, HEARTBEAT, ABORT, ERROR, RECONFIG, FORWARD_TSN]),
            body in proptest::collection::vec(0u8..20, 0..40),
        ) {
            let chunk = [&[kind, 0, 0, body.len() as u8 + 4][..], &body].concat();
            let bytes = packet(&[&chunk]);
            if let Some(packet) = Packet::parse(&bytes) {
                for chunk in packet.chunks() {
                    if let Chunk::Reconfig(params) = chunk {
                        prop_assert!((1..=2).contains(&params.count()));
                    }
                }
            }
        }
    }
}

//! The VP8 payload descriptor: the few bytes an SFU reads and renumbers.
#![warn(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]

/// A descriptor, RFC 7741 §4.2. Small, for the packet history keeps one per packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Vp8Descriptor {
    /// S: the payload starts a partition.
    pub start: bool,
    /// PID: which partition.
    pub partition: u8,
    /// N: no other frame refers to this one.
    pub non_reference: bool,
    /// Counts frames.
    pub picture_id: Option<PictureId>,
    /// TL0PICIDX: counts frames of the lowest temporal layer.
    pub tl0_pic_idx: Option<u8>,
    /// TID: the temporal layer.
    pub tid: Option<u8>,
    /// Y: refers to the lowest temporal layer only, so that a receiver may step up here.
    pub layer_sync: bool,
    /// KEYIDX: counts keyframes, modulo 32.
    pub key_idx: Option<u8>,
    /// Descriptor bytes. The VP8 payload header follows.
    pub len: usize,
}

/// A picture id and the width it was written in, which must not change on the way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PictureId {
    /// Seven bits, or fifteen when `wide`.
    pub value: u16,
    /// M: written in two bytes.
    pub wide: bool,
}

impl Vp8Descriptor {
    /// Reads the descriptor at the start of an RTP payload. `None` if it does not end inside it.
    pub fn parse(payload: &[u8]) -> Option<Vp8Descriptor> {
        let mut bytes = payload.iter().copied();
        let first = bytes.next()?;
        let has = if first & 0x80 != 0 { bytes.next()? } else { 0 };
        let picture_id = match has & I_BIT != 0 {
            true => Some(match bytes.next()? {
                high if high & M_BIT != 0 => {
                    let value = u16::from_be_bytes([high & !M_BIT, bytes.next()?]);
                    PictureId { value, wide: true }
                }
                narrow => PictureId { value: u16::from(narrow), wide: false },
            }),
            false => None,
        };
        let tl0_pic_idx = if has & L_BIT != 0 { Some(bytes.next()?) } else { None };
        // One byte serves T and K; each bit says which part of it means anything.
        let layer = if has & (T_BIT | K_BIT) != 0 { bytes.next()? } else { 0 };
        Some(Vp8Descriptor {
            start: first & 0x10 != 0,
            partition: first & 0x07,
            non_reference: first & 0x20 != 0,
            picture_id,
            tl0_pic_idx,
            tid: (has & T_BIT != 0).then_some(layer >> 6),
            layer_sync: has & T_BIT != 0 && layer & 0x20 != 0,
            key_idx: (has & K_BIT != 0).then_some(layer & 0x1f),
            len: payload.len().saturating_sub(bytes.len()),
        })
    }

    /// Whether this packet starts a keyframe: the start of partition 0 whose payload header has the
    /// inverse key frame flag P clear, RFC 7741 §4.3.
    pub fn is_keyframe(&self, payload: &[u8]) -> bool {
        let header = payload.get(self.len);
        self.start && self.partition == 0 && header.is_some_and(|header| header & 0x01 == 0)
    }

    /// Width and height, of the first packet of a keyframe: RFC 6386 §9.1. The two bits of scaling above each
    /// are a wish for the player and not looked at.
    pub fn size(&self, payload: &[u8]) -> Option<(u16, u16)> {
        let header = self.is_keyframe(payload).then(|| payload.get(self.len..))??;
        let &[_, _, _, 0x9d, 0x01, 0x2a, w0, w1, h0, h1] = header.first_chunk()? else { return None };
        Some((u16::from_le_bytes([w0, w1]) & 0x3fff, u16::from_le_bytes([h0, h1]) & 0x3fff))
    }

    /// Renumbers the payload this descriptor was read from. Fields keep their place and width: a
    /// narrow picture id takes the low seven bits, an absent field stays absent.
    pub fn patch(&self, payload: &mut [u8], picture_id: u16, tl0: u8) {
        let mut fields = payload.iter_mut().skip(2);
        let [high, low] = picture_id.to_be_bytes();
        if let Some(id) = self.picture_id
            && let Some(byte) = fields.next()
        {
            if id.wide {
                *byte = M_BIT | high;
                if let Some(byte) = fields.next() {
                    *byte = low;
                }
            } else {
                *byte = low & !M_BIT;
            }
        }
        if self.tl0_pic_idx.is_some()
            && let Some(byte) = fields.next()
        {
            *byte = tl0;
        }
    }
}

/// In the extension byte: which fields follow.
const I_BIT: u8 = 0x80;
const L_BIT: u8 = 0x40;
const T_BIT: u8 = 0x20;
const K_BIT: u8 = 0x10;
/// In the picture id's first byte: a second one follows.
const M_BIT: u8 = 0x80;

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_shortest_descriptor_is_one_byte() {
        let payload = [0x10, 0x00, 0x9d];
        let descriptor = Vp8Descriptor::parse(&payload).unwrap();
        assert_eq!(descriptor.len, 1);
        assert!(descriptor.start);
        assert_eq!(descriptor.picture_id, None);
        assert!(descriptor.is_keyframe(&payload));
    }

    #[test]
    fn chromium_writes_all_of_it() {
        // X S, I L T K, a 15-bit picture id, TL0PICIDX, TID 2 with Y and KEYIDX 5, a delta frame.
        let payload = [0xb0, 0xf0, 0x92, 0x34, 0x56, 0xa5, 0x01];
        let descriptor = Vp8Descriptor::parse(&payload).unwrap();
        assert_eq!(descriptor.picture_id, Some(PictureId { value: 0x1234, wide: true }));
        assert_eq!(descriptor.tl0_pic_idx, Some(0x56));
        assert_eq!(descriptor.tid, Some(2));
        assert!(descriptor.layer_sync && descriptor.non_reference);
        assert_eq!(descriptor.key_idx, Some(5));
        assert_eq!(descriptor.len, 6);
        assert!(!descriptor.is_keyframe(&payload));
    }

    #[test]
    fn a_keyframe_is_the_start_of_partition_zero() {
        let key = |first, header| {
            let payload = [first, header];
            Vp8Descriptor::parse(&payload).unwrap().is_keyframe(&payload)
        };
        assert!(key(0x10, 0x50));
        assert!(!key(0x00, 0x50), "a continuation");
        assert!(!key(0x11, 0x50), "partition 1");
        assert!(!key(0x10, 0x51), "P set: an interframe");
        assert!(!Vp8Descriptor::parse(&[0x10]).unwrap().is_keyframe(&[0x10]), "no payload header");
    }

    #[test]
    fn a_keyframe_says_its_size() {
        // 1280x720, both with scaling bits set.
        let mut payload = [0x10, 0x50, 0x01, 0x00, 0x9d, 0x01, 0x2a, 0x00, 0x45, 0xd0, 0xc2, 0xff];
        let size = |payload: &[u8]| Vp8Descriptor::parse(payload).unwrap().size(payload);
        assert_eq!(size(&payload), Some((1_280, 720)));
        assert_eq!(size(&payload[..11]), Some((1_280, 720)));
        assert_eq!(size(&payload[..10]), None, "cut");
        payload[6] = 0x2b;
        assert_eq!(size(&payload), None, "no start code");
        payload[6] = 0x2a;
        payload[1] |= 1;
        assert_eq!(size(&payload), None, "an interframe");
    }

    #[test]
    fn a_cut_descriptor_is_none() {
        let whole = [0x90, 0xf0, 0x92, 0x34, 0x56, 0xa5];
        for end in 0..whole.len() {
            assert_eq!(Vp8Descriptor::parse(&whole[..end]), None, "{end} bytes");
        }
        assert!(Vp8Descriptor::parse(&whole).is_some());
    }

    #[test]
    fn a_patch_keeps_the_width() {
        let mut narrow = [0x90, 0xc0, 0x05, 0x06, 0xff];
        let descriptor = Vp8Descriptor::parse(&narrow).unwrap();
        descriptor.patch(&mut narrow, 0x1285, 9);
        assert_eq!(narrow, [0x90, 0xc0, 0x05, 9, 0xff]);
        let mut wide = [0x90, 0xc0, 0x80, 0x05, 0x06, 0xff];
        let descriptor = Vp8Descriptor::parse(&wide).unwrap();
        descriptor.patch(&mut wide, 0x1285, 9);
        assert_eq!(wide, [0x90, 0xc0, 0x92, 0x85, 9, 0xff]);
    }

    proptest! {
        #[test]
        fn a_patch_changes_two_numbers_and_nothing_else(
            payload in proptest::collection::vec(any::<u8>(), 0..12), id in 0u16..1 << 15, tl0 in any::<u8>(),
        ) {
            let Some(before) = Vp8Descriptor::parse(&payload) else { return Ok(()) };
            let mut patched = payload.clone();
            before.patch(&mut patched, id, tl0);
            let after = Vp8Descriptor::parse(&patched).unwrap();
            let expected = Vp8Descriptor {
                picture_id: before.picture_id.map(|old| {
                    PictureId { value: if old.wide { id } else { id & 0x7f }, wide: old.wide }
                }),
                tl0_pic_idx: before.tl0_pic_idx.map(|_| tl0),
                ..before
            };
            prop_assert_eq!(after, expected);
            prop_assert_eq!(&patched[before.len..], &payload[before.len..]);
        }

        #[test]
        fn any_bytes_parse_or_do_not(payload in proptest::collection::vec(any::<u8>(), 0..8)) {
            if let Some(descriptor) = Vp8Descriptor::parse(&payload) {
                prop_assert!(descriptor.len <= payload.len());
                descriptor.is_keyframe(&payload);
                descriptor.size(&payload);
            }
        }
    }
}

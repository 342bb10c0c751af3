//! The VP9 payload descriptor: which layers a packet belongs to, and the numbers an SFU renews.
#![warn(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]

use super::vp8::PictureId;

/// A descriptor, RFC 9628 §4.2. A *picture* is all spatial layers of one instant, a *frame* one of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Vp9Descriptor {
    /// B: the payload starts a frame.
    pub start: bool,
    /// E: the payload ends a frame. The marker bit ends the picture.
    pub end: bool,
    /// P: the frame refers to frames of earlier pictures.
    pub inter_predicted: bool,
    /// Counts pictures.
    pub picture_id: Option<PictureId>,
    /// TID: the temporal layer.
    pub tid: Option<u8>,
    /// U: what follows in higher temporal layers refers to nothing in them before this frame, so that a
    /// receiver may step up here.
    pub switching_up: bool,
    /// SID: the spatial layer.
    pub sid: Option<u8>,
    /// D: the frame refers to the spatial layer below in its own picture.
    pub inter_layer: bool,
    /// TL0PICIDX: counts pictures of the lowest temporal layer. Only in non-flexible mode.
    pub tl0_pic_idx: Option<u8>,
    /// Z: no frame of a higher spatial layer refers to this one.
    pub not_for_inter_layer: bool,
    /// How many spatial layers the scalability structure announces.
    pub spatial_layers: Option<u8>,
    /// Width and height of the highest spatial layer, where the scalability structure says them.
    pub size: Option<(u16, u16)>,
    /// Descriptor bytes. The VP9 frame follows.
    pub len: usize,
}

impl Vp9Descriptor {
    /// Reads the descriptor at the start of an RTP payload. `None` if it does not end inside it, or names
    /// more than three references.
    pub fn parse(payload: &[u8]) -> Option<Vp9Descriptor> {
        let mut bytes = payload.iter().copied();
        let first = bytes.next()?;
        let flexible = first & F_BIT != 0;
        let inter_predicted = first & P_BIT != 0;
        let picture_id = match first & I_BIT != 0 {
            true => Some(match bytes.next()? {
                high if high & M_BIT != 0 => {
                    let value = u16::from_be_bytes([high & !M_BIT, bytes.next()?]);
                    PictureId { value, wide: true }
                }
                narrow => PictureId { value: u16::from(narrow), wide: false },
            }),
            false => None,
        };
        let layer = if first & L_BIT != 0 { Some(bytes.next()?) } else { None };
        let tl0_pic_idx = if layer.is_some() && !flexible { Some(bytes.next()?) } else { None };
        if flexible && inter_predicted {
            references(&mut bytes)?;
        }
        let structure = if first & V_BIT != 0 { Some(structure(&mut bytes)?) } else { None };
        Some(Vp9Descriptor {
            start: first & B_BIT != 0,
            end: first & E_BIT != 0,
            inter_predicted,
            picture_id,
            tid: layer.map(|layer| layer >> 5),
            switching_up: layer.is_some_and(|layer| layer & U_BIT != 0),
            sid: layer.map(|layer| layer >> 1 & 0x07),
            inter_layer: layer.is_some_and(|layer| layer & D_BIT != 0),
            tl0_pic_idx,
            not_for_inter_layer: first & Z_BIT != 0,
            spatial_layers: structure.map(|(layers, _)| layers),
            size: structure.and_then(|(_, size)| size),
            len: payload.len().saturating_sub(bytes.len()),
        })
    }

    /// Whether this packet starts a keyframe: a frame of the lowest spatial layer that refers to no earlier
    /// picture. What is above it in the same picture may refer down, and belongs to it.
    pub fn is_keyframe(&self) -> bool {
        self.start && !self.inter_predicted && self.sid.unwrap_or(0) == 0
    }

    /// Renumbers the payload this descriptor was read from. Fields keep their place and width: a narrow
    /// picture id takes the low seven bits, an absent field stays absent.
    pub fn patch(&self, payload: &mut [u8], picture_id: u16, tl0: u8) {
        let mut fields = payload.iter_mut().skip(1);
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
        // TL0PICIDX stands behind the layer indices, never without them.
        if self.tl0_pic_idx.is_some()
            && let Some(byte) = fields.nth(1)
        {
            *byte = tl0;
        }
    }
}

/// Steps over P_DIFF, at most three of them: N says whether one more follows.
fn references(bytes: &mut impl Iterator<Item = u8>) -> Option<()> {
    for _ in 0..MAX_REFERENCES {
        if bytes.next()? & N_BIT == 0 {
            return Some(());
        }
    }
    None
}

/// Reads the scalability structure, RFC 9628 §4.2.1: the number of spatial layers, the last one's size, and a
/// group of up to 255 pictures with up to three references each, which is stepped over.
fn structure(bytes: &mut impl Iterator<Item = u8>) -> Option<(u8, Option<(u16, u16)>)> {
    let first = bytes.next()?;
    let spatial_layers = (first >> 5).saturating_add(1);
    let mut size = None;
    if first & Y_BIT != 0 {
        for _ in 0..spatial_layers {
            let mut edge = || Some(u16::from_be_bytes([bytes.next()?, bytes.next()?]));
            size = Some((edge()?, edge()?));
        }
    }
    let pictures = if first & G_BIT != 0 { bytes.next()? } else { 0 };
    for _ in 0..pictures {
        let references = bytes.next()? >> 2 & 0x03;
        for _ in 0..references {
            bytes.next()?;
        }
    }
    Some((spatial_layers, size))
}

/// In the first byte: what the frame is, and which fields follow.
const I_BIT: u8 = 0x80;
const P_BIT: u8 = 0x40;
const L_BIT: u8 = 0x20;
const F_BIT: u8 = 0x10;
const B_BIT: u8 = 0x08;
const E_BIT: u8 = 0x04;
const V_BIT: u8 = 0x02;
const Z_BIT: u8 = 0x01;
/// In the picture id's first byte: a second one follows.
const M_BIT: u8 = 0x80;
/// In the layer indices.
const U_BIT: u8 = 0x10;
const D_BIT: u8 = 0x01;
/// In a P_DIFF: another one follows.
const N_BIT: u8 = 0x01;
const MAX_REFERENCES: usize = 3;
/// In the scalability structure: sizes, and a group of pictures.
const Y_BIT: u8 = 0x10;
const G_BIT: u8 = 0x08;

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_shortest_descriptor_is_one_byte() {
        let descriptor = Vp9Descriptor::parse(&[0x08, 0x82]).unwrap();
        assert_eq!(descriptor.len, 1);
        assert_eq!((descriptor.picture_id, descriptor.tid, descriptor.sid), (None, None, None));
        assert!(descriptor.is_keyframe());
    }

    #[test]
    fn a_keyframe_in_non_flexible_mode() {
        // I L B V; a 15-bit picture id; TID 0, U, SID 0; TL0PICIDX; two layers with sizes and a group of two.
        let payload = [
            0xaa, 0x92, 0x34, 0x10, 0x56, 0x38, 2, 128, 1, 104, 5, 0, 2, 208, 2, 0x04, 0x01, 0x28, 0x01,
            0x02, 0x82,
        ];
        let descriptor = Vp9Descriptor::parse(&payload).unwrap();
        assert_eq!(descriptor.picture_id, Some(PictureId { value: 0x1234, wide: true }));
        assert_eq!(descriptor.tl0_pic_idx, Some(0x56));
        assert_eq!((descriptor.tid, descriptor.sid), (Some(0), Some(0)));
        assert!(descriptor.switching_up && !descriptor.inter_layer);
        assert_eq!(descriptor.spatial_layers, Some(2));
        assert_eq!(descriptor.size, Some((1_280, 720)));
        assert_eq!(descriptor.len, 20);
        assert!(descriptor.is_keyframe());
        assert_eq!(Vp9Descriptor::parse(&payload[..19]), None, "the second picture claims two references");
    }

    #[test]
    fn a_frame_of_the_upper_layer_in_flexible_mode() {
        // I P L F E Z; a 7-bit picture id; TID 2, SID 1, D; no TL0PICIDX; two references.
        let payload = [0xf5, 0x05, 0x43, 0x03, 0x04, 0xff];
        let descriptor = Vp9Descriptor::parse(&payload).unwrap();
        assert_eq!(descriptor.picture_id, Some(PictureId { value: 5, wide: false }));
        assert_eq!(descriptor.tl0_pic_idx, None);
        assert_eq!((descriptor.tid, descriptor.sid), (Some(2), Some(1)));
        assert!(descriptor.inter_layer && !descriptor.switching_up && descriptor.not_for_inter_layer);
        assert!(descriptor.end && !descriptor.start && descriptor.inter_predicted);
        assert_eq!(descriptor.len, 5);
        assert!(!descriptor.is_keyframe());
    }

    #[test]
    fn there_are_three_references_at_most() {
        assert_eq!(Vp9Descriptor::parse(&[0xd0, 1, 3, 3, 2, 9]).unwrap().len, 5);
        assert_eq!(Vp9Descriptor::parse(&[0xd0, 1, 3, 3, 3, 2, 9]), None);
        assert_eq!(Vp9Descriptor::parse(&[0xc0, 1, 3, 3, 3, 2, 9]).unwrap().len, 2, "only in flexible mode");
        assert_eq!(Vp9Descriptor::parse(&[0x90, 1, 3, 3, 3, 2, 9]).unwrap().len, 2, "only where P is set");
    }

    #[test]
    fn a_keyframe_starts_in_the_lowest_layer() {
        let key = |first, layer| Vp9Descriptor::parse(&[first, layer, 0]).unwrap().is_keyframe();
        assert!(key(0x28, 0x00));
        assert!(!key(0x20, 0x00), "a continuation");
        assert!(!key(0x68, 0x00), "P set");
        assert!(!key(0x28, 0x03), "the layer above, of the same picture");
    }

    #[test]
    fn a_cut_descriptor_is_none() {
        let whole = [0xaa, 0x92, 0x34, 0x10, 0x56, 0x18, 2, 128, 1, 104, 1, 0x04, 0x01];
        for end in 0..whole.len() {
            assert_eq!(Vp9Descriptor::parse(&whole[..end]), None, "{end} bytes");
        }
        assert_eq!(Vp9Descriptor::parse(&whole).unwrap().len, whole.len());
    }

    #[test]
    fn a_patch_keeps_the_width() {
        let mut narrow = [0xa0, 0x05, 0x20, 0x06, 0xff];
        let descriptor = Vp9Descriptor::parse(&narrow).unwrap();
        descriptor.patch(&mut narrow, 0x1285, 9);
        assert_eq!(narrow, [0xa0, 0x05, 0x20, 9, 0xff]);
        let mut wide = [0xb0, 0x80, 0x05, 0x20, 0x06];
        let descriptor = Vp9Descriptor::parse(&wide).unwrap();
        descriptor.patch(&mut wide, 0x1285, 9);
        assert_eq!(wide, [0xb0, 0x92, 0x85, 0x20, 0x06], "flexible: the fourth is payload");
    }

    proptest! {
        #[test]
        fn a_patch_changes_two_numbers_and_nothing_else(
            payload in proptest::collection::vec(any::<u8>(), 0..24), id in 0u16..1 << 15, tl0 in any::<u8>(),
        ) {
            let Some(before) = Vp9Descriptor::parse(&payload) else { return Ok(()) };
            let mut patched = payload.clone();
            before.patch(&mut patched, id, tl0);
            let after = Vp9Descriptor::parse(&patched).unwrap();
            let expected = Vp9Descriptor {
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
        fn any_bytes_parse_or_do_not(payload in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Some(descriptor) = Vp9Descriptor::parse(&payload) {
                prop_assert!(descriptor.len <= payload.len());
                prop_assert!(descriptor.tl0_pic_idx.is_none() || descriptor.tid.is_some());
            }
        }
    }
}

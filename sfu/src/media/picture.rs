//! What a packet tells about its picture: which layer it belongs to, and whether a decoder may begin there.

use std::sync::Arc;

use super::codec::Codec;
use crate::wire::descriptor::{self, Structure};
use crate::wire::vp8::Vp8Descriptor;
use crate::wire::vp9::Vp9Descriptor;
use crate::wire::{av1, h264, h265};

/// One packet's place. For audio, and where nothing can be read: one layer, of which every packet is needed.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Picture {
    /// The first packet of a keyframe.
    pub keyframe: bool,
    /// The first packet of its layer's frame.
    pub starts_frame: bool,
    /// The last one.
    pub ends_frame: bool,
    /// The spatial layer within the stream, 0 the smallest.
    pub spatial: u8,
    /// The temporal layer, 0 the slowest.
    pub temporal: u8,
    /// Which temporal layers a receiver of slower ones may take from here on.
    pub step_up: StepUp,
    /// A receiver of smaller spatial layers may take this one from here on.
    pub refreshing: bool,
    /// What must be renumbered.
    pub numbers: Numbers,
}

/// Where a receiver may change to faster temporal layers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StepUp {
    /// Not here.
    None,
    /// To this packet's own layer, from the one below (VP8's Y bit).
    Itself,
    /// To layers up to this one, for who gets this packet (VP9's U bit, decode target indications).
    UpTo(u8),
}

/// Frame counters that lie in the payload.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Numbers {
    None,
    Vp8(Vp8Descriptor),
    Vp9(Vp9Descriptor),
}

impl Picture {
    /// Nothing is known.
    pub const OPAQUE: Picture = Picture {
        keyframe: false,
        starts_frame: false,
        ends_frame: false,
        spatial: 0,
        temporal: 0,
        step_up: StepUp::None,
        refreshing: false,
        numbers: Numbers::None,
    };
}

impl Numbers {
    /// Picture id and TL0PICIDX, zero for one that is absent; `None` without a picture id.
    pub fn get(&self) -> Option<(u16, u8)> {
        let (id, tl0) = match self {
            Numbers::None => return None,
            Numbers::Vp8(vp8) => (vp8.picture_id, vp8.tl0_pic_idx),
            Numbers::Vp9(vp9) => (vp9.picture_id, vp9.tl0_pic_idx),
        };
        Some((id?.value, tl0.unwrap_or(0)))
    }

    /// Writes others into the payload they were read from.
    pub fn patch(&self, payload: &mut [u8], picture_id: u16, tl0: u8) {
        match self {
            Numbers::None => {}
            Numbers::Vp8(vp8) => vp8.patch(payload, picture_id, tl0),
            Numbers::Vp9(vp9) => vp9.patch(payload, picture_id, tl0),
        }
    }
}

/// Reads the pictures of one stream.
///
/// What the dependency descriptor says comes before what the payload says, for it stays readable when the
/// payload is encrypted end to end.
#[derive(Debug, Default)]
pub struct PictureReader {
    /// How the stream's layers depend on each other, as its descriptors last told.
    structure: Option<Arc<Structure>>,
    /// Of the latest keyframe: several of its packets may look like a start (H.264: SPS, then IDR).
    keyframe_at: Option<u32>,
}

/// What one packet tells.
pub struct Reading {
    pub picture: Picture,
    /// Width and height in pixels, where the packet says.
    pub size: Option<(u16, u16)>,
    /// A new structure, which later packets' descriptors refer to.
    pub structure: Option<Arc<Structure>>,
}

impl PictureReader {
    /// Reads one packet. `descriptor` is its dependency descriptor extension.
    pub fn read(
        &mut self,
        codec: Codec,
        timestamp: u32,
        marker: bool,
        descriptor: Option<&[u8]>,
        payload: &[u8],
    ) -> Reading {
        let mut reading = read_payload(codec, marker, payload);
        if let Some(bytes) = descriptor
            && let Some((told, structure)) = descriptor::parse(bytes, self.structure.as_deref())
        {
            if let Some(structure) = structure {
                let highest = structure.spatial_layers().saturating_sub(1);
                reading.size = structure.size_of(highest).or(reading.size);
                let structure = Arc::new(structure);
                self.structure = Some(structure.clone());
                reading.structure = Some(structure);
            }
            reading.picture = Picture {
                keyframe: told.starts_keyframe,
                starts_frame: told.start_of_frame,
                ends_frame: told.end_of_frame,
                spatial: told.spatial,
                temporal: told.temporal,
                step_up: self.step_up(told.switch_targets),
                // A frame may say that its target can be switched to and yet refer to one of its layer that the
                // receiver never got: only a keyframe is safe without following the chains.
                refreshing: false,
                numbers: reading.picture.numbers,
            };
        }
        let keyframe = &mut reading.picture.keyframe;
        *keyframe &= self.keyframe_at != Some(timestamp);
        if *keyframe {
            self.keyframe_at = Some(timestamp);
        }
        reading
    }
}

impl PictureReader {
    /// The fastest temporal layer of the decode targets that can be switched to.
    fn step_up(&self, targets: u32) -> StepUp {
        let Some(structure) = &self.structure else { return StepUp::None };
        let within = |temporal| structure.targets_within(u8::MAX, temporal);
        let fastest =
            (1..MAX_TEMPORAL).rev().find(|temporal| within(*temporal) & !within(temporal - 1) & targets != 0);
        fastest.map_or(StepUp::None, StepUp::UpTo)
    }
}

/// Temporal layers that are told apart: browsers send three at most.
const MAX_TEMPORAL: u8 = 4;

fn read_payload(codec: Codec, marker: bool, payload: &[u8]) -> Reading {
    let mut picture = Picture { ends_frame: marker, ..Picture::OPAQUE };
    let mut size = None;
    match codec {
        Codec::Opus | Codec::Red => {}
        Codec::Vp8 => {
            if let Some(vp8) = Vp8Descriptor::parse(payload) {
                picture.keyframe = vp8.is_keyframe(payload);
                picture.starts_frame = vp8.start && vp8.partition == 0;
                picture.temporal = vp8.tid.unwrap_or(0);
                picture.step_up = if vp8.layer_sync { StepUp::Itself } else { StepUp::None };
                picture.numbers = Numbers::Vp8(vp8);
                size = vp8.size(payload);
            }
        }
        Codec::Vp9 { .. } => {
            if let Some(vp9) = Vp9Descriptor::parse(payload) {
                picture.keyframe = vp9.is_keyframe();
                picture.starts_frame = vp9.start;
                picture.ends_frame = vp9.end;
                picture.spatial = vp9.sid.unwrap_or(0);
                picture.temporal = vp9.tid.unwrap_or(0);
                let up = vp9.switching_up || !vp9.inter_predicted;
                picture.step_up = if up { StepUp::UpTo(u8::MAX) } else { StepUp::None };
                picture.refreshing = !vp9.inter_predicted;
                picture.numbers = Numbers::Vp9(vp9);
                size = vp9.size;
            }
        }
        Codec::H264 { .. } => picture.keyframe = h264::starts_keyframe(payload),
        Codec::H265 => picture.keyframe = h265::starts_keyframe(payload),
        Codec::Av1 { .. } => picture.keyframe = av1::starts_keyframe(payload),
    }
    Reading { picture, size, structure: None }
}

//! The dependency descriptor: a header extension that says which layer a frame belongs to and who can do
//! without it, for any codec and under end-to-end encryption. AV1 RTP specification, appendix A.
//!
//! Frames are described by *templates*, and a *structure* that lists them comes with keyframes only: whoever
//! reads a descriptor needs the last structure of its stream. What one may choose between are *decode targets*,
//! each a spatial and a temporal layer and all that is needed for them.
#![warn(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]

use std::ops::Range;

use super::bits::{BitWriter, Bits};

/// What one frame is to the decode targets of its stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Descriptor {
    /// The packet starts a frame: one spatial layer of one instant.
    pub start_of_frame: bool,
    /// The packet ends it.
    pub end_of_frame: bool,
    /// Counts frames of all layers. Never renumbered on the way, for frames name each other by differences.
    pub frame_number: u16,
    /// The spatial layer.
    pub spatial: u8,
    /// The temporal layer.
    pub temporal: u8,
    /// The packet starts a frame, carries a structure and refers to no other frame.
    pub starts_keyframe: bool,
    /// Bit by decode target: the frame belongs to it. Its indication is not "not present".
    pub targets: u32,
    /// Bit by decode target: who can decode this frame can decode all that follow of the target. Its
    /// indication is "switch". Whether this frame can be decoded is another question, see [`chain_diffs`].
    pub switch_targets: u32,
    /// Bit by decode target: it is being sent, from this packet on. A structure that comes without this mask
    /// makes all of them active; without either, the last mask still holds.
    pub active_targets: Option<u32>,
}

/// Reads the value of the extension. `known` is the structure last seen in the stream; the second is the one
/// that this packet carries. `None` if it is malformed, or needs a structure that is not known or not the
/// one that is known.
pub fn parse(bytes: &[u8], known: Option<&Structure>) -> Option<(Descriptor, Option<Structure>)> {
    let reading = read(bytes, known)?;
    Some((reading.descriptor, reading.structure))
}

/// How far back each chain's last frame lies. A chain is a sequence of frames without which the decode targets
/// that it protects cannot be decoded.
///
/// An intact chain is what makes a "switch" indication usable: a subscriber whose last frame of the chain was
/// `frame_number` less the difference lacks nothing that this frame stands on. Difference 0 starts the chain anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChainDiffs {
    count: u8,
    by_chain: [u8; MAX_CHAINS],
}

impl ChainDiffs {
    /// The difference in frame numbers, `None` without such a chain.
    pub fn get(&self, chain: u8) -> Option<u8> {
        self.by_chain.get(..self.count.into())?.get(usize::from(chain)).copied()
    }
}

/// Reads the chains of a frame, where [`parse`] reads the rest. `None` where that is.
pub fn chain_diffs(bytes: &[u8], known: Option<&Structure>) -> Option<ChainDiffs> {
    Some(read(bytes, known)?.chains)
}

/// Writes to `out` what `bytes` says, with `active` as the mask of active decode targets, and returns its
/// length. `None` where [`parse`] gives none, or if it does not fit in `out` or in an extension.
///
/// A subscriber that gets lower targets than there are must be told so in every packet: it would wait for the
/// others, and one packet may be lost (§A.4). Everything else stays bit for bit, if not in its place.
pub fn restrict(bytes: &[u8], known: &Structure, active: u32, out: &mut [u8]) -> Option<usize> {
    let reading = read(bytes, Some(known))?;
    let current = reading.structure.as_ref().unwrap_or(known);
    let mut from = Bits { bytes, at: 0 };
    let mut to = BitWriter::new(out);
    to.copy(&mut from, MANDATORY)?;
    let flags = if bytes.len() > SHORT { from.take(FLAGS)? } else { 0 };
    to.put(flags | ACTIVE_BIT, FLAGS)?;
    to.copy(&mut from, reading.mask.start)?;
    to.put(active & current.all(), current.targets.into())?;
    from.at = reading.mask.end;
    to.copy(&mut from, reading.end)?;
    to.finish().filter(|len| *len <= MAX_BYTES)
}

/// The templates of a coded video sequence, and what its decode targets are.
///
/// Takes memory for as many templates as it lists, of 44 bytes each: 2.8 kB if a publisher means harm.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Structure {
    /// The id of the first template; the others count up from it, modulo 64.
    offset: u8,
    targets: u8,
    chains: u8,
    spatial_layers: u8,
    /// By decode target: the chain that protects it.
    protected_by: [u8; MAX_TARGETS],
    templates: Vec<Template>,
    sizes: Option<[(u16, u16); MAX_SPATIAL]>,
}

impl Structure {
    /// How many decode targets there are: 1 to 32.
    pub fn decode_targets(&self) -> u8 {
        self.targets
    }

    /// How many spatial layers there are: 1 to 4.
    pub fn spatial_layers(&self) -> u8 {
        self.spatial_layers
    }

    /// Width and height of a spatial layer, where the structure says them. A side of 65,536, which can be
    /// said, reads as one less.
    pub fn size_of(&self, spatial: u8) -> Option<(u16, u16)> {
        let layers = self.sizes.as_ref()?.get(..self.spatial_layers.into())?;
        layers.get(usize::from(spatial)).copied()
    }

    /// Bit by decode target: no frame of it lies above these layers.
    pub fn targets_within(&self, max_spatial: u8, max_temporal: u8) -> u32 {
        let above = |template: &&Template| template.spatial > max_spatial || template.temporal > max_temporal;
        let beyond =
            self.templates.iter().filter(above).fold(0, |mask, template| mask | template.rows.present);
        self.all() & !beyond
    }

    /// The chain that protects a decode target. `None` if there is no such target, or no chains.
    pub fn chain_of(&self, target: u8) -> Option<u8> {
        let protected_by = self.protected_by.get(..self.targets.into())?.get(usize::from(target));
        protected_by.copied().filter(|_| self.chains > 0)
    }

    /// Bit by decode target: all of them.
    fn all(&self) -> u32 {
        u32::MAX.wrapping_shr(u32::BITS.saturating_sub(self.targets.into()))
    }

    fn template(&self, id: u8) -> Option<&Template> {
        self.templates.get(usize::from(id.wrapping_sub(self.offset) & 0x3f))
    }

    /// `template_dependency_structure()`, §A.8.2.
    fn read(bits: &mut Bits<'_>) -> Option<Structure> {
        let offset = bits.take(6)? as u8;
        let targets = (bits.take(5)? as u8).saturating_add(1);
        let mut templates = read_layers(bits)?;
        for template in &mut templates {
            template.rows = Rows::read(bits, targets)?;
        }
        for template in &mut templates {
            while bits.flag()? {
                // By how many frames, less one.
                bits.take(4)?;
                template.refers = true;
            }
        }
        let chains = bits.non_symmetric(u32::from(targets).saturating_add(1))? as u8;
        let mut protected_by = [0; MAX_TARGETS];
        if chains > 0 {
            for chain in protected_by.iter_mut().take(targets.into()) {
                *chain = bits.non_symmetric(chains.into())? as u8;
            }
            for template in &mut templates {
                template.chains = read_chains(bits, chains, 4)?;
            }
        }
        let spatial_layers = templates.last()?.spatial.saturating_add(1);
        let mut sizes = None;
        if bits.flag()? {
            let layers = sizes.insert([(0, 0); MAX_SPATIAL]);
            for (width, height) in layers.iter_mut().take(spatial_layers.into()) {
                *width = (bits.take(16)? as u16).saturating_add(1);
                *height = (bits.take(16)? as u16).saturating_add(1);
            }
        }
        Some(Structure { offset, targets, chains, spatial_layers, protected_by, templates, sizes })
    }
}

/// What the frames that name it have in common.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Template {
    spatial: u8,
    temporal: u8,
    /// Refers to other frames. To which, nobody asks here.
    refers: bool,
    rows: Rows,
    chains: [u8; MAX_CHAINS],
}

/// The indications of a frame, bit by decode target.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Rows {
    present: u32,
    switch: u32,
}

impl Rows {
    /// One indication of two bits for each target.
    fn read(bits: &mut Bits<'_>, targets: u8) -> Option<Rows> {
        let mut rows = Rows::default();
        for target in 0..u32::from(targets) {
            let bit = 1_u32.wrapping_shl(target);
            match bits.take(2)? {
                NOT_PRESENT => {}
                SWITCH => rows = Rows { present: rows.present | bit, switch: rows.switch | bit },
                _ => rows.present |= bit,
            }
        }
        Some(rows)
    }
}

/// `template_layers()`: templates with nothing but their layers, which rise by steps.
fn read_layers(bits: &mut Bits<'_>) -> Option<Vec<Template>> {
    let mut layers = [(0, 0); MAX_TEMPLATES];
    let (mut spatial, mut temporal) = (0_u8, 0_u8);
    for count in 1..=MAX_TEMPLATES {
        *layers.get_mut(count.saturating_sub(1))? = (spatial, temporal);
        match bits.take(2)? {
            SAME_LAYER => {}
            NEXT_TEMPORAL => temporal = temporal.saturating_add(1),
            NEXT_SPATIAL => (spatial, temporal) = (spatial.saturating_add(1), 0),
            _ => {
                let layers = layers.get(..count)?.iter();
                return Some(layers.map(|(spatial, temporal)| Template::of(*spatial, *temporal)).collect());
            }
        }
        if usize::from(spatial) >= MAX_SPATIAL || temporal >= MAX_TEMPORAL {
            return None;
        }
    }
    None
}

impl Template {
    fn of(spatial: u8, temporal: u8) -> Template {
        Template { spatial, temporal, refers: false, rows: Rows::default(), chains: [0; MAX_CHAINS] }
    }
}

/// One difference of `width` bits for each chain.
fn read_chains(bits: &mut Bits<'_>, chains: u8, width: usize) -> Option<[u8; MAX_CHAINS]> {
    let mut diffs = [0; MAX_CHAINS];
    for diff in diffs.iter_mut().take(chains.into()) {
        *diff = bits.take(width)? as u8;
    }
    Some(diffs)
}

/// `frame_fdiffs()`: whether there are any. Each comes behind its size in units of four bits.
fn read_references(bits: &mut Bits<'_>) -> Option<bool> {
    let mut refers = false;
    loop {
        let units = bits.take(2)? as usize;
        if units == 0 {
            return Some(refers);
        }
        bits.take(units << 2)?;
        refers = true;
    }
}

/// All that a descriptor says, and where.
struct Reading {
    descriptor: Descriptor,
    structure: Option<Structure>,
    chains: ChainDiffs,
    /// The bits where the mask of active targets stands, or would.
    mask: Range<usize>,
    /// Bits in all. Padding follows.
    end: usize,
}

/// `dependency_descriptor()`, §A.8.2.
fn read(bytes: &[u8], known: Option<&Structure>) -> Option<Reading> {
    if bytes.len() > MAX_BYTES {
        return None;
    }
    let mut bits = Bits { bytes, at: 0 };
    let (start_of_frame, end_of_frame) = (bits.flag()?, bits.flag()?);
    let (template_id, frame_number) = (bits.take(6)? as u8, bits.take(16)? as u16);
    let flags = if bytes.len() > SHORT { bits.take(FLAGS)? } else { 0 };
    let structure = if flags & STRUCTURE_BIT != 0 { Some(Structure::read(&mut bits)?) } else { None };
    let current = structure.as_ref().or(known)?;

    let mask = bits.at;
    let active = if flags & ACTIVE_BIT != 0 { Some(bits.take(current.targets.into())?) } else { None };
    let mask = mask..bits.at;

    let Template { spatial, temporal, mut refers, mut rows, mut chains } = *current.template(template_id)?;
    if flags & CUSTOM_DTIS_BIT != 0 {
        rows = Rows::read(&mut bits, current.targets)?;
    }
    if flags & CUSTOM_FDIFFS_BIT != 0 {
        refers = read_references(&mut bits)?;
    }
    if flags & CUSTOM_CHAINS_BIT != 0 {
        chains = read_chains(&mut bits, current.chains, 8)?;
    }
    let descriptor = Descriptor {
        start_of_frame,
        end_of_frame,
        frame_number,
        spatial,
        temporal,
        starts_keyframe: start_of_frame && structure.is_some() && !refers,
        targets: rows.present,
        switch_targets: rows.switch,
        active_targets: active.or(structure.as_ref().map(Structure::all)),
    };
    let chains = ChainDiffs { count: current.chains, by_chain: chains };
    Some(Reading { descriptor, structure, chains, mask, end: bits.at })
}

/// What a one-byte length in a header extension can say (RFC 8285 §4.3): no descriptor is longer.
pub const MAX_BYTES: usize = 255;
/// A template's id has six bits.
const MAX_TEMPLATES: usize = 64;
/// Their number less one has five bits.
const MAX_TARGETS: usize = 32;
/// There is at most one for each target.
const MAX_CHAINS: usize = 32;
/// What AV1 can number: two bits for the spatial layer, three for the temporal one.
const MAX_SPATIAL: usize = 4;
const MAX_TEMPORAL: u8 = 8;

/// A descriptor of so many bytes, or fewer, has no flags.
const SHORT: usize = 3;
/// Bits before the flags, and of them.
const MANDATORY: usize = 24;
const FLAGS: usize = 5;
const STRUCTURE_BIT: u32 = 0x10;
const ACTIVE_BIT: u32 = 0x08;
const CUSTOM_DTIS_BIT: u32 = 0x04;
const CUSTOM_FDIFFS_BIT: u32 = 0x02;
const CUSTOM_CHAINS_BIT: u32 = 0x01;

/// Indications. The others are "discardable" and "required".
const NOT_PRESENT: u32 = 0;
const SWITCH: u32 = 2;
/// Steps from one template's layer to the next one's. Any other ends the list.
const SAME_LAYER: u32 = 0;
const NEXT_TEMPORAL: u32 = 1;
const NEXT_SPATIAL: u32 = 2;

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// A descriptor to be written, as plainly as the specification writes its syntax.
    #[derive(Clone, Debug)]
    struct Draft {
        start: bool,
        end: bool,
        template: u8,
        number: u16,
        structure: Option<StructureDraft>,
        active: Option<u32>,
        dtis: Option<Vec<u32>>,
        fdiffs: Option<Vec<u32>>,
        chains: Option<Vec<u32>>,
        /// Of the structure that is in use.
        targets: u32,
    }

    #[derive(Clone, Debug)]
    struct StructureDraft {
        offset: u8,
        targets: u32,
        chains: u32,
        protected_by: Vec<u32>,
        templates: Vec<TemplateDraft>,
        sizes: Option<Vec<(u16, u16)>>,
    }

    #[derive(Clone, Debug)]
    struct TemplateDraft {
        spatial: u8,
        temporal: u8,
        dtis: Vec<u32>,
        fdiffs: Vec<u32>,
        chains: Vec<u32>,
    }

    #[derive(Default)]
    struct Writer(Vec<bool>);

    impl Writer {
        fn f(&mut self, count: u32, value: u32) {
            self.0.extend((0..count).rev().map(|bit| value >> bit & 1 == 1));
        }

        fn ns(&mut self, values: u32, value: u32) {
            let width = values.ilog2() + 1;
            let short = (1 << width) - values;
            if value < short { self.f(width - 1, value) } else { self.f(width, value + short) }
        }

        fn bytes(self) -> Vec<u8> {
            let byte = |bits: &[bool]| {
                (0..8).fold(0, |byte, bit| byte << 1 | u8::from(bits.get(bit) == Some(&true)))
            };
            self.0.chunks(8).map(byte).collect()
        }
    }

    impl Draft {
        fn plain(template: u8, number: u16, targets: u32) -> Draft {
            Draft {
                start: true,
                end: true,
                template,
                number,
                structure: None,
                active: None,
                dtis: None,
                fdiffs: None,
                chains: None,
                targets,
            }
        }

        fn bits(&self) -> Writer {
            let mut w = Writer::default();
            w.f(1, self.start.into());
            w.f(1, self.end.into());
            w.f(6, self.template.into());
            w.f(16, self.number.into());
            let flags = [
                self.structure.is_some(),
                self.active.is_some(),
                self.dtis.is_some(),
                self.fdiffs.is_some(),
                self.chains.is_some(),
            ];
            if flags.iter().any(|flag| *flag) {
                flags.iter().for_each(|flag| w.f(1, u32::from(*flag)));
            }
            if let Some(structure) = &self.structure {
                structure.write(&mut w);
            }
            if let Some(active) = self.active {
                w.f(self.targets, active);
            }
            self.dtis.iter().flatten().for_each(|dti| w.f(2, *dti));
            if let Some(fdiffs) = &self.fdiffs {
                for fdiff in fdiffs {
                    let units = if *fdiff <= 16 {
                        1
                    } else if *fdiff <= 256 {
                        2
                    } else {
                        3
                    };
                    w.f(2, units);
                    w.f(4 * units, fdiff - 1);
                }
                w.f(2, 0);
            }
            self.chains.iter().flatten().for_each(|diff| w.f(8, *diff));
            w
        }

        fn write(&self) -> Vec<u8> {
            self.bits().bytes()
        }
    }

    impl StructureDraft {
        fn write(&self, w: &mut Writer) {
            w.f(6, self.offset.into());
            w.f(5, self.targets - 1);
            for pair in self.templates.windows(2) {
                let same = pair[0].spatial == pair[1].spatial;
                w.f(2, if !same { 2 } else { u32::from(pair[0].temporal != pair[1].temporal) });
            }
            w.f(2, 3);
            self.templates.iter().flat_map(|template| &template.dtis).for_each(|dti| w.f(2, *dti));
            for template in &self.templates {
                for fdiff in &template.fdiffs {
                    w.f(1, 1);
                    w.f(4, fdiff - 1);
                }
                w.f(1, 0);
            }
            w.ns(self.targets + 1, self.chains);
            if self.chains > 0 {
                self.protected_by.iter().for_each(|chain| w.ns(self.chains, *chain));
                self.templates.iter().flat_map(|template| &template.chains).for_each(|diff| w.f(4, *diff));
            }
            w.f(1, self.sizes.is_some().into());
            for (width, height) in self.sizes.iter().flatten() {
                w.f(16, u32::from(*width) - 1);
                w.f(16, u32::from(*height) - 1);
            }
        }

        /// As a keyframe carries it.
        fn keyframe(&self, number: u16) -> Draft {
            let plain = Draft::plain(self.offset, number, self.targets);
            Draft { structure: Some(self.clone()), ..plain }
        }

        fn known(&self) -> Structure {
            parse(&self.keyframe(1).write(), None).unwrap().1.unwrap()
        }
    }

    /// A template by the letters that the specification gives the indications.
    fn template(spatial: u8, temporal: u8, dtis: &str, fdiffs: &[u32], chains: &[u32]) -> TemplateDraft {
        let dtis = dtis.chars().map(|letter| "-DSR".find(letter).unwrap() as u32).collect();
        TemplateDraft { spatial, temporal, dtis, fdiffs: fdiffs.to_vec(), chains: chains.to_vec() }
    }

    /// Two spatial layers of two temporal ones, the upper predicted from the lower. Targets by rising quality.
    fn l2t2() -> StructureDraft {
        StructureDraft {
            offset: 60,
            targets: 4,
            chains: 2,
            protected_by: vec![0, 0, 1, 1],
            templates: vec![
                template(0, 0, "SSSS", &[], &[0, 0]),
                template(0, 0, "SSRR", &[4], &[4, 3]),
                template(0, 1, "-D-R", &[2], &[2, 1]),
                template(1, 0, "--SS", &[1], &[1, 1]),
                template(1, 0, "--SS", &[4, 1], &[1, 1]),
                template(1, 1, "---D", &[2, 1], &[3, 2]),
            ],
            sizes: Some(vec![(320, 180), (640, 360)]),
        }
    }

    #[test]
    fn a_keyframe_brings_the_structure() {
        let (descriptor, structure) = parse(&l2t2().keyframe(7).write(), None).unwrap();
        assert!(descriptor.starts_keyframe && descriptor.start_of_frame && descriptor.end_of_frame);
        assert_eq!((descriptor.frame_number, descriptor.spatial, descriptor.temporal), (7, 0, 0));
        assert_eq!((descriptor.targets, descriptor.switch_targets), (0b1111, 0b1111));
        assert_eq!(descriptor.active_targets, Some(0b1111), "all, for no mask came along");
        let structure = structure.unwrap();
        assert_eq!((structure.decode_targets(), structure.spatial_layers()), (4, 2));
        assert_eq!(structure.size_of(0), Some((320, 180)));
        assert_eq!(structure.size_of(1), Some((640, 360)));
        assert_eq!(structure.size_of(2), None);
        assert_eq!(
            [0, 1, 2, 3, 4].map(|target| structure.chain_of(target)),
            [Some(0), Some(0), Some(1), Some(1), None]
        );
    }

    #[test]
    fn three_bytes_are_enough_once_the_structure_is_known() {
        let known = l2t2().known();
        let bytes = Draft { end: false, ..Draft::plain(61, 9, 4) }.write();
        assert_eq!(bytes, [0xbd, 0, 9]);
        let (descriptor, structure) = parse(&bytes, Some(&known)).unwrap();
        assert_eq!(structure, None);
        assert_eq!(
            descriptor,
            Descriptor {
                start_of_frame: true,
                end_of_frame: false,
                frame_number: 9,
                spatial: 0,
                temporal: 0,
                starts_keyframe: false,
                targets: 0b1111,
                switch_targets: 0b0011,
                active_targets: None,
            }
        );
        assert_eq!(parse(&bytes, None), None, "and not before");
    }

    #[test]
    fn template_ids_wrap_at_64() {
        let known = l2t2().known();
        // 60 to 63, then 0 and 1.
        let (descriptor, _) = parse(&Draft::plain(1, 9, 4).write(), Some(&known)).unwrap();
        assert_eq!((descriptor.spatial, descriptor.temporal, descriptor.targets), (1, 1, 0b1000));
        assert_eq!(parse(&Draft::plain(2, 9, 4).write(), Some(&known)), None, "there are six");
        assert_eq!(parse(&Draft::plain(59, 9, 4).write(), Some(&known)), None);
    }

    #[test]
    fn a_frame_may_differ_from_its_template() {
        let known = l2t2().known();
        let custom = Draft {
            active: Some(0b0011),
            dtis: Some(vec![0, 1, 2, 3]),
            fdiffs: Some(vec![1, 17, 4_096]),
            chains: Some(vec![200, 0]),
            ..Draft::plain(60, 9, 4)
        };
        let (descriptor, _) = parse(&custom.write(), Some(&known)).unwrap();
        assert_eq!((descriptor.targets, descriptor.switch_targets), (0b1110, 0b0100));
        assert_eq!(descriptor.active_targets, Some(0b0011));
        let chains = chain_diffs(&custom.write(), Some(&known)).unwrap();
        assert_eq!([0, 1, 2].map(|chain| chains.get(chain)), [Some(200), Some(0), None]);
    }

    #[test]
    fn only_the_start_of_a_frame_that_stands_alone_starts_a_keyframe() {
        let keyframe = l2t2().keyframe(7);
        let starts = |draft: &Draft| parse(&draft.write(), Some(&l2t2().known())).unwrap().0.starts_keyframe;
        assert!(starts(&keyframe));
        assert!(!starts(&Draft { start: false, ..keyframe.clone() }));
        assert!(!starts(&Draft { template: 61, ..keyframe.clone() }), "its template refers to another frame");
        assert!(!starts(&Draft { fdiffs: Some(vec![3]), ..keyframe.clone() }), "it does");
        assert!(starts(&Draft { template: 61, fdiffs: Some(vec![]), ..keyframe.clone() }));
        assert!(!starts(&Draft::plain(60, 7, 4)), "without a structure one cannot begin");
    }

    #[test]
    fn targets_lie_within_layers() {
        let known = l2t2().known();
        assert_eq!(known.targets_within(0, 0), 0b0001);
        assert_eq!(known.targets_within(0, 1), 0b0011);
        assert_eq!(known.targets_within(1, 0), 0b0101);
        assert_eq!(known.targets_within(1, 1), 0b1111);
        assert_eq!(known.targets_within(3, 7), 0b1111);
    }

    #[test]
    fn a_cut_descriptor_is_none() {
        let whole = l2t2().keyframe(7).write();
        for end in 0..whole.len() {
            assert_eq!(parse(&whole[..end], None), None, "{end} bytes");
        }
        assert!(parse(&whole, None).is_some());
        assert!(parse(&[&whole[..], &[0; 9]].concat(), None).is_some(), "padding");
        assert_eq!(parse(&[&whole[..], &[0; 256]].concat(), None), None, "longer than an extension");
    }

    #[test]
    fn layers_are_as_many_as_av1_can_number() {
        let layers = |spatial: u8, temporal: u8| {
            let one = |spatial, temporal| template(spatial, temporal, "S", &[], &[]);
            let templates = (0..spatial)
                .map(|layer| one(layer, 0))
                .chain((1..temporal).map(|layer| one(spatial - 1, layer)));
            let draft = StructureDraft {
                offset: 0,
                targets: 1,
                chains: 0,
                protected_by: Vec::new(),
                templates: templates.collect(),
                sizes: None,
            };
            parse(&draft.keyframe(1).write(), None).is_some()
        };
        assert!(layers(4, 8));
        assert!(!layers(5, 1));
        assert!(!layers(1, 9));
    }

    #[test]
    fn there_are_64_templates_at_most() {
        let many = |count| {
            let draft = StructureDraft {
                offset: 0,
                targets: 1,
                chains: 0,
                protected_by: Vec::new(),
                templates: vec![template(0, 0, "S", &[1], &[]); count],
                sizes: None,
            };
            parse(&draft.keyframe(1).write(), None).is_some()
        };
        assert!(many(64));
        assert!(!many(65));
    }

    #[test]
    fn a_restriction_is_added_or_replaced() {
        let known = l2t2().known();
        let mut out = [0xff; MAX_BYTES];
        let len = restrict(&[0xbd, 0, 9], &known, 0b0011, &mut out).unwrap();
        // Flags 01000, the mask 0011, and zeros.
        assert_eq!(out[..len], [0xbd, 0, 9, 0b0100_0001, 0b1000_0000]);
        let mut twice = [0xff; MAX_BYTES];
        let again = restrict(&out[..len], &known, 0xffff_fff1, &mut twice).unwrap();
        assert_eq!(twice[..again], [0xbd, 0, 9, 0b0100_0000, 0b1000_0000], "only of targets there are");
        assert_eq!(restrict(&[0xbd, 0, 9], &known, 0b0011, &mut out[..4]), None, "no room");
        assert_eq!(
            restrict(&[0x82, 0, 9], &known, 0b0011, &mut out),
            None,
            "not a template of this structure"
        );
    }

    fn a_template(targets: u32, chains: u32) -> impl Strategy<Value = (u32, TemplateDraft)> {
        let (targets, chains) = (targets as usize, chains as usize);
        (0u32..3, vec(0u32..4, targets), vec(1u32..=16, 0..4), vec(0u32..16, chains)).prop_map(
            |(step, dtis, fdiffs, chains)| {
                (step, TemplateDraft { spatial: 0, temporal: 0, dtis, fdiffs, chains })
            },
        )
    }

    fn a_structure() -> impl Strategy<Value = StructureDraft> {
        let sizes = proptest::option::of(vec((1u16.., 1u16..), 4));
        (1u32..=32, 0u32..=32, 0u8..64, sizes).prop_flat_map(|(targets, chains, offset, sizes)| {
            let chains = chains.min(targets);
            // As many as an extension has room for, with all that is at most behind it.
            let most = (1_000 / (2 * targets + 4 * chains + 18)).clamp(1, 64) as usize;
            let protected_by = vec(0..chains.max(1), targets as usize);
            (vec(a_template(targets, chains), 1..=most), protected_by).prop_map(
                move |(steps, protected_by)| {
                    let (mut spatial, mut temporal) = (0, 0);
                    let mut templates = Vec::new();
                    for (step, template) in steps {
                        match step {
                            1 if temporal < 7 && !templates.is_empty() => temporal += 1,
                            2 if spatial < 3 && !templates.is_empty() => {
                                (spatial, temporal) = (spatial + 1, 0)
                            }
                            _ => {}
                        }
                        templates.push(TemplateDraft { spatial, temporal, ..template });
                    }
                    let sizes = sizes.clone().map(|sizes| sizes[..=usize::from(spatial)].to_vec());
                    StructureDraft { offset, targets, chains, protected_by, templates, sizes }
                },
            )
        })
    }

    prop_compose! {
        fn a_frame(structure: StructureDraft)(
            which in 0..structure.templates.len(), flags in any::<[bool; 2]>(), number in any::<u16>(),
            attached in any::<bool>(), active in proptest::option::of(any::<u32>()),
            dtis in proptest::option::of(vec(0u32..4, structure.targets as usize)),
            fdiffs in proptest::option::of(vec(1u32..=4_096, 0..5)),
            chains in proptest::option::of(vec(0u32..256, structure.chains as usize)),
        ) -> Draft {
            Draft {
                start: flags[0],
                end: flags[1],
                template: (structure.offset as usize + which) as u8 & 0x3f,
                number,
                active: active.map(|active| active & (u64::MAX >> (64 - structure.targets)) as u32),
                dtis,
                fdiffs,
                chains,
                targets: structure.targets,
                structure: attached.then(|| structure.clone()),
            }
        }
    }

    fn mask(dtis: &[u32], of: impl Fn(u32) -> bool) -> u32 {
        dtis.iter().enumerate().fold(0, |mask, (target, dti)| mask | u32::from(of(*dti)) << target)
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(
            (structure, frame) in a_structure().prop_flat_map(|it| (Just(it.clone()), a_frame(it))),
        ) {
            let known = structure.known();
            prop_assert_eq!(u32::from(known.decode_targets()), structure.targets);
            let last = structure.templates.last().unwrap();
            prop_assert_eq!(known.spatial_layers(), last.spatial + 1);
            for layer in 0..5 {
                let size = structure.sizes.as_ref().and_then(|sizes| sizes.get(layer).copied());
                prop_assert_eq!(known.size_of(layer as u8), size);
            }
            for target in 0..33 {
                let chain = structure.protected_by.get(target).filter(|_| structure.chains > 0);
                prop_assert_eq!(known.chain_of(target as u8).map(u32::from), chain.copied());
            }
            for (spatial, temporal) in [(0, 0), (0, 7), (1, 1), (3, 0), (3, 7)] {
                let outside = |target: usize| structure.templates.iter().any(|template| {
                    template.dtis[target] != 0 && (template.spatial > spatial || template.temporal > temporal)
                });
                let within = (0..structure.targets as usize).fold(0, |mask, target| mask | u32::from(!outside(target)) << target);
                prop_assert_eq!(known.targets_within(spatial, temporal), within);
            }

            let bytes = frame.write();
            prop_assert!(bytes.len() <= MAX_BYTES);
            let (descriptor, attached) = parse(&bytes, Some(&known)).unwrap();
            prop_assert_eq!(attached.as_ref(), frame.structure.as_ref().map(|_| &known));
            let template = &structure.templates[usize::from(frame.template.wrapping_sub(structure.offset) & 0x3f)];
            let dtis = frame.dtis.as_ref().unwrap_or(&template.dtis);
            let stands_alone = frame.fdiffs.as_ref().unwrap_or(&template.fdiffs).is_empty();
            let expected = Descriptor {
                start_of_frame: frame.start,
                end_of_frame: frame.end,
                frame_number: frame.number,
                spatial: template.spatial,
                temporal: template.temporal,
                starts_keyframe: frame.start && frame.structure.is_some() && stands_alone,
                targets: mask(dtis, |dti| dti != 0),
                switch_targets: mask(dtis, |dti| dti == 2),
                active_targets: frame.active.or(frame.structure.as_ref().map(|_| (u64::MAX >> (64 - structure.targets)) as u32)),
            };
            prop_assert_eq!(descriptor, expected);
            let chains = chain_diffs(&bytes, Some(&known)).unwrap();
            let diffs = frame.chains.as_ref().unwrap_or(&template.chains);
            for chain in 0..33 {
                prop_assert_eq!(chains.get(chain as u8).map(u32::from), diffs.get(chain).copied());
            }
            for end in 0..bytes.len() {
                // Less than three bytes are none, and what is missing is found missing.
                if frame.bits().0.len() > end * 8 && end != SHORT {
                    prop_assert_eq!(parse(&bytes[..end], Some(&known)), None, "{} bytes", end);
                }
            }
        }

        #[test]
        fn a_restriction_changes_the_mask_and_nothing_else(
            (structure, frame) in a_structure().prop_flat_map(|it| (Just(it.clone()), a_frame(it))),
            active in any::<u32>(), padding in 0usize..5,
        ) {
            let known = structure.known();
            let mut bytes = frame.write();
            if bytes.len() > SHORT {
                bytes.extend(vec![0; padding]);
            }
            let mut out = [0xff; MAX_BYTES];
            let len = restrict(&bytes, &known, active, &mut out).unwrap();
            let active = active & (u64::MAX >> (64 - structure.targets)) as u32;
            prop_assert_eq!(&out[..len], Draft { active: Some(active), ..frame }.write());
        }

        #[test]
        fn any_bytes_parse_or_do_not(
            bytes in vec(any::<u8>(), 0..80), known in proptest::option::of(a_structure()), active in any::<u32>(),
        ) {
            let known = known.map(|known| known.known());
            let parsed = parse(&bytes, known.as_ref());
            prop_assert_eq!(parsed.is_some(), chain_diffs(&bytes, known.as_ref()).is_some());
            let Some((descriptor, attached)) = parsed else { return Ok(()) };
            let current = attached.as_ref().or(known.as_ref()).unwrap();
            prop_assert_eq!(descriptor.switch_targets & !descriptor.targets, 0);
            prop_assert_eq!(descriptor.targets & !current.all(), 0);
            prop_assert!(descriptor.spatial < current.spatial_layers());
            let mut out = [0; MAX_BYTES];
            let len = restrict(&bytes, current, active, &mut out).unwrap();
            let (restricted, same) = parse(&out[..len], Some(current)).unwrap();
            prop_assert_eq!(restricted, Descriptor { active_targets: Some(active & current.all()), ..descriptor });
            prop_assert_eq!(same, attached);
        }
    }
}

//! Codecs: the table of those we forward, and the payload types a connection gives them.

use super::remote::{RemoteCodec, RemoteMedia};
use crate::ids::{MediaKind, Pt};
use crate::media::codec::Codec;

impl Codec {
    pub(super) fn of_kind(kind: MediaKind) -> impl Iterator<Item = Codec> {
        TABLE.iter().filter(move |row| row.codec.kind() == kind).map(|row| row.codec)
    }

    /// What `a=rtpmap` writes after the payload type.
    pub(super) fn encoding(self) -> String {
        let row = self.row();
        match row.channels {
            1 => format!("{}/{}", row.name, self.clock_rate()),
            channels => format!("{}/{}/{channels}", row.name, self.clock_rate()),
        }
    }

    /// The parameters we answer with; `stereo` only to a publisher that says it sends it.
    pub(super) fn fmtp(self, offered: &str) -> String {
        let mut fmtp = self.row().fmtp.to_owned();
        if self == Codec::Opus && has_parameter(offered, "sprop-stereo", "1") {
            fmtp.push_str(";stereo=1");
        }
        fmtp
    }

    fn row(self) -> &'static Row {
        TABLE
            .iter()
            .find(|row| row.codec == self)
            .expect("every codec has its row: the test below walks them")
    }
}

/// All that negotiation knows of a codec. Adding one is adding a row.
struct Row {
    codec: Codec,
    name: &'static str,
    channels: u8,
    fmtp: &'static str,
    /// For our offers, where the client has named none: what Chromium would use.
    pt: u8,
    rtx: Option<u8>,
    feedback: Feedback,
}

/// In order of preference.
const TABLE: [Row; 2] = [
    Row {
        codec: Codec::Opus,
        name: "opus",
        channels: 2,
        fmtp: "minptime=10;useinbandfec=1",
        pt: 111,
        rtx: None,
        feedback: Feedback { twcc: true, ..Feedback::NONE },
    },
    Row {
        codec: Codec::Vp8,
        name: "VP8",
        channels: 1,
        fmtp: "",
        pt: 96,
        rtx: Some(97),
        feedback: Feedback { nack: true, pli: true, fir: true, remb: true, twcc: true },
    },
];

/// The RTCP feedback of one payload type, RFC 4585 §4.2.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Feedback {
    pub nack: bool,
    pub pli: bool,
    pub fir: bool,
    pub remb: bool,
    pub twcc: bool,
}

impl Feedback {
    pub const NONE: Feedback = Feedback { nack: false, pli: false, fir: false, remb: false, twcc: false };

    pub(super) fn read(&mut self, value: &str) {
        match value.trim() {
            "nack" => self.nack = true,
            "nack pli" => self.pli = true,
            "ccm fir" => self.fir = true,
            "goog-remb" => self.remb = true,
            "transport-cc" => self.twcc = true,
            _ => {}
        }
    }

    pub(super) fn lines(self) -> impl Iterator<Item = &'static str> {
        let all = [
            (self.remb, "goog-remb"),
            (self.twcc, "transport-cc"),
            (self.fir, "ccm fir"),
            (self.nack, "nack"),
            (self.pli, "nack pli"),
        ];
        all.into_iter().filter(|(agreed, _)| *agreed).map(|(_, line)| line)
    }

    fn and(self, other: Feedback) -> Feedback {
        Feedback {
            nack: self.nack && other.nack,
            pli: self.pli && other.pli,
            fir: self.fir && other.fir,
            remb: self.remb && other.remb,
            twcc: self.twcc && other.twcc,
        }
    }
}

/// A codec under the payload type the client gave it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct CodecBinding {
    pub codec: Codec,
    pub pt: Pt,
    pub rtx: Option<Pt>,
    /// The client's own parameters, as it wrote them; empty where it wrote none.
    pub fmtp: String,
    pub feedback: Feedback,
}

impl CodecBinding {
    /// The codecs of `media` that we forward, in the client's order, one payload type each.
    pub(super) fn of(media: &RemoteMedia) -> Vec<CodecBinding> {
        let mut bindings: Vec<CodecBinding> = Vec::new();
        for offered in &media.codecs {
            let row = TABLE.iter().find(|row| Some(row.codec.kind()) == media.kind && row.is(offered));
            if let Some(row) = row.filter(|row| bindings.iter().all(|bound| bound.codec != row.codec)) {
                let feedback = row.feedback.and(offered.feedback);
                bindings.push(CodecBinding {
                    codec: row.codec,
                    pt: offered.pt,
                    // Without NACK nobody would ask for a retransmission.
                    rtx: media.rtx_of(offered.pt).filter(|_| row.rtx.is_some() && feedback.nack),
                    fmtp: offered.fmtp.clone(),
                    feedback,
                });
            }
        }
        bindings
    }
}

impl Row {
    fn is(&self, offered: &RemoteCodec) -> bool {
        offered.name.eq_ignore_ascii_case(self.name)
            && offered.clock_rate == self.codec.clock_rate()
            && offered.channels == self.channels
    }
}

/// The payload types one connection has given to codecs: a type means one codec across the BUNDLE (RFC 8843 §9).
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct PayloadTypes {
    /// The client's latest choice for each codec we forward.
    known: Vec<CodecBinding>,
    /// Types in use, also those of codecs we do not know.
    used: [bool; 128],
}

impl PayloadTypes {
    pub fn new() -> PayloadTypes {
        PayloadTypes { known: Vec::new(), used: [false; 128] }
    }

    pub fn learn(&mut self, media: &RemoteMedia) {
        for pt in &media.formats {
            self.used[usize::from(pt.0 & 0x7F)] = true;
        }
        for binding in CodecBinding::of(media) {
            self.known.retain(|known| known.codec != binding.codec);
            self.known.push(binding);
        }
    }

    /// What a new m-line of ours offers: the client's types where it has named them.
    pub fn offer(&mut self, kind: MediaKind) -> Vec<CodecBinding> {
        Codec::of_kind(kind).filter_map(|codec| self.pick(codec)).collect()
    }

    fn pick(&mut self, codec: Codec) -> Option<CodecBinding> {
        let row = codec.row();
        let (pt, rtx) = match self.known.iter().find(|known| known.codec == codec) {
            Some(known) => (known.pt, known.rtx),
            None => (self.free(row.pt)?, row.rtx.and_then(|rtx| self.free(rtx))),
        };
        let binding = CodecBinding { codec, pt, rtx, fmtp: String::new(), feedback: row.feedback };
        if self.known.iter().all(|known| known.codec != codec) {
            self.known.push(binding.clone());
        }
        Some(binding)
    }

    /// `wanted`, else a dynamic type nobody uses: 96–127, then the 35–63 that rtcp-mux leaves (RFC 5761 §4).
    fn free(&mut self, wanted: u8) -> Option<Pt> {
        let mut candidates = std::iter::once(wanted).chain(96..=127).chain(35..=63);
        let pt = candidates.find(|pt| !self.used[usize::from(*pt)])?;
        self.used[usize::from(pt)] = true;
        Some(Pt(pt))
    }
}

fn has_parameter(fmtp: &str, name: &str, value: &str) -> bool {
    fmtp.split(';')
        .filter_map(|parameter| parameter.split_once('='))
        .any(|(n, v)| n.trim() == name && v.trim() == value)
}

#[test]
fn every_codec_has_its_row() {
    for codec in [Codec::Opus, Codec::Vp8] {
        assert!(Codec::of_kind(codec.kind()).any(|of_kind| of_kind == codec));
    }
    assert_eq!(Codec::Opus.encoding(), "opus/48000/2");
    assert_eq!(Codec::Vp8.encoding(), "VP8/90000");
    assert_eq!(Codec::Opus.fmtp("stereo=1; sprop-stereo=1"), "minptime=10;useinbandfec=1;stereo=1");
}

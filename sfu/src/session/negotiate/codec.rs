//! Codecs: the table of those we forward, and the payload types a connection gives them.

use super::remote::{RemoteCodec, RemoteMedia};
use crate::ids::{MediaKind, Pt};
use crate::media::codec::{Codec, H264Profile};

impl Codec {
    /// What a peer means by an `a=rtpmap` and its `a=fmtp`; `None` for what we do not forward.
    fn of(kind: Option<MediaKind>, offered: &RemoteCodec) -> Option<Codec> {
        let row = TABLE.iter().find(|row| offered.name.eq_ignore_ascii_case(row.name))?;
        let codec = (row.read)(&offered.fmtp)?;
        let same = offered.clock_rate == codec.clock_rate() && offered.channels == row.channels;
        Some(codec).filter(|codec| same && kind == Some(codec.kind()))
    }

    /// What `a=rtpmap` writes after the payload type.
    pub(super) fn encoding(self) -> String {
        let row = self.row();
        match row.channels {
            1 => format!("{}/{}", row.name, self.clock_rate()),
            channels => format!("{}/{}/{channels}", row.name, self.clock_rate()),
        }
    }

    fn row(self) -> &'static Row {
        TABLE
            .iter()
            .find(|row| row.name == self.as_str())
            .expect("every codec has its row: the test below walks them")
    }
}

/// All that negotiation knows of a codec. Adding one is adding a row.
struct Row {
    /// As in `Codec::as_str`.
    name: &'static str,
    channels: u8,
    /// The codec that a peer's parameters mean; `None` for a variant that we do not know.
    read: fn(&str) -> Option<Codec>,
    /// Our `a=fmtp` for one of an m-line's codecs.
    write: fn(&CodecBinding, &[CodecBinding]) -> String,
    /// The payload type for our offers where the client has named none, with RTX on the next: what Chromium
    /// would use. `None`: only offered to those who name it.
    usual: Option<u8>,
    rtx: bool,
    feedback: Feedback,
}

/// What we offer by ourselves comes in this order.
const TABLE: [Row; 7] = [
    Row {
        name: "opus",
        channels: 2,
        read: |_| Some(Codec::Opus),
        write: opus,
        usual: Some(111),
        rtx: false,
        feedback: Feedback::AUDIO,
    },
    Row {
        name: "red",
        channels: 2,
        read: |_| Some(Codec::Red),
        write: red,
        usual: None,
        rtx: false,
        feedback: Feedback::AUDIO,
    },
    Row {
        name: "VP8",
        channels: 1,
        read: |_| Some(Codec::Vp8),
        write: |_, _| String::new(),
        usual: Some(96),
        rtx: true,
        feedback: Feedback::VIDEO,
    },
    Row {
        name: "VP9",
        channels: 1,
        read: |fmtp| Some(Codec::Vp9 { profile: number(fmtp, "profile-id", 3)? }),
        write: vp9,
        usual: None,
        rtx: true,
        feedback: Feedback::VIDEO,
    },
    Row {
        name: "H264",
        channels: 1,
        read: read_h264,
        write: h264,
        usual: None,
        rtx: true,
        feedback: Feedback::VIDEO,
    },
    Row {
        name: "H265",
        channels: 1,
        read: |_| Some(Codec::H265),
        write: |binding, _| echo(&binding.fmtp, &["level-id", "profile-id", "tier-flag", "tx-mode"]),
        usual: None,
        rtx: true,
        feedback: Feedback::VIDEO,
    },
    Row {
        name: "AV1",
        channels: 1,
        read: |fmtp| Some(Codec::Av1 { profile: number(fmtp, "profile", 2)? }),
        write: av1,
        usual: None,
        rtx: true,
        feedback: Feedback::VIDEO,
    },
];

/// `stereo` only to a publisher that says it sends it.
fn opus(binding: &CodecBinding, _: &[CodecBinding]) -> String {
    let stereo = if parameter(&binding.fmtp, "sprop-stereo") == Some("1") { ";stereo=1" } else { "" };
    format!("minptime=10;useinbandfec=1{stereo}")
}

/// One repetition of the Opus of the same line.
fn red(_: &CodecBinding, line: &[CodecBinding]) -> String {
    let opus = line.iter().find(|binding| binding.codec == Codec::Opus);
    opus.map(|opus| format!("{0}/{0}", opus.pt.0)).unwrap_or_default()
}

fn vp9(binding: &CodecBinding, _: &[CodecBinding]) -> String {
    match binding.codec {
        Codec::Vp9 { profile } => format!("profile-id={profile}"),
        _ => String::new(),
    }
}

/// Without a `profile-level-id` RFC 6184 infers baseline, browsers infer constrained baseline, which is what
/// everybody then sends: we do as they do.
fn read_h264(fmtp: &str) -> Option<Codec> {
    let profile = match parameter(fmtp, "profile-level-id") {
        Some(named) => H264Profile::of(named)?,
        None => H264Profile::ConstrainedBaseline,
    };
    Some(Codec::H264 { profile, mode: number(fmtp, "packetization-mode", 1)? })
}

/// Profile and mode must come back as they were (RFC 6184 §8.2.2), so we name none where the client did not.
fn h264(binding: &CodecBinding, _: &[CodecBinding]) -> String {
    let Codec::H264 { mode, .. } = binding.codec else {
        return String::new();
    };
    let mut fmtp = format!("level-asymmetry-allowed=1;packetization-mode={mode}");
    if let Some(named) = parameter(&binding.fmtp, "profile-level-id") {
        fmtp.push_str(";profile-level-id=");
        fmtp.push_str(named);
    }
    fmtp
}

/// Where nothing was named, the defaults of the payload format, §7.2.1.
fn av1(binding: &CodecBinding, _: &[CodecBinding]) -> String {
    let fmtp = echo(&binding.fmtp, &["level-idx", "profile", "tier"]);
    if fmtp.is_empty() { "level-idx=5;profile=0;tier=0".to_owned() } else { fmtp }
}

/// The peer's own values of these parameters. Nothing it writes there needs 16 letters: what is longer, or
/// no word, is not said again.
fn echo(fmtp: &str, names: &[&str]) -> String {
    let word = |value: &&str| value.len() <= 16 && value.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let named = names.iter().filter_map(|name| Some((name, parameter(fmtp, name).filter(word)?)));
    named.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(";")
}

/// 0 where it is not named, `None` past `most`.
fn number(fmtp: &str, name: &str, most: u8) -> Option<u8> {
    parameter(fmtp, name).map_or(Some(0), |value| value.parse().ok().filter(|value| *value <= most))
}

fn parameter<'a>(fmtp: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = fmtp.split(';').filter_map(|parameter| parameter.split_once('='));
    pairs.find(|(known, _)| known.trim().eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

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
    const AUDIO: Feedback = Feedback { twcc: true, ..Feedback::NONE };
    const VIDEO: Feedback = Feedback { nack: true, pli: true, fir: true, remb: true, twcc: true };

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
        let codec_of = |offered: &RemoteCodec| Codec::of(media.kind, offered);
        let opus = media.codecs.iter().find(|offered| codec_of(offered) == Some(Codec::Opus));
        let mut bindings: Vec<CodecBinding> = Vec::new();
        for offered in &media.codecs {
            let new = |codec: &Codec| bindings.iter().all(|bound| bound.codec != *codec);
            let Some(codec) = codec_of(offered).filter(new) else {
                continue;
            };
            if codec == Codec::Red && !opus.is_some_and(|opus| repeats(&offered.fmtp, opus.pt)) {
                continue;
            }
            let row = codec.row();
            let feedback = row.feedback.and(offered.feedback);
            bindings.push(CodecBinding {
                codec,
                pt: offered.pt,
                // Without NACK nobody would ask for a retransmission.
                rtx: media.rtx_of(offered.pt).filter(|_| row.rtx && feedback.nack),
                fmtp: offered.fmtp.clone(),
                feedback,
            });
        }
        bindings
    }

    /// The binding under which a receiver of `bindings` takes a stream of `codec`: its own, else one that
    /// includes it. A stream with redundancy goes out as plain Opus, once that is stripped.
    #[allow(dead_code, reason = "for who matches publishers with subscribers")]
    pub(crate) fn carrying(bindings: &[CodecBinding], codec: Codec) -> Option<&CodecBinding> {
        let includes = |binding: &&CodecBinding| match (codec, binding.codec) {
            (Codec::H264 { profile, mode }, Codec::H264 { profile: theirs, mode: their_mode }) => {
                mode == their_mode && theirs.decodes(profile)
            }
            (Codec::Red, theirs) => theirs == Codec::Opus,
            _ => false,
        };
        let same = bindings.iter().find(|binding| binding.codec == codec);
        same.or_else(|| bindings.iter().find(includes))
    }

    /// Our `a=fmtp` for it on the m-line that has all of `line`; empty for none.
    pub(super) fn parameters(&self, line: &[CodecBinding]) -> String {
        (self.codec.row().write)(self, line)
    }

    fn types(&self) -> impl Iterator<Item = Pt> {
        std::iter::once(self.pt).chain(self.rtx)
    }

    /// Both cannot be meant on one transport.
    fn clashes(&self, other: &CodecBinding) -> bool {
        self.codec != other.codec && self.types().any(|pt| other.types().any(|theirs| theirs == pt))
    }
}

/// RFC 2198 §5 lists the types of the primary and of each repetition: all of them the Opus we know.
fn repeats(fmtp: &str, opus: Pt) -> bool {
    fmtp.is_empty() || fmtp.split('/').all(|pt| pt.trim().parse() == Ok(opus.0))
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
            self.known.retain(|known| !known.clashes(&binding));
            match self.known.iter_mut().find(|known| known.codec == binding.codec) {
                Some(known) => *known = binding,
                None => self.known.push(binding),
            }
        }
        self.known.shrink_to_fit();
    }

    /// What a new m-line of ours offers: all that the client has named, in its order, then what every
    /// endpoint has (RFC 7874 §3, RFC 7742 §5).
    pub fn offer(&mut self, kind: MediaKind) -> Vec<CodecBinding> {
        for row in &TABLE {
            let codec = (row.read)("").filter(|codec| codec.kind() == kind);
            if let (Some(codec), Some(usual)) = (codec, row.usual) {
                self.offer_usual(codec, usual);
            }
        }
        let known = self.known.iter().filter(|known| known.codec.kind() == kind);
        known.map(|known| CodecBinding { feedback: known.codec.row().feedback, ..known.clone() }).collect()
    }

    fn offer_usual(&mut self, codec: Codec, usual: u8) {
        if self.known.iter().any(|known| known.codec == codec) {
            return;
        }
        let Some(pt) = self.free(usual) else { return };
        let row = codec.row();
        let rtx = if row.rtx { self.free(usual + 1) } else { None };
        self.known.push(CodecBinding { codec, pt, rtx, fmtp: String::new(), feedback: row.feedback });
    }

    /// `wanted`, else a dynamic type nobody uses: 96–127, then the 35–63 that rtcp-mux leaves (RFC 5761 §4).
    fn free(&mut self, wanted: u8) -> Option<Pt> {
        let mut candidates = std::iter::once(wanted).chain(96..=127).chain(35..=63);
        let pt = candidates.find(|pt| !self.used[usize::from(*pt)])?;
        self.used[usize::from(pt)] = true;
        Some(Pt(pt))
    }
}

#[test]
fn every_codec_has_its_row() {
    let h264 = Codec::H264 { profile: H264Profile::Main, mode: 1 };
    let (vp9, av1) = (Codec::Vp9 { profile: 2 }, Codec::Av1 { profile: 1 });
    for codec in [Codec::Opus, Codec::Red, Codec::Vp8, vp9, h264, Codec::H265, av1] {
        assert_eq!((codec.row().read)("").map(Codec::as_str), Some(codec.as_str()));
        assert_eq!(codec.row().rtx, codec.kind() == MediaKind::Video);
    }
    assert_eq!(Codec::Opus.encoding(), "opus/48000/2");
    assert_eq!(Codec::Red.encoding(), "red/48000/2");
    assert_eq!(vp9.encoding(), "VP9/90000");
}

#[test]
fn parameters_mean_codecs_and_come_back() {
    let h264 = |profile, mode| Some(Codec::H264 { profile, mode });
    let (main, constrained) = (H264Profile::Main, H264Profile::ConstrainedBaseline);
    let vp9 = |profile| Some(Codec::Vp9 { profile });
    let av1 = |profile| Some(Codec::Av1 { profile });
    let asymmetric = "level-asymmetry-allowed=1;packetization-mode=";
    let long = "9".repeat(17);
    let table = [
        ("opus", "stereo=1; sprop-stereo=1", Some(Codec::Opus), "minptime=10;useinbandfec=1;stereo=1"),
        ("opus", "stereo=1", Some(Codec::Opus), "minptime=10;useinbandfec=1"),
        ("red", "9/9", Some(Codec::Red), "111/111"),
        ("VP8", "max-fs=12288;max-fr=60", Some(Codec::Vp8), ""),
        ("VP9", "max-fs=12288;max-fr=60", vp9(0), "profile-id=0"),
        ("VP9", "profile-id=2", vp9(2), "profile-id=2"),
        ("VP9", "profile-id=4", None, ""),
        ("VP9", "profile-id=", None, ""),
        ("H264", "", h264(constrained, 0), &format!("{asymmetric}0")),
        (
            "H264",
            "Profile-Level-ID=4D001f; packetization-mode = 1;x=y",
            h264(main, 1),
            &format!("{asymmetric}1;profile-level-id=4D001f"),
        ),
        ("H264", "packetization-mode=2;profile-level-id=42e01f", None, ""),
        ("H264", "profile-level-id=58001f", None, ""),
        ("H264", "profile-level-id=42e01g", None, ""),
        (
            "H265",
            "level-id=93;profile-id=1;sprop-vps=QAEMAf;tier-flag=0;tx-mode=SRST",
            Some(Codec::H265),
            "level-id=93;profile-id=1;tier-flag=0;tx-mode=SRST",
        ),
        ("H265", "", Some(Codec::H265), ""),
        ("AV1", "", av1(0), "level-idx=5;profile=0;tier=0"),
        ("AV1", "level-idx=8;profile=1;tier=1", av1(1), "level-idx=8;profile=1;tier=1"),
        ("AV1", "profile=1", av1(1), "profile=1"),
        ("AV1", &format!("level-idx={long};tier=a b"), av1(0), "level-idx=5;profile=0;tier=0"),
        ("AV1", "profile=3", None, ""),
    ];
    let binding = |codec, pt, fmtp: &str| CodecBinding {
        codec,
        pt: Pt(pt),
        rtx: None,
        fmtp: fmtp.to_owned(),
        feedback: Feedback::NONE,
    };
    for (name, fmtp, codec, ours) in table {
        let row = TABLE.iter().find(|row| row.name == name).unwrap();
        assert_eq!((row.read)(fmtp), codec, "{name} {fmtp}");
        if let Some(codec) = codec {
            let line = [binding(codec, 9, fmtp), binding(Codec::Opus, 111, "")];
            assert_eq!(line[0].parameters(&line), ours, "{name} {fmtp}");
        }
    }
}

#[test]
fn a_stream_is_carried_by_its_own_codec_or_one_that_includes_it() {
    use H264Profile::{Baseline, ConstrainedBaseline, ConstrainedHigh, High, High444, Main};
    let all = [ConstrainedBaseline, Baseline, Main, ConstrainedHigh, High, High444];
    let h264 = |profile, mode| Codec::H264 { profile, mode };
    let bindings = |codecs: &[Codec]| -> Vec<CodecBinding> {
        let fmtp = String::new;
        let bind = |codec: &Codec| CodecBinding {
            codec: *codec,
            pt: Pt(0),
            rtx: None,
            fmtp: fmtp(),
            feedback: Feedback::NONE,
        };
        codecs.iter().map(bind).collect()
    };
    let carried = |by: &[Codec], codec| CodecBinding::carrying(&bindings(by), codec).map(|found| found.codec);
    let table = [
        (ConstrainedBaseline, vec![ConstrainedBaseline, Baseline, Main, ConstrainedHigh, High]),
        (Baseline, vec![Baseline]),
        (Main, vec![Main, High]),
        (ConstrainedHigh, vec![ConstrainedHigh, High]),
        (High, vec![High]),
        (High444, vec![High444]),
    ];
    for (stream, takers) in table {
        for receiver in all {
            let found = carried(&[h264(receiver, 1)], h264(stream, 1));
            assert_eq!(found.is_some(), takers.contains(&receiver), "{stream:?} to {receiver:?}");
            assert_eq!(carried(&[h264(receiver, 0)], h264(stream, 1)), None);
        }
        let every: Vec<Codec> = all.iter().map(|profile| h264(*profile, 1)).collect();
        assert_eq!(carried(&every, h264(stream, 1)), Some(h264(stream, 1)));
    }
    assert_eq!(carried(&[Codec::Opus, Codec::Red], Codec::Red), Some(Codec::Red));
    assert_eq!(carried(&[Codec::Opus], Codec::Red), Some(Codec::Opus));
    assert_eq!(carried(&[Codec::Opus, Codec::Red], Codec::Opus), Some(Codec::Opus));
    assert_eq!(carried(&[Codec::Red], Codec::Opus), None);
    assert_eq!(carried(&[Codec::Vp8, Codec::Vp9 { profile: 2 }], Codec::Vp9 { profile: 0 }), None);
}

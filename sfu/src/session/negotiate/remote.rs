//! A peer's description, offer or answer, as far as we read it.

use std::io::Cursor;

use rtc_sdp::description::common::Attribute;
use rtc_sdp::{MediaDescription, SessionDescription};

use super::RemoteTransport;
use super::candidate::RemoteCandidate;
use super::codec::Feedback;
use super::error::{SdpError, TransportError};
use super::extension::Extension;
use super::lines::{Lines, MAX_SECTIONS};
use super::simulcast::{self, Layer};
use crate::ids::{MediaKind, Mid, Pt, Ssrc};

/// What a peer described. Directions are the peer's own: `sends` is what it sends to us.
#[derive(Debug)]
pub(crate) struct RemoteDescription {
    pub(super) media: Vec<RemoteMedia>,
    /// The first BUNDLE group; its first live member carries the transport.
    pub(super) bundle: Vec<Mid>,
    /// `a=extmap-allow-mixed` at session level, as Chromium writes it.
    pub(super) allow_mixed: bool,
    ice_lite: bool,
    /// `o=`, RFC 8866 §5.2.
    session_id: u64,
    session: Transport,
}

/// One m-line of it.
#[derive(Debug)]
pub(super) struct RemoteMedia {
    /// Always there on a live audio or video line.
    pub mid: Option<Mid>,
    /// The `<media>` and `<proto>` words, and the formats as written, for the echo.
    pub name: String,
    pub protos: String,
    pub format: String,
    pub kind: Option<MediaKind>,
    /// Not rejected and not stopped: port 0 with `a=bundle-only` is live (RFC 8829 §4.1.1).
    pub live: bool,
    pub sends: bool,
    pub receives: bool,
    pub formats: Vec<Pt>,
    pub codecs: Vec<RemoteCodec>,
    /// RTX type and the type it repairs, RFC 4588 §8.6.
    rtx: Vec<(Pt, Pt)>,
    pub extensions: Vec<RemoteExtension>,
    /// `a=extmap-allow-mixed` on this line, as Firefox writes it.
    pub allow_mixed: bool,
    pub rtcp_mux: bool,
    pub rtcp_rsize: bool,
    /// `a=rtcp-xr` names `rcvr-rtt`, RFC 3611 §5.1.
    pub rtcp_xr: bool,
    pub ssrcs: Vec<SsrcBinding>,
    pub msid: Option<(String, String)>,
    /// What it offers to send as simulcast, paused layers too.
    pub layers: Vec<Layer>,
    /// It is for data channels (RFC 8841): the bytes that the peer takes in one message.
    pub messages: Option<u64>,
    transport: Transport,
}

/// One `a=rtpmap` with what belongs to it.
#[derive(Debug)]
pub(super) struct RemoteCodec {
    pub pt: Pt,
    pub name: String,
    pub clock_rate: u32,
    pub channels: u8,
    pub fmtp: String,
    pub feedback: Feedback,
}

/// One `a=extmap`, RFC 8285 §5.
#[derive(Debug)]
pub(super) struct RemoteExtension {
    pub id: u16,
    pub kind: Option<Extension>,
    pub sends: bool,
    pub receives: bool,
}

/// A stream the peer announced with `a=ssrc`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SsrcBinding {
    pub ssrc: Ssrc,
    /// Its retransmissions, `a=ssrc-group:FID`.
    pub rtx: Option<Ssrc>,
}

/// ICE and DTLS attributes of a level.
#[derive(Debug)]
struct Transport {
    ufrag: Option<String>,
    pwd: Option<String>,
    fingerprint: Option<(String, String)>,
    setup: Option<String>,
    candidates: Vec<RemoteCandidate>,
}

impl RemoteDescription {
    /// # Errors
    /// What `Lines` refuses, and mids that cannot be used.
    pub(crate) fn parse(sdp: &str) -> Result<RemoteDescription, SdpError> {
        let lines = Lines::read(sdp)?;
        let parsed = SessionDescription::unmarshal(&mut Cursor::new(lines.text.as_bytes()));
        let parsed = parsed.map_err(|_| SdpError::Syntax)?;
        if parsed.media_descriptions.len() != lines.media.len() {
            return Err(SdpError::Syntax);
        }
        let direction = direction(&parsed.attributes).unwrap_or((true, true));
        let media = parsed.media_descriptions.iter().zip(lines.media).enumerate();
        let media = media.map(|(index, (media, name))| RemoteMedia::read(index, media, name, direction));
        Ok(RemoteDescription {
            media: media.collect::<Result<_, _>>()?,
            bundle: bundle(&parsed.attributes),
            allow_mixed: has(&parsed.attributes, "extmap-allow-mixed"),
            ice_lite: has(&parsed.attributes, "ice-lite"),
            session_id: parsed.origin.session_id,
            session: Transport::read(&parsed.attributes),
        })
    }

    /// The one transport: of the first live m-line of the BUNDLE, media level before session level.
    /// `None` when no m-line is live.
    ///
    /// `setup:passive` is refused, unless this certificate is `known` as the client's. `webrtc` 0.21 and Pion
    /// answer every ICE-lite offer with it and go on as the client. By the letter of RFC 8842 a change of role
    /// asks for a new association; from a client that keeps its certificate we take it as that mistake.
    pub(super) fn transport(
        &self,
        known: Option<&RemoteTransport>,
    ) -> Result<Option<RemoteTransport>, TransportError> {
        let live = |mid: &Mid| self.media.iter().find(|media| media.live && media.mid == Some(*mid));
        let Some(tagged) = self.bundle.iter().find_map(live) else {
            return Ok(None);
        };
        let (media, session) = (&tagged.transport, &self.session);
        let ufrag = media.ufrag.as_ref().or(session.ufrag.as_ref());
        let pwd = media.pwd.as_ref().or(session.pwd.as_ref());
        let (Some(ufrag), Some(pwd)) = (ufrag, pwd) else {
            return Err(TransportError::IceCredentials);
        };
        if !is_ice_chars(ufrag, 4) || !is_ice_chars(pwd, 22) {
            return Err(TransportError::IceCredentials);
        }
        let fingerprint = media.fingerprint.as_ref().or(session.fingerprint.as_ref());
        let (algorithm, fingerprint) = fingerprint.ok_or(TransportError::MissingFingerprint)?;
        // RFC 8842 §4: another certificate would need another association, which ours cannot become.
        if known.is_some_and(|known| !known.fingerprint.eq_ignore_ascii_case(fingerprint)) {
            return Err(TransportError::FingerprintChanged);
        }
        let passive = media.setup.as_ref().or(session.setup.as_ref()).is_some_and(|setup| setup == "passive");
        if passive && known.is_none() {
            return Err(TransportError::SetupPassive);
        }
        Ok(Some(RemoteTransport {
            ufrag: ufrag.clone(),
            pwd: pwd.clone(),
            session_id: self.session_id,
            fingerprint_algorithm: algorithm.clone(),
            fingerprint: fingerprint.clone(),
            candidates: media.candidates.clone(),
            ice_lite: self.ice_lite,
        }))
    }

    /// Every SSRC the peer names.
    pub(super) fn ssrcs(&self) -> impl Iterator<Item = Ssrc> {
        self.media
            .iter()
            .flat_map(|media| &media.ssrcs)
            .flat_map(|stream| [Some(stream.ssrc), stream.rtx])
            .flatten()
    }
}

impl RemoteMedia {
    fn read(
        index: usize,
        media: &MediaDescription,
        name: String,
        session_direction: (bool, bool),
    ) -> Result<Self, SdpError> {
        let attributes = &media.attributes;
        let kind = match name.as_str() {
            "audio" => Some(MediaKind::Audio),
            "video" => Some(MediaKind::Video),
            _ => None,
        };
        let live = media.media_name.port.value != 0 || has(attributes, "bundle-only");
        let mid = match values(attributes, "mid").next() {
            Some(tag) => Some(Mid::new(tag).ok_or(SdpError::BadMid { index })?),
            None if live && kind.is_some() => return Err(SdpError::BadMid { index }),
            None => None,
        };
        let (sends, receives) = direction(attributes).unwrap_or(session_direction);
        let formats: Vec<Pt> = media.media_name.formats.iter().filter_map(|format| pt(format)).collect();
        let (codecs, rtx) = codecs(attributes, &formats);
        Ok(RemoteMedia {
            mid,
            name,
            protos: media.media_name.protos.join("/"),
            format: media.media_name.formats.first().cloned().unwrap_or_else(|| "0".to_owned()),
            kind,
            live,
            sends,
            receives,
            formats,
            codecs,
            rtx,
            extensions: values(attributes, "extmap").filter_map(RemoteExtension::read).collect(),
            allow_mixed: has(attributes, "extmap-allow-mixed"),
            rtcp_mux: has(attributes, "rtcp-mux"),
            rtcp_rsize: has(attributes, "rtcp-rsize"),
            rtcp_xr: values(attributes, "rtcp-xr").any(|formats| formats.contains("rcvr-rtt=")),
            ssrcs: ssrcs(attributes),
            msid: values(attributes, "msid").next().map(msid),
            layers: simulcast::offered(values(attributes, "rid"), values(attributes, "simulcast")),
            messages: messages(media),
            transport: Transport::read(attributes),
        })
    }

    pub fn rtx_of(&self, pt: Pt) -> Option<Pt> {
        self.rtx.iter().find(|(_, repaired)| *repaired == pt).map(|(rtx, _)| *rtx)
    }

    /// `UDP/TLS/RTP/SAVPF` and its relatives, RFC 8829 §5.1.2.
    pub fn is_savpf(&self) -> bool {
        self.protos.ends_with("RTP/SAVPF")
    }
}

impl RemoteExtension {
    fn read(value: &str) -> Option<RemoteExtension> {
        let (id, uri) = value.trim().split_once(' ')?;
        let (id, direction) = id.split_once('/').unwrap_or((id, "sendrecv"));
        let (sends, receives) = direction_of(direction)?;
        let uri = uri.split_ascii_whitespace().next()?;
        Some(RemoteExtension { id: id.parse().ok()?, kind: Extension::from_uri(uri), sends, receives })
    }
}

impl Transport {
    fn read(attributes: &[Attribute]) -> Transport {
        let first = |key| values(attributes, key).next().map(|value| value.trim().to_owned());
        let fingerprints =
            || values(attributes, "fingerprint").filter_map(|value| value.trim().split_once(' '));
        // Several may be offered (RFC 8122 §5): SHA-256 is the one every WebRTC endpoint has.
        let best = fingerprints()
            .find(|(hash, _)| hash.eq_ignore_ascii_case("sha-256"))
            .or_else(|| fingerprints().next());
        Transport {
            ufrag: first("ice-ufrag"),
            pwd: first("ice-pwd"),
            fingerprint: best.map(|(hash, value)| (hash.to_ascii_lowercase(), value.trim().to_owned())),
            setup: first("setup"),
            candidates: RemoteCandidate::read_all(values(attributes, "candidate")),
        }
    }
}

/// The codecs in the order of the m-line, and RTX beside them.
fn codecs(attributes: &[Attribute], formats: &[Pt]) -> (Vec<RemoteCodec>, Vec<(Pt, Pt)>) {
    let mut by_pt: [Option<RemoteCodec>; 128] = [const { None }; 128];
    for (pt, value) in values(attributes, "rtpmap").filter_map(pt_and_rest) {
        let mut parts = value.split('/');
        let (name, clock_rate, channels) = (parts.next(), parts.next(), parts.next());
        if let (Some(name), Some(Ok(clock_rate))) = (name, clock_rate.map(str::parse)) {
            let channels = channels.and_then(|channels| channels.parse().ok()).unwrap_or(1);
            let (fmtp, feedback) = (String::new(), Feedback::NONE);
            by_pt[usize::from(pt.0)] =
                Some(RemoteCodec { pt, name: name.to_owned(), clock_rate, channels, fmtp, feedback });
        }
    }
    for (pt, value) in values(attributes, "fmtp").filter_map(pt_and_rest) {
        if let Some(codec) = &mut by_pt[usize::from(pt.0)] {
            codec.fmtp = value.to_owned();
        }
    }
    for value in values(attributes, "rtcp-fb") {
        if let Some(for_all) = value.strip_prefix("* ") {
            by_pt.iter_mut().flatten().for_each(|codec| codec.feedback.read(for_all));
        } else if let Some((pt, value)) = pt_and_rest(value) {
            // Firefox gives feedback for types it has removed.
            by_pt[usize::from(pt.0)].iter_mut().for_each(|codec| codec.feedback.read(value));
        }
    }
    let in_order: Vec<RemoteCodec> =
        formats.iter().filter_map(|pt| by_pt[usize::from(pt.0)].take()).collect();
    let (rtx, codecs): (Vec<_>, Vec<_>) =
        in_order.into_iter().partition(|codec| codec.name.eq_ignore_ascii_case("rtx"));
    (codecs, rtx.iter().filter_map(|codec| Some((codec.pt, apt(&codec.fmtp)?))).collect())
}

fn apt(fmtp: &str) -> Option<Pt> {
    fmtp.split(';').find_map(|parameter| pt(parameter.trim().strip_prefix("apt=")?))
}

/// Streams in the order announced; a stream named as another's RTX is not one of them.
fn ssrcs(attributes: &[Attribute]) -> Vec<SsrcBinding> {
    let mut streams: Vec<Ssrc> = Vec::new();
    for value in values(attributes, "ssrc") {
        let ssrc = value.split(' ').next().and_then(|ssrc| ssrc.parse().ok()).map(Ssrc);
        if let Some(ssrc) = ssrc.filter(|ssrc| ssrc.0 != 0 && !streams.contains(ssrc)) {
            streams.push(ssrc);
        }
    }
    let pair = |value: &str| {
        let mut words =
            value.strip_prefix("FID ")?.split_ascii_whitespace().map(|ssrc| ssrc.parse().ok().map(Ssrc));
        Some((words.next()??, words.next()??)).filter(|(media, rtx)| media != rtx)
    };
    let pairs: Vec<(Ssrc, Ssrc)> = values(attributes, "ssrc-group").filter_map(pair).collect();
    let media = streams.iter().filter(|ssrc| !pairs.iter().any(|(_, rtx)| rtx == *ssrc));
    let rtx_of = |ssrc: Ssrc| pairs.iter().find(|(media, _)| *media == ssrc).map(|(_, rtx)| *rtx);
    media
        .map(|ssrc| SsrcBinding { ssrc: *ssrc, rtx: rtx_of(*ssrc).filter(|rtx| streams.contains(rtx)) })
        .collect()
}

fn bundle(attributes: &[Attribute]) -> Vec<Mid> {
    let group = values(attributes, "group").find_map(|group| group.strip_prefix("BUNDLE"));
    group.unwrap_or("").split_ascii_whitespace().take(MAX_SECTIONS).filter_map(Mid::new).collect()
}

/// RFC 8841 §4 to §6: data channels over SCTP over DTLS over UDP, on a port, with messages so large. 64 KiB unless said; 0 is
/// any size.
fn messages(media: &MediaDescription) -> Option<u64> {
    let name = &media.media_name;
    let protocol = name.protos.iter().map(String::as_str).eq(["UDP", "DTLS", "SCTP"]);
    let format = name.formats.iter().map(String::as_str).eq(["webrtc-datachannel"]);
    if name.media != "application" || !protocol || !format {
        return None;
    }
    let port: u16 = values(&media.attributes, "sctp-port").next()?.trim().parse().ok()?;
    let size = match values(&media.attributes, "max-message-size").next() {
        Some(size) => size.trim().parse().ok()?,
        None => 65_536,
    };
    (port != 0).then_some(if size == 0 { u64::MAX } else { size })
}

fn msid(value: &str) -> (String, String) {
    let mut words = value.split_ascii_whitespace().map(str::to_owned);
    (words.next().unwrap_or_default(), words.next().unwrap_or_default())
}

/// Sends, receives.
fn direction(attributes: &[Attribute]) -> Option<(bool, bool)> {
    attributes.iter().find_map(|attribute| direction_of(&attribute.key))
}

fn direction_of(word: &str) -> Option<(bool, bool)> {
    match word {
        "sendrecv" => Some((true, true)),
        "sendonly" => Some((true, false)),
        "recvonly" => Some((false, true)),
        "inactive" => Some((false, false)),
        _ => None,
    }
}

fn pt_and_rest(value: &str) -> Option<(Pt, &str)> {
    let (number, rest) = value.split_once(' ')?;
    Some((pt(number)?, rest.trim()))
}

fn pt(word: &str) -> Option<Pt> {
    word.parse().ok().filter(|pt| *pt < 128).map(Pt)
}

/// RFC 8839 §5.4: `ALPHA / DIGIT / "+" / "/"`, at most 256. Chromium has sent `-` and `_` too.
fn is_ice_chars(text: &str, least: usize) -> bool {
    (least..=256).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/-_=".contains(&b))
}

fn values<'a>(attributes: &'a [Attribute], key: &'static str) -> impl Iterator<Item = &'a str> {
    attributes
        .iter()
        .filter(move |attribute| attribute.key == key)
        .filter_map(|attribute| attribute.value.as_deref())
}

fn has(attributes: &[Attribute], key: &str) -> bool {
    attributes.iter().any(|attribute| attribute.key == key)
}

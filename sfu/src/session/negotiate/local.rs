//! Our side of a description, and how it is written.

use std::net::SocketAddr;

use rtc_sdp::description::common::Bandwidth;
use rtc_sdp::description::media::{MediaName, RangedPort};
use rtc_sdp::description::session::{Origin as SdpOrigin, TimeDescription};
use rtc_sdp::{MediaDescription, SessionDescription};

use super::section::{Section, SectionExtension, Slot};
use super::simulcast;
use crate::ids::{MediaKind, Mid, Ssrc};
use crate::session::channels::MAX_MESSAGE;
use crate::units::Bitrate;

/// What the engine tells about itself, constant per peer until an ICE restart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct LocalDescription {
    pub ufrag: String,
    pub pwd: String,
    /// `sha-256 AA:BB:…`.
    pub fingerprint: String,
    /// Where this peer's worker listens, best first.
    pub candidates: Vec<SocketAddr>,
    /// Told as `b=` when a video uplink is first answered. Later changes go by REMB.
    pub publish_ceiling: Option<Bitrate>,
}

/// One description about to be written.
pub(super) struct Writing<'a> {
    pub local: &'a LocalDescription,
    pub session_id: u64,
    pub version: u64,
    pub cname: &'a str,
    pub sections: &'a [Section],
    /// Live mids; the first carries the candidates.
    pub bundle: Vec<Mid>,
    /// `extmap-allow-mixed` at session level.
    pub allow_mixed: bool,
    /// An answer takes the DTLS server role, an offer leaves the choice.
    pub answer: bool,
}

impl Writing<'_> {
    pub fn text(&self) -> String {
        let mut session = SessionDescription {
            origin: SdpOrigin {
                username: "-".to_owned(),
                session_id: self.session_id,
                session_version: self.version,
                network_type: "IN".to_owned(),
                address_type: "IP4".to_owned(),
                unicast_address: "0.0.0.0".to_owned(),
            },
            session_name: "-".to_owned(),
            time_descriptions: vec![TimeDescription::default()],
            ..SessionDescription::default()
        };
        if !self.bundle.is_empty() {
            let mids: Vec<&str> = self.bundle.iter().map(Mid::as_str).collect();
            session = session.with_value_attribute("group".to_owned(), format!("BUNDLE {}", mids.join(" ")));
        }
        if self.allow_mixed {
            session = session.with_property_attribute("extmap-allow-mixed".to_owned());
        }
        session = session.with_value_attribute("msid-semantic".to_owned(), " WMS *".to_owned());
        session = session.with_property_attribute("ice-lite".to_owned());
        session.media_descriptions = self.sections.iter().map(|section| self.media(section)).collect();
        session.marshal()
    }

    fn media(&self, section: &Section) -> MediaDescription {
        let mut media = MediaDescription::new_jsep_media_description(section.name.clone(), Vec::new());
        media.media_name = MediaName {
            media: section.name.clone(),
            port: RangedPort { value: if section.live { 9 } else { 0 }, range: None },
            protos: section.protos.split('/').map(str::to_owned).collect(),
            formats: vec![section.format.clone()],
        };
        let mut lines = Attributes(&mut media);
        if let Some(mid) = section.mid {
            lines.value("mid", mid.to_string());
        }
        if section.live {
            self.transport(&mut lines, section.mid);
        }
        if section.live && section.messages.is_some() {
            lines.value("sctp-port", SCTP_PORT.to_string());
            lines.value("max-message-size", MAX_MESSAGE.to_string());
        } else if section.live {
            lines.flag("rtcp-mux");
            rtp(&mut lines, section);
            layers(&mut lines, section);
            self.streams(&mut lines, section);
        } else {
            lines.flag("inactive");
        }
        if section.live && self.answer && !section.ceiling_told && section.uplink.is_some() {
            let ceiling = self.local.publish_ceiling.filter(|_| section.kind == Some(MediaKind::Video));
            media.bandwidth = ceiling.map(bandwidth).unwrap_or_default();
        }
        media
    }

    fn transport(&self, lines: &mut Attributes<'_>, mid: Option<Mid>) {
        lines.value("ice-ufrag", self.local.ufrag.clone());
        lines.value("ice-pwd", self.local.pwd.clone());
        lines.value("fingerprint", self.local.fingerprint.clone());
        lines.value("setup", if self.answer { "passive" } else { "actpass" }.to_owned());
        if mid.is_some() && mid == self.bundle.first().copied() {
            for (index, address) in self.local.candidates.iter().enumerate() {
                lines.value("candidate", candidate(index, *address));
            }
            lines.flag("end-of-candidates");
        }
    }

    fn streams(&self, lines: &mut Attributes<'_>, section: &Section) {
        let Some(slot) = section.slot.as_ref().filter(|_| section.described_send) else {
            return;
        };
        lines.value("msid", format!("{} {}", slot.stream, slot.track));
        let rtx = section.codecs.iter().any(|codec| codec.rtx.is_some()).then_some(slot.rtx);
        if let Some(rtx) = rtx {
            lines.value("ssrc-group", format!("FID {} {}", slot.downlink.ssrc.0, rtx.0));
        }
        for ssrc in std::iter::once(slot.downlink.ssrc).chain(rtx) {
            self.ssrc(lines, ssrc, slot);
        }
    }

    fn ssrc(&self, lines: &mut Attributes<'_>, ssrc: Ssrc, slot: &Slot) {
        lines.value("ssrc", format!("{} cname:{}", ssrc.0, self.cname));
        lines.value("ssrc", format!("{} msid:{} {}", ssrc.0, slot.stream, slot.track));
    }
}

/// Formats, their parameters and feedback, extensions, direction.
fn rtp(lines: &mut Attributes<'_>, section: &Section) {
    if section.rtcp_rsize {
        lines.flag("rtcp-rsize");
    }
    if section.rtcp_xr {
        lines.value("rtcp-xr", "rcvr-rtt=all".to_owned());
    }
    if section.allow_mixed {
        lines.flag("extmap-allow-mixed");
    }
    for extension in &section.extensions {
        lines.value("extmap", format!("{}{} {}", extension.id, suffix(extension), extension.kind.uri()));
    }
    lines.flag(direction(section.described_send, section.uplink.is_some()));
    let mut formats = Vec::new();
    for codec in section.codecs.iter() {
        let pt = codec.pt.0;
        formats.push(pt.to_string());
        lines.value("rtpmap", format!("{pt} {}", codec.codec.encoding()));
        for feedback in codec.feedback.lines() {
            lines.value("rtcp-fb", format!("{pt} {feedback}"));
        }
        let fmtp = codec.parameters(&section.codecs);
        if !fmtp.is_empty() {
            lines.value("fmtp", format!("{pt} {fmtp}"));
        }
        if let Some(rtx) = codec.rtx {
            formats.push(rtx.0.to_string());
            lines.value("rtpmap", format!("{} rtx/{}", rtx.0, codec.codec.clock_rate()));
            lines.value("fmtp", format!("{} apt={pt}", rtx.0));
        }
    }
    if !formats.is_empty() {
        lines.0.media_name.formats = formats;
    }
}

/// In an offer too: to browsers one without is the end of an agreed simulcast. The price: Chromium 156 takes
/// `~` or its absence as an order, so an offer of ours switches a layer on again that
/// the application has switched off since its own last offer, by `setParameters` and without a word to us.
fn layers(lines: &mut Attributes<'_>, section: &Section) {
    for layer in &section.layers {
        lines.value("rid", format!("{} recv", layer.rid));
    }
    if !section.layers.is_empty() {
        lines.value("simulcast", simulcast::receive(&section.layers));
    }
}

fn direction(sends: bool, receives: bool) -> &'static str {
    match (sends, receives) {
        (true, true) => "sendrecv",
        (true, false) => "sendonly",
        (false, true) => "recvonly",
        (false, false) => "inactive",
    }
}

fn suffix(extension: &SectionExtension) -> String {
    if extension.limited {
        format!("/{}", direction(extension.sends, extension.receives))
    } else {
        String::new()
    }
}

/// RFC 8839 §5.1, a host candidate; the first address is preferred (RFC 8445 §5.1.2.1).
fn candidate(index: usize, address: SocketAddr) -> String {
    let local_preference = 65_535 - (index as u32).min(65_535);
    let priority = (126 << 24) | (local_preference << 8) | 255;
    format!("{} 1 udp {priority} {} {} typ host", index + 1, address.ip(), address.port())
}

/// `AS` in kilobits with headers (RFC 8866 §5.8), `TIAS` in bits without (RFC 3890); Firefox reads the latter.
fn bandwidth(ceiling: Bitrate) -> Vec<Bandwidth> {
    let line =
        |kind: &str, bandwidth| Bandwidth { experimental: false, bandwidth_type: kind.to_owned(), bandwidth };
    vec![line("AS", ceiling.as_bps().div_ceil(1000)), line("TIAS", ceiling.as_bps())]
}

/// RFC 8841 §5.1: the usual one. Over DTLS it tells nothing apart.
const SCTP_PORT: u16 = 5_000;

struct Attributes<'a>(&'a mut MediaDescription);

impl Attributes<'_> {
    fn flag(&mut self, key: &str) {
        self.push(key, None);
    }

    fn value(&mut self, key: &str, value: String) {
        self.push(key, Some(value));
    }

    fn push(&mut self, key: &str, value: Option<String>) {
        self.0.attributes.push(rtc_sdp::description::common::Attribute { key: key.to_owned(), value });
    }
}

//! The least SDP that a browser-grade server takes, and what a client must read in its answer.

use std::fmt::Write;
use std::net::SocketAddr;

/// Payload type of Opus in our offers.
pub const OPUS: u8 = 111;
/// Payload type of VP8 in our offers.
pub const VP8: u8 = 96;
/// Payload type of VP8's repairs in our offers.
pub const RTX: u8 = 97;

/// One m-line of an offer, by payload type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Line {
    /// We send this SSRC.
    Send(u8, u32),
    /// We receive.
    Receive(u8),
}

/// What to offer.
pub struct Offer<'a> {
    /// Our ICE user name fragment.
    pub ufrag: &'a str,
    /// Our ICE password.
    pub pwd: &'a str,
    /// The value of `a=fingerprint`.
    pub fingerprint: &'a str,
    /// The m-lines.
    pub lines: Vec<Line>,
    /// Whether received video may be asked for again.
    pub repairs: bool,
    /// Whether packets are numbered for transport-wide feedback.
    pub times: bool,
}

impl Offer<'_> {
    /// The session description.
    pub fn text(&self) -> String {
        let mids: Vec<String> = (0..self.lines.len()).map(|mid| mid.to_string()).collect();
        let mut sdp = format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {}\r\n",
            mids.join(" ")
        );
        for (mid, line) in mids.iter().zip(&self.lines) {
            self.write_section(&mut sdp, mid, *line).expect("a string takes what is written to it");
        }
        sdp
    }

    fn write_section(&self, sdp: &mut String, mid: &str, line: Line) -> std::fmt::Result {
        let Offer { ufrag, pwd, fingerprint, .. } = self;
        let (pt, direction) = match line {
            Line::Send(pt, _) => (pt, "sendonly"),
            Line::Receive(pt) => (pt, "recvonly"),
        };
        let (kind, codec) = if pt == OPUS { ("audio", "opus/48000/2") } else { ("video", "VP8/90000") };
        // A publisher on loopback keeps nothing to send again.
        let repairs = self.repairs && line == Line::Receive(VP8);
        let pts = if repairs { format!("{pt} {RTX}") } else { pt.to_string() };
        write!(
            sdp,
            "m={kind} 9 UDP/TLS/RTP/SAVPF {pts}\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:{ufrag}\r\na=ice-pwd:{pwd}\r\n\
             a=fingerprint:{fingerprint}\r\na=setup:active\r\na=mid:{mid}\r\na={direction}\r\na=rtcp-mux\r\n\
             a=rtpmap:{pt} {codec}\r\n"
        )?;
        if self.times {
            let id = crate::client::TRANSPORT_ID;
            write!(sdp, "a=extmap:{id} {TRANSPORT}\r\na=rtcp-fb:{pt} transport-cc\r\n")?;
        }
        if pt == VP8 {
            write!(sdp, "a=rtcp-fb:{pt} nack pli\r\na=rtcp-fb:{pt} ccm fir\r\n")?;
        }
        if repairs {
            write!(sdp, "a=rtcp-fb:{pt} nack\r\na=rtpmap:{RTX} rtx/90000\r\na=fmtp:{RTX} apt={pt}\r\n")?;
        }
        if let Line::Send(_, ssrc) = line {
            write!(sdp, "a=msid:load {kind}\r\na=ssrc:{ssrc} cname:load\r\n")?;
        }
        Ok(())
    }
}

const TRANSPORT: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";

/// What an answer says about its server's transport.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// Its ICE user name fragment.
    pub ufrag: String,
    /// Its ICE password.
    pub pwd: String,
    /// The hash of its certificate, `sha-256`.
    pub fingerprint: Vec<u8>,
    /// Its first UDP candidate.
    pub remote: SocketAddr,
}

impl Answer {
    /// Reads an answer with the candidates in it; `None` when something is missing.
    pub fn parse(sdp: &str) -> Option<Answer> {
        let value = |name: &str| sdp.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let hex = value("a=fingerprint:sha-256 ")?;
        Some(Answer {
            ufrag: value("a=ice-ufrag:")?.to_owned(),
            pwd: value("a=ice-pwd:")?.to_owned(),
            fingerprint: hex
                .split(':')
                .map(|byte| u8::from_str_radix(byte, 16).ok())
                .collect::<Option<_>>()?,
            remote: sdp.lines().find_map(candidate)?,
        })
    }
}

fn candidate(line: &str) -> Option<SocketAddr> {
    let words: Vec<&str> = line.strip_prefix("a=candidate:")?.split_whitespace().collect();
    let [_, "1", protocol, _, ip, port, ..] = words[..] else { return None };
    let address = SocketAddr::new(ip.parse().ok()?, port.parse().ok()?);
    protocol.eq_ignore_ascii_case("udp").then_some(address)
}

#[test]
fn an_answer_is_read() {
    let sdp = "a=ice-ufrag:abcd\r\na=ice-pwd:secret\r\na=fingerprint:sha-256 0A:FF\r\n\
               a=candidate:1 1 tcp 5 192.0.2.1 9 typ host\r\na=candidate:1 1 UDP 5 192.0.2.1 3478 typ host\r\n";
    let answer = Answer::parse(sdp).unwrap();
    assert_eq!(answer.remote.to_string(), "192.0.2.1:3478");
    assert_eq!((answer.ufrag.as_str(), answer.fingerprint), ("abcd", vec![10, 255]));
}

//! The lines of a peer's SDP that we read, counted before anything is built.

use super::error::SdpError;

/// The kept lines of one description, in the strict order and form that `rtc-sdp` reads.
///
/// `rtc-sdp` refuses a whole description over one line it does not know, and spends up to 36 times
/// the input in memory. So a first pass, which allocates nothing, checks every count, and a second
/// one copies only the lines somebody here reads. What we echo of unread m-lines is kept beside it.
#[derive(Debug)]
pub(super) struct Lines {
    /// For `rtc-sdp`: `v=` to `t=` are ours, unknown media are called `text`.
    pub text: String,
    /// The `<media>` word of each m-line as the peer wrote it.
    pub media: Vec<String>,
}

impl Lines {
    /// # Errors
    /// [`SdpError::TooLarge`] past a limit, [`SdpError::Malformed`] for a text that is no SDP.
    pub fn read(sdp: &str) -> Result<Lines, SdpError> {
        let kept = check(sdp)?;
        let mut text = String::with_capacity(kept + PREAMBLE.len());
        text.push_str(PREAMBLE);
        let mut media = Vec::new();
        for (_, line) in lines(sdp) {
            if let Some(m) = line.strip_prefix("m=") {
                let (name, rest) = m.split_once([' ', '\t']).unwrap_or((m, ""));
                let known = matches!(name, "audio" | "video" | "application");
                for part in ["m=", if known { name } else { "text" }, " ", rest, "\r\n"] {
                    text.push_str(part);
                }
                media.push(name.to_owned());
            } else if is_kept(line) {
                text.push_str(line);
                text.push_str("\r\n");
            }
        }
        Ok(Lines { text, media })
    }
}

/// Counts everything a peer can repeat. Returns the bytes that will be kept.
fn check(sdp: &str) -> Result<usize, SdpError> {
    if sdp.len() > MAX_BYTES {
        return Err(SdpError::TooLarge { what: "bytes", limit: MAX_BYTES });
    }
    let ends = sdp.bytes().filter(|byte| matches!(byte, b'\n' | b'\r'));
    limit("line ends", ends.take(MAX_ENDS + 1).count(), MAX_ENDS)?;
    let (mut kept, mut kept_lines, mut sections, mut candidates) = (0_usize, 0, 0, 0);
    let mut counts = [0; PER_SECTION.len()];
    for (index, (offset, line)) in lines(sdp).enumerate() {
        if index == 0 && line != "v=0" {
            return Err(SdpError::Malformed { line: number(sdp, offset), what: "v=0 first" });
        }
        if let Some(m) = line.strip_prefix("m=") {
            sections += 1;
            counts = [0; PER_SECTION.len()];
            if !is_media(m) {
                return Err(SdpError::Malformed { line: number(sdp, offset), what: "m=" });
            }
            limit("formats of an m-line", m.split_ascii_whitespace().count() - 3, MAX_FORMATS)?;
            limit("bytes in a line", m.len(), MAX_LINE)?;
        } else if !is_kept(line) {
            candidates += usize::from(line.starts_with("a=candidate:"));
            limit("candidates", candidates, MAX_CANDIDATES)?;
            continue;
        } else if line.len() > MAX_LINE {
            return Err(SdpError::TooLarge { what: "bytes in a line", limit: MAX_LINE });
        } else if let Some(i) = PER_SECTION.iter().position(|(key, _)| *key == key_of(line)) {
            counts[i] += 1;
            limit(PER_SECTION[i].0, counts[i], PER_SECTION[i].1)?;
        }
        kept_lines += 1;
        // An unknown media word may grow to `text`, and a line end to two bytes.
        kept += line.len() + 6;
        limit("m-lines", sections, MAX_SECTIONS)?;
        limit("lines", kept_lines, MAX_LINES)?;
    }
    Ok(kept)
}

/// `<media> <port>[/<count>] <proto> <fmt>…`, RFC 8866 §5.14.
fn is_media(m: &str) -> bool {
    let mut words = m.split_ascii_whitespace();
    let (name, port, proto) = (words.next(), words.next(), words.next());
    let port = port.and_then(|port| port.split('/').next());
    let port_reads = port.is_some_and(|port| port.parse::<u16>().is_ok());
    let proto_reads = proto.is_some_and(|proto| proto.split('/').all(|part| !part.is_empty()));
    name.is_some() && !m.starts_with([' ', '\t']) && port_reads && proto_reads && words.next().is_some()
}

fn limit(what: &'static str, count: usize, limit: usize) -> Result<(), SdpError> {
    if count > limit { Err(SdpError::TooLarge { what, limit }) } else { Ok(()) }
}

/// With their byte offsets; any line end, no empty ones.
fn lines(sdp: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut next = 0;
    let with_offset = sdp.split(['\n', '\r']).map(move |line| {
        let offset = next;
        next += line.len() + 1;
        (offset, line.trim_ascii())
    });
    with_offset.filter(|(_, line)| !line.is_empty())
}

/// Counted from 1, as an editor would.
fn number(sdp: &str, offset: usize) -> usize {
    let before = sdp.as_bytes().iter().take(offset);
    1 + before.filter(|byte| **byte == b'\n').count()
}

fn is_kept(line: &str) -> bool {
    KEPT.contains(&key_of(line))
}

/// The attribute name of an `a=` line, else nothing.
fn key_of(line: &str) -> &str {
    line.strip_prefix("a=").and_then(|attribute| attribute.split(':').next()).unwrap_or("")
}

/// 320 KiB. A Chromium offer of 30 m-lines (28 of them `recvonly`) measured 133 kB, 4.6 kB per video
/// line, so 64 KiB would refuse real calls, and 64 such lines fit. Everything a larger text could hold is
/// counted below.
const MAX_BYTES: usize = 320 * 1024;
/// A group line with 64 UUID mids is 2.4 kB.
const MAX_LINE: usize = 4096;
/// Unread lines included, `\r\n` is two. The same Chromium offer has 7 600.
const MAX_ENDS: usize = 32 * 1024;
/// Of all sections together, read ones. The same Chromium offer keeps 3 500.
const MAX_LINES: usize = 10_240;
/// Twice the largest slot pool we recommend.
pub(super) const MAX_SECTIONS: usize = 64;
/// Of all sections together: Firefox writes one set per unbundled line. We use none of them (ICE-lite).
const MAX_CANDIDATES: usize = 1024;
/// Payload types are seven bits.
const MAX_FORMATS: usize = 128;
/// Lines of each kind in one section; a browser needs a quarter of these.
const PER_SECTION: [(&str, usize); 17] = [
    ("rtpmap", 128),
    ("fmtp", 128),
    ("rtcp-fb", 512),
    ("extmap", 64),
    ("ssrc", 128),
    ("ssrc-group", 16),
    ("rid", 16),
    ("simulcast", 4),
    ("group", 8),
    ("fingerprint", 8),
    ("mid", 1),
    ("msid", 8),
    ("setup", 1),
    ("ice-ufrag", 1),
    ("ice-pwd", 1),
    ("sctp-port", 1),
    ("max-message-size", 1),
];
const KEPT: [&str; 27] = [
    "group",
    "mid",
    "ice-ufrag",
    "ice-pwd",
    "ice-lite",
    "fingerprint",
    "setup",
    "extmap-allow-mixed",
    "extmap",
    "rtcp-mux",
    "rtcp-rsize",
    "rtcp-xr",
    "bundle-only",
    "sendrecv",
    "sendonly",
    "recvonly",
    "inactive",
    "msid",
    "rtpmap",
    "fmtp",
    "rtcp-fb",
    "ssrc",
    "ssrc-group",
    "rid",
    "simulcast",
    "sctp-port",
    "max-message-size",
];
const PREAMBLE: &str = "v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_lines_are_dropped_and_line_ends_normalised() {
        let lines =
            Lines::read("v=0\no=x\rs=\n\nz=?\nnonsense\na=mystery:1\na=mid:9\nm=hologram 1 X y\na=mid:0\n")
                .unwrap();
        assert_eq!(lines.text, format!("{PREAMBLE}a=mid:9\r\nm=text 1 X y\r\na=mid:0\r\n"));
        assert_eq!(lines.media, ["hologram"]);
    }

    #[test]
    fn faults_name_their_line() {
        assert_eq!(Lines::read("").unwrap().media.len(), 0);
        assert_eq!(Lines::read("hello").unwrap_err(), SdpError::Malformed { line: 1, what: "v=0 first" });
        assert_eq!(Lines::read("v=0\r\nm=audio").unwrap_err(), SdpError::Malformed { line: 2, what: "m=" });
        assert_eq!(
            Lines::read("v=0\nm=audio 99999 A 0").unwrap_err(),
            SdpError::Malformed { line: 2, what: "m=" }
        );
    }
}

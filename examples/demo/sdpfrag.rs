//! The body of a WHIP or WHEP `PATCH`: a fragment of SDP about ICE.

/// What matters in an `application/trickle-ice-sdpfrag`, RFC 8840 §9.
///
/// An ICE-lite server answers checks and sends none of its own, so the client's candidates are
/// read for their form only.
#[derive(Debug, PartialEq, Eq)]
pub struct SdpFrag<'a> {
    /// The ICE session the fragment speaks of; another than the offer's asks for an ICE restart.
    pub ufrag: Option<&'a str>,
    pub candidates: usize,
}

impl<'a> SdpFrag<'a> {
    pub fn parse(text: &'a str) -> Result<SdpFrag<'a>, FragError> {
        let mut frag = SdpFrag { ufrag: None, candidates: 0 };
        let mut attributes = 0;
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty()) {
            let (kind, value) = line.split_once('=').ok_or(FragError::Line { number: index + 1 })?;
            if !matches!(kind, "a" | "m" | "c") {
                return Err(FragError::Line { number: index + 1 });
            }
            attributes += usize::from(kind == "a");
            frag.candidates += usize::from(kind == "a" && value.starts_with("candidate:"));
        }
        if attributes == 0 {
            return Err(FragError::Empty);
        }
        frag.ufrag = ufrag_of(text);
        Ok(frag)
    }
}

/// The first `a=ice-ufrag` of a fragment or of a whole description.
pub fn ufrag_of(sdp: &str) -> Option<&str> {
    sdp.lines().find_map(|line| line.strip_prefix("a=ice-ufrag:")).map(str::trim)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FragError {
    #[error("the SDP fragment holds no `a=` line")]
    Empty,
    #[error("line {number} of the SDP fragment is not an `a=`, `m=` or `c=` line")]
    Line { number: usize },
}

#[test]
fn reads_the_fragment_of_the_rfc() {
    // RFC 9725 §4.3.2, shortened.
    let text = "a=group:BUNDLE 0 1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=ice-ufrag:EsAw\r\n\
                a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n\
                a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag EsAw network-id 1\r\n\
                a=end-of-candidates\r\n";
    assert_eq!(SdpFrag::parse(text), Ok(SdpFrag { ufrag: Some("EsAw"), candidates: 1 }));
}

#[test]
fn refuses_what_is_no_fragment() {
    assert_eq!(SdpFrag::parse(""), Err(FragError::Empty));
    assert_eq!(SdpFrag::parse("m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n"), Err(FragError::Empty));
    assert_eq!(SdpFrag::parse("a=mid:0\r\n{\"candidate\":1}"), Err(FragError::Line { number: 2 }));
    assert_eq!(SdpFrag::parse("v=0\r\n"), Err(FragError::Line { number: 1 }));
}

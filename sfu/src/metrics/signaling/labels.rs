//! What the signalling's labels may say.

use std::fmt;
use std::str::FromStr;

use crate::counters::labels;

use super::SignalingError;

/// Where this host runs, as the label `region` of two gauges: chosen once, at start.
///
/// ```
/// use sluicegate::signaling::Region;
/// assert!("eu-1".parse::<Region>().is_ok());
/// assert!("the old world".parse::<Region>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Region(String);

impl Region {
    /// As the label has it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Region {
    type Err = SignalingError;

    fn from_str(text: &str) -> Result<Region, SignalingError> {
        if is_value(text) {
            Ok(Region(text.to_owned()))
        } else {
            Err(SignalingError::Region { given: text.to_owned() })
        }
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a text will do as a label value: what a query can name without escaping, and short.
pub fn is_value(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_.+-".contains(c);
    (1..=MAX_VALUE).contains(&text.len()) && text.chars().all(plain)
}

/// Characters in a label value.
pub const MAX_VALUE: usize = 40;

labels! {
    /// What a signalling message is about. What is none of these is [`Other`](MessageType::Other).
    #[non_exhaustive]
    pub enum MessageType {
        /// A client asks to be let into a room.
        Join = "join",
        /// It is in.
        Joined = "joined",
        /// A session description to be answered.
        Offer = "offer",
        /// The answer to one.
        Answer = "answer",
        /// ICE candidates.
        Candidate = "candidate",
        /// How much a client wants to receive.
        Limit = "limit",
        /// A client goes.
        Leave = "leave",
        /// Which m-line carries whom.
        Slots = "slots",
        /// Somebody entered the room.
        PeerJoined = "peer-joined",
        /// Somebody left it.
        PeerLeft = "peer-left",
        /// What a client may send.
        Cap = "cap",
        /// Which layer a client gets.
        Layer = "layer",
        /// A client cannot decode what there is.
        CodecMissing = "codec-missing",
        /// A client's packets do not arrive.
        Unreachable = "unreachable",
        /// A request could not be met.
        Error = "error",
        /// The server goes.
        Bye = "bye",
        /// Anything else, nonsense included.
        Other = "other",
    }

    /// Which way a message went.
    pub enum Way {
        /// From a client.
        In = "in",
        /// To a client.
        Out = "out",
    }

    /// Why somebody was not let in.
    #[non_exhaustive]
    pub enum AuthFailure {
        /// Nothing was shown.
        Missing = "missing",
        /// What was shown is not of the form it should have.
        Malformed = "malformed",
        /// It was signed by somebody else, or for something else.
        Invalid = "invalid",
        /// It was good, once.
        Expired = "expired",
        /// It is good, and does not open this door.
        Forbidden = "forbidden",
        /// Whoever checks it does not answer.
        Unavailable = "unavailable",
    }

    /// How finding a path ended.
    #[non_exhaustive]
    pub enum IceStatus {
        /// A path was found.
        Connected = "connected",
        /// None was.
        Failed = "failed",
    }

    /// What a client asked of the signalling.
    #[non_exhaustive]
    pub enum Op {
        /// To be let into a room.
        Join = "join",
        /// To change what it sends or receives.
        Offer = "offer",
        /// To take its answer.
        Answer = "answer",
        /// To take its candidates.
        Candidate = "candidate",
        /// To be let go.
        Leave = "leave",
        /// Anything else.
        Other = "other",
    }

    /// What became of it.
    pub enum Outcome {
        /// It was done.
        Ok = "ok",
        /// It was answered with no: a bad request, a bad token, a full room. The service worked.
        Refused = "refused",
        /// It failed, and that is ours.
        Error = "error",
    }

    /// The method of an HTTP request.
    pub enum Method {
        /// GET.
        Get = "get",
        /// HEAD.
        Head = "head",
        /// POST.
        Post = "post",
        /// PUT.
        Put = "put",
        /// PATCH.
        Patch = "patch",
        /// DELETE.
        Delete = "delete",
        /// OPTIONS.
        Options = "options",
        /// Any other.
        Other = "other",
    }
}

impl Method {
    /// The method that a request line names. RFC 9110 §9.1: by case.
    pub fn named(name: &str) -> Method {
        let named = |method: &Method| method.as_str().to_ascii_uppercase() == name;
        Method::ALL.into_iter().find(named).unwrap_or(Method::Other)
    }
}

/// Whether a message of this type goes this way in the protocols we know; others are shown once they have come.
pub fn is_usual(kind: MessageType, way: Way) -> bool {
    match kind {
        MessageType::Join | MessageType::Candidate | MessageType::Limit | MessageType::Leave => {
            way == Way::In
        }
        MessageType::Offer | MessageType::Answer => true,
        MessageType::Other => way == Way::In,
        _ => way == Way::Out,
    }
}

#[test]
fn methods_are_told_by_case() {
    assert_eq!(Method::named("PATCH"), Method::Patch);
    assert_eq!(Method::named("patch"), Method::Other);
    assert_eq!(Method::named("OTHER"), Method::Other);
    assert_eq!(Method::named("PROPFIND"), Method::Other);
}

#[test]
fn values_are_short_and_plain() {
    assert!(["eu", "eu-west-1", "a.b_c+d", &"x".repeat(MAX_VALUE)].into_iter().all(is_value));
    for bad in ["", "EU", "e u", "eu\"", "eu\n", "é", "/ws", &"x".repeat(MAX_VALUE + 1)] {
        assert!(!is_value(bad), "{bad:?}");
        assert!(bad.parse::<Region>().is_err(), "{bad:?}");
    }
}

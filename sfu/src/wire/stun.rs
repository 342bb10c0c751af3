//! STUN as an ICE-lite agent needs it: Binding requests in, their responses out. RFC 8489.
//!
//! A bounded walk of our own comes first: it costs strangers' datagrams nothing, and it knows which attributes
//! integrity covers. Integrity itself, and all that we send, is `rtc-stun`'s.

use std::net::SocketAddr;
use std::sync::Arc;

use rtc_crypto::RTCCryptoProvider;
use rtc_stun::error_code::{CODE_ROLE_CONFLICT, ErrorCodeAttribute};
use rtc_stun::fingerprint::fingerprint_value;
use rtc_stun::integrity::MessageIntegrity;
use rtc_stun::message::{BINDING_ERROR, BINDING_SUCCESS, Message, MessageType, Setter, TransactionId};
use rtc_stun::xoraddr::XorMappedAddress;

/// The part of USERNAME before the colon, which names one of our sessions, if `datagram` is a
/// Binding request. Nothing is authenticated yet; no memory is taken.
pub fn username_local(datagram: &[u8]) -> Option<&str> {
    binding_request(datagram)?;
    let username = Attributes::of(datagram).find(|attribute| attribute.kind == USERNAME)?;
    let (local, _) = std::str::from_utf8(username.value).ok()?.split_once(':')?;
    Some(local)
}

/// A Binding request that carries USERNAME and MESSAGE-INTEGRITY, and whose FINGERPRINT, if it has
/// one, is right.
///
/// Only attributes before MESSAGE-INTEGRITY count: what follows is not authenticated
/// (RFC 8489 §14.5).
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// USERNAME, `ours:theirs`.
    pub username: &'a str,
    /// The peer nominates the path this request came on.
    pub use_candidate: bool,
    /// The peer claims the controlled role, which is ours.
    pub ice_controlled: bool,
    /// Tells this request from all others of the peer's.
    pub transaction: &'a [u8; 12],
    datagram: &'a [u8],
}

impl<'a> Request<'a> {
    /// Reads `datagram`, `None` if it is anything else.
    pub fn parse(datagram: &'a [u8]) -> Option<Self> {
        let transaction = binding_request(datagram)?;
        let mut username = None;
        let mut use_candidate = false;
        let mut ice_controlled = false;
        let mut signed = false;
        let mut end = HEADER;
        for attribute in Attributes::of(datagram) {
            match attribute.kind {
                FINGERPRINT if !fingerprint_matches(datagram, &attribute) => return None,
                _ if signed => {}
                USERNAME => username = Some(std::str::from_utf8(attribute.value).ok()?),
                USE_CANDIDATE => use_candidate = true,
                ICE_CONTROLLED => ice_controlled = true,
                MESSAGE_INTEGRITY if attribute.value.len() == INTEGRITY_LEN => signed = true,
                MESSAGE_INTEGRITY => return None,
                _ => {}
            }
            end = attribute.end;
        }
        let username = username?;
        // The walk ends early where an attribute overruns the message.
        (signed && end == datagram.len()).then_some(Request {
            username,
            use_candidate,
            ice_controlled,
            transaction,
            datagram,
        })
    }

    /// Whether MESSAGE-INTEGRITY was made with `key`, RFC 8489 §14.5.
    pub fn is_authentic(&self, key: &Key) -> bool {
        let mut message = Message::new();
        message.unmarshal_binary(self.datagram).is_ok()
            && MessageIntegrity::check(&mut message, key.password.as_bytes(), key.provider.crypto()).is_ok()
    }

    /// The success response: `remote` is where we saw the request come from.
    pub fn success(&self, remote: SocketAddr, key: &Key) -> Vec<u8> {
        let mapped = XorMappedAddress { ip: remote.ip(), port: remote.port() };
        self.response(BINDING_SUCCESS, Box::new(mapped), key)
    }

    /// 487 Role Conflict, RFC 8445 §7.3.1.1: a lite agent stays controlled.
    pub fn role_conflict(&self, key: &Key) -> Vec<u8> {
        let code = ErrorCodeAttribute { code: CODE_ROLE_CONFLICT, reason: Vec::new() };
        self.response(BINDING_ERROR, Box::new(code), key)
    }

    /// Empty if it cannot be encoded, which none of ours is.
    fn response(&self, kind: MessageType, attribute: Box<dyn Setter>, key: &Key) -> Vec<u8> {
        let integrity = MessageIntegrity::new_short_term_integrity_with_provider(
            key.password.clone(),
            key.provider.crypto(),
        );
        let mut message = Message::new();
        let built = message.build(&[
            Box::new(kind),
            Box::new(TransactionId(*self.transaction)),
            attribute,
            Box::new(integrity),
            Box::new(rtc_stun::fingerprint::FINGERPRINT),
        ]);
        built.map(|()| message.raw).unwrap_or_default()
    }
}

/// What a password authenticates with, for short-term credentials (RFC 8489 §9.1.1).
pub struct Key {
    password: String,
    provider: Arc<dyn RTCCryptoProvider>,
}

impl Key {
    /// The key that a password is.
    pub fn new(password: &str) -> Self {
        let provider = rtc_crypto::default_provider().expect("built with the aws-lc-rs provider");
        Key { password: password.to_owned(), provider }
    }
}

/// The transaction id, if `datagram` has the header of a Binding request.
fn binding_request(datagram: &[u8]) -> Option<&[u8; 12]> {
    let (header, body) = datagram.split_first_chunk::<HEADER>()?;
    let (fixed, transaction) = header.split_first_chunk::<8>()?;
    let [k0, k1, l0, l1, cookie @ ..] = *fixed;
    let fits = datagram.len() <= MAX_LEN
        && usize::from(u16::from_be_bytes([l0, l1])) == body.len()
        && body.len().is_multiple_of(4);
    (fits && u16::from_be_bytes([k0, k1]) == BINDING_REQUEST && u32::from_be_bytes(cookie) == COOKIE)
        .then(|| transaction.first_chunk())?
}

fn fingerprint_matches(datagram: &[u8], attribute: &Attribute<'_>) -> bool {
    // RFC 8489 §14.7: it is the last attribute.
    let covered = datagram.get(..attribute.at).unwrap_or_default();
    attribute.end == datagram.len() && attribute.value == fingerprint_value(covered).to_be_bytes()
}

struct Attribute<'a> {
    kind: u16,
    value: &'a [u8],
    /// Where its header starts.
    at: usize,
    /// Where the next one would start.
    end: usize,
}

/// Walks a message's attributes as far as they lie inside it.
struct Attributes<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Attributes<'a> {
    fn of(message: &'a [u8]) -> Self {
        Attributes { message, at: HEADER }
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    fn next(&mut self) -> Option<Attribute<'a>> {
        let at = self.at;
        let (&[k0, k1, l0, l1], rest) = self.message.get(at..)?.split_first_chunk()?;
        let len = usize::from(u16::from_be_bytes([l0, l1]));
        let value = rest.get(..len)?;
        // Values are padded to four bytes.
        let end = len.next_multiple_of(4).checked_add(at)?.checked_add(4)?;
        if end > self.message.len() {
            return None;
        }
        self.at = end;
        Some(Attribute { kind: u16::from_be_bytes([k0, k1]), value, at, end })
    }
}

const HEADER: usize = 20;
const COOKIE: u32 = 0x2112_a442;
/// Larger checks do not fit an Ethernet frame; browsers send about 120 bytes.
const MAX_LEN: usize = 1500;
const INTEGRITY_LEN: usize = 20;

const BINDING_REQUEST: u16 = 0x0001;

const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const USE_CANDIDATE: u16 = 0x0025;
const FINGERPRINT: u16 = 0x8028;
const ICE_CONTROLLED: u16 = 0x8029;

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::arithmetic_side_effects)]
pub(crate) mod tests {
    use super::*;
    use rtc_stun::attributes::{
        ATTR_ICE_CONTROLLED, ATTR_ICE_CONTROLLING, ATTR_PRIORITY, ATTR_USE_CANDIDATE, ATTR_USERNAME,
        ATTR_XORMAPPED_ADDRESS,
    };
    use rtc_stun::fingerprint::FINGERPRINT;
    use rtc_stun::integrity::MessageIntegrity;
    use rtc_stun::message::{BINDING_REQUEST, BINDING_SUCCESS, Message, TransactionId};
    use rtc_stun::textattrs::TextAttribute;
    use rtc_stun::xoraddr::XorMappedAddress;

    /// Appends an attribute by hand, as no library would.
    fn put(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
        out.extend(kind.to_be_bytes());
        out.extend((value.len() as u16).to_be_bytes());
        out.extend(value);
        out.resize(out.len().next_multiple_of(4), 0);
    }

    fn set_length(out: &mut [u8]) {
        let length = out.len().saturating_sub(HEADER) as u16;
        if let Some(field) = out.get_mut(2..4) {
            field.copy_from_slice(&length.to_be_bytes());
        }
    }

    /// A check as a browser sends it, made by `rtc-stun`.
    pub(crate) struct Check<'a> {
        pub username: &'a str,
        pub password: &'a str,
        pub nominate: bool,
        pub controlled: bool,
    }

    impl Check<'_> {
        pub(crate) fn encode(&self) -> Vec<u8> {
            let provider = rtc_crypto::default_provider().unwrap();
            let mut message = Message::new();
            message
                .build(&[
                    Box::new(BINDING_REQUEST),
                    Box::new(TransactionId::new()),
                    Box::new(TextAttribute::new(ATTR_USERNAME, self.username.to_owned())),
                ])
                .unwrap();
            message.add(ATTR_PRIORITY, &[0x6e, 0, 1, 0xff]);
            let role = if self.controlled { ATTR_ICE_CONTROLLED } else { ATTR_ICE_CONTROLLING };
            message.add(role, &[9; 8]);
            if self.nominate {
                message.add(ATTR_USE_CANDIDATE, &[]);
            }
            let integrity = MessageIntegrity::new_short_term_integrity_with_provider(
                self.password.to_owned(),
                provider.crypto(),
            );
            message.build_more(integrity);
            message.raw
        }
    }

    trait BuildMore {
        fn build_more(&mut self, integrity: MessageIntegrity<'_>);
    }

    impl BuildMore for Message {
        fn build_more(&mut self, integrity: MessageIntegrity<'_>) {
            use rtc_stun::message::Setter;
            integrity.add_to(self).unwrap();
            FINGERPRINT.add_to(self).unwrap();
        }
    }

    /// The mapped address of a success response, after checking its integrity and fingerprint.
    pub(crate) fn mapped_address(response: &[u8], password: &str) -> Option<SocketAddr> {
        let message = verified(response, password);
        if message.typ != BINDING_SUCCESS {
            return None;
        }
        let mut mapped = XorMappedAddress::default();
        mapped.get_from_as(&message, ATTR_XORMAPPED_ADDRESS).unwrap();
        Some(SocketAddr::new(mapped.ip, mapped.port))
    }

    pub(crate) fn verified(response: &[u8], password: &str) -> Message {
        let provider = rtc_crypto::default_provider().unwrap();
        let mut message = Message::new();
        message.unmarshal_binary(response).unwrap();
        MessageIntegrity::check(&mut message, password.as_bytes(), provider.crypto()).unwrap();
        FINGERPRINT.check(&message).unwrap();
        message
    }

    fn check() -> Vec<u8> {
        Check { username: "ours:theirs", password: "secret", nominate: true, controlled: false }.encode()
    }

    #[test]
    fn a_browser_s_check_is_read_and_answered() {
        let datagram = check();
        assert_eq!(username_local(&datagram), Some("ours"));
        let request = Request::parse(&datagram).unwrap();
        assert_eq!(request.username, "ours:theirs");
        assert!(request.use_candidate && !request.ice_controlled);
        assert!(request.is_authentic(&Key::new("secret")));
        assert!(!request.is_authentic(&Key::new("secres")));
        for remote in ["192.0.2.7:40000", "[2001:db8::7]:9"] {
            let remote = remote.parse().unwrap();
            let response = request.success(remote, &Key::new("secret"));
            assert_eq!(mapped_address(&response, "secret"), Some(remote));
        }
        let response = request.role_conflict(&Key::new("secret"));
        let mut code = ErrorCodeAttribute::default();
        rtc_stun::message::Getter::get_from(&mut code, &verified(&response, "secret")).unwrap();
        assert_eq!(code.code.0, 487);
    }

    /// RFC 5769 §2.1: a request with an odd-length USERNAME and a SOFTWARE attribute.
    #[test]
    fn the_sample_request_of_rfc_5769_is_authentic() {
        let datagram =
            hex("000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74\
             002400046e0001ff80290008932ff9b151263b36000600096576746a3a683676592020200008\
             00149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a280280004e57a3bcf");
        assert_eq!(username_local(&datagram), Some("evtj"));
        let request = Request::parse(&datagram).unwrap();
        assert_eq!(request.username, "evtj:h6vY");
        assert!(request.ice_controlled);
        assert!(request.is_authentic(&Key::new("VOkJxbRl1RmTxUk/WvJxBt")));
    }

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    #[test]
    fn a_changed_or_cut_request_is_not_authentic() {
        let datagram = check();
        let key = Key::new("secret");
        // Up to the fingerprint, whose own kind says whether it is one at all.
        for at in 0..datagram.len() - 8 {
            for bit in 0..8 {
                let mut changed = datagram.clone();
                changed[at] ^= 1 << bit;
                let authentic = Request::parse(&changed).is_some_and(|r| r.is_authentic(&key));
                assert!(!authentic, "byte {at} bit {bit}");
            }
            assert!(Request::parse(&datagram[..at]).is_none());
            assert!(username_local(&datagram[..at]).is_none());
        }
    }

    #[test]
    fn what_follows_the_integrity_does_not_count() {
        let plain = Check { username: "ours:theirs", password: "secret", nominate: false, controlled: false }
            .encode();
        // Without its fingerprint, and with USE-CANDIDATE appended instead.
        let mut appended = plain[..plain.len() - 8].to_vec();
        put(&mut appended, USE_CANDIDATE, &[]);
        put(&mut appended, ICE_CONTROLLED, &[0; 8]);
        set_length(&mut appended);
        let request = Request::parse(&appended).unwrap();
        assert!(request.is_authentic(&Key::new("secret")));
        assert!(!request.use_candidate && !request.ice_controlled);
    }

    #[test]
    fn other_messages_are_not_requests() {
        let datagram = check();
        let with = |at: usize, byte: u8| {
            let mut other = datagram.clone();
            other[at] = byte;
            other
        };
        assert!(username_local(&with(0, 1)).is_none(), "a response");
        assert!(username_local(&with(1, 0x11)).is_none(), "an indication");
        assert!(username_local(&with(4, 0)).is_none(), "no cookie");
        assert!(username_local(&[0; 2_000]).is_none());
        let mut long = datagram.clone();
        put(&mut long, 0xc057, &[0; 1_500]);
        set_length(&mut long);
        assert!(username_local(&long).is_none(), "longer than 1500 bytes");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let mut datagram = vec![0, 1, 0, 0];
            datagram.extend(COOKIE.to_be_bytes());
            datagram.extend(bytes);
            set_length(&mut datagram);
            let _ = username_local(&datagram);
            if let Some(request) = Request::parse(&datagram) {
                assert!(!request.is_authentic(&Key::new("secret")));
            }
        }
    }
}

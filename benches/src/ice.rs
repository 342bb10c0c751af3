//! Connectivity checks of a controlling, full ICE agent with one candidate pair: RFC 8445 §7.

use rtc_crypto::RTCCrypto;
use rtc_stun::attributes::{ATTR_ICE_CONTROLLING, ATTR_PRIORITY, ATTR_USE_CANDIDATE, ATTR_USERNAME};
use rtc_stun::fingerprint::FINGERPRINT;
use rtc_stun::integrity::MessageIntegrity;
use rtc_stun::message::{BINDING_REQUEST, BINDING_SUCCESS, Message, Setter, TransactionId};
use rtc_stun::textattrs::TextAttribute;

/// A check that nominates, signed with the server's password.
pub fn check(username: &str, pwd: &str, crypto: &dyn RTCCrypto) -> Result<Vec<u8>, rtc_shared::error::Error> {
    let mut message = Message::new();
    message.build(&[
        Box::new(BINDING_REQUEST),
        Box::new(TransactionId::new()),
        Box::new(TextAttribute::new(ATTR_USERNAME, username.to_owned())),
    ])?;
    message.add(ATTR_PRIORITY, &PRIORITY.to_be_bytes());
    message.add(ATTR_ICE_CONTROLLING, &TIE_BREAKER.to_be_bytes());
    message.add(ATTR_USE_CANDIDATE, &[]);
    MessageIntegrity::new_short_term_integrity_with_provider(pwd.to_owned(), crypto).add_to(&mut message)?;
    FINGERPRINT.add_to(&mut message)?;
    Ok(message.raw)
}

/// Whether a datagram is the server's signed success.
pub fn is_success(datagram: &[u8], pwd: &str, crypto: &dyn RTCCrypto) -> bool {
    let mut message = Message::new();
    message.unmarshal_binary(datagram).is_ok()
        && message.typ == BINDING_SUCCESS
        && MessageIntegrity::check(&mut message, pwd.as_bytes(), crypto).is_ok()
}

/// Of a peer-reflexive host candidate, RFC 8445 §5.1.2.1: type preference 110, local preference 65535.
const PRIORITY: u32 = (110 << 24) | (65_535 << 8) | 255;
/// The server is lite and never takes our role, so any will do.
const TIE_BREAKER: u64 = 1;

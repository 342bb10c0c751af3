//! Join tokens: who may enter which room, under which name, until when.

use std::time::{Duration, SystemTime};

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::name::Name;

/// Seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixTime(pub u64);

impl UnixTime {
    #[expect(clippy::disallowed_methods, reason = "a token expires by the calendar, across processes")]
    pub fn now() -> UnixTime {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        UnixTime(since.unwrap_or_default().as_secs())
    }

    pub fn after(self, time: Duration) -> UnixTime {
        UnixTime(self.0.saturating_add(time.as_secs()))
    }
}

/// Makes and checks tokens with one secret.
///
/// A token is `EXPIRY.SIGNATURE`: seconds since 1970 in decimal, and the base64url HMAC-SHA-256 of
/// room, name and expiry on a line each. Names hold no line breaks, so no two grants sign alike.
pub struct Signer(hmac::Key);

impl Signer {
    pub fn new(secret: &str) -> Signer {
        Signer(hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()))
    }

    pub fn issue(&self, room: &Name, name: &Name, expiry: UnixTime) -> String {
        let signature = hmac::sign(&self.0, grant(room, name, expiry).as_bytes());
        format!("{}.{}", expiry.0, URL_SAFE_NO_PAD.encode(signature))
    }

    pub fn check(&self, now: UnixTime, room: &Name, name: &Name, token: &str) -> Result<(), TokenError> {
        let (expiry, signature) = token.split_once('.').ok_or(TokenError::Malformed)?;
        let expiry = UnixTime(expiry.parse().map_err(|_| TokenError::Malformed)?);
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| TokenError::Malformed)?;
        // Compares in constant time.
        hmac::verify(&self.0, grant(room, name, expiry).as_bytes(), &signature)
            .map_err(|_| TokenError::Foreign)?;
        if now < expiry { Ok(()) } else { Err(TokenError::Expired) }
    }
}

/// Why a token does not open the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("this room needs a join token: pass ?token= or an `Authorization: Bearer` header")]
    Missing,
    #[error("the Authorization header is not of the form `Bearer TOKEN`")]
    Scheme,
    #[error("the join token is not of the form EXPIRY.SIGNATURE; was it cut short?")]
    Malformed,
    #[error("the join token was made for another room, another name or with another secret")]
    Foreign,
    #[error("the join token has expired; ask for a new one")]
    Expired,
}

fn grant(room: &Name, name: &Name, expiry: UnixTime) -> String {
    format!("sluicegate-join\n{room}\n{name}\n{}", expiry.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn a_token_opens_one_room_for_one_name_until_it_expires() {
        let signer = Signer::new("secret");
        let token = signer.issue(&name("standup"), &name("ada"), UnixTime(100));
        let check = |now, room: &str, who: &str| signer.check(UnixTime(now), &name(room), &name(who), &token);
        assert_eq!(check(99, "standup", "ada"), Ok(()));
        assert_eq!(check(100, "standup", "ada"), Err(TokenError::Expired));
        assert_eq!(check(99, "other", "ada"), Err(TokenError::Foreign));
        assert_eq!(check(99, "standup", "bob"), Err(TokenError::Foreign));
        assert_eq!(
            Signer::new("guess").check(UnixTime(99), &name("standup"), &name("ada"), &token),
            Err(TokenError::Foreign)
        );
    }

    #[test]
    fn a_later_expiry_needs_another_signature() {
        let signer = Signer::new("secret");
        let token = signer.issue(&name("r"), &name("n"), UnixTime(100));
        let (_, signature) = token.split_once('.').unwrap();
        let forged = format!("200.{signature}");
        assert_eq!(signer.check(UnixTime(150), &name("r"), &name("n"), &forged), Err(TokenError::Foreign));
    }

    #[test]
    fn garbage_is_malformed_and_a_short_signature_is_foreign() {
        let signer = Signer::new("secret");
        for garbage in ["", ".", "x.y", "100", "-1.AAAA", "100.!!!!", "99999999999999999999999.AAAA"] {
            assert_eq!(
                signer.check(UnixTime(0), &name("r"), &name("n"), garbage),
                Err(TokenError::Malformed),
                "{garbage}"
            );
        }
        assert_eq!(signer.check(UnixTime(0), &name("r"), &name("n"), "100.AAAA"), Err(TokenError::Foreign));
    }
}

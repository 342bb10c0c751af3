//! The token: what a client shows to come back.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA512, digest};
use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq;

use super::store::SessionKey;

/// Lets a client come back as who it was: once, within its time, into its room. From
/// [`Peer::resume_token`](crate::Peer::resume_token), for [`Sfu::resume`](crate::Sfu::resume).
///
/// It is a secret of that client: whoever has it takes the client's place. As text ([`Display`](fmt::Display),
/// [`FromStr`]) it has 54 characters of the alphabet of URLs. No part of it is kept here: a store sees a hash.
#[derive(Clone, PartialEq, Eq)]
pub struct ResumeToken([u8; LENGTH]);

/// What is known of a token to those who keep it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Imprint {
    /// What its record is filed under.
    pub key: SessionKey,
    /// What it is recognised by.
    pub proof: Proof,
}

/// A hash of a token.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Proof([u8; 32]);

impl ResumeToken {
    /// A new one. It says when it expires, in milliseconds since the epoch: that explains a refusal, and admits nobody.
    pub fn random(expires: u64) -> ResumeToken {
        let mut bytes = [0; LENGTH];
        let (secret, stamp) = bytes.split_at_mut(SECRET);
        rand::fill(secret).expect("the system's random source answers");
        stamp.copy_from_slice(&expires.to_be_bytes());
        ResumeToken(bytes)
    }

    /// Where its record is, and what proves that it is this one. The store looks the first up, in whatever time that
    /// takes; neither tells anything of the token.
    pub fn imprint(&self) -> Imprint {
        let hash = digest(&SHA512, &self.0);
        let (key, rest) = hash.as_ref().split_first_chunk::<16>().expect("a SHA-512 has 64 bytes");
        let proof = rest.first_chunk::<32>().expect("48 are left");
        Imprint { key: SessionKey(*key), proof: Proof(*proof) }
    }

    /// When it says that it expires, in milliseconds since the epoch.
    pub fn expires(&self) -> u64 {
        let stamp = self.0.last_chunk::<8>().expect("it is longer than that");
        u64::from_be_bytes(*stamp)
    }
}

impl Proof {
    /// Whether these are of the same token, in a time that does not tell how nearly they are.
    pub fn matches(&self, other: &Proof) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Display for ResumeToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

/// It is a secret: nothing of it reaches a log.
impl fmt::Debug for ResumeToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResumeToken(…)")
    }
}

/// The text is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a resume token")]
pub struct NoToken;

impl FromStr for ResumeToken {
    type Err = NoToken;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; LENGTH];
        match URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) {
            Ok(LENGTH) => Ok(ResumeToken(bytes)),
            _ => Err(NoToken),
        }
    }
}

/// 256 random bits,
const SECRET: usize = 32;
/// and when it expires.
const LENGTH: usize = SECRET + 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_being_written() {
        let token = ResumeToken::random(1_700_000_000_000);
        let text = token.to_string();
        assert_eq!(text.len(), 54);
        assert_eq!(text.parse(), Ok(token.clone()));
        assert_eq!(token.expires(), 1_700_000_000_000);
        assert_eq!(format!("{token:?}"), "ResumeToken(…)");
        for wrong in ["", "x", &text[1..], &format!("{text}A"), &text.replace(&text[..1], "!")] {
            assert_eq!(wrong.parse::<ResumeToken>(), Err(NoToken), "{wrong}");
        }
    }

    #[test]
    fn no_two_are_alike_and_each_bit_counts() {
        let token = ResumeToken::random(7);
        assert_ne!(token, ResumeToken::random(7));
        let imprint = token.imprint();
        assert_eq!(imprint, token.imprint());
        for bit in 0..LENGTH * 8 {
            let mut other = token.clone();
            other.0[bit / 8] ^= 1 << (bit % 8);
            let other = other.imprint();
            assert!(other.key != imprint.key && !other.proof.matches(&imprint.proof), "bit {bit}");
        }
        assert!(imprint.proof.matches(&token.imprint().proof));
    }
}

//! AES counter mode with an 80-bit HMAC-SHA1 tag, for peers without GCM: RFC 3711 §4.
//!
//! We do this here rather than through `rtc-srtp` for three reasons: the tag is checked before
//! anything else is believed, nothing is kept for an SSRC before that, and the packet index is
//! ours to choose, so both profiles share one replay and rollover logic.

use aws_lc_rs::cipher::EncryptingKey;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac::{self, HMAC_SHA1_FOR_LEGACY_USE_ONLY};
use bytes::{BufMut, BytesMut};

use super::kdf::{Label, aes, derive, keystream};
use super::{ENCRYPTED, MasterKey, RTCP_HEADER, SrtpError, Unauthentic};
use crate::ids::Ssrc;

/// Bytes of HMAC-SHA1 that go on the wire, for RTP and RTCP alike.
pub(super) const TAG: usize = 10;
const SALT: usize = 14;
/// RFC 3711 §4.2.1: the authentication key is 160 bits.
const AUTH_KEY: usize = 20;

/// One direction's keys under SRTP_AES128_CM_HMAC_SHA1_80.
pub(super) struct Cm {
    rtp: Keys,
    rtcp: Keys,
}

struct Keys {
    cipher: EncryptingKey,
    salt: [u8; SALT],
    auth: hmac::Key,
}

impl Cm {
    pub(super) fn new(master: &MasterKey) -> Result<Self, SrtpError> {
        Ok(Cm {
            rtp: Keys::new(master, [Label::RtpEncryption, Label::RtpSalt, Label::RtpAuthentication])?,
            rtcp: Keys::new(master, [Label::RtcpEncryption, Label::RtcpSalt, Label::RtcpAuthentication])?,
        })
    }

    /// Seals `packet[..plain_len]`; the tag goes behind it. The room has been checked.
    pub(super) fn seal_rtp(
        &self,
        ssrc: Ssrc,
        index: u64,
        header_len: usize,
        plain_len: usize,
        packet: &mut [u8],
    ) -> Result<usize, SrtpError> {
        let (plain, rest) = packet.split_at_mut(plain_len);
        self.rtp.crypt(ssrc, index, &mut plain[header_len..])?;
        rest[..TAG].copy_from_slice(&self.rtp.tag(plain, &roc(index)));
        Ok(plain_len + TAG)
    }

    /// Opens `packet` in place; a refusal leaves it as it was.
    pub(super) fn open_rtp(
        &self,
        ssrc: Ssrc,
        index: u64,
        header_len: usize,
        packet: &mut [u8],
    ) -> Result<usize, Unauthentic> {
        let len = packet.len().checked_sub(TAG).ok_or(Unauthentic)?;
        let (sealed, tag) = packet.split_at_mut(len);
        verify_slices_are_equal(&self.rtp.tag(sealed, &roc(index)), tag).map_err(|_| Unauthentic)?;
        let payload = sealed.get_mut(header_len..).ok_or(Unauthentic)?;
        self.rtp.crypt(ssrc, index, payload).map_err(|_| Unauthentic)?;
        Ok(len)
    }

    /// RFC 3711 §3.4: header ‖ ciphertext ‖ E and index ‖ tag.
    pub(super) fn seal_rtcp(&self, ssrc: Ssrc, index: u32, compound: &[u8]) -> Result<BytesMut, SrtpError> {
        let mut out = BytesMut::with_capacity(compound.len() + 4 + TAG);
        out.put_slice(compound);
        let payload = out.get_mut(RTCP_HEADER..).ok_or(SrtpError::Short)?;
        self.rtcp.crypt(ssrc, index.into(), payload)?;
        out.put_u32(index | ENCRYPTED);
        let tag = self.rtcp.tag(&out, &[]);
        out.put_slice(&tag);
        Ok(out)
    }

    /// The caller has read `index` from the word before the tag and seen its E bit set.
    pub(super) fn open_rtcp(&self, ssrc: Ssrc, index: u32, packet: &[u8]) -> Result<BytesMut, Unauthentic> {
        let (sealed, tag) = packet.split_at_checked(packet.len().wrapping_sub(TAG)).ok_or(Unauthentic)?;
        verify_slices_are_equal(&self.rtcp.tag(sealed, &[]), tag).map_err(|_| Unauthentic)?;
        let len = sealed.len().checked_sub(4).ok_or(Unauthentic)?;
        let mut out = BytesMut::from(sealed.get(..len).ok_or(Unauthentic)?);
        let payload = out.get_mut(RTCP_HEADER..).ok_or(Unauthentic)?;
        self.rtcp.crypt(ssrc, index.into(), payload).map_err(|_| Unauthentic)?;
        Ok(out)
    }
}

impl Keys {
    fn new(master: &MasterKey, [key, salt, auth]: [Label; 3]) -> Result<Self, SrtpError> {
        let mut cipher_key = [0; 16];
        let mut salt_bytes = [0; SALT];
        let mut auth_key = [0; AUTH_KEY];
        derive(master, key, &mut cipher_key)?;
        derive(master, salt, &mut salt_bytes)?;
        derive(master, auth, &mut auth_key)?;
        Ok(Keys {
            cipher: aes(&cipher_key)?,
            salt: salt_bytes,
            auth: hmac::Key::new(HMAC_SHA1_FOR_LEGACY_USE_ONLY, &auth_key),
        })
    }

    /// RFC 3711 §4.1.1: the counter starts at (salt · 2¹⁶) ⊕ (SSRC · 2⁶⁴) ⊕ (index · 2¹⁶).
    fn crypt(&self, ssrc: Ssrc, index: u64, data: &mut [u8]) -> Result<(), SrtpError> {
        let mut counter = [0; 16];
        counter[4..8].copy_from_slice(&ssrc.0.to_be_bytes());
        counter[8..14].copy_from_slice(&index.to_be_bytes()[2..]);
        for (byte, salt) in counter.iter_mut().zip(self.salt) {
            *byte ^= salt;
        }
        keystream(&self.cipher, counter, data)
    }

    fn tag(&self, data: &[u8], suffix: &[u8]) -> [u8; TAG] {
        let mut context = hmac::Context::with_key(&self.auth);
        context.update(data);
        context.update(suffix);
        let mut tag = [0; TAG];
        tag.copy_from_slice(&context.sign().as_ref()[..TAG]);
        tag
    }
}

/// RFC 3711 §4.2: the rollover counter is authenticated with the packet, though not sent.
fn roc(index: u64) -> [u8; 4] {
    ((index >> 16) as u32).to_be_bytes()
}

/// RFC 3711 §B.2: the AES-CM key stream. (The tag has no vector of its own in RFC 3711; the tests
/// against `rtc-srtp` in `super` cover it.)
#[test]
fn the_key_stream_matches_rfc_3711() {
    use super::tests::hex;
    let keys = Keys {
        cipher: aes(&hex("2B7E151628AED2A6ABF7158809CF4F3C")).unwrap(),
        salt: hex("F0F1F2F3F4F5F6F7F8F9FAFBFCFD").try_into().unwrap(),
        auth: hmac::Key::new(HMAC_SHA1_FOR_LEGACY_USE_ONLY, &[]),
    };
    let mut stream = [0; 32];
    keys.crypt(Ssrc(0), 0, &mut stream).unwrap();
    assert_eq!(stream[..], hex("E03EAD0935C95E80E166B16DD92B4EB4D23513162B02D0F72A43A2FE4A5F97AB"));
}

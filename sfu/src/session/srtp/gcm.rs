//! AES-GCM for SRTP and SRTCP, in place: RFC 7714.

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use bytes::{BufMut, BytesMut};

use super::kdf::{Label, derive};
use super::{ENCRYPTED, MasterKey, RTCP_HEADER, SrtpError, Unauthentic};
use crate::ids::Ssrc;

/// Bytes GCM adds to a packet.
pub(super) const TAG: usize = 16;
const SALT: usize = 12;

/// One direction's keys under an AEAD profile.
pub(super) struct Gcm {
    rtp: LessSafeKey,
    rtp_salt: [u8; SALT],
    rtcp: LessSafeKey,
    rtcp_salt: [u8; SALT],
}

impl Gcm {
    pub(super) fn new(master: &MasterKey) -> Result<Self, SrtpError> {
        let key = |label| {
            let mut key = [0; 32];
            let key = key.get_mut(..master.key.len()).ok_or(SrtpError::KeyLength)?;
            derive(master, label, key)?;
            session_key(key)
        };
        let salt = |label| {
            let mut salt = [0; SALT];
            derive(master, label, &mut salt).map(|()| salt)
        };
        Ok(Gcm {
            rtp: key(Label::RtpEncryption)?,
            rtp_salt: salt(Label::RtpSalt)?,
            rtcp: key(Label::RtcpEncryption)?,
            rtcp_salt: salt(Label::RtcpSalt)?,
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
        let (header, payload) = plain.split_at_mut(header_len);
        let tag = self
            .rtp
            .seal_in_place_separate_tag(self.rtp_nonce(ssrc, index), Aad::from(&*header), payload)
            .map_err(|_| SrtpError::Crypto)?;
        rest[..TAG].copy_from_slice(tag.as_ref());
        Ok(plain_len + TAG)
    }

    /// Opens `packet` in place. On refusal its payload is no longer meaningful.
    pub(super) fn open_rtp(
        &self,
        ssrc: Ssrc,
        index: u64,
        header_len: usize,
        packet: &mut [u8],
    ) -> Result<usize, Unauthentic> {
        let (header, sealed) = packet.split_at_mut_checked(header_len).ok_or(Unauthentic)?;
        let plain = self
            .rtp
            .open_in_place(self.rtp_nonce(ssrc, index), Aad::from(&*header), sealed)
            .map_err(|_| Unauthentic)?;
        Ok(header_len + plain.len())
    }

    /// Opens `packet` into `scratch` first, so that a refusal leaves it as it was.
    pub(super) fn open_rtp_keeping(
        &self,
        ssrc: Ssrc,
        index: u64,
        header_len: usize,
        packet: &mut [u8],
        scratch: &mut [u8],
    ) -> Result<usize, Unauthentic> {
        let (header, sealed) = packet.split_at_mut_checked(header_len).ok_or(Unauthentic)?;
        let len = sealed.len().checked_sub(TAG).ok_or(Unauthentic)?;
        let (cipher, tag) = sealed.split_at_mut(len);
        let plain = scratch.get_mut(..len).ok_or(Unauthentic)?;
        let nonce = self.rtp_nonce(ssrc, index);
        self.rtp
            .open_separate_gather(nonce, Aad::from(&*header), cipher, tag, plain)
            .map_err(|_| Unauthentic)?;
        cipher.copy_from_slice(plain);
        Ok(header_len + len)
    }

    /// RFC 7714 §9: header ‖ ciphertext ‖ tag ‖ E and index.
    pub(super) fn seal_rtcp(&self, ssrc: Ssrc, index: u32, compound: &[u8]) -> Result<BytesMut, SrtpError> {
        let mut out = BytesMut::with_capacity(compound.len() + TAG + 4);
        out.put_slice(compound);
        let word = (index | ENCRYPTED).to_be_bytes();
        let (header, payload) = out.split_at_mut_checked(RTCP_HEADER).ok_or(SrtpError::Short)?;
        let tag = self
            .rtcp
            .seal_in_place_separate_tag(self.rtcp_nonce(ssrc, index), rtcp_aad(header, word), payload)
            .map_err(|_| SrtpError::Crypto)?;
        out.put_slice(tag.as_ref());
        out.put_slice(&word);
        Ok(out)
    }

    /// The caller has read `index` from the packet's last word and seen its E bit set.
    pub(super) fn open_rtcp(&self, ssrc: Ssrc, index: u32, packet: &[u8]) -> Result<BytesMut, Unauthentic> {
        let sealed_len = packet.len().checked_sub(4).ok_or(Unauthentic)?;
        let mut out = BytesMut::from(packet.get(..sealed_len).ok_or(Unauthentic)?);
        let (header, sealed) = out.split_at_mut_checked(RTCP_HEADER).ok_or(Unauthentic)?;
        let aad = rtcp_aad(header, (index | ENCRYPTED).to_be_bytes());
        let plain = self
            .rtcp
            .open_in_place(self.rtcp_nonce(ssrc, index), aad, sealed)
            .map_err(|_| Unauthentic)?
            .len();
        out.truncate(RTCP_HEADER + plain);
        Ok(out)
    }

    /// RFC 7714 §8.1: 00 00 ‖ SSRC ‖ ROC ‖ SEQ, with the salt added. ROC ‖ SEQ is the 48-bit index.
    fn rtp_nonce(&self, ssrc: Ssrc, index: u64) -> Nonce {
        let mut iv = [0; SALT];
        iv[2..6].copy_from_slice(&ssrc.0.to_be_bytes());
        iv[6..].copy_from_slice(&index.to_be_bytes()[2..]);
        salted(iv, &self.rtp_salt)
    }

    /// RFC 7714 §9.1: 00 00 ‖ SSRC ‖ 00 00 ‖ index, with the salt added.
    fn rtcp_nonce(&self, ssrc: Ssrc, index: u32) -> Nonce {
        let mut iv = [0; SALT];
        iv[2..6].copy_from_slice(&ssrc.0.to_be_bytes());
        iv[8..].copy_from_slice(&index.to_be_bytes());
        salted(iv, &self.rtcp_salt)
    }
}

fn session_key(key: &[u8]) -> Result<LessSafeKey, SrtpError> {
    let algorithm = if key.len() == 32 { &AES_256_GCM } else { &AES_128_GCM };
    let key = UnboundKey::new(algorithm, key).map_err(|_| SrtpError::KeyLength)?;
    Ok(LessSafeKey::new(key))
}

fn salted(mut iv: [u8; SALT], salt: &[u8; SALT]) -> Nonce {
    for (byte, salt) in iv.iter_mut().zip(salt) {
        *byte ^= salt;
    }
    Nonce::assume_unique_for_key(iv)
}

/// RFC 7714 §9.2: the first eight bytes of the compound and the E ‖ index word.
fn rtcp_aad(header: &[u8], word: [u8; 4]) -> Aad<[u8; RTCP_HEADER + 4]> {
    let mut aad = [0; RTCP_HEADER + 4];
    aad[..RTCP_HEADER].copy_from_slice(header);
    aad[RTCP_HEADER..].copy_from_slice(&word);
    Aad::from(aad)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::srtp::tests::hex;

    const RTP: &str = "8040f17b8041f8d35501a0b247616c6c696120657374206f6d6e697320646976\
                       69736120696e207061727465732074726573";
    const RTP_128: &str = "8040f17b8041f8d35501a0b2f24de3a3fb34de6cacba861c9d7e4bcabe633bd5\
                           0d294e6f42a5f47a51c7d19b36de3adf8833899d7f27beb16a9152cf765ee439\
                           0cce";
    const RTP_256: &str = "8040f17b8041f8d35501a0b232b1de78a822fe12ef9f78fa332e33aab1801238\
                           9a58e2f3b50b2a0276ffae0f1ba63799b87b7aa3db36dfffd6b0f9bb7878d7a7\
                           6c13";
    const RTCP: &str = "81c8000d4d6172734e5450314e545032525450200000042a0000e9304c756e61\
                        deadbeefdeadbeefdeadbeefdeadbeefdeadbeef";
    const RTCP_128: &str = "81c8000d4d61727363e94885dcdab67ca727d7662f6b7e997ff5c0f76c06f32d\
                            c676a5f1730d6fda4ce09b4686303ded0bb9275bc84aa45896cf4d2fc5abf872\
                            45d9eade800005d4";
    const RTCP_256: &str = "81c8000d4d617273d50ae4d1f5ce5d304ba297e47d470c282c3ece5dbffe0a50\
                            a2eaa5c1110555be8415f658c61de0476f1b6fad1d1eb30c4446839f57ff6f6c\
                            b26ac3be800005d4";

    /// The vectors give session keys, not master keys: the same key and salt for RTP and RTCP.
    fn rfc_keys(len: u8) -> Gcm {
        let key: Vec<u8> = (0..len).collect();
        let salt = *b"Quid pro quo";
        Gcm {
            rtp: session_key(&key).unwrap(),
            rtp_salt: salt,
            rtcp: session_key(&key).unwrap(),
            rtcp_salt: salt,
        }
    }

    /// RFC 7714 §16.1 and §16.2: ROC 0, SEQ f17b.
    #[test]
    fn rtp_matches_rfc_7714() {
        for (keys, sealed) in [(rfc_keys(16), hex(RTP_128)), (rfc_keys(32), hex(RTP_256))] {
            let (ssrc, index, plain) = (Ssrc(0x5501_a0b2), 0xf17b, hex(RTP));
            let mut packet = plain.clone();
            packet.resize(plain.len() + TAG, 0);
            let len = keys.seal_rtp(ssrc, index, 12, plain.len(), &mut packet).unwrap();
            assert_eq!(packet[..len], sealed);

            let mut scratch = [0; 64];
            let mut kept = packet.clone();
            assert!(keys.open_rtp_keeping(ssrc, index + 1, 12, &mut kept, &mut scratch).is_err());
            assert_eq!(kept, packet);
            let len = keys.open_rtp_keeping(ssrc, index, 12, &mut kept, &mut scratch).unwrap();
            assert_eq!(kept[..len], plain);

            let len = keys.open_rtp(ssrc, index, 12, &mut packet).unwrap();
            assert_eq!(packet[..len], plain);
        }
    }

    /// RFC 7714 §17.1 and §17.2: index 5d4.
    #[test]
    fn rtcp_matches_rfc_7714() {
        for (keys, sealed) in [(rfc_keys(16), hex(RTCP_128)), (rfc_keys(32), hex(RTCP_256))] {
            let (ssrc, index, plain) = (Ssrc(0x4d61_7273), 0x5d4, hex(RTCP));
            assert_eq!(keys.seal_rtcp(ssrc, index, &plain).unwrap(), sealed);
            assert_eq!(keys.open_rtcp(ssrc, index, &sealed).unwrap(), plain);
        }
    }
}

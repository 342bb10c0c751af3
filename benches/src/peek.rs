//! Reading the first bytes of SRTP payloads without checking the rest.
//!
//! AES-GCM and AES-CM are both a keystream laid over the payload, so that its head can be read for a
//! fraction of what authenticating all of it costs. A load generator shares the machine with what it loads:
//! it reads the head of every packet, and opens a sample of them in full.

use aws_lc_rs::cipher::{AES_128, DecryptingKey, DecryptionContext, UnboundCipherKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::iv::FixedLength;
use rtc_srtp::protection_profile::ProtectionProfile;

/// The keystream of one direction of an SRTP session.
pub struct Peek {
    key: DecryptingKey,
    /// On the right filled with zeros, as RFC 7714 §11 has it for GCM.
    salt: [u8; 14],
    gcm: bool,
}

impl Peek {
    /// Derives the session key from the master key and salt: RFC 3711 §4.3.
    pub fn new(profile: ProtectionProfile, key: &[u8], salt: &[u8]) -> Result<Peek, Unspecified> {
        let gcm = matches!(profile, ProtectionProfile::AeadAes128Gcm);
        let salt_len = if gcm { 12 } else { 14 };
        let mut master_salt = [0; 14];
        master_salt[..salt_len].copy_from_slice(salt.get(..salt_len).ok_or(Unspecified)?);
        let master = counter_mode(key)?;
        let derive = |label: u8| {
            let mut block = [0; 16];
            block[..14].copy_from_slice(&master_salt);
            block[7] ^= label;
            let mut stream = [0; 16];
            apply(&master, block, &mut stream)?;
            Ok::<_, Unspecified>(stream)
        };
        let session_key = derive(LABEL_KEY)?;
        let stream = derive(LABEL_SALT)?;
        let mut salt = [0; 14];
        salt[..salt_len].copy_from_slice(&stream[..salt_len]);
        Ok(Peek { key: counter_mode(&session_key)?, salt, gcm })
    }

    /// Decrypts the first bytes of a payload in place. `index` is the sequence number with its rollovers.
    pub fn open(&self, ssrc: u32, index: u64, head: &mut [u8]) -> Result<(), Unspecified> {
        let mut block = [0; 16];
        block[..14].copy_from_slice(&self.salt);
        let ssrc_at = if self.gcm { 2 } else { 4 };
        let index = &index.to_be_bytes()[2..];
        let unique = ssrc.to_be_bytes().into_iter().chain(index.iter().copied());
        block[ssrc_at..].iter_mut().zip(unique).for_each(|(byte, with)| *byte ^= with);
        if self.gcm {
            // RFC 7714 §8.1: twelve bytes, then GCM's own counter, whose 1 is the tag's.
            block[12..].copy_from_slice(&2_u32.to_be_bytes());
        }
        apply(&self.key, block, head)
    }
}

fn counter_mode(key: &[u8]) -> Result<DecryptingKey, Unspecified> {
    DecryptingKey::ctr(UnboundCipherKey::new(&AES_128, key)?)
}

fn apply(key: &DecryptingKey, block: [u8; 16], bytes: &mut [u8]) -> Result<(), Unspecified> {
    key.decrypt(bytes, DecryptionContext::Iv128(FixedLength::from(block))).map(|_| ())
}

const LABEL_KEY: u8 = 0;
const LABEL_SALT: u8 = 2;

#[cfg(test)]
mod tests {
    use rtc_srtp::context::Context;

    use super::*;

    /// The library seals, we look.
    fn agree(profile: ProtectionProfile, salt_len: usize) {
        let provider = rtc_crypto::default_provider().unwrap();
        let (key, salt) = ([7; 16], vec![9; salt_len]);
        let mut sealing = Context::new(&key, &salt, profile, None, None, provider.crypto()).unwrap();
        let peek = Peek::new(profile, &key, &salt).unwrap();
        for seq in [1_u16, 40_000, 65_535, 0, 5] {
            let mut packet = vec![0x80, 96];
            packet.extend(seq.to_be_bytes());
            packet.extend([1, 2, 3, 4, 0xde, 0xad, 0xbe, 0xef]);
            packet.extend((0..200).map(|byte| byte as u8));
            let sealed = sealing.encrypt_rtp(&packet).unwrap();
            let index = if seq <= 5 && seq != 1 { 65_536 + u64::from(seq) } else { seq.into() };
            let mut head = sealed[12..62].to_vec();
            peek.open(0xdead_beef, index, &mut head).unwrap();
            assert_eq!(head, packet[12..62], "{profile:?} {seq}");
        }
    }

    #[test]
    fn the_head_is_what_was_sealed() {
        agree(ProtectionProfile::AeadAes128Gcm, 12);
        agree(ProtectionProfile::Aes128CmHmacSha1_80, 14);
    }
}

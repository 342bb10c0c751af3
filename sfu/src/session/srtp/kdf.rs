//! Session keys from a master key: RFC 3711 §4.3, with AES-256 as in RFC 6188.

use aws_lc_rs::cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;

use super::{MasterKey, SrtpError};

/// What a derived key is for, RFC 3711 §4.3.1 and §4.3.2.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(super) enum Label {
    RtpEncryption = 0,
    RtpAuthentication = 1,
    RtpSalt = 2,
    RtcpEncryption = 3,
    RtcpAuthentication = 4,
    RtcpSalt = 5,
}

/// Fills `out` with the key stream that `label` selects.
///
/// The key derivation rate is zero in DTLS-SRTP (RFC 5764 §4.1.2), so the label alone decides. The
/// PRF is AES in counter mode from `(label ‖ 0⁴⁸) ⊕ salt`, shifted left by the 16 counter bits; the
/// 96-bit salts of the GCM profiles are padded with zeros on the right (RFC 7714 §11).
pub(super) fn derive(master: &MasterKey, label: Label, out: &mut [u8]) -> Result<(), SrtpError> {
    let mut counter = [0; 16];
    let salt = master.salt.get(..14).unwrap_or(&master.salt);
    counter[..salt.len()].copy_from_slice(salt);
    counter[7] ^= label as u8;
    out.fill(0);
    keystream(&aes(&master.key)?, counter, out)
}

/// AES-CM's cipher for a 128- or 256-bit key.
pub(super) fn aes(key: &[u8]) -> Result<EncryptingKey, SrtpError> {
    let algorithm = if key.len() == 32 { &AES_256 } else { &AES_128 };
    let key = UnboundCipherKey::new(algorithm, key).map_err(|_| SrtpError::KeyLength)?;
    EncryptingKey::ctr(key).map_err(|_| SrtpError::Crypto)
}

/// Adds the counter-mode key stream that starts at `counter` to `data`.
pub(super) fn keystream(key: &EncryptingKey, counter: [u8; 16], data: &mut [u8]) -> Result<(), SrtpError> {
    let counter = EncryptionContext::Iv128(FixedLength::from(counter));
    key.less_safe_encrypt(data, counter).map(drop).map_err(|_| SrtpError::Crypto)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::srtp::tests::hex;

    fn derived(master: &MasterKey, label: Label, len: usize) -> Vec<u8> {
        let mut out = vec![0xaa; len];
        derive(master, label, &mut out).unwrap();
        out
    }

    /// RFC 3711 §B.3.
    #[test]
    fn aes_128_keys_match_rfc_3711() {
        let master = MasterKey {
            key: hex("E1F97A0D3E018BE0D64FA32C06DE4139"),
            salt: hex("0EC675AD498AFEEBB6960B3AABE6"),
        };
        assert_eq!(derived(&master, Label::RtpEncryption, 16), hex("C61E7A93744F39EE10734AFE3FF7A087"));
        assert_eq!(derived(&master, Label::RtpSalt, 14), hex("30CBBC08863D8C85D49DB34A9AE1"));
        assert_eq!(
            derived(&master, Label::RtpAuthentication, 94),
            hex("CEBE321F6FF7716B6FD4AB49AF256A156D38BAA48F0A0ACF3C34E2359E6CDBCE\
                 E049646C43D9327AD175578EF72270986371C10C9A369AC2F94A8C5FBCDDDC25\
                 6D6E919A48B610EF17C2041E474035766B68642C59BBFC2F34DB60DBDFB2")
        );
    }

    /// RFC 6188 §7.2.
    #[test]
    fn aes_256_keys_match_rfc_6188() {
        let master = MasterKey {
            key: hex("F0F04914B513F2763A1B1FA130F10E2998F6F6E43E4309D1E622A0E332B9F1B6"),
            salt: hex("3B04803DE51EE7C96423AB5B78D2"),
        };
        assert_eq!(
            derived(&master, Label::RtpEncryption, 32),
            hex("5BA1064E30EC51613CAD926C5A28EF731EC7FB397F70A960653CAF06554CD8C4")
        );
        assert_eq!(derived(&master, Label::RtpSalt, 14), hex("FA31791685CA444A9E07C6C64E93"));
    }
}

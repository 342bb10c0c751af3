//! Who we are to our peers, and how we know one: certificates and their fingerprints. RFC 8122 §5.

use std::str::FromStr;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{self, SHA256, SHA384, SHA512};
use rtc_crypto::RTCCryptoProvider;
use rtc_dtls::config::{ConfigBuilder, HandshakeConfig};
use rtc_dtls::crypto::Certificate;

/// Who we are to every peer: a self-signed P-256 certificate.
pub struct Identity {
    pub(super) certificate: Certificate,
    pub(super) provider: Arc<dyn RTCCryptoProvider>,
    /// What associations go on with after their handshake.
    pub(super) settled: Arc<HandshakeConfig>,
    fingerprint: String,
}

impl Identity {
    /// A fresh key and certificate.
    ///
    /// # Errors
    ///
    /// When the cryptography library cannot make one.
    pub fn generate() -> Result<Self, IdentityError> {
        let provider = rtc_crypto::default_provider().map_err(|_| IdentityError)?;
        let certificate = Certificate::generate_self_signed(["sluicegate".to_owned()], provider.crypto())
            .map_err(|_| IdentityError)?;
        let der = certificate.certificate.first().ok_or(IdentityError)?;
        let hash = digest::digest(&SHA256, der);
        let hex: Vec<_> = hash.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
        let fingerprint = format!("sha-256 {}", hex.join(":"));
        let settled = ConfigBuilder::default()
            .with_crypto_provider(provider.clone())
            .with_insecure_skip_verify(true)
            .build(true, None)
            .map_err(|_| IdentityError)?;
        Ok(Identity { certificate, provider, settled: Arc::new(settled), fingerprint })
    }

    /// The value of SDP's `a=fingerprint`.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

/// No certificate could be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("cannot generate a certificate")]
pub struct IdentityError;

/// The hash of the certificate that a peer announces in SDP, RFC 8122 §5.
#[derive(Clone)]
pub struct Fingerprint {
    algorithm: &'static digest::Algorithm,
    hash: Vec<u8>,
}

impl Fingerprint {
    /// Reads `sha-256`, `sha-384` or `sha-512` and a hash in hexadecimal, with colons.
    pub fn parse(algorithm: &str, hex: &str) -> Option<Fingerprint> {
        let algorithm = match algorithm.to_ascii_lowercase().as_str() {
            "sha-256" => &SHA256,
            "sha-384" => &SHA384,
            "sha-512" => &SHA512,
            _ => return None,
        };
        let byte = |text: &str| {
            let hex = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
            hex.then(|| u8::from_str_radix(text, 16).ok())?
        };
        let hash: Vec<u8> = hex.trim().split(':').map(byte).collect::<Option<_>>()?;
        (hash.len() == algorithm.output_len()).then_some(Fingerprint { algorithm, hash })
    }

    pub(super) fn matches(&self, certificate: &[u8]) -> bool {
        let hash = digest::digest(self.algorithm, certificate);
        verify_slices_are_equal(hash.as_ref(), &self.hash).is_ok()
    }
}

/// Reads the value of `a=fingerprint`, such as `sha-256 AA:BB:…`.
impl FromStr for Fingerprint {
    type Err = FingerprintError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (algorithm, hex) = text.trim().split_once(' ').ok_or(FingerprintError)?;
        Fingerprint::parse(algorithm, hex).ok_or(FingerprintError)
    }
}

/// A text that is not a certificate fingerprint we can check.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a sha-256, sha-384 or sha-512 fingerprint")]
pub struct FingerprintError;

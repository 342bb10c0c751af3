//! The library's cryptography, as one attempt at a handshake needs it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use aws_lc_rs::digest::{Context, SHA256};
use rtc_crypto::{
    ActiveKeyExchange, AeadAlgorithm, AeadCipher, BlockCipherAlgorithm, CbcAlgorithm, CbcCipher,
    CryptoAlgorithm, CryptoError, HashAlgorithm, HmacAlgorithm, KeyExchangeAlgorithm, Mac, PublicKey,
    RTCCrypto, RTCCryptoProvider, RTCRandom, SignatureScheme, SigningKey, StreamCipher,
    StreamCipherAlgorithm,
};

use super::COOKIE;

/// The library's cryptography, except that the first draw of a cookie's length is our cookie, and that a signature is
/// verified once.
///
/// Should the library ever draw it differently, the test with somebody else's ClientHello fails,
/// and nothing else depends on it.
pub struct FixedCookie {
    provider: Arc<dyn RTCCryptoProvider>,
    cookie: [u8; COOKIE],
    drawn: AtomicBool,
    verified: OnceLock<[u8; 32]>,
}

impl FixedCookie {
    pub fn new(provider: Arc<dyn RTCCryptoProvider>, cookie: [u8; COOKIE]) -> Self {
        FixedCookie { provider, cookie, drawn: AtomicBool::new(false), verified: OnceLock::new() }
    }
}

impl RTCCryptoProvider for FixedCookie {
    fn name(&self) -> &'static str {
        self.provider.name()
    }

    fn crypto(&self) -> &dyn RTCCrypto {
        self
    }

    fn random(&self) -> &dyn RTCRandom {
        self
    }
}

impl RTCRandom for FixedCookie {
    fn fill(&self, output: &mut [u8]) -> Result<(), CryptoError> {
        if output.len() == COOKIE && !self.drawn.swap(true, Ordering::Relaxed) {
            output.copy_from_slice(&self.cookie);
            return Ok(());
        }
        self.provider.random().fill(output)
    }
}

/// The provider's own, but for one method.
impl RTCCrypto for FixedCookie {
    fn supports(&self, algorithm: CryptoAlgorithm) -> bool {
        self.provider.crypto().supports(algorithm)
    }

    fn hash(&self, algorithm: HashAlgorithm, data: &[u8]) -> Result<Vec<u8>, CryptoError> {
        self.provider.crypto().hash(algorithm, data)
    }

    fn block_encrypt(
        &self,
        algorithm: BlockCipherAlgorithm,
        key: &[u8],
        block: &mut [u8],
    ) -> Result<(), CryptoError> {
        self.provider.crypto().block_encrypt(algorithm, key, block)
    }

    fn new_hmac(&self, algorithm: HmacAlgorithm, key: &[u8]) -> Result<Box<dyn Mac>, CryptoError> {
        self.provider.crypto().new_hmac(algorithm, key)
    }

    fn new_stream_cipher(
        &self,
        algorithm: StreamCipherAlgorithm,
        key: &[u8],
    ) -> Result<Box<dyn StreamCipher>, CryptoError> {
        self.provider.crypto().new_stream_cipher(algorithm, key)
    }

    fn new_aead(&self, algorithm: AeadAlgorithm, key: &[u8]) -> Result<Box<dyn AeadCipher>, CryptoError> {
        self.provider.crypto().new_aead(algorithm, key)
    }

    fn new_cbc(&self, algorithm: CbcAlgorithm, key: &[u8]) -> Result<Box<dyn CbcCipher>, CryptoError> {
        self.provider.crypto().new_cbc(algorithm, key)
    }

    fn start_key_exchange(
        &self,
        algorithm: KeyExchangeAlgorithm,
    ) -> Result<Box<dyn ActiveKeyExchange>, CryptoError> {
        self.provider.crypto().start_key_exchange(algorithm)
    }

    fn generate_signing_key(&self, scheme: SignatureScheme) -> Result<Arc<dyn SigningKey>, CryptoError> {
        self.provider.crypto().generate_signing_key(scheme)
    }

    fn import_signing_key(
        &self,
        scheme: SignatureScheme,
        pkcs8_der: &[u8],
    ) -> Result<Arc<dyn SigningKey>, CryptoError> {
        self.provider.crypto().import_signing_key(scheme, pkcs8_der)
    }

    /// The library reads the client's last flight anew with each part of it that comes, and verifies what it has verified.
    /// That is a seventh of a join. The first signature that held is remembered, with all that it was about, as a hash.
    fn verify_signature(
        &self,
        scheme: SignatureScheme,
        public_key: PublicKey<'_>,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), CryptoError> {
        let about = hash_of(scheme, public_key, message, signature);
        if self.verified.get() == Some(&about) {
            return Ok(());
        }
        self.provider.crypto().verify_signature(scheme, public_key, message, signature)?;
        let _ = self.verified.set(about);
        Ok(())
    }
}

fn hash_of(scheme: SignatureScheme, key: PublicKey<'_>, message: &[u8], signature: &[u8]) -> [u8; 32] {
    let mut hash = Context::new(&SHA256);
    // With their lengths: none can borrow from its neighbour.
    let kinds = format!("{scheme:?} {:?}", key.encoding);
    for part in [kinds.as_bytes(), key.bytes, signature, message] {
        hash.update(&(part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let mut about = [0; 32];
    about.copy_from_slice(hash.finish().as_ref());
    about
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// Counts what is verified.
    struct Counting {
        provider: Arc<dyn RTCCryptoProvider>,
        verified: AtomicUsize,
    }

    impl RTCCryptoProvider for Counting {
        fn name(&self) -> &'static str {
            self.provider.name()
        }

        fn crypto(&self) -> &dyn RTCCrypto {
            self
        }

        fn random(&self) -> &dyn RTCRandom {
            self.provider.random()
        }
    }

    impl RTCCrypto for Counting {
        fn supports(&self, algorithm: CryptoAlgorithm) -> bool {
            self.provider.crypto().supports(algorithm)
        }

        fn verify_signature(
            &self,
            scheme: SignatureScheme,
            public_key: PublicKey<'_>,
            message: &[u8],
            signature: &[u8],
        ) -> Result<(), CryptoError> {
            self.verified.fetch_add(1, Ordering::Relaxed);
            self.provider.crypto().verify_signature(scheme, public_key, message, signature)
        }
    }

    #[test]
    fn a_signature_that_held_is_not_verified_again_and_no_other_passes_for_it() {
        let provider = rtc_crypto::default_provider().expect("there is one");
        let scheme = SignatureScheme::EcdsaP256Sha256;
        let [key, other] = [0; 2].map(|_| provider.crypto().generate_signing_key(scheme).expect("a key"));
        let signature = key.sign(scheme, b"a handshake").expect("it signs");
        let counting = Arc::new(Counting { provider, verified: AtomicUsize::new(0) });
        let fixed = FixedCookie::new(counting.clone(), [0; COOKIE]);
        let verify = |key: &Arc<dyn SigningKey>, message: &[u8], signature: &[u8]| {
            fixed.crypto().verify_signature(scheme, key.public_key(), message, signature).is_ok()
        };
        let mut spoilt = signature.clone();
        *spoilt.last_mut().expect("it has bytes") ^= 1;
        assert!(!verify(&key, b"a handshake", &spoilt) && !verify(&key, b"a handshake", &spoilt));
        assert_eq!(counting.verified.load(Ordering::Relaxed), 2, "what failed is not remembered");
        assert!(verify(&key, b"a handshake", &signature) && verify(&key, b"a handshake", &signature));
        assert_eq!(counting.verified.load(Ordering::Relaxed), 3);
        assert!(!verify(&key, b"a handshake", &spoilt));
        assert!(!verify(&key, b"another", &signature));
        assert!(!verify(&other, b"a handshake", &signature));
        assert!(verify(&key, b"a handshake", &signature));
        assert_eq!(counting.verified.load(Ordering::Relaxed), 6);
    }
}

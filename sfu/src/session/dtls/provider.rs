//! The library's cryptography, as one attempt at a handshake needs it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rtc_crypto::{CryptoError, RTCCrypto, RTCCryptoProvider, RTCRandom};

use super::COOKIE;

/// The library's cryptography, except that the first draw of a cookie's length is our cookie.
///
/// Should the library ever draw it differently, the test with somebody else's ClientHello fails,
/// and nothing else depends on it.
pub struct FixedCookie {
    provider: Arc<dyn RTCCryptoProvider>,
    cookie: [u8; COOKIE],
    drawn: AtomicBool,
}

impl FixedCookie {
    pub fn new(provider: Arc<dyn RTCCryptoProvider>, cookie: [u8; COOKIE]) -> Self {
        FixedCookie { provider, cookie, drawn: AtomicBool::new(false) }
    }
}

impl RTCCryptoProvider for FixedCookie {
    fn name(&self) -> &'static str {
        self.provider.name()
    }

    fn crypto(&self) -> &dyn RTCCrypto {
        self.provider.crypto()
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

//! DTLS as the active side and SRTP, through `rtc-dtls` and `rtc-srtp`.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::BytesMut;
use rtc_crypto::RTCCryptoProvider;
use rtc_dtls::config::{ConfigBuilder, ExtendedMasterSecretType};
use rtc_dtls::crypto::Certificate;
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_shared::TransportProtocol;
use rtc_shared::error::Error;
use rtc_srtp::config::{Config, LABEL_EXTRACTOR_DTLS_SRTP};
use rtc_srtp::context::Context;
use rtc_srtp::option::{srtcp_replay_protection, srtp_replay_protection};
use rtc_srtp::protection_profile::ProtectionProfile;
use sluicegate::sans_io::{KeyMaterial, MasterKey, Profile};

use crate::peek::Peek;

/// Who a client is: one certificate for all clients of a process is enough for load.
#[derive(Clone)]
pub struct Identity {
    certificate: Certificate,
    /// The cryptography behind everything.
    pub provider: Arc<dyn RTCCryptoProvider>,
    /// The value of `a=fingerprint`.
    pub fingerprint: String,
}

impl Identity {
    /// A fresh self-signed certificate.
    pub fn generate() -> Result<Identity, Error> {
        let crypto = |error| Error::Crypto(format!("{error}"));
        let provider = rtc_crypto::default_provider().map_err(crypto)?;
        let certificate = Certificate::generate_self_signed(["load".to_owned()], provider.crypto())?;
        let hash = digest(&SHA256, &certificate.certificate[0]);
        let hex: Vec<String> = hash.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
        Ok(Identity { certificate, provider, fingerprint: format!("sha-256 {}", hex.join(":")) })
    }
}

/// Which cipher a client offers for its media.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Cipher {
    /// AEAD_AES_128_GCM.
    #[default]
    Gcm,
    /// AES128_CM_HMAC_SHA1_80, which is all that old clients have.
    Cm,
}

/// One client's association with its server.
pub struct Secure {
    endpoint: Endpoint,
    provider: Arc<dyn RTCCryptoProvider>,
    cipher: Cipher,
    contexts: Option<(Context, Context)>,
    peek: Option<Peek>,
    keys: Option<KeyMaterial>,
    /// What the server has said above DTLS. For the caller to take.
    pub data: Vec<BytesMut>,
}

impl Secure {
    /// Begins the handshake; the server must own a certificate of this SHA-256 hash.
    pub fn connect(now: Instant, identity: &Identity, fingerprint: Vec<u8>) -> Result<Secure, Error> {
        Secure::connect_with(now, identity, fingerprint, Cipher::Gcm)
    }

    /// The same, with a cipher of one's choice.
    pub fn connect_with(
        now: Instant,
        identity: &Identity,
        fingerprint: Vec<u8>,
        cipher: Cipher,
    ) -> Result<Secure, Error> {
        let verify = move |chain: &[Vec<u8>], _: &[_]| {
            let same =
                chain.first().is_some_and(|der| digest(&SHA256, der).as_ref() == fingerprint.as_slice());
            if same { Ok(()) } else { Err(Error::Other("the certificate is not the announced one".into())) }
        };
        let config = ConfigBuilder::default()
            .with_crypto_provider(identity.provider.clone())
            .with_certificates(vec![identity.certificate.clone()])
            .with_srtp_protection_profiles(vec![cipher.offered()])
            .with_extended_master_secret(ExtendedMasterSecretType::Require)
            .with_insecure_skip_verify(true)
            .with_verify_peer_certificate(Some(Arc::new(verify)))
            .build(true, Some(SERVER))?;
        let mut endpoint = Endpoint::new(CLIENT, TransportProtocol::UDP, None);
        endpoint.connect(now, SERVER, Arc::new(config), None)?;
        let provider = identity.provider.clone();
        Ok(Secure { endpoint, provider, cipher, contexts: None, peek: None, keys: None, data: Vec::new() })
    }

    /// Whether media can flow.
    pub fn is_connected(&self) -> bool {
        self.contexts.is_some()
    }

    /// The keys as this side has them: what it seals with is `local`.
    pub fn keys(&self) -> Option<&KeyMaterial> {
        self.keys.as_ref()
    }

    /// Takes a DTLS datagram. False: the server has closed the association.
    pub fn handle(&mut self, now: Instant, datagram: &[u8]) -> Result<bool, Error> {
        for event in self.endpoint.read(now, SERVER, None, BytesMut::from(datagram))? {
            match event {
                EndpointEvent::HandshakeComplete => self.contexts = Some(self.derive()?),
                EndpointEvent::PeerClosed => return Ok(false),
                EndpointEvent::ApplicationData(data) => self.data.push(data),
                _ => {}
            }
        }
        Ok(true)
    }

    /// Says something above DTLS. It leaves by [`Secure::poll_transmit`].
    pub fn say(&mut self, now: Instant, data: &[u8]) -> Result<(), Error> {
        self.endpoint.write(now, SERVER, data)
    }

    /// The next datagram of the handshake, and of what is said above it.
    pub fn poll_transmit(&mut self) -> Option<BytesMut> {
        self.endpoint.poll_transmit().map(|transmit| transmit.message)
    }

    /// When to call [`Secure::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.is_connected() { None } else { self.endpoint.poll_timeout(&SERVER) }
    }

    /// Repeats what may be lost.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        self.endpoint.handle_timeout(SERVER, now)
    }

    /// Seals an RTP packet.
    pub fn seal(&mut self, packet: &[u8]) -> Result<BytesMut, Error> {
        self.contexts.as_mut().ok_or(Error::ErrConnectionClosed)?.0.encrypt_rtp(packet)
    }

    /// Opens an SRTP packet.
    pub fn open(&mut self, packet: &[u8]) -> Result<BytesMut, Error> {
        self.contexts.as_mut().ok_or(Error::ErrConnectionClosed)?.1.decrypt_rtp(packet)
    }

    /// Decrypts the head of an RTP payload in place and checks nothing.
    pub fn peek(&self, ssrc: u32, index: u64, head: &mut [u8]) -> Result<(), Error> {
        let peek = self.peek.as_ref().ok_or(Error::ErrConnectionClosed)?;
        peek.open(ssrc, index, head).map_err(|error| Error::Crypto(error.to_string()))
    }

    /// What the cipher adds to an RTP packet, in bytes.
    pub fn tag_len(&self) -> usize {
        if self.cipher == Cipher::Gcm { 16 } else { 10 }
    }

    /// Seals an RTCP compound.
    pub fn seal_rtcp(&mut self, compound: &[u8]) -> Result<BytesMut, Error> {
        self.contexts.as_mut().ok_or(Error::ErrConnectionClosed)?.0.encrypt_rtcp(compound)
    }

    /// Opens an SRTCP compound.
    pub fn open_rtcp(&mut self, packet: &[u8]) -> Result<BytesMut, Error> {
        self.contexts.as_mut().ok_or(Error::ErrConnectionClosed)?.1.decrypt_rtcp(packet)
    }

    fn derive(&mut self) -> Result<(Context, Context), Error> {
        let state = self.endpoint.get_connection_state(SERVER).ok_or(Error::ErrConnectionClosed)?;
        let profile = self.cipher.negotiated();
        let mut config = Config { profile, ..Config::default() };
        let material =
            state.export_keying_material(LABEL_EXTRACTOR_DTLS_SRTP, &[], config.keying_material_len());
        let material = material.map_err(|error| Error::Other(error.to_string()))?;
        config.set_session_keys_from_keying_material(material.as_ref(), true)?;
        let keys = &config.keys;
        let master = |key: &[u8], salt: &[u8]| MasterKey { key: key.to_vec(), salt: salt.to_vec() };
        self.keys = Some(KeyMaterial {
            profile: if self.cipher == Cipher::Gcm { Profile::AesGcm128 } else { Profile::AesCm80 },
            local: master(&keys.local_master_key, &keys.local_master_salt),
            remote: master(&keys.remote_master_key, &keys.remote_master_salt),
        });
        let peek = Peek::new(profile, &keys.remote_master_key, &keys.remote_master_salt);
        self.peek = Some(peek.map_err(|error| Error::Crypto(error.to_string()))?);
        let crypto = self.provider.crypto();
        let seal =
            Context::new(&keys.local_master_key, &keys.local_master_salt, profile, None, None, crypto)?;
        let open = Context::new(
            &keys.remote_master_key,
            &keys.remote_master_salt,
            profile,
            Some(srtp_replay_protection(1024)),
            Some(srtcp_replay_protection(1024)),
            crypto,
        )?;
        Ok((seal, open))
    }
}

impl Cipher {
    fn offered(self) -> SrtpProtectionProfile {
        match self {
            Cipher::Gcm => SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
            Cipher::Cm => SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
        }
    }

    fn negotiated(self) -> ProtectionProfile {
        match self {
            Cipher::Gcm => ProtectionProfile::AeadAes128Gcm,
            Cipher::Cm => ProtectionProfile::Aes128CmHmacSha1_80,
        }
    }
}

// The library tells associations apart by address; ours has one.
const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);
const CLIENT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 2);

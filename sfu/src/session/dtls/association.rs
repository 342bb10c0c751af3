//! One attempt of a client at a handshake, and the association it may become.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use rtc_dtls::cipher_suite::CipherSuiteId;
use rtc_dtls::config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType};
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_dtls::state::State;
use rtc_shared::TransportProtocol;
use rtc_shared::error::Error;

use super::provider::FixedCookie;
use super::{COOKIE, Fingerprint, Identity, PEER, US};
use crate::session::srtp::{KeyMaterial, MasterKey, Profile};
use crate::wire::dtls::Message;

/// One attempt of a client, and the library's state for it.
pub struct Association {
    pub random: [u8; 32],
    pub profile: Profile,
    pub endpoint: Endpoint,
    /// Our last answer, kept because a lost one is sent again as it was.
    pub last_flight: Vec<BytesMut>,
    /// Reading led to an answer. For the caller to clear.
    pub answered: bool,
    /// Bit `n`: message `n`, one after the ClientHellos, has been fed.
    messages: u16,
    /// Record number for what we feed in plaintext.
    records: u64,
    /// What the peer has said above DTLS. For the caller to take.
    pub data: Vec<BytesMut>,
}

/// What came of a record.
pub enum Progress {
    /// Nothing at all.
    Silent,
    None,
    Complete,
    Closed,
}

impl Association {
    pub fn new(
        identity: &Identity,
        remote: &Fingerprint,
        profile: Profile,
        random: [u8; 32],
        cookie: [u8; COOKIE],
    ) -> Result<Self, Error> {
        let remote = remote.clone();
        let provider = identity.provider.clone();
        let config = ConfigBuilder::default()
            .with_crypto_provider(Arc::new(FixedCookie::new(provider, cookie)))
            .with_certificates(vec![identity.certificate.clone()])
            .with_cipher_suites(vec![
                CipherSuiteId::Tls_Ecdhe_Ecdsa_With_Aes_128_Gcm_Sha256,
                CipherSuiteId::Tls_Ecdhe_Ecdsa_With_ChaCha20_Poly1305_Sha256,
            ])
            .with_srtp_protection_profiles(vec![profile.into()])
            // The keys then depend on the whole handshake, RFC 7627.
            .with_extended_master_secret(ExtendedMasterSecretType::Require)
            .with_client_auth(ClientAuthType::RequireAnyClientCert)
            // Certificates are self-signed; the fingerprint is what counts.
            .with_insecure_skip_verify(true)
            .with_verify_peer_certificate(Some(Arc::new(move |certificates, _| {
                let matches = certificates.first().is_some_and(|der| remote.matches(der));
                matches.then_some(()).ok_or(Error::ErrInvalidCertificate)
            })))
            .build(false, None)?;
        let endpoint = Endpoint::new(US, TransportProtocol::UDP, Some(Arc::new(config)));
        Ok(Association {
            random,
            profile,
            endpoint,
            last_flight: Vec::new(),
            answered: false,
            messages: 0,
            records: 0,
            data: Vec::new(),
        })
    }

    /// Whether this message comes for the first time; it counts as fed from now on.
    pub fn is_first(&mut self, message: &Message) -> bool {
        let bit = 1 << message.message_seq.min(15);
        let first = self.messages & bit == 0;
        self.messages |= bit;
        first
    }

    pub fn next_record(&mut self) -> u64 {
        self.records += 1;
        self.records - 1
    }

    /// Feeds a record of the handshake. What the library answers becomes `last_flight`.
    pub fn read(&mut self, now: Instant, record: BytesMut) -> Result<Progress, Error> {
        let result = self.endpoint.read(now, PEER, None, record);
        let mut flight = VecDeque::new();
        self.drain_into(&mut flight);
        if !flight.is_empty() {
            self.last_flight = flight.into();
            self.answered = true;
        }
        result.map(|events| self.progress(events))
    }

    /// Feeds a record of the finished association; `last_flight` stays.
    pub fn read_established(
        &mut self,
        now: Instant,
        record: BytesMut,
        transmits: &mut VecDeque<BytesMut>,
    ) -> Result<Progress, Error> {
        let result = self.endpoint.read(now, PEER, None, record);
        self.drain_into(transmits);
        result.map(|events| self.progress(events))
    }

    pub fn drain_into(&mut self, transmits: &mut VecDeque<BytesMut>) {
        while let Some(transmit) = self.endpoint.poll_transmit() {
            transmits.push_back(transmit.message);
        }
    }

    fn progress(&mut self, events: Vec<EndpointEvent>) -> Progress {
        let mut progress = if events.is_empty() { Progress::Silent } else { Progress::None };
        for event in events {
            match event {
                EndpointEvent::ApplicationData(data) => self.data.push(data),
                EndpointEvent::HandshakeComplete if !matches!(progress, Progress::Closed) => {
                    progress = Progress::Complete;
                }
                EndpointEvent::PeerClosed => progress = Progress::Closed,
                _ => {}
            }
        }
        progress
    }

    /// Lets go of the handshake: what it said, and what was made of it, is a quarter of what a subscriber takes. The
    /// keys stay, and the numbers of our records go on; so does our last flight, should the peer have missed it.
    pub fn settle(&mut self, now: Instant, identity: &Identity) -> Option<()> {
        let mut state = State::new(identity.provider.clone(), false);
        state.unmarshal_binary(&self.state()?.marshal_binary().ok()?).ok()?;
        state.peer_certificates = Vec::new();
        let mut endpoint = Endpoint::new(US, TransportProtocol::UDP, None);
        // It takes us for a client, which matters to handshakes alone, and it sees none any more.
        endpoint.connect(now, PEER, identity.settled.clone(), Some(state)).ok()?;
        endpoint.poll_transmit().is_none().then(|| self.endpoint = endpoint)
    }

    fn state(&self) -> Option<&State> {
        self.endpoint.get_connection_state(PEER)
    }

    /// The certificate the peer has shown.
    pub fn certificate(&self) -> Option<&[u8]> {
        self.state()?.peer_certificates.first().map(Vec::as_slice)
    }

    /// RFC 5764 §4.2: client key, server key, client salt, server salt.
    pub fn keys(&self) -> Option<KeyMaterial> {
        let state = self.state()?;
        let profile = self.profile;
        if state.srtp_protection_profile() != profile.into() {
            return None;
        }
        let (key, salt) = (profile.key_len(), profile.salt_len());
        let exported = state.export_keying_material(EXPORTER, &[], 2 * (key + salt)).ok()?;
        let (keys, salts) = exported.as_ref().split_at_checked(2 * key)?;
        let (client_key, server_key) = keys.split_at_checked(key)?;
        let (client_salt, server_salt) = salts.split_at_checked(salt)?;
        let master = |key: &[u8], salt: &[u8]| MasterKey { key: key.to_vec(), salt: salt.to_vec() };
        Some(KeyMaterial {
            profile,
            local: master(server_key, server_salt),
            remote: master(client_key, client_salt),
        })
    }
}

pub(super) const EXPORTER: &str = "EXTRACTOR-dtls_srtp";

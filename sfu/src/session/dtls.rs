//! DTLS-SRTP as the passive side: RFC 5764, through `rtc-dtls`.
//!
//! The library gets to see only what a handshake needs, in the form it handles best. Plaintext
//! (epoch 0) proves nothing about its sender, so we put handshake messages together ourselves,
//! count them, and drop alerts; retransmission is ours too. Once the peer has proved itself,
//! plaintext is not read at all.

mod association;
mod identity;
mod provider;

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_shared::error::Error;

use association::{Association, Progress};
pub use identity::{Fingerprint, Identity};

use super::srtp::{KeyMaterial, Profile};
use crate::drop::DropReason;
use crate::wire::dtls::{self, ClientHello, Message, Reassembly, Record};

/// What a handshake came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DtlsEvent {
    /// The peer owns the announced certificate, and these are the keys.
    Connected(KeyMaterial),
    /// Something for whoever speaks above DTLS.
    Data(BytesMut),
    /// The peer said goodbye.
    Closed,
    /// There will be no connection.
    Failed(DtlsFailure),
}

/// Why a handshake failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum DtlsFailure {
    /// Not finished in time.
    Timeout,
    /// The peer's certificate is not the announced one.
    Fingerprint,
    /// No protection profile in common.
    NoProfile,
    /// Anything else that DTLS forbids.
    Protocol,
}

/// One peer's DTLS association, server side.
///
/// Feed it datagrams from validated paths only. Until a client returns the cookie of our
/// HelloVerifyRequest, several attempts are kept apart by their randoms, so that a stray
/// ClientHello does not spoil the honest one.
pub struct Dtls {
    identity: Arc<Identity>,
    remote: Fingerprint,
    require_gcm: bool,
    /// What a client has to return. All attempts share it: a client takes the first
    /// HelloVerifyRequest it sees, which may answer a stray ClientHello.
    cookie: [u8; COOKIE],
    phase: Phase,
    reassembly: Reassembly,
    /// Attempts that have not returned their cookie; oldest first.
    attempts: Vec<Association>,
    /// The attempt that has.
    chosen: Option<Association>,
    hellos: HelloBudget,
    /// Plaintext or not yet readable records given to the library.
    records_fed: u32,
    /// An attempt was refused, for this reason: unless a better one comes, that is the outcome.
    refused: Option<(Instant, DtlsFailure)>,
    deadline: Instant,
    hello_seen: bool,
    resend_at: Option<(Instant, Duration)>,
    final_flights_left: u32,
    transmits: VecDeque<BytesMut>,
    events: VecDeque<DtlsEvent>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Handshake,
    Connected,
    Over,
}

impl Dtls {
    /// An association that waits for its peer: [`FIRST_HELLO`] for the first ClientHello, and
    /// [`HANDSHAKE`] from there.
    pub fn new(identity: Arc<Identity>, remote: Fingerprint, require_gcm: bool, now: Instant) -> Self {
        let mut cookie = [0; COOKIE];
        aws_lc_rs::rand::fill(&mut cookie).expect("the system's random source works, or nothing is safe");
        Dtls {
            identity,
            remote,
            require_gcm,
            cookie,
            phase: Phase::Handshake,
            reassembly: Reassembly::default(),
            attempts: Vec::new(),
            chosen: None,
            hellos: HelloBudget::new(now),
            records_fed: 0,
            refused: None,
            deadline: now + FIRST_HELLO,
            hello_seen: false,
            resend_at: None,
            final_flights_left: MAX_FINAL_FLIGHTS,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Takes a datagram from a validated path.
    ///
    /// # Errors
    ///
    /// The reason to count it as dropped; the association goes on regardless.
    pub fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) -> Result<(), DropReason> {
        let records = dtls::records(datagram).ok_or(DropReason::Malformed)?;
        let mut outcome = Ok(());
        let mut repeats_itself = false;
        for record in &records {
            match self.phase {
                Phase::Handshake if record.epoch == 0 => {
                    outcome = outcome.and(self.handle_plaintext(now, record));
                }
                Phase::Handshake => outcome = outcome.and(self.handle_early(now, record)),
                Phase::Connected => match self.handle_established(now, record) {
                    Ok(repeats) => repeats_itself |= repeats,
                    Err(reason) => outcome = Err(reason),
                },
                Phase::Over => {}
            }
        }
        if repeats_itself {
            self.repeat_final_flight();
        }
        outcome
    }

    /// Seals what somebody above DTLS has to say. `None` while nobody would hear it.
    pub fn seal(&mut self, now: Instant, data: &[u8]) -> Option<BytesMut> {
        let chosen = self.chosen.as_mut().filter(|_| self.phase == Phase::Connected)?;
        chosen.endpoint.write(now, PEER, data).ok()?;
        chosen.drain_into(&mut self.transmits);
        self.transmits.pop_front()
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<BytesMut> {
        self.transmits.pop_front()
    }

    /// What has happened.
    pub fn poll_event(&mut self) -> Option<DtlsEvent> {
        let event = self.events.pop_front();
        if self.events.is_empty() {
            // There are few after the first, and none as a rule.
            self.events = VecDeque::new();
        }
        event
    }

    /// When to call [`Dtls::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        let resend = self.resend_at.map(|(at, _)| at);
        match self.phase {
            Phase::Over => None,
            Phase::Connected => resend,
            _ => [resend, self.refusal_due()].into_iter().flatten().chain([self.deadline]).min(),
        }
    }

    /// Resends what may have been lost, and gives up when it is time to.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.phase == Phase::Connected {
            return self.repeat_unconfirmed(now);
        }
        if self.phase == Phase::Over {
            return;
        }
        if now >= self.deadline {
            return self.fail(self.refused.map_or(DtlsFailure::Timeout, |(_, reason)| reason));
        }
        if let (Some(due), Some((_, reason))) = (self.refusal_due(), self.refused)
            && now >= due
        {
            return self.fail(reason);
        }
        if let Some((at, interval)) = self.resend_at
            && now >= at
        {
            // The attempt whose flight it was may be over by now: then there is nothing to repeat.
            let waiting = self.chosen.as_ref().or(self.attempts.last());
            self.resend_at = waiting.map(|_| (now + interval * 2, interval * 2));
            self.transmits
                .extend(waiting.into_iter().flat_map(|waiting| waiting.last_flight.iter().cloned()));
        }
    }

    /// The peer has shown that it has our last flight: something sealed with the keys has come.
    pub fn confirm(&mut self) {
        if self.phase == Phase::Connected {
            self.resend_at = None;
        }
    }

    /// Our last flight may be lost, and a client that waits a second to ask again would connect a second
    /// later than it need. It is repeated unasked until the client is heard.
    fn repeat_unconfirmed(&mut self, now: Instant) {
        if let Some((at, interval)) = self.resend_at
            && now >= at
        {
            self.repeat_final_flight();
            self.resend_at = (interval < LAST_UNASKED).then_some((now + interval * 2, interval * 2));
        }
    }

    /// Says goodbye, if there is someone to say it to, and ends the association.
    pub fn close(&mut self, now: Instant) {
        if self.phase == Phase::Connected
            && let Some(chosen) = &mut self.chosen
        {
            chosen.endpoint.stop(now, PEER);
            chosen.drain_into(&mut self.transmits);
        }
        self.end();
    }

    /// A record that anyone could have written.
    fn handle_plaintext(&mut self, now: Instant, record: &Record<'_>) -> Result<(), DropReason> {
        match record.content {
            dtls::HANDSHAKE => {
                for fragment in dtls::fragments(record.body).ok_or(DropReason::Malformed)? {
                    if !FROM_CLIENT.contains(&fragment.kind) {
                        return Err(DropReason::Malformed);
                    }
                    if let Some(message) = self.reassembly.add(fragment) {
                        self.handle_message(now, message)?;
                    }
                }
                Ok(())
            }
            dtls::CHANGE_CIPHER_SPEC if record.body == [1] => {
                let Some(chosen) = &mut self.chosen else {
                    return Ok(());
                };
                let record = dtls::change_cipher_spec(chosen.next_record());
                self.feed(now, record)
            }
            // Neither may end a handshake nor carry anything before there are keys.
            dtls::ALERT | dtls::APPLICATION_DATA => Ok(()),
            _ => Err(DropReason::Malformed),
        }
    }

    fn handle_message(&mut self, now: Instant, message: Message) -> Result<(), DropReason> {
        if message.kind == dtls::CLIENT_HELLO {
            return self.handle_hello(now, message);
        }
        let Some(chosen) = &mut self.chosen else {
            return Ok(());
        };
        // The library has it already; the peer repeats its flight because of another part.
        if !chosen.is_first(&message) {
            return Ok(());
        }
        let record = message.to_record(chosen.next_record());
        self.feed(now, record)
    }

    /// A complete ClientHello: a new attempt, a cookie returned, or a repeat because our answer
    /// was lost. Repeats are answered here: the library would fall silent.
    fn handle_hello(&mut self, now: Instant, message: Message) -> Result<(), DropReason> {
        let hello = ClientHello::parse(&message.body).ok_or(DropReason::Malformed)?;
        if !self.hellos.take(now) {
            return Err(DropReason::QueueFull);
        }
        if let Some(chosen) = &self.chosen {
            if chosen.random == hello.random && message.message_seq == 1 {
                self.transmits.extend(chosen.last_flight.iter().cloned());
            }
            return Ok(());
        }
        let known = self.attempts.iter().position(|attempt| attempt.random == hello.random);
        match (message.message_seq, known) {
            (0, None) => self.begin(now, &hello, &message),
            (0, Some(at)) => {
                let attempt = self.attempts.get(at).ok_or(DropReason::Malformed)?;
                self.transmits.extend(attempt.last_flight.iter().cloned());
                Ok(())
            }
            (1, Some(at)) => self.choose(now, at, &message),
            _ => Err(DropReason::Malformed),
        }
    }

    /// Answers a first ClientHello with a HelloVerifyRequest.
    fn begin(&mut self, now: Instant, hello: &ClientHello, message: &Message) -> Result<(), DropReason> {
        if !self.hello_seen {
            self.hello_seen = true;
            self.deadline = now + HANDSHAKE;
        }
        let Some(profile) = self.choose_profile(hello) else {
            return self.refuse(now, DtlsFailure::NoProfile);
        };
        let attempt = Association::new(&self.identity, &self.remote, profile, hello.random, self.cookie);
        let Ok(mut attempt) = attempt else {
            return self.refuse(now, DtlsFailure::Protocol);
        };
        let record = message.to_record(attempt.next_record());
        if attempt.read(now, record).is_err() || attempt.last_flight.is_empty() {
            // Its alert stays unsent: nobody has proved to be there yet.
            return self.refuse(now, DtlsFailure::Protocol);
        }
        // An Endpoint accepts further associations as long as it has a configuration.
        attempt.endpoint.set_server_config(None);
        self.transmits.extend(attempt.last_flight.iter().cloned());
        self.resend_at = Some((now + RESEND, RESEND));
        if self.attempts.len() >= MAX_ATTEMPTS {
            self.attempts.remove(0);
        }
        self.attempts.reserve_exact(1);
        self.attempts.push(attempt);
        Ok(())
    }

    /// A ClientHello with a cookie: if it is ours, this attempt is the one.
    fn choose(&mut self, now: Instant, at: usize, message: &Message) -> Result<(), DropReason> {
        let mut attempt = self.attempts.remove(at);
        let record = message.to_record(attempt.next_record());
        attempt.answered = false;
        if attempt.read(now, record).is_err() || !attempt.answered {
            return self.refuse(now, DtlsFailure::Protocol);
        }
        self.transmits.extend(attempt.last_flight.iter().cloned());
        self.resend_at = Some((now + RESEND, RESEND));
        self.attempts = Vec::new();
        self.refused = None;
        self.chosen = Some(attempt);
        Ok(())
    }

    /// The one profile we accept from this client.
    ///
    /// `rtc-dtls` would take the first of the client's list, and Chromium puts AES-CM first; so it
    /// is offered exactly one.
    fn choose_profile(&self, hello: &ClientHello) -> Option<Profile> {
        [Profile::AesGcm128, Profile::AesGcm256, Profile::AesCm80]
            .into_iter()
            .filter(|&profile| !(self.require_gcm && profile == Profile::AesCm80))
            .find(|&profile| hello.srtp_profiles.contains(&(SrtpProtectionProfile::from(profile) as u16)))
    }

    /// An encrypted record while the handshake goes on: Finished, or what overtook it.
    fn handle_early(&mut self, now: Instant, record: &Record<'_>) -> Result<(), DropReason> {
        if self.chosen.is_none() || record.epoch != 1 {
            return Err(DropReason::Malformed);
        }
        self.feed(now, BytesMut::from(record.raw))
    }

    /// Gives a record to the chosen association and looks what became of it.
    fn feed(&mut self, now: Instant, record: BytesMut) -> Result<(), DropReason> {
        let Some(chosen) = &mut self.chosen else {
            return Ok(());
        };
        self.records_fed += 1;
        if self.records_fed > MAX_RECORDS {
            return Err(DropReason::QueueFull);
        }
        chosen.answered = false;
        let result = chosen.read(now, record);
        if chosen.answered {
            self.transmits.extend(chosen.last_flight.iter().cloned());
        }
        match result {
            Ok(Progress::Complete) => self.complete(now),
            Ok(Progress::Silent | Progress::None) => {}
            Ok(Progress::Closed) => self.fail(DtlsFailure::Protocol),
            Err(_) => {
                let stranger = chosen.certificate().is_some_and(|der| !self.remote.matches(der));
                self.fail(if stranger { DtlsFailure::Fingerprint } else { DtlsFailure::Protocol });
            }
        }
        Ok(())
    }

    /// The library is content. So are we, if the certificate and the profile are the right ones.
    fn complete(&mut self, now: Instant) {
        let Some(chosen) = &self.chosen else {
            return;
        };
        if !chosen.certificate().is_some_and(|der| self.remote.matches(der)) {
            return self.fail(DtlsFailure::Fingerprint);
        }
        match chosen.keys() {
            Some(keys) => {
                self.phase = Phase::Connected;
                self.reassembly = Reassembly::default();
                self.resend_at = Some((now + RESEND, RESEND));
                self.events.push_back(DtlsEvent::Connected(keys));
                if let Some(chosen) = &mut self.chosen {
                    // Should it ever not work, the handshake stays with it.
                    let _ = chosen.settle(now, &self.identity);
                }
                let early = self.chosen.iter_mut().flat_map(|chosen| chosen.data.drain(..));
                self.events.extend(early.map(DtlsEvent::Data));
            }
            None => self.fail(DtlsFailure::NoProfile),
        }
    }

    /// A record after completion: whether it shows that our last flight was lost.
    ///
    /// Plaintext and handshake records are not read any more. What they can mean is only that. The library says
    /// nothing of a record that it cannot open, and always something of one that it can: it hands out what
    /// applications send, and every alert is an error to it.
    fn handle_established(&mut self, now: Instant, record: &Record<'_>) -> Result<bool, DropReason> {
        let Some(chosen) = &mut self.chosen else {
            return Ok(false);
        };
        match record.content {
            dtls::HANDSHAKE => return Ok(true),
            dtls::CHANGE_CIPHER_SPEC => return Ok(false),
            dtls::ALERT | dtls::APPLICATION_DATA if record.epoch == 1 => {}
            _ => return Err(DropReason::Malformed),
        }
        let read = chosen.read_established(now, BytesMut::from(record.raw), &mut self.transmits);
        self.events.extend(chosen.data.drain(..).map(DtlsEvent::Data));
        match read {
            Ok(Progress::Closed) | Err(Error::ErrAlertFatalOrClose) => {
                self.end();
                self.events.push_back(DtlsEvent::Closed);
                Ok(false)
            }
            Ok(Progress::Silent) => Err(DropReason::Malformed),
            Ok(_) | Err(_) => Ok(false),
        }
    }

    fn repeat_final_flight(&mut self) {
        if let Some(chosen) = &self.chosen
            && self.final_flights_left > 0
        {
            self.final_flights_left -= 1;
            self.transmits.extend(chosen.last_flight.iter().cloned());
        }
    }

    fn refuse(&mut self, now: Instant, reason: DtlsFailure) -> Result<(), DropReason> {
        self.refused.get_or_insert((now, reason));
        Err(DropReason::Malformed)
    }

    /// When a refused attempt becomes the outcome, if nothing better is under way.
    fn refusal_due(&self) -> Option<Instant> {
        let alone = self.attempts.is_empty() && self.chosen.is_none();
        self.refused.filter(|_| alone).map(|(at, _)| at + REFUSAL_GRACE)
    }

    fn fail(&mut self, reason: DtlsFailure) {
        self.end();
        self.events.push_back(DtlsEvent::Failed(reason));
    }

    fn end(&mut self) {
        self.phase = Phase::Over;
        self.chosen = None;
        self.attempts.clear();
        self.reassembly = Reassembly::default();
        self.resend_at = None;
    }
}

/// Token bucket of ClientHellos: each new one costs us a key pair.
struct HelloBudget {
    tokens: u32,
    /// When the bucket was last topped up.
    since: Instant,
}

impl HelloBudget {
    /// A lossy handshake needs ten; browsers back off from 50 ms.
    const BURST: u32 = 20;
    /// Five per second.
    const REFILL: Duration = Duration::from_millis(200);

    fn new(now: Instant) -> Self {
        HelloBudget { tokens: Self::BURST, since: now }
    }

    fn take(&mut self, now: Instant) -> bool {
        let idle = now.saturating_duration_since(self.since);
        let refills = (idle.as_millis() / Self::REFILL.as_millis()) as u32;
        self.tokens = self.tokens.saturating_add(refills).min(Self::BURST);
        self.since = if self.tokens == Self::BURST { now } else { self.since + Self::REFILL * refills };
        let granted = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        granted
    }
}

/// How long to wait for a ClientHello: as long as ICE waits for its first check.
pub const FIRST_HELLO: Duration = Duration::from_secs(30);
/// How long a handshake may take from its first ClientHello.
pub const HANDSHAKE: Duration = Duration::from_secs(15);

/// How long a refused ClientHello may be followed by a better one.
const REFUSAL_GRACE: Duration = Duration::from_secs(1);
/// First resend of an unanswered flight, doubling: 0.4, 1.2, 2.8, 6, 12.4 s.
const RESEND: Duration = Duration::from_millis(400);
/// The longest interval after which the last flight is repeated unasked: at 0.4 and 1.2 s.
const LAST_UNASKED: Duration = Duration::from_millis(800);
/// Attempts kept apart: the honest one and a few strays.
const MAX_ATTEMPTS: usize = 4;
/// Records given to the library before completion. A client's flight has five.
const MAX_RECORDS: u32 = 128;
/// Repeats of our last flight.
const MAX_FINAL_FLIGHTS: u32 = 8;
/// What a client sends in plaintext.
const FROM_CLIENT: [u8; 4] =
    [dtls::CLIENT_HELLO, dtls::CERTIFICATE, dtls::CLIENT_KEY_EXCHANGE, dtls::CERTIFICATE_VERIFY];
/// The length of the library's HelloVerifyRequest cookies.
const COOKIE: usize = 20;
/// The library tells associations apart by address. Ours has one, whatever path it uses.
const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);
const US: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 2);

#[cfg(test)]
mod tests;

use super::association::EXPORTER;
use super::*;
use crate::testing::{at, ms};
use aws_lc_rs::digest::{self, SHA384, SHA512};
use rtc_dtls::config::{ConfigBuilder, ExtendedMasterSecretType};
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_shared::TransportProtocol;
use std::collections::BTreeMap;

const SERVER: SocketAddr = US;
const CM: SrtpProtectionProfile = SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80;
const GCM_128: SrtpProtectionProfile = SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm;
const GCM_256: SrtpProtectionProfile = SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm;

/// A client made of `rtc-dtls`, our server, and a network of 10 ms between them.
struct World {
    now: u64,
    client: Endpoint,
    client_done: bool,
    server: Dtls,
    events: Vec<DtlsEvent>,
    connected_at: Option<u64>,
    wire: BTreeMap<(u64, u64), (bool, Vec<u8>)>,
    sent: u64,
    /// Datagrams so far, to the server and to the client.
    counts: [usize; 2],
    /// What the network does with the nth datagram to the server: the datagrams that arrive.
    meddle: Meddle,
}

type Meddle = Box<dyn FnMut(Side, usize, Vec<u8>) -> Vec<Vec<u8>>>;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Side {
    ToServer,
    ToClient,
}

struct Setup {
    profiles: Vec<SrtpProtectionProfile>,
    mtu: usize,
    require_gcm: bool,
    wrong_fingerprint: bool,
    ems: ExtendedMasterSecretType,
}

impl Default for Setup {
    fn default() -> Self {
        Setup {
            // Chromium's order.
            profiles: vec![CM, GCM_256, GCM_128],
            mtu: 1_200,
            require_gcm: false,
            wrong_fingerprint: false,
            ems: ExtendedMasterSecretType::Request,
        }
    }
}

impl World {
    fn new(setup: Setup, meddle: impl FnMut(Side, usize, Vec<u8>) -> Vec<Vec<u8>> + 'static) -> World {
        let identity = Identity::generate().unwrap();
        let config = ConfigBuilder::default()
            .with_crypto_provider(identity.provider.clone())
            .with_certificates(vec![identity.certificate.clone()])
            .with_srtp_protection_profiles(setup.profiles)
            .with_mtu(setup.mtu)
            .with_extended_master_secret(setup.ems)
            // As Chromium begins.
            .with_flight_interval(ms(50))
            .with_insecure_skip_verify(true)
            .build(true, Some(SERVER))
            .unwrap();
        let ours = Arc::new(Identity::generate().unwrap());
        let announced = if setup.wrong_fingerprint { &ours } else { &identity };
        let remote = announced.fingerprint().parse().unwrap();
        let server = Dtls::new(ours.clone(), remote, setup.require_gcm, at(0));
        let mut client = Endpoint::new(PEER, TransportProtocol::UDP, None);
        client.connect(at(0), SERVER, Arc::new(config), None).unwrap();
        let mut world = World {
            now: 0,
            client,
            client_done: false,
            server,
            events: Vec::new(),
            connected_at: None,
            wire: BTreeMap::new(),
            sent: 0,
            counts: [0; 2],
            meddle: Box::new(meddle),
        };
        world.collect();
        world
    }

    fn plain() -> World {
        World::new(Setup::default(), |_, _, datagram| vec![datagram])
    }

    fn send(&mut self, side: Side, datagram: Vec<u8>) {
        let count = &mut self.counts[side as usize];
        let arriving = (self.meddle)(side, *count, datagram);
        *count += 1;
        for datagram in arriving {
            self.sent += 1;
            self.wire.insert((self.now + 10, self.sent), (side == Side::ToServer, datagram));
        }
    }

    fn collect(&mut self) {
        while let Some(transmit) = self.client.poll_transmit() {
            self.send(Side::ToServer, transmit.message.to_vec());
        }
        while let Some(datagram) = self.server.poll_transmit() {
            self.send(Side::ToClient, datagram.to_vec());
        }
        while let Some(event) = self.server.poll_event() {
            if matches!(event, DtlsEvent::Connected(_)) {
                self.connected_at = Some(self.now);
            }
            self.events.push(event);
        }
    }

    fn run_until(&mut self, end: u64) {
        while self.now < end {
            self.now += 1;
            let now = at(self.now);
            while let Some(entry) = self.wire.first_entry().filter(|entry| entry.key().0 <= self.now) {
                let (to_server, datagram) = entry.remove();
                if to_server {
                    let _ = self.server.handle_datagram(now, &datagram);
                } else if let Ok(events) = self.client.read(now, SERVER, None, BytesMut::from(&datagram[..]))
                {
                    let done = |event| matches!(event, &EndpointEvent::HandshakeComplete);
                    self.client_done |= events.iter().any(done);
                }
            }
            if self.client.poll_timeout(&SERVER).is_some_and(|due| due <= now) {
                let _ = self.client.handle_timeout(SERVER, now);
            }
            if self.server.poll_timeout().is_some_and(|due| due <= now) {
                self.server.handle_timeout(now);
                assert!(self.server.poll_timeout().is_none_or(|due| due > now), "time stands still");
            }
            self.collect();
        }
    }

    /// Both sides are done, with each other's keys, under `profile`.
    fn assert_connected(&self, profile: Profile) {
        assert!(self.client_done, "the client is not done");
        let [DtlsEvent::Connected(keys)] = &self.events[..] else {
            panic!("the server is not done: {:?}", self.events);
        };
        assert_eq!(keys.profile, profile);
        let state = self.client.get_connection_state(SERVER).unwrap();
        assert_eq!(state.srtp_protection_profile(), profile.into());
        let mut theirs = rtc_srtp::config::Config { profile: profile.into(), ..Default::default() };
        let len = theirs.keying_material_len();
        let exported = state.export_keying_material(EXPORTER, &[], len).unwrap();
        theirs.set_session_keys_from_keying_material(exported.as_ref(), true).unwrap();
        assert_eq!(theirs.keys.local_master_key, keys.remote.key);
        assert_eq!(theirs.keys.local_master_salt, keys.remote.salt);
        assert_eq!(theirs.keys.remote_master_key, keys.local.key);
        assert_eq!(theirs.keys.remote_master_salt, keys.local.salt);
    }
}

fn plaintext(content: u8, body: &[u8], sequence: u8) -> Vec<u8> {
    let mut record = vec![content, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, sequence];
    record.extend((body.len() as u16).to_be_bytes());
    record.extend(body);
    record
}

#[test]
fn the_best_common_profile_is_chosen_whatever_the_client_prefers() {
    for (profiles, require_gcm, expected) in [
        (vec![CM, GCM_256, GCM_128], false, Profile::AesGcm128),
        (vec![GCM_128, GCM_256, CM], true, Profile::AesGcm128),
        (vec![CM, GCM_256], false, Profile::AesGcm256),
        (vec![GCM_128], true, Profile::AesGcm128),
        (vec![CM], false, Profile::AesCm80),
    ] {
        let setup = Setup { profiles, require_gcm, ..Setup::default() };
        let mut world = World::new(setup, |_, _, datagram| vec![datagram]);
        world.run_until(200);
        world.assert_connected(expected);
    }
}

#[test]
fn a_client_without_gcm_may_be_refused() {
    let setup = Setup { profiles: vec![CM], require_gcm: true, ..Setup::default() };
    let mut world = World::new(setup, |_, _, datagram| vec![datagram]);
    world.run_until(1_100);
    assert_eq!(world.events, [DtlsEvent::Failed(DtlsFailure::NoProfile)]);
    assert_eq!(world.counts[Side::ToClient as usize], 0);
}

#[test]
fn a_client_without_extended_master_secret_is_refused() {
    let setup = Setup { ems: ExtendedMasterSecretType::Disable, ..Setup::default() };
    let mut world = World::new(setup, |_, _, datagram| vec![datagram]);
    world.run_until(1_100);
    assert_eq!(world.events, [DtlsEvent::Failed(DtlsFailure::Protocol)]);
}

#[test]
fn another_certificate_is_refused() {
    let setup = Setup { wrong_fingerprint: true, ..Setup::default() };
    let mut world = World::new(setup, |_, _, datagram| vec![datagram]);
    world.run_until(1_000);
    assert_eq!(world.events, [DtlsEvent::Failed(DtlsFailure::Fingerprint)]);
    assert!(!world.client_done);
}

/// D1 in `webrtc-rs.md`: whichever datagram is lost, either way, the handshake recovers.
#[test]
fn any_lost_datagram_costs_less_than_a_second() {
    for side in [Side::ToServer, Side::ToClient] {
        for mtu in [1_200, 300] {
            for lost in 0..8 {
                let setup = Setup { mtu, ..Setup::default() };
                let mut world =
                    World::new(
                        setup,
                        move |to, n, datagram| {
                            if (to, n) == (side, lost) { vec![] } else { vec![datagram] }
                        },
                    );
                world.run_until(1_000);
                world.assert_connected(Profile::AesGcm128);
            }
        }
    }
}

#[test]
fn losing_every_other_datagram_is_survived() {
    for parity in 0..2 {
        let mut world = World::new(
            Setup::default(),
            move |_, n, datagram| {
                if n % 2 == parity { vec![] } else { vec![datagram] }
            },
        );
        world.run_until(5_000);
        world.assert_connected(Profile::AesGcm128);
    }
}

#[test]
fn fragments_may_be_small_reordered_and_repeated() {
    for mtu in [60, 75, 150, 400] {
        let mut held: Option<Vec<u8>> = None;
        let setup = Setup { mtu, ..Setup::default() };
        let mut world = World::new(setup, move |to, n, datagram| {
            if to == Side::ToClient {
                return vec![datagram];
            }
            // Every second datagram waits for the next one, and every third comes twice.
            let mut out = if n % 3 == 0 { vec![datagram.clone(), datagram] } else { vec![datagram] };
            match held.take() {
                Some(earlier) => out.push(earlier),
                None if n % 2 == 1 => held = out.pop(),
                None => {}
            }
            out
        });
        world.run_until(3_000);
        world.assert_connected(Profile::AesGcm128);
    }
}

/// T02 in `threats.md`: plaintext alerts at every step, before and after each datagram.
#[test]
fn plaintext_alerts_do_nothing() {
    for alert in [[1, 0], [2, 40], [2, 0], [1, 90]] {
        let mut world = World::new(Setup::default(), move |to, n, datagram| match to {
            Side::ToServer => {
                let alert = |k: u8| plaintext(dtls::ALERT, &alert, 100 + 2 * n as u8 + k);
                vec![alert(0), datagram, alert(1)]
            }
            Side::ToClient => vec![datagram],
        });
        world.run_until(300);
        world.assert_connected(Profile::AesGcm128);
        let _ = world.server.handle_datagram(at(400), &plaintext(dtls::ALERT, &alert, 250));
        assert_eq!(world.server.phase, Phase::Connected);
        assert_eq!(world.server.poll_event(), None);
    }
}

/// T01 in `threats.md`, even from the peer's own address: ClientHellos of somebody else, before,
/// between and after the honest datagrams.
#[test]
fn somebody_else_s_hello_does_not_spoil_the_handshake() {
    let mut strange = World::plain();
    let stranger = strange.wire.pop_first().unwrap().1.1;
    // One that could be answered, and one with no usable cipher suite or profile.
    let mut useless = vec![0xfe, 0xfd];
    useless.extend([3; 32]);
    useless.extend([0, 0, 0, 2, 0, 0x2f, 1, 0, 0, 0]);
    let useless = Message { kind: 1, message_seq: 0, body: useless }.to_record(0).to_vec();
    for forged in [stranger, useless] {
        let mut world = World::new(Setup::default(), move |to, _, datagram| match to {
            Side::ToServer => vec![forged.clone(), datagram, forged.clone()],
            Side::ToClient => vec![datagram],
        });
        world.run_until(1_000);
        world.assert_connected(Profile::AesGcm128);
    }
}

/// T03 in `threats.md`: floods of fragments before and after the handshake cost next to nothing.
#[test]
fn a_flood_of_fragments_is_bounded() {
    let fragment = |kind: u8, length: u16, seq: u8, offset: u16, len: u8, record: u64| {
        let [l0, l1] = length.to_be_bytes();
        let [o0, o1] = offset.to_be_bytes();
        let mut body = vec![kind, 0, l0, l1, 0, seq, 0, o0, o1, 0, 0, len];
        body.extend(vec![0; len.into()]);
        let mut record_bytes = plaintext(dtls::HANDSHAKE, &body, 0);
        record_bytes[5..11].copy_from_slice(&record.to_be_bytes()[2..]);
        record_bytes
    };
    let mut world = World::plain();
    for n in 0..30_000u64 {
        let kind = [1, 11, 15, 16][n as usize % 4];
        let seq = (n % 7) as u8;
        let flood = [
            fragment(kind, 8_000, seq, (n % 7_999) as u16, 1, n),
            fragment(kind, 8_000, seq, (n % 7_999) as u16, 0, n),
            fragment(kind, 0, seq, 0, 0, n),
            fragment(kind, 60_000, seq, 0, 1, n),
        ];
        for datagram in flood {
            let _ = world.server.handle_datagram(at(0), &datagram);
        }
    }
    assert_eq!(world.server.records_fed, 0);
    assert!(world.server.poll_transmit().is_none());
    world.run_until(500);
    world.assert_connected(Profile::AesGcm128);
    let fed = world.server.records_fed;
    for n in 0..30_000u64 {
        let datagram = fragment(1, 8_000, 1, (n % 7_999) as u16, 1, n);
        let _ = world.server.handle_datagram(at(600), &datagram);
    }
    assert_eq!(world.server.records_fed, fed);
    let mut answers = 0;
    while world.server.poll_transmit().is_some() {
        answers += 1;
    }
    assert_eq!(answers, MAX_FINAL_FLIGHTS - 1, "one has been repeated unasked");
}

#[test]
fn records_that_wait_for_keys_are_counted() {
    let mut world = World::plain();
    while world.server.chosen.is_none() {
        world.run_until(world.now + 1);
    }
    let mut early = plaintext(dtls::HANDSHAKE, &[0; 40], 0);
    early[4] = 1;
    for _ in 0..MAX_RECORDS {
        assert_eq!(world.server.handle_datagram(at(world.now), &early), Ok(()));
    }
    let refused = world.server.handle_datagram(at(world.now), &early);
    assert_eq!(refused, Err(DropReason::QueueFull));
}

#[test]
fn a_lost_final_flight_is_repeated_as_it_was() {
    let mut finals = 0;
    let mut world = World::new(Setup::default(), move |to, _, datagram| {
        // ChangeCipherSpec begins the server's last flight.
        let last = to == Side::ToClient && datagram[0] == dtls::CHANGE_CIPHER_SPEC;
        finals += usize::from(last);
        if last && finals <= 3 { vec![] } else { vec![datagram] }
    });
    world.run_until(1_000);
    world.assert_connected(Profile::AesGcm128);
}

#[test]
fn goodbye_is_heard_on_both_sides() {
    let mut world = World::plain();
    world.run_until(200);
    world.assert_connected(Profile::AesGcm128);
    world.client.stop(at(200), SERVER);
    world.collect();
    world.run_until(300);
    assert_eq!(world.events.last(), Some(&DtlsEvent::Closed));

    let mut world = World::plain();
    world.run_until(200);
    world.server.close(at(200));
    let goodbye = world.server.poll_transmit().unwrap();
    assert_eq!((goodbye[0], goodbye[4]), (dtls::ALERT, 1));
    let events = world.client.read(at(201), SERVER, None, goodbye).unwrap();
    assert!(matches!(events[..], [EndpointEvent::PeerClosed]));
    assert_eq!(world.server.poll_timeout(), None);
}

#[test]
fn what_nobody_sealed_is_counted() {
    let mut world = World::plain();
    world.run_until(200);
    world.assert_connected(Profile::AesGcm128);
    world.client.write(at(200), SERVER, b"said").unwrap();
    let said = world.client.poll_transmit().unwrap().message.to_vec();
    let mut spoiled = said.clone();
    *spoiled.last_mut().unwrap() ^= 1;
    let mut later = said.clone();
    later[4] = 2;
    let mut take = |datagram: &[u8]| world.server.handle_datagram(at(210), datagram);
    for junk in [
        &spoiled,
        &later,
        &plaintext(dtls::ALERT, &[2, 40], 90),
        &plaintext(dtls::APPLICATION_DATA, b"x", 91),
    ] {
        assert_eq!(take(junk), Err(DropReason::Malformed));
    }
    assert_eq!(take(&said), Ok(()));
    assert_eq!(take(&said), Err(DropReason::Malformed), "it has been said");
    assert_eq!(take(&plaintext(dtls::CHANGE_CIPHER_SPEC, &[1], 92)), Ok(()), "a repeated flight");
    assert_eq!(take(&plaintext(dtls::HANDSHAKE, &[0; 12], 93)), Ok(()));
    assert_eq!(world.server.phase, Phase::Connected);
}

#[test]
fn silence_is_given_up() {
    let mut world =
        World::new(
            Setup::default(),
            |to, n, datagram| {
                if to == Side::ToServer && n == 0 { vec![datagram] } else { vec![] }
            },
        );
    world.run_until(15_009);
    assert_eq!(world.events, []);
    world.run_until(15_011);
    assert_eq!(world.events, [DtlsEvent::Failed(DtlsFailure::Timeout)]);

    let mut world = World::new(Setup::default(), |_, _, _| vec![]);
    world.run_until(30_001);
    assert_eq!(world.events, [DtlsEvent::Failed(DtlsFailure::Timeout)]);
}

#[test]
fn hellos_are_rationed() {
    let mut budget = HelloBudget::new(at(0));
    assert_eq!((0..100).filter(|_| budget.take(at(0))).count(), 20);
    assert_eq!((0..100).filter(|_| budget.take(at(1_000))).count(), 5);
    assert_eq!((0..1_000).filter(|n| budget.take(at(1_000 + n))).count(), 4);
    assert_eq!((0..100).filter(|_| budget.take(at(100_000))).count(), 20);
}

#[test]
fn fingerprints_are_read_as_sdp_writes_them() {
    let identity = Identity::generate().unwrap();
    let der = identity.certificate.certificate[0].as_ref().to_vec();
    let text = identity.fingerprint();
    assert_eq!(text.len(), "sha-256 ".len() + 32 * 3 - 1);
    for text in [text.to_owned(), text.to_lowercase(), format!("{text}\r\n")] {
        assert!(text.parse::<Fingerprint>().unwrap().matches(&der));
    }
    let other: Fingerprint = Identity::generate().unwrap().fingerprint().parse().unwrap();
    assert!(!other.matches(&der));
    for (algorithm, hash) in [("sha-384", &SHA384), ("SHA-512", &SHA512)] {
        let hash = digest::digest(hash, &der);
        let hex: Vec<_> = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(Fingerprint::parse(algorithm, &hex.join(":")).unwrap().matches(&der));
    }
    for text in ["sha-1 AA", "sha-256", "sha-256 AA:BB", "sha-256 +A:BB", ""] {
        assert!(text.parse::<Fingerprint>().is_err());
    }
}

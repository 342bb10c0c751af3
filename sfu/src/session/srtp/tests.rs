use super::*;
use proptest::prelude::*;
use rtc_srtp::context::Context;

const PROFILES: [Profile; 3] = [Profile::AesGcm128, Profile::AesGcm256, Profile::AesCm80];
const SSRC: Ssrc = Ssrc(0x5eed_cafe);

pub(super) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn master(profile: Profile, seed: u8) -> MasterKey {
    MasterKey {
        key: (0..profile.key_len() as u8).map(|i| i.wrapping_mul(7) ^ seed).collect(),
        salt: (0..profile.salt_len() as u8).map(|i| i.wrapping_mul(13) ^ seed).collect(),
    }
}

/// Keys for a session that hears itself.
fn looped(profile: Profile) -> KeyMaterial {
    KeyMaterial { profile, local: master(profile, 0x55), remote: master(profile, 0x55) }
}

fn rtp(ssrc: Ssrc, seq: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, 96];
    packet.extend(seq.to_be_bytes());
    packet.extend([0, 0, 0, 9]);
    packet.extend(ssrc.0.to_be_bytes());
    packet.extend(payload);
    packet
}

fn seq_of(packet: &[u8]) -> u16 {
    u16::from_be_bytes([packet[2], packet[3]])
}

fn upstream(profile: Profile) -> Context {
    let key = master(profile, 0x55);
    let provider = rtc_crypto::default_provider().unwrap();
    Context::new(&key.key, &key.salt, profile.into(), None, None, provider.crypto()).unwrap()
}

struct Pair {
    out: Outbound,
    inn: Inbound,
    stream: StreamId,
}

impl Pair {
    fn new(profile: Profile) -> Pair {
        let keys = looped(profile);
        let mut out = Outbound::new(&keys).unwrap();
        let stream = out.open_stream(SSRC);
        Pair { out, inn: Inbound::new(&keys).unwrap(), stream }
    }

    fn seal(&mut self, index: u64) -> Vec<u8> {
        let mut packet = rtp(SSRC, index as u16, &index.to_be_bytes());
        let plain = packet.len();
        packet.resize(plain + self.out.overhead(), 0);
        let len = self.out.seal_rtp(self.stream, index, 12, plain, &mut packet).unwrap();
        assert_eq!(len, packet.len());
        packet
    }

    /// What `packet` opens to: its index, after checking that the payload says the same.
    fn open(&mut self, packet: &[u8]) -> Result<u64, DropReason> {
        let mut packet = packet.to_vec();
        let (index, len) = self.inn.open_rtp(SSRC, seq_of(&packet), 12, &mut packet)?;
        assert_eq!(packet[12..len], index.to_be_bytes());
        Ok(index)
    }
}

const RR: [u8; 8] = [0x80, 201, 0, 1, 0, 0, 0, 1];

fn rr(ssrc: u32) -> Vec<u8> {
    let mut compound = RR.to_vec();
    compound[4..].copy_from_slice(&ssrc.to_be_bytes());
    compound.extend([0x81, 206, 0, 2, 0, 0, 0, 1, 0x5e, 0xed, 0xca, 0xfe]);
    compound
}

#[test]
fn upstream_opens_what_we_seal_and_we_open_what_it_seals() {
    for profile in PROFILES {
        let mut pair = Pair::new(profile);
        let mut theirs = upstream(profile);
        for index in 65_500..65_600u64 {
            let sealed = pair.seal(index);
            let opened = theirs.decrypt_rtp(&sealed).unwrap();
            assert_eq!(opened[..], rtp(SSRC, index as u16, &index.to_be_bytes()));
        }
        let mut theirs = upstream(profile);
        for index in 65_500..65_600u64 {
            let sealed = theirs.encrypt_rtp(&rtp(SSRC, index as u16, &index.to_be_bytes())).unwrap();
            assert_eq!(pair.open(&sealed), Ok(index), "{profile:?}");
        }
        for _ in 0..3 {
            let sealed = pair.out.seal_rtcp(&rr(1));
            assert_eq!(theirs.decrypt_rtcp(&sealed).unwrap(), rr(1));
            let sealed = theirs.encrypt_rtcp(&rr(2)).unwrap();
            assert_eq!(pair.inn.open_rtcp(&sealed, |_| false).unwrap(), rr(2));
        }
    }
}

#[test]
fn keys_must_fit_their_profile() {
    let mut keys = looped(Profile::AesGcm128);
    keys.remote.key.pop();
    assert_eq!(Inbound::new(&keys).err(), Some(SrtpError::KeyLength));
    assert!(Outbound::new(&keys).is_ok());
    keys.local.salt.push(0);
    assert_eq!(Outbound::new(&keys).err(), Some(SrtpError::KeyLength));
    assert_eq!(format!("{:?}", keys.local), "MasterKey(…)");
}

#[test]
fn a_packet_is_received_once() {
    for profile in PROFILES {
        let mut pair = Pair::new(profile);
        let first = pair.seal(100);
        let late = pair.seal(99);
        let newest = pair.seal(101 + 1024);
        let lost = pair.seal(102);
        assert_eq!(pair.open(&first), Ok(100));
        assert_eq!(pair.open(&first), Err(DropReason::SrtpReplay));
        assert_eq!(pair.open(&late), Ok(99));
        assert_eq!(pair.open(&newest), Ok(1_125));
        // The window's edge: 1023 behind is in, 1024 behind is out.
        assert_eq!(pair.open(&lost), Ok(102));
        let mut pair = Pair::new(profile);
        let edge = pair.seal(100);
        let newest = pair.seal(100 + 1024);
        assert_eq!(pair.open(&newest), Ok(1_124));
        assert_eq!(pair.open(&edge), Err(DropReason::SrtpReplay));
    }
}

#[test]
fn a_changed_packet_is_refused_and_leaves_nothing_behind() {
    for profile in PROFILES {
        let mut pair = Pair::new(profile);
        let sealed = pair.seal(7);
        for at in 0..sealed.len() {
            let mut forged = sealed.clone();
            forged[at] ^= 1;
            let ssrc = Ssrc(u32::from_be_bytes(forged[8..12].try_into().unwrap()));
            let seq = seq_of(&forged);
            let opened = pair.inn.open_rtp(ssrc, seq, 12, &mut forged);
            assert_eq!(opened, Err(DropReason::SrtpAuth), "{profile:?} byte {at}");
        }
        assert!(pair.inn.streams.is_empty() && pair.inn.ssrcs.is_empty());
        assert_eq!(pair.open(&sealed), Ok(7));
        for len in 0..12 + profile.overhead() {
            let opened = pair.inn.open_rtp(SSRC, 8, 12, &mut vec![0x80; len]);
            assert_eq!(opened, Err(DropReason::Malformed));
        }
    }
}

/// T07 in `threats.md`: memory does not grow with forged SSRCs.
#[test]
fn forged_ssrcs_are_not_remembered() {
    for profile in PROFILES {
        let mut pair = Pair::new(profile);
        for ssrc in 0..10_000 {
            let mut forged = rtp(Ssrc(ssrc), 1, &[0; 40]);
            assert_eq!(pair.inn.open_rtp(Ssrc(ssrc), 1, 12, &mut forged), Err(DropReason::SrtpAuth));
            let mut forged = rr(ssrc);
            forged.extend([0x80; 20]);
            assert_eq!(pair.inn.open_rtcp(&forged, |_| true), Err(DropReason::SrtpAuth));
        }
        assert!(pair.inn.streams.is_empty() && pair.inn.rtcp.is_empty());
        assert_eq!(pair.inn.ssrcs.capacity(), 0);
    }
}

#[test]
fn a_peer_has_room_for_so_many_streams() {
    let keys = looped(Profile::AesGcm128);
    let (mut out, mut inn) = (Outbound::new(&keys).unwrap(), Inbound::new(&keys).unwrap());
    let mut receive = |inn: &mut Inbound, ssrc: u32| {
        let stream = out.open_stream(Ssrc(ssrc));
        let mut packet = rtp(Ssrc(ssrc), 1, &[1; 30]);
        packet.extend([0; 16]);
        out.seal_rtp(stream, 1, 12, 42, &mut packet).unwrap();
        inn.open_rtp(Ssrc(ssrc), 1, 12, &mut packet)
    };
    for ssrc in 0..MAX_STREAMS as u32 {
        assert_eq!(receive(&mut inn, ssrc), Ok((1, 42)));
    }
    assert_eq!(receive(&mut inn, 500), Err(DropReason::UnknownSsrc));
    inn.forget(Ssrc(3));
    assert_eq!(receive(&mut inn, 501), Ok((1, 42)));
    assert_eq!(inn.streams.len(), MAX_STREAMS);
}

#[test]
fn an_index_is_sealed_once() {
    for profile in PROFILES {
        let mut pair = Pair::new(profile);
        let again = pair.out.open_stream(SSRC);
        assert_eq!(again, pair.stream);
        let mut seal = |index| {
            let mut packet = rtp(SSRC, index as u16, &[0; 30]);
            packet.extend([0; 16]);
            pair.out.seal_rtp(again, index, 12, 42, &mut packet)
        };
        let sealed = Ok(42 + profile.overhead());
        // Two cycles in: that counts as cycle 0.
        let base = 2 * CYCLE;
        assert_eq!(seal(base + 10), sealed);
        assert_eq!(seal(base + 10), Err(SealError::Used));
        assert_eq!(seal(base + 9), sealed);
        assert_eq!(seal(base - 1), Err(SealError::Behind));
        assert_eq!(seal(base + 3_000), sealed);
        assert_eq!(seal(base + 3_000 - 2_048), Err(SealError::Behind));
        assert_eq!(seal(base + 3_000 - 2_047), sealed);
        assert_eq!(seal(base + MAX_INDEX), sealed);
        assert_eq!(seal(base + MAX_INDEX + 1), Err(SealError::Exhausted));

        let mut short = rtp(SSRC, 1, &[0; 30]);
        assert_eq!(pair.out.seal_rtp(again, 1, 12, 42, &mut short), Err(SealError::NoRoom));
        assert_eq!(pair.out.seal_rtp(again, 1, 43, 42, &mut [0; 99]), Err(SealError::NoRoom));
        assert_eq!(pair.out.seal_rtp(StreamId(9), 1, 12, 42, &mut [0; 99]), Err(SealError::NoStream));
    }
}

#[test]
fn two_cycles_in_is_the_wire_s_first_cycle() {
    let mut pair = Pair::new(Profile::AesGcm128);
    let mut packet = rtp(SSRC, 5, &5u64.to_be_bytes());
    packet.extend([0; 16]);
    pair.out.seal_rtp(pair.stream, 2 * CYCLE + 5, 12, 20, &mut packet).unwrap();
    assert_eq!(pair.open(&packet), Ok(5));
}

/// T10 in `threats.md`: whatever is lost around a wrap, the stream resumes within four packets.
#[test]
fn a_stream_survives_losses_across_wraps() {
    for profile in PROFILES {
        for lost in [0, 1, 9, 300, 1_023, 30_000, 32_767, 32_768, 40_000, 65_530, 65_536, 90_000] {
            let mut pair = Pair::new(profile);
            for index in 32_000..32_010 {
                let sealed = pair.seal(index);
                assert_eq!(pair.open(&sealed), Ok(index));
            }
            let resumed = (32_010 + lost..32_030 + lost)
                .map(|index| {
                    let sealed = pair.seal(index);
                    (pair.open(&sealed), index)
                })
                .skip_while(|(opened, _)| opened.is_err())
                .collect::<Vec<_>>();
            assert!(resumed.len() > 16, "{profile:?}, {lost} lost: {} resumed", resumed.len());
            assert!(resumed.iter().all(|&(opened, index)| opened == Ok(index)));
        }
    }
}

/// T10: a stream whose very first packets, just before its wrap, were lost.
#[test]
fn a_stream_may_begin_in_its_second_cycle() {
    for profile in PROFILES {
        let mut pair = Pair::new(profile);
        let _lost = pair.seal(65_530);
        let opened: Vec<_> = (65_540..65_548u64)
            .map(|index| {
                let sealed = pair.seal(index);
                pair.open(&sealed)
            })
            .collect();
        assert_eq!(opened[..3], [Err(DropReason::SrtpAuth); 3]);
        assert_eq!(opened[3..], (65_543..65_548).map(Ok).collect::<Vec<_>>());
    }
}

#[test]
fn the_last_index_is_the_last() {
    let mut stream = InStream { window: Window::new(), rejected: 0 };
    stream.window.record(MAX_INDEX - 5);
    assert_eq!(stream.guess(0xfffe), MAX_INDEX - 1);
    assert_eq!(stream.guess(3), MAX_INDEX - 0xffff + 3);
    let mut stream = InStream { window: Window::new(), rejected: 0 };
    stream.window.record(10);
    assert_eq!(stream.guess(65_530), 65_530);
}

/// T08 in `threats.md`: SRTCP that claims to be unencrypted is refused, and honest SRTCP goes on.
#[test]
fn unencrypted_srtcp_is_refused() {
    for profile in PROFILES {
        let mut pair = Pair::new(profile);
        let word_at = |packet: &[u8]| match profile {
            Profile::AesCm80 => packet.len() - 14,
            _ => packet.len() - 4,
        };
        for round in 0..200u32 {
            let honest = pair.out.seal_rtcp(&rr(1));
            let mut forged = honest.to_vec();
            forged[word_at(&honest)] &= 0x7f;
            assert_eq!(pair.inn.open_rtcp(&forged, |_| true), Err(DropReason::SrtpAuth));
            // The same with an index far ahead, which must not move the replay window.
            let word = word_at(&honest);
            forged[word..word + 4].copy_from_slice(&(0x7000_0000 + round).to_be_bytes());
            assert_eq!(pair.inn.open_rtcp(&forged, |_| true), Err(DropReason::SrtpAuth));
            assert_eq!(pair.inn.open_rtcp(&honest, |_| true).unwrap(), rr(1));
            assert_eq!(pair.inn.open_rtcp(&honest, |_| true), Err(DropReason::SrtpReplay));
        }
        // Plain RTCP of any length, with and without junk behind it.
        for len in 0..80 {
            let mut forged = rr(1);
            forged.resize(len.max(1), 0);
            assert!(pair.inn.open_rtcp(&forged, |_| true).is_err());
        }
    }
}

#[test]
fn changed_srtcp_is_refused() {
    for profile in PROFILES {
        let mut pair = Pair::new(profile);
        let honest = pair.out.seal_rtcp(&rr(1));
        for at in 1..honest.len() {
            let mut forged = honest.to_vec();
            forged[at] ^= 1;
            let opened = pair.inn.open_rtcp(&forged, |_| true);
            assert_eq!(opened, Err(DropReason::SrtpAuth), "{profile:?} byte {at}");
        }
        let mut version_one = honest.to_vec();
        version_one[0] = 0x40;
        assert_eq!(pair.inn.open_rtcp(&version_one, |_| true), Err(DropReason::Malformed));
        assert_eq!(pair.inn.open_rtcp(&[0x80; 1_501], |_| true), Err(DropReason::Malformed));
        assert!(pair.inn.rtcp.is_empty());
        assert_eq!(pair.inn.open_rtcp(&honest, |_| true).unwrap(), rr(1));
    }
}

#[test]
fn unannounced_rtcp_senders_share_a_bounded_number_of_places() {
    for profile in PROFILES {
        let mut pair = Pair::new(profile);
        let known = |ssrc: Ssrc| ssrc.0 >= 1_000;
        for ssrc in 0..MAX_STRANGERS as u32 {
            let sealed = pair.out.seal_rtcp(&rr(ssrc));
            assert_eq!(pair.inn.open_rtcp(&sealed, known).unwrap(), rr(ssrc));
        }
        let sealed = pair.out.seal_rtcp(&rr(999));
        assert_eq!(pair.inn.open_rtcp(&sealed, known), Err(DropReason::UnknownSsrc));
        for ssrc in [0, 1_000, 1_001, 15] {
            let sealed = pair.out.seal_rtcp(&rr(ssrc));
            assert_eq!(pair.inn.open_rtcp(&sealed, known).unwrap(), rr(ssrc));
        }
    }
}

#[test]
fn a_compound_without_a_sender_is_not_sealed() {
    let mut out = Outbound::new(&looped(Profile::AesCm80)).unwrap();
    assert!(out.seal_rtcp(&RR[..7]).is_empty());
    assert_eq!(out.rtcp_index, 0);
    out.rtcp_index = !ENCRYPTED;
    assert!(out.seal_rtcp(&RR).is_empty());
}

proptest! {
    /// Loss, reordering and duplication within the window: every packet once, with its index.
    #[test]
    fn any_order_within_the_window_is_received_once(
        start in 0u64..65_536,
        jumps in proptest::collection::vec((0u64..400, proptest::collection::vec(0usize..40, 0..4)), 1..150),
        profile in 0usize..3,
    ) {
        let mut pair = Pair::new(PROFILES[profile]);
        let mut sent: Vec<(u64, Vec<u8>)> = Vec::new();
        let mut received = std::collections::HashSet::new();
        let mut index = start;
        for (jump, old) in jumps {
            index += jump + 1;
            let sealed = pair.seal(index);
            if received.is_empty() {
                // A receiver learns the cycle from the first packet it gets.
                prop_assume!(index < CYCLE);
            }
            prop_assert_eq!(pair.open(&sealed), Ok(index));
            received.insert(index);
            sent.push((index, sealed));
            for back in old {
                let Some((old, sealed)) = sent.len().checked_sub(back + 1).map(|at| &sent[at]) else {
                    continue;
                };
                prop_assert_eq!(pair.open(&sealed.clone()), Err(DropReason::SrtpReplay), "{}", old);
            }
        }
    }
}

//! What sealing and opening one RTP packet costs, next to `rtc-srtp`, which allocates and copies for each.

use std::hint::black_box;
use std::time::Duration;

use bytes::BytesMut;
use criterion::{Bencher, Criterion, criterion_group, criterion_main};
use rtc_srtp::context::Context;
use rtc_srtp::option::{ContextOption, srtp_replay_protection};
use rtc_srtp::protection_profile::ProtectionProfile;
use sluicegate::sans_io::{Inbound, KeyMaterial, MasterKey, Outbound, Profile, Ssrc};
use sluicegate_benches::clock;

const SSRC: u32 = 7;
const HEADER: usize = 12;
/// Room for any tag.
const TAG: usize = 16;
/// Packets sealed ahead, outside the measured time.
const BATCH: usize = 256;

fn srtp(criterion: &mut Criterion) {
    for profile in [Profile::AesGcm128, Profile::AesGcm256, Profile::AesCm80] {
        for len in [100, 1_200] {
            let mut group = criterion.benchmark_group(format!("srtp/{}/{len}", profile.as_str()));
            group.bench_function("seal", |bencher| seal(bencher, profile, len));
            group.bench_function("seal-rtc-srtp", |bencher| seal_upstream(bencher, profile, len));
            group.bench_function("open", |bencher| open(bencher, profile, len));
            group.bench_function("open-rtc-srtp", |bencher| open_upstream(bencher, profile, len));
            group.finish();
        }
    }
}

fn seal(bencher: &mut Bencher<'_>, profile: Profile, len: usize) {
    let mut outbound = Outbound::new(&keys(profile)).expect("the keys fit");
    let stream = outbound.open_stream(Ssrc(SSRC));
    let (mut out, mut index) = (packet(0, len), 0u64);
    out.resize(len + TAG, 0);
    bencher.iter(|| {
        index += 1;
        out[2..4].copy_from_slice(&(index as u16).to_be_bytes());
        outbound.seal_rtp(stream, index, HEADER, len, &mut out).expect("each index is sealed once")
    });
}

fn seal_upstream(bencher: &mut Bencher<'_>, profile: Profile, len: usize) {
    let mut context = context(profile, None);
    let (mut plain, mut seq) = (packet(0, len), 0u16);
    bencher.iter(|| {
        seq = seq.wrapping_add(1);
        plain[2..4].copy_from_slice(&seq.to_be_bytes());
        context.encrypt_rtp(&plain).expect("it is sealed")
    });
}

fn open(bencher: &mut Bencher<'_>, profile: Profile, len: usize) {
    let KeyMaterial { local, remote, .. } = keys(profile);
    let mut inbound =
        Inbound::new(&KeyMaterial { profile, local: remote, remote: local }).expect("the keys fit");
    sealed_ahead(bencher, profile, len, |packets, first| {
        for (at, packet) in packets.iter_mut().enumerate() {
            let seq = first.wrapping_add(at as u16);
            black_box(inbound.open_rtp(Ssrc(SSRC), seq, HEADER, packet)).expect("it is authentic");
        }
    });
}

fn open_upstream(bencher: &mut Bencher<'_>, profile: Profile, len: usize) {
    let mut context = context(profile, Some(srtp_replay_protection(64)));
    sealed_ahead(bencher, profile, len, |packets, _| {
        for packet in packets {
            black_box(context.decrypt_rtp(packet)).expect("it is authentic");
        }
    });
}

/// Times `open` on packets sealed ahead; it is told the first one's sequence number.
fn sealed_ahead(
    bencher: &mut Bencher<'_>,
    profile: Profile,
    len: usize,
    mut open: impl FnMut(&mut [BytesMut], u16),
) {
    let mut seal = context(profile, None);
    let mut seq = 0u16;
    bencher.iter_custom(|iterations| {
        let (mut taken, mut left) = (Duration::ZERO, iterations as usize);
        while left > 0 {
            let (first, count) = (seq, left.min(BATCH));
            let mut packets = Vec::with_capacity(count);
            for _ in 0..count {
                packets.push(seal.encrypt_rtp(&packet(seq, len)).expect("it is sealed"));
                seq = seq.wrapping_add(1);
            }
            let start = clock::now();
            open(&mut packets, first);
            taken += clock::now() - start;
            left -= count;
        }
        taken
    });
}

fn packet(seq: u16, len: usize) -> Vec<u8> {
    let mut packet = vec![0x80, 96];
    packet.extend(seq.to_be_bytes());
    packet.extend([0, 0, 0, 1]);
    packet.extend(SSRC.to_be_bytes());
    packet.resize(len, 0x5a);
    packet
}

fn keys(profile: Profile) -> KeyMaterial {
    let key = |byte| MasterKey { key: vec![byte; profile.key_len()], salt: vec![byte; profile.salt_len()] };
    KeyMaterial { profile, local: key(1), remote: key(2) }
}

fn context(profile: Profile, replay: Option<ContextOption>) -> Context {
    let keys = keys(profile).local;
    let provider = rtc_crypto::default_provider().expect("a provider is built in");
    Context::new(&keys.key, &keys.salt, ProtectionProfile::from(profile), replay, None, provider.crypto())
        .expect("the keys fit")
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(30)
        .measurement_time(Duration::from_secs(1))
        .warm_up_time(Duration::from_millis(300));
    targets = srtp
}
criterion_main!(benches);

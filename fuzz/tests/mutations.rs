//! Scripts grown from the committed seeds by a seeded mutator: as many as `cargo test` has time for, or as
//! `SLUICEGATE_FUZZ_ITERATIONS` says. `SLUICEGATE_FUZZ_SEED` chooses others.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use sluicegate_fuzz::script::Writer;
use sluicegate_fuzz::{ingress, negotiation, parsers, rtcp};

/// Reads a number from the environment.
fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is a number")),
        Err(_) => default,
    }
}

/// xorshift64*.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize) % sides.max(1)
    }

    fn byte(&mut self) -> u8 {
        self.roll(256) as u8
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        // Eight at a time: in a debug build this would be most of the work.
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            self.roll(1);
            bytes.extend(self.0.to_ne_bytes());
        }
        bytes.truncate(len);
        bytes
    }

    fn mutate(&mut self, input: &mut Vec<u8>) {
        for _ in 0..1 + self.roll(6) {
            let at = self.roll(input.len());
            match self.roll(6) {
                0 if !input.is_empty() => input[at] = self.byte(),
                1 if !input.is_empty() => input[at] ^= 1 << self.roll(8),
                2 if !input.is_empty() => input[at] = [0, 1, 0x7f, 0x80, 0xff][self.roll(5)],
                3 => input.insert(at.min(input.len()), self.byte()),
                4 if !input.is_empty() => drop(input.remove(at)),
                _ => {
                    let end = (at + self.roll(16)).min(input.len());
                    let run = input[at.min(end)..end].to_vec();
                    input.extend(run);
                }
            }
        }
    }
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    let mut paths: Vec<_> = fs::read_dir(directory)
        .expect("seeds are committed")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("a seed is read")).collect()
}

/// Runs one input; should it fail, says how to have it again.
fn attempt<T>(target: &str, input: &[u8], run: impl FnOnce(&[u8]) -> T) -> T {
    match catch_unwind(AssertUnwindSafe(|| run(input))) {
        Ok(done) => done,
        Err(panic) => {
            let kept = std::env::temp_dir().join(format!("sluicegate-fuzz-{target}"));
            let _ = fs::write(&kept, input);
            eprintln!("the {target} input that failed is kept in {}", kept.display());
            std::panic::resume_unwind(panic);
        }
    }
}

/// A script of 400 to 800 steps: seeds end to end and random steps, then altered.
fn script(dice: &mut Dice, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut writer = Writer::default();
    if dice.roll(2) == 0 {
        for who in 0..2 {
            let (check, connect) = (ingress::step::CHECK, ingress::step::CONNECT);
            writer = writer.step(&[check, 0, who, connect, 0, who]);
        }
    }
    for _ in 0..400 + dice.roll(400) {
        if dice.roll(40) == 0 {
            writer = writer.step(&seeds[dice.roll(seeds.len())]);
            continue;
        }
        let mut kind = dice.roll(usize::from(ingress::KINDS)) as u8;
        // Seconds of virtual time cost more than datagrams do.
        if kind == ingress::step::TIME && dice.roll(10) > 0 {
            kind = ingress::step::FRAME;
        }
        let delta = dice.roll(4) as u8;
        let seat = dice.roll(8) as u8;
        writer = writer.step(&[kind, delta, seat]);
        let len = [4, 16, 40, 100, 400, 1_300][dice.roll(6)];
        let body = dice.bytes(len);
        writer = match kind {
            ingress::step::RAW | ingress::step::RTCP | ingress::step::FORGED => writer.bytes(&body),
            ingress::step::RTP => writer.bytes(&body).step(&[dice.byte()]),
            ingress::step::RECORD => writer.step(&[dice.byte(), dice.byte(), dice.byte()]).bytes(&body),
            ingress::step::FEEDBACK => {
                let (which, slot) = (dice.byte(), dice.roll(4) as u8);
                writer.step(&[which, slot]).bytes(&body[..body.len().min(40)])
            }
            ingress::step::HOST if dice.roll(100) > 0 => writer.step(&[dice.roll(5) as u8]),
            ingress::step::TIME => writer.step(&[dice.roll(20) as u8]),
            _ => writer.step(&body[..1]),
        };
    }
    let mut script = writer.0;
    dice.mutate(&mut script);
    script
}

#[test]
fn mutated_datagrams_break_no_promise() {
    let wanted = number("SLUICEGATE_FUZZ_ITERATIONS", 100_000) as usize;
    let seed = number("SLUICEGATE_FUZZ_SEED", 1);
    println!("SLUICEGATE_FUZZ_SEED={seed}");
    let (mut dice, seeds) = (Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1), seeds("ingress"));
    let (mut datagrams, mut scripts) = (0, 0);
    while datagrams < wanted {
        let input = script(&mut dice, &seeds);
        datagrams += attempt("ingress", &input, ingress::drive).max(1);
        scripts += 1;
    }
    println!("{datagrams} datagrams in {scripts} scripts");
}

#[test]
fn mutated_compounds_are_counted_alike() {
    let wanted = number("SLUICEGATE_FUZZ_ITERATIONS", 200_000);
    let (mut dice, seeds) =
        (Dice(number("SLUICEGATE_FUZZ_SEED", 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1), seeds("rtcp"));
    let mut outcomes = [0; 4];
    for _ in 0..wanted {
        let mut compound = seeds[dice.roll(seeds.len())].clone();
        dice.mutate(&mut compound);
        outcomes[attempt("rtcp", &compound, rtcp::examine) as usize] += 1;
    }
    println!("agreed, gate only, library only, refused: {outcomes:?}");
    assert!(outcomes[0] > wanted / 100, "too few compounds are accepted: {outcomes:?}");
}

#[test]
fn mutated_descriptions_break_nothing() {
    let wanted = number("SLUICEGATE_FUZZ_ITERATIONS", 200_000) / 200;
    let (mut dice, seeds) = (
        Dice(number("SLUICEGATE_FUZZ_SEED", 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
        seeds("negotiation"),
    );
    for _ in 0..wanted {
        let mut input = seeds[dice.roll(seeds.len())].clone();
        input.extend(&seeds[dice.roll(seeds.len())]);
        dice.mutate(&mut input);
        attempt("negotiation", &input, negotiation::run);
    }
}

#[test]
fn mutated_inputs_break_no_parser() {
    let wanted = number("SLUICEGATE_FUZZ_ITERATIONS", 5_000);
    for (name, parser) in parsers::ALL {
        let (mut dice, seeds) =
            (Dice(number("SLUICEGATE_FUZZ_SEED", 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1), seeds(name));
        let mut taken = 0;
        for _ in 0..wanted {
            let mut input = seeds[dice.roll(seeds.len())].clone();
            if dice.roll(4) == 0 {
                input.extend(&seeds[dice.roll(seeds.len())]);
            }
            dice.mutate(&mut input);
            taken += u64::from(attempt(name, &input, parser));
        }
        println!("{name} takes {taken} of {wanted}");
        assert!(taken > wanted / 100, "{name} takes too few: {taken} of {wanted}");
    }
}

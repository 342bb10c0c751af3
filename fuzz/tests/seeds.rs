//! Every committed seed, and every corpus there is, through the targets.

use std::fs;
use std::path::{Path, PathBuf};

use sluicegate_fuzz::rtcp::Outcome;
use sluicegate_fuzz::script::Writer;
use sluicegate_fuzz::{ingress, negotiation, parsers, rtcp};

/// Inputs of one target, in the order of their names. None when there is no such directory.
fn inputs(directory: &Path) -> Option<Vec<(PathBuf, Vec<u8>)>> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(directory).ok()?.map(|entry| entry.expect("an entry is read").path()).collect();
    paths.sort();
    Some(paths.into_iter().map(|path| (path.clone(), fs::read(path).expect("a seed is read"))).collect())
}

fn seeds(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    let seeds = inputs(&directory).expect("seeds are committed");
    assert!(!seeds.is_empty(), "seeds of {target}");
    seeds
}

/// Recorded inputs of others, which are not ours to commit: `SLUICEGATE_CORPORA`, or `shared/corpora` beside
/// the repository.
fn corpus(protocol: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let named = std::env::var_os("SLUICEGATE_CORPORA").map(PathBuf::from);
    let root = named.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpora"));
    let found = inputs(&root.join(protocol));
    if found.is_none() {
        println!("skipped: no corpus at {}", root.join(protocol).display());
    }
    found.unwrap_or_default()
}

fn replay(inputs: Vec<(PathBuf, Vec<u8>)>, run: impl Fn(&[u8])) {
    for (path, input) in inputs {
        println!("{}", path.display());
        run(&input);
    }
}

#[test]
fn seeds_of_rtcp() {
    replay(seeds("rtcp"), rtcp::run);
}

#[test]
fn seeds_of_ingress() {
    replay(seeds("ingress"), ingress::run);
}

#[test]
fn seeds_of_negotiation() {
    replay(seeds("negotiation"), negotiation::run);
}

#[test]
fn seeds_of_parsers() {
    for (name, parser) in parsers::ALL {
        let seeds = seeds(name);
        let taken = seeds.iter().filter(|(path, seed)| {
            println!("{}", path.display());
            parser(seed)
        });
        assert!(taken.count() > 0, "{name} takes none of its seeds");
    }
}

/// Datagrams of each protocol through the parsers of all, for none may trust another to have looked.
#[test]
fn corpus_of_parsers() {
    for protocol in ["dependency_descriptor", "stun", "dtls", "rtcp", "rtp"] {
        for (name, parser) in parsers::ALL {
            let taken = corpus(protocol).iter().filter(|(_, input)| parser(input)).count();
            println!("{name} takes {taken} of {protocol}");
        }
    }
}

#[test]
fn corpus_of_rtcp() {
    let mut outcomes = [0; 4];
    for (_, compound) in corpus("rtcp") {
        outcomes[rtcp::examine(&compound) as usize] += 1;
    }
    println!("agreed, gate only, library only, refused: {outcomes:?}");
    assert_eq!(outcomes[Outcome::GateOnly as usize..].len(), 3);
}

/// From a validated path of a connected client, each datagram as it is, and sealed where that applies.
#[test]
fn corpus_of_datagrams() {
    for protocol in ["stun", "dtls", "rtcp", "rtp"] {
        replay(corpus(protocol), |datagram| {
            let datagram = &datagram[..datagram.len().min(2_000)];
            let raw = |writer: Writer| writer.step(&[ingress::step::RAW, 1, 0]).bytes(datagram);
            ingress::run(&raw(raw(Writer::default()).step(&[ingress::step::CHECK, 1, 0])).0);
            let sealed =
                raw(Writer::default().step(&[ingress::step::CONNECT, 0, 0, ingress::step::CONNECT, 0, 1]))
                    .step(&[ingress::step::RTP, 1, 0])
                    .bytes(datagram)
                    .step(&[0, ingress::step::RTCP, 1, 0])
                    .bytes(datagram);
            ingress::run(&sealed.0);
        });
    }
}

#[test]
fn corpus_of_descriptions() {
    for (_, sdp) in corpus("sdp") {
        for subscribe in [0, 2, 4] {
            let join = Writer::default().step(&[subscribe, 5]).bytes(&sdp).step(&[0]);
            negotiation::run(&join.step(&[0, 5]).bytes(&sdp).step(&[0]).0);
        }
    }
}

//! One RTCP compound through our gate, the library's parser and the counting chain: they agree on what is in it.

use std::time::Instant;

use bytes::Bytes;
use rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;
use sluicegate::MediaKind;
use sluicegate::sans_io::{Counters, Feedback, Ssrc, gate, scan};

/// NACK messages, packets they name, PLI, FIR.
type Tally = [u64; 4];

/// What became of a compound.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Gate and library accept it, and count alike.
    Agreed,
    /// Only the gate accepts it.
    GateOnly,
    /// Only the library accepts it.
    LibraryOnly,
    /// Neither does.
    Refused,
}

/// Drives one input.
pub fn run(compound: &[u8]) {
    examine(compound);
}

/// Drives one input, and says what became of it.
///
/// # Panics
///
/// When two that accept the compound count differently.
pub fn examine(compound: &[u8]) -> Outcome {
    let ours = scan(compound);
    // The gate bounds what the library allocates; here everything goes through that it would bound.
    let gated = gate(compound, usize::from(u16::MAX)).is_ok();
    assert!(ours.is_some() || !gated, "the gate admits what the scan refuses");
    let chained = chained(compound);
    let theirs =
        rtcp::packet::unmarshal(&mut Bytes::copy_from_slice(compound)).ok().map(|packets| tally(&packets));
    assert_eq!(chained.is_some(), theirs.is_some(), "the chain is the library's parser");
    match (ours, theirs) {
        (Some(ours), Some(theirs)) => {
            let ours = [ours.nacks, ours.nacked_packets, ours.plis, ours.firs].map(u64::from);
            assert_eq!(ours, theirs, "gate and library");
            assert_eq!(Some(ours), chained, "gate and counter");
            Outcome::Agreed
        }
        (Some(_), None) => Outcome::GateOnly,
        (None, Some(_)) => Outcome::LibraryOnly,
        (None, None) => Outcome::Refused,
    }
}

fn tally(packets: &[Box<dyn rtcp::Packet>]) -> Tally {
    let mut tally = Tally::default();
    for packet in packets {
        let packet = packet.as_any();
        if let Some(nack) = packet.downcast_ref::<TransportLayerNack>() {
            tally[0] += 1;
            tally[1] += nack.nacks.iter().map(|pair| pair.packet_list().len() as u64).sum::<u64>();
        } else if packet.is::<PictureLossIndication>() {
            tally[2] += 1;
        } else if packet.is::<FullIntraRequest>() {
            tally[3] += 1;
        }
    }
    tally
}

/// What the interceptor nearest the wire counts.
fn chained(compound: &[u8]) -> Option<Tally> {
    let mut feedback = Feedback::new(Vec::new());
    feedback.bind_sent(Ssrc(1), MediaKind::Audio);
    feedback.bind_sent(Ssrc(2), MediaKind::Video);
    feedback.read(now(), Bytes::copy_from_slice(compound))?;
    let mut counters = Counters::default();
    feedback.fold_into(&mut counters);
    let (messages, packets) = (&counters.nacks[0], &counters.nacked_packets[0]);
    Some([messages[0] + messages[1], packets[0] + packets[1], counters.plis[0], counters.firs[0]])
}

fn now() -> Instant {
    sluicegate_benches::clock::now()
}

//! A host's interceptor with a fault in it: what it costs, and whom.

use std::collections::VecDeque;
use std::time::Instant;

use sluicegate::interceptors::sansio::Protocol;
use sluicegate::interceptors::{Interceptor, StreamInfo, TaggedPacket, shared};
use sluicegate::{LeaveReason, PeerConfig, PeerEvent};

use super::person::{Person, event};
use super::{scrape, sfu, talk};

/// Panics at the first RTCP that leaves.
#[derive(Default)]
struct Faulty {
    read: VecDeque<TaggedPacket>,
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Faulty {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = shared::error::Error;
    type Time = Instant;

    fn handle_read(&mut self, packet: TaggedPacket) -> Result<(), Self::Error> {
        self.read.push_back(packet);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.read.pop_front()
    }

    fn handle_write(&mut self, _: TaggedPacket) -> Result<(), Self::Error> {
        panic!("a fault of the host's");
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        None
    }
}

impl Interceptor for Faulty {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _: &StreamInfo) {}
}

#[tokio::test]
async fn a_panic_while_serving_one_peer_costs_that_peer() {
    let sfu = sfu().await;
    let room = sfu.room("shared").unwrap();
    let mut people = Vec::new();
    let mut seats = Vec::new();
    for number in 1..=2 {
        let person = Person::publishing(number).await;
        seats.push(person.sit(&room, PeerConfig::new(format!("person {number}"))).await.unwrap());
        people.push(person);
    }
    let mut victim = Person::publishing(3).await;
    let config = PeerConfig::new("victim").interceptor(2_000, Box::new(Faulty::default()));
    let seat = victim.sit(&room, config).await.unwrap();
    for person in people.iter_mut().chain([&mut victim]) {
        person.connects().await;
    }
    // The first feedback about what it publishes is its end.
    victim.say().await;
    event(&seat, "its fault", |event| *event == PeerEvent::Left(LeaveReason::Internal)).await;

    talk(&mut people, &mut [], 50).await;
    for seat in &seats {
        event(
            seat,
            "the victim has left",
            |event| matches!(event, PeerEvent::PeerLeft(info) if info.name == "victim"),
        )
        .await;
    }
    let mut text = String::new();
    sfu.metrics().encode_text(&mut text).unwrap();
    assert_eq!(scrape::sum(&text, "sfu_panics_total", &[("scope", "peer")]), 1);
    assert_eq!(scrape::sum(&text, "sfu_panics_total", &[]), 1);
    assert_eq!(scrape::sum(&text, "sfu_worker_restarts_total", &[]), 0);
}

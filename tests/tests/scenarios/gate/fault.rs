//! Faults of the host's own interceptors, in each of their calls and in each state of a call: T28.

use std::collections::VecDeque;
use std::panic::{panic_any, set_hook, take_hook};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Once};
use std::time::Instant;

use rtcp::payload_feedbacks::full_intra_request::{FirEntry, FullIntraRequest};
use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;
use rtcp::receiver_report::ReceiverReport;
use rtcp::sender_report::SenderReport;
use rtcp::source_description::{SourceDescription, SourceDescriptionChunk};
use rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc;
use rtcp::transport_feedbacks::transport_layer_nack::{NackPair, TransportLayerNack};
use sluicegate::interceptors::sansio::Protocol;
use sluicegate::interceptors::{Interceptor, Packet, StreamInfo, TaggedPacket, shared};
use sluicegate::{Bitrate, LeaveReason, PeerEvent};
use sluicegate_tests::world::{AUDIO, Rtcp, Seat, VIDEO, World, ms, publishes, secs};

use super::room::Room;

/// An RTCP message by its type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Message {
    SenderReport,
    ReceiverReport,
    Description,
    Nack,
    Pli,
    Fir,
    Remb,
    Transport,
}

impl Message {
    fn is(self, packet: &Rtcp) -> bool {
        let packet = packet.as_any();
        match self {
            Message::SenderReport => packet.is::<SenderReport>(),
            Message::ReceiverReport => packet.is::<ReceiverReport>(),
            Message::Description => packet.is::<SourceDescription>(),
            Message::Nack => packet.is::<TransportLayerNack>(),
            Message::Pli => packet.is::<PictureLossIndication>(),
            Message::Fir => packet.is::<FullIntraRequest>(),
            Message::Remb => packet.is::<ReceiverEstimatedMaximumBitrate>(),
            Message::Transport => packet.is::<TransportLayerCc>(),
        }
    }
}

/// Where an interceptor fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Site {
    Read(Message),
    PollRead,
    Write(Message),
    PollWrite,
    Timeout,
    PollTimeout,
    BindLocal,
    UnbindLocal,
    BindRemote,
    UnbindRemote,
    Drop,
}

const SITES: [Site; 23] = {
    use Message::*;
    [
        Site::Read(SenderReport),
        Site::Read(ReceiverReport),
        Site::Read(Description),
        Site::Read(Nack),
        Site::Read(Pli),
        Site::Read(Fir),
        Site::Read(Remb),
        Site::Read(Transport),
        Site::PollRead,
        Site::Write(SenderReport),
        Site::Write(ReceiverReport),
        Site::Write(Description),
        Site::Write(Nack),
        Site::Write(Pli),
        Site::Write(Remb),
        Site::Write(Transport),
        Site::PollWrite,
        Site::Timeout,
        Site::PollTimeout,
        Site::BindLocal,
        Site::BindRemote,
        Site::UnbindRemote,
        Site::Drop,
    ]
};

/// Fails once it is armed, at its site.
struct Faulty {
    site: Site,
    armed: Arc<AtomicBool>,
    struck: Arc<AtomicBool>,
    read: VecDeque<TaggedPacket>,
    write: VecDeque<TaggedPacket>,
}

const FAULT: &str = "a fault of the host's";

impl Faulty {
    fn at(&self, site: Site) {
        if site == self.site && self.armed.load(Relaxed) && !self.struck.swap(true, Relaxed) {
            panic_any(FAULT);
        }
    }

    fn packets(&self, packet: &TaggedPacket, site: fn(Message) -> Site) {
        use Message::*;
        if let Packet::Rtcp(packets) = &packet.message.packet {
            for message in [SenderReport, ReceiverReport, Description, Nack, Pli, Fir, Remb, Transport] {
                if packets.iter().any(|packet| message.is(packet)) {
                    self.at(site(message));
                }
            }
        }
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Faulty {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = shared::error::Error;
    type Time = Instant;

    fn handle_read(&mut self, packet: TaggedPacket) -> Result<(), Self::Error> {
        self.packets(&packet, Site::Read);
        self.read.push_back(packet);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.at(Site::PollRead);
        self.read.pop_front()
    }

    fn handle_write(&mut self, packet: TaggedPacket) -> Result<(), Self::Error> {
        self.packets(&packet, Site::Write);
        self.write.push_back(packet);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.at(Site::PollWrite);
        self.write.pop_front()
    }

    fn handle_timeout(&mut self, _: Instant) -> Result<(), Self::Error> {
        self.at(Site::Timeout);
        Ok(())
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        self.at(Site::PollTimeout);
        None
    }
}

impl Interceptor for Faulty {
    fn bind_local_stream(&mut self, _: &StreamInfo) {
        self.at(Site::BindLocal);
    }

    fn unbind_local_stream(&mut self, _: &StreamInfo) {
        self.at(Site::UnbindLocal);
    }

    fn bind_remote_stream(&mut self, _: &StreamInfo) {
        self.at(Site::BindRemote);
    }

    fn unbind_remote_stream(&mut self, _: &StreamInfo) {
        self.at(Site::UnbindRemote);
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        self.at(Site::Drop);
    }
}

/// When the fault is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// From the first call on: while it joins and connects.
    Joining,
    /// Once media has flowed for a second.
    Flowing,
    /// While an offer of ours is on its way to the client.
    Negotiating,
}

struct Victim {
    seat: Seat,
    site: Site,
    armed: Arc<AtomicBool>,
    struck: Arc<AtomicBool>,
}

impl Victim {
    fn enter(world: &mut World, site: Site, armed: bool) -> Victim {
        let (armed, struck) = (Arc::new(AtomicBool::new(armed)), Arc::default());
        let faulty = Faulty {
            site,
            armed: armed.clone(),
            struck: Arc::clone(&struck),
            read: VecDeque::new(),
            write: VecDeque::new(),
        };
        world.interceptors.push((2_000, Box::new(faulty)));
        let seat = world.join("control", &format!("{site:?}"), publishes(AUDIO | VIDEO).at(100_000));
        Victim { seat, site, armed, struck }
    }

    /// Makes all happen that an interceptor can meet with, once.
    fn provoke(&self, world: &mut World, n: u32) {
        let Some(peer) = world[self.seat].peer else { return };
        if !world[self.seat].is_connected() {
            return;
        }
        let streams = world[self.seat].receives();
        let ssrc = streams.first().map_or(1, |(ssrc, _)| *ssrc);
        let said: Option<Rtcp> = match self.site {
            Site::Read(Message::ReceiverReport) => Some(Box::new(ReceiverReport::default())),
            Site::Read(Message::Description) => Some(Box::new(SourceDescription {
                chunks: vec![SourceDescriptionChunk { source: 1, items: Vec::new() }],
            })),
            Site::Read(Message::Nack) => Some(Box::new(TransportLayerNack {
                sender_ssrc: 1,
                media_ssrc: ssrc,
                nacks: vec![NackPair { packet_id: 7, lost_packets: 1 }],
            })),
            Site::Read(Message::Pli) => {
                Some(Box::new(PictureLossIndication { sender_ssrc: 1, media_ssrc: ssrc }))
            }
            Site::Read(Message::Fir) => Some(Box::new(FullIntraRequest {
                sender_ssrc: 1,
                media_ssrc: ssrc,
                fir: vec![FirEntry { ssrc, sequence_number: n as u8 }],
            })),
            Site::Read(Message::Remb) => Some(Box::new(ReceiverEstimatedMaximumBitrate {
                sender_ssrc: 1,
                bitrate: 1e6,
                ssrcs: vec![ssrc],
            })),
            _ => None,
        };
        if let Some(said) = said {
            world.send_rtcp(self.seat, vec![said]);
        }
        match self.site {
            Site::Write(Message::Remb) | Site::PollTimeout => {
                let cap = Bitrate::kbps(500 + u64::from(n));
                world.engine.set_publish_cap(world.now, peer, Some(cap)).expect("it is there");
            }
            Site::Write(Message::Nack) => world.lose(self.seat.uplink, 0.3),
            Site::UnbindRemote if world[self.seat].video.is_some() => {
                world[self.seat].unpublish(true);
                let _ = world.renegotiate(self.seat);
            }
            Site::BindRemote
                if n == 0 && world[self.seat].connected_at.is_some_and(|at| at + secs(1) < world.now) =>
            {
                // Another camera instead of the one that flows.
                world[self.seat].unpublish(true);
                world.publish(self.seat, true);
                let _ = world.renegotiate(self.seat);
            }
            Site::Drop if n > 5 => world.leave(self.seat),
            _ => {}
        }
    }
}

/// The hook would print what is meant to happen.
fn expect_faults() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |info| {
            if info.payload().downcast_ref::<&str>() != Some(&FAULT) {
                before(info);
            }
        }));
    });
}

#[test]
fn t28_a_fault_costs_the_peer_it_was_in_wherever_and_whenever() {
    expect_faults();
    let mut world = World::new(1);
    world.contains_faults = true;
    let room = Room::enter(&mut world);
    world.connect_all(secs(2));
    world.run(secs(1));
    for state in [State::Joining, State::Flowing, State::Negotiating] {
        for sites in SITES.chunks(6) {
            let joining = state == State::Joining;
            let before = world.counters().panics;
            let victims: Vec<Victim> =
                sites.iter().map(|site| Victim::enter(&mut world, *site, joining)).collect();
            if !joining {
                world.run(ms(1_500));
            }
            let mut passer = None;
            if state == State::Negotiating {
                // What only a negotiation brings about must be let go on.
                let negotiated = [Site::BindLocal, Site::BindRemote, Site::UnbindRemote];
                for victim in victims.iter().filter(|victim| !negotiated.contains(&victim.site)) {
                    world.hold(victim.seat);
                }
                passer = Some(world.join("control", "passer-by", publishes(AUDIO)));
            }
            victims.iter().for_each(|victim| victim.armed.store(true, Relaxed));
            for n in 0..30 {
                for victim in &victims {
                    victim.provoke(&mut world, n);
                }
                // Somebody who is new on a track asks for its keyframe; streams begin and end.
                if n == 5 && state != State::Negotiating {
                    passer = Some(world.join("control", "passer-by", publishes(AUDIO | VIDEO)));
                }
                world.run(ms(80));
            }
            for Victim { seat, site, struck, .. } in &victims {
                let left = world[*seat].told(|event| matches!(event, PeerEvent::Left(_)));
                let fault = world[*seat].told(|event| *event == PeerEvent::Left(LeaveReason::Internal));
                let events = &world[*seat].events;
                assert!(struck.load(Relaxed), "{state:?}, {site:?}: it came to that: {events:?}");
                assert_eq!(left.len(), 1, "{state:?}, {site:?}: {:?}", world[*seat].events);
                // One that fails while it is let go has left already.
                assert_eq!(fault.len(), usize::from(*site != Site::Drop), "{state:?}, {site:?}");
                world.forget(*seat);
            }
            let passer = passer.expect("somebody came by");
            assert_eq!(world[passer].left(), None, "{state:?}: not its fault");
            world.leave(passer);
            world.forget(passer);
            let drops = u64::from(sites.contains(&Site::Drop));
            let [peers, rooms, workers] = before;
            assert_eq!(world.counters().panics, [peers + sites.len() as u64 - drops, rooms, workers]);
            room.is_unharmed_by_publishers(&world);
        }
    }
    assert_eq!(world.engine.footprint()[..2], [10, 1]);
}

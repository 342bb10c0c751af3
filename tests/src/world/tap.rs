//! What passes a client's wire: an interceptor that sits wire-most in its chain and only looks.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use interceptor::{Attribute, Interceptor, Packet, StreamInfo, TaggedPacket};
use rtc_shared::marshal::MarshalSize;
use rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;
use rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;
use sansio::Protocol;

pub type Rtcp = Box<dyn rtcp::Packet>;

/// A client's RTCP, as it was on the wire, and how much RTP went with it.
#[derive(Default)]
pub struct Wire {
    pub received: Vec<(Instant, Rtcp)>,
    pub sent: Vec<(Instant, Rtcp)>,
    pub rtp_received: u64,
    pub rtp_sent: u64,
    /// Headers and payloads, before they are sealed.
    pub rtp_bytes_sent: u64,
    pub rtp_bytes_received: u64,
    /// To go out as they are, under the client's keys, with its next packet.
    pub smuggled: Vec<rtp::packet::Packet>,
}

impl Wire {
    /// The packets of one type, with their times.
    pub fn of<T: rtcp::Packet + 'static>(list: &[(Instant, Rtcp)]) -> Vec<(Instant, &T)> {
        list.iter().filter_map(|(at, packet)| Some((*at, packet.as_any().downcast_ref::<T>()?))).collect()
    }

    pub fn plis(list: &[(Instant, Rtcp)]) -> Vec<Instant> {
        Wire::of::<PictureLossIndication>(list).into_iter().map(|(at, _)| at).collect()
    }

    pub fn firs(list: &[(Instant, Rtcp)]) -> usize {
        Wire::of::<FullIntraRequest>(list).len()
    }

    /// NACK messages, and the sequence numbers they ask for.
    pub fn nacks(list: &[(Instant, Rtcp)]) -> (u64, u64) {
        let nacks = Wire::of::<TransportLayerNack>(list);
        let asked = nacks.iter().flat_map(|(_, nack)| &nack.nacks);
        let asked = asked.map(|pair| 1 + u64::from(pair.lost_packets.count_ones())).sum();
        (nacks.len() as u64, asked)
    }

    /// The rates that REMBs told, with their times.
    pub fn rembs(list: &[(Instant, Rtcp)]) -> Vec<(Instant, f32)> {
        let rembs = Wire::of::<ReceiverEstimatedMaximumBitrate>(list);
        rembs.into_iter().map(|(at, remb)| (at, remb.bitrate)).collect()
    }
}

/// Both ends of a tap: the chain holds one, the client reads the other.
#[derive(Clone, Default)]
pub struct Tap {
    wire: Arc<Mutex<Wire>>,
}

impl Tap {
    pub fn wire(&self) -> MutexGuard<'_, Wire> {
        self.wire.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn interceptor(&self) -> TapInterceptor {
        TapInterceptor { tap: self.clone(), read: VecDeque::new(), write: VecDeque::new() }
    }
}

pub struct TapInterceptor {
    tap: Tap,
    read: VecDeque<TaggedPacket>,
    write: VecDeque<TaggedPacket>,
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for TapInterceptor {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = rtc_shared::error::Error;
    type Time = Instant;

    fn handle_read(&mut self, mut packet: TaggedPacket) -> Result<(), Self::Error> {
        let mut wire = self.tap.wire();
        match &packet.message.packet {
            Packet::Rtcp(packets) => {
                wire.received.extend(packets.iter().map(|rtcp| (packet.now, rtcp.clone())));
                packet.message.add(Attribute::DeliverToApplication);
            }
            Packet::Rtp(rtp) => {
                wire.rtp_received += 1;
                wire.rtp_bytes_received += rtp.payload.len() as u64 + 12;
            }
            _ => {}
        }
        drop(wire);
        self.read.push_back(packet);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.read.pop_front()
    }

    fn handle_write(&mut self, packet: TaggedPacket) -> Result<(), Self::Error> {
        let mut wire = self.tap.wire();
        for smuggled in wire.smuggled.drain(..) {
            let message = interceptor::AttributedPacket::new(Packet::Rtp(smuggled));
            self.write.push_back(TaggedPacket { now: packet.now, transport: packet.transport, message });
        }
        match &packet.message.packet {
            Packet::Rtcp(packets) => {
                wire.sent.extend(packets.iter().map(|rtcp| (packet.now, rtcp.clone())));
            }
            Packet::Rtp(rtp) => {
                wire.rtp_sent += 1;
                wire.rtp_bytes_sent += (rtp.header.marshal_size() + rtp.payload.len()) as u64;
            }
            _ => {}
        }
        drop(wire);
        self.write.push_back(packet);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.write.pop_front()
    }
}

impl Interceptor for TapInterceptor {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _: &StreamInfo) {}
}

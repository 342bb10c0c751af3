//! Tells the one who plays that a keyframe is wanted.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use rtc::interceptor::{Interceptor, Packet, StreamInfo, TaggedPacket};
use rtc::rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::sansio::Protocol;
use rtc::shared::error::Error;
use tokio::sync::Notify;

/// Hears PLI and FIR on their way in.
///
/// `webrtc` would deliver them to the track itself, were they marked `DeliverToApplication`. But it finds the track of
/// a compound by the first packet in it, which is a receiver report (RFC 3550 §6.1): a request behind the report of
/// the audio goes to the audio track, and one behind an empty report nowhere.
pub struct KeyframeRequests {
    wanted: Arc<Notify>,
    read: VecDeque<TaggedPacket>,
    write: VecDeque<TaggedPacket>,
}

impl KeyframeRequests {
    /// Wakes whoever waits for `wanted`. Requests that nobody waits for yet are one.
    pub fn new(wanted: Arc<Notify>) -> KeyframeRequests {
        KeyframeRequests { wanted, read: VecDeque::new(), write: VecDeque::new() }
    }
}

/// Whether one of these asks for a keyframe. RFC 4585 §6.3.1 (PLI), RFC 5104 §4.3.1 (FIR).
fn ask_for_keyframe(packets: &[Box<dyn rtc::rtcp::Packet>]) -> bool {
    packets.iter().any(|packet| {
        let packet = packet.as_any();
        packet.is::<PictureLossIndication>() || packet.is::<FullIntraRequest>()
    })
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for KeyframeRequests {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, packet: TaggedPacket) -> Result<(), Error> {
        if let Packet::Rtcp(packets) = &packet.message.packet
            && ask_for_keyframe(packets)
        {
            self.wanted.notify_one();
        }
        self.read.push_back(packet);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.read.pop_front()
    }

    fn handle_write(&mut self, packet: TaggedPacket) -> Result<(), Error> {
        self.write.push_back(packet);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.write.pop_front()
    }
}

impl Interceptor for KeyframeRequests {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _: &StreamInfo) {}
}

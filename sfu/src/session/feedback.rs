//! A session's RTCP chain, and the counter that sits closest to the wire in it.
//!
//! Everything received passes the counter before any other interceptor, everything sent passes it after
//! all others: its numbers are those of the wire.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use interceptor::{
    Attribute, AttributedPacket, BoxedInterceptor, Interceptor, Packet, Registry, Slot, StreamInfo,
    TaggedPacket,
};
use rtc_shared::TransportContext;
use rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;
use sansio::Protocol;

use crate::counters::{Counters, Direction};
use crate::ids::{MediaKind, Ssrc};

use super::ledger::Ledger;

/// Where the counter sits: closer to the wire than the first named slot of `rtc-interceptor` (1000).
const COUNTER_POSITION: usize = 500;

pub type Rtcp = Box<dyn rtcp::Packet>;

/// The chain all RTCP of one session walks.
///
/// Interceptors are the host's code, and some of their calls happen while the engine serves somebody else: a
/// subscriber's request becomes a PLI in its publisher's chain. A fault is therefore kept, and breaks out when
/// its own session is served next, so that nobody else pays for it. Until then the chain is not called.
pub struct Feedback {
    /// `None` once it has failed.
    chain: Option<BoxedInterceptor>,
    fault: Option<Box<dyn Any + Send>>,
    tally: Arc<Tally>,
}

impl Feedback {
    /// The counter, and whatever the host seats beside it.
    pub fn new(host: Vec<(usize, BoxedInterceptor)>) -> Self {
        let tally = Arc::new(Tally::default());
        let mut registry = Registry::new();
        for (position, interceptor) in host {
            registry = registry.with(Slot::from(position), interceptor);
        }
        let counter = Counter { tally: tally.clone(), ..Counter::default() };
        let chain = registry.with(Slot::from(COUNTER_POSITION), counter).build();
        Feedback { chain: Some(Box::new(chain)), fault: None, tally }
    }

    /// A stream we send: its NACKs come in.
    pub fn bind_sent(&mut self, ssrc: Ssrc, kind: MediaKind) {
        self.walk(|chain| chain.bind_local_stream(&stream_info(ssrc, kind)));
    }

    /// A stream we receive: its NACKs go out.
    pub fn bind_received(&mut self, ssrc: Ssrc, kind: MediaKind) {
        self.walk(|chain| chain.bind_remote_stream(&stream_info(ssrc, kind)));
    }

    /// A stream we no longer receive.
    pub fn unbind_received(&mut self, ssrc: Ssrc, kind: MediaKind) {
        self.walk(|chain| chain.unbind_remote_stream(&stream_info(ssrc, kind)));
    }

    /// Walks a received compound towards the session. `None` if it does not parse.
    pub fn read(&mut self, now: Instant, compound: Bytes) -> Option<Vec<Rtcp>> {
        let mut compound = compound;
        let packets = rtcp::packet::unmarshal(&mut compound).ok()?;
        let mut delivered = Vec::new();
        self.walk(|chain| {
            // The chain logs what an interceptor refuses and goes on, so there is no error to act on.
            let _ = chain.handle_read(tagged(now, packets));
            while let Some(message) = chain.poll_read() {
                if let Packet::Rtcp(packets) = message.message.packet {
                    delivered.extend(packets);
                }
            }
        });
        self.break_out();
        Some(delivered)
    }

    /// Walks generated packets towards the wire; what comes out is ready to be sealed.
    pub fn write(&mut self, now: Instant, packets: Vec<Rtcp>, mut emit: impl FnMut(BytesMut)) {
        self.walk(|chain| {
            let _ = chain.handle_write(tagged(now, packets));
            drain(chain, &mut emit);
        });
    }

    /// Lets interceptors act on time; what they generate goes to `emit`.
    ///
    /// # Panics
    ///
    /// When one of them has failed, now or since the last call.
    pub fn handle_timeout(&mut self, now: Instant, mut emit: impl FnMut(BytesMut)) {
        self.walk(|chain| {
            let _ = chain.handle_timeout(now);
            drain(chain, &mut emit);
        });
        self.break_out();
    }

    /// When the chain wants [`handle_timeout`](Self::handle_timeout).
    pub fn poll_timeout(&mut self) -> Option<Instant> {
        self.walk(|chain| chain.poll_timeout()).flatten()
    }

    /// The account of what has been asked for since the last [`fold_into`](Self::fold_into).
    pub fn open_ledger(&self) -> Ledger {
        let received = &self.tally.received;
        let packets = [0, 1].map(|kind| u64::from(received.nacks[kind].packets.load(Relaxed)));
        let keyframes = u64::from(received.plis.load(Relaxed)) + u64::from(received.firs.load(Relaxed));
        Ledger::new(packets, keyframes)
    }

    /// Moves what the counter has seen since the last call into the worker's counters.
    pub fn fold_into(&self, counters: &mut Counters) {
        for (direction, side) in [(Direction::In, &self.tally.received), (Direction::Out, &self.tally.sent)] {
            for (kind, cells) in [(MediaKind::Audio, &side.nacks[0]), (MediaKind::Video, &side.nacks[1])] {
                let messages = cells.messages.swap(0, Relaxed);
                let packets = cells.packets.swap(0, Relaxed);
                counters.nacks(direction, kind, u64::from(messages), u64::from(packets));
            }
            counters.plis(direction, u64::from(side.plis.swap(0, Relaxed)));
            counters.firs(direction, u64::from(side.firs.swap(0, Relaxed)));
        }
    }

    /// Does something with the chain. Should it fail, that is its last.
    fn walk<T>(&mut self, act: impl FnOnce(&mut BoxedInterceptor) -> T) -> Option<T> {
        let chain = self.chain.as_mut()?;
        match catch_unwind(AssertUnwindSafe(|| act(chain))) {
            Ok(value) => Some(value),
            Err(fault) => {
                self.fault = Some(fault);
                let_go(self.chain.take());
                None
            }
        }
    }

    fn break_out(&mut self) {
        if let Some(fault) = self.fault.take() {
            resume_unwind(fault);
        }
    }
}

impl Drop for Feedback {
    fn drop(&mut self) {
        let_go(self.chain.take());
    }
}

/// A chain that cannot even be dropped has left by then: nobody pays for that.
fn let_go(chain: Option<BoxedInterceptor>) {
    if catch_unwind(AssertUnwindSafe(|| drop(chain))).is_err() {
        tracing::warn!("an interceptor panicked while it was dropped");
    }
}

fn drain(chain: &mut BoxedInterceptor, emit: &mut impl FnMut(BytesMut)) {
    while let Some(message) = chain.poll_write() {
        if let Packet::Rtcp(packets) = message.message.packet
            && !packets.is_empty()
            && let Ok(compound) = rtcp::packet::marshal(&packets)
        {
            emit(compound);
        }
    }
}

fn tagged(now: Instant, packets: Vec<Rtcp>) -> TaggedPacket {
    TaggedPacket {
        now,
        transport: TransportContext::default(),
        message: AttributedPacket::new(Packet::Rtcp(packets)),
    }
}

fn stream_info(ssrc: Ssrc, kind: MediaKind) -> StreamInfo {
    StreamInfo { ssrc: ssrc.0, mime_type: kind.as_str().to_owned(), ..StreamInfo::default() }
}

/// What the counter has seen, shared with the session. The chain is opaque once built, hence the `Arc`;
/// it has one writer and one reader on the same thread, hence the relaxed order.
#[derive(Default, Debug)]
struct Tally {
    received: Side,
    sent: Side,
}

#[derive(Default, Debug)]
struct Side {
    /// Audio, video.
    nacks: [NackCells; 2],
    plis: AtomicU32,
    firs: AtomicU32,
}

#[derive(Default, Debug)]
struct NackCells {
    messages: AtomicU32,
    packets: AtomicU32,
}

/// Counts NACK, PLI and FIR as they enter and leave, and vouches for inbound RTCP: the chain's terminus
/// swallows what nobody marks for delivery.
#[derive(Default)]
struct Counter {
    tally: Arc<Tally>,
    /// SSRCs of audio that we send, and that we receive: a stranger may announce as its own what is ours.
    audio_sent: Vec<u32>,
    audio_received: Vec<u32>,
    read: VecDeque<TaggedPacket>,
    write: VecDeque<TaggedPacket>,
}

impl Counter {
    /// `audio`: the audio streams that the packets may be about.
    fn count(side: &Side, audio: &[u32], packets: &[Rtcp]) {
        for packet in packets {
            let packet = packet.as_any();
            if let Some(nack) = packet.downcast_ref::<TransportLayerNack>() {
                let cells = &side.nacks[usize::from(!audio.contains(&nack.media_ssrc))];
                let asked: u32 =
                    nack.nacks.iter().map(|pair| 1 + u32::from(pair.lost_packets).count_ones()).sum();
                cells.messages.fetch_add(1, Relaxed);
                cells.packets.fetch_add(asked, Relaxed);
            } else if packet.is::<PictureLossIndication>() {
                side.plis.fetch_add(1, Relaxed);
            } else if packet.is::<FullIntraRequest>() {
                side.firs.fetch_add(1, Relaxed);
            }
        }
    }

    fn learn(audio: &mut Vec<u32>, info: &StreamInfo) {
        if info.mime_type == MediaKind::Audio.as_str() && !audio.contains(&info.ssrc) {
            audio.push(info.ssrc);
        }
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Counter {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = rtc_shared::error::Error;
    type Time = Instant;

    fn handle_read(&mut self, mut packet: TaggedPacket) -> Result<(), Self::Error> {
        if let Packet::Rtcp(packets) = &packet.message.packet {
            Counter::count(&self.tally.received, &self.audio_sent, packets);
            packet.message.add(Attribute::DeliverToApplication);
        }
        self.read.push_back(packet);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.read.pop_front()
    }

    fn handle_write(&mut self, packet: TaggedPacket) -> Result<(), Self::Error> {
        if let Packet::Rtcp(packets) = &packet.message.packet {
            Counter::count(&self.tally.sent, &self.audio_received, packets);
        }
        self.write.push_back(packet);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.write.pop_front()
    }
}

impl Interceptor for Counter {
    fn bind_local_stream(&mut self, info: &StreamInfo) {
        Counter::learn(&mut self.audio_sent, info);
    }

    fn unbind_local_stream(&mut self, info: &StreamInfo) {
        self.audio_sent.retain(|ssrc| *ssrc != info.ssrc);
    }

    fn bind_remote_stream(&mut self, info: &StreamInfo) {
        Counter::learn(&mut self.audio_received, info);
    }

    fn unbind_remote_stream(&mut self, info: &StreamInfo) {
        self.audio_received.retain(|ssrc| *ssrc != info.ssrc);
    }
}

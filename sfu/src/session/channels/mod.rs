//! One peer's data channels: SCTP over its DTLS association (RFC 8831, RFC 8832).

mod allowance;
mod gate;

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use rtc_datachannel::data_channel::DataChannel;
use rtc_datachannel::message::Message;
use rtc_datachannel::message::message_channel_ack::DataChannelAck;
use rtc_datachannel::message::message_channel_open::DataChannelOpen;
use rtc_sctp::{
    Association, AssociationHandle, DatagramEvent, Endpoint, EndpointConfig, Event,
    PayloadProtocolIdentifier, ServerConfig, StreamEvent, TransportConfig,
};
use rtc_shared::TransportProtocol;
use rtc_shared::marshal::{Marshal, Unmarshal};

use super::report::Reports;
use crate::counters::MessageOutcome;
use crate::drop::DropReason;
use crate::wire::sctp::{Chunk, Packet};
use allowance::Allowance;
use gate::{Gate, MAX_STREAMS, RECEIVE_BUFFER};

/// Something that came of a packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ChannelEvent {
    /// A message of the peer's.
    Message {
        /// The label of its channel.
        channel: Arc<str>,
        /// Else it is text, and UTF-8.
        binary: bool,
        data: Bytes,
    },
    /// A message of the peer's that goes no further.
    Dropped(MessageOutcome),
}

/// The data channels of one peer. Made when its first packet comes; the peer is the one who connects.
pub struct Channels {
    endpoint: Endpoint,
    association: Option<(AssociationHandle, Association)>,
    gate: Gate,
    /// The peer's tag, and what we have answered it, until it has gone on from there.
    introduction: Option<(u32, Vec<Bytes>)>,
    introductions: u8,
    open: Vec<Channel>,
    /// Messages that wait until the library may have them.
    queue: VecDeque<Outgoing>,
    queued: usize,
    /// What closed channels had under way when they closed.
    orphaned: usize,
    allowance: Allowance,
    events: VecDeque<ChannelEvent>,
    packets: VecDeque<Bytes>,
    /// Something has happened since packets were last made; they have been made since somebody asked.
    stirred: bool,
    gathered: bool,
    /// Bytes in one message, as the peer takes them.
    most: usize,
    /// What it tells of itself.
    pub reports: Reports,
}

struct Channel {
    stream: u16,
    label: Arc<str>,
    /// Sizes of the messages that the library has, and what it has let go of since the oldest.
    under_way: VecDeque<usize>,
    released: usize,
}

struct Outgoing {
    stream: u16,
    kind: PayloadProtocolIdentifier,
    data: Bytes,
}

impl Channels {
    /// `most`: bytes in one message to the peer, as it has announced.
    pub fn new(now: Instant, most: usize) -> Channels {
        Channels {
            endpoint: endpoint(),
            association: None,
            gate: Gate::default(),
            introduction: None,
            introductions: 0,
            open: Vec::new(),
            queue: VecDeque::new(),
            queued: 0,
            orphaned: 0,
            allowance: Allowance::new(now),
            events: VecDeque::new(),
            packets: VecDeque::new(),
            stirred: false,
            gathered: false,
            most: most.min(MAX_MESSAGE),
            reports: Reports::default(),
        }
    }

    /// Takes a packet that DTLS has authenticated.
    ///
    /// # Errors
    /// The reason to count it as dropped.
    pub fn handle_packet(&mut self, now: Instant, bytes: &Bytes) -> Result<(), DropReason> {
        let packet = Packet::parse(bytes).ok_or(DropReason::Malformed)?;
        match packet.chunks().next() {
            Some(Chunk::Init { ack: false, tag, tsn }) => return self.introduce(now, bytes, tag, tsn),
            _ if self.association.is_none() => return Err(DropReason::Malformed),
            _ => self.gate.admit(packet)?,
        }
        self.feed(now, bytes);
        self.serve(now);
        Ok(())
    }

    /// What has come of it.
    pub fn poll_event(&mut self) -> Option<ChannelEvent> {
        self.events.pop_front()
    }

    /// Whether the peer has a channel of this label open.
    pub fn has(&self, label: &str) -> bool {
        self.open.iter().any(|channel| &*channel.label == label)
    }

    /// Queues a message for the first channel of this label.
    ///
    /// # Errors
    /// Why it will not be sent.
    pub fn enqueue(&mut self, label: &str, binary: bool, data: &Bytes) -> Result<(), MessageOutcome> {
        let channel = self.open.iter().find(|channel| &*channel.label == label);
        let stream = channel.ok_or(MessageOutcome::NoChannel)?.stream;
        if data.len() > self.most {
            return Err(MessageOutcome::Oversize);
        }
        if self.queued + cost(data) > MAX_QUEUED {
            return Err(MessageOutcome::QueueFull);
        }
        // RFC 8831 §6.6: there are no empty messages, so that an empty one is told by its kind.
        let (kind, data) = match (binary, data.is_empty()) {
            (true, false) => (PayloadProtocolIdentifier::Binary, data.clone()),
            (false, false) => (PayloadProtocolIdentifier::String, data.clone()),
            (true, true) => (PayloadProtocolIdentifier::BinaryEmpty, Bytes::from_static(&[0])),
            (false, true) => (PayloadProtocolIdentifier::StringEmpty, Bytes::from_static(&[0])),
        };
        self.queued += cost(&data);
        self.queue.push_back(Outgoing { stream, kind, data });
        self.stirred = true;
        Ok(())
    }

    /// Whether [`poll_transmit`](Self::poll_transmit) may have something.
    pub fn has_output(&self) -> bool {
        self.stirred || !self.packets.is_empty()
    }

    /// The next packet for DTLS to carry.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Bytes> {
        if self.packets.is_empty() && self.stirred {
            self.write_queued(now);
            self.gather(now);
        }
        self.packets.pop_front()
    }

    /// Whether packets have been made since this was last asked: timers have changed then.
    pub fn take_gathered(&mut self) -> bool {
        std::mem::take(&mut self.gathered)
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.association.as_ref()?.1.poll_timeout()
    }

    /// Has the library do what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_none_or(|at| at > now) {
            return;
        }
        if let Some((_, association)) = &mut self.association {
            association.handle_timeout(now);
        }
        self.stirred = true;
        self.serve(now);
    }

    /// Bytes and messages that are held for the peer, and channels it has open: for leak tests.
    #[cfg(test)]
    fn footprint(&self) -> [usize; 4] {
        let under_way = self.open.iter().flat_map(|channel| &channel.under_way).sum();
        [self.queued, under_way, self.orphaned, self.open.len()]
    }

    // ---- the peer --------------------------------------------------------------------------------------

    /// The peer connects. An INIT that comes again is answered as before: our answer was lost.
    fn introduce(&mut self, now: Instant, bytes: &Bytes, tag: u32, tsn: u32) -> Result<(), DropReason> {
        if let Some((known, answer)) = &self.introduction
            && *known == tag
        {
            if self.packets.len() < MAX_REPEATS {
                self.packets.extend(answer.iter().cloned());
            }
            return Ok(());
        }
        let established = self.association.as_ref().is_some_and(|(_, a)| !a.is_handshaking());
        if established || self.introductions == MAX_INTRODUCTIONS {
            return Err(DropReason::QueueFull);
        }
        self.introductions += 1;
        self.endpoint = endpoint();
        self.association = None;
        self.gate = Gate::new(tsn);
        self.feed(now, bytes);
        self.gather(now);
        let answer = self.packets.iter().cloned().collect();
        self.introduction = Some((tag, answer));
        Ok(())
    }

    /// Gives the library a packet.
    fn feed(&mut self, now: Instant, bytes: &Bytes) {
        self.stirred = true;
        match (self.endpoint.handle(now, PEER, None, bytes.clone()), &mut self.association) {
            (Some((handle, DatagramEvent::NewAssociation(association))), none @ None) => {
                *none = Some((handle, association));
            }
            (Some((handle, DatagramEvent::AssociationEvent(event))), Some((ours, association)))
                if handle == *ours =>
            {
                association.handle_event(event);
            }
            _ => {}
        }
    }

    /// Acts on what the library has to say.
    fn serve(&mut self, now: Instant) {
        while let Some((_, association)) = &mut self.association {
            let Some(event) = association.poll() else { break };
            match event {
                Event::Connected => self.introduction = None,
                Event::AssociationLost { id, .. } => self.forget(id),
                Event::Stream(StreamEvent::Readable { id }) => self.read(now, id),
                Event::Stream(StreamEvent::BufferedAmountReleased { id, n_bytes }) => {
                    self.release(id, n_bytes)
                }
                _ => {}
            }
        }
        let Some((_, association)) = &mut self.association else { return };
        while association.accept_stream().is_some() {}
        if self.gate.is_overgrown() || self.orphaned > MAX_QUEUED {
            let _ = association.abort();
            self.gather(now);
        }
        self.end_if_closed();
    }

    fn end_if_closed(&mut self) {
        if self.association.as_ref().is_some_and(|(_, association)| association.is_closed())
            && self.introduction.is_none()
        {
            self.association = None;
            self.open.clear();
            self.queue.clear();
            (self.queued, self.orphaned) = (0, 0);
        }
    }

    /// Reads all that a stream has.
    fn read(&mut self, now: Instant, stream: u16) {
        loop {
            let Some((_, association)) = &mut self.association else { return };
            let Some(chunks) =
                association.stream(stream).ok().and_then(|mut stream| stream.read().ok().flatten())
            else {
                return;
            };
            self.gate.on_read(chunks.chunks.len());
            match chunks.to_payload(MAX_MESSAGE) {
                Err(_) => self.events.push_back(ChannelEvent::Dropped(MessageOutcome::Oversize)),
                Ok(data) if chunks.ppi == PayloadProtocolIdentifier::Dcep => self.control(now, stream, &data),
                Ok(data) => {
                    let event = self.message(now, stream, chunks.ppi, data);
                    self.events.push_back(event.unwrap_or_else(ChannelEvent::Dropped));
                }
            }
        }
    }

    fn message(
        &mut self,
        now: Instant,
        stream: u16,
        kind: PayloadProtocolIdentifier,
        data: BytesMut,
    ) -> Result<ChannelEvent, MessageOutcome> {
        let (binary, data) = match kind {
            PayloadProtocolIdentifier::String => (false, data.freeze()),
            PayloadProtocolIdentifier::Binary => (true, data.freeze()),
            PayloadProtocolIdentifier::StringEmpty => (false, Bytes::new()),
            PayloadProtocolIdentifier::BinaryEmpty => (true, Bytes::new()),
            _ => return Err(MessageOutcome::Malformed),
        };
        if !self.allowance.take(now, data.len()) {
            return Err(MessageOutcome::RateLimited);
        }
        let channel = self.open.iter().find(|channel| channel.stream == stream);
        let channel = channel.ok_or(MessageOutcome::NoChannel)?.label.clone();
        if !binary && std::str::from_utf8(&data).is_err() {
            return Err(MessageOutcome::Malformed);
        }
        Ok(ChannelEvent::Message { channel, binary, data })
    }

    /// DCEP: the peer opens a channel, RFC 8832 §5.1. We open none, so that nothing is acknowledged to us.
    fn control(&mut self, now: Instant, stream: u16, mut data: &[u8]) {
        // Other messages are the library's own.
        if data.first() != Some(&DATA_CHANNEL_OPEN) {
            return;
        }
        let Ok(Message::DataChannelOpen(open)) = Message::unmarshal(&mut data) else {
            return self.refuse(now, stream);
        };
        let known = self.open.iter().any(|channel| channel.stream == stream);
        match label(&open).filter(|_| self.open.len() < MAX_CHANNELS && !known) {
            Some(label) => self.accept(now, stream, &open, label),
            None => self.refuse(now, stream),
        }
    }

    fn accept(&mut self, now: Instant, stream: u16, open: &DataChannelOpen, label: Arc<str>) {
        let Some((_, association)) = &mut self.association else { return };
        let (Ok(mut opened), Ok(answer)) =
            (association.stream(stream), Message::DataChannelAck(DataChannelAck {}).marshal())
        else {
            return;
        };
        let (unordered, reliability) = DataChannel::get_reliability_params(open.channel_type);
        let _ = opened.set_reliability_params(unordered, reliability, open.reliability_parameter);
        let size = answer.len();
        if opened.write_with_ppi(now, &answer, PayloadProtocolIdentifier::Dcep).is_ok() {
            let under_way = VecDeque::from([size]);
            self.open.push(Channel { stream, label, under_way, released: 0 });
        }
    }

    /// A channel that is not to be: the peer's closes, RFC 8831 §6.7.
    fn refuse(&mut self, now: Instant, stream: u16) {
        self.events.push_back(ChannelEvent::Dropped(MessageOutcome::NoChannel));
        if let Some((_, association)) = &mut self.association
            && let Ok(mut stream) = association.stream(stream)
        {
            let _ = stream.close(now);
        }
    }

    /// A stream is over, and its channel with it.
    fn forget(&mut self, stream: u16) {
        let Some(at) = self.open.iter().position(|channel| channel.stream == stream) else { return };
        let channel = self.open.swap_remove(at);
        self.orphaned += channel.under_way.iter().map(|size| size + OVERHEAD).sum::<usize>();
        let queued = &mut self.queued;
        self.queue.retain(|outgoing| {
            let stays = outgoing.stream != stream;
            *queued -= if stays { 0 } else { cost(&outgoing.data) };
            stays
        });
    }

    // ---- towards the peer ------------------------------------------------------------------------------

    /// Gives the library what it may have.
    fn write_queued(&mut self, now: Instant) {
        let Channels { association: Some((_, association)), queue, queued, open, .. } = self else { return };
        let mut under_way: usize =
            open.iter().flat_map(|channel| &channel.under_way).map(|size| size + OVERHEAD).sum();
        while under_way < MAX_UNDER_WAY
            && let Some(outgoing) = queue.pop_front()
        {
            *queued -= cost(&outgoing.data);
            let channel = open.iter_mut().find(|channel| channel.stream == outgoing.stream);
            let (Some(channel), Ok(mut stream)) = (channel, association.stream(outgoing.stream)) else {
                continue;
            };
            if stream.write_chunk_with_ppi(now, &outgoing.data, outgoing.kind).is_ok() {
                channel.under_way.push_back(outgoing.data.len());
                under_way += cost(&outgoing.data);
            }
        }
    }

    fn release(&mut self, stream: u16, bytes: usize) {
        let Some(channel) = self.open.iter_mut().find(|channel| channel.stream == stream) else { return };
        channel.released += bytes;
        while let Some(size) = channel.under_way.front().copied().filter(|size| *size <= channel.released) {
            channel.released -= size;
            channel.under_way.pop_front();
        }
        // There may be room for what waits.
        self.stirred = true;
    }

    /// Has the library make what it can send now.
    fn gather(&mut self, now: Instant) {
        (self.stirred, self.gathered) = (false, true);
        let Some((_, association)) = &mut self.association else { return };
        while let Some(transmit) = association.poll_transmit(now) {
            let rtc_sctp::Payload::RawEncode(packets) = transmit.message else { continue };
            for bytes in packets {
                if let Some(packet) = Packet::parse(&bytes) {
                    self.gate.on_sent(packet);
                }
                if bytes.len() <= MAX_PACKET {
                    self.packets.push_back(bytes);
                }
            }
        }
        if self.gate.is_idle() {
            self.orphaned = 0;
        }
    }
}

/// As it is to be known by: no longer than it may be, and text.
fn label(open: &DataChannelOpen) -> Option<Arc<str>> {
    let fits = open.label.len() <= MAX_LABEL && open.protocol.len() <= MAX_LABEL;
    std::str::from_utf8(&open.label).ok().filter(|_| fits).map(Arc::from)
}

/// What a message weighs while it waits.
fn cost(data: &Bytes) -> usize {
    data.len() + OVERHEAD
}

fn endpoint() -> Endpoint {
    let transport = TransportConfig::default()
        .with_max_receive_buffer_size(RECEIVE_BUFFER)
        .with_max_message_size(MAX_MESSAGE as u32)
        .with_max_num_inbound_streams(MAX_STREAMS)
        .with_max_num_outbound_streams(MAX_STREAMS);
    let server = Arc::new(ServerConfig::new(transport));
    Endpoint::new(US, TransportProtocol::UDP, Arc::new(EndpointConfig::new()), Some(server))
}

/// Bytes in one message, either way: what we announce as `a=max-message-size`.
pub const MAX_MESSAGE: usize = 64 * 1024;
/// Bytes in a label, which names a channel to hosts and to others in the room.
pub const MAX_LABEL: usize = 256;

/// Channels one peer may have open.
const MAX_CHANNELS: usize = 64;
/// What may wait for one peer, [`OVERHEAD`] included.
const MAX_QUEUED: usize = 1024 * 1024;
/// What the library may have of it: it keeps each piece of a message until that is acknowledged.
const MAX_UNDER_WAY: usize = 256 * 1024;
/// What a message costs besides its bytes, about.
const OVERHEAD: usize = 256;
/// Associations that a peer may begin, one after the other.
const MAX_INTRODUCTIONS: u8 = 8;
/// Packets that may wait when an INIT comes again.
const MAX_REPEATS: usize = 4;
/// With a record's header and tag it keeps to every usual path; the library's data packets are smaller.
const MAX_PACKET: usize = 1_400;
/// RFC 8832 §8.2.1.
const DATA_CHANNEL_OPEN: u8 = 3;

/// The library tells associations apart by address. Each of its endpoints has one here.
const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);
const US: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 2);

#[cfg(test)]
mod tests;

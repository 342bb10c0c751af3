//! Messages on data channels: to the host, and to the others in the room.

use std::time::Instant;

use bytes::{Bytes, BytesMut};

use super::crossing::Crossing;
use super::{Engine, flush};
use crate::config::DataChannels;
use crate::counters::{DropKind, MessageOutcome};
use crate::error::MessageError;
use crate::event::PeerEvent;
use crate::ids::{PeerId, PeerKey, RoomKey};
use crate::session::channels::{ChannelEvent, MAX_MESSAGE};

/// The label of the channel on which clients tell how they fare.
const TELEMETRY: &str = "sfu-telemetry";

/// What a host says on a data channel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MessagePayload {
    /// A string in JavaScript.
    Text(String),
    /// An `ArrayBuffer` or a `Blob`.
    Binary(Bytes),
}

impl From<&str> for MessagePayload {
    fn from(text: &str) -> Self {
        MessagePayload::Text(text.to_owned())
    }
}

impl From<String> for MessagePayload {
    fn from(text: String) -> Self {
        MessagePayload::Text(text)
    }
}

impl From<Bytes> for MessagePayload {
    fn from(bytes: Bytes) -> Self {
        MessagePayload::Binary(bytes)
    }
}

impl From<Vec<u8>> for MessagePayload {
    fn from(bytes: Vec<u8>) -> Self {
        MessagePayload::Binary(bytes.into())
    }
}

impl MessagePayload {
    /// Whether it is binary, and its bytes.
    fn parts(&self) -> (bool, Bytes) {
        match self {
            MessagePayload::Text(text) => (false, Bytes::copy_from_slice(text.as_bytes())),
            MessagePayload::Binary(bytes) => (true, bytes.clone()),
        }
    }
}

impl Engine {
    /// Says something to everybody in a room who has the channel open. How many these were.
    pub fn broadcast(
        &mut self,
        room: &str,
        channel: &str,
        message: &MessagePayload,
    ) -> Result<usize, MessageError> {
        let (binary, data) = message.parts();
        if data.len() > MAX_MESSAGE {
            return Err(MessageError::TooLarge);
        }
        let Some(room) = self.room_names.get(room) else { return Ok(0) };
        let mut told = 0;
        for peer in self.rooms[*room].router.peers.clone() {
            told += usize::from(self.say(peer, channel, binary, &data, MessageOutcome::Sent).is_ok());
        }
        Ok(told)
    }

    /// Says something to one peer.
    pub fn send_message(
        &mut self,
        peer: PeerId,
        channel: &str,
        message: &MessagePayload,
    ) -> Result<(), MessageError> {
        let key = self.live(peer).ok_or(MessageError::Gone)?;
        let (binary, data) = message.parts();
        let said = self.say(key, channel, binary, &data, MessageOutcome::Sent);
        said.map_err(|outcome| match outcome {
            MessageOutcome::Oversize => MessageError::TooLarge,
            MessageOutcome::QueueFull => MessageError::Full,
            _ => MessageError::NoChannel,
        })
    }

    /// Takes what came over DTLS.
    pub(super) fn handle_data(&mut self, now: Instant, key: PeerKey, data: BytesMut) {
        if let Err(reason) = self.sessions[key].handle_data(now, data) {
            self.counters.dropped_in(DropKind::Other, reason);
        }
        self.serve_channels(now, key);
    }

    /// Acts on what has come of it.
    pub(super) fn serve_channels(&mut self, now: Instant, key: PeerKey) {
        while let Some(channels) = self.sessions.get_mut(key).and_then(|session| session.channels.as_mut())
            && let Some(event) = channels.poll_event()
        {
            match event {
                ChannelEvent::Dropped(outcome) => self.counters.message(outcome),
                ChannelEvent::Message { channel, data, .. } if &*channel == TELEMETRY => {
                    self.hear_report(now, key, &data);
                }
                ChannelEvent::Message { channel, binary, data } => {
                    self.counters.message_moved(MessageOutcome::Received, data.len());
                    if self.sessions[key].relaying == DataChannels::Relayed {
                        self.relay(key, &channel, binary, &data);
                    }
                    self.emit(key, PeerEvent::Message { channel: channel.to_string(), binary, data });
                }
            }
        }
    }

    /// Passes a message on to the others. Their libraries see it when they are flushed, each at its own risk.
    fn relay(&mut self, from: PeerKey, channel: &str, binary: bool, data: &Bytes) {
        let room = self.sessions[from].room;
        if !self.rooms[room].outlets.is_empty() {
            let name = self.rooms[room].router.name.as_str().into();
            let data = data.clone();
            self.cross_all(room, &Crossing::Message { room: name, channel: channel.into(), binary, data });
        }
        self.relay_here(room, Some(from), channel, binary, data);
    }

    /// Passes on what somebody said here, or on another worker.
    pub(super) fn relay_here(
        &mut self,
        room: RoomKey,
        from: Option<PeerKey>,
        channel: &str,
        binary: bool,
        data: &Bytes,
    ) {
        for other in self.rooms[room].router.peers.clone() {
            if Some(other) != from && self.sessions[other].relaying == DataChannels::Relayed {
                // Who has no such channel does not want to hear it.
                let _ = self.say(other, channel, binary, data, MessageOutcome::Relayed);
            }
        }
    }

    fn say(
        &mut self,
        to: PeerKey,
        channel: &str,
        binary: bool,
        data: &Bytes,
        said: MessageOutcome,
    ) -> Result<(), MessageOutcome> {
        let session = &mut self.sessions[to];
        let channels = session.channels.as_mut().ok_or(MessageOutcome::NoChannel)?;
        let result = channels.enqueue(channel, binary, data);
        match result {
            Err(MessageOutcome::NoChannel) => {}
            Err(outcome) => self.counters.message(outcome),
            Ok(()) => {
                self.counters.message_moved(said, data.len());
                flush::mark_dirty(&mut self.dirty, session, to);
            }
        }
        result
    }

    fn hear_report(&mut self, now: Instant, key: PeerKey, data: &[u8]) {
        let Some(channels) = &mut self.sessions[key].channels else { return };
        if let Some(report) = channels.reports.hear(now, data, &mut self.counters) {
            self.emit(key, PeerEvent::ClientReport(report));
        }
    }
}

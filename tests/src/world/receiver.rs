//! What a browser's receiver asks its sender for: packets that are lost, and a keyframe when it cannot go on.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtcp::transport_feedbacks::transport_layer_nack::{TransportLayerNack, nack_pairs_from_sequence_numbers};

use super::decoder::{Decoded, Decoder};
use super::sink::Seen;
use super::tap::Rtcp;

/// The video streams of one client, as libwebrtc receives them (`NackRequester`, `VideoReceiveStream2`).
///
/// A lost packet is asked for at once, then each round trip, ten times in all. Without a decodable frame for
/// three seconds, or 0.2 s where a keyframe is what it waits for, and with more than a thousand packets lost, it
/// asks for a keyframe.
pub struct Receiver {
    streams: BTreeMap<u32, Stream>,
    round_trip: Duration,
}

impl Default for Receiver {
    fn default() -> Self {
        Receiver { streams: BTreeMap::new(), round_trip: ROUND_TRIP }
    }
}

struct Stream {
    highest: u64,
    lacking: BTreeMap<u64, Asked>,
    decoder: Decoder,
    /// The last time anything came.
    active_at: Instant,
    /// The last decodable frame, or when it last asked for one.
    waits_since: Instant,
    needs_keyframe: bool,
}

#[derive(Clone, Copy)]
struct Asked {
    times: u8,
    at: Option<Instant>,
}

impl Receiver {
    /// The round trip is known: from reports about what the client sends.
    pub fn on_round_trip(&mut self, round_trip: Duration) {
        self.round_trip = round_trip;
    }

    /// A packet has come, at first or again.
    pub fn take(&mut self, now: Instant, ssrc: u32, seen: &Seen) -> Vec<Decoded> {
        let stream = self.streams.entry(ssrc).or_insert_with(|| Stream {
            highest: seen.seq,
            lacking: BTreeMap::new(),
            decoder: Decoder::default(),
            active_at: now,
            waits_since: now,
            needs_keyframe: true,
        });
        stream.active_at = now;
        stream.lacking.remove(&seen.seq);
        for seq in stream.highest + 1..seen.seq {
            stream.lacking.insert(seq, Asked { times: 0, at: None });
        }
        stream.highest = stream.highest.max(seen.seq);
        let decoded = stream.decoder.take(seen);
        if let Some(latest) = decoded.last() {
            stream.waits_since = now;
            stream.needs_keyframe = false;
            if latest.keyframe {
                stream.lacking = stream.lacking.split_off(&(seen.seq - u64::from(seen.content.part)));
            }
        }
        if stream.lacking.len() > MOST_LACKING {
            stream.lacking.clear();
            stream.needs_keyframe = true;
            stream.waits_since = now - WAITS_FOR_KEYFRAME;
        }
        decoded
    }

    /// What is to be asked for now.
    pub fn poll(&mut self, now: Instant) -> Vec<Rtcp> {
        let mut packets: Vec<Rtcp> = Vec::new();
        let spacing = self.spacing();
        for (ssrc, stream) in &mut self.streams {
            let lost = stream.asks(now, spacing);
            if !lost.is_empty() {
                let nacks = nack_pairs_from_sequence_numbers(&lost);
                packets.push(Box::new(TransportLayerNack { sender_ssrc: 1, media_ssrc: *ssrc, nacks }));
            }
            if stream.wants_keyframe(now) {
                packets.push(Box::new(PictureLossIndication { sender_ssrc: 1, media_ssrc: *ssrc }));
            }
        }
        packets
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = self.streams.values().flat_map(|stream| {
            let lacking = stream.lacking.values().filter_map(|asked| Some(asked.at? + self.spacing()));
            lacking.min().into_iter().chain([stream.waits_since + stream.patience()])
        });
        due.min()
    }

    /// A round trip, in whole turns.
    fn spacing(&self) -> Duration {
        let turns = self.round_trip.as_millis().div_ceil(TURN.as_millis());
        TURN * turns.max(1) as u32
    }
}

impl Stream {
    fn asks(&mut self, now: Instant, spacing: Duration) -> Vec<u16> {
        self.lacking.retain(|_, asked| asked.times < MOST_ASKED);
        let due = self.lacking.iter_mut().filter(|(_, asked)| asked.at.is_none_or(|at| now >= at + spacing));
        due.map(|(seq, asked)| {
            *asked = Asked { times: asked.times + 1, at: Some(now) };
            *seq as u16
        })
        .collect()
    }

    fn wants_keyframe(&mut self, now: Instant) -> bool {
        if now < self.waits_since + self.patience() {
            return false;
        }
        self.waits_since = now;
        let active = now.saturating_duration_since(self.active_at) < INACTIVE;
        self.needs_keyframe |= active;
        active
    }

    fn patience(&self) -> Duration {
        if self.needs_keyframe { WAITS_FOR_KEYFRAME } else { WAITS_FOR_FRAME }
    }
}

/// What is taken for the round trip until it is known: a client that sends nothing never knows.
const ROUND_TRIP: Duration = Duration::from_millis(100);
/// How often the list is looked through.
const TURN: Duration = Duration::from_millis(20);
const MOST_ASKED: u8 = 10;
const MOST_LACKING: usize = 1_000;
const WAITS_FOR_KEYFRAME: Duration = Duration::from_millis(200);
const WAITS_FOR_FRAME: Duration = Duration::from_secs(3);
/// Nothing is asked of a stream of which nothing has come for so long.
const INACTIVE: Duration = Duration::from_secs(5);

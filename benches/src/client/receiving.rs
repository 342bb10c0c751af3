//! What a client makes of what it receives.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::content::{Arrival, Content};
use super::dice::Dice;
use super::feedback::Feedback;
use super::rtp::Header;
use crate::histogram::Histogram;
use crate::payload;
use crate::sdp::{OPUS, RTX, VP8};
use crate::secure::Secure;

/// How thoroughly a client looks at packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Check {
    /// Every packet is authenticated, and its payload held against its checksum.
    #[default]
    Every,
    /// One packet in so many is; of all others the header and the payload's head are read, which says
    /// who sent what, as which and when. A tenth of the cost.
    OneIn(u32),
}

/// What was received, all streams together.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Received {
    /// Audio packets, each counted once.
    pub audio: u64,
    /// Video packets, each counted once.
    pub video: u64,
    /// SRTP packets that came out of the socket, whatever became of them.
    pub arrived: u64,
    /// RTP bytes, headers included, after protection is off.
    pub bytes: u64,
    /// Numbers that a stream skipped, by the publisher's own numbering, and that were not dropped on purpose.
    pub lost: u64,
    /// Packets that came after later ones, unasked.
    pub disordered: u64,
    /// Packets that came twice.
    pub repeated: u64,
    /// Packets whose content, marker or spacing in RTP numbers and timestamps is not as sent.
    pub altered: u64,
    /// Packets that could not be opened.
    pub unreadable: u64,
    /// Packets that were authenticated.
    pub authenticated: u64,
    /// Audio packets dropped on purpose, of which nothing is asked again.
    pub dropped_audio: u64,
    /// Video packets dropped on purpose; repairs that were dropped are not among them.
    pub dropped_video: u64,
    /// Video packets dropped on purpose that came again.
    pub repaired: u64,
    /// Packets on repair streams, dropped ones among them.
    pub repairs: u64,
    /// NACK messages sent.
    pub nacks: u64,
    /// From send to the kernel's receive stamp, repairs left out.
    pub latencies: Histogram,
    /// Streams seen, by publisher, audio first.
    pub streams: Vec<(u32, u8)>,
}

impl Received {
    /// Adds what another has received; whose streams these were is left out.
    pub fn add(&mut self, other: &Received) {
        self.audio += other.audio;
        self.video += other.video;
        self.arrived += other.arrived;
        self.bytes += other.bytes;
        self.lost += other.lost;
        self.disordered += other.disordered;
        self.repeated += other.repeated;
        self.altered += other.altered;
        self.unreadable += other.unreadable;
        self.authenticated += other.authenticated;
        self.dropped_audio += other.dropped_audio;
        self.dropped_video += other.dropped_video;
        self.repaired += other.repaired;
        self.repairs += other.repairs;
        self.nacks += other.nacks;
        self.latencies.add(&other.latencies);
    }

    /// Packets that a faithful network would not have delivered so.
    pub fn wrong(&self) -> u64 {
        self.altered + self.disordered + self.repeated + self.unreadable
    }
}

/// A receiver's bookkeeping.
pub struct Receiving {
    received: Received,
    check: Check,
    /// Packets until one is authenticated.
    until_check: u32,
    dice: Option<Dice>,
    feedback: Feedback,
    /// By publisher and payload type.
    tracks: HashMap<(u32, u8), Track>,
}

/// A publisher's stream.
#[derive(Default)]
struct Track {
    content: Content,
    last: Option<Last>,
    /// On which SSRC it comes.
    ssrc: u32,
}

/// The latest packet of a stream, as sent and as received.
#[derive(Clone, Copy)]
struct Last {
    seq: u64,
    /// What the SFU adds to sequence numbers and timestamps: constant for an unbroken stream.
    shifts: (u16, u32),
    picture: u16,
    ended_frame: bool,
}

/// A packet's place among those of its publisher.
struct Place {
    stamp: payload::Stamp,
    picture: u16,
    pt: u8,
}

impl Receiving {
    pub fn new(check: Check, dice: Option<Dice>, feedback: Feedback) -> Receiving {
        Receiving {
            received: Received::default(),
            check,
            until_check: 0,
            dice,
            feedback,
            tracks: HashMap::new(),
        }
    }

    pub fn received(&self) -> &Received {
        &self.received
    }

    pub fn feedback(&mut self) -> &mut Feedback {
        &mut self.feedback
    }

    /// Counts from nothing again; where streams stand is remembered.
    pub fn reset(&mut self) {
        let streams = std::mem::take(&mut self.received.streams);
        self.received = Received { streams, ..Received::default() };
        self.feedback.forget();
        self.feedback.nacks = 0;
        self.tracks.values_mut().for_each(|track| track.content.forget());
    }

    /// What was dropped on purpose, may be asked for, and has not come again.
    pub fn unrepaired(&self) -> u64 {
        let video = self.tracks.iter().filter(|((_, pt), _)| *pt == VP8);
        video.map(|(_, track)| track.content.unrepaired()).sum()
    }

    /// Takes an SRTP packet.
    pub fn take(&mut self, arrived: Duration, datagram: &[u8], secure: &mut Secure) {
        self.received.arrived += 1;
        let Some(header) = Header::parse(datagram) else {
            self.received.altered += 1;
            return;
        };
        let whole = self.is_whole_due();
        let mut head = [0; HEAD];
        let mut opened = None;
        let payload = if whole {
            match secure.open(datagram) {
                Ok(packet) => opened.insert(packet).get(header.len..).unwrap_or_default(),
                Err(_) => {
                    self.received.unreadable += 1;
                    return;
                }
            }
        } else {
            let sealed = datagram.get(header.len..).unwrap_or_default();
            let sealed = &sealed[..sealed.len().saturating_sub(secure.tag_len())];
            let len = sealed.len().min(HEAD);
            head[..len].copy_from_slice(&sealed[..len]);
            if secure.peek(header.ssrc, self.feedback.number_of(&header), &mut head[..len]).is_err() {
                self.received.unreadable += 1;
                return;
            }
            &head[..len]
        };
        self.received.authenticated += u64::from(whole);
        let len = datagram.len() - secure.tag_len();
        if self.book(arrived, &header, payload, whole, len).is_none() {
            self.received.altered += 1;
        }
    }

    fn is_whole_due(&mut self) -> bool {
        let Check::OneIn(interval) = self.check else { return true };
        match self.until_check.checked_sub(1) {
            Some(left) => self.until_check = left,
            None => self.until_check = interval.saturating_sub(1),
        }
        self.until_check == interval.saturating_sub(1)
    }

    /// `None`: not what was sent.
    fn book(
        &mut self,
        arrived: Duration,
        header: &Header,
        payload: &[u8],
        whole: bool,
        len: usize,
    ) -> Option<()> {
        let is_repair = header.pt == RTX;
        self.received.repairs += u64::from(is_repair);
        let payload = if header.padded && whole { without_padding(payload)? } else { payload };
        let (osn, payload) = match (is_repair, payload.split_first_chunk()) {
            (false, _) => (None, payload),
            (true, Some((osn, rest))) => (Some(u16::from_be_bytes(*osn)), rest),
            (true, None) => (None, payload),
        };
        // Nothing but padding: a probe for bandwidth.
        if payload.is_empty() {
            self.feedback.on_packet(header, arrived, false);
            return Some(());
        }
        let Some(place) = read(header, payload, whole) else {
            self.feedback.on_packet(header, arrived, false);
            // How much of it is padding is written at its end, which we have not read.
            return (header.padded && !whole).then_some(());
        };
        let track = self.tracks.entry((place.stamp.publisher, place.pt)).or_default();
        if self.dice.as_mut().is_some_and(Dice::falls) {
            let dropped = if is_repair { None } else { track.content.drop(place.stamp.seq) };
            self.on_dropped(dropped, place.pt);
            return Some(());
        }
        self.feedback.on_packet(header, arrived, place.pt == VP8 && !is_repair);
        let arrival = track.content.arrive(place.stamp.seq);
        self.received.bytes += len as u64;
        let count = match arrival {
            Arrival::Newest { missing } => {
                self.received.lost += missing;
                true
            }
            Arrival::Late => {
                self.received.lost = self.received.lost.saturating_sub(1);
                self.received.disordered += u64::from(!is_repair);
                true
            }
            Arrival::Repair => {
                self.received.repaired += u64::from(place.pt == VP8);
                false
            }
            Arrival::Repeated => {
                self.received.repeated += 1;
                false
            }
        };
        if let Some(osn) = osn {
            self.feedback.on_repair(track.ssrc, osn);
        }
        if count && place.pt == VP8 {
            self.received.video += 1;
        } else if count {
            self.received.audio += 1;
        }
        if is_repair {
            return Some(());
        }
        let latency = arrived.saturating_sub(Duration::from_nanos(place.stamp.sent));
        self.received.latencies.record(latency);
        if track.last.is_none() {
            self.received.streams.push((place.stamp.publisher, place.pt));
            self.received.streams.sort_by_key(|(publisher, pt)| (*publisher, *pt != OPUS));
        }
        track.ssrc = header.ssrc;
        track.follows(header, &place).then_some(())
    }

    /// What we threw away is not lost, and what was lost before it is.
    fn on_dropped(&mut self, dropped: Option<Arrival>, pt: u8) {
        match dropped {
            Some(Arrival::Newest { missing }) => self.received.lost += missing,
            Some(Arrival::Late) => self.received.lost = self.received.lost.saturating_sub(1),
            Some(Arrival::Repair | Arrival::Repeated) | None => return,
        }
        if pt == VP8 {
            self.received.dropped_video += 1;
        } else {
            self.received.dropped_audio += 1;
        }
    }

    /// The RTCP that is due, unprotected.
    pub fn write_feedback(&mut self, now: Instant, out: &mut Vec<u8>) {
        self.feedback.write(now, out);
        self.received.nacks = self.feedback.nacks;
    }
}

/// Reads what a payload says of itself; of a whole one, the checksum too.
fn read(header: &Header, payload: &[u8], whole: bool) -> Option<Place> {
    let pt = if header.pt == RTX { VP8 } else { header.pt };
    let (stamp, picture) = match (pt == VP8, whole) {
        (true, true) => payload::read_vp8(payload)?,
        (true, false) => payload::glance_vp8(payload)?,
        (false, true) => (payload::read_opus(payload)?, 0),
        (false, false) => (payload::glance_opus(payload)?, 0),
    };
    Some(Place { stamp, picture, pt })
}

/// RFC 3550 §5.1: the last byte says how many bytes are to be ignored.
fn without_padding(payload: &[u8]) -> Option<&[u8]> {
    let padding = usize::from(*payload.last()?);
    payload.get(..payload.len().checked_sub(padding)?)
}

impl Track {
    /// Whether a packet follows the last one of its stream as it was sent.
    fn follows(&mut self, header: &Header, place: &Place) -> bool {
        let stamp = place.stamp;
        let shifts =
            (header.seq.wrapping_sub(stamp.seq as u16), header.timestamp.wrapping_sub(stamp.timestamp));
        let last = Last { seq: stamp.seq, shifts, picture: place.picture, ended_frame: header.marker };
        let Some(before) = self.last.replace(last) else { return true };
        if stamp.seq != before.seq + 1 {
            return true;
        }
        // A frame's packets share a picture id, the next frame has the next one.
        let step = u16::from(place.pt == VP8 && before.ended_frame);
        before.shifts == shifts && place.picture == (before.picture + step) & 0x7fff
    }
}

/// Longer than a repair's number, a descriptor and a stamp.
const HEAD: usize = 48;

#[cfg(test)]
mod tests {
    use super::super::sending::{Sending, Sent, Shape};
    use super::*;
    use crate::clock;

    /// Three seconds of media, as a receiver without an SFU would see it.
    fn packets() -> (Vec<Vec<u8>>, Sent) {
        let start = clock::now();
        let mut sending = Sending::new(7, Shape::default(), true);
        sending.start(start);
        let mut packets = Vec::new();
        for ms in 0..3_000 {
            while let Some(packet) = sending.poll_packet(start + Duration::from_millis(ms)) {
                packets.push(packet.to_vec());
            }
        }
        (packets, sending.sent())
    }

    fn receive<'a>(packets: impl IntoIterator<Item = &'a Vec<u8>>, dice: Option<Dice>) -> Receiving {
        let feedback = Feedback::new(clock::now(), true, true);
        let mut receiving = Receiving::new(Check::Every, dice, feedback);
        for packet in packets {
            let header = Header::parse(packet).unwrap();
            if receiving.book(clock::wall(), &header, &packet[header.len..], true, packet.len()).is_none() {
                receiving.received.altered += 1;
            }
        }
        receiving
    }

    #[test]
    fn a_faithful_network_is_found_faithful() {
        let (packets, sent) = packets();
        let received = receive(&packets, None).received;
        assert_eq!((received.audio, received.video, received.bytes), (sent.audio, sent.video, sent.bytes));
        assert_eq!((received.audio, received.video), (150, 90 * 6));
        assert_eq!((received.lost, received.disordered, received.altered), (0, 0, 0));
        assert_eq!(received.streams, [(7, OPUS), (7, VP8)]);
    }

    #[test]
    fn losses_repeats_and_forgeries_are_told_apart() {
        let (mut packets, _) = packets();
        assert_eq!(receive(packets[..9].iter().chain(&packets[10..]), None).received.lost, 1);
        assert_eq!(receive(packets[..9].iter().chain(&packets[8..]), None).received.repeated, 1);
        packets.swap(1, 2);
        assert_eq!(receive(&packets, None).received.disordered, 1);
        packets[50][60] ^= 1;
        assert_eq!(receive(&packets, None).received.altered, 1);
    }

    #[test]
    fn what_falls_is_not_lost_and_counts_as_repaired_when_it_comes_again() {
        let (packets, sent) = packets();
        let mut receiving = receive(&packets, Some(Dice::new(1, 0.1)));
        let received = receiving.received.clone();
        assert_eq!((received.lost, received.altered), (0, 0));
        assert_eq!(received.video + received.dropped_video, sent.video);
        assert_eq!(received.audio + received.dropped_audio, sent.audio);
        assert_eq!(receiving.unrepaired(), received.dropped_video);
        assert!(receiving.feedback().is_urgent());

        receiving.dice = None;
        for packet in &packets {
            let header = Header::parse(packet).unwrap();
            if header.pt == VP8 {
                let repair = [&packet[2..4], &packet[header.len..]].concat();
                let header = Header { pt: RTX, ssrc: 1, ..header };
                receiving.book(clock::wall(), &header, &repair, true, packet.len()).unwrap();
            }
        }
        assert_eq!((receiving.received.repaired, receiving.unrepaired()), (received.dropped_video, 0));
    }
}

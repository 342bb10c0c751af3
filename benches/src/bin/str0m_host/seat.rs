//! One peer: its `Rtc`, what it publishes, and what it watches.

use std::io;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use slotmap::new_key_type;
use str0m::media::{Direction, KeyframeRequest, KeyframeRequestKind, MediaKind, Mid, Pt};
use str0m::rtp::{ExtensionValues, RtpPacket, RtpWrite, Ssrc};
use str0m::{Event, Input, Output, Rtc, RtcError};

use crate::signalling::Newcomer;

new_key_type! {
    /// Names a seat.
    pub struct Key;
}

/// A peer in its room.
pub struct Seat {
    pub rtc: Rtc,
    pub number: u64,
    pub room: String,
    pub name: Option<String>,
    pub exclude: Option<String>,
    asks_again: bool,
    /// What it publishes.
    pub tracks: Vec<Track>,
    /// What it can be sent, in the order of its m-lines.
    pub slots: Vec<Slot>,
    /// When it wants to be polled next.
    pub timeout: Instant,
    /// Something was written to it that has not been polled out.
    pub dirty: bool,
}

/// A published stream.
pub struct Track {
    pub mid: Mid,
    pub kind: MediaKind,
    /// Known once its first packet has come.
    pub ssrc: Option<Ssrc>,
    /// Who gets it, on which m-line, as which payload type.
    pub routes: Vec<(Key, Mid, Pt)>,
    asked_at: Option<Instant>,
}

/// An m-line that a publisher's track can be put on.
pub struct Slot {
    pub mid: Mid,
    pub kind: MediaKind,
    pub pt: Pt,
    /// Whose track it carries.
    pub from: Option<(Key, Mid)>,
}

/// What a peer has for others.
#[expect(
    clippy::large_enum_variant,
    reason = "most are packets, and a box would cost the yardstick an allocation each"
)]
pub enum News {
    Packet(RtpPacket),
    Keyframe(KeyframeRequest),
    /// It sends or can be sent something new.
    Lines,
}

impl Seat {
    pub fn new(newcomer: Newcomer, now: Instant) -> Seat {
        let Newcomer { rtc, number, room, name, exclude, asks_again } = newcomer;
        let (tracks, slots) = (Vec::new(), Vec::new());
        Seat { rtc, number, room, name, exclude, asks_again, tracks, slots, timeout: now, dirty: false }
    }

    /// Gives time or a datagram, sends what comes of it, and keeps the news.
    pub fn drive(
        &mut self,
        input: Input<'_>,
        socket: &UdpSocket,
        news: &mut Vec<News>,
    ) -> Result<(), RtcError> {
        self.dirty = false;
        self.rtc.handle_input(input)?;
        loop {
            match self.rtc.poll_output()? {
                Output::Timeout(at) => {
                    self.timeout = at;
                    return Ok(());
                }
                Output::Transmit(transmit) => send(socket, &transmit.contents, transmit.destination),
                Output::Event(Event::RtpPacket(packet)) => news.push(News::Packet(packet)),
                Output::Event(Event::KeyframeRequest(request)) => news.push(News::Keyframe(request)),
                Output::Event(Event::MediaAdded(added)) => {
                    if added.direction == Direction::RecvOnly {
                        self.tracks.push(Track::new(added.mid, added.kind));
                    } else if let Some(pt) =
                        self.rtc.media(added.mid).and_then(|media| media.remote_pts().first())
                    {
                        let slot = Slot { mid: added.mid, kind: added.kind, pt: *pt, from: None };
                        self.slots.push(slot);
                    }
                    news.push(News::Lines);
                }
                Output::Event(_) => {}
            }
        }
    }

    /// Which of its tracks a packet belongs to.
    pub fn track_of(&mut self, ssrc: Ssrc) -> Option<usize> {
        if let Some(known) = self.tracks.iter().position(|track| track.ssrc == Some(ssrc)) {
            return Some(known);
        }
        let mid = self.rtc.direct_api().stream_rx(&ssrc)?.mid();
        let found = self.tracks.iter().position(|track| track.mid == mid)?;
        self.tracks[found].ssrc = Some(ssrc);
        Some(found)
    }

    /// Puts a publisher's packet on one of our m-lines. It leaves at the next [`Seat::drive`].
    pub fn write(&mut self, mid: Mid, pt: Pt, kind: MediaKind, packet: &RtpPacket) {
        let heard = &packet.header.ext_vals;
        // What a publisher says end to end; the rest is this leg's own.
        let values = ExtensionValues {
            audio_level: heard.audio_level,
            voice_activity: heard.voice_activity,
            video_orientation: heard.video_orientation,
            ..ExtensionValues::default()
        };
        let payload = packet.payload.clone();
        let write = RtpWrite::new(pt, packet.seq_no, packet.header.timestamp, packet.timestamp, payload)
            .marker(packet.header.marker)
            .ext_vals(values);
        if let Some(stream) = self.rtc.direct_api().stream_tx_by_mid(mid, None) {
            // What nobody can ask for again need not be kept.
            stream.write_rtp(write.nackable(self.asks_again && kind == MediaKind::Video));
        }
    }

    /// Asks for a keyframe on one of its tracks, at most twice a second.
    pub fn ask_keyframe(&mut self, mid: Mid, kind: KeyframeRequestKind, now: Instant) -> bool {
        let Some(track) = self.tracks.iter_mut().find(|track| track.mid == mid) else { return false };
        if track.asked_at.is_some_and(|at| now < at + BETWEEN_KEYFRAMES) {
            return false;
        }
        track.asked_at = Some(now);
        let mut direct = self.rtc.direct_api();
        let stream = direct.stream_rx_by_mid(mid, None);
        stream.map(|stream| stream.request_keyframe(kind)).is_some()
    }
}

impl Track {
    fn new(mid: Mid, kind: MediaKind) -> Track {
        Track { mid, kind, ssrc: None, routes: Vec::new(), asked_at: None }
    }
}

fn send(socket: &UdpSocket, datagram: &[u8], to: std::net::SocketAddr) {
    while let Err(error) = socket.send_to(datagram, to) {
        if error.kind() != io::ErrorKind::WouldBlock {
            return;
        }
        // The send buffer is full: better late than lost.
        let mut writable = [rustix::event::PollFd::new(socket, rustix::event::PollFlags::OUT)];
        let _ = rustix::event::poll(&mut writable, None);
    }
}

const BETWEEN_KEYFRAMES: Duration = Duration::from_millis(500);

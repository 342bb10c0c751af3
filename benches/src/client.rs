//! One light client: signalling by one POST, then ICE, DTLS and checkable media on its own UDP socket.

mod arrivals;
mod content;
mod dice;
mod feedback;
mod missing;
mod receiving;
mod rtp;
mod sending;
mod socket;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use crate::http;
use crate::ice;
use crate::sdp::{Answer, Line, OPUS, Offer, VP8};
use crate::secure::{Cipher, Identity, Secure};
pub use dice::Dice;
use feedback::Feedback;
use receiving::Receiving;
pub use receiving::{Check, Received};
pub(crate) use rtp::TRANSPORT_ID;
use sending::Sending;
pub use sending::{Sent, Shape};
pub(crate) use socket::Inbox;
use socket::Socket;

/// How a client takes part.
#[derive(Clone, Copy, Debug, Default)]
pub struct Join {
    /// What it publishes, and under which number.
    pub publish: Option<(u32, Shape)>,
    /// Audio m-lines that it offers to receive on.
    pub audio: usize,
    /// Video m-lines that it offers to receive on. The nth audio and the nth video line belong together.
    pub video: usize,
    /// How it talks and looks.
    pub manner: Manner,
}

/// What clients of one run have in common.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// Which cipher is offered for media.
    pub cipher: Cipher,
    /// How thoroughly received packets are looked at.
    pub check: Check,
    /// What falls of what is received, as if the network had lost it.
    pub loss: Option<Dice>,
    /// Whether what is missing is asked for again.
    pub repairs: bool,
    /// Whether transport-wide feedback is offered and given.
    pub times: bool,
    /// Whether the kernel may hand over runs of datagrams in one piece.
    pub gro: bool,
    /// Stops reading for the first half of every such period.
    pub naps: Option<Duration>,
}

impl Default for Manner {
    /// What a browser would do, at once and thoroughly.
    fn default() -> Self {
        Manner {
            cipher: Cipher::Gcm,
            check: Check::Every,
            loss: None,
            repairs: true,
            times: true,
            gro: false,
            naps: None,
        }
    }
}

/// What can go wrong with a client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The HTTP exchange failed.
    #[error("cannot reach {url}: {source}")]
    Http {
        /// Where the offer went.
        url: String,
        /// Why.
        source: io::Error,
    },
    /// The server refused the offer.
    #[error("{url} answers {status}: {body}")]
    Refused {
        /// Where the offer went.
        url: String,
        /// The status code.
        status: u16,
        /// What it says.
        body: String,
    },
    /// The answer lacks credentials, a SHA-256 fingerprint or a UDP candidate.
    #[error("the answer of {url} has no transport in it")]
    Answer {
        /// Where the offer went.
        url: String,
    },
    /// A socket could not be made.
    #[error("socket: {0}")]
    Socket(#[from] io::Error),
    /// STUN, DTLS or SRTP refused.
    #[error("transport: {0}")]
    Transport(#[from] rtc_shared::error::Error),
}

/// A client in a room.
pub struct LoadClient {
    socket: Socket,
    identity: Identity,
    cipher: Cipher,
    username: String,
    answer: Answer,
    session: Option<String>,
    next_check: Instant,
    checked: bool,
    secure: Option<Secure>,
    closed: bool,
    sending: Option<Sending>,
    receiving: Receiving,
    /// Since when it naps, in which rhythm.
    naps: Option<(Instant, Duration)>,
    compound: Vec<u8>,
}

impl LoadClient {
    /// Publishes Opus and VP8-shaped packets by WHIP. `number` names the publisher in its payloads.
    pub fn publish(url: &str, identity: &Identity, number: u32, shape: Shape) -> Result<Self, LoadError> {
        Self::join(url, identity, Join { publish: Some((number, shape)), ..Join::default() })
    }

    /// Watches by WHEP: up to `pairs` publishers, each with audio and video.
    pub fn watch(url: &str, identity: &Identity, pairs: usize) -> Result<Self, LoadError> {
        Self::join(url, identity, Join { audio: pairs, video: pairs, ..Join::default() })
    }

    /// POSTs an offer and takes the answer. Blocks for that; media is up to [`Swarm`](crate::Swarm).
    pub fn join(url: &str, identity: &Identity, join: Join) -> Result<Self, LoadError> {
        let Manner { cipher, check, loss, repairs, times, gro, naps } = join.manner;
        let sending = join.publish.map(|(number, shape)| Sending::new(number, shape, times));
        let (ufrag, pwd) = (random_hex(4), random_hex(16));
        let offer = Offer {
            ufrag: &ufrag,
            pwd: &pwd,
            fingerprint: &identity.fingerprint,
            lines: lines(&join, sending.as_ref()),
            repairs,
            times,
        };
        let response = http::post(url, &offer.text())
            .map_err(|source| LoadError::Http { url: url.to_owned(), source })?;
        if !(200..300).contains(&response.status) {
            let (url, body) = (url.to_owned(), response.body.trim().to_owned());
            return Err(LoadError::Refused { url, status: response.status, body });
        }
        let answer =
            Answer::parse(&response.body).ok_or_else(|| LoadError::Answer { url: url.to_owned() })?;
        let now = crate::clock::now();
        Ok(LoadClient {
            // Who naps has what any client has: its buffer overflows, which is the point.
            socket: Socket::open(answer.remote, gro, naps.is_none())?,
            identity: identity.clone(),
            cipher,
            username: format!("{}:{ufrag}", answer.ufrag),
            session: response.header("location").map(|location| resolve(url, location)),
            answer,
            next_check: now,
            checked: false,
            secure: None,
            closed: false,
            sending,
            receiving: Receiving::new(check, loss, Feedback::new(now, times, repairs)),
            naps: naps.map(|period| (now, period)),
            compound: Vec::new(),
        })
    }

    /// Whether ICE and DTLS are up.
    pub fn is_connected(&self) -> bool {
        self.secure.as_ref().is_some_and(Secure::is_connected)
    }

    /// Whether the server has said goodbye.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether it is one of those that stop reading at times.
    pub fn is_slow(&self) -> bool {
        self.naps.is_some()
    }

    /// Our UDP port, by which the kernel's drops are found.
    pub fn port(&self) -> u16 {
        self.socket.port()
    }

    /// Where media goes.
    pub fn remote(&self) -> SocketAddr {
        self.answer.remote
    }

    /// Starts publishing at `at`: the first frame is a keyframe.
    pub fn start(&mut self, at: Instant) {
        if let Some(sending) = &mut self.sending {
            sending.start(at);
        }
    }

    /// Stops publishing.
    pub fn stop(&mut self) {
        if let Some(sending) = &mut self.sending {
            sending.stop();
        }
    }

    /// Publishes in another shape from the next frame on.
    pub fn set_shape(&mut self, shape: Shape) {
        if let Some(sending) = &mut self.sending {
            sending.set_shape(shape);
        }
    }

    /// What it publishes.
    pub fn shape(&self) -> Option<Shape> {
        self.sending.as_ref().map(Sending::shape)
    }

    /// Counts from nothing again, both ways.
    pub fn reset(&mut self) {
        self.receiving.reset();
        if let Some(sending) = &mut self.sending {
            sending.reset();
        }
    }

    /// What has been published.
    pub fn sent(&self) -> Sent {
        self.sending.as_ref().map(Sending::sent).unwrap_or_default()
    }

    /// What has been received.
    pub fn received(&self) -> &Received {
        self.receiving.received()
    }

    /// Video packets that fell and have not come again.
    pub fn unrepaired(&self) -> u64 {
        self.receiving.unrepaired()
    }

    /// Leaves: DELETEs the session, where the server gave one.
    pub fn leave(self) -> io::Result<()> {
        self.session.as_deref().map_or(Ok(()), |session| http::delete(session).map(|_| ()))
    }

    /// Whether it reads at the moment.
    pub(crate) fn is_awake(&self, now: Instant) -> bool {
        self.naps.is_none_or(|(since, period)| {
            let phase = now.saturating_duration_since(since).as_micros() % period.as_micros().max(1);
            phase * 2 >= period.as_micros()
        })
    }

    /// Reads a batch of what has arrived.
    pub(crate) fn receive(&mut self, now: Instant, inbox: &mut Inbox) -> Result<(), LoadError> {
        let LoadClient { socket, secure, receiving, sending, .. } = self;
        // What is not media is rare and may answer on the socket.
        let mut rest = Vec::new();
        socket.receive(inbox, |arrived, datagram| {
            match (datagram.first(), datagram.get(1), &mut *secure) {
                (Some(128..=191), Some(192..=223), Some(secure)) => {
                    if let Ok(compound) = secure.open_rtcp(datagram) {
                        receiving.feedback().hear(now, &compound);
                        sending.iter_mut().for_each(|sending| sending.hear(&compound));
                    }
                }
                (Some(128..=191), Some(_), Some(secure)) => receiving.take(arrived, datagram, secure),
                (Some(0..=63), _, _) => rest.push(datagram.to_vec()),
                _ => {}
            }
        })?;
        for datagram in rest {
            if datagram[0] <= 3 {
                self.handle_stun(now, &datagram)?;
            } else if datagram[0] >= 20 {
                self.handle_dtls(now, &datagram)?;
            }
        }
        if self.receiving.feedback().is_urgent() {
            self.send_feedback(now)?;
        }
        Ok(())
    }

    fn handle_stun(&mut self, now: Instant, datagram: &[u8]) -> Result<(), LoadError> {
        let provider = self.identity.provider.clone();
        if !self.checked && ice::is_success(datagram, &self.answer.pwd, provider.crypto()) {
            self.checked = true;
            self.next_check = now + CONSENT;
            let fingerprint = self.answer.fingerprint.clone();
            self.secure = Some(Secure::connect_with(now, &self.identity, fingerprint, self.cipher)?);
            self.flush_dtls()?;
        }
        Ok(())
    }

    fn handle_dtls(&mut self, now: Instant, datagram: &[u8]) -> Result<(), LoadError> {
        if let Some(secure) = &mut self.secure {
            self.closed |= !secure.handle(now, datagram)?;
        }
        self.flush_dtls()
    }

    fn flush_dtls(&mut self) -> Result<(), LoadError> {
        while let Some(datagram) = self.secure.as_mut().and_then(Secure::poll_transmit) {
            self.socket.send(&datagram)?;
        }
        Ok(())
    }

    /// When the next packet is to be published.
    pub(crate) fn next_packet(&self) -> Option<Instant> {
        self.sending.as_ref().and_then(Sending::poll_timeout)
    }

    /// Publishes what is due.
    pub(crate) fn send_packets(&mut self, now: Instant) -> Result<(), LoadError> {
        if let (Some(sending), Some(secure)) = (&mut self.sending, &mut self.secure) {
            while let Some(packet) = sending.poll_packet(now) {
                self.socket.send(&secure.seal(packet)?)?;
            }
        }
        Ok(())
    }

    /// Checks, handshake timers and feedback, none of which is in a hurry.
    pub(crate) fn keep_house(&mut self, now: Instant) -> Result<(), LoadError> {
        if self.next_check <= now {
            let provider = &self.identity.provider;
            let check = ice::check(&self.username, &self.answer.pwd, provider.crypto())?;
            self.socket.send(&check)?;
            self.next_check = now + if self.checked { CONSENT } else { RETRY };
        }
        if let Some(secure) = &mut self.secure
            && secure.poll_timeout().is_some_and(|due| due <= now)
        {
            secure.handle_timeout(now)?;
            self.flush_dtls()?;
        }
        let feedback = self.receiving.feedback();
        let due = feedback.is_lacking() || feedback.poll_timeout() <= now;
        if due && self.is_awake(now) {
            self.send_feedback(now)?;
        }
        Ok(())
    }

    fn send_feedback(&mut self, now: Instant) -> Result<(), LoadError> {
        let Some(secure) = self.secure.as_mut().filter(|secure| secure.is_connected()) else { return Ok(()) };
        self.receiving.write_feedback(now, &mut self.compound);
        if !self.compound.is_empty() {
            self.socket.send(&secure.seal_rtcp(&self.compound)?)?;
        }
        Ok(())
    }
}

impl AsFd for LoadClient {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn lines(join: &Join, sending: Option<&Sending>) -> Vec<Line> {
    let mut lines = Vec::new();
    if let Some(sending) = sending {
        let (audio, video) = sending.ssrcs();
        lines.push(Line::Send(OPUS, audio));
        if sending.shape().video_bps > 0 {
            lines.push(Line::Send(VP8, video));
        }
    }
    for nth in 0..join.audio.max(join.video) {
        lines.extend((nth < join.audio).then_some(Line::Receive(OPUS)));
        lines.extend((nth < join.video).then_some(Line::Receive(VP8)));
    }
    lines
}

fn resolve(url: &str, location: &str) -> String {
    if location.contains("://") {
        return location.to_owned();
    }
    let authority = url.split('/').nth(2).unwrap_or_default();
    format!("http://{authority}{location}")
}

fn random_hex(bytes: usize) -> String {
    let mut random = vec![0; bytes];
    aws_lc_rs::rand::fill(&mut random).expect("the system's random source works");
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Between checks until one is answered: loopback and datacentre round trips are far shorter.
const RETRY: Duration = Duration::from_millis(100);
/// Between consent checks after that, RFC 7675 §5.1 says 5 s.
const CONSENT: Duration = Duration::from_secs(4);

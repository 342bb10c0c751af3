//! One light client: signalling by one POST, then ICE, DTLS and checkable media on its own UDP socket.

mod media;

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use quinn_udp::{RecvMeta, UdpSockRef, UdpSocketState};

use crate::http;
use crate::ice;
use crate::sdp::{Answer, Offer};
use crate::secure::{Identity, Secure};
pub use media::{Received, Sent, Shape};
use media::{Receiving, Sending};

/// How a client takes part.
#[derive(Clone, Copy, Debug)]
pub struct Join {
    /// What it publishes, and under which number.
    pub publish: Option<(u32, Shape)>,
    /// Pairs of audio and video m-lines that it offers to receive on.
    pub pairs: usize,
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
    socket: UdpSocket,
    io: UdpSocketState,
    identity: Identity,
    username: String,
    answer: Answer,
    session: Option<String>,
    next_check: Instant,
    checked: bool,
    secure: Option<Secure>,
    closed: bool,
    sending: Option<Sending>,
    receiving: Receiving,
}

impl LoadClient {
    /// Publishes Opus and VP8-shaped packets by WHIP. `number` names the publisher in its payloads.
    pub fn publish(url: &str, identity: &Identity, number: u32, shape: Shape) -> Result<Self, LoadError> {
        Self::join(url, identity, Join { publish: Some((number, shape)), pairs: 0 })
    }

    /// Watches by WHEP: up to `pairs` publishers, each with audio and video.
    pub fn watch(url: &str, identity: &Identity, pairs: usize) -> Result<Self, LoadError> {
        Self::join(url, identity, Join { publish: None, pairs })
    }

    /// POSTs an offer and takes the answer. Blocks for that; media is up to [`Swarm`](crate::Swarm).
    pub fn join(url: &str, identity: &Identity, join: Join) -> Result<Self, LoadError> {
        let sending = join.publish.map(|(number, shape)| Sending::new(number, shape));
        let (ufrag, pwd) = (random_hex(4), random_hex(16));
        let offer = Offer {
            ufrag: &ufrag,
            pwd: &pwd,
            fingerprint: &identity.fingerprint,
            publish: sending.as_ref().map(Sending::ssrcs),
            pairs: join.pairs,
        };
        let response = http::post(url, &offer.text())
            .map_err(|source| LoadError::Http { url: url.to_owned(), source })?;
        if !(200..300).contains(&response.status) {
            let (url, body) = (url.to_owned(), response.body.trim().to_owned());
            return Err(LoadError::Refused { url, status: response.status, body });
        }
        let answer =
            Answer::parse(&response.body).ok_or_else(|| LoadError::Answer { url: url.to_owned() })?;
        let socket = open_socket(answer.remote)?;
        Ok(LoadClient {
            io: UdpSocketState::new(UdpSockRef::from(&socket))?,
            socket,
            identity: identity.clone(),
            username: format!("{}:{ufrag}", answer.ufrag),
            session: response.header("location").map(|location| resolve(url, location)),
            answer,
            next_check: crate::clock::now(),
            checked: false,
            secure: None,
            closed: false,
            sending,
            receiving: Receiving::default(),
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

    /// Our UDP port, by which the kernel's drops are found.
    pub fn port(&self) -> u16 {
        self.socket.local_addr().map_or(0, |address| address.port())
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

    /// What has been published.
    pub fn sent(&self) -> Sent {
        self.sending.as_ref().map(Sending::sent).unwrap_or_default()
    }

    /// What has been received.
    pub fn received(&self) -> &Received {
        self.receiving.received()
    }

    /// Leaves: DELETEs the session, where the server gave one.
    pub fn leave(self) -> io::Result<()> {
        self.session.as_deref().map_or(Ok(()), |session| http::delete(session).map(|_| ()))
    }

    pub(crate) fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// Reads all that has arrived. `buffers` and `metas` are shared by all clients of a thread.
    pub(crate) fn receive(
        &mut self,
        now: Instant,
        buffers: &mut [Vec<u8>],
        metas: &mut [RecvMeta],
    ) -> Result<(), LoadError> {
        loop {
            let mut slices: Vec<io::IoSliceMut<'_>> =
                buffers.iter_mut().map(|buffer| io::IoSliceMut::new(buffer)).collect();
            let messages = match self.io.recv(UdpSockRef::from(&self.socket), &mut slices, metas) {
                Ok(messages) => messages,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // A server that is gone: ICMP tells it. That we miss its packets tells more.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(error) => return Err(error.into()),
            };
            for (meta, buffer) in metas.iter().zip(buffers.iter()).take(messages) {
                let arrived = meta.timestamp.unwrap_or_else(crate::clock::wall);
                for datagram in buffer[..meta.len].chunks(meta.stride.max(1)) {
                    self.handle(now, arrived, datagram)?;
                }
            }
        }
    }

    fn handle(&mut self, now: Instant, arrived: Duration, datagram: &[u8]) -> Result<(), LoadError> {
        match (datagram.first(), datagram.get(1)) {
            (Some(0..=3), _) => self.handle_stun(now, datagram),
            (Some(20..=63), _) => self.handle_dtls(now, datagram),
            (Some(128..=191), Some(192..=223)) => {
                if let (Some(secure), Some(sending)) = (&mut self.secure, &mut self.sending)
                    && let Ok(compound) = secure.open_rtcp(datagram)
                {
                    sending.hear(&compound);
                }
                Ok(())
            }
            (Some(128..=191), Some(_)) => {
                let opened = self.secure.as_mut().and_then(|secure| secure.open(datagram).ok());
                self.receiving.take(arrived, opened.as_deref());
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn handle_stun(&mut self, now: Instant, datagram: &[u8]) -> Result<(), LoadError> {
        let provider = self.identity.provider.clone();
        if !self.checked && ice::is_success(datagram, &self.answer.pwd, provider.crypto()) {
            self.checked = true;
            self.next_check = now + CONSENT;
            let fingerprint = self.answer.fingerprint.clone();
            self.secure = Some(Secure::connect(now, &self.identity, fingerprint)?);
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
            send(&self.socket, &datagram)?;
        }
        Ok(())
    }

    /// When [`LoadClient::handle_timeout`] is due.
    pub(crate) fn poll_timeout(&self) -> Instant {
        let dtls = self.secure.as_ref().and_then(Secure::poll_timeout);
        let media = self.sending.as_ref().and_then(Sending::poll_timeout);
        [dtls, media].into_iter().flatten().fold(self.next_check, Instant::min)
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Result<(), LoadError> {
        if self.next_check <= now {
            let provider = &self.identity.provider;
            let check = ice::check(&self.username, &self.answer.pwd, provider.crypto())?;
            send(&self.socket, &check)?;
            self.next_check = now + if self.checked { CONSENT } else { RETRY };
        }
        if let Some(secure) = &mut self.secure
            && secure.poll_timeout().is_some_and(|due| due <= now)
        {
            secure.handle_timeout(now)?;
            self.flush_dtls()?;
        }
        if let (Some(sending), Some(secure)) = (&mut self.sending, &mut self.secure) {
            while let Some(packet) = sending.poll_packet(now) {
                send(&self.socket, &secure.seal(packet)?)?;
            }
        }
        Ok(())
    }
}

/// A full send buffer is waited for: what a client counts as sent has been sent.
fn send(socket: &UdpSocket, datagram: &[u8]) -> io::Result<()> {
    loop {
        match socket.send(datagram) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
            // Provoked by an earlier datagram; this one has not been tried.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            result => return result.map(|_| ()),
        }
    }
}

fn open_socket(remote: SocketAddr) -> io::Result<UdpSocket> {
    let domain = socket2::Domain::for_address(remote);
    let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, Some(socket2::Protocol::UDP))?;
    // Beyond net.core.rmem_max where we may; else as much as the kernel grants.
    if rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER).is_err() {
        let _ = socket.set_recv_buffer_size(BUFFER);
    }
    socket.set_nonblocking(true)?;
    socket.connect(&remote.into())?;
    Ok(socket.into())
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

/// Four megabytes: seconds of what one client receives.
const BUFFER: usize = 4 * 1024 * 1024;
/// Between checks until one is answered: loopback and datacentre round trips are far shorter.
const RETRY: Duration = Duration::from_millis(100);
/// Between consent checks after that, RFC 7675 §5.1 says 5 s.
const CONSENT: Duration = Duration::from_secs(4);

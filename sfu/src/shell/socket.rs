//! A worker's UDP socket: batches in, segmented runs out.

use std::collections::HashSet;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};

use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSockRef, UdpSocketState};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::clock::Reading;
use crate::engine::{Outlet, SendFault, Transmit};
use crate::metrics::WorkerCounters;
use crate::path::Path;

/// Kernel buffers asked for; the kernel caps them at `net.core.{r,w}mem_max`. Four megabytes hold 100 ms
/// of a saturated gigabit.
const BUFFER: usize = 4 * 1024 * 1024;

/// A received batch may hold this much: the kernel coalesces up to 64 kB into one message.
const MESSAGE: usize = 64 * 1024;

/// Paths on which segmentation failed, remembered so as not to fail there again.
const MAX_PLAIN_PATHS: usize = 4096;

/// A worker's socket.
pub struct Socket {
    io: UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
    buffers: Box<[u8]>,
    metas: [RecvMeta; BATCH_SIZE],
    plain_paths: HashSet<Path>,
    /// Segments per send that this socket began with.
    gso_segments: usize,
    /// System calls and datagrams since the last look.
    sends: u64,
    sent_datagrams: u64,
}

impl Socket {
    /// Binds before the worker's runtime exists, so that `Sfu::start` can report failure.
    pub fn bind(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
        let domain = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, Some(socket2::Protocol::UDP))?;
        if address.is_ipv6() {
            // A wildcard v6 socket serves v4 too, in mapped form.
            socket.set_only_v6(false)?;
        }
        // What the kernel grants is enough to start with.
        let _ = socket.set_recv_buffer_size(BUFFER);
        let _ = socket.set_send_buffer_size(BUFFER);
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        Ok(socket.into())
    }

    /// Must be called on the worker's runtime.
    pub fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        let local = socket.local_addr()?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        Ok(Socket {
            io: UdpSocket::from_std(socket)?,
            local,
            buffers: vec![0; MESSAGE * BATCH_SIZE].into_boxed_slice(),
            metas: [RecvMeta::default(); BATCH_SIZE],
            plain_paths: HashSet::new(),
            gso_segments: state.max_gso_segments(),
            state,
            sends: 0,
            sent_datagrams: 0,
        })
    }

    pub async fn readable(&self) -> io::Result<()> {
        self.io.readable().await
    }

    pub async fn writable(&self) -> io::Result<()> {
        self.io.writable().await
    }

    /// Receives what one system call gives. The count of messages, zero when there is nothing.
    pub fn receive(&mut self) -> io::Result<usize> {
        let Socket { io, state, buffers, metas, .. } = self;
        let mut chunks = buffers.chunks_exact_mut(MESSAGE);
        let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
            std::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
        let result = io.try_io(Interest::READABLE, || state.recv(UdpSockRef::from(&*io), &mut slices, metas));
        match result {
            Ok(messages) => Ok(messages),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// The datagrams of received message `index`: path, arrival, bytes. Coalesced ones come apart here.
    pub fn datagrams(
        &mut self,
        index: usize,
        reading: Reading,
    ) -> impl Iterator<Item = (Path, std::time::Instant, &mut [u8])> {
        let meta = self.metas[index];
        let local = meta.dst_ip.unwrap_or(self.local.ip());
        let path = Path::new(local, meta.addr);
        let arrived = reading.arrival(meta.timestamp);
        let bytes = &mut self.buffers[index * MESSAGE..][..meta.len];
        bytes.chunks_mut(meta.stride.max(1)).map(move |datagram| (path, arrived, datagram))
    }

    /// Moves what was sent since the last call into the worker's account.
    pub fn tally_sends(&mut self, account: &mut WorkerCounters) {
        account.sends(std::mem::take(&mut self.sends), std::mem::take(&mut self.sent_datagrams));
    }

    fn transmit(&mut self, path: &Path, contents: &[u8], segment: Option<usize>) -> io::Result<()> {
        let transmit = quinn_udp::Transmit {
            destination: self.mapped(path.remote),
            ecn: None,
            contents,
            segment_size: segment,
            src_ip: (!path.local.is_unspecified()).then_some(path.local),
        };
        let Socket { io, state, .. } = self;
        self.sends += 1;
        io.try_io(Interest::WRITABLE, || state.try_send(UdpSockRef::from(&*io), &transmit))
    }

    /// A v6 socket names v4 destinations in mapped form.
    fn mapped(&self, remote: SocketAddr) -> SocketAddr {
        match (self.local.ip(), remote) {
            (IpAddr::V6(_), SocketAddr::V4(v4)) => (v4.ip().to_ipv6_mapped(), v4.port()).into(),
            _ => remote,
        }
    }

    /// quinn-udp gives up segmentation for the whole socket at one EINVAL or EIO, which a single odd
    /// destination can provoke; a fresh state has not given up.
    fn renew_state(&mut self) {
        if let Ok(state) = UdpSocketState::new(UdpSockRef::from(&self.io)) {
            self.state = state;
        }
    }

    fn send_in_chunks(
        &mut self,
        transmit: &Transmit<'_>,
        segment: usize,
        per_send: usize,
    ) -> Result<(), SendFault> {
        let mut result = Ok(());
        for chunk in transmit.contents.chunks(segment * per_send.max(1)) {
            let several = (chunk.len() > segment).then_some(segment);
            if let Err(error) = self.retry_stale_error(&transmit.path, chunk, several) {
                // Part of the run may have gone: what blocks now is dropped rather than sent twice.
                result = Err(match error.kind() {
                    io::ErrorKind::WouldBlock if chunk.as_ptr() == transmit.contents.as_ptr() => {
                        return Err(SendFault::WouldBlock);
                    }
                    _ => SendFault::Refused,
                });
            }
        }
        result
    }

    /// An ICMP error provoked by an earlier datagram surfaces on the next send; that send is innocent.
    fn retry_stale_error(&mut self, path: &Path, contents: &[u8], segment: Option<usize>) -> io::Result<()> {
        match self.transmit(path, contents, segment) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                self.transmit(path, contents, segment)
            }
            result => result,
        }
    }
}

impl Outlet for Socket {
    fn send(&mut self, transmit: Transmit<'_>) -> Result<(), SendFault> {
        let segment = transmit.segment.unwrap_or(transmit.contents.len()).max(1);
        self.sent_datagrams += transmit.contents.len().div_ceil(segment) as u64;
        let segmented = transmit.contents.len() > segment;
        let plain = !segmented || self.plain_paths.contains(&transmit.path);
        let per_send = if plain { 1 } else { self.state.max_gso_segments() };
        let before = self.sends;
        match self.send_in_chunks(&transmit, segment, per_send) {
            Err(SendFault::Refused)
                if self.state.max_gso_segments() < per_send && self.sends == before + 1 =>
            {
                // The first send failed as sends do where segmentation is not to be had (an odd tunnel or
                // driver): this path goes singly from now on.
                if self.plain_paths.len() >= MAX_PLAIN_PATHS {
                    self.plain_paths.clear();
                }
                self.plain_paths.insert(transmit.path);
                self.renew_state();
                self.send_in_chunks(&transmit, segment, 1)
            }
            result => {
                if result.is_err() && self.state.max_gso_segments() < self.gso_segments {
                    self.renew_state();
                }
                result
            }
        }
    }
}

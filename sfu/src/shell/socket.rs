//! A worker's UDP socket: batches in, segmented runs out.

use std::collections::HashSet;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};

use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSockRef, UdpSocketState};
use rustix::io::Errno;
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
    /// System calls that sent something, and datagrams, since the last look.
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
        io.try_io(Interest::WRITABLE, || state.try_send(UdpSockRef::from(&*io), &transmit))?;
        self.sends += 1;
        self.sent_datagrams += contents.len().div_ceil(segment.unwrap_or(contents.len()).max(1)) as u64;
        Ok(())
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
                let fault = fault(&error);
                if fault == SendFault::WouldBlock && chunk.as_ptr() == transmit.contents.as_ptr() {
                    return Err(fault);
                }
                // Part of the run may have gone: what blocks now is dropped rather than sent twice.
                result = Err(if fault == SendFault::WouldBlock { SendFault::NoRoom } else { fault });
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

/// What a failed system call means for what was to be sent.
fn fault(error: &io::Error) -> SendFault {
    match error.raw_os_error() {
        _ if error.kind() == io::ErrorKind::WouldBlock => SendFault::WouldBlock,
        // The queue of the device is full, and the socket remains writable: to wait for it would be to spin.
        Some(code) if code == Errno::NOBUFS.raw_os_error() => SendFault::NoRoom,
        // We forbid fragments: some hop of the path, or our own interface, takes less.
        Some(code) if code == Errno::MSGSIZE.raw_os_error() => SendFault::TooLarge,
        _ => SendFault::Refused,
    }
}

impl Outlet for Socket {
    fn most_segments(&self, path: &Path) -> usize {
        match self.plain_paths.is_empty() || !self.plain_paths.contains(path) {
            true => self.state.max_gso_segments(),
            false => 1,
        }
    }

    fn send(&mut self, transmit: Transmit<'_>) -> Result<(), SendFault> {
        let segment = transmit.segment.unwrap_or(transmit.contents.len()).max(1);
        let segmented = transmit.contents.len() > segment;
        let plain = !segmented || self.plain_paths.contains(&transmit.path);
        let per_send = if plain { 1 } else { self.state.max_gso_segments() };
        let before = self.sends;
        match self.send_in_chunks(&transmit, segment, per_send) {
            Err(SendFault::Refused) if self.state.max_gso_segments() < per_send && self.sends == before => {
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

#[test]
fn a_fault_is_what_the_kernel_said() {
    let said = |errno: Errno| fault(&io::Error::from_raw_os_error(errno.raw_os_error()));
    assert_eq!(said(Errno::AGAIN), SendFault::WouldBlock);
    assert_eq!(said(Errno::NOBUFS), SendFault::NoRoom);
    assert_eq!(said(Errno::MSGSIZE), SendFault::TooLarge);
    assert_eq!(said(Errno::NETUNREACH), SendFault::Refused);
}

#[test]
fn what_is_too_large_for_the_path_is_said_and_not_counted_as_sent() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("it has I/O");
    let here = |port| SocketAddr::new(IpAddr::from([127, 0, 0, 1]), port);
    let mut socket = runtime.block_on(async {
        let socket = Socket::new(Socket::bind(here(0)).expect("a port is free")).expect("it is a socket");
        socket.writable().await.expect("it has room");
        socket
    });
    let path = Path::new(here(0).ip(), here(9));
    let mut send = |len| socket.send(Transmit { path, contents: &vec![0; len], segment: None });
    assert_eq!(send(65_508), Err(SendFault::TooLarge), "one byte more than UDP over IPv4 takes");
    assert_eq!(send(1_200), Ok(()));
    let mut account = WorkerCounters::default();
    socket.tally_sends(&mut account);
    assert_eq!((account.io_batches[1], account.io_batch_packets[1]), (1, 1));
}

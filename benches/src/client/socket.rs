//! A client's UDP socket: batches in, single datagrams out.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSockRef, UdpSocketState};

/// Where a thread's clients receive into: one at a time, so they share.
pub struct Inbox {
    buffers: Vec<Vec<u8>>,
    metas: [RecvMeta; BATCH_SIZE],
}

impl Default for Inbox {
    fn default() -> Self {
        Inbox { buffers: vec![vec![0; LARGEST_BATCH]; BATCH_SIZE], metas: [RecvMeta::default(); BATCH_SIZE] }
    }
}

/// A socket connected to its server.
pub struct Socket {
    socket: UdpSocket,
    io: UdpSocketState,
}

impl Socket {
    /// `gro` lets the kernel hand over runs of datagrams in one piece. `roomy` asks for a receive buffer that
    /// holds seconds; without it the socket has what the system gives everybody.
    pub fn open(remote: SocketAddr, gro: bool, roomy: bool) -> io::Result<Socket> {
        let domain = socket2::Domain::for_address(remote);
        let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, Some(socket2::Protocol::UDP))?;
        // Beyond net.core.rmem_max where we may; else as much as the kernel grants.
        if roomy && rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER).is_err() {
            let _ = socket.set_recv_buffer_size(BUFFER);
        }
        socket.connect(&remote.into())?;
        let socket: UdpSocket = socket.into();
        // Asks for coalescing, which is therefore taken back below.
        let io = UdpSocketState::new(UdpSockRef::from(&socket))?;
        if !gro {
            nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::UdpGroSegment, &false)?;
        }
        Ok(Socket { socket, io })
    }

    /// Our UDP port, by which the kernel's drops are found.
    pub fn port(&self) -> u16 {
        self.socket.local_addr().map_or(0, |address| address.port())
    }

    /// Hands over what has arrived, a batch at most, with the kernel's stamps.
    pub fn receive(&self, inbox: &mut Inbox, mut take: impl FnMut(Duration, &mut [u8])) -> io::Result<()> {
        let mut left = inbox.buffers.as_mut_slice();
        let mut slices: [io::IoSliceMut<'_>; BATCH_SIZE] = std::array::from_fn(|_| {
            let (first, rest) = std::mem::take(&mut left).split_first_mut().expect("a buffer per slice");
            left = rest;
            io::IoSliceMut::new(first)
        });
        let messages = match self.io.recv(UdpSockRef::from(&self.socket), &mut slices, &mut inbox.metas) {
            Ok(messages) => messages,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            // A server that is gone: ICMP tells it. That we miss its packets tells more.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Ok(()),
            Err(error) => return Err(error),
        };
        for (meta, buffer) in inbox.metas.iter().zip(&mut inbox.buffers).take(messages) {
            let arrived = meta.timestamp.unwrap_or_else(crate::clock::wall);
            buffer[..meta.len].chunks_mut(meta.stride.max(1)).for_each(|datagram| take(arrived, datagram));
        }
        Ok(())
    }

    /// A full send buffer is waited for: what a client counts as sent has been sent.
    pub fn send(&self, datagram: &[u8]) -> io::Result<()> {
        loop {
            match self.socket.send(datagram) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
                // Provoked by an earlier datagram; this one has not been tried.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                result => return result.map(|_| ()),
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Four megabytes: seconds of what one client receives.
const BUFFER: usize = 4 * 1024 * 1024;
/// The kernel coalesces up to 64 kB. The odd lines keep the buffers' beginnings, where most datagrams lie, from
/// sharing the few cache sets that addresses a power of two apart have in common.
const LARGEST_BATCH: usize = 64 * 1024 + 1_344;

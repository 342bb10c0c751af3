//! Clients, and the sockets that stand for them before the SFU.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Instant;

use super::leg::Leg;
use super::{Client, Conditions, Direction, clear};
use crate::world::dice::Dice;

pub(super) struct Nat {
    listener: Arc<UdpSocket>,
    sfu: SocketAddr,
    dice: Dice,
    /// For newcomers.
    uplink: Conditions,
    downlink: Conditions,
    mappings: Vec<Mapping>,
}

/// What stands between one client's address and the SFU.
struct Mapping {
    client: SocketAddr,
    upstream: Arc<UdpSocket>,
    /// Kept open and unread: what is sent there vanishes, where a closed port would be told to the sender.
    forgotten: Vec<Arc<UdpSocket>>,
    up: Leg,
    down: Leg,
}

impl Nat {
    pub(super) fn new(listener: UdpSocket, sfu: SocketAddr, dice: Dice) -> Nat {
        let listener = Arc::new(listener);
        Nat { listener, sfu, dice, uplink: clear(), downlink: clear(), mappings: Vec::new() }
    }

    /// Takes what has arrived at every socket.
    pub(super) fn receive(&mut self, buffer: &mut [u8], now: impl Fn() -> Instant) {
        for _ in 0..BATCH {
            let Ok((len, from)) = self.listener.recv_from(buffer) else { break };
            let known = self.mappings.iter().position(|mapping| mapping.client == from);
            let Some(at) = known.or_else(|| self.admit(from)) else { continue };
            self.mappings[at].up.handle(now(), &buffer[..len]);
        }
        for mapping in &mut self.mappings {
            for _ in 0..BATCH {
                // An error may be the refusal of a datagram sent earlier; others may wait behind it.
                match mapping.upstream.recv(buffer) {
                    Ok(len) => mapping.down.handle(now(), &buffer[..len]),
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                    Err(_) => break,
                }
            }
        }
    }

    /// Sends what is due. What a full socket does not take is lost, as on any network.
    pub(super) fn deliver(&mut self, now: Instant) {
        for mapping in &mut self.mappings {
            while let Some(datagram) = mapping.up.poll(now) {
                let _ = mapping.upstream.send(&datagram);
            }
            while let Some(datagram) = mapping.down.poll(now) {
                let _ = self.listener.send_to(&datagram, mapping.client);
            }
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let legs = self.mappings.iter().flat_map(|mapping| [&mapping.up, &mapping.down]);
        legs.filter_map(Leg::poll_timeout).min()
    }

    /// Those to be listened to.
    pub(super) fn sockets(&self, sockets: &mut Vec<Arc<UdpSocket>>) {
        sockets.clear();
        sockets.push(Arc::clone(&self.listener));
        sockets.extend(self.mappings.iter().map(|mapping| Arc::clone(&mapping.upstream)));
    }

    pub(super) fn set_all(&mut self, direction: Direction, conditions: Conditions) {
        match direction {
            Direction::Up => self.uplink = conditions,
            Direction::Down => self.downlink = conditions,
        }
        for mapping in &mut self.mappings {
            mapping.leg_mut(direction).set(conditions);
        }
    }

    pub(super) fn leg_mut(&mut self, client: Client, direction: Direction) -> &mut Leg {
        self.mapping_mut(client).leg_mut(direction)
    }

    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.mappings.iter().map(|mapping| mapping.client).collect()
    }

    pub(super) fn client_at(&self, address: SocketAddr) -> Option<Client> {
        self.mappings.iter().position(|mapping| mapping.is_known_as(address)).map(Client)
    }

    pub(super) fn upstream(&mut self, client: Client) -> io::Result<SocketAddr> {
        self.mapping_mut(client).upstream.local_addr()
    }

    pub(super) fn rebind(&mut self, client: Client) -> io::Result<()> {
        let fresh = self.socket()?;
        let mapping = self.mapping_mut(client);
        let old = std::mem::replace(&mut mapping.upstream, fresh);
        mapping.forgotten.push(old);
        if mapping.forgotten.len() > MAX_FORGOTTEN {
            mapping.forgotten.remove(0);
        }
        Ok(())
    }

    pub(super) fn forget(&mut self) {
        for mapping in &mut self.mappings {
            mapping.up.forget();
            mapping.down.forget();
        }
    }

    fn mapping_mut(&mut self, client: Client) -> &mut Mapping {
        self.mappings.get_mut(client.0).expect("a client that the relay has told of: none is ever removed")
    }

    /// A new client, unless there are too many or no socket is to be had.
    fn admit(&mut self, client: SocketAddr) -> Option<usize> {
        if self.mappings.len() == MAX_CLIENTS {
            return None;
        }
        let upstream = self.socket().ok()?;
        let up = Leg::new(self.dice.fork(), self.uplink);
        let down = Leg::new(self.dice.fork(), self.downlink);
        self.mappings.push(Mapping { client, upstream, forgotten: Vec::new(), up, down });
        Some(self.mappings.len() - 1)
    }

    /// One that speaks to the SFU, and to nobody else.
    fn socket(&self) -> io::Result<Arc<UdpSocket>> {
        let mut local = self.listener.local_addr()?;
        local.set_port(0);
        let socket = UdpSocket::bind(local)?;
        socket.set_nonblocking(true)?;
        socket.connect(self.sfu)?;
        Ok(Arc::new(socket))
    }
}

impl Mapping {
    fn is_known_as(&self, address: SocketAddr) -> bool {
        let mut upstreams = self.forgotten.iter().chain([&self.upstream]);
        self.client == address
            || upstreams.any(|socket| socket.local_addr().is_ok_and(|upstream| upstream == address))
    }

    fn leg_mut(&mut self, direction: Direction) -> &mut Leg {
        match direction {
            Direction::Up => &mut self.up,
            Direction::Down => &mut self.down,
        }
    }
}

/// Of one socket, before the others get their turn.
const BATCH: usize = 64;

/// A browser uses two addresses per connection and new ones after each restart.
const MAX_CLIENTS: usize = 256;

const MAX_FORGOTTEN: usize = 16;

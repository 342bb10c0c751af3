//! A network in front of real sockets: a relay that loses, delays and counts on the way between clients and an SFU.
//!
//! Clients are told the relay's address instead of the SFU's. Each address they send from gets an upstream socket of
//! its own, as behind a NAT, and a link in each direction: the same [`Link`](crate::world::Link) that the simulated
//! world has, so that a condition means the same thing in both. What passes is counted by stream, since RTP headers
//! are in the clear under SRTP: what a test says about repairs it need not take from a browser.
//!
//! ```no_run
//! use std::time::Duration;
//! use sluicegate_tests::relay::{Conditions, Loss, Relay, clear};
//! let relay = Relay::start("10.77.0.1:5000".parse().unwrap(), "10.77.0.1:4000".parse().unwrap(), 7).unwrap();
//! relay.set_uplink(Conditions { loss: Loss::Random(0.05), ..clear() });
//! relay.set_downlink(Conditions { delay: Duration::from_millis(25), ..clear() });
//! ```
//!
//! What the dice say follows from the seed and the order of arrival alone; when things arrive is up to the machine.

mod leg;
mod nat;
mod tap;

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use sluicegate_benches::clock;

use crate::world::dice::Dice;
pub use crate::world::{Conditions, Loss};
pub use leg::Counts;
use nat::Nat;
pub use tap::{Stream, Tap};

/// A running relay. Dropping it stops it.
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    nat: Mutex<Nat>,
    stopping: AtomicBool,
}

/// An address that sends to the relay: the nth, in order of appearance, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Client(pub usize);

/// Seen from the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the SFU.
    Up,
    /// From it.
    Down,
}

/// Nothing is lost and nothing is late.
pub fn clear() -> Conditions {
    Conditions { delay: Duration::ZERO, ..Conditions::default() }
}

/// Nothing passes.
pub fn outage() -> Conditions {
    Conditions { loss: Loss::Random(1.0), ..clear() }
}

impl Relay {
    /// Listens for clients, and passes what they send on to `sfu`. All is clear at first.
    pub fn start(listen: SocketAddr, sfu: SocketAddr, seed: u64) -> io::Result<Relay> {
        let socket = UdpSocket::bind(listen)?;
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        let nat = Mutex::new(Nat::new(socket, sfu, Dice::new(seed)));
        let shared = Arc::new(Shared { nat, stopping: AtomicBool::new(false) });
        let own = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("relay".to_owned()).spawn(move || own.run())?;
        Ok(Relay { address, shared, thread: Some(thread) })
    }

    /// Where clients send to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on, for everybody's uplink, newcomers included. What is under way stays so.
    pub fn set_uplink(&self, conditions: Conditions) {
        self.nat().set_all(Direction::Up, conditions);
    }

    /// From now on, for everybody's downlink, newcomers included.
    pub fn set_downlink(&self, conditions: Conditions) {
        self.nat().set_all(Direction::Down, conditions);
    }

    /// From now on, for one client in one direction.
    pub fn set(&self, client: Client, direction: Direction, conditions: Conditions) {
        self.nat().leg_mut(client, direction).set(conditions);
    }

    /// The addresses that have sent something, in order of appearance.
    pub fn clients(&self) -> Vec<SocketAddr> {
        self.nat().addresses()
    }

    /// The client that sends from this address, or that the SFU knows or knew by it. Both are needed to find a browser: it
    /// learns from the SFU's answers how it is seen, and takes that for a peer-reflexive candidate of its own.
    pub fn client_at(&self, address: SocketAddr) -> Option<Client> {
        self.nat().client_at(address)
    }

    /// Gives the client another upstream socket: to the SFU it has moved to another address. The client sees nothing of
    /// it, but what is sent to the old address from now on is gone, as after a NAT has forgotten a mapping.
    pub fn rebind(&self, client: Client) -> io::Result<()> {
        self.nat().rebind(client)
    }

    /// The address by which the SFU knows a client now.
    pub fn upstream(&self, client: Client) -> io::Result<SocketAddr> {
        self.nat().upstream(client)
    }

    /// What became of a client's datagrams, whatever was in them.
    pub fn counts(&self, client: Client, direction: Direction) -> Counts {
        self.nat().leg_mut(client, direction).counts()
    }

    /// What became of a client's RTP since it came, or since [`forget`](Self::forget).
    pub fn tap(&self, client: Client, direction: Direction) -> Tap {
        self.nat().leg_mut(client, direction).tap().clone()
    }

    /// Taps begin anew, for everybody.
    pub fn forget(&self) {
        self.nat().forget();
    }

    fn nat(&self) -> MutexGuard<'_, Nat> {
        self.shared.nat()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn nat(&self) -> MutexGuard<'_, Nat> {
        self.nat.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut buffer = vec![0; MAX_DATAGRAM];
        let mut sockets = Vec::new();
        while !self.stopping.load(Ordering::Relaxed) {
            let next = {
                let mut nat = self.nat();
                nat.receive(&mut buffer, clock::now);
                nat.deliver(clock::now());
                nat.sockets(&mut sockets);
                nat.poll_timeout()
            };
            wait(&sockets, next.map(|at| at.saturating_duration_since(clock::now())));
        }
    }
}

/// Until a socket has something, or for so long. Never for long: a new socket and the end are seen by waking up.
fn wait(sockets: &[Arc<UdpSocket>], limit: Option<Duration>) {
    let mut polled: Vec<PollFd<'_>> =
        sockets.iter().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)).collect();
    // To the microsecond: eight rounded milliseconds are what a handshake from afar has to spare.
    let limit = TimeSpec::from_duration(limit.unwrap_or(NAP).min(NAP));
    // An interrupted wait is a short one.
    let _ = ppoll(&mut polled, Some(limit), None);
}

/// An upper bound of how late a new socket is first listened to, and how late the relay stops.
const NAP: Duration = Duration::from_millis(5);

/// The most that UDP carries.
const MAX_DATAGRAM: usize = 65_535;

#[cfg(test)]
mod tests {
    use super::*;

    fn socket() -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback has a free port");
        socket.set_read_timeout(Some(Duration::from_secs(2))).expect("a timeout that is not zero");
        socket
    }

    fn relay(sfu: &UdpSocket) -> Relay {
        let listen = "127.0.0.1:0".parse().expect("an address");
        Relay::start(listen, sfu.local_addr().expect("it is bound"), 1).expect("loopback has a free port")
    }

    fn hear(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
        let mut buffer = [0; 2048];
        let (len, from) = socket.recv_from(&mut buffer).expect("something comes within two seconds");
        (buffer[..len].to_vec(), from)
    }

    fn client_of(relay: &Relay, socket: &UdpSocket) -> Client {
        relay.client_at(socket.local_addr().expect("it is bound")).expect("it has sent something")
    }

    #[test]
    fn each_client_has_an_address_of_its_own_towards_the_sfu() {
        let (sfu, ada, bob) = (socket(), socket(), socket());
        let relay = relay(&sfu);
        ada.send_to(b"from ada", relay.address()).expect("loopback takes it");
        let (first, ada_upstream) = hear(&sfu);
        bob.send_to(b"from bob", relay.address()).expect("loopback takes it");
        let (second, bob_upstream) = hear(&sfu);
        assert_eq!((&first[..], &second[..]), (&b"from ada"[..], &b"from bob"[..]));
        assert_ne!(ada_upstream, bob_upstream);
        assert_eq!(relay.clients(), [ada.local_addr().unwrap(), bob.local_addr().unwrap()]);
        assert_eq!(relay.upstream(Client(1)).unwrap(), bob_upstream);

        sfu.send_to(b"to bob", bob_upstream).expect("loopback takes it");
        sfu.send_to(b"to ada", ada_upstream).expect("loopback takes it");
        assert_eq!(hear(&ada), (b"to ada".to_vec(), relay.address()));
        assert_eq!(hear(&bob), (b"to bob".to_vec(), relay.address()));
        assert_eq!(relay.counts(Client(0), Direction::Up), Counts { carried: 1, ..Counts::default() });
        assert_eq!(relay.counts(Client(0), Direction::Down), Counts { carried: 1, ..Counts::default() });
    }

    #[test]
    fn a_rebound_client_comes_from_elsewhere_and_its_old_address_is_dead() {
        let (sfu, ada) = (socket(), socket());
        let relay = relay(&sfu);
        ada.send_to(b"one", relay.address()).expect("loopback takes it");
        let (_, before) = hear(&sfu);
        relay.rebind(client_of(&relay, &ada)).expect("loopback has a free port");
        sfu.send_to(b"lost", before).expect("the old socket is still there, though nobody reads it");
        ada.send_to(b"two", relay.address()).expect("loopback takes it");
        let (two, after) = hear(&sfu);
        assert_eq!(two, b"two");
        assert_ne!(before, after);
        assert_eq!([before, after].map(|address| relay.client_at(address)), [Some(Client(0)); 2]);
        sfu.send_to(b"found", after).expect("loopback takes it");
        assert_eq!(hear(&ada).0, b"found");
    }

    #[test]
    fn conditions_hold_for_one_or_for_all_and_for_newcomers() {
        let (sfu, ada, bob) = (socket(), socket(), socket());
        let relay = relay(&sfu);
        ada.send_to(b"heard", relay.address()).expect("loopback takes it");
        assert_eq!(hear(&sfu).0, b"heard");
        relay.set_uplink(outage());
        relay.set(client_of(&relay, &ada), Direction::Up, clear());
        bob.send_to(b"not heard", relay.address()).expect("loopback takes it");
        ada.send_to(b"heard again", relay.address()).expect("loopback takes it");
        assert_eq!(hear(&sfu).0, b"heard again");
        assert_eq!(relay.counts(client_of(&relay, &bob), Direction::Up).lost, 1);
    }

    #[test]
    fn a_late_datagram_comes_no_sooner_than_it_should() {
        let (sfu, ada) = (socket(), socket());
        let relay = relay(&sfu);
        let delay = Duration::from_millis(60);
        relay.set_uplink(Conditions { delay, ..clear() });
        let sent = clock::now();
        ada.send_to(b"late", relay.address()).expect("loopback takes it");
        assert_eq!(hear(&sfu).0, b"late");
        assert!(clock::now() - sent >= delay);
        assert_eq!(
            relay.counts(Client(0), Direction::Up),
            Counts { carried: 1, late: 1, ..Counts::default() }
        );
    }

    #[test]
    fn an_sfu_that_is_not_there_does_not_stop_the_relay() {
        let ada = socket();
        let nobody = socket();
        let address = nobody.local_addr().expect("it is bound");
        let relay = relay(&nobody);
        drop(nobody);
        for _ in 0..3 {
            ada.send_to(b"?", relay.address()).expect("loopback takes it");
        }
        let sfu = UdpSocket::bind(address).expect("the port is free again");
        sfu.set_read_timeout(Some(Duration::from_secs(2))).expect("a timeout that is not zero");
        // The kernel tells of a refusal with the next call, whichever that is: one datagram may go missing.
        for _ in 0..3 {
            ada.send_to(b"!", relay.address()).expect("loopback takes it");
        }
        assert!(hear(&sfu).0.len() == 1);
    }
}

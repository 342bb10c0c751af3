//! The media thread: one socket, all peers.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use slotmap::SlotMap;
use str0m::Input;
use str0m::net::{Protocol, Receive};
use str0m::rtp::RtpPacket;

use crate::seat::{Key, News, Seat};
use crate::signalling::{Errand, now};

/// All peers and what they share.
pub struct Host {
    socket: UdpSocket,
    local: SocketAddr,
    errands: Receiver<Errand>,
    /// Rung when there is an errand.
    bell: OwnedFd,
    seats: SlotMap<Key, Seat>,
    by_address: HashMap<SocketAddr, Key>,
    /// Who has been written to and waits to be polled.
    dirty: Vec<Key>,
    /// No seat's timeout is earlier.
    next_timeout: Instant,
    news: Vec<News>,
}

impl Host {
    pub fn new(socket: UdpSocket, errands: Receiver<Errand>) -> io::Result<Host> {
        Ok(Host {
            local: socket.local_addr()?,
            socket,
            errands,
            bell: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?,
            seats: SlotMap::with_key(),
            by_address: HashMap::new(),
            dirty: Vec::new(),
            next_timeout: now(),
            news: Vec::new(),
        })
    }

    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// To ring after an errand.
    pub fn bell(&self) -> io::Result<OwnedFd> {
        self.bell.try_clone()
    }

    /// Runs until the process ends.
    pub fn run(mut self) -> io::Result<()> {
        let mut buffer = vec![0; 2_000];
        loop {
            self.wait();
            self.run_errands();
            for _ in 0..BATCH {
                match self.socket.recv_from(&mut buffer) {
                    Ok((len, source)) => self.receive(source, &buffer[..len]),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    // Somebody's port is closed; the others are served.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                    Err(error) => return Err(error),
                }
            }
            self.flush();
            self.handle_timeouts();
        }
    }

    fn wait(&self) {
        let wait = self.next_timeout.saturating_duration_since(now()).min(LONGEST_SLEEP);
        let timeout = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
        let mut fds = [PollFd::new(&self.socket, PollFlags::IN), PollFd::new(&self.bell, PollFlags::IN)];
        // Interrupted by a signal: the turn finds nothing and comes back.
        let _ = poll(&mut fds, Some(&timeout));
    }

    fn run_errands(&mut self) {
        let mut rung = [0; 8];
        while let Ok(errand) = self.errands.try_recv() {
            let _ = rustix::io::read(&self.bell, &mut rung);
            match errand {
                Errand::Enter(newcomer) => {
                    let at = now();
                    let key = self.seats.insert(Seat::new(*newcomer, at));
                    self.drive(key, Input::Timeout(at));
                }
                Errand::Leave(number) => {
                    let key = self.seats.iter().find(|(_, seat)| seat.number == number).map(|(key, _)| key);
                    key.into_iter().for_each(|key| self.remove(key));
                }
            }
        }
    }

    fn receive(&mut self, source: SocketAddr, datagram: &[u8]) {
        let Ok(receive) = Receive::new(Protocol::Udp, source, self.local, datagram) else { return };
        let input = Input::Receive(now(), receive);
        let key = self.by_address.get(&source).copied().or_else(|| {
            // A new address: its STUN names the peer.
            let key = self.seats.iter().find(|(_, seat)| seat.rtc.accepts(&input))?.0;
            self.by_address.insert(source, key);
            Some(key)
        });
        if let Some(key) = key {
            self.drive(key, input);
        }
    }

    /// Lets one peer take input, and spreads its news.
    fn drive(&mut self, key: Key, input: Input<'_>) {
        let Some(seat) = self.seats.get_mut(key) else { return };
        let mut news = std::mem::take(&mut self.news);
        let result = seat.drive(input, &self.socket, &mut news);
        self.next_timeout = self.next_timeout.min(seat.timeout);
        if result.is_err() || !seat.rtc.is_alive() {
            self.remove(key);
        }
        for item in news.drain(..) {
            match item {
                News::Packet(packet) => self.forward(key, &packet),
                News::Keyframe(request) => {
                    let seat = self.seats.get(key);
                    let slot = seat.and_then(|seat| seat.slots.iter().find(|slot| slot.mid == request.mid));
                    if let Some((publisher, mid)) = slot.and_then(|slot| slot.from)
                        && let Some(seat) = self.seats.get_mut(publisher)
                        && seat.ask_keyframe(mid, request.kind, now())
                    {
                        mark(&mut self.dirty, publisher, seat);
                    }
                }
                News::Lines => self.connect(key),
            }
        }
        self.news = news;
    }

    fn forward(&mut self, publisher: Key, packet: &RtpPacket) {
        let Some(seat) = self.seats.get_mut(publisher) else { return };
        let Some(at) = seat.track_of(packet.header.ssrc) else { return };
        let kind = seat.tracks[at].kind;
        // Taken out for the time, because seats are written to meanwhile.
        let routes = std::mem::take(&mut seat.tracks[at].routes);
        for (watcher, mid, pt) in &routes {
            if let Some(seat) = self.seats.get_mut(*watcher) {
                seat.write(*mid, *pt, kind, packet);
                mark(&mut self.dirty, *watcher, seat);
            }
        }
        if let Some(seat) = self.seats.get_mut(publisher) {
            seat.tracks[at].routes = routes;
        }
    }

    /// Polls everybody who was written to.
    fn flush(&mut self) {
        let at = now();
        while let Some(key) = self.dirty.pop() {
            self.drive(key, Input::Timeout(at));
        }
    }

    fn handle_timeouts(&mut self) {
        let at = now();
        if at < self.next_timeout {
            return;
        }
        let due: Vec<Key> =
            self.seats.iter().filter(|(_, seat)| seat.timeout <= at).map(|(key, _)| key).collect();
        due.into_iter().for_each(|key| self.drive(key, Input::Timeout(at)));
        let timeouts = self.seats.values().map(|seat| seat.timeout);
        self.next_timeout = timeouts.fold(at + LONGEST_SLEEP, Instant::min);
        self.flush();
    }

    /// Fills the free slots of a room with the tracks that they may carry, after `key` has brought either.
    fn connect(&mut self, key: Key) {
        let Some(room) = self.seats.get(key).map(|seat| seat.room.clone()) else { return };
        let members: Vec<Key> =
            self.seats.iter().filter(|(_, seat)| seat.room == room).map(|(key, _)| key).collect();
        for publisher in &members {
            for watcher in members.iter().filter(|watcher| *watcher != publisher) {
                // Of what is there already, only what the newcomer is part of can be new.
                if *publisher == key || *watcher == key {
                    self.introduce(*publisher, *watcher);
                }
            }
        }
    }

    fn introduce(&mut self, publisher: Key, watcher: Key) {
        let Some([publishing, watching]) = self.seats.get_disjoint_mut([publisher, watcher]) else { return };
        if watching.exclude.is_some() && watching.exclude == publishing.name {
            return;
        }
        for track in &mut publishing.tracks {
            let source = (publisher, track.mid);
            if watching.slots.iter().any(|slot| slot.from == Some(source)) {
                continue;
            }
            let free = |slot: &&mut crate::seat::Slot| slot.from.is_none() && slot.kind == track.kind;
            if let Some(slot) = watching.slots.iter_mut().find(free) {
                slot.from = Some(source);
                track.routes.push((watcher, slot.mid, slot.pt));
            }
        }
    }

    fn remove(&mut self, key: Key) {
        self.seats.remove(key);
        self.by_address.retain(|_, seat| *seat != key);
        for seat in self.seats.values_mut() {
            seat.tracks.iter_mut().for_each(|track| track.routes.retain(|(watcher, ..)| *watcher != key));
            let theirs =
                |slot: &&mut crate::seat::Slot| slot.from.is_some_and(|(publisher, _)| publisher == key);
            seat.slots.iter_mut().filter(theirs).for_each(|slot| slot.from = None);
        }
    }
}

fn mark(dirty: &mut Vec<Key>, key: Key, seat: &mut Seat) {
    if !seat.dirty {
        seat.dirty = true;
        dirty.push(key);
    }
}

/// Datagrams read between two flushes: whole frames are written to a peer before it is polled.
const BATCH: usize = 64;
const LONGEST_SLEEP: Duration = Duration::from_millis(100);

//! Many clients on one thread.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use crate::client::{Inbox, LoadClient, LoadError};
use crate::clock;

/// Clients that share a thread and their receive buffers.
pub struct Swarm {
    clients: Vec<Seat>,
    /// Positions of those who publish.
    publishers: Vec<usize>,
    epoll: OwnedFd,
    ready: Vec<epoll::Event>,
    inbox: Inbox,
    next_round: Instant,
}

struct Seat {
    client: LoadClient,
    /// Whether its socket is looked at.
    listening: bool,
}

impl Swarm {
    /// With nobody in it.
    pub fn new() -> io::Result<Swarm> {
        Ok(Swarm {
            clients: Vec::new(),
            publishers: Vec::new(),
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            ready: Vec::with_capacity(READY),
            inbox: Inbox::default(),
            next_round: clock::now(),
        })
    }

    /// Takes a client in.
    pub fn add(&mut self, client: LoadClient) -> io::Result<()> {
        let token = self.clients.len();
        epoll::add(&self.epoll, &client, epoll::EventData::new_u64(token as u64), epoll::EventFlags::IN)?;
        self.publishers.extend(client.shape().map(|_| token));
        self.clients.push(Seat { client, listening: true });
        Ok(())
    }

    /// Everybody, in the order they were added.
    pub fn clients(&self) -> impl ExactSizeIterator<Item = &LoadClient> {
        self.clients.iter().map(|seat| &seat.client)
    }

    /// Everybody, in the order they were added.
    pub fn clients_mut(&mut self) -> impl ExactSizeIterator<Item = &mut LoadClient> {
        self.clients.iter_mut().map(|seat| &mut seat.client)
    }

    /// Everybody leaves.
    pub fn into_clients(self) -> impl Iterator<Item = LoadClient> {
        self.clients.into_iter().map(|seat| seat.client)
    }

    /// Runs until `done` holds, which is asked after every wake. False: it did not within `limit`.
    pub fn run_until(
        &mut self,
        limit: Duration,
        mut done: impl FnMut(&Swarm) -> bool,
    ) -> Result<bool, LoadError> {
        let end = clock::now() + limit;
        loop {
            if done(self) {
                return Ok(true);
            }
            if clock::now() >= end {
                return Ok(false);
            }
            self.turn(end)?;
        }
    }

    /// Runs for a while.
    pub fn run_for(&mut self, time: Duration) -> Result<(), LoadError> {
        self.run_until(time, |_| false).map(|_| ())
    }

    /// Runs until nothing more arrives: as many packets as a `quiet` time ago.
    pub fn settle(&mut self, quiet: Duration, limit: Duration) -> Result<bool, LoadError> {
        let mut last = (self.packets(), clock::now());
        self.run_until(limit, |swarm| {
            let (packets, now) = (swarm.packets(), clock::now());
            if packets != last.0 {
                last = (packets, now);
            }
            now >= last.1 + quiet
        })
    }

    /// Packets received by all who always read.
    pub fn packets(&self) -> u64 {
        self.clients().filter(|client| !client.is_slow()).map(|client| client.received().arrived).sum()
    }

    fn turn(&mut self, end: Instant) -> Result<(), LoadError> {
        let now = clock::now();
        if self.next_round <= now {
            self.next_round = now + ROUND;
            self.keep_house(now)?;
        }
        let packets = self.publishers.iter().filter_map(|at| self.clients[*at].client.next_packet());
        let due = packets.fold(end.min(self.next_round), Instant::min);
        let wait = due.saturating_duration_since(now);
        let timeout = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
        self.ready.clear();
        // Interrupted by a signal: the next turn sees what is ready.
        let _ = epoll::wait(&self.epoll, spare_capacity(&mut self.ready), Some(&timeout));
        self.send(clock::now())?;
        for event in 0..self.ready.len() {
            let at = self.ready[event].data.u64() as usize;
            let Some(seat) = self.clients.get_mut(at) else { continue };
            let now = clock::now();
            // A batch each, then the next client and what is due: level-triggered, the rest is found again.
            seat.client.receive(now, &mut self.inbox)?;
            self.send(now)?;
        }
        Ok(())
    }

    /// A publisher must not wait for its audience.
    fn send(&mut self, now: Instant) -> Result<(), LoadError> {
        for at in &self.publishers {
            let client = &mut self.clients[*at].client;
            if client.next_packet().is_some_and(|due| due <= now) {
                client.send_packets(now)?;
            }
        }
        Ok(())
    }

    fn keep_house(&mut self, now: Instant) -> Result<(), LoadError> {
        for (token, seat) in self.clients.iter_mut().enumerate() {
            seat.client.keep_house(now)?;
            let awake = seat.client.is_awake(now);
            if awake != seat.listening {
                seat.listening = awake;
                let flags = if awake { epoll::EventFlags::IN } else { epoll::EventFlags::empty() };
                let data = epoll::EventData::new_u64(token as u64);
                epoll::modify(&self.epoll, &seat.client, data, flags).map_err(io::Error::from)?;
            }
        }
        Ok(())
    }
}

/// Between two looks at everybody's timers, none of which needs to be exact.
const ROUND: Duration = Duration::from_millis(5);
/// Clients served between two looks at which are ready.
const READY: usize = 256;

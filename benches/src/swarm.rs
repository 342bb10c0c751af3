//! Many clients on one thread.

use std::time::{Duration, Instant};

use quinn_udp::{BATCH_SIZE, RecvMeta};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::client::{LoadClient, LoadError};
use crate::clock;

/// Clients that share a thread and their receive buffers.
pub struct Swarm {
    /// In the order they were added.
    pub clients: Vec<LoadClient>,
    buffers: Vec<Vec<u8>>,
    metas: [RecvMeta; BATCH_SIZE],
}

impl Default for Swarm {
    fn default() -> Self {
        Swarm {
            clients: Vec::new(),
            // The kernel coalesces up to 64 kB into one message.
            buffers: vec![vec![0; 64 * 1024]; BATCH_SIZE],
            metas: [RecvMeta::default(); BATCH_SIZE],
        }
    }
}

impl Swarm {
    /// Runs until `done` holds, which is asked after every wake. False: it did not within `limit`.
    pub fn run_until(
        &mut self,
        limit: Duration,
        mut done: impl FnMut(&[LoadClient]) -> bool,
    ) -> Result<bool, LoadError> {
        let end = clock::now() + limit;
        loop {
            if done(&self.clients) {
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
        self.run_until(limit, |clients| {
            let (packets, now) = (packets(clients), clock::now());
            if packets != last.0 {
                last = (packets, now);
            }
            now >= last.1 + quiet
        })
    }

    /// Packets received by all.
    pub fn packets(&self) -> u64 {
        packets(&self.clients)
    }

    fn turn(&mut self, end: Instant) -> Result<(), LoadError> {
        let now = clock::now();
        let next_look = now + LONGEST_SLEEP;
        let due = self.clients.iter().map(LoadClient::poll_timeout).fold(end.min(next_look), Instant::min);
        let wait = due.saturating_duration_since(now);
        let timeout = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
        let mut fds: Vec<PollFd<'_>> =
            self.clients.iter().map(|client| PollFd::new(client.socket(), PollFlags::IN)).collect();
        // Interrupted by a signal: the next turn sees what is ready.
        let _ = poll(&mut fds, Some(&timeout));
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let now = clock::now();
        for (client, ready) in self.clients.iter_mut().zip(ready) {
            if client.poll_timeout() <= now {
                client.handle_timeout(now)?;
            }
            if ready {
                client.receive(now, &mut self.buffers, &mut self.metas)?;
            }
        }
        Ok(())
    }
}

fn packets(clients: &[LoadClient]) -> u64 {
    clients.iter().map(|client| client.received().audio + client.received().video).sum()
}

/// Conditions are looked at this often at least.
const LONGEST_SLEEP: Duration = Duration::from_millis(50);

//! One publisher and its audience on a real engine in virtual time: what benches measure.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use sluicegate::sans_io::{Engine, Outlet, SendFault, Transmit};
use sluicegate::{Audible, Subscribe};

use crate::memory::{Camera, MemoryClient, Microphone, PUBLISH, SUBSCRIBE, engine};
use crate::secure::Identity;

/// Packets of a frame.
pub const PACKETS: usize = 5;
/// Bytes of a packet before sealing.
pub const BYTES: usize = 1_200;

/// Counts what leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Count {
    /// Sends.
    pub sends: u64,
    /// Datagrams.
    pub datagrams: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Outlet for Count {
    fn send(&mut self, transmit: Transmit<'_>) -> Result<(), SendFault> {
        let len = transmit.contents.len();
        self.sends += 1;
        self.datagrams += len.div_ceil(transmit.segment.unwrap_or(len).max(1)) as u64;
        self.bytes += len as u64;
        Ok(())
    }
}

/// A publisher and its connected subscribers.
pub struct Stage {
    engine: Engine,
    now: Instant,
    camera: Camera,
    microphone: Microphone,
    publisher: MemoryClient,
    subscribers: Vec<MemoryClient>,
    checked_at: Instant,
}

impl Stage {
    /// Everybody joined, connected by real handshakes, and past the first frames.
    ///
    /// # Panics
    ///
    /// When somebody does not connect.
    pub fn new(subscribers: usize) -> Stage {
        let ours = sluicegate::sans_io::Identity::generate().expect("a certificate is made");
        let identity = Identity::generate().expect("a certificate is made");
        let mut engine = engine(Arc::new(ours), subscribers + 1);
        let now = crate::clock::now();
        let mut seat = |number, part| {
            let mut client = MemoryClient::join(&mut engine, now, "room", number, &identity, part);
            client.connect(now, &mut engine).expect("a handshake without loss succeeds");
            while engine.poll_event().is_some() {}
            client
        };
        let publisher = seat(0, (PUBLISH, Subscribe::Nothing));
        let watch = || Subscribe::Slots(Default::default());
        let subscribers = (1..=subscribers as u32).map(|number| seat(number, (SUBSCRIBE, watch()))).collect();
        let camera = Camera::default();
        let mut stage = Stage {
            engine,
            now,
            camera,
            microphone: Microphone::default(),
            publisher,
            subscribers,
            checked_at: now,
        };
        // Rings and queues grow to their size within the first second.
        for _ in 0..20 {
            let mut sealed = stage.seal(20);
            let count = stage.forward(&mut sealed);
            assert!(count.datagrams >= (20 * PACKETS * stage.subscribers.len()) as u64);
        }
        stage
    }

    /// Time passes, and the publisher seals `frames` frames.
    pub fn seal(&mut self, frames: usize) -> Vec<BytesMut> {
        self.now += FRAME * frames as u32;
        let mut rest = Count::default();
        if self.now >= self.checked_at + CHECK {
            self.checked_at = self.now;
            for client in self.subscribers.iter().chain([&self.publisher]) {
                self.engine.handle_datagram(self.now, self.now, client.path, &mut client.check());
            }
        }
        while self.engine.handle_timeout(self.now) {}
        self.engine.flush(self.now, &mut rest);
        let secure = self.publisher.secure.as_mut().expect("the publisher is connected");
        let packets = (0..frames).flat_map(|_| self.camera.frame(PACKETS, BYTES));
        packets.map(|packet| secure.seal(&packet).expect("the publisher is connected")).collect()
    }

    /// Of the room's voices, this one is heard only when it is loud enough: as in a large room.
    pub fn listen_closely(&mut self) {
        self.engine.set_audible(self.now, "room", Audible::Loudest(1));
    }

    /// 20 ms pass, and the publisher seals what its microphone heard: `level` decibels below the loudest there is.
    pub fn say(&mut self, level: u8) -> BytesMut {
        self.now += VOICE;
        self.seal(0);
        while self.engine.poll_event().is_some() {}
        let secure = self.publisher.secure.as_mut().expect("the publisher is connected");
        secure.seal(&self.microphone.packet(level, VOICE_BYTES)).expect("the publisher is connected")
    }

    /// Forwards sealed packets frame by frame.
    pub fn forward(&mut self, sealed: &mut [BytesMut]) -> Count {
        let mut count = Count::default();
        for frame in sealed.chunks_mut(PACKETS) {
            for datagram in frame {
                self.engine.handle_datagram(self.now, self.now, self.publisher.path, datagram);
            }
            self.engine.flush(self.now, &mut count);
        }
        count
    }
}

/// A packet of Opus.
const VOICE: Duration = Duration::from_millis(20);
const VOICE_BYTES: usize = 140;
/// Virtual time between frames.
const FRAME: Duration = Duration::from_millis(2);
/// Consent lasts 28 s; browsers check every 5 s.
const CHECK: Duration = Duration::from_secs(10);

//! What is counted: an engine in virtual time, told what its clients have prepared.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use sluicegate::Subscribe;
use sluicegate::sans_io::Engine;
use sluicegate_benches::clock;
use sluicegate_benches::memory::{
    Camera, Mailbox, MemoryClient, Microphone, PUBLISH, SUBSCRIBE, engine, with_one_of_each,
};
use sluicegate_benches::sdp::VP8;
use sluicegate_benches::secure::Identity;
use sluicegate_benches::stage::Count;

/// What one scene did, in units of what it is counted by.
pub type Units = u64;

/// One thing to count.
pub struct Scene {
    /// What its number is kept under.
    pub name: &'static str,
    /// What is counted, and by what.
    pub about: &'static str,
    /// Takes minutes.
    pub long: bool,
    /// Prepares it, and does it in [`counted`].
    pub play: fn() -> Units,
}

/// All there is to count.
pub const SCENES: &[Scene] = &[
    scene("video-to-1", "one video of 6 packets a frame, by forwarded packet", || video(1, 0)),
    scene("video-to-10", "the same", || video(10, 0)),
    scene("video-to-100", "the same", || video(100, 0)),
    long("video-to-1000", "the same", || video(1_000, 0)),
    scene("video-to-10-among-200", "the same, with 200 others connected in 50 other rooms", || {
        video(10, 200)
    }),
    scene("audio-to-100", "one voice, by forwarded packet", audio),
    scene("repair-of-10", "a NACK for one packet, answered; a room of 10; by request", || repair(10)),
    scene("repair-of-100", "the same, a room of 100", || repair(100)),
    scene("idle-10", "a connected peer without media, by second", || idle(10)),
    scene("idle-200", "the same, 200 of them", || idle(200)),
    long("idle-1000", "the same, 1000 of them", || idle(1_000)),
    scene("join-10", "a viewer's offer, checks and handshake, in a room of 10; by join", || join(10)),
    scene("join-200", "the same, in a room of 200", || join(200)),
    scene("leave-10", "a viewer's leaving a room of 10", || leave(10)),
    scene("leave-200", "the same, a room of 200", || leave(200)),
];

const fn scene(name: &'static str, about: &'static str, play: fn() -> Units) -> Scene {
    Scene { name, about, long: false, play }
}

const fn long(name: &'static str, about: &'static str, play: fn() -> Units) -> Scene {
    Scene { name, about, long: true, play }
}

/// Callgrind counts what happens in here, and nothing else.
#[inline(never)]
pub fn counted(work: &mut dyn FnMut()) {
    work();
}

/// One engine, and those on it.
struct Hall {
    engine: Engine,
    now: Instant,
    theirs: Identity,
    people: Vec<MemoryClient>,
    number: u32,
}

impl Hall {
    fn new() -> Hall {
        let ours = Arc::new(sluicegate::sans_io::Identity::generate().expect("a certificate is made"));
        let theirs = Identity::generate().expect("a certificate is made");
        Hall { engine: engine(ours, 10_000), now: clock::now(), theirs, people: Vec::new(), number: 0 }
    }

    fn join(&mut self, room: &str, part: (&str, Subscribe)) -> MemoryClient {
        let mut client =
            MemoryClient::join(&mut self.engine, self.now, room, self.number, &self.theirs, part);
        self.number += 1;
        client.connect(self.now, &mut self.engine).expect("a handshake without loss succeeds");
        self.hear();
        client
    }

    fn publisher(&mut self, room: &str) -> MemoryClient {
        self.join(room, (PUBLISH, Subscribe::Nothing))
    }

    fn audience(&mut self, room: &str, people: usize) -> Vec<MemoryClient> {
        let offer = with_one_of_each(SUBSCRIBE);
        (0..people).map(|_| self.join(room, (&offer, Subscribe::Slots(Default::default())))).collect()
    }

    fn hear(&mut self) {
        while self.engine.poll_event().is_some() {}
    }

    /// Time passes, and timers are served.
    fn pass(&mut self, span: Duration) {
        self.now += span;
        while self.engine.handle_timeout(self.now) {}
        self.engine.flush(self.now, &mut Count::default());
        self.hear();
    }

    fn take(&mut self, from: &MemoryClient, datagrams: &mut [BytesMut], count: &mut Count) {
        for datagram in datagrams {
            self.engine.handle_datagram(self.now, self.now, from.path, datagram);
        }
        self.engine.flush(self.now, count);
    }
}

fn seal(client: &mut MemoryClient, packets: Vec<Vec<u8>>) -> Vec<BytesMut> {
    let secure = client.secure.as_mut().expect("it is connected");
    packets.iter().map(|packet| secure.seal(packet).expect("it is connected")).collect()
}

fn video(audience: usize, strangers: usize) -> Units {
    let mut hall = Hall::new();
    for room in 0..strangers / 4 {
        let room = format!("other {room}");
        let mut others = vec![hall.publisher(&room)];
        others.extend(hall.audience(&room, 3));
        hall.people.extend(others);
    }
    let mut ada = hall.publisher("room");
    let _audience = hall.audience("room", audience);
    let mut camera = Camera::default();
    let mut count = Count::default();
    // Rings and queues grow to their size meanwhile.
    for frame in 0..WARM_UP + FRAMES {
        hall.pass(FRAME);
        let mut sealed = seal(&mut ada, camera.frame(PACKETS, BYTES));
        match frame < WARM_UP {
            true => hall.take(&ada, &mut sealed, &mut Count::default()),
            false => counted(&mut || hall.take(&ada, &mut sealed, &mut count)),
        }
    }
    assert_eq!(count.datagrams, (FRAMES * PACKETS * audience) as u64, "everybody gets everything");
    count.datagrams
}

fn audio() -> Units {
    let mut hall = Hall::new();
    let mut ada = hall.publisher("room");
    let _audience = hall.audience("room", 100);
    let mut microphone = Microphone::default();
    let mut count = Count::default();
    for frame in 0..WARM_UP + FRAMES {
        hall.pass(FRAME);
        let mut sealed = seal(&mut ada, vec![microphone.packet(30, 100)]);
        match frame < WARM_UP {
            true => hall.take(&ada, &mut sealed, &mut Count::default()),
            false => counted(&mut || hall.take(&ada, &mut sealed, &mut count)),
        }
    }
    assert_eq!(count.datagrams, (FRAMES * 100) as u64, "everybody gets everything");
    count.datagrams
}

fn repair(audience: usize) -> Units {
    let mut hall = Hall::new();
    let mut ada = hall.publisher("room");
    let mut audience = hall.audience("room", audience);
    let mut camera = Camera::default();
    let mut mailbox = Mailbox::default();
    for _ in 0..WARM_UP {
        hall.pass(FRAME);
        mailbox.sent.clear();
        let mut sealed = seal(&mut ada, camera.frame(PACKETS, BYTES));
        for datagram in &mut sealed {
            hall.engine.handle_datagram(hall.now, hall.now, ada.path, datagram);
        }
        hall.engine.flush(hall.now, &mut mailbox);
    }
    let mut count = Count::default();
    hall.pass(FRAME);
    for client in &mut audience {
        let lost = mailbox.sent.iter().find(|(path, datagram)| {
            *path == client.path && matches!(datagram[..2], [0x90, kind] if kind & 0x7f == VP8)
        });
        let (_, lost) = lost.expect("everybody gets the latest frame");
        // RFC 4585 §6.2.1: about one packet of one stream.
        let mut nack = vec![0x81, 205, 0, 3, 0, 0, 0, 1];
        nack.extend(&lost[8..12]);
        nack.extend(&lost[2..4]);
        nack.extend([0, 0]);
        let secure = client.secure.as_mut().expect("it is connected");
        let sealed = secure.seal_rtcp(&nack).expect("it is connected");
        counted(&mut || hall.take(client, &mut [sealed.clone()], &mut count));
    }
    assert_eq!(count.datagrams, audience.len() as u64, "everybody is answered");
    count.datagrams
}

/// Checks included, as often as RFC 7675 has them: each five seconds.
fn idle(people: usize) -> Units {
    let mut hall = Hall::new();
    for room in 0..people / 10 {
        let audience = hall.audience(&format!("room {room}"), 10);
        hall.people.extend(audience);
    }
    for _ in 0..100 {
        hall.pass(Duration::from_millis(50));
    }
    for second in 0..SECONDS {
        let due = hall.people.iter().skip(second as usize % 5).step_by(5);
        let mut checks: Vec<_> = due.map(|client| (client.path, client.check())).collect();
        counted(&mut || {
            for (path, check) in &mut checks {
                hall.engine.handle_datagram(hall.now, hall.now, *path, check);
            }
            // A worker wakes when something is due, and for the heartbeat.
            for _ in 0..10 {
                hall.pass(Duration::from_millis(100));
            }
        });
    }
    assert_eq!(hall.engine.footprint()[0], people, "nobody is given up");
    SECONDS * people as u64
}

fn join(audience: usize) -> Units {
    let mut hall = Hall::new();
    let _ada = hall.publisher("room");
    let _audience = hall.audience("room", audience);
    let offer = with_one_of_each(SUBSCRIBE);
    let (now, theirs) = (hall.now, hall.theirs.clone());
    for _ in 0..JOINS {
        let part = (offer.as_str(), Subscribe::Slots(Default::default()));
        let mut joined = None;
        counted(&mut || {
            let client =
                MemoryClient::join(&mut hall.engine, now, "room", hall.number, &theirs, part.clone());
            hall.hear();
            joined = Some(client);
        });
        hall.number += 1;
        let mut client = joined.expect("it has joined");
        let path = client.path;
        let mut engine = |datagram: &mut [u8], mailbox: &mut Mailbox| {
            counted(&mut || {
                hall.engine.handle_datagram(now, now, path, datagram);
                hall.engine.flush(now, mailbox);
            });
        };
        let mut mailbox = Mailbox::default();
        engine(&mut client.check(), &mut mailbox);
        client.start_dtls(now).expect("it begins");
        let secure = client.secure.as_mut().expect("it has begun");
        while !secure.is_connected() {
            while let Some(mut datagram) = secure.poll_transmit() {
                engine(&mut datagram, &mut mailbox);
            }
            let flight: Vec<_> = mailbox.sent.drain(..).collect();
            assert!(!flight.is_empty(), "the handshake goes on");
            for (to, datagram) in flight {
                if to == path && matches!(datagram.first(), Some(20..=63)) {
                    secure.handle(now, &datagram).expect("the handshake succeeds");
                }
            }
        }
    }
    JOINS
}

fn leave(audience: usize) -> Units {
    let mut hall = Hall::new();
    let _ada = hall.publisher("room");
    let _others = hall.audience("other", 200 - audience.min(200));
    let audience = hall.audience("room", audience);
    let now = hall.now;
    let goers = audience.iter().step_by(audience.len() / 10);
    for client in goers {
        counted(&mut || {
            hall.engine.leave(now, client.peer);
            hall.engine.flush(now, &mut Count::default());
            hall.hear();
        });
    }
    10
}

/// A second of video at 30 frames before anything is counted.
const WARM_UP: usize = 30;
const FRAMES: usize = 30;
const FRAME: Duration = Duration::from_micros(33_333);
/// 1.5 Mb/s.
const PACKETS: usize = 6;
const BYTES: usize = 1_000;
const SECONDS: u64 = 20;
const JOINS: u64 = 20;

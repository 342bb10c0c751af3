//! The honest room that goes on while somebody attacks: two publishers and eight subscribers.

use std::time::Duration;

use sluicegate_tests::world::{AUDIO, Seat, VIDEO, World, ms, publishes, secs, watches};

/// What a datagram takes through the world when nothing holds it up: two links of 10 ms.
const UNDISTURBED: Duration = ms(20);

/// Two publishers and eight subscribers.
#[derive(Clone, Copy)]
pub struct Room {
    pub publishers: [Seat; 2],
    pub subscribers: [Seat; 8],
}

impl Room {
    /// In the room `control`.
    pub fn enter(world: &mut World) -> Room {
        Room::enter_at(world, 300_000)
    }

    /// With cameras of this bitrate.
    pub fn enter_at(world: &mut World, bitrate: u64) -> Room {
        let publishers =
            ["ada", "bob"].map(|name| world.join("control", name, publishes(AUDIO | VIDEO).at(bitrate)));
        let names = ["cem", "dora", "emil", "fay", "gus", "hana", "ivo", "jill"];
        let subscribers = names.map(|name| world.join("control", name, watches(2)));
        Room { publishers, subscribers }
    }

    /// A world whose honest room has been up for two seconds.
    pub fn settled(seed: u64) -> (World, Room) {
        let mut world = World::new(seed);
        let room = Room::enter(&mut world);
        world.connect_all(secs(2));
        world.run(secs(2));
        (world, room)
    }

    pub fn everyone(&self) -> impl Iterator<Item = Seat> + use<> {
        self.publishers.into_iter().chain(self.subscribers)
    }

    /// Nothing was lost, doubled, forged or delayed, up to this moment.
    pub fn is_unharmed(&self, world: &World) {
        for me in self.everyone() {
            let (name, sink) = (&world[me].name, &world[me].sink);
            assert_eq!((sink.forged, sink.foreign), (0, 0), "{name} got what nobody sent");
            assert_eq!(sink.missing(), 0, "{name} lost something");
            assert_eq!(sink.duplicates(), 0, "{name} got something twice");
            assert_eq!(sink.discontinuities(), [""; 0], "{name}");
            assert!(sink.worst_delay() < UNDISTURBED + ms(5), "{name} waited {:?}", sink.worst_delay());
        }
        self.goes_on(world);
    }

    /// As [`is_unharmed`](Room::is_unharmed) where others publish into the room too: their streams are theirs to
    /// spoil, and only what the two honest ones send is judged.
    pub fn is_unharmed_by_publishers(&self, world: &World) {
        for me in self.everyone() {
            for other in self.others(me) {
                for video in [false, true] {
                    let seen = world[me].sink.from(other.index, video);
                    let numbers: Vec<u64> = seen.map(|seen| seen.content.packet).collect();
                    let gapless = numbers.windows(2).all(|pair| pair[1] == pair[0] + 1);
                    assert!(gapless, "{} lost something of {}", world[me].name, world[other].name);
                }
            }
        }
        self.goes_on(world);
    }

    /// Everybody hears both publishers this very moment, and nobody has been let go.
    pub fn goes_on(&self, world: &World) {
        for me in self.everyone() {
            let name = &world[me].name;
            assert_eq!(world[me].left(), None, "{name} is there");
            for other in self.others(me) {
                for video in [false, true] {
                    let last = world[me].sink.last_from(other.index, video).expect("it receives");
                    assert!(last + ms(80) > world.now, "{name} hears {} no longer", world[other].name);
                }
            }
        }
    }

    fn others(&self, me: Seat) -> impl Iterator<Item = Seat> + use<> {
        self.publishers.into_iter().filter(move |other| *other != me)
    }
}

//! Who takes part: the connections of a run and what each of them ought to receive.

use std::time::Duration;

use sluicegate_benches::client::{Check, Dice, Manner, Shape};
use sluicegate_benches::secure::Cipher;
use sluicegate_benches::{Join, LoadClient};

use crate::args::Args;
use crate::server::Server;

/// All connections, publishers of a room first.
pub struct Scene {
    connections: Vec<Connection>,
}

/// One client.
pub struct Connection {
    room: u32,
    /// Under what it publishes, or whom it does not want to see.
    name: String,
    /// How it takes part.
    pub join: Join,
    /// The publisher's connection that it does not receive: its own, in a mesh.
    not_from: Option<usize>,
}

impl Scene {
    /// As the command line has it.
    pub fn new(args: &Args) -> Scene {
        let mut scene = Scene { connections: Vec::new() };
        (0..args.shape.rooms).for_each(|room| scene.add_room(args, room));
        scene
    }

    fn add_room(&mut self, args: &Args, room: u32) {
        let pubs = args.shape.mesh.unwrap_or(args.shape.pubs);
        let subs = args.shape.mesh.unwrap_or(args.shape.subs);
        let first = self.connections.len();
        let shape = shape(args);
        for nth in 0..pubs {
            let publish = Some((room * pubs + nth, shape));
            let join = Join { publish, manner: manner(args, 0), ..Join::default() };
            self.connections.push(Connection { room, name: format!("p{nth}"), join, not_from: None });
        }
        let watched = pubs as usize - usize::from(args.shape.mesh.is_some());
        for nth in 0..subs {
            let not_from = args.shape.mesh.map(|_| first + nth as usize);
            let name = if not_from.is_some() { format!("p{nth}") } else { String::new() };
            let mut manner = manner(args, u64::from(room) << 32 | u64::from(nth + 1));
            // The first of a room are the slow ones.
            manner.naps = (nth < args.shape.slow).then_some(NAPS);
            let video = if args.media.audio_only { 0 } else { watched };
            let join = Join { publish: None, audio: watched, video, manner };
            self.connections.push(Connection { room, name, join, not_from });
        }
    }

    /// Everybody.
    pub fn connections(&self) -> &[Connection] {
        &self.connections
    }

    /// Subscribers whose figures count.
    pub fn subscribers(&self) -> usize {
        self.connections.iter().filter(|connection| connection.counts()).count()
    }

    /// What those receive if nothing is lost, given what everybody has published.
    pub fn expected<'a>(&self, clients: impl Iterator<Item = &'a LoadClient>) -> u64 {
        let sent: Vec<u64> = clients.map(|client| client.sent().audio + client.sent().video).collect();
        let mut rooms = std::collections::HashMap::<u32, u64>::new();
        for (connection, sent) in self.connections.iter().zip(&sent) {
            *rooms.entry(connection.room).or_default() += sent;
        }
        let counting = self.connections.iter().filter(|connection| connection.counts());
        counting.map(|it| rooms[&it.room] - it.not_from.map_or(0, |own| sent[own])).sum()
    }
}

impl Connection {
    /// Whether its figures count: it receives, and all the time.
    pub fn counts(&self) -> bool {
        self.join.publish.is_none() && self.join.manner.naps.is_none()
    }

    /// Where it joins.
    pub fn address(&self, server: &Server) -> String {
        let room = format!("load{}", self.room);
        if self.join.publish.is_some() {
            server.whip(&room, &self.name)
        } else {
            server.whep(&room, &self.name)
        }
    }
}

/// What every publisher sends.
pub fn shape(args: &Args) -> Shape {
    let video_bps = if args.media.audio_only { 0 } else { args.media.bitrate.as_bps() as u32 };
    let paced = args.media.paced.unwrap_or_default();
    Shape { video_bps, fps: args.media.fps, paced, ..Shape::default() }
}

fn manner(args: &Args, number: u64) -> Manner {
    let wanted = &args.manner;
    Manner {
        cipher: if wanted.cm { Cipher::Cm } else { Cipher::Gcm },
        check: if wanted.check == 1 { Check::Every } else { Check::OneIn(wanted.check) },
        loss: (wanted.loss > 0.0).then(|| Dice::new(wanted.seed ^ number, wanted.loss)),
        repairs: !wanted.no_nack,
        times: !wanted.no_twcc,
        gro: wanted.gro,
        naps: None,
    }
}

/// Half of it asleep: at 1.5 Mb/s three quarters of a second fill a socket's buffer as systems come.
const NAPS: Duration = Duration::from_secs(2);

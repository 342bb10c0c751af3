//! What the command line may say.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use sluicegate::Bitrate;

use crate::units;

/// Loads an SFU with real WebRTC clients on one thread, and says what that cost it.
///
/// Starts a server on one core, clients on another, and stops by itself. Figures are per packet that
/// reached a client.
#[derive(Parser, Clone, Debug)]
#[command(name = "load")]
pub struct Args {
    #[command(flatten)]
    pub shape: Shape,
    #[command(flatten)]
    pub media: Media,
    #[command(flatten)]
    pub manner: Manner,
    #[command(flatten)]
    pub server: ServerArgs,
    /// For how long media flows, in each measurement.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = units::duration)]
    pub time: Duration,
    /// Raise the bitrate until 0.1% is lost or late by 100 ms, and report the highest rate that was clean. Each
    /// step takes --time, 3s at most.
    #[arg(long)]
    pub ramp: bool,
    /// Measure sluicegate and another server in turn, so many times each, and print medians and their ratio.
    /// The other is the str0m host, or the server at --url.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=50))]
    pub compare: Option<u32>,
    /// Print JSON instead of a table, every run in it.
    #[arg(long)]
    pub json: bool,
}

/// Who is in which room.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Shape")]
pub struct Shape {
    /// Publishers in a room.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub pubs: u32,
    /// Subscribers in a room; each watches every publisher.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    pub subs: u32,
    /// Instead: so many people in a room, who all publish and watch all others (by WHIP and by WHEP).
    #[arg(long, value_name = "N", conflicts_with_all = ["pubs", "subs"], value_parser = clap::value_parser!(u32).range(2..=100))]
    pub mesh: Option<u32>,
    /// So many such rooms.
    #[arg(long, value_name = "R", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub rooms: u32,
    /// So many of the subscribers stop reading for half of every two seconds. They are left out of the figures.
    #[arg(long, value_name = "K", default_value_t = 0, conflicts_with = "mesh")]
    pub slow: u32,
}

/// What is published.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Media")]
pub struct Media {
    /// Video of each publisher: 800kbps, 1.5mbps. The ramp starts here.
    #[arg(long, value_name = "RATE", default_value = "1500kbps")]
    pub bitrate: Bitrate,
    /// Video frames a second.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=120))]
    pub fps: u32,
    /// Spread a frame's packets over this time, as browsers do; otherwise each frame is one burst.
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    pub paced: Option<Duration>,
    /// No video: Opus at 40 kb/s and 50 packets a second.
    #[arg(long, conflicts_with_all = ["bitrate", "fps", "paced", "ramp"])]
    pub audio_only: bool,
}

/// How clients behave.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Clients")]
pub struct Manner {
    /// Subscribers lose this share of what they receive, ask for it again (NACK) and count what comes (RTX).
    #[arg(long, value_name = "PERCENT", default_value = "0%", value_parser = units::percent)]
    pub loss: f64,
    /// Chooses what is lost.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub seed: u64,
    /// Offer AES128_CM_HMAC_SHA1_80 alone instead of AES-GCM.
    #[arg(long)]
    pub cm: bool,
    /// Do not offer to ask for lost packets again (NACK, RTX), so that a server need not keep them.
    #[arg(long, conflicts_with = "loss")]
    pub no_nack: bool,
    /// Neither offer nor give transport-wide feedback.
    #[arg(long)]
    pub no_twcc: bool,
    /// Let the kernel hand runs of datagrams to a client in one piece (UDP_GRO), as some browsers do.
    #[arg(long)]
    pub gro: bool,
    /// Authenticate one packet in so many, 1 being all. Of all others the number and the send time are
    /// decrypted, and held against the RTP header.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    pub check: u32,
}

/// What is loaded.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Server")]
pub struct ServerArgs {
    /// Which server to start.
    #[arg(long, value_enum, default_value_t = Peer::Sluicegate, conflicts_with_all = ["url", "compare"])]
    pub peer: Peer,
    /// Load a running server instead: where it serves WHIP and WHEP, http:// only.
    #[arg(long, value_name = "URL", value_parser = address)]
    pub url: Option<String>,
    /// Where under --url one publishes.
    #[arg(long, value_name = "PATH", default_value = "/whip/{room}?name={name}", requires = "url")]
    pub whip: String,
    /// Where under --url one watches; {name} is whom not to see, in a mesh.
    #[arg(long, value_name = "PATH", default_value = "/whep/{room}?exclude={name}", requires = "url")]
    pub whep: String,
    /// The process at --url, whose CPU time and memory to read.
    #[arg(long, value_name = "PID", requires = "url")]
    pub pid: Option<u32>,
    /// The demo binary to start, instead of building this workspace's.
    #[arg(long, value_name = "FILE")]
    pub demo: Option<PathBuf>,
    /// Media threads of sluicegate.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub workers: u32,
    /// Cores that the server may use; by default the first of this machine.
    #[arg(long, value_name = "CORE", value_delimiter = ',')]
    pub server_cores: Vec<usize>,
    /// The core that the clients use; by default the second.
    #[arg(long, value_name = "CORE")]
    pub client_core: Option<usize>,
}

/// A server that the tool can start.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Peer {
    /// The demo of this workspace.
    Sluicegate,
    /// The str0m host of this workspace: the yardstick.
    Str0m,
}

fn address(text: &str) -> Result<String, String> {
    match text.strip_prefix("http://").map(|rest| rest.trim_end_matches('/')) {
        Some(rest) if !rest.is_empty() => Ok(format!("http://{rest}")),
        _ => Err("write http://HOST:PORT; this tool speaks no TLS".to_owned()),
    }
}

impl Args {
    /// What clap cannot express. `Err` is a sentence for the user.
    pub fn validate(&self) -> Result<(), String> {
        if self.time < SHORTEST {
            return Err(format!("--time has to be at least {SHORTEST:?}, or there is nothing to count"));
        }
        if self.shape.slow >= self.shape.subs && self.shape.mesh.is_none() {
            return Err(
                "--slow has to leave at least one subscriber who reads, whose figures count".to_owned()
            );
        }
        let frame = Duration::from_secs(1) / self.media.fps;
        if self.media.paced.is_some_and(|paced| paced >= frame) {
            return Err(format!("--paced has to be shorter than a frame, {} ms", frame.as_millis()));
        }
        let bitrate = self.media.bitrate;
        if !(Bitrate::kbps(10)..=Bitrate::mbps(1_000)).contains(&bitrate) {
            return Err("--bitrate has to lie between 10kbps and 1000mbps".to_owned());
        }
        if self.ramp && self.manner.loss > 0.0 {
            return Err(
                "--ramp looks for the rate at which packets begin to be lost: leave --loss out".to_owned()
            );
        }
        let connections = self.shape.connections();
        if connections > MOST_CONNECTIONS {
            return Err(format!(
                "{connections} connections are more than one thread can carry ({MOST_CONNECTIONS})"
            ));
        }
        Ok(())
    }
}

impl Shape {
    fn connections(&self) -> u64 {
        let room = self.mesh.map_or(self.pubs + self.subs, |people| 2 * people);
        u64::from(room) * u64::from(self.rooms)
    }
}

const SHORTEST: Duration = Duration::from_millis(100);
const MOST_CONNECTIONS: u64 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, String> {
        let words = std::iter::once("load").chain(line.split_whitespace());
        let args = Args::try_parse_from(words).map_err(|error| error.to_string())?;
        args.validate().map(|()| args)
    }

    #[test]
    fn the_defaults_are_one_to_a_hundred() {
        let args = parse("").unwrap();
        assert_eq!((args.shape.pubs, args.shape.subs, args.shape.rooms, args.shape.mesh), (1, 100, 1, None));
        assert_eq!((args.media.bitrate, args.manner.loss), (Bitrate::kbps(1_500), 0.0));
        assert_eq!((args.server.peer, args.compare, args.ramp), (Peer::Sluicegate, None, false));
    }

    #[test]
    fn every_shape_is_understood() {
        assert_eq!(parse("--mesh 10").unwrap().shape.mesh, Some(10));
        assert!(parse("--audio-only --pubs 10 --subs 200").unwrap().media.audio_only);
        assert_eq!(parse("--paced 13ms").unwrap().media.paced, Some(Duration::from_millis(13)));
        assert_eq!(parse("--loss 5% --seed 3 --cm --no-twcc --gro --check 1").unwrap().manner.loss, 0.05);
        let args = parse("--url http://127.0.0.1:8080/ --whip /live/{room} --pid 7").unwrap();
        assert_eq!(args.server.url.as_deref(), Some("http://127.0.0.1:8080"));
        assert_eq!(parse("--server-cores 2,3 --client-core 4").unwrap().server.server_cores, [2, 3]);
    }

    #[test]
    fn nonsense_is_refused_with_a_reason() {
        for (line, hint) in [
            ("--mesh 10 --subs 5", "--subs"),
            ("--mesh 1", "2..=100"),
            ("--paced 13", "13ms"),
            ("--paced 40ms", "33 ms"),
            ("--loss 5", "1%"),
            ("--loss 5% --ramp", "leave --loss out"),
            ("--loss 5% --no-nack", "--no-nack"),
            ("--audio-only --ramp", "--ramp"),
            ("--subs 3 --slow 3", "at least one subscriber"),
            ("--url https://example.org", "no TLS"),
            ("--pid 3", "--url"),
            ("--peer janus", "str0m"),
            ("--peer str0m --compare 3", "--compare"),
            ("--bitrate fast", "fast"),
            ("--bitrate 1kbps", "10kbps"),
            ("--time 1ms", "at least"),
            ("--rooms 1000 --subs 50", "one thread"),
        ] {
            let error = parse(line).expect_err(line);
            assert!(error.contains(hint), "{line}: {error}");
        }
    }
}

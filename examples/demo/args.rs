//! What the command line may say.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Parser, Subcommand, ValueEnum};
use sluicegate::signaling::Region;
use sluicegate::{Bitrate, Saturation};

use crate::name::Name;

/// A call page, WHIP and WHEP on one sluicegate SFU.
#[derive(Parser, Debug)]
#[command(name = "demo", args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub serve: Serve,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Print a join token for one name in one room, then exit.
    Token {
        room: Name,
        name: Name,
        /// How long the token is good for: 90s, 30m, 1h, 7d.
        #[arg(long, default_value = "1h", value_parser = ttl)]
        ttl: Duration,
        #[arg(long, env = SECRET_ENV, hide_env_values = true, value_parser = NonEmptyStringValueParser::new())]
        join_secret: String,
    },
}

#[derive(clap::Args, Debug)]
pub struct Serve {
    /// Where the page, the signalling and /metrics are served (TCP).
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "IP:PORT")]
    pub http: SocketAddr,
    /// Where media arrives (UDP). Each worker takes one port, counting up from this one.
    #[arg(long, default_value = "0.0.0.0:3478", value_name = "IP:PORT")]
    pub media: SocketAddr,
    /// An address that clients can reach the media port at; repeatable. Behind NAT or in a
    /// container, name the public one.
    #[arg(long, value_name = "IP[:PORT]")]
    pub announce: Vec<Reachable>,
    /// Media threads; by default the engine chooses.
    #[arg(long, value_name = "N")]
    pub workers: Option<NonZeroUsize>,
    /// The most one publisher may send: 64000, 500kbps, 2.5mbps.
    #[arg(long, value_name = "RATE")]
    pub publisher_cap: Option<Bitrate>,
    /// What to do when the machine is short of something: refuse newcomers and give up media, or only say so in metrics.
    #[arg(long, env = "SLUICEGATE_SATURATION", value_name = "WHAT", default_value = "act")]
    pub saturation: Overload,
    /// After SIGTERM, how long to wait for everybody to leave: 0s, 90s, 30m. Newcomers are refused meanwhile.
    #[arg(long, env = "SLUICEGATE_DRAIN", value_name = "TIME", default_value = "20s", value_parser = duration)]
    pub drain: Duration,
    /// Serve HTTPS: browsers open the camera only on https:// or on this very machine.
    #[arg(long, value_name = "self-signed|CERT,KEY")]
    pub tls: Option<Tls>,
    /// Demand a token made with this secret (see `demo token --help`).
    #[arg(long, env = SECRET_ENV, hide_env_values = true, value_parser = NonEmptyStringValueParser::new())]
    pub join_secret: Option<String>,
    /// Serve /debug/rooms, which names rooms, to whoever passes this as `Authorization: Bearer`.
    #[arg(long, env = ADMIN_ENV, hide_env_values = true, value_parser = NonEmptyStringValueParser::new())]
    pub admin_token: Option<String>,
    /// Where this server runs, as the label `region` of its signalling metrics.
    #[arg(long, value_name = "NAME", default_value = "local")]
    pub region: Region,
    /// Bots of this process that publish a small clip of our own making, to fill a room: 0 to 20.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(..=20))]
    pub bots: u8,
    /// The room the bots are in.
    #[arg(long, value_name = "ROOM", default_value = "bots")]
    pub bots_room: Name,
}

/// What the engine does about its own load.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overload {
    Act,
    DryRun,
}

impl From<Overload> for Saturation {
    fn from(overload: Overload) -> Saturation {
        match overload {
            Overload::Act => Saturation::Act,
            Overload::DryRun => Saturation::DryRun,
        }
    }
}

/// `203.0.113.7`, `203.0.113.7:40000`, `2001:db8::7` or `[2001:db8::7]:40000`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reachable {
    /// On the same ports as `--media`.
    Ip(IpAddr),
    /// On other ports, counting up from this one.
    Base(SocketAddr),
}

impl Reachable {
    pub fn ip(self) -> IpAddr {
        match self {
            Reachable::Ip(ip) => ip,
            Reachable::Base(base) => base.ip(),
        }
    }
}

impl FromStr for Reachable {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let reachable =
            text.parse().map(Reachable::Ip).or_else(|_| text.parse().map(Reachable::Base)).map_err(|_| {
                "write an address such as 203.0.113.7 or 203.0.113.7:3478, not a host name".to_owned()
            })?;
        if reachable.ip().is_unspecified() {
            return Err("nobody can send to this address; name one that clients can reach".to_owned());
        }
        Ok(reachable)
    }
}

/// Where the certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Made at start-up and kept in memory; browsers warn once.
    SelfSigned,
    /// PEM files.
    Files { cert: PathBuf, key: PathBuf },
}

impl FromStr for Tls {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(',') {
            None if text == "self-signed" => Ok(Tls::SelfSigned),
            Some((cert, key)) if !cert.is_empty() && !key.is_empty() => {
                Ok(Tls::Files { cert: cert.into(), key: key.into() })
            }
            _ => Err("write `self-signed`, or two PEM files as `cert.pem,key.pem`".to_owned()),
        }
    }
}

fn ttl(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("a token has to live for at least a second".to_owned()),
        ttl => Ok(ttl),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "write a number and a unit: 90s, 30m, 1h, 7d".to_owned();
    let unit = text.chars().last().ok_or_else(wrong)?;
    let scale = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let count: u32 = text[..text.len() - unit.len_utf8()].parse().map_err(|_| wrong())?;
    Ok(Duration::from_secs(u64::from(count) * scale))
}

/// Read when `--join-secret` is absent: an argument shows in the process list, a variable does not.
const ADMIN_ENV: &str = "SLUICEGATE_ADMIN_TOKEN";
const SECRET_ENV: &str = "SLUICEGATE_JOIN_SECRET";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(std::iter::once("demo").chain(line.split_whitespace()))
    }

    #[test]
    fn the_defaults_serve_this_machine() {
        let args = parse("").unwrap().serve;
        assert_eq!(args.http, "127.0.0.1:8080".parse::<SocketAddr>().unwrap());
        assert_eq!(args.media, "0.0.0.0:3478".parse::<SocketAddr>().unwrap());
        assert!(args.announce.is_empty() && args.workers.is_none() && args.tls.is_none());
        assert_eq!((args.bots, args.bots_room.as_str()), (0, "bots"));
        assert_eq!((args.saturation, args.drain), (Overload::Act, Duration::from_secs(20)));
    }

    #[test]
    fn every_option_is_understood() {
        let line = "--http 0.0.0.0:80 --media [::]:4000 --announce 203.0.113.7 --announce [2001:db8::7]:9 \
                    --workers 3 --publisher-cap 2500kbps --tls c.pem,k.pem --join-secret s --bots 20 --bots-room zoo \
                    --saturation dry-run --drain 0s";
        let args = parse(line).unwrap().serve;
        assert_eq!(args.announce[0], Reachable::Ip("203.0.113.7".parse().unwrap()));
        assert_eq!(args.announce[1], Reachable::Base("[2001:db8::7]:9".parse().unwrap()));
        assert_eq!(args.workers.map(NonZeroUsize::get), Some(3));
        assert_eq!(args.publisher_cap, Some(Bitrate::kbps(2500)));
        assert_eq!(args.tls, Some(Tls::Files { cert: "c.pem".into(), key: "k.pem".into() }));
        assert_eq!(args.join_secret.as_deref(), Some("s"));
        assert_eq!((args.bots, args.bots_room.as_str()), (20, "zoo"));
        assert_eq!((args.saturation, args.drain), (Overload::DryRun, Duration::ZERO));
    }

    #[test]
    fn a_token_is_asked_for_by_room_and_name() {
        let args = parse("token standup ada --ttl 30m --join-secret s").unwrap();
        let Some(Command::Token { room, name, ttl, join_secret }) = args.command else {
            panic!("not a token command")
        };
        assert_eq!((room.as_str(), name.as_str()), ("standup", "ada"));
        assert_eq!((ttl, join_secret.as_str()), (Duration::from_secs(1800), "s"));
    }

    #[test]
    fn nonsense_is_refused_with_an_example() {
        for (line, hint) in [
            ("--announce example.org", "203.0.113.7"),
            ("--announce 0.0.0.0", "clients can reach"),
            ("--tls cert.pem", "cert.pem,key.pem"),
            ("--publisher-cap fast", "500kbps"),
            ("--workers 0", "0"),
            ("--bots 21", "0..=20"),
            ("--bots-room a/b", "'/'"),
            ("--drain soon", "90s"),
            ("--saturation maybe", "dry-run"),
            ("token standup ada --join-secret s --ttl 1y", "7d"),
            ("token stand/up ada --join-secret s", "'/'"),
        ] {
            let error = parse(line).expect_err(line).to_string();
            assert!(error.contains(hint), "{line}: {error}");
        }
    }
}

//! The peer's ICE candidates, as far as they tell by what path it comes. RFC 8839 §5.1.

use std::net::{IpAddr, SocketAddr};

use crate::counters::PathKind;

/// More than a client has interfaces, STUN and TURN servers.
const MAX_KEPT: usize = 32;

/// What one `a=candidate` says. A lite agent never checks it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RemoteCandidate {
    pub kind: PathKind,
    /// `None` for a name instead of an address, by which browsers hide their own (`….local`).
    pub address: Option<SocketAddr>,
}

impl RemoteCandidate {
    /// Reads the values of `a=candidate` lines. What cannot be read tells nothing.
    pub fn read_all<'a>(values: impl Iterator<Item = &'a str>) -> Vec<RemoteCandidate> {
        values.filter_map(RemoteCandidate::read).take(MAX_KEPT).collect()
    }

    fn read(value: &str) -> Option<RemoteCandidate> {
        // foundation component transport priority address port "typ" type
        let mut words = value.split_ascii_whitespace().skip(2);
        let udp = words.next()?.eq_ignore_ascii_case("udp");
        let (ip, port) = (words.nth(1)?, words.next()?);
        let kind = match (words.next()?, words.next()?) {
            ("typ", "host") => PathKind::Host,
            ("typ", "srflx") => PathKind::Srflx,
            ("typ", "prflx") => PathKind::Prflx,
            ("typ", "relay") => PathKind::Relay,
            _ => return None,
        };
        let address = ip.parse::<IpAddr>().ok().zip(port.parse::<u16>().ok());
        let address = address.filter(|_| udp).map(SocketAddr::from);
        Some(RemoteCandidate { kind, address })
    }
}

/// By what path somebody at `remote` comes who announced these. What nobody announced is a NAT's doing: reflexive.
pub(crate) fn path_kind(candidates: &[RemoteCandidate], remote: SocketAddr) -> PathKind {
    let known = candidates.iter().find(|candidate| candidate.address == Some(remote));
    known.map_or(PathKind::Prflx, |candidate| candidate.kind)
}

#[test]
fn candidates_tell_the_path() {
    let lines = [
        "1 1 udp 2122260223 192.168.1.7 50000 typ host generation 0",
        "2 1 UDP 1686052607 203.0.113.5 61000 typ srflx raddr 192.168.1.7 rport 50000",
        "3 1 udp 41885439 198.51.100.9 3479 typ relay raddr 203.0.113.5 rport 61000",
        "4 1 udp 2122260223 6f8b1c9e.local 50001 typ host",
        "5 1 tcp 1518280447 192.168.1.7 9 typ host tcptype active",
        "6 1 udp 1 192.0.2.1 99999 typ host",
        "nonsense",
        "7 1 udp 1 192.0.2.1 9 typ elsewhere",
    ];
    let candidates = RemoteCandidate::read_all(lines.into_iter());
    assert_eq!(candidates.len(), 6);
    let comes = |remote: &str| path_kind(&candidates, remote.parse().unwrap());
    assert_eq!(comes("192.168.1.7:50000"), PathKind::Host);
    assert_eq!(comes("203.0.113.5:61000"), PathKind::Srflx);
    assert_eq!(comes("198.51.100.9:3479"), PathKind::Relay);
    assert_eq!(comes("203.0.113.5:61001"), PathKind::Prflx, "a symmetric NAT");
    assert_eq!(comes("192.168.1.7:9"), PathKind::Prflx, "no such UDP candidate");
}

#[test]
fn only_so_many_are_kept() {
    let many = std::iter::repeat_n("1 1 udp 1 192.0.2.1 9 typ host", 1_000);
    assert_eq!(RemoteCandidate::read_all(many).len(), MAX_KEPT);
}

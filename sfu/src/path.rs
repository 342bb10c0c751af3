//! Where a datagram came from and where it arrived: what a validated ICE path is made of.

use std::net::{IpAddr, SocketAddr};

/// A remote transport address as one of our own addresses sees it.
///
/// Addresses are canonical: an IPv4 peer on a dual-stack socket is the same path as on an IPv4
/// socket, so the mapped form `::ffff:a.b.c.d` never appears.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Path {
    /// The address the datagram arrived at; unspecified if the socket could not tell.
    pub local: IpAddr,
    /// The address the datagram came from.
    pub remote: SocketAddr,
}

impl Path {
    /// The path between two addresses, v4-mapped ones canonicalised.
    pub fn new(local: IpAddr, remote: SocketAddr) -> Path {
        // Built anew rather than `set_ip`: an IPv6 flow label or scope is no part of a mapped
        // address, and a flow label is no part of a path at all.
        let remote = match remote {
            SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
                Some(ip) => SocketAddr::new(IpAddr::V4(ip), v6.port()),
                None => std::net::SocketAddrV6::new(*v6.ip(), v6.port(), 0, v6.scope_id()).into(),
            },
            v4 => v4,
        };
        Path { local: local.to_canonical(), remote }
    }
}

#[test]
fn a_mapped_address_is_its_ipv4_self() {
    let mapped = Path::new("::ffff:10.0.0.1".parse().unwrap(), "[::ffff:192.0.2.7]:9".parse().unwrap());
    let plain = Path::new("10.0.0.1".parse().unwrap(), "192.0.2.7:9".parse().unwrap());
    assert_eq!(mapped, plain);
}

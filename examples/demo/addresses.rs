//! Which addresses this machine is reached at.

use std::net::{IpAddr, SocketAddr};

/// The addresses to announce when the operator names none.
///
/// A specific media address announces itself. An unspecified one announces every address of its
/// family that another machine could use, and loopback only where there is nothing else.
pub fn to_announce(media: SocketAddr, interfaces: &[IpAddr]) -> Vec<IpAddr> {
    if !media.ip().is_unspecified() {
        return vec![media.ip()];
    }
    let ours = || interfaces.iter().copied().filter(|ip| ip.is_ipv4() == media.is_ipv4());
    let outward: Vec<IpAddr> = ours().filter(|ip| !ip.is_loopback() && !is_link_local(*ip)).collect();
    if outward.is_empty() { ours().filter(IpAddr::is_loopback).collect() } else { outward }
}

/// The addresses of this machine's interfaces, each once.
pub fn of_interfaces() -> std::io::Result<Vec<IpAddr>> {
    let mut found = Vec::new();
    for interface in if_addrs::get_if_addrs()? {
        if !found.contains(&interface.ip()) {
            found.push(interface.ip());
        }
    }
    Ok(found)
}

/// Link-local addresses need a scope that a candidate cannot carry.
fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announced(media: &str, interfaces: &[&str]) -> Vec<String> {
        let interfaces: Vec<IpAddr> = interfaces.iter().map(|ip| ip.parse().unwrap()).collect();
        to_announce(media.parse().unwrap(), &interfaces).iter().map(IpAddr::to_string).collect()
    }

    #[test]
    fn every_address_but_loopback_is_announced() {
        let interfaces = ["127.0.0.1", "192.168.1.5", "10.8.0.2", "::1", "fe80::1", "2001:db8::5"];
        assert_eq!(announced("0.0.0.0:3478", &interfaces), ["192.168.1.5", "10.8.0.2"]);
        assert_eq!(announced("[::]:3478", &interfaces), ["2001:db8::5"]);
    }

    #[test]
    fn loopback_serves_where_there_is_nothing_else() {
        assert_eq!(announced("0.0.0.0:3478", &["127.0.0.1", "169.254.3.4", "::1"]), ["127.0.0.1"]);
        assert!(announced("[::]:3478", &["127.0.0.1"]).is_empty());
    }

    #[test]
    fn a_chosen_address_announces_itself() {
        assert_eq!(announced("127.0.0.1:3478", &["192.168.1.5"]), ["127.0.0.1"]);
    }
}

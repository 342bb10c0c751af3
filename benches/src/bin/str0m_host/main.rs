//! The yardstick: a small WHIP and WHEP host on str0m in RTP mode, as one would write it with str0m alone.
//!
//! One thread owns all peers and one UDP socket. It reads what has arrived, hands each packet to its peer, writes
//! what that peer received to everybody who watches, and then polls those who have something to send. NACK and
//! RTX are on for video, transport-wide feedback is on, addresses are looked up in a map, and certificates are
//! not made anew for every peer: what its documentation offers to be fast with, it gets.
//!
//! `cargo run --release -p sluicegate-benches --bin load -- --peer str0m` starts it; it also runs alone.

mod host;
mod seat;
mod signalling;

use std::error::Error;
use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc;

use clap::Parser;

use host::Host;
use signalling::Door;

/// A WHIP and WHEP host on str0m in RTP mode, to be measured against.
#[derive(Parser, Debug)]
struct Args {
    /// Where WHIP and WHEP are served (TCP).
    #[arg(long, default_value = "127.0.0.1:0", value_name = "IP:PORT")]
    http: SocketAddr,
    /// Where media arrives (UDP); also what is announced, so name an address that clients can reach.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "IP:PORT")]
    media: SocketAddr,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let socket = open(args.media).map_err(|error| format!("cannot bind --media {}: {error}", args.media))?;
    let listener = std::net::TcpListener::bind(args.http)
        .map_err(|error| format!("cannot bind --http {}: {error}", args.http))?;
    listener.set_nonblocking(true)?;
    let (errands, inbox) = mpsc::channel();
    let host = Host::new(socket, inbox)?;
    let door = Door::new(host.address()?, errands, host.bell()?);
    println!("media announced at udp://{}", host.address()?);
    println!("listening on http://{}", listener.local_addr()?);
    std::thread::Builder::new().name("media".to_owned()).spawn(move || {
        if let Err(error) = host.run() {
            eprintln!("error: {error}");
            std::process::exit(1);
        }
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    Ok(runtime.block_on(signalling::serve(listener, door))?)
}

fn open(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, Some(socket2::Protocol::UDP))?;
    // What the kernel grants is enough to start with. The SFU that we compare with asks for the same.
    let _ = socket.set_recv_buffer_size(BUFFER);
    let _ = socket.set_send_buffer_size(BUFFER);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

const BUFFER: usize = 4 * 1024 * 1024;

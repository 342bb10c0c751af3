//! Whether a socket of its own for each subscriber, connected to him, would be worth having: the sends of a server, to
//! live receivers on loopback, from one socket and from one for each, in turn.
//!
//! ```sh
//! cargo run --release -p sluicegate-benches --bin connected -- [receivers] [rounds]
//! ```
//!
//! CPU is the sending thread's (`/proc/thread-self/schedstat`), which on loopback includes the way to the receiver's
//! socket. Receivers are drained by another thread, on another core if there is one.

use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg};
use socket2::{Domain, Socket, Type};

/// Bytes of a packet, frames of a round, time between two of them.
const BYTES: usize = 1_150;
const FRAMES: usize = 30;
const PAUSE: Duration = Duration::from_millis(50);

fn bound(port: u16) -> UdpSocket {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("a socket");
    socket.set_reuse_port(true).expect("Linux has it");
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into()).expect("the port is ours");
    socket.into()
}

/// CPU time of this thread.
fn spent() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells");
    text.split(' ').next().and_then(|word| word.parse().ok()).expect("a number")
}

fn pin(cpu: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu);
    // With one core there is nothing to choose.
    let _ = rustix::thread::sched_setaffinity(None, &set);
}

fn median(values: &mut [f64]) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    (values[values.len() / 2], values[0], values[values.len() - 1])
}

fn main() {
    let mut args = std::env::args().skip(1).filter_map(|arg| arg.parse().ok());
    let (receivers, rounds) = (args.next().unwrap_or(1_000), args.next().unwrap_or(7));
    let sinks: Vec<UdpSocket> = (0..receivers).map(|_| bound(0)).collect();
    let addresses: Vec<SocketAddr> =
        sinks.iter().map(|sink| sink.local_addr().expect("it is bound")).collect();
    let going = Arc::new(AtomicBool::new(true));
    let go_on = going.clone();
    let drain = std::thread::spawn(move || {
        pin(1);
        let mut buffer = [0; 2_048];
        let mut received = 0_u64;
        sinks.iter().for_each(|sink| sink.set_nonblocking(true).expect("it can be"));
        while go_on.load(Relaxed) {
            for sink in &sinks {
                while sink.recv(&mut buffer).is_ok() {
                    received += 1;
                }
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        received
    });
    pin(0);
    let common = bound(0);
    let port = common.local_addr().expect("it is bound").port();
    let own: Vec<UdpSocket> = addresses
        .iter()
        .map(|address| {
            let socket = bound(port);
            socket.connect(address).expect("loopback is there");
            socket
        })
        .collect();
    let slab = vec![0x80; BYTES * 16];
    let mut sent = 0_u64;
    let mut round = |segments: usize, connected: bool| {
        let contents = [IoSlice::new(&slab[..BYTES * segments])];
        let size = BYTES as u16;
        let several = [ControlMessage::UdpGsoSegments(&size)];
        let control = if segments > 1 { &several[..] } else { &[] };
        let before = spent();
        for _ in 0..FRAMES {
            for (address, own) in addresses.iter().zip(&own) {
                let target = SockaddrStorage::from(*address);
                let (socket, target) = if connected { (own, None) } else { (&common, Some(&target)) };
                sendmsg(socket.as_raw_fd(), &contents, control, MsgFlags::empty(), target)
                    .expect("it is sent");
                sent += segments as u64;
            }
            std::thread::sleep(PAUSE);
        }
        (spent() - before) as f64 / (FRAMES * receivers * segments) as f64 / 1e3
    };
    println!("| {receivers} receivers, µs a packet | one socket | one for each | ratio |\n|---|--:|--:|--:|");
    for segments in [1, 2, 6, 16] {
        let (mut one, mut each, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for turn in 0..rounds {
            let order = if turn % 2 == 0 { [false, true] } else { [true, false] };
            for connected in order {
                let list = if connected { &mut each } else { &mut one };
                list.push(round(segments, connected));
            }
            ratios.push(each[turn] / one[turn]);
        }
        let [one, each, ratio] = [&mut one, &mut each, &mut ratios].map(|list| median(list));
        let show = |(median, least, most): (f64, f64, f64)| format!("{median:.2} ({least:.2}–{most:.2})");
        println!("| {segments} in a send | {} | {} | {} |", show(one), show(each), show(ratio));
    }
    std::thread::sleep(Duration::from_millis(200));
    going.store(false, Relaxed);
    let received = drain.join().expect("it only reads");
    println!("\n{received} of {sent} received");
}

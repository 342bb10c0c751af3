//! What Linux knows about a process and its sockets.

use std::fs;
use std::time::Duration;

/// Datagrams that the kernel dropped because a UDP socket bound to this port was full.
pub fn udp_drops(port: u16) -> u64 {
    ["/proc/net/udp", "/proc/net/udp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .map(|table| table.lines().skip(1).filter_map(|line| drops_of(line, port)).sum::<u64>())
        .sum()
}

/// `sl local_address rem_address … drops`: the port is hexadecimal, the drops are the last column.
fn drops_of(line: &str, port: u16) -> Option<u64> {
    let mut columns = line.split_whitespace();
    let local = columns.nth(1)?.rsplit_once(':')?.1;
    (u16::from_str_radix(local, 16).ok()? == port).then(|| columns.next_back()?.parse().ok())?
}

/// CPU time of the threads of a process whose name begins with `name`.
pub fn threads_cpu(pid: u32, name: &str) -> Duration {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Duration::ZERO };
    let of_task = |path: std::path::PathBuf| {
        let comm = fs::read_to_string(path.join("comm")).ok()?;
        let spent = fs::read_to_string(path.join("schedstat")).ok()?;
        let nanos = spent.split(' ').next()?.parse().ok()?;
        comm.starts_with(name).then_some(Duration::from_nanos(nanos))
    };
    tasks.filter_map(|task| of_task(task.ok()?.path())).sum()
}

#[test]
fn the_last_column_counts_drops() {
    let line = "  12: 0100007F:0D96 00000000:0000 07 00000000:00000000 00:00000000 00000000  0  0 99 2 00 42";
    assert_eq!(drops_of(line, 3478), Some(42));
    assert_eq!(drops_of(line, 3479), None);
}

//! What Linux knows about a process and its sockets.

use std::collections::HashSet;
use std::fs;
use std::time::Duration;

/// Datagrams that the kernel dropped because a UDP socket bound to this port was full.
pub fn udp_drops(port: u16) -> u64 {
    drops_at(&HashSet::from([port]))
}

/// The same for many ports.
pub fn drops_at(ports: &HashSet<u16>) -> u64 {
    let tables =
        ["/proc/net/udp", "/proc/net/udp6"].iter().filter_map(|table| fs::read_to_string(table).ok());
    let of_table = |table: String| -> u64 {
        let sockets = table.lines().skip(1).filter_map(port_and_drops);
        sockets.filter(|(port, _)| ports.contains(port)).map(|(_, drops)| drops).sum()
    };
    tables.map(of_table).sum()
}

/// `sl local_address rem_address … drops`: the port is hexadecimal, the drops are the last column.
fn port_and_drops(line: &str) -> Option<(u16, u64)> {
    let mut columns = line.split_whitespace();
    let port = u16::from_str_radix(columns.nth(1)?.rsplit_once(':')?.1, 16).ok()?;
    Some((port, columns.next_back()?.parse().ok()?))
}

/// Resident memory of a process, in bytes.
pub fn rss(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

/// CPU time of the kernel's helper for network work of this core that is more than the threads that caused it can
/// be billed for.
pub fn ksoftirqd_cpu(core: usize) -> Option<Duration> {
    let name = format!("ksoftirqd/{core}");
    let found = fs::read_dir("/proc").ok()?.find_map(|entry| {
        let path = entry.ok()?.path();
        (fs::read_to_string(path.join("comm")).ok()?.trim_end() == name).then_some(path)
    })?;
    let spent = fs::read_to_string(found.join("schedstat")).ok()?;
    Some(Duration::from_nanos(spent.split(' ').next()?.parse().ok()?))
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
    assert_eq!(port_and_drops(line), Some((3478, 42)));
}

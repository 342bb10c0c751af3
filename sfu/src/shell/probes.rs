//! What the kernel tells about a thread, the process and the machine.

use std::time::Duration;

use crate::units::Bitrate;

/// Binds the calling thread to one CPU. Best effort: a container may forbid it.
pub fn pin(cpu: Option<usize>) {
    #[cfg(target_os = "linux")]
    if let Some(cpu) = cpu {
        let mut set = rustix::thread::CpuSet::new();
        set.set(cpu);
        if let Err(error) = rustix::thread::sched_setaffinity(None, &set) {
            tracing::debug!(cpu, %error, "a media thread stays unpinned");
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = cpu;
}

/// The CPUs this process may run on, in order.
pub fn allowed_cpus() -> Vec<usize> {
    #[cfg(target_os = "linux")]
    if let Ok(set) = rustix::thread::sched_getaffinity(None) {
        return (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect();
    }
    Vec::new()
}

/// CPU time the calling thread has used.
pub fn thread_cpu() -> Duration {
    #[cfg(target_os = "linux")]
    {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
    }
    #[cfg(not(target_os = "linux"))]
    Duration::ZERO
}

/// The kernel's number of the calling thread.
pub fn thread_id() -> u32 {
    #[cfg(target_os = "linux")]
    return rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs();
    #[cfg(not(target_os = "linux"))]
    return 0;
}

/// CPU time that the process has used.
pub fn process_cpu() -> Option<Duration> {
    #[cfg(target_os = "linux")]
    {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Some(Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32))
    }
    #[cfg(not(target_os = "linux"))]
    None
}

/// CPUs that the process may use: as many as its control group's quota buys, or those it may run on.
pub fn cpu_limit() -> Option<f64> {
    let allowed = allowed_cpus().len();
    let quota = control_group("cpu.max").and_then(|text| quota_v2(&text)).or_else(|| {
        let number = |file| control_group(file)?.trim().parse::<f64>().ok();
        let (quota, period) = number("cpu.cfs_quota_us").zip(number("cpu.cfs_period_us"))?;
        (quota > 0.0 && period > 0.0).then_some(quota / period)
    });
    let allowed = (allowed > 0).then_some(allowed as f64);
    [allowed, quota].into_iter().flatten().min_by(f64::total_cmp)
}

/// How long the control group's CPU quota has held the process back.
pub fn cpu_throttled() -> Option<Duration> {
    throttled(&control_group("cpu.stat")?)
}

/// How long somebody on this machine has waited for a resource: the line `some` of `/proc/pressure`.
pub fn waited(resource: &str) -> Option<Duration> {
    let text = std::fs::read_to_string(format!("/proc/pressure/{resource}")).ok()?;
    some_total(&text)
}

/// How long a thread of ours was runnable and had no CPU.
pub fn run_delay(thread: u32) -> Option<Duration> {
    let text = std::fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).ok()?;
    text.split_ascii_whitespace().nth(1)?.parse().ok().map(Duration::from_nanos)
}

/// How long a thread of ours has had a CPU, and how long it was runnable and had none.
pub fn schedule(thread: u32) -> Option<(Duration, Duration)> {
    let text = std::fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).ok()?;
    let mut times = text.split_ascii_whitespace().map(|nanos| nanos.parse().ok().map(Duration::from_nanos));
    Some((times.next()??, times.next()??))
}

/// Bytes of memory that the process holds, and the most that it may: its control group's, or the machine's.
pub fn memory() -> Option<(u64, u64)> {
    let field = |text: &str, name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_ascii_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1_024)
    };
    let used = field(&std::fs::read_to_string("/proc/self/status").ok()?, "VmRSS:")?;
    let machine = field(&std::fs::read_to_string("/proc/meminfo").ok()?, "MemTotal:")?;
    // `max` is no number.
    let group = control_group("memory.max").and_then(|text| text.trim().parse().ok());
    Some((used, machine.min(group.unwrap_or(machine))))
}

/// File descriptors that are open, and the most that may be.
pub fn files() -> Option<(u64, u64)> {
    let open = std::fs::read_dir("/proc/self/fd").ok()?.count() as u64;
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let most = line.split_ascii_whitespace().next()?;
    Some((open, most.parse().unwrap_or(u64::MAX)))
}

/// What the fastest of the machine's links carries, where one says. Virtual ones often say -1.
pub fn link_speed() -> Option<Bitrate> {
    let links = std::fs::read_dir("/sys/class/net").ok()?.flatten();
    let speed = |link: std::fs::DirEntry| {
        let megabits = std::fs::read_to_string(link.path().join("speed")).ok()?;
        megabits.trim().parse::<u64>().ok().filter(|megabits| *megabits > 0)
    };
    links.filter_map(speed).max().map(Bitrate::mbps)
}

/// The kernel's number of a socket, by which `/proc/net` names it.
#[cfg(target_os = "linux")]
pub fn socket_number(socket: &std::net::UdpSocket) -> Option<u64> {
    use std::os::fd::AsRawFd;
    let link = std::fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).ok()?;
    link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// The kernel's number of a socket, by which `/proc/net` names it.
#[cfg(not(target_os = "linux"))]
pub fn socket_number(_: &std::net::UdpSocket) -> Option<u64> {
    None
}

/// Datagrams that the kernel dropped because each socket's buffer was full; `None` of a socket that is not there.
/// quinn-udp does not pass on the ancillary message that tells the same.
pub fn socket_drops(sockets: &[u64]) -> Option<Vec<Option<u64>>> {
    let tables: Vec<String> = ["udp", "udp6"]
        .iter()
        .filter_map(|name| std::fs::read_to_string(format!("/proc/self/net/{name}")).ok())
        .collect();
    let drops = |socket: &u64| tables.iter().find_map(|table| drops_of(table, *socket));
    (!tables.is_empty()).then(|| sockets.iter().map(drops).collect())
}

/// A file of the process' control group: v2, then v1's CPU controller. In a container the group's own path may be
/// out of sight, and its files are at the root.
fn control_group(file: &str) -> Option<String> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let folders =
        groups.lines().filter_map(folder_of).flat_map(|(root, path)| [format!("{root}{path}"), root]);
    folders.into_iter().find_map(|folder| std::fs::read_to_string(format!("{folder}/{file}")).ok())
}

/// Where a line of `/proc/self/cgroup` leads: the hierarchy's root, and the group's path in it.
fn folder_of(line: &str) -> Option<(String, &str)> {
    let mut parts = line.splitn(3, ':');
    let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    match number {
        "0" => Some(("/sys/fs/cgroup".to_owned(), path)),
        _ => {
            let cpu = controllers.split(',').any(|controller| controller == "cpu");
            cpu.then(|| (format!("/sys/fs/cgroup/{controllers}"), path))
        }
    }
}

/// `cpu.max`: microseconds of CPU in so many microseconds, or `max`.
fn quota_v2(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period) = (quota.parse::<f64>().ok()?, period.parse::<f64>().ok()?);
    (period > 0.0).then_some(quota / period)
}

/// `cpu.stat`: microseconds in v2, nanoseconds in v1.
fn throttled(text: &str) -> Option<Duration> {
    let number = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    let v2 = number("throttled_usec ").map(Duration::from_micros);
    v2.or_else(|| number("throttled_time ").map(Duration::from_nanos))
}

fn some_total(text: &str) -> Option<Duration> {
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let total = some.split_ascii_whitespace().find_map(|word| word.strip_prefix("total="))?;
    total.parse().ok().map(Duration::from_micros)
}

/// The last column of the line whose tenth is the socket's number.
fn drops_of(table: &str, socket: u64) -> Option<u64> {
    let number = socket.to_string();
    let line = table.lines().skip(1).find(|line| line.split_ascii_whitespace().nth(9) == Some(&number))?;
    line.split_ascii_whitespace().nth(12)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_groups_of_both_versions_are_read() {
        assert_eq!(folder_of("0::/user.slice/a"), Some(("/sys/fs/cgroup".to_owned(), "/user.slice/a")));
        let v1 = folder_of("4:cpu,cpuacct:/docker/1f");
        assert_eq!(v1, Some(("/sys/fs/cgroup/cpu,cpuacct".to_owned(), "/docker/1f")));
        assert_eq!(folder_of("5:cpuset:/"), None);
        assert_eq!(quota_v2("150000 100000\n"), Some(1.5));
        assert_eq!(quota_v2("max 100000\n"), None);
        let v2 = "usage_usec 5\nnr_throttled 3\nthrottled_usec 1500\n";
        assert_eq!(throttled(v2), Some(Duration::from_micros(1_500)));
        let v1 = "nr_periods 9\nnr_throttled 3\nthrottled_time 1500\n";
        assert_eq!(throttled(v1), Some(Duration::from_nanos(1_500)));
        assert_eq!(throttled("usage_usec 5\n"), None);
    }

    #[test]
    fn pressure_is_what_some_waited() {
        let text =
            "some avg10=0.00 avg60=0.12 avg300=0.05 total=123456\nfull avg10=0.00 avg60=0.00 total=9\n";
        assert_eq!(some_total(text), Some(Duration::from_micros(123_456)));
        assert_eq!(some_total("full total=9"), None);
    }

    #[test]
    fn a_socket_is_found_by_its_number() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
            \x20 98: 0100007F:0D96 00000000:0000 07 00000000:00000000 00:00000000 00000000  1000        0 34567 2 0000000000000000 42\n";
        assert_eq!(drops_of(table, 34_567), Some(42));
        assert_eq!(drops_of(table, 3_456), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_buffer_shows() {
        let bind = || std::net::UdpSocket::bind("127.0.0.1:0").expect("a port is free");
        let (full, sender) = (bind(), bind());
        let number = socket_number(&full).expect("it has a number");
        assert_eq!(socket_drops(&[number, 1]), Some(vec![Some(0), None]));
        let target = full.local_addr().expect("it is bound");
        for _ in 0..20_000 {
            sender.send_to(&[0; 1_000], target).expect("the sender never waits");
        }
        let drops = socket_drops(&[number]).expect("it tells").remove(0);
        assert!(drops.is_some_and(|drops| drops > 0), "{drops:?}");
    }
}

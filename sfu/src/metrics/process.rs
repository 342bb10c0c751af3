//! The process under the names that every Prometheus client uses, as the kernel tells when a scrape comes.
//!
//! `prometheus-client` has none of its own, and what other crates offer registers with another registry.

use super::snapshot::{MetricFamily, MetricKind, MetricSample, MetricValue};

/// What this system tells; on others than Linux, nothing.
pub fn families() -> Vec<MetricFamily> {
    let read = FAMILIES.iter().map(|family| {
        let value = (family.read)();
        let samples = value.map(|value| MetricSample { labels: vec![], value }).into_iter().collect();
        MetricFamily {
            name: family.name.into(),
            kind: family.kind,
            unit: family.unit.map(Into::into),
            help: family.help.into(),
            samples,
        }
    });
    read.filter(|family| !family.samples.is_empty()).collect()
}

struct Family {
    name: &'static str,
    kind: MetricKind,
    unit: Option<&'static str>,
    read: fn() -> Option<MetricValue>,
    help: &'static str,
}

const FAMILIES: &[Family] = &[
    Family {
        name: "process_cpu_seconds_total",
        kind: MetricKind::Counter,
        unit: Some("seconds"),
        read: || crate::shell::probes::process_cpu().map(|used| MetricValue::Number(used.as_secs_f64())),
        help: "CPU time that the process has used.",
    },
    Family {
        name: "process_resident_memory_bytes",
        kind: MetricKind::Gauge,
        unit: Some("bytes"),
        read: || status("VmRSS:").map(|kib| MetricValue::Count(kib * 1_024)),
        help: "Memory of the process that is in RAM.",
    },
    Family {
        name: "process_open_fds",
        kind: MetricKind::Gauge,
        unit: None,
        read: || open_files().map(MetricValue::Count),
        help: "File descriptors that are open.",
    },
    Family {
        name: "process_max_fds",
        kind: MetricKind::Gauge,
        unit: None,
        read: || most_files(&read("/proc/self/limits")?).map(MetricValue::Count),
        help: "File descriptors that may be open.",
    },
    Family {
        name: "process_threads",
        kind: MetricKind::Gauge,
        unit: None,
        read: || status("Threads:").map(MetricValue::Count),
        help: "Threads of the process.",
    },
    Family {
        name: "process_start_time_seconds",
        kind: MetricKind::Gauge,
        unit: Some("seconds"),
        read: || {
            let began = started(&read("/proc/stat")?, &read("/proc/self/stat")?);
            began.map(MetricValue::Number)
        },
        help: "When the process began, since 1970.",
    },
];

fn read(path: &str) -> Option<String> {
    if cfg!(target_os = "linux") { std::fs::read_to_string(path).ok() } else { None }
}

fn status(name: &str) -> Option<u64> {
    number_after(&read("/proc/self/status")?, name)
}

fn number_after(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

fn open_files() -> Option<u64> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    let entries = std::fs::read_dir("/proc/self/fd").ok()?.count() as u64;
    // One of them is the folder's own, open while we count.
    entries.checked_sub(1)
}

/// The soft limit: `Max open files  1024  524288  files`.
fn most_files(limits: &str) -> Option<u64> {
    number_after(limits, "Max open files")
}

/// From when the machine booted, and how long after it this process began: field 22, in ticks. The second field holds the
/// process' name, which may hold anything, `)` included.
fn started(machine: &str, process: &str) -> Option<f64> {
    let booted = number_after(machine, "btime")?;
    let (_, fields) = process.rsplit_once(')')?;
    let ticks: u64 = fields.split_ascii_whitespace().nth(19)?.parse().ok()?;
    Some(booted as f64 + ticks as f64 / TICKS_PER_SECOND)
}

/// What Linux counts in towards programs (`USER_HZ`), whatever its own clock does.
const TICKS_PER_SECOND: f64 = 100.0;

/// Rows of METRICS.md's table.
#[cfg(test)]
pub fn document() -> String {
    let row = |family: &Family| {
        let kind = match family.kind {
            MetricKind::Counter => "counter",
            _ => "gauge",
        };
        format!("| `{}` | {kind} |  | {} |\n", family.name, family.help)
    };
    FAMILIES.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_texts_are_read() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
             Max processes             7                    8                    processes \n\
             Max open files            1024                 524288               files     \n";
        assert_eq!(most_files(limits), Some(1_024));
        assert_eq!(
            most_files("Max open files            unlimited            unlimited            files"),
            None
        );
        let stat = "42 (a) b) S 1 42 42 0 -1 4194560 1 0 0 0 3 4 0 0 20 0 7 0 250 9 9";
        assert_eq!(started("cpu 1 2\nbtime 1700000000\n", stat), Some(1_700_000_002.5));
        assert_eq!(started("cpu 1 2\n", stat), None);
        assert_eq!(started("btime 1\n", "42 (a"), None);
        assert_eq!(number_after("VmRSS:\t   5120 kB\n", "VmRSS:"), Some(5_120));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_told() {
        let told = families();
        assert_eq!(told.len(), FAMILIES.len());
        let value = |name: &str| {
            let family = told.iter().find(|family| family.name == name).expect("it is told");
            match family.samples[0].value {
                MetricValue::Count(count) => count as f64,
                MetricValue::Number(number) => number,
                MetricValue::Histogram { .. } => panic!("{name} is no histogram"),
            }
        };
        assert!(value("process_resident_memory_bytes") > 1e6);
        assert!(value("process_open_fds") >= 3.0 && value("process_open_fds") <= value("process_max_fds"));
        assert!(value("process_threads") >= 1.0);
        assert!(value("process_cpu_seconds_total") > 0.0);
        // Of this century, at least.
        assert!(value("process_start_time_seconds") > 1.6e9);
        let before = value("process_open_fds");
        let held: Vec<_> =
            (0..200).map(|_| std::fs::File::open("/proc/self/status").expect("it opens")).collect();
        let Some(now) = open_files() else { panic!("it told before") };
        // Other tests open and close theirs.
        assert!(now as f64 >= before + 100.0, "{now} after {before}");
        drop(held);
    }
}

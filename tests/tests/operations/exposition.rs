//! A real scrape against METRICS.md and its own conventions.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::process::{Command, Stdio};

use sluicegate_tests::repository::read;

use super::running::{NEEDLE, scraped};
use super::scrape::sample;

/// Every family that METRICS.md lists, with its type.
pub fn catalogue() -> BTreeMap<String, String> {
    let document = read("METRICS.md");
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `"));
    let cells = rows.filter_map(|row| {
        let (name, rest) = row.split_once("` | ")?;
        Some((name.to_owned(), rest.split(' ').next()?.to_owned()))
    });
    let catalogue: BTreeMap<String, String> = cells.collect();
    assert!(catalogue.len() > 60, "METRICS.md is where it was");
    catalogue
}

/// The family that a sample belongs to.
pub fn family_of<'a>(catalogue: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
    let found = |name: &str, histogram: bool| {
        let (family, kind) = catalogue.get_key_value(name)?;
        ((kind == "histogram") == histogram).then_some(family.as_str())
    };
    let of_histogram =
        ["_bucket", "_count", "_sum"].into_iter().filter_map(|suffix| name.strip_suffix(suffix));
    found(name, false).or_else(|| of_histogram.into_iter().find_map(|name| found(name, true)))
}

/// What is wrong with a scrape's samples.
fn faults(catalogue: &BTreeMap<String, String>, text: &str) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut faults = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, labels, value) = sample(line);
        if family_of(catalogue, name).is_none() {
            faults.push(format!("{name} is not in METRICS.md"));
        }
        if !seen.insert((name, labels.clone())) {
            faults.push(format!("{name} {labels:?} comes twice"));
        }
        if !value.is_finite() || value < 0.0 {
            faults.push(format!("{name} is {value}"));
        }
        for (label, value) in labels {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_.+-".contains(c);
            if label != "le" && (value.is_empty() || !value.chars().all(plain)) {
                faults.push(format!("{name} has the label {label}={value:?}"));
            }
        }
    }
    faults
}

#[test]
fn a_scrape_of_the_demo_keeps_the_conventions() {
    let (catalogue, text) = (catalogue(), scraped());
    assert_eq!(faults(&catalogue, text), [""; 0]);
    assert!(text.ends_with("\n# EOF\n"));
    assert!(!text.contains(NEEDLE), "a room, a name or an address");
    let workers = text.lines().filter(|line| line.starts_with("sfu_worker_handles{")).count();
    // What HTTP adds is the host's to say: eight and its codes for each method of an endpoint.
    let lines = || text.lines().filter(|line| !line.starts_with('#'));
    let http = lines().filter(|line| line.starts_with("http_")).count();
    let series = lines().count() - http;
    assert!(workers > 0 && series <= 900 + 14 * workers, "{series} series of {workers} workers");
    let timed = lines().filter(|line| line.starts_with("http_request_duration_seconds_count")).count();
    assert!(timed > 0 && http <= 12 * timed, "{http} series of {timed} methods of endpoints");
}

#[test]
fn what_breaks_the_conventions_is_found() {
    let catalogue = BTreeMap::from([("sfu_rooms".to_owned(), "gauge".to_owned())]);
    for (line, fault) in [
        ("sfu_room 1", "sfu_room is not in METRICS.md"),
        ("sfu_rooms_count 1", "sfu_rooms_count is not in METRICS.md"),
        ("sfu_rooms{room=\"Stand-up\"} 1", "sfu_rooms has the label room=\"Stand-up\""),
        ("sfu_rooms{path=\"/ws/a\"} 1", "sfu_rooms has the label path=\"/ws/a\""),
        ("sfu_rooms NaN", "sfu_rooms is NaN"),
        ("sfu_rooms 1\nsfu_rooms 2", "sfu_rooms [] comes twice"),
    ] {
        assert_eq!(faults(&catalogue, line), [fault], "{line}");
    }
    assert_eq!(faults(&catalogue, "sfu_rooms 1"), [""; 0]);
}

#[test]
fn whatever_is_documented_is_there() {
    let catalogue = catalogue();
    let shown: BTreeSet<&str> = scraped()
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| family_of(&catalogue, sample(line).0))
        .collect();
    let missing: Vec<&str> =
        catalogue.keys().map(String::as_str).filter(|name| !shown.contains(name)).collect();
    let untold: Vec<&&str> = missing.iter().filter(|name| !MAY_BE_UNTOLD.contains(*name)).collect();
    assert!(untold.is_empty(), "not in a scrape of the demo: {untold:?}");
}

/// What a kernel or a container may not tell.
pub const MAY_BE_UNTOLD: [&str; 3] = [
    "sfu_pressure_waiting_seconds_total",
    "sfu_cpu_throttled_seconds_total",
    "sfu_worker_run_delay_seconds_total",
];

#[test]
fn promtool_finds_nothing() {
    let child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        writeln!(std::io::stderr(), "SKIPPED: promtool is not installed (Debian package `prometheus`)")
            .unwrap();
        return;
    };
    let mut stdin = child.stdin.take().expect("stdin is piped");
    stdin.write_all(as_text_0_0_4(scraped()).as_bytes()).expect("promtool reads to the end");
    drop(stdin);
    let output = child.wait_with_output().expect("promtool ends");
    let said = String::from_utf8_lossy(&[output.stderr, output.stdout].concat()).into_owned();
    // What is measured in bits is named so: operators think of links, and promtool only knows base units.
    let known =
        |line: &&str| line.is_empty() || line.ends_with("_bits use base unit \"bytes\" instead of \"bits\"");
    let complaints: Vec<&str> = said.lines().filter(|line| !known(line)).collect();
    assert_eq!(complaints, [""; 0]);
}

/// promtool reads the older text format, where a counter's header carries `_total` and info is a gauge.
fn as_text_0_0_4(openmetrics: &str) -> String {
    let types: BTreeMap<&str, &str> =
        openmetrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let header = |line: &str| {
        let (word, rest) = line.strip_prefix("# ")?.split_once(' ')?;
        let (name, said) = rest.split_once(' ')?;
        let (suffix, kind) = match *types.get(name)? {
            "counter" => ("_total", "counter"),
            "info" => ("_info", "gauge"),
            kind => ("", kind),
        };
        match word {
            "HELP" => Some(format!("# HELP {name}{suffix} {said}\n")),
            "TYPE" => Some(format!("# TYPE {name}{suffix} {kind}\n")),
            _ => None,
        }
    };
    let lines = openmetrics.lines().filter_map(|line| match line.starts_with('#') {
        true => header(line),
        false => Some(format!("{line}\n")),
    });
    lines.collect()
}

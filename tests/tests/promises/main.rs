//! What the README and ARCHITECTURE promise about the repository itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace").to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Names of the packages that `sluicegate` builds with these features.
fn packages(features: &[&str]) -> Vec<String> {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "-p",
            "sluicegate",
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--locked",
            "--format",
            "{p}",
        ])
        .args(features)
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("package names are ASCII");
    text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn the_nine_packages_are_what_the_crate_stands_on() {
    let tree = packages(&["--all-features"]);
    let nine = [
        "webrtc",
        "tokio",
        "bytes",
        "rtc-rtp",
        "rtc-rtcp",
        "rtc-interceptor",
        "prometheus-client",
        "dashmap",
        "parking_lot",
    ];
    for package in nine {
        assert!(tree.iter().any(|name| name == package), "{package} has left the tree");
    }
    for frozen in ["rtp", "rtcp", "interceptor"] {
        assert!(!tree.iter().any(|name| name == frozen), "the frozen {frozen} 0.17 has entered the tree");
    }
}

#[test]
fn the_core_knows_no_runtime_and_no_socket() {
    let tree = packages(&["--no-default-features"]);
    for package in ["tokio", "mio", "socket2", "quinn-udp", "dashmap"] {
        assert!(!tree.iter().any(|name| name == package), "the sans-IO core depends on {package}");
    }
}

#[test]
fn the_clock_is_read_in_one_place() {
    // The one clock; the origin of virtual time in tests; and a test that times a refusal.
    let allowed = ["shell/clock.rs", "testing.rs", "negotiate/tests.rs"];
    let mut sources = Vec::new();
    collect(&root().join("sfu/src"), &mut sources);
    assert!(sources.len() > 40, "the sources are where they were");
    for source in sources {
        let text = fs::read_to_string(&source).expect("sources are text");
        let name = source.to_string_lossy().into_owned();
        if allowed.iter().any(|allowed| name.ends_with(allowed)) {
            continue;
        }
        for reading in ["Instant::now", "SystemTime::now", ".elapsed()"] {
            assert!(!text.contains(reading), "{name} reads a clock: {reading}");
        }
    }
}

#[test]
fn nothing_is_traced_per_packet() {
    // Where packets pass. Spans of a join are made in session/trace; an interceptor of the host's that fails while it is
    // dropped is said in session/feedback.
    let mut sources = Vec::new();
    for folder in ["wire", "media", "congestion", "router", "engine", "session", "counters"] {
        collect(&root().join("sfu/src").join(folder), &mut sources);
    }
    sources.extend(
        ["counters.rs", "shell/socket.rs", "shell/window.rs"].map(|file| root().join("sfu/src").join(file)),
    );
    let elsewhere = ["session/trace.rs", "session/feedback.rs"];
    let hot = sources.iter().filter(|source| !elsewhere.iter().any(|name| source.ends_with(name)));
    let mut looked_at = 0;
    for source in hot {
        let text = fs::read_to_string(source).expect("sources are text");
        assert_eq!(traced(&text), [""; 0], "{}", source.display());
        looked_at += 1;
    }
    assert!(looked_at > 60, "the sources are where they were");
    for wrong in [
        "tracing::trace!(\"packet\");",
        "    debug!(?header, \"in\");",
        "let _entered = span.enter();",
        "let span = info_span!(\"packet\");",
        "#[tracing::instrument]",
        "future.instrument(span)",
        "log::info!(\"packet\")",
        "println!(\"{packet:?}\")",
    ] {
        assert_eq!(traced(wrong), [wrong.trim()], "{wrong}");
    }
}

/// Lines that log, print, or make or enter a span.
fn traced(source: &str) -> Vec<&str> {
    let called = |line: &str| {
        line.match_indices("!(").any(|(end, _)| {
            let name = line[..end].rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '_').next();
            name.is_some_and(|name| MACROS.contains(&name) || name.ends_with("span"))
        })
    };
    let entered = |line: &str| {
        [".enter()", ".entered()", ".in_scope(", "instrument"].iter().any(|word| line.contains(word))
    };
    // A line that is all comment says nothing at run time.
    let code = source.lines().map(str::trim).filter(|line| !line.starts_with("//"));
    code.filter(|line| called(line) || entered(line)).collect()
}

const MACROS: [&str; 10] =
    ["trace", "debug", "info", "warn", "error", "event", "println", "eprintln", "print", "dbg"];

fn collect(folder: &Path, sources: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the folder exists") {
        let path = entry.expect("the folder can be listed").path();
        if path.is_dir() {
            collect(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push(path);
        }
    }
}

#[test]
fn the_readme_shows_the_minimal_host_and_the_two_commands() {
    let readme = read("README.md");
    let block = format!("```rust\n{}```", read("examples/minimal.rs"));
    assert!(readme.contains(&block), "README.md and examples/minimal.rs differ");
    assert!(readme.contains("cargo run --release --example demo"));
    assert!(readme.contains("cargo test --workspace"));
}

#[test]
fn the_minimal_host_is_minimal() {
    let source = read("examples/minimal.rs");
    let body = source.split_once("async fn main()").expect("it has a main").1;
    let lines = body.lines().skip(1).take_while(|line| *line != "}").count();
    assert!(lines <= 20, "main has {lines} lines");
}

#[test]
fn every_metrics_hook_is_listed_and_has_an_example_that_compiles() {
    let architecture = read("ARCHITECTURE.md");
    // (as listed, where its documentation is, a line of its example)
    let hooks = [
        ("Metrics::registry()", "metrics/collector.rs", "sfu.metrics().registry()"),
        ("Metrics::register(&mut registry)", "metrics/collector.rs", "sfu.metrics().register(&mut registry)"),
        ("Metrics::register_many(", "metrics/collector.rs", "Metrics::register_many(["),
        (
            "Metrics::with_signaling`",
            "metrics/signaling/mod.rs",
            "sfu.metrics().with_signaling(signaling.clone())",
        ),
        ("axum::measured`", "metrics/axum.rs", "axum::measured(app, signaling)"),
        ("Metrics::encode_text(", "metrics/collector.rs", "sfu.metrics().encode_text(&mut text)?"),
        ("Metrics::snapshot()", "metrics/snapshot.rs", "sfu.metrics().snapshot()"),
        ("axum::metrics_router", "metrics/axum.rs", "axum::metrics_router(sfu.metrics())"),
        ("axum::registry_router", "metrics/axum.rs", "axum::registry_router(Arc::new(registry))"),
        ("PeerConfig::interceptor", "interceptors.rs", ".interceptor(2_000, Box::new(watch))"),
        ("Peer::next_event", "event.rs", "peer.next_event().await"),
    ];
    for (hook, file, line) in hooks {
        assert!(architecture.contains(&format!("`{hook}")), "ARCHITECTURE.md does not list {hook}");
        let source = read(&format!("sfu/src/{file}"));
        let documented = source.lines().filter(|text| text.trim_start().starts_with("//"));
        let examples = documented.collect::<Vec<_>>().join("\n");
        // What `ignore` marks is not compiled.
        assert!(examples.contains(line) && !examples.contains("```ignore"), "{file} shows no {hook}");
    }
}

#[test]
fn the_layers_point_down() {
    // (folder, what it must not mention): siblings never import each other, nobody reaches upwards.
    let rules: [(&str, &[&str]); 5] = [
        ("wire", &["media", "session", "router", "engine", "shell", "metrics"]),
        ("media", &["session", "router", "engine", "shell", "metrics"]),
        ("session", &["router", "engine", "shell", "metrics"]),
        ("router", &["session", "engine", "shell", "metrics"]),
        ("engine", &["shell", "metrics"]),
    ];
    for (folder, forbidden) in rules {
        let mut sources = Vec::new();
        collect(&root().join("sfu/src").join(folder), &mut sources);
        for source in sources {
            let text = fs::read_to_string(&source).expect("sources are text");
            for upper in forbidden {
                let import = format!("crate::{upper}::");
                assert!(!text.contains(&import), "{} imports {import}", source.display());
            }
        }
    }
}

//! The load tool against the str0m host: what it promises, it does, and it stops by itself.

use std::process::{Command, Output};

use serde_json::Value;

fn load(arguments: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_load"));
    // Cargo has built the host for this test; the tool need not look after that.
    command.env_remove("CARGO").args(arguments.split_whitespace());
    command.output().expect("the tool starts")
}

/// The figures of the one run.
fn figures(arguments: &str) -> Value {
    assert!(std::path::Path::new(env!("CARGO_BIN_EXE_str0m_host")).exists());
    let output = load(&format!("--peer str0m --json {arguments}"));
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    let json: Value = serde_json::from_slice(&output.stdout).expect("it prints JSON");
    assert_eq!(json["servers"][0]["server"], "str0m");
    json["servers"][0]["runs"][0].clone()
}

fn number(figures: &Value, name: &str) -> f64 {
    figures[name].as_f64().unwrap_or_else(|| panic!("no {name} in {figures}"))
}

#[test]
fn every_shape_arrives_whole() {
    for shape in [
        "--subs 3 --check 1",
        "--subs 3 --paced 13ms --gro",
        "--subs 2 --cm",
        "--mesh 3",
        "--rooms 2 --subs 2 --no-twcc",
        "--audio-only --pubs 3 --subs 4",
    ] {
        let figures = figures(&format!("--time 500ms {shape}"));
        assert!(number(&figures, "expected") > 100.0, "{shape}: {figures}");
        assert!(number(&figures, "server_us_per_packet") > 0.0, "{shape}: {figures}");
        for wrong in ["lost", "altered", "unreadable", "repeated"] {
            assert_eq!(number(&figures, wrong), 0.0, "{shape}: {wrong} in {figures}");
        }
    }
}

#[test]
fn what_falls_is_repaired() {
    let figures = figures("--time 1s --subs 5 --loss 5%");
    assert!(number(&figures, "fell") > 20.0, "{figures}");
    assert!(number(&figures, "repaired_percent") >= 95.0, "{figures}");
    assert_eq!((number(&figures, "lost"), number(&figures, "altered")), (0.0, 0.0), "{figures}");
}

#[test]
fn slow_subscribers_do_not_touch_the_others() {
    let figures = figures("--time 2s --subs 4 --slow 1 --bitrate 10mbps");
    assert_eq!((number(&figures, "subscribers"), number(&figures, "lost")), (3.0, 0.0), "{figures}");
    assert!(number(&figures, "slow_lost_percent") > 0.0, "{figures}");
}

#[test]
fn nonsense_is_refused_in_a_sentence() {
    for (arguments, hint) in [
        ("--subs 3 --slow 3", "at least one subscriber"),
        ("--server-cores 100000", "not among those"),
        ("--url http://127.0.0.1:1 --subs 1 --time 1s", "cannot reach http://127.0.0.1:1/whip/load0"),
    ] {
        let output = load(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(hint), "{arguments}: {said}");
    }
}

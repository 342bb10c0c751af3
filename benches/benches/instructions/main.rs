//! How many instructions of the engine's a forwarded packet takes, and other things that happen often: kept in
//! `instructions.toml`.
//!
//! Time differs from run to run and machine to machine; instructions do not. This counts them with callgrind, scene by
//! scene, and fails where one has moved by more than three per cent, up or down: what is won is kept as well.
//!
//! ```sh
//! cargo bench -p sluicegate-benches --bench instructions               # against what is kept
//! cargo bench -p sluicegate-benches --bench instructions -- --long     # the large rooms as well
//! cargo bench -p sluicegate-benches --bench instructions -- --update   # keeps what is counted
//! cargo bench -p sluicegate-benches --bench instructions -- video      # scenes with this in their names
//! ```

mod kept;
mod scenes;

use std::path::Path;
use std::process::{Command, ExitCode};

use kept::Kept;
use scenes::{SCENES, Scene};

/// How far a count may be from what is kept, in per cent.
const TOLERANCE: f64 = 3.0;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    if let Some(name) = args.iter().skip_while(|arg| *arg != "--play").nth(1) {
        let scene = SCENES.iter().find(|scene| scene.name == name).expect("a scene of this name");
        println!("{}", (scene.play)());
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let picked = |scene: &&Scene| {
        wanted.iter().any(|part| scene.name.contains(part.as_str()))
            || wanted.is_empty() && (!scene.long || has("--long"))
    };
    let scenes: Vec<&Scene> = SCENES.iter().filter(picked).collect();
    if !has("--bench") {
        // `cargo test --benches`: that they run at all.
        scenes.iter().filter(|scene| scene.name.ends_with("-10")).for_each(|scene| {
            assert!((scene.play)() > 0, "{}", scene.name);
        });
        return ExitCode::SUCCESS;
    }
    let counts = count(&scenes);
    let mut kept = Kept::read();
    println!("| scene | instructions | kept | | |\n|---|--:|--:|--:|---|");
    let mut moved = Vec::new();
    for (scene, count) in scenes.iter().zip(&counts) {
        let before = kept.counts.get(scene.name).copied();
        let change = before.map(|before| (*count as f64 / before as f64 - 1.0) * 100.0);
        let shown = change.map_or(String::new(), |change| format!("{change:+.1} %"));
        let before = before.map_or("–".to_owned(), |before| before.to_string());
        println!("| {} | {count} | {before} | {shown} | {} |", scene.name, scene.about);
        if change.is_none_or(|change| change.abs() > TOLERANCE) {
            moved.push(scene.name);
        }
        kept.counts.insert(scene.name.to_owned(), *count);
    }
    if has("--update") {
        kept.write();
    } else if !moved.is_empty() {
        eprintln!("more than {TOLERANCE} % from what is kept, or not kept: {}", moved.join(", "));
        eprintln!("{} is of {}; this is {}", kept::FILE, kept.compiler, kept::compiler());
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Two at a time: counts do not mind.
fn count(scenes: &[&Scene]) -> Vec<u64> {
    let (even, odd): (Vec<_>, Vec<_>) = scenes.iter().enumerate().partition(|(index, _)| index % 2 == 0);
    let each = |scenes: Vec<(usize, &&Scene)>| -> Vec<(usize, u64)> {
        scenes.into_iter().map(|(index, scene)| (index, instructions(scene.name))).collect()
    };
    let mut counts = std::thread::scope(|scope| {
        let odd = scope.spawn(|| each(odd));
        let mut counts = each(even);
        counts.extend(odd.join().expect("it counts"));
        counts
    });
    counts.sort_unstable();
    counts.into_iter().map(|(_, count)| count).collect()
}

/// Plays a scene under callgrind, in a process of its own: instructions for each unit.
fn instructions(scene: &str) -> u64 {
    let own = std::env::current_exe().expect("this program is a file");
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("callgrind.{scene}"));
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no", "--toggle-collect=*scenes*counted*"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(own)
        .args(["--play", scene])
        .output()
        .expect("valgrind is installed");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{scene}: {said}");
    let units: u64 = told.trim().parse().expect("a scene says how much it did");
    let report = std::fs::read_to_string(&out).expect("callgrind has written it");
    let total = report.lines().find_map(|line| line.strip_prefix("totals: "));
    let total: u64 = total.and_then(|total| total.trim().parse().ok()).expect("callgrind has counted");
    assert!(total > 0, "{scene}: nothing was counted");
    total / units
}

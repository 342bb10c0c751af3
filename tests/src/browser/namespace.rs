//! A network namespace per test.
//!
//! The test runs itself again inside fresh network and process namespaces. Both go when their first process does, and
//! that one dies with the outer test, however it dies: there is nothing to clean up. Without root we ask for a user
//! namespace too, which some distributions refuse.

use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};

use super::Make;

/// The one address of the namespace that is not loopback. Announce it; browsers gather it as a host candidate.
pub const ADDRESS: &str = "10.77.0.1";

/// What a test body gives: any error fails the test with its text.
pub type Outcome = Result<(), Box<dyn Error>>;

/// A bar on what a clock on the wall says was missed. Browsers that encode and decode in software fill a small machine,
/// and whoever else is at work there takes time from them: such a story is told up to [`TELLINGS`] times, and one
/// telling has to keep the bar. What was measured each time is printed.
#[derive(Debug)]
pub struct Missed(String);

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{MISSED}{}", self.0)
    }
}

impl Error for Missed {}

/// Holds a bar on time. What else a story claims is asserted: it fails at once.
pub fn hold(kept: bool, otherwise: impl FnOnce() -> String) -> Result<(), Missed> {
    if kept { Ok(()) } else { Err(Missed(otherwise())) }
}

/// Runs `body` in a fresh network namespace, within `limit`.
///
/// `test` is the full name of the calling test (`module::function`): the test binary runs itself again with that name
/// alone. Browser tests take turns, across processes too: two at once on a small machine would measure each other.
///
/// Where namespaces or a browser are missing the test says so and passes, unless `SLUICEGATE_BROWSERS=required`.
pub fn in_namespace<F>(test: &str, makes: &[Make], limit: Duration, body: impl FnOnce() -> F)
where
    F: Future<Output = Outcome>,
{
    if is_inside() {
        return run_inside(limit, body());
    }
    if let Some(why) = missing(makes) {
        return skip(test, &why);
    }
    let _turn = take_turn();
    for telling in 1..=TELLINGS {
        let scratch =
            tempfile::Builder::new().prefix("sluicegate-browser-").tempdir().expect("a temporary folder");
        let output = run_again(test, scratch.path(), limit + GRACE);
        if output.contains("test result: ok. 1 passed") {
            return;
        }
        if telling == TELLINGS || !output.contains(MISSED) {
            print_logs(scratch.path());
            panic!("{test} failed in its namespace:\n{}\nits processes' logs are above", complaint(&output));
        }
        // Not `eprintln!`: the test harness would swallow it, and a miss must be seen.
        let lines = output.lines().filter(|line| line.contains(MISSED));
        let _ = writeln!(std::io::stderr(), "AGAIN {test}: {}", lines.collect::<Vec<_>>().join("; "));
    }
}

/// Whether this process already runs in a test's namespace.
pub fn is_inside() -> bool {
    std::env::var_os(SCRATCH).is_some()
}

/// A path in the test's scratch folder that nothing uses yet. The folder goes when the test ends.
pub fn fresh_path(stem: &str, extension: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let scratch = std::env::var_os(SCRATCH).expect("browser tests run inside in_namespace");
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    Path::new(&scratch).join(format!("{stem}-{number}.{extension}"))
}

fn run_inside(limit: Duration, body: impl Future<Output = Outcome>) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a tokio runtime");
    let outcome = runtime.block_on(async { tokio::time::timeout(limit, body).await });
    match outcome {
        Ok(Ok(())) => {}
        Ok(Err(error)) => panic!("{}", with_causes(&*error)),
        Err(_) => panic!("the test took longer than {limit:?}"),
    }
}

fn with_causes(error: &dyn Error) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// What this machine lacks to run the test.
fn missing(makes: &[Make]) -> Option<String> {
    if let Some(make) = makes.iter().find(|make| make.find().is_none()) {
        return Some(format!("{make:?} is not installed"));
    }
    match unshare("true").output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(format!("no namespace: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Some(format!("no namespace: unshare: {error}")),
    }
}

fn skip(test: &str, why: &str) {
    if std::env::var_os("SLUICEGATE_BROWSERS").is_some_and(|wish| wish == "required") {
        panic!("browser tests are required, but {why}");
    }
    // Not `eprintln!`: the test harness would swallow it, and a skip must be seen.
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
}

fn take_turn() -> Flock<File> {
    let path = std::env::temp_dir().join(format!("sluicegate-browsers-{}.lock", nix::unistd::geteuid()));
    let file =
        File::options().create(true).append(true).open(path).expect("a lock file in the temporary folder");
    Flock::lock(file, FlockArg::LockExclusive).expect("a lock on a local file")
}

/// Runs this test binary in a namespace for one test, passes all its output on and returns it.
fn run_again(test: &str, scratch: &Path, limit: Duration) -> String {
    let binary = std::env::current_exe().expect("the path of this test binary");
    let mut child = unshare("\"$@\"; exit $?") // `exit` keeps the shell there as process 1, to reap orphans.
        .arg(binary)
        .args(["--exact", test, "--nocapture", "--include-ignored", "--test-threads=1"])
        .env(SCRATCH, scratch)
        .env("RUST_BACKTRACE", "0") // It would lead through the runtime only, and push what the story says out of sight.
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("unshare worked a moment ago");
    let stdout = pass_on(child.stdout.take().expect("stdout is piped"));
    let stderr = pass_on(child.stderr.take().expect("stderr is piped"));
    let step = Duration::from_millis(20);
    let mut left = limit;
    while matches!(child.try_wait(), Ok(None)) && !left.is_zero() {
        thread::sleep(step);
        left = left.saturating_sub(step);
    }
    let _ = child.kill();
    let _ = child.wait();
    // A panic is told on stderr.
    let errors = stderr.join().expect("the reader does not panic");
    stdout.join().expect("the reader does not panic") + &errors
}

/// What the story printed of itself, and why it failed: said again at the very end, where a cut log still has it.
fn complaint(output: &str) -> String {
    let is_told = |line: &&str| !line.is_empty() && !line.contains("\u{1b}[") && !line.starts_with("note: ");
    let told: Vec<&str> = output.lines().filter(is_told).collect();
    let after = told.len().saturating_sub(25);
    told[after..].join("\n")
}

/// Prints lines as they come, from a thread, so that the test harness captures them, and returns them all.
fn pass_on(stream: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let lines = BufReader::new(stream).lines().map_while(Result::ok);
        lines.fold(String::new(), |all, line| {
            println!("  | {line}");
            all + &line + "\n"
        })
    })
}

/// A shell in fresh namespaces, `then` run after the network is set up. We take `unshare` down, and it its child.
fn unshare(then: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "unshare"]);
    if !nix::unistd::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--net", "--pid", "--fork", "--kill-child=SIGKILL", "--mount-proc"]);
    command.args(["sh", "-c", &format!("{SET_UP} && {{ {then}; }}"), "sh"]);
    command
}

fn print_logs(scratch: &Path) {
    let entries = std::fs::read_dir(scratch).into_iter().flatten().flatten();
    let mut logs: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    logs.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    logs.sort();
    for path in logs {
        let text = std::fs::read(&path).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        // Headless Chromium complains at length of the absent desktop bus and sound card.
        let lines: Vec<&str> =
            text.lines().filter(|line| !NOISE.iter().any(|noise| line.contains(noise))).collect();
        let tail = &lines[lines.len().saturating_sub(LOG_LINES)..];
        println!("--- {} (last {} of {} lines)", path.display(), tail.len(), lines.len());
        tail.iter().for_each(|line| println!("{line}"));
    }
}

/// A veth pair rather than a dummy: kernels lack the dummy module more often. Traffic to one's own address never
/// leaves the host anyway. The default route is there because browsers ask the kernel for the "default" address.
const SET_UP: &str = "ip link set lo up && ip link add sluice0 type veth peer name sluice1 \
    && ip address add 10.77.0.1/24 dev sluice0 && ip link set sluice1 up && ip link set sluice0 up \
    && ip route add default dev sluice0";

/// How often a story may miss a bar on time before it has failed.
const TELLINGS: usize = 3;

const MISSED: &str = "missed: ";

/// Set inside the namespace: the test's scratch folder.
const SCRATCH: &str = "SLUICEGATE_BROWSER_SCRATCH";

/// The inner limit fires first and says what it waited for; this one is for an inner test that hangs.
const GRACE: Duration = Duration::from_secs(10);

const NOISE: [&str; 3] = ["dbus/", "ALSA lib", "alsa_util"];

const LOG_LINES: usize = 60;

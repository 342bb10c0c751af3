//! The examples as child processes on loopback, with ports of the kernel's choosing.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A running example. Dropping it kills it.
pub struct Example {
    child: Child,
    address: String,
}

impl Example {
    /// Builds the examples if need be, starts this one, and waits until it listens.
    pub fn start(name: &str, args: &[&str]) -> io::Result<Example> {
        static BUILT: OnceLock<()> = OnceLock::new();
        BUILT.get_or_init(|| build(&["bot", "demo", "minimal", "mount_axum"]));
        let mut command = Command::new(binary(name));
        // What the machine does beside us must not decide who may join, and nobody is to wait for stragglers.
        command.env("SLUICEGATE_SATURATION", "dry-run").env("SLUICEGATE_DRAIN", "0s");
        let mut child = command.args(args).stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().expect("its output is piped");
        let (found, address) = mpsc::channel();
        // Reads to the end, so that the child never waits for us.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some(address) = line.strip_prefix("listening on http://") {
                    let _ = found.send(address.to_owned());
                }
            }
        });
        match address.recv_timeout(START_LIMIT) {
            Ok(address) => Ok(Example { child, address }),
            Err(_) => {
                let _ = child.kill();
                let status = child.wait()?;
                Err(io::Error::other(format!("{name} did not say where it listens: {status}")))
            }
        }
    }

    /// Where it serves a path: `/metrics`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to leave (SIGTERM) and waits until it has.
    pub fn terminate(self) -> io::Result<ExitStatus> {
        self.ask_to_leave()?;
        self.wait()
    }

    /// Asks it to leave (SIGTERM).
    pub fn ask_to_leave(&self) -> io::Result<()> {
        let pid = Pid::from_raw(self.child.id().try_into().expect("process ids are positive"));
        Ok(kill(pid, Signal::SIGTERM)?)
    }

    /// Waits until it has left.
    pub fn wait(mut self) -> io::Result<ExitStatus> {
        self.child.wait()
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Builds examples as `cargo test --workspace` does, which has then done so already.
pub fn build(names: &[&str]) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let (target, profile) = target();
    let mut command = Command::new(cargo);
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    // The whole workspace, so that features unify as they did for `cargo test` and nothing is built twice.
    command.args(["build", "--quiet", "--workspace", "--profile", &profile]);
    names.iter().for_each(|name| {
        command.args(["--example", name]);
    });
    command.arg("--target-dir").arg(target);
    let status = command.status().expect("cargo runs: it started us");
    assert!(status.success(), "the examples do not build: {status}");
}

/// Where an example lies once built.
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test binary");
    profile_folder(&test).join("examples").join(name)
}

/// The target folder and the profile this test was built for.
fn target() -> (PathBuf, String) {
    let test = std::env::current_exe().expect("the path of this test binary");
    let folder = profile_folder(&test);
    let name = folder.file_name().expect("a profile folder has a name").to_string_lossy();
    let profile = if name == "debug" { "dev".to_owned() } else { name.into_owned() };
    (folder.parent().expect("a profile folder lies in the target folder").to_owned(), profile)
}

/// `target/<profile>` of `target/<profile>/deps/browsers-<hash>`.
fn profile_folder(test: &Path) -> &Path {
    test.ancestors().nth(2).expect("test binaries lie in target/<profile>/deps")
}

const START_LIMIT: Duration = Duration::from_secs(10);

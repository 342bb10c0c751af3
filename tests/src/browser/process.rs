//! A child process and everything it starts.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

use super::{BrowserError, namespace};

/// A process in a group of its own, its output in a log file. Dropping it kills the group.
pub struct Process {
    program: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`, with stdout and stderr in a log of this name in the test's scratch folder.
    pub fn spawn(mut command: Command, name: &str) -> Result<Process, BrowserError> {
        let program = command.get_program().to_string_lossy().into_owned();
        let log = namespace::fresh_path(name, "log");
        let child = File::create(&log)
            .and_then(|out| Ok((out.try_clone()?, out)))
            .and_then(|(out, err)| {
                command.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0).spawn()
            })
            .map_err(|source| BrowserError::Spawn { program: program.clone(), source })?;
        Ok(Process { program, child, log })
    }

    pub fn log(&self) -> &Path {
        &self.log
    }

    pub fn is_running(&mut self) -> bool {
        self.exit_status().is_none()
    }

    /// Asks `ready` again and again until it gives something, the process dies or the limit passes.
    pub async fn wait_until<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut ready: impl AsyncFnMut() -> Option<T>,
    ) -> Result<T, BrowserError> {
        let started = Instant::now();
        loop {
            if let Some(value) = ready().await {
                return Ok(value);
            }
            if let Some(status) = self.exit_status() {
                return Err(BrowserError::Exited { program: self.program.clone(), status });
            }
            if started.elapsed() >= limit {
                return Err(BrowserError::Timeout { what: format!("{}: {what}", self.program), limit });
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// SIGSTOP to the whole group.
    pub fn freeze(&self) {
        let _ = killpg(self.pid(), Signal::SIGSTOP);
    }

    /// SIGKILL to the whole group.
    pub fn kill(self) {
        // Drop does it.
    }

    /// SIGTERM to the process alone.
    pub fn ask_to_leave(&self) {
        let _ = kill(self.pid(), Signal::SIGTERM);
    }

    /// The same, and its exit status if it leaves within the limit.
    pub fn terminate(&mut self, limit: Duration) -> Option<ExitStatus> {
        self.ask_to_leave();
        let step = Duration::from_millis(10);
        for _ in 0..limit.as_millis() / step.as_millis() {
            if let Some(status) = self.exit_status() {
                return Some(status);
            }
            std::thread::sleep(step);
        }
        None
    }

    fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The group outlives its leader while any member lives, and its id is not reused before.
        let _ = killpg(self.pid(), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

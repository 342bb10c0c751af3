//! The server under load: a child of ours, or somebody else's at an address.

use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::args::{Peer, ServerArgs};
use crate::cores::{self, Cores};

/// A server that answers.
pub struct Server {
    /// How tables call it.
    pub name: String,
    /// Its process, where we know it.
    pub pid: Option<u32>,
    base: String,
    whip: String,
    whep: String,
    child: Option<Child>,
}

/// What to load.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// A server of this workspace.
    Ours(Peer),
    /// The one at `--url`.
    Theirs,
}

impl Server {
    /// Starts a server on its cores, or takes the one at the address. `Err` is a sentence for the user.
    pub fn start(target: Target, args: &ServerArgs, cores: &Cores) -> Result<Server, String> {
        let (whip, whep) = (args.whip.clone(), args.whep.clone());
        match target {
            Target::Theirs => {
                let base = args.url.clone().expect("a target at an address comes with one");
                Ok(Server { name: base.clone(), pid: args.pid, base, whip, whep, child: None })
            }
            Target::Ours(peer) => {
                let (binary, name) = match peer {
                    Peer::Sluicegate => (args.demo.clone().map_or_else(|| built(&DEMO), Ok)?, "sluicegate"),
                    Peer::Str0m => (built(&STR0M_HOST)?, "str0m"),
                };
                let mut command = Command::new(&binary);
                // Whoever is measured takes all there is. By the environment: older builds do not know the option.
                command.env("SLUICEGATE_SATURATION", "dry-run").env("SLUICEGATE_DRAIN", "0s");
                command.args(["--http", ANY_PORT, "--media", ANY_PORT]);
                if peer == Peer::Sluicegate {
                    command.args(["--announce", "127.0.0.1", "--workers", &args.workers.to_string()]);
                }
                cores::move_to(&cores.server).map_err(|error| format!("cannot pin the server: {error}"))?;
                let child = spawn(command);
                cores::move_to(&cores.client).map_err(|error| format!("cannot pin the clients: {error}"))?;
                let (child, address) =
                    child.map_err(|error| format!("{} does not start: {error}", binary.display()))?;
                let (pid, base) = (Some(child.id()), format!("http://{address}"));
                Ok(Server { name: name.to_owned(), pid, base, whip, whep, child: Some(child) })
            }
        }
    }

    /// Where to publish under a name.
    pub fn whip(&self, room: &str, name: &str) -> String {
        self.address(&self.whip, room, name)
    }

    /// Where to watch everybody but the one of this name.
    pub fn whep(&self, room: &str, name: &str) -> String {
        self.address(&self.whep, room, name)
    }

    fn address(&self, path: &str, room: &str, name: &str) -> String {
        let slash = if path.starts_with('/') { "" } else { "/" };
        format!("{}{slash}{}", self.base, path.replace("{room}", room).replace("{name}", name))
    }

    /// Whether clients should say goodbye: who is about to be ended need not hear it.
    pub fn outlives_us(&self) -> bool {
        self.child.is_none()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Waits until it says where it listens.
fn spawn(mut command: Command) -> io::Result<(Child, SocketAddr)> {
    command.stdout(Stdio::piped()).env("RUST_LOG", "warn");
    let mut child = command.spawn()?;
    let stdout = child.stdout.take().expect("its output is piped");
    let (found, address) = mpsc::channel();
    // Reads to the end, so that the child never waits for us.
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if let Some(address) = line.strip_prefix("listening on http://") {
                let _ = found.send(address.parse());
            }
        }
    });
    match address.recv_timeout(START_LIMIT) {
        Ok(Ok(address)) => Ok((child, address)),
        _ => {
            let _ = child.kill();
            let status = child.wait()?;
            Err(io::Error::other(format!("it did not say where it listens ({status})")))
        }
    }
}

/// Something cargo builds.
struct Artefact {
    name: &'static str,
    /// Under `target/<profile>`.
    folder: &'static str,
    cargo: &'static [&'static str],
}

/// Beside this program. Under `cargo run` it is brought up to date; a bare binary builds only what is missing.
fn built(artefact: &Artefact) -> Result<PathBuf, String> {
    let own =
        std::env::current_exe().map_err(|error| format!("cannot tell where this program lies: {error}"))?;
    let profile_folder = own.parent().expect("a program lies in a folder");
    let path = profile_folder.join(artefact.folder).join(artefact.name);
    let cargo = std::env::var_os("CARGO");
    if cargo.is_none() && path.exists() {
        return Ok(path);
    }
    let unlikely = || format!("{} is missing; build it, or name another with --demo", path.display());
    let (target, profile) = cargo_names(profile_folder).ok_or_else(unlikely)?;
    let mut command = Command::new(cargo.unwrap_or_else(|| "cargo".into()));
    // What our own `cargo run` was told about us is not for others.
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(["build", "--quiet", "--profile", profile]);
    command.args(artefact.cargo).arg("--target-dir").arg(target);
    match command.status() {
        Ok(status) if status.success() && path.exists() => Ok(path),
        Ok(_) => Err(format!("{} does not build", artefact.name)),
        Err(error) => Err(format!("{}; cargo does not run: {error}", unlikely())),
    }
}

/// The target folder and the profile's name.
fn cargo_names(profile_folder: &Path) -> Option<(&Path, &str)> {
    let name = profile_folder.file_name()?.to_str()?;
    Some((profile_folder.parent()?, if name == "debug" { "dev" } else { name }))
}

const DEMO: Artefact =
    Artefact { name: "demo", folder: "examples", cargo: &["-p", "sluicegate-examples", "--example", "demo"] };
const STR0M_HOST: Artefact =
    Artefact { name: "str0m_host", folder: "", cargo: &["-p", "sluicegate-benches", "--bin", "str0m_host"] };
const ANY_PORT: &str = "127.0.0.1:0";
const START_LIMIT: Duration = Duration::from_secs(10);

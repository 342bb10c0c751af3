//! Which core is whose.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The cores of server and clients. Nobody is pinned where there is one core only.
#[derive(Clone, Debug)]
pub struct Cores {
    /// The server's.
    pub server: Vec<usize>,
    /// The clients', all of whom share a thread.
    pub client: Vec<usize>,
}

impl Cores {
    /// As asked, or the first and the second of those that we may use.
    ///
    /// `Err` is a sentence for the user.
    pub fn choose(server: &[usize], client: Option<usize>) -> Result<Cores, String> {
        let allowed =
            sched_getaffinity(None).map_err(|error| format!("cannot list this machine's cores: {error}"))?;
        let ours: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect();
        if let Some(core) = server.iter().chain(&client).find(|core| !ours.contains(core)) {
            return Err(format!("core {core} is not among those that this process may use: {ours:?}"));
        }
        if client.is_some_and(|client| server.contains(&client)) {
            return Err("server and clients cannot share a core: they would be measured together".to_owned());
        }
        let server = match (server, client) {
            ([], client) => ours.iter().copied().find(|core| Some(*core) != client).into_iter().collect(),
            (server, _) => server.to_vec(),
        };
        let client = client.or_else(|| ours.iter().copied().find(|core| !server.contains(core)));
        match client {
            Some(client) => Ok(Cores { server, client: vec![client] }),
            None => {
                eprintln!("warning: one core only: server and clients share it, and the figures show it");
                Ok(Cores { server: ours.clone(), client: ours })
            }
        }
    }
}

/// Moves this thread, and with it what it starts from now on, to these cores.
pub fn move_to(cores: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    cores.iter().for_each(|core| set.set(*core));
    Ok(sched_setaffinity(None, &set)?)
}

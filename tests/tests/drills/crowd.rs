//! One room that everybody enters while nothing is said, and in which much is said then: its worker has all of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use sluicegate_benches::client::{Manner, Shape};
use sluicegate_benches::secure::Identity;
use sluicegate_benches::{Join, LoadClient, Swarm, clock};

/// On a thread of its own until dropped.
pub struct Crowd {
    bps: Arc<AtomicU32>,
    ends: Arc<AtomicBool>,
    running: Option<JoinHandle<()>>,
}

impl Crowd {
    /// One publisher at `whip`, and so many who watch at `whep`; all of them are connected.
    pub fn enter(whip: String, whep: String, watchers: usize) -> Crowd {
        let (bps, ends) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
        let told = (bps.clone(), ends.clone());
        let (ready, waits) = mpsc::channel();
        let running = std::thread::spawn(move || {
            let mut swarm = seated(&whip, &whep, watchers);
            ready.send(()).unwrap();
            let mut says = 0;
            while !told.1.load(Relaxed) {
                let wanted = told.0.load(Relaxed);
                for client in swarm.clients_mut().filter(|client| client.shape().is_some()) {
                    if wanted > 0 && says == 0 {
                        client.start(clock::now());
                    }
                    if wanted != says {
                        client.set_shape(Shape { video_bps: wanted, ..Shape::default() });
                    }
                }
                says = wanted;
                swarm.run_for(Duration::from_millis(200)).unwrap();
            }
        });
        waits.recv().expect("everybody connects");
        Crowd { bps, ends, running: Some(running) }
    }

    /// The publisher's video, in bits per second, from now on.
    pub fn says(&self, bps: u32) {
        self.bps.store(bps, Relaxed);
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.ends.store(true, Relaxed);
        if let Some(running) = self.running.take()
            && running.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the crowd has ended early");
        }
    }
}

fn seated(whip: &str, whep: &str, watchers: usize) -> Swarm {
    let identity = Identity::generate().unwrap();
    let mut swarm = Swarm::new().unwrap();
    // What does not reach them is not asked for: this is about work, not about losses.
    let manner = Manner { repairs: false, ..Manner::default() };
    let publishes = Join { publish: Some((1, Shape::default())), manner, ..Join::default() };
    swarm.add(LoadClient::join(whip, &identity, publishes).unwrap()).unwrap();
    for _ in 0..watchers {
        let watches = Join { audio: 1, video: 1, manner, ..Join::default() };
        swarm.add(LoadClient::join(whep, &identity, watches).unwrap()).unwrap();
    }
    let connected = |swarm: &Swarm| swarm.clients().all(LoadClient::is_connected);
    assert!(swarm.run_until(Duration::from_secs(20), connected).unwrap(), "everybody connects");
    swarm
}

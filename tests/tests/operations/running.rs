//! A demo under a little load, and what a scrape of it says.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use sluicegate_benches::{clock, http};
use sluicegate_tests::example::Example;
use sluicegate_tests::scrape;

/// The scrape of a demo in which two bots publish and everything has been asked for once.
pub fn scraped() -> &'static str {
    static SCRAPE: OnceLock<String> = OnceLock::new();
    SCRAPE.get_or_init(|| {
        let args = ["--http", "127.0.0.1:0", "--media", "127.0.0.1:0", "--announce", "127.0.0.1"];
        let more = ["--bots", "2", "--bots-room", ROOM, "--admin-token", "an operator"];
        let demo = Example::start("demo", &[&args[..], &more[..]].concat()).unwrap();
        for path in
            ["/", "/healthz", "/readyz", "/debug/rooms", "/ws/needle-room?name=needle-name", "/nowhere"]
        {
            http::get(&demo.url(path)).unwrap();
        }
        http::post(&demo.url("/whip/needle-room?name=needle-name"), "no offer").unwrap();
        http::delete(&demo.url("/whep/needle-room/1")).unwrap();
        let deadline: Instant = clock::now() + PATIENCE;
        loop {
            let text = http::get(&demo.url("/metrics")).unwrap().body;
            if scrape::sum(&text, "sfu_ingress_packets_total", &[("kind", "video")]) > 0 {
                return text;
            }
            assert!(clock::now() < deadline, "the bots publish nothing: {text}");
            std::thread::sleep(Duration::from_millis(50));
        }
    })
}

/// Must not be found in a scrape, as nothing else that was called so.
pub const NEEDLE: &str = "needle";
const ROOM: &str = "needle-bots";
const PATIENCE: Duration = Duration::from_secs(20);

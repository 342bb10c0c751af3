//! The demo behind a relay, and what a lossy while between two people did.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use sluicegate_tests::browser::namespace::{ADDRESS, Outcome};
use sluicegate_tests::browser::{Browser, BrowserError, Make, Page, in_namespace};
use sluicegate_tests::demo::Demo;
use sluicegate_tests::relay::{Client, Conditions, Direction, Loss, Relay};
use sluicegate_tests::scrape;
use tokio::time::sleep;

use crate::calls;
use crate::person::{Camera, Person};

pub struct Network {
    pub relay: Relay,
    pub demo: Demo,
}

/// One person's video on its way to another, while packets were being lost.
pub struct Window {
    /// Video packets sent by the one, and of those lost.
    up: (u64, u64),
    /// Sent to the other, and of those lost.
    down: (u64, u64),
    /// Sequence numbers that the other was never sent.
    holes: u64,
    /// Sequence numbers lost on the way to the other, less the repairs that it received.
    unanswered: u64,
    /// Repair bytes in what the other was sent.
    pub repair_share: f64,
    /// Seconds.
    pub frozen: f64,
    /// Sent, decoded.
    frames: (u64, u64),
    keyframes_wanted: u64,
}

impl Network {
    /// Runs a story in a namespace of its own, with a demo there and a relay before it.
    ///
    /// `SEED_SHIFT` moves the seed, which is told.
    pub fn story(
        test: &str,
        makes: &[Make],
        seed: u64,
        options: &[&str],
        story: impl AsyncFnOnce(&Network) -> Outcome,
    ) {
        Demo::build();
        in_namespace(test, makes, LIMIT, async || {
            let shift = std::env::var("SEED_SHIFT").ok().and_then(|shift| shift.parse::<u64>().ok());
            let seed = seed + shift.unwrap_or(0);
            println!("seed {seed}");
            let relay = Relay::start(format!("{ADDRESS}:{RELAY_PORT}").parse()?, Demo::media(), seed)?;
            let address = relay.address().to_string();
            // One worker, one port: a relay stands before one.
            let standing = ["--announce", &address, "--workers", "1"];
            let demo = Demo::start_with(&[&standing[..], options].concat()).await?;
            story(&Network { relay, demo }).await
        });
    }

    /// From now on, for everybody in both directions.
    pub fn set_all(&self, conditions: Conditions) {
        self.relay.set_uplink(conditions);
        self.relay.set_downlink(conditions);
    }

    /// Opens the page and presses the button.
    pub async fn enter(
        &self,
        browser: &Browser,
        name: &str,
        camera: Option<Camera>,
    ) -> Result<Person, BrowserError> {
        // One layer: what is lost of others is nobody's. Without data channels: with them Firefox gives an outage of 13 s
        // up after 11, and its page joins anew.
        self.enter_with(browser, name, camera, "&simulcast=0&channels=0").await
    }

    /// The same, with these settings for the page.
    pub async fn enter_with(
        &self,
        browser: &Browser,
        name: &str,
        camera: Option<Camera>,
        settings: &str,
    ) -> Result<Person, BrowserError> {
        Person::enter(browser, &format!("{}{settings}", self.demo.door(ROOM, name)), camera).await
    }

    /// The page's own camera, in as many layers as the browser likes.
    pub async fn join_in_layers(&self, browser: &Browser, name: &str) -> Result<Page, BrowserError> {
        calls::enter(browser, &self.demo.seat(ROOM, name)).await
    }

    /// The same, and waits for the connection.
    pub async fn join(
        &self,
        browser: &Browser,
        name: &str,
        camera: Option<Camera>,
    ) -> Result<Person, BrowserError> {
        let person = self.enter(browser, name, camera).await?;
        person.is_connected().await?;
        Ok(person)
    }

    /// Alice with this camera, and bob with none, who sees her.
    pub async fn pair(
        &self,
        left: &Browser,
        right: &Browser,
        camera: Camera,
    ) -> Result<(Person, Person), BrowserError> {
        let alice = self.join(left, "alice", Some(camera)).await?;
        let bob = self.join(right, "bob", None).await?;
        bob.sees("alice").await?;
        Ok((alice, bob))
    }

    /// The address that a person sends from, as the relay knows it.
    pub async fn client_of(&self, person: &Person) -> Result<Client, Box<dyn Error>> {
        let address = person.page.stats().await?.local_address().ok_or("no pair is in use")?;
        let client = self.relay.client_at(address);
        Ok(client.ok_or_else(|| format!("the relay knows {:?}, not {address}", self.relay.clients()))?)
    }

    /// How many packets the SFU has asked its publishers for.
    pub async fn asked_for(&self) -> std::io::Result<u64> {
        let labels = [("direction", "out"), ("kind", "video")];
        Ok(scrape::sum(&self.demo.metrics().await?, "sfu_nacked_packets_total", &labels))
    }

    /// How often anybody has been given another layer.
    pub async fn switched(&self) -> std::io::Result<u64> {
        Ok(scrape::sum(&self.demo.metrics().await?, "sfu_layer_switches_total", &[]))
    }

    /// What became of requests and layers, as the SFU counts it.
    pub async fn feedback(&self) -> std::io::Result<String> {
        let wanted = [
            "sfu_rtx",
            "sfu_dropped",
            "sfu_nack",
            "sfu_layer",
            "sfu_keyframe",
            "sfu_pli",
            "sfu_packets_dropped",
        ];
        let text = self.demo.metrics().await?;
        let lines = text.lines().filter(|line| wanted.iter().any(|name| line.starts_with(name)));
        Ok(lines
            .filter(|line| !line.ends_with(" 0") && !line.contains("_bucket"))
            .collect::<Vec<_>>()
            .join("\n"))
    }

    /// Makes these places lossy for a while, and says what came of it two seconds later.
    pub async fn lossy(
        &self,
        (alice, bob): (&Person, &Person),
        places: &[(Client, Direction)],
        lossy: Conditions,
        length: Duration,
    ) -> Result<Window, Box<dyn Error>> {
        let (publisher, watcher) = (self.client_of(alice).await?, self.client_of(bob).await?);
        let before = (alice.page.stats().await?, bob.video_in().await?);
        self.relay.forget();
        places.iter().for_each(|(client, direction)| self.relay.set(*client, *direction, lossy));
        sleep(length).await;
        let clear = Conditions { loss: Loss::None, ..lossy };
        places.iter().for_each(|(client, direction)| self.relay.set(*client, *direction, clear));
        sleep(LAST_REPAIRS).await;
        let after = (alice.page.stats().await?, bob.video_in().await?);

        let up = self.relay.tap(publisher, Direction::Up).stream(alice.video_out().await?.ssrc);
        let down = self.relay.tap(watcher, Direction::Down);
        let media = down.stream(after.1.ssrc);
        let repairs = down.stream(after.1.rtx_ssrc.ok_or("no repair stream")?);
        let repaired = after.1.retransmitted_packets_received - before.1.retransmitted_packets_received;
        Ok(Window {
            up: (up.packets(), up.lost),
            down: (media.packets(), media.lost),
            holes: media.left_out(),
            unanswered: media.distinct_lost().saturating_sub(repaired),
            repair_share: repairs.bytes as f64 / (media.bytes + repairs.bytes) as f64,
            frozen: after.1.total_freezes_duration - before.1.total_freezes_duration,
            frames: (
                after.0.frames_sent() - before.0.frames_sent(),
                after.1.frames_decoded - before.1.frames_decoded,
            ),
            keyframes_wanted: after.1.pli_count - before.1.pli_count,
        })
    }
}

impl Window {
    /// At least 99 % of what was lost came in the end, and so did the frames.
    pub fn assert_repaired(&self) {
        let (lost, missing) = (self.up.1 + self.down.1, self.holes + self.unanswered);
        assert!(lost >= 20, "only {lost} packets were lost");
        assert!(missing * 100 <= lost, "{missing} of {lost} lost packets were not repaired");
        let (sent, decoded) = self.frames;
        assert!(decoded * 100 >= sent * 99, "{decoded} of {sent} frames were decoded");
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Window { up, down, holes, unanswered, repair_share, frozen, frames, keyframes_wanted } = self;
        write!(f, "lost {} of {} up and {} of {} down: {holes} holes, ", up.1, up.0, down.1, down.0)?;
        write!(f, "{unanswered} unanswered, repairs are {:.1} % of bytes down; ", repair_share * 100.0)?;
        write!(f, "{} of {} frames, {frozen:.3} s frozen, {keyframes_wanted} PLIs", frames.1, frames.0)
    }
}

/// Time enough for eight tries.
pub const LAST_REPAIRS: Duration = Duration::from_secs(2);

pub const ROOM: &str = "impaired";

const RELAY_PORT: u16 = 5000;

/// The long forms take minutes.
const LIMIT: Duration = Duration::from_secs(300);

//! Calls over bad networks: a relay stands before the demo's media port, and stock browsers talk through it.
//!
//! What passes on the wire is judged by the relay's taps, what is seen by the frames the page is given. Each test tells
//! its figures and its seed. `SLUICEGATE_LONG=1` makes the long forms, `SEED_SHIFT` moves every seed.

use std::time::Duration;

use sluicegate_tests::browser::namespace::{ADDRESS, Outcome};
use sluicegate_tests::browser::{Browser, BrowserError, Make, Outbound, Page, Stats, in_namespace};
use sluicegate_tests::demo::Demo;
use sluicegate_tests::relay::{Client, Conditions, Direction, Loss, Relay, clear, outage};
use sluicegate_tests::scrape;
use tokio::time::{Instant, sleep};

/// S14: a publisher on a lossy uplink is asked for what was lost, and for little else.
///
/// Losses and holes are the relay's to tell, requests the SFU's. How much was sent again only the publisher knows:
/// Chromium probes with packets it has sent before, on the repair stream, which look like repairs from outside.
#[test]
fn lost_on_the_uplink_is_sent_again_once() {
    story("impaired::lost_on_the_uplink_is_sent_again_once", &[Make::Chromium], 14, &[], async |network| {
        let (left, right) = (Browser::chromium().await?, Browser::chromium().await?);
        let alice = network.join(&left, "alice", Some(Camera::NOISY)).await?;
        let bob = network.join(&right, "bob", None).await?;
        bob.sees("alice").await?;
        alice.raise_bitrate(2_500_000).await?;
        network.relay.set_uplink(far());
        network.relay.set_downlink(far());
        sleep(WARM_UP).await;

        let client = network.client_of(&alice).await?;
        let watcher = network.client_of(&bob).await?;
        let before = alice.video_out().await?;
        let (ssrc, rtx) = (before.ssrc, before.rtx_ssrc.ok_or("no repair stream")?);
        let seen = bob.page.stats().await?;
        let inbound = seen.received("video").next().ok_or("no video")?.ssrc;
        let asked = network.nacked().await?;
        network.relay.forget();
        network.relay.set(client, Direction::Up, Conditions { loss: Loss::Random(0.05), ..far() });
        let wanted = if is_long() { 500 } else { 200 };
        let started = Instant::now();
        while network.relay.tap(client, Direction::Up).stream(ssrc).lost < wanted
            && started.elapsed() < secs(70)
        {
            sleep(Duration::from_millis(250)).await;
        }
        let took = started.elapsed();
        network.relay.set(client, Direction::Up, far());
        sleep(secs(2)).await; // The repairs of the last losses.

        let asked = network.nacked().await? - asked;
        let tap = network.relay.tap(client, Direction::Up);
        let (media, repairs) = (tap.stream(ssrc), tap.stream(rtx));
        let after = alice.video_out().await?;
        let sent = after.retransmitted_packets_sent - before.retransmitted_packets_sent;
        let holes = network.relay.tap(watcher, Direction::Down).stream(inbound).left_out();
        let [asked_each, sent_each, holes_each] =
            [asked, sent, holes].map(|count| count as f64 / media.lost as f64);
        println!(
            "{} of {} packets lost in {took:.1?}; {asked} asked for ({asked_each:.3} per loss), {sent} sent again \
             ({sent_each:.3} per loss), {holes} holes left; on the repair stream {} packets, {} of them padding alone",
            media.lost,
            media.packets(),
            repairs.packets(),
            repairs.padded
        );
        println!("alice: {after:?}\nbob: {}", bob.page.stats().await?);
        assert!(media.lost >= wanted, "only {} packets were lost", media.lost);
        assert!(asked_each <= 1.2, "{asked_each:.3} requests per lost packet");
        assert!(sent_each <= 1.2, "{sent_each:.3} repairs per lost packet");
        assert!(sent <= repairs.packets() - repairs.padded, "more repairs than the wire has seen");
        assert!(holes_each <= 0.01, "{holes} holes of {} lost packets", media.lost);
        Ok(())
    });
}

/// A watcher on a lossy downlink is sent again what it lost, and within the budget.
#[test]
fn lost_on_the_downlink_is_repaired_within_the_budget() {
    story(
        "impaired::lost_on_the_downlink_is_repaired_within_the_budget",
        &[Make::Chromium],
        5,
        &[],
        async |network| {
            let (left, right) = (Browser::chromium().await?, Browser::chromium().await?);
            let alice = network.join(&left, "alice", Some(Camera::LIVELY)).await?;
            let bob = network.join(&right, "bob", None).await?;
            bob.sees("alice").await?;
            network.relay.set_uplink(far());
            network.relay.set_downlink(far());
            sleep(WARM_UP).await;

            let watcher = network.client_of(&bob).await?;
            let losses = [(watcher, Direction::Down)];
            let window = network
                .lossy(&alice, &bob, &losses, 0.05, if is_long() { secs(60) } else { secs(15) })
                .await?;
            window.assert_repaired();
            assert!(window.repair_share <= 0.15, "repairs are {:.3} of what is sent", window.repair_share);
            Ok(())
        },
    );
}

/// S6: both legs lose, both ways.
#[test]
fn three_percent_on_both_legs_freeze_nothing() {
    story(
        "impaired::three_percent_on_both_legs_freeze_nothing",
        &[Make::Chromium],
        6,
        &[],
        async |network| {
            let (left, right) = (Browser::chromium().await?, Browser::chromium().await?);
            let alice = network.join(&left, "alice", Some(Camera::LIVELY)).await?;
            let bob = network.join(&right, "bob", None).await?;
            bob.sees("alice").await?;
            network.relay.set_uplink(far());
            network.relay.set_downlink(far());
            sleep(WARM_UP).await;

            let (publisher, watcher) = (network.client_of(&alice).await?, network.client_of(&bob).await?);
            let losses = [
                (publisher, Direction::Up),
                (publisher, Direction::Down),
                (watcher, Direction::Up),
                (watcher, Direction::Down),
            ];
            let length = if is_long() { secs(60) } else { secs(20) };
            let window = network.lossy(&alice, &bob, &losses, 0.03, length).await?;
            window.assert_repaired();
            let per_minute = window.frozen * 60.0 / length.as_secs_f64();
            assert!(per_minute <= 0.1, "{:.3} s frozen in {length:?}", window.frozen);
            Ok(())
        },
    );
}

#[test]
fn chromium_moves_to_another_address() {
    story("impaired::chromium_moves_to_another_address", &[Make::Chromium], 21, &[], async |network| {
        moves(network, Make::Chromium).await
    });
}

#[test]
fn firefox_moves_to_another_address() {
    story("impaired::firefox_moves_to_another_address", &[Make::Firefox], 22, &[], async |network| {
        moves(network, Make::Firefox).await
    });
}

/// First the watcher comes from elsewhere, then the publisher. Neither notices: a NAT forgot them.
async fn moves(network: &Network, make: Make) -> Outcome {
    let browser = Browser::launch(make).await?;
    let alice = network.join(&browser, "alice", Some(Camera::PLAIN)).await?;
    let bob = network.join(&browser, "bob", None).await?;
    bob.sees("alice").await?;
    bob.watch("alice").await?;
    sleep(WARM_UP).await;

    let mut gaps = Vec::new();
    for (who, person) in [("the watcher", &bob), ("the publisher", &alice)] {
        let client = network.client_of(person).await?;
        let from = bob.now().await?;
        let old = network.relay.upstream(client)?;
        network.relay.rebind(client)?;
        let gap = bob.gap_since(from, secs(40)).await?;
        println!(
            "{who} moves from {old} to {}: {gap:.0} ms without a frame",
            network.relay.upstream(client)?
        );
        gaps.push((who, gap));
        sleep(secs(1)).await;
    }
    assert!(gaps.iter().all(|(_, gap)| *gap <= 1_000.0), "{make:?}: {gaps:?} ms without a frame");
    Ok(())
}

#[test]
fn chromium_restarts_ice() {
    story("impaired::chromium_restarts_ice", &[Make::Chromium], 23, &[], async |network| {
        restarts_ice(network, Make::Chromium).await
    });
}

#[test]
fn firefox_restarts_ice() {
    story("impaired::firefox_restarts_ice", &[Make::Firefox], 24, &[], async |network| {
        restarts_ice(network, Make::Firefox).await
    });
}

/// The page asks for a restart, as it would after its network changed.
async fn restarts_ice(network: &Network, make: Make) -> Outcome {
    let browser = Browser::launch(make).await?;
    let alice = network.join(&browser, "alice", Some(Camera::PLAIN)).await?;
    let bob = network.join(&browser, "bob", None).await?;
    bob.sees("alice").await?;
    bob.watch("alice").await?;
    network.relay.set_uplink(far());
    network.relay.set_downlink(far());
    sleep(WARM_UP).await;

    let mut gaps = Vec::new();
    for (who, person) in [("the watcher", &bob), ("the publisher", &alice)] {
        let ufrag = person.ufrag().await?;
        let from = bob.now().await?;
        person.page.eval::<()>("window.call.pc.restartIce()").await?;
        let renewed = format!("{UFRAG} !== '{ufrag}' && window.call.pc.signalingState === 'stable'");
        person.page.wait_for(&renewed, secs(5)).await?;
        let gap = bob.gap_since(from, secs(15)).await?;
        let address = person.page.stats().await?.local_address();
        println!("{who} restarts ICE, now at {address:?}: {gap:.0} ms without a frame");
        gaps.push((who, gap));
    }
    assert!(gaps.iter().all(|(_, gap)| *gap <= 1_000.0), "{make:?}: {gaps:?} ms without a frame");
    Ok(())
}

/// S17: nothing passes for five seconds.
#[test]
fn video_is_back_soon_after_an_outage() {
    story("impaired::video_is_back_soon_after_an_outage", &[Make::Chromium], 17, &[], async |network| {
        let (left, right) = (Browser::chromium().await?, Browser::chromium().await?);
        let alice = network.join(&left, "alice", Some(Camera::LIVELY)).await?;
        let bob = network.join(&right, "bob", None).await?;
        bob.sees("alice").await?;
        bob.watch("alice").await?;
        network.relay.set_uplink(far());
        network.relay.set_downlink(far());
        sleep(WARM_UP).await;

        let plis = alice.video_out().await?.pli_count;
        network.relay.set_uplink(outage());
        network.relay.set_downlink(outage());
        sleep(secs(5)).await;
        network.relay.set_uplink(far());
        network.relay.set_downlink(far());
        let back = bob.now().await?;
        let wait = bob.next_frame(back, secs(20)).await?;
        sleep(secs(3)).await;
        let plis = alice.video_out().await?.pli_count - plis;
        println!("the first frame comes {wait:.0} ms after the return; {plis} keyframes were asked for");
        assert!(wait <= 2_000.0, "the first frame comes {wait:.0} ms after the return");
        assert!(plis <= 6, "{plis} keyframes were asked for");
        Ok(())
    });
}

/// S1: someone enters late, and everybody is 50 ms away.
#[test]
fn a_late_joiner_from_afar_sees_a_picture_at_once() {
    story(
        "impaired::a_late_joiner_from_afar_sees_a_picture_at_once",
        &[Make::Chromium],
        1,
        &[],
        async |network| {
            let (left, right) = (Browser::chromium().await?, Browser::chromium().await?);
            network.relay.set_uplink(far());
            network.relay.set_downlink(far());
            let alice = network.join(&left, "alice", Some(Camera::LIVELY)).await?;
            sleep(WARM_UP).await;
            let mut waits = Vec::new();
            for n in 0..10 {
                let name = format!("bob{n}");
                let page = network.enter(&right, &name, None).await?;
                let picture: Picture = page.eval(FIRST_PICTURE).await?;
                let Picture { answered_at, connected_at, first_at } = picture;
                println!(
                    "{name}: connected {:.0} ms and picture {:.0} ms after the answer",
                    connected_at - answered_at,
                    first_at - answered_at
                );
                waits.push(first_at - answered_at);
                page.close().await?;
                let gone = format!("{} === null", tile(&name));
                alice.page.wait_for(&gone, secs(3)).await?;
            }
            waits.sort_by(f64::total_cmp);
            println!("in order: {waits:.0?} ms");
            // The fifth and the tenth of ten.
            assert!(waits[4] <= 250.0, "half of the late joiners wait longer than {:.0} ms", waits[4]);
            assert!(waits[9] <= 500.0, "the slowest waits {:.0} ms", waits[9]);
            Ok(())
        },
    );
}

/// S13, with one stream: what a publisher may send is what it sends.
#[test]
fn a_cap_of_500_kbps_is_kept_from_the_first_second() {
    let test = "impaired::a_cap_of_500_kbps_is_kept_from_the_first_second";
    story(test, &[Make::Chromium], 13, &["--publisher-cap", "500kbps"], async |network| {
        let browser = Browser::chromium().await?;
        network.relay.set_uplink(far());
        network.relay.set_downlink(far());
        let alice = network.join(&browser, "alice", Some(Camera::NOISY)).await?;
        let bob = network.join(&browser, "bob", None).await?;
        bob.sees("alice").await?;
        sleep(if is_long() { secs(30) } else { secs(10) }).await;
        let client = network.client_of(&alice).await?;
        let rates = network.relay.tap(client, Direction::Up).rates(secs(1));
        let highest = rates.iter().max().copied().unwrap_or(0);
        println!(
            "kb/s in each second from 1.0 s on, by tenths: {:?}",
            rates.iter().map(|rate| rate / 1_000).collect::<Vec<_>>()
        );
        assert!(rates.len() > 50, "video was sent for a while");
        assert!(highest <= 575_000, "{highest} b/s under a cap of 500 000");
        let lowest = rates[rates.len() / 2..].iter().min().copied().unwrap_or(0);
        assert!(
            lowest >= 250_000,
            "{lowest} b/s: the source does not reach its cap, which then proves nothing"
        );
        Ok(())
    });
}

/// The demo behind a relay.
struct Network {
    relay: Relay,
    demo: Demo,
}

/// Somebody in the room.
struct Person {
    page: Page,
}

#[derive(Clone, Copy)]
struct Camera {
    width: u32,
    height: u32,
    rate: u32,
    /// See `camera.js`.
    grain: u32,
}

impl Camera {
    /// Little to encode.
    const PLAIN: Camera = Camera { width: 640, height: 360, rate: 20, grain: 0 };
    /// Some 60 packets a second.
    const LIVELY: Camera = Camera { width: 480, height: 270, rate: 20, grain: 16 };
    /// Takes all the bitrate there is.
    const NOISY: Camera = Camera { width: 480, height: 270, rate: 20, grain: 4 };

    fn as_json(self) -> String {
        let Camera { width, height, rate, grain } = self;
        format!("{{width:{width},height:{height},rate:{rate},grain:{grain}}}")
    }
}

/// What a lossy while did.
struct Window {
    /// Video packets that the relay lost, on any leg.
    lost: u64,
    /// Of those, how many no repair made good.
    missing: u64,
    /// Repair bytes in what the watcher was sent of video.
    repair_share: f64,
    /// Seconds.
    frozen: f64,
    frames_sent: u64,
    frames_decoded: u64,
}

impl Window {
    fn assert_repaired(&self) {
        let Window { lost, missing, frames_sent, frames_decoded, .. } = self;
        assert!(*lost >= 20, "only {lost} packets were lost");
        assert!(missing * 100 <= *lost, "{missing} of {lost} lost packets were not repaired");
        assert!(frames_decoded * 100 >= frames_sent * 99, "{frames_decoded} of {frames_sent} frames decoded");
    }
}

impl Network {
    /// Opens the page with such a camera, or with none, and joins.
    async fn enter(
        &self,
        browser: &Browser,
        name: &str,
        camera: Option<Camera>,
    ) -> Result<Page, BrowserError> {
        let page = browser.open(&self.demo.door(ROOM, name)).await?;
        let camera = camera.map_or("null".to_owned(), Camera::as_json);
        page.eval::<()>(&CAMERA.replace("(CAMERA)", &format!("({camera})"))).await?;
        page.click("#join").await?;
        Ok(page)
    }

    /// The same, and waits for the connection.
    async fn join(
        &self,
        browser: &Browser,
        name: &str,
        camera: Option<Camera>,
    ) -> Result<Person, BrowserError> {
        let page = self.enter(browser, name, camera).await?;
        page.wait_for("window.call?.pc?.connectionState === 'connected'", CONNECT_LIMIT).await?;
        Ok(Person { page })
    }

    /// The address that a person sends from, as the relay knows it.
    async fn client_of(&self, person: &Person) -> Result<Client, Box<dyn std::error::Error>> {
        let stats = person.page.stats().await?;
        let address = stats.local_address().ok_or("no pair in use")?;
        let client = self.relay.client_at(address);
        Ok(client.ok_or_else(|| format!("the relay knows {:?}, not {address}", self.relay.clients()))?)
    }

    /// How many packets the SFU has asked its publishers for.
    async fn nacked(&self) -> std::io::Result<u64> {
        let labels = [("direction", "out"), ("kind", "video")];
        Ok(scrape::sum(&self.demo.metrics().await?, "sfu_nacked_packets_total", &labels))
    }

    /// Loses a share of what passes there for a while, and says what came of it two seconds later.
    async fn lossy(
        &self,
        alice: &Person,
        bob: &Person,
        places: &[(Client, Direction)],
        share: f64,
        length: Duration,
    ) -> Result<Window, Box<dyn std::error::Error>> {
        let (publisher, watcher) = (self.client_of(alice).await?, self.client_of(bob).await?);
        let before = (alice.page.stats().await?, bob.video_in().await?);
        self.relay.forget();
        let lossy = Conditions { loss: Loss::Random(share), ..far() };
        places.iter().for_each(|(client, direction)| self.relay.set(*client, *direction, lossy));
        sleep(length).await;
        places.iter().for_each(|(client, direction)| self.relay.set(*client, *direction, far()));
        sleep(secs(2)).await;
        let after = (alice.page.stats().await?, bob.video_in().await?);

        let camera = alice.video_out().await?;
        let up = self.relay.tap(publisher, Direction::Up).stream(camera.ssrc);
        let down = self.relay.tap(watcher, Direction::Down);
        let (media, repairs) = (down.stream(after.1.ssrc), down.stream(after.1.rtx_ssrc.unwrap_or(0)));
        let repaired = after.1.retransmitted_packets_received - before.1.retransmitted_packets_received;
        let unanswered = media.distinct_lost().saturating_sub(repaired);
        let window = Window {
            lost: up.lost + media.lost,
            missing: media.left_out() + unanswered,
            repair_share: repairs.bytes as f64 / (media.bytes + repairs.bytes) as f64,
            frozen: after.1.total_freezes_duration - before.1.total_freezes_duration,
            frames_sent: after.0.frames_sent() - before.0.frames_sent(),
            frames_decoded: after.1.frames_decoded - before.1.frames_decoded,
        };
        println!(
            "lost {} of {} up, {} of {} down ({} numbers); {} repairs sent down, {repaired} received; {} holes and {} \
             unanswered; {:.3} of what was sent are repairs; frozen {:.3} s; {} of {} frames; {} keyframes asked for",
            up.lost,
            up.packets(),
            media.lost,
            media.packets(),
            media.distinct_lost(),
            repairs.packets(),
            media.left_out(),
            unanswered,
            window.repair_share,
            window.frozen,
            window.frames_decoded,
            window.frames_sent,
            after.1.pli_count - before.1.pli_count,
        );
        Ok(window)
    }
}

impl Person {
    async fn sees(&self, name: &str) -> Result<(), BrowserError> {
        let picture = format!("{}?.querySelector('video')?.videoWidth > 0", tile(name));
        self.page.wait_for(&picture, CONNECT_LIMIT).await
    }

    /// Notes the time of every frame of `name` that is shown.
    async fn watch(&self, name: &str) -> Result<(), BrowserError> {
        self.page.eval(&WATCH.replace("TILE", &tile(name))).await
    }

    /// The page's clock, in milliseconds.
    async fn now(&self) -> Result<f64, BrowserError> {
        self.page.eval("performance.now()").await
    }

    /// Waits until frames flow again, and says for how long none came at the longest, in milliseconds.
    async fn gap_since(&self, from: f64, limit: Duration) -> Result<f64, BrowserError> {
        // What was under way must be through first.
        sleep(secs(1)).await;
        let flowing = "window.shown.filter((at) => at > performance.now() - 1000).length >= 10";
        self.page.wait_for(flowing, limit).await?;
        let shown: Vec<f64> = self.page.eval("window.shown").await?;
        let before = shown.iter().rev().find(|at| **at <= from).copied().unwrap_or(from);
        let after = shown.into_iter().filter(|at| *at > from);
        let (_, gap) = after.fold((before, 0.0), |(last, gap), at| (at, f64::max(gap, at - last)));
        Ok(gap)
    }

    /// Waits for a frame after `from`, and says how much later it came, in milliseconds.
    async fn next_frame(&self, from: f64, limit: Duration) -> Result<f64, BrowserError> {
        self.page.wait_for(&format!("window.shown.at(-1) > {from}"), limit).await?;
        self.page.eval(&format!("window.shown.find((at) => at > {from}) - {from}")).await
    }

    async fn raise_bitrate(&self, most: u64) -> Result<(), BrowserError> {
        self.page.eval(&RAISE.replace("MOST", &most.to_string())).await
    }

    async fn ufrag(&self) -> Result<String, BrowserError> {
        self.page.eval(UFRAG).await
    }

    async fn video_out(&self) -> Result<Outbound, Box<dyn std::error::Error>> {
        let Stats { outbound, .. } = self.page.stats().await?;
        Ok(outbound.into_iter().find(|stream| stream.kind == "video").ok_or("no video is sent")?)
    }

    async fn video_in(&self) -> Result<sluicegate_tests::browser::Inbound, Box<dyn std::error::Error>> {
        let Stats { inbound, .. } = self.page.stats().await?;
        Ok(inbound.into_iter().find(|stream| stream.kind == "video").ok_or("no video is received")?)
    }
}

/// Runs a story in a namespace of its own, with a demo there and a relay before it.
fn story(
    test: &str,
    makes: &[Make],
    seed: u64,
    options: &[&str],
    body: impl AsyncFnOnce(&Network) -> Outcome,
) {
    Demo::build();
    in_namespace(test, makes, LIMIT, async || {
        let shift = std::env::var("SEED_SHIFT").ok().and_then(|shift| shift.parse::<u64>().ok()).unwrap_or(0);
        let seed = seed + shift;
        println!("seed {seed}");
        let relay = Relay::start(format!("{ADDRESS}:{RELAY_PORT}").parse()?, Demo::media(), seed)?;
        let address = relay.address().to_string();
        // One worker, one port: a relay stands before one.
        let standing = ["--announce", &address, "--workers", "1"];
        let demo = Demo::start_with(&[&standing[..], options].concat()).await?;
        body(&Network { relay, demo }).await
    });
}

/// 50 ms there and back.
fn far() -> Conditions {
    Conditions { delay: Duration::from_millis(25), ..clear() }
}

fn is_long() -> bool {
    std::env::var_os("SLUICEGATE_LONG").is_some_and(|wish| wish == "1")
}

fn tile(name: &str) -> String {
    format!("document.querySelector('.tile[data-peer][data-name=\"{name}\"]')")
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Picture {
    answered_at: f64,
    connected_at: f64,
    first_at: f64,
}

const CAMERA: &str = include_str!("camera.js");

/// The first picture is the earlier of what the element and what the statistics tell: these are renewed every 50 ms.
const FIRST_PICTURE: &str = r"(async () => {
    let connectedAt = null;
    for (;;) {
        const pc = window.call?.pc;
        if (pc?.connectionState === 'connected') connectedAt ??= performance.now();
        const video = document.querySelector('.tile[data-peer]:not(.self) video');
        const report = await pc?.getStats() ?? new Map();
        const decoded = [...report.values()].some(s => s.type === 'inbound-rtp' && s.framesDecoded > 0);
        if (decoded || video?.readyState >= 2) {
            const firstAt = performance.now();
            return { answeredAt: window.answeredAt, connectedAt: connectedAt ?? firstAt, firstAt };
        }
        await new Promise(done => setTimeout(done, 4));
    }
})()";

const WATCH: &str = r"(() => {
    const video = TILE.querySelector('video');
    window.shown = [];
    const note = (now) => { window.shown.push(now); video.requestVideoFrameCallback(note); };
    video.requestVideoFrameCallback(note);
})()";

const RAISE: &str = r"(async () => {
    const parameters = window.call.videoSender.getParameters();
    parameters.encodings[0].maxBitrate = MOST;
    await window.call.videoSender.setParameters(parameters);
})()";

const UFRAG: &str = "window.call.pc.localDescription.sdp.match(/ice-ufrag:(\\S+)/)[1]";

const ROOM: &str = "impaired";

const RELAY_PORT: u16 = 5000;

/// Past the keyframes and the probing of a start.
const WARM_UP: Duration = Duration::from_secs(3);

const CONNECT_LIMIT: Duration = Duration::from_secs(10);

const LIMIT: Duration = Duration::from_secs(150);

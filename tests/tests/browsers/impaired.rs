//! Calls over bad networks: a relay stands before the demo's media port, and stock browsers talk through it.
//!
//! What passes on the wire is judged by the relay's taps, what is seen by the frames the page is given. Each test tells
//! its figures and its seed. `SLUICEGATE_LONG=1` makes the long forms, `SEED_SHIFT` moves every seed.

use std::time::Duration;

use sluicegate_tests::browser::namespace::{Outcome, hold};
use sluicegate_tests::browser::{Browser, Make};
use sluicegate_tests::relay::{Conditions, Direction, Loss, clear, outage};
use tokio::time::{Instant, sleep};

use crate::network::{LAST_REPAIRS, Network};
use crate::person::Camera;

#[test]
fn lost_on_the_uplink_is_sent_again_once() {
    let test = "impaired::lost_on_the_uplink_is_sent_again_once";
    Network::story(test, &[Make::Chromium], 14, &[], lossy_uplink);
}

/// S14: a publisher on a lossy uplink is asked for what was lost, and for little else.
///
/// Losses and holes are the relay's to tell, requests the SFU's. How much was sent again only the publisher knows:
/// Chromium probes with packets it has sent before, on the repair stream, which look like repairs from outside.
async fn lossy_uplink(network: &Network) -> Outcome {
    let (left, right) = (Browser::chromium().await?, Browser::chromium().await?);
    let (alice, bob) = network.pair(&left, &right, Camera::NOISY).await?;
    alice.limit_bitrate(2_500_000).await?;
    network.set_all(far());
    sleep(WARM_UP).await;

    let (publisher, watcher) = (network.client_of(&alice).await?, network.client_of(&bob).await?);
    let (before, seen) = (alice.video_out().await?, bob.video_in().await?);
    let asked = network.asked_for().await?;
    let wanted = 500;
    network.relay.forget();
    network.relay.set(publisher, Direction::Up, Conditions { loss: Loss::Random(0.05), ..far() });
    let started = Instant::now();
    let lost = || network.relay.tap(publisher, Direction::Up).stream(before.ssrc).lost;
    while lost() < wanted && started.elapsed() < secs(80) {
        sleep(Duration::from_millis(250)).await;
    }
    let took = started.elapsed();
    network.relay.set(publisher, Direction::Up, far());
    sleep(LAST_REPAIRS).await;

    let (asked, after) = (network.asked_for().await? - asked, alice.video_out().await?);
    let sent = after.retransmitted_packets_sent - before.retransmitted_packets_sent;
    let tap = network.relay.tap(publisher, Direction::Up);
    let (media, repairs) = (tap.stream(before.ssrc), tap.stream(before.rtx_ssrc.ok_or("no repair stream")?));
    let holes = network.relay.tap(watcher, Direction::Down).stream(seen.ssrc).left_out();
    let [asked_each, sent_each, holes_each] =
        [asked, sent, holes].map(|count| count as f64 / media.lost as f64);
    println!(
        "{} of {} packets lost in {took:.1?}; {asked} asked for ({asked_each:.3} per loss), {sent} sent again \
         ({sent_each:.3} per loss), {holes} holes left; {} packets on the repair stream, {} of them mere padding",
        media.lost,
        media.packets(),
        repairs.packets(),
        repairs.padded
    );
    assert!(media.lost >= wanted, "only {} packets were lost", media.lost);
    assert!(sent <= repairs.packets() - repairs.padded, "more repairs were sent than the wire has seen");
    assert!(holes_each <= 0.01, "{holes} of {} lost packets were not repaired", media.lost);
    // The publisher does not answer what it has just answered: a storm of requests would not show in what it sends. On a
    // machine that is busy elsewhere repairs come late, and are asked for again.
    hold(asked_each <= 1.5, || format!("{asked_each:.3} requests per lost packet"))?;
    hold(sent_each <= 1.2, || format!("{sent_each:.3} repairs per lost packet"))?;
    Ok(())
}

#[test]
fn lost_on_the_downlink_is_repaired_within_the_budget() {
    let test = "impaired::lost_on_the_downlink_is_repaired_within_the_budget";
    Network::story(test, &[Make::Chromium], 5, &[], lossy_downlink);
}

async fn lossy_downlink(network: &Network) -> Outcome {
    let (left, right) = (Browser::chromium().await?, Browser::chromium().await?);
    let (alice, bob) = network.pair(&left, &right, Camera::LIVELY).await?;
    alice.limit_bitrate(1_000_000).await?;
    network.set_all(far());
    sleep(WARM_UP).await;

    let losses = [(network.client_of(&bob).await?, Direction::Down)];
    let lossy = Conditions { loss: Loss::Random(0.05), ..far() };
    let length = if is_long() { secs(60) } else { secs(15) };
    let window = network.lossy((&alice, &bob), &losses, lossy, length).await?;
    println!("{window}");
    window.assert_repaired();
    assert!(window.repair_share <= 0.15, "repairs are {:.3} of what is sent", window.repair_share);
    Ok(())
}

#[test]
fn three_percent_on_both_legs_freeze_nothing() {
    let test = "impaired::three_percent_on_both_legs_freeze_nothing";
    Network::story(test, &[Make::Chromium], 6, &[], async |network| {
        lossy_legs(network, far().delay / 2).await
    });
}

#[test]
#[ignore = "three minutes on an idle machine: .ci/full runs it"]
fn three_percent_on_both_legs_freeze_nothing_from_afar() {
    let test = "impaired::three_percent_on_both_legs_freeze_nothing_from_afar";
    Network::story(test, &[Make::Chromium], 46, &[], async |network| lossy_legs(network, far().delay).await);
}

/// S6: both legs lose, both ways. 50 ms from browser to browser and back, or on each leg.
async fn lossy_legs(network: &Network, delay: Duration) -> Outcome {
    let (left, right) = (Browser::chromium().await?, Browser::chromium().await?);
    let (alice, bob) = network.pair(&left, &right, Camera::LIVELY).await?;
    alice.limit_bitrate(1_000_000).await?;
    let minutes = if is_long() { 3 } else { 1 };
    let distance = Conditions { delay, ..clear() };
    network.set_all(distance);
    sleep(WARM_UP).await;

    let (publisher, watcher) = (network.client_of(&alice).await?, network.client_of(&bob).await?);
    let losses = [
        (publisher, Direction::Up),
        (publisher, Direction::Down),
        (watcher, Direction::Up),
        (watcher, Direction::Down),
    ];
    let lossy = Conditions { loss: Loss::Random(0.03), ..distance };
    let window = network.lossy((&alice, &bob), &losses, lossy, secs(60 * minutes)).await?;
    println!("{window}");
    window.assert_repaired();
    // He sends nothing that could be reported on.
    let (far, known) = (4.0 * delay.as_secs_f64(), bob.page.eval::<f64>(ROUND_TRIP).await?);
    assert!((0.5 * far / 2.0..far).contains(&known), "bob takes {known} s for his round trip");
    // A decoder on a busy machine freezes without any loss: the bar is for the long form, run alone.
    if is_long() {
        assert!(window.frozen <= 0.1 * minutes as f64, "{:.3} s frozen in {minutes} min", window.frozen);
    }
    Ok(())
}

#[test]
fn chromium_moves_to_another_address() {
    let test = "impaired::chromium_moves_to_another_address";
    Network::story(test, &[Make::Chromium], 21, &[], async |network| moves(network, Make::Chromium).await);
}

#[test]
fn firefox_moves_to_another_address() {
    let test = "impaired::firefox_moves_to_another_address";
    Network::story(test, &[Make::Firefox], 22, &[], async |network| moves(network, Make::Firefox).await);
}

/// First alice comes from elsewhere, then bob. Nobody is told: a NAT forgot them. Both see nothing of each other until the
/// page of the one who moved has noticed.
async fn moves(network: &Network, make: Make) -> Outcome {
    let browser = Browser::launch(make).await?;
    let alice = network.join(&browser, "alice", Some(Camera::PLAIN)).await?;
    let bob = network.join(&browser, "bob", Some(Camera::PLAIN)).await?;
    alice.sees("bob").await?;
    bob.sees("alice").await?;
    alice.watch("bob").await?;
    bob.watch("alice").await?;
    network.set_all(far());
    sleep(WARM_UP).await;

    let mut gaps = Vec::new();
    for (name, mover, other) in [("alice", &alice, &bob), ("bob", &bob, &alice)] {
        let client = network.client_of(mover).await?;
        let (from, since) = (mover.now().await?, other.now().await?);
        network.relay.rebind(client)?;
        let sees = mover.gap_since(from, secs(40)).await?;
        let seen = other.gap_since(since, secs(40)).await?;
        println!("{name} moves: {sees:.0} ms without a frame there, {seen:.0} ms without a frame of theirs");
        gaps.extend([sees, seen]);
        sleep(secs(1)).await;
    }
    hold(gaps.iter().all(|gap| *gap <= 1_000.0), || format!("{make:?}: {gaps:.0?} ms without a frame"))?;
    Ok(())
}

#[test]
fn chromium_restarts_ice() {
    let test = "impaired::chromium_restarts_ice";
    Network::story(test, &[Make::Chromium], 23, &[], async |network| restarts(network, Make::Chromium).await);
}

#[test]
fn firefox_restarts_ice() {
    let test = "impaired::firefox_restarts_ice";
    Network::story(test, &[Make::Firefox], 24, &[], async |network| restarts(network, Make::Firefox).await);
}

/// First the watcher, then the publisher, as after a change of network.
async fn restarts(network: &Network, make: Make) -> Outcome {
    let browser = Browser::launch(make).await?;
    let (alice, bob) = network.pair(&browser, &browser, Camera::PLAIN).await?;
    bob.watch("alice").await?;
    network.set_all(far());
    sleep(WARM_UP).await;

    let mut gaps = Vec::new();
    for (who, person) in [("the watcher", &bob), ("the publisher", &alice)] {
        let from = bob.now().await?;
        person.restart_ice().await?;
        let gap = bob.gap_since(from, secs(15)).await?;
        println!("{who} restarts ICE: {gap:.0} ms without a frame");
        gaps.push(gap);
    }
    hold(gaps.iter().all(|gap| *gap <= 1_000.0), || format!("{make:?}: {gaps:.0?} ms without a frame"))?;
    Ok(())
}

#[test]
fn video_is_back_soon_after_an_outage() {
    let test = "impaired::video_is_back_soon_after_an_outage";
    Network::story(test, &[Make::Chromium], 17, &[], goes_out);
}

/// S17: nothing passes for five seconds.
async fn goes_out(network: &Network) -> Outcome {
    let (left, right) = (Browser::chromium().await?, Browser::chromium().await?);
    let (alice, bob) = network.pair(&left, &right, Camera::LIVELY).await?;
    bob.watch("alice").await?;
    network.set_all(far());
    sleep(WARM_UP).await;

    let (publisher, watcher) = (network.client_of(&alice).await?, network.client_of(&bob).await?);
    let wanted = alice.video_out().await?.pli_count;
    network.set_all(outage());
    sleep(secs(5)).await;
    let ssrc = alice.video_out().await?.ssrc;
    let lost = network.relay.tap(publisher, Direction::Up).stream(ssrc).lost;
    let asked = network.asked_for().await?;
    network.relay.forget();
    let back = bob.now().await?;
    network.set_all(far());
    let first = bob.next_frame(back, secs(20)).await? - back;
    let gap = bob.gap_since(back + first, secs(20)).await?;
    sleep(secs(2)).await; // Requests that come late.
    let wanted = alice.video_out().await?.pli_count - wanted;
    let asked = network.asked_for().await? - asked;
    println!(
        "the first frame comes {first:.0} ms after the return, and then none later than {gap:.0} ms after another; \
         {wanted} keyframes were asked for; {lost} packets were lost, {asked} asked for"
    );
    for (who, client, direction) in [("alice", publisher, Direction::Up), ("bob", watcher, Direction::Down)] {
        let rates = network.relay.tap(client, direction).rates(Duration::ZERO);
        println!(
            "{who}'s b/s in each second since the return: {:?}",
            rates.iter().step_by(10).collect::<Vec<_>>()
        );
    }
    assert!(wanted <= 6, "{wanted} keyframes were asked for");
    hold(first <= 2_000.0, || format!("the first frame comes {first:.0} ms after the return"))?;
    hold(first + gap <= 2_000.0, || format!("{gap:.0} ms without a frame after the first"))?;
    Ok(())
}

#[test]
fn firefox_is_back_soon_after_a_longer_outage() {
    let test = "impaired::firefox_is_back_soon_after_a_longer_outage";
    Network::story(test, &[Make::Firefox], 25, &[], async |network| {
        let browser = Browser::firefox().await?;
        let (alice, bob) = network.pair(&browser, &browser, Camera::PLAIN).await?;
        bob.watch("alice").await?;
        network.set_all(far());
        sleep(WARM_UP).await;

        // Longer than the checks of the restart that it begins with: they run out after 6 s, and fail after 11.
        network.set_all(outage());
        sleep(secs(13)).await;
        let back = bob.now().await?;
        network.set_all(far());
        let first = bob.next_frame(back, secs(20)).await? - back;
        println!("the first frame comes {first:.0} ms after the return");
        // In the calls they were in, which is why the frame was seen.
        for person in [&alice, &bob] {
            assert!(person.page.eval::<bool>("window.call.attempt === 0").await?);
        }
        hold(first <= 2_000.0, || format!("the first frame comes {first:.0} ms after the return"))?;
        Ok(())
    });
}

#[test]
#[ignore = "held by a release build on an idle machine, where four round trips are 200 of the 250 ms: .ci/full"]
fn a_late_joiner_from_afar_sees_a_picture_at_once() {
    let test = "impaired::a_late_joiner_from_afar_sees_a_picture_at_once";
    Network::story(test, &[Make::Chromium], 1, &[], late_joiners);
}

/// S1: someone enters late, and everybody is 50 ms away.
async fn late_joiners(network: &Network) -> Outcome {
    let (left, right) = (Browser::chromium().await?, Browser::chromium().await?);
    network.set_all(far());
    let alice = network.join(&left, "alice", Some(Camera::LIVELY)).await?;
    sleep(WARM_UP).await;
    let mut waits = Vec::new();
    for n in 0..10 {
        let name = format!("bob{n}");
        let bob = network.enter(&right, &name, None).await?;
        let seen = bob.first_picture().await?;
        let [connected, first] = [seen.connected_at, seen.first_at].map(|at| at - seen.answered_at);
        println!("{name}: connected {connected:.0} ms and a picture {first:.0} ms after the answer");
        waits.push(first);
        bob.page.close().await?;
        alice.misses(&name).await?;
    }
    waits.sort_by(f64::total_cmp);
    println!("in order: {waits:.0?} ms");
    // Of ten, between the fifth and the sixth, and the last.
    let half = (waits[4] + waits[5]) / 2.0;
    hold(half <= 250.0, || format!("half of them wait for {half:.0} ms or more"))?;
    hold(waits[9] <= 500.0, || format!("one of ten waits for {:.0} ms", waits[9]))?;
    Ok(())
}

#[test]
fn a_cap_of_500_kbps_is_kept_from_the_first_second() {
    let test = "impaired::a_cap_of_500_kbps_is_kept_from_the_first_second";
    Network::story(test, &[Make::Chromium], 13, &["--publisher-cap", "500kbps"], capped);
}

/// S13, with one stream: 115 %, and all that RTP puts on the wire counts.
async fn capped(network: &Network) -> Outcome {
    let browser = Browser::chromium().await?;
    network.set_all(far());
    let (alice, _bob) = network.pair(&browser, &browser, Camera::NOISY).await?;
    sleep(if is_long() { secs(30) } else { secs(10) }).await;

    let publisher = network.client_of(&alice).await?;
    let rates = network.relay.tap(publisher, Direction::Up).rates(secs(1));
    let (early, late) = rates.split_at(rates.len() / 2);
    let [highest, highest_late] = [early, late].map(|half| half.iter().max().copied().unwrap_or(0));
    let lowest_late = late.iter().min().copied().unwrap_or(0);
    println!(
        "at most {highest} b/s in any second of the first half, from the first on; then {lowest_late} to {highest_late}"
    );
    assert!(rates.len() > 50, "video was sent for {} tenths of a second", rates.len());
    assert!(highest.max(highest_late) <= 575_000, "{rates:?} b/s under a cap of 500 000");
    assert!(highest_late >= 350_000, "{rates:?} b/s: a source that asks for so little proves nothing");
    Ok(())
}

/// In seconds, as who receives video has been told; zero if it has not.
const ROUND_TRIP: &str = r"(async () => {
    const report = [...(await window.call.pc.getStats()).values()];
    const told = report.filter(s => s.type === 'remote-outbound-rtp' && s.kind === 'video');
    return Math.max(0, ...told.map(s => s.roundTripTime ?? 0));
})()";

/// 50 ms there and back.
pub fn far() -> Conditions {
    Conditions { delay: Duration::from_millis(25), ..clear() }
}

pub fn is_long() -> bool {
    std::env::var_os("SLUICEGATE_LONG").is_some_and(|wish| wish == "1")
}

pub fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Past the keyframes and the probing of a start.
const WARM_UP: Duration = Duration::from_secs(3);

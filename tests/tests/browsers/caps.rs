//! Caps at run time, as browsers obey them: all that RTP puts on the wire counts.

use std::time::Duration;

use sluicegate_tests::browser::namespace::{Outcome, hold};
use sluicegate_tests::browser::{Browser, Make};
use sluicegate_tests::demo::ADMIN;
use sluicegate_tests::relay::{Client, Direction};
use tokio::time::{Instant, sleep};

use crate::impaired::secs;
use crate::network::{Network, ROOM};
use crate::person::Camera;

#[test]
fn chromium_with_three_layers() {
    told("caps::chromium_with_three_layers", Make::Chromium, Layers::Three);
}

#[test]
#[ignore = "half a minute; one of the four is told each time: .ci/full"]
fn chromium_with_one_stream() {
    told("caps::chromium_with_one_stream", Make::Chromium, Layers::One);
}

#[test]
#[ignore = "half a minute; one of the four is told each time: .ci/full"]
fn firefox_with_one_stream() {
    told("caps::firefox_with_one_stream", Make::Firefox, Layers::One);
}

#[test]
#[ignore = "half a minute; one of the four is told each time: .ci/full"]
fn firefox_with_three_layers() {
    told("caps::firefox_with_three_layers", Make::Firefox, Layers::Three);
}

#[derive(Clone, Copy, PartialEq)]
enum Layers {
    One,
    Three,
}

fn told(test: &str, make: Make, layers: Layers) {
    Network::story(test, &[make], 21, &ADMIN, async |network| capped(network, make, layers).await);
}

/// A noisy camera at full rate, capped by a call of the host's and let go by another.
async fn capped(network: &Network, make: Make, layers: Layers) -> Outcome {
    let browser = match make {
        Make::Chromium => Browser::chromium().await?,
        Make::Firefox => Browser::firefox().await?,
    };
    let (camera, settings, cap, at_most) = match layers {
        Layers::One => (Camera::NOISY, "&simulcast=0", 300_000, 1.15),
        Layers::Three => (Camera::NOISY_AND_LARGE, "", 600_000, 1.10),
    };
    let alice = network.enter_with(&browser, "alice", Some(camera), settings).await?;
    alice.is_connected().await?;
    let bob = network.join(&browser, "bob", None).await?;
    bob.sees("alice").await?;
    let client = network.client_of(&alice).await?;
    let full = settled(network, client).await?;

    let called = elapsed(network, client);
    network.demo.cap(ROOM, Some(&cap.to_string())).await?;
    sleep(secs(8)).await;
    let lifted = elapsed(network, client);
    network.demo.cap(ROOM, None).await?;
    sleep(secs(6)).await;

    // Each second that begins a second after the call or later, until the cap is lifted.
    let mut held = rates(network, client, called + secs(1));
    held.truncate(((lifted - called).as_millis() / 100) as usize - 21);
    let highest = held.iter().copied().fold(0.0, f64::max) / f64::from(cap);
    let free = rates(network, client, lifted);
    let back = free.iter().position(|rate| *rate >= 0.8 * full).map(|at| (at + 10) as f64 / 10.0);
    println!(
        "{:.0} kb/s; capped: at most {highest:.3} of the cap; back to 80 % after {back:?} s",
        full / 1e3
    );
    println!("held: {held:.0?}");
    println!("lifted: {free:.0?}");
    println!("alice: {}", alice.page.stats().await?);
    assert!(full >= 1.5 * f64::from(cap), "{full:.0} b/s: a source that asks for so little proves nothing");
    hold(highest <= at_most, || format!("{highest:.3} of the cap, a second after the call"))?;
    hold(back.is_some_and(|back| back <= 1.5), || format!("back to 80 % after {back:?} s"))?;
    Ok(())
}

/// What the browser sends in a second, once its estimate has grown.
async fn settled(network: &Network, client: Client) -> Result<f64, Box<dyn std::error::Error>> {
    let begun = Instant::now();
    loop {
        sleep(secs(2)).await;
        let rates = rates(network, client, Duration::ZERO);
        let [.., now] = rates[..] else { continue };
        let grows = now > 1.1 * rates[rates.len().saturating_sub(40)];
        let passed = begun.elapsed();
        if passed >= secs(8) && !grows || passed >= secs(20) {
            return Ok(rates.iter().rev().take(30).sum::<f64>() / 30.0);
        }
    }
}

/// Bits per second in each second that begins at a tenth after `from`.
fn rates(network: &Network, client: Client, from: Duration) -> Vec<f64> {
    network.relay.tap(client, Direction::Up).rates(from).into_iter().map(|rate| rate as f64).collect()
}

/// How long the tap has heard RTP, in tenths of a second.
fn elapsed(network: &Network, client: Client) -> Duration {
    let seconds = rates(network, client, Duration::ZERO).len();
    Duration::from_millis(100) * (seconds as u32 + 9)
}

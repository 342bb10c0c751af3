//! A room that bots fill, as a user sees it.

use std::time::Duration;

use sluicegate_tests::browser::namespace::{Outcome, hold};
use sluicegate_tests::browser::{Browser, Make, in_namespace};
use sluicegate_tests::demo::Demo;
use tokio::time::sleep;

#[test]
fn chromium_sees_the_bots() {
    room_of_bots("bots::chromium_sees_the_bots", Make::Chromium);
}

#[test]
fn firefox_sees_the_bots() {
    room_of_bots("bots::firefox_sees_the_bots", Make::Firefox);
}

fn room_of_bots(test: &str, make: Make) {
    Demo::build();
    in_namespace(test, &[make], LIMIT, || looks_in(make));
}

/// Our own encoder's pictures are decoded, and the notes are heard.
async fn looks_in(make: Make) -> Outcome {
    let demo = Demo::start_with(&["--bots", "2"]).await?;
    let browser = Browser::launch(make).await?;
    let page = browser.open(&demo.seat("bots", "ada")).await?;
    for name in ["bot 1", "bot 2"] {
        let tile = format!("document.querySelector('.tile[data-peer][data-name=\"{name}\"] video')");
        page.wait_for(&format!("{tile}?.videoWidth === 320 && {tile}.videoHeight === 180"), PICTURE_LIMIT)
            .await?;
    }

    let before = page.stats().await?;
    sleep(WINDOW).await;
    let after = page.stats().await?;
    println!("{after}");
    let seconds = (after.at - before.at) / 1_000.0;
    let mut seen = 0;
    for stream in after.received("video").filter(|stream| stream.frames_decoded > 0) {
        let earlier = before.received("video").find(|earlier| earlier.mid == stream.mid);
        let decoded = stream.frames_decoded - earlier.map_or(0, |earlier| earlier.frames_decoded);
        let rate = decoded as f64 / seconds;
        println!("mid {:?}: {rate:.1} frames/s", stream.mid);
        hold(rate >= 10.0, || format!("mid {:?}: {rate:.1} frames/s, less than 10", stream.mid))?;
        seen += 1;
    }
    assert_eq!(seen, 2, "two bots are seen");
    assert!(after.audio_energy() > before.audio_energy(), "no note is heard");
    Ok(())
}

/// A clip and a half.
const WINDOW: Duration = Duration::from_millis(4_500);

/// The whole of ICE, DTLS and a first keyframe on a loaded two-core runner.
const PICTURE_LIMIT: Duration = Duration::from_secs(10);

const LIMIT: Duration = Duration::from_secs(60);

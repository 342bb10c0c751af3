//! Simulcast from stock browsers: every layer they send is known, and a viewer gets the best.

use std::time::Duration;

use sluicegate_tests::browser::namespace::{Outcome, hold};
use sluicegate_tests::browser::{Browser, Make, Page, Stats};
use sluicegate_tests::demo::Demo;
use tokio::time::sleep;

use super::calls::{call, join, sees};

#[test]
fn chromium_in_layers() {
    call("simulcast::chromium_in_layers", &[Make::Chromium], async |demo| {
        layered(demo, Make::Chromium).await
    });
}

#[test]
fn firefox_in_layers() {
    let makes = [Make::Chromium, Make::Firefox];
    call("simulcast::firefox_in_layers", &makes, async |demo| layered(demo, Make::Firefox).await);
}

/// Alice sends layers; bob, who sends nothing else than they do, sees the largest that she really sends.
async fn layered(demo: &Demo, make: Make) -> Outcome {
    let (left, right) = (Browser::launch(make).await?, Browser::chromium().await?);
    let alice = join(&left, demo, "alice").await?;
    let bob = join(&right, demo, "bob").await?;
    sees(&bob, "alice").await?;
    // The browser's own estimate decides how many layers it can afford; it grows within seconds.
    let mut seen = Vec::new();
    for _ in 0..20 {
        sleep(Duration::from_secs(1)).await;
        let (largest, layers) = sent(&alice).await?;
        let shown = bob.stats().await?.received("video").filter_map(|stream| stream.frame_width).max();
        println!("alice sends {layers} layers, {largest} wide at most; bob sees {shown:?}");
        seen.push(layers >= 2 && shown == Some(largest));
        if seen.ends_with(&[true; 4]) {
            break;
        }
    }
    hold(seen.ends_with(&[true; 4]), || "bob does not get the largest layer for four seconds".into())?;
    let before = bob.stats().await?;
    sleep(Duration::from_secs(5)).await;
    let after = bob.stats().await?;
    println!("bob: {after}");
    let frames = after.frames_decoded() - before.frames_decoded();
    hold(frames >= 75, || format!("{frames} frames in 5 s"))?;
    let freezes = |stats: &Stats| stats.received("video").map(|stream| stream.freeze_count).sum::<u64>();
    let froze = freezes(&after) - freezes(&before);
    hold(froze == 0, || format!("{froze} freezes"))?;
    Ok(())
}

/// The width of the largest layer that frames go out on, and how many layers there are.
async fn sent(page: &Page) -> Result<(u32, usize), sluicegate_tests::browser::BrowserError> {
    let before = page.stats().await?;
    sleep(Duration::from_millis(500)).await;
    let after = page.stats().await?;
    let flowing = after.outbound.iter().filter(|stream| {
        let then =
            before.outbound.iter().find(|other| (&other.rid, &other.mid) == (&stream.rid, &stream.mid));
        stream.kind == "video" && then.is_some_and(|then| stream.frames_sent > then.frames_sent)
    });
    let widths: Vec<u32> = flowing.filter_map(|stream| stream.frame_width).collect();
    Ok((widths.iter().copied().max().unwrap_or(0), widths.len()))
}

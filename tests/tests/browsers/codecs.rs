//! Every codec a stock browser sends reaches those who take it, and who does not is told.

use std::time::Duration;

use sluicegate_tests::browser::namespace::{Outcome, hold};
use sluicegate_tests::browser::{Browser, BrowserError, Make, Page};
use sluicegate_tests::demo::Demo;
use tokio::time::sleep;

use super::calls::{call, enter, join, sees};

#[test]
fn vp9() {
    call("codecs::vp9", &[Make::Chromium], async |demo| passes(demo, "VP9", "").await);
}

/// Spatial layers in one stream: Chromium's own choice for VP9 with several encodings.
#[test]
fn vp9_in_layers() {
    call("codecs::vp9_in_layers", &[Make::Chromium], async |demo| passes(demo, "VP9", "&simulcast=1").await);
}

#[test]
fn h264() {
    call("codecs::h264", &[Make::Chromium], async |demo| passes(demo, "H264", "").await);
}

#[test]
fn h264_in_layers() {
    call("codecs::h264_in_layers", &[Make::Chromium], async |demo| {
        passes(demo, "H264", "&simulcast=1").await
    });
}

#[test]
fn av1() {
    call("codecs::av1", &[Make::Chromium], async |demo| passes(demo, "AV1", "").await);
}

#[test]
fn vp9_in_spatial_layers() {
    let test = "codecs::vp9_in_spatial_layers";
    call(test, &[Make::Chromium], async |demo| scales(demo, "VP9", "L3T3_KEY").await);
}

#[test]
fn av1_in_spatial_layers() {
    let test = "codecs::av1_in_spatial_layers";
    call(test, &[Make::Chromium], async |demo| scales(demo, "AV1", "L2T2").await);
}

#[test]
fn av1_in_temporal_layers() {
    let test = "codecs::av1_in_temporal_layers";
    call(test, &[Make::Chromium], async |demo| thins(demo, "AV1", "L1T3").await);
}

#[test]
fn vp8_in_temporal_layers() {
    let test = "codecs::vp8_in_temporal_layers";
    call(test, &[Make::Chromium], async |demo| thins(demo, "VP8", "L1T3").await);
}

/// Spatial layers in one stream: bob takes the smallest for a while, and his picture never stops.
async fn scales(demo: &Demo, codec: &str, mode: &str) -> Outcome {
    let (left, right) = (Browser::chromium().await?, Browser::chromium().await?);
    let (alice, bob) = svc(demo, [&left, &right], codec, mode).await?;
    let full = width(&bob).await?;
    limit(&bob, "spatial: 0").await?;
    sleep(Duration::from_secs(2)).await;
    let small = width(&bob).await?;
    let frames = rate(&bob).await?;
    println!("{full} wide, then {small} at {frames} frames/s");
    assert!(small < full, "{full} wide, then {small}");
    hold(frames >= 15, || format!("{frames} frames/s of the small layer"))?;
    limit(&bob, "").await?;
    bob.wait_for(
        &format!("document.querySelector('.tile[data-name=alice] video').videoWidth >= {full}"),
        Duration::from_secs(5),
    )
    .await?;
    let frames = rate(&bob).await?;
    println!("{frames} frames/s of all layers; alice: {}", alice.stats().await?);
    hold(frames >= 15, || format!("{frames} frames/s of all layers"))?;
    Ok(())
}

/// Temporal layers: bob takes the slowest for a while, then all again.
async fn thins(demo: &Demo, codec: &str, mode: &str) -> Outcome {
    let (left, right) = (Browser::chromium().await?, Browser::chromium().await?);
    let (_alice, bob) = svc(demo, [&left, &right], codec, mode).await?;
    let full = rate(&bob).await?;
    limit(&bob, "temporal: 0").await?;
    sleep(Duration::from_secs(1)).await;
    let (slow, lost) = (rate(&bob).await?, bob.stats().await?);
    limit(&bob, "").await?;
    sleep(Duration::from_secs(1)).await;
    let again = rate(&bob).await?;
    println!("{full} frames/s, then {slow}, then {again}; bob: {lost}");
    hold(slow * 3 <= full && slow >= 5, || format!("{full} frames/s, then {slow}"))?;
    hold(again * 4 >= full * 3, || format!("{full} frames/s, then {again}"))?;
    let lost: i64 = lost.received("video").map(|stream| stream.packets_lost).sum();
    assert_eq!(lost, 0, "what is left out is not missed");
    Ok(())
}

async fn svc(
    demo: &Demo,
    [left, right]: [&Browser; 2],
    codec: &str,
    mode: &str,
) -> Result<(Page, Page), BrowserError> {
    let settings = format!("&codec={codec}&svc={mode}");
    let alice = enter(left, &demo.seat_with("browsers", "alice", &settings)).await?;
    // Bob's own picture would only take CPU from hers.
    let bob = enter(right, &demo.seat_with("browsers", "bob", "&simulcast=0")).await?;
    sees(&bob, "alice").await?;
    sleep(Duration::from_secs(6)).await;
    Ok((alice, bob))
}

/// Asks for less of what comes on every video m-line.
async fn limit(page: &Page, what: &str) -> Result<(), BrowserError> {
    let ask = format!(
        "for (const {{ mid, kind }} of call.slots) if (kind === 'video') call.send({{ type: 'limit', mid, {what} }}), true"
    );
    page.eval::<serde_json::Value>(&format!("(() => {{ {ask} }})() ?? null")).await.map(drop)
}

async fn width(page: &Page) -> Result<u32, BrowserError> {
    Ok(page.stats().await?.received("video").filter_map(|stream| stream.frame_width).max().unwrap_or(0))
}

/// Frames decoded in a second, over three.
async fn rate(page: &Page) -> Result<u64, BrowserError> {
    let before = page.stats().await?;
    sleep(Duration::from_secs(3)).await;
    let after = page.stats().await?;
    Ok(((after.frames_decoded() - before.frames_decoded()) as f64 * 1000.0 / (after.at - before.at)).round()
        as u64)
}

/// Debian's Firefox has no H264: it hears alice, and its page says why it does not see her.
#[test]
fn a_missing_codec_is_said() {
    let test = "codecs::a_missing_codec_is_said";
    call(test, &[Make::Chromium, Make::Firefox], async |demo| {
        let (left, right) = (Browser::chromium().await?, Browser::launch(Make::Firefox).await?);
        let alice = enter(&left, &demo.seat_with("browsers", "alice", "&codec=H264&simulcast=0")).await?;
        let bob = enter(&right, &demo.seat("browsers", "bob")).await?;
        let note = "document.querySelector('.tile[data-name=\"alice\"] .note')?.textContent.includes('H264')";
        bob.wait_for(note, Duration::from_secs(10)).await?;
        sees(&alice, "bob").await?;
        let before = bob.stats().await?.audio_energy();
        sleep(Duration::from_secs(3)).await;
        assert!(bob.stats().await?.audio_energy() > before, "she is heard");
        Ok(())
    });
}

/// Alice sends in this codec, bob sees her in it, late joiner eve too, all without a freeze.
async fn passes(demo: &Demo, codec: &str, more: &str) -> Outcome {
    let (left, right) = (Browser::chromium().await?, Browser::chromium().await?);
    let more = if more.is_empty() { "&simulcast=0" } else { more };
    let alice = enter(&left, &demo.seat_with("browsers", "alice", &format!("&codec={codec}{more}"))).await?;
    let bob = join(&right, demo, "bob").await?;
    sees(&bob, "alice").await?;
    // Encoders adapt their size and rate in the first seconds.
    sleep(Duration::from_secs(4)).await;
    let before = bob.stats().await?;
    sleep(Duration::from_secs(6)).await;
    let after = bob.stats().await?;
    println!("alice: {}", alice.stats().await?);
    println!("bob: {after}");
    assert_eq!(playing(&bob).await?, format!("video/{codec}"));
    let frames = after.frames_decoded() - before.frames_decoded();
    println!("{frames} frames of {codec} in 6 s");
    hold(frames >= 60, || format!("{frames} frames in 6 s"))?;
    let eve = join(&right, demo, "eve").await?;
    sees(&eve, "alice").await.map_err(Into::into)
}

/// The codec of the video that a page plays.
async fn playing(page: &Page) -> Result<String, BrowserError> {
    page.eval(PLAYING).await
}

const PLAYING: &str = r"(async () => {
    const report = await window.call.pc.getStats();
    const playing = [...report.values()].find(s => s.type === 'inbound-rtp' && s.kind === 'video' && s.framesDecoded > 0);
    return report.get(playing?.codecId)?.mimeType ?? '';
})()";

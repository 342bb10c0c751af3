//! Every codec a stock browser sends reaches those who take it, and who does not is told.

use std::time::Duration;

use sluicegate_tests::browser::namespace::Outcome;
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
    assert!(frames >= 60, "{frames} frames in 6 s");
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

//! The harness proves itself before it judges the SFU: a page calls itself, without any server in the media path.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::response::Html;
use axum::routing::{get, post};
use sluicegate_tests::browser::namespace::{ADDRESS, Outcome, fresh_path, hold};
use sluicegate_tests::browser::{Browser, Make, in_namespace};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

#[test]
fn chromium_calls_itself() {
    in_namespace("harness::chromium_calls_itself", &[Make::Chromium], LIMIT, || calls_itself(Make::Chromium));
}

#[test]
fn firefox_calls_itself() {
    in_namespace("harness::firefox_calls_itself", &[Make::Firefox], LIMIT, || calls_itself(Make::Firefox));
}

/// Launch, open, click, media, statistics, screenshot, close, kill: every verb the other tests use, once.
async fn calls_itself(make: Make) -> Outcome {
    let started = Instant::now();
    let site = Site::serve().await?;
    let mut browser = Browser::launch(make).await?;
    println!("launched after {:?}", started.elapsed());

    let page = browser.open(&site.url).await?;
    let visible: String = page.eval("document.visibilityState").await?;
    assert_eq!(visible, "visible", "a hidden page is throttled");
    page.click("#join").await?;
    page.wait_for("window.call?.pc.iceConnectionState === 'connected'", secs(5)).await?;
    println!("connected after {:?}", started.elapsed());
    page.wait_for("document.querySelector('video').videoWidth > 0", secs(5)).await?;
    println!("first picture after {:?}", started.elapsed());

    let before = page.stats().await?;
    sleep(secs(2)).await;
    let after = page.stats().await?;
    println!("{after}");
    let frames = after.frames_decoded() - before.frames_decoded();
    hold(frames >= 30, || format!("{frames} frames in 2 s"))?;
    assert!(after.frames_sent() > before.frames_sent(), "frames sent stay at {}", after.frames_sent());
    assert!(after.audio_energy() > before.audio_energy(), "the tone is not heard");
    let pair = after.pair.as_ref().ok_or("no candidate pair")?;
    let expected: IpAddr = ADDRESS.parse()?;
    assert_eq!((pair.local, pair.remote), (Some(expected), Some(expected)), "the pair in use");

    let picture = fresh_path("page", "png");
    page.screenshot(&picture).await?;
    let png = std::fs::read(&picture)?;
    assert!(png.starts_with(b"\x89PNG") && png.len() > 1_000, "a screenshot of {} bytes", png.len());

    let closing = Instant::now();
    page.close().await?;
    timeout(secs(2), site.left.notified()).await.map_err(|_| "pagehide did not run")?;
    println!("closed and said goodbye in {:?}", closing.elapsed());

    let again = browser.open(&site.url).await?;
    assert!(browser.is_running());
    browser.kill();
    let error = again.eval::<bool>("true").await.expect_err("the browser is dead");
    assert_eq!(error.to_string(), "the connection to the browser is closed");
    println!("done after {:?}", started.elapsed());
    Ok(())
}

/// Serves the page on 127.0.0.1, where browsers grant `navigator.mediaDevices`.
struct Site {
    url: String,
    /// The page said goodbye.
    left: Arc<Notify>,
}

impl Site {
    async fn serve() -> std::io::Result<Site> {
        let left = Arc::new(Notify::new());
        let heard = Arc::clone(&left);
        let routes = Router::new()
            .route("/", get(async || Html(include_str!("loopback.html"))))
            .route("/left", post(async move || heard.notify_one()));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/", listener.local_addr()?);
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Ok(Site { url, left })
    }
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

const LIMIT: Duration = Duration::from_secs(60);

//! Somebody in the room: a page that joined, what it sends and what it is shown.

use std::error::Error;
use std::time::Duration;

use sluicegate_tests::browser::{Browser, BrowserError, Inbound, Outbound, Page, Stats};
use tokio::time::sleep;

pub struct Person {
    pub page: Page,
}

/// A picture to send. See `camera.js`.
#[derive(Clone, Copy)]
pub struct Camera {
    width: u32,
    height: u32,
    rate: u32,
    grain: u32,
}

impl Camera {
    /// Little to encode.
    pub const PLAIN: Camera = Camera { width: 640, height: 360, rate: 30, grain: 0 };
    /// About a megabit at its best, and cheap to encode.
    pub const LIVELY: Camera = Camera { width: 480, height: 270, rate: 30, grain: 16 };
    /// Takes all the bitrate there is.
    pub const NOISY: Camera = Camera { width: 480, height: 270, rate: 20, grain: 4 };

    /// The same, large enough for three layers.
    pub const NOISY_AND_LARGE: Camera = Camera { width: 960, height: 540, rate: 15, grain: 8 };

    fn as_json(self) -> String {
        let Camera { width, height, rate, grain } = self;
        format!("{{width:{width},height:{height},rate:{rate},grain:{grain}}}")
    }
}

/// A first picture, on the page's clock in milliseconds.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FirstPicture {
    pub answered_at: f64,
    pub connected_at: f64,
    pub first_at: f64,
}

impl Person {
    /// Opens the page with such a camera, or with none, and presses the button.
    pub async fn enter(
        browser: &Browser,
        door: &str,
        camera: Option<Camera>,
    ) -> Result<Person, BrowserError> {
        let page = browser.open(door).await?;
        let camera = camera.map_or("null".to_owned(), Camera::as_json);
        page.eval::<()>(&CAMERA.replace("(CAMERA)", &format!("({camera})"))).await?;
        page.click("#join").await?;
        Ok(Person { page })
    }

    pub async fn is_connected(&self) -> Result<(), BrowserError> {
        self.page.wait_for("window.call?.pc?.connectionState === 'connected'", CONNECT_LIMIT).await
    }

    /// Waits until the tile of `name` shows a picture.
    pub async fn sees(&self, name: &str) -> Result<(), BrowserError> {
        let picture = format!("{}?.querySelector('video')?.videoWidth > 0", tile(name));
        self.page.wait_for(&picture, CONNECT_LIMIT).await
    }

    /// Waits until the tile of `name` is gone.
    pub async fn misses(&self, name: &str) -> Result<(), BrowserError> {
        self.page.wait_for(&format!("{} === null", tile(name)), CONNECT_LIMIT).await
    }

    pub async fn first_picture(&self) -> Result<FirstPicture, BrowserError> {
        self.page.eval(FIRST_PICTURE).await
    }

    /// Notes the time of every frame of `name` that is shown.
    pub async fn watch(&self, name: &str) -> Result<(), BrowserError> {
        self.page.eval(&WATCH.replace("TILE", &tile(name))).await
    }

    /// The page's clock, in milliseconds.
    pub async fn now(&self) -> Result<f64, BrowserError> {
        self.page.eval("performance.now()").await
    }

    /// Waits until frames flow, and says for how long none came at the longest since then, in milliseconds.
    pub async fn gap_since(&self, from: f64, limit: Duration) -> Result<f64, BrowserError> {
        // What was under way must be through first.
        sleep(SECOND).await;
        self.page.wait_for(FLOWING, limit).await?;
        let shown: Vec<f64> = self.page.eval("window.shown").await?;
        let before = shown.iter().rev().find(|at| **at <= from).copied().unwrap_or(from);
        let after = shown.into_iter().filter(|at| *at > from);
        let (_, gap) = after.fold((before, 0.0), |(last, gap), at| (at, f64::max(gap, at - last)));
        Ok(gap)
    }

    /// Waits for a frame after `from`, and says when it came.
    pub async fn next_frame(&self, from: f64, limit: Duration) -> Result<f64, BrowserError> {
        self.page.wait_for(&format!("window.shown.at(-1) > {from}"), limit).await?;
        self.page.eval(&format!("window.shown.find((at) => at > {from})")).await
    }

    /// Lets the camera take so much, and keep its size whatever it gets: another size would begin with a keyframe, which
    /// makes moot what was to be repaired before it.
    pub async fn limit_bitrate(&self, most: u64) -> Result<(), BrowserError> {
        self.page.eval(&LIMIT_BITRATE.replace("MOST", &most.to_string())).await
    }

    /// Restarts ICE as the page would after its network changed, and waits for the answer.
    pub async fn restart_ice(&self) -> Result<(), BrowserError> {
        let old = self.ufrag().await?;
        self.page.eval::<()>("window.call.pc.restartIce()").await?;
        let renewed = format!("{UFRAG} !== '{old}' && window.call.pc.signalingState === 'stable'");
        self.page.wait_for(&renewed, CONNECT_LIMIT).await
    }

    /// The name of its ICE session, which a restart changes.
    pub async fn ufrag(&self) -> Result<String, BrowserError> {
        self.page.eval(UFRAG).await
    }

    /// The video it sends.
    pub async fn video_out(&self) -> Result<Outbound, Box<dyn Error>> {
        let Stats { outbound, .. } = self.page.stats().await?;
        Ok(outbound.into_iter().find(|stream| stream.kind == "video").ok_or("no video is sent")?)
    }

    /// The video it receives.
    pub async fn video_in(&self) -> Result<Inbound, Box<dyn Error>> {
        let Stats { inbound, .. } = self.page.stats().await?;
        Ok(inbound.into_iter().find(|stream| stream.kind == "video").ok_or("no video is received")?)
    }
}

fn tile(name: &str) -> String {
    format!("document.querySelector('.tile[data-peer][data-name=\"{name}\"]')")
}

const CAMERA: &str = include_str!("camera.js");

/// The first picture: when it was decoded, as the callback for the frame tells afterwards, of the first that was shown.
/// Statistics say the same, but are up to 50 ms old.
const FIRST_PICTURE: &str = r"(async () => {
    let connectedAt = null, firstAt = null, watched = null;
    while (firstAt === null) {
        if (window.call?.pc?.connectionState === 'connected') connectedAt ??= performance.now();
        const video = document.querySelector('.tile[data-peer]:not(.self) video');
        if (video && video !== watched) {
            watched = video;
            video.requestVideoFrameCallback((_, frame) => {
                firstAt ??= frame.receiveTime + frame.processingDuration * 1000;
            });
        }
        await new Promise(done => setTimeout(done, 4));
    }
    return { answeredAt: window.answeredAt, connectedAt: connectedAt ?? firstAt, firstAt };
})()";

const WATCH: &str = r"(() => {
    const video = TILE.querySelector('video');
    window.shown = [];
    const note = (now) => { window.shown.push(now); video.requestVideoFrameCallback(note); };
    video.requestVideoFrameCallback(note);
})()";

/// A third of what the slowest camera sends in a second.
const FLOWING: &str = "window.shown.filter((at) => at > performance.now() - 1000).length >= 7";

const LIMIT_BITRATE: &str = r"(async () => {
    const parameters = window.call.videoSender.getParameters();
    parameters.encodings[0].maxBitrate = MOST;
    parameters.degradationPreference = 'maintain-resolution';
    await window.call.videoSender.setParameters(parameters);
})()";

const UFRAG: &str = "window.call.pc.localDescription.sdp.match(/ice-ufrag:(\\S+)/)[1]";

const SECOND: Duration = Duration::from_secs(1);

const CONNECT_LIMIT: Duration = Duration::from_secs(10);

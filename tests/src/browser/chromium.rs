//! Chromium over the DevTools protocol.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::wire::Wire;
use super::{BrowserError, Process, namespace};

pub(super) const NAMES: &[&str] = &["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

pub(super) async fn launch(program: &Path) -> Result<(Process, Wire), BrowserError> {
    let profile = namespace::fresh_path("chromium", "profile");
    let _ = std::fs::create_dir(&profile);
    let mut command = Command::new(program);
    command.env("HOME", &profile).args(FLAGS);
    command.arg(format!("--user-data-dir={}", profile.display())).arg("about:blank");
    let mut process = Process::spawn(command, "chromium")?;
    let port_file = profile.join("DevToolsActivePort");
    let url = process
        .wait_until("DevToolsActivePort", START_LIMIT, async || {
            let text = std::fs::read_to_string(&port_file).ok()?;
            let (port, path) = text.split_once('\n')?;
            path.starts_with("/devtools/").then(|| format!("ws://127.0.0.1:{port}{path}"))
        })
        .await?;
    Ok((process, Wire::connect(&url, "chromium").await?))
}

/// One window with one page.
pub(super) struct Tab {
    wire: Wire,
    target: String,
    session: String,
}

impl Tab {
    pub(super) async fn open(wire: Wire) -> Result<Tab, BrowserError> {
        let made =
            wire.call("Target.createTarget", json!({ "url": "about:blank", "newWindow": true })).await?;
        let target = text(&made["targetId"]);
        let attached =
            wire.call("Target.attachToTarget", json!({ "targetId": target, "flatten": true })).await?;
        let tab = Tab { wire, target, session: text(&attached["sessionId"]) };
        tab.call("Page.enable", json!({})).await?;
        tab.call("Runtime.enable", json!({})).await?;
        Ok(tab)
    }

    pub(super) async fn navigate(&self, url: &str) -> Result<(), BrowserError> {
        let answer = self.call("Page.navigate", json!({ "url": url })).await?;
        match answer["errorText"].as_str() {
            None => Ok(()),
            Some(error) => Err(BrowserError::Refused { method: url.to_owned(), message: error.to_owned() }),
        }
    }

    pub(super) async fn evaluate(&self, script: &str, expression: String) -> Result<String, BrowserError> {
        let params = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let answer = self.call("Runtime.evaluate", params).await?;
        match answer.get("exceptionDetails") {
            None => Ok(text(&answer["result"]["value"])),
            Some(details) => {
                let message =
                    details["exception"]["description"].as_str().unwrap_or("an exception").to_owned();
                Err(BrowserError::Script { script: script.to_owned(), message })
            }
        }
    }

    pub(super) async fn press(&self, x: i32, y: i32) -> Result<(), BrowserError> {
        for (kind, buttons) in [("mouseMoved", 0), ("mousePressed", 1), ("mouseReleased", 0)] {
            let button = if kind == "mouseMoved" { "none" } else { "left" };
            let event = json!({ "type": kind, "x": x, "y": y, "button": button, "buttons": buttons, "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", event).await?;
        }
        Ok(())
    }

    pub(super) async fn screenshot(&self) -> Result<String, BrowserError> {
        let answer = self.call("Page.captureScreenshot", json!({ "format": "png" })).await?;
        Ok(text(&answer["data"]))
    }

    /// `Page.close`, unlike `Target.closeTarget`, runs `beforeunload`. Its answer may drown in the closing.
    pub(super) async fn close(self) -> Result<(), BrowserError> {
        let closing = self.call("Page.close", json!({}));
        let _ = tokio::time::timeout(Duration::from_secs(1), closing).await;
        let started = Instant::now();
        while self.exists().await? {
            if started.elapsed() > CLOSE_LIMIT {
                return Err(BrowserError::Timeout {
                    what: "the tab to close".to_owned(),
                    limit: CLOSE_LIMIT,
                });
            }
            sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    async fn exists(&self) -> Result<bool, BrowserError> {
        let answer = self.wire.call("Target.getTargets", json!({})).await?;
        let targets = answer["targetInfos"].as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(targets.iter().any(|target| target["targetId"] == self.target.as_str()))
    }

    async fn call(&self, method: &str, params: Value) -> Result<Value, BrowserError> {
        self.wire.call_in(&self.session, method, params).await
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Headless, fake devices, no questions asked. Host candidates carry addresses rather than mDNS names, since nothing
/// resolves `.local` in a namespace; loopback candidates stay forbidden, as for a user.
const FLAGS: &[&str] = &[
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--remote-debugging-port=0",
    "--use-fake-device-for-media-stream=fps=30",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    "--disable-features=WebRtcHideLocalIpsWithMdns",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

/// Starts in half a second here; a cold disk takes longer.
const START_LIMIT: Duration = Duration::from_secs(20);

const CLOSE_LIMIT: Duration = Duration::from_secs(5);

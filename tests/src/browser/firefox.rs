//! Firefox over WebDriver BiDi.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::wire::Wire;
use super::{BrowserError, Process, namespace};

pub(super) const NAMES: &[&str] = &["firefox-esr", "firefox"];

pub(super) async fn launch(program: &Path) -> Result<(Process, Wire), BrowserError> {
    let profile = namespace::fresh_path("firefox", "profile");
    let user_js = profile.join("user.js");
    std::fs::create_dir(&profile)
        .and_then(|()| std::fs::write(&user_js, preferences()))
        .map_err(|source| BrowserError::Write { path: user_js, source })?;
    let mut command = Command::new(program);
    // With a bus or a display of the desktop in reach, Firefox would look for its other instances there.
    command.env("HOME", &profile).env_remove("DISPLAY").env_remove("DBUS_SESSION_BUS_ADDRESS");
    command
        .args(["--headless", "--no-remote", "--remote-debugging-port", "0", "--profile"])
        .arg(&profile)
        .arg("about:blank");
    let mut process = Process::spawn(command, "firefox")?;
    let port_file = profile.join("WebDriverBiDiServer.json");
    let port = process
        .wait_until("WebDriverBiDiServer.json", START_LIMIT, async || {
            let text = std::fs::read(&port_file).ok()?;
            serde_json::from_slice::<Value>(&text).ok()?["ws_port"].as_u64()
        })
        .await?;
    let wire = Wire::connect(&format!("ws://127.0.0.1:{port}/session"), "firefox").await?;
    wire.call("session.new", json!({ "capabilities": {} })).await?;
    wire.call("session.subscribe", json!({ "events": ["log.entryAdded"] })).await?;
    Ok((process, wire))
}

/// One window with one page.
pub(super) struct Tab {
    wire: Wire,
    context: String,
}

impl Tab {
    pub(super) async fn open(wire: Wire) -> Result<Tab, BrowserError> {
        let made = wire.call("browsingContext.create", json!({ "type": "window" })).await?;
        Ok(Tab { wire, context: text(&made["context"]) })
    }

    pub(super) async fn navigate(&self, url: &str) -> Result<(), BrowserError> {
        let params = json!({ "context": self.context, "url": url, "wait": "complete" });
        self.wire.call("browsingContext.navigate", params).await.map(drop)
    }

    pub(super) async fn evaluate(&self, script: &str, expression: String) -> Result<String, BrowserError> {
        let target = json!({ "context": self.context });
        let params = json!({ "expression": expression, "target": target, "awaitPromise": true });
        let answer = self.wire.call("script.evaluate", params).await?;
        match answer.get("exceptionDetails") {
            None => Ok(text(&answer["result"]["value"])),
            Some(details) => {
                Err(BrowserError::Script { script: script.to_owned(), message: text(&details["text"]) })
            }
        }
    }

    pub(super) async fn press(&self, x: i32, y: i32) -> Result<(), BrowserError> {
        let steps = json!([
            { "type": "pointerMove", "x": x, "y": y },
            { "type": "pointerDown", "button": 0 },
            { "type": "pointerUp", "button": 0 },
        ]);
        let mouse = json!([{ "type": "pointer", "id": "mouse", "actions": steps }]);
        let params = json!({ "context": self.context, "actions": mouse });
        self.wire.call("input.performActions", params).await.map(drop)
    }

    pub(super) async fn screenshot(&self) -> Result<String, BrowserError> {
        let params = json!({ "context": self.context });
        Ok(text(&self.wire.call("browsingContext.captureScreenshot", params).await?["data"]))
    }

    /// Without `promptUnload` a page cannot hold the tab open; `pagehide` still runs.
    pub(super) async fn close(self) -> Result<(), BrowserError> {
        let params = json!({ "context": self.context, "promptUnload": false });
        self.wire.call("browsingContext.close", params).await.map(drop)
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn preferences() -> String {
    PREFERENCES.iter().map(|(name, value)| format!("user_pref(\"{name}\", {value});\n")).collect()
}

/// Fake devices, no questions asked, no calls home. `media.peerconnection.ice.loopback` stays off, as for a user.
const PREFERENCES: &[(&str, &str)] = &[
    ("media.navigator.streams.fake", "true"),
    ("media.navigator.permission.disabled", "true"),
    ("media.peerconnection.ice.obfuscate_host_addresses", "false"),
    ("media.getusermedia.insecure.enabled", "true"),
    ("media.devices.insecure.enabled", "true"),
    ("media.autoplay.default", "0"),
    ("media.gmp-manager.updateEnabled", "false"),
    ("browser.shell.checkDefaultBrowser", "false"),
    ("browser.aboutwelcome.enabled", "false"),
    ("browser.sessionstore.resume_from_crash", "false"),
    ("datareporting.policy.dataSubmissionEnabled", "false"),
    ("app.update.enabled", "false"),
];

/// Starts in one second here; the first start of a profile on a cold disk takes longer.
const START_LIMIT: Duration = Duration::from_secs(30);

//! Stock browsers, driven from outside.
//!
//! A browser test runs in a network namespace of its own ([`in_namespace`]), where the server announces
//! [`namespace::ADDRESS`] and the browsers gather it as they would gather a LAN address. So nothing in the page
//! knows about the test, and no flag permits loopback candidates: what passes here passes for a user.
//!
//! Chromium is driven over the DevTools protocol, Firefox over WebDriver BiDi; [`Page`] hides which. Every wait has
//! a limit. These tests live in real time, unlike the scenarios: clocks here are tokio's.

mod chromium;
mod firefox;
pub mod namespace;
mod process;
mod stats;
mod wire;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep};

pub use namespace::in_namespace;
pub use process::Process;
pub use stats::{Inbound, Outbound, Pair, Stats, Transport};

/// Why a browser did not do as told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BrowserError {
    #[error("{0:?} is not installed")]
    Missing(Make),
    #[error("cannot start {program}")]
    Spawn { program: String, source: std::io::Error },
    #[error("{program} exited before it was ready: {status}")]
    Exited { program: String, status: std::process::ExitStatus },
    #[error("not within {limit:?}: {what}")]
    Timeout { what: String, limit: Duration },
    #[error("the connection to the browser is closed")]
    Closed,
    #[error("{method}: {message}")]
    Refused { method: String, message: String },
    #[error("`{script}` threw {message}")]
    Script { script: String, message: String },
    #[error("`{script}` gave {json}, not a {wanted}")]
    Shape { script: String, json: String, wanted: &'static str },
    #[error("no element matches {0}")]
    NoElement(String),
    #[error("cannot write {path}")]
    Write { path: PathBuf, source: std::io::Error },
}

/// Whose browser it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Make {
    Chromium,
    Firefox,
}

impl Make {
    /// Where the browser is installed, or `None`. `SLUICEGATE_CHROMIUM` and `SLUICEGATE_FIREFOX` overrule the search.
    pub fn find(self) -> Option<PathBuf> {
        let (overrule, names) = match self {
            Make::Chromium => ("SLUICEGATE_CHROMIUM", chromium::NAMES),
            Make::Firefox => ("SLUICEGATE_FIREFOX", firefox::NAMES),
        };
        if let Some(path) = std::env::var_os(overrule) {
            return Some(path.into());
        }
        let path = std::env::var_os("PATH")?;
        let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
        names
            .iter()
            .find_map(|name| folders.iter().map(|folder| folder.join(name)).find(|file| file.is_file()))
    }
}

/// A running browser with a fresh profile. Dropping it kills it.
pub struct Browser {
    make: Make,
    process: Process,
    wire: wire::Wire,
}

impl Browser {
    /// Starts the browser headless, with fake capture devices and the permission to use them.
    pub async fn launch(make: Make) -> Result<Browser, BrowserError> {
        let program = make.find().ok_or(BrowserError::Missing(make))?;
        let (process, wire) = match make {
            Make::Chromium => chromium::launch(&program).await?,
            Make::Firefox => firefox::launch(&program).await?,
        };
        Ok(Browser { make, process, wire })
    }

    pub async fn chromium() -> Result<Browser, BrowserError> {
        Browser::launch(Make::Chromium).await
    }

    pub async fn firefox() -> Result<Browser, BrowserError> {
        Browser::launch(Make::Firefox).await
    }

    /// Opens `url` in a window of its own, so that no page is throttled as a background tab, and waits for it to load.
    pub async fn open(&self, url: &str) -> Result<Page, BrowserError> {
        let wire = self.wire.clone();
        let tab = match self.make {
            Make::Chromium => Tab::Chromium(chromium::Tab::open(wire).await?),
            Make::Firefox => Tab::Firefox(firefox::Tab::open(wire).await?),
        };
        let page = Page { tab };
        page.navigate(url).await?;
        Ok(page)
    }

    /// Whether the process is still there.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// Stops every process of the browser where it stands: its sockets stay open and say nothing.
    pub fn freeze(&self) {
        self.process.freeze();
    }

    /// Kills every process of the browser at once: no page hears of it.
    pub fn kill(self) {
        self.process.kill();
    }
}

/// One page in a browser.
pub struct Page {
    tab: Tab,
}

enum Tab {
    Chromium(chromium::Tab),
    Firefox(firefox::Tab),
}

impl Page {
    /// Loads `url` and waits for its `load` event.
    pub async fn navigate(&self, url: &str) -> Result<(), BrowserError> {
        match &self.tab {
            Tab::Chromium(tab) => tab.navigate(url).await?,
            Tab::Firefox(tab) => tab.navigate(url).await?,
        }
        // A fresh window answers for its initial about:blank until the navigation commits.
        self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'", LOAD_LIMIT)
            .await
    }

    /// The value of a JavaScript expression; a promise is awaited, `undefined` reads as `null`.
    pub async fn eval<T: DeserializeOwned>(&self, script: &str) -> Result<T, BrowserError> {
        let json = self.evaluate(script).await?;
        serde_json::from_str(&json).map_err(|_| BrowserError::Shape {
            script: script.to_owned(),
            json,
            wanted: std::any::type_name::<T>(),
        })
    }

    /// Waits until a JavaScript condition is truthy. A condition that throws counts as not yet true: pages load in parts.
    pub async fn wait_for(&self, condition: &str, limit: Duration) -> Result<(), BrowserError> {
        let truth = format!("!!(await ({condition}))");
        let started = Instant::now();
        loop {
            let answer = self.eval::<bool>(&truth).await;
            match answer {
                Ok(true) => return Ok(()),
                Err(BrowserError::Closed) => return Err(BrowserError::Closed),
                _ if started.elapsed() < limit => sleep(POLL).await,
                Ok(false) => {
                    return Err(BrowserError::Timeout { what: condition.to_owned(), limit });
                }
                Err(error) => {
                    return Err(BrowserError::Timeout { what: format!("{condition} ({error})"), limit });
                }
            }
        }
    }

    /// Presses the left mouse button in the middle of the first element that matches, as a user does.
    pub async fn click(&self, selector: &str) -> Result<(), BrowserError> {
        let quoted = serde_json::Value::from(selector);
        let middle = format!(
            "(() => {{ const e = document.querySelector({quoted}); if (!e) return null; \
             e.scrollIntoView({{block: 'center'}}); const r = e.getBoundingClientRect(); \
             return [Math.round(r.x + r.width / 2), Math.round(r.y + r.height / 2)]; }})()"
        );
        let (x, y) = self
            .eval::<Option<(i32, i32)>>(&middle)
            .await?
            .ok_or_else(|| BrowserError::NoElement(selector.to_owned()))?;
        match &self.tab {
            Tab::Chromium(tab) => tab.press(x, y).await,
            Tab::Firefox(tab) => tab.press(x, y).await,
        }
    }

    /// What `getStats` of the page's peer connection (`window.call.pc`) says now.
    pub async fn stats(&self) -> Result<Stats, BrowserError> {
        Stats::read(self, "window.call.pc").await
    }

    /// Writes what the page shows as a PNG.
    pub async fn screenshot(&self, path: &Path) -> Result<(), BrowserError> {
        let base64 = match &self.tab {
            Tab::Chromium(tab) => tab.screenshot().await?,
            Tab::Firefox(tab) => tab.screenshot().await?,
        };
        let png = data_encoding::BASE64.decode(base64.as_bytes()).unwrap_or_default();
        std::fs::write(path, png).map_err(|source| BrowserError::Write { path: path.to_owned(), source })
    }

    /// Closes the page as a user does: `beforeunload` and `pagehide` run.
    pub async fn close(self) -> Result<(), BrowserError> {
        match self.tab {
            Tab::Chromium(tab) => tab.close().await,
            Tab::Firefox(tab) => tab.close().await,
        }
    }

    async fn evaluate(&self, script: &str) -> Result<String, BrowserError> {
        let expression = format!("(async () => JSON.stringify((await ({script})) ?? null))()");
        match &self.tab {
            Tab::Chromium(tab) => tab.evaluate(script, expression).await,
            Tab::Firefox(tab) => tab.evaluate(script, expression).await,
        }
    }
}

/// A blank or local page loads in milliseconds; a browser on a loaded two-core runner may need seconds.
const LOAD_LIMIT: Duration = Duration::from_secs(15);

/// Finer than the waits are long, coarser than an evaluation takes (1 to 3 ms).
const POLL: Duration = Duration::from_millis(25);

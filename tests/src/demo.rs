//! The demo example as a child process.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::browser::{BrowserError, Process, namespace};
use crate::example;

/// A running demo server, in the namespace of the test. Dropping it asks it to leave (SIGTERM).
pub struct Demo {
    process: Process,
}

impl Demo {
    /// Builds the demo as `cargo test --workspace` does, which has then done so already. Call it outside the namespace:
    /// a build may need the network, and more time than a test has.
    ///
    /// `SLUICEGATE_DEMO` names a binary to use instead.
    pub fn build() {
        static BUILT: OnceLock<()> = OnceLock::new();
        if namespace::is_inside() || std::env::var_os(OVERRULE).is_some() {
            return;
        }
        BUILT.get_or_init(|| {
            example::build(&["demo"]);
        });
    }

    /// Starts the demo and waits until it is ready.
    pub async fn start() -> Result<Demo, BrowserError> {
        Demo::start_with(&[]).await
    }

    /// The same, with further options.
    pub async fn start_with(options: &[&str]) -> Result<Demo, BrowserError> {
        let mut command = Command::new(binary());
        command.args(["--http", HTTP, "--media", &Demo::media().to_string()]).args(options);
        // What the machine does beside us must not decide who may join, and nobody is to wait for stragglers.
        command.env("SLUICEGATE_SATURATION", "dry-run").env("SLUICEGATE_DRAIN", "0s");
        let mut process = Process::spawn(command, "demo")?;
        process.wait_until("/readyz", START_LIMIT, async || is_ready().await.then_some(())).await?;
        Ok(Demo { process })
    }

    /// Where its first worker listens for media.
    pub fn media() -> SocketAddr {
        SocketAddr::new(namespace::ADDRESS.parse().expect("an address"), MEDIA_PORT)
    }

    /// What a scrape of `/metrics` says.
    pub async fn metrics(&self) -> std::io::Result<String> {
        get("/metrics").await
    }

    /// Caps what a room publishes, or lifts the cap. For one that was started with [`ADMIN`] among its options.
    pub async fn cap(&self, room: &str, rate: Option<&str>) -> std::io::Result<()> {
        let (method, rate) = rate.map_or(("DELETE", ""), |rate| ("PUT", rate));
        let path = format!("/debug/rooms/{room}/cap");
        let head = format!("Authorization: Bearer {}\r\nContent-Length: {}\r\n", ADMIN[1], rate.len());
        let answer = ask(method, &path, &head, rate).await?;
        if answer.starts_with("HTTP/1.1 204") { Ok(()) } else { Err(std::io::Error::other(answer)) }
    }

    /// The page that a user with this name opens to enter the room. It joins when `#join` is pressed.
    pub fn door(&self, room: &str, name: &str) -> String {
        format!("http://{HTTP}/?room={room}&name={name}&test=0")
    }

    /// As [`seat`](Self::seat), with more settings for the page: `&codec=AV1`.
    pub fn seat_with(&self, room: &str, name: &str, settings: &str) -> String {
        format!("{}{settings}", self.seat(room, name))
    }

    /// The same page, joining by itself.
    pub fn seat(&self, room: &str, name: &str) -> String {
        format!("{}&autojoin=1", self.door(room, name))
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        if self.process.terminate(STOP_LIMIT).is_none() {
            eprintln!("the demo ignored SIGTERM for {STOP_LIMIT:?}");
        }
    }
}

fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os(OVERRULE) {
        return path.into();
    }
    example::binary("demo")
}

async fn is_ready() -> bool {
    let answer = tokio::time::timeout(Duration::from_secs(1), get("/readyz")).await;
    matches!(answer, Ok(Ok(answer)) if answer.starts_with("HTTP/1.1 200"))
}

async fn get(path: &str) -> std::io::Result<String> {
    ask("GET", path, "", "").await
}

/// The whole answer, with its head.
async fn ask(method: &str, path: &str, head: &str, body: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(HTTP).await?;
    let request = format!("{method} {path} HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n{head}\r\n{body}");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// The options with which a demo takes orders.
pub const ADMIN: [&str; 2] = ["--admin-token", "secret of the tests"];

const OVERRULE: &str = "SLUICEGATE_DEMO";

// A namespace has every port free.
const HTTP: &str = "127.0.0.1:8080";
const MEDIA_PORT: u16 = 4000;

const START_LIMIT: Duration = Duration::from_secs(10);

/// The demo drains before it leaves; with nobody left in a room that is instant.
const STOP_LIMIT: Duration = Duration::from_secs(5);

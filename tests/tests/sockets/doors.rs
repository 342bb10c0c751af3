//! The demo counts what comes through its doors: a WebSocket, WHIP, refusals, a scrape, an operator.

use std::process::Command;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use rtc::peer_connection::sdp::RTCSessionDescription;
use serde_json::{Value, json};
use sluicegate_benches::{clock, http};
use sluicegate_tests::example::{self, Example};
use sluicegate_tests::scrape;
use tokio::net::TcpStream;
use tokio::time::{interval, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::person::{PATIENCE, Person};

struct Counted {
    demo: Example,
}

impl Counted {
    async fn start() -> Counted {
        let args = ["--http", "127.0.0.1:0", "--media", "127.0.0.1:0", "--announce", "127.0.0.1"];
        let more = ["--join-secret", SECRET, "--admin-token", ADMIN, "--region", "test-1"];
        let args = [&args[..], &more[..]].concat();
        let started = tokio::task::spawn_blocking(move || Example::start("demo", &args)).await;
        Counted { demo: started.unwrap().unwrap() }
    }

    fn scrape(&self) -> String {
        http::get(&self.demo.url("/metrics")).unwrap().body
    }

    fn sum(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        scrape::sum(&self.scrape(), name, labels)
    }

    /// Waits until a sum is what it should be.
    async fn comes_to(&self, name: &str, labels: &[(&str, &str)], expected: u64) {
        let mut clock = interval(Duration::from_millis(20));
        let deadline = clock::now() + PATIENCE;
        loop {
            clock.tick().await;
            let sum = self.sum(name, labels);
            if sum == expected || clock::now() >= deadline {
                assert_eq!(sum, expected, "{name} {labels:?}");
                return;
            }
        }
    }

    async fn socket(&self, query: &str) -> Socket {
        let address = self.demo.url(&format!("/ws/needle-room?{query}")).replace("http://", "ws://");
        Socket(connect_async(address).await.unwrap().0)
    }
}

struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    async fn say(&mut self, message: Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    /// The next message of this type.
    async fn hear(&mut self, kind: &str) -> Value {
        let search = async {
            while let Some(frame) = self.0.next().await {
                if let Message::Text(text) = frame.unwrap() {
                    let message: Value = serde_json::from_str(&text).unwrap();
                    if message["type"] == kind {
                        return message;
                    }
                }
            }
            panic!("the socket closed before {kind}");
        };
        timeout(PATIENCE, search).await.unwrap_or_else(|_| panic!("no {kind}"))
    }
}

fn token(name: &str) -> String {
    let args = ["token", "needle-room", name, "--join-secret", SECRET];
    let output = Command::new(example::binary("demo")).args(args).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn what_comes_through_the_doors_is_counted() {
    let demo = Counted::start().await;
    let messages = "signaling_messages_total";
    let requests = "signaling_requests_total";
    let before = demo.scrape();
    for name in [messages, "signaling_auth_failures_total", "signaling_websockets_active"] {
        assert!(before.contains(&format!("\n{name}{{")), "{name} is there before anything happens");
        assert_eq!(scrape::sum(&before, name, &[]), 0, "{name}");
    }

    // Strangers.
    let whip = |query: &str| demo.demo.url(&format!("/whip/needle-room?name=needle-ada{query}"));
    for (query, status) in [("", 401), ("&token=x", 401), ("&token=99999999999.AAAA", 401)] {
        assert_eq!(http::post(&whip(query), "v=0").unwrap().status, status, "{query}");
    }
    let text = demo.scrape();
    for reason in ["missing", "malformed", "invalid"] {
        assert_eq!(scrape::sum(&text, "signaling_auth_failures_total", &[("reason", reason)]), 1, "{reason}");
    }
    assert_eq!(scrape::sum(&text, requests, &[("op", "join"), ("outcome", "refused")]), 3);
    let refused = [("method", "post"), ("endpoint", "whip"), ("code", "401")];
    assert_eq!(scrape::sum(&text, "http_requests_total", &refused), 3);

    // A guest by WebSocket, who talks nonsense first.
    let query = format!("name=needle-ada&token={}", token("needle-ada"));
    let mut socket = demo.socket(&query).await;
    demo.comes_to("signaling_websockets_active", &[("region", "test-1")], 1).await;
    socket.say(json!({"type": "needle-dance"})).await;
    socket.hear("error").await;
    let mut ada = Person::publishing(1).await;
    let offer = ada.connection.create_offer(None).await.unwrap();
    socket.say(json!({"type": "join", "sdp": offer.sdp})).await;
    ada.connection.set_local_description(offer).await.unwrap();
    let answer = socket.hear("joined").await["answer"].as_str().unwrap().to_owned();
    ada.connection.set_remote_description(RTCSessionDescription::answer(answer).unwrap()).await.unwrap();
    ada.connects().await;
    demo.comes_to("signaling_ice_negotiation_seconds_count", &[("status", "connected")], 1).await;
    demo.comes_to("signaling_rooms_active", &[], 1).await;
    let text = demo.scrape();
    for (kind, way, count) in
        [("other", "in", 1), ("error", "out", 1), ("join", "in", 1), ("joined", "out", 1), ("bye", "out", 0)]
    {
        let sum = scrape::sum(&text, messages, &[("msg_type", kind), ("direction", way)]);
        // Each of the refused requests by WHIP brought an offer.
        assert_eq!(sum, count, "{kind} {way}");
    }
    assert_eq!(scrape::sum(&text, requests, &[("op", "join"), ("outcome", "ok")]), 1);
    let upgraded = [("method", "get"), ("endpoint", "ws"), ("code", "101")];
    assert_eq!(scrape::sum(&text, "http_requests_total", &upgraded), 1);

    // Another by WHIP, into the same room.
    let mut bob = Person::publishing(2).await;
    let response = bob.post(whip(&format!("&token={}", token("needle-ada")))).await;
    bob.connects().await;
    demo.comes_to("signaling_ice_negotiation_seconds_count", &[("status", "connected")], 2).await;
    demo.comes_to("signaling_rooms_active", &[], 1).await;
    let session = demo.demo.url(response.header("location").unwrap());
    assert_eq!(http::delete(&session).unwrap().status, 200);
    assert_eq!(http::delete(&session).unwrap().status, 404);
    let text = demo.scrape();
    let ended = |outcome| scrape::sum(&text, requests, &[("op", "leave"), ("outcome", outcome)]);
    assert_eq!((ended("ok"), ended("refused")), (1, 1));
    assert_eq!(scrape::sum(&text, messages, &[("msg_type", "offer"), ("direction", "in")]), 4);

    // The operator, and addresses that lead nowhere.
    assert_eq!(http::get(&demo.demo.url("/debug/rooms")).unwrap().status, 401);
    assert_eq!(http::get(&demo.demo.url("/needle")).unwrap().status, 404);
    let text = demo.scrape();
    for labels in [
        [("method", "get"), ("endpoint", "debug_rooms"), ("code", "401")],
        [("method", "other"), ("endpoint", "other"), ("code", "404")],
        [("method", "delete"), ("endpoint", "whip_session"), ("code", "404")],
    ] {
        assert_eq!(scrape::sum(&text, "http_requests_total", &labels), 1, "{labels:?}");
    }
    assert!(scrape::sum(&text, "http_requests_total", &[("endpoint", "metrics"), ("code", "200")]) > 5);
    let answered = scrape::sum(&text, "http_requests_total", &[]);
    assert_eq!(scrape::sum(&text, "http_request_duration_seconds_count", &[]), answered);
    assert_eq!(scrape::sum(&text, "http_request_duration_seconds_bucket", &[("le", "+Inf")]), answered);
    assert_eq!(scrape::sum(&text, "process_threads", &[]) > 1, cfg!(target_os = "linux"));

    // And out again.
    socket.say(json!({"type": "leave"})).await;
    socket.hear("bye").await;
    for gauge in ["signaling_websockets_active", "signaling_rooms_active"] {
        demo.comes_to(gauge, &[], 0).await;
    }
    let text = demo.scrape();
    assert_eq!(scrape::sum(&text, messages, &[("msg_type", "bye"), ("direction", "out")]), 1);
    assert_eq!(scrape::sum(&text, requests, &[("op", "leave"), ("outcome", "ok")]), 2);
    assert!(!text.contains("needle"), "no name that somebody gave is in a scrape");
}

const SECRET: &str = "a secret of the test's";
const ADMIN: &str = "an operator";

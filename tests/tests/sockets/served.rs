//! The examples, started and asked over HTTP.

use sluicegate_benches::http;
use sluicegate_tests::example::Example;
use sluicegate_tests::scrape;
use tokio::time::timeout;

use super::person::{PATIENCE, Person};
use super::talk;

async fn start(name: &'static str, args: &'static [&'static str]) -> Example {
    // Building may take long: not on the runtime of the clients.
    tokio::task::spawn_blocking(move || Example::start(name, args)).await.unwrap().unwrap()
}

async fn demo() -> Example {
    start("demo", &["--http", "127.0.0.1:0", "--media", "127.0.0.1:0", "--announce", "127.0.0.1"]).await
}

/// One publishes at the first address, another watches at the second.
async fn publish_and_watch(publish: String, watch: String) -> [Person; 2] {
    let mut publisher = Person::publishing(1).await;
    publisher.post(publish).await;
    let mut watcher = Person::watching(1).await;
    watcher.post(watch).await;
    publisher.connects().await;
    watcher.connects().await;
    let (mut speakers, mut listeners) = ([publisher], [watcher]);
    talk(&mut speakers, &mut listeners, 25).await;
    let ([publisher], [watcher]) = (speakers, listeners);
    assert_eq!(watcher.heard().altered, 0);
    [publisher, watcher]
}

fn assert_refused(response: http::Response, status: u16, words: &str) {
    assert_eq!((response.status, response.body.contains(words)), (status, true), "{}", response.body);
    assert!(response.body.trim().contains(' '), "a sentence: {}", response.body);
}

#[tokio::test]
async fn minimal_forwards() {
    let minimal = start("minimal", &["127.0.0.1:0"]).await;
    publish_and_watch(minimal.url("/publish/stage"), minimal.url("/watch/stage")).await;
    assert_refused(http::post(&minimal.url("/publish/stage"), "hello").unwrap(), 400, "");
}

#[tokio::test]
async fn mount_axum_forwards_and_counts_beside_its_own() {
    let host = start("mount_axum", &["127.0.0.1:0"]).await;
    assert_eq!(http::get(&host.url("/hello")).unwrap().body, "hello\n");
    publish_and_watch(host.url("/rooms/stage/ada"), host.url("/rooms/stage/bob")).await;
    let text = http::get(&host.url("/metrics")).unwrap().body;
    assert_eq!(scrape::sum(&text, "app_greetings_total", &[]), 1);
    assert_eq!(scrape::sum(&text, "sfu_joins_total", &[("result", "ok")]), 2);
    assert!(scrape::sum(&text, "sfu_egress_packets_total", &[("kind", "video")]) > 0);
    assert!(text.ends_with("# EOF\n"));
    assert_refused(http::post(&host.url("/rooms/stage/eve"), "hello").unwrap(), 400, "");
}

#[tokio::test]
async fn the_demo_takes_whip_and_whep() {
    let demo = demo().await;
    publish_and_watch(demo.url("/whip/stage?name=ada"), demo.url("/whep/stage")).await;
    assert_refused(http::post(&demo.url("/whip/stage?name=eve"), "hello").unwrap(), 400, "");
    assert_refused(http::post(&demo.url("/whep/a%2Fb"), "v=0").unwrap(), 400, "room name");
    assert_refused(http::delete(&demo.url("/whep/nowhere/1")).unwrap(), 404, "no such session");
}

#[tokio::test]
async fn the_demo_leaves_in_good_order() {
    let demo = demo().await;
    let mut publisher = Person::publishing(1).await;
    publisher.post(demo.url("/whip/stage?name=ada")).await;
    publisher.connects().await;
    let status = tokio::task::spawn_blocking(|| demo.terminate()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(0), "{status}");
}

#[tokio::test]
async fn the_demo_drains_before_it_leaves() {
    let place = ["--http", "127.0.0.1:0", "--media", "127.0.0.1:0", "--announce", "127.0.0.1"];
    let args = [place.as_slice(), &["--drain", "10m"]].concat();
    let demo = start("demo", Vec::leak(args)).await;
    let mut publisher = Person::publishing(1).await;
    let publishing = publisher.post(demo.url("/whip/stage?name=ada")).await;
    publisher.connects().await;
    demo.ask_to_leave().unwrap();
    let drains = async {
        while !http::get(&demo.url("/load")).unwrap().body.contains("\"state\":\"draining\"") {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, drains).await.expect("it drains");
    assert_refused(http::get(&demo.url("/readyz")).unwrap(), 503, "draining");
    assert_refused(http::post(&demo.url("/whip/other?name=eve"), "hello").unwrap(), 503, "draining");
    let remaining = || {
        let text = http::get(&demo.url("/metrics")).unwrap().body;
        scrape::sum(&text, "sfu_drain_remaining_handles", &[])
    };
    let shows = async {
        while remaining() != 1 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, shows).await.expect("it shows within a tenth of a second");
    let (mut speakers, mut listeners) = ([publisher], [Person::watching(1).await]);
    // The room is still there for those who come in the first half of the time.
    let watching = listeners[0].post(demo.url("/whep/stage")).await;
    listeners[0].connects().await;
    talk(&mut speakers, &mut listeners, 25).await;
    for session in [publishing, watching] {
        let session = session.header("location").expect("a session has an address");
        assert_eq!(http::delete(&demo.url(session)).unwrap().status, 200);
    }
    let status = tokio::task::spawn_blocking(|| demo.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(0), "{status}");
}

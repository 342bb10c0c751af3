//! Drills: a demo process, a real Prometheus with the rules of `contrib/`, clients that misbehave. What must fire fires, what must not
//! stays silent.
//!
//! Rules run fifteen times as fast as in production: every window, offset and `for` is divided, and nothing else is changed. Needs
//! `prometheus` (Debian's package); without it the drills say `SKIPPED`. Each takes less than two minutes:
//! `cargo test --workspace --test drills -- --ignored --test-threads 1`, or one by its name.
//!
//! `SLUICEGATE_PICTURE=docs/dashboard.svg` before the one that comes and goes draws the README's picture anew.

mod crowd;
#[path = "../operations/expression.rs"]
mod expression;
mod people;
mod prometheus;
mod rules;
mod saturation;

use std::io::Write as _;
use std::process::Command;
use std::time::Duration;

use crowd::Crowd;
use prometheus::Prometheus;
use sluicegate_benches::clock;
use sluicegate_tests::browser::in_namespace;
use sluicegate_tests::browser::namespace::{self, is_inside};
use sluicegate_tests::dashboard::Picture;
use sluicegate_tests::example::{self, Example};
use sluicegate_tests::repository;
use tokio::time::sleep;

use people::{Loss, Publisher, Watcher};

/// The demo and the Prometheus that scrapes it.
struct Drill {
    demo: Example,
    prometheus: Prometheus,
}

impl Drill {
    /// `None`: there is no Prometheus here.
    async fn begin(bots: &'static str) -> Option<Drill> {
        Drill::begin_with(bots, &[]).await
    }

    /// The same, with further options for the demo.
    async fn begin_with(bots: &'static str, options: &'static [&'static str]) -> Option<Drill> {
        Drill::on("1", bots, options).await
    }

    async fn on(
        workers: &'static str,
        bots: &'static str,
        options: &'static [&'static str],
    ) -> Option<Drill> {
        let media = if is_inside() { namespace::ADDRESS } else { "127.0.0.1" };
        let start = move || {
            let address = format!("{media}:0");
            let args = ["--http", "127.0.0.1:0", "--media", &address, "--announce", media];
            let more = ["--workers", workers, "--bots", bots, "--bots-room", ROOM];
            let demo = Example::start("demo", &[&args[..], &more[..], options].concat()).unwrap();
            Prometheus::start(&demo.url("")).map(|prometheus| Drill { demo, prometheus })
        };
        tokio::task::spawn_blocking(start).await.unwrap()
    }

    fn whep(&self) -> String {
        self.demo.url(&format!("/whep/{ROOM}"))
    }

    fn whip(&self) -> String {
        self.demo.url(&format!("/whip/{ROOM}?name=publisher"))
    }
}

/// 30 % loss at a fifth of the viewers: a few are hurt, and everybody pays for their repairs. The node is younger than ten
/// minutes, fifteen times as fast: there is no baseline yet, and the rule as first worded could not fire.
#[tokio::test]
#[ignore = "half a minute, and it needs Prometheus"]
async fn a_nack_storm_on_a_young_node_fires_and_is_no_silent_failure() {
    let Some(drill) = Drill::begin("5").await else { return };
    let mut viewers = Vec::new();
    for n in 0..5 {
        let loss = Loss::percent(if n == 0 { 30 } else { 0 });
        viewers.push(Watcher::enter("127.0.0.1:0", &drill.whep(), 5, loss).await);
    }
    drill.prometheus.fires("SFUNackStorm", Duration::from_secs(35)).await;
    assert_eq!(drill.prometheus.value(&rules::faster(BASELINE)).await, None, "it is young");
    drill.prometheus.is_silent(&["SFUSilentFailure", "SFUPacketLossCritical"], Duration::ZERO).await;
    drop(viewers);
}

/// The same storm after a quiet time: it is many times what was usual. It ends, and so does the alert.
#[tokio::test]
#[ignore = "a minute and a half, and it needs Prometheus"]
async fn a_nack_storm_comes_and_goes() {
    let Some(drill) = Drill::begin("5").await else { return };
    let losses: Vec<Loss> = (0..5).map(|_| Loss::percent(0)).collect();
    let mut viewers = Vec::new();
    for loss in &losses {
        viewers.push(Watcher::enter("127.0.0.1:0", &drill.whep(), 5, loss.clone()).await);
    }
    let began = clock::wall().as_secs_f64();
    let is_known = format!("{} >= bool 0", rules::faster(BASELINE));
    drill.prometheus.comes_to_within(&is_known, 1.0, Duration::from_secs(70)).await;
    drill.prometheus.is_silent(&["SFUNackStorm"], Duration::ZERO).await;
    losses[0].set(30);
    drill.prometheus.fires("SFUNackStorm", Duration::from_secs(25)).await;
    drill.prometheus.is_silent(&["SFUSilentFailure", "SFUPacketLossCritical"], Duration::from_secs(8)).await;
    losses[0].set(0);
    drill.prometheus.ends("SFUNackStorm", Duration::from_secs(20)).await;
    drill.prometheus.is_silent(&["SFUNackStorm"], Duration::from_secs(8)).await;
    if let Some(path) = std::env::var_os("SLUICEGATE_PICTURE") {
        let url = drill.prometheus.url().to_owned();
        let drawn = tokio::task::spawn_blocking(move || draw(&url, began)).await.unwrap().unwrap();
        std::fs::write(repository::root().join(path), drawn).unwrap();
    }
    drop(viewers);
}

/// What the overview showed since a drill began.
fn draw(prometheus: &str, began: f64) -> std::io::Result<String> {
    let caption = format!(
        "Drill a_nack_storm_comes_and_goes: a demo with five publishers and five viewers, one of whom loses 30 % for a while; \
         Prometheus, all windows {} times as fast",
        rules::FASTER
    );
    let picture = Picture {
        prometheus,
        dashboard: "sfu-overview.json",
        rows: &[&[2, 3, 5], &[12, 11], &[34, 37, 33], &[39, 17, 58]],
        from: began,
        to: clock::wall().as_secs_f64(),
        caption: &caption,
        rewrite: &rules::faster,
    };
    picture.draw()
}

/// A room that everybody entered while nobody spoke lies on one worker, and then there is more than one worker can do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a minute, and it needs Prometheus"]
async fn one_hot_worker_of_four_fires() {
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        let mut stderr = std::io::stderr();
        writeln!(stderr, "SKIPPED: with one CPU, a hot worker is a hot node").unwrap();
        return;
    }
    let Some(drill) = Drill::on("4", "0", &[]).await else { return };
    let (whip, whep) = (drill.whip(), drill.whep());
    let enter = move || Crowd::enter(whip, whep, 40);
    let crowd = tokio::task::spawn_blocking(enter).await.unwrap();
    let mut bps = 4_000_000;
    crowd.says(bps);
    let hot = "count(instance_worker:sfu_worker_busy:ratio1m > 0.9)";
    for _ in 0..10 {
        sleep(Duration::from_secs(3)).await;
        if drill.prometheus.value(hot).await == Some(1.0) {
            break;
        }
        bps += bps / 2;
        crowd.says(bps);
    }
    drill.prometheus.fires("SFUHighCPU", Duration::from_secs(40)).await;
    drill.prometheus.is_silent(&["SFUCpuCritical", "SFUSilentFailure"], Duration::from_secs(6)).await;
    let of_four = |bound: &str| format!("count(instance_worker:sfu_worker_busy:ratio1m {bound})");
    assert_eq!(drill.prometheus.value(&of_four("> 0.8")).await, Some(1.0), "one is hot");
    assert_eq!(drill.prometheus.value(&of_four("< 0.3")).await, Some(3.0), "the others have nothing to do");
    assert_eq!(drill.prometheus.value("max(sfu_worker_handles)").await, Some(41.0), "everybody is on it");
    tokio::task::spawn_blocking(move || drop(crowd)).await.unwrap();
}

/// Ten seconds of loss are common, a minute is an incident.
#[tokio::test]
#[ignore = "half a minute, and it needs Prometheus"]
async fn a_short_burst_of_nacks_does_not() {
    let Some(drill) = Drill::begin("5").await else { return };
    let losses: Vec<Loss> = (0..5).map(|_| Loss::percent(0)).collect();
    let mut viewers = Vec::new();
    for loss in &losses {
        viewers.push(Watcher::enter("127.0.0.1:0", &drill.whep(), 5, loss.clone()).await);
    }
    drill
        .prometheus
        .comes_to("sum(rate(sfu_egress_packets_total{kind=\"video\"}[4s])) > bool 200", 1.0)
        .await;
    losses[0].set(30);
    sleep(Duration::from_secs(10) / rules::FASTER).await;
    losses[0].set(0);
    drill.prometheus.is_silent(&["SFUNackStorm", "SFUSilentFailure"], Duration::from_secs(15)).await;
    let asked = drill.prometheus.value("sum(sfu_nacked_packets_total{direction=\"in\"})").await;
    assert!(asked > Some(0.0), "there was a burst: {asked:?}");
    drop(viewers);
}

/// Nobody listens, nobody speaks, and whoever could speak says nothing.
#[tokio::test]
#[ignore = "half a minute, and it needs Prometheus"]
async fn nobody_publishing_or_nobody_listening_does_not_page() {
    let Some(drill) = Drill::begin("0").await else { return };
    let silent = Duration::from_secs(10);
    let viewer = Watcher::enter("127.0.0.1:0", &drill.whep(), 1, Loss::percent(0)).await;
    drill.prometheus.comes_to("sfu_active_handles", 1.0).await;
    drill.prometheus.is_silent(&["SFUSilentFailure"], silent).await;
    drop(viewer);
    drill.prometheus.comes_to("sfu_active_handles", 0.0).await;
    let _publisher = Publisher::enter(&drill.whip()).await;
    drill.prometheus.comes_to("sum(rate(sfu_ingress_packets_total{kind=\"video\"}[4s])) > bool 5", 1.0).await;
    drill.prometheus.is_silent(&["SFUSilentFailure"], silent).await;
}

/// Somebody spoke, somebody still listens, and the speaker is muted: nothing was renegotiated, and nothing is wrong.
#[tokio::test]
#[ignore = "half a minute, and it needs Prometheus"]
async fn whoever_is_muted_does_not_page() {
    let Some(drill) = Drill::begin("0").await else { return };
    let publisher = Publisher::enter(&drill.whip()).await;
    let viewer = Watcher::enter("127.0.0.1:0", &drill.whep(), 1, Loss::percent(0)).await;
    drill.prometheus.comes_to("sum(rate(sfu_egress_packets_total{kind=\"video\"}[4s])) > bool 5", 1.0).await;
    publisher.mute();
    drill.prometheus.is_silent(&["SFUSilentFailure"], Duration::from_secs(20)).await;
    let now = async |query: &str| drill.prometheus.value(query).await;
    assert_eq!(now("sum(rate(sfu_egress_packets_total{kind=\"video\"}[4s]))").await, Some(0.0));
    assert_eq!(now("sfu_publishers").await, Some(0.0));
    assert_eq!(now("sfu_subscribers").await, Some(1.0), "negotiated, and nothing to get");
    drop(viewer);
}

/// The kernel refuses whatever goes to the viewer: all is connected, packets arrive, and nothing leaves.
#[test]
#[ignore = "half a minute, and it needs Prometheus and a network namespace"]
fn what_arrives_and_does_not_leave_pages() {
    if !is_inside() {
        // There is no network inside to build with.
        example::build(&["bot", "demo", "minimal", "mount_axum"]);
    }
    in_namespace("what_arrives_and_does_not_leave_pages", &[], Duration::from_secs(90), async || {
        ip("address add 10.77.0.2/32 dev lo");
        let Some(drill) = Drill::begin("2").await else { return Ok(()) };
        let viewer = Watcher::enter("10.77.0.2:0", &drill.whep(), 2, Loss::percent(0)).await;
        drill
            .prometheus
            .comes_to("sum(rate(sfu_egress_packets_total{kind=\"video\"}[4s])) > bool 10", 1.0)
            .await;
        drill.prometheus.is_silent(&["SFUSilentFailure"], Duration::from_secs(6)).await;
        // Rules are asked in order, and the one about our own addresses comes first.
        ip("rule add pref 2 lookup local");
        ip("rule add pref 1 to 10.77.0.2 prohibit");
        ip("rule del pref 0");
        drill.prometheus.fires("SFUSilentFailure", Duration::from_secs(25)).await;
        let refused = drill.prometheus.value("sum(sfu_dropped_packets_total{reason=\"send_error\"})").await;
        assert!(refused > Some(0.0), "{refused:?}");
        drill.prometheus.is_silent(&["SFUNackStorm"], Duration::ZERO).await;
        drop(viewer);
        Ok(())
    });
}

/// Whatever the dashboards and the console ask, Prometheus can answer, and says something of a demo with a little of everything.
#[tokio::test]
#[ignore = "half a minute, and it needs Prometheus"]
async fn every_panel_has_something_to_show() {
    let Some(drill) = Drill::begin("2").await else { return };
    let viewers = [
        Watcher::enter("127.0.0.1:0", &drill.whep(), 2, Loss::percent(10)).await,
        Watcher::enter("127.0.0.1:0", &drill.whep(), 2, Loss::percent(0)).await,
    ];
    // Streams report their loss once in ten seconds.
    drill.prometheus.comes_to("sum(sfu_loss_ratio_count{direction=\"out\"}) > bool 1", 1.0).await;
    drill.prometheus.comes_to("count(instance:sfu_nacked_ratio:rate1m) > bool 0", 1.0).await;
    let (mut shown, mut mute) = (0, Vec::new());
    let panels = [expression::Place::Panel, expression::Place::Console];
    for panel in expression::all().into_iter().filter(|expression| panels.contains(&expression.place)) {
        let variables = ["$job", "$region", "$instance", "$worker"];
        let query = variables.iter().fold(panel.text.clone(), |text, variable| text.replace(variable, ".*"));
        // An instance that the console puts in; and some panels hide what is 0.
        let query = query.replace("=\"x\"", "=~\".*\"");
        let query = query.replace(" > 0", "");
        if ELSEWHERE.iter().any(|name| query.contains(name)) {
            continue;
        }
        shown += 1;
        match drill.prometheus.count(&query).await {
            Ok(0) => mute.push(format!("{}: {query}", panel.at)),
            Ok(_) => {}
            Err(error) => panic!("{}: {query}: {error}", panel.at),
        }
    }
    assert!(mute.is_empty(), "nothing to show:\n{}", mute.join("\n"));
    assert!(shown > 150, "{shown} expressions");
    drop(viewers);
}

fn ip(args: &str) {
    let status = Command::new("ip").args(args.split(' ')).status().expect("iproute2 is installed");
    assert!(status.success(), "ip {args}");
}

/// What machines, TURN servers and later features tell, and what nothing but trouble does: `external-metrics.toml`,
/// `later.toml`.
const ELSEWHERE: [&str; 5] = ["node_", "turn_", "sfu_client_", "ALERTS", "up{"];

const ROOM: &str = "drill";

/// What SFUNackStorm compares with, in production.
const BASELINE: &str = "avg_over_time(instance:sfu_nacks_in:rate1m[5m] offset 10m)";

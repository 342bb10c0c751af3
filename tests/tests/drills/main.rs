//! Drills: a demo process, a real Prometheus with the rules of `contrib/`, clients that misbehave. What must fire fires, what must not
//! stays silent.
//!
//! Rules run fifteen times as fast as in production: every window, offset and `for` is divided, and nothing else is changed. Needs
//! `prometheus` (Debian's package); without it the drills say `SKIPPED`. Each takes about half a minute, all together five:
//! `cargo test --workspace --test drills -- --ignored --test-threads 1`.

#[path = "../operations/expression.rs"]
mod expression;
mod people;
mod prometheus;
mod rules;
mod saturation;

use std::process::Command;
use std::time::Duration;

use prometheus::Prometheus;
use sluicegate_tests::browser::in_namespace;
use sluicegate_tests::browser::namespace::{self, is_inside};
use sluicegate_tests::example::{self, Example};
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
        let media = if is_inside() { namespace::ADDRESS } else { "127.0.0.1" };
        let start = move || {
            let address = format!("{media}:0");
            let args = ["--http", "127.0.0.1:0", "--media", &address, "--announce", media];
            let more = ["--workers", "1", "--bots", bots, "--bots-room", ROOM];
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

/// 30 % loss at a fifth of the viewers: a few are hurt, and everybody pays for their repairs. The node is younger than the
/// baseline of the rule.
#[tokio::test]
#[ignore = "half a minute, and it needs Prometheus"]
async fn a_nack_storm_fires_and_is_no_silent_failure() {
    let Some(drill) = Drill::begin("5").await else { return };
    let mut viewers = Vec::new();
    for n in 0..5 {
        let loss = Loss::percent(if n == 0 { 30 } else { 0 });
        viewers.push(Watcher::enter("127.0.0.1:0", &drill.whep(), 5, loss).await);
    }
    drill.prometheus.fires("SFUNackStorm", Duration::from_secs(40)).await;
    drill.prometheus.is_silent(&["SFUSilentFailure", "SFUPacketLossCritical"], Duration::ZERO).await;
    drop(viewers);
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

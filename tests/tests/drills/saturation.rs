//! A node that is left, one whose machine is busy with others, and one with a single bad network in it.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sluicegate_benches::http;
use tokio::time::{sleep, timeout};

use super::Drill;
use super::people::{Loss, Publisher, Watcher};

/// D9: twenty calls on a node that is told to leave. Media flows on, nobody new comes in, nothing fires, and when the last
/// call has ended the process does, long before the deadline.
#[tokio::test]
#[ignore = "half a minute, and it needs Prometheus"]
async fn twenty_calls_outlive_a_drain_and_the_last_ends_it() {
    let Some(drill) = Drill::begin_with("0", &["--drain", "90s"]).await else { return };
    let mut calls = Vec::new();
    for n in 0..20 {
        let publisher = Publisher::enter(&drill.demo.url(&format!("/whip/call-{n}?name=publisher"))).await;
        let url = drill.demo.url(&format!("/whep/call-{n}"));
        calls.push((publisher, Watcher::enter("127.0.0.1:0", &url, 1, Loss::percent(0)).await));
    }
    let flowing = "sum(rate(sfu_egress_packets_total{kind=\"video\"}[4s])) > bool 200";
    drill.prometheus.comes_to(flowing, 1.0).await;
    drill.demo.ask_to_leave().unwrap();
    drill.prometheus.comes_to("sfu_node_state{state=\"draining\"}", 1.0).await;
    drill.prometheus.comes_to("sfu_drain_remaining_handles", 40.0).await;
    let door = drill.demo.url("/whip/another?name=late");
    let refused = tokio::task::spawn_blocking(move || http::post(&door, "v=0")).await.unwrap().unwrap();
    assert_eq!(refused.status, 503, "{}", refused.body);
    assert!(refused.body.contains("draining"), "{}", refused.body);
    drill.prometheus.is_silent(&["SFUDrainStuck", "SFUSilentFailure"], Duration::from_secs(8)).await;
    drill.prometheus.comes_to(flowing, 1.0).await;
    assert_eq!(
        drill.prometheus.value("sum(sfu_sessions_ended_total)").await,
        Some(0.0),
        "nobody was sent away"
    );

    drop(calls.split_off(1));
    drill.prometheus.comes_to("sfu_drain_remaining_handles", 2.0).await;
    drop(calls);
    let Drill { demo, prometheus } = drill;
    let left = timeout(Duration::from_secs(30), tokio::task::spawn_blocking(|| demo.wait())).await;
    assert!(left.expect("it leaves when everybody has").unwrap().unwrap().success());
    prometheus.is_silent(&["SFUDrainStuck"], Duration::ZERO).await;
}

/// T13: one of six viewers loses half of what it is sent. That is its network, not our load.
#[tokio::test]
#[ignore = "half a minute, and it needs Prometheus"]
async fn one_bad_network_is_no_saturation() {
    let Some(drill) = Drill::begin_with("3", &["--saturation", "act"]).await else { return };
    let mut viewers = Vec::new();
    for n in 0..6 {
        let loss = Loss::percent(if n == 0 { 50 } else { 0 });
        viewers.push(Watcher::enter("127.0.0.1:0", &drill.whep(), 3, loss).await);
    }
    // Losses are told of once a second, and the slow mean takes five.
    sleep(Duration::from_secs(25)).await;
    let most = async |query: &str| drill.prometheus.value(&format!("max(max_over_time({query}[20s]))")).await;
    let asked = drill.prometheus.value("sum(sfu_nacked_packets_total{direction=\"in\"})").await;
    assert!(asked > Some(100.0), "much is lost: {asked:?}");
    let loss = most("sfu_load_ratio{resource=\"loss\"}").await.expect("it is measured");
    let others = most("sfu_load_ratio{resource!=\"loss\"}").await.expect("they are measured");
    let level = most("sfu_saturation_level").await.expect("it is told");
    println!("loss pressure {loss:.2}, others at most {others:.2}, level {level}");
    assert!(loss < 0.5, "one of six is not the median: {loss}");
    if others < 0.85 {
        assert_eq!(level, 0.0, "nothing else was short");
    } else {
        println!("this machine was short of something by itself: the level says nothing here");
    }
    drop(viewers);
}

/// T8: a fifth of the viewers lose 30 %. What is sent again to them stays within 15 % of what they are sent, and the others
/// lose nothing by it.
#[tokio::test]
#[ignore = "half a minute, and it needs Prometheus"]
async fn a_nack_storm_is_paid_for_by_those_who_make_it() {
    let Some(drill) = Drill::begin("5").await else { return };
    let mut viewers = Vec::new();
    for n in 0..5 {
        let loss = Loss::percent(if n == 0 { 30 } else { 0 });
        viewers.push(Watcher::enter("127.0.0.1:0", &drill.whep(), 5, loss).await);
    }
    let flowing = "sum(rate(sfu_egress_packets_total{kind=\"video\"}[4s])) > bool 200";
    drill.prometheus.comes_to(flowing, 1.0).await;
    // From now on each of the five is sent the same, and one asks again.
    sleep(Duration::from_secs(25)).await;
    let rate = |transmission: &str| {
        format!("sum(rate(sfu_egress_bytes_total{{kind=\"video\",transmission=\"{transmission}\"}}[20s]))")
    };
    let share = drill.prometheus.value(&format!("{} / ({} / 5)", rate("rtx"), rate("first"))).await;
    let share = share.expect("both are counted");
    let others: Vec<(u64, u64)> = viewers[1..].iter().map(Watcher::received).collect();
    println!("{:.1} % sent again to the one; the others got, and lost, {others:?}", 100.0 * share);
    assert!(share > 0.05, "there was a storm");
    assert!(share <= 0.15, "{share}");
    for (came, lost) in others {
        assert!(came > 1_000, "{came}");
        assert!(lost * 1_000 < came, "{lost} lost of {came}");
    }
}

/// T12: others take the CPUs. Ours is idle for want of them: what it uses says nothing, how long it waits says all.
#[tokio::test]
#[ignore = "half a minute of every CPU, and it needs Prometheus"]
async fn a_machine_that_others_keep_busy_is_saturated() {
    let Some(drill) = Drill::begin_with("5", &["--saturation", "act"]).await else { return };
    let mut viewers = Vec::new();
    for _ in 0..3 {
        viewers.push(Watcher::enter("127.0.0.1:0", &drill.whep(), 5, Loss::percent(0)).await);
    }
    let cpus = std::thread::available_parallelism().map_or(1, |count| count.get());
    let hogs: Vec<Hog> = (0..8 * cpus).map(|_| Hog::start()).collect();
    drill.prometheus.comes_to("max(sfu_saturation_level) >= bool 2", 1.0).await;
    let delay =
        drill.prometheus.value("max(max_over_time(sfu_load_ratio{resource=\"run_delay\"}[10s]))").await;
    let cpu = drill.prometheus.value("max(sfu_cpu_usage_percent)").await;
    drop(hogs);
    println!("run delay pressure {delay:?}, our own CPU {cpu:?} %");
    assert!(delay >= Some(1.0), "{delay:?}");
    assert!(cpu.is_some_and(|cpu| cpu < 50.0), "{cpu:?}");
    // Who was there before is still served.
    drill.prometheus.comes_to("sum(rate(sfu_egress_packets_total[4s])) > bool 0", 1.0).await;
    drop(viewers);
}

/// A process that does nothing, as fast as it can.
struct Hog(Child);

impl Hog {
    fn start() -> Hog {
        let mut command = Command::new("sh");
        command.args(["-c", "while :; do :; done"]).stdout(Stdio::null());
        Hog(command.spawn().expect("there is a shell"))
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

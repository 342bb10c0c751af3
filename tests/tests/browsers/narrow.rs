//! Layers over bad networks: a lossy uplink is repaired layer by layer, and a narrow downlink gets a smaller picture.

use std::time::Duration;

use sluicegate_tests::browser::namespace::{Outcome, hold};
use sluicegate_tests::browser::{Browser, Make};
use sluicegate_tests::relay::{Conditions, Direction, Loss};
use tokio::time::{Instant, sleep};

use crate::impaired::{far, is_long, secs};
use crate::network::{LAST_REPAIRS, Network};
use crate::person::Person;

#[test]
fn what_is_lost_of_any_layer_is_sent_again_once() {
    let test = "narrow::what_is_lost_of_any_layer_is_sent_again_once";
    Network::story(test, &[Make::Chromium], 15, &[], lossy_layers);
}

/// S14 with three layers: Chromium announces none of its streams, so that repairs are told by their repaired rid.
async fn lossy_layers(network: &Network) -> Outcome {
    let (left, right) = (Browser::chromium().await?, Browser::chromium().await?);
    let alice = Person { page: network.join_in_layers(&left, "alice").await? };
    let bob = network.join(&right, "bob", None).await?;
    bob.sees("alice").await?;
    network.set_all(far());
    sleep(secs(6)).await;

    let publisher = network.client_of(&alice).await?;
    let streams = |stats: &sluicegate_tests::browser::Stats| -> Vec<(u32, u64)> {
        let video = stats.outbound.iter().filter(|stream| stream.kind == "video");
        video.map(|stream| (stream.ssrc, stream.retransmitted_packets_sent)).collect()
    };
    let before = alice.page.stats().await?;
    let layers =
        before.outbound.iter().filter(|stream| stream.kind == "video" && stream.frames_sent > 0).count();
    assert!(layers >= 2, "{layers} layers");
    let before = streams(&before);
    let (asked, switched) = (network.asked_for().await?, network.switched().await?);
    network.relay.forget();
    network.relay.set(publisher, Direction::Up, Conditions { loss: Loss::Random(0.05), ..far() });
    let wanted = if is_long() { 500 } else { 200 };
    let started = Instant::now();
    let lost = || {
        let tap = network.relay.tap(publisher, Direction::Up);
        before.iter().map(|(ssrc, _)| tap.stream(*ssrc).lost).sum::<u64>()
    };
    while lost() < wanted && started.elapsed() < secs(100) {
        sleep(Duration::from_millis(250)).await;
    }
    let took = started.elapsed();
    network.relay.set(publisher, Direction::Up, far());
    sleep(LAST_REPAIRS).await;

    let (lost, asked) = (lost(), network.asked_for().await? - asked);
    let told = alice.page.stats().await?;
    let after = streams(&told);
    let sent =
        after.iter().map(|(_, sent)| sent).sum::<u64>() - before.iter().map(|(_, sent)| sent).sum::<u64>();
    let [asked_each, sent_each] = [asked, sent].map(|count| count as f64 / lost as f64);
    println!(
        "{layers} layers: {lost} packets lost in {took:.1?}; {asked} asked for ({asked_each:.3} per loss), {sent} sent again ({sent_each:.3} per loss)"
    );
    println!("alice: {told}");
    hold(lost >= wanted.min(150), || format!("the browser sends little: {lost} packets were lost"))?;
    // What bob sees is the largest layer; what lacks of it would have been left out towards him.
    let seen = bob.video_in().await?;
    let towards_bob = network.relay.tap(network.client_of(&bob).await?, Direction::Down).stream(seen.ssrc);
    let holes = towards_bob.left_out();
    println!(
        "{holes} holes towards bob, so far behind the last packet, and so long: {:?}; {} frames decoded, {} freezes, \
         {} PLIs",
        towards_bob.left_out_runs(),
        seen.frames_decoded,
        seen.freeze_count,
        seen.pli_count
    );
    println!("{}", network.feedback().await?);
    let switched = network.switched().await? - switched;
    println!("{switched} switches of layers");
    let kept = holes as f64 <= 0.01 * lost as f64;
    // A browser that gives a layer up, for want of bandwidth or of a faster machine, answers for none of its packets any
    // more: if that has happened, another telling may show more.
    hold(kept || switched == 0, || {
        format!("{holes} packets never came, beside {switched} switches of layers")
    })?;
    assert!(kept, "{holes} packets never came");
    hold(sent_each <= 1.2, || format!("{sent_each:.3} packets sent again for each that was lost"))?;
    Ok(())
}

#[test]
fn a_narrow_downlink_gets_a_smaller_picture() {
    let test = "narrow::a_narrow_downlink_gets_a_smaller_picture";
    Network::story(test, &[Make::Chromium], 16, &[], narrow);
}

async fn narrow(network: &Network) -> Outcome {
    let (left, right) = (Browser::chromium().await?, Browser::chromium().await?);
    let alice = Person { page: network.join_in_layers(&left, "alice").await? };
    let bob = network.join(&right, "bob", None).await?;
    let eve = network.join(&right, "eve", None).await?;
    bob.sees("alice").await?;
    eve.sees("alice").await?;
    network.set_all(far());
    sleep(secs(8)).await;
    let width = async |person: &Person| person.video_in().await.map(|seen| seen.frame_width.unwrap_or(0));
    let (full, others) = (width(&bob).await?, width(&eve).await?);
    assert_eq!(full, others);

    bob.watch("alice").await?;
    eve.watch("alice").await?;
    let from = (bob.now().await?, eve.now().await?);
    let client = network.client_of(&bob).await?;
    let narrow = Conditions { rate: Some(600_000), queue: Duration::from_millis(300), ..far() };
    network.relay.set(client, Direction::Down, narrow);
    sleep(secs(12)).await;
    let gaps = (bob.gap_since(from.0, secs(10)).await?, eve.gap_since(from.1, secs(10)).await?);
    let now = (width(&bob).await?, width(&eve).await?);
    println!(
        "from {full} wide to {}, {:.0} ms without a picture at most; eve: {}, {:.0} ms",
        now.0, gaps.0, now.1, gaps.1
    );
    println!("alice: {}", alice.page.stats().await?);
    assert!(now.0 < full, "the picture is still {} wide", now.0);
    // Alice's browser may have sent less at first than it affords later.
    assert!(now.1 >= others, "eve's picture was {others} wide and is {}", now.1);
    hold(gaps.0 <= 1_000.0, || format!("{:.0} ms without a picture", gaps.0))?;
    hold(gaps.1 <= 300.0, || format!("eve waited {:.0} ms", gaps.1))?;
    Ok(())
}

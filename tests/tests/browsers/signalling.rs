//! The socket to the server breaks: the call goes on, and the page comes back as who it was.

use std::time::Duration;

use sluicegate_tests::browser::namespace::{Outcome, hold};
use sluicegate_tests::browser::{Browser, Make, Page, in_namespace};
use sluicegate_tests::demo::Demo;
use sluicegate_tests::line::Line;
use sluicegate_tests::scrape;
use tokio::time::{Instant, sleep};

use super::calls::{call, enter, join, sees};

const LIMIT: Duration = Duration::from_secs(10);

/// What a page has received by now: packets, and those it misses.
async fn received(page: &Page) -> Result<(u64, i64), Box<dyn std::error::Error>> {
    let inbound = page.stats().await?.inbound;
    let packets = inbound.iter().map(|stream| stream.packets_received).sum();
    Ok((packets, inbound.iter().map(|stream| stream.packets_lost).sum()))
}

/// Joins by way of a line that can be cut. The page remembers its connection, and the tiles that it sees.
async fn join_over(
    line: &Line,
    browser: &Browser,
    demo: &Demo,
    name: &str,
) -> Result<Page, Box<dyn std::error::Error>> {
    let seat = demo.seat("browsers", name).replace(&demo.http().to_string(), &line.address().to_string());
    Ok(enter(browser, &seat).await?)
}

const REMEMBER: &str = "(() => {
    window.before = {
        pc: window.call.pc, peer: window.call.peer,
        tiles: [...document.querySelectorAll('.tile')],
    };
    return null;
})()";

#[test]
fn a_cut_of_20_s_loses_no_packet() {
    let test = "signalling::a_cut_of_20_s_loses_no_packet";
    call(test, &[Make::Chromium], async |demo| cut(demo, Make::Chromium).await);
}

#[test]
#[ignore = "half a minute more for another browser; .ci/full tells it"]
fn a_cut_of_20_s_loses_no_packet_in_firefox() {
    let test = "signalling::a_cut_of_20_s_loses_no_packet_in_firefox";
    call(test, &[Make::Chromium, Make::Firefox], async |demo| cut(demo, Make::Firefox).await);
}

async fn cut(demo: &Demo, make: Make) -> Outcome {
    let line = Line::to(demo.http()).await?;
    let (left, right) = (Browser::launch(make).await?, Browser::chromium().await?);
    let alice = join_over(&line, &left, demo, "alice").await?;
    let bob = join(&right, demo, "bob").await?;
    sees(&alice, "bob").await?;
    sees(&bob, "alice").await?;
    alice.wait_for("window.call.pass !== null", LIMIT).await?;
    for page in [&alice, &bob] {
        page.eval::<Option<()>>(REMEMBER).await?;
    }
    sleep(Duration::from_secs(2)).await;
    let before = [received(&alice).await?, received(&bob).await?];

    let began = Instant::now();
    line.cut();
    alice.wait_for("document.getElementById('status').dataset.state !== 'connected'", LIMIT).await?;
    // Somebody comes of whom alice cannot hear.
    let carol = join(&right, demo, "carol").await?;
    sees(&carol, "alice").await?;
    let scraped = demo.metrics().await?;
    assert_eq!(scrape::sum(&scraped, "sfu_orphaned_handles", &[]), 1);
    sleep(Duration::from_secs(20).saturating_sub(began.elapsed())).await;
    assert_eq!(alice.eval::<String>("window.call.pc.connectionState").await?, "connected");
    let after = [received(&alice).await?, received(&bob).await?];

    line.mend();
    let mended = Instant::now();
    alice.wait_for("document.getElementById('status').dataset.state === 'connected'", LIMIT).await?;
    let back = mended.elapsed();
    sees(&alice, "carol").await?;
    for page in [&alice, &bob] {
        let same = "window.call.pc === before.pc && window.call.peer === before.peer \
                    && before.tiles.every((tile) => tile.isConnected)";
        assert!(page.eval::<bool>(same).await?, "the same connection, the same person, the same tiles");
    }
    for ((who, before), after) in ["alice", "bob"].into_iter().zip(before).zip(after) {
        println!("{who} got {} packets in the 20 s, and lost {}", after.0 - before.0, after.1 - before.1);
        assert_eq!(after.1, before.1, "{who} lost packets");
        assert!(after.0 - before.0 > 1_000, "{who} got {} packets", after.0 - before.0);
    }
    let scraped = demo.metrics().await?;
    assert_eq!(scrape::sum(&scraped, "sfu_orphaned_handles", &[]), 0);
    assert_eq!(scrape::sum(&scraped, "sfu_sessions_ended_total", &[]), 0);
    assert_eq!(scrape::sum(&scraped, "sfu_resumes_total", &[("result", "failed")]), 0);
    // It tries each 2.5 to 5 s while the call goes on.
    hold(back <= Duration::from_millis(6_500), || format!("alice is back {back:?} after the line"))?;
    Ok(())
}

#[test]
fn media_that_failed_is_replaced_and_nobody_sees_a_leave() {
    let test = "signalling::media_that_failed_is_replaced_and_nobody_sees_a_leave";
    call(test, &[Make::Chromium], async |demo| {
        let (left, right) = (Browser::chromium().await?, Browser::chromium().await?);
        let alice = join(&left, demo, "alice").await?;
        let bob = join(&right, demo, "bob").await?;
        sees(&alice, "bob").await?;
        sees(&bob, "alice").await?;
        alice.wait_for("window.call.pass !== null", LIMIT).await?;
        for page in [&alice, &bob] {
            page.eval::<Option<()>>(REMEMBER).await?;
        }
        // As when the browser gives its path up.
        alice.eval::<Option<()>>("(window.call.answered = false, window.call.reconnect(), null)").await?;
        let back = "window.call.pc && window.call.pc !== before.pc \
                    && window.call.pc.connectionState === 'connected' && window.call.joined";
        alice.wait_for(back, LIMIT).await?;
        let same = "window.call.peer === before.peer && before.tiles.every((tile) => tile.isConnected)";
        for page in [&alice, &bob] {
            assert!(page.eval::<bool>(same).await?, "the same person, the same tiles");
        }
        for (page, other) in [(&alice, "bob"), (&bob, "alice")] {
            let shown = format!("document.querySelector('.tile[data-name=\"{other}\"] video').currentTime");
            let at: f64 = page.eval(&shown).await?;
            page.wait_for(&format!("{shown} > {at} + 1"), LIMIT).await?;
        }
        let scraped = demo.metrics().await?;
        assert_eq!(scrape::sum(&scraped, "sfu_resumes_total", &[("result", "ok")]), 1);
        assert_eq!(scrape::sum(&scraped, "sfu_participants", &[]), 2);
        Ok(())
    });
}

/// A server that is being left opens no room, and says when to ask again: the page counts down, asks, and counts again.
#[test]
fn who_finds_no_room_is_told_and_asks_again() {
    let test = "signalling::who_finds_no_room_is_told_and_asks_again";
    Demo::build();
    in_namespace(test, &[Make::Chromium], Duration::from_secs(60), async || {
        let demo = Demo::start_with(&["--drain", "40s", "--publisher-cap", "800kbps", "--bots", "2"]).await?;
        let browser = Browser::chromium().await?;
        let alice = enter(&browser, &demo.seat("bots", "alice")).await?;
        // What the line under the bar says: the level, and the cap that binds.
        let standing = "document.getElementById('standing')";
        alice
            .wait_for(&format!("!{standing}.hidden && {standing}.dataset.level !== undefined"), LIMIT)
            .await?;
        let limit = "document.querySelector('#limit-out:not([hidden]) b')?.textContent === '800 kb/s'";
        alice.wait_for(limit, LIMIT).await?;
        demo.drain();
        alice.wait_for("document.getElementById('banner').textContent.includes('restart')", LIMIT).await?;
        let bob = browser.open(&demo.seat("another", "bob")).await?;
        let counts = "/Trying again in \\d+ s/.test(document.getElementById('banner').textContent) \
                      && document.getElementById('status').dataset.state === 'waiting'";
        bob.wait_for(counts, LIMIT).await?;
        let asked: u32 = bob.eval("window.call.attempt").await?;
        bob.wait_for(&format!("window.call.attempt >= {asked} + 2"), LIMIT).await?;
        assert_eq!(alice.eval::<String>("window.call.pc.connectionState").await?, "connected");
        Ok(())
    });
}

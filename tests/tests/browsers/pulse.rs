//! When the page takes its path for dead: in virtual time, and among people who fall silent.

use sluicegate_tests::browser::namespace::Outcome;
use sluicegate_tests::browser::{Browser, BrowserError, Make, Page};
use tokio::time::sleep;

use crate::impaired::{far, secs};
use crate::network::Network;
use crate::person::Camera;

#[test]
fn a_steady_flow_that_ends_is_a_dead_path() {
    let test = "pulse::a_steady_flow_that_ends_is_a_dead_path";
    Network::story(test, &[Make::Chromium], 31, &[], async |network| {
        let browser = Browser::chromium().await?;
        let page = network.enter(&browser, "alice", None).await?.page;

        // Feedback every 100 ms until the tenth second, and nothing more: again after 10 s, 20, 40, and then each minute.
        let ends = "Math.floor(Math.min(at, 10_000) / 100)";
        assert_eq!(restarts(&page, ends, 100).await?, [10_300, 20_300, 40_300, 80_300, 140_300]);
        // Two seconds are too few to know that it was steady, whatever the rate.
        let begins = "Math.min(at, 1_800)";
        assert_eq!(restarts(&page, begins, 100).await?, [0; 0]);
        // It ends a second time: soon after the first it is not believed, later it is.
        for (after, expected) in [(4_000, &[10_300, 20_300][..]), (90_000, &[10_300, 100_900][..])] {
            let again = format!("Math.min(at, 10_000) + Math.min(Math.max(at - 10_600, 0), {after})");
            let restarts = restarts(&page, &again, 100).await?;
            assert_eq!(restarts[..2], *expected, "a flow of another {after} ms");
        }
        // A device that slept wakes elsewhere.
        let sleeps = "at > 10_000 && at < 60_000 ? -1 : Math.min(at, 10_000) + Math.max(at - 60_500, 0)";
        assert_eq!(restarts(&page, sleeps, 100).await?, [60_200]);

        // One packet every 400 ms, as in discontinuous transmission, or a report each second.
        for every in [400, 1_000] {
            let sparse = format!("Math.floor(Math.min(at, 10_000) / {every})");
            assert_eq!(restarts(&page, &sparse, 100).await?, [0; 0], "one each {every} ms");
        }
        // A hidden tab reads once a second: it takes longer to notice.
        assert_eq!(restarts(&page, "Math.min(at, 60_000)", 1_000).await?, [63_000, 73_000, 93_000, 133_000]);
        Ok(())
    });
}

/// When the page would restart ICE in three minutes, if by the time `at` so many bytes have arrived. It reads that at
/// intervals of `every`, and not at all where there are fewer than none. All in milliseconds.
async fn restarts(page: &Page, arrived: &str, every: u64) -> Result<Vec<u64>, BrowserError> {
    let script = REPLAY.replace("ARRIVED", arrived).replace("EVERY", &every.to_string());
    page.eval(&script).await
}

const REPLAY: &str = r"(async () => {
    const { Pulse } = await import('/pulse.js');
    const [pulse, restarts] = [new Pulse(), []];
    for (let at = 0; at < 180_000; at += EVERY) {
        const bytes = ARRIVED;
        if (bytes >= 0 && pulse.read(bytes, at)) restarts.push(at);
    }
    return restarts;
})()";

#[test]
fn who_falls_silent_in_chromium_keeps_the_path() {
    let test = "pulse::who_falls_silent_in_chromium_keeps_the_path";
    Network::story(test, &[Make::Chromium], 32, &[], async |network| silence(network, Make::Chromium).await);
}

#[test]
fn who_falls_silent_in_firefox_keeps_the_path() {
    let test = "pulse::who_falls_silent_in_firefox_keeps_the_path";
    Network::story(test, &[Make::Firefox], 33, &[], async |network| silence(network, Make::Firefox).await);
}

/// Less and less is sent, until alice is alone with neither picture nor sound.
async fn silence(network: &Network, make: Make) -> Outcome {
    let browser = Browser::launch(make).await?;
    let alice = network.join(&browser, "alice", Some(Camera::PLAIN)).await?;
    let bob = network.join(&browser, "bob", Some(Camera::PLAIN)).await?;
    alice.sees("bob").await?;
    bob.sees("alice").await?;
    network.set_all(far());
    let (hers, his) = (alice.ufrag().await?, bob.ufrag().await?);
    for (person, button) in [(&alice, "#cam"), (&bob, "#mic"), (&bob, "#cam"), (&alice, "#mic")] {
        sleep(secs(4)).await;
        person.page.click(button).await?;
    }
    sleep(secs(4)).await;
    assert_eq!(bob.ufrag().await?, his, "bob restarted ICE");
    bob.page.close().await?;
    alice.misses("bob").await?;
    sleep(secs(4)).await;
    assert_eq!(alice.ufrag().await?, hers, "alice restarted ICE");
    Ok(())
}

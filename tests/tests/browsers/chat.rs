//! What people say in the chat box, and what their browsers say of themselves.

use std::time::Duration;

use sluicegate_tests::browser::namespace::Outcome;
use sluicegate_tests::browser::{Browser, BrowserError, Make, Page};
use sluicegate_tests::demo::Demo;

use super::calls::{call, join, sees};

const LIMIT: Duration = Duration::from_secs(10);

#[test]
fn what_one_browser_says_the_other_reads() {
    let test = "chat::what_one_browser_says_the_other_reads";
    call(test, &[Make::Chromium, Make::Firefox], async |demo| talk(demo).await);
}

async fn talk(demo: &Demo) -> Outcome {
    let (left, right) = (Browser::chromium().await?, Browser::launch(Make::Firefox).await?);
    let (alice, bob) = (join(&left, demo, "alice").await?, join(&right, demo, "bob").await?);
    for page in [&alice, &bob] {
        page.wait_for("!document.getElementById('chat-text').disabled", LIMIT).await?;
        page.wait_for("window.call.telemetry.readyState === 'open'", LIMIT).await?;
    }
    say(&alice, "grüß dich, bob").await?;
    reads(&bob, "alice grüß dich, bob").await?;
    say(&bob, "and you, alice").await?;
    reads(&alice, "bob and you, alice").await?;
    // Nobody has heard themselves: two lines each.
    for page in [&alice, &bob] {
        let lines: u32 = page.eval("document.querySelectorAll('#chat-lines li').length").await?;
        assert_eq!(lines, 2);
        page.eval::<()>("window.call.sendDigest()").await?;
    }
    sees(&bob, "alice").await?;
    sees(&alice, "bob").await?;
    alice.wait_for("fetch('metrics').then((r) => r.text()).then((t) => /sfu_client_reports_total\\{result=\"accepted\"\\} 2/.test(t))", LIMIT).await?;
    Ok(())
}

async fn say(page: &Page, words: &str) -> Result<(), BrowserError> {
    let script = "(() => {
        document.getElementById('chat-text').value = 'WORDS';
        document.getElementById('chat-form').requestSubmit();
        return null;
    })()";
    page.eval::<Option<()>>(&script.replace("WORDS", words)).await.map(drop)
}

async fn reads(page: &Page, line: &str) -> Result<(), BrowserError> {
    let script =
        "[...document.querySelectorAll('#chat-lines li')].some((line) => line.textContent === 'LINE')";
    page.wait_for(&script.replace("LINE", line), LIMIT).await
}

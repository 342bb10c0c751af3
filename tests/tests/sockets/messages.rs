//! What hosts and clients say on data channels, over real sockets and the host's own API.

use std::time::Duration;

use sluicegate::{Limits, MessageError, MessagePayload, PeerConfig, PeerEvent};
use tokio::time::timeout;

use super::person::{PATIENCE, Person, event};
use super::*;

/// Two workers, and the room on both: `Room::broadcast` reaches either.
#[tokio::test]
async fn a_host_speaks_to_one_and_to_all() {
    let mut limits = Limits::default();
    limits.peers_together = 0;
    let config = Config::new((LOOPBACK, 0).into()).workers(2).limits(limits);
    let sfu = Sfu::start(config.saturation(Saturation::DryRun)).await.unwrap();
    let room = sfu.room("hall").unwrap();
    let (mut people, mut seats) = (Vec::new(), Vec::new());
    for (name, label) in [("ada", "chat"), ("bob", "chat"), ("eve", "game")] {
        let person = Person::watching(1).await.opens(label).await;
        seats.push(person.sit(&room, PeerConfig::new(name)).await.unwrap());
        people.push(person);
    }
    for person in &mut people {
        person.hears("its channel is open", |heard| heard.open).await;
    }
    // The client's side is open before ours has read so: who is not there yet is not counted.
    let everybody = async {
        while room.broadcast("chat", "is everybody here?").await != Ok(2) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, everybody).await.expect("both have the channel");
    for person in &mut people[..2] {
        let here = Some("is everybody here?".to_owned());
        person.hears("the question", |heard| heard.messages.last() == Some(&here)).await;
    }
    let [ada, bob, eve] = [0, 1, 2].map(|at: usize| seats[at].peer().clone());
    assert_eq!(ada.send_message("chat", "you are first").await, Ok(()));
    assert_eq!(bob.send_message("chat", MessagePayload::Binary(vec![0xff].into())).await, Ok(()));
    assert_eq!(eve.send_message("chat", "?").await, Err(MessageError::NoChannel));
    assert_eq!(room.broadcast("chat", vec![0; 64 * 1024 + 1]).await, Err(MessageError::TooLarge));
    assert_eq!(room.broadcast("nowhere", "?").await, Ok(0));
    let first = Some("you are first".to_owned());
    people[0].hears("what is said to her", |heard| heard.messages.last() == Some(&first)).await;
    people[1].hears("bytes", |heard| heard.messages.last() == Some(&None)).await;

    // From client to client, over the two workers, and to the host.
    people[0].writes("hello bob").await;
    let hello = Some("hello bob".to_owned());
    people[1].hears("ada", |heard| heard.messages.last() == Some(&hello)).await;
    let said = |event: &PeerEvent| matches!(event, PeerEvent::Message { channel, binary: false, data } if channel == "chat" && data == "hello bob");
    event(&seats[0], "what she said", said).await;
    assert!(people[2].heard().messages.is_empty(), "another channel is another channel");

    let sum = |name: &str, outcome| sfu.metrics().snapshot().sum(name, &[("outcome", outcome)]);
    let counted = async {
        // Each of the two workers tells its own.
        while ["received", "relayed"].map(|outcome| sum("sfu_channel_bytes_total", outcome)) != [9.0; 2] {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, counted).await.expect("what was received and relayed is counted");
    assert_eq!(sum("sfu_channel_messages_total", "relayed"), 1.0);
    assert!(sum("sfu_channel_bytes_total", "sent") >= 2.0 * 18.0 + 13.0 + 1.0);
    ada.leave();
    event(&seats[0], "she has left", |event| matches!(event, PeerEvent::Left(_))).await;
    assert_eq!(ada.send_message("chat", "?").await, Err(MessageError::Gone));
    sfu.shutdown().await;
    assert_eq!(room.broadcast("chat", "?").await, Err(MessageError::Gone));
}

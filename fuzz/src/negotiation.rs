//! Session descriptions, recorded, altered or made up, through joining, offering and answering.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use sluicegate::sans_io::{Engine, Identity};
use sluicegate::{PeerConfig, PeerEvent, Subscribe};
use sluicegate_benches::clock;
use sluicegate_benches::memory::{PUBLISH, SENDRECV, SUBSCRIBE, engine};

use crate::script::Script;

/// Drives one input: up to eight descriptions, handed to one of two peers as an offer or an answer.
///
/// # Panics
///
/// When a promise breaks.
pub fn run(input: &[u8]) {
    let mut script = Script::new(input);
    let (now, mut engine) = (origin(), engine(ours(), PEERS));
    let mut seats = [(None, String::new()), (None, String::new())];
    for _ in 0..8 {
        if script.is_over() {
            break;
        }
        let how = script.byte();
        let (peer, offered) = &mut seats[usize::from(how & 1)];
        match peer {
            None => {
                let config = PeerConfig::new("peer").subscribe(match how >> 1 & 3 {
                    0 => Subscribe::Slots(Default::default()),
                    1 => Subscribe::Nothing,
                    _ => Subscribe::Auto,
                });
                let offer = description(&mut script, "");
                *peer = engine.join(now, "room", config, &offer).ok().map(|(peer, _)| peer);
            }
            Some(peer) if how & 2 != 0 => {
                let answer = description(&mut script, &obliging_answer(offered));
                let _ = engine.answer(now, *peer, &answer);
            }
            Some(peer) => {
                let offer = description(&mut script, "");
                let _ = engine.offer(now, *peer, &offer);
            }
        }
        while let Some((told, event)) = engine.poll_event() {
            if let PeerEvent::Offer { sdp } = event
                && let Some((_, offered)) = seats.iter_mut().find(|(peer, _)| *peer == Some(told))
            {
                *offered = sdp;
            }
        }
        hold(&engine);
    }
    engine.shutdown(now);
    assert_eq!(engine.footprint(), [0; 5], "everybody has left");
}

/// A client that takes every offer of ours as it is.
pub fn obliging_answer(offer: &str) -> String {
    let lines = offer.lines().filter(|line| !line.contains("ssrc") && *line != "a=ice-lite");
    let swapped = lines.map(|line| match line {
        "a=sendonly" => "a=recvonly".to_owned(),
        "a=recvonly" => "a=sendonly".to_owned(),
        "a=setup:actpass" => "a=setup:active".to_owned(),
        line if line.starts_with("a=rid:") => line.replace(" recv", " send"),
        line => line.replace("a=simulcast:recv", "a=simulcast:send"),
    });
    swapped.map(|line| format!("{line}\r\n")).collect()
}

/// A base and edits of its lines: dropped, doubled, moved, cut, overwritten, or the script's own.
fn description(script: &mut Script<'_>, suggested: &str) -> String {
    let base = match script.byte() % 8 {
        0 => PUBLISH,
        1 => SUBSCRIBE,
        2 => SENDRECV,
        3 => FIREFOX,
        4 => SIMULCAST,
        5 => return String::from_utf8_lossy(script.bytes()).into_owned(),
        _ => suggested,
    };
    let mut lines: Vec<Vec<u8>> = base.lines().map(|line| line.as_bytes().to_vec()).collect();
    for _ in 0..script.byte() % 16 {
        let (edit, at) = (script.byte() % 7, usize::from(script.word()));
        let count = lines.len();
        if count == 0 {
            break;
        }
        let at = at % count;
        match edit {
            0 => drop(lines.remove(at)),
            1 => lines.insert(at, lines[at].clone()),
            2 => lines.swap(at, usize::from(script.word()) % count),
            3 => script.spoil(&mut lines[at]),
            4 => {
                let len = usize::from(script.byte());
                lines[at].truncate(len);
            }
            5 => lines.insert(at, script.bytes().to_vec()),
            // A run of lines again: sections come to stand twice.
            _ => {
                let run = lines[at..(at + usize::from(script.byte())).min(count)].to_vec();
                lines.extend(run);
            }
        }
    }
    let lines = lines.iter().map(|line| format!("{}\r\n", String::from_utf8_lossy(line)));
    lines.collect()
}

fn hold(engine: &Engine) {
    let [sessions, rooms, paths, ufrags, timers] = engine.footprint();
    assert!(
        sessions <= PEERS && rooms <= 1 && paths == 0,
        "{sessions} sessions, {rooms} rooms, {paths} paths"
    );
    assert!(ufrags <= sessions * 2, "{ufrags} ufrags of {sessions} sessions");
    assert!(timers <= sessions + rooms, "{timers} timers of {sessions} sessions");
}

fn ours() -> Arc<Identity> {
    static OURS: OnceLock<Arc<Identity>> = OnceLock::new();
    OURS.get_or_init(|| Arc::new(Identity::generate().expect("a certificate is made"))).clone()
}

fn origin() -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    *ORIGIN.get_or_init(clock::now)
}

const PEERS: usize = 2;
const FIREFOX: &str = include_str!("../../sfu/src/session/negotiate/golden/firefox-sendrecv.sdp");
const SIMULCAST: &str = include_str!("../../sfu/src/session/negotiate/golden/chromium-simulcast.sdp");

//! Publishers of several layers: which of them we take, and that no later description loses them.

use super::*;

/// The sending video line of an offer, with these lines of its own.
fn layered(own: &str) -> String {
    let ids = [(4, Extension::Mid), (10, Extension::Rid), (11, Extension::RepairedRid)];
    let extensions: String =
        ids.iter().map(|(id, kind)| format!("a=extmap:{id} {}\r\n", kind.uri())).collect();
    format!("{}{extensions}{own}", offer(&[("video", "v", "sendonly")]))
}

fn rids(negotiation: &Negotiation) -> Vec<String> {
    negotiation.uplinks().flat_map(|uplink| &uplink.rids).map(ToString::to_string).collect()
}

/// The rids of the uplink and the `a=simulcast` line of our answer.
fn taken(sdp: &str) -> (Vec<String>, Option<String>) {
    let mut negotiation = negotiation();
    let answer = negotiation.handle_offer(sdp).unwrap();
    (rids(&negotiation), answer.lines().find(|line| line.starts_with("a=simulcast")).map(str::to_owned))
}

const THREE: &str = "a=rid:q send\r\na=rid:h send\r\na=rid:f send\r\na=simulcast:send q;h;f\r\n";
const THREE_TAKEN: &str = "a=rid:q recv\r\na=rid:h recv\r\na=rid:f recv\r\na=simulcast:recv q;h;f\r\n";

#[test]
fn chromium_sends_three_layers_that_only_their_rids_tell_apart() {
    let mut negotiation = negotiation();
    let answer = negotiation.handle_offer(golden("chromium-simulcast")).unwrap();
    let video = negotiation.uplinks().find(|uplink| uplink.kind == MediaKind::Video).unwrap();
    assert_eq!(video.rids.iter().map(|rid| rid.as_str()).collect::<Vec<_>>(), ["q", "h", "f"]);
    assert!(video.ssrcs.is_empty());
    assert!(answer.contains(THREE_TAKEN), "{answer}");
    let ids =
        [Extension::Mid, Extension::Rid, Extension::RepairedRid].map(|kind| video.extensions.id_of(kind));
    assert_eq!(ids, [Some(4), Some(10), Some(11)]);
    assert!(answer.contains("a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\n"));
}

#[test]
fn firefox_announces_its_layers_streams_too() {
    let mut negotiation = negotiation();
    let answer = negotiation.handle_offer(golden("firefox-simulcast")).unwrap();
    let video = negotiation.uplinks().find(|uplink| uplink.kind == MediaKind::Video).unwrap();
    assert_eq!(video.rids.len(), 3);
    let announced: Vec<(u32, Option<u32>)> =
        video.ssrcs.iter().map(|stream| (stream.ssrc.0, stream.rtx.map(|rtx| rtx.0))).collect();
    let pairs = [
        (3_763_482_095, Some(3_261_758_979)),
        (1_590_224_621, Some(3_278_442_933)),
        (1_404_830_053, Some(60_637_919)),
    ];
    assert_eq!(announced, pairs);
    assert!(answer.contains(THREE_TAKEN), "{answer}");
    // It limits the ids of layers to its sending side.
    assert!(answer.contains("a=extmap:9/recvonly urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\n"));
}

/// libwebrtc falls back to one layer on a description of ours without `a=simulcast`, and refuses one
/// that has it without the rid extension.
#[test]
fn descriptions_of_ours_repeat_the_layers_and_their_ids() {
    for name in ["chromium-simulcast", "firefox-simulcast"] {
        let mut negotiation = joined(name);
        for round in 0..3 {
            let slot = negotiation.add_slot(MediaKind::Video, "alice", "v");
            let offer = agree(&mut negotiation).unwrap();
            assert_eq!(offer.matches(THREE_TAKEN).count(), 1, "{name} {round} {offer}");
            assert_eq!(rids(&negotiation), ["q", "h", "f"], "{name} {round}");
            let video = negotiation.uplinks().find(|uplink| uplink.kind == MediaKind::Video).unwrap();
            let kinds = [Extension::Mid, Extension::Rid, Extension::RepairedRid];
            assert!(kinds.iter().all(|kind| video.extensions.id_of(*kind).is_some()), "{name} {round}");
            negotiation.remove_slot(slot);
            agree(&mut negotiation).unwrap();
        }
        negotiation.set_local(LocalDescription { ufrag: "other".to_owned(), ..local() });
        assert!(agree(&mut negotiation).unwrap().contains(THREE_TAKEN), "{name}");
    }
}

#[test]
fn an_answer_may_send_fewer_layers() {
    for (answered, left) in [("h;~q", &["h", "q"][..]), ("q;x", &[]), ("", &[])] {
        let mut negotiation = negotiation();
        negotiation.handle_offer(&layered(THREE)).unwrap();
        negotiation.add_slot(MediaKind::Audio, "alice", "a");
        let offer = negotiation.create_offer().unwrap();
        let answer = obliging_answer(&negotiation, &offer).replace("send q;h;f", &format!("send {answered}"));
        negotiation.handle_answer(&answer).unwrap();
        assert_eq!(rids(&negotiation), left, "{answered}");
    }
}

#[test]
fn layers_come_and_go_with_the_clients_offers() {
    let mut negotiation = negotiation();
    let mut offers = |sdp: &str| {
        let answer = negotiation.handle_offer(sdp).unwrap();
        let told = answer.lines().find_map(|line| line.strip_prefix("a=simulcast:recv ")).map(str::to_owned);
        assert_eq!(answer.matches(" recv\r\n").count(), rids(&negotiation).len());
        told.unwrap_or_default()
    };
    let three = layered(THREE);
    let five = layered(&THREE.replace("a=rid:f", "a=rid:1 send\r\na=rid:2 send\r\na=rid:3 send\r\na=rid:f"));
    assert_eq!(offers(&layered("")), "");
    assert_eq!(offers(&three), "q;h;f");
    assert_eq!(offers(&three.replace("q;h;f", "q;~h;~f")), "q;~h;~f");
    assert_eq!(offers(&three), "q;h;f");
    assert_eq!(offers(&three.replace("q;h;f", "q;h")), "q;h");
    // What was agreed goes before what is new.
    assert_eq!(offers(&five.replace("q;h;f", "1;2;3;h;q")), "1;2;h;q");
    assert_eq!(offers(&three.replace("sendonly", "recvonly")), "");
    assert_eq!(offers(&five.replace("q;h;f", "1;2;3;h;q")), "1;2;3;h");
}

#[test]
fn one_layer_is_a_plain_stream() {
    let plain = (vec![], None);
    assert_eq!(taken(&layered("a=rid:q send\r\na=simulcast:send q\r\n")), plain);
    assert_eq!(taken(&layered("a=rid:q send\r\n")), plain);
    assert_eq!(taken(&layered(&THREE.replace("q;h;f", "q;x;y"))), plain);
    // Nobody could tell the layers apart without the ids in their packets.
    let three = layered(THREE);
    assert_eq!(taken(&three.replace(Extension::Rid.uri(), "urn:x")), plain);
    assert_eq!(taken(&three.replace(Extension::Mid.uri(), "urn:x")), plain);
    assert_eq!(taken(&three.replace("extmap:10", "extmap:10/recvonly")), plain);
    assert_eq!(taken(&three.replace("sendonly", "recvonly")), plain);
    assert_eq!(taken(&three.replace("VP8", "Theora")), plain);
    assert_eq!(taken(&three.replace("m=video", "m=audio").replace("VP8/90000", "opus/48000/2")), plain);
    assert_eq!(taken(&three).0, ["q", "h", "f"]);
}

#[test]
fn nonsense_about_layers_costs_only_them() {
    let all = |lines: &str| taken(&layered(lines)).1.unwrap_or_default();
    let doubled = format!("{THREE}a=rid:q send\r\na=simulcast:send f\r\n");
    assert_eq!(all(&doubled), "a=simulcast:recv q;h;f");
    assert_eq!(all(&THREE.replace("q;h;f", "f;q;f;q,h;h")), "a=simulcast:recv f;q;h");
    assert_eq!(all(&THREE.replace("q;h;f", "a;q;b;h;c")), "a=simulcast:recv q;h");
    assert_eq!(all(&THREE.replace("a=rid:q send", "a=rid:q send a=rid:x send")), "a=simulcast:recv q;h;f");
    assert_eq!(all(&THREE.replace("q;h;f", "q;h;f;a=simulcast:send,x")), "a=simulcast:recv q;h;f");
    assert_eq!(all(&THREE.replace("a=rid:h send", "a=rid:h recv")), "a=simulcast:recv q;f");
    let sixteen: Vec<String> = (0..16).map(|i| format!("r{i}")).collect();
    let lines: String = sixteen.iter().map(|rid| format!("a=rid:{rid} send\r\n")).collect();
    let list = format!("{lines}a=simulcast:send {}\r\n", sixteen.join(";"));
    assert_eq!(all(&list), "a=simulcast:recv r0;r1;r2;r3");
    assert_eq!(all(&format!("{THREE}a=simulcast:send {}\r\n", "q;".repeat(1_000))), "a=simulcast:recv q;h;f");
    let refused = negotiation().handle_offer(&layered(&"a=rid:a send\r\n".repeat(1_000))).unwrap_err();
    assert_eq!(refused, OfferError::TooLarge { what: "rid", limit: 16 });
    let refused = negotiation().handle_offer(&layered(&"a=simulcast:send q;h\r\n".repeat(5))).unwrap_err();
    assert_eq!(refused, OfferError::TooLarge { what: "simulcast", limit: 4 });
}

proptest! {
    /// Whatever is written there: at most four layers, each offered and named once, and our words are
    /// in step with the uplink.
    #[test]
    fn layers_are_few_and_the_clients_own(
        names in proptest::collection::vec("[abc~]{1,2}( send| recv|)( pt=96)?", 0..16),
        list in "(send|recv|x|) ?[abc~,;]{0,24}( send [abc;]{0,8})?",
        again in "send [abc~;]{0,24}",
    ) {
        let lines: String = names.iter().map(|name| format!("a=rid:{name}\r\n")).collect();
        let mut negotiation = negotiation();
        for list in [list, again] {
            let answer = negotiation.handle_offer(&layered(&format!("{lines}a=simulcast:{list}\r\n"))).unwrap();
            let rids = rids(&negotiation);
            prop_assert!(rids.len() <= 4 && rids.len() != 1);
            for (index, rid) in rids.iter().enumerate() {
                prop_assert!(!rids[..index].contains(rid));
                let sent = format!("{rid} send");
                prop_assert!(names.iter().any(|name| name.starts_with(&sent)) && list.contains(rid.as_str()));
                let taken = format!("a=rid:{rid} recv\r\n");
                prop_assert!(answer.contains(&taken));
            }
            let told = answer.lines().find_map(|line| line.strip_prefix("a=simulcast:recv ")).unwrap_or_default();
            prop_assert_eq!(told.replace('~', ""), rids.join(";"));
        }
    }
}

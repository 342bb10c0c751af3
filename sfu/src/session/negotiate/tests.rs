//! Real browsers' offers, and what a hostile or restless client can do with them.

mod codecs;
mod simulcast;

use std::time::Duration;

use proptest::prelude::*;
use rtc_sdp::SessionDescription;

use super::*;
use crate::ids::Pt;
use crate::media::codec::Codec;
use crate::units::Bitrate;

macro_rules! golden {
    ($($name:literal),* $(,)?) => { [$(($name, include_str!(concat!("golden/", $name, ".sdp")))),*] };
}

/// Chromium 156 and Firefox 153 ESR.
const GOLDEN: [(&str, &str); 16] = golden![
    "chromium-publish",
    "chromium-sendrecv",
    "chromium-subscribe",
    "chromium-balanced",
    "chromium-audio",
    "chromium-simulcast",
    "chromium-data",
    "chromium-pool",
    "firefox-publish",
    "firefox-sendrecv",
    "firefox-subscribe",
    "firefox-balanced",
    "firefox-audio",
    "firefox-simulcast",
    "firefox-data",
    "firefox-pool",
];

fn golden(name: &str) -> &'static str {
    GOLDEN.iter().find(|(known, _)| *known == name).expect("listed above").1
}

fn local() -> LocalDescription {
    LocalDescription {
        ufrag: "sluice".to_owned(),
        pwd: "a-password-of-22-chars".to_owned(),
        fingerprint: "sha-256 AA:BB".to_owned(),
        candidates: vec!["192.0.2.1:3478".parse().unwrap(), "[2001:db8::1]:3478".parse().unwrap()],
        publish_ceiling: None,
    }
}

fn negotiation() -> Negotiation {
    let mut seed = 0x2545_F491_4F6C_DD1D_u64;
    Negotiation::new(local(), move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 32) as u32
    })
}

fn joined(name: &str) -> Negotiation {
    let mut negotiation = negotiation();
    negotiation.handle_offer(golden(name)).unwrap();
    negotiation
}

fn mid(tag: &str) -> Mid {
    Mid::new(tag).unwrap()
}

/// A client that takes every offer of ours as it is, and keeps its certificate.
fn obliging_answer(negotiation: &Negotiation, offer: &str) -> String {
    let remote = negotiation.remote().unwrap();
    let certificate = format!("a=fingerprint:{} {}", remote.fingerprint_algorithm, remote.fingerprint);
    let swapped =
        offer.lines().filter(|line| !line.contains("ssrc") && *line != "a=ice-lite").map(|line| match line {
            "a=sendonly" => "a=recvonly".to_owned(),
            "a=recvonly" => "a=sendonly".to_owned(),
            "a=setup:actpass" => "a=setup:active".to_owned(),
            line if line.starts_with("a=fingerprint") => certificate.clone(),
            line if line.starts_with("a=extmap:") && line.contains("/recvonly ") => {
                line.replace("/recvonly ", "/sendonly ")
            }
            line if line.starts_with("a=extmap:") => line.replace("/sendonly ", "/recvonly "),
            line if line.starts_with("a=rid:") => line.replace(" recv", " send"),
            line => line.replace("a=simulcast:recv", "a=simulcast:send"),
        });
    swapped.map(|line| format!("{line}\r\n")).collect()
}

fn agree(negotiation: &mut Negotiation) -> Option<String> {
    let offer = negotiation.create_offer()?;
    let answer = obliging_answer(negotiation, &offer);
    negotiation.handle_answer(&answer).unwrap();
    Some(offer)
}

fn slot(negotiation: &Negotiation, mid: Mid) -> Downlink {
    negotiation.slots().find(|slot| slot.mid == mid).unwrap().clone()
}

/// An offer with nothing but what it must have, from its m-lines' `(kind, mid, direction)`.
fn offer(lines: &[(&str, &str, &str)]) -> String {
    let mids: Vec<&str> = lines.iter().map(|(_, mid, _)| *mid).collect();
    let mut sdp =
        format!("v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {}\r\n", mids.join(" "));
    sdp.push_str("a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\na=fingerprint:sha-256 AB:CD\r\n");
    for (kind, mid, direction) in lines {
        let rtpmap = if *kind == "audio" { "111 opus/48000/2" } else { "96 VP8/90000" };
        let (pt, _) = rtpmap.split_once(' ').unwrap();
        let port = if *direction == "stopped" { 0 } else { 9 };
        let direction = if port == 0 { "inactive" } else { direction };
        sdp.push_str(&format!("m={kind} {port} UDP/TLS/RTP/SAVPF {pt}\r\na=mid:{mid}\r\na={direction}\r\n"));
        sdp.push_str(&format!("a=rtcp-mux\r\na=rtpmap:{rtpmap}\r\n"));
    }
    sdp
}

#[test]
fn golden_offers_get_answers_that_fit_them() {
    for (name, offer) in GOLDEN {
        let mut negotiation = negotiation();
        let answer = negotiation.handle_offer(offer).unwrap();
        let theirs = RemoteDescription::parse(offer).unwrap();
        let ours = RemoteDescription::parse(&answer).unwrap();
        SessionDescription::unmarshal(&mut std::io::Cursor::new(answer.as_bytes())).unwrap();
        assert_eq!(ours.media.len(), theirs.media.len(), "{name}");
        assert!(ours.bundle.iter().all(|mid| theirs.bundle.contains(mid)), "{name}");
        assert!(answer.contains("a=ice-lite") && !answer.contains("actpass"), "{name}");
        for (ours, theirs) in ours.media.iter().zip(&theirs.media) {
            assert_eq!(
                (ours.mid, &ours.name, &ours.protos),
                (theirs.mid, &theirs.name, &theirs.protos),
                "{name}"
            );
            assert_eq!(ours.live, theirs.kind.is_some() || theirs.messages.is_some(), "{name}");
            assert!(ours.formats.iter().all(|pt| theirs.formats.contains(pt)), "{name}");
            for extension in &ours.extensions {
                assert!(
                    theirs.extensions.iter().any(|t| t.id == extension.id && t.kind == extension.kind),
                    "{name}"
                );
            }
            assert!((!ours.sends || theirs.receives) && (!ours.receives || theirs.sends), "{name}");
        }
        let live = ours.media.iter().filter(|media| media.live).count();
        assert_eq!(answer.matches("a=setup:passive").count(), live, "{name}");
        assert_eq!(answer.matches("a=end-of-candidates").count(), usize::from(live > 0), "{name}");
        let layered = usize::from(offer.contains("a=simulcast:"));
        assert_eq!(answer.matches("a=simulcast:recv q;h;f\r\n").count(), layered, "{name}");
        assert_eq!(answer.matches("a=rid:").count(), 3 * layered, "{name}");
    }
}

#[test]
fn a_publisher_is_heard_as_it_offered() {
    let negotiation = joined("chromium-publish");
    let uplinks: Vec<&Uplink> = negotiation.uplinks().collect();
    let [audio, video] = uplinks[..] else { panic!("{uplinks:?}") };
    assert_eq!((audio.mid, audio.kind, audio.index), (mid("0"), MediaKind::Audio, 0));
    assert_eq!(audio.codecs[0].fmtp, "minptime=10;useinbandfec=1");
    assert_eq!(
        (video.codecs[0].codec, video.codecs[0].pt, video.codecs[0].rtx),
        (Codec::Vp8, Pt(96), Some(Pt(97)))
    );
    assert_eq!(video.ssrcs.len(), 1);
    assert!(
        video.ssrcs[0].rtx.is_some() && video.nack && video.remb && video.twcc && audio.twcc && !audio.nack
    );
    assert_eq!(video.extensions.id_of(Extension::VideoOrientation), Some(13));
    assert_eq!(video.extensions.kind_of(3), Some(Extension::TransportCc));
    assert!(video.extensions.two_byte());
    assert_eq!(video.msid.as_ref().map(|(stream, _)| stream), audio.msid.as_ref().map(|(stream, _)| stream));
    assert_eq!(negotiation.slots().count(), 0);
    assert_eq!(negotiation.remote().unwrap().fingerprint_algorithm, "sha-256");
}

#[test]
fn slots_a_client_offers_are_named_for_lip_sync_and_keep_their_ssrcs() {
    let mut negotiation = negotiation();
    let answer = negotiation.handle_offer(golden("firefox-subscribe")).unwrap();
    for line in ["slot-0 slot-0-audio", "slot-0 slot-0-video", "slot-1 slot-1-audio", "slot-1 slot-1-video"] {
        assert_eq!(answer.matches(&format!("a=msid:{line}\r\n")).count(), 1, "{line}");
    }
    assert!(negotiation.slots().all(|slot| slot.agreed && slot.active && slot.origin == Origin::Client));
    let before: Vec<Ssrc> = negotiation.slots().map(|slot| slot.ssrc).collect();
    negotiation.handle_offer(golden("firefox-subscribe")).unwrap();
    assert_eq!(negotiation.slots().map(|slot| slot.ssrc).collect::<Vec<_>>(), before);
    assert!(negotiation.slots().all(|slot| slot.rtx.is_some() == (slot.kind == MediaKind::Video)));
    // Firefox limits this one to its receiving side.
    assert!(
        answer.contains("a=extmap:6/sendonly http://www.webrtc.org/experiments/rtp-hdrext/playout-delay")
    );
}

#[test]
fn data_channels_are_served() {
    for (name, most) in [("firefox-balanced", 1_073_741_823), ("chromium-data", 262_144)] {
        let mut negotiation = negotiation();
        let answer = negotiation.handle_offer(golden(name)).unwrap();
        assert_eq!(negotiation.rejected(), [], "{name}");
        assert_eq!(negotiation.messages(), Some(most), "{name}");
        let (_, line) = answer.split_once("m=application ").unwrap();
        assert!(line.starts_with("9 UDP/DTLS/SCTP webrtc-datachannel\r\n"), "{line}");
        assert!(
            line.contains("\r\na=sctp-port:5000\r\n") && line.contains("\r\na=max-message-size:65536\r\n")
        );
        let line = line.split("m=").next().unwrap();
        assert!(!line.contains("rtcp-mux") && !line.contains("a=inactive"), "{line}");
    }
}

const DATA: &str = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\na=ice-ufrag:abcd\r\n\
    a=ice-pwd:abcdefghijklmnopqrstuv\r\na=fingerprint:sha-256 AB:CD\r\n\
    m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=sctp-port:5000\r\n";

#[test]
fn a_data_channel_line_says_how_or_is_rejected() {
    let offered = |sdp: &str| {
        let mut negotiation = negotiation();
        let answer = negotiation.handle_offer(sdp).unwrap();
        let rejected = negotiation.rejected() == [(mid("0"), Rejection::DataChannel)];
        assert_eq!(rejected, negotiation.messages().is_none());
        assert_eq!(rejected, answer.contains("m=application 0 "), "{answer}");
        negotiation.messages()
    };
    assert_eq!(offered(DATA), Some(65_536), "RFC 8841 §6.1");
    assert_eq!(offered(&format!("{DATA}a=max-message-size:0\r\n")), Some(u64::MAX));
    assert_eq!(offered(&format!("{DATA}a=max-message-size:7\r\n")), Some(7));
    assert_eq!(offered(&format!("{DATA}a=max-message-size:x\r\n")), None);
    assert_eq!(offered(&DATA.replace("a=sctp-port:5000\r\n", "")), None);
    assert_eq!(offered(&DATA.replace("sctp-port:5000", "sctp-port:0")), None);
    assert_eq!(offered(&DATA.replace("sctp-port:5000", "sctp-port:70000")), None);
    assert_eq!(offered(&DATA.replace("UDP/DTLS/SCTP", "TCP/DTLS/SCTP")), None);
    assert_eq!(offered(&DATA.replace("UDP/DTLS/SCTP webrtc-datachannel", "DTLS/SCTP 5000")), None);
    assert_eq!(offered(&DATA.replace("webrtc-datachannel", "other")), None);
}

#[test]
fn one_line_of_data_channels_and_only_if_the_host_wants_them() {
    let second = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\na=sctp-port:5000\r\n";
    let both = format!("{}{second}", DATA.replace("BUNDLE 0", "BUNDLE 0 1"));
    let mut served = negotiation();
    served.handle_offer(&both).unwrap();
    assert_eq!(served.rejected(), [(mid("1"), Rejection::DataChannel)]);
    assert!(served.messages().is_some());

    let mut refusing = negotiation();
    refusing.refuse_channels();
    refusing.handle_offer(DATA).unwrap();
    assert_eq!(refusing.rejected(), [(mid("0"), Rejection::DataChannel)]);
}

#[test]
fn renegotiation_keeps_data_channels() {
    let mut negotiation = joined("chromium-data");
    negotiation.handle_offer(golden("chromium-data")).unwrap();
    assert!(negotiation.messages().is_some());
    negotiation.add_slot(MediaKind::Audio, "ada", "microphone");
    let offer = agree(&mut negotiation).unwrap();
    assert!(offer.contains("m=application 9 ") && offer.contains("a=setup:actpass"), "{offer}");
    assert!(negotiation.messages().is_some());
}

#[test]
fn an_unknown_medium_or_codec_costs_only_its_line() {
    let mut sdp =
        offer(&[("audio", "a", "sendonly"), ("video", "v", "sendonly"), ("hologram", "h", "sendonly")]);
    sdp = sdp.replace("VP8", "Theora");
    let mut negotiation = negotiation();
    let answer = negotiation.handle_offer(&sdp).unwrap();
    assert_eq!(negotiation.rejected(), [(mid("v"), Rejection::NoCodec), (mid("h"), Rejection::UnknownMedia)]);
    assert!(answer.contains("m=hologram 0 UDP/TLS/RTP/SAVPF 96\r\n"));
    assert!(answer.contains("a=group:BUNDLE a\r\n"));
    assert_eq!(negotiation.uplinks().count(), 1);
}

#[test]
fn the_ceiling_is_told_once() {
    let mut negotiation = negotiation();
    negotiation.set_local(LocalDescription { publish_ceiling: Some(Bitrate::kbps(1500)), ..local() });
    let answer = negotiation.handle_offer(golden("chromium-publish")).unwrap();
    assert_eq!(answer.matches("b=AS:1500\r\nb=TIAS:1500000\r\n").count(), 1);
    assert!(!negotiation.handle_offer(golden("chromium-publish")).unwrap().contains("b="));
}

#[test]
fn each_description_has_a_new_version() {
    let mut negotiation = negotiation();
    let version = |sdp: &str| sdp.lines().nth(1).unwrap().split(' ').nth(2).unwrap().parse::<u64>().unwrap();
    assert_eq!(version(&negotiation.handle_offer(golden("chromium-audio")).unwrap()), 1);
    negotiation.add_slot(MediaKind::Audio, "alice", "a");
    assert_eq!(version(&negotiation.create_offer().unwrap()), 2);
}

#[test]
fn who_sends_nothing_may_learn_how_long_the_way_is() {
    let offer = offer(&[("video", "a", "recvonly"), ("video", "b", "recvonly"), ("video", "c", "recvonly")]);
    let offer = offer.replace("a=mid:a", "a=rtcp-xr:pkt-loss-rle rcvr-rtt=all:100\r\na=mid:a");
    let offer = offer.replace("a=mid:b", "a=rtcp-xr:stat-summary=loss\r\na=mid:b");
    let mut negotiation = negotiation();
    let answer = negotiation.handle_offer(&offer).unwrap();
    let told: Vec<bool> =
        answer.split("\r\nm=").skip(1).map(|line| line.contains("a=rtcp-xr:rcvr-rtt=all\r\n")).collect();
    assert_eq!(told, [true, false, false]);
    negotiation.add_slot(MediaKind::Video, "alice", "v");
    assert_eq!(
        negotiation.create_offer().unwrap().matches("a=rtcp-xr:rcvr-rtt=all").count(),
        2,
        "our line, too"
    );
}

#[test]
fn offers_are_refused_for_exact_reasons() {
    let good = offer(&[("audio", "a", "sendonly"), ("video", "v", "recvonly")]);
    let refused = |bad: &str| negotiation().handle_offer(bad).unwrap_err();
    assert!(negotiation().handle_offer(&good).is_ok());
    assert_eq!(refused("v=0\r\n"), OfferError::NoMedia);
    assert_eq!(refused("hello"), OfferError::Malformed { line: 1, what: "v=0 first" });
    assert_eq!(refused(&good.replace("BUNDLE a v", "BUNDLE a")), OfferError::NotBundled { mid: mid("v") });
    assert_eq!(refused(&good.replacen("a=rtcp-mux\r\n", "", 1)), OfferError::NoRtcpMux { mid: mid("a") });
    assert_eq!(refused(&good.replace("a=mid:v", "a=mid:a")), OfferError::DuplicateMid { mid: mid("a") });
    assert_eq!(refused(&good.replace("a=mid:v\r\n", "")), OfferError::BadMid { index: 1 });
    assert_eq!(refused(&good.replace("a=fingerprint", "a=footprint")), OfferError::MissingFingerprint);
    assert_eq!(refused(&good.replace("a=ice-pwd", "a=ice-pw")), OfferError::IceCredentials);
    assert_eq!(refused(&good.replace(":abcdefghijklmnopqrstuv", ":short")), OfferError::IceCredentials);
    assert_eq!(refused(&good.replace("a=mid:a", "a=mid:a\r\na=setup:passive")), OfferError::SetupPassive);
}

#[test]
fn agreed_lines_keep_their_place() {
    let mut negotiation = negotiation();
    let (audio, video) = (("audio", "a", "sendonly"), ("video", "v", "sendonly"));
    negotiation.handle_offer(&offer(&[audio, video])).unwrap();
    let before = negotiation.agreed.clone();
    let moved = OfferError::LineOrder { mid: mid("a") };
    assert_eq!(negotiation.handle_offer(&offer(&[video, audio])).unwrap_err(), moved);
    assert_eq!(
        negotiation.handle_offer(&offer(&[audio])).unwrap_err(),
        OfferError::LineOrder { mid: mid("v") }
    );
    assert_eq!(negotiation.agreed, before);
    // Once stopped, the place is free for another mid and kind.
    negotiation.handle_offer(&offer(&[("audio", "a", "stopped"), video])).unwrap();
    assert_eq!(negotiation.uplinks().count(), 1);
    negotiation.handle_offer(&offer(&[("video", "w", "recvonly"), video])).unwrap();
    assert_eq!(slot(&negotiation, mid("w")).index, 0);
}

#[test]
fn directions_follow_the_client() {
    let mut negotiation = negotiation();
    let mut flows = |direction| {
        let answer = negotiation.handle_offer(&offer(&[("video", "v", direction)])).unwrap();
        let sent = negotiation.slots().filter(|slot| slot.agreed && slot.active).count();
        (negotiation.uplinks().count(), sent, answer.contains("a=msid:"))
    };
    assert_eq!(flows("sendonly"), (1, 0, false));
    assert_eq!(flows("sendrecv"), (1, 1, true));
    assert_eq!(flows("recvonly"), (0, 1, true));
    assert_eq!(flows("inactive"), (0, 0, false));
    assert_eq!(flows("stopped"), (0, 0, false));
}

#[test]
fn a_slot_of_ours_is_offered_with_the_clients_numbers() {
    let mut negotiation = joined("firefox-publish");
    assert_eq!(negotiation.create_offer(), None);
    let audio = negotiation.add_slot(MediaKind::Audio, "alice", "alice-audio");
    let video = negotiation.add_slot(MediaKind::Video, "alice\r\na=evil", "alice-video");
    assert!(!slot(&negotiation, video).agreed);
    let offer = negotiation.create_offer().unwrap();
    assert!(offer.contains("m=audio 9 UDP/TLS/RTP/SAVPF 109\r\n"));
    assert!(offer.contains("m=video 9 UDP/TLS/RTP/SAVPF 120 124 121 125 99 100\r\n"));
    assert!(
        offer
            .contains("a=extmap:7 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01")
    );
    assert!(offer.contains("a=msid:alice__a_evil alice-video\r\n"));
    assert!(offer.contains("a=group:BUNDLE 0 1 s0 s1\r\n") && !offer.contains("a=setup:passive"));
    assert_eq!(negotiation.create_offer(), None);
    assert_eq!(negotiation.handle_offer(golden("firefox-publish")), Err(OfferError::Glare));
    negotiation.handle_answer(&obliging_answer(&negotiation, &offer)).unwrap();
    assert!(slot(&negotiation, audio).agreed && slot(&negotiation, video).rtx.is_some());
    assert_eq!((slot(&negotiation, video).index, negotiation.uplinks().count()), (3, 2));
    assert_eq!(negotiation.create_offer(), None);
    assert_eq!(negotiation.handle_answer("v=0"), Err(AnswerError::NoOfferPending));
}

#[test]
fn names_are_never_announced_twice() {
    let mut negotiation = joined("chromium-audio");
    for kind in [MediaKind::Audio, MediaKind::Video] {
        negotiation.add_slot(kind, "alice", "track");
    }
    let offer = negotiation.create_offer().unwrap();
    assert!(offer.contains("a=msid:alice track\r\n") && offer.contains("a=msid:alice track-s1\r\n"));
}

/// Chromium could otherwise not offer simulcast later.
#[test]
fn every_video_line_agrees_on_rid() {
    let mut negotiation = joined("chromium-audio");
    let video = negotiation.add_slot(MediaKind::Video, "alice", "v");
    let audio = negotiation.add_slot(MediaKind::Audio, "alice", "a");
    agree(&mut negotiation).unwrap();
    assert_eq!(slot(&negotiation, video).extensions.id_of(Extension::Rid), Some(10));
    assert_eq!(slot(&negotiation, video).extensions.id_of(Extension::RepairedRid), Some(11));
    assert_eq!(slot(&negotiation, audio).extensions.id_of(Extension::Rid), None);
    assert!(
        joined("chromium-subscribe").slots().any(|slot| slot.extensions.id_of(Extension::Rid) == Some(10))
    );
}

#[test]
fn our_defaults_stay_clear_of_the_clients_numbers() {
    let mut negotiation = negotiation();
    let audio = offer(&[("audio", "a", "sendonly")]).replace("111", "96");
    negotiation.handle_offer(&audio.replace("a=mid:a", "a=mid:a\r\na=extmap:1 urn:unknown")).unwrap();
    let video = negotiation.add_slot(MediaKind::Video, "alice", "v");
    agree(&mut negotiation);
    let slot = slot(&negotiation, video);
    assert_eq!((slot.codecs[0].pt, slot.codecs[0].rtx), (Pt(97), Some(Pt(98))));
    assert_eq!(slot.extensions.kind_of(1), None);
    assert!(slot.twcc && slot.agreed);
}

#[test]
fn a_client_may_decline_a_slot_and_is_not_asked_again() {
    let mut negotiation = joined("chromium-audio");
    let video = negotiation.add_slot(MediaKind::Video, "alice", "v");
    let offer = negotiation.create_offer().unwrap();
    negotiation
        .handle_answer(&obliging_answer(&negotiation, &offer).replace("a=recvonly", "a=inactive"))
        .unwrap();
    assert_eq!(negotiation.rejected(), [(video, Rejection::Declined)]);
    assert!(!slot(&negotiation, video).agreed);
    assert_eq!(negotiation.create_offer(), None);
}

#[test]
fn a_line_the_client_stops_takes_its_slot_along_and_is_recycled() {
    let mut negotiation = joined("chromium-audio");
    let first = negotiation.add_slot(MediaKind::Video, "alice", "v");
    let offer = negotiation.create_offer().unwrap();
    negotiation
        .handle_answer(&obliging_answer(&negotiation, &offer).replace("m=video 9", "m=video 0"))
        .unwrap();
    assert_eq!(negotiation.rejected(), [(first, Rejection::Stopped)]);
    assert_eq!(negotiation.slots().count(), 0);
    let second = negotiation.add_slot(MediaKind::Audio, "alice", "a");
    assert_ne!(first, second);
    agree(&mut negotiation);
    assert_eq!(slot(&negotiation, second).index, 1);
}

#[test]
fn answers_are_refused_for_exact_reasons() {
    let mut negotiation = joined("chromium-audio");
    negotiation.add_slot(MediaKind::Video, "alice", "v");
    let offer = negotiation.create_offer().unwrap();
    let good = obliging_answer(&negotiation, &offer);
    let mut refused = |bad: &str| negotiation.handle_answer(bad).unwrap_err();
    assert_eq!(refused(&good.replace("a=mid:s0", "a=mid:s1")), AnswerError::LineMismatch { index: 1 });
    assert_eq!(refused(&good.replace("m=video", "m=audio")), AnswerError::LineMismatch { index: 1 });
    let (short, _) = good.split_once("m=video").unwrap();
    assert_eq!(refused(short), AnswerError::LineCount { offered: 2, answered: 1 });
    let stranger = good.replace("a=fingerprint:sha-256 ", "a=fingerprint:sha-256 00:");
    assert_eq!(refused(&stranger), AnswerError::FingerprintChanged);
    assert_eq!(refused(&good.replace("BUNDLE 0 s0", "BUNDLE 0")), AnswerError::NotBundled { mid: mid("s0") });
    assert_eq!(negotiation.handle_answer(&good), Ok(()));
}

/// What `webrtc` 0.21 and Pion say to any ICE-lite offer, though they are the client of the association.
#[test]
fn a_passive_answer_does_not_turn_an_association_around() {
    let mut negotiation = joined("chromium-audio");
    negotiation.add_slot(MediaKind::Video, "alice", "v");
    let offer = negotiation.create_offer().unwrap();
    let answer = obliging_answer(&negotiation, &offer).replace("setup:active", "setup:passive");
    assert_eq!(negotiation.handle_answer(&answer), Ok(()));
}

#[test]
fn slots_come_and_go_on_a_bounded_number_of_lines() {
    let mut negotiation = joined("chromium-publish");
    let mut slots = Vec::new();
    for round in 0..50 {
        for kind in [MediaKind::Audio, MediaKind::Video] {
            slots.push(negotiation.add_slot(kind, &format!("peer-{round}"), kind.as_str()));
        }
        agree(&mut negotiation).unwrap();
        assert!(negotiation.slots().filter(|slot| slot.active).all(|slot| slot.agreed));
        for mid in slots.drain(..) {
            negotiation.remove_slot(mid);
        }
        let offer = agree(&mut negotiation).unwrap();
        assert_eq!(offer.matches("a=inactive").count(), 2);
        assert_eq!(negotiation.slots().filter(|slot| slot.agreed).count(), 0);
        assert_eq!(negotiation.agreed.sections.len(), 4);
    }
    assert_eq!(negotiation.uplinks().count(), 2);
}

#[test]
fn wishes_made_while_an_offer_is_pending_are_told_by_the_next() {
    let mut negotiation = joined("chromium-audio");
    let first = negotiation.add_slot(MediaKind::Video, "alice", "v");
    let offer = negotiation.create_offer().unwrap();
    negotiation.remove_slot(first);
    let second = negotiation.add_slot(MediaKind::Video, "bob", "v");
    assert_ne!(first, second);
    negotiation.handle_answer(&obliging_answer(&negotiation, &offer)).unwrap();
    let offer = agree(&mut negotiation).unwrap();
    assert!(offer.contains("a=msid:bob v") && !offer.contains("a=msid:alice v"));
    assert!(slot(&negotiation, second).agreed && !slot(&negotiation, first).agreed);
    assert_eq!(negotiation.add_slot(MediaKind::Video, "carol", "v"), first);
    assert_eq!(negotiation.slots().count(), 2);
}

#[test]
fn an_offer_rolled_back_is_made_again() {
    let mut negotiation = joined("chromium-audio");
    let kept = negotiation.add_slot(MediaKind::Video, "alice", "v");
    let dropped = negotiation.add_slot(MediaKind::Video, "bob", "v");
    negotiation.create_offer().unwrap();
    negotiation.remove_slot(dropped);
    negotiation.rollback();
    assert!(negotiation.handle_offer(golden("chromium-audio")).is_ok());
    agree(&mut negotiation).unwrap();
    assert!(slot(&negotiation, kept).agreed);
    assert_eq!(negotiation.slots().count(), 1);
}

#[test]
fn a_client_may_publish_on_a_line_of_ours() {
    // `addTrack` reuses the transceiver that our offer made.
    let mut negotiation = negotiation();
    let audio = ("audio", "a", "sendonly");
    negotiation.handle_offer(&offer(&[audio])).unwrap();
    let ours = negotiation.add_slot(MediaKind::Video, "alice", "v");
    agree(&mut negotiation).unwrap();
    negotiation.handle_offer(&offer(&[audio, ("video", "s0", "sendrecv")])).unwrap();
    assert_eq!(negotiation.uplinks().count(), 2);
    assert!(slot(&negotiation, ours).agreed);
    negotiation.remove_slot(ours);
    let offer = agree(&mut negotiation).unwrap();
    assert_eq!(offer.matches("a=recvonly").count(), 2);
    assert_eq!(negotiation.uplinks().count(), 2);
}

#[test]
fn a_client_offer_tells_a_removed_slot_too() {
    let mut negotiation = negotiation();
    let audio = ("audio", "a", "sendonly");
    negotiation.handle_offer(&offer(&[audio])).unwrap();
    let ours = negotiation.add_slot(MediaKind::Video, "alice", "v");
    agree(&mut negotiation).unwrap();
    negotiation.remove_slot(ours);
    let answer = negotiation.handle_offer(&offer(&[audio, ("video", "s0", "recvonly")])).unwrap();
    assert!(answer.contains("a=inactive"));
    assert_eq!(negotiation.create_offer(), None);
    assert_eq!(negotiation.add_slot(MediaKind::Video, "bob", "v"), ours);
}

#[test]
fn mids_and_ssrcs_stay_clear_of_the_clients() {
    let mut negotiation = Negotiation::new(local(), || 7);
    let theirs = "a=mid:s0\r\na=ssrc:7 cname:x\r\na=ssrc:8 cname:x";
    negotiation.handle_offer(&offer(&[("video", "s0", "sendrecv")]).replace("a=mid:s0", theirs)).unwrap();
    assert_eq!(negotiation.add_slot(MediaKind::Audio, "a", "a"), mid("s1"));
    let ssrcs: Vec<u32> = negotiation.slots().map(|slot| slot.ssrc.0).collect();
    assert_eq!(ssrcs, [9, 11]);
}

#[test]
fn an_ice_restart_is_seen_and_answered() {
    let mut negotiation = joined("chromium-audio");
    let again = golden("chromium-audio");
    assert!(!negotiation.is_restart(&negotiation.read_offer(again).unwrap()));
    let ufrag = negotiation.remote().unwrap().ufrag.clone();
    let restart = again.replace(&format!("a=ice-ufrag:{ufrag}"), "a=ice-ufrag:fresh");
    assert!(negotiation.is_restart(&negotiation.read_offer(&restart).unwrap()));
    negotiation.set_local(LocalDescription { ufrag: "other".to_owned(), ..local() });
    assert!(negotiation.handle_offer(&restart).unwrap().contains("a=ice-ufrag:other"));
    assert!(negotiation.remote_restarted());
    assert_eq!(negotiation.create_offer(), None);
    negotiation.handle_offer(&restart).unwrap();
    assert!(!negotiation.remote_restarted());
    negotiation.set_local(LocalDescription { ufrag: "third".to_owned(), ..local() });
    assert!(agree(&mut negotiation).unwrap().contains("a=ice-ufrag:third"));
}

#[test]
fn bombs_are_refused_by_counting() {
    let head = offer(&[("audio", "a", "sendonly")]);
    let many = |line: &str, count: usize| format!("{head}{}", line.repeat(count));
    let bombs = [
        (many("m=audio 9 A 0\r\n", 10_000), "m-lines"),
        (many("a=candidate:1\r\n", 10_000), "candidates"),
        (many("a=extmap:1 u\r\n", 10_000), "extmap"),
        (many("a=rid:a send\r\n", 1_000), "rid"),
        (many("a=ssrc:1 x\r\n", 5_000), "ssrc"),
        (many("a=rtcp-fb:1 x\r\n", 10_000), "rtcp-fb"),
        (many("a=mid:x\r\n", 2), "mid"),
        (format!("{head}m=audio 9 A{}\r\n", " 1".repeat(1_000)), "formats of an m-line"),
        (format!("{head}a=group:BUNDLE{}\r\n", " x".repeat(32_000)), "bytes in a line"),
        (many("a=x\r\n", 32_000).replace("a=x", "a=twelve-more"), "bytes"),
        (many("\r\n", 60_000), "line ends"),
        (many("a=candidate:1 1 udp 1 192.0.2.1 1 typ host\r\n", 230_000), "bytes"),
    ];
    for (bomb, word) in bombs {
        let refused = negotiation().handle_offer(&bomb).unwrap_err();
        assert!(matches!(refused, OfferError::TooLarge { what, .. } if what == word), "{word}: {refused}");
    }
}

/// The lines are cheap to count and the largest description that passes is bounded; a release build
/// needs a tenth of this.
#[test]
#[expect(clippy::disallowed_methods, reason = "measures the parser itself")]
fn refusing_and_reading_stay_quick() {
    let filler = "a=x\r\n".repeat(50_000);
    let bombs = [
        format!("v=0\r\n{filler}"),
        format!("v=0\r\n{}{filler}", "m=audio 9 A 0\r\n".repeat(60)),
        format!("v=0\r\n{}", "a=extmap:1 u\r\n".repeat(10_000)),
        format!("v=0\r\n{}", "\n".repeat(250_000)),
    ];
    for bomb in bombs {
        let began = std::time::Instant::now();
        assert!(negotiation().handle_offer(&bomb).is_err());
        assert!(
            began.elapsed() < Duration::from_millis(500),
            "{} bytes took {:?}",
            bomb.len(),
            began.elapsed()
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Lines dropped, doubled, swapped, cut and overwritten: never a panic, and nothing half taken.
    #[test]
    fn mutated_offers_are_taken_whole_or_not_at_all(
        which in 0..GOLDEN.len() - 1,
        edits in proptest::collection::vec((0_u8..6, any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<char>()), 1..12),
        joined_before in any::<bool>(),
    ) {
        let mut lines: Vec<String> = GOLDEN[which].1.lines().map(str::to_owned).collect();
        for (edit, at, other, c) in edits {
            let (at, other) = (at.index(lines.len()), other.index(lines.len()));
            match edit {
                0 if lines.len() > 1 => drop(lines.remove(at)),
                1 => lines.insert(at, lines[other].clone()),
                2 => lines.swap(at, other),
                3 => lines[at] = lines[at].chars().take(other % 40).collect(),
                4 => lines[at].push(c),
                _ => lines[at] = lines[at].replace(['0', '1', '9'], &c.to_string()),
            }
        }
        let sdp = lines.join("\r\n");
        let mut negotiation = negotiation();
        if joined_before {
            negotiation.handle_offer(GOLDEN[which].1).unwrap();
            negotiation.add_slot(MediaKind::Video, "alice", "v");
        }
        let before = negotiation.agreed.clone();
        match negotiation.handle_offer(&sdp) {
            Ok(answer) => {
                let ours = RemoteDescription::parse(&answer).unwrap();
                prop_assert_eq!(ours.media.len(), negotiation.agreed.sections.len());
            }
            Err(_) => prop_assert_eq!(&negotiation.agreed, &before),
        }
        if let Some(offer) = negotiation.create_offer() {
            let before = negotiation.agreed.clone();
            if negotiation.handle_answer(&sdp).is_err() {
                prop_assert_eq!(&negotiation.agreed, &before);
                // The offer stands: what a willing client makes of it is taken, unless its own last words were unusable.
                prop_assert!(RemoteDescription::parse(&offer).is_ok());
            }
        }
    }

    /// The host and the client do as they like, in any order; the state stays in step.
    #[test]
    fn any_sequence_of_wishes_and_offers_keeps_in_step(steps in proptest::collection::vec((0_u8..7, any::<bool>()), 1..60)) {
        let mut negotiation = joined("chromium-simulcast");
        let mut slots: Vec<Mid> = Vec::new();
        let mut pending: Option<String> = None;
        for (step, flag) in steps {
            match step {
                0 | 1 => {
                    let kind = if flag { MediaKind::Audio } else { MediaKind::Video };
                    slots.push(negotiation.add_slot(kind, "peer", "track"));
                }
                2 => if let Some(mid) = slots.pop() { negotiation.remove_slot(mid) },
                3 => if pending.is_none() { pending = negotiation.create_offer() },
                4 | 5 => if let Some(offer) = pending.take() {
                    negotiation.handle_answer(&obliging_answer(&negotiation, &offer)).unwrap();
                },
                _ => if pending.take().is_some() { negotiation.rollback() },
            }
            let mids: Vec<Mid> = negotiation.slots().map(|slot| slot.mid).collect();
            prop_assert!(slots.iter().all(|mid| mids.contains(mid)));
            prop_assert_eq!(negotiation.uplinks().map(|uplink| uplink.rids.len()).max(), Some(3));
            let mut distinct: Vec<u32> = negotiation.agreed.ssrcs().map(|ssrc| ssrc.0).collect();
            let count = distinct.len();
            distinct.sort_unstable();
            distinct.dedup();
            prop_assert_eq!(distinct.len(), count);
        }
        if let Some(offer) = pending { negotiation.handle_answer(&obliging_answer(&negotiation, &offer)).unwrap() }
        while agree(&mut negotiation).is_some() {}
        for slot in negotiation.slots() {
            prop_assert_eq!(slot.agreed, slots.contains(&slot.mid), "{:?}", slot);
        }
    }
}

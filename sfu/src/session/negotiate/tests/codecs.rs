//! Which codecs an m-line comes to have, under whose numbers and with which parameters.

use super::*;
use crate::media::codec::H264Profile;

/// One line of an offer in which each `(type, encoding, parameters)` is a codec with all the feedback of video.
fn line(kind: &str, tag: &str, direction: &str, codecs: &[(u8, &str, &str)]) -> String {
    let types: Vec<String> = codecs.iter().map(|(pt, _, _)| pt.to_string()).collect();
    let mut sdp =
        format!("m={kind} 9 UDP/TLS/RTP/SAVPF {}\r\na=mid:{tag}\r\na={direction}\r\n", types.join(" "));
    sdp.push_str("a=rtcp-mux\r\na=rtcp-fb:* transport-cc\r\na=rtcp-fb:* nack\r\na=rtcp-fb:* nack pli\r\n");
    for (pt, encoding, fmtp) in codecs {
        sdp.push_str(&format!("a=rtpmap:{pt} {encoding}\r\n"));
        if !fmtp.is_empty() {
            sdp.push_str(&format!("a=fmtp:{pt} {fmtp}\r\n"));
        }
    }
    sdp
}

fn offer_of(tags: &str, lines: &[String]) -> String {
    let head = offer(&[]).replace("a=group:BUNDLE ", &format!("a=group:BUNDLE {tags}"));
    format!("{head}{}", lines.concat())
}

fn codecs(bindings: &[CodecBinding]) -> Vec<(Codec, u8)> {
    bindings.iter().map(|binding| (binding.codec, binding.pt.0)).collect()
}

fn h264(profile: H264Profile, mode: u8) -> Codec {
    Codec::H264 { profile, mode }
}

/// All attribute lines of one name, in order.
fn lines_for<'a>(sdp: &'a str, key: &str) -> Vec<&'a str> {
    let key = format!("a={key}:");
    sdp.lines().filter(|line| line.starts_with(&key)).collect()
}

#[test]
fn every_variant_that_chromium_names_has_its_binding_in_its_order() {
    let mut negotiation = negotiation();
    let answer = negotiation.handle_offer(golden("chromium-subscribe")).unwrap();
    let video = negotiation.slots().find(|slot| slot.kind == MediaKind::Video).unwrap();
    let (vp9, av1) = (|profile| Codec::Vp9 { profile }, |profile| Codec::Av1 { profile });
    let expected = [
        (Codec::Vp8, 96),
        (vp9(0), 98),
        (vp9(2), 100),
        (vp9(1), 35),
        (vp9(3), 37),
        (h264(H264Profile::Baseline, 1), 102),
        (h264(H264Profile::Baseline, 0), 104),
        (h264(H264Profile::ConstrainedBaseline, 1), 108),
        (h264(H264Profile::ConstrainedBaseline, 0), 114),
        (h264(H264Profile::Main, 1), 116),
        (h264(H264Profile::Main, 0), 39),
        (h264(H264Profile::High444, 1), 41),
        (h264(H264Profile::High444, 0), 43),
        (av1(0), 45),
        (av1(1), 47),
    ];
    assert_eq!(codecs(&video.codecs), expected);
    assert!(video.codecs.iter().all(|binding| binding.rtx.is_some() && binding.feedback.pli));
    // What we write is what Chromium would: only the codecs it named and we do not know are missing.
    let theirs = lines_for(golden("chromium-subscribe"), "fmtp");
    assert!(lines_for(&answer, "fmtp").iter().all(|line| theirs.contains(line)), "{answer}");
    let audio = negotiation.slots().find(|slot| slot.kind == MediaKind::Audio).unwrap();
    assert_eq!(codecs(&audio.codecs), [(Codec::Opus, 111), (Codec::Red, 63)]);
}

#[test]
fn an_offer_of_ours_repeats_what_the_client_named() {
    let mut negotiation = joined("chromium-publish");
    let named: Vec<CodecBinding> = negotiation.uplinks().flat_map(|uplink| uplink.codecs.to_vec()).collect();
    negotiation.add_slot(MediaKind::Audio, "alice", "a");
    negotiation.add_slot(MediaKind::Video, "alice", "v");
    let ours = RemoteDescription::parse(&negotiation.create_offer().unwrap()).unwrap();
    let offered: Vec<CodecBinding> = ours.media[2..].iter().flat_map(CodecBinding::of).collect();
    let told = |bindings: &[CodecBinding]| -> Vec<_> {
        bindings.iter().map(|b| (b.codec, b.pt, b.rtx, b.fmtp.clone())).collect()
    };
    assert_eq!(told(&offered), told(&named));
    assert!(offered.iter().any(|binding| binding.codec == Codec::Red));
}

#[test]
fn codecs_nobody_named_are_not_offered() {
    let mut negotiation = negotiation();
    negotiation.handle_offer(&offer(&[("audio", "a", "sendonly")])).unwrap();
    negotiation.add_slot(MediaKind::Video, "alice", "v");
    negotiation.add_slot(MediaKind::Audio, "alice", "a");
    let offer = negotiation.create_offer().unwrap();
    assert!(offer.contains("m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\n"), "{offer}");
    assert_eq!(offer.matches("m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n").count(), 2, "{offer}");
}

#[test]
fn an_h264_client_is_answered_in_its_profile_and_can_still_be_shown_vp8() {
    let high = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=640c1f";
    let video = [
        (102, "H264/90000", high),
        (103, "rtx/90000", "apt=102"),
        (104, "H264/90000", "profile-level-id=42E01F"),
    ];
    let mut negotiation = negotiation();
    let answer = negotiation.handle_offer(&offer_of("v", &[line("video", "v", "sendonly", &video)])).unwrap();
    assert!(answer.contains("m=video 9 UDP/TLS/RTP/SAVPF 102 103 104\r\n"), "{answer}");
    let baseline = "a=fmtp:104 level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42E01F";
    assert_eq!(lines_for(&answer, "fmtp"), [&format!("a=fmtp:102 {high}"), "a=fmtp:103 apt=102", baseline]);
    let uplink = negotiation.uplinks().next().unwrap();
    let expected =
        [(h264(H264Profile::ConstrainedHigh, 1), 102), (h264(H264Profile::ConstrainedBaseline, 0), 104)];
    assert_eq!(codecs(&uplink.codecs), expected);
    let shown = negotiation.add_slot(MediaKind::Video, "alice", "v");
    let offer = agree(&mut negotiation).unwrap();
    assert!(offer.contains("m=video 9 UDP/TLS/RTP/SAVPF 102 103 104 96 97\r\n"), "{offer}");
    assert_eq!(slot(&negotiation, shown).codecs.len(), 3);
}

#[test]
fn redundancy_is_taken_beside_the_opus_it_repeats() {
    let answered = |offered: &[(u8, &str, &str)]| {
        let mut negotiation = negotiation();
        let sdp = offer_of("a", &[line("audio", "a", "sendonly", offered)]);
        let answer = negotiation.handle_offer(&sdp).unwrap();
        let red = lines_for(&answer, "fmtp").into_iter().find(|line| line.ends_with("/111"));
        let taken: Vec<_> = negotiation.uplinks().flat_map(|uplink| codecs(&uplink.codecs)).collect();
        (taken, red.map(str::to_owned))
    };
    let opus = (111, "opus/48000/2", "minptime=10;useinbandfec=1");
    let both = |fmtp| answered(&[(63, "red/48000/2", fmtp), opus]);
    let taken = (vec![(Codec::Red, 63), (Codec::Opus, 111)], Some("a=fmtp:63 111/111".to_owned()));
    assert_eq!(both("111/111"), taken);
    assert_eq!(both("111/111/111"), taken);
    assert_eq!(both(""), taken);
    // Redundancy of something else, or of nothing we have.
    let alone = (vec![(Codec::Opus, 111)], None);
    assert_eq!(both("0/0"), alone);
    assert_eq!(both("111/0"), alone);
    assert_eq!(both("/"), alone);
    assert_eq!(answered(&[(63, "red/8000", "111/111"), opus]), alone);
    assert_eq!(answered(&[(63, "red/48000/2", "111/111")]), (vec![], None));
}

/// `VP9` with `scalabilityMode` looks like any other; what tells its layers is the dependency descriptor.
#[test]
fn a_layered_vp9_stream_comes_with_its_descriptors() {
    let video =
        [(98, "VP9/90000", "profile-id=0"), (99, "rtx/90000", "apt=98"), (100, "VP9/90000", "profile-id=2")];
    let extensions = format!(
        "a=extmap-allow-mixed\r\na=extmap:12 {}\r\na=extmap:9 {}\r\n",
        Extension::DependencyDescriptor.uri(),
        Extension::VideoLayersAllocation.uri()
    );
    let mut negotiation = negotiation();
    let sdp = offer_of("v", &[line("video", "v", "sendonly", &video), extensions]);
    let answer = negotiation.handle_offer(&sdp).unwrap();
    let uplink = negotiation.uplinks().next().unwrap();
    assert_eq!(codecs(&uplink.codecs), [(Codec::Vp9 { profile: 0 }, 98), (Codec::Vp9 { profile: 2 }, 100)]);
    assert_eq!((uplink.codecs[0].rtx, uplink.codecs[1].rtx), (Some(Pt(99)), None));
    assert_eq!(uplink.extensions.id_of(Extension::DependencyDescriptor), Some(12));
    assert_eq!(uplink.extensions.id_of(Extension::VideoLayersAllocation), Some(9));
    assert!(uplink.extensions.two_byte() && uplink.rids.is_empty());
    assert_eq!(
        lines_for(&answer, "fmtp"),
        ["a=fmtp:98 profile-id=0", "a=fmtp:99 apt=98", "a=fmtp:100 profile-id=2"]
    );
}

#[test]
fn parameters_that_we_do_not_read_are_said_again_or_left_out() {
    let hevc = "level-id=93;profile-id=1;tier-flag=0;tx-mode=SRST";
    let mut negotiation = negotiation();
    let video = [
        (45, "AV1/90000", "level-idx=8;profile=0;tier=1;x=y"),
        (49, "H265/90000", hevc),
        (50, "H265/90000", "level-id=93;profile-id=2;tier-flag=0;tx-mode=SRST"),
        (51, "AV1/90000", "profile=9"),
        (52, "VP9/90000", "profile-id=x"),
    ];
    let answer = negotiation.handle_offer(&offer_of("v", &[line("video", "v", "sendonly", &video)])).unwrap();
    let expected = ["a=fmtp:45 level-idx=8;profile=0;tier=1", &format!("a=fmtp:49 {hevc}")];
    assert_eq!(lines_for(&answer, "fmtp"), expected);
    assert!(answer.contains("m=video 9 UDP/TLS/RTP/SAVPF 45 49\r\n"), "{answer}");
}

/// The order of the first line that names a codec is the client's preference; a later line that has fewer
/// does not change it.
#[test]
fn preferences_are_the_clients_and_stay() {
    let many = [(45, "AV1/90000", ""), (96, "VP8/90000", ""), (98, "VP9/90000", "")];
    let lines = [line("video", "v", "sendonly", &many), line("video", "w", "sendonly", &many[1..2])];
    let mut negotiation = negotiation();
    negotiation.handle_offer(&offer_of("v w", &lines)).unwrap();
    negotiation.add_slot(MediaKind::Video, "alice", "v");
    let offer = negotiation.create_offer().unwrap();
    assert!(
        offer.contains("a=mid:s0") && offer.contains("m=video 9 UDP/TLS/RTP/SAVPF 45 96 98\r\n"),
        "{offer}"
    );
}

/// Against the rule (RFC 8843 §9), but ours must not break it too: Chromium refuses such a description.
#[test]
fn a_type_that_changes_its_meaning_means_the_last_in_our_offers() {
    let lines = [
        line("video", "v", "sendonly", &[(96, "VP8/90000", ""), (97, "rtx/90000", "apt=96")]),
        line("video", "w", "sendonly", &[(96, "VP9/90000", ""), (98, "rtx/90000", "apt=96")]),
        line("video", "x", "sendonly", &[(45, "AV1/90000", ""), (98, "rtx/90000", "apt=45")]),
    ];
    let mut negotiation = negotiation();
    negotiation.handle_offer(&offer_of("v w x", &lines)).unwrap();
    negotiation.add_slot(MediaKind::Video, "alice", "v");
    let offer = negotiation.create_offer().unwrap();
    // VP8 comes back under a number of ours.
    assert!(offer.contains("m=video 9 UDP/TLS/RTP/SAVPF 45 98 99 100\r\n"), "{offer}");
    assert!(offer.contains("a=rtpmap:99 VP8/90000\r\n"), "{offer}");
}

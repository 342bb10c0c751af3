//! Session descriptions that no client writes: too large, too many, twice, and not text.

/// What kind of bomb, and the description.
pub type Bomb = (String, String);

/// A browser's offer, and what has been made of it.
pub fn bombs(offer: &str) -> Vec<Bomb> {
    let mut bombs = Vec::new();
    let mut add = |what: &str, sdp: String| bombs.push((what.to_owned(), sdp));
    let (head, audio, video) = parts(offer);
    for kib in [64, 256, 1_024, 10_240] {
        let len = kib * 1_024;
        let fill = |unit: &str| unit.repeat(len / unit.len());
        add(&format!("{kib} KiB of one line"), format!("{offer}a=mystery:{}\r\n", fill("x")));
        add(&format!("{kib} KiB of unread lines"), format!("{offer}{}", fill("a=mystery:1\r\n")));
        add(&format!("{kib} KiB of line ends"), format!("{offer}{}", fill("\r\n")));
        add(&format!("{kib} KiB of sections"), format!("{head}{}", fill(video)));
        add(&format!("{kib} KiB of nothing known"), fill("z"));
    }
    let many = |what: &str, count: usize, line: &dyn Fn(usize) -> String| {
        let lines: String = (0..count).map(line).collect();
        (format!("{count} {what}"), format!("{offer}{lines}"))
    };
    for count in [100, 10_000] {
        for (what, line) in [
            ("m-lines", "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:x#\r\n"),
            ("candidates", "a=candidate:# 1 udp 2122260223 192.0.2.1 # typ host\r\n"),
            ("extmaps", "a=extmap:# urn:example:#\r\n"),
            ("formats", "a=rtpmap:# VP8/90000\r\n"),
            ("parameters", "a=fmtp:# x=#;x=#;x=#\r\n"),
            ("feedbacks", "a=rtcp-fb:96 nack #\r\n"),
            ("ssrcs", "a=ssrc:# cname:x\r\n"),
            ("ssrc groups", "a=ssrc-group:FID # 1 2 3 4 5 6\r\n"),
            ("rids", "a=rid:r# send\r\n"),
            ("nested rids", "a=rid:r# send pt=96;depend=r#,r#,r#,r#\r\n"),
            ("simulcasts", "a=simulcast:send r#;~r#,r#;~r# recv r#;r#\r\n"),
            ("mids", "a=mid:1\r\n"),
            ("groups", "a=group:BUNDLE 0 1 # #\r\n"),
            ("fingerprints", "a=fingerprint:sha-256 #\r\n"),
        ] {
            let made = many(what, count, &|n| line.replace('#', &n.to_string()));
            add(&made.0, made.1);
        }
    }
    let simulcast = (0..1_000).map(|n| format!("r{n}")).collect::<Vec<_>>();
    add("a simulcast of 1 000", format!("{offer}a=simulcast:send {}\r\n", simulcast.join(";")));
    add("a rid of 1 000 restrictions", format!("{offer}a=rid:h send {}\r\n", "max-width=1;".repeat(1_000)));
    add("one mid on two lines", format!("{head}{audio}{}", video.replace("a=mid:1", "a=mid:0")));
    add("every section twice", format!("{head}{audio}{video}{audio}{video}"));
    add("a bundle of 10 000", offer.replace("BUNDLE", &format!("BUNDLE {}", "0 1 ".repeat(5_000))));
    add("10 000 formats on a line", offer.replacen("SAVPF", &format!("SAVPF {}", "96 ".repeat(10_000)), 1));
    add("no end of digits", offer.replace("a=ssrc:", &format!("a=ssrc:{}", "9".repeat(4_000))));
    for (what, bytes) in [
        ("NUL bytes", &[0u8; 40][..]),
        ("overlong UTF-8", &[0xc0, 0xaf, 0xe0, 0x80, 0xaf, 0xf8, 0x88]),
        ("half a surrogate", &[0xed, 0xa0, 0x80]),
        ("a cut character", &[0xf0, 0x9f, 0x92]),
    ] {
        let spoiled = [&offer.as_bytes()[..300], bytes, &offer.as_bytes()[300..]].concat();
        // A description is text by its type: this is what a host makes of such bytes at best.
        add(what, String::from_utf8_lossy(&spoiled).into_owned());
    }
    add("multi-byte characters everywhere", offer.replace("a=", "a=ü"));
    add("nothing", String::new());
    add("half of it", offer[..offer.len() / 2].to_owned());
    bombs
}

/// The session part, and the two sections of an offer with one audio and one video line.
fn parts(offer: &str) -> (&str, &str, &str) {
    let audio = offer.find("m=audio").expect("it offers audio");
    let video = offer.find("m=video").expect("it offers video");
    (&offer[..audio], &offer[audio..video], &offer[video..])
}

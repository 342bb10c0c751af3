//! The bot as a program: files in by WHIP, figures out by WHEP.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use bytes::Bytes;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sluicegate_benches::{clock, http};
use sluicegate_examples::media::{Codec, Stream, Unit, clip, ivf, opus};
use sluicegate_tests::example::{self, Example};
use sluicegate_tests::scrape;
use tokio::time::interval;

use super::person::PATIENCE;

fn demo() -> Example {
    Example::start("demo", &["--http", "127.0.0.1:0", "--media", "127.0.0.1:0", "--announce", "127.0.0.1"])
        .unwrap()
}

/// A running bot. Dropping it kills it.
struct Bot {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Bot {
    fn start(args: &[&str]) -> Bot {
        let mut child =
            Command::new(example::binary("bot")).args(args).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = child.stdout.take().expect("its output is piped");
        Bot { child, lines: BufReader::new(stdout).lines() }
    }

    fn hear(&mut self) -> String {
        self.lines.next().expect("the bot says something").unwrap()
    }

    /// As a user does in a terminal.
    fn interrupt(&mut self) -> ExitStatus {
        let pid = Pid::from_raw(self.child.id().try_into().expect("process ids are positive"));
        kill(pid, Signal::SIGINT).unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Bot {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// All that a bot says until its time is over.
fn watch(url: &str) -> Vec<String> {
    let output =
        Command::new(example::binary("bot")).args(["--whep", url, "--seconds", "4"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// The largest figure before `unit` in the lines of this kind.
fn most(lines: &[String], kind: &str, unit: &str) -> u64 {
    let lines = lines.iter().filter(|line| line.starts_with(kind));
    let figures = lines.flat_map(|line| line.split(", ")).filter_map(|figure| figure.strip_suffix(unit));
    figures.filter_map(|figure| figure.rsplit(' ').next()?.parse().ok()).max().unwrap_or(0)
}

/// A minute of video whose only keyframe is the first. Nobody decodes it.
fn minute() -> Stream {
    let frames = clip::video(7).units().to_vec().into_iter().cycle();
    let unit = |(n, frame): (u32, Unit)| {
        let mut data = frame.data.to_vec();
        data[0] |= u8::from(n > 0);
        Unit { at: Duration::from_millis(50) * n, data: Bytes::from(data), is_key: n == 0 }
    };
    let units = (0..1_200).zip(frames).map(unit).collect();
    Stream::new(Codec::Vp8, units, Duration::from_millis(50)).unwrap()
}

#[tokio::test]
async fn what_a_bot_publishes_another_watches_and_late_ones_get_a_keyframe() {
    let demo = demo();
    let folder = tempfile::tempdir().unwrap();
    let (video, audio) = (folder.path().join("minute.ivf"), folder.path().join("clip.ogg"));
    std::fs::write(&video, ivf::write(&minute(), clip::WIDTH, clip::HEIGHT)).unwrap();
    std::fs::write(&audio, opus::write(&clip::audio(7))).unwrap();
    let [video, audio] = [&video, &audio].map(|path| path.to_str().unwrap());
    let (whip, whep) = (demo.url("/whip/stage?name=bot"), demo.url("/whep/stage"));

    let mut publisher = Bot::start(&["--whip", &whip, "--video", video, "--audio", audio]);
    assert_eq!(publisher.hear(), "publishing Opus and VP8");
    // The second comes when the keyframe of the first is long gone.
    for nth in ["first", "second"] {
        let lines = watch(&whep);
        let said = lines.join("\n");
        assert_eq!(lines[0], "watching", "{nth}");
        assert!(most(&lines, "audio", " packets/s") >= 40, "{nth}: {said}");
        assert!(most(&lines, "video", " frames/s") >= 15, "{nth}: {said}");
        assert!(most(&lines, "video", " kb/s") >= 100, "{nth}: {said}");
        assert_eq!(most(&lines, "", " lost"), 0, "{nth}: {said}");
    }

    assert_eq!(publisher.interrupt().code(), Some(0));
    // Counters reach the metrics a moment later. Whoever said no goodbye would be missed after 30 s only.
    let mut clock = interval(Duration::from_millis(50));
    let deadline = clock::now() + PATIENCE;
    loop {
        clock.tick().await;
        let text = http::get(&demo.url("/metrics")).unwrap().body;
        let ended = |reason| scrape::sum(&text, "sfu_sessions_ended_total", reason);
        let counts = (ended(&[("reason", "left")]), ended(&[]));
        if counts == (3, 3) || clock::now() >= deadline {
            assert_eq!(counts, (3, 3), "both watchers and the publisher have said goodbye");
            return;
        }
    }
}

#[test]
fn a_bot_without_files_publishes_a_clip_of_its_own() {
    let demo = demo();
    let mut publisher = Bot::start(&["--whip", &demo.url("/whip/stage?name=bot")]);
    assert_eq!(publisher.hear(), "publishing Opus and VP8");
    let lines = watch(&demo.url("/whep/stage"));
    assert!(most(&lines, "video", " frames/s") >= 15, "{lines:#?}");
    assert!(most(&lines, "audio", " packets/s") >= 40, "{lines:#?}");
}

#[test]
fn a_bot_in_a_process_of_its_own_hears_itself() {
    let _demo = demo(); // Builds the examples.
    let output = Command::new(example::binary("bot")).args(["den", "--seconds", "3"]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<String> = said.lines().map(str::to_owned).collect();
    assert!(output.status.success() && most(&lines, "video", " packets/s") >= 120, "{said}");
    assert!(most(&lines, "audio", " packets/s") >= 40, "{said}");
}

#[test]
fn what_cannot_be_done_is_said_in_a_sentence() {
    let demo = demo();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| -> String {
        let path: &Path = &folder.path().join(name);
        std::fs::write(path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let whole = ivf::write(&clip::video(1), clip::WIDTH, clip::HEIGHT);
    let mut h264 = whole.clone();
    h264[8..12].copy_from_slice(b"H264");
    let sound = opus::write(&clip::audio(1));
    let (text, cut) = (file("text", b"hello"), file("cut.ivf", &whole[..whole.len() - 1]));
    let (h264, mute) = (file("h264.ivf", &h264), file("cut.ogg", &sound[..sound.len() - 1]));

    let whip = demo.url("/whip/stage?name=bot");
    let (nameless, elsewhere) = (demo.url("/whip/stage"), demo.url("/nowhere"));
    for (args, words) in [
        (["--whip", &whip, "--video", &text], "text: it is not an IVF file: it does not begin with DKIF"),
        (["--whip", &whip, "--video", &h264], "its codec is H264; we can send VP80, VP90 and AV01"),
        (["--whip", &whip, "--video", &cut], "it is cut short inside frame 59"),
        (["--whip", &whip, "--video", "/nonexistent.ivf"], "/nonexistent.ivf: No such file"),
        (["--whip", &whip, "--audio", &text], "text: it is not an Ogg file"),
        (["--whip", &whip, "--audio", &mute], "it is cut short or damaged"),
        (["--whip", &nameless, "--seconds", "5"], "400 Bad Request: say who you are: add ?name="),
        (["--whep", &elsewhere, "--seconds", "5"], "the server answered 404 Not Found"),
        (["--whep", "stage", "--seconds", "5"], "stage is not an address"),
        (["--whep", "https://localhost/x", "--seconds", "5"], "only http:// addresses"),
        (
            ["--whep", "http://127.0.0.1:1/x", "--seconds", "5"],
            "cannot connect to 127.0.0.1:1: Connection refused",
        ),
    ] {
        let output = Command::new(example::binary("bot")).args(args).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        assert!(said.starts_with("error: ") && said.contains(words), "{args:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{args:?}: {said}");
    }
    let text = http::get(&demo.url("/metrics")).unwrap().body;
    assert_eq!(scrape::sum(&text, "sfu_joins_total", &[("result", "ok")]), 0, "nobody was let in");
}

#[test]
fn no_room_is_filled_without_end() {
    let _demo = demo(); // Builds the examples.
    let output = Command::new(example::binary("demo")).args(["--bots", "21"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && said.contains("0..=20"), "{said}");
}

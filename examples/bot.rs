//! A client without a browser: publishes files by WHIP, or watches by WHEP and says once a second what it receives.
//!
//! ```console
//! bot --whip 'http://127.0.0.1:8080/whip/stage?name=bot' --video clip.ivf --audio clip.ogg
//! bot --whep http://127.0.0.1:8080/whep/stage --seconds 10
//! bot stage --seconds 10
//! ```
//!
//! The last needs no server: an SFU, a publisher and a watcher in one process; media goes over UDP on loopback all
//! the same.

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use clap::Parser;
use sluicegate::webrtc::seat;
use sluicegate::{Config, PeerConfig, PeerEvent, Sfu, Subscribe, TrackFilter};
use sluicegate_examples::client::connection::{Outlet, addresses_beside, connect, receive};
use sluicegate_examples::client::meter::Meter;
use sluicegate_examples::client::player::play;
use sluicegate_examples::client::whip::Endpoint;
use sluicegate_examples::media::{Codec, Stream, clip, ivf, opus};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use webrtc::peer_connection::{PeerConnection, RTCPeerConnectionState, RTCSessionDescription};

/// Publishes files by WHIP, watches by WHEP, or does both to an SFU of its own.
///
/// Only http:// addresses: this client speaks no TLS.
#[derive(Parser)]
struct Args {
    /// The room of an SFU in this process, where one bot publishes filler and another watches.
    #[arg(default_value = "bots", conflicts_with_all = ["whip", "whep"])]
    room: String,
    /// Publish at this address, in a loop.
    #[arg(long, value_name = "URL", conflicts_with = "whep")]
    whip: Option<String>,
    /// Watch at this address.
    #[arg(long, value_name = "URL")]
    whep: Option<String>,
    /// An IVF file with VP8, VP9 or AV1. With neither this nor --audio, a clip of our own making.
    #[arg(long, value_name = "FILE", requires = "whip")]
    video: Option<PathBuf>,
    /// An Ogg Opus file, mono or stereo.
    #[arg(long, value_name = "FILE", requires = "whip")]
    audio: Option<PathBuf>,
    /// Sent as `Authorization: Bearer TOKEN`.
    #[arg(long)]
    token: Option<String>,
    /// How many publishers to offer to receive.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=50), requires = "whep")]
    publishers: u8,
    /// Stop after this many seconds; by default Ctrl-C stops.
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
}

type Outcome = Result<(), Box<dyn Error>>;

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let end = end(args.seconds);
    let outcome = match (&args.whip, &args.whep) {
        (Some(url), _) => publish(url, &args, end).await,
        (_, Some(url)) => watch(url, &args, end).await,
        _ => talk_to_itself(&args.room, end).await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", sentence(&*error));
            ExitCode::FAILURE
        }
    }
}

/// When the time is over, or at Ctrl-C or SIGTERM.
async fn end(seconds: Option<u64>) {
    let over = async {
        match seconds {
            Some(seconds) => sleep(Duration::from_secs(seconds)).await,
            None => std::future::pending().await,
        }
    };
    #[cfg(unix)]
    let terminated = async {
        use tokio::signal::unix::{SignalKind, signal};
        signal(SignalKind::terminate()).expect("SIGTERM can be handled").recv().await;
    };
    #[cfg(not(unix))]
    let terminated = std::future::pending::<()>();
    tokio::select! {
        () = over => {}
        () = terminated => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

async fn publish(url: &str, args: &Args, end: impl Future<Output = ()>) -> Outcome {
    let streams = streams(args.video.as_deref(), args.audio.as_deref())?;
    let endpoint = Endpoint::new(url, args.token.clone())?;
    let meter = Meter::new();
    let client = connect(addresses_beside(endpoint.local_address().await?), meter.clone()).await?;
    let mut played = Vec::new();
    for stream in streams {
        played.push((Outlet::add(&client, stream.codec()).await?, stream));
    }
    let codecs: Vec<String> = played.iter().map(|(_, stream)| stream.codec().to_string()).collect();
    let say = || println!("publishing {}", codecs.join(" and "));
    let play_all = async {
        let mut players = played.iter().map(|(outlet, stream)| play(stream, outlet));
        match (players.next(), players.next()) {
            (Some(one), Some(other)) => tokio::try_join!(one, other).map(|_| ()),
            (Some(one), None) => one.await,
            _ => Ok(()),
        }
    };
    take_part(&endpoint, &*client.connection, &meter, say, play_all, end).await
}

async fn watch(url: &str, args: &Args, end: impl Future<Output = ()>) -> Outcome {
    let endpoint = Endpoint::new(url, args.token.clone())?;
    let meter = Meter::new();
    let client = connect(addresses_beside(endpoint.local_address().await?), meter.clone()).await?;
    receive(&*client.connection, args.publishers.into()).await?;
    let say = || println!("watching");
    take_part(&endpoint, &*client.connection, &meter, say, report(&meter), end).await
}

/// Opens the session, does `work` until the end, and leaves nothing behind on the server.
async fn take_part(
    endpoint: &Endpoint,
    connection: &dyn PeerConnection,
    meter: &Meter,
    say: impl FnOnce(),
    work: impl Future<Output = Result<(), webrtc::error::Error>>,
    end: impl Future<Output = ()>,
) -> Outcome {
    let offer = connection.create_offer(None).await?;
    let sdp = offer.sdp.clone();
    connection.set_local_description(offer).await?;
    let (session, answer) = endpoint.open(sdp).await?;
    let mut state = meter.state();
    let stay = async {
        if let Some(refused) = refused_kind(&answer) {
            return Err(format!("the server takes no {refused} as we would send it").into());
        }
        connection.set_remote_description(RTCSessionDescription::answer(answer)?).await?;
        let connected = state.wait_for(|state| *state == RTCPeerConnectionState::Connected);
        if timeout(CONNECT_WITHIN, connected).await.is_err() {
            let said = "no media gets through: nothing came from the addresses that the server announced";
            return Err(format!("{said}, within {CONNECT_WITHIN:?}").into());
        }
        say();
        let ended = |state: &RTCPeerConnectionState| {
            matches!(state, RTCPeerConnectionState::Failed | RTCPeerConnectionState::Closed)
        };
        tokio::select! {
            done = work => {
                done?;
                Err("the server ended the connection".into())
            }
            _ = state.wait_for(ended) => Err("the server ended the connection".into()),
        }
    };
    let outcome: Outcome = tokio::select! {
        outcome = stay => outcome,
        () = end => Ok(()),
    };
    let ended = session.end().await;
    connection.close().await?;
    // Of two faults the first is the cause.
    outcome?;
    Ok(ended?)
}

/// What an answer refuses: an m-line with port 0, RFC 3264 §6.
fn refused_kind(answer: &str) -> Option<&str> {
    let lines = answer.lines().filter_map(|line| line.strip_prefix("m="));
    lines
        .filter_map(|line| line.split_once(' '))
        .find(|(_, rest)| rest.starts_with("0 "))
        .map(|(kind, _)| kind)
}

/// What the files hold; without any file, the clip of our own making.
fn streams(video: Option<&Path>, audio: Option<&Path>) -> Result<Vec<Stream>, String> {
    let mut streams = Vec::new();
    if let Some(path) = audio {
        streams.push(opus::read(&read(path)?).map_err(|error| told(path, &error))?);
    }
    if let Some(path) = video {
        streams.push(ivf::read(&read(path)?).map_err(|error| told(path, &error))?);
    }
    if streams.is_empty() {
        streams = vec![clip::audio(1), clip::video(1)];
    }
    Ok(streams)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let length = std::fs::metadata(path).map_err(|error| told(path, &error))?.len();
    if length > MAX_FILE {
        return Err(format!("{}: it is larger than {} MB", path.display(), MAX_FILE >> 20));
    }
    std::fs::read(path).map_err(|error| told(path, &error))
}

fn told(path: &Path, error: &dyn Error) -> String {
    format!("{}: {}", path.display(), sentence(error))
}

/// An error and what caused it.
fn sentence(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |&error| error.source());
    causes.fold(error.to_string(), |said, cause| format!("{said}: {cause}"))
}

/// Once a second, a line for each stream.
async fn report(meter: &Meter) -> Result<(), webrtc::error::Error> {
    let mut seconds = interval(Duration::from_secs(1));
    seconds.tick().await;
    loop {
        seconds.tick().await;
        let readings = meter.read(Instant::now());
        if readings.is_empty() {
            println!("nothing received yet");
        }
        for reading in readings {
            println!("{reading}");
        }
    }
}

/// A publisher and a watcher in one room of an SFU in this process.
async fn talk_to_itself(room: &str, end: impl Future<Output = ()>) -> Outcome {
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let sfu = Sfu::start(Config::new((loopback, 0).into()).announce(loopback)).await?;
    let room = sfu.room(room)?;

    let meter = Meter::new();
    let watcher = connect(vec![(loopback, 0).into()], meter.clone()).await?;
    receive(&*watcher.connection, 1).await?;
    let everyone = Subscribe::Slots(TrackFilter::default());
    let watching = seat(&room, PeerConfig::new("watcher").subscribe(everyone), watcher.connection).await?;

    let publisher = connect(vec![(loopback, 0).into()], Meter::new()).await?;
    let audio = Outlet::add(&publisher, Codec::Opus).await?;
    let video = Outlet::add(&publisher, Codec::Vp8).await?;
    let config = PeerConfig::new("publisher").subscribe(Subscribe::Nothing);
    let publishing = seat(&room, config, publisher.connection).await?;

    for seat in [&watching, &publishing] {
        while !matches!(seat.next_event().await, None | Some(PeerEvent::Connected | PeerEvent::Left(_))) {}
    }
    tokio::select! {
        result = fill(audio, video) => result?,
        result = report(&meter) => result?,
        () = end => {}
    }
    sfu.shutdown().await;
    Ok(())
}

/// Sends packets of the shape of VP8 at 30 frames a second (1.5 Mb/s) and of Opus at 50 a second: a load, not a
/// picture. Nobody decodes them.
async fn fill(audio: Outlet, video: Outlet) -> Result<(), webrtc::error::Error> {
    let (mut frames, mut sounds) =
        (interval(Duration::from_secs(1) / 30), interval(Duration::from_millis(20)));
    frames.set_missed_tick_behavior(MissedTickBehavior::Skip);
    sounds.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (mut frame, mut sound, mut seq) = (0u32, 0u32, 0u16);
    loop {
        tokio::select! {
            _ = frames.tick() => {
                for part in 0..6 {
                    video.send(seq, frame.wrapping_mul(3_000), part == 5, vp8(frame, part)).await?;
                    seq = seq.wrapping_add(1);
                }
                frame += 1;
            }
            _ = sounds.tick() => {
                audio.send(sound as u16, sound.wrapping_mul(960), false, Bytes::from_static(&[0xf8; 100])).await?;
                sound += 1;
            }
        }
    }
}

/// One packet of a frame: a descriptor that says where the frame starts (RFC 7741 §4.2), then filler. Every
/// hundredth frame claims to be a keyframe (P clear, §4.3).
fn vp8(frame: u32, part: u8) -> Bytes {
    let mut payload = BytesMut::new();
    payload.put_u8(if part == 0 { 0x10 } else { 0x00 });
    payload.put_u8(u8::from(!frame.is_multiple_of(100)));
    payload.put_bytes(part, 1_040);
    payload.freeze()
}

/// ICE and DTLS, on a bad line.
const CONNECT_WITHIN: Duration = Duration::from_secs(15);
/// It is kept in memory.
const MAX_FILE: u64 = 1 << 30;

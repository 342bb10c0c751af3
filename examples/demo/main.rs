//! A call page, WHIP and WHEP on one sluicegate SFU: `cargo run --release --example demo`.

mod addresses;
mod args;
mod bots;
mod debug;
mod host;
mod message;
mod name;
mod refusal;
mod roster;
mod sdpfrag;
mod seat;
mod sessions;
mod site;
mod socket;
mod standing;
mod startup;
mod tally;
mod tls;
mod token;
mod whip;

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::process::ExitCode;
use std::time::Duration;

use axum::Router;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use clap::Parser;
use sluicegate::{Config, Sfu};
use tokio::time::timeout;
use tracing::{info, warn};

use args::{Args, Command, Reachable, Serve};
use host::Host;
use startup::StartupError;
use token::{Signer, UnixTime};

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(Command::Token { room, name, ttl, join_secret }) = args.command {
        println!("{}", Signer::new(&join_secret).issue(&room, &name, UnixTime::now().after(ttl)));
        return ExitCode::SUCCESS;
    }
    log_to_stderr();
    match serve(args.serve).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// `RUST_LOG` chooses what is logged.
fn log_to_stderr() {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}

async fn serve(args: Serve) -> Result<(), StartupError> {
    let announce = reachable_at(&args)?;
    let listener = TcpListener::bind(args.http)
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .map_err(|error| StartupError::socket("--http", "TCP", args.http, &error))?;
    let http = listener.local_addr().unwrap_or(args.http);
    let reachable_ips: Vec<IpAddr> = announce.iter().map(|reachable| reachable.ip()).collect();
    let tls = match &args.tls {
        Some(tls) => Some(tls::load(tls, &reachable_ips).await?),
        None => None,
    };
    let sfu = Sfu::start(config(&args, &announce))
        .await
        .map_err(|error| StartupError::engine(args.media, &error))?;
    greet(&sfu, http, &reachable_ips, tls.is_some());

    let host = Host::new(sfu.clone(), args.join_secret.as_deref().map(Signer::new), args.region);
    if args.bots > 0 {
        bots::fill(&host, &args.bots_room, args.bots).await?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        for at in pages(http, &reachable_ips) {
            println!("{} bots are in {scheme}://{at}/?room={}", args.bots, bots::in_address(&args.bots_room));
        }
    }
    let handle = Handle::new();
    tokio::spawn(stop_on_signal(host.clone(), args.drain, handle.clone()));
    let pages = site::measured(&host, args.admin_token);
    serve_http(listener, tls, handle, pages)
        .await
        .map_err(|error| StartupError::socket("--http", "TCP", args.http, &error))?;
    if timeout(STOP_ENGINE_WITHIN, sfu.shutdown()).await.is_err() {
        warn!("the engine took too long to stop");
    }
    info!("stopped");
    Ok(())
}

fn reachable_at(args: &Serve) -> Result<Vec<Reachable>, StartupError> {
    if !args.announce.is_empty() {
        return Ok(args.announce.clone());
    }
    let remedy = "name one that clients can reach with --announce IP";
    let interfaces = addresses::of_interfaces().map_err(|error| {
        StartupError::new(format!("cannot list this machine's addresses: {error}"), remedy)
    })?;
    let found = addresses::to_announce(args.media, &interfaces);
    if found.is_empty() {
        let family = if args.media.is_ipv4() { "IPv4" } else { "IPv6" };
        return Err(StartupError::new(format!("this machine has no {family} address to announce"), remedy));
    }
    Ok(found.into_iter().map(Reachable::Ip).collect())
}

fn config(args: &Serve, announce: &[Reachable]) -> Config {
    let config = Config::new(args.media).saturation(args.saturation.into());
    let mut config = config.resume_within(socket::TOKEN_TTL);
    for reachable in announce {
        config = match *reachable {
            Reachable::Ip(ip) => config.announce(ip),
            Reachable::Base(base) => config.announce(base),
        };
    }
    if let Some(workers) = args.workers {
        config = config.workers(workers.get());
    }
    if let Some(cap) = args.publisher_cap {
        config = config.publish_cap(cap);
    }
    config
}

/// Says where media is announced and where the page is.
fn greet(sfu: &Sfu, http: SocketAddr, reachable: &[IpAddr], tls: bool) {
    let scheme = if tls { "https" } else { "http" };
    for announced in sfu.announced() {
        println!("media announced at udp://{announced}");
    }
    for at in pages(http, reachable) {
        println!("listening on {scheme}://{at}");
    }
    if http.ip().is_unspecified() && !tls {
        println!("browsers on other machines get no camera without HTTPS: add --tls self-signed");
    }
}

/// Where the page is, for people to open.
fn pages(http: SocketAddr, reachable: &[IpAddr]) -> Vec<String> {
    if !http.ip().is_unspecified() {
        return vec![http.to_string()];
    }
    let others = reachable.iter().map(|ip| SocketAddr::new(*ip, http.port()).to_string());
    std::iter::once(format!("localhost:{}", http.port())).chain(others).collect()
}

async fn serve_http(
    listener: TcpListener,
    tls: Option<RustlsConfig>,
    handle: Handle<SocketAddr>,
    pages: Router,
) -> std::io::Result<()> {
    let service = pages.into_make_service();
    match tls {
        Some(tls) => axum_server::from_tcp_rustls(listener, tls)?.handle(handle).serve(service).await,
        None => axum_server::from_tcp(listener)?.handle(handle).serve(service).await,
    }
}

/// SIGTERM: everybody has some time to leave. Then, and on Ctrl-C at once: newcomers are refused, sockets hear goodbye, the
/// listener closes. A second signal does not wait.
async fn stop_on_signal(host: Host, drain: Duration, handle: Handle<SocketAddr>) {
    let gently = signal().await == Signal::Terminate && !drain.is_zero();
    info!("stopping");
    tokio::spawn(async {
        signal().await;
        std::process::exit(130);
    });
    if gently && let Err(left) = host.sfu().drain(drain).await {
        warn!("{left}");
    }
    if timeout(GOODBYE_WITHIN, host.close()).await.is_err() {
        warn!("some sockets did not take the goodbye");
    }
    handle.graceful_shutdown(Some(GOODBYE_WITHIN));
}

#[derive(PartialEq, Eq)]
enum Signal {
    Interrupt,
    #[cfg(unix)]
    Terminate,
}

async fn signal() -> Signal {
    let interrupt = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate()).expect("SIGTERM can be handled");
        tokio::select! {
            _ = interrupt => Signal::Interrupt,
            _ = terminate.recv() => Signal::Terminate,
        }
    }
    #[cfg(not(unix))]
    {
        let _ = interrupt.await;
        Signal::Interrupt
    }
}

const GOODBYE_WITHIN: Duration = Duration::from_secs(3);
const STOP_ENGINE_WITHIN: Duration = Duration::from_secs(10);

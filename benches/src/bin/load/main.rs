//! Load for an SFU, and what it costs: `cargo run --release -p sluicegate-benches --bin load -- --help`.

mod args;
mod bench;
mod cores;
mod figures;
mod ramp;
mod scene;
mod server;
mod table;
mod units;

use std::process::ExitCode;

use clap::Parser;
use serde_json::json;

use args::{Args, Peer};
use bench::Bench;
use cores::Cores;
use figures::Figures;
use server::Target;

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("error: {sentence}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), String> {
    args.validate()?;
    let cores = Cores::choose(&args.server.server_cores, args.server.client_core)?;
    cores::move_to(&cores.client).map_err(|error| format!("cannot pin the clients: {error}"))?;
    let targets = targets(args);
    let mut servers: Vec<(String, Vec<Figures>)> = vec![Default::default(); targets.len()];
    for round in 0..args.compare.unwrap_or(1) {
        // Now one first, now the other: a machine that grows slower or faster favours nobody.
        let mut order: Vec<usize> = (0..targets.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for at in order {
            let (name, figures) = measure(targets[at], args, &cores)?;
            servers[at].0 = name;
            servers[at].1.push(figures);
        }
    }
    if args.json {
        print_json(&servers);
    } else {
        table::print(&title(args), &servers);
    }
    Ok(())
}

fn targets(args: &Args) -> Vec<Target> {
    let theirs = args.server.url.is_some();
    match args.compare {
        None if theirs => vec![Target::Theirs],
        None => vec![Target::Ours(args.server.peer)],
        Some(_) if theirs => vec![Target::Ours(Peer::Sluicegate), Target::Theirs],
        Some(_) => vec![Target::Ours(Peer::Sluicegate), Target::Ours(Peer::Str0m)],
    }
}

fn measure(target: Target, args: &Args, cores: &Cores) -> Result<(String, Figures), String> {
    let mut bench = Bench::set_up(target, args, cores)?;
    let figures = if args.ramp { ramp::climb(&mut bench, args.time) } else { bench.flow(args.time) }?;
    let name = bench.name().to_owned();
    bench.take_down();
    Ok((name, figures))
}

/// The shape in words.
fn title(args: &Args) -> String {
    let shape = &args.shape;
    let room = match shape.mesh {
        Some(people) => format!("{people} × {people}"),
        None => format!("{} → {}", shape.pubs, shape.subs),
    };
    let rooms = if shape.rooms > 1 { format!("{} rooms of {room}", shape.rooms) } else { room };
    let media = match (args.media.audio_only, args.media.paced) {
        (true, _) => "audio".to_owned(),
        (false, None) => "bursts".to_owned(),
        (false, Some(paced)) => format!("paced {} ms", paced.as_millis()),
    };
    let ramp = if args.ramp { ", clean maximum" } else { "" };
    format!("{rooms}, {media}{ramp}")
}

fn print_json(servers: &[(String, Vec<Figures>)]) {
    let command: Vec<String> = std::env::args().skip(1).collect();
    let servers: Vec<_> =
        servers.iter().map(|(name, runs)| json!({ "server": name, "runs": runs })).collect();
    println!("{:#}", json!({ "arguments": command, "servers": servers }));
}

//! Bots that fill a room: peer connections of this process, seated by the public API.

use std::net::SocketAddr;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sluicegate::webrtc::{Seat, seat};
use sluicegate::{PeerConfig, PeerEvent, Subscribe};
use sluicegate_examples::client::connection::{Outlet, connect};
use sluicegate_examples::client::meter::Meter;
use sluicegate_examples::client::player::play;
use sluicegate_examples::media::{Codec, clip};
use tracing::{info, warn};

use crate::host::{Closing, Host};
use crate::name::Name;
use crate::refusal::sentence;
use crate::roster::{Member, Ticket};
use crate::startup::StartupError;

/// Seats bots 1 to `count`. They stay until the host closes.
pub async fn fill(host: &Host, room: &Name, count: u8) -> Result<(), StartupError> {
    for number in 1..=count {
        let bot = Bot::enter(host, room, number).await.map_err(|error| {
            StartupError::new(
                format!("bot {number} cannot enter the room: {}", sentence(&*error)),
                "start without --bots",
            )
        })?;
        tokio::spawn(bot.stay(host.closing()));
    }
    Ok(())
}

/// A room's name as the page's address writes it.
pub fn in_address(room: &Name) -> String {
    utf8_percent_encode(room.as_str(), NON_ALPHANUMERIC).to_string()
}

struct Bot {
    host: Host,
    room: Name,
    number: u8,
    seat: Seat,
    ticket: Ticket,
    audio: Outlet,
    video: Outlet,
}

impl Bot {
    async fn enter(host: &Host, room: &Name, number: u8) -> Result<Bot, Box<dyn std::error::Error>> {
        let client = connect(addresses(host), Meter::new()).await?;
        let audio = Outlet::add(&client, Codec::Opus).await?;
        let video = Outlet::add(&client, Codec::Vp8).await?;
        let name = format!("bot {number}");
        // Twenty bots that watched each other would be 380 streams that nobody sees.
        let config = PeerConfig::new(name.as_str()).subscribe(Subscribe::Nothing);
        let seat = seat(&host.sfu().room(room.as_str())?, config, client.connection).await?;
        let ticket = host.roster().enter(room, Member { peer: seat.peer().id(), name });
        Ok(Bot { host: host.clone(), room: room.clone(), number, seat, ticket, audio, video })
    }

    /// Plays until the host closes; the host waits until `closing` is dropped.
    async fn stay(self, mut closing: Closing) {
        let (audio, video) = (clip::audio(self.number), clip::video(self.number));
        tokio::select! {
            () = self.attend() => {}
            _ = play(&audio, &self.audio) => {}
            _ = play(&video, &self.video) => {}
            () = closing.begins() => {}
        }
        self.seat.peer().leave();
        if let Err(error) = self.seat.connection().close().await {
            warn!(bot = self.number, error = sentence(&error), "the connection did not close well");
        }
    }

    /// Until the engine lets the bot go.
    async fn attend(&self) {
        while let Some(event) = self.seat.next_event().await {
            match event {
                PeerEvent::Connected => info!(bot = self.number, "connected"),
                PeerEvent::Unreachable { announced } => {
                    warn!(bot = self.number, ?announced, "bots need an announced address of this machine");
                }
                PeerEvent::Left(reason) => {
                    info!(bot = self.number, ?reason, "left");
                    return;
                }
                _ => {}
            }
        }
    }
}

impl Drop for Bot {
    fn drop(&mut self) {
        self.host.roster().leave(&self.room, self.ticket);
    }
}

/// The announced addresses that are this machine's, any port: what can send to one of them reaches all.
fn addresses(host: &Host) -> Vec<SocketAddr> {
    let mut found: Vec<SocketAddr> = Vec::new();
    for announced in host.sfu().announced() {
        let address = SocketAddr::new(announced.ip(), 0);
        if !found.contains(&address) && std::net::UdpSocket::bind(address).is_ok() {
            found.push(address);
        }
    }
    if found.is_empty() {
        // Behind NAT: perhaps the announced address leads back to here.
        found.push(SocketAddr::new(std::net::Ipv4Addr::UNSPECIFIED.into(), 0));
    }
    found
}

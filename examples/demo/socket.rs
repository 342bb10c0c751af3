//! `GET /ws/{room}`: one WebSocket, one peer. `docs/signalling.md` is the protocol's description.

use std::time::Duration;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, Query as UrlQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use sluicegate::signaling::{MessageType, Op, Outcome};
use sluicegate::{Bitrate, LayerLimit, PeerEvent, PeerInfo, Subscribe};
use tokio::time::{interval, timeout};

use crate::host::{Closing, Entry, Host, Query};
use crate::message::{FromClient, ToClient};
use crate::refusal::Refusal;
use crate::roster::Member;
use crate::seat::{Door, Seat};
use crate::tally::tally;

/// Checks the request before the upgrade: a plain GET of the same address hears why it would be
/// refused, which a browser's WebSocket is not told.
pub async fn open(
    State(host): State<Host>,
    Path(room): Path<String>,
    UrlQuery(query): UrlQuery<Query>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    let entry = host.admit(&room, &query, &headers, None);
    // Who is admitted has still to ask.
    let entry = entry.or_else(|refusal| tally(host.signaling(), Op::Join, Err(refusal)))?;
    let upgrade = upgrade.map_err(|_| {
        Refusal::new(
            StatusCode::UPGRADE_REQUIRED,
            "upgrade",
            "this address speaks WebSocket; see docs/signalling.md",
        )
    })?;
    let upgrade = upgrade.max_message_size(MAX_MESSAGE).max_frame_size(MAX_MESSAGE);
    Ok(upgrade.on_upgrade(async move |socket| {
        let _counted = host.signaling().websocket();
        let closing = host.closing();
        Conversation { host, entry, socket, closing, mistakes: 0 }.run().await;
    }))
}

struct Conversation {
    host: Host,
    entry: Entry,
    socket: WebSocket,
    closing: Closing,
    /// Messages that could not be understood.
    mistakes: u32,
}

/// Why a conversation ended.
enum End {
    /// The client said `leave`.
    Left,
    /// The socket closed or broke: nobody is there to hear a goodbye.
    Gone,
    /// The client stopped answering pings, or never joined.
    Silent,
    /// The client kept sending what is no message.
    Babble,
    /// The engine would not seat the peer.
    Refused(Refusal),
    /// The engine let the peer go.
    Ended(String),
    /// The client reads more slowly than events come, and has missed some.
    Lagged,
    /// The server shuts down.
    Closing,
}

impl Conversation {
    async fn run(mut self) {
        let end = match self.wait_for_join().await {
            // The seat is given up before the goodbye: the room must not wait for a slow socket.
            Ok(seat) => self.converse(seat).await,
            Err(end) => end,
        };
        self.say_goodbye(end).await;
    }

    async fn wait_for_join(&mut self) -> Result<Seat, End> {
        let mut closing = self.closing.clone();
        let sdp = tokio::select! {
            sdp = timeout(JOIN_WITHIN, self.hear_join()) => sdp.unwrap_or(Err(End::Silent))?,
            _ = closing.begins() => return Err(End::Closing),
        };
        let taken = Seat::take(&self.host, &self.entry, Door::Page, Subscribe::Auto, &sdp).await;
        let (seat, answer) = self.tally(Op::Join, taken).map_err(End::Refused)?;
        self.send(ToClient::Joined { peer: seat.peer().id(), answer, peers: seat.others() }).await?;
        Ok(seat)
    }

    async fn hear_join(&mut self) -> Result<String, End> {
        loop {
            let frame = self.socket.recv().await;
            match self.understand(frame).await? {
                Some(FromClient::Join { sdp }) => return Ok(sdp),
                Some(FromClient::Leave) => return Err(self.let_go()),
                Some(_) => self.object("not-joined", "send `join` first").await?,
                None => {}
            }
        }
    }

    async fn converse(&mut self, seat: Seat) -> End {
        let mut closing = self.closing.clone();
        let mut pings = interval(PING_EVERY);
        let mut unanswered = 0;
        loop {
            let step = tokio::select! {
                frame = self.socket.recv() => {
                    unanswered = 0;
                    self.on_frame(&seat, frame).await
                }
                event = seat.next_event() => self.on_event(event).await,
                _ = pings.tick() => {
                    unanswered += 1;
                    self.ping(unanswered).await
                }
                _ = closing.begins() => Err(End::Closing),
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    async fn on_frame(
        &mut self,
        seat: &Seat,
        frame: Option<Result<Message, axum::Error>>,
    ) -> Result<(), End> {
        let Some(message) = self.understand(frame).await? else {
            return Ok(());
        };
        let reply = match message {
            FromClient::Join { .. } => {
                return self.object("already-joined", "this socket has joined already").await;
            }
            FromClient::Offer { sdp } => {
                let answer = seat.peer().offer(&sdp).await.map_err(Refusal::from);
                self.tally(Op::Offer, answer).map(|sdp| Some(ToClient::Answer { sdp }))
            }
            FromClient::Answer { sdp } => {
                let taken = seat.peer().answer(&sdp).await.map_err(Refusal::from);
                self.tally(Op::Answer, taken).map(|()| None)
            }
            FromClient::Limit { mid, spatial, temporal } => {
                let all = LayerLimit::NONE;
                let (spatial, temporal) = (spatial.unwrap_or(all.spatial), temporal.unwrap_or(all.temporal));
                let limited = seat.peer().limit_layers(&mid, LayerLimit { spatial, temporal }).await;
                let outcome = if limited { Outcome::Ok } else { Outcome::Refused };
                self.host.signaling().request(Op::Other, outcome);
                if !limited {
                    return self.object("bad-message", "`mid` names no m-line to receive on").await;
                }
                Ok(None)
            }
            FromClient::Leave => return Err(self.let_go()),
        };
        match reply.unwrap_or_else(|refusal| Some(refusal.into())) {
            Some(reply) => self.send(reply).await,
            None => Ok(()),
        }
    }

    async fn on_event(&mut self, event: Option<PeerEvent>) -> Result<(), End> {
        let message = match event {
            None => return Err(End::Ended("gone".to_owned())),
            Some(PeerEvent::Left(reason)) => return Err(End::Ended(format!("{reason:?}"))),
            Some(PeerEvent::Lagged(_)) => return Err(End::Lagged),
            Some(PeerEvent::Offer { sdp }) => ToClient::Offer { sdp },
            Some(PeerEvent::Slots(slots)) => {
                ToClient::Slots { slots: slots.into_iter().map(Into::into).collect() }
            }
            Some(PeerEvent::PeerJoined(PeerInfo { peer, name })) => {
                ToClient::PeerJoined(Member { peer, name })
            }
            Some(PeerEvent::PeerLeft(PeerInfo { peer, name })) => ToClient::PeerLeft(Member { peer, name }),
            Some(PeerEvent::CapChanged { cap, cause }) => {
                ToClient::Cap { bps: cap.map(Bitrate::as_bps), cause: format!("{cause:?}") }
            }
            Some(PeerEvent::LayerChanged { mid, layer }) => {
                ToClient::Layer { mid, rid: layer.rid, size: layer.size }
            }
            Some(PeerEvent::DominantSpeaker(speaker)) => {
                ToClient::Floor { peer: speaker.map(|speaker| speaker.peer.to_string()) }
            }
            Some(PeerEvent::CodecMissing { mid, publisher: PeerInfo { peer, name }, codec }) => {
                ToClient::CodecMissing { mid, publisher: Member { peer, name }, codec }
            }
            Some(PeerEvent::Draining { deadline }) => ToClient::Draining { deadline: deadline.as_secs() },
            Some(PeerEvent::Unreachable { announced }) => ToClient::Unreachable { announced },
            // The page knows its own tracks and its connection's state.
            Some(_) => return Ok(()),
        };
        self.send(message).await
    }

    /// The message in a frame; `None` for one that carries none or was objected to.
    async fn understand(
        &mut self,
        frame: Option<Result<Message, axum::Error>>,
    ) -> Result<Option<FromClient>, End> {
        match frame {
            None | Some(Err(_) | Ok(Message::Close(_))) => Err(End::Gone),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(None),
            Some(Ok(Message::Binary(_))) => {
                self.host.signaling().received(MessageType::Other);
                self.object("bad-message", "send JSON in text frames").await.map(|()| None)
            }
            Some(Ok(Message::Text(text))) => match serde_json::from_str(&text) {
                Ok(message) => {
                    self.host.signaling().received(FromClient::kind(&message));
                    Ok(Some(message))
                }
                Err(error) => {
                    self.host.signaling().received(MessageType::Other);
                    self.object("bad-message", &format!("not a message: {error}")).await.map(|()| None)
                }
            },
        }
    }

    /// Says what was wrong, and gives up on a client that keeps being wrong.
    async fn object(&mut self, code: &'static str, message: &str) -> Result<(), End> {
        self.mistakes += 1;
        self.send(ToClient::Error { code, message: message.to_owned(), retry_after: None }).await?;
        if self.mistakes < MAX_MISTAKES { Ok(()) } else { Err(End::Babble) }
    }

    fn let_go(&self) -> End {
        self.host.signaling().request(Op::Leave, Outcome::Ok);
        End::Left
    }

    fn tally<T>(&self, op: Op, result: Result<T, Refusal>) -> Result<T, Refusal> {
        tally(self.host.signaling(), op, result)
    }

    async fn ping(&mut self, unanswered: u32) -> Result<(), End> {
        if unanswered > MAX_UNANSWERED {
            return Err(End::Silent);
        }
        self.send_frame(Message::Ping(Default::default())).await
    }

    async fn send(&mut self, message: ToClient) -> Result<(), End> {
        self.host.signaling().sent(message.kind());
        let text = serde_json::to_string(&message).expect("messages are plain text and numbers");
        self.send_frame(Message::Text(text.into())).await
    }

    /// A client that does not read must not hold its seat: the send has a time limit.
    async fn send_frame(&mut self, frame: Message) -> Result<(), End> {
        match timeout(SEND_WITHIN, self.socket.send(frame)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(End::Gone),
        }
    }

    async fn say_goodbye(mut self, end: End) {
        let (code, reason, retry) = match end {
            End::Gone => return,
            End::Left => (1000, "you left".to_owned(), false),
            End::Closing => (1001, "the server is shutting down".to_owned(), true),
            End::Babble => (1008, "too many messages that are none".to_owned(), false),
            End::Silent => (4408, "nothing was heard from you in time".to_owned(), true),
            End::Ended(reason) => (4410, format!("the engine let you go: {reason}"), true),
            End::Lagged => (4429, "you missed events; join again".to_owned(), true),
            End::Refused(refusal) => {
                let retry = refusal.status.is_server_error();
                let message = refusal.message.clone();
                if self.send(refusal.into()).await.is_err() {
                    return;
                }
                (if retry { 4503 } else { 4400 }, message, retry)
            }
        };
        let _ = self.send(ToClient::Bye { reason, retry }).await;
        let _ = self.send_frame(Message::Close(Some(CloseFrame { code, reason: Default::default() }))).await;
    }
}

/// Room for an offer of 40 slots (130 kB), twice.
const MAX_MESSAGE: usize = 384 * 1024;
const JOIN_WITHIN: Duration = Duration::from_secs(10);
const SEND_WITHIN: Duration = Duration::from_secs(10);
/// Under the 30 s after which the hastiest proxies close an idle connection.
const PING_EVERY: Duration = Duration::from_secs(15);
/// 45 s of silence.
const MAX_UNANSWERED: u32 = 3;
/// Enough to see one's bug in the error messages.
const MAX_MISTAKES: u32 = 8;

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use futures_util::{SinkExt, StreamExt};
    use serde_json::Value;
    use sluicegate::{Config, Sfu};
    use tokio::net::{TcpListener, TcpStream};
    use tokio_tungstenite::tungstenite::Message as Frame;
    use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

    use super::*;

    struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

    impl Client {
        async fn connect() -> (Host, Client) {
            let config =
                Config::new("127.0.0.1:0".parse().unwrap()).announce(IpAddr::V4(Ipv4Addr::LOCALHOST));
            let host = Host::new(Sfu::start(config).await.unwrap(), None, "test".parse().unwrap());
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = format!("ws://{}/ws/standup?name=ada", listener.local_addr().unwrap());
            let router = crate::site::router(host.clone());
            tokio::spawn(async move { axum::serve(listener, router).await });
            let (socket, _) = connect_async(address).await.unwrap();
            (host, Client(socket))
        }

        async fn say(&mut self, text: &str) {
            self.0.send(Frame::text(text)).await.unwrap();
        }

        async fn hear(&mut self) -> Value {
            loop {
                match self.0.next().await.expect("the socket is open").unwrap() {
                    Frame::Text(text) => return serde_json::from_str(&text).unwrap(),
                    Frame::Ping(_) => {}
                    frame => panic!("not a message: {frame:?}"),
                }
            }
        }

        async fn hear_close(&mut self) -> u16 {
            match self.0.next().await {
                Some(Ok(Frame::Close(Some(frame)))) => frame.code.into(),
                other => panic!("not a close: {other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn nonsense_is_answered_until_it_is_too_much() {
        let (_host, mut client) = Client::connect().await;
        for nonsense in ["{", "[]", r#"{"type":"dance"}"#, r#"{"type":"join"}"#, "\"join\"", "{}", "null"] {
            client.say(nonsense).await;
            assert_eq!(client.hear().await["code"], "bad-message", "{nonsense}");
        }
        client.say(r#"{"type":"answer","sdp":""}"#).await;
        assert_eq!(client.hear().await["code"], "not-joined");
        assert_eq!(client.hear().await["type"], "bye");
        assert_eq!(client.hear_close().await, 1008);
    }

    #[tokio::test]
    async fn a_bad_first_offer_ends_the_conversation() {
        let (_host, mut client) = Client::connect().await;
        client.say(r#"{"type":"join","sdp":"hello"}"#).await;
        assert_eq!(client.hear().await["code"], "bad-offer");
        let bye = client.hear().await;
        assert_eq!((&bye["type"], &bye["retry"]), (&Value::from("bye"), &Value::from(false)));
        assert_eq!(client.hear_close().await, 4400);
    }

    #[tokio::test]
    async fn shutting_down_says_goodbye() {
        let (host, mut client) = Client::connect().await;
        client.say(r#"{"type":"offer","sdp":""}"#).await;
        assert_eq!(client.hear().await["code"], "not-joined");
        tokio::join!(host.close(), async {
            let bye = client.hear().await;
            assert_eq!((&bye["type"], &bye["retry"]), (&Value::from("bye"), &Value::from(true)));
            assert_eq!(client.hear_close().await, 1001);
        });
    }
}

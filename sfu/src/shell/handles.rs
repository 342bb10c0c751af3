//! Rooms and peers as the host holds them.

use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use tokio::sync::oneshot;

use super::events::Events;
use super::load::Load;
use super::sfu::Shared;
use super::worker::{Command, WorkerHandle};
use crate::config::{Audible, LayerLimit, PeerConfig, TrackSource};
use crate::counters::JoinOutcome;
use crate::engine::{Engine, MessagePayload};
use crate::error::{CapError, JoinError, MessageError, NegotiateError};
use crate::event::{CapExplanation, PeerEvent};
use crate::ids::PeerId;
use crate::saturation::admission::Pace;
use crate::session::trace;
use crate::stats::{PeerStats, RoomStats};
use crate::units::Bitrate;

/// A room. Cheap to clone.
#[derive(Clone)]
pub struct Room {
    pub(super) shared: Arc<RoomShared>,
}

pub(super) struct RoomShared {
    pub(super) name: String,
    pub(super) worker: usize,
    pub(super) pace: Pace,
    /// Peers in it, on whichever worker, and who are about to be.
    pub(super) peers: AtomicUsize,
    /// It has been given a cap or other settings, which go with it.
    pub(super) configured: AtomicBool,
    pub(super) sfu: Arc<Shared>,
}

impl Drop for RoomShared {
    fn drop(&mut self) {
        if self.configured.load(Relaxed) {
            for worker in &self.sfu.workers {
                let name = self.name.clone();
                drop(worker.call(move |engine, now| {
                    engine.set_room_cap(now, &name, None);
                    engine.forget_settings(now, &name);
                }));
            }
        }
        self.sfu.forget_room(&self.name, self.worker);
    }
}

impl Room {
    /// The name it was made with.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Admits a client by its offer (RFC 8829). Deliver the returned answer to it; media flows as soon as
    /// it has connected, which [`PeerEvent::Connected`] tells.
    ///
    /// Resolves when the room's worker has answered, within milliseconds. If the future is dropped before,
    /// the peer does not stay behind.
    ///
    /// # Errors
    ///
    /// [`JoinError::Offer`] names what is wrong with the offer, and in which m-line. [`JoinError::Refused`] says why the
    /// node takes nobody now, and when to ask again.
    pub async fn join(&self, mut config: PeerConfig, offer: &str) -> Result<(Peer, String), JoinError> {
        let hash = self.shared.sfu.salt.hash_one(&self.shared.name);
        let level = self.shared.sfu.controls.readings.lock().level;
        let seat = Seat::take(&self.shared);
        let span = trace::joining(config.span.take(), seat.worker, hash, level.as_number());
        let admitting = trace::admitting(&span);
        let grant = self.shared.sfu.admit_join(&self.shared, seat.worker);
        let grant = grant.inspect_err(|refused| {
            trace::ended(&span, JoinOutcome::of_refusal(refused.reason.label()));
        })?;
        drop(admitting);
        config.span = Some(span);
        let name = config.name.clone();
        let events = Events::new(self.shared.sfu.events_limit);
        let (reply, answer) = oneshot::channel();
        let command = Command::Join {
            room: self.shared.name.clone(),
            config: Box::new(config),
            offer: offer.to_owned(),
            events: events.clone(),
            reply,
        };
        let worker = seat.worker();
        let joining = Joining::begin(&worker.load);
        worker.commands.send(command).map_err(|_| JoinError::Shutdown)?;
        let joined = answer.await.unwrap_or(Err(JoinError::Shutdown));
        let (id, answer) = joined.inspect_err(|_| self.shared.sfu.controls.door.give_back(grant))?;
        drop(joining);
        self.shared.sfu.greet(&events);
        let peer = Peer { shared: Arc::new(PeerShared { id, name, events, seat }) };
        Ok((peer, answer))
    }
}

impl Room {
    /// What happens in it now. `None` while nobody is in it.
    pub async fn stats(&self) -> Option<RoomStats> {
        let mut parts = Vec::new();
        for worker in &self.shared.sfu.workers {
            let name = self.shared.name.clone();
            parts.extend(worker.call(move |engine, now| engine.room_stats(now, &name)).await.flatten());
        }
        RoomStats::together(parts).pop()
    }

    /// Caps what all who are in the room publish together, whoever comes and goes. Each gets a fair share of it: nobody
    /// is held to less than he sends while another may send more. `None` lifts the cap.
    ///
    /// Publishers are told as by [`Peer::set_publish_cap`]; what a room sends to its subscribers follows.
    pub async fn set_cap(&self, cap: impl Into<Option<Bitrate>>) {
        let cap = cap.into();
        self.shared.configured.store(true, Relaxed);
        for worker in &self.shared.sfu.workers {
            let name = self.shared.name.clone();
            worker.call(move |engine, now| engine.set_room_cap(now, &name, cap)).await;
        }
    }

    /// Whose audio goes out in the room. Default: [`Audible::Auto`].
    ///
    /// Nobody's words are cut: who is heard keeps his place through pauses, and who begins to speak is heard from the
    /// 60 ms before he was loud enough.
    ///
    /// ```no_run
    /// # async fn host(room: sluicegate::Room) {
    /// room.set_audible(sluicegate::Audible::Loudest(5)).await;
    /// # }
    /// ```
    pub async fn set_audible(&self, audible: Audible) {
        self.shared.configured.store(true, Relaxed);
        for worker in &self.shared.sfu.workers {
            let name = self.shared.name.clone();
            worker.call(move |engine, now| engine.set_audible(now, &name, audible)).await;
        }
    }

    /// So many videos at most to each who is in the room, whoever comes and goes: those first that it has
    /// [pinned](Peer::pin), then [screens](Peer::set_source), then of who had the floor last. `None`: all.
    ///
    /// A video that comes back starts with a keyframe, which is asked for at once. Where the node is short of something,
    /// there may be fewer.
    pub async fn set_last_n(&self, last_n: impl Into<Option<u32>>) {
        let last_n = last_n.into();
        self.shared.configured.store(true, Relaxed);
        for worker in &self.shared.sfu.workers {
            let name = self.shared.name.clone();
            worker.call(move |engine, now| engine.set_room_last_n(now, &name, last_n)).await;
        }
    }

    /// Says something to everybody in the room whose client has a data channel labelled `channel` open. How many these were;
    /// those for whom too much waits already are not among them.
    ///
    /// ```no_run
    /// # async fn host(room: sluicegate::Room) -> Result<(), sluicegate::MessageError> {
    /// let heard = room.broadcast("chat", "five minutes left").await?;
    /// println!("{heard} of them hear it");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`MessageError::TooLarge`] beyond 64 KiB, [`MessageError::Gone`] when the SFU has shut down.
    pub async fn broadcast(
        &self,
        channel: &str,
        message: impl Into<MessagePayload>,
    ) -> Result<usize, MessageError> {
        let message = message.into();
        let tell = |worker: &WorkerHandle| {
            let (name, channel, message) = (self.shared.name.clone(), channel.to_owned(), message.clone());
            worker.call(move |engine, _| engine.broadcast(&name, &channel, &message))
        };
        // Wherever the room has peers.
        let told: Vec<_> = self.shared.sfu.workers.iter().map(tell).collect();
        let mut heard = 0;
        for told in told {
            heard += told.await.unwrap_or(Err(MessageError::Gone))?;
        }
        Ok(heard)
    }
}

/// A place in a room, on one of the workers.
struct Seat {
    room: Arc<RoomShared>,
    worker: usize,
}

impl Seat {
    fn take(room: &Arc<RoomShared>) -> Seat {
        let peers = room.peers.fetch_add(1, Relaxed);
        Seat { worker: room.sfu.place(room.worker, peers), room: room.clone() }
    }

    fn worker(&self) -> &WorkerHandle {
        &self.room.sfu.workers[self.worker]
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.room.peers.fetch_sub(1, Relaxed);
    }
}

/// A join that its worker has not answered yet, which others who choose a worker must know of.
struct Joining<'l>(&'l Load);

impl<'l> Joining<'l> {
    fn begin(load: &'l Load) -> Joining<'l> {
        load.joining.fetch_add(1, Relaxed);
        Joining(load)
    }
}

impl Drop for Joining<'_> {
    fn drop(&mut self) {
        self.0.joining.fetch_sub(1, Relaxed);
    }
}

/// A peer in a room. Cheap to clone; dropping the last handle lets the peer go.
#[derive(Clone)]
pub struct Peer {
    shared: Arc<PeerShared>,
}

struct PeerShared {
    id: PeerId,
    name: String,
    events: Arc<Events>,
    seat: Seat,
}

impl Drop for PeerShared {
    fn drop(&mut self) {
        // A worker that has ended has let everybody go.
        let _ = self.seat.worker().commands.send(Command::Leave { peer: self.id });
    }
}

impl Peer {
    /// Its id, unique for the life of the [`Sfu`](crate::Sfu).
    pub fn id(&self) -> PeerId {
        self.shared.id
    }

    /// The name it joined with.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// The room it is in.
    pub fn room(&self) -> Room {
        Room { shared: self.shared.seat.room.clone() }
    }

    /// The next event; `None` after [`PeerEvent::Left`]. Each event goes to one caller, whichever clone
    /// asks first.
    pub async fn next_event(&self) -> Option<PeerEvent> {
        self.shared.events.next().await
    }

    /// Answers an offer that the client makes later, for instance to publish another track.
    ///
    /// # Errors
    ///
    /// [`NegotiateError::Offer`]: with [`OfferError::Glare`](crate::error::OfferError::Glare) while an offer
    /// of the SFU is pending; the client rolls its own back, answers that one, then offers again. The peer
    /// keeps its previous state.
    pub async fn offer(&self, sdp: &str) -> Result<String, NegotiateError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Offer { peer: self.shared.id, sdp: sdp.to_owned(), reply })?;
        answer.await.map_err(|_| NegotiateError::Gone)?
    }

    /// Takes the client's answer to [`PeerEvent::Offer`].
    ///
    /// # Errors
    ///
    /// [`NegotiateError::Answer`] when it does not fit the offer.
    pub async fn answer(&self, sdp: &str) -> Result<(), NegotiateError> {
        let (reply, done) = oneshot::channel();
        self.send(Command::Answer { peer: self.shared.id, sdp: sdp.to_owned(), reply })?;
        done.await.map_err(|_| NegotiateError::Gone)?
    }

    /// Asks for what a [`PeerEvent::Lagged`] host may have missed: the slots come again, who has the floor, and
    /// an offer that is still unanswered (a fresh one, which replaces it).
    pub fn resync(&self) {
        let _ = self.send(Command::Resync { peer: self.shared.id });
    }

    /// Caps what this peer publishes, all its tracks together. `None` lifts the cap.
    ///
    /// Browsers obey within half a second (REMB). A publisher that stays more than 25 % over for 2 s loses its largest
    /// layers, and if that is not enough whole pictures, down to the cap; after 10 s of more than twice the cap, its
    /// video. Audio counts, but is never dropped. [`PeerEvent::CapChanged`] tells.
    ///
    /// # Errors
    ///
    /// [`CapError::Gone`] when the peer has left.
    pub async fn set_publish_cap(&self, cap: impl Into<Option<Bitrate>>) -> Result<(), CapError> {
        let (peer, cap) = (self.shared.id, cap.into());
        self.call(move |engine, now| engine.set_publish_cap(now, peer, cap))
            .await
            .unwrap_or(Err(CapError::Gone))
    }

    /// Caps one of the tracks that this peer publishes, by its m-line ([`PeerEvent::TrackAdded`]). `None` lifts the cap.
    ///
    /// What goes over is dropped as with [`set_publish_cap`](Peer::set_publish_cap). Senders take caps for all they send
    /// together: they are told once every video of theirs has one.
    ///
    /// # Errors
    ///
    /// [`CapError::NoSuchTrack`], or [`CapError::Gone`] when the peer has left.
    pub async fn set_track_cap(&self, mid: &str, cap: impl Into<Option<Bitrate>>) -> Result<(), CapError> {
        let (peer, mid, cap) = (self.shared.id, mid.to_owned(), cap.into());
        let set = self.call(move |engine, now| engine.set_track_cap(now, peer, &mid, cap));
        set.await.unwrap_or(Err(CapError::Gone))
    }

    /// Caps what this peer receives: smaller layers are chosen, from their next keyframe on, so that all it watches
    /// fits. Where there are no smaller ones, whole pictures are left out. Audio counts, but is never left out.
    /// `None` lifts the cap.
    ///
    /// # Errors
    ///
    /// [`CapError::Gone`] when the peer has left.
    pub async fn set_downlink_cap(&self, cap: impl Into<Option<Bitrate>>) -> Result<(), CapError> {
        let (peer, cap) = (self.shared.id, cap.into());
        self.call(move |engine, now| engine.set_downlink_cap(now, peer, cap))
            .await
            .unwrap_or(Err(CapError::Gone))
    }

    /// Every cap on what this peer publishes and receives, and so which one binds. `None` once it has left.
    ///
    /// ```no_run
    /// # async fn host(peer: sluicegate::Peer) {
    /// if let Some(cap) = peer.explain_cap().await.and_then(|caps| caps.binds_publish()) {
    ///     println!("{} may publish {}: {:?}", peer.name(), cap.bitrate, cap.scope);
    /// }
    /// # }
    /// ```
    pub async fn explain_cap(&self) -> Option<CapExplanation> {
        let peer = self.shared.id;
        self.call(move |engine, _| engine.explain_cap(peer)).await?
    }

    /// Has the client find its way to us anew (ICE restart, RFC 8445 §9), by a [`PeerEvent::Offer`]: for a host
    /// that knows its client has changed networks, or that its media has stopped. Media flows on meanwhile.
    pub fn restart_ice(&self) {
        let _ = self.send(Command::RestartIce { peer: self.shared.id });
    }

    /// Limits what this peer gets of the track on its m-line `mid` (see
    /// [`SlotInfo::mid`](crate::SlotInfo::mid)): a tile of 180 lines needs no 720. The limit stays with the m-line,
    /// whatever it carries later. Within it, the peer gets the best layer that its publisher sends and its network
    /// carries; a step up shows at the publisher's next keyframe, which is asked for.
    ///
    /// False when the peer has no such m-line to receive on, or is gone.
    pub async fn limit_layers(&self, mid: &str, limit: LayerLimit) -> bool {
        let (peer, mid) = (self.shared.id, mid.to_owned());
        self.call(move |engine, now| engine.limit_layers(now, peer, &mid, limit)).await.unwrap_or(false)
    }

    /// So many videos at most to this peer, as [`Room::set_last_n`] does for all; the least holds. `None`: all.
    ///
    /// False when the peer is gone.
    pub async fn set_last_n(&self, last_n: impl Into<Option<u32>>) -> bool {
        let (peer, last_n) = (self.shared.id, last_n.into());
        self.call(move |engine, now| engine.set_last_n(now, peer, last_n)).await.unwrap_or(false)
    }

    /// Has this peer get the video on its m-line `mid` ([`SlotInfo::mid`](crate::SlotInfo::mid)) before all others, where it
    /// does not get all; the fastest of its pictures, too, when the node drops those of others. It may pin several. The pin is
    /// gone with the track.
    ///
    /// False when the peer gets no video on such an m-line, or is gone.
    ///
    /// ```no_run
    /// # async fn host(peer: sluicegate::Peer) {
    /// peer.set_last_n(4).await;
    /// peer.pin("s1", true).await;
    /// # }
    /// ```
    pub async fn pin(&self, mid: &str, pinned: bool) -> bool {
        let (peer, mid) = (self.shared.id, mid.to_owned());
        self.call(move |engine, now| engine.pin(now, peer, &mid, pinned)).await.unwrap_or(false)
    }

    /// Says what the video shows that this peer publishes on `mid` ([`PeerEvent::TrackAdded`]): a screen comes before faces
    /// where not all are sent, and keeps 300 kb/s when the node is short of something. Default: [`TrackSource::Camera`].
    ///
    /// False when the peer publishes no such video, or is gone.
    pub async fn set_source(&self, mid: &str, source: TrackSource) -> bool {
        let (peer, mid) = (self.shared.id, mid.to_owned());
        self.call(move |engine, now| engine.set_source(now, peer, &mid, source)).await.unwrap_or(false)
    }

    /// Says something to this peer alone, on its data channel labelled `channel`.
    ///
    /// It is queued then, and goes as the client has opened the channel: ordered or not, reliable or not.
    ///
    /// # Errors
    ///
    /// [`MessageError::NoChannel`] unless the client has opened it; it has 64 of them at most.
    pub async fn send_message(
        &self,
        channel: &str,
        message: impl Into<MessagePayload>,
    ) -> Result<(), MessageError> {
        let (peer, channel, message) = (self.shared.id, channel.to_owned(), message.into());
        let sent = self.call(move |engine, _| engine.send_message(peer, &channel, &message));
        sent.await.unwrap_or(Err(MessageError::Gone))
    }

    /// What the peer sends and gets now. `None` once it has left.
    pub async fn stats(&self) -> Option<PeerStats> {
        let peer = self.shared.id;
        self.call(move |engine, now| engine.peer_stats(now, peer)).await?
    }

    /// Lets the peer go now, whoever else holds a handle.
    pub fn leave(&self) {
        let _ = self.send(Command::Leave { peer: self.shared.id });
    }

    fn call<T, F>(&self, call: F) -> impl Future<Output = Option<T>> + Send + use<T, F>
    where
        T: Send + 'static,
        F: FnOnce(&mut Engine, Instant) -> T + Send + 'static,
    {
        self.shared.seat.worker().call(call)
    }

    fn send(&self, command: Command) -> Result<(), NegotiateError> {
        self.shared.seat.worker().commands.send(command).map_err(|_| NegotiateError::Gone)
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room").field("name", &self.name()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").field("id", &self.id()).field("name", &self.name()).finish_non_exhaustive()
    }
}

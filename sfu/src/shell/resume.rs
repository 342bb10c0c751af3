//! Coming back, as the host sees it: tokens given out, tokens taken.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tracing::Span;

use super::clock;
use super::events::Events;
use super::handles::{Peer, PeerShared, Seat};
use super::memory::MemoryStore;
use super::sfu::Sfu;
use super::worker::Command;
use crate::config::{Config, PeerConfig};
use crate::engine::{ResumeFault, Return};
use crate::error::{JoinError, ResumeError, ResumeTokenError};
use crate::interceptors::BoxedInterceptor;
use crate::resume::store::Shelf;
use crate::resume::token::Imprint;
use crate::resume::{Carried, Origin, Record, ResumeToken, SessionKey, SessionStore};

/// How a client comes back: its token, and what the host wants to be sure of.
///
/// A token alone, as text, is one already: `sfu.resume(token, offer)`.
pub struct Resume {
    token: String,
    room: Option<String>,
    in_place: bool,
    interceptors: Vec<(usize, BoxedInterceptor)>,
    span: Option<Span>,
}

impl Resume {
    /// With this token, as the client gave it: whatever it is.
    pub fn new(token: impl Into<String>) -> Resume {
        Resume { token: token.into(), room: None, in_place: false, interceptors: Vec::new(), span: None }
    }

    /// Only into this room: where the client has come by the door of one. Default: whichever the token is for.
    pub fn room(mut self, room: impl Into<String>) -> Resume {
        self.room = Some(room.into());
        self
    }

    /// Only on the connection that the client still has, for no other offer can be answered by one that has connected
    /// already. Where it cannot be, [`ResumeError::ConnectionGone`] tells, the token stays good, and the client comes
    /// with a new connection. Default: on whichever its offer is of.
    pub fn in_place(mut self) -> Resume {
        self.in_place = true;
        self
    }

    /// As [`PeerConfig::interceptor`], for a new connection: those of the old one end with it.
    pub fn interceptor(mut self, position: usize, interceptor: BoxedInterceptor) -> Resume {
        self.interceptors.push((position, interceptor));
        self
    }

    /// As [`PeerConfig::span`], for a new connection.
    pub fn span(mut self, span: Span) -> Resume {
        self.span = Some(span);
        self
    }
}

impl From<&str> for Resume {
    fn from(token: &str) -> Resume {
        Resume::new(token)
    }
}

impl From<&ResumeToken> for Resume {
    fn from(token: &ResumeToken) -> Resume {
        Resume::new(token.to_string())
    }
}

impl fmt::Debug for Resume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resume")
            .field("room", &self.room)
            .field("in_place", &self.in_place)
            .finish_non_exhaustive()
    }
}

/// What a node keeps of those who may come back to it.
pub(super) struct Returns {
    store: Arc<dyn SessionStore>,
    /// Random: ids of other nodes, and of this one before it was started, mean nothing here.
    node: u64,
    ttl: Duration,
    grace: Duration,
    /// What has become here of tokens, though the store may not know it yet.
    spent: Mutex<Shelf<Spent>>,
}

/// Why a token is good for nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Spent {
    Revoked,
    /// Or it is being used.
    Used,
}

impl Returns {
    pub fn new(config: &Config) -> Returns {
        let mut node = [0; 8];
        rand::fill(&mut node).expect("the system's random source answers");
        Returns {
            store: config.sessions.clone().unwrap_or_else(|| Arc::new(MemoryStore::new())),
            node: u64::from_ne_bytes(node),
            ttl: config.resume_within,
            grace: config.orphan_grace,
            spent: Mutex::default(),
        }
    }
}

impl PeerShared {
    /// None of its tokens is good any more, but for one of which more is known.
    pub(super) fn revoke(&self, but: Option<SessionKey>) -> Vec<SessionKey> {
        let mut tokens = std::mem::take(&mut *self.tokens.lock());
        tokens.retain(|key| Some(*key) != but);
        let returns = &self.seat.room.sfu.returns;
        let now = clock::now();
        let mut spent = returns.spent.lock();
        tokens.iter().for_each(|key| spent.put(now, *key, Spent::Revoked, returns.ttl));
        tokens
    }
}

impl Peer {
    /// What the client can come back with, should it lose its connection or the host lose its client: give it to the
    /// client over signalling, and a fresh one now and then.
    ///
    /// It is good for [`Config::resume_within`], for one use ([`Sfu::resume`]), into this room, as this peer. Of those given
    /// out for a peer the latest two are good: the latest may not have reached the client. It brings back the name, what
    /// the peer subscribes to, and its caps: of a peer that is still here as they are then, and of one that has left as
    /// they were when the token was given out.
    ///
    /// # Errors
    ///
    /// [`ResumeTokenError::Gone`] when the peer has left, [`ResumeTokenError::Store`] when the host's store fails.
    pub async fn resume_token(&self) -> Result<ResumeToken, ResumeTokenError> {
        let shared = &self.shared;
        let returns = &shared.seat.room.sfu.returns;
        let peer = shared.id;
        let standing = self.call(move |engine, _| engine.standing(peer)).await.flatten();
        let standing = standing.ok_or(ResumeTokenError::Gone)?;
        let now = clock::now();
        let token = ResumeToken::random(clock::epoch_millis(now, now + returns.ttl));
        let Imprint { key, proof } = token.imprint();
        let origin = Origin::new(returns.node, peer);
        let record = Record::Good(Box::new(Carried::new(proof, &shared.seat.room.name, origin, standing)));
        returns.store.put(key, record.to_bytes(), returns.ttl).await?;
        let outdated = {
            let mut tokens = shared.tokens.lock();
            tokens.push(key);
            (tokens.len() > TOKENS).then(|| tokens.remove(0))
        };
        if let Some(outdated) = outdated {
            returns.spent.lock().put(now, outdated, Spent::Revoked, returns.ttl);
            returns.store.take(outdated).await?;
        }
        if shared.events.is_closed() {
            // It has left, or another handle holds it, while the store was busy.
            self.revoke_resume_tokens().await?;
            return Err(ResumeTokenError::Gone);
        }
        Ok(token)
    }

    /// No token that was given out for this peer is good any more. [`leave`](Peer::leave) sees to that too, but at once and on
    /// this node alone: this waits for the store, and so holds on all nodes that share it.
    ///
    /// # Errors
    ///
    /// [`ResumeTokenError::Store`] when the host's store fails; here they are revoked all the same.
    pub async fn revoke_resume_tokens(&self) -> Result<(), ResumeTokenError> {
        let store = &self.shared.seat.room.sfu.returns.store;
        for key in self.shared.revoke(None) {
            store.take(key).await?;
        }
        Ok(())
    }

    /// The host has lost the client: its signalling connection broke. Media flows on for [`Config::orphan_grace`], and
    /// then the peer leaves ([`LeaveReason::Orphaned`](crate::LeaveReason::Orphaned)), unless its client comes back
    /// ([`Sfu::resume`]) or is found ([`adopted`](Peer::adopted)). `sfu_orphaned_handles` counts them.
    ///
    /// Keep a handle meanwhile, and read its events: they end with `Left`, or with
    /// [`PeerEvent::TakenOver`](crate::PeerEvent::TakenOver) when the client comes back.
    pub fn orphaned(&self) {
        let (peer, grace) = (self.shared.id, self.shared.seat.room.sfu.returns.grace);
        drop(self.call(move |engine, now| engine.set_orphaned(now, peer, Some(grace))));
    }

    /// The host has found the client of an orphaned peer by itself, on another connection of its own: the peer stays.
    pub fn adopted(&self) {
        let peer = self.shared.id;
        drop(self.call(move |engine, now| engine.set_orphaned(now, peer, None)));
    }
}

impl Sfu {
    /// Lets a client come back with a token of [`Peer::resume_token`] and an offer: as who it was, into the room that it was in.
    ///
    /// If the peer is still here and the offer is of the connection that it has, that goes on, and no packet is lost for
    /// it. If the offer is of a new connection, that takes the old one's place: it is the same [`Peer::id`], and nobody sees
    /// it leave. If the peer is gone, or was on another node, it joins anew, under another id, with the name, the
    /// subscriptions and the caps that the token stands for. In each case the returned handle is the one that holds the
    /// peer, and hears what a newcomer hears; any other gets [`PeerEvent::TakenOver`](crate::PeerEvent::TakenOver).
    ///
    /// Admission lets it pass at every level of saturation, and while the node drains.
    ///
    /// ```no_run
    /// use sluicegate::{Resume, ResumeError};
    ///
    /// # async fn host(sfu: sluicegate::Sfu, token: String, offer: String) -> Result<(), Box<dyn std::error::Error>> {
    /// match sfu.resume(Resume::new(token).room("standup").in_place(), &offer).await {
    ///     Ok((peer, answer)) => { /* deliver the answer, and another peer.resume_token() */ }
    ///     Err(ResumeError::ConnectionGone) => { /* let the client offer a new connection, with the same token */ }
    ///     Err(ResumeError::Refused(refused)) => { /* elsewhere, after refused.retry_after */ }
    ///     Err(_) => { /* it has to join */ }
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ResumeError`] says what is wrong with the token or the offer. If the future is dropped before it resolves, the token may
    /// be spent.
    pub async fn resume(
        &self,
        resume: impl Into<Resume>,
        offer: &str,
    ) -> Result<(Peer, String), ResumeError> {
        let resumed = self.come_back(resume.into(), offer).await;
        self.shared.controls.door.on_resume(resumed.is_ok());
        resumed
    }

    async fn come_back(&self, resume: Resume, offer: &str) -> Result<(Peer, String), ResumeError> {
        let returns = &self.shared.returns;
        let token: ResumeToken = resume.token.parse().map_err(|_| ResumeError::Unknown)?;
        let imprint = token.imprint();
        let carried = self.recognise(&token, &imprint, resume.room.as_deref()).await?;
        let there = carried.origin.peer(returns.node).and_then(|id| self.holder(id));
        if there.is_none() && resume.in_place {
            return Err(ResumeError::ConnectionGone);
        }
        if self.shared.closed.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(ResumeError::Shutdown);
        }
        let worker = there.as_ref().map_or(0, |held| held.seat.worker);
        self.shared.admit_return(worker)?;
        self.spend(&imprint).await?;
        let came = self.take_place(resume, carried.clone(), (there, imprint.key), offer).await;
        if came.is_err() {
            // Nobody has come back with it. It lives no longer for that.
            let now = clock::now();
            let left = token.expires().saturating_sub(clock::epoch_millis(now, now));
            let ttl = Duration::from_millis(left).min(returns.ttl);
            returns.store.put(imprint.key, Record::Good(Box::new(carried)).to_bytes(), ttl).await?;
            let mut spent = returns.spent.lock();
            if spent.get(now, imprint.key) == Some(&Spent::Used) {
                spent.take(now, imprint.key);
            }
        }
        came
    }

    /// Whom the token is for, if it is good.
    async fn recognise(
        &self,
        token: &ResumeToken,
        imprint: &Imprint,
        room: Option<&str>,
    ) -> Result<Carried, ResumeError> {
        let returns = &self.shared.returns;
        let spent = returns.spent.lock().get(clock::now(), imprint.key).copied();
        let kept = returns.store.get(imprint.key).await?;
        let record = kept.and_then(|bytes| Record::from_bytes(&bytes));
        let Some(record) = record.filter(|record| record.proof().matches(&imprint.proof)) else {
            let now = clock::now();
            return Err(match token.expires() <= clock::epoch_millis(now, now) {
                _ if spent == Some(Spent::Revoked) => ResumeError::Revoked,
                // Somebody has taken the record, and not put back yet what became of it.
                _ if spent == Some(Spent::Used) => ResumeError::Used,
                true => ResumeError::Expired,
                false => ResumeError::Unknown,
            });
        };
        match record {
            Record::Used(_) => Err(ResumeError::Used),
            Record::Good(_) if spent == Some(Spent::Revoked) => Err(ResumeError::Revoked),
            Record::Good(carried) if room.is_some_and(|room| room != carried.room) => {
                Err(ResumeError::OtherRoom)
            }
            Record::Good(carried) => Ok(*carried),
        }
    }

    /// Of all who come with a token at the same time, one gets past here.
    async fn spend(&self, imprint: &Imprint) -> Result<(), ResumeError> {
        let returns = &self.shared.returns;
        {
            let (now, mut spent) = (clock::now(), returns.spent.lock());
            if spent.get(now, imprint.key) == Some(&Spent::Revoked) {
                return Err(ResumeError::Revoked);
            }
            spent.put(now, imprint.key, Spent::Used, returns.ttl);
        }
        let taken = returns.store.take(imprint.key).await?;
        let won = taken.and_then(|bytes| Record::from_bytes(&bytes)).is_some_and(|record| {
            matches!(record, Record::Good(_)) && record.proof().matches(&imprint.proof)
        });
        // For as long as it would have been good, it says what became of it.
        let used = Record::Used(imprint.proof.clone());
        returns.store.put(imprint.key, used.to_bytes(), returns.ttl).await?;
        if won { Ok(()) } else { Err(ResumeError::Used) }
    }

    /// Who holds this peer, if it is here.
    fn holder(&self, id: crate::PeerId) -> Option<Arc<PeerShared>> {
        let held = self.shared.peers.get(&id)?.upgrade()?;
        (!held.events.is_closed()).then_some(held)
    }

    async fn take_place(
        &self,
        resume: Resume,
        carried: Carried,
        (there, used): (Option<Arc<PeerShared>>, SessionKey),
        offer: &str,
    ) -> Result<(Peer, String), ResumeError> {
        let span = resume.span.clone().unwrap_or_else(Span::current);
        let mut interceptors = resume.interceptors;
        if let Some(held) = there {
            let coming = Return { peer: held.id, in_place: resume.in_place, interceptors, span };
            match self.take_over(&held, coming, offer).await {
                // It has left just now.
                Err(ResumeFault::Gone) if !resume.in_place => interceptors = Vec::new(),
                Err(ResumeFault::Gone | ResumeFault::OtherConnection) => {
                    return Err(ResumeError::ConnectionGone);
                }
                Err(ResumeFault::Offer(error)) => return Err(error.into()),
                Ok(came) => {
                    for other in held.revoke(Some(used)) {
                        // Here they are revoked whatever the store says.
                        let _ = self.shared.returns.store.take(other).await;
                    }
                    return Ok(came);
                }
            }
        }
        // Who was let go while it was on its way back is not let in by another door.
        if self.shared.returns.spent.lock().get(clock::now(), used) == Some(&Spent::Revoked) {
            return Err(ResumeError::Revoked);
        }
        let room = self.room_again(&carried.room);
        let standing = carried.standing();
        let mut config = PeerConfig::new(standing.name.clone())
            .subscribe(standing.subscribe.clone())
            .channels(standing.channels);
        if let Some(cap) = standing.publish_cap {
            config = config.publish_cap(cap);
        }
        if let Some(span) = resume.span {
            config = config.span(span);
        }
        for (position, interceptor) in interceptors {
            config = config.interceptor(position, interceptor);
        }
        let seat = Seat::take(&room.shared);
        let entered = room.enter(seat, config, Some(standing), offer).await;
        entered.map_err(|error| match error {
            JoinError::Offer(error) => ResumeError::Offer(error),
            JoinError::Full { what, limit } => ResumeError::Full { what, limit },
            JoinError::Refused(refused) => ResumeError::Refused(refused),
            JoinError::Shutdown => ResumeError::Shutdown,
        })
    }

    async fn take_over(
        &self,
        held: &Arc<PeerShared>,
        coming: Return,
        offer: &str,
    ) -> Result<(Peer, String), ResumeFault> {
        let events = Events::new(self.shared.events_limit);
        let (reply, answer) = oneshot::channel();
        let command = Command::Resume {
            coming: Box::new(coming),
            offer: offer.to_owned(),
            events: events.clone(),
            reply,
        };
        held.seat.worker().commands.send(command).map_err(|_| ResumeFault::Gone)?;
        let (answer, _) = answer.await.unwrap_or(Err(ResumeFault::Gone))?;
        self.shared.greet(&events);
        Ok((Peer::hold(held.id, held.name.clone(), events, held.seat.clone()), answer))
    }
}

/// Of one peer that are good at the same time: the latest, and the one before, should that not have arrived.
const TOKENS: usize = 2;

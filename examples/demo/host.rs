//! What every request handler shares.

use std::sync::Arc;

use axum::http::{HeaderMap, header};
use serde::Deserialize;
use sluicegate::Sfu;
use sluicegate::signaling::{Region, SignalingMetrics};
use tokio::sync::watch;

use crate::name::Name;
use crate::refusal::Refusal;
use crate::roster::Roster;
use crate::sessions::Sessions;
use crate::tally;
use crate::token::{Signer, TokenError, UnixTime};

/// The engine and what the demo keeps beside it.
#[derive(Clone)]
pub struct Host(Arc<Shared>);

struct Shared {
    sfu: Sfu,
    /// `None` lets everybody in.
    signer: Option<Signer>,
    signaling: SignalingMetrics,
    roster: Roster,
    sessions: Sessions,
    closing: watch::Sender<bool>,
}

/// The query of every joining request. Not every field means something to every one.
#[derive(Deserialize, Default)]
pub struct Query {
    pub name: Option<String>,
    pub token: Option<String>,
    pub publisher: Option<String>,
    pub exclude: Option<String>,
    /// `1`: the client was here before, and brings a token of ours that says so.
    pub resume: Option<String>,
}

/// A checked request to enter a room.
pub struct Entry {
    pub room: Name,
    pub name: Name,
    /// Nobody has asked for a join token: only who can come back may come in.
    pub returning: bool,
}

impl Host {
    pub fn new(sfu: Sfu, signer: Option<Signer>, region: Region) -> Host {
        let (closing, _) = watch::channel(false);
        let signaling = tally::signaling(region);
        Host(Arc::new(Shared {
            sfu,
            signer,
            roster: Roster::new(signaling.clone()),
            signaling,
            sessions: Sessions::default(),
            closing,
        }))
    }

    pub fn sfu(&self) -> &Sfu {
        &self.0.sfu
    }

    /// What the doors count.
    pub fn signaling(&self) -> &SignalingMetrics {
        &self.0.signaling
    }

    pub fn roster(&self) -> &Roster {
        &self.0.roster
    }

    pub fn sessions(&self) -> &Sessions {
        &self.0.sessions
    }

    /// Checks names and token. `nameless` is the name of those who give none, where that is allowed.
    pub fn admit(
        &self,
        room: &str,
        query: &Query,
        headers: &HeaderMap,
        nameless: Option<&str>,
    ) -> Result<Entry, Refusal> {
        if self.is_closing() {
            return Err(Refusal::closing());
        }
        let room: Name =
            room.parse().map_err(|wrong| Refusal::bad_request(format!("the room name {wrong}")))?;
        let name = query.name.as_deref().or(nameless);
        let name = name.ok_or_else(|| Refusal::bad_request("say who you are: add ?name= to the address"))?;
        let name: Name = name.parse().map_err(|wrong| Refusal::bad_request(format!("the name {wrong}")))?;
        let returning = query.resume.as_deref() == Some("1");
        if let Some(signer) = self.0.signer.as_ref().filter(|_| !returning) {
            self.check(signer, &room, &name, query, headers)
                .inspect_err(|error| self.0.signaling.auth_failed((*error).into()))?;
        }
        Ok(Entry { room, name, returning })
    }

    fn check(
        &self,
        signer: &Signer,
        room: &Name,
        name: &Name,
        query: &Query,
        headers: &HeaderMap,
    ) -> Result<(), TokenError> {
        let token = bearer(headers)?.or(query.token.as_deref()).ok_or(TokenError::Missing)?;
        signer.check(UnixTime::now(), room, name, token)
    }

    pub fn is_closing(&self) -> bool {
        *self.0.closing.borrow()
    }

    pub fn closing(&self) -> Closing {
        Closing(self.0.closing.subscribe())
    }

    /// Refuses newcomers and waits until every [`Closing`] is dropped.
    pub async fn close(&self) {
        self.0.closing.send_replace(true);
        self.0.closing.closed().await;
    }
}

/// Tells its holder to say goodbye. Shutting down waits for those who hold one.
#[derive(Clone)]
pub struct Closing(watch::Receiver<bool>);

impl Closing {
    pub async fn begins(&mut self) {
        // An error means that the host is gone, which is no later.
        let _ = self.0.wait_for(|closing| *closing).await;
    }
}

/// The token of an `Authorization: Bearer` header, RFC 6750 §2.1.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, TokenError> {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Ok(None);
    };
    let token = value.to_str().ok().and_then(|value| value.split_once(' '));
    match token {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(Some(token.trim())),
        _ => Err(TokenError::Scheme),
    }
}

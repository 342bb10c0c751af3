//! Offer and answer: what one peer and we have agreed to send each other.
//!
//! JSEP (RFC 8829) for an SFU: one BUNDLE (RFC 8843), rtcp-mux, ICE-lite, always the DTLS server. The
//! client offers to join and to publish, we offer when its subscriptions change. A description is taken
//! whole or not at all.

mod candidate;
mod codec;
mod error;
mod extension;
mod h264;
mod lines;
mod local;
mod remote;
mod section;
mod simulcast;
mod state;
#[cfg(test)]
mod tests;

#[allow(unused_imports)]
pub(crate) use codec::CodecBinding;
pub use error::{AnswerError, OfferError};
#[allow(unused_imports)]
pub(crate) use extension::{Extension, ExtensionMap};
pub(crate) use local::LocalDescription;
#[allow(unused_imports)]
pub use section::Rejection;
pub(crate) use section::{Downlink, Origin, Uplink};

use crate::ids::{MediaKind, Mid, Ssrc};
pub(crate) use candidate::{RemoteCandidate, path_kind};
use local::Writing;
pub(crate) use remote::RemoteDescription;
use section::Slot;
use state::State;

/// The transport a peer described: one for all its m-lines.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct RemoteTransport {
    pub ufrag: String,
    pub pwd: String,
    /// Of the connection that it belongs to (`o=`).
    pub session_id: u64,
    /// Lower case, `sha-256` where the peer gives a choice.
    pub fingerprint_algorithm: String,
    pub fingerprint: String,
    /// As it announced them with its description.
    pub candidates: Vec<RemoteCandidate>,
    /// An ICE-lite peer never sends checks, so two lite ends never meet (RFC 8445 §2.5): for the engine to refuse.
    pub ice_lite: bool,
}

/// What was agreed, and what was on its way, before a client came back.
pub(crate) struct Unsettled(State, Option<State>);

/// One peer's JSEP state.
pub(crate) struct Negotiation {
    local: LocalDescription,
    session_id: u64,
    /// Of our last description.
    version: u64,
    cname: String,
    next_mid: u32,
    random: Box<dyn FnMut() -> u32 + Send>,
    agreed: State,
    /// What will be agreed once the client answers our offer.
    pending: Option<State>,
    /// `set_local` has changed what no description of ours has told yet.
    untold: bool,
}

impl Negotiation {
    /// `random` gives SSRCs and the session id: it should be cryptographically random (RFC 8829 §5.2.1).
    pub fn new(local: LocalDescription, mut random: impl FnMut() -> u32 + Send + 'static) -> Self {
        let session_id = (u64::from(random()) << 31) | u64::from(random() >> 1);
        let cname = format!("{:08x}{:08x}", random(), random());
        Negotiation {
            local,
            session_id,
            version: 0,
            cname,
            next_mid: 0,
            random: Box::new(random),
            agreed: State::new(),
            pending: None,
            untold: false,
        }
    }

    /// Reads and answers the client's offer. On an error nothing has changed.
    ///
    /// # Errors
    /// As [`read_offer`](Self::read_offer) and [`handle_offer_of`](Self::handle_offer_of).
    pub fn handle_offer(&mut self, sdp: &str) -> Result<String, OfferError> {
        let offer = self.read_offer(sdp)?;
        self.handle_offer_of(&offer)
    }

    /// Reads the client's offer, if it is its turn to make one.
    ///
    /// # Errors
    /// [`OfferError::Glare`] while an offer of ours is pending: the client is the polite one, it rolls
    /// its offer back, answers ours and offers again. Else what cannot be read.
    pub fn read_offer(&self, sdp: &str) -> Result<RemoteDescription, OfferError> {
        match self.pending {
            Some(_) => Err(OfferError::Glare),
            None => Ok(RemoteDescription::parse(sdp)?),
        }
    }

    /// Answers an offer that has just been read. On an error nothing has changed.
    ///
    /// # Errors
    /// What is read well and cannot be agreed to.
    pub fn handle_offer_of(&mut self, offer: &RemoteDescription) -> Result<String, OfferError> {
        let mut next = self.agreed.clone();
        next.handle_offer(offer, &mut *self.random)?;
        let bundle = offer.bundle.iter().copied().filter(|mid| next.is_live(*mid)).collect();
        let answer = self.write(&next, bundle, true);
        next.sections.iter_mut().for_each(|section| section.ceiling_told |= section.uplink.is_some());
        self.agreed = next;
        self.untold = false;
        Ok(answer)
    }

    /// The transport of the peer's last description; `None` before its first.
    pub fn remote(&self) -> Option<&RemoteTransport> {
        self.agreed.remote.as_ref()
    }

    /// The peer's last description came with new ICE credentials (RFC 8839 §4.4.1.1.1).
    #[cfg(test)]
    pub fn remote_restarted(&self) -> bool {
        self.agreed.restarted
    }

    /// Whether this offer would restart ICE. The answer to one needs fresh credentials of ours, so
    /// give them to `set_local` between this and `handle_offer_of`.
    pub fn is_restart(&self, offer: &RemoteDescription) -> bool {
        let offered = offer.transport(None).ok().flatten();
        let credentials = |remote: &RemoteTransport| (remote.ufrag.clone(), remote.pwd.clone());
        match (self.remote(), offered) {
            (Some(now), Some(offered)) => credentials(now) != credentials(&offered),
            _ => false,
        }
    }

    /// Whether this offer is of the connection that we know: by its certificate and its session id (RFC 8866 §5.2),
    /// which each connection of a client has of its own.
    pub fn is_of_this(&self, offer: &RemoteDescription) -> bool {
        let offered = offer.transport(self.remote()).ok().flatten();
        offered.zip(self.remote()).is_some_and(|(offered, now)| offered.session_id == now.session_id)
    }

    /// The client comes back with this offer, after a silence in which it may or may not have heard our offer, and whose
    /// answer we have not: if its own has our new m-lines, it took them. Gives back what was there, to be
    /// [restored](Self::unsettle) should its offer be refused.
    pub fn settle(&mut self, offer: &RemoteDescription) -> Unsettled {
        let before = Unsettled(self.agreed.clone(), self.pending.clone());
        let took = |pending: &State| {
            let theirs = offer.media.iter().map(|media| media.mid);
            let ours = pending.sections.iter().map(|section| section.mid);
            offer.media.len() >= pending.sections.len()
                && ours.zip(theirs).all(|(ours, theirs)| ours == theirs)
        };
        match self.pending.take_if(|pending| took(pending)) {
            Some(mut next) => {
                next.follow(&self.agreed);
                self.agreed = next;
            }
            None => self.rollback(),
        }
        before
    }

    pub fn unsettle(&mut self, before: Unsettled) {
        (self.agreed, self.pending) = (before.0, before.1);
    }

    /// An offer of ours waits for its answer.
    pub fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Our offer, where something has changed since the last agreed state.
    ///
    /// `None` while one is pending, and until the client has made the first offer.
    pub fn create_offer(&mut self) -> Option<String> {
        let changed = self.untold || self.agreed.is_outdated();
        if self.pending.is_some() || self.agreed.remote.is_none() || !changed {
            return None;
        }
        let next = self.agreed.offer();
        let bundle =
            next.sections.iter().filter(|section| section.live).filter_map(|section| section.mid).collect();
        let offer = self.write(&next, bundle, false);
        self.pending = Some(next);
        Some(offer)
    }

    /// Takes the client's answer to our offer. On an error the offer is still pending.
    ///
    /// # Errors
    /// [`AnswerError::NoOfferPending`], or what is wrong with the answer. A slot that the client does not
    /// want is no error: see [`Negotiation::rejected`].
    pub fn handle_answer(&mut self, sdp: &str) -> Result<(), AnswerError> {
        let pending = self.pending.as_ref().ok_or(AnswerError::NoOfferPending)?;
        let answer = RemoteDescription::parse(sdp)?;
        let mut next = pending.clone();
        next.handle_answer(&answer)?;
        next.follow(&self.agreed);
        self.agreed = next;
        self.pending = None;
        self.untold = false;
        Ok(())
    }

    /// Our pending offer will not be answered: the host could not deliver it.
    pub fn rollback(&mut self) {
        if self.pending.take().is_some() {
            self.agreed.fresh.retain(|slot| slot.downlink.active);
        }
    }

    /// The m-lines on which the peer sends to us now.
    pub fn uplinks(&self) -> impl Iterator<Item = &Uplink> {
        self.agreed.sections.iter().filter_map(|section| section.uplink.as_ref())
    }

    /// The m-lines on which we send or may, also those idle now and those not offered yet.
    pub fn slots(&self) -> impl Iterator<Item = &Downlink> {
        let agreed = self.agreed.sections.iter().filter_map(|section| section.slot.as_ref());
        agreed.chain(&self.agreed.fresh).map(|slot| &slot.downlink)
    }

    /// Data channels are refused from now on.
    pub fn refuse_channels(&mut self) {
        self.agreed.serves_channels = false;
    }

    /// Bytes that the peer takes in one message, where data channels are agreed.
    pub fn messages(&self) -> Option<u64> {
        self.agreed.sections.iter().filter(|section| section.live).find_map(|section| section.messages)
    }

    /// The m-lines of the last description on which nothing flows though somebody wanted it.
    pub fn rejected(&self) -> &[(Mid, Rejection)] {
        &self.agreed.rejected
    }

    /// A slot for a publisher's track, to be offered next; `stream` names the publisher, so that its
    /// audio and video play in sync. What is not a token in the names is replaced (RFC 8830 §2), and a
    /// pair of names in use gets our mid added: Chromium refuses an offer that repeats one.
    ///
    /// An m-line of ours whose inactive state the client has agreed to is reused: Firefox ignores a
    /// change of msid without that step.
    pub fn add_slot(&mut self, kind: MediaKind, stream: &str, track: &str) -> Mid {
        let reused = self.agreed.reusable(kind, self.pending.as_ref());
        let mid = reused.unwrap_or_else(|| self.fresh_slot(kind));
        let (stream, mut track) = (token(stream), token(track));
        if self.agreed.announces(&stream, &track) {
            track = format!("{track}-{mid}");
        }
        let slot = self.agreed.slot_mut(mid).expect("a slot was found or made under this mid");
        slot.downlink.active = true;
        (slot.stream, slot.track) = (stream, track);
        mid
    }

    /// Nothing more is to be sent on a slot of ours: inactive in the next offer. A client's own slot is
    /// just left idle, an unknown mid ignored.
    pub fn remove_slot(&mut self, mid: Mid) {
        let offered = self.pending.as_ref().is_some_and(|pending| pending.is_live(mid));
        if !offered {
            self.agreed.fresh.retain(|slot| slot.downlink.mid != mid);
        }
        let slot = self.agreed.slot_mut(mid).filter(|slot| slot.downlink.origin == Origin::Engine);
        if let Some(slot) = slot {
            slot.downlink.active = false;
        }
    }

    /// As [`set_local`](Self::set_local); gives back what was there, to be restored should the offer that asked for
    /// it be refused.
    pub fn replace_local(&mut self, local: LocalDescription) -> (LocalDescription, bool) {
        let before = (self.local.clone(), self.untold);
        self.set_local(local);
        before
    }

    pub fn restore_local(&mut self, before: (LocalDescription, bool)) {
        (self.local, self.untold) = before;
    }

    /// New credentials or addresses; new credentials make the next description an ICE restart.
    pub fn set_local(&mut self, local: LocalDescription) {
        let ceiling = self.local.publish_ceiling;
        self.untold |= self.local != LocalDescription { publish_ceiling: ceiling, ..local.clone() };
        self.local = local;
    }

    fn write(&mut self, state: &State, bundle: Vec<Mid>, answer: bool) -> String {
        self.version += 1;
        let writing = Writing {
            local: &self.local,
            session_id: self.session_id,
            version: self.version,
            cname: &self.cname,
            sections: &state.sections,
            bundle,
            allow_mixed: state.allow_mixed,
            answer,
        };
        writing.text()
    }

    fn fresh_slot(&mut self, kind: MediaKind) -> Mid {
        let mid = self.free_mid();
        let ssrc = self.free_ssrc(&[]);
        let rtx = self.free_ssrc(&[ssrc]);
        let mut slot = Slot::new(mid, kind, Origin::Engine, ssrc, rtx, self.agreed.next_index());
        slot.downlink.active = false;
        self.agreed.fresh.push(slot);
        mid
    }

    /// `s0`, `s1`, … never one that was in use before.
    fn free_mid(&mut self) -> Mid {
        loop {
            let mid =
                Mid::new(&format!("s{}", self.next_mid)).expect("an s and ten digits at most are a token");
            self.next_mid = self.next_mid.wrapping_add(1);
            let pending = self.pending.as_ref().is_some_and(|pending| pending.has_mid(mid));
            if !pending && !self.agreed.has_mid(mid) {
                return mid;
            }
        }
    }

    fn free_ssrc(&mut self, taken: &[Ssrc]) -> Ssrc {
        let used = self.agreed.ssrcs().chain(taken.iter().copied()).collect::<Vec<_>>();
        state::free_ssrc(&mut *self.random, |ssrc| used.contains(&ssrc))
    }
}

/// At most 64 token characters, RFC 8830 §2. The names may come from other clients: no line end may pass.
fn token(name: &str) -> String {
    let safe = |c: char| {
        if c.is_ascii_alphanumeric() || "{}.-_+".contains(c) { c } else { '_' }
    };
    let token: String = name.chars().take(64).map(safe).collect();
    if token.is_empty() { "-".to_owned() } else { token }
}

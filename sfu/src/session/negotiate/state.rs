//! All that has been agreed with one peer: cloned, changed and put back whole.

use super::RemoteTransport;
use super::codec::{CodecBinding, PayloadTypes};
use super::error::{AnswerError, OfferError};
use super::extension::{Extension, ExtensionIds, ExtensionMap};
use super::lines::MAX_SECTIONS;
use super::remote::{RemoteDescription, RemoteMedia};
use super::section::{Downlink, Origin, Rejection, Section, SectionExtension, Slot};
use super::simulcast;
use crate::ids::{MediaKind, Mid, Ssrc};
use std::sync::Arc;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct State {
    /// In m-line order, and never fewer than before.
    pub sections: Vec<Section>,
    /// Slots of ours that no agreed description has.
    pub fresh: Vec<Slot>,
    pub remote: Option<RemoteTransport>,
    pub restarted: bool,
    pub rejected: Vec<(Mid, Rejection)>,
    /// The client writes `extmap-allow-mixed` at session level.
    pub allow_mixed: bool,
    /// The client writes it on m-lines.
    media_allow_mixed: bool,
    payload_types: PayloadTypes,
    extension_ids: ExtensionIds,
    /// The host lets the peer have data channels.
    pub serves_channels: bool,
}

impl State {
    pub fn new() -> State {
        State {
            sections: Vec::new(),
            fresh: Vec::new(),
            remote: None,
            restarted: false,
            rejected: Vec::new(),
            allow_mixed: false,
            media_allow_mixed: false,
            payload_types: PayloadTypes::new(),
            extension_ids: ExtensionIds::new(),
            serves_channels: true,
        }
    }

    /// Becomes the state after our answer to `offer`.
    pub fn handle_offer(
        &mut self,
        offer: &RemoteDescription,
        random: &mut dyn FnMut() -> u32,
    ) -> Result<(), OfferError> {
        self.check_offer(offer)?;
        self.learn(offer, offer.transport(None)?);
        // Most have one or two, and there are many of us.
        self.sections.reserve_exact(offer.media.len().saturating_sub(self.sections.len()));
        for (index, media) in offer.media.iter().enumerate() {
            let same = self.sections.get(index).filter(|section| section.mid == media.mid).cloned();
            let gone = if same.is_none() { self.sections.get(index) } else { None };
            self.rejected.extend(gone.and_then(Section::lost_slot));
            let section = self.answer(index, media, same, offer, random);
            match self.sections.get_mut(index) {
                Some(place) => *place = section,
                None => self.sections.push(section),
            }
        }
        self.number_fresh();
        Ok(())
    }

    fn check_offer(&self, offer: &RemoteDescription) -> Result<(), OfferError> {
        if offer.media.is_empty() {
            return Err(OfferError::NoMedia);
        }
        let mut mids: Vec<Mid> = self.fresh.iter().map(|slot| slot.downlink.mid).collect();
        for media in &offer.media {
            let Some(mid) = media.mid else { continue };
            if mids.contains(&mid) {
                return Err(OfferError::DuplicateMid { mid });
            }
            mids.push(mid);
        }
        for (index, section) in self.sections.iter().enumerate() {
            let media = offer.media.get(index);
            let same = media.is_some_and(|media| media.mid == section.mid && media.name == section.name);
            // A dead line's place may be taken by any other (RFC 8829 §5.2.2).
            if let (false, Some(mid)) = (same || (media.is_some() && !section.live), section.mid) {
                return Err(OfferError::LineOrder { mid });
            }
        }
        for media in offer.media.iter().filter(|media| media.live && media.kind.is_some()) {
            let Some(mid) = media.mid else { continue };
            if !offer.bundle.contains(&mid) {
                return Err(OfferError::NotBundled { mid });
            }
            if !media.rtcp_mux {
                return Err(OfferError::NoRtcpMux { mid });
            }
        }
        Ok(())
    }

    /// What holds for the whole connection.
    fn learn(&mut self, description: &RemoteDescription, transport: Option<RemoteTransport>) {
        self.rejected.clear();
        self.restarted = false;
        if let Some(transport) = transport {
            let same = |now: &RemoteTransport| now.ufrag == transport.ufrag && now.pwd == transport.pwd;
            self.restarted = self.remote.as_ref().is_some_and(|now| !same(now));
            self.remote = Some(transport);
        }
        for media in description.media.iter().filter(|media| media.live) {
            self.payload_types.learn(media);
            for extension in &media.extensions {
                if let Some(id) = u8::try_from(extension.id).ok().filter(|id| *id != 0) {
                    self.extension_ids.learn(id, extension.kind);
                }
            }
        }
        self.allow_mixed |= description.allow_mixed;
        self.media_allow_mixed |= description.media.iter().any(|media| media.allow_mixed);
    }

    fn answer(
        &mut self,
        index: usize,
        media: &RemoteMedia,
        same: Option<Section>,
        offer: &RemoteDescription,
        random: &mut dyn FnMut() -> u32,
    ) -> Section {
        let codecs = CodecBinding::of(media);
        let reason = match media.kind {
            _ if !media.live => None,
            None if media.name == "application" => {
                let bundled = media.mid.is_some_and(|mid| offer.bundle.contains(&mid));
                let other = |(at, section): (usize, &Section)| at != index && section.messages.is_some();
                let taken = self.sections.iter().enumerate().any(other);
                if self.serves_channels && bundled && !taken && media.messages.is_some() {
                    return Section::channels(media);
                }
                Some(Rejection::DataChannel)
            }
            Some(_) if media.is_savpf() && !codecs.is_empty() => None,
            Some(_) if media.is_savpf() => Some(Rejection::NoCodec),
            _ => Some(Rejection::UnknownMedia),
        };
        let (Some(mid), Some(kind), true, None) = (media.mid, media.kind, media.live, reason) else {
            self.rejected.extend(media.mid.zip(reason));
            self.rejected.extend(same.as_ref().and_then(Section::lost_slot));
            return Section::stopped(media);
        };
        let two_byte = offer.allow_mixed || media.allow_mixed;
        let mut section = Section::stopped(media);
        section.live = true;
        section.rtcp_rsize = media.rtcp_rsize;
        section.rtcp_xr = media.rtcp_xr;
        section.allow_mixed = media.allow_mixed;
        section.codecs = codecs.into();
        section.extensions = Section::extensions_of(media, kind, two_byte);
        section.ceiling_told = same.as_ref().is_some_and(|same| same.ceiling_told);
        let told = same.as_ref().is_some_and(|same| same.told_wish);
        let before = same.as_ref().map_or(&[][..], |same| &same.layers);
        section.layers = simulcast::accepted(&media.layers, before);
        section.slot = same.and_then(|same| same.slot);
        if section.slot.is_none() && media.receives {
            section.slot = Some(self.client_slot(index, mid, kind, offer, random));
        }
        let wanted = |slot: &Slot| slot.downlink.origin == Origin::Client || slot.downlink.active;
        section.described_send = media.receives && section.slot.as_ref().is_some_and(wanted);
        section.told_wish = section.described_send || told;
        section.told_wish &= section.slot.as_ref().is_some_and(|slot| slot.downlink.active);
        section.agree(media, index, two_byte, true);
        self.rejected.extend(section.declined());
        section
    }

    /// A slot on a line the client made, with the number its stream is named for: the lowest free one of its kind.
    fn client_slot(
        &self,
        index: usize,
        mid: Mid,
        kind: MediaKind,
        offer: &RemoteDescription,
        random: &mut dyn FnMut() -> u32,
    ) -> Slot {
        let used: Vec<Ssrc> = self.ssrcs().chain(offer.ssrcs()).collect();
        let ssrc = free_ssrc(random, |ssrc| used.contains(&ssrc));
        let rtx = free_ssrc(random, |other| other == ssrc || used.contains(&other));
        let mut slot = Slot::new(mid, kind, Origin::Client, ssrc, rtx, index);
        let others = || {
            self.sections.iter().enumerate().filter(|(i, _)| *i != index).filter_map(|(_, s)| s.slot.as_ref())
        };
        let taken = |number| {
            let mut same_kind =
                others().filter(|slot| slot.downlink.origin == Origin::Client && slot.downlink.kind == kind);
            same_kind.any(|slot| slot.number == number)
        };
        slot.number = (0..=MAX_SECTIONS).find(|number| !taken(*number)).unwrap_or(MAX_SECTIONS);
        slot.stream = format!("slot-{}", slot.number);
        slot.track = format!("slot-{}-{kind}", slot.number);
        slot
    }

    /// Something the next offer would tell.
    pub fn is_outdated(&self) -> bool {
        let room = self.sections.len() < MAX_SECTIONS || self.sections.iter().any(Section::is_recyclable);
        (room && !self.fresh.is_empty()) || self.sections.iter().any(Section::is_outdated)
    }

    /// The state that our next offer describes. New slots take the places of dead lines first.
    pub fn offer(&self) -> State {
        let mut next = self.clone();
        for section in next.sections.iter_mut().filter(|section| section.live) {
            section.described_send = section.slot.as_ref().is_some_and(|slot| slot.downlink.active);
            section.told_wish = section.described_send;
        }
        let mut left = Vec::new();
        for mut slot in std::mem::take(&mut next.fresh) {
            let place = next.sections.iter().position(Section::is_recyclable).unwrap_or(next.sections.len());
            if place >= MAX_SECTIONS {
                left.push(slot);
                continue;
            }
            slot.downlink.index = place;
            let section = next.offered(slot);
            match next.sections.get_mut(place) {
                Some(dead) => *dead = section,
                None => next.sections.push(section),
            }
        }
        next.fresh = left;
        next
    }

    fn offered(&mut self, slot: Slot) -> Section {
        let kind = slot.downlink.kind;
        let twcc = self.extension_ids.has(Extension::TransportCc);
        let wanted = Extension::ALL.into_iter().filter(|extension| extension.is_sent_to(kind));
        let wanted = wanted.filter(|extension| !(twcc && *extension == Extension::AbsSendTime));
        let mut extensions = Vec::new();
        for kind in wanted {
            if let Some(id) = self.extension_ids.pick(kind) {
                extensions.push(SectionExtension { kind, id, sends: true, receives: true, limited: false });
            }
        }
        let codecs = self.payload_types.offer(kind);
        Section::offered(slot, codecs.into(), extensions, self.media_allow_mixed)
    }

    /// From the offered state to the agreed one.
    pub fn handle_answer(&mut self, answer: &RemoteDescription) -> Result<(), AnswerError> {
        self.check_answer(answer)?;
        self.learn(answer, answer.transport(self.remote.as_ref())?);
        for (index, media) in answer.media.iter().enumerate() {
            let two_byte = answer.allow_mixed || media.allow_mixed;
            let section = &mut self.sections[index];
            if !section.live {
                continue;
            }
            if !media.live {
                self.rejected.extend(section.lost_slot());
                *section = Section::stopped(media);
                continue;
            }
            if section.messages.is_some() {
                section.messages = media.messages.or(section.messages);
                continue;
            }
            section.narrow(media);
            let receives = section.uplink.is_some();
            section.agree(media, index, two_byte, receives);
            self.rejected.extend(section.declined());
        }
        Ok(())
    }

    fn check_answer(&self, answer: &RemoteDescription) -> Result<(), AnswerError> {
        let (offered, answered) = (self.sections.len(), answer.media.len());
        if offered != answered {
            return Err(AnswerError::LineCount { offered, answered });
        }
        for (index, (section, media)) in self.sections.iter().zip(&answer.media).enumerate() {
            let same_mid = media.mid == section.mid || (media.mid.is_none() && !media.live);
            if !same_mid || media.name != section.name {
                return Err(AnswerError::LineMismatch { index });
            }
            let Some(mid) = media.mid.filter(|_| media.live) else {
                continue;
            };
            if !section.live {
                return Err(AnswerError::Stopped { mid });
            }
            if !answer.bundle.contains(&mid) {
                return Err(AnswerError::NotBundled { mid });
            }
            if !media.rtcp_mux && section.kind.is_some() {
                return Err(AnswerError::NoRtcpMux { mid });
            }
        }
        Ok(())
    }

    /// Takes over what the host has wished while the offer was on its way: `now` is the agreed state
    /// beside which it was pending.
    pub fn follow(&mut self, now: &State) {
        for slot in self.sections.iter_mut().filter_map(|section| section.slot.as_mut()) {
            let wish = now.slot(slot.downlink.mid).filter(|_| slot.downlink.origin == Origin::Engine);
            if let Some(wish) = wish {
                slot.downlink.active = wish.downlink.active;
                (slot.stream, slot.track) = (wish.stream.clone(), wish.track.clone());
            }
        }
        let told = |slot: &&Slot| !self.sections.iter().any(|section| section.mid == Some(slot.downlink.mid));
        self.fresh = now.fresh.iter().filter(told).cloned().collect();
        self.number_fresh();
    }

    /// An idle slot of ours on an m-line whose inactive state is agreed, and not about to change by `pending`.
    pub fn reusable(&self, kind: MediaKind, pending: Option<&State>) -> Option<Mid> {
        let asked = |index: usize| pending.is_some_and(|pending| pending.sections[index].described_send);
        let mut sections = self.sections.iter().enumerate();
        let found = sections.find(|(index, section)| section.is_reusable(kind) && !asked(*index))?;
        found.1.mid
    }

    /// A wanted slot has these names already.
    pub fn announces(&self, stream: &str, track: &str) -> bool {
        let named = |slot: &&Slot| slot.stream == stream && slot.track == track;
        self.slots().filter(|slot| slot.downlink.active).any(|slot| named(&slot))
    }

    pub fn slot_mut(&mut self, mid: Mid) -> Option<&mut Slot> {
        let agreed = self.sections.iter_mut().filter_map(|section| section.slot.as_mut());
        agreed.chain(&mut self.fresh).find(|slot| slot.downlink.mid == mid)
    }

    pub fn is_live(&self, mid: Mid) -> bool {
        self.sections.iter().any(|section| section.live && section.mid == Some(mid))
    }

    pub fn has_mid(&self, mid: Mid) -> bool {
        self.sections.iter().any(|section| section.mid == Some(mid)) || self.slot(mid).is_some()
    }

    pub fn next_index(&self) -> usize {
        self.sections.len() + self.fresh.len()
    }

    /// Every SSRC in use, ours and the peer's.
    pub fn ssrcs(&self) -> impl Iterator<Item = Ssrc> {
        let theirs = self
            .sections
            .iter()
            .filter_map(|section| section.uplink.as_ref())
            .flat_map(|uplink| &uplink.ssrcs);
        let theirs = theirs.flat_map(|stream| [Some(stream.ssrc), stream.rtx]).flatten();
        theirs.chain(self.slots().flat_map(|slot| [slot.downlink.ssrc, slot.rtx]))
    }

    fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.sections.iter().filter_map(|section| section.slot.as_ref()).chain(&self.fresh)
    }

    fn slot(&self, mid: Mid) -> Option<&Slot> {
        self.slots().find(|slot| slot.downlink.mid == mid)
    }

    fn number_fresh(&mut self) {
        let agreed = self.sections.len();
        self.fresh.iter_mut().enumerate().for_each(|(i, slot)| slot.downlink.index = agreed + i);
    }
}

impl Slot {
    pub fn new(mid: Mid, kind: MediaKind, origin: Origin, ssrc: Ssrc, rtx: Ssrc, index: usize) -> Slot {
        let downlink = Downlink {
            mid,
            kind,
            codecs: Arc::default(),
            extensions: ExtensionMap::new(false),
            ssrc,
            rtx: None,
            origin,
            agreed: false,
            active: true,
            twcc: false,
            index,
        };
        Slot { downlink, rtx, stream: String::new(), track: String::new(), number: 0 }
    }
}

/// A random SSRC, never 0; from the second collision on the next free one, so that a poor source ends too.
pub(super) fn free_ssrc(random: &mut dyn FnMut() -> u32, used: impl Fn(Ssrc) -> bool) -> Ssrc {
    let mut ssrc = Ssrc(random());
    while ssrc.0 == 0 || used(ssrc) {
        ssrc = Ssrc(ssrc.0.wrapping_add(1));
    }
    ssrc
}

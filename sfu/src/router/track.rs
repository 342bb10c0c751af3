//! A published track: its layers and its subscribers.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use super::layer::Layer;
use super::selection::Selection;
use crate::config::{LayerLimit, TrackSource};
use crate::counters::{Axis, Step, SwitchCause};
use crate::drop::FilterReason;
use crate::ids::{Feed, MediaKind, Mid, PeerId, PeerKey, Rid, TrackKey, TrackName};
use crate::media::codec::Codec;
use crate::units::Bitrate;

/// How often the layers are looked over: they come and go with the publisher's bandwidth.
const REVIEW: Duration = Duration::from_millis(100);

/// The least time between two changes of a track's codec.
const CODEC_SPACING: Duration = Duration::from_millis(500);

/// What a peer publishes.
#[derive(Clone, Copy, Debug)]
pub struct Publication {
    pub publisher: PeerId,
    /// The publisher's m-line.
    pub mid: Mid,
    pub kind: MediaKind,
    /// The one its packets have now.
    pub codec: Codec,
}

impl Publication {
    /// What it is called wherever it is received.
    pub fn name(&self) -> TrackName {
        TrackName { publisher: self.publisher, mid: self.mid }
    }
}

/// One receiver of a track.
pub struct Subscription {
    pub peer: PeerKey,
    /// Index of the slot in the peer's session.
    pub slot: u16,
    pub selection: Selection,
    /// What the host allows.
    limit: LayerLimit,
    /// The largest picture that the subscriber's network has room for.
    room: u8,
    /// The layer it got last, and why it was aimed at another.
    last: Option<u8>,
    cause: SwitchCause,
}

/// What nobody gets of a track while the machine is short of something.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Cut {
    /// The largest of its layers, if it has several.
    pub top: bool,
    /// The fastest temporal layer, if it has several.
    pub fastest: bool,
}

impl Cut {
    /// The fastest temporal layer of a stream that may pass.
    fn temporal(self, limit: u8, fastest: u8) -> u8 {
        if self.fastest && fastest > 0 { limit.min(fastest - 1) } else { limit }
    }
}

/// One published track.
pub struct Track {
    pub publication: Publication,
    /// In the order the publisher named them. One without simulcast.
    pub layers: Vec<Layer>,
    /// Layer indices, the smallest picture first.
    ranks: Vec<u8>,
    /// In the order of peers and slots: one is found without a look at all.
    subscriptions: Vec<Subscription>,
    reviewed_at: Option<Instant>,
    codec_changed_at: Option<Instant>,
    cut: Cut,
    /// The next review acts on another cut.
    recut: bool,
    pub source: TrackSource,
    /// Nobody hears it: others are louder.
    pub hushed: Option<Hush>,
}

/// What a track has kept to itself.
#[derive(Clone, Copy, Debug)]
pub struct Hush {
    /// From this number on.
    pub since: u64,
    /// It has begun anew meanwhile, and not all who have it know.
    pub restarted: bool,
}

impl Track {
    /// With one layer for each of `rids`, or one without a name.
    pub fn new(publication: Publication, rids: &[Rid]) -> Self {
        let kind = publication.kind;
        let layers: Vec<Layer> = match rids {
            [] => vec![Layer::new(kind, None)],
            rids => rids.iter().map(|rid| Layer::new(kind, Some(*rid))).collect(),
        };
        let ranks = (0..layers.len() as u8).collect();
        Track {
            publication,
            layers,
            ranks,
            subscriptions: Vec::new(),
            reviewed_at: None,
            codec_changed_at: None,
            cut: Cut::default(),
            recut: false,
            source: TrackSource::Camera,
            hushed: None,
        }
    }

    pub fn subscriptions(&self) -> &[Subscription] {
        &self.subscriptions
    }

    pub fn subscriptions_mut(&mut self) -> &mut [Subscription] {
        &mut self.subscriptions
    }

    pub fn subscription_mut(&mut self, peer: PeerKey, slot: u16) -> Option<&mut Subscription> {
        let at = self.search(peer, slot).ok()?;
        self.subscriptions.get_mut(at)
    }

    fn subscription(&self, peer: PeerKey, slot: u16) -> Option<&Subscription> {
        self.subscriptions.get(self.search(peer, slot).ok()?)
    }

    /// Where it is, or where it would be.
    fn search(&self, peer: PeerKey, slot: u16) -> Result<usize, usize> {
        self.subscriptions.binary_search_by_key(&(peer, slot), |other| (other.peer, other.slot))
    }

    pub fn subscribe(&mut self, now: Instant, peer: PeerKey, slot: u16, limit: LayerLimit) {
        let selection = Selection::new(self.publication.kind);
        let (last, cause) = (None, SwitchCause::Request);
        let subscription = Subscription { peer, slot, selection, limit, room: u8::MAX, last, cause };
        match self.search(peer, slot) {
            Ok(at) => self.subscriptions[at] = subscription,
            Err(at) => self.subscriptions.insert(at, subscription),
        }
        self.aim(now, peer, slot, cause);
    }

    pub fn unsubscribe(&mut self, peer: PeerKey, slot: u16) {
        if let Ok(at) = self.search(peer, slot) {
            self.subscriptions.remove(at);
        }
    }

    pub fn unsubscribe_peer(&mut self, peer: PeerKey) {
        let first = self.subscriptions.partition_point(|other| other.peer < peer);
        let his = self.subscriptions[first..].iter().take_while(|other| other.peer == peer).count();
        self.subscriptions.drain(first..first + his);
    }

    /// Changes what the host allows one subscriber.
    pub fn limit(&mut self, now: Instant, peer: PeerKey, slot: u16, limit: LayerLimit) -> bool {
        let Some(subscription) = self.subscription_mut(peer, slot) else { return false };
        subscription.limit = limit;
        self.aim(now, peer, slot, SwitchCause::Request)
    }

    /// Changes what one subscriber's network has room for: a step of its [`ladder`](Self::ladder).
    pub fn make_room(&mut self, now: Instant, peer: PeerKey, slot: u16, room: u8) -> bool {
        let Some(subscription) = self.subscription_mut(peer, slot) else { return false };
        subscription.room = room;
        self.aim(now, peer, slot, SwitchCause::Bwe)
    }

    /// Stops what one subscriber gets, if that is not what it is to get, until a keyframe of that. Returns whether it
    /// did.
    pub fn pause(&mut self, peer: PeerKey, slot: u16) -> bool {
        let kind = self.publication.kind;
        let Some(subscription) = self.subscription_mut(peer, slot) else { return false };
        let selection = &mut subscription.selection;
        let other = selection.current().is_some_and(|layer| layer != selection.target());
        if other {
            selection.wait(kind);
        }
        other
    }

    /// What one subscriber gets waits for a keyframe.
    pub fn waits(&self, peer: PeerKey, slot: u16) -> bool {
        let subscription = self.subscription(peer, slot);
        subscription.is_some_and(|subscription| subscription.selection.current().is_none())
    }

    /// Takes layers from everybody, or gives them back; the next [`review`](Self::review) acts on it.
    pub fn shut(&mut self, is_shut: impl Fn(u8) -> bool) {
        for (index, layer) in self.layers.iter_mut().enumerate() {
            layer.shut = is_shut(index as u8);
        }
        self.reviewed_at = None;
    }

    /// Changes what nobody gets; the next [`review`](Self::review) acts on it.
    pub fn cut(&mut self, cut: Cut) {
        if std::mem::replace(&mut self.cut, cut) != cut {
            self.reviewed_at = None;
            self.recut = true;
        }
    }

    /// Leaves a subscription out of what goes out, or ceases to. Returns whether a keyframe is needed.
    pub fn leave_out(&mut self, peer: PeerKey, slot: u16, reason: Option<FilterReason>) -> bool {
        let subscription = self.subscription_mut(peer, slot);
        subscription.is_some_and(|subscription| subscription.selection.leave_out(reason))
    }

    /// One subscriber gets nothing of it, whatever comes.
    pub fn is_left_out(&self, peer: PeerKey, slot: u16) -> bool {
        self.subscription(peer, slot).is_some_and(|subscription| subscription.selection.is_left_out())
    }

    /// Whether the codec may change now; if so, it does.
    pub fn may_change_codec(&mut self, now: Instant) -> bool {
        let calm = |at: Instant| now.saturating_duration_since(at) >= CODEC_SPACING;
        let may = self.codec_changed_at.is_none_or(calm);
        if may {
            self.codec_changed_at = Some(now);
        }
        may
    }

    /// Somebody gets the layer, or waits for it.
    pub fn is_watched(&self, layer: u8) -> bool {
        let watches =
            |selection: &Selection| selection.current() == Some(layer) || selection.target() == layer;
        let mut subscriptions = self.subscriptions.iter();
        subscriptions.any(|other| watches(&other.selection) && !other.selection.is_left_out())
    }

    /// The publisher began a layer anew: those who got it wait for its keyframe.
    pub fn restart(&mut self, layer: u8) {
        self.layers[usize::from(layer)].restart();
        if let Some(hush) = &mut self.hushed {
            // What was left out before has no number that means anything now.
            *hush = Hush { since: u64::MAX, restarted: true };
        }
        let kind = self.publication.kind;
        for subscription in &mut self.subscriptions {
            subscription.selection.restart(kind, layer);
        }
    }

    /// The packets of `layer` since it last began.
    pub fn feed(&self, key: TrackKey, layer: u8) -> Option<Feed> {
        let run = self.layers.get(usize::from(layer))?.run;
        Some(Feed { track: key, layer, run })
    }

    /// The layer behind a feed, unless it has begun anew since.
    pub fn layer(&self, feed: Feed) -> Option<&Layer> {
        self.layers.get(usize::from(feed.layer)).filter(|layer| layer.run == feed.run)
    }

    /// What a newcomer can start with at once: of the layer it is to have, else of the best smaller one.
    pub fn head(&self, now: Instant, peer: PeerKey, slot: u16) -> Option<(u8, RangeInclusive<u64>)> {
        let target = self.subscription(peer, slot)?.selection.target();
        let below = self.ranks.iter().rev().skip_while(|index| **index != target);
        below.copied().find_map(|index| Some((index, self.layers[usize::from(index)].head(now)?)))
    }

    /// Looks the layers over when that is due, and aims every subscription at the best of those that are alive.
    /// `wanted` hears of those layers of which a keyframe is needed, `changed` of what has passed more or less since.
    pub fn review(
        &mut self,
        now: Instant,
        mut wanted: impl FnMut(u8),
        mut changed: impl FnMut(Axis, Step, SwitchCause),
    ) {
        let due = self.reviewed_at.is_none_or(|at| now.saturating_duration_since(at) >= REVIEW);
        if !due || self.publication.kind == MediaKind::Audio {
            return;
        }
        self.reviewed_at = Some(now);
        self.rank(now);
        // Else layers come and go with their publisher's network.
        let recut = std::mem::take(&mut self.recut);
        let cause = if recut { SwitchCause::Saturation } else { SwitchCause::Bwe };
        for index in 0..self.subscriptions.len() {
            self.tell_passing(index, &mut changed);
            if self.aim_at(now, index, cause) {
                wanted(self.subscriptions[index].selection.target());
            }
        }
    }

    /// Tells of those subscribers who get `layer` now and had another before.
    pub fn tell_switches(&mut self, layer: u8, mut changed: impl FnMut(Axis, Step, SwitchCause)) {
        let Track { ranks, subscriptions, .. } = self;
        let rank = |layer: u8| ranks.iter().position(|index| *index == layer);
        for subscription in subscriptions.iter_mut().filter(|it| it.selection.current() == Some(layer)) {
            let before = subscription.last.replace(layer).filter(|before| *before != layer);
            if let Some(before) = before {
                let step = if rank(before) < rank(layer) { Step::Up } else { Step::Down };
                changed(Axis::Spatial, step, subscription.cause);
            }
        }
    }

    /// Tells what changed within the stream that one subscriber gets.
    fn tell_passing(&mut self, index: usize, changed: &mut impl FnMut(Axis, Step, SwitchCause)) {
        let Track { layers, subscriptions, .. } = self;
        let Subscription { selection, cause, .. } = &mut subscriptions[index];
        let Some(before) = selection.take_passed() else { return };
        let Some(layer) = selection.current().and_then(|layer| layers.get(usize::from(layer))) else {
            return;
        };
        let (passes, spatial, temporal) = (selection.passes(), layer.spatial_layers() - 1, layer.fastest());
        let axes = [
            (Axis::Spatial, before.spatial.min(spatial), passes.spatial.min(spatial)),
            (Axis::Temporal, before.temporal.min(temporal), passes.temporal.min(temporal)),
        ];
        for (axis, before, now) in axes.into_iter().filter(|(_, before, now)| before != now) {
            changed(axis, if before < now { Step::Up } else { Step::Down }, *cause);
        }
    }

    /// What each step up costs one subscriber, the cheapest first; within what its host allows. Nothing, for who gets
    /// nothing.
    pub fn ladder(&self, now: Instant, peer: PeerKey, slot: u16) -> Vec<Bitrate> {
        let subscription = self.subscription(peer, slot);
        if subscription.is_some_and(|subscription| subscription.selection.is_left_out()) {
            return Vec::new();
        }
        let most = subscription.map_or(u8::MAX, |subscription| subscription.limit.spatial);
        let mut costs: Vec<Bitrate> = match &self.layers[..] {
            [only] => (0..only.spatial_layers()).map(|spatial| only.rate(now, spatial)).collect(),
            _ => {
                let ranked = self.ranks.iter().map(|index| &self.layers[usize::from(*index)]);
                let top = ranked.clone().rposition(|layer| layer.is_active(now)).unwrap_or(0);
                ranked.take(top + 1).map(|layer| layer.rate(now, u8::MAX)).collect()
            }
        };
        costs.truncate(usize::from(most).saturating_add(1));
        costs
    }

    /// Aims one subscription anew. Returns whether a keyframe of its target is needed.
    fn aim(&mut self, now: Instant, peer: PeerKey, slot: u16, cause: SwitchCause) -> bool {
        self.search(peer, slot).is_ok_and(|index| self.aim_at(now, index, cause))
    }

    fn aim_at(&mut self, now: Instant, index: usize, cause: SwitchCause) -> bool {
        let aim = |track: &Track| {
            let selection = &track.subscriptions[index].selection;
            (selection.target(), selection.wanted())
        };
        let before = aim(self);
        let wanted = self.choose(now, index);
        if aim(self) != before {
            self.subscriptions[index].cause = cause;
        }
        wanted
    }

    fn choose(&mut self, now: Instant, index: usize) -> bool {
        let Track { layers, ranks, subscriptions, cut, .. } = self;
        let Subscription { selection, limit, room, .. } = &mut subscriptions[index];
        let most = limit.spatial.min(*room);
        if layers.len() == 1 {
            let highest = layers[0].spatial_layers() - 1;
            let spatial = if cut.top { most.min(highest.saturating_sub(1)) } else { most };
            let temporal = cut.temporal(limit.temporal, layers[0].fastest());
            return selection.aim(0, 1, LayerLimit { spatial, temporal }, highest);
        }
        let come = layers.iter().filter(|layer| layer.has_come()).count();
        // Of those there have been: a publisher that is short of bandwidth does not lose the next one, too.
        let there = if cut.top { come.saturating_sub(1).max(1) } else { ranks.len() };
        let within = ranks.len().min(there).min(usize::from(most).saturating_add(1));
        let rank = best(now, layers, ranks, within).unwrap_or_else(|| {
            let target = ranks.iter().position(|index| *index == selection.target());
            target.map_or(0, |rank| rank.min(within.saturating_sub(1)))
        });
        let acceptable = ranks.iter().take(within).fold(0, |bits, index| bits | 1_u8 << (index & 7));
        let fastest = layers[usize::from(ranks[rank])].fastest();
        let temporal = cut.temporal(limit.temporal, fastest);
        let whole = LayerLimit { temporal, ..LayerLimit::NONE };
        selection.aim(ranks[rank], acceptable, whole, u8::MAX)
    }

    /// The layer that a newcomer will be aimed at.
    pub fn foreseen(&self, now: Instant, limit: LayerLimit) -> u8 {
        let within = self.ranks.len().min(usize::from(limit.spatial).saturating_add(1));
        best(now, &self.layers, &self.ranks, within).map_or(0, |rank| self.ranks[rank])
    }

    /// Orders the layers, smallest first: by the size of their pictures where all that have come tell it, else by
    /// what they weigh. Those that never came stay behind them, as they were named.
    fn rank(&mut self, now: Instant) {
        let Track { layers, ranks, .. } = self;
        if layers.len() < 2 {
            return;
        }
        let layer = |index: &u8| &layers[usize::from(*index)];
        let pixels = |layer: &Layer| layer.size.map(|(width, height)| u32::from(width) * u32::from(height));
        ranks.sort_by_key(|index| !layer(index).has_come());
        let come = ranks.iter().take_while(|index| layer(index).has_come()).count();
        let come = &mut ranks[..come];
        if come.iter().all(|index| layer(index).size.is_some()) {
            come.sort_by_key(|index| (pixels(layer(index)), *index));
            return;
        }
        // Neighbours change places only if there is no doubt: rates go up and down.
        let weight = |index: &u8| layer(index).rate(now, u8::MAX).as_bps();
        for at in 1..come.len() {
            let (less, more) = (weight(&come[at - 1]), weight(&come[at]));
            if more > 0 && less > more + more / 2 {
                come.swap(at - 1, at);
            }
        }
    }
}

/// The rank of the best layer that is alive among the first `within`; else of the least there is.
fn best(now: Instant, layers: &[Layer], ranks: &[u8], within: usize) -> Option<usize> {
    let active = |rank: &usize| layers[usize::from(ranks[*rank])].is_active(now);
    (0..within).rev().find(active).or_else(|| (within..ranks.len()).find(active))
}

//! The spans of a join: how far a newcomer has come, for hosts that trace.
//!
//! They are kept in the session and end when they are dropped, however it ends. None is ever entered: a worker's thread has no
//! current span, so each names its parent. Once media flows nothing of this is left; nothing here is per packet.

use std::time::{Duration, Instant};

use tracing::field::Empty;
use tracing::{Id, Span, info_span};

use crate::counters::{JoinOutcome, JoinResult, PathKind, SrtpProfile};
use crate::ids::PeerId;

/// A join: `sfu.join`, below what the host does, or else below whatever span is current.
///
/// The room is told by a hash that means nothing outside this process.
pub fn joining(parent: Option<Span>, worker: usize, room: u64, saturation_level: u8) -> Span {
    info_span!(
        target: "sfu::join",
        parent: parent.unwrap_or_else(Span::current).id(),
        "sfu.join",
        sfu.worker = worker,
        sfu.room.hash = format_args!("{room:016x}"),
        sfu.saturation_level = saturation_level,
        sfu.peer = Empty,
        sfu.result = Empty,
        sfu.reason = Empty,
        otel.status_code = Empty,
    )
}

/// Asking the node whether it has room for one more.
pub fn admitting(join: &Span) -> Span {
    below(join, |parent| info_span!(target: "sfu::join", parent: parent, "sfu.admit"))
}

/// Reading an offer and answering it.
pub fn negotiating(join: &Span) -> Span {
    below(join, |parent| info_span!(target: "sfu::join", parent: parent, "sfu.sdp.negotiate"))
}

/// Matching a newcomer with the tracks of its room.
pub fn subscribing(join: &Span) -> Span {
    below(join, |parent| info_span!(target: "sfu::join", parent: parent, "sfu.subscribe"))
}

/// A stage of a join that somebody traces.
fn below(join: &Span, stage: impl FnOnce(Option<Id>) -> Span) -> Span {
    if join.is_disabled() { Span::none() } else { stage(join.id()) }
}

/// Says how a join ended.
pub fn ended(join: &Span, outcome: JoinOutcome) {
    let result = outcome.result();
    join.record("sfu.result", result.as_str());
    join.record("sfu.reason", outcome.as_str());
    if result == JoinResult::Failed {
        join.record("otel.status_code", "ERROR");
    }
}

/// What is open of a join.
#[derive(Debug)]
pub struct JoinTrace {
    join: Span,
    /// What it waits for: a path, keys, the first packet.
    stage: Span,
}

impl JoinTrace {
    /// It has its answer, and a path is looked for. `None`: nobody traces it.
    pub fn begin(join: Span, peer: PeerId) -> Option<Box<JoinTrace>> {
        (!join.is_disabled()).then(|| Box::new(JoinTrace::new(join, peer)))
    }

    fn new(join: Span, peer: PeerId) -> JoinTrace {
        join.record("sfu.peer", tracing::field::display(peer));
        let stage = info_span!(
            target: "sfu::join", parent: join.id(), "sfu.ice", candidate_type = Empty, transport = Empty
        );
        JoinTrace { join, stage }
    }

    /// A path is found.
    pub fn on_path(&mut self, kind: PathKind) {
        self.stage.record("candidate_type", kind.as_str());
        self.stage.record("transport", "udp");
        self.stage = info_span!(
            target: "sfu::join", parent: self.join.id(), "sfu.dtls", version = "1.2", srtp_profile = Empty
        );
    }

    /// Both sides have keys: it is in.
    pub fn on_keys(&mut self, profile: SrtpProfile) {
        self.stage.record("srtp_profile", profile.as_str());
        ended(&self.join, JoinOutcome::Ok);
        self.stage = info_span!(target: "sfu::join", parent: self.join.id(), "sfu.first_packet");
    }

    /// Whoever is in for so long and has neither said nor heard anything may never: its join is told without.
    pub fn is_over(now: Instant, secured_at: Option<Instant>) -> bool {
        secured_at.is_some_and(|at| now >= at + FIRST_PACKET_WITHIN)
    }

    /// It will not come in any more.
    pub fn on_end(&self, outcome: JoinOutcome) {
        ended(&self.join, outcome);
    }
}

/// The bound of `sfu_join_seconds`.
const FIRST_PACKET_WITHIN: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};

    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Metadata, Subscriber};

    use super::*;

    /// A span as a subscriber hears of it.
    #[derive(Clone, Debug, Default, PartialEq)]
    struct Told {
        name: &'static str,
        parent: Option<u64>,
        fields: BTreeMap<&'static str, String>,
        closed: bool,
    }

    #[derive(Clone, Default)]
    struct Listener(Arc<Mutex<Vec<Told>>>);

    impl Listener {
        fn span(&self, id: &Id, change: impl FnOnce(&mut Told)) {
            change(&mut self.0.lock().unwrap()[id.into_u64() as usize - 1]);
        }
    }

    struct Fields<'a>(&'a mut Told);

    impl tracing::field::Visit for Fields<'_> {
        fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
            self.0.fields.insert(field.name(), format!("{value:?}"));
        }

        fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
            self.0.fields.insert(field.name(), value.to_owned());
        }
    }

    impl Subscriber for Listener {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, span: &Attributes<'_>) -> Id {
            assert!(!span.is_contextual(), "its parent is named");
            assert_eq!(span.metadata().target(), "sfu::join");
            let parent = span.parent().map(Id::into_u64);
            let mut told = Told { name: span.metadata().name(), parent, ..Told::default() };
            span.record(&mut Fields(&mut told));
            let mut all = self.0.lock().unwrap();
            all.push(told);
            Id::from_u64(all.len() as u64)
        }

        fn record(&self, id: &Id, values: &Record<'_>) {
            self.span(id, |told| values.record(&mut Fields(told)));
        }

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, _: &Event<'_>) {}

        fn enter(&self, _: &Id) {
            panic!("nobody enters a span of a join");
        }

        fn exit(&self, _: &Id) {}

        fn try_close(&self, id: Id) -> bool {
            self.span(&id, |told| told.closed = true);
            true
        }
    }

    /// All spans of what happens, with the names of their parents.
    fn told(happen: impl FnOnce()) -> Vec<Told> {
        let listener = Listener::default();
        tracing::subscriber::with_default(listener.clone(), happen);
        let told = listener.0.lock().unwrap();
        assert!(told.iter().all(|span| span.closed), "{told:#?}");
        told.clone()
    }

    fn peer() -> PeerId {
        PeerId::new(3, crate::ids::PeerKey::default())
    }

    #[test]
    fn each_stage_is_a_child_of_the_join() {
        let spans = told(|| {
            let join = joining(None, 3, 0xabc, 2);
            drop(admitting(&join));
            drop(negotiating(&join));
            let mut trace = JoinTrace::new(join, peer());
            trace.on_path(PathKind::Srflx);
            trace.on_keys(SrtpProfile::AesGcm128);
        });
        let names: Vec<_> = spans.iter().map(|span| (span.name, span.parent)).collect();
        let below = |name| (name, Some(1));
        let stages = ["sfu.admit", "sfu.sdp.negotiate", "sfu.ice", "sfu.dtls", "sfu.first_packet"].map(below);
        assert_eq!(names, [&[("sfu.join", None)], &stages[..]].concat());
        let field = |span: usize, name| spans[span].fields.get(name).map(String::as_str);
        assert_eq!(field(0, "sfu.room.hash"), Some("0000000000000abc"));
        assert_eq!(field(0, "sfu.saturation_level"), Some("2"));
        assert_eq!(field(0, "sfu.peer"), Some(peer().to_string().as_str()));
        assert_eq!((field(0, "sfu.result"), field(0, "sfu.reason")), (Some("ok"), Some("none")));
        assert_eq!(field(0, "otel.status_code"), None);
        assert_eq!((field(3, "candidate_type"), field(3, "transport")), (Some("srflx"), Some("udp")));
        assert_eq!(field(4, "srtp_profile"), Some("aes_gcm_128"));
    }

    #[test]
    fn what_fails_ends_too_and_says_why() {
        let spans = told(|| {
            let trace = JoinTrace::new(joining(None, 0, 0, 0), peer());
            trace.on_end(JoinOutcome::IceTimeout);
        });
        let (join, stage) = (&spans[0].fields, &spans[1]);
        assert_eq!((stage.name, spans.len()), ("sfu.ice", 2));
        assert_eq!((join["sfu.result"].as_str(), join["sfu.reason"].as_str()), ("failed", "ice_timeout"));
        assert_eq!(join["otel.status_code"], "ERROR");
        // Without a span of the host's and without a subscriber there is nothing to keep.
        assert!(JoinTrace::begin(Span::none(), peer()).is_none());
        assert!(
            told(|| drop((admitting(&Span::none()), negotiating(&Span::none()), subscribing(&Span::none()))))
                .is_empty()
        );
        let refused = told(|| ended(&joining(None, 0, 0, 0), JoinOutcome::Limit));
        assert_eq!(refused[0].fields["sfu.result"], "rejected");
        assert!(!refused[0].fields.contains_key("otel.status_code"), "an answer is no fault");
    }
}

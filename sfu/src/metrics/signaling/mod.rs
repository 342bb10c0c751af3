//! What a host's signalling counts: sockets, rooms, messages, requests, HTTP.
//!
//! The library does no signalling. Hosts that want these names need not invent them, and cannot put a room, a person or an
//! address into a label: every value is an enum's, or was fixed at start.

mod catalogue;
mod endpoint;
mod labels;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::snapshot::MetricFamily;
use crate::counters::Hist;

#[cfg(test)]
pub(super) use catalogue::document;
pub use endpoint::Endpoint;
use endpoint::{Answers, Endpoints};
pub use labels::{AuthFailure, IceStatus, MessageType, Method, Op, Outcome, Region};
use labels::{MAX_VALUE, Way};

/// Metrics of a host's own signalling and HTTP, under the names that operators know: METRICS.md lists them.
///
/// A cheap handle. `Metrics::with_signaling` puts them beside the SFU's, into whatever that is mounted on; with feature `axum`,
/// `axum::measured` counts the requests of a router.
///
/// ```no_run
/// use sluicegate::signaling::{Endpoint, MessageType, Method, Op, Outcome, Region, SignalingMetrics};
///
/// # fn host(sfu: &sluicegate::Sfu, region: Region) -> Result<(), Box<dyn std::error::Error>> {
/// let socket = Endpoint::new("ws").route("/ws/{room}").answers(Method::Get, &[101, 400, 401, 503]);
/// let signaling = SignalingMetrics::new(region, [socket])?;
/// let metrics = sfu.metrics().with_signaling(signaling.clone()); // .registry(), .register(..), …
///
/// let open = signaling.websocket(); // Counted until it is dropped.
/// signaling.received(MessageType::Join);
/// signaling.request(Op::Join, Outcome::Ok);
/// signaling.sent(MessageType::Joined);
/// # drop(open); let _ = metrics; Ok(()) }
/// ```
#[derive(Clone)]
pub struct SignalingMetrics(Arc<Shared>);

struct Shared {
    region: Region,
    endpoints: Endpoints,
    counts: Mutex<Counts>,
}

/// Signalling is rare beside media: one lock, and every scrape is of one moment.
#[derive(Clone)]
struct Counts {
    active: [u64; Active::ALL],
    messages: [[u64; MessageType::ALL.len()]; Way::ALL.len()],
    auth_failures: [u64; AuthFailure::ALL.len()],
    negotiations: [Hist<{ ICE_NEGOTIATION.len() }>; IceStatus::ALL.len()],
    requests: [[u64; Outcome::ALL.len()]; Op::ALL.len()],
    /// In the order of the endpoints' labels.
    http: Vec<Answers>,
}

/// What there is one more of as long as somebody holds it.
#[derive(Clone, Copy, Debug)]
enum Active {
    Websockets,
    Rooms,
}

impl Active {
    const ALL: usize = 2;
}

/// Counts as one more, of what [`SignalingMetrics`] gave it out for, until it is dropped.
#[must_use = "it counts as long as it is held"]
pub struct ActiveGuard {
    metrics: SignalingMetrics,
    what: Active,
}

impl Drop for ActiveGuard {
    fn drop(&mut self) {
        self.metrics.0.counts.lock().active[self.what as usize] -= 1;
    }
}

impl std::fmt::Debug for ActiveGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ActiveGuard").field(&self.what).finish()
    }
}

/// [`SignalingMetrics::new`] could not, or a [`Region`] is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignalingError {
    /// The region will not do as a label value.
    #[error("the region {given:?} is not 1 to {MAX_VALUE} of the characters a-z, 0-9, _ . + -")]
    Region {
        /// What was given.
        given: String,
    },
    /// An endpoint's name will not do as a label value, or is `other`.
    #[error("the endpoint {name:?} is `other`, or not 1 to {MAX_VALUE} of the characters a-z, 0-9, _ . + -")]
    Endpoint {
        /// Its name.
        name: &'static str,
    },
    /// A route, or a method of an endpoint, is declared twice.
    #[error("{what} is declared twice")]
    Twice {
        /// The route, or the endpoint's name.
        what: &'static str,
    },
    /// Not a status code.
    #[error("{code}, which {endpoint} is to answer, is no status code")]
    Code {
        /// What was given.
        code: u16,
        /// The endpoint.
        endpoint: &'static str,
    },
    /// More methods of endpoints than a scrape should have.
    #[error("{doors} methods of endpoints are more than {}", endpoint::MAX_DOORS)]
    TooMany {
        /// How many were declared.
        doors: usize,
    },
}

impl SignalingMetrics {
    /// Everything at 0. What the endpoints do not declare will count as `other`.
    ///
    /// # Errors
    ///
    /// [`SignalingError`] names the endpoint that will not do.
    pub fn new(
        region: Region,
        endpoints: impl IntoIterator<Item = Endpoint>,
    ) -> Result<SignalingMetrics, SignalingError> {
        let (endpoints, http) = Endpoints::new(endpoints)?;
        let counts = Counts {
            active: Default::default(),
            messages: Default::default(),
            auth_failures: Default::default(),
            negotiations: Default::default(),
            requests: Default::default(),
            http,
        };
        Ok(SignalingMetrics(Arc::new(Shared { region, endpoints, counts: Mutex::new(counts) })))
    }

    /// A WebSocket has opened; it has closed when the guard is dropped.
    pub fn websocket(&self) -> ActiveGuard {
        self.one_more(Active::Websockets)
    }

    /// A room has its first member; it has none when the guard is dropped.
    pub fn room(&self) -> ActiveGuard {
        self.one_more(Active::Rooms)
    }

    /// A client said something.
    pub fn received(&self, message: MessageType) {
        self.message(message, Way::In);
    }

    /// A client was told something.
    pub fn sent(&self, message: MessageType) {
        self.message(message, Way::Out);
    }

    /// Somebody was not let in.
    pub fn auth_failed(&self, why: AuthFailure) {
        self.0.counts.lock().auth_failures[why as usize] += 1;
    }

    /// A client found a path to the SFU, or none, so long after its answer:
    /// [`PeerEvent::IceConnected`](crate::PeerEvent::IceConnected) tells.
    pub fn ice_negotiated(&self, status: IceStatus, took: Duration) {
        self.0.counts.lock().negotiations[status as usize].record(&ICE_NEGOTIATION, took);
    }

    /// What became of something a client asked.
    pub fn request(&self, op: Op, outcome: Outcome) {
        self.0.counts.lock().requests[op as usize][outcome as usize] += 1;
    }

    /// An HTTP request was answered, an upgrade included. `route` is the template that the router matched, if any; it is
    /// looked up among the endpoints, and never a label.
    pub fn http_request(&self, method: Method, route: Option<&str>, code: u16, took: Duration) {
        let door = self.0.endpoints.door(method, route);
        self.0.counts.lock().http[door].record(code, took);
    }

    /// Every value now.
    pub(super) fn families(&self) -> Vec<MetricFamily> {
        let counts = self.0.counts.lock().clone();
        catalogue::families(&self.0, &counts)
    }

    fn message(&self, message: MessageType, way: Way) {
        self.0.counts.lock().messages[way as usize][message as usize] += 1;
    }

    fn one_more(&self, what: Active) -> ActiveGuard {
        self.0.counts.lock().active[what as usize] += 1;
        ActiveGuard { metrics: self.clone(), what }
    }
}

impl std::fmt::Debug for SignalingMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignalingMetrics").field("region", &self.0.region.as_str()).finish_non_exhaustive()
    }
}

const MS: u64 = 1_000_000;

/// 50 ms to 10 s.
const ICE_NEGOTIATION: [u64; 8] =
    [50 * MS, 100 * MS, 250 * MS, 500 * MS, 1_000 * MS, 2_500 * MS, 5_000 * MS, 10_000 * MS];

/// 10 ms to 1 s, with bounds on the half second and the second that are promised.
const HTTP_DURATION: [u64; 5] = [10 * MS, 50 * MS, 100 * MS, 500 * MS, 1_000 * MS];

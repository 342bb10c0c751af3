//! What one worker's engine counts: plain integers, no atomics, `assert_eq!`-able in tests.
//!
//! Nothing here knows Prometheus. The shell stores the values into a shard (`metrics/shard`) after
//! each batch, and `metrics/catalogue` says which of them a scrape shows under which name.

mod cells;
mod hist;
mod labels;

use std::time::Duration;

use crate::drop::{DropReason, FilterReason};
use crate::ids::MediaKind;

pub use cells::Cells;
pub(crate) use cells::cells;
pub use hist::{
    BITRATE, FORWARD_LATENCY, FPS, Hist, JITTER, JOIN, KEYFRAME_LATENCY, LOOP_LAG, LOSS, MEDIA_LATENCY, RTT,
    nanos,
};
pub(crate) use labels::labels;
pub use labels::{
    Admission, AdmissionDecision, AdmissionScope, Axis, Direction, DropKind, DtlsOutcome, DtlsResult,
    EndReason, IceOutcome, IceResult, IoOp, JoinOutcome, JoinResult, Label, Leg, LossThreshold,
    MessageOutcome, Mitigation, PanicScope, PathKind, Pressure, QualityLimit, Queue, Relay, RepairOutcome,
    ReportOutcome, RequestOutcome, RoomSize, SrtpProfile, Stage, Step, SwitchCause, TrafficKind,
    Transmission, Transport, Turn, can_occur,
};

/// What packets cost to count is measured against a build that does not: `SLUICEGATE_BENCH_UNRECORDED=1 cargo bench
/// -p sluicegate-benches --bench fanout`. Nothing else may set it: the books do not balance then.
const UNRECORDED: bool = option_env!("SLUICEGATE_BENCH_UNRECORDED").is_some();

/// A cell per media kind.
pub type ByKind<T = u64> = [T; 2];
/// A cell per direction.
pub type ByDirection<T = u64> = [T; Direction::ALL.len()];

cells! {
    /// Everything one engine counts since it started, and what it holds now.
    #[derive(Clone, Default, PartialEq, Eq, Debug)]
    pub struct Counters {
        /// Received, after SRTP authentication.
        pub ingress: Traffic,
        /// Handed to the kernel.
        pub egress: Traffic,
        /// Copies owed: each received packet × the subscriptions of its track.
        pub fanout: ByKind,
        /// Copies we chose not to send.
        pub filtered: ByKind<[u64; FilterReason::ALL.len()]>,
        /// Packets lost inside the SFU or refused at the gate.
        pub dropped: ByDirection<[[u64; DropReason::ALL.len()]; DropKind::ALL.len()]>,
        /// RTCP NACK messages.
        pub nacks: ByDirection<ByKind>,
        /// Sequence numbers those messages asked for.
        pub nacked_packets: ByDirection<ByKind>,
        /// Picture loss indications.
        pub plis: ByDirection,
        /// Full intra requests.
        pub firs: ByDirection,
        /// Subscribers' PLIs and FIRs by what became of them.
        pub keyframe_requests: [u64; RequestOutcome::ALL.len()],
        /// Packets that subscribers' NACKs asked for by what became of them.
        pub rtx_requests: ByKind<[u64; RepairOutcome::ALL.len()]>,
        /// Request sent upstream → first packet of the keyframe.
        pub keyframe_latency: Hist<{ KEYFRAME_LATENCY.len() }>,
        /// Ingress timestamp → egress system call.
        pub forward_latency: ByKind<Hist<{ FORWARD_LATENCY.len() }>>,
        /// How long egress queues waited to be emptied; a sample.
        pub queue_delay: Hist<{ LOOP_LAG.len() }>,
        /// Received repairs that filled a gap.
        pub useful_repairs: ByKind,
        /// Messages of transport-wide feedback.
        pub feedback: u64,
        /// Those about packets that we have forgotten, or never sent.
        pub unmatched_feedback: u64,
        /// Publisher to subscriber, per subscription and report.
        pub media_latency: ByKind<Hist<{ MEDIA_LATENCY.len() }>>,
        /// Round trips, once a second.
        pub rtt: [Hist<{ RTT.len() }>; Leg::ALL.len()],
        /// Interarrival jitter, per stream and report.
        pub jitter: ByDirection<ByKind<Hist<{ JITTER.len() }>>>,
        /// Lost shares, per stream and window.
        pub loss: ByDirection<ByKind<Hist<{ LOSS.len() }>>>,
        /// Lost shares, per session.
        pub session_loss: ByDirection<ByKind<Hist<{ LOSS.len() }>>>,
        /// Subscribers' changes of layer: `[axis][step][cause]`.
        pub layer_switches: [[[u64; SwitchCause::ALL.len()]; Step::ALL.len()]; Axis::ALL.len()],
        /// What was let in, and what was not.
        pub admissions: [[u64; Admission::ALL.len()]; AdmissionScope::ALL.len()],
        /// How long participants were there, all together, in nanoseconds.
        pub participant_time: u64,
        /// Join requests by outcome.
        pub joins: [u64; JoinOutcome::ALL.len()],
        /// How long each stage of a join took.
        pub join_stages: [Hist<{ JOIN.len() }>; Stage::ALL.len()],
        /// ICE sessions by outcome and by relay offered.
        pub ice_sessions: [[u64; Relay::ALL.len()]; IceOutcome::ALL.len()],
        /// Paths that peers have chosen.
        pub selected_pairs: [u64; PathKind::ALL.len()],
        /// DTLS handshakes by outcome.
        pub dtls_handshakes: [u64; DtlsOutcome::ALL.len()],
        /// Sessions by negotiated profile.
        pub srtp_sessions: [u64; SrtpProfile::ALL.len()],
        /// Sessions ended by reason.
        pub sessions_ended: [u64; EndReason::ALL.len()],
        /// Contained panics by what they cost.
        pub panics: [u64; PanicScope::ALL.len()],
        /// Times a publisher was policed for ignoring its cap: episodes, not packets.
        pub cap_violations: u64,
        /// Messages on data channels by what became of them.
        pub messages: [u64; MessageOutcome::ALL.len()],
        /// Clients' reports by what became of them.
        pub client_reports: [u64; ReportOutcome::ALL.len()],
        /// What clients say of their round trips.
        pub client_rtt: Hist<{ RTT.len() }>,
        /// … of the jitter of what they receive.
        pub client_jitter: Hist<{ JITTER.len() }>,
        /// … of what they lose.
        pub client_loss: Hist<{ LOSS.len() }>,
        /// … of the pictures they show in a second.
        pub client_fps: Hist<{ FPS.len() }>,
        /// … of how long their media waits to be played.
        pub client_playout: Hist<{ MEDIA_LATENCY.len() }>,
        /// … of what they receive and send: in is what they send.
        pub client_bitrate: ByDirection<Hist<{ BITRATE.len() }>>,
        /// Times that pictures stood still, they say.
        pub client_freezes: u64,
        /// How long, in nanoseconds.
        pub client_freeze_time: u64,
        /// What held their encoders back, in nanoseconds.
        pub client_limited: [u64; QualityLimit::ALL.len()],
        /// What the engine holds now. The engine sets these.
        pub gauges: Gauges,
    }

    /// Packets and bytes, by kind and transmission.
    #[derive(Clone, Default, PartialEq, Eq, Debug)]
    pub struct Traffic {
        /// RTP packets and RTCP compounds.
        pub packets: [[u64; Transmission::ALL.len()]; TrafficKind::ALL.len()],
        /// Their bytes: headers, extensions, payload and padding, without UDP and what SRTP adds.
        pub bytes: [[u64; Transmission::ALL.len()]; TrafficKind::ALL.len()],
    }

    /// The engine's present population. These go up and down, and a restart forgets them.
    #[derive(Clone, Default, PartialEq, Eq, Debug)]
    pub struct Gauges {
        /// Rooms at home on this worker; a replica is not a second room.
        pub rooms: u64,
        /// Peers seated in a room.
        pub participants: u64,
        /// Live peer connections.
        pub active_handles: u64,
        /// Participants with at least one unmuted published track.
        pub publishers: u64,
        /// Participants with at least one unpaused subscription.
        pub subscribers: u64,
        /// Connections by the path they use.
        pub selected_paths: [u64; PathKind::ALL.len()],
        /// Tracks: `[kind][direction]`, published (in) and subscribed (out).
        pub tracks: ByKind<ByDirection>,
        /// Rooms by how many are in them.
        pub rooms_by_size: [u64; RoomSize::ALL.len()],
        /// Participants of the largest room.
        pub largest_room: u64,
        /// The most videos that one participant gets, or would get.
        pub most_videos: u64,
        /// Participants who lose more than each threshold.
        pub lossy_subscribers: [u64; LossThreshold::ALL.len()],
        /// Peers here who speak.
        pub active_speakers: u64,
        /// Publishers that are held to a cap.
        pub capped_publishers: u64,
        /// The lowest cap of any, in bits per second.
        pub lowest_cap: u64,
        /// Packets that could wait, for all subscribers together.
        pub queue_capacity: u64,
        /// Copies that wait in subscribers' queues.
        pub queued: ByKind,
    }
}

impl Counters {
    /// A packet was received and authenticated.
    #[inline]
    pub fn ingress(&mut self, kind: MediaKind, transmission: Transmission, bytes: usize) {
        if UNRECORDED {
            return;
        }
        self.ingress.add(kind, transmission, bytes);
    }

    /// An RTCP compound was received and authenticated.
    pub fn ingress_rtcp(&mut self, bytes: usize) {
        self.ingress.add_rtcp(bytes);
    }

    /// An RTCP compound left.
    pub fn egress_rtcp(&mut self, bytes: usize) {
        self.egress.add_rtcp(bytes);
    }

    /// `packets` packets left in one send.
    #[inline]
    pub fn egress_run(&mut self, kind: MediaKind, transmission: Transmission, packets: u64, bytes: u64) {
        if UNRECORDED {
            return;
        }
        self.egress.packets[kind as usize][transmission as usize] += packets;
        self.egress.bytes[kind as usize][transmission as usize] += bytes;
    }

    /// A packet is owed to `copies` subscriptions.
    #[inline]
    pub fn fanout(&mut self, kind: MediaKind, copies: usize) {
        if UNRECORDED {
            return;
        }
        self.fanout[kind as usize] += copies as u64;
    }

    /// One copy will not be sent, on purpose.
    #[inline]
    pub fn filtered(&mut self, kind: MediaKind, reason: FilterReason) {
        if UNRECORDED {
            return;
        }
        self.filtered[kind as usize][reason as usize] += 1;
    }

    /// `copies` will not be sent, on purpose.
    #[inline]
    pub fn filtered_n(&mut self, kind: MediaKind, reason: FilterReason, copies: usize) {
        if UNRECORDED {
            return;
        }
        self.filtered[kind as usize][reason as usize] += copies as u64;
    }

    /// One copy waits in its subscriber's queue.
    #[inline]
    pub fn queued(&mut self, kind: MediaKind) {
        if UNRECORDED {
            return;
        }
        self.gauges.queued[kind as usize] += 1;
    }

    /// `n` copies wait no longer: they went, or are booked as dropped.
    #[inline]
    pub fn unqueued(&mut self, kind: MediaKind, n: u64) {
        if UNRECORDED {
            return;
        }
        self.gauges.queued[kind as usize] -= n;
    }

    /// A received packet goes no further.
    #[inline]
    pub fn dropped_in(&mut self, kind: DropKind, reason: DropReason) {
        self.dropped(Direction::In, kind, reason, 1);
    }

    /// `n` packets that should have left did not.
    #[inline]
    pub fn dropped_out(&mut self, kind: DropKind, reason: DropReason, n: u64) {
        self.dropped(Direction::Out, kind, reason, n);
    }

    /// `messages` NACKs that together ask for `packets` sequence numbers.
    #[inline]
    pub fn nacks(&mut self, direction: Direction, kind: MediaKind, messages: u64, packets: u64) {
        self.nacks[direction as usize][kind as usize] += messages;
        self.nacked_packets[direction as usize][kind as usize] += packets;
    }

    /// Picture loss indications, RFC 4585 §6.3.1.
    #[inline]
    pub fn plis(&mut self, direction: Direction, messages: u64) {
        self.plis[direction as usize] += messages;
    }

    /// Full intra requests, RFC 5104 §4.3.1.
    #[inline]
    pub fn firs(&mut self, direction: Direction, messages: u64) {
        self.firs[direction as usize] += messages;
    }

    /// What became of `n` packets that a subscriber's NACK asked for.
    #[inline]
    pub fn repair_request(&mut self, kind: MediaKind, outcome: RepairOutcome, n: u64) {
        self.rtx_requests[kind as usize][outcome as usize] += n;
    }

    /// `n` PLIs or FIRs of a subscriber have been decided on.
    #[inline]
    pub fn keyframe_request(&mut self, outcome: RequestOutcome, n: u64) {
        self.keyframe_requests[outcome as usize] += n;
    }

    /// A keyframe came, this long after we asked.
    #[inline]
    pub fn keyframe_latency(&mut self, latency: Duration) {
        self.keyframe_latency.record(&KEYFRAME_LATENCY, latency);
    }

    /// `n` packets of one batch left, this long after they came.
    #[inline]
    pub fn forward_latency(&mut self, kind: MediaKind, latency: Duration, n: u64) {
        if UNRECORDED {
            return;
        }
        self.forward_latency[kind as usize].record_n(&FORWARD_LATENCY, latency, n);
    }

    /// A subscriber's queue is emptied, this long after the first packet came to stand in it.
    pub fn queue_delay(&mut self, delay: Duration) {
        self.queue_delay.record(&LOOP_LAG, delay);
    }

    /// A received repair filled a gap.
    #[inline]
    pub fn useful_repair(&mut self, kind: MediaKind) {
        self.useful_repairs[kind as usize] += 1;
    }

    /// A message of feedback came, and perhaps it was about packets that we have forgotten, or never sent.
    pub fn feedback(&mut self, unmatched: bool) {
        self.feedback += 1;
        self.unmatched_feedback += u64::from(unmatched);
    }

    /// So long media takes from a publisher to one of its subscribers.
    pub fn media_latency(&mut self, kind: MediaKind, latency: Duration) {
        self.media_latency[kind as usize].record(&MEDIA_LATENCY, latency);
    }

    /// A round trip was measured.
    pub fn rtt(&mut self, leg: Leg, rtt: Duration) {
        self.rtt[leg as usize].record(&RTT, rtt);
    }

    /// A stream's packets come so unevenly.
    pub fn jitter(&mut self, direction: Direction, kind: MediaKind, jitter: Duration) {
        self.jitter[direction as usize][kind as usize].record(&JITTER, jitter);
    }

    /// So much of a stream was lost in a window.
    pub fn loss(&mut self, direction: Direction, kind: MediaKind, ratio: f64) {
        self.loss[direction as usize][kind as usize].record_ratio(&LOSS, ratio);
    }

    /// So much was lost in a whole session.
    pub fn session_loss(&mut self, direction: Direction, kind: MediaKind, ratio: f64) {
        self.session_loss[direction as usize][kind as usize].record_ratio(&LOSS, ratio);
    }

    /// A subscriber gets another layer.
    pub fn layer_switch(&mut self, axis: Axis, step: Step, cause: SwitchCause) {
        self.layer_switches[axis as usize][step as usize][cause as usize] += 1;
    }

    /// Something was let in, or not.
    pub fn admission(&mut self, scope: AdmissionScope, admission: Admission) {
        self.admissions[scope as usize][admission as usize] += 1;
    }

    /// An authenticated join request has ended.
    pub fn joined(&mut self, outcome: JoinOutcome) {
        self.joins[outcome as usize] += 1;
    }

    /// A stage of a join is behind the peer.
    pub fn join_stage(&mut self, stage: Stage, took: Duration) {
        self.join_stages[stage as usize].record(&JOIN, took);
    }

    /// An ICE session connected or failed.
    pub fn ice_session(&mut self, outcome: IceOutcome, relay: Relay) {
        self.ice_sessions[outcome as usize][relay as usize] += 1;
    }

    /// A peer has chosen this path, after the one before.
    pub fn selected_path(&mut self, path: Option<PathKind>, before: Option<PathKind>) {
        if let Some(before) = before {
            self.gauges.selected_paths[before as usize] -= 1;
        }
        if let Some(path) = path {
            self.gauges.selected_paths[path as usize] += 1;
            self.selected_pairs[path as usize] += 1;
        }
    }

    /// A DTLS handshake ended.
    pub fn dtls_handshake(&mut self, outcome: DtlsOutcome) {
        self.dtls_handshakes[outcome as usize] += 1;
    }

    /// A session has its SRTP keys.
    pub fn srtp_session(&mut self, profile: SrtpProfile) {
        self.srtp_sessions[profile as usize] += 1;
    }

    /// A session ended.
    pub fn session_ended(&mut self, reason: EndReason) {
        self.sessions_ended[reason as usize] += 1;
    }

    /// A panic was contained.
    pub fn panic(&mut self, scope: PanicScope) {
        self.panics[scope as usize] += 1;
    }

    /// A publisher ignored its cap for so long that policing began.
    pub fn cap_violation(&mut self) {
        self.cap_violations += 1;
    }

    /// What became of a message on a data channel.
    pub fn message(&mut self, outcome: MessageOutcome) {
        self.messages[outcome as usize] += 1;
    }

    /// What became of a client's report.
    pub fn client_report(&mut self, outcome: ReportOutcome) {
        self.client_reports[outcome as usize] += 1;
    }

    /// Copies owed and not accounted for. The books balance when this is 0:
    /// `fanout = egress{first} + filtered + dropped{out} + queued`.
    pub fn unaccounted(&self, kind: MediaKind) -> i64 {
        let at = kind as usize;
        let dropped = &self.dropped[Direction::Out as usize][DropKind::from(kind) as usize];
        let accounted = self.egress.packets[at][Transmission::First as usize]
            + self.filtered[at].iter().sum::<u64>()
            + dropped.iter().sum::<u64>()
            + self.gauges.queued[at];
        self.fanout[at].wrapping_sub(accounted) as i64
    }

    /// Packets that subscribers asked for and of which nobody has said what became of them. 0 when no repair waits:
    /// `nacked_packets{in} = Σ rtx_requests`.
    pub fn unanswered_packets(&self, kind: MediaKind) -> i64 {
        let asked = self.nacked_packets[Direction::In as usize][kind as usize];
        asked.wrapping_sub(self.rtx_requests[kind as usize].iter().sum()) as i64
    }

    /// Keyframe requests of which nobody has said what became of them. 0, always:
    /// `plis{in} + firs{in} = Σ keyframe_requests`.
    pub fn unanswered_requests(&self) -> i64 {
        let asked = self.plis[Direction::In as usize] + self.firs[Direction::In as usize];
        asked.wrapping_sub(self.keyframe_requests.iter().sum()) as i64
    }

    /// What a worker that begins anew goes on counting from: its totals without its population. What was under way
    /// has come to nothing, and is booked so.
    pub fn carried_over(mut self) -> Counters {
        let gauges = std::mem::take(&mut self.gauges);
        for kind in [MediaKind::Audio, MediaKind::Video] {
            self.dropped_out(kind.into(), DropReason::Expired, gauges.queued[kind as usize]);
            let open = self.unanswered_packets(kind).max(0) as u64;
            self.repair_request(kind, RepairOutcome::MissExpired, open);
        }
        let open = self.unanswered_requests().max(0) as u64;
        self.keyframe_request(RequestOutcome::Suppressed, open);
        self.sessions_ended[EndReason::Error as usize] += gauges.active_handles;
        self
    }

    /// All bytes in and out.
    pub fn bytes(&self) -> ByDirection {
        [&self.ingress, &self.egress].map(|side| side.bytes.iter().flatten().sum())
    }

    /// Shows every cell with its number.
    pub fn cells(&self, mut see: impl FnMut(usize, u64)) {
        let mut at = 0;
        self.visit(&mut |value| {
            see(at, value);
            at += 1;
        });
    }

    #[inline]
    fn dropped(&mut self, direction: Direction, kind: DropKind, reason: DropReason, n: u64) {
        // Not lost in release builds: a scrape shows such a cell once it is not 0.
        debug_assert!(
            n == 0 || can_occur(direction, kind, reason),
            "teach can_occur about {direction:?} {kind:?} {reason:?}"
        );
        self.dropped[direction as usize][kind as usize][reason as usize] += n;
    }
}

impl Gauges {
    /// A room that held `before` holds `after` now.
    pub fn resized(&mut self, before: usize, after: usize) {
        if let Some(size) = RoomSize::of(before) {
            self.rooms_by_size[size as usize] -= 1;
        }
        if let Some(size) = RoomSize::of(after) {
            self.rooms_by_size[size as usize] += 1;
        }
    }

    /// Published tracks came or went.
    pub fn published(&mut self, kind: MediaKind, change: i64) {
        let cell = &mut self.tracks[kind as usize][Direction::In as usize];
        *cell = cell.wrapping_add_signed(change);
    }

    /// Subscribed tracks came or went.
    pub fn subscribed(&mut self, kind: MediaKind, change: i64) {
        let cell = &mut self.tracks[kind as usize][Direction::Out as usize];
        *cell = cell.wrapping_add_signed(change);
    }
}

impl Traffic {
    #[inline]
    fn add(&mut self, kind: MediaKind, transmission: Transmission, bytes: usize) {
        self.packets[kind as usize][transmission as usize] += 1;
        self.bytes[kind as usize][transmission as usize] += bytes as u64;
    }

    fn add_rtcp(&mut self, bytes: usize) {
        self.packets[TrafficKind::Rtcp as usize][Transmission::First as usize] += 1;
        self.bytes[TrafficKind::Rtcp as usize][Transmission::First as usize] += bytes as u64;
    }
}

#[test]
fn counters_are_what_the_engine_did() {
    let mut counters = Counters::default();
    counters.ingress(MediaKind::Video, Transmission::First, 1_200);
    counters.ingress(MediaKind::Video, Transmission::First, 300);
    counters.nacks(Direction::In, MediaKind::Video, 1, 17);
    counters.dropped_in(DropKind::Other, DropReason::UnknownPeer);

    let mut expected = Counters::default();
    expected.ingress.packets[1][0] = 2;
    expected.ingress.bytes[1][0] = 1_500;
    expected.nacks[0][1] = 1;
    expected.nacked_packets[0][1] = 17;
    expected.dropped[0][3][DropReason::UnknownPeer as usize] = 1;
    assert_eq!(counters, expected);
}

#[test]
fn the_books_balance() {
    let mut counters = Counters::default();
    counters.fanout(MediaKind::Audio, 10);
    counters.egress_run(MediaKind::Audio, Transmission::First, 6, 480);
    counters.egress_run(MediaKind::Audio, Transmission::Rtx, 1, 80);
    counters.filtered(MediaKind::Audio, FilterReason::Paused);
    counters.dropped_out(DropKind::Audio, DropReason::Expired, 2);
    assert_eq!(counters.unaccounted(MediaKind::Audio), 1);
    counters.gauges.queued[MediaKind::Audio as usize] = 1;
    assert_eq!(counters.unaccounted(MediaKind::Audio), 0);
}

#[test]
fn the_books_balance_for_a_worker_that_begins_anew() {
    let mut counters = Counters::default();
    counters.fanout(MediaKind::Video, 3);
    counters.egress_run(MediaKind::Video, Transmission::First, 1, 1_000);
    counters.gauges.queued = [0, 2];
    counters.gauges.active_handles = 2;
    counters.nacks(Direction::In, MediaKind::Video, 1, 4);
    counters.repair_request(MediaKind::Video, RepairOutcome::Hit, 1);
    counters.plis(Direction::In, 1);
    let counters = counters.carried_over();
    assert_eq!(counters.gauges, Gauges::default());
    assert_eq!(counters.unaccounted(MediaKind::Video), 0);
    assert_eq!(counters.unanswered_packets(MediaKind::Video), 0);
    assert_eq!(counters.unanswered_requests(), 0);
    assert_eq!(counters.sessions_ended[EndReason::Error as usize], 2);
}

#[test]
fn every_cell_is_seen_once() {
    let mut counters = Counters::default();
    let mut next = 0;
    counters.visit_mut(&mut |cell| {
        *cell = next;
        next += 1;
    });
    let mut seen = 0;
    counters.cells(|at, value| {
        assert_eq!(at as u64, value);
        seen += 1;
    });
    assert_eq!(seen, Counters::LEN);
    assert_eq!(counters.gauges.queued[1], Counters::LEN as u64 - 1);
}

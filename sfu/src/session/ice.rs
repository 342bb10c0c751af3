//! ICE-lite: the peer checks, we answer. RFC 8445 §2.5 and §7.3, consent as in RFC 7675.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::drop::DropReason;
use crate::path::Path;
use crate::wire::stun::{Key, Request};

/// A username fragment and password, RFC 8445 §5.3.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Names the session: the part of USERNAME before the colon.
    pub ufrag: String,
    /// Keys MESSAGE-INTEGRITY.
    pub pwd: String,
}

impl Credentials {
    /// Fresh ones: 48 random bits of ufrag, 192 of password (at least 24 and 128 are asked for).
    pub fn random() -> Credentials {
        Credentials { ufrag: ice_chars(8), pwd: ice_chars(32) }
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(…)")
    }
}

/// One session's ICE agent.
///
/// A lite agent sends no checks. It answers the peer's, and takes the peer's latest authenticated
/// request as consent to send. Datagrams are welcome from every validated path, since a browser
/// may probe from several sockets; ours go out on the path the peer nominated last.
pub struct IceLite {
    local: Generation,
    /// The credentials before a restart, good until the new ones are used.
    previous: Option<Generation>,
    /// Validated paths, in no order.
    paths: Vec<Validated>,
    selected: Option<Path>,
    last_check: Option<Instant>,
    /// The transactions of the latest authenticated requests and when each came first, oldest first.
    transactions: VecDeque<([u8; 12], Instant)>,
    /// When an agent that nobody has reached gives up.
    first_check_due: Instant,
    consent_lost: bool,
}

/// One set of credentials, and the peer's ufrag that goes with it.
struct Generation {
    ufrag: String,
    remote: Option<String>,
    key: Key,
}

struct Validated {
    path: Path,
    since: Instant,
    checked_at: Instant,
}

/// What an authenticated request led to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checked {
    /// To be sent back on the path the request came on.
    pub response: Vec<u8>,
    /// This path was not validated before.
    pub new_path: bool,
    /// The selected path changed, and is now this one.
    pub nominated: bool,
    /// A path that had to make room.
    pub evicted: Option<Path>,
    /// The credentials before a restart have served their time.
    pub renewed: bool,
}

impl Checked {
    /// A response is all.
    fn answered(response: Vec<u8>) -> Checked {
        Checked { response, new_path: false, nominated: false, evicted: None, renewed: false }
    }
}

/// What silence led to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Expiry {
    /// Paths the peer no longer consents to.
    pub removed: Vec<Path>,
    /// No path is left, or none was ever validated: the peer is gone. Reported once.
    pub consent_lost: bool,
}

impl IceLite {
    /// An agent that expects its first check within [`FIRST_CHECK`].
    pub fn new(local: Credentials, now: Instant) -> Self {
        IceLite {
            local: Generation::new(local),
            previous: None,
            paths: Vec::new(),
            selected: None,
            last_check: None,
            transactions: VecDeque::new(),
            first_check_due: now + FIRST_CHECK,
            consent_lost: false,
        }
    }

    /// The peer's ufrag: from now on USERNAME is compared whole.
    pub fn set_remote(&mut self, ufrag: &str) {
        self.local.remote = Some(ufrag.to_owned());
    }

    /// New credentials, RFC 8445 §9. The old ones and their paths serve until the peer uses the
    /// new ones; then the old paths age out.
    pub fn restart(&mut self, local: Credentials) {
        let old = std::mem::replace(&mut self.local, Generation::new(local));
        // If the peer never used the last ones, it is still on those before.
        self.previous.get_or_insert(old);
    }

    /// Answers a Binding request.
    ///
    /// # Errors
    ///
    /// The reason to drop the datagram. Nothing is answered then, and nothing changes: only a
    /// request with a valid MESSAGE-INTEGRITY is consent.
    pub fn handle_request(
        &mut self,
        now: Instant,
        path: Path,
        datagram: &[u8],
    ) -> Result<Checked, DropReason> {
        let request = Request::parse(datagram).ok_or(DropReason::Malformed)?;
        let generations = std::iter::once(&self.local).chain(&self.previous);
        let generation = generations
            .into_iter()
            .find(|generation| generation.is_named_by(request.username))
            .filter(|generation| request.is_authentic(&generation.key))
            .ok_or(DropReason::UnknownPeer)?;
        let repeated = self.transactions.iter().find(|(known, _)| known == request.transaction);
        if let Some((_, first)) = repeated {
            // RFC 8489 §6.3.1: one that is repeated is answered again. But whoever has seen a request can send
            // it too, from anywhere and at any time: it opens no path, and soon it is no consent either.
            if !self.paths.iter().any(|known| known.path == path) {
                return Err(DropReason::UnknownPeer);
            }
            if now > *first + FRESH {
                return Ok(Checked::answered(request.success(path.remote, &generation.key)));
            }
        }
        if request.ice_controlled {
            return Ok(Checked::answered(request.role_conflict(&generation.key)));
        }
        let response = request.success(path.remote, &generation.key);
        let current = std::ptr::eq(generation, &self.local);
        let renewed = current && self.previous.take().is_some();
        if repeated.is_none() {
            if self.transactions.len() >= MAX_TRANSACTIONS {
                self.transactions.pop_front();
            }
            self.transactions.push_back((*request.transaction, now));
        }
        let (new_path, evicted) = self.validate(now, path);
        let choose = request.use_candidate || self.has_moved(now, &path);
        let nominated = choose && self.selected != Some(path);
        if nominated {
            self.selected = Some(path);
        }
        Ok(Checked { response, new_path, nominated, evicted, renewed })
    }

    /// Whether an authenticated request has come on `path` within the last `span`.
    pub fn checked_within(&self, now: Instant, path: &Path, span: Duration) -> bool {
        let known = self.paths.iter().find(|known| known.path == *path);
        known.is_some_and(|known| now < known.checked_at + span)
    }

    /// Whether checks that name this local ufrag are still ours to answer.
    pub fn answers_to(&self, ufrag: &str) -> bool {
        self.local.ufrag == ufrag || self.previous.as_ref().is_some_and(|previous| previous.ufrag == ufrag)
    }

    /// Whether an authenticated request has come on `path` lately.
    #[cfg(test)]
    pub fn validated(&self, path: &Path) -> bool {
        self.paths.iter().any(|known| known.path == *path)
    }

    /// Where to send: the path nominated last, else the first one validated.
    pub fn selected(&self) -> Option<Path> {
        self.selected
    }

    /// When the peer last proved itself.
    pub fn last_check(&self) -> Option<Instant> {
        self.last_check
    }

    /// When to call [`IceLite::expire`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.consent_lost {
            return None;
        }
        let oldest = self.paths.iter().map(|known| known.checked_at + CONSENT).min();
        Some(oldest.unwrap_or(self.first_check_due))
    }

    /// Drops the paths whose consent has expired.
    pub fn expire(&mut self, now: Instant) -> Expiry {
        let mut expiry = Expiry::default();
        self.paths.retain(|known| {
            let live = now < known.checked_at + CONSENT;
            if !live {
                expiry.removed.push(known.path);
            }
            live
        });
        if self.selected.is_some_and(|path| expiry.removed.contains(&path)) {
            let freshest = self.paths.iter().max_by_key(|known| known.checked_at);
            self.selected = freshest.map(|known| known.path);
        }
        let waiting = self.last_check.is_none() && now < self.first_check_due;
        if self.paths.is_empty() && !waiting && !self.consent_lost {
            self.consent_lost = true;
            expiry.consent_lost = true;
        }
        expiry
    }

    /// Renews `path`, and says whether it is new and which one had to go.
    fn validate(&mut self, now: Instant, path: Path) -> (bool, Option<Path>) {
        self.last_check = Some(now);
        self.consent_lost = false;
        if let Some(known) = self.paths.iter_mut().find(|known| known.path == path) {
            known.checked_at = now;
            return (false, None);
        }
        let evicted = (self.paths.len() >= MAX_PATHS).then(|| self.evict()).flatten();
        self.paths.reserve_exact(1);
        self.paths.push(Validated { path, since: now, checked_at: now });
        (true, evicted)
    }

    /// Whether a check on `path` says that the peer is there and no longer where we send.
    fn has_moved(&self, now: Instant, path: &Path) -> bool {
        let find = |wanted: &Path| self.paths.iter().find(|known| known.path == *wanted);
        let Some(selected) = self.selected.and_then(|selected| find(&selected)) else { return true };
        let newer = find(path).is_some_and(|known| known.since > selected.checked_at);
        now >= selected.checked_at + if newer { MOVED } else { ABANDONED }
    }

    /// Removes the path that was checked longest ago, though not the one in use.
    fn evict(&mut self) -> Option<Path> {
        let idle = self.paths.iter().enumerate().filter(|(_, known)| Some(known.path) != self.selected);
        let (at, _) = idle.min_by_key(|(_, known)| known.checked_at)?;
        Some(self.paths.swap_remove(at).path)
    }
}

impl Generation {
    fn new(local: Credentials) -> Self {
        Generation { key: Key::new(&local.pwd), ufrag: local.ufrag, remote: None }
    }

    /// Whether USERNAME is `ours:theirs`; any `theirs` while we have not been told.
    fn is_named_by(&self, username: &str) -> bool {
        username.split_once(':').is_some_and(|(local, remote)| {
            local == self.ufrag && self.remote.as_ref().is_none_or(|known| known == remote)
        })
    }
}

/// `len` random characters of the 64 that RFC 8445 calls ice-char.
fn ice_chars(len: usize) -> String {
    const CHARS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system's random source works, or nothing is safe");
    bytes.iter().take(len).map(|&byte| char::from(CHARS[usize::from(byte % 64)])).collect()
}

/// RFC 7675 §5.1: consent lasts 30 s. Two less, so that whatever is queued then is sent by 30.
pub const CONSENT: Duration = Duration::from_secs(28);
/// How long a session waits for a peer that never checks.
pub const FIRST_CHECK: Duration = Duration::from_secs(30);
/// Browsers use two or three paths at a time; a peer on the move leaves some behind.
pub const MAX_PATHS: usize = 8;
/// A peer that checks on another path, and for so long not on the selected one, has moved without a nomination:
/// its NAT gave it another address. Checks on a path in use come every 5 s, give or take a fifth (RFC 7675 §5.1).
const ABANDONED: Duration = Duration::from_secs(7);
/// … sooner where the path is newer than the last check on the selected one: browsers check that every 2.5 s.
const MOVED: Duration = Duration::from_secs(3);
/// Transactions remembered: five minutes of a check every 2.5 s. At 32 bytes each, 4 KiB per peer.
const MAX_TRANSACTIONS: usize = 128;
/// So long a repeated request counts like the first: should a stranger's copy overtake each of the peer's, the
/// peer's must still count.
const FRESH: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::at;
    use crate::wire::stun::tests::{Check, mapped_address, verified};

    const PWD: &str = "a password of some length";

    fn agent() -> IceLite {
        let mut ice = IceLite::new(Credentials { ufrag: "ours".into(), pwd: PWD.into() }, at(0));
        ice.set_remote("theirs");
        ice
    }

    fn path(n: u16) -> Path {
        Path::new("10.0.0.1".parse().unwrap(), format!("192.0.2.7:{n}").parse().unwrap())
    }

    fn check() -> Vec<u8> {
        Check { username: "ours:theirs", password: PWD, nominate: false, controlled: false }.encode()
    }

    fn nomination() -> Vec<u8> {
        Check { username: "ours:theirs", password: PWD, nominate: true, controlled: false }.encode()
    }

    #[test]
    fn the_first_path_serves_until_one_is_nominated() {
        let mut ice = agent();
        assert_eq!(ice.selected(), None);
        let first = ice.handle_request(at(0), path(1), &check()).unwrap();
        assert!(first.new_path && first.nominated);
        assert_eq!(mapped_address(&first.response, PWD), Some(path(1).remote));
        let second = ice.handle_request(at(1), path(2), &check()).unwrap();
        assert!(second.new_path && !second.nominated);
        assert_eq!(ice.selected(), Some(path(1)));
        let nominated = ice.handle_request(at(2), path(2), &nomination()).unwrap();
        assert!(!nominated.new_path && nominated.nominated);
        assert_eq!(ice.selected(), Some(path(2)));
        let again = ice.handle_request(at(3), path(2), &nomination()).unwrap();
        assert!(!again.nominated);
        // A plain check on the other path does not take the nomination back; a nomination does.
        ice.handle_request(at(4), path(1), &check()).unwrap();
        assert_eq!(ice.selected(), Some(path(2)));
        ice.handle_request(at(5), path(1), &nomination()).unwrap();
        assert_eq!(ice.selected(), Some(path(1)));
        assert!(ice.validated(&path(1)) && ice.validated(&path(2)) && !ice.validated(&path(3)));
    }

    /// T04 in `threats.md`: nobody without the password gets a byte, or leaves a trace.
    #[test]
    fn strangers_get_no_answer() {
        let mut ice = agent();
        let wrong =
            |username, password| Check { username, password, nominate: true, controlled: false }.encode();
        let mut unsigned = check();
        unsigned.truncate(20);
        unsigned[2..4].fill(0);
        for (datagram, reason) in [
            (wrong("ours:theirs", "a guess"), DropReason::UnknownPeer),
            (wrong("ours:other", PWD), DropReason::UnknownPeer),
            (wrong("other:theirs", PWD), DropReason::UnknownPeer),
            (wrong("ours", PWD), DropReason::UnknownPeer),
            (unsigned, DropReason::Malformed),
            (vec![], DropReason::Malformed),
        ] {
            assert_eq!(ice.handle_request(at(1), path(1), &datagram), Err(reason));
        }
        assert_eq!(ice.last_check(), None);
        assert_eq!(ice.selected(), None);
        assert!(!ice.validated(&path(1)));
    }

    #[test]
    fn an_answer_is_hardly_longer_than_its_request() {
        for remote in ["192.0.2.7:9", "[2001:db8::7]:9"] {
            let path = Path::new("::".parse().unwrap(), remote.parse().unwrap());
            let datagram = check();
            let checked = agent().handle_request(at(0), path, &datagram).unwrap();
            assert!(checked.response.len() * 2 <= datagram.len() * 3);
            // Even to the shortest request that could be authentic: no priority, role, fingerprint.
            assert!(checked.response.len() * 2 <= (20 + 4 + 16 + 24) * 3);
        }
    }

    #[test]
    fn a_controlled_peer_is_told_of_the_conflict() {
        let mut ice = agent();
        let controlled = |password| {
            Check { username: "ours:theirs", password, nominate: false, controlled: true }.encode()
        };
        let checked = ice.handle_request(at(0), path(1), &controlled(PWD)).unwrap();
        assert!(!checked.new_path && !checked.nominated);
        assert_eq!(verified(&checked.response, PWD).typ, rtc_stun::message::BINDING_ERROR);
        assert!(!ice.validated(&path(1)));
        let forged = ice.handle_request(at(0), path(1), &controlled("a guess"));
        assert_eq!(forged, Err(DropReason::UnknownPeer));
    }

    /// T05 in `threats.md`: consent is the peer's own doing, and ends within 30 s.
    #[test]
    fn silence_ends_consent() {
        let mut ice = agent();
        ice.handle_request(at(0), path(1), &nomination()).unwrap();
        ice.handle_request(at(10_000), path(2), &check()).unwrap();
        assert_eq!(ice.poll_timeout(), Some(at(28_000)));
        let forged =
            Check { username: "ours:theirs", password: "a guess", nominate: true, controlled: false };
        assert!(ice.handle_request(at(27_000), path(1), &forged.encode()).is_err());
        assert_eq!(ice.expire(at(27_999)), Expiry::default());
        let gone = Expiry { removed: vec![path(1)], consent_lost: false };
        assert_eq!(ice.expire(at(28_000)), gone);
        assert_eq!(ice.selected(), Some(path(2)));
        assert_eq!(ice.poll_timeout(), Some(at(38_000)));
        let lost = Expiry { removed: vec![path(2)], consent_lost: true };
        assert_eq!(ice.expire(at(38_000)), lost);
        assert_eq!((ice.selected(), ice.poll_timeout()), (None, None));
        assert_eq!(ice.expire(at(50_000)), Expiry::default());
    }

    /// Whoever sees a request can send it again: it moves nothing, and prolongs nothing.
    #[test]
    fn a_request_counts_once() {
        let mut ice = agent();
        let said = nomination();
        ice.handle_request(at(0), path(1), &said).unwrap();
        assert_eq!(ice.handle_request(at(10), path(2), &said), Err(DropReason::UnknownPeer));
        assert_eq!(ice.selected(), Some(path(1)));
        // A retransmission, whose answer was lost, is answered.
        let again = ice.handle_request(at(20_000), path(1), &said).unwrap();
        assert_eq!(mapped_address(&again.response, PWD), Some(path(1).remote));
        assert!(!again.new_path && !again.nominated);
        assert_eq!(ice.poll_timeout(), Some(at(28_000)), "and consent is as old as the first");
        // Overtaken by a copy from elsewhere, the peer's own still counts where it has been before.
        let raced = nomination();
        assert!(ice.handle_request(at(20_500), path(3), &raced).unwrap().nominated);
        assert!(ice.handle_request(at(20_501), path(1), &raced).unwrap().nominated);
        assert_eq!(ice.selected(), Some(path(1)));
        for n in 0..1_000 {
            ice.handle_request(at(21_000 + n), path(1), &check()).unwrap();
        }
        assert_eq!(ice.transactions.len(), MAX_TRANSACTIONS);
    }

    #[test]
    fn a_peer_that_never_checks_is_given_up() {
        let mut ice = agent();
        assert_eq!(ice.poll_timeout(), Some(at(30_000)));
        assert!(!ice.expire(at(29_999)).consent_lost);
        assert!(ice.expire(at(30_000)).consent_lost);
    }

    #[test]
    fn the_oldest_path_makes_room_but_not_the_one_in_use() {
        let mut ice = agent();
        for n in 0..MAX_PATHS as u16 {
            let checked = ice.handle_request(at(n.into()), path(n), &check()).unwrap();
            assert_eq!(checked.evicted, None);
        }
        let checked = ice.handle_request(at(100), path(100), &check()).unwrap();
        assert_eq!(checked.evicted, Some(path(1)));
        assert!(ice.validated(&path(0)) && !ice.validated(&path(1)));
        assert_eq!(ice.paths.len(), MAX_PATHS);
    }

    #[test]
    fn old_credentials_serve_until_the_new_ones_do() {
        let mut ice = agent();
        ice.handle_request(at(0), path(1), &nomination()).unwrap();
        ice.restart(Credentials { ufrag: "anew".into(), pwd: "another password".into() });
        ice.set_remote("they");
        ice.handle_request(at(1), path(1), &check()).unwrap();
        let fresh =
            Check { username: "anew:they", password: "another password", nominate: true, controlled: false };
        let checked = ice.handle_request(at(2), path(2), &fresh.encode()).unwrap();
        assert!(checked.new_path && checked.nominated);
        assert_eq!(mapped_address(&checked.response, "another password"), Some(path(2).remote));
        assert!(ice.validated(&path(1)));
        let old = ice.handle_request(at(3), path(1), &nomination());
        assert_eq!(old, Err(DropReason::UnknownPeer));
        assert_eq!(ice.expire(at(28_001)).removed, [path(1)]);
    }

    #[test]
    fn credentials_are_random_ice_chars() {
        let (one, two) = (Credentials::random(), Credentials::random());
        assert!(one.ufrag.len() >= 8 && one.pwd.len() >= 24);
        assert!(one.ufrag != two.ufrag && one.pwd != two.pwd);
        let ice_char = |c: char| c.is_ascii_alphanumeric() || c == '+' || c == '/';
        assert!(one.pwd.chars().chain(one.ufrag.chars()).all(ice_char));
        assert_eq!(format!("{one:?}"), "Credentials(…)");
    }
}

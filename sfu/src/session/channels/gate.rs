//! What one SCTP association may have under way.

use crate::drop::DropReason;
use crate::wire::sctp::{Chunk, Packet, Param};

/// Keeps an association within bounds that its library does not keep: how far ahead numbers run, how many pieces of
/// messages are held, how many streams there are, how many resets are open.
///
/// It reads our own packets on their way out, too: an acknowledgement says how much the library holds, and an answer to a reset
/// that this one is over.
#[derive(Default, Debug)]
pub struct Gate {
    /// What we have last acknowledged, and the newest number let in. `None` before the peer's INIT.
    numbers: Option<Numbers>,
    /// DATA chunks let in and not read since, at most.
    held: usize,
    /// Requests of the peer that are not answered for good, and ours.
    resets: Vec<u32>,
    own_resets: Vec<u32>,
    /// The newest number we have sent, the newest the peer has acknowledged, and how much it takes.
    sent: Option<u32>,
    acknowledged: Option<u32>,
    window: u32,
}

#[derive(Clone, Copy, Debug)]
struct Numbers {
    cumulative: u32,
    newest: u32,
}

impl Gate {
    /// The peer will count its chunks from `tsn` on.
    pub fn new(tsn: u32) -> Gate {
        let before = tsn.wrapping_sub(1);
        Gate { numbers: Some(Numbers { cumulative: before, newest: before }), ..Gate::default() }
    }

    /// Whether the library may see a packet of the peer's.
    ///
    /// # Errors
    /// What is wrong with it. It is not acknowledged then, so that what an honest peer has sent comes again.
    pub fn admit(&mut self, packet: Packet<'_>) -> Result<(), DropReason> {
        let Some(numbers) = self.numbers else { return Err(DropReason::Malformed) };
        for chunk in packet.chunks() {
            match chunk {
                Chunk::Data { tsn, stream } => {
                    if stream >= MAX_STREAMS {
                        return Err(DropReason::Malformed);
                    }
                    let ahead = is_after(tsn, numbers.cumulative);
                    let full = self.held >= MAX_HELD && is_after(tsn, numbers.newest);
                    if (ahead && tsn.wrapping_sub(numbers.cumulative) > WINDOW) || full {
                        return Err(DropReason::QueueFull);
                    }
                }
                Chunk::ForwardTsn { cumulative } => {
                    let ahead = is_after(cumulative, numbers.cumulative);
                    if ahead && cumulative.wrapping_sub(numbers.cumulative) > WINDOW {
                        return Err(DropReason::QueueFull);
                    }
                }
                Chunk::Reconfig(mut params) => {
                    let new = |param: &Param| match param {
                        Param::Reset { request } => !self.resets.contains(request),
                        _ => false,
                    };
                    if self.resets.len() >= MAX_RESETS && params.any(|param| new(&param)) {
                        return Err(DropReason::QueueFull);
                    }
                }
                Chunk::Init { .. } => return Err(DropReason::Malformed),
                Chunk::Sack { .. } | Chunk::Other(_) => {}
            }
        }
        self.note(packet);
        Ok(())
    }

    /// One of our packets is on its way.
    pub fn on_sent(&mut self, packet: Packet<'_>) {
        for chunk in packet.chunks() {
            match chunk {
                Chunk::Sack { cumulative, window } => {
                    if let Some(numbers) = &mut self.numbers {
                        numbers.cumulative = cumulative;
                    }
                    // No chunk is empty.
                    self.held = self.held.min(RECEIVE_BUFFER.saturating_sub(window) as usize);
                }
                Chunk::Data { tsn, .. } if self.sent.is_none_or(|sent| is_after(tsn, sent)) => {
                    self.sent = Some(tsn);
                }
                Chunk::Reconfig(params) => {
                    for param in params {
                        match param {
                            Param::Response { request, done: true } => self.resets.retain(|r| *r != request),
                            Param::Reset { request } if !self.own_resets.contains(&request) => {
                                self.own_resets.push(request);
                            }
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
    }

    /// A message of so many chunks has been read.
    pub fn on_read(&mut self, chunks: usize) {
        self.held = self.held.saturating_sub(chunks);
    }

    /// The peer leaves more of our resets unanswered than a client has channels.
    pub fn is_overgrown(&self) -> bool {
        self.own_resets.len() > MAX_OWN_RESETS
    }

    /// All that was sent has come, and the peer would take more.
    pub fn is_idle(&self) -> bool {
        self.sent == self.acknowledged && self.window >= IDLE_WINDOW
    }

    fn note(&mut self, packet: Packet<'_>) {
        for chunk in packet.chunks() {
            match chunk {
                Chunk::Data { tsn, .. } => {
                    self.held += 1;
                    if let Some(numbers) = &mut self.numbers
                        && is_after(tsn, numbers.newest)
                    {
                        numbers.newest = tsn;
                    }
                }
                Chunk::Sack { cumulative, window } => {
                    (self.acknowledged, self.window) = (Some(cumulative), window);
                }
                Chunk::Reconfig(params) => {
                    for param in params {
                        match param {
                            Param::Reset { request } if !self.resets.contains(&request) => {
                                self.resets.push(request);
                            }
                            Param::Response { request, .. } => self.own_resets.retain(|r| *r != request),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
    }
}

/// RFC 1982, in 32 bits.
fn is_after(tsn: u32, than: u32) -> bool {
    let ahead = tsn.wrapping_sub(than);
    ahead != 0 && ahead < 1 << 31
}

/// Stream ids a peer may use: two for each channel of the 64, since each side has every other one.
pub const MAX_STREAMS: u16 = 256;
/// What the library is told to take before messages are read: four of the largest.
pub const RECEIVE_BUFFER: u32 = 256 * 1024;

/// How far numbers may run ahead of what we have acknowledged. In chunks of a byte, 20 on the wire: 40 kB in flight.
const WINDOW: u32 = 2_048;
/// Chunks held. The receive buffer is 220 full ones.
const MAX_HELD: usize = 1_024;
/// Requests of the peer under way. RFC 6525 §5.1.1 allows one.
const MAX_RESETS: usize = 8;
/// The channels of one peer.
const MAX_OWN_RESETS: usize = 64;
/// Room for another packet.
const IDLE_WINDOW: u32 = 2_400;

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: [u8; 12] = [0x13, 0x88, 0x13, 0x88, 0, 0, 0, 7, 1, 2, 3, 4];

    fn data(tsn: u32, stream: u16) -> Vec<u8> {
        let mut packet = HEADER.to_vec();
        packet.extend([0, 3, 0, 17]);
        packet.extend(tsn.to_be_bytes());
        packet.extend(stream.to_be_bytes());
        packet.extend([0, 0, 0, 0, 0, 51, b'x', 0, 0, 0]);
        packet
    }

    fn sack(cumulative: u32, window: u32) -> Vec<u8> {
        let mut packet = HEADER.to_vec();
        packet.extend([3, 0, 0, 16]);
        packet.extend(cumulative.to_be_bytes());
        packet.extend(window.to_be_bytes());
        packet.extend([0; 4]);
        packet
    }

    fn forward(cumulative: u32) -> Vec<u8> {
        [&HEADER[..], &[192, 0, 0, 8], &cumulative.to_be_bytes()].concat()
    }

    fn reset(request: u32) -> Vec<u8> {
        let mut packet = HEADER.to_vec();
        packet.extend([130, 0, 0, 22, 0, 13, 0, 18]);
        packet.extend(request.to_be_bytes());
        packet.extend([0; 12]);
        packet
    }

    fn response(request: u32, result: u8) -> Vec<u8> {
        let mut packet = HEADER.to_vec();
        packet.extend([130, 0, 0, 16, 0, 16, 0, 12]);
        packet.extend(request.to_be_bytes());
        packet.extend([0, 0, 0, result]);
        packet
    }

    fn admit(gate: &mut Gate, packet: &[u8]) -> Result<(), DropReason> {
        gate.admit(Packet::parse(packet).expect("it is well formed"))
    }

    fn sent(gate: &mut Gate, packet: &[u8]) {
        gate.on_sent(Packet::parse(packet).expect("it is well formed"));
    }

    #[test]
    fn nothing_goes_before_the_peer_has_introduced_itself() {
        assert_eq!(admit(&mut Gate::default(), &data(1, 0)), Err(DropReason::Malformed));
    }

    #[test]
    fn numbers_run_ahead_so_far_and_no_further() {
        let first = u32::MAX - 5;
        let mut gate = Gate::new(first);
        let last = first.wrapping_add(WINDOW - 1);
        assert_eq!(admit(&mut gate, &data(last, 0)), Ok(()));
        assert_eq!(admit(&mut gate, &data(last.wrapping_add(1), 0)), Err(DropReason::QueueFull));
        assert_eq!(admit(&mut gate, &forward(last)), Ok(()));
        assert_eq!(admit(&mut gate, &forward(last.wrapping_add(1))), Err(DropReason::QueueFull));
        assert_eq!(admit(&mut gate, &forward(first.wrapping_sub(9))), Ok(()), "an old one does nothing");
        sent(&mut gate, &sack(first, RECEIVE_BUFFER));
        assert_eq!(admit(&mut gate, &data(last.wrapping_add(1), 0)), Ok(()));
    }

    #[test]
    fn streams_are_counted() {
        let mut gate = Gate::new(1);
        assert_eq!(admit(&mut gate, &data(1, MAX_STREAMS - 1)), Ok(()));
        assert_eq!(admit(&mut gate, &data(2, MAX_STREAMS)), Err(DropReason::Malformed));
    }

    #[test]
    fn who_holds_too_much_may_only_fill_gaps() {
        let mut gate = Gate::new(1);
        for tsn in 2..2 + MAX_HELD as u32 {
            assert_eq!(admit(&mut gate, &data(tsn, 0)), Ok(()));
        }
        assert_eq!(admit(&mut gate, &data(2 + MAX_HELD as u32, 0)), Err(DropReason::QueueFull));
        assert_eq!(admit(&mut gate, &data(1, 0)), Ok(()), "the missing one");
        gate.on_read(2);
        assert_eq!(admit(&mut gate, &data(2 + MAX_HELD as u32, 0)), Ok(()));
        sent(&mut gate, &sack(1, RECEIVE_BUFFER - 10));
        assert_eq!(gate.held, 10, "ten bytes are ten chunks at most");
    }

    #[test]
    fn resets_are_let_in_as_others_are_answered() {
        let mut gate = Gate::new(1);
        for request in 0..MAX_RESETS as u32 {
            assert_eq!(admit(&mut gate, &reset(request)), Ok(()));
        }
        assert_eq!(admit(&mut gate, &reset(3)), Ok(()), "again");
        assert_eq!(admit(&mut gate, &reset(100)), Err(DropReason::QueueFull));
        sent(&mut gate, &response(3, 6));
        assert_eq!(admit(&mut gate, &reset(100)), Err(DropReason::QueueFull), "it is in progress");
        sent(&mut gate, &response(3, 1));
        assert_eq!(admit(&mut gate, &reset(100)), Ok(()));
    }

    #[test]
    fn our_resets_are_not_left_unanswered_for_ever() {
        let mut gate = Gate::new(1);
        for request in 0..=MAX_OWN_RESETS as u32 {
            assert!(!gate.is_overgrown());
            sent(&mut gate, &reset(request));
            sent(&mut gate, &reset(request));
        }
        assert!(gate.is_overgrown());
        assert_eq!(admit(&mut gate, &response(7, 1)), Ok(()));
        assert!(!gate.is_overgrown());
    }
}

//! A peer's events on their way to the host: bounded, oldest dropped first, and says so.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::PeerEvent;

/// One peer's event queue, shared by the worker and the host's handles.
pub struct Events {
    state: Mutex<State>,
    arrived: Notify,
    limit: usize,
}

#[derive(Default)]
struct State {
    queue: VecDeque<PeerEvent>,
    lagged: u64,
    /// Of messages in the queue.
    bytes: usize,
    /// `Left` or `TakenOver` is in the queue or delivered: nothing follows.
    closed: bool,
}

impl Events {
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Events { state: Mutex::default(), arrived: Notify::new(), limit: limit.max(1) })
    }

    /// Never blocks: the worker has no time for a slow host.
    pub fn push(&self, event: PeerEvent) {
        let mut state = self.state.lock();
        if state.closed {
            return;
        }
        if state.bytes + bytes_of(&event) > MAX_BYTES {
            // Not the oldest: what a client says must not push out what happened to it.
            state.lagged += 1;
            drop(state);
            return self.arrived.notify_one();
        }
        if state.queue.len() >= self.limit
            && let Some(oldest) = state.queue.pop_front()
        {
            state.bytes -= bytes_of(&oldest);
            state.lagged += 1;
        }
        state.bytes += bytes_of(&event);
        state.closed = matches!(event, PeerEvent::Left(_) | PeerEvent::TakenOver);
        state.queue.push_back(event);
        drop(state);
        // One waiter takes the event; `notify_one` keeps a permit when nobody waits yet.
        self.arrived.notify_one();
    }

    /// Nothing will happen any more to the peer, as far as this handle is concerned.
    pub fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// The next event; `None` once the last has been delivered.
    pub async fn next(&self) -> Option<PeerEvent> {
        loop {
            let arrived = self.arrived.notified();
            {
                let mut state = self.state.lock();
                let lagged = std::mem::take(&mut state.lagged);
                if lagged > 0 {
                    return Some(PeerEvent::Lagged(lagged));
                }
                if let Some(event) = state.queue.pop_front() {
                    state.bytes -= bytes_of(&event);
                    return Some(event);
                }
                if state.closed {
                    // Wake the next clone of the handle that waits, so that all of them end.
                    self.arrived.notify_one();
                    return None;
                }
            }
            arrived.await;
        }
    }
}

fn bytes_of(event: &PeerEvent) -> usize {
    match event {
        PeerEvent::Message { channel, data, .. } => channel.len() + data.len(),
        _ => 0,
    }
}

/// Of clients' messages that wait for one slow host.
const MAX_BYTES: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LeaveReason;

    fn read_all(events: &Events) -> Vec<PeerEvent> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut all = Vec::new();
            while let Some(event) = events.next().await {
                all.push(event);
            }
            all
        })
    }

    #[test]
    fn a_slow_host_loses_the_oldest_and_is_told() {
        let events = Events::new(2);
        for _ in 0..3 {
            events.push(PeerEvent::Connected);
        }
        events.push(PeerEvent::Left(LeaveReason::Left));
        events.push(PeerEvent::Connected);
        let expected = [PeerEvent::Lagged(2), PeerEvent::Connected, PeerEvent::Left(LeaveReason::Left)];
        assert_eq!(read_all(&events), expected);
        assert_eq!(read_all(&events), [], "it stays ended");
    }

    #[test]
    fn what_clients_say_is_bounded_in_bytes_and_pushes_nothing_out() {
        let events = Events::new(100);
        events.push(PeerEvent::Connected);
        let message =
            || PeerEvent::Message { channel: String::new(), binary: true, data: vec![0; 64 * 1024].into() };
        for _ in 0..17 {
            events.push(message());
        }
        events.push(PeerEvent::Left(LeaveReason::Left));
        let read = read_all(&events);
        assert_eq!(read[..2], [PeerEvent::Lagged(1), PeerEvent::Connected]);
        assert_eq!(read.len(), 2 + 16 + 1);
    }
}

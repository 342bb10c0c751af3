//! The RTCP chain of a peer, for hosts that want to watch or extend it.
//!
//! All RTCP of a session, both ways, walks one chain. The crate's own counter is wire-most (position 500).
//! Implement [`sansio::Protocol`] and [`Interceptor`], then seat it with
//! [`PeerConfig::interceptor`](crate::PeerConfig::interceptor). These types are re-exported from
//! `rtc-interceptor` 0.21; a major step there is a major step here.
//!
//! One that watches what a peer's clients ask for, and passes everything on:
//!
//! ```
//! use std::collections::VecDeque;
//! use std::sync::Arc;
//! use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
//! use std::time::Instant;
//!
//! use sluicegate::PeerConfig;
//! use sluicegate::interceptors::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
//! use sluicegate::interceptors::sansio::Protocol;
//! use sluicegate::interceptors::{Interceptor, Packet, StreamInfo, TaggedPacket, shared};
//!
//! #[derive(Default)]
//! struct Watch {
//!     plis: Arc<AtomicU64>,
//!     read: VecDeque<TaggedPacket>,
//!     write: VecDeque<TaggedPacket>,
//! }
//!
//! impl Protocol<TaggedPacket, TaggedPacket, ()> for Watch {
//!     type Rout = TaggedPacket;
//!     type Wout = TaggedPacket;
//!     type Eout = ();
//!     type Error = shared::error::Error;
//!     type Time = Instant;
//!
//!     fn handle_read(&mut self, packet: TaggedPacket) -> Result<(), Self::Error> {
//!         if let Packet::Rtcp(packets) = &packet.message.packet {
//!             let plis = packets.iter().filter(|packet| packet.as_any().is::<PictureLossIndication>());
//!             self.plis.fetch_add(plis.count() as u64, Relaxed);
//!         }
//!         self.read.push_back(packet);
//!         Ok(())
//!     }
//!
//!     fn poll_read(&mut self) -> Option<TaggedPacket> {
//!         self.read.pop_front()
//!     }
//!
//!     fn handle_write(&mut self, packet: TaggedPacket) -> Result<(), Self::Error> {
//!         self.write.push_back(packet);
//!         Ok(())
//!     }
//!
//!     fn poll_write(&mut self) -> Option<TaggedPacket> {
//!         self.write.pop_front()
//!     }
//! }
//!
//! impl Interceptor for Watch {
//!     fn bind_local_stream(&mut self, _: &StreamInfo) {}
//!     fn unbind_local_stream(&mut self, _: &StreamInfo) {}
//!     fn bind_remote_stream(&mut self, _: &StreamInfo) {}
//!     fn unbind_remote_stream(&mut self, _: &StreamInfo) {}
//! }
//!
//! let watch = Watch::default();
//! let plis = watch.plis.clone(); // read it from wherever the host likes
//! let config = PeerConfig::new("ada").interceptor(2_000, Box::new(watch));
//! # assert_eq!(plis.load(Relaxed), 0);
//! # drop(config);
//! ```

pub use interceptor::{
    Attribute, AttributedPacket, BoxedInterceptor, Interceptor, Packet, StreamInfo, TaggedPacket,
};
pub use rtc_shared as shared;
pub use rtcp;
pub use sansio;

//! The RTCP chain of a peer, for hosts that want to watch or extend it.
//!
//! All RTCP of a session, both ways, walks one chain. The crate's own counter is wire-most (position 500).
//! Implement [`sansio::Protocol`] and [`Interceptor`], then seat it with
//! [`PeerConfig::interceptor`](crate::PeerConfig::interceptor). These types are re-exported from
//! `rtc-interceptor` 0.21; a major step there is a major step here.

pub use interceptor::{
    Attribute, AttributedPacket, BoxedInterceptor, Interceptor, Packet, StreamInfo, TaggedPacket,
};
pub use rtc_shared as shared;
pub use rtcp;
pub use sansio;

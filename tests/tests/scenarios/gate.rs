//! Hostile datagrams, while an honest room goes on. Judged by content: `knowledge/threats.md` §3.

mod association;
mod consent;
mod datagram;
mod description;
mod fault;
mod feedback;
mod handshake;
mod mallory;
mod media;
mod nack;
mod payload;
mod room;
mod slow;
mod voice;
mod wrap;

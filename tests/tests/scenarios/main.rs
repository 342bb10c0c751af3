//! Stories in virtual time: one production engine, real clients, and the network between them.

mod call;
mod caps;
mod feedback;
mod handshake;
mod negotiation;

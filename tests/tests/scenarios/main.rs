//! Stories in virtual time: one production engine, real clients, and the network between them.

mod call;
mod caps;
mod churn;
mod feedback;
mod gate;
mod handshake;
mod layers;
mod mobility;
mod negotiation;
mod repair;
mod slow;

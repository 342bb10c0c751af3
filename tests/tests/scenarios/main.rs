//! Stories in virtual time: one production engine, real clients, and the network between them.

mod call;
mod caps;
mod channels;
mod churn;
mod cores;
mod crowd;
mod feedback;
mod gate;
mod handshake;
mod hold;
mod lateness;
mod layers;
mod ledger;
mod lossy;
mod measures;
mod mobility;
mod negotiation;
mod outage;
mod quality;
mod repair;
mod slow;
mod speakers;

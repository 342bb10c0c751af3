//! Stories in virtual time: one production engine, real clients, and the network between them.

mod call;

//! What operators rely on: the demo counts its own doors, and whatever `contrib/` and the runbooks ask Prometheus for is in a
//! real scrape of it.

mod alerts;
mod exposition;
mod expression;
mod lint;
mod mutation;
mod running;
mod scrape;

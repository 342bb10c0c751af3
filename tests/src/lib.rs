//! The simulated world, and the real one: sockets, stock browsers, and the examples as programs.

pub mod bombs;
pub mod browser;
pub mod dashboard;
pub mod demo;
pub mod example;
pub mod line;
pub mod relay;
pub mod repository;
pub mod scrape;
pub mod world;

//! The simulated world, and the real one: stock browsers against the demo.

pub mod browser;
pub mod demo;
pub mod example;
pub mod scrape;

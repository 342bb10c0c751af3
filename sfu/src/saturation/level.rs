//! How much is given up.

use crate::counters::labels;

labels! {
    /// How much a worker, or the node, gives up because it is short of something. Each level does what those
    /// before it do.
    #[derive(Default, PartialOrd, Ord)]
    pub enum SaturationLevel {
        /// Nothing.
        #[default]
        Normal = "0",
        /// No new rooms.
        Guard = "1",
        /// Publishers are capped, and the largest layers are not forwarded.
        Cap = "2",
        /// The fastest temporal layers are not forwarded; no new publishers.
        Temporal = "3",
        /// Subscribers get fewer videos; no new peers.
        LastN = "4",
        /// Nothing but audio is forwarded.
        AudioOnly = "5",
    }
}

impl SaturationLevel {
    /// From 0, nothing, to 5, audio only.
    pub const fn as_number(self) -> u8 {
        self as u8
    }

    /// The level of this number; the highest for more than 5.
    pub(crate) fn from_number(number: u8) -> SaturationLevel {
        Self::ALL.get(usize::from(number)).copied().unwrap_or(SaturationLevel::AudioOnly)
    }
}

#[test]
fn levels_are_numbered_as_they_are_ordered() {
    for level in SaturationLevel::ALL {
        assert_eq!(SaturationLevel::from_number(level.as_number()), level);
        assert_eq!(level.as_str(), level.as_number().to_string());
    }
    assert_eq!(SaturationLevel::from_number(9), SaturationLevel::AudioOnly);
    assert!(SaturationLevel::Guard < SaturationLevel::Cap);
}

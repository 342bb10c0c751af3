//! What a host mounts beside `sfu_*`, and under no prefix.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::exposition::encode_family;
use super::snapshot::MetricFamily;

/// Nothing, unless feature `signaling-metrics` puts something here.
#[derive(Clone, Default, Debug)]
pub struct Beside {
    #[cfg(any(test, feature = "signaling-metrics"))]
    pub signaling: Option<super::signaling::SignalingMetrics>,
    #[cfg(any(test, feature = "signaling-metrics"))]
    pub process: bool,
}

impl Beside {
    /// Every value now.
    #[cfg(any(test, feature = "signaling-metrics"))]
    pub fn families(&self) -> Vec<MetricFamily> {
        let mut families = Vec::new();
        families.extend(self.signaling.iter().flat_map(|signaling| signaling.families()));
        if self.process {
            families.extend(super::process::families());
        }
        families
    }

    /// Every value now: none.
    #[cfg(not(any(test, feature = "signaling-metrics")))]
    pub fn families(&self) -> Vec<MetricFamily> {
        Vec::new()
    }

    /// Each thing once: ours, or theirs where we have none.
    #[cfg(any(test, feature = "signaling-metrics"))]
    pub fn or(self, other: Beside) -> Beside {
        let Beside { signaling, process } = other;
        Beside { signaling: self.signaling.or(signaling), process: self.process || process }
    }

    /// Each thing once: there is none.
    #[cfg(not(any(test, feature = "signaling-metrics")))]
    pub fn or(self, _other: Beside) -> Beside {
        self
    }
}

impl Collector for Beside {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.families().iter().try_for_each(|family| encode_family("", &[family], &mut encoder))
    }
}

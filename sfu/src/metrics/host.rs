//! What the kernel says about the process and the machine, as the sampler last read it.

use crate::counters::Pressure;

/// `None`: this kernel, or this container, does not say. Times are in nanoseconds.
#[derive(Clone, Debug, Default)]
pub struct HostReadings {
    /// Of the CPU time that the process may have, in percent.
    pub cpu_percent: Option<f64>,
    /// The process was held back by its CPU quota for so long.
    pub throttled: Option<u64>,
    /// CPUs that the process may use.
    pub cpu_limit: Option<f64>,
    /// Somebody on the machine waited for a resource for so long.
    pub waiting: [Option<u64>; Pressure::ALL.len()],
    /// Datagrams that the kernel dropped because our sockets' buffers were full.
    pub rx_overflows: Option<u64>,
    /// Each worker was runnable and waited for a CPU for so long.
    pub run_delay: Vec<Option<u64>>,
}

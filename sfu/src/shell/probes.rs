//! What the kernel tells about this thread.

use std::time::Duration;

/// Binds the calling thread to one CPU. Best effort: a container may forbid it.
pub fn pin(cpu: Option<usize>) {
    #[cfg(target_os = "linux")]
    if let Some(cpu) = cpu {
        let mut set = rustix::thread::CpuSet::new();
        set.set(cpu);
        if let Err(error) = rustix::thread::sched_setaffinity(None, &set) {
            tracing::debug!(cpu, %error, "a media thread stays unpinned");
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = cpu;
}

/// The CPUs this process may run on, in order.
pub fn allowed_cpus() -> Vec<usize> {
    #[cfg(target_os = "linux")]
    if let Ok(set) = rustix::thread::sched_getaffinity(None) {
        return (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect();
    }
    Vec::new()
}

/// CPU time the calling thread has used.
pub fn thread_cpu() -> Duration {
    #[cfg(target_os = "linux")]
    {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
    }
    #[cfg(not(target_os = "linux"))]
    Duration::ZERO
}

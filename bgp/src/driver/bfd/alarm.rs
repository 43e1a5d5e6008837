//! The thread's alarm clock. The runtime's own timers tick once a millisecond, which is too coarse for intervals of 50 ms.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use nix::sys::time::TimeSpec;
use nix::sys::timer::{Expiration, TimerSetTimeFlags};
use nix::sys::timerfd::{ClockId, TimerFd, TimerFlags};
use tokio::io::unix::AsyncFd;

use super::super::sockets;

#[derive(Debug)]
struct Clock(TimerFd);

impl AsRawFd for Clock {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl From<Clock> for OwnedFd {
    fn from(clock: Clock) -> Self {
        clock.0.into()
    }
}

/// Goes off once at the time it was set for.
#[derive(Debug)]
pub(super) struct Alarm {
    clock: AsyncFd<Clock>,
    set_for: Option<Instant>,
}

impl Alarm {
    /// Not set. To be called within a runtime.
    pub(super) fn new() -> io::Result<Self> {
        let clock = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        Ok(Self { clock: sockets::watched(Clock(clock))?, set_for: None })
    }

    /// Sets it for another time. If that has passed, it goes off at once.
    pub(super) fn set(&mut self, at: Option<Instant>) {
        let Some(at) = at.filter(|at| self.set_for != Some(*at)) else { return };
        let left = at.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
        let once = Expiration::OneShot(TimeSpec::from_duration(left));
        // The kernel refuses no time of this kind; were it to, the next packet that comes in gets things going again.
        self.set_for = self.clock.get_ref().0.set(once, TimerSetTimeFlags::empty()).is_ok().then_some(at);
    }

    /// Ready when it has gone off. An alarm nobody waits for any more may be one of them.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Poll::Ready(guard) = self.clock.poll_read_ready(context) else { return Poll::Pending };
        if let Ok(mut guard) = guard {
            // Setting it again, or its going off anew, makes a new readiness.
            guard.clear_ready();
        }
        self.set_for = None;
        Poll::Ready(())
    }
}

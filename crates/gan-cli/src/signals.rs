//! Ctrl-C and its kin: the first one asks to save and leave, the second one leaves at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// What signals have asked for.
pub(crate) struct Signals {
    /// 128 and the signal's number, or 0.
    code: Arc<AtomicUsize>,
}

impl Signals {
    /// Begins to listen.
    pub(crate) fn listen() -> io::Result<Self> {
        let (asked, code) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let hangup = if cfg!(unix) { Some(1) } else { None };
        for signal in [SIGINT, SIGTERM].into_iter().chain(hangup).filter(|&signal| !is_ignored(signal)) {
            // In this order: the first signal must not see the mark that it leaves.
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&asked))?;
            flag::register(signal, Arc::clone(&asked))?;
            flag::register_usize(signal, Arc::clone(&code), 128 + signal.unsigned_abs() as usize)?;
        }
        Ok(Self { code })
    }

    /// The exit code of a run that a signal has asked to end.
    pub(crate) fn asked(&self) -> Option<u8> {
        u8::try_from(self.code.load(Ordering::SeqCst)).ok().filter(|&code| code > 0)
    }
}

/// Whether this program was started so that it should not heed a signal, as `nohup` does, where the system tells.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal - 1) & 1 == 1
}

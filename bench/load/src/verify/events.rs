//! What the outside tells a running check: "crash" on standard input, SIGINT and SIGTERM.

use signal_hook::consts::{SIGINT, SIGTERM};
use std::io::BufRead;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The flags that the outside sets.
#[derive(Clone, Debug, Default)]
pub struct Events {
    crash: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
}

impl Events {
    /// Begins to listen: to signals, and to standard input where `stdin`.
    pub fn listen(stdin: bool) -> Self {
        let events = Self::default();
        for signal in [SIGINT, SIGTERM] {
            // Where it cannot be caught the signal ends the program, as it does anyway.
            let _ = signal_hook::flag::register(signal, Arc::clone(&events.stop));
        }
        if stdin {
            let crash = Arc::clone(&events.crash);
            // Not joined: it waits for input until the program ends.
            let _ = std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
                for line in std::io::stdin().lock().lines() {
                    let Ok(line) = line else { break };
                    if line.trim() == "crash" {
                        crash.store(true, Ordering::Release);
                    }
                }
            });
        }
        events
    }

    /// Whether "crash" came since the last call.
    pub fn take_crash(&self) -> bool {
        self.crash.swap(false, Ordering::AcqRel)
    }

    /// Whether the run is to end now.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

//! Ctrl-C and SIGTERM: the demonstration leaves as little behind as at its end, first its arrays, then their folder.

use kagami_admin::Refusal;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long arrays that were asked to end may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// The processes that are to end when we are interrupted.
#[derive(Clone, Debug, Default)]
pub struct Children(Arc<Mutex<Vec<Pid>>>);

impl Children {
    /// From here on a signal ends all of them, takes the folder away where there is one, and ends us.
    ///
    /// # Errors
    /// The signals cannot be taken.
    pub fn catch(folder: Option<PathBuf>) -> Result<Self, Refusal> {
        let wrong = |error: std::io::Error| Refusal::failed(format!("signals cannot be taken: {error}"));
        let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(wrong)?;
        let children = Self::default();
        let all = children.clone();
        let leave = move || {
            let Some(signal) = signals.forever().next() else { return };
            // Held to the end: nothing new begins, and nobody else ends the process.
            let processes = all.hold();
            end(&processes);
            if let Some(folder) = folder {
                // What stays is in the folder for temporary things.
                let _ = std::fs::remove_dir_all(folder);
            }
            std::process::exit(128 + signal);
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(leave).map_err(wrong)?;
        Ok(children)
    }

    /// Begins one that is to end with us.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn(&self, command: &mut Command) -> std::io::Result<Child> {
        let mut processes = self.hold();
        let child = command.spawn()?;
        processes.extend(i32::try_from(child.id()).ok().and_then(Pid::from_raw));
        Ok(child)
    }

    /// While this is held a signal waits; where one is being seen to, this waits until the process is gone.
    pub fn hold(&self) -> MutexGuard<'_, Vec<Pid>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks processes to end, and waits; those that do not are killed.
fn end(processes: &[Pid]) {
    for process in processes {
        let _ = kill_process(*process, Signal::TERM);
    }
    let late = Instant::now() + PATIENCE;
    for process in processes {
        // One that somebody else has waited for is gone, too.
        while matches!(waitpid(Some(*process), WaitOptions::NOHANG), Ok(None)) {
            if Instant::now() >= late {
                let _ = kill_process(*process, Signal::KILL);
                let _ = waitpid(Some(*process), WaitOptions::empty());
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

//! Signals, and what they ask of the serving side.
//!
//! SIGTERM and SIGINT: drain and stop; a second one: stop at once. SIGHUP: read the
//! configuration again and apply it, all or nothing. Signals are taken by a thread of their
//! own, never in a handler; what they ask goes to the management thread as a [`Control`].

use crate::config::Source;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

/// What the serving side is asked to do.
#[derive(Debug)]
pub enum Control {
    /// Finish hosts' I/O, make data stable, end.
    Stop,
    /// End now; hosts' I/O is cut off.
    StopNow,
    /// Apply a changed configuration, all of it or nothing, and say which.
    Reload {
        /// The file as it is now.
        source: Box<Source>,
        /// Where the answer goes; an error is a reason in plain words.
        answer: SyncSender<Result<(), String>>,
    },
}

/// Takes the signals from here on.
///
/// `reload` reads the configuration; it runs on the signals' thread. What went wrong with it is
/// written to standard error, and nothing changes.
///
/// # Errors
/// The signals cannot be taken.
pub fn signals(
    mut reload: impl FnMut() -> Result<Source, String> + Send + 'static,
    mut reloaded: impl FnMut(&Result<(), String>) + Send + 'static,
) -> io::Result<Receiver<Control>> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let (sender, receiver) = channel();
    let run = move || {
        let mut stopping = false;
        for signal in &mut signals {
            let sent = match signal {
                SIGHUP if stopping => Ok(()),
                SIGHUP => {
                    let result = reload().and_then(|source| ask(&sender, source));
                    reloaded(&result);
                    Ok(())
                }
                _ if stopping => sender.send(Control::StopNow),
                _ => {
                    stopping = true;
                    sender.send(Control::Stop)
                }
            };
            if sent.is_err() {
                // Nobody serves any more: the process is ending.
                return;
            }
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(run)?;
    Ok(receiver)
}

fn ask(sender: &Sender<Control>, source: Source) -> Result<(), String> {
    let (answer, result) = sync_channel(1);
    let gone = || "the array is stopping".to_owned();
    sender.send(Control::Reload { source: Box::new(source), answer }).map_err(|_| gone())?;
    result.recv().map_err(|_| gone())?
}

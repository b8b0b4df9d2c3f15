//! State of logical units on its way to the tables: the reactors never wait for a disk.

use kagami_channel::{Control, Inbox, Keep, Keeper};
use kagami_types::{CoreId, Uuid};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

/// One request to the management thread.
pub struct Request {
    /// Whose state.
    pub volume: Uuid,
    /// The state, in place of what was kept before.
    pub state: Vec<u8>,
    done: Box<dyn FnOnce(bool) + Send>,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request").field("volume", &self.volume).finish_non_exhaustive()
    }
}

impl Request {
    /// Tells the core whether the state is durable.
    pub fn finish(self, ok: bool) {
        (self.done)(ok);
    }
}

/// Hands requests to the management thread, which has the tables.
#[derive(Clone, Debug)]
pub struct StateKeeper {
    requests: SyncSender<Request>,
}

impl StateKeeper {
    /// Requests go to the other end of that channel.
    #[must_use]
    pub fn new(requests: SyncSender<Request>) -> Self {
        Self { requests }
    }

    pub(super) fn for_core(&self, inbox: Arc<Inbox>) -> Box<dyn Keeper> {
        Box::new(ForCore { requests: self.requests.clone(), inbox })
    }
}

/// The keeper of one core.
#[derive(Debug)]
struct ForCore {
    requests: SyncSender<Request>,
    inbox: Arc<Inbox>,
}

impl Keeper for ForCore {
    fn keep(&mut self, _core: CoreId, keep: Keep) {
        let Keep { volume, state, ticket } = keep;
        let inbox = Arc::clone(&self.inbox);
        let done = move |ok| answer(&inbox, Control::Kept { ticket, ok });
        if self.requests.try_send(Request { volume, state, done: Box::new(done) }).is_err() {
            // Too many at once, or the tables are closed: the command fails, and the host sees it.
            // This is the core's own thread, so its box is not waited for.
            let _ = self.inbox.put(Control::Kept { ticket, ok: false });
        }
    }
}

/// A core that does not empty its box for so long is not there any more.
fn answer(inbox: &Inbox, control: Control) {
    let mut control = control;
    for _ in 0..1000 {
        match inbox.put(control) {
            Ok(()) => return,
            Err(back) => control = back,
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

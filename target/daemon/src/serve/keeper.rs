//! What cores ask of the management thread: state that must be durable, and orders of command
//! devices. The reactors never wait for it.

use kagami_channel::{Control, GroupEvent, Inbox, Keep, Keeper, Order};
use kagami_types::{CoreId, Uuid};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

/// One request to the management thread.
#[derive(Debug)]
pub enum Request {
    /// State that must be durable.
    State(StateRequest),
    /// A command device was told to do something.
    Order(OrderRequest),
    /// Something happened to a group.
    Group(GroupEvent),
}

/// A unit's state that must be durable.
pub struct StateRequest {
    /// Whose state.
    pub volume: Uuid,
    /// The state, in place of what was kept before.
    pub state: Vec<u8>,
    done: Box<dyn FnOnce(bool) + Send>,
}

impl std::fmt::Debug for StateRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StateRequest").field("volume", &self.volume).finish_non_exhaustive()
    }
}

impl StateRequest {
    /// Tells the core whether the state is durable.
    pub fn finish(self, ok: bool) {
        (self.done)(ok);
    }
}

/// Something that a command device has.
#[derive(Debug)]
pub struct OrderRequest {
    /// What.
    pub order: Order,
    /// Where results go.
    pub answers: Answers,
}

/// Where results of a command device's orders go.
#[derive(Clone, Debug)]
pub struct Answers {
    inbox: Arc<Inbox>,
    unit: u32,
}

impl Answers {
    /// Tells the command device what came of an order, or how far it is.
    pub fn put(&self, slot: u32, turn: u64, result: Vec<u8>, done: bool) {
        answer(&self.inbox, Control::Ordered { unit: self.unit, slot, turn, result, done });
    }
}

/// Hands requests to the management thread, which has the tables.
#[derive(Clone, Debug)]
pub struct StateKeeper {
    requests: SyncSender<Request>,
    array: Uuid,
}

impl StateKeeper {
    /// Requests go to the other end of that channel; the array has that UUID.
    #[must_use]
    pub fn new(requests: SyncSender<Request>, array: Uuid) -> Self {
        Self { requests, array }
    }

    /// The array's UUID.
    pub(super) fn array(&self) -> Uuid {
        self.array
    }

    pub(super) fn for_core(&self, inbox: Arc<Inbox>) -> Box<dyn Keeper> {
        Box::new(ForCore { requests: self.requests.clone(), array: self.array, inbox })
    }
}

/// The keeper of one core.
#[derive(Debug)]
struct ForCore {
    requests: SyncSender<Request>,
    array: Uuid,
    inbox: Arc<Inbox>,
}

impl Keeper for ForCore {
    fn keep(&mut self, _core: CoreId, keep: Keep) {
        let Keep { volume, state, ticket } = keep;
        let inbox = Arc::clone(&self.inbox);
        let done = move |ok| answer(&inbox, Control::Kept { ticket, ok });
        let request = Request::State(StateRequest { volume, state, done: Box::new(done) });
        if self.requests.try_send(request).is_err() {
            // Too many at once, or the tables are closed: the command fails, and the host sees it.
            // This is the core's own thread, so its box is not waited for.
            let _ = self.inbox.put(Control::Kept { ticket, ok: false });
        }
    }

    fn group_event(&mut self, _core: CoreId, event: GroupEvent) {
        // Too many at once are left out: the state itself says how things are.
        let _ = self.requests.try_send(Request::Group(event));
    }

    fn order(&mut self, _core: CoreId, order: Order) {
        use kagami_orders::slots::Event;
        let answers = Answers { inbox: Arc::clone(&self.inbox), unit: order.unit };
        let place = match &order.event {
            Event::Execute(given) => {
                Some((given.slot, given.turn, kagami_orders::request::id_of(&given.record)))
            }
            Event::Malformed { .. } => None,
        };
        let unit = order.unit;
        if self.requests.try_send(Request::Order(OrderRequest { order, answers })).is_err()
            && let Some((slot, turn, id)) = place
        {
            let result = crate::manage::busy(id.unwrap_or_default(), self.array);
            let _ = self.inbox.put(Control::Ordered { unit, slot, turn, result, done: true });
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

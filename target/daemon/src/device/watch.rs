//! An eye on the block devices of the volumes that are served: one that is removed, comes back, grows, or says
//! something else of its queue.
//!
//! A thread of its own looks when the kernel reports an event of a block device, and every second besides, as it may
//! not be heard (containers). It opens a device that is back, since that may take time; what follows for the volume is
//! done by the management thread, which takes the [`DeviceEvent`]s. Files are not watched: they go when their file
//! system does, and that cannot go while they are open.

use super::open::{self, OpenDevice};
use super::sysfs::SysBlock;
use super::{DeviceFacts, DeviceKind, Misuse};
use crate::plan::VolumePlan;
use kagami_tables::VolumeRecord;
use kagami_types::{ByteLen, Uuid};
use kagami_volume::DeviceLimits;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, netlink};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TryRecvError, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// How often the devices are looked at without an event.
const PERIOD: Duration = Duration::from_secs(1);
/// How soon the thread hears what it is told.
const NAP: Duration = Duration::from_millis(200);
/// Events that may wait for the management thread.
const WAITING: usize = 64;
/// Messages of the kernel's read at once.
const MOST_HEARD: usize = 256;

/// What has become of a volume's device.
#[derive(Debug)]
pub enum DeviceEvent {
    /// It was removed. Comes again every second until [`Watch::closed`].
    Gone {
        /// Whose.
        volume: Uuid,
        /// For the first time.
        first: bool,
    },
    /// It is there again and was opened. Answered by [`Watch::back`].
    Back {
        /// Whose.
        volume: Uuid,
        /// The same device as before, by its identity.
        device: Box<OpenDevice>,
        /// What operations have to keep to.
        limits: DeviceLimits,
    },
    /// It has grown, or has other limits.
    Changed {
        /// Whose.
        volume: Uuid,
        /// How large a volume on it is now, which has no size of its own; `None` where it has.
        size: Option<ByteLen>,
        /// What operations have to keep to now.
        limits: DeviceLimits,
    },
    /// Something is wrong with it, in plain words.
    Trouble {
        /// Whose.
        volume: Uuid,
        /// What.
        what: String,
    },
}

/// Watches the devices of the volumes that it was told of.
#[derive(Debug)]
pub struct Watch {
    orders: Sender<Order>,
    events: Receiver<DeviceEvent>,
}

/// What the watching thread is told.
#[derive(Debug)]
enum Order {
    Add(Box<Watched>),
    Remove(Uuid),
    Closed(Uuid),
    Back(Uuid, bool),
}

/// One device.
#[derive(Debug)]
pub(super) struct Watched {
    volume: Uuid,
    plan: VolumePlan,
    record: VolumeRecord,
    major: u32,
    minor: u32,
    state: State,
    /// The last trouble that was told.
    told: String,
}

#[derive(Debug)]
enum State {
    /// It serves. Its size and limits, as they were told last, and a descriptor to ask by.
    There { size: ByteLen, limits: DeviceLimits, file: File },
    /// It was removed; whether the core has closed it, and the management thread knows.
    Gone { told: bool, closed: bool },
    /// It was opened again, and the management thread has not said yet whether that went well.
    Opened { size: ByteLen, limits: DeviceLimits, file: File, major: u32, minor: u32 },
}

impl Watch {
    /// Starts watching; nothing yet.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start() -> io::Result<Self> {
        let (orders, received) = channel();
        let (sender, events) = sync_channel(WAITING);
        let run = move || watch(&received, &sender);
        thread::Builder::new().name("devices".to_owned()).spawn(run)?;
        Ok(Self { orders, events })
    }

    /// Watches a volume's device too. Volumes that are on no block device are passed over.
    pub fn add(&self, plan: &VolumePlan, record: &VolumeRecord, device: &OpenDevice) {
        let DeviceKind::Block { major, minor } = device.facts.kind else { return };
        // Without another descriptor nobody would notice its end either.
        let Ok(file) = device.file.try_clone() else { return };
        let limits = device.facts.limits(plan.device_depth);
        self.order(Order::Add(Box::new(Watched {
            volume: record.uuid,
            plan: plan.clone(),
            record: record.clone(),
            major,
            minor,
            state: State::There { size: device.facts.size, limits, file },
            told: String::new(),
        })));
    }

    /// Stops watching a volume's device, and holding it open.
    pub fn remove(&self, volume: Uuid) {
        self.order(Order::Remove(volume));
    }

    /// The next event, if there is one.
    pub fn next(&self) -> Option<DeviceEvent> {
        self.events.try_recv().ok()
    }

    /// The core has closed a device that is gone: it is waited for from now on.
    pub fn closed(&self, volume: Uuid) {
        self.order(Order::Closed(volume));
    }

    /// Whether the volume goes on with a device that is back. If not, it is tried again.
    pub fn back(&self, volume: Uuid, goes_on: bool) {
        self.order(Order::Back(volume, goes_on));
    }

    fn order(&self, order: Order) {
        // Without the thread nothing is watched any more; everything else goes on.
        let _ = self.orders.send(order);
    }
}

/// The thread: until nobody takes its events any more.
fn watch(orders: &Receiver<Order>, events: &SyncSender<DeviceEvent>) {
    let uevents = uevents().ok();
    let mut devices: Vec<Watched> = Vec::new();
    let mut next = Instant::now();
    loop {
        loop {
            match orders.try_recv() {
                Ok(order) => obey(&mut devices, order),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return,
            }
        }
        let heard = rest(uevents.as_ref());
        if !heard && Instant::now() < next {
            continue;
        }
        next = Instant::now() + PERIOD;
        for watched in &mut devices {
            let Some(event) = watched.look(Path::new("/sys")) else { continue };
            watched.note(&event);
            // It waits here while the management thread is busy.
            if events.send(event).is_err() {
                return;
            }
        }
    }
}

fn obey(devices: &mut Vec<Watched>, order: Order) {
    let volume = match order {
        Order::Add(watched) => return devices.push(*watched),
        Order::Remove(volume) => return devices.retain(|watched| watched.volume != volume),
        Order::Closed(volume) | Order::Back(volume, _) => volume,
    };
    let Some(watched) = devices.iter_mut().find(|watched| watched.volume == volume) else { return };
    let gone = State::Gone { told: true, closed: true };
    match (order, &watched.state) {
        (Order::Closed(_), State::Gone { .. }) => watched.state = gone,
        (Order::Back(_, goes_on), State::Opened { .. }) => {
            let state = std::mem::replace(&mut watched.state, gone);
            if let (true, State::Opened { size, limits, file, major, minor }) = (goes_on, state) {
                (watched.major, watched.minor) = (major, minor);
                watched.state = State::There { size, limits, file };
                watched.told.clear();
            }
        }
        _ => {}
    }
}

/// Waits a little, or until the kernel reports something of a block device: then true.
fn rest(uevents: Option<&OwnedFd>) -> bool {
    let Some(socket) = uevents else {
        thread::sleep(NAP);
        return false;
    };
    let nap = Timespec { tv_sec: 0, tv_nsec: i64::from(NAP.subsec_nanos()) };
    let mut wait = [PollFd::new(socket, PollFlags::IN)];
    if !rustix::event::poll(&mut wait, Some(&nap)).is_ok_and(|ready| ready > 0) {
        return false;
    }
    let mut heard = false;
    let mut message = [0u8; 8192];
    // A socket that has lost messages says so by an error, and then something has happened, too.
    for _ in 0..MOST_HEARD {
        match rustix::net::recv(socket, &mut message[..], RecvFlags::DONTWAIT) {
            Ok((len, _)) => heard |= is_of_block(message.get(..len).unwrap_or_default()),
            Err(Errno::NOBUFS) => heard = true,
            Err(_) => break,
        }
    }
    heard
}

/// Whether the kernel's message is about a block device: lines of `NAME=value`, each ended by a zero byte.
fn is_of_block(message: &[u8]) -> bool {
    message.split(|&byte| byte == 0).any(|line| line == b"SUBSYSTEM=block")
}

/// A socket on which the kernel reports devices that come and go.
fn uevents() -> rustix::io::Result<OwnedFd> {
    let protocol = Some(netlink::KOBJECT_UEVENT);
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, protocol)?;
    // Group 1: the kernel's own words.
    rustix::net::bind(&socket, &netlink::SocketAddrNetlink::new(0, 1))?;
    Ok(socket)
}

impl Watched {
    /// What has happened to it since the last look.
    pub(super) fn look(&mut self, root: &Path) -> Option<DeviceEvent> {
        let volume = self.volume;
        match &self.state {
            State::There { size, limits, file } => {
                let present = SysBlock::at(root, self.major, self.minor).and_then(|sys| sys.size());
                match present {
                    // A dead controller's namespaces have no size any more.
                    None | Some(0) => Some(DeviceEvent::Gone { volume, first: true }),
                    Some(_) => match open::measure(&self.plan, file) {
                        Ok((facts, _)) if facts.size == *size && self.limits(&facts) == *limits => None,
                        Ok((facts, _)) if facts.size < *size => {
                            self.trouble(&Misuse::TooSmall { wanted: *size, actual: facts.size })
                        }
                        Ok((facts, fits)) => {
                            let limits = self.limits(&facts);
                            let size = self.plan.size.is_none().then_some(fits);
                            Some(DeviceEvent::Changed { volume, size, limits })
                        }
                        Err(reason) => self.trouble(&reason),
                    },
                }
            }
            State::Gone { told, closed: false } => Some(DeviceEvent::Gone { volume, first: !told }),
            State::Gone { closed: true, .. } => match open::reopen(&self.plan) {
                Ok(device) => match crate::bind::same_device(&self.record, &device) {
                    Ok(_) => {
                        let limits = self.limits(&device.facts);
                        Some(DeviceEvent::Back { volume, device: Box::new(device), limits })
                    }
                    Err((recorded, found)) => self.trouble(&Misuse::NotTheSame { recorded, found }),
                },
                Err(Misuse::Missing) => None,
                Err(reason) => self.trouble(&reason),
            },
            State::Opened { .. } => None,
        }
    }

    /// What it is once the event is under way.
    pub(super) fn note(&mut self, event: &DeviceEvent) {
        let next = match event {
            DeviceEvent::Gone { .. } => Some(State::Gone { told: true, closed: false }),
            DeviceEvent::Back { device, .. } => self.opened(device),
            DeviceEvent::Changed { limits, .. } => match &self.state {
                State::There { file, .. } => file.try_clone().ok().and_then(|file| {
                    let size = open::measure(&self.plan, &file).ok()?.0.size;
                    Some(State::There { size, limits: *limits, file })
                }),
                _ => None,
            },
            DeviceEvent::Trouble { .. } => None,
        };
        if let Some(next) = next {
            self.state = next;
        }
    }

    fn opened(&self, device: &OpenDevice) -> Option<State> {
        let DeviceKind::Block { major, minor } = device.facts.kind else { return None };
        let file = device.file.try_clone().ok()?;
        Some(State::Opened {
            size: device.facts.size,
            limits: self.limits(&device.facts),
            file,
            major,
            minor,
        })
    }

    fn limits(&self, facts: &DeviceFacts) -> DeviceLimits {
        facts.limits(self.plan.device_depth)
    }

    /// Trouble is told once, until it is another.
    fn trouble(&mut self, reason: &Misuse) -> Option<DeviceEvent> {
        let what = reason.to_string();
        if self.told == what {
            return None;
        }
        self.told.clone_from(&what);
        Some(DeviceEvent::Trouble { volume: self.volume, what })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use kagami_tables::{BackendKind, VolumeRole};
    use kagami_types::Naa;

    /// A device as it is watched, with that number.
    pub(in super::super) fn watched(
        plan: &VolumePlan,
        device: &OpenDevice,
        (major, minor): (u32, u32),
    ) -> Watched {
        let uuid = Uuid::from_u128(9);
        let record = VolumeRecord {
            uuid,
            naa: Naa::from_uuid(uuid),
            name: plan.name.clone(),
            lun: plan.lun,
            backend: BackendKind::Path,
            path: "".into(),
            size: device.size,
            block_size: plan.block_size,
            role: VolumeRole::Plain,
            device: device.facts.identity.clone(),
        };
        let limits = device.facts.limits(plan.device_depth);
        let file = device.file.try_clone().unwrap();
        let state = State::There { size: device.facts.size, limits, file };
        Watched { volume: uuid, plan: plan.clone(), record, major, minor, state, told: String::new() }
    }

    pub(in super::super) fn closed(watched: Watched) -> Watched {
        let mut devices = vec![watched];
        obey(&mut devices, Order::Closed(Uuid::from_u128(9)));
        devices.remove(0)
    }

    #[test]
    fn only_block_devices_are_listened_for() {
        assert!(is_of_block(b"remove@/devices/x\0ACTION=remove\0SUBSYSTEM=block\0"));
        assert!(!is_of_block(b"add@/devices/y\0ACTION=add\0SUBSYSTEM=net\0"));
        assert!(!is_of_block(b""));
    }
}

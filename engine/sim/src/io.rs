//! The machine as one core of the array sees it: [`SimIo`], the simulator's side of the I/O
//! traits.

use crate::coverage::Happening;
use crate::disk::{DiskId, Stay, disk_of};
use crate::net::{ConnId, Owner, Side};
use crate::ops::{InFlight, OpKey};
use crate::world::World;
use kagami_reactor::{Completion, Errno, FileId, Io, Op, SocketId, Submit, Token, Wait};
use kagami_types::Time;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a core's number stands for.
#[derive(Clone, Copy, Debug)]
enum Socket {
    Listener(usize),
    Conn(ConnId, Side),
}

/// A connected socket on its way from one core to another. Dropping it closes the connection.
#[derive(Debug)]
pub struct SimStream {
    conn: ConnId,
    /// The world holds the other, weak end, and sees when this one is gone.
    _alive: Arc<()>,
}

/// Makes a sleeping core run, from any other.
#[derive(Clone, Debug, Default)]
pub struct SimWaker(pub(crate) Arc<AtomicBool>);

impl SimWaker {
    /// Makes the core's sleep end.
    pub fn wake(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// One core's view of the simulated machine.
#[derive(Debug)]
pub struct SimIo {
    world: World,
    core: usize,
    now: Time,
    sockets: Vec<Option<Socket>>,
    /// What is open, and since when the disk was there then.
    files: Vec<Option<(DiskId, Stay)>>,
    staged: Vec<(Token, Op)>,
    waker: SimWaker,
}

impl SimIo {
    pub(crate) fn new(world: World, core: usize, waker: SimWaker) -> Self {
        let now = world.now();
        Self { world, core, now, sockets: Vec::new(), files: Vec::new(), staged: Vec::new(), waker }
    }

    pub(crate) fn core(&self) -> usize {
        self.core
    }

    /// The world that this is a view of.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.world
    }

    /// What other cores wake this one with.
    #[must_use]
    pub fn waker(&self) -> SimWaker {
        self.waker.clone()
    }

    /// Listens at an address, together with the other cores that do.
    ///
    /// # Errors
    /// No room in the table of sockets.
    pub fn listen(&mut self, address: SocketAddr) -> Result<SocketId, Errno> {
        let place = self.world.with(|state| state.net.listen(address));
        self.insert(Socket::Listener(place))
    }

    /// Opens a disk.
    ///
    /// # Errors
    /// There is no such disk.
    pub fn open(&mut self, disk: DiskId) -> Result<FileId, Errno> {
        let stay = self.world.with(|state| state.disks.get(usize::from(disk.0))?.stay());
        self.files.push(Some((disk, stay.ok_or(Errno::NO_DEVICE)?)));
        Ok(FileId(u32::try_from(self.files.len() - 1).unwrap_or(u32::MAX)))
    }

    fn insert(&mut self, socket: Socket) -> Result<SocketId, Errno> {
        let limit = self.world.with(|state| state.options.core.sockets);
        let free = self.sockets.iter().position(Option::is_none);
        let place = match free {
            Some(place) => place,
            None if self.sockets.len() < limit => {
                self.sockets.push(None);
                self.sockets.len() - 1
            }
            None => return Err(Errno::NO_FILES),
        };
        if let Some(entry) = self.sockets.get_mut(place) {
            *entry = Some(socket);
        }
        Ok(SocketId(u32::try_from(place).unwrap_or(u32::MAX)))
    }

    fn socket(&self, id: SocketId) -> Option<Socket> {
        self.sockets.get(id.0 as usize).copied().flatten()
    }

    fn conn(&self, id: SocketId) -> Option<(ConnId, Side)> {
        match self.socket(id)? {
            Socket::Conn(conn, side) => Some((conn, side)),
            Socket::Listener(_) => None,
        }
    }

    /// The address of this end of a connection, or of the other one.
    fn address(&self, socket: SocketId, own: bool) -> Option<SocketAddr> {
        let (conn, side) = self.conn(socket)?;
        let side = if own { side } else { side.other() };
        self.world.with(|state| state.net.conn(conn).map(|conn| conn.address(side)))
    }

    fn start(&mut self, token: Token, op: Op) {
        enum Start {
            Accept(usize),
            Receive(ConnId, Side),
            Send(ConnId, Side),
            Disk(usize),
            Pulled,
            Wrong,
        }
        let disk = |file: &FileId| {
            let Some((disk, opened)) = self.files.get(file.0 as usize).copied().flatten() else {
                return Start::Wrong;
            };
            let stay = self.world.with(|state| state.disks.get(usize::from(disk.0))?.stay());
            if stay == Some(opened) { Start::Disk(usize::from(disk.0)) } else { Start::Pulled }
        };
        let start = match &op {
            Op::Accept(socket) => match self.socket(*socket) {
                Some(Socket::Listener(place)) => Start::Accept(place),
                _ => Start::Wrong,
            },
            Op::Receive(socket, _) => {
                self.conn(*socket).map_or(Start::Wrong, |(conn, side)| Start::Receive(conn, side))
            }
            Op::Send(socket, _) => {
                self.conn(*socket).map_or(Start::Wrong, |(conn, side)| Start::Send(conn, side))
            }
            Op::Read(file, ..)
            | Op::Write { file, .. }
            | Op::Flush(file)
            | Op::Discard(file, ..)
            | Op::Zero(file, ..) => disk(file),
        };
        let core = self.core;
        self.world.with(|state| {
            let key: OpKey = state.ops.put(InFlight { core, token, op, job: None });
            match start {
                Start::Accept(place) => state.accept(place, key),
                Start::Receive(conn, side) => state.start_receive(conn, side, key),
                Start::Send(conn, side) => state.start_send(conn, side, key),
                Start::Disk(at) => state.start_disk(at, key),
                Start::Pulled => state.complete_soon(key, Err(Errno::NO_DEVICE)),
                // `EBADF`.
                Start::Wrong => state.complete_soon(key, Err(Errno(9))),
            }
        });
    }
}

/// What an operation of a disk is on.
fn file_of(op: &Op) -> Option<FileId> {
    match op {
        Op::Read(file, ..)
        | Op::Write { file, .. }
        | Op::Flush(file)
        | Op::Discard(file, ..)
        | Op::Zero(file, ..) => Some(*file),
        Op::Accept(_) | Op::Receive(..) | Op::Send(..) => None,
    }
}

impl Submit for SimIo {
    fn submit(&mut self, token: Token, op: Op) -> Result<(), Op> {
        let core = self.core;
        let accepted = self.world.with(|state| {
            let limit = state.options.core.operations;
            let Some(core) = state.cores.get_mut(core) else { return false };
            let room = core.in_flight < limit;
            if room {
                core.in_flight += 1;
            } else {
                state.coverage.hit(Happening::RingFull);
            }
            room
        });
        if !accepted {
            return Err(op);
        }
        self.staged.push((token, op));
        Ok(())
    }

    fn now(&self) -> Time {
        self.now
    }
}

impl Io for SimIo {
    type Stream = SimStream;

    /// Does not wait: the runner calls it only when the time has come.
    fn poll(&mut self, _wait: Wait, done: &mut Vec<Completion>) {
        self.now = self.world.now();
        self.waker.0.store(false, Ordering::Relaxed);
        for (token, op) in std::mem::take(&mut self.staged) {
            self.start(token, op);
        }
        let core = self.core;
        self.world.with(|state| {
            state.reap_streams();
            if let Some(core) = state.cores.get_mut(core) {
                core.in_flight = core.in_flight.saturating_sub(core.completed.len());
                done.append(&mut core.completed);
            }
        });
    }

    fn attach(&mut self, stream: SimStream) -> Result<SocketId, Errno> {
        let id = self.insert(Socket::Conn(stream.conn, Side::Server))?;
        self.world.with(|state| {
            if let Some(conn) = state.net.conn(stream.conn) {
                conn.end(Side::Server).owner = Owner::Core;
            }
        });
        Ok(id)
    }

    fn accepted(&mut self, accepted: u32) -> Option<SimStream> {
        let (id, core) = (ConnId(accepted), self.core);
        self.world.with(|state| {
            let end = state.net.conn(id)?.end(Side::Server);
            if !matches!(end.owner, Owner::Accepted(by) if by == core) {
                return None;
            }
            let alive = Arc::new(());
            end.owner = Owner::Travelling(Arc::downgrade(&alive));
            Some(SimStream { conn: id, _alive: alive })
        })
    }

    fn connect(&mut self, to: SocketAddr) -> Result<SocketId, Errno> {
        let from = SocketAddr::from(([127, 0, 2, u8::try_from(self.core).unwrap_or(u8::MAX)], 1));
        let conn = self.world.with(|state| state.connect(Owner::Core, from, to));
        let id = self.insert(Socket::Conn(conn, Side::Client));
        if id.is_err() {
            self.world.with(|state| state.close(conn, Side::Client));
        }
        id
    }

    fn add_device(&mut self, device: OwnedFd, _polled: bool) -> Result<FileId, Errno> {
        self.open(disk_of(device).ok_or(Errno::INVALID)?)
    }

    fn remove_device(&mut self, device: FileId) {
        let core = self.core;
        let staged = self.staged.iter().any(|(_, op)| file_of(op) == Some(device));
        self.world.with(|state| {
            if staged || state.ops.any(|op| op.core == core && file_of(&op.op) == Some(device)) {
                state.accuse(format!("core {core} closes a device that has operations under way"));
            }
        });
        if let Some(entry) = self.files.get_mut(device.0 as usize) {
            *entry = None;
        }
    }

    fn peer(&self, socket: SocketId) -> Option<SocketAddr> {
        self.address(socket, false)
    }

    fn local(&self, socket: SocketId) -> Option<SocketAddr> {
        self.address(socket, true)
    }

    fn shutdown(&mut self, socket: SocketId) {
        if let Some((conn, side)) = self.conn(socket) {
            self.world.with(|state| state.close(conn, side));
        }
    }

    fn release(&mut self, socket: SocketId) {
        if let Some((conn, side)) = self.conn(socket) {
            self.world.with(|state| state.close(conn, side));
        }
        if let Some(entry) = self.sockets.get_mut(socket.0 as usize) {
            *entry = None;
        }
    }

    fn detach(&mut self, socket: SocketId) -> Option<SimStream> {
        let (conn, _) = self.conn(socket).filter(|(_, side)| *side == Side::Server)?;
        let alive = Arc::new(());
        self.world.with(|state| {
            if let Some(conn) = state.net.conn(conn) {
                conn.end(Side::Server).owner = Owner::Travelling(Arc::downgrade(&alive));
            }
        });
        if let Some(entry) = self.sockets.get_mut(socket.0 as usize) {
            *entry = None;
        }
        Some(SimStream { conn, _alive: alive })
    }
}

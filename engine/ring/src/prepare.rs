//! From typed operations to submission queue entries.

use crate::slot::Slot;
use crate::{Ring, polled};
use io_uring::{opcode, squeue, types};
use kagami_memory::{Scatter, ScatterMut};
use kagami_reactor::{FileId, Op, ReceiveBuffer, SendBuffer};
use rustix::fd::AsRawFd;

/// Most parts in one vectored call (`UIO_MAXIOV`).
const IOV_MAX: usize = 1024;

impl Ring {
    /// Builds the entry of the operation in that slot, and says whether it goes to the polled
    /// ring. The entry points into the slot and to the pages that its operation owns.
    pub(crate) fn prepare(&mut self, index: u32) -> (squeue::Entry, bool) {
        let Slot { op, iovecs, message } = self.slots.get_mut(index);
        iovecs.clear();
        let Some((_, op)) = op else { return (opcode::Nop::new().build(), false) };
        let (main, polled, table) = (&self.main, self.polled.as_ref(), &self.table);
        let by_descriptor = !self.features.registered_devices;
        // How a device is called: by its place in the ring's table, or by its descriptor.
        let name = |file: FileId, polled: bool| match table.fd(file.0).filter(|_| by_descriptor && !polled) {
            Some(fd) => (types::Fd(fd.as_raw_fd()), squeue::Flags::empty()),
            None => (types::Fd(file.0.cast_signed()), squeue::Flags::FIXED_FILE),
        };
        // Each ring has registered the arena for itself, or could not.
        let choose = |file: FileId, offset: u64, iovecs: &[libc::iovec]| match polled
            .filter(|_| table.is_polled(file.0) && polled::stays_whole(offset, iovecs))
        {
            Some(queue) => (queue, true),
            None => (main, false),
        };
        let entry = match op {
            Op::Read(file, offset, data) => {
                let region = read_vectors(data, iovecs);
                let (queue, polled) = choose(*file, *offset, iovecs);
                let region = region.filter(|_| queue.takes_fixed(iovecs.len()));
                self.counts.fixed += u64::from(region.is_some());
                let (fd, flags) = name(*file, polled);
                return (read(fd, *offset, iovecs, region).flags(flags), polled);
            }
            Op::Write { file, offset, data, stable } => {
                let region = write_vectors(data, iovecs);
                let (queue, polled) = choose(*file, *offset, iovecs);
                let region = region.filter(|_| queue.takes_fixed(iovecs.len()));
                self.counts.fixed += u64::from(region.is_some());
                let (fd, flags) = name(*file, polled);
                return (write(fd, *offset, iovecs, region, *stable).flags(flags), polled);
            }
            Op::Accept(socket) => {
                opcode::Accept::new(types::Fixed(socket.0), std::ptr::null_mut(), std::ptr::null_mut())
                    .flags(libc::SOCK_CLOEXEC)
                    .build()
            }
            Op::Receive(socket, buffer) => {
                receive_vectors(buffer, iovecs);
                let fd = types::Fixed(socket.0);
                match iovecs.as_slice() {
                    [one] => opcode::Recv::new(fd, one.iov_base.cast(), length(one.iov_len)).build(),
                    _ => opcode::RecvMsg::new(fd, point(message, iovecs)).build(),
                }
            }
            Op::Send(socket, buffer) => {
                send_vectors(buffer, iovecs);
                let fd = types::Fixed(socket.0);
                let flags = libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
                match iovecs.as_slice() {
                    [one] => opcode::Send::new(fd, one.iov_base.cast_const().cast(), length(one.iov_len))
                        .flags(flags)
                        .build(),
                    _ => {
                        opcode::SendMsg::new(fd, point(message, iovecs)).flags(flags.cast_unsigned()).build()
                    }
                }
            }
            Op::Flush(file) => {
                let (fd, flags) = name(*file, false);
                opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build().flags(flags)
            }
            Op::Discard(file, offset, len) => {
                let (fd, flags) = name(*file, false);
                let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
                opcode::Fallocate::new(fd, *len).offset(*offset).mode(mode).build().flags(flags)
            }
            Op::Zero(file, offset, len) => {
                let (fd, flags) = name(*file, false);
                let mode = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;
                opcode::Fallocate::new(fd, *len).offset(*offset).mode(mode).build().flags(flags)
            }
        };
        (entry, false)
    }
}

/// `region`: the registered region that holds all of the memory, where one does and the ring can use it.
fn read(fd: types::Fd, offset: u64, memory: &[libc::iovec], region: Option<u16>) -> squeue::Entry {
    match (memory, region) {
        ([one], Some(region)) => opcode::ReadFixed::new(fd, one.iov_base.cast(), length(one.iov_len), region)
            .offset(offset)
            .build(),
        (many, Some(region)) => {
            opcode::ReadvFixed::new(fd, many.as_ptr(), length(many.len()), region).offset(offset).build()
        }
        (many, None) => opcode::Readv::new(fd, many.as_ptr(), length(many.len())).offset(offset).build(),
    }
}

/// As [`read`]; `stable`: written through to the medium.
fn write(
    fd: types::Fd,
    offset: u64,
    memory: &[libc::iovec],
    region: Option<u16>,
    stable: bool,
) -> squeue::Entry {
    let flags = if stable { libc::RWF_DSYNC } else { 0 };
    match (memory, region) {
        ([one], Some(region)) => {
            let from = one.iov_base.cast_const().cast();
            opcode::WriteFixed::new(fd, from, length(one.iov_len), region)
                .offset(offset)
                .rw_flags(flags)
                .build()
        }
        (many, Some(region)) => opcode::WritevFixed::new(fd, many.as_ptr(), length(many.len()), region)
            .offset(offset)
            .rw_flags(flags)
            .build(),
        (many, None) => {
            opcode::Writev::new(fd, many.as_ptr(), length(many.len())).offset(offset).rw_flags(flags).build()
        }
    }
}

/// A length for the kernel. Lists are bounded far below, by their pages.
fn length(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

fn point(message: &mut libc::msghdr, iovecs: &mut [libc::iovec]) -> *mut libc::msghdr {
    message.msg_iov = iovecs.as_mut_ptr();
    message.msg_iovlen = iovecs.len();
    message
}

/// Adds a piece of memory, joined to the last one where it follows it.
fn add(iovecs: &mut Vec<libc::iovec>, ptr: *mut u8, len: usize) {
    if len == 0 {
        return;
    }
    let last = iovecs.last_mut().filter(|last| last.iov_base.cast::<u8>().wrapping_add(last.iov_len) == ptr);
    if let Some(last) = last {
        last.iov_len += len;
        return;
    }
    iovecs.push(libc::iovec { iov_base: ptr.cast(), iov_len: len });
}

fn receive_vectors(buffer: &mut ReceiveBuffer, iovecs: &mut Vec<libc::iovec>) {
    let missing = buffer.limit.saturating_sub(buffer.filled);
    for piece in buffer.direct.range_mut(buffer.filled, missing) {
        if iovecs.len() < IOV_MAX - 1 {
            add(iovecs, piece.as_mut_ptr(), piece.len());
        }
    }
    let end = buffer.end.min(buffer.window.len());
    let window = &mut buffer.window[buffer.start.min(end)..end];
    // Where the pages did not all fit in one call, what follows them must wait.
    if iovecs.len() < IOV_MAX - 1 {
        iovecs.push(libc::iovec { iov_base: window.as_mut_ptr().cast(), iov_len: window.len() });
    }
}

fn send_vectors(buffer: &SendBuffer, iovecs: &mut Vec<libc::iovec>) {
    for bytes in buffer.remaining() {
        if iovecs.len() == IOV_MAX {
            return;
        }
        add(iovecs, bytes.as_ptr().cast_mut(), bytes.len());
    }
}

/// The vectors of a read, and the registered region that holds them all, where one does.
fn read_vectors(data: &mut ScatterMut, iovecs: &mut Vec<libc::iovec>) -> Option<u16> {
    let mut region = Region::None;
    for part in data.parts_mut() {
        region = region.with(part.page().region());
        let bytes = part.bytes_mut();
        add(iovecs, bytes.as_mut_ptr(), bytes.len());
    }
    region.single()
}

fn write_vectors(data: &Scatter, iovecs: &mut Vec<libc::iovec>) -> Option<u16> {
    let mut region = Region::None;
    for part in data.parts() {
        region = region.with(part.page().region());
        add(iovecs, part.bytes().as_ptr().cast_mut(), part.bytes().len());
    }
    region.single()
}

/// Which registered regions a list touches.
#[derive(Clone, Copy)]
enum Region {
    None,
    One(u16),
    Many,
}

impl Region {
    fn with(self, region: u16) -> Self {
        match self {
            Self::None => Self::One(region),
            Self::One(same) if same == region => self,
            _ => Self::Many,
        }
    }

    fn single(self) -> Option<u16> {
        match self {
            Self::One(region) => Some(region),
            _ => None,
        }
    }
}

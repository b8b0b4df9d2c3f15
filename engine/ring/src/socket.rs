//! Sockets outside a ring: listening ones, and connected ones between two cores.

use rustix::fd::{AsFd, OwnedFd};
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};
use std::io;
use std::net::SocketAddr;

/// A connected socket that belongs to no ring.
#[derive(Debug)]
pub struct Stream(pub(crate) OwnedFd);

/// What accepted sockets are set to.
#[derive(Clone, Debug, Default)]
pub struct SocketOptions {
    /// The congestion control, where the system's default is not wanted. bbr, the default on
    /// many systems, throttles large transfers over short links.
    pub congestion: Option<String>,
}

impl SocketOptions {
    /// Small PDUs leave at once; the congestion control is as configured. A failure leaves the
    /// system's setting, which is slower, never wrong.
    pub(crate) fn apply(&self, socket: impl AsFd) {
        let _ = sockopt::set_tcp_nodelay(&socket, true);
        if let Some(name) = &self.congestion {
            let _ = sockopt::set_tcp_congestion(&socket, name);
        }
    }
}

/// A TCP socket that connects; operations on it wait for that in the kernel.
pub(crate) fn connect(to: SocketAddr, options: &SocketOptions) -> Result<OwnedFd, rustix::io::Errno> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = net::socket_with(family, SocketType::STREAM, flags, None)?;
    options.apply(&fd);
    match net::connect(&fd, &to) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
        Err(error) => return Err(error),
    }
    // io_uring would answer EAGAIN to what it should wait for.
    rustix::io::ioctl_fionbio(&fd, false)?;
    Ok(fd)
}

/// A listening TCP socket.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    address: SocketAddr,
}

impl Listener {
    /// Connections that wait to be accepted; enough for a thousand hosts that return at once.
    const BACKLOG: i32 = 1024;

    /// Binds and listens. Port 0 lets the kernel choose; see [`address`](Self::address).
    ///
    /// # Errors
    /// The address is in use, is not one of this machine's, or may not be bound.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let fd = net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        sockopt::set_socket_reuseaddr(&fd, true)?;
        if address.is_ipv6() {
            sockopt::set_ipv6_v6only(&fd, true)?;
        }
        net::bind(&fd, &address)?;
        net::listen(&fd, Self::BACKLOG)?;
        let address = SocketAddr::try_from(net::getsockname(&fd)?)?;
        Ok(Self { fd, address })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl From<Listener> for OwnedFd {
    fn from(listener: Listener) -> Self {
        listener.fd
    }
}

//! Waiting for sockets with epoll, for `--poll sleep`.

use crate::error::Error;
use rustix::event::{Timespec, epoll};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// A set of sockets.
#[derive(Debug)]
pub struct Waiter {
    epoll: OwnedFd,
    /// For each socket, whether it is being watched for room to send.
    output: Vec<bool>,
}

fn failed(error: rustix::io::Errno) -> Error {
    Error::Failed(format!("epoll failed: {error}"))
}

impl Waiter {
    /// Watches `streams` for input.
    ///
    /// # Errors
    /// The kernel has no room for it.
    pub fn new<'a>(streams: impl Iterator<Item = &'a TcpStream>) -> Result<Self, Error> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(failed)?;
        let mut output = Vec::new();
        for stream in streams {
            let data = epoll::EventData::new_u64(output.len() as u64);
            epoll::add(&epoll, stream, data, epoll::EventFlags::IN).map_err(failed)?;
            output.push(false);
        }
        Ok(Self { epoll, output })
    }

    /// Sleeps until a socket has input, or room where its flag says that there is output, or the
    /// time is over. The sockets are those of [`new`](Self::new), in the same order.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn wait<'a>(
        &mut self,
        sockets: impl Iterator<Item = (&'a TcpStream, bool)>,
        longest: Duration,
    ) -> Result<(), Error> {
        for (index, ((stream, wanted), watched)) in sockets.zip(&mut self.output).enumerate() {
            if *watched != wanted {
                let flags = if wanted { epoll::EventFlags::OUT } else { epoll::EventFlags::empty() };
                let data = epoll::EventData::new_u64(index as u64);
                epoll::modify(&self.epoll, stream, data, epoll::EventFlags::IN | flags).map_err(failed)?;
                *watched = wanted;
            }
        }
        let timeout = Timespec {
            tv_sec: i64::try_from(longest.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(longest.subsec_nanos()),
        };
        let mut events = [const { std::mem::MaybeUninit::uninit() }; 64];
        match epoll::wait(&self.epoll, &mut events[..], Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }
}

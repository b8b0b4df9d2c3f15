//! `kagami-bench relay`: a long line between two arrays on one machine.
//!
//! Takes connections on one address and carries their bytes to another, later and no faster than asked for, since these
//! machines' kernels have no netem. One thread, one poll loop. Orders come on standard input, one a line, each
//! answered with the number of connections there were: `cut` resets them all, `down` does that and refuses new ones, `up`
//! takes them again, `hang` goes on without passing a byte, `pass` goes on. `stats` says how many bytes each way
//! went through instead. It ends with its standard input.

mod line;

use crate::cli::RelayArgs;
use crate::cpu::now_ns;
use crate::error::Error;
use line::{Line, Width};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{BufRead as _, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// Bytes that are read at once.
const CHUNK: usize = 256 << 10;

/// Room of a line beside what is on its way anyway.
const BUFFER: u64 = 4 << 20;

/// Bytes a second that a line without a limit is given room for.
const WIDE: u64 = 4 << 30;

/// Connections at a time.
const MOST: usize = 256;

/// How long a new connection may take.
const CONNECT: Duration = Duration::from_secs(2);

/// How often standard input is looked at.
const LOOK: u64 = 2_000_000;

/// Runs until standard input ends.
///
/// # Errors
/// The address cannot be listened on.
pub fn run(args: &RelayArgs) -> Result<(), Error> {
    let listener = TcpListener::bind(args.listen)
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .map_err(|error| Error::Failed(format!("cannot listen on {}: {error}", args.listen)))?;
    let (say, orders) = channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if say.send(line).is_err() {
                break;
            }
        }
    });
    println!("ready");
    let mut relay = Relay::new(listener, args);
    while relay.order(&orders) {
        relay.round().map_err(|error| Error::Failed(format!("poll: {error}")))?;
    }
    Ok(())
}

#[derive(Debug)]
struct Relay {
    listener: TcpListener,
    target: SocketAddr,
    delay: u64,
    room: usize,
    /// To the target, and back.
    widths: [Width; 2],
    passed: [u64; 2],
    pairs: Vec<Pair>,
    is_down: bool,
    hangs: bool,
}

/// A connection: both sockets, and the line from each to the other.
#[derive(Debug)]
struct Pair {
    ends: [TcpStream; 2],
    lines: [Line; 2],
    /// The end of a line was passed on.
    told: [bool; 2],
}

impl Relay {
    fn new(listener: TcpListener, args: &RelayArgs) -> Self {
        let delay = u64::try_from(args.delay.as_nanos()).unwrap_or(u64::MAX);
        let width = if args.bandwidth == 0 { WIDE } else { args.bandwidth };
        let in_flight = u128::from(width) * u128::from(delay) / 1_000_000_000;
        let room = usize::try_from(in_flight + u128::from(BUFFER)).unwrap_or(usize::MAX);
        Self {
            listener,
            target: args.target,
            delay,
            room,
            widths: [Width::new(args.bandwidth), Width::new(args.bandwidth)],
            passed: [0; 2],
            pairs: Vec::new(),
            is_down: false,
            hangs: false,
        }
    }

    /// Takes one order. Whether to go on.
    fn order(&mut self, orders: &Receiver<String>) -> bool {
        use std::sync::mpsc::TryRecvError::{Disconnected, Empty};
        let order = match orders.try_recv() {
            Ok(order) => order,
            Err(Empty) => return true,
            Err(Disconnected) => return false,
        };
        let count = self.pairs.len();
        match order.trim() {
            "cut" => self.cut(),
            "down" => {
                self.cut();
                self.is_down = true;
            }
            "up" => self.is_down = false,
            "hang" => self.hangs = true,
            "pass" => self.hangs = false,
            "stats" => {
                println!("{} {}", self.passed[0], self.passed[1]);
                return true;
            }
            other => {
                println!("unknown order '{other}': cut, down, up, hang, pass or stats");
                return true;
            }
        }
        println!("{count}");
        true
    }

    fn cut(&mut self) {
        for pair in self.pairs.drain(..) {
            pair.ends.iter().for_each(reset);
        }
    }

    /// Waits for something to do, and does it.
    fn round(&mut self) -> rustix::io::Result<()> {
        let now = now_ns();
        let mut fds = vec![PollFd::new(&self.listener, PollFlags::IN)];
        let mut wake = now + LOOK;
        for pair in &self.pairs {
            for side in 0..2 {
                let mut wanted = PollFlags::empty();
                if !self.hangs {
                    if pair.lines[side].room() > 0 {
                        wanted |= PollFlags::IN;
                    }
                    let other = &pair.lines[1 - side];
                    match other.due() {
                        Some(due) if due <= now => wanted |= PollFlags::OUT,
                        Some(due) => wake = wake.min(due),
                        None => {}
                    }
                }
                fds.push(PollFd::from_borrowed_fd(pair.ends[side].as_fd(), wanted));
            }
        }
        let nanos = wake.saturating_sub(now);
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::try_from(nanos.min(999_999_999)).unwrap_or(0) };
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        let knocks = !fds[0].revents().is_empty();
        drop(fds);
        if !self.hangs {
            self.carry();
        }
        if knocks {
            self.accept();
        }
        Ok(())
    }

    fn accept(&mut self) {
        while let Ok((here, _)) = self.listener.accept() {
            if self.is_down || self.pairs.len() >= MOST {
                reset(&here);
                continue;
            }
            let Ok(there) = TcpStream::connect_timeout(&self.target, CONNECT) else {
                reset(&here);
                continue;
            };
            let ends = [here, there];
            let is_set = ends.iter().all(|end| {
                let cubic = rustix::net::sockopt::set_tcp_congestion(end, "cubic");
                cubic.is_ok() && end.set_nodelay(true).is_ok() && end.set_nonblocking(true).is_ok()
            });
            if is_set {
                let line = || Line::new(self.delay, self.room);
                self.pairs.push(Pair { ends, lines: [line(), line()], told: [false; 2] });
            }
        }
    }

    /// Reads what there is room for, and writes what has arrived.
    fn carry(&mut self) {
        let (widths, passed) = (&mut self.widths, &mut self.passed);
        self.pairs.retain_mut(|pair| {
            let now = now_ns();
            let fine = (0..2).all(|side| pair.read(side, &mut widths[side], now))
                && (0..2).all(|side| pair.write(side, now, &mut passed[side]));
            if !fine {
                pair.ends.iter().for_each(reset);
            }
            fine && pair.told != [true; 2]
        });
    }
}

impl Pair {
    /// From an end into its line. False: the connection is lost.
    fn read(&mut self, side: usize, width: &mut Width, now: u64) -> bool {
        let line = &mut self.lines[side];
        while line.room() > 0 {
            let mut bytes = line.buffer(CHUNK.min(line.room()));
            let failed = match self.ends[side].read(&mut bytes) {
                Ok(0) => {
                    line.ended = true;
                    continue;
                }
                Ok(len) => {
                    line.push(bytes, len, width, now);
                    continue;
                }
                Err(error) => error.kind(),
            };
            line.keep(bytes);
            match failed {
                ErrorKind::WouldBlock => break,
                ErrorKind::Interrupted => {}
                _ => return false,
            }
        }
        true
    }

    /// Out of an end's line to the other end. False: the connection is lost.
    fn write(&mut self, side: usize, now: u64, passed: &mut u64) -> bool {
        let (line, to) = (&mut self.lines[side], &mut self.ends[1 - side]);
        while let Some(bytes) = line.front(now) {
            match to.write(bytes) {
                Ok(len) => {
                    line.took(len);
                    *passed += len as u64;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        if line.is_over() && !std::mem::replace(&mut self.told[side], true) {
            return to.shutdown(std::net::Shutdown::Write).is_ok();
        }
        true
    }
}

/// Ends a connection as a broken line does.
fn reset(end: &TcpStream) {
    let _ = rustix::net::sockopt::set_socket_linger(end, Some(Duration::ZERO));
    let _ = end.shutdown(std::net::Shutdown::Both);
}

#[cfg(test)]
mod tests;

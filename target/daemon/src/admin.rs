//! The admin socket: a Unix socket of mode 0600 on which `kagami` asks.
//!
//! Threads of its own read requests and write answers, bounded in size, number and time; what is
//! asked is done by the management thread, which takes an [`Ask`] between two looks at the cores.
//! Only root and the daemon's own user are listened to, whatever the mode of the file.

use crate::events::EventLog;
use kagami_admin::request::EventsAfter;
use kagami_admin::{Answer, FrameError, MAX_REQUEST, Outcome, Refusal, Reply, Request};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// Connections at once.
const MAX_AT_ONCE: usize = 16;
/// How long a connection may be silent between two requests.
const IDLE: Duration = Duration::from_secs(60);
/// How long an answer may take to be taken.
const WRITE: Duration = Duration::from_secs(10);
/// How long a change may take: a device may be slow to open, a volume to finish what it has.
const PATIENCE: Duration = Duration::from_secs(120);
/// Bytes that the path of a socket may have.
const LONGEST: usize = 107;
/// Requests that may wait for the management thread.
pub const WAITING: usize = 64;

/// A request on its way to the management thread.
#[derive(Debug)]
pub struct Ask {
    /// What is asked.
    pub request: Request,
    /// Who asks, for the audit log.
    pub who: String,
    /// Where the answer goes.
    pub answer: SyncSender<Outcome>,
}

/// The socket, whose file goes with it.
#[derive(Debug)]
pub struct AdminSocket {
    path: PathBuf,
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        // Without its file there is nobody to mislead.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// What every connection needs.
#[derive(Clone, Debug)]
struct Desk {
    asks: SyncSender<Ask>,
    events: Arc<EventLog>,
}

/// Listens and answers on threads of its own.
///
/// # Errors
/// The socket cannot be made; another array that listens there is one reason.
pub fn serve(path: &Path, asks: SyncSender<Ask>, events: Arc<EventLog>) -> io::Result<AdminSocket> {
    let path = &short(path);
    let listener = listen(path)?;
    let desk = Desk { asks, events };
    thread::Builder::new().name("admin".to_owned()).spawn(move || accept(&listener, &desk))?;
    Ok(AdminSocket { path: path.to_owned() })
}

/// The path as seen from the working folder, where the whole is too long for a socket: the embedded
/// default may be started deep down.
fn short(path: &Path) -> PathBuf {
    let relative = || path.strip_prefix(std::env::current_dir().ok()?).ok().map(Path::to_owned);
    if path.as_os_str().len() > LONGEST {
        relative().unwrap_or_else(|| path.to_owned())
    } else {
        path.to_owned()
    }
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists()) {
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
    }
    if UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another array listens there"));
    }
    // Made under another name, closed to others, and only then put in its place: never open to
    // everyone, and in place of what a killed predecessor left.
    let made = beside(path);
    match std::fs::remove_file(&made) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&made)?;
    std::fs::set_permissions(&made, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&made, path)?;
    Ok(listener)
}

/// A name of the same length in the same folder: the path of a socket has few bytes.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().as_encoded_bytes().to_vec();
    if let Some(last) = name.last_mut() {
        *last = if *last == b'~' { b'+' } else { b'~' };
    }
    path.with_file_name(String::from_utf8_lossy(&name).into_owned())
}

fn accept(listener: &UnixListener, desk: &Desk) {
    let active = Arc::new(AtomicUsize::new(0));
    loop {
        let Ok((mut stream, _)) = listener.accept() else {
            // Out of descriptors, most likely; a pause keeps this from becoming a busy loop.
            thread::sleep(Duration::from_millis(100));
            continue;
        };
        if active.fetch_add(1, Ordering::Relaxed) >= MAX_AT_ONCE {
            active.fetch_sub(1, Ordering::Relaxed);
            let busy = Refusal::state(format!("{MAX_AT_ONCE} others are connected; try again"));
            let _ = stream.set_write_timeout(Some(Duration::from_millis(100)));
            let _ = write(&mut stream, Outcome::Refused(busy));
            continue;
        }
        let (desk, count) = (desk.clone(), Arc::clone(&active));
        let talk = move || {
            // Who goes away in the middle gets no answer.
            let _ = talk(stream, &desk);
            count.fetch_sub(1, Ordering::Relaxed);
        };
        if thread::Builder::new().name("admin-request".to_owned()).spawn(talk).is_err() {
            active.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Reading with a deadline for the whole of a request.
struct Timed<'a> {
    stream: &'a UnixStream,
    deadline: Instant,
}

impl Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        (&mut &*self.stream).read(buffer)
    }
}

fn talk(mut stream: UnixStream, desk: &Desk) -> Result<(), FrameError> {
    stream.set_write_timeout(Some(WRITE))?;
    let peer = rustix::net::sockopt::socket_peercred(&stream).map_err(io::Error::from)?;
    if !peer.uid.is_root() && peer.uid != rustix::process::geteuid() {
        let reason = format!("user {} may not manage this array", peer.uid.as_raw());
        return write(&mut stream, Outcome::Refused(Refusal::state(reason)));
    }
    let who = format!("socket:uid={},pid={}", peer.uid.as_raw(), peer.pid.as_raw_nonzero());
    loop {
        let mut timed = Timed { stream: &stream, deadline: Instant::now() + IDLE };
        let body = match kagami_admin::read_frame(&mut timed, MAX_REQUEST) {
            Ok(body) => body,
            Err(FrameError::Closed) => return Ok(()),
            Err(error @ (FrameError::NotAFrame | FrameError::Version(_) | FrameError::TooLong { .. })) => {
                // Where the next request would begin is not known: the connection ends.
                return write(&mut stream, Outcome::Refused(Refusal::usage(error.to_string())));
            }
            Err(error) => return Err(error),
        };
        let outcome = match kagami_admin::parse_call(&body) {
            Ok(request) => answer(request, &who, desk),
            Err(refusal) => Outcome::Refused(refusal),
        };
        write(&mut stream, outcome)?;
    }
}

fn answer(request: Request, who: &str, desk: &Desk) -> Outcome {
    if let Request::Events(EventsAfter { after, wait_ms }) = request {
        // Waiting is done here, not by the management thread.
        let wait = Duration::from_millis(wait_ms.into());
        return Outcome::Done(Reply::Events(desk.events.after(after, wait)));
    }
    let (sender, outcome) = sync_channel(1);
    if desk.asks.try_send(Ask { request, who: who.to_owned(), answer: sender }).is_err() {
        return Outcome::Refused(Refusal::state("the array is busy or stopping; try again"));
    }
    outcome.recv_timeout(PATIENCE).unwrap_or_else(|_| {
        let seconds = PATIENCE.as_secs();
        Outcome::Refused(Refusal::timed_out(format!(
            "the array did not answer within {seconds} s; `kagami events` tells whether it was done"
        )))
    })
}

fn write(stream: &mut UnixStream, outcome: Outcome) -> Result<(), FrameError> {
    let body = serde_json::to_vec(&Answer::new(outcome)).map_err(io::Error::from)?;
    kagami_admin::write_frame(stream, &body)?;
    Ok(stream.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kagami_admin::Call;

    fn ask(stream: &mut UnixStream, request: Request) -> Outcome {
        kagami_admin::write_frame(stream, &serde_json::to_vec(&Call::new(request)).unwrap()).unwrap();
        kagami_admin::parse_answer(&kagami_admin::read_frame(stream, 1 << 20).unwrap()).unwrap()
    }

    #[test]
    fn requests_reach_the_management_thread_and_bad_ones_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/a.sock");
        let (asks, asked) = sync_channel(4);
        let events = Arc::new(EventLog::default());
        events.note("x", "begun");
        let socket = serve(&path, asks.clone(), Arc::clone(&events)).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(listen(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let manager = thread::spawn(move || {
            let Ask { request, who, answer } = asked.recv().unwrap();
            assert_eq!(request, Request::Volumes);
            assert!(who.starts_with("socket:uid="), "{who}");
            answer.send(Outcome::Refused(Refusal::failed("no"))).unwrap();
        });
        let mut stream = UnixStream::connect(&path).unwrap();
        assert_eq!(ask(&mut stream, Request::Volumes), Outcome::Refused(Refusal::failed("no")));
        manager.join().unwrap();
        // Nobody takes it any more.
        assert!(matches!(ask(&mut stream, Request::Volumes), Outcome::Refused(Refusal { code: 3, .. })));
        let Outcome::Done(Reply::Events(all)) = ask(&mut stream, Request::Events(EventsAfter::default()))
        else {
            panic!("no events")
        };
        assert_eq!(all.last, 1);
        // A broken request is answered, and the connection goes on; broken framing ends it.
        kagami_admin::write_frame(&mut stream, b"{\"schema\":1,\"request\":\"fly\"}").unwrap();
        let body = kagami_admin::read_frame(&mut stream, 1 << 20).unwrap();
        let Ok(Outcome::Refused(refusal)) = kagami_admin::parse_answer(&body) else { panic!("taken") };
        assert!(refusal.code == 2 && refusal.reason.contains("fly"), "{refusal:?}");
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let body = kagami_admin::read_frame(&mut stream, 1 << 20).unwrap();
        assert!(String::from_utf8_lossy(&body).contains("not of the admin protocol"));
        assert!(kagami_admin::read_frame(&mut stream, 1 << 20).is_err());
        drop(socket);
        assert!(!path.exists());
    }
}

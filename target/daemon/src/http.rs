//! The metrics endpoint: Prometheus text at `/metrics`, a status page at `/`.
//!
//! A few threads of the daemon, never on a reactor's CPU. Bounded in every direction: requests
//! of 4 KiB, a few seconds for each, a few at once; what is more is closed. GET and HEAD only,
//! nothing can be changed here, and no secret is in what is shown.

use crate::{figures, page};
use kagami_admin::pair::Groups;
use kagami_metrics::{Metrics, prometheus};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The longest request.
const MAX_REQUEST: usize = 4096;
/// Requests served at once.
const MAX_AT_ONCE: usize = 8;
/// What one request may take, reading and writing together.
const TIME: Duration = Duration::from_secs(5);

/// What the endpoint shows.
#[derive(Debug)]
pub struct Shown {
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// The array's name.
    pub array: String,
    /// The target's iSCSI name.
    pub iqn: String,
    /// When the array started.
    pub started: Instant,
    /// What groups of pairs said last.
    pub groups: Arc<Mutex<Groups>>,
}

/// Listens and serves on threads of its own, for as long as the process lives. Returns the
/// address, which may have a port that the system picked.
///
/// # Errors
/// The address cannot be listened on, or no thread could be made.
pub fn serve(address: SocketAddr, shown: Shown) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(address)?;
    let bound = listener.local_addr()?;
    thread::Builder::new().name("metrics".to_owned()).spawn(move || accept(&listener, &Arc::new(shown)))?;
    Ok(bound)
}

fn accept(listener: &TcpListener, shown: &Arc<Shown>) {
    let active = Arc::new(AtomicUsize::new(0));
    loop {
        let Ok((stream, _)) = listener.accept() else {
            // Out of descriptors, most likely; a pause keeps this from becoming a busy loop.
            thread::sleep(Duration::from_millis(100));
            continue;
        };
        if active.fetch_add(1, Ordering::Relaxed) >= MAX_AT_ONCE {
            active.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let (shown, count) = (Arc::clone(shown), Arc::clone(&active));
        let handler = move || {
            // A host that goes away in the middle is its own affair.
            let _ = handle(stream, &shown);
            count.fetch_sub(1, Ordering::Relaxed);
        };
        if thread::Builder::new().name("metrics-request".to_owned()).spawn(handler).is_err() {
            active.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn handle(mut stream: TcpStream, shown: &Shown) -> io::Result<()> {
    let deadline = Instant::now() + TIME;
    let answer = match read_request(&mut stream, deadline)? {
        Some(request) => answer(&request, shown),
        None => Answer::text(431, "Request Header Fields Too Large", "the request is too long\n"),
    };
    let head = format!(
        "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\
         Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\
         Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'\r\n\r\n",
        answer.status,
        answer.reason,
        answer.content_type,
        answer.body.len()
    );
    write_all(&mut stream, head.as_bytes(), deadline)?;
    if !answer.head_only {
        write_all(&mut stream, answer.body.as_bytes(), deadline)?;
    }
    stream.shutdown(Shutdown::Write)
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// The request's head, or `None` where it is too long.
fn read_request(stream: &mut TcpStream, deadline: Instant) -> io::Result<Option<Vec<u8>>> {
    let mut request = Vec::new();
    let mut part = [0; 1024];
    loop {
        stream.set_read_timeout(Some(left(deadline)?))?;
        let n = stream.read(&mut part)?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        request.extend(part.iter().take(n));
        if request.windows(4).any(|four| four == b"\r\n\r\n") {
            return Ok(Some(request));
        }
        if request.len() > MAX_REQUEST {
            return Ok(None);
        }
    }
}

fn write_all(stream: &mut TcpStream, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.set_write_timeout(Some(left(deadline)?))?;
        let n = stream.write(bytes)?;
        if n == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = bytes.get(n..).unwrap_or_default();
    }
    Ok(())
}

struct Answer {
    status: u16,
    reason: &'static str,
    content_type: &'static str,
    body: String,
    head_only: bool,
}

impl Answer {
    fn text(status: u16, reason: &'static str, body: &str) -> Self {
        let content_type = "text/plain; charset=utf-8";
        Self { status, reason, content_type, body: body.to_owned(), head_only: false }
    }
}

fn answer(request: &[u8], shown: &Shown) -> Answer {
    let line = request.split(|b| *b == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let mut words = line.split(' ');
    let (method, target, version) = (words.next(), words.next(), words.next());
    if !version.is_some_and(|version| version.starts_with("HTTP/1.")) || words.next().is_some() {
        return Answer::text(400, "Bad Request", "not HTTP/1\n");
    }
    let head_only = method == Some("HEAD");
    if !head_only && method != Some("GET") {
        return Answer::text(405, "Method Not Allowed", "only GET and HEAD\n");
    }
    let path = target.unwrap_or_default().split('?').next().unwrap_or_default();
    let version = env!("CARGO_PKG_VERSION");
    let (content_type, body) = match path {
        "/metrics" => {
            let mut text = String::new();
            prometheus::render(&shown.metrics, &shown.array, version, &mut text);
            figures::render(&shown.groups.lock().unwrap_or_else(PoisonError::into_inner), &mut text);
            (prometheus::CONTENT_TYPE, text)
        }
        "/" => ("text/html; charset=utf-8", page::render(shown, version)),
        _ => return Answer { head_only, ..Answer::text(404, "Not Found", "there are / and /metrics\n") },
    };
    Answer { status: 200, reason: "OK", content_type, body, head_only }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kagami_metrics::VolumeLabel;

    fn start() -> SocketAddr {
        let metrics = Metrics::new(1, 2);
        metrics.label(0, Some(VolumeLabel { lun: 5, name: "db".into(), bytes: 1 << 30 }));
        metrics.core(0).unwrap().volume(0).unwrap().reads.add(3);
        let shown = Shown {
            metrics,
            array: "a<b".into(),
            iqn: "iqn.x".into(),
            started: Instant::now(),
            groups: Arc::default(),
        };
        serve("127.0.0.1:0".parse().unwrap(), shown).unwrap()
    }

    fn ask(address: SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request).unwrap();
        let mut text = String::new();
        let _ = stream.read_to_string(&mut text);
        text
    }

    #[test]
    fn both_pages_are_served_and_nothing_else() {
        let address = start();
        let text = ask(address, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
        assert!(text.contains("\nkagami_lun_reads_total{lun=\"5\",volume=\"db\",core=\"0\"} 3\n"));
        let page = ask(address, b"GET / HTTP/1.0\r\n\r\n");
        assert!(page.contains("text/html") && page.contains("a&lt;b") && page.contains("db"), "{page}");
        let head = ask(address, b"HEAD / HTTP/1.1\r\n\r\n");
        assert!(head.ends_with("\r\n\r\n"), "{head}");
        assert!(ask(address, b"GET /etc/passwd HTTP/1.1\r\n\r\n").contains(" 404 "));
        assert!(ask(address, b"POST / HTTP/1.1\r\n\r\n").contains(" 405 "));
        assert!(ask(address, b"\xff\xfe\r\n\r\n").contains(" 400 "));
        assert!(ask(address, &[b'x'; MAX_REQUEST + 1]).contains(" 431 "));
    }

    #[test]
    fn silent_clients_do_not_keep_others_out_for_ever() {
        let address = start();
        let silent: Vec<_> = (0..MAX_AT_ONCE).map(|_| TcpStream::connect(address).unwrap()).collect();
        thread::sleep(Duration::from_millis(100));
        assert_eq!(ask(address, b""), "", "one too many is closed");
        drop(silent);
        thread::sleep(Duration::from_millis(100));
        assert!(ask(address, b"GET / HTTP/1.1\r\n\r\n").contains(" 200 "));
    }
}

//! The way to an array: which socket, and one request after another over it.

use kagami_admin::request::Call;
use kagami_admin::{FrameError, MAX_ANSWER, Outcome, Refusal, Reply, Request, read_frame, write_frame};
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where arrays put their sockets.
const FOLDER: &str = "/run/kagami";
/// Where the embedded default puts its own.
const EMBEDDED: &str = "kagami-data/admin.sock";
/// Longer than the array itself waits for anything.
const PATIENCE: Duration = Duration::from_secs(180);

/// A connection to an array's admin socket.
#[derive(Debug)]
pub struct Connection {
    path: PathBuf,
    stream: UnixStream,
}

/// Connects to that socket, or to the one array of this machine.
pub fn connect(path: Option<&Path>) -> Result<Connection, Refusal> {
    let path = match path {
        Some(path) => path.to_owned(),
        None => only(Path::new(FOLDER), Path::new(EMBEDDED))?,
    };
    let reach = |error: io::Error| {
        let path = path.display();
        Refusal::unreachable(match error.kind() {
            io::ErrorKind::NotFound => {
                format!("there is no admin socket {path}; is the array running, and array.admin set?")
            }
            io::ErrorKind::ConnectionRefused => format!("no array listens at {path}; is it running?"),
            io::ErrorKind::PermissionDenied => {
                format!("{path} is closed to this user; use root or the array's own user")
            }
            _ => format!("{path} cannot be reached: {error}"),
        })
    };
    let stream = UnixStream::connect(&path).map_err(reach)?;
    let timed =
        stream.set_read_timeout(Some(PATIENCE)).and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
    timed.map_err(reach)?;
    Ok(Connection { path, stream })
}

/// The socket of the only array.
fn only(folder: &Path, embedded: &Path) -> Result<PathBuf, Refusal> {
    let mut found: Vec<PathBuf> = match std::fs::read_dir(folder) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
        Err(_) => Vec::new(),
    };
    found.retain(|path| path.extension().is_some_and(|extension| extension == "sock"));
    if found.is_empty() && embedded.exists() {
        found.push(embedded.to_owned());
    }
    found.sort();
    match found.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(Refusal::unreachable(format!(
            "no array was found in {}; say where with --via unix:PATH (its array.admin)",
            folder.display()
        ))),
        more => {
            let names: Vec<_> = more.iter().map(|path| format!("unix:{}", path.display())).collect();
            Err(Refusal::usage(format!(
                "several arrays run here; say which with --via: {}",
                names.join(", ")
            )))
        }
    }
}

impl Connection {
    /// One request, one answer.
    pub fn ask(&mut self, request: Request) -> Result<Reply, Refusal> {
        let body =
            serde_json::to_vec(&Call::new(request)).map_err(|error| Refusal::usage(error.to_string()))?;
        let answer = write_frame(&mut self.stream, &body)
            .and_then(|()| read_frame(&mut self.stream, MAX_ANSWER))
            .map_err(|error| self.lost(&error))?;
        match kagami_admin::parse_answer(&answer)? {
            Outcome::Done(reply) => Ok(reply),
            Outcome::Refused(refusal) => Err(refusal),
        }
    }

    fn lost(&self, error: &FrameError) -> Refusal {
        let path = self.path.display();
        match error {
            FrameError::Io(error)
                if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) =>
            {
                Refusal::timed_out(format!("the array at {path} does not answer"))
            }
            FrameError::Closed | FrameError::Io(_) => Refusal::unreachable(format!(
                "the array at {path} went away: {error}; `kagami events` tells later what was done"
            )),
            other => Refusal::failed(format!("{path}: {other}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_only_array_is_found_and_several_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let none = folder.path().join("none");
        assert_eq!(only(&none, &none).unwrap_err().code, 5);
        let embedded = folder.path().join("admin.sock");
        std::fs::write(&embedded, "").unwrap();
        assert_eq!(only(&none, &embedded).unwrap(), embedded);
        std::fs::write(folder.path().join("x.txt"), "").unwrap();
        assert_eq!(only(folder.path(), &none).unwrap(), embedded);
        std::fs::write(folder.path().join("b.sock"), "").unwrap();
        let refusal = only(folder.path(), &none).unwrap_err();
        assert!(refusal.code == 2 && refusal.reason.contains("b.sock"), "{refusal:?}");
        assert_eq!(connect(Some(Path::new("/nonexistent/x"))).unwrap_err().code, 5);
    }
}

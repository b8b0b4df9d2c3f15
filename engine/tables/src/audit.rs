//! The audit log: append-only lines of text, bounded by rotation.
//!
//! A line is `TIME gen=N who=... what...`, the time in UTC. Lines of committed transactions
//! are written after the commit; should a crash come between, they are written at the next
//! start from the log of the tables, which keeps them until the audit log has them durably.

use crate::frame::Generation;
use crate::state::Audit;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A file is full at this size.
const FULL: u64 = 16 << 20;
/// Full files that are kept, `audit.log.1` the youngest.
const KEPT: u32 = 4;
/// Bytes of the end that are read back.
const TAIL: u64 = 64 << 10;
/// Bytes of a line's text; more is cut.
const LONGEST: usize = 4 << 10;

/// The audit log's files in a data folder.
#[derive(Debug)]
pub(crate) struct AuditFiles {
    folder: PathBuf,
    file: Option<File>,
    full: u64,
}

impl AuditFiles {
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), file: None, full: FULL }
    }

    fn path(&self, age: u32) -> PathBuf {
        self.folder.join(if age == 0 { "audit.log".to_owned() } else { format!("audit.log.{age}") })
    }

    fn file(&mut self) -> io::Result<&mut File> {
        let path = self.path(0);
        match &mut self.file {
            Some(file) => Ok(file),
            empty => {
                let file = OpenOptions::new().create(true).read(true).append(true).mode(0o600).open(path)?;
                Ok(empty.insert(file))
            }
        }
    }

    pub(crate) fn append(&mut self, lines: &str) -> io::Result<()> {
        let full = self.full;
        if self.file()?.metadata()?.len() >= full {
            self.rotate()?;
        }
        self.file()?.write_all(lines.as_bytes())
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.sync()?;
        self.file = None;
        for age in (0..KEPT).rev() {
            match fs::rename(self.path(age), self.path(age + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    pub(crate) fn sync(&mut self) -> io::Result<()> {
        match &self.file {
            Some(file) => file.sync_data(),
            None => Ok(()),
        }
    }

    /// The end of the log; where the file is young, of the one before it too.
    pub(crate) fn tail(&mut self) -> io::Result<String> {
        let mut text = match File::open(self.path(1)) {
            Ok(file) => end(file)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let file = self.file()?.try_clone()?;
        text += &end(file)?;
        Ok(text)
    }
}

fn end(mut file: File) -> io::Result<String> {
    let len = file.metadata()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(TAIL)))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Writes a line for a committed transaction, or for an event without one.
pub(crate) fn line(generation: Option<Generation>, audit: &Audit) -> String {
    let mut line = time(audit.millis);
    // Writing to a String cannot fail.
    let _ = match generation {
        Some(generation) => write!(line, " gen={generation}"),
        None => write!(line, " gen=-"),
    };
    let _ = write!(line, " who={} {}", word(&audit.who), clean(&audit.what));
    line.push('\n');
    line
}

/// The highest generation that has a line in the end of the log.
pub(crate) fn last_generation(tail: &str) -> Option<Generation> {
    // The last line may be torn, and so may its number: only whole lines count.
    let whole = tail.rfind('\n').map_or("", |end| &tail[..end]);
    whole
        .lines()
        .filter_map(|line| line.split(' ').nth(1)?.strip_prefix("gen=")?.parse().ok())
        .max()
        .map(Generation)
}

/// Text without line breaks and control characters, cut to a bounded length.
fn clean(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if out.len() >= LONGEST {
            out.push_str("...");
            break;
        }
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// Clean text in which spaces are shown, so that fields stay apart.
fn word(text: &str) -> String {
    clean(text).replace(' ', "_")
}

/// Milliseconds since 1970 as `2026-11-22T17:23:00.123Z`.
#[must_use]
pub fn time(millis: u64) -> String {
    let seconds = millis / 1000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        second / 3600,
        second / 60 % 60,
        second % 60,
        millis % 1000
    )
}

/// The Gregorian date of a day counted from 1970-01-01. Years start in March here, so that the
/// leap day is the last of its year and every month's start follows from one division.
fn date(days: u64) -> (u64, u64, u64) {
    const ERA: u64 = 146_097;
    let days = days + 719_468;
    let (era, day) = (days / ERA, days % ERA);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_gregorian() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_795_368_180, "2026-11-22T17:23:00.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(time(seconds * 1000), text);
        }
    }

    #[test]
    fn lines_cannot_be_forged() {
        let audit = Audit { millis: 0, who: "a b".into(), what: "x\n2026 gen=99 y".into() };
        let text = line(Some(Generation(3)), &audit);
        assert_eq!(text, "1970-01-01T00:00:00.000Z gen=3 who=a_b x\\n2026 gen=99 y\n");
        assert_eq!(last_generation(&text), Some(Generation(3)));
        assert_eq!(last_generation(&format!("{text}1970 gen=44")), Some(Generation(3)), "a torn line");
        assert_eq!(last_generation(""), None);
    }

    #[test]
    fn files_rotate_and_are_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = AuditFiles { full: 100, ..AuditFiles::new(folder.path()) };
        for n in 0..100 {
            files.append(&format!("T gen={n} who=x y\n")).unwrap();
        }
        let count = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(count, 1 + KEPT as usize);
        assert_eq!(last_generation(&files.tail().unwrap()), Some(Generation(99)));
    }
}

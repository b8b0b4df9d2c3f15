//! Which way in `--via` names, and what opens a command device.

use super::block::Block;
use super::device::{Device, PRODUCT, Remote, Trouble, refusal};
use crate::cli::InbandArgs;
use kagami_admin::Refusal;
use kagami_initiator::{Connector, Disk, Url};
use kagami_orders::Key;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the secret is looked for when no file is named.
const SECRET: &str = "KAGAMI_SECRET";
/// How long a TCP connection and each answer of a login may take, at most.
const LOGIN: Duration = Duration::from_secs(10);
/// More than any secret or key has.
const MAX_FILE: u64 = 64 << 10;

/// A way to an array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// An admin socket; the only one of this machine where none is named.
    Unix(Option<PathBuf>),
    /// A command device that this host sees as a block device.
    Block(PathBuf),
    /// A command device at an address.
    Iscsi(Url),
}

/// The way that `--via` names.
pub fn way(via: Option<&str>) -> Result<Way, Refusal> {
    let Some(via) = via else { return Ok(Way::Unix(None)) };
    if let Some(path) = via.strip_prefix("unix:").filter(|path| !path.is_empty()) {
        return Ok(Way::Unix(Some(path.into())));
    }
    if via.starts_with("iscsi://") {
        return via.parse().map(Way::Iscsi).map_err(|why| Refusal::usage(format!("--via: {why}")));
    }
    if via.starts_with('/') {
        return Ok(Way::Block(via.into()));
    }
    Err(Refusal::usage(format!(
        "--via takes unix:PATH, a block device such as /dev/sdb, or iscsi://[user@]host:port/iqn/lun, not {via:?}"
    )))
}

/// Either of the two command devices.
#[derive(Debug)]
pub enum Either {
    Block(Block),
    Remote(Box<Remote>),
}

impl Device for Either {
    fn bytes(&self) -> u64 {
        match self {
            Self::Block(device) => device.bytes(),
            Self::Remote(device) => device.bytes(),
        }
    }

    fn block(&self) -> usize {
        match self {
            Self::Block(device) => device.block(),
            Self::Remote(device) => device.block(),
        }
    }

    fn read(&mut self, at: u64, len: usize) -> Result<Vec<u8>, Trouble> {
        match self {
            Self::Block(device) => device.read(at, len),
            Self::Remote(device) => device.read(at, len),
        }
    }

    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), Trouble> {
        match self {
            Self::Block(device) => device.write(at, bytes),
            Self::Remote(device) => device.write(at, bytes),
        }
    }

    fn set_patience(&mut self, patience: Duration) {
        match self {
            Self::Block(device) => device.set_patience(patience),
            Self::Remote(device) => device.set_patience(patience),
        }
    }
}

impl Either {
    /// Logs out, where it is a session.
    pub fn close(self) {
        if let Self::Remote(remote) = self {
            remote.0.close();
        }
    }
}

/// Opens a block device.
pub fn open_block(path: &Path) -> Result<Either, Refusal> {
    Block::open(path).map(Either::Block)
}

/// Logs in to an address.
pub fn open_iscsi(
    url: Url,
    args: &InbandArgs,
    initiator: &str,
    patience: Duration,
) -> Result<Either, Refusal> {
    let secret = secret(&url, args)?;
    let shown = url.to_string();
    let mut connector = Connector::plain(url, initiator.to_owned(), patience.min(LOGIN));
    connector.secret = secret;
    let disk = Disk::open(connector, patience).map_err(|error| refusal(&error))?;
    let identity = disk.identity();
    if identity.product != PRODUCT {
        let what = format!("{} {}", identity.vendor, identity.product);
        disk.close();
        return Err(Refusal::usage(format!(
            "{shown} is a {what}, not a command device; nothing was written to it"
        )));
    }
    Ok(Either::Remote(Box::new(Remote(disk))))
}

/// The CHAP secret of an address's user, wherever it stands.
fn secret(url: &Url, args: &InbandArgs) -> Result<Option<String>, Refusal> {
    let Some(login) = &url.login else {
        return match args.secret_file {
            Some(_) => {
                Err(Refusal::usage("--secret-file needs a user in the address: iscsi://user@host/..."))
            }
            None => Ok(None),
        };
    };
    if login.secret.is_some() {
        eprintln!(
            "kagami: warning: a secret on the command line is seen by everybody here; use --secret-file"
        );
        return Ok(None);
    }
    if let Some(file) = &args.secret_file {
        let text = String::from_utf8(private(file)?);
        let wrong = |_| Refusal::usage(format!("{} is not UTF-8, which secrets must be", file.display()));
        return text.map(Some).map_err(wrong);
    }
    let missing =
        || Refusal::usage(format!("there is no secret for user {}: --secret-file, or {SECRET}", login.user));
    std::env::var(SECRET).map(Some).map_err(|_| missing())
}

/// The operator's name and key.
pub fn operator(args: &InbandArgs) -> Result<Option<(String, Key)>, Refusal> {
    let (Some(name), Some(file)) = (&args.operator, &args.key_file) else { return Ok(None) };
    let wrong = || Refusal::usage(format!("{}: a key has 16 to 1,024 bytes", file.display()));
    let key = Key::new(&private(file)?).ok_or_else(wrong)?;
    if name.is_empty() || name.len() > kagami_orders::request::MAX_OPERATOR {
        return Err(Refusal::usage("the name of an operator has 1 to 64 bytes"));
    }
    Ok(Some((name.clone(), key)))
}

/// A file that only its owner can read, without the white space at its end.
fn private(file: &Path) -> Result<Vec<u8>, Refusal> {
    let shown = file.display();
    let wrong = |error: std::io::Error| Refusal::usage(format!("{shown}: {error}"));
    let kind = std::fs::metadata(file).map_err(wrong)?;
    if kind.mode() & 0o077 != 0 {
        return Err(Refusal::usage(format!("{shown} can be read by others; chmod 0600 it")));
    }
    if kind.len() > MAX_FILE {
        return Err(Refusal::usage(format!("{shown} is too long for a secret")));
    }
    Ok(std::fs::read(file).map_err(wrong)?.trim_ascii_end().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn ways() {
        assert_eq!(way(None), Ok(Way::Unix(None)));
        assert_eq!(way(Some("unix:/x")), Ok(Way::Unix(Some("/x".into()))));
        assert_eq!(way(Some("/dev/sdb")), Ok(Way::Block("/dev/sdb".into())));
        assert!(matches!(way(Some("iscsi://u@h:1/iqn.x/3")), Ok(Way::Iscsi(url)) if url.lun == 3));
        for wrong in ["", "unix:", "sdb", "iscsi://h/iqn.x", "http://h/"] {
            assert_eq!(way(Some(wrong)).unwrap_err().code, 2, "{wrong}");
        }
    }

    #[test]
    fn secrets_are_private_and_belong_to_a_user() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, "twelve-characters\n").unwrap();
        let args = |secret: Option<&PathBuf>, key: Option<&PathBuf>| InbandArgs {
            secret_file: secret.cloned(),
            key_file: key.cloned(),
            operator: key.map(|_| "ops".to_owned()),
            ..InbandArgs::default()
        };
        let mode = |mode| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let with: Url = "iscsi://me@h/iqn.x/0".parse().unwrap();
        let without: Url = "iscsi://h/iqn.x/0".parse().unwrap();
        mode(0o644);
        assert!(secret(&with, &args(Some(&file), None)).unwrap_err().reason.contains("chmod"));
        assert!(operator(&args(None, Some(&file))).unwrap_err().reason.contains("chmod"));
        mode(0o600);
        assert_eq!(secret(&with, &args(Some(&file), None)).unwrap().as_deref(), Some("twelve-characters"));
        assert_eq!(secret(&without, &args(Some(&file), None)).unwrap_err().code, 2);
        assert_eq!(secret(&without, &args(None, None)), Ok(None));
        let (name, key) = operator(&args(None, Some(&file))).unwrap().unwrap();
        assert_eq!((name.as_str(), Some(key)), ("ops", Key::new(b"twelve-characters")));
        std::fs::write(&file, "short").unwrap();
        assert_eq!(operator(&args(None, Some(&file))).unwrap_err().code, 2);
    }
}

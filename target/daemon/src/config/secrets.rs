//! CHAP secrets, read from their files.
//!
//! A secret file belongs to the daemon's user and is closed to everyone else (0600 or less);
//! its first line is the secret. Secrets never appear in the configuration, in logs or in
//! debug output.

use super::error::{ConfigError, ConfigErrors};
use super::model::{Chap, Config, Credential, Rights, Role};
use kagami_types::Lun;
use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// The shortest secret in bytes: 96 bits (RFC 7143 9.2.1).
pub const MIN_SECRET: usize = 12;
/// The longest secret in bytes.
pub const MAX_SECRET: usize = 255;

/// A secret. Its debug form shows none of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(...)")
    }
}

/// A CHAP name with its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// CHAP_N.
    pub user: String,
    /// The secret.
    pub secret: Secret,
}

/// What one initiator may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The LUNs that it sees, sorted.
    pub luns: Vec<Lun>,
    /// Its rights on command devices.
    pub rights: Rights,
    /// What it must prove; `None`: nothing.
    pub chap: Option<Proof>,
    /// What this array proves to it in turn, where it asks.
    pub mutual: Option<Proof>,
    /// It is another array.
    pub is_peer: bool,
}

/// How this array and a peer prove to each other who they are, when this one logs in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerProofs {
    /// What this array proves; `None`: nothing.
    pub own: Option<Proof>,
    /// What the peer has to prove in turn.
    pub theirs: Option<Proof>,
}

/// Who may log in, and to what: the access lists with their secrets. Replaced as a whole on
/// reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    listed: HashMap<String, Grant>,
    /// By the peer's name.
    peers: HashMap<String, PeerProofs>,
    /// For every initiator on a loopback portal, where none is listed.
    anyone: Option<Grant>,
}

impl Access {
    /// Reads the secrets that a configuration names.
    ///
    /// # Errors
    /// Every secret file that is missing, open to others, too short or too long.
    pub fn load(config: &Config) -> Result<Self, ConfigErrors> {
        let mut errors = Vec::new();
        let mut listed = HashMap::new();
        let mut peers = HashMap::new();
        for peer in &config.peers {
            let mut proofs = PeerProofs::default();
            if let Some(Chap { credential, mutual }) = &peer.chap {
                proofs.own = proof(credential, &mut errors);
                proofs.theirs = mutual.as_ref().and_then(|mutual| proof(mutual, &mut errors));
                if let (Some(one), Some(other), Some(mutual)) = (&proofs.own, &proofs.theirs, mutual)
                    && one.secret == other.secret
                {
                    let reason = "the two directions must not share a secret (RFC 7143 9.2.1)".to_owned();
                    errors.push(ConfigError { site: mutual.site.clone(), reason });
                }
            }
            // Where it logs in here, each proves what it proves in the other direction; where there is
            // one secret for both, the peer proves that.
            let chap = proofs.theirs.clone().or_else(|| proofs.own.clone());
            let mutual = proofs.theirs.as_ref().and(proofs.own.clone());
            let command = config.volumes.iter().filter(|volume| volume.role == Role::Command);
            // What it replicates from here or to here: volumes and journals.
            let groups = config.groups.iter().filter(|group| group.peer == peer.name);
            let paired = groups.flat_map(|group| group.luns());
            let own = peer.luns.iter().copied().chain(command.map(|one| one.lun));
            let mut luns: Vec<Lun> = own.chain(paired).collect();
            luns.sort_unstable();
            luns.dedup();
            let grant = Grant { luns, rights: Rights::Read, chap, mutual, is_peer: true };
            listed.insert(peer.iqn.clone(), grant);
            peers.insert(peer.name.clone(), proofs);
        }
        for initiator in &config.initiators {
            let mut grant = Grant {
                luns: initiator.luns.clone(),
                rights: initiator.rights,
                chap: None,
                mutual: None,
                is_peer: false,
            };
            if let Some(Chap { credential, mutual }) = &initiator.chap {
                grant.chap = proof(credential, &mut errors);
                grant.mutual = mutual.as_ref().and_then(|mutual| proof(mutual, &mut errors));
                if let (Some(one), Some(other), Some(mutual)) = (&grant.chap, &grant.mutual, mutual)
                    && one.secret == other.secret
                {
                    let reason = "the two directions must not share a secret (RFC 7143 9.2.1)".to_owned();
                    errors.push(ConfigError { site: mutual.site.clone(), reason });
                }
            }
            listed.insert(initiator.iqn.clone(), grant);
        }
        let anyone = config.initiators.is_empty().then(|| {
            let own = config.volumes.iter().filter(|v| v.is_served()).map(|v| v.lun);
            let mut luns: Vec<_> = own.chain(config.virtuals.iter().map(|v| v.lun)).collect();
            luns.sort_unstable();
            Grant { luns, rights: Rights::Read, chap: None, mutual: None, is_peer: false }
        });
        if errors.is_empty() { Ok(Self { listed, peers, anyone }) } else { Err(ConfigErrors(errors)) }
    }

    /// What an initiator may do on a portal; `None`: it may not log in at all.
    ///
    /// A listed initiator may use every portal, but one without CHAP only loopback portals and
    /// those that `open` (`auth = "none"`) names. With none listed, every initiator may use the
    /// volumes on loopback portals, and nobody elsewhere.
    #[must_use]
    pub fn grant(&self, initiator: &str, portal: &SocketAddr, open: bool) -> Option<&Grant> {
        let loopback = super::model::is_loopback(portal);
        match (self.listed.get(initiator), &self.anyone) {
            (Some(grant), _) => (grant.chap.is_some() || loopback || open).then_some(grant),
            (None, Some(grant)) => loopback.then_some(grant),
            (None, None) => None,
        }
    }

    /// What this array and that peer prove to each other.
    #[must_use]
    pub fn peer(&self, name: &str) -> Option<&PeerProofs> {
        self.peers.get(name)
    }

    /// All listed initiators, in no order.
    pub fn listed(&self) -> impl Iterator<Item = (&str, &Grant)> {
        self.listed.iter().map(|(iqn, grant)| (iqn.as_str(), grant))
    }
}

fn proof(credential: &Credential, errors: &mut Vec<ConfigError>) -> Option<Proof> {
    match read(credential) {
        Ok(secret) => Some(Proof { user: credential.user.clone(), secret }),
        Err(reason) => {
            errors.push(ConfigError { site: credential.site.clone(), reason });
            None
        }
    }
}

/// The front of a file that nobody else can read.
pub(super) fn read_guarded(path: &Path) -> Result<Vec<u8>, String> {
    let file = File::open(path);
    let path = path.display();
    let fail = |error: std::io::Error| format!("{path} cannot be read: {error}");
    let file = file.map_err(fail)?;
    // Asked of the open file, so that what is checked is what is read.
    let metadata = file.metadata().map_err(fail)?;
    if !metadata.is_file() {
        return Err(format!("{path} is not a file"));
    }
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o177 != 0 {
        return Err(format!("{path} has mode {mode:04o} and must be 0600 (chmod 600 {path})"));
    }
    let user = rustix::process::geteuid();
    if metadata.uid() != user.as_raw() && metadata.uid() != 0 {
        return Err(format!(
            "{path} belongs to user {} and must belong to user {}",
            metadata.uid(),
            user.as_raw()
        ));
    }
    let mut bytes = Vec::new();
    file.take(4096).read_to_end(&mut bytes).map_err(fail)?;
    Ok(bytes)
}

fn read(credential: &Credential) -> Result<Secret, String> {
    let bytes = read_guarded(&credential.secret_file)?;
    let path = credential.secret_file.display();
    let line = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    match line.len() {
        0..MIN_SECRET => {
            Err(format!("{path} holds a secret of {} bytes; it must have at least {MIN_SECRET}", line.len()))
        }
        MIN_SECRET..=MAX_SECRET => Ok(Secret(line.to_vec())),
        _ => Err(format!("{path} holds a secret of more than {MAX_SECRET} bytes")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;
    use std::fs;
    use std::path::Path;

    fn config(folder: &Path) -> Config {
        let text = format!(
            "[array]\nname = \"a\"\ndata = \"d\"\n[[volume]]\nlun = 0\nname = \"v\"\nbackend = \"null\"\nsize = \"1MiB\"\n\
             [[initiator]]\niqn = \"iqn.2026-11.io.kagami:h\"\nluns = [0]\nchap = {{ user = \"u\", secret_file = \"{0}/in\", \
             mutual = {{ user = \"m\", secret_file = \"{0}/out\" }} }}\n",
            folder.display()
        );
        parse(&text, "t").unwrap()
    }

    fn put(folder: &Path, name: &str, text: &str, mode: u32) {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn secrets_are_read_and_guarded() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let reasons = |config| Access::load(config).unwrap_err().to_string();
        assert!(reasons(&config).contains("cannot be read"));
        put(folder.path(), "in", "twelve-bytes\n", 0o644);
        put(folder.path(), "out", "short\n", 0o600);
        let text = reasons(&config);
        assert!(text.contains("mode 0644") && text.contains("t:12") && text.contains("5 bytes"), "{text}");
        put(folder.path(), "in", "twelve-bytes\n", 0o600);
        put(folder.path(), "out", "twelve-bytes", 0o400);
        assert!(reasons(&config).contains("share a secret"));
        put(folder.path(), "out", "other-secret!\r\nsecond line", 0o600);
        let access = Access::load(&config).unwrap();
        let local = "127.0.0.1:1".parse().unwrap();
        let grant = access.grant("iqn.2026-11.io.kagami:h", &local, false).unwrap();
        assert_eq!(grant.chap.as_ref().unwrap().secret.bytes(), b"twelve-bytes");
        assert_eq!(grant.mutual.as_ref().unwrap().secret.bytes(), b"other-secret!");
        assert!(!format!("{access:?}").contains("twelve"));
        assert!(access.grant("iqn.2026-11.io.kagami:other", &local, true).is_none());
    }

    #[test]
    fn without_a_list_only_loopback_is_served() {
        let access = Access::load(&Config::embedded(Path::new("d"))).unwrap();
        let luns = &access.grant("iqn.any", &"[::1]:3260".parse().unwrap(), false).unwrap().luns;
        assert_eq!(luns.len(), 2);
        assert!(access.grant("iqn.any", &"192.0.2.1:3260".parse().unwrap(), true).is_none());
    }
}

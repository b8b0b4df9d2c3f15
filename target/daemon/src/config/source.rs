//! Where a configuration comes from: a file, or the embedded default; and with it what was made
//! at run time.

use super::context::Context;
use super::error::{ConfigError, ConfigErrors};
use super::model::{Config, Owner, Site};
use super::raw::{RawConfig, RawObjects};
use super::write;
use kagami_tables::{Object, ObjectKind};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The text of a configuration, and what its relative paths are relative to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    text: String,
    name: String,
    folder: PathBuf,
    embedded: bool,
}

impl Source {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// The file cannot be read, is too long or not UTF-8.
    pub fn read(path: &Path) -> Result<Self, ConfigErrors> {
        let name = path.display().to_string();
        let fail = |reason: String| {
            let site = Site { file: name.clone(), line: 0, key: "file".to_owned() };
            ConfigErrors::from(ConfigError { site, reason })
        };
        let mut text = String::new();
        fs::File::open(path)
            .and_then(|opened| opened.take(super::MAX_FILE + 1).read_to_string(&mut text))
            .map_err(|error| fail(format!("cannot be read: {error}")))?;
        if text.len() as u64 > super::MAX_FILE {
            return Err(fail(format!("longer than {} bytes", super::MAX_FILE)));
        }
        let here = std::path::absolute(path).map_err(|error| fail(error.to_string()))?;
        let folder = here.parent().map(Path::to_owned).unwrap_or_default();
        Ok(Self { text, name, folder, embedded: false })
    }

    /// The embedded default, with its data in that folder.
    #[must_use]
    pub fn embedded(data: &Path) -> Self {
        let folder = std::path::absolute(".").unwrap_or_default();
        Self {
            text: write::export(&Config::embedded(data)),
            name: "built-in".to_owned(),
            folder,
            embedded: true,
        }
    }

    /// Whether it is the embedded default, and no file.
    #[must_use]
    pub fn is_embedded(&self) -> bool {
        self.embedded
    }

    /// What it is called in messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The configuration alone, with absolute paths.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn config(&self) -> Result<Config, ConfigErrors> {
        self.with(&[])
    }

    /// The configuration with what was made at run time.
    ///
    /// # Errors
    /// Everything that is wrong with it, a name or LUN that is in both included.
    pub fn with(&self, objects: &[Object]) -> Result<Config, ConfigErrors> {
        let mut config = parse_with(&self.text, &self.name, objects)?;
        config.resolve(&self.folder);
        Ok(config)
    }
}

/// Reads and checks a configuration together with objects made at run time.
///
/// # Errors
/// Everything that is wrong with it. What is wrong with an object says "made at run time" in
/// place of a file.
pub fn parse_with(text: &str, file: &str, objects: &[Object]) -> Result<Config, ConfigErrors> {
    let mut context = Context::new(text, file);
    let mut raw: RawConfig = match toml::from_str(text) {
        Ok(raw) => raw,
        Err(error) => return Err(context.syntax(text, &error).into()),
    };
    let same = if objects.is_empty() { Vec::new() } else { alone(text, file) };
    let mut extra = String::new();
    for object in objects {
        if same.contains(object) {
            // The file has it with the very same keys, as after an export: it is the file's now.
            continue;
        }
        let table = match object.kind {
            ObjectKind::Volume => "volume",
            ObjectKind::Initiator => "initiator",
            ObjectKind::Peer => "peer",
            ObjectKind::Virtual => "virtual",
            ObjectKind::Group => "group",
            ObjectKind::Growth | ObjectKind::Loan => continue,
        };
        extra.push_str("[[");
        extra.push_str(table);
        extra.push_str("]]\n");
        extra.push_str(&object.toml);
        extra.push('\n');
    }
    if !extra.is_empty() {
        // Behind as many spaces as the file has bytes: so every place says by itself whether it
        // is of the file.
        let padded = " ".repeat(text.len() + 1) + &extra;
        match toml::from_str::<RawObjects>(&padded) {
            Ok(made) => {
                raw.volume.extend(made.volume);
                raw.initiator.extend(made.initiator);
                raw.peer.extend(made.peer);
                raw.virtuals.extend(made.virtuals);
                raw.group.extend(made.group);
            }
            Err(error) => return Err(context.syntax(&padded, &error).into()),
        }
    }
    let mut config = context.config(raw);
    for object in objects {
        context.addition(object, &mut config);
    }
    context.finish(config)
}

/// Everything that the file has by itself, as it would be kept had it been made at run time.
/// Nothing where the file is wrong; that is told elsewhere.
fn alone(text: &str, file: &str) -> Vec<Object> {
    let Ok(mut config) = parse_with(text, file, &[]) else { return Vec::new() };
    config.volumes.iter_mut().for_each(|volume| volume.owner = Owner::RunTime);
    config.initiators.iter_mut().for_each(|initiator| initiator.owner = Owner::RunTime);
    config.peers.iter_mut().for_each(|peer| peer.owner = Owner::RunTime);
    config.virtuals.iter_mut().for_each(|one| one.owner = Owner::RunTime);
    for pairs in config.groups.iter_mut().filter_map(|group| group.pairs.as_mut()) {
        pairs.owner = Owner::RunTime;
    }
    write::objects(&config)
}

//! `[[volume]]`.

use super::context::{At, Context, split};
use super::defaults::{COMMAND_DEVICE, command_path};
use super::model::{Array, Backend, CacheMode, Role, Volume};
use super::names::check_name;
use super::raw::{Maybe, RawVolume, Tables};
use super::units::format_size;
use kagami_types::{BlockSize, ByteLen};
use std::collections::HashMap;
use std::time::Duration;
use toml::Spanned;

/// Whether several cores can have parts of a volume.
fn can_spread(volume: &Volume) -> bool {
    let shared = match volume.backend {
        Backend::Path(_) | Backend::Ram | Backend::Null => true,
        #[cfg(feature = "faulty")]
        Backend::Faulty(_) => false,
    };
    shared && volume.role == Role::Plain
}

/// The smallest journal: its data area has room for the longest entry several times over.
const LEAST_JOURNAL: ByteLen = ByteLen(16 << 20);

/// The smallest command device: 16 MiB of ordinary storage and a first slot.
const LEAST_COMMAND: ByteLen = ByteLen((16 << 20) + (64 << 10));

impl Context {
    pub(super) fn volumes(&mut self, raw: Tables<RawVolume>, array: &Array) -> Vec<Volume> {
        let (mut luns, mut names, mut paths) = (HashMap::new(), HashMap::new(), HashMap::new());
        let mut command_devices = HashMap::new();
        let mut volumes = Vec::with_capacity(raw.len().min(1 << 14));
        for (index, value) in raw.into_iter().enumerate() {
            let table = format!("volume[{index}]");
            let place = At { span: value.span(), key: table.clone() };
            let raw = value.into_inner();
            let lun_at = At { span: raw.lun.span(), key: format!("{table}.lun") };
            let name_at = At { span: raw.name.span(), key: format!("{table}.name") };
            let mut volume = self.volume(&table, &place, raw, array);
            self.once(&mut luns, volume.lun, &lun_at, &volume.lun.to_string());
            self.once(&mut names, volume.name.clone(), &name_at, "the name");
            if let Backend::Path(path) = &volume.backend {
                self.once(&mut paths, path.clone(), &place, &format!("{}", path.display()));
            }
            match volume.role {
                Role::Plain => {}
                Role::Command => {
                    self.once(&mut command_devices, (), &place, "role = \"command\"");
                }
                Role::Journal => self.journal(&place, &mut volume),
            }
            volumes.push(volume);
        }
        volumes
    }

    fn volume(&mut self, table: &str, place: &At, raw: RawVolume, array: &Array) -> Volume {
        let (number, at) = split(table, "lun", raw.lun);
        let lun = self.lun(&at, number);
        let (name, at) = split(table, "name", raw.name);
        self.check(&at, check_name(&name));

        let roles = [("command", Role::Command), ("journal", Role::Journal)];
        let role = self.word(table, "role", raw.role, &roles).unwrap_or(Role::Plain);
        let memory = self.memory(table, raw.backend);
        let path = raw.path.map(|value| {
            let (text, at) = split(table, "path", value);
            self.path(&at, text)
        });
        let backend = match (memory, path) {
            (Some(_), Some(path)) => {
                self.error(place, "has both path and backend; one of them says where the blocks are");
                Backend::Path(path)
            }
            (Some(memory), None) => memory,
            (None, Some(path)) => Backend::Path(path),
            (None, None) if role == Role::Command => Backend::Path(command_path(&array.data)),
            (None, None) => {
                self.error(place, "needs path, or backend = \"ram\" or \"null\"");
                Backend::Null
            }
        };
        let mut volume = Volume::new(lun, &name, backend);
        volume.site = self.site(place);
        volume.owner = self.owner(place);
        volume.role = role;
        if let Some(value) = raw.block_size {
            let (bytes, at) = split(table, "block_size", value);
            match u32::try_from(bytes).ok().and_then(BlockSize::from_bytes) {
                Some(size) => volume.block_size = size,
                None => self.error(&at, "must be 512 or 4096"),
            }
        }
        let size = self.size(table, "size", raw.size);
        self.volume_size(place, size, &mut volume);
        let caches = [
            ("writeback", CacheMode::WriteBack),
            ("writethrough", CacheMode::WriteThrough),
            ("none", CacheMode::None),
        ];
        volume.cache = self.word(table, "cache", raw.cache, &caches).unwrap_or(volume.cache);
        volume.read_only = raw.read_only.is_some_and(Spanned::into_inner);
        volume.thin = raw.thin.map(Spanned::into_inner);
        volume.queue_depth = self.number(table, "queue_depth", raw.queue_depth, 1..=65_536);
        volume.device_depth = self.number(table, "device_depth", raw.device_depth, 1..=4096);
        if raw.io_timeout.is_some() {
            let limits = Duration::from_secs(1)..=Duration::from_secs(3600);
            volume.io_timeout =
                Some(self.time(table, "io_timeout", raw.io_timeout, limits, array.io_timeout));
        }
        let spread = raw.spread.as_ref().map(Spanned::span);
        volume.spread = self.number(table, "spread", raw.spread, 1..=64).unwrap_or(1);
        if let Some(span) = spread.filter(|_| volume.spread > 1 && !can_spread(&volume)) {
            let at = At { span, key: format!("{table}.spread") };
            self.error(&at, "only a volume for hosts' data, on a device, a file, RAM or null, can be spread");
        }
        volume
    }

    /// A journal is on a device or a file of its own, writes past any cache, and is fully there.
    fn journal(&mut self, place: &At, volume: &mut Volume) {
        if !matches!(volume.backend, Backend::Path(_)) && cfg!(not(feature = "faulty")) {
            self.error(place, "a journal is on a device or a file (path = ...)");
        }
        if volume.size.is_some_and(|size| size < LEAST_JOURNAL) {
            self.error(place, format!("a journal has at least {}", format_size(LEAST_JOURNAL)));
        }
        if volume.read_only {
            self.error(place, "a journal cannot be read-only");
        }
        volume.cache = CacheMode::None;
        volume.thin = Some(false);
    }

    /// A back end that is no path.
    fn memory(&mut self, table: &str, value: Maybe<String>) -> Option<Backend> {
        #[cfg(feature = "faulty")]
        if let Some(spec) = value.as_ref().filter(|value| value.get_ref().starts_with("faulty:")) {
            let (spec, at) = split(table, "backend", spec.clone());
            if let Err(error) = spec.parse::<kagami_faulty::Script>() {
                self.error(&at, error.to_string());
            }
            return Some(Backend::Faulty(spec));
        }
        self.word(table, "backend", value, &[("ram", Backend::Ram), ("null", Backend::Null)])
    }

    fn volume_size(&mut self, place: &At, size: Option<(ByteLen, At)>, volume: &mut Volume) {
        #[cfg(feature = "faulty")]
        let size = match &volume.backend {
            Backend::Faulty(spec) => {
                if let Some((_, at)) = size {
                    self.error(&at, "the specification of the back end has it");
                }
                let at = At { span: place.span.clone(), key: format!("{}.backend", place.key) };
                spec.parse().ok().map(|script: kagami_faulty::Script| (ByteLen(script.size), at))
            }
            _ => size,
        };
        let Some((size, at)) = size else {
            match (&volume.backend, volume.role) {
                (Backend::Ram | Backend::Null, _) => self.error(place, "needs size"),
                (Backend::Path(_), Role::Command) => volume.size = Some(COMMAND_DEVICE),
                _ => {}
            }
            return;
        };
        let block = u64::from(volume.block_size.bytes());
        if size.0 == 0 || !size.0.is_multiple_of(block) {
            self.error(&at, format!("must be a whole number of blocks of {block} bytes, and not none"));
        }
        if volume.role == Role::Command && size < LEAST_COMMAND {
            self.error(&at, "a command device has at least 16448KiB");
        }
        volume.size = Some(size);
    }
}

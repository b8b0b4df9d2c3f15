//! The configuration as text again: for `kagami config export`, and for the objects made at run
//! time, which the tables keep as the file would write them.
//!
//! What is written here is read by [`parse`](super::parse) to an equal configuration; a test with
//! arbitrary configurations holds both together.

use super::model::{
    Array, Backend, CacheMode, Chap, Config, CopyPace, Digest, Group, GroupMode, GroupOptions, Idle,
    Initiator, Operator, Overflow, Owner, Pairs, Peer, Pool, Portal, PortalRole, Role, Virtual, Volume,
};
use super::units::{format_size, format_time};
use kagami_replica::Thresholds;
use kagami_tables::{Object, ObjectKind};
use kagami_types::{BlockSize, ByteLen, Lun};
use std::fmt::Write;
use std::path::Path;

/// The whole configuration, objects made at run time included, as one file.
#[must_use]
pub fn export(config: &Config) -> String {
    let mut out = String::from("[array]\n");
    array(&config.array, &mut out);
    for portal in &config.portals {
        out.push_str("\n[[portal]]\n");
        portal_keys(portal, &mut out);
    }
    for volume in &config.volumes {
        out.push_str("\n[[volume]]\n");
        out.push_str(&volume_keys(volume));
    }
    for peer in &config.peers {
        out.push_str("\n[[peer]]\n");
        out.push_str(&peer_keys(peer));
    }
    for one in &config.virtuals {
        out.push_str("\n[[virtual]]\n");
        out.push_str(&virtual_keys(one));
    }
    for group in &config.groups {
        out.push_str("\n[[group]]\n");
        out.push_str(&group_keys(group));
        options_keys(&group.options, &mut out);
    }
    for initiator in &config.initiators {
        out.push_str("\n[[initiator]]\n");
        out.push_str(&initiator_keys(initiator));
    }
    for operator in &config.operators {
        out.push_str("\n[[operator]]\n");
        operator_keys(operator, &mut out);
    }
    for pool in &config.pools {
        out.push_str("\n[[pool]]\n");
        pool_keys(pool, &mut out);
    }
    out
}

/// What of a configuration was made at run time, as the tables keep it.
#[must_use]
pub fn objects(config: &Config) -> Vec<Object> {
    let object = |kind, name: &str, toml| Object { kind, name: name.to_owned(), toml };
    let mut objects = Vec::new();
    for volume in &config.volumes {
        match (volume.owner, volume.grown) {
            (Owner::RunTime, _) => {
                objects.push(object(ObjectKind::Volume, &volume.name, volume_keys(volume)));
            }
            (Owner::File, Some(size)) => {
                let toml = format!("size = {}\n", text(&format_size(size)));
                objects.push(object(ObjectKind::Growth, &volume.name, toml));
            }
            (Owner::File, None) => {}
        }
    }
    for initiator in &config.initiators {
        match initiator.owner {
            Owner::RunTime => {
                objects.push(object(ObjectKind::Initiator, &initiator.iqn, initiator_keys(initiator)));
            }
            Owner::File if initiator.added.is_empty() => {}
            Owner::File => {
                let toml = format!("luns = {}\n", luns(&initiator.added));
                objects.push(object(ObjectKind::Loan, &initiator.iqn, toml));
            }
        }
    }
    for peer in config.peers.iter().filter(|peer| peer.owner == Owner::RunTime) {
        objects.push(object(ObjectKind::Peer, &peer.name, peer_keys(peer)));
    }
    for one in config.virtuals.iter().filter(|one| one.owner == Owner::RunTime) {
        objects.push(object(ObjectKind::Virtual, &one.name, virtual_keys(one)));
    }
    for group in &config.groups {
        if group.pairs.as_ref().is_some_and(|pairs| pairs.owner == Owner::RunTime) {
            let mut keys = group_keys(group);
            // Those of a group that the file names are the file's.
            if group.owner == Owner::RunTime {
                options_keys(&group.options, &mut keys);
            }
            objects.push(object(ObjectKind::Group, &group.name, keys));
        }
    }
    objects
}

/// A text in quotes.
fn text(value: &str) -> String {
    toml::Value::String(value.to_owned()).to_string()
}

fn path(value: &Path) -> String {
    text(&value.to_string_lossy())
}

fn luns(list: &[Lun]) -> String {
    let numbers: Vec<_> = list.iter().map(|lun| lun.number().to_string()).collect();
    format!("[{}]", numbers.join(", "))
}

fn line(out: &mut String, key: &str, value: impl std::fmt::Display) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{key} = {value}");
}

fn digests(list: &[Digest]) -> String {
    let words = list.iter().map(|digest| match digest {
        Digest::None => "\"none\"",
        Digest::Crc32c => "\"crc32c\"",
    });
    format!("[{}]", words.collect::<Vec<_>>().join(", "))
}

fn array(array: &Array, out: &mut String) {
    let size = |len| text(&format_size(len));
    let time = |duration| text(&format_time(duration));
    line(out, "name", text(&array.name));
    line(out, "iqn", text(&array.iqn));
    line(out, "data", path(&array.data));
    if let Some(cores) = &array.cores {
        line(out, "cores", format!("{cores:?}"));
    }
    line(out, "cache", size(array.cache));
    line(out, "ram", size(array.ram));
    if let Some(metrics) = array.metrics {
        line(out, "metrics", text(&metrics.to_string()));
    }
    if let Some(admin) = &array.admin {
        line(out, "admin", path(admin));
    }
    line(out, "idle", text(if array.idle == Idle::Spin { "spin" } else { "adaptive" }));
    line(out, "congestion", text(array.congestion.as_deref().unwrap_or("system")));
    line(out, "header_digest", digests(&array.header_digest));
    line(out, "data_digest", digests(&array.data_digest));
    line(out, "nop_interval", time(array.nop_interval));
    line(out, "nop_timeout", time(array.nop_timeout));
    line(out, "login_timeout", time(array.login_timeout));
    line(out, "io_timeout", time(array.io_timeout));
    line(out, "stop_timeout", time(array.stop_timeout));
    line(out, "max_sessions", array.max_sessions);
    line(out, "max_connections", array.max_connections);
    line(out, "connections_per_session", array.connections_per_session);
    line(out, "queue_depth", array.queue_depth);
    line(out, "tasks", array.tasks);
    line(out, "max_volumes", array.max_volumes);
    line(out, "huge_pages", array.huge_pages);
    line(out, "first_burst", text(&format!("{}B", array.first_burst)));
    line(out, "max_burst", text(&format!("{}B", array.max_burst)));
}

fn portal_keys(portal: &Portal, out: &mut String) {
    line(out, "address", text(&portal.address.to_string()));
    match portal.role {
        PortalRole::Both => {}
        PortalRole::Host => line(out, "role", "\"host\""),
        PortalRole::Peer => line(out, "role", "\"peer\""),
    }
    if portal.open {
        line(out, "auth", "\"none\"");
    }
}

fn volume_keys(volume: &Volume) -> String {
    let mut out = String::new();
    line(&mut out, "lun", volume.lun.number());
    line(&mut out, "name", text(&volume.name));
    let mut size = volume.size;
    match &volume.backend {
        Backend::Path(place) => line(&mut out, "path", path(place)),
        #[cfg(feature = "faulty")]
        Backend::Faulty(_) => {
            line(&mut out, "backend", text(&volume.backend.to_string()));
            // The specification has it.
            size = None;
        }
        other => line(&mut out, "backend", text(&other.to_string())),
    }
    if let Some(size) = size.take() {
        line(&mut out, "size", text(&format_size(size)));
    }
    if volume.block_size != BlockSize::B512 {
        line(&mut out, "block_size", volume.block_size.bytes());
    }
    if volume.cache != CacheMode::WriteBack {
        line(&mut out, "cache", text(volume.cache.as_str()));
    }
    if volume.read_only {
        line(&mut out, "read_only", true);
    }
    if volume.role != Role::Plain {
        line(&mut out, "role", text(volume.role.as_str()));
    }
    if let Some(thin) = volume.thin {
        line(&mut out, "thin", thin);
    }
    if let Some(depth) = volume.queue_depth {
        line(&mut out, "queue_depth", depth);
    }
    if let Some(depth) = volume.device_depth {
        line(&mut out, "device_depth", depth);
    }
    if let Some(time) = volume.io_timeout {
        line(&mut out, "io_timeout", text(&format_time(time)));
    }
    if volume.spread != 1 {
        line(&mut out, "spread", volume.spread);
    }
    out
}

fn chap_key(chap: Option<&Chap>, out: &mut String) {
    let Some(Chap { credential, mutual }) = chap else { return };
    let mut value =
        format!("user = {}, secret_file = {}", text(&credential.user), path(&credential.secret_file));
    if let Some(mutual) = mutual {
        let (user, file) = (text(&mutual.user), path(&mutual.secret_file));
        // Writing to a String cannot fail.
        let _ = write!(value, ", mutual = {{ user = {user}, secret_file = {file} }}");
    }
    line(out, "chap", format!("{{ {value} }}"));
}

fn initiator_keys(initiator: &Initiator) -> String {
    let mut out = String::new();
    line(&mut out, "iqn", text(&initiator.iqn));
    line(&mut out, "luns", luns(&initiator.luns));
    line(&mut out, "rights", text(initiator.rights.as_str()));
    chap_key(initiator.chap.as_ref(), &mut out);
    out
}

fn peer_keys(peer: &Peer) -> String {
    let mut out = String::new();
    line(&mut out, "name", text(&peer.name));
    line(&mut out, "iqn", text(&peer.iqn));
    let portals: Vec<_> = peer.portals.iter().map(|portal| text(&portal.to_string())).collect();
    line(&mut out, "portals", format!("[{}]", portals.join(", ")));
    if let Some(time) = peer.io_timeout {
        line(&mut out, "io_timeout", text(&format_time(time)));
    }
    if peer.connections != 1 {
        line(&mut out, "connections", peer.connections);
    }
    line(&mut out, "orders", text(peer.orders.as_str()));
    line(&mut out, "luns", luns(&peer.luns));
    chap_key(peer.chap.as_ref(), &mut out);
    out
}

fn virtual_keys(one: &Virtual) -> String {
    let mut out = String::new();
    // What follows from the rest is not written.
    if one.name != format!("{}:{}", one.peer, one.mapped_lun.number()) {
        line(&mut out, "name", text(&one.name));
    }
    line(&mut out, "lun", one.lun.number());
    line(&mut out, "peer", text(&one.peer));
    line(&mut out, "mapped_lun", one.mapped_lun.number());
    if one.role == Role::Command {
        line(&mut out, "role", text("command"));
    }
    out
}

fn group_keys(group: &Group) -> String {
    let mut out = String::new();
    line(&mut out, "name", text(&group.name));
    line(&mut out, "peer", text(&group.peer));
    let Some(Pairs { uuid, peer_uuid, journal, peer_journal, journal_size, side, fresh, pairs, .. }) =
        &group.pairs
    else {
        return out;
    };
    line(&mut out, "uuid", text(&uuid.to_string()));
    line(&mut out, "peer_uuid", text(&peer_uuid.to_string()));
    line(&mut out, "journal", journal.number());
    line(&mut out, "peer_journal", peer_journal.number());
    line(&mut out, "journal_size", text(&format_size(*journal_size)));
    line(&mut out, "side", text(side.as_str()));
    if *fresh {
        line(&mut out, "fresh", true);
    }
    let pairs: Vec<_> =
        pairs.iter().map(|pair| format!("[{}, {}]", pair.lun.number(), pair.peer_lun.number())).collect();
    line(&mut out, "pairs", format!("[{}]", pairs.join(", ")));
    out
}

fn options_keys(options: &GroupOptions, out: &mut String) {
    let default = GroupOptions::default();
    let time = |duration| text(&format_time(duration));
    if options.mode == GroupMode::Host {
        line(out, "mode", text("host"));
    }
    if let Overflow::Slow(most) = options.overflow {
        line(out, "overflow", text(&format!("slow:{}", format_time(most))));
    }
    if options.hold != default.hold {
        line(out, "hold", time(options.hold));
    }
    if options.bandwidth != default.bandwidth {
        line(out, "bandwidth", text(&format_size(options.bandwidth)));
    }
    if options.secondary_reads {
        line(out, "secondary_access", text("read"));
    }
    if options.restart_wait != default.restart_wait {
        line(out, "restart_wait", time(options.restart_wait));
    }
    if !options.serves_alone {
        line(out, "alone", text("wait"));
    }
    if options.swap_hold != default.swap_hold {
        line(out, "swap_hold", time(options.swap_hold));
    }
    if options.silence != default.silence {
        line(out, "silence", time(options.silence));
    }
    if options.swap_lag != default.swap_lag {
        line(out, "swap_lag", time(options.swap_lag));
    }
    if options.pace != default.pace {
        line(out, "pace", text(&pace(options.pace)));
    }
    if options.thresholds != default.thresholds {
        line(out, "thresholds", text(&thresholds(&options.thresholds)));
    }
    if options.memory != default.memory {
        line(out, "memory", text(&format_size(options.memory)));
    }
}

fn pace(pace: CopyPace) -> String {
    match pace {
        CopyPace::Full => "full".to_owned(),
        CopyPace::Gentle => "gentle".to_owned(),
        CopyPace::Rate(rate) => format_size(ByteLen(rate.get())),
    }
}

fn thresholds(thresholds: &Thresholds) -> String {
    let list: Vec<_> = thresholds.iter().map(|percent| percent.to_string()).collect();
    if list.is_empty() { "none".to_owned() } else { list.join(",") }
}

/// All options of a group by the names and values that they have in a file.
pub fn options(options: &GroupOptions) -> Vec<(&'static str, String)> {
    let word = |is_second: bool, words: [&str; 2]| words[usize::from(is_second)].to_owned();
    let time = format_time;
    vec![
        ("mode", word(options.mode == GroupMode::Host, ["poller", "host"])),
        (
            "overflow",
            match options.overflow {
                Overflow::Suspend => "suspend".to_owned(),
                Overflow::Slow(most) => format!("slow:{}", time(most)),
            },
        ),
        ("hold", time(options.hold)),
        ("bandwidth", format_size(options.bandwidth)),
        ("secondary_access", word(options.secondary_reads, ["none", "read"])),
        ("restart_wait", time(options.restart_wait)),
        ("alone", word(!options.serves_alone, ["serve", "wait"])),
        ("swap_hold", time(options.swap_hold)),
        ("silence", time(options.silence)),
        ("swap_lag", time(options.swap_lag)),
        ("pace", pace(options.pace)),
        ("thresholds", thresholds(&options.thresholds)),
        ("memory", format_size(options.memory)),
    ]
}

fn pool_keys(pool: &Pool, out: &mut String) {
    line(out, "name", text(&pool.name));
    line(out, "path", path(&pool.path));
    line(out, "size", text(&format_size(pool.size)));
}

fn operator_keys(operator: &Operator, out: &mut String) {
    line(out, "name", text(&operator.name));
    line(out, "key_file", path(&operator.key_file));
    line(out, "rights", text(operator.rights.as_str()));
}

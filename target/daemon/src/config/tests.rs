//! Golden errors, the contract's own example, and arbitrary text.

use super::*;
use kagami_tables::{Object, ObjectKind};
use kagami_types::{BlockSize, ByteLen, Lun};
use proptest::prelude::*;

const HEAD: &str = "[array]\nname = \"a\"\ndata = \"d\"\n";

fn refused(text: &str) -> String {
    parse(text, "k.toml").unwrap_err().to_string()
}

fn with(rest: &str) -> String {
    format!("{HEAD}{rest}")
}

#[test]
fn the_least_configuration_has_every_default() {
    let config = parse(HEAD, "k.toml").unwrap();
    assert_eq!(config.array.iqn, "iqn.2026-11.io.kagami:a");
    assert_eq!(config.array.cache, ByteLen(256 << 20));
    assert_eq!(config.portals.len(), 1);
    assert_eq!(config.portals[0].address, "127.0.0.1:3260".parse().unwrap());
    assert!(config.volumes.is_empty() && config.notes.is_empty());
}

#[test]
fn volumes_are_read() {
    let text = with(
        "[[volume]]\nlun = 0\nname = \"db\"\npath = \"/dev/nvme0n1\"\nsize = \"10GiB\"\nblock_size = 4096\n\
         cache = \"none\"\nread_only = true\n\
         [[volume]]\nlun = 9\nname = \"scratch\"\nbackend = \"ram\"\nsize = \"256MiB\"\n\
         [[volume]]\nlun = 10\nname = \"orders\"\nrole = \"command\"\n",
    );
    let config = parse(&text, "k.toml").unwrap();
    let [db, scratch, orders] = config.volumes.as_slice() else { panic!("three volumes") };
    assert_eq!(db.block_size, BlockSize::B4096);
    assert_eq!(db.cache, CacheMode::None);
    assert!(db.read_only);
    assert_eq!(db.site, Site { file: "k.toml".into(), line: 4, key: "volume[0]".into() });
    assert_eq!(scratch.backend, Backend::Ram);
    assert_eq!(orders.role, Role::Command);
    assert_eq!(orders.size, Some(COMMAND_DEVICE));
    assert_eq!(orders.backend, Backend::Path("d/command.img".into()));
    assert!(config.notes.is_empty());
}

#[test]
fn errors_name_file_line_key_and_reason() {
    let volume = |rest: &str| with(&format!("[[volume]]\nlun = 0\nname = \"v\"\n{rest}"));
    let null = "backend = \"null\"\nsize = \"1MiB\"\n";
    let cases: &[(String, &str)] = &[
        (with("colour = 1\n"), "k.toml:4: array.colour: unknown field `colour`"),
        (
            with("[[volume]]\nlun = \"x\"\nname = \"v\"\n"),
            "k.toml:5: volume[0].lun: invalid type: string \"x\"",
        ),
        (with("[[volume]]\nname = \"v\"\n"), "k.toml:4: volume[0]: missing field `lun`"),
        ("[array\n".into(), "k.toml:1: "),
        (String::new(), "k.toml:1: file: missing field `array`"),
        ("[array]\n".into(), "k.toml:1: array: name is missing\nk.toml:1: array: data is missing"),
        (with("cache = \"1GB\"\n"), "k.toml:4: array.cache: \"GB\" is no unit of size"),
        (with("idle = \"often\"\n"), "k.toml:4: array.idle: \"often\" is not one of \"adaptive\", \"spin\""),
        (with("cores = [0, 0]\n"), "k.toml:4: array.cores[1]: the CPU is already in the list"),
        (with("cores = []\n"), "k.toml:4: array.cores: name at least one CPU"),
        (
            with("listen = [\"localhost\"]\n"),
            "k.toml:4: array.listen[0]: \"localhost\" is not an address and port",
        ),
        (
            with("listen = [\"127.0.0.1:1\", \"127.0.0.1:1\"]\n"),
            "k.toml:4: array.listen[1]: the address is already used in line 4",
        ),
        (with("listen = []\n"), "k.toml: array.listen: there is no portal to listen on"),
        (
            with("listen = [\"0.0.0.0:3260\"]\n"),
            "k.toml:4: array.listen[0]: 0.0.0.0:3260 is reachable from beyond this machine and no initiator with chap",
        ),
        (with("header_digest = \"md5\"\n"), "k.toml:4: array.header_digest: \"md5\" is not one of"),
        (
            with("max_burst = \"64KiB\"\nfirst_burst = \"128KiB\"\n"),
            "k.toml:5: array.first_burst: must not be more",
        ),
        (with("queue_depth = 0\n"), "k.toml:4: array.queue_depth: must be 1 to 4096"),
        (
            with("nop_timeout = \"5\"\n"),
            "k.toml:4: array.nop_timeout: \"5\" has no unit; times take ms, s, m, h",
        ),
        (with("iqn = \"IQN.x\"\n"), "k.toml:4: array.iqn: an iSCSI name is written in lower case"),
        (volume(""), "k.toml:4: volume[0]: needs path, or backend"),
        (volume("backend = \"ram\"\n"), "k.toml:4: volume[0]: needs size"),
        (
            volume("path = \"/x\"\nbackend = \"ram\"\nsize = \"1MiB\"\n"),
            "k.toml:4: volume[0]: has both path and backend",
        ),
        (volume("path = \"/x\"\nblock_size = 520\n"), "k.toml:8: volume[0].block_size: must be 512 or 4096"),
        (
            volume("path = \"/x\"\nsize = \"1000B\"\n"),
            "k.toml:8: volume[0].size: must be a whole number of blocks of 512 bytes",
        ),
        (
            volume(&format!("{null}[[volume]]\nlun = 0\nname = \"w\"\n{null}")),
            "k.toml:10: volume[1].lun: LUN 0 is already used in line 5",
        ),
        (
            volume(&format!("{null}[[volume]]\nlun = 1\nname = \"v\"\n{null}")),
            "k.toml:11: volume[1].name: the name is already used in line 6",
        ),
        (
            with("[[volume]]\nlun = 16384\nname = \"v\"\nbackend = \"null\"\nsize = \"1MiB\"\n"),
            "a LUN is 0 to 16383",
        ),
        (volume("role = \"command\"\nspread = 2\n"), "volume[0].spread: only a volume for hosts' data"),
        (volume(&format!("{null}spread = 65\n")), "volume[0].spread: must be 1 to 64"),
        (
            volume("path = \"/x\"\nrole = \"journal\"\nsize = \"1MiB\"\n"),
            "k.toml:4: volume[0]: a journal has at least 16MiB",
        ),
        (volume(&format!("{null}role = \"journal\"\n")), "volume[0]: a journal is on a device or a file"),
        (with("[[group]]\nname = \"g\"\npeer = \"x\"\n"), "k.toml:6: group[0].peer: there is no peer \"x\""),
        (
            with("[[group]]\nname = \"g\"\npeer = \"x\"\npace = \"quick\"\n"),
            "k.toml:7: group[0].pace: \"quick\" is neither \"full\", \"gentle\" nor bytes a second such as \"50MiB\"",
        ),
        (
            with("[[group]]\nname = \"g\"\npeer = \"x\"\npace = \"4KiB\"\n"),
            "k.toml:7: group[0].pace: a copy has at least 1MiB a second",
        ),
        (
            with("[[group]]\nname = \"g\"\npeer = \"x\"\nthresholds = \"90,50\"\n"),
            "k.toml:7: group[0].thresholds: \"90,50\" is neither \"none\" nor up to 4 ascending shares",
        ),
        (
            with("[[group]]\nname = \"g\"\npeer = \"x\"\njournal = 1\n"),
            "k.toml:4: group[0]: uuid, peer_uuid, journal, peer_journal, journal_size and pairs go together",
        ),
        (
            with("[[initiator]]\niqn = \"iqn.2026-11.io.kagami:h\"\nluns = [7]\n"),
            "k.toml:6: initiator[0].luns: there is no volume with LUN 7",
        ),
        (
            with("[[virtual]]\nlun = 3\npeer = \"osaka\"\nmapped_lun = 1\n"),
            "k.toml:6: virtual[0].peer: there is no peer \"osaka\"",
        ),
    ];
    for (text, want) in cases {
        let got = refused(text);
        assert!(got.contains(want), "for:\n{text}\nwant: {want}\ngot:  {got}");
        assert!(got.lines().all(|line| line.starts_with("k.toml:")), "{got}");
    }
}

#[test]
fn the_back_end_for_tests_is_known_to_its_own_builds_only() {
    let volume =
        |spec, rest| with(&format!("[[volume]]\nlun = 0\nname = \"v\"\nbackend = \"{spec}\"\n{rest}"));
    let good = volume("faulty:size=1MiB,read_error=8-15", "");
    if cfg!(feature = "faulty") {
        let config = parse(&good, "k.toml").unwrap();
        assert_eq!(config.volumes[0].size, Some(ByteLen(1 << 20)));
        assert_eq!(config.volumes[0].backend.to_string(), "faulty:size=1MiB,read_error=8-15");
        let wrong = refused(&volume("faulty:size=1MiB,colour=red", ""));
        assert_eq!(wrong, "k.toml:7: volume[0].backend: unknown word `colour`");
        let twice = refused(&volume("faulty:size=1MiB", "size = \"1MiB\"\n"));
        assert!(twice.starts_with("k.toml:8: volume[0].size: the specification"), "{twice}");
        assert!(
            refused(&volume("faulty:size=1000B", "")).contains("volume[0].backend: must be a whole number")
        );
    } else {
        assert!(refused(&good).contains(
            "k.toml:7: volume[0].backend: \"faulty:size=1MiB,read_error=8-15\" is not one of \"ram\", \"null\""
        ));
    }
}

#[test]
fn an_open_portal_is_taken_where_it_is_written() {
    let portal = "[[portal]]\naddress = \"0.0.0.0:3260\"\nauth = \"none\"\n";
    let config = parse(&with(portal), "k.toml").unwrap();
    assert_eq!(config.portals.len(), 1, "the default portal is replaced");
    assert!(config.portals[0].open && !config.portals[0].is_loopback());
    assert!(parse(&with("auth = \"none\"\nlisten = [\"0.0.0.0:3260\"]\n"), "k.toml").is_ok());
    let chap = "listen = [\"0.0.0.0:3260\"]\n[[volume]]\nlun = 0\nname = \"v\"\nbackend = \"null\"\nsize = \"1MiB\"\n\
                [[initiator]]\niqn = \"iqn.2026-11.io.kagami:h\"\nluns = [0]\nchap = { user = \"u\", secret_file = \"s\" }\n";
    assert!(parse(&with(chap), "k.toml").is_ok());
}

#[test]
fn the_contracts_example_is_understood() {
    let text = include_str!("../../tests/contract.toml");
    let config = parse(text, "contract.toml").unwrap();
    assert_eq!(config.groups[0].options, GroupOptions::default());
    assert!(config.groups[0].pairs.is_none() && config.volumes[3].role == Role::Journal);
}

#[test]
fn a_thousand_volumes_are_read_quickly() {
    let mut text = HEAD.to_owned();
    for lun in 0..1000 {
        text += &format!("[[volume]]\nlun = {lun}\nname = \"v{lun}\"\nbackend = \"null\"\nsize = \"1GiB\"\n");
    }
    assert_eq!(parse(&text, "k.toml").unwrap().volumes.len(), 1000);
}

/// Everything that can be written, once.
const RICH: &str = "[array]\nname = \"a\"\ndata = \"/d\"\nlisten = [\"127.0.0.1:0\"]\ncache = \"64MiB\"\nram = \"8MiB\"\n\
    admin = \"/run/a.sock\"\nmetrics = \"127.0.0.1:1\"\ncores = [0, 3]\nidle = \"spin\"\ncongestion = \"system\"\n\
    header_digest = \"crc32c\"\nnop_interval = \"0\"\nlogin_timeout = \"90s\"\nmax_sessions = 7\nmax_burst = \"512KiB\"\n\
    [[portal]]\naddress = \"[::1]:5\"\nrole = \"host\"\n[[portal]]\naddress = \"0.0.0.0:6\"\nauth = \"none\"\n\
    [[volume]]\nlun = 0\nname = \"db\"\npath = \"/dev/with \\\"quotes\\\"\"\nsize = \"1MiB\"\nblock_size = 4096\ncache = \"none\"\n\
    read_only = true\nthin = false\nqueue_depth = 9\ndevice_depth = 8\nio_timeout = \"1500s\"\nspread = 3\n\
    [[volume]]\nlun = 7\nname = \"orders\"\nrole = \"command\"\n\
    [[peer]]\nname = \"osaka\"\nportal = \"127.0.0.1:3261\"\niqn = \"iqn.2026-11.io.kagami:osaka\"\nio_timeout = \"10s\"\nconnections = 4\n\
    orders = \"forward\"\nluns = [0]\nchap = { user = \"u\", secret_file = \"/s\" }\n\
    [[virtual]]\nlun = 30\npeer = \"osaka\"\nmapped_lun = 10\nrole = \"command\"\n\
    [[volume]]\nlun = 20\nname = \"jnl0\"\nrole = \"journal\"\npath = \"/j\"\n\
    [[group]]\nname = \"erp\"\npeer = \"osaka\"\nmode = \"host\"\noverflow = \"slow:20ms\"\nhold = \"90s\"\nbandwidth = \"10MiB\"\n\
    secondary_access = \"read\"\nrestart_wait = \"9s\"\nalone = \"wait\"\nswap_hold = \"5s\"\nsilence = \"7s\"\n\
    pace = \"20MiB\"\nthresholds = \"10,80\"\nmemory = \"8MiB\"\nswap_lag = \"3s\"\n\
    [[initiator]]\niqn = \"iqn.2026-11.io.kagami:h\"\nluns = [0, 7]\nrights = \"operate\"\n\
    chap = { user = \"u\", secret_file = \"/s\", mutual = { user = \"m\", secret_file = \"/t\" } }\n\
    [[operator]]\nname = \"ops\"\nkey_file = \"/k\"\nrights = \"admin\"\n\
    [[pool]]\nname = \"fast\"\npath = \"/srv/fast\"\nsize = \"10GiB\"\n";

fn made() -> Vec<Object> {
    let object = |kind, name: &str, toml: &str| Object { kind, name: name.into(), toml: toml.into() };
    vec![
        object(ObjectKind::Volume, "made", "lun = 9\nname = \"made\"\nbackend = \"ram\"\nsize = \"1MiB\"\n"),
        object(
            ObjectKind::Initiator,
            "iqn.2026-11.io.kagami:i",
            "iqn = \"iqn.2026-11.io.kagami:i\"\nluns = [0, 9]\nrights = \"read\"\n",
        ),
        object(
            ObjectKind::Peer,
            "kobe",
            "name = \"kobe\"\niqn = \"iqn.2026-11.io.kagami:kobe\"\nportals = [\"127.0.0.1:9\", \"[::1]:9\"]\norders = \"none\"\nluns = []\n",
        ),
        object(ObjectKind::Growth, "db", "size = \"2MiB\"\n"),
        object(ObjectKind::Loan, "iqn.2026-11.io.kagami:h", "luns = [9]\n"),
        object(ObjectKind::Virtual, "far", "name = \"far\"\nlun = 31\npeer = \"osaka\"\nmapped_lun = 2\n"),
        object(
            ObjectKind::Group,
            "erp",
            "name = \"erp\"\npeer = \"osaka\"\nuuid = \"00000000-0000-0000-0000-000000000009\"\n\
             peer_uuid = \"00000000-0000-0000-0000-00000000000a\"\njournal = 20\npeer_journal = 21\n\
             journal_size = \"64MiB\"\nside = \"secondary\"\nfresh = true\npairs = [[9, 4]]\n",
        ),
    ]
}

#[test]
fn a_file_that_says_the_same_takes_an_object_over() {
    let config = parse_with(RICH, "k.toml", &made()).unwrap();
    let text = export(&config);
    let taken = parse_with(&text, "export", &made()).unwrap();
    assert_eq!(plain(&taken), plain(&config));
    assert!(objects(&taken).is_empty(), "{:?}", objects(&taken));
    let larger = text.replace(
        "lun = 9\nname = \"made\"\nbackend = \"ram\"\nsize = \"1MiB\"",
        "lun = 9\nname = \"made\"\nbackend = \"ram\"\nsize = \"2MiB\"",
    );
    assert_ne!(larger, text);
    assert!(parse_with(&larger, "export", &made()).unwrap_err().to_string().contains("already used"));
}

/// Without places and owners, which an export does not keep.
fn plain(config: &Config) -> Config {
    let mut config = config.clone();
    let site = Site::default();
    config.array.cores_site = site.clone();
    config.array.cache_site = site.clone();
    config.portals.iter_mut().for_each(|portal| portal.site = site.clone());
    for volume in &mut config.volumes {
        (volume.site, volume.owner, volume.grown) = (site.clone(), Owner::File, None);
    }
    let unplaced = |chap: &mut Option<Chap>| {
        if let Some(chap) = chap {
            chap.credential.site = Site::default();
            chap.mutual.iter_mut().for_each(|mutual| mutual.site = Site::default());
        }
    };
    for initiator in &mut config.initiators {
        (initiator.site, initiator.owner) = (site.clone(), Owner::File);
        initiator.added.clear();
        unplaced(&mut initiator.chap);
    }
    for peer in &mut config.peers {
        (peer.site, peer.owner) = (site.clone(), Owner::File);
        unplaced(&mut peer.chap);
    }
    for group in &mut config.groups {
        (group.site, group.owner) = (site.clone(), Owner::File);
        group.pairs.iter_mut().for_each(|pairs| pairs.owner = Owner::File);
    }
    config.virtuals.iter_mut().for_each(|one| (one.site, one.owner) = (site.clone(), Owner::File));
    config.operators.iter_mut().for_each(|operator| operator.site = site.clone());
    config.pools.iter_mut().for_each(|pool| pool.site = site.clone());
    config
}

#[test]
fn what_was_made_at_run_time_joins_the_file() {
    let config = parse_with(RICH, "k.toml", &made()).unwrap();
    let volume = |name: &str| config.volumes.iter().find(|volume| volume.name == name).unwrap();
    assert_eq!(
        (volume("made").owner, volume("made").site.file.as_str()),
        (Owner::RunTime, "made at run time")
    );
    assert_eq!((volume("db").owner, volume("db").size), (Owner::File, Some(ByteLen(2 << 20))));
    let host = &config.initiators[0];
    assert_eq!((host.luns.len(), host.added.as_slice()), (3, &[Lun::new(9).unwrap()][..]));
    assert_eq!(config.peers.len(), 2);
    // The tables' objects come out as they went in.
    let mut objects = objects(&config);
    objects.sort_by_key(|object| object.kind);
    assert_eq!(objects, made());
    // What the file has by itself meanwhile is not an addition any more.
    let caught_up = RICH.replace("size = \"1MiB\"", "size = \"4MiB\"");
    assert_eq!(parse_with(&caught_up, "k.toml", &made()).unwrap().volumes[0].grown, None);
}

#[test]
fn the_same_name_or_lun_in_both_is_refused() {
    let volume = |lun: u16, name: &str| {
        let toml = format!("lun = {lun}\nname = \"{name}\"\nbackend = \"null\"\nsize = \"1MiB\"\n");
        [Object { kind: ObjectKind::Volume, name: name.into(), toml }]
    };
    let refused = |objects: &[Object]| parse_with(RICH, "k.toml", objects).unwrap_err().to_string();
    assert_eq!(refused(&volume(0, "x")), "made at run time: volume[3].lun: LUN 0 is already used in line 24");
    assert!(refused(&volume(1, "db")).contains("the name is already used in line 25"));
    let broken = [Object { kind: ObjectKind::Volume, name: "x".into(), toml: "colour = 1".into() }];
    assert!(refused(&broken).starts_with("made at run time: volume"), "{}", refused(&broken));
    // A LUN that is no longer there must not keep the array from starting.
    let toml =
        "iqn = \"iqn.2026-11.io.kagami:i\"\nluns = [0, 5]\nchap = { user = \"u\", secret_file = \"/s\" }\n"
            .into();
    let host = [Object { kind: ObjectKind::Initiator, name: "iqn.2026-11.io.kagami:i".into(), toml }];
    let config = parse_with(RICH, "k.toml", &host).unwrap();
    assert_eq!(config.initiators[1].luns, [Lun::ZERO]);
    assert!(config.notes.iter().any(|note| note.contains("LUN 5")), "{:?}", config.notes);
}

#[test]
fn an_export_is_the_same_configuration() {
    for objects in [vec![], made()] {
        let config = parse_with(RICH, "k.toml", &objects).unwrap();
        let text = export(&config);
        let again = parse(&text, "export").unwrap_or_else(|errors| panic!("{errors}\n{text}"));
        assert_eq!(plain(&again), plain(&config), "{text}");
    }
    let embedded = Config::embedded("/d".as_ref());
    assert_eq!(plain(&parse(&export(&embedded), "e").unwrap()), plain(&embedded));
}

proptest! {
    #[test]
    fn any_volume_survives_an_export(
        lun in 0u16..16_384, name in "[a-z0-9_][a-zA-Z0-9._-]{0,62}", path in "/[^\\x00]{1,40}", blocks in 1u64..1 << 40,
        large: bool, cache in "writeback|writethrough|none", read_only: bool, thin: Option<bool>,
        depth in proptest::option::of(1u32..65_536), seconds in proptest::option::of(1u64..3600),
    ) {
        let mut volume = Volume::new(Lun::new(lun).unwrap(), &name, Backend::Path(path.into()));
        volume.block_size = if large { BlockSize::B4096 } else { BlockSize::B512 };
        volume.size = Some(ByteLen(blocks * 4096));
        volume.cache = match cache.as_str() {
            "none" => CacheMode::None,
            "writethrough" => CacheMode::WriteThrough,
            _ => CacheMode::WriteBack,
        };
        (volume.read_only, volume.thin, volume.queue_depth) = (read_only, thin, depth);
        volume.io_timeout = seconds.map(std::time::Duration::from_secs);
        let mut config = parse(HEAD, "k.toml").unwrap();
        config.volumes.push(volume);
        let text = export(&config);
        let again = parse(&text, "export").unwrap_or_else(|errors| panic!("{errors}\n{text}"));
        prop_assert_eq!(plain(&again), plain(&config));
    }

    #[test]
    fn any_object_is_read_or_refused(kind in 0..6usize, name: String, toml in "[a-z]{1,6} = .{0,20}|.{0,40}") {
        let kinds =
            [ObjectKind::Volume, ObjectKind::Initiator, ObjectKind::Peer, ObjectKind::Growth, ObjectKind::Loan, ObjectKind::Group];
        let _ = parse_with(RICH, "k.toml", &[Object { kind: kinds[kind], name, toml }]);
    }

    #[test]
    fn any_text_is_read_or_refused(text: String) {
        let _ = parse(&text, "k.toml");
    }

    #[test]
    fn any_value_in_any_key_is_read_or_refused(
        key in "name|iqn|data|listen|auth|cores|cache|metrics|admin|idle|nop_timeout|tasks|max_sessions|first_burst|header_digest",
        value in prop_oneof![
            any::<i64>().prop_map(|n| n.to_string()),
            any::<String>().prop_map(|s| format!("{s:?}")),
            "\\[(-?[0-9]{1,20},)*\\]",
            "true|1.5|\\{\\}|1979-05-27|nan",
        ],
        cut in 0usize..200,
    ) {
        let text = format!("[array]\n{key} = {value}\n[[volume]]\nlun = {value}\nname = \"x\"\nsize = {value}\n");
        let _ = parse(&text, "k.toml");
        let end = (0..=cut.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let _ = parse(&text[..end], "k.toml");
    }
}

#[test]
fn options_of_a_group_are_set_by_the_names_and_values_that_they_are_shown_with() {
    let mut set = GroupOptions::default();
    let values =
        ["host", "slow:20ms", "2m", "10MiB", "read", "9s", "wait", "5s", "7s", "3s", "50MiB", "none", "8MiB"];
    for (key, value) in GroupOptions::KEYS.into_iter().zip(values) {
        set.set(key, value).unwrap();
    }
    let shown = group_options(&set);
    let wanted: Vec<_> = GroupOptions::KEYS.into_iter().zip(values.map(str::to_owned)).collect();
    assert_eq!(shown, wanted);
    for (key, value) in group_options(&GroupOptions::default()) {
        set.set(key, &value).unwrap();
    }
    assert_eq!(set, GroupOptions::default());
    for (key, wrong) in [
        ("pace", "quick"),
        ("pace", "0"),
        ("thresholds", "50;60"),
        ("thresholds", ""),
        ("thresholds", "0"),
        ("colour", "x"),
    ] {
        let refused = set.set(key, wrong).unwrap_err();
        assert!(refused.contains(key), "{refused}");
    }
    assert_eq!(set, GroupOptions::default());
}

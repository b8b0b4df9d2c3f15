//! Orders from end to end over a fake array.

use super::fake::{Fake, OPERATOR};
use super::giver::{Giver, Terms};
use super::verbs::{Verb, give, verb};
use crate::cli::Cli;
use clap::Parser;
use kagami_admin::{Refusal, Reply};
use kagami_orders::{Key, ORDERS, Parameters, Request, Tag};
use kagami_types::Uuid;
use std::time::Duration;

fn terms() -> Terms {
    Terms { timeout: Duration::from_secs(20), operator: None, generation: None, record: None }
}

fn soon() -> Terms {
    Terms { timeout: Duration::from_millis(300), ..terms() }
}

fn signed(key: &[u8]) -> Terms {
    Terms { operator: Some((OPERATOR.to_owned(), Key::new(key).unwrap())), ..terms() }
}

fn asked(words: &str) -> Result<Verb, Refusal> {
    let words = std::iter::once("kagami").chain(words.split(' '));
    verb(&Cli::try_parse_from(words).unwrap().command)
}

fn order(fake: &Fake, terms: Terms, name: &str) -> Result<super::giver::Given, Refusal> {
    let parameters = if name.starts_with("volume-") {
        Parameters::new().text(Tag::Volume, "a").number(Tag::SizeBytes, 1 << 20)
    } else {
        Parameters::new()
    };
    Giver::new(fake.clone(), terms)?.order(name, &parameters)
}

#[test]
fn commands_become_orders() {
    let create =
        asked("volume create db --size 1MiB --lun 3 --initiator iqn.x --initiator iqn.y --pool p").unwrap();
    assert_eq!((create.order, create.array), ("volume-create", None));
    let parameters = create.parameters;
    assert_eq!(parameters.get_number(Tag::SizeBytes), Some(1 << 20));
    assert_eq!((parameters.get_u16(Tag::Lun), parameters.texts(Tag::Initiator).count()), (Some(3), 2));
    let resize = asked("volume resize osaka:7 --size 2MiB").unwrap();
    assert_eq!((resize.order, resize.array.as_deref()), ("volume-resize", Some("osaka")));
    assert_eq!(asked("volume delete db:x").unwrap().array, None);
    let add = asked("lun map add far --peer osaka --mapped-lun 1 --role command").unwrap();
    assert_eq!((add.order, add.parameters.get_u16(Tag::MappedLun)), ("lun-map-add", Some(1)));
    for unix in ["sessions", "volume rename a b", "volume create a --path /x --size 1MiB", "config export"] {
        assert_eq!(asked(unix).unwrap_err().code, 2, "{unix}");
    }
    assert_eq!(asked("volume create a").unwrap_err().code, 2);
}

#[test]
fn every_order_that_is_built_has_a_command() {
    let commands = [
        "arrays",
        "volumes",
        "luns",
        "tables",
        "stats",
        "volume create a --size 1MiB",
        "volume resize a --size 1MiB",
        "volume delete a --force",
        "volume mask a iqn.x --force",
        "volume unmask a iqn.x",
        "lun map add a --peer b --mapped-lun 1",
        "lun map remove a",
    ];
    let mut verbs: Vec<Verb> = commands.iter().map(|words| asked(words).unwrap()).collect();
    let pairs = [
        "pair delete g --force",
        "pair split g --writable",
        "pair set g pace=50MiB",
        "pair resync g --discard a",
        "pair swap g --dry-run",
        "pair takeover g --force",
        "pair status g",
        "journal acquire g --to-pos 1",
        "journal restore g --to-marker m",
        "journal purge g",
        "marker g m --wait",
    ];
    for words in pairs {
        let cli = Cli::try_parse_from(format!("kagami {words}").split(' ')).unwrap();
        verbs.push(crate::pair::verb(&crate::pair::request(&cli.command).unwrap()).unwrap());
    }
    let id = uuid_text();
    let create = kagami_admin::pair::PairCreate {
        group: "g".into(),
        group_id: id.clone(),
        side: "primary".into(),
        peer: "b".into(),
        peer_id: id,
        pairs: vec![kagami_admin::pair::PairOf { lun: 0, peer_lun: 1, blocks: 8, block_bytes: 512 }],
        journal: 2,
        peer_journal: 3,
        journal_bytes: 1 << 24,
        force: false,
    };
    verbs.push(crate::pair::verb(&kagami_admin::Request::PairCreate(create)).unwrap());
    for order in ORDERS.iter().filter(|order| order.name != "continue" && order.name != "journal-status") {
        let verb = verbs.iter().find(|verb| verb.order == order.name);
        assert!(verb.is_some_and(|verb| order.check(&verb.parameters).is_ok()), "{}", order.name);
    }
}

fn uuid_text() -> String {
    Uuid::from_u128(7).to_string()
}

/// The examples of `docs/formats.md`: rows of bytes with their place, zeroes between.
fn examples() -> Vec<Vec<u8>> {
    let docs = include_str!("../../../../docs/formats.md");
    let (_, rest) = docs.split_once("\n### An example\n").unwrap();
    let (section, _) = rest.split_once("\n## ").unwrap();
    let example = |block: &str| {
        let mut record = Vec::new();
        for row in block.lines().filter(|row| !row.is_empty()) {
            let mut words = row.split_whitespace();
            record.resize(words.next().unwrap().parse().unwrap(), 0);
            record.extend(words.map(|byte| u8::from_str_radix(byte, 16).unwrap()));
        }
        record
    };
    section.split("```").skip(1).step_by(2).map(example).collect()
}

#[test]
fn the_documents_examples_are_what_is_written() {
    let id = |byte| Uuid::from_bytes([byte; 16]);
    let mut request = Request::new(17, id(0x11), id(0x22));
    request.target = id(0xaa);
    request.generation = 7;
    request.parameters = Parameters::new().text(Tag::Volume, "db").number(Tag::SizeBytes, 1 << 30);
    let plain = request.encode().unwrap();
    request.operator = OPERATOR.to_owned();
    request.expires = 1_800_000_000_000;
    let signed = request.encode_signed(&Key::new(b"sixteen bytes ok").unwrap(), id(0xaa)).unwrap();
    assert_eq!(examples(), [plain, signed]);
}

#[test]
fn looks_and_changes() {
    let fake = Fake::new(4);
    assert_eq!(order(&fake, terms(), "arrays").unwrap().data, fake.array().data);
    let changed = order(&fake, terms(), "volume-resize").unwrap();
    assert_eq!((changed.result.generation, changed.result.replayed), (5, false));
    // Each slot was freed.
    assert_eq!(fake.array().slots.in_use(), 0);
    let stale = order(&fake, Terms { generation: Some(4), ..terms() }, "volume-resize").unwrap_err();
    assert!(stale.code == 3 && stale.reason.starts_with("stale"), "{stale:?}");
    assert_eq!(
        order(&fake, Terms { generation: Some(5), ..terms() }, "volume-resize").unwrap().result.generation,
        6
    );
    assert_eq!(fake.array().executed, 2);
}

#[test]
fn a_reply_is_what_the_socket_would_say() {
    let fake = Fake::new(4);
    let mut giver = Giver::new(fake.clone(), terms()).unwrap();
    let reply = give(&mut giver, &asked("arrays").unwrap(), None).unwrap();
    assert!(matches!(reply, Reply::Arrays(report) if report.arrays.is_empty()));
    let reply = give(&mut giver, &asked("volume delete a").unwrap(), None).unwrap();
    assert!(matches!(reply, Reply::Changed(changed) if changed.generation == 5));
    let unknown = give(&mut giver, &asked("volumes").unwrap(), Some("osaka")).unwrap_err();
    assert!(unknown.code == 5 && unknown.reason.contains("osaka"), "{unknown:?}");
    let known =
        br#"{"schema":1,"arrays":[{"name":"tokyo","iqn":"i","role":"local","uuid":null,"version":null,
        "portals":[],"uptime_seconds":null,"volumes":null,"sessions":null,"generation":null}]}"#;
    fake.array().data = known.to_vec();
    assert!(give(&mut giver, &asked("volume delete tokyo:7").unwrap(), None).is_ok());
    fake.array().data = b"{".to_vec();
    assert_eq!(give(&mut giver, &asked("stats").unwrap(), None).unwrap_err().code, 1);
}

#[test]
fn long_edit_data_come_in_parts() {
    let fake = Fake::new(4);
    fake.array().data = (0..100_000_u32).map(|at| b'a' + (at % 23) as u8).collect();
    assert_eq!(order(&fake, terms(), "volumes").unwrap().data, fake.array().data);
}

#[test]
fn restarts_and_cuts_at_every_access_change_it_once() {
    for cut in 1..24 {
        for restart in [false, true] {
            let fake = Fake::new(4);
            if restart {
                fake.array().restart_at = Some(cut);
            } else {
                fake.array().cut_at = Some(cut);
            }
            let changed = order(&fake, terms(), "volume-resize").unwrap();
            assert_eq!(changed.result.generation, 5, "{cut} {restart}");
            assert_eq!(fake.array().executed, 1, "{cut} {restart}");
        }
    }
}

#[test]
fn signatures_are_made_and_demanded() {
    let (ours, theirs) = (b"sixteen bytes ok", b"another key, too");
    let fake = Fake::new(4);
    fake.array().key = Key::new(ours);
    assert_eq!(order(&fake, signed(ours), "volume-resize").unwrap().result.generation, 5);
    assert!(order(&fake, terms(), "volume-resize").unwrap_err().reason.starts_with("signature-needed"));
    let refused = order(&fake, signed(theirs), "volume-resize").unwrap_err();
    assert!(refused.code == 1 && refused.reason.contains("not believed"), "{refused:?}");
    fake.array().forge = true;
    let forged = order(&fake, signed(ours), "volume-resize").unwrap_err();
    assert!(forged.code == 1 && forged.reason.contains("not believed"), "{forged:?}");
}

#[test]
fn an_order_without_an_end_is_a_time_out() {
    let fake = Fake::new(4);
    fake.array().stuck = true;
    let late = order(&fake, soon(), "volumes").unwrap_err();
    assert!(late.code == 4 && late.reason.contains("not known"), "{late:?}");
    // All slots are held by orders without an end.
    for _ in 0..3 {
        let _ = order(&fake, soon(), "volumes");
    }
    let full = order(&fake, soon(), "volumes").unwrap_err();
    assert!(full.code == 4 && full.reason.contains("every slot"), "{full:?}");
    assert_eq!(Giver::new(Fake::new(0), terms()).unwrap_err().code, 2);
}

#[test]
fn a_kept_record_is_given_again_and_done_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("record");
    let keeping = |terms| Terms { record: Some(path.clone()), ..terms };
    let fake = Fake::new(64);
    let first = order(&fake, keeping(Terms { generation: Some(9), ..terms() }), "volume-resize").unwrap_err();
    assert!(first.code == 3 && !path.exists(), "a refused order needs no record: {first:?}");
    fake.array().stuck = true;
    let late = order(&fake, keeping(Terms { generation: Some(4), ..soon() }), "volume-resize").unwrap_err();
    assert!(late.code == 4 && late.reason.contains("--record") && path.exists(), "{late:?}");
    fake.array().stuck = false;
    fake.array().restart_at = Some(0);
    assert_eq!(order(&fake, keeping(terms()), "volume-delete").unwrap_err().code, 2);
    assert!(path.exists());
    let record = std::fs::read(&path).unwrap();
    assert!(!order(&fake, keeping(terms()), "volume-resize").unwrap().result.replayed);
    assert!(!path.exists());
    std::fs::write(&path, record).unwrap();
    assert!(order(&fake, keeping(terms()), "volume-resize").unwrap().result.replayed);
    assert_eq!(fake.array().executed, 1);
    std::fs::write(&path, "nonsense").unwrap();
    assert_eq!(order(&fake, keeping(terms()), "volume-resize").unwrap_err().code, 2);
}

#[test]
fn many_hosts_at_once() {
    let fake = Fake::new(8);
    let hosts: Vec<_> = (0..64)
        .map(|number| {
            let host = fake.host(number);
            std::thread::spawn(move || {
                for _ in 0..3 {
                    order(&host, terms(), "volumes").unwrap();
                    order(&host, terms(), "volume-resize").unwrap();
                }
            })
        })
        .collect();
    for host in hosts {
        host.join().unwrap();
    }
    let array = fake.array();
    assert_eq!((array.executed, array.generation), (192, 196));
}

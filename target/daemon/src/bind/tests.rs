//! Identities: made once, kept, and never given to another device unasked.

use super::*;
use crate::config::parse;
use crate::plan::{Machine, Plan};
use kagami_tables::{Memory, OpenOptions};
use std::fs::{self, File};
use std::path::Path;

struct Bench {
    folder: tempfile::TempDir,
    tables: Tables<Memory>,
}

impl Bench {
    fn new() -> Self {
        let tables = Tables::open_on(Memory::new(), &OpenOptions::new("a")).unwrap();
        Self { folder: tempfile::tempdir().unwrap(), tables }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// Binds, and lets go of the devices again.
    fn bind(&mut self, volumes: &str, adopt: &[&str]) -> Result<Vec<VolumeRecord>, String> {
        let folder = self.folder.path().display();
        let text = format!(
            "[array]\nname = \"a\"\ndata = \"{folder}\"\n{}",
            volumes.replace("DIR", &folder.to_string())
        );
        let plan = Plan::compute(&parse(&text, "t").unwrap(), &Machine::imagined(2)).unwrap();
        let adopt = adopt.iter().map(|name| (*name).to_owned()).collect();
        let options = BindOptions { wait: Duration::ZERO, adopt };
        let bound = bind(&plan.volumes, &mut self.tables, &options).map_err(|error| error.to_string())?;
        Ok(bound.into_iter().map(|volume| volume.record).collect())
    }
}

const DB: &str = "[[volume]]\nlun = 0\nname = \"db\"\npath = \"DIR/db\"\nsize = \"1MiB\"\n";
const RAM: &str = "[[volume]]\nlun = 1\nname = \"r\"\nbackend = \"ram\"\nsize = \"1MiB\"\n";

fn copy(from: &Path, to: &Path) {
    let len = fs::metadata(from).unwrap().len();
    File::create(to).unwrap().set_len(len).unwrap();
}

#[test]
fn identities_are_made_once() {
    let mut bench = Bench::new();
    let both = format!("{DB}{RAM}");
    let first = bench.bind(&both, &[]).unwrap();
    assert_eq!(first.len(), 2);
    assert_ne!(first[0].naa, first[1].naa);
    assert_eq!(first[0].naa, Naa::from_uuid(first[0].uuid));
    let generation = bench.tables.generation();
    assert_eq!(bench.bind(&both, &[]).unwrap(), first);
    assert_eq!(bench.tables.generation(), generation, "nothing new, nothing written");
}

#[test]
fn labels_may_change_and_the_volume_stays() {
    let mut bench = Bench::new();
    let first = bench.bind(DB, &[]).unwrap();
    // Another LUN, another name: found again by its file. And it grows.
    let moved = DB.replace("lun = 0", "lun = 7").replace("\"db\"", "\"orders\"").replace("1MiB", "2MiB");
    let second = bench.bind(&moved, &[]).unwrap();
    assert_eq!((second[0].uuid, second[0].naa), (first[0].uuid, first[0].naa));
    assert_eq!(
        (second[0].name.as_str(), second[0].lun.number(), second[0].size),
        ("orders", 7, ByteLen(2 << 20))
    );
    assert_eq!(bench.tables.state().volumes().count(), 1);
    assert!(bench.bind(&moved.replace("2MiB", "1MiB"), &[]).unwrap_err().contains("can only grow"));
    let blocks = format!("{moved}block_size = 4096\n");
    assert!(bench.bind(&blocks, &[]).unwrap_err().contains("blocks of 512 bytes, which hosts rely on"));
}

#[test]
fn another_file_is_noticed() {
    let mut bench = Bench::new();
    let first = bench.bind(DB, &[]).unwrap();
    let (db, other) = (bench.path("db"), bench.path("other"));
    copy(&db, &other);
    fs::rename(&db, bench.path("away")).unwrap();
    // Gone: an empty file must not stand in for it, nor stay behind.
    assert!(bench.bind(DB, &[]).unwrap_err().contains("is not the device that was recorded"));
    assert!(!db.exists());
    // Another one in its place.
    fs::rename(&other, &db).unwrap();
    let error = bench.bind(DB, &[]).unwrap_err();
    assert!(error.starts_with("t:4: volume[0]: ") && error.contains("--adopt"), "{error}");
    // The operator says so: same volume, new file.
    assert_eq!(bench.bind(DB, &["db"]).unwrap()[0].uuid, first[0].uuid);
    assert!(bench.bind(DB, &[]).is_ok());
}

#[test]
fn a_file_of_another_array_is_refused() {
    let mut bench = Bench::new();
    bench.bind(DB, &[]).unwrap();
    if device::tagged_as(&File::open(bench.path("db")).unwrap()).is_none() {
        return;
    }
    bench.tables = Tables::open_on(Memory::new(), &OpenOptions::new("b")).unwrap();
    assert!(bench.bind(DB, &[]).unwrap_err().contains("belongs to volume"));
    assert!(bench.bind(DB, &["db"]).is_ok());
}

#[test]
fn a_volume_that_left_comes_back_as_itself_unless_its_place_was_taken() {
    let mut bench = Bench::new();
    let both = format!("{DB}{RAM}");
    let first = bench.bind(&both, &[]).unwrap();
    bench.bind(RAM, &[]).unwrap();
    assert_eq!(bench.bind(&both, &[]).unwrap(), first);
    let taken = "[[volume]]\nlun = 0\nname = \"n\"\nbackend = \"null\"\nsize = \"1MiB\"\n";
    bench.bind(taken, &[]).unwrap();
    assert!(bench.tables.state().volume(first[0].uuid).is_none());
    assert!(bench.tables.state().volume(first[1].uuid).is_some());
}

#[test]
fn one_bad_volume_binds_none() {
    let mut bench = Bench::new();
    let bad = format!("{DB}[[volume]]\nlun = 2\nname = \"x\"\npath = \"DIR/none\"\n");
    assert!(bench.bind(&bad, &[]).unwrap_err().contains("does not exist"));
    assert_eq!(bench.tables.state().volumes().count(), 0);
}

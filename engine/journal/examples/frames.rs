//! What making and reading frames costs the processor, by entry of 4 KiB: `cargo run --release --example frames`.
//!
//! Pages go round in a set of 64 MiB, so that data are as cold as a host's are. The checksums alone are measured too:
//! the difference is what the frames cost.
#![forbid(unsafe_code)]

use kagami_journal::{EntryHead, EntryKind, Layout, Parser, Writer, crc32c};
use kagami_memory::{Arena, ArenaPlan, Class, HugePages, Page, Purpose, Scatter};
use kagami_types::{Epoch, JournalPos, Sequence, Time, Uuid};
use std::hint::black_box;
use std::time::Instant;

const PAGES: u64 = 16 << 10;
const ENTRIES: u64 = 1 << 20;

fn main() {
    let plan = ArenaPlan::new(1).with(Class::Page, 20 << 10, 0);
    let pool = match Arena::new(plan, HugePages::Try) {
        Ok(arena) => arena.pool(0),
        Err(error) => return eprintln!("frames: {error}"),
    };
    let mut pages: Vec<Page> = Vec::new();
    while (pages.len() as u64) < PAGES {
        let Some(mut page) = pool.take(Class::Page, Purpose::Internal) else { return };
        page.fill(u8::try_from(pages.len() % 251).unwrap_or(0));
        pages.push(page.freeze());
    }
    let Ok(layout) = Layout::new(1 << 30, 1 << 30) else { return };
    let group = Uuid::from_u128(1);
    let page = |number: u64| &pages[usize::try_from(number * 7919 % PAGES).unwrap_or(0)];

    let begin = Instant::now();
    let mut sum = 0u64;
    for number in 0..ENTRIES {
        sum += u64::from(crc32c(black_box(page(number))));
    }
    black_box(sum);
    let crc = per_entry(begin);

    let begin = Instant::now();
    for number in 0..ENTRIES {
        black_box(entry(number, page(number)));
    }
    let made = per_entry(begin);
    println!("checksum of 4 KiB alone: {crc:.0} ns; a list of one page alone: {made:.0} ns");

    for batch in [1u64, 8, 32, 128, 1024] {
        let mut writer = Writer::new(group, layout, (Epoch(2), Epoch(1)), (0, 0), Sequence(1), 0);
        let mut parser = Parser::new(group, layout, JournalPos { epoch: Epoch(1), offset: 0 });
        let (mut building, mut parsing, mut done) = (0, 0, 0u64);
        let mut kept = Vec::new();
        while done < ENTRIES / 4 {
            let begin = Instant::now();
            for number in 0..batch {
                let (head, data) = entry(done + number, page(done + number));
                black_box(writer.push(head, data, Time(0)));
            }
            while let Some(frame) = writer.next_write(&pool, Time(u64::MAX - 1), 0) {
                writer.written(frame.id, Time(0));
                kept.push(frame);
            }
            writer.set_out(writer.stable().0);
            building += begin.elapsed().as_nanos();
            let begin = Instant::now();
            for frame in kept.drain(..) {
                let short = frame.end - frame.offset - frame.data.len_bytes() as u64;
                if parser.push(frame.offset, frame.data).is_err() {
                    return eprintln!("frames: out of order");
                }
                for _ in 0..short / 4096 {
                    let mut rest = Scatter::new();
                    rest.push_page(page(0).clone());
                    let _ = parser.push(parser.wants(), rest);
                }
                while let Some(frame) = parser.next() {
                    match frame {
                        Ok(frame) => drop(black_box(frame)),
                        Err(error) => return eprintln!("frames: {error}"),
                    }
                }
            }
            parsing += begin.elapsed().as_nanos();
            done += batch;
        }
        #[expect(clippy::cast_precision_loss, reason = "figures for people")]
        let (build, parse) = (building as f64 / done as f64, parsing as f64 / done as f64);
        println!("{batch:5} entries a frame: {build:.0} ns to make, {parse:.0} ns to read, with checksums");
    }
}

fn entry(number: u64, page: &Page) -> (EntryHead, Scatter) {
    let mut data = Scatter::new();
    data.push_page(page.clone());
    let head = EntryHead {
        shift: 12,
        lba: number,
        blocks: 1,
        ..EntryHead::plain(Sequence(number + 1), 0, EntryKind::Write, 4096)
    };
    (head, data)
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn per_entry(begin: Instant) -> f64 {
    begin.elapsed().as_nanos() as f64 / ENTRIES as f64
}

//! `kagami demo`: two arrays on this machine, a pair between them, verified load, a swap and a swap back.
//!
//! | module | what |
//! | --- | --- |
//! | `array` | one of the two: its folder, configuration and process |
//! | `load` | stamped writes through an initiator of our own, and what must be read again |
//! | `interrupt` | what a signal takes away |
//!
//! Everything lies in one temporary folder, which goes with the arrays at the end, also where something fails or we are
//! interrupted.

mod array;
mod interrupt;
mod load;

use crate::ask::millis;
use crate::cli::{Command, PairCommand};
use crate::pair::{Ways, create, seconds};
use array::{Array, Folder};
use interrupt::Children;
use kagami_admin::pair::{Group, Marker, Ordered, PairSwap};
use kagami_admin::{Refusal, Reply, Request};
use load::Load;
use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// Bytes of the pair's volumes.
const SIZE: u64 = 64 << 20;
/// How long an order may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at the lag.
const LOOK: Duration = Duration::from_millis(100);
/// Of these one is shown.
const SHOWN: u32 = 10;

/// The blocks that were written, each with its last stamp.
type Written = HashMap<u64, u64>;

/// The two arrays and what is known of them.
struct Demo {
    tokyo: Array,
    osaka: Array,
    written: Written,
    begun: Instant,
    seconds: Duration,
}

/// Runs it; says with which code to exit.
pub fn run(kagamid: Option<&Path>, keep: bool, load: &str) -> Result<u8, Refusal> {
    let seconds = Duration::from_millis(millis(load)?);
    let program = array::program(kagamid)?;
    let folder = Folder::new()?;
    let children = Children::catch((!keep).then(|| folder.path().to_owned()))?;
    let (tokyo, osaka) = match array::two(&program, folder.path(), SIZE, &children) {
        Ok(two) => two,
        Err(refusal) => {
            // Where it failed because of a signal, that decides how we end.
            drop(children.hold());
            return Err(refusal);
        }
    };
    let mut demo = Demo { tokyo, osaka, written: Written::new(), begun: Instant::now(), seconds };
    let result = demo.all();
    if keep {
        let Demo { tokyo, osaka, .. } = demo;
        println!("kept: {}, and two arrays that serve from it:", folder.keep().display());
        for array in [tokyo, osaka] {
            let socket = array.socket().to_owned();
            let process = array.leave();
            println!("  kagami --via unix:{} pair status   (process {process})", socket.display());
        }
    } else {
        // Both at once: neither waits for what the other asks of it.
        demo.osaka.stop();
        demo.tokyo.end();
        demo.osaka.end();
    }
    // Where it ended because of a signal, that decides how we end.
    drop(children.hold());
    result.map(|()| 0)
}

impl Demo {
    fn say(&self, text: &str) {
        println!("{:5.1} s  {text}", self.begun.elapsed().as_secs_f64());
    }

    fn all(&mut self) -> Result<(), Refusal> {
        self.say(&format!(
            "arrays tokyo (127.0.0.1:{}) and osaka (127.0.0.1:{}) serve",
            self.tokyo.port(),
            self.osaka.port()
        ));
        self.pair()?;
        self.load(false)?;
        self.swap(false)?;
        self.load(true)?;
        self.swap(true)?;
        self.load(false)?;
        self.compare()
    }

    fn ways(&self, array: &Array) -> Result<Ways, Refusal> {
        Ways::socket(array.socket(), PATIENCE)
    }

    /// The array whose volume hosts write.
    fn primary(&self, swapped: bool) -> &Array {
        if swapped { &self.osaka } else { &self.tokyo }
    }

    fn pair(&mut self) -> Result<(), Refusal> {
        let volume = |array: &str| vec![format!("{array}:0")];
        let command = Command::Pair(PairCommand::Create {
            group: Some("demo".to_owned()),
            primary: volume("tokyo"),
            secondary: volume("osaka"),
            journal: "auto".to_owned(),
            secondary_journal: "auto".to_owned(),
            force: false,
            wait: true,
        });
        let mut ways = self.ways(&self.tokyo)?;
        let (ordered, group) = create::create(&command, &mut ways)?;
        self.say(&ordered.what);
        create::wait(&mut ways, &group)?;
        self.say("copied: the pair is in PAIR");
        Ok(())
    }

    /// Verified load on the present primary, with a look at the lag each second.
    fn load(&mut self, swapped: bool) -> Result<(), Refusal> {
        let primary = self.primary(swapped);
        let (name, url) = (primary.name().to_owned(), primary.url(0));
        let mut ways = self.ways(primary)?;
        let load = Load::start(url.clone(), std::mem::take(&mut self.written), SIZE)?;
        let end = Instant::now() + self.seconds;
        let (mut before, mut looks) = (0, 0);
        while Instant::now() < end && !load.has_ended() {
            std::thread::sleep(LOOK.min(end.saturating_duration_since(Instant::now())));
            let now = load.count();
            let group = ways.group(Some("demo".to_owned()))?;
            if group.state == "PSUE" {
                let why = group.last_error.as_deref().unwrap_or("no reason is known");
                return Err(Refusal::failed(format!("the pair was suspended: {why}")));
            }
            load.keep(group.lag_writes.unwrap_or(0));
            looks += 1;
            if looks % SHOWN == 0 {
                self.say(&format!("{name}: {} writes, {}", now - before, lag(&group)));
                before = now;
            }
        }
        let (count, written) = load.stop()?;
        self.written = written;
        let wrong = load::verify(&url, &self.written)?;
        if wrong > 0 {
            return Err(Refusal::failed(format!("{wrong} blocks of {name} do not hold what was written")));
        }
        let marker = Marker { group: None, name: format!("after-{count}"), wait: true };
        let begun = Instant::now();
        ordered(ways.ask(None, Request::Marker(marker))?)?;
        let took = seconds(begun.elapsed().as_secs_f64());
        self.say(&format!(
            "{name}: {count} writes read again and right; all are on the other side {took} later"
        ));
        Ok(())
    }

    fn swap(&mut self, swapped: bool) -> Result<(), Refusal> {
        let (from, to) = (self.primary(swapped), self.primary(!swapped));
        let mut ways = self.ways(from)?;
        let begun = Instant::now();
        let request = PairSwap { group: None, dry_run: false, cancel: false };
        let code = ordered(ways.ask(None, Request::PairSwap(request))?)?.exit_code;
        if code != 10 {
            return Err(Refusal::failed(format!("the swap ended with {code}")));
        }
        let took = begun.elapsed();
        let mut ways = self.ways(to)?;
        create::wait(&mut ways, "demo")?;
        let what = format!(
            "swapped in {}: {} is primary now, {} follows",
            seconds(took.as_secs_f64()),
            to.name(),
            from.name()
        );
        self.say(&what);
        Ok(())
    }

    fn compare(&mut self) -> Result<(), Refusal> {
        let differs = load::compare(&self.tokyo.url(0), &self.osaka.url(0))?;
        if differs > 0 {
            return Err(Refusal::failed(format!("tokyo and osaka differ in {differs} blocks")));
        }
        let wrong = load::verify(&self.osaka.url(0), &self.written)?;
        if wrong > 0 {
            return Err(Refusal::failed(format!("{wrong} blocks of osaka do not hold what was written")));
        }
        self.say(&format!(
            "both sides are equal, block by block; {} blocks hold what was written last",
            self.written.len()
        ));
        Ok(())
    }
}

fn ordered(reply: Reply) -> Result<Ordered, Refusal> {
    match reply {
        Reply::Ordered(ordered) => Ok(ordered),
        _ => Err(Refusal::failed("the array answers something else than what was asked")),
    }
}

fn lag(group: &Group) -> String {
    let lag = group.lag_seconds.map_or_else(|| "unknown".to_owned(), seconds);
    let writes = group.lag_writes.unwrap_or(0);
    format!("{}, lag {lag} ({writes} writes)", group.state)
}

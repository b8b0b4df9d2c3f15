//! A small block server with its hosts, for trying the simulator itself.

mod core;
mod host;

use core::{MiniCore, UNIT};
use host::MiniHost;
use kagami_memory::{Arena, ArenaPlan, Class, HugePages};
use kagami_sim::checker::Checker;
use kagami_sim::{Actor, Array, DiskId, Failure, Options, Report, Rng, Sim, SimIo, World};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

pub const PORTAL: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 3260));

pub struct MiniArray {
    pub arena: Arena,
    pub disk: DiskId,
    pub cores: u16,
}

impl Array for MiniArray {
    type Core = MiniCore;

    fn boot(&mut self, world: &World) -> Result<Vec<(SimIo, MiniCore)>, String> {
        let mut cores = Vec::new();
        for core in 0..self.cores {
            let mut io = world.add_core();
            let listener = io.listen(PORTAL).map_err(|error| error.to_string())?;
            let file = io.open(self.disk).map_err(|error| error.to_string())?;
            cores.push((io, MiniCore::new(self.arena.pool(core), listener, file)));
        }
        Ok(cores)
    }

    fn gone(&mut self, _world: &World) -> Result<(), String> {
        for class in Class::ALL {
            let (free, total) = (self.arena.free(class), self.arena.total(class));
            if free != total {
                return Err(format!("{} pages leaked of {class:?}", total - free));
            }
        }
        Ok(())
    }
}

pub fn arena() -> Arena {
    let plan = ArenaPlan::new(2).with(Class::Page, 512, 0).with(Class::Small, 64, 0);
    Arena::new(plan, HugePages::Off).unwrap()
}

/// Runs the hosts against the server, on a disk of 256 sectors.
pub fn run(
    seed: u64,
    arena: Arena,
    cores: u16,
    tune: impl FnOnce(&mut Options),
) -> Result<Report, Box<Failure>> {
    let mut rng = Rng::new(seed);
    let mut options = Options::random(&mut rng);
    tune(&mut options);
    let mut sim = Sim::new(seed, options);
    let disk = sim.world().add_disk(UNIT, 256);
    let checker = Checker::new(rng.word(), UNIT, 256, false);
    sim.judge(&checker);
    let mut actors: Vec<Box<dyn Actor>> = Vec::new();
    for n in 0..3 {
        actors.push(Box::new(MiniHost::new(checker.clone(), rng.fork(n), 60)));
    }
    let mut array = MiniArray { arena, disk, cores };
    sim.run(&mut array, &mut actors)
}

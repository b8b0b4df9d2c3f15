//! Groups of pairs: their links to the other array, their places on cores, and what the management thread tells them.
//!
//! A group lives at the core of its journal; so do its links, which are virtual volumes that are in no directory. Its
//! volumes are wherever they are. [`Joining`] is what is known of one before, [`Joined`] what is kept of it after.

use super::{Array, Placed, Rules, virtuals};
use crate::plan::{Plan, VirtualPlan};
use kagami_channel::{
    Control, GroupControl, GroupSeed, PairSeed, Shape, UnitAddress, VirtualUnit, WallClock,
};
use kagami_replica::action::OrderResult;
use kagami_replica::mail::VolumeIndex;
use kagami_replica::{FrontPlan, Group, GroupPlan, Options, Order, PlannedVolume, Report};
use kagami_types::{BlockCount, BlockSize, CoreId, Lun, Uuid};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long a core may take to answer a question about a group.
const PATIENCE: Duration = Duration::from_secs(2);
/// The bits of an initiator's session id by which links of groups differ from those of virtual volumes, whose LUNs
/// end below (RFC 7143 11.12.5).
const OF_A_GROUP: u16 = 1 << 14;
/// The same, of a second connection to the same unit.
const SECOND: u16 = 1 << 15;

/// A volume of a group.
#[derive(Clone, Debug)]
pub struct JoiningVolume {
    /// Its number in the group.
    pub index: VolumeIndex,
    /// Its name.
    pub name: String,
    /// Its blocks' size.
    pub block_size: BlockSize,
    /// Its blocks.
    pub blocks: BlockCount,
    /// Commands that it has in service at most.
    pub slots: u32,
    /// The links to its other half.
    pub links: Vec<VirtualPlan>,
}

/// A group that is to be put to work.
#[derive(Clone, Debug)]
pub struct Joining {
    /// What it is made of.
    pub plan: GroupPlan,
    /// The name of its journal volume.
    pub journal: String,
    /// The links to the other array's journal.
    pub links: Vec<VirtualPlan>,
    /// Its volumes.
    pub volumes: Vec<JoiningVolume>,
    /// Its volumes are in use, and not of a group before.
    pub is_new: bool,
    /// The other array's iSCSI name, which may read its volumes.
    pub reader: String,
}

impl Joining {
    /// All links, in the order in which [`Array::link`] makes them.
    fn all_links(&self) -> impl Iterator<Item = &VirtualPlan> {
        self.links.iter().chain(self.volumes.iter().flat_map(|volume| &volume.links))
    }
}

/// A group at work.
#[derive(Debug)]
pub struct Joined {
    name: String,
    journal: UnitAddress,
    volumes: Vec<UnitAddress>,
    links: Vec<UnitAddress>,
    sequencer: Arc<AtomicU64>,
    /// How the first link does, the one to the other array's journal.
    shape: Arc<Shape>,
}

/// Links that a core was asked to make.
#[derive(Debug)]
pub struct Linking {
    core: CoreId,
    answers: Vec<Receiver<Result<u32, String>>>,
    indices: Vec<u32>,
    shapes: Vec<Arc<Shape>>,
}

impl Linking {
    /// Whether all are there, or why not.
    pub fn poll(&mut self) -> Option<Result<(), String>> {
        while let Some(answer) = self.answers.get(self.indices.len()) {
            match answer.try_recv().ok()? {
                Ok(index) => self.indices.push(index),
                Err(reason) => return Some(Err(reason)),
            }
        }
        Some(Ok(()))
    }

    /// Whether the other array let a link log in; that it shows its volumes too comes later.
    #[must_use]
    pub fn has_logged_in(&self) -> bool {
        self.shapes.first().is_some_and(|shape| shape.status().logins > 0)
    }

    /// How the link to the other array's journal does: its phase in a word, and what was wrong last.
    #[must_use]
    pub fn state(&self) -> (&'static str, Option<String>) {
        let Some(shape) = self.shapes.first() else { return ("down", None) };
        let status = shape.status();
        (status.phase.as_str(), status.reason.map(|reason| reason.to_string()))
    }
}

/// What cores said to the making of a group.
pub type Answers = Vec<(CoreId, Receiver<Result<(), String>>)>;

/// Everything that is to be put into the boxes of cores for a group, in order.
fn seeds(joining: &Joining, joined: &mut Joined, links: &[u32]) -> (Vec<(CoreId, Control)>, Answers) {
    let mut links = links.iter().copied();
    let far_journal: Vec<u32> = links.by_ref().take(joining.links.len()).collect();
    let far_volumes = joining
        .volumes
        .iter()
        .map(|volume| (volume.index, links.by_ref().take(volume.links.len()).collect()))
        .collect();
    let mut controls = Vec::new();
    let mut answers = Vec::new();
    let group = Group::new(joining.plan.clone());
    joined.sequencer = group.sequencer();
    let joined = &*joined;
    let volumes = joining.volumes.iter().zip(&joined.volumes);
    let seed = GroupSeed {
        group,
        volumes: volumes.clone().map(|(volume, address)| (volume.index, *address)).collect(),
        far_journal,
        far_volumes,
        clock: WallClock::new(|_| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
        }),
    };
    let mut put = |address: UnitAddress, control| {
        controls.push((address.core, Control::Group { unit: address.index, control }));
    };
    let (answer, heard) = sync_channel(1);
    put(joined.journal, GroupControl::Add { seed: Box::new(seed), answer });
    answers.push((joined.journal.core, heard));
    for (volume, address) in volumes {
        let (answer, heard) = sync_channel(1);
        let seed = Box::new(pair_seed(joining, joined, volume));
        put(*address, GroupControl::Pair { seed, answer });
        answers.push((address.core, heard));
    }
    put(joined.journal, GroupControl::Start);
    (controls, answers)
}

/// The front of a volume.
fn pair_seed(joining: &Joining, joined: &Joined, volume: &JoiningVolume) -> PairSeed {
    let front = FrontPlan {
        index: volume.index,
        block_size: volume.block_size,
        blocks: volume.blocks,
        sequencer: Arc::clone(&joined.sequencer),
        slots: u16::try_from(volume.slots).unwrap_or(u16::MAX),
    };
    PairSeed {
        front,
        group: joined.journal,
        is_new: joining.is_new,
        reader: Some(joining.reader.as_str().into()),
    }
}

/// A link, with the unit that it makes.
fn link(
    one: &VirtualPlan,
    nth: usize,
    plan: &Plan,
    rules: &Rules,
    array: Uuid,
) -> Result<(VirtualUnit, Arc<Shape>), String> {
    let shape = Arc::new(Shape::default());
    let session = one.mapped.number() | OF_A_GROUP | if nth > 0 { SECOND } else { 0 };
    let unit = virtuals::build_as(one, plan, rules, array, Arc::clone(&shape), Some(session))?;
    Ok((unit, shape))
}

/// All links of a group.
fn links(
    joining: &Joining,
    plan: &Plan,
    rules: &Rules,
    array: Uuid,
) -> Result<Vec<(VirtualUnit, Arc<Shape>)>, String> {
    let mut seen: Vec<Lun> = Vec::new();
    let mut made = Vec::new();
    for one in joining.all_links() {
        let nth = seen.iter().filter(|lun| **lun == one.mapped).count();
        seen.push(one.mapped);
        made.push(link(one, nth, plan, rules, array)?);
    }
    Ok(made)
}

fn find(placed: &[Placed], joining: &Joining) -> Result<(UnitAddress, Vec<UnitAddress>), String> {
    let address = |name: &str| {
        let found = placed.iter().find(|placed| placed.name == name);
        found.map(|placed| placed.address).ok_or_else(|| format!("volume {name} is not served"))
    };
    let volumes = joining.volumes.iter().map(|volume| address(&volume.name)).collect::<Result<_, _>>()?;
    Ok((address(&joining.journal)?, volumes))
}

/// What a start puts into the boxes of cores before they run.
pub(super) struct Begun {
    pub(super) joined: Vec<Joined>,
    pub(super) controls: Vec<(CoreId, Control)>,
    pub(super) answers: Vec<(String, Answers)>,
}

/// Groups of a start: their links join those of `far`, by core.
pub(super) fn begin(
    joinings: &[Joining],
    placed: &[Placed],
    far: &mut [Vec<VirtualUnit>],
    plan: &Plan,
    rules: &Rules,
    array: Uuid,
) -> Result<Begun, (String, String)> {
    let mut begun = Begun { joined: Vec::new(), controls: Vec::new(), answers: Vec::new() };
    for joining in joinings {
        let name = &joining.plan.name;
        let fail = |reason| (name.clone(), reason);
        let (journal, volumes) = find(placed, joining).map_err(fail)?;
        let list =
            far.get_mut(journal.core.index()).ok_or_else(|| fail("its core is not there".to_owned()))?;
        let mut joined = Joined {
            name: name.clone(),
            journal,
            volumes,
            links: Vec::new(),
            sequencer: Arc::default(),
            shape: Arc::default(),
        };
        let mut indices = Vec::new();
        for (unit, shape) in links(joining, plan, rules, array).map_err(fail)? {
            if indices.is_empty() {
                joined.shape = shape;
            }
            let address = VirtualUnit::address(journal.core, u32::try_from(list.len()).unwrap_or(u32::MAX));
            indices.push(address.index);
            joined.links.push(address);
            list.push(unit);
        }
        let (controls, answers) = seeds(joining, &mut joined, &indices);
        begun.controls.extend(controls);
        begun.answers.push((name.clone(), answers));
        begun.joined.push(joined);
    }
    Ok(begun)
}

impl Array {
    /// Asks the core of a group's journal for its links.
    ///
    /// # Errors
    /// They cannot be made, or the core cannot be told.
    pub fn link(
        &self,
        joining: &Joining,
        plan: &Plan,
        rules: &Rules,
        array: Uuid,
    ) -> Result<Linking, String> {
        let (journal, _) = find(&self.placed, joining)?;
        let core = journal.core;
        let mut linking = Linking { core, answers: Vec::new(), indices: Vec::new(), shapes: Vec::new() };
        for (unit, shape) in links(joining, plan, rules, array)? {
            let (answer, heard) = sync_channel(1);
            if !self.tell_patiently(core, Control::AddVirtual { unit: Box::new(unit), answer }) {
                self.unlink(linking);
                return Err(format!("core {} does not answer", core.0));
            }
            linking.answers.push(heard);
            linking.shapes.push(shape);
        }
        Ok(linking)
    }

    /// Lets go of links that are not needed.
    pub fn unlink(&self, mut linking: Linking) {
        let _ = linking.poll();
        for index in linking.indices {
            // Where it does not answer it is stopping anyway.
            let _ = self.retire(UnitAddress { core: linking.core, index });
        }
    }

    /// Puts a group to work, with the links that were made for it.
    ///
    /// # Errors
    /// A volume is not served.
    pub fn join(&mut self, joining: &Joining, linking: &Linking) -> Result<Answers, String> {
        let (journal, volumes) = find(&self.placed, joining)?;
        let core = linking.core;
        let mut joined = Joined {
            name: joining.plan.name.clone(),
            journal,
            volumes,
            links: linking.indices.iter().map(|index| UnitAddress { core, index: *index }).collect(),
            sequencer: Arc::default(),
            shape: linking.shapes.first().cloned().unwrap_or_default(),
        };
        let (controls, answers) = seeds(joining, &mut joined, &linking.indices);
        for (core, control) in controls {
            if !self.tell_patiently(core, control) {
                return Err(format!("core {} does not answer", core.0));
            }
        }
        self.groups.push(joined);
        Ok(answers)
    }

    fn joined(&self, group: &str) -> Option<&Joined> {
        self.groups.iter().find(|joined| joined.name == group)
    }

    /// Gives an order to a group; hears what came of it, when that is known.
    #[must_use]
    pub fn order_group(&self, group: &str, order: Order) -> Option<Receiver<OrderResult>> {
        let UnitAddress { core, index: unit } = self.joined(group)?.journal;
        let (answer, heard) = sync_channel(1);
        let control = GroupControl::Order { order, answer };
        self.tell_patiently(core, Control::Group { unit, control }).then_some(heard)
    }

    /// Puts fronts before volumes that are to join a group at work, whose own these are: they do nothing yet.
    ///
    /// # Errors
    /// A volume is not served, or there is no such group.
    pub fn join_more(&self, more: &Joining) -> Result<Answers, String> {
        let (_, addresses) = find(&self.placed, more)?;
        let joined = self.joined(&more.plan.name).ok_or("there is no such group")?;
        let mut answers = Vec::new();
        for (volume, address) in more.volumes.iter().zip(&addresses) {
            let (answer, heard) = sync_channel(1);
            let seed = Box::new(pair_seed(more, joined, volume));
            let control =
                Control::Group { unit: address.index, control: GroupControl::Pair { seed, answer } };
            if !self.tell_patiently(address.core, control) {
                return Err(format!("core {} does not answer", address.core.0));
            }
            answers.push((address.core, heard));
        }
        Ok(answers)
    }

    /// Takes the fronts of such volumes away again.
    #[must_use]
    pub fn join_less(&self, more: &Joining) -> Answers {
        let addresses = find(&self.placed, more).map(|(_, addresses)| addresses).unwrap_or_default();
        self.take_fronts(addresses)
    }

    /// Asks a group to have these volumes from now on; `more` are those of them that join, with their links.
    #[must_use]
    pub fn reshape_group(
        &mut self,
        group: &str,
        volumes: Vec<PlannedVolume>,
        more: Option<(&Joining, &Linking)>,
    ) -> Option<Receiver<OrderResult>> {
        let UnitAddress { core, index: unit } = self.joined(group)?.journal;
        let mut joins = Vec::new();
        if let Some((more, linking)) = more {
            let (_, addresses) = find(&self.placed, more).ok()?;
            let mut links = linking.indices.iter().copied();
            for (volume, address) in more.volumes.iter().zip(addresses) {
                joins.push((volume.index, address, links.by_ref().take(volume.links.len()).collect()));
            }
        }
        let (answer, heard) = sync_channel(1);
        let control = GroupControl::Reshape { volumes, joins, answer };
        self.tell_patiently(core, Control::Group { unit, control }).then_some(heard)
    }

    /// Volumes have joined a group: they leave with it.
    pub fn joined_more(&mut self, more: &Joining, linking: &Linking) {
        let addresses = find(&self.placed, more).map(|(_, addresses)| addresses).unwrap_or_default();
        if let Some(joined) = self.groups.iter_mut().find(|joined| joined.name == more.plan.name) {
            joined.volumes.extend(addresses);
            let core = linking.core;
            joined.links.extend(linking.indices.iter().map(|index| UnitAddress { core, index: *index }));
        }
    }

    /// Has a group behave so from now on.
    #[must_use]
    pub fn group_behaves(&self, group: &str, options: Options) -> Option<Receiver<Result<(), String>>> {
        let UnitAddress { core, index: unit } = self.joined(group)?.journal;
        let (answer, heard) = sync_channel(1);
        let control = GroupControl::Behave { options: Box::new(options), answer };
        self.tell_patiently(core, Control::Group { unit, control }).then_some(heard)
    }

    /// Asks a group about itself.
    #[must_use]
    pub fn ask_group(&self, group: &str) -> Option<Receiver<Option<Box<Report>>>> {
        let UnitAddress { core, index: unit } = self.joined(group)?.journal;
        let (answer, heard) = sync_channel(1);
        self.tell_patiently(core, Control::Group { unit, control: GroupControl::Report { answer } })
            .then_some(heard)
    }

    /// What a group says of itself; nothing where there is no such group, or it knows nothing yet.
    #[must_use]
    pub fn group_report(&self, group: &str) -> Option<Report> {
        self.ask_group(group)?.recv_timeout(PATIENCE).ok().flatten().map(|report| *report)
    }

    /// How the link of a group to the other array's journal does.
    #[must_use]
    pub fn group_link(&self, group: &str) -> Option<(&'static str, Option<String>)> {
        let status = self.joined(group)?.shape.status();
        Some((status.phase.as_str(), status.reason.map(|reason| reason.to_string())))
    }

    /// Asks for the fronts of a group's volumes to go; each says why it cannot yet.
    #[must_use]
    pub fn unpair(&self, group: &str) -> Answers {
        self.take_fronts(self.joined(group).map(|joined| joined.volumes.clone()).unwrap_or_default())
    }

    fn take_fronts(&self, volumes: Vec<UnitAddress>) -> Answers {
        let mut answers = Vec::new();
        for UnitAddress { core, index: unit } in volumes {
            let (answer, heard) = sync_channel(1);
            let control = GroupControl::Unpair { answer };
            if self.tell_patiently(core, Control::Group { unit, control }) {
                answers.push((core, heard));
            }
        }
        answers
    }

    /// Ends a group whose volumes have no fronts any more, and its links.
    pub fn part_group(&mut self, group: &str) {
        let Some(place) = self.groups.iter().position(|joined| joined.name == group) else { return };
        let Joined { journal: UnitAddress { core, index: unit }, links, .. } = self.groups.remove(place);
        let (answer, heard) = sync_channel(1);
        if self.tell_patiently(core, Control::Group { unit, control: GroupControl::Remove { answer } }) {
            // Its links must not go before it; a core that does not answer is stopping.
            let _ = heard.recv_timeout(PATIENCE);
        }
        for link in links {
            let _ = self.retire(link);
        }
    }
}

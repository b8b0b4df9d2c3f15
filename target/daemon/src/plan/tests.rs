//! Counts that must hold for any configuration that is accepted, and every refusal.

use super::error::Misfit;
use super::*;
use crate::config::{Config, parse};
use proptest::prelude::*;

fn config(rest: &str) -> Config {
    parse(&format!("[array]\nname = \"a\"\ndata = \"d\"\n{rest}"), "k.toml").unwrap()
}

fn refusal(rest: &str, machine: &Machine) -> PlanError {
    Plan::compute(&config(rest), machine).unwrap_err()
}

#[test]
fn the_smallest_plan_is_a_plan() {
    let plan = Plan::test_min();
    assert_eq!(plan.core_count(), 1);
    assert!(plan.memory.arena_bytes < 64 << 20, "{:?}", plan.memory);
    assert!(plan.memory.register);
}

#[test]
fn the_embedded_default_fits_a_small_machine() {
    let mut machine = Machine::imagined(2);
    machine.memory = 1 << 30;
    let plan = Plan::compute(&Config::embedded("d".as_ref()), &machine).unwrap();
    assert_eq!(plan.cores, [CorePlan { id: CoreId(0), cpu: 1 }]);
    assert_eq!(plan.management_cpus, [0]);
    assert_eq!(plan.volumes.len(), 2);
    assert!(!plan.volumes[1].read_only, "orders are written to it");
    assert_eq!(plan.served().count(), 2);
}

#[test]
fn a_thousand_luns_and_sessions_fit() {
    let mut rest = "max_sessions = 1000\n".to_owned();
    for lun in 0..1000 {
        rest += &format!("[[volume]]\nlun = {lun}\nname = \"v{lun}\"\nbackend = \"null\"\nsize = \"1GiB\"\n");
    }
    let plan = Plan::compute(&config(&rest), &Machine::imagined(2)).unwrap();
    assert!(plan.network.max_connections >= 1000);
    assert!(plan.memory.arena_bytes + plan.memory.other_bytes < 1 << 30, "{:?}", plan.memory);
}

#[test]
fn misfits_are_refused_with_their_place() {
    let machine = Machine::imagined(2);
    let error = refusal("cores = [0, 7]\n", &machine);
    assert_eq!(error.reason, Misfit::CpuNotAllowed { cpu: 7, allowed: vec![0, 1] });
    assert_eq!(error.to_string(), "k.toml:4: array.cores: CPU 7 is not one this process may run on ([0, 1])");
    assert!(matches!(refusal("cache = \"1MiB\"\n", &machine).reason, Misfit::CacheTooSmall { .. }));
    let error = refusal("cache = \"1TiB\"\n", &machine);
    assert!(error.to_string().starts_with("k.toml:4: array.cache: the plan needs "), "{error}");
    assert!(matches!(
        refusal("tasks = 64\n", &machine).reason,
        Misfit::TooFewTasks { tasks: 64, least: 136 }
    ));
    let volume = "[[volume]]\nlun = 0\nname = \"r\"\nbackend = \"ram\"\nsize = \"8GiB\"\n";
    assert!(matches!(refusal(volume, &machine).reason, Misfit::Memory { .. }));
    let wide = "[[volume]]\nlun = 0\nname = \"w\"\nbackend = \"null\"\nsize = \"1GiB\"\nspread = 2\n";
    let error = refusal(wide, &machine);
    assert_eq!(error.reason, Misfit::SpreadTooWide { spread: 2, cores: 1 });
    assert!(Plan::compute(&config(&format!("cores = [0, 1]\n{wide}")), &machine).is_ok());

    let poor = Machine { open_files: Some(1024), ..machine.clone() };
    assert!(matches!(refusal("", &poor).reason, Misfit::OpenFiles { limit: 1024, .. }));
    let old = Machine { kernel: KernelVersion::parse("5.10.0"), ..machine.clone() };
    assert!(refusal("", &old).to_string().contains("6.1 or newer"));
    let locked = Machine { memlock: Some(8 << 20), ..machine };
    assert!(!Plan::compute(&config(""), &locked).unwrap().memory.register);
}

proptest! {
    #[test]
    fn plans_are_consistent(
        cpus in 1u32..64,
        cache_mib in 1u64..2048,
        sessions in 1u32..5000,
        depth in 1u32..512,
        tasks in 16u32..8192,
        volumes in 0usize..40,
    ) {
        let mut rest =
            format!("cache = \"{cache_mib}MiB\"\nmax_sessions = {sessions}\nqueue_depth = {depth}\ntasks = {tasks}\n");
        for lun in 0..volumes {
            let backend = if lun % 2 == 0 { "null" } else { "ram" };
            rest += &format!("[[volume]]\nlun = {lun}\nname = \"v{lun}\"\nbackend = \"{backend}\"\nsize = \"1MiB\"\n");
        }
        let machine = Machine::imagined(cpus);
        let Ok(plan) = Plan::compute(&config(&rest), &machine) else { return Ok(()) };
        let memory = plan.memory;
        prop_assert!(memory.arena_bytes + memory.other_bytes <= machine.memory);
        let classes = u64::from(memory.pages) * PAGE_BYTES
            + u64::from(memory.small) * SMALL_BYTES
            + u64::from(memory.large) * LARGE_BYTES;
        prop_assert!(memory.arena_bytes >= classes);
        prop_assert!(memory.pages > memory.ram_pages + memory.reserve_pages);
        prop_assert!(memory.small - memory.reserve_small >= plan.network.max_connections);
        prop_assert!(memory.large > memory.reserve_large);
        prop_assert!(plan.tasks.per_core >= plan.tasks.per_session + plan.tasks.reserve);
        prop_assert!(plan.ring.entries.is_power_of_two() && plan.ring.completions.is_power_of_two());
        prop_assert!(plan.ring.completions >= 2 * plan.ring.entries);
        prop_assert!(plan.mesh_capacity.is_power_of_two());
        prop_assert!(plan.network.max_connections >= plan.network.max_sessions);
        prop_assert!(!plan.cores.is_empty() && !plan.management_cpus.is_empty());
        for (row, volume) in plan.volumes.iter().enumerate() {
            prop_assert_eq!(volume.row as usize, row);
            prop_assert!(volume.home.index() < plan.cores.len());
            prop_assert!(volume.slots >= 1 && volume.slots <= plan.tasks.per_core - plan.tasks.reserve);
            prop_assert!(volume.page_quota >= 1);
        }
    }
}

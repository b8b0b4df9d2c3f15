//! Why a configuration does not fit the machine.

use crate::config::Site;
use kagami_types::ByteLen;
use std::fmt;

/// A refusal of the plan: where the wish stands, and what there is instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanError {
    /// The key that asks for too much.
    pub site: Site,
    /// What does not fit.
    pub reason: Misfit,
}

/// What does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// The CPU is not one that this process may run on.
    CpuNotAllowed {
        /// The CPU.
        cpu: u32,
        /// Those that are.
        allowed: Vec<u32>,
    },
    /// The cache is smaller than what these cores need to work at all.
    CacheTooSmall {
        /// What was asked.
        cache: ByteLen,
        /// What is needed.
        least: ByteLen,
    },
    /// The arena and the tables need more memory than is available.
    Memory {
        /// What is needed.
        needed: ByteLen,
        /// What may be used.
        available: ByteLen,
    },
    /// More file descriptors are needed than the hard limit allows.
    OpenFiles {
        /// What is needed.
        needed: u64,
        /// RLIMIT_NOFILE, hard.
        limit: u64,
    },
    /// Too few task slots for one session's window and the reserve.
    TooFewTasks {
        /// What was asked.
        tasks: u32,
        /// What is needed.
        least: u32,
    },
    /// A volume over more cores than there are.
    SpreadTooWide {
        /// Over how many.
        spread: u16,
        /// The reactors.
        cores: usize,
    },
    /// More volumes than rows in the table.
    TooManyVolumes {
        /// Volumes in the configuration.
        volumes: usize,
        /// `max_volumes`.
        rows: u32,
    },
    /// A count beyond what the tables can number.
    TooLarge,
    /// The kernel is older than the oldest that works.
    Kernel(String),
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.site, self.reason)
    }
}

impl std::error::Error for PlanError {}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CpuNotAllowed { cpu, allowed } => {
                write!(f, "CPU {cpu} is not one this process may run on ({allowed:?})")
            }
            Self::CacheTooSmall { cache, least } => write!(
                f,
                "{} of cache is too little; these cores and bursts need at least {}",
                show(*cache),
                show(*least)
            ),
            Self::Memory { needed, available } => write!(
                f,
                "the plan needs {} of memory and {} may be used; lower cache, RAM volumes or max_connections",
                show(*needed),
                show(*available)
            ),
            Self::OpenFiles { needed, limit } => write!(
                f,
                "the plan needs {needed} file descriptors and the hard limit is {limit}; raise it \
                 (ulimit -Hn, LimitNOFILE=) or lower max_connections"
            ),
            Self::TooFewTasks { tasks, least } => {
                write!(f, "{tasks} task slots a core are too few; queue_depth and the reserve need {least}")
            }
            Self::SpreadTooWide { spread, cores } => {
                write!(
                    f,
                    "spread = {spread} and there are {cores} cores; lower it or list more in array.cores"
                )
            }
            Self::TooManyVolumes { volumes, rows } => {
                write!(f, "{volumes} volumes are configured and max_volumes is {rows}")
            }
            Self::TooLarge => f.write_str("the count is beyond what the tables can hold"),
            Self::Kernel(release) => {
                write!(f, "the kernel is {release}; 6.1 or newer is needed")
            }
        }
    }
}

fn show(len: ByteLen) -> String {
    crate::config::units::format_size(len)
}

//! The models in a file, so that a later run can check what an earlier one wrote.
//!
//! JSON with a schema number. Written beside and renamed, so that a file is whole or not there.

use super::jobs::Checker;
use super::model::{Model, Saved};
use crate::error::Error;
use serde::{Deserialize, Serialize};
use std::path::Path;

const SCHEMA: u32 = 1;

/// A state file larger than this is not one of ours.
const LARGEST: u64 = 4 << 30;

#[derive(Serialize, Deserialize)]
struct File {
    schema: u32,
    seed: u64,
    volumes: Vec<VolumeState>,
}

#[derive(Serialize, Deserialize)]
struct VolumeState {
    lun: u16,
    id: u64,
    block_size: u32,
    blocks: u64,
    model: Saved,
}

fn failed(path: &Path, why: &dyn std::fmt::Display) -> Error {
    Error::Failed(format!("state file {}: {why}", path.display()))
}

/// Writes the models.
///
/// # Errors
/// The file cannot be written.
pub fn save(path: &Path, seed: u64, checker: &Checker) -> Result<(), Error> {
    let volumes = checker.volumes.iter().map(|volume| VolumeState {
        lun: volume.unit.lun,
        id: volume.id,
        block_size: volume.unit.block_size,
        blocks: volume.model.blocks(),
        model: volume.model.save(),
    });
    let file = File { schema: SCHEMA, seed, volumes: volumes.collect() };
    let text = serde_json::to_vec(&file).map_err(|error| failed(path, &error))?;
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).map_err(|error| failed(&beside, &error))?;
    std::fs::rename(&beside, path).map_err(|error| failed(path, &error))
}

/// What one unit must hold, from a state file, without the unit.
#[derive(Debug)]
pub struct Kept {
    /// The word that its stamps carry.
    pub id: u64,
    /// Bytes in a block.
    pub block_size: u32,
    /// What its blocks may hold.
    pub model: Model,
}

impl Kept {
    /// Reads what a state file says of a unit.
    ///
    /// # Errors
    /// The file cannot be read, is not one of ours, or is of other units.
    pub fn open(path: &Path, lun: u16) -> Result<Self, Error> {
        let state = read(path)?.volumes.into_iter().find(|state| state.lun == lun);
        let state = state.ok_or_else(|| failed(path, &format_args!("says nothing of LUN {lun}")))?;
        let blocks = usize::try_from(state.blocks).unwrap_or(usize::MAX);
        let model = Model::load(state.model, blocks, false).map_err(|why| failed(path, &why))?;
        Ok(Self { id: state.id, block_size: state.block_size, model })
    }
}

fn read(path: &Path) -> Result<File, Error> {
    let len = std::fs::metadata(path).map_err(|error| failed(path, &error))?.len();
    if len > LARGEST {
        return Err(failed(path, &"too large"));
    }
    let bytes = std::fs::read(path).map_err(|error| failed(path, &error))?;
    let file: File = serde_json::from_slice(&bytes).map_err(|error| failed(path, &error))?;
    if file.schema != SCHEMA {
        return Err(failed(path, &format_args!("schema {}, not {SCHEMA}", file.schema)));
    }
    Ok(file)
}

/// Reads the models into `checker`, whose units must be those of the file.
///
/// # Errors
/// The file cannot be read, is not one of ours, or is of other units.
pub fn load(path: &Path, checker: &mut Checker) -> Result<(), Error> {
    let file = read(path)?;
    let mut states = file.volumes;
    for volume in &mut checker.volumes {
        let (unit, blocks) = (volume.unit, volume.model.blocks());
        let at = states.iter().position(|state| state.lun == unit.lun);
        let Some(state) = at.map(|at| states.swap_remove(at)) else {
            return Err(failed(path, &format_args!("says nothing of LUN {}", unit.lun)));
        };
        if state.block_size != unit.block_size || state.blocks != blocks {
            return Err(failed(
                path,
                &format_args!(
                    "LUN {} had {} blocks of {} bytes to check, now {blocks} of {} (same --span?)",
                    unit.lun, state.blocks, state.block_size, unit.block_size
                ),
            ));
        }
        let blocks = usize::try_from(blocks).unwrap_or(usize::MAX);
        volume.id = state.id;
        let model = Model::load(state.model, blocks, !unit.write_cache);
        volume.model = model.map_err(|why| failed(path, &why))?;
    }
    let last = checker.volumes.iter().map(|volume| volume.model.last_generation()).max();
    checker.skip_generations(last.unwrap_or_default());
    Ok(())
}

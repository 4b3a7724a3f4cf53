//! Plays scenarios on the kernel that runs here and writes down what it says: recordings for `walkbench conform`.
//!
//! Each scenario is played in a process of its own ([`play`]), in a window of addresses where nothing else lives, at a
//! priority at which nothing else runs. After each operation the window is looked at from every side that there is
//! ([`observe`]): `hmm_range_fault` through the device of scripts/kernel/module, pagemap, PAGEMAP_SCAN, maps. What can be
//! different from one run to the next is held still ([`guest`]); who cannot hold it still does not record.

pub(crate) mod guest;
mod observe;
mod player;
mod race;

use std::io;

use workloads::scenario::{Op, Scenario};

use player::Player;

/// Seconds after which a scenario is given up.
pub(crate) const PATIENCE: u32 = 120;

/// Plays `scenario` in this process, which has one thread and does nothing else, and fills in what the kernel says.
///
/// # Errors
/// What keeps the recorder from recording; a refusal of the kernel is none.
pub(crate) fn play(mut scenario: Scenario) -> io::Result<Scenario> {
    scenario.kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().into();
    scenario.rawmismatch = 0;
    let mut player = Player::new(&scenario)?;
    for (index, step) in scenario.steps.iter_mut().enumerate() {
        let at = |e: io::Error| io::Error::new(e.kind(), format!("step {index}, {}: {e}", step.op));
        let mut expected = player.apply(&step.op).map_err(at)?;
        // A file of its own changes nothing in the window.
        if !matches!(step.op, Op::File { .. }) {
            let is_same = player.observe(&mut expected).map_err(at)?;
            scenario.rawmismatch += u64::from(!is_same);
        }
        step.expected = expected;
    }
    Ok(scenario)
}

//! What must hold of the memory that is reserved for episodes, whenever the core has been told something.

use envmill_core::Core;
use envmill_protocol::JobId;

use crate::{Plan, ledger::Ledger};

/// No more is reserved than there is, and no less than what has begun may come to take.
pub(crate) fn check(core: &Core, plan: &Plan, ledger: &mut Ledger) {
    if plan.jobs().all(|job| job.episode_bytes_max.is_none()) {
        return; // nothing is reserved, and counting takes time
    }
    let memory = core.memory();
    if memory.reserved > memory.bytes_max {
        ledger.violation(|| format!("more is reserved than there is: {memory:?}"));
    }
    let mut all_reserve = true;
    for (number, job) in plan.jobs().enumerate() {
        let Some(most) = job.episode_bytes_max else {
            all_reserve = false;
            continue;
        };
        let id = JobId(number as u32);
        let Some(status) = core.job_status(id) else { continue };
        // Second attempts belong to what has begun.
        let has_twins = job.group.is_some_and(|group| group.duplicate_stragglers);
        if let Some(before) = ledger.slowed.get_mut(&id).filter(|_| !has_twins)
            && std::mem::replace(before, status.reserved_bytes) < status.reserved_bytes
        {
            ledger.violation(|| format!("{} begins something and is slowed", job.name));
        }
        let begun = status.waiting + status.delayed + status.active + status.scoring;
        if begun * most > status.reserved_bytes {
            ledger.violation(|| format!("{begun} episodes of {most} bytes: {status:?}"));
        }
    }
    if all_reserve && core.held_bytes() > memory.reserved {
        ledger.violation(|| format!("more is held than reserved: {memory:?}"));
    }
}

//! The retry budget: how much of the work may be done again.

use envmill_protocol::{JobId, ServerId};

use crate::{Core, Note, Outputs, RetryBudget};

/// What a job or a server has spent of its budget.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Budget {
    /// Attempts begun.
    pub(crate) attempts: u64,
    /// Retries and duplicates.
    pub(crate) spent: u64,
    /// Whether it was told that there is nothing left.
    told: bool,
}

impl Budget {
    /// Whether one more may be spent, with at least `floor` in any case.
    fn allows(&self, options: RetryBudget, floor: u32) -> bool {
        let earned = self.attempts.saturating_mul(u64::from(options.percent)) / 100;
        self.spent < earned.saturating_add(u64::from(floor.max(options.floor)))
    }

    /// True the first time.
    const fn tell(&mut self) -> bool {
        !std::mem::replace(&mut self.told, true)
    }
}

impl Core {
    /// Takes one retry or duplicate from the budgets of the job and of the server that made it
    /// necessary.
    ///
    /// # Errors
    ///
    /// Nothing was taken; for people, which budget has nothing left.
    pub(crate) fn spend(
        &mut self,
        job: usize,
        server: ServerId,
        outputs: &mut Outputs,
    ) -> Result<(), String> {
        let state = &mut self.jobs[job];
        let known = &mut self.servers[server.0 as usize];
        let (options, of_server) = (state.options.retry_budget, self.options.server_retry_budget);
        let spent = if !state.budget.allows(options, state.options.sessions_max) {
            if state.budget.tell() {
                let job = JobId(u32::try_from(job).unwrap_or(u32::MAX));
                outputs.notes.push(Note::JobBudgetSpent(job));
            }
            Some(("job", state.budget, options))
        } else if !known.budget.allows(of_server, known.admission.status().admitted_peak) {
            if known.budget.tell() {
                outputs.notes.push(Note::ServerBudgetSpent(server));
            }
            Some(("server", known.budget, of_server))
        } else {
            None
        };
        let Some((whose, budget, options)) = spent else {
            state.budget.spent += 1;
            known.budget.spent += 1;
            return Ok(());
        };
        self.counts.budget_refusals += 1;
        Err(format!(
            "not tried again: the retry budget of the {whose} is spent ({} of {} attempts; it is {} % \
             of them)",
            budget.spent, budget.attempts, options.percent
        ))
    }
}

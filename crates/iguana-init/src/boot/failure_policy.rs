//! Which policy applies when something fails, and what it does (docs/handover.md).

use super::Boot;
use crate::handover;
use crate::handover::Handover;
use crate::report::{Failure, Report};
use crate::run_plan::JobsOutcome;
use crate::supervise::Verdict;
use config::cmdline::OnFailure;
use events::Decision;
use workflow::Plan;

/// Why a boot failed, and which policy applies.
pub(super) struct Failed {
    pub(super) failure: Failure,
    policy: OnFailure,
}

impl Boot<'_> {
    /// Follows the result files, unless a job failed and the workflow has a failure policy. Without result files it
    /// gives the first failure, or discovers the root if no job failed.
    pub(super) fn decide(&self, plan: &Plan, outcome: JobsOutcome) -> Result<Handover, Failed> {
        let JobsOutcome { failures, results } = outcome;
        if let (workflow::OnFailure::Do(policy), false) = (plan.on_failure, failures.is_empty()) {
            return Err(Failed { failure: first_of(failures, self.report), policy });
        }
        let context = self.handover_context();
        match handover::decide(&results, plan.strict, &context).map_err(|failure| self.failed(failure))? {
            Some(handover) => {
                for failure in failures {
                    self.report.failure(&failure);
                    self.report.say("  continuing: a container has written what comes next");
                }
                Ok(handover)
            }
            None if failures.is_empty() => {
                handover::discover(&context).map_err(|failure| self.failed(failure))
            }
            None => Err(self.failed(first_of(failures, self.report))),
        }
    }

    /// Reports the failure. With the policy `local` it tries the system that is already on the disk.
    pub(super) fn give_up(&self, failed: Failed) -> Verdict {
        self.report.failure(&failed.failure);
        if failed.policy != OnFailure::Local {
            return Verdict::Failed(failed.policy);
        }
        self.report.decided(Decision::Local, "on failure: booting the system on the disk (local)");
        match handover::local(&self.handover_context()) {
            Ok(handover) => Verdict::HandOver(handover),
            Err(failure) => {
                self.report.failure(&failure);
                Verdict::Failed(OnFailure::Local)
            }
        }
    }

    pub(super) fn failed(&self, failure: Failure) -> Failed {
        Failed { failure, policy: self.settings.on_failure }
    }
}

/// The first failure; the others are reported here.
fn first_of(mut failures: Vec<Failure>, report: &Report) -> Failure {
    let first = failures.remove(0);
    for failure in &failures {
        report.failure(failure);
    }
    first
}

//! Learning beside the loop: one lesson at a time, on a thread of its own, so that no round and no request waits for a fit.

use tidegate_brain::{Fleet, Learned};
use tidegate_core::WorkloadId;
use tokio::task::JoinHandle;

/// The lesson that is being learned, if any.
#[derive(Debug, Default)]
pub(crate) struct Study {
    under_way: Option<(WorkloadId, JoinHandle<Learned>)>,
}

impl Study {
    /// Takes a finished lesson in, and begins the next that is due. Must be called within a Tokio runtime.
    pub(crate) fn go_on(&mut self, fleet: &mut Fleet) {
        if let Some((id, handle)) = self.under_way.take_if(|(_, handle)| handle.is_finished()) {
            // It is finished, so this is there at once.
            match futures::FutureExt::now_or_never(handle) {
                Some(Ok(learned)) => {
                    if let Some(brain) = fleet.get_mut(&id) {
                        brain.adopt(learned);
                    }
                }
                Some(Err(error)) => {
                    tracing::error!(workload = %id, %error, "learning failed; the workload goes on with what it knew");
                }
                None => unreachable!("a finished task has its result"),
            }
        }
        if self.under_way.is_none() {
            let lesson = fleet.lesson();
            self.under_way =
                lesson.map(|(id, lesson)| (id, tokio::task::spawn_blocking(move || lesson.learn())));
        }
    }
}

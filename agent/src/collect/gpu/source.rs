//! The GPU source: one thread that holds the one handle of the driver's library, answers readings, and opens the library anew when it
//! has to. A call that hangs in the driver hangs this thread alone; whoever asked gives up at the deadline and says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use nvml_wrapper::Nvml;
use tidegate_core::{Label, Subject};
use tokio::sync::oneshot;

use super::backoff::Backoff;
use super::cause::{GpuCause, cause_of};
use super::inventory::{Inventory, Seen, bound};
use super::reading::{GpuReading, Gpus};
use super::samples::samples;
use super::xids::Xids;
use super::{GpuOptions, events};
use crate::clock::Moment;
use crate::collect::pods::Owner;
use crate::collect::reading::{Cause, Names, Reading};

/// The driver is asked which GPUs and instances there are every so many readings: they change when somebody changes them.
const INVENTORY_EVERY: u32 = 12;

/// A reading that is wanted.
struct Order {
    now: Moment,
    done: oneshot::Sender<Reading>,
}

/// The source, seen from the side that asks. Dropping it ends the thread once its reading is done.
pub(crate) struct GpuSource {
    orders: SyncSender<Order>,
}

impl GpuSource {
    /// Starts the thread. Nothing is opened before the first reading.
    pub(crate) fn new(options: GpuOptions, xids: Xids) -> Self {
        // One order is under way at a time.
        let (orders, ordered) = sync_channel(1);
        let serve = move || Keeper::new(options, xids).serve(&ordered);
        // Without a thread the receiver is gone, and the first reading says that it was lost.
        drop(std::thread::Builder::new().name("gpu".to_owned()).spawn(serve));
        Self { orders }
    }

    /// Begins a reading; gives the source back with it. The sender is gone when the thread is.
    pub(crate) fn begin(self, now: Moment) -> oneshot::Receiver<(Self, Reading)> {
        let (done, pending) = oneshot::channel();
        let (told, reading) = oneshot::channel();
        let sent = self.orders.try_send(Order { now, done: told });
        tokio::spawn(async move {
            if sent.is_ok()
                && let Ok(reading) = reading.await
            {
                // Nobody waits any more when the program is ending.
                drop(done.send((self, reading)));
            }
        });
        pending
    }
}

/// Why a session with the library ended.
enum End {
    /// Nobody wants readings any more.
    Stopped,
    /// The library has to be opened anew.
    Reopen,
}

/// What outlives a session with the library.
struct Keeper {
    options: GpuOptions,
    xids: Xids,
    seen: Seen,
    before: Option<(Arc<Gpus>, Moment)>,
    /// Whether a handle has turned out to be of something that is no longer there.
    stale: bool,
    /// Tries to open the library.
    opening: Backoff,
    /// Tries to find a lost GPU by opening the library anew, which the others have to bear.
    searching: Backoff,
    /// The last failure, told once.
    failure: Option<GpuCause>,
}

impl Keeper {
    fn new(options: GpuOptions, xids: Xids) -> Self {
        let (opening, searching) = (Backoff::new(options.open_again), Backoff::new(options.search_again));
        let (seen, before, stale) = (Seen::default(), None, false);
        Self { options, xids, seen, before, stale, opening, searching, failure: None }
    }

    /// Answers orders until nobody gives any.
    fn serve(mut self, orders: &Receiver<Order>) {
        while let Ok(order) = orders.recv() {
            if !self.opening.is_due(order.now.steady) {
                let cause = self.failure.unwrap_or(GpuCause::Other);
                drop(order.done.send(self.failed(cause)));
                continue;
            }
            let end = match self.open() {
                Ok(nvml) => self.session(&nvml, order, orders),
                Err(cause) => {
                    self.opening.wait(order.now.steady);
                    drop(order.done.send(self.failed(cause)));
                    End::Reopen
                }
            };
            if matches!(end, End::Stopped) {
                return;
            }
        }
    }

    fn open(&self) -> Result<Nvml, GpuCause> {
        let mut builder = Nvml::builder();
        if let Some(path) = &self.options.library {
            builder.lib_path(path.as_os_str());
        }
        builder.init().map_err(|error| {
            // A file that is no driver's library has no such function.
            let cause = cause_of(&error).unwrap_or(GpuCause::NoLibrary);
            tracing::debug!(cause = cause.as_str(), %error, "the GPU driver's library cannot be opened");
            cause
        })
    }

    /// A reading that failed as a whole, told in the log when it is another failure than before.
    fn failed(&mut self, cause: GpuCause) -> Reading {
        let is_absent = cause == GpuCause::NoLibrary && !self.options.required;
        if self.failure != Some(cause) && !is_absent {
            tracing::warn!(cause = cause.as_str(), "GPUs cannot be read");
        }
        self.failure = Some(cause);
        self.before = None;
        if is_absent { Reading::absent() } else { Reading::failed(Cause::Gpu(cause)) }
    }

    /// Works with an open library, listening for its events besides, until it has to be closed.
    fn session(&mut self, nvml: &Nvml, first: Order, orders: &Receiver<Order>) -> End {
        let stop = AtomicBool::new(false);
        let xids = self.xids.clone();
        std::thread::scope(|scope| {
            // Set on the way out, by a panic too: the scope waits for the listener.
            let _stopping = SetOnDrop(&stop);
            let listen = || events::listen(nvml, &stop, &xids);
            let mut listener = None;
            let mut inventory = Inventory::default();
            let mut order = first;
            let mut turn = 0_u32;
            loop {
                let was_due = turn.is_multiple_of(INVENTORY_EVERY);
                let now = order.now;
                let read = self.read(nvml, &mut inventory, was_due, now);
                if was_due
                    && read.is_ok()
                    && listener.as_ref().is_none_or(std::thread::ScopedJoinHandle::is_finished)
                {
                    let builder = std::thread::Builder::new().name("gpu-events".to_owned());
                    listener = builder.spawn_scoped(scope, listen).ok();
                }
                let (reading, goes_on) = match read {
                    Ok(gpus) => (self.told(gpus, now), self.goes_on(&now)),
                    Err(cause) => {
                        self.opening.wait(now.steady);
                        (self.failed(cause), false)
                    }
                };
                drop(order.done.send(reading));
                if !goes_on {
                    return End::Reopen;
                }
                match orders.recv() {
                    Ok(next) => order = next,
                    Err(_) => return End::Stopped,
                }
                turn = turn.wrapping_add(1);
            }
        })
    }

    /// Reads every GPU and instance.
    fn read<'nvml>(
        &mut self,
        nvml: &'nvml Nvml,
        inventory: &mut Inventory<'nvml>,
        anew: bool,
        now: Moment,
    ) -> Result<Gpus, GpuCause> {
        if anew || std::mem::take(&mut self.stale) {
            *inventory = Inventory::take(nvml, std::mem::take(inventory))?;
            self.seen.note(inventory);
            for gpu in inventory.cards.iter().map(|card| &card.whole.gpu) {
                if let Some(pci) = gpu.pci {
                    self.xids.learn(&gpu.uuid, pci);
                }
            }
        }
        let mut readings = Vec::new();
        for card in &mut inventory.cards {
            let whole = card.whole.read();
            let is_up = whole.down.is_none();
            self.stale |= whole.down == Some(GpuCause::InvalidArgument);
            readings.push(whole);
            for instance in card.instances.iter_mut().filter(|_| is_up) {
                let reading = instance.read_instance(&card.whole.device);
                // One that does not answer has been taken apart: it is not missing.
                if reading.down.is_some() { self.stale = true } else { readings.push(reading) }
            }
        }
        if let Some(cause) = library_failure(inventory, &readings) {
            return Err(cause);
        }
        readings.extend(self.seen.missing(inventory));
        Ok(Gpus {
            at: now.at,
            driver_version: nvml.sys_driver_version().ok(),
            expected: self.seen.expected(bound(&self.options.root)),
            refused: inventory.refused.clone(),
            readings,
        })
    }

    /// The reading as the rest of the program gets it.
    fn told(&mut self, mut gpus: Gpus, now: Moment) -> Reading {
        if self.failure.take().is_some() {
            tracing::info!(gpus = gpus.present(), "GPUs can be read");
        }
        self.opening.clear();
        self.join_owners(&mut gpus);
        let before = self.before.as_ref().map(|(gpus, then)| (&**gpus, then));
        let samples = samples(before, &gpus, &now);
        let mut reading = Reading { samples, names: names(&gpus), ..Reading::default() };
        let of_readings = gpus.readings.iter().flat_map(|reading| &reading.causes);
        for (cause, count) in of_readings.chain(gpus.refused.values().map(|cause| (cause, &1))) {
            *reading.causes.entry(Cause::Gpu(*cause)).or_default() += count;
        }
        let gpus = Arc::new(gpus);
        self.before = Some((Arc::clone(&gpus), now));
        reading.gpus = Some(gpus);
        reading
    }

    /// Whether the library may stay open: not when it is time to look anew for a GPU that is down.
    fn goes_on(&mut self, now: &Moment) -> bool {
        if !self.before.as_ref().is_some_and(|(gpus, _)| has_lost(gpus)) {
            self.searching.clear();
            return true;
        }
        if self.searching.is_waiting() && self.searching.is_due(now.steady) {
            self.searching.wait(now.steady);
            return false;
        }
        if !self.searching.is_waiting() {
            self.searching.wait(now.steady);
        }
        true
    }

    /// Says whose each GPU and instance is.
    fn join_owners(&self, gpus: &mut Gpus) {
        let Some(owners) = self.options.owners.as_ref().map(|owners| Arc::clone(&owners.borrow())) else {
            return;
        };
        for reading in &mut gpus.readings {
            let gpu = &reading.gpu;
            reading.owners = match &gpu.instance {
                None => owners.of_gpu(&gpu.uuid, gpu.minor),
                Some(part) => {
                    // An instance whose place is not known is found by its UUID alone: no place has such numbers.
                    let place = [gpu.minor, part.gpu_instance, part.compute_instance];
                    let [minor, instance, compute] = place.map(|number| number.unwrap_or(u32::MAX));
                    owners.of_instance(&gpu.uuid, (part.parent.as_str(), minor), instance, compute)
                }
            }
            .to_vec();
        }
    }
}

/// Labels that GPUs have besides their UUID.
fn names(gpus: &Gpus) -> Names {
    let names = |reading: &GpuReading| {
        let mut names = vec![(Label::Gpu, reading.gpu.index.to_string().into())];
        names.extend(reading.owner().into_iter().flat_map(Owner::names));
        (Subject::Gpu(reading.gpu.uuid.clone()), names)
    };
    gpus.readings.iter().map(names).collect()
}

/// Whether opening the library anew might bring back a GPU. What this process may not see is not lost.
fn has_lost(gpus: &Gpus) -> bool {
    let may_be_seen = |cause: &GpuCause| *cause != GpuCause::NoPermission;
    let down = gpus.readings.iter().filter_map(|reading| reading.down.as_ref());
    down.chain(gpus.refused.values()).any(may_be_seen)
}

/// The library's failure, when every GPU that there is met it.
fn library_failure(inventory: &Inventory<'_>, readings: &[GpuReading]) -> Option<GpuCause> {
    let of_cards = readings.iter().map(|reading| reading.down);
    let mut causes = of_cards.chain(inventory.refused.values().map(|cause| Some(*cause)));
    let first = causes.next()?.filter(|cause| cause.is_of_library())?;
    causes.all(|cause| cause == Some(first)).then_some(first)
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

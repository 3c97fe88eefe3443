//! What all replicas together do with requests. An engine knows requests and replicas, and nothing of who scales them.

mod agenda;
pub(crate) mod generic;
mod line;
pub(crate) mod llm;

use crate::book::Book;
use crate::load::Request;
use crate::pool::Slot;
use crate::time::Micros;

/// What goes on in the replicas, event by event.
pub(crate) trait Engine {
    /// When something next happens by itself; never before what has been advanced to.
    fn next(&self) -> Option<Micros>;

    /// Lets what is due at `now` happen.
    fn advance(&mut self, now: Micros, out: &mut Out);

    /// Takes in a request. `tries` is how often it may come again.
    fn arrive(&mut self, now: Micros, request: Request, tries: u8, out: &mut Out);

    /// A replica takes requests from now on.
    fn open(&mut self, now: Micros, slot: Slot, out: &mut Out);

    /// A replica takes no more requests; whether it has none.
    fn close(&mut self, slot: Slot) -> bool;

    /// A replica is gone, with the requests that it has.
    fn lose(&mut self, slot: Slot, out: &mut Out);

    /// Share of the memory for keys and values that is reserved, where there is such a memory.
    fn kv_utilisation(&self) -> Option<f64> {
        None
    }
}

/// What an engine tells.
#[derive(Debug)]
pub(crate) struct Out {
    pub(crate) book: Book,
    /// Closed replicas that have become idle.
    pub(crate) idle: Vec<Slot>,
    /// Requests that ended without an answer and may come again: what they are, and how often still.
    pub(crate) again: Vec<(Request, u8)>,
}

impl Out {
    pub(crate) fn drop_request(&mut self, arrived: Micros, request: Request, tries: u8) {
        self.book.dropped(arrived);
        if tries > 0 {
            self.again.push((request, tries - 1));
        }
    }
}

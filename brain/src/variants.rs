//! What replicas carry belongs to what they run and on what: it is learned anew when another version or another type of GPU takes
//! over. What was known of the one before is where that begins; and of one that comes back, all that was known is known again.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::capacity::CapacityModel;
use crate::service::ServiceTime;
use crate::tokens::TokenModel;

/// Variants that are remembered besides the present one: one to roll back to, and some more where types of GPU come and go.
const SHELF_MAX: usize = 4;

/// What was learned of one variant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Carries {
    pub(crate) capacity: CapacityModel,
    pub(crate) service: ServiceTime,
    pub(crate) tokens: Option<TokenModel>,
}

impl Carries {
    /// As much as is worth assuming of a variant that has not been seen: a few minutes of load outweigh it.
    fn doubted(&self) -> Self {
        let mut doubted = self.clone();
        doubted.capacity.doubt();
        doubted.service.doubt();
        doubted.tokens.iter_mut().for_each(TokenModel::doubt);
        doubted
    }
}

/// The variant that replicas are of, and what was learned of others.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Variants {
    present: Option<String>,
    /// The last one that was left stands first.
    shelf: VecDeque<(String, Carries)>,
}

impl Variants {
    /// What most replicas are of, where that is told.
    pub(crate) fn present(&self) -> Option<&str> {
        self.present.as_deref().filter(|variant| *variant != "@")
    }

    /// Most replicas are of `variant` now, and so far `known` was learned. Gives what to go on with, if that is something else.
    pub(crate) fn turn_to(&mut self, variant: &str, known: impl FnOnce() -> Carries) -> Option<Carries> {
        if self.present.as_deref() == Some(variant) {
            return None;
        }
        // The first that is named is the one that was learned of.
        let before = self.present.replace(variant.to_owned())?;
        let known = known();
        let again = self.shelf.iter().position(|(name, _)| name == variant);
        let next = match again.and_then(|place| self.shelf.remove(place)) {
            Some((_, carries)) => carries,
            None => known.doubted(),
        };
        self.shelf.push_front((before, known));
        self.shelf.truncate(SHELF_MAX);
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use tidegate_core::{CapacityHint, Timestamp};

    use super::*;

    fn carries(load: f64) -> Carries {
        let mut capacity = CapacityModel::new(CapacityHint::default(), 0.01);
        for second in 0..600 {
            capacity.ingest(Timestamp::from_secs(second), load, load, 0.0);
            capacity.ingest(Timestamp::from_secs(second), load * 2.0, load, load);
        }
        Carries { capacity, service: ServiceTime::default(), tokens: None }
    }

    fn mid(carries: &Carries) -> f64 {
        carries.capacity.estimate().unwrap().mid
    }

    #[test]
    fn the_first_variant_is_the_one_that_was_learned_of() {
        let mut variants = Variants::default();
        assert_eq!(variants.turn_to("a", || unreachable!("nothing is put away")), None);
        assert_eq!(variants.turn_to("a", || unreachable!("nothing has changed")), None);
    }

    #[test]
    fn another_variant_begins_with_what_was_known_and_soon_goes_by_itself() {
        let mut variants = Variants::default();
        variants.turn_to("a", || carries(10.0));
        let mut next = variants.turn_to("b", || carries(10.0)).unwrap();
        assert!((mid(&next) - mid(&carries(10.0))).abs() < 1e-9, "what was known is assumed");
        // Half as much is carried. Two minutes tell.
        for second in 600..720 {
            next.capacity.ingest(Timestamp::from_secs(second), 5.0, 5.0, 0.0);
            next.capacity.ingest(Timestamp::from_secs(second), 10.0, 10.0, 9.0);
        }
        assert!(mid(&next) < 7.5, "{}", mid(&next));
        let mut doubtless = carries(10.0);
        for second in 600..720 {
            doubtless.capacity.ingest(Timestamp::from_secs(second), 10.0, 10.0, 0.5);
        }
        assert!(mid(&doubtless) > 7.5, "the same variant is not given up so soon");
    }

    #[test]
    fn one_that_comes_back_is_known_at_once_and_few_are_remembered() {
        let mut variants = Variants::default();
        variants.turn_to("a", || carries(10.0));
        variants.turn_to("b", || carries(10.0));
        let back = variants.turn_to("a", || carries(4.0)).unwrap();
        assert_eq!(back, carries(10.0));
        assert_eq!(variants.turn_to("b", || carries(10.0)).unwrap(), carries(4.0));
        for name in ["c", "d", "e", "f", "g"] {
            variants.turn_to(name, || carries(1.0));
        }
        assert_eq!(variants.shelf.len(), SHELF_MAX);
        assert_ne!(variants.turn_to("a", || carries(1.0)).unwrap(), carries(10.0), "forgotten");
    }
}

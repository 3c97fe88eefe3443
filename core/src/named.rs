//! A few values by name, as reasons and decisions carry them. Thousands are made every second, with names that stand in the program:
//! each set is one allocation, and its names are none.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, Serializer};

/// Values in the order of their names. In JSON a map.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(from = "BTreeMap<String, T>")]
pub struct Named<T>(Box<[(Cow<'static, str>, T)]>);

impl<T> Named<T> {
    /// These values; of two with one name the last holds.
    #[must_use]
    pub fn new(values: impl IntoIterator<Item = (&'static str, T)>) -> Self {
        let mut named: Vec<_> =
            values.into_iter().map(|(name, value)| (Cow::Borrowed(name), value)).collect();
        named.reverse();
        named.sort_by(|(a, _), (b, _)| a.cmp(b));
        named.dedup_by(|(later, _), (kept, _)| later == kept);
        Self(named.into())
    }

    /// The value of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&T> {
        let at = self.0.binary_search_by(|(known, _)| known.as_ref().cmp(name)).ok()?;
        Some(&self.0[at].1)
    }

    /// All, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), value))
    }
}

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self(Box::default())
    }
}

impl<T> From<BTreeMap<String, T>> for Named<T> {
    fn from(values: BTreeMap<String, T>) -> Self {
        Self(values.into_iter().map(|(name, value)| (Cow::Owned(name), value)).collect())
    }
}

impl<T: Serialize> Serialize for Named<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_name_and_are_a_map_in_json() {
        let named = Named::new([("queued", Some(3.0)), ("demand_rps", None), ("queued", Some(4.0))]);
        assert_eq!(named.get("queued"), Some(&Some(4.0)), "the last holds");
        assert_eq!((named.get("demand_rps"), named.get("lead_s")), (Some(&None), None));
        let json = serde_json::to_string(&named).unwrap();
        assert_eq!(json, r#"{"demand_rps":null,"queued":4.0}"#);
        assert_eq!(serde_json::from_str::<Named<Option<f64>>>(&json).unwrap(), named);
        assert_eq!(serde_json::from_str::<Named<f64>>("{}").unwrap(), Named::default());
    }
}

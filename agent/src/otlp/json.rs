//! What OTLP's JSON writes otherwise than serde reads: numbers of 64 bits as text, doubles that are no number as words. No I/O.

use serde::{Deserialize, Deserializer, de::Error};

/// A number, or the text of one.
#[derive(Deserialize)]
#[serde(untagged)]
enum Either<T> {
    Number(T),
    Text(String),
}

impl<T: std::str::FromStr> Either<T> {
    fn get<E: Error>(self) -> Result<T, E> {
        match self {
            Self::Number(number) => Ok(number),
            Self::Text(text) => text.parse().map_err(|_| E::custom("expected a number")),
        }
    }
}

pub(crate) fn u64<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    Either::deserialize(from)?.get()
}

pub(crate) fn i64<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
    Either::deserialize(from)?.get()
}

/// `NaN`, `Infinity` and `-Infinity` are what Rust reads too.
pub(crate) fn f64<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Either::deserialize(from)?.get()
}

pub(crate) fn u64s<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u64>, D::Error> {
    Vec::<Either<u64>>::deserialize(from)?.into_iter().map(Either::get).collect()
}

//! What OTLP's JSON writes otherwise than serde reads: numbers of 64 bits as text, doubles that are no number as words, bytes as
//! text. No I/O.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
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

/// Ids of traces: in hexadecimal, other than protobuf's JSON has bytes.
pub(crate) fn hex<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(from)?;
    let byte = |pair: &[u8]| {
        let digit = |at: usize| char::from(*pair.get(at)?).to_digit(16);
        u8::try_from(digit(0)? * 16 + digit(1)?).ok()
    };
    let bytes = text.as_bytes().chunks(2).map(byte).collect::<Option<Vec<_>>>();
    bytes.ok_or_else(|| D::Error::custom("expected pairs of hexadecimal digits"))
}

pub(crate) fn base64<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    STANDARD.decode(String::deserialize(from)?).map_err(|_| D::Error::custom("expected base64"))
}

//! Frames between leader and followers: a length, a kind, little-endian numbers. Bounded, and refused when anything in them is off.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use crate::model::file::floats;
use crate::model::{Gradient, Model, PARAMETERS};

/// Says that the other side is a worker of this program, in this version of the protocol.
const HELLO: u64 = 0x4449_4754_524e_0001;
/// Parameters take about 10 kB; nothing else is as long.
const FRAME_BYTES_MAX: usize = 64 * 1024;
/// Longest reason for a failed checkpoint that is sent.
const REASON_CHARS_MAX: usize = 500;

/// A connection between leader and follower.
pub(super) type Link = Framed<TcpStream, LengthDelimitedCodec>;

/// A worker's part of a step.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Task {
    pub(super) step: u64,
    pub(super) shard: u32,
    pub(super) workers: u32,
    pub(super) model: Model,
}

/// What the two sides tell each other.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Message {
    /// Follower: wants to take part from the next step on.
    Join { term: u64 },
    /// Leader: a part of a step to do.
    Task(Task),
    /// Follower: what came of it.
    Done { step: u64, gradient: Gradient },
    /// Follower: asks for a checkpoint; answered by `Saved` with the same id.
    Save { id: u32 },
    /// Leader: the step that was saved, or why none was.
    Saved { id: u32, outcome: Result<u64, String> },
    /// Follower: takes part no more.
    Leave,
}

/// Why nothing came of a read or a write.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    #[error("the other side closed the connection")]
    Closed,
    #[error("the connection failed")]
    Connection(#[source] std::io::Error),
    #[error("a frame is not of this protocol")]
    Malformed,
    #[error("the message is not one for this moment")]
    Unexpected,
    #[error("nothing came in time")]
    Late,
}

/// Puts frames onto a stream.
pub(super) fn link(stream: TcpStream) -> Link {
    // Each frame is waited for: without this it waits for the peer's delayed acknowledgement.
    drop(stream.set_nodelay(true));
    LengthDelimitedCodec::builder().max_frame_length(FRAME_BYTES_MAX).little_endian().new_framed(stream)
}

/// Sends one message.
pub(super) async fn send(link: &mut Link, message: &Message) -> Result<(), WireError> {
    link.send(message.encode()).await.map_err(WireError::Connection)
}

/// Reads one message. Dropping the read midway loses nothing.
pub(super) async fn read(link: &mut Link) -> Result<Message, WireError> {
    let frame = link.next().await.ok_or(WireError::Closed)?.map_err(WireError::Connection)?;
    Message::decode(frame.freeze()).ok_or(WireError::Malformed)
}

impl Message {
    fn encode(&self) -> Bytes {
        let mut frame = BytesMut::new();
        match self {
            Self::Join { term } => {
                frame.put_u8(0);
                frame.put_u64_le(HELLO);
                frame.put_u64_le(*term);
            }
            Self::Task(task) => {
                frame.put_u8(1);
                frame.put_u64_le(task.step);
                frame.put_u32_le(task.shard);
                frame.put_u32_le(task.workers);
                put_floats(&mut frame, task.model.parameters());
            }
            Self::Done { step, gradient } => {
                frame.put_u8(2);
                frame.put_u64_le(*step);
                frame.put_u32_le(gradient.samples);
                frame.put_f32_le(gradient.loss);
                put_floats(&mut frame, &gradient.values);
            }
            Self::Save { id } => {
                frame.put_u8(3);
                frame.put_u32_le(*id);
            }
            Self::Saved { id, outcome } => {
                frame.put_u8(if outcome.is_ok() { 4 } else { 5 });
                frame.put_u32_le(*id);
                match outcome {
                    Ok(step) => frame.put_u64_le(*step),
                    Err(reason) => frame.put_slice(shortened(reason).as_bytes()),
                }
            }
            Self::Leave => frame.put_u8(6),
        }
        frame.freeze()
    }

    fn decode(mut frame: Bytes) -> Option<Self> {
        let message = match frame.try_get_u8().ok()? {
            0 => {
                let hello = frame.try_get_u64_le().ok()?;
                (hello == HELLO).then_some(())?;
                Self::Join { term: frame.try_get_u64_le().ok()? }
            }
            1 => {
                let (step, shard) = (frame.try_get_u64_le().ok()?, frame.try_get_u32_le().ok()?);
                let workers = frame.try_get_u32_le().ok()?;
                let model = Model::from_parameters(take_floats(&mut frame)?)?;
                Self::Task(Task { step, shard, workers, model })
            }
            2 => {
                let (step, samples) = (frame.try_get_u64_le().ok()?, frame.try_get_u32_le().ok()?);
                let loss = frame.try_get_f32_le().ok().filter(|loss| loss.is_finite())?;
                let values = take_floats(&mut frame).filter(|values| values.iter().all(|v| v.is_finite()))?;
                Self::Done { step, gradient: Gradient { values, loss, samples } }
            }
            3 => Self::Save { id: frame.try_get_u32_le().ok()? },
            4 => {
                let id = frame.try_get_u32_le().ok()?;
                Self::Saved { id, outcome: Ok(frame.try_get_u64_le().ok()?) }
            }
            5 => {
                let id = frame.try_get_u32_le().ok()?;
                let reason = String::from_utf8(frame.split_off(0).to_vec()).ok()?;
                return Some(Self::Saved { id, outcome: Err(reason) });
            }
            6 => Self::Leave,
            _ => return None,
        };
        frame.is_empty().then_some(message)
    }
}

fn shortened(reason: &str) -> String {
    reason.chars().take(REASON_CHARS_MAX).collect()
}

fn put_floats(frame: &mut BytesMut, values: &[f32]) {
    frame.reserve(values.len() * 4);
    values.iter().for_each(|value| frame.put_f32_le(*value));
}

/// As many numbers as the model has; `None` when the frame has fewer.
fn take_floats(frame: &mut Bytes) -> Option<Vec<f32>> {
    let size = PARAMETERS * 4;
    (frame.len() >= size).then(|| floats(&frame.split_to(size)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_read_as_it_was_written_and_none_that_is_cut_or_longer() {
        let model = Model::untrained(1);
        let gradient = model.gradient(&crate::glyphs::images(1, 2));
        let messages = [
            Message::Join { term: 3 },
            Message::Task(Task { step: 9, shard: 1, workers: 2, model }),
            Message::Done { step: 9, gradient },
            Message::Save { id: 1 },
            Message::Saved { id: 1, outcome: Ok(7) },
            Message::Leave,
        ];
        for message in messages {
            let frame = message.encode();
            assert_eq!(Message::decode(frame.slice(..frame.len() - 1)), None);
            assert_eq!(Message::decode([&frame[..], &[0]].concat().into()), None);
            assert_eq!(Message::decode(frame), Some(message));
        }
        let failed = Message::Saved { id: 2, outcome: Err("disk full".to_owned()) };
        assert_eq!(Message::decode(failed.encode()), Some(failed));
    }

    #[test]
    fn numbers_that_are_not_finite_are_refused() {
        let gradient = Gradient { values: vec![f32::NAN; PARAMETERS], loss: 1.0, samples: 1 };
        assert_eq!(Message::decode(Message::Done { step: 1, gradient }.encode()), None);
    }
}

//! What the standby durably holds, and what the primary may be told of it.

mod ack;
mod record;

pub use ack::{Ack, AckGate};
pub use record::{Checkpoint, Error, Phase};

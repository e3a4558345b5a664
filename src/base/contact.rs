//! Asks the standby whether it may be written. Waits for whatever waiting can bring.

use std::time::Duration;

use super::Claim;
use crate::backoff::Backoff;
use crate::exit::{Exit, Fatal};
use crate::standby::{self, Contact, ContactError, Standby, first_contact};

const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(3);

impl Claim {
    /// Waits until the standby answers; none if told to stop. `show` hears what it waits for.
    ///
    /// # Errors
    /// If the standby is not for this stream.
    pub async fn contact<S: Standby>(
        &self,
        standby: &mut S,
        mut show: impl FnMut(&str),
    ) -> Result<Option<Contact>, Fatal> {
        let claim = standby::Claim {
            stream: &self.stream,
            primary: self.primary,
            scope: &self.scope,
        };
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        let mut said = String::new();
        show("asking the standby");
        loop {
            let asked = first_contact(standby, &claim);
            let Some(answer) = self.stop.run_until_cancelled(asked).await else {
                return Ok(None);
            };
            let error = match answer {
                Ok(contact) => return Ok(Some(contact)),
                Err(error) => error,
            };
            if let Some(exit) = exit_of(&error) {
                return Err(Fatal::new(exit, error));
            }
            let what = format!("{error}; is it up, and has it a quorum?");
            if what != said {
                tracing::warn!("{what}");
                said.clone_from(&what);
            }
            show(&what);
            standby.try_another_endpoint();
            let wait = tokio::time::sleep(backoff.next_wait());
            if self.stop.run_until_cancelled(wait).await.is_none() {
                return Ok(None);
            }
        }
    }
}

fn exit_of(error: &ContactError) -> Option<Exit> {
    match error {
        ContactError::Unreachable(_) => None,
        ContactError::Refused(_) => Some(Exit::StandbyRefuses),
        ContactError::SameCluster(_) => Some(Exit::SameCluster),
        ContactError::NotEmpty { .. } | ContactError::OtherStream { .. } => {
            Some(Exit::StandbyNotEmpty)
        }
        ContactError::TooManyRanges { .. } => Some(Exit::StandbyRefuses),
        ContactError::OtherPrimary { .. }
        | ContactError::OtherScope { .. }
        | ContactError::UnreadableScope { .. }
        | ContactError::Unreadable { .. } => Some(Exit::ForeignCheckpoint),
    }
}

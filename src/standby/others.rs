//! The other streams of a standby: no two may write to the same keys of it.

use bytes::Bytes;

use super::Standby;
use super::contact::{Claim, ContactError, decode, failed};
use crate::range::KeyRange;
use crate::reserved;
use crate::scope::Scope;

/// A stream but this one whose checkpoint says that it writes to the same keys, and some of them.
///
/// # Errors
/// [`ContactError::Unreadable`] for a checkpoint that does not say what its stream writes to.
pub(super) async fn sharing<S: Standby>(
    standby: &mut S,
    claim: &Claim<'_>,
) -> Result<Option<(String, KeyRange)>, ContactError> {
    let mut rest = Some(reserved::range());
    while let Some(range) = rest.take() {
        let found = standby.read_range(&range, 1).await.map_err(failed)?;
        let Some(found) = found.first() else {
            break;
        };
        let behind = match reserved::stream_of(&found.key) {
            None => KeyRange::single(&found.key),
            Some(stream) => {
                let key = reserved::checkpoint_key(stream);
                // Our own may have come meanwhile, late; then the first transaction does nothing.
                if stream != claim.stream
                    && let Some(stored) = standby.read(&key).await.map_err(failed)?
                    && let Some(shared) = shared(stream, &stored.value, claim.scope)?
                {
                    return Ok(Some((stream.to_owned(), shared)));
                }
                KeyRange::prefix(&reserved::stream_prefix(stream).into())
            }
        };
        // Whatever is left begins behind what was found.
        rest = range.without(&behind).pop().filter(|left| {
            let is_behind = |end: &Bytes| left.start() >= end;
            behind.end().is_some_and(is_behind)
        });
    }
    Ok(None)
}

fn shared(stream: &str, record: &Bytes, scope: &Scope) -> Result<Option<KeyRange>, ContactError> {
    let theirs = Scope::new(decode(stream, record)?.scope);
    let theirs = theirs.map_err(|why| ContactError::UnreadableScope {
        stream: stream.to_owned(),
        why,
    })?;
    let both = scope.standby_ranges().iter().flat_map(|ours| {
        let theirs = theirs.standby_ranges().iter();
        theirs.filter_map(|theirs| theirs.intersection(ours))
    });
    Ok(both.into_iter().next())
}

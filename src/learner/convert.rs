//! Between etcd's raft messages and raft-rs's. Pure.
//!
//! The two share field numbers up to 12 and the names of the first nineteen message types. They
//! part at fields 13 to 16 and in the numbers of conf-change types, so nothing is ever decoded with
//! the other side's definitions: every field is carried over by hand.
//!
//! | conf change | etcd | raft-rs |
//! | --- | --- | --- |
//! | add node | 0 | 0 |
//! | remove node | 1 | 1 |
//! | update node | 2 | none |
//! | add learner | 3 | 2 |

use raft::eraftpb;

use crate::pb::raftpb;

/// Message type numbers on the wire, which are the same in both.
pub(crate) mod kind {
    /// Entries and the commit index, from the leader.
    pub(crate) const APPEND: u32 = 3;
    /// Answer to it.
    pub(crate) const APPEND_RESPONSE: u32 = 4;
    /// The whole state, from the leader.
    pub(crate) const SNAPSHOT: u32 = 7;
    /// The leader is alive.
    pub(crate) const HEARTBEAT: u32 = 8;
    /// Answer to it.
    pub(crate) const HEARTBEAT_RESPONSE: u32 = 9;
}

/// Why a message or an entry has no counterpart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The learner exchanges only appends, heartbeats and their answers.
    #[error("raft message type {0} is none that a learner exchanges")]
    MessageType(u32),
    /// etcd writes entries of type 0 and 1 only.
    #[error("entry {index} has the unknown type {entry_type}")]
    EntryType {
        /// Where.
        index: u64,
        /// What.
        entry_type: u32,
    },
}

/// An inbound message as raft-rs takes it.
///
/// # Errors
/// [`Error`] for any type but append, heartbeat and snapshot, and for entries of an unknown type.
pub(crate) fn to_raft(message: raftpb::Message) -> Result<eraftpb::Message, Error> {
    let msg_type = match message.r#type {
        kind::APPEND => eraftpb::MessageType::MsgAppend,
        kind::HEARTBEAT => eraftpb::MessageType::MsgHeartbeat,
        kind::SNAPSHOT => eraftpb::MessageType::MsgSnapshot,
        other => return Err(Error::MessageType(other)),
    };
    let entries: Vec<_> = message
        .entries
        .into_iter()
        .map(entry_to_raft)
        .collect::<Result<_, _>>()?;
    let metadata = message.snapshot.and_then(|snapshot| snapshot.metadata);
    Ok(eraftpb::Message {
        msg_type,
        to: message.to,
        from: message.from,
        term: message.term,
        log_term: message.log_term,
        index: message.index,
        entries: entries.into(),
        commit: message.commit,
        reject: message.reject,
        reject_hint: message.reject_hint,
        context: message.context,
        snapshot: metadata.map(snapshot_to_raft).into(),
        ..eraftpb::Message::default()
    })
}

/// Without data: raft itself does not look at it.
fn snapshot_to_raft(metadata: raftpb::SnapshotMetadata) -> eraftpb::Snapshot {
    let mut snapshot = eraftpb::Snapshot::default();
    let raft_metadata = snapshot.mut_metadata();
    raft_metadata.index = metadata.index;
    raft_metadata.term = metadata.term;
    if let Some(conf_state) = &metadata.conf_state {
        raft_metadata.set_conf_state(conf_state_to_raft(conf_state));
    }
    snapshot
}

/// The voters and learners of a raft group as raft-rs takes them.
#[must_use]
pub fn conf_state_to_raft(conf_state: &raftpb::ConfState) -> eraftpb::ConfState {
    eraftpb::ConfState {
        voters: conf_state.voters.clone(),
        learners: conf_state.learners.clone(),
        voters_outgoing: conf_state.voters_outgoing.clone(),
        learners_next: conf_state.learners_next.clone(),
        auto_leave: conf_state.auto_leave,
        ..eraftpb::ConfState::default()
    }
}

fn entry_to_raft(entry: raftpb::Entry) -> Result<eraftpb::Entry, Error> {
    let entry_type = match entry.r#type {
        0 => eraftpb::EntryType::EntryNormal,
        1 => eraftpb::EntryType::EntryConfChange,
        entry_type => {
            return Err(Error::EntryType {
                index: entry.index,
                entry_type,
            });
        }
    };
    Ok(eraftpb::Entry {
        entry_type,
        term: entry.term,
        index: entry.index,
        data: entry.data,
        ..eraftpb::Entry::default()
    })
}

/// An outbound message as etcd takes it: only what etcd reads, so neither raft-rs's own fields 13
/// to 16 nor the commit index of an answer.
///
/// # Errors
/// [`Error::MessageType`] for any type but the two answers of a follower.
pub(crate) fn from_raft(message: eraftpb::Message) -> Result<raftpb::Message, Error> {
    let r#type = u32::try_from(message.msg_type as i32).unwrap_or(u32::MAX);
    if ![kind::APPEND_RESPONSE, kind::HEARTBEAT_RESPONSE].contains(&r#type) {
        return Err(Error::MessageType(r#type));
    }
    Ok(raftpb::Message {
        r#type,
        to: message.to,
        from: message.from,
        term: message.term,
        log_term: message.log_term,
        index: message.index,
        reject: message.reject,
        reject_hint: message.reject_hint,
        context: message.context,
        ..raftpb::Message::default()
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn an_append_keeps_every_field_that_a_follower_reads() {
        let message = raftpb::Message {
            r#type: kind::APPEND,
            to: 1,
            from: 2,
            term: 3,
            log_term: 4,
            index: 5,
            entries: vec![raftpb::Entry {
                r#type: 1,
                term: 6,
                index: 7,
                data: Bytes::from("d"),
            }],
            commit: 8,
            ..raftpb::Message::default()
        };
        let raft = to_raft(message).unwrap();
        assert_eq!(raft.get_msg_type(), eraftpb::MessageType::MsgAppend);
        assert_eq!((raft.to, raft.from, raft.term), (1, 2, 3));
        assert_eq!((raft.log_term, raft.index, raft.commit), (4, 5, 8));
        let entry = &raft.entries[0];
        assert_eq!(entry.get_entry_type(), eraftpb::EntryType::EntryConfChange);
        assert_eq!(
            (entry.term, entry.index, entry.data.as_ref()),
            (6, 7, b"d".as_ref())
        );
    }

    #[test]
    fn votes_and_local_types_have_no_counterpart() {
        let taken = [kind::APPEND, kind::HEARTBEAT, kind::SNAPSHOT];
        for r#type in (0..30).filter(|kind| !taken.contains(kind)) {
            let message = raftpb::Message {
                r#type,
                ..raftpb::Message::default()
            };
            assert_eq!(to_raft(message), Err(Error::MessageType(r#type)));
        }
    }

    #[test]
    fn a_snapshot_keeps_its_metadata() {
        let conf_state = raftpb::ConfState {
            voters: vec![1, 2],
            learners: vec![9],
            ..raftpb::ConfState::default()
        };
        let message = raftpb::Message {
            r#type: kind::SNAPSHOT,
            term: 5,
            snapshot: Some(raftpb::Snapshot {
                data: Bytes::from_static(b"{}"),
                metadata: Some(raftpb::SnapshotMetadata {
                    conf_state: Some(conf_state),
                    index: 285,
                    term: 4,
                }),
            }),
            ..raftpb::Message::default()
        };
        let raft = to_raft(message).unwrap();
        assert_eq!(raft.get_msg_type(), eraftpb::MessageType::MsgSnapshot);
        let metadata = raft.get_snapshot().get_metadata();
        assert_eq!((raft.term, metadata.index, metadata.term), (5, 285, 4));
        let members = metadata.get_conf_state();
        assert_eq!(
            (members.get_voters(), members.get_learners()),
            (&[1, 2][..], &[9][..])
        );
    }

    #[test]
    fn only_answers_leave() {
        let mut message = eraftpb::Message {
            msg_type: eraftpb::MessageType::MsgAppendResponse,
            request_snapshot: 9,
            priority: 3,
            commit: 7,
            index: 5,
            ..eraftpb::Message::default()
        };
        let sent = from_raft(message.clone()).unwrap();
        assert_eq!(
            (sent.r#type, sent.index, sent.commit),
            (kind::APPEND_RESPONSE, 5, 0)
        );
        message.msg_type = eraftpb::MessageType::MsgRequestVote;
        assert_eq!(from_raft(message), Err(Error::MessageType(5)));
    }

    #[test]
    fn an_entry_of_an_unknown_type_is_refused_with_its_index() {
        let entry = raftpb::Entry {
            r#type: 2,
            term: 1,
            index: 9,
            data: Bytes::new(),
        };
        assert_eq!(
            entry_to_raft(entry),
            Err(Error::EntryType {
                index: 9,
                entry_type: 2
            })
        );
    }
}

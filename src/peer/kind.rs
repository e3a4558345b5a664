//! The kinds of raft messages, by their numbers on the wire.

/// What a raft message is about. The discriminant is the number in `raftpb.Message.type`.
///
/// # Source
/// raft v3.7.0 `raftpb/raft.proto`, `MessageType`; 0 to 18 are the same in all releases since 3.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum MessageKind {
    /// Start an election; local to a process.
    Hup,
    /// Send heartbeats; local to a process.
    Beat,
    /// A proposal, forwarded to the leader.
    Prop,
    /// Entries, from the leader.
    App,
    /// Answer to [`MessageKind::App`].
    AppResp,
    /// Request for a vote.
    Vote,
    /// Answer to [`MessageKind::Vote`].
    VoteResp,
    /// A snapshot; comes only inside `POST /raft/snapshot`.
    Snap,
    /// Heartbeat of the leader.
    Heartbeat,
    /// Answer to [`MessageKind::Heartbeat`].
    HeartbeatResp,
    /// A member could not be reached; local to a process.
    Unreachable,
    /// How sending a snapshot ended; local to a process.
    SnapStatus,
    /// Does the leader still have its quorum; local to a process.
    CheckQuorum,
    /// Hand leadership over; sent to the leader.
    TransferLeader,
    /// Campaign now; sent by a leader that hands over.
    TimeoutNow,
    /// Ask the leader for its commit index.
    ReadIndex,
    /// Answer to [`MessageKind::ReadIndex`].
    ReadIndexResp,
    /// Request for a vote before a campaign.
    PreVote,
    /// Answer to [`MessageKind::PreVote`].
    PreVoteResp,
    /// Local to a process, as are the four that follow.
    StorageAppend,
    /// See [`MessageKind::StorageAppend`].
    StorageAppendResp,
    /// See [`MessageKind::StorageAppend`].
    StorageApply,
    /// See [`MessageKind::StorageAppend`].
    StorageApplyResp,
    /// Forget who leads; local to a process.
    ForgetLeader,
}

impl MessageKind {
    /// Every kind, at the position of its number.
    pub const ALL: [Self; 24] = [
        Self::Hup,
        Self::Beat,
        Self::Prop,
        Self::App,
        Self::AppResp,
        Self::Vote,
        Self::VoteResp,
        Self::Snap,
        Self::Heartbeat,
        Self::HeartbeatResp,
        Self::Unreachable,
        Self::SnapStatus,
        Self::CheckQuorum,
        Self::TransferLeader,
        Self::TimeoutNow,
        Self::ReadIndex,
        Self::ReadIndexResp,
        Self::PreVote,
        Self::PreVoteResp,
        Self::StorageAppend,
        Self::StorageAppendResp,
        Self::StorageApply,
        Self::StorageApplyResp,
        Self::ForgetLeader,
    ];

    /// The kind with this number, if there is one.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        usize::try_from(number)
            .ok()
            .and_then(|position| Self::ALL.get(position).copied())
    }

    /// The number on the wire.
    #[must_use]
    pub fn number(self) -> u32 {
        u32::from(self as u8)
    }

    /// Position in [`MessageKind::ALL`].
    pub(crate) fn position(self) -> usize {
        usize::from(self as u8)
    }

    /// Name in metrics, snake case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Hup => "hup",
            Self::Beat => "beat",
            Self::Prop => "prop",
            Self::App => "app",
            Self::AppResp => "app_resp",
            Self::Vote => "vote",
            Self::VoteResp => "vote_resp",
            Self::Snap => "snap",
            Self::Heartbeat => "heartbeat",
            Self::HeartbeatResp => "heartbeat_resp",
            Self::Unreachable => "unreachable",
            Self::SnapStatus => "snap_status",
            Self::CheckQuorum => "check_quorum",
            Self::TransferLeader => "transfer_leader",
            Self::TimeoutNow => "timeout_now",
            Self::ReadIndex => "read_index",
            Self::ReadIndexResp => "read_index_resp",
            Self::PreVote => "pre_vote",
            Self::PreVoteResp => "pre_vote_resp",
            Self::StorageAppend => "storage_append",
            Self::StorageAppendResp => "storage_append_resp",
            Self::StorageApply => "storage_apply",
            Self::StorageApplyResp => "storage_apply_resp",
            Self::ForgetLeader => "forget_leader",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_wire() {
        for (position, kind) in MessageKind::ALL.into_iter().enumerate() {
            assert_eq!(kind.position(), position);
            assert_eq!(MessageKind::from_number(kind.number()), Some(kind));
        }
        assert_eq!(MessageKind::Heartbeat.number(), 8);
        assert_eq!(MessageKind::PreVoteResp.number(), 18);
        assert_eq!(MessageKind::from_number(24), None);
    }
}

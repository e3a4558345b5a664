//! Which of the messages that members send are handed to the learner. Pure.
//!
//! Everything else is dropped and counted by name: votes and orders to campaign must never reach
//! the raft library, which would act on them.
//!
//! # Source
//! raft v3.7.0 `node.go` Step, `raft.go` stepFollower; raft-rs 0.7.0 learners grant votes.

use super::kind::MessageKind;
use crate::ids::MemberId;
use crate::pb::raftpb::Message;

/// What becomes of a received message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is for the learner.
    Deliver(MessageKind),
    /// It ends here.
    Drop(DropReason),
}

/// Why a received message is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// A kind that has no business here.
    Kind(MessageKind),
    /// A kind that no release has.
    UnknownKind,
    /// Another member is meant.
    NotForUs,
    /// It does not come from the member whose connection it came through.
    NotFromPeer,
    /// Its fields contradict each other.
    Malformed,
}

/// Decides about a message received from `peer`.
#[must_use]
pub fn classify(message: &Message, peer: MemberId, us: MemberId) -> Verdict {
    let Some(kind) = MessageKind::from_number(message.r#type) else {
        return Verdict::Drop(DropReason::UnknownKind);
    };
    if message.to != us.0 {
        return Verdict::Drop(DropReason::NotForUs);
    }
    if message.from != peer.0 {
        return Verdict::Drop(DropReason::NotFromPeer);
    }
    if !is_for_learner(kind) {
        return Verdict::Drop(DropReason::Kind(kind));
    }
    let is_sound = if kind == MessageKind::App {
        is_sound_append(message)
    } else {
        message.term > 0
    };
    if !is_sound {
        return Verdict::Drop(DropReason::Malformed);
    }
    Verdict::Deliver(kind)
}

/// Entries follow `index` without a gap, at terms that never fall nor exceed the message's.
pub(crate) fn is_sound_append(message: &Message) -> bool {
    let mut index = message.index;
    let mut term = message.log_term;
    for entry in &message.entries {
        let follows = index.checked_add(1) == Some(entry.index);
        if !follows || entry.term < term || entry.term == 0 {
            return false;
        }
        index = entry.index;
        term = entry.term;
    }
    message.term > 0 && term <= message.term
}

fn is_for_learner(kind: MessageKind) -> bool {
    match kind {
        MessageKind::App | MessageKind::Heartbeat | MessageKind::ReadIndexResp => true,
        MessageKind::Hup
        | MessageKind::Beat
        | MessageKind::Prop
        | MessageKind::AppResp
        | MessageKind::Vote
        | MessageKind::VoteResp
        | MessageKind::Snap
        | MessageKind::HeartbeatResp
        | MessageKind::Unreachable
        | MessageKind::SnapStatus
        | MessageKind::CheckQuorum
        | MessageKind::TransferLeader
        | MessageKind::TimeoutNow
        | MessageKind::ReadIndex
        | MessageKind::PreVote
        | MessageKind::PreVoteResp
        | MessageKind::StorageAppend
        | MessageKind::StorageAppendResp
        | MessageKind::StorageApply
        | MessageKind::StorageApplyResp
        | MessageKind::ForgetLeader => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::raftpb::Entry;

    const PEER: MemberId = MemberId(7);
    const US: MemberId = MemberId(9);

    fn message(kind: MessageKind) -> Message {
        Message {
            r#type: kind.number(),
            from: PEER.0,
            to: US.0,
            term: 3,
            log_term: 2,
            index: 10,
            ..Message::default()
        }
    }

    fn entry(index: u64, term: u64) -> Entry {
        Entry {
            index,
            term,
            ..Entry::default()
        }
    }

    #[test]
    fn three_kinds_reach_the_learner() {
        let delivered: Vec<u32> = MessageKind::ALL
            .into_iter()
            .filter(|kind| classify(&message(*kind), PEER, US) == Verdict::Deliver(*kind))
            .map(MessageKind::number)
            .collect();
        assert_eq!(delivered, [3, 8, 16]);
    }

    #[test]
    fn the_way_of_a_message_must_fit_its_fields() {
        let sound = message(MessageKind::Heartbeat);
        let drops = |change: fn(&mut Message)| {
            let mut changed = sound.clone();
            change(&mut changed);
            classify(&changed, PEER, US)
        };
        assert_eq!(drops(|m| m.to = 1), Verdict::Drop(DropReason::NotForUs));
        assert_eq!(
            drops(|m| m.from = 1),
            Verdict::Drop(DropReason::NotFromPeer)
        );
        assert_eq!(
            drops(|m| m.r#type = 24),
            Verdict::Drop(DropReason::UnknownKind)
        );
        assert_eq!(drops(|m| m.term = 0), Verdict::Drop(DropReason::Malformed));
    }

    #[test]
    fn entries_must_follow_each_other() {
        let cases: [(&[(u64, u64)], bool); 7] = [
            (&[], true),
            (&[(11, 2), (12, 3)], true),
            (&[(12, 2)], false),
            (&[(11, 2), (13, 2)], false),
            (&[(11, 3), (12, 2)], false),
            (&[(11, 1)], false),
            (&[(11, 4)], false),
        ];
        for (entries, is_sound) in cases {
            let mut append = message(MessageKind::App);
            append.entries = entries.iter().map(|(i, t)| entry(*i, *t)).collect();
            assert_eq!(is_sound_append(&append), is_sound, "{entries:?}");
        }
        let mut last = message(MessageKind::App);
        last.index = u64::MAX;
        last.entries = vec![entry(0, 3)];
        assert!(!is_sound_append(&last));
    }
}

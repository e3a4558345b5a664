//! What a learner says that can use nothing but a snapshot. Pure.
//!
//! A leader goes back no further than to what it believes that we hold, and one of 3.6 or later
//! answers a rejection below that with the same append at once, over and over. What it believes it
//! says in its heartbeats. So an append is left unanswered, until it believes nothing: then it is
//! told that our log is empty, and begins with its first entry, or with a snapshot if it has cut
//! its log. That is so after each election, and for a member that was added anew.
//!
//! # Source
//! raft v3.6.0 `raft.go` sendHeartbeat, reset; `tracker/progress.go` MaybeDecrTo.

use super::convert::kind;
use crate::ids::MemberId;
use crate::pb::raftpb::Message;

/// What is known of the leader.
#[derive(Clone, Debug, Default)]
pub(crate) struct Awaiting {
    believed: Option<Believed>,
}

/// Up to where a leader believes that we hold its log.
#[derive(Clone, Copy, Debug)]
struct Believed {
    from: u64,
    term: u64,
    index: u64,
}

/// What to do about a message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Asked {
    /// Step it.
    Step(Message),
    /// Leave it unanswered.
    Nothing,
    /// Send this.
    Answer(Message),
    /// The leader's log begins with the cluster, so no snapshot will come.
    Beginning,
}

impl Awaiting {
    /// Takes a message of a leader.
    pub(crate) fn take(&mut self, us: MemberId, message: Message) -> Asked {
        match message.r#type {
            kind::HEARTBEAT => {
                let known = self.believed.map_or(0, |known| known.term);
                if message.term >= known {
                    self.believed = Some(Believed {
                        from: message.from,
                        term: message.term,
                        index: message.commit,
                    });
                }
                Asked::Step(message)
            }
            kind::APPEND if self.believes_nothing(&message) => {
                let first = message.entries.first();
                if message.index == 0 && first.is_some_and(|entry| entry.index == 1) {
                    return Asked::Beginning;
                }
                Asked::Answer(Message {
                    r#type: kind::APPEND_RESPONSE,
                    to: message.from,
                    from: us.0,
                    term: message.term,
                    index: message.index,
                    reject: true,
                    ..Message::default()
                })
            }
            kind::APPEND => Asked::Nothing,
            _ => Asked::Step(message),
        }
    }

    fn believes_nothing(&self, append: &Message) -> bool {
        self.believed.is_some_and(|known| {
            known.index == 0 && known.term == append.term && known.from == append.from
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::raftpb::Entry;

    const US: MemberId = MemberId(9);

    fn heartbeat(term: u64, commit: u64) -> Message {
        Message {
            r#type: kind::HEARTBEAT,
            from: 1,
            term,
            commit,
            ..Message::default()
        }
    }

    fn append(term: u64, index: u64) -> Message {
        Message {
            r#type: kind::APPEND,
            from: 1,
            term,
            index,
            entries: vec![Entry {
                index: index + 1,
                ..Entry::default()
            }],
            ..Message::default()
        }
    }

    #[test]
    fn a_leader_that_believes_something_gets_no_answer() {
        let mut awaiting = Awaiting::default();
        assert_eq!(
            awaiting.take(US, append(2, 5)),
            Asked::Nothing,
            "not heard yet"
        );
        let beat = heartbeat(2, 5);
        assert_eq!(awaiting.take(US, beat.clone()), Asked::Step(beat));
        assert_eq!(awaiting.take(US, append(2, 5)), Asked::Nothing);
    }

    #[test]
    fn one_that_believes_nothing_is_told_that_our_log_is_empty() {
        let mut awaiting = Awaiting::default();
        awaiting.take(US, heartbeat(2, 5));
        awaiting.take(US, heartbeat(3, 0));
        let Asked::Answer(answer) = awaiting.take(US, append(3, 70)) else {
            panic!("no answer");
        };
        assert_eq!((answer.to, answer.from, answer.term), (1, 9, 3));
        assert_eq!(
            (answer.index, answer.reject, answer.reject_hint),
            (70, true, 0)
        );
        assert_eq!(
            awaiting.take(US, append(2, 70)),
            Asked::Nothing,
            "another term"
        );
        assert_eq!(awaiting.take(US, append(3, 0)), Asked::Beginning);
    }
}

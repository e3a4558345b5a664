//! The raft state of a learner: messages in, acknowledgements and committed entries out. Pure.
//!
//! Around raft-rs stands everything that raft-rs leaves to its caller or would panic on: messages
//! that contradict our log are refused before they reach it, acknowledgements pass the gate, and
//! conf changes are translated.

use std::collections::VecDeque;

use raft::eraftpb::{self, ConfState};
use raft::{Config, RawNode};

use super::convert::{self, kind};
use super::error::Error;
use super::log::{Cut, Log};
use super::membership::{self, MemberChange, Membership};
use crate::checkpoint::{Ack, AckGate};
use crate::entry::Committed;
use crate::ids::{MemberId, RaftIndex, Term};
use crate::pb::raftpb;
use crate::peer::Member;

/// What happens to a message that was no error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// raft took it.
    Stepped,
    /// Its term has passed; ignored.
    Stale,
    /// Its entries do not follow each other; ignored, as no etcd sends that.
    Malformed,
}

/// What a snapshot means to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offered {
    /// Our log covers it: once everything up to its index is durable, the leader has been told and
    /// goes on from there. There is nothing to install.
    Covered,
    /// Our log ends before it. The node can go no further; one that is cut at the snapshot can.
    Needed,
    /// Its term has passed; ignored.
    Stale,
    /// It is no snapshot; ignored.
    Malformed,
}

/// A committed entry on its way to the standby.
#[derive(Clone, Debug)]
pub struct Handout {
    /// The entry.
    pub entry: Committed,
    /// Voters and learners after it, if it changed them.
    pub members: Option<ConfState>,
}

/// Something that the world around should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Another leader, or the same one in a new term.
    Leader(MemberId, Term),
    /// A conf change took effect or was refused, at this index.
    Members(RaftIndex, MemberChange),
}

/// The learner.
#[derive(Debug)]
pub struct Node {
    us: MemberId,
    raw: Debugless<RawNode<Log>>,
    gate: AckGate,
    membership: Membership,
    leader: Option<(MemberId, Term)>,
    leader_commit: RaftIndex,
    messages: VecDeque<raftpb::Message>,
    handouts: VecDeque<Handout>,
    events: VecDeque<Event>,
}

/// `RawNode` has no `Debug` of its own.
struct Debugless<T>(T);

impl<T> std::fmt::Debug for Debugless<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("..")
    }
}

impl Node {
    /// A learner whose log is cut at `cut`; everything up to there is durable in the standby.
    ///
    /// `members`: the primary's members as of the cut, as far as they are known; none when it
    /// begins with the cluster. Of those that are only in the cut's voters and learners we do not
    /// know the URLs, which matters only for conf changes that etcd refused because of them.
    ///
    /// # Errors
    /// [`Error::CutMembers`]; [`Error::Raft`] if raft-rs refuses the configuration.
    pub fn new(
        us: MemberId,
        cut: Cut,
        members: impl IntoIterator<Item = Member>,
    ) -> Result<Self, Error> {
        let config = Config {
            id: us.0,
            election_tick: 10,
            heartbeat_tick: 1,
            applied: cut.index.0,
            check_quorum: true,
            pre_vote: true,
            ..Config::default()
        };
        let durable = cut.index;
        if cut.members != ConfState::default()
            && let Err(why) = membership::check(&cut.members)
        {
            let index = cut.index;
            return Err(Error::CutMembers { index, why });
        }
        let membership = Membership::new(members, &cut.members);
        let raw = RawNode::new(&config, Log::new(cut), &super::logger::logger())
            .map_err(|error| raft_error("its configuration", &error))?;
        Ok(Self {
            us,
            raw: Debugless(raw),
            gate: AckGate::new(durable),
            membership,
            leader: None,
            leader_commit: durable,
            messages: VecDeque::new(),
            handouts: VecDeque::new(),
            events: VecDeque::new(),
        })
    }

    /// The last index received.
    #[must_use]
    pub fn last_index(&self) -> RaftIndex {
        self.log().last()
    }

    /// The last index known to be committed and held here.
    #[must_use]
    pub fn committed(&self) -> RaftIndex {
        RaftIndex(self.raw.0.raft.raft_log.committed)
    }

    /// The highest commit index that a leader spoke of, which may be beyond what we hold.
    #[must_use]
    pub fn leader_commit(&self) -> RaftIndex {
        self.leader_commit
    }

    /// Everything up to here is durable in the standby.
    #[must_use]
    pub fn durable(&self) -> RaftIndex {
        self.gate.durable()
    }

    /// The highest index acknowledged to a leader.
    #[must_use]
    pub fn acknowledged(&self) -> RaftIndex {
        self.gate.acknowledged()
    }

    /// The current leader, if one was heard, and the current term.
    #[must_use]
    pub fn leader(&self) -> (Option<MemberId>, Term) {
        let term = Term(self.raw.0.raft.term);
        (
            self.leader
                .filter(|(_, of)| *of == term)
                .map(|(leader, _)| leader),
            term,
        )
    }

    /// Takes an append or a heartbeat.
    ///
    /// # Errors
    /// Any [`Error`] ends the stream: nothing may be answered afterwards.
    pub fn handle_message(&mut self, mut message: raftpb::Message) -> Result<Taken, Error> {
        if message.term < self.raw.0.raft.term {
            return Ok(Taken::Stale);
        }
        match message.r#type {
            kind::HEARTBEAT => self.check_heartbeat(&message)?,
            kind::APPEND if !is_well_formed(&message) => return Ok(Taken::Malformed),
            kind::APPEND => {
                self.check_history(&message)?;
                cut_below(&mut message, self.committed());
            }
            other => return Err(convert::Error::MessageType(other).into()),
        }
        self.leader_commit = self.leader_commit.max(RaftIndex(message.commit));
        self.step(message)?;
        Ok(Taken::Stepped)
    }

    /// Takes a snapshot's message, with or without the snapshot's data.
    ///
    /// A node that was made with its cut at the snapshot's index takes the same message again, and
    /// tells the leader by it that everything up to there is durable.
    ///
    /// # Errors
    /// Any [`Error`] ends the stream: nothing may be answered afterwards.
    pub fn handle_snapshot(&mut self, message: raftpb::Message) -> Result<Offered, Error> {
        if message.term < self.raw.0.raft.term {
            return Ok(Offered::Stale);
        }
        let snapshot = message.snapshot.as_ref();
        let Some(metadata) = snapshot.and_then(|snapshot| snapshot.metadata.as_ref()) else {
            return Ok(Offered::Malformed);
        };
        let (index, term) = (RaftIndex(metadata.index), Term(metadata.term));
        if message.r#type != kind::SNAPSHOT || term.0 > message.term {
            return Ok(Offered::Malformed);
        }
        self.check_snapshot(MemberId(message.from), index, term)?;
        if index > self.committed() {
            check_snapshot(self.us, &message)?;
            if self.log().term_at(index) != Some(term) {
                return Ok(Offered::Needed);
            }
        }
        self.leader_commit = self.leader_commit.max(index);
        self.step(message)?;
        Ok(Offered::Covered)
    }

    fn step(&mut self, message: raftpb::Message) -> Result<(), Error> {
        let (from, term) = (MemberId(message.from), Term(message.term));
        let raft_message = convert::to_raft(message)?;
        self.raw
            .0
            .step(raft_message)
            .map_err(|error| raft_error("a message", &error))?;
        if self.leader != Some((from, term)) {
            self.leader = Some((from, term));
            self.events.push_back(Event::Leader(from, term));
        }
        self.drain_ready()
    }

    /// The standby holds everything up to `index`: what was held back about it may be said now.
    ///
    /// # Panics
    /// If the durable index would fall or pass what was handed out.
    pub fn handle_durable(&mut self, index: RaftIndex) {
        assert!(
            index <= self.committed(),
            "durable index {index} was never handed out"
        );
        if let Some(ack) = self.gate.release(index) {
            self.messages.push_back(self.append_response(ack));
        }
    }

    /// The next message to send.
    pub fn poll_message(&mut self) -> Option<raftpb::Message> {
        self.messages.pop_front()
    }

    /// The next committed entry; each comes once, in order.
    pub fn poll_handout(&mut self) -> Option<Handout> {
        self.handouts.pop_front()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn log(&self) -> &Log {
        self.raw.0.store()
    }

    /// A leader's heartbeat carries no commit index above what it believes that we hold. One above
    /// our log means that we lost what we acknowledged.
    fn check_heartbeat(&self, message: &raftpb::Message) -> Result<(), Error> {
        let (believed, last) = (RaftIndex(message.commit), self.last_index());
        if believed <= last {
            return Ok(());
        }
        Err(Error::LeaderBelievesMore {
            leader: MemberId(message.from),
            believed,
            last,
        })
    }

    /// What is committed here must be the same in every leader's log.
    fn check_history(&self, message: &raftpb::Message) -> Result<(), Error> {
        let preceding = (RaftIndex(message.index), Term(message.log_term));
        let entries = message
            .entries
            .iter()
            .map(|entry| (RaftIndex(entry.index), Term(entry.term)));
        let committed = self.committed();
        for (index, theirs) in std::iter::once(preceding).chain(entries) {
            if index > committed {
                break;
            }
            if let Some(ours) = self.log().term_at(index).filter(|ours| *ours != theirs) {
                let leader = MemberId(message.from);
                return Err(Error::HistoryConflict {
                    leader,
                    index,
                    theirs,
                    ours,
                });
            }
        }
        Ok(())
    }

    /// A snapshot, too, must be of the history that we hold as committed: of the same term where
    /// both have an entry, and of none before ours where it goes on.
    fn check_snapshot(
        &self,
        leader: MemberId,
        index: RaftIndex,
        theirs: Term,
    ) -> Result<(), Error> {
        let at = index.min(self.committed());
        let conflict = self.log().term_at(at).filter(|ours| {
            let is_same_entry = at == index;
            (is_same_entry && theirs != *ours) || theirs < *ours
        });
        match conflict {
            None => Ok(()),
            Some(ours) => Err(Error::HistoryConflict {
                leader,
                index: at,
                theirs,
                ours,
            }),
        }
    }

    /// Does what raft-rs asks for, in the order it demands: take entries into the log, then let its
    /// messages out, then apply what is committed.
    fn drain_ready(&mut self) -> Result<(), Error> {
        while self.raw.0.has_ready() {
            let mut ready = self.raw.0.ready();
            self.raw.0.mut_store().append(ready.take_entries());
            let mut messages = ready.take_persisted_messages();
            let mut committed = ready.take_committed_entries();
            let mut rest = self.raw.0.advance_append(ready);
            messages.extend(rest.take_messages());
            committed.extend(rest.take_committed_entries());
            for message in messages {
                self.answer(message)?;
            }
            if let Some(last) = committed.last().map(|entry| entry.index) {
                for entry in committed {
                    self.hand_out(entry)?;
                }
                self.raw.0.advance_apply_to(last);
                self.raw.0.mut_store().release(RaftIndex(last));
            }
        }
        Ok(())
    }

    /// Lets an answer of raft-rs out, acknowledgements through the gate.
    fn answer(&mut self, message: eraftpb::Message) -> Result<(), Error> {
        let message = convert::from_raft(message)?;
        if message.r#type == kind::APPEND_RESPONSE && !message.reject {
            let to = MemberId(message.to);
            let ack = self
                .gate
                .hold(to, Term(message.term), RaftIndex(message.index));
            self.messages.push_back(self.append_response(ack));
        } else {
            self.messages.push_back(message);
        }
        Ok(())
    }

    fn append_response(&self, ack: Ack) -> raftpb::Message {
        raftpb::Message {
            r#type: kind::APPEND_RESPONSE,
            to: ack.to.0,
            from: self.us.0,
            term: ack.term.0,
            index: ack.index.0,
            ..raftpb::Message::default()
        }
    }

    fn hand_out(&mut self, entry: eraftpb::Entry) -> Result<(), Error> {
        let index = RaftIndex(entry.index);
        let is_conf_change = entry.entry_type == eraftpb::EntryType::EntryConfChange;
        let members = if is_conf_change {
            self.change_members(index, &entry)?
        } else {
            None
        };
        self.handouts.push_back(Handout {
            entry: Committed {
                index,
                term: Term(entry.term),
                kind: u32::from(is_conf_change),
                data: entry.data,
            },
            members,
        });
        Ok(())
    }

    fn change_members(
        &mut self,
        index: RaftIndex,
        entry: &eraftpb::Entry,
    ) -> Result<Option<ConfState>, Error> {
        let change = <raftpb::ConfChange as prost::Message>::decode(entry.data.clone())
            .map_err(|_| membership::Error::Bytes { index })?;
        let effect = self.membership.apply(index, &change)?;
        let members = match effect.for_raft() {
            None => None,
            Some(change) => Some(
                self.raw
                    .0
                    .apply_conf_change(&change)
                    .map_err(|error| raft_error(&format!("conf change {index}"), &error))?,
            ),
        };
        self.events.push_back(Event::Members(index, effect));
        Ok(members)
    }
}

/// Can a node be cut at this snapshot? To be asked before it is installed without a node having
/// taken it ([`Node::handle_snapshot`] asks by itself).
///
/// # Errors
/// [`Error::SnapshotMembers`], [`Error::SnapshotWithoutUs`].
pub fn check_snapshot(us: MemberId, message: &raftpb::Message) -> Result<(), Error> {
    let snapshot = message.snapshot.as_ref();
    let metadata = snapshot.and_then(|snapshot| snapshot.metadata.as_ref());
    let index = RaftIndex(metadata.map_or(0, |metadata| metadata.index));
    let group = metadata.and_then(|metadata| metadata.conf_state.as_ref());
    let members = group.map(convert::conf_state_to_raft).unwrap_or_default();
    let leader = MemberId(message.from);
    if let Err(why) = membership::check(&members) {
        return Err(Error::SnapshotMembers { leader, index, why });
    }
    if !members.voters.contains(&us.0) && !members.learners.contains(&us.0) {
        return Err(Error::SnapshotWithoutUs { leader, index });
    }
    Ok(())
}

fn raft_error(what: &str, error: &raft::Error) -> Error {
    Error::Raft {
        what: what.to_owned(),
        why: error.to_string(),
    }
}

/// Leaves out the entries up to `committed`, which are known to be ours, too, if others follow.
///
/// Raft takes nothing of an append that begins below the commit index. That is harmless where a
/// member acknowledges what it has; we acknowledge what is durable in the standby, which may end
/// within a message. A leader that was probing sends on from there, and would not repeat what
/// was ignored.
fn cut_below(message: &mut raftpb::Message, committed: RaftIndex) {
    let known = message
        .entries
        .iter()
        .take_while(|entry| entry.index <= committed.0);
    let known = known.count();
    if known == message.entries.len() {
        return;
    }
    if let Some(last) = message.entries.drain(..known).last() {
        message.index = last.index;
        message.log_term = last.term;
    }
}

/// Entries follow the preceding index without a gap, and terms never fall nor pass the message's.
fn is_well_formed(message: &raftpb::Message) -> bool {
    let mut index = message.index;
    let mut term = message.log_term;
    for entry in &message.entries {
        let follows = index.checked_add(1) == Some(entry.index);
        if !follows || entry.term < term || entry.term > message.term {
            return false;
        }
        index = entry.index;
        term = entry.term;
    }
    message.log_term <= message.term
}

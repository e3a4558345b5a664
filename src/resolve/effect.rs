//! What an entry does, decided before anything changes, and how the state takes it in.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::auth::{AuthChange, AuthUpdate};
use super::changes::{AlarmChange, Changes, LeaseChange, Outcome};
use super::class::CLUSTER_INFORMATION;
use super::state::PrimaryState;
use super::write::Write;
use crate::ids::{LeaseId, Revision};
use crate::range::KeyRange;

/// The decision about one entry.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Decision {
    /// It does nothing, for this reason.
    Nothing(&'static str),
    /// It does this.
    Effect(Effect),
    /// That depends on the values of these keys.
    Needs(BTreeSet<Bytes>),
}

/// What an entry does.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Effect {
    /// Writes keys, as one revision.
    Write(Write),
    /// Moves the compact revision.
    Compact(Revision),
    /// Makes a lease with a TTL in seconds.
    Grant(LeaseId, i64),
    /// Ends a lease and deletes its keys.
    Revoke(LeaseId, Option<Write>),
    /// Notes what is left of leases in seconds, which nothing but a new leader of the primary uses.
    Remaining(Vec<(LeaseId, i64)>),
    /// Changes users or roles.
    Auth(AuthUpdate),
    /// Raises or clears an alarm.
    Alarm(AlarmChange),
    /// Says that a member started, which matters for alarms only.
    MemberStarted,
}

/// What the planner is told of an effect.
pub(super) struct Told {
    pub(super) outcome: Outcome,
    pub(super) changes: Changes,
    pub(super) lease: Option<LeaseChange>,
    pub(super) auth: Vec<AuthChange>,
    pub(super) alarm: Option<AlarmChange>,
}

impl Told {
    pub(super) fn nothing(reason: &'static str) -> Self {
        Self {
            outcome: Outcome::None(reason),
            ..Self::effect()
        }
    }

    fn effect() -> Self {
        Self {
            outcome: Outcome::Effect,
            changes: Changes::default(),
            lease: None,
            auth: Vec::new(),
            alarm: None,
        }
    }
}

impl Decision {
    /// True if both leave the same state behind.
    pub(super) fn agrees_with(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Nothing(_), Self::Nothing(_)) => true,
            _ => self == other,
        }
    }

    /// The keys that are written or deleted.
    pub(super) fn touched(&self) -> Vec<KeyRange> {
        let (Self::Effect(Effect::Write(write)) | Self::Effect(Effect::Revoke(_, Some(write)))) =
            self
        else {
            return Vec::new();
        };
        let puts = write.changes.puts.iter();
        let puts = puts.map(|put| KeyRange::single(&put.key));
        puts.chain(write.changes.deletes.iter().cloned()).collect()
    }
}

impl Effect {
    /// Changes the state, and says what changed.
    pub(super) fn apply(self, state: &mut PrimaryState) -> Told {
        match &self {
            Self::Auth(update) if !update.users.is_empty() => {
                state.former.note_users(&state.auth, &update.users);
            }
            // These write nothing that a member must.
            Self::Remaining(_) | Self::MemberStarted => {}
            Self::Write(_)
            | Self::Compact(_)
            | Self::Grant(_, _)
            | Self::Revoke(_, _)
            | Self::Auth(_)
            | Self::Alarm(_) => state.former.note_other(),
        }
        match self {
            Self::Write(write) => {
                write.apply(state);
                Told {
                    changes: write.changes,
                    ..Told::effect()
                }
            }
            Self::Compact(revision) => {
                state.compact(revision);
                Told::effect()
            }
            Self::Grant(id, ttl) => {
                state.restore_lease(id, ttl, 0);
                Told {
                    lease: Some(LeaseChange::Granted { id, ttl }),
                    ..Told::effect()
                }
            }
            Self::Revoke(id, write) => {
                if let Some(write) = &write {
                    write.apply(state);
                }
                state.remove_lease(id);
                Told {
                    changes: write.map_or_else(Changes::default, |write| write.changes),
                    lease: Some(LeaseChange::Revoked { id }),
                    ..Told::effect()
                }
            }
            Self::Remaining(left) => {
                for (id, remaining) in left {
                    state.set_remaining(id, remaining);
                }
                Told::nothing("only the remaining time of leases")
            }
            Self::Auth(update) => Told {
                auth: update.apply(&mut state.auth),
                ..Told::effect()
            },
            Self::Alarm(change) => {
                state.alarms.apply(change);
                Told {
                    alarm: Some(change),
                    ..Told::effect()
                }
            }
            Self::MemberStarted => {
                state.alarms.member_started();
                Told::nothing(CLUSTER_INFORMATION)
            }
        }
    }
}

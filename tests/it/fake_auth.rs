//! A standby's users and roles in memory, behind a network that fails when told to.
//!
//! Calls are numbered from 0, questions and changes alike. Whatever [`Fault`] stands at a number
//! happens to that call.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use etcd_syncer::plan::auth::AuthCall;
use etcd_syncer::resolve::Permission;
use etcd_syncer::standby::{Auth, Failure};

use crate::auth_model::Model;

/// What happens to one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The request is lost, and nobody says so.
    LostRequest,
    /// It is done; the answer is lost.
    LostAnswer,
    /// It looks lost, and is done right before the next call.
    Late,
    /// It is not done, and the standby says so.
    NotApplied,
    /// Right before the call somebody removes every user but root and ours.
    Meddled,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) model: Model,
    pub(crate) calls: usize,
    pub(crate) faults: BTreeMap<usize, Fault>,
    late: Option<AuthCall>,
}

/// A handle; all of them share one standby.
#[derive(Clone, Debug)]
pub(crate) struct FakeAuth(Arc<Mutex<State>>);

impl FakeAuth {
    pub(crate) fn new(takes_hashes: bool) -> Self {
        Self(Arc::new(Mutex::new(State {
            model: Model::new(takes_hashes),
            calls: 0,
            faults: BTreeMap::new(),
            late: None,
        })))
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask<T>(&self, answer: impl FnOnce(&Model) -> T) -> Result<T, Failure> {
        let mut state = self.state();
        match state.begin() {
            Some(Fault::LostRequest | Fault::LostAnswer | Fault::Late) => Err(lost()),
            Some(Fault::NotApplied) => Err(Failure::NotApplied("no leader".into())),
            Some(Fault::Meddled) | None if state.model.lets_us_in() => Ok(answer(&state.model)),
            Some(Fault::Meddled) | None => Err(Failure::Refused("locked out".into())),
        }
    }
}

fn lost() -> Failure {
    Failure::Unknown("no answer".into())
}

impl State {
    fn begin(&mut self) -> Option<Fault> {
        if let Some(late) = self.late.take() {
            let _ = self.model.change(&late);
        }
        let fault = self.faults.remove(&self.calls);
        self.calls += 1;
        if fault == Some(Fault::Meddled) {
            let keeps = ["root", crate::auth_model::OURS];
            self.model
                .users
                .retain(|name, _| keeps.contains(&name.as_str()));
        }
        fault
    }

    fn change(&mut self, call: &AuthCall) -> Result<(), Failure> {
        let Err(text) = self.model.change(call) else {
            return Ok(());
        };
        let presumes = matches!(
            call,
            AuthCall::GrantRole { .. }
                | AuthCall::GrantPermission { .. }
                | AuthCall::SetPassword { .. }
                | AuthCall::Enable
        );
        match text {
            "invalid auth management" => Err(Failure::NotApplied(text.into())),
            _ if text.starts_with("authentication failed") => Err(Failure::Refused(text.into())),
            _ if presumes => Err(Failure::NotApplied(text.into())),
            _ => Ok(()),
        }
    }
}

impl Auth for FakeAuth {
    async fn is_auth_enabled(&mut self) -> Result<bool, Failure> {
        self.ask(|model| model.enabled)
    }

    async fn takes_hashes(&mut self) -> Result<bool, Failure> {
        self.ask(|model| model.takes_hashes)
    }

    async fn users(&mut self) -> Result<Vec<String>, Failure> {
        self.ask(|model| model.users.keys().cloned().collect())
    }

    async fn roles_of(&mut self, users: &[String]) -> Result<Vec<Option<Vec<String>>>, Failure> {
        let roles = |name: &String| {
            self.ask(|model| {
                let user = model.users.get(name)?;
                Some(user.roles.iter().cloned().collect())
            })
        };
        users.iter().map(roles).collect()
    }

    async fn roles(&mut self) -> Result<Vec<String>, Failure> {
        self.ask(|model| model.roles.keys().cloned().collect())
    }

    async fn permissions_of(
        &mut self,
        roles: &[String],
    ) -> Result<Vec<Option<Vec<Permission>>>, Failure> {
        let permissions = |name: &String| self.ask(|model| model.roles.get(name).cloned());
        roles.iter().map(permissions).collect()
    }

    async fn change_auth(&mut self, calls: &[AuthCall]) -> Vec<Result<(), Failure>> {
        calls.iter().map(|call| self.change(call)).collect()
    }

    fn leave_endpoint(&mut self) {}
}

impl FakeAuth {
    fn change(&self, call: &AuthCall) -> Result<(), Failure> {
        let mut state = self.state();
        match state.begin() {
            None | Some(Fault::Meddled) => state.change(call),
            Some(Fault::LostRequest) => Err(lost()),
            Some(Fault::LostAnswer) => {
                let _ = state.change(call);
                Err(lost())
            }
            Some(Fault::Late) => {
                state.late = Some(call.clone());
                Err(lost())
            }
            Some(Fault::NotApplied) => Err(Failure::NotApplied("no leader".into())),
        }
    }
}

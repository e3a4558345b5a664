//! Entries as lines, with what they did where that can be worked out.

use std::collections::BTreeMap;
use std::io::Write;

use serde_json::{Value, json};

use super::items::{Fields, text};
use super::shown;
use super::{Entries, Stop};
use crate::entry::{self, Committed};
use crate::ids::RaftIndex;
use crate::learner::Membership;
use crate::offline::{self, Effects};
use crate::resolve::{LeaseChange, Outcome, Resolved};

/// Prints entries in order.
#[derive(Debug)]
pub(super) struct Lines<'a, W> {
    out: &'a mut W,
    options: &'a Entries,
    /// None where there is no state to begin with, or none any more.
    effects: Option<Effects>,
    /// Whether an entry beyond this one was committed is not known.
    known: RaftIndex,
    /// By kind: how many, and how many of them had an effect.
    totals: BTreeMap<&'static str, (u64, u64)>,
}

impl<'a, W: Write> Lines<'a, W> {
    pub(super) fn new(
        out: &'a mut W,
        options: &'a Entries,
        effects: Option<Effects>,
        known: RaftIndex,
    ) -> Self {
        Self {
            out,
            options,
            effects,
            known,
            totals: BTreeMap::new(),
        }
    }

    /// What works out effects, as long as anything can.
    pub(super) fn effects(&mut self) -> Option<&mut Effects> {
        self.effects.as_mut()
    }

    /// Prints an entry; `membership` is as of the entry before it.
    pub(super) fn entry(
        &mut self,
        committed: Committed,
        membership: &mut Membership,
    ) -> Result<(), Stop> {
        let mut line = Fields::new();
        let kind = match entry::decode(&committed) {
            Ok(entry) => {
                line.insert("request".to_owned(), self.options.show.op(&entry.op).into());
                if !entry.header.username.is_empty() {
                    line.insert("user".to_owned(), entry.header.username.as_str().into());
                }
                let kind = entry.op.kind();
                self.work_out(&entry, &mut line);
                kind
            }
            Err(error) => {
                line.insert("error".to_owned(), error.to_string().into());
                self.give_up(&error.to_string(), &mut line);
                "unreadable"
            }
        };
        // One that is not understood was shown as such.
        if let Ok(handout) = offline::hand_out(membership, committed.clone())
            && let (Some(members), Some(effects)) = (handout.members, &mut self.effects)
        {
            effects.set_voters(members.voters.len());
        }
        let had_effect = line.get("effect").is_some_and(Value::is_object);
        let total = self.totals.entry(kind).or_default();
        total.0 += 1;
        total.1 += u64::from(had_effect);
        if committed.index > self.known {
            line.insert("undetermined".to_owned(), true.into());
        }
        let index = committed.index.0;
        if index < self.options.from || index > self.options.to {
            return Ok(());
        }
        self.print(&committed, kind, line)
    }

    fn work_out(&mut self, entry: &entry::Entry, line: &mut Fields) {
        let Some(effects) = &mut self.effects else {
            return;
        };
        // What the state holds already is not worked out again.
        if entry.index <= effects.state().position().index {
            return;
        }
        match effects.apply(entry) {
            Ok(resolved) => {
                line.insert("effect".to_owned(), effect(&resolved));
                if let Outcome::None(reason) = resolved.outcome {
                    line.insert("no_effect".to_owned(), reason.into());
                }
                if resolved.disagreement.is_some() {
                    line.insert("members_may_disagree".to_owned(), true.into());
                }
            }
            Err(error) => self.give_up(&error.to_string(), line),
        }
    }

    /// From here on nothing is known of effects.
    fn give_up(&mut self, why: &str, line: &mut Fields) {
        if self.effects.take().is_some() {
            line.insert("effects_unknown_from_here".to_owned(), why.into());
        }
    }

    fn print(&mut self, committed: &Committed, kind: &str, line: Fields) -> Result<(), Stop> {
        let (index, term) = (committed.index.0, committed.term.0);
        if self.options.json {
            let mut all = line;
            all.retain(|_, value| !value.is_null());
            all.insert("index".to_owned(), index.into());
            all.insert("term".to_owned(), term.into());
            all.insert("kind".to_owned(), kind.into());
            writeln!(self.out, "{}", Value::Object(all))?;
            return Ok(());
        }
        let mut words = vec![format!("{index:>8} {term:>4}  {kind:<16}")];
        for (name, value) in line {
            match (name.as_str(), value) {
                (_, Value::Null) => {}
                ("request", Value::Object(request)) => {
                    words.extend(
                        request
                            .iter()
                            .map(|(name, value)| format!("{name}={value}")),
                    );
                }
                (name, value) => words.push(format!("| {name}={value}")),
            }
        }
        writeln!(self.out, "{}", words.join(" ").trim_end())?;
        Ok(())
    }

    /// Prints how many entries there were.
    pub(super) fn finish(self) -> Result<(), Stop> {
        let knows = self.effects.is_some();
        if self.options.json {
            let totals = self.totals.iter().map(|(kind, (count, with_effect))| {
                let mut total = json!({"entries": count});
                if knows {
                    total["with_effect"] = (*with_effect).into();
                }
                ((*kind).to_owned(), total)
            });
            let totals: Fields = totals.collect();
            writeln!(self.out, "{}", json!({"totals": totals}))?;
            return Ok(());
        }
        for (kind, (count, with_effect)) in &self.totals {
            let effects = if knows {
                format!(", {with_effect} with effect")
            } else {
                String::new()
            };
            writeln!(self.out, "total {kind}: {count}{effects}")?;
        }
        Ok(())
    }
}

/// What an entry did; null if it did nothing.
fn effect(resolved: &Resolved) -> Value {
    if matches!(resolved.outcome, Outcome::None(_)) {
        return Value::Null;
    }
    let mut shown = Fields::new();
    shown.insert("revision".to_owned(), resolved.revision.0.into());
    let puts = resolved.changes.puts.iter();
    let puts: Vec<Value> = puts.map(|put| text(&put.key).into()).collect();
    if !puts.is_empty() {
        shown.insert("puts".to_owned(), puts.into());
    }
    let deletes = resolved.changes.deletes.iter();
    let deletes: Vec<Value> = deletes.map(shown::range).collect();
    if !deletes.is_empty() {
        shown.insert("deletes".to_owned(), deletes.into());
    }
    match resolved.lease {
        None => {}
        Some(LeaseChange::Granted { id, ttl }) => {
            let granted = json!({"lease": id.to_string(), "ttl": ttl});
            shown.insert("granted".to_owned(), granted);
        }
        Some(LeaseChange::Revoked { id }) => {
            shown.insert("revoked".to_owned(), id.to_string().into());
        }
    }
    if !resolved.auth.is_empty() {
        shown.insert("auth_changes".to_owned(), resolved.auth.len().into());
    }
    if resolved.alarm.is_some() {
        shown.insert("alarm".to_owned(), true.into());
    }
    if resolved.kind == "compaction" {
        shown.insert("compacted".to_owned(), resolved.compact_revision.0.into());
    }
    shown.into()
}

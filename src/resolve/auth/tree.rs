//! The red-black tree in which the primary keeps a user's permissions.
//!
//! For ordinary requests the shape of the tree does not matter. For inverted ones it does: the
//! search leaves out branches on the assumption that every interval begins before it ends. So the
//! tree is built here as the primary builds it.
//!
//! # Source
//! The red-black and interval trees of Cormen et al., chapters 13 and 14, which etcd
//! `pkg/adt/interval_tree.go` follows; the search and the order of equal intervals are etcd's own.

use std::cmp::Ordering;

use bytes::Bytes;

use super::interval::{Interval, compare};

/// Where an interval goes that begins where another does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ties {
    /// To the right, up to 3.6.
    Right,
    /// To the left if it ends earlier, from 3.7 on.
    ByEnd,
}

/// Permissions of one user for reading or for writing.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    root: Option<usize>,
    ties: Ties,
}

#[derive(Debug)]
struct Node {
    interval: Interval,
    /// The greatest end in the subtree.
    max: Bytes,
    children: [Option<usize>; 2],
    parent: Option<usize>,
    is_red: bool,
}

const LEFT: usize = 0;
const RIGHT: usize = 1;

impl Tree {
    /// Inserts the intervals one after the other.
    pub(super) fn build(intervals: impl IntoIterator<Item = Interval>, ties: Ties) -> Self {
        let mut tree = Self {
            nodes: Vec::new(),
            root: None,
            ties,
        };
        for interval in intervals {
            tree.insert(interval);
        }
        tree.root.map(|root| tree.set_max(root));
        tree
    }

    /// True if the search for one key meets an interval that holds it.
    pub(super) fn intersects(&self, wanted: &Interval) -> bool {
        let mut place = self.root;
        while let Some(node) = place.map(|at| &self.nodes[at]) {
            if wanted.lies(&node.interval).is_eq() {
                return true;
            }
            let goes_left = node.children[LEFT]
                .is_some_and(|left| compare(&self.nodes[left].max, &wanted.begin).is_gt());
            place = node.children[if goes_left { LEFT } else { RIGHT }];
        }
        false
    }

    /// True if what the search for a range meets holds all of it without a gap.
    pub(super) fn contains(&self, wanted: &Interval) -> bool {
        let mut met = Vec::new();
        self.visit(self.root, wanted, &mut met);
        let Some(first) = met.first() else {
            return false;
        };
        let mut end = &first.end;
        for interval in &met {
            if compare(end, &interval.begin).is_lt() {
                return false;
            }
            if compare(&interval.end, end).is_gt() {
                end = &interval.end;
            }
        }
        compare(end, &wanted.end).is_ge() && compare(&first.begin, &wanted.begin).is_le()
    }

    fn visit<'a>(&'a self, place: Option<usize>, wanted: &Interval, met: &mut Vec<&'a Interval>) {
        let Some(node) = place.map(|at| &self.nodes[at]) else {
            return;
        };
        let [left, right] = node.children;
        match wanted.lies(&node.interval) {
            Ordering::Less => self.visit(left, wanted, met),
            Ordering::Greater => {
                let whole = Interval {
                    begin: node.interval.begin.clone(),
                    end: node.max.clone(),
                };
                if whole.lies(wanted).is_eq() {
                    self.visit(left, wanted, met);
                    self.visit(right, wanted, met);
                }
            }
            Ordering::Equal => {
                self.visit(left, wanted, met);
                met.push(&node.interval);
                self.visit(right, wanted, met);
            }
        }
    }

    fn insert(&mut self, interval: Interval) {
        let mut parent = None;
        let mut side = LEFT;
        let mut place = self.root;
        while let Some(at) = place {
            parent = Some(at);
            side = self.side(&interval, &self.nodes[at].interval);
            place = self.nodes[at].children[side];
        }
        let new = self.nodes.len();
        self.nodes.push(Node {
            max: interval.end.clone(),
            interval,
            children: [None; 2],
            parent,
            is_red: true,
        });
        match parent {
            Some(parent) => self.nodes[parent].children[side] = Some(new),
            None => self.root = Some(new),
        }
        self.rebalance(new);
    }

    fn side(&self, new: &Interval, old: &Interval) -> usize {
        let order = compare(&new.begin, &old.begin).then_with(|| match self.ties {
            Ties::Right => Ordering::Greater,
            Ties::ByEnd => compare(&new.end, &old.end),
        });
        if order.is_lt() { LEFT } else { RIGHT }
    }

    fn rebalance(&mut self, new: usize) {
        let mut at = new;
        while let Some(mut parent) = self.nodes[at].parent.filter(|p| self.nodes[*p].is_red) {
            // A red node is never the root, so there is a grandparent.
            let Some(grandparent) = self.nodes[parent].parent else {
                break;
            };
            let side = self.side_of(parent, grandparent);
            let uncle = self.nodes[grandparent].children[1 - side];
            if let Some(uncle) = uncle.filter(|uncle| self.nodes[*uncle].is_red) {
                self.nodes[uncle].is_red = false;
                self.nodes[parent].is_red = false;
                self.nodes[grandparent].is_red = true;
                at = grandparent;
                continue;
            }
            if self.side_of(at, parent) != side {
                self.rotate(parent, side);
                std::mem::swap(&mut at, &mut parent);
            }
            self.nodes[parent].is_red = false;
            self.nodes[grandparent].is_red = true;
            self.rotate(grandparent, 1 - side);
        }
        if let Some(root) = self.root {
            self.nodes[root].is_red = false;
        }
    }

    fn side_of(&self, child: usize, parent: usize) -> usize {
        usize::from(self.nodes[parent].children[LEFT] != Some(child))
    }

    /// Moves a node down to `side`; its child on the other side takes its place.
    fn rotate(&mut self, down: usize, side: usize) {
        let Some(up) = self.nodes[down].children[1 - side] else {
            return;
        };
        let moved = self.nodes[up].children[side];
        self.nodes[down].children[1 - side] = moved;
        if let Some(moved) = moved {
            self.nodes[moved].parent = Some(down);
        }
        let parent = self.nodes[down].parent;
        self.nodes[up].parent = parent;
        match parent {
            Some(parent) => {
                let place = self.side_of(down, parent);
                self.nodes[parent].children[place] = Some(up);
            }
            None => self.root = Some(up),
        }
        self.nodes[up].children[side] = Some(down);
        self.nodes[down].parent = Some(up);
    }

    /// Sets the greatest end of the subtree at `place`, and gives it.
    fn set_max(&mut self, place: usize) -> Bytes {
        let mut max = self.nodes[place].interval.end.clone();
        for child in self.nodes[place].children.into_iter().flatten() {
            let below = self.set_max(child);
            if compare(&below, &max).is_gt() {
                max = below;
            }
        }
        self.nodes[place].max.clone_from(&max);
        max
    }
}

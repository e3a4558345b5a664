//! Arranges the operations of one transaction so that each list in it stays within the standby's
//! `--max-txn-ops`. Pure.
//!
//! etcd counts the operations of a transaction list by list: a transaction whose longest list has
//! `n` operations leaves `limit - n` to the lists of each transaction nested in it. So nesting lets
//! one atomic transaction carry thousands of operations.
//!
//! # Source
//! etcd `server/etcdserver/api/v3rpc/key.go`, `checkTxnRequest` (3.4 to 3.7).

/// A list of operations with transactions nested in it.
#[derive(Clone, Debug, PartialEq)]
pub enum Nested<T> {
    /// One operation.
    Op(T),
    /// A transaction without a condition, which does all of these.
    Txn(Vec<Nested<T>>),
}

/// The longest list for a batch in one transaction of a standby with this `--max-txn-ops`: two
/// places are for the checkpoint and the journal.
#[must_use]
pub fn list_max(txn_ops_max: usize) -> usize {
    txn_ops_max.saturating_sub(2)
}

/// How many levels of nesting are used at most; three carry 75,000 operations at the default limit.
const DEPTH_MAX: usize = 3;

/// The number of operations that a list of at most `list_max` entries can carry.
#[must_use]
pub fn capacity(list_max: usize) -> usize {
    capacity_at(list_max, DEPTH_MAX)
}

fn capacity_at(list_max: usize, depth: usize) -> usize {
    if depth == 0 {
        return list_max;
    }
    (1..=list_max)
        .map(|children| children * capacity_at(list_max - children, depth - 1))
        .max()
        .unwrap_or(0)
        .max(list_max)
}

/// Arranges `ops` so that no list is longer than it may be; None if they do not fit.
pub fn nest<T>(ops: Vec<T>, list_max: usize) -> Option<Vec<Nested<T>>> {
    (0..=DEPTH_MAX)
        .find(|depth| capacity_at(list_max, *depth) >= ops.len())
        .map(|depth| {
            let mut rest = ops.into_iter();
            fill(&mut rest, list_max, depth)
        })
}

/// Takes as many operations as a list of `list_max` entries can hold with `depth` levels below it.
fn fill<T>(
    ops: &mut impl ExactSizeIterator<Item = T>,
    list_max: usize,
    depth: usize,
) -> Vec<Nested<T>> {
    if depth == 0 {
        return ops.take(list_max).map(Nested::Op).collect();
    }
    let wanted = ops.len().min(capacity_at(list_max, depth));
    let children = (1..=list_max)
        .find(|children| children * capacity_at(list_max - children, depth - 1) >= wanted)
        .unwrap_or(list_max);
    (0..children)
        .map(|_| Nested::Txn(fill(ops, list_max - children, depth - 1)))
        .filter(|child| !matches!(child, Nested::Txn(list) if list.is_empty()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// etcd's own check, written down once more.
    fn fits<T>(list: &[Nested<T>], limit: usize) -> bool {
        list.len() <= limit
            && list.iter().all(|entry| match entry {
                Nested::Op(_) => true,
                Nested::Txn(inner) => fits(inner, limit - list.len()),
            })
    }

    fn flat<T: Clone>(list: &[Nested<T>]) -> Vec<T> {
        list.iter()
            .flat_map(|entry| match entry {
                Nested::Op(op) => vec![op.clone()],
                Nested::Txn(inner) => flat(inner),
            })
            .collect()
    }

    #[test]
    fn a_short_list_is_left_flat() {
        assert_eq!(
            nest(vec![1, 2], 2),
            Some(vec![Nested::Op(1), Nested::Op(2)])
        );
        assert_eq!(nest(Vec::<u8>::new(), 2), Some(vec![]));
    }

    #[test]
    fn known_capacities_at_the_default_limit() {
        assert_eq!(capacity_at(128, 1), 64 * 64);
        assert!(capacity(127) > 75_000);
    }

    #[test]
    fn every_count_that_fits_is_carried_whole_and_in_order() {
        for limit in 1..=9 {
            let most = capacity(limit);
            for count in 0..=most {
                let ops: Vec<usize> = (0..count).collect();
                let list = nest(ops.clone(), limit).unwrap();
                assert!(fits(&list, limit), "{count} ops, limit {limit}: {list:?}");
                assert_eq!(flat(&list), ops);
            }
            assert_eq!(nest(vec![0; most + 1], limit), None);
        }
        let ops: Vec<u32> = (0..5000).collect();
        let list = nest(ops.clone(), 127).unwrap();
        assert!(fits(&list, 127));
        assert_eq!(flat(&list), ops);
    }
}

//! What makes up a log.

use super::build::{Log, all};
use crate::ids::{RaftIndex, Term};
use crate::wal::{End, Error, Gap, Problem};

fn indexes(log: &Log) -> Vec<u64> {
    all(&log.open().unwrap()).iter().map(|(i, _)| *i).collect()
}

fn problem(log: &Log) -> Problem {
    match log.open() {
        Err(Error::Damaged { problem, .. }) => problem,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_log_over_several_files() {
    let mut log = Log::new();
    log.entries(1..=5, 1);
    log.state(1, 4);
    log.cut(6).state(1, 5).entries(6..=9, 2);
    log.cut(10).state(2, 9).entries(10..=12, 2);
    log.state(2, 11).prepared();
    let wal = log.open().unwrap();
    assert_eq!(wal.end(), &End::Clean);
    assert_eq!(wal.commit(), RaftIndex(11));
    assert_eq!(wal.first(), RaftIndex(1));
    assert_eq!(wal.last(), Some((RaftIndex(12), Term(2))));
    assert_eq!(wal.files().len(), 3);
    assert_eq!(indexes(&log), (1..=12).collect::<Vec<_>>());
    for first in 1..=13 {
        for last in 0..=12 {
            let entries = wal.entries(RaftIndex(first), RaftIndex(last)).unwrap();
            let found: Vec<u64> = entries.map(|entry| entry.unwrap().index).collect();
            assert_eq!(found, (first..=last).collect::<Vec<_>>());
        }
    }
    for (first, last, missing) in [(0, 3, 0), (5, 13, 13), (13, 13, 13)] {
        let entries = wal.entries(RaftIndex(first), RaftIndex(last));
        let Err(Error::NotHeld { wanted, .. }) = entries else {
            panic!("{first} to {last}");
        };
        assert_eq!(wanted, RaftIndex(missing));
    }
}

#[test]
fn a_later_record_replaces_the_entry_and_all_behind_it() {
    let mut log = Log::new();
    log.entries(1..=6, 1);
    log.entries(4..=5, 2);
    let wal = log.open().unwrap();
    assert_eq!(wal.last(), Some((RaftIndex(5), Term(2))));
    assert_eq!(wal.overwritten(), 3);
    let found: Vec<String> = all(&wal).into_iter().map(|(_, data)| data).collect();
    assert_eq!(found, ["1.1", "1.2", "1.3", "2.4", "2.5"]);
    // Over a file's end, twice, and from the first entry on.
    log.cut(6).entries(5..=7, 3);
    log.entries(5..=5, 4);
    assert_eq!(indexes(&log), [1, 2, 3, 4, 5]);
    assert_eq!(all(&log.open().unwrap())[4].1, "4.5");
    log.entries(1..=2, 5);
    let wal = log.open().unwrap();
    assert_eq!(all(&wal), [(1, "5.1".to_owned()), (2, "5.2".to_owned())]);
    assert_eq!(wal.last(), Some((RaftIndex(2), Term(5))));
}

/// Every way to write five times, each time from any index that may come next: what stays is what a
/// list says that is cut and added to.
#[test]
fn overwriting_is_what_a_list_does() {
    let mut overwritten = 0;
    // No more than 1, 3, 4, 6 and 7 choices one after the other.
    for number in 0..504 {
        let mut log = Log::new();
        let mut list: Vec<(u64, String)> = Vec::new();
        let mut rest = number;
        for term in 1..=5 {
            let choices = list.len() as u64 + 1;
            let from = rest % choices + 1;
            rest /= choices;
            list.truncate(usize::try_from(from).unwrap() - 1);
            let last = from + term % 2;
            list.extend((from..=last).map(|index| (index, format!("{term}.{index}"))));
            log.entries(from..=last, term);
            if term == 3 {
                log.cut(last + 1);
            }
        }
        let wal = log.open().unwrap();
        assert_eq!(all(&wal), list, "case {number}");
        overwritten += wal.overwritten();
    }
    assert!(overwritten > 500, "{overwritten}");
}

#[test]
fn entries_may_be_missing_before_a_snapshot_only() {
    let mut log = Log::new();
    log.entries(1..=3, 1);
    let mut behind = log.clone();
    behind.snapshot(8, 2).entries(9..=10, 2);
    behind.state(2, 9);
    let wal = behind.open().unwrap();
    let gap = Gap {
        first: RaftIndex(4),
        last: RaftIndex(8),
    };
    assert_eq!(wal.gaps(), [gap]);
    assert_eq!(wal.first(), RaftIndex(9));
    assert_eq!(wal.start().unwrap().index, RaftIndex(8));
    assert_eq!(indexes(&behind), [1, 2, 3, 9, 10]);
    assert!(wal.entries(RaftIndex(1), RaftIndex(9)).is_err());

    let mut wrong = log.clone();
    wrong.snapshot(8, 2).entries(10..=10, 2);
    let (last, found) = (RaftIndex(3), RaftIndex(10));
    assert_eq!(problem(&wrong), Problem::Gap { last, found });
    log.entries(5..=5, 1);
    let found = RaftIndex(5);
    assert_eq!(problem(&log), Problem::Gap { last, found });
}

#[test]
fn a_snapshot_at_the_end_counts_once_it_is_committed() {
    let mut log = Log::new();
    log.entries(1..=3, 1);
    log.state(1, 3).snapshot(8, 2);
    let wal = log.open().unwrap();
    assert_eq!(wal.last(), Some((RaftIndex(3), Term(1))));
    assert_eq!(wal.start().unwrap().index, RaftIndex(0));
    assert_eq!((wal.first(), wal.gaps()), (RaftIndex(1), vec![]));
    log.state(2, 8);
    let wal = log.open().unwrap();
    assert_eq!(wal.last(), Some((RaftIndex(8), Term(2))));
    assert_eq!(wal.start().unwrap().index, RaftIndex(8));
    assert_eq!((wal.first(), wal.gaps().len()), (RaftIndex(9), 1));
    assert_eq!(wal.entries(wal.first(), wal.commit()).unwrap().count(), 0);
}

#[test]
fn a_log_whose_old_files_are_gone() {
    let mut log = Log::new();
    log.entries(1..=5, 1);
    log.cut(6).state(1, 5).snapshot(5, 1).entries(6..=9, 2);
    log.state(2, 9);
    log.files.remove(0);
    let wal = log.open().unwrap();
    assert_eq!(wal.first(), RaftIndex(6));
    assert_eq!(indexes(&log), [6, 7, 8, 9]);
    // The first entries of the file may replace some of a file that is gone.
    log.cut(10).entries(8..=9, 3);
    assert_eq!(indexes(&log), [6, 7, 8, 9]);
    log.files.remove(0);
    assert_eq!(indexes(&log), [8, 9]);
    assert_eq!(log.open().unwrap().first(), RaftIndex(8));
}

#[test]
fn falling_terms_are_refused() {
    let falls = |log: &Log, at, term| {
        let problem = problem(log);
        let expected = Problem::TermFalls {
            index: RaftIndex(at),
            term: Term(term),
            before: Term(5),
        };
        assert_eq!(problem, expected);
    };
    let mut log = Log::new();
    log.entries(1..=2, 5);
    let mut next = log.clone();
    next.entries(3..=3, 4);
    falls(&next, 3, 4);
    let mut snapshot = log.clone();
    snapshot.snapshot(9, 4).entries(10..=10, 6);
    falls(&snapshot, 9, 4);
    // What is replaced does not count.
    log.entries(2..=2, 3);
    falls(&log, 2, 3);
    let mut log = Log::new();
    log.entries(1..=1, 3);
    log.entries(2..=2, 5);
    log.entries(2..=3, 4);
    assert_eq!(indexes(&log), [1, 2, 3]);
}

#[test]
fn terms_are_known_where_entries_are() {
    let mut log = Log::new();
    log.entries(1..=3, 1);
    log.entries(3..=4, 2);
    log.entries(5..=6, 4);
    log.snapshot(9, 5).entries(10..=11, 5);
    log.state(5, 11).snapshot(20, 7).state(7, 20);
    let wal = log.open().unwrap();
    let terms = (0..=21).map(|index| wal.term_of(RaftIndex(index)).map(|term| term.0));
    let mut expected = vec![None; 22];
    for (index, term) in [
        (0, 0),
        (1, 1),
        (2, 1),
        (3, 2),
        (4, 2),
        (5, 4),
        (6, 4),
        (9, 5),
        (10, 5),
        (11, 5),
        (20, 7),
    ] {
        expected[index] = Some(term);
    }
    assert_eq!(terms.collect::<Vec<_>>(), expected);
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let mut log = Log::new();
    log.entries(1..=2, 1);
    let mut other = log.clone();
    other.record(1, vec![0x08, 1, 0x10, 2]);
    assert_eq!(problem(&other), Problem::Metadata);
    let mut other = log.clone();
    other.record(6, vec![]);
    assert_eq!(problem(&other), Problem::RecordType(6));
    let mut other = log.clone();
    other.entry(0, 1, b"");
    assert_eq!(problem(&other), Problem::Number("an entry's index", 0));
    let mut other = log.clone();
    other.state(1, u64::MAX);
    assert!(matches!(problem(&other), Problem::Number(_, u64::MAX)));
    let mut other = Log::default();
    other.cut(0);
    other.files[0].1.drain(..16);
    assert_eq!(problem(&other), Problem::NoHead);
    other.last().clear();
    assert_eq!(problem(&other), Problem::NoHead);
    other.prepared();
    assert_eq!(problem(&other), Problem::NoHead);
    let mut other = Log::default();
    other.cut(0);
    other.last().truncate(16);
    assert_eq!(problem(&other), Problem::NoMetadata);
    assert!(matches!(Log::default().open(), Err(Error::NoFiles { .. })));
}

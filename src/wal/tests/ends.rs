//! How a log ends: torn writes, and what only looks like one.

use super::build::{Log, all};
use crate::wal::{End, Error, Problem};

const VALUE: [u8; 3000] = [7; 3000];

/// Ten entries, the last ones of several sectors; and where each of them begins.
fn log() -> (Log, Vec<usize>) {
    let mut log = Log::new();
    let mut begins = Vec::new();
    for index in 1..=10 {
        begins.push(log.last().len());
        log.entry(index, 1, if index < 5 { b"small" } else { &VALUE });
    }
    begins.push(log.last().len());
    (log, begins)
}

fn held(log: &Log) -> (usize, End) {
    let wal = log.open().unwrap();
    (all(&wal).len(), wal.end().clone())
}

fn is_torn(end: &End, at: usize) -> bool {
    matches!(end, End::Torn { offset, .. } if *offset == at as u64)
}

fn is_suspect(end: &End, at: usize, with_records: bool) -> bool {
    matches!(end, End::Suspect { offset, records, .. }
        if *offset == at as u64 && *records == with_records)
}

fn zero_sector_of(log: &mut Log, begin: usize) {
    let sector = (begin / 512 + 2) * 512;
    log.last()[sector..sector + 512].fill(0);
}

#[test]
fn a_file_that_ends_anywhere_in_its_last_record() {
    let (log, begins) = log();
    for length in begins[9]..begins[10] {
        let mut cut = log.clone();
        cut.last().truncate(length);
        let (count, end) = held(&cut);
        assert_eq!(count, 9);
        if length == begins[9] {
            assert_eq!(end, End::Clean);
        } else {
            assert!(is_torn(&end, begins[9]), "{length}: {end:?}");
        }
    }
}

#[test]
fn a_missing_sector_of_the_last_record_is_a_torn_write() {
    for prepared in [false, true] {
        let (mut log, begins) = log();
        zero_sector_of(&mut log, begins[9]);
        if prepared {
            log.prepared();
        }
        let (count, end) = held(&log);
        assert_eq!(count, 9);
        assert!(is_torn(&end, begins[9]), "{end:?}");
    }
}

#[test]
fn a_missing_sector_with_records_behind_it_is_no_clean_end() {
    let (mut log, begins) = log();
    zero_sector_of(&mut log, begins[6]);
    let (count, end) = held(&log);
    assert_eq!(count, 6);
    assert!(is_suspect(&end, begins[6], true), "{end:?}");
    // The one behind it is torn too: an interrupted write of several records, or damage.
    zero_sector_of(&mut log, begins[7]);
    let (_, end) = held(&log);
    assert!(is_suspect(&end, begins[6], false), "{end:?}");
}

#[test]
fn changed_bytes_are_damage() {
    let (mut log, begins) = log();
    log.last()[begins[9] + 900] ^= 1;
    let Err(Error::Damaged {
        offset, problem, ..
    }) = log.open()
    else {
        panic!("not refused");
    };
    assert_eq!(offset, begins[9] as u64);
    assert!(matches!(problem, Problem::Checksum { .. }));
}

#[test]
fn a_length_of_zero_with_records_behind_it_is_no_clean_end() {
    let (log, begins) = log();
    for (entry, begin) in begins.into_iter().enumerate().take(10) {
        let mut cut = log.clone();
        cut.last()[begin..begin + 8].fill(0);
        let (count, end) = held(&cut);
        assert_eq!(count, entry);
        // The last one has no record behind it, only its own bytes.
        assert!(is_suspect(&end, begin, entry < 9), "{entry}: {end:?}");
    }
}

#[test]
fn a_length_beyond_the_file_is_torn_unless_records_follow() {
    let (log, begins) = log();
    for (entry, begin) in begins.into_iter().enumerate().take(10) {
        let mut cut = log.clone();
        cut.last()[begin + 3] = 0x70;
        let (count, end) = held(&cut);
        assert_eq!(count, entry);
        if entry < 9 {
            assert!(is_suspect(&end, begin, true), "{entry}: {end:?}");
        } else {
            assert!(is_torn(&end, begin), "{end:?}");
        }
    }
}

#[test]
fn records_are_found_at_the_very_end_and_across_what_is_read_at_once() {
    for zeros in [65_504, 65_512, 65_520, 65_528, 65_536, 65_544, 131_064] {
        let mut log = Log::new();
        log.entries(1..=3, 1);
        let at = log.last().len();
        log.bytes(&vec![0; zeros]);
        log.state(1, 3);
        let (count, end) = held(&log);
        assert_eq!(count, 3);
        assert!(is_suspect(&end, at, true), "{zeros}: {end:?}");
    }
}

#[test]
fn only_the_last_file_may_be_torn() {
    let (log, begins) = log();
    let mut torn = log.clone();
    zero_sector_of(&mut torn, begins[9]);
    torn.cut(11).entries(11..=12, 1);
    assert!(matches!(torn.open(), Err(Error::Damaged { .. })));
    for length in [begins[9], begins[9] + 100] {
        let mut short = log.clone();
        short.cut(11).entries(11..=12, 1);
        short.files[0].1.truncate(length);
        let Err(Error::Damaged { problem, file, .. }) = short.open() else {
            panic!("not refused");
        };
        if length == begins[9] {
            // Nothing in that file shows it, only the next one.
            assert!(matches!(problem, Problem::Link { .. }), "{problem}");
            assert!(file.starts_with("0000000000000001-"));
        } else {
            assert!(matches!(problem, Problem::Beyond { .. }), "{problem}");
        }
    }
}

#[test]
fn lengths_that_no_etcd_writes_are_damage() {
    let (log, begins) = log();
    for (byte, value) in [(0, 0xff), (7, 0x0f), (7, 0xc4)] {
        let mut wrong = log.clone();
        wrong.last()[begins[9] + byte] = value;
        let Err(Error::Damaged { problem, .. }) = wrong.open() else {
            panic!("not refused");
        };
        assert!(matches!(problem, Problem::Length(_)), "{problem}");
    }
}

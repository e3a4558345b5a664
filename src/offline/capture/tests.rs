use super::*;
use crate::entry::Committed;

fn header() -> Header {
    Header {
        primary: ClusterId(1),
        member: MemberId(u64::MAX),
        etcd_version: "3.5.33".to_owned(),
        index: RaftIndex(10),
        term: Term(2),
        conf_state: raftpb::ConfState {
            voters: vec![1, 2],
            learners: vec![u64::MAX],
            ..raftpb::ConfState::default()
        },
    }
}

fn entry(index: u64, bytes: usize) -> Committed {
    Committed {
        index: RaftIndex(index),
        term: Term(2 + index / 14),
        kind: u32::from(index == 12),
        data: vec![0xa5; bytes].into(),
    }
}

/// A file, and where each of its frames begins; the last place is its end.
fn file() -> (Vec<u8>, Vec<usize>) {
    let mut out = Vec::new();
    let mut writer = Writer::begin(&header(), &mut out);
    let mut begins = vec![8];
    for (index, bytes) in (11..).zip([0, 1, 7, 2000, 3000, 5000]) {
        begins.push(out.len());
        if index == 13 {
            writer.set_etcd_version("3.6.14");
        }
        writer.entry(&entry(index, bytes), &mut out).unwrap();
    }
    begins.push(out.len());
    (out, begins)
}

fn read(bytes: &[u8]) -> Result<(Vec<Captured>, CaptureEnd, u64), ReadError> {
    let mut reader = Reader::open(bytes)?;
    let entries = reader.by_ref().collect::<Result<_, _>>()?;
    Ok((entries, reader.end().unwrap(), reader.good_bytes()))
}

fn problem(bytes: &[u8]) -> Problem {
    match read(bytes) {
        Err(ReadError::Damaged { problem, .. }) => problem,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_written_is_read() {
    let (bytes, begins) = file();
    assert_eq!(Reader::open(&*bytes).unwrap().header(), &header());
    let (entries, end, good) = read(&bytes).unwrap();
    assert_eq!((end, good), (CaptureEnd::Clean, bytes.len() as u64));
    assert!(begins.iter().all(|begin| begin % 8 == 0));
    let expected = (11..).zip([0, 1, 7, 2000, 3000, 5000]);
    let expected = expected.map(|(index, bytes)| Captured {
        entry: entry(index, bytes),
        etcd_version: (index == 13).then(|| "3.6.14".to_owned()),
    });
    assert_eq!(entries, expected.collect::<Vec<_>>());
}

#[test]
fn a_file_that_ends_anywhere_is_read_up_to_there() {
    let (bytes, begins) = file();
    for length in begins[1]..=bytes.len() {
        let (entries, end, good) = read(&bytes[..length]).unwrap();
        let whole = begins.iter().filter(|begin| **begin <= length).count() - 2;
        assert_eq!(entries.len(), whole, "{length}");
        assert_eq!(good, begins[whole + 1] as u64);
        let at_end = begins.contains(&length);
        assert_eq!(end == CaptureEnd::Clean, at_end, "{length}");
    }
    for length in 0..begins[1] {
        let expected = if length < 8 {
            Problem::Magic
        } else {
            Problem::NoHeader
        };
        assert_eq!(problem(&bytes[..length]), expected, "{length}");
    }
}

#[test]
fn writing_goes_on_where_reading_ended() {
    let (mut bytes, begins) = file();
    let whole = bytes.clone();
    bytes.truncate(begins[4] + 100);
    let mut reader = Reader::open(&*bytes).unwrap();
    assert_eq!(reader.by_ref().count(), 3);
    let good = usize::try_from(reader.good_bytes()).unwrap();
    let mut writer = reader.into_writer();
    assert_eq!(writer.last(), RaftIndex(13));
    bytes.truncate(good);
    for (index, size) in [(14, 2000), (15, 3000), (16, 5000)] {
        writer.entry(&entry(index, size), &mut bytes).unwrap();
    }
    assert_eq!(bytes, whole);
    let given = RaftIndex(18);
    let expected = RaftIndex(17);
    let refused = writer.entry(&entry(18, 0), &mut bytes);
    assert_eq!(refused, Err(WriteError::OutOfOrder { expected, given }));
    let mut falls = entry(17, 0);
    falls.term = Term(1);
    let refused = writer.entry(&falls, &mut bytes);
    assert_eq!(refused, Err(WriteError::TermFalls(RaftIndex(17))));
    assert_eq!(bytes, whole);
}

#[test]
fn an_interrupted_write_leaves_zeros() {
    let (bytes, begins) = file();
    let last = begins[6];
    // From some sector on nothing came to the disk, but the file's new length did.
    for sector in last.div_ceil(512)..bytes.len() / 512 {
        let mut torn = bytes.clone();
        torn[sector * 512..].fill(0);
        let (entries, end, _) = read(&torn).unwrap();
        assert_eq!((entries.len(), end), (5, CaptureEnd::Torn));
        // One sector in the middle.
        let mut torn = bytes.clone();
        torn[sector * 512..(sector + 1) * 512].fill(0);
        let (entries, end, _) = read(&torn).unwrap();
        assert_eq!((entries.len(), end), (5, CaptureEnd::Torn));
    }
    let mut torn = bytes.clone();
    torn[last..].fill(0);
    assert_eq!(read(&torn).unwrap().1, CaptureEnd::Torn);
}

#[test]
fn damage_is_refused() {
    let (bytes, begins) = file();
    for (frame, begin) in begins.iter().enumerate().take(7) {
        let follows = frame < 6;
        for (at, alone) in [
            (*begin, Problem::Length),
            (begin + 5, Problem::Length),
            (begin + 9, Problem::FramesFollow),
        ] {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x40;
            let found = problem(&damaged);
            if follows {
                assert_eq!(found, Problem::FramesFollow, "{at}");
            } else if at == begin + 9 {
                assert!(matches!(found, Problem::Checksum { .. }), "{found}");
            } else {
                assert_eq!(found, alone);
            }
        }
        if follows && frame > 2 {
            // As a torn write, but for what follows.
            let mut damaged = bytes.clone();
            let sector = begin.div_ceil(512) * 512;
            damaged[sector..sector + 512].fill(0);
            assert_eq!(problem(&damaged), Problem::FramesFollow);
        }
    }
    assert_eq!(problem(b"etcdsynX"), Problem::Magic);
}

#[test]
fn frames_of_other_files_and_places_are_refused() {
    let (bytes, begins) = file();
    let frame = |at: usize| &bytes[begins[at]..begins[at + 1]];
    let join = |frames: &[usize]| {
        let frames = frames.iter().flat_map(|at| frame(*at).to_vec());
        bytes[..8]
            .iter()
            .copied()
            .chain(frames)
            .collect::<Vec<u8>>()
    };
    assert_eq!(read(&join(&[0, 1, 2])).unwrap().0.len(), 2);
    for frames in [&[0, 2][..], &[0, 1, 1], &[0, 2, 1], &[1, 2], &[0, 0, 1]] {
        assert!(read(&join(frames)).is_err(), "{frames:?}");
    }
}

#[test]
fn another_format_is_refused() {
    use prost::Message as _;
    for (format, expected) in [(2, Problem::Format(2)), (0, Problem::Format(0))] {
        let mut message = header().to_message();
        message.format = format;
        let payload = message.encode_to_vec();
        let length = u32::try_from(payload.len()).unwrap().to_le_bytes();
        let mut bytes = MAGIC.to_vec();
        bytes.extend(length);
        bytes.extend(check_of(length).to_le_bytes());
        bytes.extend(&payload);
        bytes.extend(crc32c::crc32c(&payload).to_le_bytes());
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        assert_eq!(problem(&bytes), expected);
    }
}

//! Bytes that real members wrote.

use bytes::Bytes;
use prost::Message as _;

use crate::ids::{ClusterId, MemberId, RaftIndex, Term};
use crate::pb::{raftpb, storagepb};
use crate::wal::{End, HardState, MemorySegments, Metadata, SegmentName, Wal};

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().filter(|c| c.is_ascii_hexdigit()).collect();
    let pairs = digits.chunks(2).map(|pair| pair.iter().collect::<String>());
    pairs
        .map(|pair| u8::from_str_radix(&pair, 16).unwrap())
        .collect()
}

#[test]
fn the_checksum_is_castagnolis() {
    assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
    let begun = crc32c::crc32c(b"1234");
    assert_eq!(crc32c::crc32c_append(begun, b"56789"), 0xe306_9283);
}

#[test]
fn the_head_of_a_file_of_3_5_1() {
    let head = hex("0400000000000084 08041000 00000000 \
         1f00000000000081 080110a3e080a107 1a1508fdededbeb1 b2ea8bae0110a9a8 fba3fa96bdb447 00 \
         0e00000000000082 0805109cc5bbe406 1a0408001000 0000");
    let name = SegmentName {
        sequence: 0,
        index: 0,
    };
    let wal = Wal::open(MemorySegments(vec![(name, Bytes::from(head))])).unwrap();
    let metadata = Metadata {
        member: MemberId(12_544_681_736_289_351_421),
        cluster: ClusterId(0x4768_f4b7_a47e_d429),
    };
    assert_eq!(wal.metadata(), metadata);
    assert_eq!(wal.hard_state(), HardState::default());
    assert_eq!(wal.start().unwrap().index, RaftIndex(0));
    assert_eq!((wal.first(), wal.last()), (RaftIndex(1), None));
    assert_eq!(wal.end(), &End::Clean);
    assert_eq!(wal.all_entries().count(), 0);
}

#[test]
fn both_ways_to_write_a_message() {
    let entry = |text| raftpb::Entry::decode(&*hex(text)).unwrap();
    assert_eq!(entry("10021802"), entry("080010021802"));
    let written = entry("1002180722026869");
    assert_eq!((written.term, written.index), (2, 7));
    assert_eq!((written.r#type, &*written.data), (0, &b"hi"[..]));
    let state = storagepb::HardState::decode(&*hex("080210001805")).unwrap();
    assert_eq!((state.term, state.vote, state.commit), (2, 0, 5));
    let record = hex("080a10021a0f080108808080808080808080012800");
    let snapshot = storagepb::WalSnapshot::decode(&*record).unwrap();
    assert_eq!((snapshot.index, Term(snapshot.term)), (10, Term(2)));
    assert_eq!(snapshot.conf_state.unwrap().voters, [1, 1 << 63]);
}

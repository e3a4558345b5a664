use super::wire::{Shape, check};
use super::*;
use crate::ids::MemberId;
use crate::pb::raftpb::{ConfState, Entry, Snapshot, SnapshotMetadata};
use proptest::prelude::*;

const LEADER: MemberId = MemberId(0x2d27_3ed6_6ea4_6b0e);
const US: MemberId = MemberId(0x0535_bc51_9408_92e3);
const LIMIT: usize = 1 << 20;

/// Reads hexadecimal with blanks between the bytes.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn msgapp() -> MsgAppDecoder {
    MsgAppDecoder::new(LEADER, US, LIMIT)
}

fn read_msgapp(bytes: &[u8], chunk_bytes: usize) -> Result<Vec<Frame>, Error> {
    let mut decoder = msgapp();
    let mut frames = Vec::new();
    for chunk in bytes.chunks(chunk_bytes.max(1)) {
        decoder.push(chunk);
        while let Some(frame) = decoder.next_frame()? {
            frames.push(frame);
        }
    }
    Ok(frames)
}

fn read_messages(bytes: &[u8], chunk_bytes: usize) -> Result<Vec<Frame>, Error> {
    let mut decoder = MessageDecoder::new(LIMIT);
    let mut frames = Vec::new();
    for chunk in bytes.chunks(chunk_bytes.max(1)) {
        decoder.push(chunk);
        while let Some(frame) = decoder.next_frame()? {
            frames.push(frame);
        }
    }
    Ok(frames)
}

/// The two frames that carried three puts, from etcd 3.4.23.
fn recorded_puts() -> Vec<u8> {
    hex("02 0000000000000057
         08 03 10 e3a5a2a0998aef9a05 18 8ed691f5e6dacf932d 20 02 28 02 30 06
         3a 27 08 00 10 02 18 07 22 1f 22 10 0a 02 6b30 12 0a 76767676767676767676
               a2 06 0a 08 87f8adcf82bfa8876b
         40 07 4a 0a 12 08 0a 02 28 00 10 00 18 00 50 00 58 00
         01 0000000000000001 0000000000000027
         08 00 10 02 18 08 22 1f 22 10 0a 02 6b31 12 0a 76767676767676767676
               a2 06 0a 08 88f8adcf82bfa8876b
         0000000000000008")
}

/// Term, term at the index, index, commit; then term, index and payload length of each entry.
type Outline = (u64, u64, u64, u64, Vec<(u64, u64, usize)>);

fn outline(frame: &Frame) -> Option<Outline> {
    let Frame::Message(m) = frame else {
        return None;
    };
    assert_eq!(m.r#type, 3);
    let entries = m.entries.iter().map(|e| (e.term, e.index, e.data.len()));
    Some((m.term, m.log_term, m.index, m.commit, entries.collect()))
}

#[test]
fn recorded_msgapp_frames_become_messages() {
    let bytes = recorded_puts();
    for chunk_bytes in [1, 7, 8, 9, 64, 1000] {
        let frames = read_msgapp(&bytes, chunk_bytes).unwrap();
        let shown: Vec<_> = frames.iter().filter_map(outline).collect();
        let wanted: [Outline; 2] = [
            (2, 2, 6, 7, vec![(2, 7, 31)]),
            (2, 2, 7, 8, vec![(2, 8, 31)]),
        ];
        assert_eq!(shown, wanted, "in chunks of {chunk_bytes}");
        for frame in frames {
            let Frame::Message(message) = frame else {
                panic!("no heartbeat is in there");
            };
            assert_eq!((message.from, message.to), (LEADER.0, US.0));
        }
    }
}

#[test]
fn a_new_leader_and_pure_commits() {
    let bytes = hex(
        "00 02 0000000000000039 08 03 10 eda5bf8781c4dad348 18 87cba19a8ed8a9b66b 20 03 28 02
         30 d003 3a 07 08 00 10 03 18 d103 40 d003 4a0a12080a0228001000180050005800
         01 0000000000000000 00000000000001d0 01 0000000000000000 00000000000001d1",
    );
    let frames = read_msgapp(&bytes, 5).unwrap();
    assert_eq!(frames[0], Frame::LinkHeartbeat);
    let shown: Vec<_> = frames.iter().filter_map(outline).collect();
    let wanted: [Outline; 3] = [
        (3, 2, 464, 464, vec![(3, 465, 0)]),
        (3, 3, 465, 464, vec![]),
        (3, 3, 465, 465, vec![]),
    ];
    assert_eq!(shown, wanted);
}

#[test]
fn link_heartbeats_of_all_releases() {
    for bytes in [
        "000000000000001e 0808 1000 1800 2000 2800 3000 4000 4a0a12080a0228001000180050005800",
        "0000000000000014 0808 1000 1800 2000 2800 3000 4000 5000 5800 6800",
        "0000000000000002 0808",
    ] {
        assert_eq!(
            read_messages(&hex(bytes), 3),
            Ok(vec![Frame::LinkHeartbeat])
        );
    }
    assert_eq!(LINK_HEARTBEAT_MESSAGE, hex("0000000000000002 0808"));
    assert_eq!(
        read_msgapp(LINK_HEARTBEAT_MSGAPP, 1),
        Ok(vec![Frame::LinkHeartbeat])
    );
}

#[test]
fn heartbeats_of_all_releases() {
    let ids = "10 e3a5a2a0998aef9a05 18 8ed691f5e6dacf932d";
    let forms = [
        format!("0808 {ids} 2002 2800 3000 4006 4a0a12080a0228001000180050005800"),
        format!("0808 {ids} 2002 2800 3000 4006 5000 5800 6800"),
        format!("0808 {ids} 2002 4006"),
    ];
    for form in forms {
        let message = decode_message(hex(&form).into(), LIMIT).unwrap();
        assert_eq!((message.from, message.to), (LEADER.0, US.0));
        assert_eq!((message.r#type, message.term, message.commit), (8, 2, 6));
    }
}

#[test]
fn a_snapshot_message_as_3_7_writes_it() {
    let bytes = hex("08 07 10 e3a5a2a0998aef9a05 18 8ed691f5e6dacf932d 20 02
         4a 25 0a 02 7b7d 12 1f 0a 18 08 8ed691f5e6dacf932d 08 01 10 e3a5a2a0998aef9a05 28 00
               10 9503 18 02");
    let message = decode_message(bytes.into(), LIMIT).unwrap();
    let metadata = message.snapshot.unwrap().metadata.unwrap();
    let conf_state = metadata.conf_state.unwrap();
    assert_eq!((metadata.index, metadata.term), (405, 2));
    assert_eq!(conf_state.voters, [LEADER.0, 1]);
    assert_eq!(conf_state.learners, [US.0]);
}

#[test]
fn our_answers_are_as_recorded() {
    let mut message = Message {
        r#type: 4,
        to: LEADER.0,
        from: US.0,
        term: 2,
        index: 5,
        reject: true,
        ..Message::default()
    };
    let reject = "000000000000001c 0804 10 8ed691f5e6dacf932d 18 e3a5a2a0998aef9a05 2002 3005 5001";
    assert_eq!(encode_message(&message), hex(reject));
    message.reject = false;
    message.index = 6;
    let ack = "000000000000001a 0804 10 8ed691f5e6dacf932d 18 e3a5a2a0998aef9a05 2002 3006";
    assert_eq!(encode_message(&message), hex(ack));
}

#[test]
fn payloads_are_slices_of_what_was_received() {
    let message = Message {
        entries: vec![entry(7, b"payload of the entry")],
        ..Message::default()
    };
    let bytes = Bytes::from(prost::Message::encode_to_vec(&message));
    let range = bytes.as_ptr_range();
    let decoded = decode_message(bytes.clone(), LIMIT).unwrap();
    assert!(range.contains(&decoded.entries[0].data.as_ptr()));
}

#[test]
fn unknown_fields_are_named_and_corruption_is_told_apart() {
    let unknown = |message, field| Err(Error::Unknown { message, field });
    let cases = [
        (Shape::Message, "68 01", Ok(())),
        (Shape::Message, "70 01", unknown("Message", 14)),
        (Shape::Message, "72 02 0803", unknown("Message", 14)),
        (Shape::Message, "78 01 0803", unknown("Message", 15)),
        (Shape::Message, "8001 01", unknown("Message", 16)),
        (Shape::Message, "3a 02 2a00", unknown("Entry", 5)),
        (Shape::Entry, "0800 3200", unknown("Entry", 6)),
        (Shape::Message, "4a 02 1a00", unknown("Snapshot", 3)),
        (
            Shape::Message,
            "4a 04 12 02 2000",
            unknown("SnapshotMetadata", 4),
        ),
        (
            Shape::Message,
            "4a 06 12 04 0a 02 3000",
            unknown("ConfState", 6),
        ),
        (Shape::Message, "4a 07 12 05 0a 03 0a 01 05", Ok(())),
    ];
    for (shape, bytes, wanted) in cases {
        let got = check(&hex(bytes), shape).map(|_| ());
        assert_eq!(got, wanted, "{bytes}");
    }
    // An unknown field does not hide that the rest is corrupt.
    let corrupt = [
        "70 01 08",
        "08",
        "0a 00",
        "3a 05 00",
        "00 00",
        "0b",
        "0c",
        "07",
        "0f",
        "20",
        "08 ffffffffffffffffff7f",
        "08 8080808010",
        "3a 02 10",
        "62 05 00",
        "0d 00000000",
        "41 0000000000000000",
    ];
    for bytes in corrupt {
        let got = check(&hex(bytes), Shape::Message);
        assert!(
            matches!(got, Err(Error::Corrupt { .. })),
            "{bytes}: {got:?}"
        );
    }
    let error = Error::Unknown {
        message: "Entry",
        field: 5,
    };
    assert!(
        error
            .to_string()
            .starts_with("unknown field 5 in raftpb.Entry")
    );
}

#[test]
fn an_unknown_field_stops_either_stream() {
    let unknown = Err(Error::Unknown {
        message: "Entry",
        field: 6,
    });
    let frame = "0000000000000006 0803 3a 02 3000";
    assert_eq!(read_messages(&hex(frame), 100), unknown);
    assert_eq!(read_msgapp(&hex(&format!("02 {frame}")), 100), unknown);
    let mut bytes = recorded_puts();
    bytes.extend(hex(
        "01 0000000000000001 0000000000000002 3000 0000000000000009",
    ));
    assert_eq!(read_msgapp(&bytes, 100), unknown);
}

#[test]
fn absurd_claims_are_refused_and_allocate_nothing() {
    for claim in ["0000000000100001", "4000000000000000", "ffffffffffffffff"] {
        let mut decoder = MessageDecoder::new(LIMIT);
        decoder.push(&hex(claim));
        assert!(
            matches!(decoder.next_frame(), Err(Error::TooLong { .. })),
            "{claim}"
        );
        let whole = hex(&format!("02 {claim}"));
        assert!(
            matches!(read_msgapp(&whole, 9), Err(Error::TooLong { .. })),
            "{claim}"
        );
        let mut entries = recorded_puts();
        entries.extend(hex(&format!("01 {claim}")));
        assert!(
            matches!(read_msgapp(&entries, 99), Err(Error::TooLong { .. })),
            "{claim}"
        );
        let mut entry = recorded_puts();
        entry.extend(hex(&format!("01 0000000000000001 {claim}")));
        assert!(
            matches!(read_msgapp(&entry, 99), Err(Error::TooLong { .. })),
            "{claim}"
        );
    }
    let mut decoder = MessageDecoder::new(MESSAGE_BYTES_MAX);
    decoder.push(&hex("000000001f000000"));
    assert_eq!(decoder.next_frame(), Ok(None));
    assert!(decoder.capacity() < 1024, "{}", decoder.capacity());
}

#[test]
fn many_tiny_entries_count_for_what_they_take_in_memory() {
    // 2 bytes each on the wire, but more than that once decoded.
    let bytes: Vec<u8> = [0x3a, 0x00].repeat(LIMIT / 32);
    let got = decode_message(bytes.into(), LIMIT);
    assert!(matches!(got, Err(Error::TooLong { .. })), "{got:?}");
}

#[test]
fn a_frame_of_entries_needs_a_message_before_it() {
    let got = read_msgapp(&hex("01 0000000000000000 0000000000000001"), 100);
    assert!(matches!(got, Err(Error::Corrupt { .. })), "{got:?}");
    assert_eq!(read_msgapp(&[3], 1), Err(Error::FrameKind { kind: 3 }));
}

fn entry(index: u64, data: &[u8]) -> Entry {
    Entry {
        r#type: 1,
        term: 3,
        index,
        data: Bytes::copy_from_slice(data),
    }
}

/// What a member writes into its msgapp stream.
///
/// # Source
/// etcd 3.7.1 `rafthttp/msgappv2_codec.go` msgAppV2Encoder.
#[derive(Default)]
struct MsgAppEncoder {
    term: u64,
    index: u64,
}

impl MsgAppEncoder {
    fn encode(&mut self, message: &Message, out: &mut Vec<u8>) {
        let follows = self.index == message.index
            && self.term == message.log_term
            && message.log_term == message.term;
        if follows {
            out.push(1);
            out.extend((message.entries.len() as u64).to_be_bytes());
            for entry in &message.entries {
                let bytes = prost::Message::encode_to_vec(entry);
                out.extend((bytes.len() as u64).to_be_bytes());
                out.extend(bytes);
            }
            out.extend(message.commit.to_be_bytes());
            self.index += message.entries.len() as u64;
            return;
        }
        out.push(2);
        out.extend_from_slice(&encode_message(message));
        self.term = message.term;
        self.index = message.entries.last().map_or(message.index, |e| e.index);
    }
}

fn any_append() -> impl Strategy<Value = Message> {
    let payloads = proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..4);
    (1_u64..4, 0_u64..3, 0_u64..20, payloads).prop_map(|(term, back, index, payloads)| {
        let entries = (index + 1..)
            .zip(payloads)
            .map(|(index, data)| entry(index, &data))
            .collect();
        Message {
            r#type: 3,
            from: LEADER.0,
            to: US.0,
            term,
            log_term: term.saturating_sub(back),
            index,
            entries,
            commit: index,
            ..Message::default()
        }
    })
}

fn any_message() -> impl Strategy<Value = Message> {
    (
        any_append(),
        any::<(u32, bool, u64)>(),
        any::<Option<Vec<u64>>>(),
    )
        .prop_map(|(append, (kind, reject, reject_hint), voters)| Message {
            r#type: kind % 24,
            reject,
            reject_hint,
            snapshot: voters.map(|voters| Snapshot {
                data: Bytes::from_static(b"{}"),
                metadata: Some(SnapshotMetadata {
                    conf_state: Some(ConfState {
                        voters,
                        ..ConfState::default()
                    }),
                    index: 5,
                    term: 2,
                }),
            }),
            context: Bytes::from(reject_hint.to_le_bytes().to_vec()),
            ..append
        })
}

proptest! {
    #[test]
    fn the_msgapp_stream_round_trips(
        messages in proptest::collection::vec(any_append(), 0..12), chunk_bytes in 1_usize..100,
    ) {
        let mut encoder = MsgAppEncoder::default();
        let mut bytes = Vec::new();
        for message in &messages {
            encoder.encode(message, &mut bytes);
        }
        let wanted: Vec<Frame> = messages.into_iter().map(Frame::Message).collect();
        prop_assert_eq!(read_msgapp(&bytes, chunk_bytes), Ok(wanted));
    }

    #[test]
    fn the_message_stream_round_trips(
        messages in proptest::collection::vec(any_message(), 0..12), chunk_bytes in 1_usize..100,
    ) {
        let bytes: Vec<u8> = messages.iter().flat_map(encode_message).collect();
        let wanted: Vec<Frame> = messages.into_iter().map(Frame::Message).collect();
        prop_assert_eq!(read_messages(&bytes, chunk_bytes), Ok(wanted));
    }

    #[test]
    fn any_bytes_are_safe(bytes: Vec<u8>, chunk_bytes in 1_usize..50) {
        let _ = read_msgapp(&bytes, chunk_bytes);
        let _ = read_messages(&bytes, chunk_bytes);
        let _ = decode_message(bytes.into(), LIMIT);
    }

    /// What looks like a stream but is changed in places: no panic, and never more memory than
    /// was received, twice over.
    #[test]
    fn changed_streams_are_safe(
        messages in proptest::collection::vec(any_message(), 1..6),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut encoder = MsgAppEncoder::default();
        let mut bytes = Vec::new();
        for message in &messages {
            encoder.encode(message, &mut bytes);
        }
        let mut framed: Vec<u8> = messages.iter().flat_map(encode_message).collect();
        for (position, byte) in changes {
            let at = position.index(bytes.len());
            bytes[at] = byte;
            let at = position.index(framed.len());
            framed[at] = byte;
        }
        let mut decoder = msgapp();
        decoder.push(&bytes);
        while let Ok(Some(_)) = decoder.next_frame() {}
        prop_assert!(decoder.capacity() <= 2 * bytes.len() + 64);
        let mut decoder = MessageDecoder::new(LIMIT);
        decoder.push(&framed);
        while let Ok(Some(_)) = decoder.next_frame() {}
        prop_assert!(decoder.capacity() <= 2 * framed.len() + 64);
    }

    /// What the walk lets through, the decoder reads without losing anything.
    #[test]
    fn nothing_is_lost_in_decoding(message in any_message()) {
        let bytes = prost::Message::encode_to_vec(&message);
        let decoded = decode_message(bytes.clone().into(), LIMIT).unwrap();
        prop_assert_eq!(prost::Message::encode_to_vec(&decoded), bytes);
    }
}

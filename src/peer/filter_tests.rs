use super::*;
use crate::pb::raftpb::Entry;
use proptest::prelude::*;

const PEER: MemberId = MemberId(7);
const US: MemberId = MemberId(9);

fn received(kind: MessageKind, term: u64, index: u64) -> Message {
    Message {
        r#type: kind.number(),
        from: PEER.0,
        to: US.0,
        term,
        index,
        commit: index,
        ..Message::default()
    }
}

fn outgoing(kind: MessageKind, term: u64, index: u64) -> Message {
    Message {
        r#type: kind.number(),
        from: US.0,
        to: PEER.0,
        term,
        index,
        ..Message::default()
    }
}

/// A filter that has heard a leader at term 3 with entries up to 100, and may ack up to 50.
fn filter() -> Filter {
    let mut filter = Filter::new(US);
    filter.note_received(PEER, MessageKind::App, &received(MessageKind::App, 3, 100));
    filter.raise_acknowledgeable(RaftIndex(50));
    filter
}

fn check(filter: &mut Filter, message: &Message) -> Result<(), Refused> {
    filter.check(Instant::now(), PEER, message)
}

#[test]
fn nothing_leaves_before_a_leader_was_heard() {
    let mut filter = Filter::new(US);
    let got = check(&mut filter, &outgoing(MessageKind::HeartbeatResp, 1, 0));
    let (term, highest) = (Term(1), Term(0));
    assert_eq!(got, Err(Refused::Term { term, highest }));
}

#[test]
fn only_answers_and_read_index_leave() {
    for number in 0..30 {
        let mut message = outgoing(MessageKind::AppResp, 3, 0);
        message.r#type = number;
        if number == MessageKind::ReadIndex.number() {
            message.entries = vec![Entry {
                data: Bytes::from_static(b"ctx"),
                ..Entry::default()
            }];
        }
        let leaves = check(&mut filter(), &message).is_ok();
        assert_eq!(leaves, [4, 9, 15].contains(&number), "kind {number}");
    }
}

#[test]
fn an_acknowledgement_stays_below_both_limits() {
    let mut filter = filter();
    let ack = |index| outgoing(MessageKind::AppResp, 3, index);
    assert_eq!(check(&mut filter, &ack(50)), Ok(()));
    let index = RaftIndex(51);
    let acknowledgeable = RaftIndex(50);
    let refused = Refused::NotDurable {
        index,
        acknowledgeable,
    };
    assert_eq!(check(&mut filter, &ack(51)), Err(refused));
    filter.raise_acknowledgeable(RaftIndex(1000));
    filter.raise_acknowledgeable(RaftIndex(10));
    assert_eq!(check(&mut filter, &ack(100)), Ok(()));
    let index = RaftIndex(101);
    let shown = RaftIndex(100);
    assert_eq!(
        check(&mut filter, &ack(101)),
        Err(Refused::NotShown { index, shown })
    );
    // The same member as leader of a later term may have less.
    let again = received(MessageKind::App, 4, 60);
    filter.note_received(PEER, MessageKind::App, &again);
    let index = RaftIndex(100);
    let shown = RaftIndex(60);
    assert_eq!(
        check(&mut filter, &ack(100)),
        Err(Refused::NotShown { index, shown })
    );
}

#[test]
fn a_heartbeat_answer_echoes_or_is_empty() {
    let mut filter = filter();
    let mut beat = received(MessageKind::Heartbeat, 3, 0);
    beat.context = Bytes::from_static(b"12345678");
    filter.note_received(PEER, MessageKind::Heartbeat, &beat);
    let mut answer = outgoing(MessageKind::HeartbeatResp, 3, 0);
    assert_eq!(check(&mut filter, &answer), Ok(()));
    answer.context = Bytes::from_static(b"12345678");
    assert_eq!(check(&mut filter, &answer), Ok(()));
    for wrong in ["1", "1234567", "123456789", "12345679"] {
        answer.context = Bytes::from_static(wrong.as_bytes());
        assert_eq!(
            check(&mut filter, &answer),
            Err(Refused::Context),
            "{wrong}"
        );
    }
}

#[test]
fn an_echo_to_another_member_is_none() {
    let mut filter = filter();
    let mut beat = received(MessageKind::Heartbeat, 3, 0);
    beat.context = Bytes::from_static(b"12345678");
    filter.note_received(MemberId(8), MessageKind::Heartbeat, &beat);
    let mut answer = outgoing(MessageKind::HeartbeatResp, 3, 0);
    answer.context = beat.context;
    assert_eq!(check(&mut filter, &answer), Err(Refused::Context));
}

#[test]
fn a_read_index_request_has_one_entry() {
    let mut filter = filter();
    let entry = Entry {
        data: Bytes::from_static(b"ctx"),
        ..Entry::default()
    };
    for (count, leaves) in [(0, false), (1, true), (2, false)] {
        let mut request = outgoing(MessageKind::ReadIndex, 0, 0);
        request.entries = vec![entry.clone(); count];
        assert_eq!(
            check(&mut filter, &request).is_ok(),
            leaves,
            "{count} entries"
        );
    }
}

#[test]
fn a_rejection_is_not_repeated_at_once() {
    let mut filter = filter();
    let now = Instant::now();
    let mut reject = outgoing(MessageKind::AppResp, 3, 2000);
    reject.reject = true;
    reject.reject_hint = 20;
    assert_eq!(filter.check(now, PEER, &reject), Ok(()));
    let index = RaftIndex(2000);
    let repeated = Err(Refused::RepeatedReject { index });
    assert_eq!(filter.check(now, PEER, &reject), repeated);
    let soon = now + REJECT_INTERVAL - Duration::from_millis(1);
    assert_eq!(filter.check(soon, PEER, &reject), repeated);
    assert_eq!(filter.check(now + REJECT_INTERVAL, PEER, &reject), Ok(()));
    reject.reject_hint = 21;
    assert_eq!(filter.check(now + REJECT_INTERVAL, PEER, &reject), Ok(()));
}

#[test]
fn contexts_are_bounded_and_the_newest_stay() {
    let mut filter = filter();
    for n in 0..2 * CONTEXTS_MAX {
        let mut beat = received(MessageKind::Heartbeat, 3, 0);
        beat.context = Bytes::copy_from_slice(&(n as u64).to_le_bytes());
        filter.note_received(PEER, MessageKind::Heartbeat, &beat);
    }
    assert_eq!(filter.members[&PEER].contexts.len(), CONTEXTS_MAX);
    let mut answer = outgoing(MessageKind::HeartbeatResp, 3, 0);
    answer.context = Bytes::copy_from_slice(&(2 * CONTEXTS_MAX as u64 - 1).to_le_bytes());
    assert_eq!(check(&mut filter, &answer), Ok(()));
}

proptest! {
    /// Whatever is sent, what passes is harmless.
    #[test]
    fn what_passes_is_harmless(
        number in 0_u32..26, term in 0_u64..6, index in 0_u64..200, reject: bool,
        entries in 0_usize..3, context in proptest::collection::vec(any::<u8>(), 0..12),
        from in 8_u64..10, snapshot: bool,
    ) {
        let message = Message {
            r#type: number, from, to: PEER.0, term, index, reject,
            entries: vec![Entry { data: Bytes::from_static(b"x"), ..Entry::default() }; entries],
            context: Bytes::from(context),
            snapshot: snapshot.then(Default::default),
            ..Message::default()
        };
        if check(&mut filter(), &message).is_ok() {
            prop_assert!([4, 9, 15].contains(&number));
            prop_assert!(term <= 3 && from == US.0 && !snapshot);
            prop_assert!(number != 4 || reject || index <= 50);
            prop_assert!(message.context.is_empty());
            prop_assert_eq!(entries, usize::from(number == 15));
        }
    }
}

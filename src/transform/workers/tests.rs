use std::iter;

use super::*;
use crate::load::LoadId;

fn transformed(ticket: u64) -> Transformed {
    Transformed {
        ticket,
        outcome: Outcome::Drop,
        by: Load {
            id: LoadId(1),
            sha256: "of a test".into(),
        },
        took: Duration::ZERO,
    }
}

fn piece(tickets: impl IntoIterator<Item = u64>) -> Piece {
    Piece {
        outcomes: tickets.into_iter().map(transformed).collect(),
        bytes: 1,
    }
}

fn received(receiver: &mut UnboundedReceiver<Piece>) -> Vec<u64> {
    let pieces = iter::from_fn(|| receiver.try_recv().ok());
    pieces
        .flat_map(|piece| piece.outcomes)
        .map(|transformed| transformed.ticket)
        .collect()
}

#[test]
fn pieces_come_in_the_order_of_their_chunks() {
    let (sender, mut receiver) = unbounded_channel();
    let mut sequencer = Sequencer::new(sender);
    for (number, sent) in [(2, 0), (0, 1), (3, 0), (1, 3), (5, 0)] {
        assert_eq!(
            sequencer.deliver(number, piece([number]), true),
            sent,
            "after chunk {number}"
        );
    }
    assert_eq!(received(&mut receiver), [0, 1, 2, 3]);
    sequencer.deliver(4, piece([4]), true);
    assert_eq!(received(&mut receiver), [4, 5]);
}

#[test]
fn a_part_of_the_chunk_in_front_is_passed_on_at_once() {
    let (sender, mut receiver) = unbounded_channel();
    let mut sequencer = Sequencer::new(sender);
    sequencer.deliver(1, piece([10]), false);
    sequencer.deliver(0, piece([1, 2]), false);
    assert_eq!(received(&mut receiver), [1, 2]);
    sequencer.deliver(1, piece([11]), true);
    assert!(received(&mut receiver).is_empty());
    sequencer.deliver(0, piece([3]), true);
    assert_eq!(received(&mut receiver), [3, 10, 11]);
}

#[test]
fn a_panic_ends_the_receiver_even_while_other_threads_live() {
    let (sender, mut receiver) = unbounded_channel();
    let desk = Arc::new(Desk::new(sender, |_| 0, Tap::default()));
    let hand = Hand::new(Arc::clone(&desk));
    thread::spawn(move || {
        let _hand = hand;
        panic!("as a defect of the host would");
    })
    .join()
    .expect_err("it panicked");
    assert!(receiver.blocking_recv().is_none());
    lock(&desk.counter).deliver(0, piece([0]), true);
    assert!(lock(&desk.counter).results.early.len() <= 1);
}

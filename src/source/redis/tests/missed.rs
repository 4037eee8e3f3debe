//! What was trimmed or deleted before it was read, and how much waits.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn counters_that_cannot_be_right_stop_nothing() {
    let (mut world, source) = (World::start().await, list());
    world.push(&source, 1..=3).await;
    let setup = world.reader(&source, Deliver::All);
    assert_eq!(read(&mut begin(&setup).await, ROOM, 3).await.unwrap().len(), 3);
    world
        .send::<()>(&format!("HSET {{{KEY}}}:slipring:state taken 0 done 1000"))
        .await;
    assert_eq!(
        numbers(&read(&mut begin(&setup).await, ROOM, 3).await.unwrap()),
        [1, 2, 3]
    );
    world.send::<()>(&format!("DEL {{{KEY}}}:slipring:state")).await;
    let mut epoch = begin(&setup).await;
    assert_eq!(epoch.again.messages, 3, "all that is kept");
    assert_eq!(numbers(&read(&mut epoch, ROOM, 3).await.unwrap()), [1, 2, 3]);

    let (mut world, source) = (World::start().await, stream());
    world.push(&source, 1..=3).await;
    let mut epoch = begin(&world.reader(&source, Deliver::All)).await;
    world
        .send::<()>(&format!("XGROUP SETID {KEY} group 0-0 ENTRIESREAD 9"))
        .await;
    assert_eq!(numbers(&read(&mut epoch, ROOM, 3).await.unwrap()), [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_trimmed_before_the_group_existed_is_nobodys_loss() {
    let (mut world, source) = (World::start().await, stream());
    world.push(&source, 1..=9).await;
    world.send::<()>(&format!("XTRIM {KEY} MAXLEN 4")).await;
    let mut epoch = begin(&world.reader(&source, Deliver::All)).await;
    let (first, missed) = epoch.next(Some(ROOM)).await.unwrap();
    assert_eq!((numbers(&first), missed), (vec![6, 7, 8, 9], Vec::new()));
    // Later it is.
    world.push(&source, 10..=15).await;
    world.send::<()>(&format!("XTRIM {KEY} MAXLEN 2")).await;
    let (mut missed, mut came) = (0, Vec::new());
    while came.len() < 2 {
        let (more, lost) = epoch.next(Some(ROOM)).await.unwrap();
        came.extend(more);
        missed += lost.iter().map(|missed| missed.messages).sum::<u64>();
    }
    assert_eq!((missed + came.len() as u64, numbers(&came).pop()), (6, Some(15)));
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_are_not_missed_that_were_received_before_they_were_trimmed() {
    let (mut world, source) = (World::start().await, stream());
    world.push(&source, 1..=4).await;
    let setup = world.reader(&source, Deliver::All);
    assert_eq!(read(&mut begin(&setup).await, ROOM, 4).await.unwrap().len(), 4);
    world.push(&source, 5..=6).await;
    world.send::<()>(&format!("XTRIM {KEY} MAXLEN 1")).await;
    // Entry 5 was never delivered, to anybody.
    let mut epoch = begin(&setup).await;
    let (mut missed, mut came) = (Vec::new(), Vec::new());
    while came.is_empty() {
        let (more, lost) = epoch.next(Some(ROOM)).await.unwrap();
        came.extend(more);
        missed.extend(lost.iter().map(|missed| missed.messages));
    }
    assert_eq!((numbers(&came), missed), (vec![6], vec![1]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backlog_is_known_where_redis_does_not_know_it() {
    let (mut world, source) = (World::start().await, stream());
    world.push(&source, 1..=20).await;
    // A group that begins in the middle has no `lag`.
    let since = Deliver::Since(jiff::Timestamp::from_millisecond(11).unwrap());
    let mut epoch = begin(&world.reader(&source, since)).await;
    let few = Room { messages: 4, ..ROOM };
    let (came, _) = epoch.next(Some(few)).await.unwrap();
    assert_eq!(numbers(&came), [11, 12, 13, 14]);
    assert!(came[3].pending > 0, "{}", came[3].pending);
    let rest = read(&mut epoch, ROOM, 6).await.unwrap();
    assert_eq!((rest.len(), rest[5].pending), (6, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backlog_is_known_behind_a_deleted_entry() {
    let (mut world, source) = (World::start().await, stream());
    world.push(&source, 1..=20).await;
    assert_eq!(world.send::<u64>(&format!("XDEL {KEY} 7-1")).await, 1);
    let mut epoch = begin(&world.reader(&source, Deliver::All)).await;
    let few = Room { messages: 4, ..ROOM };
    let (came, _) = epoch.next(Some(few)).await.unwrap();
    assert_eq!((numbers(&came), came[3].pending), (vec![1, 2, 3, 4], 15));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_trimmed_is_counted_for_a_group_that_began_in_the_middle() {
    let (mut world, source) = (World::start().await, stream());
    world.push(&source, 1..=6).await;
    let since = Deliver::Since(jiff::Timestamp::from_millisecond(4).unwrap());
    let mut epoch = begin(&world.reader(&source, since)).await;
    assert_eq!(numbers(&read(&mut epoch, ROOM, 3).await.unwrap()), [4, 5, 6]);
    world.push(&source, 7..=9).await;
    world.send::<u64>(&format!("XTRIM {KEY} MAXLEN 1")).await;
    let (came, missed) = next(&mut epoch, ROOM).await;
    assert_eq!((numbers(&came), came[0].pending), (vec![9], 0));
    assert_eq!((missed.len(), missed[0].messages, missed[0].exact), (1, 2, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_was_deleted_by_hand_is_not_missed_later() {
    let (mut world, source) = (World::start().await, stream());
    world.push(&source, 1..=5).await;
    let setup = world.reader(&source, Deliver::All);
    let mut epoch = begin(&setup).await;
    let few = Room { messages: 2, ..ROOM };
    assert_eq!(numbers(&next(&mut epoch, few).await.0), [1, 2]);
    assert_eq!(world.send::<u64>(&format!("XDEL {KEY} 4-1")).await, 1);
    let rest = read(&mut epoch, ROOM, 2).await.unwrap();
    assert_eq!((numbers(&rest), rest[1].pending), (vec![3, 5], 0));
    let all: Vec<_> = (1..=5).map(|number| Place::Id(number, 1)).collect();
    settle(&setup, &epoch.token(), &mut epoch.connection(), &all)
        .await
        .unwrap();
    world.push(&source, 6..=6).await;
    world.send::<u64>(&format!("XTRIM {KEY} MINID 6")).await;
    let (came, missed) = next(&mut epoch, ROOM).await;
    assert_eq!((numbers(&came), missed.len()), (vec![6], 0), "{missed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_behind_deleted_entries() {
    let (mut world, source) = (World::start().await, stream());
    world.push(&source, 1..=5).await;
    let mut epoch = begin(&world.reader(&source, Deliver::All)).await;
    let few = Room { messages: 2, ..ROOM };
    assert_eq!(numbers(&next(&mut epoch, few).await.0), [1, 2]);
    assert_eq!(world.send::<u64>(&format!("XDEL {KEY} 5-1")).await, 1);
    let rest = read(&mut epoch, ROOM, 2).await.unwrap();
    assert_eq!((numbers(&rest), rest[1].pending), (vec![3, 4], 0));
}

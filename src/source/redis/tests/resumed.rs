//! Where an epoch begins, whatever Redis has forgotten.

use super::*;

/// Otherwise the pipeline would believe that it has caught up, and publish what newer publications have replaced.
#[tokio::test(flavor = "multi_thread")]
async fn what_still_comes_again_is_pending() {
    for source in [list(), stream()] {
        let mut world = World::start().await;
        world.push(&source, 1..=600).await;
        let setup = world.reader(&source, Deliver::All);
        assert_eq!(read(&mut begin(&setup).await, ROOM, 600).await.unwrap().len(), 600);
        world.push(&source, 601..=610).await;
        let mut epoch = begin(&setup).await;
        let first = epoch.next(Some(ROOM)).await.unwrap().0;
        let expected: Vec<u64> = (0..first.len() as u64).map(|index| 609 - index).collect();
        let pending: Vec<u64> = first.iter().map(|delivery| delivery.pending).collect();
        assert!(first.len() < 600);
        assert_eq!(pending, expected);
        let rest = read(&mut epoch, ROOM, 610 - first.len()).await.unwrap();
        assert_eq!((first.len() + rest.len(), rest.last().unwrap().pending), (610, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_is_deleted_before_anything_is_settled_begins_where_it_began() {
    let (mut world, source) = (World::start().await, stream());
    world.push(&source, 1..=2).await;
    let setup = world.reader(&source, Deliver::New);
    let mut epoch = begin(&setup).await;
    world.push(&source, 3..=5).await;
    assert_eq!(numbers(&read(&mut epoch, ROOM, 3).await.unwrap()), [3, 4, 5]);
    world.send::<()>(&format!("XGROUP DESTROY {KEY} group")).await;
    world.push(&source, 6..=7).await;
    let came = read(&mut begin(&setup).await, ROOM, 5).await.unwrap();
    assert_eq!(numbers(&came), [3, 4, 5, 6, 7]);
    // The same if the stream is deleted with it: then all of the new one is read.
    world.send::<()>(&format!("DEL {KEY}")).await;
    world.push(&source, 1..=2).await;
    assert_eq!(numbers(&read(&mut begin(&setup).await, ROOM, 2).await.unwrap()), [1, 2]);
}

/// A failover to a replica that was behind: the IDs that the relay knows may be given to other messages.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_lost_what_was_read_gets_another_incarnation() {
    let (mut world, source) = (World::start().await, list());
    world.push(&source, 1..=3).await;
    let setup = world.reader(&source, Deliver::All);
    let mut epoch = begin(&setup).await;
    let before = read(&mut epoch, ROOM, 3).await.unwrap();
    world.send::<()>(&format!("DEL {{{KEY}}}:slipring:taken")).await;
    world
        .send::<()>(&format!("HSET {{{KEY}}}:slipring:state last 0-0 taken 0"))
        .await;
    world.push(&source, 2..=4).await;
    let mut again = begin(&setup).await;
    assert_ne!(again.incarnation, epoch.incarnation);
    let after = read(&mut again, ROOM, 3).await.unwrap();
    assert_eq!(numbers(&after), [2, 3, 4]);
    assert!(places(&after)[0] > places(&before)[2], "its IDs are new");
    assert_eq!(begin(&setup).await.incarnation, again.incarnation, "only once");

    let (mut world, source) = (World::start().await, stream());
    world.push(&source, 5..=9).await;
    let setup = world.reader(&source, Deliver::All);
    let mut epoch = begin(&setup).await;
    read(&mut epoch, ROOM, 5).await.unwrap();
    world.send::<()>(&format!("DEL {KEY}")).await;
    world.push(&source, 1..=7).await;
    let mut again = begin(&setup).await;
    assert_ne!(again.incarnation, epoch.incarnation);
    assert_eq!(
        numbers(&read(&mut again, ROOM, 7).await.unwrap()),
        [1, 2, 3, 4, 5, 6, 7]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_begins_with_the_first_entry_of_its_time() {
    let (mut world, source) = (World::start().await, stream());
    for id in ["4-7", "5-0", "5-1", "6-0"] {
        let number = id.replace('-', "");
        world.send::<()>(&format!("XADD {KEY} {id} payload {number}")).await;
    }
    let since = Deliver::Since(jiff::Timestamp::from_millisecond(5).unwrap());
    let came = read(&mut begin(&world.reader(&source, since)).await, ROOM, 3)
        .await
        .unwrap();
    assert_eq!(numbers(&came), [50, 51, 60]);
}

/// Otherwise a group of new entries would begin anew, behind those that came meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn what_redis_forgot_is_resumed_at_the_position() {
    let (mut world, source) = (World::start().await, stream());
    let state = format!("{{{KEY}}}:slipring:group:state");
    let setup = world.reader(&source, Deliver::New);
    world.push(&source, 1..=3).await;
    begin(&setup).await;
    // Before anything came, a replica without anything of the relay's takes over, and then an empty one.
    world.send::<()>(&format!("DEL {state}")).await;
    world.send::<()>(&format!("XGROUP DESTROY {KEY} group")).await;
    let mut epoch = begin(&setup).await;
    assert_eq!(read(&mut epoch, ROOM, 0).await.unwrap().len(), 0);
    world.send::<()>("FLUSHALL").await;
    world.push(&source, 4..=6).await;
    let mut epoch = begin(&setup).await;
    let came = read(&mut epoch, ROOM, 3).await.unwrap();
    assert_eq!(numbers(&came), [4, 5, 6]);

    // The next one has the entries, and nothing of the relay's.
    let position = Position {
        stream: epoch.incarnation,
        next: places(&came)[1],
    };
    world.send::<()>(&format!("DEL {state}")).await;
    world.send::<()>(&format!("XGROUP DESTROY {KEY} group")).await;
    world.push(&source, 7..=8).await;
    let mut epoch = begin_at(&setup, Some(position)).await;
    assert_eq!(numbers(&read(&mut epoch, ROOM, 4).await.unwrap()), [5, 6, 7, 8]);

    // And one without any.
    world.send::<()>("FLUSHALL").await;
    world.push(&source, 1..=2).await;
    let mut epoch = begin_at(&setup, Some(position)).await;
    assert_eq!(numbers(&read(&mut epoch, ROOM, 2).await.unwrap()), [1, 2]);
}

//! Who may read: the lease, and standing by for it.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_may_not_read_leaves_the_lease_alone() {
    let (mut world, source) = (World::start().await, stream());
    world.push(&source, 1..=1).await;
    world.send::<()>("ACL SETUSER default -xgroup").await;
    let (waiting, _) = standing_by::channel();
    let error = begin::begin(world.reader(&source, Deliver::All), 1, None, waiting)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("denies this user a permission"), "{error}");
    let lease: Option<String> = world.send(&format!("GET {{{KEY}}}:slipring:group:lease")).await;
    assert_eq!(lease, None);
}

/// Two readers that share a lease.
fn sharing(world: &World, source: &RedisSource, deliver: Deliver) -> [Arc<Setup>; 2] {
    [(), ()].map(|()| {
        let mut setup = Arc::into_inner(setup(&world.redis, source)).unwrap();
        (setup.shared, setup.ttl, setup.deliver) = (true, Duration::from_secs(2), deliver);
        Arc::new(setup)
    })
}

/// Begins an epoch in the background, which tells when it stands by.
fn stand_by(setup: &Arc<Setup>, number: u64) -> (JoinHandle<Result<Epoch, Error>>, Hearer) {
    let (tell, waiting) = standing_by::channel();
    let begun = begin::begin(Arc::clone(setup), number, None, tell);
    (tokio::spawn(begun), waiting)
}

async fn sees_the_other(setup: &Arc<Setup>, number: u64) -> JoinHandle<Result<Epoch, Error>> {
    let (task, mut waiting) = stand_by(setup, number);
    waiting.next().await;
    task
}

/// The active relay publishes what it has in flight for as long as its lease lasts by its own clock. Redis may have lost
/// that lease, in a failover for example, and a relay that stands by loses its connection at the same time.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_redis_lost_is_waited_for() {
    for source in [list(), stream()] {
        for fails_over in [false, true] {
            let mut world = World::start().await;
            let [active, other] = sharing(&world, &source, Deliver::All);
            let mut epoch = begin(&active).await;
            let task = sees_the_other(&other, 1).await;
            if !fails_over {
                task.abort();
            }
            // It is renewed once more after it was seen.
            let lease = epoch.lease.clone();
            let until = lease.current().until();
            let renewed = async || {
                eventually(Duration::from_secs(10), "a renewal", async || {
                    ensure!(lease.current().until() > until, "not yet");
                    Ok(())
                })
                .await
            };
            renewed().await.unwrap();
            match fails_over {
                true => world.redis.fail_over().await.unwrap(),
                false => world.send::<()>("FLUSHALL").await,
            }
            drop(epoch.renewing.take());
            if fails_over {
                task.await.unwrap().unwrap_err();
                assert!(other.other().as_ref().unwrap().is_unsure);
            }
            let (again, _waiting) = stand_by(&other, 2);
            let begun = timeout(Duration::from_secs(20), again).await.unwrap().unwrap();
            let now = Instant::now();
            assert!(begun.is_ok() && !lease.is_valid(now), "{source:?}, {fails_over}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_was_given_up_or_is_ours_is_not_waited_for() {
    for source in [list(), stream()] {
        for gives_up in [true, false] {
            let mut world = World::start().await;
            let [active, other] = sharing(&world, &source, Deliver::All);
            let epoch = begin(&active).await;
            let task = sees_the_other(&other, 7).await;
            task.abort();
            let _ = task.await;
            // A long lease, so that waiting for its end would be noticed.
            let until = Instant::now() + Duration::from_secs(600);
            {
                let mut seen = other.other();
                let seen = seen.as_mut().unwrap();
                (seen.until, seen.is_unsure) = (until, true);
            }
            let keys = &active.keys;
            let mut connection = epoch.connection();
            if gives_up {
                let mut call = scripts::RENEW.key(&keys.lease);
                call.key(&keys.state).arg(&*epoch.token()).arg(0);
                let reply: String = call.invoke_async(&mut connection).await.unwrap();
                assert_eq!(reply, "ok");
            } else {
                // The reply to its request was lost.
                let token = format!("{}.7", other.reader);
                world.send::<()>(&format!("SET {} {token} PX 60000", keys.lease)).await;
            }
            let (again, _waiting) = stand_by(&other, 8);
            let begun = timeout(Duration::from_secs(20), again).await;
            assert!(begun.unwrap().unwrap().is_ok(), "{source:?}, {gives_up}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stood_by_resumes_where_the_other_was() {
    let (mut world, source) = (World::start().await, stream());
    let [active, other] = sharing(&world, &source, Deliver::New);
    world.push(&source, 1..=2).await;
    let epoch = begin(&active).await;
    let task = sees_the_other(&other, 1).await;
    world.send::<()>("FLUSHALL").await;
    world.push(&source, 3..=4).await;
    drop(epoch);
    let mut epoch = timeout(Duration::from_secs(20), task).await.unwrap().unwrap().unwrap();
    assert_eq!(numbers(&read(&mut epoch, ROOM, 2).await.unwrap()), [3, 4]);
}

/// A relay that knows of no names is a reader without one. Such a pair exists during an upgrade.
#[tokio::test(flavor = "multi_thread")]
async fn relays_with_and_without_a_name_take_over_from_each_other() {
    const NAMES: [Option<&str>; 2] = [Some("web-1.example (process 7, admin server 127.0.0.1:8787)"), None];
    for source in [list(), stream()] {
        for [first, second] in [[NAMES[0], NAMES[1]], [NAMES[1], NAMES[0]], [NAMES[0], NAMES[0]]] {
            let world = World::start().await;
            let pair = [first, second].map(|name| {
                let mut setup = Arc::into_inner(setup(&world.redis, &source)).unwrap();
                (setup.shared, setup.ttl, setup.reader) = (true, Duration::from_secs(2), holder::new(name));
                Arc::new(setup)
            });
            let [active, other] = &pair;
            let hears = async |hearer: &mut Hearer| timeout(SOON, hearer.next()).await.unwrap();
            let told = |name: Option<&str>| name.map_or(Active::Unnamed, Active::named);

            let mut epoch = begin(active).await;
            let (task, mut hearer) = stand_by(other, 1);
            assert_eq!(hears(&mut hearer).await, told(first), "{source:?}");
            // It falls silent, and its lease runs out.
            drop(epoch.renewing.take());
            let mut epoch = timeout(SOON, task).await.unwrap().unwrap().unwrap();

            let (task, mut hearer) = stand_by(active, fastrand::u64(..));
            assert_eq!(hears(&mut hearer).await, told(second), "{source:?}");
            // It gives the lease up.
            let mut call = scripts::RENEW.key(&other.keys.lease);
            call.key(&other.keys.state).arg(&*epoch.token()).arg(0);
            let reply: String = call.invoke_async(&mut epoch.connection()).await.unwrap();
            assert_eq!(reply, "ok");
            drop(epoch.renewing.take());
            assert!(timeout(SOON, task).await.unwrap().unwrap().is_ok(), "{source:?}");
        }
    }
}

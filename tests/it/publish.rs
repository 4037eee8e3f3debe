//! The publish stage alone against a real Centrifugo: what it reports as confirmed is in the history, in order, once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use slipring::config::{self, Order, Secret};
use slipring::publish::Client;
use slipring_core::key::idempotency_key;
use slipring_core::message::{Body, Publication};
use slipring_core::publish::{Concluded, RequestLimits, Scheduler};
use slipring_support::Api;
use slipring_support::servers::Centrifugo;
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use super::world::over_both;

over_both!(
    strict,
    batched,
    options_mean_what_centrifugo_says,
    goes_on_after_a_restart,
);

fn client(endpoints: &[&str], key: &str) -> Arc<Client> {
    let config = config::Centrifugo {
        endpoints: endpoints.iter().map(|url| url.parse().unwrap()).collect(),
        api_key: Some(Secret::new(key)),
        timeout: Duration::from_secs(8),
        tls: config::Tls::default(),
    };
    Arc::new(Client::new(&config).unwrap())
}

fn publication(channels: &[String], body: Body) -> Publication {
    Publication {
        tags: vec![("tag\"".to_owned(), "ü".to_owned())],
        ..Publication::new(
            channels.iter().map(|channel| Arc::from(channel.as_str())).collect(),
            body,
        )
    }
}

fn json(text: String) -> Body {
    Body::Json(serde_json::value::RawValue::from_string(text).unwrap())
}

/// Publishes all of them and returns the conclusions in the order of the tickets.
async fn publish(client: &Arc<Client>, order: Order, publications: Vec<Publication>) -> Vec<Concluded> {
    let limits = RequestLimits {
        order,
        max_batch: 512,
        max_request_bytes: 1 << 20,
        max_in_flight: 8,
        busy_batch: 32,
    };
    let mut scheduler = Scheduler::new(limits, 1).with_endpoints(client.endpoints());
    for (ticket, publication) in publications.into_iter().enumerate() {
        let key = idempotency_key("test", 0, ticket as u64, 0, 0);
        scheduler.push(ticket as u64, publication, Some(key));
    }
    let mut requests = JoinSet::new();
    let mut concluded = Vec::new();
    while !scheduler.is_idle() {
        while let Some(request) = scheduler.next_request(Instant::now()) {
            let client = Arc::clone(client);
            requests.spawn(async move { (request.id(), client.send(&request).await) });
        }
        let wakeup = scheduler.next_wakeup();
        tokio::select! {
            Some(answered) = requests.join_next() => {
                let (id, answer) = answered.unwrap();
                concluded.extend(scheduler.complete(Instant::now(), id, answer));
            }
            () = sleep_until(wakeup.unwrap_or_else(Instant::now).into()), if wakeup.is_some() => {}
        }
    }
    concluded.sort_by_key(|concluded| concluded.ticket);
    concluded
}

/// Data that the API accepts in no request: over HTTP, Centrifugo parses the JSON; over GRPC, 4 MiB is the
/// limit of a message.
fn poison(api: Api) -> (Body, &'static str) {
    match api {
        Api::Http => (json("[".repeat(20_000) + &"]".repeat(20_000)), "400"),
        Api::Grpc => (json(format!("\"{}\"", "long".repeat(2 << 20))), "413"),
    }
}

async fn complete_and_in_order(api: Api, order: Order) -> Result<()> {
    let server = Centrifugo::start().await?;
    // The first endpoint is dead.
    let dead = match api {
        Api::Http => "http://127.0.0.1:9",
        Api::Grpc => "grpc://127.0.0.1:9",
    };
    let client = client(&[dead, &server.endpoint(api)], server.api_key());
    let mut expected: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let count = 20_000u64;
    let publications: Vec<_> = (0..count)
        .map(|n| {
            let mut channels = vec![format!("orders:{}", n % 97)];
            if n % 10 == 0 {
                channels.push(format!("orders:{}", (n + 1) % 97));
            }
            if n % 1000 == 0 {
                channels.push("nope:1".to_owned());
            }
            let poisoned = n == 7777;
            for channel in channels.iter().filter(|c| !poisoned && !c.starts_with("nope")) {
                expected.entry(channel.clone()).or_default().push(n);
            }
            let body = if poisoned {
                poison(api).0
            } else {
                json(format!("{{\"n\":{n}}}"))
            };
            publication(&channels, body)
        })
        .collect();
    let concluded = publish(&client, order, publications).await;
    assert_eq!(concluded.len() as u64, count);
    for Concluded { ticket, result, .. } in &concluded {
        let code = result.as_ref().err().map(|rejection| &*rejection.code);
        let right = if *ticket == 7777 {
            Some(poison(api).1)
        } else {
            (ticket % 1000 == 0).then_some("102")
        };
        assert_eq!(code, right, "{ticket}: {result:?}");
    }
    for (channel, numbers) in expected {
        let history = server.history(&channel).await?;
        let found: Vec<u64> = history
            .iter()
            .map(|p| p.json::<serde_json::Value>().unwrap()["n"].as_u64().unwrap())
            .collect();
        assert_eq!(found, numbers, "{channel}");
    }
    Ok(())
}

async fn strict(api: Api) -> Result<()> {
    complete_and_in_order(api, Order::Strict).await
}

async fn batched(api: Api) -> Result<()> {
    complete_and_in_order(api, Order::Batched).await
}

/// The replies to a publication's options, and the resulting history.
async fn options_mean_what_centrifugo_says(api: Api) -> Result<()> {
    let server = Centrifugo::start().await?;
    let client = client(&[&server.endpoint(api)], server.api_key());
    let channel = ["orders:x".to_owned()];
    let one = |body: Body| publication(&channel, body);
    let text = |text: &str| one(json(text.to_owned()));
    let versioned = |version, publication| Publication {
        version: Some(version),
        version_epoch: Some("e".to_owned()),
        ..publication
    };
    let publications = vec![
        one(Body::Binary(b"{\"binary\":true}".to_vec())),
        one(Body::Binary(Vec::new())),
        versioned(5, text("5")),
        versioned(4, text("4")),
        Publication {
            skip_history: true,
            ..text("\"skipped\"")
        },
        Publication {
            delta: true,
            ..text(" { \"a\" : 1 }")
        },
    ];
    let concluded = publish(&client, Order::Batched, publications).await;
    let refused: Vec<u64> = concluded
        .iter()
        .filter(|one| one.result.is_err())
        .map(|one| one.ticket)
        .collect();
    assert_eq!(
        refused,
        [1],
        "Centrifugo takes no empty data, and says nothing of a version that is too low"
    );
    let history = server.history("orders:x").await?;
    let texts: Vec<String> = history.iter().map(|publication| publication.text()).collect();
    assert_eq!(texts, ["{\"binary\":true}", "5", "{\"a\":1}"]);
    assert_eq!(history[0].tags["tag\""], "ü");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_and_a_wrong_address_are_told_with_a_hint() {
    let server = Centrifugo::start().await.unwrap();
    let limits = RequestLimits {
        order: Order::Strict,
        max_batch: 5,
        max_request_bytes: 1 << 20,
        max_in_flight: 1,
        busy_batch: 32,
    };
    let trouble = async |client: Arc<Client>| {
        let mut scheduler = Scheduler::new(limits, 1).with_endpoints(client.endpoints());
        scheduler.push(0, publication(&["orders:x".to_owned()], json("1".to_owned())), None);
        let request = scheduler.next_request(Instant::now()).unwrap();
        let answer = client.send(&request).await;
        assert!(
            scheduler.complete(Instant::now(), request.id(), answer).is_empty(),
            "it is neither confirmed nor refused"
        );
        scheduler.trouble().map(str::to_owned).unwrap_or_default()
    };
    let key = trouble(client(&[&server.api_url()], "wrong")).await;
    assert!(key.contains("401") && key.contains("api_key_file"), "{key}");
    let path = trouble(client(&[&format!("{}/wrong", server.url())], server.api_key())).await;
    assert!(path.contains("404") && path.contains("HTTP API"), "{path}");

    let key = trouble(client(&[&server.grpc_url()], "wrong")).await;
    assert!(key.contains("Unauthenticated") && key.contains("grpc_api.key"), "{key}");
    let http_port = server.url().replace("http://", "grpc://");
    // Often the connection is closed before the reason is seen. The scheduler would ask again.
    let mut port = String::new();
    for _ in 0..50 {
        port = trouble(client(&[&http_port], server.api_key())).await;
        if port.contains("grpc_api.port") {
            break;
        }
    }
    assert!(port.contains(&http_port) && port.contains("grpc_api.port"), "{port}");
}

/// Centrifugo closes its connections gracefully, and leaves none that lead nowhere.
async fn goes_on_after_a_restart(api: Api) -> Result<()> {
    let mut server = Centrifugo::start().await?;
    let client = client(&[&server.endpoint(api)], server.api_key());
    for number in 1..=3 {
        let channels = ["plain:x".to_owned()];
        let publications = (0..100).map(|n| publication(&channels, json(n.to_string())));
        let concluded = publish(&client, Order::Batched, publications.collect()).await;
        ensure!(
            concluded.iter().all(|one| one.result.is_ok()),
            "after {number} starts: {concluded:?}"
        );
        server.restart().await?;
    }
    Ok(())
}

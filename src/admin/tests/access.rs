//! Who may use which route.

use super::super::routes::{ROUTES, Route};
use super::super::tokens::Access;
use super::{FULL, READ, Reply, Test, bearer, start, start_guarded};
use crate::config::Secret;
use crate::status::State;

const COMMAND: &str = "slipring-command: 1\r\n";

async fn ask(test: &Test, route: &Route, headers: &str) -> Reply {
    let path = route.path.replace("{name}", "orders");
    test.ask(route.method, &path, &format!("{COMMAND}{headers}")).await
}

/// Returns true if the route itself has answered. There is no module, so it answers a command with 404.
fn let_in(reply: &Reply) -> bool {
    // The upload, which no configuration here allows.
    let is_off = reply.code == 403 && reply.body.contains("takes no uploads");
    is_off || ![401, 403].contains(&reply.code)
}

/// Compares every route with what the tokens allow.
async fn each_route_allows(test: &Test, tokens: &[(&str, Access)]) {
    for route in ROUTES {
        for (token, allowed) in tokens {
            let headers = if token.is_empty() { String::new() } else { bearer(token) };
            let reply = ask(test, route, &headers).await;
            let expected = *allowed >= route.demand.access;
            assert_eq!(let_in(&reply), expected, "{} {token:?}: {}", route.shown(), reply.body);
        }
    }
}

#[tokio::test]
async fn each_route_wants_the_token_that_the_table_says() {
    let test = start_guarded().await;
    each_route_allows(
        &test,
        &[
            (FULL, Access::Full),
            (READ, Access::Read),
            ("", Access::Open),
            ("not-the-right-token", Access::Open),
        ],
    )
    .await;
    assert_eq!(test.get("/elsewhere", "").await.code, 401);
    assert_eq!(test.get("/elsewhere", &bearer(READ)).await.code, 404);
    assert!(
        !test.token_file().exists(),
        "no token is created beside a configured one"
    );
}

#[tokio::test]
async fn without_a_configured_token_anyone_here_may_read_and_the_relays_user_send_commands() {
    let test = start(|_| {}).await;
    let created = test.created_token();
    each_route_allows(
        &test,
        &[
            (&created, Access::Full),
            ("", Access::Read),
            ("not-the-right-token", Access::Read),
        ],
    )
    .await;
}

#[tokio::test]
async fn with_a_token_to_read_alone_only_the_relays_user_sends_commands() {
    let test = start(|config| config.read_token = Some(Secret::new(READ))).await;
    let created = test.created_token();
    each_route_allows(
        &test,
        &[(&created, Access::Full), (READ, Access::Read), ("", Access::Open)],
    )
    .await;
}

#[tokio::test]
async fn with_a_full_token_alone_it_is_for_everything() {
    let test = start(|config| config.token = Some(Secret::new(FULL))).await;
    each_route_allows(&test, &[(FULL, Access::Full), (READ, Access::Open), ("", Access::Open)]).await;
}

#[tokio::test]
async fn if_no_token_can_be_saved_nobody_sends_commands() {
    let test = start(|config| config.token_dirs = vec!["/dev/null/slipring".into()]).await;
    each_route_allows(&test, &[("", Access::Read), ("guess-guess-guess", Access::Read)]).await;
}

#[tokio::test]
async fn only_the_whole_token_after_bearer_is_right() {
    let test = start_guarded().await;
    for wrong in [
        format!("Bearer {}", &FULL[1..]),
        format!("Bearer {FULL}!"),
        format!("Bearer  {FULL}"),
        format!("Basic {FULL}"),
        "Bearer ".to_owned(),
        "Bearer".to_owned(),
        FULL.to_owned(),
        format!("Bearer {FULL}\r\nAuthorization: Bearer {FULL}"),
    ] {
        let reply = test.get("/metrics", &format!("Authorization: {wrong}\r\n")).await;
        assert_eq!(reply.code, 401, "{wrong}");
        assert!(reply.head.contains("www-authenticate: Bearer"), "{}", reply.head);
        assert!(reply.body.contains("has a wrong token"), "{}", reply.body);
    }
    let reply = test.get("/metrics", "").await;
    assert!(
        reply.body.contains("`Authorization: Bearer TOKEN` is missing"),
        "{}",
        reply.body
    );
    assert!(
        reply.body.contains("`admin.token_file` or `admin.read_token_file`"),
        "{}",
        reply.body
    );
    let lower_case = format!("authorization: bearer {FULL}\r\n");
    assert_eq!(test.get("/metrics", &lower_case).await.code, 200);
    let reply = test.ask("POST", "/api/v1/modules/orders/retry", &bearer(READ)).await;
    assert_eq!(reply.code, 403);
    assert!(reply.body.contains("has the token for reading"), "{}", reply.body);
}

#[tokio::test]
async fn the_reasons_are_for_those_who_may_read() {
    const SECRET: &str = "a reason";
    let halt = |test: &Test| {
        let module = test.board.module("orders");
        module.set_state(State::Halted, Some(SECRET.to_owned()));
    };
    let guarded = start_guarded().await;
    halt(&guarded);
    for (headers, shown) in [
        (String::new(), false),
        (bearer("not-the-right-token"), false),
        (bearer(READ), true),
        (bearer(FULL), true),
    ] {
        let reply = guarded.get("/readyz", &headers).await;
        assert_eq!(
            (reply.code, reply.body.contains(SECRET)),
            (503, shown),
            "{}",
            reply.body
        );
    }

    let open = start(|_| {}).await;
    halt(&open);
    assert!(open.get("/readyz", "").await.body.contains(SECRET));
    // A page of another site would read it.
    let rebound = "GET /readyz HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    let reply = open.send(rebound).await;
    assert_eq!(
        (reply.code, reply.body.contains(SECRET)),
        (503, false),
        "{}",
        reply.body
    );
}

#[tokio::test]
async fn the_created_token_ends_with_the_relay() {
    let mut test = start(|_| {}).await;
    let first = test.created_token();
    let (file, config, address) = (test.token_file(), test.config.clone(), test.address);
    test.stop().await;
    assert!(!file.exists());

    let next = start(|next| {
        next.token_dirs = config.token_dirs.clone();
        next.listen = address;
    })
    .await;
    assert_ne!(next.created_token(), first);
    let command = format!("{COMMAND}{}", bearer(&first));
    assert_eq!(
        next.ask("POST", "/api/v1/modules/orders/retry", &command).await.code,
        401
    );
}

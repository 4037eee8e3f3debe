//! The page of a command over TCP.

use axum::Router;
use axum::routing::{get, post};

use super::super::Local;
use super::*;

struct Test {
    address: SocketAddr,
    token: String,
    cancel: CancellationToken,
    server: JoinHandle<()>,
}

async fn start() -> Test {
    let local = Local::bind(0).await.unwrap();
    let page = local.page();
    let (place, token) = page.split_once("/#/?token=").unwrap();
    let address: SocketAddr = place.strip_prefix("http://").unwrap().parse().unwrap();
    assert!(address.ip().is_loopback());
    let token = token.to_owned();
    assert!(token.len() >= 22, "{token}");
    let api = Router::new()
        .route("/api/v1/state", get("the state"))
        .route("/api/v1/run", post(|body: String| async move { format!("ran {body}") }));
    let cancel = CancellationToken::new();
    let server = tokio::spawn(local.serve(api, cancel.clone()));
    Test {
        address,
        token,
        cancel,
        server,
    }
}

impl Test {
    async fn ask(&self, request_line: &str, headers: &str) -> (u16, String, String) {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("{request_line} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n");
        let reply = exchange(stream, &request).await;
        (reply.code, reply.head, reply.body)
    }

    /// A request of the page itself.
    async fn own(&self, request_line: &str, more: &str) -> (u16, String, String) {
        let headers = format!("Host: {}\r\n{}{more}", self.address, bearer(&self.token));
        self.ask(request_line, &headers).await
    }
}

#[tokio::test]
async fn the_page_needs_no_token_and_everything_else_does() {
    let test = start().await;
    let host = format!("Host: {}\r\n", test.address);
    for (path, kind, part) in [
        ("/", "text/html", "page/dev.js"),
        ("/page/dev.js", "text/javascript", "import"),
        ("/page/dev.css", "text/css", "{"),
        ("/page/page.css", "text/css", "{"),
    ] {
        let (code, head, body) = test.ask(&format!("GET {path}"), &host).await;
        assert_eq!(code, 200, "{path}");
        assert!(
            head.contains(kind) && (part == "import" || body.contains(part)),
            "{path}: {head}"
        );
        for header in [
            "script-src 'self'",
            "frame-ancestors 'none'",
            "cache-control: no-store",
            "nosniff",
        ] {
            assert!(head.contains(header), "{path}: {header}: {head}");
        }
    }
    let (code, _, body) = test.ask("GET /api/v1/state", &host).await;
    assert_eq!(code, 401);
    assert!(body.contains("the address that `slipring dev --web` shows"), "{body}");
    let wrong = host.clone() + &bearer("wrong");
    assert_eq!(test.ask("GET /api/v1/state", &wrong).await.0, 401);
    let (code, _, body) = test.own("GET /api/v1/state", "").await;
    assert_eq!((code, body.as_str()), (200, "the state"));
    assert_eq!(test.own("GET /page/other.js", "").await.0, 404);
    assert_eq!(test.own("GET /metrics", "").await.0, 404);
    test.cancel.cancel();
    timeout(SOON, test.server).await.unwrap().unwrap();
}

#[tokio::test]
async fn pages_of_other_sites_are_refused() {
    let test = start().await;
    let token = bearer(&test.token);
    for host in ["evil.example", "10.0.0.7", "localhost.evil.example"] {
        for path in ["/", "/page/dev.js", "/api/v1/state"] {
            let headers = format!("Host: {host}\r\n{token}");
            let (code, ..) = test.ask(&format!("GET {path}"), &headers).await;
            assert_eq!(code, 421, "{host} {path}");
        }
    }
    for more in [
        "Origin: http://evil.example\r\n",
        "Origin: null\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
    ] {
        assert_eq!(test.own("GET /api/v1/state", more).await.0, 403, "{more}");
    }
    let origin = format!("Origin: http://{}\r\n", test.address);
    assert_eq!(test.own("GET /api/v1/state", &origin).await.0, 200);
    let port = test.address.port();
    let headers = format!("Host: localhost:{port}\r\nOrigin: http://localhost:{port}\r\n{token}");
    assert_eq!(test.ask("GET /api/v1/state", &headers).await.0, 200);
}

#[tokio::test]
async fn a_command_needs_its_header() {
    let test = start().await;
    assert_eq!(test.own("POST /api/v1/run", "Content-Length: 0\r\n").await.0, 403);
    let command = "Slipring-Command: 1\r\nContent-Length: 0\r\n";
    let (code, _, said) = test.own("POST /api/v1/run", command).await;
    assert_eq!((code, said.as_str()), (200, "ran "));
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let taken = Local::bind(0).await.unwrap();
    let page = taken.page();
    let (place, _) = page.split_once("/#/").unwrap();
    let (_, port) = place.rsplit_once(':').unwrap();
    let port = port.parse().unwrap();
    let error = format!("{:#}", Local::bind(port).await.unwrap_err());
    let begin = format!("cannot listen on 127.0.0.1:{port} for the page; use another port, or none for a free one: ");
    assert!(error.starts_with(&begin), "{error}");
}

//! Faults between a relay and one of its servers.

use anyhow::Result;
use slipring_support::proxy::Proxy;
use tokio::time::{Duration, Instant, sleep};

use super::{Counts, Dice};
use crate::chaos::arena::Link;

/// How many bytes of an answer pass before it is cut.
const CUT: std::ops::Range<usize> = 1..20_000;

/// How long to wait for an answer that can be cut.
const CUT_WITHIN: Duration = Duration::from_secs(1);

pub(super) async fn disturb(links: &[Link], mut dice: Dice) -> Result<Counts> {
    let mut counts = Counts::default();
    while !dice.is_over() {
        dice.pause(50..800).await;
        let link = &links[dice.random.usize(..links.len())];
        let (proxy, name) = match dice.one_in(2) {
            true => (&link.nats, "link to NATS"),
            false => (&link.centrifugo, "link to Centrifugo"),
        };
        let what = match dice.random.u8(..8) {
            0 if std::ptr::eq(proxy, &link.centrifugo) => answers(proxy, &mut dice).await,
            _ => fault(proxy, &mut dice).await,
        };
        counts.add((name, what));
    }
    Ok(counts)
}

/// Something else than Centrifugo answers on its port for a while.
async fn answers(proxy: &Proxy, dice: &mut Dice) -> &'static str {
    const STATUSES: [(u16, &str); 7] = [
        (400, "answered with 400"),
        (401, "answered with 401"),
        (403, "answered with 403"),
        (404, "answered with 404"),
        (413, "answered with 413"),
        (500, "answered with 500"),
        (502, "answered with 502"),
    ];
    let (status, what) = STATUSES[dice.random.usize(..STATUSES.len())];
    proxy.change(|faults| faults.status = Some(status));
    proxy.cut();
    sleep(dice.outage()).await;
    proxy.change(|faults| faults.status = None);
    what
}

async fn fault(proxy: &Proxy, dice: &mut Dice) -> &'static str {
    match dice.random.u8(..7) {
        0 => {
            proxy.cut();
            "cut"
        }
        1 => {
            proxy.cut_answer_after(dice.random.usize(CUT));
            let patience = Instant::now() + CUT_WITHIN;
            while proxy.will_cut() && Instant::now() < patience {
                sleep(Duration::from_millis(5)).await;
            }
            "answers cut"
        }
        2 => {
            proxy.change(|faults| faults.swallow = true);
            sleep(dice.outage()).await;
            proxy.change(|faults| faults.swallow = false);
            // A deaf connection to NATS is noticed after 15 s, too late for a short run.
            if dice.longest < Duration::from_secs(15) || dice.one_in(2) {
                proxy.cut();
            }
            "answers swallowed"
        }
        3 => {
            proxy.change(|faults| faults.stall = true);
            sleep(dice.outage()).await;
            proxy.change(|faults| faults.stall = false);
            "stalled"
        }
        4 => {
            proxy.change(|faults| faults.refuse = true);
            proxy.cut();
            sleep(dice.outage()).await;
            proxy.change(|faults| faults.refuse = false);
            "refused"
        }
        _ => {
            let latency = dice.time(1..60);
            proxy.change(|faults| faults.latency = latency);
            sleep(dice.outage()).await;
            proxy.change(|faults| faults.latency = Duration::ZERO);
            "delayed"
        }
    }
}

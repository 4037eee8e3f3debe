//! Counts the answers of the admin server.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;

/// By status code. The codes are the relay's own, so there are few. A clone counts the same.
#[derive(Debug, Clone)]
pub struct AdminRequests(Arc<Mutex<BTreeMap<u16, u64>>>);

/// Those that start at zero, because an alert may watch how they rise: good ones, those without the right token, and
/// those that other pages send.
const FIRST: [u16; 4] = [200, 401, 403, 421];

impl Default for AdminRequests {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(FIRST.map(|code| (code, 0)).into())))
    }
}

impl AdminRequests {
    pub fn count(&self, code: u16) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(code).or_default() += 1;
    }
}

impl Collector for AdminRequests {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let help = "Requests that the admin server answered, by HTTP status code";
        let mut family = encoder.encode_descriptor("admin_requests", help, None, MetricType::Counter)?;
        for (code, count) in &*counts {
            ConstCounter::new(*count).encode(family.encode_family(&[("code", code.to_string())])?)?;
        }
        Ok(())
    }
}

//! The formats in which Prometheus reads metrics.

/// The format of the metrics' text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    OpenMetrics,
    /// Prometheus' own, older format, which every tool reads.
    Text,
}

impl Format {
    /// Returns the format for a client with this `Accept` header. OpenMetrics has to be asked for.
    pub fn accepted(accept: &str) -> Self {
        let accepts = |range: &str| {
            let mut parts = range.split(';').map(str::trim);
            let is_open = parts
                .next()
                .is_some_and(|name| name.eq_ignore_ascii_case("application/openmetrics-text"));
            is_open && !parts.any(|part| part.strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0_f32)))
        };
        match accept.split(',').any(accepts) {
            true => Self::OpenMetrics,
            false => Self::Text,
        }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Turns OpenMetrics into Prometheus' older format. There a counter has its full name in each line, and neither units nor
/// the end are marked.
pub(super) fn older(text: &str) -> String {
    let mut older = String::with_capacity(text.len());
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let is_counter = |line: &str| line.starts_with("# TYPE ") && line.ends_with(" counter");
        // The help comes before the type.
        let is_of_counter =
            is_counter(line) || line.starts_with("# HELP ") && lines.peek().is_some_and(|next| is_counter(next));
        match line.strip_prefix("# ") {
            Some(comment) if comment.starts_with("UNIT ") || comment == "EOF" => continue,
            Some(comment) if is_of_counter => {
                let mut words = comment.splitn(3, ' ');
                let [keyword, name, rest] = [(); 3].map(|()| words.next().unwrap_or_default());
                older.push_str(&format!("# {keyword} {name}_total {rest}"));
            }
            _ => older.push_str(line),
        }
        older.push('\n');
    }
    older
}

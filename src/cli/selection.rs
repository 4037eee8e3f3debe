//! Selects the messages that a command reads, by the stream and subjects of its arguments, or else of the module's
//! `.toml`.

use crate::config::ModuleConfig;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Selection<'a> {
    pub stream: &'a str,
    /// An empty list means all subjects.
    pub subjects: &'a [String],
}

impl<'a> Selection<'a> {
    /// Returns `None` if no stream is named.
    pub fn new(stream: Option<&'a str>, subjects: &'a [String], module: Option<&'a ModuleConfig>) -> Option<Self> {
        let stream = stream.or(module.map(|module| module.stream.as_str()))?;
        // A module's subjects apply only to its own stream.
        let module = module.filter(|module| module.stream == stream);
        let subjects = match (subjects, module) {
            ([], Some(module)) => &module.subjects,
            (subjects, _) => subjects,
        };
        Some(Self { stream, subjects })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_go_before_the_module_and_its_subjects_are_those_of_its_stream() {
        let module = ModuleConfig {
            subjects: vec!["orders.>".to_owned()],
            ..ModuleConfig::new("orders", "ORDERS")
        };
        let paid = ["orders.paid".to_owned()];
        let selection = |stream, subjects| {
            let selection = Selection::new(stream, subjects, Some(&module)).expect("the module names a stream");
            (selection.stream, selection.subjects.join(" "))
        };
        assert_eq!(selection(None, &[]), ("ORDERS", "orders.>".to_owned()));
        assert_eq!(selection(Some("ORDERS"), &[]), ("ORDERS", "orders.>".to_owned()));
        assert_eq!(selection(None, &paid), ("ORDERS", "orders.paid".to_owned()));
        assert_eq!(selection(Some("ARCHIVE"), &[]), ("ARCHIVE", String::new()));
        assert_eq!(Selection::new(None, &paid, None), None);
    }
}

//! A quick look at a file, before anything is made of it: what no compiler writes need not be compiled to be refused.

use wasmparser::{Parser, Payload};

use super::super::module::LoadError;
use crate::config::Bounds;

/// What is damaged is let through; who reads all of it says it better.
pub(super) fn check(wasm: &[u8], bounds: &Bounds) -> Result<(), LoadError> {
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(wasm) {
        match payload {
            Ok(Payload::ModuleSection { .. } | Payload::ComponentSection { .. }) => depth += 1,
            // The last one is of the file itself.
            Ok(Payload::End(_)) => depth = usize::saturating_sub(depth, 1),
            Ok(_) => {}
            Err(_) => break,
        }
        if depth > bounds.nesting {
            return Err(LoadError::Nesting(bounds.nesting));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(depth: usize) -> Vec<u8> {
        let text = format!("(component {} {})", "(component ".repeat(depth), ")".repeat(depth));
        wat::parse_str(text).expect("valid text")
    }

    #[test]
    fn components_may_be_nested_only_so_deep() {
        let bounds = Bounds {
            nesting: 3,
            ..Bounds::default()
        };
        assert!(check(&nested(3), &bounds).is_ok());
        assert!(matches!(check(&nested(4), &bounds), Err(LoadError::Nesting(3))));
        let beside = wat::parse_str(format!("(component {})", "(component) (core module)".repeat(10)));
        assert!(check(&beside.expect("valid text"), &bounds).is_ok());
    }
}

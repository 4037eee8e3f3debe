//! Checks the structure of a file before it is compiled. A structure that no compiler produces is refused at once.

use wasmparser::{FunctionBody, Operator, Parser, Payload};

use super::super::error::LoadError;
use crate::config::Bounds;

/// Blocks in a function may be nested this many times deeper than components. Compilers turn the cases of a `switch`
/// into nested blocks, and there may be thousands.
const BLOCKS: usize = 500;

/// Accepts a damaged file. The full parser gives a better error.
pub(super) fn check(wasm: &[u8], bounds: &Bounds) -> Result<(), LoadError> {
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(wasm) {
        match payload {
            Ok(Payload::ModuleSection { .. } | Payload::ComponentSection { .. }) => depth += 1,
            // The last end belongs to the file itself.
            Ok(Payload::End(_)) => depth = usize::saturating_sub(depth, 1),
            Ok(Payload::CodeSectionEntry(body)) if blocks(&body) > BLOCKS * bounds.nesting => {
                return Err(LoadError::Blocks(BLOCKS * bounds.nesting));
            }
            Ok(_) => {}
            Err(_) => break,
        }
        if depth > bounds.nesting {
            return Err(LoadError::Nesting(bounds.nesting));
        }
    }
    Ok(())
}

/// Returns how deep the blocks of a function are nested.
fn blocks(body: &FunctionBody<'_>) -> usize {
    let Ok(operators) = body.get_operators_reader() else {
        return 0;
    };
    let (mut depth, mut deepest) = (0_usize, 0);
    for operator in operators {
        match operator {
            Ok(Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } | Operator::TryTable { .. }) => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            Ok(Operator::End) => depth = depth.saturating_sub(1),
            Ok(_) => {}
            Err(_) => break,
        }
    }
    deepest
}

/// A file, as far as the relay itself looks at it: a process of its own does the rest.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz(input: &[u8]) {
    for nesting in [0, 1, 100] {
        let bounds = Bounds {
            nesting,
            ..Bounds::default()
        };
        if let Err(error) = check(input, &bounds) {
            assert!(!error.to_string().is_empty());
        }
    }
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

    #[test]
    fn blocks_may_be_nested_only_so_deep() {
        let bounds = Bounds {
            nesting: 1,
            ..Bounds::default()
        };
        let function = |depth: usize| {
            let (begin, end) = ("block ".repeat(depth), "end ".repeat(depth));
            let text = format!("(component (core module (func {begin} {end}) (func block end)))");
            wat::parse_str(text).expect("valid text")
        };
        assert!(check(&function(BLOCKS), &bounds).is_ok());
        assert!(matches!(
            check(&function(BLOCKS + 1), &bounds),
            Err(LoadError::Blocks(BLOCKS))
        ));
    }
}

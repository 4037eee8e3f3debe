//! `#[init]`.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::{Result, Type};

use crate::signature::{Usage, carrier};

const USAGE: Usage = Usage {
    attribute: "#[init]",
    example: "fn prepare(settings: Settings) -> Result<Prepared>",
};

pub fn expand(arguments: TokenStream, item: &TokenStream) -> Result<TokenStream> {
    let function = USAGE.read(arguments, item)?;
    let name = &function.name;
    let [settings] = &function.parameters[..] else {
        let wrong = format!("the function has {} parameters", function.parameters.len());
        return Err(USAGE.error(name, &wrong));
    };
    let settings = USAGE.parameter(settings)?;
    if let Type::Reference(reference) = settings {
        return Err(USAGE.error(reference, "the parameter is a reference"));
    }
    let output = &function.output;
    let carrier = carrier(name);
    // `#[transform]` calls `prepare`, with a fallback from a trait in scope. Rust prefers this inherent function. It
    // has the span of the user's function, so the compiler points there if there are two.
    let prepare = format_ident!("prepare", span = name.span());
    // The span keeps our variable apart from the user's names. The function may have the name `settings`.
    let body = quote_spanned! { Span::mixed_site() =>
        (settings: &str) -> #output {
            let settings: #settings = ::slipring_sdk::expansion::read_settings(settings)?;
            #name(settings)
        }
    };
    Ok(quote! {
        #item

        impl #carrier {
            #[doc(hidden)]
            fn #prepare #body
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "the calls are easier to read")]
    fn check(function: TokenStream, expected: &str) {
        let found = match expand(TokenStream::new(), &function) {
            Ok(tokens) => {
                syn::parse2::<syn::File>(tokens.clone()).expect("the expansion is a list of items");
                tokens.to_string()
            }
            Err(error) => error.to_string(),
        };
        assert!(found.contains(expected), "{found:?} does not contain {expected:?}");
    }

    #[test]
    fn the_function_stays_as_it_is_and_a_prepare_calls_it() {
        let function = quote! { fn routes(settings: my::Settings) -> Result<Routes> { Routes::new(settings) } };
        check(function.clone(), &function.to_string());
        check(
            function.clone(),
            &quote! { fn prepare(settings: &str) -> Result<Routes> }.to_string(),
        );
        check(function, &quote! { let settings: my::Settings = }.to_string());
    }

    #[test]
    fn what_cannot_be_an_init_is_refused_with_the_reason_and_a_right_one() {
        check(
            quote! { const ROUTES: u32 = 1; },
            "this is not a function; #[init] goes on a function like `fn prepare(settings: Settings) -> Result<Prepared>`",
        );
        check(
            quote! { async fn routes(settings: S) -> Result<R> {} },
            "the function is async",
        );
        check(quote! { fn routes(settings: S) {} }, "the function returns nothing");
        check(quote! { fn routes() -> Result<R> {} }, "the function has 0 parameters");
        check(
            quote! { fn routes(settings: &S) -> Result<R> {} },
            "the parameter is a reference",
        );
        check(quote! { fn routes(self) -> Result<R> {} }, "the function is a method");
    }
}

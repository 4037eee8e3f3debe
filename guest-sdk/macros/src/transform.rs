//! `#[transform]`.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned as _;
use syn::{Ident, Result, Type};

use crate::signature::{Function, Usage, carrier};

const USAGE: Usage = Usage {
    attribute: "#[transform]",
    example: "fn orders(message: &Message) -> Result<Output>` or `fn orders(message: &Message, settings: &Settings) -> Result<Output>",
};

pub fn expand(arguments: TokenStream, item: &TokenStream) -> Result<TokenStream> {
    let function = USAGE.read(arguments, item)?;
    for parameter in &function.parameters {
        USAGE.referred(parameter)?;
    }
    let carrier = carrier(&function.name);
    let implementation = match &function.parameters[..] {
        [_message] => without_settings(&function, &carrier),
        [_message, settings] => with_settings(&function, &carrier, USAGE.referred(settings)?),
        parameters => {
            let wrong = format!("the function has {} parameters", parameters.len());
            return Err(USAGE.error(&function.name, &wrong));
        }
    };
    Ok(quote! {
        #item

        #[doc(hidden)]
        struct #carrier;

        const _: () = {
            #implementation

            // Native builds have no exports. With this constant, the function counts as used.
            const _: ::slipring_sdk::expansion::Entry = ::slipring_sdk::expansion::entry::<#carrier>();

            #[cfg(target_family = "wasm")]
            ::slipring_sdk::expansion::export!(#carrier);
        };
    })
}

/// Calls the user's function. The span makes the compiler point at its return type if that is none that the relay
/// could use.
fn returned(function: &Function, settings: Option<&TokenStream>) -> TokenStream {
    let at = function.output.span();
    let mut name = function.name.clone();
    name.set_span(name.span().located_at(at));
    let span = Span::mixed_site().located_at(at);
    quote_spanned! { span => ::slipring_sdk::expansion::returned(#name(message #settings)) }
}

// Below, the span keeps our variables apart from the user's names. A function may have the name `message`.

fn without_settings(function: &Function, carrier: &Ident) -> TokenStream {
    let output = returned(function, None);
    quote_spanned! { Span::mixed_site() =>
        impl ::slipring_sdk::expansion::Transform for #carrier {
            fn init(settings: &str) -> ::slipring_sdk::Result<()> {
                #[allow(unused_imports)]
                use ::slipring_sdk::expansion::PrepareNothing as _;
                let _ = #carrier::prepare(settings)?;
                ::core::result::Result::Ok(())
            }

            fn transform(message: &::slipring_sdk::Message) -> ::slipring_sdk::Result<::slipring_sdk::Output> {
                #output
            }
        }
    }
}

fn with_settings(function: &Function, carrier: &Ident, settings: &Type) -> TokenStream {
    let slot = quote_spanned! { Span::mixed_site() => , slot.get()? };
    let output = returned(function, Some(&slot));
    quote_spanned! { Span::mixed_site() =>
        ::std::thread_local! {
            static PREPARED: ::slipring_sdk::expansion::Prepared<#settings> =
                const { ::slipring_sdk::expansion::Prepared::new() };
        }

        impl ::slipring_sdk::expansion::Transform for #carrier {
            fn init(settings: &str) -> ::slipring_sdk::Result<()> {
                #[allow(unused_imports)]
                use ::slipring_sdk::expansion::PrepareBySerde as _;
                let prepared: #settings = #carrier::prepare(settings)?;
                PREPARED.with(|slot| slot.set(prepared))
            }

            fn transform(message: &::slipring_sdk::Message) -> ::slipring_sdk::Result<::slipring_sdk::Output> {
                PREPARED.with(|slot| #output)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "the calls are easier to read")]
    fn expanded(function: TokenStream) -> String {
        match expand(TokenStream::new(), &function) {
            Ok(tokens) => {
                syn::parse2::<syn::File>(tokens.clone()).expect("the expansion is a list of items");
                tokens.to_string()
            }
            Err(error) => error.to_string(),
        }
    }

    /// Ignores spaces, because those between printed tokens mean nothing.
    fn check(function: TokenStream, expected: &str) {
        let found = expanded(function);
        assert!(
            found.replace(' ', "").contains(&expected.replace(' ', "")),
            "{found:?} does not contain {expected:?}"
        );
    }

    #[test]
    fn the_function_stays_as_it_is_and_only_wasm_gets_exports() {
        let function = quote! { pub fn orders(message: &Message) -> Result<Output> { Ok(Output::drop()) } };
        check(function.clone(), &function.to_string());
        check(
            function,
            r#"#[cfg(target_family = "wasm")] ::slipring_sdk::expansion::export!("#,
        );
    }

    #[test]
    fn settings_are_prepared_only_where_they_are_asked_for() {
        let without = quote! { fn orders(message: &Message) -> Result<Output> { todo() } };
        check(without.clone(), "returned(orders(message))");
        assert!(!expanded(without).contains("PREPARED"));
        let with = quote! { fn orders(message: &Message, settings: &my::Settings) -> Result<Output> { todo() } };
        check(
            with.clone(),
            "let prepared: my::Settings = TheTransformOfThisModule::prepare(settings)?;",
        );
        check(with, "returned(orders(message, slot.get()?))");
    }

    #[test]
    fn what_cannot_be_a_transform_is_refused_with_the_reason_and_a_right_one() {
        check(
            quote! { struct Orders; },
            "this is not a function; #[transform] goes on a function like `fn orders(message: &Message) -> Result<Output>`",
        );
        check(
            quote! { async fn orders(message: &Message) -> Result<Output> {} },
            "the function is async",
        );
        check(
            quote! { unsafe fn orders(message: &Message) -> Result<Output> {} },
            "the function is unsafe",
        );
        check(
            quote! { extern "C" fn orders(message: &Message) -> Result<Output> {} },
            "the function is extern",
        );
        check(
            quote! { fn orders<T>(message: &Message) -> Result<Output> {} },
            "the function is generic",
        );
        check(
            quote! { fn orders(message: &Message) {} },
            "the function returns nothing",
        );
        check(
            quote! { fn orders() -> Result<Output> {} },
            "the function has 0 parameters",
        );
        check(
            quote! { fn orders(a: &A, b: &B, c: &C) -> Result<Output> {} },
            "the function has 3 parameters",
        );
        check(
            quote! { fn orders(&self) -> Result<Output> {} },
            "the function is a method",
        );
        check(
            quote! { fn orders(message: Message) -> Result<Output> {} },
            "the parameter is not a shared reference",
        );
        check(
            quote! { fn orders(message: &mut Message) -> Result<Output> {} },
            "the parameter is not a shared reference",
        );
        check(
            quote! { fn orders(message: &Message, settings: S) -> Result<Output> {} },
            "not a shared reference",
        );
    }

    #[test]
    fn arguments_and_broken_code_are_refused() {
        let function = quote! { fn orders(message: &Message) -> Result<Output> {} };
        let error = expand(quote! { strict }, &function).unwrap_err();
        assert!(
            error.to_string().starts_with("the attribute takes no arguments"),
            "{error}"
        );
        let error = expand(TokenStream::new(), &quote! { fn orders(message: &Message) -> }).unwrap_err();
        assert!(!error.to_string().contains("not a function"), "{error}");
    }
}

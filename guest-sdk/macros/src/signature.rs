//! The checks that both attributes make on a function. The messages name the mistake and show a correct function.

use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, format_ident};
use syn::{Error, FnArg, GenericParam, ItemFn, Result, ReturnType, Type};

/// How to use an attribute, for its error messages.
pub struct Usage {
    pub attribute: &'static str,
    pub example: &'static str,
}

impl Usage {
    pub fn error(&self, at: impl ToTokens, wrong: &str) -> Error {
        Error::new_spanned(
            at,
            format!("{wrong}; {} goes on a function like `{}`", self.attribute, self.example),
        )
    }

    /// Reads the function. Refuses a function that the relay could never call.
    pub fn read(&self, arguments: TokenStream, item: TokenStream) -> Result<ItemFn> {
        if !arguments.is_empty() {
            return Err(self.error(arguments, "the attribute takes no arguments"));
        }
        let function: ItemFn = match syn::parse2(item.clone()) {
            Ok(function) => function,
            // If the function has a mistake inside, the compiler's own message is better.
            Err(error) if syn::parse2::<syn::Item>(item.clone()).is_err() => return Err(error),
            Err(_) => return Err(self.error(item, "this is not a function")),
        };
        let signature = &function.sig;
        if let Some(word) = &signature.asyncness {
            return Err(self.error(word, "the function is async, but there is nothing it could wait for"));
        }
        if let Some(word) = &signature.unsafety {
            return Err(self.error(word, "the function is unsafe"));
        }
        if let Some(word) = &signature.abi {
            return Err(self.error(word, "the function is extern; the attribute makes the export itself"));
        }
        let is_lifetime = |parameter: &GenericParam| matches!(parameter, GenericParam::Lifetime(_));
        if let Some(parameter) = signature
            .generics
            .params
            .iter()
            .find(|parameter| !is_lifetime(parameter))
        {
            return Err(self.error(parameter, "the function is generic"));
        }
        if matches!(signature.output, ReturnType::Default) {
            return Err(self.error(&signature.ident, "the function returns nothing"));
        }
        Ok(function)
    }

    /// Returns the type of a parameter.
    pub fn parameter<'a>(&self, parameter: &'a FnArg) -> Result<&'a Type> {
        match parameter {
            FnArg::Typed(typed) => Ok(&typed.ty),
            FnArg::Receiver(receiver) => Err(self.error(receiver, "the function is a method")),
        }
    }

    /// Returns `T` for a parameter of the form `&T`.
    pub fn referred<'a>(&self, parameter: &'a FnArg) -> Result<&'a Type> {
        match self.parameter(parameter)? {
            Type::Reference(reference) if reference.mutability.is_none() => Ok(&reference.elem),
            other => Err(self.error(other, "the parameter is not a shared reference")),
        }
    }
}

/// Returns the name of the type that carries the module's functions. The compiler shows this name if the type is
/// defined twice, because there are two transforms:
///
/// ```compile_fail,E0428
/// # use slipring_sdk::{Message, Output, Result, transform};
/// #[transform]
/// fn one(_message: &Message) -> Result<Output> { Ok(Output::drop()) }
///
/// #[transform]
/// fn two(_message: &Message) -> Result<Output> { Ok(Output::drop()) }
/// ```
///
/// or is missing, because there is only an `#[init]`:
///
/// ```compile_fail,E0425
/// # use slipring_sdk::{Result, init};
/// #[init]
/// fn prepare(_settings: String) -> Result<()> { Ok(()) }
/// ```
///
/// So the name explains the mistake.
pub fn carrier(at: &Ident) -> Ident {
    format_ident!("TheTransformOfThisModule", span = at.span())
}

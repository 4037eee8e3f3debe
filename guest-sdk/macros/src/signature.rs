//! What both attributes ask of a function. The messages name what was found wrong and show what would be right.

use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, format_ident};
use syn::{Error, FnArg, GenericParam, ItemFn, Result, ReturnType, Type};

/// How an attribute is used: for its error messages.
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

    /// Reads the function and refuses what can never be called by the relay.
    pub fn read(&self, arguments: TokenStream, item: TokenStream) -> Result<ItemFn> {
        if !arguments.is_empty() {
            return Err(self.error(arguments, "the attribute takes no arguments"));
        }
        let function: ItemFn = match syn::parse2(item.clone()) {
            Ok(function) => function,
            // A function with a mistake inside: the compiler's own message is the better one.
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

    /// The type of a parameter.
    pub fn parameter<'a>(&self, parameter: &'a FnArg) -> Result<&'a Type> {
        match parameter {
            FnArg::Typed(typed) => Ok(&typed.ty),
            FnArg::Receiver(receiver) => Err(self.error(receiver, "the function is a method")),
        }
    }

    /// What a parameter of the form `&T` refers to.
    pub fn referred<'a>(&self, parameter: &'a FnArg) -> Result<&'a Type> {
        match self.parameter(parameter)? {
            Type::Reference(reference) if reference.mutability.is_none() => Ok(&reference.elem),
            other => Err(self.error(other, "the parameter is not a shared reference")),
        }
    }
}

/// The type that carries the module's functions. Its name is what the compiler shows when it is defined twice, because there
/// are two transforms:
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
/// or missing, because there is an `#[init]` alone:
///
/// ```compile_fail,E0425
/// # use slipring_sdk::{Result, init};
/// #[init]
/// fn prepare(_settings: String) -> Result<()> { Ok(()) }
/// ```
///
/// hence a name that says so.
pub fn carrier(at: &Ident) -> Ident {
    format_ident!("TheTransformOfThisModule", span = at.span())
}

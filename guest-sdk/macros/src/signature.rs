//! The checks that both attributes make on a function. The messages name the mistake and show a correct function.
//!
//! The function is read here and not by syn, whose feature `full` would add seconds to the first build of each module.
//! Only its head matters: the compiler has already read the whole of it.

use proc_macro2::{Ident, TokenStream, TokenTree};
use quote::{ToTokens, format_ident};
use syn::ext::IdentExt as _;
use syn::parse::{Parse, ParseStream};
use syn::{
    Attribute, Error, GenericParam, Generics, Lifetime, LitStr, Result, ReturnType, Token, Type, Visibility,
    WhereClause, braced, parenthesized,
};

/// How to use an attribute, for its error messages.
pub struct Usage {
    pub attribute: &'static str,
    pub example: &'static str,
}

/// The head of a function.
pub struct Function {
    pub name: Ident,
    pub parameters: Vec<Parameter>,
    /// The type behind `->`.
    pub output: Type,
}

pub struct Parameter {
    tokens: TokenStream,
    /// `None` for `self`.
    ty: Option<Type>,
}

/// A function as it is written, before the checks.
struct Written {
    /// What may be before `fn` and must not be: the token and the reason.
    qualifier: Option<(TokenStream, &'static str)>,
    name: Ident,
    generics: Generics,
    parameters: Vec<Parameter>,
    output: ReturnType,
}

impl Usage {
    pub fn error(&self, at: impl ToTokens, wrong: &str) -> Error {
        Error::new_spanned(
            at,
            format!("{wrong}; {} goes on a function like `{}`", self.attribute, self.example),
        )
    }

    /// Reads the function. Refuses a function that the relay could never call.
    pub fn read(&self, arguments: TokenStream, item: &TokenStream) -> Result<Function> {
        if !arguments.is_empty() {
            return Err(self.error(arguments, "the attribute takes no arguments"));
        }
        let Some(function) = syn::parse2::<OrNothing>(item.clone())?.0 else {
            return Err(self.error(item, "this is not a function"));
        };
        if let Some((word, wrong)) = function.qualifier {
            return Err(self.error(word, wrong));
        }
        let is_lifetime = |parameter: &&GenericParam| matches!(parameter, GenericParam::Lifetime(_));
        if let Some(parameter) = function.generics.params.iter().find(|one| !is_lifetime(one)) {
            return Err(self.error(parameter, "the function is generic"));
        }
        let ReturnType::Type(_, output) = function.output else {
            return Err(self.error(&function.name, "the function returns nothing"));
        };
        Ok(Function {
            name: function.name,
            parameters: function.parameters,
            output: *output,
        })
    }

    /// Returns the type of a parameter.
    pub fn parameter<'a>(&self, parameter: &'a Parameter) -> Result<&'a Type> {
        let method = || self.error(&parameter.tokens, "the function is a method");
        parameter.ty.as_ref().ok_or_else(method)
    }

    /// Returns `T` for a parameter of the form `&T`.
    pub fn referred<'a>(&self, parameter: &'a Parameter) -> Result<&'a Type> {
        match self.parameter(parameter)? {
            Type::Reference(reference) if reference.mutability.is_none() => Ok(&reference.elem),
            other => Err(self.error(other, "the parameter is not a shared reference")),
        }
    }
}

/// `None` for an item that is not a function.
struct OrNothing(Option<Written>);

impl Parse for OrNothing {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        input.call(Attribute::parse_outer)?;
        input.parse::<Visibility>()?;
        let mut qualifier = None;
        loop {
            if input.peek(Token![async]) {
                let word: Token![async] = input.parse()?;
                let wrong = "the function is async, but there is nothing it could wait for";
                qualifier = Some((word.to_token_stream(), wrong));
            } else if input.peek(Token![unsafe]) {
                let word: Token![unsafe] = input.parse()?;
                qualifier = Some((word.to_token_stream(), "the function is unsafe"));
            } else if input.peek(Token![extern]) {
                let word: Token![extern] = input.parse()?;
                input.parse::<Option<LitStr>>()?;
                let wrong = "the function is extern; the attribute makes the export itself";
                qualifier = Some((word.to_token_stream(), wrong));
            } else if input.peek(Token![const]) && input.peek2(Token![fn]) {
                input.parse::<Token![const]>()?;
            } else {
                break;
            }
        }
        if !input.peek(Token![fn]) {
            input.parse::<TokenStream>()?;
            return Ok(Self(None));
        }
        input.parse::<Token![fn]>()?;
        let name = input.call(Ident::parse_any)?;
        let generics = input.parse()?;
        let inside;
        parenthesized!(inside in input);
        let parameters = inside.parse_terminated(Parameter::parse, Token![,])?;
        let output = input.parse()?;
        input.parse::<Option<WhereClause>>()?;
        let body;
        braced!(body in input);
        body.parse::<TokenStream>()?;
        Ok(Self(Some(Written {
            qualifier,
            name,
            generics,
            parameters: parameters.into_iter().collect(),
            output,
        })))
    }
}

impl Parse for Parameter {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        input.call(Attribute::parse_outer)?;
        let ahead = input.fork();
        ahead.parse::<Option<Token![&]>>()?;
        ahead.parse::<Option<Lifetime>>()?;
        ahead.parse::<Option<Token![mut]>>()?;
        // `self::Settings { room }: …` is a pattern.
        if ahead.peek(Token![self]) && !ahead.peek2(Token![::]) {
            let mut tokens = TokenStream::new();
            while !input.is_empty() && !input.peek(Token![,]) {
                tokens.extend([input.parse::<TokenTree>()?]);
            }
            return Ok(Self { tokens, ty: None });
        }
        // The pattern, whatever it is.
        loop {
            if input.peek(Token![::]) {
                input.parse::<Token![::]>()?;
            } else if input.peek(Token![:]) {
                break;
            } else {
                input.parse::<TokenTree>()?;
            }
        }
        input.parse::<Token![:]>()?;
        let ty: Type = input.parse()?;
        Ok(Self {
            tokens: ty.to_token_stream(),
            ty: Some(ty),
        })
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

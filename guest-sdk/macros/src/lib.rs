//! The attributes of `slipring-sdk`, which re-exports them. Use them from there. They check the signature of a
//! function and leave the function unchanged. The code that they add refers only to `::slipring_sdk`, so a user's
//! crate needs no other dependency.

mod init;
mod signature;
mod transform;

use proc_macro::TokenStream;

/// Makes a function the module's transform, which the relay calls once for each message.
///
/// The function takes a `&Message`, and a reference to settings if it needs them, and returns a `Result<Output>`. It
/// stays an ordinary function that a test can call. Only builds for wasm have the module's exports. A crate has one
/// transform.
///
/// ```
/// use serde::Deserialize;
/// use slipring_sdk::{Message, Output, Publication, Result, transform};
///
/// /// What stands below `[settings]` in the module's `.toml`; `settings.room: …` is how an error in it begins.
/// #[derive(Deserialize)]
/// #[serde(deny_unknown_fields)]
/// struct Settings {
///     room: String,
/// }
///
/// #[transform]
/// fn chat(message: &Message, settings: &Settings) -> Result<Output> {
///     Ok(Publication::json(format!("chat:{}", settings.room), message.text()?)?.into())
/// }
///
/// let output = chat(&Message::new("chat", "hello"), &Settings { room: "lobby".to_string() })?;
/// assert_eq!(output.publications()[0].channels, ["chat:lobby"]);
/// # Ok::<(), slipring_sdk::Error>(())
/// ```
///
/// Serde reads the settings once per instance, before the first message. If there is a function with `#[init]`, it
/// makes the value instead. A transform without a second parameter ignores settings.
///
/// # Errors
/// An error rejects the message, and the module's `on_reject` sets what happens to it then. You can use any error
/// type that `?` converts to the SDK's own.
#[proc_macro_attribute]
pub fn transform(arguments: TokenStream, item: TokenStream) -> TokenStream {
    transform::expand(arguments.into(), &item.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

/// Makes a function prepare the value that the transform needs beside its message. Use it to check settings, and to
/// compute once what would otherwise be computed for every message.
///
/// The function takes the settings by value, in a type that serde can read. It returns a `Result` of the type that
/// the transform's second parameter refers to. It must be in the same module as the transform, and is called once
/// per instance.
///
/// ```
/// use std::collections::BTreeMap;
///
/// use serde::Deserialize;
/// use slipring_sdk::{Message, Output, Publication, Result, bail, init, transform};
///
/// #[derive(Deserialize)]
/// struct Settings {
///     /// Which subject belongs to which channel, as `subject=channel`.
///     routes: Vec<String>,
/// }
///
/// struct Routes(BTreeMap<String, String>);
///
/// #[init]
/// fn routes(settings: Settings) -> Result<Routes> {
///     let mut routes = BTreeMap::new();
///     for route in &settings.routes {
///         let Some((subject, channel)) = route.split_once('=') else {
///             bail!("settings.routes: {route:?} is not subject=channel");
///         };
///         routes.insert(subject.to_string(), channel.to_string());
///     }
///     Ok(Routes(routes))
/// }
///
/// #[transform]
/// fn route(message: &Message, routes: &Routes) -> Result<Output> {
///     let channel = routes.0.get(&message.subject);
///     let publication = channel.map(|channel| Publication::json(channel, message.text()?)).transpose()?;
///     Ok(publication.into())
/// }
///
/// let routes = routes(Settings { routes: vec!["a.b=news:all".to_string()] })?;
/// assert_eq!(route(&Message::new("a.b", "x"), &routes)?.publications()[0].channels, ["news:all"]);
/// # Ok::<(), slipring_sdk::Error>(())
/// ```
///
/// # Errors
/// An error refuses the settings. The relay reports the error's text and does not start the module with them. A
/// running module keeps its old settings.
#[proc_macro_attribute]
pub fn init(arguments: TokenStream, item: TokenStream) -> TokenStream {
    init::expand(arguments.into(), &item.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

//! The attributes of `slipring-sdk`, which re-exports them; use them from there. They check the shape of a function and leave it
//! as it is; all that they add refers to `::slipring_sdk`, so that a user's crate needs no other dependency.

mod init;
mod signature;
mod transform;

use proc_macro::TokenStream;

/// Makes a function the module's transform, which the relay calls once for each message.
///
/// The function takes a `&Message`, and a reference to settings if it needs them, and returns a `Result<Output>`. It stays an
/// ordinary function that a test can call; the module's exports are added in builds for wasm only. A crate has one transform.
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
/// The settings' type is read by serde, once an instance, before the first message; or made by the function with
/// `#[init]`, if there is one. A transform without a second parameter ignores settings.
///
/// # Errors
/// Returning an error rejects the message; what happens to it then, the module's `on_reject` says. Any error type will do that
/// `?` turns into the SDK's own.
#[proc_macro_attribute]
pub fn transform(arguments: TokenStream, item: TokenStream) -> TokenStream {
    transform::expand(arguments.into(), item.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

/// Makes a function prepare what the transform needs beside its message: to check settings, and to compute once what would
/// otherwise be computed for every message.
///
/// It takes the settings, in a type that serde can read, by value, and returns the `Result` of what the transform's second
/// parameter refers to. It stands in the same module as the transform, and is called once an instance.
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
/// Returning an error refuses the settings: the relay says so, with the error's text, and does not start the module with
/// them; one that runs goes on with its old ones.
#[proc_macro_attribute]
pub fn init(arguments: TokenStream, item: TokenStream) -> TokenStream {
    init::expand(arguments.into(), item.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

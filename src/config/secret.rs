//! Reads secrets from the environment or from a file of their own. They must not be in the configuration itself, which
//! people copy into tickets and repositories.

use super::checked::Secret;
use super::problem::Place;
use super::section::{Section, Taken};
use super::{credentials, file};

/// Reads the secret `key` from its variable, or from the file that `file_key` names. The configuration file must not
/// contain `key` itself.
pub fn take(section: &mut Section<'_>, key: &'static str, file_key: &'static str) -> Option<Taken<Secret>> {
    if let Some(place) = section.take_forbidden(key) {
        let message = format!(
            "`{}` is not allowed in this file; put the secret into a file of its own and name it with `{file_key}`, or \
             set {}",
            section.key(key),
            section.variable(key)
        );
        section.remark(place, key, message);
    }
    let from_variable = section.take_variable(key);
    let from_file = section.take_path(file_key);
    match (from_variable, from_file) {
        (Some(variable), Some(file)) if is_variable(&file.place) => {
            let message = format!("both {} and {} are set; remove one of them", variable.place, file.place);
            section.remark(variable.place, key, message);
            None
        }
        // The environment takes precedence over the file, as everywhere.
        (Some(Taken { value, place }), _) => {
            let secret = value.trim();
            if secret.is_empty() {
                let message = format!(
                    "`{}` is empty; set it to the secret itself, or leave it unset",
                    section.key(key)
                );
                section.remark(place, key, message);
                return None;
            }
            Some(Taken {
                value: Secret::new(secret),
                place,
            })
        }
        (None, Some(Taken { value: path, place })) => {
            let message = match credentials::from_file(&path) {
                Ok(value) => return Some(Taken { value, place }),
                Err(error) => file::unreadable(section, file_key, &path, &error),
            };
            section.remark(place, file_key, message);
            None
        }
        (None, None) => None,
    }
}

/// Returns true if the secret was given, right or wrong. Call this before taking it.
pub fn is_set(section: &Section<'_>, key: &str, file_key: &str) -> bool {
    section.is_set(key) || section.is_set(file_key)
}

pub fn is_variable(place: &Place) -> bool {
    matches!(place, Place::Variable { .. })
}

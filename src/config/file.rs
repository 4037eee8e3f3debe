//! Says why a file that the configuration names cannot be used. A value that names no file may be the secret itself,
//! typed into the wrong key, so it is never shown.

use std::io::{self, ErrorKind};
use std::path::Path;

use super::section::Section;

/// Returns a sentence about the file at `path`, which is the value of `key`.
pub fn unreadable(section: &Section<'_>, key: &str, path: &Path, error: &io::Error) -> String {
    let key = section.key(key);
    if names_no_file(error) {
        return format!(
            "`{key}` names a file that does not exist in {}; it must be the path of a file (the value is not shown, because it may be \
             the secret itself)",
            existing_folder(path)
        );
    }
    format!("`{key}` names {}, which cannot be read: {error}", path.display())
}

fn names_no_file(error: &io::Error) -> bool {
    // `InvalidInput` is what the standard library returns for a NUL byte.
    matches!(
        error.kind(),
        ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidFilename | ErrorKind::InvalidInput
    )
}

/// Returns the nearest folder that exists, which is no secret.
fn existing_folder(path: &Path) -> String {
    let folder = path.ancestors().skip(1).find(|folder| folder.is_dir());
    match folder {
        Some(folder) => folder.display().to_string(),
        None => "the working directory".to_owned(),
    }
}

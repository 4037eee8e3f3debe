//! Reads a TOML file key by key, each from the environment first, and collects every mistake with its place. serde
//! would stop at the first mistake, and its errors do not say what would be right.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::environment::{self, Stray};
use super::hints::{self, nearest};
use super::problem::{Place, Problem, Problems};
use super::value::{Parsed, Wrong};

/// One file with the environment applied on top, and the mistakes found so far.
#[derive(Debug)]
pub struct Document<'a> {
    path: &'a Path,
    text: &'a str,
    /// The values of `SLIPRING_SECTION__KEY` variables, and of variables with similar names.
    variables: BTreeMap<String, String>,
    /// The variables that some key asked for.
    known_variables: RefCell<BTreeSet<String>>,
    /// The keys of all sections that were read to their end, with their sections.
    known_keys: RefCell<BTreeSet<String>>,
    unknown_keys: RefCell<Vec<Unknown>>,
    problems: RefCell<Vec<Problem>>,
}

/// A key that its section does not have.
#[derive(Debug)]
struct Unknown {
    /// With its sections.
    key: String,
    name: String,
    offset: usize,
    /// The most similar key of the section, if one is similar.
    nearest: Option<String>,
    /// A sentence with all keys of the section.
    all: String,
}

/// A table of a document while its keys are taken one by one. Keys that remain are unknown.
#[derive(Debug)]
pub struct Section<'d> {
    document: &'d Document<'d>,
    /// The keys that lead to this table.
    path: Vec<&'static str>,
    entries: Vec<Entry<'d>>,
    known: Vec<&'static str>,
}

#[derive(Debug)]
struct Entry<'d> {
    key: String,
    key_span: Range<usize>,
    value: Spanned<DeValue<'d>>,
}

/// A value with its place, so that a later check can point at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken<T> {
    pub value: T,
    pub place: Place,
}

/// The unparsed value of a key.
enum Written<'d> {
    Variable { name: String, text: String },
    File(Spanned<DeValue<'d>>),
}

impl<'a> Document<'a> {
    pub fn new(path: &'a Path, text: &'a str) -> Self {
        Self::with_environment(path, text, BTreeMap::new())
    }

    pub fn with_environment(path: &'a Path, text: &'a str, variables: BTreeMap<String, String>) -> Self {
        Self {
            path,
            text,
            variables,
            known_variables: RefCell::default(),
            known_keys: RefCell::default(),
            unknown_keys: RefCell::default(),
            problems: RefCell::default(),
        }
    }

    /// Returns the outermost table. For a file that is not TOML, only the first error is reported, because the others
    /// usually follow from it.
    pub fn root(&'a self) -> Result<Section<'a>, Problems> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        let offset = |error: &toml::de::Error| error.span().map_or(0, |span| span.start);
        if let Some(first) = errors.iter().min_by_key(|error| offset(error)) {
            let message = match hints::unquoted(self.text, offset(first), first.message()) {
                Some(message) => message,
                None => format!("this is not TOML: {}", first.message().replace('\n', ", ")),
            };
            self.report(self.at(offset(first)), "", message);
        }
        self.problems()?;
        Ok(Section::new(self, Vec::new(), table.into_inner()))
    }

    /// Fails if there are any problems. Call this after every section was read.
    pub fn finish(&self) -> Result<(), Problems> {
        self.report_unknown_keys();
        for (name, stray) in self.strays() {
            if let Stray::Mistake(hint) = stray {
                let place = Place::Variable { name: name.clone() };
                self.report(place, "", format!("this variable matches no key{hint}"));
            }
        }
        self.problems()
    }

    /// Reports the keys that no section has, now that all keys are known. A key without a similar one in its section may be
    /// one of another section.
    fn report_unknown_keys(&self) {
        let known = self.known_keys.borrow();
        for Unknown {
            key,
            name,
            offset,
            nearest,
            all,
        } in self.unknown_keys.take()
        {
            let mut elsewhere = known.iter().filter(|known| known.rsplit('.').next() == Some(&name));
            let hint = match (nearest, elsewhere.next(), elsewhere.next()) {
                (Some(meant), ..) => format!("did you mean `{meant}`?"),
                (None, Some(meant), None) => format!("did you mean `{meant}`?"),
                _ => all,
            };
            self.report(self.at(offset), &key, format!("there is no key `{key}`; {hint}"));
        }
    }

    /// Returns the variables that no section read and that may belong to someone else. Call this after every section
    /// was read.
    pub fn unknown_variables(&self) -> Vec<String> {
        let unknown = self.strays().filter(|(_, stray)| *stray == Stray::Unknown);
        unknown.map(|(name, _)| name.clone()).collect()
    }

    /// Returns the names of the variables that belong to a key, set or not. Call it after every section was read.
    pub fn known_variables(&self) -> BTreeSet<String> {
        self.known_variables.borrow().clone()
    }

    fn strays(&self) -> impl Iterator<Item = (&String, Stray)> {
        let known = self.known_variables();
        let strays = self.variables.keys().filter(|name| !known.contains(*name));
        let strays: Vec<_> = strays.map(|name| (name, environment::judge(name, &known))).collect();
        strays.into_iter()
    }

    /// Fails if there are any problems so far.
    pub fn problems(&self) -> Result<(), Problems> {
        Problems::from_list(self.problems.borrow().clone())
    }

    pub fn report(&self, place: Place, key: &str, message: String) {
        self.problems.borrow_mut().push(Problem {
            place,
            key: key.to_owned(),
            message,
        });
    }

    fn at(&self, offset: usize) -> Place {
        Place::in_text(self.path, self.text, offset)
    }
}

impl<'d> Section<'d> {
    fn new(document: &'d Document<'d>, path: Vec<&'static str>, table: DeTable<'d>) -> Self {
        let entries = table.into_iter().map(|(key, value): (Spanned<DeString<'d>>, _)| Entry {
            key_span: key.span(),
            key: key.into_inner().into_owned(),
            value,
        });
        Self {
            document,
            path,
            entries: entries.collect(),
            known: Vec::new(),
        }
    }

    /// Returns the table at `key`, or an empty one.
    pub fn section(&mut self, key: &'static str) -> Section<'d> {
        let path = [self.path.as_slice(), &[key]].concat();
        let table = match self
            .remove(key)
            .map(|entry| (entry.value.span(), entry.value.into_inner()))
        {
            None => DeTable::new(),
            Some((_, DeValue::Table(table))) => table,
            Some((span, other)) => {
                let wrong = Wrong::new(format!("a table: [{}]", path.join("."))).found_value(&other);
                self.complain(self.document.at(span.start), key, &wrong);
                DeTable::new()
            }
        };
        Section::new(self.document, path, table)
    }

    /// Returns the value of `key`, or `None` if it is not set or wrong.
    pub fn take<T>(&mut self, key: &'static str, parse: impl Fn(&DeValue<'_>) -> Parsed<T>) -> Option<T> {
        self.take_placed(key, parse).map(|taken| taken.value)
    }

    pub fn take_placed<T>(&mut self, key: &'static str, parse: impl Fn(&DeValue<'_>) -> Parsed<T>) -> Option<Taken<T>> {
        let (place, parsed) = match self.written(key)? {
            Written::File(value) => (self.document.at(value.span().start), parse(value.get_ref())),
            Written::Variable { name, text } => (Place::Variable { name }, parse_variable(&text, parse)),
        };
        match parsed {
            Ok(value) => Some(Taken { value, place }),
            Err(wrong) => {
                self.complain(place, key, &wrong);
                None
            }
        }
    }

    /// Reads a list element by element, to report every wrong one. A variable may also separate the elements by commas.
    pub fn take_list<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&DeValue<'_>) -> Parsed<T>,
    ) -> Option<Taken<Vec<Taken<T>>>> {
        let (place, elements): (Place, Vec<(Place, Parsed<T>)>) = match self.written(key)? {
            Written::File(value) => {
                let place = self.document.at(value.span().start);
                let DeValue::Array(array) = value.get_ref() else {
                    self.complain(place, key, &hints::no_list(value.get_ref()));
                    return None;
                };
                let parsed = |each: &Spanned<DeValue<'_>>| (self.document.at(each.span().start), parse(each.get_ref()));
                (place, array.iter().map(parsed).collect())
            }
            Written::Variable { name, text } => {
                let place = Place::Variable { name };
                let parsed: Vec<Parsed<T>> = match DeValue::parse(&text).map(Spanned::into_inner) {
                    Ok(DeValue::Array(array)) => array.iter().map(|each| parse(each.get_ref())).collect(),
                    _ => text
                        .split(',')
                        .map(|each| parse_variable(each.trim(), &parse))
                        .collect(),
                };
                (
                    place.clone(),
                    parsed.into_iter().map(|each| (place.clone(), each)).collect(),
                )
            }
        };
        let mut value = Vec::with_capacity(elements.len());
        let mut all_good = true;
        for (place, parsed) in elements {
            match parsed {
                Ok(element) => value.push(Taken { value: element, place }),
                Err(wrong) => {
                    self.complain(place, key, &wrong);
                    all_good = false;
                }
            }
        }
        all_good.then_some(Taken { value, place })
    }

    /// Reads a path. A relative path in the file is relative to the file, one from the environment to the working
    /// directory.
    pub fn take_path(&mut self, key: &'static str) -> Option<Taken<PathBuf>> {
        let taken = self.take_placed(key, |value| {
            // Whatever is there instead of a path may be the secret itself.
            super::value::text(value).map_err(|wrong| match key.ends_with("_file") {
                true => Wrong::new("the path of a file").found("not a path (not shown)"),
                false => wrong,
            })
        })?;
        let path = match taken.place {
            Place::File { .. } => self.relative(&taken.value),
            Place::Variable { .. } => PathBuf::from(taken.value),
        };
        Some(Taken {
            value: path,
            place: taken.place,
        })
    }

    /// Resolves `path` relative to the file's folder.
    pub fn relative(&self, path: &str) -> PathBuf {
        self.document.path.parent().unwrap_or(Path::new("")).join(path)
    }

    /// Returns true if `key` is set anywhere, right or wrong. Call this before taking it.
    pub fn is_set(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == key) || self.document.variables.contains_key(&self.variable(key))
    }

    /// Returns true if the table `key` is there, or a variable sets one of its keys.
    pub fn has_table(&self, key: &str) -> bool {
        let prefix = format!("{}__", self.variable(key));
        let mut variables = self.document.variables.keys();
        self.is_set(key) || variables.any(|name| name.starts_with(&prefix))
    }

    /// Returns the raw value of the variable of `key`.
    pub fn take_variable(&mut self, key: &'static str) -> Option<Taken<String>> {
        let name = self.variable(key);
        self.document.known_variables.borrow_mut().insert(name.clone());
        let value = self.document.variables.get(&name)?.clone();
        Some(Taken {
            value,
            place: Place::Variable { name },
        })
    }

    /// Returns the place of `key` if the file has it although it must not. The caller reports it. The key is never
    /// suggested in place of another.
    pub fn take_forbidden(&mut self, key: &str) -> Option<Place> {
        let index = self.entries.iter().position(|entry| entry.key == key)?;
        let entry = self.entries.swap_remove(index);
        Some(self.document.at(entry.key_span.start))
    }

    /// Makes the key known, so that it is suggested in place of a similar one.
    pub fn knows(&mut self, key: &'static str) {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.document.known_variables.borrow_mut().insert(self.variable(key));
    }

    /// Returns the place of the file as a whole.
    pub fn file(&self) -> Place {
        Place::file(self.document.path)
    }

    /// Returns the value of `key` with the offsets of its parts, from the file only.
    pub fn take_table(&mut self, key: &'static str) -> Option<Spanned<DeValue<'d>>> {
        self.remove(key).map(|entry| entry.value)
    }

    /// Notes the keys that remain as unknown. The document reports them.
    pub fn finish(self) {
        let known = self.known.iter().map(|known| self.key(known));
        self.document.known_keys.borrow_mut().extend(known);
        let unknown = self.entries.iter().map(|entry| Unknown {
            key: self.key(&entry.key),
            name: entry.key.clone(),
            offset: entry.key_span.start,
            nearest: nearest(&entry.key, &self.known).map(|meant| self.key(meant)),
            all: self.all_keys(),
        });
        self.document.unknown_keys.borrow_mut().extend(unknown);
    }

    /// Reports the keys that remain, as unknown, as keys of another kind than this, or as keys of `outer`, which must come
    /// before this table.
    pub fn finish_of(mut self, kind: &str, outer: &Self) {
        let document = self.document;
        let (known, table) = (self.known.clone(), self.path.join("."));
        let key = |entry: &Entry<'_>| {
            self.path
                .iter()
                .copied()
                .chain([entry.key.as_str()])
                .collect::<Vec<_>>()
                .join(".")
        };
        self.entries.retain(|entry| {
            let (name, key) = (entry.key.as_str(), key(entry));
            let message = if known.contains(&name) {
                format!("`{key}` is not a key of `kind = {kind:?}`; remove it, or correct `kind`")
            } else if outer.known.contains(&name) {
                format!("`{name}` is below `[{table}]`, so it belongs to that table; move it above `[{table}]`")
            } else {
                return true;
            };
            document.report(document.at(entry.key_span.start), &key, message);
            false
        });
        self.finish();
    }

    /// Removes a key that does not belong here, and reports it.
    pub fn refuse(&mut self, key: &'static str, message: String) {
        if let Some(entry) = self.remove(key) {
            let place = self.document.at(entry.key_span.start);
            self.remark(place, key, message);
        }
    }

    /// Reads a key that has no default.
    pub fn take_required<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&DeValue<'_>) -> Parsed<T>,
        right: &str,
    ) -> Option<T> {
        if !self.is_set(key) {
            let message = format!("`{}` is missing; it must be {right}", self.key(key));
            self.remark(Place::file(self.document.path), key, message);
        }
        self.take(key, parse)
    }

    pub fn complain(&self, place: Place, key: &str, wrong: &Wrong) {
        let key = self.key(key);
        self.document.report(place, &key, wrong.sentence(&key));
    }

    /// Adds a problem with `key` that does not have the form "is this, must be that".
    pub fn remark(&self, place: Place, key: &str, message: String) {
        self.document.report(place, &self.key(key), message);
    }

    /// Returns the place of a byte offset.
    pub fn at(&self, offset: usize) -> Place {
        self.document.at(offset)
    }

    /// Returns the name of the variable that sets `key`.
    pub fn variable(&self, key: &str) -> String {
        let keys = [self.path.as_slice(), &[key]].concat();
        format!("SLIPRING_{}", keys.join("__").to_uppercase())
    }

    /// Returns `key` with its sections.
    pub fn key(&self, key: &str) -> String {
        [self.path.as_slice(), &[key]].concat().join(".")
    }

    /// Returns a sentence that names the keys of this table.
    fn all_keys(&self) -> String {
        let keys: Vec<String> = self.known.iter().map(|key| format!("`{key}`")).collect();
        let table = match self.path.as_slice() {
            [] => "this file".to_owned(),
            path => format!("`{}`", path.join(".")),
        };
        format!("{table} can have only {}", keys.join(", "))
    }

    /// Returns the unparsed value of `key`. The environment takes precedence over the file.
    fn written(&mut self, key: &'static str) -> Option<Written<'d>> {
        let in_file = self.remove(key).map(|entry| Written::File(entry.value));
        match self.take_variable(key) {
            Some(Taken {
                value: text,
                place: Place::Variable { name },
            }) => Some(Written::Variable { name, text }),
            _ => in_file,
        }
    }

    fn remove(&mut self, key: &'static str) -> Option<Entry<'d>> {
        self.known.push(key);
        let index = self.entries.iter().position(|entry| entry.key == key)?;
        Some(self.entries.swap_remove(index))
    }
}

/// Reads a variable as TOML if that results in a valid value, and as plain text otherwise, so that neither `8s` nor
/// `512` needs quotes.
fn parse_variable<T>(text: &str, parse: impl Fn(&DeValue<'_>) -> Parsed<T>) -> Parsed<T> {
    let as_toml = DeValue::parse(text).ok().map(|value| parse(value.get_ref()));
    match as_toml {
        Some(Ok(value)) => Ok(value),
        other => parse(&DeValue::String(text.into())).map_err(|wrong| match other {
            Some(Err(of_toml)) => of_toml,
            _ => wrong,
        }),
    }
}

//! Where the names of a client are: in a namespace, and below a base.

use super::Client;
use super::builder::BuildError;
use super::error::Error;
use super::url::encoded;
use crate::core::Namespace;

/// A namespace, and what all names of a client begin with there.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    namespace: Namespace,
    base: String,
}

impl Default for Place {
    fn default() -> Self {
        Self::of(Namespace::PLAIN)
    }
}

impl Place {
    /// All names of a namespace.
    pub(crate) fn of(namespace: Namespace) -> Self {
        Self { namespace, base: String::new() }
    }

    /// Whether the names are in no namespace.
    pub(super) fn is_plain(&self) -> bool {
        self.namespace.is_plain()
    }

    /// The full name of a name below the base.
    ///
    /// # Errors
    /// If it is empty: that would be the path of the list.
    pub(super) fn full(&self, name: &str) -> Result<String, Error> {
        let full = self.full_prefix(name);
        if full.is_empty() {
            return Err(Error::Unsendable { message: "the name is empty".to_owned() });
        }
        Ok(full)
    }

    /// The full text of a prefix below the base.
    pub(super) fn full_prefix(&self, prefix: &str) -> String {
        format!("{}{prefix}", self.base)
    }

    /// A full name as it is below the base. A name elsewhere stays as it is: no node tells one.
    pub(super) fn relative(&self, full: String) -> String {
        match full.strip_prefix(&self.base) {
            Some(relative) if !self.base.is_empty() => relative.to_owned(),
            _ => full,
        }
    }

    /// The path of a lease as it is below the base; empty if the lease covers all names there.
    pub(super) fn relative_lease(&self, full: String, is_prefix: bool) -> String {
        let covers_all = match self.base.strip_prefix(&full) {
            Some(rest) => is_prefix && !rest.is_empty() && (full.is_empty() || rest.starts_with('/')),
            None => false,
        };
        if covers_all { String::new() } else { self.relative(full) }
    }

    /// What a full name is kept under, beside names of other namespaces.
    pub(super) fn key(&self, full: &str) -> String {
        match self.namespace.is_plain() {
            true => full.to_owned(),
            // no name has a control character
            false => format!("\u{1}{}\u{1}{full}", self.namespace),
        }
    }

    /// The full name of a key, if it is of this namespace.
    pub(super) fn of_key<'a>(&self, key: &'a str) -> Option<&'a str> {
        match self.namespace.is_plain() {
            true => (!key.starts_with('\u{1}')).then_some(key),
            false => key.strip_prefix('\u{1}')?.strip_prefix(self.namespace.as_str())?.strip_prefix('\u{1}'),
        }
    }

    /// The path of a full name. It is not normalized: `a//b` and `..` are names like any other.
    pub(crate) fn path_of(&self, full: &str) -> String {
        self.path(&format!("versions/{}", encoded(full)))
    }

    /// The path of the history of a full name.
    pub(crate) fn history_of(&self, full: &str) -> String {
        self.path(&format!("history/{}", encoded(full)))
    }

    /// The path of the list of names.
    pub(crate) fn list(&self) -> String {
        self.path("versions")
    }

    /// The path of the events of a type.
    pub(crate) fn events_of(&self, kind: &str) -> String {
        self.path(&format!("events/{}", encoded(kind)))
    }

    /// The path of watches.
    pub(crate) fn watch(&self) -> String {
        self.path("watch")
    }

    /// The path of the list of checkpoints.
    pub(crate) fn checkpoints(&self) -> String {
        self.path("checkpoints")
    }

    /// The path of a checkpoint.
    pub(crate) fn checkpoint_of(&self, id: &str) -> String {
        self.path(&format!("checkpoints/{}", encoded(id)))
    }

    /// The path of the list of leases.
    pub(crate) fn leases(&self) -> String {
        self.path("leases")
    }

    /// The path of the leases on a full name, or on a prefix, which may be empty.
    pub(crate) fn lease_of(&self, full: &str) -> String {
        self.path(&format!("leases/{}", encoded(full)))
    }

    fn path(&self, resource: &str) -> String {
        match self.namespace.is_plain() {
            true => format!("/v1/{resource}"),
            false => format!("/v1/ns/{}/{resource}", self.namespace),
        }
    }
}

impl Client {
    /// The same client for the names of a namespace: names there are apart from all others. It shares the nodes and
    /// connections of this one, and begins at no [base](Self::at).
    ///
    /// ```
    /// # fn example(client: vwatch::client::Client) -> Result<(), vwatch::client::BuildError> {
    /// let staging = client.namespace("staging")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`BuildError::BadNamespace`].
    pub fn namespace(&self, namespace: &str) -> Result<Self, BuildError> {
        let namespace = Namespace::new(namespace.as_bytes());
        let namespace = namespace.map_err(|error| BuildError::BadNamespace(error.to_string()))?;
        Ok(Self { place: Place::of(namespace).into(), ..self.clone() })
    }

    /// The same client for the names that begin with `base`, which it leaves out: what it is given and what it returns
    /// is what comes after it.
    ///
    /// ```no_run
    /// # async fn example(client: vwatch::client::Client) -> Result<(), vwatch::client::Error> {
    /// let routes = client.at("routes/");
    /// routes.put("a", "10.0.0.1").await?; // the name routes/a
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn at(&self, base: &str) -> Self {
        let Place { namespace, .. } = &*self.place;
        let place = Place { namespace: namespace.clone(), base: self.place.full_prefix(base) };
        Self { place: place.into(), ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_a_namespace_and_below_a_base() {
        let plain = Place::default();
        assert_eq!(plain.path_of("a//b"), "/v1/versions/a//b");
        assert_eq!(plain.of_key(&plain.key("n")), Some("n"));
        let named = Place { namespace: Namespace::new(b"ns").unwrap(), base: "a/".to_owned() };
        assert_eq!(named.path_of("x y"), "/v1/ns/ns/versions/x%20y");
        assert_eq!(named.history_of("x"), "/v1/ns/ns/history/x");
        assert_eq!(named.full("b").unwrap(), "a/b");
        assert_eq!(
            (named.relative("a/b".to_owned()), plain.relative("a/b".to_owned())),
            ("b".into(), "a/b".into())
        );
        assert_eq!(named.of_key(&named.key("a/b")), Some("a/b"));
        let lease = |path: &str, is_prefix| named.relative_lease(path.to_owned(), is_prefix);
        assert_eq!(["a/b", "a", ""].map(|path| lease(path, true)), ["b", "", ""]);
        assert_eq!(["a/b", "a"].map(|path| lease(path, false)), ["b", "a"]);
        let half = Place { base: "ab".to_owned(), ..Place::default() };
        assert_eq!(half.relative_lease("a".to_owned(), true), "a", "another name");
        assert_eq!(half.relative_lease("abc".to_owned(), true), "c");
        let other = Place::of(Namespace::new(b"n").unwrap());
        assert_eq!((other.of_key(&named.key("x")), plain.of_key(&named.key("x"))), (None, None));
        assert_eq!(named.of_key("x"), None);
        assert!(plain.full("").is_err());
    }
}

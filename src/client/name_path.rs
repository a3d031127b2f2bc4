//! Names as paths: `a/b/c` is below `a/b`.

use std::collections::BTreeSet;

use super::Client;
use super::error::Error;
use super::watch::{Scope, Watch};

/// A name as a path, with `/` between its parts: see [`Client::path`].
#[derive(Clone, Debug)]
pub struct NamePath {
    client: Client,
    name: String,
}

impl Client {
    /// The name as a path.
    ///
    /// ```no_run
    /// # async fn example(client: vwatch::client::Client) -> Result<(), vwatch::client::Error> {
    /// let rack = client.path("hall/a").join("rack-7");
    /// client.put(rack.name(), "up").await?; // hall/a/rack-7
    /// for sibling in rack.parent().expect("it is below hall/a").children().await? {
    ///     println!("{}", sibling.name());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn path(&self, name: &str) -> NamePath {
        NamePath { client: self.clone(), name: name.trim_end_matches('/').to_owned() }
    }
}

impl NamePath {
    /// The name, for the client that the path is of; empty of the root.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The last part of the name.
    #[must_use]
    pub fn last(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or_default()
    }

    /// The path of `relative` below this one.
    #[must_use]
    pub fn join(&self, relative: &str) -> Self {
        self.client.path(&format!("{}{relative}", self.below()))
    }

    /// The path above; `None` of the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let above = self.name.rsplit_once('/').map(|(above, _)| above);
        (!self.name.is_empty()).then(|| self.client.path(above.unwrap_or_default()))
    }

    /// The paths directly below this one that are names with a value or have such names below them, in order.
    ///
    /// # Errors
    /// As [`List::next_page`](super::List::next_page).
    pub async fn children(&self) -> Result<Vec<Self>, Error> {
        let below = self.below();
        let mut children = BTreeSet::new();
        let mut level = self.client.list(&below).without_data().delimiter("/");
        while let Some(page) = level.next_page().await? {
            let parts = page.iter().filter_map(|item| item.text().strip_prefix(&below));
            // a child may be a name, and have names below it too
            let names = parts.map(|part| part.trim_end_matches('/')).filter(|child| !child.is_empty());
            children.extend(names.map(str::to_owned));
        }
        let path = |child: String| Self { client: self.client.clone(), name: format!("{below}{child}") };
        Ok(children.into_iter().map(path).collect())
    }

    /// Watches this name and all below it.
    pub fn watch(&self) -> Watch {
        match self.name.is_empty() {
            true => self.client.watch(Scope::prefix("")),
            false => self.client.watch(Scope::tree(&self.name)),
        }
    }

    /// What the names below begin with.
    fn below(&self) -> String {
        if self.name.is_empty() { String::new() } else { format!("{}/", self.name) }
    }
}

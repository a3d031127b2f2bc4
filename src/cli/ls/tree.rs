//! `vwatch ls --tree`: the names as a tree, depth first. Of each level on the way down one page is held.

use std::io::Write;
use std::vec;

use super::super::client::Client;
use super::super::failure::Failure;
use super::super::pages::{Item, Pages};
use super::Ls;
use crate::core::Delimiter;
use crate::wire::text::Escaped;

/// A level on the way down.
struct Level<'a> {
    /// The length of what its items leave out, in bytes.
    above: usize,
    pages: Pages<'a>,
    items: vec::IntoIter<Item>,
    /// Whether the item that was printed last is the last one of the level.
    at_end: bool,
}

impl Level<'_> {
    /// Reads the next page if there is nothing left of the last one.
    async fn fill(&mut self, client: &mut Client) -> Result<(), Failure> {
        if self.items.as_slice().is_empty()
            && let Some(items) = self.pages.next(client).await?
        {
            self.items = items;
        }
        Ok(())
    }

    /// The next item. Whether it is the last one is known from then on.
    async fn next(&mut self, client: &mut Client) -> Result<Option<Item>, Failure> {
        self.fill(client).await?;
        let item = self.items.next();
        self.fill(client).await?;
        self.at_end = self.items.as_slice().is_empty();
        Ok(item)
    }
}

/// Draws the tree of the names that begin with a prefix. Its root is the prefix up to its last delimiter, which all
/// names leave out.
pub(super) async fn draw(args: &Ls, client: &mut Client, out: &mut impl Write) -> Result<(), Failure> {
    let slash = Delimiter::new("/").expect("one byte");
    let delimiter = args.delimiter.as_ref().unwrap_or(&slash);
    let place = args.within.place();
    let level = |prefix: &str, above| Level {
        above,
        pages: Pages::new(&place, prefix, Some(delimiter), None, false),
        items: Vec::new().into_iter(),
        at_end: false,
    };
    let prefix = args.prefix();
    let root = prefix.rfind(delimiter.as_str()).map_or(0, |at| at + delimiter.as_str().len());
    let mut levels = vec![level(prefix, root)];
    let mut is_drawn = root == 0;
    while let Some(lowest) = levels.last_mut() {
        let Some(item) = lowest.next(client).await? else {
            levels.pop();
            continue;
        };
        if !std::mem::replace(&mut is_drawn, true) {
            writeln!(out, "{}", Escaped(&prefix[..root]))?;
        }
        let above = lowest.above;
        for (depth, level) in levels.iter().enumerate() {
            out.write_all(
                match (depth + 1 < levels.len(), level.at_end) {
                    (true, false) => "│   ",
                    (true, true) => "    ",
                    (false, false) => "├── ",
                    (false, true) => "└── ",
                }
                .as_bytes(),
            )?;
        }
        match &item.text()[above..] {
            // a name that ends with the delimiter
            "" => writeln!(out, "\"\"")?,
            part => writeln!(out, "{}", Escaped(part))?,
        }
        if let Item::Prefix(prefix) = &item {
            levels.push(level(prefix, prefix.len()));
        }
    }
    out.flush()?;
    Ok(())
}

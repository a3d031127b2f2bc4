//! `vwatch del --prefix P`: deletes all names that begin with a text, page by page, several at a time.

use std::cell::{Cell, RefCell};
use std::io::IsTerminal;

use super::super::args::quoted;
use super::super::client::Client;
use super::super::confirm::confirm;
use super::super::failure::{Failure, tell};
use super::super::nodes::block_on;
use super::super::output::{Format, MAX_TABLE_ROWS, Row, print, rows_as_table};
use super::super::pages::{Item, Pages};
use super::super::progress::{Failures, Progress, grouped};
use super::super::workers::{USUAL, Workers};
use super::{Del, delete};
use crate::client::url::Url;

/// Counts them, asks, and deletes them.
pub(super) fn run(args: &Del, prefix: &str) -> Result<(), Failure> {
    if !args.force && !std::io::stdin().is_terminal() {
        return Err(Failure::Usage(format!(
            "del --prefix asks before it deletes, and standard input is no terminal: run vwatch del -f {}--prefix {}",
            args.within.typed(),
            quoted(prefix)
        )));
    }
    let readers = args.nodes.reader_urls()?;
    let writers = args.nodes.writer_urls(true)?;
    if !args.force {
        let names = block_on(count(args, prefix, &readers))?;
        if names == 0 {
            tell(&format!("no name{} begins with {prefix:?}: nothing was deleted", of_namespace(args)));
            return Ok(());
        }
        confirm(&question(args, prefix, names), "nothing was deleted")?;
    }
    block_on(delete_all(args, prefix, &readers, &writers))
}

fn question(args: &Del, prefix: &str, names: u64) -> String {
    let (names, namespace) = (grouped(names), of_namespace(args));
    match prefix {
        "" => format!("delete all {names} names{namespace}? [y/N] "),
        _ => format!("delete {names} names{namespace} that begin with {prefix:?}? [y/N] "),
    }
}

/// The namespace in a sentence; empty for plain names.
fn of_namespace(args: &Del) -> String {
    match args.within.namespace.is_plain() {
        true => String::new(),
        false => format!(" of the namespace {}", args.within.namespace),
    }
}

async fn count(args: &Del, prefix: &str, readers: &[Url]) -> Result<u64, Failure> {
    let mut client = Client::new(readers.to_vec(), "client-url");
    let mut pages = Pages::new(&args.within.place(), prefix, None, None, false);
    let (mut names, mut progress) = (0, Progress::new());
    loop {
        client.limit(args.time.timeout);
        let Some(items) = pages.next(&mut client).await? else { return Ok(names) };
        names += items.len() as u64;
        progress.at(|| format!("counting: {} names", grouped(names)));
    }
}

async fn delete_all(args: &Del, prefix: &str, readers: &[Url], writers: &[Url]) -> Result<(), Failure> {
    let mut client = Client::new(readers.to_vec(), "client-url");
    let mut pages = Pages::new(&args.within.place(), prefix, None, None, false);
    let mut workers = Workers::new(writers, "server-url", USUAL, args.time.timeout);
    let done = Cell::new(0_u64);
    let (progress, failures) = (RefCell::new(Progress::new()), RefCell::new(Failures::default()));
    let rows = RefCell::new(Vec::new());
    let work = async |client: &mut Client, name: String| {
        match delete(args, &name, client).await {
            Ok(row) => tell_row(args, row, &rows)?,
            Err(failure) if failure.is_about_one_name() => {
                let line = failure.line().unwrap_or_default();
                failures.borrow_mut().note(line, failure.code(), &mut progress.borrow_mut());
                return Ok(());
            }
            Err(failure) => return Err(failure),
        }
        done.set(done.get() + 1);
        progress.borrow_mut().at(|| format!("deleted {} names", grouped(done.get())));
        Ok(())
    };
    let outcome = async {
        loop {
            client.limit(args.time.timeout);
            let Some(items) = pages.next(&mut client).await? else { return Ok(()) };
            let names = items.filter_map(|item| match item {
                Item::Name(row) => Some(row.name),
                Item::Prefix(_) => None,
            });
            workers.each(names, &work).await?;
        }
    };
    let outcome = outcome.await;
    let rows = rows.take();
    if !rows.is_empty() {
        progress.borrow_mut().clear();
        print(rows_as_table(&rows).as_bytes())?;
    }
    let failed = failures.borrow().count();
    let summary = match failed {
        0 => format!("deleted {} names", grouped(done.get())),
        _ => format!("deleted {} names; {} were not deleted", grouped(done.get()), grouped(failed)),
    };
    match outcome {
        Ok(()) => progress.borrow_mut().ends(&summary),
        Err(failure) => return Err(ended_early(&summary, failure)),
    }
    failures.borrow().outcome()
}

/// Prints a delete in the form of the output, or keeps it for a table.
fn tell_row(args: &Del, row: Row, rows: &RefCell<Vec<Row>>) -> Result<(), Failure> {
    match args.output.format {
        Format::Simple => Ok(()),
        Format::Json => print(format!("{}\n", row.json()).as_bytes()),
        Format::Table => {
            let mut rows = rows.borrow_mut();
            if rows.len() < MAX_TABLE_ROWS {
                rows.push(row);
            }
            Ok(())
        }
    }
}

/// A failure in the middle, with what was done before it.
fn ended_early(summary: &str, failure: Failure) -> Failure {
    let with =
        |line: String| format!("{summary}, and then: {line}: run the command again to delete the rest");
    match failure {
        Failure::Failed(line) => Failure::Failed(with(line)),
        Failure::InDoubt(line) => Failure::InDoubt(with(line)),
        failure => failure,
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args, Command, FromArgMatches};
    use serde_json::json;

    use super::super::super::testing::{Fake, answer};
    use super::*;
    use crate::client::testing::Node;

    fn args(line: &[&str]) -> Del {
        let typed = std::iter::once("del").chain(line.iter().copied());
        Del::from_arg_matches(&Del::augment_args(Command::new("del")).get_matches_from(typed)).unwrap()
    }

    fn page(names: &[&str], next: Option<&str>) -> String {
        let value =
            |name| json!({"name": name, "version": "v", "data": null, "last-sync": "2025-03-13T03:48:12Z"});
        let versions: Vec<_> = names.iter().map(value).collect();
        let link = next.map(|target| format!("<{target}>; rel=\"next\""));
        let headers: Vec<_> = link.iter().map(|link| ("Link", link.as_str())).collect();
        answer("200 OK", &headers, &json!({"versions": versions, "peers": []}).to_string())
    }

    fn url(node: &Node) -> Url {
        Url::parse(&node.url()).unwrap()
    }

    fn gone() -> String {
        answer("204 No Content", &[("X-Last-Sync", "7")], "")
    }

    #[tokio::test]
    async fn all_pages_are_deleted_and_a_newer_write_is_told() {
        let readers = Fake::start(vec![page(&["r/a", "r/b"], Some("?after=r/b")), page(&["r/c"], None)]);
        let newer = [("X-Vwatch-Error", "older"), ("Content-Type", "text/plain")];
        let writers = Node::with(vec![gone(), answer("409 Conflict", &newer, "a newer write\n"), gone()]);
        let args = args(&["-f", "--prefix", "r/"]);
        let outcome = delete_all(&args, "r/", &[readers.url()], &[url(&writers)]).await;
        assert_eq!(outcome, Err(Failure::Told(5)));
        let mut seen: Vec<_> =
            writers.seen().iter().map(|request| request.lines().next().unwrap().to_owned()).collect();
        seen.sort();
        let line = |name| format!("DELETE /v1/versions/r/{name} HTTP/1.1");
        assert_eq!(seen, ["a", "b", "c"].map(line));
    }

    #[tokio::test]
    async fn a_failure_of_the_node_ends_it_with_what_was_done() {
        let readers = Fake::start(vec![page(&["r/a"], Some("?after=r/a")), page(&["r/b"], None)]);
        let writers = Node::with(vec![gone(), answer("403 Forbidden", &[], "not granted\n")]);
        let args = args(&["-f", "--prefix", "r/"]);
        let outcome = delete_all(&args, "r/", &[readers.url()], &[url(&writers)]).await;
        let Err(Failure::Failed(line)) = outcome else { panic!("{outcome:?}") };
        assert!(line.starts_with("deleted 1 names, and then: not granted: run"), "{line}");
    }

    #[tokio::test]
    async fn the_question_has_the_number_of_names() {
        let readers = Fake::start(vec![page(&["r/a", "r/b"], Some("?after=r/b")), page(&["r/c"], None)]);
        let args = args(&["--prefix", "r/", "--namespace", "team"]);
        assert_eq!(count(&args, "r/", &[readers.url()]).await, Ok(3));
        assert_eq!(
            question(&args, "r/", 1234),
            "delete 1,234 names of the namespace team that begin with \"r/\"? [y/N] "
        );
        assert_eq!(question(&args, "", 3), "delete all 3 names of the namespace team? [y/N] ");
    }
}

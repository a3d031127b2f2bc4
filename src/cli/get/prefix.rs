//! `vwatch get --prefix P`: all names that begin with a text, with their values, page by page.

use std::io::Write;

use super::super::client::Client;
use super::super::failure::Failure;
use super::super::nodes::block_on;
use super::super::output::{Format, MAX_TABLE_ROWS, Row, in_a_line, rows_as_table};
use super::super::pages::{Item, Pages};
use super::Get;
use crate::wire::text::Escaped;

/// Reads them, and prints them as the pages come; a table at the end.
pub(super) fn run(args: &Get, prefix: &str) -> Result<(), Failure> {
    let mut client = args.nodes.readers(args.timeout)?;
    let mut out = std::io::stdout().lock();
    block_on(read(args, prefix, &mut client, &mut out))
}

async fn read(args: &Get, prefix: &str, client: &mut Client, out: &mut impl Write) -> Result<(), Failure> {
    let mut pages = Pages::new(&args.within.place(), prefix, None, args.limit, true);
    let mut left = args.limit.unwrap_or(u64::MAX);
    let mut rows = Vec::new();
    while left > 0
        && let Some(items) = pages.next(client).await?
    {
        for item in items {
            let Item::Name(row) = item else { continue };
            if left == 0 {
                break;
            }
            left -= 1;
            match args.output.format {
                Format::Simple => writeln!(out, "{}", line(&row))?,
                Format::Json => writeln!(out, "{}", row.json())?,
                Format::Table if rows.len() == MAX_TABLE_ROWS => return Err(too_many()),
                Format::Table => rows.push(row),
            }
        }
    }
    if !rows.is_empty() {
        out.write_all(rows_as_table(&rows).as_bytes())?;
    }
    out.flush()?;
    Ok(())
}

/// A name as 'vwatch watch --prefix' prints it.
fn line(row: &Row) -> String {
    format!("{}\t{}\t{}", Escaped(&row.name), row.shown_version(), in_a_line(row.data.bytes()))
}

fn too_many() -> Failure {
    Failure::Failed(format!(
        "too many names for a table: over {MAX_TABLE_ROWS}: use -w simple or json, a longer prefix, or --limit"
    ))
}

#[cfg(test)]
mod tests {
    use clap::{Args, Command, FromArgMatches};
    use serde_json::json;

    use super::super::super::testing::{Fake, answer};
    use super::*;

    fn page(names: &[&str], next: Option<&str>) -> String {
        let value =
            |name| json!({"name": name, "version": "v", "data": "eAo=", "last-sync": "2025-03-13T03:48:12Z"});
        let versions: Vec<_> = names.iter().map(value).collect();
        let link = next.map(|target| format!("<{target}>; rel=\"next\""));
        let headers: Vec<_> = link.iter().map(|link| ("Link", link.as_str())).collect();
        answer("200 OK", &headers, &json!({"versions": versions, "peers": []}).to_string())
    }

    async fn got(line: &[&str], pages: Vec<String>) -> (Result<String, Failure>, Vec<String>) {
        let typed = std::iter::once("get").chain(line.iter().copied());
        let args = Get::from_arg_matches(&Get::augment_args(Command::new("get")).get_matches_from(typed));
        let (args, fake, mut out) = (args.unwrap(), Fake::start(pages), Vec::new());
        let prefix = args.prefix.clone().unwrap();
        let done = read(&args, &prefix, &mut fake.client(), &mut out).await;
        (done.map(|()| String::from_utf8(out).unwrap()), fake.seen())
    }

    #[tokio::test]
    async fn all_pages_come_in_each_form() {
        let pages = || vec![page(&["r/a"], Some("?prefix=r/&after=r/a")), page(&["r/b"], None)];
        let (printed, seen) = got(&["--prefix", "r/"], pages()).await;
        assert_eq!(printed.unwrap(), "r/a\tv\tbase64:eAo=\nr/b\tv\tbase64:eAo=\n");
        assert!(seen[0].starts_with("GET /v1/versions?prefix=r/ HTTP/1.1\r\n"), "{seen:?}");
        let (printed, _) = got(&["--prefix", "r/", "-w", "json"], pages()).await;
        let printed = printed.unwrap();
        assert_eq!(printed.lines().count(), 2);
        assert!(printed.starts_with("{\"name\":\"r/a\",\"version\":\"v\",\"data\":\"eAo=\","), "{printed}");
        let (printed, _) = got(&["--prefix", "r/", "-w", "table"], pages()).await;
        assert_eq!(printed.unwrap().lines().count(), 3);
        let (printed, seen) = got(&["--prefix", "r/", "--limit", "1"], pages()).await;
        assert_eq!((printed.unwrap().lines().count(), seen.len()), (1, 1));
        assert_eq!(got(&["--prefix", "q"], vec![page(&[], None)]).await.0.unwrap(), "");
    }

    #[tokio::test]
    async fn names_that_do_not_begin_so_are_a_failure() {
        let (printed, _) = got(&["--prefix", "r/"], vec![page(&["q"], None)]).await;
        assert!(matches!(printed, Err(Failure::Failed(_))), "{printed:?}");
    }
}

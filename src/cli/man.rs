//! `vwatch man`: the manual pages, made of the same texts as `--help`.

use std::io;
use std::path::PathBuf;

use clap::{Args, Command};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use super::failure::Failure;
use super::output::print;

/// Print the manual page, or write those of all commands into a folder
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vwatch man | man -l -                    read the page of vwatch
  vwatch man /usr/share/man/man1           a page for each command

The files are vwatch.1, vwatch-lock.1, vwatch-lease-grant.1 and so on. The folder is made if it is missing.")]
pub(super) struct ManPages {
    /// The folder; without it the page of vwatch goes to standard output
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Runs it. `command` is the whole tree of commands.
pub(super) fn run(args: &ManPages, command: Command) -> Result<(), Failure> {
    let pages = pages(command).map_err(|error| Failure::Failed(format!("no manual page: {error}")))?;
    let Some(dir) = &args.dir else {
        // the first one is that of the program
        return pages.first().map_or(Ok(()), |(_, page)| print(page));
    };
    let failed = |path: &PathBuf, error: io::Error| {
        Failure::Failed(format!("cannot write {}: {error}", path.display()))
    };
    std::fs::create_dir_all(dir).map_err(|error| failed(dir, error))?;
    for (name, page) in pages {
        let path = dir.join(name);
        std::fs::write(&path, page).map_err(|error| failed(&path, error))?;
    }
    Ok(())
}

/// The names of all pages and their texts, that of the command itself first.
fn pages(command: Command) -> io::Result<Vec<(String, Vec<u8>)>> {
    let version = command.get_version().unwrap_or_default().to_owned();
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let mut pages = Vec::new();
    let mut left = vec![command];
    while let Some(command) = left.pop() {
        let man = Man::new(command.clone()).source(format!("vwatch {version}")).manual("vwatch");
        pages.push((man.get_filename(), page(&man, &command)?));
        left.extend(command.get_subcommands().filter(|one| !one.is_hide_set()).cloned());
    }
    Ok(pages)
}

fn page(man: &Man, command: &Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.get_subcommands().any(|one| !one.is_hide_set()) {
        man.render_subcommands_section(&mut page)?;
    }
    let notes = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    after_help(&notes).to_writer(&mut page)?;
    Ok(page)
}

/// The examples, line by line, and the other paragraphs as notes.
fn after_help(text: &str) -> Roff {
    const EXAMPLES: &str = "Examples:\n";
    let mut roff = Roff::default();
    let mut has_notes = false;
    for paragraph in text.split("\n\n") {
        if let Some(examples) = paragraph.strip_prefix(EXAMPLES) {
            roff.control("SH", ["EXAMPLES"]).control("nf", []);
            for line in examples.lines() {
                roff.text([roman(line)]);
            }
            roff.control("fi", []);
        } else if !paragraph.is_empty() {
            match std::mem::replace(&mut has_notes, true) {
                false => roff.control("SH", ["NOTES"]),
                true => roff.control("PP", []),
            };
            roff.text([roman(paragraph)]);
        }
    }
    roff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_that_help_shows_has_a_page() {
        let pages = pages(super::super::command()).expect("pages");
        let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names[0], "vwatch.1");
        for name in ["vwatch-serve.1", "vwatch-lock.1", "vwatch-lease-grant.1", "vwatch-man.1"] {
            assert!(names.contains(&name), "{names:?}");
        }
        assert!(!names.iter().any(|name| name.contains("help") || name.contains("dev-node")), "{names:?}");
        for (name, page) in &pages {
            let page = String::from_utf8_lossy(page);
            assert!(page.contains("\n.SH NAME\n") && page.contains("\n.SH SYNOPSIS\n"), "{name}: {page}");
        }
    }

    #[test]
    fn examples_keep_their_lines_and_notes_are_paragraphs() {
        let page = after_help("Examples:\n  vwatch get a\n  vwatch put a b\n\nOne.\n\nTwo.").to_roff();
        let (examples, notes) = page.split_once(".SH NOTES").expect("notes");
        assert!(examples.contains(".SH EXAMPLES\n.nf\n  vwatch get a\n  vwatch put a b\n.fi\n"), "{page}");
        assert!(notes.contains("One.\n.PP\nTwo."), "{page}");
    }
}

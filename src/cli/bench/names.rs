//! The names that a run writes, and deletes at its end.

use std::time::Duration;

use super::super::failure::{Failure, tell};
use super::super::stop::Interrupt;
use super::blocking::Blocking;
use super::exchange;
use super::target::Target;
use crate::client::url::{Url, parameter, path_of, with_query};
use crate::wire::duration::GoDuration;

/// Time for a write at one node to reach another one.
const ELSEWHERE_WITHIN: GoDuration = GoDuration(Duration::from_secs(20));

/// Time for each delete at the end of a run.
const DELETED_WITHIN: Duration = Duration::from_secs(5);

/// Writes that are sent before the first answer is read.
const PIPELINED: usize = 64;

/// Names for this run only.
#[derive(Clone, Debug)]
pub(super) struct Names(pub(super) Vec<String>);

impl Names {
    pub(super) fn new(count: u64) -> Result<Self, Failure> {
        let run = getrandom::u32()
            .map_err(|error| Failure::Failed(format!("no random numbers from the system: {error}")))?;
        Ok(Self((0..count).map(|number| format!("bench/{run:08x}/{number}")).collect()))
    }

    /// Writes a version of each name, and waits for the answers.
    pub(super) fn write(&self, control: &mut Blocking, version: u32, size: usize) -> Result<(), Failure> {
        let url = control.target.url.clone();
        for names in self.0.chunks(PIPELINED) {
            control.send(&Names(names.to_vec()).puts(&url, version, size))?;
            for _ in names {
                control.good_answer()?;
            }
        }
        Ok(())
    }

    /// Waits until a node has all names. It may be another node than that of the writer.
    pub(super) fn wait_at(&self, reader: &mut Blocking) -> Result<(), Failure> {
        let url = reader.target.url.clone();
        let known = [parameter("version", ""), parameter("timeout", &ELSEWHERE_WITHIN.to_string())];
        for names in self.0.chunks(PIPELINED) {
            let get = |name: &String| exchange::get(&url, &with_query(&path_of(name), &known));
            reader.send(&names.iter().flat_map(get).collect::<Vec<u8>>())?;
            for _ in names {
                if reader.answer()?.status == 404 {
                    return Err(Failure::Failed(format!(
                        "{url} does not get the writes: do --client-url and --server-url name one cluster?"
                    )));
                }
            }
        }
        Ok(())
    }

    /// The requests that write a version of each name.
    pub(super) fn puts(&self, url: &Url, version: u32, size: usize) -> Vec<u8> {
        let data = vec![b'.'; size];
        let put = |name: &String| exchange::put(url, &format!("{}?version={version}", path_of(name)), &data);
        self.0.iter().flat_map(put).collect()
    }

    /// Deletes all names, if possible.
    pub(super) fn delete(&self, writer: &Target) {
        // over a new connection: another one may have unread answers
        if self.try_delete(writer).is_err() {
            tell("cannot delete the names of this run");
        }
    }

    fn try_delete(&self, writer: &Target) -> Result<(), Failure> {
        // a signal ends the run, and not the deletes
        let mut connection = Blocking::open_with(writer.clone(), &Interrupt::default(), DELETED_WITHIN)?;
        for names in self.0.chunks(PIPELINED) {
            let delete = |name: &String| exchange::delete(&writer.url, &path_of(name));
            connection.send(&names.iter().flat_map(delete).collect::<Vec<u8>>())?;
            for _ in names {
                connection.answer()?;
            }
        }
        Ok(())
    }
}

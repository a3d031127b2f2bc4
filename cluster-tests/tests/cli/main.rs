//! The commands of `vwatch`, its flags, and the walk-through of README.md.

mod bench;
mod commands;
mod dev;
mod flags;
mod members;
mod readme;

//! Jobs: named, configured snapshots of databases and files that a schedule runs.
//!
//! Everything that depends on the machine is given by the caller: the text of the configuration,
//! the folder of the state, the clock, and the wish to stop.

pub mod aiida;
pub mod config;
pub mod database;
pub mod drill;
pub mod hook;
pub mod links;
pub mod notify;
pub mod output_file;
pub mod run;
pub mod schedule;
pub mod setup;
pub mod state;
pub mod watched;

//! The command line of gabion.
fn main() {}

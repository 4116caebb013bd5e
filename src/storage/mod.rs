//! Where a repository's objects are kept: a folder, or memory.

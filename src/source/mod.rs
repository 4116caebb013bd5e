//! What a snapshot is taken of: trees of files, read without changing them.

//! What is in a folder of the target.

use rustix::fd::AsFd;
use rustix::fs::{Dir, Mode, OFlags, openat};
use rustix::io::retry_on_intr;

use super::{TargetError, TargetFolder};

impl TargetFolder {
    /// The names in the folder at `path` (empty: the target itself), sorted.
    ///
    /// # Errors
    /// When it is no folder or cannot be listed.
    pub fn children(&self, path: &[u8]) -> Result<Vec<Box<[u8]>>, TargetError> {
        const ACTION: &str = "list";
        if path.is_empty() {
            return names(self.resolver.root())
                .map_err(|error| TargetError::new(self.place.clone(), ACTION, error));
        }
        self.within(path, ACTION, |parent, name| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            names(retry_on_intr(|| openat(parent, name, flags, Mode::empty()))?)
        })
    }
}

fn names(folder: impl AsFd) -> std::io::Result<Vec<Box<[u8]>>> {
    let mut found = Vec::new();
    for item in retry_on_intr(|| Dir::read_from(&folder))? {
        let item = item?;
        match item.file_name().to_bytes() {
            b"." | b".." => {}
            name => found.push(name.into()),
        }
    }
    found.sort_unstable();
    Ok(found)
}

//! Links that lead out of the sources, most often to mounted file systems: a snapshot holds the
//! links, and not what lies there.

use std::borrow::Cow;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use super::config::{Job, MountLinks};
use super::run::excludes;
use crate::format::entry::EntryKind;
use crate::format::path::printable;
use crate::ops::OpError;
use crate::source::absolute;
use crate::source::scan::{Scan, ScanOptions, Scanned};

/// Rounds in which targets are looked through for further links.
const ROUNDS: usize = 8;

/// A link to what is not among the sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkOut {
    /// The link.
    pub link: PathBuf,
    /// Where it leads.
    pub target: PathBuf,
    /// Whether there is nothing at all.
    pub dead: bool,
}

impl fmt::Display for LinkOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |path: &Path| printable(path.as_os_str().as_bytes());
        write!(f, "{} -> {}", shown(&self.link), shown(&self.target))?;
        if self.dead { f.write_str(" (not there)") } else { Ok(()) }
    }
}

/// Looks for links that lead out of the sources of `job`, if it asks for that: the job with what
/// they lead to among its sources, where that is wanted, and the links to what is not.
///
/// # Errors
/// When a source is not there, or a pattern cannot be used.
pub fn follow(job: &Job) -> Result<(Cow<'_, Job>, Vec<LinkOut>), OpError> {
    let Some(wanted) = job.mount_links else { return Ok((Cow::Borrowed(job), Vec::new())) };
    let mut whole = job.clone();
    let (mut left, mut new) = (Vec::new(), job.paths.clone());
    for _ in 0..ROUNDS {
        let mut targets: Vec<PathBuf> = Vec::new();
        for found in leading_out(&new, job)? {
            let covers = |folder: &PathBuf| found.target.starts_with(folder);
            if whole.paths.iter().any(covers) || targets.iter().any(covers) {
                continue;
            }
            // What holds a source would make everything one.
            let above = whole.paths.iter().any(|source| source.starts_with(&found.target));
            if wanted == MountLinks::Follow && !above && !found.dead {
                targets.push(found.target);
            } else {
                left.push(found);
            }
        }
        if targets.is_empty() {
            break;
        }
        whole.paths.extend(targets.iter().cloned());
        new = targets;
    }
    left.retain(|found| !whole.paths.iter().any(|source| found.target.starts_with(source)));
    Ok((Cow::Owned(whole), left))
}

/// The links below `roots` whose targets lie in none of them.
fn leading_out(roots: &[PathBuf], job: &Job) -> Result<Vec<LinkOut>, OpError> {
    let mut options = ScanOptions::new(roots.to_vec());
    options.excludes = excludes(job, Vec::new())?;
    options.one_file_system = job.one_file_system;
    let mut scan = Scan::start(options)?;
    let mut found = Vec::new();
    while let Some(step) = scan.next() {
        let Scanned::Entry { path, stat } = step else { continue };
        if stat.kind != EntryKind::Symlink {
            continue;
        }
        let link = absolute(path);
        let Ok(written) = std::fs::read_link(&link) else { continue };
        let folder = link.parent().unwrap_or(Path::new("/"));
        // The real place, where there is one: a link may lead through others.
        let (target, dead) = match link.canonicalize() {
            Ok(target) => (target, false),
            Err(_) => (lexical(&folder.join(written)), true),
        };
        let inside = |root: &PathBuf| {
            target.starts_with(root)
                || root.canonicalize().is_ok_and(|root| target.starts_with(root))
        };
        if !roots.iter().any(inside) {
            found.push(LinkOut { link, target, dead });
        }
    }
    Ok(found)
}

/// The path without `.` and `..`, as it is written.
fn lexical(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => drop(clean.pop()),
            _ => {}
        }
    }
    clean
}

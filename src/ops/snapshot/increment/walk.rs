//! The walk through a folder of which most is taken over unseen, in path order.

use super::seen::{SeenFolder, SeenFolders};
use super::verdict::{Verdict, Verdicts};
use super::{Increment, Stop};
use crate::format::entry::{EntryKind, Timestamp};
use crate::format::path;
use crate::ops::snapshot::feed::{Change, Feeder};
use crate::ops::snapshot::unchanged::unchanged;
use crate::source::exclude::Excludes;
use crate::source::lister::{Listing, Step};
use crate::source::partial::{OpenFolder, PartialScan};
use crate::source::plan::{Fate, Folder, READ_ATTRIBUTES};
use crate::source::scan::{Deferred, Scan};
use crate::source::{SourceError, Stat};
use crate::tree::Bound;

/// Folders within folders up to which handles are held open.
const MAX_DEPTH: usize = 128;

/// Looks after the folders that a scan hands over.
pub(in crate::ops::snapshot) struct Partial<'o> {
    scan: PartialScan,
    verdicts: Verdicts<'o>,
    excludes: &'o Excludes,
    seen: SeenFolders,
}

impl<'o> Partial<'o> {
    /// For the folders of `increment`; the parent could not tell changes from `racy_from` on.
    pub(in crate::ops::snapshot) fn new(
        scan: &Scan,
        increment: &'o Increment,
        racy_from: Timestamp,
        excludes: &'o Excludes,
    ) -> Self {
        let verdicts = Verdicts::new(increment, racy_from);
        Self { scan: scan.partial(), verdicts, excludes, seen: SeenFolders::default() }
    }

    /// Goes through a folder whose entry, with these attributes, was fed last.
    pub(in crate::ops::snapshot) fn run(
        &mut self,
        feeder: &mut Feeder<'_, '_>,
        folder: Deferred,
        stat: &Stat,
    ) -> Result<(), Stop> {
        let Self { scan, verdicts, excludes, seen } = self;
        Walk { feeder, scan, verdicts, excludes, seen }.run(folder.into_folder(), stat)
    }

    /// All folders that were seen; nothing where the next walk has no use for them.
    pub(in crate::ops::snapshot) fn into_seen(self) -> Option<SeenFolders> {
        self.verdicts.seen().map(|_| self.seen)
    }
}

pub(super) struct Walk<'w, 'a, 'r> {
    pub(super) feeder: &'w mut Feeder<'a, 'r>,
    pub(super) scan: &'w mut PartialScan,
    pub(super) verdicts: &'w Verdicts<'w>,
    excludes: &'w Excludes,
    /// The folders of this walk.
    pub(super) seen: &'w mut SeenFolders,
}

/// A folder that the walk is in.
pub(super) enum Frame {
    Listed(Listed),
    /// All but its folders is taken over; how many of them are still to come, if that is known.
    Folders {
        folder: OpenFolder,
        left: Option<u32>,
    },
    /// Its folders are compared with what was seen of them; all but those that changed is taken
    /// over.
    Seen {
        folder: OpenFolder,
        /// Where the next of its folders is in the list.
        next: usize,
        /// Whether its own entry was fed: if not, it is taken over with all in it, by somebody
        /// further out.
        fed: bool,
    },
    /// All but what has these names is taken over.
    Names {
        folder: OpenFolder,
        names: std::vec::IntoIter<Box<[u8]>>,
    },
}

pub(super) struct Listed {
    path: Box<[u8]>,
    listing: Listing,
    position: usize,
    /// Everything below is listed, too.
    all: bool,
    /// As the folder was seen when it was decided that nothing in it can have changed.
    verify: Option<Stat>,
}

/// What follows a step in a folder.
pub(super) enum Next {
    Stay,
    Enter(Box<Frame>),
    Leave,
}

impl Walk<'_, '_, '_> {
    fn run(&mut self, folder: Folder, stat: &Stat) -> Result<(), Stop> {
        self.seen.push(SeenFolder::new(&folder.path, stat));
        let all = self.rules_above_count(&folder)?;
        let mut stack: Vec<Frame> = self.arrive(folder, stat, all)?.into_iter().collect();
        while let Some(frame) = stack.last_mut() {
            self.feeder.go_on()?;
            let next = match frame {
                Frame::Listed(listed) => self.step_listed(listed)?,
                Frame::Folders { folder, left } => self.step_folders(folder, left)?,
                Frame::Seen { folder, next, fed } => self.step_seen(folder, next, *fed)?,
                Frame::Names { folder, names } => self.step_names(folder, names.next())?,
            };
            match next {
                Next::Stay => {}
                Next::Enter(_) if stack.len() >= MAX_DEPTH => {
                    let place = path::display(path_of(stack.last()));
                    return Err(Stop::StartOver(format!(
                        "{place} holds too many folders in each other"
                    )));
                }
                Next::Enter(frame) => stack.push(*frame),
                Next::Leave => {
                    stack.pop();
                }
            }
        }
        Ok(())
    }

    /// Whether files above the folder say what is left out of it, or did so in the parent. They
    /// may say something else now.
    fn rules_above_count(&mut self, folder: &Folder) -> Result<bool, Stop> {
        if folder.rules.has_ignore_files() {
            return Ok(true);
        }
        let root_len = folder.rel_at.saturating_sub(1);
        let mut above = &*folder.path;
        while above.len() > root_len {
            above = path::parent(above);
            for name in self.excludes.rule_files() {
                if self.feeder.previous().find(&join(above, name))?.is_some() {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Decides about a folder whose entry was fed last.
    fn arrive(&mut self, folder: Folder, stat: &Stat, all: bool) -> Result<Option<Frame>, Stop> {
        let old = self.feeder.previous().last().filter(|(old, _)| old.kind == EntryKind::Directory);
        let verdict = match old {
            Some((old, links)) if !all => {
                let repository = self.feeder.repository();
                self.verdicts.about(repository, &folder.path, (&old, links), stat)
            }
            _ => return self.list(folder, true, None).map(Some),
        };
        match verdict {
            Verdict::Everything => self.list(folder, true, None).map(Some),
            Verdict::List { verify } => self.list(folder, false, verify.then_some(*stat)).map(Some),
            Verdict::Folders => {
                let left = self.scan.folders_in(&folder, stat);
                if left == Some(0) {
                    self.feeder.take_over(Bound::Within(&folder.path))?;
                    return Ok(None);
                }
                match self.verdicts.seen().and_then(|seen| seen.find(&folder.path)) {
                    Some(at) => {
                        self.open(folder, |folder| Frame::Seen { folder, next: at + 1, fed: true })
                    }
                    None => self.open(folder, |folder| Frame::Folders { folder, left }),
                }
            }
            Verdict::Names(names) if names.is_empty() => {
                self.feeder.take_over(Bound::Within(&folder.path))?;
                Ok(None)
            }
            Verdict::Names(names) if names.iter().any(|name| self.excludes.depend_on(name)) => {
                self.list(folder, true, None).map(Some)
            }
            Verdict::Names(names) => {
                self.open(folder, |folder| Frame::Names { folder, names: names.into_iter() })
            }
        }
    }

    fn open(
        &mut self,
        folder: Folder,
        frame: impl FnOnce(OpenFolder) -> Frame,
    ) -> Result<Option<Frame>, Stop> {
        let mut problems = Vec::new();
        // Where it cannot be opened, listing it says what is wrong.
        let Ok(opened) = self.scan.open(folder.clone(), &mut problems) else {
            return self.list(folder, false, None).map(Some);
        };
        problems.iter().for_each(|problem| self.feeder.source_problem(problem));
        Ok(Some(frame(opened)))
    }

    fn list(&mut self, folder: Folder, all: bool, verify: Option<Stat>) -> Result<Frame, Stop> {
        let mut listing = self.scan.list(&folder);
        // What could not be looked at is missing for another reason.
        let verify = verify.filter(|_| listing.problems.is_empty());
        while let Some(problem) = listing.problems.pop() {
            self.feeder.source_problem(&problem);
        }
        let all = all || self.rules_changed(&folder.path, &listing)?;
        Ok(Frame::Listed(Listed { path: folder.path, listing, position: 0, all, verify }))
    }

    /// Whether a file in the folder that says what is left out is not as it was.
    fn rules_changed(&mut self, folder: &[u8], listing: &Listing) -> Result<bool, Stop> {
        for name in self.excludes.rule_files() {
            let racy_from = self.feeder.previous().racy_from();
            let old = self.feeder.previous().find(&join(folder, name))?;
            let same = match (old, listing.find(name)) {
                (None, None) => true,
                (Some((page, at)), Some(new)) => unchanged(page.leaf.stat(at), new, racy_from),
                _ => false,
            };
            if !same {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn step_listed(&mut self, listed: &mut Listed) -> Result<Next, Stop> {
        let Some((name, stat, step)) = listed.listing.get(listed.position) else {
            let removed = self.feeder.previous().removed;
            self.feeder.previous().drop_within(&listed.path)?;
            if self.feeder.previous().removed > removed {
                self.expect_nothing_new(listed, &listed.path)?;
            }
            return Ok(Next::Leave);
        };
        listed.position += 1;
        let path = join(&listed.path, name);
        let folder = match step {
            Step::Ignore => return Ok(Next::Stay),
            Step::Excluded => {
                self.feeder.excluded();
                return Ok(Next::Stay);
            }
            Step::Keep => None,
            Step::Enter(node) => Some(node.folder().clone()),
            Step::Defer(folder) => Some((**folder).clone()),
        };
        let removed = self.feeder.previous().removed;
        let change = self.entry(&path, stat)?;
        let expected = match change {
            Change::Same => true,
            // That it was linked or unlinked is another matter: where it is not seen, everything is
            // looked at.
            Change::Modified => {
                let old = self.feeder.previous().last();
                folder.is_some() || old.is_some_and(|(_, links)| links != stat.links)
            }
            Change::New => false,
        };
        if !expected || self.feeder.previous().removed > removed {
            self.expect_nothing_new(listed, &path)?;
        }
        let frame = match folder {
            Some(folder) => self.arrive(folder, stat, listed.all)?,
            None => None,
        };
        Ok(frame.map_or(Next::Stay, |frame| Next::Enter(Box::new(frame))))
    }

    /// Something in the folder is not as it was. Where the rule says that it must be, the rule is
    /// broken: unless the folder changed only after it was judged.
    fn expect_nothing_new(&mut self, listed: &Listed, found: &[u8]) -> Result<(), Stop> {
        let Some(before) = &listed.verify else { return Ok(()) };
        let is_as_before = |now: Stat| {
            now.is_same_inode(before) && now.mtime == before.mtime && now.ctime == before.ctime
        };
        if !self.feeder.look_again(&listed.path).is_some_and(is_as_before) {
            return Ok(());
        }
        self.feeder.problem(
            found,
            "it is not as it was, although its folder did not change: what is said to be write-once \
             is changed in place, and earlier snapshots may hold older states"
                .to_owned(),
        );
        Err(Stop::StartOver(format!("{} is not write-once", path::display(found))))
    }

    fn step_folders(&mut self, folder: &OpenFolder, left: &mut Option<u32>) -> Result<Next, Stop> {
        if *left == Some(0) {
            self.feeder.take_over(Bound::Within(folder.path()))?;
            return Ok(Next::Leave);
        }
        let Some(path) = self.feeder.take_over_to_folder(folder.path())? else {
            return Ok(Next::Leave);
        };
        if let Some(left) = left {
            *left -= 1;
        }
        self.look_at(folder, &path)
    }

    /// Feeds an item.
    fn entry(&mut self, path: &[u8], stat: &Stat) -> Result<Change, Stop> {
        if stat.kind == EntryKind::Directory {
            self.seen.push(SeenFolder::new(path, stat));
        }
        Ok(self.feeder.entry(path, stat)?)
    }

    fn step_names(&mut self, folder: &OpenFolder, name: Option<Box<[u8]>>) -> Result<Next, Stop> {
        let Some(name) = name else {
            self.feeder.take_over(Bound::Within(folder.path()))?;
            return Ok(Next::Leave);
        };
        let path = join(folder.path(), &name);
        self.feeder.take_over(Bound::Before(&path))?;
        self.look_at(folder, &path)
    }

    /// Looks at an item of the folder, with which the parent goes on, if it has it.
    pub(super) fn look_at(&mut self, folder: &OpenFolder, path: &[u8]) -> Result<Next, Stop> {
        let frame = match self.scan.look_at(folder, path::name(path)) {
            Ok(stat) => self.looked_at(folder, path, &stat)?,
            Err(error) => {
                if error.kind() != std::io::ErrorKind::NotFound {
                    self.feeder.source_problem(&SourceError::at(path, READ_ATTRIBUTES, error));
                }
                self.feeder.previous().drop_within(path)?;
                None
            }
        };
        Ok(frame.map_or(Next::Stay, |frame| Next::Enter(Box::new(frame))))
    }

    fn looked_at(
        &mut self,
        folder: &OpenFolder,
        path: &[u8],
        stat: &Stat,
    ) -> Result<Option<Frame>, Stop> {
        match self.scan.judge(folder, path, stat) {
            Fate::Enter(inner) => {
                self.entry(path, stat)?;
                return self.arrive(*inner, stat, false);
            }
            Fate::Keep => {
                self.entry(path, stat)?;
            }
            Fate::Excluded => self.feeder.excluded(),
            Fate::Ignore => {}
        }
        self.feeder.previous().drop_within(path)?;
        Ok(None)
    }
}

fn path_of(frame: Option<&Frame>) -> &[u8] {
    match frame {
        Some(Frame::Listed(listed)) => &listed.path,
        Some(
            Frame::Folders { folder, .. }
            | Frame::Seen { folder, .. }
            | Frame::Names { folder, .. },
        ) => folder.path(),
        None => b"",
    }
}

fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    let slash: &[u8] = if folder.is_empty() { b"" } else { b"/" };
    [folder, slash, name].concat()
}

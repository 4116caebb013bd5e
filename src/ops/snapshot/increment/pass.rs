//! Passing folders that are as an earlier walk saw them.

use super::Stop;
use super::seen::SeenFolder;
use super::verdict::Verdict;
use super::walk::{Frame, Next, Walk};
use crate::format::path;
use crate::source::is_at_or_below;
use crate::source::partial::OpenFolder;
use crate::source::plan::{Fate, Folder};
use crate::tree::Bound;

impl Walk<'_, '_, '_> {
    /// Compares the next folder.
    pub(super) fn step_seen(
        &mut self,
        folder: &OpenFolder,
        next: &mut usize,
        fed: bool,
    ) -> Result<Next, Stop> {
        let seen = self.verdicts.seen();
        let is_within = |inner: &&SeenFolder| is_at_or_below(&inner.path, folder.path());
        let Some((seen, old)) = seen.and_then(|s| Some((s, s.get(*next).filter(is_within)?)))
        else {
            if fed {
                self.feeder.take_over(Bound::Within(folder.path()))?;
            }
            return Ok(Next::Leave);
        };
        let first_inner = *next + 1;
        *next = seen.behind(*next);
        if let Some(inner) = self.is_as_seen(folder, old) {
            if first_inner == *next {
                self.pass(old);
                return Ok(Next::Stay);
            }
            let mut problems = Vec::new();
            if let Ok(folder) = self.scan.open(inner, &mut problems) {
                problems.iter().for_each(|problem| self.feeder.source_problem(problem));
                self.pass(old);
                let frame = Frame::Seen { folder, next: first_inner, fed: false };
                return Ok(Next::Enter(Box::new(frame)));
            }
        }
        self.feeder.take_over(Bound::Before(&old.path))?;
        self.look_at(folder, &old.path)
    }

    /// The folder, if it is as it was and nothing but folders in it need be looked at.
    fn is_as_seen(&self, folder: &OpenFolder, old: &SeenFolder) -> Option<Folder> {
        let looked = self.scan.look_at(folder, path::name(&old.path)).ok()?;
        let (repository, known) = (self.feeder.repository(), (&old.stat, old.links));
        match self.verdicts.about(repository, &old.path, known, &looked) {
            Verdict::Folders => match self.scan.judge(folder, &old.path, &looked) {
                Fate::Enter(inner) => Some(*inner),
                _ => None,
            },
            _ => None,
        }
    }

    /// Takes note of a folder that is as it was, and will be taken over with what is before it.
    fn pass(&mut self, old: &SeenFolder) {
        self.feeder.passed_folder();
        self.seen.push(old.clone());
    }
}

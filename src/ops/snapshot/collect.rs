//! The collector: builds the tree in path order from what feeder and workers send.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use super::links::{MAX_LINKS, Role};
use super::pipeline::{Message, Read, ReadJob, Shared, Slot, wait};
use super::read::read_item;
use crate::event::Event;
use crate::format::entry::{Content, Entry, EntryKind};
use crate::format::path;
use crate::id::ChunkId;
use crate::ops::OpError;
use crate::repo::{RepositoryError, Sealed, Writer};
use crate::tree::{ContentWriter, LeafPage, MAX_IN_ENTRY, TreeBuilder, TreeTotals};

/// Stored bytes after which a checkpoint is worth its few fsyncs.
const CHECKPOINT_BYTES: u64 = 512 << 20;

/// Called at checkpoints with the top page of the entries so far.
pub(super) type OnCheckpoint<'a> = dyn FnMut(ChunkId) -> Result<(), RepositoryError> + 'a;

/// The tree, whole and durable.
pub(super) struct Collected {
    pub(super) root: ChunkId,
    pub(super) totals: TreeTotals,
    /// What lists the packs that no index segment lists yet.
    pub(super) segment: Option<Sealed>,
}

/// The content of a file with several names.
struct FirstName {
    content: Content,
    size: u64,
    names_left: u32,
}

pub(super) struct Collector<'a> {
    shared: &'a Arc<Shared>,
    writer: &'a Writer,
    builder: TreeBuilder,
    content: ContentWriter,
    /// Streams wait for their place among the files.
    streams: BTreeMap<Box<[u8]>, Entry>,
    /// All of them, for a walk that begins anew.
    all_streams: BTreeMap<Box<[u8]>, Entry>,
    /// Contents of files with several names, until all names came by. At most [`MAX_LINKS`].
    links: HashMap<u64, FirstName>,
    stored_at_checkpoint: u64,
    on_checkpoint: &'a mut OnCheckpoint<'a>,
}

impl<'a> Collector<'a> {
    pub(super) fn new(
        shared: &'a Arc<Shared>,
        writer: &'a Writer,
        on_checkpoint: &'a mut OnCheckpoint<'a>,
    ) -> Result<Self, RepositoryError> {
        Ok(Self {
            shared,
            writer,
            builder: TreeBuilder::new(writer)?,
            content: ContentWriter::default(),
            streams: BTreeMap::new(),
            all_streams: BTreeMap::new(),
            links: HashMap::new(),
            stored_at_checkpoint: 0,
            on_checkpoint,
        })
    }

    /// Takes messages until the end; all is durable then.
    pub(super) fn run(mut self, messages: &Receiver<Message>) -> Result<Collected, OpError> {
        loop {
            let message = messages.recv().map_err(|_| {
                OpError::Repository(RepositoryError::Writer("the walk stopped".to_owned()))
            })?;
            match message {
                Message::Finished => break,
                Message::Failed(OpError::Interrupted) => {
                    self.checkpoint()?;
                    return Err(OpError::Interrupted);
                }
                Message::Failed(error) => return Err(error),
                message => self.take(message)?,
            }
            let stored: u64 = self.writer.totals().stored_bytes.iter().sum();
            if stored - self.stored_at_checkpoint > CHECKPOINT_BYTES {
                self.checkpoint()?;
                self.stored_at_checkpoint = stored;
            }
        }
        for (_, entry) in std::mem::take(&mut self.streams) {
            self.builder.push(entry)?;
        }
        self.shared.flush()?;
        let (root, totals) = self.builder.finish()?;
        Ok(Collected { root, totals, segment: self.writer.finish()? })
    }

    fn take(&mut self, message: Message) -> Result<(), RepositoryError> {
        match message {
            Message::Batch { slots, results, bytes } => {
                let mut items = 0;
                let mut results = match results {
                    Some(promise) => wait(&promise)?.into_iter(),
                    None => Vec::new().into_iter(),
                };
                for slot in slots {
                    items += match &slot {
                        Slot::Page(page, _) => page.entries,
                        Slot::Same(_, range) => range.len() as u64,
                        Slot::Read => 1,
                    };
                    match slot {
                        Slot::Same(page, mut range) => {
                            range.try_for_each(|at| self.push_same(&page, at))?;
                        }
                        Slot::Page(page, height) => {
                            self.push_streams_before(&page.first_path)?;
                            self.builder.push_page(&page, height)?;
                        }
                        Slot::Read => {
                            if let Some(read) = results.next().flatten() {
                                self.push_read(read)?;
                            }
                        }
                    }
                }
                self.shared.observer.event(Event::Progress { items, bytes });
            }
            Message::Begin(basis) => self.content = ContentWriter::against(basis),
            Message::Drop => self.content = ContentWriter::default(),
            Message::Slab { items, bytes } => {
                for item in wait(&items)? {
                    self.content.push(self.builder.worker(), item)?;
                }
                self.shared.observer.event(Event::Progress { items: 0, bytes });
            }
            Message::Hole(len) => {
                let hole = crate::format::entry::ContentItem::Hole { len };
                self.content.push(self.builder.worker(), hole)?;
            }
            Message::End(mut read) => {
                read.entry.content = self.end_of_content()?;
                self.push_read(*read)?;
            }
            Message::EndAlone(mut entry) => {
                entry.content = self.end_of_content()?;
                if entry.meta.kind == EntryKind::Stream {
                    self.all_streams.insert(entry.path.clone(), (*entry).clone());
                    self.streams.insert(entry.path.clone(), *entry);
                } else {
                    self.push(*entry)?;
                }
            }
            // Whoever waits may have given up.
            Message::Reached(sender) => drop(sender.send(())),
            Message::StartOver => {
                self.builder = TreeBuilder::new(self.writer)?;
                self.links.clear();
                self.streams.clone_from(&self.all_streams);
            }
            Message::Finished | Message::Failed(_) => {}
        }
        Ok(())
    }

    fn end_of_content(&mut self) -> Result<Content, RepositoryError> {
        self.shared.observer.event(Event::Progress { items: 1, bytes: 0 });
        std::mem::take(&mut self.content).finish(self.builder.worker())
    }

    /// Adds an item that was read. Further names of a file get the content of the first; where that
    /// could not be used, the name is read itself.
    fn push_read(&mut self, read: Read) -> Result<(), RepositoryError> {
        let Read { mut entry, role, stat } = read;
        if let Content::Items(items) = &mut entry.content
            && items.len() > MAX_IN_ENTRY
        {
            let mut content = ContentWriter::default();
            for item in std::mem::take(items) {
                content.push(self.builder.worker(), item)?;
            }
            entry.content = content.finish(self.builder.worker())?;
        }
        match role {
            Role::First(number) if self.links.len() < MAX_LINKS => {
                let (content, size) = (entry.content.clone(), entry.meta.size);
                let names_left = entry.meta.links.saturating_sub(1);
                self.links.insert(number, FirstName { content, size, names_left });
            }
            Role::Alone | Role::First(_) => {}
            Role::Further(number) => {
                let Some(first) = self.links.get_mut(&number) else {
                    let (path, role) = (entry.path, Role::Alone);
                    let job = ReadJob { path, stat, role, may_grow: false };
                    let again =
                        self.shared.spawn(|shared, context| read_item(shared, context, job));
                    return wait(&again)?.map_or(Ok(()), |read| self.push_read(read));
                };
                (entry.content, entry.meta.size) = (first.content.clone(), first.size);
                first.names_left = first.names_left.saturating_sub(1);
                if first.names_left == 0 {
                    self.links.remove(&number);
                }
            }
        }
        self.push(entry)
    }

    fn push(&mut self, entry: Entry) -> Result<(), RepositoryError> {
        self.shared.doubt_unsettled(&entry.path, &entry.meta);
        self.push_streams_before(&entry.path)?;
        self.builder.push(entry)
    }

    fn push_same(&mut self, page: &Arc<LeafPage>, at: usize) -> Result<(), RepositoryError> {
        if !self.streams.is_empty() {
            self.push_streams_before(page.leaf.path(at))?;
        }
        self.builder.push_same(page, at)
    }

    fn push_streams_before(&mut self, next: &[u8]) -> Result<(), RepositoryError> {
        while let Some((name, _)) = self.streams.first_key_value()
            && path::compare(name, next).is_lt()
        {
            if let Some((_, entry)) = self.streams.pop_first() {
                self.builder.push(entry)?;
            }
        }
        Ok(())
    }

    /// Makes what is there so far durable, so that an interrupted run can be taken up.
    fn checkpoint(&mut self) -> Result<(), RepositoryError> {
        self.shared.flush()?;
        let root = self.builder.checkpoint()?;
        self.writer.checkpoint()?;
        root.map_or(Ok(()), |root| (self.on_checkpoint)(root))
    }
}

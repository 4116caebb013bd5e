//! Packs in the making: two open ones, for content and for pages, and a thread that finishes the
//! full ones.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::claims::Claims;
use crate::codec::Encoding;
use crate::crypto::header::{ObjectHeader, ObjectType};
use crate::crypto::seal::{FOOTER_SLOT, ObjectSealer, PartKind};
use crate::format::pack::{Footer, FooterChunk, Trailer};
use crate::format::segment::SegmentPack;
use crate::id::{ChunkId, PackId, SegmentId, SessionId};
use crate::repo::index::NewPack;
use crate::repo::{Repository, RepositoryError, SEGMENT_BYTES, SEGMENT_PACKS, publish_parity};
use crate::storage::{ObjectName, PendingObject, StorageError};
use crate::threads::{self, caught};

/// Full packs that may wait to be finished before writers wait too.
const FINISH_QUEUE: usize = 2;
/// Chunks at which a pack is closed, whatever its length: its footer must stay small.
const MAX_CHUNKS: usize = 1 << 18;
/// Bytes of a footer at which a pack is closed: it must stay far below the longest that is read.
const FOOTER_BYTES: usize = 1 << 24;

/// Which pack a block goes to. Pages apart from content: they are read together, and the pages of
/// old snapshots die together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackClass {
    /// Bytes of files and streams.
    Content = 0,
    /// Pages of all kinds.
    Pages = 1,
}

/// What a writer added to the repository so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WriteTotals {
    /// Plain bytes of new chunks, by class.
    pub plain_bytes: [u64; 2],
    /// Stored bytes of new blocks, by class.
    pub stored_bytes: [u64; 2],
    /// Packs finished.
    pub packs: u64,
    /// Bytes of finished packs, segments and records together.
    pub repository_bytes: u64,
}

struct OpenPack {
    id: PackId,
    object: Box<dyn PendingObject>,
    sealer: ObjectSealer,
    footer: Footer,
}

impl OpenPack {
    /// Seals a block and appends it; returns how many bytes that took.
    fn append(
        &mut self,
        encoding: Encoding,
        stored: &mut Vec<u8>,
        chunks: &[FooterChunk],
        bases: &[ChunkId],
    ) -> Result<u32, RepositoryError> {
        let number = u32::try_from(self.footer.blocks.len()).expect("packs are closed before");
        self.sealer.seal(PartKind::Block, number, stored);
        let stored_len = u32::try_from(stored.len()).expect("blocks are short");
        self.object.append(stored)?;
        self.footer.push(stored_len, encoding, chunks, bases);
        Ok(stored_len)
    }
}

#[derive(Default)]
struct State {
    open: [Option<OpenPack>; 2],
    totals: WriteTotals,
    /// Finished packs that no index segment lists yet.
    unlisted: Vec<SegmentPack>,
    /// The session that the packs belong to, if one was announced.
    session: Option<SessionId>,
    /// Packs handed to the finisher and not done.
    finishing: usize,
    failure: Option<RepositoryError>,
    /// The finisher panicked: there may be packs that neither the index nor `unlisted` knows.
    lost_track: bool,
}

/// The packs that one writer has open.
pub(super) struct Packer {
    repository: Arc<Repository>,
    state: Mutex<State>,
    /// Signalled when a pack is finished or the finisher failed.
    finished: Condvar,
    queue: Mutex<Option<SyncSender<Vec<OpenPack>>>>,
}

impl Packer {
    /// Starts the packer and its finisher thread. Without that thread, the first block that is
    /// appended is an error.
    pub(super) fn start(
        repository: &Arc<Repository>,
        claims: &Arc<Claims>,
    ) -> (Arc<Self>, Option<std::thread::JoinHandle<()>>) {
        let (sender, receiver) = sync_channel(FINISH_QUEUE);
        let packer = Arc::new(Self {
            repository: Arc::clone(repository),
            state: Mutex::default(),
            finished: Condvar::new(),
            queue: Mutex::new(Some(sender)),
        });
        let (finisher, claims) = (Arc::clone(&packer), Arc::clone(claims));
        let thread = threads::start("packs", move || finisher.finish_packs(&receiver, &claims));
        let thread = thread.map_err(|error| packer.fail(RepositoryError::Thread(error)));
        (packer, thread.ok())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the writer: nothing more can be stored, and everybody who tries or waits is told why.
    pub(super) fn fail(&self, error: RepositoryError) {
        self.state().failure.get_or_insert(error);
        self.finished.notify_all();
    }

    /// Seals a block and appends it to the open pack of its class. `stored` holds the encoded
    /// bytes and is left empty; `bases` are the chunks that they were encoded against, if any.
    pub(super) fn append(
        &self,
        class: PackClass,
        encoding: Encoding,
        stored: &mut Vec<u8>,
        chunks: &[FooterChunk],
        bases: &[ChunkId],
    ) -> Result<(), RepositoryError> {
        let mut state = self.state();
        if let Some(failure) = &state.failure {
            return Err(failure.again());
        }
        let mut pack = match state.open[class as usize].take() {
            Some(pack) => pack,
            None => self.begin(class, state.session)?,
        };
        let appended = caught(|| pack.append(encoding, stored, chunks, bases));
        let stored_len = appended.inspect_err(|error| {
            // The pack is lost, and with it blocks of others: nothing more may be stored.
            state.failure = Some(error.again());
        })?;
        let full = pack.object.len() >= u64::from(self.repository.config().pack_size)
            || pack.footer.chunks.len() >= MAX_CHUNKS
            || pack.footer.encoded_bound() >= FOOTER_BYTES;
        let done = if full { Some(pack) } else { state.open[class as usize].replace(pack) };
        let plain: u64 = chunks.iter().map(|chunk| u64::from(chunk.len)).sum();
        state.totals.plain_bytes[class as usize] += plain;
        state.totals.stored_bytes[class as usize] += u64::from(stored_len);
        stored.clear();
        let Some(done) = done else { return Ok(()) };
        state.finishing += 1;
        drop(state);
        self.hand_over(vec![done])
    }

    fn begin(
        &self,
        class: PackClass,
        session: Option<SessionId>,
    ) -> Result<OpenPack, RepositoryError> {
        let repository = &self.repository;
        let id = session.map_or_else(PackId::random, PackId::of_session);
        let header = ObjectHeader::new(ObjectType::Pack, repository.config().sealing, id.0);
        let expected = match class {
            PackClass::Content => Some(u64::from(repository.config().pack_size)),
            PackClass::Pages => None,
        };
        let mut object = repository.storage().create(ObjectName::pack(id), expected)?;
        object.append(&header.encode())?;
        let sealer = ObjectSealer::new(repository.keys(), repository.id(), &header);
        Ok(OpenPack { id, object, sealer, footer: Footer::default() })
    }

    fn hand_over(&self, packs: Vec<OpenPack>) -> Result<(), RepositoryError> {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let sent = queue.is_some_and(|queue| queue.send(packs).is_ok());
        if sent {
            return Ok(());
        }
        let stopped = RepositoryError::Writer("it was stopped".to_owned());
        self.fail(stopped.again());
        Err(stopped)
    }

    /// Closes the open packs and waits until every pack is durable and in the index.
    pub(super) fn flush(&self) -> Result<(), RepositoryError> {
        let mut state = self.state();
        let open: Vec<OpenPack> = state.open.iter_mut().filter_map(Option::take).collect();
        state.finishing += open.len();
        if !open.is_empty() {
            drop(state);
            self.hand_over(open)?;
            state = self.state();
        }
        while state.finishing > 0 && state.failure.is_none() {
            state = self.finished.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        match state.failure.take() {
            Some(failure) => {
                state.failure = Some(failure.again());
                Err(failure)
            }
            None => Ok(()),
        }
    }

    /// Whether there may be packs in storage that this writer lost track of.
    pub(super) fn has_lost_track(&self) -> bool {
        self.state().lost_track
    }

    /// The finished packs that no index segment lists yet, also those of a writer that failed.
    pub(super) fn take_unlisted(&self) -> Vec<SegmentPack> {
        std::mem::take(&mut self.state().unlisted)
    }

    /// The opposite of [`Self::take_unlisted`].
    pub(super) fn still_unlisted(&self, packs: Vec<SegmentPack>) {
        self.state().unlisted.extend(packs);
    }

    /// Packs that are begun from now on belong to `session`.
    pub(super) fn announce(&self, session: SessionId) {
        self.state().session = Some(session);
    }

    /// What was added so far.
    pub(super) fn totals(&self) -> WriteTotals {
        self.state().totals
    }

    /// Counts bytes of objects other than packs.
    pub(super) fn count_bytes(&self, bytes: u64) {
        self.state().totals.repository_bytes += bytes;
    }

    /// Lets the finisher thread end. Packs still open leave nothing behind, and the room that they
    /// took is free from now on.
    pub(super) fn stop(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        let open = std::mem::take(&mut self.state().open);
        drop(open);
    }

    /// Lists the packs that are finished and not listed in an index segment, so that other machines
    /// need not read every footer.
    pub(super) fn list_finished(&self) -> Result<(), RepositoryError> {
        let packs = self.take_unlisted();
        if packs.is_empty() {
            return Ok(());
        }
        match caught(|| self.repository.publish_segment(SegmentId::random(), &packs)) {
            Ok(bytes) => self.count_bytes(bytes),
            Err(error) => {
                self.still_unlisted(packs);
                return Err(error);
            }
        }
        Ok(())
    }

    fn finish_packs(&self, queue: &Receiver<Vec<OpenPack>>, claims: &Claims) {
        while let Ok(packs) = queue.recv() {
            let count = packs.len();
            let done = caught(|| {
                let results = self.finish_together(packs, claims);
                if self.note(results) { self.list_finished() } else { Ok(()) }
            });
            let mut state = self.state();
            if let Err(error) = done {
                state.lost_track |= matches!(error, RepositoryError::Internal(_));
                state.failure.get_or_insert(error);
            }
            state.finishing -= count;
            drop(state);
            self.finished.notify_all();
        }
    }

    /// Remembers what became of packs. Whether a segment is due: the footers that it lists are kept
    /// in memory until then.
    fn note(&self, results: Vec<Result<SegmentPack, RepositoryError>>) -> bool {
        let mut state = self.state();
        for result in results {
            match result {
                Ok(pack) => {
                    state.totals.packs += 1;
                    state.totals.repository_bytes += pack.len;
                    state.unlisted.push(pack);
                }
                Err(error) => {
                    state.failure.get_or_insert(error);
                }
            }
        }
        let bytes: usize = state.unlisted.iter().map(|pack| pack.footer.len()).sum();
        bytes >= SEGMENT_BYTES || state.unlisted.len() >= SEGMENT_PACKS
    }

    /// Finishes packs that wait for the disk together; what became of each.
    fn finish_together(
        &self,
        packs: Vec<OpenPack>,
        claims: &Claims,
    ) -> Vec<Result<SegmentPack, RepositoryError>> {
        let (mut results, mut complete, mut objects) = (Vec::new(), Vec::new(), Vec::new());
        for pack in packs {
            match self.complete(pack) {
                Ok((new, object)) => {
                    complete.push(new);
                    objects.push(object);
                }
                Err(error) => results.push(Err(error)),
            }
        }
        let published = self.repository.storage().publish_all(objects, &mut []);
        let done = complete.into_iter().zip(published);
        results.extend(done.map(|(pack, published)| self.take_in(pack, published, claims)));
        results
    }

    /// Appends footer and trailer, and makes the parity.
    fn complete(
        &self,
        mut pack: OpenPack,
    ) -> Result<(NewPack, Box<dyn PendingObject>), RepositoryError> {
        let encoded = pack.footer.encode();
        let mut sealed = encoded.clone();
        pack.sealer.seal(PartKind::Footer, FOOTER_SLOT, &mut sealed);
        let footer_len = u32::try_from(sealed.len())
            .map_err(|_| RepositoryError::Writer("a pack footer is too long".to_owned()))?;
        sealed.extend_from_slice(&Trailer { footer_len }.encode());
        pack.object.append(&sealed)?;
        let (id, len) = (pack.id, pack.object.len());
        if let Some(per_mille) = self.repository.parity() {
            // Before the pack: whoever sees a pack may rely on its parity.
            let storage = &**self.repository.storage();
            let read = |offset, bytes: &mut [u8]| pack.object.read_back(offset, bytes);
            self.count_bytes(publish_parity(storage, id, len, per_mille, read)?);
        }
        Ok((NewPack { id, len, encoded, footer: pack.footer }, pack.object))
    }

    /// Takes a pack that was published into the index.
    fn take_in(
        &self,
        new: NewPack,
        published: Result<(), StorageError>,
        claims: &Claims,
    ) -> Result<SegmentPack, RepositoryError> {
        let (id, len) = (new.id, new.len);
        if let Err(error) = published {
            // When only its very last step failed, the pack is there, and to be listed.
            let there = self.repository.storage().len(ObjectName::pack(id));
            if there.is_ok_and(|there| there == len) {
                self.still_unlisted(vec![SegmentPack { id, len, footer: new.encoded }]);
            }
            return Err(error.into());
        }
        let indexed = self.repository.add_to_index(&new);
        let made = SegmentPack { id, len, footer: new.encoded };
        if let Err(error) = indexed {
            self.still_unlisted(vec![made]);
            return Err(error);
        }
        new.footer.chunks.iter().for_each(|chunk| claims.settle(&chunk.id));
        Ok(made)
    }
}

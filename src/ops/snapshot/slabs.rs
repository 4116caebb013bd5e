//! Cutting one long run of bytes into slabs of chunks: the feeder cuts, the workers hash and store,
//! so that a single large file or dump keeps every core busy.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use super::against::store_slab;
use super::pipeline::{Message, Shared};
use super::read::store_chunk;
use crate::chunk::Chunker;
use crate::tree::OldContent;

/// Bytes that are handed to a worker at once.
const SLAB_LEN: usize = 1 << 20;

/// The collector is gone: it failed, and its error is what the user is told.
#[derive(Debug)]
pub(super) struct Gone;

/// Sends to the collector.
pub(super) fn send(out: &SyncSender<Message>, message: Message) -> Result<(), Gone> {
    out.send(message).map_err(|_| Gone)
}

/// Gathers bytes and sends slabs.
pub(super) struct Slabs<'a> {
    shared: &'a Arc<Shared>,
    out: &'a SyncSender<Message>,
    chunker: Chunker,
    buffer: Vec<u8>,
    /// What the content was before.
    basis: Option<Arc<OldContent>>,
    /// Where the buffer begins in the content.
    offset: u64,
}

impl<'a> Slabs<'a> {
    pub(super) fn new(
        shared: &'a Arc<Shared>,
        out: &'a SyncSender<Message>,
        chunker: Chunker,
        basis: Option<Arc<OldContent>>,
    ) -> Self {
        let buffer = Vec::with_capacity(SLAB_LEN * 2);
        Self { shared, out, chunker, buffer, basis, offset: 0 }
    }

    /// Adds bytes.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Result<(), Gone> {
        while !bytes.is_empty() {
            let room = (SLAB_LEN + self.chunker.max()).saturating_sub(self.buffer.len()).max(1);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() >= SLAB_LEN + self.chunker.max() {
                self.cut(false)?;
            }
        }
        Ok(())
    }

    /// Ends the run: what is left is cut as the end of it. Another run may follow.
    pub(super) fn finish(&mut self) -> Result<(), Gone> {
        self.cut(true)
    }

    /// A hole follows on the run that was ended.
    pub(super) fn hole(&mut self, len: u64) -> Result<(), Gone> {
        self.offset += len;
        send(self.out, Message::Hole(len))
    }

    fn cut(&mut self, at_end: bool) -> Result<(), Gone> {
        let (mut lens, mut done) = (Vec::new(), 0);
        loop {
            let rest = &self.buffer[done..];
            // With less than the longest chunk in sight a cut would not be final.
            if rest.is_empty() || (!at_end && rest.len() < self.chunker.max()) {
                break;
            }
            let len = self.chunker.cut(rest);
            lens.push(len);
            done += len;
        }
        if lens.is_empty() {
            return Ok(());
        }
        let mut rest = Vec::with_capacity(SLAB_LEN + self.chunker.max());
        rest.extend_from_slice(&self.buffer[done..]);
        self.buffer.truncate(done);
        let slab = std::mem::replace(&mut self.buffer, rest);
        let bytes = slab.len() as u64;
        let (basis, offset) = (self.basis.clone(), self.offset);
        self.offset += bytes;
        let items = self.shared.spawn(move |_, context| {
            if let Some(basis) = basis {
                return store_slab(context, &slab, &lens, offset, &basis);
            }
            let mut rest = &slab[..];
            let stored = lens.iter().map(|&len| {
                let (chunk, tail) = rest.split_at(len);
                rest = tail;
                store_chunk(&mut context.worker, chunk)
            });
            stored.collect()
        });
        send(self.out, Message::Slab { items, bytes })
    }
}

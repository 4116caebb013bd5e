//! The erasure code: sums of shards, and lost shards from what is left. The only place that knows
//! the crate that computes it.

use reed_solomon_simd::engine::{DefaultEngine, Engine as _, ShardsRefMut, utils};
use reed_solomon_simd::rate::{HighRateDecoder, RateDecoder as _};

/// What the code takes at a time.
const LINE: usize = 64;

/// Computes parity from data shards that come one after the other.
///
/// The crate's own encoder wants all of them at once. Its steps are these, only that each block of
/// shards is added up as soon as it is there.
pub(super) struct Encoder {
    engine: DefaultEngine,
    parity: usize,
    /// Shards of a block: `parity`, rounded up to a power of two.
    block: usize,
    /// Lines of a shard.
    lines: usize,
    gathered: Vec<[u8; LINE]>,
    /// Shards gathered.
    count: usize,
    /// Shards of the blocks before.
    before: usize,
    sum: Vec<[u8; LINE]>,
}

impl Encoder {
    /// For shards of `len` bytes, a multiple of 64.
    pub(super) fn new(parity: usize, len: usize) -> Self {
        let (block, lines) = (parity.next_power_of_two(), len / LINE);
        Self {
            engine: DefaultEngine::new(),
            parity,
            block,
            lines,
            gathered: vec![[0; LINE]; block * lines],
            count: 0,
            before: 0,
            sum: vec![[0; LINE]; block * lines],
        }
    }

    /// Takes the next data shard: what `fill` writes into the zeros that it is given.
    pub(super) fn shard<E>(
        &mut self,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let start = self.count * self.lines;
        fill(self.gathered[start..start + self.lines].as_flattened_mut())?;
        self.count += 1;
        if self.count == self.block {
            self.add_block();
        }
        Ok(())
    }

    /// The polynomial through the shards of this block is added to those before.
    fn add_block(&mut self) {
        let mut shards = ShardsRefMut::new(self.block, self.lines, &mut self.gathered);
        self.engine.ifft(&mut shards, 0, self.block, self.count, self.before + self.block);
        utils::xor(&mut self.sum, &self.gathered);
        self.gathered.fill([0; LINE]);
        self.before += self.block;
        self.count = 0;
    }

    /// The parity shards of all that came; the next shard is the first again.
    pub(super) fn finish(&mut self) -> impl Iterator<Item = &[u8]> {
        if self.count > 0 {
            self.add_block();
        }
        let mut shards = ShardsRefMut::new(self.block, self.lines, &mut self.sum);
        self.engine.fft(&mut shards, 0, self.block, self.parity, 0);
        self.sum.chunks(self.lines.max(1)).take(self.parity).map(<[_]>::as_flattened)
    }

    /// Begins anew, with nothing summed up.
    pub(super) fn reset(&mut self) {
        self.sum.fill([0; LINE]);
        self.before = 0;
    }
}

/// Finds lost data shards, one column of all shards at a time.
pub(super) struct Decoder {
    inner: HighRateDecoder<DefaultEngine>,
    data: usize,
    parity: usize,
}

/// More shards are lost than the code can replace.
pub(super) struct TooFew;

impl Decoder {
    /// Shards that are held at a time.
    pub(super) fn held(data: usize, parity: usize) -> usize {
        (data + parity.next_power_of_two()).next_power_of_two()
    }

    /// For columns of `len` bytes, a multiple of 64.
    pub(super) fn new(data: usize, parity: usize, len: usize) -> Result<Self, TooFew> {
        let inner = HighRateDecoder::new(data, parity, len, DefaultEngine::new(), None);
        Ok(Self { inner: inner.map_err(|_| TooFew)?, data, parity })
    }

    /// The next column has `len` bytes.
    pub(super) fn reset(&mut self, len: usize) -> Result<(), TooFew> {
        self.inner.reset(self.data, self.parity, len).map_err(|_| TooFew)
    }

    /// Takes a column of a shard that is there, by its number among all.
    pub(super) fn add(&mut self, shard: usize, column: &[u8]) -> Result<(), TooFew> {
        let added = match shard.checked_sub(self.data) {
            None => self.inner.add_original_shard(shard, column),
            Some(parity) => self.inner.add_recovery_shard(parity, column),
        };
        added.map_err(|_| TooFew)
    }

    /// The column of each data shard of `wanted`, none of which was added.
    pub(super) fn find(
        &mut self,
        wanted: &[u32],
        mut take: impl FnMut(u32, &[u8]),
    ) -> Result<(), TooFew> {
        let result = self.inner.decode().map_err(|_| TooFew)?;
        for &shard in wanted {
            take(shard, result.restored_original(shard as usize).ok_or(TooFew)?);
        }
        Ok(())
    }
}

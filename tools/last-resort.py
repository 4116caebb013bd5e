#!/usr/bin/env python3
"""Reads a gabion repository without gabion.

    last-resort.py REPOSITORY list
    last-resort.py REPOSITORY check
    last-resort.py REPOSITORY restore SNAPSHOT TARGET
    last-resort.py REPOSITORY cat SNAPSHOT PATH

SNAPSHOT is "latest", an id, or the beginning of an id. TARGET is a directory that does not exist
or is empty. The secret is the passphrase in GABION_PASSWORD or the first line of --password-file,
or the key file that --key-file names; otherwise the program asks for the passphrase.

This program was written from FORMAT.md alone. It is slow and it keeps the index in memory. It only
reads the repository. Keep it beside a repository for the day when gabion cannot be built any more.

It needs Python 3.8 and four packages: pip install zstandard blake3 cryptography argon2-cffi
"""

import argparse
import collections
import getpass
import json
import os
import stat
import struct
import sys
from datetime import datetime, timezone

import zstandard
from argon2.low_level import Type, hash_secret_raw
from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PACK, SEGMENT, SNAPSHOT = 1, 2, 3
BLOCK_PART, FOOTER_PART, BODY_PART, FOOTER_SLOT = 1, 2, 3, 2**32 - 1
CONTENT, PAGE, CONTENT_PAGE = 1, 2, 3
FILE, DIRECTORY, SYMLINK, FIFO, SOCKET, CHAR_DEVICE, BLOCK_DEVICE, STREAM = range(1, 9)
MAX_TEXT_LEN, MAX_RECORD_LEN, MAX_SEGMENT_LEN = 64 << 10, 1 << 20, 1 << 30
MAX_BLOCK_LEN, MAX_FOOTER_LEN = 64 << 20, 256 << 20


class Damage(Exception):
    """Something in the repository is not as FORMAT.md says."""


def derive(context, key):
    return blake3(key, derive_key_context="gabion 2026-11 " + context).digest()


# Small pieces

class Reader:
    """Reads numbers and byte strings; every read is checked against what is left."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        if count > len(self.data) - self.at:
            raise Damage("a field is longer than what holds it")
        self.at += count
        return self.data[self.at - count : self.at]

    def varint(self):
        value = 0
        for shift in range(0, 70, 7):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80 and (byte > 0 or shift == 0) and value < 2**64:
                return value
            if byte < 0x80:
                break
        raise Damage("a number is not in its shortest form")

    def signed(self):
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def bytes(self):
        return self.take(self.varint())

    def column(self):
        return Reader(self.bytes())

    def end(self):
        if self.at != len(self.data):
            raise Damage("something follows after the last field")


def read_paths(column, count):
    paths, last = [], b""
    for _ in range(count):
        shared = column.varint()
        if shared > len(last):
            raise Damage("a path shares more than the path before it has")
        last = last[:shared] + column.bytes()
        parts = last.split(b"/")
        if any(part in (b"", b".", b"..") or b"\0" in part for part in parts):
            raise Damage("a path has an invalid component")
        paths.append(last)
    column.end()
    order = [path.split(b"/") for path in paths]
    if any(a >= b for a, b in zip(order, order[1:])):
        raise Damage("the paths of a page are not in order")
    return paths


# Config and key slots

def read_limited(path, limit):
    with open(path, "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise Damage(f"{path} is too long")
    return data


def checked_lines(path, lines):
    """The lines of a text object; the first is compared with its hash in the second."""
    parts = read_limited(path, MAX_TEXT_LEN).split(b"\n")
    if len(parts) != lines + 1 or parts[-1] != b"":
        raise Damage(f"{path} does not have {lines} lines")
    if parts[1] != b"blake3 " + blake3(parts[0]).hexdigest().encode():
        raise Damage(f"{path} does not match its hash")
    return parts


def decode_config(path):
    parts = checked_lines(path, 3)
    config = json.loads(parts[0])
    if config["format-version"] != 1:
        raise Damage(f"{path} has format version {config['format-version']}; this program knows 1")
    unknown = set(config.get("required-features", [])) - {"parity", "delta"}
    if unknown:
        raise Damage(f"{path} requires features that this program does not know: {unknown}")
    return config, parts


def open_slot(path, repository_id, passphrase, key_file_secret):
    """The master key, or None when the secret is not that of this slot."""
    slot = json.loads(checked_lines(path, 2)[0])
    if slot["repository-id"] != repository_id.hex() or slot["slot-id"] != os.path.basename(path):
        raise Damage(f"{path} belongs to another repository or has another name")
    salt, costs = bytes.fromhex(slot["salt"]), (0, 0, 0)
    if (passphrase if slot["kind"] == "passphrase" else key_file_secret) is None:
        return None
    if slot["kind"] == "passphrase":
        costs = tuple(slot["kdf"][name] for name in ("memory-kib", "passes", "lanes"))
        if costs[0] > 1 << 20 or costs[1] > 16 or costs[2] > 16 or costs[0] < 8 * costs[2]:
            raise Damage(f"deriving the key of {path} exceeds the allowed cost")
        root = hash_secret_raw(passphrase, salt, costs[1], costs[0], costs[2], 32, Type.ID, 0x13)
    else:
        root = derive("key file", salt + key_file_secret)
    if derive("slot check", root)[:16] != bytes.fromhex(slot["check"]):
        return None
    kind = 1 if slot["kind"] == "passphrase" else 2
    slot_id = bytes.fromhex(slot["slot-id"])
    data = repository_id + slot_id + salt + bytes([kind]) + struct.pack("<III", *costs)
    wrapped = bytes.fromhex(slot["wrapped"])
    try:
        return AESGCM(derive("slot wrapping", root)).decrypt(bytes(12), wrapped, data)
    except InvalidTag:
        raise Damage(f"{path} fails its authentication check") from None


def read_key_file(path):
    lines = read_limited(path, 4096).split(b"\n")
    if lines[0] != b"gabion key file 1" or len(lines) not in (2, 3) or lines[2:] not in ([], [b""]):
        raise Damage(f"{path} is not a gabion key file")
    return bytes.fromhex(lines[1].decode())


# The repository

Chunk = collections.namedtuple("Chunk", "kind length id offset")
Block = collections.namedtuple("Block", "offset stored encoding chunks bases")


class Repository:
    def __init__(self, path, secret):
        self.path = path
        self.problems = []
        self.open_config(secret)
        self.blocks = collections.OrderedDict()  # the blocks that were decoded last
        self.packs = {}  # pack id: (header, list of Block)
        self.places = {}  # chunk id: list of (pack id, block number, Chunk)
        for directory, _, names in os.walk(os.path.join(path, "packs")):
            for name in sorted(names):
                if is_id(name):
                    self.note_errors(f"packs/{name}", self.add_pack, directory, name)

    def note_errors(self, what, function, *arguments):
        """Calls the function; damage is reported, and None is returned then."""
        try:
            return function(*arguments)
        except (Damage, InvalidTag, OSError, ValueError, KeyError, zstandard.ZstdError) as error:
            self.problems.append(f"{what}: {error or type(error).__name__}")
            print(f"problem: {self.problems[-1]}", file=sys.stderr)
            return None

    def names(self, *parts):
        """The names of the objects in a directory, which may be missing."""
        directory = os.path.join(self.path, *parts)
        return sorted(filter(is_id, os.listdir(directory))) if os.path.isdir(directory) else []

    def open_config(self, secret):
        places = [os.path.join(self.path, name) for name in ("config", "copy/config")]
        found = [c for c in (self.note_errors(p, decode_config, p) for p in places) if c]
        if not found:
            raise Damage(f"{self.path} is not a repository, or both copies of its config are lost")
        self.config, lines = found[0]
        self.id = bytes.fromhex(self.config["repository-id"])
        if self.config["sealing"] == "none":
            self.master = bytes.fromhex(self.config["plaintext-key"])
        else:
            self.master = self.open_slots(*secret())
        mac = blake3(lines[0], key=derive("config mac", self.master)).hexdigest()
        if lines[2] != b"mac " + mac.encode():
            raise Damage("the config fails its authentication check")
        self.id_keys = {
            CONTENT: derive("content id", self.master),
            PAGE: derive("page id", self.master),
            CONTENT_PAGE: derive("content page id", self.master),
        }
        self.sealing_key = derive("data sealing", self.master)

    def open_slots(self, passphrase, key_file_secret):
        for parts in (("keys",), ("copy", "keys")):
            for name in self.names(*parts):
                path = os.path.join(self.path, *parts, name)
                key = self.note_errors(path, open_slot, path, self.id, passphrase, key_file_secret)
                if key:
                    return key
        raise Damage("no key slot opens with this passphrase or key file")

    # -- Sealed objects

    def object_key(self, header, kind, name):
        version, found, sealing, reserved = struct.unpack("<8xHBBI", header[:16])
        if header[:8] != b"GABION\r\n" or version != 1 or reserved != 0:
            raise Damage("its header is not that of a gabion object of version 1")
        want = 0 if self.config["sealing"] == "none" else 1
        if found != kind or sealing != want or header[16:32].hex() != name:
            raise Damage("another object lies in its place")
        return blake3(self.id + header, key=self.sealing_key).digest()

    def unseal(self, key, kind, part, slot, data):
        bound = struct.pack("<BBII", kind, part, slot, len(data) - 16)
        if self.config["sealing"] == "none":
            if blake3(bound + data[:-16], key=key).digest()[:16] != data[-16:]:
                raise Damage("its checksum differs")
            return data[:-16]
        try:
            return AESGCM(key).decrypt(struct.pack("<I8x", slot), data, bound)
        except InvalidTag:
            raise Damage("it fails its authentication check") from None

    def small_object(self, kind, limit, *parts):
        """The body of a sealed object other than a pack."""
        data = read_limited(os.path.join(self.path, *parts), limit + 80)
        if len(data) < 80:
            raise Damage("it is too short")
        key = self.object_key(data[:64], kind, parts[-1])
        return self.unseal(key, kind, BODY_PART, 0, data[64:])

    # -- Packs

    def add_pack(self, directory, name):
        with open(os.path.join(directory, name), "rb") as file:
            header = file.read(64)
            key = self.object_key(header, PACK, name)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - 16, 0))
            trailer = file.read(16)
            length = struct.unpack("<I", trailer[:4])[0]
            footer_at = size - 16 - length
            if trailer[4:] != b"\0\0\0\0\nNOIBAG\n" or length > MAX_FOOTER_LEN or footer_at < 64:
                raise Damage("its trailer is damaged")
            file.seek(footer_at)
            footer = self.unseal(key, PACK, FOOTER_PART, FOOTER_SLOT, file.read(length))
        blocks = decode_footer(footer, footer_at)
        self.packs[name] = (os.path.join(directory, name), key, blocks)
        for number, block in enumerate(blocks):
            for chunk in block.chunks:
                self.places.setdefault(chunk.id, []).append((name, number, chunk))

    def block(self, pack, number):
        """The uncompressed bytes of a block."""
        if (pack, number) in self.blocks:
            self.blocks.move_to_end((pack, number))
            return self.blocks[pack, number]
        path, key, blocks = self.packs[pack]
        block = blocks[number]
        with open(path, "rb") as file:
            file.seek(block.offset)
            data = self.unseal(key, PACK, BLOCK_PART, number, file.read(block.stored))
        length = sum(chunk.length for chunk in block.chunks)
        if block.encoding == 1:
            data = zstandard.ZstdDecompressor().decompress(data, length)
        elif block.encoding == 2:
            # The base is a prefix that matches may refer to: a dictionary of raw content.
            base = b"".join(self.chunk(chunk, CONTENT, as_base=True) for chunk in block.bases)
            raw = zstandard.ZstdCompressionDict(base, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
            data = zstandard.ZstdDecompressor(dict_data=raw).decompress(data, length)
        if len(data) != length:
            raise Damage(f"block {number} of pack {pack} has another length than its footer says")
        self.blocks[pack, number] = data
        while len(self.blocks) > 16:
            self.blocks.popitem(last=False)
        return data

    def chunk(self, chunk_id, kind, as_base=False):
        """The bytes of a chunk, from the first copy that is whole."""
        error = Damage(f"chunk {chunk_id.hex()} is missing")
        for pack, number, chunk in self.places.get(chunk_id, []):
            delta = self.packs[pack][2][number].encoding == 2
            if as_base and delta or not as_base and chunk.kind != kind:
                continue  # A base has no base.
            try:
                data = self.block(pack, number)[chunk.offset : chunk.offset + chunk.length]
                if blake3(data, key=self.id_keys[chunk.kind]).digest() == chunk_id:
                    return data
                error = Damage(f"chunk {chunk_id.hex()} in pack {pack} does not match its id")
            except (Damage, OSError, zstandard.ZstdError) as found:
                error = Damage(f"block {number} of pack {pack}: {found}")
        raise error

    # -- Snapshots

    def snapshots(self):
        """The records by time. Of each record the first copy that is whole is used."""
        records = {}
        for parts in (("snapshots",), ("copy", "snapshots")):
            for name in self.names(*parts):
                place = parts + (name,)
                body = self.note_errors(
                    "/".join(place), self.small_object, SNAPSHOT, MAX_RECORD_LEN, *place
                )
                if body is not None:
                    records.setdefault(name, json.loads(body))
        found = [record for record in records.values() if "given-up" not in record]
        replaced = {old for record in found for old in record.get("formerly", [])}
        found = [record for record in found if record["id"] not in replaced]
        return sorted(found, key=lambda r: (r["time"]["seconds"], r["time"]["nanos"]))

    def snapshot(self, name):
        def is_named(record):
            return any(i.startswith(name) for i in [record["id"], *record.get("formerly", [])])

        found = self.snapshots()
        found = found[-1:] if name == "latest" else list(filter(is_named, found))
        if len(found) != 1:
            raise Damage(f"{len(found)} snapshots are named {name}")
        return found[0]

    def entries(self, page_id, height=None, first=None):
        """All entries below a page, in path order."""
        page = Reader(self.chunk(page_id, PAGE))
        if page.take(1)[0] != 1:
            raise Damage("a page has an unknown version")
        found, count = page.take(1)[0], page.varint()
        if found != (found if height is None else height) or found > 16 or count > 65536:
            raise Damage("a page has another height than its parent says, or exceeds its limits")
        if found == 0:
            entries = decode_leaf(page, count)
            if first is not None and (not entries or entries[0].path != first):
                raise Damage("a page begins with another path than its parent says")
            yield from entries
            return
        paths = read_paths(page.column(), count)
        page.column(), page.column()  # numbers of entries and bytes
        ids = page.column()
        page.end()
        for path in paths:
            yield from self.entries(ids.take(32), found - 1, path)

    def items(self, entry):
        """The content of an entry: pairs of length and chunk id (None for a hole)."""
        return self.content_page(*entry.top_page) if entry.top_page else iter(entry.items)

    def content_page(self, page_id, height):
        page = Reader(self.chunk(page_id, CONTENT_PAGE))
        if page.take(1)[0] != 1 or page.take(1)[0] != height:
            raise Damage("a content page has an unknown version or another height")
        count = page.varint()
        lengths, ids = page.column(), page.column()
        page.end()
        for _ in range(count):
            length = lengths.varint()
            if height > 0:
                yield from self.content_page(ids.take(32), height - 1)
            else:
                yield length >> 1, None if length & 1 else ids.take(32)

    def content(self, entry):
        """The bytes of an entry in pieces; an int stands for a hole of that length."""
        total = len(entry.inline)
        yield entry.inline
        for length, chunk_id in self.items(entry):
            piece = length if chunk_id is None else self.chunk(chunk_id, CONTENT)
            if chunk_id is not None and len(piece) != length:
                raise Damage("a chunk has another length than its entry says")
            total += length
            yield piece
        if total != entry.size:
            raise Damage("the content has another length than its entry says")


def is_id(name):
    return len(name) == 32 and not name.strip("0123456789abcdef")


def decode_footer(data, end):
    footer = Reader(data)
    if footer.take(1)[0] != 1:
        raise Damage("its footer has an unknown version")
    heads = []
    for _ in range(footer.varint()):
        stored, encoding, chunks = footer.varint(), footer.take(1)[0], footer.varint()
        if encoding > 2:
            raise Damage("a block has an unknown encoding")
        heads.append((stored, encoding, chunks, footer.varint() if encoding == 2 else 0))
    kinds, lengths, ids = footer.column(), footer.column(), footer.column()
    bases = footer.column() if any(head[1] == 2 for head in heads) else Reader(b"")
    footer.end()
    blocks, at = [], 64
    for stored, encoding, count, base_count in heads:
        chunks, offset = [], 0
        for _ in range(count):
            chunk = Chunk(kinds.take(1)[0], lengths.varint(), ids.take(32), offset)
            offset += chunk.length
            chunks.append(chunk)
        if offset > MAX_BLOCK_LEN or stored > 2 * MAX_BLOCK_LEN:
            raise Damage("a block exceeds its limit")
        named = [bases.take(32) for _ in range(base_count)]
        blocks.append(Block(at, stored, encoding, chunks, named))
        at += stored
    for column in (kinds, lengths, ids, bases):
        column.end()
    if at != end:
        raise Damage("its blocks do not end where its footer begins")
    return blocks


class Entry:
    """One file, directory, link, device or stream. `items` are pairs of length and chunk id."""

    def __init__(self, path, kind):
        self.path, self.kind, self.changing = path, kind & 127, kind >= 128
        self.size, self.target, self.device = 0, b"", 0
        self.inline, self.items, self.top_page = b"", [], None


def decode_leaf(page, count):
    paths = read_paths(page.column(), count)
    kinds = page.column()
    entries = [Entry(path, kinds.take(1)[0]) for path in paths]
    owners, sets = [], []
    column = page.column()
    for _ in range(column.varint()):
        owners.append((column.varint(), column.varint(), column.bytes(), column.bytes()))
    column = page.column()
    for _ in range(column.varint()):
        sets.append([(column.bytes(), column.bytes()) for _ in range(column.varint())])
    columns = [page.column() for _ in range(4)]
    for entry in entries:
        entry.mode = columns[0].varint()
        entry.owner = owners[columns[1].varint()]
        entry.attributes = sets[columns[2].varint()]
        entry.links = columns[3].varint()
    column = page.column()
    systems = [column.take(8) for _ in range(column.varint())]
    columns, second = [page.column() for _ in range(4)], 0
    for entry in entries:
        second = (second + columns[0].signed() + 2**63) % 2**64 - 2**63
        entry.mtime = second * 10**9 + struct.unpack("<I", columns[1].take(4))[0]
    inodes, numbers, inode = page.column(), page.column(), 0
    for entry in entries:
        inode = (inode + inodes.signed()) % 2**64
        entry.inode, entry.system = inode, systems[numbers.varint()]
    sizes, targets, devices = page.column(), page.column(), page.column()
    for entry in entries:
        if entry.kind in (FILE, STREAM):
            entry.size = sizes.varint()
        elif entry.kind == SYMLINK:
            entry.target = targets.bytes()
        elif entry.kind in (CHAR_DEVICE, BLOCK_DEVICE):
            entry.device = devices.varint()
        elif entry.kind not in (DIRECTORY, FIFO, SOCKET):
            raise Damage("an entry is of an unknown kind")
    decode_contents(page, entries)
    page.end()
    return entries


def decode_contents(page, entries):
    forms, lengths, inlines, ids = (page.column() for _ in range(4))
    for entry in entries:
        if entry.kind not in (FILE, STREAM):
            continue
        form = forms.varint()
        if form == 1:
            entry.inline = inlines.bytes()
        elif form == 2:
            entry.top_page = (ids.take(32), lengths.take(1)[0])
        elif form >= 3:
            for _ in range(form - 3):
                length = lengths.varint()
                entry.items.append((length >> 1, None if length & 1 else ids.take(32)))
    for column in (forms, lengths, inlines, ids):
        column.end()


# What the user can do

def show(path):
    return path.decode("utf-8", "backslashreplace").encode("unicode_escape").decode()


def list_snapshots(repository):
    for record in repository.snapshots():
        time = datetime.fromtimestamp(record["time"]["seconds"], timezone.utc)
        streams = [stream["name"] for stream in record.get("streams", [])]
        paths = [p if isinstance(p, str) else "hex:" + p["hex"] for p in record["paths"]]
        sources = [ascii(source)[1:-1] for source in streams + paths]
        print(record["id"], f"{time:%Y-%m-%d %H:%M:%S} UTC", ascii(record["host"])[1:-1], *sources)


def check(repository):
    """Opens every block, compares every chunk with its id, and reads all trees."""
    segments = repository.names("index")
    for name in segments:
        limit = MAX_SEGMENT_LEN
        check_one = repository.small_object
        repository.note_errors(f"index/{name}", check_one, SEGMENT, limit, "index", name)
    for pack, (_, _, blocks) in repository.packs.items():
        for number, block in enumerate(blocks):
            repository.note_errors(f"pack {pack}", check_block, repository, pack, number, block)
    for name in repository.names("copy", "keys"):
        path = os.path.join(repository.path, "copy", "keys", name)
        repository.note_errors(path, checked_lines, path, 2)
    records = repository.snapshots()
    for record in records:
        repository.note_errors(f"snapshot {record['id']}", check_tree, repository, record)
    counts = f"{len(records)} snapshots, {len(repository.packs)} packs, {len(segments)} segments"
    print(f"checked {counts}: {len(repository.problems)} problems")


def check_block(repository, pack, number, block):
    data = repository.block(pack, number)
    for chunk in block.chunks:
        piece = data[chunk.offset : chunk.offset + chunk.length]
        if blake3(piece, key=repository.id_keys[chunk.kind]).digest() != chunk.id:
            raise Damage(f"chunk {chunk.id.hex()} in block {number} does not match its id")


def check_tree(repository, record):
    for entry in repository.entries(bytes.fromhex(record["root"])):
        total = len(entry.inline)
        for length, chunk_id in repository.items(entry):
            total += length
            if chunk_id is not None and chunk_id not in repository.places:
                raise Damage(f"{show(entry.path)}: chunk {chunk_id.hex()} is missing")
        if total != entry.size:
            raise Damage(f"{show(entry.path)}: its content has another length than its size")


def cat(repository, record, path):
    wanted = path.encode(errors="surrogateescape").strip(b"/")
    for entry in repository.entries(bytes.fromhex(record["root"])):
        if entry.path == wanted and entry.kind in (FILE, STREAM):
            for piece in repository.content(entry):
                sys.stdout.buffer.write(bytes(piece))
            return
    raise Damage(f"the snapshot has no file or stream {path}")


class Restorer:
    """Restores a snapshot into an empty directory. Directories that this program did not make
    itself are never entered, so no link leads out of the target."""

    def __init__(self, repository, target):
        self.repository, self.target = repository, os.fsencode(target)
        os.makedirs(self.target, exist_ok=True)
        if os.listdir(self.target):
            raise Damage(f"{target} is not empty")
        self.made, self.directories, self.first_names = {b""}, [], {}
        self.count = 0

    def run(self, record):
        for entry in self.repository.entries(bytes.fromhex(record["root"])):
            self.repository.note_errors(show(entry.path), self.restore, entry)
        for entry, path in reversed(self.directories):
            self.repository.note_errors(show(entry.path), self.set_metadata, entry, path)
        print(f"restored {self.count} entries: {len(self.repository.problems)} problems")

    def restore(self, entry):
        parent = entry.path.rpartition(b"/")[0]
        if parent not in self.made:
            raise Damage("its directory was not restored")
        path = os.path.join(self.target, entry.path)
        if entry.kind == DIRECTORY:
            os.mkdir(path, 0o700)
            self.made.add(entry.path)
            self.directories.append((entry, path))
        elif not self.is_link(entry, path):
            self.make(entry, path)
            self.set_metadata(entry, path)
        self.count += 1

    def is_link(self, entry, path):
        """Links another name of a file that was restored before."""
        if entry.links < 2:
            return False
        key = (entry.system, entry.inode, entry.kind, entry.mode, entry.owner, entry.mtime,
               entry.size, entry.inline, tuple(entry.items), entry.top_page, entry.target,
               entry.device, tuple(entry.attributes))  # fmt: skip
        first = self.first_names.setdefault(key, path)
        if first is path:
            return False
        os.link(first, path, follow_symlinks=False)
        return True

    def make(self, entry, path):
        if entry.kind == SYMLINK:
            os.symlink(entry.target, path)
        elif entry.kind in (FILE, STREAM):
            with open(path, "xb") as file:
                for piece in self.repository.content(entry):
                    if isinstance(piece, int):
                        file.seek(piece, os.SEEK_CUR)
                    else:
                        file.write(piece)
                file.truncate(entry.size)
        else:
            kinds = {FIFO: stat.S_IFIFO, SOCKET: stat.S_IFSOCK, CHAR_DEVICE: stat.S_IFCHR}
            os.mknod(path, kinds.get(entry.kind, stat.S_IFBLK) | 0o600, entry.device)

    def set_metadata(self, entry, path):
        if os.geteuid() == 0:
            os.chown(path, entry.owner[0], entry.owner[1], follow_symlinks=False)
        for name, value in entry.attributes:
            what = f"{show(entry.path)}: attribute {name!r}"
            call = lambda: os.setxattr(path, name, value, follow_symlinks=False)  # noqa: E731
            self.repository.note_errors(what, call)
        if entry.kind != SYMLINK:
            os.chmod(path, entry.mode)
        os.utime(path, ns=(entry.mtime, entry.mtime), follow_symlinks=False)


def main():
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--password-file")
    parser.add_argument("--key-file")
    parser.add_argument("repository")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list")
    commands.add_parser("check")
    for name, last in (("restore", "target"), ("cat", "path")):
        command = commands.add_parser(name)
        command.add_argument("snapshot")
        command.add_argument(last)
    options = parser.parse_args()

    def secret():
        if options.key_file:
            return None, read_key_file(options.key_file)
        if options.password_file:
            return read_limited(options.password_file, 4096).split(b"\n")[0], None
        if os.environ.get("GABION_PASSWORD"):
            return os.environb[b"GABION_PASSWORD"], None
        return getpass.getpass("passphrase: ").encode(), None

    try:
        repository = Repository(options.repository, secret)
        if options.command == "list":
            list_snapshots(repository)
        elif options.command == "check":
            check(repository)
        elif options.command == "cat":
            cat(repository, repository.snapshot(options.snapshot), options.path)
        else:
            Restorer(repository, options.target).run(repository.snapshot(options.snapshot))
    except (Damage, OSError, ValueError, zstandard.ZstdError) as error:
        sys.exit(f"last-resort: {error}")
    sys.exit(13 if repository.problems else 0)


if __name__ == "__main__":
    main()

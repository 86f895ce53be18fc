#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Test vectors of the `.lora` container, version 1.0, made from the words of its specification.

    build.py DIR           write the vectors, README.md and vectors.json
    build.py --all DIR     the same with further vectors, which are not kept for their size
    build.py --check DIR   build them in memory and name what differs in DIR

Part 1 is the format: records, the split codec, a File. Part 2 lists the rules of sections 1 to 6. Part 3
lists the vectors: what each one shows, and how it departs from a good file. Part 4 writes them.

A vector breaks one rule only: whatever is computed (adapter ids, `index_sha256`, `file_end`, every `crc32`)
is computed again over the bent records by `File.seal`, except for a field that the vector itself has bent.
"""

import hashlib
import json
import math
import os
import struct
import sys
import zlib

# ----------------------------------------------------------------------------------------------------------
# Part 1: the format
# ----------------------------------------------------------------------------------------------------------

MAGIC = bytes.fromhex("89 6C 6F 72 61 66 6D 74 0D 0A 1A 0A")
PAGE = 4096
SLOTS = (PAGE, 2 * PAGE)
FIRST = 3 * PAGE  # where tensor data and indexes may begin

NAMES, ADAPTERS, SITES, FACTORS, TENSORS, METADATA, SEGMENTS, HISTORY = range(1, 9)
SIGNATURES = 2147483649
IGNORABLE = 2147483648  # the first id that a reader skips when it does not know it

(REPLACEMENT, SAVED, ROWS, ADDITIVE, LINEAR, EMBEDDING, CONV1D, CONV2D, CONV3D, EXPERTS) = range(1, 11)
UNKNOWN_KIND = 11
A, B, MID, MAGNITUDE, VALUE, ROW_INDEX = range(1, 7)
UNKNOWN_ROLE = 16
NO_SCALING, ALPHA_R, ALPHA_SQRT_R, EXPLICIT = range(4)
ROW_RANGE, COLUMN_RANGE, BASE_SHA256, DOUBLED = 1, 2, 4, 8
RAW, SPLIT = 0, 1
SUPERSEDED, DEAD = 1, 2

BITS = {"BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8,
        "F8_E8M0": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "C64": 64,
        "F64": 64, "I64": 64, "U64": 64, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8}
DTYPES = {name: number for number, name in enumerate(BITS, 1)}


def sha256(data):
    return hashlib.sha256(data).digest()


def align(offset, size):
    return (offset + size - 1) // size * size


def ceil8(x):
    return align(x, 8)


def encoded(string):
    """A string as its bytes; bytes stay what they are, for strings that are not UTF-8."""
    return string.encode() if isinstance(string, str) else bytes(string)


# --- records: fixed sizes, fields named as in the specification ---

FORMATS = {"u8": "B", "u16": "H", "u32": "I", "u64": "Q", "f64": "d"}


class Record:
    """A record of fixed size. FIELDS lists `name:type`; a number as type is that many bytes, 8u64 a list.

    `reserved_N` is the reserved field at offset N. `at` is the place of the record in the file.
    """

    FIELDS = ""

    def __init__(self, **values):
        self.at = None
        self.held = set()  # computed fields that a vector has bent: sealing leaves them alone
        for name, kind in self.fields():
            zero = bytes(int(kind)) if kind.isdigit() else [0] * 8 if kind == "8u64" else 0
            setattr(self, name, values.pop(name, zero))
        assert not values, values

    @classmethod
    def fields(cls):
        return [field.split(":") for field in cls.FIELDS.split()]

    @classmethod
    def size(cls):
        return sum(len(cls.pack_field(kind, None)) for _, kind in cls.fields())

    @staticmethod
    def pack_field(kind, value):
        if kind.isdigit():
            return value if value is not None else bytes(int(kind))
        if kind == "8u64":
            return struct.pack("<8Q", *(value or [0] * 8))
        return struct.pack("<" + FORMATS[kind], 0 if value is None else value)

    def pack(self):
        return b"".join(self.pack_field(kind, getattr(self, name)) for name, kind in self.fields())

    def where(self, field, item=0):
        """The file offset of a field (of an item of `shape`)."""
        offset = self.at
        for name, kind in self.fields():
            if name == field:
                return offset + 8 * item
            offset += len(self.pack_field(kind, None))
        raise KeyError(field)

    def compute(self, field, value):
        if field not in self.held:
            setattr(self, field, value)


class HeaderPage(Record):  # section 2
    FIELDS = "magic:12 version_major:u16 version_minor:u16 reserved_16:12 crc32:u32 reserved_32:4064"


class HistoryRecord(Record):  # section 4.9
    FIELDS = ("magic:8 generation:u64 incompatible:u64 compatible:u64 index_offset:u64 index_size:u64 "
              "index_sha256:32 file_end:u64 reserved_88:36 crc32:u32")


class RootSlot(HistoryRecord):  # section 3
    FIELDS = HistoryRecord.FIELDS + " reserved_128:3968"


class IndexHeader(Record):  # section 4.1
    FIELDS = "magic:8 generation:u64 align_log2:u32 n_sections:u32"


class SectionEntry(Record):  # section 4.1
    FIELDS = "id:u32 record_size:u32 n_records:u64"


class AdapterRecord(Record):  # section 4.3
    FIELDS = ("name:u32 base_name:u32 base_revision:u32 flags:u32 first_site:u32 n_sites:u32 "
              "first_metadata:u32 n_metadata:u32 adapter_id:32 base_structure:32 reserved_96:8")


class SiteRecord(Record):  # section 4.4
    FIELDS = ("target:u32 kind:u16 orientation:u8 scaling:u8 rank:u32 flags:u32 alpha:f64 scale:f64 "
              "row_begin:u64 row_end:u64 col_begin:u64 col_end:u64 first_factor:u32 n_factors:u32 "
              "base_sha256:32")


class FactorRecord(Record):  # section 4.5
    FIELDS = "role:u16 reserved_2:u16 tensor:u32"


class TensorRecord(Record):  # section 4.6
    FIELDS = ("offset:u64 stored_size:u64 decoded_size:u64 dtype:u8 codec:u8 n_dims:u8 reserved_27:5 "
              "shape:8u64 sha256:32")


class MetadataRecord(Record):  # section 4.7
    FIELDS = "key:u32 value:u32 flags:u32 reserved_12:u32"


class SegmentRecord(Record):  # section 4.8
    FIELDS = "offset:u64 size:u64 generation:u64 kind:u32 reserved_28:u32"


class SignatureRecord(Record):  # section 4.10
    FIELDS = "adapter:u32 algorithm:u32 reserved_8:24 public_key:32 signature:64 reserved_128:32"


# --- section 5: the split codec, over a zlib writer that knows one kind of block and one kind of match ---

class BitWriter:
    """Bits of a deflate stream: the least significant bit of each byte comes first."""

    def __init__(self):
        self.value = self.count = 0
        self.out = bytearray()

    def number(self, value, count):
        self.value |= value << self.count
        self.count += count
        while self.count >= 8:
            self.out.append(self.value & 255)
            self.value >>= 8
            self.count -= 8

    def code(self, value, count):
        """A Huffman code: its most significant bit comes first."""
        self.number(int(f"{value:0{count}b}"[::-1], 2), count)

    def symbol(self, symbol):
        """A literal or length symbol in the fixed code of RFC 1951, 3.2.6."""
        if symbol < 144:
            self.code(0x30 + symbol, 8)
        elif symbol < 256:
            self.code(0x190 + symbol - 144, 9)
        elif symbol < 280:
            self.code(symbol - 256, 7)
        else:
            self.code(0xC0 + symbol - 280, 8)

    def repeat(self, length):
        """The byte before, 3 to 258 times more: a match at distance 1."""
        if length == 258:
            self.symbol(285)
        else:
            extra = max(0, (length - 3).bit_length() - 3)
            self.symbol(257 + 4 * extra + (length - 3 >> extra))
            self.number(length - 3 & (1 << extra) - 1, extra)
        self.code(0, 5)

    def finish(self):
        self.number(0, -self.count % 8)
        return bytes(self.out)


def zlib_stream(data):
    """RFC 1950 around one final block of fixed Huffman codes: the same bytes under every version of zlib."""
    bits = BitWriter()
    bits.number(0b011, 3)
    at = 0
    while at < len(data):
        length = 0
        while length < 258 and at and at + length < len(data) and data[at + length] == data[at - 1]:
            length += 1
        if length >= 3:
            bits.repeat(length)
            at += length
        else:
            bits.symbol(data[at])
            at += 1
    bits.symbol(256)
    return b"\x78\x01" + bits.finish() + struct.pack(">I", zlib.adler32(data))


def byte_planes(decoded, width):
    """Each element rotated left by one bit; then its bytes, topmost plane first."""
    bits = 8 * width
    mask = (1 << bits) - 1
    elements = (int.from_bytes(decoded[i:i + width], "little") for i in range(0, len(decoded), width))
    rotated = b"".join(((e << 1 | e >> bits - 1) & mask).to_bytes(width, "big") for e in elements)
    return [rotated[plane::width] for plane in range(width)]


def split(decoded, dtype, block_log2=18, reserved=0, stream=zlib_stream, ends=None):
    """The stored bytes of codec 1. `stream` codes a block; `ends` replaces the computed ones."""
    planes = byte_planes(decoded, BITS[dtype] // 8)
    block = 1 << block_log2
    streams = [stream(planes[0][i:i + block]) for i in range(0, len(planes[0]), block)]
    ends = ends or [sum(map(len, streams[:i + 1])) for i in range(len(streams))]
    header = struct.pack("<II", block_log2, reserved) + struct.pack(f"<{len(ends)}Q", *ends)
    return header + b"".join(streams) + b"".join(planes[1:])


# --- what a file is made of ---

class Tensor:
    """A tensor: its decoded bytes, and the bytes that the codec stores for them."""

    def __init__(self, dtype, shape, decoded, codec=RAW, stored=None):
        self.dtype, self.shape, self.decoded, self.codec = dtype, list(shape), decoded, codec
        self.stored = stored or (split(decoded, dtype) if codec == SPLIT else decoded)

    def key(self):
        """Equal tensors are stored once."""
        return self.dtype, tuple(self.shape), self.decoded

    def record(self):
        return TensorRecord(stored_size=len(self.stored), decoded_size=len(self.decoded),
                            dtype=DTYPES[self.dtype], codec=self.codec, n_dims=len(self.shape),
                            shape=(self.shape + [0] * 8)[:8], sha256=sha256(self.decoded))


def tensor(dtype, shape, *values, codec=RAW):
    """A tensor of numbers, repeated until the shape is full."""
    code = {"F16": "e", "BF16": "f", "F32": "f", "F64": "d", "I64": "q", "I32": "i", "U8": "B"}[dtype]
    cells = [struct.pack("<" + code, value) for value in values]
    if dtype == "BF16":
        cells = [cell[2:] for cell in cells]
    count = math.prod(shape)
    return Tensor(dtype, shape, b"".join(cells * (count // len(cells) + 1))[:count * len(cells[0])], codec)


def f32(*shape, start=1.0):
    """start, start + 1, ... in F32."""
    return tensor("F32", shape, *(start + i for i in range(math.prod(shape))))


class Site:
    """A site: `factors` are (role, Tensor) in order, `fields` what departs from the usual."""

    def __init__(self, target, kind, factors, **fields):
        self.target, self.factors = target, factors
        self.fields = dict(kind=kind, scale=1.0)
        if LINEAR <= kind <= EXPERTS:
            self.fields.update(scaling=ALPHA_R, rank=1, alpha=1.0)
        self.fields.update(fields)


class Adapter:
    """An adapter; `metadata` are (key, value, flags)."""

    def __init__(self, name, sites, metadata=(), base_name="", base_revision="", **fields):
        self.name, self.sites, self.metadata, self.fields = name, sites, metadata, fields
        self.base_name, self.base_revision = base_name, base_revision

    def strings(self):
        yield from (self.name, self.base_name, self.base_revision)
        yield from (site.target for site in self.sites)
        for key, value, _ in self.metadata:
            yield from (key, value)


class Section:
    """A section of the index: records, or bytes for the name pool and ignorable sections."""

    def __init__(self, id_, record_size, content):
        self.id, self.record_size, self.content = id_, record_size, content

    def rows(self):
        if isinstance(self.content, bytes):
            starts = range(0, len(self.content), self.record_size)
            return [self.content[i:i + self.record_size] for i in starts]
        return [record.pack().ljust(self.record_size, b"\0") for record in self.content]


class File:
    """A file of one generation, or one more generation `after` a File.

    `strings` are unused ones for the name pool, `sections` ignorable ones. `history` names the generations
    that stay in the history (all, unless given). `dead` are bytes that an interrupted append left.
    `index_last` puts the index behind the data, `index_gap` leaves bytes before it. Without `share` equal
    tensors are stored twice.
    """

    def __init__(self, *adapters, after=None, generation=None, align_log2=6, strings=(), sections=(),
                 signatures=(), history=None, dead=b"", index_last=False, index_gap=0, share=True):
        self.old, self.share = after, share
        self.generation = generation if generation is not None else after.generation + 1 if after else 1
        self.dead, self.index_last, self.index_gap = dead, index_last, index_gap
        self.pool, self.places = b"", {}
        self.fill_pool(sorted(self.all_strings(adapters, strings)))
        self.adapters, self.sites, self.factors, self.tensors, self.metadata = [], [], [], [], []
        self.data = []  # [tensor record, stored bytes, their place] of this generation
        self.known = dict(after.known) if after else {}  # tensor key -> its offset, of all generations
        self.live = {}  # tensor key -> its number in this generation
        self.history, self.segments = [], []
        self.old_root = after.root if after else []
        self.tail, self.cut, self.pokes = b"", 0, []
        for adapter in adapters:
            self.add_adapter(adapter)
        if after:
            self.add_history(after.generations() if history is None else history)
        self.signatures = list(signatures)
        self.index = [IndexHeader(magic=b"LORAINDX", generation=self.generation, align_log2=align_log2)]
        self.header = [HeaderPage(magic=MAGIC, version_major=1, version_minor=0)]
        self.root = [RootSlot(magic=b"LORAROOT", generation=self.generation)]
        self.slots = list(after.slots) if after else [None, None]
        self.slots[0 if self.generation % 2 else 1] = self.root[0]
        self.sections = sorted(self.first_sections() + list(sections), key=lambda section: section.id)
        self.place()
        self.seal()

    # records

    @staticmethod
    def all_strings(adapters, strings):
        used = {encoded(string) for adapter in adapters for string in adapter.strings()}
        return used | {encoded(string) for string in strings} | {b""}

    def fill_pool(self, strings):
        at = 0
        for string in strings:
            self.places[string] = at
            at += len(string) + 1
        self.pool = b"".join(string + b"\0" for string in strings)

    def string(self, string):
        """The offset of a string in the pool."""
        return self.places[encoded(string)]

    def add_adapter(self, adapter):
        self.adapters.append(AdapterRecord(
            name=self.string(adapter.name), base_name=self.string(adapter.base_name),
            base_revision=self.string(adapter.base_revision), first_site=len(self.sites),
            n_sites=len(adapter.sites), first_metadata=len(self.metadata), n_metadata=len(adapter.metadata),
            **adapter.fields))
        for site in adapter.sites:
            self.add_site(site)
        for key, value, flags in adapter.metadata:
            self.metadata.append(MetadataRecord(key=self.string(key), value=self.string(value), flags=flags))

    def add_site(self, site):
        self.sites.append(SiteRecord(target=self.string(site.target), first_factor=len(self.factors),
                                     n_factors=len(site.factors), **site.fields))
        for role, value in site.factors:
            self.factors.append(FactorRecord(role=role, tensor=self.add_tensor(value)))

    def add_tensor(self, value):
        """The number of a tensor in the table; new data only for a tensor that no generation has."""
        key = value.key() if self.share else id(value)
        if key not in self.live:
            self.live[key] = len(self.tensors)
            self.tensors.append(value.record())
            if key in self.known:
                self.tensors[-1].offset = self.known[key]
            else:
                self.data.append([self.tensors[-1], value.stored, None])
        return self.live[key]

    def generations(self):
        return [self.generation] + [entry.generation for entry in self.history]

    def reached(self, generations):
        """Where the indexes and tensors of these generations are, of this file and those before it."""
        earlier = self.old.reached(generations) if self.old else set()
        own = {self.index_at} | {record.offset for record in self.tensors}
        return earlier | own if self.generation in generations else earlier

    def add_history(self, kept):
        for root in [self.old.root[0]] + self.old.history:
            if root.generation in kept:
                self.history.append(HistoryRecord(**{name: getattr(root, name)
                                                     for name, _ in HistoryRecord.fields()}))
        live = {record.offset for record in self.tensors}
        superseded = self.old.reached(kept)
        for offset, size, generation in self.old.ranges():
            if offset not in live:
                kind = SUPERSEDED if offset in superseded else DEAD
                self.segments.append(SegmentRecord(offset=offset, size=size, generation=generation,
                                                   kind=kind))
        if self.dead:
            self.segments.append(SegmentRecord(offset=self.old.end(), size=len(self.dead), kind=DEAD))

    def first_sections(self):
        tables = {ADAPTERS: (AdapterRecord, self.adapters), SITES: (SiteRecord, self.sites),
                  FACTORS: (FactorRecord, self.factors), TENSORS: (TensorRecord, self.tensors),
                  METADATA: (MetadataRecord, self.metadata), SEGMENTS: (SegmentRecord, self.segments),
                  HISTORY: (HistoryRecord, self.history)}
        sections = [Section(NAMES, 1, self.pool)]
        sections += [Section(id_, record.size(), rows) for id_, (record, rows) in tables.items()]
        if self.signatures:
            sections.append(Section(SIGNATURES, SignatureRecord.size(), self.signatures))
        return sections

    # places

    def place(self):
        """Give everything its place: the index, then the data behind it (or before it, with `index_last`)."""
        begin = self.old.end() + len(self.dead) if self.old else FIRST
        if self.index_last:
            self.place_index(self.place_data(begin))
        else:
            self.place_data(self.place_index(begin + self.index_gap))
        self.header[0].at = 0
        self.root[0].at = SLOTS[0 if self.generation % 2 else 1]

    def place_index(self, at):
        self.index_at = self.index[0].at = align(at, 64) if not self.index_gap else at
        self.index[0].compute("n_sections", len(self.sections))
        self.section_table = [SectionEntry(id=s.id, record_size=s.record_size, n_records=len(s.rows()))
                              for s in self.sections]
        at = self.index_at + 24
        for entry in self.section_table:
            entry.at, at = at, at + 16
        for section in self.sections:
            section.at = at
            for i, record in enumerate(section.content if isinstance(section.content, list) else ()):
                record.at = at + i * section.record_size
            at = ceil8(at + section.record_size * len(section.rows()))
        self.index_size = at - self.index_at
        self.root[0].compute("index_offset", self.index_at)
        self.root[0].compute("index_size", self.index_size)
        return at

    def place_data(self, at):
        for item in self.data:
            record, stored, _ = item
            item[2] = record.offset = align(at, 1 << self.index[0].align_log2)
            at = record.offset + len(stored)
        for key, number in self.live.items():
            self.known[key] = self.tensors[number].offset
        return at

    def ranges(self):
        """(offset, size, generation) of every index and tensor, of this generation and those before it."""
        earlier = self.old.ranges() if self.old else []
        if self.dead:
            earlier.append((self.old.end(), len(self.dead), 0))
        own = [(self.index_at, self.index_size)] + [(at, len(stored)) for _, stored, at in self.data]
        return earlier + [(offset, size, self.generation) for offset, size in sorted(own)]

    def end(self):
        """The end of the last thing in the file: `file_end` when nothing is bent."""
        return max(offset + size for offset, size, _ in self.ranges())

    # digests

    def string_at(self, offset):
        return self.sections[0].content[offset:].split(b"\0")[0]

    def adapter_id(self, adapter):
        """Section 6.1, over the records as they are, bent or not."""
        def string(offset):
            raw = self.string_at(offset)
            return struct.pack("<I", len(raw)) + raw

        sites = self.sites[adapter.first_site:][:adapter.n_sites]
        semantic = [m for m in self.metadata[adapter.first_metadata:][:adapter.n_metadata] if m.flags & 1]
        parts = [b"lora adapter id v1\0", string(adapter.base_name), string(adapter.base_revision),
                 struct.pack("<I", adapter.flags), adapter.base_structure, struct.pack("<I", adapter.n_sites)]
        for site in sites:
            parts += [string(site.target), site.pack()[4:64], site.base_sha256,
                      struct.pack("<I", site.n_factors)]
            for factor in self.factors[site.first_factor:][:site.n_factors]:
                parts.append(struct.pack("<H", factor.role))
                parts += [self.tensor_identity(t) for t in self.tensors[factor.tensor:][:1]]
        parts.append(struct.pack("<I", len(semantic)))
        parts += [string(entry.key) + string(entry.value) for entry in semantic]
        return sha256(b"".join(parts))

    @staticmethod
    def tensor_identity(record):
        shape = record.shape[:record.n_dims]
        return struct.pack(f"<BB{len(shape)}Q", record.dtype, record.n_dims, *shape) + record.sha256

    def seal(self):
        """Compute everything that depends on other bytes, but for what a vector has bent."""
        self.header[0].compute("crc32", zlib.crc32(self.header[0].pack()[:28]))
        for adapter in self.adapters:
            adapter.compute("adapter_id", self.adapter_id(adapter))
        root = self.root[0]
        root.compute("file_end", self.end())
        for entry in self.history:
            entry.compute("crc32", zlib.crc32(entry.pack()[:124]))
        image = self.image()
        root.compute("index_sha256", sha256(image[root.index_offset:][:root.index_size]))
        for slot in self.slots:
            if isinstance(slot, RootSlot):
                slot.compute("crc32", zlib.crc32(slot.pack()[:124]))

    # bytes

    def image(self):
        out = bytearray(self.end())

        def put(at, data):
            out[at:at + len(data)] = data

        put(0, self.header[0].pack())
        for at, slot in zip(SLOTS, self.slots):
            if slot:
                put(at, slot if isinstance(slot, bytes) else slot.pack())
        if self.old:
            put(FIRST, self.old.image()[FIRST:] + self.dead)
        put(self.index_at, self.index[0].pack())
        put(self.index_at + 24, b"".join(entry.pack() for entry in self.section_table))
        for section in self.sections:
            put(section.at, b"".join(section.rows()))
        for _, stored, at in self.data:
            put(at, stored)
        for at, data in self.pokes:
            put(at, data)
        return bytes(out)

    def bytes(self):
        self.seal()
        image = self.image() + self.tail
        return image[:len(image) - self.cut]


# ----------------------------------------------------------------------------------------------------------
# Part 2: the rules of sections 1 to 6, in brief
# ----------------------------------------------------------------------------------------------------------

RULES = """
0.1 | reserved | reserved bytes and bits MUST be zero
1 | after-end | bytes at and after `file_end` MUST be ignored
1 | any-order | tensor data and indexes, of this and earlier generations, in any order
1 | append | appending writes data and an index after the old `file_end`, the root into the other slot
2 | magic | `magic`: not a lora file, as is a file too short to hold it
2 | short | the file is at least 12288 bytes long (corrupt)
2 | header-crc | `crc32` of bytes 0 .. 27 (corrupt)
2 | version | `version_major` 1 (unsupported), with any `version_minor`
2 | header-reserved | reserved bytes 16 .. 27 and 32 .. 4095 (corrupt)
2 | header-order | a reader checks in this order
3 | slot-magic | `magic` "LORAROOT"
3 | generation-range | `generation` 1 .. 2^63−1
3 | generation-parity | `generation` is odd in slot 0 and even in slot 1
3 | incompatible | an `incompatible` bit that the reader does not know makes the file unsupported
3 | compatible | a `compatible` bit that it does not know is ignored for reading
3 | compatible-writer | a writer that does not know a `compatible` bit MUST NOT append
3 | index-offset | `index_offset` ≥ 12288, a multiple of 64
3 | index-size | `index_size` 160 .. 2^28, a multiple of 8
3 | index-size-above | `index_size` above 2^28
3 | index-digest | there is no falling back from a valid slot: without `index_sha256` the file is corrupt
3 | file-end | `file_end` ≥ `index_offset + index_size`, ≤ length of the file
3 | slot-reserved | reserved 88 .. 123 and 128 .. 4095
3 | slot-crc | `crc32` of bytes 0 .. 123
3 | one-apart | both valid: generations MUST differ by one (corrupt)
3 | damaged | damaged slot, the other valid: MUST report the file as recovered
3 | signature-policy | under a policy that demands signatures a reader MUST refuse a recovered file
3 | empty-beside | an empty slot beside a current root of a generation above 1 is damaged
3 | none-valid | no slot is valid: the file is corrupt
3 | checks-first | verification of a recovered file checks everything else first, and then fails
3 | truncated | truncation into the newest generation is recovered; with one generation it is corrupt
4.1 | index-magic | `magic` "LORAINDX"
4.1 | index-generation | `generation`: that of the root
4.1 | align-log2 | `align_log2` 6, 12 or 16
4.1 | n-sections | `n_sections` 8 .. 64
4.1 | section-ids | `id` ≥ 1, strictly ascending
4.1 | first-eight | sections 1 to 8 are always there, as the first eight entries
4.1 | record-size-zero | `record_size` ≥ 1
4.1 | sections-end | the last section's `ceil8` end is `index_size` exactly
4.1 | section-padding | the padding between sections is zero
4.1 | counts | every count MUST be checked against the bytes that are there before it is used
4.1 | pool-byte | the name pool has at least one byte
4.1 | one-adapter | there is at least one adapter
4.1 | record-size | another `record_size` for ids 1 to 8 is unsupported
4.1 | signature-size | another `record_size` for signatures makes the section an unknown one
4.1 | unknown-section | an unknown id below 2^31 is unsupported
4.1 | ignorable | an unknown id from 2^31 on is ignorable
4.1 | n-records-limit | `n_records` MUST NOT be above 2^16 for metadata and 2^24 for other sections
4.2 | pool-first | the first string is the empty string
4.2 | pool-nul | each string is ended by a NUL byte
4.2 | pool-order | strings are unique and in ascending order of their bytes
4.2 | pool-unused | a string that no record names is allowed, held to the rules of metadata values
4.2 | pool-reference | records name a string by its first byte; the byte before it MUST be a NUL
4.2 | name-length | names, targets, revisions and keys are at most 1024 bytes
4.2 | value-length | metadata values are at most 1 MiB
4.2 | utf8 | strings are valid UTF-8 without surrogates
4.2 | control | all strings but metadata values are without control characters
4.3 | adapter-unique | `name` is unique in the file
4.3 | adapter-name | an adapter name is 1 .. 255 bytes, not `.` or `..`, without `/`, `\\`, `#`, `=`
4.3 | adapter-flags | adapter `flags`: others than bit 0 are reserved
4.3 | base-structure | `base_structure` is zero without bit 0
4.3 | n-sites | `n_sites` 1 .. 2^24
4.3 | n-sites-above | `n_sites` above 2^24
4.3 | site-partition | the adapters partition the site table in order
4.3 | metadata-partition | the adapters partition the metadata table in order
4.3 | adapter-reserved | reserved 96 .. 103
4.4 | target | `target` is not empty
4.4 | kind-zero | `kind` ≥ 1
4.4 | unknown-kind | a site of an unknown kind is listed, verified and copied
4.4 | unknown-kind-values | unknown kinds: any orientation, scaling, rank of their ranges, any finite scale
4.4 | unknown-role | a site of a known kind with an unknown role keeps its rules, but no factor is required
4.4 | orientation | `orientation` 0 .. 2; only linear and experts have other than 0
4.4 | scaling-range | `scaling` 0 .. 3
4.4 | scaling-kind | `scaling` is 1 to 3 for low-rank kinds, 0 or 3 for kind 4, 0 for kinds 1 to 3
4.4 | rank | `rank` 1 .. 2^20 for low-rank kinds, else 0
4.4 | site-flags | site `flags`: others than bits 0 .. 3 are reserved
4.4 | alpha | `alpha` is finite; +0 when `scaling` is 0 or 3
4.4 | scale | `scale` is finite; 1 when `scaling` is 0
4.4 | scale-equals | `scale` MUST equal `alpha / rank` or `alpha / sqrt(rank)`
4.4 | doubled | doubled (exactly, times 2) when bit 3 is set; only on linear sites
4.4 | range-absent | `row_begin` .. `col_end` are 0 without their bit
4.4 | range-order | `row_end` > `row_begin` with bit 0; columns in the same way
4.4 | range-kind | only linear sites have ranges
4.4 | range-size | `row_end − row_begin` MUST be the number of B's rows, columns that of A's columns
4.4 | range-overlap | ranges of sites of one adapter on one target MUST NOT overlap
4.4 | n-factors | `n_factors` 1 .. 16
4.4 | base-sha256 | `base_sha256` is zero without bit 2
4.4 | site-order | sites in strictly ascending order of (target, kind, row_begin, col_begin)
4.4 | factor-partition | the sites partition the factor table in order
4.5 | role-zero | `role` ≥ 1
4.5 | factor-reserved | reserved 2 .. 3
4.5 | factor-tensor | `tensor` is an index into the tensor table
4.5 | role-order | the factors of a site have strictly ascending roles
4.5 | roles-exact | low-rank kinds have exactly A and B, kinds 1, 2, 4 value, kind 3 value and row_index
4.5 | roles-kind | of mid and magnitude what the table allows
4.5 | factor-dtype | A, B, mid and magnitude are F16, BF16, F32 or F64 (others are unsupported)
4.5 | linear-shape | linear: A `[r, in]`, B `[out, r]`
4.5 | embedding-shape | embedding: A `[r, vocab]`, B `[dim, r]`
4.5 | conv-shape | convolutions: A `[r, in, k…]`, B `[out, r, 1…]` of as many dimensions as A
4.5 | mid-shape | mid `[r, r, k…]`; A is `[r, in, 1…]` beside mid
4.5 | magnitude-shape | magnitude: of any shape, as many elements as B has rows
4.5 | experts-shape | r MUST divide `A.shape[0]`, the number of experts MUST divide `B.shape[0]`
4.5 | rows-shape | value of rows is `[n, rest…]`, row_index `[n]`
4.5 | row-index-dtype | row_index is of dtype I64
4.5 | row-index | row_index is from 0, strictly ascending
4.6 | tensor-offset | `offset` is a multiple of 2^`align_log2`, ≥ 12288
4.6 | stored-size | `stored_size` ≥ 1; `offset + stored_size` ≤ `file_end`
4.6 | decoded-size | `decoded_size` is exactly elements × bits ÷ 8
4.6 | decoded-limit | `decoded_size` ≤ 2^46
4.6 | overflow | products MUST be computed with overflow checks
4.6 | n-dims | `n_dims` 0 .. 8
4.6 | dimension | each dimension is 1 .. 2^48
4.6 | shape-rest | the rest of `shape` is zero
4.6 | tensor-reserved | reserved 27 .. 31
4.6 | tensor-digest | `sha256` of the decoded bytes
4.6 | tensor-unique | no two tensor records are the same in (dtype, n_dims, shape, sha256)
4.6 | tensor-order | tensor records are in order of their first use
4.6 | tensor-used | every tensor record is used
4.6 | tensor-overlap | no two ranges overlap
4.6 | unknown-dtype | an unknown `dtype` or `codec`: verification of the file ends as unsupported
4.6.1 | dtypes | the dtypes 1 .. 22
4.6.1 | whole-bytes | a tensor's bits MUST be a multiple of 8
4.7 | key | `key` is not empty
4.7 | metadata-flags | metadata `flags`: others than bit 0 are reserved
4.7 | metadata-reserved | reserved 12 .. 15
4.7 | key-order | the entries of an adapter have unique keys in ascending order of their bytes
4.7 | values-total | the values of all entries are together at most 2^28 bytes
4.7 | provenance | metadata MUST NOT hold the time, the host, a path or the version of the tool
4.8 | segment-offset | `offset` ≥ 12288
4.8 | segment-size | `size` ≥ 1; `offset + size` ≤ `file_end`
4.8 | segment-generation | `generation` is at most that of the root; 0 when unknown
4.8 | segment-kind | `kind` 1 or 2
4.8 | segment-reserved | reserved 28 .. 31
4.8 | segment-order | in ascending order of `offset`, without overlap
4.8 | cover | pages, live tensors, the live index and segments cover [0, `file_end`) without overlap
4.8 | padding-zero | what lies between two of them MUST be zero
4.8 | padding-short | what lies between two of them MUST be shorter than 2^`align_log2`
4.8 | end-of-last | `file_end` is the end of the last of them
4.9 | history-order | history is in descending order of generation, all below the current root's
4.9 | history-table | an entry obeys the table of section 3
4.9 | history-end | an entry's `file_end` is at most the `index_offset` of the entry before it
4.9 | history-segment | the index of an entry lies within one superseded segment
4.9 | history-slot | an entry of the generation just before is the record in the other slot, if that is valid
4.9 | history-digest | verification checks the `index_sha256` of each entry
4.9 | history-gaps | a history may leave out generations
4.9 | history-empty | an empty history goes without superseded segments
4.9 | rollback | rolling back writes a new generation whose index has the old content
4.10 | signature-adapter | `adapter` is an index into the adapter table
4.10 | signature-algorithm | `algorithm` 0 is corrupt, others than 1 are unknown and prove nothing
4.10 | signature-reserved | reserved 8 .. 31 and 128 .. 159
4.10 | signature-order | in ascending order of (`adapter`, `public_key`), each pair once
4.10 | signature-wrong | a wrong signature makes an adapter unsigned, not the file corrupt
5 | raw-size | raw: `stored_size` = `decoded_size`
5 | split-dtype | split is for F32, F16, BF16 and F64
5 | split-planes | rotated left by one, the topmost plane as zlib streams, the others raw
5 | block-log2 | `block_log2` is 18, or 19 .. 30 when a block is less than all elements
5 | split-reserved | reserved 4 .. 7
5 | split-ends | `end` strictly ascending, one per block
5 | split-blocks | the number of blocks is the elements divided by the block size, rounded up
5 | split-stream | every stream MUST decode to exactly its number of bytes and use all of its input
5 | split-stored | `stored_size` MUST be what these parts add up to
5 | split-larger | `stored_size` MUST NOT be above `decoded_size`
5 | split-allocation | a decoder allocates nothing that is not implied by `decoded_size`
6.1 | adapter-id | the adapter id is SHA-256 over the listed bytes
6.1 | id-same | re-packing with another codec, alignment, name or neighbour keeps the id
6.2 | structure-digest | `base_structure` is a SHA-256 over the base (any 32 bytes to a container)
"""

WITHOUT_VECTOR = {
    "compatible-writer": "about a writer; append to good-compatible-bit.lora must be refused",
    "index-size-above": "a file that breaks only this rule has more than 256 MiB",
    "signature-policy": "about a caller's policy; any recovered-*.lora will do",
    "n-records-limit": "at the limit a table has 1 MiB (metadata) to 3 GiB of records",
    "value-length": "a value at the limit is 1 MiB",
    "n-sites-above": "needs 2^24 site records, 1.7 GiB",
    "range-overlap": "the text leaves the check to binding (section 8)",
    "values-total": "2^28 bytes of values need a value of 1 MiB, or a MiB of records",
    "provenance": "about a writer; no reader can see it",
    "split-allocation": "about a reader's memory, not about bytes",
}


# ----------------------------------------------------------------------------------------------------------
# Part 3: the vectors
# ----------------------------------------------------------------------------------------------------------

VERDICTS = {"good": "good", "bad": "corrupt", "unsupported": "unsupported", "recovered": "recovered",
            "not-lora": "not a lora file"}
VECTORS = []


class Vector:
    """`make` returns a File or bytes and, when a field is to blame, the offset of that field."""

    def __init__(self, name, section, sentence, rules, make, first):
        self.name, self.section, self.sentence, self.first = name, section, sentence, first
        self.rules = rules.split()
        self.verdict = next(VERDICTS[word] for word in VERDICTS if name.startswith(word + "-"))
        made = make()
        file, self.offset = made if isinstance(made, tuple) else (made, None)
        self.data = file if isinstance(file, bytes) else file.bytes()


def vector(name, section, rules, sentence, make):
    VECTORS.append((name, section, sentence, rules, make, True))


def second(name, section, rules, sentence, make):
    """One more vector of a rule that has one, or a large one: only `--all` writes it."""
    VECTORS.append((name, section, sentence, rules, make, False))


def change(file, table, item, **fields):
    """Set fields of a record; sealing will not touch them."""
    record = getattr(file, table)[item]
    for name, value in fields.items():
        setattr(record, name, value)
        record.held.add(name)
    return file


def bend(file, table, item, **fields):
    """Set fields of a record, the first of which is to blame."""
    return blame(change(file, table, item, **fields), table, item, next(iter(fields)))


def blame(file, table, item, field, index=0):
    return file, getattr(file, table)[item].where(field, index)


def poke(file, at, data):
    """Change bytes that are no field of a record."""
    file.pokes.append((at, data))
    return file, at


def moved(file, **attributes):
    """Set attributes of a File (its sections, slots, tail ...) and give everything its place again."""
    for name, value in attributes.items():
        setattr(file, name, value)
    file.place()
    return file


ONE, TWO, THREE = f32(1, 1, start=1.0), f32(1, 1, start=2.0), f32(1, 1, start=3.0)


def linear(target="w", a=ONE, b=TWO, **fields):
    return Site(target, LINEAR, [(A, a), (B, b)], **fields)


def low_rank(kind, *factors, **fields):
    """A site "w" with factors A, B and further (role, tensor)s."""
    pairs = [f if isinstance(f, tuple) else (role, f) for role, f in enumerate(factors, A)]
    return Site("w", kind, pairs, **fields)


def values(kind, value=ONE, target="w", **fields):
    return Site(target, kind, [(VALUE, value)], **fields)


def rows(value=f32(2, 3), index=tensor("I64", [2], 0, 5)):
    return Site("w", ROWS, [(VALUE, value), (ROW_INDEX, index)])


def free(kind=LINEAR, **fields):
    """A site with one factor of an unknown role: no factor is required of it, and no shape."""
    return Site("w", kind, [(UNKNOWN_ROLE, ONE)], **fields)


def one(*sites, **options):
    return File(Adapter("a", list(sites)), **options)


def smallest(**options):
    return one(linear(), **options)


def two_adapters():
    return File(Adapter("a", [linear()]), Adapter("b", [linear(b=THREE)]))


def with_metadata(*entries, **options):
    return File(Adapter("a", [linear()], entries, **options))


def two_generations(**options):
    """Generation 2 has another B: the first index and B are superseded, A is still live."""
    return one(linear(b=THREE), after=smallest(), **options)


def three_generations(**options):
    return one(linear("v"), after=two_generations(), **options)


# --- section 1, and files as a whole ---

vector("good-smallest", "10", "any-order adapter-id", "The smallest file of section 10, byte for byte.",
       smallest)
vector("good-index-last", "1", "any-order", "The tensor data comes before the index.",
       lambda: smallest(index_last=True))
vector("good-bytes-after-end", "1", "after-end", "Behind `file_end` are bytes of an interrupted append.",
       lambda: moved(smallest(), tail=b"an append began here"))
vector("good-two-generations", "1", "append index-digest history-slot history-digest",
       "A file was appended to once.", two_generations)
vector("good-three-generations", "3", "append one-apart history-order history-segment",
       "A file was appended to twice; the current root is in slot 0 again.", three_generations)
vector("good-rollback", "4.9", "rollback",
       "Generation 3 has the content of generation 1 and shares its tensors.",
       lambda: smallest(after=two_generations()))
vector("good-dead-bytes", "4.8", "segment-kind segment-generation",
       "What an interrupted append left is a dead segment of unknown generation.",
       lambda: two_generations(dead=b"an append broke off here"))

# --- section 2: header page ---

vector("not-lora-empty", "2", "magic", "The file is empty.", lambda: (b"", 0))
vector("not-lora-short", "2", "magic header-order", "The file ends after 11 bytes of `magic`.",
       lambda: (MAGIC[:11], 0))
vector("not-lora-text-mode", "2", "magic", "A transfer in text mode made LF of the CR LF in `magic`.",
       lambda: (smallest().bytes().replace(b"\r\n", b"\n"), 0))
vector("bad-length-12287", "2", "short", "The file ends one byte before the end of slot 1.",
       lambda: smallest().bytes()[:FIRST - 1])
vector("bad-magic-only", "2", "short header-order", "The file is `magic` and nothing more.", lambda: MAGIC)
vector("bad-header-crc", "2", "header-crc", "`crc32` of the header page is wrong.",
       lambda: bend(smallest(), "header", 0, crc32=0))
second("bad-header-crc-version", "2", "header-order",
       "`crc32` is wrong and the version unknown: `crc32` is first.",
       lambda: bend(smallest(), "header", 0, crc32=0, version_major=9))
vector("unsupported-major", "2", "version", "`version_major` is 2.",
       lambda: bend(smallest(), "header", 0, version_major=2))
second("unsupported-major-zero", "2", "version", "`version_major` is 0: drafts of the format are not read.",
       lambda: bend(smallest(), "header", 0, version_major=0, version_minor=1))
vector("good-minor", "2", "version", "`version_minor` is 7: what later minor versions add is announced elsewhere.",
       lambda: bend(smallest(), "header", 0, version_minor=7))
second("unsupported-version-reserved", "2", "header-order",
       "The version is unknown and reserved bytes are not zero: the version is first.",
       lambda: bend(smallest(), "header", 0, version_major=2, reserved_16=b"\1" * 12))
second("bad-header-reserved", "2", "header-reserved reserved", "A reserved byte at 16 is not zero.",
       lambda: bend(smallest(), "header", 0, reserved_16=b"\1" + bytes(11)))
vector("bad-header-page", "2", "header-reserved reserved", "The last byte of the header page is not zero.",
       lambda: bend(smallest(), "header", 0, reserved_32=bytes(4063) + b"\1"))

# --- section 3: root slots; one slot, so that a damaged one leaves none ---

GENERATION, CRC32 = 8, 124  # fields of a slot that is given as bytes

vector("bad-slot-magic", "3", "slot-magic none-valid", "`magic` of the only slot is wrong.",
       lambda: bend(smallest(), "root", 0, magic=b"LORAROOF"))
vector("bad-slot-crc", "3", "slot-crc", "`crc32` of the only slot is wrong.",
       lambda: bend(smallest(), "root", 0, crc32=0))
second("bad-generation-zero", "3", "generation-range", "Slot 1 holds generation 0, which is even.",
       lambda: blame(smallest(generation=0), "root", 0, "generation"))
vector("bad-generation-2-63", "3", "generation-range", "Slot 1 holds generation 2^63.",
       lambda: blame(smallest(generation=2 ** 63), "root", 0, "generation"))
vector("good-generation-limit", "3", "generation-range", "The current generation is 2^63−1.",
       lambda: one(linear(b=THREE), after=smallest(generation=2 ** 63 - 2)))
vector("bad-generation-parity", "3", "generation-parity", "Slot 0 holds generation 2.",
       lambda: bend(change(smallest(), "index", 0, generation=2), "root", 0, generation=2))
vector("unsupported-incompatible-bit", "3", "incompatible", "An `incompatible` bit is set.",
       lambda: bend(smallest(), "root", 0, incompatible=1 << 63))
second("good-incompatible-old-root", "3", "incompatible",
       "An `incompatible` bit is set in the slot of the older generation, which is not the current root.",
       lambda: change(two_generations(history=()), "old_root", 0, incompatible=1))
vector("good-compatible-bit", "3", "compatible", "A `compatible` bit is set.",
       lambda: change(smallest(), "root", 0, compatible=1))
second("bad-index-offset-low", "3", "index-offset", "`index_offset` is 12224.",
       lambda: bend(smallest(), "root", 0, index_offset=12224))
vector("bad-index-offset-aligned", "3", "index-offset", "The index is at 12320, no multiple of 64.",
       lambda: blame(smallest(index_gap=32), "root", 0, "index_offset"))
vector("bad-index-size-152", "3", "index-size", "`index_size` is 152.",
       lambda: bend(smallest(), "root", 0, index_size=152))
second("bad-index-size-aligned", "3", "index-size", "`index_size` is 4 more than a multiple of 8.",
       lambda: bend(smallest(), "root", 0, index_size=0x284))
vector("bad-file-end-low", "3", "file-end", "`file_end` is inside the index.",
       lambda: bend(smallest(), "root", 0, file_end=FIRST + 0x27F))
vector("bad-truncated", "3", "truncated file-end none-valid",
       "The last byte of a file with one generation is cut off.",
       lambda: blame(moved(smallest(), cut=1), "root", 0, "file_end"))
second("bad-slot-reserved-88", "3", "slot-reserved reserved",
       "A reserved byte at 88 of the only slot is not zero.",
       lambda: bend(smallest(), "root", 0, reserved_88=b"\1" + bytes(35)))
vector("bad-slot-reserved-page", "3", "slot-reserved reserved",
       "The last byte of the only slot's page is not zero.",
       lambda: bend(smallest(), "root", 0, reserved_128=bytes(3967) + b"\1"))
vector("bad-slots-empty", "3", "none-valid", "Both slots are empty.",
       lambda: (moved(smallest(), slots=[None, None]), SLOTS[0]))
second("bad-slots-damaged", "3", "none-valid", "Both slots are damaged.",
       lambda: (moved(two_generations(), slots=[b"LORAROOT", b"LORAROOT"]), SLOTS[0] + CRC32))
vector("bad-generations-apart", "3", "one-apart", "The slots hold the generations 1 and 4.",
       lambda: blame(two_generations(generation=4), "root", 0, "generation"))
vector("bad-index-digest", "3", "index-digest", "`index_sha256` is not that of the index.",
       lambda: bend(smallest(), "root", 0, index_sha256=bytes(32)))
vector("bad-index-digest-newest", "3", "index-digest",
       "The newest index is damaged: no reader falls back to the older generation.",
       lambda: bend(two_generations(), "root", 0, index_sha256=bytes(32)))


def slots(file, slot_0, slot_1):
    """Replace slots by bytes, None (empty) or, for ..., nothing."""
    new = [old if slot is ... else slot for slot, old in zip((slot_0, slot_1), file.slots)]
    return moved(file, slots=new)


vector("recovered-torn-slot", "3", "damaged",
       "Of the newest root only 64 bytes were written; the older one holds.",
       lambda: blame(slots(two_generations(), ..., two_generations().root[0].pack()[:64]),
                     "root", 0, "crc32"))
vector("recovered-truncated", "3", "truncated", "The last byte of the newest generation is cut off.",
       lambda: blame(moved(two_generations(), cut=1), "root", 0, "file_end"))
second("recovered-older-slot", "3", "damaged",
       "The slot of the older generation is damaged, the newest one holds.",
       lambda: (slots(two_generations(), b"\1", ...), SLOTS[0]))
second("recovered-first-append", "3", "damaged",
       "Slot 1 beside generation 1 is damaged: a first append broke off.",
       lambda: (slots(smallest(), ..., b"LORAROOT"), SLOTS[1] + CRC32))
vector("recovered-empty-slot-0", "3", "empty-beside", "Slot 0 is empty beside generation 2.",
       lambda: (slots(two_generations(), None, ...), SLOTS[0]))
second("recovered-empty-slot-1", "3", "empty-beside", "Slot 1 is empty beside generation 3.",
       lambda: (slots(three_generations(), ..., None), SLOTS[1]))
second("recovered-wrong-slot", "3", "generation-parity damaged",
       "Slot 1 holds a copy of slot 0, generation 1.",
       lambda: (slots(smallest(), ..., smallest().root[0].pack()), SLOTS[1] + GENERATION))
second("recovered-slot-reserved", "3", "slot-reserved reserved damaged",
       "A reserved byte of the newest slot is not zero.",
       lambda: bend(two_generations(), "root", 0, reserved_128=b"\1" + bytes(3967)))
vector("bad-recovered-and-corrupt", "3", "checks-first", "A slot is damaged, and a tensor too.",
       lambda: bend(slots(smallest(), ..., b"\1"), "tensors", 1, sha256=bytes(32)))
second("unsupported-recovered", "3", "checks-first",
       "A slot is damaged, and the other has an `incompatible` bit.",
       lambda: bend(slots(two_generations(), b"\1", ...), "root", 0, incompatible=1))

# --- section 4.1: index header and section table ---


def more_sections(*ids, **options):
    return smallest(sections=[Section(id_, 1, b"") for id_ in ids], **options)


def reorder(file, *order):
    """Put the sections into another order, or repeat or leave out some."""
    return moved(file, sections=[file.sections[i] for i in order])


def wide(file, section, record_size):
    """Records of another size, as a later version may have them."""
    file.sections[section - 1].record_size = record_size
    return moved(file)


def no_adapter():
    """The least index: no record in any section but the name pool's one byte."""
    file = File()
    assert file.root[0].index_size == 160
    return file


def longer_index():
    """The 8 bytes are padding of a file whose first tensor does not follow the index at once."""
    file = with_metadata(("k", "v", 0))
    return bend(file, "root", 0, index_size=file.index_size + 8)


vector("bad-index-magic", "4.1", "index-magic", "`magic` of the index is wrong.",
       lambda: bend(smallest(), "index", 0, magic=b"LORAINDY"))
vector("bad-index-generation", "4.1", "index-generation",
       "`generation` of the index is not that of its root.",
       lambda: bend(smallest(), "index", 0, generation=3))
vector("bad-align-7", "4.1", "align-log2", "`align_log2` is 7, and tensor data starts at multiples of 128.",
       lambda: blame(smallest(align_log2=7), "index", 0, "align_log2"))
vector("good-align-12", "4.1", "align-log2 padding-short id-same",
       "`align_log2` is 12; 64 bytes before the index are padding; the adapter id is the smallest file's.",
       lambda: smallest(align_log2=12, index_gap=64))
vector("good-align-16", "4.1", "align-log2 id-same", "`align_log2` is 16.",
       lambda: one(values(SAVED), align_log2=16))
second("bad-n-sections-7", "4.1", "n-sections", "There is no section table entry for the history.",
       lambda: blame(reorder(smallest(), *range(7)), "index", 0, "n_sections"))
vector("good-n-sections-64", "4.1", "n-sections ignorable", "There are 64 sections, 56 of them ignorable.",
       lambda: more_sections(*range(IGNORABLE + 2, IGNORABLE + 58)))
vector("bad-n-sections-65", "4.1", "n-sections", "There are 65 sections, 57 of them ignorable.",
       lambda: blame(more_sections(*range(IGNORABLE + 2, IGNORABLE + 59)), "index", 0, "n_sections"))
vector("bad-section-id-zero", "4.1", "section-ids first-eight", "The first section has the id 0.",
       lambda: blame(more_sections(0), "section_table", 0, "id"))
second("bad-section-missing", "4.1", "first-eight",
       "The eighth section is not the history but an ignorable one.",
       lambda: blame(reorder(more_sections(IGNORABLE), 0, 1, 2, 3, 4, 5, 6, 8), "section_table", 7, "id"))
second("bad-section-order", "4.1", "section-ids first-eight", "Sections 7 and 8 have changed places.",
       lambda: blame(reorder(smallest(), 0, 1, 2, 3, 4, 5, 7, 6), "section_table", 6, "id"))
vector("bad-section-twice", "4.1", "section-ids", "An ignorable section is there twice.",
       lambda: blame(reorder(more_sections(IGNORABLE), *range(9), 8), "section_table", 9, "id"))
vector("unsupported-section", "4.1", "unknown-section", "Section 9 is unknown and not ignorable.",
       lambda: blame(more_sections(9), "section_table", 8, "id"))
second("unsupported-section-limit", "4.1", "unknown-section", "Section 2^31−1 is unknown and not ignorable.",
       lambda: blame(more_sections(IGNORABLE - 1), "section_table", 8, "id"))
vector("good-ignorable-section", "4.1", "ignorable pool-unused",
       "Two unknown sections, the least and the greatest ignorable id, one of which names a string.",
       lambda: smallest(strings=["note"], sections=[Section(IGNORABLE, 4, struct.pack("<I", 3)),
                                                   Section(2 ** 32 - 1, 3, b"abcdef")]))
vector("bad-record-size-zero", "4.1", "record-size-zero", "An ignorable section has records of 0 bytes.",
       lambda: bend(more_sections(IGNORABLE), "section_table", 8, record_size=0))
vector("unsupported-record-size", "4.1", "record-size", "Site records have 112 bytes.",
       lambda: blame(wide(smallest(), SITES, 112), "section_table", SITES - 1, "record_size"))
second("unsupported-record-size-overrun", "4.1", "record-size",
       "Site records have another size, by which the index would be too short.",
       lambda: bend(smallest(), "section_table", SITES - 1, record_size=2 ** 20))
second("bad-section-count", "4.1", "counts sections-end", "The history has a record that is not there.",
       lambda: bend(smallest(), "section_table", HISTORY - 1, n_records=1))
vector("bad-section-count-overflow", "4.1", "counts overflow",
       "An ignorable section has 2^61 records of 8 bytes, which is 0 modulo 2^64.",
       lambda: bend(smallest(sections=[Section(IGNORABLE, 8, b"")]), "section_table", 8, n_records=1 << 61))
vector("bad-index-longer", "4.1", "sections-end", "8 zero bytes of the index follow the last section.",
       longer_index)
vector("bad-section-padding", "4.1", "section-padding", "The padding after the name pool is not zero.",
       lambda: poke(smallest(), FIRST + 24 + 128 + 5, b"\1"))
vector("bad-pool-empty", "4.1", "pool-byte", "The name pool has no byte.",
       lambda: blame(with_pool(b"", 0, 0), "section_table", 0, "n_records"))
vector("bad-no-adapter", "4.1", "one-adapter index-size",
       "There is no adapter: an index of 160 bytes, the least.",
       lambda: blame(no_adapter(), "section_table", ADAPTERS - 1, "n_records"))

# --- section 4.2: name pool ---


def with_pool(pool, name, target):
    """The smallest file with another name pool."""
    file = smallest()
    file.sections[0].content = pool
    return moved(change(change(file, "adapters", 0, name=name), "sites", 0, target=target))


def pool_fault(pool, at, name=1, target=3):
    file = with_pool(pool, name, target)
    return file, file.sections[0].at + at


def in_pool(file, string):
    return file, file.sections[0].at + file.string(string)


vector("bad-pool-first", "4.2", "pool-first", "The first string of the pool is not the empty one.",
       lambda: pool_fault(b"A\0a\0w\0", 0, name=2, target=4))
vector("bad-pool-nul", "4.2", "pool-nul", "The last string of the pool has no NUL.",
       lambda: pool_fault(b"\0a\0w", 3))
second("bad-pool-nul-long", "4.2", "pool-nul", "The last string of the pool, of two bytes, has no NUL.",
       lambda: pool_fault(b"\0a\0w\0xy", 5))
second("bad-pool-twice", "4.2", "pool-order", "A string is twice in the pool.",
       lambda: pool_fault(b"\0a\0w\0w\0", 5))
second("bad-pool-empty-twice", "4.2", "pool-order", "The empty string is twice in the pool.",
       lambda: pool_fault(b"\0\0a\0w\0", 1, name=2, target=4))
vector("bad-pool-order", "4.2", "pool-order", "The strings of the pool are in descending order.",
       lambda: pool_fault(b"\0w\0a\0", 3, name=3, target=1))
vector("good-pool-order", "4.2", "pool-order utf8 control",
       "A string follows its prefix, bytes above 127 follow those below, U+0080 is no control here.",
       lambda: one(*map(linear, ("w", "wa", "w\x80", "z", "é"))))
vector("good-pool-unused", "4.2", "pool-unused",
       "No record names a string; it has control characters, as values may.",
       lambda: smallest(strings=["unused\n\x7f"]))
second("bad-pool-unused", "4.2", "pool-unused utf8", "A string that no record names is not UTF-8.",
       lambda: in_pool(smallest(strings=[b"\xff"]), b"\xff"))
second("bad-pool-utf8-inside", "4.2", "utf8", "A string is not UTF-8 from its second byte on.",
       lambda: in_pool(smallest(strings=[b"x\xff"]), b"x\xff"))
vector("bad-name-inside", "4.2", "pool-reference", "A `target` begins inside a string.",
       lambda: bend(one(linear("ww")), "sites", 0, target=4))
second("bad-name-beyond", "4.2", "pool-reference", "A `target` is the offset of the pool's end.",
       lambda: bend(smallest(), "sites", 0, target=5))
vector("good-name-limits", "4.2", "name-length adapter-name",
       "An adapter name of 255 bytes, target, base name, revision and metadata key of 1024.",
       lambda: File(Adapter("a" * 255, [linear("t" * 1024)], [("k" * 1024, "v", 0)], "n" * 1024, "r" * 1024)))
vector("bad-target-1025", "4.2", "name-length", "A target has 1025 bytes.",
       lambda: blame(one(linear("t" * 1025)), "sites", 0, "target"))
second("bad-base-name-1025", "4.2", "name-length", "A base name has 1025 bytes.",
       lambda: blame(with_metadata(base_name="n" * 1025), "adapters", 0, "base_name"))
second("bad-base-revision-1025", "4.2", "name-length", "A base revision has 1025 bytes.",
       lambda: blame(with_metadata(base_revision="r" * 1025), "adapters", 0, "base_revision"))
second("bad-key-1025", "4.2", "name-length", "A metadata key has 1025 bytes.",
       lambda: blame(with_metadata(("k" * 1025, "v", 0)), "metadata", 0, "key"))
vector("bad-utf8-surrogate", "4.2", "utf8", "A metadata value has the surrogate U+D800.",
       lambda: in_pool(with_metadata(("k", b"\xed\xa0\x80", 0)), b"\xed\xa0\x80"))
second("bad-utf8-overlong", "4.2", "utf8", "A target has a slash as two bytes.",
       lambda: in_pool(one(linear(b"\xc0\xaf")), b"\xc0\xaf"))
second("bad-utf8-cut", "4.2", "utf8", "A metadata value ends within a character.",
       lambda: in_pool(with_metadata(("k", b"\xe2\x82", 0)), b"\xe2\x82"))
second("bad-utf8-above", "4.2", "utf8", "A metadata value has the code point 0x110000.",
       lambda: in_pool(with_metadata(("k", b"\xf4\x90\x80\x80", 0)), b"\xf4\x90\x80\x80"))
vector("bad-control-target", "4.2", "control", "A target has U+001F.",
       lambda: blame(one(linear("w\x1f")), "sites", 0, "target"))
second("bad-control-key", "4.2", "control", "A metadata key has U+007F.",
       lambda: blame(with_metadata(("k\x7f", "v", 0)), "metadata", 0, "key"))
second("bad-control-base", "4.2", "control", "A base name has a line end.",
       lambda: blame(with_metadata(base_name="n\n"), "adapters", 0, "base_name"))

# --- section 4.3: adapters ---



def adapter_name(add, word, name, what):
    add("bad-adapter-name-" + word, "4.3", "adapter-name", f"An adapter name {what}.",
        lambda: blame(File(Adapter(name, [linear()])), "adapters", 0, "name"))


adapter_name(vector, "empty", "", "is empty")
adapter_name(vector, "256", "a" * 256, "has 256 bytes")
adapter_name(second, "dots", "..", "is `..`")
adapter_name(second, "slash", "a/b", "has a `/`")
adapter_name(second, "dot", ".", "is `.`")
adapter_name(second, "backslash", "a\\b", "has a `\\`")
adapter_name(second, "hash", "a#b", "has a `#`")
adapter_name(second, "equals", "a=b", "has a `=`")
adapter_name(second, "control", "a\tb", "has a control character")


def structured(sites, **fields):
    return File(Adapter("a", sites, base_name="base", base_revision="main", **fields))


vector("good-two-adapters", "4.3", "site-partition factor-partition tensor-order id-same adapter-unique",
       "Three adapters share tensors; two of them are the same but for the name and have one adapter id.",
       lambda: File(Adapter("a", [linear()]), Adapter("b", [linear(), linear("x")]),
                    Adapter("...", [linear()])))
vector("good-base", "4.3", "base-structure base-sha256 structure-digest adapter-flags",
       "Base name, revision, structure, and of a site `base_sha256` are present.",
       lambda: structured([linear(flags=BASE_SHA256, base_sha256=sha256(b"tensor"))], flags=1,
                          base_structure=sha256(b"structure")))
vector("bad-adapter-twice", "4.3", "adapter-unique", "Two adapters have the same name.",
       lambda: blame(File(Adapter("a", [linear()]), Adapter("a", [linear("x")])), "adapters", 1, "name"))
vector("bad-adapter-flags", "4.3", "adapter-flags reserved", "Bit 1 of an adapter's `flags` is set.",
       lambda: bend(smallest(), "adapters", 0, flags=2))
vector("bad-base-structure", "4.3", "base-structure", "`base_structure` is not zero without its bit.",
       lambda: blame(structured([linear()], base_structure=sha256(b"structure")),
                     "adapters", 0, "base_structure"))
vector("bad-n-sites-zero", "4.3", "n-sites", "An adapter has no site.",
       lambda: blame(File(Adapter("a", [linear()]), Adapter("b", [])), "adapters", 1, "n_sites"))
vector("bad-first-site", "4.3", "site-partition", "The first adapter does not begin with site 0.",
       lambda: bend(one(linear(), linear("x")), "adapters", 0, first_site=1, n_sites=1))
second("bad-first-site-next", "4.3", "site-partition", "The second adapter begins with the first one's site.",
       lambda: bend(two_adapters(), "adapters", 1, first_site=0, n_sites=2))
second("bad-n-sites-short", "4.3", "site-partition", "The last adapter leaves a site over.",
       lambda: bend(one(linear(), linear("x")), "adapters", 0, n_sites=1))
second("bad-n-sites-beyond", "4.3", "site-partition counts",
       "The last adapter has more sites than the table.",
       lambda: bend(smallest(), "adapters", 0, n_sites=2))
vector("bad-first-metadata", "4.3", "metadata-partition",
       "The first adapter does not begin with metadata entry 0.",
       lambda: bend(with_metadata(("k", "", 0), ("l", "", 0)), "adapters", 0, first_metadata=1, n_metadata=1))
second("bad-n-metadata", "4.3", "metadata-partition", "The last adapter leaves a metadata entry over.",
       lambda: bend(with_metadata(("k", "", 0), ("l", "", 0)), "adapters", 0, n_metadata=1))
vector("bad-adapter-reserved", "4.3", "adapter-reserved reserved",
       "A reserved byte of an adapter is not zero.",
       lambda: bend(smallest(), "adapters", 0, reserved_96=b"\1" + bytes(7)))

# --- section 4.4: sites ---


def explicit(make=linear, **fields):
    return one(make(**{"scaling": EXPLICIT, "alpha": 0.0, "scale": 0.5, **fields}))


def ranged(first=(0, 1), second=(1, 2), flags=ROW_RANGE, names=("row_begin", "row_end")):
    """Two linear sites on ranges of one tensor."""
    return one(*(linear(flags=flags, **dict(zip(names, bounds))) for bounds in (first, second)))


def good_linear():
    column = f32(2, 1)
    fused = [linear("qkv", b=column, flags=ROW_RANGE, row_begin=i, row_end=i + 2) for i in (0, 2)]
    part = linear("qkv.part", f32(1, 3), column, flags=ROW_RANGE | COLUMN_RANGE, row_begin=7, row_end=9,
                  col_begin=1, col_end=4)
    mixed = Site("z.dora", LINEAR, [(A, tensor("F16", [2, 3], 0.5)), (B, tensor("F64", [4, 2], -0.25)),
                                    (MAGNITUDE, tensor("BF16", [1, 4], 1.0, 2.0))], rank=2, scale=0.5)
    return one(linear("out_proj", flags=DOUBLED, scale=2.0), *fused, part, linear("w", orientation=1),
               linear("x", orientation=2), mixed)


def good_convolutions():
    def site(kind, kernel, mid, **fields):
        ones = [1] * len(kernel)
        factors = [(A, f32(2, 3, *(ones if mid else kernel))), (B, f32(4, 2, *ones))]
        factors += [(MID, f32(2, 2, *kernel))] if mid else [(MAGNITUDE, f32(*fields.pop("magnitude")))]
        return Site(f"conv{kind}{'.mid' * mid}", kind, factors, rank=2, scale=0.5)
    return one(site(CONV1D, (3,), False, magnitude=(4,)), site(CONV1D, (3,), True),
               site(CONV2D, (3, 2), False, magnitude=(1, 4, 1, 1)), site(CONV2D, (3, 2), True),
               site(CONV3D, (2, 1, 2), False, magnitude=(2, 2)), site(CONV3D, (2, 1, 2), True))


def good_scalings():
    return one(linear("a", rank=4, a=f32(4, 1), b=f32(1, 4), alpha=2.0, scale=0.5),
               linear("b", rank=2, a=f32(2, 1), b=f32(1, 2), scaling=ALPHA_SQRT_R, alpha=3.0,
                      scale=3 / math.sqrt(2)),
               linear("c", scaling=EXPLICIT, alpha=0.0, scale=-0.3),
               linear("d", alpha=0.0, scale=-0.0),
               linear("e", scaling=ALPHA_SQRT_R, alpha=0.3, scale=0.6, flags=DOUBLED),
               values(ADDITIVE, target="f", scaling=EXPLICIT, scale=0.25), values(ADDITIVE, target="g"))


vector("good-linear", "4.4", "orientation range-order range-size range-kind doubled linear-shape "
       "magnitude-shape factor-dtype site-order",
       "Linear sites: each orientation, doubled, row and column ranges, DoRA, factors of three dtypes.",
       good_linear)
vector("good-embedding", "4.4", "embedding-shape magnitude-shape", "Embedding sites, one with DoRA.",
       lambda: one(low_rank(EMBEDDING, f32(1, 5), f32(3, 1), (MAGNITUDE, f32(3)))))
vector("good-convolutions", "4.4", "conv-shape mid-shape magnitude-shape roles-kind",
       "Convolutions of 1, 2 and 3 dimensions, with mid and with DoRA.", good_convolutions)
vector("good-experts", "4.4", "experts-shape orientation", "Two experts, stored `in×out`.",
       lambda: one(low_rank(EXPERTS, f32(4, 3), f32(6, 2), rank=2, scale=0.5, orientation=1)))
vector("good-values", "4.4", "roles-exact rows-shape row-index site-order scaling-kind",
       "Replacement, saved, rows and additive sites; kinds on one target are in order.",
       lambda: one(values(REPLACEMENT, target="v"), values(SAVED, target="v"), rows(), values(ADDITIVE)))
vector("good-scalings", "4.4", "scaling-range scaling-kind scale-equals doubled alpha scale",
       "Every scaling, with `scale` negative, −0 and doubled.", good_scalings)
vector("bad-target-empty", "4.4", "target", "A target is the empty string.",
       lambda: blame(one(linear("")), "sites", 0, "target"))
vector("bad-kind-zero", "4.4", "kind-zero", "`kind` is 0.",
       lambda: blame(one(free(kind=0)), "sites", 0, "kind"))
vector("good-unknown-kind", "4.4", "unknown-kind unknown-kind-values rank",
       "Sites of kinds 11 and 65535; rank 2^20; a `scale` that is not `alpha / rank`.",
       lambda: one(free(UNKNOWN_KIND, orientation=2, scaling=ALPHA_R, rank=1 << 20, alpha=3.0, scale=5.0),
                   free(65535)))
vector("good-unknown-kind-scale", "4.4", "unknown-kind-values",
       "A site of an unknown kind without scaling has `scale` 2.",
       lambda: one(free(UNKNOWN_KIND, scale=2.0)))
vector("good-unknown-role", "4.4", "unknown-role rank roles-exact",
       "A linear site of rank 2^20 with nothing but a factor of role 16.",
       lambda: one(free(scaling=EXPLICIT, rank=1 << 20, alpha=0.0)))
vector("bad-unknown-role-rank", "4.4", "unknown-role rank",
       "A linear site of rank 2^20+1 with a factor of role 16.",
       lambda: blame(one(free(scaling=EXPLICIT, rank=(1 << 20) + 1, alpha=0.0)), "sites", 0, "rank"))
second("bad-unknown-kind-rank", "4.4", "unknown-kind-values", "A site of an unknown kind has rank 2^20+1.",
       lambda: blame(one(free(UNKNOWN_KIND, rank=(1 << 20) + 1)), "sites", 0, "rank"))
vector("bad-rank-zero", "4.4", "rank", "A linear site with a factor of role 16 has rank 0.",
       lambda: blame(one(free(scaling=EXPLICIT, rank=0, alpha=0.0)), "sites", 0, "rank"))
second("bad-rank-saved", "4.4", "rank", "A saved site has rank 1.",
       lambda: blame(one(values(SAVED, rank=1)), "sites", 0, "rank"))
vector("bad-orientation-3", "4.4", "orientation", "`orientation` is 3.",
       lambda: blame(one(linear(orientation=3)), "sites", 0, "orientation"))
second("bad-orientation-embedding", "4.4", "orientation", "An embedding has `orientation` 1.",
       lambda: blame(one(low_rank(EMBEDDING, ONE, TWO, orientation=1)), "sites", 0, "orientation"))
vector("bad-scaling-4", "4.4", "scaling-range", "`scaling` of an unknown kind is 4.",
       lambda: blame(one(free(UNKNOWN_KIND, scaling=4)), "sites", 0, "scaling"))
second("bad-scaling-linear", "4.4", "scaling-kind", "`scaling` of a linear site is 0.",
       lambda: blame(one(linear(scaling=NO_SCALING, alpha=0.0)), "sites", 0, "scaling"))
vector("bad-scaling-additive", "4.4", "scaling-kind", "`scaling` of an additive site is 1.",
       lambda: blame(one(values(ADDITIVE, scaling=ALPHA_R)), "sites", 0, "scaling"))
second("bad-scaling-saved", "4.4", "scaling-kind", "`scaling` of a saved site is 3.",
       lambda: blame(one(values(SAVED, scaling=EXPLICIT)), "sites", 0, "scaling"))
vector("bad-site-flags", "4.4", "site-flags reserved", "Bit 4 of a site's `flags` is set.",
       lambda: blame(one(linear(flags=16)), "sites", 0, "flags"))
second("bad-alpha-infinite", "4.4", "alpha", "`alpha` is infinite, on a site of an unknown kind.",
       lambda: blame(one(free(UNKNOWN_KIND, scaling=ALPHA_R, alpha=math.inf)), "sites", 0, "alpha"))
vector("bad-alpha-explicit", "4.4", "alpha", "`alpha` is 1 while `scaling` is 3.",
       lambda: blame(explicit(alpha=1.0), "sites", 0, "alpha"))
vector("bad-alpha-minus-zero", "4.4", "alpha", "`alpha` is −0 while `scaling` is 3.",
       lambda: blame(explicit(alpha=-0.0), "sites", 0, "alpha"))
vector("bad-scale-nan", "4.4", "scale", "An explicit `scale` is not a number.",
       lambda: blame(explicit(scale=math.nan), "sites", 0, "scale"))
second("bad-scale-none", "4.4", "scale", "`scale` of a saved site is 2.",
       lambda: blame(one(values(SAVED, scale=2.0)), "sites", 0, "scale"))
vector("bad-scale-alpha", "4.4", "scale-equals",
       "`scale` is one unit in the last place above `alpha / rank`.",
       lambda: blame(one(linear(scale=1 + 2 ** -52)), "sites", 0, "scale"))
second("bad-scale-sqrt", "4.4", "scale-equals", "`scale` is `alpha / rank` while `scaling` is 2.",
       lambda: blame(one(linear(rank=4, a=f32(4, 1), b=f32(1, 4), scaling=ALPHA_SQRT_R, alpha=4.0)),
                     "sites", 0, "scale"))
vector("bad-scale-doubled", "4.4", "doubled", "`scale` of a doubled site is not doubled.",
       lambda: blame(one(linear(flags=DOUBLED)), "sites", 0, "scale"))
vector("bad-doubled-embedding", "4.4", "doubled", "An embedding is marked as doubled.",
       lambda: blame(one(low_rank(EMBEDDING, ONE, TWO, flags=DOUBLED, scale=2.0)), "sites", 0, "flags"))
vector("bad-range-embedding", "4.4", "range-kind", "An embedding has a row range.",
       lambda: blame(one(low_rank(EMBEDDING, ONE, TWO, flags=ROW_RANGE, row_end=1)), "sites", 0, "flags"))
vector("bad-row-without-bit", "4.4", "range-absent", "`row_end` is 1 without its bit.",
       lambda: blame(one(linear(row_end=1)), "sites", 0, "row_end"))
second("bad-column-without-bit", "4.4", "range-absent", "`col_begin` is 1 without its bit.",
       lambda: blame(one(linear(col_begin=1)), "sites", 0, "col_begin"))
vector("bad-row-range-empty", "4.4", "range-order",
       "`row_end` is `row_begin`, on a site with a factor of role 16.",
       lambda: blame(one(free(flags=ROW_RANGE, row_begin=1, row_end=1)), "sites", 0, "row_end"))
second("bad-column-range-empty", "4.4", "range-order", "`col_end` is below `col_begin`, likewise.",
       lambda: blame(one(free(flags=COLUMN_RANGE, col_begin=2, col_end=1)), "sites", 0, "col_end"))
vector("bad-row-range-size", "4.4", "range-size", "A range of two rows, where B has one.",
       lambda: blame(one(linear(flags=ROW_RANGE, row_end=2)), "sites", 0, "row_end"))
second("bad-column-range-size", "4.4", "range-size", "A range of two columns, where A has one.",
       lambda: blame(one(linear(flags=COLUMN_RANGE, col_begin=1, col_end=3)), "sites", 0, "col_end"))
vector("bad-base-sha256", "4.4", "base-sha256", "`base_sha256` is not zero without its bit.",
       lambda: blame(one(linear(base_sha256=sha256(b"tensor"))), "sites", 0, "base_sha256"))
vector("bad-site-order-target", "4.4", "site-order", "Targets are in descending order.",
       lambda: blame(one(linear("x"), linear("w")), "sites", 1, "target"))
second("bad-site-order-kind", "4.4", "site-order", "Kinds on one target are in descending order.",
       lambda: blame(one(linear(), values(ADDITIVE)), "sites", 1, "kind"))
second("bad-site-order-row", "4.4", "site-order", "Row ranges on one target are in descending order.",
       lambda: blame(ranged((256, 257), (1, 2)), "sites", 1, "row_begin"))
second("bad-site-order-column", "4.4", "site-order", "Column ranges on one target are in descending order.",
       lambda: blame(ranged((256, 257), (1, 2), COLUMN_RANGE, ("col_begin", "col_end")),
                     "sites", 1, "col_begin"))
second("bad-site-twice", "4.4", "site-order", "Two sites have the same target, kind and range.",
       lambda: blame(one(linear(), linear()), "sites", 1, "target"))
second("bad-n-factors-zero", "4.4", "n-factors", "A site of an unknown kind has no factor.",
       lambda: blame(one(linear(), Site("x", UNKNOWN_KIND, [])), "sites", 1, "n_factors"))
vector("good-n-factors-16", "4.4", "n-factors unknown-role", "A site of an unknown kind has 16 factors.",
       lambda: one(Site("w", UNKNOWN_KIND, [(role, ONE) for role in range(1, 17)])))
vector("bad-n-factors-17", "4.4", "n-factors", "A site of an unknown kind has 17 factors.",
       lambda: blame(one(Site("w", UNKNOWN_KIND, [(role, ONE) for role in range(1, 18)])),
                     "sites", 0, "n_factors"))
vector("bad-first-factor", "4.4", "factor-partition", "The second site begins with a factor of the first.",
       lambda: bend(one(linear(), values(SAVED, TWO, "x")), "sites", 1, first_factor=1, n_factors=2))
second("bad-n-factors-beyond", "4.4", "factor-partition counts",
       "The last site has more factors than the table.",
       lambda: bend(one(free()), "sites", 0, n_factors=2))

# --- section 4.5: factors ---


def wrong_shape(file, item):
    """The shape of tensor `item` does not fit its role."""
    return blame(file, "tensors", item, "shape")


vector("bad-role-zero", "4.5", "role-zero", "`role` is 0.",
       lambda: blame(one(Site("w", UNKNOWN_KIND, [(0, ONE)])), "factors", 0, "role"))
vector("bad-factor-reserved", "4.5", "factor-reserved reserved", "A reserved byte of a factor is not zero.",
       lambda: bend(smallest(), "factors", 0, reserved_2=1))
vector("bad-factor-tensor", "4.5", "factor-tensor", "`tensor` is the number of tensors.",
       lambda: bend(one(Site("w", UNKNOWN_KIND, [(1, ONE), (2, TWO), (3, ONE)])), "factors", 2, tensor=2))
vector("bad-role-order", "4.5", "role-order", "B comes before A.",
       lambda: blame(one(Site("w", LINEAR, [(B, TWO), (A, ONE)])), "factors", 1, "role"))
second("bad-role-twice", "4.5", "role-order", "A site of an unknown kind has role 1 twice.",
       lambda: blame(one(Site("w", UNKNOWN_KIND, [(1, ONE), (1, TWO)])), "factors", 1, "role"))
vector("bad-role-missing", "4.5", "roles-exact", "A linear site has no B.",
       lambda: blame(one(Site("w", LINEAR, [(A, ONE)])), "sites", 0, "n_factors"))
second("bad-rows-index-missing", "4.5", "roles-exact", "A rows site has no row_index.",
       lambda: blame(one(values(ROWS)), "sites", 0, "n_factors"))
second("bad-role-value-linear", "4.5", "roles-exact", "A linear site has a value beside A and B.",
       lambda: blame(one(low_rank(LINEAR, ONE, TWO, (VALUE, ONE))), "factors", 2, "role"))
second("bad-role-index-saved", "4.5", "roles-exact", "A saved site has a row_index.",
       lambda: blame(one(Site("w", SAVED, [(VALUE, ONE), (ROW_INDEX, tensor("I64", [1], 0))])),
                     "factors", 1, "role"))
vector("bad-role-mid-linear", "4.5", "roles-kind", "A linear site has a mid.",
       lambda: blame(one(low_rank(LINEAR, ONE, TWO, (MID, THREE))), "factors", 2, "role"))
second("bad-role-magnitude-experts", "4.5", "roles-kind", "An experts site has a magnitude.",
       lambda: blame(one(low_rank(EXPERTS, ONE, TWO, (MAGNITUDE, THREE))), "factors", 2, "role"))
vector("unsupported-factor-dtype", "4.5", "factor-dtype", "A is of dtype I32.",
       lambda: blame(one(linear(a=tensor("I32", [1, 1], 1))), "tensors", 0, "dtype"))
second("unsupported-magnitude-dtype", "4.5", "factor-dtype", "The magnitude is of dtype F8_E4M3.",
       lambda: blame(one(low_rank(LINEAR, ONE, TWO, (MAGNITUDE, Tensor("F8_E4M3", [1], b"\x38")))),
                     "tensors", 2, "dtype"))
vector("bad-linear-a-rank", "4.5", "linear-shape", "A of a linear site of rank 1 is `[2, 1]`.",
       lambda: wrong_shape(one(linear(a=f32(2, 1))), 0))
second("bad-linear-a-dims", "4.5", "linear-shape", "A of a linear site has three dimensions.",
       lambda: wrong_shape(one(linear(a=f32(1, 1, 1))), 0))
second("bad-linear-b-rank", "4.5", "linear-shape", "B of a linear site of rank 1 is `[1, 2]`.",
       lambda: wrong_shape(one(linear(b=f32(1, 2))), 1))
vector("bad-embedding-shape", "4.5", "embedding-shape",
       "A and B of an embedding of rank 2 are not transposed.",
       lambda: wrong_shape(one(low_rank(EMBEDDING, f32(5, 2), f32(2, 3), rank=2, scale=0.5)), 0))
second("bad-conv-a-dims", "4.5", "conv-shape", "A of a conv2d has three dimensions.",
       lambda: wrong_shape(one(low_rank(CONV2D, f32(1, 2, 3), f32(4, 1, 1))), 0))
vector("bad-conv-b-kernel", "4.5", "conv-shape", "B of a conv2d is `[4, 1, 1, 3]`.",
       lambda: wrong_shape(one(low_rank(CONV2D, f32(1, 2, 3, 3), f32(4, 1, 1, 3))), 1))
second("bad-conv-b-dims", "4.5", "conv-shape", "B of a conv2d has two dimensions.",
       lambda: wrong_shape(one(low_rank(CONV2D, f32(1, 2, 3, 3), f32(4, 1))), 1))
vector("bad-mid-rank", "4.5", "mid-shape", "The mid of a conv1d of rank 1 is `[1, 2, 3]`.",
       lambda: wrong_shape(one(low_rank(CONV1D, f32(1, 2, 1), f32(4, 1, 1), f32(1, 2, 3))), 2))
second("bad-mid-a-kernel", "4.5", "mid-shape", "A of a conv1d beside mid is `[1, 2, 3]`.",
       lambda: wrong_shape(one(low_rank(CONV1D, f32(1, 2, 3), f32(4, 1, 1), f32(1, 1, 3))), 0))
vector("bad-magnitude-shape", "4.5", "magnitude-shape",
       "The magnitude has two elements, where B has one row.",
       lambda: wrong_shape(one(low_rank(LINEAR, ONE, TWO, (MAGNITUDE, f32(2)))), 2))
vector("bad-experts-a", "4.5", "experts-shape", "A of an experts site of rank 2 has three rows.",
       lambda: wrong_shape(one(low_rank(EXPERTS, f32(3, 1), f32(3, 2), rank=2, scale=0.5)), 0))
second("bad-experts-b", "4.5", "experts-shape", "B of two experts has three rows.",
       lambda: wrong_shape(one(low_rank(EXPERTS, f32(2, 1), f32(3, 1))), 1))
vector("bad-rows-count", "4.5", "rows-shape", "A row_index of three, where the value has two rows.",
       lambda: wrong_shape(one(rows(index=tensor("I64", [3], 0, 1, 2))), 1))
second("bad-rows-index-dims", "4.5", "rows-shape", "The row_index is `[2, 1]`.",
       lambda: wrong_shape(one(rows(index=tensor("I64", [2, 1], 0, 5))), 1))
vector("bad-row-index-dtype", "4.5", "row-index-dtype", "The row_index is of dtype I32.",
       lambda: blame(one(rows(index=tensor("I32", [2], 0, 5))), "tensors", 1, "dtype"))


def wrong_index(item, *numbers):
    file = one(rows(index=tensor("I64", [2], *numbers)))
    return file, file.tensors[1].offset + 8 * item


second("bad-row-index-negative", "4.5", "row-index", "The first of row_index is −1.",
       lambda: wrong_index(0, -1, 5))
vector("bad-row-index-twice", "4.5", "row-index", "The second of row_index is the first.",
       lambda: wrong_index(1, 5, 5))

# --- section 4.6: tensors ---


def saved(dtype="F32", shape=(1, 1), decoded=ONE.decoded, **fields):
    """One saved tensor, and fields of its record that say something else."""
    return change(one(values(SAVED, Tensor(dtype, shape, decoded))), "tensors", 0, **fields)


def saved_at(file, offset):
    """The data of the last tensor moves to `offset`."""
    file.data[-1][0].offset = file.data[-1][2] = offset
    return blame(file, "tensors", len(file.tensors) - 1, "offset")


def on_first(file, at):
    """The data of the last tensor moves into that of the first."""
    return saved_at(file, file.tensors[0].offset + at)


def all_dtypes():
    """Of each dtype the least number of elements that fills whole bytes."""
    def least(bits):
        return math.lcm(bits, 8) // bits
    return one(*(values(SAVED, Tensor(name, [least(bits)], bytes([DTYPES[name]] * (least(bits) * bits // 8))),
                        f"{DTYPES[name]:02} {name}") for name, bits in BITS.items()))


def unused_tensor():
    file = smallest()
    file.add_tensor(THREE)
    return blame(moved(file), "tensors", 2, "offset")


def swapped_tensors():
    file = change(smallest(), "factors", 0, tensor=1)
    return bend(change(file, "factors", 1, tensor=0), "factors", 0, tensor=1)


vector("good-dtypes", "4.6", "dtypes whole-bytes padding-short", "A saved tensor of every dtype.", all_dtypes)
vector("good-n-dims", "4.6", "n-dims", "Tensors of 0 and of 8 dimensions.",
       lambda: one(values(SAVED, f32(), "v"), values(SAVED, f32(1, 1, 1, 2, 1, 1, 1, 1))))
second("good-equal-bytes", "4.6", "tensor-unique",
       "Two tensors with the same bytes and another shape are two.",
       lambda: one(values(SAVED, f32(2, 1), "v"), values(SAVED, f32(1, 2))))
vector("bad-tensor-aligned", "4.6", "tensor-offset", "Tensor data starts at no multiple of 64.",
       lambda: saved_at(smallest(), 0x32C0 - 32))
vector("bad-tensor-low", "4.6", "tensor-offset",
       "The bytes of a tensor of zeros are those of the empty slot 1.",
       lambda: saved_at(one(linear(b=f32(1, 1, start=0.0))), 8192))
vector("bad-tensor-beyond-end", "4.6", "stored-size", "A tensor lies behind `file_end`.",
       lambda: blame(change(smallest(), "root", 0, file_end=0x3284), "tensors", 1, "stored_size"))
second("bad-tensor-overflow", "4.6", "stored-size overflow", "`offset + stored_size` is 2^64.",
       lambda: blame(change(saved(shape=[16], decoded=bytes(64)), "tensors", 0, offset=2 ** 64 - 64),
                     "tensors", 0, "stored_size"))
vector("bad-stored-size-zero", "4.6", "stored-size", "`stored_size` is 0.",
       lambda: bend(saved(), "tensors", 0, stored_size=0))
vector("bad-decoded-size", "4.6", "decoded-size", "A `[1, 1]` tensor of F32 has 8 bytes.",
       lambda: blame(saved(decoded=bytes(8)), "tensors", 0, "decoded_size"))
vector("bad-decoded-size-overflow", "4.6", "overflow decoded-size",
       "A tensor of 2^64+1 elements has 4 bytes: the dimensions are the factors of that number.",
       lambda: blame(saved(shape=[274177, 67280421310721]), "tensors", 0, "decoded_size"))
vector("unsupported-codec", "4.6", "unknown-dtype", "`codec` is 2.",
       lambda: bend(saved(), "tensors", 0, codec=2))
second("unsupported-decoded-limit", "4.6", "decoded-limit", "A tensor in an unknown codec has 2^46 bytes.",
       lambda: bend(saved(), "tensors", 0, codec=2, decoded_size=1 << 46, shape=[1 << 44, 1] + [0] * 6))
vector("bad-decoded-limit", "4.6", "decoded-limit", "A tensor in an unknown codec has 2^46+4 bytes.",
       lambda: bend(saved(codec=2),
                    "tensors", 0, decoded_size=(1 << 46) + 4, shape=[(1 << 44) + 1, 1] + [0] * 6))
vector("unsupported-dtype", "4.6", "unknown-dtype dtypes", "`dtype` is 23.",
       lambda: bend(saved(), "tensors", 0, dtype=23))
second("unsupported-dtype-zero", "4.6", "unknown-dtype dtypes", "`dtype` is 0.",
       lambda: bend(saved(), "tensors", 0, dtype=0))
second("unsupported-dimension-limit", "4.6", "dimension", "A dimension is 2^48, in an unknown dtype.",
       lambda: bend(saved(), "tensors", 0, dtype=23, shape=[1 << 48, 1] + [0] * 6))
vector("bad-dimension-limit", "4.6", "dimension", "A dimension is 2^48+1, in an unknown dtype.",
       lambda: bend(saved(dtype="F32"), "tensors", 0, shape=[(1 << 48) + 1, 1] + [0] * 6, dtype=23))
second("bad-dimension-zero", "4.6", "dimension", "A dimension is 0.",
       lambda: bend(saved(), "tensors", 0, shape=[0, 1] + [0] * 6))
vector("bad-n-dims-9", "4.6", "n-dims", "`n_dims` is 9.",
       lambda: bend(saved(shape=[1] * 8), "tensors", 0, n_dims=9))
vector("bad-shape-rest", "4.6", "shape-rest", "A dimension behind `n_dims` is not zero.",
       lambda: blame(saved(shape=[1, 1, 1, 0, 0, 0, 0, 0], n_dims=2), "tensors", 0, "shape", 2))
vector("bad-tensor-reserved", "4.6", "tensor-reserved reserved", "A reserved byte of a tensor is not zero.",
       lambda: bend(saved(), "tensors", 0, reserved_27=b"\1" + bytes(4)))
vector("bad-tensor-digest", "4.6", "tensor-digest", "A bit of tensor data has changed.",
       lambda: blame(poke(smallest(), 0x3280, b"\1")[0], "tensors", 0, "sha256"))
vector("bad-tensor-twice", "4.6", "tensor-unique", "A tensor is stored twice.",
       lambda: blame(one(linear(), linear("x", Tensor("F32", [1, 1], ONE.decoded), THREE), share=False),
                     "tensors", 2, "sha256"))
vector("bad-tensor-order", "4.6", "tensor-order", "The first factor names the second tensor.",
       swapped_tensors)
vector("bad-tensor-unused", "4.6", "tensor-used", "No factor names the last tensor.", unused_tensor)
vector("bad-tensor-overlap", "4.6", "tensor-overlap cover", "A tensor is the end of the one before.",
       lambda: on_first(one(values(SAVED, f32(17), "v"), values(SAVED, f32(1, start=17.0))), 64))
second("bad-tensor-alias", "4.6", "tensor-overlap cover", "Two tensors of other shapes have the same bytes.",
       lambda: on_first(one(values(SAVED, f32(2, 1), "v"), values(SAVED, f32(1, 2))), 0))
second("bad-tensor-in-index", "4.6", "cover", "The bytes of a tensor of zeros are zeros of the index.",
       lambda: saved_at(one(values(SAVED, f32(1, start=0.0))), 0x3080))
vector("bad-whole-bytes", "4.6.1", "whole-bytes decoded-size", "A tensor of F6_E2M3 has 2 elements, 12 bits.",
       lambda: blame(saved("F6_E2M3", [2], bytes(2)), "tensors", 0, "shape"))

# --- section 4.7: metadata ---

vector("good-metadata", "4.7", "metadata-flags key-order adapter-id",
       "Metadata of two adapters under the same keys, with a semantic entry, an empty value and line ends.",
       lambda: File(Adapter("a", [linear()], [("license", "MIT\n", 0), ("task", "one", 1), ("url", "", 0)]),
                    Adapter("b", [linear()], [("license", "MIT\n", 0), ("task", "two", 1)])))
vector("bad-key-empty", "4.7", "key", "A metadata key is the empty string.",
       lambda: blame(with_metadata(("", "v", 0)), "metadata", 0, "key"))
vector("bad-metadata-flags", "4.7", "metadata-flags reserved", "Bit 1 of a metadata entry's `flags` is set.",
       lambda: blame(with_metadata(("k", "v", 2)), "metadata", 0, "flags"))
vector("bad-metadata-reserved", "4.7", "metadata-reserved reserved",
       "A reserved byte of a metadata entry is not zero.",
       lambda: bend(with_metadata(("k", "v", 0)), "metadata", 0, reserved_12=1))
second("bad-key-order", "4.7", "key-order", "Metadata keys are in descending order.",
       lambda: blame(with_metadata(("l", "", 0), ("k", "", 0)), "metadata", 1, "key"))
vector("bad-key-twice", "4.7", "key-order", "An adapter has a metadata key twice.",
       lambda: blame(with_metadata(("k", "", 0), ("k", "v", 0)), "metadata", 1, "key"))



def shared_value(size, *more):
    """256 metadata entries that share one value of `size` bytes, and more entries."""
    return with_metadata(*((f"k{i:03}", "v" * size, 0) for i in range(256)), *more)


second("good-value-limits", "4.7", "value-length values-total",
       "256 entries share a value of 1 MiB: 2^28 bytes together.",
       lambda: shared_value(1 << 20))
second("bad-value-length", "4.2", "value-length", "A metadata value has 2^20+1 bytes.",
       lambda: in_pool(with_metadata(("k", "v" * ((1 << 20) + 1), 0)), "v" * ((1 << 20) + 1)))
second("bad-values-total", "4.7", "values-total",
       "256 entries share a value of 1 MiB, and one more has a byte.",
       lambda: blame(shared_value(1 << 20, ("l", "v", 0)), "metadata", 256, "value"))

# --- section 4.8: segments; those of two_generations() are the first index and the first B ---


def add_segment(item, **fields):
    """Two generations with one more segment."""
    file = two_generations()
    file.segments.insert(item, SegmentRecord(**{"kind": DEAD, **fields}))
    return moved(file)


def swapped_segments():
    file = two_generations()
    file.segments.reverse()
    return blame(moved(file), "segments", 1, "offset")


def segment_behind_end():
    file = add_segment(2, size=4)
    end = file.end()
    change(file, "segments", 2, offset=end)
    return blame(moved(change(file, "root", 0, file_end=end), tail=b"tail"), "segments", 2, "size")


vector("bad-segment-low", "4.8", "segment-offset", "A segment begins in the page of slot 1.",
       lambda: bend(two_generations(), "segments", 0, offset=FIRST - 64, size=0x280 + 64))
vector("bad-segment-size-zero", "4.8", "segment-size", "A segment in the padding has 0 bytes.",
       lambda: blame(add_segment(1, offset=0x3288), "segments", 1, "size"))
vector("bad-segment-beyond-end", "4.8", "segment-size", "A segment lies behind `file_end`.",
       segment_behind_end)
second("bad-segment-overflow", "4.8", "segment-size overflow", "`offset + size` of a segment is 2^64+8.",
       lambda: blame(add_segment(2, offset=2 ** 64 - 8, size=16), "segments", 2, "size"))
vector("bad-segment-generation", "4.8", "segment-generation", "A segment is of generation 3, the root of 2.",
       lambda: bend(two_generations(), "segments", 1, generation=3))
second("bad-segment-kind-zero", "4.8", "segment-kind", "`kind` of a segment is 0.",
       lambda: bend(two_generations(), "segments", 1, kind=0))
vector("bad-segment-kind-3", "4.8", "segment-kind", "`kind` of a segment is 3.",
       lambda: bend(two_generations(), "segments", 1, kind=3))
vector("bad-segment-reserved", "4.8", "segment-reserved reserved",
       "A reserved byte of a segment is not zero.",
       lambda: bend(two_generations(), "segments", 1, reserved_28=1))
vector("bad-segment-order", "4.8", "segment-order", "Segments are in descending order.", swapped_segments)
vector("bad-segment-overlap", "4.8", "segment-order", "A dead segment lies in a superseded one.",
       lambda: blame(add_segment(1, offset=0x3100, size=8), "segments", 1, "offset"))
second("bad-segment-tensor", "4.8", "cover", "A dead segment lies on a live tensor.",
       lambda: blame(add_segment(1, offset=0x3280, size=4), "segments", 1, "offset"))
second("bad-segment-index", "4.8", "cover", "A dead segment lies on the live index.",
       lambda: blame(add_segment(2, offset=0x3300, size=8), "segments", 2, "offset"))
vector("bad-padding", "4.8", "padding-zero", "The padding between two tensors is not zero.",
       lambda: poke(smallest(), 0x3284, b"\1"))
vector("bad-hole", "4.8", "padding-short", "64 zero bytes before the index belong to nothing.",
       lambda: (smallest(index_gap=64), FIRST))
vector("bad-file-end-late", "4.8", "end-of-last", "`file_end` is one byte after the last tensor.",
       lambda: bend(moved(smallest(), tail=b"\0"), "root", 0, file_end=0x32C5))

# --- section 4.9: history ---


def reversed_history():
    file = three_generations()
    file.history.reverse()
    return blame(moved(file), "history", 1, "generation")


def history_inside():
    """The entry of generation 1 states a part of its index, at no multiple of 64."""
    file = three_generations()
    part = file.image()[FIRST + 32:][:512]
    return bend(file, "history", 1, index_offset=FIRST + 32, index_size=512, index_sha256=sha256(part))


def split_segment():
    file = two_generations()
    change(file, "segments", 0, size=64)
    file.segments.insert(1, SegmentRecord(offset=FIRST + 64, size=0x240, generation=1, kind=SUPERSEDED))
    return blame(moved(file), "history", 0, "index_offset")


vector("good-history-gap", "4.9", "history-gaps", "The history of generation 3 leaves out generation 2.",
       lambda: three_generations(history=(1,)))
vector("good-history-empty", "4.9", "history-empty",
       "The history of generation 2 is empty, its segments are dead.",
       lambda: two_generations(history=()))
vector("bad-history-order", "4.9", "history-order", "The history is in ascending order.", reversed_history)
second("bad-history-current", "4.9", "history-order", "An entry has the generation of the current root.",
       lambda: bend(two_generations(), "history", 0, generation=2))
second("bad-history-generation-zero", "4.9", "history-table", "An entry has generation 0.",
       lambda: bend(three_generations(), "history", 1, generation=0))
second("bad-history-magic", "4.9", "history-table", "`magic` of an entry is wrong.",
       lambda: bend(three_generations(), "history", 1, magic=b"LORAROOF"))
second("bad-history-reserved", "4.9", "history-table reserved", "A reserved byte of an entry is not zero.",
       lambda: bend(three_generations(), "history", 1, reserved_88=b"\1" + bytes(35)))
vector("bad-history-crc", "4.9", "history-table", "`crc32` of an entry is wrong.",
       lambda: bend(three_generations(), "history", 1, crc32=0))
second("bad-history-index-offset", "4.9", "history-table", "`index_offset` of an entry is no multiple of 64.",
       history_inside)
vector("bad-history-file-end", "4.9", "history-end",
       "`file_end` of an entry is inside the index that follows.",
       lambda: bend(three_generations(), "history", 1, file_end=0x3301))
vector("bad-history-segment-dead", "4.9", "history-segment", "The index of an entry is in a dead segment.",
       lambda: blame(change(two_generations(), "segments", 0, kind=DEAD), "history", 0, "index_offset"))
second("bad-history-segment-two", "4.9", "history-segment",
       "The index of an entry is in two superseded segments.",
       split_segment)
vector("bad-history-slot", "4.9", "history-slot",
       "An entry has a `compatible` bit that the slot does not have.",
       lambda: blame(change(two_generations(), "history", 0, compatible=1), "history", 0, "magic"))
vector("bad-history-digest", "4.9", "history-digest", "A bit of an earlier index has changed.",
       lambda: blame(poke(three_generations(), 0x30A4, b"\1")[0], "history", 1, "index_sha256"))
vector("bad-history-empty", "4.9", "history-empty", "The history is empty beside a superseded segment.",
       lambda: bend(two_generations(history=()), "segments", 1, kind=SUPERSEDED))

# --- section 4.10: signatures ---


def signed(*pairs, **fields):
    """Signatures of (adapter, first byte of the public key), none of them genuine."""
    return smallest(signatures=[SignatureRecord(adapter=adapter, **{"algorithm": 1, **fields},
                                                public_key=bytes([key] * 32), signature=bytes([key] * 64))
                                for adapter, key in pairs])


def signed_two():
    file = two_adapters()
    records = [SignatureRecord(adapter=adapter, algorithm=algorithm, public_key=bytes([key] * 32))
               for adapter, key, algorithm in ((0, 7, 1), (0, 9, 2), (1, 7, 1))]
    return moved(file, signatures=records, sections=file.sections + [Section(SIGNATURES, 160, records)])


vector("good-signatures", "4.10", "signature-algorithm signature-order signature-wrong",
       "Three signatures of two adapters, none of them genuine, one of an unknown algorithm.", signed_two)
vector("good-signatures-size", "4.1", "signature-size",
       "Signature records of 96 bytes are an unknown section.",
       lambda: smallest(sections=[Section(SIGNATURES, 96, bytes([255] * 96))]))
vector("bad-signature-adapter", "4.10", "signature-adapter", "`adapter` is the number of adapters.",
       lambda: blame(signed((1, 7)), "signatures", 0, "adapter"))
vector("bad-signature-algorithm", "4.10", "signature-algorithm", "`algorithm` is 0.",
       lambda: blame(signed((0, 7), algorithm=0), "signatures", 0, "algorithm"))
vector("bad-signature-reserved-8", "4.10", "signature-reserved reserved", "A reserved byte at 8 is not zero.",
       lambda: blame(signed((0, 7), reserved_8=b"\1" + bytes(23)), "signatures", 0, "reserved_8"))
second("bad-signature-reserved-128", "4.10", "signature-reserved reserved",
       "A reserved byte at 128 is not zero.",
       lambda: blame(signed((0, 7), reserved_128=b"\1" + bytes(31)), "signatures", 0, "reserved_128"))
vector("bad-signature-order", "4.10", "signature-order", "Public keys are in descending order.",
       lambda: blame(signed((0, 9), (0, 7)), "signatures", 1, "public_key"))
second("bad-signature-twice", "4.10", "signature-order", "A public key signs an adapter twice.",
       lambda: blame(signed((0, 7), (0, 7)), "signatures", 1, "adapter"))

# --- section 5: codecs; the tensor of the bad ones is 64 times 1.0 ---


def split_site(target, dtype, shape, *numbers, **changes):
    plain = tensor(dtype, shape, *numbers)
    stored = split(plain.decoded, dtype, **changes)
    return values(SAVED, Tensor(dtype, shape, plain.decoded, SPLIT, stored), target)


def split_file(**changes):
    return one(split_site("w", "F32", [64], 1.0, **changes))


def in_data(file, at):
    """Byte `at` of the stored bytes of the only tensor is to blame."""
    return file, file.tensors[0].offset + at


def split_stored(change_stored):
    """The stored bytes of split_file(), changed, are blamed on `stored_size`."""
    plain = tensor("F32", [64], 1.0)
    stored = change_stored(split(plain.decoded, "F32"))
    file = one(values(SAVED, Tensor("F32", [64], plain.decoded, SPLIT, stored)))
    return blame(file, "tensors", 0, "stored_size")


def bad_stream(add, name, sentence, stream):
    add("bad-split-" + name, "5", "split-stream", sentence, lambda: in_data(split_file(stream=stream), 16))


def good_split():
    numbers = (1.0, -2.0, 0.0, -0.0, math.inf, -math.inf, math.nan, 0.5)
    regular = numbers + (1.0,) * 120
    return one(*(split_site(dtype, dtype, [2, 64], *regular) for dtype in ("BF16", "F16", "F32", "F64")))


def split_u8():
    plain = tensor("U8", [64], 1)
    stored = struct.pack("<II", 18, 0) + struct.pack("<Q", len(zlib_stream(plain.decoded)))
    stored += zlib_stream(plain.decoded)
    return blame(one(values(SAVED, Tensor("U8", [64], plain.decoded, SPLIT, stored))), "tensors", 0, "codec")


def split_ends():
    shape = [(1 << 18) + 1]
    ends = struct.unpack_from("<2Q", split(tensor("BF16", shape, 1.0).decoded, "BF16"), 8)
    return in_data(one(split_site("w", "BF16", shape, 1.0, ends=ends[::-1])), 16)


vector("good-split", "5", "split-planes block-log2 split-dtype",
       "Split tensors of each dtype, in one block each.",
       good_split)
vector("good-split-blocks", "5", "split-ends split-blocks split-planes",
       "A split tensor of 2^18+1 elements has two blocks, the second with one element.",
       lambda: one(split_site("w", "BF16", [(1 << 18) + 1], 1.0)))
second("bad-split-ends", "5", "split-ends", "The `end`s of two blocks descend.", split_ends)
vector("good-split-equal", "5", "split-larger", "`stored_size` of a split tensor is `decoded_size`.",
       lambda: one(split_site("w", "F32", [26], 1.0)))
vector("bad-split-larger", "5", "split-larger", "`stored_size` of a split tensor is above `decoded_size`.",
       lambda: blame(one(split_site("w", "F32", [25], 1.0)), "tensors", 0, "stored_size"))
vector("bad-raw-size", "5", "raw-size", "`stored_size` of a raw tensor is 1 more than `decoded_size`.",
       lambda: blame(one(values(SAVED, Tensor("F32", [1], bytes(4), RAW, bytes(5)))),
                     "tensors", 0, "stored_size"))
vector("bad-split-dtype", "5", "split-dtype", "A tensor of U8 is split.", split_u8)
vector("bad-block-log2-17", "5", "block-log2", "`block_log2` is 17.",
       lambda: in_data(split_file(block_log2=17), 0))
vector("bad-block-log2-19", "5", "block-log2", "`block_log2` is 19, and one block of 2^18 would do.",
       lambda: in_data(split_file(block_log2=19), 0))
second("bad-block-log2-31", "5", "block-log2", "`block_log2` is 31.",
       lambda: in_data(split_file(block_log2=31), 0))
vector("bad-split-reserved", "5", "split-reserved reserved", "A reserved byte of a split tensor is not zero.",
       lambda: in_data(split_file(reserved=1), 4))
vector("bad-split-end", "5", "split-ends split-stored counts", "`end` of the only block is 2^64−1.",
       lambda: blame(split_file(ends=[2 ** 64 - 1]), "tensors", 0, "stored_size"))
bad_stream(vector, "stream-short", "A stream decodes to one byte too few.",
           lambda plane: zlib_stream(plane[1:]))
bad_stream(second, "stream-long", "A stream decodes to one byte too many.",
           lambda plane: zlib_stream(plane + plane[:1]))
bad_stream(vector, "stream-rest", "A byte of its input is left when a stream ends.",
           lambda plane: zlib_stream(plane) + b"\0")
bad_stream(second, "stream-cut", "The last byte of a stream is missing.",
           lambda plane: zlib_stream(plane)[:-1])
bad_stream(second, "stream-adler", "The Adler-32 of a stream is wrong.",
           lambda plane: zlib_stream(plane)[:-4] + bytes(4))
bad_stream(second, "stream-header", "The first two bytes of a stream are no zlib header.",
           lambda plane: b"\x78\x02" + zlib_stream(plane)[2:])
vector("bad-split-stored-more", "5", "split-stored", "A byte follows the last plane.",
       lambda: split_stored(lambda stored: stored + b"\0"))
second("bad-split-stored-less", "5", "split-stored", "The last byte of the last plane is missing.",
       lambda: split_stored(lambda stored: stored[:-1]))
second("bad-split-stored-header", "5", "split-stored",
       "`stored_size` is 4, less than the header of a split tensor.",
       lambda: split_stored(lambda stored: stored[:4]))

# --- section 6: identity ---

vector("bad-adapter-id", "6.1", "adapter-id", "A bit of `adapter_id` has changed.",
       lambda: bend(smallest(), "adapters", 0, adapter_id=bytes(32)))


# ----------------------------------------------------------------------------------------------------------
# Part 4: files and tables
# ----------------------------------------------------------------------------------------------------------


def rules():
    """The rules as (section, key, quote)."""
    return [[cell.strip() for cell in line.split(" | ", 2)] for line in RULES.strip().splitlines()]


def check_rules(vectors):
    keys = {key for _, key, _ in rules()}
    named = {rule for vector in vectors for rule in vector.rules}
    kept = {rule for vector in vectors if vector.first for rule in vector.rules}
    assert named <= keys, named - keys
    assert keys == kept | set(WITHOUT_VECTOR), keys ^ (kept | set(WITHOUT_VECTOR))


def offset_text(vector):
    return "-" if vector.offset is None else hex(vector.offset)


def table(head, lines):
    head = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(head + ["| " + " | ".join(line) + " |" for line in lines]) + "\n"


def covering(key, vectors):
    names = [vector.name if vector.first else f"({vector.name})" for vector in vectors if key in vector.rules]
    reason = ["none here: " + WITHOUT_VECTOR[key]] if key in WITHOUT_VECTOR else []
    return ", ".join(reason + names)


README = """<!-- SPDX-License-Identifier: MIT -->
# Test vectors of the `.lora` container

Written by `build.py`, which is their readable source: `build.py DIR` writes them, `build.py --check DIR` says
whether DIR still has them, `build.py --all DIR` writes also those of the second table, left out here for
their size. `vectors.json` says for programs what the tables say of the files that are there.

The verdict is that of verification (section 9 of the specification). The offset is that of the field that
breaks the rule; where no field does, that of the string, the empty slot, the stream, the element or the
padding; `-` where there is none. Of two things in the wrong order the second is blamed, of two equal ones the
first field of the second.

## For who writes a reader

Run it over every entry of `vectors.json` (`name` of the file, `sentence`, `section` of the specification,
`verdict`, `offset` or null), and compare first the verdict, then the place. In the order of the table the
files follow the sections, so that a reader can grow with them. What a good or recovered file holds,
`python3 ../reader.py FILE` prints as JSON under the names of the specification, with digests of what is decoded.
Each file breaks one rule only; where a file of your own breaks several, two readers may differ (section 0.1).

After a change of the format: `./build.py .` here writes everything again.

## Vectors

{first}
## More vectors

With `--all` only: further vectors of rules that have one above, and large ones.

{second}
## Rules of sections 1 to 6

Each MUST, range and order, in brief, and the vectors that keep or break it; in brackets those of `--all`.

{rules}"""


def readme(vectors):
    head = ("file", "what it shows", "section", "verdict", "offset")
    first, second = [[(v.name + ".lora", v.sentence, v.section, v.verdict, offset_text(v))
                      for v in vectors if v.first is which] for which in (True, False)]
    covered = [(section, quote, covering(key, vectors)) for section, key, quote in rules()]
    return README.format(
        first=table(head, first), second=table(head, second),
        rules=table(("section", "rule", "vectors"), covered))


def vectors_json(vectors):
    entries = [{"name": v.name + ".lora", "sentence": v.sentence, "section": v.section, "verdict": v.verdict,
                "offset": v.offset} for v in vectors]
    return json.dumps(entries, indent=1, ensure_ascii=False)


def everything(every):
    """All files by name; with `every` those of second() too."""
    vectors = [Vector(*entry) for entry in VECTORS]
    assert len({vector.name for vector in vectors}) == len(vectors)
    check_rules(vectors)
    written = [vector for vector in vectors if every or vector.first]
    files = {vector.name + ".lora": vector.data for vector in written}
    files["README.md"] = readme(vectors).encode()
    files["vectors.json"] = vectors_json(written).encode() + b"\n"
    return files


def read(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def check(directory):
    files = everything(False)
    there = {name for name in os.listdir(directory) if name.endswith(".lora")}
    wrong = [name for name in files if read(os.path.join(directory, name)) != files[name]]
    wrong += sorted(there - set(files))
    for name in wrong:
        print(f"{os.path.join(directory, name)}: not as built", file=sys.stderr)
    return 1 if wrong else 0


def write(directory, every):
    os.makedirs(directory, exist_ok=True)
    for name, data in everything(every).items():
        with open(os.path.join(directory, name), "wb") as file:
            file.write(data)
    return 0


def main(arguments):
    if len(arguments) == 2 and arguments[0] == "--check":
        return check(arguments[1])
    if len(arguments) == 2 and arguments[0] == "--all":
        return write(arguments[1], True)
    if len(arguments) == 1 and not arguments[0].startswith("-"):
        return write(arguments[0], False)
    print("usage: build.py [--all | --check] DIR", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A second reader for the `.lora` container 1.0, written from the text to show that the text suffices.

It was made from `lora-container.md` alone, keeps the order of its sections and its names, and uses only the
standard library. It is meant to be read beside the text. It verifies all that section 9 calls verification.
It does not merge (section 7), does not bind (8), and does not ask whether a signature is genuine.

    reader.py FILE      prints one JSON object; exit status 0: good, 1: another verdict, 2: nothing was read

From Python: `report = read(data)`, then `report.verdict`, `report.listing()`, `decode_tensor(report, 0)`.

Which verdict, where several things are wrong: a corrupt place ends the reading, and so does an unsupported
version, bit, section or record size. An unsupported dtype or codec concerns one tensor: it is remembered
while the rest is verified. A damaged slot comes last. So corrupt outranks these two, and recovered is least.
"""

import bisect
import hashlib
import json
import math
import re
import struct
import sys
import zlib


# ---- 0. Words and notation

class Refusal(Exception):
    """0.1: the verdict, and the place and the reason why a file is refused."""

    def __init__(self, verdict, offset, field, text):
        super().__init__(text)
        self.verdict, self.offset, self.field, self.text = verdict, offset, field, text


class Record:
    """0.2: a record of fixed size at offset `at` of the file; record["rank"] decodes the field `rank`."""

    __slots__ = ("layout", "data", "at", "path")

    def __init__(self, layout, data, at, path):
        self.layout, self.data, self.at, self.path = layout, data, at, path

    def __getitem__(self, field):
        offset, code = self.layout[field]
        values = code.unpack_from(self.data, self.at + offset)
        return values if len(values) > 1 else values[0]

    def refusal(self, field, allowed, verdict="corrupt", item=0):
        """0.1: the place is that of the field; of one dimension that is out of range, that dimension."""
        found = self[field].hex() if isinstance(self[field], bytes) else self[field]
        offset = self.at + self.layout[field][0] + 8 * item
        path = self.path + "." + field.replace("reserved_end", "reserved")
        return Refusal(verdict, offset, path, "%s is %s; allowed: %s" % (path, found, allowed))

    def require(self, holds, field, allowed):
        if not holds:
            raise self.refusal(field, allowed)

    def require_reserved_zero(self):
        for field in self.layout:
            self.require(not field.startswith("reserved") or not any(self[field]), field, "zero")


class Table:
    """4: the records of a section. All have one size, so any is found without parsing another."""

    def __init__(self, name, layout, size, data, at, count):
        self.name, self.layout, self.size = name, layout, size
        self.data, self.at, self.count = data, at, count

    def __len__(self):
        return self.count

    def __getitem__(self, number):
        if not 0 <= number < self.count:
            raise IndexError(number)
        return Record(self.layout, self.data, self.at + number * self.size, "%s[%d]" % (self.name, number))


def layout(fields):
    """0.2: a table of the text, "offset type field, ...", as a dictionary: field -> (offset, struct)."""
    codes = {"u8": "B", "u16": "H", "u32": "I", "u64": "Q", "f64": "d"}
    rows = [row.split() for row in fields.split(",")]
    return {field: (int(offset), struct.Struct("<" + codes.get(kind, kind))) for offset, kind, field in rows}


def ceil8(x):
    """0.2: x rounded up to a multiple of 8."""
    return (x + 7) // 8 * 8


def sha256(data, begin, size):
    """0.2: SHA-256 of `size` bytes of the file."""
    return hashlib.sha256(memoryview(data)[begin:begin + size]).digest()


def require_zero(data, begin, end, field):
    """0.1: the bytes [begin, end) of the file MUST be zero."""
    rest = data[begin:end].lstrip(b"\0")
    if rest:
        text = "%s holds %d at offset %d; allowed: zero" % (field, rest[0], end - len(rest))
        raise Refusal("corrupt", begin, field, text)


# ---- 2. Header page

PAGE = 4096
FIRST_DATA = 12288              # where tensor data and indexes may begin
HEADER = layout("0 12s magic, 12 u16 version_major, 14 u16 version_minor, 16 12s reserved, 28 u32 crc32")
HEADER_MAGIC = bytes.fromhex("89 6C 6F 72 61 66 6D 74 0D 0A 1A 0A")


def read_header(data):
    """2: the header page, checked in the order that the text prescribes."""
    if data[:12] != HEADER_MAGIC:
        raise Refusal("not a lora file", 0, "header.magic", "the file does not begin with the magic")
    if len(data) < FIRST_DATA:
        raise Refusal("corrupt", None, None, "the file has %d bytes; allowed: at least 12288" % len(data))
    header = Record(HEADER, data, 0, "header")
    header.require(header["crc32"] == zlib.crc32(data[:28]), "crc32", "the CRC-32 of bytes 0 .. 27")
    if header["version_major"] != 1:
        raise header.refusal("version_major", 1, "unsupported")
    require_zero(data, 16, 28, "header.reserved")
    require_zero(data, 32, PAGE, "header.reserved")


# ---- 3. Root slot

ROOT = layout("""0 8s magic, 8 u64 generation, 16 u64 incompatible, 24 u64 compatible, 32 u64 index_offset,
    40 u64 index_size, 48 32s index_sha256, 80 u64 file_end, 88 36s reserved, 124 u32 crc32""")
ROOT_SIZE = 128


def check_root(root, data):
    """3: the table of a root record. Entries of the history obey it too."""
    root.require(root["magic"] == b"LORAROOT", "magic", "LORAROOT")
    crc32 = zlib.crc32(data[root.at:root.at + 124])
    root.require(root["crc32"] == crc32, "crc32", "the CRC-32 of bytes 0 .. 123")
    root.require_reserved_zero()
    offset, size = root["index_offset"], root["index_size"]
    root.require(1 <= root["generation"] < 2**63, "generation", "1 .. 2^63-1")
    root.require(offset >= FIRST_DATA and offset % 64 == 0, "index_offset", "from 12288, a multiple of 64")
    root.require(160 <= size <= 2**28 and size % 8 == 0, "index_size", "160 .. 2^28, a multiple of 8")
    root.require(offset + size <= root["file_end"], "file_end", "at or after the end of the index")
    root.require(root["file_end"] <= len(data), "file_end", "at most the file's length, %d" % len(data))


def read_slot(data, slot):
    """3, rules 1 and 3: (root, None) when valid, (None, None) when empty, (None, why) when damaged."""
    at = PAGE * (1 + slot)
    root = Record(ROOT, data, at, "root[%d]" % slot)
    if data[at:at + PAGE] == bytes(PAGE):
        return None, None
    try:
        check_root(root, data)
        require_zero(data, at + ROOT_SIZE, at + PAGE, root.path + ".reserved")
        root.require(root["generation"] % 2 == 1 - slot, "generation", "odd in slot 0, even in slot 1")
    except Refusal as damage:
        return None, damage
    return root, None


def choose_root(report):
    """3, rules 2 to 5: the valid slot with the highest generation holds the current root."""
    slots = [read_slot(report.data, 0), read_slot(report.data, 1)]
    valid = [slot for slot in (0, 1) if slots[slot][0]]
    if not valid:
        raise slots[0][1] or slots[1][1] or Refusal("corrupt", PAGE, "root[0]", "both root slots are empty")
    report.slot = max(valid, key=lambda slot: slots[slot][0]["generation"])
    report.root = root = slots[report.slot][0]
    report.other_root, report.damage = slots[1 - report.slot]
    if report.other_root:
        one_apart = report.other_root["generation"] == root["generation"] - 1
        root.require(one_apart, "generation", "one above that in the other slot")
    elif not report.damage and root["generation"] > 1:
        text = "the slot is empty; allowed: the root of generation %d" % (root["generation"] - 1)
        report.damage = Refusal("corrupt", PAGE * (2 - report.slot), "root[%d]" % (1 - report.slot), text)
    if root["incompatible"]:
        raise root.refusal("incompatible", "0, since this version defines no feature bit", "unsupported")


# ---- 4. Index

INDEX_HEADER = layout("0 8s magic, 8 u64 generation, 16 u32 align_log2, 20 u32 n_sections")
SECTION = layout("0 u32 id, 4 u32 record_size, 8 u64 n_records")
ADAPTER = layout("""0 u32 name, 4 u32 base_name, 8 u32 base_revision, 12 u32 flags, 16 u32 first_site,
    20 u32 n_sites, 24 u32 first_metadata, 28 u32 n_metadata, 32 32s adapter_id, 64 32s base_structure,
    96 8s reserved""")
SITE = layout("""0 u32 target, 4 u16 kind, 6 u8 orientation, 7 u8 scaling, 8 u32 rank, 12 u32 flags,
    16 f64 alpha, 24 f64 scale, 32 u64 row_begin, 40 u64 row_end, 48 u64 col_begin, 56 u64 col_end,
    64 u32 first_factor, 68 u32 n_factors, 72 32s base_sha256""")
FACTOR = layout("0 u16 role, 2 2s reserved, 4 u32 tensor")
TENSOR = layout("""0 u64 offset, 8 u64 stored_size, 16 u64 decoded_size, 24 u8 dtype, 25 u8 codec,
    26 u8 n_dims, 27 5s reserved, 32 8Q shape, 96 32s sha256""")
METADATA = layout("0 u32 key, 4 u32 value, 8 u32 flags, 12 4s reserved")
SEGMENT = layout("0 u64 offset, 8 u64 size, 16 u64 generation, 24 u32 kind, 28 4s reserved")
SIGNATURE = layout("""0 u32 adapter, 4 u32 algorithm, 8 24s reserved, 32 32s public_key, 64 64s signature,
    128 32s reserved_end""")
SECTIONS = {                    # id: name of its records, layout, record_size, least and most n_records
    1: ("names", None, 1, 1, 2**28),
    2: ("adapter", ADAPTER, 104, 1, 2**24),
    3: ("site", SITE, 104, 0, 2**24),
    4: ("factor", FACTOR, 8, 0, 2**24),
    5: ("tensor", TENSOR, 128, 0, 2**24),
    6: ("metadata", METADATA, 16, 0, 2**16),
    7: ("segment", SEGMENT, 32, 0, 2**24),
    8: ("history", ROOT, 128, 0, 2**24),
    2147483649: ("signature", SIGNATURE, 160, 0, 2**24),
}


# ---- 4.1 Index header and section table

def read_index(report):
    """4.1: the digest of the index before anything in it, its header, and where each section lies."""
    data, root, begin, size = report.data, report.root, report.root["index_offset"], report.root["index_size"]
    digest = sha256(data, begin, size)
    root.require(root["index_sha256"] == digest, "index_sha256", "that of the index, " + digest.hex())
    report.index = index = Record(INDEX_HEADER, data, begin, "index")
    index.require(index["magic"] == b"LORAINDX", "magic", "LORAINDX")
    index.require(index["generation"] == root["generation"], "generation", "that of the root")
    index.require(index["align_log2"] in (6, 12, 16), "align_log2", "6, 12 or 16")
    count, at, last_id = index["n_sections"], 24 + 16 * index["n_sections"], 0
    index.require(8 <= count <= 64 and at <= size, "n_sections", "8 .. 64, as many as the index has room for")
    for number, section in enumerate(Table("section", SECTION, 16, data, begin + 24, count)):
        known = check_section(section, number, last_id)
        end = at + section["n_records"] * section["record_size"]
        section.require(ceil8(end) <= size, "n_records", "what the index has bytes for")
        require_zero(data, begin + end, begin + ceil8(end), section.path + ".padding")
        if known:
            name, layout_, record_size = known[:3]
            report.tables[name] = Table(name, layout_, record_size, data, begin + at, section["n_records"])
        else:
            report.ignored_sections.append(section["id"])
        at, last_id = ceil8(end), section["id"]
    root.require(at == size, "index_size", "%d, the end of the last section" % at)


def check_section(section, number, last_id):
    """4.1: an entry of the section table. The return value is its row in SECTIONS, None when ignorable."""
    known = SECTIONS.get(section["id"])
    section.require(section["id"] > last_id, "id", "above that of the entry before")
    section.require(number >= 8 or section["id"] == number + 1, "id", "1 to 8 in the first eight entries")
    if not known and section["id"] < 2**31:
        raise section.refusal("id", "1 .. 8, and from 2^31 on", "unsupported")
    section.require(section["record_size"] >= 1, "record_size", "at least 1")
    if known and section["record_size"] != known[2]:
        if section["id"] < 2**31:
            raise section.refusal("record_size", known[2], "unsupported")
        known = None
    if known:
        section.require(known[3] <= section["n_records"] <= known[4], "n_records", "%d .. %d" % known[3:])
    return known


PARTS = {                       # 4.3, 4.4: which fields of a record say what part of another table is its own
    "site": ("first_site", "n_sites"),
    "metadata": ("first_metadata", "n_metadata"),
    "factor": ("first_factor", "n_factors"),
}


def check_partition(report, owners, table):
    """4.3, 4.4: the records of one table partition another one in order."""
    first, count = PARTS[table]
    begin, size = 0, len(report.tables[table])
    for owner in owners:
        owner.require(owner[first] == begin, first, "%d, where the part before ended" % begin)
        owner.require(owner[count] <= size - begin, count, "at most the %d that are left" % (size - begin))
        begin += owner[count]
    owner.require(begin == size, count, "%d more, to the end of the table" % (size - begin))


def part(report, owner, table):
    """4.3, 4.4: the records that belong to one record of another table."""
    first, count = PARTS[table]
    for number in range(owner[first], owner[first] + owner[count]):
        yield report.tables[table][number]


# ---- 4.2 Name pool

def check_name_pool(report):
    """4.2: strings that end in a NUL, the empty one first, ascending. Each must do as a metadata value."""
    pool = report.tables["names"]
    at, end, last = pool.at, pool.at + len(pool), None
    while at < end:
        nul, field = report.data.find(b"\0", at, end), "names[%d]" % (at - pool.at)
        if nul < 0:
            raise Refusal("corrupt", at, field, "the last string of the pool does not end in a NUL")
        text = report.data[at:nul]
        if (text if last is None else text <= last):
            raise Refusal("corrupt", at, field, "a string is out of order; allowed: '' first, then ascending")
        if len(text) > 2**20:
            raise Refusal("corrupt", at, field, "a string has %d bytes; allowed: 2^20" % len(text))
        try:
            text.decode("utf-8")
        except UnicodeDecodeError:
            raise Refusal("corrupt", at, field, "a string is not valid UTF-8") from None
        at, last = nul + 1, text


def string(report, record, field):
    """4.2: the bytes of the string that a field names, without its NUL."""
    pool, offset = report.tables["names"], record[field]
    begins = offset < len(pool) and (offset == 0 or report.data[pool.at + offset - 1] == 0)
    record.require(begins, field, "the offset of the first byte of a string")
    return report.data[pool.at + offset:report.data.index(b"\0", pool.at + offset)]


def name(report, record, field):
    """4.2: a string that is not a metadata value: at most 1024 bytes, without control characters."""
    offset = record[field]
    if offset not in report.names:
        text = string(report, record, field)
        record.require(len(text) <= 1024, field, "a string of at most 1024 bytes")
        record.require(not re.search(rb"[\x00-\x1f\x7f]", text), field, "a string without control characters")
        report.names[offset] = text
    return report.names[offset]


# ---- 4.3 Adapter

def check_adapters(report):
    """4.3: each adapter, and that the adapters partition the sites and the metadata in order."""
    seen = set()
    for adapter in report.tables["adapter"]:
        text = name(report, adapter, "name")
        adapter.require(1 <= len(text) <= 255, "name", "a string of 1 .. 255 bytes")
        adapter.require(text not in (b".", b".."), "name", "a string other than . and ..")
        adapter.require(not re.search(rb"[/\\#=]", text), "name", r"a string without / \ # =")
        adapter.require(text not in seen, "name", "unique in the file")
        seen.add(text)
        name(report, adapter, "base_name")
        name(report, adapter, "base_revision")
        adapter.require(adapter["flags"] <= 1, "flags", "bit 0")
        absent = not any(adapter["base_structure"])
        adapter.require(adapter["flags"] & 1 or absent, "base_structure", "zero without bit 0 of flags")
        adapter.require_reserved_zero()
        adapter.require(1 <= adapter["n_sites"] <= 2**24, "n_sites", "1 .. 2^24")
    check_partition(report, report.tables["adapter"], "site")
    check_partition(report, report.tables["adapter"], "metadata")


# ---- 4.4 Site

REPLACEMENT, SAVED, ROWS, ADDITIVE, LINEAR, EMBEDDING, CONV1D, CONV2D, CONV3D, EXPERTS = range(1, 11)
LOW_RANK_KINDS = range(LINEAR, EXPERTS + 1)
KERNEL_DIMS = {CONV1D: 1, CONV2D: 2, CONV3D: 3}
SITE_ORDER = ("target", "kind", "row_begin", "col_begin")


def differing(order, last, key):
    """0.1: the field that decides the order of two records; of equal ones the first."""
    return next((field for field, old, new in zip(order, last, key) if old != new), order[0])


def check_sites(report):
    """4.4: each site, their order within an adapter, and that they partition the factors in order."""
    for adapter in report.tables["adapter"]:
        last = (b"", 0, 0, 0)
        for site in part(report, adapter, "site"):
            target = name(report, site, "target")
            site.require(target, "target", "a string that is not empty")
            check_site_kind(site)
            check_site_scale(site)
            check_site_range(site, 1, "row_begin", "row_end")
            check_site_range(site, 2, "col_begin", "col_end")
            absent = not any(site["base_sha256"])
            site.require(site["flags"] & 4 or absent, "base_sha256", "zero without bit 2 of flags")
            site.require(1 <= site["n_factors"] <= 16, "n_factors", "1 .. 16")
            key = (target, site["kind"], site["row_begin"], site["col_begin"])
            decides = differing(SITE_ORDER, last, key)
            site.require(key > last, decides, "ascending (target, kind, row_begin, col_begin)")
            last = key
    check_partition(report, report.tables["site"], "factor")


def check_site_kind(site):
    """4.4: what the kind allows. An unknown kind allows all of each range."""
    kind, known, low_rank = site["kind"], site["kind"] <= EXPERTS, site["kind"] in LOW_RANK_KINDS
    site.require(kind >= 1, "kind", "1 and above")
    turned = (0, 1, 2) if kind in (LINEAR, EXPERTS) or not known else (0,)
    site.require(site["orientation"] in turned, "orientation", "%s for this kind" % (turned,))
    scalings = (1, 2, 3) if low_rank else (0, 3) if kind == ADDITIVE else (0,) if known else (0, 1, 2, 3)
    site.require(site["scaling"] in scalings, "scaling", "%s for this kind" % (scalings,))
    least, most = (1 if low_rank else 0), (2**20 if low_rank or not known else 0)
    site.require(least <= site["rank"] <= most, "rank", "%d .. %d for this kind" % (least, most))
    site.require(site["flags"] <= 15, "flags", "bits 0 .. 3")
    linear = kind == LINEAR or not known
    site.require(linear or not site["flags"] & 8, "flags", "bit 3 only on linear sites")
    site.require(linear or not site["flags"] & 3, "flags", "bits 0 and 1, ranges, only on linear sites")


def check_site_scale(site):
    """4.4: alpha and the resolved scale. A reader uses `scale`; here it is computed only to compare."""
    alpha, scale, scaling = site["alpha"], site["scale"], site["scaling"]
    site.require(math.isfinite(alpha), "alpha", "a finite number")
    site.require(math.isfinite(scale), "scale", "a finite number")
    if scaling in (0, 3):
        site.require(alpha == 0 and math.copysign(1, alpha) > 0, "alpha", "+0 with scaling 0 and 3")
    if scaling == 0 and site["kind"] <= EXPERTS:
        site.require(scale == 1, "scale", "1 with scaling 0")
    if scaling in (1, 2) and site["kind"] <= EXPERTS:
        resolved = alpha / (site["rank"] if scaling == 1 else math.sqrt(site["rank"]))
        resolved = resolved * 2 if site["flags"] & 8 else resolved
        site.require(scale == resolved, "scale", "%r, by scaling, alpha, rank and flags" % resolved)


def check_site_range(site, bit, begin, end):
    """4.4: the form of a row or column range; its size is compared with B and A in 4.5."""
    if site["flags"] & bit:
        site.require(site[end] > site[begin], end, "above " + begin)
    else:
        site.require(site[begin] == 0, begin, "0 without its bit of flags")
        site.require(site[end] == 0, end, "0 without its bit of flags")


# ---- 4.5 Factor

A, B, MID, MAGNITUDE, VALUE, ROW_INDEX = range(1, 7)
ROLES = {                       # kind: roles it must have, roles it may have
    REPLACEMENT: ({VALUE}, {VALUE}),
    SAVED: ({VALUE}, {VALUE}),
    ROWS: ({VALUE, ROW_INDEX}, {VALUE, ROW_INDEX}),
    ADDITIVE: ({VALUE}, {VALUE}),
    LINEAR: ({A, B}, {A, B, MAGNITUDE}),
    EMBEDDING: ({A, B}, {A, B, MAGNITUDE}),
    CONV1D: ({A, B}, {A, B, MID, MAGNITUDE}),
    CONV2D: ({A, B}, {A, B, MID, MAGNITUDE}),
    CONV3D: ({A, B}, {A, B, MID, MAGNITUDE}),
    EXPERTS: ({A, B}, {A, B}),
}


def check_factors(report):
    """4.5, 4.6: each factor, and that the tensors are in order of their first use and all used."""
    tensors, used = report.tables["tensor"], 0
    for factor in report.tables["factor"]:
        factor.require(factor["role"] >= 1, "role", "1 and above")
        factor.require_reserved_zero()
        factor.require(factor["tensor"] < len(tensors), "tensor", "an index into the tensor table")
        factor.require(factor["tensor"] <= used, "tensor", "at most %d, by order of first use" % used)
        used = max(used, factor["tensor"] + 1)
    if used < len(tensors):
        raise Refusal("corrupt", tensors[used].at, tensors[used].path, "no factor uses the tensor")


def check_site_factors(report):
    """4.5: the roles of each site, and for known kinds the shapes. Runs when all records are known good."""
    for site in report.tables["site"]:
        tensors, last = {}, 0
        for factor in part(report, site, "factor"):
            role = factor["role"]
            factor.require(role > last, "role", "above that of the factor before")
            allowed = site["kind"] > EXPERTS or role > ROW_INDEX or role in ROLES[site["kind"]][1]
            factor.require(allowed, "role", "a role of kind %d" % site["kind"])
            tensors[role], last = report.tables["tensor"][factor["tensor"]], role
        if site["kind"] <= EXPERTS and last <= ROW_INDEX:
            missing = ROLES[site["kind"]][0] - set(tensors)
            site.require(not missing, "n_factors", "more: role %s is missing" % missing)
            check_factor_shapes(report, site, tensors)


def check_factor_shapes(report, site, tensors):
    """4.5: dtypes and shapes, where kind and roles are known."""
    for role in {A, B, MID, MAGNITUDE} & set(tensors):
        if dtype_name(tensors[role]) not in ("F16", "BF16", "F32", "F64"):
            report.defer(tensors[role].refusal("dtype", "F16, BF16, F32 or F64", "unsupported"))
    shapes = {role: shape_of(tensor) for role, tensor in tensors.items()}
    if site["kind"] in LOW_RANK_KINDS:
        check_low_rank_shapes(site, tensors, shapes)
    if site["flags"] & 1:
        rows = site["row_end"] - site["row_begin"]
        site.require(rows == shapes[B][0], "row_end", "%d rows from row_begin, as B has" % shapes[B][0])
    if site["flags"] & 2:
        columns = site["col_end"] - site["col_begin"]
        site.require(columns == shapes[A][1], "col_end", "%d columns from col_begin, as A has" % shapes[A][1])
    if site["kind"] == ROWS:
        index = tensors[ROW_INDEX]
        index.require(dtype_name(index) in ("I64", None), "dtype", "I64 for row_index")
        as_many = len(shapes[ROW_INDEX]) == 1 and shapes[ROW_INDEX] == shapes[VALUE][:1]
        index.require(as_many, "shape", "one dimension, as many numbers as value has rows")


def check_low_rank_shapes(site, tensors, shapes):
    """4.5: the shapes of A, B, mid and magnitude of a low-rank kind."""
    rank, n_dims = site["rank"], 2 + KERNEL_DIMS.get(site["kind"], 0)
    for role in {A, B, MID} & set(shapes):
        tensors[role].require(len(shapes[role]) == n_dims, "shape", "%d dimensions for this kind" % n_dims)
    experts = shapes[A][0] // rank
    one = experts == 1 or site["kind"] == EXPERTS
    tensors[A].require(one and shapes[A][0] % rank == 0, "shape", "A has rank %d first" % rank)
    tensors[B].require(shapes[B][1] == rank, "shape", "B has rank %d second" % rank)
    tensors[B].require(set(shapes[B][2:]) <= {1}, "shape", "B has ones after its rank")
    tensors[B].require(shapes[B][0] % experts == 0, "shape", "B has a multiple of %d experts" % experts)
    if MID in shapes:
        tensors[MID].require(shapes[MID][:2] == (rank, rank), "shape", "mid has rank %d twice" % rank)
        tensors[A].require(set(shapes[A][2:]) == {1}, "shape", "A beside mid has a kernel of ones")
    if MAGNITUDE in shapes:
        as_many = math.prod(shapes[MAGNITUDE]) == shapes[B][0]
        tensors[MAGNITUDE].require(as_many, "shape", "as many elements as B has rows, %d" % shapes[B][0])


def check_row_indexes(report):
    """4.5: the rows of row_index are from 0 and strictly ascending. A shared tensor is looked at once."""
    seen = set()
    for site in report.tables["site"]:
        for factor in part(report, site, "factor") if site["kind"] == ROWS else []:
            number, last = factor["tensor"], -1
            tensor = report.tables["tensor"][number]
            readable = dtype_name(tensor) == "I64" and tensor["codec"] == RAW
            if factor["role"] != ROW_INDEX or number in seen or not readable:
                continue
            seen.add(number)
            for place, (row,) in enumerate(struct.iter_unpack("<q", decode_tensor(report, number))):
                if row <= last:
                    text = "row %d of row_index is %d; allowed: above %d" % (place, row, last)
                    raise Refusal("corrupt", tensor["offset"] + 8 * place, tensor.path + ".data", text)
                last = row


# ---- 4.6 Tensor

RAW, SPLIT = 0, 1
DTYPES = {                      # 4.6.1: number: name, bits
    1: ("BOOL", 8), 2: ("F4", 4), 3: ("F6_E2M3", 6), 4: ("F6_E3M2", 6), 5: ("U8", 8), 6: ("I8", 8),
    7: ("F8_E5M2", 8), 8: ("F8_E4M3", 8), 9: ("F8_E8M0", 8), 10: ("I16", 16), 11: ("U16", 16),
    12: ("F16", 16), 13: ("BF16", 16), 14: ("I32", 32), 15: ("U32", 32), 16: ("F32", 32), 17: ("C64", 64),
    18: ("F64", 64), 19: ("I64", 64), 20: ("U64", 64), 21: ("F8_E4M3FNUZ", 8), 22: ("F8_E5M2FNUZ", 8),
}


def dtype_name(tensor):
    """4.6.1: the name of the dtype, None when it is unknown."""
    return DTYPES.get(tensor["dtype"], (None,))[0]


def shape_of(tensor):
    """4.6: the dimensions that count."""
    return tensor["shape"][:tensor["n_dims"]]


def check_tensors(report):
    """4.6: each tensor record, and that no two are the same. Overlap is looked for in 4.8."""
    alignment, contents = 2 ** report.index["align_log2"], set()
    for tensor in report.tables["tensor"]:
        aligned = tensor["offset"] >= FIRST_DATA and tensor["offset"] % alignment == 0
        tensor.require(aligned, "offset", "from 12288, a multiple of %d" % alignment)
        room = report.root["file_end"] - tensor["offset"]
        tensor.require(1 <= tensor["stored_size"] <= room, "stored_size", "at least 1, and within file_end")
        tensor.require(tensor["n_dims"] <= 8, "n_dims", "0 .. 8")
        tensor.require_reserved_zero()
        check_dimensions(tensor)
        tensor.require(tensor["decoded_size"] <= 2**46, "decoded_size", "at most 2^46")
        check_dtype_and_codec(report, tensor)
        content = (tensor["dtype"], tensor["n_dims"], tensor["shape"], tensor["sha256"])
        tensor.require(content not in contents, "sha256", "no second tensor of this dtype, shape and digest")
        contents.add(content)


def check_dimensions(tensor):
    """4.6: dimensions that count, and those that do not."""
    for number, dimension in enumerate(tensor["shape"]):
        fits = 1 <= dimension <= 2**48 if number < tensor["n_dims"] else dimension == 0
        if not fits:
            raise tensor.refusal("shape", "n_dims dimensions of 1 .. 2^48, then zero", item=number)


def check_dtype_and_codec(report, tensor):
    """4.6: the two sizes. An unknown dtype or codec makes the tensor unsupported, and the rest goes on."""
    stored, decoded, known = tensor["stored_size"], tensor["decoded_size"], dtype_name(tensor)
    if known:
        bits = math.prod(shape_of(tensor)) * DTYPES[tensor["dtype"]][1]
        tensor.require(bits % 8 == 0, "shape", "a number of bits that is a multiple of 8")
        tensor.require(decoded == bits // 8, "decoded_size", "%d, by shape and dtype" % (bits // 8))
    else:
        report.defer(tensor.refusal("dtype", "1 .. 22", "unsupported"))
    if tensor["codec"] == RAW:
        tensor.require(stored == decoded, "stored_size", "decoded_size, since codec is raw")
    elif tensor["codec"] == SPLIT:
        tensor.require(not known or known in SPLIT_WORDS, "codec", "split only for F32, F16, BF16 and F64")
        tensor.require(stored <= decoded, "stored_size", "at most decoded_size")
    else:
        report.defer(tensor.refusal("codec", "0 or 1", "unsupported"))


def check_tensor_data(report):
    """4.6: the digest of every tensor that can be decoded. Runs when ranges are known not to overlap."""
    for number, tensor in enumerate(report.tables["tensor"]):
        if tensor["codec"] == RAW:
            digest = sha256(report.data, tensor["offset"], tensor["stored_size"])
        elif tensor["codec"] == SPLIT and dtype_name(tensor):
            digest = hashlib.sha256(decode_tensor(report, number)).digest()
        else:
            continue
        tensor.require(tensor["sha256"] == digest, "sha256", "that of the decoded bytes, " + digest.hex())


# ---- 4.7 Metadata

def check_metadata(report):
    """4.7: each entry, the order of keys within an adapter, and the size of all values together."""
    total = 0
    for adapter in report.tables["adapter"]:
        last = b""
        for entry in part(report, adapter, "metadata"):
            key = name(report, entry, "key")
            entry.require(key > last, "key", "not empty, unique and ascending within the adapter")
            total += len(string(report, entry, "value"))
            entry.require(total <= 2**28, "value", "2^28 bytes in all values together")
            entry.require(entry["flags"] <= 1, "flags", "bit 0")
            entry.require_reserved_zero()
            last = key


# ---- 4.8 Segments

SUPERSEDED, DEAD = 1, 2


def check_segments(report):
    """4.8: each segment, and that they ascend without overlap."""
    last_end = FIRST_DATA
    for segment in report.tables["segment"]:
        segment.require(segment["offset"] >= last_end, "offset", "from %d, in order" % last_end)
        room = report.root["file_end"] - segment["offset"]
        segment.require(1 <= segment["size"] <= room, "size", "at least 1, and within file_end")
        older = segment["generation"] <= report.root["generation"]
        segment.require(older, "generation", "at most that of the root")
        segment.require(segment["kind"] in (SUPERSEDED, DEAD), "kind", "1 or 2")
        segment.require_reserved_zero()
        last_end = segment["offset"] + segment["size"]


def check_coverage(report):
    """4.8: header pages, index, tensors and segments cover the file, with short zero padding between."""
    root, end, before = report.root, FIRST_DATA, None
    ranges = [(root["index_offset"], root["index_size"], None)]
    ranges += [(entry["offset"], entry["stored_size"], entry) for entry in report.tables["tensor"]]
    ranges += [(entry["offset"], entry["size"], entry) for entry in report.tables["segment"]]
    for begin, size, record in sorted(ranges, key=lambda entry: entry[:2]):
        if begin < end:
            raise (record or before).refusal("offset", "a range without overlap")
        if begin - end >= 2 ** report.index["align_log2"]:
            text = "%d bytes; allowed: less than the alignment" % (begin - end)
            raise Refusal("corrupt", end, "padding", text)
        require_zero(report.data, end, begin, "padding")
        end, before = begin + size, record
    root.require(root["file_end"] == end, "file_end", "%d, the end of the last range" % end)


# ---- 4.9 History

def check_history(report):
    """4.9: each entry is the root of an earlier generation, and each was appended to the next older one."""
    later = report.root
    superseded = [segment for segment in report.tables["segment"] if segment["kind"] == SUPERSEDED]
    offsets = [segment["offset"] for segment in superseded]
    if superseded and not len(report.tables["history"]):
        raise superseded[0].refusal("kind", "not 1, since the history is empty")
    for entry in report.tables["history"]:
        check_root(entry, report.data)
        descends = entry["generation"] < later["generation"]
        entry.require(descends, "generation", "below that of the root or entry before")
        appended = entry["file_end"] <= later["index_offset"]
        entry.require(appended, "file_end", "at most index_offset of the root or entry before")
        found = bisect.bisect_right(offsets, entry["index_offset"]) - 1
        end = superseded[found]["offset"] + superseded[found]["size"] if found >= 0 else 0
        inside = entry["index_offset"] + entry["index_size"] <= end
        entry.require(inside, "index_offset", "an index within one superseded segment")
        if report.other_root and entry["generation"] == report.root["generation"] - 1:
            at = report.other_root.at
            same = report.data[entry.at:entry.at + ROOT_SIZE] == report.data[at:at + ROOT_SIZE]
            if not same:
                raise Refusal("corrupt", entry.at, entry.path, "not the record in the other slot")
        later = entry


def check_history_data(report):
    """4.9: the digest of each older index, which is not looked into."""
    for entry in report.tables["history"]:
        digest = sha256(report.data, entry["index_offset"], entry["index_size"])
        entry.require(entry["index_sha256"] == digest, "index_sha256", "that of the index, " + digest.hex())


# ---- 4.10 Signatures

def check_signatures(report):
    """4.10: the form of the records only."""
    last = (-1, b"")
    for signature in report.tables.get("signature", []):
        known = signature["adapter"] < len(report.tables["adapter"])
        signature.require(known, "adapter", "an index into the adapter table")
        signature.require(signature["algorithm"] != 0, "algorithm", "1 and above")
        signature.require_reserved_zero()
        key = (signature["adapter"], signature["public_key"])
        decides = differing(("adapter", "public_key"), last, key)
        signature.require(key > last, decides, "ascending (adapter, public_key), each pair once")
        last = key


# ---- 5. Codecs

SPLIT_HEADER = layout("0 u32 block_log2, 4 4s reserved")
SPLIT_WORDS = {"F16": "H", "BF16": "H", "F32": "I", "F64": "Q"}        # dtype: its unsigned integer


def decode_tensor(report, number):
    """5: the decoded bytes of a tensor. Its digest is not checked here."""
    tensor = report.tables["tensor"][number]
    if tensor["codec"] == RAW:
        return report.data[tensor["offset"]:tensor["offset"] + tensor["stored_size"]]
    if tensor["codec"] == SPLIT and dtype_name(tensor):
        return decode_split(report, tensor)
    raise tensor.refusal("codec", "0, or 1 with a known dtype", "unsupported")


def decode_split(report, tensor):
    """5: the topmost byte of each element is in zlib streams, the others are in raw planes."""
    width = DTYPES[tensor["dtype"]][1] // 8
    elements = tensor["decoded_size"] // width
    planes = tensor["offset"] + tensor["stored_size"] - (width - 1) * elements
    tensor.require(tensor["offset"] + 8 <= planes, "stored_size", "at least a header and the raw planes")
    rotated = bytearray(tensor["decoded_size"])
    rotated[width - 1::width] = decode_streams(report, tensor, elements, planes)
    for place in reversed(range(width - 1)):
        rotated[place::width] = report.data[planes:planes + elements]
        planes += elements
    return rotate_right(rotated, width, SPLIT_WORDS[dtype_name(tensor)])


def decode_streams(report, tensor, elements, planes):
    """5: what lies before the raw planes: a header, the ends of the streams, and one stream per block."""
    data, header = report.data, Record(SPLIT_HEADER, report.data, tensor["offset"], tensor.path + ".split")
    several = 18 < header["block_log2"] <= 30 and 2 ** header["block_log2"] < elements
    header.require(header["block_log2"] == 18 or several, "block_log2", "18, or 19 .. 30 with several blocks")
    header.require_reserved_zero()
    block = 2 ** header["block_log2"]
    ends_at, n_blocks = tensor["offset"] + 8, (elements + block - 1) // block
    streams = ends_at + 8 * n_blocks
    tensor.require(streams < planes, "stored_size", "at least a header, the ends and the raw planes")
    ends, begin = struct.unpack_from("<%dQ" % n_blocks, data, ends_at), 0
    for number, end in enumerate(ends):
        if end <= begin:
            field = "%s.split.end[%d]" % (tensor.path, number)
            raise Refusal("corrupt", ends_at + 8 * number, field, "%d; allowed: above %d" % (end, begin))
        begin = end
    tensor.require(streams + begin == planes, "stored_size", "what its parts add up to")
    topmost, begin = bytearray(), 0
    for number, end in enumerate(ends):
        decoded = inflate(data[streams + begin:streams + end], min(block, elements - number * block))
        if decoded is None:
            text = "the stream of block %d is not one zlib stream of the block's length" % number
            raise Refusal("corrupt", streams + begin, "%s.split.stream[%d]" % (tensor.path, number), text)
        topmost += decoded
        begin = end
    return topmost


def inflate(stream, length):
    """5: the bytes of a zlib stream, None unless they are `length` and all of the input is used."""
    decoder = zlib.decompressobj()
    try:
        decoded = decoder.decompress(stream, length + 1)
    except zlib.error:
        return None
    return decoded if len(decoded) == length and decoder.eof and not decoder.unused_data else None


def rotate_right(rotated, width, word):
    """5: turn each element back by one bit, 65536 elements at a time."""
    decoded, top = bytearray(), 8 * width - 1
    for begin in range(0, len(rotated), 65536 * width):
        piece = rotated[begin:begin + 65536 * width]
        code = struct.Struct("<%d%s" % (len(piece) // width, word))
        decoded += code.pack(*[x >> 1 | (x & 1) << top for x in code.unpack(piece)])
    return bytes(decoded)


# ---- 6. Identity

def str_(text):
    """6.1: str(x), the length of x as u32 and its bytes."""
    return struct.pack("<I", len(text)) + text


def adapter_id(report, adapter):
    """6.1: SHA-256 over what the adapter does and what it claims to fit."""
    digest = hashlib.sha256(b"lora adapter id v1\0")
    digest.update(str_(name(report, adapter, "base_name")) + str_(name(report, adapter, "base_revision")))
    digest.update(struct.pack("<I", adapter["flags"]) + adapter["base_structure"])
    digest.update(struct.pack("<I", adapter["n_sites"]))
    for site in part(report, adapter, "site"):
        as_in_record = report.data[site.at + 4:site.at + 64]        # from kind to col_end
        digest.update(str_(name(report, site, "target")) + as_in_record)
        digest.update(site["base_sha256"] + struct.pack("<I", site["n_factors"]))
        for factor in part(report, site, "factor"):
            tensor = report.tables["tensor"][factor["tensor"]]
            digest.update(struct.pack("<HBB", factor["role"], tensor["dtype"], tensor["n_dims"]))
            digest.update(struct.pack("<%dQ" % tensor["n_dims"], *shape_of(tensor)) + tensor["sha256"])
    semantic = [entry for entry in part(report, adapter, "metadata") if entry["flags"] & 1]
    digest.update(struct.pack("<I", len(semantic)))
    for entry in semantic:
        digest.update(str_(name(report, entry, "key")) + str_(string(report, entry, "value")))
    return digest.digest()


def check_adapter_ids(report):
    """6.1: every adapter has the id of its content."""
    for adapter in report.tables["adapter"]:
        found = adapter_id(report, adapter)
        adapter.require(adapter["adapter_id"] == found, "adapter_id", "that of its content, " + found.hex())


# ---- 9. Verification

class Report:
    """9: what reading a file came to: the verdict and its reason, and the records."""

    def __init__(self, data):
        self.data = data
        self.verdict, self.offset, self.field, self.text = "good", None, None, None
        self.slot = self.root = None            # the current root and the number of its slot
        self.other_root = None                  # the root in the other slot, when it is valid
        self.damage = None                      # what is wrong with the other slot: the file is recovered
        self.unsupported = None                 # the first thing wrong with a tensor that is unsupported
        self.index = None                       # the index header
        self.tables = {}                        # name of a section's records: Table
        self.ignored_sections = []
        self.names = {}                         # offset in the name pool: a name that was checked
        self.listed = False                     # all records were read, so that they can be listed

    def defer(self, refusal):
        """4.6: an unknown dtype or codec makes that tensor unsupported, and verification ends so."""
        self.unsupported = self.unsupported or refusal

    def listing(self):
        return listing(self)


def read(data):
    """9: verify the bytes of a file. The return value is a Report, whatever the bytes are."""
    report = Report(bytes(data))
    try:
        verify(report)
        refusal = report.unsupported or report.damage
        report.verdict = "unsupported" if report.unsupported else "recovered" if report.damage else "good"
    except Refusal as error:
        refusal, report.verdict = error, error.verdict
    if refusal:
        report.offset, report.field, report.text = refusal.offset, refusal.field, refusal.text
    return report


def verify(report):
    """9: opening first, then all records, then the file as a whole. Data is hashed last."""
    read_header(report.data)
    choose_root(report)
    read_index(report)
    check_name_pool(report)
    check_adapters(report)
    check_sites(report)
    check_factors(report)
    check_tensors(report)
    check_site_factors(report)
    check_metadata(report)
    check_segments(report)
    check_history(report)
    check_signatures(report)
    report.listed = True
    check_coverage(report)
    check_history_data(report)
    check_tensor_data(report)
    check_row_indexes(report)
    check_adapter_ids(report)


# ---- The report as JSON

NOT_LISTED = """magic crc32 reserved reserved_end first_site n_sites first_metadata n_metadata
    first_factor n_factors n_dims""".split()


def values(record):
    """The fields of a record: digests as hex, numbers as they are."""
    found = {field: record[field] for field in record.layout if field not in NOT_LISTED}
    return {field: value.hex() if isinstance(value, bytes) else value for field, value in found.items()}


def named(report, record, *fields):
    """The fields of a record, and some of them as the strings that they name."""
    return dict(values(record), **{field: string(report, record, field).decode("utf-8") for field in fields})


def list_adapter(report, adapter):
    """An adapter with its sites, their factors, and its metadata."""
    found = named(report, adapter, "name", "base_name", "base_revision")
    found["sites"] = [named(report, site, "target") for site in part(report, adapter, "site")]
    for listed, site in zip(found["sites"], part(report, adapter, "site")):
        listed["factors"] = [values(factor) for factor in part(report, site, "factor")]
    found["metadata"] = [named(report, entry, "key", "value") for entry in part(report, adapter, "metadata")]
    return found


def list_tensor(tensor):
    """A tensor, its dtype as a name when it has one."""
    return dict(values(tensor), dtype=dtype_name(tensor) or tensor["dtype"], shape=shape_of(tensor))


def listing(report):
    """All that the report says, as values for JSON."""
    tables, file = report.tables if report.listed else {}, None
    if report.root:
        align_log2 = report.index["align_log2"] if report.index else None
        ignored = report.ignored_sections
        file = dict(values(report.root), slot=report.slot, align_log2=align_log2, ignored_sections=ignored)
    return {
        "verdict": report.verdict, "offset": report.offset, "field": report.field, "text": report.text,
        "file": file,
        "adapters": [list_adapter(report, adapter) for adapter in tables.get("adapter", [])],
        "tensors": [list_tensor(tensor) for tensor in tables.get("tensor", [])],
        "segments": [values(segment) for segment in tables.get("segment", [])],
        "history": [values(entry) for entry in tables.get("history", [])],
        "signatures": [values(signature) for signature in tables.get("signature", [])],
    }


def main(arguments):
    """The command line."""
    if len(arguments) != 1 or arguments[0] in ("-h", "--help"):
        print("usage: reader.py FILE", file=sys.stderr)
        return 2
    try:
        with open(arguments[0], "rb") as file:
            report = read(file.read())
    except OSError as error:
        print("reader.py: %s" % error, file=sys.stderr)
        return 2
    json.dump(report.listing(), sys.stdout, indent=1, sort_keys=True)
    print()
    return 0 if report.verdict == "good" else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

/* SPDX-License-Identifier: MIT */
/* The numbers of the spec: where each field lies in its structure, sizes and limits. */
#ifndef LF_CONTAINER_FORMAT_H
#define LF_CONTAINER_FORMAT_H

#include <stdint.h>

/* spec 1 */
#define LF_PAGE_SIZE 4096u
#define LF_SLOT_OFFSET(slot) (LF_PAGE_SIZE * (1u + (slot)))
#define LF_SEGMENTS_OFFSET (3 * LF_PAGE_SIZE)

/* spec 2: header page */
enum {
    LF_HEADER_MAGIC = 0,
    LF_HEADER_VERSION_MAJOR = 12,
    LF_HEADER_VERSION_MINOR = 14,
    LF_HEADER_RESERVED = 16,
    LF_HEADER_CRC32 = 28,
    LF_HEADER_RESERVED_TAIL = 32,
};

/* spec 3: root record, of which a slot holds one and the history others */
enum {
    LF_ROOT_MAGIC = 0,
    LF_ROOT_GENERATION = 8,
    LF_ROOT_INCOMPATIBLE = 16,
    LF_ROOT_COMPATIBLE = 24,
    LF_ROOT_INDEX_OFFSET = 32,
    LF_ROOT_INDEX_SIZE = 40,
    LF_ROOT_INDEX_SHA256 = 48,
    LF_ROOT_FILE_END = 80,
    LF_ROOT_RESERVED = 88,
    LF_ROOT_CRC32 = 124,
    LF_ROOT_SIZE = 128,
};

#define LF_MAX_GENERATION (UINT64_MAX >> 1)
#define LF_INDEX_ALIGN 64u
#define LF_MIN_INDEX_SIZE 160u /* an index header, eight section table entries, one byte of names and its padding */
#define LF_MAX_INDEX_SIZE (UINT64_C(1) << 28)

/* spec 4.1: index header */
enum {
    LF_INDEX_MAGIC = 0,
    LF_INDEX_GENERATION = 8,
    LF_INDEX_ALIGN_LOG2 = 16,
    LF_INDEX_N_SECTIONS = 20,
    LF_INDEX_SECTION_TABLE = 24,
};

/* spec 4.1: section table entry */
enum {
    LF_SECTION_ID = 0,
    LF_SECTION_RECORD_SIZE = 4,
    LF_SECTION_N_RECORDS = 8,
    LF_SECTION_SIZE = 16,
};

#define LF_MAX_SECTIONS 64u
#define LF_FIRST_IGNORABLE_SECTION (UINT32_C(1) << 31)
#define LF_MAX_RECORDS (UINT64_C(1) << 24)
#define LF_MAX_METADATA (UINT64_C(1) << 16)

/* spec 4.3: adapter */
enum {
    LF_ADAPTER_NAME = 0,
    LF_ADAPTER_BASE_NAME = 4,
    LF_ADAPTER_BASE_REVISION = 8,
    LF_ADAPTER_FLAGS = 12,
    LF_ADAPTER_FIRST_SITE = 16,
    LF_ADAPTER_N_SITES = 20,
    LF_ADAPTER_FIRST_METADATA = 24,
    LF_ADAPTER_N_METADATA = 28,
    LF_ADAPTER_ID = 32,
    LF_ADAPTER_BASE_STRUCTURE = 64,
    LF_ADAPTER_RESERVED = 96,
    LF_ADAPTER_SIZE = 104,
};

#define LF_ADAPTER_FLAG_BASE_STRUCTURE UINT32_C(1)

/* spec 4.4: site */
enum {
    LF_SITE_TARGET = 0,
    LF_SITE_KIND = 4,
    LF_SITE_ORIENTATION = 6,
    LF_SITE_SCALING = 7,
    LF_SITE_RANK = 8,
    LF_SITE_FLAGS = 12,
    LF_SITE_ALPHA = 16,
    LF_SITE_SCALE = 24,
    LF_SITE_ROW_BEGIN = 32,
    LF_SITE_ROW_END = 40,
    LF_SITE_COL_BEGIN = 48,
    LF_SITE_COL_END = 56,
    LF_SITE_FIRST_FACTOR = 64,
    LF_SITE_N_FACTORS = 68,
    LF_SITE_BASE_SHA256 = 72,
    LF_SITE_SIZE = 104,
};

#define LF_MAX_FACTORS 16u

/* spec 4.5: factor */
enum {
    LF_FACTOR_ROLE = 0,
    LF_FACTOR_RESERVED = 2,
    LF_FACTOR_TENSOR = 4,
    LF_FACTOR_SIZE = 8,
};

/* spec 4.6: tensor */
enum {
    LF_TENSOR_OFFSET = 0,
    LF_TENSOR_STORED_SIZE = 8,
    LF_TENSOR_DECODED_SIZE = 16,
    LF_TENSOR_DTYPE = 24,
    LF_TENSOR_CODEC = 25,
    LF_TENSOR_N_DIMS = 26,
    LF_TENSOR_RESERVED = 27,
    LF_TENSOR_SHAPE = 32,
    LF_TENSOR_SHA256 = 96,
    LF_TENSOR_SIZE = 128,
};

/* spec 5: the stored bytes of codec split */
enum {
    LF_SPLIT_BLOCK_LOG2 = 0,
    LF_SPLIT_RESERVED = 4,
    LF_SPLIT_END = 8,
    LF_SPLIT_END_SIZE = 8,
    LF_SPLIT_MIN_BLOCK_LOG2 = 18,
    LF_SPLIT_MAX_BLOCK_LOG2 = 30,
};

/* spec 4.7: metadata */
enum {
    LF_METADATA_KEY = 0,
    LF_METADATA_VALUE = 4,
    LF_METADATA_FLAGS = 8,
    LF_METADATA_RESERVED = 12,
    LF_METADATA_SIZE = 16,
};

/* spec 4.8: segment */
enum {
    LF_SEGMENT_OFFSET = 0,
    LF_SEGMENT_LENGTH = 8, /* the field `size` */
    LF_SEGMENT_GENERATION = 16,
    LF_SEGMENT_KIND = 24,
    LF_SEGMENT_RESERVED = 28,
    LF_SEGMENT_SIZE = 32,
};

enum { LF_SEGMENT_SUPERSEDED = 1, LF_SEGMENT_DEAD = 2 };

/* spec 4.10: signature */
enum {
    LF_SIGNATURE_ADAPTER = 0,
    LF_SIGNATURE_ALGORITHM = 4,
    LF_SIGNATURE_RESERVED = 8,
    LF_SIGNATURE_PUBLIC_KEY = 32,
    LF_SIGNATURE_SIGNATURE = 64,
    LF_SIGNATURE_RESERVED_TAIL = 128,
    LF_SIGNATURE_SIZE = 160,
};

#endif

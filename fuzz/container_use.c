/* SPDX-License-Identifier: MIT */
#include "fuzz/container_use.h"

#include "format/base/bytes.h"
#include "fuzz/fuzz.h"
#include "lorafmt/index.h"

/* --- reading --- */

bool read_adapter(const lf_container *c, size_t i, lorafmt_adapter *out, lf_arena *arena)
{
    lf_adapter_records records;
    lorafmt_error err;

    if (lf_container_read(c, i, arena, &records, &err) != LORAFMT_OK)
        return false;
    for (size_t k = 0; k < records.n_factors; k++) {
        lorafmt_tensor *tensor = &records.factors[k].tensor;
        void *decoded = tensor->data ? NULL : lf_arena_alloc(arena, (size_t)tensor->size, 1);
        require(tensor->data || decoded);
        if (decoded && lf_container_decode_tensor(c, records.tensors[k], decoded, &err) != LORAFMT_OK)
            return false;
        if (decoded)
            tensor->data = decoded;
    }
    *out = records.adapter;
    return true;
}

/* --- what passes is written and read again --- */

typedef struct buffer {
    uint8_t *bytes;
    size_t size;
} buffer;

static lorafmt_status to_buffer(void *ctx, const void *data, size_t size, lorafmt_error *err)
{
    buffer *b = ctx;
    (void)err;

    b->bytes = realloc(b->bytes, b->size + size);
    require(b->bytes != NULL);
    memcpy(b->bytes + b->size, data, size);
    b->size += size;
    return LORAFMT_OK;
}

static void require_same_ids(const buffer *written, const lorafmt_adapter *adapters, size_t n)
{
    uint32_t first_site, first_metadata;
    lorafmt_adapter again;
    lf_container *c;

    require(lf_container_open(written->bytes, written->size, 0, &c, NULL) == LORAFMT_OK);
    require(lf_container_check(c, NULL, NULL) == LORAFMT_OK);
    require(lf_container_n_adapters(c) == n);
    for (size_t i = 0; i < n; i++) {
        require(lf_container_adapter(c, i, &again, &first_site, &first_metadata, NULL) == LORAFMT_OK);
        require(memcmp(again.id, adapters[i].id, sizeof again.id) == 0);
    }
    lf_container_free(c);
}

static void encode_again(const lorafmt_adapter *adapters, size_t n, lf_arena *arena)
{
    static const lorafmt_codec codecs[] = {LORAFMT_CODEC_RAW, LORAFMT_CODEC_SPLIT};
    const lorafmt_adapter **list = lf_arena_alloc(arena, n, sizeof *list);
    uint64_t size;

    require(list != NULL);
    for (size_t i = 0; i < n; i++)
        list[i] = &adapters[i];
    for (size_t i = 0; i < 2; i++) {
        buffer written = {0};
        require(lf_container_encode(list, n, 6, codecs[i], to_buffer, &written, &size, NULL) == LORAFMT_OK);
        require(size == written.size);
        require_same_ids(&written, adapters, n);
        free(written.bytes);
    }
}

void use_container(const lf_container *c)
{
    const size_t n = lf_container_n_adapters(c);
    lf_arena arena = {0};
    lorafmt_adapter *adapters = lf_arena_alloc(&arena, n, sizeof *adapters);
    lorafmt_container_info info;
    lorafmt_verify_result result;
    lf_tensor_record tensor;
    lorafmt_error err;
    bool whole = true;
    size_t site = 0;

    require(adapters != NULL);
    lf_container_info(c, &info);
    for (size_t i = 0; i < n; i++)
        whole = read_adapter(c, i, &adapters[i], &arena) && whole;
    for (size_t i = 0; i < lf_container_n_tensors(c); i++)
        lf_container_tensor(c, i, &tensor, &err);
    lf_container_find_site(c, 0, "w", &site, &err);
    if (lf_container_check(c, &result, &err) == LORAFMT_OK) {
        require(whole && !info.recovered);
        require(result.n_adapters == n);
        encode_again(adapters, n, &arena);
    }
    lf_arena_free(&arena);
}

/* A loader's way: sites by number, then by name, and some of their data. */
static void look_up_adapter(const lorafmt_index *index, size_t i)
{
    lorafmt_factor factors[LORAFMT_MAX_FACTORS];
    lorafmt_site site, again;
    lorafmt_adapter adapter;
    size_t first, n, found = 0;
    uint8_t data[4096];

    if (lorafmt_index_adapter(index, i, &adapter, &first, &n, NULL) != LORAFMT_OK)
        return;
    for (size_t k = first; k < first + n; k++) {
        if (lorafmt_index_site(index, k, &site, factors, NULL) != LORAFMT_OK)
            continue;
        for (uint32_t f = 0; f < site.n_factors; f++)
            if (factors[f].tensor.size <= sizeof data)
                lorafmt_index_load(index, k, f, data, NULL);
        if (lorafmt_index_find(index, i, site.target, &found, NULL) == LORAFMT_OK &&
            lorafmt_index_site(index, found, &again, factors, NULL) == LORAFMT_OK)
            require(found >= first && found - first < n && strcmp(again.target, site.target) == 0);
    }
}

static void look_up(const uint8_t *data, size_t size)
{
    const lorafmt_index_options options = {.struct_size = sizeof options, .defer_digest = true};
    lorafmt_index *index;

    if (lorafmt_index_open(data, size, &options, &index, NULL) != LORAFMT_OK)
        return;
    for (size_t i = 0; i < lorafmt_index_n_adapters(index); i++)
        look_up_adapter(index, i);
    lorafmt_index_free(index);
}

/* As one opens a file that has a path. What opens may still not verify. */
static void open_source(const uint8_t *data, size_t size)
{
    const lorafmt_memory memory = {.bytes = data, .size = size};
    const lorafmt_source_options options = {.struct_size = sizeof options, .n_threads = 1};
    lorafmt_container_info info;
    lorafmt_verify_result result;
    lorafmt_source *source;
    lorafmt_status status;
    lorafmt_error err;

    if ((status = lorafmt_source_open_memory(&memory, &options, &source, &err)) != LORAFMT_OK) {
        require_refused(status, &err);
    } else if ((status = lorafmt_verify(source, &result, &err)) != LORAFMT_OK) {
        require_refused(status, &err);
    } else if (lorafmt_source_container(source, &info)) {
        require(result.n_adapters == lorafmt_source_n_adapters(source) && !info.recovered);
    }
    lorafmt_source_free(source);
}

void use_file(const uint8_t *data, size_t size)
{
    lf_container *c;
    lorafmt_error err;

    look_up(data, size);
    open_source(data, size);
    if (lf_container_open(data, size, LF_CONTAINER_DEFER_DIGEST, &c, &err) == LORAFMT_OK)
        use_container(c);
    lf_container_free(c);
}

/* --- repairs --- */

static void repair_root(uint8_t *root)
{
    lf_store_u32le(root + LF_ROOT_CRC32, lf_crc32_of(root, LF_ROOT_CRC32));
}

void repair_checksums(uint8_t *file)
{
    lf_store_u32le(file + LF_HEADER_CRC32, lf_crc32_of(file, LF_HEADER_CRC32));
    for (unsigned slot = 0; slot < 2; slot++)
        if (!lf_all_zero(file + LF_SLOT_OFFSET(slot), LF_ROOT_SIZE))
            repair_root(file + LF_SLOT_OFFSET(slot));
}

void repair_digests(const lf_container *c, uint8_t *file)
{
    uint8_t *index = file + c->root.index_offset;
    lf_arena arena = {0};
    lorafmt_adapter adapter;
    lf_tensor_record t;

    for (size_t i = 0; i < lf_container_n_tensors(c); i++) {
        uint8_t *p = index + c->sections[LF_TENSORS].offset + i * LF_TENSOR_SIZE;
        void *decoded =
            lf_container_tensor(c, i, &t, NULL) == LORAFMT_OK ? lf_arena_alloc(&arena, (size_t)t.tensor.size, 1) : NULL;
        if (decoded && lf_container_decode_tensor(c, i, decoded, NULL) == LORAFMT_OK)
            lf_sha256_of(decoded, (size_t)t.tensor.size, p + LF_TENSOR_SHA256);
    }
    for (size_t i = 0; i < lf_container_n_adapters(c); i++) {
        uint8_t *p = index + c->sections[LF_ADAPTERS].offset + i * LF_ADAPTER_SIZE;
        if (read_adapter(c, i, &adapter, &arena))
            lf_adapter_id(&adapter, NULL, p + LF_ADAPTER_ID);
    }
    lf_arena_free(&arena);
}

/* The digest of the index that a root record names, if that lies in the file. */
static void repair_index_digest(uint8_t *root, const uint8_t *file, size_t size)
{
    const uint64_t offset = lf_load_u64le(root + LF_ROOT_INDEX_OFFSET), n = lf_load_u64le(root + LF_ROOT_INDEX_SIZE);

    if (offset <= size && n <= size - offset)
        lf_sha256_of(file + offset, (size_t)n, root + LF_ROOT_INDEX_SHA256);
    repair_root(root);
}

/* The history says what the other slot says, and the right digests. */
static void repair_history(const lf_container *c, uint8_t *file, size_t size)
{
    for (size_t i = 0; i < c->sections[LF_HISTORY].n_records; i++) {
        uint8_t *root = file + c->root.index_offset + c->sections[LF_HISTORY].offset + i * LF_ROOT_SIZE;
        if (lf_load_u64le(root + LF_ROOT_GENERATION) == c->root.generation - 1 && !c->recovered)
            memcpy(root, file + LF_SLOT_OFFSET(1 - c->slot), LF_ROOT_SIZE);
        else
            repair_index_digest(root, file, size);
    }
}

void repair_file(uint8_t *file, size_t size)
{
    lf_container *c;

    lf_store_u32le(file + LF_HEADER_CRC32, lf_crc32_of(file, LF_HEADER_CRC32));
    for (unsigned slot = 0; slot < 2; slot++)
        if (!lf_all_zero(file + LF_SLOT_OFFSET(slot), LF_ROOT_SIZE))
            repair_index_digest(file + LF_SLOT_OFFSET(slot), file, size);
    if (lf_container_open(file, size, LF_CONTAINER_DEFER_DIGEST, &c, NULL) != LORAFMT_OK)
        return;
    repair_digests(c, file);
    repair_history(c, file, size);
    repair_index_digest(file + LF_SLOT_OFFSET(c->slot), file, size);
    lf_container_free(c);
}

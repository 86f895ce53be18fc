/* SPDX-License-Identifier: MIT */
/* Tensors whose elements PEFT keeps in another order than spec 4.5: experts and token rows. Nothing is computed, only moved. */
#include "format/base/bytes.h"
#include "format/base/dtype.h"
#include "format/base/error.h"
#include "lib/dialect/peft.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define ROW_INDEX_SIZE 8 // of an I64

static lorafmt_status new_tensor(const lorafmt_tensor *like, uint64_t rows, uint64_t cols, lf_arena *arena, uint8_t **data,
                                 lorafmt_tensor *out, lorafmt_error *err)
{
    *data = lf_arena_alloc(arena, 1, (size_t)like->size);
    if (!*data)
        return lf_no_memory(err);
    *out = (lorafmt_tensor){.dtype = like->dtype, .n_dims = 2, .shape = {rows, cols}, .size = like->size, .data = *data};
    return LORAFMT_OK;
}

/* Element [o, ρ·E + e] of PEFT's B is element [e·out + o, ρ] of ours; sizes are those of B in one of the two. */
static void move_experts(const uint8_t *src, uint8_t *dst, uint64_t n_experts, uint64_t out, uint64_t rank, size_t unit,
                         bool back)
{
    for (uint64_t o = 0; o < out; o++)
        for (uint64_t p = 0; p < rank; p++)
            for (uint64_t e = 0; e < n_experts; e++) {
                const uint64_t theirs = (o * rank + p) * n_experts + e, ours = (e * out + o) * rank + p;
                memcpy(dst + (back ? theirs : ours) * unit, src + (back ? ours : theirs) * unit, unit);
            }
}

lorafmt_status lf_peft_experts_from(const lorafmt_tensor *in, uint64_t n_experts, lf_arena *arena, lorafmt_tensor *out,
                                    lorafmt_error *err)
{
    const uint64_t n_out = in->shape[0], rank = in->shape[1] / n_experts;
    uint8_t *data;

    LF_TRY(new_tensor(in, n_experts * n_out, rank, arena, &data, out, err));
    move_experts(in->data, data, n_experts, n_out, rank, lorafmt_dtype_bits(in->dtype) / 8, false);
    return LORAFMT_OK;
}

lorafmt_status lf_peft_experts_to(const lorafmt_tensor *in, uint64_t n_experts, lf_arena *arena, lorafmt_tensor *out,
                                  lorafmt_error *err)
{
    const uint64_t n_out = in->shape[0] / n_experts, rank = in->shape[1];
    uint8_t *data;

    LF_TRY(new_tensor(in, n_out, rank * n_experts, arena, &data, out, err));
    move_experts(in->data, data, n_experts, n_out, rank, lorafmt_dtype_bits(in->dtype) / 8, true);
    return LORAFMT_OK;
}

/* PEFT finds a module by its whole path or its end. */
bool lf_peft_token_list_is_for(const cJSON *list, const char *module)
{
    const char *name = list->string;
    const size_t n = strlen(name), m = strlen(module);

    return n <= m && strcmp(module + m - n, name) == 0 && (n == m || module[m - n - 1] == '.');
}

lorafmt_status lf_peft_token_list(const lf_peft_config *config, const char *module, const cJSON **out, lorafmt_error *err)
{
    const bool named = cJSON_IsObject(config->trainable_token_indices);
    const cJSON *list;

    *out = named ? NULL : config->trainable_token_indices;
    if (!named)
        return LORAFMT_OK;
    cJSON_ArrayForEach(list, config->trainable_token_indices)
    {
        if (!lf_peft_token_list_is_for(list, module))
            continue;
        if (*out)
            return lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, "trainable_token_indices",
                           "lists of both %s and %s fit the module %s", (*out)->string, list->string, module);
        *out = list;
    }
    return LORAFMT_OK;
}

/* A row of the embedding, and which row of the list it is. */
typedef struct listed_row {
    uint64_t row;
    uint64_t place;
} listed_row;

static int compare_rows(const void *a, const void *b)
{
    const listed_row *x = a, *y = b;
    return (x->row > y->row) - (x->row < y->row);
}

/* The listed rows in ascending order. */
static lorafmt_status sort_list(const cJSON *list, uint64_t n_wanted, lf_arena *arena, listed_row **out, lorafmt_error *err)
{
    const uint64_t n = (uint64_t)cJSON_GetArraySize(list);
    listed_row *rows = lf_arena_alloc(arena, (size_t)n, sizeof *rows);
    const cJSON *item;
    uint64_t i = 0;

    if (!rows)
        return lf_no_memory(err);
    if (n != n_wanted)
        return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, "trainable_token_indices",
                       "lists %" PRIu64 " rows, the tensor has %" PRIu64, n, n_wanted);
    cJSON_ArrayForEach(item, list)
    {
        rows[i] = (listed_row){(uint64_t)item->valuedouble, i};
        i++;
    }
    qsort(rows, (size_t)n, sizeof *rows, compare_rows);
    for (i = 1; i < n; i++)
        if (rows[i].row == rows[i - 1].row)
            return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, "trainable_token_indices", "lists row %" PRIu64 " twice",
                           rows[i].row);
    *out = rows;
    return LORAFMT_OK;
}

lorafmt_status lf_peft_rows_from(const lorafmt_tensor *in, const cJSON *list, lf_arena *arena, lorafmt_tensor *rows,
                                 lorafmt_tensor *row_index, lorafmt_error *err)
{
    const size_t row_size = (size_t)(in->size / in->shape[0]), n = (size_t)in->shape[0];
    uint8_t *numbers = lf_arena_alloc(arena, n, ROW_INDEX_SIZE), *data;
    listed_row *sorted;

    if (!numbers)
        return lf_no_memory(err);
    LF_TRY(sort_list(list, n, arena, &sorted, err));
    LF_TRY(new_tensor(in, n, in->shape[1], arena, &data, rows, err));
    for (size_t i = 0; i < n; i++) {
        memcpy(data + i * row_size, (const uint8_t *)in->data + sorted[i].place * row_size, row_size);
        lf_store_u64le(numbers + i * ROW_INDEX_SIZE, sorted[i].row);
    }
    *row_index = (lorafmt_tensor){.dtype = LORAFMT_I64, .n_dims = 1, .shape = {n}, .size = n * ROW_INDEX_SIZE, .data = numbers};
    return LORAFMT_OK;
}

lorafmt_status lf_peft_rows_to(const lorafmt_tensor *rows, const lorafmt_tensor *row_index, const cJSON *list, lf_arena *arena,
                               lorafmt_tensor *out, lorafmt_error *err)
{
    const size_t row_size = (size_t)(rows->size / rows->shape[0]), n = (size_t)rows->shape[0];
    listed_row *sorted;
    uint8_t *data;

    LF_TRY(sort_list(list, n, arena, &sorted, err));
    LF_TRY(new_tensor(rows, n, rows->shape[1], arena, &data, out, err));
    for (size_t i = 0; i < n; i++) {
        const uint64_t row = lf_load_u64le((const uint8_t *)row_index->data + i * ROW_INDEX_SIZE);
        if (row != sorted[i].row)
            return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, "trainable_token_indices",
                           "lists row %" PRIu64 ", the adapter has row %" PRIu64, sorted[i].row, row);
        memcpy(data + sorted[i].place * row_size, (const uint8_t *)rows->data + i * row_size, row_size);
    }
    return LORAFMT_OK;
}

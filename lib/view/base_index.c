/* SPDX-License-Identifier: MIT */
/* A base by name. */
#include "format/base/digest.h"
#include "format/base/dtype.h"
#include "format/base/error.h"
#include "format/base/text.h"
#include "lib/view/view.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define READ_SIZE 65536

typedef struct named {
    const char *name;
    size_t tensor;
} named;

static int compare_named(const void *a, const void *b)
{
    return strcmp(((const named *)a)->name, ((const named *)b)->name);
}

lorafmt_status lf_base_index_build(const lorafmt_base *base, lf_arena *arena, lf_base_index *out, lorafmt_error *err)
{
    named *sorted = lf_arena_alloc(arena, base->n_tensors, sizeof *sorted);

    out->base = base;
    out->order = lf_arena_alloc(arena, base->n_tensors, sizeof *out->order);
    if (!sorted || !out->order)
        return lf_no_memory(err);
    for (size_t i = 0; i < base->n_tensors; i++)
        sorted[i] = (named){base->tensors[i].name, i};
    if (base->n_tensors)
        qsort(sorted, base->n_tensors, sizeof *sorted, compare_named);
    for (size_t i = 0; i < base->n_tensors; i++) {
        if (i && strcmp(sorted[i - 1].name, sorted[i].name) == 0)
            return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, sorted[i].name, "the base lists this tensor twice");
        out->order[i] = sorted[i].tensor;
    }
    return LORAFMT_OK;
}

size_t lf_base_index_find(const lf_base_index *index, const char *name)
{
    size_t low = 0, high = index->base->n_tensors;

    while (low < high) {
        const size_t middle = low + (high - low) / 2, tensor = index->order[middle];
        const int order = strcmp(name, index->base->tensors[tensor].name);
        if (order == 0)
            return tensor;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return LF_NOT_THERE;
}

/* spec 6.2 */
lorafmt_status lorafmt_base_structure(const lorafmt_base *base, uint8_t out[32], lorafmt_error *err)
{
    static const char tag[] = "lora base structure v1";
    lf_arena arena = {0};
    lf_base_index index;
    lorafmt_status st;
    lf_sha256 h;

    memset(out, 0, 32);
    if ((st = lf_base_index_build(base, &arena, &index, err)))
        goto done;
    lf_sha256_init(&h);
    lf_sha256_update(&h, tag, sizeof tag);
    lf_sha256_u64(&h, base->n_tensors);
    for (size_t i = 0; i < base->n_tensors; i++) {
        const lorafmt_base_tensor *t = &base->tensors[index.order[i]];
        lf_sha256_str(&h, t->name);
        lf_sha256_str(&h, lorafmt_dtype_name(t->dtype));
        lf_sha256_u32(&h, t->n_dims);
        for (uint32_t d = 0; d < t->n_dims; d++)
            lf_sha256_u64(&h, t->shape[d]);
    }
    lf_sha256_final(&h, out);
done:
    lf_arena_free(&arena);
    return st;
}

lorafmt_status lf_base_tensor_digest(const lorafmt_base *base, size_t tensor, uint8_t out[32], lorafmt_error *err)
{
    uint8_t *buffer = malloc(READ_SIZE);
    lorafmt_status st = buffer ? LORAFMT_OK : lf_no_memory(err);
    lf_sha256 h;

    lf_sha256_init(&h);
    for (uint64_t at = 0, size = base->tensors[tensor].size; !st && at < size;) {
        const size_t n = size - at < READ_SIZE ? (size_t)(size - at) : READ_SIZE;
        st = base->read(base->ctx, tensor, at, n, buffer, err);
        if (!st)
            lf_sha256_update(&h, buffer, n);
        at += n;
    }
    lf_sha256_final(&h, out);
    free(buffer);
    return st;
}

static bool is_one_of(const char *name, const char *const *suffixes)
{
    for (; *suffixes; suffixes++) {
        const size_t n = strlen(name), m = strlen(*suffixes);
        if (lf_ends_with(name, *suffixes) && (n == m || name[n - m - 1] == '.'))
            return true;
    }
    return false;
}

bool lf_is_embedding_name(const char *name)
{
    static const char *const suffixes[] = {"embed_tokens.weight",    "wte.weight",
                                           "word_embeddings.weight", "tok_embeddings.weight",
                                           "embed_in.weight",        "shared.weight",
                                           "word_embedding.weight",  NULL};
    return is_one_of(name, suffixes);
}

bool lf_is_head_name(const char *name)
{
    static const char *const suffixes[] = {"lm_head.weight", "embed_out.weight", NULL};
    return is_one_of(name, suffixes);
}

/* spec 7.5: tensors that quantisers put beside or in place of <module>.weight */
bool lf_has_quantised_sibling(const lf_base_index *index, const char *name, char sibling[LF_MAX_NAME + 64])
{
    static const char *const suffixes[] = {"qweight",        "qzeros",           "g_idx",
                                           "scales",         "absmax",           "SCB",
                                           "weight.SCB",     "weight.absmax",    "weight_scale",
                                           "weight_scale_2", "weight_scale_inv", "weight_packed",
                                           "input_scale",    "weight.quant_map"};
    const size_t n = strlen(name) - strlen("weight");

    if (!lf_ends_with(name, ".weight") || strlen(name) > LF_MAX_NAME)
        return false;
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        snprintf(sibling, LF_MAX_NAME + 64, "%.*s%s", (int)n, name, suffixes[i]);
        if (lf_base_index_find(index, sibling) != LF_NOT_THERE)
            return true;
    }
    return false;
}

static size_t only(const lorafmt_base *base, bool (*is)(const char *name))
{
    size_t found = LF_NOT_THERE;

    for (size_t i = 0; i < base->n_tensors; i++)
        if (is(base->tensors[i].name)) {
            if (found != LF_NOT_THERE)
                return LF_NOT_THERE;
            found = i;
        }
    return found;
}

static lorafmt_dtype common_dtype(const lorafmt_base *base)
{
    lorafmt_dtype dtype = (lorafmt_dtype)0;

    for (size_t i = 0; i < base->n_tensors; i++) {
        if (!lf_dtype_is_real(base->tensors[i].dtype))
            continue;
        if (dtype && dtype != base->tensors[i].dtype)
            return (lorafmt_dtype)0;
        dtype = base->tensors[i].dtype;
    }
    return dtype;
}

void lf_view_survey(lorafmt_view *view)
{
    view->embedding = only(view->base, lf_is_embedding_name);
    view->head = only(view->base, lf_is_head_name);
    view->common_dtype = common_dtype(view->base);
}

/* SPDX-License-Identifier: MIT */
#include "tools/command.h"
#include "tools/oddities.h"

#include <stdlib.h>
#include <string.h>

typedef struct content {
    const tensor_entry *entry;
    uint64_t hash; /* of dtype, shape and data */
} content;

static uint64_t mix(uint64_t hash, uint64_t word)
{
    hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ hash >> 32;
}

static uint64_t hash_of(const lorafmt_tensor *t)
{
    const char *data = t->data;
    uint64_t hash = mix(t->dtype, t->n_dims), word;

    for (uint32_t i = 0; i < t->n_dims; i++)
        hash = mix(hash, t->shape[i]);
    for (uint64_t i = 0; i < t->size; i += sizeof word) {
        const uint64_t left = t->size - i;
        word = 0;
        memcpy(&word, data + i, left < sizeof word ? (size_t)left : sizeof word);
        hash = mix(hash, word);
    }
    return hash;
}

static int compare_contents(const void *a_, const void *b_)
{
    const content *a = a_, *b = b_;

    if (a->hash != b->hash)
        return a->hash < b->hash ? -1 : 1;
    if (a->entry->site != b->entry->site)
        return a->entry->site < b->entry->site ? -1 : 1;
    return (int)a->entry->role - (int)b->entry->role;
}

static bool is_same(const lorafmt_tensor *a, const lorafmt_tensor *b)
{
    return a->dtype == b->dtype && a->n_dims == b->n_dims && !memcmp(a->shape, b->shape, sizeof a->shape) && a->size == b->size &&
           !memcmp(a->data, b->data, (size_t)a->size);
}

/* Contents of one hash. Each is compared with the first only, so that made-up collisions cost nothing. */
static int check_run(const content *run, size_t n, oddity_list *out)
{
    const tensor_entry *first = run->entry;
    size_t n_uses = first->n_uses;

    for (size_t i = 1; i < n; i++)
        n_uses += is_same(first->tensor, run[i].entry->tensor) ? run[i].entry->n_uses : 0;
    if (n_uses == 1 || first->elements.all_zero) // zeros are alike without meaning anything
        return EXIT_DONE;
    return oddity_add(out, ODD_SAME_TENSOR, first->site->target, "%s is also in %zu other place%s",
                      lorafmt_role_name(first->role), n_uses - 1, n_uses == 2 ? "" : "s");
}

int same_tensors_find(const tensor_table *tensors, oddity_list *out)
{
    content *contents = calloc(tensors->n, sizeof *contents);
    int code = EXIT_DONE;

    if (!contents)
        return message_no_memory();
    for (size_t i = 0; i < tensors->n; i++)
        contents[i] = (content){&tensors->entries[i], hash_of(tensors->entries[i].tensor)};
    qsort(contents, tensors->n, sizeof *contents, compare_contents);
    for (size_t i = 0, end; i < tensors->n && code == EXIT_DONE; i = end) {
        for (end = i + 1; end < tensors->n && contents[end].hash == contents[i].hash;)
            end++;
        code = check_run(contents + i, end - i, out);
    }
    free(contents);
    return code;
}

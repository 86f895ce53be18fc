/* SPDX-License-Identifier: MIT */
#include "tools/command.h"
#include "tools/oddities.h"

#include <stdlib.h>
#include <string.h>

typedef struct content {
    tensor_entry *entry;
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
    return (a->entry->first_use > b->entry->first_use) - (a->entry->first_use < b->entry->first_use);
}

static bool is_same(const lorafmt_tensor *a, const lorafmt_tensor *b)
{
    return a->dtype == b->dtype && a->n_dims == b->n_dims && !memcmp(a->shape, b->shape, sizeof a->shape) && a->size == b->size &&
           !memcmp(a->data, b->data, (size_t)a->size);
}

/* Contents of one hash. Each is compared with the first only, so that made-up collisions cost nothing. */
static void mark_run(const content *run, size_t n)
{
    run->entry->equal = run->entry;
    for (size_t i = 1; i < n; i++)
        run[i].entry->equal = is_same(run->entry->tensor, run[i].entry->tensor) ? run->entry : run[i].entry;
}

int same_tensors_mark(tensor_table *tensors)
{
    content *contents = calloc(tensors->n, sizeof *contents);

    if (!contents)
        return message_no_memory();
    for (size_t i = 0; i < tensors->n; i++)
        contents[i] = (content){&tensors->entries[i], hash_of(tensors->entries[i].tensor)};
    qsort(contents, tensors->n, sizeof *contents, compare_contents);
    for (size_t i = 0, end; i < tensors->n; i = end) {
        for (end = i + 1; end < tensors->n && contents[end].hash == contents[i].hash;)
            end++;
        mark_run(contents + i, end - i);
    }
    free(contents);
    return EXIT_DONE;
}

typedef struct use {
    const tensor_entry *content;
    const lorafmt_site *site;
    uint16_t role;
} use;

static int compare_uses(const void *a_, const void *b_)
{
    const use *a = a_, *b = b_;

    if (a->content != b->content)
        return a->content < b->content ? -1 : 1;
    if (a->site != b->site)
        return a->site < b->site ? -1 : 1;
    return (int)a->role - (int)b->role;
}

static size_t list_uses(const adapter_facts *facts, use *out)
{
    size_t n = 0;

    for (size_t i = 0; i < facts->adapter->n_sites; i++)
        for (uint32_t f = 0; f < facts->adapter->sites[i].n_factors; f++) {
            const lorafmt_site *site = &facts->adapter->sites[i];
            const tensor_entry *entry = tensor_table_find(facts->tensors, &site->factors[f].tensor);
            if (!entry->elements.all_zero) // zeros are alike without meaning anything
                out[n++] = (use){entry->equal, site, site->factors[f].role};
        }
    return n;
}

static int check_run(const use *run, size_t n, oddity_list *out)
{
    if (n == 1)
        return EXIT_DONE;
    return oddity_add(out, ODD_SAME_TENSOR, run->site->target, "%s is also in %zu other place%s", lorafmt_role_name(run->role),
                      n - 1, n == 2 ? "" : "s");
}

int same_tensors_find(const adapter_facts *facts, oddity_list *out)
{
    use *uses = calloc(adapter_n_factors(facts->adapter), sizeof *uses);
    int code = EXIT_DONE;
    size_t n;

    if (!uses)
        return message_no_memory();
    n = list_uses(facts, uses);
    qsort(uses, n, sizeof *uses, compare_uses);
    for (size_t i = 0, end; i < n && code == EXIT_DONE; i = end) {
        for (end = i + 1; end < n && uses[end].content == uses[i].content;)
            end++;
        code = check_run(uses + i, end - i, out);
    }
    free(uses);
    return code;
}

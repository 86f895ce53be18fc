/* SPDX-License-Identifier: MIT */
/* Names that other writers, or what wrapped the model, changed. What is done here is said in notes, never silently. */
#include "format/base/error.h"
#include "format/base/text.h"
#include "lib/dialect/peft.h"

#include <stdlib.h>
#include <string.h>

#define MAX_NAME (4 * LF_MAX_NAME) // a target may have LF_MAX_NAME bytes; the rest is wrappers and suffix

/* Components that wrappers of a whole model or of its layers put into module paths, and who does. */
static const struct {
    const char *component, *who;
} wrappers[] = {
    {"_orig_mod.", "torch.compile"},
    {"_fsdp_wrapped_module.", "FSDP"},
    {"_checkpoint_wrapped_module.", "activation checkpointing"},
    {"modules_to_save.default.", "PEFT's wrapper of a saved module"},
    {"modules_to_save.", "PEFT's wrapper of a saved module"},
};

#define N_WRAPPERS (sizeof wrappers / sizeof wrappers[0])

typedef struct normaliser {
    size_t n;
    char **names;
    lf_arena *arena;
    lf_notes *notes;
    lorafmt_error *err;
} normaliser;

static lorafmt_status note(const normaliser *n, size_t count, const char *what, const char *where, const char *who)
{
    if (count && lf_note(n->notes, n->arena, "%s %s %zu name%s%s%s%s", what, where, count, count == 1 ? "" : "s", who ? " (" : "",
                         who ? who : "", who ? ")" : ""))
        return lf_no_memory(n->err);
    return LORAFMT_OK;
}

/* Take every such component out of a name; true when there was one. */
static bool remove_component(char *name, const char *component)
{
    const size_t length = strlen(component);
    bool any = false;

    for (char *at = name; (at = strstr(at, component));) {
        if (at != name && at[-1] != '.') {
            at++;
            continue;
        }
        memmove(at, at + length, strlen(at + length) + 1);
        any = true;
    }
    return any;
}

static lorafmt_status unwrap(const normaliser *n)
{
    for (size_t w = 0; w < N_WRAPPERS; w++) {
        size_t count = 0;
        char what[64] = "took ";
        for (size_t i = 0; i < n->n; i++)
            count += remove_component(n->names[i], wrappers[w].component);
        LF_TRY(note(n, count, strcat(what, wrappers[w].component), "out of", wrappers[w].who));
    }
    return LORAFMT_OK;
}

static bool starts_with(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

/* module. of DistributedDataParallel: in front of all, or around the model within PEFT's own prefix when every name has it. */
static lorafmt_status remove_ddp(const normaliser *n)
{
    static const char outer[] = "module." LF_PEFT_PREFIX, inner[] = LF_PEFT_PREFIX "module.";
    size_t n_outer = 0, n_inner = 0;

    for (size_t i = 0; i < n->n; i++)
        if (starts_with(n->names[i], outer)) {
            memmove(n->names[i], n->names[i] + strlen("module."), strlen(n->names[i]) - strlen("module.") + 1);
            n_outer++;
        }
    for (size_t i = 0; i < n->n; i++)
        n_inner += starts_with(n->names[i], inner);
    if (n_inner == n->n)
        for (size_t i = 0; i < n->n; i++)
            memmove(n->names[i] + strlen(LF_PEFT_PREFIX), n->names[i] + strlen(inner), strlen(n->names[i]) - strlen(inner) + 1);
    else
        n_inner = 0;
    for (size_t i = 0; i < n_inner; i++)
        if (starts_with(n->names[i], inner))
            return lf_fail(n->err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, n->names[i],
                           "module. stands in front of the model twice, and DistributedDataParallel puts it there once: it is "
                           "unclear whether the rest is the model's own");
    return note(n, n_outer + n_inner, "took module.", "out of", "DistributedDataParallel");
}

/* transformers and diffusers leave PEFT's prefix out; then no name has it, and there are factors under PEFT's names. */
static lorafmt_status add_prefix(const normaliser *n)
{
    bool any_factor = false;

    for (size_t i = 0; i < n->n; i++) {
        if (starts_with(n->names[i], "base_model.") || lf_peft_is_kohya(n->names[i]))
            return LORAFMT_OK;
        any_factor = any_factor || strstr(n->names[i], ".lora_A.") || strstr(n->names[i], ".lora_embedding_A");
    }
    if (!any_factor)
        return LORAFMT_OK;
    for (size_t i = 0; i < n->n; i++)
        if (!(n->names[i] = lf_arena_printf(n->arena, LF_PEFT_PREFIX "%s", n->names[i])))
            return lf_no_memory(n->err);
    return note(n, n->n, "put " LF_PEFT_PREFIX, "in front of", "diffusers and transformers leave it out");
}

/* The one name that all factors have inside theirs, or NULL: then they are PEFT's own, some are a leftover, or it is unclear. */
static lorafmt_status find_common_infix(const normaliser *n, const char **out)
{
    const char *common = NULL;
    size_t common_length = 0;

    *out = NULL;
    for (size_t i = 0; i < n->n; i++) {
        const char *infix;
        size_t length;
        bool is_factor;
        if (lf_peft_key_infix(n->names[i], &infix, &length, &is_factor)) {
            if (common && (common_length != length || strncmp(common, infix, length) != 0))
                return LORAFMT_OK;
            common = infix;
            common_length = length;
        } else if (is_factor) {
            return LORAFMT_OK;
        }
    }
    if (common && !(*out = lf_arena_strndup(n->arena, common, common_length)))
        return lf_no_memory(n->err);
    return LORAFMT_OK;
}

static lorafmt_status remove_infix(const normaliser *n)
{
    char what[256] = "took the adapter's name ";
    const char *infix;
    size_t count = 0;

    LF_TRY(find_common_infix(n, &infix));
    if (!infix || strlen(infix) > LF_MAX_ADAPTER_NAME / 2)
        return LORAFMT_OK;
    for (size_t i = 0; i < n->n; i++) {
        const char *at;
        size_t length;
        bool unused;
        if (!lf_peft_key_infix(n->names[i], &at, &length, &unused))
            continue;
        memmove(n->names[i] + (at - n->names[i]) - 1, at + length, strlen(at + length) + 1); // with the dot before it
        count++;
    }
    return note(n, count, strcat(what, infix), "out of", NULL);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Two names that become one would leave one of them out. */
static lorafmt_status check_unique(const normaliser *n, char *const *sorted)
{
    for (size_t i = 1; i < n->n; i++)
        if (strcmp(sorted[i - 1], sorted[i]) == 0)
            return lf_fail(n->err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, sorted[i],
                           "two tensors have this name, once what wraps a model is taken out of names");
    return LORAFMT_OK;
}

/* PEFT's wrapper of a saved module keeps the base's own beside it, which is no part of the adapter. */
static lorafmt_status leave_out_originals(const normaliser *n, char *const *sorted, const char **names)
{
    size_t count = 0;

    for (size_t i = 0; i < n->n; i++) {
        char *trained = lf_arena_strdup(n->arena, n->names[i]);
        if (!trained)
            return lf_no_memory(n->err);
        names[i] = n->names[i];
        if (!remove_component(trained, "original_module."))
            continue;
        if (!bsearch(&trained, sorted, n->n, sizeof *sorted, compare_names))
            return lf_fail(n->err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, n->names[i],
                           "the base's own copy of a saved module, and the trained %s is missing", trained);
        names[i] = NULL;
        count++;
    }
    if (count &&
        lf_note(n->notes, n->arena, "left out %zu tensor%s of original_module: what the base has, beside what was trained", count,
                count == 1 ? "" : "s"))
        return lf_no_memory(n->err);
    return LORAFMT_OK;
}

static lorafmt_status check_and_filter(const normaliser *n, const char **names)
{
    char **sorted = lf_arena_alloc(n->arena, n->n, sizeof *sorted);

    if (!sorted)
        return lf_no_memory(n->err);
    if (n->n) {
        memcpy(sorted, n->names, n->n * sizeof *sorted);
        qsort(sorted, n->n, sizeof *sorted, compare_names);
    }
    LF_TRY(check_unique(n, sorted));
    return leave_out_originals(n, sorted, names);
}

lorafmt_status lf_peft_normalise(const lf_peft_tensor *tensors, size_t n_tensors, lf_arena *arena, const char **names,
                                 lf_notes *notes, lorafmt_error *err)
{
    normaliser n = {.n = n_tensors, .arena = arena, .notes = notes, .err = err};

    n.names = lf_arena_alloc(arena, n_tensors, sizeof *n.names);
    if (!n.names)
        return lf_no_memory(err);
    for (size_t i = 0; i < n_tensors; i++) {
        if (strlen(tensors[i].name) > MAX_NAME)
            return lf_fail(err, LORAFMT_LIMIT, LORAFMT_NO_OFFSET, tensors[i].name, "a name of %zu bytes, at most %d are taken",
                           strlen(tensors[i].name), MAX_NAME);
        if (!(n.names[i] = lf_arena_strdup(arena, tensors[i].name)))
            return lf_no_memory(err);
    }
    LF_TRY(unwrap(&n));
    LF_TRY(remove_ddp(&n));
    LF_TRY(add_prefix(&n));
    LF_TRY(remove_infix(&n));
    return check_and_filter(&n, names);
}

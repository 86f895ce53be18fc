/* SPDX-License-Identifier: MIT */
/* What of a broken `.lora` can still be read: adapters that are whole, sites of the others, states that the file had before. */
#include "tools/doctor.h"
#include "tools/text.h"

#include "lorafmt/generations.h"
#include "lorafmt/index.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Sites may share tensors, and each is looked at by itself: at most so many times the bytes of the file. */
#define MOST_SHARING 8

/* So many adapters in the command that packs those that are whole. */
#define MOST_RESCUED 16

/* A look at an index that may be wrong. */
typedef struct survey {
    lorafmt_index *index;
    uint64_t bytes_left; /* that may still be looked at */
} survey;

static bool is_intact(survey *s, size_t site, uint32_t factor, const lorafmt_tensor *tensor)
{
    void *decoded = tensor->data ? NULL : malloc(tensor->size);
    const bool intact = (tensor->data || decoded) && lorafmt_index_load(s->index, site, factor, decoded, NULL) == LORAFMT_OK;

    s->bytes_left -= tensor->size < s->bytes_left ? tensor->size : s->bytes_left;
    free(decoded);
    return intact;
}

static void survey_site(survey *s, size_t i, adapter_part *out)
{
    lorafmt_factor factors[LORAFMT_MAX_FACTORS];
    lorafmt_site site;
    lorafmt_error err;
    bool intact = true;

    if (lorafmt_index_site(s->index, i, &site, factors, &err)) {
        text_append(out->damaged, sizeof out->damaged, "%s%s", out->damaged[0] ? ", " : "", err.field);
        return;
    }
    for (uint32_t f = 0; f < site.n_factors; f++) {
        if (is_intact(s, i, f, &factors[f].tensor))
            continue;
        intact = false;
        text_append(out->damaged, sizeof out->damaged, "%s%s of %s", out->damaged[0] ? ", " : "",
                    lorafmt_role_name(factors[f].role), site.target);
    }
    out->n_intact += intact;
}

static bool can_read(const char *path, const char *adapter)
{
    const lorafmt_source_options options = {.struct_size = sizeof options, .adapter = adapter};
    lorafmt_source *source;
    const bool can = lorafmt_source_open(path, &options, &source, NULL) == LORAFMT_OK;

    lorafmt_source_free(source);
    return can;
}

/* Of an adapter that commands take all sites are intact. */
static void survey_adapter(diagnosis *d, survey *s, size_t i)
{
    adapter_part *out = &d->adapters[d->n_adapters++];
    lorafmt_adapter adapter;
    size_t first;

    if (lorafmt_index_adapter(s->index, i, &adapter, &first, &out->n_sites, NULL))
        return;
    snprintf(out->name, sizeof out->name, "%s", adapter.name);
    out->is_readable = can_read(d->path, out->name);
    if (out->is_readable)
        out->n_intact = out->n_sites;
    for (size_t k = 0; !out->is_readable && k < out->n_sites && s->bytes_left; k++)
        survey_site(s, first + k, out);
    out->is_counted = out->is_readable || s->bytes_left;
}

/* Of two adapters with one name, commands take the first. */
static bool is_first(const diagnosis *d, size_t adapter)
{
    for (size_t i = 0; i < adapter; i++)
        if (!strcmp(d->adapters[i].name, d->adapters[adapter].name))
            return false;
    return true;
}

static void advise_rescue(diagnosis *d)
{
    char side[SIDE_PATH_SIZE], inputs[MOST_RESCUED][SIDE_PATH_SIZE];
    const char *words[MOST_RESCUED + 5] = {"lorapack", "pack"};
    size_t n = 0;

    for (size_t i = 0; i < d->n_adapters && n < MOST_RESCUED; i++) {
        if (!d->adapters[i].is_readable || !is_first(d, i))
            continue;
        snprintf(inputs[n], sizeof inputs[n], "%s#%s", d->path, d->adapters[i].name);
        words[2 + n] = inputs[n];
        n++;
    }
    if (!n)
        return;
    words[2 + n] = "-o";
    words[3 + n] = side_path(d->path, "-rescued.lora", side);
    advise(d, "What is whole can be packed into a new file:");
    advise_command(d, words);
}

static void survey_file(diagnosis *d, const void *bytes, uint64_t size)
{
    const lorafmt_index_options options = {.struct_size = sizeof options, .defer_digest = true};
    survey s = {.bytes_left = MOST_SHARING * size};
    size_t n;

    if (lorafmt_index_open(bytes, size, &options, &s.index, NULL))
        return;
    n = lorafmt_index_n_adapters(s.index);
    for (size_t i = 0; i < n && i < MOST_ADAPTERS; i++)
        survey_adapter(d, &s, i);
    d->n_more_adapters = n - d->n_adapters;
    lorafmt_index_free(s.index);
    if (d->is_local)
        advise_rescue(d);
}

void examine_adapters(diagnosis *d)
{
    const int fd = open(d->path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    void *bytes;

    if (fd < 0)
        return;
    if (!fstat(fd, &st) && st.st_size > 0) {
        bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (bytes != MAP_FAILED) {
            survey_file(d, bytes, (uint64_t)st.st_size);
            munmap(bytes, (size_t)st.st_size);
        }
    }
    close(fd);
}

static void advise_rollback(diagnosis *d, uint64_t generation)
{
    char number[NUMBER_TEXT_SIZE];

    snprintf(number, sizeof number, "%" PRIu64, generation);
    advise_command(d, (const char *const[]){"lorapack", "rollback", d->path, "--to", number, NULL});
}

/*
 * Those before the current one, newest first: to look at one takes as long as to verify the file. Of a file that is not broken,
 * the first that is damaged is something to know.
 */
static void look_at_earlier(diagnosis *d, const lorafmt_history *history)
{
    const size_t n = lorafmt_history_n_generations(history) - 1;
    bool is_sound = d->level < LEVEL_BROKEN;
    lorafmt_error err;

    for (size_t i = 0; i < n && i < MOST_GENERATIONS; i++) {
        const lorafmt_generation *g = lorafmt_history_generation(history, i + 1);
        generation_part *out = &d->generations[d->n_generations++];
        *out = (generation_part){.number = g->number, .n_adapters = g->n_adapters};
        out->is_intact = lorafmt_history_verify(history, i + 1, NULL, &err) == LORAFMT_OK;
        if (!out->is_intact && is_sound)
            add_finding(d, &cause_earlier, "generation %" PRIu64 ": %s: %s", g->number, err.field, err.text);
        is_sound = is_sound && out->is_intact;
    }
    d->n_more_generations = n - d->n_generations;
}

/* A broken file can be gone back in when nothing but data of its current generation is damaged. */
static void advise_going_back(diagnosis *d, const lorafmt_history *history)
{
    lorafmt_error err;

    if (lorafmt_history_verify(history, 0, NULL, &err) && !cause_of(SUBJECT_LORA, &err)->is_data)
        return;
    for (size_t i = 0; i < d->n_generations; i++)
        if (d->generations[i].is_intact) {
            advise(d, "An earlier state is whole, and can be gone back to, which gives up what came after it:");
            advise_rollback(d, d->generations[i].number);
            return;
        }
}

void examine_generations(diagnosis *d)
{
    lorafmt_container_info info;
    lorafmt_history *history;

    if (lorafmt_history_open(d->path, &history, NULL))
        return;
    lorafmt_history_container(history, &info);
    if (info.recovered && d->level == LEVEL_BROKEN)
        add_finding(d, &cause_recovered, "a root slot is damaged, and this is what the other one shows");
    else if (info.recovered) {
        advise(d, "Or accept this state, which gives up what the damaged place led to:");
        advise_rollback(d, info.generation);
    }
    look_at_earlier(d, history);
    if (d->level == LEVEL_BROKEN)
        advise_going_back(d, history);
    lorafmt_history_free(history);
}

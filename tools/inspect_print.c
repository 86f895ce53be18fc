/* SPDX-License-Identifier: MIT */
#include "tools/inspect.h"

#include "tools/command.h"
#include "tools/message.h"
#include "tools/sites.h"
#include "tools/stats.h"
#include "tools/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_GROUPS 40
#define MOST_VALUE 60 /* characters of a metadata value; more does not fit beside the key */

/* Sites that differ in their place only. */
typedef struct group {
    const char *module; /* inside the target */
    size_t length;
    const lorafmt_site *site;
} group;

static void print_file(const input *in)
{
    lorafmt_container_info info;

    if (!lorafmt_source_container(in->source, &info)) {
        print_line(stdout, "%s: %s", in->path,
                   lorafmt_source_get_kind(in->source) == LORAFMT_SOURCE_PEFT ? "PEFT directory" : "safetensors file");
        return;
    }
    print_line(stdout, "%s: lora file, format %u.%u, %" PRIu64 " bytes", in->path, info.version_major, info.version_minor,
               info.file_end);
    print_line(stdout, "  generation %" PRIu64 ", %zu tensors aligned to %" PRIu32 " bytes, index of %" PRIu64 " bytes%s",
               info.generation, info.n_tensors, info.align, info.index_size, info.recovered ? ", recovered" : "");
}

static void print_base(const lorafmt_adapter *adapter)
{
    char digest[DIGEST_TEXT_SIZE];

    if (adapter->base_revision[0])
        print_line(stdout, "  base        %s, revision %s", adapter->base_name, adapter->base_revision);
    else
        print_line(stdout, "  base        %s", adapter->base_name[0] ? adapter->base_name : "unknown");
    if (adapter->has_base_structure)
        print_line(stdout, "  structure   %s", digest_text(adapter->base_structure, digest));
}

static void print_stats(const lorafmt_adapter *adapter)
{
    char text[STATS_TEXT_SIZE], size[NUMBER_TEXT_SIZE];
    adapter_stats stats;

    adapter_stats_count(adapter, &stats);
    print_line(stdout, "  sites       %s", stats_kinds_text(&stats, text));
    if (stats.rank.n)
        print_line(stdout, "  rank        %s", number_set_text(&stats.rank, text));
    if (stats.alpha.n)
        print_line(stdout, "  alpha       %s", number_set_text(&stats.alpha, text));
    if (stats.scale.n)
        print_line(stdout, "  scale       %s", number_set_text(&stats.scale, text));
    print_line(stdout, "  parameters  %" PRIu64 " in %s, %s", stats.n_parameters, size_text(stats.n_bytes, size),
               stats_dtypes_text(&stats, text));
}

/* "q_proj" of "layers.0.q_proj.weight", but "q_proj.bias" of "layers.0.q_proj.bias". */
static void set_group(group *g, const lorafmt_site *site)
{
    const char *last = strrchr(site->target, '.'), *start = site->target, *end = last;

    if (!last || strcmp(last, ".weight"))
        end = site->target + strlen(site->target);
    for (const char *at = site->target; last && at < last; at++)
        if (*at == '.')
            start = at + 1;
    g->module = start;
    g->length = (size_t)(end - start);
    g->site = site;
}

static int compare_numbers(double a, double b)
{
    return (a > b) - (a < b);
}

static int compare_groups(const void *a_, const void *b_)
{
    const group *a = a_, *b = b_;
    const size_t shorter = a->length < b->length ? a->length : b->length;
    int order = memcmp(a->module, b->module, shorter);

    if (!order)
        order = compare_numbers((double)a->length, (double)b->length);
    if (!order)
        order = (int)a->site->kind - (int)b->site->kind;
    if (!order)
        order = compare_numbers(a->site->rank, b->site->rank);
    return order ? order : compare_numbers(a->site->scale, b->site->scale);
}

static void print_group(const group *g, size_t n)
{
    char name[32], scale[NUMBER_TEXT_SIZE];

    snprintf(name, sizeof name, "%.*s", (int)(g->length < sizeof name ? g->length : sizeof name - 1), g->module);
    if (g->site->rank)
        print_line(stdout, "    %-20s %zu × %s of rank %" PRIu32 ", scale %s", name, n, lorafmt_kind_name(g->site->kind),
                   g->site->rank, number_text(g->site->scale, scale));
    else
        print_line(stdout, "    %-20s %zu × %s", name, n, lorafmt_kind_name(g->site->kind));
}

static int print_groups(const lorafmt_adapter *adapter)
{
    group *groups = calloc(adapter->n_sites, sizeof *groups);
    size_t n_groups = 0;

    if (!groups)
        return message_no_memory();
    for (size_t i = 0; i < adapter->n_sites; i++)
        set_group(&groups[i], &adapter->sites[i]);
    qsort(groups, adapter->n_sites, sizeof *groups, compare_groups);
    print_line(stdout, "  modules");
    for (size_t i = 0, end; i < adapter->n_sites; i = end) {
        for (end = i + 1; end < adapter->n_sites && !compare_groups(&groups[i], &groups[end]);)
            end++;
        if (n_groups++ < MOST_GROUPS)
            print_group(&groups[i], end - i);
    }
    if (n_groups > MOST_GROUPS)
        print_line(stdout, "    and %zu more", n_groups - MOST_GROUPS);
    free(groups);
    return EXIT_DONE;
}

/* The bytes of at most n characters. */
static int bytes_of_characters(const char *text, size_t n)
{
    size_t bytes = 0;

    for (; text[bytes] && n; n--)
        do
            bytes++;
        while (((unsigned char)text[bytes] & 0xc0) == 0x80);
    return (int)bytes;
}

static void print_metadata(const lorafmt_adapter *adapter)
{
    if (adapter->n_metadata)
        print_line(stdout, "  metadata");
    for (size_t i = 0; i < adapter->n_metadata; i++) {
        const lorafmt_metadata *m = &adapter->metadata[i];
        if (!strcmp(m->key, "peft.adapter_config"))
            print_line(stdout, "    %s: %zu bytes of JSON", m->key, strlen(m->value));
        else if (text_width(m->value) > MOST_VALUE)
            print_line(stdout, "    %s: %.*s... (%zu bytes)", m->key, bytes_of_characters(m->value, MOST_VALUE), m->value,
                       strlen(m->value));
        else
            print_line(stdout, "    %s: %s", m->key, m->value);
    }
}

static int print_adapter(const lorafmt_adapter *adapter, bool sites)
{
    char digest[DIGEST_TEXT_SIZE];
    uint8_t id[32];

    putchar('\n');
    print_line(stdout, "adapter %s", adapter->name);
    lorafmt_adapter_id(adapter, id);
    print_line(stdout, "  id          %s", digest_text(id, digest));
    print_base(adapter);
    print_stats(adapter);
    if (print_groups(adapter))
        return EXIT_FAILED;
    print_metadata(adapter);
    if (sites)
        print_sites(adapter);
    return EXIT_DONE;
}

int inspect_print(const input *in, const lorafmt_adapter *const *adapters, size_t n, bool sites)
{
    int code = EXIT_DONE;

    print_file(in);
    for (size_t i = 0; i < n && code == EXIT_DONE; i++)
        code = print_adapter(adapters[i], sites);
    return code;
}

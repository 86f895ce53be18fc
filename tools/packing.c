/* SPDX-License-Identifier: MIT */
#include "tools/packing.h"

#include "tools/command.h"
#include "tools/message.h"
#include "tools/nonfinite.h"
#include "tools/stats.h"
#include "tools/text.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* The options' choices, after what holds when none is made. */
static const lorafmt_codec codecs[] = {LORAFMT_CODEC_RAW, LORAFMT_CODEC_RAW, LORAFMT_CODEC_SPLIT};
static const lorafmt_dtype asked_dtypes[] = {0, LORAFMT_F32, LORAFMT_BF16, LORAFMT_F16};

/* K=V, cut at the first '='. */
static int parse_metadata(packing *job)
{
    const text_list *list = &job->args->metadata;

    job->metadata = calloc(list->n + 1, sizeof *job->metadata);
    job->metadata_memory = calloc(list->n + 1, sizeof *job->metadata_memory);
    if (!job->metadata || !job->metadata_memory)
        return message_no_memory();
    for (size_t i = 0; i < list->n; i++) {
        char *key = strdup(list->items[i]), *at = key ? strchr(key, '=') : NULL;
        job->metadata_memory[i] = key;
        if (!key)
            return message_no_memory();
        if (!at || at == key)
            return message_usage(job->verb, "--meta %s: must be K=V with a key", list->items[i]);
        *at = '\0';
        job->metadata[i].key = key;
        job->metadata[i].value = at + 1;
    }
    return EXIT_DONE;
}

static int add_adapters(packing *job, const input *in)
{
    const lorafmt_adapter **more, **of_input;
    size_t n;
    const int code = input_adapters(in, &of_input, &n);

    if (code != EXIT_DONE)
        return code;
    more = realloc(job->adapters, (job->n_adapters + n) * sizeof(const lorafmt_adapter *));
    if (more) {
        memcpy(more + job->n_adapters, of_input, n * sizeof(const lorafmt_adapter *));
        job->adapters = more;
        job->n_adapters += n;
    }
    free(of_input);
    return more ? EXIT_DONE : message_no_memory();
}

static int open_inputs(packing *job, size_t n, char *const *texts)
{
    int code = EXIT_DONE;

    if (!(job->inputs = calloc(n, sizeof *job->inputs)))
        return message_no_memory();
    for (size_t i = 0; i < n && code == EXIT_DONE; i++) {
        input *in = &job->inputs[job->n_inputs++];
        code = input_parse(job->verb, texts[i], false, in);
        if (code == EXIT_DONE)
            code = input_open(job->verb, &job->args->input, job->base, job->quiet, in);
        if (code == EXIT_DONE)
            code = add_adapters(job, in);
    }
    return code;
}

/* It may be what is wanted; who asks for the adapters later is told again. */
static int warn_of_nonfinite(const packing *job)
{
    nonfinite_list list;
    uint64_t n = 0;
    int code;

    if (job->quiet)
        return EXIT_DONE;
    code = nonfinite_find(job->adapters, job->n_adapters, &list);
    for (size_t i = 0; i < list.n; i++)
        n += list.items[i].n;
    if (n)
        message_warning("%" PRIu64 " elements are NaN or infinite:", n);
    nonfinite_print(&list);
    nonfinite_free(&list);
    return code;
}

int packing_open(packing *job, size_t n_inputs, char *const *inputs)
{
    int code;

    if (job->args->headers_only && !job->args->base)
        return message_usage(job->verb, "--headers-only needs --base");
    if (!(code = parse_metadata(job)) && !(code = input_open_base(job->args->base, &job->base)))
        code = open_inputs(job, n_inputs, inputs);
    return code ? code : warn_of_nonfinite(job);
}

void packing_close(packing *job)
{
    free(job->adapters);
    for (size_t i = 0; i < job->n_inputs; i++)
        input_close(&job->inputs[i]);
    free(job->inputs);
    lorafmt_model_free(job->base);
    for (size_t i = 0; job->metadata_memory && i < job->args->metadata.n; i++)
        free(job->metadata_memory[i]);
    free(job->metadata_memory);
    free(job->metadata);
}

lorafmt_pack_options packing_options(const packing *job, progress *p)
{
    return (lorafmt_pack_options){.struct_size = sizeof(lorafmt_pack_options),
                                  .name = job->args->name,
                                  .dtype = asked_dtypes[job->args->dtype],
                                  .codec = codecs[job->args->codec],
                                  .base = job->base,
                                  .headers_only = job->args->headers_only,
                                  .metadata = job->metadata,
                                  .n_metadata = job->args->metadata.n,
                                  .progress = progress_update,
                                  .progress_ctx = p};
}

bool packing_splits(const packing_args *args)
{
    return codecs[args->codec] == LORAFMT_CODEC_SPLIT;
}

void packing_print_adapter(const lorafmt_adapter *adapter)
{
    char rank[STATS_TEXT_SIZE], kinds[STATS_TEXT_SIZE], dtypes[STATS_TEXT_SIZE];
    adapter_stats stats;

    adapter_stats_count(adapter, &stats);
    print_line(stdout, "%s: %s%s%s, %s", adapter->name, stats_kinds_text(&stats, kinds), stats.rank.n ? ", rank " : "",
               stats.rank.n ? number_set_text(&stats.rank, rank) : "", stats_dtypes_text(&stats, dtypes));
}

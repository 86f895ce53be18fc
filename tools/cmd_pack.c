/* SPDX-License-Identifier: MIT */
#include "tools/command.h"
#include "tools/input.h"
#include "tools/json_out.h"
#include "tools/message.h"
#include "tools/progress.h"
#include "tools/stats.h"
#include "tools/text.h"

#include "lorafmt/files.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME "pack"

typedef struct pack_args {
    const char *output;
    const char *name;
    unsigned codec, dtype, align; /* places in the options' choices */
    const char *base;
    text_list metadata;
    input_args input;
    bool headers_only, force, json, quiet;
} pack_args;

/* The options' choices, after what holds when none is made. */
static const lorafmt_codec codecs[] = {LORAFMT_CODEC_RAW, LORAFMT_CODEC_RAW, LORAFMT_CODEC_SPLIT};

static const option pack_options[] = {
    {"output", 'o', "OUT.lora", OPTION_TEXT, offsetof(pack_args, output), "the file to write"},
    {"name", 0, "NAME", OPTION_TEXT, offsetof(pack_args, name), "name the adapter, when there is one; else each keeps its own"},
    {"codec", 0, "raw|split", OPTION_CHOICE, offsetof(pack_args, codec),
     "how tensors are stored: raw, which is used straight from the file, or split, which is smaller by a third (bf16) or a "
     "sixth (f32) and decoded when opened; raw when not given"},
    {"dtype", 0, "f32|bf16|f16", OPTION_CHOICE, offsetof(pack_args, dtype),
     "convert the tensors, rounding to nearest even; else kept"},
    {"base", 0, "BASE", OPTION_TEXT, offsetof(pack_args, base),
     "the model the adapter is for: record its structure and the digests of the tensors that change, so that no other is "
     "taken; an adapter of experts (target_parameters) needs it to say what is whose"},
    {"headers-only", 0, NULL, OPTION_FLAG, offsetof(pack_args, headers_only),
     "with --base: do not read its data, and record no digests"},
    {"align", 0, "64|4096|65536", OPTION_CHOICE, offsetof(pack_args, align),
     "bytes that tensor data is aligned to; 64 when not given"},
    {"meta", 0, "K=V", OPTION_LIST, offsetof(pack_args, metadata), "add metadata to every adapter; may be given many times"},
    {"force", 0, NULL, OPTION_FLAG, offsetof(pack_args, force), "replace a file that exists"},
    INPUT_OPTIONS(pack_args, input),
    {"json", 0, NULL, OPTION_FLAG, offsetof(pack_args, json), "print the result as JSON (docs/json.md)"},
    {"quiet", 'q', NULL, OPTION_FLAG, offsetof(pack_args, quiet), "print nothing but errors"},
    {0},
};

/* Everything a pack opens, in the order it is opened. */
typedef struct pack_job {
    const pack_args *args;
    lorafmt_metadata *metadata;
    char **metadata_memory; /* the keys and values of each entry of metadata */
    lorafmt_model *base;
    input *inputs;
    size_t n_inputs; /* that are open */
    const lorafmt_adapter **adapters;
    size_t n_adapters;
} pack_job;

/* K=V, cut at the first '='. */
static int parse_metadata(pack_job *job)
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
            return message_usage(NAME, "--meta %s: must be K=V with a key", list->items[i]);
        *at = '\0';
        job->metadata[i].key = key;
        job->metadata[i].value = at + 1;
    }
    return EXIT_DONE;
}

static int add_adapters(pack_job *job, const input *in)
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

static int open_inputs(pack_job *job, size_t n, char *const *texts)
{
    const pack_args *args = job->args;
    int code = EXIT_DONE;

    if (!(job->inputs = calloc(n, sizeof *job->inputs)))
        return message_no_memory();
    for (size_t i = 0; i < n && code == EXIT_DONE; i++) {
        input *in = &job->inputs[job->n_inputs++];
        code = input_parse(NAME, texts[i], false, in);
        if (code == EXIT_DONE)
            code = input_open(NAME, &args->input, job->base, args->quiet, in);
        if (code == EXIT_DONE)
            code = add_adapters(job, in);
    }
    return code;
}

static int write_file(const pack_job *job)
{
    static const lorafmt_dtype dtypes[] = {0, LORAFMT_F32, LORAFMT_BF16, LORAFMT_F16};
    static const uint32_t aligns[] = {0, 64, 4096, 65536};
    const pack_args *args = job->args;
    progress p;
    const lorafmt_pack_options options = {.struct_size = sizeof options,
                                          .name = args->name,
                                          .dtype = dtypes[args->dtype],
                                          .codec = codecs[args->codec],
                                          .align = aligns[args->align],
                                          .base = job->base,
                                          .headers_only = args->headers_only,
                                          .metadata = job->metadata,
                                          .n_metadata = args->metadata.n,
                                          .force = args->force,
                                          .progress = progress_update,
                                          .progress_ctx = &p};
    lorafmt_error err;
    lorafmt_status st;

    interrupt_catch();
    progress_start(&p, NAME, args->quiet);
    st = lorafmt_pack(job->adapters, job->n_adapters, args->output, &options, &err);
    progress_end(&p);
    return st ? progress_failure(&p, &err, args->output) : EXIT_DONE;
}

static void print_adapter(const lorafmt_adapter *adapter)
{
    char rank[STATS_TEXT_SIZE], kinds[STATS_TEXT_SIZE], dtypes[STATS_TEXT_SIZE];
    adapter_stats stats;

    adapter_stats_count(adapter, &stats);
    print_line(stdout, "%s: %s%s%s, %s", adapter->name, stats_kinds_text(&stats, kinds), stats.rank.n ? ", rank " : "",
               stats.rank.n ? number_set_text(&stats.rank, rank) : "", stats_dtypes_text(&stats, dtypes));
}

static void print_result(const lorafmt_source *packed, const lorafmt_container_info *info, const pack_args *args)
{
    const size_t n = lorafmt_source_n_adapters(packed);
    char digest[DIGEST_TEXT_SIZE], smaller[64] = "";

    for (size_t i = 0; i < n; i++)
        print_adapter(lorafmt_source_adapter(packed, i));
    if (codecs[args->codec] == LORAFMT_CODEC_SPLIT)
        snprintf(smaller, sizeof smaller, ", %.0f %% of raw",
                 100 * (double)info->file_end / (double)(info->file_end + info->saved));
    if (n == 1)
        print_line(stdout, "%s: %" PRIu64 " bytes%s, id %s", args->output, info->file_end, smaller,
                   digest_text(lorafmt_source_adapter(packed, 0)->id, digest));
    else
        print_line(stdout, "%s: %" PRIu64 " bytes%s, root digest %s", args->output, info->file_end, smaller,
                   digest_text(info->index_sha256, digest));
}

static void json_result(const lorafmt_source *packed, const lorafmt_container_info *info, const pack_args *args)
{
    json_out j = {.to = stdout};

    json_object(&j, NULL);
    json_text(&j, "path", args->output);
    json_text(&j, "codec", codecs[args->codec] == LORAFMT_CODEC_SPLIT ? "split" : "raw");
    json_u64(&j, "n_bytes", info->file_end);
    json_u64(&j, "n_bytes_saved", info->saved);
    json_digest(&j, "root_digest", info->index_sha256);
    json_array(&j, "adapters");
    for (size_t i = 0; i < lorafmt_source_n_adapters(packed); i++) {
        const lorafmt_adapter *adapter = lorafmt_source_adapter(packed, i);
        json_object(&j, NULL);
        json_text(&j, "name", adapter->name);
        json_digest(&j, "id", adapter->id);
        json_u64(&j, "n_sites", adapter->n_sites);
        json_object_end(&j);
    }
    json_array_end(&j);
    json_object_end(&j);
}

/* From the file itself: names, types and ids may be others than those of the inputs. */
static int report(const pack_args *args)
{
    lorafmt_container_info info;
    lorafmt_source *packed;
    lorafmt_error err;

    if (lorafmt_source_open(args->output, NULL, &packed, &err))
        return message_unread(&err, args->output);
    if (!lorafmt_source_container(packed, &info))
        memset(&info, 0, sizeof info);
    if (args->json)
        json_result(packed, &info, args);
    else if (!args->quiet)
        print_result(packed, &info, args);
    lorafmt_source_free(packed);
    return EXIT_DONE;
}

static void close_all(pack_job *job)
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

static int run_pack(const void *args, size_t n_inputs, char *const *inputs)
{
    pack_job job = {.args = args};
    int code;

    if (!job.args->output)
        return message_usage(NAME, "-o OUT.lora is missing");
    if (job.args->headers_only && !job.args->base)
        return message_usage(NAME, "--headers-only needs --base");
    if (!(code = parse_metadata(&job)) && !(code = input_open_base(job.args->base, &job.base)) &&
        !(code = open_inputs(&job, n_inputs, inputs)))
        code = write_file(&job);
    close_all(&job);
    return code ? code : report(args);
}

const command cmd_pack = {
    .name = NAME,
    .usage = "pack IN [IN2 ...] -o OUT.lora [options]",
    .summary = "put adapters into one .lora file",
    .about =
        "Put adapters into one self-describing .lora file. IN is a PEFT directory, a .safetensors file whose scale is known, or "
        "a .lora file; one with several adapters gives all of them, IN#NAME one. The same inputs and options give the same "
        "bytes.",
    .example = "lorapack pack adapters/legal -o legal.lora\n"
               "lorapack pack legal.lora tang.lora -o both.lora\n",
    .options = pack_options,
    .args_size = sizeof(pack_args),
    .min_inputs = 1,
    .max_inputs = MANY_INPUTS,
    .run = run_pack,
};

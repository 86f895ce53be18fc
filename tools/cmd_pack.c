/* SPDX-License-Identifier: MIT */
#include "tools/command.h"
#include "tools/json_out.h"
#include "tools/message.h"
#include "tools/packing.h"
#include "tools/progress.h"
#include "tools/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define NAME "pack"

typedef struct pack_args {
    const char *output;
    packing_args packing;
    unsigned align; /* place in the option's choices */
    bool force, json, quiet;
} pack_args;

static const option pack_options[] = {
    {"output", 'o', "OUT.lora", OPTION_TEXT, offsetof(pack_args, output), "the file to write"},
    {"align", 0, "64|4096|65536", OPTION_CHOICE, offsetof(pack_args, align),
     "bytes that tensor data is aligned to; 64 when not given"},
    PACKING_OPTIONS(pack_args, packing),
    {"force", 0, NULL, OPTION_FLAG, offsetof(pack_args, force), "replace a file that exists"},
    {"json", 0, NULL, OPTION_FLAG, offsetof(pack_args, json), "print the result as JSON (docs/json.md)"},
    {"quiet", 'q', NULL, OPTION_FLAG, offsetof(pack_args, quiet), "print nothing but errors"},
    {0},
};

static int write_file(const packing *job, const pack_args *args)
{
    static const uint32_t aligns[] = {0, 64, 4096, 65536};
    progress p;
    lorafmt_pack_options options = packing_options(job, &p);
    lorafmt_error err;
    lorafmt_status st;

    options.align = aligns[args->align];
    options.force = args->force;
    interrupt_catch();
    progress_start(&p, NAME, args->quiet);
    st = lorafmt_pack(job->adapters, job->n_adapters, args->output, &options, &err);
    progress_end(&p);
    return st ? progress_failure(&p, &err, args->output) : EXIT_DONE;
}

static void print_result(const lorafmt_source *packed, const lorafmt_container_info *info, const pack_args *args)
{
    const size_t n = lorafmt_source_n_adapters(packed);
    char digest[DIGEST_TEXT_SIZE], smaller[64] = "";

    for (size_t i = 0; i < n; i++)
        packing_print_adapter(lorafmt_source_adapter(packed, i));
    if (packing_splits(&args->packing))
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
    json_text(&j, "codec", packing_splits(&args->packing) ? "split" : "raw");
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

static int run_pack(const void *args_, size_t n_inputs, char *const *inputs)
{
    const pack_args *args = args_;
    packing job = {.verb = NAME, .args = &args->packing, .quiet = args->quiet};
    int code;

    if (!args->output)
        return message_usage(NAME, "-o OUT.lora is missing");
    code = packing_open(&job, n_inputs, inputs);
    if (code == EXIT_DONE)
        code = write_file(&job, args);
    packing_close(&job);
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

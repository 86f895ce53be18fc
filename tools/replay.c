/* SPDX-License-Identifier: MIT */
#include "tools/replay.h"

#include "tools/command.h"
#include "tools/json_out.h"
#include "tools/message.h"
#include "tools/progress.h"
#include "tools/receipt.h"
#include "tools/text.h"

#include "lorafmt/receipt.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Everything a replay opens, in the order it is opened. */
typedef struct replay_job {
    const char *verb, *output;
    const replay_args *args;
    lorafmt_receipt *receipt;
    binding_args binding; /* as recorded */
    input_args input;
    lorafmt_model *base, *merged;
    receipt_structure structure; /* of the base */
    adapter_stack stack;
    lorafmt_view *view;
    lorafmt_change *changes;
    uint8_t (*digests)[32]; /* when the receipt has any */
    lorafmt_compare_result result;
    bool receipt_differs;
    lorafmt_error difference; /* of the receipt */
    bool as_written;          /* tensors differ, and yet all have the digests of the receipt */
} replay_job;

#define SHAPE_WORD 3 /* the choice of --orientation that --experts-orientation has not */

/* The options of the merge, from its receipt. */
static int take_options(replay_job *job, const lorafmt_receipt_options *o)
{
    if (!orientation_parse(o->orientation, &job->binding.orientation))
        return message_error("%s: options.orientation: \"%s\", must be out-in, in-out or shape", job->args->receipt,
                             o->orientation);
    if (!orientation_parse(o->experts_orientation, &job->input.experts_orientation) ||
        job->input.experts_orientation == SHAPE_WORD)
        return message_error("%s: options.experts_orientation: \"%s\", must be out-in or in-out", job->args->receipt,
                             o->experts_orientation);
    if (o->rslora && !o->has_alpha)
        return message_error("%s: options.rslora: true without an alpha, as no merge has it", job->args->receipt);
    job->binding.any_base = o->any_base;
    job->binding.allow_unmatched = o->allow_unmatched;
    job->input.alpha = (option_number){o->has_alpha, o->alpha};
    job->input.rslora = o->rslora;
    if (!(job->binding.map.items = calloc(o->n_map + 1, sizeof *job->binding.map.items)))
        return message_no_memory();
    job->binding.map.n = o->n_map;
    for (size_t i = 0; i < o->n_map; i++)
        job->binding.map.items[i] = o->map[i];
    return EXIT_DONE;
}

static int open_receipt(replay_job *job)
{
    const char *path = job->args->receipt;
    lorafmt_error err;

    if (lorafmt_receipt_open(path, &job->receipt, &err))
        return message_failure(&err, path);
    if (lorafmt_receipt_get_options(job->receipt)->dry_run)
        return message_error("%s: the receipt of a dry run, which wrote nothing that could be verified", path);
    return take_options(job, lorafmt_receipt_get_options(job->receipt));
}

static int open_inputs(replay_job *job)
{
    lorafmt_error err;
    int code = stack_parse(job->verb, job->args->adapters, &job->stack);

    if (code == EXIT_DONE)
        code = input_open_base(job->args->base, &job->base);
    if (code == EXIT_DONE && !receipt_find_structure(job->base, &job->structure))
        code = message_no_memory();
    if (code == EXIT_DONE)
        code = stack_open(job->verb, &job->input, job->base, true, &job->stack);
    if (code == EXIT_DONE && lorafmt_model_open(job->output, &job->merged, &err))
        code = message_failure(&err, job->output);
    return code;
}

/* What is known so far of the replay as a receipt, against the receipt: LORAFMT_OK, or what differs. */
static lorafmt_status hold_against_receipt(const replay_job *job, const receipt *replayed, lorafmt_error *err)
{
    char *text = NULL;
    size_t size;
    FILE *stream = open_memstream(&text, &size);
    lorafmt_status st = LORAFMT_NO_MEMORY;
    bool whole;

    *err = (lorafmt_error){.status = LORAFMT_NO_MEMORY, .offset = LORAFMT_NO_OFFSET, .text = "out of memory"};
    if (stream) {
        receipt_replay_json(replayed, stream);
        whole = !ferror(stream);
        if (!fclose(stream) && whole && text)
            st = lorafmt_receipt_compare(job->receipt, text, size, err);
    }
    free(text);
    return st;
}

static receipt what_is_known(const replay_job *job)
{
    receipt r = {.model = job->base, .structure = job->structure, .view = job->view, .stack = &job->stack};

    if (job->view)
        receipt_foresee(job->base, job->view, &r.result);
    return r;
}

/* Before the work: are base and adapters, and once they are bound what became of every site, those of the receipt? */
static int check_inputs(const replay_job *job)
{
    const receipt r = what_is_known(job);
    lorafmt_error err;
    const lorafmt_status st = hold_against_receipt(job, &r, &err);

    if (st == LORAFMT_MISMATCH && !job->view)
        text_append(err.text, sizeof err.text,
                    "; base and adapters must be those of the receipt, in its order and with its weights");
    return st ? message_failure(&err, job->args->receipt) : EXIT_DONE;
}

static int compare(replay_job *job)
{
    const size_t n = lorafmt_view_n_tensors(job->view) + 1;
    progress p;
    lorafmt_compare_options options = {.struct_size = sizeof options,
                                       .n_threads = job->args->n_threads,
                                       .progress = progress_update,
                                       .progress_ctx = &p};
    lorafmt_error err;
    lorafmt_status st;

    options.changes = job->changes = calloc(n, sizeof *job->changes);
    if (lorafmt_receipt_get_options(job->receipt)->has_digests)
        options.digests = job->digests = calloc(n, sizeof *job->digests);
    if (!job->changes || (lorafmt_receipt_get_options(job->receipt)->has_digests && !job->digests))
        return message_no_memory();
    interrupt_catch();
    progress_start(&p, job->verb, false);
    st = lorafmt_compare(job->base, job->view, job->merged, &options, &job->result, &err);
    progress_end(&p);
    if (st == LORAFMT_CANCELLED)
        return message_error("%s: interrupted before all of it was compared", job->output);
    return st ? message_failure(&err, job->output) : EXIT_DONE;
}

/* After it: are the numbers those of the receipt? Digests are those of what is there, which may differ from what is computed. */
static int check_numbers(replay_job *job)
{
    const bool same = job->result.n_differing == 0;
    receipt r = what_is_known(job);
    lorafmt_error err;
    lorafmt_status st;

    r.digests = job->digests;
    job->as_written = !same && job->digests && hold_against_receipt(job, &r, &err) == LORAFMT_OK;
    r.digests = same ? job->digests : NULL;
    r.changes = job->changes;
    r.result.n_bytes = job->result.n_bytes;
    r.result.counts = job->result.counts;
    st = hold_against_receipt(job, &r, &job->difference);
    job->receipt_differs = st == LORAFMT_MISMATCH;
    return st && !job->receipt_differs ? message_failure(&job->difference, job->args->receipt) : EXIT_DONE;
}

#define ELEMENT_TEXT_SIZE 64

/* "0x3f80 (1)": the bits as a number, and what they mean. */
static const char *element_text(const uint8_t *bytes, size_t size, double number, char buf[ELEMENT_TEXT_SIZE])
{
    char decimal[NUMBER_TEXT_SIZE];

    strcpy(buf, "0x");
    for (size_t i = size; i-- > 0;)
        text_append(buf, ELEMENT_TEXT_SIZE, "%02x", bytes[i]);
    if (isfinite(number))
        text_append(buf, ELEMENT_TEXT_SIZE, " (%s)", number_text(number, decimal));
    return buf;
}

static const char *found_text(const lorafmt_difference *d, char buf[ELEMENT_TEXT_SIZE])
{
    return element_text(d->found, d->size, d->found_number, buf);
}

static const char *expected_text(const lorafmt_difference *d, char buf[ELEMENT_TEXT_SIZE])
{
    return element_text(d->expected, d->size, d->expected_number, buf);
}

static bool is_good(const replay_job *job)
{
    return job->result.n_differing == 0 && !job->receipt_differs;
}

static void json_first(const replay_job *job, json_out *j)
{
    const lorafmt_difference *d = &job->result.first;
    char text[ELEMENT_TEXT_SIZE];

    if (!job->result.n_differing) {
        json_null(j, "first");
        return;
    }
    json_object(j, "first");
    json_text(j, "tensor", lorafmt_view_get_tensor(job->view, d->tensor)->name);
    json_u64(j, "row", d->row);
    json_u64(j, "column", d->col);
    json_text(j, "found", found_text(d, text));
    json_text(j, "expected", expected_text(d, text));
    json_object_end(j);
}

static void json_receipt(const replay_job *job, json_out *j)
{
    if (!job->receipt_differs) {
        json_null(j, "receipt_differs");
        return;
    }
    json_object(j, "receipt_differs");
    json_text(j, "field", job->difference.field);
    json_text(j, "text", job->difference.text);
    json_object_end(j);
}

static void print_json(const replay_job *job)
{
    json_out j = {.to = stdout};

    json_object(&j, NULL);
    json_text(&j, "path", job->output);
    json_text(&j, "receipt", job->args->receipt);
    json_bool(&j, "good", is_good(job));
    json_u64(&j, "n_tensors", job->result.n_tensors);
    json_u64(&j, "n_bytes", job->result.n_bytes);
    json_bool(&j, "has_digests", job->digests != NULL);
    json_u64(&j, "n_differing", job->result.n_differing);
    json_first(job, &j);
    json_receipt(job, &j);
    json_object_end(&j);
}

static void print_good(const replay_job *job)
{
    char size[NUMBER_TEXT_SIZE];

    print_line(stdout, "%s: good, %zu tensors, %s, every byte is what merging writes and the receipt says%s", job->output,
               job->result.n_tensors, size_text(job->result.n_bytes, size), job->digests ? ", every digest right" : "");
}

static int fail(const replay_job *job)
{
    const lorafmt_difference *d = &job->result.first;
    const size_t n = job->result.n_differing;
    char found[ELEMENT_TEXT_SIZE], expected[ELEMENT_TEXT_SIZE];

    if (job->as_written)
        message_note("%s: all tensors have the digests of the receipt, so they are as they were written: the base has other data",
                     job->output);
    if (job->receipt_differs)
        message_failure(&job->difference, job->args->receipt);
    if (n)
        message_error("%s: %s: row %" PRIu64 ", column %" PRIu64 ": found %s, must be %s; %zu of %zu tensors differ%s",
                      job->output, lorafmt_view_get_tensor(job->view, d->tensor)->name, d->row, d->col, found_text(d, found),
                      expected_text(d, expected), n, job->result.n_tensors, n == 1 ? "s" : "");
    return EXIT_FAILED;
}

static int run(replay_job *job)
{
    int code;

    if ((code = open_receipt(job)) || (code = open_inputs(job)) || (code = check_inputs(job)))
        return code;
    if ((code = binding_bind(job->verb, &job->binding, false, job->base, job->stack.entries, job->stack.n, job->args->base,
                             &job->view)))
        return code;
    if ((code = check_inputs(job)) || (code = compare(job)) || (code = check_numbers(job)))
        return code;
    if (job->args->json)
        print_json(job);
    else if (is_good(job))
        print_good(job);
    return is_good(job) ? EXIT_DONE : fail(job);
}

int replay(const char *verb, const replay_args *args, const char *output)
{
    replay_job job = {.verb = verb, .output = output, .args = args};
    const int code = run(&job);

    lorafmt_view_free(job.view);
    stack_close(&job.stack);
    lorafmt_model_free(job.base);
    lorafmt_model_free(job.merged);
    lorafmt_receipt_free(job.receipt);
    free(job.binding.map.items);
    free(job.changes);
    free(job.digests);
    return code;
}

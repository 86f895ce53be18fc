/* SPDX-License-Identifier: MIT */
/* Binding adapters to a base: its options, what does not fit, and how much does. */
#ifndef TOOLS_BINDING_H
#define TOOLS_BINDING_H

#include "tools/input.h"
#include "tools/option.h"

#include "lorafmt/model.h"
#include "lorafmt/view.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct binding_args {
    text_list map;
    unsigned orientation; /* place in the option's choices */
    bool any_base;
    bool allow_unmatched;
    unsigned cpu; /* place in the option's choices */
} binding_args;

/* clang-format off */
#define BINDING_OPTIONS(args, member) \
    {"map", 0, "OLD=NEW", OPTION_LIST, offsetof(args, member.map), \
     "replace a prefix of the adapter's target names, at whole components; may be given many times"}, \
    {"orientation", 0, "out-in|in-out|shape", OPTION_CHOICE, offsetof(args, member.orientation), \
     "how the base stores linear layers, whatever the adapter says; shape: whichever fits"}, \
    {"any-base", 0, NULL, OPTION_FLAG, offsetof(args, member.any_base), \
     "do not compare the base with the one the adapter was made for"}, \
    {"allow-unmatched", 0, NULL, OPTION_FLAG, offsetof(args, member.allow_unmatched), \
     "leave out what finds no tensor in the base, and list it"}
#define CPU_OPTION(args, member) \
    {"cpu", 0, "scalar|avx2|avx512|neon", OPTION_CHOICE, offsetof(args, member.cpu), \
     "instructions to compute with; the result does not depend on it"}
/* clang-format on */

/* The word of --orientation (or --experts-orientation) that was chosen, NULL for 0; and back, 0 for NULL. false: no such word. */
const char *orientation_word(unsigned chosen);
bool orientation_parse(const char *word, unsigned *chosen);

/* Is any of them given? */
bool binding_is_asked(const binding_args *args);

/* What became of the sites of one entry of the stack. */
typedef struct coverage {
    size_t n_total;
    size_t n_matched;
    size_t n_low_rank, n_replaced, n_rows, n_additive, n_new, n_nothing; /* add up to n_matched */
} coverage;

/*
 * lorafmt_bind() with the options of the command line. What does not fit goes to stderr, before the last line that says so.
 *
 * check_only  the view is not to be evaluated
 * file        names the failure when the library's error does not
 *
 * Returns an exit code; *out is NULL unless it is 0.
 */
int binding_bind(const char *verb, const binding_args *args, bool check_only, const lorafmt_model *model,
                 const lorafmt_stack_entry *stack, size_t n_stack, const char *file, lorafmt_view **out);

/* The same for whatever binds: step is called with the options, its failure is said, and before it all that does not fit. */
typedef lorafmt_status binding_step(void *ctx, const lorafmt_bind_options *options, lorafmt_error *err);
int binding_run(const char *verb, const binding_args *args, bool check_only, bool several, const char *file, binding_step *step,
                void *ctx);

void coverage_count(const lorafmt_view *view, size_t entry, coverage *out);

#define COVERAGE_TEXT_SIZE 256

/* "42/42 targets (42 low-rank)"; returns buf. */
const char *coverage_text(const coverage *c, char buf[COVERAGE_TEXT_SIZE]);

#endif

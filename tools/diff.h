/* SPDX-License-Identifier: MIT */
/* Two adapters, stacks or models beside each other: what was compared, in rows, and how it is shown. */
#ifndef TOOLS_DIFF_H
#define TOOLS_DIFF_H

#include "tools/json_out.h"
#include "tools/page.h"
#include "tools/place.h"
#include "tools/stack.h"

#include "lorakit/diff.h"

/* A site or a tensor whose difference has a norm. */
typedef struct diff_row {
    place place;
    double norm_x, norm_y, difference, dot;
    double max_difference;
    uint64_t n_elements, n_differing;
    const lorakit_site_diff *site; /* one of the two */
    const lorakit_tensor_diff *tensor;
} diff_row;

/* Sums over rows of one module type or layer, or over all: of squares until they are finished. */
typedef struct diff_group {
    place place; /* of its first row */
    size_t n_rows;
    double norm_x, norm_y, difference, cosine; /* cosine: NaN where one is zero */
    double max_difference;
    uint64_t n_elements, n_differing;
    double columns, rows; /* mean overlaps of its sites; NaN without */
    size_t n_overlaps;
} diff_group;

typedef struct diff_rows {
    diff_row *rows; /* the largest difference first */
    size_t n;
    diff_group *modules, *layers; /* the same */
    size_t n_modules, n_layers;
    bool one_stack;  /* of layers: their numbers say it all */
    double greatest; /* difference of a layer */
} diff_rows;

/* Put the rows [0, n) in order and group them. Returns an exit code; diff_rows_free() in any case, which frees the rows too. */
int diff_rows_finish(diff_rows *rows);
void diff_rows_free(diff_rows *rows);

/* "self_attn.q_proj"; "3", "model.layers 3" or "other": returns buf. */
#define GROUP_TEXT_SIZE (PATH_TEXT_SIZE + 32)
const char *diff_module_text(const diff_group *g, char buf[GROUP_TEXT_SIZE]);
const char *diff_layer_text(const diff_rows *rows, const diff_group *g, char buf[GROUP_TEXT_SIZE]);

/* Cells of a table. A number that is not known is "-". */
void append_significant(char *cell, int digits, double number);
void append_cosine(char *cell, double cosine);
void append_target(char *cell, const char *name);

/* Print a table with an empty line before it, and what is below it. */
struct table;
void print_diff_table(const page *p, const struct table *t, size_t most, const char *caption);

/* A side of a comparison of adapters. */
typedef struct diff_side {
    const char *text; /* as given */
    adapter_stack stack;
} diff_side;

typedef struct adapter_diff {
    diff_side x, y;
    lorakit_diff *diff;
    diff_rows rows; /* of low-rank and additive sites that both have, or one of them */
} adapter_diff;

typedef struct model_diff {
    const char *base, *tuned; /* paths */
    lorakit_model_diff *diff;
    diff_rows rows; /* of tensors of real numbers that differ */
} model_diff;

/* Are both a single adapter, of one id and one weight? */
bool diff_is_same_id(const adapter_diff *d);

/* Rows from what was compared. Return an exit code. */
int adapter_diff_survey(adapter_diff *d);
int model_diff_survey(model_diff *d);

void adapter_diff_print(const adapter_diff *d, bool all_sites);
void model_diff_print(const model_diff *d, bool all_tensors);
void adapter_diff_json(const adapter_diff *d);
void model_diff_json(const model_diff *d);

/*
 * Keys of metadata, and facts of adapters like them, that are not the same on both sides, each of which is a single adapter:
 * calls back with NULL for what one does not have. Returns how many there are.
 */
typedef void diff_fact(void *ctx, const char *key, const char *x, const char *y);
size_t diff_facts(const adapter_diff *d, diff_fact *fact, void *ctx);

#endif

/* SPDX-License-Identifier: MIT */
/* What the commands of liblorakit share: how a rank is chosen, in what dtype, and where the result goes. */
#ifndef TOOLS_KIT_H
#define TOOLS_KIT_H

#include "tools/option.h"

#include "lorafmt/model.h"
#include "lorakit/adapter.h"

#include <stdbool.h>
#include <stdint.h>

/* Part of a command's arguments. */
typedef struct rank_args {
    unsigned rank; /* at most; 0 = not given */
    option_number energy, max_error, sv_ratio, sv_cumulative, sv_fro;
} rank_args;

/* clang-format off */
#define RANK_OPTIONS(args, member) \
    {"rank", 0, "R", OPTION_COUNT, offsetof(args, member.rank), "a rank of R; with another rule, none above R"}, \
    {"energy", 0, "E", OPTION_NUMBER, offsetof(args, member.energy), \
     "the least rank that keeps the share E of the sum of squared singular values, as 0.99"}, \
    {"max-error", 0, "E", OPTION_NUMBER, offsetof(args, member.max_error), \
     "the least rank whose relative error, in the Frobenius norm, is at most E"}
/* clang-format on */

/* Returns an exit code: two rules at once are wrong usage, and so is a value outside its range. */
int rank_parse(const char *verb, const rank_args *args, lorakit_rank *out);

/* --seed, 0 when text is NULL. Returns an exit code. */
int seed_parse(const char *verb, const char *text, uint64_t *out);

/* "512M", "20000", "1.5G": bytes. Returns an exit code. */
int bytes_parse(const char *verb, const char *name, const char *text, uint64_t *out);

/* Of the choices f32|bf16|f16|f64, or fewer of them; 0 when none was made. */
lorafmt_dtype factor_dtype(unsigned chosen);

/*
 * Write a result as a `.lora`, with the structure of the base that it is for unless that is NULL. id is the adapter's, as the file has
 * it. Returns an exit code.
 */
int kit_write(const lorafmt_adapter *adapter, const lorafmt_model *base, const char *output, bool force, uint8_t id[32]);

/* Per cent of the whole; 0 of nothing. */
double percent(double part, double whole);

/* "OUT.lora: id 5018614b..." */
void kit_print_id(const uint8_t id[32], const char *output);

#endif

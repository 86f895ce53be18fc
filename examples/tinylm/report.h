/* SPDX-License-Identifier: MIT */
/* What a run found, told on stdout: to people as it comes, or as one JSON object when all is done. */
#ifndef TINYLM_REPORT_H
#define TINYLM_REPORT_H

#include "score.h"
#include "stack.h"

#include <cjson/cJSON.h>
#include <lorafmt/runtime.h>

/* Zeroed at first. */
typedef struct report {
    cJSON *root;      /* or NULL */
    cJSON *scenario;  /* the one at hand */
    bool has_printed; /* something, so that an empty line must come before the next */
    bool failed;      /* the JSON has not all: out of memory */
} report;

/* What was done with one stack of adapters. Times are in seconds. */
typedef struct facts {
    const stack *adapters;
    bool is_swap;     /* not the load */
    bool is_unmerged; /* nothing live was changed; write_time is that of all texts, which were written together */
    lorafmt_swap_result swap;
    double open_time;  /* to read and check the adapters */
    double apply_time; /* to put them into place or bind them, and when loading to read the base */
    size_t n_written;
    double write_time;
    bool has_digest;
    uint8_t digest[32]; /* of all live weights */
} facts;

bool report_begin(report *r, bool json);

/* One scenario: its facts come first. */
void report_facts(report *r, const facts *f);
void report_logits(report *r, const float *logits, size_t n);
void report_loss(report *r, const char *file, const loss *l);
void report_text(report *r, const uint8_t *text, size_t n_prompt, size_t n_written);

/* Print what is not printed yet. @return false when memory or stdout failed */
bool report_end(report *r);
void report_free(report *r);

#endif

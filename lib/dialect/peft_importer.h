/* SPDX-License-Identifier: MIT */
/* What peft_import.c, which goes through the names of a file, shares with peft_layer.c, which makes sites of factors. */
#ifndef LF_DIALECT_PEFT_IMPORTER_H
#define LF_DIALECT_PEFT_IMPORTER_H

#include "lib/dialect/peft.h"

/* A tensor with what its name says. */
typedef struct lf_importer_entry {
    lf_peft_key key;
    const lf_peft_tensor *tensor;
} lf_importer_entry;

typedef struct lf_importer {
    const lf_peft_input *in;
    const lf_peft_config *config;
    lf_arena *arena;
    lf_notes *notes;
    lf_peft_parameters parameters;
    lf_peft_order order;
    lf_importer_entry *entries; /* in order of module, depth and part */
    size_t n_entries;
    lorafmt_site *sites;
    size_t n_sites;
    bool any_rows; /* of trained tokens */
} lf_importer;

/* Part of a layer: of A, B and what goes with them, which come first within a module. */
static inline bool lf_peft_is_layer_part(lf_peft_part part)
{
    return part <= LF_PEFT_B_BIAS;
}

/* A site on <module>.<parameter> with scale 1 and nothing else; NULL when out of memory. */
lorafmt_site *lf_importer_add_site(lf_importer *im, const char *module, const char *parameter, unsigned kind);

/* Give a site its value and, unless NULL, the numbers of its rows. */
lorafmt_status lf_importer_set_value(const lf_importer *im, lorafmt_site *site, const lorafmt_tensor *value,
                                     const lorafmt_tensor *rows, lorafmt_error *err);

/* Fail with the name of a tensor. */
lorafmt_status lf_importer_refuse(lorafmt_error *err, lorafmt_status status, const lf_importer_entry *e, const char *text);

/* No dimension may be 0; a factor's dtype must be a real one too. */
lorafmt_status lf_importer_check_not_empty(const lf_importer_entry *e, lorafmt_error *err);
lorafmt_status lf_importer_check_factor(const lf_importer_entry *e, lorafmt_error *err);

/* The first entry of a module in order, or NULL. */
const lf_importer_entry *lf_importer_find(const lf_importer *im, const char *module);

/* Sites of all factors of one module, which e[0, n) starts with; *n_taken is how many entries they are. */
lorafmt_status lf_importer_import_layers(lf_importer *im, const lf_importer_entry *e, size_t n, size_t *n_taken,
                                         lorafmt_error *err);

#endif

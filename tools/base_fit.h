/* SPDX-License-Identifier: MIT */
/* Does an adapter fit a base, going by the base's headers, and how much of it is the adapter? */
#ifndef TOOLS_BASE_FIT_H
#define TOOLS_BASE_FIT_H

#include "tools/binding.h"

#include "lorafmt/model.h"

typedef struct base_fit {
    const char *path;
    bool fits;
    char why_not[1300];    /* empty when it fits */
    coverage coverage;     /* when it fits */
    uint64_t n_parameters; /* of the whole base */
    bool same_structure;   /* as the adapter recorded, when it did */
} base_fit;

/* Bind as merging would, but without comparing digests, which takes all of the base's data. An exit code. */
int base_fit_find(const lorafmt_model *model, const char *path, const lorafmt_adapter *adapter, base_fit *out);

#endif

/* SPDX-License-Identifier: MIT */
/* Load the model with the first stack of adapters, do what is asked, switch to the next stack, do it again. */
#ifndef TINYLM_RUN_H
#define TINYLM_RUN_H

#include "args.h"
#include "report.h"

lorafmt_status run(const args *a, report *r, lorafmt_error *err);

#endif

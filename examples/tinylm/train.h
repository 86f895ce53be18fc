/* SPDX-License-Identifier: MIT */
/* Train an adapter and save it. */
#ifndef TINYLM_TRAIN_H
#define TINYLM_TRAIN_H

#include "train_args.h"

#include <lorafmt/error.h>

lorafmt_status train(const train_args *a, lorafmt_error *err);

#endif

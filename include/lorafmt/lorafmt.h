/* SPDX-License-Identifier: MIT */
/** Everything in liblorafmt. */
#ifndef LORAFMT_LORAFMT_H
#define LORAFMT_LORAFMT_H

#include "lorafmt/adapter.h"
#include "lorafmt/error.h"
#include "lorafmt/files.h"
#include "lorafmt/forward.h"
#include "lorafmt/generations.h"
#include "lorafmt/image.h"
#include "lorafmt/index.h"
#include "lorafmt/limits.h"
#include "lorafmt/model.h"
#include "lorafmt/origin.h"
#include "lorafmt/pool.h"
#include "lorafmt/receipt.h"
#include "lorafmt/runtime.h"
#include "lorafmt/tensor.h"
#include "lorafmt/train.h"
#include "lorafmt/version.h"
#include "lorafmt/view.h"

#endif

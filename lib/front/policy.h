/* SPDX-License-Identifier: MIT */
/* What may be opened: whose adapters, and how little is taken on trust. */
#ifndef LF_FRONT_POLICY_H
#define LF_FRONT_POLICY_H

#include "lib/front/source.h"
#include "lorafmt/origin.h"

/* Are files to be read into memory? What was checked must be what is used. options may be NULL. */
bool lf_policy_in_memory(const lorafmt_source_options *options);

/* MISUSE for a policy that names nobody, limits that are none, and options that do not go together. */
lorafmt_status lf_policy_check_options(const lorafmt_source_options *options, lorafmt_error *err);

/*
 * With a policy, UNTRUSTED unless every adapter that was read is signed by one of the keys; also for a container that is recovered
 * (spec 3). When paranoid, what lorafmt_verify() returns, and UNSUPPORTED for elements that are not finite.
 */
lorafmt_status lf_policy_check_source(const lorafmt_source_options *options, const lorafmt_source *source, lorafmt_error *err);

#endif

/* SPDX-License-Identifier: MIT */
/* What comes from outside, held against limits; each LIMIT beyond them. limits may be NULL. */
#ifndef LF_FRONT_LIMITS_H
#define LF_FRONT_LIMITS_H

#include "format/container/container.h"
#include "format/foreign/safetensors.h"
#include "lorafmt/limits.h"

/* Of so many bytes. */
lorafmt_status lf_limits_check_file(const lorafmt_limits *limits, uint64_t size, lorafmt_error *err);

/* What the index says, before any data is looked at. */
lorafmt_status lf_limits_check_container(const lorafmt_limits *limits, const lf_container *container, lorafmt_error *err);

/* The header of a safetensors file before it is parsed; offsets in errors are the file's. */
lorafmt_status lf_limits_check_header(const lorafmt_limits *limits, const uint8_t *header, uint64_t size, lorafmt_error *err);

lorafmt_status lf_limits_check_table(const lorafmt_limits *limits, const lf_safetensors *table, lorafmt_error *err);

/* The text of a config before it is parsed. */
lorafmt_status lf_limits_check_config(const lorafmt_limits *limits, const char *text, size_t size, lorafmt_error *err);

/* An adapter that was imported. */
lorafmt_status lf_limits_check_adapter(const lorafmt_limits *limits, const lorafmt_adapter *adapter, lorafmt_error *err);

#endif

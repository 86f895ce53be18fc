/* SPDX-License-Identifier: MIT */
/* What merging did to every tensor, as the receipt says it. */
#ifndef TOOLS_CHANGES_H
#define TOOLS_CHANGES_H

#include "tools/json_out.h"

#include "lorafmt/view.h"

/* "changes": [...], an object for each computed tensor; null when changes, those of all tensors, is NULL. */
void json_changes(json_out *j, const lorafmt_view *view, const lorafmt_change *changes);

/* "digests": [...], an object for each tensor; null when digests is NULL. */
void json_digests(json_out *j, const lorafmt_view *view, uint8_t (*digests)[32]);

#endif

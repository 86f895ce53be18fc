/* SPDX-License-Identifier: MIT */
/*
 * Byte planes (spec 5): the bits of each little-endian element, rotated left by one, cut into bytes, and the bytes of one place
 * laid side by side. Plane 0 is the topmost. width, bytes of an element, is 2, 4 or 8; n may be 0; nothing need be aligned.
 */
#ifndef LF_BASE_PLANES_H
#define LF_BASE_PLANES_H

#include <stddef.h>
#include <stdint.h>

/* One plane of n elements. */
void lf_plane_take(uint8_t *dst, const uint8_t *elements, size_t n, unsigned width, unsigned plane);

/*
 * n elements from plane 0 and the others, each `stride` bytes after the one before. The topmost plane may be the last n bytes of
 * dst: element k ends at byte width * k + width - 1, which is at most (width - 1) * n + k, where byte k of the plane is; so
 * nothing is overwritten before it was read, and no memory but dst is needed.
 */
void lf_planes_join(uint8_t *dst, const uint8_t *top, const uint8_t *others, size_t stride, size_t n, unsigned width);

#endif
